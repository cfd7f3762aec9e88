//! What users write: the documents below `specs/`, field by field, each value with its place.
//!
//! 1. `tree` turns text into documents whose nodes know their places,
//! 2. `read` turns nodes into values and collects what is wrong,
//! 3. `document` knows the fields of each kind, and makes of them what is `declared`,
//! 4. [`schema`](schema()) says the same as JSON Schema.
//!
//! References between documents, defaults and rules across clusters are [`compile`](crate::pipeline::compile)'s.

mod declared;
mod document;
mod finding;
mod policy;
mod read;
mod schema;
mod tree;

pub use crate::spec::declared::{
    AllowSpec, CaSpec, ClusterSpec, EngineKeySpec, IstioSpec, MeshSpec, MulticlusterSpec, Pair, PeerSpec, PinSpec,
    ShareSpec, SourceFile, Spec,
};
pub use crate::spec::document::{API as API_VERSION, DECKHOUSE_API as DECKHOUSE_API_VERSION};
pub(crate) use crate::spec::policy::parse_policy;
pub use crate::spec::read::At;
pub use crate::spec::schema::{policy_schema, schema};
pub use crate::spec::tree::MAX_FILE;

use crate::types::diagnostic::Diagnostics;

/// Reads all documents. All findings of all files come at once, each with its place and the line it is in.
pub fn parse(sources: &[SourceFile]) -> Result<Spec, Diagnostics> {
    let spec = parse_all(sources);
    if spec.findings.has_errors() { Err(spec.findings) } else { Ok(spec) }
}

/// The same, with what could be read in spite of errors, so that the next stage finds its own at once.
pub(crate) fn parse_all(sources: &[SourceFile]) -> Spec {
    let mut spec = Spec::default();
    let mut sorted: Vec<&SourceFile> = sources.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut all = Diagnostics::new();
    for SourceFile { path, bytes } in sorted {
        let mut findings = tree::FileFindings::new();
        match tree::text(path, bytes, &mut findings) {
            None => spec.partial = true,
            Some(text) => {
                let (documents, whole) = tree::documents(path, text, &mut findings);
                spec.partial |= !whole;
                for document in documents {
                    document::read(&document, &mut findings, &mut spec);
                }
            }
        }
        let findings = findings.into_inner();
        if findings.has_errors() {
            spec.flawed.insert(path.clone());
        }
        if bytes.len() <= MAX_FILE {
            spec.texts.add(path, bytes);
        }
        all.extend(findings);
    }
    let texts = std::mem::take(&mut spec.texts);
    all.excerpts(|at| texts.line(at));
    spec.texts = texts;
    spec.findings = all;
    spec
}
