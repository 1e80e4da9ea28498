//! What goes to the person or the program: text, tables, JSON, errors.
//!
//! Text from outside is escaped here, in one place, on its way to a person. A closed pipe ends output quietly.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use handshake_core::event::{RedactionScope, Redactor};
use handshake_core::terminal::{self, escape};
use handshake_recorder::Redaction;
use serde::Serialize;

use crate::error::CliError;

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a person.
    Text,
    /// For a program: the documents of the local API.
    Json,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Good.
    Good,
    /// Bad.
    Bad,
    /// Worth a look.
    Odd,
    /// Less important.
    Faint,
}

/// Marks a cell of a table that must stand out, with or without colour.
pub(crate) const ALERT: char = '✗';

/// Standard output and how to write to it.
#[derive(Debug)]
pub(crate) struct Output {
    /// The form.
    pub(crate) format: Format,
    /// Nothing but results.
    pub(crate) quiet: bool,
    color: bool,
    color_errors: bool,
    width: u16,
    closed: Cell<bool>,
    redaction: Redaction,
}

impl Output {
    /// Output as the global options ask for it.
    pub(crate) fn new(format: Format, quiet: bool, color: ColorChoice, redaction: Redaction) -> Self {
        let wanted = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let columns =
            std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|width| (40..=400).contains(width));
        Self {
            format,
            quiet,
            color: wanted(io::stdout().is_terminal()),
            color_errors: wanted(io::stderr().is_terminal()),
            // What goes into a pipe is for programs that look at lines, so a row stays on one.
            width: columns.unwrap_or(if io::stdout().is_terminal() { 80 } else { u16::MAX }),
            closed: Cell::new(false),
            redaction,
        }
    }

    /// What keeps secrets out of everything that this process writes besides results.
    pub(crate) fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// Whether the output is for a program.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes text that ends with a line break, as it is.
    fn write(&self, text: &str) -> Result<(), CliError> {
        if self.closed.get() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever read us has seen enough (`| head`). The work goes on; it only has no reader.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.set(true);
                Ok(())
            }
            Err(error) => Err(CliError::usage("cannot write to standard output").because(&error)),
            Ok(()) => Ok(()),
        }
    }

    /// One line; control characters become visible.
    pub(crate) fn line(&self, text: &str) -> Result<(), CliError> {
        self.write(&format!("{}\n", escape(text, false)))
    }

    /// Several lines; control characters other than line breaks and tabs become visible.
    pub(crate) fn lines(&self, text: &str) -> Result<(), CliError> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.write(&format!("{}{end}", escape(text, true)))
    }

    /// A name and a value in two columns.
    pub(crate) fn field(&self, name: &str, value: &str) -> Result<(), CliError> {
        self.write(&format!("{:<12} {}\n", name, escape(value, false)))
    }

    /// A field whose value has a tone.
    pub(crate) fn toned_field(&self, name: &str, value: &str, tone: Tone) -> Result<(), CliError> {
        self.write(&format!("{:<12} {}\n", name, self.paint(&escape(value, false), tone)))
    }

    /// A line that starts with a toned word.
    pub(crate) fn toned_line(&self, word: &str, tone: Tone, rest: &str) -> Result<(), CliError> {
        self.write(&format!("{} {}\n", self.paint(word, tone), escape(rest, false)))
    }

    /// A line of a unified diff; control characters become visible.
    pub(crate) fn diff_line(&self, line: &str) -> Result<(), CliError> {
        let text = escape(line, true);
        let tone = match line.as_bytes().first() {
            Some(b'+') => Some(Tone::Good),
            Some(b'-') => Some(Tone::Bad),
            Some(b'@') => Some(Tone::Faint),
            _ => None,
        };
        match tone {
            Some(tone) => self.write(&format!("{}\n", self.paint(&text, tone))),
            None => self.write(&format!("{text}\n")),
        }
    }

    /// JSON, on several lines.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::internal("the result cannot be written as JSON").because(&error))?;
        self.write(&(terminal::escape_json(&text).into_owned() + "\n"))
    }

    /// JSON on one line, for values that come one by one.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value)
            .map_err(|error| CliError::internal("the result cannot be written as JSON").because(&error))?;
        self.write(&(terminal::escape_json(&text).into_owned() + "\n"))
    }

    /// Whether whoever read this has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// How many characters fit on a line.
    pub(crate) fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// Text that a program made for programs, such as a schema or a completion script.
    pub(crate) fn raw(&self, text: &str) -> Result<(), CliError> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.write(&format!("{text}{end}"))
    }

    /// A document: byte for byte to a file or a pipe; to a terminal with its control characters visible.
    pub(crate) fn document(&self, text: &str) -> Result<(), CliError> {
        if io::stdout().is_terminal() { self.lines(text) } else { self.write(text) }
    }

    /// A table within the width. Columns that hold ids keep them in one piece.
    pub(crate) fn table(&self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
        let text = table(header, rows, self.width);
        self.write(&if self.color { highlight(&text) } else { text })
    }

    /// A remark for the person that is not part of the result: standard error, not when quiet, never in JSON.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.is_json() {
            self.stderr(&format!("{}\n", escape(text, false)));
        }
    }

    /// An error.
    pub(crate) fn error(&self, error: &CliError) {
        if self.is_json() {
            self.stderr(&format!("{}\n", error.clean(&self.redaction).to_json()));
            return;
        }
        let label = |text: &str, codes: &str| {
            if self.color_errors { format!("\u{1b}[{codes}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        let code = if error.code.starts_with("HSK-") && !error.message.contains(&error.code) {
            format!("{}: ", error.code)
        } else {
            String::new()
        };
        let mut text = format!("{} {code}{}\n", label("error:", "1;31"), escape(&error.message, true));
        for cause in &error.why {
            text.push_str(&format!("{} {}\n", label("why:", "1"), escape(cause, true)));
        }
        if let Some(hint) = &error.hint {
            text.push_str(&format!("{} {}\n", label("hint:", "1;36"), escape(hint, true)));
        }
        self.stderr(&text);
    }

    /// Everything that goes to standard error, without secrets.
    fn stderr(&self, text: &str) {
        // Nobody is left to tell if standard error is gone.
        let _ = io::stderr().lock().write_all(self.redaction.clean(RedactionScope::Text, text).as_bytes());
    }

    fn paint(&self, text: &str, tone: Tone) -> String {
        let codes = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Odd => "33",
            Tone::Faint => "2",
        };
        if self.color { format!("\u{1b}[{codes}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Lays out a table. Words, ids among them, stay in one piece as long as the width has room for that.
fn table(header: &[&str], rows: Vec<Vec<String>>, width: u16) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escape(cell, false).into_owned()).collect()).collect();
    let least = least_widths(header, &rows, usize::from(width));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table.set_header(header.iter().copied()).add_rows(rows);
    let last = header.len().saturating_sub(1);
    for (at, (column, least)) in table.column_iter_mut().zip(least).enumerate() {
        column.set_padding((0, if at == last { 0 } else { GAP }));
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Space between two columns.
const GAP: u16 = 2;
/// Lengths up to which words are kept whole, tried in turn; the first is that of an id.
const WHOLE_WORDS: [usize; 6] = [36, 28, 22, 18, 14, 10];

/// The least width of each column, the gap behind it included.
fn least_widths(header: &[&str], rows: &[Vec<String>], width: usize) -> Vec<u16> {
    let longest = |text: &str| text.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
    let words: Vec<usize> = (0..header.len())
        .map(|at| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(|cell| longest(cell))
                .max()
                .unwrap_or(0)
                .max(longest(header[at]))
        })
        .collect();
    let limited = |most: usize| {
        // An id that is broken cannot be copied, so it is kept whole whatever the others need.
        let widths = words.iter().map(|word| if *word == WHOLE_WORDS[0] { *word } else { (*word).min(most) });
        widths.map(|width| width + usize::from(GAP)).collect::<Vec<_>>()
    };
    let fitting =
        WHOLE_WORDS.into_iter().map(limited).find(|widths| widths.iter().sum::<usize>() <= width + usize::from(GAP));
    let least = fitting.unwrap_or_else(|| limited(WHOLE_WORDS[WHOLE_WORDS.len() - 1]));
    let mut widths: Vec<u16> = least.into_iter().map(|width| u16::try_from(width).unwrap_or(u16::MAX)).collect();
    if let Some(last) = widths.last_mut() {
        *last -= GAP;
    }
    widths
}

/// Colours what a table marks with [`ALERT`]. It comes after the layout, which counts characters.
fn highlight(text: &str) -> String {
    let mut coloured = String::with_capacity(text.len());
    for (at, part) in text.split(ALERT).enumerate() {
        if at == 0 {
            coloured.push_str(part);
            continue;
        }
        let end = part
            .char_indices()
            .find(|(_, c)| !(c.is_ascii_alphanumeric() || *c == ' ' || *c == '-'))
            .map_or(part.len(), |(at, _)| at);
        let word = part[..end].find("  ").map_or(end, |gap| gap.min(end));
        coloured.push_str(&format!("\u{1b}[1;31m{ALERT}{}\u{1b}[0m{}", &part[..word], &part[word..]));
    }
    coloured
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
