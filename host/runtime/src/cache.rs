//! The cache of compiled code.
//!
//! An entry is native code that runs inside the host, so it is treated like a program: only the owner may
//! write it (checked), it carries a MAC over the very bytes that are then loaded, and the MAC binds it to the
//! component and to the engine's configuration, so that entries cannot be swapped. The key lies outside every
//! folder that a guest can reach.
//!
//! An entry is never mapped from its file, which somebody could change after the MAC was computed. It is copied once, and
//! the MAC is computed over what is copied.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use handshake_core::Digest;
use handshake_core::step::PluginError;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

const MAC_BYTES: usize = 32;
/// What is read at once: small enough to be still in the processor's cache when it is copied.
const PIECE_BYTES: usize = 256 << 10;
/// Separates this use of the key from any other.
const DOMAIN: &[u8] = b"handshake compiled code 1";

/// Compiled code on disk.
pub(crate) struct CodeCache {
    folder: PathBuf,
    key: [u8; 32],
}

impl CodeCache {
    pub(crate) fn new(folder: PathBuf, key: [u8; 32]) -> Self {
        Self { folder, key }
    }

    /// Loads the component from the cache, if it is there.
    pub(crate) fn stored(&self, engine: &Engine, digest: Digest) -> Result<Option<Component>, PluginError> {
        let compatibility = compatibility_of(engine);
        let path = self.path(digest, compatibility);
        let Some(code) = self.read(&path, digest, compatibility)? else { return Ok(None) };
        deserialize(engine, &code).map(Some).map_err(|error| tampered(&path, &format!("it is not loadable: {error:#}")))
    }

    /// Loads the component from the cache, or compiles and stores it. Slow when it compiles: not for an async
    /// thread.
    pub(crate) fn load(&self, engine: &Engine, digest: Digest, wasm: &[u8]) -> Result<Component, PluginError> {
        if let Some(component) = self.stored(engine, digest)? {
            return Ok(component);
        }
        let compatibility = compatibility_of(engine);
        let path = self.path(digest, compatibility);
        let code = engine.precompile_component(wasm).map_err(|error| PluginError::Component {
            file: digest.to_string(),
            problem: format!("cannot be compiled: {error:#}"),
        })?;
        // Without its cache the host is slower and otherwise whole, so a full disk does not stop it.
        if let Err(error) = self.write(&path, digest, compatibility, &code) {
            tracing::warn!(path = %path.display(), %error, "cannot store compiled code");
        }
        let mut memory = memory().map_err(|error| no_memory(&error))?;
        memory.write_all(&code).and_then(|()| seal(&memory)).map_err(|error| no_memory(&error))?;
        deserialize(engine, &memory)
            .map_err(|error| PluginError::Host(format!("compiled code does not load: {error:#}")))
    }

    fn path(&self, digest: Digest, compatibility: u64) -> PathBuf {
        self.folder.join(format!("{digest}-{compatibility:016x}.cwasm"))
    }

    /// The MAC of an entry, up to its code.
    fn mac(&self, digest: Digest, compatibility: u64) -> Result<Hmac<Sha256>, PluginError> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).map_err(|error| PluginError::Host(error.to_string()))?;
        mac.update(DOMAIN);
        mac.update(digest.as_bytes());
        mac.update(&compatibility.to_le_bytes());
        Ok(mac)
    }

    fn read(&self, path: &Path, digest: Digest, compatibility: u64) -> Result<Option<Memory>, PluginError> {
        // Opened without following links: a link could lead to a file whose owner and mode say nothing here.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(tampered(path, &format!("it cannot be opened: {error}"))),
        };
        let metadata = file.metadata().map_err(|error| tampered(path, &error.to_string()))?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(tampered(path, "it belongs to another user"));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(tampered(path, "others may write to it"));
        }
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => tampered(path, "it is cut short"),
            _ => tampered(path, &format!("it cannot be read: {error}")),
        };
        let mut tag = [0; MAC_BYTES];
        file.read_exact(&mut tag).map_err(unreadable)?;
        let mut mac = self.mac(digest, compatibility)?;
        let mut code = memory().map_err(|error| no_memory(&error))?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = file.read(&mut piece).map_err(unreadable)?;
            let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else { break };
            mac.update(read);
            code.write_all(read).map_err(|error| no_memory(&error))?;
        }
        seal(&code).map_err(|error| no_memory(&error))?;
        mac.verify_slice(&tag).map_err(|_| tampered(path, "its MAC does not match"))?;
        Ok(Some(code))
    }

    fn write(
        &self,
        path: &Path,
        digest: Digest,
        compatibility: u64,
        code: &[u8],
    ) -> Result<(), Box<dyn std::error::Error>> {
        fs::create_dir_all(&self.folder)?;
        let mut mac = self.mac(digest, compatibility)?;
        mac.update(code);
        let tag = mac.finalize().into_bytes();
        // Written beside and renamed, so that a crash leaves no half entry that would look tampered with.
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary).and_then(
            |mut file: File| {
                file.write_all(&tag)?;
                file.write_all(code)?;
                file.sync_all()?;
                fs::rename(&temporary, path)
            },
        );
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        Ok(written?)
    }
}

fn tampered(path: &Path, problem: &str) -> PluginError {
    PluginError::CacheTampered { file: path.display().to_string(), problem: problem.to_owned() }
}

fn no_memory(error: &io::Error) -> PluginError {
    PluginError::Host(format!("there is no memory for compiled code: {error}"))
}

fn compatibility_of(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Memory of this process that code is copied into: on Linux a file without a name, because wasmtime then maps it, and the
/// first content of guests' memories within it, instead of copying both.
#[cfg(target_os = "linux")]
type Memory = File;
#[cfg(not(target_os = "linux"))]
type Memory = Vec<u8>;

#[cfg(target_os = "linux")]
fn memory() -> io::Result<Memory> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(File::from(memfd_create("handshake-code", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?))
}

#[cfg(not(target_os = "linux"))]
fn memory() -> io::Result<Memory> {
    Ok(Vec::new())
}

/// From here on nobody changes it, not even this process.
#[cfg(target_os = "linux")]
fn seal(memory: &Memory) -> io::Result<()> {
    use rustix::fs::{SealFlags, fcntl_add_seals};
    Ok(fcntl_add_seals(memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?)
}

#[cfg(not(target_os = "linux"))]
fn seal(_: &Memory) -> io::Result<()> {
    Ok(())
}

#[allow(
    unsafe_code,
    reason = "wasmtime cannot check native code; `read` has authenticated exactly these bytes, or this process has just compiled them"
)]
fn deserialize(engine: &Engine, code: &Memory) -> wasmtime::Result<Component> {
    // SAFETY: `code` was produced by `precompile_component` of this host: either a moment ago, or by an earlier
    // process, proven by the MAC over these bytes, whose key only the data directory's owner can read. It is sealed, so
    // it stays what it was then.
    #[cfg(target_os = "linux")]
    unsafe {
        use std::os::fd::AsRawFd;
        // wasmtime takes components by path alone; this one leads to the open file.
        Component::deserialize_file(engine, format!("/proc/self/fd/{}", code.as_raw_fd()))
    }
    // SAFETY: as above; nobody else has these bytes.
    #[cfg(not(target_os = "linux"))]
    unsafe {
        Component::deserialize(engine, code)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
