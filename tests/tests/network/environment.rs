//! Environment variables: those of the operator's list that the step was granted.

use handshake_core::event::Outcome;
use handshake_tests::runtime::{Rights, TestRuntime};
use serde_json::json;

use super::{call, only_decision, only_outcome, outcomes};

#[tokio::test]
async fn a_step_sees_the_variables_that_all_layers_allow_in_one_decision() {
    let everything = Rights::granting(&["env.read"]);
    for (rights, text, resource) in [
        (everything.clone(), "APP_MODE=test\nLANG=C", "APP_MODE, LANG"),
        (Rights::granting(&["env.read:LANG"]), "LANG=C", "LANG"),
        (Rights::granting(&["env.read:APP_*", "env.read:PATH"]), "APP_MODE=test", "APP_MODE"),
        (everything.clone().under(&[("env.read:LANG", &[])]), "LANG=C", "LANG"),
        (Rights { profile: Some(vec!["env.read:APP_*"]), ..everything }, "APP_MODE=test", "APP_MODE"),
    ] {
        let runtime = TestRuntime::new();
        let done = call(&runtime, &rights, json!({ "do": "environment" })).await;
        assert_eq!(done["text"], text);
        assert_eq!(only_decision(&runtime, "env.read", Outcome::Allow).resource, resource);
        let outcome = only_outcome(&runtime, "env.read");
        assert_eq!((outcome.result.as_str(), outcome.bytes_in), ("ok", text.replace(['=', '\n'], "").len() as u64));
    }
}

#[tokio::test]
async fn a_step_without_the_grant_sees_an_empty_environment() {
    for rights in
        [Rights::granting(&[]), Rights::granting(&["env.read:PATH"]), Rights::granting(&["env.read"]).under(&[])]
    {
        let runtime = TestRuntime::new();
        let done = call(&runtime, &rights, json!({ "do": "environment" })).await;
        assert_eq!((&done["ok"], done.get("text")), (&json!(true), None), "{done}");
        only_decision(&runtime, "env.read", Outcome::Deny);
        assert_eq!(outcomes(&runtime, "env.read"), []);
    }
}
