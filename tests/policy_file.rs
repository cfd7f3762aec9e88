//! `policy.yaml`, on the binary: each rule refuses what it does not admit, with its line, and everything else continues.

use rstest::rstest;
use serde_json::Value;

use crate::support::checkout::Checkout;

const PLAN: &[&str] = &["plan", "--locked"];
const IMAGE: &str = "ghcr.io/x/engine:1";

/// Two joined clusters, of which east runs components of ours.
fn checkout() -> Checkout {
    let checkout = Checkout::joined();
    let components = format!(
        "metadata: {{endpoint: \"file://metadata/east\"}}, multicluster: {{image: {IMAGE}, apiHost: api.east.example.com}}}}"
    );
    checkout.edit("specs/mesh.yaml", "metadata: {endpoint: \"file://metadata/east\"}}", &components);
    checkout.engine(&["apply"]).done();
    checkout
}

fn policy(checkout: &Checkout, spec: &str) {
    let text = format!("apiVersion: isthmus.dev/v1alpha1\nkind: Policy\nspec:\n  {spec}\n");
    checkout.write("policy.yaml", text.as_bytes());
}

#[rstest]
#[case::image("images: {allow: [ghcr.io/y/*]}", IMAGE)]
#[case::image_of_another_name("images: {allow: [ghcr.io/x/eng]}", IMAGE)]
#[case::digest("images: {requireDigest: true}", "images.requireDigest")]
#[case::uuid("clusters: {uuids: [00000000-0000-4000-8000-000000000000]}", "clusters.uuids")]
#[case::no_uuid("clusters: {uuids: []}", "clusters.uuids")]
#[case::host("clusters: {hosts: [\"*.west.example.com\"]}", "api.east.example.com")]
#[case::trust_domain("clusters: {trustDomains: [other.example]}", "clusters.trustDomains")]
#[case::root_ca(
    "clusters: {rootCAs: [\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"]}",
    "clusters.rootCAs"
)]
#[case::reconciler("clusters: {reconcilers: [deckhouse]}", "`rendered`")]
#[case::namespace("clusters: {namespaces: [mesh-system]}", "`istio-system`")]
#[case::engine_key("engineKeys: []", "an engine key")]
#[case::first_contact("firstContact: approve", "`tls`")]
fn what_a_rule_does_not_admit_is_refused(#[case] rule: &str, #[case] named: &str) {
    let checkout = checkout();
    if rule.starts_with("engineKeys") {
        checkout.engine(&["apply", "--create-keys"]).done();
    }
    if rule.contains("trustDomains") {
        checkout.edit("specs/mesh.yaml", "multicluster:", "trustDomain: cluster.local, multicluster:");
    }
    policy(&checkout, rule);
    let ran = checkout.refuses(PLAN, 4, &["of the policy admits", named, "policy.yaml:4:"]);
    assert!(ran.stdout.is_empty(), "{ran}");
    checkout.refuses(&["apply"], 4, &["policy.yaml:4:"]);
    checkout.refuses(&["policy", "test"], 4, &["policy.yaml:4:"]);
    let ran = checkout.refuses(&["argocd", "generate", "--cluster", "east"], 4, &["policy.yaml:4:"]);
    assert!(ran.stdout.is_empty(), "{ran}");
    checkout.refuses(&["watch", "--once"], 4, &["policy.yaml:4:"]);
    // who looks for what is wrong is still shown the state
    checkout.engine(&["status"]).done();
    checkout.engine(&["graph"]).done();
    let ran = checkout.engine(&["plan", "--locked", "--output", "json"]);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["findings"][0]["code"], "policy-violated", "{ran}");
}

#[rstest]
#[case::none("https://east.example.com", "evidence: none", "`evidence: none`")]
#[case::attested("https://east.example.com", "evidence: {attested: [reads]}", "`evidence: {attested: [reads]}`")]
#[case::prepared("https://east.example.com", "istio: {prepared: true}", "`istio.prepared: true`")]
#[case::file("file://metadata/east", "istio: {}", "`metadata.endpoint: file://metadata/east`")]
fn evidence_is_done_without_by_those_who_may(#[case] endpoint: &str, #[case] stated: &str, #[case] named: &str) {
    let checkout = Checkout::new();
    checkout.edit("specs/mesh.yaml", "istio: {standardMeshNetworks: none}, ", "");
    let spec = format!("{endpoint}\"}}, multicluster: {{image: {IMAGE}, apiHost: api.east.example.com}}, {stated}}}");
    checkout.edit("specs/mesh.yaml", "file://metadata/east\"}}", &spec);
    policy(&checkout, "clusters: {withoutEvidence: [west]}");
    checkout.refuses(PLAN, 4, &["may do without evidence", named, "policy.yaml:4:"]);
    policy(&checkout, "clusters: {withoutEvidence: [east, west]}");
    checkout.engine(PLAN).done();
}

#[test]
fn what_is_admitted_continues() {
    let checkout = checkout();
    policy(
        &checkout,
        "images: {allow: [ghcr.io/x/engine]}\n  clusters: {hosts: [\"*.example.com\"], reconcilers: [rendered], namespaces: [istio-system], withoutEvidence: [east, west]}\n  firstContact: tls",
    );
    let ran = checkout.engine(&["policy", "test"]);
    assert!(ran.code == 0 && ran.stderr.contains("policy.yaml admits the mesh and its 2 clusters"), "{ran}");
    std::fs::remove_file(checkout.path("policy.yaml")).unwrap();
    let ran = checkout.engine(&["policy", "test"]);
    assert!(ran.code == 0 && ran.stderr.contains("there is no policy.yaml"), "{ran}");
}

#[test]
fn whoever_the_policy_does_not_admit_never_comes_into_the_lock_and_the_others_do() {
    let checkout = Checkout::new();
    let metadata = std::fs::read_to_string(checkout.path("metadata/east/public/public.json")).unwrap();
    let uuid = serde_json::from_str::<Value>(&metadata).unwrap()["clusterUUID"].as_str().unwrap().to_owned();
    policy(&checkout, &format!("clusters: {{uuids: [{uuid}]}}"));
    let ran = checkout.engine(&["apply"]);
    assert_eq!(ran.code, 4, "{ran}");
    assert!(ran.stdout.contains("trust change of `west`: refused") && ran.stdout.contains("policy.yaml:4:"), "{ran}");
    assert!(checkout.path("lock/clusters/east.yaml").exists() && !checkout.path("lock/clusters/west.yaml").exists());
}

#[rstest]
#[case::field("imgaes: {}", "unknown field `imgaes`", "policy.yaml:4:3")]
#[case::pattern("images: {allow: [engine]}", "expected a registry and a repository", "policy.yaml:4:20")]
#[case::flag("images: {requireDigest: yes}", "expected `true` or `false`", "policy.yaml:4:27")]
#[case::uuid("clusters: {uuids: [a]}", "expected a cluster UUID, found `a`", "policy.yaml:4:22")]
#[case::word("firstContact: never", "expected one of", "policy.yaml:4:17")]
#[case::second(
    "firstContact: tls\n---\napiVersion: isthmus.dev/v1alpha1\nkind: Policy\nspec: {}",
    "one policy",
    "policy.yaml:6:1"
)]
fn a_policy_that_is_none_stops_everything(#[case] rule: &str, #[case] expected: &str, #[case] place: &str) {
    let checkout = checkout();
    policy(&checkout, rule);
    checkout.refuses(PLAN, 1, &[expected, place]);
    checkout.refuses(&["policy", "test"], 1, &[expected, place]);
}

#[test]
fn a_policy_that_cannot_be_read_is_not_taken_for_none() {
    let checkout = checkout();
    std::os::unix::fs::symlink("/etc/passwd", checkout.path("policy.yaml")).unwrap();
    let ran = checkout.engine(PLAN);
    assert!(ran.code != 0 && ran.stderr.contains("policy.yaml"), "{ran}");
    std::fs::remove_file(checkout.path("policy.yaml")).unwrap();
    checkout.write("policy.yaml", b"");
    checkout.refuses(PLAN, 1, &["policy.yaml:1:1"]);
}

#[test]
fn a_pull_request_is_judged_by_the_policy_of_its_base() {
    let checkout = checkout();
    policy(&checkout, "images: {allow: [ghcr.io/x/engine]}");
    checkout.git(&["init", "-q", "-b", "main"]);
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "one"]);
    let base: &[&str] = &["plan", "--base", "main"];
    let ran = checkout.engine(base);
    assert!(ran.code == 0 && !ran.stdout.contains("policy.yaml"), "{ran}");
    // looser, and used at once
    policy(&checkout, "images: {allow: [evil.example.com/*]}");
    checkout.edit("specs/mesh.yaml", IMAGE, "evil.example.com/engine:1");
    checkout.refuses(base, 4, &["evil.example.com/engine:1", "main:policy.yaml:4:"]);
    checkout.engine(PLAN).done();
    std::fs::remove_file(checkout.path("policy.yaml")).unwrap();
    checkout.refuses(base, 4, &["main:policy.yaml:4:"]);
    // a change of the policy alone is told
    checkout.edit("specs/mesh.yaml", "evil.example.com/engine:1", IMAGE);
    let ran = checkout.engine(base);
    assert!(ran.code == 0 && ran.stdout.contains("policy.yaml"), "{ran}");
    assert!(!ran.stdout.contains("No changes"), "{ran}");
}

const WHOLE: &str = "apiVersion: isthmus.dev/v1alpha1
kind: Policy
spec:
  images: {allow: [ghcr.io/x/*, \"registry.example.com:5000/mesh/engine\", \"localhost/*\"], requireDigest: false}
  clusters:
    uuids: [0b5c5f3e-8a1d-4e57-9c57-6f0c5b7c3e11]
    hosts: [\"*.example.com\"]
    trustDomains: [cluster.local]
    rootCAs: []
    reconcilers: [rendered, deckhouse, external]
    namespaces: [istio-system]
    scopes: [api, private-multicluster]
    withoutEvidence: [east, west]
  engineKeys: []
  firstContact: tls
  rootChanges: review
";

/// The policy with one change, as a value, and what the engine makes of it.
fn changed(good: &str, bad: &str) -> (Value, i32) {
    assert!(WHOLE.contains(good), "{good}");
    let text = WHOLE.replacen(good, bad, 1);
    let checkout = Checkout::new();
    checkout.write("policy.yaml", text.as_bytes());
    let ran = checkout.engine(&["plan", "--locked"]);
    (serde_yaml::from_str(&text).unwrap(), ran.code)
}

fn schema() -> jsonschema::Validator {
    let printed = Checkout::new().engine(&["schema", "policy"]).done();
    jsonschema::draft202012::new(&serde_json::from_str(&printed).unwrap()).unwrap()
}

#[test]
fn the_schema_admits_what_is_read() {
    let (value, _) = changed("Policy", "Policy");
    let errors: Vec<_> = schema().iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[rstest]
#[case("kind: Policy", "kind: Police")]
#[case("images:", "image:")]
#[case("ghcr.io/x/*", "ghcr.io")]
#[case("ghcr.io/x/*", "library/engine")]
#[case("ghcr.io/x/*", "ghcr.io/x*")]
#[case("requireDigest: false", "requireDigest: \"no\"")]
#[case("0b5c5f3e", "0B5C5F3E")]
#[case("rootCAs: []", "rootCAs: [\"sha256:00\"]")]
#[case("[rendered, deckhouse, external]", "[agents]")]
#[case("scopes: [api", "scopes: [all")]
#[case("withoutEvidence: [east", "withoutEvidence: [East")]
#[case("firstContact: tls", "firstContact: never")]
#[case("rootChanges: review", "rootChanges: announced")]
fn the_schema_and_the_engine_refuse_the_same(#[case] good: &str, #[case] bad: &str) {
    let (value, code) = changed(good, bad);
    assert_eq!(code, 1, "the engine admits {bad}");
    assert!(!schema().is_valid(&value), "the schema admits {bad}");
}
