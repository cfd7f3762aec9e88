//! Kubernetes objects as the engine writes them: one canonical form, one file each.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::types::cause::Cause;
use crate::types::name::MeshName;
use crate::types::recent::Recent;
use crate::types::yaml::{MAX_OBJECT, value_of, value_of_file};

/// Label that names the tool; [`MANAGER`] in objects of ours.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The tool, as the label names it.
pub const MANAGER: &str = "isthmus";
/// Label of Kubernetes that names what an object is part of.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Label that names the mesh.
pub const MESH_LABEL: &str = "isthmus.dev/mesh";
/// Label that names the writer, [`OF_TREE`], [`OF_AGENT`] or [`OF_CLUSTER`]; each prunes only its own.
pub const OWNER_LABEL: &str = "isthmus.dev/owner";
/// The writer of the objects that are rendered into a checkout.
pub const OF_TREE: &str = "tree";
/// The writer of the objects that an agent applies in its own cluster.
pub const OF_AGENT: &str = "agent";
/// The writer of the objects that a role makes in its own cluster.
pub const OF_CLUSTER: &str = "cluster";
/// Annotation that lists the steps an object comes from.
pub const STEPS_ANNOTATION: &str = "isthmus.dev/steps";
/// Annotation with the SHA-256 of the public inputs of a secret.
pub const INPUTS_ANNOTATION: &str = "isthmus.dev/inputs";
/// Annotation that gives a remote secret made by hand to a mesh, by its name: ours takes its place.
pub const ADOPT_ANNOTATION: &str = "isthmus.dev/adopt";
/// Label by which istiod knows a remote secret.
pub const REMOTE_SECRET_LABEL: &str = "istio/multiCluster";
/// Annotation of a remote secret that names the cluster ID.
pub const CLUSTER_ANNOTATION: &str = "networking.istio.io/cluster";
/// Argo CD's ordering annotation.
pub const SYNC_WAVE: &str = "argocd.argoproj.io/sync-wave";

/// Which object: group and kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// API group; empty for core.
    pub group: String,
    /// Kind, for example `ConfigMap`.
    pub kind: String,
    /// Namespace; `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectId {
    /// The file's name below `rendered/<cluster>/`: `<kind>[.<group>]-<name>.yaml`, lower case.
    pub fn file_name(&self) -> String {
        let mut file = self.kind.to_ascii_lowercase();
        let dot = if self.group.is_empty() { "" } else { "." };
        for part in [dot, &self.group, "-", &self.name, ".yaml"] {
            file.push_str(part);
        }
        file
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A Kubernetes object as JSON, with at least `apiVersion`, `kind` and `metadata.name`.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata`, `spec`, `data` and so on: all but `apiVersion` and `kind`.
    pub fields: Map<String, Value>,
}

impl Object {
    /// An object from its whole JSON form. `None` when apiVersion, kind or metadata.name are missing or no texts.
    pub fn from_value(value: Value) -> Option<Self> {
        let Value::Object(mut fields) = value else {
            return None;
        };
        let (Value::String(api_version), Value::String(kind)) = (fields.remove("apiVersion")?, fields.remove("kind")?)
        else {
            return None;
        };
        fields.get("metadata")?.get("name")?.as_str()?;
        Some(Self { api_version, kind, fields })
    }

    /// The object's whole JSON form.
    pub fn to_value(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("apiVersion".to_owned(), Value::String(self.api_version.clone()));
        fields.insert("kind".to_owned(), Value::String(self.kind.clone()));
        Value::Object(fields)
    }

    /// Which object it is.
    pub fn id(&self) -> ObjectId {
        let text = |key: &str| self.metadata(key).and_then(Value::as_str).map(str::to_owned);
        ObjectId {
            group: self.api_version.split_once('/').map_or("", |(group, _)| group).to_owned(),
            kind: self.kind.clone(),
            namespace: text("namespace"),
            name: text("name").unwrap_or_default(),
        }
    }

    /// A field of `metadata`.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.fields.get("metadata")?.get(key)
    }

    /// The value of a label; `None` where it is absent or no string.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata("labels")?.get(key)?.as_str()
    }

    /// The value of an annotation; `None` where it is absent or no string.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata("annotations")?.get(key)?.as_str()
    }

    /// Whether the tree writer of this mesh wrote the object and may change or delete it.
    pub fn is_owned_by_tree_of(&self, mesh: &MeshName) -> bool {
        self.mesh_of_tree() == Some(mesh.as_str())
    }

    /// The mesh whose tree writer wrote the object; `None`: someone else wrote it.
    pub fn mesh_of_tree(&self) -> Option<&str> {
        let is_ours = self.label(MANAGED_BY) == Some(MANAGER) && self.label(OWNER_LABEL) == Some(OF_TREE);
        self.label(MESH_LABEL).filter(|_| is_ours)
    }

    /// Whether the object is a remote secret, as istiod reads them.
    pub fn is_remote_secret(&self) -> bool {
        self.is_secret() && self.label(REMOTE_SECRET_LABEL) == Some("true")
    }

    /// Whether it is a remote secret made by hand that someone gave to this mesh.
    pub fn is_given_to(&self, mesh: &MeshName) -> bool {
        self.is_remote_secret() && self.annotation(ADOPT_ANNOTATION) == Some(mesh.as_str())
    }

    /// Whether the object is a Secret, whose data is never shown.
    pub fn is_secret(&self) -> bool {
        self.kind == "Secret"
    }

    /// The canonical YAML text: apiVersion, kind and metadata first, then all keys sorted; no folded lines; every
    /// scalar that YAML 1.1 or 1.2 could take for something else quoted.
    pub fn to_yaml(&self) -> Result<String, YamlError> {
        to_yaml(self)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len() + 2))?;
        map.serialize_entry("apiVersion", &self.api_version)?;
        map.serialize_entry("kind", &self.kind)?;
        if let Some(metadata) = self.fields.get("metadata") {
            map.serialize_entry("metadata", metadata)?;
        }
        for (key, value) in &self.fields {
            if key != "metadata" {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// A value that could not be written as YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The serializer does not take it.
    #[error("cannot write YAML: {0}")]
    Write(Cause<serde_saphyr::ser::Error>),
    /// What was written before is no object any more.
    #[error("cannot write YAML: {id} does not read back")]
    NotReadBack { id: ObjectId },
}

/// Writes any value as YAML that YAML 1.1 and 1.2 readers take alike. Lines are never folded.
pub fn to_yaml<T: Serialize>(value: &T) -> Result<String, YamlError> {
    let write = |block: bool| {
        let options = serde_saphyr::ser_options! { folded_wrap_chars: 1_000_000, prefer_block_scalars: block };
        serde_saphyr::to_string_with_options(value, options).map_err(|error| YamlError::Write(error.into()))
    };
    let text = write(true)?;
    // A literal block that begins with a tab is read by some parsers and refused by libyaml: quotes then.
    if text.contains('\t') { write(false) } else { Ok(text) }
}

thread_local! {
    /// By the type of the value and its JSON.
    static WRITTEN: RefCell<Recent<Arc<str>>> = RefCell::default();
}

/// The same of a value of a run, which the next run most likely writes again. JSON is cheap to write, and says all of it.
pub(crate) fn to_yaml_again<T: Serialize>(value: &T) -> Result<String, YamlError> {
    let mut key = std::any::type_name::<T>().as_bytes().to_vec();
    if serde_json::to_writer(&mut key, value).is_err() {
        return to_yaml(value);
    }
    if let Some(known) = WRITTEN.with_borrow(|written| written.get(&key)) {
        return Ok(known.as_ref().to_owned());
    }
    let text = to_yaml(value)?;
    WRITTEN.with_borrow_mut(|written| written.insert(&key, text.as_str().into()));
    Ok(text)
}

/// The object of a file, if it is one.
pub fn parse(bytes: &[u8]) -> Option<Object> {
    Object::from_value(value_of(bytes, MAX_OBJECT).ok()?)
}

/// The same of a file of a checkout, which a run reads more than once.
pub(crate) fn parse_file(bytes: &[u8]) -> Option<Object> {
    Object::from_value(value_of_file(bytes, MAX_OBJECT).ok()?.as_ref().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Object {
        Object::from_value(json!({
            "data": { "b": "line one\nline two\n", "a": "no", "n": "012", "d": "2026-11-23" },
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": { "name": "isthmus-mesh", "namespace": "istio-system", "labels": { MANAGED_BY: "isthmus" } },
        }))
        .unwrap()
    }

    #[test]
    fn the_canonical_form_begins_with_kind_and_name() {
        insta::assert_snapshot!(sample().to_yaml().unwrap());
    }

    #[test]
    fn the_canonical_form_reads_back() {
        let yaml = sample().to_yaml().unwrap();
        let back: Value = serde_yaml::from_str(&yaml).unwrap();
        assert_eq!(Object::from_value(back).unwrap(), sample());
    }

    #[test]
    fn a_file_is_named_by_kind_group_and_name() {
        let mut object = sample();
        assert_eq!(object.id().file_name(), "configmap-isthmus-mesh.yaml");
        object.api_version = "apps/v1".into();
        object.kind = "Deployment".into();
        assert_eq!(object.id().file_name(), "deployment.apps-isthmus-mesh.yaml");
    }
}
