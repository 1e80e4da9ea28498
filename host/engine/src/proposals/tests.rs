//! Each validator finds what was planted for it; what is good passes all of them and comes out as Markdown.

use std::collections::BTreeMap;

use handshake_core::content::{Content, ContentChange};
use handshake_core::docs_profile::{DocsProfile, LayerScope, Selection};
use handshake_core::document::Proposal;
use handshake_core::job::PlannedOperation as Op;
use handshake_core::testing::SequentialIds;
use proptest::prelude::*;

use super::changes::{changes, number_of_changes};
use super::draft::Draft;
use super::validators::{Finding, Material, Verdict, validate};
use crate::documents::tests::stored;
use crate::documents::{State, markdown_of, version};

const TEXT: &str = "# Title\nIntro.\n\n## First\n\nOne.\n\nTwo.\n\n### Deep\n\nThree.\n\n## Second\n\nFour.\n";
// Blocks: 0 title, 1 intro, 2 first, 3 one, 4 two, 5 deep, 6 three, 7 second, 8 four.

/// A document, and what a job may do with it.
struct Table {
    state: State,
    profile: DocsProfile,
}

fn table(scope: LayerScope, selected: Option<(usize, usize)>) -> Table {
    let state = stored(&SequentialIds::default(), TEXT);
    let block = |at: usize| state.blocks[at].content.block_id;
    let selection =
        selected.map(|(start, end)| Selection { start_block: block(start), end_block: block(end), focus_offset: None });
    let profile = DocsProfile { doc_id: state.id(), selection, layer_scope: scope };
    Table { state, profile }
}

impl Table {
    fn id(&self, at: usize) -> String {
        self.state.blocks[at].content.block_id.to_string()
    }
    fn proposal(&self, operations: Vec<Op>) -> Proposal {
        Proposal { document: self.state.id().to_string(), base_version: version(&self.state), operations }
    }
    fn findings(&self, proposals: &[Proposal]) -> Vec<Finding> {
        let documents = BTreeMap::from([(self.state.id().to_string(), self.state.clone())]);
        validate(&Material {
            entities: &[self.profile.entity()],
            profile: Some(&self.profile),
            documents: &documents,
            proposals: &proposals.iter().collect::<Vec<_>>(),
        })
    }
    #[track_caller]
    fn rejects(&self, validator: &str, proposals: &[Proposal], why: &str) {
        let found = self.findings(proposals);
        let says = |finding: &Finding| {
            finding.validator == validator && finding.verdict == Verdict::Reject && finding.why.contains(why)
        };
        assert!(found.iter().any(says), "{validator} `{why}`: {found:#?}");
    }
    #[track_caller]
    fn rejects_one(&self, validator: &str, operation: Op, why: &str) {
        self.rejects(validator, &[self.proposal(vec![operation])], why);
    }
    #[track_caller]
    fn passes(&self, operations: Vec<Op>) {
        assert_eq!(self.findings(&[self.proposal(operations)]), []);
    }
    fn replace(&self, at: usize, content: &str) -> Op {
        Op::ReplaceBlock { block_id: self.id(at), content: content.into() }
    }
    fn delete(&self, at: usize) -> Op {
        Op::DeleteBlock { block_id: self.id(at) }
    }
    fn shift(&self, at: usize, after: Option<usize>) -> Op {
        Op::MoveBlock { block_id: self.id(at), after: after.map(|at| self.id(at)) }
    }
    fn insert(&self, after: Option<usize>, kind: &str, content: &str) -> Op {
        Op::InsertBlock { after: after.map(|at| self.id(at)), kind: kind.into(), content: content.into() }
    }
}

fn title(value: &str) -> Op {
    Op::UpdateMetadata { key: "title".into(), value: Some(value.into()) }
}

fn drafted(state: &State, operations: &[Op]) -> Draft {
    let mut draft = Draft::of(state);
    operations.iter().for_each(|operation| draft.apply(operation).unwrap());
    draft
}

#[test]
fn good_proposals_pass_and_become_markdown() {
    let table = table(LayerScope::Document, None);
    let operations = vec![
        table.replace(2, "## The first"),
        table.delete(4),
        table.shift(8, Some(0)),
        table.insert(Some(0), "paragraph", "\nA summary.\n\n"),
        table.insert(None, "html", "<!-- new -->").clone(),
        title("\"Another\""),
    ];
    let found = table.findings(&[table.proposal(operations.clone())]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].verdict, found[0].why.as_str()), (Verdict::NeedsPerson, "HTML would be written"));
    let draft = drafted(&table.state, &operations);
    assert_eq!(draft.title, "Another");
    insta::assert_snapshot!(draft.markdown(), @r"
    <!-- new -->

    # Title

    A summary.

    Four.

    Intro.

    ## The first

    One.

    ### Deep

    Three.

    ## Second
    ");
}

#[test]
fn scope_rejects_other_documents_and_blocks_that_are_not_selected() {
    let block = table(LayerScope::Block, Some((3, 4)));
    block.passes(vec![block.replace(3, "Other."), block.replace(4, "Other.")]);
    block.rejects_one("scope", block.replace(1, "Other."), "is not selected");
    let mut foreign = block.proposal(vec![block.replace(3, "Other.")]);
    foreign.document = nowhere();
    block.rejects("scope", &[foreign], "is not what the job is about");
    let mut gone = table(LayerScope::Block, Some((3, 4)));
    gone.state.blocks.remove(4);
    gone.rejects_one("scope", gone.replace(3, "Other."), "does not exist any more");
    // The document itself is gone.
    let found = validate(&Material {
        entities: &[block.profile.entity()],
        profile: Some(&block.profile),
        documents: &BTreeMap::new(),
        proposals: &[&block.proposal(vec![])],
    });
    assert!(found[0].why.ends_with("does not exist any more"), "{found:?}");
}

/// The id of nothing.
fn nowhere() -> String {
    "00000000-0000-0000-0000-0000000000ff".to_owned()
}

#[test]
fn layer_block_takes_nothing_but_other_content() {
    let block = table(LayerScope::Block, Some((3, 4)));
    for operation in [block.delete(3), block.shift(3, Some(4)), block.insert(Some(3), "paragraph", "x"), title("\"x\"")]
    {
        block.rejects_one("layer", operation, "`layer_scope` is block");
    }
    let all = table(LayerScope::Block, None);
    all.passes(vec![all.replace(0, "# Other"), all.replace(8, "Other.")]);
}

#[test]
fn layer_section_reaches_from_the_heading_to_the_next_of_its_level() {
    let section = table(LayerScope::Section, Some((3, 3)));
    section.passes(vec![
        section.replace(2, "## Other"),
        section.delete(4),
        section.shift(6, Some(2)),
        section.insert(Some(6), "paragraph", "At the end."),
    ]);
    for operation in [
        section.replace(1, "Other."),
        section.replace(7, "## Other"),
        section.delete(8),
        section.shift(8, Some(3)),
        section.shift(3, Some(7)),
        section.shift(3, None),
        section.insert(Some(1), "paragraph", "x"),
        section.insert(None, "paragraph", "x"),
    ] {
        section.rejects_one("layer", operation, "outside of the section");
    }
    section.rejects_one("layer", title("\"x\""), "the whole document");
    // The nearest heading whose section holds all of the selection: `First` holds `Deep`, and the title everything.
    let wide = table(LayerScope::Section, Some((6, 8)));
    wide.passes(vec![wide.replace(1, "Other."), wide.replace(8, "Other.")]);
    let deep = table(LayerScope::Section, Some((6, 6)));
    deep.passes(vec![deep.replace(5, "### Other")]);
    deep.rejects_one("layer", deep.replace(4, "Other."), "outside of the section");
}

#[test]
fn structure_rejects_what_is_no_block_of_its_kind() {
    let table = table(LayerScope::Document, None);
    let unknown = nowhere();
    for (operation, why) in [
        (Op::DeleteBlock { block_id: unknown.clone() }, "no block"),
        (Op::DeleteBlock { block_id: "nonsense".into() }, "no block"),
        (Op::MoveBlock { block_id: table.id(1), after: Some(unknown.clone()) }, "no block"),
        (Op::InsertBlock { after: Some(unknown), kind: "paragraph".into(), content: "x".into() }, "no block"),
        (table.shift(1, Some(1)), "behind itself"),
        (table.insert(None, "poem", "x"), "cannot be written"),
        (table.insert(None, "paragraph", " \n\n"), "is empty"),
        (table.insert(None, "paragraph", "a\n\nb"), "is 2 blocks"),
        (table.insert(None, "paragraph", "# a"), "is a heading"),
        (table.replace(0, "no heading"), "is a paragraph"),
        (table.replace(1, "a\0b"), "U+0000"),
        (table.replace(1, &"x".repeat((1 << 20) + 1)), "a block has at most"),
        (table.insert(Some(0), "front_matter", "---\na: b\n---"), "before everything else"),
        (Op::UpdateMetadata { key: "author".into(), value: Some("\"x\"".into()) }, "is not known"),
        (Op::UpdateMetadata { key: "title".into(), value: None }, "keeps its title"),
        (title("x"), "not a JSON string"),
        (title("7"), "not a JSON string"),
        (title("\"\""), "one line"),
        (title("\"a\\nb\""), "one line"),
        (title(&format!("\"{}\"", "t".repeat(1025))), "one line"),
    ] {
        table.rejects_one("structure", operation, why);
    }
    // Where it stood before it was deleted, nothing can be put.
    let after = vec![table.delete(3), table.insert(Some(3), "paragraph", "x")];
    table.rejects("structure", &[table.proposal(after)], "no block");
    let many = vec![table.insert(None, "paragraph", "x"); 1_000];
    table.rejects("structure", &[table.proposal(many)], "one edit has at most 1000");
    let more = vec![table.delete(3); 2_002];
    table.rejects("structure", &[table.proposal(more)], "at most 2001 fit into one edit");
}

#[test]
fn overlap_rejects_contradictions_and_what_was_read_before_a_change() {
    let table = table(LayerScope::Document, None);
    let proposal = |operations| table.proposal(operations);
    let twice = [proposal(vec![table.replace(3, "a")]), proposal(vec![table.replace(3, "b")])];
    table.rejects("overlap", &twice, "2 proposals change block");
    let moved = [proposal(vec![table.replace(3, "a")]), proposal(vec![table.delete(3)])];
    table.rejects("overlap", &moved, "2 proposals change block");
    table.rejects("overlap", &[proposal(vec![table.replace(3, "a"), table.replace(3, "b")])], "contradict");
    table.rejects("overlap", &[proposal(vec![table.replace(3, "a"), table.delete(3)])], "contradict");
    table.rejects("overlap", &[proposal(vec![title("\"a\"")]), proposal(vec![title("\"b\"")])], "written 2 times");
    let stale = Proposal { base_version: version(&table.state) - 1, ..proposal(vec![table.delete(3)]) };
    table.rejects("overlap", &[stale], "changed since it was read");
    table.passes(vec![table.replace(3, "a"), table.shift(3, Some(1)), title("\"a\"")]);
}

#[test]
fn deleting_most_of_a_document_needs_a_person() {
    let table = table(LayerScope::Document, None);
    table.passes((0..4).map(|at| table.delete(at)).collect());
    let found = table.findings(&[table.proposal((0..5).map(|at| table.delete(at)).collect())]);
    assert_eq!((found[0].verdict, found[0].why.as_str()), (Verdict::NeedsPerson, "5 of 9 blocks would be deleted"));
}

/// What storage would hold after the changes.
fn stored_after(state: &State, changes: Vec<ContentChange>) -> State {
    let mut after = state.clone();
    for change in changes {
        match change {
            ContentChange::Update { content: Content::Document(document), base } => {
                assert_eq!(base, Some(after.document.edit.edit_event_id));
                after.document.content = document;
            }
            ContentChange::Delete { id, base } => {
                assert!(base.is_some());
                after.blocks.retain(|block| block.content.block_id.uuid() != id.uuid());
            }
            ContentChange::Update { content: Content::Block(content), base } => {
                assert!(base.is_some());
                let block = after.blocks.iter_mut().find(|block| block.content.block_id == content.block_id);
                block.unwrap().content = content;
            }
            ContentChange::Create { content: Content::Block(content) } => {
                let like = after.document.clone();
                after.blocks.push(handshake_core::content::Stored {
                    content,
                    created_at: like.created_at,
                    updated_at: like.updated_at,
                    edit: like.edit,
                });
            }
            other => panic!("{other:?}"),
        }
    }
    after.blocks.sort_by_key(|block| (block.content.sequence, block.content.block_id));
    after
}

fn any_operation() -> impl Strategy<Value = (u8, usize, Option<usize>)> {
    (0..5u8, 0..9usize, prop::option::of(0..9usize))
}

proptest! {
    #[test]
    fn what_is_stored_afterwards_is_what_the_draft_showed(choices in prop::collection::vec(any_operation(), 0..12)) {
        let table = table(LayerScope::Document, None);
        let mut draft = Draft::of(&table.state);
        for (what, at, after) in choices {
            let operation = match what {
                0 => table.replace(at, if [0, 2, 5, 7].contains(&at) { "# Other" } else { "Other text." }),
                1 => table.delete(at),
                2 => table.shift(at, after),
                3 => table.insert(after, "paragraph", "New text."),
                _ => title("\"Other\""),
            };
            // Some contradict earlier ones; validators would reject those.
            let _ = draft.apply(&operation);
        }
        let edit = changes(&SequentialIds::default(), &table.state, &draft);
        prop_assert_eq!(edit.len(), number_of_changes(&table.state, &draft));
        let after = stored_after(&table.state, edit);
        prop_assert_eq!(markdown_of(&after), draft.markdown());
        prop_assert_eq!(&after.document.content.title, &draft.title);
        // A second draft of that, without operations, changes nothing but the document's own row.
        prop_assert_eq!(number_of_changes(&after, &Draft::of(&after)), 1);
    }
}
