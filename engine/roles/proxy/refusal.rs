//! Why a request is not answered as asked: one reason for the record, and less of it for whoever asked.

use std::time::Duration;

use http::StatusCode;

use crate::roles::api::headers::HeaderRefused;
use crate::roles::api::request::RequestError;
use crate::roles::api::status::Refused;
use crate::roles::api::table::Denied;
use crate::roles::proxy::credential::TokenMissing;
use crate::server::BodyError;
use crate::server::misread::Misread;
use crate::server::upstream::UpstreamError;
use crate::types::token::Rejected;

/// A request that is not answered as asked. Its text is for the record.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyRefusal {
    /// Too many requests, or watches, of one address or peer.
    #[error("too many requests")]
    Limited {
        /// When there is room again.
        wait: Duration,
    },
    /// It is not known who may ask.
    #[error("identity or peers are not known")]
    NotReady,
    #[error(transparent)]
    Token(#[from] Rejected),
    /// A token that names no cluster.
    #[error("sub is not a UUID")]
    Subject,
    /// A token of a peer that was there a moment ago.
    #[error("the peer has gone")]
    PeerGone,
    /// What is asked is not understood.
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("a watch has to be asked with GET")]
    HeadOfWatch,
    /// What is asked is not shared.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A page of a list that this role did not begin.
    #[error("a list is continued that was begun elsewhere")]
    Expired,
    #[error(transparent)]
    Headers(#[from] HeaderRefused),
    /// The role itself has no token.
    #[error(transparent)]
    TokenMissing(#[from] TokenMissing),
    /// The request cannot be written.
    #[error(transparent)]
    Unwritable(#[from] http::Error),
    /// The apiserver gives no answer.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The apiserver points elsewhere, or does not continue a watch.
    #[error("the apiserver answered {}", .0.as_u16())]
    OtherStatus(StatusCode),
    /// The apiserver answers in another form, of which nothing can be taken out.
    #[error("expected JSON, or a list in protobuf, from the apiserver, found another form")]
    NotJson,
    /// The apiserver's answer breaks off before its end.
    #[error("the apiserver broke off: {0}")]
    BrokenOff(#[from] BodyError),
    /// The apiserver's answer cannot be read.
    #[error("the apiserver's answer cannot be read: {0}")]
    Misread(#[from] Misread),
    /// The apiserver does not take the role's own token; passed on, it would read as if the peer's was refused.
    #[error("the apiserver refused the role's own credential")]
    OwnCredential,
}

impl ProxyRefusal {
    /// What records and metrics call it.
    pub(super) fn decision(&self) -> &'static str {
        match self {
            Self::Limited { .. } => "limited",
            Self::NotReady => "not ready",
            Self::Token(_) | Self::Subject | Self::PeerGone => "unauthorized",
            Self::Request(_) | Self::HeadOfWatch | Self::Denied(_) | Self::Expired | Self::Headers(_) => "denied",
            Self::TokenMissing(_)
            | Self::Unwritable(_)
            | Self::Upstream(_)
            | Self::OtherStatus(_)
            | Self::NotJson
            | Self::BrokenOff(_)
            | Self::Misread(_)
            | Self::OwnCredential => "failed",
        }
    }

    /// For whoever asked.
    pub(super) fn answer(&self) -> Refused {
        let no_answer = "the apiserver does not answer";
        let gone = || Refused::new(StatusCode::SERVICE_UNAVAILABLE, no_answer).later(Duration::from_secs(1));
        let odd = || Refused::new(StatusCode::BAD_GATEWAY, "the apiserver answered oddly");
        match self {
            Self::Limited { wait } => Refused::new(StatusCode::TOO_MANY_REQUESTS, "too many requests").later(*wait),
            Self::NotReady => Refused::new(StatusCode::SERVICE_UNAVAILABLE, "not ready").later(Duration::from_secs(5)),
            Self::Token(_) | Self::Subject | Self::PeerGone => Refused::new(StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Request(RequestError::Method) => Refused::new(StatusCode::METHOD_NOT_ALLOWED, "peers only read"),
            Self::Request(RequestError::NoSuchPath) => {
                Refused::new(StatusCode::FORBIDDEN, "this resource is not shared with peers")
            }
            Self::Request(
                RequestError::Path | RequestError::Key(_) | RequestError::Twice(_) | RequestError::Value(_),
            )
            | Self::Headers(
                HeaderRefused::Identity
                | HeaderRefused::Upgrade
                | HeaderRefused::Body
                | HeaderRefused::Twice
                | HeaderRefused::Value,
            ) => Refused::new(StatusCode::BAD_REQUEST, "this request is not understood"),
            Self::Headers(HeaderRefused::NotAcceptable) => {
                Refused::new(StatusCode::NOT_ACCEPTABLE, "peers are answered in JSON; accept application/json")
            }
            Self::HeadOfWatch => Refused::new(StatusCode::METHOD_NOT_ALLOWED, "a watch has to be asked with GET"),
            Self::Denied(_) => Refused::new(StatusCode::FORBIDDEN, "this is not shared with peers"),
            Self::Expired => Refused::new(StatusCode::GONE, "lists come in one piece; list it again"),
            Self::Unwritable(_) => Refused::new(StatusCode::BAD_REQUEST, "no such path"),
            Self::Upstream(UpstreamError::Timeout(_)) => Refused::new(StatusCode::GATEWAY_TIMEOUT, no_answer),
            Self::Upstream(UpstreamError::Upgrade) | Self::OtherStatus(_) | Self::NotJson | Self::Misread(_) => odd(),
            Self::Upstream(
                UpstreamError::Host { .. }
                | UpstreamError::Refused(_)
                | UpstreamError::NoAddress
                | UpstreamError::Connect(_)
                | UpstreamError::Handshake(_)
                | UpstreamError::Tls(_)
                | UpstreamError::Full(_)
                | UpstreamError::Broken(_)
                | UpstreamError::Request(_),
            )
            | Self::TokenMissing(_)
            | Self::BrokenOff(_)
            | Self::OwnCredential => gone(),
        }
    }
}
