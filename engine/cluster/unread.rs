//! Why something of a cluster is not known: what an apiserver was asked for, and what came instead.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::types::cause::{Cause, in_full};
use crate::types::text::shown_text;
use crate::types::tls_verdict::TlsVerdict;

/// Why objects cannot be read at this moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The apiserver answered with an error.
    #[error("{}", format!("{code} {message}").trim_end())]
    Status {
        code: u16,
        /// What it says of it.
        message: String,
    },
    /// The apiserver took too long.
    #[error("the apiserver took too long {0}")]
    Late(ApiserverRequest),
    #[error("no answer in {} seconds", .0.as_secs())]
    NoAnswer(Duration),
    /// Pages of a list no longer belong together.
    #[error("the list changed too fast to be read")]
    ChangesTooFast,
    /// The request, the connection, or the form of the answer.
    #[error("{}", shown_text(&in_full(.0)))]
    Client(Cause<kube::Error>),
    /// TLS was not agreed on.
    #[error("no TLS with the apiserver: {verdict}{}", remedy(.verdict))]
    Tls {
        #[source]
        verdict: TlsVerdict,
    },
    /// A place that no one can be asked for.
    #[error(transparent)]
    Request(Cause<kube::core::request::Error>),
    /// Credentials of a kubeconfig are not to be had. What a credential plugin printed may be a token, and is not kept.
    #[error("the credentials of its kubeconfig cannot be had; try `kubectl get namespaces` with this context")]
    Credentials,
    /// More bytes than are read.
    #[error("its answer breaks off or is too long: length limit exceeded")]
    TooLong,
    #[error("its answer breaks off or is too long: {0}")]
    BrokenOff(#[source] Cause<kube::Error>),
    /// No list of such objects. Its text is not kept.
    #[error("its answer is no list (line {line})")]
    NoList { line: usize },
    /// Pods of a Service that selects none.
    #[error("the Service has no selector")]
    NoSelector,
}

/// Where to mend what is wrong with the TLS of an apiserver.
fn remedy(verdict: &TlsVerdict) -> &'static str {
    match verdict {
        TlsVerdict::UnknownIssuer(_) => {
            "; correct `certificate-authority-data` of the kubeconfig, or add the CA of whatever opens TLS on the way"
        }
        TlsVerdict::WrongName { .. } => "; correct `server` of the kubeconfig, or set `tls-server-name` beside it",
        TlsVerdict::Expired { .. } | TlsVerdict::NotYetValid { .. } => {
            "; renew it there, and check the clock of this machine"
        }
        TlsVerdict::Certificate(_) | TlsVerdict::Handshake(_) => "",
    }
}

/// Why a client could not ask.
#[allow(clippy::wildcard_enum_match_arm, reason = "the client's errors are not ours")]
impl From<kube::Error> for ReadError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Auth(_) => Self::Credentials,
            error => TlsVerdict::of(&error).map_or_else(|| Self::Client(error.into()), |verdict| Self::Tls { verdict }),
        }
    }
}

impl ReadError {
    /// Whether the apiserver answered, and refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { code: 401 | 403 | 404, .. })
    }
}

/// What an apiserver was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiserverRequest {
    /// A page of a list.
    List,
    WatchBegin,
    /// The end of a watch, which it was told.
    WatchEnd,
}

impl fmt::Display for ApiserverRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "to list",
            Self::WatchBegin => "to begin a watch",
            Self::WatchEnd => "to end a watch",
        })
    }
}

/// Why there is nothing to go by; `what` names what was looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    #[error("there is no {what}")]
    Absent {
        /// Such as `ConfigMap isthmus-peers`.
        what: Cow<'static, str>,
    },
    /// No one has answered yet.
    #[error("{what} was not read yet")]
    NotYet {
        /// Such as `ConfigMap isthmus-peers`.
        what: Cow<'static, str>,
    },
    /// It cannot be read.
    #[error("{what} cannot be read: {source}")]
    Failed {
        /// Such as `ConfigMap isthmus-peers`.
        what: Cow<'static, str>,
        source: ReadError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_answer_and_repeats_the_apiserver() {
        let status = |code, message: &str| ReadError::Status { code, message: message.to_owned() };
        assert_eq!(status(403, "no rights").to_string(), "403 no rights");
        assert_eq!(status(500, "").to_string(), "500");
        assert!(status(403, "").is_refusal() && !status(500, "").is_refusal());
        assert!(!ReadError::Late(ApiserverRequest::List).is_refusal());
        let unread =
            Unread::Failed { what: "ConfigMap a".into(), source: ReadError::Late(ApiserverRequest::WatchBegin) };
        assert_eq!(unread.to_string(), "ConfigMap a cannot be read: the apiserver took too long to begin a watch");
    }
}
