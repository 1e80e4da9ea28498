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
    /// Whether the same functions are decided, too, when they are asked for more than that.
    pub or_decided: bool,
}

/// The list.
pub const AMBIENT: &[Ambient] = &[
    Ambient {
        interface: "handshake:step/log",
        functions: &[],
        reason: "lines for whoever watches; 1,000 lines and 256 KiB an attempt",
        or_decided: false,
    },
    Ambient {
        interface: "handshake:step/progress",
        functions: &[],
        reason: "numbers for whoever watches; at most one report each 50 ms is passed on",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:io/error",
        functions: &[],
        reason: "text of an error that the guest already has",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:io/poll",
        functions: &[],
        reason: "waiting, within the attempt's deadline",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:io/streams",
        functions: &[],
        reason: "bytes of a file, a connection or a body that a decision opened, or of standard output, bounded by output_kb",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:clocks/wall-clock",
        functions: &[],
        reason: "starts at the recorded start of the attempt",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:clocks/monotonic-clock",
        functions: &[],
        reason: "time since the start of the attempt; timers end with its deadline",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:random/random",
        functions: &[],
        reason: "a generator whose seed is recorded with the attempt; 1 MiB a call",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:random/insecure",
        functions: &[],
        reason: "a generator whose seed is recorded with the attempt; 1 MiB a call",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:random/insecure-seed",
        functions: &[],
        reason: "derived from the attempt's recorded seed",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:cli/environment",
        functions: &["get-arguments", "initial-cwd"],
        reason: "arguments that the step's input gives a program; else empty",
        or_decided: false,
    },
    Ambient { interface: "wasi:cli/exit", functions: &[], reason: "ends the attempt, as an error", or_decided: false },
    Ambient {
        interface: "wasi:cli/stdin",
        functions: &[],
        reason: "text that the step's input gives a program; else empty",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:cli/stdout",
        functions: &[],
        reason: "a program's output, else lines for whoever watches; bounded by output_kb",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:cli/stderr",
        functions: &[],
        reason: "lines for whoever watches; bounded by output_kb",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:cli/terminal-input",
        functions: &[],
        reason: "there is never a terminal",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:cli/terminal-output",
        functions: &[],
        reason: "there is never a terminal",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:cli/terminal-stdin",
        functions: &[],
        reason: "there is never a terminal",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:cli/terminal-stdout",
        functions: &[],
        reason: "there is never a terminal",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:cli/terminal-stderr",
        functions: &[],
        reason: "there is never a terminal",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:filesystem/preopens",
        functions: &[],
        reason: "names of the mounts that the step's own grants gave it",
        or_decided: false,
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
        or_decided: false,
    },
    Ambient {
        interface: "wasi:sockets/instance-network",
        functions: &[],
        reason: "a token without which no look-up can be asked for; the look-up is decided",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:sockets/network",
        functions: &[],
        reason: "text of an error that the guest already has",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:sockets/tcp-create-socket",
        functions: &[],
        reason: "a socket that reaches nothing; 64 at the same time",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:sockets/udp-create-socket",
        functions: &[],
        reason: "a socket that reaches nothing; 64 at the same time",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:sockets/tcp",
        functions: &["[method]tcp-socket.start-bind", "[method]tcp-socket.start-listen"],
        reason: "a bind to a port that the system chooses, which nobody reaches before it listens; a socket that is bound to nothing does not listen",
        or_decided: true,
    },
    Ambient {
        interface: "wasi:sockets/tcp",
        functions: &[
            "[method]tcp-socket.finish-bind",
            "[method]tcp-socket.finish-connect",
            "[method]tcp-socket.finish-listen",
            "[method]tcp-socket.accept",
            "[method]tcp-socket.local-address",
            "[method]tcp-socket.remote-address",
            "[method]tcp-socket.is-listening",
            "[method]tcp-socket.address-family",
            "[method]tcp-socket.set-listen-backlog-size",
            "[method]tcp-socket.keep-alive-enabled",
            "[method]tcp-socket.set-keep-alive-enabled",
            "[method]tcp-socket.keep-alive-idle-time",
            "[method]tcp-socket.set-keep-alive-idle-time",
            "[method]tcp-socket.keep-alive-interval",
            "[method]tcp-socket.set-keep-alive-interval",
            "[method]tcp-socket.keep-alive-count",
            "[method]tcp-socket.set-keep-alive-count",
            "[method]tcp-socket.hop-limit",
            "[method]tcp-socket.set-hop-limit",
            "[method]tcp-socket.receive-buffer-size",
            "[method]tcp-socket.set-receive-buffer-size",
            "[method]tcp-socket.send-buffer-size",
            "[method]tcp-socket.set-send-buffer-size",
            "[method]tcp-socket.subscribe",
            "[method]tcp-socket.shutdown",
        ],
        reason: "methods of a socket whose connection, or whose port, was decided; they reach nothing else",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:sockets/udp",
        functions: &["[method]udp-socket.start-bind", "[method]outgoing-datagram-stream.send"],
        reason: "a bind to a port that the system chooses, over which only answers come in; a list without datagrams",
        or_decided: true,
    },
    Ambient {
        interface: "wasi:sockets/udp",
        functions: &[
            "[method]udp-socket.finish-bind",
            "[method]udp-socket.stream",
            "[method]udp-socket.local-address",
            "[method]udp-socket.remote-address",
            "[method]udp-socket.address-family",
            "[method]udp-socket.unicast-hop-limit",
            "[method]udp-socket.set-unicast-hop-limit",
            "[method]udp-socket.receive-buffer-size",
            "[method]udp-socket.set-receive-buffer-size",
            "[method]udp-socket.send-buffer-size",
            "[method]udp-socket.set-send-buffer-size",
            "[method]udp-socket.subscribe",
            "[method]incoming-datagram-stream.receive",
            "[method]incoming-datagram-stream.subscribe",
            "[method]outgoing-datagram-stream.check-send",
            "[method]outgoing-datagram-stream.subscribe",
        ],
        reason: "methods of a socket, which send nothing: each datagram is decided, and only answers come in unless a port was",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:sockets/ip-name-lookup",
        functions: &["[method]resolve-address-stream.resolve-next-address", "[method]resolve-address-stream.subscribe"],
        reason: "results of a look-up; the look-up is decided",
        or_decided: false,
    },
    Ambient {
        interface: "wasi:http/types",
        functions: &[],
        reason: "builds requests and reads responses; sending a request is decided",
        or_decided: false,
    },
];

fn entry(interface: &str, function: &str) -> Option<&'static Ambient> {
    AMBIENT.iter().find(|entry| {
        entry.interface == interface && (entry.functions.is_empty() || entry.functions.contains(&function))
    })
}

/// Whether a function needs no decision of its own, at least not always. Dropping a handle never does.
pub fn is_ambient(interface: &str, function: &str) -> bool {
    function.starts_with("[drop]") || function.starts_with("[resource-drop]") || entry(interface, function).is_some()
}

/// Whether a function needs a decision of its own, at least at times.
pub fn is_decided(interface: &str, function: &str) -> bool {
    !is_ambient(interface, function) || entry(interface, function).is_some_and(|entry| entry.or_decided)
}
