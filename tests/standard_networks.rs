//! Ours replace the networks of Istio's standard configuration, so they are written when it is known which these are: shown by
//! the cluster or, where it shows no evidence, stated in its spec.

use std::fs;

use crate::support::checkout::Checkout;

const SPECS: &str = "specs/mesh.yaml";
const STATED: &str = "istio: {standardMeshNetworks: none}";
const VM: &str = "istio: {standardMeshNetworks: {vm: {endpoints: [{fromCidr: 10.0.0.0/8}], gateways: [{address: 203.0.113.9, port: 443}]}}}";
const SECRET: &str = "rendered/east/secret-istio-remote-secret-west.yaml";

fn networks(checkout: &Checkout) -> String {
    fs::read_to_string(checkout.path("rendered/east/configmap-isthmus-mesh.yaml")).unwrap_or_default()
}

#[test]
fn a_reader_without_evidence_waits_until_its_spec_states_them() {
    let checkout = Checkout::new();
    checkout.edit(SPECS, &format!("{STATED}, "), "");
    let expected = [
        "render-networks/east  waits for the spec of `east`, which shows no evidence, to state which `meshNetworks`",
        "render-secret/east/west  waits for the spec of `east`",
        "set `istio.standardMeshNetworks` of its Cluster to `none`",
    ];
    for _ in 0..2 {
        let ran = checkout.engine(&["apply"]);
        assert_eq!(ran.code, 0, "{ran}");
        for text in expected {
            assert!(ran.stdout.contains(text), "`{text}` is missing in {ran}");
        }
        assert!(!checkout.path(SECRET).exists() && !networks(&checkout).contains("meshNetworks"));
    }
    // the other reader states its own
    assert!(checkout.path("rendered/west/secret-istio-remote-secret-east.yaml").exists());
    checkout.edit(SPECS, "name: east}\nspec: {", &format!("name: east}}\nspec: {{{VM}, "));
    checkout.engine(&["apply"]).done();
    assert!(checkout.path(SECRET).exists());
    assert!(networks(&checkout).contains("10.0.0.0/8") && networks(&checkout).contains("network-west"));
    checkout.shows(&["apply"], 0, &["No changes."]);
}

/// What is no longer stated stays as it is: nothing says that the networks are gone.
#[test]
fn a_joined_reader_keeps_them_when_they_are_no_longer_stated() {
    for stated in [STATED, VM] {
        let checkout = Checkout::new();
        checkout.edit(SPECS, STATED, stated);
        checkout.engine(&["apply"]).done();
        assert!(checkout.path(SECRET).exists());
        let before = networks(&checkout);
        checkout.edit(SPECS, &format!("{stated}, "), "");
        checkout.shows(&["plan", "--locked"], 0, &["No changes."]);
        checkout.shows(&["apply"], 0, &["No changes."]);
        checkout.edit(SPECS, "name: east}\nspec: {", "name: east}\nspec: {clusterDomain: cluster.local, ");
        checkout.engine(&["apply"]).done();
        assert_eq!(networks(&checkout), before, "{stated}");
    }
}

#[test]
fn an_edit_of_what_is_stated_is_taken() {
    let checkout = Checkout::new();
    checkout.edit(SPECS, STATED, VM);
    checkout.engine(&["apply"]).done();
    checkout.edit(SPECS, "10.0.0.0/8", "10.64.0.0/10");
    checkout.engine(&["apply"]).done();
    assert!(networks(&checkout).contains("10.64.0.0/10") && !networks(&checkout).contains("10.0.0.0/8"));
    let stated = VM.replace("10.0.0.0/8", "10.64.0.0/10");
    checkout.edit(SPECS, &stated, STATED);
    checkout.engine(&["apply"]).done();
    assert!(!networks(&checkout).contains("10.64.0.0/10"));
    checkout.shows(&["apply"], 0, &["No changes."]);
}
