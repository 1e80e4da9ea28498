//! `progress`: how far the step is. Ambient.

use crate::bindings::handshake::step::progress::Host;
use crate::state::StepState;

impl Host for StepState {
    async fn report(&mut self, done: u64, total: Option<u64>, message: String) -> wasmtime::Result<()> {
        self.voice.progress(done, total, &message);
        Ok(())
    }
}
