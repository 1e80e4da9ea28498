//! Proposals on both backends: nothing changes until it may, what changes does so at once with who and why, and a
//! host that is lost in between loses nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use handshake_core::capability::{
    CapabilityId, Effect, Mode, Policy, PolicyInForce, Rule, SourceRef, builtin_profiles,
};
use handshake_core::content::{ContentChange, Document as StoredDocument};
use handshake_core::document::Proposal;
use handshake_core::edit::{EditContext, Editor, EditorKind};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::{AiJob, JobMetrics, JobState, PlannedOperation as Op};
use handshake_core::mount::{Mount, MountAccess, MountError, MountResolver};
use handshake_core::step::*;
use handshake_core::storage::*;
use handshake_core::testing::{self, FixedClock, SequentialIds};
use handshake_core::{Clock, Digest, DocumentId, HostId, JobId, PluginId, TraceId, WorkspaceId};
use handshake_engine::documents::{State, guest_view, import, markdown_of};
use handshake_engine::{
    Engine, EngineError, EngineServices, Format, InputValue, ProposalStatus, Submission, WorkflowSource,
};
use handshake_recorder::{Recorder, Redaction};
use handshake_storage::SqlDatabase;
use handshake_tests::postgres::{Backend, backends};
use handshake_tests::storage::{Place, Recorded, open, records};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const TEXT: &str = "# Title\n\nOne.\n\nTwo.\n\n## Section\n\nThree.\n";

type Plan = dyn Fn(&State) -> Vec<Vec<Op>> + Send + Sync;

/// A plugin that proposes what the test says, read from the document as it is.
struct Proposer {
    database: Arc<SqlDatabase>,
    document: DocumentId,
    plan: Mutex<Arc<Plan>>,
}

#[async_trait]
impl StepExecutor for Proposer {
    fn find(&self, uses: &str) -> Result<Arc<Plugin>, PluginError> {
        let mut plugin = (*testing::plugin(PluginId::new(uses).unwrap(), b"component")).clone();
        plugin.manifest.capabilities = vec![handshake_core::manifest::DeclaredCapability {
            id: "doc.propose".parse().unwrap(),
            reason: "proposes".into(),
        }];
        Ok(Arc::new(plugin))
    }

    async fn prepare(&self, plugin: &Plugin) -> Result<Descriptor, PluginError> {
        Ok(testing::descriptor(plugin))
    }

    async fn execute(&self, _: StepInvocation) -> Result<StepOutcome, StepFailure> {
        let state = state(&*self.database, self.document).await;
        let summary = guest_view(&state).summary;
        let plan = Arc::clone(&self.plan.lock().unwrap());
        let proposals = plan(&state).into_iter().map(|operations| Proposal {
            document: summary.id.clone(),
            base_version: summary.version,
            operations,
        });
        let metrics = JobMetrics::default();
        Ok(StepOutcome { output: json!({}), measurements: BTreeMap::new(), metrics, proposals: proposals.collect() })
    }
}

struct NoMounts;
impl MountResolver for NoMounts {
    fn resolve(&self, _: &Path, name: &str, path: &Path, _: MountAccess) -> Result<Mount, MountError> {
        Err(MountError::NotListed { name: name.into(), path: path.into(), access: "read" })
    }
}

async fn state(content: &dyn ContentStore, id: DocumentId) -> State {
    State { document: content.document(id).await.unwrap(), blocks: content.blocks(id).await.unwrap() }
}

struct World {
    _place: Place,
    database: Arc<SqlDatabase>,
    proposer: Arc<Proposer>,
    ids: Arc<SequentialIds>,
    clock: Arc<FixedClock>,
    document: DocumentId,
    editor: Editor,
    recorder: Arc<Recorder>,
}

fn ada() -> Actor {
    Actor { kind: ActorKind::Human, id: "Ada".into() }
}

impl World {
    async fn new(backend: Backend, plan: impl Fn(&State) -> Vec<Vec<Op>> + Send + Sync + 'static) -> Self {
        let place = Place::new(backend).await;
        let (ids, clock) = (Arc::new(SequentialIds::default()), Arc::new(FixedClock::default()));
        let database = open(&place.url, HostId::fresh(&*ids), clock.clone()).await;
        let recorder =
            Arc::new(Recorder::new(Arc::clone(&database) as _, Arc::new(Redaction::new(Vec::new())), clock.clone()));
        let editor = Editor::new(Arc::clone(&database) as _, Arc::clone(&recorder) as _, clock.clone(), ids.clone());
        let imported = import(&*ids, WorkspaceId::fresh(&*ids), Some("w"), None, "f", TEXT).unwrap();
        let document = imported.document_id;
        let proposer =
            Arc::new(Proposer { database: Arc::clone(&database), document, plan: Mutex::new(Arc::new(plan)) });
        let world = Self { _place: place, database, proposer, ids, clock, document, editor, recorder };
        // The clock stands still unless a test moves it: versions grow all the same.
        world.editor.edit(world.human(), imported.changes).await.unwrap();
        world
    }

    fn human(&self) -> EditContext {
        let trace = TraceId::fresh(&*self.ids);
        EditContext { kind: EditorKind::Human, actor_id: "Ada".into(), job: None, run: None, trace }
    }

    /// A process: its engine, under a policy with this effect on proposals, and the store that dies with it.
    fn process(&self, effect: Effect, dies_at: usize, after: bool) -> (Engine, Arc<Recorded>) {
        let database = Recorded::dying(&self.database, dies_at, after);
        let capability: CapabilityId = "doc.propose".parse().unwrap();
        let source = SourceRef { file: "policy.toml".into(), line: 1 };
        let rule = Rule { effect, capability, plugins: Vec::new(), addresses: Vec::new(), source };
        // The digest stays: what is asked here is whether the rules are asked again.
        let policy = Policy {
            mode: Mode::Enforce,
            rules: vec![rule],
            mounts: vec![],
            secrets: Vec::new(),
            digest: Digest::of(b"policy"),
        };
        let engine = Engine::new(EngineServices {
            database: Arc::clone(&database) as _,
            content: Arc::clone(&database) as _,
            recorder: Arc::clone(&self.recorder) as _,
            executor: Arc::clone(&self.proposer) as _,
            mounts: Arc::new(NoMounts),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            ids: Arc::clone(&self.ids) as _,
            policy: PolicyInForce::new(policy),
            profiles: builtin_profiles().into_iter().map(Arc::new).collect(),
            settings: Arc::default(),
            lease: Duration::from_secs(30),
            max_parallel: 4,
            safeguards: Default::default(),
        });
        (engine, database)
    }

    fn engine(&self) -> Engine {
        self.process(Effect::Allow, usize::MAX, false).0
    }

    async fn submit(&self, engine: &Engine, job: &str) -> (JobId, handshake_core::RunId) {
        let text = format!(
            "name: edit\njob: {{ kind: doc_edit, {job} }}\ninputs: {{ doc: {{ type: object }} }}\nsteps:\n  - {{ id: propose, uses: proposer, grants: [doc.propose] }}\n"
        );
        let doc = InputValue::Json(json!(self.document.to_string()));
        let submission = Submission {
            source: WorkflowSource { file: "f.yaml".into(), text, format: Format::Yaml },
            inputs: BTreeMap::from([("doc".to_owned(), doc)]),
            base: "/".into(),
            idempotency_key: None,
            actor: ada(),
        };
        let submitted = engine.submit(submission).await.unwrap_or_else(|error| panic!("{error}; {}", error.hint()));
        (submitted.job_id, submitted.run_id)
    }

    /// Runs a job with these settings to the end of its run.
    async fn run(&self, job: &str) -> AiJob {
        let engine = self.engine();
        let (_, run) = self.submit(&engine, job).await;
        engine.execute(run, CancellationToken::new()).await.unwrap().job
    }

    async fn state(&self) -> State {
        state(&*self.database, self.document).await
    }

    /// Everything that is stored of the document.
    async fn bytes(&self) -> String {
        let state = self.state().await;
        serde_json::to_string(&(&state.document, &state.blocks)).unwrap()
    }

    async fn events(&self, event_type: &str) -> Vec<Value> {
        self.database.flush().await.unwrap();
        let (_, records) = records(&*self.database).await;
        let event = |record: &str| serde_json::from_str::<Value>(record).unwrap()["event"].take();
        let events = records.iter().map(|stamped| event(&stamped.record));
        events.filter(|event| event["event_type"] == event_type).collect()
    }
}

/// Runs a test on every backend that is asked for.
async fn everywhere(test: impl AsyncFn(Backend)) {
    for backend in backends() {
        eprintln!("on {backend:?}");
        test(backend).await;
    }
}

fn block(state: &State, at: usize) -> String {
    state.blocks[at].content.block_id.to_string()
}

/// One of each kind.
fn all_kinds(state: &State) -> Vec<Vec<Op>> {
    let id = |at| block(state, at);
    vec![vec![
        Op::ReplaceBlock { block_id: id(1), content: "The first.".into() },
        Op::DeleteBlock { block_id: id(2) },
        Op::MoveBlock { block_id: id(4), after: Some(id(1)) },
        Op::InsertBlock { after: Some(id(0)), kind: "paragraph".into(), content: "New.".into() },
        Op::UpdateMetadata { key: "title".into(), value: Some("\"Other\"".into()) },
    ]]
}

fn small(state: &State) -> Vec<Vec<Op>> {
    vec![vec![Op::ReplaceBlock { block_id: block(state, 1), content: "The first.".into() }]]
}

const AFTER: &str = "# Title\n\nNew.\n\nThe first.\n\nThree.\n\n## Section\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_accepts_is_applied_at_once_with_who_and_why() {
    everywhere(async |backend| {
        let world = World::new(backend, all_kinds).await;
        let before = world.bytes().await;
        let job = world.run("access_mode: apply_scoped").await;
        assert_eq!(job.state, JobState::AwaitingUser);
        assert_eq!((job.metrics.validators_run_count, job.planned_operations.len()), (5, 5));
        assert_eq!(world.bytes().await, before, "nothing is applied before somebody says so");
        let engine = world.engine();
        assert!(engine.awaits_acceptance(&job).await.unwrap());
        let shown = engine.proposals(&job).await.unwrap().unwrap();
        assert_eq!((shown.status, shown.documents.len()), (ProposalStatus::Pending, 1));
        let document = &shown.documents[0];
        assert_eq!((document.new_title.as_deref(), document.changed), (Some("Other"), false));
        let diff = document.diff.as_ref().unwrap();
        for line in ["+New.", "-One.", "+The first.", "-Two."] {
            assert!(diff.lines().any(|shown| shown == line), "{line}: {diff}");
        }
        assert_eq!(world.bytes().await, before, "to look changes nothing");

        let robot = Actor { kind: ActorKind::Agent, id: "robot".into() };
        let refused = engine.accept(job.job_id, &robot, None).await;
        assert!(matches!(refused, Err(EngineError::NotAPerson { .. })), "{refused:?}");
        world.clock.advance(Duration::from_secs(1));
        let done = engine.accept(job.job_id, &ada(), Some("good".into())).await.unwrap();
        assert_eq!(done.state, JobState::Completed);
        assert!(done.status_reason.starts_with("applied: 5 proposed changes, accepted by Ada"), "{done:?}");
        assert_eq!((done.metrics.validators_run_count, done.metrics.entities_written), (10, 1));
        assert_eq!(world.database.job(job.job_id).await.unwrap(), done);
        let state = world.state().await;
        assert_eq!((markdown_of(&state).as_str(), state.document.content.title.as_str()), (AFTER, "Other"));
        let edits = state.blocks.iter().map(|block| &block.edit).filter(|edit| edit.last_job_id.is_some());
        let edits: Vec<_> = edits.chain([&state.document.edit]).collect();
        assert_eq!(edits.len(), 4, "the new one, the replaced one, the moved one, and the document");
        for edit in edits {
            assert_eq!((edit.last_actor_kind, edit.last_actor_id.as_str()), (EditorKind::Ai, "proposer@0.1.0"));
            assert_eq!((edit.last_job_id, edit.last_workflow_id), (Some(job.job_id), job.workflow_run_id));
        }
        let shown = engine.proposals(&done).await.unwrap().unwrap();
        assert_eq!((shown.status, shown.documents[0].diff.as_ref()), (ProposalStatus::Applied, None));

        let [approval] = &world.events("approval").await[..] else { panic!("one approval") };
        assert_eq!((&approval["actor"]["id"], &approval["payload"]["reason"]), (&json!("Ada"), &json!("good")));
        assert_eq!(approval["payload"]["decision"], "approved");
        let decisions = world.events("capability_action").await;
        let functions: Vec<_> = decisions.iter().map(|event| event["payload"]["function"].as_str().unwrap()).collect();
        assert_eq!(
            functions,
            ["validate", "validate", "commit"],
            "at validation, again when it is accepted, at commit"
        );
        assert!(decisions.iter().all(|event| event["job_id"] == job.job_id.to_string()));
        assert_eq!(world.events("capability_outcome").await.len(), 3);
        let spans: Vec<_> = world.events("span_end").await;
        assert_eq!(spans.iter().filter(|event| event["payload"]["span"] == "job").count(), 1);

        for (again, what) in [
            (engine.accept(job.job_id, &ada(), None).await, "accept"),
            (engine.decline(job.job_id, &ada(), None).await, "decline"),
        ] {
            assert!(
                matches!(again, Err(EngineError::NoProposals { state: JobState::Completed, .. })),
                "{what}: {again:?}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declined_cancelled_or_only_a_preview_leaves_every_byte_as_it_was() {
    everywhere(async |backend| {
        let world = World::new(backend, all_kinds).await;
        let before = world.bytes().await;
        let engine = world.engine();

        let waiting = world.run("access_mode: apply_scoped, review: always").await;
        let declined = engine.decline(waiting.job_id, &ada(), Some("too bold".into())).await.unwrap();
        assert_eq!(declined.state, JobState::CompletedWithIssues);
        assert_eq!(declined.status_reason, "declined by Ada: too bold");
        assert_eq!(world.events("approval").await[0]["payload"]["decision"], "rejected");
        assert_eq!(engine.proposals(&declined).await.unwrap().unwrap().status, ProposalStatus::NotApplied);

        let waiting = world.run("access_mode: apply_scoped").await;
        let cancelled = engine.cancel(waiting.job_id, &ada()).await.unwrap();
        assert_eq!((cancelled.state, cancelled.status_reason.as_str()), (JobState::Cancelled, "cancelled by Ada"));

        for review in ["always", "when_flagged"] {
            let preview = world.run(&format!("access_mode: preview_only, review: {review}")).await;
            assert_eq!((preview.state, preview.metrics.validators_run_count), (JobState::Completed, 5));
            let shown = engine.proposals(&preview).await.unwrap().unwrap();
            assert!(shown.documents[0].diff.as_ref().unwrap().contains("+New."));
            assert_eq!(shown.status, ProposalStatus::NotApplied);
            let refused = engine.accept(preview.job_id, &ada(), None).await;
            assert!(matches!(refused, Err(EngineError::NoProposals { .. })), "{refused:?}");
        }
        assert_eq!(world.bytes().await, before);
        assert_eq!(world.events("content_mutation").await.len(), 7, "of the import alone");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nobody_has_to_be_asked_it_is_applied_and_what_is_flagged_asks() {
    everywhere(async |backend| {
        let world = World::new(backend, small).await;
        let job = world.run("access_mode: apply_scoped, review: when_flagged").await;
        assert_eq!(job.state, JobState::Completed);
        assert!(job.status_reason.starts_with("applied: 1 proposed change; nobody"), "{}", job.status_reason);
        assert_eq!(markdown_of(&world.state().await), TEXT.replace("One.", "The first."));

        world.clock.advance(Duration::from_secs(1));
        *world.proposer.plan.lock().unwrap() =
            Arc::new(|state: &State| vec![(0..3).map(|at| Op::DeleteBlock { block_id: block(state, at) }).collect()]);
        let before = world.bytes().await;
        let job = world.run("access_mode: apply_scoped, review: when_flagged").await;
        assert_eq!(job.state, JobState::AwaitingUser);
        assert!(job.status_reason.contains("3 of 5 blocks would be deleted"), "{}", job.status_reason);
        assert_eq!(world.bytes().await, before);
        let done = world.engine().accept(job.job_id, &ada(), None).await.unwrap();
        assert_eq!(done.state, JobState::CompletedWithIssues, "something was flagged");
        assert_eq!(markdown_of(&world.state().await), "## Section\n\nThree.\n");
        assert_eq!(world.engine().proposals(&done).await.unwrap().unwrap().status, ProposalStatus::Applied);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_proposal_fails_the_job_with_every_reason_and_changes_nothing() {
    everywhere(async |backend| {
        let world = World::new(backend, |state| {
            let replace = || Op::ReplaceBlock { block_id: block(state, 1), content: "# no paragraph".into() };
            vec![vec![replace()], vec![replace()]]
        })
        .await;
        let before = world.bytes().await;
        let job = world.run("access_mode: apply_scoped, review: when_flagged").await;
        assert_eq!(job.state, JobState::Failed);
        let why = job.error_message.unwrap();
        for reason in
            ["structure: `replace_block`: the new paragraph is a heading", "overlap: 2 proposals change block"]
        {
            assert!(why.contains(reason), "{reason}: {why}");
        }
        assert_eq!(world.bytes().await, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_to_propose_is_asked_for_again_under_todays_policy() {
    everywhere(async |backend| {
        let world = World::new(backend, small).await;
        let before = world.bytes().await;
        // Denied by the time that it is validated.
        let (strict, _) = world.process(Effect::Deny, usize::MAX, false);
        let (_, run) = world.submit(&strict, "access_mode: apply_scoped, review: when_flagged").await;
        let job = strict.execute(run, CancellationToken::new()).await.unwrap().job;
        assert_eq!(job.state, JobState::Failed);
        let why = job.error_message.unwrap();
        assert!(why.contains("capability: step `propose`") && why.contains("operator-denied"), "{why}");
        let decisions = world.events("capability_action").await;
        assert_eq!(decisions.len(), 1);
        assert_eq!(decisions[0]["payload"]["decision_outcome"], "deny");
        // Denied by the time that it is accepted.
        let waiting = world.run("access_mode: apply_scoped").await;
        let refused = strict.accept(waiting.job_id, &ada(), None).await.unwrap_err();
        assert!(
            matches!(&refused, EngineError::ProposalsRefused { why, .. } if why.contains("operator-denied")),
            "{refused}"
        );
        assert_eq!(world.database.job(waiting.job_id).await.unwrap().state, JobState::AwaitingUser);
        assert_eq!(world.bytes().await, before);
        world.engine().accept(waiting.job_id, &ada(), None).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_meanwhile_is_not_overwritten_and_the_job_waits_as_before() {
    everywhere(async |backend| {
        let world = World::new(backend, small).await;
        let engine = world.engine();
        let (first, second) =
            (world.run("access_mode: apply_scoped").await, world.run("access_mode: apply_scoped").await);
        engine.accept(first.job_id, &ada(), None).await.unwrap();
        let now = world.bytes().await;
        let refused = engine.accept(second.job_id, &ada(), None).await.unwrap_err();
        assert!(refused.to_string().contains("changed since it was read"), "{refused}");
        assert_eq!(world.bytes().await, now);
        let mut waiting = world.database.job(second.job_id).await.unwrap();
        assert_eq!(waiting.metrics.validators_run_count, 10, "they were asked, and that is on record");
        waiting.metrics = second.metrics;
        assert_eq!(waiting, second);
        let shown = engine.proposals(&second).await.unwrap().unwrap();
        assert!(shown.documents[0].changed);
        engine.decline(second.job_id, &ada(), None).await.unwrap();

        // A person's own edit counts as well, whatever it is of.
        let third = world.run("access_mode: apply_scoped").await;
        world.clock.advance(Duration::from_secs(1));
        let document = StoredDocument { title: "mine".into(), ..world.state().await.document.content };
        let change = ContentChange::Update { content: document.into(), base: None };
        world.editor.edit(world.human(), vec![change]).await.unwrap();
        assert!(engine.accept(third.job_id, &ada(), None).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_decide_at_once_one_does() {
    everywhere(async |backend| {
        let world = World::new(backend, small).await;
        let job = world.run("access_mode: apply_scoped").await;
        let deciders = (0..8).map(|number| {
            let (engine, id) = (world.engine(), job.job_id);
            tokio::spawn(async move {
                if number % 2 == 0 {
                    engine.accept(id, &ada(), None).await
                } else {
                    engine.decline(id, &ada(), None).await
                }
            })
        });
        let mut decided = Vec::new();
        for decider in deciders.collect::<Vec<_>>() {
            decided.extend(decider.await.unwrap().ok());
        }
        let [job] = &decided[..] else { panic!("{} decided", decided.len()) };
        assert_eq!(world.database.job(job.job_id).await.unwrap(), *job);
        let applied = markdown_of(&world.state().await) != TEXT;
        assert_eq!(applied, job.state == JobState::Completed);
        assert_eq!(world.events("approval").await.len(), 1, "who came too late is not on record as having decided");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_lost_at_any_commit_loses_nothing_and_applies_nothing_twice() {
    everywhere(async |backend| {
        for after in [false, true] {
            for dies_at in 1.. {
                let world = World::new(backend, small).await;
                let (engine, store) = world.process(Effect::Allow, usize::MAX, false);
                let (job, run) = world.submit(&engine, "access_mode: apply_scoped, review: when_flagged").await;
                drop(store);
                let (engine, store) = world.process(Effect::Allow, dies_at, after);
                let lost = engine.execute(run, CancellationToken::new()).await.is_err();
                let died = store.commits() >= dies_at;
                // The next process.
                let engine = world.engine();
                engine.recover().await.unwrap();
                for (run, _) in engine.resumable().await.unwrap() {
                    engine.execute(run, CancellationToken::new()).await.unwrap();
                }
                let mut stored = world.database.job(job).await.unwrap();
                if stored.state == JobState::Queued {
                    stored = engine.execute(run, CancellationToken::new()).await.unwrap().job;
                }
                assert_eq!(stored.state, JobState::Completed, "{dies_at} {after} {lost}");
                assert_eq!(markdown_of(&world.state().await), TEXT.replace("One.", "The first."));
                let mutations = world.events("content_mutation").await;
                assert_eq!(mutations.len(), 7 + 2, "the import, the block, the document: {dies_at} {after}");
                if !died {
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_run_of_a_declined_job_proposes_anew() {
    everywhere(async |backend| {
        let world = World::new(backend, small).await;
        let engine = world.engine();
        let waiting = world.run("access_mode: apply_scoped").await;
        engine.decline(waiting.job_id, &ada(), None).await.unwrap();
        let again = engine.retry(waiting.job_id, None, &ada()).await.unwrap();
        let job = engine.execute(again.run_id, CancellationToken::new()).await.unwrap().job;
        assert_eq!((job.state, job.planned_operations.len()), (JobState::AwaitingUser, 1));
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(engine.accept(job.job_id, &ada(), None).await.unwrap().state, JobState::Completed);
        assert_eq!(world.state().await.document.edit.last_workflow_id, Some(again.run_id));
    })
    .await;
}
