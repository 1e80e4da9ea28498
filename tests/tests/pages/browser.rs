//! Chromium, driven over WebDriver.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use handshake_tests::service::Service;
use http::Method;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
];

/// A browser of its own, signed in to a host.
pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Child,
    base: String,
    _profile: tempfile::TempDir,
}

/// What the page has written to its console since it was last asked.
#[derive(Debug)]
struct ConsoleLog;

impl WebDriverCompatibleCommand for ConsoleLog {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }
    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists()))
}

impl Browser {
    /// Starts one; none where there is no browser to be had, which is said.
    pub(crate) async fn start(service: &Service, scheme: &str, width: u32) -> Option<Self> {
        let asked_for_none = std::env::var("HANDSHAKE_TEST_BROWSER").is_ok_and(|name| name == "none");
        let found = (program(&["chromium", "chromium-browser", "google-chrome", "chrome"]), program(&["chromedriver"]));
        let (Some(chromium), Some(driver), false) = (found.0, found.1, asked_for_none) else {
            eprintln!("NOT RUN: there is no Chromium with its driver (apt-get install chromium chromium-driver)");
            return None;
        };
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
        });
        // It goes on writing, and must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--window-size={width},900"));
        if scheme == "dark" {
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let mut options = json!({ "binary": chromium, "args": arguments });
        if width < 500 {
            // Narrower than a window can be.
            options["mobileEmulation"] =
                json!({ "deviceMetrics": { "width": width, "height": 900, "pixelRatio": 1.0 } });
        }
        let capabilities = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { panic!("an object") };
        let url = format!("http://127.0.0.1:{}", port.unwrap());
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&url)
            .await
            .unwrap();
        Some(Self { client, driver, base: service.url(""), _profile: profile })
    }

    /// Comes in as people do.
    pub(crate) async fn sign_in(&self, token: &str) {
        self.open("/login").await;
        self.fill("token", token).await;
        self.press("Come in").await;
        self.wait_for("Sign out").await;
    }

    /// Opens a page of the host.
    pub(crate) async fn open(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.base)).await.unwrap();
    }

    /// The path of the page that is open, with what stands behind the `?`.
    pub(crate) async fn path(&self) -> String {
        let url = self.client.current_url().await.unwrap();
        url.as_str().strip_prefix(&self.base).unwrap().to_owned()
    }

    /// What can be read on the page.
    pub(crate) async fn text(&self) -> String {
        self.client.find(Locator::Css("body")).await.unwrap().text().await.unwrap()
    }

    /// What can be read in its table.
    pub(crate) async fn rows(&self) -> String {
        self.client.find(Locator::Css("tbody")).await.unwrap().text().await.unwrap()
    }

    /// Waits until something can be read.
    pub(crate) async fn wait_for(&self, text: &str) {
        let start = Instant::now();
        loop {
            // The page may be exchanged just now.
            if let Ok(body) = self.client.find(Locator::Css("body")).await
                && body.text().await.is_ok_and(|seen| seen.contains(text))
            {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "`{text}` does not appear: {}", self.text().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until something is there.
    async fn found(&self, what: Locator<'_>) -> fantoccini::elements::Element {
        self.client.wait().at_most(PATIENCE).for_element(what).await.unwrap()
    }

    /// Fills a field.
    pub(crate) async fn fill(&self, name: &str, value: &str) {
        let field = self.found(Locator::Css(&format!("[name={name}]"))).await;
        if field.tag_name().await.unwrap() == "select" {
            return field.select_by_value(value).await.unwrap();
        }
        field.clear().await.unwrap();
        field.send_keys(value).await.unwrap();
    }

    /// What stands in a field.
    pub(crate) async fn value(&self, name: &str) -> String {
        let field = self.found(Locator::Css(&format!("[name={name}]"))).await;
        field.prop("value").await.unwrap().unwrap_or_default()
    }

    /// Presses a key where the focus is, by its code in WebDriver.
    pub(crate) async fn press_key(&self, key: &str) {
        self.client.active_element().await.unwrap().send_keys(key).await.unwrap();
    }

    /// The words of what has the focus.
    pub(crate) async fn focused(&self) -> String {
        let words = self.client.execute("return document.activeElement.textContent.trim()", vec![]).await.unwrap();
        words.as_str().unwrap_or_default().to_owned()
    }

    /// Presses the button with these words.
    pub(crate) async fn press(&self, words: &str) {
        let button = format!("//button[normalize-space()='{words}']");
        self.found(Locator::XPath(&button)).await.click().await.unwrap();
    }

    /// Follows the first link that fits.
    pub(crate) async fn follow(&self, css: &str) {
        self.found(Locator::Css(css)).await.click().await.unwrap();
    }

    /// Fails the test when the page has written an error to its console, is wider than its window, or has text of too little
    /// contrast.
    pub(crate) async fn check(&self, what: &str) {
        let log = self.client.issue_cmd(ConsoleLog).await.unwrap();
        let errors: Vec<_> = log.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE").collect();
        assert!(errors.is_empty(), "{what}: {errors:?}");
        let wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        let wider = self.client.execute(wider, vec![]).await.unwrap();
        assert!(wider.as_i64().unwrap() <= 0, "{what} is {wider} wider than its window");
        assert_eq!(self.faint().await, json!([]), "{what} has text that is hard to read");
    }

    /// Text on the page that has too little contrast.
    pub(crate) async fn faint(&self) -> Value {
        let faint = self.client.execute(include_str!("contrast.js"), vec![]).await.unwrap();
        assert!(faint["seen"].as_u64().unwrap() > 5, "nothing to read was found");
        faint["found"].clone()
    }

    /// Leaves a picture of the page behind.
    pub(crate) async fn picture(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        // The window has a frame around the page.
        let height = "return document.documentElement.scrollHeight + window.outerHeight - window.innerHeight";
        let height = self.client.execute(height, vec![]).await.unwrap().as_u64().unwrap();
        let (width, _) = self.client.get_window_size().await.unwrap();
        self.client
            .set_window_size(u32::try_from(width).unwrap(), u32::try_from(height.clamp(900, 4_000)).unwrap())
            .await
            .unwrap();
        let picture = self.client.screenshot().await.unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
        self.client.set_window_size(u32::try_from(width).unwrap(), 900).await.unwrap();
    }

    pub(crate) async fn close(self) {
        self.client.clone().close().await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is in the driver's group, and does not end with it.
        if let Some(group) = i32::try_from(self.driver.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}
