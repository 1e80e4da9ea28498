//! Workflow files that are wrong: where, what, why, and what to do.

use super::doubles::*;
use crate::{Format, WorkflowSource};

fn message(source: &WorkflowSource) -> String {
    let error = bench(|_| Act::Hang).engine.check(source).expect_err("the workflow is accepted");
    let told = error.problems().iter().map(|problem| format!("{problem}\n{}", problem.hint()));
    told.collect::<Vec<_>>().join("\n")
}

fn refused(text: &str) -> String {
    message(&yaml(text))
}

/// A workflow with one step.
fn step(step: &str) -> String {
    refused(&format!(
        "name: x\ninputs:\n  folder: {{ type: string }}\nmounts:\n  in: {{ path: docs, access: read }}\nsteps:\n  - id: read\n    uses: read-folder\n{step}"
    ))
}

#[test]
fn files_that_cannot_be_read() {
    insta::assert_snapshot!(refused("name: x\nsteps: [\n  {id: a"), @r##"
    flow.yaml:3:3: not valid YAML: unclosed bracket '{'
    check indentation, quotes and brackets near this line; `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(refused("name: x\n  steps: 3"), @r##"
    flow.yaml:2:8: not valid YAML: mapping values are not allowed in this context
    check indentation, quotes and brackets near this line; `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(refused(""), @r##"
    flow.yaml:1:1: the file ends too early
    `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(refused("name: x\nsteps: []\nstpes: []"), @r##"
    flow.yaml:3:1: unknown key `stpes`
    did you mean `steps`? keys here are `name`, `job`, `inputs`, `mounts`, `recovery`, `budget`, `steps`, `outputs`, `workflows`, `trigger`
    "##);
    insta::assert_snapshot!(refused("steps: []"), @r##"
    flow.yaml:1:1: key `name` is missing
    add `name: …`; `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(refused("name: x\nname: y\nsteps: []"), @r##"
    flow.yaml:2:1: key `name` is there twice
    keep one of them
    "##);
    insta::assert_snapshot!(refused("name: x\njob: { kind: doc_edti }\nsteps: []"), @r##"
    flow.yaml:2:14: `doc_edti` is not one of the values that this key takes
    did you mean `doc_edit`? they are `doc_edit`, `doc_rewrite`, `doc_summarize`, `sheet_transform`, `canvas_cluster`, `asr_transcribe`, `workflow_run`, `spec_router`, `debug_bundle_export`, `term_exec`, `terminal_exec`, `doc_ingest`, `distillation_eval`
    "##);
    insta::assert_snapshot!(refused("name: x\nsteps: 3"), @r##"
    flow.yaml:2:8: not valid YAML: expected sequence start
    check indentation, quotes and brackets near this line; `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: Read, uses: a }"), @r##"
    flow.yaml:3:11: `Read` is not a valid step id: it must match `[a-z0-9][a-z0-9_-]{0,63}`
    `handshake schema workflow` prints the form of the file
    "##);
    let toml =
        |text: &str| message(&WorkflowSource { file: "flow.toml".into(), text: text.into(), format: Format::Toml });
    insta::assert_snapshot!(toml("name = \"x\"\nstpes = []\n"), @r##"
    flow.toml:2:1: unknown key `stpes`
    did you mean `steps`? keys here are `name`, `job`, `inputs`, `mounts`, `recovery`, `budget`, `steps`, `outputs`, `workflows`, `trigger`
    "##);
    insta::assert_snapshot!(toml("name = \"x\"\n[[steps]]\nid = \"a\"\nuses = \"summarize\"\nwhen = \"inputs.nope\"\n"), @r##"
    flow.toml:5:16: steps[0].when: input `nope` is not defined
    there are no inputs
    "##);
    insta::assert_snapshot!(toml("name = \n"), @r##"
    flow.toml:1:8: string values must be quoted, expected literal string
    `handshake schema workflow` prints the form of the file
    "##);
    let json =
        |text: &str| message(&WorkflowSource { file: "flow.json".into(), text: text.into(), format: Format::Json });
    insta::assert_snapshot!(json("{ \"name\": \"x\", \"steps\": [\n  { \"id\": \"a\", \"uses\": \"summarize\", \"when\": \"steps.b.output\" } ] }"), @r##"
    flow.json:2:52: steps[0].when: step `b` is not defined
    steps are `a`
    "##);
}

#[test]
fn structures_that_are_wrong() {
    insta::assert_snapshot!(refused("name: x\nsteps: []"), @r##"
    flow.yaml:2:8: steps: the workflow has no steps
    add one: `- { id: read, uses: read-folder }`
    "##);
    insta::assert_snapshot!(refused("name: x\njob: { kind: doc_ingest }\nsteps: [{ id: a, uses: summarize }]"), @r##"
    flow.yaml:2:14: job.kind: this version has no executor for jobs of kind `doc_ingest`
    write one of `doc_edit`, `doc_rewrite`, `doc_summarize`, `workflow_run` as `kind` in the workflow file
    "##);
    insta::assert_snapshot!(refused("name: x\njob: { kind: doc_edit }\nsteps: [{ id: a, uses: summarize }]"), @r##"
    flow.yaml:2:14: job.kind: jobs of kind `doc_edit` are about a document, and the workflow has no input for it
    declare it: `inputs: { doc: { type: object } }`
    "##);
    insta::assert_snapshot!(refused("name: x\njob: { profile: analist }\nsteps: [{ id: a, uses: summarize }]"), @r##"
    flow.yaml:2:17: job.profile: profile `analist` is not defined
    did you mean `analyst`? profiles are `reader`, `analyst`, `integrator`
    "##);
    insta::assert_snapshot!(refused("name: x\ninputs: { n: { type: integer, default: many } }\nsteps: [{ id: a, uses: summarize }]"), @r##"
    flow.yaml:2:40: inputs.n.default: the default is of type string, and the input of type integer
    change one of the two
    "##);
    insta::assert_snapshot!(refused("name: x\nmounts: { In: { path: a, access: read } }\nsteps: [{ id: a, uses: summarize }]"), @r##"
    flow.yaml:2:15: mounts.In: `In` is not a valid mount name
    use 1 to 32 of `a-z`, `0-9`, `_` and `-`, beginning with a letter or digit
    "##);
    insta::assert_snapshot!(refused("name: x\nmounts: { in: { path: '${steps.a.output}', access: read } }\nsteps: [{ id: a, uses: summarize }]"), @r##"
    flow.yaml:2:26: mounts.in.path: the path of a mount cannot depend on a step: mounts are opened before the first step
    use inputs only
    "##);
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: summarize }\n  - { id: a, uses: summarize }"), @r##"
    flow.yaml:4:11: steps[1].id: step id `a` is there twice, first at steps[0]
    give each step an id of its own
    "##);
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: sumarize }"), @r##"
    flow.yaml:3:20: steps[0].uses: plugin `sumarize` was not found; looked in plugins
    did you mean `summarize`? known plugins are `read-folder`, `summarize`, `write-report`
    "##);
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: 'summarize@x' }"), @r##"
    flow.yaml:3:20: steps[0].uses: `x` is not a version: write `@1`, `@0.1`, `@0.1.0`, or `@sha256:` and a manifest's hash
    write a plugin id, `id@0.1` or `id@0.1.0`
    "##);
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: summarize, needs: [c] }\n  - { id: b, uses: summarize, when: 'steps.a.output' }\n  - { id: c, uses: summarize, with: { v: ['${steps[\"b\"].output}'] } }"), @r##"
    flow.yaml:3:11: steps[0].id: the steps need each other in a cycle: `a` needs `c` needs `b` needs `a`
    remove one of these dependencies from `needs` or from an expression
    "##);
    insta::assert_snapshot!(refused("name: x\nsteps:\n  - { id: a, uses: summarize, needs: [b] }"), @r##"
    flow.yaml:3:39: steps[0].needs[0]: step `b` is not defined
    steps are `a`
    "##);
}

#[test]
fn steps_that_are_wrong() {
    insta::assert_snapshot!(step("    grants: [\"fs.raed:in\"]"), @r##"
    flow.yaml:9:14: HSK-4001: UnknownCapability `fs.raed:in`; `handshake capabilities list` shows the ids there are
    `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(step("    grants: [\"model.infer:*\"]"), @r##"
    flow.yaml:9:14: `model.infer:*`: scope `*` is not of a form that `model.infer` understands; write one exact name
    `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(step("    grants: [\"proc.exec\"]"), @r##"
    flow.yaml:9:14: steps[0].grants[0]: `proc.exec` cannot be granted: this version of the host never grants `proc.exec`
    remove the grant; `handshake capabilities list` shows what can be granted
    "##);
    insta::assert_snapshot!(step("    grants: [\"fs.read:inn\"]"), @r##"
    flow.yaml:9:14: steps[0].grants[0]: `fs.read:inn` names a mount that the workflow does not define
    did you mean `in`? mounts are `in`
    "##);
    insta::assert_snapshot!(step("    grants:\n      - fs.read:in\n      - fs.write:in"), @r##"
    flow.yaml:11:9: steps[0].grants[1]: `fs.write:in` grants writing, and mount `in` is for reading
    write `access: write` at mounts.in, or remove the grant
    flow.yaml:11:9: steps[0].grants[1]: `fs.write:in` is granted, but plugin `read-folder@0.1.0` does not declare it
    remove the grant, or declare `fs.write` in plugin.toml; it declares `fs.read`, `artifact.write`
    flow.yaml:11:9: steps[0].grants[1]: `fs.write:in` is granted, but access mode `analysis_only` excludes `fs.write`
    remove the grant, or write `access_mode: apply_scoped` under `job`
    "##);
    insta::assert_snapshot!(step("    retry: { attempts: 101 }"), @r##"
    flow.yaml:9:24: steps[0].retry.attempts: 101 is not between 1 and 100
    write a number from 1 to 100, the first attempt included
    "##);
    insta::assert_snapshot!(step("    retry: { attempts: 2, initial: 5m, max: 1s }"), @r##"
    flow.yaml:9:36: steps[0].retry.initial: the first wait of 5m is longer than the longest wait of 1s
    lower `initial` or raise `max`
    "##);
    insta::assert_snapshot!(step("    for_each: '[1]'\n    max_parallel: 65"), @r##"
    flow.yaml:10:19: steps[0].max_parallel: 65 is not between 1 and 64
    write a number from 1 to 64
    "##);
    insta::assert_snapshot!(step("    max_parallel: 2"), @r##"
    flow.yaml:9:19: steps[0].max_parallel: `max_parallel` has no meaning without `for_each`
    remove it, or add `for_each`
    "##);
    insta::assert_snapshot!(step("    timeout: soon"), @r##"
    flow.yaml:9:14: `soon` is not a length of time such as `500ms`, `1s`, `5m` or `24h`: expected number at 0
    `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(step("    timeout: 0s"), @r##"
    flow.yaml:9:14: steps[0].timeout: a step cannot end in no time
    write a length of time such as `60s`
    "##);
}

#[test]
fn expressions_that_are_wrong() {
    insta::assert_snapshot!(step("    when: inputs.foldr == 'a'"), @r##"
    flow.yaml:9:18: steps[0].when: input `foldr` is not defined
    did you mean `folder`? inputs are `folder`
    "##);
    insta::assert_snapshot!(step("    with:\n      text: \"a ${inputs.folder} b ${steps.raed.output}\""), @r##"
    flow.yaml:10:43: steps[0].with.text: step `raed` is not defined
    did you mean `read`? steps are `read`
    "##);
    insta::assert_snapshot!(step("    with:\n      text: \"${inputs.folder +}\""), @r##"
    flow.yaml:10:31: steps[0].with.text: not a valid expression: Syntax error: mismatched input '<EOF>'
    expressions are CEL, for example `size(steps.read.output) > 10`
    "##);
    insta::assert_snapshot!(step("    with:\n      list:\n        - ok\n        - \"${1 +* 2}\""), @r##"
    flow.yaml:12:17: steps[0].with.list[1]: not a valid expression: Syntax error: extraneous input '*'
    expressions are CEL, for example `size(steps.read.output) > 10`
    "##);
    insta::assert_snapshot!(step("    with: { text: \"${inputs.folder\" }"), @r##"
    flow.yaml:9:20: steps[0].with.text: `${` is never closed
    close the expression with `}`, or write `$${` for a plain `${`
    "##);
    insta::assert_snapshot!(step("    when: \"${inputs.folder == 'a'}\""), @r##"
    flow.yaml:9:11: steps[0].when: `when` is always an expression
    write it without `${` and `}`
    "##);
    insta::assert_snapshot!(step("    when: foo == 1"), @r##"
    flow.yaml:9:11: steps[0].when: `foo` is not defined
    names are `inputs`, `steps`, `item`, `index`
    "##);
    insta::assert_snapshot!(step("    when: sise(inputs.folder) == 1"), @r##"
    flow.yaml:9:15: steps[0].when: there is no function `sise`
    did you mean `size`? functions are `bool`, `bytes`, `contains`, `double`, `dyn`, `endsWith`, `hasValue`, `int`, `matches`, `or`, `orValue`, `size`, `startsWith`, `string`, `type`, `uint`, `value`, `all`, `exists`, `exists_one`, `filter`, `has`, `map`
    "##);
    insta::assert_snapshot!(step("    with: { text: \"${item.text}\" }"), @r##"
    flow.yaml:9:22: steps[0].with.text: `item` and `index` are there only in `with` of a step with `for_each`
    add `for_each` to the step, or name the value another way
    "##);
    insta::assert_snapshot!(step("    when: steps.read.result"), @r##"
    flow.yaml:9:21: steps[0].when: a step has no `result`
    only its output can be read: `steps.read.output`
    "##);
    insta::assert_snapshot!(step("    when: steps.read"), @r##"
    flow.yaml:9:16: steps[0].when: `read` is a step, not a value
    read its output: `steps.read.output`
    "##);
    insta::assert_snapshot!(step("    when: size(steps) > 0"), @r##"
    flow.yaml:9:16: steps[0].when: `steps` must be followed by the name of a step
    write `steps.read.output` or `steps["sign-off"].output`
    "##);
    insta::assert_snapshot!(step("    when: ''"), @r##"
    flow.yaml:9:11: steps[0].when: the expression is empty
    write a CEL expression, for example `steps.read.output`
    "##);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    insta::assert_snapshot!(refused("
name: x
job: { profile: analist }
inputs:
  n: { type: integer, default: many }
workflows:
  part:
    inputs: { n: { type: integer } }
    steps:
      - { id: a, uses: read-folder, when: 'steps.b.output > 1' }
      - { id: c, workflow: part, with: { n: 1 } }
steps:
  - { id: a, uses: sumarize, with: { text: '${inputs.m}' } }
  - { id: a, sleep: soon }
  - { id: b, approval: { by: ann, quorum: 2 }, grants: ['fs.read:in'] }
  - { id: d, workflow: part }
  - { id: e }
  - { id: f, uses: read-folder, sleep_until: tomorrow }
"), @r##"
    flow.yaml:3:17: job.profile: profile `analist` is not defined
    did you mean `analyst`? profiles are `reader`, `analyst`, `integrator`
    flow.yaml:5:32: inputs.n.default: the default is of type string, and the input of type integer
    change one of the two
    flow.yaml:8:5: workflows.part: the workflows run each other without end: `part` runs `part`
    remove one of these steps; `for_each` repeats a workflow for each item of a list
    flow.yaml:10:50: workflows.part.steps[0].when: step `b` is not defined
    steps are `a`, `c`
    flow.yaml:13:20: steps[0].uses: plugin `sumarize` was not found; looked in plugins
    did you mean `summarize`? known plugins are `read-folder`, `summarize`, `write-report`
    flow.yaml:13:54: steps[0].with.text: input `m` is not defined
    inputs are `n`
    flow.yaml:14:11: steps[1].id: step id `a` is there twice, first at steps[0]
    give each step an id of its own
    flow.yaml:14:21: steps[1].sleep: `soon` is not a length of time such as `500ms`, `1s`, `5m` or `24h`: expected number at 0
    write for example `30s`, `5m` or `24h`
    flow.yaml:15:56: steps[2].grants: `grants` has no meaning for a step with `approval`
    remove `grants`
    flow.yaml:15:57: steps[2].grants[0]: `fs.read:in` names a mount that the workflow does not define
    there are no mounts
    flow.yaml:16:24: steps[3].workflow: workflow `part` needs input `n`
    add `n: …` to `with` of the step
    flow.yaml:17:5: steps[4]: step `e` does nothing: it has none of `uses`, `approval`, `sleep`, `sleep_until`, `workflow`
    name a plugin: `uses: read-folder`
    flow.yaml:18:46: steps[5].sleep_until: a step does one thing, and this one has `uses` and `sleep_until`
    make two steps of it
    "##);
    insta::assert_snapshot!(refused("
name: x
job: { profile: analist }
steps:
  - { id: a, uses: sumarize }
  - { id: b, uses: reed-folder }
"), @r##"
    flow.yaml:3:17: job.profile: profile `analist` is not defined
    did you mean `analyst`? profiles are `reader`, `analyst`, `integrator`
    flow.yaml:5:20: steps[0].uses: plugin `sumarize` was not found; looked in plugins
    did you mean `summarize`? known plugins are `read-folder`, `summarize`, `write-report`
    flow.yaml:6:20: steps[1].uses: plugin `reed-folder` was not found; looked in plugins
    did you mean `read-folder`? known plugins are `read-folder`, `summarize`, `write-report`
    "##);
}

#[test]
fn grants_that_come_to_nothing_are_told_together_with_everything_else() {
    insta::assert_snapshot!(refused("
name: x
job: { profile: reader, access_mode: analysis_only }
mounts:
  out: { path: out, access: write }
steps:
  - { id: a, uses: summarize, grants: ['model.infer:defualt', 'model.embed:keyless', 'secrets.use:mail'] }
  - { id: b, uses: read-folder, grants: ['fs.write:out', 'device'] }
  - { id: c, uses: sumarize, grants: ['artifact.read'], with: { v: '${inputs.n}' } }
"), @r##"
    flow.yaml:7:40: steps[0].grants[0]: `model.infer:defualt` is granted, but profile `reader` does not list it
    remove the grant, or choose with `job.profile` one that does: `analyst`, `integrator`
    flow.yaml:7:40: steps[0].grants[0]: `model.infer:defualt` names a model that is not configured
    did you mean `default`? models are `default`, `keyless`, or configure it in handshake.toml: [models.defualt]
    flow.yaml:7:63: steps[0].grants[1]: `model.embed:keyless` is granted, but profile `reader` does not list it
    remove the grant, or choose with `job.profile` one that does: `analyst`, `integrator`
    flow.yaml:7:63: steps[0].grants[1]: `model.embed:keyless` names a model that cannot be used: environment variable `KEY` is not set
    set it
    flow.yaml:7:86: steps[0].grants[2]: `secrets.use:mail` is granted, but profile `reader` does not list it
    remove the grant, or choose with `job.profile` one that does: `integrator`
    flow.yaml:7:86: steps[0].grants[2]: `secrets.use:mail` is granted, but access mode `analysis_only` excludes `secrets.use`
    remove the grant, or write `access_mode: apply_scoped` under `job`
    flow.yaml:8:42: steps[1].grants[0]: `fs.write:out` is granted, but plugin `read-folder@0.1.0` does not declare it
    remove the grant, or declare `fs.write` in plugin.toml; it declares `fs.read`, `artifact.write`
    flow.yaml:8:42: steps[1].grants[0]: `fs.write:out` is granted, but profile `reader` does not list it
    remove the grant, or choose with `job.profile` one that does: `analyst`, `integrator`
    flow.yaml:8:42: steps[1].grants[0]: `fs.write:out` is granted, but access mode `analysis_only` excludes `fs.write`
    remove the grant, or write `access_mode: apply_scoped` under `job`
    flow.yaml:8:58: steps[1].grants[1]: `device` cannot be granted: this version of the host never grants `device`
    remove the grant; `handshake capabilities list` shows what can be granted
    flow.yaml:9:20: steps[2].uses: plugin `sumarize` was not found; looked in plugins
    did you mean `summarize`? known plugins are `read-folder`, `summarize`, `write-report`
    flow.yaml:9:72: steps[2].with.v: input `n` is not defined
    there are no inputs
    "##);
    // What a bare axis may mean is for each call to say; what is declared need not be granted.
    let text = "name: x\nsteps: [{ id: a, uses: summarize, grants: ['model.infer'] }, { id: b, uses: summarize }]";
    assert!(bench(|_| Act::Hang).engine.check(&yaml(text)).is_ok());
}

#[test]
fn budgets_of_nothing() {
    insta::assert_snapshot!(refused("
name: x
budget: { tokens: 0, wall: 0s, steps: 1 }
workflows:
  part:
    budget: { model_calls: 0 }
    steps: [{ id: a, uses: summarize }]
steps:
  - { id: a, workflow: part }
"), @r##"
    flow.yaml:3:19: budget.tokens: with nothing to spend nothing can be run
    write more than 0, or leave it out for no bound
    flow.yaml:3:28: budget.wall: with nothing to spend nothing can be run
    write more than 0, or leave it out for no bound
    flow.yaml:6:28: workflows.part.budget.model_calls: with nothing to spend nothing can be run
    write more than 0, or leave it out for no bound
    "##);
    insta::assert_snapshot!(refused("name: x\nbudget: { token: 1 }\nsteps: []"), @r##"
    flow.yaml:2:11: unknown key `token`
    did you mean `tokens`? keys here are `tokens`, `model_calls`, `wall`, `steps`, `output_kb`, `on_exceeded`
    "##);
}
