//! What an expression names, and whether it may: found by walking its syntax tree before anything is evaluated.

use std::collections::BTreeSet;

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use handshake_core::StepId;

use crate::nearest::suggest;

/// The deepest syntax tree. Parsing and evaluation recurse, so this bounds the stack that they need.
const MAX_DEPTH: usize = 64;
/// The most nodes of a syntax tree, macros expanded.
const MAX_NODES: usize = 1_000;
/// How deep comprehensions (`all`, `exists`, `map`, `filter`) may be nested.
const MAX_NESTING: usize = 2;

/// The functions that expressions can call, apart from operators and macros.
pub(crate) const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "int",
    "matches",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
    "value",
];
const MACROS: &[&str] = &["all", "exists", "exists_one", "filter", "has", "map"];
const TYPES: &[&str] = &["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// What an expression names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// Inputs by name.
    pub(crate) inputs: BTreeSet<String>,
    /// Whether it names `inputs` as a whole.
    pub(crate) all_inputs: bool,
    /// Steps whose output it reads.
    pub(crate) steps: BTreeSet<StepId>,
    /// Whether it names `item` or `index`.
    pub(crate) item: bool,
    /// How deep its comprehensions are nested.
    pub(crate) nesting: usize,
    /// How deep its tree is.
    pub(crate) depth: usize,
}

/// A name or form that is not acceptable, with the text to point at.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) remedy: String,
    /// Id of the node in the tree, 0 when it is none in particular.
    pub(super) node: u64,
}

/// One step of a plain path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Field(String),
    At(i64),
}

/// An expression that is nothing but a way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlainPath {
    pub(crate) root: Root,
    pub(crate) rest: Vec<Segment>,
}

/// Where a path starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    Inputs,
    Output(StepId),
    Item,
    Index,
}

/// Collects references and refuses what is out of bounds.
pub(super) fn collect(root: &IdedExpr) -> Result<References, Refusal> {
    let mut walk = Walk { references: References::default(), bound: Vec::new(), nodes: 0, ranges: 0 };
    walk.visit(root, 0, 0)?;
    Ok(walk.references)
}

/// `operand.field` and `operand["field"]`, which mean the same.
fn selection(expr: &IdedExpr) -> Option<(&IdedExpr, &str)> {
    match &expr.expr {
        Expr::Select(select) => Some((&select.operand, &select.field)),
        Expr::Call(call) if call.func_name == "_[_]" => match call.args.as_slice() {
            [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] => {
                Some((operand, field.inner()))
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_ident(expr: &IdedExpr, name: &str) -> bool {
    matches!(&expr.expr, Expr::Ident(ident) if ident == name)
}

struct Walk {
    references: References,
    bound: Vec<String>,
    nodes: usize,
    /// How many ranges of comprehensions it is in.
    ranges: usize,
}

impl Walk {
    fn visit(&mut self, expr: &IdedExpr, depth: usize, nesting: usize) -> Result<(), Refusal> {
        let refuse = |what: String, remedy: String| Err(Refusal { what, remedy, node: expr.id });
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return refuse("the expression is too large".into(), "move the work into a step".into());
        }
        self.references.depth = self.references.depth.max(depth);
        let free = |name: &str| !self.bound.iter().any(|bound| bound == name);
        if let Some((operand, field)) = selection(expr) {
            if let Some((root, step)) = selection(operand)
                && is_ident(root, "steps")
                && free("steps")
            {
                if field != "output" {
                    return refuse(
                        format!("a step has no `{field}`"),
                        format!("only its output can be read: `steps.{step}.output`"),
                    );
                }
                return self.step(step, expr.id);
            }
            if is_ident(operand, "steps") && free("steps") {
                return refuse(
                    format!("`{field}` is a step, not a value"),
                    format!("read its output: `{}.output`", step_text(field)),
                );
            }
            if is_ident(operand, "inputs") && free("inputs") {
                self.references.inputs.insert(field.to_owned());
                return Ok(());
            }
        }
        match &expr.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.ident(name, expr.id),
            Expr::Select(select) => self.visit(&select.operand, depth + 1, nesting),
            Expr::Call(call) => {
                // The lists that go in are bounded; a sum of them would not be.
                if self.ranges > 0 && call.func_name == "_+_" {
                    return refuse(
                        "what a comprehension goes through cannot be a sum".into(),
                        "go through each list by itself, or move the work into a step".into(),
                    );
                }
                let named = call.func_name.starts_with(|c: char| c.is_ascii_alphabetic());
                if named && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    let known = FUNCTIONS.iter().chain(MACROS).copied();
                    return refuse(
                        format!("there is no function `{}`", call.func_name),
                        suggest(&call.func_name, "functions", known),
                    );
                }
                call.target
                    .iter()
                    .map(|target| &**target)
                    .chain(&call.args)
                    .try_for_each(|part| self.visit(part, depth + 1, nesting))
            }
            Expr::Comprehension(comprehension) => {
                let nesting = nesting + 1;
                if nesting > MAX_NESTING {
                    return refuse(
                        format!("comprehensions are nested more than {MAX_NESTING} deep"),
                        "move the work into a step".into(),
                    );
                }
                self.references.nesting = self.references.nesting.max(nesting);
                self.ranges += 1;
                self.visit(&comprehension.iter_range, depth + 1, nesting - 1)?;
                self.ranges -= 1;
                self.visit(&comprehension.accu_init, depth + 1, nesting)?;
                let before = self.bound.len();
                self.bound.extend([comprehension.iter_var.clone(), comprehension.accu_var.clone()]);
                self.bound.extend(comprehension.iter_var2.clone());
                for part in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
                    self.visit(part, depth + 1, nesting)?;
                }
                self.bound.truncate(before);
                Ok(())
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.visit(element, depth + 1, nesting)),
            Expr::Map(map) => self.entries(&map.entries, depth, nesting),
            Expr::Struct(_) => {
                refuse("expressions cannot build structures".into(), "write a map: `{\"key\": value}`".into())
            }
        }
    }

    fn entries(
        &mut self,
        entries: &[cel::common::ast::IdedEntryExpr],
        depth: usize,
        nesting: usize,
    ) -> Result<(), Refusal> {
        for entry in entries {
            match &entry.expr {
                EntryExpr::StructField(field) => self.visit(&field.value, depth + 1, nesting)?,
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, depth + 1, nesting)?;
                    self.visit(&entry.value, depth + 1, nesting)?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, id: &str, node: u64) -> Result<(), Refusal> {
        match StepId::new(id) {
            Ok(id) => {
                self.references.steps.insert(id);
                Ok(())
            }
            Err(error) => Err(Refusal { what: error.to_string(), remedy: "name a step of this workflow".into(), node }),
        }
    }

    fn ident(&mut self, name: &str, node: u64) -> Result<(), Refusal> {
        let refuse = |what: &str, remedy: String| Err(Refusal { what: what.to_owned(), remedy, node });
        if name.starts_with('@') || self.bound.iter().any(|bound| bound == name) || TYPES.contains(&name) {
            return Ok(());
        }
        match name {
            "inputs" => self.references.all_inputs = true,
            "item" | "index" => self.references.item = true,
            "steps" => {
                return refuse(
                    "`steps` must be followed by the name of a step",
                    "write `steps.read.output` or `steps[\"sign-off\"].output`".into(),
                );
            }
            _ => {
                let remedy = suggest(name, "names", ["inputs", "steps", "item", "index"]);
                return refuse(&format!("`{name}` is not defined"), remedy);
            }
        }
        Ok(())
    }
}

fn step_text(id: &str) -> String {
    if id.contains('-') || id.starts_with(|c: char| c.is_ascii_digit()) {
        format!("steps[\"{id}\"]")
    } else {
        format!("steps.{id}")
    }
}

/// The path that an expression is, if it is nothing else.
pub(super) fn plain_path(expr: &IdedExpr) -> Option<PlainPath> {
    let mut segments = Vec::new();
    let mut at = expr;
    let root = loop {
        match &at.expr {
            Expr::Ident(name) => break name.as_str(),
            Expr::Select(select) if select.test => return None,
            Expr::Call(call) if call.func_name == "_[_]" => {
                let [operand, IdedExpr { expr: Expr::Literal(literal), .. }] = call.args.as_slice() else {
                    return None;
                };
                segments.push(match literal {
                    LiteralValue::String(field) => Segment::Field(field.inner().to_owned()),
                    LiteralValue::Int(index) => Segment::At(*index.inner()),
                    _ => return None,
                });
                at = operand;
            }
            _ => {
                let (operand, field) = selection(at)?;
                segments.push(Segment::Field(field.to_owned()));
                at = operand;
            }
        }
    };
    segments.reverse();
    let root = match root {
        "item" => Root::Item,
        "index" => Root::Index,
        "inputs" => Root::Inputs,
        "steps" => {
            let [Segment::Field(id), Segment::Field(output), ..] = segments.as_slice() else { return None };
            if output != "output" {
                return None;
            }
            let id = StepId::new(id.clone()).ok()?;
            segments.drain(..2);
            Root::Output(id)
        }
        _ => return None,
    };
    Some(PlainPath { root, rest: segments })
}
