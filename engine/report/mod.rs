//! How plans, findings and meshes are shown: text, JSON, Markdown and the page.

pub mod format;
pub mod markdown;
pub mod picture;
pub mod text;
