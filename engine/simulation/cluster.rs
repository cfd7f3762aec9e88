//! A simulated cluster: real root CA, real keys, real certificates; what is live in it are the objects it was given.
//!
//! It has no apiserver and no istiod. What those would show follows from the live objects: roots in effect from
//! `isthmus-mesh`, who is admitted from `isthmus-peers`, routes from `isthmus-routes`, remote clusters from remote secrets.

use std::collections::{BTreeMap, BTreeSet};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use serde_json::Value;

use crate::istio::mesh_config::SHARED_MESH_CONFIG;
use crate::types::address::{ApiHost, Gateway};
use crate::types::certificate::parse_roots_any_time;
use crate::types::key::{PrivateKey, PublicKey};
use crate::types::name::{ClusterId, ClusterName, ClusterUuid, Digest, InvalidName, NetworkName};
use crate::types::object::{Object, REMOTE_SECRET_LABEL, parse};
use crate::types::token::Scope;
use crate::types::yaml::{self, MAX_OBJECT};
use crate::wire::metadata::{
    AuthnKey, Evidence, IstioFacts, LiveNetwork, LiveRoute, PrivateDocument, PublicDocument, Read, ReadState, Reported,
    RouteState, StandardMeshConfig,
};
use crate::wire::peers::{PEERS, PEERS_FILE, PeersFile};
use crate::wire::routes::{ROUTES, ROUTES_FILE};

/// Something of a simulated cluster that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A name or address.
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("cannot make a key: {0}")]
    Key(#[from] crate::types::key::KeyError),
}

/// A certificate authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    /// A self-signed EC P-256 authority.
    pub fn new(common_name: &str) -> Result<Self, SimulationError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "cluster.local");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2046, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem().replace("\r\n", "\n");
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// A serving certificate for the loopback addresses: certificate and key, both PEM.
    pub fn serving(&self) -> Result<(String, zeroize::Zeroizing<String>), SimulationError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), zeroize::Zeroizing::new(key.serialize_pem())))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority([redacted])")
    }
}

/// A cluster that holds what was synced to it and publishes what an exporter would.
#[derive(Debug)]
pub struct SimulatedCluster {
    /// Its name in the checkout.
    pub name: ClusterName,
    /// UID of its `kube-system`.
    pub uuid: ClusterUuid,
    /// Its Istio root CA.
    pub root: Authority,
    /// CA of its serving certificates.
    pub serving: Authority,
    /// Whether anyone answers there.
    pub up: bool,
    /// Whether it publishes evidence.
    pub shows_evidence: bool,
    key: PublicKey,
    api_host: ApiHost,
    gateways: Vec<Gateway>,
    network: NetworkName,
    live: BTreeMap<String, Object>,
}

impl SimulatedCluster {
    /// A cluster whose key and UUID follow from a seed; `gateway` is the address of its east-west gateway.
    pub fn new(name: &str, seed: &[u8; 32], gateway: &str) -> Result<Self, SimulationError> {
        let hex = Digest::of(seed).hex();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
        let uuid = format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30));
        Ok(Self {
            name: name.parse()?,
            uuid: uuid.parse()?,
            root: Authority::new(&format!("{name} root CA"))?,
            serving: Authority::new(&format!("{name} serving CA"))?,
            up: true,
            shows_evidence: true,
            key: PrivateKey::generate(seed)?.public().clone(),
            api_host: format!("api.{name}.example.com").parse()?,
            gateways: vec![Gateway::new(gateway, 15443)?],
            network: format!("network-{name}").parse()?,
            live: BTreeMap::new(),
        })
    }

    /// The id it is known by.
    pub fn cluster_id(&self) -> ClusterId {
        ClusterId::from(&self.name)
    }

    /// The network that it publishes as its own.
    pub fn network(&self) -> &NetworkName {
        &self.network
    }

    /// Gives the cluster a new root CA, as a careless operator might.
    pub fn replace_root(&mut self) -> Result<(), SimulationError> {
        self.root = Authority::new(&format!("{} root CA, the second", self.name))?;
        Ok(())
    }

    /// What a `GitOps` tool with pruning does: exactly these files become live. Returns how many objects changed.
    pub fn sync(&mut self, files: &BTreeMap<String, Vec<u8>>) -> usize {
        let wanted: BTreeMap<String, Object> =
            files.iter().filter_map(|(name, bytes)| Some((name.clone(), parse(bytes)?))).collect();
        let names: BTreeSet<&String> = wanted.keys().chain(self.live.keys()).collect();
        let changed = names.into_iter().filter(|name| wanted.get(*name) != self.live.get(*name)).count();
        self.live = wanted;
        changed
    }

    /// Makes one file live, or takes its object away.
    pub fn sync_file(&mut self, name: &str, bytes: Option<&[u8]>) {
        match bytes.and_then(parse) {
            Some(object) => self.live.insert(name.to_owned(), object),
            None => self.live.remove(name),
        };
    }

    fn data(&self, name: &str, key: &str) -> Option<&str> {
        let find = |object: &&Object| object.kind == "ConfigMap" && object.id().name == name;
        self.live.values().find(find)?.fields.get("data")?.get(key)?.as_str()
    }

    /// Who is admitted, by what is live.
    pub fn admitted(&self) -> PeersFile {
        let file = self.data(PEERS, PEERS_FILE).and_then(|text| PeersFile::parse(text.as_bytes()).ok());
        file.unwrap_or_else(PeersFile::empty)
    }

    /// Whether the exporter and the api-proxy are deployed.
    pub fn has_components(&self) -> bool {
        self.live.values().any(|object| object.kind == "Deployment")
    }

    /// Whether this peer's relay is let through to the apiserver.
    pub fn admits(&self, peer: &Self) -> bool {
        let admitted = self.admitted();
        let entry = admitted.peer(&peer.uuid);
        entry.is_some_and(|entry| entry.keys.iter().any(|key| key.pem == peer.key && key.scopes.contains(&Scope::Api)))
    }

    /// Digests of the roots in effect, its own among them.
    pub fn trusts(&self) -> BTreeSet<Digest> {
        let mesh: Value = self
            .data(SHARED_MESH_CONFIG, "mesh")
            .and_then(|text| yaml::value(text, MAX_OBJECT).ok())
            .unwrap_or_default();
        let listed = mesh.get("caCertificates").and_then(Value::as_array).cloned().unwrap_or_default();
        let pems = listed.iter().filter_map(|entry| entry.get("pem")?.as_str()).chain([self.root.pem.as_str()]);
        pems.filter_map(|pem| parse_roots_any_time(pem).ok()).flatten().map(|root| root.digest).collect()
    }

    /// Networks that its istiod would use, from the ConfigMap that was synced.
    pub fn networks(&self) -> Vec<LiveNetwork> {
        let document: Value = self
            .data(SHARED_MESH_CONFIG, "meshNetworks")
            .and_then(|text| yaml::value(text, MAX_OBJECT).ok())
            .unwrap_or_default();
        let networks = document.get("networks").and_then(Value::as_object).cloned().unwrap_or_default();
        let live = networks.into_iter().filter_map(|(name, network)| {
            let gateways = network.get("gateways").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
            Some(LiveNetwork { name: name.parse().ok()?, gateways: serde_json::from_value(gateways).ok()? })
        });
        live.collect()
    }

    /// Cluster IDs that the relay has a route to, with their api hosts.
    pub fn routes(&self) -> Vec<(ClusterId, ApiHost)> {
        let document: Value =
            self.data(ROUTES, ROUTES_FILE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let routes = document.get("routes").and_then(Value::as_array).cloned().unwrap_or_default();
        let parse = |route: &Value| {
            let text = |key: &str| route.get(key)?.as_str();
            Some((text("clusterID")?.parse().ok()?, text("apiHost")?.parse().ok()?))
        };
        routes.iter().filter_map(parse).collect()
    }

    /// Cluster IDs that istiod reads, by live remote secrets.
    pub fn reads(&self) -> BTreeSet<ClusterId> {
        let secrets = self.live.values().filter(|object| object.label(REMOTE_SECRET_LABEL) == Some("true"));
        let keys = secrets.filter_map(|object| object.fields.get("data")?.as_object().map(|data| data.keys().cloned()));
        keys.flatten().filter_map(|key| key.parse().ok()).collect()
    }

    /// `public/public.json` as its exporter would publish it.
    pub fn public(&self) -> PublicDocument {
        let mut authn_keys = vec![AuthnKey {
            id: self.key.id(),
            pem: self.key.clone(),
            scopes: [Scope::Api, Scope::PrivateMulticluster].into(),
        }];
        authn_keys.extend(self.admitted().own.keys);
        PublicDocument {
            cluster_uuid: self.uuid.clone(),
            authn_key: self.key.clone(),
            root_ca: self.root.pem.clone(),
            mesh_id: None,
            trust_domain: "cluster.local".parse().ok(),
            cluster_domain: "cluster.local".parse().ok(),
            serving_ca: Some(self.serving.pem.clone()),
            relay_ca: Some(self.serving.pem.clone()),
            authn_keys,
            crl: None,
            istio: Some(IstioFacts {
                version: Some("1.31.1".to_owned()),
                revisions: "default".parse().into_iter().collect(),
                namespace: "istio-system".parse().ok(),
                modes: BTreeSet::new(),
            }),
        }
    }

    /// The private document, with what is live; `fleet` are all clusters, which routes and admissions name.
    pub fn private(&self, fleet: &Fleet) -> PrivateDocument {
        PrivateDocument {
            ingress_gateways: self.gateways.clone(),
            ambient_gateways: Vec::new(),
            api_host: self.api_host.clone(),
            cluster_id: Some(self.cluster_id()),
            network_name: self.network.clone(),
            api_ca: Some(self.serving.pem.clone()),
            evidence: self.shows_evidence.then(|| self.evidence(fleet)),
            peers_seen: Vec::new(),
            leaving: BTreeSet::new(),
        }
    }

    fn evidence(&self, fleet: &Fleet) -> Evidence {
        let route = |(cluster_id, api_host): (ClusterId, ApiHost)| {
            let peer = fleet.clusters.values().find(|peer| peer.cluster_id() == cluster_id);
            let reason = match peer {
                Some(peer) if !peer.up => Some("no answer"),
                Some(peer) if !peer.admits(self) => Some("401"),
                Some(peer) if peer.api_host != api_host => Some("no such host"),
                Some(_) => None,
                None => Some("no such cluster"),
            };
            let state = if reason.is_none() { RouteState::Ok } else { RouteState::Failed };
            LiveRoute { cluster_id, api_host, state, reason: reason.map(str::to_owned) }
        };
        let read = |cluster_id: ClusterId| Read { cluster_id, state: ReadState::Synced };
        Evidence {
            trusts: Reported::Seen(self.trusts()),
            networks: Reported::Seen(self.networks()),
            reads: Reported::Seen(self.reads().into_iter().map(read).collect()),
            routes: Reported::Seen(self.routes().into_iter().map(route).collect()),
            prepared: Reported::Seen(true),
            relay_token: Reported::Seen(false),
            writer: self.admitted().writer,
            hand_over: None,
            credentials: Reported::Seen(Vec::new()),
            mesh_config: Reported::Seen(StandardMeshConfig::default()),
            serial: Reported::Seen(self.admitted().serial),
        }
    }
}

/// All simulated clusters, by name.
#[derive(Debug, Default)]
pub struct Fleet {
    pub clusters: BTreeMap<ClusterName, SimulatedCluster>,
}
