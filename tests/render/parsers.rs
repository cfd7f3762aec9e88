//! Three parsers.
