//! Trust changes: what a cluster is trusted for and changed, what becomes of it, and what was approved.

use crate::types::name::{ClusterName, Digest, InvalidName};

/// What was approved on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    /// All trust changes of this turn.
    pub all: bool,
    /// Trust changes of these clusters; with a digest, only the one it names.
    pub named: Vec<Approval>,
}

/// `NAME` or `NAME@DIGEST` of `--accept-trust`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The cluster.
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
    /// The cluster.
    pub cluster: ClusterName,
    /// Names exactly this change; `--accept-trust NAME@DIGEST`.
    pub digest: Digest,
    /// What changed, in words.
    pub findings: Vec<TrustFinding>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustFinding {
    /// What changed, for example `root CA`.
    pub what: &'static str,
    /// The value in the lock.
    pub before: Option<String>,
    /// The value published now.
    pub after: Option<String>,
    /// What it means, in a reviewer's words.
    pub meaning: String,
}

/// What becomes of a trust change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It waits for `--accept-trust`.
    HeldBack,
    /// It is approved in this turn, by `--accept-trust` or by a pin.
    Approved,
    /// No approval can help: the spec has to change.
    Refused,
}
