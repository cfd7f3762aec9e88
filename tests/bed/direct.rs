//! A remote secret as `istioctl create-remote-secret` makes it: istiod of the reader asks the peer's apiserver itself.

use base64::Engine as _;
use serde_json::json;

use super::mesh::{BedCluster, BedMesh};
use super::succeed;

const ACCOUNT: &str = "istio-reader-service-account";
const ROLE: &str = "istio-reader-clusterrole-istio-system";

impl BedMesh {
    fn secret(peer: BedCluster) -> String {
        format!("istio-remote-secret-{}", peer.name)
    }

    /// The reader's istiod begins anew, with a secret made by hand in the place of ours.
    pub(super) fn reads_directly(&self, reader: BedCluster, peer: BedCluster) {
        let rule = |group: &str, resources: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"] });
        let rules = [
            rule("", &["endpoints", "pods", "services", "nodes", "namespaces", "secrets", "configmaps"]),
            rule("networking.istio.io", &["*"]),
            rule("gateway.networking.k8s.io", &["gateways"]),
            rule("apiextensions.k8s.io", &["customresourcedefinitions"]),
            rule("discovery.k8s.io", &["endpointslices"]),
            rule("multicluster.x-k8s.io", &["serviceexports", "serviceimports"]),
        ];
        let rbac = "rbac.authorization.k8s.io";
        self.apply(peer, &json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT, "namespace": "istio-system" } },
            { "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": { "name": ROLE }, "rules": rules },
            { "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": ROLE },
                "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": ROLE },
                "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": "istio-system" }] },
        ] }));
        let mut token = self.kubectl(peer);
        token.args(["create", "token", ACCOUNT, "--namespace=istio-system", "--duration=10h"]);
        let token = succeed(&mut token).trim().to_owned();
        let base64 = |text: &[u8]| base64::prelude::BASE64_STANDARD.encode(text);
        let ca = std::fs::read(self.folder(peer).join("api-ca.crt")).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": peer.name, "preferences": {},
            "clusters": [{ "name": peer.name, "cluster": {
                "server": format!("https://{}", peer.address(2, 6443)), "certificate-authority-data": base64(&ca) } }],
            "contexts": [{ "name": peer.name, "context": { "cluster": peer.name, "user": peer.name } }],
            "users": [{ "name": peer.name, "user": { "token": token } }],
        });
        let mut data = serde_json::Map::new();
        data.insert(peer.name.to_owned(), json!(base64(config.to_string().as_bytes())));
        self.stop("istiod", reader);
        self.without_secret(reader, peer);
        self.apply(reader, &json!({
            "apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": { "name": Self::secret(peer), "namespace": "istio-system",
                "labels": { "istio/multiCluster": "true" }, "annotations": { "networking.istio.io/cluster": peer.name } },
        }));
        self.istiod(reader, true);
        self.synced(true);
    }

    /// The same with our own secret, by way of relay and api-proxy.
    pub(super) fn reads_through_the_relay(&self, reader: BedCluster, peer: BedCluster) {
        self.stop("istiod", reader);
        self.without_secret(reader, peer);
        self.sync(reader, &[]);
        self.istiod(reader, true);
        self.synced(true);
    }

    fn without_secret(&self, reader: BedCluster, peer: BedCluster) {
        let mut delete = self.kubectl(reader);
        succeed(delete.args([
            "delete",
            "secret",
            &Self::secret(peer),
            "--namespace=istio-system",
            "--ignore-not-found",
        ]));
    }
}
