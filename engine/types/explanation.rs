//! Why something is as it is: a sentence for people, and a code for machines that stays while sentences get better.
//!
//! The enums that hold the reasons are closed, carry names and values, and stand where they arise; each says its
//! [`Explanation`], and its `Display` is that explanation as one sentence.
#![deny(clippy::wildcard_enum_match_arm)]

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
    /// The run that dropped an object is not synced yet.
    NotSynced = "not-synced",
    /// A stage of leaving lasts for a time, since no evidence can show that it is over.
    Settling = "settling",
    /// The other direction of the pair still reads.
    OtherDirectionStillThere = "other-direction-still-there",
    /// More links would go than the guard lets pass.
    TooManyDeletions = "too-many-deletions",

    // rendering and comparing
    /// A link names a cluster of which the lock holds nothing.
    ClusterNotInLock = "cluster-not-in-lock",
    /// The lock lost the entry of a cluster that a link names.
    LockEntryMissing = "lock-entry-missing",
    /// The lock lost the link of a remote secret in the tree.
    LockLinkMissing = "lock-link-missing",
    /// A file of somebody else is in the way.
    FileNotOurs = "file-not-ours",
    /// A folder of a cluster that neither spec nor lock knows.
    FolderOfUnknownCluster = "folder-of-unknown-cluster",

    // trust changes
    /// A cluster that nobody has approved yet.
    FirstContact = "first-contact",
    /// The lock lost what was accepted of a cluster on which others rest.
    LockEntryLost = "lock-entry-lost",
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

    // findings on the files of a checkout: reading a spec
    /// A file has more findings than are listed.
    TooManyFindings = "too-many-findings",
    /// A file has too many bytes.
    FileTooLarge = "file-too-large",
    /// A file is in another encoding than UTF-8.
    WrongEncoding = "wrong-encoding",
    /// A file holds a NUL byte.
    NulByte = "nul-byte",
    /// A file holds the markers of a merge conflict.
    MergeConflict = "merge-conflict",
    /// A tab indents a line of YAML.
    TabIndentation = "tab-indentation",
    /// A document is nested too deep.
    NestedTooDeep = "nested-too-deep",
    /// A file is no YAML.
    NotYaml = "not-yaml",
    /// A document has a YAML tag.
    YamlTag = "yaml-tag",
    /// A YAML alias that cannot be followed.
    YamlAlias = "yaml-alias",
    /// A document has too many values.
    TooManyValues = "too-many-values",
    /// A mapping has a key that is no text.
    KeyNotText = "key-not-text",
    /// A field stands twice.
    FieldTwice = "field-twice",
    /// A field that the kind does not have.
    UnknownField = "unknown-field",
    /// Direct credentials, which this version does not have.
    DirectCredentials = "direct-credentials",
    /// A value that should be a mapping.
    NotMapping = "not-a-mapping",
    /// A value that should be a text.
    NotText = "not-a-text",
    /// A value that should be `true` or `false`.
    NotFlag = "not-a-flag",
    /// A value that should be a whole number within limits.
    NotNumber = "not-a-number",
    /// A value that is none of those that may stand there.
    NotChoice = "not-a-choice",
    /// A value that should be a list.
    NotList = "not-a-list",
    /// A field that has to be there.
    FieldMissing = "field-missing",
    /// A field without a value.
    ValueEmpty = "value-empty",
    /// A private key where a name should be.
    PrivateKeyInSpec = "private-key-in-spec",
    /// A text that breaks the grammar of its field.
    InvalidName = "invalid-name",
    /// A document of a kind that is no spec's.
    UnknownKind = "unknown-kind",
    /// A document of an API version that is not read.
    UnknownApiVersion = "unknown-api-version",
    /// A pair that has not two names.
    PairWithoutTwoNames = "pair-without-two-names",
    /// A reconciler that this version does not have.
    ReconcilerNotAvailable = "reconciler-not-available",
    /// A text that is no duration.
    InvalidDuration = "invalid-duration",
    /// A text that is no reference of an image.
    InvalidImage = "invalid-image",
    /// A CA that has both sources or none.
    CaWithoutOneSource = "ca-without-one-source",
    /// A path that does not stay below the checkout.
    PathOutsideCheckout = "path-outside-checkout",
    /// A share that this version does not have.
    ShareNotAvailable = "share-not-available",
    /// A source of a key that this version does not have.
    KeySourceNotAvailable = "key-source-not-available",
    /// A text that is no name of an environment variable.
    InvalidVariableName = "invalid-variable-name",
    /// A key that has several sources or none.
    KeyWithoutOneSource = "key-without-one-source",
    /// An endpoint whose certificate is not to be verified.
    InsecureEndpoint = "insecure-endpoint",

    // compiling the specs
    /// The cluster ID of every Istio that was left as it comes.
    ClusterIdOfNoCluster = "cluster-id-of-no-cluster",
    /// Settings of components for a cluster that gets none.
    ComponentsNotDeployed = "components-not-deployed",
    /// A field without which components cannot be rendered.
    ComponentFieldMissing = "component-field-missing",
    /// A key of a cluster of another checkout.
    KeyOfAnotherCheckout = "key-of-another-checkout",
    /// An empty list of revisions.
    RevisionsEmpty = "revisions-empty",
    /// A revision that stands twice.
    RevisionTwice = "revision-twice",
    /// No gateway, of a network that is not flat.
    GatewaysEmpty = "gateways-empty",
    /// An api host that the spec states and does not allow.
    ApiHostOutsideAllow = "api-host-outside-allow",
    /// An address that each machine takes for itself.
    InwardAddress = "inward-address",
    /// An address that the spec states and does not allow.
    AddressOutsideAllow = "address-outside-allow",
    /// A CA file that cannot be read.
    CaFileMissing = "ca-file-missing",
    /// A CA file that is no PEM.
    CaFileNotText = "ca-file-not-text",
    /// A CA that cannot be used.
    CaUnusable = "ca-unusable",
    /// A checkout without specs.
    NoSpecs = "no-specs",
    /// A checkout without a Mesh.
    NoMesh = "no-mesh",
    /// A second Mesh in one checkout.
    SecondMesh = "second-mesh",
    /// Two clusters of one name.
    ClusterTwice = "cluster-twice",
    /// A cluster that says not which of several meshes it is in.
    MeshNotSaid = "mesh-not-said",
    /// A cluster in a mesh that is not declared.
    UnknownMesh = "unknown-mesh",
    /// A required engine that is no minor version.
    InvalidRequiredEngine = "invalid-required-engine",
    /// The checkout requires another engine.
    OtherEngineRequired = "other-engine-required",
    /// Clusters are joined, and foreign roots are not accepted.
    ForeignRootsNotAccepted = "foreign-roots-not-accepted",
    /// A key of the engine that cannot be used.
    EngineKeyUnusable = "engine-key-unusable",
    /// Two keys of the engine with one id, or one key twice.
    EngineKeyTwice = "engine-key-twice",
    /// Pairs where the topology is full.
    PairsWithoutTopology = "pairs-without-topology",
    /// The topology is pairs, and there are none.
    TopologyWithoutPairs = "topology-without-pairs",
    /// A cluster that is paired with itself.
    PairWithItself = "pair-with-itself",
    /// A pair of clusters that are both of other checkouts.
    PairOfOtherCheckouts = "pair-of-other-checkouts",
    /// A pair that names a cluster that is not declared.
    PairOfUnknownCluster = "pair-of-unknown-cluster",
    /// A value of which each cluster needs its own.
    ValueOfAnotherCluster = "value-of-another-cluster",
    /// A network that one cluster calls flat and another its own.
    FlatBesideOwnNetwork = "flat-beside-own-network",
    /// Two cluster domains in one mesh.
    ClusterDomainsDiffer = "cluster-domains-differ",
    /// A port that a Deckhouse cluster cannot read.
    EndpointPortNotReadable = "endpoint-port-not-readable",
    /// A folder that a Deckhouse cluster cannot read.
    EndpointFolderNotReadable = "endpoint-folder-not-readable",
    /// A peer in a checkout that has no cluster of its own.
    PeerOfNobody = "peer-of-nobody",
    /// A cluster with links and without components.
    LinkedWithoutComponents = "linked-without-components",
    /// Evidence is required of a folder of files.
    EvidenceOfFile = "evidence-of-file",
    /// A cluster that the lock knows and no spec declares.
    ClusterVanished = "cluster-vanished",
    /// A field that no edit changes while links rest on it.
    EditWhileJoined = "edit-while-joined",

    // templates and rendering
    /// An override of a template that there is not.
    UnknownTemplate = "unknown-template",
    /// A template that cannot be rendered.
    TemplateBroken = "template-broken",
    /// A template that renders to no YAML.
    TemplateNotYaml = "template-not-yaml",
    /// A template that renders to something else than objects.
    TemplateNotObject = "template-not-an-object",
    /// An override that does not keep what the template has to have.
    OverrideBreaksModel = "override-breaks-model",
    /// A value that cannot be written as YAML or JSON.
    NotWritable = "not-writable",
    /// A text that another parser does not read as it was meant.
    NotReadBack = "not-read-back",
    /// An object that Kubernetes would not keep.
    ObjectTooLarge = "object-too-large",
    /// The standard mesh networks cannot be read.
    StandardNetworksBroken = "standard-networks-broken",
    /// A root CA that ends soon or has ended.
    RootCaEnds = "root-ca-ends",
    /// Root CAs that cannot be told apart by their subject.
    RootCasShareSubject = "root-cas-share-subject",

    // the lock
    /// A file that is not part of a lock.
    NotPartOfLock = "not-part-of-lock",
    /// A file of the lock that speaks of another cluster than its name.
    LockNameDiffers = "lock-name-differs",
    /// A key in the lock that cannot be used.
    LockedKeyUnusable = "locked-key-unusable",
    /// A key in the lock that is not the one that its digest names.
    LockedKeyDiffers = "locked-key-differs",
    /// A root CA in the lock that cannot be used.
    LockedRootUnusable = "locked-root-unusable",
    /// A root CA in the lock that is not the one that its digest names.
    LockedRootDiffers = "locked-root-differs",
    /// A file of the lock that breaks the format.
    LockMalformed = "lock-malformed",
    /// A lock of a newer engine.
    LockTooNew = "lock-too-new",
    /// The specs of a base have findings, so what it last rendered stands for it.
    BaseNotRendered = "base-not-rendered",

    // what ends a command: files of a checkout
    /// Another engine works in the checkout.
    AnotherEngineWorks = "another-engine-works",
    /// There is no folder to work in.
    CheckoutAbsent = "checkout-absent",
    /// A path that is not taken, whatever is there.
    PathRefused = "path-refused",
    /// Something else than a plain file or folder.
    WrongKindOfFile = "wrong-kind-of-file",
    /// A name of a file that is no plain text.
    FileNameNotText = "file-name-not-text",
    /// More or larger files than are read.
    FileLimitPassed = "file-limit-passed",
    /// A file that must not be replaced.
    FileExists = "file-exists",
    /// The system refused to read or write a file of the checkout.
    FileSystemFailed = "file-system-failed",
    /// A file outside the checkout cannot be read.
    FileNotRead = "file-not-read",
    /// A file outside the checkout, or stdout, cannot be written.
    FileNotWritten = "file-not-written",
    /// The rendered files cannot be read.
    TreeUnreadable = "tree-unreadable",

    // git
    /// There is no git.
    GitMissing = "git-missing",
    /// git does not trust the owner of the checkout.
    GitOwner = "git-owner-not-trusted",
    /// git took too long.
    GitTimedOut = "git-timed-out",
    /// git did not do what was asked.
    GitFailed = "git-failed",
    /// Somebody else is at work in the repository.
    GitBusy = "git-busy",
    /// A file changed while it was committed.
    FileChangedMeanwhile = "file-changed-meanwhile",
    /// No branch is checked out.
    NoBranch = "no-branch",
    /// The branch for commits is the one that is checked out.
    BranchCheckedOut = "branch-checked-out",
    /// A text that is no name of a branch.
    InvalidBranchName = "invalid-branch-name",
    /// A revision that is not in the clone.
    UnknownRevision = "unknown-revision",
    /// A remote that is none.
    UnknownRemote = "unknown-remote",
    /// The remote's branch and this one have grown apart.
    BranchesApart = "branches-apart",
    /// Commits of a person's stand in the way of the remote's.
    CommitsNotPushed = "commits-not-pushed",
    /// Changes of a person's stand in the way of the remote's commits.
    ChangesNotCommitted = "changes-not-committed",
    /// The remote does not take commits, however often it is tried.
    PushRejected = "push-rejected",
    /// The checkout lies in no git work tree.
    NotInGit = "not-in-git",

    // commands
    /// The checkout has findings, which are listed.
    CheckoutHasFindings = "checkout-has-findings",
    /// Steps need each other in a circle.
    StepsInCircle = "steps-in-circle",
    /// A cluster that no spec declares.
    UnknownCluster = "unknown-cluster",
    /// Threads for the network could not be started.
    RuntimeNotStarted = "runtime-not-started",
    /// An address cannot be bound.
    CannotListen = "cannot-listen",
    /// A file that is no stored plan of this engine.
    PlanMalformed = "plan-malformed",
    /// What a stored plan rests on changed.
    PlanStale = "plan-stale",
    /// A flag with a value that it cannot have.
    InvalidFlag = "invalid-flag",
    /// A flag that means nothing to the command.
    FlagNotForCommand = "flag-not-for-command",
    /// A flag that the command cannot do without.
    FlagMissing = "flag-missing",
    /// Flags that contradict each other.
    FlagsContradict = "flags-contradict",
    /// A command that there is not.
    UnknownCommand = "unknown-command",
    /// A command or value of the design that this version does not have.
    CommandNotAvailable = "command-not-available",
    /// A parameter of an Application that cannot be followed.
    InvalidParameter = "invalid-parameter",
    /// An Application asks for another mesh.
    OtherMesh = "other-mesh",
    /// A cluster that another checkout renders.
    ClusterExternal = "cluster-external",
    /// Nothing is rendered, and the cluster has not left.
    NothingRendered = "nothing-rendered",
    /// An object of somebody else in a folder of ours.
    ObjectNotOurs = "object-not-ours",
    /// A joined link whose remote secret cannot be made.
    JoinedWithoutSecret = "joined-without-secret",
    /// A bundle that is broken or holds what is not accepted.
    BundleRefused = "bundle-refused",
    /// A bundle of a cluster that is not asked.
    BundleWithoutCluster = "bundle-without-cluster",
    /// A bundle that is not signed by whom it should.
    BundleSignerNotKnown = "bundle-signer-not-known",
    /// A bundle that was made before the one that was taken last.
    BundleOlder = "bundle-older",
    /// A bundle for a cluster that is not read from files.
    EndpointNotFiles = "endpoint-not-files",
    /// The demo could not be run.
    DemoFailed = "demo-failed",
    /// A folder that should be empty.
    FolderNotEmpty = "folder-not-empty",
    /// A file that git would track holds a secret.
    SecretInFile = "secret-in-file",
    /// A kubeconfig that cannot be used.
    KubeconfigUnusable = "kubeconfig-unusable",
    /// A checkout that has specs already.
    SpecsExist = "specs-exist",
    /// A kubeconfig without a context.
    NoContext = "no-context",
    /// A context that the kubeconfig does not have.
    UnknownContext = "unknown-context",
    /// A cluster that nobody can be invited to.
    NotInvitable = "not-invitable",
    /// There is a key of the engine already.
    EngineKeyKnown = "engine-key-known",
    /// The key of the engine could not be made.
    EngineKeyNotMade = "engine-key-not-made",
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

/// A reason that can be told to people and machines alike: a value of a closed enum.
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
            not-synced settling other-direction-still-there too-many-deletions \
            cluster-not-in-lock lock-entry-missing lock-link-missing file-not-ours folder-of-unknown-cluster \
            first-contact lock-entry-lost cluster-uuid-changed authn-key-changed further-authn-key-changed root-ca-changed \
            relay-ca-changed trust-domain-changed api-host-changed api-host-not-allowed api-ca-changed \
            cluster-id-changed gateway-not-allowed contradicts-pin claimed-by-another \
            too-many-findings file-too-large wrong-encoding nul-byte merge-conflict tab-indentation nested-too-deep \
            not-yaml yaml-tag yaml-alias too-many-values key-not-text field-twice unknown-field direct-credentials \
            not-a-mapping not-a-text not-a-flag not-a-number not-a-choice not-a-list field-missing value-empty \
            private-key-in-spec invalid-name unknown-kind unknown-api-version pair-without-two-names \
            reconciler-not-available invalid-duration invalid-image ca-without-one-source path-outside-checkout share-not-available \
            key-source-not-available invalid-variable-name key-without-one-source insecure-endpoint \
            cluster-id-of-no-cluster components-not-deployed component-field-missing key-of-another-checkout \
            revisions-empty revision-twice gateways-empty api-host-outside-allow inward-address \
            address-outside-allow ca-file-missing ca-file-not-text ca-unusable no-specs no-mesh second-mesh \
            cluster-twice mesh-not-said unknown-mesh invalid-required-engine other-engine-required \
            foreign-roots-not-accepted engine-key-unusable engine-key-twice pairs-without-topology \
            topology-without-pairs pair-with-itself pair-of-other-checkouts pair-of-unknown-cluster \
            value-of-another-cluster flat-beside-own-network cluster-domains-differ endpoint-port-not-readable \
            endpoint-folder-not-readable peer-of-nobody linked-without-components evidence-of-file cluster-vanished edit-while-joined unknown-template \
            template-broken template-not-yaml template-not-an-object override-breaks-model not-writable \
            not-read-back object-too-large standard-networks-broken root-ca-ends root-cas-share-subject \
            not-part-of-lock lock-name-differs locked-key-unusable locked-key-differs locked-root-unusable \
            locked-root-differs lock-malformed lock-too-new base-not-rendered \
            another-engine-works checkout-absent path-refused wrong-kind-of-file file-name-not-text \
            file-limit-passed file-exists file-system-failed file-not-read file-not-written tree-unreadable \
            git-missing git-owner-not-trusted git-timed-out git-failed git-busy file-changed-meanwhile no-branch \
            branch-checked-out invalid-branch-name unknown-revision unknown-remote branches-apart commits-not-pushed \
            changes-not-committed push-rejected not-in-git checkout-has-findings steps-in-circle unknown-cluster \
            runtime-not-started cannot-listen plan-malformed plan-stale invalid-flag flag-not-for-command \
            flag-missing flags-contradict unknown-command command-not-available invalid-parameter other-mesh \
            cluster-external nothing-rendered object-not-ours joined-without-secret bundle-refused bundle-without-cluster \
            bundle-signer-not-known bundle-older endpoint-not-files demo-failed folder-not-empty secret-in-file \
            kubeconfig-unusable specs-exist no-context unknown-context not-invitable engine-key-known \
            engine-key-not-made role-failed";
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
