//! An invitation: what another team needs to declare a cluster of ours, and fingerprints to compare by another channel.
//!
//! A document that travels by mail can be changed on the way, its comments too. So each side works the fingerprints out of
//! what it holds itself, [`Invitation::phrase`] says them in words that a telephone carries, and people compare.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::lock::LockedCluster;
use crate::model::mesh::{Cluster, Reconciler};
use crate::spec::{API_VERSION, DECKHOUSE_API_VERSION};
use crate::types::address::{Cidr, Endpoint, HostPattern};
use crate::types::certificate::both;
use crate::types::name::{ClusterDomain, ClusterName, ClusterUuid, Digest, MeshName};
use crate::types::object::{YamlError, to_yaml};

/// Words of 16 bits each that say the fingerprint: no one finds another invitation with the same ones.
const PHRASE_LENGTH: usize = 8;

/// Why a cluster cannot be invited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// No one has seen its documents.
    #[error(
        "`{0}` was never reached, so neither its UUID nor its key nor its roots are known; run `engine apply` until fetch-ca/{0} no longer waits"
    )]
    NeverReached(ClusterName),
    #[error(
        "`{0}` belongs to another checkout, whose team invites for it; `--fingerprint` prints what is known of it here"
    )]
    NotOurs(ClusterName),
    /// It is on its way out.
    #[error("`{0}` is leaving the mesh, so there is no invitation to it")]
    Leaving(ClusterName),
    /// Its documents are files of this checkout.
    #[error(
        "the metadata of `{0}` is in files of this checkout, which no other team reads; `engine export {0}` makes a bundle for them"
    )]
    Files(ClusterName),
    /// Deckhouse reads no such endpoint.
    #[error("Deckhouse admits no IPv6 address in a metadataEndpoint, and `{0}` has {1}; serve it by name")]
    DeckhouseEndpoint(ClusterName, Endpoint),
    /// The document could not be written.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

/// The form of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationForm {
    /// `IstioMulticluster` of `isthmus.dev`.
    Multicluster,
    /// `IstioMulticluster` of `deckhouse.io`, with the fields that its CRD knows.
    Deckhouse,
    /// `Cluster` with `reconciler: external`.
    Cluster,
}

/// What is said of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub name: ClusterName,
    /// Where its metadata is.
    pub endpoint: Endpoint,
    /// The only CA to be trusted there, PEM; none means a public one.
    pub ca: Option<String>,
    /// UID of its `kube-system`.
    pub uuid: ClusterUuid,
    /// SHA-256 of its authn key.
    pub authn_key: Digest,
    /// SHA-256 of its root CAs.
    pub roots: BTreeSet<Digest>,
    /// CA of the api-proxy, PEM.
    api_ca: Option<String>,
    flat: bool,
    domain: ClusterDomain,
    api_hosts: Vec<HostPattern>,
    addresses: Vec<Cidr>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvitationDocument<S> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Name,
    spec: S,
}

#[derive(Serialize)]
struct Name {
    name: String,
}

#[derive(Serialize)]
struct InvitationPin {
    #[serde(rename = "clusterUUID")]
    uuid: String,
    #[serde(rename = "authnKey")]
    key: String,
    #[serde(rename = "rootCA")]
    roots: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvitationMulticluster {
    metadata_endpoint: String,
    enable_ingress_gateway: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<PlainCa>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<InvitationPin>,
}

#[derive(Serialize)]
struct PlainCa {
    ca: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalSpec {
    reconciler: &'static str,
    metadata: ExternalMetadata,
    pin: InvitationPin,
    cluster_domain: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    flat_network: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<InvitationAllow>,
}

#[derive(Serialize)]
struct ExternalMetadata {
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<Inline>,
}

#[derive(Serialize)]
struct Inline {
    inline: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvitationAllow {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    api_hosts: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
}

impl Invitation {
    /// What this checkout knows of any of its clusters: by the lock, or, before first contact, by the spec's pins.
    pub fn known(cluster: &Cluster, locked: Option<&LockedCluster>) -> Result<Self, InviteError> {
        let never = || InviteError::NeverReached(cluster.name.clone());
        let pin = &cluster.pin;
        let (uuid, authn_key, roots, domain) = match locked {
            Some(locked) => {
                let public = &locked.public;
                let roots = public.roots.iter().map(|root| root.digest).collect();
                (public.cluster_uuid.clone(), public.authn_key.fingerprint(), roots, public.cluster_domain.clone())
            }
            None if pin.root_ca.is_empty() => return Err(never()),
            None => {
                let uuid = pin.cluster_uuid.clone().ok_or_else(never)?;
                (uuid, pin.authn_key.ok_or_else(never)?, pin.root_ca.clone(), None)
            }
        };
        Ok(Self {
            name: cluster.name.clone(),
            endpoint: cluster.endpoint.clone(),
            ca: cluster.endpoint_ca.clone(),
            api_ca: cluster.api.ca.clone().or_else(|| locked?.private.as_ref()?.api_ca.clone()),
            uuid,
            authn_key,
            roots,
            flat: cluster.flat_network,
            domain: domain.unwrap_or_else(|| cluster.cluster_domain.clone()),
            api_hosts: cluster.allow.api_hosts.clone(),
            addresses: cluster.allow.addresses.clone(),
        })
    }

    /// An invitation to one of our own clusters.
    pub fn ours(cluster: &Cluster, locked: Option<&LockedCluster>) -> Result<Self, InviteError> {
        let name = || cluster.name.clone();
        if cluster.reconciler == Reconciler::External {
            return Err(InviteError::NotOurs(name()));
        }
        if cluster.state.is_going() {
            return Err(InviteError::Leaving(name()));
        }
        if matches!(cluster.endpoint, Endpoint::File(_)) {
            return Err(InviteError::Files(name()));
        }
        Self::known(cluster, Some(locked.ok_or_else(|| InviteError::NeverReached(name()))?))
    }

    /// SHA-256 over everything that the other side must not be deceived about, in a form that both sides can make.
    pub fn fingerprint(&self) -> Digest {
        let mut text = format!("isthmus invitation 1\n{}\n{}\n", self.uuid, self.authn_key);
        for root in &self.roots {
            text.push_str(&format!("root {root}\n"));
        }
        for certificate in self.ca_digests() {
            text.push_str(&format!("ca {certificate}\n"));
        }
        Digest::of(text.as_bytes())
    }

    /// SHA-256 of each certificate of the endpoint's CA, sorted.
    pub fn ca_digests(&self) -> Vec<Digest> {
        let blocks = self.ca.as_deref().and_then(|text| pem::parse_many(text).ok()).unwrap_or_default();
        let mut digests: Vec<Digest> = blocks.iter().map(|block| Digest::of(block.contents())).collect();
        digests.sort();
        digests
    }

    /// The first 128 bits of [`Self::fingerprint`] as eight words that can be read aloud, 16 bits each: proquints, after
    /// D. S. Wilkerson, "A Proposal for Proquints" (arXiv:0901.4016).
    pub fn phrase(&self) -> String {
        let pairs = self.fingerprint().bytes().chunks_exact(2).take(PHRASE_LENGTH).map(proquint).collect::<Vec<_>>();
        pairs.join(" ")
    }

    /// Lines of names and values, aligned.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("endpoint", self.endpoint.to_string()),
            ("cluster UUID", self.uuid.to_string()),
            ("authn key", self.authn_key.to_string()),
        ];
        facts.extend(self.roots.iter().map(|root| ("root CA", root.to_string())));
        let ca = self.ca_digests();
        facts.extend(ca.iter().map(|ca| ("endpoint's CA", ca.to_string())));
        if ca.is_empty() {
            facts.push(("endpoint's CA", "a public one".to_owned()));
        }
        facts.push(("in words", self.phrase()));
        facts
    }

    /// The document with comments.
    pub fn document(&self, mesh: &MeshName, form: InvitationForm) -> Result<String, InviteError> {
        let mut text = format!("# Declares cluster `{}` of mesh `{mesh}` to another mesh.\n", self.name);
        text += match form {
            InvitationForm::Multicluster => "# Put it below specs/ of the checkout that reads it.\n",
            InvitationForm::Deckhouse => {
                "# Apply it to the Deckhouse cluster that reads it. Deckhouse pins nothing: look at status.metadataCache after first contact.\n"
            }
            InvitationForm::Cluster => {
                "# Put it below specs/ of the checkout that reads it; its own checkout renders it.\n"
            }
        };
        text += "#\n# Compare these by a channel that did not carry this document, for example by telephone:\n#\n";
        for (name, value) in self.facts() {
            text += &format!("#   {name:<14} {value}\n");
        }
        text += "#\n";
        if form == InvitationForm::Deckhouse && !self.endpoint.fits_deckhouse(false) {
            text +=
                "# Its port needs a CRD of April 2026 or newer (deckhouse/deckhouse#19247): older ones refuse it.\n#\n";
        }
        text += match form {
            InvitationForm::Deckhouse => {
                "# Here nothing happens until your cluster is declared in our checkout, too.\n"
            }
            InvitationForm::Multicluster | InvitationForm::Cluster => {
                "# Your own engine prints the words with `engine invite NAME --fingerprint`, NAME being that of this document.\n\
                 # Nothing happens until each side has declared the other: send yours back with `engine invite`.\n"
            }
        };
        text += &self.body(form)?;
        Ok(text)
    }

    fn pin(&self) -> InvitationPin {
        InvitationPin {
            uuid: self.uuid.to_string(),
            key: self.authn_key.to_string(),
            roots: self.roots.iter().map(ToString::to_string).collect(),
        }
    }

    fn body(&self, form: InvitationForm) -> Result<String, InviteError> {
        let metadata = || Name { name: self.name.to_string() };
        let endpoint = self.endpoint.to_string();
        if form == InvitationForm::Cluster {
            let api_hosts: Vec<_> = self.api_hosts.iter().map(ToString::to_string).collect();
            let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            let stated = !(api_hosts.is_empty() && addresses.is_empty());
            let spec = ExternalSpec {
                reconciler: "external",
                metadata: ExternalMetadata { endpoint, ca: self.ca.clone().map(|inline| Inline { inline }) },
                pin: self.pin(),
                cluster_domain: self.domain.to_string(),
                flat_network: self.flat,
                allow: stated.then_some(InvitationAllow { api_hosts, addresses }),
            };
            return Ok(to_yaml(&InvitationDocument {
                api_version: API_VERSION,
                kind: "Cluster",
                metadata: metadata(),
                spec,
            })?);
        }
        let deckhouse = form == InvitationForm::Deckhouse;
        if deckhouse && !self.endpoint.fits_deckhouse(true) {
            return Err(InviteError::DeckhouseEndpoint(self.name.clone(), self.endpoint.clone()));
        }
        let spec = InvitationMulticluster {
            metadata_endpoint: endpoint,
            enable_ingress_gateway: !self.flat,
            // Deckhouse trusts this for the api-proxy, too, and nothing else but public CAs
            metadata: both(self.ca.as_deref(), self.api_ca.as_deref().filter(|_| deckhouse)).map(|ca| PlainCa { ca }),
            pin: (!deckhouse).then(|| self.pin()),
        };
        let api_version = if deckhouse { DECKHOUSE_API_VERSION } else { API_VERSION };
        Ok(to_yaml(&InvitationDocument { api_version, kind: "IstioMulticluster", metadata: metadata(), spec })?)
    }
}

/// 16 bits as consonant, vowel, consonant, vowel, consonant.
fn proquint(bytes: &[u8]) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let bits = bytes.iter().fold(0_usize, |bits, byte| (bits << 8) | usize::from(*byte));
    let letter = |letters: &[u8], at: usize| letters.get(at % letters.len()).copied().map_or('-', char::from);
    let (consonant, vowel) =
        (|shift: u32| letter(CONSONANTS, bits >> shift & 15), |shift: u32| letter(VOWELS, bits >> shift & 3));
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the paper: 127.0.0.1 and 63.84.220.193.
    #[test]
    fn phrases_are_proquints() {
        let phrase = |bytes: [u8; 4]| bytes.chunks(2).map(proquint).collect::<Vec<_>>().join("-");
        assert_eq!(phrase([127, 0, 0, 1]), "lusab-babad");
        assert_eq!(phrase([63, 84, 220, 193]), "gutih-tugad");
    }
}
