//! The tables of the DuckDB file and their versions.
//!
//! No secondary indexes: DuckDB keeps minimum and maximum per row group, and rows arrive in order of time. Ids are
//! UUIDs of version 7, which begin with a time too; as UUIDs, not as texts, DuckDB compares all of their bytes, so that
//! a search for one reads the few row groups that were written while it was in use.

use duckdb::Connection;

/// One step per version, in order; each runs once, in a transaction with its entry in `recorder_versions`. Never
/// edited once released: an older file is brought up step by step (R6.9).
const STEPS: &[&str] = &[TEXTS, IDS_SURFACE_WORKSPACES, FIRST_AND_GAPS];

/// Version 1: all ids as text.
const TEXTS: &str = r#"
    CREATE TABLE events (
        host VARCHAR NOT NULL,
        seq BIGINT NOT NULL,
        recorded_at BIGINT NOT NULL,
        hash VARCHAR NOT NULL,
        event_id VARCHAR NOT NULL,
        trace_id VARCHAR,
        "timestamp" BIGINT,
        actor_kind VARCHAR,
        actor_id VARCHAR,
        plugin VARCHAR,
        event_type VARCHAR,
        job_id VARCHAR,
        run_id VARCHAR,
        step_id VARCHAR,
        model_id VARCHAR,
        activity_span_id VARCHAR,
        session_span_id VARCHAR,
        capability_id VARCHAR,
        policy_decision_id VARCHAR,
        decision_outcome VARCHAR,
        reason VARCHAR,
        layer VARCHAR,
        would_deny BOOLEAN,
        interface VARCHAR,
        function VARCHAR,
        resource VARCHAR,
        attempt BIGINT,
        call BIGINT,
        result VARCHAR,
        duration_us BIGINT,
        record VARCHAR NOT NULL
    );
    CREATE TABLE "cursor" (host VARCHAR NOT NULL, seq BIGINT NOT NULL, hash VARCHAR NOT NULL, recorded_at BIGINT NOT NULL);
"#;

/// Version 2: ids as UUIDs; columns `surface` and `wsids`, filled from the record.
///
/// The rows are written anew: an update of all of them would be held in memory until it is committed, while rows
/// that are inserted in their order go to the file as soon as a row group is full.
const IDS_SURFACE_WORKSPACES: &str = r#"
    CREATE TABLE events_2 (
        host VARCHAR NOT NULL,
        seq BIGINT NOT NULL,
        recorded_at BIGINT NOT NULL,
        hash VARCHAR NOT NULL,
        event_id UUID NOT NULL,
        trace_id UUID,
        "timestamp" BIGINT,
        actor_kind VARCHAR,
        actor_id VARCHAR,
        plugin VARCHAR,
        event_type VARCHAR,
        job_id UUID,
        run_id UUID,
        step_id VARCHAR,
        model_id VARCHAR,
        activity_span_id UUID,
        session_span_id UUID,
        capability_id VARCHAR,
        policy_decision_id UUID,
        decision_outcome VARCHAR,
        reason VARCHAR,
        layer VARCHAR,
        would_deny BOOLEAN,
        interface VARCHAR,
        function VARCHAR,
        resource VARCHAR,
        attempt BIGINT,
        call BIGINT,
        result VARCHAR,
        duration_us BIGINT,
        surface VARCHAR,
        wsids VARCHAR,
        record VARCHAR NOT NULL
    );
    INSERT INTO events_2 SELECT
        host, seq, recorded_at, hash, event_id::UUID, try_cast(trace_id AS UUID), "timestamp", actor_kind, actor_id, plugin,
        event_type, try_cast(job_id AS UUID), try_cast(run_id AS UUID), step_id, model_id,
        try_cast(activity_span_id AS UUID), try_cast(session_span_id AS UUID), capability_id,
        try_cast(policy_decision_id AS UUID), decision_outcome, reason, layer, would_deny, interface, function, resource,
        attempt, call, result, duration_us,
        CASE WHEN event_type = 'editor_edit' THEN json_extract_string(record, '$.event.payload.editor_surface')
             WHEN event_type = 'terminal_command' THEN 'terminal'
             WHEN actor_kind = 'human' THEN 'cli'
             WHEN actor_kind = 'agent' THEN 'plugin'
             WHEN actor_kind = 'system' THEN 'host' END,
        nullif(array_to_string(list_filter(json_extract(record, '$.event.wsids[*]'), lambda w: json_type(w) = 'VARCHAR'), chr(10)), ''),
        record
        FROM events ORDER BY rowid;
    DROP TABLE events;
    ALTER TABLE events_2 RENAME TO events;
"#;

/// Rows begin behind what retention has dropped, and ranges that could not be rebuilt are missing between them.
const FIRST_AND_GAPS: &str = r#"
    ALTER TABLE "cursor" ADD COLUMN first BIGINT DEFAULT 1;
    CREATE TABLE gaps (host VARCHAR NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL,
        reason VARCHAR NOT NULL, announced BOOLEAN NOT NULL DEFAULT false);
"#;

/// The version of a file's schema; none when it is of a later version of this program.
pub(super) fn version(connection: &Connection) -> Result<Option<usize>, duckdb::Error> {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS recorder_versions (version BIGINT NOT NULL)")?;
    let version: i64 =
        connection.query_row("SELECT coalesce(max(version), 0) FROM recorder_versions", [], |row| row.get(0))?;
    Ok(usize::try_from(version).ok().filter(|version| *version <= STEPS.len()))
}

/// Brings the file to this version's schema. `Err(Some(version))` when it is of a later one.
pub(crate) fn migrate(connection: &mut Connection) -> Result<Result<(), i64>, duckdb::Error> {
    migrate_to(connection, STEPS.len())
}

/// Brings the file to the schema that the first so many steps make.
fn migrate_to(connection: &mut Connection, steps: usize) -> Result<Result<(), i64>, duckdb::Error> {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS recorder_versions (version BIGINT NOT NULL)")?;
    let version: i64 =
        connection.query_row("SELECT coalesce(max(version), 0) FROM recorder_versions", [], |row| row.get(0))?;
    let Some(missing) = usize::try_from(version).ok().and_then(|done| STEPS[..steps].get(done..)) else {
        return Ok(Err(version));
    };
    for (step, next) in missing.iter().zip(version + 1..) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.execute("INSERT INTO recorder_versions VALUES (?)", [next])?;
        transaction.commit()?;
    }
    Ok(Ok(()))
}

/// A file as an earlier version of this program made it, with one record in it.
#[cfg(test)]
pub(super) fn older_file(path: &std::path::Path, steps: usize, record: &handshake_core::chain::StampedEvent) -> bool {
    let made = || -> Result<(), duckdb::Error> {
        let mut connection = Connection::open(path)?;
        assert!(matches!(migrate_to(&mut connection, steps)?, Ok(())));
        let (host, hash, at) = (record.host.to_string(), record.hash.to_string(), record.recorded_at.micros());
        let id = record.event_id.to_string();
        connection.execute(
            "INSERT INTO events (host, seq, recorded_at, hash, event_id, record) VALUES (?, 1, ?, ?, ?, ?)",
            duckdb::params![host, at, hash, id, record.record],
        )?;
        connection.execute(
            r#"INSERT INTO "cursor" (host, seq, hash, recorded_at) VALUES (?, 1, ?, ?)"#,
            duckdb::params![host, hash, at],
        )?;
        connection.close().map_err(|(_, error)| error)
    };
    assert!(steps <= STEPS.len());
    assert!(made().is_ok());
    steps < STEPS.len()
}
