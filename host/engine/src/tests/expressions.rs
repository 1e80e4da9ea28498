//! What expressions can do, and what they are kept from.

use std::sync::Arc;

use serde_json::{Value, json};

use super::doubles::yaml;
use crate::workflow::testing::{FUNCTIONS, evaluate};

fn value(expression: &str) -> Result<Value, String> {
    let inputs = Arc::new(json!({
        "n": 3, "big": 18_446_744_073_709_551_615_u64, "half": 0.5, "text": "abc", "flag": true,
        "list": [1, 2, 3], "docs": [{ "name": "b" }, { "name": "a" }], "map": { "z": 1, "a": { "x": [1] } }, "none": null,
        "long": vec![0; 2_000],
    }));
    evaluate(expression, &inputs)
}

#[test]
fn types_survive_the_way_through_an_expression() {
    assert_eq!(value("inputs.n + 1").unwrap(), json!(4));
    assert_eq!(value("inputs.big").unwrap(), json!(18_446_744_073_709_551_615_u64));
    assert_eq!(value("inputs.half * 2.0").unwrap(), json!(1.0));
    assert_eq!(value("inputs.docs.map(d, d.name)").unwrap(), json!(["b", "a"]));
    assert_eq!(value("inputs.docs[1].name").unwrap(), json!("a"));
    assert_eq!(value("inputs.map").unwrap().to_string(), r#"{"z":1,"a":{"x":[1]}}"#);
    assert_eq!(value("{'b': inputs.n, 'a': null}").unwrap().to_string(), r#"{"a":null,"b":3}"#);
    assert_eq!(value("size(inputs.list) > 2 && inputs.flag ? 'yes' : 'no'").unwrap(), json!("yes"));
    assert_eq!(value("has(inputs.map.z) && !has(inputs.map.q)").unwrap(), json!(true));
    assert_eq!(value("inputs.none == null").unwrap(), json!(true));
}

#[test]
fn expressions_without_a_value_say_why() {
    let why = |expression: &str| value(expression).unwrap_err();
    insta::assert_snapshot!(why("inputs.map.q"), @"`inputs.map.q`: there is no `q` in a value of type object");
    insta::assert_snapshot!(why("inputs.list[9]"), @"`inputs.list[9]`: there is no item 9 in a value of type list");
    insta::assert_snapshot!(why("inputs.n + 'a'"), @"`inputs.n + 'a'`: `+` does not go with int and string");
    insta::assert_snapshot!(why("inputs.n / 0"), @"`inputs.n / 0`: division by zero");
    insta::assert_snapshot!(why("size(inputs.n)"), @"`size(inputs.n)`: found no matching overload for 'size' applied to '(int)'");
    insta::assert_snapshot!(why("inputs.long.map(a, inputs.long.map(b, a * b))"), @"`inputs.long.map(a, inputs.long.map(b, a * b))`: a list has 2000 items; 1000 is the most for a comprehension inside another");
}

#[test]
fn every_listed_function_is_known_to_the_evaluator() {
    for function in FUNCTIONS {
        let known = [
            format!("{function}(inputs.text)"),
            format!("inputs.text.{function}('a')"),
            format!("inputs.?text.{function}()"),
            format!("inputs.?text.{function}(inputs.?n)"),
            format!("inputs.?text.{function}('a')"),
        ];
        assert!(
            known.iter().any(|expression| !value(expression).is_err_and(|why| why.contains("not defined"))),
            "{function}"
        );
    }
}

#[test]
fn deep_wide_and_long_expressions_are_refused_before_evaluation() {
    let refused = |expression: String| value(&expression).unwrap_err();
    assert!(refused(vec!["1"; 200].join(" + ")).contains("too large"));
    assert!(refused(format!("[{}]", vec!["1"; 1_200].join(","))).contains("too large"));
    assert!(refused("x".repeat(5_000)).contains("bytes"));
    assert!(refused(format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000))).contains("expression"));
    assert!(refused("inputs.list.map(a, inputs.list.map(b, inputs.list.map(c, a)))".into()).contains("nested"));
    assert!(value("inputs.list.map(a, inputs.list.map(b, a * b))").is_ok());
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{1: ", "}"), ("!", ""), ("-", ""), ("size([", "])"), ("true ? 1 : ", "")]
    {
        for depth in [10, 40, 60, 1_000] {
            // What counts is that neither parsing nor evaluating takes the process down.
            let deep = value(&format!("{}1{}", open.repeat(depth), close.repeat(depth)));
            assert!(deep.is_err() || depth < 100 || matches!(open, "(" | "!" | "-"), "{open}");
        }
    }
}

#[test]
fn templates_in_other_formats_read_the_same() {
    let toml =
        "name = \"x\"\n[[steps]]\nid = \"read\"\nuses = \"read-folder\"\nwith = { n = 1, text = \"${1 + 1}\" }\n";
    let json = r#"{ "name": "x", "steps": [{ "id": "read", "uses": "read-folder", "with": { "n": 1, "text": "${1 + 1}" } }] }"#;
    let text = "name: x\nsteps:\n- id: read\n  uses: read-folder\n  with: { n: 1, text: '${1 + 1}' }\n";
    let parsed = |format, text: &str| {
        crate::parse(&crate::WorkflowSource { format, text: text.into(), ..yaml("") }).unwrap().workflow
    };
    assert_eq!(parsed(crate::Format::Toml, toml), parsed(crate::Format::Yaml, text));
    assert_eq!(parsed(crate::Format::Json, json), parsed(crate::Format::Yaml, text));
    let emoji = parsed(
        crate::Format::Json,
        "{\n\t\"name\": \"\\ud83d\\ude00 \\/\",\n\t\"steps\": [{ \"id\": \"a\", \"uses\": \"b\" }]\n}",
    );
    assert_eq!(emoji.name, "\u{1f600} /");
}
