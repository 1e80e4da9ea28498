//! `log`: lines for whoever watches. Ambient.

use handshake_core::step::LogLevel;

use crate::bindings::handshake::step::log::{Host, Level};
use crate::state::StepState;

impl Host for StepState {
    async fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        self.voice.log(level, &message);
        Ok(())
    }
}
