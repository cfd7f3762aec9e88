//! Why istiod is not answered as asked.

use std::time::Duration;

use http::StatusCode;

use crate::roles::api::headers::HeaderRefused;
use crate::roles::api::request::RequestError;
use crate::roles::api::status::Refused;
use crate::roles::api::table::Denied;
use crate::roles::relay::admit::NotAdmitted;
use crate::roles::relay::peers::Unreached;
use crate::types::name::ClusterId;

/// A request that is not answered as asked. Its text is the answer's message.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayRefusal {
    /// Whoever asks is not istiod, or it is not known.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Too many requests of one address, or of all.
    #[error("too many requests")]
    Limited {
        /// When there is room again.
        wait: Duration,
    },
    /// What is asked is not understood.
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("a watch has to be asked with GET")]
    HeadOfWatch,
    /// What no peer is asked for.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// No path to a peer.
    #[error("there is /to/<cluster ID>/… here")]
    NoTarget,
    #[error("no route to a cluster of this ID")]
    NoRoute,
    #[error(transparent)]
    Headers(#[from] HeaderRefused),
    /// No room for another watch.
    #[error("too many watches are open")]
    Full,
    /// The peer is not reached.
    #[error("cluster `{cluster}` is not reached: {source}")]
    NotReached { cluster: ClusterId, source: Unreached },
    /// There is nothing to sign a token with.
    #[error("cluster `{cluster}` is not reached: this cluster has no key yet")]
    NoKey { cluster: ClusterId },
    /// The request cannot be written.
    #[error("cluster `{cluster}` is not reached: the request cannot be written")]
    Unwritable { cluster: ClusterId, source: http::Error },
    /// The peer took too long.
    #[error("cluster `{cluster}` did not answer in time")]
    Late { cluster: ClusterId },
    /// The peer points elsewhere, where no one follows it.
    #[error("cluster `{cluster}` answered {}", status.as_u16())]
    Redirected { cluster: ClusterId, status: StatusCode },
    /// What it answered cannot be judged.
    #[error("cluster `{cluster}` answered something else than JSON, which it was asked for")]
    NotJson { cluster: ClusterId },
}

impl RelayRefusal {
    /// For istiod.
    pub(super) fn answer(&self) -> Refused {
        let status = match self {
            Self::NotAdmitted(NotAdmitted::Refused) => StatusCode::UNAUTHORIZED,
            Self::Request(RequestError::Method) | Self::HeadOfWatch => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoTarget | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Request(RequestError::NoSuchPath) | Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Request(
                RequestError::Path | RequestError::Key(_) | RequestError::Twice(_) | RequestError::Value(_),
            )
            | Self::Headers(_) => StatusCode::BAD_REQUEST,
            Self::Full | Self::Limited { .. } | Self::NotAdmitted(NotAdmitted::Busy) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotAdmitted(NotAdmitted::Unknown(_))
            | Self::NotReached { .. }
            | Self::NoKey { .. }
            | Self::Unwritable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Redirected { .. } | Self::NotJson { .. } => StatusCode::BAD_GATEWAY,
        };
        let answer = Refused::new(status, self.to_string());
        if let Self::Limited { wait } = self {
            answer.later(*wait)
        } else if matches!(self, Self::Full) {
            answer.later(Duration::from_secs(10))
        } else if matches!(self, Self::NotAdmitted(NotAdmitted::Busy)) {
            answer.later(Duration::from_secs(1))
        } else {
            answer
        }
    }
}
