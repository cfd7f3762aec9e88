//! What exporters answer to an agent: its own, that all which the agent applied is live, and those of peers, that they admit it, trust it
//! and are prepared. Used by tests and by a benchmark.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use isthmus::simulation::cluster::{Fleet, SimulatedCluster};
use isthmus::types::name::Digest;
use isthmus::wire::hand_over::{HandOverStage, HandOverState, ObjectWriter};
use isthmus::wire::identity::Identity;
use isthmus::wire::metadata::{
    Evidence, LiveRoute, PrivateDocument, PublicDocument, Read, ReadState, Reported, RouteState, StandardMeshConfig,
};
use serde_json::Value;

use super::objects::ObjectServer;
use super::peer::{PeerStep, answer, json as json_answer};

pub(crate) const MAPS: &str = "/api/v1/namespaces/istio-system/configmaps";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/istio-system/secrets";

pub(crate) fn is_private(head: &str) -> bool {
    head.starts_with("GET /metadata/private/")
}

/// The specs of east, whose agent reads its own exporter at this address.
pub(crate) fn own_specs(exporter: SocketAddr, ca: &str) -> String {
    format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: shop}}\nspec: {{acceptForeignRoots: true}}\n---\n\
         apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: east}}\nspec:\n  reconciler: agent\n  \
         multicluster: {{image: \"registry.example.com/isthmus:0.1.0\", apiHost: api.east.example.com}}\n  \
         allow: {{addresses: [127.0.0.0/8, 203.0.113.0/24]}}\n  metadata:\n    endpoint: \"https://{exporter}/metadata\"\n    ca:\n      inline: |\n        {}\n",
        ca.trim_end().replace('\n', "\n        "),
    )
}

/// The documents of a peer, one of up to 250, that admits a cluster with these roots in effect.
pub(crate) fn published(name: &str, at: u8, trusted: &BTreeSet<Digest>) -> (PublicDocument, PrivateDocument) {
    let cluster = SimulatedCluster::new(name, &[at; 32], &format!("127.0.0.{at}")).unwrap();
    let mut private = cluster.private(&Fleet::default());
    private.evidence = Some(Evidence {
        trusts: Reported::Seen(cluster.trusts().union(trusted).copied().collect()),
        networks: Reported::Seen(Vec::new()),
        reads: Reported::Seen(Vec::new()),
        routes: Reported::Seen(Vec::new()),
        prepared: Reported::Seen(true),
        ..Evidence::unknown("for the own engine alone")
    });
    (cluster.public(), private)
}

/// What east's own exporter answers: that all which was applied is live.
pub(crate) fn own_answer(east: &Mutex<SimulatedCluster>, apiserver: &ObjectServer, head: &str) -> Vec<PeerStep> {
    let mut east = east.lock().unwrap();
    let live =
        ["isthmus-mesh", "isthmus-peers", "isthmus-routes"].into_iter().filter_map(|name| apiserver.get(MAPS, name));
    let secrets = apiserver.all(SECRETS).into_iter();
    let secrets = secrets.filter(|one| one["metadata"]["labels"]["istio/multiCluster"] == "true");
    let typed = |kind: &str, mut object: Value| {
        object["apiVersion"] = "v1".into();
        object["kind"] = kind.into();
        (format!("{kind}-{}", object["metadata"]["name"]), object.to_string().into_bytes())
    };
    let live = live.map(|map| typed("ConfigMap", map)).chain(secrets.map(|secret| typed("Secret", secret)));
    east.sync(&live.collect());
    let map = apiserver.get(MAPS, "isthmus-identity");
    let identity = map.and_then(|map| Identity::parse(map["data"]["identity.json"].as_str()?.as_bytes()).ok());
    let Some(identity) = identity else { return answer("503 Service Unavailable", "", "not ready") };
    if !is_private(head) {
        let public = PublicDocument {
            authn_key: identity.keys[0].pem.clone(),
            authn_keys: identity.keys,
            relay_ca: identity.relay_ca,
            ..east.public()
        };
        return json_answer(public.to_json());
    }
    let read = |cluster_id| Read { cluster_id, state: ReadState::Synced };
    let route = |(cluster_id, api_host)| LiveRoute { cluster_id, api_host, state: RouteState::Ok, reason: None };
    let serial = east.admitted().serial;
    let state = apiserver.get(MAPS, "isthmus-hand-over");
    let state = state.and_then(|map| HandOverState::parse(map["data"]["state.json"].as_str()?));
    // what a checkout offered is of its own run
    let is_offer = |state: &HandOverState| state.stage == HandOverStage::Offered && state.to == ObjectWriter::Tree;
    let evidence = Evidence {
        trusts: Reported::Seen(east.trusts()),
        networks: Reported::Seen(east.networks()),
        reads: Reported::Seen(east.reads().into_iter().map(read).collect()),
        routes: Reported::Seen(east.routes().into_iter().map(route).collect()),
        prepared: Reported::Seen(true),
        relay_token: Reported::Seen(false),
        writer: east.admitted().writer,
        hand_over: state.filter(|state| !is_offer(state) || state.serial == serial),
        credentials: Reported::Seen(Vec::new()),
        mesh_config: Reported::Seen(StandardMeshConfig::default()),
        serial: Reported::Seen(serial),
    };
    json_answer(PrivateDocument { evidence: Some(evidence), ..east.private(&Fleet::default()) }.to_json())
}
