//! Grants that could never come to anything: another layer of the rights refuses them, or there is no credential.
//!
//! The gate decides each call all the same. Here it is only about telling a person before anything runs.

use handshake_core::capability::{Axis, CapabilityId, Profile};
use handshake_core::credential::{Credentials, Unusable};
use handshake_core::job::AccessMode;
use handshake_core::step::Plugin;
use handshake_core::workflow::{JobSpec, Step};

use super::check::Surroundings;
use super::problem::{Place, Problem};
use crate::nearest::suggest;

/// Checks what a step is granted against the manifest, the profile, the access mode and the credentials. What its plugin
/// declares and the step does not grant is nobody's mistake.
pub(super) fn check(
    place: &Place,
    step: &Step,
    plugin: Option<&Plugin>,
    job: &JobSpec,
    profile: Option<&Profile>,
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) {
    for (at, grant) in step.grants.iter().enumerate() {
        // What is never granted is refused by the plan.
        if !grant.axis().is_grantable() {
            continue;
        }
        let found = [
            plugin.and_then(|plugin| undeclared(grant, plugin)),
            profile.and_then(|profile| unlisted(grant, profile, around)),
            excluded(grant, job.access_mode),
            around.credentials.and_then(|credentials| unusable(grant, credentials)),
        ];
        let place = place.key("grants").index(at);
        problems.extend(found.into_iter().flatten().map(|(what, remedy)| Problem::at(place.clone(), what, remedy)));
    }
}

/// What is wrong, and what to do.
type Found = Option<(String, String)>;

fn undeclared(grant: &CapabilityId, plugin: &Plugin) -> Found {
    let declared = &plugin.manifest.capabilities;
    if declared.iter().any(|declared| declared.id.meets(grant)) {
        return None;
    }
    let known: Vec<_> = declared.iter().map(|declared| format!("`{}`", declared.id)).collect();
    let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
    let (plugin, axis) = (plugin.label(), grant.axis());
    Some((
        format!("`{grant}` is granted, but plugin `{plugin}` does not declare it"),
        format!("remove the grant, or declare `{axis}` in plugin.toml; it declares {known}"),
    ))
}

fn unlisted(grant: &CapabilityId, profile: &Profile, around: &Surroundings<'_>) -> Found {
    let lists = |profile: &Profile| profile.capabilities.iter().any(|listed| listed.meets(grant));
    if lists(profile) {
        return None;
    }
    let others = around.profiles.iter().filter(|other| lists(other));
    let others: Vec<_> = others.map(|other| format!("`{}`", other.id)).collect();
    let choose = if others.is_empty() {
        format!("add a profile with `{}` to handshake.toml", grant.axis())
    } else {
        format!("choose with `job.profile` one that does: {}", others.join(", "))
    };
    Some((
        format!("`{grant}` is granted, but profile `{}` does not list it", profile.id),
        format!("remove the grant, or {choose}"),
    ))
}

fn excluded(grant: &CapabilityId, mode: AccessMode) -> Found {
    let axis = grant.axis();
    if mode.allows(axis) {
        return None;
    }
    let enough = AccessMode::ALL.iter().find(|mode| mode.allows(axis)).map_or("apply_scoped", |mode| mode.as_str());
    Some((
        format!("`{grant}` is granted, but access mode `{mode}` excludes `{axis}`"),
        format!("remove the grant, or write `access_mode: {enough}` under `job`"),
    ))
}

fn unusable(grant: &CapabilityId, credentials: &Credentials) -> Found {
    let name = grant.name()?;
    let (kind, table, known) = match grant.axis() {
        Axis::ModelInfer | Axis::ModelEmbed => ("model", "models", &credentials.models),
        Axis::SecretsUse => ("secret", "secrets", &credentials.secrets),
        _ => return None,
    };
    match known.get(name) {
        Some(None) => None,
        Some(Some(Unusable { what, remedy })) => {
            Some((format!("`{grant}` names a {kind} that cannot be used: {what}"), remedy.clone()))
        }
        None => Some((
            format!("`{grant}` names a {kind} that is not configured"),
            format!(
                "{}, or configure it in handshake.toml: [{table}.{name}]",
                suggest(name, &format!("{kind}s"), known.keys().map(String::as_str))
            ),
        )),
    }
}
