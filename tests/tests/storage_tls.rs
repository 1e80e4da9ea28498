//! PostgreSQL over TLS, as the URL asks for it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::sync::Arc;

use handshake_core::HostId;
use handshake_core::storage::{Database, FaultKind, StorageError};
use handshake_core::testing::{FixedClock, SequentialIds};
use handshake_storage::SqlDatabase;
use handshake_tests::postgres::{Backend, Options, Server, backends};
use handshake_tests::storage::options;

async fn open(url: &str) -> Result<Arc<SqlDatabase>, StorageError> {
    let host = HostId::fresh(&SequentialIds::default());
    SqlDatabase::open(options(&url.parse().unwrap(), host, Arc::new(FixedClock::default()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_asks_for_tls_gets_it_or_nothing() {
    if !backends().contains(&Backend::Postgres) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let tls = Options { tls: true, ..Options::default() };
    let servers = tokio::task::spawn_blocking(move || (Server::private(tls), Server::private(tls)));
    let (server, other) = servers.await.unwrap();
    let url = |parameters: String| format!("{}?{parameters}", server.url());
    let trusting = |server: &Server| format!("sslmode=verify-full&sslrootcert={}", server.ca_file().display());

    let database = open(&url(trusting(&server))).await.unwrap();
    database.ping().await.unwrap();
    database.close().await.unwrap();
    // The default takes TLS where the server offers it, and this one insists.
    open(&server.url()).await.unwrap().close().await.unwrap();

    let stranger = open(&url(trusting(&other))).await.unwrap_err();
    assert_eq!(FaultKind::of(&stranger), Some(FaultKind::Tls), "a certificate of another authority: {stranger:?}");
    let plain = open(&url("sslmode=disable".into())).await.unwrap_err();
    assert_eq!(FaultKind::of(&plain), Some(FaultKind::Login), "this server takes nobody without TLS: {plain:?}");
    let named = server.url().replace("127.0.0.1", "localhost.localdomain");
    let unknown = open(&format!("{named}?{}", trusting(&server))).await.unwrap_err();
    assert!(FaultKind::of(&unknown).is_some(), "a name that the certificate does not have: {unknown:?}");
}
