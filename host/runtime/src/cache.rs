//! The cache of compiled code.
//!
//! An entry is native code that runs inside the host, so it is treated like a program: only the owner may
//! write it (checked), it carries a MAC over the very bytes that are then loaded, and the MAC binds it to the
//! component and to the engine's configuration, so that entries cannot be swapped. The key lies outside every
//! folder that a guest can reach.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use handshake_core::Digest;
use handshake_core::step::PluginError;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

const MAC_BYTES: usize = 32;
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

    /// Loads the component from the cache, or compiles and stores it. Slow when it compiles: not for an async
    /// thread.
    pub(crate) fn load(&self, engine: &Engine, digest: Digest, wasm: &[u8]) -> Result<Component, PluginError> {
        let compatibility = compatibility_of(engine);
        let path = self.folder.join(format!("{digest}-{compatibility:016x}.cwasm"));
        if let Some(code) = self.read(&path, digest, compatibility)? {
            return deserialize(engine, &code)
                .map_err(|error| tampered(&path, &format!("it is not loadable: {error:#}")));
        }
        let code = engine.precompile_component(wasm).map_err(|error| PluginError::Component {
            file: digest.to_string(),
            problem: format!("cannot be compiled: {error:#}"),
        })?;
        // Without its cache the host is slower and otherwise whole, so a full disk does not stop it.
        if let Err(error) = self.write(&path, digest, compatibility, &code) {
            tracing::warn!(path = %path.display(), %error, "cannot store compiled code");
        }
        deserialize(engine, &code).map_err(|error| PluginError::Host(format!("compiled code does not load: {error:#}")))
    }

    fn mac(&self, digest: Digest, compatibility: u64, code: &[u8]) -> Result<Hmac<Sha256>, PluginError> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).map_err(|error| PluginError::Host(error.to_string()))?;
        mac.update(DOMAIN);
        mac.update(digest.as_bytes());
        mac.update(&compatibility.to_le_bytes());
        mac.update(code);
        Ok(mac)
    }

    fn read(&self, path: &Path, digest: Digest, compatibility: u64) -> Result<Option<Vec<u8>>, PluginError> {
        // Opened without following links: a link could lead to a file whose owner and mode say nothing here.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(tampered(path, &format!("it cannot be opened: {error}"))),
        };
        let metadata = file.metadata().map_err(|error| tampered(path, &error.to_string()))?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(tampered(path, "it belongs to another user"));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(tampered(path, "others may write to it"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| tampered(path, &format!("it cannot be read: {error}")))?;
        let Some((tag, code)) = bytes.split_at_checked(MAC_BYTES) else {
            return Err(tampered(path, "it is cut short"));
        };
        self.mac(digest, compatibility, code)?
            .verify_slice(tag)
            .map_err(|_| tampered(path, "its MAC does not match"))?;
        bytes.drain(..MAC_BYTES);
        Ok(Some(bytes))
    }

    fn write(
        &self,
        path: &Path,
        digest: Digest,
        compatibility: u64,
        code: &[u8],
    ) -> Result<(), Box<dyn std::error::Error>> {
        fs::create_dir_all(&self.folder)?;
        let tag = self.mac(digest, compatibility, code)?.finalize().into_bytes();
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

fn compatibility_of(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

#[allow(
    unsafe_code,
    reason = "wasmtime cannot check native code; `read` has authenticated exactly these bytes, or this process has just compiled them"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` was produced by `precompile_component` of this host: either a moment ago, or by an earlier
    // process, proven by the MAC over these bytes, whose key only the data directory's owner can read.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
