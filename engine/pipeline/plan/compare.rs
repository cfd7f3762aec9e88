//! Comparing what is rendered with the files of the tree, object by object.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::layout::{KUSTOMIZATION, is_yaml, rendered_folder, secret_file};
use crate::pipeline::plan::diff::{FieldChange, diff};
use crate::pipeline::plan::{Action, CompareRefusal, Foreigner, NewText, ObjectChange, Reason};
use crate::pipeline::render::{RenderedCluster, RenderedObject};
use crate::pipeline::tree::{File, Tree, TreeError};
use crate::types::name::{ClusterName, Digest, MeshName};
use crate::types::object::{MANAGED_BY, MESH_LABEL, Object, STEPS_ANNOTATION, YamlError, parse_file};
use crate::types::step::{StepId, StepKind};
use crate::types::text::same_lines;

/// What changes in one cluster's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterChanges {
    /// Objects, by the step they first belong to.
    pub objects: Vec<(StepId, ObjectChange)>,
    /// Files that are in the way.
    pub refused: Vec<(StepId, CompareRefusal)>,
}

/// Why a cluster could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Its folder cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An object cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

/// Compares what is rendered for a cluster with the files of its folder in the tree, by name.
pub fn compare(
    mesh: &MeshName,
    cluster: &ClusterName,
    rendered: &RenderedCluster,
    tree: &dyn Tree,
    files: &BTreeMap<String, File>,
) -> Result<ClusterChanges, CompareError> {
    let mut changes = ClusterChanges::default();
    let mut declared = BTreeSet::new();
    let folder = rendered_folder(cluster);
    let fallback = StepId::of(StepKind::RenderComponents, cluster);
    for rendered in &rendered.objects {
        let name = rendered.id().file_name();
        let note_same = || tree.mark_owned(cluster.as_str(), &name, &|| rendered.inputs());
        let made = match files.get(&name) {
            Some(File::Made { inputs_digest }) if rendered.inputs() != Some(*inputs_digest) => {
                tree.file(&format!("{folder}/{name}"))?.map(File::Read)
            }
            _ => None,
        };
        let found = compare_object(mesh, rendered, made.as_ref().or(files.get(&name)), &note_same)?;
        if found != FileComparison::Same {
            let step = first_step(&rendered.steps).unwrap_or_else(|| fallback.clone());
            let path = format!("{folder}/{name}");
            match found {
                FileComparison::Same => {}
                FileComparison::Foreign(owner) => changes.refused.push((step, CompareRefusal::Foreign { path, owner })),
                FileComparison::Changes { action, reason, digest, text } => {
                    let (object, text) = (rendered.id().to_string(), Some(NewText(text)));
                    changes.objects.push((step, ObjectChange { path, object, action, reason, digest, text }));
                }
            }
        }
        declared.insert(name);
    }
    for path in rendered.extra.keys() {
        let Some(name) = path.strip_prefix(&folder).and_then(|name| name.strip_prefix('/')) else { continue };
        if let Some(File::Read(bytes)) = files.get(name)
            && let Owner::Other(owner) = owner(mesh, bytes)
        {
            let refusal = CompareRefusal::Foreign { path: path.clone(), owner };
            changes.refused.push((fallback.clone(), refusal));
        }
        declared.insert(name.to_owned());
    }
    let waiting: BTreeSet<String> =
        rendered.waiting.iter().filter_map(|(step, _)| step.peer.as_ref().map(secret_file)).collect();
    let mut strangers = BTreeSet::new();
    for (name, file) in files.iter().filter(|(name, _)| !declared.contains(*name)) {
        let Some(bytes) = bytes_of(tree, &folder, name, file)? else { continue };
        let object = parse_file(&bytes);
        if let Some(object) = object.as_ref().filter(|object| object.is_owned_by_tree_of(mesh)) {
            if waiting.contains(name) {
                continue;
            }
            let change = ObjectChange {
                path: format!("{folder}/{name}"),
                object: object.id().to_string(),
                action: Action::Delete,
                reason: Reason::NoLongerDeclared,
                digest: Digest::of(&bytes),
                text: None,
            };
            changes.objects.push((steps_of(object).unwrap_or_else(|| fallback.clone()), change));
        } else if let Owner::Other(owner) = owner_of(mesh, object.as_ref()) {
            let refusal = CompareRefusal::Foreign { path: format!("{folder}/{name}"), owner };
            changes.refused.push((fallback.clone(), refusal));
            strangers.insert(name.as_str());
        }
    }
    if let Some(file) = files.get(KUSTOMIZATION) {
        let path = format!("{folder}/{KUSTOMIZATION}");
        let wanted = rendered.extra.get(&path).map(|file| file.text.as_bytes());
        let faults = match (file, wanted) {
            (File::Kept { digest, .. }, Some(wanted)) if *digest == Digest::of(wanted) => Vec::new(),
            (File::Read(bytes), Some(wanted)) if bytes == wanted => Vec::new(),
            _ => {
                let bytes = bytes_of(tree, &folder, KUSTOMIZATION, file)?.unwrap_or_default();
                let is_ours = |name: &str| !strangers.contains(name) && is_plain(name);
                faults_of_kustomization(&path, &bytes, &is_ours)
            }
        };
        if faults.is_empty() {
            tree.mark_owned(cluster.as_str(), KUSTOMIZATION, &|| None);
        }
        changes.refused.extend(faults.into_iter().map(|fault| (fallback.clone(), fault)));
    }
    Ok(changes)
}

/// Whether a text is the name of a YAML file and leads nowhere else.
fn is_plain(name: &str) -> bool {
    is_yaml(name) && !name.contains(['/', ':', '?']) && !name.starts_with('.')
}

/// What a list of files has that no run writes. One that is older than what is rendered names files of ours, and files that are
/// gone.
fn faults_of_kustomization(path: &str, bytes: &[u8], is_ours: &dyn Fn(&str) -> bool) -> Vec<CompareRefusal> {
    let Some(list) = parse_file(bytes) else { return Vec::new() };
    let field = |field: &str| CompareRefusal::FieldOfKustomization { path: path.to_owned(), field: field.to_owned() };
    let mut faults: Vec<CompareRefusal> = Vec::new();
    if list.kind != "Kustomization" {
        faults.push(field("kind"));
    }
    for (key, value) in &list.fields {
        match (key.as_str(), value) {
            ("metadata", _) => {}
            ("resources", Value::Array(entries)) => {
                let named = entries.iter().map(|entry| entry.as_str().map_or_else(|| entry.to_string(), str::to_owned));
                let strange = named.filter(|entry| !is_ours(entry));
                faults.extend(
                    strange.map(|entry| CompareRefusal::ListedByKustomization { path: path.to_owned(), entry }),
                );
            }
            (other, _) => faults.push(field(other)),
        }
    }
    faults
}

/// How an object compares with its file.
#[derive(PartialEq)]
enum FileComparison {
    Same,
    Changes {
        action: Action,
        reason: Reason,
        digest: Digest,
        text: String,
    },
    /// Someone else's file is in the way.
    Foreign(Foreigner),
}

/// Compares an object with its file. The text is not made where the file is known to hold what these inputs give.
fn compare_object(
    mesh: &MeshName,
    rendered: &RenderedObject,
    file: Option<&File>,
    note_same: &dyn Fn(),
) -> Result<FileComparison, YamlError> {
    match file {
        Some(File::Kept { inputs_digest: inputs_digest @ Some(_), .. }) if *inputs_digest == rendered.inputs() => {
            return Ok(FileComparison::Same);
        }
        Some(File::Made { .. }) => return Ok(FileComparison::Same),
        Some(File::Kept { .. } | File::Read(_)) | None => {}
    }
    let text = rendered.to_yaml()?;
    let digest = || Digest::of(text.as_bytes());
    let (action, reason, digest) = match file {
        Some(File::Read(bytes)) if bytes == text.as_bytes() => {
            note_same();
            return Ok(FileComparison::Same);
        }
        // git translated them
        Some(File::Read(bytes)) if same_lines(bytes, text.as_bytes()) => return Ok(FileComparison::Same),
        Some(File::Read(bytes)) => match owner(mesh, bytes) {
            Owner::Us => (Action::Update, Reason::Differs, digest()),
            Owner::Other(who) => return Ok(FileComparison::Foreign(who)),
        },
        Some(File::Kept { digest: kept, .. }) => match digest() {
            same if same == *kept => {
                note_same();
                return Ok(FileComparison::Same);
            }
            digest => (Action::Update, Reason::Differs, digest),
        },
        Some(File::Made { .. }) => return Ok(FileComparison::Same),
        None => (Action::Create, Reason::Missing, digest()),
    };
    Ok(FileComparison::Changes { action, reason, digest, text: text.into_owned() })
}

/// The bytes of a file of a cluster's folder; `None` when it is gone by now.
pub(super) fn bytes_of<'f>(
    tree: &dyn Tree,
    folder: &str,
    name: &str,
    file: &'f File,
) -> Result<Option<Cow<'f, [u8]>>, TreeError> {
    Ok(match file {
        File::Read(bytes) => Some(Cow::Borrowed(bytes)),
        File::Kept { .. } | File::Made { .. } => tree.file(&format!("{folder}/{name}"))?.map(Cow::Owned),
    })
}

fn first_step(steps: &[StepId]) -> Option<StepId> {
    steps.iter().min_by_key(|step| step.kind).cloned()
}

/// The step a written object belongs to, from its annotation.
fn steps_of(object: &Object) -> Option<StepId> {
    let list = object.annotation(STEPS_ANNOTATION)?;
    let steps: Vec<StepId> = list.split(',').filter_map(|step| step.trim().parse().ok()).collect();
    first_step(&steps)
}

enum Owner {
    Us,
    Other(Foreigner),
}

fn owner(mesh: &MeshName, bytes: &[u8]) -> Owner {
    owner_of(mesh, parse_file(bytes).as_ref())
}

fn owner_of(mesh: &MeshName, object: Option<&Object>) -> Owner {
    let Some(object) = object else {
        return Owner::Other(Foreigner::NoObject);
    };
    if object.is_owned_by_tree_of(mesh) || object.is_given_to(mesh) {
        return Owner::Us;
    }
    let label = |key| object.label(key).map(str::to_owned);
    let name = object.id().to_string();
    Owner::Other(match (label(MANAGED_BY), label(MESH_LABEL)) {
        (Some(tool), mesh) => Foreigner::Tool { object: name, tool, mesh },
        (None, _) => Foreigner::Unlabelled { object: name },
    })
}

/// The field-level differences of one changed object, from the file as it is and the object as it will be.
pub fn fields(before: Option<&[u8]>, after: Option<&Object>) -> Vec<FieldChange> {
    let before = before.and_then(parse_file);
    diff(before.as_ref(), after)
}
