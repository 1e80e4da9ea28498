//! docs/plugins/reference.md is made from the WIT package. `HANDSHAKE_UPDATE=1` writes it anew.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write;

use wit_parser::{Docs, Function, Interface, Resolve, Type, TypeDef, TypeDefKind};

fn name_of(resolve: &Resolve, ty: &Type) -> String {
    let simple = match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(id) => {
            let ty = &resolve.types[*id];
            if let Some(name) = &ty.name {
                return name.clone();
            }
            let or = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), |ty| name_of(resolve, ty));
            return match &ty.kind {
                TypeDefKind::Option(inner) => format!("option<{}>", name_of(resolve, inner)),
                TypeDefKind::List(inner) => format!("list<{}>", name_of(resolve, inner)),
                TypeDefKind::Result(result) => format!("result<{}, {}>", or(&result.ok), or(&result.err)),
                other => panic!("the reference does not know {other:?} yet"),
            };
        }
    };
    simple.to_owned()
}

/// On one line, as a table needs it.
fn line(docs: &Docs) -> String {
    docs.contents.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn function(resolve: &Resolve, function: &Function, text: &mut String) {
    let params = function.params.iter().map(|param| format!("{}: {}", param.name, name_of(resolve, &param.ty)));
    let result = function.result.as_ref().map(|ty| format!(" -> {}", name_of(resolve, ty))).unwrap_or_default();
    let params = params.collect::<Vec<_>>().join(", ");
    writeln!(text, "`{}({params}){result}`\n\n{}\n", function.name, line(&function.docs)).unwrap();
}

fn type_def(resolve: &Resolve, name: &str, ty: &TypeDef, text: &mut String) {
    let (kind, rows) = match &ty.kind {
        // Used from another interface, where it is described.
        TypeDefKind::Type(_) => return,
        TypeDefKind::Record(record) => (
            "record",
            record
                .fields
                .iter()
                .map(|field| (format!("`{}: {}`", field.name, name_of(resolve, &field.ty)), &field.docs))
                .collect::<Vec<_>>(),
        ),
        TypeDefKind::Variant(variant) => (
            "variant",
            variant
                .cases
                .iter()
                .map(|case| {
                    let holds = case.ty.as_ref().map(|ty| format!("({})", name_of(resolve, ty))).unwrap_or_default();
                    (format!("`{}{holds}`", case.name), &case.docs)
                })
                .collect(),
        ),
        TypeDefKind::Enum(cases) => {
            ("enum", cases.cases.iter().map(|case| (format!("`{}`", case.name), &case.docs)).collect())
        }
        other => panic!("the reference does not know {other:?} yet"),
    };
    writeln!(text, "### {kind} `{name}`\n{}\n", line(&ty.docs)).unwrap();
    if rows.iter().all(|(_, docs)| docs.contents.is_none()) {
        let names: Vec<_> = rows.into_iter().map(|(name, _)| name).collect();
        writeln!(text, "{}\n", names.join(", ")).unwrap();
        return;
    }
    writeln!(text, "| | |\n| --- | --- |").unwrap();
    for (name, docs) in rows {
        writeln!(text, "| {name} | {} |", line(docs)).unwrap();
    }
    text.push('\n');
}

fn interface(resolve: &Resolve, name: &str, interface: &Interface, text: &mut String) {
    writeln!(text, "## {name}\n{}\n", line(&interface.docs)).unwrap();
    for one in interface.functions.values() {
        function(resolve, one, text);
    }
    for (name, id) in &interface.types {
        type_def(resolve, name, &resolve.types[*id], text);
    }
}

#[test]
fn the_reference_says_what_the_wit_package_says() {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(handshake_tests::root().join("wit/step-0.1.0")).unwrap();
    let package = &resolve.packages[package];
    let mut text = format!("# The interface of steps: {}\n\n", package.name);
    writeln!(
        text,
        "<!-- Made from wit/step-0.1.0 by tests/tests/wit_reference.rs; HANDSHAKE_UPDATE=1 writes it anew. -->\n"
    )
    .unwrap();
    writeln!(text, "{}\n", line(&package.docs)).unwrap();
    writeln!(text, "A step exports `handler`; everything else it may import. The WIT itself: [step.wit](../../wit/step-0.1.0/step.wit).\n").unwrap();
    // What an author reads first comes first.
    let (first, rest): (Vec<_>, Vec<_>) = package.interfaces.iter().partition(|(name, _)| *name == "handler");
    for (name, id) in first.into_iter().chain(rest) {
        interface(&resolve, name, &resolve.interfaces[*id], &mut text);
    }
    let text = format!("{}\n", text.trim_end());
    let file = handshake_tests::root().join("docs/plugins/reference.md");
    if std::env::var_os("HANDSHAKE_UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "docs/plugins/reference.md is stale; write it anew with HANDSHAKE_UPDATE=1");
}
