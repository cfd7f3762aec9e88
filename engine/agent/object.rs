//! IstioMulticluster objects as the agent reads them, and as documents of a checkout.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cluster::watched::{Meta, WatchScope, Watchable};
use crate::spec::API_VERSION;
use crate::types::name::ClusterName;
use crate::types::object::{YamlError, to_yaml};
use crate::wire::agent::{ACCEPT_TRUST, FINALIZER, GROUP, PLURAL, VERSION};

/// Where the documents of objects are.
const FOLDER: &str = "specs/istiomulticluster/";

/// The name of the object whose document has this path.
pub(super) fn name_of_file(path: &str) -> Option<&str> {
    path.strip_prefix(FOLDER)?.strip_suffix(".yaml")
}

/// An object on the wire.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WireMulticluster {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: Map<String, Value>,
    #[serde(default)]
    pub(super) status: Map<String, Value>,
}

/// What of an object wakes the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waking {
    generation: i64,
    accepts: Option<String>,
    is_deleted: bool,
    has_finalizer: bool,
}

impl Watchable for WireMulticluster {
    type Kept = Waking;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self) -> Option<Waking> {
        Some(Waking {
            generation: self.metadata.generation,
            accepts: self.accepts().map(str::to_owned),
            is_deleted: self.is_deleted(),
            has_finalizer: self.has_finalizer(),
        })
    }
}

/// Where all objects are.
pub(super) fn scope() -> WatchScope {
    WatchScope::all(format!("/apis/{GROUP}/{VERSION}/{PLURAL}"))
}

impl WireMulticluster {
    /// Its path at the apiserver.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", scope().path, self.metadata.name)
    }

    /// The digest of the trust change that is accepted.
    pub(super) fn accepts(&self) -> Option<&str> {
        self.metadata.annotations.get(ACCEPT_TRUST).map(String::as_str)
    }

    /// Someone deleted it, and it waits for its finalizers.
    pub(super) fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn has_finalizer(&self) -> bool {
        self.metadata.finalizers.iter().any(|one| one == FINALIZER)
    }

    /// Its finalizers but for ours.
    pub(super) fn other_finalizers(&self) -> Vec<String> {
        self.metadata.finalizers.iter().filter(|one| *one != FINALIZER).cloned().collect()
    }

    /// The name of its peer; the CRD admits no other names.
    pub(super) fn name(&self) -> Option<ClusterName> {
        self.metadata.name.parse().ok()
    }

    /// The path of its document.
    pub(super) fn file(&self) -> String {
        format!("{FOLDER}{}.yaml", self.metadata.name)
    }

    /// Its document. One that is deleted is leaving. Where the lock holds nothing of the peer, what the status shows of an earlier
    /// contact is pinned: an object that comes from a backup is no first contact.
    pub(super) fn document(&self, is_locked: bool) -> Result<String, YamlError> {
        let mut spec = self.spec.clone();
        let is_lost = spec.get("state").and_then(Value::as_str) == Some("lost");
        if self.is_deleted() && !is_lost {
            spec.insert("state".to_owned(), "leaving".into());
        }
        // a schema of Kubernetes has no field that is a text or a mapping
        if let Some(attested) = spec.remove("attested") {
            spec.insert("evidence".to_owned(), json!({ "attested": attested }));
        }
        if let (false, false, Some(pin)) = (is_locked, spec.contains_key("pin"), self.pinned()) {
            spec.insert("pin".to_owned(), pin);
        }
        to_yaml(&json!({
            "apiVersion": API_VERSION, "kind": "IstioMulticluster", "metadata": { "name": self.metadata.name }, "spec": spec,
        }))
    }

    /// What its status says was accepted of the peer.
    fn pinned(&self) -> Option<Value> {
        let peer = self.status.get("peer")?.as_object()?;
        let roots = peer.get("rootCAs").and_then(Value::as_array).into_iter().flatten();
        let roots: Vec<&Value> = roots.filter_map(|root| root.get("sha256")).collect();
        Some(json!({ "clusterUUID": peer.get("clusterUUID")?, "authnKey": peer.get("authnKey")?, "rootCA": roots }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(metadata: &Value, spec: &Value, status: &Value) -> WireMulticluster {
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec, "status": status })).unwrap()
    }

    #[test]
    fn one_that_is_deleted_leaves_unless_its_peer_is_lost() {
        let deleted = json!({ "name": "west", "deletionTimestamp": "2026-11-30T05:00:00Z" });
        let spec = |state: &str| json!({ "metadataEndpoint": "https://west.example/metadata", "state": state });
        let document = |state: &str| object(&deleted, &spec(state), &json!({})).document(true).unwrap();
        assert!(document("active").contains("state: leaving\n"));
        assert!(document("lost").contains("state: lost\n"));
    }

    #[test]
    fn what_an_earlier_contact_showed_is_pinned_where_the_lock_is_lost() {
        let status =
            json!({ "peer": { "clusterUUID": "u", "authnKey": "sha256:k", "rootCAs": [{ "sha256": "sha256:r" }] } });
        let spec = json!({ "metadataEndpoint": "https://west.example/metadata" });
        let object = object(&json!({ "name": "west" }), &spec, &status);
        assert!(!object.document(true).unwrap().contains("pin:"));
        assert!(object.document(false).unwrap().contains("authnKey: sha256:k\n"));
    }
}
