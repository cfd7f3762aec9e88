//! A naive reader of rendered files: what a cluster that holds them does. It shares no code with the engine.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml::Value;

/// Files by name.
pub(crate) type NaiveFiles = BTreeMap<String, Vec<u8>>;

/// What a cluster does by its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Naive {
    /// Foreign roots that it trusts, PEM without white space.
    pub(crate) roots: BTreeSet<String>,
    /// Networks with their gateways, `address:port`.
    pub(crate) networks: BTreeMap<String, BTreeSet<String>>,
    /// Cluster ID and api host of each route.
    pub(crate) routes: BTreeSet<(String, String)>,
    /// Keys that open the apiserver, by UUID of the peer.
    pub(crate) admits: BTreeMap<String, BTreeSet<String>>,
    /// Keys that open private metadata in the cluster's own name.
    pub(crate) engine: BTreeSet<String>,
    /// Cluster IDs that istiod reads.
    pub(crate) secrets: BTreeSet<String>,
}

/// PEM as it is compared.
pub(crate) fn squeeze(pem: &str) -> String {
    pem.split_whitespace().collect()
}

fn text(value: &Value, path: &[&str]) -> Option<String> {
    Some(path.iter().try_fold(value, |value, key| value.get(*key))?.as_str()?.to_owned())
}

fn inner(value: &Value, key: &str) -> Value {
    text(value, &["data", key]).map_or(Value::Null, |text| serde_yaml::from_str(&text).unwrap())
}

fn items(value: &Value, key: &str) -> Vec<Value> {
    value.get(key).and_then(Value::as_sequence).cloned().unwrap_or_default()
}

fn entries(value: &Value, key: &str) -> Vec<(String, Value)> {
    let Some(mapping) = value.get(key).and_then(Value::as_mapping) else { return Vec::new() };
    mapping.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), value.clone())).collect()
}

impl Naive {
    /// Reads all files.
    pub(crate) fn read(files: &NaiveFiles) -> Self {
        let mut naive = Self::default();
        for (name, bytes) in
            files.iter().filter(|(name, _)| name.starts_with("configmap-") || name.starts_with("secret-"))
        {
            naive.object(&serde_yaml::from_slice(bytes).unwrap_or_else(|error| panic!("{name}: {error}")));
        }
        naive
    }

    fn object(&mut self, object: &Value) {
        let kind = text(object, &["kind"]).unwrap();
        match (kind.as_str(), text(object, &["metadata", "name"]).unwrap().as_str()) {
            ("ConfigMap", "isthmus-mesh") => {
                for root in items(&inner(object, "mesh"), "caCertificates") {
                    self.roots.insert(squeeze(&text(&root, &["pem"]).unwrap()));
                }
                for (name, network) in entries(&inner(object, "meshNetworks"), "networks") {
                    let gateways = items(&network, "gateways").into_iter().map(|gateway| {
                        let port = gateway.get("port").unwrap().as_u64().unwrap();
                        format!("{}:{port}", text(&gateway, &["address"]).unwrap())
                    });
                    self.networks.insert(name, gateways.collect());
                }
            }
            ("ConfigMap", "isthmus-routes") => {
                for route in items(&inner(object, "routes.json"), "routes") {
                    self.routes.insert((text(&route, &["clusterID"]).unwrap(), text(&route, &["apiHost"]).unwrap()));
                }
            }
            ("ConfigMap", "isthmus-peers") => {
                let file = inner(object, "peers.json");
                for key in file.get("self").map(|own| items(own, "keys")).unwrap_or_default() {
                    self.engine.insert(squeeze(&text(&key, &["pem"]).unwrap()));
                }
                for peer in items(&file, "peers") {
                    let opens = |key: &Value| items(key, "scopes").iter().any(|scope| scope.as_str() == Some("api"));
                    let keys = items(&peer, "keys").into_iter().filter(opens);
                    let keys = keys.map(|key| squeeze(&text(&key, &["pem"]).unwrap())).collect();
                    self.admits.insert(text(&peer, &["clusterUUID"]).unwrap(), keys);
                }
            }
            ("Secret", _) if text(object, &["metadata", "labels", "istio/multiCluster"]).as_deref() == Some("true") => {
                self.secrets.extend(entries(object, "data").into_iter().map(|(id, _)| id));
            }
            _ => {}
        }
    }
}
