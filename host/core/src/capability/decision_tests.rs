//! Each layer alone, the order of the layers, scopes, and the decision as a whole against a model of it.

#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use uuid::Uuid;

use super::super::{
    AXES, DecidedCalls, Effect, Extent, Grant, GrantTerms, MountRule, Policy, Replay, Rule, SocketTarget,
};
use super::*;
use crate::event::Outcome;
use crate::gate::AttemptPlace;
use crate::run::FencingToken;
use crate::{ApprovalId, JobId, ProfileId, RunId, StepId};

fn set(ids: &[&str]) -> CapabilitySet {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn rule(effect: Effect, id: &str, line: u32) -> Rule {
    let source = SourceRef { file: "policy.toml".into(), line };
    Rule { effect, capability: id.parse().unwrap(), plugins: Vec::new(), addresses: Vec::new(), source }
}

fn policy(mode: Mode, rules: Vec<Rule>) -> PolicyInForce {
    let source = SourceRef { file: "policy.toml".into(), line: 99 };
    let mounts = vec![MountRule { path: "/srv".into(), access: MountAccess::Write, source }];
    PolicyInForce::new(Policy { mode, rules, mounts, secrets: Vec::new(), digest: Digest::of(b"policy") })
}

/// Rights under which every layer allows these ids.
fn all_layers(ids: &[&str]) -> EffectiveRights {
    let profile = Profile { id: ProfileId::analyst(), capabilities: set(ids) };
    EffectiveRights {
        plugin: Some(PluginId::new("summarize").unwrap()),
        declared: set(ids),
        granted: set(ids),
        profile: Arc::new(profile),
        access_mode: AccessMode::ApplyScoped,
        policy: policy(Mode::Enforce, ids.iter().zip(1..).map(|(id, line)| rule(Effect::Allow, id, line)).collect()),
        manifest_sha256: Digest::of(b"manifest"),
        workspace: None,
    }
}

fn with_profile(rights: EffectiveRights, ids: &[&str]) -> EffectiveRights {
    let profile = Profile { id: ProfileId::analyst(), capabilities: set(ids) };
    EffectiveRights { profile: Arc::new(profile), ..rights }
}

fn path(mount: &str, path: &str) -> Resource {
    Resource::Path { mount: mount.into(), path: path.into(), host: "/srv/in".into() }
}

fn denied(verdict: Verdict) -> (Denial, Option<SourceRef>) {
    match verdict {
        Verdict::Denied { denial, rule } => (denial, rule),
        other => panic!("not denied: {other:?}"),
    }
}

fn is_allowed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allowed { .. })
}

#[test]
fn a_call_that_every_layer_allows_passes_and_names_the_policy_rule() {
    let rights = all_layers(&["model.infer", "fs.read:in"]);
    let verdict = rights.decide(Axis::FsRead, &path("in", "a.md"));
    let source = SourceRef { file: "policy.toml".into(), line: 2 };
    assert_eq!(verdict, Verdict::Allowed { rule: Some(source), observed: Observed::No, grant: None });
}

#[test]
fn each_layer_denies_with_its_label_and_the_line_that_would_allow_it() {
    let full = || all_layers(&["fs.write:out"]);
    let cases = [
        (
            EffectiveRights { declared: set(&[]), ..full() },
            (DenialLabel::NotDeclared, Layer::Manifest),
            "add to plugin.toml: [[capability]] id = \"fs.write\" with a reason",
        ),
        (
            EffectiveRights { granted: set(&[]), ..full() },
            (DenialLabel::NotGranted, Layer::Grant),
            "add to the step in the workflow file: grants: [\"fs.write:out\"]",
        ),
        (
            with_profile(full(), &["fs.read"]),
            (DenialLabel::NotInProfile, Layer::Profile),
            "profile `analyst` does not list it",
        ),
        (
            EffectiveRights { access_mode: AccessMode::AnalysisOnly, ..full() },
            (DenialLabel::AccessMode, Layer::AccessMode),
            "job.access_mode: apply_scoped",
        ),
        (
            EffectiveRights { policy: policy(Mode::Enforce, vec![]), ..full() },
            (DenialLabel::OperatorDenied, Layer::Policy),
            "add to policy.toml: [[allow]] capability = \"fs.write:out\"",
        ),
    ];
    for (rights, (label, layer), remedy) in cases {
        let (denial, rule) = denied(rights.decide(Axis::FsWrite, &path("out", "report.md")));
        assert_eq!((denial.reason, denial.layer), (label, layer));
        assert!(denial.remedy.contains(remedy), "{layer}: {}", denial.remedy);
        assert_eq!(denial.capability, "fs.write:out");
        assert_eq!(denial.resource, "out/report.md");
        assert_eq!(rule, None);
    }
}

#[test]
fn the_innermost_layer_that_refuses_is_the_one_that_is_named() {
    let mut rights = EffectiveRights {
        declared: set(&[]),
        granted: set(&[]),
        access_mode: AccessMode::AnalysisOnly,
        policy: policy(Mode::Enforce, vec![rule(Effect::Deny, "fs.write", 9)]),
        ..with_profile(all_layers(&[]), &[])
    };
    let layer_of = |rights: &EffectiveRights| denied(rights.decide(Axis::FsWrite, &path("out", "x"))).0.layer;
    assert_eq!(layer_of(&rights), Layer::Manifest);
    rights.declared = set(&["fs.write"]);
    assert_eq!(layer_of(&rights), Layer::Grant);
    rights.granted = set(&["fs.write"]);
    assert_eq!(layer_of(&rights), Layer::Profile);
    rights = with_profile(rights, &["fs.write"]);
    assert_eq!(layer_of(&rights), Layer::AccessMode);
    rights.access_mode = AccessMode::ApplyScoped;
    assert_eq!(layer_of(&rights), Layer::Policy);
}

#[test]
fn deny_beats_allow_wherever_it_stands_and_names_its_line() {
    for rules in [
        vec![rule(Effect::Allow, "fs.read", 1), rule(Effect::Deny, "fs.read:in/secret/**", 2)],
        vec![rule(Effect::Deny, "fs.read:in/secret/**", 2), rule(Effect::Allow, "fs.read", 1)],
    ] {
        let rights = EffectiveRights { policy: policy(Mode::Enforce, rules), ..all_layers(&["fs.read"]) };
        let (denial, rule) = denied(rights.decide(Axis::FsRead, &path("in", "secret/key")));
        assert_eq!(denial.reason, DenialLabel::OperatorDenied);
        assert_eq!(rule.unwrap().to_string(), "policy.toml:2");
        assert!(denial.remedy.contains("policy.toml:2"), "{}", denial.remedy);
        assert!(is_allowed(&rights.decide(Axis::FsRead, &path("in", "open.md"))));
    }
}

#[test]
fn a_rule_for_some_plugins_says_nothing_about_others_or_about_people() {
    let only = |effect| Rule { plugins: vec![PluginId::new("summarize").unwrap()], ..rule(effect, "fs.read", 1) };
    let request = |plugin: Option<&str>, rules| {
        let plugin = plugin.map(|id| PluginId::new(id).unwrap());
        let rights = EffectiveRights { plugin, policy: policy(Mode::Enforce, rules), ..all_layers(&["fs.read"]) };
        is_allowed(&rights.decide(Axis::FsRead, &path("in", "a")))
    };
    assert!(request(Some("summarize"), vec![only(Effect::Allow)]));
    assert!(!request(Some("other"), vec![only(Effect::Allow)]));
    assert!(!request(None, vec![only(Effect::Allow)]));
    let denying = || vec![rule(Effect::Allow, "fs.read", 2), only(Effect::Deny)];
    assert!(!request(Some("summarize"), denying()));
    assert!(request(Some("other"), denying()));
    assert!(request(None, denying()));
}

#[test]
fn observe_mode_lets_pass_what_the_policy_denies_and_says_so() {
    let observe = |rules| EffectiveRights { policy: policy(Mode::Observe, rules), ..all_layers(&["fs.read"]) };
    let resource = path("in", "a");
    let verdict = observe(vec![]).decide(Axis::FsRead, &resource);
    assert_eq!(verdict, Verdict::Allowed { rule: None, observed: Observed::WouldDeny, grant: None });

    let source = SourceRef { file: "policy.toml".into(), line: 7 };
    let verdict = observe(vec![rule(Effect::Deny, "fs.read", 7)]).decide(Axis::FsRead, &resource);
    assert_eq!(verdict, Verdict::Allowed { rule: Some(source.clone()), observed: Observed::WouldDeny, grant: None });

    let verdict = observe(vec![rule(Effect::Allow, "fs.read", 7)]).decide(Axis::FsRead, &resource);
    assert_eq!(verdict, Verdict::Allowed { rule: Some(source), observed: Observed::No, grant: None });
}

#[test]
fn observe_mode_relaxes_no_other_layer() {
    let full = || EffectiveRights { policy: policy(Mode::Observe, vec![]), ..all_layers(&["fs.write"]) };
    for (rights, layer) in [
        (EffectiveRights { declared: set(&[]), ..full() }, Layer::Manifest),
        (EffectiveRights { granted: set(&[]), ..full() }, Layer::Grant),
        (with_profile(full(), &[]), Layer::Profile),
        (EffectiveRights { access_mode: AccessMode::PreviewOnly, ..full() }, Layer::AccessMode),
    ] {
        assert_eq!(denied(rights.decide(Axis::FsWrite, &path("out", "x"))).0.layer, layer);
    }
    let outside = Resource::OutsidePath { path: "../etc/passwd".into() };
    assert_eq!(denied(full().decide(Axis::FsWrite, &outside)).0.layer, Layer::Grant);
}

#[test]
fn a_folder_that_the_policy_does_not_list_any_more_is_closed_whether_it_watches_or_not() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let rights = EffectiveRights {
            policy: policy(mode, vec![rule(Effect::Allow, "fs.read", 1)]),
            ..all_layers(&["fs.read"])
        };
        assert!(is_allowed(&rights.decide(Axis::FsRead, &path("in", "a"))));
        let listed = rights.policy.current().policy().clone();
        drop(rights.policy.replace(Policy { mounts: Vec::new(), ..listed }));
        let (denial, rule) = denied(rights.decide(Axis::FsRead, &path("in", "a")));
        assert_eq!((denial.reason, denial.layer, rule), (DenialLabel::NotListed, Layer::Policy, None));
        assert!(denial.remedy.contains("[[mount]]") && !denial.remedy.contains("/srv"), "{}", denial.remedy);
    }
}

#[test]
fn what_this_version_never_grants_is_denied_though_every_layer_lists_it() {
    for axis in AXES.iter().filter(|axis| !axis.is_grantable()) {
        let rights = all_layers(&[axis.name()]);
        let (denial, _) = denied(rights.decide(*axis, &Resource::Whole));
        assert_eq!((denial.reason, denial.layer), (DenialLabel::NotGranted, Layer::Registry), "{axis}");
    }
}

#[test]
fn a_path_out_of_every_mount_is_denied_though_every_layer_allows_the_bare_axis() {
    let rights = all_layers(&["fs.read"]);
    let (denial, _) = denied(rights.decide(Axis::FsRead, &Resource::OutsidePath { path: "/etc/passwd".into() }));
    assert_eq!((denial.reason, denial.resource.as_str()), (DenialLabel::NotGranted, "/etc/passwd"));
}

#[test]
fn grants_reach_as_far_as_their_mount_and_pattern() {
    let rights = |grant: &str| EffectiveRights { granted: set(&[grant]), ..all_layers(&["fs.read"]) };
    let allowed =
        |grant: &str, mount: &str, inside: &str| is_allowed(&rights(grant).decide(Axis::FsRead, &path(mount, inside)));
    assert!(allowed("fs.read:in", "in", ""));
    assert!(allowed("fs.read:in", "in", "deep/down/a.md"));
    assert!(!allowed("fs.read:in", "inner", "a.md"));
    assert!(allowed("fs.read:in/*.md", "in", "a.md"));
    assert!(!allowed("fs.read:in/*.md", "in", "sub/a.md"));
    assert!(!allowed("fs.read:in/*.md", "in", "a.txt"));
    assert!(!allowed("fs.read:in/*.md", "in", ""));
    assert!(allowed("fs.read:in/reports/**", "in", "reports/2026/a.md"));
    assert!(!allowed("fs.read:in/reports/**", "in", "reports2/a.md"));
}

#[test]
fn a_named_grant_covers_that_name_alone() {
    let rights = EffectiveRights { granted: set(&["model.infer:default"]), ..all_layers(&["model.infer"]) };
    assert!(is_allowed(&rights.decide(Axis::ModelInfer, &Resource::name("default"))));
    let (denial, _) = denied(rights.decide(Axis::ModelInfer, &Resource::name("default2")));
    assert_eq!(denial.remedy, "add to the step in the workflow file: grants: [\"model.infer:default2\"]");
    assert!(!is_allowed(&rights.decide(Axis::ModelEmbed, &Resource::name("default"))));
}

#[test]
fn the_remedy_of_a_grant_is_a_capability_id_that_would_allow_the_call() {
    for (axis, resource) in [
        (Axis::FsRead, path("in", "a b/c.md")),
        (Axis::ModelInfer, Resource::name("default")),
        (Axis::ArtifactRead, Resource::name("0123")),
        (Axis::NetHttp, Resource::request("GET", "https://api.example.com:8443/v1")),
        (Axis::NetHttp, Resource::request("GET", "http://8.8.8.8/")),
        (Axis::NetTcp, Resource::Socket(SocketTarget::new("2606:4700::1111".parse().unwrap(), 443))),
        (Axis::NetDns, Resource::host("example.com")),
        (Axis::EnvRead, Resource::name("LANG")),
    ] {
        let rights = EffectiveRights { granted: set(&[]), ..all_layers(&[axis.name()]) };
        let (denial, _) = denied(rights.decide(axis, &resource));
        let granted = EffectiveRights { granted: set(&[&denial.capability]), ..rights };
        assert!(is_allowed(&granted.decide(axis, &resource)), "{}", denial.capability);
    }
}

#[test]
fn a_guarded_address_needs_a_rule_that_names_it_even_when_the_policy_only_watches() {
    let metadata = || Resource::request("GET", "http://169.254.169.254/latest/meta-data");
    let loopback = || Resource::Socket(SocketTarget::new("127.0.0.1".parse().unwrap(), 5432));
    for mode in [Mode::Enforce, Mode::Observe] {
        let rights = |rules: Vec<Rule>| EffectiveRights {
            policy: policy(mode, rules),
            ..all_layers(&["net.http", "net.tcp", "net.dns"])
        };
        let bare = rights(vec![rule(Effect::Allow, "net.http", 1), rule(Effect::Allow, "net.tcp", 2)]);
        let (denial, _) = denied(bare.decide(Axis::NetHttp, &metadata()));
        assert_eq!((denial.reason, denial.layer), (DenialLabel::OperatorDenied, Layer::Policy));
        assert_eq!(
            denial.remedy,
            "169.254.169.254 is a metadata address, and no rule names it; the operator can add to the rule in policy.toml: addresses = [\"169.254.169.254\"]"
        );
        denied(bare.decide(Axis::NetTcp, &loopback()));

        let named = rights(vec![rule(Effect::Allow, "net.tcp:127.0.0.0/8:5432", 1)]);
        assert!(is_allowed(&named.decide(Axis::NetTcp, &loopback())));
        let listed = Rule { addresses: vec!["127.0.0.1/32".parse().unwrap()], ..rule(Effect::Allow, "net.tcp", 1) };
        assert!(is_allowed(&rights(vec![listed]).decide(Axis::NetTcp, &loopback())));
    }
}

#[test]
fn asking_is_not_got_around_by_an_address_or_a_spelling() {
    let rights =
        |rules| EffectiveRights { policy: policy(Mode::Enforce, rules), ..all_layers(&["net.http", "net.tcp"]) };
    let loopback = Resource::Socket(SocketTarget::new("127.0.0.1".parse().unwrap(), 80));
    let named = || rule(Effect::Allow, "net.tcp:127.0.0.1:80", 2);
    let asks = rights(vec![rule(Effect::Ask, "net.tcp", 1), named()]);
    assert!(matches!(asks.decide(Axis::NetTcp, &loopback), Verdict::Asks { .. }));
    // Nobody is asked about what the operator has not named.
    let unnamed = rights(vec![rule(Effect::Ask, "net.tcp", 1)]);
    assert!(denied(unnamed.decide(Axis::NetTcp, &loopback)).0.remedy.contains("addresses = ["));

    let host = "net.http:https://api.example.com";
    let asks = rights(vec![rule(Effect::Allow, host, 1), rule(Effect::Ask, &format!("{host}/admin"), 2)]);
    for (path, asked) in [("admin", true), ("x%2f..%2fadmin", true), ("/admin", true), ("public", false)] {
        let verdict = asks.decide(Axis::NetHttp, &Resource::request("GET", &format!("https://api.example.com/{path}")));
        assert_eq!(matches!(verdict, Verdict::Asks { .. }), asked, "{path}: {verdict:?}");
    }
}

#[test]
fn an_allowed_host_may_not_turn_out_to_be_a_guarded_address() {
    let request = Resource::request("GET", "https://intranet.example/");
    let rights = |rule| EffectiveRights { policy: policy(Mode::Enforce, vec![rule]), ..all_layers(&["net.http"]) };
    let plain = rights(rule(Effect::Allow, "net.http:https://intranet.example", 1));
    let (private, public) = ("10.0.0.5".parse().unwrap(), "93.184.216.34".parse().unwrap());
    assert_eq!(plain.may_reach(Axis::NetHttp, &request, public), Ok(()));
    assert_eq!(plain.may_reach(Axis::NetHttp, &request, private).unwrap_err().range, "private");
    let ten = || vec!["10.0.0.0/8".parse().unwrap()];
    let named = Rule { addresses: ten(), ..rule(Effect::Allow, "net.http:https://intranet.example", 1) };
    assert_eq!(rights(named).may_reach(Axis::NetHttp, &request, private), Ok(()));
    let elsewhere = Rule { addresses: ten(), ..rule(Effect::Allow, "net.http:https://other.example", 1) };
    rights(elsewhere).may_reach(Axis::NetHttp, &request, private).unwrap_err();
}

#[test]
fn variables_are_allowed_when_each_of_them_is() {
    let rights = all_layers(&["env.read:LANG", "env.read:APP_*"]);
    let names = |names: &[&str]| Resource::Names { names: names.iter().map(|name| (*name).to_owned()).collect() };
    assert!(is_allowed(&rights.decide(Axis::EnvRead, &names(&["LANG", "APP_MODE"]))));
    let (denial, _) = denied(rights.decide(Axis::EnvRead, &names(&["LANG", "HOME"])));
    assert_eq!(denial.capability, "env.read:HOME");
    denied(rights.decide(Axis::EnvRead, &names(&[])));
    assert!(is_allowed(&all_layers(&["env.read"]).decide(Axis::EnvRead, &names(&[]))));
}

/// Says what an id covers, written independently of the matcher.
type Model = fn(Axis, &Resource) -> bool;

const POOL: &[(&str, Model)] = &[
    ("fs.read", |axis, resource| axis == Axis::FsRead && !is_outside(resource)),
    ("fs.read:in", |axis, resource| axis == Axis::FsRead && mount_of(resource) == Some(("in", true))),
    ("fs.read:in/sub/**", |axis, resource| {
        axis == Axis::FsRead
            && matches!(resource, Resource::Path { mount, path, .. } if mount == "in" && path.starts_with("sub/"))
    }),
    ("fs.write", |axis, resource| axis == Axis::FsWrite && !is_outside(resource)),
    ("fs.write:out", |axis, resource| axis == Axis::FsWrite && mount_of(resource) == Some(("out", true))),
    ("model.infer", |axis, resource| axis == Axis::ModelInfer && !is_outside(resource)),
    ("model.infer:default", |axis, resource| axis == Axis::ModelInfer && *resource == Resource::name("default")),
    ("doc.propose", |axis, resource| axis == Axis::DocPropose && !is_outside(resource)),
    ("net.http", |axis, resource| axis == Axis::NetHttp && !is_outside(resource)),
];

fn is_outside(resource: &Resource) -> bool {
    matches!(resource, Resource::OutsidePath { .. })
}

fn mount_of(resource: &Resource) -> Option<(&str, bool)> {
    match resource {
        Resource::Path { mount, .. } => Some((mount, true)),
        _ => None,
    }
}

fn some_effect() -> impl Strategy<Value = Effect> {
    prop::sample::select(vec![Effect::Allow, Effect::Ask, Effect::Deny])
}

fn some_ids() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just((0..POOL.len()).collect::<Vec<_>>()), prop::collection::vec(0..POOL.len(), 0..6)]
}

fn some_resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        Just(path("in", "a.md")),
        Just(path("in", "sub/b.md")),
        Just(path("out", "sub/c.md")),
        Just(path("out", "")),
        Just(Resource::name("default")),
        Just(Resource::name("other")),
        Just(Resource::Whole),
        Just(Resource::request("GET", "https://example.com")),
        Just(Resource::OutsidePath { path: "../x".into() }),
    ]
}

proptest! {
    #[test]
    fn a_call_is_allowed_exactly_when_all_layers_agree(
        axis in prop::sample::select(vec![Axis::FsRead, Axis::FsWrite, Axis::ModelInfer, Axis::DocPropose, Axis::NetHttp]),
        resource in some_resource(),
        declared in some_ids(), granted in some_ids(), listed in some_ids(),
        rules in prop::collection::vec((some_effect(), 0..POOL.len()), 0..6),
        access_mode in prop::sample::select(AccessMode::ALL.to_vec()),
        observe in any::<bool>(),
    ) {
        // Calls are about what their axis has.
        let is_request = matches!(resource, Resource::Request(_));
        let is_any = matches!(resource, Resource::Whole | Resource::OutsidePath { .. });
        prop_assume!(is_any || is_request == (axis == Axis::NetHttp));
        let ids = |picks: &[usize]| picks.iter().map(|pick| POOL[*pick].0).collect::<Vec<_>>();
        let model = |picks: &[usize]| picks.iter().any(|pick| POOL[*pick].1(axis, &resource));
        let rights = EffectiveRights {
            declared: set(&ids(&declared)),
            granted: set(&ids(&granted)),
            access_mode,
            policy: policy(
                if observe { Mode::Observe } else { Mode::Enforce },
                rules.iter().zip(1..).map(|((effect, pick), line)| rule(*effect, POOL[*pick].0, line)).collect(),
            ),
            ..with_profile(all_layers(&[]), &ids(&listed))
        };

        let admitted = match access_mode {
            AccessMode::ApplyScoped => true,
            AccessMode::PreviewOnly => axis != Axis::FsWrite && axis != Axis::NetHttp,
            AccessMode::AnalysisOnly => axis == Axis::FsRead || axis == Axis::ModelInfer,
        };
        let below = model(&declared) && model(&granted) && model(&listed) && admitted;
        let ruled = |effect| rules.iter().any(|(this, pick)| *this == effect && POOL[*pick].1(axis, &resource));
        let asked = ruled(Effect::Ask) && !ruled(Effect::Deny);
        let agreed = ruled(Effect::Allow) && !ruled(Effect::Ask) && !ruled(Effect::Deny);

        let verdict = rights.decide(axis, &resource);
        prop_assert_eq!(is_allowed(&verdict), below && !asked && (agreed || observe), "{:?}", verdict);
        prop_assert_eq!(matches!(verdict, Verdict::Asks { .. }), below && asked, "{:?}", verdict);
        if let Verdict::Allowed { observed, .. } = &verdict {
            prop_assert_eq!(*observed == Observed::WouldDeny, !agreed);
        }
        prop_assert_eq!(rights.decide(axis, &resource), verdict, "the decision is pure");
    }
}

/// What the record says of a verdict.
fn recorded(rights: &EffectiveRights, axis: Axis, resource: &Resource, verdict: &Verdict) -> DecidedCalls {
    let (layer, reason) = match verdict {
        Verdict::Allowed { .. } => (Layer::Policy, None),
        Verdict::Denied { denial, .. } | Verdict::Asks { denial, .. } => (denial.layer, Some(denial.reason)),
    };
    DecidedCalls {
        actor: "summarize@0.1.0".into(),
        plugin: rights.plugin.clone(),
        capability: axis.name().into(),
        resource: resource.to_string(),
        layer: layer.label().into(),
        outcome: if is_allowed(verdict) { Outcome::Allow } else { Outcome::Deny },
        reason: reason.map(|reason| reason.label().to_owned()),
        would_deny: matches!(verdict, Verdict::Allowed { observed: Observed::WouldDeny, .. }),
        granted: matches!(verdict, Verdict::Allowed { grant: Some(_), .. }),
        count: 1,
        first: 1,
    }
}

/// What somebody has granted until it is taken back.
fn grant(capability: &str) -> Grant {
    let place = place();
    let terms = GrantTerms {
        extent: Extent::UntilRevoked,
        approval_id: ApprovalId::from_uuid(place.job.uuid()),
        job_id: place.job,
        run_id: place.run,
        step_id: place.step,
        index: None,
        attempt: 1,
        workspace: "/srv".into(),
        granted_by: "ada".into(),
        reason: None,
    };
    Grant {
        grant_id: GrantId::from_uuid(place.job.uuid()),
        plugin: PluginId::new("summarize").unwrap(),
        capability: capability.parse().unwrap(),
        terms,
        expires_at: None,
        created_at: Timestamp::from_micros(1),
        revoked_at: None,
        revoked_by: None,
    }
}

fn place() -> AttemptPlace {
    let id = Uuid::from_u128(7);
    let (job, run, step) = (JobId::from_uuid(id), RunId::from_uuid(id), StepId::new("ask").unwrap());
    AttemptPlace { job, run, step, index: None, attempt: 2, fence: FencingToken(1) }
}

/// Axes with capabilities that rules name and resources that calls are about, addresses that need a rule of their own
/// among them.
fn some_calls() -> impl Strategy<Value = (Axis, &'static [&'static str], Resource)> {
    let names = |names: &[&str]| Resource::Names { names: names.iter().map(|name| (*name).to_owned()).collect() };
    let socket = |ip: &str| Resource::Socket(SocketTarget::new(ip.parse().unwrap(), 80));
    let variables: &[&str] = &["env.read", "env.read:APP_*", "env.read:APP_MODE", "env.read:LANG"];
    let sockets: &[&str] = &["net.tcp", "net.tcp:127.0.0.0/8:80", "net.tcp:93.184.216.34:80"];
    let requests: &[&str] = &["net.http", "net.http:https://example.com", "net.http:http://127.0.0.1"];
    let models: &[&str] = &["model.infer", "model.infer:default"];
    prop::sample::select(vec![
        (Axis::EnvRead, variables, names(&["APP_MODE", "LANG"])),
        (Axis::EnvRead, variables, names(&["APP_X", "APP_MODE", "HOME"])),
        (Axis::EnvRead, variables, names(&["LANG"])),
        (Axis::NetTcp, sockets, socket("127.0.0.1")),
        (Axis::NetTcp, sockets, socket("93.184.216.34")),
        (Axis::NetHttp, requests, Resource::request("GET", "https://example.com/a")),
        (Axis::NetHttp, requests, Resource::request("GET", "http://127.0.0.1/a")),
        (Axis::NetHttp, requests, Resource::request("GET", "http://169.254.169.254/")),
        (Axis::ModelInfer, models, Resource::name("default")),
        (Axis::ModelInfer, models, Resource::name("a name\nof another form")),
        (Axis::ModelInfer, models, Resource::Whole),
    ])
}

proptest! {
    #[test]
    fn what_was_decided_ends_the_same_when_it_is_decided_again_from_the_record(
        (axis, ids, resource) in some_calls(),
        rules in prop::collection::vec((some_effect(), 0..4_usize), 0..6),
        observe in any::<bool>(), by_a_person in any::<bool>(), granted in prop::option::of(0..4_usize),
    ) {
        let mode = if observe { Mode::Observe } else { Mode::Enforce };
        let rules = rules.iter().zip(1..).map(|((effect, id), line)| rule(*effect, ids[id % ids.len()], line));
        let policy = policy(mode, rules.collect());
        let plugin = (!by_a_person).then(|| PluginId::new("summarize").unwrap());
        let rights = EffectiveRights { policy: policy.clone(), plugin, ..all_layers(&[axis.name()]) };
        let _ = policy.grant(0, granted.map(|id| grant(ids[id % ids.len()])).into_iter().collect()).unwrap();
        let (place, now) = (place(), Timestamp::from_micros(9));
        let asking = Asking { place: Some(&place), workspace: None, began: now, now };
        let current = policy.current();
        let verdict = rights.decide_under(&current, axis, &resource, &asking);
        let mut replay = Replay::new(current.policy());
        replay.decide(&recorded(&rights, axis, &resource, &verdict));
        let undecided = replay.undecided;
        prop_assert_eq!((undecided, replay.flips()), (0, Vec::new()), "{:?}", verdict);
    }
}
