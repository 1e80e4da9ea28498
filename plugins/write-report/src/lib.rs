//! Writes summaries as a Markdown report into a mounted folder. The same summaries give the same bytes.

mod markdown;

use std::fs::File;
use std::io::{self, BufWriter, Write};

use handshake_step::prelude::*;

/// What to write, and where.
#[data]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the mount.
    #[serde(default = "default_mount")]
    mount: String,
    /// Name of the report within the mount. An earlier report is replaced.
    #[serde(default = "default_file")]
    file: String,
    /// Title of the report.
    #[serde(default = "default_title")]
    title: String,
    /// The summaries, in the order of the report.
    summaries: Vec<Summary>,
    /// What was not read, as `read-folder` lists it.
    #[serde(default)]
    skipped: Vec<Skipped>,
}

fn default_mount() -> String {
    "out".to_owned()
}

fn default_file() -> String {
    "report.md".to_owned()
}

fn default_title() -> String {
    "Summaries".to_owned()
}

/// One summary, as `summarize` gives it; further members are ignored.
#[data]
pub struct Summary {
    path: String,
    title: String,
    summary: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    note: Option<String>,
}

/// One file that was not read.
#[data]
pub struct Skipped {
    path: String,
    reason: String,
}

/// What was written.
#[data]
pub struct Output {
    /// Mount and file name, for example `out/report.md`.
    path: String,
    /// How many summaries are in it.
    documents: u64,
    /// Size in bytes.
    bytes: u64,
}

#[step(capabilities = ["fs.write"])]
fn run(_context: Context, input: Input) -> Result<Output, StepError> {
    for (key, value) in [("mount", &input.mount), ("file", &input.file)] {
        if value.is_empty() || value.starts_with('.') || value.contains(['/', '\\', '\0']) {
            return Err(StepError::invalid_input(format!("`{key}` is `{value}`, but must be a plain name")));
        }
    }
    let path = format!("{}/{}", input.mount, input.file);
    let documents = input.summaries.len() as u64;
    let bytes = write(&path, &input).map_err(|error| {
        let mount = &input.mount;
        match error.kind() {
            io::ErrorKind::PermissionDenied => StepError::permanent(format!(
                "`{path}` may not be written: the step needs the grant `fs.write:{mount}`"
            )),
            io::ErrorKind::NotFound => StepError::permanent(format!(
                "`{path}` cannot be written: add the mount `{mount}` with `access: write` and grant `fs.write:{mount}`"
            )),
            _ => StepError::permanent(format!("`{path}` cannot be written: {error}")),
        }
    })?;
    progress::report(documents, documents, "summaries written");
    Ok(Output { path, documents, bytes })
}

fn write(path: &str, input: &Input) -> io::Result<u64> {
    let mut out = Counted { inner: BufWriter::new(File::create(format!("/{path}"))?), bytes: 0 };
    report(&mut out, input)?;
    // Dropping a `BufWriter` hides errors.
    out.flush()?;
    Ok(out.bytes)
}

fn report(out: &mut impl Write, input: &Input) -> io::Result<()> {
    let documents = match input.summaries.len() {
        1 => "1 document".to_owned(),
        count => format!("{count} documents"),
    };
    let mut models: Vec<&str> = input.summaries.iter().map(|s| s.model.as_str()).filter(|m| !m.is_empty()).collect();
    models.sort_unstable();
    models.dedup();
    write!(out, "# {}\n\n{documents}", markdown::line(&input.title))?;
    for (position, model) in models.iter().enumerate() {
        write!(out, "{}{}", if position == 0 { ", summarized by " } else { ", " }, markdown::code(model))?;
    }
    writeln!(out)?;
    for summary in &input.summaries {
        writeln!(out, "\n## {}\n\n{}", markdown::line(&summary.title), markdown::code(&summary.path))?;
        for paragraph in markdown::paragraphs(&summary.summary) {
            writeln!(out, "\n{paragraph}")?;
        }
        if let Some(note) = &summary.note {
            writeln!(out, "\n*Note: {}*", markdown::line(note))?;
        }
    }
    if !input.skipped.is_empty() {
        writeln!(out, "\n## Not read\n")?;
        for skipped in &input.skipped {
            writeln!(out, "- {}: {}", markdown::code(&skipped.path), markdown::line(&skipped.reason))?;
        }
    }
    Ok(())
}

/// Counts what goes through.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn summary(title: &str, text: &str) -> Summary {
        Summary {
            path: "a/b.md".into(),
            title: title.into(),
            summary: text.into(),
            model: "builtin/extractive".into(),
            note: None,
        }
    }

    fn written(input: &Input) -> String {
        let mut bytes = Vec::new();
        report(&mut bytes, input).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_report_lists_documents_in_order_and_what_was_not_read() {
        let input = Input {
            mount: default_mount(),
            file: default_file(),
            title: default_title(),
            summaries: vec![summary("One", "First.\n\nSecond."), summary("Two", "")],
            skipped: vec![Skipped { path: "x.bin".into(), reason: "binary".into() }],
        };
        assert_eq!(
            written(&input),
            "# Summaries\n\n2 documents, summarized by `builtin/extractive`\n\n## One\n\n`a/b.md`\n\nFirst.\n\n\
             Second.\n\n## Two\n\n`a/b.md`\n\n## Not read\n\n- `x.bin`: binary\n"
        );
    }

    #[test]
    fn a_title_cannot_become_markup_or_a_second_line() {
        let input = Input {
            mount: default_mount(),
            file: default_file(),
            title: "x\n# y".into(),
            summaries: vec![summary("<script>[a](http://b)\u{1b}[31m", "# not a heading")],
            skipped: Vec::new(),
        };
        let report = written(&input);
        assert!(report.starts_with("# x # y\n"), "{report}");
        assert!(report.contains("## \\<script>\\[a](http://b)\\\\u{1b}\\[31m\n"), "{report}");
        assert!(report.contains("\n\\# not a heading\n"), "{report}");
    }
}
