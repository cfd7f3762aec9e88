//! What a peer holds of a cluster of which it is shared a part: with a client that does as client-go's reflector, and with that of
//! kube-rs.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use isthmus::wire::share::Share;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher;
use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;

const PODS_PATH: &str = "/api/v1/pods";
const NAMESPACES_PATH: &str = "/api/v1/namespaces";
const HIDDEN: &str = "secret";

fn share(namespaces: &[&str], except: &[&str]) -> Share {
    serde_json::from_value(json!({ "namespaces": namespaces, "except": except })).unwrap()
}

fn shared(share: &Share) -> Value {
    let mut entry = west(&west_keys());
    entry["share"] = json!(share);
    entry
}

/// An apiserver's store: each change has a version, and old ones may be forgotten.
struct VersionedStore {
    state: Mutex<StoreState>,
    version: watch::Sender<u64>,
    /// Ends all watches, cleanly or not.
    ends: broadcast::Sender<bool>,
}

#[derive(Default)]
struct StoreState {
    objects: BTreeMap<(&'static str, String), Value>,
    log: Vec<(&'static str, Value)>,
    oldest: u64,
}

impl StoreState {
    fn version(&self) -> u64 {
        100 + u64::try_from(self.log.len()).unwrap()
    }
}

#[allow(clippy::unnecessary_wraps, reason = "as a stream of pieces has it")]
fn line(event: &Value) -> Result<Bytes, &'static str> {
    Ok(Bytes::from(format!("{event}\n")))
}

impl VersionedStore {
    fn new() -> Arc<Self> {
        let (version, ends) = (watch::Sender::new(0), broadcast::channel(16).0);
        Arc::new(Self { state: Mutex::default(), version, ends })
    }

    /// Writes an object, or deletes it.
    fn put(&self, path: &'static str, namespace: Option<&str>, name: &str, label: Option<u8>) {
        let mut state = self.state.lock().unwrap();
        let key = (path, format!("{}/{name}", namespace.unwrap_or_default()));
        let version = (state.version() + 1).to_string();
        let mut object = json!({
            "kind": if path == PODS_PATH { "Pod" } else { "Namespace" }, "apiVersion": "v1",
            "metadata": { "name": name, "uid": "u", "resourceVersion": version, "annotations": { "a": HIDDEN } },
            "spec": { "nodeName": HIDDEN },
        });
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let before = state.objects.remove(&key);
        object["metadata"]["labels"] = json!({ "version": label.map(|label| label.to_string()) });
        let kind = match (label, before) {
            (None, None) => return,
            (None, Some(last)) => {
                object = last;
                object["metadata"]["resourceVersion"] = json!(version);
                "DELETED"
            }
            (Some(_), before) => {
                state.objects.insert(key, object.clone());
                if before.is_some() { "MODIFIED" } else { "ADDED" }
            }
        };
        state.log.push((path, json!({ "type": kind, "object": object })));
        self.version.send_replace(state.version());
    }

    fn compact(&self) {
        let mut state = self.state.lock().unwrap();
        state.oldest = state.version();
    }

    fn answer(self: &Arc<Self>, asked: &Asked) -> Option<Response<Body>> {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let path = [PODS_PATH, NAMESPACES_PATH].into_iter().find(|known| *known == path)?;
        let of = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        if of("watch") == Some("true") {
            let from = of("resourceVersion").unwrap_or("0");
            assert_eq!(of("sendInitialEvents"), None, "events cost it more than a list");
            return Some(self.watch(path, from));
        }
        let state = self.state.lock().unwrap();
        let items: Vec<&Value> = state.objects.iter().filter(|((of, _), _)| *of == path).map(|(_, one)| one).collect();
        let kind = if path == PODS_PATH { "PodList" } else { "NamespaceList" };
        let version = state.version().to_string();
        Some(json_answer(
            200,
            &json!({ "kind": kind, "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
        ))
    }

    fn watch(self: &Arc<Self>, path: &'static str, from: &str) -> Response<Body> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (store, mut version, mut ends) = (self.clone(), self.version.subscribe(), self.ends.subscribe());
        let bookmark = |version: u64, annotations: &Value| {
            let metadata = json!({ "resourceVersion": version.to_string(), "annotations": annotations });
            line(&json!({ "type": "BOOKMARK", "object": { "kind": "Any", "apiVersion": "v1", "metadata": metadata } }))
        };
        let mut at = from.parse().expect("a version of this apiserver");
        let state = self.state.lock().unwrap();
        let is_forgotten = at < state.oldest;
        drop(state);
        if is_forgotten {
            let status = json!({ "kind": "Status", "code": 410, "reason": "Expired", "status": "Failure" });
            sender.send(line(&json!({ "type": "ERROR", "object": status }))).unwrap();
        } else {
            tokio::spawn(async move {
                loop {
                    let (events, now): (Vec<_>, u64) = {
                        let state = store.state.lock().unwrap();
                        let new = state.log.iter().skip(usize::try_from(at - 100).unwrap());
                        (new.filter(|(of, _)| *of == path).map(|(_, event)| line(event)).collect(), state.version())
                    };
                    at = now;
                    for event in events.into_iter().chain([bookmark(now, &json!({}))]) {
                        if sender.send(event).is_err() {
                            return;
                        }
                    }
                    tokio::select! {
                        Ok(()) = version.changed() => {}
                        Ok(cleanly) = ends.recv() => {
                            let _broken = cleanly || sender.send(Err("reset")).is_ok();
                            return;
                        }
                        else => return,
                    }
                }
            });
        }
        answer(200, &[("content-type", "application/json")], streaming(receiver))
    }

    /// What of it a peer is to hold.
    fn shown(&self, path: &str, share: &Share) -> BTreeMap<String, Value> {
        let state = self.state.lock().unwrap();
        let of_path = state.objects.iter().filter(|((of, _), _)| *of == path);
        of_path.filter_map(|((_, key), object)| Some((key.clone(), shown(path, object, share)?))).collect()
    }
}

fn shown(path: &str, object: &Value, share: &Share) -> Option<Value> {
    let metadata = &object["metadata"];
    let is_pod = path == PODS_PATH;
    let namespace = if is_pod { &metadata["namespace"] } else { &metadata["name"] }.as_str()?;
    let mut shown = json!({ "kind": object["kind"], "apiVersion": "v1", "metadata": {
        "name": metadata["name"], "uid": "u", "resourceVersion": metadata["resourceVersion"] } });
    if share.shows(namespace) {
        shown["metadata"]["labels"] = metadata["labels"].clone();
        if !is_pod {
            shown["metadata"]["annotations"] = json!({});
        }
    } else if is_pod || *namespace != *NAMESPACE {
        return None;
    }
    if is_pod {
        shown["metadata"]["namespace"] = metadata["namespace"].clone();
        shown["spec"] = json!({ "nodeName": HIDDEN });
    }
    Some(shown)
}

/// What a client holds, and the last error that it met.
#[derive(Default)]
struct HeldObjects(Mutex<BTreeMap<String, Value>>, Mutex<Option<String>>);

/// Where the api-proxy is, which may be another one at any time.
#[derive(Clone)]
struct ProxyTarget {
    address: Arc<Mutex<SocketAddr>>,
    ca: Arc<Ca>,
}

/// Lists and watches as client-go does: it continues where a watch ended, and lists again where it is told that this is expired.
async fn reflect(held: Arc<HeldObjects>, path: &'static str, lists_by_watch: bool, place: ProxyTarget) {
    let mut version: Option<String> = None;
    loop {
        sleep(Duration::from_millis(2)).await;
        let address = *place.address.lock().unwrap();
        let Some(client) = Client::connect(address, &place.ca).await else { continue };
        let of_west = of_west();
        let ask = async |query: String| {
            let url = format!("{path}?{query}");
            let response = client.try_send(Method::GET, &url, &[("authorization", &of_west)]).await;
            response.filter(|response| response.status() == StatusCode::OK)
        };
        let initial = version.is_none() && lists_by_watch;
        if version.is_none() && !initial {
            let Some(list) = ask("limit=500&resourceVersion=0".to_owned()).await else { continue };
            let Ok(body) = list.into_body().collect().await else { continue };
            let list: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
            let items = list["items"].as_array().unwrap();
            *held.0.lock().unwrap() = items.iter().map(|one| (key(one), one.clone())).collect();
            version = Some(list["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
        }
        let query = match &version {
            Some(version) => format!("watch=true&allowWatchBookmarks=true&resourceVersion={version}"),
            None => {
                "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan".into()
            }
        };
        let Some(watch) = ask(query).await else { continue };
        apply_events(&held, watch.into_body(), initial, &mut version).await;
    }
}

async fn apply_events(held: &HeldObjects, mut watch: Incoming, initial: bool, version: &mut Option<String>) {
    let (mut first, mut text) = (initial.then(BTreeMap::new), Vec::new());
    while let Some(Ok(frame)) = watch.frame().await {
        text.extend(frame.into_data().unwrap());
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let event: Value = serde_json::from_slice(&text.drain(..=end).collect::<Vec<_>>()).unwrap();
            let (kind, object) = (event["type"].as_str().unwrap(), &event["object"]);
            if kind == "ERROR" {
                assert_eq!(object["code"], 410);
                *version = None;
                return;
            }
            let mut objects = held.0.lock().unwrap();
            let into = first.as_mut().unwrap_or(&mut objects);
            match kind {
                "ADDED" | "MODIFIED" => {
                    assert!(matches!(object["kind"].as_str(), Some("Pod" | "Namespace")), "{object}");
                    into.insert(key(object), object.clone());
                }
                "DELETED" => drop(into.remove(&key(object))),
                _ if object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true" => {
                    if let Some(first) = first.take() {
                        *objects = first;
                    }
                }
                _ => {}
            }
            if first.is_none() {
                *version = Some(object["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
            }
        }
    }
}

fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

/// A port that leads to the api-proxy, wherever that is.
async fn front(place: ProxyTarget) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let place = place.clone();
            connections.spawn(async move {
                let proxy = *place.address.lock().unwrap();
                let Ok(mut proxy) = TcpStream::connect(proxy).await else { return };
                drop(tokio::io::copy_bidirectional(&mut client, &mut proxy).await);
            });
        }
    });
    address
}

/// What the reflector of kube-rs holds, which lists and watches by itself.
async fn reflect_by_kube(held: Arc<HeldObjects>, path: &'static str, lists_by_watch: bool, place: ProxyTarget) {
    let mut config = kube::Config::new(format!("https://{}", front(place.clone()).await).parse().unwrap());
    config.root_cert = Some(vec![CertificateDer::from_pem_slice(place.ca.pem.as_bytes()).unwrap().to_vec()]);
    config.auth_info.token = Some(of_west().strip_prefix("Bearer ").unwrap().to_owned().into());
    let client = kube::Client::try_from(config).unwrap();
    let (kind, plural) = if path == PODS_PATH { ("Pod", "pods") } else { ("Namespace", "namespaces") };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural);
    let watched = watcher::Config::default();
    let watched = if lists_by_watch { watched.streaming_lists() } else { watched };
    let mut writer = Writer::<DynamicObject>::new(resource.clone());
    let store = writer.as_reader();
    let mut events = std::pin::pin!(watcher(Api::<DynamicObject>::all_with(client, &resource), watched));
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            // it begins again, as often as it is asked
            Err(error) => {
                *held.1.lock().unwrap() = Some(format!("{error:?}"));
                sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        writer.apply_watcher_event(&event);
        let objects = store.state().into_iter().map(|object| serde_json::to_value(&*object).unwrap());
        *held.0.lock().unwrap() = objects.map(|object| (key(&object), object)).collect();
    }
}

async fn end(proxy: Option<(Running, StopSignal)>) {
    if let Some((running, stop)) = proxy {
        stop.request();
        running.stop().await;
    }
}

/// An api-proxy, and clients of it.
struct ShareBed {
    store: Arc<VersionedStore>,
    apiserver: Apiserver,
    token_file: tempfile::NamedTempFile,
    place: ProxyTarget,
    /// The process; none while there is none.
    proxy: Option<(Running, StopSignal)>,
    clients: Vec<(&'static str, Arc<HeldObjects>)>,
    _reflecting: JoinSet<()>,
}

impl ShareBed {
    async fn new(share: &Share) -> Self {
        let (store, token_file) = (VersionedStore::new(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(token_file.path(), "of-the-role").unwrap();
        let of_store = store.clone();
        let apiserver = Apiserver::start(move |asked| of_store.answer(asked)).await;
        identity(&apiserver);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let place = ProxyTarget { address: Arc::new(Mutex::new(nowhere)), ca: Arc::new(Ca::new("proxy")) };
        let (mut reflecting, mut clients) = (JoinSet::new(), Vec::new());
        for (path, lists_by_watch) in
            [(PODS_PATH, false), (PODS_PATH, true), (NAMESPACES_PATH, false), (NAMESPACES_PATH, true)]
        {
            let held = Arc::new(HeldObjects::default());
            clients.push((path, held.clone()));
            reflecting.spawn(reflect(held, path, lists_by_watch, place.clone()));
            let held = Arc::new(HeldObjects::default());
            clients.push((path, held.clone()));
            reflecting.spawn(reflect_by_kube(held, path, lists_by_watch, place.clone()));
        }
        let mut bed = Self { store, apiserver, token_file, place, proxy: None, clients, _reflecting: reflecting };
        bed.share(share);
        bed.begin().await;
        bed
    }

    fn share(&self, share: &Share) {
        self.apiserver.config_map(NAMESPACE, "isthmus-peers", Some(("peers.json", &peers(&[shared(share)]))));
    }

    /// Begins a process, which takes the place of the one before.
    async fn begin(&mut self) {
        let limits = RoleLimits { drain: Duration::from_millis(20), ..limits() };
        let (running, role, stop) =
            serve(&self.apiserver, self.token_file.path(), limits, &RecordSink::default(), &self.place.ca).await;
        while !role.health.is_ready() {
            sleep(Duration::from_millis(2)).await;
        }
        *self.place.address.lock().unwrap() = running.address();
        let former = self.proxy.replace((running, stop));
        end(former).await;
    }

    /// Until each client holds what is shared, and nothing else.
    async fn converges(&self, share: &Share) -> Result<(), TestCaseError> {
        let begin = Instant::now();
        for (path, held) in &self.clients {
            loop {
                let holds: BTreeMap<String, Value> = held.0.lock().unwrap().clone();
                let holds: BTreeMap<_, _> = holds.into_iter().map(|(key, one)| (key, unmarked(one).0)).collect();
                let wanted = self.store.shown(path, share);
                if holds == wanted {
                    break;
                }
                let error = held.1.lock().unwrap().clone();
                prop_assert!(
                    begin.elapsed() < SOON,
                    "{path}: holds {holds:#?}, and is shared {wanted:#?}; its last error was {error:?}"
                );
                sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum ShareStep {
    Pod(&'static str, u8, Option<u8>),
    Namespace(&'static str, Option<u8>),
    Share(usize),
    Cut,
    End,
    Forget,
    Restart,
    Wait(u64),
    Converge,
}

const NAMES: [&str; 5] = ["shop", "shop-b", "cart", "kube-system", NAMESPACE];

fn shares() -> [Share; 6] {
    [
        Share::usual(),
        Share::everything(),
        share(&["shop*"], &[]),
        share(&["*"], &["shop-*", NAMESPACE]),
        share(&["cart", NAMESPACE], &["kube-system"]),
        share(&[], &[]),
    ]
}

fn steps() -> impl Strategy<Value = Vec<ShareStep>> {
    let name = || proptest::sample::select(NAMES.to_vec());
    let step = prop_oneof![
        6 => (name(), 0..3_u8, proptest::option::weighted(0.7, 0..9_u8)).prop_map(|(name, number, label)| ShareStep::Pod(name, number, label)),
        3 => (name(), proptest::option::weighted(0.7, 0..9_u8)).prop_map(|(name, label)| ShareStep::Namespace(name, label)),
        3 => (0..6_usize).prop_map(ShareStep::Share),
        1 => Just(ShareStep::Cut),
        1 => Just(ShareStep::End),
        1 => Just(ShareStep::Forget),
        1 => Just(ShareStep::Restart),
        2 => (0..20_u64).prop_map(ShareStep::Wait),
        2 => Just(ShareStep::Converge),
    ];
    proptest::collection::vec(step, 1..30)
}

async fn runs(steps: Vec<ShareStep>) -> Result<(), TestCaseError> {
    let shares = shares();
    let mut share = &shares[0];
    let mut bed = ShareBed::new(share).await;
    for step in steps {
        match step {
            ShareStep::Pod(namespace, number, label) => {
                bed.store.put(PODS_PATH, Some(namespace), &format!("pod-{number}"), label);
            }
            ShareStep::Namespace(name, label) => bed.store.put(NAMESPACES_PATH, None, name, label),
            ShareStep::Share(at) => {
                share = &shares[at];
                bed.share(share);
            }
            ShareStep::Cut => drop(bed.store.ends.send(false)),
            ShareStep::End => drop(bed.store.ends.send(true)),
            ShareStep::Forget => bed.store.compact(),
            ShareStep::Restart => bed.begin().await,
            ShareStep::Wait(time) => sleep(Duration::from_millis(time)).await,
            ShareStep::Converge => bed.converges(share).await?,
        }
    }
    bed.converges(share).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_client_holds_what_is_shared_after_whatever_happens(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(runs(steps))?;
    }
}

#[tokio::test]
async fn a_share_that_is_edited_while_no_watch_runs_is_noticed_all_the_same() {
    let (all, some) = (Share::everything(), share(&["shop"], &[]));
    let mut bed = ShareBed::new(&all).await;
    for namespace in NAMES {
        bed.store.put(PODS_PATH, Some(namespace), "a", Some(1));
        bed.store.put(NAMESPACES_PATH, None, namespace, Some(1));
    }
    bed.converges(&all).await.unwrap();
    // while the api-proxy is away
    for share in [&some, &all] {
        end(bed.proxy.take()).await;
        bed.share(share);
        bed.begin().await;
        bed.converges(share).await.unwrap();
    }
}

#[tokio::test]
async fn an_edit_of_a_share_ends_the_watches_of_that_peer_and_of_no_other() {
    let world = world().await;
    let client = world.client().await;
    let (of_west, of_south) = (of_west(), of_south());
    let watch = async |path: &str, authorization: &str| {
        let url = format!("{path}?watch=true&resourceVersion=0");
        client.send(Method::GET, &url, &[("authorization", authorization)]).await
    };
    let mut ended = [watch(PODS_PATH, &of_west).await, watch("/api/v1/namespaces/cart/services", &of_west).await];
    let mut kept = [watch(PODS_PATH, &of_south).await, watch("/api/v1/nodes", &of_west).await];
    let begin = Instant::now();
    world.peers(&peers(&[shared(&share(&["shop"], &[])), south()]));
    let received = async |watch: &mut Response<Incoming>| {
        let last: Value = serde_json::from_slice(&next(watch.body_mut()).await.unwrap().unwrap()).unwrap();
        assert_eq!(
            (&last["type"], &last["object"]["code"], &last["object"]["reason"]),
            (&json!("ERROR"), &json!(410), &json!("Expired"))
        );
        assert!(next(watch.body_mut()).await.is_none());
    };
    for watch in &mut ended {
        received(watch).await;
    }
    assert!(begin.elapsed() < SOON);
    world.event_sender.send(SENT_EVENT).unwrap();
    for watch in &mut kept {
        assert_eq!(next(watch.body_mut()).await.unwrap().unwrap(), EVENT);
    }
    // what is not shared is not even asked for, and idles until it is
    let before = world.apiserver.asked().len();
    let initial = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let url = format!("/api/v1/namespaces/cart/services?{initial}");
    let mut idle = client.send(Method::GET, &url, &[("authorization", &of_west)]).await;
    let bookmark: Value = serde_json::from_slice(&next(idle.body_mut()).await.unwrap().unwrap()).unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("Service")));
    assert_eq!(world.apiserver.asked().len(), before);
    world.peers(&peers(&[shared(&share(&["cart"], &[])), south()]));
    received(&mut idle).await;
}
