//! Rendering: goldens, stages, laws, and three YAML parsers that agree.

mod components;
mod golden;
mod laws;
mod parsers;
pub(crate) mod world;
