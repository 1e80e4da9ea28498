//! The SQL of the storage layer means the same on both backends: the rules, checked on the real tree, and shown a
//! violation of each.

#![allow(clippy::unwrap_used, clippy::panic)]

mod audit;

use std::path::Path;

use audit::violations;

const TABLE: &str = "-- Not a PRAGMA, is it?
CREATE TABLE IF NOT EXISTS t (
    a TEXT NOT NULL DEFAULT 'now()' PRIMARY KEY,
    b BIGINT CHECK (b >= 0), /* ROWID */
    c BOOLEAN,
    d DOUBLE PRECISION
);

CREATE INDEX IF NOT EXISTS t_by_b ON t (b, a);
";

const SOURCE: &str = r##"//! Statements; no `PRAGMA` here.
macro_rules! columns {
    () => {
        "a, b, c"
    };
}
const GET: &str = concat!("SELECT ", columns!(), " FROM t WHERE a = $1 -- what? \n");
const PUT: &str = "INSERT INTO t (a, b) VALUES ($1, $2) \
     ON CONFLICT (a) DO UPDATE SET b = excluded.b";
/// Waits for RETURNING from now().
#[doc = "SELECT now()"]
fn f() {
    let message = "select? now() that was not a statement";
    let quoted = r#"SELECT 'now() :: ?' FROM t LEFT JOIN u ON t.now = u.a"#;
    fail("update the run's time: now()");
    assert(word == "CREATE");
    statement.push_str(" SET b = $1");
}
#[cfg(test)]
mod tests {
    const ASK: &str = "PRAGMA page_size";
}
"##;

/// A checkout that follows the rules.
fn clean() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("migrations/0001_t.sql", TABLE),
        ("migrations/0001_t.down.sql", "DROP INDEX IF EXISTS t_by_b;\n\nDROP TABLE IF EXISTS t;\n"),
        ("migrations/0002_e.sql", "ALTER TABLE t ADD COLUMN e BIGINT;\n"),
        ("migrations/0002_e.down.sql", "ALTER TABLE t DROP COLUMN e;\n"),
        ("host/storage/src/jobs.rs", SOURCE),
        ("host/storage/src/jobs_tests.rs", "const A: &str = \"PRAGMA a\";"),
        ("host/storage/src/sqlite.rs", "const A: &str = \"PRAGMA a\";"),
        ("host/storage/src/postgres.rs", "const A: &str = \"SELECT now()\";"),
        ("host/storage/src/dialect/postgres.rs", "const A: &str = \"SELECT a::TEXT\";"),
    ] {
        write(root.path(), path, text);
    }
    root
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Asserts that a file in an otherwise clean checkout is reported, on one line alone, for what is expected.
#[track_caller]
fn assert_reported(path: &str, text: &str, line: usize, expected: &str) {
    let root = clean();
    write(root.path(), path, text);
    let found = violations(root.path()).unwrap();
    let place = format!("{path}:{line}: ");
    assert!(!found.is_empty() && found.iter().all(|found| found.starts_with(&place)), "{text}\n{found:?}");
    assert!(found.iter().any(|found| found.contains(expected)), "{text}\n{found:?}");
}

#[test]
fn the_sql_of_the_storage_layer_is_portable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found = violations(root).unwrap();
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_checkout_that_follows_the_rules_passes() {
    assert_eq!(violations(clean().path()).unwrap(), Vec::<String>::new());
}

#[test]
fn statements_of_one_backend_are_found_in_sources() {
    for (sql, expected) in [
        ("PRAGMA page_size", "PRAGMA"),
        ("SELECT strftime('%s', $1)", "STRFTIME"),
        ("SELECT datetime($1)", "DATETIME"),
        ("SELECT julianday($1)", "JULIANDAY"),
        ("SELECT CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
        ("UPDATE t SET b = now()", "NOW"),
        ("CREATE TRIGGER x", "TRIGGER"),
        ("SELECT rowid FROM t", "ROWID"),
        ("SELECT \\\"rowid\\\" FROM t", "ROWID"),
        ("SELECT a FROM t WHERE a = ?", "placeholders"),
        ("SELECT a FROM t WHERE a = ?1", "placeholders"),
        ("SELECT a FROM t WHERE a = :a", "placeholders"),
        ("SELECT a FROM t WHERE a = @a", "placeholders"),
        ("INSERT OR REPLACE INTO t (a) VALUES ($1)", "INSERT OR"),
        ("INSERT OR IGNORE INTO t (a) VALUES ($1)", "INSERT OR"),
        ("REPLACE INTO t (a) VALUES ($1)", "REPLACE"),
        ("INSERT INTO t (a) VALUES ($1) RETURNING b", "RETURNING"),
        ("SELECT a FROM t WHERE a ILIKE $1", "ILIKE"),
        ("SELECT a FROM t WHERE a LIKE $1", "LIKE"),
        ("SELECT a FROM t WHERE a GLOB $1", "GLOB"),
        ("SELECT b::TEXT FROM t", "::"),
        ("SELECT CAST(a AS INTEGER) FROM t", "INTEGER"),
        ("SELECT a->>'b' FROM t", "->>"),
        ("SELECT lower(a) FROM t", "LOWER"),
        ("SELECT instr(a, 'x') FROM t", "INSTR"),
        ("SELECT group_concat(a) FROM t", "GROUP_CONCAT"),
        ("SELECT random()", "RANDOM"),
        ("VACUUM", "VACUUM"),
        ("NOTIFY x", "NOTIFY"),
        ("CREATE TABLE u (a TEXT)", "belongs in a migration"),
        // In small letters, in pieces, and in second place.
        ("insert  into t (a) values (?)", "placeholders"),
        ("update t set a = now()", "NOW"),
        (" AND a = ?", "placeholders"),
        (" ORDER BY rowid", "ROWID"),
        ("a, b, rowid", "ROWID"),
        ("SELECT 1; PRAGMA page_size", "PRAGMA"),
        ("SELECT 'x", "cannot be read"),
    ] {
        assert_reported("host/storage/src/deep/er.rs", &format!("\nconst A: &str = \"{sql}\";\n"), 2, expected);
    }
}

#[test]
fn statements_are_found_wherever_they_stand_in_a_source() {
    for text in [
        "//\nfn f() { query(\"PRAGMA a\") }",
        "//\nmacro_rules! m { () => { \"PRAGMA a\" } }",
        "//\nfn f() { let a = format!(concat!(\"PRAGMA a\", \"{}\"), 1); }",
        "//\nimpl A { const B: [&str; 1] = [\"PRAGMA a\"]; }",
        "//\nfn f() { g(|| async { r#\"PRAGMA a\"# }) }",
        "//\nmod inner { static A: &str = \"PRAGMA a\"; }",
        "//\n#[cfg(not(test))] fn f() { \"PRAGMA a\" }",
        "const A: &str = r\"SELECT a\nFROM pragma WHERE a = $1\";",
    ] {
        assert_reported("host/storage/src/other.rs", text, 2, "PRAGMA");
    }
}

#[test]
fn what_a_migration_must_not_say_is_found() {
    for (sql, expected) in [
        ("CREATE TABLE u (\na INTEGER\n);", "INTEGER"),
        ("CREATE TABLE u (\na REAL\n);", "REAL"),
        ("CREATE TABLE u (\na DATETIME\n);", "DATETIME"),
        ("CREATE TABLE u (\na SERIAL\n);", "SERIAL"),
        ("CREATE TABLE u (\na JSONB\n);", "JSONB"),
        ("CREATE TABLE u (\na VARCHAR(20)\n);", "VARCHAR"),
        ("\nCREATE TABLE u (a);", "cannot be read"),
        ("\nALTER TABLE t ADD COLUMN u BLOB;", "BLOB"),
        ("CREATE TABLE u (a BIGINT\nPRIMARY KEY AUTOINCREMENT);", "AUTOINCREMENT"),
        ("CREATE TABLE u (a BIGINT\nDEFAULT CURRENT_TIMESTAMP);", "CURRENT_TIMESTAMP"),
        ("\nINSERT INTO t (a) VALUES ('x');", "data is the host's"),
        ("\nUPDATE t SET a = 'x';", "data is the host's"),
        ("\nDELETE FROM t;", "data is the host's"),
        ("\nCREATE TABLE u AS SELECT a FROM t;", "data is the host's"),
        ("\nCREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1 END", "TRIGGER"),
        ("\nPRAGMA foreign_keys = ON;", "PRAGMA"),
        ("\nCREATE TABEL u (a TEXT);", "cannot be read"),
        ("DROP TABLE u;\nDROP TABLE v;\r\n", "carriage return"),
    ] {
        assert_reported("migrations/0002_e.sql", sql, 2, expected);
        assert_reported("migrations/0002_e.down.sql", sql, 2, expected);
    }
}

#[test]
fn migrations_that_are_misnumbered_or_without_their_other_half_are_found() {
    let add = "ALTER TABLE t ADD COLUMN f TEXT;\n";
    assert_reported("migrations/0003_f.sql", add, 1, "`0003_f.down.sql` is missing");
    assert_reported("migrations/0003_f.down.sql", add, 1, "`0003_f.sql` is missing");
    assert_reported("migrations/notes.txt", "", 1, "not named");
    assert_reported("migrations/3_f.sql", add, 1, "not named");
    for (number, expected) in [("0004_f", "number 3 is missing"), ("0002_f", "number 2 is taken")] {
        let root = clean();
        for suffix in [".sql", ".down.sql"] {
            write(root.path(), &format!("migrations/{number}{suffix}"), add);
        }
        let found = violations(root.path()).unwrap();
        assert!(found.iter().any(|found| found.contains(expected)), "{found:?}");
    }
}
