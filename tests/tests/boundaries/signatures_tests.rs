//! Signatures that the check must refuse, and some that it must not.

use super::*;

fn violations(files: &[&str]) -> Vec<String> {
    let sources: Vec<_> = files.iter().map(|text| Source::parse("sample.rs", text).unwrap()).collect();
    mentions(&sources, DRIVERS)
}

#[test]
fn driver_types_are_found_in_every_kind_of_public_signature() {
    for text in [
        "pub fn open(pool: sqlx::SqlitePool) {}",
        "pub fn open() -> Result<(), ::sqlx::Error> {}",
        "pub async fn open() -> Vec<Option<duckdb::Row<'static>>> {}",
        "pub fn open(f: impl Fn(&duckdb::Connection)) {}",
        "pub fn open<E>(e: E) where E: sqlx::Executor {}",
        "pub struct Store { pub pool: sqlx::SqlitePool }",
        "pub struct Store(pub sqlx::SqlitePool);",
        "pub struct Store<D: sqlx::Database> { d: D }",
        "#[derive(sqlx::FromRow)] pub struct Row { id: i64 }",
        "pub enum StoreError { Driver(#[from] sqlx::Error) }",
        "pub enum StoreError { Driver { source: sqlx::Error } }",
        "pub trait Store { fn pool(&self) -> &sqlx::SqlitePool; }",
        "pub trait Store: sqlx::Executor {}",
        "pub trait Store { type Row: sqlx::Row; }",
        "pub type Pool = sqlx::SqlitePool;",
        "pub const POOL: Option<sqlx::SqlitePool> = None;",
        "pub static POOL: Option<sqlx::SqlitePool> = None;",
        "pub use sqlx::SqlitePool;",
        "pub use sqlx;",
        "pub use sqlx::*;",
        "pub extern crate sqlx;",
        "pub struct Store; impl Store { pub fn pool(&self) -> sqlx::SqlitePool {} }",
        "pub struct Store; impl From<sqlx::Error> for Store {}",
        "pub struct Store; impl sqlx::Type<sqlx::Sqlite> for Store {}",
        "pub struct Store; impl Deref for Store { type Target = sqlx::SqlitePool; }",
        "mod inner { pub fn open(pool: sqlx::SqlitePool) {} }",
        "make! { pub fn open(pool: sqlx::SqlitePool) {} }",
        "macro_rules! make { () => { pub fn open(pool: sqlx::SqlitePool) {} } }",
    ] {
        assert!(!violations(&[text]).is_empty(), "{text}");
    }
}

#[test]
fn driver_types_are_found_under_other_names() {
    for files in [
        &["use sqlx::SqlitePool; pub fn open(pool: SqlitePool) {}"][..],
        &["use sqlx::{Error, SqlitePool as Pool}; pub fn open(pool: &Pool) {}"],
        &["use sqlx as db; pub fn open(pool: db::SqlitePool) {}"],
        &["extern crate sqlx as db; pub fn open(pool: db::SqlitePool) {}"],
        &["use sqlx::sqlite::{self}; pub fn open(pool: self::sqlite::SqlitePool) {}", "pub(crate) use sqlx::sqlite;"],
        &["use sqlx::{self, Row}; pub fn open(pool: sqlx::SqlitePool) {}"],
        &["use sqlx::prelude::*; pub fn open() {}"],
        &["type Pool = sqlx::SqlitePool; pub fn open(pool: Pool) {}"],
        &["pub(crate) type Pool = sqlx::SqlitePool;", "use super::*; pub fn open(pool: Pool) {}"],
        &["pub(crate) use sqlx::SqlitePool as Pool;", "use crate::pool::Pool; pub fn open(pool: Pool) {}"],
        &["pub(crate) use sqlx::SqlitePool as Pool;", "pub fn open(pool: crate::pool::Pool) {}"],
        &[
            "pub(crate) type A = sqlx::SqlitePool;",
            "use super::A; pub(crate) type B = Vec<A>;",
            "use crate::b::B; pub fn f(b: B) {}",
        ],
    ] {
        assert!(!violations(files).is_empty(), "{files:?}");
    }
}

#[test]
fn driver_types_behind_a_public_signature_are_nobodys_business() {
    for text in [
        "use sqlx::SqlitePool; pub struct Store { pool: SqlitePool }",
        "use sqlx::sqlite::{self}; pub struct Store; impl Store { pub fn open(self) {} }",
        "use sqlx::Row; pub fn open() { let row: Row = get(); sqlx::query(\"\"); }",
        "pub(crate) fn open(pool: sqlx::SqlitePool) {}",
        "fn open(pool: sqlx::SqlitePool) {}",
        "struct Inner; impl From<sqlx::Error> for Inner {}",
        "struct Inner; impl Inner { pub fn new(pool: sqlx::SqlitePool) {} }",
        "pub enum StoreError { Driver(Box<dyn std::error::Error>) }",
        "macro_rules! query { ($text:literal) => { sqlx::query($text) } }",
        "macro_rules! make { () => { pub(crate) fn open(pool: sqlx::SqlitePool) {} } }",
        "pub fn open(name: my::sqlx) {}",
        "#[cfg(test)] mod tests { pub fn open(pool: sqlx::SqlitePool) {} }",
    ] {
        assert_eq!(violations(&[text]), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn errors_without_a_type_are_found() {
    let sample = Source::parse("sample.rs", "use anyhow::Result; pub fn open() -> Result<()> {}").unwrap();
    assert_eq!(mentions(&[sample], &["anyhow"]), ["sample.rs: fn open shows `Result`"]);
}

#[test]
fn untyped_json_that_is_not_listed_is_found() {
    let text = "pub struct Job { pub inputs: Value, pub extra: Option<serde_json::Value>, hidden: Value }
                pub enum Operation { Raw(serde_json::Value), Named { body: Value } }";
    let sample = || Source::parse("sample.rs", text).unwrap();
    let found = untyped_json(&[sample()], &["Job.inputs"]);
    assert_eq!(
        found,
        ["Job.extra", "Operation.Raw", "Operation.Named.body"]
            .map(|place| format!("sample.rs: {place} holds untyped JSON"))
    );
}
