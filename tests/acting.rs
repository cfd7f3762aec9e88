//! An agent that runs, beside an apiserver in memory and peers that do what a test tells them: TLS, documents and time are real, what
//! is live in the clusters is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use isthmus::cluster::fetch::{FetchLimits, Fetcher, Looking};
use isthmus::roles::relay::RelayOptions;
use isthmus::roles::role::{Role, StopSignal};
use isthmus::server::limits::RoleLimits;
use isthmus::simulation::cluster::SimulatedCluster;
use isthmus::types::key::PrivateKey;
use isthmus::types::name::Namespace;
use isthmus::wire::metadata::{PrivateDocument, PublicDocument};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::live::{MAPS, SECRETS, is_private, own_answer, own_specs, published};
use crate::support::objects::ObjectServer;
use crate::support::peer::{Ca, ConnectionBreak, Peer, PeerStep, Serving, answer, json as json_answer, send};

pub(crate) const OBJECTS: &str = "/apis/isthmus.dev/v1alpha1/istiomulticlusters";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases";
pub(crate) const GATEWAYS: &str = "/apis/networking.istio.io/v1/namespaces/istio-system/gateways";
const NAMESPACES: &str = "/api/v1/namespaces";
const EVENTS: &str = "/api/v1/namespaces/default/events";
const ACCEPT: &str = "isthmus.dev/accept-trust";
const PATIENCE: Duration = Duration::from_secs(40);

/// What a peer does instead of answering as it should; it is given the head of the request.
type Misbehaviour = Arc<dyn Fn(&str) -> Vec<PeerStep> + Send + Sync>;

/// How the resolver answers for a name.
type Resolution = Arc<dyn Fn() -> Looking + Send + Sync>;

/// What changes of a public document, and the reason that is then shown.
type PublicChange<'a> = (&'a str, &'a str, Box<dyn Fn(&mut PublicDocument) + 'a>);

/// What a peer publishes.
pub(crate) struct Publication {
    pub(crate) public: PublicDocument,
    pub(crate) private: PrivateDocument,
    misbehaves: Option<Misbehaviour>,
    breaks: Option<Sweep>,
}

/// Where each connection breaks, one after the other.
struct Sweep {
    next: usize,
    step: usize,
    done: usize,
}

impl Sweep {
    fn take(&mut self) -> ConnectionBreak {
        let taken = ConnectionBreak { after: self.next, resets: self.done % 2 == 1 };
        (self.next, self.done) = (self.next + self.step, self.done + 1);
        taken
    }
}

/// A peer with an exporter.
pub(crate) struct ScriptedPeer {
    state: Arc<Mutex<Publication>>,
    peer: Peer,
}

/// An agent's cluster, `east`, and its peers.
pub(crate) struct Acting {
    runtime: Runtime,
    pub(crate) apiserver: Arc<ObjectServer>,
    pub(crate) ca: Ca,
    east: Arc<Mutex<SimulatedCluster>>,
    pub(crate) own: Peer,
    peers: BTreeMap<String, ScriptedPeer>,
    /// Names that lead elsewhere than to the peers.
    resolutions: Arc<Mutex<BTreeMap<String, Resolution>>>,
    limits: FetchLimits,
}

/// A replica; it ends when it is dropped, as a process that is killed.
pub(crate) struct Replica {
    runtime: Option<Runtime>,
    _stop: StopSignal,
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn to(addresses: &[&str]) -> Looking {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Box::pin(async move { Ok(addresses) })
}

fn serving(ca: &Ca) -> Serving {
    ca.serving(&["127.0.0.1", "*.peers.example"])
}

impl Acting {
    pub(crate) fn new() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let runtime = Runtime::new().unwrap();
        let ca = Ca::new("the metadata of all");
        let east = SimulatedCluster::new("east", &[1; 32], "203.0.113.1").unwrap();
        let apiserver = Arc::new(runtime.block_on(ObjectServer::start()));
        for list in [OBJECTS, LEASES, GATEWAYS] {
            apiserver.serve(list);
        }
        apiserver.put(NAMESPACES, json!({ "metadata": { "name": "kube-system", "uid": east.uuid } }));
        let labels = json!({ "topology.istio.io/network": east.network() });
        apiserver.put(NAMESPACES, json!({ "metadata": { "name": "istio-system", "labels": labels } }));
        apiserver.put(MAPS, json!({ "metadata": { "name": "istio" }, "data": { "mesh": "" } }));
        let east = Arc::new(Mutex::new(east));
        let (shown, objects) = (east.clone(), apiserver.clone());
        let script = move |head: &str| own_answer(&shown, &objects, head);
        let own = runtime.block_on(Peer::start(&serving(&ca), script));
        let specs = own_specs(own.address, &ca.pem);
        apiserver.put(MAPS, json!({ "metadata": { "name": "isthmus-agent" }, "data": { "specs.yaml": specs } }));
        let (peers, resolutions, limits) = (BTreeMap::new(), Arc::default(), FetchLimits::default());
        Self { runtime, apiserver, ca, east, own, peers, resolutions, limits }
    }

    /// One replica, and peers that are joined.
    fn joined(peers: &[&str]) -> (Self, Replica) {
        let mut acting = Self::new();
        for peer in peers {
            acting.peer(peer);
        }
        let replica = acting.start("one");
        for peer in peers {
            acting.condition(peer, "SecretRendered", "True");
            acting.condition(peer, "ControlPlaneSynced", "True");
        }
        (acting, replica)
    }

    pub(crate) fn start(&self, name: &'static str) -> Replica {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let entered = runtime.enter();
        let (role, stop) = Role::new(Namespace::istio_system(), RoleLimits::of_relay(), self.apiserver.access_of(name));
        drop(entered);
        let options = RelayOptions {
            exporter_hosts: vec!["127.0.0.1".to_owned()],
            proxy_hosts: vec!["api.east.example.com".to_owned()],
            ..RelayOptions::default()
        };
        let resolutions = self.resolutions.clone();
        let fetcher = Fetcher::new(self.limits.clone()).with_lookup(Arc::new(move |name| {
            let resolution = resolutions.lock().unwrap().get(&name).cloned();
            resolution.map_or_else(|| to(&["127.0.0.1"]), |resolution| resolution())
        }));
        drop(runtime.block_on(isthmus::agent::start_with(role, options, fetcher)).unwrap());
        Replica { runtime: Some(runtime), _stop: stop }
    }

    /// A peer that admits east, trusts it and shows that it is prepared, and the object that declares it.
    pub(crate) fn peer(&mut self, name: &str) {
        let at = u8::try_from(self.peers.len()).unwrap() + 2;
        let (public, private) = published(name, at, &self.east.lock().unwrap().trusts());
        let state = Arc::new(Mutex::new(Publication { public, private, misbehaves: None, breaks: None }));
        let shown = state.clone();
        let script = move |head: &str| {
            let shown = shown.lock().unwrap();
            if let Some(misbehaves) = &shown.misbehaves {
                return misbehaves(head);
            }
            if is_private(head) { json_answer(shown.private.to_json()) } else { json_answer(shown.public.to_json()) }
        };
        let shown = state.clone();
        let breaks = move || shown.lock().unwrap().breaks.as_mut().map(Sweep::take);
        let peer = self.runtime.block_on(Peer::start_breaking(&serving(&self.ca), script, breaks));
        // something takes connections there
        let gateway = isthmus::types::address::Gateway::new("127.0.0.1", u64::from(peer.address.port())).unwrap();
        state.lock().unwrap().private.ingress_gateways = vec![gateway];
        let endpoint = format!("https://{}/metadata", peer.address);
        let spec = json!({
            "metadataEndpoint": endpoint, "metadata": { "ca": self.ca.pem }, "allow": { "addresses": ["127.0.0.0/8"] },
        });
        self.apiserver.put(OBJECTS, json!({ "metadata": { "name": name, "generation": 1 }, "spec": spec }));
        self.peers.insert(name.to_owned(), ScriptedPeer { state, peer });
    }

    pub(crate) fn publishes(&self, peer: &str, edit: impl FnOnce(&mut Publication)) {
        edit(&mut self.peers[peer].state.lock().unwrap());
    }

    pub(crate) fn status(&self, peer: &str) -> Value {
        self.apiserver.get(OBJECTS, peer).map(|object| object["status"].clone()).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:#?}", self.apiserver.all(OBJECTS));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a condition has this status; its reason.
    #[track_caller]
    pub(crate) fn condition(&self, peer: &str, kind: &str, status: &str) -> String {
        let mut reason = String::new();
        self.until(&format!("{kind} of {peer} to be {status}"), || {
            let found = condition(&self.status(peer), kind);
            found["reason"].as_str().unwrap_or_default().clone_into(&mut reason);
            found["status"] == status
        });
        reason
    }

    /// Waits for two runs that began after now.
    pub(crate) fn runs(&self) {
        let asked = || self.own.requests().iter().filter(|head| is_private(head)).count();
        // each run asks the own exporter once, and what it saw is written before the next one
        for run in ["one", "two", "three"] {
            let before = asked();
            // a change has the agent run at once
            self.apiserver.edit(MAPS, "isthmus-agent", |map| map["metadata"]["annotations"]["run"] = run.into());
            self.until("a run", || asked() > before);
        }
    }

    /// Texts of what the agent applied, and of what it accepted.
    fn written(&self) -> BTreeMap<String, Value> {
        let maps = ["isthmus-lock", "isthmus-mesh", "isthmus-peers", "isthmus-routes"];
        let maps = maps
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.apiserver.get(MAPS, name)?["data"].clone())));
        let secrets = self.apiserver.all(SECRETS).into_iter();
        let secrets = secrets.map(|one| (name_of(&one), one["data"].clone()));
        maps.chain(secrets.filter(|(name, _)| name.starts_with("istio-remote-secret-"))).collect()
    }

    fn accept(&self, peer: &str, digest: &str) {
        self.apiserver.edit(OBJECTS, peer, |object| object["metadata"]["annotations"][ACCEPT] = digest.into());
    }

    /// How often a status was written.
    fn status_writes(&self, peer: &str) -> usize {
        let path = format!("{OBJECTS}/{peer}/status");
        self.apiserver.writes().iter().filter(|write| write.path == path).count()
    }
}

pub(crate) fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

pub(crate) fn condition(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|one| one["type"] == kind).unwrap_or_default()
}

#[test]
fn another_root_key_or_uuid_stops_its_peer_alone_until_it_is_accepted() {
    let (acting, _replica) = Acting::joined(&["north", "west"]);
    acting.runs();
    let north = acting.status_writes("north");
    let events = acting.apiserver.all(EVENTS).len();
    let stranger = SimulatedCluster::new("west", &[99; 32], "127.0.0.9").unwrap();
    let other_key = PrivateKey::generate(&[98; 32]).unwrap().public().clone();
    let changes: [PublicChange<'_>; 3] = [
        ("another root CA", "TrustChange", Box::new(|public| public.root_ca.clone_from(&stranger.root.pem))),
        ("another key", "TrustChange", Box::new(|public| public.authn_key = other_key.clone())),
        ("another UUID", "ClusterUUIDMismatch", Box::new(|public| public.cluster_uuid = stranger.uuid.clone())),
    ];
    for (what, expected, change) in changes {
        let (before, public) = (acting.written(), acting.peers["west"].state.lock().unwrap().public.clone());
        acting.publishes("west", |shown| change(&mut shown.public));
        assert_eq!(acting.condition("west", "TrustPinned", "False"), expected, "{what}");
        assert_eq!(acting.condition("west", "PublicMetadataExchangeReady", "False"), expected, "{what}");
        let digest = acting.status("west")["trustChange"]["digest"].as_str().unwrap().to_owned();
        // what was accepted last stays in use, and so it does for the wrong digest
        acting.accept("west", "sha256:0000000000000000000000000000000000000000000000000000000000000000");
        acting.runs();
        assert_eq!(acting.written(), before, "{what}");
        assert_eq!(condition(&acting.status("west"), "SecretRendered")["status"], "True", "{what}");
        // taken back, it is as if it had not been
        acting.publishes("west", |shown| shown.public = public);
        acting.condition("west", "TrustPinned", "True");
        acting.runs();
        assert_eq!(acting.written(), before, "{what}");
        assert!(acting.status("west")["trustChange"].is_null(), "{what}");
        // published again, it is the same change
        acting.publishes("west", |shown| change(&mut shown.public));
        acting.condition("west", "TrustPinned", "False");
        assert_eq!(acting.status("west")["trustChange"]["digest"], digest, "{what}");
        acting.accept("west", &digest);
        acting.condition("west", "TrustPinned", "True");
        acting.condition("west", "ControlPlaneSynced", "True");
        assert_ne!(acting.written(), before, "{what}");
    }
    let mesh = acting.written()["isthmus-mesh"]["mesh"].as_str().unwrap().to_owned();
    assert_eq!(mesh.matches("BEGIN CERTIFICATE").count(), 3, "the former root of west stays for a while: {mesh}");
    assert_eq!(acting.status_writes("north"), north, "north was touched");
    assert!(acting.apiserver.all(EVENTS).len() > events);
}

/// What peers do that should do otherwise, and what the object then shows (R-01, R-03 to of hostile answers).
fn misbehaviours() -> Vec<(&'static str, &'static str, Misbehaviour)> {
    fn always(steps: Vec<PeerStep>) -> Misbehaviour {
        Arc::new(move |_| steps.clone())
    }
    let html = "content-type: text/html\r\n";
    let whole = |status: &str| always(answer(status, "content-type: application/json\r\n", "{}"));
    let body = |text: &str| always(json_answer(text));
    let raw = |text: &str| always(send(text));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    vec![
        ("hangs-up", "FetchFailed", always(vec![PeerStep::Close])),
        ("is-silent", "FetchFailed", always(vec![PeerStep::Hang])),
        ("half-open", "FetchFailed", always(vec![PeerStep::Send(head.into()), PeerStep::Hang])),
        (
            "cut-off",
            "FetchFailed",
            always(vec![PeerStep::Send(format!("{head}content-length: 900\r\n\r\n{{").into()), PeerStep::Close]),
        ),
        ("slow-head", "FetchFailed", always(vec![PeerStep::Trickle(head.into(), Duration::from_millis(500))])),
        (
            "slow-body",
            "FetchFailed",
            always(vec![
                PeerStep::Send(format!("{head}content-length: 900\r\n\r\n").into()),
                PeerStep::Trickle(vec![b' '; 900], Duration::from_millis(500)),
            ]),
        ),
        (
            "huge",
            "FetchFailed",
            always(vec![
                PeerStep::Send(format!("{head}content-length: 10000000000\r\n\r\n").into()),
                PeerStep::Flood(vec![b' '; 4096]),
            ]),
        ),
        (
            "endless",
            "FetchFailed",
            always(vec![
                PeerStep::Send(format!("{head}transfer-encoding: chunked\r\n\r\n").into()),
                PeerStep::Flood([b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat()),
            ]),
        ),
        (
            "packed",
            "FetchFailed",
            always(answer("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", "x")),
        ),
        ("many-headers", "FetchFailed", always(answer("200 OK", &"x: y\r\n".repeat(10_000), "{}"))),
        ("truncated", "InvalidJSON", body("{\"clusterUUID\": \"")),
        ("twice", "InvalidJSON", body("{\"clusterUUID\": \"a\", \"clusterUUID\": \"b\"}")),
        ("deep", "InvalidJSON", body(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)))),
        ("with-bom", "InvalidJSON", body("\u{feff}{}")),
        ("trailing", "InvalidJSON", body("{} {}")),
        ("an-error", "InvalidPublicMetadata", body("{\"error\": \"try again\"}")),
        ("login-page", "InvalidJSON", always(answer("200 OK", html, "<html>log in</html>"))),
        ("no-content", "NonOKResponse", raw("HTTP/1.1 204 No Content\r\n\r\n")),
        ("partial", "NonOKResponse", whole("206 Partial Content")),
        ("unchanged", "NonOKResponse", raw("HTTP/1.1 304 Not Modified\r\n\r\n")),
        ("unauthorized", "NonOKResponse", whole("401 Unauthorized")),
        ("forbidden", "NonOKResponse", whole("403 Forbidden")),
        ("not-found", "NonOKResponse", whole("404 Not Found")),
        ("throttled", "NonOKResponse", always(answer("429 Too Many Requests", "retry-after: 86400\r\n", ""))),
        ("broken", "NonOKResponse", whole("500 Internal Server Error")),
        ("starting", "NonOKResponse", whole("503 Service Unavailable")),
        ("elsewhere", "NonOKResponse", always(answer("302 Found", "location: http://127.0.0.1:1/\r\n", ""))),
        ("no-http", "FetchFailed", raw("nonsense\r\n\r\n")),
    ]
}

/// Whatever peers do to the agent, it keeps what it last knew of them, and the others are served as ever.
#[test]
fn peers_that_misbehave_are_kept_as_they_were_and_touch_no_other() {
    let misbehaviours = misbehaviours();
    let names: Vec<&str> = misbehaviours.iter().map(|(name, _, _)| *name).chain(["north"]).collect();
    let (acting, _replica) = Acting::joined(&names);
    acting.runs();
    let (before, north) = (acting.written(), acting.status_writes("north"));
    let events: BTreeSet<String> = acting.apiserver.all(EVENTS).iter().map(name_of).collect();
    for (name, _, misbehaves) in &misbehaviours {
        acting.publishes(name, |shown| shown.misbehaves = Some(misbehaves.clone()));
    }
    for (name, reason, _) in &misbehaviours {
        assert_eq!(acting.condition(name, "PublicMetadataExchangeReady", "False"), *reason, "{name}");
    }
    acting.runs();
    assert_eq!(acting.written(), before);
    assert_eq!(acting.status_writes("north"), north, "the healthy peer's conditions flicker");
    for (name, _, _) in &misbehaviours {
        let status = acting.status(name);
        for kind in ["TrustPinned", "SecretRendered", "ControlPlaneSynced", "RemoteAPIServerReady", "Reconciled"] {
            assert_eq!(condition(&status, kind)["status"], "True", "{kind} of {name}: {status:#}");
        }
    }
    // each change of state is one Event, however many runs there were
    let new: Vec<Value> =
        acting.apiserver.all(EVENTS).into_iter().filter(|event| !events.contains(&name_of(event))).collect();
    for (name, _, _) in &misbehaviours {
        let of_it = new.iter().filter(|event| event["involvedObject"]["name"] == *name);
        let mut reasons: Vec<&str> = of_it.map(|event| event["reason"].as_str().unwrap()).collect();
        reasons.sort_unstable();
        let expected = ["PrivateMetadataExchangeReadyNot", "PublicMetadataExchangeReadyNot"];
        assert_eq!(reasons.iter().filter(|reason| expected.contains(reason)).count(), 2, "{name}: {reasons:?}");
    }
    assert!(new.iter().all(|event| event["involvedObject"]["name"] != "north"));
    // the healthy one is served meanwhile
    acting.publishes("north", |shown| {
        shown.private.ingress_gateways = vec![isthmus::types::address::Gateway::new("127.0.0.200", 15443).unwrap()];
    });
    acting.until("north's new gateway", || acting.status("north")["peer"]["gateways"][0] == "127.0.0.200:15443");
    for (name, _, _) in &misbehaviours {
        acting.publishes(name, |shown| shown.misbehaves = None);
    }
    for (name, _, _) in &misbehaviours {
        acting.condition(name, "PublicMetadataExchangeReady", "True");
        acting.condition(name, "PrivateMetadataExchangeReady", "True");
    }
}

/// How names of peers may resolve that should resolve otherwise.
fn resolutions() -> Vec<(&'static str, Resolution)> {
    fn always(answer: impl Fn() -> Looking + Send + Sync + 'static) -> Resolution {
        Arc::new(answer)
    }
    let fails = always(|| Box::pin(async { Err(std::io::Error::other("no such name")) }));
    let asked = Mutex::new(0_usize);
    let changing = move || {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        to(&[["169.254.169.254"], ["10.0.0.1"], ["127.0.0.1"]][*asked % 3])
    };
    vec![
        // a name that is not there, a server that fails and aliases in a circle are one to whoever asks the system
        ("fails", fails),
        ("does-not-answer", always(|| Box::pin(std::future::pending()))),
        ("has-no-address", always(|| to(&[]))),
        ("is-loopback", always(|| to(&["::1", "0.0.0.0"]))),
        ("is-link-local", always(|| to(&["169.254.169.254", "fe80::1"]))),
        // no one listens at these, and eight of them are tried
        (
            "has-a-thousand",
            always(|| {
                let all = (0..4).flat_map(|_| (0..250_u8).map(|number| [127, 9, 9, number].into())).collect();
                Box::pin(async { Ok(all) })
            }),
        ),
        ("changes", always(changing)),
    ]
}

/// A name that leads nowhere, inside, or elsewhere each time, touches no other peer.
#[test]
fn peers_whose_names_resolve_badly_touch_no_other() {
    let mut acting = Acting::new();
    acting.limits.connect = Duration::from_secs(1);
    let resolutions = resolutions();
    for (name, _) in &resolutions {
        acting.peer(name);
        let at = format!("https://{name}.peers.example:{}/metadata", acting.peers[*name].peer.address.port());
        acting.apiserver.edit(OBJECTS, name, |object| object["spec"]["metadataEndpoint"] = at.into());
    }
    acting.peer("north");
    let _replica = acting.start("one");
    let names = || resolutions.iter().map(|(name, _)| *name);
    for peer in names().chain(["north"]) {
        acting.condition(peer, "SecretRendered", "True");
        acting.condition(peer, "ControlPlaneSynced", "True");
    }
    acting.runs();
    let (before, north) = (acting.written(), acting.status_writes("north"));
    for (name, resolution) in &resolutions {
        acting.resolutions.lock().unwrap().insert(format!("{name}.peers.example"), resolution.clone());
    }
    for name in names() {
        assert_eq!(acting.condition(name, "PublicMetadataExchangeReady", "False"), "FetchFailed", "{name}");
    }
    acting.runs();
    assert_eq!(acting.written(), before);
    assert_eq!(acting.status_writes("north"), north, "the healthy peer's conditions flicker");
    acting.resolutions.lock().unwrap().clear();
    for name in names() {
        acting.condition(name, "PublicMetadataExchangeReady", "True");
    }
    assert_eq!(acting.status_writes("north"), north);
}

/// Connections of peers break at bytes all over handshake and answers, by an end and by a reset; `fetch` breaks at each.
#[test]
fn peers_whose_connections_break_anywhere_are_kept_as_they_were_and_touch_no_other() {
    const BREAKING: usize = 10;
    const RUNS: usize = 6;
    let breaking: Vec<String> = (0..BREAKING).map(|number| format!("breaks-{number}")).collect();
    let names: Vec<&str> = breaking.iter().map(String::as_str).chain(["north"]).collect();
    let (acting, _replica) = Acting::joined(&names);
    acting.runs();
    let (before, north) = (acting.written(), acting.status_writes("north"));
    let whole = acting.peers["breaks-0"].peer.most_of_one();
    assert!(whole > 3000, "{whole}");
    for (number, name) in breaking.iter().enumerate() {
        let (next, step) = (number * whole / (BREAKING * RUNS), whole / RUNS);
        acting.publishes(name, |shown| shown.breaks = Some(Sweep { next, step, done: 0 }));
    }
    let done = || {
        let done = |name: &String| acting.peers[name].state.lock().unwrap().breaks.as_ref().unwrap().done;
        breaking.iter().map(done).min().unwrap()
    };
    for run in 0..RUNS {
        // a change has the agent run at once
        acting
            .apiserver
            .edit(OBJECTS, "breaks-0", |object| object["metadata"]["annotations"]["run"] = run.to_string().into());
        acting.until("each to be asked", || done() > run);
    }
    acting.runs();
    assert_eq!(acting.written(), before);
    assert_eq!(acting.status_writes("north"), north, "the healthy peer's conditions flicker");
    let events = acting.apiserver.all(EVENTS);
    for name in &breaking {
        let is_shown = |event: &Value| {
            event["involvedObject"]["name"] == *name && event["reason"] == "PublicMetadataExchangeReadyNot"
        };
        assert!(events.iter().any(is_shown), "no connection of {name} broke");
        let status = acting.status(name);
        for kind in ["TrustPinned", "SecretRendered", "ControlPlaneSynced", "Reconciled"] {
            assert_eq!(condition(&status, kind)["status"], "True", "{kind} of {name}: {status:#}");
        }
        acting.publishes(name, |shown| shown.breaks = None);
    }
    for name in &breaking {
        acting.condition(name, "PrivateMetadataExchangeReady", "True");
    }
    assert_eq!(acting.status_writes("north"), north);
}

/// Of two replicas one writes, and the other does once the first is seen to be gone.
#[test]
fn two_replicas_never_both_write() {
    let mut acting = Acting::new();
    acting.peer("west");
    let first = acting.start("one");
    let second = acting.start("two");
    acting.condition("west", "SecretRendered", "True");
    acting.condition("west", "ControlPlaneSynced", "True");
    let of_links = || {
        let writes = acting.apiserver.writes().into_iter();
        // what relays keep in order is the same for all of them
        let own = ["isthmus-authn", "isthmus-identity", "-tls", "/leases"];
        writes.filter(|write| own.iter().all(|part| !write.path.contains(part))).collect::<Vec<_>>()
    };
    let writers: BTreeSet<String> = of_links().into_iter().map(|write| write.by).collect();
    assert_eq!(writers.len(), 1, "{writers:?}");
    let acts = writers.into_iter().next().unwrap();
    let other = if acts == "one" { "two" } else { "one" };
    // the one that acts is killed in the midst of things
    acting.publishes("west", |shown| {
        shown.private.ingress_gateways = vec![isthmus::types::address::Gateway::new("127.0.0.200", 15443).unwrap()];
    });
    let (killed, _other) = if acts == "one" { (first, second) } else { (second, first) };
    drop(killed);
    let at = Instant::now();
    acting.until("the other replica to act", || {
        acting.publishes("west", |shown| {
            let port = 15443 + at.elapsed().as_secs();
            shown.private.ingress_gateways = vec![isthmus::types::address::Gateway::new("127.0.0.200", port).unwrap()];
        });
        of_links().iter().any(|write| write.by == other)
    });
    let all = of_links();
    let last_of_first = all.iter().rposition(|write| write.by == acts).unwrap();
    let first_of_other = all.iter().position(|write| write.by == other).unwrap();
    assert!(last_of_first < first_of_other, "{all:#?}");
    let took = all[first_of_other].at - at;
    assert!(took > Duration::from_secs(10), "it acted after {took:?}, when the first could still have written");
    let lease = acting.apiserver.get(LEASES, "isthmus-agent").unwrap();
    assert!(!lease["spec"]["holderIdentity"].as_str().unwrap().is_empty());
}

/// Another root CA of the own cluster stops everything, is shown with its digest, and is accepted where the cluster is described.
#[test]
fn another_root_of_the_own_cluster_waits_for_its_digest() {
    let (acting, _replica) = Acting::joined(&["west"]);
    acting.runs();
    let before = acting.written();
    acting.east.lock().unwrap().replace_root().unwrap();
    assert_eq!(acting.condition("west", "Reconciled", "False"), "OwnTrustChange");
    let shown = condition(&acting.status("west"), "Reconciled")["message"].as_str().unwrap().to_owned();
    assert!(shown.contains("root CA of this cluster") && shown.contains("ConfigMap isthmus-agent"), "{shown}");
    assert_eq!(acting.written(), before);
    assert_eq!(condition(&acting.status("west"), "SecretRendered")["status"], "True");
    let digest = shown.rsplit(' ').next().unwrap().to_owned();
    acting.apiserver.edit(MAPS, "isthmus-agent", |map| map["metadata"]["annotations"][ACCEPT] = digest.into());
    acting.condition("west", "Reconciled", "True");
    assert_ne!(acting.written()["isthmus-lock"], before["isthmus-lock"]);
}

/// A gateway that takes no connection is shown after it was tried several times, and a new replica goes by what the former one saw.
#[test]
fn gateways_are_tried() {
    let (acting, replica) = Acting::joined(&["west"]);
    assert_eq!(acting.condition("west", "DataplaneConnectionReady", "True"), "GatewaysReached");
    drop(replica);
    let writes = acting.status_writes("west");
    let _next = acting.start("two");
    acting.runs();
    assert_eq!(acting.status_writes("west"), writes, "{:#}", acting.status("west"));
}
