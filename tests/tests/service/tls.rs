//! TLS: other computers get it or nothing.

use std::process::Command;

use handshake_tests::binary::Project;
use handshake_tests::service::Service;
use reqwest::{Certificate, Client, StatusCode};

/// A certificate for `localhost` that signs itself.
fn certify(project: &Project) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(project.path(""))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let project = Project::new();
    certify(&project);
    let config = std::fs::read_to_string(project.path("handshake.toml")).unwrap();
    let serve = "[serve]\nlisten = \"127.0.0.1:0\"\ntls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"\n";
    project.write("handshake.toml", format!("{config}\n{serve}"));
    let certificate = std::fs::read(project.path("cert.pem")).unwrap();
    let service = Service::of(project);
    let url = service.url("/health");
    assert!(url.starts_with("https://"), "{url}");
    let trusting = Client::builder().add_root_certificate(Certificate::from_pem(&certificate).unwrap());
    let answer = trusting.build().unwrap().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(Client::new().get(&url).send().await.is_err(), "a stranger's certificate");
    assert!(Client::new().get(url.replace("https", "http")).send().await.is_err(), "without TLS");
}
