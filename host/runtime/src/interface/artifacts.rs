//! `artifacts`: large values of the run.

use handshake_core::Digest;
use handshake_core::artifact::MAX_ARTIFACT_BYTES;
use handshake_core::capability::{Axis, Resource};

use super::from_storage;
use crate::bindings::handshake::step::artifacts::{Handle, Host};
use crate::bindings::handshake::step::types::CallError;
use crate::state::StepState;

const INTERFACE: &str = "handshake:step/artifacts@0.1.0";
/// Longer media types are no media types.
const MAX_MEDIA_TYPE_BYTES: usize = 200;

impl Host for StepState {
    async fn write(&mut self, media_type: String, content: Vec<u8>) -> wasmtime::Result<Result<Handle, CallError>> {
        let arguments = Digest::of_parts(&[media_type.as_bytes(), &content]);
        let permit = match self.permit((INTERFACE, "write"), Axis::ArtifactWrite, Resource::Whole, arguments).await {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial.into())),
        };
        let acceptable = media_type.len() <= MAX_MEDIA_TYPE_BYTES
            && media_type.contains('/')
            && media_type.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        if !acceptable || content.len() > MAX_ARTIFACT_BYTES {
            permit.failed("invalid");
            let problem = if acceptable {
                format!("an artifact has at most {MAX_ARTIFACT_BYTES} bytes")
            } else {
                "the media type is not one".to_owned()
            };
            return Ok(Err(CallError::Invalid(problem)));
        }
        let Some(run) = self.run else {
            permit.failed("invalid");
            return Ok(Err(CallError::Invalid("artifacts belong to runs, and this call does not".into())));
        };
        match self.backends.artifacts.put(&permit, run, &media_type, &content).await {
            Ok(handle) => {
                permit.succeeded(0, handle.size);
                self.metrics.entities_written += 1;
                Ok(Ok(Handle { id: handle.id.to_string(), size: handle.size, media_type: handle.media_type }))
            }
            Err(error) => {
                let (error, label) = from_storage(&error);
                permit.failed(label);
                Ok(Err(error))
            }
        }
    }

    async fn read(&mut self, id: String) -> wasmtime::Result<Result<Vec<u8>, CallError>> {
        let arguments = Digest::of_parts(&[id.as_bytes()]);
        let permit = match self.permit((INTERFACE, "read"), Axis::ArtifactRead, Resource::Whole, arguments).await {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial.into())),
        };
        let (Ok(digest), Some(run)) = (id.parse::<Digest>(), self.run) else {
            permit.failed("invalid");
            return Ok(Err(CallError::Invalid("an artifact's id has 64 hexadecimal digits".into())));
        };
        match self.backends.artifacts.get(&permit, run, digest).await {
            Ok(content) => {
                permit.succeeded(content.len() as u64, 0);
                self.metrics.entities_read += 1;
                Ok(Ok(content))
            }
            Err(error) => {
                let (error, label) = from_storage(&error);
                permit.failed(label);
                Ok(Err(error))
            }
        }
    }
}
