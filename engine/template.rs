//! Component templates: those compiled in, and the overrides of a checkout.

/// All component templates.
#[derive(Debug, Clone, Default)]
pub struct Templates {}

impl Templates {
    /// The templates that are compiled in.
    pub fn builtin() -> Self {
        Self::default()
    }
}
