//! What of an object of the apiserver's the agent applied: the fields that are noted as those of its field manager.
//!
//! All else was added by others, by defaults or by the apiserver, and is not compared with what is rendered.

use serde_json::{Map, Value};

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
    use serde_json::json;

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
}
