//! The rules of a policy, arranged so that a decision looks at few of them however many there are.
//!
//! Rules are found by axis, by plugin, and by the mount or name that they are limited to; the path patterns of one mount
//! are matched together. What cannot be arranged is asked one by one, so the answer is always that of reading the file
//! from top to bottom with deny first and ask second; `index_tests.rs` compares the two.

use std::collections::HashMap;

use globset::{GlobSet, GlobSetBuilder};

use super::axis::{AXES, Axis};
use super::id::Lookup;
use super::policy::{Effect, MountRule, Rule, Ruling};
use super::resource::Resource;
use crate::PluginId;
use crate::mount::MountAccess;

/// Up to so many patterns are matched one by one: for few of them a set costs more than it saves.
const FEW: usize = 8;

/// Rules in the order in which they win: what is denied, then what is asked, then what is allowed, each in the order of
/// the file.
#[derive(Debug)]
pub(super) struct RuleIndex {
    rules: Vec<Rule>,
    axes: Vec<Addressees>,
}

/// Whom the rules on one axis address.
#[derive(Debug, Default)]
struct Addressees {
    everybody: Names,
    plugins: HashMap<PluginId, Names>,
}

/// What the rules for one addressee are limited to.
#[derive(Debug, Default)]
struct Names {
    exact: HashMap<Box<str>, Bucket>,
    rest: Bucket,
}

/// Positions of rules; smaller ones win.
#[derive(Debug, Default)]
struct Bucket {
    /// The first that covers everything here.
    whole: Option<usize>,
    /// Those with a path pattern, in order.
    patterns: Vec<usize>,
    /// The same patterns, in the same order, if there are many.
    set: Option<GlobSet>,
    /// Those of other forms, in order.
    others: Vec<usize>,
}

impl RuleIndex {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut rules = rules.to_vec();
        // Stable: within one effect the order of the file stays.
        rules.sort_by_key(|rule| rule.effect.precedence());
        let mut axes: Vec<Addressees> = AXES.iter().map(|_| Addressees::default()).collect();
        for (at, rule) in rules.iter().enumerate() {
            let Some(addressees) = axes.get_mut(rule.capability.axis() as usize) else { continue };
            if rule.plugins.is_empty() {
                addressees.everybody.add(at, rule);
            }
            for plugin in &rule.plugins {
                addressees.plugins.entry(plugin.clone()).or_default().add(at, rule);
            }
        }
        for addressees in &mut axes {
            for names in std::iter::once(&mut addressees.everybody).chain(addressees.plugins.values_mut()) {
                names.exact.values_mut().for_each(|bucket| bucket.arrange(&rules));
            }
        }
        Self { rules, axes }
    }

    /// What the rules say of one call.
    pub(super) fn ruling(&self, plugin: Option<&PluginId>, axis: Axis, resource: &Resource) -> Ruling<'_> {
        let Some(addressees) = self.axes.get(axis as usize) else { return Ruling::Unmentioned };
        if matches!(resource, Resource::OutsidePath { .. } | Resource::NoTarget { .. }) {
            return Ruling::Unmentioned;
        }
        let name = match resource {
            Resource::Path { mount, .. } => Some(mount.as_str()),
            Resource::Name { name } => Some(name.as_str()),
            _ => None,
        };
        let own = plugin.and_then(|plugin| addressees.plugins.get(plugin));
        let first = std::iter::once(&addressees.everybody)
            .chain(own)
            .flat_map(|names| [name.and_then(|name| names.exact.get(name)), Some(&names.rest)])
            .flatten()
            .filter_map(|bucket| bucket.first(&self.rules, axis, resource))
            .min();
        match first.and_then(|first| self.rules.get(first)) {
            None => Ruling::Unmentioned,
            Some(Rule { effect: Effect::Deny, source, .. }) => Ruling::Denied(source),
            Some(rule @ Rule { effect: Effect::Ask, .. }) => Ruling::Asks(rule),
            Some(Rule { effect: Effect::Allow, source, .. }) => Ruling::Allowed(source),
        }
    }
}

impl Names {
    fn add(&mut self, at: usize, rule: &Rule) {
        match rule.capability.lookup() {
            // A rule may cover a call and yet say nothing about the address that it goes to.
            Lookup::Whole if rule.capability.axis().has_addresses() => self.rest.others.push(at),
            Lookup::Whole => {
                self.rest.whole.get_or_insert(at);
            }
            Lookup::Exact(name) => {
                self.exact.entry(name.into()).or_default().whole.get_or_insert(at);
            }
            Lookup::Pattern(mount, _) => self.exact.entry(mount.into()).or_default().patterns.push(at),
            Lookup::Other => self.rest.others.push(at),
        }
    }
}

impl Bucket {
    /// Makes one matcher of many patterns. Patterns that are too large for one stay apart.
    fn arrange(&mut self, rules: &[Rule]) {
        if self.patterns.len() <= FEW {
            return;
        }
        let mut set = GlobSetBuilder::new();
        for rule in self.patterns.iter().filter_map(|at| rules.get(*at)) {
            if let Lookup::Pattern(_, glob) = rule.capability.lookup() {
                set.add(glob.clone());
            }
        }
        self.set = set.build().ok();
    }

    /// The first rule here that covers the resource.
    fn first(&self, rules: &[Rule], axis: Axis, resource: &Resource) -> Option<usize> {
        let covers = |at: &&usize| rules.get(**at).is_some_and(|rule| rule.applies(axis, resource));
        let pattern = match (&self.set, resource) {
            (Some(set), Resource::Path { path, .. }) => {
                let matched = set.matches(path).into_iter().min();
                matched.and_then(|at| self.patterns.get(at))
            }
            _ => self.patterns.iter().find(covers),
        };
        let other = self.others.iter().find(covers);
        self.whole.iter().chain(pattern).chain(other).min().copied()
    }
}

/// The folders that may be mounted, by path.
#[derive(Debug)]
pub(super) struct MountIndex(HashMap<String, MountAccess>);

impl MountIndex {
    pub(super) fn new(rules: &[MountRule]) -> Self {
        let mut most: HashMap<String, MountAccess> = HashMap::new();
        for rule in rules {
            let access = most.entry(rule.path.to_string_lossy().into_owned()).or_insert(rule.access);
            if rule.access.includes(*access) {
                *access = rule.access;
            }
        }
        Self(most)
    }

    /// Whether a folder, absolute and without links, is listed for this access, itself or one that it lies in.
    pub(super) fn lists(&self, folder: &str, access: MountAccess) -> bool {
        let mut folder = folder.trim_end_matches('/');
        loop {
            let listed = self.0.get(if folder.is_empty() { "/" } else { folder });
            if listed.is_some_and(|listed| listed.includes(access)) {
                return true;
            }
            match folder.rsplit_once('/') {
                Some((parent, _)) => folder = parent,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
