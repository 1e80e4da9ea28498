//! The recorder's page of the real binary, over a large file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use handshake_core::storage::EventOutbox as _;
use handshake_tests::binary::Project;
use handshake_tests::figures::{Figure, percentile};
use handshake_tests::service::Service;
use reqwest::Client;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::queries;

/// Looks at the page, as it comes first and filtered.
const PATHS: [&str; 2] = ["/recorder", "/recorder?event_type=capability_action&decision_outcome=allow"];

/// A host whose record is the large one: its books say so, and its outbox holds the last record.
async fn service(events: u64) -> Service {
    let (record, projection) = queries::open(events).await;
    projection.close().await.unwrap();
    let project = Project::new();
    let settings = std::fs::read_to_string(project.path("handshake.toml")).unwrap();
    project.write("handshake.toml", settings + "\n[recorder]\nretention_days = 3650\n");
    project.run(&["jobs", "list"]).success();
    std::fs::copy(queries::folder(events).join("recorder.duckdb"), project.path(".handshake/recorder.duckdb")).unwrap();
    let options = SqliteConnectOptions::new().filename(project.path(".handshake/handshake.db"));
    let mut books = options.connect().await.unwrap();
    let head = record.head();
    let at = |number: u64| i64::try_from(number).unwrap();
    sqlx::query("UPDATE hosts SET host = $1, head_seq = $2, head_hash = $3, head_recorded_at = $4")
        .bind(head.host.to_string())
        .bind(at(head.seq))
        .bind(head.hash.to_string())
        .bind(head.recorded_at.micros())
        .execute(&mut books)
        .await
        .unwrap();
    sqlx::query("DELETE FROM outbox").execute(&mut books).await.unwrap();
    for last in Arc::clone(&record).read_after(events - 1, 1).await.unwrap() {
        sqlx::query(
            "INSERT INTO outbox (host, seq, event_id, recorded_at, hash, record) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(last.host.to_string())
        .bind(at(last.seq))
        .bind(last.event_id.to_string())
        .bind(last.recorded_at.micros())
        .bind(last.hash.to_string())
        .bind(last.record)
        .execute(&mut books)
        .await
        .unwrap();
    }
    books.close().await.unwrap();
    let _ = std::fs::remove_file(project.path(".handshake/recorder/head.json"));
    Service::of(project)
}

/// How long it takes until the page begins to come.
pub(crate) async fn figures() -> Vec<Figure> {
    let events = queries::events();
    let service = service(events).await;
    let token = service.token("reviewer", "bench");
    let client = Client::new();
    let mut figures = Vec::new();
    for path in PATHS {
        let mut first = Vec::new();
        for _ in 0..21 {
            let start = Instant::now();
            let answer = client.get(service.url(path)).bearer_auth(&token).send().await.unwrap();
            first.push(start.elapsed());
            let page = answer.error_for_status().unwrap().text().await.unwrap();
            assert!(page.matches("<tr").count() > 40, "{page}");
        }
        let (median, slowest) = (percentile(first.clone(), 50), percentile(first, 100));
        figures.push(Figure {
            what: format!("page {path}, first byte"),
            value: format!("{median:.1?}, at most {slowest:.1?}"),
            floor: format!("over {events} events"),
            budget: "≤ 150 ms",
            met: median <= Duration::from_millis(150),
        });
    }
    figures
}
