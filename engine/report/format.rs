//! In which form a command prints its data.

use clap::ValueEnum;

/// Form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document with a version.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

impl Output {
    /// The value of `--output`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Markdown => "markdown",
        }
    }
}
