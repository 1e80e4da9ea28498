//! The dependency rule, from `cargo metadata`: normal dependencies of the host's crates. Tests and benches are exempt.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which host crates a host crate may depend on. The command composes all of them.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("storage", &["core"]),
    ("recorder", &["core"]),
    ("runtime", &["core"]),
    ("models", &["core"]),
    ("telemetry", &["core"]),
    ("engine", &["core"]),
    ("cli", &["core", "storage", "recorder", "runtime", "models", "telemetry", "engine"]),
];

/// Libraries that only these host crates may depend on, by name or by the part before a `-`; most have one owner.
const OWNED: &[(&str, &str)] = &[
    ("sqlx", "storage"),
    ("libsqlite3", "storage"),
    ("rusqlite", "storage"),
    ("duckdb", "recorder"),
    ("libduckdb", "recorder"),
    ("arrow", "recorder"),
    ("parquet", "recorder"),
    ("wasmtime", "runtime"),
    ("cranelift", "runtime"),
    ("reqwest", "models"),
    ("reqwest", "telemetry"),
    ("opentelemetry", "telemetry"),
    ("prost", "telemetry"),
    ("axum", "cli"),
    ("clap", "cli"),
    ("clap_complete", "cli"),
    ("indicatif", "cli"),
    ("comfy", "cli"),
    // Errors of libraries are typed.
    ("anyhow", "cli"),
];

/// What no other crate may drag in through somebody else either.
const NOT_EVEN_INDIRECTLY: &[&str] = &["sqlx", "duckdb", "wasmtime", "reqwest", "axum", "clap"];

/// Core neither performs I/O nor knows an async runtime.
const NOT_IN_CORE: &[&str] = &["tokio", "async-std", "smol", "mio", "sqlx", "duckdb", "wasmtime", "reqwest", "hyper"];

/// Normal dependencies by package name.
pub(crate) struct Graph {
    direct: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Reads the workspace's graph for this machine's target.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let version = Command::new("rustc").arg("-vV").output()?;
        let version = String::from_utf8(version.stdout)?;
        let target = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(["--locked", "--offline", "--filter-platform", target].map(str::to_owned))
            .exec()?;
        let name_of: BTreeMap<_, _> =
            metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
        let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let normal =
                node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|info| info.kind == DependencyKind::Normal));
            // Several versions of one package count as one.
            direct.entry(name_of[&node.id].clone()).or_default().extend(normal.map(|dep| name_of[&dep.pkg].clone()));
        }
        Ok(Self { direct })
    }

    /// Everything that the rule forbids and the graph has.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let hosts = self.direct.keys().filter_map(|name| Some((name, host_crate(name)?)));
        for (name, crate_name) in hosts.filter(|(_, crate_name)| *crate_name != "tests") {
            let Some((_, known)) = MAY_KNOW.iter().find(|(this, _)| *this == crate_name) else {
                violations.push(format!("{name}: the rule does not say what it may depend on"));
                continue;
            };
            for dependency in &self.direct[name] {
                match host_crate(dependency) {
                    Some(other) if !known.contains(&other) => {
                        violations.push(format!("{name} depends on {dependency}"))
                    }
                    Some(_) => {}
                    None => {
                        let family = dependency.split('-').next().unwrap_or_default();
                        let mut owners = OWNED.iter().filter(|(library, _)| *library == family).peekable();
                        if owners.peek().is_some() && owners.all(|(_, owner)| *owner != crate_name) {
                            violations.push(format!("{name} depends on {dependency}, which is another crate's"));
                        }
                    }
                }
            }
            if crate_name != "cli" {
                violations.extend(self.indirect_violations(name, crate_name));
            }
        }
        violations
    }

    fn indirect_violations(&self, name: &str, crate_name: &str) -> Vec<String> {
        let reached = self.reached_from(name);
        let own = |library: &str| OWNED.iter().any(|(this, owner)| *this == library && *owner == crate_name);
        let forbidden = NOT_EVEN_INDIRECTLY.iter().filter(|library| !own(library));
        let forbidden = forbidden.chain(if crate_name == "core" { NOT_IN_CORE } else { &[] });
        let found: BTreeSet<_> = forbidden.filter(|library| reached.contains(**library)).collect();
        found.into_iter().map(|library| format!("{name} reaches {library}")).collect()
    }

    fn reached_from(&self, name: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![name];
        while let Some(name) = waiting.pop() {
            for dependency in self.direct.get(name).into_iter().flatten() {
                if reached.insert(dependency.as_str()) {
                    waiting.push(dependency);
                }
            }
        }
        reached
    }
}

fn host_crate(package: &str) -> Option<&str> {
    package.strip_prefix("handshake-")
}

/// A graph from lines of the form `a: b c`.
fn graph(lines: &[&str]) -> Graph {
    let line = |line: &&str| {
        let (name, dependencies) = line.split_once(": ").unwrap();
        (name.to_owned(), dependencies.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    Graph { direct: lines.iter().map(line).collect() }
}

#[test]
fn dependencies_that_the_rule_forbids_are_found() {
    for (lines, expected) in [
        (&["handshake-core: handshake-storage"][..], "handshake-core depends on handshake-storage"),
        (&["handshake-recorder: handshake-core handshake-storage"], "handshake-recorder depends on handshake-storage"),
        (&["handshake-engine: handshake-runtime"], "handshake-engine depends on handshake-runtime"),
        (&["handshake-models: handshake-cli"], "handshake-models depends on handshake-cli"),
        (&["handshake-engine: sqlx-core"], "handshake-engine depends on sqlx-core, which is another crate's"),
        (&["handshake-cli: duckdb"], "handshake-cli depends on duckdb, which is another crate's"),
        (&["handshake-cli: wasmtime-wasi"], "handshake-cli depends on wasmtime-wasi, which is another crate's"),
        (&["handshake-engine: reqwest-retry"], "handshake-engine depends on reqwest-retry, which is another crate's"),
        (
            &["handshake-cli: opentelemetry-proto"],
            "handshake-cli depends on opentelemetry-proto, which is another crate's",
        ),
        (&["handshake-storage: anyhow"], "handshake-storage depends on anyhow, which is another crate's"),
        (&["handshake-core: rt", "rt: tokio"], "handshake-core reaches tokio"),
        (&["handshake-engine: helper", "helper: deep", "deep: wasmtime"], "handshake-engine reaches wasmtime"),
        (&["handshake-extra: serde"], "handshake-extra: the rule does not say what it may depend on"),
    ] {
        assert_eq!(graph(lines).violations(), [expected], "{lines:?}");
    }
}

#[test]
fn dependencies_that_the_rule_allows_pass() {
    let good = graph(&[
        "handshake-core: serde",
        "handshake-storage: handshake-core sqlx",
        "handshake-recorder: handshake-core duckdb arrow-array",
        "handshake-models: handshake-core reqwest",
        "handshake-telemetry: handshake-core reqwest opentelemetry-proto prost",
        "handshake-cli: handshake-core handshake-storage handshake-recorder axum clap anyhow",
        "handshake-tests: handshake-storage wasmtime anyhow",
        "sqlx: tokio",
    ]);
    assert_eq!(good.violations(), Vec::<String>::new());
}
