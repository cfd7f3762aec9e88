//! East, a cluster of ours that peers with deck: its exporter, its api-proxy and its relay as they run, each set up in one place.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use isthmus::cluster::access::Access;
use isthmus::roles::exporter::{Gathered, Published};
use isthmus::roles::proxy::Proxy;
use isthmus::roles::proxy::audit::{AuditLog, AuditTarget};
use isthmus::roles::relay::{self, RelayOptions};
use isthmus::roles::role::{Role, RolePages, StopSignal};
use isthmus::server::limits::RoleLimits;
use isthmus::server::telemetry::Readiness;
use isthmus::server::{Body, Bound, Certificates, Handler, Running, ServerLimits};
use isthmus::types::key::PublicKey;
use isthmus::types::name::Namespace;
use isthmus::types::time::Timestamp;
use isthmus::wire::seen::{PEERS_SEEN_PATH, PeerSeen};
use serde_json::{Value, json};

use super::{CONFIG_MAPS, east_private, east_public, east_uuid, peers};
use crate::support::apiserver::{Apiserver, Asked};
use crate::support::deckhouse::Deckhouse;
use crate::support::objects::ObjectServer;
use crate::support::peer::Ca;

/// What the exporter of east publishes where deck may read it.
pub(super) fn published(deck: &Deckhouse) -> Published {
    Published {
        cluster_uuid: Some(east_public().cluster_uuid),
        public: Ok(east_public()),
        private: Ok(east_private()),
        evidence: Gathered::Nothing,
        peers: Ok(peers(deck, None)),
        sequence: 1,
    }
}

/// One of our handlers behind TLS.
pub(super) async fn served<H: Handler>(ca: &Ca, handler: Arc<H>) -> (Running, SocketAddr) {
    let serving = ca.serving(&["127.0.0.1"]);
    let certificates = Certificates::from_pem(&serving.chain, &serving.key).unwrap();
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = bound.address();
    (bound.serve(&certificates, ServerLimits::default(), handler), address)
}

/// A role in a cluster of ours.
fn role(access: Access) -> (Role, StopSignal) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Role::new(Namespace::istio_system(), RoleLimits::of_proxy(), access)
}

async fn until_ready(health: &Readiness) {
    for _ in 0..200 {
        if health.is_ready() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", health.failing());
}

/// How the api-proxy of east is set up.
pub(super) struct EastProxyOptions {
    /// `maxTokenLifetime` of deck in `peers.json`.
    pub(super) lifetime: Option<Duration>,
    /// Whether a trusted proxy is stated.
    pub(super) behind_proxy: bool,
    pub(super) clock: fn() -> Timestamp,
}

/// The api-proxy of east, which has deck as its peer.
pub(super) struct EastProxy {
    pub(super) apiserver: Apiserver,
    pub(super) ca: Ca,
    pub(super) address: SocketAddr,
    _running: Running,
    _stop: StopSignal,
    _folder: tempfile::TempDir,
}

impl EastProxy {
    /// Before an apiserver that answers so what is asked for a peer.
    pub(super) async fn start(
        deck: &Deckhouse,
        options: EastProxyOptions,
        script: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let EastProxyOptions { lifetime, behind_proxy, clock } = options;
        let is_of_peer = |asked: &Asked| asked.headers.contains_key("impersonate-user");
        let apiserver = Apiserver::start(move |asked| is_of_peer(asked).then(|| script(asked))).await;
        let identity = json!({ "version": 1, "clusterUUID": east_uuid(), "keys": [], "trustDomain": "cluster.local" });
        apiserver.config_map("istio-system", "isthmus-identity", Some(("identity.json", &identity.to_string())));
        let peers = serde_json::to_string(&peers(deck, lifetime)).unwrap();
        apiserver.config_map("istio-system", "isthmus-peers", Some(("peers.json", &peers)));
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, "the role's own").unwrap();
        let (role, stop) = role(apiserver.access(&token_file));
        let role = Role { behind_proxy, ..role };
        let audit = AuditLog::open(&AuditTarget::File(folder.path().join("audit.log"))).unwrap();
        let clock = Arc::new(move || jiff::Timestamp::from_second(clock().as_seconds()).unwrap());
        let proxy = Arc::new(Proxy::new(&role, audit, None, clock).unwrap());
        until_ready(&role.health).await;
        let ca = Ca::new("east");
        let (running, address) = served(&ca, proxy).await;
        Self { apiserver, ca, address, _running: running, _stop: stop, _folder: folder }
    }
}

/// The relay of east.
pub(super) struct EastRelay {
    pub(super) apiserver: ObjectServer,
    pub(super) handler: Arc<relay::Relay>,
    /// What it publishes, which deck learns within a minute, or never.
    pub(super) key: PublicKey,
    pub(super) ca: String,
    pages: RolePages,
    _service: Box<dyn Send>,
    _stop: StopSignal,
}

impl EastRelay {
    pub(super) async fn start(options: RelayOptions) -> Self {
        let apiserver = ObjectServer::start().await;
        for name in ["kube-system", "istio-system"] {
            apiserver.put("/api/v1/namespaces", json!({ "metadata": { "name": name, "uid": east_uuid() } }));
        }
        let (role, stop) = role(apiserver.access());
        let (health, pages) = (role.health.clone(), role.pages.clone());
        let service = relay::start(role, options).await.unwrap();
        until_ready(&health).await;
        let identity = apiserver.get(CONFIG_MAPS, "isthmus-identity").unwrap();
        let identity: Value = serde_json::from_str(identity["data"]["identity.json"].as_str().unwrap()).unwrap();
        let key = PublicKey::from_pem(identity["keys"][0]["pem"].as_str().unwrap()).unwrap();
        let ca = identity["relayCA"].as_str().unwrap().to_owned();
        let handler = service.handler.clone();
        Self { apiserver, handler, key, ca, pages, _service: Box::new(Mutex::new(service)), _stop: stop }
    }

    /// Gives it `routes.json`.
    pub(super) fn routes(&self, routes: &str) {
        let data = json!({ "routes.json": routes });
        self.apiserver.put(CONFIG_MAPS, json!({ "metadata": { "name": "isthmus-routes" }, "data": data }));
    }

    /// What it shows of peers.
    pub(super) fn seen(&self) -> Vec<PeerSeen> {
        PeerSeen::answer(&self.pages.at(PEERS_SEEN_PATH).unwrap().body).unwrap()
    }
}
