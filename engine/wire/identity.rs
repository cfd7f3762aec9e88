//! `identity.json` of ConfigMap `isthmus-identity`: whom exporter and api-proxy serve.
//!
//! The relay writes it beside the keys it made. It holds nothing
//! secret. Unknown fields are ignored, so that a newer relay may serve an older exporter; an unknown version is an error.

use serde::{Deserialize, Serialize};

use crate::types::cause::Cause;
use crate::types::json::{JsonError, parse_strict};
use crate::types::name::{ClusterUuid, Namespace, NetworkName, TrustDomain};
use crate::wire::metadata::AuthnKey;

/// Name of the ConfigMap.
pub const IDENTITY: &str = "isthmus-identity";
/// Key of the file in it.
pub const IDENTITY_FILE: &str = "identity.json";
/// The version that is written and read.
pub const IDENTITY_VERSION: u32 = 1;

/// Who a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// [`IDENTITY_VERSION`].
    pub version: u32,
    /// UID of the namespace `kube-system`, the audience of tokens.
    #[serde(rename = "clusterUUID", default)]
    pub cluster_uuid: Option<ClusterUuid>,
    /// The cluster's own keys; the first signs.
    #[serde(default)]
    pub keys: Vec<AuthnKey>,
    #[serde(default)]
    pub trust_domain: Option<TrustDomain>,
    #[serde(default)]
    pub istio_namespace: Option<Namespace>,
    #[serde(default)]
    pub network: Option<NetworkName>,
    /// CA of the serving certificates of exporter and api-proxy, PEM.
    #[serde(rename = "servingCA", default, skip_serializing_if = "Option::is_none")]
    pub serving_ca: Option<String>,
    /// CA of the relay's serving certificate, PEM.
    #[serde(rename = "relayCA", default, skip_serializing_if = "Option::is_none")]
    pub relay_ca: Option<String>,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not JSON as we read it.
    #[error("cannot read `identity.json`: {0}; delete ConfigMap `isthmus-identity`, and its writer makes it again")]
    Json(#[from] JsonError),
    /// A field of a wrong type or grammar.
    #[error("cannot read `identity.json`: {0}; delete ConfigMap `isthmus-identity`, and its writer makes it again")]
    Field(Cause<serde_json::Error>),
    /// Written by a newer version.
    #[error("`identity.json`: expected version {IDENTITY_VERSION}, found {0}; use a newer image here")]
    Version(u32),
}

impl Identity {
    /// Reads `identity.json`. Fails on broken JSON, another version, and values that break their grammar or limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        let identity: Self =
            serde_json::from_value(parse_strict(bytes)?).map_err(|error| IdentityError::Field(error.into()))?;
        if identity.version == IDENTITY_VERSION { Ok(identity) } else { Err(IdentityError::Version(identity.version)) }
    }

    /// The file, with a final newline.
    pub fn to_json(&self) -> String {
        // texts, numbers and lists of them cannot fail to be written
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_what_it_writes() {
        let text = r#"{"version":1,"clusterUUID":"2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31","keys":[],
            "trustDomain":"cluster.local","istioNamespace":"istio-system","network":null,"later":[1]}"#;
        let identity = Identity::parse(text.as_bytes()).unwrap();
        assert_eq!(Identity::parse(identity.to_json().as_bytes()).unwrap(), identity);
        assert_eq!(identity.network, None);
        assert!(matches!(Identity::parse(b"{\"version\":2}"), Err(IdentityError::Version(2))));
        assert!(matches!(Identity::parse(b"{\"version\":1,\"version\":1}"), Err(IdentityError::Json(_))));
        assert!(matches!(Identity::parse(b"{\"version\":1,\"clusterUUID\":\"x\"}"), Err(IdentityError::Field(_))));
    }
}
