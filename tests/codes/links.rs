//! What links and private documents wait for, from clusters behind TLS and from clusters that leave.

use isthmus::types::explanation::Code;
use isthmus::types::key::PrivateKey;
use isthmus::wire::hand_over::{HandOverOrder, HandOverStage, HandOverState, ObjectWriter};
use isthmus::wire::metadata::{Evidence, LiveRoute, Read, ReadState, Reported, RouteState, StandardMeshConfig};

use super::Scenario;
use super::documents::{PLAN, PUBLIC, edit};
use crate::support::checkout::Checkout;
use crate::support::links::LinksCheckout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "no key to ask with",
        codes: &[Code::KeyMissing],
        run: |peers| vec![LinksCheckout::new(peers).checkout.engine(PLAN)],
    },
    Scenario {
        name: "a key that is none, and one that nobody knows",
        codes: &[Code::KeyUnusable, Code::KeyNotKnown],
        run: |peers| {
            let site = LinksCheckout::new(peers);
            site.checkout.engine(&["apply", "--create-keys"]).done();
            let key = |pem: &str| {
                let path = site.checkout.path("keys/engine.key");
                std::fs::remove_file(&path).unwrap();
                std::fs::write(path, pem).unwrap();
                site.checkout.engine(PLAN)
            };
            vec![key("no key"), key(&PrivateKey::generate(&[9; 32]).unwrap().to_pem().unwrap())]
        },
    },
    Scenario {
        name: "peers that ask for more than the engine's key",
        codes: &[Code::ClusterKeyNeeded, Code::ReaderNotKnown],
        run: |peers| {
            let site = LinksCheckout::new(peers);
            alone(&site.checkout);
            for (name, reconciler) in [("east", "deckhouse"), ("west", "external")] {
                let components =
                    format!("multicluster: {{image: example.com/engine, apiHost: api.{name}.example.com}}");
                site.checkout.edit("specs/mesh.yaml", &components, &format!("reconciler: {reconciler}"));
            }
            vec![site.checkout.engine(&["apply", "--create-keys", "--output", "json"])]
        },
    },
    Scenario {
        name: "documents that are read elsewhere, under a CA that is not the cluster's own",
        codes: &[Code::MetadataSourceChanged],
        run: |peers| {
            let site = LinksCheckout::joining(peers);
            let path = site.checkout.path("specs/mesh.yaml");
            let text = std::fs::read_to_string(&path).unwrap();
            let moved = text.replacen("/metadata\", ca", "/elsewhere\", ca", 1);
            std::fs::write(&path, moved).unwrap();
            vec![site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a cluster that does not admit the engine",
        codes: &[Code::TokenNotAdmitted, Code::LinkBegins, Code::PrivateDocumentMissing],
        run: |peers| {
            let site = LinksCheckout::new(peers);
            site.change("east", |shown| shown.admits = false);
            vec![site.checkout.engine(&["apply", "--create-keys", "--output", "json"]), site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "relays that are shown different documents of one peer",
        codes: &[Code::ReadingsDiffer],
        run: |peers| {
            let site = LinksCheckout::of(peers, &["east", "north", "west"]);
            site.is_external("west");
            site.reads_metadata("east", "west", |_| ());
            site.reads_metadata("north", "west", |private| private["apiHost"] = "evil.example.com".into());
            let ran = site.checkout.engine(&["apply", "--create-keys", "--output", "json"]);
            assert!(ran.code == 3 && ran.says("the relay of `north` reads evil.example.com"), "{ran}");
            vec![ran]
        },
    },
    Scenario {
        name: "a Deckhouse, which does not show whom it trusts, before it reads",
        codes: &[Code::PeerReadsFirst],
        run: |peers| {
            let site = LinksCheckout::new(peers);
            site.is_external("west");
            site.change("west", |shown| {
                // what an exporter of ours has beside it
                let own = &mut shown.public;
                own.authn_keys.clear();
                (own.mesh_id, own.trust_domain, own.cluster_domain, own.istio) = (None, None, None, None);
                (own.serving_ca, own.relay_ca) = (None, None);
            });
            site.reads_metadata("east", "west", |_| ());
            site.checkout.engine(&["apply", "--create-keys"]).done();
            site.live();
            let first = site.checkout.engine(PLAN);
            site.checkout.engine(&["apply"]).done();
            let asks = site.checkout.engine(PLAN);
            assert!(asks.says("`west` to ask the api-proxy of `east`"), "{asks}");
            vec![first, asks]
        },
    },
    Scenario {
        name: "links whose objects are not live",
        codes: &[Code::RootCaNotLive, Code::NetworkNotLive, Code::RouteNotLive],
        run: |peers| vec![LinksCheckout::joining(peers).checkout.engine(PLAN)],
    },
    Scenario {
        name: "a relay that its peer does not admit, in an Istio that is not prepared",
        codes: &[Code::RelayNotAdmitted, Code::IstioNotPrepared, Code::RootCasHidden],
        run: |peers| {
            let site = LinksCheckout::joining(peers);
            site.evidence("east", |evidence| {
                evidence.prepared = Reported::Seen(false);
                evidence.mesh_config =
                    Reported::Seen(StandardMeshConfig { ca_certificates: true, ..StandardMeshConfig::default() });
                evidence.routes = Reported::Seen(vec![LiveRoute {
                    cluster_id: "west".parse().unwrap(),
                    api_host: "api.west.example.com".parse().unwrap(),
                    state: RouteState::Failed,
                    reason: Some("401".to_owned()),
                }]);
            });
            vec![site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "mesh configuration that moves to values which nobody has applied",
        codes: &[Code::StandardConfigIncomplete],
        run: |peers| {
            let site = LinksCheckout::joining(peers);
            site.live();
            site.checkout.engine(&["apply"]).done();
            site.checkout.edit("specs/mesh.yaml", "spec:\n  multi", "spec:\n  istio: {config: helmValues}\n  multi");
            vec![site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a joined cluster that is to be handed over to its agent",
        codes: &[Code::HandOver],
        run: |peers| {
            let site = LinksCheckout::joined(peers, &["east", "west"]);
            site.checkout.edit("specs/mesh.yaml", "spec:\n  multi", "spec:\n  reconciler: agent\n  multi");
            let begins = site.checkout.engine(PLAN);
            site.checkout.engine(&["apply"]).done();
            let order = HandOverOrder::new(ObjectWriter::Agent, 4);
            let state = HandOverState::to(&order, HandOverStage::Preparing);
            let state = HandOverState { reason: Some("ConfigMap isthmus-mesh is not there".to_owned()), ..state };
            site.evidence("east", |evidence| evidence.hand_over = Some(state));
            vec![begins, site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "evidence that was received more than ten minutes before it opens a link",
        codes: &[Code::EvidenceUnknown],
        run: |peers| {
            let mut site = LinksCheckout::joining(peers);
            site.live();
            let opens = site.checkout.engine(&["plan", "--out", "stored", "--output", "json"]);
            assert!(opens.says("istio-remote-secret-west"), "{opens}");
            // so much time passes whenever the engine looks at the clock
            site.checkout.environment.set("ISTHMUS_TEST_CLOCK_STEP", "601");
            let late = site.checkout.engine(&["apply", "--output", "json"]);
            assert!(late.code == 0 && late.says("received more than 10 minutes ago"), "{late}");
            // a stored plan rests on what the clusters show now, not on what they showed
            let stored = site.checkout.engine(&["apply", "stored", "--output", "json", "--max-age", "9999h"]);
            assert!(stored.code == 4 && !stored.says("files written"), "{stored}");
            assert!(!site.checkout.path(EAST_READS_WEST).exists());
            site.checkout.environment.set("ISTHMUS_TEST_CLOCK_STEP", "0");
            site.checkout.engine(&["apply"]).done();
            assert!(site.checkout.path(EAST_READS_WEST).exists());
            vec![late]
        },
    },
    Scenario {
        name: "an address that is published elsewhere, which peers do not see for a while",
        codes: &[Code::SpecEdited],
        run: |peers| {
            let site = LinksCheckout::joining(peers);
            let edit = |from: &str, to: &str| site.checkout.edit("specs/mesh.yaml", from, to);
            edit(
                "{image: example.com/engine, apiHost: api.west",
                "{expose: NodePort, image: example.com/engine, apiHost: second.west",
            );
            let plan = site.checkout.engine(PLAN);
            for field in ["multicluster.expose of cluster `west`", "multicluster.apiHost of cluster `west`"] {
                assert!(plan.says(field), "{field}: {plan}");
            }
            let text = site.checkout.engine(&["plan"]);
            assert!(text.says("its peers see no change of its endpoints until"), "{text}");
            site.checkout.engine(&["apply"]).done();
            assert!(!site.checkout.engine(PLAN).says("multicluster.expose of"), "it is told once");
            vec![plan]
        },
    },
    Scenario {
        name: "a trust domain that an older Istio accepts by an alias alone",
        codes: &[Code::TrustDomainNotAccepted],
        run: |peers| {
            let site = LinksCheckout::new(peers);
            site.change("west", |shown| shown.public.trust_domain = "west.example".parse().ok());
            site.change("east", |shown| shown.public.istio.as_mut().unwrap().version = Some("1.28.4".to_owned()));
            site.checkout.engine(&["apply", "--create-keys"]).done();
            vec![site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "evidence that is unknown, and evidence that is missing",
        codes: &[Code::EvidenceUnknown, Code::EvidenceMissing],
        run: |peers| {
            let site = LinksCheckout::joining(peers);
            site.evidence("east", |evidence| *evidence = Evidence::unknown("the apiserver does not answer"));
            let unknown = site.checkout.engine(PLAN);
            site.change("west", |shown| shown.private.evidence = None);
            vec![unknown, site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a relay without a CA, and gateways that are gone before links join",
        codes: &[Code::RelayCaMissing, Code::EvidenceNotSeen],
        run: |peers| {
            let site = LinksCheckout::new(peers);
            site.change("west", |shown| shown.public.relay_ca = None);
            site.checkout.engine(&["apply", "--create-keys"]).done();
            site.change("east", |shown| shown.private.ingress_gateways.clear());
            vec![site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a link that leaves a cluster that still reads, or cannot tell",
        codes: &[
            Code::NotSynced,
            Code::WithdrawnObjectStillThere,
            Code::WithdrawnObjectUnknown,
            Code::OtherDirectionStillThere,
        ],
        run: |peers| {
            let site = LinksCheckout::new(peers);
            // where none is to come, links join unproven
            let (required, none) = (
                "  metadata: {endpoint",
                "  evidence: none\n  istio: {standardMeshNetworks: none}\n  metadata: {endpoint",
            );
            let spec = std::fs::read_to_string(site.checkout.path("specs/mesh.yaml")).unwrap();
            site.checkout.write("specs/mesh.yaml", spec.replace(required, none).as_bytes());
            let evidence =
                ["east", "west"].map(|name| site.change(name, |shown| shown.private.evidence.take()).unwrap());
            site.checkout.engine(&["apply", "--create-keys"]).done();
            site.checkout.engine(&["apply"]).done();
            alone(&site.checkout);
            site.checkout.engine(&["apply", "--allow-delete"]).done();
            for (name, evidence) in ["east", "west"].into_iter().zip(evidence) {
                site.change(name, |shown| shown.private.evidence = Some(evidence));
            }
            let east = Read { cluster_id: "east".parse().unwrap(), state: ReadState::Synced };
            site.evidence("west", |evidence| evidence.reads = Reported::Seen(vec![east]));
            site.checkout.write("specs/mesh.yaml", spec.as_bytes());
            alone(&site.checkout);
            // what east shows is older than the run that took the secret out
            let unsynced = site.checkout.engine(PLAN);
            site.evidence("east", |evidence| evidence.serial = Reported::Seen(1000));
            // its other direction is gone as far as trust, and then waits for this one
            site.checkout.engine(&["apply"]).done();
            let still = site.checkout.engine(PLAN);
            site.evidence("west", |evidence| evidence.reads = Reported::Unknown("istiod does not answer".to_owned()));
            vec![unsynced, still, site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "links that leave clusters of which nothing shows that it is over",
        codes: &[Code::Settling],
        run: |_| {
            let checkout = Checkout::joined();
            alone(&checkout);
            checkout.engine(&["apply", "--allow-delete"]).done();
            vec![checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a rebuilt cluster whose links leave first",
        codes: &[Code::LinksStillLeaving],
        run: |_| {
            let checkout = Checkout::joined();
            edit(&checkout, "east", PUBLIC, |document| {
                document["clusterUUID"] = "0e9c1f7a-3c5e-4a43-8b1c-6d2f9a7e5b10".into();
            });
            let accept = ["apply", "--accept-trust", "east", "--allow-delete", "--output", "json"];
            let leaves = checkout.engine(&accept);
            let unproven = checkout.engine(&accept);
            assert!(unproven.says("`east` was rebuilt, and the old one cannot show what it holds"), "{unproven}");
            vec![leaves, unproven]
        },
    },
    Scenario {
        name: "a cluster that is not reached, and one that is paused",
        codes: &[Code::ClusterNotReached, Code::ClusterPaused],
        run: |_| {
            let checkout = Checkout::new();
            std::fs::remove_dir_all(checkout.path("metadata/west")).unwrap();
            let unreached = checkout.engine(PLAN);
            checkout.edit("specs/mesh.yaml", "spec: {istio", "spec: {state: paused, istio");
            vec![unreached, checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "links that nobody declared to be leaving",
        codes: &[Code::TooManyDeletions],
        run: |_| {
            let checkout = Checkout::joined();
            alone(&checkout);
            vec![checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a lock that lost a cluster that links name, and then a link",
        codes: &[Code::LockEntryMissing, Code::LockEntryLost, Code::LockLinkMissing],
        run: |_| {
            let checkout = Checkout::joined();
            std::fs::remove_file(checkout.path("lock/clusters/west.yaml")).unwrap();
            let entry = checkout.engine(&["plan", "--output", "json"]);
            std::fs::remove_file(checkout.path("lock/links/east.yaml")).unwrap();
            vec![entry, checkout.engine(&["plan", "--locked", "--output", "json"])]
        },
    },
    Scenario {
        name: "a secret that would be written for a peer that does not know its reader",
        codes: &[Code::Law],
        run: |_| {
            let checkout = Checkout::joined();
            for file in ["lock/links/west.yaml", EAST_READS_WEST] {
                std::fs::remove_file(checkout.path(file)).unwrap();
            }
            std::fs::remove_dir_all(checkout.path("rendered/west")).unwrap();
            vec![checkout.engine(&["plan", "--locked", "--output", "json"])]
        },
    },
    Scenario {
        name: "a lock whose links are those of an older run than the tree",
        codes: &[Code::LockOlderThanTree],
        run: |_| {
            let checkout = Checkout::joined();
            let links = std::fs::read(checkout.path("lock/links/east.yaml")).unwrap();
            alone(&checkout);
            checkout.engine(&["apply", "--allow-delete"]);
            checkout.write("lock/links/east.yaml", &links);
            vec![checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a tree without the secret of a joined link, whose reader shows nothing",
        codes: &[Code::TreeSecretMissing],
        run: |peers| {
            let site = LinksCheckout::joined(peers, &["east", "west"]);
            std::fs::remove_file(site.checkout.path(EAST_READS_WEST)).unwrap();
            site.evidence("east", |evidence| evidence.reads = Reported::Unknown("not synced yet".to_owned()));
            vec![site.checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a tree with files and folders of others",
        codes: &[Code::FileNotOurs, Code::FolderOfUnknownCluster],
        run: |_| {
            let checkout = Checkout::joined();
            let files =
                std::fs::read_dir(checkout.path("rendered/east")).unwrap().map(|file| file.unwrap().file_name());
            let names: Vec<String> = files.map(|name| name.into_string().unwrap()).collect();
            let file = names
                .iter()
                .find(|name| name.starts_with("configmap-isthmus-mesh"))
                .unwrap_or_else(|| panic!("{names:?}"));
            let text = std::fs::read(checkout.path(&format!("rendered/east/{file}"))).unwrap();
            checkout.write(&format!("rendered/nobody/{file}"), &text);
            checkout.edit(&format!("rendered/east/{file}"), "managed-by: isthmus", "managed-by: Helm");
            vec![checkout.engine(PLAN)]
        },
    },
];

const EAST_READS_WEST: &str = "rendered/east/secret-istio-remote-secret-west.yaml";

/// No cluster reads another any more.
fn alone(checkout: &Checkout) {
    let alone = "acceptForeignRoots: true, topology: pairs, pairs: []";
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", alone);
}
