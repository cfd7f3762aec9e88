//! Trust changes: what a cluster publishes differs from what is known of it, pinned or allowed, or is another's.

use isthmus::types::explanation::Code;
use isthmus::types::key::PrivateKey;
use serde_json::{Value, json};

use super::Scenario;
use super::documents::{PLAN, PRIVATE, PUBLIC, edit};
use crate::support::checkout::Checkout;
use crate::support::environment::Ran;
use crate::support::peer::Ca;

const UUID: &str = "0e9c1f7a-3c5e-4a43-8b1c-6d2f9a7e5b10";
const EAST: &str = "metadata: {endpoint: \"file://metadata/east\"}}";

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "first contact that has to be approved",
        codes: &[Code::FirstContact, Code::TrustChangeHeldBack],
        run: |_| {
            let checkout = Checkout::new();
            checkout.edit(
                "specs/mesh.yaml",
                "acceptForeignRoots: true",
                "acceptForeignRoots: true, firstContact: approve",
            );
            vec![checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a public document with all that is trusted changed",
        codes: &[
            Code::ClusterUuidChanged,
            Code::AuthnKeyChanged,
            Code::FurtherAuthnKeyChanged,
            Code::RootCaChanged,
            Code::RelayCaChanged,
            Code::TrustDomainChanged,
        ],
        run: |_| {
            let key = |seed| PrivateKey::generate(&[seed; 32]).unwrap().public().to_pem();
            vec![changed(EAST, PUBLIC, |document| {
                document["clusterUUID"] = UUID.into();
                document["authnKeyPub"] = key(1).into();
                document["authnKeys"] = json!([{ "id": "further", "pem": key(2), "scopes": ["api"] }]);
                document["rootCA"] = Ca::new("another root CA").pem.into();
                document["relayCA"] = Ca::new("another CA of the relay").pem.into();
                document["trustDomain"] = "east.example".into();
            })]
        },
    },
    Scenario {
        name: "a private document with all that is trusted changed",
        codes: &[Code::ApiHostChanged, Code::ApiCaChanged, Code::ClusterIdChanged, Code::GatewayNotAllowed],
        run: |_| {
            let spec = "metadata: {endpoint: \"file://metadata/east\"}, allow: {addresses: [203.0.113.0/24]}}";
            vec![changed(spec, PRIVATE, |document| {
                document["apiHost"] = "api.elsewhere.example.com".into();
                document["apiCA"] = Ca::new("another CA of the api-proxy").pem.into();
                document["clusterID"] = "elsewhere".into();
                document["ingressGateways"] = json!([{ "address": "198.51.100.1", "port": 15443 }]);
            })]
        },
    },
    Scenario {
        name: "a first api host that is not allowed",
        codes: &[Code::ApiHostNotAllowed],
        run: |_| {
            let spec = "metadata: {endpoint: \"file://metadata/east\"}, allow: {apiHosts: [\"*.example.org\"]}}";
            vec![first(spec, |_| ())]
        },
    },
    Scenario {
        name: "a pin that is contradicted",
        codes: &[Code::ContradictsPin],
        run: |_| {
            let pin = format!("pin: {{clusterUUID: {UUID}}}");
            vec![first(&format!("metadata: {{endpoint: \"file://metadata/east\"}}, {pin}}}"), |_| ())]
        },
    },
    Scenario {
        name: "two clusters with one UUID",
        codes: &[Code::ClaimedByAnother],
        run: |_| {
            vec![first(EAST, |checkout| {
                edit(checkout, "east", PUBLIC, |document| document["clusterUUID"] = UUID.into());
                edit(checkout, "west", PUBLIC, |document| document["clusterUUID"] = UUID.into());
            })]
        },
    },
];

/// The first plan of two clusters, one of them with another spec, after something more was prepared.
fn first(spec: &str, prepare: impl FnOnce(&Checkout)) -> Ran {
    let checkout = Checkout::new();
    checkout.edit("specs/mesh.yaml", EAST, spec);
    prepare(&checkout);
    checkout.engine(PLAN)
}

/// A plan after a cluster that is known published another document.
fn changed(spec: &str, document: &str, change: impl FnOnce(&mut Value)) -> Ran {
    let checkout = Checkout::new();
    checkout.edit("specs/mesh.yaml", EAST, spec);
    checkout.engine(&["apply"]).done();
    edit(&checkout, "east", document, change);
    checkout.engine(PLAN)
}
