//! What is wrong with a lock, and with what it holds of clusters: their roots and their standard mesh networks.

use isthmus::types::explanation::Code;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};

use super::Scenario;
use super::documents::{PLAN, PUBLIC, edit};
use crate::support::checkout::Checkout;
use crate::support::environment::TestEnvironment;

const LOCKED: &[&str] = &["plan", "--locked", "--output", "json"];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a lock that was edited, and one of a newer engine",
        codes: &[Code::LockBroken, Code::MergeConflict, Code::WrongEncoding, Code::OtherEngineRequired],
        run: |_| {
            let checkout = Checkout::joined();
            let east = "lock/clusters/east.yaml";
            let whole = std::fs::read_to_string(checkout.path(east)).unwrap();
            let lock = |text: &[u8]| {
                checkout.write(east, text);
                checkout.engine(LOCKED)
            };
            checkout.write("lock/notes.txt", b"");
            let broken = lock(whole.replace("cluster: east", "cluster: west").as_bytes());
            std::fs::remove_file(checkout.path("lock/notes.txt")).unwrap();
            let (head, _) = whole.split_once('\n').unwrap();
            vec![
                broken,
                lock(format!("<<<<<<< HEAD\n{whole}").as_bytes()),
                lock(b"\xff"),
                lock(whole.replacen(head, "version: 99", 1).as_bytes()),
            ]
        },
    },
    Scenario {
        name: "a lost file of links that is taken from the tree",
        codes: &[Code::LinksRestored],
        run: |_| {
            let checkout = Checkout::joined();
            std::fs::remove_file(checkout.path("lock/links/east.yaml")).unwrap();
            vec![checkout.engine(&["plan", "--restore-links", "--output", "json"])]
        },
    },
    Scenario {
        name: "standard mesh networks that are none",
        codes: &[Code::StandardNetworksBroken],
        run: |_| vec![with_standard_networks("networks: none")],
    },
    Scenario {
        name: "standard mesh networks that make an object too large",
        codes: &[Code::NotRendered],
        run: |_| vec![with_standard_networks(&format!("networks: {{a: {{gateways: [{}]}}}}", "0, ".repeat(200_000)))],
    },
    Scenario {
        name: "root CAs that end",
        codes: &[Code::RootCaEnds],
        run: |_| {
            let environment = TestEnvironment::new().with("ISTHMUS_TEST_NOW", "2036-11-01T12:00:00Z");
            vec![Checkout::in_environment(environment).engine(PLAN)]
        },
    },
    Scenario {
        name: "Istio in ambient mode",
        codes: &[Code::IstioModeUnsuited],
        run: |_| {
            let checkout = Checkout::new();
            edit(&checkout, "east", PUBLIC, |document| {
                document["istio"]["modes"] = serde_json::json!(["ambient", "of-tomorrow"]);
            });
            vec![checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "root CAs that only their keys tell apart",
        codes: &[Code::RootCasShareSubject],
        run: |_| {
            let checkout = Checkout::new();
            for cluster in ["east", "west"] {
                edit(&checkout, cluster, PUBLIC, |document| document["rootCA"] = root_without_identifier().into());
            }
            vec![checkout.engine(PLAN)]
        },
    },
];

/// A plan from a lock in which a cluster has other standard mesh networks.
fn with_standard_networks(networks: &str) -> crate::support::environment::Ran {
    let checkout = Checkout::joined();
    let networks = format!("standardMeshNetworks: \"{networks}\"\npublic:\n");
    checkout.edit("lock/clusters/east.yaml", "public:\n", &networks);
    checkout.edit("specs/mesh.yaml", "istio: {standardMeshNetworks: none}, ", "");
    checkout.engine(LOCKED)
}

/// A CA certificate without a `SubjectKeyIdentifier`, which rcgen leaves out of what is no CA alone.
fn root_without_identifier() -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "root");
    let mut is_ca = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0x03, 0x01, 0x01, 0xff]);
    is_ca.set_criticality(true);
    params.custom_extensions = vec![is_ca];
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}
