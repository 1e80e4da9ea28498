//! Cases by hand, a comparison with a whole CommonMark parser, and texts made to hurt.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::*;

#[test]
fn the_title_is_the_first_heading_of_either_kind() {
    for (markdown, expected) in [
        ("# One\n\ntext", Some("One")),
        ("text\n\n## Two ##\n", Some("Two")),
        ("C#\n==\n", Some("C#")),
        ("# C#\n", Some("C#")),
        ("Three\n-----\n", Some("Three")),
        ("---\ntitle: x\n# not this\n---\n\n# Four", Some("Four")),
        ("+++\ntitle = 'x'\n+++\n# Four", Some("Four")),
        ("```sh\n# not this\n```\n# Five", Some("Five")),
        ("~~~~\n```\n# not this\n~~~\n~~~~\n# Six", Some("Six")),
        ("    # not this, it is code\n\n# Seven", Some("Seven")),
        ("---\n\n# Eight after a rule", Some("Eight after a rule")),
        ("- item\n\n---\n# Nine", Some("Nine")),
        ("#\n# Ten", Some("Ten")),
        ("#hashtag\n\n# Eleven", Some("Eleven")),
        ("# Zwölf\r\n", Some("Zwölf")),
        ("\u{feff}# After a mark", Some("After a mark")),
        ("# The `code` of *[links](x)* ![badge](y)\n", Some("The code of links")),
        ("<!--\n# not this\n-->\n# After a comment", Some("After a comment")),
        ("", None),
        ("no heading", None),
    ] {
        assert_eq!(title(markdown).as_deref(), expected, "{markdown:?}");
    }
}

#[test]
fn markup_without_sentences_is_left_out() {
    let markdown = "---\ntitle: secret\n---\n\n# Title\n\nOne *two* [three](http://x) `four`.\nFive.\n\n\
                    <!-- hidden -->\n\n```rust\nlet code = 1;\n```\n\n| a | b |\n|---|---|\n| c | d |\n\n\
                    ![picture](x.png) Six<br>.\n\n- [x] Seven\n  - Eight\n\n> Nine[^1]\n\n---\n\nTen <b>eleven</b>\n\n\
                    [^1]: Twelve.\n";
    assert_eq!(
        prose(markdown),
        "Title\n\nOne two three four. Five.\n\nSix.\n\nSeven\n\nEight\n\nNine\n\nTen eleven\n\nTwelve."
    );
    assert_eq!(prose("```\nx\n```\n\n    y\n"), "");
}

/// Constructs, one a document, on which both parsers must agree.
const SAMPLES: &[&str] = &[
    "A paragraph\nover two lines.\n\nAnother.",
    "Two  \nspaces and a\\\nbackslash.",
    "- one\n- two\n\n  still two\n- three\n\nafter",
    "1. one\n2. two\n   - nested\n   - more\n\nafter",
    "text\n- a list right behind",
    "In the year\n1986. A great one.",
    "- a list of versions up to\n  32. And so on\n- and [one]: not a definition\n3. next",
    "> quote\n> goes on\n\n> > deeper\n\nafter",
    "> ```\n> code\n> ```\n> text",
    "- item\n\n  ```\n  code\n  ```\n\n  text",
    "- item\n\n      code in the item\n\n  text",
    "para\n    not code, it goes on",
    "para\n\n\tcode\n\npara",
    "````\n```\n````\ntext",
    "``` not`a fence\ntext",
    "a | b\n--|--\n1 | 2\n\nafter",
    "| a |\n|:-:|\n| 1 |\n| 2 |\n",
    "no | table",
    "Heading\n===\ntext\n\nOther\n---\ntext",
    "***\n\n- - -\n\n_ _ _\n\ntext",
    "[link](http://x \"title\"), [empty](), [angle](<a>), [nested ![image](i.png) text](x)",
    "[parens](http://x/(a)) and [text] (not a link), [also](not a link)",
    "[reference][r] and [collapsed][]\n\n[r]: http://x\n[collapsed]: http://y 'title'",
    "[outer [inner](a) text](b)",
    "![image](a.png \"b\") and ![with [brackets]](c.png) text",
    "[shortcut], [Upper Case], [unknown], ![image][r], [r][unknown] and [a][shortcut]\n\n[shortcut]: a\n[upper case]: b\n[r]: c",
    "every host/* and a * b, ***g** h*, *a **b** c*, _a_b_, **a*",
    "a *-stream of text",
    "Result<A, B> and Vec<T> and <a href='x' b=c> and <img src=a=b> and a<b",
    "`code` and ``co`de`` and `unclosed",
    "*one* **two** ***three*** _four_ __five__ ~~six~~ snake_case_name 2 * 3",
    "\\*not emphasis\\* \\[not a link\\](x) \\# \\` \\\\",
    "&amp; &lt;b&gt; &quot;x&quot; &copy; &#65; &#x42; &unknown; a & b &",
    "<https://example.com/a> and <me@example.com> but 1 < 2 > 1",
    "text <span class=\"x\">in</span> tags <!-- comment --> end<br/>",
    "<div>\nhidden\n</div>\n\nshown",
    "<details>\n<summary>hidden</summary>\n\nshown\n\n</details>",
    "<pre>\nhidden\n\nstill hidden\n</pre>\nshown",
    "<script>\nif (a) {\n\n}\n</script>\n\nshown",
    "<!-- one\n\ntwo -->\n\nshown",
    "<a href=\"x\">\nhidden\n\nshown",
    "text[^1] more\n\n[^1]: note\n",
    "- [ ] open\n- [x] done\n",
    "# Heading with `code` and #hash\n## \n### Last ###\n",
    "Ünïcödé *bétween* 中文 **粗体** — dash",
    "line one\r\nline two\r\n\r\nnext\r\n",
];

#[test]
fn prose_is_what_a_whole_parser_finds() {
    for sample in SAMPLES {
        assert_eq!(prose(sample), oracle(sample), "{sample:?}");
    }
}

#[test]
fn any_text_is_taken_in_linear_time() {
    let hostile = [
        "[", "]", "[]", "[](", "![", "[a](", "](", "`", "``` `", "<", "<!--", "<a", "&", "&#", "*", "_a", "**a", "~~",
        "> ", "- ", "1. ", "\\", "|", "|-", "[^", "[a][", "[ \"", "\t", "#", "=\n", "a\n-\n", "<div>\n", "ö*", "[](x",
    ];
    for one in hostile {
        let text = one.repeat(100_000 / one.len());
        assert!(prose(&text).len() <= 3 * text.len() + 2, "{one:?}");
        for other in hostile {
            let pair = format!("{one}{other}");
            let text = pair.repeat(4_000 / pair.len());
            assert!(prose(&text).len() <= 3 * text.len() + 2, "{pair:?}");
        }
    }
    // Runs of backticks of ever new lengths.
    let runs: String = (1..400).map(|length| format!("{} ", "`".repeat(length))).collect();
    assert!(prose(&runs).len() <= runs.len());
}

/// The same extraction on pulldown-cmark's events.
fn oracle(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let (mut blocks, mut block, mut left_out) = (Vec::new(), String::new(), 0_usize);
    let mut end = |block: &mut String| {
        let text = block.split_whitespace().collect::<Vec<_>>().join(" ");
        block.clear();
        if !text.is_empty() {
            blocks.push(text);
        }
    };
    for event in Parser::new_ext(markdown, options) {
        match event {
            Event::Start(tag) => {
                if !matches!(
                    tag,
                    Tag::Emphasis | Tag::Strong | Tag::Strikethrough | Tag::Link { .. } | Tag::Image { .. }
                ) {
                    end(&mut block);
                }
                let without_prose = matches!(
                    tag,
                    Tag::CodeBlock(_) | Tag::Table(_) | Tag::HtmlBlock | Tag::Image { .. } | Tag::MetadataBlock(_)
                );
                if left_out > 0 || without_prose {
                    left_out += 1;
                }
            }
            Event::End(_) if left_out > 0 => left_out -= 1,
            Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image) => {}
            Event::End(_) => end(&mut block),
            _ if left_out > 0 => {}
            Event::Text(text) | Event::Code(text) => block.push_str(&text),
            Event::SoftBreak | Event::HardBreak => block.push(' '),
            _ => {}
        }
    }
    end(&mut block);
    blocks.join("\n\n")
}
