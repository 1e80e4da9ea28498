//! Counts words and links in the Markdown files of a mount. `stats-python` and `stats-javascript` do the same and give
//! the same bytes; what counts as what is therefore defined by characters, not by any language's library.

mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io;

use handshake_step::prelude::*;

/// How many of the most frequent words are listed.
const TOP_WORDS: usize = 10;

/// What to read.
#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the mount.
    mount: String,
}

/// What was counted.
#[data]
pub struct Output {
    /// The files, in the order of their paths' characters.
    files: Vec<FileStats>,
    /// Words of all files.
    words: u64,
    /// Links of all files.
    links: u64,
    /// The most frequent words, ASCII letters in lower case; those that are as frequent in the order of their characters.
    top_words: Vec<Count>,
    /// Links by host, ordered in the same way.
    hosts: Vec<Count>,
    /// Files that are not UTF-8.
    skipped: Vec<String>,
}

/// One file.
#[data]
pub struct FileStats {
    /// Path within the mount.
    path: String,
    /// Runs of letters, digits and characters beyond ASCII.
    words: u64,
    /// Inline links and images, `[text](target)`.
    links: u64,
}

/// How often something occurs.
#[data]
pub struct Count {
    /// What.
    name: String,
    /// How often.
    count: u64,
}

#[step(capabilities = ["fs.read"])]
fn run(_context: Context, input: Input) -> Result<Output, StepError> {
    let root = format!("/{}", input.mount);
    let mut paths = Vec::new();
    list(&root, "", &mut paths).map_err(|error| StepError::permanent(format!("{root}: {error}")))?;
    paths.sort();

    let mut output =
        Output { files: Vec::new(), words: 0, links: 0, top_words: Vec::new(), hosts: Vec::new(), skipped: Vec::new() };
    let (mut words, mut hosts) = (BTreeMap::new(), BTreeMap::new());
    for path in paths {
        let bytes = fs::read(format!("{root}/{path}"))
            .map_err(|error| StepError::permanent(format!("{root}/{path}: {error}")))?;
        let Ok(content) = String::from_utf8(bytes) else {
            output.skipped.push(path);
            continue;
        };
        let mut file = FileStats { path, words: 0, links: 0 };
        for word in text::words(&content) {
            file.words += 1;
            *words.entry(word.to_ascii_lowercase()).or_default() += 1;
        }
        for target in text::links(&content) {
            file.links += 1;
            if let Some(host) = text::host(target) {
                *hosts.entry(host).or_default() += 1;
            }
        }
        output.words += file.words;
        output.links += file.links;
        output.files.push(file);
    }
    output.top_words = ranked(words);
    output.top_words.truncate(TOP_WORDS);
    output.hosts = ranked(hosts);
    Ok(output)
}

/// Adds the Markdown files below a folder; `prefix` is its path within the mount, with a `/` behind it. Hidden entries and
/// links are left out.
fn list(folder: &str, prefix: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| io::Error::other("a name that is not UTF-8"))?;
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&format!("{folder}/{name}"), &format!("{prefix}{name}/"), paths)?;
        } else if kind.is_file() && name.ends_with(".md") {
            paths.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// The most frequent first.
fn ranked(counts: BTreeMap<String, u64>) -> Vec<Count> {
    let mut ranked: Vec<_> = counts.into_iter().map(|(name, count)| Count { name, count }).collect();
    // Stable, and the map was in the order of characters.
    ranked.sort_by_key(|entry| std::cmp::Reverse(entry.count));
    ranked
}
