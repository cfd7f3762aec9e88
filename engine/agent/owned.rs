//! What of an object of the apiserver's the agent applied: the fields that are noted as those of its field manager.
//!
//! All else was added by others, by defaults or by the apiserver, and is not compared with what is rendered.

use serde_json::{Map, Value, json};

/// Field manager of the agent.
pub(super) const FIELD_MANAGER: &str = "isthmus";

/// The object with the fields alone that are ours; `None`: none is.
pub(super) fn owned(object: &Value) -> Option<Value> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let mut ours = entries.iter().filter(|entry| {
        entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)
            && entry.get("operation").and_then(Value::as_str) == Some("Apply")
            && entry.get("subresource").is_none()
    });
    let fields = ours.find_map(|entry| entry.get("fieldsV1")?.as_object())?;
    let mut kept = of_fields(object, fields);
    let Value::Object(map) = &mut kept else { return None };
    for field in ["apiVersion", "kind"] {
        map.insert(field.to_owned(), object.get(field)?.clone());
    }
    let Value::Object(metadata) = map.entry("metadata").or_insert_with(|| Map::new().into()) else { return None };
    for field in ["name", "namespace"] {
        if let Some(value) = object.get("metadata").and_then(|metadata| metadata.get(field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    Some(kept)
}

/// The writers of an object's fields once they are all the agent's; `None`: they are already. Those of a status stay.
pub(super) fn all_owned(object: &Value) -> Option<Value> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (of_parts, of_whole): (Vec<&Value>, Vec<&Value>) =
        entries.iter().partition(|entry| entry.get("subresource").is_some());
    let is_ours = |entry: &&Value| {
        entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)
            && entry.get("operation").and_then(Value::as_str) == Some("Apply")
    };
    if of_whole.len() == 1 && of_whole.iter().all(is_ours) {
        return None;
    }
    let mut fields = Map::new();
    for entry in of_whole {
        if let Some(more) = entry.get("fieldsV1").and_then(Value::as_object) {
            unite(&mut fields, more);
        }
    }
    let ours = json!({
        "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": object.get("apiVersion"),
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    });
    Some(std::iter::once(ours).chain(of_parts.into_iter().cloned()).collect())
}

/// Adds the fields of one set to another.
fn unite(fields: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, below) in more {
        match (fields.get_mut(key), below) {
            (Some(Value::Object(fields)), Value::Object(more)) => unite(fields, more),
            (Some(_), _) => {}
            (None, below) => drop(fields.insert(key.clone(), below.clone())),
        }
    }
}

/// The parts of a value that a set of fields names. Lists of ours are set as a whole.
fn of_fields(value: &Value, fields: &Map<String, Value>) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let named = fields.iter().filter_map(|(key, below)| Some((key.strip_prefix("f:")?, below.as_object()?)));
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        return value.clone();
    }
    let kept = named.into_iter().filter_map(|(key, below)| Some((key.to_owned(), of_fields(map.get(key)?, below))));
    Value::Object(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_agent_applied_is_its_own() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": { "mesh": "a", "other": "b" },
            "metadata": {
                "name": "isthmus-mesh", "namespace": "istio-system", "uid": "u", "resourceVersion": "7",
                "labels": { "isthmus.dev/owner": "agent", "team": "shop" },
                "managedFields": [
                    { "manager": "kubectl", "operation": "Update", "fieldsV1": { "f:data": { "f:other": {} } } },
                    { "manager": "isthmus", "operation": "Apply", "fieldsV1": {
                        "f:data": { ".": {}, "f:mesh": {} },
                        "f:metadata": { "f:labels": { "f:isthmus.dev/owner": {} } },
                    } },
                ],
            },
        });
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": { "mesh": "a" },
            "metadata": { "name": "isthmus-mesh", "namespace": "istio-system", "labels": { "isthmus.dev/owner": "agent" } },
        });
        assert_eq!(owned(&object), Some(expected));
        assert_eq!(owned(&json!({ "metadata": { "managedFields": [] } })), None);
    }

    #[test]
    fn what_others_wrote_is_taken_with_all_their_fields() {
        let entry = |manager: &str, operation: &str, fields: Value| json!({ "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields });
        let mut status = entry("istiod", "Update", json!({ "f:status": {} }));
        status["subresource"] = "status".into();
        let object = json!({ "apiVersion": "v1", "metadata": { "managedFields": [
            entry("argocd-controller", "Apply", json!({ "f:data": { "f:mesh": {} }, "f:metadata": { "f:labels": { "f:a": {} } } })),
            entry("isthmus", "Update", json!({ "f:metadata": { "f:labels": { "f:isthmus.dev/owner": {} } } })),
            status,
        ] } });
        let taken = all_owned(&object).unwrap();
        let fields = json!({ "f:data": { "f:mesh": {} }, "f:metadata": { "f:labels": { "f:a": {}, "f:isthmus.dev/owner": {} } } });
        assert_eq!(taken, json!([entry("isthmus", "Apply", fields), status]));
        assert_eq!(all_owned(&json!({ "metadata": { "managedFields": taken } })), None);
    }
}
