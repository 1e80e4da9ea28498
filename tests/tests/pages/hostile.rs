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
        let owned = browser.client.execute("return typeof window.owned", vec![]).await.unwrap();
        assert_eq!(owned, "undefined", "a script has run on {path}");
        let scripts = browser.client.execute("return document.scripts.length", vec![]).await.unwrap();
        assert_eq!(scripts, 1, "there is another script on {path}");
        assert!(!browser.text().await.contains('\u{202e}'), "text is turned around on {path}");
        browser.check(&path).await;
    }
    for path in [format!("/jobs/{sent}"), format!("/recorder/{sent}"), format!("/documents/{sent}")] {
        browser.open(&path).await;
        browser.wait_for("That did not work").await;
        let scripts = browser.client.execute("return document.scripts.length", vec![]).await.unwrap();
        assert_eq!(scripts, 1, "there is another script on {path}");
    }
    browser.close().await;
}
