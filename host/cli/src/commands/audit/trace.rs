//! `handshake audit trace`: a trace as a tree, with times.

use clap::Args;
use handshake_core::Timestamp;
use handshake_recorder::{TraceNode, TraceNodeKind, TraceTree};
use uuid::Uuid;

use super::note_missing;
use crate::access::Access;
use crate::error::CliError;
use crate::output::{ALERT, Output};
use crate::review::summary;

/// Arguments of `handshake audit trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The trace, or a job or run of it
    #[arg(value_parser = id)]
    id: Uuid,
}

fn id(text: &str) -> Result<Uuid, String> {
    Uuid::parse_str(text)
        .map_err(|_| "it is not the id of a trace, a job or a run; `handshake jobs list` shows jobs".to_owned())
}

/// Shows the tree.
pub(super) async fn trace(access: Access, output: &Output, args: &TraceArgs) -> Result<(), CliError> {
    let tree = access.get::<TraceTree>(&format!("/api/v1/audit/trace/{}", args.id)).await;
    let tree = access.finish(output, tree).await?;
    if output.is_json() {
        return output.json(&tree);
    }
    note_missing(output, tree.incomplete_before);
    for line in lines(&tree, output.width()) {
        output.line(&line)?;
    }
    if tree.truncated {
        output.note(&format!("only the first {} events are shown", tree.events));
    }
    Ok(())
}

/// The tree, a line each: when it began, how long it took, what it was.
fn lines(tree: &TraceTree, width: usize) -> Vec<String> {
    let start = tree.nodes.iter().map(|node| node.at).min().unwrap_or(Timestamp::from_micros(0));
    let mut lines = vec![
        format!("trace {} from {}", tree.trace_id, summary::second(start)),
        format!("{:>10} {:>10}", "BEGAN", "LASTED"),
    ];
    let mut branch = String::new();
    for node in &tree.nodes {
        draw(node, start, &mut branch, "", "", &mut lines);
    }
    lines.into_iter().map(|line| cut(line, width)).collect()
}

fn draw(node: &TraceNode, start: Timestamp, branch: &mut String, own: &str, below: &str, lines: &mut Vec<String>) {
    let began = format!("+{}", duration(node.at.since(start).as_micros()));
    let lasted = node.duration_us.map_or(String::new(), |lasted| duration(u128::from(lasted)));
    lines.push(format!("{began:>10} {lasted:>10}  {branch}{own}{}", words(node)));
    let length = branch.len();
    branch.push_str(below);
    for (at, child) in node.children.iter().enumerate() {
        let last = at + 1 == node.children.len();
        let (own, below) = if last { ("└ ", "  ") } else { ("├ ", "│ ") };
        draw(child, start, branch, own, below, lines);
    }
    branch.truncate(length);
}

fn words(node: &TraceNode) -> String {
    let kind = match node.kind {
        TraceNodeKind::Job => "job ",
        TraceNodeKind::Run => "run ",
        TraceNodeKind::Step => "step ",
        TraceNodeKind::ModelCall => "model ",
        TraceNodeKind::Decision | TraceNodeKind::Event => "",
    };
    let result = node.result.as_deref().unwrap_or(match node.kind {
        TraceNodeKind::Job | TraceNodeKind::Run | TraceNodeKind::Step => "(not over)",
        _ => "",
    });
    let alert = if result.starts_with("deny") || node.name == "security_violation" {
        format!("{ALERT} ")
    } else {
        String::new()
    };
    let detail = node.detail.as_deref().map_or(String::new(), |detail| format!(" ({detail})"));
    format!("{kind}{} {alert}{result}{detail}", node.name).trim_end().to_owned()
}

/// A duration in the unit that suits it.
fn duration(micros: u128) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{}.{}ms", micros / 1_000, micros % 1_000 / 100),
        1_000_000..600_000_000 => format!("{}.{:02}s", micros / 1_000_000, micros % 1_000_000 / 10_000),
        _ => format!("{}min", micros / 60_000_000),
    }
}

fn cut(line: String, width: usize) -> String {
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_fits_the_width_and_shows_times() {
        let at = |micros: i64| Timestamp::from_micros(1_767_225_600_000_000 + micros).to_string();
        let node = |kind: &str, name: &str, began: i64, lasted: Option<u64>, result: Option<&str>, children| {
            json!({ "kind": kind, "name": name, "event_id": "0198f3a2-7c11-7000-8000-0123456789ab", "at": at(began),
                "duration_us": lasted, "result": result, "detail": null, "children": children })
        };
        let model = node("model_call", "default", 1_250_000, Some(900), Some("ok"), json!([]));
        let tree = json!({ "trace_id": "0198f3a2-7c11-7000-8000-0123456789ab", "events": 5, "truncated": false, "nodes": [
            node("job", "flow", 0, Some(2_345_678), Some("ok"), json!([
                node("run", "flow", 1_500, None, None, json!([
                    node("decision", "model.infer default", 1_200_000, Some(42_100), Some("allow"), json!([model])),
                    node("decision", &"x".repeat(90), 1_300_000, None, Some("deny: not-granted"), json!([])),
                ])),
            ])),
        ]});
        let tree: TraceTree = serde_json::from_value(tree).unwrap();
        let text = lines(&tree, 80).join("\n");
        let long = "x".repeat(80 - 10 - 1 - 10 - 2 - 4 - 1);
        assert_eq!(
            text,
            format!(
                "trace 0198f3a2-7c11-7000-8000-0123456789ab from 2026-01-01T00:00:00Z\n     \
                      BEGAN     LASTED\n      \
                      +0µs      2.34s  job flow ok\n    \
                    +1.5ms             └ run flow (not over)\n    \
                    +1.20s     42.1ms    ├ model.infer default allow\n    \
                    +1.25s      900µs    │ └ model default ok\n    \
                    +1.30s               └ {long}…"
            )
        );
        assert!(lines(&tree, usize::MAX)[6].ends_with("✗ deny: not-granted"));
    }
}
