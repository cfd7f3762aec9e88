//! What is checked of rendered texts before anyone sees them.

use serde::Serialize;
use serde_json::Value;

use crate::pipeline::render::finding::{NotWritable, RenderFinding};
use crate::types::diagnostic::{Diagnostic, Diagnostics};

/// A value that could not be written.
pub(super) fn internal(error: impl Into<NotWritable>) -> Diagnostics {
    found(&RenderFinding::NotWritable(&error.into()))
}

fn found(what: &RenderFinding<'_>) -> Diagnostics {
    Diagnostics::from(Diagnostic::error(None, what))
}

/// Checks that another parser reads the text as the model it was written from.
pub(super) fn check_reads_back<T: Serialize>(model: &T, text: &str, what: &'static str) -> Result<(), Diagnostics> {
    let wanted = serde_json::to_value(model).map_err(internal)?;
    match serde_yaml::from_str::<Value>(text) {
        Ok(read) if read == wanted => Ok(()),
        Ok(_) => Err(found(&RenderFinding::ReadsOtherwise { what })),
        Err(error) => Err(found(&RenderFinding::Unreadable { what, error: &error })),
    }
}
