//! A checkout of clusters behind TLS that show what a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use isthmus::simulation::cluster::{Fleet, SimulatedCluster};
use isthmus::types::address::Endpoint;
use isthmus::types::certificate::parse_roots_any_time;
use isthmus::types::name::Digest;
use isthmus::wire::metadata::{
    Evidence, LiveNetwork, LiveRoute, PrivateDocument, PublicDocument, Read, ReadState, Reported, RouteState,
};
use isthmus::wire::seen::{PeerSeen, SeenDocument};
use serde_json::Value;
use tokio::runtime::Handle;

use super::checkout::Checkout;
use super::peer::{Ca, Peer, answer, json};

/// Path of public documents.
const PUBLIC: &str = "/public/public.json";

/// What a cluster shows at the moment.
pub(crate) struct Documents {
    pub(crate) public: PublicDocument,
    pub(crate) private: PrivateDocument,
    pub(crate) admits: bool,
    /// It answers with an error.
    pub(crate) fails: bool,
}

/// A checkout of clusters behind TLS.
pub(crate) struct LinksCheckout {
    pub(crate) checkout: Checkout,
    shown: Arc<Mutex<BTreeMap<&'static str, Documents>>>,
    endpoints: BTreeMap<&'static str, Endpoint>,
    _peers: Vec<Peer>,
}

impl LinksCheckout {
    /// Of two: `east` and `west`.
    pub(crate) fn new(peers: &Handle) -> Self {
        Self::of(peers, &["east", "west"])
    }

    pub(crate) fn of(peers: &Handle, names: &[&'static str]) -> Self {
        let checkout = Checkout::new();
        let shown = Arc::new(Mutex::new(BTreeMap::new()));
        let mut spec =
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n"
                .to_owned();
        let ca = Ca::new("site");
        checkout.write("ca.pem", ca.pem.as_bytes());
        let (mut running, mut endpoints) = (Vec::new(), BTreeMap::new());
        for (name, seed) in names.iter().copied().zip(1..) {
            let cluster = SimulatedCluster::new(name, &[seed; 32], &format!("203.0.113.{seed}")).unwrap();
            let (public, private) = (cluster.public(), cluster.private(&Fleet::default()));
            shown.lock().unwrap().insert(name, Documents { public, private, admits: true, fails: false });
            let all = shown.clone();
            let script = move |head: &str| {
                let shown = &all.lock().unwrap()[name];
                if shown.fails {
                    return answer("503 Service Unavailable", "", "");
                }
                match (head.contains(PUBLIC), shown.admits) {
                    (true, _) => json(shown.public.to_json()),
                    (false, true) => json(shown.private.to_json()),
                    (false, false) => answer("401 Unauthorized", "", ""),
                }
            };
            let peer = peers.block_on(Peer::start(&ca.serving(&["127.0.0.1"]), script));
            let port = peer.address.port();
            endpoints.insert(name, format!("https://127.0.0.1:{port}/metadata").parse().unwrap());
            running.push(peer);
            spec += &format!(
                "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  \
                 multicluster: {{image: example.com/engine, apiHost: api.{name}.example.com}}\n  \
                 metadata: {{endpoint: \"https://127.0.0.1:{port}/metadata\", ca: {{file: ca.pem}}}}\n  \
                 allow: {{addresses: [127.0.0.0/8, 203.0.113.0/24]}}\n"
            );
        }
        checkout.write("specs/mesh.yaml", spec.as_bytes());
        Self { checkout, shown, endpoints, _peers: running }
    }

    /// The same after its first run: links wait for what is live, and nothing is.
    pub(crate) fn joining(peers: &Handle) -> Self {
        let site = Self::new(peers);
        site.checkout.engine(&["apply", "--create-keys"]).done();
        site
    }

    pub(crate) fn change<T>(&self, cluster: &str, change: impl FnOnce(&mut Documents) -> T) -> T {
        change(self.shown.lock().unwrap().get_mut(cluster).unwrap())
    }

    /// A cluster is another team's, and admits no key but those of clusters.
    pub(crate) fn is_external(&self, cluster: &str) {
        let components = format!("multicluster: {{image: example.com/engine, apiHost: api.{cluster}.example.com}}");
        self.checkout.edit("specs/mesh.yaml", &components, "reconciler: external");
        self.change(cluster, |shown| shown.admits = false);
    }

    /// The relay of a cluster reads another one, but for a change of its private document.
    pub(crate) fn reads_metadata(&self, reader: &str, peer: &str, change: impl Fn(&mut Value)) {
        let (public, private) = self.change(peer, |shown| (shown.public.clone(), shown.private.clone()));
        let private = PrivateDocument { evidence: None, ..private };
        let mut private = serde_json::from_str(&private.to_json()).unwrap();
        change(&mut private);
        let seen = PeerSeen {
            endpoint: self.endpoints[peer].clone(),
            cluster_uuid: Some(public.cluster_uuid.clone()),
            public: SeenDocument::of(public.to_json().as_bytes()).unwrap(),
            private: SeenDocument::Read(private),
            age: 3,
        };
        self.change(reader, |shown| shown.private.peers_seen.push(seen.to_value()));
    }

    /// All that the links need is live.
    pub(crate) fn live(&self) {
        let mut all = self.shown.lock().unwrap();
        let roots = all.values().map(|shown| parse_roots_any_time(&shown.public.root_ca).unwrap().remove(0).digest);
        let roots: BTreeSet<Digest> = roots.collect();
        let names: Vec<&str> = all.keys().copied().collect();
        for own in &names {
            let others = || names.iter().filter(|other| *other != own);
            let route = |other: &&str| LiveRoute {
                cluster_id: other.parse().unwrap(),
                api_host: all[other].private.api_host.clone(),
                state: RouteState::Ok,
                reason: None,
            };
            let network = |other: &&str| {
                let private = all[other].private.clone();
                LiveNetwork { name: private.network_name, gateways: private.ingress_gateways }
            };
            let (routes, networks) = (others().map(route).collect(), others().map(network).collect());
            let shown = all.get_mut(own).unwrap().private.evidence.as_mut().unwrap();
            shown.trusts = Reported::Seen(roots.clone());
            shown.networks = Reported::Seen(networks);
            shown.routes = Reported::Seen(routes);
        }
    }

    /// istiod of a cluster reads these, at this serial of what is synced into it.
    pub(crate) fn reads(&self, cluster: &str, others: &[&str], serial: u64) {
        let read = |id: &&str| Read { cluster_id: id.parse().unwrap(), state: ReadState::Synced };
        self.evidence(cluster, |evidence| {
            evidence.reads = Reported::Seen(others.iter().map(read).collect());
            evidence.serial = Reported::Seen(serial);
        });
    }

    /// All links are joined, and each cluster reads all others.
    pub(crate) fn joined(peers: &Handle, names: &[&'static str]) -> Self {
        let site = Self::of(peers, names);
        site.checkout.engine(&["apply", "--create-keys"]).done();
        site.checkout.engine(&["apply"]).done();
        site.live();
        site.checkout.engine(&["apply"]).done();
        for own in names {
            let others: Vec<&str> = names.iter().copied().filter(|other| other != own).collect();
            site.reads(own, &others, 9);
        }
        site.checkout.shows(&["apply"], 0, &["No changes."]);
        site
    }

    pub(crate) fn evidence(&self, cluster: &str, change: impl FnOnce(&mut Evidence)) {
        self.change(cluster, |shown| change(shown.private.evidence.as_mut().unwrap()));
    }
}
