//! The report of a run, opened in a real browser.
//!
//! `HANDSHAKE_TEST_BROWSER` names the browser; otherwise Chromium or Chrome is looked for. `none` leaves the browser out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use handshake_tests::binary::Project;
use serde_json::{Value, json};

/// A plugin says what would drive a page, if the page let it.
const EVIL: &str = r#"
name: evil
mounts:
  in: { path: docs, access: read }
steps:
  - id: tries
    uses: hostile
    with: { behaviour: model-denied, target: "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">" }
  - id: reads
    uses: hostile
    with: { behaviour: read-file, target: "/in/<b>&amp;.md" }
    grants: ["fs.read:in"]
"#;

fn browser() -> Option<PathBuf> {
    let wanted = std::env::var_os("HANDSHAKE_TEST_BROWSER");
    if wanted.as_ref().is_some_and(|wanted| wanted == "none") {
        return None;
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"].map(Into::into);
    let path = std::env::var_os("PATH").unwrap();
    let mut candidates = wanted
        .into_iter()
        .chain(names)
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(&name)).collect::<Vec<_>>());
    let found = candidates.find(|candidate| candidate.is_file());
    Some(
        found.expect(
            "no Chromium was found: apt-get install chromium, or leave it out with HANDSHAKE_TEST_BROWSER=none",
        ),
    )
}

/// The page as it is when its script has run, and what the browser said meanwhile.
fn opened(browser: &Path, page: &Path, fragment: &str) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}{fragment}", page.display()))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

fn complaints(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains(":CONSOLE") || line.contains("Content Security Policy")).collect()
}

fn reported() -> (Project, String) {
    let project = Project::new();
    project.write("docs/<b>&amp;.md", "# A\n");
    let ran = project.run_workflow(EVIL, &["--output", "json"]).json();
    let run = ran["job"]["workflow_run_id"].as_str().unwrap().to_owned();
    (project, run)
}

#[test]
fn the_report_opens_in_a_browser_without_a_word_and_shows_everything_as_text() {
    let (project, run) = reported();
    let written = project.run(&["audit", "report", &run, "-o", "review.html", "--output", "json"]).success().json();
    let decisions = written["decisions"].as_u64().unwrap();
    assert!(decisions >= 2, "{written}");
    let again = project.run(&["audit", "report", &run, "-o", "review.html"]);
    assert_eq!((again.code, again.stderr.contains("--force")), (2, true), "{again:?}");
    let unknown = project.run(&["audit", "report", "0198f3a2-7c11-7000-8000-0123456789ab"]);
    assert_eq!((unknown.code, unknown.stderr.contains("does not exist")), (2, true), "{unknown:?}");
    assert!(!project.path("0198f3a2-7c11-7000-8000-0123456789ab.html").exists());
    project.run(&["audit", "sign-off", &run, "--as", "ann", "--verdict", "reject", "--note", "<i>no</i>"]).success();
    project.run(&["audit", "report", &run, "-o", "review.html", "--force"]).success();

    let page = project.path("review.html");
    let html = fs::read_to_string(&page).unwrap();
    for part in ["record verified", "rejected", "not signed"] {
        assert_eq!(html.contains(part), part != "not signed", "{part}");
    }
    let Some(browser) = browser() else { return };
    let (shown, said) = opened(&browser, &page, "");
    assert_eq!(complaints(&said), Vec::<&str>::new(), "{said}");
    assert!(shown.contains(&format!("{decisions} of {decisions} decisions")), "{said}");
    assert!(!shown.contains("<title>taken</title>") && !shown.contains("<img") && !shown.contains("<b>&amp;amp;.md"));
    assert_eq!(shown.matches("id=\"d-").count() as u64, decisions);

    // A link to a decision leads to it.
    let (_, id) = shown.split_once("id=\"d-").unwrap();
    let id = &id[..36];
    let (shown, _) = opened(&browser, &page, &format!("#d-{id}"));
    assert!(shown.contains(&format!("id=\"d-{id}\" tabindex=\"-1\" class=\"here\"")), "{id}");
}

#[test]
fn fifty_thousand_decisions_are_shown_a_page_at_a_time() {
    let Some(browser) = browser() else { return };
    let (project, run) = reported();
    project.run(&["audit", "report", &run, "-o", "review.html"]).success();
    let html = fs::read_to_string(project.path("review.html")).unwrap();
    let (before, rest) = html.split_once("type=\"application/json\">").unwrap();
    let (data, after) = rest.split_once("</script>").unwrap();
    let mut data: Value = serde_json::from_str(data).unwrap();
    let row = data["rows"][0].clone();
    let many = |make: &dyn Fn(usize) -> Value| Value::Array((0..50_000).map(make).collect());
    data["ids"] = many(&|n| json!(format!("0198f3a2-7c11-7000-8000-{n:012}")));
    data["rows"] = many(&|n| {
        let mut row = row.clone();
        row[0] = json!(n + 1);
        row
    });
    let data = data.to_string().replace('<', "\\u003c");
    let page = project.write("many.html", format!("{before}type=\"application/json\">{data}</script>{after}"));
    let (shown, said) = opened(&browser, &page, "#d-0198f3a2-7c11-7000-8000-000000049999");
    assert_eq!(complaints(&said), Vec::<&str>::new(), "{said}");
    assert!(shown.contains("50000 of 50000 decisions") && shown.contains("page 250 of 250"));
    assert_eq!(shown.matches("id=\"d-").count(), 200);
}
