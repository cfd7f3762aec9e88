//! Names: one type for each kind of name, built only through [`FromStr`], so that two kinds cannot be mixed up
//! and no text of a peer gets further than its grammar.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::text::{LONGEST_QUOTED, quoted};

/// A text that is no name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {} {kind}, found `{}`: {rule}", article(.kind), quoted(.text, LONGEST_QUOTED))]
pub struct InvalidName {
    /// What was wanted, for example `cluster name`.
    pub kind: &'static str,
    /// The offending text.
    pub text: String,
    /// The rule of the grammar.
    pub rule: &'static str,
}

/// The article of a kind of name, as it is read aloud.
fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { kind: $kind, text: text.to_owned(), rule: $rule })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": concat!($kind, ": ", $rule) })
            }
        }
    };
}

name_type! {
    /// The name of a cluster in a checkout: a DNS-1123 label, at most 63 characters.
    ///
    /// ```compile_fail
    /// use isthmus::types::name::{ClusterName, NetworkName};
    /// let network: NetworkName = "east".parse::<ClusterName>().unwrap();
    /// ```
    ClusterName, "cluster name", is_label, "at most 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit"
}
name_type! {
    /// The name of a mesh: a DNS-1123 label.
    MeshName, "mesh name", is_label, "at most 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit"
}
name_type! {
    /// `global.meshID` of Istio.
    MeshId, "mesh ID", is_label_value, "at most 63 of letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit"
}
name_type! {
    /// The `CLUSTER_ID` an istiod runs with, or is known by to its peers. Istio compares it case-sensitively and
    /// asks for its own DNS-1123 label, which admits capitals (`Kubernetes`, the default of every install).
    ClusterId, "cluster ID", is_istio_label, "at most 63 of letters, digits and `-`, beginning and ending with a letter or digit"
}
name_type! {
    /// A network of Istio, as in the label `topology.istio.io/network`: a label value, at most 63 characters.
    NetworkName, "network name", is_label_value, "at most 63 of letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit"
}
name_type! {
    /// The UID of a cluster's `kube-system` namespace, in canonical form (RFC 9562, lower case).
    ClusterUuid, "cluster UUID", is_uuid, "32 lower-case hex digits in groups of 8-4-4-4-12"
}
name_type! {
    /// A SPIFFE trust domain: lower case, at most 255 characters.
    TrustDomain, "trust domain", is_trust_domain, "at most 255 of a-z, 0-9, `.`, `-` and `_`"
}
name_type! {
    /// The DNS domain of a cluster, `cluster.local` by default.
    ClusterDomain, "cluster domain", is_dns_name, "a lower-case DNS name without a final dot"
}
name_type! {
    /// A Kubernetes namespace.
    Namespace, "namespace", is_label, "at most 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit"
}
name_type! {
    /// A Kubernetes namespace, or a pattern of namespaces: `*` stands for any characters, also for none.
    NamespacePattern, "namespace pattern", is_namespace_pattern, "at most 63 of a-z, 0-9, `-` and `*`, no `**`, beginning and ending with a letter, a digit or `*`"
}
name_type! {
    /// A revision of Istio's control plane, as in the label `istio.io/rev`.
    Revision, "revision", is_label, "at most 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit"
}
name_type! {
    /// The name of a Kubernetes object: a DNS-1123 subdomain, at most 253 characters.
    ObjectName, "object name", is_dns_name, "at most 253 of a-z, 0-9, `-` and `.`, beginning and ending with a letter or digit"
}

impl NamespacePattern {
    /// Most patterns of one list.
    pub const MOST: usize = 64;

    /// Whether a namespace of this name is meant. Takes at most the product of the two lengths.
    pub fn matches(&self, namespace: &str) -> bool {
        is_like(self.as_str().as_bytes(), namespace.as_bytes())
    }

    /// Whether each namespace that the other means is meant. `false` may be said of some that would be, never the other way.
    pub fn covers(&self, other: &Self) -> bool {
        // a `*` of the other is taken by a `*` alone
        self.matches(other.as_str())
    }

    /// Whether a namespace may be meant by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (one, other) = (self.as_str().as_bytes(), other.as_str().as_bytes());
        let (mut places, mut seen) = (vec![(0, 0)], BTreeSet::new());
        while let Some((at, beside)) = places.pop() {
            if !seen.insert((at, beside)) {
                continue;
            }
            match (one.get(at), other.get(beside)) {
                (None, None) => return true,
                (Some(b'*'), found) => {
                    places.push((at + 1, beside));
                    places.extend(found.map(|_| (at, beside + 1)));
                }
                (found, Some(b'*')) => {
                    places.push((at, beside + 1));
                    places.extend(found.map(|_| (at + 1, beside)));
                }
                (Some(byte), Some(wanted)) if byte == wanted => places.push((at + 1, beside + 1)),
                (Some(_), _) | (None, Some(_)) => {}
            }
        }
        false
    }

    /// Whether it means one namespace alone.
    pub fn is_plain(&self) -> bool {
        !self.as_str().contains('*')
    }
}

/// Whether a text is as a pattern says. Of each `*` only the last can be short, so going back to it is enough.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(wanted) if wanted == byte => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                (at, from) = (after, taken + 1);
            }
        }
    }
    pattern.iter().skip(at).all(|byte| *byte == b'*')
}

impl ClusterName {
    /// The name nearest to any text: lower case, with `-` for whatever a label does not admit.
    pub fn near(text: &str) -> Self {
        let parts = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
        let label: String = parts.collect::<Vec<_>>().join("-").to_ascii_lowercase().chars().take(50).collect();
        let label = label.trim_matches('-');
        Self(if label.is_empty() { "cluster".into() } else { label.into() })
    }
}

impl MeshName {
    /// A mesh that no one has named.
    pub fn unnamed() -> Self {
        Self("mesh".into())
    }
}

/// Deckhouse's module of Istio: its namespace, and who its tokens say they are from.
pub(crate) const DECKHOUSE_ISTIO: &str = "d8-istio";
/// The domain of a cluster unless someone chose another, in DNS and in identities.
const CLUSTER_LOCAL: &str = "cluster.local";

impl ClusterId {
    /// Istio's default, which every untouched install has and which therefore names no cluster.
    pub const ISTIO_DEFAULT: &'static str = "Kubernetes";

    /// Whether this is Istio's default for every install.
    pub fn is_istio_default(&self) -> bool {
        self.as_str() == Self::ISTIO_DEFAULT
    }
}

impl Namespace {
    /// `istio-system`, where istiod runs unless a spec says otherwise.
    pub fn istio_system() -> Self {
        Self("istio-system".into())
    }

    /// `d8-istio`, where Deckhouse runs its istiod.
    pub fn of_deckhouse() -> Self {
        Self(DECKHOUSE_ISTIO.into())
    }
}

impl Revision {
    /// What the revision is called that has no suffix in object names.
    pub const UNNAMED: &'static str = "default";

    /// The revision that has no suffix in object names.
    pub fn unnamed() -> Self {
        Self(Self::UNNAMED.into())
    }

    /// Name of the `Istio` resource of the Sail operator whose revision this is: with the strategy `RevisionBased` a revision is
    /// called after resource and version, `default-v1-26-3` or `default-v1-28-latest`.
    pub fn of_sail(&self) -> &str {
        let is_version = |text: &str| {
            let parts = text.split_once('-').map(|(major, rest)| (major, rest.split('-').next().unwrap_or_default()));
            let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            parts.is_some_and(|(major, minor)| is_number(major) && is_number(minor))
        };
        match self.0.rsplit_once("-v") {
            Some((owner, version)) if !owner.is_empty() && is_version(version) => owner,
            _ => &self.0,
        }
    }
}

impl ClusterDomain {
    /// `cluster.local`, the domain of a Kubernetes cluster unless someone chose another.
    pub fn kubernetes_default() -> Self {
        Self(CLUSTER_LOCAL.into())
    }
}

impl From<&ClusterName> for ClusterId {
    fn from(name: &ClusterName) -> Self {
        Self(name.0.clone())
    }
}

impl From<&MeshName> for MeshId {
    fn from(name: &MeshName) -> Self {
        Self(name.0.clone())
    }
}

/// `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The SHA-256 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// The first `count` hex digits, for people.
    pub fn short(&self, count: usize) -> String {
        let mut hex = self.hex();
        hex.truncate(count);
        hex
    }

    /// All 64 hex digits.
    pub fn hex(&self) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().map_or('0', char::from);
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// The digest as bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName {
            kind: "SHA-256 digest",
            text: text.to_owned(),
            rule: "`sha256:` and 64 lower-case hex digits",
        };
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or_else(invalid)?;
        let mut out = [0; 32];
        for (slot, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            for &digit in pair {
                let nibble = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return Err(invalid()),
                };
                *slot = (*slot << 4) | nibble;
            }
        }
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })
    }
}

fn ends_are(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&first), Some(&last)) if allowed(first) && allowed(last))
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// RFC 1123 label, lower case.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= 63
        && ends_are(text, is_lower_alphanumeric)
        && text.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-')
}

fn is_istio_label(text: &str) -> bool {
    text.len() <= 63
        && ends_are(text, |byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_namespace_pattern(text: &str) -> bool {
    let allowed = |byte: u8| is_lower_alphanumeric(byte) || byte == b'*';
    text.len() <= 63
        && !text.contains("**")
        && ends_are(text, allowed)
        && text.bytes().all(|byte| allowed(byte) || byte == b'-')
}

fn is_label_value(text: &str) -> bool {
    text.len() <= 63
        && ends_are(text, |byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_trust_domain(text: &str) -> bool {
    text.len() <= 255
        && ends_are(text, is_lower_alphanumeric)
        && text.bytes().all(|byte| is_lower_alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

/// RFC 1123 subdomain, lower case, at most 253 characters, no final dot.
pub(crate) fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && !text.is_empty() && text.split('.').all(is_label)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

impl Default for TrustDomain {
    /// Istio's own default.
    fn default() -> Self {
        Self(Arc::from(CLUSTER_LOCAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grammar_has_an_inside_and_an_outside() {
        assert!("east-1".parse::<ClusterName>().is_ok());
        for bad in ["", "East", "-east", "east-", "a.b", &"a".repeat(64), "eäst", "east\n"] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
        assert!("Kubernetes".parse::<ClusterId>().unwrap().is_istio_default());
        assert!("2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31".parse::<ClusterUuid>().is_ok());
        for bad in ["2F0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31", "2f0a77f05c6f4a659d210e6a1f8b9c31", "aa-bb-cc"] {
            assert!(bad.parse::<ClusterUuid>().is_err(), "{bad:?}");
        }
        assert!("cluster.local".parse::<ClusterDomain>().is_ok());
        assert!("cluster.local.".parse::<ClusterDomain>().is_err());
    }

    #[test]
    fn a_revision_of_sail_names_its_resource() {
        for (revision, resource) in [
            ("default", "default"),
            ("default-v1-26-3", "default"),
            ("prod-east-v1-28-latest", "prod-east"),
            ("web-v2", "web-v2"),
            ("v1-26-3", "v1-26-3"),
            ("a-v1-x", "a-v1-x"),
        ] {
            assert_eq!(revision.parse::<Revision>().unwrap().of_sail(), resource);
        }
    }

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = Digest::of(b"isthmus");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
    }

    #[test]
    fn an_error_shows_hostile_text_escaped_and_short() {
        let error = format!("\u{1b}[31m{}", "x".repeat(500)).parse::<ClusterName>().unwrap_err().to_string();
        assert!(error.contains("\\u{1b}[31mxxx") && error.len() < 300, "{error}");
    }
}
