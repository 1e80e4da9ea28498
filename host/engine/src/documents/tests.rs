//! Markdown goes in and comes out again: the same bytes, and the blocks that a reader sees.

use handshake_core::content::{Content, ContentBlock, ContentChange, Document, Stored};
use handshake_core::edit::{EditMetadata, EditorKind};
use handshake_core::testing::SequentialIds;
use handshake_core::{EventId, Timestamp, WorkspaceId};
use proptest::prelude::*;

use super::*;

/// A text as it is stored after its import.
pub(crate) fn stored(ids: &SequentialIds, markdown: &str) -> State {
    let imported = import(ids, WorkspaceId::fresh(ids), None, None, "file.md", markdown).unwrap();
    let edit = EditMetadata {
        last_actor_kind: EditorKind::Human,
        last_actor_id: "Ada".into(),
        last_job_id: None,
        last_workflow_id: None,
        edit_event_id: EventId::fresh(ids),
    };
    let at = Timestamp::from_micros(7);
    let mut document: Option<Document> = None;
    let mut blocks: Vec<ContentBlock> = Vec::new();
    for change in imported.changes {
        match change {
            ContentChange::Create { content: Content::Document(content) } => document = Some(content),
            ContentChange::Create { content: Content::Block(block) } => blocks.push(block),
            other => panic!("{other:?}"),
        }
    }
    let kept = |block| Stored { content: block, created_at: at, updated_at: at, edit: edit.clone() };
    let document = Stored { content: document.unwrap(), created_at: at, updated_at: at, edit: edit.clone() };
    State { document, blocks: blocks.into_iter().map(kept).collect() }
}

fn kinds(markdown: &str) -> Vec<&'static str> {
    split(markdown).iter().map(|piece| piece.kind.as_str()).collect()
}

#[track_caller]
fn comes_back(markdown: &str) {
    let pieces: String = split(markdown).iter().map(|piece| [piece.before, piece.text, piece.after].concat()).collect();
    assert_eq!(pieces, markdown);
    let state = stored(&SequentialIds::default(), markdown);
    assert_eq!(markdown_of(&state), markdown);
    assert_eq!(exported(&state), markdown);
}

const EVERYTHING: &str = "---\ntitle: x\n---\n\n# Title\nA paragraph right behind.\n\nSetext\n===\n\n- one\n\n  more\n- two\n\n1. first\n\n> quoted\nlazily\n\n```rust\nfn f() {}\n\n```\n\n    indented\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n<div>\nhtml\n</div>\n\n***\n\n[^1]: A footnote.\n\n[target]: https://example.org\n\nThe [end][target].\n";

#[test]
fn every_kind_of_block_is_found_in_its_place() {
    assert_eq!(
        kinds(EVERYTHING),
        [
            "front_matter",
            "heading",
            "paragraph",
            "heading",
            "list",
            "list",
            "quote",
            "code",
            "code",
            "table",
            "html",
            "rule",
            "footnote",
            "reference",
            "paragraph"
        ]
    );
    let levels: Vec<_> = split("# a\n\n## b\n\nc\n---\n\nd").iter().map(|piece| piece.level).collect();
    assert_eq!(levels, [1, 2, 2, 0]);
    let pieces = split("\n\n  a  \n\n\nb");
    assert_eq!((pieces[0].before, pieces[0].text, pieces[0].after, pieces[1].text), ("\n\n", "  a  ", "\n\n\n", "b"));
}

#[test]
fn texts_of_every_sort_come_back_byte_for_byte() {
    let crlf = EVERYTHING.replace('\n', "\r\n");
    let mac = EVERYTHING.replace('\n', "\r");
    for text in [
        "",
        "\n",
        "\n \n\t\n",
        "\u{feff}",
        "\u{feff}# a\n",
        "no newline at the end",
        "a\n\n\n\n",
        "\n\n# a",
        "```\nnever closed\n\n\n",
        "a\r\n\r\nb\nc\r\rd",
        "    code\n",
        "\t\tcode\n\ntext",
        "[a]: b\n",
        "[a]: b\n\n\n[c]: d\ntext",
        "text\n[a]: b",
        "<!-- a\n\n-->\ntext\n",
        "- a\n\n\n- b\n\n\n\nc",
        "> [a]: b\n\nx",
        " \u{a0}\n\u{2028}x",
        "\u{b}\n\u{c}x\n",
        "* * *\n***\n",
        EVERYTHING,
        &crlf,
        &mac,
    ] {
        comes_back(text);
    }
}

#[test]
fn this_repositorys_own_documents_come_back_byte_for_byte() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = [".", "docs", "plugins", "tests/guests"].map(|folder| root.join(folder));
    let mut seen = 0;
    for folder in folders {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(split(&text).len() > 3, "{}", path.display());
                comes_back(&text);
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "{seen}");
}

proptest! {
    #[test]
    fn any_text_comes_back_byte_for_byte(parts in prop::collection::vec(
        prop::sample::select(vec![
            "\n", "\r\n", "\r", "\n\n", " ", "    ", "\t", "# ", "- ", "1. ", "> ", "```", "~~~", "---", "===", "***", "| a ",
            "|-|", "<div>", "<!--", "-->", "[a]: b", "[^a]: b", "text", "ä漢🎉", "\u{feff}", "\\", "`", "+++", "&amp;",
        ]), 0..40)
    ) {
        comes_back(&parts.concat());
    }

    #[test]
    fn any_string_comes_back_byte_for_byte(text in "[^\0]{0,200}") {
        comes_back(&text);
    }
}

#[test]
fn what_cannot_be_stored_is_refused_with_its_line() {
    let ids = SequentialIds::default();
    let refused = |text: &str, title: Option<&str>| {
        import(&ids, WorkspaceId::fresh(&ids), None, title, "f", text).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused("a\n\nb\0", None), @"line 3 has the character U+0000, which cannot be stored");
    insta::assert_snapshot!(refused(&"a\n\n".repeat(999), None), @"it has 999 blocks; at most 998 can be imported as one document");
    let long = format!("a\n\n{}", "b".repeat(1 << 20));
    insta::assert_snapshot!(refused(&long, None), @"the block at line 3 has 1048576 bytes; a block has at most 1048576");
    insta::assert_snapshot!(refused("a", Some(&"t".repeat(1025))), @"the title has 1025 bytes; at most 1024 can be stored");
}

#[test]
fn the_title_is_that_of_the_first_heading_or_the_name_of_the_file() {
    let ids = SequentialIds::default();
    let title = |text: &str, given| import(&ids, WorkspaceId::fresh(&ids), None, given, "f.md", text).unwrap().title;
    assert_eq!(title("x\n\n## C# and *more* ##\n", None), "C# and *more*");
    assert_eq!(title("Setext\n===\n", None), "Setext");
    assert_eq!(
        (title("x", None), title("#\n", None), title("# a", Some("b"))),
        ("f.md".into(), "f.md".into(), "b".into())
    );
}
