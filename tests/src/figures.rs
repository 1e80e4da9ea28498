//! What the benchmarks print: measured figures beside their floors and budgets.

use std::process::{Command, ExitCode};

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
