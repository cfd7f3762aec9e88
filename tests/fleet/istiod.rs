//! What a cluster does by the objects that are live in it, read as istiod, relay, exporter and api-proxy read them. Nothing of
//! the engine's code is used.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use base64::Engine as _;
use serde_yaml::Value;

use super::file::FleetFiles;
use super::site::Root;
use crate::support::naive::squeeze;

/// Where istiod of all clusters runs.
pub(crate) const ISTIO_NAMESPACE: &str = "istio-system";
/// The engine's key of another checkout.
pub(crate) const OTHERS: &str = "others";

/// A route of the relay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RelayRoute {
    pub(crate) id: String,
    pub(crate) uuid: String,
    pub(crate) host: String,
}

/// A network with its gateways, `address:port`, and the registries whose pods are in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SimulatedNetwork {
    pub(crate) gateways: BTreeSet<String>,
    pub(crate) registries: BTreeSet<String>,
}

/// What a checkout tells the agent of a hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentOrder {
    /// The agent is to write the objects; else the checkout.
    pub(crate) is_to_agent: bool,
    pub(crate) is_given: bool,
    pub(crate) serial: u64,
}

/// What a cluster does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SimulatedIstiod {
    /// Foreign roots, PEM without white space.
    pub(crate) roots: BTreeSet<String>,
    /// Trust domains that are accepted of a root, beside the own one.
    pub(crate) domains: BTreeMap<String, BTreeSet<String>>,
    /// Trust domains whose identities policies take for the own ones.
    pub(crate) aliases: BTreeSet<String>,
    pub(crate) networks: BTreeMap<String, SimulatedNetwork>,
    pub(crate) routes: Vec<RelayRoute>,
    /// Keys of the api scope by UUID.
    pub(crate) admits: BTreeMap<String, BTreeSet<String>>,
    /// UUIDs that the api-proxy may become.
    pub(crate) impersonates: BTreeSet<String>,
    /// Keys that open private metadata in the cluster's own name.
    pub(crate) engine: BTreeSet<String>,
    pub(crate) serial: u64,
    /// The run in which a checkout left the cluster to another one; 0: none did.
    pub(crate) offered: u64,
    /// The engine's key whose run is live, where that is stated.
    pub(crate) writer: Option<String>,
    /// Its agent has specs.
    pub(crate) has_specs: bool,
    /// What the agent was told of a hand-over.
    pub(crate) order: Option<AgentOrder>,
    /// What it, or a checkout, said of it last.
    pub(crate) answer: Option<String>,
    /// Users that the api-proxy becomes for peers, where they are not those of their UUIDs.
    pub(crate) users: BTreeMap<String, String>,
    /// Peers, by UUID, that are told that their links leave, with the cluster IDs by which evidence names them.
    pub(crate) leaving: BTreeMap<String, String>,
    /// Whose pods the Service of the relay sends istiod to; `None`: there is no such Service.
    pub(crate) relay: Option<String>,
    /// Remote secrets: by the peer that they are for, the data key and the kubeconfig.
    pub(crate) secrets: BTreeMap<String, (String, String)>,
    /// CAs by which istiod knows its relay, by the peer that a secret is for.
    pub(crate) relay_cas: BTreeMap<String, BTreeSet<String>>,
    pub(crate) deployments: BTreeSet<String>,
    /// The gateway object that lets other networks in.
    pub(crate) lets_in: bool,
}

fn text(value: &Value, path: &[&str]) -> Option<String> {
    Some(path.iter().try_fold(value, |value, key| value.get(*key))?.as_str()?.to_owned())
}

fn items(value: &Value, key: &str) -> Vec<Value> {
    value.get(key).and_then(Value::as_sequence).cloned().unwrap_or_default()
}

fn texts(value: &Value, key: &str) -> BTreeSet<String> {
    items(value, key).iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn entries(value: &Value, key: &str) -> Vec<(String, Value)> {
    let mapping = value.get(key).and_then(Value::as_mapping).cloned().unwrap_or_default();
    mapping.into_iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), value)).collect()
}

fn inner(value: &Value, key: &str) -> Value {
    text(value, &["data", key]).and_then(|text| serde_yaml::from_str(&text).ok()).unwrap_or(Value::Null)
}

fn decoded(base64: &str) -> String {
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(base64).unwrap()).unwrap()
}

/// Certificates of a PEM file, without white space.
fn blocks(pem: &str) -> impl Iterator<Item = String> {
    pem.split_inclusive("-----END CERTIFICATE-----").map(squeeze).filter(|block| !block.is_empty())
}

/// Whether a tool leaves an object where it is when it is no longer in the checkout: Argo CD, or Flux.
pub(crate) fn stays(bytes: &[u8], argo: bool) -> bool {
    let mark: &[u8] = if argo { b"Prune=false" } else { b"kustomize.toolkit.fluxcd.io/prune" };
    if memchr::memmem::find(bytes, mark).is_none() {
        return false;
    }
    let object: Value = serde_yaml::from_slice(bytes).unwrap();
    let annotation = |key| text(&object, &["metadata", "annotations", key]).unwrap_or_default();
    if argo {
        return annotation("argocd.argoproj.io/sync-options").split(',').any(|option| option == "Prune=false");
    }
    annotation("kustomize.toolkit.fluxcd.io/prune") == "disabled"
}

impl SimulatedIstiod {
    /// Whether identities of a trust domain are accepted where these roots are known; what is not known is another matter.
    pub(crate) fn accepts(&self, domain: &str, roots: &[Rc<Root>]) -> bool {
        let known = roots.iter().filter_map(|root| self.domains.get(&root.squeezed));
        self.aliases.contains(domain) || known.into_iter().all(|domains| domains.contains(domain))
    }

    /// Whether another checkout wrote what is live.
    pub(crate) fn is_of_others(&self) -> bool {
        self.writer.as_deref() == Some(OTHERS)
    }

    /// Reads all objects that are live.
    pub(crate) fn read(files: &FleetFiles) -> Self {
        let mut all = Self::default();
        for file in files.values() {
            all.add(file.istiod());
        }
        all
    }

    /// Reads one.
    pub(crate) fn of_object(bytes: &[u8]) -> Self {
        let mut one = Self::default();
        one.object(&serde_yaml::from_slice(bytes).unwrap());
        one
    }

    /// The same where Istio was installed with such values: its own roots and aliases hide those of our ConfigMap, whose networks
    /// hide its own.
    pub(crate) fn under(mut self, values: Option<&[u8]>) -> Self {
        let standard = Self::standard(values);
        if !standard.roots.is_empty() {
            (self.roots, self.domains) = (standard.roots, standard.domains);
        }
        if !standard.aliases.is_empty() {
            self.aliases = standard.aliases;
        }
        if self.networks.is_empty() {
            self.networks = standard.networks;
        }
        self
    }

    /// The standard mesh configuration that values make.
    pub(crate) fn standard(values: Option<&[u8]>) -> Self {
        let mut standard = Self::default();
        let values: Value = values.and_then(|bytes| serde_yaml::from_slice(bytes).ok()).unwrap_or(Value::Null);
        let spec = values.get("spec").unwrap_or(&values);
        let inner = spec.get("values").unwrap_or(spec);
        let config = spec.get("meshConfig").or_else(|| inner.get("meshConfig")).cloned().unwrap_or(Value::Null);
        let networks = inner.get("global").and_then(|global| global.get("meshNetworks")).cloned();
        standard.mesh_config(&config);
        standard.mesh_networks(&networks.unwrap_or(Value::Null));
        standard
    }

    fn add(&mut self, one: &Self) {
        self.roots.extend(one.roots.iter().cloned());
        self.domains.extend(one.domains.clone());
        self.aliases.extend(one.aliases.iter().cloned());
        self.networks.extend(one.networks.clone());
        self.routes.extend(one.routes.iter().cloned());
        self.admits.extend(one.admits.clone());
        self.impersonates.extend(one.impersonates.iter().cloned());
        self.engine.extend(one.engine.iter().cloned());
        self.serial = self.serial.max(one.serial);
        self.offered = self.offered.max(one.offered);
        self.writer = self.writer.take().or_else(|| one.writer.clone());
        self.has_specs |= one.has_specs;
        self.order = one.order.clone().or(self.order.take());
        self.answer = one.answer.clone().or(self.answer.take());
        self.relay = one.relay.clone().or(self.relay.take());
        self.users.extend(one.users.clone());
        self.leaving.extend(one.leaving.clone());
        self.secrets.extend(one.secrets.clone());
        self.relay_cas.extend(one.relay_cas.clone());
        self.deployments.extend(one.deployments.iter().cloned());
        self.lets_in |= one.lets_in;
    }

    fn object(&mut self, object: &Value) {
        let kind = text(object, &["kind"]).unwrap_or_default();
        let name = text(object, &["metadata", "name"]).unwrap_or_default();
        let namespace = text(object, &["metadata", "namespace"]);
        // roles are where they are deployed; istiod reads its own namespace alone
        let for_istiod = kind == "Secret" || kind == "Gateway" || name == "isthmus-mesh";
        if for_istiod && namespace.is_some_and(|namespace| namespace != ISTIO_NAMESPACE) {
            return;
        }
        match (kind.as_str(), name.as_str()) {
            ("ConfigMap", "isthmus-mesh") => self.mesh(object),
            ("ConfigMap", "isthmus-routes") => {
                for route in items(&inner(object, "routes.json"), "routes") {
                    let get = |key| text(&route, &[key]).unwrap();
                    self.routes.push(RelayRoute {
                        id: get("clusterID"),
                        uuid: get("clusterUUID"),
                        host: get("apiHost"),
                    });
                }
            }
            ("ConfigMap", "isthmus-peers") => self.peers(&inner(object, "peers.json")),
            ("ConfigMap", "isthmus-hand-over") => {
                self.answer = text(object, &["data", "state.json"]);
                let state = inner(object, "state.json");
                let is_offer = text(&state, &["stage"]).as_deref() == Some("offered");
                self.offered = state.get("serial").and_then(Value::as_u64).filter(|_| is_offer).unwrap_or(0);
            }
            ("ConfigMap", "isthmus-agent") => {
                self.has_specs = true;
                self.order(&inner(object, "hand-over.json"));
            }
            ("Service", "isthmus-relay") => {
                self.relay = text(object, &["spec", "selector", "app.kubernetes.io/name"]);
            }
            ("ClusterRole", _) => {
                for rule in items(object, "rules") {
                    let is = |key, wanted| items(&rule, key).iter().any(|value| value.as_str() == Some(wanted));
                    if is("verbs", "impersonate") && is("resources", "users") {
                        let users = items(&rule, "resourceNames");
                        let users = users.iter().filter_map(|user| user.as_str()?.strip_prefix("istio-peer:"));
                        self.impersonates.extend(users.map(str::to_owned));
                    }
                }
            }
            ("Deployment", name) => {
                self.deployments.insert(name.to_owned());
            }
            ("Gateway", _) => self.lets_in = true,
            ("Secret", name)
                if text(object, &["metadata", "labels", "istio/multiCluster"]).as_deref() == Some("true") =>
            {
                let peer = name.strip_prefix("istio-remote-secret-").unwrap().to_owned();
                let (id, data) = entries(object, "data").into_iter().next().unwrap();
                let kubeconfig = decoded(data.as_str().unwrap());
                let mut lines = kubeconfig.lines().map(str::trim);
                let ca =
                    lines.find_map(|line| line.trim_start_matches("- ").strip_prefix("certificate-authority-data: "));
                let ca = decoded(ca.unwrap_or_default().trim_matches('"'));
                self.relay_cas.insert(peer.clone(), blocks(&ca).collect());
                self.secrets.insert(peer, (id, kubeconfig));
            }
            _ => {}
        }
    }

    fn mesh(&mut self, object: &Value) {
        self.mesh_config(&inner(object, "mesh"));
        self.mesh_networks(inner(object, "meshNetworks").get("networks").unwrap_or(&Value::Null));
    }

    fn mesh_config(&mut self, mesh: &Value) {
        for root in items(mesh, "caCertificates") {
            let pem = text(&root, &["pem"]).unwrap();
            let domains = texts(&root, "trustDomains");
            for block in blocks(&pem) {
                self.domains.entry(block.clone()).or_default().extend(domains.iter().cloned());
                self.roots.insert(block);
            }
        }
        self.aliases.extend(texts(mesh, "trustDomainAliases"));
    }

    fn mesh_networks(&mut self, networks: &Value) {
        let networks = networks.as_mapping().cloned().unwrap_or_default();
        for (name, network) in networks.into_iter().map(|(name, network)| (name.as_str().unwrap().to_owned(), network))
        {
            let mut read = SimulatedNetwork::default();
            for gateway in items(&network, "gateways") {
                let port = gateway.get("port").unwrap().as_u64().unwrap();
                read.gateways.insert(format!("{}:{port}", text(&gateway, &["address"]).unwrap()));
            }
            let registries = items(&network, "endpoints");
            read.registries.extend(registries.iter().filter_map(|one| text(one, &["fromRegistry"])));
            self.networks.insert(name, read);
        }
    }

    fn order(&mut self, order: &Value) {
        let Some(to) = text(order, &["to"]) else { return };
        let is_given = order.get("given").and_then(Value::as_bool).unwrap_or(false);
        let serial = order.get("serial").and_then(Value::as_u64).unwrap();
        self.order = Some(AgentOrder { is_to_agent: to == "agent", is_given, serial });
    }

    /// Whether its agent writes the objects of links, by what it was told and said last.
    pub(crate) fn agent_acts(&self) -> bool {
        let is_there = self.has_specs && self.deployments.contains("isthmus-agent");
        let left = |serial: u64| {
            let answer = self.answer.as_deref().and_then(|text| serde_yaml::from_str(text).ok());
            let answer: Value = answer.unwrap_or_default();
            text(&answer, &["stage"]).as_deref() == Some("released")
                && answer.get("serial").and_then(Value::as_u64) == Some(serial)
        };
        is_there
            && match &self.order {
                None => true,
                Some(AgentOrder { is_to_agent: true, is_given, .. }) => *is_given,
                Some(AgentOrder { is_to_agent: false, serial, .. }) => !left(*serial),
            }
    }

    /// Whether istiod reaches a relay: the agent is one, too.
    pub(crate) fn relays(&self) -> bool {
        match &self.relay {
            Some(app) => self.deployments.contains(app),
            None => ["isthmus-relay", "isthmus-agent"].iter().any(|app| self.deployments.contains(*app)),
        }
    }

    fn peers(&mut self, file: &Value) {
        self.serial = file.get("serial").and_then(Value::as_u64).unwrap_or(0);
        self.writer = text(file, &["writer"]);
        for key in file.get("self").map(|own| items(own, "keys")).unwrap_or_default() {
            self.engine.insert(squeeze(&text(&key, &["pem"]).unwrap()));
        }
        for peer in items(file, "peers") {
            let opens = |key: &Value| items(key, "scopes").iter().any(|scope| scope.as_str() == Some("api"));
            let keys = items(&peer, "keys").into_iter().filter(opens);
            let keys = keys.map(|key| squeeze(&text(&key, &["pem"]).unwrap())).collect();
            let uuid = text(&peer, &["clusterUUID"]).unwrap();
            if let Some(user) = text(&peer, &["user"]) {
                self.users.insert(uuid.clone(), user.strip_prefix("istio-peer:").unwrap().to_owned());
            }
            if let Some(id) = text(&peer, &["leaving", "clusterID"]) {
                self.leaving.insert(uuid.clone(), id);
            }
            self.admits.insert(uuid, keys);
        }
    }
}
