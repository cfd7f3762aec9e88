//! What a watch cannot do.
#![deny(clippy::wildcard_enum_match_arm)]

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::git::InvalidAuthor;
use crate::session::command_error::EndsCommand;
use crate::session::exit::Exit;
use crate::types::explanation::{Code, Explain, Explanation};

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
    /// No author.
    Author(#[source] InvalidAuthor),
    /// The remote does not take commits, whatever is tried.
    PushRejected {
        /// What it said.
        why: String,
    },
    /// Its pages cannot be served.
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Explain for WatchError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Narrowed => {
                Explanation::new(Code::InvalidArguments, "--cluster: a watch takes turns for the whole mesh")
                    .hint("leave it out")
            }
            Self::NoWorkTree { flag, folder } => {
                let message = format!("{flag}: {} is in no git work tree", folder.display());
                Explanation::new(Code::NotInGit, message).hint("`git init` or clone one there")
            }
            Self::Author(error) => {
                let Explanation { code, message, hint } = error.explanation();
                Explanation { code, message: format!("--author: {message}"), hint }
            }
            Self::PushRejected { why } => {
                let message = format!("the push was rejected again and again ({why})");
                Explanation::new(Code::PushRejected, message).hint("look who else pushes to this branch")
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
            Self::PushRejected { .. } | Self::Listen { .. } => Exit::Machine,
        }
    }
}
