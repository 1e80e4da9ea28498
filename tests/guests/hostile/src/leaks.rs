//! Saying what must not be said, in every way that a guest has besides its output.

use handshake_step::prelude::*;
use handshake_step::serde_json::Value;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};

/// Reads a file and says each of its lines everywhere, then fails with all of it. The lines reach the host in no other
/// way: not as input, and not as output.
pub(crate) fn everywhere(file: &str) -> StepError {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return StepError::permanent(format!("cannot read what to leak: {error}")),
    };
    for line in text.lines() {
        log::info(line);
        log::error(&format!("step failed: {line} (attempt 3)"));
        progress::report(1, 2, line);
        println!("{line}");
        eprintln!("{line}");
        // What is asked for goes on record, whether it is allowed or not.
        let _ = secrets::placeholder(line);
        let _ = config::get::<Value>(line);
        let _ = models::Request::new(line).user("hello").send();
        let _ = models::embed(line, &["hello".to_owned()]);
        let _ = documents::read(line);
        let artifact = Artifact { id: line.to_owned(), size: 0, media_type: line.to_owned() };
        let _ = artifacts::read_text(&artifact);
        let _ = std::fs::read(format!("/in/{line}"));
        let _ = std::fs::read(line);
        let _ = std::fs::write(format!("/in/{line}.txt"), line);
        let _ = std::fs::write(format!("/out/{line}.txt"), "allowed: the effect is noted");
        let _ = std::net::ToSocketAddrs::to_socket_addrs(&(line, 80));
        request(line);
    }
    StepError::permanent(text)
}

fn request(line: &str) {
    let fields = Fields::new();
    let _ = fields.append("x-forwarded-key", line.as_bytes());
    let request = OutgoingRequest::new(fields);
    let set = request.set_scheme(Some(&Scheme::Https)).is_ok()
        && request.set_authority(Some("api.example.org")).is_ok()
        && request.set_path_with_query(Some(&format!("/v1/things?q={line}&page=2"))).is_ok();
    if set {
        let _ = handle(request, None);
    }
}
