//! Redaction (R6.5): what is asked of whoever recognises secrets, and which part of an event is looked at how.

use std::borrow::Cow;

/// What a piece of text is, which says what must not be in it. Each scope hides all that the one before it hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedactionScope {
    /// Names somebody or something: an actor, a host folder, a policy file. Only secrets go, since a record that does not
    /// say who did it, by which rule, is none.
    Identity,
    /// Written or asked for by people, documents or guests: log lines, errors, resources. Personal data goes, too.
    /// Paths and variables stay: whoever reads it must find the file, and what was asked for is the point.
    Text,
    /// Everything else of an event: absolute paths and values of environment variables go, too.
    Metadata,
}

/// Replaces what must not be written. Implemented by the recorder.
pub trait Redactor: Send + Sync {
    /// The text without it and the names of the rules that fired; none when nothing had to change. The list is empty
    /// when the text was only brought into Unicode's normal form.
    fn redact(&self, scope: RedactionScope, text: &str) -> Option<(String, Vec<&'static str>)>;

    /// The text as it may be written.
    fn clean<'a>(&self, scope: RedactionScope, text: &'a str) -> Cow<'a, str> {
        self.redact(scope, text).map_or(Cow::Borrowed(text), |(clean, _)| Cow::Owned(clean))
    }
}

/// Fields of the envelope that hold text. All others are made by the host: ids, times, types.
pub(crate) const ENVELOPE: [(&str, RedactionScope); 6] = [
    ("payload", RedactionScope::Metadata),
    ("actor", RedactionScope::Identity),
    ("step_id", RedactionScope::Identity),
    ("model_id", RedactionScope::Text),
    ("capability_id", RedactionScope::Text),
    ("wsids", RedactionScope::Identity),
];

/// Fields of payloads, with all that is in them, that are not metadata. A field that is not listed is: forgetting one
/// hides too much, never too little.
const PAYLOAD: &[(&str, RedactionScope)] = &[
    ("actor_id", RedactionScope::Identity),
    // Names that guests ask for are part of these two.
    ("capability_id", RedactionScope::Text),
    ("model_id", RedactionScope::Text),
    // The record shows the host folder behind a mount.
    ("host_path", RedactionScope::Identity),
    // The policy's file and line.
    ("rule", RedactionScope::Identity),
    // A guest that asked for `/etc/shadow` did ask for it.
    ("resource", RedactionScope::Text),
    // A path of the API; whoever reads of a refusal must know what was attempted.
    ("attempted", RedactionScope::Text),
];

/// How a field of the payload is looked at, when the payload as a whole is looked at like that.
pub(crate) fn payload_scope(name: &str, scope: RedactionScope) -> RedactionScope {
    PAYLOAD.iter().find(|(known, _)| *known == name).map_or(scope, |(_, scope)| *scope)
}
