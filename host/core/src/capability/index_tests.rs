//! The index against reading the file from top to bottom.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::{PolicyInForce, SocketTarget, SourceRef};
use super::*;
use crate::Digest;
use crate::capability::{Mode, Policy};

fn rule(effect: Effect, id: &str, plugins: &[&str], line: u32) -> Rule {
    let source = SourceRef { file: "policy.toml".into(), line };
    let plugins = plugins.iter().map(|id| PluginId::new(*id).unwrap()).collect();
    Rule { effect, capability: id.parse().unwrap(), plugins, addresses: Vec::new(), source }
}

fn path(mount: &str, path: &str) -> Resource {
    Resource::Path { mount: mount.into(), path: path.into(), host: "/srv".into() }
}

fn socket(ip: &str) -> Resource {
    Resource::Socket(SocketTarget::new(ip.parse().unwrap(), 80))
}

/// What the rules say when each of them is asked: the line that decides, and what it says.
fn read_through(rules: &[Rule], plugin: Option<&PluginId>, axis: Axis, resource: &Resource) -> Option<(u32, Effect)> {
    let applies = |rule: &&Rule| rule.is_about(plugin) && rule.applies(axis, resource);
    let first = |effect| rules.iter().filter(applies).find(|rule| rule.effect == effect);
    first(Effect::Deny)
        .or_else(|| first(Effect::Ask))
        .or_else(|| first(Effect::Allow))
        .map(|rule| (rule.source.line, rule.effect))
}

fn found(ruling: Ruling<'_>) -> Option<(u32, Effect)> {
    match ruling {
        Ruling::Unmentioned => None,
        Ruling::Asks(rule) => Some((rule.source.line, rule.effect)),
        Ruling::Denied(source) => Some((source.line, Effect::Deny)),
        Ruling::Allowed(source) => Some((source.line, Effect::Allow)),
    }
}

const IDS: &[&str] = &[
    "fs.read",
    "fs.read:in",
    "fs.read:in/*.md",
    "fs.read:in/a/**",
    "fs.read:in/**/*.txt",
    "fs.read:in/a/b.md",
    "fs.read:in/[ab]*",
    "fs.read:out/a/**",
    "fs.write:out",
    "model.infer",
    "model.infer:default",
    "model.infer:large",
    "artifact.read",
    "net.tcp",
    "net.tcp:10.0.0.0/8:80",
    "net.tcp:db.example.com:80",
    "net.http",
    "net.http:https://a.example.com/v1/",
];
const PLUGINS: &[&[&str]] = &[&[], &["a"], &["b"], &["a", "b"]];

fn some_effect() -> impl Strategy<Value = Effect> {
    prop::sample::select(vec![Effect::Allow, Effect::Ask, Effect::Deny])
}

proptest! {
    #[test]
    fn the_index_says_what_reading_the_file_says(
        rules in prop::collection::vec((some_effect(), 0..IDS.len(), 0..PLUGINS.len()), 0..60),
        plugin in prop::sample::select(vec![None, Some("a"), Some("b"), Some("c")]),
        axis in prop::sample::select(vec![
            Axis::FsRead, Axis::FsWrite, Axis::ModelInfer, Axis::ArtifactRead, Axis::NetTcp, Axis::NetHttp,
        ]),
        resource in prop::sample::select(vec![
            path("in", ""), path("in", "b.md"), path("in", "a/b.md"), path("in", "a/c.txt"), path("out", "a/x"),
            path("else", "x"), Resource::name("default"), Resource::name("large"), Resource::Whole,
            Resource::OutsidePath { path: "../x".into() }, Resource::request("GET", "https://a.example.com/v1/x"),
            Resource::request("GET", "https://a.example.com/v1%2Fx"), Resource::request("GET", "http://10.0.0.1/"),
            socket("10.0.0.1"), socket("93.184.216.34"),
        ]),
    ) {
        // Calls on other axes are about no addresses.
        prop_assume!(axis.has_addresses() || resource.ip().is_none());
        let rules: Vec<_> = rules.iter().zip(1..).map(|((effect, id, plugins), line)| {
            rule(*effect, IDS[*id], PLUGINS[*plugins], line)
        }).collect();
        let plugin = plugin.map(|id| PluginId::new(id).unwrap());
        let index = RuleIndex::new(&rules);
        let expected = read_through(&rules, plugin.as_ref(), axis, &resource);
        prop_assert_eq!(found(index.ruling(plugin.as_ref(), axis, &resource)), expected);
    }

    #[test]
    fn the_order_of_rules_changes_the_line_and_never_the_answer(
        rules in prop::collection::vec((some_effect(), 0..IDS.len(), 0..PLUGINS.len()), 0..20),
        shuffled in any::<prop::sample::Index>(),
        resource in prop::sample::select(vec![path("in", "a/b.md"), path("in", "x.txt"), path("out", "a/x")]),
    ) {
        let mut rules: Vec<_> = rules.iter().zip(1..).map(|((effect, id, plugins), line)| {
            rule(*effect, IDS[*id], PLUGINS[*plugins], line)
        }).collect();
        let plugin = PluginId::new("a").unwrap();
        let answer = |rules: &[Rule]| {
            found(RuleIndex::new(rules).ruling(Some(&plugin), Axis::FsRead, &resource)).map(|(_, effect)| effect)
        };
        let before = answer(&rules);
        let by = if rules.is_empty() { 0 } else { shuffled.index(rules.len()) };
        rules.rotate_left(by);
        prop_assert_eq!(answer(&rules), before);
        rules.reverse();
        prop_assert_eq!(answer(&rules), before);
    }
}

#[test]
fn many_patterns_of_one_mount_are_matched_together_and_the_first_in_the_file_is_named() {
    let mut rules: Vec<_> =
        (1..=500).map(|line| rule(Effect::Allow, &format!("fs.read:in/d{line}/**"), &[], line)).collect();
    rules.push(rule(Effect::Allow, "fs.read:in/d7/**", &[], 501));
    rules.push(rule(Effect::Deny, "fs.read:in/d9/*.key", &[], 502));
    let index = RuleIndex::new(&rules);
    assert!(index.axes[Axis::FsRead as usize].everybody.exact["in"].set.is_some());
    let line = |inside: &str| found(index.ruling(None, Axis::FsRead, &path("in", inside)));
    assert_eq!(line("d7/x"), Some((7, Effect::Allow)));
    assert_eq!(line("d9/x"), Some((9, Effect::Allow)));
    assert_eq!(line("d9/x.key"), Some((502, Effect::Deny)));
    assert_eq!(line("d501/x"), None);
}

#[test]
fn a_folder_is_listed_by_itself_or_one_that_it_lies_in() {
    let source = SourceRef { file: "policy.toml".into(), line: 1 };
    let mount = |path: &str, access| MountRule { path: path.into(), access, source: source.clone() };
    let rules = [
        mount("/srv/docs", MountAccess::Read),
        mount("/srv/out", MountAccess::Write),
        mount("/srv/docs/w", MountAccess::Write),
    ];
    let policy = Policy {
        mode: Mode::Enforce,
        rules: Vec::new(),
        mounts: rules.to_vec(),
        secrets: Vec::new(),
        digest: Digest::ZERO,
    };
    let in_force = PolicyInForce::new(policy.clone()).current();
    for folder in ["/srv/docs", "/srv/docs/sub", "/srv/docs/w/x", "/srv/docsx", "/srv", "/", "/srv/out/a/b"] {
        for access in [MountAccess::Read, MountAccess::Write] {
            let listed = policy.mount_rule(folder.as_ref(), access).is_some();
            assert_eq!(in_force.lists(folder, access), listed, "{folder} {access:?}");
        }
    }
    assert!(MountIndex::new(&[mount("/", MountAccess::Read)]).lists("/srv", MountAccess::Read));
}
