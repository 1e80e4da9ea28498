//! Rust sources without their tests, and what their tokens say.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

/// Files that contain `unsafe`, in order. The reason stands beside it.
pub(crate) const MAY_BE_UNSAFE: &[&str] = &[
    // Loads native code that it has authenticated.
    "host/runtime/src/cache.rs",
];

/// One parsed file, its test modules taken out.
pub(crate) struct Source {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Its items.
    pub(crate) items: Vec<syn::Item>,
    tokens: TokenStream,
}

impl Source {
    /// Parses a file's text.
    pub(crate) fn parse(path: &str, text: &str) -> syn::Result<Self> {
        let file = syn::parse_file(text)?;
        let items = without_tests(file.items);
        let tokens = items.iter().map(ToTokens::to_token_stream).collect();
        Ok(Self { path: path.to_owned(), items, tokens })
    }

    /// Parses every Rust file below a folder, in the order of their paths. Files of tests and of build products
    /// are left out.
    pub(crate) fn read_folder(root: &Path, folder: &Path) -> anyhow::Result<Vec<Self>> {
        let mut sources = Vec::new();
        let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type()?.is_dir() {
                if !["target", "dist", "tests", "benches"].contains(&name.as_str()) || path.parent() == Some(root) {
                    sources.extend(Self::read_folder(root, &path)?);
                }
            } else if name.ends_with(".rs") && !name.ends_with("_tests.rs") && name != "tests.rs" {
                let text = std::fs::read_to_string(&path)?;
                let shown = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                sources.push(Self::parse(&shown, &text).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?);
            }
        }
        Ok(sources)
    }

    /// Whether it calls or names `AdmittedEvent::admit`, under whatever name. The recorder port has a method of the
    /// same name, which is for everybody.
    pub(crate) fn admits_events(&self) -> bool {
        let words = words(&self.tokens);
        words.windows(3).any(|three| three[1] == "::" && three[2] == "admit" && three[0] != "FlightRecorder")
    }

    /// Whether the word `unsafe` stands in it, in whatever place; or a permission for it.
    pub(crate) fn has_unsafe(&self) -> bool {
        words(&self.tokens).iter().any(|word| word == "unsafe" || word == "unsafe_code")
    }
}

/// The tokens as words, groups opened, `::` as one.
pub(crate) fn words(tokens: &TokenStream) -> Vec<String> {
    let mut words = Vec::new();
    for tree in tokens.clone() {
        match tree {
            TokenTree::Group(group) => {
                words.push("(".to_owned());
                words.extend(self::words(&group.stream()));
                words.push(")".to_owned());
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && words.last().is_some_and(|last| last == ":") => {
                words.pop();
                words.push("::".to_owned());
            }
            other => words.push(other.to_string()),
        }
    }
    words
}

/// Whether an item is compiled for tests alone.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test") || attribute.meta.to_token_stream().to_string() == "cfg (test)"
    })
}

fn without_tests(items: Vec<syn::Item>) -> Vec<syn::Item> {
    let keep = |item: &syn::Item| match item {
        syn::Item::Mod(module) => !is_for_tests(&module.attrs),
        syn::Item::Fn(function) => !is_for_tests(&function.attrs),
        syn::Item::Impl(block) => !is_for_tests(&block.attrs),
        syn::Item::Use(import) => !is_for_tests(&import.attrs),
        _ => true,
    };
    let open = |item| match item {
        syn::Item::Mod(mut module) => {
            module.content = module.content.map(|(brace, items)| (brace, without_tests(items)));
            syn::Item::Mod(module)
        }
        other => other,
    };
    items.into_iter().filter(keep).map(open).collect()
}

fn sample(text: &str) -> Source {
    Source::parse("sample.rs", text).unwrap()
}

#[test]
fn every_way_to_admit_an_event_is_found() {
    for text in [
        "fn f() { AdmittedEvent::admit(e, r); }",
        "fn f() { handshake_core::event::AdmittedEvent::admit(e, r); }",
        "use handshake_core::event::AdmittedEvent as A; fn f() { let admit = A::admit; }",
        "fn f() { <AdmittedEvent>::admit(e, r); }",
        "fn f() { let x = vec![AdmittedEvent::admit(e, r)]; }",
        "mod inner { fn f() { g(|e| Wrapper::admit(e)) } }",
    ] {
        assert!(sample(text).admits_events(), "{text}");
    }
    for text in [
        "fn f() { self.recorder.admit(event); }",
        "fn f() { FlightRecorder::admit(recorder, event); }",
        "fn admit() {}",
        "// AdmittedEvent::admit\nfn f() {}",
        "#[cfg(test)] mod tests { fn f() { AdmittedEvent::admit(e, r); } }",
    ] {
        assert!(!sample(text).admits_events(), "{text}");
    }
}

#[test]
fn unsafe_is_found_wherever_it_stands() {
    for text in [
        "unsafe fn f() {}",
        "fn f() { unsafe { g() } }",
        "unsafe impl Send for A {}",
        "macro_rules! m { () => { unsafe { g() } } }",
        "#[allow(unsafe_code)] fn f() {}",
        "mod inner { fn f() { h(unsafe { g() }) } }",
    ] {
        assert!(sample(text).has_unsafe(), "{text}");
    }
    assert!(!sample("/// Not unsafe.\nfn f() { \"unsafe\"; }").has_unsafe());
}
