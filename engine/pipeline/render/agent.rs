//! Clusters in which the engine itself acts: what its agent is told of its own cluster.
//!
//! The agent reads the documents as a checkout's specs are read (`spec`), beside the IstioMulticluster objects of its cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::model::lock::{HandOver, Lock, LockedCluster};
use crate::model::mesh::{Allow, Cluster, EvidenceRule, FirstContact, Pin, Reconciler};
use crate::model::needs::Wave;
use crate::model::read_by::ReadBy;
use crate::pipeline::render::check::internal;
use crate::pipeline::render::fragments::Fragment;
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::reader::ReaderView;
use crate::pipeline::render::rendered::RenderedObject;
use crate::spec::API_VERSION;
use crate::types::diagnostic::Diagnostics;
use crate::types::name::ClusterName;
use crate::types::object::{SYNC_WAVE, to_yaml};
use crate::types::step::StepKind;
use crate::wire::agent::{AGENT_MAP, SPECS_FILE};
use crate::wire::hand_over::{
    HandOverOrder, HandOverStage, HandOverState, ORDER_FILE, ObjectWriter, STATE_FILE, STATE_MAP,
};
use crate::wire::share::Share;

/// The ConfigMap with the agent's specs, and what it is told of a hand-over.
pub(super) fn render(reader: &ReaderView<'_>, out: &mut RenderedCluster) -> Result<(), Diagnostics> {
    let step = reader.step(StepKind::RenderComponents);
    let documents = [mesh(reader), cluster(reader.cluster)];
    let texts: Result<Vec<String>, _> = documents.iter().map(to_yaml).collect();
    let text = Fragment::new(texts.map_err(internal)?.join("---\n"));
    let order = order(reader)?.map(|order| (ORDER_FILE, vec![Fragment::new(order)]));
    let data = order.into_iter().chain([(SPECS_FILE, vec![text])]);
    out.objects.push(reader.config_map(AGENT_MAP, vec![step], data));
    Ok(())
}

/// What the agent is told of a hand-over, as JSON; `None`: there is none.
fn order(reader: &ReaderView<'_>) -> Result<Option<String>, Diagnostics> {
    let writer = match reader.hand_over().map(|hand_over| hand_over.to) {
        Some(Reconciler::Agent) => ObjectWriter::Agent,
        Some(Reconciler::Rendered) => ObjectWriter::Tree,
        Some(Reconciler::Deckhouse | Reconciler::External) | None => return Ok(None),
    };
    let mut order = HandOverOrder::new(writer, reader.serial_of_links());
    order.given = reader.is_to_give().is_none();
    // the agent of a cluster that another checkout had has one of its own
    if writer == ObjectWriter::Agent && reader.changes_roles() {
        order.lock = lock_of(reader.lock, &reader.cluster.name).to_files().map_err(internal)?;
    }
    serde_json::to_string_pretty(&order).map(Some).map_err(internal)
}

/// That this checkout leaves the cluster as it is to another one, where it is to be left. It is synced after everything else, so
/// that whoever sees it knows that all of it is marked.
pub(super) fn offer(reader: &ReaderView<'_>) -> Result<Option<RenderedObject>, Diagnostics> {
    if reader.is_to_give() != Some(Reconciler::External) {
        return Ok(None);
    }
    let is_agent = reader.cluster.reconciler == Reconciler::Agent;
    let writer = if is_agent { ObjectWriter::Agent } else { ObjectWriter::Tree };
    let order = HandOverOrder::new(writer, reader.serial_of_links());
    let state = serde_json::to_string_pretty(&HandOverState::to(&order, HandOverStage::Offered)).map_err(internal)?;
    let draft = reader.object("v1", "ConfigMap", STATE_MAP, vec![reader.step(StepKind::ExchangeKeys)]);
    let draft = draft.annotation(SYNC_WAVE, Wave::Offer.number().to_string());
    Ok(Some(draft.field("data", json!({ STATE_FILE: state })).done()))
}

/// The lock as far as it concerns a cluster and who it is linked with, as the agent of that cluster keeps it.
fn lock_of(lock: &Lock, own: &ClusterName) -> Lock {
    let peers: BTreeSet<&ClusterName> = lock.links_of(own).map(|(peer, _)| peer).collect();
    let is_linked = |(name, _): &(&ClusterName, &LockedCluster)| *name == own || peers.contains(name);
    let mut clusters: BTreeMap<ClusterName, LockedCluster> =
        lock.clusters.iter().filter(is_linked).map(|(name, entry)| (name.clone(), entry.clone())).collect();
    for entry in clusters.values_mut() {
        // it reads them itself
        entry.read_by = ReadBy::default();
        entry.hand_over = None;
    }
    if let Some(entry) = clusters.get_mut(own) {
        entry.hand_over = Some(HandOver::new(Reconciler::Rendered, Reconciler::Agent));
        // to itself an agent is what renders
        if let Some(joined) = &mut entry.joined_with {
            joined.spec.reconciler = Reconciler::Rendered;
        }
    }
    let mut links = BTreeMap::from([(own.clone(), lock.links.get(own).cloned().unwrap_or_default())]);
    for peer in peers {
        if let Some(link) = lock.link(peer, own) {
            links.insert(peer.clone(), BTreeMap::from([(own.clone(), link.clone())]));
        }
    }
    let serials = lock.serials.iter().filter(|(name, _)| *name == own);
    let serials = serials.map(|(name, serial)| (name.clone(), *serial)).collect();
    Lock { clusters, links, serials, ..Lock::default() }
}

/// The Mesh as the agent has it.
fn mesh(reader: &ReaderView<'_>) -> Value {
    let keys = reader.engine_keys.iter();
    let keys: Vec<Value> = keys.map(|key| json!({ "id": key.id, "publicKey": key.key.to_pem() })).collect();
    let mut spec = Map::new();
    let mut put = |field: &str, value: Value| spec.insert(field.to_owned(), value);
    put("meshID", json!(reader.mesh_id()));
    put("acceptForeignRoots", true.into());
    if reader.mesh.first_contact == FirstContact::Approve {
        put("firstContact", "approve".into());
    }
    if let Some(required) = reader.mesh.require_token {
        put("credentials", json!({ "requireToken": required }));
    }
    if !keys.is_empty() {
        put("engineKeys", keys.into());
    }
    put("settle", seconds(reader.cluster.settle));
    put("rootOverlap", seconds(reader.cluster.root_overlap));
    json!({ "apiVersion": API_VERSION, "kind": "Mesh", "metadata": { "name": reader.mesh.name }, "spec": spec })
}

fn seconds(duration: std::time::Duration) -> Value {
    format!("{}s", duration.as_secs()).into()
}

/// The cluster as the agent has it. What single peers see is said with each of them.
fn cluster(cluster: &Cluster) -> Value {
    let stated = cluster.stated();
    let mut spec = Map::new();
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(field.to_owned(), value);
        }
    };
    let text = |value: &dyn ToString| Value::from(value.to_string());
    let ca = |pem: &Option<String>| pem.as_ref().map(|pem| json!({ "inline": pem }));
    put("reconciler", Some("agent".into()));
    if let Some(components) = &cluster.components {
        put(
            "multicluster",
            Some(with([
                ("image", components.image.as_ref().map(|image| json!(image))),
                ("apiHost", components.api_host.as_ref().map(|host| json!(host))),
                ("tlsSecret", components.tls_secret.as_ref().map(|secret| json!(secret))),
            ])),
        );
    }
    put("metadata", Some(with([("endpoint", Some(text(&cluster.endpoint))), ("ca", ca(&cluster.endpoint_ca))])));
    put("pin", pin(&cluster.pin));
    put("clusterDomain", Some(text(&stated.cluster_domain)));
    put("clusterID", cluster.cluster_id.as_ref().map(|id| text(id)));
    put("network", cluster.network.as_ref().map(|network| text(network)));
    put("trustDomain", cluster.trust_domain.as_ref().map(|domain| text(domain)));
    put("mergeTrustDomains", cluster.merge_trust_domains.map(Value::from));
    let istio = &cluster.istio;
    put(
        "istio",
        Some(with([
            // where it runs: it moves there with its Deployment, once no link rests on this one
            ("namespace", Some(text(&istio.namespace))),
            ("revisions", Some(json!(istio.revisions))),
            ("config", Some(json!(stated.istio_config))),
            ("dnsCapture", Some(istio.dns_capture.into())),
            ("prepared", Some(istio.prepared.into())),
            ("standardMeshNetworks", istio.standard_mesh_networks.as_ref().map(standard_networks)),
        ])),
    );
    put("gateway", cluster.manages_gateway.then(|| json!({ "manage": true })));
    put("gateways", cluster.gateways.as_ref().map(|gateways| json!(gateways)));
    put("flatNetwork", Some(stated.flat_network.into()));
    let api = [("host", cluster.api.host.as_ref().map(|host| text(host))), ("ca", ca(&cluster.api.ca))];
    put("api", api.iter().any(|(_, value)| value.is_some()).then(|| with(api)));
    put("share", Some(share(&cluster.share)));
    put("allow", allow(&cluster.allow));
    put("evidence", Some(evidence(&cluster.evidence)));
    put("distrust", (!cluster.distrust.is_empty()).then(|| json!(cluster.distrust)));
    json!({ "apiVersion": API_VERSION, "kind": "Cluster", "metadata": { "name": cluster.name }, "spec": spec })
}

fn standard_networks(stated: &Map<String, Value>) -> Value {
    if stated.is_empty() { "none".into() } else { Value::Object(stated.clone()) }
}

fn with<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect::<Map<_, _>>().into()
}

/// `pin`; `None`: nothing is pinned.
pub(super) fn pin(pin: &Pin) -> Option<Value> {
    let Pin { cluster_uuid, authn_key, root_ca } = pin;
    (*pin != Pin::default()).then(|| {
        with([
            ("clusterUUID", cluster_uuid.as_ref().map(|uuid| json!(uuid))),
            ("authnKey", authn_key.as_ref().map(|key| json!(key))),
            ("rootCA", (!root_ca.is_empty()).then(|| json!(root_ca))),
        ])
    })
}

/// `allow`; `None`: nothing is said.
pub(super) fn allow(allow: &Allow) -> Option<Value> {
    let texts = |all: Vec<String>| (!all.is_empty()).then(|| Value::from(all));
    let hosts = texts(allow.api_hosts.iter().map(ToString::to_string).collect());
    let addresses = texts(allow.addresses.iter().map(ToString::to_string).collect());
    (*allow != Allow::default()).then(|| with([("apiHosts", hosts), ("addresses", addresses)]))
}

/// `share`.
pub(super) fn share(share: &Share) -> Value {
    json!({ "namespaces": share.namespaces, "except": share.except })
}

/// `evidence`.
pub(super) fn evidence(rule: &EvidenceRule) -> Value {
    match rule {
        EvidenceRule::Required => "required".into(),
        EvidenceRule::None => "none".into(),
        EvidenceRule::Attested(fields) => {
            json!({ "attested": fields.iter().map(|field| field.as_str()).collect::<Vec<_>>() })
        }
    }
}
