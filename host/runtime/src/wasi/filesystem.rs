//! The file system. Every call that names a path, and every look into a folder, is a decision of its own; what
//! is done with an open file is covered by the decision that opened it.
//!
//! The guest's folder handles only say where they are. For each decided call the host walks to the folder that
//! holds the path, makes a handle for it with just the rights that were decided, delegates to wasmtime with a
//! single name, and drops the handle. A file opened for reading is therefore read-only to the operating system
//! and to wasmtime alike.

use std::sync::Arc;

use handshake_core::Digest;
use handshake_core::capability::Axis;
use handshake_core::gate::Permit;
use handshake_core::mount::MountAccess;
use rustix::fs::FileType;
use wasmtime::component::{HasData, Resource as Handle};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, Dir, OpenMode, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
    Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::path::{self, Parent};
use crate::limits::LimitExceeded;
use crate::state::{Place, StepState};

const INTERFACE: &str = "wasi:filesystem/types@0.2";
/// Open files and folders of one attempt: many attempts share the process's own limit.
const MAX_OPEN: usize = 256;
/// Directory listings that are open at the same time: deep enough for a walk, and each holds all its entries.
const MAX_LISTINGS: usize = 32;

pub(crate) struct GatedFilesystem<'a>(pub(crate) &'a mut StepState);

impl HasData for GatedFilesystem<'static> {
    type Data<'a> = GatedFilesystem<'a>;
}

/// A decided call on a path: the permit, and a handle for the folder that holds the path.
struct Decided {
    permit: Permit,
    folder: Handle<Descriptor>,
    name: String,
    kind: Option<FileType>,
    place: Place,
}

impl GatedFilesystem<'_> {
    fn inner(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: self.0.wasi.filesystem(), table: &mut self.0.table }
    }

    fn place_of(&self, handle: &Handle<Descriptor>) -> FsResult<&Place> {
        self.0.places.get(&handle.rep()).ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    /// Decides on one path. A path that leads out of the mount is put to the gate too, which always denies it.
    async fn decide(
        &mut self,
        function: &'static str,
        axis: Axis,
        base: &Handle<Descriptor>,
        path: &str,
        extra: &[u8],
    ) -> FsResult<(Permit, Place)> {
        let place = path::resolve(self.place_of(base)?, path);
        let resource = place
            .as_ref()
            .and_then(|place| path::resource(&self.0.mounts, place))
            .unwrap_or_else(|| path::outside(path));
        let arguments = Digest::of_parts(&[path.as_bytes(), extra]);
        match (self.0.permit((INTERFACE, function), axis, resource, arguments).await, place) {
            (Ok(permit), Some(place)) => Ok((permit, place)),
            (Ok(permit), None) => {
                permit.failed("outside");
                Err(ErrorCode::NotPermitted.into())
            }
            (Err(_), _) => Err(ErrorCode::Access.into()),
        }
    }

    /// Decides on one path and walks to the folder that holds it.
    async fn enter(
        &mut self,
        function: &'static str,
        axis: Axis,
        base: &Handle<Descriptor>,
        path: &str,
        extra: &[u8],
    ) -> FsResult<Decided> {
        let (permit, place) = self.decide(function, axis, base, path, extra).await?;
        let Some(mount) = self.0.mounts.get(place.mount) else { return Err(ErrorCode::BadDescriptor.into()) };
        let (root, access) = (Arc::clone(&mount.root), mount.access);
        let wanted = place.clone();
        // A file system can take its time; the other attempts on this thread should not.
        let walked = tokio::task::spawn_blocking(move || path::parent(&root, &wanted)).await;
        let Parent { folder, name, kind } = match walked {
            Ok(Ok(parent)) => parent,
            Ok(Err(error)) => {
                permit.failed(label_of(&error));
                return Err(error.into());
            }
            Err(_) => {
                permit.failed("host");
                return Err(ErrorCode::Io.into());
            }
        };
        let (perms, mode) = match (axis, access) {
            (Axis::FsWrite, MountAccess::Write) => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            _ => (FsPerms::ReadOnly, OpenMode::READ),
        };
        let folder = self.0.table.push(Descriptor::Dir(Dir::new(folder, perms, mode, false)))?;
        Ok(Decided { permit, folder, name, kind, place })
    }

    /// Decides on both ends of a rename or a link, which both take the right to write. What may be read under its new
    /// name must be readable under its old one. Only files go: with a folder, what lies below it would change its name
    /// without having been decided on.
    async fn both_ends(
        &mut self,
        function: &'static str,
        base: &Handle<Descriptor>,
        path: &str,
        new_base: &Handle<Descriptor>,
        new_path: &str,
    ) -> FsResult<(Decided, Decided)> {
        let new_place = path::resolve(self.place_of(new_base)?, new_path);
        let readable = new_place
            .and_then(|place| path::resource(&self.0.mounts, &place))
            .is_some_and(|resource| self.0.gate.may_allow(Axis::FsRead, &resource));
        if readable {
            let (permit, _) = self.decide(function, Axis::FsRead, base, path, new_path.as_bytes()).await?;
            permit.succeeded(0, 0);
        }
        let from = self.enter(function, Axis::FsWrite, base, path, new_path.as_bytes()).await?;
        if from.kind.is_some_and(|kind| kind != FileType::RegularFile) {
            let refused = Err(ErrorCode::NotPermitted.into());
            return self.leave(from.permit, from.folder, refused);
        }
        match self.enter(function, Axis::FsWrite, new_base, new_path, path.as_bytes()).await {
            Ok(to) => Ok((from, to)),
            Err(error) => self.leave(from.permit, from.folder, Err(error)),
        }
    }

    fn leave_both(&mut self, from: Decided, to: Decided, result: FsResult<()>) -> FsResult<()> {
        let result = self.leave(to.permit, to.folder, result);
        self.leave(from.permit, from.folder, result)
    }

    /// Finishes the permit and gives the folder's handle back.
    fn leave<T>(&mut self, permit: Permit, folder: Handle<Descriptor>, result: FsResult<T>) -> FsResult<T> {
        self.0.table.delete(folder)?;
        match result {
            Ok(value) => {
                permit.succeeded(0, 0);
                Ok(value)
            }
            Err(error) => {
                permit.failed(error.downcast_ref().map_or("trap", |code| name_of(*code)));
                Err(error)
            }
        }
    }
}

/// Another handle on the same table entry, for a delegate that takes it by value.
fn borrow(handle: &Handle<Descriptor>) -> Handle<Descriptor> {
    Handle::new_borrow(handle.rep())
}

fn label_of(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "not-found",
        std::io::ErrorKind::PermissionDenied => "permission",
        // A link in the place of a folder shows as this too.
        std::io::ErrorKind::NotADirectory => "not-a-folder",
        _ => "io",
    }
}

fn name_of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NoEntry => "not-found",
        ErrorCode::Exist => "exists",
        ErrorCode::Access | ErrorCode::NotPermitted | ErrorCode::ReadOnly => "permission",
        ErrorCode::Loop => "link",
        ErrorCode::IsDirectory => "is-a-folder",
        ErrorCode::NotDirectory => "not-a-folder",
        ErrorCode::NotEmpty => "not-empty",
        ErrorCode::InsufficientSpace | ErrorCode::Quota => "no-space",
        _ => "io",
    }
}

impl preopens::Host for GatedFilesystem<'_> {
    /// Gives a handle for each mount, made from the very folder that was checked. Read-only whatever the mount allows:
    /// every change goes by path, through a folder handle that exists only for one decided call.
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle<Descriptor>, String)>> {
        let mut directories = Vec::new();
        for (index, mount) in self.0.mounts.iter().enumerate() {
            let folder = Dir::new(mount.root.try_clone()?, FsPerms::ReadOnly, OpenMode::READ, false);
            let handle = self.0.table.push(Descriptor::Dir(folder))?;
            self.0.places.insert(handle.rep(), Place { mount: index, path: Vec::new() });
            directories.push((handle, format!("/{}", mount.name)));
        }
        Ok(directories)
    }
}

impl types::Host for GatedFilesystem<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.inner(), error)
    }

    fn filesystem_error_code(&mut self, error: Handle<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.inner(), error)
    }
}

impl HostDescriptor for GatedFilesystem<'_> {
    async fn open_at(
        &mut self,
        base: Handle<Descriptor>,
        _: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Handle<Descriptor>> {
        if self.0.places.len() >= MAX_OPEN {
            let detail = format!("{MAX_OPEN} files and folders may be open at the same time");
            return Err(FsError::trap(LimitExceeded::new("open_files", detail)));
        }
        // A handle reads unless it was opened for writing alone.
        let reads = flags.contains(DescriptorFlags::READ) || !flags.contains(DescriptorFlags::WRITE);
        let changes =
            flags.contains(DescriptorFlags::WRITE) || open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE);
        let axis = if changes { Axis::FsWrite } else { Axis::FsRead };
        if changes && reads {
            // Reading through a handle that was opened for both takes the right to read as well.
            let (permit, _) = self.decide("[method]descriptor.open-at", Axis::FsRead, &base, &path, b"read").await?;
            permit.succeeded(0, 0);
        }
        let extra = format!("{open:?} {flags:?}");
        let Decided { permit, folder, name, kind, place } =
            self.enter("[method]descriptor.open-at", axis, &base, &path, extra.as_bytes()).await?;
        let result = match kind {
            // Opening a pipe or a device can block for ever or have effects of its own.
            Some(kind) if !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink) => {
                Err(ErrorCode::NotPermitted.into())
            }
            _ => {
                // Whether a folder may be changed is decided by each change, not by the handle.
                let flags = flags & !DescriptorFlags::MUTATE_DIRECTORY;
                let target = borrow(&folder);
                self.inner().open_at(target, PathFlags::empty(), name, open, flags).await
            }
        };
        let handle = self.leave(permit, folder, result)?;
        self.0.places.insert(handle.rep(), place);
        match axis {
            Axis::FsWrite => self.0.metrics.entities_written += 1,
            _ => self.0.metrics.entities_read += 1,
        }
        Ok(handle)
    }

    async fn read_directory(&mut self, folder: Handle<Descriptor>) -> FsResult<Handle<DirectoryEntryStream>> {
        let (permit, _) = self.decide("[method]descriptor.read-directory", Axis::FsRead, &folder, ".", b"").await?;
        if self.0.open_listings >= MAX_LISTINGS {
            permit.failed("limit");
            let detail = format!("{MAX_LISTINGS} folders may be listed at the same time");
            return Err(FsError::trap(LimitExceeded::new("open_files", detail)));
        }
        match self.inner().read_directory(folder).await {
            Ok(entries) => {
                self.0.open_listings += 1;
                permit.succeeded(0, 0);
                Ok(entries)
            }
            Err(error) => {
                permit.failed(error.downcast_ref().map_or("trap", |code| name_of(*code)));
                Err(error)
            }
        }
    }

    async fn stat_at(&mut self, base: Handle<Descriptor>, _: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let Decided { permit, folder, name, .. } =
            self.enter("[method]descriptor.stat-at", Axis::FsRead, &base, &path, b"").await?;
        let target = borrow(&folder);
        let result = self.inner().stat_at(target, PathFlags::empty(), name).await;
        self.leave(permit, folder, result)
    }

    async fn metadata_hash_at(
        &mut self,
        base: Handle<Descriptor>,
        _: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let Decided { permit, folder, name, .. } =
            self.enter("[method]descriptor.metadata-hash-at", Axis::FsRead, &base, &path, b"").await?;
        let target = borrow(&folder);
        let result = self.inner().metadata_hash_at(target, PathFlags::empty(), name).await;
        self.leave(permit, folder, result)
    }

    async fn readlink_at(&mut self, base: Handle<Descriptor>, path: String) -> FsResult<String> {
        let Decided { permit, folder, name, .. } =
            self.enter("[method]descriptor.readlink-at", Axis::FsRead, &base, &path, b"").await?;
        let target = borrow(&folder);
        let result = self.inner().readlink_at(target, name).await;
        self.leave(permit, folder, result)
    }

    async fn create_directory_at(&mut self, base: Handle<Descriptor>, path: String) -> FsResult<()> {
        let Decided { permit, folder, name, .. } =
            self.enter("[method]descriptor.create-directory-at", Axis::FsWrite, &base, &path, b"").await?;
        let target = borrow(&folder);
        let result = self.inner().create_directory_at(target, name).await;
        self.leave(permit, folder, result)
    }

    async fn remove_directory_at(&mut self, base: Handle<Descriptor>, path: String) -> FsResult<()> {
        let Decided { permit, folder, name, .. } =
            self.enter("[method]descriptor.remove-directory-at", Axis::FsWrite, &base, &path, b"").await?;
        let target = borrow(&folder);
        let result = self.inner().remove_directory_at(target, name).await;
        self.leave(permit, folder, result)
    }

    async fn unlink_file_at(&mut self, base: Handle<Descriptor>, path: String) -> FsResult<()> {
        let Decided { permit, folder, name, .. } =
            self.enter("[method]descriptor.unlink-file-at", Axis::FsWrite, &base, &path, b"").await?;
        let target = borrow(&folder);
        let result = self.inner().unlink_file_at(target, name).await;
        self.leave(permit, folder, result)
    }

    async fn set_times_at(
        &mut self,
        base: Handle<Descriptor>,
        _: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let extra = format!("{accessed:?} {modified:?}");
        let Decided { permit, folder, name, .. } =
            self.enter("[method]descriptor.set-times-at", Axis::FsWrite, &base, &path, extra.as_bytes()).await?;
        let target = borrow(&folder);
        let result = self.inner().set_times_at(target, PathFlags::empty(), name, accessed, modified).await;
        self.leave(permit, folder, result)
    }

    async fn symlink_at(&mut self, base: Handle<Descriptor>, content: String, path: String) -> FsResult<()> {
        // No guest makes links: guests never follow one, but others who look into the folder do, and a link that leads
        // nowhere today leads out of the mount after a rename. The attempt is decided, and ends there.
        let (permit, _) =
            self.decide("[method]descriptor.symlink-at", Axis::FsWrite, &base, &path, content.as_bytes()).await?;
        permit.failed("unsupported");
        Err(ErrorCode::NotPermitted.into())
    }

    async fn rename_at(
        &mut self,
        base: Handle<Descriptor>,
        path: String,
        new_base: Handle<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (from, to) = self.both_ends("[method]descriptor.rename-at", &base, &path, &new_base, &new_path).await?;
        let (source, destination) = (borrow(&from.folder), borrow(&to.folder));
        let result = self.inner().rename_at(source, from.name.clone(), destination, to.name.clone()).await;
        self.leave_both(from, to, result)
    }

    async fn link_at(
        &mut self,
        base: Handle<Descriptor>,
        _: PathFlags,
        path: String,
        new_base: Handle<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (from, to) = self.both_ends("[method]descriptor.link-at", &base, &path, &new_base, &new_path).await?;
        let (source, destination) = (borrow(&from.folder), borrow(&to.folder));
        let nofollow = PathFlags::empty();
        let result = self.inner().link_at(source, nofollow, from.name.clone(), destination, to.name.clone()).await;
        self.leave_both(from, to, result)
    }

    fn drop(&mut self, handle: Handle<Descriptor>) -> wasmtime::Result<()> {
        self.0.places.remove(&handle.rep());
        HostDescriptor::drop(&mut self.inner(), handle)
    }

    // What follows works on what a decision has opened, or on the metadata of a mount's own folder.

    async fn advise(
        &mut self,
        file: Handle<Descriptor>,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.inner().advise(file, offset, length, advice).await
    }
    async fn sync_data(&mut self, file: Handle<Descriptor>) -> FsResult<()> {
        self.inner().sync_data(file).await
    }
    async fn get_flags(&mut self, file: Handle<Descriptor>) -> FsResult<DescriptorFlags> {
        let flags = self.inner().get_flags(file).await?;
        Ok(flags)
    }
    async fn get_type(&mut self, file: Handle<Descriptor>) -> FsResult<DescriptorType> {
        self.inner().get_type(file).await
    }
    async fn set_size(&mut self, file: Handle<Descriptor>, size: Filesize) -> FsResult<()> {
        self.inner().set_size(file, size).await
    }
    async fn set_times(
        &mut self,
        file: Handle<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.inner().set_times(file, accessed, modified).await
    }
    async fn read(
        &mut self,
        file: Handle<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.inner().read(file, length, offset).await
    }
    async fn write(&mut self, file: Handle<Descriptor>, content: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        self.inner().write(file, content, offset).await
    }
    async fn sync(&mut self, file: Handle<Descriptor>) -> FsResult<()> {
        self.inner().sync(file).await
    }
    async fn stat(&mut self, file: Handle<Descriptor>) -> FsResult<DescriptorStat> {
        self.inner().stat(file).await
    }
    fn read_via_stream(&mut self, file: Handle<Descriptor>, offset: Filesize) -> FsResult<Handle<DynInputStream>> {
        self.inner().read_via_stream(file, offset)
    }
    fn write_via_stream(&mut self, file: Handle<Descriptor>, offset: Filesize) -> FsResult<Handle<DynOutputStream>> {
        self.inner().write_via_stream(file, offset)
    }
    fn append_via_stream(&mut self, file: Handle<Descriptor>) -> FsResult<Handle<DynOutputStream>> {
        self.inner().append_via_stream(file)
    }
    async fn is_same_object(&mut self, one: Handle<Descriptor>, other: Handle<Descriptor>) -> wasmtime::Result<bool> {
        self.inner().is_same_object(one, other).await
    }
    async fn metadata_hash(&mut self, file: Handle<Descriptor>) -> FsResult<MetadataHashValue> {
        self.inner().metadata_hash(file).await
    }
}

impl HostDirectoryEntryStream for GatedFilesystem<'_> {
    async fn read_directory_entry(
        &mut self,
        entries: Handle<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.inner().read_directory_entry(entries).await
    }

    fn drop(&mut self, entries: Handle<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.0.open_listings = self.0.open_listings.saturating_sub(1);
        HostDirectoryEntryStream::drop(&mut self.inner(), entries)
    }
}
