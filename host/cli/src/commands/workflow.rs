//! `handshake workflow`: looks at workflow files without running them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use super::run::read_workflow;
use crate::access::Need;
use crate::api::workflows::{Graph, GraphStep};
use crate::error::{CliError, Exit};

/// `handshake workflow …`
#[derive(Debug, Subcommand)]
pub(crate) enum WorkflowCommand {
    /// Checks a workflow: syntax, graph, expressions, plugins, capabilities
    Check(CheckArgs),
    /// Draws the steps and what they need
    Graph(GraphArgs),
}

/// Arguments of `handshake workflow check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The workflow: YAML, TOML or JSON
    file: PathBuf,
}

/// Arguments of `handshake workflow graph`.
#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// The workflow: YAML, TOML or JSON
    file: PathBuf,
    /// The form of the drawing
    #[arg(long, value_enum, default_value = "text")]
    format: Drawing,
}

/// Forms of a drawing.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Drawing {
    /// Lines, in an order that could be run
    Text,
    /// Mermaid flowchart
    Mermaid,
    /// Graphviz
    Dot,
}

/// Checks or draws.
pub(crate) async fn workflow(context: &Context<'_>, command: &WorkflowCommand) -> Result<Exit, CliError> {
    let file = match command {
        WorkflowCommand::Check(args) => &args.file,
        WorkflowCommand::Graph(args) => &args.file,
    };
    let text = read_workflow(file)?;
    let access = context.access(Need::Answers).await?;
    let checked = access.post::<Graph>("/api/v1/workflows/check", &text).await;
    let graph = access.finish(context.output, checked).await?;
    let output = context.output;
    if output.is_json() {
        output.json(&graph)?;
        return Ok(Exit::Done);
    }
    match command {
        WorkflowCommand::Check(args) => {
            if !output.quiet {
                output.line(&format!(
                    "{}: workflow `{}` is fine: {} steps",
                    args.file.display(),
                    graph.name,
                    graph.steps.len()
                ))?;
                output.table(&["STEP", "PLUGIN", "NEEDS", "GRANTS"], graph.ordered().map(row).collect())?;
            }
        }
        WorkflowCommand::Graph(args) => output.lines(&match args.format {
            Drawing::Text => text_drawing(&graph),
            Drawing::Mermaid => mermaid(&graph),
            Drawing::Dot => dot(&graph),
        })?,
    }
    Ok(Exit::Done)
}

impl Graph {
    fn ordered(&self) -> impl Iterator<Item = &GraphStep> {
        self.order.iter().filter_map(|id| self.steps.iter().find(|step| step.id == *id))
    }
}

fn row(step: &GraphStep) -> Vec<String> {
    let list = |items: &[String]| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    vec![step.id.clone(), step.plugin.clone(), list(&step.needs), list(&step.grants)]
}

/// What is special about a step, in words.
fn remarks(step: &GraphStep) -> String {
    let mut text = String::new();
    if let Some(list) = &step.for_each {
        text.push_str(&format!("  for each of {list}"));
    }
    if let Some(condition) = &step.when {
        text.push_str(&format!("  when {condition}"));
    }
    text
}

fn text_drawing(graph: &Graph) -> String {
    let mut text = format!("{}\n", graph.name);
    for step in graph.ordered() {
        let needs = if step.needs.is_empty() { String::new() } else { format!("  <- {}", step.needs.join(", ")) };
        text.push_str(&format!("  {} ({}){needs}{}\n", step.id, step.plugin, remarks(step)));
    }
    text
}

fn mermaid(graph: &Graph) -> String {
    // Step ids may hold dashes, which Mermaid's own ids do not all understand, so nodes are numbered.
    let number = |id: &str| graph.steps.iter().position(|step| step.id == id).unwrap_or_default();
    let mut text = "flowchart TD\n".to_owned();
    for step in graph.ordered() {
        let many = if step.for_each.is_some() { " (each)" } else { "" };
        text.push_str(&format!("  s{}[\"{}{many}<br/>{}\"]\n", number(&step.id), step.id, step.plugin));
    }
    for step in graph.ordered() {
        let arrow = if step.when.is_some() { "-.->" } else { "-->" };
        for need in &step.needs {
            text.push_str(&format!("  s{} {arrow} s{}\n", number(need), number(&step.id)));
        }
    }
    text
}

fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = format!("digraph {} {{\n  rankdir=TB; node [shape=box];\n", quoted(&graph.name));
    for step in graph.ordered() {
        text.push_str(&format!(
            "  {} [label={}];\n",
            quoted(&step.id),
            quoted(&format!("{} ({})", step.id, step.plugin))
        ));
    }
    for step in graph.ordered() {
        let style = if step.when.is_some() { " [style=dashed]" } else { "" };
        for need in &step.needs {
            text.push_str(&format!("  {} -> {}{style};\n", quoted(need), quoted(&step.id)));
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let step = |id: &str, needs: &[&str], when: Option<&str>| GraphStep {
            id: id.into(),
            uses: Some("p".into()),
            plugin: "p@0.1.0".into(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            when: when.map(str::to_owned),
            for_each: None,
            grants: vec!["fs.read:in".into()],
        };
        Graph {
            name: "demo \"x\"".into(),
            steps: vec![step("sign-off", &["read"], Some("1 > 0")), step("read", &[], None)],
            order: vec!["read".into(), "sign-off".into()],
        }
    }

    #[test]
    fn the_graph_is_drawn_in_three_forms() {
        insta::assert_snapshot!(text_drawing(&graph()), @r#"
        demo "x"
          read (p@0.1.0)
          sign-off (p@0.1.0)  <- read  when 1 > 0
        "#);
        insta::assert_snapshot!(mermaid(&graph()), @r#"
        flowchart TD
          s1["read<br/>p@0.1.0"]
          s0["sign-off<br/>p@0.1.0"]
          s1 -.-> s0
        "#);
        insta::assert_snapshot!(dot(&graph()), @r#"
        digraph "demo \"x\"" {
          rankdir=TB; node [shape=box];
          "read" [label="read (p@0.1.0)"];
          "sign-off" [label="sign-off (p@0.1.0)"];
          "read" -> "sign-off" [style=dashed];
        }
        "#);
    }
}
