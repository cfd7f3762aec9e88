//! Why something is as it is: a sentence for people, and a code for machines that stays while sentences get better.
//!
//! The enums that hold the reasons are closed, carry names and values, and stand where they arise; each says its
//! [`Explanation`], and its `Display` is that explanation as one sentence.

use std::fmt;

use serde::{Serialize, Serializer};

/// Declares the codes, each with its spelling, so that none is left out of the list of all.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a reason is called by machines. A spelling that was once released does not change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    // reading a document of a peer
    /// The name of the host has no address.
    HostNotFound = "host-not-found",
    /// No connection came about.
    PeerUnreachable = "peer-unreachable",
    /// No answer within the limit.
    PeerTimedOut = "peer-timed-out",
    /// The server's certificate is signed by none of the trusted CAs.
    CertificateUnknownIssuer = "certificate-unknown-issuer",
    /// The server's certificate is not signed by the CA that the spec gives.
    CertificateNotByGivenCa = "certificate-not-by-given-ca",
    /// The server's certificate has ended.
    CertificateExpired = "certificate-expired",
    /// The server's certificate has not begun.
    CertificateNotYetValid = "certificate-not-yet-valid",
    /// The server's certificate is for other names.
    CertificateWrongName = "certificate-wrong-name",
    /// TLS was not agreed on for another reason.
    TlsFailed = "tls-failed",
    /// The address may not be dialled.
    AddressNotAllowed = "address-not-allowed",
    /// Our token is not admitted.
    TokenNotAdmitted = "token-not-admitted",
    /// There is no document at this address.
    DocumentNotFound = "document-not-found",
    /// The exporter is not ready.
    PeerNotReady = "peer-not-ready",
    /// A status that is not taken.
    UnexpectedStatus = "unexpected-status",
    /// A redirection, which is not followed.
    RedirectNotFollowed = "redirect-not-followed",
    /// The answer has too many bytes.
    AnswerTooLarge = "answer-too-large",
    /// The answer has too many header fields, or too many bytes of them.
    HeadersTooLarge = "headers-too-large",
    /// The answer comes too slowly.
    AnswerTooSlow = "answer-too-slow",
    /// The answer ends before its end, or is no HTTP.
    AnswerBroken = "answer-broken",
    /// The answer is encoded in a way that was not asked for.
    AnswerEncoded = "answer-encoded",
    /// The answer says that it is no JSON.
    AnswerNotJson = "answer-not-json",
    /// The document breaks the format.
    DocumentMalformed = "document-malformed",
    /// The document lacks fields that are filled in later.
    DocumentIncomplete = "document-incomplete",
    /// A file that stands for a document is not there.
    FileMissing = "file-missing",
    /// A file that stands for a document cannot be read.
    FileUnreadable = "file-unreadable",
    /// This machine could not prepare the request.
    RequestNotPrepared = "request-not-prepared",

    // accepting what was read
    /// The public document was not read.
    PublicDocumentNotRead = "public-document-not-read",
    /// The public document was read and is not accepted.
    PublicDocumentNotAccepted = "public-document-not-accepted",
    /// No token could be signed.
    KeyMissing = "key-missing",
    /// Links of the cluster that was there before are still leaving.
    LinksStillLeaving = "links-still-leaving",
    /// The published root CA cannot be trusted.
    RootCaRefused = "root-ca-refused",
    /// The cluster domain that is published is not that of the spec.
    ClusterDomainDiffers = "cluster-domain-differs",
    /// A gateway has an inside address that the spec does not name.
    GatewayInside = "gateway-inside",
    /// A trust change waits to be accepted.
    TrustChangeHeldBack = "trust-change-held-back",
    /// A private key is there and cannot be used.
    KeyUnusable = "key-unusable",
    /// The engine's private key is another one than spec and lock know.
    KeyNotKnown = "key-not-known",
    /// The peer admits the own keys of clusters alone.
    ClusterKeyNeeded = "cluster-key-needed",
    /// No cluster is known in whose name the engine could ask.
    ReaderNotKnown = "reader-not-known",

    // moving links
    /// A cluster was never reached.
    ClusterNotReached = "cluster-not-reached",
    /// A cluster is paused.
    ClusterPaused = "cluster-paused",
    /// The link begins in this run.
    LinkBegins = "link-begins",
    /// A private document was never accepted.
    PrivateDocumentMissing = "private-document-missing",
    /// The relay has no CA yet.
    RelayCaMissing = "relay-ca-missing",
    /// Evidence was not seen in this run.
    EvidenceNotSeen = "evidence-not-seen",
    /// A cluster publishes no evidence, and the spec does not say that it never will.
    EvidenceMissing = "evidence-missing",
    /// A cluster could not learn a field of its evidence.
    EvidenceUnknown = "evidence-unknown",
    /// A root CA is not live.
    RootCaNotLive = "root-ca-not-live",
    /// A network is not live.
    NetworkNotLive = "network-not-live",
    /// A route of the relay is not live.
    RouteNotLive = "route-not-live",
    /// The peer does not admit the relay.
    RelayNotAdmitted = "relay-not-admitted",
    /// istiod or proxies lack settings.
    IstioNotPrepared = "istio-not-prepared",
    /// The standard mesh configuration hides root CAs.
    RootCasHidden = "root-cas-hidden",
    /// An object that left the tree is still seen.
    WithdrawnObjectStillThere = "withdrawn-object-still-there",
    /// Whether an object that left the tree is still there is not known.
    WithdrawnObjectUnknown = "withdrawn-object-unknown",
    /// The other direction of the pair still reads.
    OtherDirectionStillThere = "other-direction-still-there",
    /// More links would go than the guard lets pass.
    TooManyDeletions = "too-many-deletions",

    // rendering and comparing
    /// A link names a cluster of which the lock holds nothing.
    ClusterNotInLock = "cluster-not-in-lock",
    /// A file of somebody else is in the way.
    FileNotOurs = "file-not-ours",
    /// A folder of a cluster that neither spec nor lock knows.
    FolderOfUnknownCluster = "folder-of-unknown-cluster",

    // trust changes
    /// A cluster that nobody has approved yet.
    FirstContact = "first-contact",
    /// Another UUID.
    ClusterUuidChanged = "cluster-uuid-changed",
    /// Another key of the cluster.
    AuthnKeyChanged = "authn-key-changed",
    /// A further key of the cluster that is new or another.
    FurtherAuthnKeyChanged = "further-authn-key-changed",
    /// Other root CAs.
    RootCaChanged = "root-ca-changed",
    /// Another CA of the relay.
    RelayCaChanged = "relay-ca-changed",
    /// Another trust domain.
    TrustDomainChanged = "trust-domain-changed",
    /// Another api host, which the spec does not allow.
    ApiHostChanged = "api-host-changed",
    /// A first api host, which the spec does not allow.
    ApiHostNotAllowed = "api-host-not-allowed",
    /// Another CA of the api-proxy.
    ApiCaChanged = "api-ca-changed",
    /// Another cluster ID.
    ClusterIdChanged = "cluster-id-changed",
    /// A gateway at an address that the spec does not allow.
    GatewayNotAllowed = "gateway-not-allowed",
    /// A value that the spec pins to another one.
    ContradictsPin = "contradicts-pin",
    /// A value by which another cluster is known.
    ClaimedByAnother = "claimed-by-another",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A reason as machines read it; as text it is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What it is called.
    pub code: Code,
    /// What is the matter.
    pub message: String,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
}

impl Explanation {
    /// Without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_none_is_respelt() {
        let all: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        for code in &all {
            let parts: Vec<&str> = code.split('-').collect();
            let plain = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(parts.iter().all(plain), "{code}");
        }
        // programs of others compare these: a code is added here, and neither changed nor taken out
        let released = "\
            host-not-found peer-unreachable peer-timed-out certificate-unknown-issuer certificate-not-by-given-ca \
            certificate-expired certificate-not-yet-valid certificate-wrong-name tls-failed address-not-allowed \
            token-not-admitted document-not-found peer-not-ready unexpected-status redirect-not-followed \
            answer-too-large headers-too-large answer-too-slow answer-broken answer-encoded answer-not-json \
            document-malformed document-incomplete file-missing file-unreadable request-not-prepared \
            public-document-not-read public-document-not-accepted key-missing links-still-leaving root-ca-refused \
            cluster-domain-differs gateway-inside trust-change-held-back \
            key-unusable key-not-known cluster-key-needed reader-not-known \
            cluster-not-reached cluster-paused link-begins private-document-missing relay-ca-missing \
            evidence-not-seen evidence-missing evidence-unknown root-ca-not-live network-not-live route-not-live relay-not-admitted \
            istio-not-prepared root-cas-hidden withdrawn-object-still-there withdrawn-object-unknown \
            other-direction-still-there too-many-deletions \
            cluster-not-in-lock file-not-ours folder-of-unknown-cluster \
            first-contact cluster-uuid-changed authn-key-changed further-authn-key-changed root-ca-changed \
            relay-ca-changed trust-domain-changed api-host-changed api-host-not-allowed api-ca-changed \
            cluster-id-changed gateway-not-allowed contradicts-pin claimed-by-another";
        assert_eq!(all, released.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn an_explanation_is_one_sentence_for_people_and_three_fields_for_machines() {
        let one = Explanation::new(Code::PeerUnreachable, "cannot reach it").hint("check the network");
        assert_eq!(one.to_string(), "cannot reach it; check the network");
        let json = serde_json::to_value(&one).unwrap();
        let fields = serde_json::json!({ "code": "peer-unreachable", "message": "cannot reach it", "hint": "check the network" });
        assert_eq!(json, fields);
        assert_eq!(Explanation::new(Code::KeyMissing, "a key").to_string(), "a key");
    }
}
