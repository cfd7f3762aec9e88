//! Rules of the policy, and what an edit of each allows.

#![deny(clippy::wildcard_enum_match_arm)]

/// A rule of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyRule {
    /// `images.allow`
    Images,
    /// `images.requireDigest`
    RequireDigest,
    /// `clusters.uuids`
    Uuids,
    /// `clusters.hosts`
    Hosts,
    /// `clusters.trustDomains`
    TrustDomains,
    /// `clusters.rootCAs`
    RootCas,
    /// `clusters.reconcilers`
    Reconcilers,
    /// `clusters.namespaces`
    Namespaces,
    /// `clusters.scopes`
    Scopes,
    /// `clusters.withoutEvidence`
    WithoutEvidence,
    /// `engineKeys`
    EngineKeys,
    /// `firstContact`
    FirstContact,
}

impl PolicyRule {
    /// As the policy spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Images => "images.allow",
            Self::RequireDigest => "images.requireDigest",
            Self::Uuids => "clusters.uuids",
            Self::Hosts => "clusters.hosts",
            Self::TrustDomains => "clusters.trustDomains",
            Self::RootCas => "clusters.rootCAs",
            Self::Reconcilers => "clusters.reconcilers",
            Self::Namespaces => "clusters.namespaces",
            Self::Scopes => "clusters.scopes",
            Self::WithoutEvidence => "clusters.withoutEvidence",
            Self::EngineKeys => "engineKeys",
            Self::FirstContact => "firstContact",
        }
    }

    /// What an edit of it allows.
    pub(super) fn message(self, before: Option<&str>, after: Option<&str>) -> String {
        let judges = match self {
            Self::Images => "which images get a cluster's private key",
            Self::RequireDigest => "whether an image has to be named by its digest",
            Self::Uuids => "which clusters may be in the mesh",
            Self::Hosts => "which hosts endpoints and api-proxies may have",
            Self::TrustDomains => "whose identities may be accepted",
            Self::RootCas => "which root CAs may be trusted",
            Self::Reconcilers => "who may act in a cluster",
            Self::Namespaces => "where our servers may run",
            Self::Scopes => "what further keys of a cluster may ask for",
            Self::WithoutEvidence => "whose links may open without evidence",
            Self::EngineKeys => "which keys may open private metadata",
            Self::FirstContact => "whether a new cluster may be accepted without review",
        };
        let how = match (before, after) {
            (_, None) => "; nothing limits that any more",
            (None, Some(_)) => "; nothing limited that before",
            (Some(_), Some(_)) => "",
        };
        format!("{judges}{how}; the base's policy judges this pull request, this one all that come after it")
    }
}
