//! Merge patches, as an apiserver takes them.

use serde_json::{Value, json};

/// RFC 7396.
pub(crate) fn merged(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let map = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merged(map.entry(key).or_insert(Value::Null), value);
        }
    }
}
