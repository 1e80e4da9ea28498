//! Claiming to be someone else, asking for what belongs to others, and speaking to the terminal.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use handshake_step::prelude::*;
use handshake_step::serde_json::{Value, json};
use handshake_step::{Denial, Layer};

use crate::attempts::{Attempts, Outcome};

/// Colour, title, clipboard (OSC 52), C1 controls, backspaces, line breaks, right-to-left override, zero-width space.
pub(crate) const ESCAPES: &str = "\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7} \u{1b}]52;c;aGk=\u{7} \u{9b}2J \
                                  \u{8}\u{8}\r\nforged line \u{202e}desrever\u{202c} \u{200b}\u{2066}x\u{2069}";

/// Returns, logs and stores other ids than those it was given, as if the host had said so.
pub(crate) fn forge_context(attempts: &mut Attempts, context: &Context) -> Value {
    let forged = json!({
        "run": "00000000-0000-7000-8000-000000000001",
        "job": "00000000-0000-7000-8000-000000000002",
        "step": "somebody-else",
        "attempt": 99,
        "trace": "f".repeat(32),
        "idempotency_key": "forged",
        "access_mode": "apply_scoped",
        "actor": "system",
    });
    log::info(&format!("{{\"event_type\":\"capability_action\",\"payload\":{forged}}}"));
    log::error(&format!("\n2026-01-01T00:00:00Z INFO run={} decision=allow", forged["run"]));
    progress::report(1, 1, &forged.to_string());
    attempts.call("artifact with forged ids", artifacts::write("application/json", forged.to_string().as_bytes()));
    json!({
        "context": {
            "run": context.run,
            "job": context.job,
            "step": context.step,
            "index": context.index,
            "attempt": context.attempt,
            "trace": context.trace,
            "idempotency_key": context.idempotency_key,
            "access_mode": format!("{:?}", context.access_mode),
        },
        "forged": forged,
    })
}

/// A refusal that never took place.
pub(crate) fn forged_denial(capability: &str) -> StepError {
    StepError::Denied(Denial {
        capability: capability.to_owned(),
        resource: "forged".to_owned(),
        reason: "operator-denied".to_owned(),
        layer: Layer::Policy,
        remedy: format!("add `*` to the policy {ESCAPES}"),
    })
}

pub(crate) fn read_artifact(attempts: &mut Attempts, id: &str) {
    let artifact = Artifact { id: id.to_owned(), size: 0, media_type: String::new() };
    attempts.call(format!("artifact {id}"), artifacts::read_text(&artifact));
}

pub(crate) fn write_artifact(attempts: &mut Attempts, media_type: &str) {
    attempts.call("artifact write", artifacts::write(media_type, b"an artifact of the hostile guest"));
    attempts.call("artifact of 17 MiB", artifacts::write(media_type, &vec![b'x'; 17 << 20]));
}

pub(crate) fn infer(attempts: &mut Attempts, model: &str) {
    let answer = models::Request::new(model).user("One sentence. Another one.").send();
    attempts.call(format!("generate {model}"), answer.map(|answer| answer.text));
}

pub(crate) fn embed(attempts: &mut Attempts, model: &str) {
    attempts.call(format!("embed {model}"), models::embed(model, &["text".to_owned()]).map(|vectors| vectors.len()));
}

pub(crate) fn secret(attempts: &mut Attempts, name: &str) {
    attempts.call(format!("secret {name}"), secrets::placeholder(name));
}

pub(crate) fn config(attempts: &mut Attempts, key: &str) {
    attempts.call(format!("config {key}"), config::get::<Value>(key));
}

pub(crate) fn document_read(attempts: &mut Attempts, id: &str) {
    attempts.call("document list", documents::list().map(|list| list.len()));
    attempts.call(format!("document {id}"), documents::read(id).map(|document| document.blocks.len()));
}

pub(crate) fn document_propose(attempts: &mut Attempts, id: &str) {
    let operations = [documents::Operation::DeleteBlock("block-1".to_owned())];
    attempts.call(format!("propose to {id}"), documents::propose(id, 1, &operations));
}

/// Names only: values may be somebody's.
pub(crate) fn environment(attempts: &mut Attempts) -> Value {
    let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    let arguments = std::env::args().count();
    let outcome = if names.is_empty() { Outcome::Denied } else { Outcome::Ok };
    attempts.add("environment", outcome, format!("{} variables, {arguments} arguments", names.len()));
    attempts.add(
        "initial-cwd",
        if wasip2::cli::environment::initial_cwd().is_some() { Outcome::Ok } else { Outcome::Denied },
        "",
    );
    names.into()
}

// The guest's own view of time is what the host wants to see.
#[allow(clippy::disallowed_methods)]
pub(crate) fn clock(attempts: &mut Attempts) -> Value {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_micros() as u64).unwrap_or_default();
    let start = Instant::now();
    attempts.add("clock", Outcome::Ok, format!("{:?}", start.elapsed()));
    json!({ "wall_us": wall })
}

pub(crate) fn terminal_escapes(attempts: &mut Attempts) -> String {
    log::trace(&format!("trace {ESCAPES}"));
    log::warn(&format!("warn {ESCAPES}"));
    progress::report(1, 2, &format!("progress {ESCAPES}"));
    println!("stdout {ESCAPES}");
    eprintln!("stderr {ESCAPES}");
    attempts.call("artifact with escapes in its type", artifacts::write(ESCAPES, b"x"));
    attempts.call("config with escapes", config::get::<Value>(ESCAPES));
    attempts.call("document with escapes", documents::read(ESCAPES).map(|document| document.blocks.len()));
    attempts.io("file with escapes", std::fs::write(format!("/out/{ESCAPES}"), "x"));
    attempts.add("output with escapes", Outcome::Ok, ESCAPES);
    format!("output {ESCAPES}")
}
