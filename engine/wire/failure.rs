//! Failures of reading a peer's metadata, as values: a stored plan carries them, and the acceptance of changes decides by
//! them whether one waits or has failed.
//!
//! Text of a peer (a content type, the host of a redirect) is shown short and escaped. No failure holds a token.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::explanation::{Code, Explanation};
use crate::types::name::ClusterName;
use crate::types::text::{LONGEST_OF_PEER, quoted};
use crate::types::tls_verdict::Presented;

/// Why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Failure {
    /// The name of the host has no address.
    NotResolved {
        /// What was to be read.
        url: String,
        /// The resolver's message.
        problem: String,
    },
    NotReachable {
        /// What was to be read.
        url: String,
        problem: String,
    },
    /// Connected, and no complete response header within the limit.
    TimedOut {
        /// What was to be read.
        url: String,
        /// The limit, in seconds.
        seconds: u64,
    },
    /// TLS was not agreed on.
    Tls {
        /// What was to be read.
        url: String,
        /// What is wrong with the server's certificate or its TLS.
        fault: TlsFault,
    },
    /// The address may not be dialled.
    Outside {
        /// What was to be read.
        url: String,
        /// The host or its address.
        address: String,
        /// Which rule it breaks.
        why: String,
    },
    /// 401 or 403.
    Unauthorized {
        /// What was to be read.
        url: String,
        status: u16,
    },
    /// 404.
    NotFound {
        /// What was to be read.
        url: String,
    },
    /// 503.
    Unavailable {
        /// What was to be read.
        url: String,
    },
    /// Any other status but 200.
    Status {
        /// What was to be read.
        url: String,
        status: u16,
        /// Seconds of its `Retry-After`.
        retry_after: Option<u64>,
    },
    /// A redirection, which is never followed.
    Redirect {
        /// What was to be read.
        url: String,
        /// Host it points at.
        to: String,
    },
    /// A body above the limit.
    TooLarge {
        /// What was to be read.
        url: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Response headers above a limit.
    HeadersTooLarge {
        /// What was to be read.
        url: String,
        /// Most fields.
        count: usize,
        /// Most bytes.
        bytes: usize,
    },
    /// A body below the least rate, or not done within the total time.
    TooSlow {
        /// What was to be read.
        url: String,
        /// Least rate in bytes a second.
        rate: u64,
        /// Total limit, in seconds.
        seconds: u64,
    },
    /// The answer ended before its end, or is no HTTP.
    Broken {
        /// What was to be read.
        url: String,
        problem: String,
    },
    /// A compressed body, which was not asked for.
    Encoded {
        /// What was to be read.
        url: String,
        /// Its `Content-Encoding`.
        encoding: String,
    },
    /// Neither JSON nor plain text.
    ContentType {
        /// What was to be read.
        url: String,
        /// Its `Content-Type`.
        content_type: String,
    },
    /// A document that breaks the format.
    Format {
        /// What was to be read.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Required fields are empty or absent: the peer is starting.
    Incomplete {
        /// The fields, in the spelling of the document.
        fields: Vec<String>,
    },
    /// A file of a `file://` endpoint is not there.
    FileMissing {
        /// Its path below the checkout.
        path: String,
    },
    /// A file of a `file://` endpoint cannot be read.
    FileUnreadable {
        /// Its path below the checkout.
        path: String,
        problem: String,
    },
    /// No client could be made, because of this machine or the spec's CA.
    Client {
        /// What was to be read.
        url: String,
        problem: String,
    },
    /// The relay of a cluster that reads the peer could not read it, either.
    Through {
        reader: ClusterName,
        /// Why its relay could not.
        failure: Box<Self>,
    },
    /// Two that read the peer were shown different documents, and nothing tells which of them is the peer's.
    ReadingsDiffer {
        /// What was read.
        url: String,
        /// The first field that differs, in the spelling of the document.
        field: String,
        /// Who read, and what.
        readings: Vec<DifferentReading>,
    },
}

/// A field as one of several read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferentReading {
    /// The cluster whose relay read it; `None`: the engine itself.
    pub reader: Option<ClusterName>,
    /// The field's value, short.
    pub value: String,
}

impl fmt::Display for DifferentReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = shown(&self.value);
        match &self.reader {
            Some(reader) => write!(f, "the relay of `{reader}` reads {value}"),
            None => write!(f, "the engine reads {value}"),
        }
    }
}

/// What is wrong with a server's certificate or its TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "camelCase")]
pub enum TlsFault {
    /// Signed by none of the trusted roots.
    UnknownIssuer {
        /// The certificate, where it was seen.
        presented: Option<Presented>,
    },
    /// Signed by none of the roots of `metadata.ca`, which alone counts when it is given.
    NotByGivenCa {
        /// The certificate, where it was seen.
        presented: Option<Presented>,
    },
    Expired {
        /// When, RFC 3339; `an unknown time`, when TLS did not say.
        at: String,
    },
    NotYetValid {
        /// When, RFC 3339.
        at: String,
    },
    WrongName {
        /// Names in the certificate.
        presented: Vec<String>,
    },
    Other {
        /// The library's message.
        problem: String,
    },
}

impl TlsFault {
    /// The fault for people and machines alike.
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::UnknownIssuer { presented } => Explanation::new(
                Code::CertificateUnknownIssuer,
                format!("its certificate is signed by no CA that this machine trusts{}", of(presented.as_ref())),
            )
            .hint("give the CA of its exporter in `metadata.ca`"),
            Self::NotByGivenCa { presented } => {
                let message = format!(
                    "its certificate is not signed by the CA in `metadata.ca`, which alone counts{}",
                    of(presented.as_ref())
                );
                Explanation::new(Code::CertificateNotByGivenCa, message)
                    .hint("correct `metadata.ca`, or renew the certificate there")
            }
            Self::Expired { at } => {
                Explanation::new(Code::CertificateExpired, format!("its certificate expired at {at}"))
                    .hint("renew the certificate there, and check the clock of this machine")
            }
            Self::NotYetValid { at } => {
                Explanation::new(Code::CertificateNotYetValid, format!("its certificate is not valid before {at}"))
                    .hint("check the clocks of both machines")
            }
            Self::WrongName { presented } => {
                let message = format!("its certificate is not for this host but for {}", list(presented));
                Explanation::new(Code::CertificateWrongName, message)
                    .hint("correct `metadata.endpoint` or the certificate")
            }
            Self::Other { problem } => Explanation::new(Code::TlsFailed, problem)
                .hint("check its TLS with `openssl s_client -connect HOST:PORT`"),
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}

impl std::error::Error for TlsFault {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}

impl std::error::Error for Failure {}

fn retry(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!(" and asks for a pause of {seconds} s"))
}

/// Of what was presented, in a sentence on its certificate.
fn of(presented: Option<&Presented>) -> String {
    presented.map(|presented| format!(": {presented}")).unwrap_or_default()
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
    /// What the failure is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::NotResolved { .. } => Code::HostNotFound,
            Self::NotReachable { .. } => Code::PeerUnreachable,
            Self::TimedOut { .. } => Code::PeerTimedOut,
            Self::Tls { fault, .. } => fault.explanation().code,
            Self::Outside { .. } => Code::AddressNotAllowed,
            Self::Unauthorized { .. } => Code::TokenNotAdmitted,
            Self::NotFound { .. } => Code::DocumentNotFound,
            Self::Unavailable { .. } => Code::PeerNotReady,
            Self::Status { .. } => Code::UnexpectedStatus,
            Self::Redirect { .. } => Code::RedirectNotFollowed,
            Self::TooLarge { .. } => Code::AnswerTooLarge,
            Self::HeadersTooLarge { .. } => Code::HeadersTooLarge,
            Self::TooSlow { .. } => Code::AnswerTooSlow,
            Self::Broken { .. } => Code::AnswerBroken,
            Self::Encoded { .. } => Code::AnswerEncoded,
            Self::ContentType { .. } => Code::AnswerNotJson,
            Self::Format { .. } => Code::DocumentMalformed,
            Self::Incomplete { .. } => Code::DocumentIncomplete,
            Self::FileMissing { .. } => Code::FileMissing,
            Self::FileUnreadable { .. } => Code::FileUnreadable,
            Self::Client { .. } => Code::RequestNotPrepared,
            Self::Through { failure, .. } => failure.code(),
            Self::ReadingsDiffer { .. } => Code::ReadingsDiffer,
        }
    }

    /// What is the matter.
    fn message(&self) -> String {
        match self {
            Self::NotResolved { url, problem } => format!("cannot find the host of {url}: {problem}"),
            Self::NotReachable { url, problem } => format!("cannot reach {url}: {problem}"),
            Self::TimedOut { url, seconds } => format!("{url} did not answer within {seconds} s"),
            Self::Tls { url, fault } => {
                let doing = if let TlsFault::Other { .. } = fault { "agree on TLS with" } else { "trust" };
                format!("cannot {doing} the server of {url}: {}", fault.explanation().message)
            }
            Self::Outside { url, address, why } => format!("refused to connect to {url}: {address} is {why}"),
            Self::Unauthorized { url, status } => format!("{url} does not admit the engine (status {status})"),
            Self::NotFound { url } => format!("{url} is not there (status 404)"),
            Self::Unavailable { url } => format!("{url} is not ready (status 503)"),
            Self::Status { url, status, retry_after } => {
                format!("{url} answered with status {status} instead of 200{}", retry(*retry_after))
            }
            Self::Redirect { url, to } => format!("{url} redirects to {to}, and redirections are not followed"),
            Self::TooLarge { url, limit } => format!("{url} sends more than {limit} bytes"),
            Self::HeadersTooLarge { url, count, bytes } => {
                format!("{url} sends more than {count} header fields or {bytes} bytes of them")
            }
            Self::TooSlow { url, rate, seconds } => {
                format!("{url} sends its body too slowly (at least {rate} bytes/s and all within {seconds} s)")
            }
            Self::Broken { url, problem } => format!("the answer of {url} is broken: {problem}"),
            Self::Encoded { url, encoding } => {
                format!("{url} sends its body encoded as `{encoding}`, which was not asked for")
            }
            Self::ContentType { url, content_type } => {
                format!("{url} sends `{content_type}` instead of JSON, perhaps a log-in or error page")
            }
            Self::Format { url, problem } => format!("the document at {url} breaks the format: {problem}"),
            Self::Incomplete { fields } => format!("its document lacks {}", list(fields)),
            Self::FileMissing { path } => format!("the file {path} is not there"),
            Self::FileUnreadable { path, problem } => format!("cannot read the file {path}: {problem}"),
            Self::Client { url, problem } => format!("cannot prepare the request for {url}: {problem}"),
            Self::Through { reader, failure } => {
                if let Self::Unauthorized { url, status } = &**failure {
                    return format!(
                        "{url} does not admit the key of `{reader}`, with which its relay reads it (status {status})"
                    );
                }
                format!("the relay of `{reader}` could not read it: {}", failure.message())
            }
            Self::ReadingsDiffer { url, field, readings } => {
                let readings: Vec<String> = readings.iter().map(ToString::to_string).collect();
                format!("not everyone reads the same at {url}: of `{}`, {}", shown(field), readings.join(", and "))
            }
        }
    }

    /// Whether the peer is up and says that it is not ready, or says nothing yet.
    pub fn is_starting(&self) -> bool {
        if let Self::Through { failure, .. } = self {
            return failure.is_starting();
        }
        matches!(self, Self::Unavailable { .. } | Self::Incomplete { .. })
    }

    /// What is waited for, where it is waited for.
    fn awaited(&self) -> String {
        if let Self::Through { reader, failure } = self
            && matches!(**failure, Self::Incomplete { .. })
        {
            return format!("{}, which the relay of `{reader}` reads", failure.awaited());
        }
        if let Self::Incomplete { fields } = self {
            return format!("{} in its document", list(fields));
        }
        if let Self::FileMissing { path } = self {
            return format!("the file {path}");
        }
        format!("an answer: {}", self.message())
    }

    /// What to do about it.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotResolved { .. } => "check `metadata.endpoint` and its DNS record",
            Self::NotReachable { .. } => {
                "check that the metadata-exporter runs and that its address is open to this machine"
            }
            Self::TimedOut { .. } => "check that the metadata-exporter is healthy",
            Self::Tls { fault, .. } => return fault.explanation().hint,
            Self::Outside { .. } => "list its range in `allow.addresses` if that is intended",
            Self::Unauthorized { .. } => {
                "check that ConfigMap `isthmus-peers` with the engine's key is synced there and that both clocks agree"
            }
            Self::NotFound { .. } => "check the path of `metadata.endpoint`",
            Self::Unavailable { .. } => "the next run asks it again; if it stays so, check the metadata-exporter",
            Self::Status { .. } => "check the metadata-exporter",
            Self::Redirect { .. } => "name the final address in `metadata.endpoint`",
            Self::TooLarge { .. } | Self::HeadersTooLarge { .. } => "check that it is a metadata-exporter",
            Self::TooSlow { .. } => "check its network and load",
            Self::Broken { .. } => "check proxies and firewalls between it and this machine",
            Self::Encoded { .. } => "switch compression off for this path there",
            Self::ContentType { .. } => "check that `metadata.endpoint` is reachable without a browser log-in",
            Self::Format { problem, .. } if problem.starts_with("networkName: ") => {
                "state `network` in its Cluster, which counts in its place"
            }
            Self::Format { .. } => "check that a metadata-exporter answers there, and its version",
            Self::Incomplete { fields } => {
                let stated = |field: &String| match field.as_str() {
                    "ingressGateways" => Some("`gateways`"),
                    "networkName" => Some("`network`"),
                    "apiHost" => Some("`api.host`"),
                    _ => None,
                };
                let stated: Vec<&str> = fields.iter().filter_map(stated).collect();
                let adds = "the metadata-exporter adds them once it knows them, and its log says why it does not";
                return Some(if stated.is_empty() {
                    adds.to_owned()
                } else {
                    format!("{adds}; or state {} in its Cluster", stated.join(" and "))
                });
            }
            Self::FileMissing { .. } => "put the peer's document there",
            Self::FileUnreadable { .. } => "check that it is a file and that the engine may read it",
            Self::Client { .. } => "check `metadata.endpoint` and `metadata.ca`",
            Self::ReadingsDiffer { .. } => {
                "nothing of it is taken until all read the same, as they do a minute after a change; if it stays so, ask the cluster's \
                 owner which is true, and distrust the network or the cluster of the other"
            }
            Self::Through { reader, failure } => {
                if matches!(**failure, Self::Unauthorized { .. }) {
                    return Some(format!("declare `{reader}` on its side; `engine invite` prints what that takes"));
                }
                if matches!(**failure, Self::NotReachable { .. } | Self::TimedOut { .. }) {
                    return Some(format!("check that the metadata-exporter runs and that `{reader}` may reach it"));
                }
                return failure.hint();
            }
        };
        Some(hint.to_owned())
    }

    /// The failure for people and machines alike.
    pub fn explanation(&self) -> Explanation {
        Explanation { code: self.code(), message: self.message(), hint: self.hint() }
    }

    /// The same of a peer that is waited for: its message says what for.
    pub fn waiting(&self) -> Explanation {
        Explanation { message: self.awaited(), ..self.explanation() }
    }

    /// Whether this is what a peer looks like before it is set up: no DNS record, no one listening, no answer in time,
    /// an unknown issuer, 401, 404, 503, empty fields, a file not there. Before first contact one waits for its end;
    /// a broken format or limit has failed from the first run.
    pub fn is_waiting_before_first_contact(&self) -> bool {
        match self {
            Self::Through { failure, .. } => failure.is_waiting_before_first_contact(),
            Self::NotResolved { .. }
            | Self::NotReachable { .. }
            | Self::TimedOut { .. }
            | Self::Tls { fault: TlsFault::UnknownIssuer { .. } | TlsFault::NotByGivenCa { .. }, .. }
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
            | Self::Client { .. }
            | Self::ReadingsDiffer { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> String {
        "https://m.example/public/public.json".to_owned()
    }

    fn through(failure: Failure) -> Failure {
        Failure::Through { reader: "east".parse().unwrap(), failure: Box::new(failure) }
    }

    #[test]
    fn what_a_relay_could_not_read_names_its_cluster() {
        let unauthorized = through(Failure::Unauthorized { url: url(), status: 401 });
        let message = "https://m.example/public/public.json does not admit the key of `east`, with which its relay reads it \
            (status 401); declare `east` on its side; `engine invite` prints what that takes";
        assert_eq!((unauthorized.to_string().as_str(), unauthorized.code()), (message, Code::TokenNotAdmitted));
        assert!(unauthorized.is_waiting_before_first_contact() && !unauthorized.is_starting());
        let fields = vec!["apiHost".to_owned()];
        let incomplete = through(Failure::Incomplete { fields });
        assert!(incomplete.is_starting());
        let waits = incomplete.waiting().to_string();
        assert!(waits.starts_with("`apiHost` in its document, which the relay of `east` reads; "), "{waits}");
    }

    #[test]
    fn a_failure_reads_what_it_writes_and_names_the_next_step() {
        for failure in [
            Failure::Tls { url: url(), fault: TlsFault::WrongName { presented: vec!["a.example".to_owned()] } },
            Failure::Status { url: url(), status: 429, retry_after: Some(30) },
            Failure::Incomplete { fields: vec!["rootCA".to_owned(), "apiHost".to_owned()] },
            Failure::Unauthorized { url: url(), status: 401 },
            through(Failure::Unauthorized { url: url(), status: 401 }),
        ] {
            let text = serde_json::to_string(&failure).unwrap();
            assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
            assert!(failure.to_string().contains("; "), "{failure}");
        }
    }

    #[test]
    fn the_code_of_tls_is_that_of_its_fault() {
        let failure = Failure::Tls { url: url(), fault: TlsFault::UnknownIssuer { presented: None } };
        assert_eq!(failure.code(), Code::CertificateUnknownIssuer);
        let message = "cannot trust the server of https://m.example/public/public.json: its certificate is signed by no CA that \
            this machine trusts; give the CA of its exporter in `metadata.ca`";
        assert_eq!(failure.to_string(), message);
        let failure = Failure::NotReachable { url: url(), problem: "refused".to_owned() };
        assert_eq!(failure.explanation().code.as_str(), "peer-unreachable");
    }

    #[test]
    fn a_peer_that_is_not_set_up_yet_is_waited_for_and_a_broken_one_is_not() {
        assert!(Failure::Unauthorized { url: url(), status: 401 }.is_waiting_before_first_contact());
        assert!(!Failure::Unauthorized { url: url(), status: 403 }.is_waiting_before_first_contact());
        let expired = TlsFault::Expired { at: "2026-01-01T00:00:00Z".to_owned() };
        assert!(!Failure::Tls { url: url(), fault: expired }.is_waiting_before_first_contact());
        assert!(
            Failure::Tls { url: url(), fault: TlsFault::UnknownIssuer { presented: None } }
                .is_waiting_before_first_contact()
        );
    }

    #[test]
    fn what_is_waited_for_reads_on_after_waits_for() {
        let waits = |failure: Failure| {
            assert_eq!(failure.waiting().code, failure.code());
            failure.waiting().to_string()
        };
        let fields = vec!["rootCA".to_owned()];
        assert!(waits(Failure::Incomplete { fields }).starts_with("`rootCA` in its document; "));
        let path = "metadata/east/public/public.json".to_owned();
        let message = "the file metadata/east/public/public.json; put the peer's document there";
        assert_eq!(waits(Failure::FileMissing { path }), message);
        let message = "an answer: https://m.example/public/public.json is not ready (status 503); the next run asks it again; if it \
            stays so, check the metadata-exporter";
        assert_eq!(waits(Failure::Unavailable { url: url() }), message);
    }

    #[test]
    fn text_of_a_peer_is_escaped_and_short() {
        let message =
            Failure::ContentType { url: url(), content_type: shown(&format!("\u{1b}[2J{}", "x".repeat(999))) };
        assert!(message.to_string().len() < 500 && !message.to_string().contains('\u{1b}'));
    }
}
