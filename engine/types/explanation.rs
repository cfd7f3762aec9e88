//! Why something is as it is: a sentence for people, and a code for machines that stays while sentences get better.
//!
//! The enums that hold the reasons are closed, carry names and values, and stand where they arise; each says its
//! [`Explanation`], and its `Display` is that explanation as one sentence.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use serde::{Serialize, Serializer};

/// Declares the codes, by subject and each with its meaning and its spelling, so that none is left out of the list of all.
macro_rules! codes {
    ($([$subject:literal] $(#[doc = $meaning:literal] $name:ident = $text:literal,)*)*) => {
        /// What a reason is called by machines. A spelling that was once released does not change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $meaning] $name,)*)* }

        impl Code {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)*)*];

            /// The same by subject: what is said of all codes of one, and those.
            pub const BY_SUBJECT: &'static [(&'static str, &'static [Self])] = &[$(($subject, &[$(Self::$name,)*]),)*];

            /// Its spelling in JSON and documentation, which no later version changes.
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$name => $text,)*)* }
            }

            /// What it means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $($(Self::$name => $meaning.trim_ascii(),)*)* }
            }
        }
    };
}

codes! {
    ["Reading a peer's documents"]
    /// The host's name does not resolve to an address.
    HostNotFound = "host-not-found",
    /// No connection could be made.
    PeerUnreachable = "peer-unreachable",
    /// No answer came within the limit.
    PeerTimedOut = "peer-timed-out",
    /// The server's certificate is signed by none of the trusted CAs.
    CertificateUnknownIssuer = "certificate-unknown-issuer",
    /// The server's certificate is not signed by the CA that the spec gives.
    CertificateNotByGivenCa = "certificate-not-by-given-ca",
    /// The server's certificate has expired.
    CertificateExpired = "certificate-expired",
    /// The server's certificate is not valid yet.
    CertificateNotYetValid = "certificate-not-yet-valid",
    /// The server's certificate is for other names.
    CertificateWrongName = "certificate-wrong-name",
    /// The TLS handshake failed for another reason.
    TlsFailed = "tls-failed",
    /// The host has an address that must not be dialled.
    AddressNotAllowed = "address-not-allowed",
    /// The peer does not admit the engine's token.
    TokenNotAdmitted = "token-not-admitted",
    /// There is no document at this address.
    DocumentNotFound = "document-not-found",
    /// The exporter answers that it is not ready.
    PeerNotReady = "peer-not-ready",
    /// The peer answers with an unexpected HTTP status.
    UnexpectedStatus = "unexpected-status",
    /// The peer redirects, and redirects are not followed.
    RedirectNotFollowed = "redirect-not-followed",
    /// The answer has too many bytes.
    AnswerTooLarge = "answer-too-large",
    /// The answer has too many header fields, or too many bytes of them.
    HeadersTooLarge = "headers-too-large",
    /// The answer comes too slowly.
    AnswerTooSlow = "answer-too-slow",
    /// The answer breaks off, or is not HTTP.
    AnswerBroken = "answer-broken",
    /// The answer has a content encoding that was not asked for.
    AnswerEncoded = "answer-encoded",
    /// The answer's content type is not JSON.
    AnswerNotJson = "answer-not-json",
    /// The document does not have the format.
    DocumentMalformed = "document-malformed",
    /// The document lacks fields that are filled in later.
    DocumentIncomplete = "document-incomplete",
    /// The file of a `file://` endpoint does not exist.
    FileMissing = "file-missing",
    /// The file of a `file://` endpoint cannot be read.
    FileUnreadable = "file-unreadable",
    /// This machine could not prepare the request.
    RequestNotPrepared = "request-not-prepared",
    /// Several read the peer and read different documents.
    ReadingsDiffer = "readings-differ",

    ["Accepting what was read"]
    /// The public document was not read.
    PublicDocumentNotRead = "public-document-not-read",
    /// The public document was read and is not accepted.
    PublicDocumentNotAccepted = "public-document-not-accepted",
    /// No token could be signed, since a private key is missing.
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
    /// A private key exists and cannot be used.
    KeyUnusable = "key-unusable",
    /// The engine's private key is another one than spec and lock know.
    KeyNotKnown = "key-not-known",
    /// The relay of a cluster that reads the peer has to read its private document, with that cluster's own key.
    ClusterKeyNeeded = "cluster-key-needed",
    /// No cluster is known in whose name the engine could ask.
    ReaderNotKnown = "reader-not-known",

    ["Opening and closing links"]
    /// The cluster was never reached.
    ClusterNotReached = "cluster-not-reached",
    /// The cluster is paused.
    ClusterPaused = "cluster-paused",
    /// The link begins in this run.
    LinkBegins = "link-begins",
    /// A Deckhouse, which does not show whom it trusts, is to be seen to read before it is read.
    PeerReadsFirst = "peer-reads-first",
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
    /// A root CA that the link needs is not live yet.
    RootCaNotLive = "root-ca-not-live",
    /// The peer's network is not live yet.
    NetworkNotLive = "network-not-live",
    /// The relay's route to the peer is not live yet.
    RouteNotLive = "route-not-live",
    /// The peer does not admit the relay.
    RelayNotAdmitted = "relay-not-admitted",
    /// istiod or proxies lack settings that a multi-root mesh needs.
    IstioNotPrepared = "istio-not-prepared",
    /// The reader does not accept the peer's trust domain yet.
    TrustDomainNotAccepted = "trust-domain-not-accepted",
    /// The standard mesh configuration hides root CAs.
    RootCasHidden = "root-cas-hidden",
    /// The standard mesh configuration is to take the place of ConfigMap `isthmus-mesh` and does not hold all of it yet.
    StandardConfigIncomplete = "standard-config-incomplete",
    /// Objects of a cluster are being handed over, and the other side does not have them yet.
    HandOver = "hand-over",
    /// An object that left the tree is still seen.
    WithdrawnObjectStillThere = "withdrawn-object-still-there",
    /// Whether an object that left the tree is still there is not known.
    WithdrawnObjectUnknown = "withdrawn-object-unknown",
    /// The run that dropped an object is not synced yet.
    NotSynced = "not-synced",
    /// A stage of leaving lasts for a time, since no evidence can show that it is over.
    Settling = "settling",
    /// The other direction of the pair still reads.
    OtherDirectionStillThere = "other-direction-still-there",
    /// More links would be deleted than the guard allows.
    TooManyDeletions = "too-many-deletions",

    ["Rendering and comparing"]
    /// The lock lost the entry of a cluster that a link names.
    LockEntryMissing = "lock-entry-missing",
    /// A link would open or be cut before its time.
    Law = "law",
    /// The lock lost the link of a remote secret in the tree.
    LockLinkMissing = "lock-link-missing",
    /// The lock has links as they were before the run that the tree is of.
    LockOlderThanTree = "lock-older-than-tree",
    /// The tree lost the remote secret of a joined link, and its reader does not show whether it is live.
    TreeSecretMissing = "tree-secret-missing",
    /// A file that the engine did not write is in the way.
    FileNotOurs = "file-not-ours",
    /// The list of a cluster's files names or does what no run writes.
    KustomizationNotOurs = "kustomization-not-ours",
    /// A folder of a cluster that neither spec nor lock knows.
    FolderOfUnknownCluster = "folder-of-unknown-cluster",

    ["What a reviewer has to see"]
    /// A pull request changes a file that runs write, and not to what it renders.
    FileNotRendered = "file-not-rendered",
    /// A pull request changes the lock.
    LockEdited = "lock-edited",
    /// A cluster comes into the mesh, which will trust its root CAs.
    NewCluster = "new-cluster",
    /// A remote secret made by hand is given to the mesh.
    SecretByHand = "secret-by-hand",
    /// Links open.
    LinksOpen = "links-open",
    /// Links close.
    LinksClose = "links-close",
    /// Links leave and join anew.
    LinksReopen = "links-reopen",
    /// Links that the lock lost are taken from the tree or from evidence.
    LinksRestored = "links-restored",
    /// A stated address is not one that its cluster publishes.
    LinksCut = "links-cut",
    /// Peers come to see namespaces.
    ShareOpens = "share-opens",
    /// Peers see namespaces no more.
    ShareCloses = "share-closes",
    /// A field of a spec is edited.
    SpecEdited = "spec-edited",
    /// A field of an override is edited.
    OverrideEdited = "override-edited",
    /// A rule of the policy is edited.
    PolicyEdited = "policy-edited",
    /// A document of a `file://` endpoint is edited.
    DocumentEdited = "document-edited",

    ["Trust changes"]
    /// A cluster that was not approved yet.
    FirstContact = "first-contact",
    /// The lock lost what was accepted of a cluster on which others rest.
    LockEntryLost = "lock-entry-lost",
    /// The cluster has another UUID: it was rebuilt, or another one answers.
    ClusterUuidChanged = "cluster-uuid-changed",
    /// The cluster has another authn key.
    AuthnKeyChanged = "authn-key-changed",
    /// A further authn key of the cluster is new or has changed.
    FurtherAuthnKeyChanged = "further-authn-key-changed",
    /// The cluster publishes other root CAs.
    RootCaChanged = "root-ca-changed",
    /// The cluster's relay has another CA.
    RelayCaChanged = "relay-ca-changed",
    /// The cluster has another trust domain.
    TrustDomainChanged = "trust-domain-changed",
    /// The cluster has another api host, which the spec does not allow.
    ApiHostChanged = "api-host-changed",
    /// The cluster publishes its first api host, which the spec does not allow.
    ApiHostNotAllowed = "api-host-not-allowed",
    /// The CA of the cluster's api-proxy has changed.
    ApiCaChanged = "api-ca-changed",
    /// The cluster has another cluster ID.
    ClusterIdChanged = "cluster-id-changed",
    /// A gateway at an address that the spec does not allow.
    GatewayNotAllowed = "gateway-not-allowed",
    /// Documents are read elsewhere than before, where the cluster's own serving CA does not vouch for who answers.
    MetadataSourceChanged = "metadata-source-changed",
    /// A published value is not the one that the spec pins.
    ContradictsPin = "contradicts-pin",
    /// A published value is one by which another cluster is known.
    ClaimedByAnother = "claimed-by-another",

    ["Findings on the files of a checkout"]
    /// A file has more findings than are listed.
    TooManyFindings = "too-many-findings",
    /// More bytes, levels, values or files than are read.
    LimitExceeded = "limit-exceeded",
    /// A file or a file's name is not UTF-8.
    WrongEncoding = "wrong-encoding",
    /// A file holds the markers of a merge conflict.
    MergeConflict = "merge-conflict",
    /// A file is not YAML, or uses parts of YAML that are not read.
    InvalidYaml = "invalid-yaml",
    /// A document of a kind or an API version that is not read.
    UnknownKind = "unknown-kind",
    /// A field that the kind does not have.
    UnknownField = "unknown-field",
    /// A required field is missing.
    FieldMissing = "field-missing",
    /// A value that its field cannot have.
    InvalidValue = "invalid-value",
    /// A value or a command that this version does not have.
    NotAvailable = "not-available",
    /// Direct credentials, which this version does not have.
    DirectCredentials = "direct-credentials",
    /// A private key, or another secret, in a file that git would track.
    SecretInFile = "secret-in-file",
    /// Fields or documents that are right by themselves and not together.
    ContradictorySpecs = "contradictory-specs",
    /// A name or value that must be unique is used twice.
    NotUnique = "not-unique",
    /// A CA that is not in the checkout or cannot be used.
    CaUnusable = "ca-unusable",
    /// A checkout that declares no Mesh.
    NoMesh = "no-mesh",
    /// Specs or lock are for an engine of another version.
    OtherEngineRequired = "other-engine-required",
    /// Clusters are joined, and foreign roots are not accepted.
    ForeignRootsNotAccepted = "foreign-roots-not-accepted",
    /// A cluster that the lock knows and no spec declares.
    ClusterVanished = "cluster-vanished",
    /// The tree is that of a mesh of another name.
    MeshRenamed = "mesh-renamed",
    /// A field that no edit changes while links rest on it.
    EditWhileJoined = "edit-while-joined",
    /// A template that is none of the engine's, cannot be rendered, or leaves out what it has to have.
    InvalidTemplate = "invalid-template",
    /// An override of a template changes what it may not.
    OverrideNotAllowed = "override-not-allowed",
    /// What the policy of the checkout does not admit.
    PolicyViolated = "policy-violated",
    /// What the specs ask for cannot be rendered: an object is too large, or is not read back as it was meant.
    NotRendered = "not-rendered",
    /// The standard mesh networks cannot be read.
    StandardNetworksBroken = "standard-networks-broken",
    /// A root CA expires soon or has expired.
    RootCaEnds = "root-ca-ends",
    /// Root CAs that cannot be told apart by their subject.
    RootCasShareSubject = "root-cas-share-subject",
    /// Istio runs in a way in which a join, or some of it, does not work.
    IstioModeUnsuited = "istio-mode-unsuited",
    /// The lock is not as an engine wrote it.
    LockBroken = "lock-broken",
    /// The specs of a base have findings, so what it last rendered stands for it.
    BaseNotRendered = "base-not-rendered",

    ["What ends a command"]
    /// The checkout has findings, which are listed.
    CheckoutHasFindings = "checkout-has-findings",
    /// A command, flag or argument does not exist, or does not go with the others.
    InvalidArguments = "invalid-arguments",
    /// No spec declares this cluster.
    UnknownCluster = "unknown-cluster",
    /// The command does not apply to a cluster like this one.
    NotForCluster = "not-for-this-cluster",
    /// Another engine works in the checkout.
    AnotherEngineWorks = "another-engine-works",
    /// The folder of the checkout does not exist.
    CheckoutAbsent = "checkout-absent",
    /// A path, or a kind of file, that is not read or written.
    PathRefused = "path-refused",
    /// What the command would make exists already.
    AlreadyExists = "already-exists",
    /// The system did not do what was asked: a file, a socket, a thread.
    SystemFailed = "system-failed",
    /// git is not installed, or a git command failed.
    GitFailed = "git-failed",
    /// Another process works in the repository.
    GitBusy = "git-busy",
    /// The checkout is not in a git work tree.
    NotInGit = "not-in-git",
    /// No branch is checked out.
    NoBranch = "no-branch",
    /// A revision that is not in the clone.
    UnknownRevision = "unknown-revision",
    /// Local changes and the remote's commits cannot be combined.
    BranchesApart = "branches-apart",
    /// The remote keeps rejecting the push.
    PushRejected = "push-rejected",
    /// What is declared is not committed, and runs are taken on what is.
    SpecsNotCommitted = "specs-not-committed",
    /// A file that is not a stored plan of this engine.
    PlanMalformed = "plan-malformed",
    /// What a stored plan rests on changed.
    PlanStale = "plan-stale",
    /// A stored plan was made too long ago, or later than now.
    PlanTooOld = "plan-too-old",
    /// What the clusters show now leads to another plan than the stored one.
    PlanDiffers = "plan-differs",
    /// A bundle that is broken, too old, or holds what is not accepted.
    BundleRefused = "bundle-refused",
    /// A bundle is signed by an unexpected key.
    BundleSignerNotKnown = "bundle-signer-not-known",
    /// A kubeconfig, or a context of it, through which no cluster can be read.
    KubeconfigUnusable = "kubeconfig-unusable",
    /// A role did not start, or ended.
    RoleFailed = "role-failed",
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

/// A reason that can be shown to people and machines alike: a value of a closed enum.
pub trait Explain {
    /// Its code, its sentence, and what to do about it.
    fn explanation(&self) -> Explanation;
}

/// Only in tests: elsewhere a reason is a value of a closed enum.
#[cfg(test)]
impl Explain for Explanation {
    fn explanation(&self) -> Explanation {
        self.clone()
    }
}

impl<T: Explain> Explain for &T {
    fn explanation(&self) -> Explanation {
        (*self).explanation()
    }
}

/// A reason as machines read it; as text it is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Explanation {
    /// What it is called.
    pub code: Code,
    /// What is the matter.
    pub message: String,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
}

impl Explanation {
    /// A message with its code, without a hint of what to do next.
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
            document-malformed document-incomplete file-missing file-unreadable request-not-prepared readings-differ \
            public-document-not-read public-document-not-accepted key-missing links-still-leaving root-ca-refused \
            cluster-domain-differs gateway-inside trust-change-held-back \
            key-unusable key-not-known cluster-key-needed reader-not-known \
            cluster-not-reached cluster-paused link-begins peer-reads-first private-document-missing relay-ca-missing \
            evidence-not-seen evidence-missing evidence-unknown root-ca-not-live network-not-live route-not-live relay-not-admitted \
            istio-not-prepared trust-domain-not-accepted root-cas-hidden standard-config-incomplete hand-over \
            withdrawn-object-still-there withdrawn-object-unknown \
            not-synced settling other-direction-still-there too-many-deletions \
            lock-entry-missing law lock-link-missing lock-older-than-tree tree-secret-missing file-not-ours kustomization-not-ours folder-of-unknown-cluster \
            file-not-rendered lock-edited new-cluster secret-by-hand links-open links-close links-reopen links-restored links-cut \
            share-opens share-closes spec-edited override-edited policy-edited document-edited \
            first-contact lock-entry-lost cluster-uuid-changed authn-key-changed further-authn-key-changed root-ca-changed \
            relay-ca-changed trust-domain-changed api-host-changed api-host-not-allowed api-ca-changed \
            cluster-id-changed gateway-not-allowed metadata-source-changed contradicts-pin claimed-by-another \
            too-many-findings limit-exceeded wrong-encoding merge-conflict invalid-yaml unknown-kind unknown-field \
            field-missing invalid-value not-available direct-credentials secret-in-file contradictory-specs \
            not-unique ca-unusable no-mesh other-engine-required foreign-roots-not-accepted cluster-vanished \
            mesh-renamed edit-while-joined invalid-template override-not-allowed policy-violated not-rendered standard-networks-broken root-ca-ends \
            root-cas-share-subject istio-mode-unsuited lock-broken base-not-rendered checkout-has-findings invalid-arguments \
            unknown-cluster not-for-this-cluster another-engine-works checkout-absent path-refused already-exists \
            system-failed git-failed git-busy not-in-git no-branch unknown-revision branches-apart push-rejected specs-not-committed \
            plan-malformed plan-stale plan-too-old plan-differs bundle-refused bundle-signer-not-known kubeconfig-unusable role-failed";
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
