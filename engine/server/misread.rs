//! What a body has to be whose bytes are changed on their way.

use serde_json::error::Category;

/// Why bytes cannot be changed on their way. None says what was found: it may be what no one is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misread {
    /// Not JSON.
    #[error("expected JSON, found something else")]
    Syntax,
    /// JSON of another shape.
    #[error("expected what was asked for, found JSON of another shape")]
    Shape,
    /// Not protobuf, or not of the kind that it should have.
    #[error("expected what was asked for in protobuf, found something else")]
    Protobuf,
    /// An object that is too long.
    #[error("expected at most {0} bytes of an object, found more")]
    TooLarge(usize),
    /// Beginnings of objects that together are too long.
    #[error("expected at most {0} bytes of objects that have not come whole, found more")]
    NoRoom(usize),
    /// The end came too early.
    #[error("it ended within an object")]
    Incomplete,
}

impl From<serde_json::Error> for Misread {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            Category::Data => Self::Shape,
            Category::Io | Category::Syntax | Category::Eof => Self::Syntax,
        }
    }
}
