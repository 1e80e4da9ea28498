//! Standard output and error: lines for whoever watches, bounded by the attempt's output limit.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use handshake_core::step::LogLevel;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

use crate::limits::LimitExceeded;
use crate::observer::{Voice, cut};

/// Bytes that one write may bring, so that the guest feels backpressure rather than the host memory.
const WRITE_BYTES: usize = 64 << 10;
/// A line that grows longer is passed on in parts.
const LINE_BYTES: usize = 4 << 10;

/// One of a guest's two output streams.
#[derive(Clone)]
pub(crate) struct Lines {
    level: LogLevel,
    voice: Voice,
    shared: Arc<Mutex<Written>>,
    limit: u64,
}

#[derive(Default)]
struct Written {
    bytes: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(level: LogLevel, voice: Voice, limit_kb: u32) -> Self {
        Self { level, voice, shared: Arc::default(), limit: u64::from(limit_kb) << 10 }
    }

    fn take(&self, bytes: &[u8]) -> Result<(), LimitExceeded> {
        let mut written = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        written.bytes += bytes.len() as u64;
        if written.bytes > self.limit {
            let detail = format!(
                "{} KiB may be written to standard output; raise limits.output_kb in plugin.toml if the plugin really needs more",
                self.limit >> 10
            );
            return Err(LimitExceeded::new("output_kb", detail));
        }
        for byte in bytes {
            if *byte == b'\n' || written.line.len() >= LINE_BYTES {
                let line = std::mem::take(&mut written.line);
                self.voice.log(self.level, cut(&String::from_utf8_lossy(&line), LINE_BYTES));
            }
            if *byte != b'\n' {
                written.line.push(*byte);
            }
        }
        Ok(())
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.take(&bytes).map_err(|limit| StreamError::Trap(limit.into()))
    }
    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }
    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.take(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
