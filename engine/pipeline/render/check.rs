//! What is checked of rendered texts before anybody sees them.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::types::diagnostic::{Diagnostic, Diagnostics};

/// A value that could not be written, or does not read back as what it was.
pub(super) fn internal(error: impl fmt::Display) -> Diagnostics {
    Diagnostics::from(Diagnostic::error(None, error.to_string()))
}

/// Checks that another parser reads the text as the model it was written from.
pub(super) fn check_reads_back<T: Serialize>(model: &T, text: &str, what: &str) -> Result<(), Diagnostics> {
    let wanted = serde_json::to_value(model).map_err(internal)?;
    match serde_yaml::from_str::<Value>(text) {
        Ok(read) if read == wanted => Ok(()),
        Ok(_) => Err(internal(format!("{what} does not read back as it was meant, so it is not written"))),
        Err(error) => Err(internal(format!("{what} does not read back, so it is not written: {error}"))),
    }
}
