//! The apiserver of a simulated cluster, as its agent asks it: the objects that are live, and who set which of their fields. It answers in
//! this process, and remembers what was written one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Map, Value, json};

use crate::file::{FleetFile, FleetFiles};
use crate::istiod::ISTIO_NAMESPACE;
use crate::support::merge_patch::merged;

/// The agent's Role, without which it may do nothing, and the kind of its objects.
const ROLE: &str = "role.rbac.authorization.k8s.io-isthmus-agent.yaml";
pub(crate) const CRD: &str = "customresourcedefinition.apiextensions.k8s.io-istiomulticlusters.isthmus.dev.yaml";
/// The agent itself.
const AGENT: &str = "deployment.apps-isthmus-agent.yaml";
/// Files of its objects begin with it.
pub(crate) const MULTICLUSTER: &str = "istiomulticluster.isthmus.dev-";
/// By which a tool knows what it has made.
const TRACKED: &str = "tool.example.com/instance";
const TOOL: &str = "tool";

/// What an apiserver has of a live object beside what its file says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ObjectRecord {
    version: u64,
    finalizers: Vec<String>,
    /// Someone deleted it, and a finalizer keeps it.
    pub(crate) is_deleted: bool,
    /// Who set which of its fields; `None`: a tool set all of them.
    managed: Option<Value>,
    pub(crate) status: Value,
    /// The trust change that someone accepts by an annotation.
    pub(crate) accepts: Option<String>,
}

impl ObjectRecord {
    /// A tool wrote the object as its file says.
    pub(crate) fn synced(&mut self) {
        self.managed = None;
    }

    /// Whether it stays when it is deleted.
    pub(crate) fn is_held(&self) -> bool {
        !self.finalizers.is_empty()
    }

    /// Whether a tool knows that it made the object.
    pub(crate) fn is_tracked(&self) -> bool {
        self.managed.as_ref().is_none_or(|entries| writers(entries).values().any(|fields| fields.contains(&tracking())))
    }
}

/// Records of objects by file; one that has none is as a tool wrote it.
pub(crate) type ObjectRecords = BTreeMap<String, ObjectRecord>;

/// A write that was carried out: the object, or that it went.
#[derive(Debug, Clone)]
pub(crate) struct ApiserverWrite {
    pub(crate) file: String,
    pub(crate) object: Option<(FleetFile, ObjectRecord)>,
}

/// What is live, and what was done to it.
#[derive(Debug, Default)]
pub(crate) struct LiveApiserver {
    pub(crate) live: FleetFiles,
    pub(crate) records: ObjectRecords,
    pub(crate) writes: Vec<ApiserverWrite>,
    /// After so many writes it answers no more; `None`: it always does.
    pub(crate) lasts: Option<usize>,
}

/// A path to a value.
type FieldPath = Vec<String>;
type FieldSet = BTreeSet<FieldPath>;

fn tracking() -> FieldPath {
    ["metadata", "labels", TRACKED].map(str::to_owned).to_vec()
}

/// All values of an object that are no mappings, but for those that name it and those that are the apiserver's.
fn leaves(object: &Value) -> FieldSet {
    fn below(value: &Value, path: &mut FieldPath, all: &mut FieldSet) {
        match value.as_object().filter(|map| !map.is_empty()) {
            Some(map) => {
                for (key, value) in map {
                    path.push(key.clone());
                    below(value, path, all);
                    path.pop();
                }
            }
            None => drop(all.insert(path.clone())),
        }
    }
    let mut all = FieldSet::new();
    below(object, &mut Vec::new(), &mut all);
    all.retain(|path| match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["apiVersion" | "kind" | "status", ..] => false,
        ["metadata", field, ..] => ["labels", "annotations"].contains(field),
        _ => true,
    });
    all
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn set(value: &mut Value, path: &[String], new: Value) {
    let mut at = value;
    for key in path {
        if !at.is_object() {
            *at = json!({});
        }
        at = at.as_object_mut().unwrap().entry(key).or_insert(Value::Null);
    }
    *at = new;
}

/// Takes a value out, and mappings that are empty without it.
fn unset(value: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(map) = value.as_object_mut() else { return };
    if rest.is_empty() {
        map.remove(first);
    } else if let Some(below) = map.get_mut(first) {
        unset(below, rest);
        if below.as_object().is_some_and(Map::is_empty) {
            map.remove(first);
        }
    }
}

/// Fields by manager and operation, of `managedFields`.
fn writers(entries: &Value) -> BTreeMap<(String, String), FieldSet> {
    fn below(fields: &Value, path: &mut FieldPath, all: &mut FieldSet) {
        let named =
            fields.as_object().into_iter().flatten().filter_map(|(key, below)| Some((key.strip_prefix("f:")?, below)));
        let mut is_leaf = true;
        for (key, fields) in named {
            is_leaf = false;
            path.push(key.to_owned());
            below(fields, path, all);
            path.pop();
        }
        if is_leaf && !path.is_empty() {
            all.insert(path.clone());
        }
    }
    let one = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        let mut all = FieldSet::new();
        below(&entry["fieldsV1"], &mut Vec::new(), &mut all);
        ((text("manager"), text("operation")), all)
    };
    entries.as_array().into_iter().flatten().map(one).collect()
}

/// The same as `managedFields`.
fn entries(writers: &BTreeMap<(String, String), FieldSet>) -> Value {
    let one = |((manager, operation), fields): (&(String, String), &FieldSet)| {
        let mut tree = json!({});
        for path in fields {
            let path: Vec<String> = path.iter().map(|key| format!("f:{key}")).collect();
            set(&mut tree, &path, json!({}));
        }
        json!({ "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": tree })
    };
    writers.iter().filter(|(_, fields)| !fields.is_empty()).map(one).collect::<Vec<_>>().into()
}

/// The file of the object at a path, if it is in this namespace; `None`: no agent has anything to do there.
fn file_of(path: &str, namespace: &str) -> Option<String> {
    let core = format!("/api/v1/namespaces/{namespace}/");
    let gateways = format!("/apis/networking.istio.io/v1/namespaces/{namespace}/gateways/");
    if let Some(name) = path.strip_prefix("/apis/isthmus.dev/v1alpha1/istiomulticlusters/") {
        return Some(format!("{MULTICLUSTER}{name}.yaml"));
    }
    if let Some(name) = path.strip_prefix(&gateways) {
        return Some(format!("gateway.networking.istio.io-{name}.yaml"));
    }
    match path.strip_prefix(&core)?.split_once('/')? {
        ("configmaps", name) => Some(format!("configmap-{name}.yaml")),
        ("secrets", name) => Some(format!("secret-{name}.yaml")),
        _ => None,
    }
}

/// An answer, or why there is none.
type Answer = Result<Value, StatusCode>;

impl LiveApiserver {
    /// Where the agent runs, which is where its objects are.
    pub(crate) fn namespace(&self) -> String {
        let deployment = self.live.get(AGENT).map(|bytes| serde_yaml::from_slice::<Value>(bytes).unwrap());
        let namespace = deployment.and_then(|object| Some(object["metadata"]["namespace"].as_str()?.to_owned()));
        namespace.unwrap_or_else(|| ISTIO_NAMESPACE.to_owned())
    }

    fn record(&self, file: &str) -> ObjectRecord {
        self.records.get(file).cloned().unwrap_or_default()
    }

    /// The object of a file as the apiserver has it.
    fn object(&self, file: &str) -> Option<Value> {
        let mut object: Value = serde_yaml::from_slice(self.live.get(file)?).unwrap();
        let ObjectRecord { version, finalizers, is_deleted, managed, status, accepts } = self.record(file);
        if self.record(file).is_tracked() {
            object["metadata"]["labels"][TRACKED] = "it".into();
        }
        let of_tool = || entries(&BTreeMap::from([((TOOL.to_owned(), "Apply".to_owned()), leaves(&object))]));
        let managed = managed.unwrap_or_else(of_tool);
        if let Some(digest) = accepts {
            object["metadata"]["annotations"]["isthmus.dev/accept-trust"] = digest.into();
        }
        let metadata = &mut object["metadata"];
        metadata["uid"] = file.into();
        metadata["resourceVersion"] = version.to_string().into();
        metadata["generation"] = 1.into();
        metadata["managedFields"] = managed;
        metadata["finalizers"] = finalizers.into();
        if is_deleted {
            metadata["deletionTimestamp"] = "2026-11-30T00:00:00Z".into();
        }
        if !status.is_null() {
            object["status"] = status;
        }
        Some(object)
    }

    /// Keeps an object as it is now, or lets it go that was deleted and that nothing holds.
    fn keep(&mut self, file: &str, mut object: Value) -> Answer {
        if self.lasts.is_some_and(|lasts| self.writes.len() >= lasts) {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let before = self.record(file);
        let metadata = object["metadata"].as_object_mut().unwrap();
        let mut take = |key: &str| metadata.remove(key).unwrap_or_default();
        let (managed, finalizers) = (take("managedFields"), take("finalizers"));
        for key in ["uid", "resourceVersion", "generation", "deletionTimestamp"] {
            take(key);
        }
        let finalizers: Vec<String> = serde_json::from_value(finalizers).unwrap_or_default();
        for (of, key) in [("annotations", "isthmus.dev/accept-trust"), ("labels", TRACKED)] {
            if let Some(all) = metadata.get_mut(of).and_then(Value::as_object_mut) {
                all.remove(key);
            }
        }
        let status = object.as_object_mut().unwrap().remove("status").unwrap_or_default();
        if before.is_deleted && finalizers.is_empty() {
            return Ok(self.let_go(file));
        }
        let record = ObjectRecord {
            version: before.version + 1,
            finalizers,
            is_deleted: before.is_deleted,
            managed: Some(managed),
            status,
            accepts: before.accepts,
        };
        // whose file says the same is as a tool wrote it
        let known = self.live.get(file).filter(|bytes| serde_yaml::from_slice::<Value>(bytes).unwrap() == object);
        let bytes = known.cloned().unwrap_or_else(|| object.to_string().into_bytes().into());
        self.live.insert(file.to_owned(), bytes.clone());
        self.records.insert(file.to_owned(), record.clone());
        self.writes.push(ApiserverWrite { file: file.to_owned(), object: Some((bytes, record)) });
        Ok(self.object(file).unwrap())
    }

    fn let_go(&mut self, file: &str) -> Value {
        self.live.remove(file);
        self.records.remove(file);
        self.writes.push(ApiserverWrite { file: file.to_owned(), object: None });
        json!({ "kind": "Status", "status": "Success" })
    }

    /// What the agent's account may not do, as its `ValidatingAdmissionPolicy` says: touch a remote secret that is neither its own nor
    /// given away.
    fn is_admitted(file: &str, object: Option<&Value>) -> bool {
        let Some(object) = object.filter(|_| file.starts_with("secret-")) else { return true };
        let (labels, annotations) = (&object["metadata"]["labels"], &object["metadata"]["annotations"]);
        let owner = labels["isthmus.dev/owner"].as_str();
        owner == Some("agent") || (owner == Some("tree") && annotations["isthmus.dev/hand-over"] == "agent")
    }

    fn apply(&mut self, file: &str, manager: &str, mut sent: Value) -> Answer {
        let known = self.object(file);
        let version = sent["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        if version.is_some() && version.as_ref() != known.as_ref().map(|known| &known["metadata"]["resourceVersion"]) {
            return Err(StatusCode::CONFLICT);
        }
        let Some(mut object) = known else {
            let fields = BTreeMap::from([((manager.to_owned(), "Apply".to_owned()), leaves(&sent))]);
            sent["metadata"]["managedFields"] = entries(&fields);
            return self.keep(file, sent);
        };
        let (before, me) = (object.clone(), (manager.to_owned(), "Apply".to_owned()));
        let mut writers = writers(&object["metadata"]["managedFields"]);
        let mine = writers.remove(&me).unwrap_or_default();
        let applied = leaves(&sent);
        let is_others = |path: &FieldPath| writers.values().any(|fields| fields.contains(path));
        if applied.iter().any(|path| is_others(path) && at(&object, path) != at(&sent, path)) {
            return Err(StatusCode::CONFLICT);
        }
        for path in mine.difference(&applied).filter(|path| !is_others(path)) {
            unset(&mut object, path);
        }
        for path in &applied {
            set(&mut object, path, at(&sent, path).unwrap().clone());
        }
        writers.insert(me, applied);
        object["metadata"]["managedFields"] = entries(&writers);
        if object == before { Ok(object) } else { self.keep(file, object) }
    }

    /// A merge patch, of the status alone or of all else.
    fn merge(&mut self, file: &str, manager: &str, sent: &Value, is_status: bool) -> Answer {
        let mut object = self.object(file).ok_or(StatusCode::NOT_FOUND)?;
        let version = &sent["metadata"]["resourceVersion"];
        if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
            return Err(StatusCode::CONFLICT);
        }
        let before = object.clone();
        if is_status {
            merged(&mut object["status"], &sent["status"]);
        } else {
            merged(&mut object, sent);
        }
        if sent["metadata"]["managedFields"].is_null() {
            let now = leaves(&object);
            let changed = |path: &&FieldPath| at(&before, path) != at(&object, path);
            let changed: FieldSet = now.iter().filter(changed).cloned().collect();
            let mut writers = writers(&object["metadata"]["managedFields"]);
            for fields in writers.values_mut() {
                fields.retain(|path| !changed.contains(path));
            }
            writers.entry((manager.to_owned(), "Update".to_owned())).or_default().extend(changed);
            object["metadata"]["managedFields"] = entries(&writers);
        }
        if object == before { Ok(object) } else { self.keep(file, object) }
    }

    fn delete(&mut self, file: &str, sent: &Value) -> Answer {
        let object = self.object(file).ok_or(StatusCode::NOT_FOUND)?;
        let wanted = &sent["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != object["metadata"]["uid"] {
            return Err(StatusCode::CONFLICT);
        }
        if self.lasts.is_some_and(|lasts| self.writes.len() >= lasts) {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        Ok(self.let_go(file))
    }

    fn list(&self) -> Answer {
        let files: Vec<&String> = self.live.keys().filter(|file| file.starts_with(MULTICLUSTER)).collect();
        if files.is_empty() && !self.live.contains_key(CRD) {
            return Err(StatusCode::NOT_FOUND);
        }
        let items: Vec<Value> = files.into_iter().filter_map(|file| self.object(file)).collect();
        Ok(json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items }))
    }

    fn answer(&mut self, (method, path, query): (&Method, &str, &str), form: &str, sent: Value) -> Answer {
        if !self.live.contains_key(ROLE) {
            return Err(StatusCode::FORBIDDEN);
        }
        if path == "/apis/isthmus.dev/v1alpha1/istiomulticlusters" {
            return self.list();
        }
        if path.ends_with("/events") {
            return Ok(sent);
        }
        let (object, is_status) = path.strip_suffix("/status").map_or((path, false), |object| (object, true));
        let namespace = self.namespace();
        let file = file_of(object, &namespace).ok_or(StatusCode::NOT_FOUND)?;
        // one of the same name in the namespace where the agent was before is another object, which no one reads any more
        let is_elsewhere = |object: Value| object["metadata"]["namespace"].as_str().is_some_and(|of| of != namespace);
        if self.object(&file).is_some_and(is_elsewhere) {
            self.live.remove(&file);
            self.records.remove(&file);
        }
        if !Self::is_admitted(&file, self.object(&file).as_ref()) {
            return Err(StatusCode::UNPROCESSABLE_ENTITY);
        }
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager=")).unwrap_or_default();
        match *method {
            Method::PATCH if form == "application/apply-patch+yaml" => self.apply(&file, manager, sent),
            Method::PATCH if !query.contains("dryRun=All") => self.merge(&file, manager, &sent, is_status),
            Method::DELETE => self.delete(&file, &sent),
            Method::GET | Method::PATCH => self.object(&file).ok_or(StatusCode::NOT_FOUND),
            _ => Err(StatusCode::METHOD_NOT_ALLOWED),
        }
    }
}

/// A client of what is live.
pub(crate) fn client(apiserver: &Arc<Mutex<LiveApiserver>>) -> kube::Client {
    let apiserver = apiserver.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let apiserver = apiserver.clone();
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let sent = serde_json::from_slice(&bytes).unwrap_or_default();
            let form = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let asked = (&head.method, head.uri.path(), head.uri.query().unwrap_or_default());
            let answer = apiserver.lock().unwrap().answer(asked, form, sent);
            let (status, value) = match answer {
                Ok(value) => (StatusCode::OK, value),
                Err(status) => (
                    status,
                    json!({
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(),
                        "reason": status.canonical_reason(), "message": status.canonical_reason(),
                    }),
                ),
            };
            let body = Full::new(Bytes::from(value.to_string()));
            let response = Response::builder().status(status).header("content-type", "application/json").body(body);
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    kube::Client::new(service, ISTIO_NAMESPACE)
}
