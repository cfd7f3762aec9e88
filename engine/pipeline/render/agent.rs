//! Clusters in which the engine itself acts: what its agent is told of its own cluster, and the rights of peers, which are
//! rendered once for all peers there may be, so that the agent needs no right over rights.
//!
//! The agent reads the documents as a checkout's specs are read (`spec`), beside the IstioMulticluster objects of its cluster.

use serde_json::{Map, Value, json};

use crate::model::mesh::{Allow, Cluster, EvidenceRule, FirstContact, Pin};
use crate::pipeline::render::check::internal;
use crate::pipeline::render::fragments::Fragment;
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::peers::rights_of_users;
use crate::pipeline::render::reader::ReaderView;
use crate::spec::API_VERSION;
use crate::types::diagnostic::Diagnostics;
use crate::types::object::to_yaml;
use crate::types::step::StepKind;
use crate::wire::agent::{AGENT_MAP, SPECS_FILE};
use crate::wire::peers::agent_users;
use crate::wire::share::Share;

/// The ConfigMap with the agent's specs, and what its peers may do.
pub(super) fn render(reader: &ReaderView<'_>, out: &mut RenderedCluster) -> Result<(), Diagnostics> {
    let step = reader.step(StepKind::RenderComponents);
    let documents = [mesh(reader), cluster(reader.cluster)];
    let texts: Result<Vec<String>, _> = documents.iter().map(to_yaml).collect();
    let text = Fragment::new(texts.map_err(internal)?.join("---\n"));
    out.objects.push(reader.config_map(AGENT_MAP, vec![step], [(SPECS_FILE, vec![text])]));
    rights_of_users(reader, &agent_users(), out);
    Ok(())
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
            ("namespace", Some(text(&stated.istio_namespace))),
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
