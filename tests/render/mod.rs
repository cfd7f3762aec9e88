//! Rendering: goldens, stages, laws, and three YAML parsers that agree.

mod golden;
mod laws;
mod parsers;
mod world;
