//! What istiod shows of itself: the debug endpoints of Istio's `pilot/pkg/xds/debug.go` (`/debug/clusterz`, `/debug/networkz`,
//! `/debug/mesh`), and pages of metrics. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::error::Category;

use crate::types::address::Gateway;
use crate::types::name::{ClusterId, Digest, NetworkName};
use crate::wire::metadata::ReadState;

#[derive(Deserialize)]
struct DebugCluster {
    id: String,
    #[serde(rename = "secretName", default)]
    secret: String,
    #[serde(rename = "syncStatus", default)]
    status: String,
}

/// Pages of istiod that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugPage {
    Clusterz,
    Mesh,
    Networkz,
}

impl DebugPage {
    /// Its path below istiod's debug port.
    pub fn path(self) -> &'static str {
        match self {
            Self::Clusterz => "/debug/clusterz",
            Self::Mesh => "/debug/mesh",
            Self::Networkz => "/debug/networkz",
        }
    }

    /// Its name, as it is asked for on a stream of discovery.
    pub(crate) fn name(self) -> &'static str {
        self.path().trim_start_matches("/debug/")
    }

    fn read<'a, T: Deserialize<'a>>(self, bytes: &'a [u8]) -> Result<T, DebugError> {
        serde_json::from_slice(bytes).map_err(|error| DebugError {
            page: self,
            category: error.classify(),
            line: error.line(),
            column: error.column(),
        })
    }
}

/// A page that is not understood. Peers are shown this, so nothing of the page's text is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugError {
    pub page: DebugPage,
    /// What of it is not understood.
    pub category: Category,
    /// Where; 0 where that is nowhere.
    pub line: usize,
    /// Where in the line.
    pub column: usize,
}

impl fmt::Display for DebugError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match self.category {
            Category::Data => "JSON of another form",
            Category::Eof => "the end of the answer",
            Category::Syntax | Category::Io => "no JSON",
        };
        let Self { page, line, column, .. } = self;
        write!(f, "{}: expected JSON as istiod writes it, found {found} at line {line} column {column}", page.path())
    }
}

impl std::error::Error for DebugError {}

/// Remote clusters from `/debug/clusterz`; the cluster's own entry has no secret.
pub fn parse_clusterz(bytes: &[u8]) -> Result<BTreeMap<ClusterId, ReadState>, DebugError> {
    let all: Vec<DebugCluster> = DebugPage::Clusterz.read(bytes)?;
    let remote = all.into_iter().filter(|cluster| !cluster.secret.is_empty());
    // an ID that is none of ours comes from a secret of another's making
    let known = remote.filter_map(|cluster| {
        let state = match cluster.status.as_str() {
            "synced" => ReadState::Synced,
            "timeout" => ReadState::Timeout,
            // `closed`, too, is still there
            _ => ReadState::Syncing,
        };
        Some((cluster.id.parse().ok()?, state))
    });
    let mut worst: BTreeMap<ClusterId, ReadState> = BTreeMap::new();
    for (id, state) in known {
        let entry = worst.entry(id).or_insert(state);
        *entry = worse(*entry, state);
    }
    Ok(worst)
}

/// The worse of two states.
pub(crate) fn worse(one: ReadState, other: ReadState) -> ReadState {
    match (one, other) {
        (ReadState::Timeout, _) | (_, ReadState::Timeout) => ReadState::Timeout,
        (ReadState::Syncing, _) | (_, ReadState::Syncing) => ReadState::Syncing,
        _ => ReadState::Synced,
    }
}

#[derive(Deserialize)]
struct DebugMesh {
    #[serde(rename = "caCertificates", default)]
    roots: Vec<DebugRoot>,
}

#[derive(Deserialize)]
struct DebugRoot {
    #[serde(default)]
    pem: String,
}

/// Digests of the foreign roots of `/debug/mesh`. Istio reads the first certificate of an entry, so an entry is one root.
pub fn parse_mesh(bytes: &[u8]) -> Result<BTreeSet<Digest>, DebugError> {
    let mesh: DebugMesh = DebugPage::Mesh.read(bytes)?;
    let first = |root: &DebugRoot| pem::parse_many(&root.pem).ok()?.first().map(|block| Digest::of(block.contents()));
    Ok(mesh.roots.iter().filter_map(first).collect())
}

#[derive(Deserialize)]
struct WireNetworkGateway {
    #[serde(rename = "Network")]
    network: String,
    #[serde(rename = "Addr")]
    address: String,
    #[serde(rename = "Port", default)]
    port: u64,
}

/// Gateways by network, from `/debug/networkz`. Names are resolved there. A port of 0 is that of an ambient gateway.
pub fn parse_networkz(bytes: &[u8]) -> Result<BTreeMap<NetworkName, BTreeSet<Gateway>>, DebugError> {
    let all: Option<Vec<WireNetworkGateway>> = DebugPage::Networkz.read(bytes)?;
    let mut networks: BTreeMap<NetworkName, BTreeSet<Gateway>> = BTreeMap::new();
    for gateway in all.unwrap_or_default() {
        if let (Ok(network), Ok(gateway)) = (gateway.network.parse(), Gateway::new(&gateway.address, gateway.port)) {
            networks.entry(network).or_default().insert(gateway);
        }
    }
    Ok(networks)
}

/// A line of a metrics page: the value of a metric and its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Samples of one metric in the text formats of Prometheus and `OpenMetrics`.
pub fn parse_samples(text: &str, metric: &str) -> Vec<Sample> {
    text.lines().filter_map(|line| sample(line.strip_prefix(metric)?)).collect()
}

fn sample(rest: &str) -> Option<Sample> {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = rest.strip_prefix('{') else {
        // another metric whose name only begins alike is none of ours
        return Some(Sample { labels, value: rest.strip_prefix(' ')?.split(' ').next()?.parse().ok()? });
    };
    while !rest.starts_with('}') {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = after.get(end + 1..)?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    let value = rest.strip_prefix("} ")?.split(' ').next()?.parse().ok()?;
    Some(Sample { labels, value })
}
