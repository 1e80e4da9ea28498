//! What was tried and how it ended, as data.

use std::fmt::Debug;
use std::io;

use handshake_step::prelude::*;
use wasip2::filesystem::types::ErrorCode;

#[data]
pub(crate) struct Attempt {
    pub(crate) what: String,
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
}

#[data]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    Denied,
    Error,
}

#[derive(Default)]
pub(crate) struct Attempts {
    pub(crate) list: Vec<Attempt>,
}

impl Attempts {
    pub(crate) fn add(&mut self, what: impl Into<String>, outcome: Outcome, detail: impl Into<String>) {
        self.list.push(Attempt { what: what.into(), outcome, detail: detail.into() });
    }

    /// A call through `handshake:step`.
    pub(crate) fn call<T: Debug>(&mut self, what: impl Into<String>, result: Result<T, CallError>) {
        match result {
            Ok(value) => self.add(what, Outcome::Ok, short(&value)),
            Err(CallError::Denied(denial)) => self.add(what, Outcome::Denied, denial.to_string()),
            Err(error) => self.add(what, Outcome::Error, error.to_string()),
        }
    }

    /// A call through the standard library.
    pub(crate) fn io<T: Debug>(&mut self, what: impl Into<String>, result: io::Result<T>) {
        match result {
            Ok(value) => self.add(what, Outcome::Ok, short(&value)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.add(what, Outcome::Denied, error.to_string());
            }
            Err(error) => self.add(what, Outcome::Error, error.to_string()),
        }
    }

    /// A call of `wasi:filesystem` itself, which the standard library would have refused to make.
    pub(crate) fn file<T: Debug>(&mut self, what: impl Into<String>, result: Result<T, ErrorCode>) {
        match result {
            Ok(value) => self.add(what, Outcome::Ok, short(&value)),
            Err(code @ (ErrorCode::Access | ErrorCode::NotPermitted)) => {
                self.add(what, Outcome::Denied, code.name());
            }
            Err(code) => self.add(what, Outcome::Error, code.name()),
        }
    }
}

fn short(value: &impl Debug) -> String {
    format!("{value:?}").chars().take(200).collect()
}
