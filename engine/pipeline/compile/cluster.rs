//! One cluster: its defaults, its files, and what concerns it alone.

use std::collections::{BTreeMap, BTreeSet};

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::mesh::{
    Allow, Api, Cluster, Components, DeckhouseCrd, EvidenceOrigin, EvidenceRule, Expose, ExternalTrafficPolicy, Istio,
    MeshConfigTarget, Pin, Reconciler, State,
};
use crate::pipeline::compile::finding::{AddressOf, CompileFinding};
use crate::pipeline::compile::gateway_finding::GatewayFinding;
use crate::pipeline::compile::{ClusterDraft, Compiler, Times};
use crate::spec::{At, CaSpec, ClusterSpec, IstioSpec, MulticlusterSpec, PeerSpec, PinSpec, ShareSpec};
use crate::types::address::{Cidr, Endpoint, Host, HostPattern};
use crate::types::certificate::{CertificateError, CertificatePemFault, DerFault, MAX_BUNDLE};
use crate::types::diagnostic::{Diagnostic, Location, did_you_mean};
use crate::types::name::{ClusterDomain, ClusterName, Namespace, Revision};
use crate::wire::share::Share;

/// Where the east-west gateway takes connections.
const EAST_WEST_PORT: u16 = 15_443;

/// Replicas of exporter, api-proxy and relay when the spec states none.
const DEFAULT_REPLICAS: u16 = 2;

/// Whether a cluster of another checkout may still be this one's, which leaves it to that: what is to run there until then is stated.
fn may_be_ours_yet(spec: &ClusterSpec, reconciler: Reconciler) -> bool {
    reconciler == Reconciler::External && spec.multicluster.is_some()
}

/// Whether exporter and api-proxy of ours run in clusters of a reconciler.
fn is_deployed(reconciler: Reconciler) -> bool {
    matches!(reconciler, Reconciler::Rendered | Reconciler::Agent)
}

/// What a cluster may say of addresses.
fn allow(api_hosts: &[At<HostPattern>], addresses: &[At<Cidr>]) -> Allow {
    Allow {
        api_hosts: api_hosts.iter().map(|pattern| pattern.value.clone()).collect(),
        addresses: addresses.iter().map(|range| range.value).collect(),
    }
}

impl<'a> Compiler<'a> {
    /// A cluster from its document; `None` when its endpoint was reported.
    pub(super) fn cluster(&mut self, spec: &'a ClusterSpec, times: Times) -> Option<ClusterDraft<'a>> {
        let reconciler = spec.reconciler.as_ref().map_or(Reconciler::Rendered, |reconciler| reconciler.value);
        let components = self.components(spec, reconciler);
        let endpoint_ca = spec.endpoint_ca.as_ref().and_then(|ca| self.certificates(ca));
        let api_ca = spec.api_ca.as_ref().and_then(|ca| self.certificates(ca));
        let istio = self.istio(&spec.istio, reconciler);
        self.addresses(spec);
        let (share, share_with) = self.shares(spec, reconciler);
        if let Some(id) = spec.cluster_id.as_ref().filter(|id| id.value.is_istio_default()) {
            let untouched = CompileFinding::DefaultClusterId { id: &id.value, cluster: &spec.name.value };
            self.error(&id.at, &untouched);
        }
        let endpoint = spec.endpoint.as_ref()?;
        let manages_gateway = self.manages_gateway(spec, components.is_some());
        let cluster = Cluster {
            name: spec.name.value.clone(),
            at: spec.name.at.clone(),
            reconciler,
            state: spec.state.as_ref().map_or(State::Active, |state| state.value),
            components,
            endpoint: endpoint.value.clone(),
            endpoint_ca,
            crd: self.crd(spec, reconciler),
            pin: pin(&spec.pin),
            cluster_domain: spec
                .cluster_domain
                .as_ref()
                .map_or_else(ClusterDomain::kubernetes_default, |domain| domain.value.clone()),
            cluster_id: spec.cluster_id.as_ref().map(|id| id.value.clone()),
            network: spec.network.as_ref().map(|network| network.value.clone()),
            trust_domain: spec.trust_domain.as_ref().map(|domain| domain.value.clone()),
            merge_trust_domains: spec.merge_trust_domains.as_ref().map(|merge| merge.value),
            istio,
            manages_gateway,
            gateways: spec.gateways.as_ref().map(|gateways| {
                let mut gateways: Vec<_> = gateways.value.iter().map(|gateway| gateway.value.clone()).collect();
                gateways.sort();
                gateways.dedup();
                gateways
            }),
            stated: None,
            flat_network: spec.flat_network.as_ref().is_some_and(|flat| flat.value),
            api: Api { host: spec.api_host.as_ref().map(|host| host.value.clone()), ca: api_ca },
            allow: allow(&spec.allow_api_hosts, &spec.allow_addresses),
            share,
            share_with,
            evidence: self.evidence(spec.evidence.as_ref(), &endpoint.value, reconciler == Reconciler::Deckhouse),
            evidence_origin: EvidenceOrigin::of(spec.evidence.is_some()),
            settle: spec.settle.as_ref().map_or(times.settle, |settle| settle.value),
            root_overlap: spec.root_overlap.as_ref().map_or(times.root_overlap, |overlap| overlap.value),
            distrust: spec.distrust.iter().map(|digest| digest.value).collect(),
        };
        Some(ClusterDraft { cluster, endpoint_at: endpoint.at.clone(), spec: Some(spec) })
    }

    /// A peer of the clusters of this checkout from an `IstioMulticluster`, which states no domain of its own.
    pub(super) fn peer(
        &mut self,
        spec: &PeerSpec,
        domain: Option<&ClusterDomain>,
        times: Times,
    ) -> Option<ClusterDraft<'a>> {
        let endpoint_ca = spec.endpoint_ca.as_ref().and_then(|ca| self.pem(&ca.at, &ca.value));
        let endpoint = spec.endpoint.as_ref()?;
        let allow = allow(&spec.allow.api_hosts, &spec.allow.addresses);
        self.endpoint_address(endpoint, &allow.addresses);
        let cluster = Cluster {
            name: spec.name.value.clone(),
            at: spec.name.at.clone(),
            reconciler: Reconciler::External,
            state: spec.state.as_ref().map_or(State::Active, |state| state.value),
            components: None,
            endpoint: endpoint.value.clone(),
            endpoint_ca,
            crd: DeckhouseCrd::default(),
            pin: pin(&spec.pin),
            cluster_domain: domain.map_or_else(ClusterDomain::kubernetes_default, Clone::clone),
            cluster_id: None,
            network: None,
            trust_domain: None,
            merge_trust_domains: None,
            istio: self.istio(&IstioSpec::default(), Reconciler::External),
            manages_gateway: false,
            gateways: None,
            stated: None,
            flat_network: spec.enable_ingress_gateway.as_ref().is_some_and(|gateway| !gateway.value),
            api: Api::default(),
            allow,
            share: Share::usual(),
            share_with: BTreeMap::new(),
            evidence: self.evidence(spec.evidence.as_ref(), &endpoint.value, spec.of_deckhouse),
            evidence_origin: EvidenceOrigin::of(spec.evidence.is_some()),
            settle: times.settle,
            root_overlap: times.root_overlap,
            distrust: BTreeSet::new(),
        };
        Some(ClusterDraft { cluster, endpoint_at: endpoint.at.clone(), spec: None })
    }

    /// What peers see of a cluster, and what single ones do. Where no api-proxy of ours runs, nothing would hold it.
    fn shares(&mut self, spec: &ClusterSpec, reconciler: Reconciler) -> (Share, BTreeMap<ClusterName, Share>) {
        let stated = [
            ("share", spec.share.as_ref().map(|stated| &stated.at)),
            ("shareWith", spec.share_with.as_ref().map(|stated| &stated.at)),
        ];
        for (field, at) in stated {
            if let Some(at) = at.filter(|_| !is_deployed(reconciler) && !may_be_ours_yet(spec, reconciler)) {
                self.error(at, &CompileFinding::ShareOfAnother { field, cluster: &spec.name.value });
            }
        }
        let usual = Share::usual();
        let of = |stated: &ShareSpec, otherwise: &Share| Share {
            namespaces: stated.namespaces.as_ref().unwrap_or(&otherwise.namespaces).clone(),
            except: stated.except.as_ref().unwrap_or(&otherwise.except).clone(),
        };
        let share = spec.share.as_ref().map_or_else(|| usual.clone(), |stated| of(&stated.value, &usual));
        let single = spec.share_with.iter().flat_map(|stated| &stated.value);
        let documents = self.spec;
        let mut share_with = BTreeMap::new();
        for (peer, stated) in single {
            let names = documents.clusters.iter().map(|cluster| &cluster.name.value);
            let mut names = names.chain(documents.peers.iter().map(|peer| &peer.name.value));
            if peer.value == spec.name.value {
                self.error(&peer.at, &CompileFinding::ShareWithItself { cluster: &peer.value });
            } else if !documents.partial && !names.clone().any(|name| *name == peer.value) {
                let near = did_you_mean(peer.value.as_str(), names.by_ref().map(ClusterName::as_str));
                self.error(&peer.at, &CompileFinding::ShareWithUnknown { name: &peer.value, near });
            }
            share_with.insert(peer.value.clone(), of(stated, &share));
        }
        for peer in documents.peers.iter().filter(|_| is_deployed(reconciler)) {
            if let Some(stated) = &peer.share {
                share_with.entry(peer.name.value.clone()).or_insert_with(|| of(stated, &share));
            }
        }
        (share, share_with)
    }

    /// What the spec says; without a word, files and what Deckhouse publishes show nothing.
    fn evidence(&mut self, spec: Option<&At<EvidenceRule>>, endpoint: &Endpoint, of_deckhouse: bool) -> EvidenceRule {
        let is_file = matches!(endpoint, Endpoint::File(_));
        let Some(spec) = spec else {
            return if is_file || of_deckhouse { EvidenceRule::None } else { EvidenceRule::Required };
        };
        if is_file && spec.value.requires_any() {
            self.error(&spec.at, &CompileFinding::EvidenceOfFile);
        }
        spec.value.clone()
    }

    fn components(&mut self, spec: &ClusterSpec, reconciler: Reconciler) -> Option<Components> {
        let ours = is_deployed(reconciler);
        let nothing = MulticlusterSpec::default();
        let stated = spec.multicluster.as_ref();
        let is_left = may_be_ours_yet(spec, reconciler);
        match stated {
            Some(stated) if is_left => {
                let finding = CompileFinding::LeftToAnother { cluster: &spec.name.value };
                self.findings.push(Diagnostic::warning(Some(stated.at.clone()), &finding));
            }
            Some(stated) if !ours => {
                self.error(&stated.at, &CompileFinding::NothingDeployed { cluster: &spec.name.value });
            }
            _ => {}
        }
        let wanted = stated.map_or(&nothing, |stated| &stated.value);
        if !(ours || is_left) || wanted.enabled.as_ref().is_some_and(|enabled| !enabled.value) {
            return None;
        }
        let at = stated.map_or(&spec.name.at, |stated| &stated.at);
        let name = &spec.name.value;
        if spec.endpoint.as_ref().is_some_and(|endpoint| matches!(endpoint.value, Endpoint::Https { .. })) {
            let needed = [
                ("image", wanted.image.is_some(), "`image: ghcr.io/isthmus-mesh/engine:0.1.0`"),
                (
                    "apiHost",
                    wanted.api_host.is_some(),
                    "`apiHost: api.east.example.com`, the api-proxy's public address",
                ),
            ];
            for (field, there, example) in needed {
                if !there && ours && !self.spec.may_be_misspelt(at) {
                    self.error(at, &CompileFinding::ComponentField { field, cluster: name, example });
                }
            }
        }
        let expose = wanted.expose.as_ref().map_or(Expose::LoadBalancer, |expose| expose.value);
        if let Some(at) = wanted.expose.as_ref().filter(|_| expose == Expose::Gateway).map(|expose| &expose.at) {
            self.names_for_the_gateway(spec, wanted, at);
        }
        Some(Components {
            image: wanted.image.as_ref().map(|image| image.value.clone()),
            replicas: wanted.replicas.as_ref().map_or(DEFAULT_REPLICAS, |replicas| replicas.value),
            expose,
            external_traffic_policy: wanted.external_traffic_policy.as_ref().map_or(
                // at node ports clients may come to any node
                if expose == Expose::LoadBalancer {
                    ExternalTrafficPolicy::Local
                } else {
                    ExternalTrafficPolicy::Cluster
                },
                |policy| policy.value,
            ),
            trusted_proxies: wanted.trusted_proxies.iter().map(|range| range.value).collect(),
            cluster_cidrs: wanted.cluster_cidrs.iter().map(|range| range.value).collect(),
            admission_policy: wanted.admission_policy.as_ref().is_none_or(|wanted| wanted.value),
            api_host: wanted.api_host.as_ref().map(|host| host.value.clone()),
            tls_secret: wanted.tls_secret.as_ref().map(|secret| secret.value.clone()),
        })
    }

    /// A gateway that passes TLS through knows exporter and api-proxy by the names that they are asked for by.
    fn names_for_the_gateway(&mut self, spec: &ClusterSpec, wanted: &MulticlusterSpec, at: &Location) {
        let cluster = &spec.name.value;
        let exporter = spec.endpoint.as_ref().map(|endpoint| match &endpoint.value {
            Endpoint::Https { host, port, .. } => ("metadata.endpoint", &endpoint.at, Some(host), *port),
            Endpoint::File(_) => ("metadata.endpoint", &endpoint.at, None, EAST_WEST_PORT),
        });
        let api_host = wanted.api_host.as_ref().map(|api| (&api.at, &api.value));
        let proxy = api_host.map(|(at, api)| ("multicluster.apiHost", at, Some(&api.host), api.port.unwrap_or(443)));
        for (field, at, host, port) in exporter.into_iter().chain(proxy) {
            if !matches!(host, Some(Host::Name(_))) {
                self.findings.push(Diagnostic::error(Some(at.clone()), GatewayFinding::NoName { field, cluster }));
            } else if port != EAST_WEST_PORT {
                let finding = GatewayFinding::OtherPort { field, cluster, port };
                self.findings.push(Diagnostic::warning(Some(at.clone()), finding));
            }
        }
        if let (Some((_, _, Some(exporter), _)), Some((_, _, Some(proxy), _))) = (exporter, proxy)
            && exporter == proxy
        {
            self.findings
                .push(Diagnostic::error(Some(at.clone()), GatewayFinding::OneName { cluster, host: exporter }));
        }
    }

    /// Whether an east-west gateway is rendered. Its objects name the network, so that cannot be learned first.
    fn manages_gateway(&mut self, spec: &ClusterSpec, is_deployed: bool) -> bool {
        let Some(manage) = spec.manages_gateway.as_ref().filter(|manage| manage.value) else { return false };
        let cluster = &spec.name.value;
        if !is_deployed {
            self.findings.push(Diagnostic::error(Some(manage.at.clone()), GatewayFinding::NotDeployed { cluster }));
        } else if spec.flat_network.as_ref().is_some_and(|flat| flat.value) {
            self.findings.push(Diagnostic::error(Some(manage.at.clone()), GatewayFinding::FlatNetwork { cluster }));
        } else if spec.network.is_none() && !self.spec.may_be_misspelt(&spec.name.at) {
            self.findings.push(Diagnostic::error(Some(manage.at.clone()), GatewayFinding::NoNetwork { cluster }));
        }
        true
    }

    /// Which CRD the objects are for that are rendered for a Deckhouse.
    fn crd(&mut self, spec: &ClusterSpec, reconciler: Reconciler) -> DeckhouseCrd {
        let Some(crd) = &spec.crd else { return DeckhouseCrd::default() };
        if reconciler != Reconciler::Deckhouse {
            self.error(&crd.at, &CompileFinding::CrdOfAnother { cluster: &spec.name.value });
        }
        crd.value
    }

    fn istio(&mut self, spec: &IstioSpec, reconciler: Reconciler) -> Istio {
        let mut revisions = Vec::new();
        if let Some(stated) = &spec.revisions {
            if stated.value.is_empty() {
                self.error(&stated.at, &CompileFinding::NoRevisions);
            }
            for revision in &stated.value {
                if revisions.contains(&revision.value) {
                    self.error(&revision.at, &CompileFinding::RevisionTwice { revision: &revision.value });
                }
                revisions.push(revision.value.clone());
            }
        }
        if revisions.is_empty() {
            revisions.push(Revision::unnamed());
        }
        revisions.sort();
        Istio {
            namespace: spec.namespace.as_ref().map_or_else(
                || match reconciler {
                    Reconciler::Deckhouse => Namespace::of_deckhouse(),
                    _ => Namespace::istio_system(),
                },
                |namespace| namespace.value.clone(),
            ),
            revisions,
            config: spec.config.as_ref().map_or(MeshConfigTarget::SharedMeshConfig, |config| config.value),
            dns_capture: spec.dns_capture.as_ref().is_none_or(|capture| capture.value),
            prepared: spec.prepared.as_ref().is_some_and(|prepared| prepared.value),
            standard_mesh_networks: spec.standard_mesh_networks.as_ref().map(|stated| stated.value.clone()),
        }
    }

    /// What the spec says of addresses must not contradict itself.
    fn addresses(&mut self, spec: &ClusterSpec) {
        let ranges: Vec<Cidr> = spec.allow_addresses.iter().map(|range| range.value).collect();
        if let Some(endpoint) = &spec.endpoint {
            self.endpoint_address(endpoint, &ranges);
        }
        if let Some(gateways) = spec.gateways.as_ref().filter(|gateways| gateways.value.is_empty())
            && !spec.flat_network.as_ref().is_some_and(|flat| flat.value)
            && !self.spec.may_be_misspelt(&gateways.at)
        {
            self.error(&gateways.at, &CompileFinding::NoGateway { cluster: &spec.name.value });
        }
        for gateway in spec.gateways.iter().flat_map(|gateways| &gateways.value) {
            self.address(&gateway.at, AddressOf::Gateway, &gateway.value.address, &ranges);
        }
        let of_components = spec.multicluster.as_ref().and_then(|stated| stated.value.api_host.as_ref());
        for host in spec.api_host.iter().chain(of_components) {
            let allowed = &spec.allow_api_hosts;
            if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.value.matches(&host.value.host)) {
                self.error(&host.at, &CompileFinding::ApiHost { host: &host.value });
            }
        }
    }

    fn endpoint_address(&mut self, endpoint: &crate::spec::At<Endpoint>, ranges: &[Cidr]) {
        if let Endpoint::Https { host, .. } = &endpoint.value {
            self.address(&endpoint.at, AddressOf::Endpoint, host, ranges);
        }
    }

    fn address(&mut self, at: &Location, of: AddressOf, host: &Host, ranges: &[Cidr]) {
        let allowed = match host {
            Host::Address(address) => ranges.iter().any(|range| range.contains(*address)),
            Host::Name(_) => ranges.iter().any(|range| range.contains(std::net::Ipv4Addr::LOCALHOST.into())),
        };
        if host.is_inward() && !allowed {
            self.error(at, &CompileFinding::Inward { of, host });
        } else if matches!(host, Host::Address(_)) && !ranges.is_empty() && !allowed {
            self.error(at, &CompileFinding::Address { of, host });
        }
    }

    /// The certificates of a CA, each PEM block written anew.
    fn certificates(&mut self, ca: &CaSpec) -> Option<String> {
        match ca {
            CaSpec::Inline(pem) => self.pem(&pem.at, &pem.value),
            CaSpec::File(path) => {
                let Some(bytes) = (self.files)(&path.value) else {
                    self.error(&path.at, &CompileFinding::CaFileMissing { path: &path.value });
                    return None;
                };
                let Ok(text) = String::from_utf8(bytes) else {
                    self.error(&path.at, &CompileFinding::CaFileNotText { path: &path.value });
                    return None;
                };
                self.pem(&path.at, &text)
            }
        }
    }

    fn pem(&mut self, at: &Location, text: &str) -> Option<String> {
        match certificates(text) {
            Ok(pem) => Some(pem),
            Err(error) => {
                self.error(at, &CompileFinding::Ca(&error));
                None
            }
        }
    }
}

fn pin(spec: &PinSpec) -> Pin {
    Pin {
        cluster_uuid: spec.cluster_uuid.as_ref().map(|uuid| uuid.value.clone()),
        authn_key: spec.authn_key.as_ref().map(|key| key.value),
        root_ca: spec.root_ca.iter().map(|root| root.value).collect(),
    }
}

fn certificates(text: &str) -> Result<String, CertificateError> {
    if text.len() > MAX_BUNDLE {
        return Err(CertificateError::Size(text.len()));
    }
    if let Some(label) = text.split("-----BEGIN ").skip(1).find_map(|block| {
        let (label, _) = block.split_once("-----")?;
        (label.len() <= 40 && label.ends_with("PRIVATE KEY")).then_some(label)
    }) {
        return Err(CertificateError::PrivateKey { label: label.to_owned() });
    }
    let blocks =
        pem::parse_many(text).map_err(|error| CertificateError::Pem(CertificatePemFault::Parser(error.into())))?;
    if blocks.is_empty() || text.matches("-----BEGIN ").count() != blocks.len() {
        return Err(CertificateError::Pem(CertificatePemFault::NoBlock));
    }
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let mut written = String::new();
    for (at, block) in blocks.iter().enumerate() {
        if block.tag() != "CERTIFICATE" {
            return Err(CertificateError::Label { label: block.tag().to_owned() });
        }
        match X509Certificate::from_der(block.contents()) {
            Ok(([], _)) => {}
            Ok(_) => return Err(CertificateError::Der(at + 1, DerFault::Trailing)),
            Err(error) => return Err(CertificateError::Der(at + 1, error.into())),
        }
        written += &pem::encode_config(&pem::Pem::new("CERTIFICATE", block.contents()), config);
    }
    Ok(written)
}
