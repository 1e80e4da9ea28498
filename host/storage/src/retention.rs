//! Finished jobs that need not be kept, and the reports of deleting them.

use async_trait::async_trait;
use handshake_core::event::AdmittedEvent;
use handshake_core::storage::{
    Candidate, MOST_PRUNED, PruneReason, PruneReport, Pruned, RetentionPolicy, RetentionStore, StorageError,
};
use handshake_core::{JobId, ReportId, Timestamp};

use crate::database::SqlDatabase;
use crate::error::{failed, unreadable};
use crate::operation::{Applied, Operation, Refusal, Step};
use crate::sql::{Query, Value, column, number, query};
use crate::text;

/// A job, in the table `j`, that is over with all of its runs, and not pinned.
macro_rules! may_go {
    () => {
        "j.is_pinned = FALSE \
         AND j.state IN ('completed', 'completed_with_issues', 'failed', 'cancelled', 'poisoned') \
         AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.job_id = j.job_id \
         AND runs.state NOT IN ('completed', 'failed', 'cancelled'))"
    };
}

// Jobs go in the order of their last change. An artifact goes with the last job that lists it, and stays if a job
// that stays lists it.
const PRUNABLE: &str = concat!(
    "WITH ranked AS (SELECT job_id, protocol_id, state, is_pinned, updated_at, \
     ROW_NUMBER() OVER (PARTITION BY protocol_id ORDER BY created_at DESC, job_id DESC) AS place FROM jobs), \
     eligible AS (SELECT job_id, protocol_id, state, updated_at, \
     ROW_NUMBER() OVER (ORDER BY updated_at, job_id) AS turn FROM ranked j WHERE j.place > $1 AND ",
    may_go!(),
    "), listed AS (SELECT a.sha256, MAX(a.size_bytes) AS size_bytes, MAX(e.turn) AS turn, \
     COUNT(*) - COUNT(e.turn) AS others FROM run_artifacts a JOIN runs r ON r.run_id = a.run_id \
     LEFT JOIN eligible e ON e.job_id = r.job_id GROUP BY a.sha256), \
     freed AS (SELECT turn, SUM(size_bytes) AS size_bytes FROM listed WHERE others = 0 GROUP BY turn) \
     SELECT e.job_id, e.protocol_id, e.state, e.updated_at, CAST(COALESCE(f.size_bytes, 0) AS BIGINT) AS freed \
     FROM eligible e LEFT JOIN freed f ON f.turn = e.turn ORDER BY e.turn LIMIT $2"
);
const STORED: &str = "SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) AS stored \
     FROM (SELECT MAX(size_bytes) AS size_bytes FROM run_artifacts GROUP BY sha256) AS artifacts";
const MAY_GO: &str = concat!("SELECT j.job_id FROM jobs j WHERE ", may_go!(), " AND j.job_id IN ");
const LEASE: &str = "INSERT INTO leases (name, host, token, expires_at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (name) DO UPDATE SET host = excluded.host, token = excluded.token, expires_at = excluded.expires_at \
     WHERE leases.host = excluded.host OR leases.expires_at < $5";
const RENEW: &str = "UPDATE leases SET expires_at = $1 WHERE name = $2 AND token = $3";
const RELEASE: &str = "DELETE FROM leases WHERE name = $1 AND token = $2";
const STORE: &str = "INSERT INTO prune_reports (report_id, started_at, report) VALUES ($1, $2, $3) \
     ON CONFLICT (report_id) DO UPDATE SET report = excluded.report";
const REPORTS: &str = "SELECT report FROM prune_reports ORDER BY started_at DESC, report_id DESC LIMIT $1";
/// Deletes what belongs to the runs of jobs, and to jobs, each before what it refers to.
const DELETE_OF_RUNS: [&str; 3] = [
    "DELETE FROM node_executions WHERE run_id IN (SELECT run_id FROM runs WHERE job_id IN ",
    "DELETE FROM attempt_effects WHERE run_id IN (SELECT run_id FROM runs WHERE job_id IN ",
    "DELETE FROM run_artifacts WHERE run_id IN (SELECT run_id FROM runs WHERE job_id IN ",
];
const DELETE_KEYS: &str = "DELETE FROM idempotency_keys WHERE job_id IN ";
const DELETE_RUNS: &str = "DELETE FROM runs WHERE job_id IN ";
const DELETE_JOBS: &str = "DELETE FROM jobs WHERE job_id IN ";

const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;
/// The lease of the host that prunes.
const JANITOR: &str = "janitor";
/// How long it lasts without a deletion: far longer than one takes, and bearable when a host goes away meanwhile.
const LEASE_MICROS: i64 = 600_000_000;

fn push_list<'q>(mut query: Query<'q>, values: impl Iterator<Item = impl Into<Value<'q>>>) -> Query<'q> {
    for (at, value) in values.enumerate() {
        query = query.push(if at == 0 { "(" } else { ", " }).push_bind(value);
    }
    query.push(")")
}

/// Stores a report, and takes or gives back the lease.
struct StoreReport {
    report: PruneReport,
    json: String,
    events: Vec<AdmittedEvent>,
}

#[async_trait]
impl Operation for StoreReport {
    type Answer = ();

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<()>, Refusal> {
        let operation = "store a report of the janitor";
        let id = self.report.report_id.to_string();
        match (self.report.dry_run, self.report.finished_at) {
            (true, _) => {}
            (false, None) => {
                let taken = query(LEASE)
                    .bind(JANITOR)
                    .bind(step.host.to_string())
                    .bind(id.as_str())
                    .bind(step.now.micros().saturating_add(LEASE_MICROS))
                    .bind(step.now.micros());
                if taken.execute(step.connection).await.map_err(failed(operation))? == 0 {
                    return Err(Refusal::Answer(StorageError::Conflict(
                        "another host is pruning this database now".into(),
                    )));
                }
            }
            (false, Some(_)) => {
                let release = query(RELEASE).bind(JANITOR).bind(id.as_str());
                release.execute(step.connection).await.map_err(failed(operation))?;
            }
        }
        let store = query(STORE).bind(id).bind(self.report.started_at.micros()).bind(self.json.as_str());
        store.execute(step.connection).await.map_err(failed(operation))?;
        Ok(Applied::Wrote(()))
    }

    fn events(&self) -> &[AdmittedEvent] {
        &self.events
    }
}

/// Deletes jobs.
struct Prune {
    report: ReportId,
    jobs: Vec<String>,
}

#[async_trait]
impl Operation for Prune {
    type Answer = Pruned;

    async fn apply(&mut self, step: &mut Step<'_>) -> Result<Applied<Pruned>, Refusal> {
        let operation = "delete old jobs";
        let renew = query(RENEW).bind(step.now.micros().saturating_add(LEASE_MICROS)).bind(JANITOR);
        if renew.bind(self.report.to_string()).execute(step.connection).await.map_err(failed(operation))? == 0 {
            let report = self.report;
            return Err(Refusal::Answer(StorageError::Conflict(format!(
                "report `{report}` gives no right to delete: it is finished or not stored, or another host took over"
            ))));
        }
        let may_go = push_list(query(MAY_GO), self.jobs.iter().map(String::as_str)).keep_rows();
        let rows = may_go.fetch_all(step.connection).await.map_err(failed(operation))?;
        let jobs = rows.iter().map(|row| column(row, "job_id")).collect::<Result<Vec<String>, _>>()?;
        if jobs.is_empty() {
            return Ok(Applied::Wrote(Pruned::default()));
        }
        let of_jobs = |sql: &'static str| push_list(query(sql), jobs.iter().map(String::as_str));
        for sql in DELETE_OF_RUNS {
            of_jobs(sql).push(")").execute(step.connection).await.map_err(failed(operation))?;
        }
        of_jobs(DELETE_KEYS).execute(step.connection).await.map_err(failed(operation))?;
        let runs = of_jobs(DELETE_RUNS).execute(step.connection).await.map_err(failed(operation))?;
        let jobs = of_jobs(DELETE_JOBS).execute(step.connection).await.map_err(failed(operation))?;
        Ok(Applied::Wrote(Pruned { jobs, runs }))
    }
}

#[async_trait]
impl RetentionStore for SqlDatabase {
    async fn prunable(
        &self,
        policy: &RetentionPolicy,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Candidate>, StorageError> {
        let operation = "look for old jobs";
        let mut reader = self.reader(operation).await?;
        let mut stored = match policy.quota {
            Some(_) => query(STORED).fetch_value::<i64>(&mut reader).await.map_err(failed(operation))?.unwrap_or(0),
            None => 0,
        };
        let rows = query(PRUNABLE).bind(i64::from(policy.keep)).bind(i64::from(limit)).fetch_all(&mut reader).await;
        let end = now.micros().saturating_sub(i64::from(policy.days).saturating_mul(DAY_MICROS));
        let mut candidates = Vec::new();
        for row in rows.map_err(failed(operation))? {
            let text = |name| column::<String>(&row, name);
            let updated_at = column::<i64>(&row, "updated_at")?;
            let over = policy.quota.is_some_and(|quota| u64::try_from(stored).is_ok_and(|stored| stored > quota));
            let reason = match (updated_at < end, over) {
                (true, _) => PruneReason::Window,
                (false, true) => PruneReason::Quota,
                // Those behind it changed later still.
                (false, false) => break,
            };
            stored = stored.saturating_sub(column(&row, "freed")?);
            candidates.push(Candidate {
                job_id: text("job_id")?.parse().map_err(unreadable("job id"))?,
                protocol_id: text("protocol_id")?,
                state: text("state")?.parse().map_err(unreadable("job state"))?,
                updated_at: Timestamp::from_micros(updated_at),
                reason,
                artifact_bytes: number(&row, "freed")?,
            });
        }
        Ok(candidates)
    }

    async fn store_report(&self, report: PruneReport, events: Vec<AdmittedEvent>) -> Result<(), StorageError> {
        text::check_events(&events)?;
        let json = text::json("report", &report)?;
        let store = StoreReport { report, json, events };
        self.queue.perform("store a report of the janitor", store, None).await
    }

    async fn prune(&self, report: ReportId, jobs: &[JobId]) -> Result<Pruned, StorageError> {
        if jobs.is_empty() || jobs.len() > MOST_PRUNED {
            return Err(StorageError::Validation(format!("1 to {MOST_PRUNED} jobs are deleted at once")));
        }
        let jobs = jobs.iter().map(JobId::to_string).collect();
        self.queue.perform("delete old jobs", Prune { report, jobs }, None).await
    }

    async fn reports(&self, limit: u32) -> Result<Vec<PruneReport>, StorageError> {
        let operation = "list reports of the janitor";
        let mut reader = self.reader(operation).await?;
        let rows = query(REPORTS).bind(i64::from(limit)).fetch_all(&mut reader).await.map_err(failed(operation))?;
        rows.iter().map(|row| text::parse("report", &column::<String>(row, "report")?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use handshake_core::job::JobState;
    use handshake_core::run::RunState;

    use super::*;

    #[test]
    fn the_statements_know_every_final_state() {
        let quoted = |text: &str| format!("'{text}'");
        let (in_jobs, in_runs) = may_go!().split_once("NOT EXISTS").unwrap_or_default();
        for state in JobState::ALL {
            assert_eq!(in_jobs.contains(&quoted(state.as_str())), state.is_final(), "{state}");
        }
        for state in RunState::ALL {
            assert_eq!(in_runs.contains(&quoted(state.as_str())), state.is_final(), "{state}");
        }
    }

    #[test]
    fn what_refers_to_a_job_or_run_is_deleted_with_it() {
        let deleted = DELETE_OF_RUNS.into_iter().chain([DELETE_KEYS, DELETE_RUNS]);
        let deleted: BTreeSet<_> = deleted.filter_map(|sql| sql.split(' ').nth(2)).collect();
        assert_eq!(crate::migrations::tables_referring_to(&["jobs", "runs"]), deleted);
    }
}
