//! Finds the line and column of a place such as `steps[2].with.text`, from the spans that the parsers report.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::problem::{InvalidWorkflow, Part, Place, Problem, Within, WorkflowError};
use super::source::{Format, WorkflowSource};

/// A value's span in bytes, and those of what it holds.
#[derive(Debug)]
struct Node {
    start: usize,
    end: usize,
    children: Children,
}

#[derive(Debug)]
enum Children {
    None,
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
}

/// Knows where everything in a file stands.
#[derive(Debug)]
pub(crate) struct Locator {
    file: String,
    text: String,
    root: Option<Node>,
}

impl Locator {
    /// Looks through a file. One that cannot be read has no places; everything is then at its beginning.
    pub(crate) fn of(source: &WorkflowSource) -> Self {
        let root = match source.format {
            Format::Toml => toml::de::DeTable::parse(&source.text).ok().map(|table| {
                let span = table.span();
                of_table(table.get_ref(), span)
            }),
            Format::Yaml | Format::Json => {
                serde_saphyr::from_str_with_options::<Spanned<YamlNode>>(&source.text, super::parse::yaml_options())
                    .ok()
                    .map(|node| of_yaml(&source.text, node))
            }
        };
        Self { file: source.file.clone(), text: source.text.clone(), root }
    }

    /// Turns a problem by place into one by line.
    pub(crate) fn locate(&self, problem: Problem) -> WorkflowError {
        let (line, column) = self.position(self.offset(&problem.place, problem.within.as_ref()));
        let what =
            if problem.place.0.is_empty() { problem.what } else { format!("{}: {}", problem.place, problem.what) };
        WorkflowError { file: self.file.clone(), line, column, what, remedy: problem.remedy }
    }

    /// Likewise for all of them.
    pub(crate) fn locate_all(&self, problems: Vec<Problem>) -> InvalidWorkflow {
        InvalidWorkflow::new(problems.into_iter().map(|problem| self.locate(problem)).collect())
    }

    fn offset(&self, place: &Place, within: Option<&Within>) -> usize {
        let Some(mut node) = self.root.as_ref() else { return 0 };
        for part in &place.0 {
            let child = match (part, &node.children) {
                (Part::Key(key), Children::Map(entries)) => {
                    entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
                }
                (Part::Index(index), Children::List(items)) => items.get(*index),
                _ => None,
            };
            match child {
                Some(child) => node = child,
                // What is missing is missing from its parent.
                None => return node.start,
            }
        }
        let written = self.text.get(node.start..node.end).unwrap_or_default();
        match within.and_then(|within| Some(written.find(&within.text)? + within.offset)) {
            Some(offset) => node.start + offset,
            None => node.start,
        }
    }

    fn position(&self, offset: usize) -> (u32, u32) {
        position(&self.text, offset)
    }
}

/// Line and column, from 1, of an offset in bytes; columns count characters.
pub(crate) fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

fn of_table(table: &toml::de::DeTable<'_>, span: std::ops::Range<usize>) -> Node {
    let entries = table.iter().map(|(key, value)| (key.get_ref().to_string(), of_value(value))).collect();
    Node { start: span.start, end: span.end, children: Children::Map(entries) }
}

fn of_value(value: &toml::Spanned<toml::de::DeValue<'_>>) -> Node {
    let span = value.span();
    match value.get_ref() {
        toml::de::DeValue::Table(table) => of_table(table, span),
        toml::de::DeValue::Array(items) => {
            Node { start: span.start, end: span.end, children: Children::List(items.iter().map(of_value).collect()) }
        }
        _ => Node { start: span.start, end: span.end, children: Children::None },
    }
}

/// Any YAML value, kept for its spans.
enum YamlNode {
    Scalar,
    Map(Vec<(String, Spanned<YamlNode>)>),
    List(Vec<Spanned<YamlNode>>),
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

macro_rules! scalars {
    ($($method:ident($kind:ty)),*) => {$(
        fn $method<E>(self, _: $kind) -> Result<Self::Value, E> {
            Ok(YamlNode::Scalar)
        }
    )*};
}

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = YamlNode;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    scalars!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_i128(i128),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str),
        visit_bytes(&[u8])
    );

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(YamlNode::Scalar)
    }
    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(YamlNode::Scalar)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        YamlNode::deserialize(deserializer)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| YamlNode::Scalar)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(YamlNode::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(YamlNode::Map(entries))
    }
}

fn of_yaml(text: &str, node: Spanned<YamlNode>) -> Node {
    // An alias is reported where it is used: that is what its author looks at.
    let start = offset_of(text, node.referenced);
    let length = node.referenced.span().byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let children = match node.value {
        YamlNode::Scalar => Children::None,
        YamlNode::Map(entries) => {
            Children::Map(entries.into_iter().map(|(key, value)| (key, of_yaml(text, value))).collect())
        }
        YamlNode::List(items) => Children::List(items.into_iter().map(|item| of_yaml(text, item)).collect()),
    };
    Node { start, end: (start + length).min(text.len()), children }
}

/// The offset in bytes of a location that the YAML parser reports.
pub(crate) fn offset_of(text: &str, location: serde_saphyr::Location) -> usize {
    if let Some(offset) = location.span().byte_offset().and_then(|offset| usize::try_from(offset).ok()) {
        return offset.min(text.len());
    }
    let line = usize::try_from(location.line()).unwrap_or(1).max(1);
    let column = usize::try_from(location.column()).unwrap_or(1).max(1);
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(offset, _)| offset)
}
