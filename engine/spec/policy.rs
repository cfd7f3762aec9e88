//! `policy.yaml` → a [`Policy`], with all findings at once.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use crate::model::policy::{ImagePattern, Policy, Rule};
use crate::spec::declared::SourceFile;
use crate::spec::document::{API, FIRST_CONTACTS, RECONCILERS};
use crate::spec::finding::SpecFinding;
use crate::spec::read::{At, FieldReader, Fields};
use crate::spec::tree::{self, DocumentNode, FileFindings};
use crate::types::diagnostic::Diagnostics;
use crate::types::name::InvalidName;
use crate::types::token::Scope;

const KIND: &str = "Policy";
pub(super) const POLICY_DOCUMENT: &[&str] = &["apiVersion", "kind", "spec"];
pub(super) const POLICY: &[&str] = &["images", "clusters", "engineKeys", "firstContact", "rootChanges"];
/// What becomes of a root CA that a cluster publishes anew. Nothing is accepted unseen in this version, and a policy that states it
/// keeps saying it when another one offers more.
pub(super) const ROOT_CHANGES: &[(&str, ())] = &[("review", ())];
pub(super) const IMAGES: &[&str] = &["allow", "requireDigest"];
pub(super) const CLUSTERS: &[&str] =
    &["uuids", "hosts", "trustDomains", "rootCAs", "reconcilers", "namespaces", "scopes", "withoutEvidence"];

/// Reads a policy. Unknown fields are errors, as in specs; an empty list admits nothing.
pub(crate) fn parse_policy(source: &SourceFile) -> Result<Policy, Diagnostics> {
    let mut findings = FileFindings::new();
    let mut policy = None;
    if let Some(text) = tree::text(&source.path, &source.bytes, &mut findings) {
        let (documents, _) = tree::documents(&source.path, text, &mut findings);
        let mut reader = FieldReader { findings: &mut findings, lenient: false };
        match documents.as_slice() {
            [one] => policy = document(&mut reader, one),
            [] => {
                let at = crate::types::diagnostic::Location { file: source.path.clone(), line: 1, column: 1 };
                reader.error(&at, &SpecFinding::FieldMissing { field: "kind", of: "the policy" });
            }
            [_, second, ..] => reader.error(&second.at, &SpecFinding::OnePolicy),
        }
    }
    let mut findings = findings.into_inner();
    let lines: Vec<&str> = std::str::from_utf8(&source.bytes).unwrap_or_default().lines().collect();
    findings.excerpts(|at| lines.get(at.line.saturating_sub(1)).map(|line| (*line).to_owned()));
    match policy {
        Some(policy) if !findings.has_errors() => {
            Ok(Policy { text: String::from_utf8_lossy(&source.bytes).into_owned(), ..policy })
        }
        _ => Err(findings),
    }
}

fn document(reader: &mut FieldReader<'_>, node: &DocumentNode) -> Option<Policy> {
    let fields = reader.fields(node, "the policy", POLICY_DOCUMENT)?;
    let version = reader.required(&fields, "apiVersion");
    reader.choice(version, &[(API, ())]);
    let kind = reader.required(&fields, "kind");
    reader.choice(kind, &[(KIND, ())]);
    let spec = reader.required(&fields, "spec")?;
    let spec = reader.fields(spec, "the spec of a Policy", POLICY)?;
    let images = spec.get("images").and_then(|node| reader.fields(node, "images", IMAGES));
    let clusters = spec.get("clusters").and_then(|node| reader.fields(node, "clusters", CLUSTERS));
    let of = |fields: &Option<Fields<'_>>, key: &str| fields.as_ref().and_then(|fields| fields.get(key)).cloned();
    reader.choice(spec.get("rootChanges"), ROOT_CHANGES);
    let scopes = Scope::ALL.map(|scope| (scope.as_str(), scope));
    Some(Policy {
        text: String::new(),
        images: image_patterns(reader, of(&images, "allow").as_ref()),
        require_digest: reader.flag(of(&images, "requireDigest").as_ref()).map(rule),
        uuids: set(reader, of(&clusters, "uuids").as_ref()),
        hosts: reader.names(of(&clusters, "hosts").as_ref()).map(|names| rule(names.map(values))),
        trust_domains: set(reader, of(&clusters, "trustDomains").as_ref()),
        root_cas: set(reader, of(&clusters, "rootCAs").as_ref()),
        reconcilers: choices(reader, of(&clusters, "reconcilers").as_ref(), RECONCILERS),
        namespaces: set(reader, of(&clusters, "namespaces").as_ref()),
        scopes: choices(reader, of(&clusters, "scopes").as_ref(), &scopes),
        without_evidence: set(reader, of(&clusters, "withoutEvidence").as_ref()),
        engine_keys: set(reader, spec.get("engineKeys")),
        first_contact: reader.choice(spec.get("firstContact"), FIRST_CONTACTS).map(rule),
    })
}

fn rule<T>(At { value, at }: At<T>) -> Rule<T> {
    Rule { value, at }
}

fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|item| item.value).collect()
}

fn set<T: FromStr<Err = InvalidName> + Ord>(
    reader: &mut FieldReader<'_>,
    node: Option<&Arc<DocumentNode>>,
) -> Option<Rule<BTreeSet<T>>> {
    let names = reader.names(node)?;
    Some(rule(names.map(|names| values(names).into_iter().collect())))
}

fn choices<T: Copy + Ord>(
    reader: &mut FieldReader<'_>,
    node: Option<&Arc<DocumentNode>>,
    known: &[(&str, T)],
) -> Option<Rule<BTreeSet<T>>> {
    let items = reader.list(node)?;
    let choices = items.value.iter().filter_map(|item| reader.choice(Some(item), known));
    let choices = choices.map(|choice| choice.value).collect();
    Some(Rule { value: choices, at: items.at })
}

fn image_patterns(reader: &mut FieldReader<'_>, node: Option<&Arc<DocumentNode>>) -> Option<Rule<Vec<ImagePattern>>> {
    let items = reader.list(node)?;
    let mut patterns = Vec::new();
    for item in items.value {
        let Some(text) = reader.text(Some(item)) else { continue };
        match text.value.parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => reader.error(&text.at, &SpecFinding::ImagePattern { text: &text.value, error }),
        }
    }
    Some(Rule { value: patterns, at: items.at })
}
