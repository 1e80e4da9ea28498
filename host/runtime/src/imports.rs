//! Every function that a step can import, and who answers for it: a decision on each call, or the list of ambient ones.
//!
//! The functions stand in `imports.txt`, one a line. A test takes them from the WIT packages that the bindings are
//! generated from, and fails when the file differs, or when a function is on neither side or on both.

use handshake_core::capability::Axis;

use crate::ambient::AMBIENT;

const FUNCTIONS: &str = include_str!("imports.txt");

/// Functions whose calls are decided, one by one.
struct Decided {
    /// Interface, without version.
    interface: &'static str,
    functions: &'static [&'static str],
    /// What a call needs: one of them or all, by what it is about to do.
    axes: &'static [Axis],
}

const DECIDED: &[Decided] = &[
    Decided { interface: "handshake:step/documents", functions: &["list", "read"], axes: &[Axis::DocRead] },
    Decided { interface: "handshake:step/documents", functions: &["propose"], axes: &[Axis::DocPropose] },
    Decided { interface: "handshake:step/artifacts", functions: &["read"], axes: &[Axis::ArtifactRead] },
    Decided { interface: "handshake:step/artifacts", functions: &["write"], axes: &[Axis::ArtifactWrite] },
    Decided { interface: "handshake:step/models", functions: &["generate"], axes: &[Axis::ModelInfer] },
    Decided { interface: "handshake:step/models", functions: &["embed"], axes: &[Axis::ModelEmbed] },
    Decided { interface: "handshake:step/secrets", functions: &["placeholder"], axes: &[Axis::SecretsUse] },
    Decided { interface: "handshake:step/config", functions: &["get"], axes: &[Axis::ConfigRead] },
    Decided { interface: "wasi:cli/environment", functions: &["get-environment"], axes: &[Axis::EnvRead] },
    Decided {
        interface: "wasi:filesystem/types",
        functions: &[
            "[method]descriptor.metadata-hash-at",
            "[method]descriptor.read-directory",
            "[method]descriptor.readlink-at",
            "[method]descriptor.stat-at",
        ],
        axes: &[Axis::FsRead],
    },
    Decided {
        interface: "wasi:filesystem/types",
        functions: &[
            "[method]descriptor.create-directory-at",
            "[method]descriptor.remove-directory-at",
            "[method]descriptor.set-times-at",
            "[method]descriptor.symlink-at",
            "[method]descriptor.unlink-file-at",
        ],
        axes: &[Axis::FsWrite],
    },
    Decided {
        interface: "wasi:filesystem/types",
        functions: &["[method]descriptor.link-at", "[method]descriptor.open-at", "[method]descriptor.rename-at"],
        axes: &[Axis::FsRead, Axis::FsWrite],
    },
    Decided { interface: "wasi:http/outgoing-handler", functions: &["handle"], axes: &[Axis::NetHttp] },
    Decided { interface: "wasi:sockets/ip-name-lookup", functions: &["resolve-addresses"], axes: &[Axis::NetDns] },
    Decided {
        interface: "wasi:sockets/tcp",
        functions: &[
            "[method]tcp-socket.start-bind",
            "[method]tcp-socket.start-connect",
            "[method]tcp-socket.start-listen",
        ],
        axes: &[Axis::NetTcp],
    },
    Decided {
        interface: "wasi:sockets/udp",
        functions: &["[method]udp-socket.start-bind", "[method]outgoing-datagram-stream.send"],
        axes: &[Axis::NetUdp],
    },
];

/// Who answers for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Each call is decided and recorded; it needs these.
    Decided(&'static [Axis]),
    /// No call is; why, and what bounds it.
    Ambient(&'static str),
}

/// A function that a step can import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import {
    /// Interface, without version.
    pub interface: &'static str,
    /// The version that this host has; others of the same `0.N` are the same to it.
    pub version: &'static str,
    /// The function, as components name it.
    pub function: &'static str,
}

impl Import {
    /// The sides that it is on: one, or both when only calls that ask for more are decided.
    pub fn sides(&self) -> impl Iterator<Item = Side> {
        let Self { interface, function, .. } = *self;
        let decided = DECIDED.iter().filter(move |row| row.interface == interface && row.functions.contains(&function));
        let ambient = AMBIENT.iter().filter(move |row| {
            row.interface == interface && (row.functions.is_empty() || row.functions.contains(&function))
        });
        decided.map(|row| Side::Decided(row.axes)).chain(ambient.map(|row| Side::Ambient(row.reason)))
    }
}

/// All of them, by interface.
pub fn imports() -> impl Iterator<Item = Import> {
    FUNCTIONS.lines().filter_map(|line| {
        let (interface, function) = line.split_once(' ')?;
        let (interface, version) = interface.split_once('@')?;
        Some(Import { interface, version, function })
    })
}
