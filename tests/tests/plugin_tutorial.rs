//! docs/plugins/tutorial.md, word for word: each block of `sh` runs in one folder, in its order, and each line of a `text` block
//! must be in what the block before it printed. `sh exit=3` says with which code its last command ends.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

use handshake_tests::binary::{Project, handshake};
use handshake_tests::guest_tools::{path, with_tools};

/// The blocks of a Markdown text: what stands behind the fence, and the content.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (info, after) = after.split_once('\n').unwrap();
        let (content, after) = after.split_once("\n```").unwrap_or_else(|| panic!("a block is never closed: {info}"));
        found.push((info, content));
        rest = after;
    }
    found
}

#[test]
fn the_tutorial_does_what_it_says() {
    let text = std::fs::read_to_string(handshake_tests::root().join("docs/plugins/tutorial.md")).unwrap();
    let blocks = blocks(&text);
    assert!(blocks.iter().filter(|(info, _)| info.starts_with("sh")).count() > 5, "the tutorial was not understood");
    let project = Project::bare();
    let mut folders = vec![handshake().parent().unwrap().to_owned()];
    folders.extend(std::env::split_paths(&path()));
    let folders = std::env::join_paths(folders).unwrap();
    let mut printed = String::new();
    for (info, content) in blocks {
        match info.split_once(' ').unwrap_or((info, "exit=0")) {
            ("sh", expected) => {
                let mut command = Command::new("bash");
                // From the folder where the author would be, with nothing of the tester's that the command listens to.
                command.args(["-euc", content]).current_dir(project.path("."));
                for variable in ["HANDSHAKE_DATA_DIR", "HANDSHAKE_LOG", "DATABASE_URL"] {
                    command.env_remove(variable);
                }
                let output = with_tools(&mut command).env("PATH", &folders).output().unwrap();
                printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
                let code = output.status.code().unwrap();
                assert_eq!(format!("exit={code}"), expected, "{content}\n{printed}");
            }
            ("text", _) => {
                for line in content.lines().filter(|line| line.trim() != "…") {
                    assert!(printed.contains(line.trim()), "`{line}` is not in what was printed:\n{printed}");
                }
            }
            (other, _) => assert!(["toml", "rust", "yaml"].contains(&other), "a block of `{other}`"),
        }
    }
}
