//! `policy.yaml`: what the specs of a checkout may ask for, and which clusters may be in its mesh. It is apart from the specs so
//! that other people own it.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::mesh::{FirstContact, Reconciler};
use crate::types::address::HostPattern;
use crate::types::diagnostic::Location;
use crate::types::name::{ClusterName, ClusterUuid, Digest, Namespace, TrustDomain};
use crate::types::token::Scope;

/// A policy. A rule that is not there admits everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Its text, for excerpts.
    pub text: String,
    /// Images of exporter, api-proxy and relay.
    pub images: Option<Rule<Vec<ImagePattern>>>,
    /// Whether an image has to be named by its digest.
    pub require_digest: Option<Rule<bool>>,
    /// UUIDs of clusters in the mesh.
    pub uuids: Option<Rule<BTreeSet<ClusterUuid>>>,
    /// Hosts of endpoints and api-proxies.
    pub hosts: Option<Rule<Vec<HostPattern>>>,
    pub trust_domains: Option<Rule<BTreeSet<TrustDomain>>>,
    /// SHA-256 of the DER of root CAs.
    pub root_cas: Option<Rule<BTreeSet<Digest>>>,
    /// Who may act in a cluster.
    pub reconcilers: Option<Rule<BTreeSet<Reconciler>>>,
    /// Where components run.
    pub namespaces: Option<Rule<BTreeSet<Namespace>>>,
    /// What further keys of clusters may ask for.
    pub scopes: Option<Rule<BTreeSet<Scope>>>,
    /// Fingerprints of the engine's own keys.
    pub engine_keys: Option<Rule<BTreeSet<Digest>>>,
    /// Clusters that may do without evidence.
    pub without_evidence: Option<Rule<BTreeSet<ClusterName>>>,
    /// How first contact is approved.
    pub first_contact: Option<Rule<FirstContact>>,
}

/// A rule, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<T> {
    pub value: T,
    /// Its place in the policy.
    pub at: Location,
}

/// Images of one repository, or with `/*` at its end of all repositories below it. Neither tag nor digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern(String);

/// A text that is no pattern of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a registry and a repository, such as `ghcr.io/example/isthmus` or `ghcr.io/example/*`")]
pub struct InvalidImagePattern;

impl std::str::FromStr for ImagePattern {
    type Err = InvalidImagePattern;

    fn from_str(text: &str) -> Result<Self, InvalidImagePattern> {
        let (registry, path) = text.split_once('/').ok_or(InvalidImagePattern)?;
        // without a dot or a port the first part is a repository of Docker Hub, which is then to be said
        let is_host = registry.contains(['.', ':']) || registry == "localhost";
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | '/');
        let parts = path.strip_suffix("/*").or(path.strip_suffix('*').filter(|path| path.is_empty())).unwrap_or(path);
        let is_path = parts.chars().all(known) && (parts.is_empty() || parts.split('/').all(|part| !part.is_empty()));
        let is_named = is_host && is_path && !path.is_empty() && text.len() <= 255;
        is_named.then(|| Self(text.to_owned())).ok_or(InvalidImagePattern)
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl ImagePattern {
    /// Whether an image is one of these.
    pub fn admits(&self, image: &str) -> bool {
        let repository = image.split_once('@').map_or(image, |(name, _)| name);
        // a colon before the last slash is that of a port
        let repository = match repository.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => repository,
        };
        match self.0.strip_suffix('*') {
            Some(below) => repository.len() > below.len() && repository.starts_with(below),
            None => repository == self.0,
        }
    }
}

/// Whether an image is named by its digest.
pub fn has_digest(image: &str) -> bool {
    let digest = image.rsplit_once('@').and_then(|(_, digest)| digest.strip_prefix("sha256:"));
    digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_admitted_by_its_whole_repository() {
        let admits = |pattern: &str, image: &str| pattern.parse::<ImagePattern>().unwrap().admits(image);
        for image in
            ["ghcr.io/a/engine", "ghcr.io/a/engine:1", "ghcr.io/a/engine@sha256:00", "ghcr.io/a/engine:1@sha256:00"]
        {
            assert!(
                admits("ghcr.io/a/engine", image) && admits("ghcr.io/a/*", image) && admits("ghcr.io/*", image),
                "{image}"
            );
        }
        for image in ["ghcr.io/a/engine-evil", "ghcr.io/ab/engine", "evil.io/ghcr.io/a/engine", "ghcr.io/a/engine/evil"]
        {
            assert!(!admits("ghcr.io/a/engine", image), "{image}");
        }
        assert!(!admits("ghcr.io/a/*", "ghcr.io/ab/engine") && !admits("ghcr.io/a/*", "ghcr.io/a/"));
        assert!(admits("localhost:5000/engine", "localhost:5000/engine:1"));
        assert!(!admits("localhost:5000/engine", "localhost:5000/engine/x:1"));
    }

    #[test]
    fn patterns_name_a_registry() {
        for text in
            ["", "engine", "a/b", "ghcr.io/", "ghcr.io/a//b", "ghcr.io/a*", "ghcr.io/A", "ghcr.io/a:1", "*/a", "*"]
        {
            assert_eq!(text.parse::<ImagePattern>(), Err(InvalidImagePattern), "{text}");
        }
    }

    #[test]
    fn a_digest_is_whole() {
        assert!(has_digest(&format!("ghcr.io/a@sha256:{}", "0a".repeat(32))));
        for image in ["ghcr.io/a:1", "ghcr.io/a@sha256:00", "ghcr.io/a@sha512:00"] {
            assert!(!has_digest(image));
        }
    }
}
