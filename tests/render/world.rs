//! A small world to render: clusters with made-up roots and keys that are the same on every run.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::model::lock::{Lock, LockedCluster, LockedKey, LockedLink, LockedPrivate, LockedPublic, Stage};
use isthmus::model::mesh::{
    Allow, Api, Cluster, Components, EngineKey, EvidenceOrigin, EvidenceRule, Expose, ExternalTrafficPolicy,
    FirstContact, Istio, Mesh, MeshConfigTarget, Pin, Reconciler, State, Topology,
};
use isthmus::pipeline::render::{Given, RenderContext, RenderedCluster};
use isthmus::pipeline::template::Templates;
use isthmus::types::certificate::RootCertificate;
use isthmus::types::diagnostic::Location;
use isthmus::types::key::{PrivateKey, PublicKey};
use isthmus::types::name::{ClusterName, Digest};
use isthmus::types::time::Timestamp;
use isthmus::types::token::Scope;
use isthmus::wire::share::Share;

#[derive(Debug, Clone)]
pub(crate) struct RenderWorld {
    pub(crate) mesh: Mesh,
    pub(crate) lock: Lock,
}

pub(crate) fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

pub(crate) fn key(seed: u8) -> PublicKey {
    PrivateKey::generate(&[seed; 32]).unwrap().public().clone()
}

pub(crate) fn pem(text: &str) -> String {
    let body = Digest::of(text.as_bytes()).hex();
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

pub(crate) fn root(of: &str) -> RootCertificate {
    let pem = pem(&format!("root of {of}"));
    let digest = Digest::of(pem.as_bytes());
    let subject = "O=cluster.local".to_owned();
    RootCertificate {
        pem,
        digest,
        not_after: Timestamp::from_seconds(2_000_000_000),
        not_before: Timestamp::EPOCH,
        subject,
        has_subject_key_id: true,
    }
}

pub(crate) fn cluster(text: &str, line: usize) -> Cluster {
    Cluster {
        name: name(text),
        at: Location { file: "specs/mesh.yaml".into(), line, column: 1 },
        reconciler: Reconciler::Rendered,
        state: State::Active,
        components: Some(Components {
            image: Some("registry.example.com/isthmus:0.1.0".to_owned()),
            replicas: 2,
            expose: Expose::LoadBalancer,
            external_traffic_policy: ExternalTrafficPolicy::Local,
            trusted_proxies: Vec::new(),
            cluster_cidrs: Vec::new(),
            admission_policy: true,
            api_host: Some(format!("api.{text}.example.com").parse().unwrap()),
            tls_secret: None,
        }),
        endpoint: format!("https://istio-metadata.{text}.example.com/metadata").parse().unwrap(),
        endpoint_ca: None,
        crd: isthmus::model::mesh::DeckhouseCrd::default(),
        pin: Pin::default(),
        cluster_domain: "cluster.local".parse().unwrap(),
        cluster_id: None,
        network: None,
        trust_domain: None,
        merge_trust_domains: None,
        istio: Istio {
            namespace: "istio-system".parse().unwrap(),
            revisions: vec!["default".parse().unwrap()],
            config: MeshConfigTarget::SharedMeshConfig,
            dns_capture: true,
            prepared: false,
            standard_mesh_networks: None,
        },
        manages_gateway: false,
        gateways: None,
        stated: None,
        flat_network: false,
        api: Api::default(),
        allow: Allow::default(),
        share: Share::usual(),
        share_with: BTreeMap::new(),
        evidence: EvidenceRule::Required,
        evidence_origin: EvidenceOrigin::Default,
        settle: std::time::Duration::ZERO,
        root_overlap: std::time::Duration::ZERO,
        distrust: BTreeSet::new(),
    }
}

/// What the cluster number `n` published.
pub(crate) fn locked(text: &str, n: u8) -> LockedCluster {
    let own = key(n + 1);
    let (api, metadata) = (BTreeSet::from([Scope::Api]), BTreeSet::from([Scope::PrivateMulticluster]));
    let all = api.union(&metadata).copied().collect();
    let engine = key(200);
    LockedCluster {
        public: LockedPublic {
            cluster_uuid: format!("00000000-0000-4000-8000-{n:012}").parse().unwrap(),
            authn_keys: BTreeMap::from([
                (own.id(), LockedKey { key: own.clone(), scopes: all }),
                ("ci".parse().unwrap(), LockedKey { key: engine, scopes: api }),
            ]),
            authn_key: own,
            roots: vec![root(text)],
            mesh_id: None,
            trust_domain: Some("cluster.local".parse().unwrap()),
            cluster_domain: None,
            serving_ca: None,
            relay_ca: Some(pem(&format!("relay of {text}"))),
            crl: None,
            istio: None,
        },
        private: Some(LockedPrivate {
            cluster_id: Some(text.parse().unwrap()),
            network: format!("network-{text}").parse().unwrap(),
            api_host: format!("api.{text}.example.com").parse().unwrap(),
            api_ca: Some(pem(&format!("api of {text}"))),
            gateways: [format!("203.0.113.{}", n + 1), format!("gw.{text}.example.com")]
                .iter()
                .map(|address| isthmus::types::address::Gateway::new(address, 15443).unwrap())
                .collect(),
            ambient_gateways: Vec::new(),
        }),
        standard_mesh_networks: Some(String::new()),
        retiring: Vec::new(),
        retiring_relay_cas: Vec::new(),
        joined_with: None,
        lost: false,
        approved: None,
        source: None,
        read_by: isthmus::model::read_by::ReadBy::default(),
        hand_over: None,
        serial: 0,
    }
}

impl RenderWorld {
    /// Clusters of these names, all joined with all.
    pub(crate) fn joined(names: &[&str]) -> Self {
        let mut world = Self {
            mesh: Mesh {
                name: "shop".parse().unwrap(),
                at: Location { file: "specs/mesh.yaml".into(), line: 1, column: 1 },
                mesh_id: "shop".parse().unwrap(),
                first_contact: FirstContact::Tls,
                require_token: None,
                engine_keys: vec![EngineKey { id: "ci".parse().unwrap(), key: key(200) }],
                clusters: BTreeMap::new(),
                topology: Topology::Full,
                inside: false,
            },
            lock: Lock::default(),
        };
        for (n, text) in names.iter().enumerate() {
            world.mesh.clusters.insert(name(text), cluster(text, n * 10 + 8));
            world.lock.clusters.insert(name(text), locked(text, u8::try_from(n).unwrap()));
            for other in names.iter().filter(|other| *other != text) {
                world.link(text, other, Stage::Joined);
            }
        }
        world
    }

    pub(crate) fn link(&mut self, reader: &str, peer: &str, stage: Stage) {
        let link = LockedLink::new(stage);
        self.lock.links.entry(name(reader)).or_default().insert(name(peer), link);
    }

    pub(crate) fn cluster(&mut self, text: &str) -> &mut Cluster {
        self.mesh.clusters.get_mut(text).unwrap()
    }

    pub(crate) fn locked(&mut self, text: &str) -> &mut LockedCluster {
        self.lock.clusters.get_mut(text).unwrap()
    }

    pub(crate) fn private(&mut self, text: &str) -> &mut LockedPrivate {
        self.locked(text).private.as_mut().unwrap()
    }

    pub(crate) fn strict(&mut self) {
        self.mesh.require_token = Some(true);
    }

    pub(crate) fn render(&self, cluster: &str) -> RenderedCluster {
        self.try_render(cluster).unwrap_or_else(|findings| panic!("{findings}"))
    }

    pub(crate) fn try_render(&self, cluster: &str) -> Result<RenderedCluster, String> {
        let templates = Templates::builtin().into();
        let text = |findings: isthmus::types::diagnostic::Diagnostics| {
            findings.sorted().iter().map(|finding| finding.explanation.message.clone()).collect::<Vec<_>>().join("\n")
        };
        let given = Given::new();
        let context = RenderContext::new(&self.mesh, &self.lock, &templates, &given).map_err(text)?;
        context.render(&name(cluster)).map_err(text)
    }
}

/// All files of a cluster, by path.
pub(crate) fn files(cluster: &str, rendered: &RenderedCluster) -> BTreeMap<String, String> {
    let objects = rendered.objects.iter().map(|rendered| {
        let path = format!("rendered/{cluster}/{}", rendered.id().file_name());
        (path, rendered.to_yaml().unwrap().into_owned())
    });
    let extra = rendered.extra.iter().map(|(path, file)| (path.clone(), file.text.clone()));
    objects.chain(extra).collect()
}

/// The text of one file; fails when it is not there.
pub(crate) fn file(rendered: &RenderedCluster, name: &str) -> String {
    let files = files("c", rendered);
    let found = files.iter().find(|(path, _)| path.rsplit('/').next() == Some(name));
    found.unwrap_or_else(|| panic!("no {name} among {:?}", files.keys())).1.clone()
}

/// The files as one text.
pub(crate) fn page(files: &BTreeMap<String, String>) -> String {
    let mut page = String::new();
    for (path, text) in files {
        page.extend(["──── ", path, "\n", text]);
    }
    page
}

/// The kubeconfig of a remote secret.
pub(crate) fn kubeconfig(rendered: &RenderedCluster, peer: &str) -> String {
    use base64::Engine;
    let wanted = format!("istio-remote-secret-{peer}");
    let secret = rendered.objects.iter().find(|rendered| rendered.id().name == wanted).unwrap();
    let data = secret.object().unwrap().fields["data"].as_object().unwrap().clone();
    assert_eq!(data.len(), 1, "one key");
    let text = data.values().next().unwrap().as_str().unwrap();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
}
