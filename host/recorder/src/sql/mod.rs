//! SQL over the record, for reviewers: read-only, over documented views, in a process of its own.
//!
//! Four walls stand between a query and everything else. The statement must be one SELECT by DuckDB's own parser, and
//! name nothing but the views ([`statement`]). DuckDB is told to open no file but the copies, to load nothing, and to let
//! nobody change that ([`session`]). The process has no environment, no secrets, no connection to the recorder's files,
//! and limits of the operating system ([`run_query`]). And whoever started it ends it when its time is over.

mod copies;
mod session;
mod statement;
mod views;

pub use copies::RecordCopy;
pub use session::{QueryColumn, QueryLine, QueryProblem, QueryRequest, run_query};
pub use views::{VIEWS, View, ViewColumn};
