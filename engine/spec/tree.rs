//! Text of a spec file → documents as trees in which every node knows its place.
//!
//! The steps: 1. limits and encodings, 2. merge-conflict markers, 3. the YAML parser's events, folded into trees.
//! A document that is broken is reported and left out; the next `---` starts afresh, so that one slip does not hide
//! the findings of the rest of the file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError};
use serde_json::{Map, Value};

use crate::spec::finding::{FoundValue, SpecFinding};
use crate::types::diagnostic::{Diagnostic, Diagnostics, Location};

/// Most bytes of one file.
pub const MAX_FILE: usize = 1 << 20;
/// Most nodes of one document, counted with every alias written out.
const MAX_NODES: usize = 200_000;
/// Deepest nesting; a spec needs 6.
const MAX_DEPTH: usize = 64;
/// Most findings of one file; more help no one.
const MAX_FINDINGS: usize = 100;

/// A node of a document. Aliases share the node they name.
#[derive(Debug)]
pub(super) struct DocumentNode {
    pub(super) at: Location,
    pub(super) content: NodeContent,
    /// Nodes in it, itself and every alias written out included.
    size: usize,
}

impl DocumentNode {
    /// The node as JSON. A text without quotes is what YAML 1.2 takes it for.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            NodeContent::Null => Value::Null,
            NodeContent::Scalar { text, plain: true } => match serde_json::from_str(text) {
                Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
                Ok(_) | Err(_) => Value::String(text.clone()),
            },
            NodeContent::Scalar { text, plain: false } => Value::String(text.clone()),
            NodeContent::List(items) => items.iter().map(|item| item.value()).collect(),
            NodeContent::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.value())).collect::<Map<_, _>>().into()
            }
        }
    }

    /// Whether it has keys.
    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.content, NodeContent::Map(_))
    }

    /// Whether it is this text.
    pub(super) fn is_text(&self, wanted: &str) -> bool {
        matches!(&self.content, NodeContent::Scalar { text, .. } if text == wanted)
    }
}

#[derive(Debug)]
pub(super) enum NodeContent {
    /// Nothing at all, `~` or `null`.
    Null,
    /// A text; `plain` when written without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Arc<DocumentNode>>),
    /// Entries in their order, keys unique.
    Map(Vec<MapEntry>),
}

#[derive(Debug)]
pub(super) struct MapEntry {
    pub(super) key: String,
    pub(super) key_at: Location,
    pub(super) value: Arc<DocumentNode>,
}

impl DocumentNode {
    /// What the node is, for a finding.
    pub(super) fn found(&self) -> FoundValue<'_> {
        match &self.content {
            NodeContent::Scalar { text, .. } => FoundValue::Text(text),
            NodeContent::Null | NodeContent::List(_) | NodeContent::Map(_) => FoundValue::Kind(self.kind()),
        }
    }

    /// What kind of node it is.
    pub(super) fn kind(&self) -> &'static str {
        match self.content {
            NodeContent::Null => "nothing",
            NodeContent::Scalar { .. } => "a single value",
            NodeContent::List(_) => "a list",
            NodeContent::Map(_) => "a mapping",
        }
    }
}

/// The findings of one file, with an end.
pub(super) struct FileFindings {
    findings: Diagnostics,
    count: usize,
}

impl FileFindings {
    pub(super) fn new() -> Self {
        Self { findings: Diagnostics::new(), count: 0 }
    }

    /// Whether further findings are of no use.
    pub(super) fn is_full(&self) -> bool {
        self.count > MAX_FINDINGS
    }

    /// Adds a finding; the one after the last is replaced by a word that there are more.
    pub(super) fn push(&mut self, finding: Diagnostic) {
        self.count += 1;
        if self.count <= MAX_FINDINGS {
            self.findings.push(finding);
        } else if self.count == MAX_FINDINGS + 1 {
            let file = finding.at.as_ref().map(|at| &*at.file);
            self.findings.push(Diagnostic::error(None, SpecFinding::TooManyFindings { file, most: MAX_FINDINGS }));
        }
    }

    pub(super) fn into_inner(self) -> Diagnostics {
        self.findings
    }
}

/// The text of a file, or the findings that forbid to read it as YAML.
pub(super) fn text<'a>(path: &Arc<str>, bytes: &'a [u8], findings: &mut FileFindings) -> Option<&'a str> {
    let place = |line, column| Location { file: path.clone(), line, column };
    let start = Some(place(1, 1));
    if bytes.len() > MAX_FILE {
        findings.push(Diagnostic::error(start, SpecFinding::FileTooLarge { bytes: bytes.len(), most: MAX_FILE }));
        return None;
    }
    if is_utf16(bytes) {
        findings.push(Diagnostic::error(start, SpecFinding::Utf16));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let before = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
            let (line, column) = end_of(&before);
            findings.push(Diagnostic::error(Some(place(line, column)), SpecFinding::NotUtf8));
            return None;
        }
    };
    if let Some((before, _)) = text.split_once('\0') {
        let (line, column) = end_of(before);
        findings.push(Diagnostic::error(Some(place(line, column)), SpecFinding::NulByte));
        return None;
    }
    let mut conflicts = 0;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("<<<<<<<") || (conflicts == 0 && line.starts_with(">>>>>>>")) {
            conflicts += 1;
            findings.push(Diagnostic::error(Some(place(at + 1, 1)), SpecFinding::MergeConflict));
        }
    }
    (conflicts == 0).then_some(text)
}

/// A byte order mark, or every other byte of the beginning zero.
fn is_utf16(bytes: &[u8]) -> bool {
    let zeros = |parity: usize| {
        let some = bytes.len() >= 4;
        some && bytes.iter().take(64).enumerate().all(|(at, &byte)| at % 2 != parity || byte == 0)
    };
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || zeros(0) || zeros(1)
}

/// Line and column after a text.
fn end_of(text: &str) -> (usize, usize) {
    let line = text.matches('\n').count() + 1;
    let last = text.rsplit('\n').next().unwrap_or_default();
    (line, last.chars().count() + 1)
}

/// The documents of a text, empty ones left out, and whether no broken one was.
pub(super) fn documents(path: &Arc<str>, text: &str, findings: &mut FileFindings) -> (Vec<Arc<DocumentNode>>, bool) {
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let (mut documents, mut whole) = (Vec::new(), true);
    let mut builder = TreeBuilder::new(path);
    while let Some(next) = parser.next_event() {
        let step = match next {
            Ok((Event::DocumentEnd, _)) => {
                documents.extend(builder.take_root());
                builder = TreeBuilder::new(path);
                continue;
            }
            Ok((event, span)) => builder.event(event, &span, findings),
            Err(error) => {
                findings.push(of_parser(path, text, &error));
                Err(UnreadableDocument)
            }
        };
        if step.is_err() {
            whole = false;
            builder = TreeBuilder::new(path);
            if findings.is_full() || !matches!(parser.proceed_next_document(), Ok(true)) {
                break;
            }
        }
    }
    documents.retain(|node| !matches!(node.content, NodeContent::Null));
    (documents, whole)
}

/// What the parser found wrong.
fn of_parser(path: &Arc<str>, text: &str, error: &ScanError) -> Diagnostic {
    let at = place(path, error.marker());
    let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    if let Some(column) = indent.chars().position(|c| c == '\t') {
        let at = Location { column: column + 1, ..at };
        return Diagnostic::error(Some(at), SpecFinding::Tab);
    }
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return Diagnostic::error(Some(at), SpecFinding::TooDeep { most: MAX_DEPTH });
    }
    Diagnostic::error(Some(at), SpecFinding::NotYaml(error.kind()))
}

fn place(path: &Arc<str>, mark: &Marker) -> Location {
    Location { file: path.clone(), line: mark.line().max(1), column: mark.col() + 1 }
}

/// The document cannot be read further.
struct UnreadableDocument;

/// Folds the events of one document into a tree, without recursion.
struct TreeBuilder {
    path: Arc<str>,
    open: Vec<OpenNode>,
    anchors: HashMap<usize, Arc<DocumentNode>>,
    root: Option<Arc<DocumentNode>>,
    size: usize,
}

/// A collection whose end has not come yet.
struct OpenNode {
    at: Location,
    anchor: usize,
    kind: OpenNodeKind,
}

enum OpenNodeKind {
    List(Vec<Arc<DocumentNode>>),
    Map { entries: Vec<MapEntry>, keys: BTreeMap<String, usize>, pending: Option<(String, Location, bool)> },
}

impl TreeBuilder {
    fn new(path: &Arc<str>) -> Self {
        Self { path: path.clone(), open: Vec::new(), anchors: HashMap::new(), root: None, size: 0 }
    }

    fn take_root(&mut self) -> Option<Arc<DocumentNode>> {
        self.root.take()
    }

    fn event(
        &mut self,
        event: Event<'_>,
        span: &granit_parser::Span,
        findings: &mut FileFindings,
    ) -> Result<(), UnreadableDocument> {
        let at = place(&self.path, &span.start);
        if let Some(tag) = event.tag()
            && !tag.is_yaml_core_schema_tag("str")
        {
            let tag = tag.original();
            findings.push(Diagnostic::error(Some(at.clone()), SpecFinding::Tag { tag: &tag }));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let content =
                    if null { NodeContent::Null } else { NodeContent::Scalar { text: text.into_owned(), plain } };
                self.put(DocumentNode { at, content, size: 1 }, anchor, findings)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(OpenNode { at, anchor, kind: OpenNodeKind::List(Vec::new()) });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                let kind = OpenNodeKind::Map { entries: Vec::new(), keys: BTreeMap::new(), pending: None };
                self.open.push(OpenNode { at, anchor, kind });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let content = match open.kind {
                    OpenNodeKind::List(items) => NodeContent::List(items),
                    OpenNodeKind::Map { entries, .. } => NodeContent::Map(entries),
                };
                let size = match &content {
                    NodeContent::List(items) => items.iter().map(|item| item.size).fold(1, usize::saturating_add),
                    NodeContent::Map(entries) => {
                        entries.iter().map(|e| e.value.size + 1).fold(1, usize::saturating_add)
                    }
                    NodeContent::Null | NodeContent::Scalar { .. } => 1,
                };
                self.put(DocumentNode { at: open.at, content, size }, open.anchor, findings)
            }
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some(node) => self.hang(node, &at, findings),
                None => self.no_alias(&at, &SpecFinding::AliasInside, findings),
            },
            Event::UnresolvedAlias(name) => self.no_alias(&at, &SpecFinding::AliasUnknown { name: &name }, findings),
            _ => Ok(()),
        }
    }

    fn no_alias(
        &mut self,
        at: &Location,
        why: &SpecFinding<'_>,
        findings: &mut FileFindings,
    ) -> Result<(), UnreadableDocument> {
        findings.push(Diagnostic::error(Some(at.clone()), why));
        self.hang(Arc::new(DocumentNode { at: at.clone(), content: NodeContent::Null, size: 1 }), at, findings)
    }

    fn put(
        &mut self,
        node: DocumentNode,
        anchor: usize,
        findings: &mut FileFindings,
    ) -> Result<(), UnreadableDocument> {
        let at = node.at.clone();
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.hang(node, &at, findings)
    }

    /// Hangs a finished node where it belongs. `at` is where it was written: that of the alias, when it is one.
    fn hang(
        &mut self,
        node: Arc<DocumentNode>,
        at: &Location,
        findings: &mut FileFindings,
    ) -> Result<(), UnreadableDocument> {
        if matches!(node.content, NodeContent::Scalar { .. } | NodeContent::Null) || node.at != *at {
            self.size = self.size.saturating_add(node.size);
        }
        if self.size > MAX_NODES {
            findings.push(Diagnostic::error(Some(at.clone()), SpecFinding::TooManyValues { most: MAX_NODES }));
            return Err(UnreadableDocument);
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.kind {
            OpenNodeKind::List(items) => items.push(node),
            OpenNodeKind::Map { entries, keys, pending } => match pending.take() {
                None => {
                    let (key, usable) = match &node.content {
                        NodeContent::Scalar { text, .. } => (text.clone(), true),
                        NodeContent::Null => ("null".to_owned(), true),
                        NodeContent::List(_) | NodeContent::Map(_) => (String::new(), false),
                    };
                    if !usable {
                        let found = FoundValue::Kind(node.kind());
                        findings.push(Diagnostic::error(Some(at.clone()), SpecFinding::KeyNotText { found }));
                    }
                    *pending = Some((key, at.clone(), usable));
                }
                Some((key, key_at, usable)) => {
                    let line = key_at.line;
                    if let Some(&first) = keys.get(&key).filter(|_| usable) {
                        let twice = SpecFinding::FieldTwice { key: &key, first };
                        findings.push(Diagnostic::error(Some(key_at), twice));
                    } else if usable {
                        keys.insert(key.clone(), line);
                        entries.push(MapEntry { key, key_at, value: node });
                    }
                }
            },
        }
        Ok(())
    }
}
