//! The cluster as a checkout: where each of its files lies, how they are read, and the sink that writes them.
//!
//! | file | object |
//! |---|---|
//! | `lock/clusters/west.yaml` | key `clusters.west.yaml` of ConfigMap `isthmus-lock` |
//! | `rendered/east/kustomization.yaml`, the list of what was written | key `kustomization.yaml` there |
//! | `rendered/east/*` | what the agent applied |
//!
//! Rights know no patterns of names, so remote secrets are never listed: those of peers that an object or the lock names are tried
//! one by one, in a way that admission judges.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use crate::agent::lease::Leadership;
use crate::agent::owned::{FIELD_MANAGER, all_owned, owned};
use crate::checkout::FileChange;
use crate::cluster::objects::{ApplyError, ObjectClient};
use crate::cluster::unread::ReadError;
use crate::istio::mesh_config::SHARED_MESH_CONFIG;
use crate::model::layout::{KUSTOMIZATION, LOCK, is_below, rendered_folder, secret_name};
use crate::pipeline::meter::Meter;
use crate::pipeline::sink::Sink;
use crate::pipeline::{Program, Run, Stop, Written};
use crate::types::name::{ClusterName, Namespace};
use crate::types::object::{MANAGED_BY, MANAGER, OF_AGENT, OF_TREE, OWNER_LABEL, Object, SYNC_WAVE, parse};
use crate::wire::agent::{ACCEPT_TRUST, AGENT_MAP, LOCK_MAP, SPECS_FILE};
use crate::wire::hand_over::{
    FLUX_KEEPS, HandOverOrder, HandOverStage, HandOverState, ORDER_FILE, ObjectWriter, STATE_FILE, STATE_MAP, TO_AGENT,
    is_given_away,
};
use crate::wire::names::CROSS_NETWORK;
use crate::wire::peers::PEERS;
use crate::wire::routes::ROUTES;

/// Key of the lock's ConfigMap with the serial of the order by which it was taken from a checkout.
const TAKEN: &str = "hand-over";
/// What a file of the checkout shows of an object that a checkout wrote: someone else's, to the agent.
const OF_CHECKOUT: &str = "checkout";

/// What was asked of the apiserver, and what came instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {what}: {source}")]
pub(super) struct StoreUnread {
    pub(super) what: String,
    pub(super) source: ReadError,
}

impl StoreUnread {
    /// An order that a newer checkout wrote: what it asks for is not known, so nothing is done.
    fn order() -> Self {
        let message = format!("{ORDER_FILE} of ConfigMap {AGENT_MAP} is of a newer engine; use a newer image here");
        Self { what: "what is handed over".to_owned(), source: ReadError::Status { code: 422, message } }
    }
}

/// What the agent was told of its own cluster.
#[derive(Debug, Clone)]
pub(super) struct OwnSpecs {
    /// The documents Mesh and Cluster.
    pub(super) text: String,
    /// The digest of the trust change of the own cluster that is accepted.
    pub(super) accepts: Option<String>,
    /// What the checkout says of a hand-over.
    pub(super) order: Option<HandOverOrder>,
    /// They are as the checkout that left the cluster wrote them.
    pub(super) is_left: bool,
}

/// The files in ConfigMap `isthmus-lock`, by their paths in a checkout but for that of the list.
#[derive(Debug, Clone, Default)]
pub(super) struct LockMap {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) kustomization: Option<Vec<u8>>,
    /// The serial of the order by which it was taken from a checkout.
    pub(super) taken: Option<u64>,
    /// The version that was read; `None`: there is none.
    pub(super) version: Option<String>,
}

/// The files of the own cluster's folder, and the UIDs of their objects.
#[derive(Debug, Clone, Default)]
pub(super) struct ClusterTree {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    uids: BTreeMap<String, String>,
    /// What a checkout gives away is shown as the agent's own.
    shows_given: bool,
}

/// Reads and writes the cluster.
#[derive(Debug, Clone)]
pub(super) struct ClusterStore {
    pub(super) client: ObjectClient,
    pub(super) namespace: Namespace,
}

impl ClusterStore {
    fn config_map(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/configmaps/{name}", self.namespace)
    }

    async fn get(&self, path: &str, what: &str) -> Result<Option<Value>, StoreUnread> {
        self.client.get(path).await.map_err(|source| StoreUnread { what: what.to_owned(), source })
    }

    /// The documents of ConfigMap `isthmus-agent`; `None`: there are none yet.
    pub(super) async fn specs(&self) -> Result<Option<OwnSpecs>, StoreUnread> {
        let map = self.get(&self.config_map(AGENT_MAP), &format!("ConfigMap {AGENT_MAP}")).await?;
        let Some(map) = map else { return Ok(None) };
        let text = map.pointer(&format!("/data/{SPECS_FILE}")).and_then(Value::as_str);
        let accepts = map.pointer("/metadata/annotations").and_then(|all| all.get(ACCEPT_TRUST)?.as_str());
        let order = map.get("data").and_then(|data| data.get(ORDER_FILE)?.as_str());
        let order = match order.map(HandOverOrder::parse) {
            Some(None) => return Err(StoreUnread::order()),
            order => order.flatten(),
        };
        let is_left = is_left(&map);
        Ok(text.map(|text| OwnSpecs { text: text.to_owned(), accepts: accepts.map(str::to_owned), order, is_left }))
    }

    /// ConfigMap `isthmus-lock`; one that is not there is a first contact with everyone.
    pub(super) async fn lock(&self) -> Result<LockMap, StoreUnread> {
        let map = self.get(&self.config_map(LOCK_MAP), &format!("ConfigMap {LOCK_MAP}")).await?;
        let Some(map) = map else { return Ok(LockMap::default()) };
        let mut lock = LockMap::default();
        let version = map.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        lock.version = version.map(str::to_owned);
        let data = map.get("data").and_then(Value::as_object).into_iter().flatten();
        for (key, text) in data {
            let bytes = text.as_str().unwrap_or_default().as_bytes().to_vec();
            if key == KUSTOMIZATION {
                lock.kustomization = Some(bytes);
            } else if key == TAKEN {
                lock.taken = text.as_str().and_then(|serial| serial.parse().ok());
            } else {
                lock.files.insert(format!("{LOCK}/{}", path_of_key(key)), bytes);
            }
        }
        Ok(lock)
    }

    /// What the agent applied in its cluster, `own`, as far as it is there. `peers` are those that may have a remote secret.
    pub(super) async fn tree(
        &self,
        own: &ClusterName,
        peers: &BTreeSet<ClusterName>,
        lock: &LockMap,
        shows_given: bool,
    ) -> Result<ClusterTree, StoreUnread> {
        let mut tree = ClusterTree { shows_given, ..ClusterTree::default() };
        let folder = rendered_folder(own);
        if let Some(list) = &lock.kustomization {
            tree.files.insert(format!("{folder}/{KUSTOMIZATION}"), list.clone());
        }
        for (path, what) in self.plain_objects() {
            tree.add(&folder, self.get(&path, &what).await?);
        }
        for name in peers.iter().map(secret_name) {
            let path = format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace);
            match self.client.try_read(&path).await {
                Ok(found) => tree.add(&folder, found),
                // the admission policy tells it: it is there, and someone else's
                Err(ReadError::Status { code: 403 | 422, .. }) => tree.add(&folder, Some(foreign_secret(&name))),
                Err(source) => return Err(StoreUnread { what: format!("Secret {name}"), source }),
            }
        }
        Ok(tree)
    }

    /// Paths and names of the objects that an agent writes beside remote secrets.
    fn plain_objects(&self) -> Vec<(String, String)> {
        let maps = [SHARED_MESH_CONFIG, PEERS, ROUTES].map(|name| (self.config_map(name), format!("ConfigMap {name}")));
        let gateway = format!("/apis/networking.istio.io/v1/namespaces/{}/gateways/{CROSS_NETWORK}", self.namespace);
        maps.into_iter().chain([(gateway, format!("Gateway {CROSS_NETWORK}"))]).collect()
    }

    /// Takes the objects that a checkout gives away, each with all its fields: what other writers added goes with the next write.
    pub(super) async fn take(&self, peers: &BTreeSet<ClusterName>) -> Result<(), StoreUnread> {
        for (path, what) in self.plain_objects() {
            let found = self.get(&path, &what).await?;
            self.take_one(&path, &what, found).await?;
        }
        for name in peers.iter().map(secret_name) {
            let path = format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace);
            let what = format!("Secret {name}");
            match self.client.try_read(&path).await {
                Ok(found) => self.take_one(&path, &what, found).await?,
                // someone else's
                Err(ReadError::Status { code: 403 | 422, .. }) => {}
                Err(source) => return Err(StoreUnread { what, source }),
            }
        }
        Ok(())
    }

    /// Whether the checkout gives an object of the links away that is there.
    pub(super) async fn is_given_any(&self) -> Result<bool, StoreUnread> {
        for (path, what) in self.plain_objects() {
            if self.get(&path, &what).await?.as_ref().is_some_and(is_given) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn take_one(&self, path: &str, what: &str, found: Option<Value>) -> Result<(), StoreUnread> {
        let Some(mut object) = found else { return Ok(()) };
        let failed = |source| StoreUnread { what: what.to_owned(), source };
        if is_given(&object) {
            let labels = json!({ OWNER_LABEL: OF_AGENT });
            let fields = json!({ "metadata": { "labels": labels, "resourceVersion": version_of(&object) } });
            object = self.client.merge(path, FIELD_MANAGER, &fields).await.map_err(failed)?;
        }
        let is_ours = object.pointer("/metadata/labels").and_then(|labels| labels.get(OWNER_LABEL)?.as_str());
        let Some(writers) = all_owned(&object).filter(|_| is_ours == Some(OF_AGENT)) else { return Ok(()) };
        let fields = json!({ "metadata": { "managedFields": writers, "resourceVersion": version_of(&object) } });
        self.client.merge(path, FIELD_MANAGER, &fields).await.map(drop).map_err(failed)
    }

    /// Answers the checkout, where its exporter sees it.
    pub(super) async fn answer(&self, state: &HandOverState) -> Result<(), StoreUnread> {
        let text = serde_json::to_string_pretty(state).unwrap_or_default();
        let metadata = json!({
            "name": STATE_MAP, "namespace": self.namespace, "labels": { MANAGED_BY: MANAGER, OWNER_LABEL: OF_AGENT },
        });
        let object =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { STATE_FILE: text } });
        let written = self.client.apply(&self.config_map(STATE_MAP), FIELD_MANAGER, &object).await;
        written.map(drop).map_err(|source| StoreUnread { what: format!("ConfigMap {STATE_MAP}"), source })
    }

    /// What is offered to whoever tells the agent what to do, if it is.
    pub(super) async fn offered(&self) -> Result<Option<HandOverState>, StoreUnread> {
        let state = self.answered().await?;
        Ok(state.filter(|state| (state.to, state.stage) == (ObjectWriter::Agent, HandOverStage::Offered)))
    }

    /// The serial of the order by which the agent left its objects to the checkout, if that is what it answered last.
    pub(super) async fn left_with(&self) -> Result<Option<u64>, StoreUnread> {
        let last = self.answered().await?;
        let left = last.filter(|state| (state.to, state.stage) == (ObjectWriter::Tree, HandOverStage::Released));
        Ok(left.map(|state| state.serial))
    }

    /// Whether what every cluster with links has, who may read it, is the agent's own.
    pub(super) async fn has_own_objects(&self) -> Result<bool, StoreUnread> {
        let peers = self.get(&self.config_map(PEERS), &format!("ConfigMap {PEERS}")).await?;
        let owner = peers.as_ref().and_then(|peers| peers.pointer("/metadata/labels")?.get(OWNER_LABEL)?.as_str());
        Ok(owner == Some(OF_AGENT))
    }

    /// What stands in the ConfigMap for answers and offers.
    async fn answered(&self) -> Result<Option<HandOverState>, StoreUnread> {
        let map = self.get(&self.config_map(STATE_MAP), &format!("ConfigMap {STATE_MAP}")).await?;
        Ok(map.as_ref().and_then(|map| HandOverState::parse(map.get("data")?.get(STATE_FILE)?.as_str()?)))
    }

    /// Writes the lock, if it is still the one that was read.
    pub(super) async fn write_lock(&self, lock: &mut LockMap) -> Result<(), ReadError> {
        let files = lock.files.iter().filter_map(|(path, bytes)| Some((key_of_path(path)?, text_of(bytes))));
        let list = lock.kustomization.iter().map(|bytes| (KUSTOMIZATION.to_owned(), text_of(bytes)));
        let taken = lock.taken.iter().map(|serial| (TAKEN.to_owned(), serial.to_string().into()));
        let data: Map<String, Value> = files.chain(list).chain(taken).collect();
        let mut metadata = json!({
            "name": LOCK_MAP, "namespace": self.namespace,
            "labels": { MANAGED_BY: MANAGER, OWNER_LABEL: OF_AGENT },
        });
        if let (Some(version), Value::Object(metadata)) = (&lock.version, &mut metadata) {
            // whoever changed it since is not overwritten
            metadata.insert("resourceVersion".to_owned(), version.clone().into());
        }
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data });
        let written = self.client.apply(&self.config_map(LOCK_MAP), FIELD_MANAGER, &object).await?;
        lock.version = version_of(&written).map(str::to_owned);
        Ok(())
    }
}

fn text_of(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Whether an object is as the checkout that leaves the cluster wrote it: its own, with the marks by which it stays.
fn is_left(object: &Value) -> bool {
    let text = |of: &str, key: &str| object.pointer(of).and_then(|all| all.get(key)?.as_str());
    text("/metadata/labels", MANAGED_BY) == Some(MANAGER)
        && text("/metadata/labels", OWNER_LABEL) == Some(OF_TREE)
        && text("/metadata/annotations", FLUX_KEEPS.0) == Some(FLUX_KEEPS.1)
}

fn version_of(object: &Value) -> Option<&str> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str)
}

/// Whether a checkout gives an object away.
fn is_given(object: &Value) -> bool {
    let text = |of: &str, key: &str| object.pointer(of).and_then(|map| map.get(key)?.as_str());
    is_given_away(text("/metadata/labels", OWNER_LABEL), text("/metadata/annotations", TO_AGENT.0))
}

/// A secret of someone else's, of which nothing but the name is known.
fn foreign_secret(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } })
}

impl ClusterTree {
    fn add(&mut self, folder: &str, found: Option<Value>) {
        let Some(found) = found else { return };
        let uid = found.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
        let is_given = self.shows_given && is_given(&found);
        let shown = if is_given { plain(&found) } else { owned(&found).unwrap_or_else(|| plain(&found)) };
        let Some(mut object) = Object::from_value(shown) else { return };
        relabel(&mut object, |owner| match owner {
            OF_AGENT => OF_TREE,
            _ if is_given => OF_TREE,
            _ => OF_CHECKOUT,
        });
        let Ok(text) = object.to_yaml() else { return };
        let path = format!("{folder}/{}", object.id().file_name());
        if let Some(uid) = uid {
            self.uids.insert(path.clone(), uid);
        }
        self.files.insert(path, text.into_bytes());
    }
}

/// An object without what the apiserver adds.
fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    let Value::Object(fields) = &mut object else { return object };
    fields.remove("status");
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
    }
    object
}

/// Sets the label that names the owner: what the pipeline takes for the tree's is labelled as the agent's in the cluster.
fn relabel(object: &mut Object, other: impl Fn(&str) -> &'static str) {
    let labels = object.fields.get_mut("metadata").and_then(|metadata| metadata.get_mut("labels"));
    if let Some(Value::String(owner)) = labels.and_then(|labels| labels.get_mut(OWNER_LABEL)) {
        *owner = other(owner).to_owned();
    }
}

/// `clusters.west.yaml` as `clusters/west.yaml`; names of clusters have no dot.
fn path_of_key(key: &str) -> String {
    let parts: Vec<&str> = key.splitn(3, '.').collect();
    match parts.as_slice() {
        [folder, name, rest] => format!("{folder}/{name}.{rest}"),
        _ => key.to_owned(),
    }
}

fn key_of_path(path: &str) -> Option<String> {
    Some(path.strip_prefix(LOCK)?.strip_prefix('/')?.replace('/', "."))
}

/// The path at the apiserver of an object that an agent writes.
fn path_of(object: &Object, namespace: &Namespace) -> Option<String> {
    let collection = match (object.api_version.as_str(), object.kind.as_str()) {
        ("v1", "ConfigMap") => format!("/api/v1/namespaces/{namespace}/configmaps"),
        ("v1", "Secret") => format!("/api/v1/namespaces/{namespace}/secrets"),
        ("networking.istio.io/v1", "Gateway") => {
            format!("/apis/networking.istio.io/v1/namespaces/{namespace}/gateways")
        }
        _ => return None,
    };
    let id = object.id();
    (id.namespace.as_deref() == Some(namespace.as_str())).then(|| format!("{collection}/{}", id.name))
}

/// The cluster as a sink: the lock first, then what is deleted that sends traffic, then what is written wave by wave, then all else
/// that is deleted, the other way round. What a wave needs is written before it, so one that fails ends the run.
pub(super) struct ClusterSink<'a> {
    pub(super) store: &'a ClusterStore,
    pub(super) runtime: &'a Handle,
    pub(super) leadership: &'a Leadership,
    pub(super) lock: LockMap,
    pub(super) tree: &'a ClusterTree,
}

/// An object that changes, and its wave.
struct ObjectWrite {
    wave: u8,
    path: String,
    name: String,
    /// `None`: it goes.
    object: Option<Value>,
    uid: Option<String>,
}

impl Sink for ClusterSink<'_> {
    fn planned(&mut self, _program: &Program, _run: &Run) {}

    fn write(&mut self, changes: &[FileChange], _meter: &dyn Meter) -> Result<Written, Stop> {
        let (mut forgotten, mut objects) = (Vec::new(), Vec::new());
        for change in changes {
            let (path, bytes) = match change {
                FileChange::Write { path, bytes, .. } => (path, Some(bytes)),
                FileChange::Delete { path } => (path, None),
            };
            match bytes {
                Some(bytes) if is_below(LOCK, path) => drop(self.lock.files.insert(path.clone(), bytes.clone())),
                None if is_below(LOCK, path) => forgotten.push(path),
                bytes if path.ends_with(KUSTOMIZATION) => self.lock.kustomization = bytes.cloned(),
                bytes => objects.push(self.change(path, bytes)?),
            }
        }
        self.write_lock()?;
        objects.sort_by_key(|one| (one.wave, one.object.is_none(), one.path.clone()));
        let (applied, going): (Vec<_>, Vec<_>) = objects.into_iter().partition(|one| one.object.is_some());
        let (secrets, others): (Vec<_>, Vec<_>) =
            going.into_iter().rev().partition(|one| one.name.starts_with("Secret"));
        let deleted = secrets.len() + others.len();
        for one in secrets.iter().chain(&applied).chain(&others) {
            self.carry_out(one)?;
        }
        if !forgotten.is_empty() {
            self.lock.files.retain(|path, _| !forgotten.contains(&path));
            self.write_lock()?;
        }
        Ok(Written { written: applied.len(), deleted })
    }
}

impl ClusterSink<'_> {
    fn change(&self, path: &str, bytes: Option<&Vec<u8>>) -> Result<ObjectWrite, ApplyError> {
        let file = bytes.or_else(|| self.tree.files.get(path));
        let stranger = || ApplyError::Object { path: path.to_owned() };
        let mut object = file.and_then(|bytes| parse(bytes)).ok_or_else(stranger)?;
        let place = path_of(&object, &self.store.namespace).ok_or_else(stranger)?;
        let wave = object.annotation(SYNC_WAVE).and_then(|wave| wave.parse().ok()).unwrap_or_default();
        relabel(&mut object, |_| OF_AGENT);
        let name = object.id().to_string();
        let uid = self.tree.uids.get(path).cloned();
        Ok(ObjectWrite { wave, path: place, name, object: bytes.map(|_| object.to_value()), uid })
    }

    fn may_write(&self) -> Result<(), ApplyError> {
        if self.leadership.is_held() { Ok(()) } else { Err(ApplyError::NotHeld) }
    }

    fn carry_out(&self, one: &ObjectWrite) -> Result<(), ApplyError> {
        self.may_write()?;
        let client = &self.store.client;
        let (verb, done) = match &one.object {
            Some(object) => ("apply", self.runtime.block_on(client.apply(&one.path, FIELD_MANAGER, object)).map(drop)),
            None => ("delete", self.runtime.block_on(client.delete(&one.path, one.uid.as_deref()))),
        };
        tracing::info!(object = one.name, verb, done = done.is_ok(), "wrote");
        done.map_err(|source| ApplyError::Request { verb, object: one.name.clone(), source })
    }

    fn write_lock(&mut self) -> Result<(), ApplyError> {
        self.may_write()?;
        let written = self.runtime.block_on(self.store.write_lock(&mut self.lock));
        written.map_err(|source| ApplyError::Request { verb: "apply", object: format!("ConfigMap {LOCK_MAP}"), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_lock_are_keys_of_its_config_map() {
        for (path, key) in [
            ("lock/mesh.yaml", "mesh.yaml"),
            ("lock/clusters/west.yaml", "clusters.west.yaml"),
            ("lock/links/east-1.yaml", "links.east-1.yaml"),
        ] {
            assert_eq!(key_of_path(path).as_deref(), Some(key));
            assert_eq!(format!("lock/{}", path_of_key(key)), path);
        }
    }
}
