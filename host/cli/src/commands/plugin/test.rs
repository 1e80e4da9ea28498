//! `handshake plugin test`: a plugin's cases, what differs in them, and their results for CI.

use std::path::{Path, PathBuf};

use clap::Args;
use handshake_core::terminal::escape;

use crate::access::Need;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::output::{Output, Tone};
use crate::plugins::cases::{CaseReport, TestReport, TestRequest, rewrite};

/// Arguments of `handshake plugin test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The plugin's folder, which holds tests/NAME.toml
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Run the cases whose name contains this
    filter: Option<String>,
    /// Write what happened into the cases as what they expect
    #[arg(long)]
    update: bool,
    /// Write the results as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Runs the cases.
pub(crate) async fn test(context: &Context<'_>, args: &TestArgs) -> Result<Exit, CliError> {
    let output = context.output;
    // A file is refused by the slash at the end.
    let folder = args.folder.join("").canonicalize();
    let folder = folder.map_err(|error| CliError::file("open the folder", &args.folder, &error))?;
    let access = context.access(Need::Answers).await?;
    let request = TestRequest { folder, filter: args.filter.clone() };
    let tested = access.post::<TestReport>("/api/v1/plugins/test", &request).await;
    let mut report = access.finish(output, tested).await?;
    if args.update {
        for case in report.cases.iter_mut().filter(|case| !case.passed) {
            update(case)?;
        }
    }
    if let Some(file) = &args.junit {
        std::fs::write(file, junit(&report)).map_err(|error| CliError::file("write", file, &error))?;
    }
    show(output, &report, args.update)
}

/// Writes what happened into a case. What the fakes complain about is not cured by that.
fn update(case: &CaseReport) -> Result<(), CliError> {
    let text = std::fs::read_to_string(&case.file).map_err(|error| CliError::file("read", &case.file, &error))?;
    let written = rewrite(&text, &case.expect).map_err(|line| {
        CliError::usage(format!("{}:{line}: stands behind [expect]", case.file.display()))
            .hint("move [expect] to the end of the file, then update it again")
    })?;
    for (path, content) in &case.expect_files {
        replace(path, content)?;
    }
    replace(&case.file, &written)
}

fn replace(path: &Path, content: &str) -> Result<(), CliError> {
    std::fs::write(path, content).map_err(|error| CliError::file("write", path, &error))
}

fn show(output: &Output, report: &TestReport, updated: bool) -> Result<Exit, CliError> {
    let failed = report.cases.iter().filter(|case| !case.passed).count();
    let cured = |case: &CaseReport| case.passed || (updated && case.unanswered == 0);
    let exit = if report.cases.iter().all(cured) { Exit::Done } else { Exit::JobFailed };
    if output.is_json() {
        output.json(report)?;
        return Ok(exit);
    }
    for case in &report.cases {
        let milliseconds = case.duration_us as f64 / 1000.0;
        match (case.passed, updated) {
            (true, _) if output.quiet => {}
            (true, _) => output.toned_line("ok", Tone::Good, &format!("{}  {milliseconds:.1} ms", case.name))?,
            (false, true) if case.unanswered == 0 => output.toned_line("updated", Tone::Odd, &case.name)?,
            (false, _) => output.toned_line("failed", Tone::Bad, &case.name)?,
        }
        if case.passed {
            continue;
        }
        for mismatch in &case.mismatches {
            output.line(&format!("  {}: {}", mismatch.place, mismatch.what))?;
            for line in mismatch.diff.iter().flat_map(|diff| diff.lines()) {
                output.diff_line(line)?;
            }
        }
        for line in &case.log {
            output.line(&format!("  said {line}"))?;
        }
    }
    if !output.quiet {
        let passed = report.cases.len() - failed;
        let rest = match (failed, updated) {
            (0, _) => String::new(),
            (_, true) => format!(", {failed} updated: look at the difference before you commit it"),
            (_, false) => format!(", {failed} failed"),
        };
        output.line(&format!("{}: {passed} passed{rest}", report.plugin))?;
    }
    Ok(exit)
}

/// The form that CI systems read: one suite, a failure with everything that differs.
fn junit(report: &TestReport) -> String {
    let failed = report.cases.iter().filter(|case| !case.passed).count();
    let seconds = |micros: u64| micros as f64 / 1_000_000.0;
    let time: u64 = report.cases.iter().map(|case| case.duration_us).sum();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" time=\"{:.6}\">\n",
        xml(&report.plugin),
        report.cases.len(),
        seconds(time)
    );
    for case in &report.cases {
        let (name, plugin, time) = (xml(&case.name), xml(&report.plugin), seconds(case.duration_us));
        text.push_str(&format!("  <testcase name=\"{name}\" classname=\"{plugin}\" time=\"{time:.6}\">\n"));
        if !case.passed {
            let what: Vec<_> = case
                .mismatches
                .iter()
                .map(|it| format!("{}: {}\n{}", it.place, it.what, it.diff.as_deref().unwrap_or_default()))
                .collect();
            let first = case.mismatches.first().map(|mismatch| mismatch.what.as_str()).unwrap_or_default();
            text.push_str(&format!("    <failure message=\"{}\">{}</failure>\n", xml(first), xml(&what.join("\n"))));
        }
        if !case.log.is_empty() {
            text.push_str(&format!("    <system-out>{}</system-out>\n", xml(&case.log.join("\n"))));
        }
        text.push_str("  </testcase>\n");
    }
    text + "</testsuite>\n"
}

/// Text in XML; characters that XML has no form for become visible.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in escape(text, true).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::cases::Mismatch;

    #[test]
    fn junit_names_each_case_and_escapes_what_steps_say() {
        let case = |name: &str, mismatches: Vec<Mismatch>| CaseReport {
            name: name.into(),
            file: "tests/a.toml".into(),
            passed: mismatches.is_empty(),
            mismatches,
            unanswered: 0,
            log: vec!["info: <b>&\u{1b}".into()],
            duration_us: 1500,
            expect: String::new(),
            expect_files: Vec::new(),
        };
        let wrong = Mismatch { place: "a.toml:3".into(), what: "\"x\" differs".into(), diff: Some("-<a>\n".into()) };
        let report = TestReport { plugin: "demo@0.1.0".into(), cases: vec![case("a", vec![]), case("b", vec![wrong])] };
        let text = junit(&report);
        assert!(
            text.contains("<testsuite name=\"demo@0.1.0\" tests=\"2\" failures=\"1\" time=\"0.003000\">"),
            "{text}"
        );
        assert!(
            text.contains("<failure message=\"&quot;x&quot; differs\">a.toml:3: &quot;x&quot; differs\n-&lt;a&gt;"),
            "{text}"
        );
        assert!(text.contains("info: &lt;b&gt;&amp;\\u{1b}"), "{text}");
    }
}
