//! The imports of `handshake:step`.

use handshake_step::prelude::*;
use handshake_step::serde_json::Value;

use crate::calls::Calls;

pub(crate) fn all(calls: &mut Calls, document: &str, model: &str) {
    log::info("census");
    calls.made("handshake:step/log", "write", ());
    progress::report(1, 2, "census");
    calls.made("handshake:step/progress", "report", ());

    let documents = "handshake:step/documents";
    calls.tried(documents, "list", documents::list());
    calls.tried(documents, "read", documents::read(document));
    let operations = [documents::Operation::DeleteBlock("block-1".to_owned())];
    calls.tried(documents, "propose", documents::propose(document, 1, &operations));

    let artifacts = "handshake:step/artifacts";
    let written = calls.tried(artifacts, "write", artifacts::write("text/plain", b"census"));
    let unknown = || Artifact { id: "0".repeat(64), size: 0, media_type: String::new() };
    calls.tried(artifacts, "read", artifacts::read(&written.unwrap_or_else(unknown)));
    calls.tried(artifacts, "read", artifacts::read(&unknown()));

    let models = "handshake:step/models";
    calls.tried(models, "generate", models::Request::new(model).user("One sentence. Another one.").send());
    calls.tried(models, "embed", models::embed(model, &["text".to_owned()]));

    calls.tried("handshake:step/secrets", "placeholder", secrets::placeholder("token"));
    calls.tried("handshake:step/config", "get", config::get::<Value>("key"));
}
