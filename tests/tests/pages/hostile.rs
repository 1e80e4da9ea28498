//! Text that means no good, wherever somebody else chooses text.

use handshake_tests::binary::Project;
use handshake_tests::service::Service;

use crate::browser::Browser;

/// Ends attributes, elements and blocks, opens scripts, turns lines around, and has no place to break.
fn evil(length: usize) -> String {
    let evil =
        "\"'><script>window.owned=1</script><img src=x onerror=window.owned=1>&lt;\u{202e}evil\u{2066}{{7*7}}${7*7}";
    format!("{evil}{}", "x".repeat(length))
}

/// Nothing on this page does anything, and it is as wide as the window.
async fn is_only_text(browser: &Browser, path: &str) {
    let owned = browser.client.execute("return typeof window.owned", vec![]).await.unwrap();
    assert_eq!(owned, "undefined", "a script has run on {path}");
    let scripts = browser.client.execute("return document.scripts.length", vec![]).await.unwrap();
    assert_eq!(scripts, 1, "there is another script on {path}");
    assert!(!browser.text().await.contains('\u{202e}'), "text is turned around on {path}");
    browser.check(path).await;
}

/// A step that says hostile text in its log, its progress, its output streams, the names of all it asks for, and its
/// failure, after a pause in which somebody has come to look.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_says_is_shown_as_it_comes_and_is_only_text() {
    let project = Project::new();
    project.write("docs/secrets.txt", format!("{}\nplain words\n{}", evil(20), evil(700)));
    let service = Service::of(project);
    let Some(browser) = Browser::start(&service, "dark", 360).await else { return };
    browser.sign_in(&service.token("operator", "ada")).await;
    let workflow = "name: says\nmounts:\n  in: { path: docs, access: read }\nsteps:\n  - { id: nap, sleep: 3s }\n  \
                    - { id: say, needs: [nap], uses: hostile, with: { behaviour: leak-everywhere }, grants: ['fs.read:in'] }\n";
    browser.open("/jobs/new").await;
    browser.fill("workflow", workflow).await;
    browser.press("Run").await;
    browser.wait_for("say: plain words").await;
    browser.wait_for("says · failed").await;
    let path = browser.path().await;
    // What came stays when the page is shown anew.
    let log = browser.client.execute("return document.getElementById('log').textContent", vec![]).await.unwrap();
    let log = log.as_str().unwrap();
    for text in ["say: plain words", "say: step failed: plain words (attempt 3)", "<script>window.owned=1</script>"] {
        assert!(log.contains(text), "`{text}` is missing: {log}");
    }
    is_only_text(&browser, &path).await;
    browser.open(&path).await;
    browser.wait_for("say: step failed: plain words (attempt 3)").await;
    is_only_text(&browser, "what is stored of it").await;
    let job = path.strip_prefix("/jobs/").unwrap();
    browser.open(&format!("/recorder?job_id={job}")).await;
    browser.wait_for("plain words").await;
    is_only_text(&browser, "the recorder").await;
    let denied = format!("/recorder?job_id={job}&decision_outcome=deny");
    browser.open(&denied).await;
    let permalinks = "return [...document.querySelectorAll('tbody a')].map((link) => link.getAttribute('href'))";
    let permalinks = browser.client.execute(permalinks, vec![]).await.unwrap();
    let permalinks = permalinks.as_array().unwrap().clone();
    let events = permalinks.iter().filter_map(|link| link.as_str()).filter(|link| link.starts_with("/recorder/"));
    let mut looked = 0;
    for event in events.take(8) {
        browser.open(event).await;
        browser.wait_for("How it was decided").await;
        is_only_text(&browser, event).await;
        looked += 1;
    }
    assert!(looked > 3, "{permalinks:?}");
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_runs_a_script_or_breaks_a_page() {
    let project = Project::new();
    // A file's name, a document's text and title, a workflow's name and question, an input, and a reason.
    let name = evil(60).replace('/', "∕");
    project.write(&format!("docs/{name}.md"), format!("# {}\n\n{}\n", evil(10), evil(3_000)));
    project.write("guide.md", format!("# {}\n\n{}\n", evil(100), evil(5_000)));
    let service = Service::of(project);
    let Some(browser) = Browser::start(&service, "light", 360).await else { return };
    browser.sign_in(&service.token("operator", "ada")).await;
    let project = &service.project;
    project.run(&["documents", "import", "guide.md"]).success();
    project.summarize(&[]).success();
    let quoted = serde_json::to_string(&evil(200)).unwrap();
    let asks = format!(
        "{{ \"name\": {quoted}, \"inputs\": {{ \"text\": {{ \"type\": \"string\", \"default\": {quoted} }} }}, \
         \"steps\": [ {{ \"id\": \"ask\", \"approval\": {{ \"prompt\": {quoted} }} }} ] }}"
    );
    project.write("asks.json", asks);
    let asked = project.run(&["run", "asks.json", "--output", "json"]);
    assert_eq!(asked.code, 4, "{asked:?}");
    let list = project.run(&["jobs", "list", "--output", "json"]).success().json();
    let jobs: Vec<_> =
        list["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect();
    let document = project.run(&["documents", "list", "--output", "json"]).success().json();
    let document = document["documents"][0]["document_id"].as_str().unwrap().to_owned();
    let decisions = project.run(&["audit", "decisions", "--limit", "5", "--output", "json"]).success().json();
    let mut paths =
        vec!["/".to_owned(), "/recorder".into(), "/approvals".into(), "/documents".into(), "/capabilities".into()];
    paths.extend(jobs.iter().map(|job| format!("/jobs/{job}")));
    paths.push(format!("/documents/{document}"));
    let events = decisions["events"].as_array().unwrap().iter();
    paths.extend(events.map(|event| format!("/recorder/{}", event["event"]["event_id"].as_str().unwrap())));
    // What a visitor is sent.
    let sent = "%22%27%3E%3Cscript%3Ewindow.owned%3D1%3C%2Fscript%3E";
    paths.extend([format!("/?workflow={sent}"), format!("/recorder?actor={sent}"), format!("/login?next={sent}")]);
    paths.push(format!("/capabilities?plugin={sent}"));
    for path in paths {
        browser.open(&path).await;
        is_only_text(&browser, &path).await;
    }
    for path in [format!("/jobs/{sent}"), format!("/recorder/{sent}"), format!("/documents/{sent}")] {
        browser.open(&path).await;
        browser.wait_for("That did not work").await;
        let scripts = browser.client.execute("return document.scripts.length", vec![]).await.unwrap();
        assert_eq!(scripts, 1, "there is another script on {path}");
    }
    browser.close().await;
}
