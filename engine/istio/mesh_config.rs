//! The mesh configuration that istiod goes by: the standard one, ours that it merges, and the networks in both. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::cluster::unread::Unread;
use crate::cluster::watched::SourceState;
use crate::istio::objects::{MeshMap, NotYaml};
use crate::types::address::Gateway;
use crate::types::name::{Revision, TrustDomain};
use crate::types::yaml::{self, MAX_OBJECT};
use crate::wire::metadata::{EveryRevision, StandardMeshConfig};

/// The ConfigMap that istiod merges into its mesh configuration.
pub const SHARED_MESH_CONFIG: &str = "isthmus-mesh";

/// The ConfigMap of the standard mesh configuration of the revision without a name; others add theirs.
const STANDARD: &str = "istio";
/// The same of what is injected.
const INJECTOR: &str = "istio-sidecar-injector";

/// The ConfigMap of a revision's standard mesh configuration.
pub fn standard_config_map(revision: &str) -> String {
    if revision == Revision::UNNAMED { STANDARD.to_owned() } else { format!("{STANDARD}-{revision}") }
}

/// The ConfigMap with the values that a revision injects into proxies.
pub fn injector_config_map(revision: &str) -> String {
    if revision == Revision::UNNAMED { INJECTOR.to_owned() } else { format!("{INJECTOR}-{revision}") }
}

/// Whether a ConfigMap may be that of a revision's standard mesh configuration, by its name.
pub fn is_standard_config_map(name: &str) -> bool {
    name == STANDARD
        || name
            .strip_prefix(STANDARD)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|revision| revision.parse::<Revision>().is_ok())
}

/// Gateways as they are configured, by network. They may be names.
pub type Configured = BTreeMap<String, BTreeSet<Gateway>>;

/// Networks of a `meshNetworks` text, with their gateways and the registries in them. A text that is none has none, as for
/// istiod.
pub fn parse_mesh_networks(text: &str) -> BTreeMap<String, (BTreeSet<Gateway>, BTreeSet<String>)> {
    let document = yaml::value(text, MAX_OBJECT).unwrap_or_default();
    let Some(networks) = document.get("networks").and_then(Value::as_object) else { return BTreeMap::new() };
    let list = |network: &Value, key: &str| network.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let gateway = |value: &Value| {
        let address = value.get("address").and_then(Value::as_str)?;
        Gateway::new(address, value.get("port").and_then(Value::as_u64)?).ok()
    };
    let registry = |value: &Value| value.get("fromRegistry").and_then(Value::as_str).map(ToOwned::to_owned);
    let network = |network: &Value| {
        let gateways = list(network, "gateways").iter().filter_map(gateway).collect();
        (gateways, list(network, "endpoints").iter().filter_map(registry).collect())
    };
    networks.iter().map(|(name, value)| (name.clone(), network(value))).collect()
}

/// Why the standard mesh configuration is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeshConfigError {
    /// A ConfigMap was not read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// A ConfigMap is not understood.
    #[error("ConfigMap {config_map}: {source}")]
    NotYaml {
        config_map: String,
        /// What is wrong with it.
        source: NotYaml,
    },
}

/// What the standard mesh configuration says, over the ConfigMaps of all revisions. The first one's networks count, which
/// is that of the default revision where there is one.
pub fn mesh_config(maps: &BTreeMap<String, SourceState<Arc<MeshMap>>>) -> Result<StandardMeshConfig, MeshConfigError> {
    let mut all = StandardMeshConfig::default();
    let mut every: Option<EveryRevision> = None;
    let mut networks = BTreeSet::new();
    for (name, source) in maps {
        let Some(map) = source.optional(format!("ConfigMap {name}"))? else {
            every = Some(EveryRevision::default());
            networks.insert(None);
            continue;
        };
        networks.insert(map.mesh_networks.as_ref());
        every = Some(match every {
            None => EveryRevision {
                roots: map.roots.clone(),
                trust_domain_aliases: map.trust_domain_aliases.clone(),
                same_networks: true,
            },
            Some(every) => in_common(&every, map),
        });
        let not_yaml = |source| MeshConfigError::NotYaml { config_map: name.clone(), source };
        all.ca_certificates |= map.ca_certificates.map_err(not_yaml)?;
        if all.mesh_networks.is_none() {
            all.mesh_networks.clone_from(&map.mesh_networks);
        }
    }
    all.every_revision = every.map(|every| EveryRevision { same_networks: networks.len() == 1, ..every });
    Ok(all)
}

/// What all revisions so far and one more have in common.
fn in_common(every: &EveryRevision, map: &MeshMap) -> EveryRevision {
    let both = |one: &BTreeSet<TrustDomain>, other: &BTreeSet<TrustDomain>| one.intersection(other).cloned().collect();
    let roots = every.roots.iter().filter_map(|(root, domains)| Some((*root, both(domains, map.roots.get(root)?))));
    EveryRevision {
        roots: roots.collect(),
        trust_domain_aliases: both(&every.trust_domain_aliases, &map.trust_domain_aliases),
        same_networks: every.same_networks,
    }
}
