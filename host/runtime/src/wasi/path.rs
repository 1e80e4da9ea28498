//! Guest paths: where they lead, and how the host gets there.
//!
//! A path is resolved in its letters first (`.`, `..`, no way above the mount), which gives the resource that is
//! decided on. The host then walks there from the mount's folder, component by component, without following a
//! single symbolic link; so what was decided is what is opened, whatever changes in between.

use std::fs::File;
use std::io;
use std::sync::Arc;

use handshake_core::capability::Resource;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::observer::cut;
use crate::state::{OpenMount, Place};

/// Longer paths are refused, as every file system does.
const MAX_PATH_BYTES: usize = 4096;

/// Resolves `path` against the folder `base`; none when it leads out of the mount or is no path.
pub(super) fn resolve(base: &Place, path: &str) -> Option<Place> {
    if path.starts_with('/') || path.contains('\0') || path.len() > MAX_PATH_BYTES {
        return None;
    }
    let mut resolved = base.path.clone();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                resolved.pop()?;
            }
            name => resolved.push(name.to_owned()),
        }
    }
    Some(Place { mount: base.mount, path: resolved })
}

/// The resource that a place stands for.
pub(super) fn resource(mounts: &[OpenMount], place: &Place) -> Option<Resource> {
    let mount = mounts.get(place.mount)?;
    Some(Resource::Path { mount: mount.name.clone(), path: place.path.join("/"), host: mount.host.clone() })
}

/// The resource of a path that leads nowhere.
pub(super) fn outside(path: &str) -> Resource {
    Resource::OutsidePath { path: cut(path, MAX_PATH_BYTES).to_owned() }
}

/// A folder that was walked to, and the last component of the path in it.
pub(super) struct Parent {
    pub(super) folder: File,
    pub(super) name: String,
    /// What the last component is, if it is there.
    pub(super) kind: Option<FileType>,
}

/// Walks to the folder that holds the place. Blocking.
pub(super) fn parent(root: &Arc<File>, place: &Place) -> io::Result<Parent> {
    let (name, folders) = match place.path.split_last() {
        Some((name, folders)) => (name.clone(), folders),
        None => (".".to_owned(), &[][..]),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = root.try_clone()?;
    for component in folders {
        folder = rustix::fs::openat(&folder, component.as_str(), flags, Mode::empty())?.into();
    }
    let kind = match rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
        Err(rustix::io::Errno::NOENT) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Parent { folder, name, kind })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn base(path: &[&str]) -> Place {
        Place { mount: 0, path: path.iter().map(|part| (*part).to_owned()).collect() }
    }

    #[test]
    fn paths_resolve_inside_the_mount_and_nowhere_else() {
        let resolved = |at: &[&str], path: &str| resolve(&base(at), path).map(|place| place.path.join("/"));
        assert_eq!(resolved(&[], "a/./b//c").unwrap(), "a/b/c");
        assert_eq!(resolved(&["a"], "../b").unwrap(), "b");
        assert_eq!(resolved(&["a"], ".").unwrap(), "a");
        for (at, path) in [
            (&[][..], ".."),
            (&["a"][..], "../.."),
            (&[][..], "/etc/passwd"),
            (&[][..], "a/../../b"),
            (&[][..], "a\0b"),
        ] {
            assert_eq!(resolved(at, path), None, "{path}");
        }
    }

    #[test]
    fn no_link_is_followed_on_the_way_or_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("real/inner")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let root = Arc::new(File::open(folder.path()).unwrap());
        assert_eq!(parent(&root, &base(&["real", "inner"])).unwrap().kind, Some(FileType::Directory));
        assert_eq!(parent(&root, &base(&["link"])).unwrap().kind, Some(FileType::Symlink));
        assert!(parent(&root, &base(&["link", "inner"])).is_err());
        assert!(parent(&root, &base(&["real", "none"])).unwrap().kind.is_none());
    }
}
