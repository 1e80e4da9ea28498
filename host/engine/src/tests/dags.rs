//! Random workflows with random failures, on hosts that are lost: they end, and every node is accounted for.

use std::collections::BTreeMap;

use handshake_core::job::JobState;
use handshake_core::node::NodeState;
use handshake_core::run::RunState;
use handshake_core::step::StepFailure;
use handshake_core::storage::{JobStore, RunStore};
use handshake_core::{JobId, RunId};
use proptest::prelude::*;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::doubles::*;

/// What a step is like.
#[derive(Debug, Clone)]
struct Shape {
    /// Steps before it that it needs.
    needs: Vec<usize>,
    /// What it is: a plugin's step, one for each of some items, a pause, a workflow.
    kind: Kind,
    /// Its condition, if it has one.
    when: Option<bool>,
    /// How its attempts end, one after the other; after these it succeeds.
    fate: Vec<Fate>,
    retries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Items(u32),
    Pause,
    Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Transient,
    Permanent,
    Panics,
    /// Its host is lost.
    Lost,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let kind = prop_oneof![
        4 => Just(Kind::Plain),
        2 => (0_u32..4).prop_map(Kind::Items),
        1 => Just(Kind::Pause),
        1 => Just(Kind::Part),
    ];
    let fate = prop_oneof![
        6 => Just(Fate::Transient),
        1 => Just(Fate::Permanent),
        1 => Just(Fate::Panics),
        3 => Just(Fate::Lost),
    ];
    let step = (
        proptest::collection::vec(any::<proptest::sample::Index>(), 0..3),
        kind,
        proptest::option::weighted(0.2, any::<bool>()),
        proptest::collection::vec(fate, 0..2),
        1_u32..4,
    );
    proptest::collection::vec(step, 1..8).prop_map(|steps| {
        let shape = |(at, (needs, kind, when, fate, retries)): (usize, (Vec<proptest::sample::Index>, _, _, _, _))| {
            let needs = if at == 0 { Vec::new() } else { needs.iter().map(|need| need.index(at)).collect() };
            Shape { needs, kind, when, fate, retries }
        };
        steps.into_iter().enumerate().map(shape).collect()
    })
}

fn file(shapes: &[Shape]) -> String {
    let mut text = "name: x\nworkflows:\n  part:\n    steps: [{ id: work, uses: summarize }]\nsteps:\n".to_owned();
    for (at, shape) in shapes.iter().enumerate() {
        let retry = format!("retry: {{ attempts: {}, initial: 1ms, max: 1ms }}", shape.retries);
        let does = match shape.kind {
            Kind::Plain => format!("uses: summarize, {retry}"),
            Kind::Items(items) => {
                let list: Vec<_> = (0..items).map(|item| item.to_string()).collect();
                format!("uses: summarize, {retry}, for_each: '[{}]', max_parallel: 2", list.join(", "))
            }
            Kind::Pause => "sleep: 1ms".to_owned(),
            Kind::Part => "workflow: part".to_owned(),
        };
        let needs: Vec<_> = shape.needs.iter().map(|need| format!("s{need}")).collect();
        let when = shape.when.map_or_else(String::new, |when| format!(", when: '{when}'"));
        text.push_str(&format!("  - {{ id: s{at}, {does}, needs: [{}]{when} }}\n", needs.join(", ")));
    }
    text
}

/// How often a host is lost before the run ends: once for each attempt that is meant to lose it, at most.
const MOST_LOST: usize = 40;

/// Drives the run, and loses the host whenever nothing is left but attempts that lose it.
async fn live(bench: &Bench, run: RunId, job: JobId) -> JobState {
    for _ in 0..MOST_LOST {
        let engine = bench.engine.clone();
        let host = tokio::spawn(async move { engine.execute(run, CancellationToken::new()).await });
        loop {
            if host.is_finished() {
                host.await.unwrap().unwrap();
                return bench.database.job(job).await.unwrap().state;
            }
            if bench.hanging() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        host.abort();
        assert!(host.await.is_err());
        bench.engine.recover().await.unwrap();
        if bench.database.job(job).await.unwrap().state.is_final() {
            break;
        }
    }
    bench.database.job(job).await.unwrap().state
}

fn check(bench: &Bench, shapes: &[Shape], run: RunId, state: JobState) {
    let tables = bench.database.tables();
    let counts = |state: NodeState| tables.nodes.values().filter(|node| node.state == state).count();
    assert_eq!((counts(NodeState::Running), counts(NodeState::Waiting)), (0, 0), "{:?}", tables.nodes);
    let run_state = tables.runs[&run].state;
    for job in tables.jobs.values() {
        assert!(job.state.is_final(), "{} is {}", job.protocol_id, job.state);
    }
    let of_step = |at: usize| {
        let own = tables.nodes.values().filter(move |node| node.run_id == run);
        own.filter(move |node| node.node.step.as_str() == format!("s{at}")).collect::<Vec<_>>()
    };
    match state {
        JobState::Completed => {
            assert_eq!(run_state, RunState::Completed);
            for (at, shape) in shapes.iter().enumerate() {
                let done = of_step(at).iter().filter(|node| node.state == NodeState::Completed).count();
                let expected = match (shape.when, shape.kind) {
                    (Some(false), _) => 0,
                    (_, Kind::Items(items)) => items as usize,
                    _ => 1,
                };
                assert_eq!(done, expected, "s{at}");
            }
        }
        JobState::Failed | JobState::Poisoned => {
            assert_eq!(run_state, RunState::Failed);
            assert!(tables.runs[&run].error.is_some());
            for (at, shape) in shapes.iter().enumerate() {
                // Nothing began before what it needs was done.
                let begun = of_step(at).iter().any(|node| node.state != NodeState::Skipped);
                for need in shape.needs.iter().filter(|_| begun) {
                    let rows = of_step(*need);
                    let over = |node: &&&handshake_core::node::NodeExecution| {
                        matches!(node.state, NodeState::Completed | NodeState::Skipped)
                    };
                    let expected = match shapes[*need].kind {
                        Kind::Items(items) if shapes[*need].when != Some(false) => items as usize,
                        _ => 1,
                    };
                    assert_eq!(rows.iter().filter(over).count(), expected, "s{at} began before s{need} was done");
                }
            }
        }
        other => panic!("{other}"),
    }
    // Each attempt has one beginning and one end, but for those that their host did not live to see the end of.
    let mut open: BTreeMap<String, i64> = BTreeMap::new();
    for event in tables.events.iter().filter(|event| event["payload"]["span"] == "step") {
        let change = if event["event_type"] == "span_start" { 1 } else { -1 };
        *open.entry(event["activity_span_id"].to_string()).or_default() += change;
    }
    let left = open.values().filter(|count| **count == 1).count();
    assert!(open.values().all(|count| (0..=1).contains(count)), "{open:?}");
    assert_eq!(left, counts(NodeState::Interrupted));
}

/// How many workflows; a soak says how many hundreds.
fn cases() -> u32 {
    let rounds = std::env::var("HANDSHAKE_SOAK").ok().and_then(|rounds| rounds.parse::<u32>().ok());
    rounds.map_or(96, |rounds| rounds * 100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_workflows_end_with_every_node_accounted_for(shapes in shapes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fates = shapes.clone();
            let bench = bench(move |call| {
                let fate = call.step.strip_prefix('s').and_then(|at| at.parse::<usize>().ok());
                let fate = fate.and_then(|at| fates[at].fate.get(call.attempt as usize - 1));
                match fate {
                    None => Act::Give(json!(call.node)),
                    Some(Fate::Transient) => Act::Fail(StepFailure::Transient("later".into())),
                    Some(Fate::Permanent) => Act::Fail(StepFailure::Permanent("never".into())),
                    Some(Fate::Panics) => Act::Panic,
                    Some(Fate::Lost) => Act::Hang,
                }
            });
            let text = file(&shapes);
            let submitted = bench.engine.submit(submission(&text, &[])).await.unwrap();
            let state = live(&bench, submitted.run_id, submitted.job_id).await;
            check(&bench, &shapes, submitted.run_id, state);
            assert!(bench.database.run(submitted.run_id).await.unwrap().state.is_final());
        });
    }
}
