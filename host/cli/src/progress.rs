//! Progress of a run: bars on a terminal, lines in a pipe, nothing when quiet.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use handshake_core::StepId;
use handshake_core::event::{RedactionScope, Redactor};
use handshake_core::node::{NodeError, NodeKey, NodeState};
use handshake_core::step::LogLevel;
use handshake_core::terminal::escape;
use handshake_engine::{RunUpdate, RunUpdateKind};
use handshake_recorder::Redaction;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::Output;

/// Lines of plugins' logs that are shown; a plugin that says more than that is better read in a file.
const MOST_LOG_LINES: u32 = 200;

/// Shows a run's updates on standard error.
pub(crate) struct Progress {
    display: Display,
    steps: BTreeMap<StepId, StepProgress>,
    log_lines: u32,
    redaction: Redaction,
}

enum Display {
    Silent,
    Lines,
    Bars { all: MultiProgress, bars: BTreeMap<StepId, ProgressBar> },
}

#[derive(Default)]
struct StepProgress {
    items: Option<u32>,
    ended: u32,
    failed: u32,
    skipped: u32,
    cancelled: u32,
    begun: bool,
}

impl StepProgress {
    fn total(&self) -> u32 {
        self.items.unwrap_or(1)
    }

    fn summary(&self) -> String {
        let done = self.ended - self.failed - self.skipped - self.cancelled;
        let mut text = match self.items {
            Some(items) => format!("{done} of {items} done"),
            None if self.skipped > 0 => return "skipped".to_owned(),
            None if self.failed > 0 => return "failed".to_owned(),
            None if self.cancelled > 0 => return "cancelled".to_owned(),
            None => return "done".to_owned(),
        };
        if self.failed > 0 {
            text.push_str(&format!(", {} failed", self.failed));
        }
        if self.skipped > 0 {
            text.push_str(&format!(", {} skipped", self.skipped));
        }
        if self.cancelled > 0 {
            text.push_str(&format!(", {} cancelled", self.cancelled));
        }
        text
    }
}

impl Progress {
    /// As the output asks for it.
    pub(crate) fn new(output: &Output) -> Self {
        let display = if output.quiet || output.is_json() {
            Display::Silent
        } else if std::io::stderr().is_terminal() {
            Display::Bars { all: MultiProgress::new(), bars: BTreeMap::new() }
        } else {
            Display::Lines
        };
        Self { display, steps: BTreeMap::new(), log_lines: 0, redaction: output.redaction().clone() }
    }

    /// Shows one update.
    pub(crate) fn show(&mut self, update: &RunUpdate) {
        if matches!(self.display, Display::Silent) {
            return;
        }
        match &update.kind {
            RunUpdateKind::RunStarted { steps } => self.started(steps),
            RunUpdateKind::StepPlanned { step, items } => self.planned(step, *items),
            RunUpdateKind::NodeStarted { node, .. } => self.node_started(node),
            RunUpdateKind::NodeWaits { node, on, until } => {
                self.node_started(node);
                let what = match until {
                    Some(until) if on.is_empty() => format!(" until {until}"),
                    Some(until) => format!(" for {on}, until {until} at most"),
                    None => format!(" for {on}"),
                };
                self.say(&format!("{node}: waits{what}"));
            }
            RunUpdateKind::NodeProgress { node, done, total, message } => {
                self.node_progress(node, *done, *total, message)
            }
            RunUpdateKind::NodeLog { node, level, line } => self.log(node, *level, line),
            RunUpdateKind::NodeFinished { node, attempt, result, error, will_retry } => {
                self.node_finished(node, *attempt, *result, error.as_ref(), *will_retry)
            }
            RunUpdateKind::RunFinished { .. } => self.clear(),
        }
    }

    /// A line above the bars.
    pub(crate) fn say(&self, text: &str) {
        let text = self.redaction.clean(RedactionScope::Text, text);
        let text = escape(&text, false);
        match &self.display {
            Display::Silent => {}
            Display::Lines => {
                // Nobody is left to tell if standard error is gone.
                let _ = writeln!(std::io::stderr().lock(), "{text}");
            }
            Display::Bars { all, .. } => {
                let _ = all.println(text);
            }
        }
    }

    /// Leaves the last state of the bars on the screen.
    pub(crate) fn clear(&mut self) {
        if let Display::Bars { bars, .. } = &mut self.display {
            for bar in bars.values().filter(|bar| !bar.is_finished()) {
                bar.abandon();
            }
        }
    }

    fn started(&mut self, steps: &[StepId]) {
        if let Display::Bars { all, bars } = &mut self.display {
            let width = steps.iter().map(|step| step.as_str().len()).max().unwrap_or(0).min(24);
            for step in steps {
                let bar = all.add(ProgressBar::new(1));
                if let Ok(style) = ProgressStyle::with_template("  {prefix}  {bar:20} {pos:>5}/{len:<5} {wide_msg}") {
                    bar.set_style(style.progress_chars("━╸ "));
                }
                bar.set_prefix(format!("{:<width$}", step.as_str()));
                bars.insert(step.clone(), bar);
            }
        }
    }

    fn planned(&mut self, step: &StepId, items: Option<u32>) {
        let progress = self.steps.entry(step.clone()).or_default();
        progress.items = items;
        match &self.display {
            Display::Bars { bars, .. } => {
                if let Some(bar) = bars.get(step) {
                    bar.set_length(u64::from(items.unwrap_or(1)));
                    if items == Some(0) {
                        bar.finish_with_message("nothing to do");
                    }
                }
            }
            Display::Lines if items == Some(0) => self.say(&format!("{step}: nothing to do")),
            Display::Lines => {
                if let Some(items) = items {
                    self.say(&format!("{step}: {items} items"));
                }
            }
            Display::Silent => {}
        }
    }

    fn node_started(&mut self, node: &NodeKey) {
        let progress = self.steps.entry(node.step.clone()).or_default();
        let first = !std::mem::replace(&mut progress.begun, true);
        match &self.display {
            Display::Bars { bars, .. } if first => {
                if let Some(bar) = bars.get(&node.step) {
                    bar.enable_steady_tick(Duration::from_millis(200));
                    bar.set_message("running");
                }
            }
            Display::Lines if first => self.say(&format!("{}: started", node.step)),
            _ => {}
        }
    }

    fn node_progress(&mut self, node: &NodeKey, done: u64, total: Option<u64>, message: &str) {
        // Items of a list are counted themselves; only a step that is one node shows its own units.
        if node.index.is_some() {
            return;
        }
        if let Display::Bars { bars, .. } = &self.display
            && let Some(bar) = bars.get(&node.step)
        {
            if let Some(total) = total.filter(|total| *total > 0) {
                bar.set_length(total);
                bar.set_position(done.min(total));
            }
            let message = self.redaction.clean(RedactionScope::Text, message);
            bar.set_message(escape(&message, false).into_owned());
        }
    }

    fn log(&mut self, node: &NodeKey, level: LogLevel, line: &str) {
        if matches!(level, LogLevel::Trace | LogLevel::Debug) {
            return;
        }
        self.log_lines = self.log_lines.saturating_add(1);
        if self.log_lines <= MOST_LOG_LINES {
            self.say(&format!("{node}: {level}: {line}"));
        } else if self.log_lines == MOST_LOG_LINES + 1 {
            self.say("further log lines are not shown");
        }
    }

    fn node_finished(
        &mut self,
        node: &NodeKey,
        attempt: u32,
        result: NodeState,
        error: Option<&NodeError>,
        will_retry: bool,
    ) {
        if let Some(error) = error {
            let end = if will_retry { "; trying again" } else { "" };
            self.say(&format!("{node}: {result} in attempt {attempt}: {}: {}{end}", error.kind, error.message));
        }
        if will_retry {
            return;
        }
        let progress = self.steps.entry(node.step.clone()).or_default();
        progress.ended += 1;
        match result {
            NodeState::Completed => {}
            NodeState::Skipped => progress.skipped += 1,
            NodeState::Cancelled => progress.cancelled += 1,
            _ => progress.failed += 1,
        }
        let (over, summary) = (progress.ended >= progress.total(), progress.summary());
        let (ended, listed) = (u64::from(progress.ended), progress.items.is_some());
        match &self.display {
            Display::Bars { bars, .. } => {
                if let Some(bar) = bars.get(&node.step) {
                    if listed {
                        bar.set_position(ended);
                    } else {
                        bar.set_position(bar.length().unwrap_or(1));
                    }
                    if over {
                        bar.abandon_with_message(summary);
                    }
                }
            }
            Display::Lines if over => self.say(&format!("{}: {summary}", node.step)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_summed_up_in_words() {
        let list = |ended, failed, skipped| {
            StepProgress { items: Some(5), ended, failed, skipped, cancelled: 0, begun: true }.summary()
        };
        assert_eq!(list(5, 0, 0), "5 of 5 done");
        assert_eq!(list(5, 1, 2), "2 of 5 done, 1 failed, 2 skipped");
        assert_eq!(StepProgress { ended: 1, skipped: 1, ..StepProgress::default() }.summary(), "skipped");
    }
}
