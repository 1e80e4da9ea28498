//! The table of what a step can import: complete by the WIT packages, and each function on exactly one side.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::MetadataCommand;
use handshake_core::capability::{AXES, Axis};
use handshake_runtime::ambient::is_decided;
use handshake_runtime::imports::{Side, imports};
use handshake_tests::binary::Project;

/// The folder of a package that this workspace is built with.
fn source_of(package: &str) -> PathBuf {
    let metadata = MetadataCommand::new().current_dir(handshake_tests::root()).exec().unwrap();
    let found = metadata.packages.iter().find(|found| found.name.as_str() == package).unwrap();
    found.manifest_path.parent().unwrap().into()
}

/// What stands between a brace and the one that closes it, and what follows.
fn block(text: &str) -> (&str, &str) {
    let mut depth = 1;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[..at], &text[at + 1..]);
        }
    }
    panic!("a brace is never closed: {text}");
}

/// Reads the functions of the interfaces of a WIT file, as `interface@version function`. It knows as much of the
/// language as these files use: an item ends with `;` or a block, and what is not stable yet is not linked.
fn functions(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let package = code.trim_start().strip_prefix("package ").unwrap().split(';').next().unwrap();
    let (package, version) = package.split_once('@').unwrap();
    let mut found = BTreeSet::new();
    items(&code, &mut |head, body| {
        let Some(interface) = head.strip_prefix("interface ").map(str::trim) else { return };
        let mut note = |function: String| {
            found.insert(format!("{package}/{interface}@{version} {function}"));
        };
        items(body, &mut |head, body| {
            if let Some(resource) = head.strip_prefix("resource ") {
                let resource = resource.trim();
                items(body, &mut |head, _| match head.split_once(':') {
                    Some((name, kind)) if kind.trim_start().starts_with("static") => {
                        note(format!("[static]{resource}.{}", last_word(name)));
                    }
                    Some((name, kind)) if kind.trim_start().starts_with("func") => {
                        note(format!("[method]{resource}.{}", last_word(name)));
                    }
                    _ if head.trim_start().starts_with("constructor") => note(format!("[constructor]{resource}")),
                    _ => {}
                });
            } else if let Some((name, kind)) = head.split_once(':')
                && kind.trim_start().starts_with("func")
            {
                note(last_word(name));
            }
        });
    });
    found
}

fn last_word(text: &str) -> String {
    text.split_whitespace().last().unwrap().trim_start_matches('%').to_owned()
}

/// Calls `each` with the head and the block of each stable item.
fn items(mut code: &str, each: &mut dyn FnMut(&str, &str)) {
    while let Some(end) = code.find([';', '{']) {
        let head = &code[..end];
        let (body, rest) = if code[end..].starts_with('{') { block(&code[end + 1..]) } else { ("", &code[end + 1..]) };
        // Gates and versions stand before the name.
        if !head.contains("@unstable") {
            let mut name = head.trim_start();
            while name.starts_with('@') {
                name = name.split_once(')').map_or("", |(_, name)| name.trim_start());
            }
            each(name, body);
        }
        code = rest;
    }
}

/// The functions of all files in a folder.
fn all_functions(folder: &Path) -> BTreeSet<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.flat_map(|file| functions(&file)).collect()
}

/// Interfaces that a step does not import: the host calls them, or nothing links them.
const NOT_IMPORTED: &[&str] = &["handshake:step/handler@", "wasi:cli/run@", "wasi:http/incoming-handler@"];

#[test]
fn the_table_has_every_function_of_the_wit_packages_and_no_other() {
    let mut expected = all_functions(&handshake_tests::root().join("wit/step-0.1.0"));
    expected.extend(all_functions(&source_of("wasmtime-wasi").join("src/p2/wit/deps")));
    expected.extend(all_functions(&source_of("wasmtime-wasi-http").join("wit/deps")));
    expected.retain(|function| !NOT_IMPORTED.iter().any(|interface| function.starts_with(interface)));
    let table: BTreeSet<_> =
        imports().map(|import| format!("{}@{} {}", import.interface, import.version, import.function)).collect();
    let missing: Vec<_> = expected.difference(&table).collect();
    let vanished: Vec<_> = table.difference(&expected).collect();
    assert!(
        missing.is_empty() && vanished.is_empty(),
        "host/runtime/src/imports.txt: add {missing:#?}, take out {vanished:#?}"
    );
}

#[test]
fn every_import_is_decided_or_ambient_and_both_only_where_the_list_says_so() {
    let mut problems = Vec::new();
    for import in imports() {
        let sides: Vec<_> = import.sides().collect();
        match sides.as_slice() {
            [Side::Decided([])] => problems.push(format!("{import:?} needs nothing")),
            [_] => {}
            // Calls that ask for more than the list says are decided.
            [Side::Decided(_), Side::Ambient(_)] if is_decided(import.interface, import.function) => {}
            [] => problems.push(format!("{import:?} is neither decided nor on the list")),
            several => problems.push(format!("{import:?} is on {} sides", several.len())),
        }
    }
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn every_axis_that_can_be_asked_for_is_behind_some_function() {
    let behind: BTreeSet<_> = imports()
        .flat_map(|import| import.sides().collect::<Vec<_>>())
        .filter_map(|side| match side {
            Side::Decided(axes) => Some(axes.iter().copied()),
            Side::Ambient(_) => None,
        })
        .flatten()
        .collect();
    // Reserved: there is no import that could ask.
    let reserved = [Axis::ProcExec, Axis::Device];
    let expected: BTreeSet<_> = AXES.iter().copied().filter(|axis| !reserved.contains(axis)).collect();
    assert_eq!(behind, expected);
}

#[test]
fn the_command_prints_the_table() {
    let project = Project::new();
    let listed = project.run(&["capabilities", "list", "--wit", "--output", "json"]).success().json();
    let rows = listed["imports"].as_array().unwrap();
    assert_eq!(rows.len(), imports().count());
    let mut by_function: BTreeMap<_, _> =
        rows.iter().map(|row| ((row["interface"].as_str().unwrap(), row["function"].as_str().unwrap()), row)).collect();
    let generate = by_function.remove(&("handshake:step/models@0.1.0", "generate")).unwrap();
    assert_eq!((&generate["axes"][0], &generate["ambient"]), (&"model.infer".into(), &serde_json::Value::Null));
    let exit = by_function.iter().find(|((interface, _), _)| interface.starts_with("wasi:cli/exit@")).unwrap().1;
    assert_eq!(exit["axes"], serde_json::json!([]));
    assert!(exit["ambient"].as_str().unwrap().contains("ends the attempt"));
    let text = project.run(&["capabilities", "list", "--wit"]).success().stdout;
    assert!(text.contains("wasi:filesystem/types@") && text.contains("fs.read, fs.write"), "{text}");
}

#[test]
fn the_command_explains_an_id_and_refuses_one_that_nobody_knows() {
    let project = Project::new();
    let said = project.run(&["capabilities", "explain", "model.infer:default"]).success().stdout;
    for text in ["model.infer", "Asks a model for text", "analyst", "policy.toml:", "generate"] {
        assert!(said.contains(text), "`{text}`: {said}");
    }
    let json = project.run(&["capabilities", "explain", "fs.write", "--output", "json"]).success().json();
    assert_eq!((&json["axis"], &json["effectful"], &json["lasting"]), (&"fs.write".into(), &true.into(), &true.into()));
    for id in ["fs.peek", "fs.read:In", ""] {
        let refused = project.run(&["capabilities", "explain", id]);
        assert_eq!(refused.code, 2, "{refused:?}");
    }
    assert!(project.run(&["capabilities", "explain", "fs.peek"]).stderr.contains("HSK-4001"));
}
