//! What an override must keep of the template it replaces.
#![deny(clippy::wildcard_enum_match_arm)]

use serde_json::{Map, Value};

use crate::types::object::{Object, ObjectId};
use crate::types::text::cut;

/// Most characters of a field's value that is asked for.
const LONGEST_VALUE: usize = 120;

/// Where an override breaks the model.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// It renders an object that the built-in template does not.
    #[error("the override renders `{id}`, which the built-in template does not")]
    Stranger {
        /// The object.
        id: ObjectId,
    },
    /// It does not render an object.
    #[error("the override does not render `{id}`")]
    Missing {
        /// The object.
        id: ObjectId,
    },
    /// It renders an object twice.
    #[error("the override renders `{id}` twice")]
    Twice {
        /// The object.
        id: ObjectId,
    },
    /// Another API version.
    #[error("`{id}` must have apiVersion `{wanted}`")]
    ApiVersion {
        /// Of which object.
        id: ObjectId,
        /// The one that is wanted.
        wanted: String,
    },
    /// Containers that run before the others.
    #[error("`{id}` must have no initContainers")]
    InitContainers {
        /// In which object.
        id: ObjectId,
    },
    /// More or fewer containers.
    #[error("`{id}` must have {wanted} container, and the override has {found}")]
    Containers {
        /// In which object.
        id: ObjectId,
        /// How many are wanted.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// An argument that is gone.
    #[error("the container of `{id}` must keep its argument {argument}")]
    Argument {
        /// In which object.
        id: ObjectId,
        /// The argument.
        argument: Value,
    },
    /// A field that is not as it was.
    #[error("`{field}` of `{id}` must stay as the built-in template has it: {}", shown(.wanted.as_ref()))]
    Field {
        /// In which object.
        id: ObjectId,
        /// The field.
        field: &'static str,
        /// Its value, when it has one.
        wanted: Option<Value>,
    },
    /// An entry with another value.
    #[error("the {part} of `{id}` must keep `{key}: {value}`")]
    Changed {
        /// In which object.
        id: ObjectId,
        /// In what of it.
        part: &'static str,
        /// The entry.
        key: String,
        /// Its value.
        value: Value,
    },
    /// An entry that is gone.
    #[error("the {part} of `{id}` lack `{key}: {value}`")]
    Lacking {
        /// In which object.
        id: ObjectId,
        /// In what of it.
        part: &'static str,
        /// The entry.
        key: String,
        /// Its value.
        value: Value,
    },
    /// A field that lifts a pod out of its confinement.
    #[error("`{id}` must not set `{key}: {value}`")]
    Confinement {
        /// In which object.
        id: ObjectId,
        /// The field.
        key: String,
        /// Its value.
        value: Value,
    },
}

impl Broken {
    /// A word of the line that is wrong.
    pub(super) fn near(&self) -> &str {
        match self {
            Self::Stranger { id } | Self::Twice { id } => &id.name,
            Self::Missing { .. } => "kind:",
            Self::ApiVersion { .. } => "apiVersion",
            Self::InitContainers { .. } => "initContainers",
            Self::Containers { .. } => "containers",
            Self::Argument { .. } => "args",
            Self::Field { field, .. } => field,
            Self::Changed { key, .. } | Self::Lacking { key, .. } | Self::Confinement { key, .. } => key,
        }
    }
}

/// A field's value, fit for a message.
fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "none".to_owned(), Value::to_string);
    cut(&text, LONGEST_VALUE).into_owned()
}

/// Fields that lift a pod out of its confinement, with the values that are harmless.
const CONFINEMENT: [(&str, &[&str]); 11] = [
    ("hostNetwork", &["false"]),
    ("hostPID", &["false"]),
    ("hostIPC", &["false"]),
    ("hostPath", &[]),
    ("hostPort", &["0"]),
    ("privileged", &["false"]),
    ("allowPrivilegeEscalation", &["false"]),
    ("procMount", &["\"Default\""]),
    ("hostUsers", &["false"]),
    ("runAsNonRoot", &["true"]),
    ("runAsUser", &["65532"]),
];

/// Whether the objects keep the model of those that are wanted.
pub(super) fn keeps(wanted: &[Object], objects: &[Object]) -> Result<(), Box<Broken>> {
    for object in objects {
        if !wanted.iter().any(|wanted| wanted.id() == object.id()) {
            return Err(Box::new(Broken::Stranger { id: object.id() }));
        }
    }
    for wanted in wanted {
        let id = wanted.id();
        let mut same = objects.iter().filter(|object| object.id() == id);
        match (same.next(), same.next()) {
            (Some(object), None) => keeps_one(wanted, object)?,
            (None, _) => return Err(Box::new(Broken::Missing { id })),
            (Some(_), Some(_)) => return Err(Box::new(Broken::Twice { id })),
        }
    }
    Ok(())
}

fn keeps_one(wanted: &Object, object: &Object) -> Result<(), Box<Broken>> {
    let id = wanted.id();
    if wanted.api_version != object.api_version {
        return Err(Box::new(Broken::ApiVersion { id, wanted: wanted.api_version.clone() }));
    }
    let labels = wanted.metadata("labels").unwrap_or(&Value::Null);
    covers(labels, object.metadata("labels"), "labels", &id)?;
    // Rights are not a matter of taste.
    for field in ["rules", "subjects", "roleRef"] {
        same(wanted.fields.get(field), object.fields.get(field), field, &id)?;
    }
    let spec = |object: &Object, path: &str| object.fields.get("spec").and_then(|spec| spec.pointer(path)).cloned();
    for (path, field) in [("/selector", "selector"), ("/podSelector", "podSelector"), ("/policyTypes", "policyTypes")] {
        same(spec(wanted, path).as_ref(), spec(object, path).as_ref(), field, &id)?;
    }
    if let Some(template) = spec(wanted, "/template") {
        keeps_pod(&template, &spec(object, "/template").unwrap_or(Value::Null), &id)?;
    }
    confined(&Value::Object(object.fields.clone()), &id)
}

fn keeps_pod(wanted: &Value, pod: &Value, id: &ObjectId) -> Result<(), Box<Broken>> {
    let at = |value: &Value, path: &str| value.pointer(path).cloned().unwrap_or(Value::Null);
    let part = |path: &str, part: &'static str| covers(&at(wanted, path), pod.pointer(path), part, id);
    part("/metadata/labels", "pod labels")?;
    part("/spec/securityContext", "securityContext")?;
    let account = "/spec/serviceAccountName";
    same(wanted.pointer(account), pod.pointer(account), "serviceAccountName", id)?;
    let containers = |pod: &Value, list: &str| pod.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
    if !containers(pod, "/spec/initContainers").is_empty() {
        return Err(Box::new(Broken::InitContainers { id: id.clone() }));
    }
    let (before, after) = (containers(wanted, "/spec/containers"), containers(pod, "/spec/containers"));
    if before.len() != after.len() {
        return Err(Box::new(Broken::Containers { id: id.clone(), wanted: before.len(), found: after.len() }));
    }
    for (wanted, container) in before.iter().zip(&after) {
        for field in ["name", "image", "command", "ports"] {
            same(wanted.get(field), container.get(field), field, id)?;
        }
        covers(&at(wanted, "/securityContext"), container.get("securityContext"), "securityContext", id)?;
        let given = containers(container, "/args");
        if let Some(argument) = containers(wanted, "/args").into_iter().find(|arg| !given.contains(arg)) {
            return Err(Box::new(Broken::Argument { id: id.clone(), argument }));
        }
    }
    Ok(())
}

fn same(wanted: Option<&Value>, found: Option<&Value>, field: &'static str, id: &ObjectId) -> Result<(), Box<Broken>> {
    if wanted == found {
        return Ok(());
    }
    Err(Box::new(Broken::Field { id: id.clone(), field, wanted: wanted.cloned() }))
}

/// Every field that is wanted is there with its value; more may be there.
fn covers(wanted: &Value, found: Option<&Value>, part: &'static str, id: &ObjectId) -> Result<(), Box<Broken>> {
    let empty = Map::new();
    let found = found.and_then(Value::as_object).unwrap_or(&empty);
    for (key, value) in wanted.as_object().into_iter().flatten() {
        match found.get(key) {
            Some(found) if found == value => {}
            Some(_) => {
                return Err(Box::new(Broken::Changed { id: id.clone(), part, key: key.clone(), value: value.clone() }));
            }
            None => {
                return Err(Box::new(Broken::Lacking { id: id.clone(), part, key: key.clone(), value: value.clone() }));
            }
        }
    }
    Ok(())
}

fn confined(value: &Value, id: &ObjectId) -> Result<(), Box<Broken>> {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let harmless = CONFINEMENT.iter().find(|(field, _)| field == key).map(|(_, harmless)| *harmless);
                if harmless.is_some_and(|harmless| !harmless.contains(&value.to_string().as_str())) {
                    return Err(Box::new(Broken::Confinement {
                        id: id.clone(),
                        key: key.clone(),
                        value: value.clone(),
                    }));
                }
                confined(value, id)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| confined(item, id)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}
