//! The flight recorder's files on the real binary: sealed, verified, proved, damaged and rebuilt.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handshake_core::storage::{Database, EventOutbox};
use handshake_core::testing::SequentialIds;
use handshake_core::{Clock, HostId, Timestamp};
use handshake_storage::{DatabaseUrl, SqlDatabase};
use handshake_tests::binary::{Finished, Project};
use handshake_tests::postgres::{Backend, TestDatabase, backends, server};
use handshake_tests::storage::{event, options};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

struct SystemClock;
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_micros(since.as_micros().try_into().unwrap())
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A project with a database of a backend.
struct Place {
    project: Project,
    url: DatabaseUrl,
    secret_url: String,
    runtime: Runtime,
    ids: SequentialIds,
    _database: Option<TestDatabase>,
}

impl Place {
    fn new(backend: Backend) -> Self {
        let (project, runtime) = (Project::new(), Runtime::new().unwrap());
        let database = (backend == Backend::Postgres).then(|| runtime.block_on(server().fresh_database()));
        let file = format!("sqlite:{}", project.path(".handshake/handshake.db").display());
        let secret_url = database.as_ref().map_or(file, |database| database.url.clone());
        let url = secret_url.parse().unwrap();
        let place = Self { project, url, secret_url, runtime, ids: SequentialIds::default(), _database: database };
        place.run(&["recorder", "status"]).success();
        place
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        self.project.command(arguments).env("DATABASE_URL", &self.secret_url).output().unwrap().into()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[&["--output", "json"], arguments].concat()).success().json()
    }

    /// Records events as the host that owns the data directory, while no process does; returns their ids.
    fn record(&self, count: usize) -> Vec<String> {
        let host = std::fs::read_to_string(self.project.path(".handshake/host-id"));
        // SQLite knows its host.
        let host = host.map_or_else(|_| HostId::fresh(&SequentialIds::default()), |id| id.trim().parse().unwrap());
        self.runtime.block_on(async {
            let options = options(&self.url, host, Arc::new(SystemClock));
            let database = SqlDatabase::open(options).await.unwrap();
            let mut ids = Vec::new();
            for n in 0..count {
                let event = event(&self.ids, &format!("note {n}"));
                ids.push(event.event_id().to_string());
                database.enqueue(event).unwrap();
            }
            database.flush().await.unwrap();
            database.close().await.unwrap();
            ids
        })
    }

    fn segments(&self) -> PathBuf {
        let host = self.json(&["recorder", "status"])["projection"]["host"].as_str().unwrap().to_owned();
        self.project.path(".handshake/recorder/segments").join(host)
    }
}

fn parquet(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "parquet")).collect();
    paths.sort();
    paths
}

#[test]
fn what_is_recorded_is_sealed_verified_and_proved_to_others() {
    for backend in backends() {
        let place = Place::new(backend);
        let ids = place.record(150);
        assert_eq!(place.json(&["recorder", "status"])["unsealed"], 150);
        let sealed = place.json(&["recorder", "seal"]);
        assert_eq!(sealed, json!({ "segments": 1, "records": 150, "sealed_to": 150 }));
        assert_eq!(place.json(&["db", "status"])["statistics"]["outbox_events"], 0);
        let status = place.json(&["recorder", "status"]);
        assert_eq!((&status["segments"], &status["segment_records"]), (&json!(1), &json!(150)));
        assert_eq!((&status["projection"]["projected"], &status["problems"]), (&json!(150), &json!([])));
        let files = parquet(&place.segments());
        assert_eq!(files[0].file_name().unwrap(), "00000000000000000001-00000000000000000150.parquet");

        // A head that somebody else keeps.
        let head = place.project.path("head-of-yesterday.json");
        std::fs::copy(place.project.path(".handshake/recorder/head.json"), &head).unwrap();
        let more = place.record(20);
        let verified = place.json(&["audit", "verify", "--head", "head-of-yesterday.json"]);
        assert_eq!((&verified["finding"], &verified["outside_head"]), (&Value::Null, &json!(150)));
        assert_eq!(
            (&verified["seq"], &verified["segment_records"], &verified["outbox_records"], &verified["rows"]),
            (&json!(170), &json!(150), &json!(20), &json!(170))
        );
        let alone = place.run(&["audit", "verify"]).success();
        assert!(alone.stdout.contains("self-consistent only"), "{}", alone.stdout);

        // A sealed event and one that is sealed for the proof, checked where there is no data directory.
        let elsewhere = Project::bare();
        elsewhere.write("key.pem", place.run(&["recorder", "public-key"]).success().stdout);
        for id in [&ids[70], &more[19]] {
            let proof = place.run(&["audit", "prove", id]).success().stdout;
            elsewhere.write("proof.json", &proof);
            let check = ["--output", "json", "audit", "check-proof", "proof.json", "--public-key", "key.pem"];
            let checked = elsewhere.run(&check).success().json();
            assert_eq!((&checked["proved"], &checked["event_id"]), (&json!(true), &json!(id)));
            elsewhere.write("proof.json", proof.replace("note", "NOTE"));
            let refused = elsewhere.run(&check);
            assert_eq!((refused.code, &refused.json()["proved"]), (5, &json!(false)));
            assert!(!elsewhere.path(".handshake").exists());
        }
        let unknown = place.run(&["audit", "prove", "00000000-0000-7000-8000-00000000ffff"]);
        assert_eq!(unknown.code, 2, "{unknown:?}");

        // One bit.
        let mut content = std::fs::read(&files[0]).unwrap();
        content[1000] ^= 1;
        std::fs::write(&files[0], content).unwrap();
        let broken = place.run(&["--output", "json", "audit", "verify", "--head", "head-of-yesterday.json"]);
        assert_eq!((broken.code, &broken.json()["finding"]["seq"]), (5, &json!(1)));
        let shown = place.run(&["audit", "verify"]);
        assert!(shown.code == 5 && shown.stdout.contains("wrong at event 1"), "{shown:?}");
    }
}

#[test]
fn a_record_that_was_cut_off_does_not_fit_the_head_that_was_kept() {
    let place = Place::new(Backend::Sqlite);
    place.record(10);
    place.json(&["recorder", "status"]);
    let before = std::fs::read(place.project.path(".handshake/handshake.db")).unwrap();
    place.record(10);
    place.json(&["recorder", "status"]);
    let head = std::fs::read(place.project.path(".handshake/recorder/head.json")).unwrap();
    // The attacker has yesterday's database, and makes everything else fit.
    std::fs::write(place.project.path(".handshake/handshake.db"), before).unwrap();
    for file in ["recorder.duckdb", "recorder/head.json"] {
        std::fs::remove_file(place.project.path(".handshake").join(file)).unwrap();
    }
    assert_eq!(place.run(&["audit", "verify"]).code, 0, "it is consistent with itself");
    place.project.write("kept.json", head);
    let verified = place.run(&["--output", "json", "audit", "verify", "--head", "kept.json"]);
    assert_eq!(verified.code, 5);
    assert_eq!(verified.json()["finding"]["seq"], 11);
    assert_eq!(place.run(&["audit", "verify", "--head", "handshake.toml"]).code, 2);
}

#[test]
fn a_damaged_file_or_log_is_set_aside_at_the_start_and_rebuilt_from_segments_and_outbox() {
    let place = Place::new(Backend::Sqlite);
    place.record(120);
    place.json(&["recorder", "seal"]);
    place.record(30);
    place.json(&["recorder", "status"]);
    let file = place.project.path(".handshake/recorder.duckdb");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("torn", |file| {
            let content = std::fs::read(file).unwrap();
            std::fs::write(file, &content[..content.len() / 2]).unwrap();
        }),
        ("overwritten", |file| std::fs::write(file, vec![7; 100_000]).unwrap()),
        ("a log of noise", |file| std::fs::write(file.with_extension("duckdb.wal"), vec![7; 100_000]).unwrap()),
        ("a log of zeros", |file| std::fs::write(file.with_extension("duckdb.wal"), vec![0; 5000]).unwrap()),
    ];
    for (what, damage) in damages {
        damage(&file);
        // As a process leaves it that was killed.
        std::fs::write(file.with_extension("duckdb.open"), "").unwrap();
        place.run(&["audit", "decisions"]).success();
        let verified = place.json(&["audit", "verify"]);
        assert_eq!((&verified["finding"], &verified["rows"]), (&Value::Null, &json!(150)), "{what}");
        assert!(!file.with_extension("duckdb.open").exists(), "{what}");
    }
    let aside = std::fs::read_dir(place.project.path(".handshake")).unwrap();
    let aside = aside.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains(".damaged-"));
    // DuckDB itself ignores a log that was torn at its beginning.
    assert!(aside.count() >= 2);
}

#[test]
fn what_cannot_be_rebuilt_is_a_gap_in_status_and_record() {
    let place = Place::new(Backend::Sqlite);
    place.record(100);
    place.json(&["recorder", "seal"]);
    place.record(10);
    place.json(&["recorder", "seal"]);
    std::fs::remove_file(&parquet(&place.segments())[0]).unwrap();
    let rebuilt = place.json(&["recorder", "rebuild"]);
    assert_eq!((&rebuilt["gaps"][0]["first"], &rebuilt["gaps"][0]["last"]), (&json!(1), &json!(100)));
    assert_eq!(rebuilt["records"], 10);
    let shown = place.run(&["recorder", "status"]).success().stdout;
    assert!(shown.contains("problem") && shown.contains("records 1 to 100"), "{shown}");
    let verified = place.run(&["--output", "json", "audit", "verify"]);
    assert_eq!((verified.code, &verified.json()["finding"]["seq"]), (5, &json!(1)));
    let gaps = place.project.events_behind(110, "gap");
    assert!(gaps.iter().any(|event| event["payload"]["reason"] == "damage"), "{gaps:?}");
}

#[test]
fn a_head_that_cannot_be_written_is_told_and_recording_goes_on() {
    let place = Place::new(Backend::Sqlite);
    let config = place.project.path("handshake.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[recorder]\nhead_file = 'nowhere/head.json'\n")).unwrap();
    place.record(5);
    let status = place.json(&["recorder", "status"]);
    assert_eq!(status["projection"]["projected"], 5);
    assert!(status["problems"][0].as_str().unwrap().contains("signed head"), "{status}");
    std::fs::create_dir(place.project.path("nowhere")).unwrap();
    place.json(&["recorder", "status"]);
    assert!(place.project.path("nowhere/head.json").exists());
}

#[test]
fn a_key_that_others_can_read_is_refused_and_one_elsewhere_is_used() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(Backend::Sqlite);
    let key = place.project.path(".handshake/keys/recorder.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = place.run(&["recorder", "status"]);
    assert!(refused.code == 2 && refused.stderr.contains("chmod 600"), "{refused:?}");
    let config = place.project.path("handshake.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[recorder]\nsigning_key_file = 'mine.pem'\n")).unwrap();
    place.run(&["recorder", "status"]).success();
    let mode = std::fs::metadata(place.project.path("mine.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_status_fits_a_terminal_and_commands_say_what_they_did() {
    let place = Place::new(Backend::Sqlite);
    place.record(3);
    assert_eq!(place.run(&["recorder", "seal"]).success().stdout, "sealed 3 events in 1 segment, up to event 3\n");
    assert_eq!(place.run(&["recorder", "seal"]).success().stdout, "everything is sealed, up to event 3\n");
    let shown = place.run(&["recorder", "status"]).success().stdout;
    for line in shown.lines().filter(|line| !line.starts_with("head file")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for expected in
        ["events       1 to 3", "outbox       0 not sealed", "segments     1 with 3 events", "kept         7 days"]
    {
        assert!(shown.contains(expected), "{expected} is not in {shown}");
    }
    assert!(place.run(&["recorder", "compact"]).success().stdout.contains(" kB before, "));
    let rebuilt = place.run(&["recorder", "rebuild"]).success();
    assert_eq!(rebuilt.stdout, "rebuilt with 3 events\n");
    assert!(rebuilt.stderr.contains(".replaced-"), "{}", rebuilt.stderr);
}
