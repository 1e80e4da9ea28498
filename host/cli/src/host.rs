//! The composition: everything that a process which owns the data directory runs on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use handshake_core::artifact::ArtifactStore;
use handshake_core::capability::{CapabilityId, EffectiveRights, PolicyInForce, Profile};
use handshake_core::credential::Credentials;
use handshake_core::event::{Actor, Event, EventBody, Redactor};
use handshake_core::gate::{AttemptGate, AttemptIdentity, GateServices};
use handshake_core::job::AccessMode;
use handshake_core::model::Models;
use handshake_core::recorder::FlightRecorder;
use handshake_core::step::PluginError;
use handshake_core::storage::{Database, EventOutbox};
use handshake_core::{Clock, Digest, EventId, HostId, Ids, JobId, ProfileId, RunId, TraceId};
use handshake_engine::{Engine, EngineServices, Janitor, JanitorServices, Safeguards};
use handshake_models::ModelRegistry;
use handshake_recorder::signing::SigningKey;
use handshake_recorder::{
    Archive, Keeper, KeeperServices, Projection, ProjectionOptions, RecordLog, Recorder, Redaction, SHORTEST_EXACT,
};
use handshake_runtime::{HostMounts, PluginStore, RuntimeOptions, RuntimeServices, SystemResolver, WasmRuntime};
use handshake_storage::{DatabaseOptions, DatabaseUrl, FileArtifacts, SqlDatabase};
use handshake_telemetry::Exporter;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Need;
use crate::api::live::Newsroom;
use crate::api::{self, Caller};
use crate::backup;
use crate::directory::{DataDirectory, Ownership};
use crate::documents::StoredDocuments;
use crate::error::{CliError, store_failure};
use crate::executions::Executions;
use crate::fault::not_opened;
use crate::keyring;
use crate::network::Gateway;
use crate::network::health::health;
use crate::output::Output;
use crate::policy;
use crate::policy_keeper::{self, PolicyKeeper};
use crate::recorder;
use crate::review::evidence::{self, Evidence, Witness};
use crate::secrets::OperatorSecrets;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::system::{SystemClock, SystemIds};
use crate::triggers;

/// Records that may wait for the writer. At some 1 KiB each this bounds memory, and 16,384 is what a burst of
/// 64 parallel steps can leave behind between two commits.
const WRITER_QUEUE: usize = 16_384;

/// How long a run is this host's without a sign of life; the engine gives one every few seconds.
const LEASE: Duration = Duration::from_secs(30);

/// How often a host that takes jobs looks for what can go on: expired leases, questions whose time is over.
const LOOK: Duration = Duration::from_secs(5);

/// How long a reader of a last answer may take before this process ends all the same.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What the local API answers from.
pub(crate) struct HostState {
    /// Runs workflows.
    pub(crate) engine: Engine,
    /// Jobs, runs, outbox.
    pub(crate) database: Arc<dyn Database>,
    /// Configured models.
    pub(crate) models: Arc<dyn Models>,
    /// Finds and runs plugins.
    pub(crate) runtime: Arc<WasmRuntime>,
    /// Of the gate for a person's own requests.
    pub(crate) gate: GateServices,
    /// The operator's policy, whichever is in force.
    pub(crate) policy: PolicyInForce,
    /// Reads it again when it changes.
    pub(crate) policy_keeper: Arc<PolicyKeeper>,
    /// What the operator calls its file.
    pub(crate) policy_name: String,
    /// Profiles that jobs can name.
    pub(crate) profiles: Vec<Arc<Profile>>,
    /// Copies of the texts that decided.
    pub(crate) evidence: Arc<Evidence>,
    /// What is under way.
    pub(crate) executions: Arc<Executions>,
    /// The folder of the project, where relative paths start unless the owner says otherwise.
    pub(crate) project: PathBuf,
    /// The data directory.
    pub(crate) directory: DataDirectory,
    /// Where the database is.
    pub(crate) url: DatabaseUrl,
    /// Deletes what need not be kept.
    pub(crate) janitor: Janitor,
    /// Told when a trigger was added, which may be due before the next look.
    pub(crate) trigger_added: Notify,
    /// Told when a token was revoked, for the streams that it has opened.
    pub(crate) token_revoked: watch::Sender<()>,
    /// For the tests of plugins, which run over other services.
    workshop: Workshop,
    /// Keeps secrets out of answers that are errors.
    pub(crate) redaction: Redaction,
    /// Seals, drops and publishes the flight recorder's record.
    pub(crate) keeper: Keeper,
    /// The record itself, which is there before the projection has it.
    pub(crate) log: Arc<RecordLog>,
    /// Tells of what is recorded.
    pub(crate) newsroom: Arc<Newsroom>,
    /// Large values of runs.
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    retention: Duration,
    /// Whether what is unfinished waits for a person to let it go on.
    held: AtomicBool,
    projection: OnceCell<Projection>,
    projecting: AtomicBool,
}

/// What every runtime of this host shares: compiled code.
struct Workshop {
    cache_dir: PathBuf,
    cache_key: [u8; 32],
}

impl Workshop {
    /// A runtime that finds no plugin, over other services.
    fn over(
        &self,
        services: RuntimeServices,
        environment: BTreeMap<String, String>,
    ) -> Result<WasmRuntime, PluginError> {
        let options = RuntimeOptions {
            plugin_folders: Vec::new(),
            plugin_store: None,
            cache_dir: self.cache_dir.clone(),
            cache_key: self.cache_key,
            max_instances: 1,
            environment,
        };
        WasmRuntime::new(options, services)
    }
}

impl HostState {
    /// The projection of the flight recorder, opened at the first use: most commands need none, and a run need
    /// not wait for one, because its events are durable in the outbox.
    pub(crate) async fn projection(&self) -> Result<&Projection, CliError> {
        let options = ProjectionOptions {
            path: self.directory.file("recorder.duckdb"),
            clock: Arc::clone(&self.gate.clock),
            retention: self.retention,
            probe: recorder::probe(),
        };
        let open = || Projection::open(Arc::clone(&self.log), options);
        self.projection.get_or_try_init(open).await.map_err(|error| store_failure(&error))
    }

    /// How long events are kept.
    pub(crate) fn retention(&self) -> Duration {
        self.retention
    }

    /// Whether the projection is open or being opened.
    pub(crate) fn is_projecting(&self) -> bool {
        self.projecting.load(Ordering::SeqCst) || self.projection.initialized()
    }

    /// Starts projecting in the background.
    pub(crate) fn start_projection(self: &Arc<Self>) {
        if !self.projecting.swap(true, Ordering::SeqCst) {
            let host = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = host.projection().await {
                    tracing::warn!(%error, "the flight recorder's projection cannot be opened; the record itself is complete");
                }
            });
        }
    }

    /// Goes on with runs that nobody executes.
    fn go_on(self: &Arc<Self>, runs: Vec<(RunId, JobId)>) {
        for (run, job) in runs {
            if self.executions.of_run(run).is_none() {
                tracing::warn!(%job, "goes on with a job that was interrupted or has waited long enough");
                self.start_projection();
                self.executions.start(self.engine.clone(), run, job, Actor::system());
            }
        }
    }

    /// A gate for what a person does without a job: the operator's policy decides, as for steps, and each decision is on record.
    pub(crate) fn gate_of(&self, actor: Actor, capability: &CapabilityId) -> Result<AttemptGate, CliError> {
        let only_this = || [capability.clone()].into_iter().collect();
        let profile = ProfileId::new("operator").map_err(|error| CliError::internal(error.to_string()))?;
        let rights = EffectiveRights {
            plugin: None,
            declared: only_this(),
            granted: only_this(),
            profile: Arc::new(Profile { id: profile, capabilities: only_this() }),
            access_mode: AccessMode::ApplyScoped,
            policy: self.policy.clone(),
            manifest_sha256: Digest::ZERO,
            workspace: None,
        };
        let identity = AttemptIdentity {
            trace: TraceId::fresh(&*self.gate.ids),
            actor,
            component_sha256: None,
            span: None,
            place: None,
        };
        Ok(AttemptGate::new(identity, Arc::new(rights), self.gate.clone()))
    }

    /// Whether the data directory was made from a backup and nothing in it goes on by itself.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Lets it go on, from the next look at what can.
    pub(crate) fn release(&self) -> Result<(), CliError> {
        backup::release(&self.directory)?;
        self.held.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Puts on record what is about to be done.
    pub(crate) async fn record_system(&self, actor: Actor, kind: &str, detail: String) -> Result<(), CliError> {
        let (ids, clock) = (&*self.gate.ids, &self.gate.clock);
        let body = EventBody::System { kind: kind.to_owned(), detail };
        let event = Event::new(EventId::fresh(ids), TraceId::fresh(ids), clock.now(), actor, body);
        Ok(self.gate.recorder.record_event(&event).await?)
    }

    /// Where plugins lie that were added.
    pub(crate) fn plugin_store(&self) -> PluginStore {
        plugin_store(&self.directory)
    }

    /// A runtime over other services than this host's, with these environment variables for its steps.
    pub(crate) fn runtime_over(
        &self,
        services: RuntimeServices,
        environment: BTreeMap<String, String>,
    ) -> Result<WasmRuntime, CliError> {
        Ok(self.workshop.over(services, environment)?)
    }
}

/// Looks now and then for what can go on, whichever host left it behind.
async fn look(state: Arc<HostState>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if state.is_held() {
            continue;
        }
        let Some(_open) = state.executions.admit() else { continue };
        match state.engine.look().await {
            Ok(runs) => state.go_on(runs),
            // The next look tries again.
            Err(error) => tracing::warn!(%error, "cannot look for jobs that can go on"),
        }
    }
}

/// A host at work: the state, its API, and the ownership that makes it the only one.
pub(crate) struct Host {
    state: Arc<HostState>,
    router: Router,
    stop_server: CancellationToken,
    server: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
    stop_keeping: CancellationToken,
    keeping: JoinHandle<()>,
    exporter: Option<Exporter>,
    // Last, so that the directory is free only when everything above is gone.
    _ownership: Ownership,
}

fn plugin_store(directory: &DataDirectory) -> PluginStore {
    PluginStore::new(directory.file("plugins"))
}

impl Host {
    /// Opens everything in the data directory and serves the API.
    pub(crate) async fn open(
        ownership: Ownership,
        directory: &DataDirectory,
        settings: &Settings,
        need: Need,
        redaction: Redaction,
    ) -> Result<Self, CliError> {
        // At once, so that other commands can tell a host that starts from one that is stuck.
        let (gateway, stop_server) = (Gateway::default(), CancellationToken::new());
        let ends_with_failure = stop_server.clone().drop_guard();
        let server = tokio::spawn(api::server::serve(ownership.listen()?, gateway.clone(), stop_server.clone()));
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (policy, policy_text) = policy::load_with_text(settings)?;
        let policy = PolicyInForce::new(policy);
        let evidence = Arc::new(Evidence::open(directory, Arc::clone(&clock))?);
        evidence.put_in_force("policy", policy_text)?;
        for profile in &settings.profiles {
            evidence.put_in_force(&format!("profile {}", profile.id), profile.text())?;
        }
        evidence.expire(settings.recorder.policy.retention);
        let environment = |name: &str| std::env::var(name).ok();
        let secrets = OperatorSecrets::load(&settings.secrets, &settings.project, &keyring::read, Arc::clone(&ids))?;
        let keys = handshake_models::load_keys(&settings.models, &environment)?;
        let mut exact_values = keys.secret_values();
        if exact_values.iter().any(|key| key.len() < SHORTEST_EXACT) {
            tracing::warn!("a model's key has fewer than {SHORTEST_EXACT} bytes; records cannot be kept free of it");
        }
        exact_values.extend(secrets.exact_values());
        let url = settings.database.url.clone();
        let restored = backup::restored(directory)?;
        redaction.learn(exact_values);
        let redactor: Arc<dyn Redactor> = Arc::new(redaction.clone());

        let options = DatabaseOptions {
            // An SQLite file knows its host; one that is made anew belongs to a new one.
            host: if url.file().is_some() { HostId::fresh(&*ids) } else { ownership.host_id(&*ids)? },
            url: url.clone(),
            clock: Arc::clone(&clock),
            lease: LEASE,
            queue: WRITER_QUEUE,
            limits: settings.database.limits,
        };
        let database = SqlDatabase::open(options).await.map_err(|error| not_opened(&url, error))?;
        let outbox: Arc<dyn EventOutbox> = Arc::clone(&database) as Arc<dyn EventOutbox>;
        let key = SigningKey::load_or_create(&settings.recorder.signing_key(directory), &*ids)
            .map_err(|error| recorder::key_refused(&error))?;
        let segments = directory.file("recorder").join("segments").join(database.host().to_string());
        let archive = Archive::open(segments, database.host(), Arc::new(key))
            .map_err(|error| CliError::usage("cannot open the flight recorder's segments").because(&error))?;
        let log = Arc::new(RecordLog::new(Arc::clone(&outbox), Arc::new(archive)));
        let recorder: Arc<dyn FlightRecorder> =
            Arc::new(Recorder::new(Arc::clone(&outbox), Arc::clone(&redactor), Arc::clone(&clock)));
        let gate = GateServices { recorder: Arc::clone(&recorder), clock: Arc::clone(&clock), ids: Arc::clone(&ids) };
        let models = ModelRegistry::new(settings.models.clone(), keys, gate.clone())?;
        let credentials = Credentials { models: models.usable(), secrets: secrets.usable() };
        let models: Arc<dyn Models> = Arc::new(models);
        let exporter = match need {
            // Before anything goes on, so that all of it is seen.
            Need::Jobs => settings.telemetry.start(&(Arc::clone(&log) as _), &clock, &*models, &redaction).await,
            Need::Answers => None,
        };

        let artifacts = FileArtifacts::new(directory.file("artifacts"), Arc::clone(&database), Arc::clone(&ids))?;
        let artifacts = Arc::new(artifacts);
        let janitor = Janitor::new(JanitorServices {
            database: Arc::clone(&database) as _,
            content: Arc::clone(&artifacts) as _,
            recorder: Arc::clone(&recorder),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            host: database.host(),
            policy: settings.retention.policy,
        });
        let keeper = Keeper::new(
            KeeperServices {
                log: Arc::clone(&log),
                recorder: Arc::clone(&recorder),
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                head_file: settings.recorder.head_file(directory),
                notes_file: directory.file("recorder").join("expiry.json"),
            },
            settings.recorder.policy,
        );
        let workshop = Workshop { cache_dir: directory.file("cache"), cache_key: ownership.cache_key(&*ids)? };
        let options = RuntimeOptions {
            plugin_folders: settings.plugin_folders.clone(),
            plugin_store: Some(plugin_store(directory)),
            cache_dir: workshop.cache_dir.clone(),
            cache_key: workshop.cache_key,
            max_instances: settings.max_parallel,
            environment: settings.environment.values(&environment),
        };
        let services = RuntimeServices {
            gate: gate.clone(),
            models: Arc::clone(&models),
            artifacts: Arc::clone(&artifacts) as _,
            documents: Arc::new(StoredDocuments::new(Arc::clone(&database) as _, Arc::clone(&database) as _)),
            secrets: Arc::new(secrets),
            resolver: Arc::new(SystemResolver),
        };
        let runtime = Arc::new(WasmRuntime::new(options, services)?);
        let database: Arc<dyn Database> = database;
        let policy_keeper = Arc::new(PolicyKeeper::new(
            settings.policy.clone(),
            policy.clone(),
            Arc::clone(&evidence),
            gate.clone(),
            directory.file("policy.sha256"),
        ));
        if need == Need::Jobs {
            policy_keeper.begin().await?;
        }
        let engine = Engine::new(EngineServices {
            database: Arc::clone(&database) as _,
            content: Arc::clone(&database) as _,
            recorder,
            executor: Arc::new(Witness::new(Arc::clone(&runtime), Arc::clone(&evidence))),
            mounts: Arc::new(HostMounts::new(policy.clone(), directory.path().to_owned(), &settings.trusted_paths())),
            clock,
            ids,
            policy: policy.clone(),
            profiles: settings.profiles.clone(),
            settings: Arc::clone(&settings.plugin_settings),
            lease: LEASE,
            max_parallel: usize::try_from(settings.max_parallel).unwrap_or(1),
            safeguards: Safeguards {
                credentials: Some(Arc::new(credentials)),
                budget: settings.budget.clone(),
                scanner: Some(Arc::new(redaction.clone())),
                redactor: Some(redactor),
            },
        });
        engine.refresh_grants().await?;
        for found in engine.recover().await? {
            tracing::warn!(job = %found.job_id, state = %found.state, "{}", found.reason);
        }

        let state = Arc::new(HostState {
            engine,
            database,
            models,
            runtime,
            gate,
            policy,
            policy_keeper,
            policy_name: evidence::shown(settings.policy.as_deref()),
            profiles: settings.profiles.clone(),
            evidence,
            executions: Arc::new(Executions::new(need == Need::Jobs)),
            project: settings.project.clone(),
            directory: directory.clone(),
            url,
            janitor,
            trigger_added: Notify::new(),
            token_revoked: watch::Sender::new(()),
            workshop,
            keeper,
            newsroom: Newsroom::new(Arc::clone(&log)),
            log,
            artifacts: Arc::clone(&artifacts) as _,
            held: AtomicBool::new(restored.is_some()),
            retention: settings.recorder.policy.retention,
            projection: OnceCell::new(),
            projecting: AtomicBool::new(false),
            redaction,
        });
        if let Some(backup) = restored {
            let detail = format!("made from a backup of {}; what was unfinished then waits", backup.taken_at);
            tracing::warn!("this data directory was {detail}, until `handshake restore --release`");
            state.record_system(Actor::system(), "restored", detail).await?;
        } else if need == Need::Jobs {
            state.go_on(state.engine.resumable().await?);
        }
        let router = Router::new().route("/health", get(health)).with_state(Arc::clone(&state));
        let router = router.merge(api::router(Arc::clone(&state))).layer(Extension(Caller::owner()));
        gateway.open(router.clone());
        ends_with_failure.disarm();
        let watch = (need == Need::Jobs).then(|| tokio::spawn(look(Arc::clone(&state))));
        let policies = (need == Need::Jobs).then(|| tokio::spawn(policy_keeper::watch(Arc::clone(&state))));
        let triggers = (need == Need::Jobs).then(|| tokio::spawn(triggers::keep_firing(Arc::clone(&state))));
        let janitor = settings.retention.interval.filter(|_| need == Need::Jobs).map(|interval| {
            let (state, dry_run) = (Arc::clone(&state), settings.retention.dry_run);
            tokio::spawn(async move { state.janitor.run_every(interval, dry_run).await })
        });
        let tasks = watch.into_iter().chain(policies).chain(triggers).chain(janitor).collect();
        let stop_keeping = CancellationToken::new();
        let keeping = tokio::spawn(recorder::keep(Arc::clone(&state), stop_keeping.clone()));
        Ok(Self { state, router, stop_server, server, tasks, stop_keeping, keeping, exporter, _ownership: ownership })
    }

    /// What the API answers from.
    pub(crate) fn state(&self) -> Arc<HostState> {
        Arc::clone(&self.state)
    }

    /// The API, for requests of this process.
    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// Finishes what other commands have submitted, then writes and closes everything.
    pub(crate) async fn close(self, output: &Output) -> Result<(), CliError> {
        let executions = &self.state.executions;
        executions.refuse_more();
        let others = executions.count();
        if others > 0 {
            output.note(&format!(
                "still executing {others} {} of other commands",
                if others == 1 { "run" } else { "runs" }
            ));
        }
        let mut signals = Signals::new()?;
        loop {
            tokio::select! {
                () = executions.finished() => break,
                () = signals.next() => executions.stop(),
            }
        }
        self.end().await
    }

    /// Leaves what is executed to the next process, once the steps that run have ended; then writes and closes
    /// everything. Steps that take longer than `grace` are left as they are: the next process finds them interrupted.
    pub(crate) async fn leave(self, grace: Duration) -> Result<(), CliError> {
        self.state.executions.leave();
        if tokio::time::timeout(grace, self.state.executions.finished()).await.is_err() {
            let left = self.state.executions.count();
            tracing::warn!("{left} runs did not come to a rest in time; the next process finds them interrupted");
        }
        self.end().await
    }

    async fn end(self) -> Result<(), CliError> {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.stop_server.cancel();
        let mut server = self.server;
        if tokio::time::timeout(LAST_ANSWERS, &mut server).await.is_err() {
            server.abort();
        }
        if let Some(exporter) = self.exporter {
            exporter.close().await;
        }
        // It ends what it is about, so that no file changes any more when the next process opens them.
        self.stop_keeping.cancel();
        let _ = self.keeping.await;
        self.state.keeper.publish_head().await;
        if self.state.is_projecting() {
            self.state.projection().await?.close().await.map_err(|error| store_failure(&error))?;
        }
        Ok(self.state.database.close().await?)
    }
}
