//! The list of what was called.

use std::fmt::Debug;

use handshake_step::prelude::*;

/// One call.
#[data]
pub(crate) struct Called {
    /// For example `wasi:filesystem/types`.
    interface: String,
    /// For example `[method]descriptor.stat-at`.
    function: String,
    /// Whether it gave what it was asked for.
    ok: bool,
    /// The error, if any.
    detail: String,
}

#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) list: Vec<Called>,
}

impl Calls {
    /// Notes a call that cannot fail.
    pub(crate) fn made<T>(&mut self, interface: &str, function: &str, value: T) -> T {
        self.note(interface, function, true, String::new());
        value
    }

    /// Notes a call that can.
    pub(crate) fn tried<T, E: Debug>(&mut self, interface: &str, function: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(self.made(interface, function, value)),
            Err(error) => {
                let detail = format!("{error:?}").chars().take(120).collect();
                self.note(interface, function, false, detail);
                None
            }
        }
    }

    fn note(&mut self, interface: &str, function: &str, ok: bool, detail: String) {
        self.list.push(Called { interface: interface.to_owned(), function: function.to_owned(), ok, detail });
    }
}
