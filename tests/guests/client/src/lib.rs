//! A guest that uses the network, the environment and secrets as its input says, through the standard library where
//! that has it, and returns what became of each call.

#![allow(missing_docs)]

mod requests;
mod sockets;

use std::collections::BTreeMap;

use handshake_step::prelude::*;

#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    calls: Vec<Call>,
}

#[data]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// Sends a request. In headers, URL and body `{name}` stands for a placeholder of that secret.
    Request(requests::Wanted),
    /// Connects with `std::net::TcpStream`, sends a text and reads to the end.
    Connect {
        to: String,
        #[serde(default)]
        send: String,
    },
    /// Listens with `std::net::TcpListener`.
    Listen { at: String },
    /// Binds a `std::net::UdpSocket`, sends a text, and waits for an answer if told to.
    Datagram {
        #[serde(default = "anywhere")]
        from: String,
        to: String,
        send: String,
        /// Whether it connects first.
        #[serde(default)]
        connect: bool,
        #[serde(default)]
        receive: bool,
    },
    /// Binds a `std::net::UdpSocket`.
    Bind { at: String },
    /// Looks up a name with `std::net::ToSocketAddrs`.
    Lookup { name: String },
    /// Reads all variables with `std::env`.
    Environment,
    /// Makes sockets until there are no more.
    Sockets,
}

fn anywhere() -> String {
    "0.0.0.0:0".to_owned()
}

/// What became of a call.
#[data]
#[derive(Default)]
pub struct Done {
    ok: bool,
    /// The error: `std::io::ErrorKind`, or the name of WASI's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// What came back: a body, an answer, addresses, variables.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

impl Done {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into(), ..Self::default() }
    }

    pub(crate) fn failed(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }

    pub(crate) fn io(result: std::io::Result<String>) -> Self {
        match result {
            Ok(text) => Self::text(text),
            Err(error) => Self::failed(format!("{:?}", error.kind())),
        }
    }
}

#[data]
pub struct Output {
    done: Vec<Done>,
}

#[step(capabilities = ["net.http", "net.tcp", "net.udp", "net.dns", "env.read", "secrets.use"])]
fn run(_context: Context, input: Input) -> Result<Output, StepError> {
    let mut placeholders = BTreeMap::new();
    let mut done = Vec::with_capacity(input.calls.len());
    for call in input.calls {
        done.push(match call {
            Call::Request(wanted) => requests::send(wanted, &mut placeholders)?,
            Call::Connect { to, send } => Done::io(sockets::connect(&to, &send)),
            Call::Listen { at } => Done::io(std::net::TcpListener::bind(at).map(|_| String::new())),
            Call::Datagram { from, to, send, connect, receive } => {
                Done::io(sockets::datagram(&from, &to, &send, connect, receive))
            }
            Call::Bind { at } => Done::io(std::net::UdpSocket::bind(at).map(|_| String::new())),
            Call::Lookup { name } => Done::io(sockets::look_up(&name)),
            Call::Environment => {
                let variables: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
                Done::text(variables.join("\n"))
            }
            Call::Sockets => sockets::exhaust(),
        });
    }
    Ok(Output { done })
}
