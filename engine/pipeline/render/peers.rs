//! Who may read a cluster, and how it reaches others: the objects `isthmus-peers` and `isthmus-routes`, and the RBAC by
//! which the api-proxy lends each peer an identity of its own.
//!
//! The JSON has one peer a line, so that a diff shows which peer changed and an entry is made once for all readers.

use serde_json::{Value, json};

use crate::model::known::{KnownCluster, PeerEndpoint, writer};
use crate::model::mesh::{Cluster, Reconciler};
use crate::pipeline::render::check::internal;
use crate::pipeline::render::fragments::Fragment;
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::reader::{ReaderLink, ReaderView};
use crate::pipeline::render::reasons::RenderWait;
use crate::types::address::Endpoint;
use crate::types::diagnostic::Diagnostics;
use crate::types::key::{KeyId, PublicKey};
use crate::types::name::{ClusterId, ClusterName};
use crate::types::step::{StepId, StepKind};
use crate::types::token::{MAX_DECKHOUSE_API_LIFETIME, Scope};
use crate::wire::metadata::AuthnKey;
use crate::wire::names::PROXY;
use crate::wire::peers::{
    JOINED_LINKS, JOINED_WITH, LeavingPeer, PEERS, PEERS_FILE, PEERS_GROUP, PEERS_VERSION, PeerEntry, agent_user_of,
    agent_users, user_of,
};
use crate::wire::routes::{ROUTES, ROUTES_FILE, ROUTES_VERSION, Route, WantedMetadata};
use crate::wire::share::Share;
use crate::wire::shared::{SHARED, Shared};

/// Role of the api-proxy: the users that it may become.
const IMPERSONATE: &str = "isthmus-impersonate";
/// Before the schema of all service accounts (9000), which no impersonated user matches, and global-default (9900).
const FLOW_PRECEDENCE: u32 = 5000;
const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_VERSION: &str = "rbac.authorization.k8s.io/v1";

fn key(id: &KeyId, key: &PublicKey, scopes: &[Scope]) -> AuthnKey {
    AuthnKey { id: id.clone(), pem: key.clone(), scopes: scopes.iter().copied().collect() }
}

/// The engine's keys, which open private metadata and nothing else.
pub(super) fn engine_keys(reader: &ReaderView<'_>) -> Vec<AuthnKey> {
    let engine = reader.engine_keys.iter();
    engine.map(|engine| key(&engine.id, &engine.key, &[Scope::PrivateMulticluster])).collect()
}

/// A peer's entry of `peers.json`. Its own key opens everything; other keys that it published open private metadata
/// only, whatever scopes they claim.
fn entry(
    name: &ClusterName,
    known: &KnownCluster<'_>,
    share: &Share,
    leaves: bool,
    inside: bool,
) -> Result<String, serde_json::Error> {
    let public = &known.locked.public;
    let own = &public.authn_key;
    let published_id = public.authn_keys.iter().find(|(_, key)| key.key == *own).map(|(id, _)| id);
    let default_id = own.id();
    let mut keys = vec![key(published_id.unwrap_or(&default_id), own, &[Scope::Api, Scope::PrivateMulticluster])];
    let others = public.authn_keys.iter().filter(|(_, key)| key.key != *own);
    keys.extend(others.map(|(id, other)| key(id, &other.key, &[Scope::PrivateMulticluster])));
    serde_json::to_string(&PeerEntry {
        name: name.clone(),
        cluster_uuid: known.uuid().clone(),
        keys,
        namespaces: share.names(),
        share: Some(share.clone()),
        istio_namespace: Some(known.istio_namespace()),
        revisions: known.revisions().to_vec(),
        user: inside.then(|| agent_user_of(known.uuid())),
        max_token_lifetime: known.is_deckhouse().then_some(MAX_DECKHOUSE_API_LIFETIME),
        leaving: leaves.then(|| LeavingPeer { cluster_id: known.cluster_id() }),
    })
}

/// A peer's entry of `routes.json`; `apiCA: null` means a public CA.
pub(super) fn route(
    known: &KnownCluster<'_>,
    cluster_id: &ClusterId,
    proxy: &PeerEndpoint,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Route {
        cluster_id: cluster_id.clone(),
        cluster_uuid: known.uuid().clone(),
        api_host: proxy.api_host.clone(),
        api_ca: proxy.api_ca.clone(),
        allow: known.cluster.allow.addresses.iter().filter(|range| range.holds_inward()).copied().collect(),
        network: known.network(),
    })
}

/// `isthmus-peers` and the RBAC of impersonation.
pub(super) fn render(reader: &ReaderView<'_>, out: &mut RenderedCluster) -> Result<(), Diagnostics> {
    let step = reader.step(StepKind::ExchangeKeys);
    if reader.engine_keys.is_empty() && reader.links.is_empty() {
        // files are read without a token
        if matches!(reader.cluster.endpoint, Endpoint::File(_)) {
            return Ok(());
        }
        out.waiting.push((step, RenderWait::EngineKey));
        return Ok(());
    }
    let own = serde_json::to_string(&json!({ "keys": engine_keys(reader) })).map_err(internal)?;
    let links = reader.serial.as_ref();
    let links = links.map(|(serial, joined)| format!("\"serial\":{serial},\n\"{JOINED_LINKS}\":\"{joined}\",\n"));
    let own_entry = reader.known.map(|known| known.locked.serial).filter(|serial| *serial > 0);
    let own_entry = own_entry.map(|serial| format!("\"entry\":{serial},\n"));
    let writer = writer(reader.mesh, reader.lock).map(serde_json::to_string).transpose().map_err(internal)?;
    let writer = writer.map(|writer| format!("\"writer\":{writer},\n"));
    let serials: String = [links, own_entry, writer].into_iter().flatten().collect();
    let joined = reader.known.filter(|_| !reader.is_former).and_then(|known| known.joined_with());
    let joined = joined.map(|joined| serde_json::to_string(&joined.kept()));
    let joined = joined.transpose().map_err(internal)?.map(|joined| format!("\"{JOINED_WITH}\":{joined},\n"));
    let joined = joined.unwrap_or_default();
    // what a WorkloadEntry of the cluster is shown with: reviewed, unlike a label of one of its namespaces
    let network = reader.known.and_then(|known| known.network());
    let network = network.map(|network| serde_json::to_string(&network)).transpose().map_err(internal)?;
    let network = network.map(|network| format!("\"network\":{network},\n")).unwrap_or_default();
    let head = format!("{{\"version\":{PEERS_VERSION},\n{serials}{joined}{network}\"self\":{own},\n\"peers\":");
    let fragment = |link: &ReaderLink<'_>| {
        let share = reader.cluster.shares_with(link.name);
        let make = |(name, share, leaves): &(ClusterName, Share, bool)| {
            let entry = entry(name, &link.peer.known, share, *leaves, reader.mesh.inside);
            Ok(Fragment::new(entry.map_err(internal)?))
        };
        reader.entries.get((link.name.clone(), share.clone(), link.states_leaving), make)
    };
    let peers = reader.links.iter().map(fragment).collect::<Result<Vec<_>, _>>()?;
    out.objects.push(reader.config_map(PEERS, vec![step], [(PEERS_FILE, Fragment::list(head, peers))]));
    // where an agent acts, they were rendered with it
    if !reader.links.is_empty() && !reader.mesh.inside {
        rights(reader, out);
    }
    Ok(())
}

/// What peers may do. Where an agent admits them, that is rendered once for all peers there may be, so that the agent needs no right over
/// rights; while a cluster is handed over, both sides' users have it.
pub(super) fn rights(reader: &ReaderView<'_>, out: &mut RenderedCluster) {
    let is_agent = reader.cluster.reconciler == Reconciler::Agent;
    let is_handed_over = reader.changes_roles();
    let mut users = if is_agent || is_handed_over { agent_users() } else { Vec::new() };
    if !is_agent || is_handed_over {
        users.extend(reader.links.iter().map(|link| user_of(link.peer.known.uuid())));
    }
    rights_of_users(reader, &users, out);
}

/// The api-proxy's account may become each peer's user, and those users may read what istiod asks a remote cluster for.
fn rights_of_users(reader: &ReaderView<'_>, users: &[String], out: &mut RenderedCluster) {
    let rules = json!([
        { "apiGroups": [""], "resources": ["users"], "resourceNames": users, "verbs": ["impersonate"] },
        { "apiGroups": [""], "resources": ["groups"], "resourceNames": [PEERS_GROUP], "verbs": ["impersonate"] },
    ]);
    let step = reader.step(StepKind::ExchangeKeys);
    let role = reader.cluster_object(RBAC_VERSION, "ClusterRole", IMPERSONATE, vec![step.clone()]);
    out.objects.push(role.field("rules", rules).done());
    rights_of_peers(reader, &step, users, out);
}

/// The apiserver gives each peer a queue of its own at a low priority: none starves another, or the cluster itself.
fn flow_of_peers(reader: &ReaderView<'_>, step: &StepId, out: &mut RenderedCluster) {
    let every = json!(["*"]);
    let spec = json!({
        "distinguisherMethod": { "type": "ByUser" },
        "matchingPrecedence": FLOW_PRECEDENCE,
        "priorityLevelConfiguration": { "name": "workload-low" },
        "rules": [{
            "subjects": [{ "kind": "Group", "group": { "name": PEERS_GROUP } }],
            "resourceRules": [{ "verbs": every, "apiGroups": every, "resources": every, "clusterScope": true, "namespaces": every }],
            "nonResourceRules": [{ "verbs": every, "nonResourceURLs": every }],
        }],
    });
    let flow = reader.cluster_object("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", PEERS, vec![step.clone()]);
    out.objects.push(flow.field("spec", spec).done());
}

/// The rights are those of the users, not of their group: another way of logging in to the cluster may have a group of any name.
fn rights_of_peers(reader: &ReaderView<'_>, step: &StepId, users: &[String], out: &mut RenderedCluster) {
    let object = |kind, name| reader.cluster_object(RBAC_VERSION, kind, name, vec![step.clone()]);
    out.objects.push(object("ClusterRole", PEERS).field("rules", peer_rules()).done());
    flow_of_peers(reader, step, out);
    let namespace = &reader.cluster.istio.namespace;
    let account = json!({ "kind": "ServiceAccount", "name": PROXY, "namespace": namespace });
    let users = users.iter().map(|user| json!({ "apiGroup": RBAC, "kind": "User", "name": user })).collect();
    for (name, subjects) in [(IMPERSONATE, vec![account]), (PEERS, users)] {
        let role = json!({ "apiGroup": RBAC, "kind": "ClusterRole", "name": name });
        let binding = object("ClusterRoleBinding", name).field("roleRef", role);
        out.objects.push(binding.field("subjects", json!(subjects)).done());
    }
}

/// What istiod lists and watches in a remote cluster of a multi-primary mesh. Secrets, mesh configuration and gateways, which it
/// asks for too, are answered by the api-proxy itself. `/api` is what Deckhouse probes.
///
/// These objects are synced in a wave after the api-proxy's Deployment, so a right that a version has no use for goes when the
/// pods of the version before are gone. Where there are no waves, relays answer what such a pod is refused as empty.
pub(super) fn peer_rules() -> Value {
    let of_group = |all: &[&Shared]| {
        let resources: Vec<_> = all.iter().map(|shared| shared.resource).collect();
        let group = all.first().map(|shared| shared.group);
        json!({ "apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"] })
    };
    let forwarded: Vec<&Shared> = SHARED.iter().filter(|shared| shared.is_forwarded).collect();
    let rules = forwarded.chunk_by(|one, next| one.group == next.group).map(of_group);
    rules.chain([json!({ "nonResourceURLs": ["/api"], "verbs": ["get"] })]).collect()
}

/// Whose metadata the relay reads: peers in which others act, which admit the cluster's own key alone or are out of the engine's
/// reach. Of one that is not accepted yet, no UUID is named, and so no token is made for it.
fn wanted_metadata(reader: &ReaderView<'_>) -> Vec<WantedMetadata> {
    // an agent reads its peers itself
    let Some(own) = reader.known.filter(|_| !reader.mesh.inside) else { return Vec::new() };
    let leaving = reader.links.iter().map(|link| link.peer.known.cluster);
    let mut peers: Vec<&Cluster> = reader.mesh.peers_of(&own.cluster.name).chain(leaving).collect();
    peers.retain(|peer| {
        let is_read = peer.reconciler != Reconciler::Rendered && peer.state.is_asked();
        is_read && matches!(peer.endpoint, Endpoint::Https { .. })
    });
    peers.sort_by(|one, other| one.name.cmp(&other.name));
    peers.dedup_by(|one, other| one.name == other.name);
    let wanted = |peer: &Cluster| WantedMetadata {
        endpoint: peer.endpoint.clone(),
        cluster_uuid: reader.lock.clusters.get(&peer.name).map(|locked| locked.public.cluster_uuid.clone()),
        ca: peer.endpoint_ca.clone(),
        allow: peer.allow.addresses.clone(),
    };
    peers.into_iter().map(wanted).collect()
}

/// `isthmus-routes`, as soon as there is a route, or a peer whose metadata is to be read.
pub(super) fn render_routes(reader: &ReaderView<'_>, out: &mut RenderedCluster) -> Result<(), Diagnostics> {
    let mut routes = reader.reachable().filter_map(|(link, _)| link.peer.route.clone()).peekable();
    let wanted = wanted_metadata(reader);
    if routes.peek().is_none() && wanted.is_empty() {
        return Ok(());
    }
    let of = reader.known.map(|known| format!("\n\"clusterUUID\":\"{}\",", known.uuid())).unwrap_or_default();
    let lines: Result<Vec<_>, _> = wanted.iter().map(serde_json::to_string).collect();
    let lines = lines.map_err(internal)?.join(",\n");
    let metadata = if lines.is_empty() { lines } else { format!("\n\"metadata\":[\n{lines}\n],") };
    let head = format!("{{\"version\":{ROUTES_VERSION},{of}{metadata}\n\"routes\":");
    let step = reader.step(StepKind::RenderRoutes);
    out.objects.push(reader.config_map(ROUTES, vec![step], [(ROUTES_FILE, Fragment::list(head, routes))]));
    Ok(())
}
