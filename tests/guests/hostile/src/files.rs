//! Reaching past a mount. The standard library resolves some paths itself and refuses others, so each way out is
//! also tried on the descriptors directly.

use std::fs;

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use crate::attempts::{Attempts, Outcome};

/// Every mount, with its guest path; having none is on record.
fn mounts(attempts: &mut Attempts) -> Vec<(Descriptor, String)> {
    let mounts = get_directories();
    if mounts.is_empty() {
        attempts.add("get-directories", Outcome::Denied, "no mounts");
    }
    mounts
}

fn read_at(directory: &Descriptor, follow: PathFlags, path: &str) -> Result<String, ErrorCode> {
    let file = directory.open_at(follow, path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let (bytes, _) = file.read(64, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn read(attempts: &mut Attempts, path: &str) {
    attempts.io(format!("read {path}"), fs::read_to_string(path));
}

pub(crate) fn write(attempts: &mut Attempts, path: &str) {
    attempts.io(format!("write {path}"), fs::write(path, "written by the guest"));
}

pub(crate) fn open_handles(attempts: &mut Attempts, count: u64) {
    for (directory, name) in mounts(attempts) {
        let mut open = Vec::new();
        let mut last = None;
        while (open.len() as u64) < count {
            match directory.open_at(PathFlags::empty(), ".", OpenFlags::DIRECTORY, DescriptorFlags::READ) {
                Ok(handle) => open.push(handle),
                Err(code) => {
                    last = Some(code);
                    break;
                }
            }
        }
        let what = format!("hold {} handles of {name}", open.len());
        attempts.file(what, last.map_or(Ok(open.len()), Err));
    }
}

pub(crate) fn escape_dotdot(attempts: &mut Attempts) {
    for (directory, name) in mounts(attempts) {
        for path in [
            "..",
            "../outside.txt",
            "../../etc/passwd",
            "sub/../../outside.txt",
            "./.././../outside.txt",
            "sub/../..",
            "..\\outside.txt",
        ] {
            attempts.io(format!("std read {name}/{path}"), fs::read_to_string(format!("{name}/{path}")));
            for (how, follow) in [("follow", PathFlags::SYMLINK_FOLLOW), ("no-follow", PathFlags::empty())] {
                attempts.file(format!("open-at {name} {path} {how}"), read_at(&directory, follow, path));
                attempts.file(format!("stat-at {name} {path} {how}"), directory.stat_at(follow, path).map(|_| ()));
            }
            attempts.file(format!("readlink-at {name} {path}"), directory.readlink_at(path));
        }
        let above = directory.open_at(PathFlags::empty(), "..", OpenFlags::DIRECTORY, DescriptorFlags::READ);
        attempts.file(format!("open-at {name} .. as a directory"), above.map(|_| ()));
        attempts.file(format!("create-directory-at {name} ../made"), directory.create_directory_at("../made"));
        attempts.file(format!("unlink-file-at {name} ../outside.txt"), directory.unlink_file_at("../outside.txt"));
        let create = directory.open_at(
            PathFlags::empty(),
            "../made.txt",
            OpenFlags::CREATE | OpenFlags::TRUNCATE,
            DescriptorFlags::WRITE,
        );
        attempts.file(format!("create {name} ../made.txt"), create.map(|_| ()));
    }
}

pub(crate) fn escape_absolute(attempts: &mut Attempts, path: &str) {
    attempts.io(format!("std read {path}"), fs::read_to_string(path));
    attempts.io("std list /", fs::read_dir("/").map(|entries| entries.count()));
    for (directory, name) in mounts(attempts) {
        for path in [path, "/", "//", "/../etc/passwd"] {
            attempts.file(format!("open-at {name} {path}"), read_at(&directory, PathFlags::SYMLINK_FOLLOW, path));
            let stat = directory.stat_at(PathFlags::SYMLINK_FOLLOW, path).map(|_| ());
            attempts.file(format!("stat-at {name} {path}"), stat);
        }
    }
}

/// The harness puts a symbolic link of this name, which leads outside, into each mount.
pub(crate) fn escape_symlink(attempts: &mut Attempts, link: &str) {
    for (directory, name) in mounts(attempts) {
        attempts.io(format!("std read {name}/{link}"), fs::read_to_string(format!("{name}/{link}")));
        attempts.io(format!("std list {name}/{link}"), fs::read_dir(format!("{name}/{link}")).map(Iterator::count));
        attempts.io(format!("std write {name}/{link}"), fs::write(format!("{name}/{link}"), "overwritten"));
        for path in [link.to_owned(), format!("{link}/"), format!("{link}/outside.txt"), format!("./{link}")] {
            for (how, follow) in [("follow", PathFlags::SYMLINK_FOLLOW), ("no-follow", PathFlags::empty())] {
                attempts.file(format!("open-at {name} {path} {how}"), read_at(&directory, follow, &path));
                let list = directory
                    .open_at(follow, &path, OpenFlags::DIRECTORY, DescriptorFlags::READ)
                    .and_then(|inner| inner.read_directory()?.read_directory_entry())
                    .map(|entry| entry.map(|entry| entry.name));
                attempts.file(format!("list {name} {path} {how}"), list);
                let write = directory
                    .open_at(follow, &path, OpenFlags::TRUNCATE, DescriptorFlags::WRITE)
                    .and_then(|file| file.write(b"overwritten", 0));
                attempts.file(format!("overwrite {name} {path} {how}"), write);
            }
        }
        let stat = directory.stat_at(PathFlags::SYMLINK_FOLLOW, link).map(|stat| stat.size);
        attempts.file(format!("stat-at {name} {link} follow"), stat);
    }
}

pub(crate) fn symlink_create(attempts: &mut Attempts, target: &str) {
    for (directory, name) in mounts(attempts) {
        for target in [target, "../outside.txt", "..", "inside.txt"] {
            attempts.file(format!("symlink-at {name} made -> {target}"), directory.symlink_at(target, "made"));
            attempts.file(format!("read {name} through it"), read_at(&directory, PathFlags::SYMLINK_FOLLOW, "made"));
            attempts.file(format!("unlink-file-at {name} made"), directory.unlink_file_at("made"));
        }
        let link = directory.link_at(PathFlags::SYMLINK_FOLLOW, "../outside.txt", &directory, "hard");
        attempts.file(format!("link-at {name} ../outside.txt"), link);
    }
}

/// Both ends of a rename and of a link must be inside, and each in a mount that may be written.
pub(crate) fn rename_out(attempts: &mut Attempts) {
    let mounts = mounts(attempts);
    for (from, from_name) in &mounts {
        for (to, to_name) in &mounts {
            let what = format!("rename-at {from_name} -> {to_name}");
            attempts.file(format!("{what} ../renamed.txt"), from.rename_at("file.txt", to, "../renamed.txt"));
            attempts.file(format!("{what} from ../outside.txt"), from.rename_at("../outside.txt", to, "stolen.txt"));
            if from_name != to_name {
                attempts.file(format!("{what} moved.txt"), from.rename_at("file.txt", to, "moved.txt"));
                let link = from.link_at(PathFlags::empty(), "file.txt", to, "linked.txt");
                attempts.file(format!("link-at {from_name} -> {to_name}"), link);
            }
        }
    }
    attempts.io("std rename /in/file.txt /out/moved.txt", fs::rename("/in/file.txt", "/out/moved.txt"));
}

/// Every way to change something.
pub(crate) fn write_denied(attempts: &mut Attempts) {
    for (directory, name) in mounts(attempts) {
        attempts.io(format!("std write {name}/new.txt"), fs::write(format!("{name}/new.txt"), "new"));
        attempts.io(format!("std overwrite {name}/file.txt"), fs::write(format!("{name}/file.txt"), "new"));
        attempts.io(format!("std create-dir {name}/new"), fs::create_dir(format!("{name}/new")));
        attempts.io(format!("std remove {name}/file.txt"), fs::remove_file(format!("{name}/file.txt")));
        let sub = directory.open_at(
            PathFlags::empty(),
            ".",
            OpenFlags::DIRECTORY,
            DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
        );
        attempts.file(
            format!("create through a second handle of {name}"),
            sub.and_then(|sub| sub.create_directory_at("through-second-handle")),
        );
        // Opened for reading, used for writing.
        let read_only = directory.open_at(PathFlags::empty(), "file.txt", OpenFlags::empty(), DescriptorFlags::READ);
        attempts.file(
            format!("write {name}/file.txt through a reading handle"),
            read_only.and_then(|file| {
                file.write(b"x", 0)?;
                file.set_size(0)
            }),
        );
    }
}
