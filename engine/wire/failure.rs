//! Failures of reading a peer's metadata, as values: a stored plan carries them, and the acceptance of news decides by
//! them whether one waits or has failed.
//!
//! Text of a peer (a content type, the host of a redirect) is shown short and escaped. No failure holds a token.

use serde::{Deserialize, Serialize};

use crate::types::text::{LONGEST_OF_PEER, quoted};

/// Why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Failure {
    /// The name of the host has no address.
    #[error("cannot find the host of {url}: {problem}; check `metadata.endpoint` and its DNS record")]
    NotResolved {
        /// What was to be read.
        url: String,
        /// The resolver's words.
        problem: String,
    },
    /// No connection.
    #[error(
        "cannot reach {url}: {problem}; check that the metadata-exporter runs and that its address is open to this machine"
    )]
    NotReachable {
        /// What was to be read.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// Connected, and no complete response header within the limit.
    #[error("{url} did not answer within {seconds} s; check that the metadata-exporter is healthy")]
    TimedOut {
        /// What was to be read.
        url: String,
        /// The limit, in seconds.
        seconds: u64,
    },
    /// TLS was not agreed on.
    #[error("cannot trust the server of {url}: {fault}")]
    Tls {
        /// What was to be read.
        url: String,
        /// What is wrong with the server's certificate or its TLS.
        fault: TlsFault,
    },
    /// The address may not be dialled.
    #[error("refused to connect to {url}: {address} is {why}; list its range in `allow.addresses` if that is intended")]
    Outside {
        /// What was to be read.
        url: String,
        /// The host or its address.
        address: String,
        /// Which rule it breaks.
        why: String,
    },
    /// 401 or 403.
    #[error(
        "{url} does not admit our token (status {status}); check that ConfigMap `isthmus-peers` with our key is synced there and that both clocks agree"
    )]
    Unauthorized {
        /// What was to be read.
        url: String,
        /// The status.
        status: u16,
    },
    /// 404.
    #[error("{url} is not there (status 404); check the path of `metadata.endpoint`")]
    NotFound {
        /// What was to be read.
        url: String,
    },
    /// 503.
    #[error("{url} is not ready (status 503); it is asked again on the next turn")]
    Unavailable {
        /// What was to be read.
        url: String,
    },
    /// Any other status but 200.
    #[error("{url} answered with status {status}{}, and only 200 is taken; check the metadata-exporter", retry(*.retry_after))]
    Status {
        /// What was to be read.
        url: String,
        /// The status.
        status: u16,
        /// Seconds of its `Retry-After`.
        retry_after: Option<u64>,
    },
    /// A redirection, which is never followed.
    #[error(
        "{url} redirects to {to}, and redirections are not followed; name the final address in `metadata.endpoint`"
    )]
    Redirect {
        /// What was to be read.
        url: String,
        /// Host it points at.
        to: String,
    },
    /// A body above the limit.
    #[error("{url} sends more than {limit} bytes; check that it is a metadata-exporter")]
    TooLarge {
        /// What was to be read.
        url: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Response headers above a limit.
    #[error(
        "{url} sends more than {count} header fields or {bytes} bytes of them; check that it is a metadata-exporter"
    )]
    HeadersTooLarge {
        /// What was to be read.
        url: String,
        /// Most fields.
        count: usize,
        /// Most bytes.
        bytes: usize,
    },
    /// A body below the least rate, or not done within the total time.
    #[error(
        "{url} sends its body too slowly (at least {rate} bytes/s and all within {seconds} s); check its network and load"
    )]
    TooSlow {
        /// What was to be read.
        url: String,
        /// Least rate in bytes a second.
        rate: u64,
        /// Total limit, in seconds.
        seconds: u64,
    },
    /// The answer ended before its end, or is no HTTP.
    #[error("the answer of {url} is broken: {problem}; check what stands between it and this machine")]
    Broken {
        /// What was to be read.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// A compressed body, which was not asked for.
    #[error("{url} sends its body encoded as `{encoding}`, which was not asked for; switch compression off there")]
    Encoded {
        /// What was to be read.
        url: String,
        /// Its `Content-Encoding`.
        encoding: String,
    },
    /// Neither JSON nor plain text.
    #[error(
        "{url} sends `{content_type}` instead of JSON, perhaps a log-in or error page; check that `metadata.endpoint` is reachable without a browser log-in"
    )]
    ContentType {
        /// What was to be read.
        url: String,
        /// Its `Content-Type`.
        content_type: String,
    },
    /// A document that breaks the format.
    #[error("the document at {url} is refused: {problem}; check the version of the exporter")]
    Format {
        /// What was to be read.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Required fields are empty or absent: the peer is starting.
    #[error("the document still lacks {}; the peer's exporter fills it in once it has learned it", list(.fields))]
    Incomplete {
        /// The fields, in the spelling of the document.
        fields: Vec<String>,
    },
    /// A file of a `file://` endpoint is not there.
    #[error("the file {path} is not there yet; put the peer's document there")]
    FileMissing {
        /// Its path below the checkout.
        path: String,
    },
    /// A file of a `file://` endpoint cannot be read.
    #[error("cannot read the file {path}: {problem}")]
    FileUnreadable {
        /// Its path below the checkout.
        path: String,
        /// What went wrong.
        problem: String,
    },
    /// No client could be made, because of this machine or the spec's CA.
    #[error("cannot prepare the request for {url}: {problem}")]
    Client {
        /// What was to be read.
        url: String,
        /// What went wrong.
        problem: String,
    },
}

/// What is wrong with a server's certificate or its TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "camelCase")]
pub enum TlsFault {
    /// Signed by none of the trusted roots.
    #[error("its certificate is signed by no CA we trust; give the CA of its exporter in `metadata.ca`")]
    UnknownIssuer,
    /// Signed by none of the roots of `metadata.ca`, which alone counts when it is given.
    #[error(
        "its certificate is not signed by the CA in `metadata.ca`, which alone counts; renew `metadata.ca` or the certificate"
    )]
    NotByGivenCa,
    /// Ended.
    #[error("its certificate ended at {at}; renew it there, and check this machine's clock")]
    Expired {
        /// When, RFC 3339; `an unknown time`, when TLS did not say.
        at: String,
    },
    /// Not begun.
    #[error("its certificate begins at {at}; check both clocks")]
    NotYetValid {
        /// When, RFC 3339.
        at: String,
    },
    /// For other names.
    #[error("its certificate is not for this host but for {}; correct `metadata.endpoint` or the certificate", list(.presented))]
    WrongName {
        /// Names in the certificate.
        presented: Vec<String>,
    },
    /// Anything else.
    #[error("{problem}; check its TLS with `openssl s_client -connect HOST:PORT`")]
    Other {
        /// The library's words.
        problem: String,
    },
}

fn retry(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!(" and asks for a pause of {seconds} s"))
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        return "nothing".to_owned();
    }
    items.iter().map(|item| format!("`{}`", shown(item))).collect::<Vec<_>>().join(", ")
}

/// A peer's text for people: escaped, and not long.
pub fn shown(text: &str) -> String {
    quoted(text, LONGEST_OF_PEER)
}

impl Failure {
    /// Whether this is what a peer looks like before it is set up: no DNS record, nobody listening, no answer in time,
    /// an unknown issuer, 401, 404, 503, empty fields, a file not there. Before first contact one waits for its end;
    /// a broken format or limit has failed from the first turn.
    pub fn is_waiting_before_first_contact(&self) -> bool {
        match self {
            Self::NotResolved { .. }
            | Self::NotReachable { .. }
            | Self::TimedOut { .. }
            | Self::Tls { fault: TlsFault::UnknownIssuer | TlsFault::NotByGivenCa, .. }
            | Self::Unauthorized { status: 401, .. }
            | Self::NotFound { .. }
            | Self::Unavailable { .. }
            | Self::Incomplete { .. }
            | Self::FileMissing { .. } => true,
            Self::Tls { .. }
            | Self::Outside { .. }
            | Self::Unauthorized { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::HeadersTooLarge { .. }
            | Self::TooSlow { .. }
            | Self::Broken { .. }
            | Self::Encoded { .. }
            | Self::ContentType { .. }
            | Self::Format { .. }
            | Self::FileUnreadable { .. }
            | Self::Client { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> String {
        "https://m.example/public/public.json".to_owned()
    }

    #[test]
    fn a_failure_reads_what_it_writes_and_names_the_next_step() {
        for failure in [
            Failure::Tls { url: url(), fault: TlsFault::WrongName { presented: vec!["a.example".to_owned()] } },
            Failure::Status { url: url(), status: 429, retry_after: Some(30) },
            Failure::Incomplete { fields: vec!["rootCA".to_owned(), "apiHost".to_owned()] },
            Failure::Unauthorized { url: url(), status: 401 },
        ] {
            let text = serde_json::to_string(&failure).unwrap();
            assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
            assert!(failure.to_string().contains("; "), "{failure}");
        }
    }

    #[test]
    fn a_peer_that_is_not_set_up_yet_is_waited_for_and_a_broken_one_is_not() {
        assert!(Failure::Unauthorized { url: url(), status: 401 }.is_waiting_before_first_contact());
        assert!(!Failure::Unauthorized { url: url(), status: 403 }.is_waiting_before_first_contact());
        let expired = TlsFault::Expired { at: "2026-01-01T00:00:00Z".to_owned() };
        assert!(!Failure::Tls { url: url(), fault: expired }.is_waiting_before_first_contact());
        assert!(Failure::Tls { url: url(), fault: TlsFault::UnknownIssuer }.is_waiting_before_first_contact());
    }

    #[test]
    fn text_of_a_peer_is_escaped_and_short() {
        let words = Failure::ContentType { url: url(), content_type: shown(&format!("\u{1b}[2J{}", "x".repeat(999))) };
        assert!(words.to_string().len() < 500 && !words.to_string().contains('\u{1b}'));
    }
}
