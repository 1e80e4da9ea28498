# Every command that a person or CI runs. `./justw RECIPE` installs what is missing first; `just RECIPE` does not.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

# Every recipe builds the whole workspace in one profile with one set of features: building single packages would
# compile shared dependencies again with other features.
target := env("CARGO_TARGET_DIR", justfile_directory() / "target")
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
    for folder in plugins/*/ tests/guests/*/; do if [ -f "$folder/plugin.toml" ]; then "$HANDSHAKE_BIN" plugin build "$folder"; fi; done

# Runs the whole suite: guests' own tests, then the host's.
test: guests
    cargo test {{ guests }} --workspace --quiet
    cargo test --workspace {{ features }}

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
    cargo deny --manifest-path plugins/Cargo.toml check

# Measures, in a release build, and prints ratios beside the floors.
bench *arguments:
    cargo bench -p handshake-tests {{ features }} -- "$@"

# Runs the long tests: many runs, kills and recoveries.
soak *arguments:
    cargo test --workspace --test soak {{ features }} -- "$@"

# Summarizes a folder of text or Markdown with sandboxed steps, and shows what was decided.
demo folder=justfile_directory(): guests
    #!/usr/bin/env bash
    exec .ci/demo "$1" {{ quote(cache / "demo") }}

# Proves that only the storage crate knows sqlx and that no driver type leaks.
validator-dal-audit:
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
