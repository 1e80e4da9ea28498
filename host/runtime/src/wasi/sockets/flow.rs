//! What goes through a connection: the permit stays with its streams, and its outcome says how much it was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use handshake_core::gate::Permit;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError};

/// Finished when the last stream of it is gone.
pub(super) struct Flow {
    permit: Mutex<Option<Permit>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Flow {
    pub(super) fn new(permit: Permit) -> Arc<Self> {
        Arc::new(Self {
            permit: Mutex::new(Some(permit)),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
        })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            permit.succeeded(*self.bytes_in.get_mut(), *self.bytes_out.get_mut());
        }
    }
}

/// What comes in.
pub(super) struct CountedInput {
    pub(super) inner: DynInputStream,
    pub(super) flow: Arc<Flow>,
}

#[async_trait]
impl InputStream for CountedInput {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let bytes = self.inner.read(size)?;
        self.flow.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait]
impl Pollable for CountedInput {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

/// What goes out.
pub(super) struct CountedOutput {
    pub(super) inner: DynOutputStream,
    pub(super) flow: Arc<Flow>,
}

#[async_trait]
impl OutputStream for CountedOutput {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let length = bytes.len() as u64;
        self.inner.write(bytes)?;
        self.flow.bytes_out.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait]
impl Pollable for CountedOutput {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}
