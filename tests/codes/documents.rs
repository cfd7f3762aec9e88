//! Documents that are read and not accepted, from folders of a checkout.

use isthmus::types::explanation::Code;
use serde_json::{Value, json};

use super::Scenario;
use crate::support::checkout::Checkout;
use crate::support::environment::Ran;

pub(super) const PUBLIC: &str = "public/public.json";
pub(super) const PRIVATE: &str = "private/multicluster.json";
pub(super) const PLAN: &[&str] = &["plan", "--output", "json"];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a root CA that cannot be trusted",
        codes: &[Code::RootCaRefused, Code::PublicDocumentNotAccepted],
        run: |_| vec![changed("east", PUBLIC, |document| document["rootCA"] = "no certificate".into())],
    },
    Scenario {
        name: "another cluster domain",
        codes: &[Code::ClusterDomainDiffers],
        run: |_| vec![changed("east", PUBLIC, |document| document["clusterDomain"] = "east.local".into())],
    },
    Scenario {
        name: "a gateway at a loopback address",
        codes: &[Code::GatewayInside],
        run: |_| {
            let gateways = json!([{ "address": "127.0.0.1", "port": 15443 }]);
            vec![changed("east", PRIVATE, |document| document["ingressGateways"] = gateways)]
        },
    },
];

/// Changes a document of a cluster that is known from files.
pub(super) fn edit(checkout: &Checkout, cluster: &str, document: &str, change: impl FnOnce(&mut Value)) {
    let path = format!("metadata/{cluster}/{document}");
    let mut value: Value = serde_json::from_slice(&std::fs::read(checkout.path(&path)).unwrap()).unwrap();
    change(&mut value);
    checkout.write(&path, value.to_string().as_bytes());
}

/// The first plan of two clusters that no one contacted yet, of which one publishes another document.
fn changed(cluster: &str, document: &str, change: impl FnOnce(&mut Value)) -> Ran {
    let checkout = Checkout::new();
    edit(&checkout, cluster, document, change);
    checkout.engine(PLAN)
}
