//! `handshake serve` on the network: who is let in, what it says before it is ready and while its database is away, and
//! what it does with clients that mean no good.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::print_stderr)]

mod clients;
mod door;
mod live;
mod openapi;
mod start;
mod tls;
