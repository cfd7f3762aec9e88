//! Clients that ask a peer as a reader's istiod does, and show what they are given: by way of the reader's relay, or at the
//! peer's api-proxy itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use futures_util::StreamExt as _;
use isthmus::types::key::PrivateKey;
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, ISSUER, Scope, mint};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher;
use reqwest::{Certificate, Client, Response};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::mesh::{BedCluster, BedMesh};

/// How istiod begins a watch.
const BEGINS: &str = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

pub(super) struct RawClient {
    runtime: Runtime,
    client: Client,
    base: String,
    ca: String,
    token: Option<String>,
}

/// An event of a watch, and when it was given.
type GivenEvent = (jiff::Timestamp, Value);

/// A watch that runs beside the test.
pub(super) struct RawWatch {
    events: Arc<Mutex<Vec<GivenEvent>>>,
    /// Whether it ended in good order.
    ended: JoinHandle<Result<(), String>>,
}

impl BedMesh {
    pub(super) fn asks_the_relay(&self, reader: BedCluster, peer: BedCluster) -> RawClient {
        let ca = self.identity(reader)["relayCA"].as_str().unwrap().to_owned();
        let host = "isthmus-relay.istio-system.svc";
        let client = Client::builder().tls_certs_only([Certificate::from_pem(ca.as_bytes()).unwrap()]);
        let client = client.resolve(host, reader.address(40, 8443)).build().unwrap();
        let base = format!("https://{host}:8443/to/{}", peer.name);
        RawClient { runtime: Runtime::new().unwrap(), client, base, ca, token: None }
    }

    /// Asks with the reader's own key.
    pub(super) fn asks_the_proxy(&self, reader: BedCluster, peer: BedCluster) -> RawClient {
        let (own, theirs) = (self.identity(reader), self.identity(peer));
        let secret = self.object(reader, "secret", "isthmus-authn");
        let key = base64::prelude::BASE64_STANDARD.decode(secret["data"]["key.pem"].as_str().unwrap()).unwrap();
        let key = PrivateKey::from_pem(std::str::from_utf8(&key).unwrap()).unwrap();
        let now = Timestamp::from(jiff::Timestamp::now());
        let uuid = |identity: &Value| identity["clusterUUID"].as_str().unwrap().to_owned();
        let claims = Claims {
            aud: uuid(&theirs),
            exp: now + Duration::from_mins(40),
            iss: ISSUER.to_owned(),
            nbf: now - Duration::from_mins(1),
            scope: Scope::Api,
            sub: uuid(&own),
        };
        let token = mint(&key, &claims, Some(&key.public().id())).expose().to_owned();
        let ca = theirs["servingCA"].as_str().unwrap().to_owned();
        let client = Client::builder().tls_certs_only([Certificate::from_pem(ca.as_bytes()).unwrap()]).build().unwrap();
        let base = format!("https://{}", peer.address(30, 8443));
        RawClient { runtime: Runtime::new().unwrap(), client, base, ca, token: Some(token) }
    }
}

impl RawClient {
    async fn ask(&self, path: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.base));
        let request = if let Some(token) = &self.token { request.bearer_auth(token) } else { request };
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        assert_eq!(answer.status(), 200, "{path}");
        answer
    }

    pub(super) fn list(&self, path: &str) -> Value {
        let text = self.runtime.block_on(async { self.ask(path).await.text().await.unwrap() });
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// A watch that begins with all objects.
    pub(super) fn watch(&self, path: &str) -> RawWatch {
        self.watch_from(&format!("{path}?{BEGINS}"))
    }

    /// A watch that continues.
    pub(super) fn watch_on(&self, path: &str, version: &str) -> RawWatch {
        self.watch_from(&format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={version}"))
    }

    fn watch_from(&self, path: &str) -> RawWatch {
        let mut answer = self.runtime.block_on(self.ask(path));
        let events = Arc::<Mutex<Vec<GivenEvent>>>::default();
        let given = events.clone();
        let ended = self.runtime.spawn(async move {
            let mut text = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|error| format!("{error:?}"))? {
                text.extend_from_slice(&chunk);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let event = serde_json::from_slice(&text.drain(..=end).collect::<Vec<_>>());
                    let event = event.map_err(|error| error.to_string())?;
                    given.lock().unwrap().push((jiff::Timestamp::now(), event));
                }
            }
            if text.is_empty() { Ok(()) } else { Err("it ended within an event".to_owned()) }
        });
        RawWatch { events, ended }
    }

    /// What the reflector of kube-rs holds, which lists and watches by itself for as long as this client is there.
    pub(super) fn reflects(&self, kind: &str, plural: &str, lists_by_watch: bool) -> Store<DynamicObject> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut config = kube::Config::new(self.base.parse().unwrap());
        config.root_cert = Some(vec![CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap().to_vec()]);
        config.auth_info.token = self.token.clone().map(Into::into);
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural);
        let watched = watcher::Config::default();
        let watched = if lists_by_watch { watched.streaming_lists() } else { watched };
        let mut writer = Writer::<DynamicObject>::new(resource.clone());
        let store = writer.as_reader();
        self.runtime.spawn(async move {
            let client = kube::Client::try_from(config).unwrap();
            let mut events = std::pin::pin!(watcher(Api::<DynamicObject>::all_with(client, &resource), watched));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => writer.apply_watcher_event(&event),
                    // it begins again, as often as it is asked
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        });
        store
    }

    /// How a watch has ended.
    pub(super) fn end_of(&self, watch: RawWatch) -> Result<(), String> {
        self.runtime.block_on(watch.ended).unwrap()
    }
}

impl RawWatch {
    pub(super) fn last(&self) -> Option<GivenEvent> {
        self.events.lock().unwrap().last().cloned()
    }

    /// The version that its first list has, once it has come whole.
    pub(super) fn version(&self) -> Option<String> {
        let events = self.events.lock().unwrap();
        let is_end =
            |event: &&GivenEvent| event.1["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
        let (_, end) = events.iter().find(is_end)?;
        Some(end["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_finished()
    }
}
