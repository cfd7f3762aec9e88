//! The files of a cluster as the law reads them: what each consumer would find in them, and nothing else.
//!
//! A file that is not listed is not there: a `GitOps` tool prunes it. So is one that does not parse.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::{memchr2, memmem};
use serde_json::Value;

use crate::model::layout::KUSTOMIZATION;
use crate::model::mesh::MeshConfigTarget;
use crate::types::name::{Digest, MeshName};
use crate::types::object::{MANAGED_BY, MANAGER, MESH_LABEL, REMOTE_SECRET_LABEL};
use crate::types::yaml::value_of_file;
use crate::wire::peers::{PEERS, PEERS_FILE};
use crate::wire::routes::{ROUTES, ROUTES_FILE};

/// Most bytes of a file: values files hold what no ConfigMap could.
const MAX_FILE: usize = 16 << 20;
/// The kinds of objects that count.
const KINDS: [&str; 3] = ["Secret", "ConfigMap", "ClusterRole"];
/// Name of the ConfigMap with our part of the mesh configuration.
const MESH_CONFIG: &str = "isthmus-mesh";

/// What a cluster's folder says.
#[derive(Debug, Default)]
pub(super) struct ClusterFolder {
    /// Names of the files that are listed.
    pub(super) files: BTreeSet<String>,
    /// Remote secrets of ours, by name.
    pub(super) secrets: BTreeMap<String, Secret>,
    /// Entries of `peers.json`, by UUID.
    pub(super) entries: BTreeMap<String, Value>,
    /// Entries of `routes.json`, by cluster ID.
    pub(super) routes: BTreeMap<String, Value>,
    /// Users that the api-proxy may become.
    pub(super) users: BTreeSet<String>,
    /// Trust domains of each root CA, by the SHA-256 of its DER.
    pub(super) roots: BTreeMap<Digest, BTreeSet<String>>,
    /// Trust domains that are one with the own.
    pub(super) aliases: BTreeSet<String>,
    pub(super) networks: BTreeMap<String, Value>,
    /// Names of the networks that list a cluster ID, by that ID.
    pub(super) registries: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Secret {
    /// Its data keys: the cluster IDs that istiod reads by it.
    pub(super) ids: Vec<String>,
    /// URL of the server in its kubeconfig.
    pub(super) server: String,
    /// CA of that server, PEM.
    pub(super) ca: String,
}

impl ClusterFolder {
    /// Reads the files of `rendered/<cluster>/` by name, and the values file, where the mesh configuration is there. A ConfigMap
    /// beside that counts for nothing: Istio prefers the values.
    pub(super) fn read(
        mesh: &MeshName,
        files: &BTreeMap<Cow<'_, str>, Cow<'_, [u8]>>,
        (target, values): (MeshConfigTarget, &[u8]),
    ) -> Self {
        let mut folder = Self { files: live(files), ..Self::default() };
        for (name, bytes) in files {
            if folder.files.contains(&**name) && may_count(bytes) {
                folder.take(mesh, target, &yaml(bytes));
            }
        }
        let paths = match target {
            MeshConfigTarget::HelmValues => Some(("/meshConfig", "/global")),
            MeshConfigTarget::IstioOperator => Some(("/spec/meshConfig", "/spec/values/global")),
            MeshConfigTarget::Sail => Some(("/spec/values/meshConfig", "/spec/values/global")),
            MeshConfigTarget::SharedMeshConfig | MeshConfigTarget::None => None,
        };
        if let Some((config, global)) = paths {
            let values = yaml(values);
            folder.take_mesh_config(values.pointer(config).unwrap_or(&Value::Null));
            folder.networks = map(&values, &format!("{global}/meshNetworks"));
        }
        for (name, network) in &folder.networks {
            let ids: BTreeSet<&str> =
                items(network, "/endpoints").iter().map(|one| text(one, "/fromRegistry")).collect();
            for id in ids {
                folder.registries.entry(id.to_owned()).or_default().push(name.clone());
            }
        }
        folder
    }

    fn take(&mut self, mesh: &MeshName, target: MeshConfigTarget, object: &Value) {
        let label = |key: &str| object.get("metadata")?.get("labels")?.get(key)?.as_str();
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        if label(MANAGED_BY) != Some(MANAGER) || label(MESH_LABEL) != Some(mesh.as_str()) {
            return;
        }
        let json = |file: &str| object.get("data").and_then(|data| json(data.get(file)?.as_str()?)).unwrap_or_default();
        match (kind, name) {
            ("Secret", name) if label(REMOTE_SECRET_LABEL) == Some("true") => {
                self.secrets.insert(name.to_owned(), secret(object));
            }
            ("ConfigMap", PEERS) => self.entries = by(&json(PEERS_FILE), "/peers", "clusterUUID"),
            ("ConfigMap", ROUTES) => self.routes = by(&json(ROUTES_FILE), "/routes", "clusterID"),
            ("ConfigMap", MESH_CONFIG) if target == MeshConfigTarget::SharedMeshConfig => {
                self.take_mesh_config(&yaml(text(object, "/data/mesh").as_bytes()));
                self.networks = map(&yaml(text(object, "/data/meshNetworks").as_bytes()), "/networks");
            }
            ("ClusterRole", _) => {
                for rule in items(object, "/rules").iter().filter(|rule| holds(rule, "/verbs", "impersonate")) {
                    let names = items(rule, "/resourceNames").iter().filter(|_| holds(rule, "/resources", "users"));
                    self.users.extend(names.filter_map(Value::as_str).map(str::to_owned));
                }
            }
            _ => {}
        }
    }

    fn take_mesh_config(&mut self, mesh_config: &Value) {
        let aliases = items(mesh_config, "/trustDomainAliases").iter().filter_map(Value::as_str);
        self.aliases.extend(aliases.map(str::to_owned));
        for root in items(mesh_config, "/caCertificates") {
            if let Some(digest) = digest_of_first_block(text(root, "/pem")) {
                let domains = items(root, "/trustDomains").iter().filter_map(Value::as_str).map(str::to_owned);
                self.roots.entry(digest).or_default().extend(domains);
            }
        }
    }
}

/// Whether a file may hold an object that counts. Its kind is in the text as it is, unless it is escaped or encoded otherwise.
fn may_count(bytes: &[u8]) -> bool {
    let is_plain = || memchr2(b'\\', 0, bytes).is_none() && std::str::from_utf8(bytes).is_ok();
    KINDS.iter().any(|kind| memmem::find(bytes, kind.as_bytes()).is_some()) || !is_plain()
}

/// Names of the files that are there and that the kustomization lists.
pub(super) fn live(files: &BTreeMap<Cow<'_, str>, Cow<'_, [u8]>>) -> BTreeSet<String> {
    let listed = files.get(KUSTOMIZATION).map(|bytes| listed(bytes)).unwrap_or_default();
    listed.into_iter().filter(|name| files.contains_key(name.as_str())).collect()
}

/// Names of the files that a kustomization lists.
pub(crate) fn listed(kustomization: &[u8]) -> BTreeSet<String> {
    items(&yaml(kustomization), "/resources").iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn secret(object: &Value) -> Secret {
    let data = map(object, "/data");
    let decoded = data.values().next().and_then(Value::as_str).and_then(|data| BASE64.decode(data).ok());
    let kubeconfig = yaml(&decoded.unwrap_or_default());
    let ca = BASE64.decode(text(&kubeconfig, "/clusters/0/cluster/certificate-authority-data"));
    Secret {
        ids: data.keys().cloned().collect(),
        server: text(&kubeconfig, "/clusters/0/cluster/server").to_owned(),
        ca: String::from_utf8(ca.unwrap_or_default()).unwrap_or_default(),
    }
}

/// SHA-256 of the DER of the first certificate: istiod reads no further.
fn digest_of_first_block(pem: &str) -> Option<Digest> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_whitespace().collect();
    Some(Digest::of(&BASE64.decode(body).ok()?))
}

pub(super) fn yaml(bytes: &[u8]) -> Arc<Value> {
    value_of_file(bytes, MAX_FILE).unwrap_or_default()
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

pub(super) fn items<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn map(value: &Value, pointer: &str) -> BTreeMap<String, Value> {
    let map = value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    map.map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn holds(value: &Value, pointer: &str, wanted: &str) -> bool {
    items(value, pointer).iter().any(|item| item.as_str() == Some(wanted))
}

/// The items of a list by one of their fields. Of two with one key the first counts for neither: no one knows which is read.
fn by(value: &Value, pointer: &str, key: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for item in items(value, pointer) {
        let key = text(item, &format!("/{key}")).to_owned();
        let is_twice = found.insert(key.clone(), item.clone()).is_some();
        if is_twice {
            found.insert(key, Value::Null);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_counts_however_it_is_written() {
        let utf16: Vec<u8> = "kind: Secret\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let texts: [&[u8]; 4] = [b"kind: Secret\n", b"kind: \"\\x53ecret\"\n", b"{kind: 'ClusterRole'}", &utf16];
        assert!(texts.into_iter().all(may_count));
        assert!(!may_count(b"kind: Deployment\nspec: {}\n"));
    }
}
