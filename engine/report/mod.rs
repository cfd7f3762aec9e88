//! How plans, findings and meshes are shown: text, JSON, Markdown and the page.

pub mod bars;
pub mod format;
pub mod health;
pub mod markdown;
pub mod picture;
pub mod text;
