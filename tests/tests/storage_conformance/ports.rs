//! The methods of the storage ports, read from their source.

use std::collections::BTreeMap;

use syn::{Item, ItemTrait, TraitItem, TypeParamBound};

/// Names of the methods that a database has: those of `Database`, and of every trait that it is.
pub(crate) fn methods() -> Vec<String> {
    let mut traits = BTreeMap::new();
    let mut supertraits = BTreeMap::<String, Vec<String>>::new();
    for entry in std::fs::read_dir(handshake_tests::root().join("host/core/src/storage")).unwrap() {
        let file = syn::parse_file(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        for item in file.items {
            if let Item::Trait(item) = item {
                supertraits.insert(item.ident.to_string(), bounds(&item));
                traits.insert(item.ident.to_string(), item);
            }
        }
    }
    let mut methods = Vec::new();
    let mut wanted = vec!["Database".to_owned()];
    while let Some(name) = wanted.pop() {
        wanted.extend(supertraits.get(&name).into_iter().flatten().cloned());
        let items = traits.get(&name).map(|item| item.items.as_slice()).unwrap_or_default();
        methods.extend(items.iter().filter_map(|item| match item {
            TraitItem::Fn(method) => Some(method.sig.ident.to_string()),
            _ => None,
        }));
    }
    methods
}

fn bounds(item: &ItemTrait) -> Vec<String> {
    let names = item.supertraits.iter().filter_map(|bound| match bound {
        TypeParamBound::Trait(bound) => Some(bound.path.segments.last()?.ident.to_string()),
        _ => None,
    });
    names.collect()
}

#[test]
fn the_methods_of_the_ports_are_found() {
    let methods = methods();
    for expected in ["submit", "claim", "append", "statistics", "claim_queued"] {
        assert!(methods.iter().any(|method| method == expected), "{expected} is not among {methods:?}");
    }
}
