//! How plans, findings and meshes are shown: text, JSON, Markdown and the page.

pub mod bars;
mod fields;
pub mod format;
pub mod health;
pub mod markdown;
mod markdown_security;
pub mod picture;
pub mod plan_json;
pub mod plan_schema;
mod security;
mod spans;
pub mod text;
