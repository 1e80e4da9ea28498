//! A database that notes which of its methods are called, and hands every call on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use handshake_core::approval::Approval;
use handshake_core::artifact::ArtifactHandle;
use handshake_core::capability::Grant;
use handshake_core::chain::{ChainHead, StampedEvent};
use handshake_core::content::{Canvas, CanvasEdge, CanvasNode, ContentBlock, Document, Stored, Workspace};
use handshake_core::edit::{EditMetadata, GuardedEdit};
use handshake_core::event::AdmittedEvent;
use handshake_core::job::{AiJob, JobState};
use handshake_core::node::NodeExecution;
use handshake_core::recorder::EffectNote;
use handshake_core::run::{FencingToken, RunState, WorkflowRun};
use handshake_core::storage::*;
use handshake_core::token::ApiToken;
use handshake_core::trigger::{Trigger, TriggerRef};
use handshake_core::{
    ApprovalId, BlockId, CanvasId, Digest, DocumentId, GrantId, HostId, JobId, ReportId, RunId, Timestamp, TokenId,
    TriggerId, WorkspaceId,
};
use handshake_storage::SqlDatabase;

/// Methods of the ports that were called and answered.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<BTreeSet<&'static str>>>);

impl Calls {
    /// Their names.
    pub fn names(&self) -> BTreeSet<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

/// Writes of an engine, each of which is a commit.
const COMMITS: [&str; 16] = [
    "submit",
    "begin",
    "transition",
    "rerun",
    "claim",
    "commit",
    "amend",
    "claim_queued",
    "take_away",
    "request_approval",
    "decide",
    "add_grant",
    "revoke_grant",
    "share_artifacts",
    "edit",
    "advance_trigger",
];

/// The database with notes. It can die like a process: from one commit on, that one is lost, or is done and its answer
/// lost, and no other is done.
pub struct Recorded {
    database: Arc<SqlDatabase>,
    calls: Calls,
    commits: AtomicUsize,
    dies_at: usize,
    after: bool,
}

impl Recorded {
    /// Notes the calls of this database in `calls`.
    pub fn new(database: &Arc<SqlDatabase>, calls: &Calls) -> Arc<Self> {
        let database = Arc::clone(database);
        Arc::new(Self {
            database,
            calls: calls.clone(),
            commits: AtomicUsize::new(0),
            dies_at: usize::MAX,
            after: false,
        })
    }

    /// Dies at this commit, counted from 1; after it or before.
    pub fn dying(database: &Arc<SqlDatabase>, dies_at: usize, after: bool) -> Arc<Self> {
        let (database, calls) = (Arc::clone(database), Calls::default());
        Arc::new(Self { database, calls, commits: AtomicUsize::new(0), dies_at, after })
    }

    /// How many commits were asked for.
    pub fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    async fn around<T>(&self, name: &'static str, call: impl Future<Output = Answer<T>>) -> Answer<T> {
        self.note(name);
        if !COMMITS.contains(&name) {
            return call.await;
        }
        let number = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        let dead = || StorageError::Guard("the process is dead".into());
        if number > self.dies_at || (number == self.dies_at && !self.after) {
            return Err(dead());
        }
        let answer = call.await;
        if number == self.dies_at { Err(dead()) } else { answer }
    }

    fn note(&self, name: &'static str) -> &SqlDatabase {
        self.calls.0.lock().unwrap().insert(name);
        &self.database
    }
}

/// Implements a port by handing each call on. A method that is missing here does not compile.
macro_rules! hand_on {
    ($port:ident: $($name:ident($($argument:ident: $type:ty),*) $(-> $answer:ty)?;)*) => {
        #[async_trait]
        impl $port for Recorded {
            $(async fn $name(&self, $($argument: $type),*) $(-> $answer)? {
                self.around(stringify!($name), self.database.$name($($argument),*)).await
            })*
        }
    };
}

type Answer<T> = Result<T, StorageError>;
type Events = Vec<AdmittedEvent>;

hand_on! { JobStore:
    submit(job: AiJob, run: WorkflowRun, key: Option<&str>, events: Events) -> Answer<Submitted>;
    begin(job: AiJob, run: WorkflowRun, key: Option<&str>, events: Events, change: RunChange) -> Answer<Begun>;
    transition(job: AiJob, from: JobState, events: Events) -> Answer<()>;
    rerun(job: AiJob, from: JobState, run: WorkflowRun, nodes: Vec<NodeExecution>, events: Events) -> Answer<()>;
    pin(id: JobId, pinned: bool, events: Events) -> Answer<()>;
    job(id: JobId) -> Answer<AiJob>;
    jobs(filter: &JobFilter) -> Answer<Vec<AiJob>>;
}

hand_on! { RunStore:
    run(id: RunId) -> Answer<WorkflowRun>;
    runs_of(job: JobId) -> Answer<Vec<WorkflowRun>>;
    claim(id: RunId, change: RunChange) -> Answer<Claim>;
    commit(id: RunId, fence: FencingToken, change: RunChange) -> Answer<()>;
    amend(id: RunId, from: RunState, change: RunChange) -> Answer<()>;
    share_artifacts(from: RunId, to: RunId, artifacts: Vec<Digest>) -> Answer<()>;
    artifacts(run: RunId) -> Answer<Vec<ArtifactHandle>>;
    heartbeat(id: RunId, fence: FencingToken) -> Answer<()>;
    nodes(run: RunId, payloads: Payloads) -> Answer<Vec<NodeExecution>>;
    logs(run: RunId, query: LogQuery) -> Answer<Logs>;
    hosts(run: RunId) -> Answer<Vec<HostId>>;
    effects(run: RunId) -> Answer<Vec<EffectNote>>;
    interrupted() -> Answer<Vec<WorkflowRun>>;
}

hand_on! { RetentionStore:
    prunable(policy: &RetentionPolicy, now: Timestamp, limit: u32) -> Answer<Vec<Candidate>>;
    store_report(report: PruneReport, events: Events) -> Answer<()>;
    prune(report: ReportId, jobs: &[JobId]) -> Answer<Pruned>;
    reports(limit: u32) -> Answer<Vec<PruneReport>>;
}

hand_on! { ContentStore:
    edit(edit: GuardedEdit) -> Answer<Vec<EditMetadata>>;
    workspace(id: WorkspaceId) -> Answer<Stored<Workspace>>;
    workspaces(page: &Page<WorkspaceId>) -> Answer<Vec<Stored<Workspace>>>;
    document(id: DocumentId) -> Answer<Stored<Document>>;
    documents(of: Option<WorkspaceId>, page: &Page<DocumentId>) -> Answer<Vec<Stored<Document>>>;
    block(id: BlockId) -> Answer<Stored<ContentBlock>>;
    blocks(document: DocumentId) -> Answer<Vec<Stored<ContentBlock>>>;
    canvas(id: CanvasId) -> Answer<Stored<Canvas>>;
    canvases(of: Option<WorkspaceId>, page: &Page<CanvasId>) -> Answer<Vec<Stored<Canvas>>>;
    canvas_nodes(canvas: CanvasId) -> Answer<Vec<Stored<CanvasNode>>>;
    canvas_edges(canvas: CanvasId) -> Answer<Vec<Stored<CanvasEdge>>>;
}

hand_on! { ApprovalStore:
    request_approval(approval: Approval, events: Events) -> Answer<()>;
    approval(id: ApprovalId) -> Answer<Approval>;
    approvals(filter: &ApprovalFilter) -> Answer<Vec<Approval>>;
    decide(approval: Approval, expected_votes: usize, events: Events) -> Answer<()>;
}

hand_on! { GrantStore:
    add_grant(grant: Grant, events: Events) -> Answer<()>;
    grant(id: GrantId) -> Answer<Grant>;
    grants(filter: &GrantFilter) -> Answer<Vec<Grant>>;
    revoke_grant(grant: Grant, events: Events) -> Answer<()>;
}

hand_on! { TokenStore:
    add_token(token: ApiToken, events: Events) -> Answer<()>;
    token(id: TokenId) -> Answer<ApiToken>;
    tokens(page: &Page<TokenId>) -> Answer<Vec<ApiToken>>;
    revoke_token(token: ApiToken, events: Events) -> Answer<()>;
}

hand_on! { TriggerStore:
    create_trigger(trigger: Trigger, events: Events) -> Answer<()>;
    trigger(which: &TriggerRef) -> Answer<Trigger>;
    triggers(page: &Page<TriggerId>) -> Answer<Vec<Trigger>>;
    due_triggers(now: Timestamp, limit: u32) -> Answer<Vec<Trigger>>;
    advance_trigger(trigger: Trigger, expected: Timestamp, events: Events) -> Answer<()>;
    remove_trigger(id: TriggerId, events: Events) -> Answer<()>;
}

#[async_trait]
impl WorkQueue for Recorded {
    async fn claim_queued(&self, limit: u32, on_claim: Arc<dyn OnClaim>) -> Answer<Vec<Claim>> {
        self.around("claim_queued", self.database.claim_queued(limit, on_claim)).await
    }
    async fn expired(&self, limit: u32) -> Answer<Vec<WorkflowRun>> {
        self.note("expired").expired(limit).await
    }
    async fn due(&self, limit: u32) -> Answer<Vec<WorkflowRun>> {
        self.note("due").due(limit).await
    }
    async fn take_away(&self, id: RunId, fence: FencingToken, change: RunChange) -> Answer<()> {
        self.around("take_away", self.database.take_away(id, fence, change)).await
    }
    fn arrivals(&self) -> Box<dyn Arrivals> {
        self.note("arrivals").arrivals()
    }
}

#[async_trait]
impl EventOutbox for Recorded {
    fn enqueue(&self, event: AdmittedEvent) -> Answer<()> {
        self.note("enqueue").enqueue(event)
    }
    fn reserve(&self) -> Answer<Box<dyn OutboxSlot>> {
        self.note("reserve").reserve()
    }
    async fn append(&self, event: AdmittedEvent) -> Answer<()> {
        self.note("append").append(event).await
    }
    async fn append_effect(&self, note: EffectNote, event: AdmittedEvent) -> Answer<()> {
        self.note("append_effect").append_effect(note, event).await
    }
    async fn read_after(&self, seq: u64, limit: u32) -> Answer<Vec<StampedEvent>> {
        self.note("read_after").read_after(seq, limit).await
    }
    async fn release(&self, up_to: u64) -> Answer<u64> {
        self.note("release").release(up_to).await
    }
    async fn flush(&self) -> Answer<ChainHead> {
        self.note("flush").flush().await
    }
    async fn grown_past(&self, seq: u64) {
        self.note("grown_past").grown_past(seq).await;
    }
}

#[async_trait]
impl Database for Recorded {
    fn host(&self) -> HostId {
        self.note("host").host()
    }
    async fn ping(&self) -> Answer<()> {
        self.note("ping").ping().await
    }
    async fn migration_version(&self) -> Answer<Option<i64>> {
        self.note("migration_version").migration_version().await
    }
    async fn statistics(&self) -> Answer<Statistics> {
        self.note("statistics").statistics().await
    }
    async fn snapshot(&self, to: &Path) -> Answer<()> {
        self.note("snapshot").snapshot(to).await
    }
    async fn close(&self) -> Answer<()> {
        self.note("close").close().await
    }
}
