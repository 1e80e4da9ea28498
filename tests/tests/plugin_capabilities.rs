//! docs/plugins/capabilities: every capability has its page, and what stands there works. The examples of all pages are made into
//! one plugin for each language, and the tests of the pages are its tests.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use handshake_core::capability::CapabilityId;
use handshake_tests::binary::{Finished, Project};
use handshake_tests::guest_tools::{is_installed, with_tools};
use serde_json::Value;

struct Page {
    id: String,
    text: String,
}

impl Page {
    /// Every page, by the registry.
    fn all() -> Vec<Self> {
        let root = handshake_tests::root();
        let registry = std::fs::read(root.join("host/core/registry/capabilities-1.json")).unwrap();
        let registry: Value = serde_json::from_slice(&registry).unwrap();
        let grantable = registry["capabilities"].as_array().unwrap().iter().filter(|one| one["grantable"] == true);
        let read = |one: &Value| {
            let id = one["id"].as_str().unwrap().to_owned();
            let path = root.join(format!("docs/plugins/capabilities/{id}.md"));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let begins = format!("# {id}\n\n{}", one["summary"].as_str().unwrap().trim_end_matches('.'));
            assert!(text.starts_with(&begins), "{id}: begins otherwise than the registry says");
            Self { id, text }
        };
        grantable.map(read).collect()
    }

    /// The blocks of code that say `info` behind the fence.
    fn blocks(&self, info: &str) -> Vec<&str> {
        let fence = format!("\n```{info}\n");
        self.text.split(&fence).skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect()
    }

    fn block(&self, info: &str) -> &str {
        let blocks = self.blocks(info);
        assert_eq!(blocks.len(), 1, "{}: {info}", self.id);
        blocks[0]
    }

    /// As the name of a module.
    fn module(&self) -> String {
        self.id.replace('.', "_")
    }

    /// What the example is given: nothing, or the text that its cases name.
    fn takes(&self, argument: &'static str) -> &'static str {
        if self.blocks("toml case").iter().any(|case| case.contains("\ninput = { text = ")) { argument } else { "" }
    }
}

/// A new plugin that holds the examples of some pages, with their tests.
fn plugin(project: &Project, language: &str, pages: &[Page]) {
    project.run(&["init"]).success();
    project.run(&["plugin", "new", "pages", "--lang", language]).success();
    let text = std::fs::read_to_string(project.path("pages/plugin.toml")).unwrap();
    let mut manifest = text.split("\n[[capability]]").next().unwrap().to_owned();
    for page in pages {
        let declared = page.block("toml");
        assert!(declared.starts_with(&format!("[[capability]]\nid = \"{}\"\nreason = ", page.id)), "{}", page.id);
        let own = declared.split("\n\n").next().unwrap();
        write!(manifest, "\n{own}\n").unwrap();
    }
    project.write("pages/plugin.toml", manifest);
    for case in ["summarizes", "says-what-was-refused"] {
        std::fs::remove_file(project.path(&format!("pages/tests/{case}.toml"))).unwrap();
    }
    project.write("pages/tests/notes/a.md", "Gates decide.\n");
    for page in pages {
        for (number, case) in page.blocks("toml case").iter().enumerate() {
            let input = format!("input = {{ page = \"{}\"", page.id);
            let mut case = match case.contains("\ninput = { ") {
                true => case.replace("input = { ", &format!("{input}, ")),
                false => format!("{input} }}\n{case}"),
            };
            // What a page says about decisions is what the step itself asks for; an interpreter asks for more on its own.
            if language != "rust" {
                case = case.lines().filter(|line| !line.starts_with("decisions = ")).fold(
                    String::new(),
                    |mut kept, line| {
                        kept.push_str(line);
                        kept.push('\n');
                        kept
                    },
                );
            }
            project.write(&format!("pages/tests/{}-{number}.toml", page.module().replace('_', "-")), case);
        }
    }
    let imports: BTreeSet<_> = pages.iter().flat_map(|page| page.blocks("wit")).flat_map(str::lines).collect();
    match language {
        "rust" => rust(project, pages),
        "python" => python(project, pages),
        _ => javascript(project, pages),
    }
    if language != "rust" {
        let world = std::fs::read_to_string(project.path("pages/wit/world.wit")).unwrap();
        let imports: String = imports.iter().map(|line| format!("    {line}\n")).collect();
        project.write("pages/wit/world.wit", format!("{}{imports}}}\n", world.trim_end().strip_suffix('}').unwrap()));
    }
}

/// The capabilities of all pages, as each of the languages writes a list.
fn ids(pages: &[Page]) -> String {
    pages.iter().map(|page| format!("\"{}\"", page.id)).collect::<Vec<_>>().join(", ")
}

fn rust(project: &Project, pages: &[Page]) {
    let cargo = std::fs::read_to_string(project.path("pages/Cargo.toml")).unwrap();
    project.write("pages/Cargo.toml", cargo.replace("\n[lints]", "wstd = \"0.6\"\n\n[lints]"));
    let mut source = String::from(
        "use handshake_step::prelude::*;\n#[data]\npub struct Input { page: String, text: Option<Artifact> }\n#[data]\npub struct Output { text: String }\n",
    );
    writeln!(source, "#[step(capabilities = [{}])]", ids(pages)).unwrap();
    source.push_str("fn run(_context: Context, input: Input) -> Result<Output, StepError> {\n    let text = match input.page.as_str() {\n");
    for page in pages {
        let argument = page.takes("&input.text.unwrap()");
        writeln!(source, "        \"{}\" => {}::example({argument})?,", page.id, page.module()).unwrap();
    }
    source.push_str("        _ => unreachable!(),\n    };\n    Ok(Output { text })\n}\n");
    for page in pages {
        let code = page.block("rust");
        writeln!(source, "mod {} {{\nuse handshake_step::prelude::*;\n{code}\n}}", page.module()).unwrap();
    }
    project.write("pages/src/lib.rs", source);
}

fn python(project: &Project, pages: &[Page]) {
    let mut source = String::from("from dataclasses import dataclass\n\nfrom handshake_step import step\n\n");
    let mut examples = String::new();
    for page in pages {
        writeln!(source, "import {}", page.module()).unwrap();
        let argument = page.takes("input.text");
        writeln!(examples, "    \"{}\": lambda input: {}.example({argument}),", page.id, page.module()).unwrap();
        project.write(&format!("pages/{}.py", page.module()), page.block("python"));
    }
    write!(
        source,
        "\n@dataclass\nclass Handle:\n    id: str\n    size: int\n    media_type: str\n\n@dataclass\nclass Input:\n    page: str\n    text: Handle | None = None\n\n@dataclass\nclass Output:\n    text: str\n\nEXAMPLES = {{\n{examples}}}\n\ndef run(context, input: Input) -> Output:\n    return Output(EXAMPLES[input.page](input))\n\nHandler = step(run, name=\"pages\", version=\"0.1.0\", capabilities=[{}])\n",
        ids(pages)
    )
    .unwrap();
    project.write("pages/step.py", source);
}

fn javascript(project: &Project, pages: &[Page]) {
    let mut source = String::from("import { step } from \"./handshake-step.js\";\n");
    let mut examples = String::new();
    for page in pages {
        writeln!(source, "import {{ example as {0} }} from \"./{0}.js\";", page.module()).unwrap();
        let argument = page.takes("input.text");
        writeln!(examples, "  \"{}\": (input) => {}({argument}),", page.id, page.module()).unwrap();
        project.write(&format!("pages/{}.js", page.module()), page.block("javascript"));
    }
    write!(
        source,
        "const examples = {{\n{examples}}};\nexport const handler = step({{\n  name: \"pages\",\n  version: \"0.1.0\",\n  capabilities: [{}],\n  input: {{ type: \"object\" }},\n  output: {{ type: \"object\" }},\n  async run(_context, input) {{\n    return {{ text: await examples[input.page](input) }};\n  }},\n}});\n",
        ids(pages)
    )
    .unwrap();
    project.write("pages/step.js", source);
}

fn works(language: &str) {
    let has = |page: &Page| !page.blocks(language).is_empty();
    let (pages, without): (Vec<_>, Vec<_>) = Page::all().into_iter().partition(has);
    for page in without {
        assert!(language == "javascript" && page.text.contains("JavaScript has no sockets: "), "{}", page.id);
    }
    let project = Project::bare();
    plugin(&project, language, &pages);
    let run = |arguments: &[&str]| -> Finished { with_tools(&mut project.command(arguments)).output().unwrap().into() };
    run(&["plugin", "build", "pages"]).success();
    let tested = run(&["plugin", "test", "pages", "--output", "json"]);
    let cases = tested.json()["cases"].as_array().unwrap().clone();
    let wrong: BTreeMap<_, _> = cases
        .iter()
        .filter(|case| case["passed"] != true)
        .map(|case| (case["name"].to_string(), (case["mismatches"].to_string(), case["log"].to_string())))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let expected: usize = pages.iter().map(|page| page.blocks("toml case").len()).sum();
    assert_eq!((cases.len(), tested.code), (expected, 0));
    // Of nearly every page one that is allowed and one that is refused.
    assert!(expected >= 24, "{expected}");
}

#[test]
fn the_examples_in_rust_do_what_their_pages_say() {
    works("rust");
}

#[test]
fn the_examples_in_python_do_what_their_pages_say() {
    if is_installed("componentize-py") {
        works("python");
    }
}

#[test]
fn the_examples_in_javascript_do_what_their_pages_say() {
    if is_installed("componentize-js") {
        works("javascript");
    }
}

#[test]
fn every_page_is_listed_and_its_scopes_are_scopes() {
    let folder = handshake_tests::root().join("docs/plugins/capabilities");
    let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let pages = Page::all();
    for page in &pages {
        assert!(index.contains(&format!("[{0}]({0}.md)", page.id)), "{} is not in the list", page.id);
        let scopes: Vec<_> = page.text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(scopes[0], page.id);
        for scope in scopes {
            let id = scope.parse::<CapabilityId>().unwrap_or_else(|error| panic!("{scope}: {error}"));
            assert_eq!(id.axis().name(), page.id);
        }
    }
    // And no page of something that does not exist.
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), pages.len() + 1);
}
