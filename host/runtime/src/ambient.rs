//! The published list of imports that are not decided call by call, each with its reason.
//!
//! Everything else that a step can import makes a decision record for every call; a test compares the two with
//! the bindings' own trace spans, one to one.

/// Imports without a decision of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambient {
    /// Interface, without version.
    pub interface: &'static str,
    /// Functions; empty for all of the interface.
    pub functions: &'static [&'static str],
    /// Why none is needed, and what bounds it.
    pub reason: &'static str,
}

/// The list.
pub const AMBIENT: &[Ambient] = &[
    Ambient {
        interface: "handshake:step/log",
        functions: &[],
        reason: "lines for whoever watches; 1,000 lines and 256 KiB an attempt",
    },
    Ambient {
        interface: "handshake:step/progress",
        functions: &[],
        reason: "numbers for whoever watches; at most one report each 50 ms is passed on",
    },
    Ambient { interface: "wasi:io/error", functions: &[], reason: "text of an error that the guest already has" },
    Ambient { interface: "wasi:io/poll", functions: &[], reason: "waiting, within the attempt's deadline" },
    Ambient {
        interface: "wasi:io/streams",
        functions: &[],
        reason: "bytes of a file that a decision opened, or of standard output, bounded by output_kb",
    },
    Ambient {
        interface: "wasi:clocks/wall-clock",
        functions: &[],
        reason: "starts at the recorded start of the attempt",
    },
    Ambient {
        interface: "wasi:clocks/monotonic-clock",
        functions: &[],
        reason: "time since the start of the attempt; timers end with its deadline",
    },
    Ambient {
        interface: "wasi:random/random",
        functions: &[],
        reason: "a generator whose seed is recorded with the attempt; 1 MiB a call",
    },
    Ambient {
        interface: "wasi:random/insecure",
        functions: &[],
        reason: "a generator whose seed is recorded with the attempt; 1 MiB a call",
    },
    Ambient {
        interface: "wasi:random/insecure-seed",
        functions: &[],
        reason: "derived from the attempt's recorded seed",
    },
    Ambient {
        interface: "wasi:cli/environment",
        functions: &["get-arguments", "initial-cwd"],
        reason: "arguments that the step's input gives a program; else empty",
    },
    Ambient { interface: "wasi:cli/exit", functions: &[], reason: "ends the attempt, as an error" },
    Ambient {
        interface: "wasi:cli/stdin",
        functions: &[],
        reason: "text that the step's input gives a program; else empty",
    },
    Ambient {
        interface: "wasi:cli/stdout",
        functions: &[],
        reason: "a program's output, else lines for whoever watches; bounded by output_kb",
    },
    Ambient { interface: "wasi:cli/stderr", functions: &[], reason: "lines for whoever watches; bounded by output_kb" },
    Ambient { interface: "wasi:cli/terminal-input", functions: &[], reason: "there is never a terminal" },
    Ambient { interface: "wasi:cli/terminal-output", functions: &[], reason: "there is never a terminal" },
    Ambient { interface: "wasi:cli/terminal-stdin", functions: &[], reason: "there is never a terminal" },
    Ambient { interface: "wasi:cli/terminal-stdout", functions: &[], reason: "there is never a terminal" },
    Ambient { interface: "wasi:cli/terminal-stderr", functions: &[], reason: "there is never a terminal" },
    Ambient {
        interface: "wasi:filesystem/preopens",
        functions: &[],
        reason: "names of the mounts that the step's own grants gave it",
    },
    Ambient {
        interface: "wasi:filesystem/types",
        functions: &[
            "filesystem-error-code",
            "[method]descriptor.advise",
            "[method]descriptor.append-via-stream",
            "[method]descriptor.get-flags",
            "[method]descriptor.get-type",
            "[method]descriptor.is-same-object",
            "[method]descriptor.metadata-hash",
            "[method]descriptor.read",
            "[method]descriptor.read-via-stream",
            "[method]descriptor.set-size",
            "[method]descriptor.set-times",
            "[method]descriptor.stat",
            "[method]descriptor.sync",
            "[method]descriptor.sync-data",
            "[method]descriptor.write",
            "[method]descriptor.write-via-stream",
            "[method]directory-entry-stream.read-directory-entry",
        ],
        reason: "works on what an open decision has given, with the rights of that decision; on a mount's own folder it shows metadata and changes nothing",
    },
    Ambient {
        interface: "wasi:sockets/instance-network",
        functions: &[],
        reason: "a token without which no look-up can be asked for; the look-up is decided",
    },
    Ambient {
        interface: "wasi:sockets/network",
        functions: &[],
        reason: "text of an error that the guest already has",
    },
    Ambient {
        interface: "wasi:sockets/tcp",
        functions: &[],
        reason: "methods of a socket; the creation of each socket is decided",
    },
    Ambient {
        interface: "wasi:sockets/udp",
        functions: &[],
        reason: "methods of a socket; the creation of each socket is decided",
    },
    Ambient {
        interface: "wasi:sockets/ip-name-lookup",
        functions: &["[method]resolve-address-stream.resolve-next-address", "[method]resolve-address-stream.subscribe"],
        reason: "results of a look-up; the look-up is decided",
    },
    Ambient {
        interface: "wasi:http/types",
        functions: &[],
        reason: "builds requests and reads responses; sending a request is decided",
    },
];

/// Whether a function needs no decision of its own. Dropping a handle never does.
pub fn is_ambient(interface: &str, function: &str) -> bool {
    function.starts_with("[drop]")
        || function.starts_with("[resource-drop]")
        || AMBIENT.iter().any(|entry| {
            entry.interface == interface && (entry.functions.is_empty() || entry.functions.contains(&function))
        })
}
