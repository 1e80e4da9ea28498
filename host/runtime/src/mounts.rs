//! Resolves the host folders of a workflow against the policy.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use handshake_core::capability::PolicyInForce;
use handshake_core::mount::{Mount, MountAccess, MountError, MountResolver};
use rustix::fs::{Mode, OFlags};

/// Mounts of this host's file system.
pub struct HostMounts {
    policy: PolicyInForce,
    data_dir: PathBuf,
    trusted: Vec<PathBuf>,
}

impl HostMounts {
    /// `data_dir` is absolute and without symbolic links. `trusted` is what the host reads and no guest may write:
    /// plugin folders, configuration, policy, key files.
    pub fn new(policy: PolicyInForce, data_dir: PathBuf, trusted: &[PathBuf]) -> Self {
        let trusted = trusted.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        Self { policy, data_dir, trusted }
    }

    fn check(&self, name: &str, path: &Path, access: MountAccess) -> Result<(), MountError> {
        // Either way around: a parent of the data directory would expose it, a folder inside it is part of it.
        if self.data_dir.starts_with(path) || path.starts_with(&self.data_dir) {
            return Err(MountError::DataDirectory {
                name: name.to_owned(),
                path: path.to_owned(),
                data_dir: self.data_dir.clone(),
            });
        }
        let touched = self.trusted.iter().find(|trusted| trusted.starts_with(path) || path.starts_with(trusted));
        if let (MountAccess::Write, Some(trusted)) = (access, touched) {
            return Err(MountError::Trusted { name: name.to_owned(), path: path.to_owned(), trusted: trusted.clone() });
        }
        if self.policy.current().policy().mount_rule(path, access).is_none() {
            let access = match access {
                MountAccess::Read => "read",
                MountAccess::Write => "write",
            };
            return Err(MountError::NotListed { name: name.to_owned(), path: path.to_owned(), access });
        }
        Ok(())
    }
}

impl MountResolver for HostMounts {
    fn resolve(&self, base: &Path, name: &str, path: &Path, access: MountAccess) -> Result<Mount, MountError> {
        let given = base.join(path);
        let unavailable = |source| MountError::Unavailable { name: name.to_owned(), path: given.clone(), source };
        let host = match fs::canonicalize(&given) {
            Ok(host) => host,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && access == MountAccess::Write => {
                // Checked before anything is created, on the form that it will have.
                let planned = canonical_form_of_missing(&given).map_err(unavailable)?;
                self.check(name, &planned, access)?;
                fs::create_dir_all(&planned).map_err(unavailable)?;
                fs::canonicalize(&planned).map_err(unavailable)?
            }
            Err(error) => return Err(unavailable(error)),
        };
        if !host.is_dir() {
            return Err(MountError::NotAFolder { name: name.to_owned(), path: given });
        }
        self.check(name, &host, access)?;
        // Opened by the path that was checked, without following a link: this folder, and no other that somebody puts
        // in its place, is what attempts get.
        let identity = open_folder(&host).and_then(|folder| identity_of(&folder)).map_err(unavailable)?;
        Ok(Mount { name: name.to_owned(), host, access, identity })
    }
}

/// Opens a folder by its absolute path, component by component, without following a link.
pub(crate) fn open_folder(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = File::open("/")?;
    for component in path.components() {
        if let Component::Normal(name) = component {
            folder = rustix::fs::openat(&folder, name, flags, Mode::empty())?.into();
        }
    }
    Ok(folder)
}

/// Device and inode.
pub(crate) fn identity_of(folder: &File) -> std::io::Result<(u64, u64)> {
    let metadata = folder.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The path that a missing folder will have: its nearest existing parent resolved, the rest as written.
fn canonical_form_of_missing(path: &Path) -> std::io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match (existing.components().next_back(), existing.parent()) {
            (Some(Component::Normal(last)), Some(parent)) if !existing.exists() => {
                missing.push(last);
                existing = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            }
            _ => break,
        }
    }
    let mut resolved = fs::canonicalize(existing)?;
    resolved.extend(missing.into_iter().rev());
    Ok(resolved)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use handshake_core::Digest;
    use handshake_core::capability::{Mode, MountRule, Policy, SourceRef};

    use super::*;

    struct Setup {
        _folder: tempfile::TempDir,
        root: PathBuf,
        mounts: HostMounts,
    }

    /// `root/data` is the data directory; `root/docs` may be read, `root/out` written.
    fn setup() -> Setup {
        setup_in(Mode::Enforce)
    }

    fn setup_in(mode: Mode) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in ["data", "docs/sub", "out/plugins/x", "out/free", "secret"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let rule = |path: &str, access| MountRule {
            path: root.join(path),
            access,
            source: SourceRef { file: "policy.toml".into(), line: 1 },
        };
        let policy = Policy {
            mode,
            rules: Vec::new(),
            mounts: vec![
                rule("docs", MountAccess::Read),
                rule("out", MountAccess::Write),
                rule("data", MountAccess::Write),
            ],
            secrets: Vec::new(),
            digest: Digest::ZERO,
        };
        let mounts = HostMounts::new(PolicyInForce::new(policy), root.join("data"), &[root.join("out/plugins")]);
        Setup { _folder: folder, root, mounts }
    }

    impl Setup {
        fn resolve(&self, path: &str, access: MountAccess) -> Result<PathBuf, MountError> {
            self.mounts.resolve(&self.root, "m", Path::new(path), access).map(|mount| mount.host)
        }
    }

    #[test]
    fn listed_folders_and_those_below_them_can_be_mounted() {
        let setup = setup();
        assert_eq!(setup.resolve("docs", MountAccess::Read).unwrap(), setup.root.join("docs"));
        assert_eq!(setup.resolve("docs/./sub", MountAccess::Read).unwrap(), setup.root.join("docs/sub"));
        assert!(matches!(setup.resolve("docs", MountAccess::Write), Err(MountError::NotListed { .. })));
        assert!(matches!(setup.resolve("secret", MountAccess::Read), Err(MountError::NotListed { .. })));
    }

    #[test]
    fn the_data_directory_its_parents_and_its_insides_never_are() {
        let setup = setup();
        for path in ["data", ".", "/", "data/../data"] {
            assert!(matches!(setup.resolve(path, MountAccess::Read), Err(MountError::DataDirectory { .. })), "{path}");
        }
        assert!(matches!(setup.resolve("data/new", MountAccess::Write), Err(MountError::DataDirectory { .. })));
        assert!(!setup.root.join("data/new").exists());
    }

    #[test]
    fn a_policy_that_only_watches_opens_no_folder() {
        let setup = setup_in(Mode::Observe);
        assert!(matches!(setup.resolve("data", MountAccess::Read), Err(MountError::DataDirectory { .. })));
        assert!(matches!(setup.resolve(".", MountAccess::Read), Err(MountError::DataDirectory { .. })));
        assert!(matches!(setup.resolve("secret", MountAccess::Read), Err(MountError::NotListed { .. })));
        assert!(matches!(setup.resolve("out/plugins", MountAccess::Write), Err(MountError::Trusted { .. })));
    }

    #[test]
    fn links_are_resolved_before_the_policy_is_asked() {
        let setup = setup();
        std::os::unix::fs::symlink(setup.root.join("secret"), setup.root.join("docs/link")).unwrap();
        assert!(matches!(setup.resolve("docs/link", MountAccess::Read), Err(MountError::NotListed { .. })));
        std::os::unix::fs::symlink(setup.root.join("data"), setup.root.join("out/link")).unwrap();
        assert!(matches!(setup.resolve("out/link/x", MountAccess::Write), Err(MountError::DataDirectory { .. })));
    }

    #[test]
    fn what_the_host_trusts_can_be_read_and_never_written() {
        let setup = setup();
        for path in ["out", "out/plugins", "out/plugins/x"] {
            assert!(matches!(setup.resolve(path, MountAccess::Write), Err(MountError::Trusted { .. })), "{path}");
            setup.resolve(path, MountAccess::Read).unwrap();
        }
        setup.resolve("out/free", MountAccess::Write).unwrap();
    }

    #[test]
    fn a_missing_folder_is_created_for_writing_only_where_the_policy_allows() {
        let setup = setup();
        let made = setup.resolve("out/free/a/b", MountAccess::Write).unwrap();
        assert_eq!(made, setup.root.join("out/free/a/b"));
        assert!(matches!(setup.resolve("elsewhere/a", MountAccess::Write), Err(MountError::NotListed { .. })));
        assert!(!setup.root.join("elsewhere").exists());
        assert!(matches!(setup.resolve("docs/none", MountAccess::Read), Err(MountError::Unavailable { .. })));
        // A path through `..` of something missing has no form to check.
        assert!(setup.resolve("out/none/../../secret/x", MountAccess::Write).is_err());
        assert!(!setup.root.join("secret/x").exists());
    }
}
