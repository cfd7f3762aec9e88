//! What fails for a while between two clusters that joined by agents, while requests cross. `ISTHMUS_OUTAGE` says for how many seconds
//! (2); `just drill` has two minutes.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use isthmus::server::limits::RoleLimits;
use isthmus::server::{Body, Bound, Certificates, Handler};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::mesh::{BedCluster, BedMesh};
use super::succeed;

/// Answers that are none, one after the other, whatever is asked for.
struct GarbageExporter(AtomicUsize);

impl Handler for GarbageExporter {
    type Error = Infallible;

    async fn handle(&self, _request: Request<Incoming>, _from: SocketAddr) -> Result<Response<Body>, Infallible> {
        let answers: [&[u8]; 6] =
            [b"", b"null", b"{\"clusterUUID\":", b"<html>504</html>", b"[[[[[[[[", b"\xff\xfe\x00"];
        let answer = answers[self.0.fetch_add(1, Ordering::Relaxed) % answers.len()];
        let body = Full::new(Bytes::from_static(answer)).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

fn outage() -> Duration {
    let seconds = std::env::var("ISTHMUS_OUTAGE").map_or(2, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Has a cluster's agent read a peer anew, by an edit that changes nothing.
fn poll(mesh: &BedMesh, cluster: BedCluster, peer: BedCluster, edit: &str) {
    let spec = json!({ "spec": { "share": { "namespaces": ["*"], "except": ["kube-system", edit] } } });
    let patch = format!("--patch={spec}");
    succeed(mesh.kubectl(cluster).args(["patch", "istiomulticlusters", peer.name, "--type=merge", &patch]));
}

/// The remote secret by which a cluster reads a peer.
fn secret(mesh: &BedMesh, cluster: BedCluster, peer: BedCluster) -> Value {
    mesh.object(cluster, "secret", &format!("istio-remote-secret-{}", peer.name))["data"].clone()
}

impl BedMesh {
    /// West's metadata cannot be read for a while, and can be read again.
    fn is_silent(&self, (east, west): (BedCluster, BedCluster), edit: &str) {
        let begun = Instant::now();
        poll(self, east, west, edit);
        let failed = self.condition(east, "west", "PublicMetadataExchangeReady", "False", None);
        eprintln!("bed: {edit}: {} {}", failed["reason"], failed["message"]);
        thread::sleep(outage().saturating_sub(begun.elapsed()));
        let kept = self.condition(east, "west", "SecretRendered", "True", None);
        assert_eq!(kept["reason"], "Joined", "{kept}");
    }

    /// All that may fail for a while between two agents; no request is lost, and all is as it was.
    pub(super) fn loses_nothing_by_outages(&self) {
        let (east, west) = (self.cluster("east"), self.cluster("west"));
        let both = [(east, west), (west, east)];
        let before = both.map(|(cluster, peer)| secret(self, cluster, peer));
        let exporter = |cluster| {
            self.run(cluster, "exporter", 20);
            self.ready(cluster, 20);
            poll(self, east, west, "exporter-is-back");
            self.condition(east, "west", "PublicMetadataExchangeReady", "True", None);
            self.condition(east, "west", "PrivateMetadataExchangeReady", "True", None);
        };
        self.loses_nothing_while("west's exporter is down", || {
            self.stop("exporter", west);
            self.is_silent((east, west), "exporter-down");
            exporter(west);
        });
        self.loses_nothing_while("west's metadata is garbage", || {
            self.stop("exporter", west);
            let text = |file: &str| fs::read_to_string(self.folder(west).join("exporter-files").join(file)).unwrap();
            let certificates = Certificates::from_pem(&text("tls.crt"), &text("tls.key")).unwrap();
            let runtime = Runtime::new().unwrap();
            let garbage = Arc::new(GarbageExporter(AtomicUsize::new(0)));
            let served = garbage.clone();
            let running = runtime.block_on(async {
                let bound = Bound::to(west.address(20, 8443)).await.unwrap();
                bound.serve(&certificates, RoleLimits::of_exporter().server(false), served)
            });
            self.is_silent((east, west), "metadata-is-garbage");
            assert!(garbage.0.load(Ordering::Relaxed) > 0, "garbage was asked for");
            drop((running, runtime));
            exporter(west);
        });
        self.loses_nothing_while("api-proxy and relay of each cluster are rolled", || {
            for (cluster, _) in both {
                for (role, host) in [("proxy", 30), ("agent", 40)] {
                    self.stop(role, cluster);
                    self.run(cluster, role, host);
                    self.ready(cluster, host);
                }
            }
        });
        self.loses_nothing_while("east's istiod is restarted", || {
            self.stop("istiod", east);
            self.istiod(east, true);
            self.synced(true);
        });
        self.loses_nothing_while("an object is applied a hundred times as it is", || {
            let objects = vec![self.declaration(west); 100];
            self.apply(east, &json!({ "apiVersion": "v1", "kind": "List", "items": objects }));
        });
        for (cluster, peer) in both {
            self.condition(cluster, peer.name, "Reconciled", "True", None);
            self.condition(cluster, peer.name, "ControlPlaneSynced", "True", None);
        }
        assert_eq!(both.map(|(cluster, peer)| secret(self, cluster, peer)), before, "remote secrets are as they were");
    }
}
