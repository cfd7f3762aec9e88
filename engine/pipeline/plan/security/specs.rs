//! Edits of specs, field by field, and clusters that are new.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::model::lock::Lock;
use crate::model::mesh::{
    Cluster, Components, EvidenceOrigin, EvidenceRule, FirstContact, Istio, Mesh, State, Stated, Topology,
};
use crate::pipeline::plan::diff::{FieldChange, ValueChange};
use crate::pipeline::plan::security::item::{Admittance, SecurityChange, SecurityItem};
use crate::pipeline::plan::security::share_change::text;
use crate::pipeline::plan::security::spec_field::SpecField;
use crate::types::name::{ClusterName, Digest};
use crate::wire::share::Share;

/// What a document of a Mesh or a Cluster states, by field; fields that are not stated are not in it.
type Values = BTreeMap<SpecField, String>;

fn join<T: Display>(values: impl IntoIterator<Item = T>) -> Option<String> {
    let all: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// A value of an enum as specs spell it.
fn spelt<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Certificates by their digests.
fn certificates(pem: &str) -> String {
    let condensed = crate::pipeline::plan::diff::condense(pem);
    condensed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A duration as specs spell it, to the second.
fn exact(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Paused => "paused",
        State::Leaving => "leaving",
        State::Lost => "lost",
    }
}

fn of_mesh(mesh: &Mesh) -> Values {
    let Mesh { name, at: _, mesh_id, first_contact, require_token, engine_keys, clusters: _, topology, inside: _ } =
        mesh;
    let contact = match first_contact {
        FirstContact::Tls => "tls",
        FirstContact::Approve => "approve",
    };
    let pairs = match topology {
        Topology::Full => None,
        Topology::Pairs(pairs) => {
            let all = pairs.iter().flat_map(|(one, others)| others.iter().map(move |other| (one, other)));
            join(all.filter(|(one, other)| one <= other).map(|(one, other)| format!("[{one}, {other}]")))
        }
    };
    let topology = if matches!(topology, Topology::Full) { "full" } else { "pairs" };
    let keys = join(engine_keys.iter().map(|key| format!("{} {}", key.id, key.key.fingerprint())));
    let stated = [
        (SpecField::MeshName, Some(name.to_string())),
        (SpecField::MeshId, Some(mesh_id.to_string())),
        (SpecField::FirstContact, Some(contact.to_owned())),
        (SpecField::RequireToken, require_token.map(|required| required.to_string())),
        (SpecField::EngineKeys, keys),
        (SpecField::Topology, Some(topology.to_owned())),
        (SpecField::Pairs, pairs),
    ];
    stated.into_iter().filter_map(|(field, value)| Some((field, value?))).collect()
}

fn of_cluster(cluster: &Cluster) -> Values {
    let Cluster {
        name: _,
        at: _,
        reconciler: _,
        state: own_state,
        components,
        endpoint,
        endpoint_ca,
        // says where a value is written, and not which
        crd: _,
        pin,
        cluster_domain: _,
        cluster_id,
        network,
        trust_domain,
        merge_trust_domains,
        istio: Istio { namespace: _, revisions, config: _, dns_capture, prepared, standard_mesh_networks },
        manages_gateway,
        gateways,
        flat_network: _,
        api,
        allow,
        // listed peer by peer
        share: _,
        share_with: _,
        evidence,
        evidence_origin,
        settle,
        root_overlap,
        distrust,
        stated: _,
    } = cluster;
    let Stated { reconciler, cluster_domain, istio_namespace, istio_config, flat_network } = cluster.stated();
    let standard = standard_mesh_networks.as_ref().map(|networks| {
        if networks.is_empty() { "none".to_owned() } else { Value::Object(networks.clone()).to_string() }
    });
    let evidence = match evidence {
        EvidenceRule::Required => "required".to_owned(),
        // what its exporter is like is no edit
        EvidenceRule::None if *evidence_origin == EvidenceOrigin::Exporter => "required".to_owned(),
        EvidenceRule::None => "none".to_owned(),
        EvidenceRule::Attested(fields) => format!("attested: {}", join(fields).unwrap_or_default()),
    };
    let mut stated = vec![
        (SpecField::Reconciler, Some(spelt(&reconciler))),
        (SpecField::State, Some(state(*own_state).to_owned())),
        (SpecField::Enabled, Some(components.is_some().to_string())),
        (SpecField::Endpoint, Some(endpoint.to_string())),
        (SpecField::EndpointCa, endpoint_ca.as_deref().map(certificates)),
        (SpecField::PinUuid, pin.cluster_uuid.as_ref().map(ToString::to_string)),
        (SpecField::PinKey, pin.authn_key.map(|digest| digest.to_string())),
        (SpecField::PinRoots, join(&pin.root_ca)),
        (SpecField::ClusterDomain, Some(cluster_domain.to_string())),
        (SpecField::ClusterId, cluster_id.as_ref().map(ToString::to_string)),
        (SpecField::Network, network.as_ref().map(ToString::to_string)),
        (SpecField::TrustDomain, trust_domain.as_ref().map(ToString::to_string)),
        (SpecField::MergeTrustDomains, merge_trust_domains.map(|merged| merged.to_string())),
        (SpecField::Namespace, Some(istio_namespace.to_string())),
        (SpecField::Revisions, join(revisions)),
        (SpecField::Config, Some(spelt(&istio_config))),
        (SpecField::DnsCapture, Some(dns_capture.to_string())),
        (SpecField::Prepared, Some(prepared.to_string())),
        (SpecField::StandardMeshNetworks, standard),
        (SpecField::ManagesGateway, manages_gateway.then(|| "true".to_owned())),
        (SpecField::Gateways, gateways.as_ref().and_then(join)),
        (SpecField::FlatNetwork, Some(flat_network.to_string())),
        (SpecField::ApiHost, api.host.as_ref().map(ToString::to_string)),
        (SpecField::ApiCa, api.ca.as_deref().map(certificates)),
        (SpecField::AllowHosts, join(&allow.api_hosts)),
        (SpecField::AllowAddresses, join(&allow.addresses)),
        (SpecField::Evidence, Some(evidence)),
        (SpecField::Settle, Some(exact(*settle))),
        (SpecField::RootOverlap, Some(exact(*root_overlap))),
        (SpecField::Distrust, join(distrust)),
    ];
    if let Some(components) = components {
        let Components {
            image,
            replicas,
            expose,
            external_traffic_policy,
            trusted_proxies,
            cluster_cidrs,
            admission_policy,
            api_host,
            tls_secret,
        } = components;
        stated.extend([
            (SpecField::Image, image.clone()),
            (SpecField::Replicas, Some(replicas.to_string())),
            (SpecField::Expose, Some(spelt(expose))),
            (SpecField::TrafficPolicy, Some(spelt(external_traffic_policy))),
            (SpecField::TrustedProxies, join(trusted_proxies)),
            (SpecField::ClusterCidrs, join(cluster_cidrs)),
            (SpecField::AdmissionPolicy, Some(admission_policy.to_string())),
            (SpecField::PublishedApiHost, api_host.as_ref().map(ToString::to_string)),
            (SpecField::TlsSecret, tls_secret.as_ref().map(ToString::to_string)),
        ]);
    }
    stated.into_iter().filter_map(|(field, value)| Some((field, value?))).collect()
}

/// Every field of the specs that differs, but for clusters that the base does not declare. Clusters of which the same is edited
/// alike are shown together.
pub(super) fn spec_edits(before: &Mesh, after: &Mesh, lock: &Lock) -> Vec<SecurityItem> {
    type ComparedField = (SpecField, Option<String>, Option<String>, bool);
    let linked: BTreeSet<&ClusterName> = lock.linked().collect();
    let mut edits: BTreeMap<ComparedField, Vec<ClusterName>> = BTreeMap::new();
    let mut compare = |cluster: Option<&ClusterName>, before: &Values, after: &Values| {
        let fields: BTreeSet<&SpecField> = before.keys().chain(after.keys()).collect();
        for field in fields {
            let (before, after) = (before.get(field).cloned(), after.get(field).cloned());
            if before != after {
                let is_linked = cluster.map_or(!linked.is_empty(), |cluster| linked.contains(cluster));
                edits.entry((*field, before, after, is_linked)).or_default().extend(cluster.cloned());
            }
        }
    };
    compare(None, &of_mesh(before), &of_mesh(after));
    for (name, old) in &before.clusters {
        if let Some(new) = after.clusters.get(name) {
            compare(Some(name), &of_cluster(old), &of_cluster(new));
        } else {
            let gone = Values::from([(SpecField::Document, format!("{}, {}", old.endpoint, state(old.state)))]);
            compare(Some(name), &gone, &Values::new());
        }
    }
    let item = |((field, before, after, is_linked), clusters): (ComparedField, Vec<ClusterName>)| {
        SecurityItem::listed(SecurityChange::Spec { clusters, field, before, after, is_linked })
    };
    edits.into_iter().map(item).collect()
}

/// Clusters that come into the mesh: in the lock as it will be, or in the specs, and not before. All readers that are linked with
/// one of them trust its root CAs.
pub(super) fn new_clusters(mesh: &Mesh, is_new: &dyn Fn(&ClusterName) -> bool, lock: &Lock) -> Vec<SecurityItem> {
    let new = mesh.clusters.values().filter(|cluster| !cluster.state.is_going() && is_new(&cluster.name));
    let item = |cluster: &Cluster| {
        let published = lock.clusters.get(&cluster.name);
        let roots: Vec<Digest> = match published {
            Some(entry) => entry.public.roots.iter().map(|root| root.digest).collect(),
            None => cluster.pin.root_ca.iter().copied().collect(),
        };
        let readers = mesh.peers_of(&cluster.name).filter(|peer| peer.is_ours()).map(|peer| peer.name.clone());
        let is_pinned =
            !cluster.pin.root_ca.is_empty() && cluster.pin.cluster_uuid.is_some() && cluster.pin.authn_key.is_some();
        let entry = match (published, mesh.first_contact) {
            (Some(_), _) => Admittance::Taken,
            (None, FirstContact::Approve) if !is_pinned => Admittance::Approved,
            (None, FirstContact::Approve | FirstContact::Tls) => Admittance::Unasked,
        };
        let shown = [
            SpecField::Endpoint,
            SpecField::EndpointCa,
            SpecField::Reconciler,
            SpecField::Image,
            SpecField::AllowHosts,
            SpecField::AllowAddresses,
            SpecField::Gateways,
            SpecField::ApiHost,
            SpecField::TrustDomain,
            SpecField::Evidence,
        ];
        let mut values = of_cluster(cluster);
        let stated = shown.into_iter().filter_map(|field| Some((field, values.remove(&field)?)));
        let stated = stated.map(|(field, value)| (field.as_str(), value));
        let share = (cluster.share != Share::usual()).then(|| ("share", text(&cluster.share)));
        let fields = stated
            .chain(share)
            .map(|(field, value)| FieldChange { path: field.to_owned(), change: ValueChange::Added(value) });
        SecurityItem::listed(SecurityChange::NewCluster {
            cluster: cluster.name.clone(),
            fields: fields.collect(),
            roots,
            readers: readers.collect(),
            entry,
        })
    };
    new.map(item).collect()
}
