//! An api-proxy that gives each peer whatever the apiserver has, as a peer may run that means no good, or another one than ours.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use isthmus::server::limits::RoleLimits;
use isthmus::server::{Body, BodyError, Bound, Certificates, Handler, Running};
use tokio::runtime::Runtime;

use super::mesh::{BedCluster, BedMesh};

/// Passes on what an apiserver has, whoever asks.
pub(super) struct LyingProxy {
    pub(super) client: reqwest::Client,
    pub(super) apiserver: String,
}

/// What serves in the place of the api-proxy for as long as this is there.
pub(super) struct LyingServer {
    _running: Running,
    _runtime: Runtime,
}

impl Handler for LyingProxy {
    type Error = Infallible;

    async fn handle(&self, request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path_and_query().unwrap().as_str();
        Ok(self.pass(path, request.headers(), &["accept"]).await)
    }
}

impl LyingProxy {
    /// Asks for a path with some of the headers, and gives the answer as it comes.
    pub(super) async fn pass(&self, path: &str, headers: &HeaderMap, passed: &[&str]) -> Response<Body> {
        let mut asked = self.client.get(format!("{}{path}", self.apiserver));
        for (name, value) in passed.iter().filter_map(|name| Some((*name, headers.get(*name)?))) {
            asked = asked.header(name, value);
        }
        let answer = asked.send().await.unwrap();
        let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
        let frames = answer.bytes_stream().map(|chunk| chunk.map(Frame::data).map_err(|_| BodyError::BrokenOff));
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        *response.status_mut() = status;
        if let Some(kind) = kind {
            response.headers_mut().insert("content-type", kind);
        }
        response
    }
}

impl BedMesh {
    /// What a cluster's apiserver has, asked as its administrator.
    pub(super) fn apiserver(&self, cluster: BedCluster) -> LyingProxy {
        let read = |file: &str| fs::read(self.folder(cluster).join(file)).unwrap();
        let identity = reqwest::Identity::from_pem(&[read("admin.key"), read("admin.crt")].concat()).unwrap();
        let ca = reqwest::Certificate::from_pem(&read("api-ca.crt")).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).identity(identity).build().unwrap();
        LyingProxy { client, apiserver: format!("https://{}", cluster.address(2, 6443)) }
    }

    /// Takes the place of a cluster's api-proxy.
    pub(super) fn lies(&self, cluster: BedCluster) -> LyingServer {
        self.stop("proxy", cluster);
        let proxy = self.apiserver(cluster);
        let text = |file: &str| fs::read_to_string(self.folder(cluster).join(file)).unwrap();
        let certificates = Certificates::from_pem(&text("proxy-files/tls.crt"), &text("proxy-files/tls.key")).unwrap();
        let runtime = Runtime::new().unwrap();
        let running = runtime.block_on(async {
            let bound = Bound::to(cluster.address(30, 8443)).await.unwrap();
            bound.serve(&certificates, RoleLimits::of_proxy().server(true), Arc::new(proxy))
        });
        LyingServer { _running: running, _runtime: runtime }
    }
}
