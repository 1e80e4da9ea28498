//! A host that serves, and clients of it.

use serde_json::Value;

use crate::binary::{Finished, Project, Running};

/// `handshake serve` in a project, on a port of its own.
pub struct Service {
    /// The project.
    pub project: Project,
    running: Option<Running>,
    url: String,
}

impl Service {
    /// Serves a project.
    pub fn of(project: Project) -> Self {
        Self::with(project, &[])
    }

    /// Serves a project, with more arguments.
    pub fn with(project: Project, more: &[&str]) -> Self {
        let mut running = project.start(&[&["serve"], more].concat());
        let url = address(&running.wait_for("to come in with"));
        Self { project, running: Some(running), url }
    }

    /// The address of a resource.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Its port on this computer.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address with a port")
    }

    /// Its process.
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    /// A new token.
    pub fn token(&self, role: &str, name: &str) -> String {
        let made = self.project.run(&["token", "new", "--role", role, "--name", name, "--quiet"]).success();
        made.stdout.trim().to_owned()
    }

    /// Events of a type, newest first, as the host tells them.
    pub fn events(&self, event_type: &str) -> Vec<Value> {
        let told = self.project.run(&["audit", "events", "--type", event_type, "--limit", "1000", "--output", "json"]);
        let told = told.success().json();
        told["events"].as_array().expect("a list").iter().map(|event| event["event"].clone()).collect()
    }

    /// Starts it anew, on another port, after its process ended.
    pub fn restart(&mut self) {
        let mut running = self.project.start(&["serve"]);
        self.url = address(&running.wait_for("to come in with"));
        self.running = Some(running);
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) -> Finished {
        let running = self.running.take().expect("it runs");
        running.signal(rustix::process::Signal::TERM);
        running.finish()
    }
}

/// The address in what `serve` says.
fn address(said: &str) -> String {
    let start = said.find("http").expect("an address");
    said[start..].split(';').next().expect("its end").to_owned()
}
