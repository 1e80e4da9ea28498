//! Artifacts: whose they are, what may be asked, and what a damaged file does.

use std::sync::Arc;

use handshake_core::artifact::{ArtifactStore, MAX_ARTIFACT_BYTES};
use handshake_core::capability::{
    Axis, CapabilityId, Effect, EffectiveRights, Mode, Policy, PolicyInForce, Profile, Resource, Rule, SourceRef,
};
use handshake_core::event::{Actor, ActorKind};
use handshake_core::gate::{AttemptGate, AttemptIdentity, AttemptPlace, Call, GateServices, Permit};
use handshake_core::job::AccessMode;
use handshake_core::run::{FencingToken, WorkflowRun};
use handshake_core::storage::{JobStore, RunStore, StorageError};
use handshake_core::testing::MemoryRecorder;
use handshake_core::{Digest, JobId, ProfileId, RunId, StepId, TraceId};
use handshake_storage::FileArtifacts;
use handshake_tests::storage::World;

/// Artifacts of a world.
pub(crate) struct Store {
    pub(crate) world: World,
    pub(crate) artifacts: Arc<FileArtifacts>,
}

impl Store {
    pub(crate) fn new(world: World) -> Self {
        let artifacts = Arc::new(Self::open(&world));
        Self { world, artifacts }
    }

    fn open(world: &World) -> FileArtifacts {
        let folder = world.place.folder().join("artifacts");
        FileArtifacts::new(folder, world.sql.clone(), world.ids.clone()).unwrap()
    }

    pub(crate) async fn run(&self) -> RunId {
        let (job, run) = self.world.job();
        let id = run.run_id;
        self.world.database.submit(job, run, None, vec![]).await.unwrap();
        id
    }

    pub(crate) async fn permit(&self, run: RunId, axis: Axis) -> Permit {
        let world = &self.world;
        let all = |axes: &[Axis]| {
            axes.iter().copied().map(CapabilityId::bare).collect::<handshake_core::capability::CapabilitySet>()
        };
        let axes = [Axis::ArtifactRead, Axis::ArtifactWrite];
        let source = SourceRef { file: "test".into(), line: 1 };
        let rule = |axis| Rule {
            effect: Effect::Allow,
            capability: CapabilityId::bare(axis),
            plugins: vec![],
            addresses: Vec::new(),
            source: source.clone(),
        };
        let rights = EffectiveRights {
            plugin: None,
            declared: all(&axes),
            granted: all(&axes),
            profile: Arc::new(Profile { id: ProfileId::analyst(), capabilities: all(&axes) }),
            access_mode: AccessMode::AnalysisOnly,
            policy: PolicyInForce::new(Policy {
                mode: Mode::Enforce,
                rules: axes.map(rule).to_vec(),
                mounts: vec![],
                secrets: Vec::new(),
                digest: Digest::ZERO,
            }),
            manifest_sha256: Digest::ZERO,
            workspace: None,
        };
        let place = AttemptPlace {
            job: JobId::fresh(&*world.ids),
            run,
            step: StepId::new("step").unwrap(),
            index: None,
            attempt: 1,
            fence: FencingToken(1),
        };
        let identity = AttemptIdentity {
            trace: TraceId::fresh(&*world.ids),
            actor: Actor { kind: ActorKind::Agent, id: "test@1".into() },
            component_sha256: None,
            span: None,
            place: Some(place),
        };
        let services = GateServices {
            recorder: Arc::new(MemoryRecorder::default()),
            clock: world.clock.clone(),
            ids: world.ids.clone(),
        };
        let call =
            Call { interface: "test", function: "test", axis, resource: Resource::Whole, arguments: Digest::ZERO };
        AttemptGate::new(identity, Arc::new(rights), services).permit(call).await.unwrap()
    }

    pub(crate) async fn put(&self, run: RunId, content: &[u8]) -> Result<Digest, StorageError> {
        let permit = self.permit(run, Axis::ArtifactWrite).await;
        self.artifacts.put(&permit, run, "text/plain", content).await.map(|handle| handle.id)
    }

    pub(crate) async fn get(&self, run: RunId, id: Digest) -> Result<Vec<u8>, StorageError> {
        let permit = self.permit(run, Axis::ArtifactRead).await;
        self.artifacts.get(&permit, run, id).await
    }

    fn file(&self, id: Digest) -> std::path::PathBuf {
        let name = id.to_string();
        self.world.place.folder().join("artifacts").join(&name[..2]).join(&name[2..])
    }
}

pub(crate) async fn content_comes_back_and_equal_content_is_stored_once(world: World) {
    let store = Store::new(world);
    let (one, other) = (store.run().await, store.run().await);
    for content in [&b"hello"[..], b"", &[0, 255, 1]] {
        let id = store.put(one, content).await.unwrap();
        assert_eq!(id, Digest::of(content));
        assert_eq!(store.put(one, content).await.unwrap(), id);
        assert_eq!(store.put(other, content).await.unwrap(), id);
        assert_eq!(store.get(one, id).await.unwrap(), content);
        assert_eq!(store.get(other, id).await.unwrap(), content);
    }
    let unfinished = store.world.place.folder().join("artifacts/unfinished");
    assert_eq!(std::fs::read_dir(unfinished).unwrap().count(), 0);
}

pub(crate) async fn another_runs_artifact_gives_the_same_answer_as_one_that_nobody_has(world: World) {
    let store = Store::new(world);
    let (mine, other) = (store.run().await, store.run().await);
    let secret = store.put(other, b"secret").await.unwrap();
    let nothing = Digest::of(b"nothing");
    for id in [secret, nothing] {
        let error = store.get(mine, id).await.unwrap_err();
        assert!(matches!(&error, StorageError::NotFound { what: "artifact", .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("artifact `{id}` does not exist"));
    }
}

pub(crate) async fn a_permit_for_another_axis_or_another_run_is_refused(world: World) {
    let store = Store::new(world);
    let (mine, other) = (store.run().await, store.run().await);
    let id = store.put(other, b"secret").await.unwrap();
    let reading = store.permit(mine, Axis::ArtifactRead).await;
    let writing = store.permit(mine, Axis::ArtifactWrite).await;
    let guarded = |error| assert!(matches!(error, StorageError::Guard(_)), "{error:?}");
    guarded(store.artifacts.put(&reading, mine, "text/plain", b"x").await.unwrap_err());
    guarded(store.artifacts.get(&writing, mine, id).await.unwrap_err());
    guarded(store.artifacts.get(&reading, other, id).await.unwrap_err());
    guarded(store.artifacts.put(&writing, other, "text/plain", b"x").await.unwrap_err());
    assert!(!store.file(Digest::of(b"x")).exists());
}

pub(crate) async fn what_is_too_large_misnamed_or_belongs_to_no_run_is_refused(world: World) {
    let store = Store::new(world);
    let run = store.run().await;
    assert!(matches!(store.put(run, &vec![0; MAX_ARTIFACT_BYTES + 1]).await, Err(StorageError::Validation(_))));
    let permit = store.permit(run, Axis::ArtifactWrite).await;
    for media_type in ["", "a\0", &"x".repeat(256)] {
        assert!(matches!(store.artifacts.put(&permit, run, media_type, b"x").await, Err(StorageError::Validation(_))));
    }
    let nobody = RunId::fresh(&*store.world.ids);
    assert!(matches!(store.put(nobody, b"x").await, Err(StorageError::NotFound { what: "run", .. })));
    let largest = vec![7; MAX_ARTIFACT_BYTES];
    let id = store.put(run, &largest).await.unwrap();
    assert_eq!(store.get(run, id).await.unwrap().len(), MAX_ARTIFACT_BYTES);
}

pub(crate) async fn a_damaged_file_is_noticed_and_repaired_by_the_next_put(world: World) {
    let store = Store::new(world);
    let run = store.run().await;
    let id = store.put(run, b"content").await.unwrap();
    std::fs::write(store.file(id), b"forged!").unwrap();
    assert!(matches!(store.get(run, id).await, Err(StorageError::Serialization { what: "artifact", .. })));
    store.put(run, b"content").await.unwrap();
    assert_eq!(store.get(run, id).await.unwrap(), b"content");
}

pub(crate) async fn files_are_readable_for_their_owner_alone_and_leftovers_go_at_the_next_start(world: World) {
    use std::os::unix::fs::PermissionsExt;
    let store = Store::new(world);
    let run = store.run().await;
    let id = store.put(run, b"content").await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store.file(id)), 0o600);
    assert_eq!(mode(store.file(id).parent().unwrap()), 0o700);

    let folder = store.world.place.folder().join("artifacts");
    std::fs::write(folder.join("unfinished/half"), b"x").unwrap();
    let again = Store::open(&store.world);
    assert!(!folder.join("unfinished/half").exists());
    let permit = store.permit(run, Axis::ArtifactRead).await;
    assert_eq!(again.get(&permit, run, id).await.unwrap(), b"content");
}

pub(crate) async fn a_run_reads_what_was_shared_with_it_and_what_earlier_runs_of_its_job_had(world: World) {
    let store = Store::new(world);
    let database = &store.world.database;
    let (from, to) = (store.run().await, store.run().await);
    let (named, other) = (store.put(from, b"named").await.unwrap(), store.put(from, b"other").await.unwrap());
    let foreign = store.put(store.run().await, b"foreign").await.unwrap();
    for _ in 0..2 {
        database.share_artifacts(from, to, vec![named, foreign, Digest::of(b"nothing")]).await.unwrap();
    }
    assert_eq!(store.get(to, named).await.unwrap(), b"named");
    let listed = database.artifacts(to).await.unwrap();
    assert_eq!(listed.iter().map(|handle| (handle.id, handle.size)).collect::<Vec<_>>(), [(named, 5)]);
    assert_eq!(database.artifacts(from).await.unwrap().len(), 2);
    for unknown in [other, foreign] {
        let refused = store.get(to, unknown).await;
        assert!(matches!(refused, Err(StorageError::NotFound { what: "artifact", .. })), "{refused:?}");
    }
    let nobody = RunId::fresh(&*store.world.ids);
    let refused = database.share_artifacts(from, nobody, vec![named]).await;
    assert!(matches!(refused, Err(StorageError::NotFound { what: "run", .. })), "{refused:?}");

    let run = database.run(from).await.unwrap();
    let job = database.job(run.job_id).await.unwrap();
    let again = WorkflowRun { run_id: RunId::fresh(&*store.world.ids), ..run };
    let from_state = job.state;
    database.rerun(job, from_state, again.clone(), vec![], vec![]).await.unwrap();
    for (id, content) in [(named, "named"), (other, "other")] {
        assert_eq!(store.get(again.run_id, id).await.unwrap(), content.as_bytes());
    }
    assert!(store.get(again.run_id, foreign).await.is_err());
}
