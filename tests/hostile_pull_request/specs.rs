//! Edits of specs, templates and policy: each is on top with its old and its new value, and with what it allows.

use rstest::rstest;

use super::{BASE, EAST, IMAGE, Merged, SPECS, STATED, judged, main, overrides};

const UUID: &str = "00000000-1111-4222-8333-444444444444";
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[rstest]
#[case::endpoint(
    "endpoint",
    "file://metadata/east",
    "https://evil.example.com/metadata",
    0,
    "metadata.endpoint",
    Merged::Followed
)]
#[case::pin_uuid("pin_uuid", EAST, "PIN_UUID", 0, "pin.clusterUUID", Merged::Followed)]
#[case::pin_root("pin_root", EAST, "PIN_ROOT", 0, "pin.rootCA", Merged::Followed)]
#[case::allow_hosts("allow_hosts", EAST, "ALLOW_HOSTS", 0, "allow.apiHosts", Merged::Followed)]
#[case::allow_addresses("allow_addresses", EAST, "ALLOW_ADDRESSES", 0, "allow.addresses", Merged::Followed)]
#[case::gateways("gateways", EAST, "GATEWAYS", 0, "gateways", Merged::Followed)]
#[case::api_host("api_host", EAST, "API_HOST", 0, "api.host", Merged::Followed)]
#[case::image("image", IMAGE, "ghcr.io/x/engine:evil", 0, "multicluster.image", Merged::Followed)]
#[case::image_not_admitted(
    "image_not_admitted",
    IMAGE,
    "evil.example.com/engine:1",
    4,
    "images.allow",
    Merged::Stopped(4)
)]
#[case::exposed(
    "exposed",
    "apiHost: api",
    "expose: NodePort, apiHost: api",
    0,
    "multicluster.expose",
    Merged::Followed
)]
#[case::trusted_proxies(
    "trusted_proxies",
    "apiHost: api",
    "trustedProxies: [0.0.0.0/0], apiHost: api",
    0,
    "multicluster.trustedProxies",
    Merged::Followed
)]
#[case::admission_policy(
    "admission_policy",
    "apiHost: api",
    "admissionPolicy: false, apiHost: api",
    0,
    "multicluster.admissionPolicy",
    Merged::Followed
)]
#[case::tls_secret(
    "tls_secret",
    "apiHost: api",
    "tlsSecret: evil, apiHost: api",
    0,
    "multicluster.tlsSecret",
    Merged::Followed
)]
#[case::reconciler(
    "reconciler",
    "istio: {config: helmValues}",
    "reconciler: external",
    4,
    "reconciler",
    Merged::Stopped(4)
)]
#[case::namespace("namespace", STATED, "NAMESPACE", 0, "links leave and join anew", Merged::Kept)]
#[case::merged_domains("merged_domains", EAST, "MERGED", 0, "mergeTrustDomains", Merged::Followed)]
#[case::cluster_id("cluster_id", EAST, "CLUSTER_ID", 0, "links leave and join anew", Merged::Followed)]
#[case::network("network", EAST, "NETWORK", 0, "links leave and join anew", Merged::Followed)]
#[case::trust_domain("trust_domain", EAST, "TRUST_DOMAIN", 0, "links leave and join anew", Merged::Followed)]
#[case::settle("settle", EAST, "SETTLE", 0, "settle", Merged::Followed)]
#[case::distrust("distrust", EAST, "DISTRUST", 0, "distrust", Merged::Followed)]
#[case::prepared("prepared", STATED, "PREPARED", 0, "istio.prepared", Merged::Followed)]
#[case::paused("paused", EAST, "PAUSED", 0, "state of cluster `east`", Merged::Followed)]
#[case::leaving("leaving", EAST, "LEAVING", 0, "2 links close", Merged::Followed)]
#[case::lost("lost", EAST, "LOST", 0, "2 links close", Merged::Followed)]
#[case::pairs("pairs", "acceptForeignRoots: true", "PAIRS", 0, "2 links close", Merged::Kept)]
#[case::first_contact(
    "first_contact",
    "acceptForeignRoots: true",
    "FIRST_CONTACT",
    0,
    "firstContact",
    Merged::Followed
)]
#[case::require_token(
    "require_token",
    "acceptForeignRoots: true",
    "REQUIRE_TOKEN",
    4,
    "requireToken",
    Merged::Stopped(4)
)]
#[case::engine_keys("engine_keys", "acceptForeignRoots: true", "ENGINE_KEYS", 0, "engineKeys", Merged::Followed)]
#[case::no_foreign_roots(
    "no_foreign_roots",
    "acceptForeignRoots: true",
    "acceptForeignRoots: false",
    1,
    "acceptForeignRoots",
    Merged::Stopped(1)
)]
fn a_field_of_a_spec(
    #[case] name: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] exit: i32,
    #[case] reported: &str,
    #[case] merged: Merged,
) {
    let checkout = main();
    let to = match to {
        "PIN_UUID" => format!("{EAST}, pin: {{clusterUUID: {UUID}}}"),
        "PIN_ROOT" => format!("{EAST}, pin: {{rootCA: [\"{DIGEST}\"]}}"),
        "ALLOW_HOSTS" => format!("{EAST}, allow: {{apiHosts: [\"*.example.com\"]}}"),
        "ALLOW_ADDRESSES" => format!("{EAST}, allow: {{addresses: [0.0.0.0/0]}}"),
        "GATEWAYS" => format!("{EAST}, gateways: [{{address: 203.0.113.66, port: 15443}}]"),
        "API_HOST" => format!("{EAST}, api: {{host: evil.example.com}}"),
        "NAMESPACE" => STATED.replace('}', ", namespace: evil}"),
        "MERGED" => format!("{EAST}, mergeTrustDomains: true"),
        "CLUSTER_ID" => format!("{EAST}, clusterID: orient"),
        "NETWORK" => format!("{EAST}, network: orient"),
        "TRUST_DOMAIN" => format!("{EAST}, trustDomain: orient.example"),
        "SETTLE" => format!("{EAST}, settle: 0s"),
        "DISTRUST" => format!("{EAST}, distrust: [\"{DIGEST}\"]"),
        "PREPARED" => STATED.replace('}', ", prepared: true}"),
        "PAUSED" => format!("{EAST}, state: paused"),
        "LEAVING" => format!("{EAST}, state: leaving"),
        "LOST" => format!("{EAST}, state: lost"),
        "PAIRS" => "acceptForeignRoots: true, topology: pairs, pairs: []".to_owned(),
        "FIRST_CONTACT" => "acceptForeignRoots: true, firstContact: approve".to_owned(),
        "REQUIRE_TOKEN" => "acceptForeignRoots: true, credentials: {mode: relay, requireToken: true}".to_owned(),
        "ENGINE_KEYS" => format!("acceptForeignRoots: true, engineKeys: [{{id: evil, publicKey: \"{KEY}\"}}]"),
        other => other.to_owned(),
    };
    checkout.edit(SPECS, from, &to);
    judged(&checkout, &format!("spec_{name}"), exit, &[reported], merged);
}

/// A public key that someone has the private half of.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n-----END PUBLIC KEY-----\\n";

/// Certificates in a file beside the specs: the file is edited, and no spec.
#[test]
fn a_ca_that_a_spec_names() {
    let checkout = main();
    checkout.git(&["switch", "-q", "main"]);
    let root = |cluster: &str| {
        let path = checkout.path(&format!("metadata/{cluster}/public/public.json"));
        let document: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        document["rootCA"].as_str().unwrap().to_owned()
    };
    checkout.edit(SPECS, "\"file://metadata/east\"}", "\"file://metadata/east\", ca: {file: ca/east.pem}}");
    checkout.write("ca/east.pem", root("east").as_bytes());
    checkout.engine(&["apply"]).done();
    super::commit(&checkout, &["status", "-s"], "a CA");
    checkout.git(&["switch", "-q", "-C", "pull"]);
    checkout.write("ca/east.pem", root("west").as_bytes());
    judged(&checkout, "spec_ca_file", 0, &["metadata.ca of cluster `east`", "<certificate sha256:"], Merged::Followed);
}

/// Once its TLS verifies, whoever answers there is in the mesh, and everybody trusts its root CA.
#[test]
fn a_cluster_that_is_new() {
    let checkout = main();
    let text = std::fs::read_to_string(checkout.path(SPECS)).unwrap();
    let document = "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {name: north}\nspec: {metadata: {endpoint: \"https://evil.example.com/metadata\"}, reconciler: rendered, multicluster: {image: ghcr.io/x/engine:1, apiHost: a.example.com}}\n";
    checkout.write(SPECS, format!("{text}{document}").as_bytes());
    let reported = ["new cluster `north`", "its peers (`east`, `west`) trust", "4 links open"];
    judged(&checkout, "spec_new_cluster", 0, &reported, Merged::Followed);
}

#[test]
fn a_cluster_whose_document_is_gone() {
    let checkout = main();
    let text = std::fs::read_to_string(checkout.path(SPECS)).unwrap();
    let at = text.rfind("---\n").unwrap();
    checkout.write(SPECS, &text.as_bytes()[..at]);
    judged(&checkout, "spec_document_gone", 4, &["cluster `west` is in the lock"], Merged::Stopped(4));
}

/// What a cluster known from files would publish.
#[test]
fn a_document_of_an_endpoint_of_files() {
    let checkout = main();
    let path = "metadata/west/private/multicluster.json";
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(checkout.path(path)).unwrap()).unwrap();
    document["ingressGateways"][0]["address"] = "203.0.113.66".into();
    checkout.write(path, document.to_string().as_bytes());
    judged(&checkout, "document", 0, &[path, "203.0.113.66", "the next run reads it"], Merged::Followed);
}

#[rstest]
#[case::replicas("replicas", "replicas: {{ replicas|tojson }}", "replicas: 0", "spec.replicas")]
#[case::label(
    "label",
    "metadata:\n",
    "metadata:\n  annotations: {prometheus.io/scrape: \"true\"}\n",
    "metadata.annotations"
)]
#[case::node("node", "      containers:", "      nodeSelector: {evil: \"true\"}\n      containers:", "nodeSelector")]
#[case::tolerations(
    "tolerations",
    "      containers:",
    "      tolerations: [{operator: Exists}]\n      containers:",
    "tolerations"
)]
#[case::affinity("affinity", "      containers:", "      affinity: {nodeAffinity: {}}\n      containers:", "affinity")]
#[case::priority(
    "priority",
    "      containers:",
    "      priorityClassName: evil\n      containers:",
    "priorityClassName"
)]
#[case::pull_secrets(
    "pull_secrets",
    "      containers:",
    "      imagePullSecrets: [{name: evil}]\n      containers:",
    "imagePullSecrets"
)]
fn a_field_of_a_template(#[case] name: &str, #[case] from: &str, #[case] to: &str, #[case] reported: &str) {
    let checkout = main();
    overrides(&checkout, "relay/deployment.yaml", from, to);
    judged(&checkout, &format!("template_{name}"), 0, &["templates/relay/deployment.yaml", reported], Merged::Followed);
}

#[rstest]
#[case::traffic_policy("traffic_policy", "{{ external_traffic_policy|tojson }}", "Cluster", "externalTrafficPolicy")]
#[case::load_balancer("load_balancer", "spec:\n", "spec:\n  loadBalancerClass: evil\n", "loadBalancerClass")]
#[case::annotation(
    "service_annotation",
    "metadata:\n",
    "metadata:\n  annotations: {service.beta.kubernetes.io/evil: \"0.0.0.0/0\"}\n",
    "service.beta.kubernetes.io/evil"
)]
fn a_field_of_a_services_template(#[case] name: &str, #[case] from: &str, #[case] to: &str, #[case] reported: &str) {
    let checkout = main();
    overrides(&checkout, "proxy/service.yaml", from, to);
    judged(&checkout, &format!("template_{name}"), 0, &["templates/proxy/service.yaml", reported], Merged::Followed);
}

#[test]
fn an_override_that_is_taken_out() {
    let checkout = main();
    std::fs::remove_file(checkout.path("templates/exporter/deployment.yaml")).unwrap();
    judged(&checkout, "template_gone", 0, &["templates/exporter/deployment.yaml", "spec.replicas"], Merged::Followed);
}

#[test]
fn a_template_that_changes_what_it_may_not() {
    let checkout = main();
    overrides(&checkout, "relay/service.yaml", "type: ClusterIP", "type: LoadBalancer");
    judged(&checkout, "template_refused", 4, &["spec.type"], Merged::Stopped(4));
}

#[rstest]
#[case::looser("policy_looser", "[ghcr.io/x/engine]", "[ghcr.io/x/engine, evil.example.com/*]", "evil.example.com/*")]
#[case::rule_gone("policy_rule_gone", "  images: {allow: [ghcr.io/x/engine]}\n", "", "nothing limits that any more")]
fn a_rule_of_the_policy(#[case] name: &str, #[case] from: &str, #[case] to: &str, #[case] reported: &str) {
    let checkout = main();
    checkout.edit("policy.yaml", from, to);
    judged(&checkout, name, 0, &["policy.yaml: images.allow", reported], Merged::Followed);
}

#[test]
fn a_policy_that_is_deleted() {
    let checkout = main();
    std::fs::remove_file(checkout.path("policy.yaml")).unwrap();
    let reported = ["policy.yaml: images.allow", "policy.yaml: clusters.reconcilers", "nothing limits that any more"];
    judged(&checkout, "policy_gone", 0, &reported, Merged::Followed);
}

/// A remote secret made by hand is listed for whatever syncs the folder, so that it is seen.
#[test]
fn a_secret_that_is_given_to_the_mesh() {
    let checkout = main();
    super::apart(&checkout);
    checkout.edit(SPECS, "pairs: []", "pairs: [[east, west]]");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: istio-remote-secret-west, namespace: istio-system, labels: {istio/multiCluster: \"true\"}, annotations: {isthmus.dev/adopt: shop, networking.istio.io/cluster: west}}\nstringData: {west: evil}\n";
    checkout.write("rendered/east/secret-istio-remote-secret-west.yaml", secret.as_bytes());
    judged(&checkout, "secret_by_hand", 0, &["secret-istio-remote-secret-west.yaml", "made by hand"], Merged::Followed);
}

/// What is only moved or commented asks for the same.
#[test]
fn comments_and_order_are_no_change() {
    let checkout = main();
    let text = std::fs::read_to_string(checkout.path(SPECS)).unwrap();
    checkout.write(SPECS, format!("# nothing to see\n{text}").as_bytes());
    let output = checkout.engine(&[BASE, &["--detailed-exitcode"]].concat()).done();
    assert!(output.contains("No changes."), "{output}");
}
