//! The ways that people go.

use handshake_tests::binary::Project;
use handshake_tests::service::Service;
use serde_json::Value;

use crate::browser::Browser;

/// Asks for more than it was granted: reads the folder, but may not ask the model.
const DENIED: &str = "name: too-much\nmounts:\n  in: { path: docs, access: read }\nsteps:\n  - id: read\n    uses: read-folder\n    \
    with: { mount: in }\n    grants: [\"fs.read:in\", \"artifact.write\"]\n  - id: summarize\n    uses: summarize\n    for_each: steps.read.output.documents\n    \
    with: { document: \"${item}\", sentences: 1 }\n    grants: [\"artifact.read\"]\n";

async fn started(scheme: &str, width: u32, role: &str) -> Option<(Service, Browser)> {
    let project = Project::new();
    project.write("docs/a.md", "# Title\n\nHello world. This is a text about boats. Boats float.\n");
    let service = Service::of(project);
    let token = service.token(role, "ada");
    let browser = Browser::start(&service, scheme, width).await?;
    browser.sign_in(&token).await;
    Some((service, browser))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_and_watched_as_it_goes() {
    let Some((service, browser)) = started("light", 1280, "operator").await else { return };
    browser.open("/jobs/new").await;
    let workflow = "name: gated\nsteps:\n  - { id: gate, approval: { prompt: Open it? } }\n  - { id: second, needs: [gate], \
                    sleep: 1ms }\n";
    browser.fill("workflow", workflow).await;
    browser.press("Run").await;
    browser.wait_for("gated · awaiting_user").await;
    let path = browser.path().await;
    browser.wait_for("not begun").await;
    // Somebody answers elsewhere; nobody loads the page again.
    let job = path.strip_prefix("/jobs/").unwrap();
    assert_eq!(service.project.run(&["jobs", "approve", job]).code, 0);
    browser.wait_for("gated · completed").await;
    assert!(browser.text().await.contains("every step is done"));
    browser.check("the page of a run").await;
    browser.open("/").await;
    browser.wait_for("gated").await;
    browser.check("the list of runs").await;
    // A mistake is told as a page.
    browser.open("/jobs/new").await;
    browser.fill("workflow", "name: [").await;
    browser.press("Run").await;
    browser.wait_for("That did not work").await;
    browser.close().await;
}

/// Without a mouse: to the content, through the list into a job, and into a filter and out of it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough() {
    const TAB: &str = "\u{e004}";
    const ENTER: &str = "\u{e007}";
    let Some((service, browser)) = started("light", 1280, "operator").await else { return };
    let text = "name: other\nsteps:\n  - { id: nap, sleep: 1ms }\n";
    let ran = service.project.run_workflow(text, &["--output", "json"]).success().json();
    let job = ran["job"]["job_id"].as_str().unwrap();
    browser.open("/").await;
    browser.press_key(TAB).await;
    assert_eq!(browser.focused().await, "To the content");
    browser.press_key(ENTER).await;
    let mut seen = Vec::new();
    while browser.focused().await != job {
        browser.press_key(TAB).await;
        // Whoever goes by the keyboard sees where they are.
        let outline = "return getComputedStyle(document.activeElement).outlineStyle";
        assert_ne!(browser.client.execute(outline, vec![]).await.unwrap(), "none", "{seen:?}");
        seen.push(browser.focused().await);
        assert!(seen.len() < 40, "the keyboard does not get to the job: {seen:?}");
    }
    assert!(!seen.iter().any(|text| text == "Flight recorder"), "the menu was not passed over: {seen:?}");
    browser.press_key(ENTER).await;
    browser.wait_for("other · completed").await;

    browser.open("/recorder").await;
    browser.press_key("/").await;
    let field = browser.client.execute("return document.activeElement.name", vec![]).await.unwrap();
    assert_eq!(field, "job_id");
    browser.press_key("not an id").await;
    browser.press_key(ENTER).await;
    browser.wait_for("That did not work").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorder_is_filtered_and_a_denial_explains_itself() {
    let Some((service, browser)) = started("dark", 1280, "reviewer").await else { return };
    let run = |text: &str| service.project.run_workflow(text, &["--output", "json"]);
    assert_eq!(run(DENIED).code, 3);
    let other = run("name: other\nsteps:\n  - { id: nap, sleep: 1ms }\n").success().json();
    let list: Value = service.project.run(&["jobs", "list", "--output", "json"]).success().json();
    let job = list["jobs"].as_array().unwrap().iter().find(|job| job["protocol_id"] == "too-much").unwrap().clone();

    browser.open("/recorder").await;
    browser.wait_for("other").await;
    browser.fill("job_id", job["job_id"].as_str().unwrap()).await;
    browser.fill("decision_outcome", "deny").await;
    browser.press("Filter").await;
    browser.wait_for("not-granted").await;
    assert!(!browser.rows().await.contains("job_transition"));
    browser.check("the filtered recorder").await;
    // By trace and time: nothing was recorded before it began.
    browser.open(&format!("/recorder?trace_id={}&to=2020-01-01", other["job"]["trace_id"].as_str().unwrap())).await;
    browser.wait_for("No events.").await;
    browser.open(&format!("/recorder?trace_id={}&from=2020-01-01", other["job"]["trace_id"].as_str().unwrap())).await;
    browser.wait_for("span_end").await;
    assert!(!browser.rows().await.contains("capability_action"));

    browser.open(&format!("/recorder?job_id={}&decision_outcome=deny", job["job_id"].as_str().unwrap())).await;
    browser.follow("tbody a").await;
    let permalink = browser.path().await;
    for text in
        ["How it was decided", "refuses", "decided", "To allow it:", "was not asked any more", "As it was recorded"]
    {
        browser.wait_for(text).await;
    }
    browser.open("/").await;
    browser.open(&permalink).await;
    browser.wait_for("How it was decided").await;
    browser.check("an explained denial").await;
    browser.open("/recorder?from=yesterday").await;
    browser.wait_for("is not a moment").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_looked_at_and_approved_and_the_document_changes() {
    let Some((service, browser)) = started("light", 1280, "operator").await else { return };
    service.project.write("guide.md", "Guide\n=====\n\n* one\n* two\n\nBoats float. Boats are made of wood.\n");
    let imported = service.project.run(&["documents", "import", "guide.md", "--output", "json"]).success().json();
    let document = imported["imported"][0]["document_id"].as_str().unwrap().to_owned();
    let workflow = handshake_tests::root().join("workflows/rewrite-document.yaml");
    let input = format!("doc={document}");
    let waits = service.project.run(&["run", workflow.to_str().unwrap(), "-i", &input, "--output", "json"]);
    assert_eq!(waits.code, 4, "{waits:?}");

    browser.open("/approvals").await;
    for text in ["rewrite-document", "Changes to", "-* one", "+- one", "tidy@0.1.0"] {
        browser.wait_for(text).await;
    }
    browser.check("the inbox").await;
    browser.fill("reason", "reads well").await;
    // The page looks again every five seconds; what was typed stays, wherever the focus goes.
    browser.press_key("\u{e004}").await;
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    assert_eq!(browser.value("reason").await, "reads well");
    browser.press("Apply the changes").await;
    browser.wait_for("rewrite-document · completed").await;
    browser.open(&format!("/documents/{document}")).await;
    browser.wait_for("- one").await;
    let text = browser.text().await;
    assert!(!text.contains("* one") && text.contains("Who changed it"), "{text}");
    // Who, and through which job; and what was there before, by whom.
    for text_of in ["tidy@0.1.0, AI", "blocks changed", "blocks added", "HUMAN"] {
        assert!(text.contains(text_of), "`{text_of}`: {text}");
    }
    browser.follow("#history a").await;
    browser.wait_for("rewrite-document · completed").await;
    browser.check("a document's job").await;
    browser.open("/approvals").await;
    browser.wait_for("Nothing waits for an answer.").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_replays_a_policy_and_signs_off() {
    let Some((service, browser)) = started("light", 1280, "reviewer").await else { return };
    let summarized = service.project.summarize(&["--output", "json"]).success().json();
    browser.open("/capabilities").await;
    browser.wait_for("model.infer").await;
    browser.check("capabilities").await;
    browser.fill("policy", "schema = 1\n").await;
    browser.press("Replay all decisions").await;
    browser.wait_for("calls would have ended otherwise").await;
    browser.wait_for("allow deny").await;
    browser.check("a replay").await;
    browser.open(&format!("/jobs/{}", summarized["job"]["job_id"].as_str().unwrap())).await;
    browser.wait_for("Nobody has signed.").await;
    // A reviewer runs nothing.
    assert!(!browser.text().await.contains("New run"));
    browser.fill("note", "looked at").await;
    browser.press("Accept").await;
    browser.wait_for("token:ada").await;
    browser.wait_for("right, on record").await;
    browser.check("a signed run").await;
    browser.press("Sign out").await;
    browser.wait_for("Come in with a token").await;
    browser.open("/recorder").await;
    assert_eq!(browser.path().await, "/login?next=%2Frecorder");
    browser.fill("token", "hsk_wrong").await;
    browser.press("Come in").await;
    browser.wait_for("This token lets nobody in.").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_has_its_picture() {
    for (scheme, width) in [("light", 1280), ("dark", 360)] {
        let Some((service, browser)) = started(scheme, width, "operator").await else { return };
        let summarized = service.project.summarize(&["--output", "json"]).success().json();
        let job = summarized["job"]["job_id"].as_str().unwrap();
        service.project.run_workflow(DENIED, &[]);
        service.project.run(&["documents", "import", "docs/a.md"]).success();
        service
            .project
            .write("asks.yaml", "name: asks\nsteps:\n  - id: ask\n    approval: { prompt: Shall it go on? }\n");
        assert_eq!(service.project.run(&["run", "asks.yaml"]).code, 4);
        let denied =
            service.project.run(&["audit", "decisions", "--outcome", "deny", "--output", "json"]).success().json();
        let event = denied["events"][0]["event"]["event_id"].as_str().unwrap().to_owned();
        let document = service.project.run(&["documents", "list", "--output", "json"]).success().json();
        let document = document["documents"][0]["document_id"].as_str().unwrap().to_owned();
        for (name, path) in [
            ("runs", "/".to_owned()),
            ("job", format!("/jobs/{job}")),
            ("new", "/jobs/new".to_owned()),
            ("recorder", "/recorder".to_owned()),
            ("event", format!("/recorder/{event}")),
            ("approvals", "/approvals".to_owned()),
            ("capabilities", "/capabilities".to_owned()),
            ("documents", "/documents".to_owned()),
            ("document", format!("/documents/{document}")),
            ("login", "/login".to_owned()),
        ] {
            browser.open(&path).await;
            browser.check(name).await;
            if name == "job" {
                let fetched = "return (async () => { const answer = await fetch(document.querySelector('#artifacts a').href); \
                               return [answer.status, answer.headers.get('content-disposition')]; })()";
                let fetched = browser.client.execute(fetched, vec![]).await.unwrap();
                assert_eq!(fetched[0], 200, "{fetched}");
                assert!(fetched[1].as_str().unwrap().starts_with("attachment"), "{fetched}");
            }
            browser.picture(&format!("{name}-{scheme}-{width}")).await;
        }
        let fade = "document.querySelector('label').style.color = 'rgb(128 128 128 / 60%)'";
        browser.client.execute(fade, vec![]).await.unwrap();
        assert_ne!(browser.faint().await, serde_json::json!([]), "the look at contrast finds nothing");
        browser.close().await;
    }
}
