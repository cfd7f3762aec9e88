//! YAML of others, within a budget: bytes, levels and values are counted while it is read, and reading takes time in proportion to
//! its length.
//!
//! Scalars are read by YAML's core schema, as Kubernetes' clients take them: `012` and `yes` are texts. A key that occurs
//! twice has its last value, as for istiod and kubectl.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::types::encoding::{NotText, decoded};
use crate::types::recent::Recent;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};
use serde_json::{Map, Number, Value};

/// Most bytes of a text that one person or one peer wrote.
pub const MAX_TEXT: usize = 64 << 10;
/// Most bytes of an object, or of a text in one; Kubernetes takes objects of 1.5 MiB.
pub const MAX_OBJECT: usize = 4 << 20;
/// Deepest nesting, with every alias written out.
const MAX_DEPTH: usize = 64;
/// Most values for each byte that may be read, with every alias written out.
const VALUES_PER_BYTE: usize = 1;

/// Why a text is not read as YAML. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlFault {
    /// It is too long.
    #[error("expected at most {most} bytes, found {bytes}")]
    TooLarge {
        bytes: usize,
        /// How many it may have.
        most: usize,
    },
    /// The bytes are no text.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// It is nested too deeply.
    #[error("line {line}: more than {MAX_DEPTH} levels are nested")]
    TooDeep { line: usize },
    /// Its aliases make too much of it.
    #[error("line {line}: aliases make more than {most} values of it")]
    TooManyValues {
        line: usize,
        /// How many values there may be.
        most: usize,
    },
    /// An alias of nothing, or of what holds it.
    #[error("line {line}: an alias names nothing that ends before it")]
    Alias { line: usize },
    /// A tag that is none of the core schema.
    #[error("line {line}: tags are not read")]
    Tag { line: usize },
    /// A key that is a list or a mapping.
    #[error("line {line}: expected a text as key, found a collection")]
    Key { line: usize },
    /// More than one document.
    #[error("line {line}: expected one document, found several")]
    Several {
        /// Where the second one begins.
        line: usize,
    },
    /// The parser found something wrong.
    #[error("line {line}: {}", kind)]
    Syntax { line: usize, kind: ErrorKind },
}

impl YamlFault {
    /// Whether there is more of it than is read, and not that it is wrong.
    pub(crate) fn is_beyond_budget(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::TooDeep { .. } | Self::TooManyValues { .. })
    }

    /// The line that is wrong.
    pub fn line(&self) -> usize {
        match self {
            Self::TooLarge { .. } | Self::NotText(_) => 1,
            Self::TooDeep { line }
            | Self::TooManyValues { line, .. }
            | Self::Alias { line }
            | Self::Tag { line }
            | Self::Key { line }
            | Self::Several { line }
            | Self::Syntax { line, .. } => *line,
        }
    }
}

/// A value, and its line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// From 1. For the value of a key, the key's.
    pub(crate) line: usize,
    pub(crate) content: Content,
    size: usize,
    depth: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Null, a flag, a number or a text.
    Scalar(Value),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

impl Node {
    pub(crate) fn into_value(self) -> Value {
        match self.content {
            Content::Scalar(value) => value,
            Content::List(items) => Value::Array(items.into_iter().map(Self::into_value).collect()),
            Content::Map(fields) => {
                Value::Object(fields.into_iter().map(|(key, node)| (key, node.into_value())).collect::<Map<_, _>>())
            }
        }
    }
}

/// The one value of a text; null of an empty one. `most` is how many bytes it may have.
pub fn value(text: &str, most: usize) -> Result<Value, YamlFault> {
    let mut documents = documents(text, most)?.into_iter();
    match (documents.next(), documents.next()) {
        (None, _) => Ok(Value::Null),
        (Some(one), None) => Ok(one.into_value()),
        (Some(_), Some(second)) => Err(YamlFault::Several { line: second.line }),
    }
}

/// The same of bytes.
pub(crate) fn value_of(bytes: &[u8], most: usize) -> Result<Value, YamlFault> {
    value(&decoded(bytes)?, most)
}

thread_local! {
    static READ: RefCell<Recent<Arc<Value>>> = RefCell::default();
}

/// The same of a file that is read more than once. One that cannot be read is read again.
pub(crate) fn value_of_file(bytes: &[u8], most: usize) -> Result<Arc<Value>, YamlFault> {
    if bytes.len() > most {
        return Err(YamlFault::TooLarge { bytes: bytes.len(), most });
    }
    if let Some(known) = READ.with_borrow(|read| read.get(bytes)) {
        return Ok(known);
    }
    let value = Arc::new(value_of(bytes, most)?);
    READ.with_borrow_mut(|read| read.insert(bytes, value.clone()));
    Ok(value)
}

pub(crate) fn documents(text: &str, most: usize) -> Result<Vec<Node>, YamlFault> {
    if text.len() > most {
        return Err(YamlFault::TooLarge { bytes: text.len(), most });
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { most: most.saturating_mul(VALUES_PER_BYTE), ..Builder::default() };
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| of_parser(&error))?;
        builder.event(event, span.start.line().max(1))?;
    }
    Ok(builder.documents)
}

fn of_parser(error: &ScanError) -> YamlFault {
    let line = error.marker().line().max(1);
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => YamlFault::TooDeep { line },
        kind => YamlFault::Syntax { line, kind: kind.clone() },
    }
}

/// Folds events into values, without recursion.
#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    values: usize,
    most: usize,
}

/// A collection whose end has not come yet.
struct Open {
    line: usize,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { fields: BTreeMap<String, Node>, pending: Option<(String, usize)> },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), YamlFault> {
        match event {
            Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = match tag {
                    // `1.10` as a key is a text
                    None if self.expects_key() => Value::String(text.into_owned()),
                    None => scalar(text.into_owned(), style == ScalarStyle::Plain),
                    Some(tag) if tag.is_yaml_core_schema_tag("str") => Value::String(text.into_owned()),
                    Some(tag)
                        if ["int", "float", "bool", "null"].iter().any(|name| tag.is_yaml_core_schema_tag(name)) =>
                    {
                        scalar(text.into_owned(), true)
                    }
                    Some(_) => return Err(YamlFault::Tag { line }),
                };
                self.put(Node { line, content: Content::Scalar(value), size: 1, depth: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                if tag.is_some_and(|tag| !tag.is_yaml_core_schema_tag("seq")) {
                    return Err(YamlFault::Tag { line });
                }
                self.open.push(Open { line, anchor, kind: OpenKind::List(Vec::new()) });
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                if tag.is_some_and(|tag| !tag.is_yaml_core_schema_tag("map")) {
                    return Err(YamlFault::Tag { line });
                }
                let kind = OpenKind::Map { fields: BTreeMap::new(), pending: None };
                self.open.push(Open { line, anchor, kind });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, anchor, kind }) = self.open.pop() else { return Ok(()) };
                let content = match kind {
                    OpenKind::List(items) => Content::List(items),
                    OpenKind::Map { fields, .. } => Content::Map(fields),
                };
                let add = |(size, depth): (usize, usize), node: &Node| (size + node.size, depth.max(node.depth + 1));
                let (size, depth) = match &content {
                    Content::List(items) => items.iter().fold((1, 1), add),
                    Content::Map(fields) => fields.values().fold((1, 1), add),
                    Content::Scalar(_) => (1, 1),
                };
                self.put(Node { line, content, size, depth }, anchor)
            }
            Event::Alias(id) => {
                // counted before it is copied
                let node = self.anchors.get(&id).ok_or(YamlFault::Alias { line })?;
                self.values = self.values.saturating_add(node.size);
                if self.values > self.most {
                    return Err(YamlFault::TooManyValues { line, most: self.most });
                }
                let node = Node { line, ..node.clone() };
                self.hang(node)
            }
            Event::UnresolvedAlias(_) => Err(YamlFault::Alias { line }),
            _ => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: OpenKind::Map { pending: None, .. }, .. }))
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), YamlFault> {
        self.values = self.values.saturating_add(1);
        if anchor != 0 {
            // an anchor keeps a copy, which costs what an alias costs
            self.values = self.values.saturating_add(node.size);
            if self.values > self.most {
                return Err(YamlFault::TooManyValues { line: node.line, most: self.most });
            }
            self.anchors.insert(anchor, node.clone());
        }
        self.hang(node)
    }

    fn hang(&mut self, node: Node) -> Result<(), YamlFault> {
        let line = node.line;
        if self.open.len() + node.depth > MAX_DEPTH {
            return Err(YamlFault::TooDeep { line });
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { fields, pending } => match pending.take() {
                Some((key, line)) => {
                    fields.insert(key, Node { line, ..node });
                }
                None => match node.content {
                    Content::Scalar(Value::String(key)) => *pending = Some((key, line)),
                    // by an alias, or with a tag
                    Content::Scalar(key) => *pending = Some((key.to_string(), line)),
                    Content::List(_) | Content::Map(_) => return Err(YamlFault::Key { line }),
                },
            },
        }
        Ok(())
    }
}

/// What a scalar means, by the core schema.
fn scalar(text: String, plain: bool) -> Value {
    if !plain {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(&text).map_or(Value::String(text), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') || unsigned.len() > 400 {
        return None;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            let positive = u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))?;
            return if text.starts_with('-') {
                0_i64.checked_sub_unsigned(positive).map(Number::from)
            } else {
                Some(positive.into())
            };
        }
    }
    let is_digits = unsigned.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits && unsigned.len() > 1 && unsigned.starts_with('0') {
        return None;
    }
    if is_digits {
        let positive = text.strip_prefix('+').unwrap_or(text);
        let whole = positive.parse::<u64>().map(Number::from).or_else(|_| positive.parse::<i64>().map(Number::from));
        if let Ok(whole) = whole {
            return Some(whole);
        }
    }
    let number: f64 = unsigned.parse().ok()?;
    Number::from_f64(if text.starts_with('-') { -number } else { number })
}
