//! Every function of `wasi:filesystem`, on each mount. What changes something is undone again, so that the census
//! can be taken twice.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Advice, Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};

use crate::calls::Calls;
use crate::plumbing::{incoming, outgoing};

const TYPES: &str = "wasi:filesystem/types";

pub(crate) fn all(calls: &mut Calls) {
    let mounts = calls.made("wasi:filesystem/preopens", "get-directories", get_directories());
    for (root, _) in &mounts {
        directory(calls, root);
        for (other, _) in &mounts {
            calls.made(TYPES, "[method]descriptor.is-same-object", root.is_same_object(other));
        }
    }
}

fn directory(calls: &mut Calls, root: &Descriptor) {
    let none = PathFlags::empty();
    calls.tried(TYPES, "[method]descriptor.get-flags", root.get_flags());
    calls.tried(TYPES, "[method]descriptor.get-type", root.get_type());
    calls.tried(TYPES, "[method]descriptor.stat", root.stat());
    calls.tried(TYPES, "[method]descriptor.metadata-hash", root.metadata_hash());
    if let Some(entries) = calls.tried(TYPES, "[method]descriptor.read-directory", root.read_directory()) {
        while let Some(Some(_)) =
            calls.tried(TYPES, "[method]directory-entry-stream.read-directory-entry", entries.read_directory_entry())
        {
        }
    }
    calls.tried(TYPES, "[method]descriptor.stat-at", root.stat_at(none, "file.txt"));
    calls.tried(TYPES, "[method]descriptor.metadata-hash-at", root.metadata_hash_at(none, "file.txt"));
    let reading = root.open_at(none, "file.txt", OpenFlags::empty(), DescriptorFlags::READ);
    if let Some(file) = calls.tried(TYPES, "[method]descriptor.open-at", reading) {
        readable(calls, &file);
        writable(calls, &file);
    }

    calls.tried(TYPES, "[method]descriptor.create-directory-at", root.create_directory_at("census"));
    let creating = root.open_at(
        none,
        "census/file.txt",
        OpenFlags::CREATE | OpenFlags::TRUNCATE,
        DescriptorFlags::READ | DescriptorFlags::WRITE,
    );
    if let Some(file) = calls.tried(TYPES, "[method]descriptor.open-at", creating) {
        writable(calls, &file);
        readable(calls, &file);
    }
    calls.tried(
        TYPES,
        "[method]descriptor.set-times-at",
        root.set_times_at(none, "census/file.txt", NewTimestamp::Now, NewTimestamp::NoChange),
    );
    calls.tried(TYPES, "[method]descriptor.link-at", root.link_at(none, "census/file.txt", root, "census/hard"));
    calls.tried(TYPES, "[method]descriptor.symlink-at", root.symlink_at("file.txt", "census/soft"));
    calls.tried(TYPES, "[method]descriptor.readlink-at", root.readlink_at("census/soft"));
    calls.tried(TYPES, "[method]descriptor.rename-at", root.rename_at("census/file.txt", root, "census/renamed.txt"));
    for name in ["census/renamed.txt", "census/file.txt", "census/hard", "census/soft"] {
        calls.tried(TYPES, "[method]descriptor.unlink-file-at", root.unlink_file_at(name));
    }
    calls.tried(TYPES, "[method]descriptor.remove-directory-at", root.remove_directory_at("census"));
    calls.tried(TYPES, "[method]descriptor.sync", root.sync());
    calls.tried(TYPES, "[method]descriptor.sync-data", root.sync_data());
}

fn readable(calls: &mut Calls, file: &Descriptor) {
    calls.tried(TYPES, "[method]descriptor.advise", file.advise(0, 1, Advice::Sequential));
    calls.tried(TYPES, "[method]descriptor.read", file.read(16, 0));
    if let Some(stream) = calls.tried(TYPES, "[method]descriptor.read-via-stream", file.read_via_stream(0)) {
        incoming(calls, &stream);
    }
}

fn writable(calls: &mut Calls, file: &Descriptor) {
    calls.tried(TYPES, "[method]descriptor.write", file.write(b"census", 0));
    let source = calls.tried(TYPES, "[method]descriptor.read-via-stream", file.read_via_stream(0));
    for (function, stream) in [
        ("[method]descriptor.write-via-stream", file.write_via_stream(0)),
        ("[method]descriptor.append-via-stream", file.append_via_stream()),
    ] {
        if let (Some(stream), Some(source)) = (calls.tried(TYPES, function, stream), &source) {
            outgoing(calls, &stream, source);
        }
    }
    calls.tried(TYPES, "[method]descriptor.set-size", file.set_size(3));
    calls.tried(TYPES, "[method]descriptor.set-times", file.set_times(NewTimestamp::Now, NewTimestamp::Now));
    calls.tried(TYPES, "[method]descriptor.sync-data", file.sync_data());
    calls.tried(TYPES, "[method]descriptor.sync", file.sync());
}
