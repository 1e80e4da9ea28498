//! The tests of a plugin: each case is a file, runs in the real runtime behind the real gate, and finds fakes there.
//! The form is described in `docs/plugins/testing.md`.

mod compare;
mod execute;
mod expect;
mod fakes;
mod file;
mod network;

use std::path::{Path, PathBuf};

use handshake_core::step::Plugin;
use serde::{Deserialize, Serialize};

pub(crate) use self::expect::rewrite;
use crate::error::CliError;
use crate::host::HostState;

/// Cases of one plugin; who has more tests something else.
const MOST_CASES: usize = 1_000;

/// Which cases to run.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestRequest {
    /// The plugin's folder; absolute.
    pub(crate) folder: PathBuf,
    /// Those whose name contains this.
    #[serde(default)]
    pub(crate) filter: Option<String>,
}

/// What came of them.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct TestReport {
    /// `id@version`.
    pub(crate) plugin: String,
    /// In the order of their names.
    pub(crate) cases: Vec<CaseReport>,
}

/// What came of one case.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct CaseReport {
    /// Its name.
    pub(crate) name: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// Whether what happened is what was expected.
    pub(crate) passed: bool,
    /// What was not.
    pub(crate) mismatches: Vec<Mismatch>,
    /// How many of them are about canned answers, so that no other `[expect]` makes the case pass.
    pub(crate) unanswered: usize,
    /// What the step said.
    pub(crate) log: Vec<String>,
    /// How long it took, microseconds.
    pub(crate) duration_us: u64,
    /// The `[expect]` that it would have passed with.
    pub(crate) expect: String,
    /// Files beside the case that go with it, by path.
    #[serde(default)]
    pub(crate) expect_files: Vec<(PathBuf, String)>,
}

/// Something that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Mismatch {
    /// Which key of the case, with its place.
    pub(crate) place: String,
    /// In one line.
    pub(crate) what: String,
    /// A unified diff from what was expected to what happened, if there is one.
    pub(crate) diff: Option<String>,
}

/// Runs the cases in a plugin's `tests` folder.
pub(crate) async fn run(host: &HostState, request: &TestRequest) -> Result<TestReport, CliError> {
    let source = crate::api::plugins::source_folder(&request.folder)?;
    let plugin = host.runtime.lend(&source)?;
    let files = find(&source, request.filter.as_deref())?;
    // All are read before one runs: a mistake in the last should not be found after an hour.
    let cases = files.iter().map(|file| file::Case::read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut reports = Vec::with_capacity(cases.len());
    for case in &cases {
        reports.push(one(host, &plugin, case).await?);
    }
    Ok(TestReport { plugin: plugin.label(), cases: reports })
}

async fn one(host: &HostState, plugin: &std::sync::Arc<Plugin>, case: &file::Case) -> Result<CaseReport, CliError> {
    let happened = execute::execute(host, plugin, case).await?;
    let mismatches = compare::compare(case, &happened);
    let (expect, expect_files) = expect::written(case, &happened)?;
    Ok(CaseReport {
        name: case.name.clone(),
        file: case.file.path.clone(),
        passed: mismatches.is_empty(),
        mismatches,
        unanswered: happened.complaints.len(),
        log: happened.log,
        duration_us: u64::try_from(happened.lasted.as_micros()).unwrap_or(u64::MAX),
        expect,
        expect_files,
    })
}

fn find(source: &Path, filter: Option<&str>) -> Result<Vec<PathBuf>, CliError> {
    let folder = source.join("tests");
    let none = |what: String| {
        CliError::usage(what).code("no_cases").hint("write tests/NAME.toml, as docs/plugins/testing.md describes it")
    };
    let entries = std::fs::read_dir(&folder)
        .map_err(|error| none(format!("there are no cases in `{}`", folder.display())).because(&error))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            filter.is_none_or(|filter| name.contains(filter))
        })
        .collect();
    files.sort();
    match (files.len(), filter) {
        (0, Some(filter)) => Err(none(format!("no case in `{}` has `{filter}` in its name", folder.display()))),
        (0, None) => Err(none(format!("there are no cases in `{}`", folder.display()))),
        (count, _) if count > MOST_CASES => {
            Err(CliError::usage(format!("`{}` has {count} cases; at most {MOST_CASES} are run", folder.display()))
                .hint("run some of them: handshake plugin test DIR FILTER"))
        }
        _ => Ok(files),
    }
}
