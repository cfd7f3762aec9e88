//! A server that passes on what it is answered as it is, through the same connections and streams as the roles: what projecting
//! is compared with. It runs in a process of its own, which is this program once more.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use isthmus::server::limits::RoleLimits;
use isthmus::server::stream::{AsIs, Bounds, Ends, Framing, pass};
use isthmus::server::upstream::{Origin, Upstream, UpstreamLimits};
use isthmus::server::{Body, Bound, Certificates, Handler, Reader, whole};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::time::Instant;

/// The address that is passed on, and the folder of the certificate of both.
const ORIGIN: &str = "ISTHMUS_BENCH_ORIGIN";
const FOLDER: &str = "ISTHMUS_BENCH_FOLDER";

struct PassingServer {
    upstream: Upstream,
}

impl Handler for PassingServer {
    type Error = Infallible;

    async fn handle(&self, request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let (mut head, _body) = request.into_parts();
        let reader = head.extensions.remove::<Reader>().unwrap_or_default();
        let asked = Request::builder().uri(head.uri.path_and_query().unwrap().as_str()).body(whole("")).unwrap();
        let answer = self.upstream.send(asked, Duration::from_mins(1)).await.unwrap();
        let until = Instant::now() + Duration::from_mins(5);
        let bounds = Bounds { until, rate: None, framing: Framing::Whole, reader };
        let ends = Ends {
            due: std::future::pending::<Bytes>(),
            revoked: std::future::pending(),
            is_revoked: Box::new(|| false),
        };
        Ok(answer.map(|body| pass(body, AsIs, bounds, ends, |_| ())))
    }
}

/// The program that passes on what this origin answers.
pub(crate) fn command(origin: SocketAddr, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ORIGIN, origin.to_string()).env(FOLDER, folder);
    command
}

/// Serves for ever, in the process that was started for it.
pub(crate) async fn serve(limits: RoleLimits) {
    let Ok(origin) = std::env::var(ORIGIN) else { return };
    let origin: SocketAddr = origin.parse().unwrap();
    let folder = std::env::var(FOLDER).unwrap();
    let read = |file: &str| fs::read_to_string(Path::new(&folder).join(file)).unwrap();
    let (certificate, key) = (read("tls.crt"), read("tls.key"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let origin = Origin::new(&origin.ip().to_string(), origin.port()).unwrap();
    let upstream = Upstream::new(origin, Arc::new(tls), UpstreamLimits::default());
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    println!("{}", bound.address());
    let certificates = Certificates::from_pem(&certificate, &key).unwrap();
    let _running = bound.serve(&certificates, limits.server(true), Arc::new(PassingServer { upstream }));
    std::future::pending::<()>().await;
}
