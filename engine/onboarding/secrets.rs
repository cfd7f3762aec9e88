//! Secrets of a cluster, in the part that is read: labels, data keys and the server of each kubeconfig; of `cacerts` the
//! root certificate.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::cluster::watched::Meta;
use crate::istio::kubeconfig::RemoteKubeconfig;
use crate::onboarding::marks::owner;
use crate::onboarding::survey::RemoteSecret;
use crate::types::text::shown_text;

/// A Secret, in the part that is read. Data stays base64 until it is looked at.
#[derive(Clone, Deserialize)]
pub(super) struct WireSecret {
    metadata: Meta,
    #[serde(default)]
    data: BTreeMap<String, DataEntry>,
}

/// An entry of a Secret, base64.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
struct DataEntry(Zeroizing<String>);

impl From<String> for DataEntry {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// A Secret of which one public entry is read.
#[derive(Clone, Deserialize)]
pub(super) struct WireRootSecret {
    #[serde(default)]
    data: RootEntry,
}

impl WireRootSecret {
    /// The entry, base64.
    pub(super) fn into_root(self) -> Option<String> {
        self.data.root
    }
}

#[derive(Clone, Default, Deserialize)]
struct RootEntry {
    #[serde(default, rename = "root-cert.pem")]
    root: Option<String>,
}

impl WireSecret {
    /// What is kept of it: names, and the server of each kubeconfig.
    pub(super) fn keep(self) -> RemoteSecret {
        let server = |DataEntry(text): &DataEntry| {
            let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).ok()?);
            let kubeconfig = RemoteKubeconfig::read(&bytes)?;
            kubeconfig.server().map(shown_text).filter(|server| !server.is_empty())
        };
        let clusters = self.data.iter().map(|(id, text)| (id.clone(), server(text))).collect();
        let managed_by = owner(&self.metadata);
        RemoteSecret { name: self.metadata.name, clusters, managed_by }
    }
}
