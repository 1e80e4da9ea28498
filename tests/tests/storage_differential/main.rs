//! The same random sequence of calls gets the same answers on SQLite and on PostgreSQL, and leaves the same behind.
//!
//! Some seeds are always tried, and a fresh one, which is printed; `just soak` tries many fresh ones, and
//! `HANDSHAKE_SEED` tries one again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

mod content;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use handshake_core::job::{AiJob, JobKind, JobState};
use handshake_core::node::{NodeExecution, NodeState};
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunState, WorkflowRun};
use handshake_core::storage::*;
use handshake_core::testing::SequentialIds;
use handshake_core::{ApprovalId, Clock, JobId, Json, RunId, StepId, TraceId, TriggerId};
use handshake_tests::postgres::{Backend, backends};
use handshake_tests::storage::{Calls, World, event, records};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Calls in one sequence.
const CALLS: usize = 300;
const SEEDS: [u64; 3] = [1, 2, 3];

/// How answers begin to calls that were not refused.
const DONE: [&str; 7] =
    ["edit [", "ask ()", "decide ()", "create_trigger ()", "advance_trigger ()", "commit ()", "rerun ()"];

/// Choices, the same on both sides.
struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }
    fn one_in(&mut self, end: usize) -> bool {
        self.below(end) == 0
    }
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
    fn text(&mut self) -> String {
        self.of(&["", "plain", "ä漢🎉\u{202e}", "'; DROP TABLE jobs; --", "\\u0000 \\\\", "%_\"`", "a\0b", "\r\n\t"])
            .to_owned()
    }
    fn json(&mut self) -> Value {
        match self.below(9) {
            0 => Value::Null,
            1 => json!(i64::MIN),
            2 => json!(u64::MAX),
            3 => json!(f64::MAX),
            4 => json!(-5e-324),
            5 => json!([0.1 + 0.2, -0.0, true]),
            6 => json!({ self.text(): self.text(), "z": 1, "a": {} }),
            7 => json!("x".repeat(100_000)),
            _ => json!(self.text()),
        }
    }
}

/// One backend, and what calls so far have brought about.
struct Side {
    world: World,
    dice: Dice,
    jobs: Vec<JobId>,
    runs: Vec<RunId>,
    claims: Vec<(RunId, FencingToken)>,
    approvals: Vec<ApprovalId>,
    triggers: Vec<TriggerId>,
    shelf: content::Shelf,
}

struct Announced(Arc<SequentialIds>);

impl OnClaim for Announced {
    fn change(&self, run: &WorkflowRun, job: &AiJob) -> Result<RunChange, StorageError> {
        let job = AiJob { state: JobState::Running, status_reason: "claimed".into(), ..job.clone() };
        let events = vec![event(&*self.0, &run.run_id.to_string())];
        Ok(RunChange { job: Some(job), events, ..RunChange::default() })
    }
}

/// An answer in a form that can be compared: values whole, errors by kind and text. Sources are the driver's.
fn shown<T: std::fmt::Debug>(result: Result<T, StorageError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => {
            let kind = format!("{error:?}");
            let kind = kind.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
            assert!(kind != "Database" && kind != "Unavailable", "{error:?}");
            format!("{kind}: {error}")
        }
    }
}

impl Side {
    async fn new(backend: Backend, seed: u64) -> Self {
        let world = World::new(backend, &Calls::default()).await;
        let dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        Self {
            world,
            dice,
            jobs: Vec::new(),
            runs: Vec::new(),
            claims: Vec::new(),
            approvals: Vec::new(),
            triggers: Vec::new(),
            shelf: Default::default(),
        }
    }

    fn job_id(&mut self) -> JobId {
        if self.jobs.is_empty() || self.dice.one_in(20) {
            return JobId::fresh(&*self.world.ids);
        }
        self.jobs[self.dice.below(self.jobs.len())]
    }

    fn run_id(&mut self) -> RunId {
        if self.runs.is_empty() || self.dice.one_in(20) {
            return RunId::fresh(&*self.world.ids);
        }
        self.runs[self.dice.below(self.runs.len())]
    }

    fn claim(&mut self) -> (RunId, FencingToken) {
        if self.claims.is_empty() {
            return (self.run_id(), FencingToken(1));
        }
        let (run, fence) = self.claims[self.dice.below(self.claims.len())];
        (run, if self.dice.one_in(10) { FencingToken(fence.0 + 1) } else { fence })
    }

    fn events(&mut self) -> Vec<handshake_core::event::AdmittedEvent> {
        (0..self.dice.below(3)).map(|_| self.world.event(&self.dice.text())).collect()
    }

    fn new_job(&mut self) -> (AiJob, WorkflowRun) {
        let (job, run) = if self.dice.one_in(3) { self.world.full_job() } else { self.world.job() };
        let state = self.dice.of(JobState::ALL);
        let kind = self.dice.of(JobKind::ALL);
        let state = if self.dice.one_in(2) { JobState::Queued } else { state };
        (AiJob { state, job_kind: kind, protocol_id: self.dice.text(), job_inputs: self.dice.json(), ..job }, run)
    }

    fn node(&mut self, run: RunId) -> NodeExecution {
        let index = self.dice.one_in(2).then_some(u32::MAX - 1);
        let step = self.dice.of(&["read", "write"]);
        let node = self.world.node(run, step, index, 1 + self.dice.below(3) as u32);
        let output = self.dice.one_in(2).then(|| Json::of(&self.dice.json()));
        NodeExecution { state: self.dice.of(NodeState::ALL), input: Json::of(&self.dice.json()), output, ..node }
    }

    fn change(&mut self, run: RunId) -> RunChange {
        let nodes = (0..self.dice.below(3)).map(|_| self.node(run)).collect();
        RunChange { nodes, events: self.events(), ..RunChange::default() }
    }

    /// One call, chosen by the dice.
    async fn call(&mut self) -> String {
        let database = self.world.sql.clone();
        match self.dice.below(28) {
            0 | 1 => {
                let (job, run) = self.new_job();
                let key = self.dice.one_in(3).then(|| self.dice.of(&["a", "b", "ä", "", "a\0"]));
                self.jobs.push(job.job_id);
                self.runs.push(run.run_id);
                let events = self.events();
                "submit ".to_owned() + &shown(database.submit(job, run, key, events).await)
            }
            2 => "job ".to_owned() + &shown(database.job(self.job_id()).await),
            3 => {
                let filter = JobFilter {
                    state: self.dice.one_in(2).then(|| self.dice.of(JobState::ALL)),
                    kind: self.dice.one_in(3).then(|| self.dice.of(JobKind::ALL)),
                    protocol_id: self.dice.one_in(4).then(|| self.dice.text()),
                    workspace: self.dice.one_in(4).then(|| self.dice.text()),
                    parent: self.dice.one_in(4).then(|| self.job_id()),
                    since: self.dice.one_in(4).then(|| self.world.clock.now()),
                    until: self.dice.one_in(4).then(|| self.world.clock.now()),
                    limit: self.dice.of(&[0, 1, 3, u32::MAX]),
                    after: self.dice.one_in(3).then(|| self.job_id()),
                };
                "jobs ".to_owned() + &shown(database.jobs(&filter).await)
            }
            4 => {
                let id = self.job_id();
                let (job, _) = self.new_job();
                let known = database.job(id).await.unwrap_or_else(|_| AiJob { job_id: id, ..job.clone() });
                let job = AiJob { state: job.state, job_outputs: Some(self.dice.json()), ..known };
                let from = if self.dice.one_in(3) { self.dice.of(JobState::ALL) } else { JobState::Queued };
                let events = self.events();
                "transition ".to_owned() + &shown(database.transition(job, from, events).await)
            }
            5 => {
                let id = self.job_id();
                let Ok(job) = database.job(id).await else { return "none".into() };
                let (_, run) = self.world.job();
                let trace_id = if self.dice.one_in(10) { TraceId::fresh(&*self.world.ids) } else { job.trace_id };
                let run = WorkflowRun { job_id: id, trace_id, ..run };
                self.runs.push(run.run_id);
                let (from, events) = (job.state, self.events());
                let job = AiJob { state: JobState::Queued, ..job };
                "rerun ".to_owned() + &shown(database.rerun(job, from, run, Vec::new(), events).await)
            }
            6 => "pin ".to_owned() + &shown(database.pin(self.job_id(), self.dice.one_in(2), self.events()).await),
            7 => {
                let id = self.run_id();
                let change = self.change(id);
                let claimed = database.claim(id, change).await;
                self.claims.extend(claimed.as_ref().map(|claim| (id, claim.fence)));
                "claim ".to_owned() + &shown(claimed)
            }
            8 => {
                let on_claim = Arc::new(Announced(self.world.ids.clone()));
                let claimed = database.claim_queued(self.dice.below(3) as u32, on_claim).await;
                let taken = claimed.iter().flatten().map(|claim| (claim.run.run_id, claim.fence));
                self.claims.extend(taken);
                "claim_queued ".to_owned() + &shown(claimed)
            }
            9 | 10 => {
                let (id, fence) = self.claim();
                let mut change = self.change(id);
                if let (true, Ok(run)) = (self.dice.one_in(3), database.run(id).await) {
                    let state = self.dice.of(RunState::ALL);
                    change.run = Some(WorkflowRun { state, error: Some(self.dice.text()), ..run });
                }
                "commit ".to_owned() + &shown(database.commit(id, fence, change).await)
            }
            11 => {
                let (id, fence) = self.claim();
                "heartbeat ".to_owned() + &shown(database.heartbeat(id, fence).await)
            }
            12 => {
                let (run, fence) = self.claim();
                let note = EffectNote {
                    run,
                    step: StepId::new("write").unwrap(),
                    index: None,
                    attempt: 1,
                    fence,
                    call: self.dice.below(1_000_000) as u64,
                    capability: "fs.write".into(),
                    resource: self.dice.text(),
                };
                let event = self.world.event("effect");
                "append_effect ".to_owned() + &shown(database.append_effect(note, event).await)
            }
            13 => {
                let id = self.run_id();
                let payloads = self.dice.of(&[Payloads::Read, Payloads::LeftOut]);
                let nodes = shown(database.nodes(id, payloads).await);
                format!(
                    "nodes {nodes} effects {} run {}",
                    shown(database.effects(id).await),
                    shown(database.run(id).await)
                )
            }
            14 => {
                self.world.clock.advance(Duration::from_micros(self.dice.of(&[1, 1_000_000, 31_000_000])));
                let limit = self.dice.of(&[0, 1, 10]);
                format!("expired {} {}", shown(database.expired(limit).await), shown(database.interrupted().await))
            }
            15 => {
                let (id, fence) = self.claim();
                let change = self.change(id);
                "take_away ".to_owned() + &shown(database.take_away(id, fence, change).await)
            }
            16..=19 => self.edit().await,
            20 => self.look_at_content().await,
            21..=23 => self.approval().await,
            24 => self.clear_away().await,
            25 | 26 => self.trigger().await,
            _ => {
                let text = self.dice.text();
                database.enqueue(self.world.event(&text)).unwrap();
                let appended = shown(database.append(self.world.event(&text)).await);
                format!("{appended} {}", shown(database.flush().await))
            }
        }
    }

    /// Everything that is stored, in one text.
    async fn left(&self) -> String {
        let database = &*self.world.sql;
        let filter = JobFilter { limit: 1_000, ..JobFilter::default() };
        let jobs = database.jobs(&filter).await.unwrap();
        let mut left = format!("{jobs:?}\n");
        for job in jobs {
            for run in database.runs_of(job.job_id).await.unwrap() {
                let (nodes, effects) =
                    (database.nodes(run.run_id, Payloads::Read).await, database.effects(run.run_id).await);
                left += &format!("{run:?} {} {}\n", shown(nodes), shown(effects));
            }
        }
        let (head, records) = records(database).await;
        left + &format!("{} {head:?} {records:?}", self.content_left().await)
    }
}

/// So that a failure names the call and not two pages of values.
fn agree(seed: u64, at: usize, sqlite: &str, postgres: &str) {
    if sqlite != postgres {
        let differs = sqlite.chars().zip(postgres.chars()).take_while(|(a, b)| a == b).count();
        let near = |text: &str| text.chars().skip(differs.saturating_sub(80)).take(240).collect::<String>();
        panic!("seed {seed}, call {at}: SQLite says\n…{}\nPostgreSQL says\n…{}", near(sqlite), near(postgres));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_backends_give_the_same_answers() {
    if backends().len() != 2 {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for one backend alone");
        return;
    }
    let fresh = u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos());
    let rounds: u64 = std::env::var("HANDSHAKE_SOAK").ok().map_or(1, |rounds| rounds.parse().unwrap());
    let seeds = match std::env::var("HANDSHAKE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => SEEDS.into_iter().chain(fresh..fresh + rounds).collect(),
    };
    let mut done = [0; DONE.len()];
    for seed in seeds {
        eprintln!("HANDSHAKE_SEED={seed}");
        let (mut sqlite, mut postgres) =
            (Side::new(Backend::Sqlite, seed).await, Side::new(Backend::Postgres, seed).await);
        for at in 0..CALLS {
            let answer = sqlite.call().await;
            agree(seed, at, &answer, &postgres.call().await);
            for (name, done) in DONE.iter().zip(&mut done) {
                *done += usize::from(answer.starts_with(name));
            }
        }
        agree(seed, CALLS, &sqlite.left().await, &postgres.left().await);
    }
    assert!(done.iter().all(|done| *done > 3), "what was refused nearly always says little: {DONE:?} {done:?}");
}
