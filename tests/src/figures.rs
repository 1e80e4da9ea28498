//! What the benchmarks print: measured figures beside their floors and budgets.

use std::process::{Command, ExitCode};
use std::time::Duration;

/// One measured figure with its budget.
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// The figure.
    pub value: String,
    /// What it stands beside, measured in the same run.
    pub floor: String,
    /// What it should be.
    pub budget: &'static str,
    /// Whether it is.
    pub met: bool,
}

/// The sample that so many of a hundred do not exceed; 50 is the median.
pub fn percentile(mut samples: Vec<Duration>, percent: usize) -> Duration {
    samples.sort();
    samples[(samples.len() * percent / 100).min(samples.len() - 1)]
}

/// What a process uses while nobody asks it for anything, by the kernel's own count.
pub fn idle(what: &str, pid: u32) -> Figure {
    const WATCHED: Duration = Duration::from_secs(20);
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').map(str::to_owned).collect();
        fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(WATCHED);
    // A hundred ticks are a second, so that this many in a second are a percentage.
    let share = (ticks() - before) / WATCHED.as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let anonymous = memory.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3;
    Figure {
        what: what.to_owned(),
        value: format!("{share:.2} % of a core, {anonymous:.0} MB"),
        floor: "-".into(),
        budget: "1 %, 60 MB",
        met: share <= 1.0 && anonymous <= 60.0,
    }
}

/// Prints them with the machine they are from; fails when a budget is missed.
#[allow(clippy::print_stdout, reason = "this is what a benchmark is run for")]
pub fn report(figures: &[Figure]) -> ExitCode {
    let machine =
        Command::new("uname").args(["-srm"]).output().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{}, {processors} processors", machine.unwrap_or_default());
    for Figure { what, value, floor, budget, met } in figures {
        println!("{} {what:<46} {value:<38} {budget:<9} beside {floor}", if *met { "ok  " } else { "MISS" });
    }
    if figures.iter().all(|figure| figure.met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
