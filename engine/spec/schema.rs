//! The JSON Schema of the documents.

/// JSON Schema (draft 2020-12) of one document below `specs/`.
pub fn schema() -> serde_json::Value {
    serde_json::json!({})
}
