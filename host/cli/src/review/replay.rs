//! What would have become of everything on record under another policy.

use handshake_core::capability::{Effect, Fate, Flips, Mode, Replay};
use handshake_core::{Digest, EventId, Timestamp};
use handshake_recorder::EventQuery;
use serde::{Deserialize, Serialize};

use super::{Source, paragraph};
use crate::error::CliError;
use crate::host::HostState;
use crate::policy;
use crate::toml_file::TomlFile;

/// Another policy.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    /// What the person calls its file.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// Decisions recorded at this time or later; all that are kept by default.
    #[serde(default)]
    pub(crate) since: Option<Timestamp>,
}

/// What would have been different.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Replayed {
    /// SHA-256 of the other policy.
    pub(crate) policy_sha256: Digest,
    /// Whether it decides or only watches.
    pub(crate) mode: Mode,
    /// Calls that it was asked about.
    pub(crate) decided: u64,
    /// Calls that another layer has refused, which no policy changes.
    pub(crate) unaffected: u64,
    /// Calls whose record does not show the whole resource, although the policy looks at it.
    pub(crate) undecided: u64,
    /// Calls that would have ended otherwise.
    pub(crate) flipped: u64,
    /// Those, by plugin, capability and rule; the most calls first.
    pub(crate) flips: Vec<FlipLine>,
}

/// Calls that would have ended otherwise for the same reason.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct FlipLine {
    /// The plugin: id and version.
    pub(crate) plugin: String,
    /// The capability.
    pub(crate) capability: String,
    /// What became of them.
    pub(crate) was: Fate,
    /// What would have become of them.
    pub(crate) becomes: Fate,
    /// The rule of the other policy; none when it has none on them.
    pub(crate) rule: Option<Source>,
    /// How many.
    pub(crate) count: u64,
    /// Some of them.
    pub(crate) examples: Vec<FlipExample>,
}

/// One of the calls.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct FlipExample {
    /// The resource.
    pub(crate) resource: String,
    /// The decision.
    pub(crate) event: Option<EventId>,
    /// The rule that was behind it.
    pub(crate) rule: Option<String>,
}

/// Decides everything again.
pub(crate) async fn replay(host: &HostState, request: ReplayRequest) -> Result<Replayed, CliError> {
    let file = TomlFile { name: request.name, text: request.text };
    let policy = policy::rules_of(&file)?;
    let projection = host.projection().await?;
    let mut replay = Replay::new(&policy);
    let asks = policy.rules.iter().any(|rule| rule.effect == Effect::Ask);
    projection.decided(request.since, asks, |calls| replay.decide(&calls)).await?;
    let (decided, unaffected, undecided) = (replay.decided, replay.unaffected, replay.undecided);
    let mut flips = Vec::new();
    for flip in replay.flips() {
        flips.push(line(host, &file, flip).await?);
    }
    let flipped = flips.iter().map(|flip| flip.count).sum();
    Ok(Replayed { policy_sha256: policy.digest, mode: policy.mode, decided, unaffected, undecided, flipped, flips })
}

async fn line(host: &HostState, file: &TomlFile, flips: Flips) -> Result<FlipLine, CliError> {
    let Flips { actor, capability, was, becomes, rule, count, examples } = flips;
    let projection = host.projection().await?;
    let mut told = Vec::with_capacity(examples.len());
    for (resource, seq) in examples {
        let event = projection.event_at(seq).await?;
        let query = EventQuery { event_id: event, limit: 1, ..EventQuery::default() };
        let page = projection.events(&query).await?;
        let was = page.events.first().map(|event| &event.event["payload"]["rule"]);
        let rule = was.and_then(|rule| Some(format!("{}:{}", rule["file"].as_str()?, rule["line"].as_u64()?)));
        told.push(FlipExample { resource, event, rule });
    }
    let rule = rule.map(|rule| Source {
        file: rule.file.to_string(),
        line: rule.line,
        text: paragraph(&file.text, rule.line),
    });
    Ok(FlipLine { plugin: actor, capability, was, becomes, rule, count, examples: told })
}
