//! Reads the text and Markdown files of a mounted folder. Each becomes an artifact, so that folders larger than a
//! step's memory can be read; what is not readable text is skipped and listed, never an error.

mod document;
mod listing;

use std::fs::File;
use std::io::{self, Read};

use handshake_step::prelude::*;

use listing::Found;

/// Files are announced this often.
const PROGRESS_EVERY: u64 = 100;

/// What to read.
#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the mount.
    #[serde(default = "default_mount")]
    mount: String,
    /// Extensions of the files to read, without the dot, in any case.
    #[serde(default = "default_extensions")]
    extensions: Vec<String>,
    /// Larger files are skipped.
    #[serde(default = "default_max_document_kb")]
    #[schemars(range(min = 1, max = 16384))]
    max_document_kb: u64,
}

fn default_mount() -> String {
    "in".to_owned()
}

fn default_extensions() -> Vec<String> {
    ["md", "markdown", "txt"].map(str::to_owned).to_vec()
}

fn default_max_document_kb() -> u64 {
    1024
}

/// What was read.
#[data]
pub struct Output {
    /// The documents, in the order of their paths' bytes.
    documents: Vec<Document>,
    /// Files with a matching extension that were not read, entries that could not be listed.
    skipped: Vec<Skipped>,
    /// Sum of the documents' sizes.
    total_bytes: u64,
}

/// One document.
#[data]
pub struct Document {
    /// Path within the mount.
    path: String,
    /// First heading, or the file's name.
    title: String,
    /// Size in bytes.
    bytes: u64,
    /// The content.
    artifact: Artifact,
}

/// One file that was not read.
#[data]
pub struct Skipped {
    /// Path within the mount.
    path: String,
    /// Why not.
    reason: String,
}

#[step(capabilities = ["fs.read", "artifact.write"])]
fn run(_context: Context, input: Input) -> Result<Measured<Output>, StepError> {
    if input.mount.is_empty() || input.mount.contains(['/', '\\']) {
        return Err(StepError::invalid_input(format!("`mount` is `{}`, but must be a mount's name", input.mount)));
    }
    let max_bytes = match input.max_document_kb {
        kb @ 1..=16384 => kb * 1024,
        other => {
            return Err(StepError::invalid_input(format!("`max_document_kb` is {other}, but must be 1 to 16384")));
        }
    };
    let root = listing::Root::open(&input.mount)?;

    let mut output = Output { documents: Vec::new(), skipped: Vec::new(), total_bytes: 0 };
    for found in root.walk() {
        let path = match found {
            Found::File(path) => path,
            Found::Unreadable { path, reason } => {
                output.skipped.push(Skipped { path, reason });
                continue;
            }
        };
        if !document::has_extension(&path, &input.extensions) {
            continue;
        }
        match read_text(&format!("/{}/{path}", input.mount), max_bytes) {
            Ok(text) => {
                let artifact = artifacts::write(document::media_type(&path), text.as_bytes())?;
                let bytes = text.len() as u64;
                output.total_bytes += bytes;
                output.documents.push(Document { title: document::title(&path, &text), path, bytes, artifact });
            }
            Err(reason) => output.skipped.push(Skipped { path, reason }),
        }
        let seen = (output.documents.len() + output.skipped.len()) as u64;
        if seen.is_multiple_of(PROGRESS_EVERY) {
            progress::report(seen, None, "files read");
        }
    }

    let (read, skipped) = (output.documents.len() as u64, output.skipped.len() as u64);
    progress::report(read + skipped, read + skipped, "files read");
    let total = output.total_bytes;
    Ok(Measured::new(output)
        .metric("documents.read", read as f64)
        .metric("documents.skipped", skipped as f64)
        .metric("documents.bytes", total as f64))
}

/// The file's text, or why it is skipped. Reads one byte past the limit at most, whatever the file does meanwhile.
fn read_text(path: &str, max_bytes: u64) -> Result<String, String> {
    let file = File::open(path).map_err(|error| reason(&error))?;
    // Most files fit, and are read in few calls.
    let mut content = Vec::with_capacity(64 * 1024);
    file.take(max_bytes + 1).read_to_end(&mut content).map_err(|error| reason(&error))?;
    if content.len() as u64 > max_bytes {
        return Err(format!("larger than {} kB", max_bytes / 1024));
    }
    document::text(content).map_err(str::to_owned)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "denied".to_owned(),
        io::ErrorKind::NotFound => "gone before it was read".to_owned(),
        _ => format!("not readable: {error}"),
    }
}
