//! What public signatures mention. Names that a file gave to a library's types are followed: through `use` with and
//! without renaming, through type aliases, and through re-exports within the crate.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Item, UseTree, Visibility};

use crate::sources::{Source, words};

/// Crates whose types belong to one crate alone.
pub(crate) const DRIVERS: &[&str] = &[
    "sqlx",
    "sqlx_core",
    "sqlx_sqlite",
    "sqlx_postgres",
    "libsqlite3_sys",
    "rusqlite",
    "duckdb",
    "libduckdb_sys",
    "arrow",
    "parquet",
];

/// Fields of the domain that hold JSON: what people and steps gave, kept exactly.
pub(crate) const PAYLOADS: &[&str] = &[
    "AiJob.job_inputs",
    "AiJob.job_outputs",
    "ContentBlock.derived_content",
    "Descriptor.input_schema",
    "Descriptor.output_schema",
    "GenerateRequest.options",
    "InputSpec.default",
    "Step.with",
    "ValidatorSpec.with",
    "StepInvocation.settings",
    "StepOutcome.output",
    "Trigger.inputs",
    "Workflow.outputs",
    "WorkflowRun.inputs",
    "ChildWorkflow.outputs",
    "WorkflowRun.workflow",
];

/// One thing that others can see: where it stands, and its tokens without its body.
struct Visible {
    place: String,
    tokens: TokenStream,
}

/// Mentions of the libraries, or of names that stand for their types, in what the sources make public.
pub(crate) fn mentions(sources: &[Source], libraries: &[&str]) -> Vec<String> {
    // Names are collected until nothing is added: an alias may stand for an alias in another file.
    let mut shared: BTreeSet<String> = BTreeSet::new();
    loop {
        let before = shared.len();
        for source in sources {
            let local = local_names(&source.items, libraries, &shared);
            collect_shared(&source.items, libraries, &local, &mut shared);
        }
        if shared.len() == before {
            break;
        }
    }
    let hidden = hidden_types(sources);
    let mut violations = Vec::new();
    for source in sources {
        let local = local_names(&source.items, libraries, &shared);
        if local.contains("*") {
            violations.push(format!(
                "{}: imports everything of a library, which cannot be followed; name what is needed",
                source.path
            ));
        }
        for visible in visible(&source.items, &hidden) {
            if let Some(name) = mention(&visible.tokens, libraries, &local, &shared) {
                violations.push(format!("{}: {} shows `{name}`", source.path, visible.place));
            }
        }
    }
    violations
}

/// Public fields that hold untyped JSON and are not listed.
pub(crate) fn untyped_json(sources: &[Source], listed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for visible in
            visible(&source.items, &BTreeSet::new()).into_iter().filter(|visible| visible.place.contains('.'))
        {
            if words(&visible.tokens).iter().any(|word| word == "Value") && !listed.contains(&visible.place.as_str()) {
                found.push(format!("{}: {} holds untyped JSON", source.path, visible.place));
            }
        }
    }
    found
}

/// The first mention of a library in these tokens.
fn mention(
    tokens: &TokenStream,
    libraries: &[&str],
    local: &BTreeSet<String>,
    shared: &BTreeSet<String>,
) -> Option<String> {
    let words = words(tokens);
    let is_name = |word: &str| word.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut start_of_path = "";
    for (at, word) in words.iter().enumerate().filter(|(_, word)| is_name(word)) {
        let continues = at >= 2 && words[at - 1] == "::" && is_name(&words[at - 2]);
        if !continues {
            start_of_path = word;
        }
        let from_here = !continues && (libraries.contains(&word.as_str()) || local.contains(word));
        let within_crate = continues && ["crate", "self", "super"].contains(&start_of_path);
        if from_here || (within_crate && (shared.contains(word) || local.contains(word))) {
            return Some(word.clone());
        }
    }
    None
}

/// Names in one file that stand for something of the libraries.
fn local_names(items: &[Item], libraries: &[&str], shared: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for item in items {
        match item {
            Item::Use(import) => {
                for (path, name) in leaves(&import.tree) {
                    let inside = ["crate", "self", "super"].contains(&path[0].as_str());
                    if inside && name == "*" {
                        names.extend(shared.iter().cloned());
                    } else if libraries.contains(&path[0].as_str())
                        || (inside && path.last().is_some_and(|last| shared.contains(last)))
                    {
                        names.insert(name);
                    }
                }
            }
            Item::ExternCrate(krate) if libraries.contains(&krate.ident.to_string().as_str()) => {
                names.extend(krate.rename.as_ref().map(|(_, name)| name.to_string()));
            }
            Item::Mod(module) => {
                let inner = module.content.iter().flat_map(|(_, items)| local_names(items, libraries, shared));
                names.extend(inner);
            }
            _ => {}
        }
    }
    for item in items {
        if let Item::Type(alias) = item
            && mention(&alias.ty.to_token_stream(), libraries, &names, shared).is_some()
        {
            names.insert(alias.ident.to_string());
        }
    }
    names
}

/// Names that other files of the crate can import and that stand for something of the libraries.
fn collect_shared(items: &[Item], libraries: &[&str], local: &BTreeSet<String>, shared: &mut BTreeSet<String>) {
    for item in items {
        match item {
            Item::Use(import) if !matches!(import.vis, Visibility::Inherited) => {
                let names = leaves(&import.tree).into_iter().map(|(_, name)| name);
                shared.extend(names.filter(|name| local.contains(name)));
            }
            Item::Type(alias) if mention(&alias.ty.to_token_stream(), libraries, local, shared).is_some() => {
                shared.insert(alias.ident.to_string());
            }
            Item::Mod(module) => {
                if let Some((_, items)) = &module.content {
                    collect_shared(items, libraries, local, shared);
                }
            }
            _ => {}
        }
    }
}

/// Every name that a `use` brings, with its path. A glob brings the name `*`.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(path) => {
            let this = path.ident.to_string();
            // `a::{self}` brings the name `a`.
            let named = |name: String| if name == "self" { this.clone() } else { name };
            let deeper = leaves(&path.tree).into_iter();
            deeper.map(|(rest, name)| ([vec![this.clone()], rest].concat(), named(name))).collect()
        }
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        UseTree::Rename(rename) => vec![(vec![rename.ident.to_string()], rename.rename.to_string())],
        UseTree::Glob(_) => vec![(vec!["*".to_owned()], "*".to_owned())],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// Types that the crate keeps to itself; what is implemented on them nobody else sees.
fn hidden_types(sources: &[Source]) -> BTreeSet<String> {
    fn collect(items: &[Item], hidden: &mut BTreeSet<String>, open: &mut BTreeSet<String>) {
        for item in items {
            let (visibility, name) = match item {
                Item::Struct(item) => (&item.vis, &item.ident),
                Item::Enum(item) => (&item.vis, &item.ident),
                Item::Mod(module) => {
                    collect(module.content.as_ref().map_or(&[], |(_, items)| items), hidden, open);
                    continue;
                }
                _ => continue,
            };
            if is_public(visibility) {
                open.insert(name.to_string())
            } else {
                hidden.insert(name.to_string())
            };
        }
    }
    let (mut hidden, mut open) = (BTreeSet::new(), BTreeSet::new());
    for source in sources {
        collect(&source.items, &mut hidden, &mut open);
    }
    hidden.difference(&open).cloned().collect()
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Everything that the items show to other crates, each with what it is about. A public item in a private module
/// counts: the lint `unreachable_pub` says that it should not be `pub`.
fn visible(items: &[Item], hidden: &BTreeSet<String>) -> Vec<Visible> {
    let (mut found, mut nested) = (Vec::new(), Vec::new());
    let mut show =
        |place: String, tokens: &dyn ToTokens| found.push(Visible { place, tokens: tokens.to_token_stream() });
    for item in items {
        match item {
            Item::Fn(item) if is_public(&item.vis) => show(format!("fn {}", item.sig.ident), &item.sig),
            Item::Const(item) if is_public(&item.vis) => show(format!("const {}", item.ident), &item.ty),
            Item::Static(item) if is_public(&item.vis) => show(format!("static {}", item.ident), &item.ty),
            Item::Type(item) if is_public(&item.vis) => show(format!("type {}", item.ident), item),
            Item::Use(item) if is_public(&item.vis) => show("pub use".to_owned(), &item.tree),
            Item::ExternCrate(item) if is_public(&item.vis) => show("pub extern crate".to_owned(), &item.ident),
            Item::Trait(item) if is_public(&item.vis) => {
                show(format!("trait {}", item.ident), &item.generics);
                show(format!("trait {}", item.ident), &item.supertraits);
                for member in &item.items {
                    match member {
                        syn::TraitItem::Fn(method) => {
                            show(format!("trait {}, fn {}", item.ident, method.sig.ident), &method.sig)
                        }
                        other => show(format!("trait {}", item.ident), other),
                    }
                }
            }
            Item::Struct(item) if is_public(&item.vis) => {
                show(format!("struct {}", item.ident), &item.generics);
                item.attrs.iter().for_each(|attribute| show(format!("struct {}", item.ident), &attribute.meta));
                for (at, field) in item.fields.iter().enumerate().filter(|(_, field)| is_public(&field.vis)) {
                    let name = field.ident.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
                    show(format!("{}.{name}", item.ident), &field.ty);
                }
            }
            Item::Enum(item) if is_public(&item.vis) => {
                show(format!("enum {}", item.ident), &item.generics);
                item.attrs.iter().for_each(|attribute| show(format!("enum {}", item.ident), &attribute.meta));
                for (variant, field) in
                    item.variants.iter().flat_map(|v| v.fields.iter().map(move |field| (&v.ident, field)))
                {
                    let name = field.ident.as_ref().map_or_else(String::new, |name| format!(".{name}"));
                    show(format!("{}.{variant}{name}", item.ident), &field.ty);
                }
            }
            Item::Impl(block) => {
                let on = words(&block.self_ty.to_token_stream());
                if on.iter().any(|word| hidden.contains(word)) {
                    continue;
                }
                let on = on.concat();
                if let Some((_, of, _)) = &block.trait_ {
                    show(format!("impl for {on}"), of);
                    show(format!("impl for {on}"), &block.self_ty);
                }
                show(format!("impl {on}"), &block.generics);
                for member in &block.items {
                    match member {
                        syn::ImplItem::Fn(method) if is_public(&method.vis) => {
                            show(format!("{on}, fn {}", method.sig.ident), &method.sig)
                        }
                        syn::ImplItem::Const(constant) if is_public(&constant.vis) => {
                            show(format!("{on}, const"), &constant.ty)
                        }
                        syn::ImplItem::Type(alias) if block.trait_.is_some() => show(format!("{on}, type"), &alias.ty),
                        _ => {}
                    }
                }
            }
            Item::Macro(item) => {
                // What a macro makes cannot be seen from here: if it makes anything public, all of it counts.
                let words = words(&item.mac.tokens);
                if words.windows(2).any(|two| two[0] == "pub" && two[1] != "(") {
                    show("a macro that makes public items".to_owned(), &item.mac.tokens);
                }
            }
            Item::Mod(module) => {
                let inner = module.content.as_ref().map_or(&[][..], |(_, items)| items);
                nested.extend(visible(inner, hidden));
            }
            _ => {}
        }
    }
    found.extend(nested);
    found
}

#[cfg(test)]
#[path = "signatures_tests.rs"]
mod tests;
