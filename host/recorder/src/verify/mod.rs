//! Proof that the record is what was recorded: the whole of it, and one event of it.

mod proof;
mod walk;

pub(crate) use proof::prove;
pub use proof::{Proof, ProofError, Proved, check_proof};
pub(crate) use walk::Verifier;
pub use walk::{Finding, Verification};
