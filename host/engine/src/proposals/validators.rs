//! What proposals must be: total functions of the documents as stored, the proposals, and what the job is about.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use handshake_core::content::MAX_CHANGES;
use handshake_core::docs_profile::{DOCUMENT, DocsProfile, LayerScope, Selection};
use handshake_core::document::Proposal;
use handshake_core::job::{EntityRef, PlannedOperation};

use super::changes::number_of_changes;
use super::draft::{Draft, block_id, short};
use crate::documents::{Kind, State, split, version};

/// How many of the host's own validators look at proposals, `capability` included.
pub(crate) const COUNT: u64 = 5;
/// Operations of one job that are looked at. A block is replaced and moved at most, so more never fit into one edit.
pub(crate) const MOST_OPERATIONS: usize = 2 * MAX_CHANGES + 1;
/// Findings that are kept. One that rejects is enough.
const MOST_FINDINGS: usize = 1_000;

/// What a validator says when it does not let proposals pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A person has to look at them.
    NeedsPerson,
    /// They are not applied.
    Reject,
}

/// What a validator found. A validator that finds nothing lets the proposals pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) validator: Cow<'static, str>,
    pub(crate) verdict: Verdict,
    pub(crate) why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.validator, self.why)
    }
}

/// What validators look at.
pub(crate) struct Material<'m> {
    /// What the job is about.
    pub(crate) entities: &'m [EntityRef],
    /// How far its changes may reach.
    pub(crate) profile: Option<&'m DocsProfile>,
    /// The documents that proposals name, as far as they exist.
    pub(crate) documents: &'m BTreeMap<String, State>,
    /// In the order of steps and items.
    pub(crate) proposals: &'m [&'m Proposal],
}

/// Has all of them look, `capability` excepted, which needs to know more.
pub(crate) fn validate(material: &Material<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let operations: usize = material.proposals.iter().map(|proposal| proposal.operations.len()).sum();
    if operations > MOST_OPERATIONS {
        let why = format!("they are {operations} operations, and at most {MOST_OPERATIONS} fit into one edit");
        return vec![Finding { validator: "structure".into(), verdict: Verdict::Reject, why }];
    }
    for (validator, look) in [
        ("scope", scope as fn(&Material<'_>, &mut Report<'_>)),
        ("layer", layer),
        ("structure", structure),
        ("overlap", overlap),
    ] {
        look(material, &mut Report { validator, found: &mut found });
    }
    found
}

struct Report<'f> {
    validator: &'static str,
    found: &'f mut Vec<Finding>,
}

impl Report<'_> {
    fn say(&mut self, verdict: Verdict, why: String) {
        let finding = Finding { validator: self.validator.into(), verdict, why };
        if self.found.len() < MOST_FINDINGS && !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    fn reject(&mut self, why: impl Into<String>) {
        self.say(Verdict::Reject, why.into());
    }
}

/// The block that an operation is about; none for one about the document.
fn target(operation: &PlannedOperation) -> Option<&str> {
    match operation {
        PlannedOperation::ReplaceBlock { block_id, .. }
        | PlannedOperation::MoveBlock { block_id, .. }
        | PlannedOperation::DeleteBlock { block_id } => Some(block_id),
        PlannedOperation::InsertBlock { .. } | PlannedOperation::UpdateMetadata { .. } => None,
    }
}

/// The name of an operation, as records write it.
fn name(operation: &PlannedOperation) -> &'static str {
    match operation {
        PlannedOperation::InsertBlock { .. } => "insert_block",
        PlannedOperation::ReplaceBlock { .. } => "replace_block",
        PlannedOperation::MoveBlock { .. } => "move_block",
        PlannedOperation::DeleteBlock { .. } => "delete_block",
        PlannedOperation::UpdateMetadata { .. } => "update_metadata",
    }
}

impl Material<'_> {
    /// The proposals for documents that exist.
    fn known(&self) -> impl Iterator<Item = (&Proposal, &State)> {
        self.proposals.iter().filter_map(|proposal| Some((*proposal, self.documents.get(&proposal.document)?)))
    }

    /// The profile, if it is that of this document.
    fn profile_of(&self, state: &State) -> Option<&DocsProfile> {
        self.profile.filter(|profile| profile.doc_id == state.id())
    }
}

/// Only what the job is about; and with the layer `block` only what is selected.
fn scope(material: &Material<'_>, report: &mut Report<'_>) {
    for proposal in material.proposals {
        let named = &proposal.document;
        let own = |entity: &EntityRef| entity.artefact_type == DOCUMENT && entity.artefact_id == *named;
        if !material.entities.iter().any(own) {
            report.reject(format!("document `{}` is not what the job is about", short(named)));
        } else if !material.documents.contains_key(named) {
            report.reject(format!("document `{}` does not exist any more", short(named)));
        }
    }
    for (proposal, state) in material.known() {
        let Some(profile) = material.profile_of(state) else { continue };
        let Some(selection) = profile.selection else { continue };
        let Some(selected) = selected(state, selection) else {
            report.reject("what is selected does not exist any more");
            continue;
        };
        if profile.layer_scope != LayerScope::Block {
            continue;
        }
        for block in proposal.operations.iter().filter_map(target) {
            if !is_within(state, &selected, block) {
                report.reject(format!("block `{}` is not selected", short(block)));
            }
        }
    }
}

/// Where the selected blocks stand.
fn selected(state: &State, selection: Selection) -> Option<Range<usize>> {
    let position = |id| state.blocks.iter().position(|block| block.content.block_id == id);
    let (start, end) = (position(selection.start_block)?, position(selection.end_block)?);
    (start <= end).then_some(start..end + 1)
}

/// Whether a selection is one of this document's.
pub(crate) fn is_selectable(state: &State, selection: Selection) -> bool {
    selected(state, selection).is_some()
}

/// Whether a block stands there. One that does not exist is for `structure` to tell.
fn is_within(state: &State, range: &Range<usize>, id: &str) -> bool {
    let position = block_id(id).and_then(|id| state.blocks.iter().position(|block| block.content.block_id == id));
    position.is_none_or(|position| range.contains(&position))
}

/// Where the section stands that holds the selection: from the nearest heading whose section holds all of it.
fn section(state: &State, selected: &Range<usize>) -> Range<usize> {
    let level = |at: usize| {
        let block = &state.blocks.get(at)?.content;
        let heading = Some(block).filter(|block| block.kind == Kind::Heading.as_str())?;
        split(&heading.raw_content).first().map(|piece| piece.level)
    };
    let all = state.blocks.len();
    let ends = |from: usize, most: u8| (from..all).find(|at| level(*at).is_some_and(|level| level <= most));
    for at in (0..=selected.start).rev() {
        if let Some(own) = level(at) {
            let end = ends(at + 1, own).unwrap_or(all);
            if end >= selected.end {
                return at..end;
            }
        }
    }
    // Before the first heading there is a section, too.
    match ends(0, u8::MAX) {
        Some(first) if first >= selected.end => 0..first,
        _ => 0..all,
    }
}

/// What may be done at all, by how far changes may reach.
fn layer(material: &Material<'_>, report: &mut Report<'_>) {
    for (proposal, state) in material.known() {
        let Some(profile) = material.profile_of(state) else { continue };
        match profile.layer_scope {
            LayerScope::Document => {}
            LayerScope::Block => {
                for operation in &proposal.operations {
                    if !matches!(operation, PlannedOperation::ReplaceBlock { .. }) {
                        let name = name(operation);
                        report
                            .reject(format!("`{name}` reaches further than single blocks, and `layer_scope` is block"));
                    }
                }
            }
            LayerScope::Section => {
                let Some(selected) = profile.selection.and_then(|selection| selected(state, selection)) else {
                    report.reject("the section of what is selected cannot be found");
                    continue;
                };
                let section = section(state, &selected);
                for operation in &proposal.operations {
                    within_section(state, &section, operation, report);
                }
            }
        }
    }
}

fn within_section(state: &State, section: &Range<usize>, operation: &PlannedOperation, report: &mut Report<'_>) {
    if matches!(operation, PlannedOperation::UpdateMetadata { .. }) {
        return report.reject("`update_metadata` is about the whole document, and `layer_scope` is section");
    }
    let place = match operation {
        PlannedOperation::InsertBlock { after, .. } | PlannedOperation::MoveBlock { after, .. } => Some(after),
        _ => None,
    };
    if place == Some(&None) && section.start > 0 {
        report.reject("the beginning of the document is outside of the section that is selected");
    }
    let blocks = target(operation).into_iter().chain(place.into_iter().flatten().map(String::as_str));
    for block in blocks.filter(|block| !is_within(state, section, block)) {
        report.reject(format!("block `{}` is outside of the section that is selected", short(block)));
    }
}

/// Whether the operations can be made, one after the other, and what would come out is a document.
fn structure(material: &Material<'_>, report: &mut Report<'_>) {
    let mut changes = 0;
    for (named, state) in material.documents {
        let operations: Vec<_> = operations_on(material, named).map(|(_, operation)| operation).collect();
        if operations.is_empty() {
            continue;
        }
        let mut draft = Draft::of(state);
        let mut made = true;
        for operation in &operations {
            if let Err(why) = draft.apply(operation) {
                report.reject(format!("`{}`: {why}", name(operation)));
                made = false;
            }
        }
        if !made {
            continue;
        }
        if let Err(why) = draft.check() {
            report.reject(why);
        }
        changes += number_of_changes(state, &draft);
        let (gone, all) = (draft.deleted.len(), state.blocks.len());
        if gone * 2 > all {
            report.say(Verdict::NeedsPerson, format!("{gone} of {all} blocks would be deleted"));
        }
        let new = draft.blocks.iter().filter(|block| block.source.is_none() || block.replaced);
        if new.into_iter().any(|block| block.kind == Kind::Html.as_str()) {
            report.say(Verdict::NeedsPerson, "HTML would be written".to_owned());
        }
    }
    if changes > MAX_CHANGES {
        report.reject(format!("they are {changes} changes, and one edit has at most {MAX_CHANGES}"));
    }
}

/// Every operation on a document with the number of its proposal, in their order.
pub(crate) fn operations_on<'m>(
    material: &'m Material<'_>,
    document: &'m str,
) -> impl Iterator<Item = (usize, &'m PlannedOperation)> {
    let of = move |(_, proposal): &(usize, &&Proposal)| proposal.document == document;
    let numbered = material.proposals.iter().enumerate().filter(of);
    numbered.flat_map(|(number, proposal)| proposal.operations.iter().map(move |operation| (number, operation)))
}

/// Whether proposals contradict each other, or what is stored by now.
fn overlap(material: &Material<'_>, report: &mut Report<'_>) {
    for (proposal, state) in material.known() {
        let now = version(state);
        if proposal.base_version != now {
            report.reject(format!(
                "document `{}` changed since it was read: that was version {}, and now it has {now}",
                short(&proposal.document),
                proposal.base_version
            ));
        }
    }
    for named in material.documents.keys() {
        let mut blocks: BTreeMap<&str, Vec<(usize, &PlannedOperation)>> = BTreeMap::new();
        let mut titles = 0;
        for (number, operation) in operations_on(material, named) {
            match target(operation) {
                Some(block) => blocks.entry(block).or_default().push((number, operation)),
                None if matches!(operation, PlannedOperation::UpdateMetadata { .. }) => titles += 1,
                None => {}
            }
        }
        if titles > 1 {
            report.reject(format!("the metadata of document `{}` is written {titles} times", short(named)));
        }
        for (block, operations) in blocks {
            let proposals: BTreeSet<_> = operations.iter().map(|(number, _)| number).collect();
            let names: Vec<_> = operations.iter().map(|(_, operation)| name(operation)).collect();
            let distinct: BTreeSet<_> = names.iter().collect();
            if proposals.len() > 1 {
                report.reject(format!("{} proposals change block `{}`", proposals.len(), short(block)));
            } else if distinct.len() < names.len() || (names.len() > 1 && names.contains(&"delete_block")) {
                report.reject(format!("{} of block `{}` contradict each other", names.join(" and "), short(block)));
            }
        }
    }
}
