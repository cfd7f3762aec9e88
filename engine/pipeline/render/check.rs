//! What is checked of rendered texts before anyone sees them.

use std::cell::RefCell;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::pipeline::render::finding::{NotWritable, RenderFinding};
use crate::types::diagnostic::{Diagnostic, Diagnostics};
use crate::types::object::to_yaml;
use crate::types::recent::Recent;

/// A value that could not be written.
pub(super) fn internal(error: impl Into<NotWritable>) -> Diagnostics {
    found(&RenderFinding::NotWritable(&error.into()))
}

fn found(what: &RenderFinding<'_>) -> Diagnostics {
    Diagnostics::from(Diagnostic::error(None, what))
}

thread_local! {
    /// By the type of the value and its JSON.
    static CHECKED: RefCell<Recent<Arc<str>>> = RefCell::default();
}

/// A value as YAML, which another parser reads as the same value. What was checked is known for the next run.
pub(super) fn checked<T: Serialize>(model: &T, what: &'static str) -> Result<String, Diagnostics> {
    let mut key = std::any::type_name::<T>().as_bytes().to_vec();
    serde_json::to_writer(&mut key, model).map_err(internal)?;
    if let Some(known) = CHECKED.with_borrow(|checked| checked.get(&key)) {
        return Ok(known.as_ref().to_owned());
    }
    let text = to_yaml(model).map_err(internal)?;
    check_reads_back(model, &text, what)?;
    CHECKED.with_borrow_mut(|checked| checked.insert(&key, text.as_str().into()));
    Ok(text)
}

/// Checks that another parser reads the text as the model it was written from.
fn check_reads_back<T: Serialize>(model: &T, text: &str, what: &'static str) -> Result<(), Diagnostics> {
    let wanted = serde_json::to_value(model).map_err(internal)?;
    match serde_yaml::from_str::<Value>(text) {
        Ok(read) if read == wanted => Ok(()),
        Ok(_) => Err(found(&RenderFinding::ReadsOtherwise { what })),
        Err(error) => Err(found(&RenderFinding::Unreadable { what, error: &error })),
    }
}
