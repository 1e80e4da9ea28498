//! The narrowest capability ids that cover given resources.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use handshake_core::capability::{Axis, CapabilityId, Resource, ScopeForm};

/// The most ids for one axis, and the most of one mount: a list that nobody reads is no narrower than a wide rule.
const MOST: usize = 8;

/// Ids that cover all of these resources, as records show allowed ones, with as little else as so few lines can.
pub(super) fn narrowest(axis: Axis, resources: &BTreeSet<&str>) -> Vec<CapabilityId> {
    // A call that is shown several variables is allowed when each of them is, so each is looked at by itself.
    let single: BTreeSet<&str>;
    let resources = if axis.scope_form() == ScopeForm::Variable {
        single = resources.iter().flat_map(|names| names.split(", ")).collect();
        &single
    } else {
        resources
    };
    let found = match axis.scope_form() {
        ScopeForm::Bare => Vec::new(),
        ScopeForm::Mount => mounts(axis, resources),
        // Whatever is no scope by itself falls back to the axis below.
        _ => names(axis, resources),
    };
    let parsed: Option<Vec<CapabilityId>> = found.iter().map(|id| CapabilityId::from_str(id).ok()).collect();
    // What a scope cannot say, the axis says. A pattern is not trusted to mean what it was made to mean.
    match parsed {
        Some(ids) if !ids.is_empty() && resources.iter().all(|resource| is_covered(axis, &ids, resource)) => ids,
        _ => vec![CapabilityId::bare(axis)],
    }
}

fn is_covered(axis: Axis, ids: &[CapabilityId], resource: &str) -> bool {
    let resource = Resource::from_record(axis, resource, Some(""));
    resource.is_some_and(|resource| ids.iter().any(|id| id.covers(axis, &resource)))
}

fn names(axis: Axis, resources: &BTreeSet<&str>) -> Vec<String> {
    if resources.len() > MOST { Vec::new() } else { resources.iter().map(|name| format!("{axis}:{name}")).collect() }
}

fn mounts(axis: Axis, resources: &BTreeSet<&str>) -> Vec<String> {
    let mut mounts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for resource in resources {
        let (mount, path) = resource.split_once('/').unwrap_or((resource, ""));
        mounts.entry(mount).or_default().insert(path);
    }
    let mut ids = Vec::new();
    for (mount, paths) in mounts {
        // The mount itself is covered by its name alone, and that covers all that is in it.
        match patterns(&paths) {
            Some(patterns) if !paths.contains("") => {
                ids.extend(patterns.iter().map(|pattern| format!("{axis}:{mount}/{pattern}")));
            }
            _ => ids.push(format!("{axis}:{mount}")),
        }
    }
    ids
}

/// Patterns for paths: the paths themselves, or else the folders that they lie in, as deep as few enough lines allow.
fn patterns(paths: &BTreeSet<&str>) -> Option<Vec<String>> {
    if paths.len() <= MOST {
        return Some(paths.iter().map(|path| literal(path)).collect());
    }
    let deepest = paths.iter().map(|path| path.split('/').count()).max()?;
    (1..deepest).rev().find_map(|depth| {
        let mut patterns = BTreeSet::new();
        for path in paths {
            let parts: Vec<&str> = path.split('/').collect();
            match parts.get(..depth) {
                Some(folder) if parts.len() > depth => patterns.insert(literal(&folder.join("/")) + "/**"),
                _ => patterns.insert(literal(path)),
            };
        }
        (patterns.len() <= MOST).then(|| patterns.into_iter().collect())
    })
}

/// A path as a pattern that matches it alone.
fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for letter in path.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!' | ',') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(axis: Axis, resources: &[&str]) -> Vec<String> {
        let ids = narrowest(axis, &resources.iter().copied().collect());
        for resource in resources {
            assert!(is_covered(axis, &ids, resource), "{resource}");
        }
        ids.iter().map(CapabilityId::to_string).collect()
    }

    #[test]
    fn few_paths_are_named_and_many_become_the_folders_that_they_have_in_common() {
        assert_eq!(ids(Axis::FsRead, &["in/a.md", "in/b/c.md"]), ["fs.read:in/a.md", "fs.read:in/b/c.md"]);
        assert_eq!(ids(Axis::FsRead, &["in", "in/a.md"]), ["fs.read:in"]);
        let many: Vec<String> = (0..20).map(|n| format!("in/reports/{}/{n}.md", n % 3)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let expected = ["fs.read:in/reports/0/**", "fs.read:in/reports/1/**", "fs.read:in/reports/2/**"];
        assert_eq!(ids(Axis::FsRead, &many), expected);
        let wide: Vec<String> = (0..20).map(|n| format!("in/reports/{n}/a.md")).collect();
        let wide: Vec<&str> = wide.iter().map(String::as_str).chain(["out/x"]).collect();
        assert_eq!(ids(Axis::FsRead, &wide), ["fs.read:in/reports/**", "fs.read:out/x"]);
        let flat: Vec<String> = (0..20).map(|n| format!("in/{n}.md")).collect();
        assert_eq!(ids(Axis::FsRead, &flat.iter().map(String::as_str).collect::<Vec<_>>()), ["fs.read:in"]);
    }

    #[test]
    fn letters_that_patterns_use_stand_for_themselves() {
        let odd = ["in/a*b.md", "in/[x]{y,z}.md", "in/what?.md", "in/back\\slash"];
        let ids = ids(Axis::FsRead, &odd);
        assert_eq!(ids.len(), 4, "{ids:?}");
        let parsed: Vec<CapabilityId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        for other in ["in/axb.md", "in/x.md", "in/whats.md"] {
            assert!(!is_covered(Axis::FsRead, &parsed, other), "{other}");
        }
    }

    #[test]
    fn each_variable_of_a_call_is_named() {
        let seen = BTreeSet::from(["APP_MODE, LANG", "LANG"]);
        let ids: Vec<String> = narrowest(Axis::EnvRead, &seen).iter().map(CapabilityId::to_string).collect();
        assert_eq!(ids, ["env.read:APP_MODE", "env.read:LANG"]);
    }

    #[test]
    fn names_are_named_and_what_no_scope_can_say_is_the_axis() {
        assert_eq!(ids(Axis::ModelInfer, &["default", "large"]), ["model.infer:default", "model.infer:large"]);
        assert_eq!(ids(Axis::DocRead, &["*", "doc-1"]), ["doc.read"]);
        assert_eq!(ids(Axis::ArtifactWrite, &["*"]), ["artifact.write"]);
        assert_eq!(ids(Axis::ConfigRead, &["a b"]), ["config.read"]);
    }
}
