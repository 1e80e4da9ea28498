//! A guest that calls every function of `handshake:step` and of WASI 0.2 that a component can name, whatever comes
//! of it, and returns what it called. The host's test compares the list, its trace spans and its decision records.
//!
//! `exit` is missing: nothing comes after it. Methods of sockets and of responses are called as far as the host
//! hands out such things.

#![allow(missing_docs)]

mod calls;
mod files;
mod host;
mod network;
mod plumbing;

use handshake_step::prelude::*;

use calls::{Called, Calls};

#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A document to read and propose to.
    #[serde(default = "default_document")]
    document: String,
    /// A model to ask.
    #[serde(default = "default_model")]
    model: String,
    /// Where sockets and requests go: an IPv4 address's port on 127.0.0.1.
    #[serde(default = "default_port")]
    port: u16,
}

fn default_document() -> String {
    "doc-1".to_owned()
}

fn default_model() -> String {
    "default".to_owned()
}

fn default_port() -> u16 {
    9
}

#[data]
pub struct Output {
    /// In the order of the calls.
    called: Vec<Called>,
}

#[step(capabilities = [
    "fs.read", "fs.write", "net.http", "net.tcp", "net.udp", "net.dns", "env.read", "secrets.use", "model.infer",
    "model.embed", "doc.read", "doc.propose", "artifact.read", "artifact.write", "config.read",
])]
fn run(_context: Context, input: Input) -> Result<Output, StepError> {
    let mut calls = Calls::default();
    host::all(&mut calls, &input.document, &input.model);
    plumbing::all(&mut calls);
    files::all(&mut calls);
    network::all(&mut calls, input.port);
    Ok(Output { called: calls.list })
}
