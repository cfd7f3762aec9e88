//! What becomes of a file.

use serde::Serialize;

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// `+`
    Create,
    /// `~`
    Update,
    /// `-`
    Delete,
}

impl Action {
    /// What becomes of a file, by what was there and what is; `None`: nothing.
    pub(crate) fn between(before: Option<&[u8]>, after: Option<&[u8]>) -> Option<Self> {
        match (before, after) {
            (None, Some(_)) => Some(Self::Create),
            (Some(_), None) => Some(Self::Delete),
            (Some(before), Some(after)) => (before != after).then_some(Self::Update),
            (None, None) => None,
        }
    }

    /// Its sign in the text form.
    pub fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Delete => '-',
        }
    }
}
