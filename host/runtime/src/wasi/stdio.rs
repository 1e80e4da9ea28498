//! Standard output and error: lines for whoever watches, or kept as a program's output; bounded by the attempt's output
//! limit.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
pub(crate) struct Written(Arc<Shared>);

struct Shared {
    /// Who hears each line; none when all of it is kept.
    heard: Option<(LogLevel, Voice)>,
    limit: u64,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    bytes: u64,
    /// What was kept, or has not become a line yet.
    pending: Vec<u8>,
    last_line: String,
}

impl Shared {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn line(&mut self, (level, voice): &(LogLevel, Voice)) {
        let line = std::mem::take(&mut self.pending);
        self.last_line = cut(&String::from_utf8_lossy(&line), LINE_BYTES).to_owned();
        voice.log(*level, &self.last_line);
    }
}

impl Written {
    /// A stream whose lines are heard.
    pub(crate) fn heard(level: LogLevel, voice: Voice, limit_kb: u32) -> Self {
        Self::new(Some((level, voice)), limit_kb)
    }

    /// A stream that is kept.
    pub(crate) fn kept(limit_kb: u32) -> Self {
        Self::new(None, limit_kb)
    }

    fn new(heard: Option<(LogLevel, Voice)>, limit_kb: u32) -> Self {
        Self(Arc::new(Shared { heard, limit: u64::from(limit_kb) << 10, content: Mutex::default() }))
    }

    /// What was kept.
    pub(crate) fn take_all(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.content().pending)
    }

    /// Has what came last be heard even if no line break followed, and returns the last line.
    pub(crate) fn finish(&self) -> String {
        let mut content = self.0.content();
        if let Some(heard) = self.0.heard.as_ref().filter(|_| !content.pending.is_empty()) {
            content.line(heard);
        }
        std::mem::take(&mut content.last_line)
    }

    fn take(&self, bytes: &[u8]) -> Result<(), LimitExceeded> {
        let mut content = self.0.content();
        content.bytes += bytes.len() as u64;
        if content.bytes > self.0.limit {
            let detail = format!(
                "{} KiB may be written to standard output; raise limits.output_kb in plugin.toml if the plugin really needs more",
                self.0.limit >> 10
            );
            return Err(LimitExceeded::new("output_kb", detail));
        }
        let Some(heard) = &self.0.heard else {
            content.pending.extend_from_slice(bytes);
            return Ok(());
        };
        for byte in bytes {
            if *byte == b'\n' || content.pending.len() >= LINE_BYTES {
                content.line(heard);
            }
            if *byte != b'\n' {
                content.pending.push(*byte);
            }
        }
        Ok(())
    }
}

impl IsTerminal for Written {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Written {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Written {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Written {
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

impl AsyncWrite for Written {
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
