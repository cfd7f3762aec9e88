//! What can be wrong with specs taken together.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use crate::types::address::{ApiHost, Host};
use crate::types::certificate::CertificateError;
use crate::types::diagnostic::Location;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::key::{KeyError, KeyId};
use crate::types::name::{ClusterDomain, ClusterId, ClusterName, MeshName, NetworkName, Revision};

/// A value of which each cluster needs its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unique {
    /// Where its metadata is read.
    Endpoint,
    ClusterId,
    /// Its network, where that is not flat.
    Network,
    ClusterUuid,
    AuthnKey,
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoint => "metadata endpoint",
            Self::ClusterId => "cluster ID",
            Self::Network => "network",
            Self::ClusterUuid => "cluster UUID",
            Self::AuthnKey => "authn key",
        })
    }
}

/// What an address is the address of.
#[derive(Debug, Clone, Copy)]
pub(super) enum AddressOf {
    Gateway,
    Endpoint,
}

impl fmt::Display for AddressOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "the gateway",
            Self::Endpoint => "the endpoint",
        })
    }
}

/// What is wrong with specs taken together.
#[derive(Debug)]
pub(super) enum CompileFinding<'a> {
    /// The cluster ID that every Istio begins with.
    DefaultClusterId {
        id: &'a ClusterId,
        cluster: &'a ClusterName,
    },
    /// Components for a cluster into which none are rendered.
    NothingDeployed {
        cluster: &'a ClusterName,
    },
    /// A field without which components cannot be rendered.
    ComponentField {
        /// The field of `multicluster`.
        field: &'static str,
        cluster: &'a ClusterName,
        /// An example of its value.
        example: &'static str,
    },
    /// The CRD of a cluster for which no IstioMulticluster is rendered.
    CrdOfAnother {
        cluster: &'a ClusterName,
    },
    /// Components of a cluster that another checkout has, which count while this one leaves it to that.
    LeftToAnother {
        cluster: &'a ClusterName,
    },
    /// A share of a cluster whose api-proxy is not ours.
    ShareOfAnother {
        field: &'static str,
        cluster: &'a ClusterName,
    },
    /// A share with the cluster itself.
    ShareWithItself {
        cluster: &'a ClusterName,
    },
    /// A share with a name that no cluster has.
    ShareWithUnknown {
        name: &'a ClusterName,
        /// One that is declared and may be meant.
        near: Option<&'a str>,
    },
    /// An empty list of revisions.
    NoRevisions,
    /// A revision that occurs twice.
    RevisionTwice {
        revision: &'a Revision,
    },
    /// An empty list of gateways.
    NoGateway {
        cluster: &'a ClusterName,
    },
    /// An api host that is not allowed.
    ApiHost {
        host: &'a ApiHost,
    },
    /// An address that each machine takes for itself.
    Inward {
        of: AddressOf,
        host: &'a Host,
    },
    /// An address that is not allowed.
    Address {
        of: AddressOf,
        host: &'a Host,
    },
    /// A CA file that cannot be read.
    CaFileMissing {
        path: &'a str,
    },
    /// A CA file that is no text.
    CaFileNotText {
        path: &'a str,
    },
    /// A CA that cannot be used.
    Ca(&'a CertificateError),
    NoSpecs,
    NoMesh,
    SecondMesh {
        name: &'a MeshName,
        first: &'a MeshName,
        at: &'a Location,
    },
    /// Two clusters of one name.
    ClusterTwice {
        name: &'a ClusterName,
        /// Where the other is.
        first: &'a Location,
    },
    /// One of several meshes has to be named.
    MeshNotStated {
        cluster: &'a ClusterName,
        mesh: &'a MeshName,
    },
    /// A mesh that is not declared.
    UnknownMesh {
        name: &'a MeshName,
        near: &'a str,
    },
    RequiredEngineFormat {
        text: &'a str,
    },
    /// Another engine is required.
    RequiredEngine {
        required: &'a str,
        /// The version of this one.
        own: &'a str,
    },
    /// Foreign roots are not accepted.
    ForeignRoots,
    /// A key of the engine that cannot be used.
    EngineKey {
        id: &'a KeyId,
        error: &'a KeyError,
    },
    /// Two keys of the engine that are alike.
    EngineKeyTwice {
        id: &'a KeyId,
        /// Where the other is.
        first: &'a Location,
    },
    /// Pairs where all are linked.
    PairsWithoutTopology,
    /// No pairs where they say who is linked.
    TopologyWithoutPairs,
    /// A cluster paired with itself.
    PairWithItself {
        name: &'a ClusterName,
    },
    /// Both clusters of a pair are of other checkouts.
    PairOfOthers {
        one: &'a ClusterName,
        other: &'a ClusterName,
    },
    /// A pair names a cluster that is not declared.
    PairUnknown {
        name: &'a ClusterName,
        /// One that is declared and may be meant.
        near: Option<&'a str>,
    },
    /// A value of another cluster.
    Shared {
        what: Unique,
        value: &'a str,
        cluster: &'a ClusterName,
        first: &'a ClusterName,
        /// Where that states it.
        at: &'a Location,
    },
    /// A network of its own that another calls flat.
    FlatBesideOwn {
        network: &'a NetworkName,
        /// The cluster whose own it is.
        cluster: &'a ClusterName,
        other: &'a ClusterName,
        /// Where that states it.
        at: &'a Location,
    },
    ClusterDomains {
        one: (&'a ClusterName, &'a ClusterDomain),
        /// Another cluster and its domain.
        other: (&'a ClusterName, &'a ClusterDomain),
        /// Where its document is.
        at: &'a Location,
    },
    /// A port, which the CRD of a Deckhouse cluster does not admit.
    EndpointPort {
        port: u16,
        /// The cluster that has to read it.
        reader: &'a ClusterName,
    },
    /// A host that a Deckhouse cluster cannot read.
    EndpointHost {
        /// The host, an address of IPv6.
        host: &'a Host,
        /// The cluster that has to read it.
        reader: &'a ClusterName,
    },
    /// A folder that a Deckhouse cluster cannot read.
    EndpointFolder {
        /// The cluster that has to read it.
        reader: &'a ClusterName,
    },
    /// A folder that an agent cannot read.
    AgentFolder {
        /// The cluster whose agent has to read it.
        reader: &'a ClusterName,
    },
    /// Mesh configuration that an agent cannot write.
    AgentConfig {
        cluster: &'a ClusterName,
    },
    /// An agent whose rights nothing holds.
    AgentUnheld {
        cluster: &'a ClusterName,
    },
    /// A peer where no cluster is of this checkout.
    PeerOfNoCluster {
        /// The peer.
        cluster: &'a ClusterName,
    },
    /// Links of a cluster without components.
    NoComponents {
        cluster: &'a ClusterName,
        /// A cluster that it is linked with.
        peer: &'a ClusterName,
    },
    /// Evidence is required of a folder of files.
    EvidenceOfFile,
}

impl CompileFinding<'_> {
    fn code(&self) -> Code {
        match self {
            Self::DefaultClusterId { .. }
            | Self::NoRevisions
            | Self::RevisionTwice { .. }
            | Self::Inward { .. }
            | Self::UnknownMesh { .. }
            | Self::RequiredEngineFormat { .. }
            | Self::EngineKey { .. } => Code::InvalidValue,
            Self::NothingDeployed { .. }
            | Self::CrdOfAnother { .. }
            | Self::LeftToAnother { .. }
            | Self::ShareOfAnother { .. }
            | Self::ShareWithItself { .. }
            | Self::NoGateway { .. }
            | Self::ApiHost { .. }
            | Self::Address { .. }
            | Self::PairsWithoutTopology
            | Self::PairWithItself { .. }
            | Self::PairOfOthers { .. }
            | Self::ClusterDomains { .. }
            | Self::EndpointPort { .. }
            | Self::EndpointHost { .. }
            | Self::EndpointFolder { .. }
            | Self::AgentFolder { .. }
            | Self::AgentConfig { .. }
            | Self::AgentUnheld { .. }
            | Self::PeerOfNoCluster { .. }
            | Self::NoComponents { .. }
            | Self::EvidenceOfFile => Code::ContradictorySpecs,
            Self::ComponentField { .. } | Self::MeshNotStated { .. } | Self::TopologyWithoutPairs => Code::FieldMissing,
            Self::CaFileMissing { .. } | Self::CaFileNotText { .. } | Self::Ca(_) => Code::CaUnusable,
            Self::NoSpecs | Self::NoMesh => Code::NoMesh,
            Self::SecondMesh { .. }
            | Self::ClusterTwice { .. }
            | Self::EngineKeyTwice { .. }
            | Self::Shared { .. }
            | Self::FlatBesideOwn { .. } => Code::NotUnique,
            Self::RequiredEngine { .. } => Code::OtherEngineRequired,
            Self::ForeignRoots => Code::ForeignRootsNotAccepted,
            Self::PairUnknown { .. } | Self::ShareWithUnknown { .. } => Code::UnknownCluster,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::DefaultClusterId { id, .. } => {
                format!("`{id}` is the cluster ID of every untouched Istio and names no cluster")
            }
            Self::NothingDeployed { cluster } => {
                format!("`multicluster` is set, and nothing is deployed into `{cluster}`")
            }
            Self::ComponentField { field, cluster, .. } => {
                format!("`multicluster.{field}` is missing in `{cluster}`, into which components are rendered")
            }
            Self::CrdOfAnother { cluster } => {
                format!("`metadata.crd` is set, and no IstioMulticluster is rendered for `{cluster}`")
            }
            Self::LeftToAnother { cluster } => format!(
                "`multicluster` is set, and another checkout is to reconcile `{cluster}`: it counts only until this one has left it to that"
            ),
            Self::ShareOfAnother { field, cluster } => {
                format!("`{field}` is set, and the api-proxy of `{cluster}` is not ours: nothing would hold it")
            }
            Self::ShareWithItself { cluster } => format!("`{cluster}` shares with itself"),
            Self::ShareWithUnknown { name, .. } => {
                format!("`shareWith` names `{name}`, and no cluster has that name")
            }
            Self::NoRevisions => "`revisions` is empty".to_owned(),
            Self::RevisionTwice { revision } => format!("revision `{revision}` is listed twice"),
            Self::NoGateway { cluster } => format!("`{cluster}` has no gateway, and its network is not flat"),
            Self::ApiHost { host } => format!("the api host `{host}` matches nothing in `allow.apiHosts`"),
            Self::Inward { of, host } => {
                format!("{of} `{host}` is an inward address, which each machine takes for itself")
            }
            Self::Address { of, host } => format!("{of} `{host}` lies in no range of `allow.addresses`"),
            Self::CaFileMissing { path } => format!("expected the CA file `{path}` in the checkout, found none"),
            Self::CaFileNotText { path } => format!("expected PEM in the CA file `{path}`, found no text"),
            Self::Ca(error) => format!("the CA is unusable: {error}"),
            Self::NoSpecs => "no spec found below specs/".to_owned(),
            Self::NoMesh => "no Mesh document found below specs/".to_owned(),
            Self::SecondMesh { name, first, at } => format!("a second Mesh `{name}` beside `{first}` at {at}"),
            Self::ClusterTwice { name, first } => format!("two clusters are named `{name}`, the other at {first}"),
            Self::MeshNotStated { cluster, .. } => {
                format!("`{cluster}` does not say which of several meshes it is in")
            }
            Self::UnknownMesh { name, .. } => format!("no Mesh is named `{name}`"),
            Self::RequiredEngineFormat { text } => format!("expected a minor version, found `{}`", text.escape_debug()),
            Self::RequiredEngine { required, own } => {
                format!("expected engine {required}, as this checkout requires, found {own}")
            }
            Self::ForeignRoots => {
                "joining clusters makes each trust the roots of the others, and `acceptForeignRoots: true` is not set"
                    .to_owned()
            }
            Self::EngineKey { id, error } => format!("the engine key `{id}` is unusable: {error}"),
            Self::EngineKeyTwice { id, first } => {
                format!("the engine key `{id}` has the id or the key of another one at {first}")
            }
            Self::PairsWithoutTopology => "`pairs` is set, and the topology is full".to_owned(),
            Self::TopologyWithoutPairs => "the topology is pairs, and `pairs` is missing".to_owned(),
            Self::PairWithItself { name } => format!("`{name}` is paired with itself"),
            Self::PairOfOthers { one, other } => format!("`{one}` and `{other}` are both of other checkouts"),
            Self::PairUnknown { name, .. } => format!("the pair names `{name}`, and no cluster has that name"),
            Self::Shared { what, value, cluster, first, at } => {
                format!("`{cluster}` has the {what} `{value}` of `{first}` at {at}")
            }
            Self::FlatBesideOwn { network, cluster, other, at } => {
                format!("`{cluster}` shares the network `{network}` with `{other}` at {at}, which is flat")
            }
            Self::ClusterDomains { one: (one, domain), other: (other, others), at } => {
                format!("`{one}` has the cluster domain `{domain}`, and `{other}` at {at} has `{others}`")
            }
            Self::EndpointPort { port, reader } => {
                format!(
                    "the endpoint has port {port}, and the `deckhouse` cluster `{reader}` with `crd: v1alpha1-old` must read it"
                )
            }
            Self::EndpointHost { host, reader } => {
                format!(
                    "the endpoint's host `{host}` is an IPv6 address, and the `deckhouse` cluster `{reader}` must read it"
                )
            }
            Self::EndpointFolder { reader } => {
                format!("the endpoint is a folder of the checkout, and the `deckhouse` cluster `{reader}` must read it")
            }
            Self::AgentFolder { reader } => {
                format!("the endpoint is a folder of the checkout, and the agent of `{reader}` must read it")
            }
            Self::AgentConfig { cluster } => {
                format!("the agent of `{cluster}` writes ConfigMaps, and `istio.config` asks for a values file")
            }
            Self::AgentUnheld { cluster } => {
                format!("`admissionPolicy: false` would let the agent of `{cluster}` change every Secret beside istiod")
            }
            Self::PeerOfNoCluster { cluster } => {
                format!("`{cluster}` has no cluster to be a peer of: the checkout has no cluster of its own")
            }
            Self::NoComponents { cluster, peer } => {
                format!("`{cluster}` deploys no components, and it is linked with `{peer}`")
            }
            Self::EvidenceOfFile => "evidence is required, and a file says nothing of what is live now".to_owned(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Ca(_) => return None,
            Self::DefaultClusterId { cluster, .. } => {
                return Some(format!("leave clusterID out; peers then know it as `{cluster}`"));
            }
            Self::ComponentField { example, .. } => return Some(format!("write for example {example}")),
            Self::MeshNotStated { mesh, .. } => return Some(format!("write `mesh: {mesh}` into its spec")),
            Self::UnknownMesh { near, .. }
            | Self::PairUnknown { near: Some(near), .. }
            | Self::ShareWithUnknown { near: Some(near), .. } => {
                return Some(format!("did you mean `{near}`?"));
            }
            Self::RequiredEngine { required, .. } => {
                return Some(format!("use an engine {required}, or change requiredEngine"));
            }
            Self::NothingDeployed { .. } => "take it out, or let the reconciler be `rendered`",
            Self::LeftToAnother { .. } => "take it out once nothing is rendered for the cluster here",
            Self::CrdOfAnother { .. } | Self::ShareWithItself { .. } => "take it out",
            Self::ShareOfAnother { .. } => "take it out, and limit there what peers may read",
            Self::ShareWithUnknown { near: None, .. } => "write a Cluster document of that name, or take it out",
            Self::NoRevisions => "leave it out for `default`, or name the revisions",
            Self::RevisionTwice { .. } => "take one out",
            Self::NoGateway { .. } => "state its gateways, leave them out, or set `flatNetwork: true`",
            Self::ApiHost { .. } => "add it there, or correct it",
            Self::Inward { .. } => "correct it, or name its range in `allow.addresses` if it is meant",
            Self::Address { .. } => "add its range there, or correct it",
            Self::CaFileMissing { .. } => "the path is relative to the checkout, not to the spec",
            Self::CaFileNotText { .. } => "`openssl x509 -inform der -in FILE` prints it as PEM",
            Self::NoSpecs => {
                "`engine init` writes them from a kubeconfig; where the checkout is another folder, name it with -C"
            }
            Self::NoMesh => {
                "write a Mesh into specs/mesh.yaml and each Cluster into a file of its own below specs/clusters/"
            }
            Self::SecondMesh { .. } => {
                "this version plans one mesh per checkout; move the other one to a checkout of its own"
            }
            Self::ClusterTwice { .. } => "give one of them another name",
            Self::RequiredEngineFormat { .. } => "write major and minor, for example `\"0.1\"`",
            Self::ForeignRoots => {
                "every root can sign every identity of every accepted trust domain; write `acceptForeignRoots: true` if you accept that"
            }
            Self::EngineKey { .. } => "`engine keys list` prints the public half",
            Self::EngineKeyTwice { .. } => "take one of the two out",
            Self::PairsWithoutTopology => "write `topology: pairs`",
            Self::TopologyWithoutPairs => "write `pairs: [[east, west]]`",
            Self::PairWithItself { .. } => "a pair has two clusters",
            Self::PairOfOthers { .. } => "such clusters are never linked with each other from here; take the pair out",
            Self::PairUnknown { near: None, .. } => "write a Cluster document of that name, or take the pair out",
            Self::Shared { what: Unique::Network, .. } => {
                "clusters in one network reach each other directly: set `flatNetwork: true` in both, or give each its own"
            }
            Self::Shared { what: Unique::Endpoint, .. } => {
                "two documents declare one cluster, or one endpoint is a slip"
            }
            Self::Shared { .. } => "each cluster has its own; correct one of the two",
            Self::FlatBesideOwn { .. } => "set `flatNetwork: true` here too, or give each its own network",
            Self::ClusterDomains { .. } => "services only merge between clusters of one domain",
            Self::EndpointPort { .. } => {
                "that IstioMulticluster admits no port in its endpoint; serve it on 443, or update that Deckhouse and take `crd` out"
            }
            Self::EndpointHost { .. } => {
                "the metadataEndpoint of a Deckhouse IstioMulticluster holds letters, digits, `.`, `_`, `-`, `/` and a port; give it a name"
            }
            Self::EndpointFolder { .. } | Self::AgentFolder { .. } => {
                "publish the metadata under https://, or do not link the two"
            }
            Self::AgentConfig { .. } => {
                "write `sharedMeshConfig`, or `none` where roots and networks are written by hand"
            }
            Self::AgentUnheld { .. } => "take it out; an agent needs Kubernetes 1.30",
            Self::PeerOfNoCluster { .. } => "declare the own cluster by a Cluster document",
            Self::NoComponents { .. } => "leave `enabled` out, or link no cluster with it",
            Self::EvidenceOfFile => "leave `evidence` out, or read the metadata over https://",
        };
        Some(hint.to_owned())
    }
}

impl Explain for CompileFinding<'_> {
    fn explanation(&self) -> Explanation {
        Explanation { code: self.code(), message: self.message(), hint: self.hint() }
    }
}
