//! A Deckhouse cluster as its peers meet it: what its exporter and api-proxy answer, and how it reads and asks others.
//!
//! As seen on its own binaries and read in its sources (github.com/deckhouse/deckhouse, modules/110-istio): documents are
//! two-space JSON without a final newline, sent as `text/plain`, with empty strings or absent fields while something is
//! missing; tokens have the header `{"alg":"EdDSA"}` and no `kid`, live 60 seconds for metadata and 366 days for the API; its
//! api-proxy looks at the token alone and leaves the rest to RBAC, which knows no secrets but its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use isthmus::types::key::{PrivateKey, PublicKey};
use isthmus::types::time::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::peer::{self, PeerStep, answer};

/// Lifetime of its tokens for private metadata, seconds.
pub(crate) const METADATA_LIFETIME: Duration = Duration::from_mins(1);
/// Lifetime of its tokens for the API, seconds.
pub(crate) const API_LIFETIME: Duration = Duration::from_hours(366 * 24);
/// Where its istiod runs.
pub(crate) const NAMESPACE: &str = "d8-istio";
const TEXT: &str = "content-type: text/plain; charset=utf-8\r\n";
const JSON: &str = "content-type: application/json\r\n";

/// What its exporter shows at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// Everything.
    Whole,
    /// 503: the ingress has no pod behind it yet.
    Starting,
    /// Empty strings: the objects behind them are missing.
    Empty,
    /// Absent gateways and no name of a network: a look-up failed.
    Absent,
    /// Another root CA.
    OtherRoot,
    /// Everything, and its cluster ID, as newer ones publish it.
    Upgraded,
    /// Everything, and another cluster ID than its network's name implies.
    OtherId,
    /// Gateways of ambient mode alone.
    Ambient,
    /// A network that is too long for a label, and a gateway as a zone file has it.
    LongNetwork,
}

/// The cluster.
pub(crate) struct Deckhouse {
    pub(crate) uuid: String,
    pub(crate) key: PrivateKey,
    pub(crate) root: String,
    pub(crate) other_root: String,
    pub(crate) api_host: String,
    /// Peers it knows by UUID: `authnKeyPub` alone.
    pub(crate) known: Mutex<BTreeMap<String, PublicKey>>,
    pub(crate) shows: Mutex<Shows>,
    pub(crate) now: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Deckhouse {
    /// `public.json`.
    pub(crate) fn public(&self) -> String {
        let shows = *self.shows.lock().unwrap();
        let (key, root) = match shows {
            Shows::Empty => (String::new(), String::new()),
            Shows::OtherRoot => (self.key.public().to_pem(), self.other_root.clone()),
            _ => (self.key.public().to_pem(), self.root.clone()),
        };
        indented(&json!({ "clusterUUID": self.uuid, "authnKeyPub": key, "rootCA": root }))
    }

    /// `multicluster.json`. An older one: it has no `clusterID`.
    pub(crate) fn private(&self) -> String {
        match *self.shows.lock().unwrap() {
            Shows::Empty => indented(&json!({ "ingressGateways": [], "apiHost": "", "networkName": "" })),
            Shows::Ambient => indented(&json!({
                "ingressGateways": [],
                "ambientGateways": [{ "address": "203.0.113.41", "port": 15008 }],
                "apiHost": self.api_host,
                "networkName": "network-cluster-local-3413411223",
            })),
            shows @ (Shows::Upgraded | Shows::OtherId) => indented(&json!({
                "ingressGateways": [{ "address": "203.0.113.40", "port": 15443 }],
                "apiHost": self.api_host,
                "clusterID": if shows == Shows::Upgraded { "cluster-local-3413411223" } else { "deck-of-today" },
                "networkName": "network-cluster-local-3413411223",
            })),
            Shows::LongNetwork => indented(&json!({
                "ingressGateways": [
                    { "address": "EW.Deck.example.COM.", "port": 15443 },
                    { "address": "ew.deck.example.com", "port": 15443 },
                    { "address": "2001:DB8:0::7", "port": 15443 },
                ],
                "apiHost": self.api_host,
                "networkName": format!("network-{}-3413411223", "a".repeat(46)),
            })),
            Shows::Absent => indented(&json!({ "apiHost": self.api_host, "networkName": "" })),
            _ => indented(&json!({
                "ingressGateways": [{ "address": "203.0.113.40", "port": 15443 }],
                "ambientGateways": [{ "address": "ambient.example.com", "port": 99999 }],
                "apiHost": self.api_host,
                "networkName": "network-cluster-local-3413411223",
            })),
        }
    }

    /// A token of its own.
    pub(crate) fn token(&self, audience: &str, scope: &str) -> String {
        let lifetime = if scope == "api" { API_LIFETIME } else { METADATA_LIFETIME };
        let now = (self.now)();
        // a Go map, which is written in the order of its keys
        let claims = format!(
            r#"{{"aud":"{audience}","exp":{},"iss":"d8-istio","nbf":{},"scope":"{scope}","sub":"{}"}}"#,
            (now + lifetime).as_seconds(),
            now.as_seconds(),
            self.uuid
        );
        let text = [r#"{"alg":"EdDSA"}"#, &claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    /// Who asks, judged in its order. Neither `iss` nor `nbf` nor how long a token lives is looked at.
    pub(crate) fn verdict(&self, authorization: Option<&str>, scope: &str) -> Result<String, &'static str> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).ok_or("no bearer token")?;
        let (signed, signature) = token.rsplit_once('.').ok_or("no token")?;
        let (header, claims) = signed.split_once('.').ok_or("no token")?;
        let open =
            |part: &str| -> Option<Value> { serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
        let (header, claims) = open(header).zip(open(claims)).ok_or("no token")?;
        if header["alg"] != "EdDSA" || header.get("crit").is_some() {
            return Err("unknown algorithm");
        }
        if claims["aud"] != self.uuid.as_str() {
            return Err("wrong audience");
        }
        if claims["scope"] != scope {
            return Err("wrong scope");
        }
        if claims["exp"].as_i64().ok_or("exp is no integer")? < (self.now)().as_seconds() {
            return Err("token has expired");
        }
        let subject = claims["sub"].as_str().ok_or("no subject")?;
        let key = self.known.lock().unwrap().get(subject).cloned().ok_or("unknown subject")?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| "no signature")?;
        if key.verifies(signed.as_bytes(), &signature) { Ok(subject.to_owned()) } else { Err("bad signature") }
    }

    /// Its exporter, behind its ingress.
    pub(crate) fn exporter(self: &Arc<Self>) -> impl Fn(&str) -> Vec<PeerStep> + Send + Sync + 'static {
        let own = self.clone();
        move |head| {
            if *own.shows.lock().unwrap() == Shows::Starting {
                return answer("503 Service Temporarily Unavailable", "content-type: text/html\r\n", "<html></html>");
            }
            match path(head) {
                "/metadata/public/public.json" => answer("200 OK", TEXT, own.public()),
                "/metadata/private/multicluster.json" => match own.verdict(bearer(head), "private-multicluster") {
                    Ok(_) => answer("200 OK", TEXT, own.private()),
                    Err(why) => {
                        let text = format!("Authentication error: {why}, this is cluster {}\n", own.uuid);
                        answer("401 Unauthorized", TEXT, text)
                    }
                },
                _ => answer("404 Not Found", TEXT, "404 page not found\n"),
            }
        }
    }

    /// Its api-proxy: what RBAC lets through, and 403 for secrets, mesh configuration and gateways.
    pub(crate) fn api_proxy(self: &Arc<Self>) -> impl Fn(&str) -> Vec<PeerStep> + Send + Sync + 'static {
        let own = self.clone();
        move |head| {
            if let Err(why) = own.verdict(bearer(head), "api") {
                return answer("401 Unauthorized", TEXT, format!("Authentication error: {why}\n"));
            }
            let path = path(head);
            let (resource, _) = path.split_once('?').unwrap_or((path, ""));
            let refused = ["secrets", "configmaps", "gateways"];
            let refused = resource.split('/').find(|segment| refused.contains(segment));
            if resource == "/api" {
                let versions = json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] });
                return answer("200 OK", JSON, versions.to_string());
            }
            if let Some(name) = refused {
                let text = format!(
                    "{name} is forbidden: User \"system:serviceaccount:{NAMESPACE}:multicluster-api-proxy\" cannot list resource"
                );
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": text,
                    "reason": "Forbidden", "code": 403,
                });
                return answer("403 Forbidden", JSON, status.to_string());
            }
            let list = json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "77" }, "items": [{ "metadata": { "name": resource }, "hidden": resource }] });
            answer("200 OK", JSON, list.to_string())
        }
    }
}

/// As Go writes JSON: two spaces, `& < >` escaped, no newline at the end.
fn indented(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap();
    text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

fn path(head: &str) -> &str {
    head.split_whitespace().nth(1).unwrap_or_default()
}

fn bearer(head: &str) -> Option<&str> {
    head.lines().find_map(|line| line.strip_prefix("authorization: "))
}

/// What it keeps of a peer in the status of its `IstioMulticluster`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PeerCache {
    pub(crate) public: Option<Value>,
    pub(crate) private: Option<Value>,
}

impl PeerCache {
    /// Takes a public document, or says the reason that its condition shows.
    pub(crate) fn take_public(&mut self, (status, body): (u16, &[u8])) -> Result<(), &'static str> {
        let document = document(status, body)?;
        let is_set = |field: &str| document[field].as_str().is_some_and(|text| !text.is_empty());
        if !["clusterUUID", "authnKeyPub", "rootCA"].into_iter().all(is_set) {
            return Err("InvalidPublicMetadata");
        }
        // its api-proxy refuses a key with anything behind the block
        let key = document["authnKeyPub"].as_str().unwrap_or_default();
        if key.matches("-----BEGIN ").count() != 1 || !key.trim_end_matches('\n').ends_with(" PUBLIC KEY-----") {
            return Err("InvalidPublicMetadata");
        }
        if self.public.as_ref().is_some_and(|known| known["clusterUUID"] != document["clusterUUID"]) {
            return Err("ClusterUUIDMismatch");
        }
        self.public = Some(document);
        Ok(())
    }

    /// Takes a private document.
    pub(crate) fn take_private(&mut self, (status, body): (u16, &[u8]), gateway: bool) -> Result<(), &'static str> {
        let document = document(status, body)?;
        let is_set = |field: &str| document[field].as_str().is_some_and(|text| !text.is_empty());
        let gateways = document["ingressGateways"].as_array();
        if !is_set("networkName") || !is_set("apiHost") || gateways.is_none() {
            return Err("InvalidPrivateMetadata");
        }
        if gateway && gateways.is_none_or(Vec::is_empty) {
            return Err("MissingIngressGateways");
        }
        self.private = Some(document);
        Ok(())
    }
}

fn document(status: u16, body: &[u8]) -> Result<Value, &'static str> {
    if status != 200 {
        return Err("NonOKResponse");
    }
    serde_json::from_slice(body).map_err(|_| "InvalidJSON")
}

/// Asks a server of the test; `None` for the token asks without.
pub(crate) async fn get(address: SocketAddr, ca: &str, path: &str, token: Option<&str>) -> (u16, Vec<u8>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    let mut request = client.get(format!("https://{address}{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
}

/// Serves one of its scripts.
pub(crate) async fn serve(ca: &peer::Ca, script: impl Fn(&str) -> Vec<PeerStep> + Send + Sync + 'static) -> peer::Peer {
    peer::Peer::start(&ca.serving(&["127.0.0.1"]), script).await
}
