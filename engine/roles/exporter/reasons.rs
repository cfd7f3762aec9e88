//! Why a field cannot be published: of the documents, and of evidence. The sentences are made here; documents carry them.

use std::convert::Infallible;
use std::time::Duration;

use http::StatusCode;

use crate::cluster::unread::{ReadError, Unread};
use crate::istio::debug::{DebugError, DebugPage};
use crate::istio::discovery::DiscoveryError;
use crate::istio::gateways::{GatewayError, NETWORK_LABEL};
use crate::istio::installed::{ClusterIdError, ROOT_CA};
use crate::istio::mesh_config::MeshConfigError;
use crate::types::cause::Cause;
use crate::types::certificate::CertificateError;
use crate::types::name::{ClusterUuid, InvalidName};
use crate::types::tls_verdict::TlsVerdict;
use crate::wire::identity::{IDENTITY, IdentityError};
use crate::wire::metadata::IstioMode;
use crate::wire::peers::PeersError;

/// Why a document is not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The role has just begun.
    #[error("the apiserver was not asked yet")]
    NotAsked,
    /// Pods and objects that evidence rests on were not all asked yet.
    #[error("the first collection of evidence from istiod, the api-proxy and the relay is not over")]
    FirstCollection,
    /// An object was not read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// A ConfigMap lacks its file.
    #[error("ConfigMap {config_map} has no {file}")]
    NoFile { config_map: &'static str, file: &'static str },
    /// The UID of `kube-system` is no UUID.
    #[error("the UID of namespace kube-system: {0}")]
    Uid(#[source] InvalidName),
    /// The identity is not understood.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The identity is another cluster's.
    #[error("ConfigMap {IDENTITY} is that of cluster {named}, and this is {own}")]
    OtherCluster { named: ClusterUuid, own: ClusterUuid },
    /// The identity has no key.
    #[error("ConfigMap {IDENTITY} names no key")]
    NoKey,
    /// The peers are not understood.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The root CAs are not understood.
    #[error("ConfigMap {}: {}", ROOT_CA.0, .0)]
    Roots(#[source] CertificateError),
    /// The network's label holds none.
    #[error("label of Istio's namespace: {0}")]
    NetworkLabel(#[source] InvalidName),
    /// The network's label on gateways holds none.
    #[error("label {NETWORK_LABEL} of the gateway Services: {0}")]
    GatewayNetwork(#[source] InvalidName),
    /// No one says what the network is.
    #[error(
        "the network is not known: state `network` in its Cluster, or label Istio's namespace with {NETWORK_LABEL}"
    )]
    NoNetwork,
    /// Gateways are not known.
    #[error(transparent)]
    Gateways(#[from] GatewayError),
    #[error("no Service has the label {NETWORK_LABEL}: deploy an east-west gateway, or set --flat-network")]
    NoGateway,
    #[error("there is no istiod: neither a Deployment nor a pod has the label app=istiod")]
    NoIstiod,
    /// The cluster ID is not known.
    #[error(transparent)]
    ClusterId(#[from] ClusterIdError),
    /// No one says where the api-proxy is.
    #[error("the address of the api-proxy is not known: set --api-host")]
    NoApiHost,
}

/// Why a field of evidence cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// No one can be asked.
    #[error("no pod of {of} is running")]
    NoPod {
        /// Whose pod is wanted.
        of: Component,
    },
    /// A pod did not say.
    #[error("{pod}: {source}")]
    Pod { pod: String, source: AskError },
    /// Objects were not read.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// The standard mesh configuration is not known.
    #[error(transparent)]
    MeshConfig(#[from] MeshConfigError),
    /// The cluster's own roots are not published.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The cluster's own roots are not understood.
    #[error(transparent)]
    Roots(#[from] CertificateError),
    /// It names other peers, too.
    #[error("shown to the cluster's own engine alone")]
    OwnEngineAlone,
    /// It cannot be determined which part of it is about the reader.
    #[error("this cluster does not know the reader's cluster ID or network yet")]
    ReaderNotKnown,
    /// It was learned too long ago.
    #[error("{what} was last confirmed {} ago, expected at most {}", length(*age), length(*max_age))]
    TooOld {
        /// What it rests on, such as `list of istiod's pods`.
        what: &'static str,
        /// How long ago that was confirmed.
        age: Duration,
        /// How long ago it may have been.
        max_age: Duration,
    },
    /// Istio runs in a way in which no link can work.
    #[error("{mode}: {}", .mode.remedy())]
    Mode { mode: IstioMode },
    /// Proxies that await a restart were not counted yet.
    #[error("pods were not counted yet")]
    NotCounted,
    /// Proxies that await a restart cannot be counted.
    #[error("pods cannot be listed: {0}")]
    NotListed(#[source] ReadError),
}

/// A length of time, rounded down to minutes: a reason that changes each second would make each answer a new one.
fn length(time: Duration) -> String {
    match time.as_secs() {
        60..=119 => "1 minute".to_owned(),
        seconds @ 120.. => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}

/// Whose pods are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    Istiod,
    Proxy,
    /// The relay, or an agent.
    Relay,
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Istiod => "istiod",
            Self::Proxy => "the api-proxy",
            Self::Relay => "the relay",
        })
    }
}

/// Why a pod did not say what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// A debug page on the port that has it.
    #[error("{} on port {port}: {source}", page.path())]
    Port { page: DebugPage, port: u16, source: GetError },
    /// A debug page on none of the ports that may have it.
    #[error("{}: {}", page.path(), each_port(tried))]
    NoPort {
        page: DebugPage,
        /// The ports, and why not there.
        tried: Vec<(u16, GetError)>,
    },
    /// The page of metrics.
    #[error("/metrics: {0}")]
    Metrics(#[source] GetError),
    /// A page that is not understood.
    #[error(transparent)]
    Page(#[from] DebugError),
}

impl From<Infallible> for AskError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn each_port(tried: &[(u16, GetError)]) -> String {
    tried.iter().map(|(port, error)| format!("port {port}: {error}")).collect::<Vec<_>>().join(", ")
}

/// Why a page was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The pod's address is none.
    #[error("its address is none")]
    Address,
    /// No connection came about.
    #[error(transparent)]
    Connect(Cause<std::io::Error>),
    /// No answer in HTTP.
    #[error(transparent)]
    Http(Cause<hyper::Error>),
    /// A request that cannot be written.
    #[error(transparent)]
    Request(Cause<http::Error>),
    /// TLS was not agreed on.
    #[error("{0}")]
    Tls(TlsVerdict),
    /// Another status than 200.
    #[error("{0}")]
    Status(StatusCode),
    /// A stream of gRPC that istiod ended with an error; 7 and 16 are its refusals.
    #[error("gRPC status {0}")]
    Grpc(u32),
    /// A stream that is not understood.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// A stream that ended before all was said.
    #[error("its answer breaks off")]
    Ended,
    /// More bytes than are read.
    #[error("length limit exceeded")]
    TooLong,
    /// It took too long.
    #[error("no answer in time")]
    Late,
}

impl GetError {
    /// Whether nothing is there, so that another port may answer.
    pub(super) fn is_elsewhere(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Late | Self::Status(StatusCode::NOT_FOUND) => true,
            Self::Address
            | Self::Http(_)
            | Self::Request(_)
            | Self::Tls(_)
            | Self::Status(_)
            | Self::Grpc(_)
            | Self::Discovery(_)
            | Self::Ended
            | Self::TooLong => false,
        }
    }
}
