#![allow(clippy::unwrap_used)]

use super::*;

fn parsed(text: &str) -> Result<Policy, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("docs")).unwrap();
    std::fs::write(folder.path().join("note.txt"), "").unwrap();
    let file = TomlFile { name: "policy.toml".into(), text: text.into() };
    parse(&file, folder.path()).map_err(|error| error.message.replace(&folder.path().display().to_string(), "DIR"))
}

#[test]
fn every_rule_knows_its_line_and_rules_keep_the_order_of_the_file() {
    let policy = parsed("schema = 1\n\n[[deny]]\ncapability = \"fs.write\"\nplugins = [\"a\"]\n\n[[allow]]\nplugins = [\"b\"]\ncapability = \"fs.read:in/**\"\n\n[[mount]]\npath = \"docs\"\naccess = \"read\"\n").unwrap();
    let rules: Vec<_> =
        policy.rules.iter().map(|rule| format!("{:?} {} {}", rule.effect, rule.capability, rule.source)).collect();
    assert_eq!(rules, ["Deny fs.write policy.toml:4", "Allow fs.read:in/** policy.toml:9"]);
    assert_eq!(policy.mounts[0].source.to_string(), "policy.toml:12");
    assert!(policy.mounts[0].path.is_absolute());
    assert_eq!(policy.mode, Mode::Enforce);
}

#[test]
fn what_cannot_be_understood_is_a_load_error_with_its_place() {
    insta::assert_snapshot!(parsed("schema = 1\n[[allow]]\ncapability = \"fs.peek\"\n").unwrap_err(), @"policy.toml:3:14: HSK-4001: UnknownCapability `fs.peek`; `handshake capabilities list` shows the ids there are");
    insta::assert_snapshot!(parsed("schema = 1\n[[allow]]\ncapability = \"net.http:https://example.com/*\"\n").unwrap_err(), @"policy.toml:3:14: `net.http:https://example.com/*`: scope `https://example.com/*` is not of a form that `net.http` understands; write scheme and host, and if need be methods, port and the beginning of a path: `https://api.example.com`, `https://*.example.com:8443/v1/`, `GET,HEAD https://api.example.com`");
    insta::assert_snapshot!(parsed("schema = 1\n[[allow]]\ncapability = \"fs.read\"\nplugin = [\"a\"]\n").unwrap_err(), @"policy.toml:4:1: unknown field `plugin`, expected one of `capability`, `plugins`, `addresses`");
    insta::assert_snapshot!(parsed("schema = 2\n").unwrap_err(), @"policy.toml:1:10: this host reads schema 1, not 2");
    insta::assert_snapshot!(parsed("mode = \"enforce\"\n").unwrap_err(), @"policy.toml:1:1: missing field `schema`");
    insta::assert_snapshot!(parsed("schema = 1\nmode = \"relaxed\"\n").unwrap_err(), @"policy.toml:2:8: unknown variant `relaxed`, expected `enforce` or `observe`");
    insta::assert_snapshot!(parsed("schema = 1\n[[allow]]\ncapability = \"fs.read\"\nplugins = []\n").unwrap_err(), @"policy.toml:4:11: `plugins` is empty; leave it out to mean every plugin");
}

#[test]
fn addresses_belong_to_allow_rules_of_the_network_and_are_written_exactly() {
    let rule = |kind: &str, capability: &str, addresses: &str| {
        parsed(&format!("schema = 1\n[[{kind}]]\ncapability = \"{capability}\"\naddresses = {addresses}\n"))
    };
    let policy =
        rule("allow", "net.http:https://intranet.example", "[\"10.0.0.0/8\", \"127.0.0.1\", \"::1\"]").unwrap();
    assert_eq!(policy.rules[0].addresses.len(), 3);
    insta::assert_snapshot!(rule("deny", "net.http", "[\"10.0.0.0/8\"]").unwrap_err(), @"policy.toml:4:13: `addresses` belongs to an allow rule of the network");
    insta::assert_snapshot!(rule("allow", "fs.read", "[\"10.0.0.0/8\"]").unwrap_err(), @"policy.toml:4:13: `addresses` belongs to an allow rule of the network");
    for wrong in ["10.1.2.3/8", "localhost", "::ffff:10.0.0.1", "10.0.0.0/33", "10.0.0.0/+8", ""] {
        let error = rule("allow", "net.tcp", &format!("[\"{wrong}\"]")).unwrap_err();
        assert_eq!(
            error,
            format!(
                "policy.toml:4:13: `{wrong}` is no address and no network; write `127.0.0.1`, `10.0.0.0/8` or `fd00::/8`"
            )
        );
    }
}

#[test]
fn a_secret_rule_names_servers_and_headers_that_can_carry_it_unseen() {
    let rule = |rest: &str| parsed(&format!("schema = 1\n[[secret]]\nname = \"github\"\n{rest}\n"));
    let policy = rule("hosts = [\"https://api.github.com\", \"http://127.0.0.1:8080\"]").unwrap();
    let secret = &policy.secrets[0];
    assert_eq!((secret.name.as_str(), secret.headers.as_slice()), ("github", &["authorization".to_owned()][..]));
    assert_eq!(secret.source.to_string(), "policy.toml:3");
    let policy = rule("hosts = [\"https://*.example.com/v1/\"]\nheaders = [\"X-Api-Key\"]").unwrap();
    assert_eq!(policy.secrets[0].headers, ["x-api-key"]);
    insta::assert_snapshot!(rule("hosts = [\"http://api.github.com\"]").unwrap_err(), @"policy.toml:4:9: `http://api.github.com`: a secret is sent with `https` only, so that nobody on the way can read it");
    insta::assert_snapshot!(rule("hosts = []").unwrap_err(), @"policy.toml:4:9: `hosts` is empty, so the secret could go nowhere");
    insta::assert_snapshot!(rule("hosts = [\"https://a.example\"]\nheaders = [\"Host\"]").unwrap_err(), @"policy.toml:5:11: `host` is no header that can carry a secret");
    insta::assert_snapshot!(rule("hosts = [\"https://a.example\"]\nheaders = []").unwrap_err(), @"policy.toml:5:11: `headers` is empty; leave it out to mean `authorization`");
    assert!(
        rule("hosts = [\"api.github.com\"]")
            .unwrap_err()
            .starts_with("policy.toml:4:9: `net.http:api.github.com`: scope")
    );
}

#[test]
fn a_mount_that_is_missing_or_no_folder_is_a_load_error() {
    insta::assert_snapshot!(parsed("schema = 1\n[[mount]]\npath = \"nope\"\naccess = \"read\"\n").unwrap_err(), @"policy.toml:3:8: cannot open folder `DIR/nope`");
    insta::assert_snapshot!(parsed("schema = 1\n[[mount]]\npath = \"note.txt\"\naccess = \"read\"\n").unwrap_err(), @"policy.toml:3:8: `DIR/note.txt` is not a folder");
}

#[test]
fn the_built_in_policy_mounts_the_project_and_allows_what_stays_within_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let policy = parse(&TomlFile { name: BUILT_IN.into(), text: policy_text(&[]) }, folder.path()).unwrap();
    let allowed: Vec<_> = policy.rules.iter().map(|rule| rule.capability.as_str()).collect();
    assert_eq!(
        allowed,
        [
            "fs.read",
            "fs.write",
            "model.infer",
            "model.embed",
            "doc.read",
            "doc.propose",
            "artifact.read",
            "artifact.write",
            "config.read"
        ]
    );
    let project = folder.path().canonicalize().unwrap();
    assert!(policy.mount_rule(&project.join("docs"), MountAccess::Write).is_some());
    assert!(policy.mount_rule(project.parent().unwrap(), MountAccess::Read).is_none());

    let text = policy_text(&[]);
    for rule in &policy.rules {
        let line = text.lines().nth(rule.source.line as usize - 1).unwrap();
        assert_eq!(line, format!("capability = \"{}\"", rule.capability), "{}", rule.source);
    }
}

#[test]
fn mounts_of_init_stand_in_the_policy_whatever_their_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a \"b\"")).unwrap();
    let text = policy_text(&[("a \"b\"".into(), MountAccess::Read)]);
    let policy = parse(&TomlFile { name: "policy.toml".into(), text }, folder.path()).unwrap();
    assert_eq!((policy.mounts.len(), policy.mounts[0].access), (1, MountAccess::Read));
}
