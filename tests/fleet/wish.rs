//! What the specs say, field by field, and every edit of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use isthmus::types::key::PrivateKey;
use serde_json::{Map, Value, json};

use super::site::{FleetCluster, NAMES};
use crate::support::naive::squeeze;

/// Values by the path of their field.
pub(crate) type FieldValues = BTreeMap<&'static str, Value>;

/// What the specs say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedSpecs {
    pub(crate) mesh: FieldValues,
    pub(crate) clusters: BTreeMap<&'static str, FieldValues>,
    /// Who is linked with whom; `None`: all with all.
    pub(crate) pairs: Option<BTreeSet<(&'static str, &'static str)>>,
    /// Which of the engine's keys the Mesh lists.
    pub(crate) engine_keys: Vec<u8>,
}

/// An edit of a field: which choice of the catalogue, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldEdit {
    /// A field of a cluster gets a value of the catalogue; the last but one choice takes it out.
    Cluster(usize, &'static str, usize),
    /// A field of the Mesh.
    Mesh(&'static str, usize),
    /// A pair is added or taken out; all with all becomes pairs first.
    Pair(usize, usize),
    /// All with all.
    Full,
    /// These of the engine's keys.
    EngineKeys(u8),
    /// The document of a cluster is taken out, or put back.
    Document(usize),
}

/// Fields of a Cluster that are edited.
pub(crate) const CLUSTER_FIELDS: [&str; 27] = [
    "state",
    "reconciler",
    "clusterID",
    "network",
    "trustDomain",
    "mergeTrustDomains",
    "clusterDomain",
    "istio.namespace",
    "istio.revisions",
    "istio.config",
    "istio.dnsCapture",
    "istio.prepared",
    "flatNetwork",
    "gateways",
    "api.host",
    "multicluster.apiHost",
    "multicluster.expose",
    "multicluster.replicas",
    "multicluster.enabled",
    "multicluster.tlsSecret",
    "metadata.endpoint",
    "pin.clusterUUID",
    "pin.rootCA",
    "allow.apiHosts",
    "allow.addresses",
    "evidence",
    "settle",
];

/// Fields of the Mesh that are edited.
pub(crate) const MESH_FIELDS: [&str; 7] = [
    "meshID",
    "metadata.name",
    "firstContact",
    "acceptForeignRoots",
    "credentials.requireToken",
    "settle",
    "requiredEngine",
];

thread_local! {
    /// By number: keys are made once a thread.
    static ENGINE_KEYS: RefCell<BTreeMap<u8, String>> = RefCell::default();
}

/// Public half of one of the engine's keys.
pub(crate) fn engine_key(number: u8) -> String {
    let make = || PrivateKey::generate(&[200 + number; 32]).unwrap().public().to_pem();
    ENGINE_KEYS.with_borrow_mut(|keys| keys.entry(number).or_insert_with(make).clone())
}

/// A value that a field of a cluster may get; `None` takes it out.
fn choices(field: &str, site: &FleetCluster, other: &FleetCluster) -> Vec<Option<Value>> {
    let name = site.name;
    let values = match field {
        "state" => vec![json!("leaving"), json!("paused"), json!("lost"), json!("active")],
        "reconciler" => vec![json!("deckhouse"), json!("external"), json!("rendered"), json!("agent")],
        "clusterID" => vec![json!(format!("{name}-id")), json!(other.name)],
        "network" => vec![json!(format!("network-{name}-stated")), json!(other.network()), json!(site.network())],
        "trustDomain" => vec![json!(format!("{name}.example")), json!("cluster.local"), json!(site.domain())],
        "clusterDomain" => vec![json!("other.local")],
        "istio.namespace" => vec![json!("istio-two")],
        "istio.revisions" => vec![json!(["canary"]), json!(["canary", "default"])],
        "istio.config" => vec![json!("helmValues"), json!("none"), json!("sail"), json!("istioOperator")],
        "istio.dnsCapture" | "multicluster.enabled" => vec![json!(false), json!(true)],
        "mergeTrustDomains" | "istio.prepared" | "flatNetwork" => vec![json!(true), json!(false)],
        "gateways" => vec![
            json!([{ "address": site.gateway(), "port": 15443 }]),
            json!([{ "address": "198.51.100.9", "port": 15443 }]),
            json!([{ "address": other.gateway(), "port": 15443 }]),
            json!([]),
        ],
        "api.host" => vec![json!(site.api_host()), json!("wrong.example.com"), json!(other.api_host())],
        "multicluster.apiHost" => vec![json!(format!("second.{name}.example.com"))],
        "multicluster.expose" => vec![json!("NodePort"), json!("ClusterIP")],
        "multicluster.replicas" => vec![json!(1), json!(5)],
        "multicluster.tlsSecret" => vec![json!("own-certificate")],
        "metadata.endpoint" => vec![
            json!(format!("https://second.{name}.example.com/metadata")),
            json!("https://nobody.example.com/metadata"),
        ],
        "pin.clusterUUID" => vec![json!(site.uuid()), json!("99999999-0000-4000-8000-000000000000")],
        "pin.rootCA" => {
            let roots: Vec<_> = site.published_roots().iter().map(|root| root.digest.to_string()).collect();
            vec![json!(roots), json!([format!("sha256:{}", "0".repeat(64))])]
        }
        "allow.apiHosts" => vec![json!(["*.example.com"]), json!(["*.elsewhere.example"])],
        "allow.addresses" => vec![json!(["203.0.113.0/24"]), json!(["192.0.2.0/24"])],
        "evidence" => vec![
            json!("none"),
            json!({ "attested": ["reads", "routes"] }),
            json!({ "attested": ["trusts", "networks", "prepared"] }),
            json!("required"),
        ],
        "settle" => vec![json!("0s"), json!("10m"), json!("3h")],
        _ => unreachable!("{field}"),
    };
    values.into_iter().map(Some).chain([None]).collect()
}

fn mesh_choices(field: &str) -> Vec<Option<Value>> {
    let values = match field {
        "meshID" => vec![json!("another")],
        "metadata.name" => vec![json!("store")],
        "firstContact" => vec![json!("approve"), json!("tls")],
        "acceptForeignRoots" => vec![json!(false)],
        "credentials.requireToken" => vec![json!(true), json!(false)],
        "settle" => vec![json!("0s"), json!("2h")],
        "requiredEngine" => vec![json!("9.9")],
        _ => unreachable!("{field}"),
    };
    values.into_iter().map(Some).chain([None]).collect()
}

/// Puts a value at a dotted path.
fn put(root: &mut Value, path: &str, value: Value) {
    let mut at = root;
    for part in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut().unwrap().entry(part).or_insert(Value::Null);
    }
    *at = value;
}

impl WantedSpecs {
    /// All clusters active, all with all.
    pub(crate) fn of(names: &[&'static str]) -> Self {
        Self {
            mesh: FieldValues::new(),
            clusters: names.iter().map(|name| (*name, FieldValues::new())).collect(),
            pairs: None,
            engine_keys: vec![0],
        }
    }

    /// What a field of a cluster says.
    pub(crate) fn says(&self, cluster: &str, field: &str) -> Option<&Value> {
        self.clusters.get(cluster)?.get(field)
    }

    /// State of a cluster; `None`: no document.
    pub(crate) fn state(&self, cluster: &str) -> Option<&str> {
        let fields = self.clusters.get(cluster)?;
        Some(fields.get("state").and_then(Value::as_str).unwrap_or("active"))
    }

    /// Whether the two are to be linked.
    pub(crate) fn links(&self, one: &str, other: &str) -> bool {
        let stays = |name| self.state(name).is_some_and(|state| state != "leaving" && state != "lost");
        let paired = |pairs: &BTreeSet<(&str, &str)>| pairs.contains(&(one, other)) || pairs.contains(&(other, one));
        one != other && stays(one) && stays(other) && self.pairs.as_ref().is_none_or(paired)
    }

    /// Edits; says what was edited, or nothing where the edit changes nothing.
    pub(crate) fn edit(&mut self, edit: FieldEdit, sites: &[&FleetCluster]) -> Option<String> {
        let before = self.clone();
        let name = |number: usize| sites[number % sites.len()].name;
        let what = match edit {
            FieldEdit::Cluster(cluster, field, choice) => {
                let (site, other) = (sites[cluster % sites.len()], sites[(cluster + 1) % sites.len()]);
                let mut choices = choices(field, site, other);
                let value = choices.swap_remove(choice % choices.len());
                let fields = self.clusters.get_mut(site.name)?;
                match value {
                    Some(value) => fields.insert(field, value),
                    None => fields.remove(field),
                };
                field.to_owned()
            }
            FieldEdit::Mesh(field, choice) => {
                let mut choices = mesh_choices(field);
                match choices.swap_remove(choice % choices.len()) {
                    Some(value) => self.mesh.insert(field, value),
                    None => self.mesh.remove(field),
                };
                format!("Mesh {field}")
            }
            FieldEdit::Pair(one, other) => {
                let (one, other) = (name(one), name(other));
                let pair = (one.min(other), one.max(other));
                if one == other {
                    return None;
                }
                let all = || {
                    let names: Vec<_> = sites.iter().map(|site| site.name).collect();
                    let pairs = names.iter().flat_map(|a| names.iter().map(move |b| (*a, *b)));
                    pairs.filter(|(a, b)| a < b).collect()
                };
                let pairs = self.pairs.get_or_insert_with(all);
                if !pairs.remove(&pair) {
                    pairs.insert(pair);
                }
                "Mesh pairs".to_owned()
            }
            FieldEdit::Full => {
                self.pairs = None;
                "Mesh topology".to_owned()
            }
            FieldEdit::EngineKeys(bits) => {
                self.engine_keys = (0..2).filter(|number| bits & (1 << number) != 0).collect();
                "Mesh engineKeys".to_owned()
            }
            FieldEdit::Document(cluster) => {
                let name = name(cluster);
                if self.clusters.remove(name).is_none() {
                    self.clusters.insert(name, FieldValues::new());
                }
                "document".to_owned()
            }
        };
        (*self != before).then_some(what)
    }

    /// The documents.
    pub(crate) fn documents(&self) -> Vec<String> {
        let keys = self.engine_keys.iter();
        let keys: Vec<_> =
            keys.map(|number| json!({ "id": format!("key-{number}"), "publicKey": engine_key(*number) })).collect();
        let mut mesh = json!({
            "apiVersion": "isthmus.dev/v1alpha1",
            "kind": "Mesh",
            "metadata": { "name": "shop" },
            "spec": { "acceptForeignRoots": true, "engineKeys": keys },
        });
        if let Some(pairs) = &self.pairs {
            let named = |pair: &&(&str, &str)| self.clusters.contains_key(pair.0) && self.clusters.contains_key(pair.1);
            put(&mut mesh, "spec.topology", json!("pairs"));
            put(&mut mesh, "spec.pairs", json!(pairs.iter().filter(named).collect::<Vec<_>>()));
        }
        for (field, value) in &self.mesh {
            let path = if field.starts_with("metadata.") { (*field).to_owned() } else { format!("spec.{field}") };
            put(&mut mesh, &path, value.clone());
        }
        let cluster = |(name, fields): (&&str, &FieldValues)| {
            let mut document = json!({
                "apiVersion": "isthmus.dev/v1alpha1",
                "kind": "Cluster",
                "metadata": { "name": name },
                "spec": { "metadata": { "endpoint": format!("https://metadata.{name}.example.com/metadata") } },
            });
            // what is left to another checkout is this one's until then
            let is_ours =
                fields.get("reconciler").is_none_or(|who| who == "rendered" || who == "external" || who == "agent");
            if is_ours {
                put(&mut document, "spec.multicluster.image", json!("ghcr.io/isthmus-mesh/engine:0.1.0"));
                put(&mut document, "spec.multicluster.apiHost", json!(format!("api.{name}.example.com")));
            }
            for (field, value) in fields.iter().filter(|(field, _)| is_ours || !field.starts_with("multicluster.")) {
                put(&mut document, &format!("spec.{field}"), value.clone());
            }
            document
        };
        let documents = std::iter::once(mesh).chain(self.clusters.iter().map(cluster));
        documents.map(|document| format!("{document}\n")).collect()
    }

    /// Keys that open private documents for the engine, as they are compared.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.engine_keys.iter().map(|number| squeeze(&engine_key(*number))).collect()
    }

    /// Without what is not so, and with everybody taking part.
    pub(crate) fn mended(&self, sites: &BTreeMap<&'static str, FleetCluster>) -> Self {
        let mut mended = self.clone();
        for field in ["acceptForeignRoots", "requiredEngine"] {
            mended.mesh.remove(field);
        }
        if mended.engine_keys.is_empty() {
            mended.engine_keys.push(0);
        }
        let named: BTreeSet<&str> = mended.clusters.keys().copied().collect();
        if let Some(pairs) = &mut mended.pairs {
            pairs.retain(|(one, other)| named.contains(one) && named.contains(other));
        }
        let last = mended.clusters.is_empty();
        if last {
            mended.clusters.insert(NAMES[0], FieldValues::new());
        }
        let acts = |name: &&&str| sites[**name].istiod.agent_acts();
        let has_agent =
            mended.clusters.values().any(|fields| fields.get("reconciler").is_some_and(|who| who == "agent"))
                || mended.clusters.keys().any(|name| acts(&name));
        for (name, fields) in &mut mended.clusters {
            let site = &sites[name];
            let has_values = fields.get("istio.config").is_some_and(|config| config == "helmValues");
            // a hand-over rests on evidence
            if fields.get("reconciler").is_some_and(|who| *who == "agent") || site.istiod.agent_acts() {
                fields.remove("evidence");
            }
            fields.retain(|field, value| match *field {
                "state" => value == "active" || value == "leaving",
                // an agent goes by what its peers publish
                "clusterID" => !has_agent && *value == json!(format!("{name}-id")),
                "network" => *value == json!(site.network()),
                "trustDomain" => *value == json!(site.domain()),
                "gateways" => *value == json!([{ "address": site.gateway(), "port": 15443 }]),
                "api.host" => *value == json!(site.api_host()),
                "metadata.endpoint" => value.as_str().is_some_and(|url| !url.contains("nobody")),
                "pin.clusterUUID" => *value == json!(site.uuid()),
                "allow.apiHosts" => *value == json!(["*.example.com"]),
                "allow.addresses" => *value == json!(["203.0.113.0/24"]),
                "multicluster.enabled" => *value == json!(true),
                "pin.rootCA" => {
                    let roots: Vec<_> = site.published_roots().iter().map(|root| root.digest.to_string()).collect();
                    *value == json!(roots)
                }
                "istio.config" => *value == json!("helmValues"),
                "reconciler" => *value == json!("agent") && !has_values,
                "istio.namespace" | "clusterDomain" | "flatNetwork" => false,
                _ => true,
            });
        }
        mended
    }
}
