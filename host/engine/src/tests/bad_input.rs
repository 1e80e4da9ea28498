//! Workflow files that are wrong: where, what, why, and what to do.

use super::doubles::*;
use crate::{Format, WorkflowSource};

fn message(source: &WorkflowSource) -> String {
    let error = bench(|_| Act::Hang).engine.check(source).expect_err("the workflow is accepted");
    format!("{error}\n{}", error.hint())
}

fn refused(text: &str) -> String {
    message(&yaml(text))
}

/// A workflow with one step.
fn step(step: &str) -> String {
    refused(&format!("name: x\ninputs:\n  folder: {{ type: string }}\nmounts:\n  in: {{ path: docs, access: read }}\nsteps:\n  - id: read\n    uses: read-folder\n{step}"))
}

#[test]
fn files_that_cannot_be_read() {
    insta::assert_snapshot!(refused("name: x\nsteps: [\n  {id: a"), @"");
    insta::assert_snapshot!(refused("name: x\n  steps: 3"), @"");
    insta::assert_snapshot!(refused(""), @"");
    insta::assert_snapshot!(refused("name: x\nsteps: []\nstpes: []"), @"");
    insta::assert_snapshot!(refused("steps: []"), @"");
    insta::assert_snapshot!(refused("name: x\nname: y\nsteps: []"), @"");
    insta::assert_snapshot!(refused("name: x\njob: { kind: doc_edti }\nsteps: []"), @"");
    insta::assert_snapshot!(refused("name: x\nsteps: 3"), @"");
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: Read, uses: a }"), @"");
    let toml = |text: &str| message(&WorkflowSource { file: "flow.toml".into(), text: text.into(), format: Format::Toml });
    insta::assert_snapshot!(toml("name = \"x\"\nstpes = []\n"), @"");
    insta::assert_snapshot!(toml("name = \"x\"\n[[steps]]\nid = \"a\"\nuses = \"summarize\"\nwhen = \"inputs.nope\"\n"), @"");
    insta::assert_snapshot!(toml("name = \n"), @"");
    let json = |text: &str| message(&WorkflowSource { file: "flow.json".into(), text: text.into(), format: Format::Json });
    insta::assert_snapshot!(json("{ \"name\": \"x\", \"steps\": [\n  { \"id\": \"a\", \"uses\": \"summarize\", \"when\": \"steps.b.output\" } ] }"), @"");
}

#[test]
fn structures_that_are_wrong() {
    insta::assert_snapshot!(refused("name: x\nsteps: []"), @"");
    insta::assert_snapshot!(refused("name: x\njob: { kind: doc_edit }\nsteps: [{ id: a, uses: summarize }]"), @"");
    insta::assert_snapshot!(refused("name: x\njob: { profile: analist }\nsteps: [{ id: a, uses: summarize }]"), @"");
    insta::assert_snapshot!(refused("name: x\ninputs: { n: { type: integer, default: many } }\nsteps: [{ id: a, uses: summarize }]"), @"");
    insta::assert_snapshot!(refused("name: x\nmounts: { In: { path: a, access: read } }\nsteps: [{ id: a, uses: summarize }]"), @"");
    insta::assert_snapshot!(refused("name: x\nmounts: { in: { path: '${steps.a.output}', access: read } }\nsteps: [{ id: a, uses: summarize }]"), @"");
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: summarize }\n  - { id: a, uses: summarize }"), @"");
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: sumarize }"), @"");
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: 'summarize@x' }"), @"");
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: summarize, needs: [c] }\n  - { id: b, uses: summarize, when: 'steps.a.output' }\n  - { id: c, uses: summarize, with: { v: ['${steps[\"b\"].output}'] } }"), @"");
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: summarize, needs: [b] }"), @"");
}

#[test]
fn steps_that_are_wrong() {
    insta::assert_snapshot!(step("    grants: [\"fs.raed:in\"]"), @"");
    insta::assert_snapshot!(step("    grants: [\"model.infer:*\"]"), @"");
    insta::assert_snapshot!(step("    grants: [\"net.http\"]"), @"");
    insta::assert_snapshot!(step("    grants: [\"fs.read:inn\"]"), @"");
    insta::assert_snapshot!(step("    grants:\n      - fs.read:in\n      - fs.write:in"), @"");
    insta::assert_snapshot!(step("    retry: { attempts: 101 }"), @"");
    insta::assert_snapshot!(step("    retry: { attempts: 2, initial: 5m, max: 1s }"), @"");
    insta::assert_snapshot!(step("    for_each: '[1]'\n    max_parallel: 65"), @"");
    insta::assert_snapshot!(step("    max_parallel: 2"), @"");
    insta::assert_snapshot!(step("    timeout: soon"), @"");
    insta::assert_snapshot!(step("    timeout: 0s"), @"");
}

#[test]
fn expressions_that_are_wrong() {
    insta::assert_snapshot!(step("    when: inputs.foldr == 'a'"), @"");
    insta::assert_snapshot!(step("    with:\n      text: \"a ${inputs.folder} b ${steps.raed.output}\""), @"");
    insta::assert_snapshot!(step("    with:\n      text: \"${inputs.folder +}\""), @"");
    insta::assert_snapshot!(step("    with:\n      list:\n        - ok\n        - \"${1 +* 2}\""), @"");
    insta::assert_snapshot!(step("    with: { text: \"${inputs.folder\" }"), @"");
    insta::assert_snapshot!(step("    when: \"${inputs.folder == 'a'}\""), @"");
    insta::assert_snapshot!(step("    when: foo == 1"), @"");
    insta::assert_snapshot!(step("    when: sise(inputs.folder) == 1"), @"");
    insta::assert_snapshot!(step("    with: { text: \"${item.text}\" }"), @"");
    insta::assert_snapshot!(step("    when: steps.read.result"), @"");
    insta::assert_snapshot!(step("    when: steps.read"), @"");
    insta::assert_snapshot!(step("    when: size(steps) > 0"), @"");
    insta::assert_snapshot!(step("    when: ''"), @"");
}
