# Every command that a person or CI runs. `./justw RECIPE` installs what is missing first; `just RECIPE` does not.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

# Every recipe builds the whole workspace in one profile with one set of features: building single packages would
# compile shared dependencies again with other features.
target := absolute_path(env("CARGO_TARGET_DIR", justfile_directory() / "target"))
cache := env("HANDSHAKE_CACHE", env("XDG_CACHE_HOME", home_directory() / ".cache") / "handshake")

# Where no prebuilt libduckdb is to be had, ./justw asks for DuckDB to be compiled from source.
features := if env("HANDSHAKE_DUCKDB_BUNDLED", "") == "" { "" } else { "--features handshake-recorder/bundled" }
guests := "--manifest-path plugins/Cargo.toml"

# The binary of the development profile; tests run this one.
export HANDSHAKE_BIN := target / "debug/handshake"

# Lists the recipes.
default:
    @{{ just_executable() }} --justfile {{ quote(justfile()) }} --list

# Installs what is missing. `./justw setup` has done it before it gets here.
setup:
    @echo "everything that a build needs is installed"

# Builds the host, tests included, in the development profile.
build:
    cargo build --workspace --bins --tests {{ features }}

# Builds the plugins and the test guests with the built binary.
guests: build
    #!/usr/bin/env bash
    set -euo pipefail
    folders=()
    for manifest in plugins/*/plugin.toml tests/guests/*/plugin.toml; do
        folder=$(dirname "$manifest")
        # An interpreter takes seconds to be put into a component, so that is done when a source has changed only.
        tool=
        if [ -f "$folder/step.py" ]; then tool=componentize-py; fi
        if [ -f "$folder/step.js" ]; then tool=componentize-js; fi
        if [ -n "$tool" ]; then
            if ! command -v "$tool" >/dev/null; then
                echo "guests: NOT BUILT: $folder: $tool was not found (./justw installs it)" >&2
                continue
            fi
            built=$folder/dist/plugin.toml
            if [ -f "$built" ] && [ -z "$(find -L "$folder" -name dist -prune -o -name __pycache__ -prune -o -type f -newer "$built" -print)" ]; then
                continue
            fi
        fi
        folders+=("$folder")
    done
    # Some of the test guests are broken on purpose.
    "$HANDSHAKE_BIN" --quiet plugin build --no-check "${folders[@]}"

# Runs the whole suite: guests' own tests, then the host's.
test: guests
    cargo test {{ guests }} --workspace --quiet
    cargo test --workspace {{ features }}

# Tests storage on SQLite and PostgreSQL, or on the one that HANDSHAKE_TEST_BACKEND names.
test-storage:
    cargo test --workspace --test storage_conformance {{ features }}

# Checks formatting, and lints with warnings as errors.
lint:
    cargo fmt --all --check
    cargo fmt {{ guests }} --all --check
    cargo clippy --workspace --all-targets {{ features }} -- -D warnings
    cargo clippy {{ guests }} --workspace --all-targets -- -D warnings

# Formats host and guests.
fmt:
    cargo fmt --all
    cargo fmt {{ guests }} --all

# Proves the dependency rule and that no driver type shows in a public signature.
boundaries:
    cargo test --workspace --test boundaries {{ features }}

# Builds the documentation with warnings as errors.
doc $RUSTDOCFLAGS="-D warnings":
    cargo doc --workspace --no-deps --document-private-items {{ features }}

# Checks licences, advisories and sources of the dependencies with cargo-deny.
deny:
    #!/usr/bin/env bash
    set -euo pipefail
    if ! command -v cargo-deny >/dev/null 2>&1; then
        echo "deny: NOT RUN: cargo-deny is not installed (cargo install --locked cargo-deny)" >&2
        exit 0
    fi
    cargo deny check
    cargo deny --manifest-path plugins/Cargo.toml check -A license-not-encountered

# Takes the database that DATABASE_URL names to an earlier schema, the one before by default. For development.
db-revert version="":
    cargo build --workspace --examples {{ features }}
    {{ quote(target / "debug/examples/revert") }} {{ quote(version) }}

# Measures, in a release build, and prints ratios beside the floors: `speed`, `gate`, `plugins`, `storage`, `engine`, `recorder`,
# `serve`, or all of them.
# The recorder is queried over a million events, or as many as HANDSHAKE_BENCH_EVENTS says; their file is made once.
bench *which="speed gate plugins storage engine recorder serve": guests
    cargo build --release --workspace --bins --benches {{ features }}
    for bench in {{ which }}; do HANDSHAKE_BIN={{ quote(target / "release/handshake") }} cargo bench --workspace --bench "$bench" {{ features }}; done

# Runs the long forms: kills hosts and servers as often as said, compares the backends, claims with a crowd, and sends the API
# what nobody would.
soak rounds="100": guests
    HANDSHAKE_SOAK={{ quote(rounds) }} cargo test --workspace {{ features }} -- killed restarted same_answers conformance random_workflows random_edits
    {{ just_executable() }} --justfile {{ quote(justfile()) }} fuzz-api

# Sends a host for so many seconds what its API's description allows, and what it does not: no answer may be an error of the
# host's, or another than is described. The fuzzer, schemathesis, is installed into the cache.
fuzz-api seconds="600": build
    HANDSHAKE_CACHE={{ quote(cache) }} tests/fuzz-api {{ quote(seconds) }}

# Summarizes a folder of text or Markdown (by default this repository's documents) with sandboxed steps.
demo folder="": guests
    #!/usr/bin/env bash
    set -euo pipefail
    root=$PWD
    # Apart from the repository and from the folder to read: the data directory, what contains it and what lies in
    # it is never mounted.
    demo={{ quote(cache / "demo") }}
    if [ -n "$1" ]; then
        folder=$(cd {{ quote(invocation_directory()) }} && cd "$1" && pwd -P)
    else
        folder=$demo/documents
    fi
    rm -rf "$demo"
    mkdir -p "$demo/report"
    if [ -z "$1" ]; then
        # Only the documents: build folders hold thousands of other files.
        mkdir "$folder"
        git ls-files -z '*.md' | tar --null -T - -cf - | tar -xf - -C "$folder"
    fi
    cd "$demo"
    "$HANDSHAKE_BIN" init --mount "$folder" --mount report:write --quiet
    sed -i.bak "s|^plugins = .*|plugins = [\"$root/plugins\"]|" handshake.toml && rm handshake.toml.bak
    echo "== summarizing $folder"
    "$HANDSHAKE_BIN" run "$root/workflows/summarize-folder.yaml" -i "folder=$folder"
    printf '\n== the report: %s\n' "$demo/report/report.md"
    head -n 40 report/report.md
    printf '\n== who asked for what, and how often it was allowed\n'
    "$HANDSHAKE_BIN" audit matrix
    printf '\n== to look further\n'
    echo "  cd $demo"
    echo "  $HANDSHAKE_BIN jobs list          # the job, its state and what it cost"
    echo "  $HANDSHAKE_BIN audit decisions    # every single call: who asked, who said yes, by which rule"
    echo "  $HANDSHAKE_BIN capabilities list  # what a step can ask for at all"

# Proves that SQL is portable, that only the storage crate knows sqlx, and that no driver type leaks.
validator-dal-audit:
    cargo test --workspace --test dal_audit {{ features }}
    cargo test --workspace --test boundaries {{ features }} -- dependencies driver_types

# Scans library code for unwrap, expect, panic, todo, dbg and println, and the domain for untyped JSON.
validator-scan:
    cargo clippy --workspace {{ features }} -- -D clippy::unwrap_used -D clippy::expect_used -D clippy::panic -D clippy::todo -D clippy::unimplemented -D clippy::dbg_macro -D clippy::print_stdout -D clippy::print_stderr
    cargo test --workspace --test boundaries {{ features }} -- untyped_json unsafe

# Proves that errors are typed, and that time and randomness come through the ports.
validator-error-codes:
    cargo clippy --workspace {{ features }} -- -D clippy::disallowed_methods
    cargo test --workspace --test boundaries {{ features }} -- errors

# Checks what is in git: sizes, line ends, conflict markers, paths of somebody's machine.
validator-git-hygiene:
    .ci/git-hygiene

# Runs all validators.
validator-hygiene-full: validator-dal-audit validator-scan validator-error-codes validator-git-hygiene
