//! What a watch cannot do.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::git::{InvalidAuthor, Uncommitted};
use crate::session::command_error::EndsCommand;
use crate::session::exit::Exit;
use crate::types::explanation::{Code, Explain, Explanation};

/// Most files that are named in a message.
const MOST_NAMED: usize = 3;

/// Why a watch does not begin, or ends a run.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(super) enum WatchError {
    /// A watch of one cluster.
    Narrowed,
    /// A history is wanted where there is none.
    NoWorkTree {
        /// The flag that wants it.
        flag: &'static str,
        /// Where the checkout lies.
        folder: PathBuf,
    },
    Author(#[source] InvalidAuthor),
    /// What is declared is not committed: nothing is written or committed until it is.
    NotCommitted {
        /// Files that differ from the checked out commit, by path.
        files: BTreeMap<String, Uncommitted>,
    },
    /// The remote does not take commits, whatever is tried.
    PushRejected {
        why: String,
    },
    /// Its pages cannot be served.
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
}

impl Explain for WatchError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Narrowed => Explanation::new(
                Code::InvalidArguments,
                "--cluster cannot be used here: a watch reconciles the whole mesh",
            )
            .hint("leave it out"),
            Self::NoWorkTree { flag, folder } => {
                let message = format!("{flag}: {} is not in a git work tree", folder.display());
                Explanation::new(Code::NotInGit, message).hint("`git init` or clone one there")
            }
            Self::Author(error) => {
                let Explanation { code, message, hint } = error.explanation();
                Explanation { code, message: format!("--author: {message}"), hint }
            }
            Self::NotCommitted { files } => {
                let named =
                    files.iter().take(MOST_NAMED).map(|(path, how)| format!("`{}` is {how}", path.escape_debug()));
                let named = named.collect::<Vec<_>>().join(", ");
                let more = match files.len().saturating_sub(MOST_NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let message = format!("waiting for a commit of what is declared: {named}{more}");
                let hint = "`git commit` it or take it back; until then nothing is written or committed";
                Explanation::new(Code::SpecsNotCommitted, message).hint(hint)
            }
            Self::PushRejected { why } => {
                let message = format!("the push was rejected again and again ({why})");
                Explanation::new(Code::PushRejected, message).hint("check who else pushes to this branch")
            }
            Self::Listen { address, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot listen on --http {address}: {source}"))
            }
        }
    }
}

impl EndsCommand for WatchError {
    fn exit(&self) -> Exit {
        match self {
            Self::Narrowed | Self::NoWorkTree { .. } | Self::Author(_) => Exit::Usage,
            Self::NotCommitted { .. } => Exit::Refused,
            Self::PushRejected { .. } | Self::Listen { .. } => Exit::Machine,
        }
    }
}
