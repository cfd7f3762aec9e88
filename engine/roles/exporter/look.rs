//! Asks the pods of istiod, api-proxy and relay what is live. They are asked all at once, for a short time, for a bounded
//! answer, and never follow anywhere else.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::watched::{Objects, Source};
use crate::istio::debug::{parse_clusterz, parse_mesh, parse_networkz, parse_samples};
use crate::istio::mesh_config::mesh_config;
use crate::istio::objects::PodFacts;
use crate::roles::exporter::documents::{Facts, shared};
use crate::roles::exporter::evidence;
use crate::wire::metadata::{Evidence, Shown};
use crate::wire::names::{LAST_USED, ROUTE_UP};

/// Where a pod finds the token of audience `istio-ca` that istiod takes.
pub(super) const ISTIO_TOKEN: &str = "/var/run/secrets/isthmus/istio-token";
/// istiod's port for monitoring, and the one for debugging.
const DEBUG_PORTS: [u16; 2] = [15014, 8080];
const METRICS_PORT: u16 = 9090;
/// One question, to its last byte.
const PATIENCE: Duration = Duration::from_secs(2);
/// Largest answer: the mesh configuration of a thousand clusters has 3 MiB.
const MOST: usize = 16 * 1024 * 1024;
/// Questions at a time.
const AT_ONCE: usize = 8;

/// Pods that are asked beside istiod's.
#[derive(Debug, Clone)]
pub(super) struct Pods {
    /// Of the api-proxy.
    pub(super) proxies: Source<Objects<PodFacts>>,
    /// Of the relay or agent.
    pub(super) relays: Source<Objects<PodFacts>>,
    /// How many proxies await a restart.
    pub(super) lacking: Result<usize, String>,
}

enum Refusal {
    /// Nothing there: another port may answer.
    Elsewhere(String),
    Final(String),
}

/// One GET over plain HTTP.
async fn get(address: &str, port: u16, path: &str, token: Option<&HeaderValue>) -> Result<Bytes, Refusal> {
    let asked = timeout(PATIENCE, async {
        let ip: IpAddr = address.parse().map_err(|_| Refusal::Final("its address is none".to_owned()))?;
        let stream = TcpStream::connect((ip, port)).await.map_err(|error| Refusal::Elsewhere(error.to_string()))?;
        let broken = |error: hyper::Error| Refusal::Final(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::get(path).header(HOST, "istiod").header(ACCEPT, "*/*");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| Refusal::Final(error.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            match response.status() {
                StatusCode::OK => {}
                status @ StatusCode::NOT_FOUND => return Err(Refusal::Elsewhere(status.to_string())),
                status => return Err(Refusal::Final(status.to_string())),
            }
            let body = Limited::new(response.into_body(), MOST).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| Refusal::Final(error.to_string()))
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            done = exchange.as_mut() => done,
            // a connection that ends may still have given all of its answer
            _ended = connection.as_mut() => exchange.await,
        }
    });
    asked.await.unwrap_or_else(|_| Err(Refusal::Elsewhere("no answer in time".to_owned())))
}

async fn debug(address: String, path: &'static str, token: Option<Arc<HeaderValue>>) -> Result<Bytes, String> {
    let mut said = Vec::new();
    for port in DEBUG_PORTS {
        match get(&address, port, path, token.as_deref()).await {
            Ok(bytes) => return Ok(bytes),
            Err(Refusal::Final(reason)) => return Err(format!("{path} on port {port}: {reason}")),
            Err(Refusal::Elsewhere(reason)) => said.push(format!("port {port}: {reason}")),
        }
    }
    Err(format!("{path}: {}", said.join(", ")))
}

async fn metrics(address: String) -> Result<Bytes, String> {
    get(&address, METRICS_PORT, "/metrics", None).await.map_err(|refusal| match refusal {
        Refusal::Elsewhere(reason) | Refusal::Final(reason) => format!("/metrics: {reason}"),
    })
}

fn token(file: &Path) -> Option<Arc<HeaderValue>> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim())).ok()?;
    value.set_sensitive(true);
    Some(Arc::new(value))
}

/// What each of some pods answers, by its name.
async fn ask<T, F: Future<Output = Result<Bytes, String>>>(
    pods: &Objects<PodFacts>,
    question: impl Fn(String) -> F,
    read: impl Fn(&[u8]) -> Result<T, String>,
) -> Vec<evidence::Answer<T>> {
    let asking = pods.iter().map(|((_, name), pod)| {
        let answer = question(pod.address.clone());
        let read = &read;
        async move { (name.clone(), answer.await.and_then(|bytes| read(&bytes))) }
    });
    // made before they are awaited, since they borrow
    let asking: Vec<_> = asking.collect();
    iter(asking).buffer_unordered(AT_ONCE).collect().await
}

/// Evidence of this moment.
pub(super) async fn look(facts: &Facts, pods: &Pods, istio_token: &Path, own: &Result<String, String>) -> Evidence {
    let own = own.clone().and_then(|pem| evidence::own_roots(&pem));
    let mesh_config = mesh_config(&facts.standard);
    let istiods = facts.istiods.required("list of istiod's pods");
    let token = token(istio_token);
    let (trusts, networks, reads) = match istiods {
        Err(reason) => (Shown::Unknown(reason.clone()), Shown::Unknown(reason.clone()), Shown::Unknown(reason)),
        Ok(istiods) => {
            let at = |path| {
                let token = token.clone();
                move |address| debug(address, path, token.clone())
            };
            let (roots, gateways, remote) = tokio::join!(
                ask(istiods, at("/debug/mesh"), parse_mesh),
                ask(istiods, at("/debug/networkz"), parse_networkz),
                ask(istiods, at("/debug/clusterz"), parse_clusterz),
            );
            let networks = evidence::networks(&gateways, &facts.configured());
            (evidence::trusts(&roots, &own), networks, evidence::reads(&remote))
        }
    };
    let samples = |metric: &'static str| move |bytes: &[u8]| Ok(parse_samples(&String::from_utf8_lossy(bytes), metric));
    let credentials = match ready(&pods.proxies, "list of the api-proxy's pods") {
        Ok(proxies) => evidence::credentials(&ask(&proxies, metrics, samples(LAST_USED)).await),
        Err(reason) => Shown::Unknown(reason),
    };
    let routes = match ready(&pods.relays, "list of the relay's pods") {
        // no relay is deployed yet, and there is nothing that it could route
        Ok(relays) if relays.is_empty() && facts.routes == Source::Absent => Shown::Seen(Vec::new()),
        Ok(relays) => evidence::routes(&ask(&relays, metrics, samples(ROUTE_UP)).await),
        Err(reason) => Shown::Unknown(reason),
    };
    let deployments = facts.deployments.required("list of istiod's Deployments");
    let prepared = evidence::prepared(
        deployments.map(|all| all.values().map(|one| &**one).collect()),
        facts.istiods.required("list of istiod's pods").map(|all| all.values().map(|pod| &pod.istiod).collect()),
        shared(facts),
        pods.lacking.clone(),
    );
    Evidence { trusts, networks, reads, routes, prepared, credentials, mesh_config }
}

/// Pods that are ready: others serve nobody.
fn ready(pods: &Source<Objects<PodFacts>>, what: &str) -> Result<Objects<PodFacts>, String> {
    let pods = pods.required(what)?;
    Ok(pods.iter().filter(|(_, pod)| pod.ready).map(|(key, pod)| (key.clone(), pod.clone())).collect())
}
