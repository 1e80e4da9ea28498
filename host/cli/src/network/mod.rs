//! The host on the network: where it listens, who is let in, and what it says before it is ready.

pub(crate) mod door;
pub(crate) mod gateway;
mod headers;
pub(crate) mod health;
mod listener;
mod metrics;
mod rate;
pub(crate) mod settings;

pub(crate) use gateway::Gateway;
pub(crate) use listener::{listen, raise_descriptor_limit};
pub(crate) use settings::{Address, NetworkFile, NetworkSettings};
