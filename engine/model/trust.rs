//! Trust changes: what a cluster is trusted for and changed, what becomes of it, and what was approved.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use crate::types::explanation::{Code, Explanation};
use crate::types::key::KeyId;
use crate::types::name::{ClusterName, Digest, InvalidName};

/// What was approved on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    /// All trust changes of this run.
    pub all: bool,
    /// Trust changes of these clusters; with a digest, only the one it names.
    pub named: Vec<Approval>,
}

/// `NAME` or `NAME@DIGEST` of `--accept-trust`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub cluster: ClusterName,
    /// At least eight hex digits of the trust change's digest.
    pub digest: Option<String>,
}

impl std::str::FromStr for Approval {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        let digest = digest.map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest));
        let hex = |digest: &str| digest.len() >= 8 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digest.is_some_and(|digest| !hex(digest)) {
            return Err(InvalidName {
                kind: "approval",
                text: text.to_owned(),
                rule: "`NAME` or `NAME@DIGEST` with at least 8 hex digits, as the plan prints it",
            });
        }
        Ok(Self { cluster: name.parse()?, digest: digest.map(str::to_owned) })
    }
}

impl Approvals {
    /// Whether a change of this digest is approved for a cluster.
    pub fn cover(&self, cluster: &ClusterName, digest: &Digest) -> bool {
        let named = |approval: &Approval| {
            approval.cluster == *cluster
                && approval.digest.as_ref().is_none_or(|hex| digest.hex().starts_with(hex.as_str()))
        };
        self.all || self.named.iter().any(named)
    }
}

/// A change of what a cluster is trusted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustChange {
    pub cluster: ClusterName,
    /// Names exactly this change; `--accept-trust NAME@DIGEST`.
    pub digest: Digest,
    pub findings: Vec<TrustFinding>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The cluster whose relay read it; `None`: the engine itself, or no one.
    pub read_by: Option<ClusterName>,
}

impl TrustChange {
    /// As `--accept-trust` takes exactly this change: `NAME@DIGEST`, with the first 12 digits of the digest.
    pub fn name(&self) -> String {
        format!("{}@{}", self.cluster, self.digest.short(12))
    }
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustFinding {
    pub what: TrustField,
    /// The value in the lock.
    pub before: Option<String>,
    /// The value published now.
    pub after: Option<String>,
    pub meaning: TrustMeaning,
}

/// What a cluster is trusted for and can change. In the order of their names, which is that of findings in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustField {
    /// The CA of its api-proxy.
    ApiCa,
    /// Where its api-proxy is reached.
    ApiHost,
    /// The key that speaks for it.
    AuthnKey,
    /// The ID that istiod knows it by.
    ClusterId,
    ClusterUuid,
    /// All of it, for the first time.
    FirstContact,
    /// A key of a further engine.
    FurtherAuthnKey,
    /// Where traffic for its network is sent.
    Gateway,
    /// Where its documents are read.
    MetadataSource,
    Network,
    RelayCa,
    RootCa,
    TrustDomain,
}

impl TrustField {
    /// Its name for people, which digests of trust changes cover.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiCa => "api CA",
            Self::ApiHost => "api host",
            Self::AuthnKey => "authn key",
            Self::ClusterId => "cluster ID",
            Self::ClusterUuid => "cluster UUID",
            Self::FirstContact => "first contact",
            Self::FurtherAuthnKey => "further authn key",
            Self::Gateway => "gateway",
            Self::MetadataSource => "metadata source",
            Self::Network => "network",
            Self::RelayCa => "relay CA",
            Self::RootCa => "root CA",
            Self::TrustDomain => "trust domain",
        }
    }

    /// Its name for machines.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ApiCa => "api-ca",
            Self::ApiHost => "api-host",
            Self::AuthnKey => "authn-key",
            Self::ClusterId => "cluster-id",
            Self::ClusterUuid => "cluster-uuid",
            Self::FirstContact => "first-contact",
            Self::FurtherAuthnKey => "further-authn-key",
            Self::Gateway => "gateway",
            Self::MetadataSource => "metadata-source",
            Self::Network => "network",
            Self::RelayCa => "relay-ca",
            Self::RootCa => "root-ca",
            Self::TrustDomain => "trust-domain",
        }
    }
}

impl fmt::Display for TrustField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a finding means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustMeaning {
    /// No one has approved the cluster yet.
    FirstContact,
    /// A cluster on which others rest, and of which the lock lost what was accepted.
    EntryLost,
    ClusterUuid,
    AuthnKey,
    /// A further key that is new or another.
    FurtherAuthnKey {
        id: KeyId,
    },
    RootCa,
    /// Another CA of the relay.
    RelayCa,
    TrustDomain,
    /// An api host that the spec does not allow: another one than before, or the first.
    ApiHost {
        /// Whether one was known before.
        known: bool,
    },
    /// Another CA of the api-proxy.
    ApiCa,
    ClusterId,
    /// A gateway at an address that the spec does not allow.
    Gateway,
    /// Its documents are read elsewhere, where the CA that it published does not vouch for who answers.
    MetadataSource,
    /// Another value than the spec pins.
    ContradictsPin {
        /// What is pinned.
        what: TrustField,
        pinned: String,
        found: String,
    },
    /// A value that the policy of the checkout does not admit.
    NotInPolicy {
        what: TrustField,
        found: String,
        /// The rule's place: file, line, column.
        rule: String,
    },
    /// A value that another cluster is known by.
    ClaimedByAnother {
        /// What is claimed.
        what: TrustField,
        value: String,
        other: ClusterName,
    },
}

impl TrustMeaning {
    /// What the finding is about.
    pub fn field(&self) -> TrustField {
        match self {
            Self::FirstContact | Self::EntryLost => TrustField::FirstContact,
            Self::ClusterUuid => TrustField::ClusterUuid,
            Self::AuthnKey => TrustField::AuthnKey,
            Self::FurtherAuthnKey { .. } => TrustField::FurtherAuthnKey,
            Self::RootCa => TrustField::RootCa,
            Self::RelayCa => TrustField::RelayCa,
            Self::TrustDomain => TrustField::TrustDomain,
            Self::ApiHost { .. } => TrustField::ApiHost,
            Self::ApiCa => TrustField::ApiCa,
            Self::ClusterId => TrustField::ClusterId,
            Self::Gateway => TrustField::Gateway,
            Self::MetadataSource => TrustField::MetadataSource,
            Self::ContradictsPin { what, .. }
            | Self::NotInPolicy { what, .. }
            | Self::ClaimedByAnother { what, .. } => *what,
        }
    }

    /// What the finding is called by machines.
    pub fn code(&self) -> Code {
        match self {
            Self::FirstContact => Code::FirstContact,
            Self::EntryLost => Code::LockEntryLost,
            Self::ClusterUuid => Code::ClusterUuidChanged,
            Self::AuthnKey => Code::AuthnKeyChanged,
            Self::FurtherAuthnKey { .. } => Code::FurtherAuthnKeyChanged,
            Self::RootCa => Code::RootCaChanged,
            Self::RelayCa => Code::RelayCaChanged,
            Self::TrustDomain => Code::TrustDomainChanged,
            Self::ApiHost { known: true } => Code::ApiHostChanged,
            Self::ApiHost { known: false } => Code::ApiHostNotAllowed,
            Self::ApiCa => Code::ApiCaChanged,
            Self::ClusterId => Code::ClusterIdChanged,
            Self::Gateway => Code::GatewayNotAllowed,
            Self::MetadataSource => Code::MetadataSourceChanged,
            Self::ContradictsPin { .. } => Code::ContradictsPin,
            Self::NotInPolicy { .. } => Code::PolicyViolated,
            Self::ClaimedByAnother { .. } => Code::ClaimedByAnother,
        }
    }

    /// The meaning for people and machines alike.
    pub fn explanation(&self) -> Explanation {
        let message = match self {
            Self::FirstContact => {
                "this cluster is new; once it is accepted, its root CA can sign every identity of every accepted trust domain"
                    .to_owned()
            }
            Self::EntryLost => {
                "other clusters rest on it, and the lock lost what was accepted of it; whoever answers now may be another"
                    .to_owned()
            }
            Self::ClusterUuid => {
                "another cluster answers, or this one was rebuilt; once it is accepted, its links leave first and then join anew"
                    .to_owned()
            }
            Self::AuthnKey => "whoever holds the new key speaks for this cluster".to_owned(),
            Self::FurtherAuthnKey { id } => {
                format!("a holder of the key `{id}` reads private metadata in this cluster's name")
            }
            Self::RootCa => "each root can sign every identity of every accepted trust domain".to_owned(),
            Self::RelayCa => "istiod sends its requests to whoever this CA vouches for".to_owned(),
            Self::TrustDomain => "identities of this domain become acceptable".to_owned(),
            Self::ApiHost { .. } => "istiod's requests, with our credentials, go to this host".to_owned(),
            Self::ApiCa => "whoever this CA vouches for is taken for the api-proxy".to_owned(),
            Self::ClusterId => "its endpoints are registered under another cluster ID".to_owned(),
            Self::Gateway => "traffic for its network is sent to an address that the spec does not allow".to_owned(),
            Self::MetadataSource => "the serving CA that this cluster published does not vouch for who answers there; once it is \
                                     accepted, whoever answers gets our metadata tokens and says what this cluster is"
                .to_owned(),
            Self::ContradictsPin { what, pinned, found } => {
                format!("expected the {what} that the spec pins, {pinned}, found {found}")
            }
            Self::NotInPolicy { what, found, rule } => {
                format!("the rule at {rule} does not admit the {what} `{found}`")
            }
            Self::ClaimedByAnother { what, value, other } => format!(
                "the {what} `{value}` is also that of cluster `{other}`: one of the two claims what is not its own"
            ),
        };
        let hint = match self {
            Self::ContradictsPin { .. } => Some("if the new value is right, change the pin in a pull request"),
            Self::NotInPolicy { .. } => Some("nothing of this cluster is taken until the policy admits it"),
            Self::ClaimedByAnother { what: TrustField::Network, .. } => Some(
                "nothing of this cluster is taken until they differ, or both specs set `flatNetwork: true`, which is for \
                 clusters whose pods reach each other without a gateway",
            ),
            Self::ClaimedByAnother { .. } => Some("nothing of this cluster is taken until they differ"),
            Self::MetadataSource => {
                Some("an edit of `metadata` needs no acceptance where the certificate is from the CA in the lock")
            }
            Self::EntryLost => Some("restore its file below lock/clusters/ from git rather than accept it anew"),
            Self::FirstContact
            | Self::ClusterUuid
            | Self::AuthnKey
            | Self::FurtherAuthnKey { .. }
            | Self::RootCa
            | Self::RelayCa
            | Self::TrustDomain
            | Self::ApiHost { .. }
            | Self::ApiCa
            | Self::ClusterId
            | Self::Gateway => None,
        };
        Explanation { code: self.code(), message, hint: hint.map(str::to_owned) }
    }
}

impl fmt::Display for TrustMeaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation().fmt(f)
    }
}

/// What becomes of a trust change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It waits for `--accept-trust`.
    HeldBack,
    /// It is in the lock that a pull request changes: merging it accepts it.
    Proposed,
    /// It is approved in this run, by `--accept-trust` or by a pin.
    Approved,
    /// No approval can help: the spec has to change.
    Refused,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [TrustField; 12] = [
        TrustField::ApiCa,
        TrustField::ApiHost,
        TrustField::AuthnKey,
        TrustField::ClusterId,
        TrustField::ClusterUuid,
        TrustField::FirstContact,
        TrustField::FurtherAuthnKey,
        TrustField::Gateway,
        TrustField::Network,
        TrustField::RelayCa,
        TrustField::RootCa,
        TrustField::TrustDomain,
    ];

    #[test]
    fn fields_sort_as_their_names_do_and_no_code_is_respelt() {
        let names: Vec<&str> = ALL.iter().map(|field| field.as_str()).collect();
        assert!(names.is_sorted() && ALL.is_sorted(), "the digest of a trust change covers the order");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        let codes: Vec<&str> = ALL.iter().map(|field| field.code()).collect();
        let released = "api-ca api-host authn-key cluster-id cluster-uuid first-contact further-authn-key gateway \
            network relay-ca root-ca trust-domain";
        assert_eq!(codes, released.split_whitespace().collect::<Vec<_>>());
    }
}
