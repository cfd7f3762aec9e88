//! Fields of specs, and what an edit of each allows.

#![deny(clippy::wildcard_enum_match_arm)]

/// Declares the fields with their spelling in specs and what they allow, so that none is without either.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $rank:literal,)*) => {
        /// A field of a Mesh or a Cluster.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum SpecField { $($(#[$doc])* $name,)* }

        impl SpecField {
            /// As specs spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// 0 to 2: how much depends on it.
            pub(super) const fn rank(self) -> u8 {
                match self { $(Self::$name => $rank,)* }
            }
        }
    };
}

fields! {
    /// Name of the Mesh.
    MeshName = "metadata.name", 0,
    /// `meshID`.
    MeshId = "meshID", 0,
    /// `topology`.
    Topology = "topology", 1,
    /// `pairs`.
    Pairs = "pairs", 1,
    /// `firstContact`.
    FirstContact = "firstContact", 0,
    /// `credentials.requireToken`.
    RequireToken = "credentials.requireToken", 0,
    /// `engineKeys`.
    EngineKeys = "engineKeys", 0,
    /// The document itself.
    Document = "kind: Cluster", 0,
    /// `reconciler`.
    Reconciler = "reconciler", 0,
    /// `state`.
    State = "state", 0,
    /// `multicluster.enabled`.
    Enabled = "multicluster.enabled", 1,
    /// `multicluster.image`.
    Image = "multicluster.image", 0,
    /// `multicluster.replicas`.
    Replicas = "multicluster.replicas", 2,
    /// `multicluster.expose`.
    Expose = "multicluster.expose", 1,
    /// `multicluster.externalTrafficPolicy`.
    TrafficPolicy = "multicluster.externalTrafficPolicy", 1,
    /// `multicluster.trustedProxies`.
    TrustedProxies = "multicluster.trustedProxies", 0,
    /// `multicluster.clusterCIDRs`.
    ClusterCidrs = "multicluster.clusterCIDRs", 0,
    /// `multicluster.admissionPolicy`.
    AdmissionPolicy = "multicluster.admissionPolicy", 0,
    /// `multicluster.apiHost`.
    PublishedApiHost = "multicluster.apiHost", 1,
    /// `multicluster.tlsSecret`.
    TlsSecret = "multicluster.tlsSecret", 1,
    /// `metadata.endpoint`.
    Endpoint = "metadata.endpoint", 0,
    /// `metadata.ca`.
    EndpointCa = "metadata.ca", 0,
    /// `pin.clusterUUID`.
    PinUuid = "pin.clusterUUID", 0,
    /// `pin.authnKey`.
    PinKey = "pin.authnKey", 0,
    /// `pin.rootCA`.
    PinRoots = "pin.rootCA", 0,
    /// `clusterDomain`.
    ClusterDomain = "clusterDomain", 1,
    /// `clusterID`.
    ClusterId = "clusterID", 1,
    /// `network`.
    Network = "network", 1,
    /// `trustDomain`.
    TrustDomain = "trustDomain", 1,
    /// `mergeTrustDomains`.
    MergeTrustDomains = "mergeTrustDomains", 0,
    /// `istio.namespace`.
    Namespace = "istio.namespace", 0,
    /// `istio.revisions`.
    Revisions = "istio.revisions", 2,
    /// `istio.config`.
    Config = "istio.config", 1,
    /// `istio.dnsCapture`.
    DnsCapture = "istio.dnsCapture", 2,
    /// `istio.prepared`.
    Prepared = "istio.prepared", 1,
    /// Its standard mesh networks.
    StandardMeshNetworks = "istio.standardMeshNetworks", 2,
    /// `gateway.manage`.
    ManagesGateway = "gateway.manage", 1,
    /// `gateways`.
    Gateways = "gateways", 0,
    /// `flatNetwork`.
    FlatNetwork = "flatNetwork", 1,
    /// `api.host`.
    ApiHost = "api.host", 0,
    /// `api.ca`.
    ApiCa = "api.ca", 0,
    /// `allow.apiHosts`.
    AllowHosts = "allow.apiHosts", 0,
    /// `allow.addresses`.
    AllowAddresses = "allow.addresses", 0,
    /// `evidence`.
    Evidence = "evidence", 0,
    /// `settle`.
    Settle = "settle", 1,
    /// `rootOverlap`.
    RootOverlap = "rootOverlap", 1,
    /// `distrust`.
    Distrust = "distrust", 0,
}

impl SpecField {
    /// What an edit of it allows, in one sentence.
    #[allow(clippy::too_many_lines, reason = "a sentence for each field")]
    pub(super) fn message(self, before: Option<&str>, after: Option<&str>, is_linked: bool) -> String {
        const REFUSED: &str = "; while links name the cluster it is refused";
        const UNSEEN: &str = "; its peers see no change of its endpoints until their relays have the new address";
        const ANEW: &str = "; its links leave and join anew";
        let linked = |text: &'static str| if is_linked { text } else { "" };
        match self {
            Self::MeshName => format!("every object of ours carries it{}", linked(REFUSED)),
            Self::MeshId => format!("proxies of the mesh know each other by it{}", linked(ANEW)),
            Self::Topology | Self::Pairs => "who is linked with whom; the links that open and close are listed".to_owned(),
            Self::FirstContact if after == Some("approve") => "a new cluster waits until it is accepted".to_owned(),
            Self::FirstContact => {
                "a new cluster that answers needs no acceptance any more: its root CA is trusted as soon as its TLS verifies".to_owned()
            }
            Self::RequireToken if after == Some("true") => {
                format!("relays ask istiod for a token; without it they refuse every request{}", linked(REFUSED))
            }
            Self::RequireToken if after.is_none() => {
                "a cluster whose first link opens from now on has its relay ask istiod for a token where istiod shows one; others stay as they are"
                    .to_owned()
            }
            Self::RequireToken => "whoever reaches a relay in its cluster speaks for that cluster, without any token".to_owned(),
            Self::EngineKeys => {
                "whoever holds one of these keys reads the private metadata of every cluster: addresses and evidence".to_owned()
            }
            Self::Document => "no run renders anything for it any more".to_owned(),
            Self::Reconciler => format!("another tool acts in the cluster, with what we render for it{}", linked(REFUSED)),
            Self::State => match after {
                Some("leaving") => "the cluster goes out of the mesh; its links close".to_owned(),
                Some("lost") => "the cluster counts as gone for good: its links close without proof that they are unused".to_owned(),
                Some("paused") => "it is neither asked nor changed: its links stay as they are, also when it is compromised".to_owned(),
                _ => "it takes part again: its links open when what they need is live".to_owned(),
            },
            Self::Enabled => format!("whether exporter, api-proxy and relay run in the cluster{}", linked(REFUSED)),
            Self::Image => "this image runs in the cluster, and gets its private key and what its ServiceAccounts may do".to_owned(),
            Self::Replicas => "how many of each server run".to_owned(),
            Self::Expose => format!("how exporter and api-proxy are reached from outside the cluster{}", linked(UNSEEN)),
            Self::TrafficPolicy if after == Some("Local") => {
                "exporter and api-proxy are reached at nodes with a pod of theirs alone, and see their clients' addresses".to_owned()
            }
            Self::TrafficPolicy => {
                "exporter and api-proxy see addresses of nodes in the place of their clients', by which limits count".to_owned()
            }
            Self::TrustedProxies if after.is_none() => {
                "no one says in a PROXY header any more whose connection it passes on".to_owned()
            }
            Self::TrustedProxies => {
                "whoever connects from there states the address of its client, by which limits count and records name it; without a PROXY header it is refused".to_owned()
            }
            Self::ClusterCidrs => "the relay never dials an address of these ranges".to_owned(),
            Self::AdmissionPolicy if after == Some("true") => {
                "the relay's account may create the objects that it makes, and no other".to_owned()
            }
            Self::AdmissionPolicy => "the relay's account may create any Secret and ConfigMap in its namespace".to_owned(),
            Self::PublishedApiHost => {
                format!("the cluster tells its peers to send requests for its apiserver there{}", linked(UNSEEN))
            }
            Self::TlsSecret => "whoever holds the key of this certificate can impersonate exporter and api-proxy".to_owned(),
            Self::Endpoint => {
                "whoever answers there with the cluster's public document, which anyone can copy, gets a token for its private metadata and is taken for the cluster".to_owned()
            }
            Self::EndpointCa if after.is_none() => {
                "any public CA vouches for the cluster's exporter".to_owned()
            }
            Self::EndpointCa => "whoever these CAs vouch for is taken for the cluster's exporter".to_owned(),
            Self::PinUuid | Self::PinKey | Self::PinRoots if after.is_none() => {
                "another value is no longer refused: it can be accepted".to_owned()
            }
            Self::PinUuid | Self::PinKey | Self::PinRoots => {
                "a cluster that publishes this value is accepted without review".to_owned()
            }
            Self::ClusterDomain => format!("services of the cluster are called by it{}", linked(ANEW)),
            Self::ClusterId | Self::Network => format!("peers know the cluster by it{}", linked(ANEW)),
            Self::TrustDomain => format!("peers accept identities of this trust domain{}", linked(ANEW)),
            Self::MergeTrustDomains if after == Some("true") => {
                "policies of the cluster take identities of its peers' trust domains for those of its own".to_owned()
            }
            Self::MergeTrustDomains => {
                "policies of the cluster no longer take identities of its peers' trust domains for its own: what rests on them is denied".to_owned()
            }
            Self::Namespace => format!("our servers, their keys and roles are in this namespace{}", linked(ANEW)),
            Self::Revisions => "which control planes read the mesh configuration".to_owned(),
            Self::Config if before == Some("sharedMeshConfig") && after != Some("none") && is_linked => {
                "where root CAs and networks are written: in both places until the cluster shows that the values are in effect, \
                 and then in these alone"
                    .to_owned()
            }
            Self::Config => format!("where root CAs and networks are written{}", linked(REFUSED)),
            Self::DnsCapture => "whether names of peers' services resolve in the cluster's proxies".to_owned(),
            Self::StandardMeshNetworks => "the networks that are written beside those of its peers".to_owned(),
            Self::Prepared if after == Some("true") => {
                "the spec attests that istiod and proxies take further root CAs: links no longer wait to see it".to_owned()
            }
            Self::Prepared => "links wait until the cluster shows that it is prepared".to_owned(),
            Self::ManagesGateway if after == Some("true") => {
                "Istio runs an east-west gateway in the cluster, whose address peers are told".to_owned()
            }
            Self::ManagesGateway => format!(
                "the east-west gateway that was rendered goes{}",
                linked(", and with it what its peers send through it; `--allow-delete` is needed")
            ),
            Self::Gateways => "traffic of every peer for the cluster is sent there".to_owned(),
            Self::FlatNetwork if after == Some("true") => {
                format!("peers send traffic straight to its pods, past the gateway{}", linked(ANEW))
            }
            Self::FlatNetwork => format!("peers send traffic to its gateways{}", linked(ANEW)),
            Self::ApiHost => "relays of all peers send istiod's requests there, with a token of their cluster".to_owned(),
            Self::ApiCa => "whoever these CAs vouch for is taken for the cluster's apiserver".to_owned(),
            Self::AllowHosts if after.is_none() => "any change of its api host has to be accepted".to_owned(),
            Self::AllowHosts => "its api-proxy may move to any of these hosts without review".to_owned(),
            Self::AllowAddresses if after.is_none() => {
                "its gateways may be at any public address, without review".to_owned()
            }
            Self::AllowAddresses => {
                "endpoint, api-proxy and gateways may be at any of these addresses, also inside ones, without review".to_owned()
            }
            Self::Evidence if after == Some("required") => {
                "its links wait until the cluster shows that what they need is live".to_owned()
            }
            Self::Evidence => {
                "its links open and close without waiting for the cluster to show what is live".to_owned()
            }
            Self::Settle => "how long each stage of closing lasts where no evidence will come".to_owned(),
            Self::RootOverlap => "how long a root CA stays trusted after the cluster no longer publishes it".to_owned(),
            Self::Distrust if before.is_none() || after.is_some() => {
                "workloads with certificates of these root CAs are refused at once; of any that is taken out, accepted again".to_owned()
            }
            Self::Distrust => "workloads with certificates of these root CAs are accepted again".to_owned(),
        }
    }
}
