//! What an override must keep of the template it replaces.

use serde_json::{Map, Value};

use crate::types::object::Object;
use crate::types::text::cut;

/// Most characters of a field's value that is asked for.
const LONGEST_VALUE: usize = 120;

/// Where an override breaks the model.
#[derive(Debug)]
pub(super) struct Broken {
    /// What is wrong.
    pub(super) message: String,
    /// A word of the line that is wrong.
    pub(super) near: String,
}

fn broken<T>(message: String, near: &str) -> Result<T, Broken> {
    Err(Broken { message, near: near.to_owned() })
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
pub(super) fn keeps(wanted: &[Object], objects: &[Object]) -> Result<(), Broken> {
    for object in objects {
        if !wanted.iter().any(|wanted| wanted.id() == object.id()) {
            let id = object.id();
            return broken(format!("the override renders `{id}`, which the built-in template does not"), &id.name);
        }
    }
    for wanted in wanted {
        let id = wanted.id();
        let mut same = objects.iter().filter(|object| object.id() == id);
        match (same.next(), same.next()) {
            (Some(object), None) => keeps_one(wanted, object)?,
            (None, _) => return broken(format!("the override does not render `{id}`"), "kind:"),
            (Some(_), Some(_)) => return broken(format!("the override renders `{id}` twice"), &id.name),
        }
    }
    Ok(())
}

fn keeps_one(wanted: &Object, object: &Object) -> Result<(), Broken> {
    let id = wanted.id();
    if wanted.api_version != object.api_version {
        return broken(format!("`{id}` must have apiVersion `{}`", wanted.api_version), "apiVersion");
    }
    let labels = wanted.metadata("labels").unwrap_or(&Value::Null);
    covers(labels, object.metadata("labels"), &format!("labels of `{id}`"))?;
    // Rights are not a matter of taste.
    for field in ["rules", "subjects", "roleRef"] {
        same(wanted.fields.get(field), object.fields.get(field), field, &id.to_string())?;
    }
    let spec = |object: &Object, path: &str| object.fields.get("spec").and_then(|spec| spec.pointer(path)).cloned();
    for (path, field) in [("/selector", "selector"), ("/podSelector", "podSelector"), ("/policyTypes", "policyTypes")] {
        same(spec(wanted, path).as_ref(), spec(object, path).as_ref(), field, &id.to_string())?;
    }
    if let Some(template) = spec(wanted, "/template") {
        keeps_pod(&template, &spec(object, "/template").unwrap_or(Value::Null), &id.to_string())?;
    }
    confined(&Value::Object(object.fields.clone()), &id.to_string())
}

fn keeps_pod(wanted: &Value, pod: &Value, id: &str) -> Result<(), Broken> {
    let at = |value: &Value, path: &str| value.pointer(path).cloned().unwrap_or(Value::Null);
    let part = |path: &str, what: &str| covers(&at(wanted, path), pod.pointer(path), &format!("{what} of `{id}`"));
    part("/metadata/labels", "pod labels")?;
    part("/spec/securityContext", "securityContext")?;
    let account = "/spec/serviceAccountName";
    same(wanted.pointer(account), pod.pointer(account), "serviceAccountName", id)?;
    let containers = |pod: &Value, list: &str| pod.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
    if !containers(pod, "/spec/initContainers").is_empty() {
        return broken(format!("`{id}` must have no initContainers"), "initContainers");
    }
    let (before, after) = (containers(wanted, "/spec/containers"), containers(pod, "/spec/containers"));
    if before.len() != after.len() {
        return broken(
            format!("`{id}` must have {} container, and the override has {}", before.len(), after.len()),
            "containers",
        );
    }
    for (wanted, container) in before.iter().zip(&after) {
        for field in ["name", "image", "command", "ports"] {
            same(wanted.get(field), container.get(field), field, id)?;
        }
        covers(
            &at(wanted, "/securityContext"),
            container.get("securityContext"),
            &format!("securityContext of `{id}`"),
        )?;
        let given = containers(container, "/args");
        if let Some(lost) = containers(wanted, "/args").iter().find(|arg| !given.contains(arg)) {
            return broken(format!("the container of `{id}` must keep its argument {lost}"), "args");
        }
    }
    Ok(())
}

fn same(wanted: Option<&Value>, found: Option<&Value>, field: &str, id: &str) -> Result<(), Broken> {
    if wanted == found {
        return Ok(());
    }
    let wanted = wanted.map_or_else(|| "none".to_owned(), Value::to_string);
    let wanted = cut(&wanted, LONGEST_VALUE);
    broken(format!("`{field}` of `{id}` must stay as the built-in template has it: {wanted}"), field)
}

/// Every field that is wanted is there with its value; more may be there.
fn covers(wanted: &Value, found: Option<&Value>, what: &str) -> Result<(), Broken> {
    let empty = Map::new();
    let found = found.and_then(Value::as_object).unwrap_or(&empty);
    for (key, value) in wanted.as_object().into_iter().flatten() {
        match found.get(key) {
            Some(found) if found == value => {}
            Some(_) => return broken(format!("the {what} must keep `{key}: {value}`"), key),
            None => return broken(format!("the {what} lack `{key}: {value}`"), key),
        }
    }
    Ok(())
}

fn confined(value: &Value, id: &str) -> Result<(), Broken> {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let harmless = CONFINEMENT.iter().find(|(field, _)| field == key).map(|(_, harmless)| *harmless);
                if harmless.is_some_and(|harmless| !harmless.contains(&value.to_string().as_str())) {
                    return broken(format!("`{id}` must not set `{key}: {value}`"), key);
                }
                confined(value, id)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| confined(item, id)),
        _ => Ok(()),
    }
}
