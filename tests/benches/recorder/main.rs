//! What the recorder costs, beside floors that are measured in the same run: `just bench recorder`.
//!
//! Queries run over a file with a million events, or as many as `HANDSHAKE_BENCH_EVENTS` says. It is made once and kept
//! in the target directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

mod admission;
mod generated;
mod host;
mod ingest;
mod page;
mod queries;

use std::process::ExitCode;

use handshake_tests::figures::{Figure, report};

/// As in the host's binary; the floors gain by it too.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MOST_MEMORY: u64 = 300 << 20;

/// A number of this process's status, bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn memory_figure(during: &str) -> Figure {
    let peak = memory("VmHWM");
    Figure {
        what: format!("memory up to the end of {during}"),
        value: format!("peak {} MB", peak >> 20),
        floor: format!("{} MB now", memory("VmRSS") >> 20),
        budget: "≤ 300 MB",
        met: peak <= MOST_MEMORY,
    }
}

/// Without arguments all parts: `admission`, `ingest`, `queries`, `page`.
fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions) {
        println!("the benchmark runs in a release build: just bench recorder");
        return ExitCode::SUCCESS;
    }
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut figures = Vec::new();
    if wanted("admission") {
        figures.extend(admission::figures());
    }
    if wanted("ingest") {
        figures.extend(runtime.block_on(ingest::figures()));
        figures.push(memory_figure("ingest, rebuilding and verifying"));
    }
    if wanted("queries") {
        figures.extend(runtime.block_on(queries::figures()));
        figures.push(memory_figure("queries"));
    }
    if wanted("page") {
        figures.extend(runtime.block_on(page::figures()));
    }
    report(&figures)
}
