//! Trust: first contact, changes of what a cluster is trusted for, clusters that claim what is another's, bad roots, and
//! what counts as waiting and what as failing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isthmus::model::known::{KnownCluster, keep_what_links_rest_on};
use isthmus::model::lock::{Lock, LockedLink, Stage};
use isthmus::model::mesh::{EvidenceField, EvidenceRule, Mesh, MeshConfigTarget, Reconciler};
use isthmus::model::needs::{Condition, NeedRow};
use isthmus::model::trust::{Approvals, TrustChange, Verdict};
use isthmus::pipeline::accept::{
    Accepted, DocumentState, EvidenceState, UnseenReason, accept, equal_subjects, hides_our_roots,
};
use isthmus::pipeline::advance::advance;
use isthmus::pipeline::compile;
use isthmus::pipeline::observe::{Failure, Observation, Observed, PrivateReading};
use isthmus::simulation::cluster::{Authority, Fleet, SimulatedCluster};
use isthmus::spec::SourceFile;
use isthmus::types::certificate::parse_roots_any_time;
use isthmus::types::key::PrivateKey;
use isthmus::types::name::{ClusterName, Digest};
use isthmus::types::step::{StepId, StepKind};
use isthmus::types::time::{DAY, Timestamp};
use isthmus::wire::metadata::{
    AuthnKey, EveryRevision, Evidence, LiveNetwork, LiveRoute, PrivateDocument, PublicDocument, Reading, Reported,
    RouteState, StandardMeshConfig,
};

use crate::support::environment::{Ran, TestEnvironment};
use crate::support::peer::{Ca, Peer, PeerStep, json};
use crate::support::world::ClusterFault;

/// 2026-11-23.
const NOW: Timestamp = Timestamp::from_seconds(1_795_392_000);
const NAMES: [&str; 5] = ["alfa", "bravo", "delta", "echo", "golf"];

/// What clusters publish, and what the spec says of them.
#[derive(Clone)]
struct TrustWorld {
    documents: BTreeMap<ClusterName, (PublicDocument, PrivateDocument)>,
    spec: BTreeMap<ClusterName, String>,
    mesh: String,
    lock: Lock,
    /// Seconds by which clocks of clusters are ahead of ours.
    clocks: BTreeMap<ClusterName, i64>,
}

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn simulated(of: &str, seed: u8) -> (PublicDocument, PrivateDocument) {
    let mut cluster = SimulatedCluster::new(of, &[seed; 32], &format!("203.0.113.{seed}")).unwrap();
    cluster.shows_evidence = false;
    (cluster.public(), cluster.private(&Fleet::default()))
}

impl TrustWorld {
    /// Clusters that no one contacted yet.
    fn new(names: &[&str]) -> Self {
        let seeds = 1u8..;
        let documents = names.iter().zip(seeds).map(|(own, seed)| (name(own), simulated(own, seed)));
        let spec = names.iter().map(|own| (name(own), String::new()));
        Self {
            documents: documents.collect(),
            spec: spec.collect(),
            mesh: String::new(),
            lock: Lock::default(),
            clocks: BTreeMap::new(),
        }
    }

    /// Clusters that are known.
    fn known(names: &[&str]) -> Self {
        let mut world = Self::new(names);
        world.take(&[]);
        assert_eq!(world.lock.clusters.len(), names.len());
        world
    }

    fn public(&mut self, of: &str) -> &mut PublicDocument {
        &mut self.documents.get_mut(of).unwrap().0
    }

    fn private(&mut self, of: &str) -> &mut PrivateDocument {
        &mut self.documents.get_mut(of).unwrap().1
    }

    /// Lines of a cluster's spec, two spaces in.
    fn says(&mut self, of: &str, lines: &str) {
        self.spec.insert(name(of), lines.to_owned());
    }

    fn compiled(&self) -> Mesh {
        let mut text = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: shop}}\nspec:\n  acceptForeignRoots: true\n{}",
            self.mesh
        );
        for (own, lines) in &self.spec {
            let endpoint = if lines.contains("endpoint:") {
                String::new()
            } else {
                format!("  metadata: {{endpoint: \"https://m.{own}.example.com/metadata\"}}\n")
            };
            let reconciler = if lines.contains("reconciler:") {
                String::new()
            } else {
                format!(
                    "  reconciler: rendered\n  multicluster: {{image: example.com/engine, apiHost: api.{own}.example.com}}\n"
                )
            };
            text.push_str(&format!(
                "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {own}}}\nspec:\n{reconciler}{endpoint}{lines}"
            ));
        }
        let source = SourceFile { path: "specs/mesh.yaml".into(), bytes: text.clone().into_bytes() };
        let (mesh, _) = compile::load(&[source], "0.1.0", &|_| None).unwrap_or_else(|found| {
            panic!("{text}\n{:?}", found.sorted());
        });
        mesh
    }

    /// Both rounds of a run: the private documents of those alone that may be asked.
    fn reconcile(&self, approved: &[&str]) -> Accepted {
        self.reconcile_with(approved, &BTreeMap::new())
    }

    /// The same where some observations are given.
    fn reconcile_with(&self, approved: &[&str], given: &BTreeMap<ClusterName, Observation>) -> Accepted {
        let mesh = self.compiled();
        let approvals = Approvals { all: false, named: approved.iter().map(|text| text.parse().unwrap()).collect() };
        let observe = |may_be_asked: &dyn Fn(&ClusterName) -> Option<bool>| {
            let own = self.documents.iter().map(|(own, (public, private))| {
                let private = match may_be_asked(own) {
                    None => PrivateReading::NotAsked,
                    Some(true) => PrivateReading::Read(private.clone()),
                    Some(false) => PrivateReading::HeldBack,
                };
                (own.clone(), given.get(own).cloned().unwrap_or(Observation::own(Ok(public.clone()), private)))
            });
            Observed { clusters: own.collect(), clocks: self.clocks.clone() }
        };
        let first = accept(&mesh, &self.lock, &observe(&|_| None), &approvals, &BTreeSet::new(), NOW);
        let observed = observe(&|own| Some(first.assessments[own].may_be_asked()));
        accept(&mesh, &self.lock, &observed, &approvals, &BTreeSet::new(), NOW)
    }

    /// A run whose lock is kept.
    fn take(&mut self, approved: &[&str]) -> Accepted {
        let accepted = self.reconcile(approved);
        self.lock = accepted.lock.clone();
        accepted
    }
}

fn change_of<'a>(accepted: &'a Accepted, of: &str) -> &'a TrustChange {
    let mut all = accepted.trust_changes.iter().filter(|change| change.cluster.as_str() == of);
    all.next_back().unwrap_or_else(|| panic!("no trust change of {of}: {:?}", accepted.trust_changes))
}

fn file(lock: &Lock, of: &str) -> Option<String> {
    lock.to_files().unwrap().remove(&Lock::cluster_path(&name(of)))
}

fn digest_of_root(pem: &str) -> String {
    parse_roots_any_time(pem).unwrap()[0].digest.to_string()
}

/// Asserts that all changes of a cluster are set aside, and that its neighbour's are taken.
fn assert_held_back(case: &str, before: &Lock, accepted: &Accepted) {
    let assessment = &accepted.assessments["alfa"];
    assert_eq!(change_of(accepted, "alfa").verdict, Verdict::HeldBack, "{case}");
    assert_eq!(file(before, "alfa"), file(&accepted.lock, "alfa"), "{case}: its entry stays byte for byte");
    assert!(!assessment.may_be_asked() && assessment.is_held_back(), "{case}: {assessment:?}");
    assert!(matches!(assessment.evidence, EvidenceState::Unseen(_)), "{case}");
    assert_ne!(file(before, "bravo"), file(&accepted.lock, "bravo"), "{case}: the neighbour's news are taken");
    assert_eq!(accepted.assessments["bravo"].public, DocumentState::Current, "{case}");
}

/// Harmless changes of every cluster but the last, as they come along with anything else.
fn harmless_change(world: &mut TrustWorld) {
    for own in ["alfa", "bravo"] {
        world.public(own).istio.as_mut().unwrap().version = Some("1.31.2".to_owned());
        world.private(own).network_name = format!("new-{own}").parse().unwrap();
    }
}

#[test]
fn naming_an_endpoint_is_the_approval_unless_the_mesh_wants_to_be_asked() {
    let world = TrustWorld::new(&["alfa"]);
    let accepted = world.reconcile(&[]);
    assert!(accepted.trust_changes.is_empty() && accepted.lock.clusters["alfa"].private.is_some());

    let mut asked = world.clone();
    asked.mesh = "  firstContact: approve\n".to_owned();
    let held = asked.reconcile(&[]);
    assert_eq!(change_of(&held, "alfa").findings[0].what.as_str(), "first contact");
    assert_eq!(held.lock, Lock::default());
    assert!(!held.assessments["alfa"].may_be_asked());
    for approval in ["alfa".to_owned(), format!("alfa@{}", change_of(&held, "alfa").digest.short(12))] {
        let accepted = asked.reconcile(&[&approval]);
        assert!(accepted.lock.clusters["alfa"].private.is_some(), "{approval}");
        assert_eq!(change_of(&accepted, "alfa").verdict, Verdict::Approved);
    }
    assert_eq!(asked.reconcile(&["bravo", "alfa@00000000"]).lock, Lock::default());

    let public = &world.documents["alfa"].0;
    let pins = [
        format!("clusterUUID: {}", public.cluster_uuid),
        format!("authnKey: \"{}\"", public.authn_key.fingerprint()),
        format!("rootCA: [\"{}\"]", digest_of_root(&public.root_ca)),
    ];
    asked.says("alfa", &format!("  pin: {{{}}}\n", pins.join(", ")));
    assert!(asked.reconcile(&[]).lock.clusters["alfa"].private.is_some(), "three pins are an approval");
    asked.says("alfa", &format!("  pin: {{{}}}\n", pins[..2].join(", ")));
    assert_eq!(asked.reconcile(&[]).lock, Lock::default(), "two are none");

    let mut files = world.clone();
    files.says("alfa", "  metadata: {endpoint: \"file://metadata/alfa\"}\n");
    files.private("alfa").evidence = Some(Evidence::unknown("a file"));
    let accepted = files.reconcile(&[]);
    assert!(accepted.trust_changes.is_empty());
    assert_eq!(
        accepted.assessments["alfa"].evidence,
        EvidenceState::NotPublished,
        "a file tells nothing of what is live"
    );
}

type WorldChange = fn(&mut TrustWorld);
type TrustCase = (&'static str, &'static str, WorldChange);
type BoxedChange = Box<dyn Fn(&mut TrustWorld)>;

/// What is found, what the spec says of the cluster, and the change.
const TRUST_CHANGES: [TrustCase; 14] = [
    ("cluster UUID", "", |w| w.public("alfa").cluster_uuid = "0e9c1f7a-3c5e-4a43-8b1c-6d2f9a7e5b10".parse().unwrap()),
    ("authn key", "", |w| w.public("alfa").authn_key = PrivateKey::generate(&[99; 32]).unwrap().public().clone()),
    ("further authn key", "", |w| {
        let pem = PrivateKey::generate(&[98; 32]).unwrap().public().clone();
        w.public("alfa").authn_keys.push(AuthnKey { id: "stranger".parse().unwrap(), pem, scopes: [].into() });
    }),
    ("root CA", "", |w| w.public("alfa").root_ca = Authority::new("another").unwrap().pem),
    ("root CA", "", |w| {
        let more = Authority::new("one more").unwrap().pem;
        w.public("alfa").root_ca.push_str(&more);
    }),
    ("relay CA", "", |w| w.public("alfa").relay_ca = Some(Authority::new("another").unwrap().pem)),
    ("trust domain", "", |w| w.public("alfa").trust_domain = Some("other.example".parse().unwrap())),
    ("cluster ID", "", |w| w.private("alfa").cluster_id = Some("other".parse().unwrap())),
    ("api CA", "", |w| w.private("alfa").api_ca = Some(Authority::new("another").unwrap().pem)),
    ("api CA", "", |w| w.private("alfa").api_ca = None),
    ("api host", "", |w| w.private("alfa").api_host = "elsewhere.example.com".parse().unwrap()),
    ("api host", "  allow: {apiHosts: [\"*.alfa.example.com\"]}\n", |w| {
        w.private("alfa").api_host = "api.elsewhere.example.com".parse().unwrap();
    }),
    ("api host", "  api: {host: api.alfa.example.com}\n", |w| {
        w.private("alfa").api_host = "api.elsewhere.example.com".parse().unwrap();
    }),
    ("gateway", "  allow: {addresses: [203.0.113.0/24]}\n", |w| {
        w.private("alfa").ingress_gateways =
            vec![isthmus::types::address::Gateway::new("198.51.100.9", 15443).unwrap()];
    }),
];

/// Workloads show certificates of the old root for as long as those live.
#[test]
fn an_accepted_root_joins_the_old_one_which_goes_when_its_time_is_over_or_when_it_is_distrusted() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    let old = world.lock.clusters["alfa"].public.roots[0].digest;
    world.public("alfa").root_ca = Authority::new("another").unwrap().pem;
    world.take(&["alfa"]);
    let trusted = |world: &TrustWorld| -> BTreeSet<Digest> {
        let mesh = world.compiled();
        KnownCluster::of(&mesh, &world.lock, &name("alfa")).unwrap().trusted_roots().map(|root| root.digest).collect()
    };
    let new = world.lock.clusters["alfa"].public.roots[0].digest;
    assert_eq!(trusted(&world), BTreeSet::from([old, new]));
    let files = world.lock.to_files().unwrap();
    let read = Lock::parse(files.iter().map(|(path, text)| (path.as_str(), text.as_bytes()))).unwrap();
    assert_eq!(read, world.lock, "it is read back");
    let mut distrusting = world.clone();
    distrusting.says("alfa", &format!("  distrust: [\"{old}\"]\n"));
    assert_eq!(trusted(&distrusting), BTreeSet::from([new]), "at once, without asking anybody");
    distrusting.take(&[]);
    assert!(distrusting.lock.clusters["alfa"].retiring.is_empty());
    // 25 hours are not over, and then they are
    world.take(&[]);
    assert_eq!(trusted(&world), BTreeSet::from([old, new]));
    world.lock.clusters.get_mut("alfa").unwrap().retiring[0].since = NOW - Duration::from_hours(25);
    world.take(&[]);
    assert_eq!(trusted(&world), BTreeSet::from([new]));
}

/// Whichever of the two clocks is wrong, a root is trusted for as long as it would be by the other one.
#[test]
fn a_clock_that_is_wrong_drops_no_root_early() {
    let day = 24 * 3600;
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    world.public("alfa").root_ca = Authority::new("another").unwrap().pem;
    world.clocks.insert(name("alfa"), day);
    world.take(&["alfa"]);
    let since = |world: &TrustWorld| world.lock.clusters["alfa"].retiring[0].since;
    assert_eq!(since(&world), NOW + DAY, "ours was behind");
    world.clocks.clear();
    world.lock.clusters.get_mut("alfa").unwrap().retiring[0].since = NOW - Duration::from_hours(30);
    let mut ahead = world.clone();
    ahead.clocks.insert(name("alfa"), -day);
    ahead.take(&[]);
    assert_eq!(since(&ahead), since(&world), "ours is ahead");
    world.take(&[]);
    assert!(world.lock.clusters["alfa"].retiring.is_empty());
}

/// A replica of the relay may serve the certificate that it has until it is started anew.
#[test]
fn an_accepted_relay_ca_joins_the_old_one_in_the_secrets_until_its_time_is_over() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    let of = |world: &TrustWorld| world.lock.clusters["alfa"].relay_cas().unwrap();
    let old = of(&world);
    let new = Authority::new("another").unwrap().pem;
    world.public("alfa").relay_ca = Some(new.clone());
    world.take(&[]);
    assert_eq!(of(&world), old, "it is not accepted yet");
    world.take(&["alfa"]);
    assert_eq!(of(&world), format!("{}\n{}\n", new.trim_end(), old.trim_end()));
    let files = world.lock.to_files().unwrap();
    let read = Lock::parse(files.iter().map(|(path, text)| (path.as_str(), text.as_bytes()))).unwrap();
    assert_eq!(read, world.lock, "it is read back");
    world.lock.clusters.get_mut("alfa").unwrap().retiring_relay_cas[0].since = NOW - Duration::from_hours(25);
    world.take(&[]);
    assert_eq!(of(&world), new);
}

/// An exporter that starts, or one whose sources fail, leaves fields out. That is no change, and nothing to approve.
#[test]
fn what_a_cluster_no_longer_says_of_itself_keeps_its_last_value() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    let before = world.lock.clusters["alfa"].public.clone();
    let public = world.public("alfa");
    (public.relay_ca, public.trust_domain, public.istio) = (None, None, None);
    (public.mesh_id, public.cluster_domain, public.serving_ca) = (None, None, None);
    let accepted = world.reconcile(&[]);
    assert!(accepted.trust_changes.is_empty());
    assert_eq!(accepted.lock.clusters["alfa"].public, before);
}

#[test]
fn a_first_trust_domain_is_a_trust_change_unless_it_is_the_one_that_was_taken_for_granted() {
    let mut world = TrustWorld::new(&["alfa", "bravo"]);
    world.public("alfa").trust_domain = None;
    world.take(&[]);
    world.public("alfa").trust_domain = Some("cluster.local".parse().unwrap());
    assert!(world.reconcile(&[]).trust_changes.is_empty());
    world.public("alfa").trust_domain = Some("bank.example".parse().unwrap());
    let held = world.reconcile(&[]);
    assert_eq!(change_of(&held, "alfa").findings[0].what.as_str(), "trust domain");
    assert_eq!(held.lock, world.lock);
}

#[test]
fn each_trust_change_is_held_back_alone_until_it_is_approved() {
    for (what, spec, change) in TRUST_CHANGES {
        let mut world = TrustWorld::known(&["alfa", "bravo"]);
        world.says("alfa", spec);
        change(&mut world);
        harmless_change(&mut world);
        let held = world.reconcile(&[]);
        assert_held_back(what, &world.lock, &held);
        let found = change_of(&held, "alfa");
        let named: Vec<_> = found.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(named, [what]);
        assert_ne!(found.findings[0].before, found.findings[0].after, "{what}");
        assert_eq!(found.digest, change_of(&world.reconcile(&[]), "alfa").digest, "{what}: the same on every run");

        let wrong = world.reconcile(&["alfa@0123456789", "bravo"]);
        assert_eq!(file(&world.lock, "alfa"), file(&wrong.lock, "alfa"), "{what}");
        for approval in ["alfa".to_owned(), format!("alfa@{}", found.digest.short(8))] {
            let taken = world.reconcile(&[&approval]);
            assert_eq!(change_of(&taken, "alfa").verdict, Verdict::Approved, "{what}");
            let entry = &taken.lock.clusters["alfa"];
            assert_eq!(entry.public.istio.as_ref().unwrap().version.as_deref(), Some("1.31.2"), "{what}");
            assert_eq!(entry.private.as_ref().unwrap().network.as_str(), "new-alfa", "{what}");
            let mut after = world.clone();
            after.lock = taken.lock;
            assert!(after.reconcile(&[]).trust_changes.is_empty(), "{what}: approved once");
        }
    }
}

#[test]
fn a_root_that_goes_is_no_change_and_stays_for_a_time_and_a_key_that_takes_the_id_of_another_is_one() {
    let mut world = TrustWorld::new(&["alfa", "bravo"]);
    let one = Authority::new("one more").unwrap().pem;
    let alone = world.public("alfa").root_ca.clone();
    world.public("alfa").root_ca.push_str(&one);
    let key = |seed: u8| AuthnKey {
        id: "further".parse().unwrap(),
        pem: PrivateKey::generate(&[seed; 32]).unwrap().public().clone(),
        scopes: [].into(),
    };
    world.public("alfa").authn_keys.push(key(50));
    world.take(&[]);
    let mut shorter = world.clone();
    shorter.public("alfa").root_ca = alone;
    let (one, before) = (digest_of_root(&one), world.lock.clusters["alfa"].public.roots.len());
    assert!(shorter.take(&[]).trust_changes.is_empty());
    let entry = shorter.lock.clusters["alfa"].clone();
    assert_eq!((before, entry.public.roots.len()), (2, 1));
    assert_eq!(
        (entry.retiring.len(), entry.retiring[0].root.digest.to_string(), entry.retiring[0].since),
        (1, one, NOW)
    );
    // published again, it is no change: it was trusted all the time
    let again = TrustWorld { lock: shorter.lock.clone(), ..world.clone() }.reconcile(&[]);
    assert!(again.trust_changes.is_empty() && again.lock.clusters["alfa"].retiring.is_empty());
    let mut swapped = world.clone();
    *swapped.public("alfa").authn_keys.last_mut().unwrap() = key(51);
    assert_eq!(change_of(&swapped.reconcile(&[]), "alfa").findings[0].what.as_str(), "further authn key");
    let mut fewer = world.clone();
    fewer.public("alfa").authn_keys.pop();
    assert!(fewer.reconcile(&[]).trust_changes.is_empty(), "a key that goes is no loss");
}

#[test]
fn what_gives_no_more_power_is_taken_without_a_word() {
    let changes: [(&str, WorldChange); 8] = [
        ("", harmless_change),
        ("", |w| w.public("alfa").serving_ca = Some(Authority::new("another").unwrap().pem)),
        ("", |w| w.public("alfa").mesh_id = Some("another".parse().unwrap())),
        ("", |w| w.private("alfa").network_name = "another".parse().unwrap()),
        ("", |w| {
            w.private("alfa").ingress_gateways =
                vec![isthmus::types::address::Gateway::new("198.51.100.9", 15443).unwrap()];
        }),
        ("  allow: {addresses: [203.0.113.0/24]}\n", |w| {
            w.private("alfa").ingress_gateways =
                vec![isthmus::types::address::Gateway::new("203.0.113.99", 15443).unwrap()];
        }),
        ("  allow: {apiHosts: [\"*.alfa.example.com\"]}\n", |w| {
            w.private("alfa").api_host = "moved.alfa.example.com".parse().unwrap();
        }),
        ("", |w| {
            let key = PrivateKey::generate(&[77; 32]).unwrap().public().clone();
            w.lock.engine_keys.insert("ci".parse().unwrap(), key.clone());
            w.public("alfa").authn_keys.push(AuthnKey { id: "ci".parse().unwrap(), pem: key, scopes: [].into() });
        }),
    ];
    for (at, (spec, change)) in changes.into_iter().enumerate() {
        let mut world = TrustWorld::known(&["alfa", "bravo"]);
        world.says("alfa", spec);
        change(&mut world);
        let accepted = world.reconcile(&[]);
        assert!(accepted.trust_changes.is_empty(), "{at}: {:?}", accepted.trust_changes);
        assert_eq!(accepted.assessments["alfa"].private, DocumentState::Current, "{at}");
        assert_ne!(file(&accepted.lock, "alfa"), file(&world.lock, "alfa"), "{at}");
    }
}

#[test]
fn changes_of_both_documents_are_approved_one_after_the_other() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    world.public("alfa").root_ca = Authority::new("another").unwrap().pem;
    world.private("alfa").api_host = "elsewhere.example.com".parse().unwrap();
    let first = format!("alfa@{}", change_of(&world.reconcile(&[]), "alfa").digest.short(12));
    let half = world.take(&[&first]);
    let verdicts: Vec<_> = half.trust_changes.iter().map(|change| change.verdict).collect();
    assert_eq!(verdicts, [Verdict::Approved, Verdict::HeldBack]);
    assert!(half.assessments["alfa"].is_held_back(), "its links stand still");
    assert_eq!(world.lock.clusters["alfa"].private.as_ref().unwrap().api_host.to_string(), "api.alfa.example.com");
    let second = format!("alfa@{}", change_of(&half, "alfa").digest.short(12));
    world.take(&[&second]);
    assert_eq!(world.lock.clusters["alfa"].private.as_ref().unwrap().api_host.to_string(), "elsewhere.example.com");
    assert!(world.reconcile(&[]).trust_changes.is_empty());
}

#[test]
fn an_approval_by_digest_covers_what_was_shown_and_nothing_else() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    world.public("alfa").root_ca = Authority::new("another").unwrap().pem;
    let shown = format!("alfa@{}", change_of(&world.reconcile(&[]), "alfa").digest.short(12));
    world.public("alfa").root_ca = Authority::new("a third").unwrap().pem;
    assert_eq!(change_of(&world.reconcile(&[&shown]), "alfa").verdict, Verdict::HeldBack);
}

#[test]
fn changing_the_spec_in_a_pull_request_is_the_approval() {
    let pem = Authority::new("another").unwrap().pem;
    let indented = format!("        {}\n", pem.trim_end().replace('\n', "\n        "));
    let key = PrivateKey::generate(&[99; 32]).unwrap().public().clone();
    let uuid = "0e9c1f7a-3c5e-4a43-8b1c-6d2f9a7e5b10";
    let cases: [(String, BoxedChange); 5] = [
        (format!("  pin: {{clusterUUID: {uuid}}}\n"), {
            Box::new(move |w| w.public("alfa").cluster_uuid = uuid.parse().unwrap())
        }),
        (format!("  pin: {{authnKey: \"{}\"}}\n", key.fingerprint()), {
            Box::new(move |w| w.public("alfa").authn_key = key.clone())
        }),
        (format!("  pin: {{rootCA: [\"{}\"]}}\n", digest_of_root(&pem)), {
            let pem = pem.clone();
            Box::new(move |w| w.public("alfa").root_ca.clone_from(&pem))
        }),
        (
            "  api: {host: elsewhere.example.com}\n".to_owned(),
            Box::new(|w| w.private("alfa").api_host = "elsewhere.example.com".parse().unwrap()),
        ),
        (
            format!("  api:\n    ca:\n      inline: |\n{indented}"),
            Box::new(move |w| w.private("alfa").api_ca = Some(pem.clone())),
        ),
    ];
    for (spec, change) in cases {
        let mut world = TrustWorld::known(&["alfa", "bravo"]);
        change(&mut world);
        assert_eq!(change_of(&world.reconcile(&[]), "alfa").verdict, Verdict::HeldBack, "{spec}");
        world.says("alfa", &spec);
        let accepted = world.reconcile(&[]);
        assert_eq!(change_of(&accepted, "alfa").verdict, Verdict::Approved, "{spec}");
        assert_ne!(file(&accepted.lock, "alfa"), file(&world.lock, "alfa"), "{spec}");
    }
}

#[test]
fn no_approval_helps_against_a_pin() {
    let pins = [
        "clusterUUID: 0e9c1f7a-3c5e-4a43-8b1c-6d2f9a7e5b10".to_owned(),
        format!("authnKey: \"sha256:{}\"", "ab".repeat(32)),
        format!("rootCA: [\"sha256:{}\"]", "ab".repeat(32)),
    ];
    for pin in pins {
        for mut world in [TrustWorld::known(&["alfa", "bravo"]), TrustWorld::new(&["alfa", "bravo"])] {
            world.says("alfa", &format!("  pin: {{{pin}}}\n"));
            harmless_change(&mut world);
            let accepted = world.reconcile(&["alfa"]);
            assert_eq!(change_of(&accepted, "alfa").verdict, Verdict::Refused, "{pin}");
            assert_eq!(file(&accepted.lock, "alfa"), file(&world.lock, "alfa"), "{pin}");
            let DocumentState::Refused(message) = &accepted.assessments["alfa"].public else { panic!("{pin}") };
            assert!(message.to_string().contains("that the spec pins") && !accepted.assessments["alfa"].may_be_asked());
        }
    }
}

/// A run in which `alfa` is about to read `bravo` and all that this needs is live.
fn at_the_gate(world: &TrustWorld, mesh: &Mesh) -> Accepted {
    let mut accepted = world.reconcile(&[]);
    let link = LockedLink::new(Stage::Joining);
    accepted.lock.links.entry(name("alfa")).or_default().insert(name("bravo"), link);
    let roots = accepted.lock.clusters.values().flat_map(|locked| &locked.public.roots).map(|root| root.digest);
    let roots: BTreeSet<Digest> = roots.collect();
    for (own, other) in [("alfa", "bravo"), ("bravo", "alfa")] {
        let other = KnownCluster::of(mesh, &accepted.lock, &name(other)).unwrap();
        let (id, proxy) = (other.cluster_id(), other.endpoint().unwrap());
        let route = LiveRoute { cluster_id: id, api_host: proxy.api_host, state: RouteState::Ok, reason: None };
        let evidence = Evidence {
            trusts: Reported::Seen(roots.clone()),
            networks: Reported::Seen(vec![LiveNetwork { name: proxy.network, gateways: proxy.gateways }]),
            reads: Reported::Seen(Vec::new()),
            routes: Reported::Seen(vec![route]),
            prepared: Reported::Seen(true),
            relay_token: Reported::Seen(false),
            writer: None,
            hand_over: None,
            credentials: Reported::Seen(Vec::new()),
            mesh_config: Reported::Seen(StandardMeshConfig::default()),
            serial: Reported::Seen(0),
        };
        accepted.assessments.get_mut(own).unwrap().evidence = EvidenceState::Published(Box::new(evidence));
        accepted.lock.clusters.get_mut(own).unwrap().standard_mesh_networks = Some("{}".to_owned());
    }
    accepted
}

#[test]
fn what_is_not_published_is_unknown_unless_the_spec_says_that_nothing_will_come() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    world.private("alfa").evidence = None;
    assert_eq!(world.reconcile(&[]).assessments["alfa"].evidence, EvidenceState::Unseen(UnseenReason::NoEvidence));
    world.says("alfa", "  evidence: {attested: [reads]}\n");
    assert_eq!(world.reconcile(&[]).assessments["alfa"].evidence, EvidenceState::Unseen(UnseenReason::NoEvidence));
    for rule in ["none", "{attested: [reads, trusts, networks, routes, prepared]}"] {
        world.says("alfa", &format!("  evidence: {rule}\n"));
        assert_eq!(world.reconcile(&[]).assessments["alfa"].evidence, EvidenceState::NotPublished, "{rule}");
    }
}

#[test]
fn evidence_that_is_not_understood_is_unknown_and_freezes_nothing_else() {
    use serde_json::json;
    let mut document = TrustWorld::known(&["alfa"]).private("alfa").clone();
    document.evidence = Some(Evidence::unknown("closed"));
    let whole: serde_json::Value = serde_json::from_str(&document.to_json()).unwrap();
    let read = |evidence: serde_json::Value| {
        let mut text = whole.clone();
        text["evidence"] = evidence;
        let Reading::Complete(document) = PrivateDocument::parse(text.to_string().as_bytes()).unwrap() else {
            panic!()
        };
        document.evidence
    };
    assert_eq!(read(serde_json::Value::Null), None);
    for odd in
        [json!(1), json!([]), json!("x"), json!({"unknown": 1}), json!({}), json!({"reads": 7, "prepared": "yes"})]
    {
        let evidence = read(odd.clone()).unwrap();
        assert!(evidence.reads.seen().is_none() && evidence.prepared.seen().is_none(), "{odd}");
    }
    let reads = json!([{"clusterID": "bravo", "state": "synced"}, {"clusterID": "a b", "state": "synced"}, 7]);
    let evidence = read(json!({"reads": reads, "prepared": true, "trusts": ["x"]})).unwrap();
    assert_eq!(evidence.reads.seen().unwrap().len(), 1);
    assert_eq!(evidence.prepared.seen(), Some(&true));
    assert_eq!(evidence.trusts.seen(), Some(&BTreeSet::new()));
}

type Hide = fn(&mut Evidence);

#[test]
fn an_attested_field_may_stay_unknown_and_no_other() {
    let world = TrustWorld::known(&["alfa", "bravo"]);
    let fields: [(EvidenceField, Hide); 4] = [
        (EvidenceField::Trusts, |it| it.trusts = Reported::Unknown("closed".to_owned())),
        (EvidenceField::Networks, |it| it.networks = Reported::Unknown("closed".to_owned())),
        (EvidenceField::Routes, |it| it.routes = Reported::Unknown("closed".to_owned())),
        (EvidenceField::Prepared, |it| it.prepared = Reported::Unknown("closed".to_owned())),
    ];
    for (unknown, hide) in fields {
        for attested in EvidenceField::ALL {
            let mut world = world.clone();
            world.says("alfa", &format!("  evidence: {{attested: [{attested}]}}\n"));
            let mesh = world.compiled();
            let mut accepted = at_the_gate(&world, &mesh);
            let EvidenceState::Published(evidence) = &mut accepted.assessments.get_mut("alfa").unwrap().evidence else {
                panic!()
            };
            hide(evidence);
            let advanced = advance(&mesh, &accepted, &BTreeSet::new(), false, NOW);
            let link = advanced.lock.link(&name("alfa"), &name("bravo")).unwrap();
            let expected = if unknown == attested { (Stage::Joined, true) } else { (Stage::Joining, false) };
            assert_eq!((link.stage, link.unproven), expected, "{unknown} is unknown, {attested} attested");
        }
    }
}

/// Their trust domains differ, and the Istio of one of them accepts that by an alias alone.
fn is_older(accepted: &mut Accepted, cluster: &str) {
    accepted.lock.clusters.get_mut("bravo").unwrap().public.trust_domain = "bravo.example".parse().ok();
    let istio = accepted.lock.clusters.get_mut(cluster).unwrap().public.istio.as_mut().unwrap();
    istio.version = Some("1.28.4".to_owned());
}

/// The same mesh in which a cluster is a Deckhouse.
fn deckhouse(mesh: &Mesh, cluster: &str) -> Mesh {
    let mut mesh = mesh.clone();
    let cluster = mesh.clusters.get_mut(cluster).unwrap();
    (cluster.reconciler, cluster.evidence) = (Reconciler::Deckhouse, EvidenceRule::None);
    mesh
}

/// Takes one condition away.
fn without(condition: Condition, mesh: &Mesh, accepted: &mut Accepted) {
    let (reader, peer) = match condition {
        Condition::ReaderDocument => return accepted.lock.clusters.get_mut("alfa").unwrap().private = None,
        Condition::PeerDocument => return accepted.lock.clusters.get_mut("bravo").unwrap().private = None,
        Condition::RelayCa => return accepted.lock.clusters.get_mut("alfa").unwrap().public.relay_ca = None,
        Condition::StandardNetworks => {
            return accepted.lock.clusters.get_mut("alfa").unwrap().standard_mesh_networks = None;
        }
        // its links were begun with a token, of which no one knows any more
        Condition::RelayToken => {
            let mut begun = KnownCluster::of(mesh, &accepted.lock, &name("alfa")).unwrap().joins_with(mesh).unwrap();
            begun.spec.require_token = true;
            accepted.lock.clusters.get_mut("alfa").unwrap().joined_with = Some(begun);
            return shown(accepted).relay_token = Reported::Unknown("closed".to_owned());
        }
        // bravo is a Deckhouse, see `deckhouse`
        Condition::PeerReads => {
            return accepted.assessments.get_mut("bravo").unwrap().evidence = EvidenceState::NotPublished;
        }
        Condition::PeerDomainInReader => return is_older(accepted, "alfa"),
        Condition::ReaderDomainInPeer => return is_older(accepted, "bravo"),
        _ => ("alfa", "bravo"),
    };
    let showing = |accepted: &mut Accepted, of: &str, change: &dyn Fn(&mut Evidence)| {
        let EvidenceState::Published(evidence) = &mut accepted.assessments.get_mut(of).unwrap().evidence else {
            panic!("{of}")
        };
        change(evidence);
    };
    let hides = StandardMeshConfig { ca_certificates: true, ..StandardMeshConfig::default() };
    let unseen = EvidenceState::Unseen(UnseenReason::PublicDocument);
    match condition {
        Condition::ReaderDocument
        | Condition::PeerDocument
        | Condition::RelayCa
        | Condition::StandardNetworks
        | Condition::RelayToken
        | Condition::PeerReads
        | Condition::PeerDomainInReader
        | Condition::ReaderDomainInPeer => {}
        Condition::ReaderEvidence => accepted.assessments.get_mut(reader).unwrap().evidence = unseen,
        Condition::PeerEvidence => accepted.assessments.get_mut(peer).unwrap().evidence = unseen,
        Condition::PeerRootsInReader => showing(accepted, reader, &|it| it.trusts = Reported::Seen(BTreeSet::new())),
        Condition::ReaderRootsInPeer => showing(accepted, peer, &|it| it.trusts = Reported::Seen(BTreeSet::new())),
        Condition::PeerNetwork => showing(accepted, reader, &|it| it.networks = Reported::Seen(Vec::new())),
        Condition::Route => showing(accepted, reader, &|it| it.routes = Reported::Seen(Vec::new())),
        Condition::Admission => showing(accepted, reader, &|it| {
            let Reported::Seen(routes) = &mut it.routes else { panic!("no routes") };
            routes[0].state = RouteState::Failed;
        }),
        Condition::ReaderPrepared => showing(accepted, reader, &|it| it.prepared = Reported::Seen(false)),
        Condition::PeerPrepared => showing(accepted, peer, &|it| it.prepared = Reported::Seen(false)),
        Condition::RootsNotHidden => showing(accepted, reader, &|it| it.mesh_config = Reported::Seen(hides.clone())),
    }
}

#[test]
fn a_link_waits_for_each_condition_of_the_table_by_itself() {
    let world = TrustWorld::known(&["alfa", "bravo"]);
    let mesh = world.compiled();
    let (reader, peer) = (name("alfa"), name("bravo"));
    let step = StepId::secret(&reader, &peer);
    let joined = LockedLink::new(Stage::Joined);
    let open = advance(&mesh, &at_the_gate(&world, &mesh), &BTreeSet::new(), false, NOW);
    assert_eq!((open.lock.link(&reader, &peer), open.waits.get(&step)), (Some(&joined), None));
    let mut reasons = BTreeSet::new();
    for condition in NeedRow::of(StepKind::RenderSecret).conditions() {
        let mut accepted = at_the_gate(&world, &mesh);
        let mesh = if condition == Condition::PeerReads { deckhouse(&mesh, "bravo") } else { mesh.clone() };
        without(condition, &mesh, &mut accepted);
        let advanced = advance(&mesh, &accepted, &BTreeSet::new(), false, NOW);
        assert_eq!(advanced.lock.link(&reader, &peer).unwrap().stage, Stage::Joining, "{condition:?}");
        let waits = advanced.waits.get(&step).cloned().unwrap_or_default();
        assert_eq!(waits.len(), 1, "{condition:?}: {waits:?}");
        assert!(reasons.insert(waits[0].to_string()), "{condition:?} is told of as another: {waits:?}");
    }
}

/// Whether the relay of `alfa` asks for a token is decided when the first of its links opens: as the Mesh states, and else by what
/// its istiod shows. From then on it stays, until the Mesh states that none is asked for.
#[test]
fn a_token_is_asked_for_where_istiod_shows_one_when_the_first_link_opens() {
    let world = TrustWorld::known(&["alfa", "bravo"]);
    let (alfa, bravo) = (name("alfa"), name("bravo"));
    let asks = |stated: Option<bool>, shows: Reported<bool>, accepted: &mut Accepted| {
        let mesh = Mesh { require_token: stated, ..world.compiled() };
        shown(accepted).relay_token = shows;
        let advanced = advance(&mesh, accepted, &BTreeSet::new(), false, NOW);
        let stage = advanced.lock.link(&alfa, &bravo).map(|link| link.stage);
        let asks = advanced.lock.clusters["alfa"].joined_with.as_ref().map(|joined| joined.spec.require_token);
        accepted.lock = advanced.lock;
        (stage, asks)
    };
    let closed = || Reported::Unknown("closed".to_owned());
    let first = |stated, shows| asks(stated, shows, &mut at_the_gate(&world, &world.compiled()));
    assert_eq!(first(None, Reported::Seen(true)), (Some(Stage::Joined), Some(true)));
    assert_eq!(first(None, Reported::Seen(false)), (Some(Stage::Joined), Some(false)));
    assert_eq!(first(None, closed()), (Some(Stage::Joined), Some(false)));
    assert_eq!(first(Some(false), Reported::Seen(true)), (Some(Stage::Joined), Some(false)));
    assert_eq!(first(Some(true), closed()), (Some(Stage::Joined), Some(true)), "an older exporter");
    assert_eq!(first(Some(true), Reported::Seen(false)), (Some(Stage::Joining), Some(true)), "istiod would refuse it");
    for (begun, then) in [(true, false), (false, true)] {
        let mut accepted = at_the_gate(&world, &world.compiled());
        assert_eq!(asks(None, Reported::Seen(begun), &mut accepted), (Some(Stage::Joined), Some(begun)));
        assert_eq!(asks(None, Reported::Seen(then), &mut accepted), (Some(Stage::Joined), Some(begun)));
        assert_eq!(asks(None, closed(), &mut accepted), (Some(Stage::Joined), Some(begun)));
        assert_eq!(asks(Some(false), closed(), &mut accepted), (Some(Stage::Joined), Some(false)));
        assert_eq!(
            asks(None, Reported::Seen(true), &mut accepted),
            (Some(Stage::Joined), Some(false)),
            "as it was used"
        );
    }
}

/// `alfa` reads `bravo`, its spec moves roots and networks to values, and these are in effect.
fn moving(world: &TrustWorld, mesh: &Mesh) -> Accepted {
    let mut accepted = at_the_gate(world, mesh);
    let (mut joined, mut back) = (LockedLink::new(Stage::Joined), LockedLink::new(Stage::Joined));
    (joined.merged, back.merged) = (false, false);
    accepted.lock.links.get_mut("alfa").unwrap().insert(name("bravo"), joined);
    accepted.lock.links.entry(name("bravo")).or_default().insert(name("alfa"), back);
    for own in ["alfa", "bravo"] {
        let mut begun = KnownCluster::of(mesh, &accepted.lock, &name(own)).unwrap().joins_with(mesh).unwrap();
        begun.spec.istio_config = MeshConfigTarget::SharedMeshConfig;
        accepted.lock.clusters.get_mut(own).unwrap().joined_with = Some(begun);
    }
    let bravo = KnownCluster::of(mesh, &accepted.lock, &name("bravo")).unwrap();
    let alfa = KnownCluster::of(mesh, &accepted.lock, &name("alfa")).unwrap();
    let proxy = bravo.endpoint().unwrap();
    let networks = serde_json::json!({ "networks": {
        proxy.network.as_str(): { "endpoints": [{ "fromRegistry": bravo.cluster_id() }], "gateways": proxy.gateways },
        alfa.network().unwrap().as_str(): { "endpoints": [{ "fromRegistry": alfa.own_cluster_id() }] },
    } });
    let domains = BTreeSet::from([bravo.trust_domain()]);
    let every = EveryRevision {
        roots: bravo.roots().map(|root| (root.digest, domains.clone())).collect(),
        trust_domain_aliases: BTreeSet::new(),
        same_networks: true,
    };
    let standard = StandardMeshConfig {
        ca_certificates: true,
        mesh_networks: Some(networks.to_string()),
        every_revision: Some(every),
    };
    shown(&mut accepted).mesh_config = Reported::Seen(standard);
    accepted
}

/// The evidence of `alfa`.
fn shown(accepted: &mut Accepted) -> &mut Evidence {
    let EvidenceState::Published(evidence) = &mut accepted.assessments.get_mut("alfa").unwrap().evidence else {
        panic!()
    };
    evidence
}

/// Its standard configuration.
fn standard(accepted: &mut Accepted) -> &mut StandardMeshConfig {
    let Reported::Seen(standard) = &mut shown(accepted).mesh_config else { panic!() };
    standard
}

#[test]
fn mesh_configuration_moves_to_values_once_these_hold_all_of_it() {
    type AcceptedChange = fn(&mut Accepted);
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    world.says("alfa", "  istio: {config: helmValues}\n");
    let mesh = |accepted: &Accepted| {
        let mut mesh = world.compiled();
        keep_what_links_rest_on(&mut mesh, &accepted.lock);
        mesh
    };
    let advanced = |accepted: &Accepted| {
        let mesh = mesh(accepted);
        let advanced = advance(&mesh, accepted, &BTreeSet::new(), false, NOW);
        let waits = advanced.waits.get(&StepId::of(StepKind::RenderTrust, &name("alfa"))).cloned().unwrap_or_default();
        let config = advanced.lock.clusters["alfa"].joined_with.as_ref().unwrap().spec.istio_config;
        (config, waits.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let whole = moving(&world, &world.compiled());
    assert!(!hides_our_roots(&mesh(&whole).clusters["alfa"], &whole.assessments["alfa"]), "it is to hide them");
    assert_eq!(advanced(&whole), (MeshConfigTarget::HelmValues, String::new()));
    let changes: [(AcceptedChange, &str); 9] = [
        (|it| shown(it).mesh_config = Reported::Unknown("no answer".to_owned()), "no answer"),
        (|it| shown(it).trusts = Reported::Unknown("no answer".to_owned()), "no answer"),
        (|it| shown(it).trusts = Reported::Seen(BTreeSet::new()), "the root CA of `bravo`"),
        (|it| standard(it).every_revision = None, "of an older version"),
        (|it| standard(it).every_revision.as_mut().unwrap().roots.clear(), "the root CA of `bravo`"),
        (|it| standard(it).every_revision.as_mut().unwrap().same_networks = false, "the network of `bravo`"),
        (|it| standard(it).mesh_networks = None, "the network of `bravo`"),
        (
            |it| {
                let text = standard(it).mesh_networks.take().unwrap().replace("\"alfa\"", "\"other\"");
                standard(it).mesh_networks = Some(text);
            },
            "the network of `alfa`",
        ),
        (
            |it| {
                it.assessments.get_mut("alfa").unwrap().evidence = EvidenceState::Unseen(UnseenReason::PublicDocument);
            },
            "evidence of `alfa`",
        ),
    ];
    for (change, output) in changes {
        let mut accepted = whole.clone();
        change(&mut accepted);
        let (config, waits) = advanced(&accepted);
        assert!(config == MeshConfigTarget::SharedMeshConfig && waits.contains(output), "{output}: {waits}");
    }
}

/// Two clusters of different trust domains, of which `alfa` runs this Istio.
fn of_two_domains(version: Option<&str>) -> TrustWorld {
    let mut world = TrustWorld::new(&["alfa", "bravo"]);
    world.public("bravo").trust_domain = "bravo.example".parse().ok();
    world.public("alfa").istio.as_mut().unwrap().version = version.map(str::to_owned);
    world.take(&[]);
    world
}

#[test]
fn a_new_link_merges_trust_domains_where_the_spec_says_so_and_waits_where_it_has_to_say() {
    let (reader, peer) = (name("alfa"), name("bravo"));
    let written = Some(false);
    for (version, stated, in_lock, stage, merged) in [
        (Some("1.29.0"), None, written, Stage::Joined, false),
        (Some("1.32-alpha.eed52ebb66ad"), None, written, Stage::Joined, false),
        (Some("1.28.9"), None, written, Stage::Joining, false),
        (Some("1.28.9"), Some(false), written, Stage::Joining, false),
        // the alias has to be in the cluster before traffic needs it
        (Some("1.28.9"), Some(true), written, Stage::Joining, true),
        (Some("1.28.9"), Some(true), Some(true), Stage::Joined, true),
        (Some("1.31.1"), Some(true), Some(true), Stage::Joined, true),
        (None, None, written, Stage::Joining, false),
        (None, Some(false), written, Stage::Joined, false),
        (None, Some(true), Some(true), Stage::Joined, true),
    ] {
        let mut world = of_two_domains(version);
        if let Some(stated) = stated {
            world.says("alfa", &format!("  mergeTrustDomains: {stated}\n"));
        }
        let mesh = world.compiled();
        let mut accepted = at_the_gate(&world, &mesh);
        let links = accepted.lock.links.get_mut(&reader).unwrap();
        links.get_mut(&peer).unwrap().merged = in_lock == Some(true);
        let advanced = advance(&mesh, &accepted, &BTreeSet::new(), false, NOW);
        let link = advanced.lock.link(&reader, &peer).unwrap();
        assert_eq!((link.stage, link.merged), (stage, merged), "{version:?} {stated:?}");
        let waits = advanced.waits.get(&StepId::secret(&reader, &peer));
        assert_eq!(waits.is_some(), stage == Stage::Joining, "{version:?} {stated:?}: {waits:?}");
    }
}

#[test]
fn trust_domains_that_are_merged_stay_so_until_the_spec_says_otherwise() {
    let (reader, peer) = (name("alfa"), name("bravo"));
    for (version, stated, before, after, refused) in [
        (Some("1.31.1"), None, true, true, false),
        (Some("1.28.9"), None, true, true, false),
        (None, None, true, true, false),
        (Some("1.31.1"), Some(false), true, false, false),
        // someone vouches for the version
        (None, Some(false), true, false, false),
        (Some("1.28.9"), Some(false), true, true, true),
        (Some("1.31.1"), Some(true), false, true, false),
        // an older istiod appears later
        (Some("1.28.9"), None, false, false, false),
    ] {
        let mut world = of_two_domains(version);
        let link = LockedLink { merged: before, ..LockedLink::new(Stage::Joined) };
        world.lock.links.entry(reader.clone()).or_default().insert(peer.clone(), link);
        if let Some(stated) = stated {
            world.says("alfa", &format!("  mergeTrustDomains: {stated}\n"));
        }
        let advanced = advance(&world.compiled(), &world.reconcile(&[]), &BTreeSet::new(), false, NOW);
        let link = advanced.lock.link(&reader, &peer).unwrap();
        assert_eq!((link.stage, link.merged), (Stage::Joined, after), "{version:?} {stated:?}");
        let step = StepId::of(StepKind::RenderTrust, &reader);
        assert_eq!(advanced.refusals.contains_key(&step), refused, "{version:?} {stated:?}");
    }
}

#[test]
fn clusters_of_one_trust_domain_have_none_to_merge() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    world.says("alfa", "  mergeTrustDomains: true\n");
    let link = LockedLink { merged: true, ..LockedLink::new(Stage::Joined) };
    world.lock.links.entry(name("bravo")).or_default().insert(name("alfa"), link.clone());
    world.lock.links.entry(name("alfa")).or_default().insert(name("bravo"), link);
    let lock = advance(&world.compiled(), &world.reconcile(&[]), &BTreeSet::new(), false, NOW).lock;
    assert!(lock.links.values().flat_map(|links| links.values()).all(|link| !link.merged), "{:?}", lock.links);
}

#[test]
fn a_rebuilt_cluster_leaves_before_it_joins_anew() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    for (reader, peer) in [("alfa", "bravo"), ("bravo", "alfa")] {
        let link = LockedLink { unproven: true, ..LockedLink::new(Stage::Joined) };
        world.lock.links.entry(name(reader)).or_default().insert(name(peer), link);
    }
    for own in ["alfa", "bravo"] {
        world.says(own, "  evidence: none\n  istio: {standardMeshNetworks: none}\n  settle: 0s\n");
    }
    world.public("alfa").cluster_uuid = "0e9c1f7a-3c5e-4a43-8b1c-6d2f9a7e5b10".parse().unwrap();
    let before = world.lock.clusters["alfa"].public.clone();
    let mut stages = Vec::new();
    for run in 0..5 {
        // one approval is enough: it holds until the links of the old cluster are gone
        let accepted = world.reconcile(if run == 0 { &["alfa"] } else { &[] });
        let linked = !world.lock.links.is_empty();
        assert_eq!(accepted.assessments["alfa"].rebuilt, linked);
        assert_eq!(accepted.assessments["alfa"].may_be_asked(), !linked);
        let is_old = accepted.lock.clusters["alfa"].public == before;
        assert_eq!(is_old, linked, "the entry is replaced when no link is left");
        world.lock = advance(&world.compiled(), &accepted, &BTreeSet::new(), false, NOW).lock;
        stages.push(world.lock.link(&name("alfa"), &name("bravo")).map(|link| link.stage));
        if !linked {
            break;
        }
    }
    assert_eq!(stages, [Some(Stage::Leaving), Some(Stage::LeavingTrust), None, Some(Stage::Joining)]);
}

/// Gives the second cluster a value of the first.
type ClaimOf = fn(&mut TrustWorld, &str, &str);
const CLAIMS: [(&str, ClaimOf); 4] = [
    ("cluster UUID", |w, by, of| w.public(by).cluster_uuid = w.documents[of].0.cluster_uuid.clone()),
    ("authn key", |w, by, of| w.public(by).authn_key = w.documents[of].0.authn_key.clone()),
    ("cluster ID", |w, by, of| w.private(by).cluster_id = w.documents[of].1.cluster_id.clone()),
    ("network", |w, by, of| w.private(by).network_name = w.documents[of].1.network_name.clone()),
];

fn refused(accepted: &Accepted) -> Vec<(&str, &str)> {
    let refused = accepted.trust_changes.iter().filter(|change| change.verdict == Verdict::Refused);
    refused.map(|change| (change.cluster.as_str(), change.findings[0].what.as_str())).collect()
}

#[test]
fn no_cluster_takes_what_another_cluster_is_known_by() {
    for (what, claim) in CLAIMS {
        let mut newcomer = TrustWorld::known(&["bravo"]);
        newcomer.documents.insert(name("alfa"), simulated("alfa", 9));
        newcomer.says("alfa", "");
        claim(&mut newcomer, "alfa", "bravo");
        let accepted = newcomer.reconcile(&["alfa", "bravo"]);
        assert_eq!(refused(&accepted), [("alfa", what)], "a newcomer against a known cluster");
        assert_eq!(accepted.lock, newcomer.lock, "{what}");

        let mut both = TrustWorld::new(&["alfa", "bravo", "delta"]);
        claim(&mut both, "alfa", "bravo");
        let accepted = both.reconcile(&["alfa", "bravo"]);
        assert_eq!(refused(&accepted), [("alfa", what), ("bravo", what)], "two newcomers");
        assert_eq!(accepted.lock.clusters.keys().map(ClusterName::as_str).collect::<Vec<_>>(), ["delta"]);

        let mut turned = TrustWorld::known(&["alfa", "bravo"]);
        claim(&mut turned, "alfa", "bravo");
        let accepted = turned.reconcile(&["alfa", "bravo"]);
        assert_eq!(refused(&accepted), [("alfa", what)], "a known cluster that turns into another");
        assert_eq!(accepted.lock, turned.lock, "{what}");
        assert!(!accepted.assessments["alfa"].may_be_asked());
    }
}

#[test]
fn what_the_spec_states_of_a_cluster_is_taken_although_it_was_never_reached() {
    let bravo = simulated("bravo", 2);
    let stated = [
        ("cluster UUID", format!("  pin: {{clusterUUID: {}}}\n", bravo.0.cluster_uuid)),
        ("authn key", format!("  pin: {{authnKey: \"{}\"}}\n", bravo.0.authn_key.fingerprint())),
        ("cluster ID", "  clusterID: bravo\n".to_owned()),
        ("network", "  network: network-bravo\n".to_owned()),
    ];
    for ((what, lines), (_, claim)) in stated.into_iter().zip(CLAIMS) {
        let mut world = TrustWorld::new(&["alfa", "bravo"]);
        world.says("bravo", &lines);
        claim(&mut world, "alfa", "bravo");
        let failure = Failure::NotFound { url: "u".to_owned() };
        let down = Observation::own(Err(failure), PrivateReading::NotAsked);
        let accepted = world.reconcile_with(&[], &BTreeMap::from([(name("bravo"), down)]));
        assert_eq!(refused(&accepted), [("alfa", what)]);
    }
}

#[test]
fn the_verdicts_do_not_depend_on_the_names_that_clusters_have() {
    // places: 0 is known, 1 claims its UUID, 2 and 3 claim one network, 4 is an honest newcomer
    let mut orders = vec![vec![]];
    for _ in 0..NAMES.len() {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                let left = (0..NAMES.len()).filter(|at| !order.contains(at)).collect::<Vec<_>>();
                left.into_iter().map(move |at| [order.clone(), vec![at]].concat())
            })
            .collect();
    }
    assert_eq!(orders.len(), 120);
    let all = TrustWorld::new(&NAMES);
    for order in orders {
        let named: Vec<&str> = order.iter().map(|at| NAMES[*at]).collect();
        let mut world = all.clone();
        world.lock.clusters = BTreeMap::new();
        let mut alone = all.clone();
        alone.documents.retain(|own, _| own.as_str() == named[0]);
        world.lock = alone.reconcile(&[]).lock;
        CLAIMS[0].1(&mut world, named[1], named[0]);
        CLAIMS[3].1(&mut world, named[3], named[2]);
        let accepted = world.reconcile(&[]);
        let mut expected = vec![(named[1], "cluster UUID"), (named[2], "network"), (named[3], "network")];
        expected.sort_unstable();
        assert_eq!(refused(&accepted), expected, "{named:?}");
        let mut taken = vec![named[0], named[4]];
        taken.sort_unstable();
        assert_eq!(accepted.lock.clusters.keys().map(ClusterName::as_str).collect::<Vec<_>>(), taken);
    }
}

#[test]
fn what_clusters_may_share() {
    let mut root = TrustWorld::new(&["alfa", "bravo"]);
    root.public("bravo").root_ca = root.documents["alfa"].0.root_ca.clone();
    assert!(root.reconcile(&[]).trust_changes.is_empty(), "one root for two clusters");

    let mut default = TrustWorld::new(&["alfa", "bravo"]);
    for own in ["alfa", "bravo"] {
        default.private(own).cluster_id = Some("Kubernetes".parse().unwrap());
    }
    assert!(default.reconcile(&[]).trust_changes.is_empty(), "Istio's default is nobody's; the names are used");
    default.private("bravo").cluster_id = Some("alfa".parse().unwrap());
    assert_eq!(refused(&default.reconcile(&[])), [("alfa", "cluster ID"), ("bravo", "cluster ID")]);

    let mut flat = TrustWorld::new(&["alfa", "bravo"]);
    CLAIMS[3].1(&mut flat, "bravo", "alfa");
    for own in ["alfa", "bravo"] {
        flat.says(own, "  flatNetwork: true\n");
    }
    assert!(flat.reconcile(&[]).trust_changes.is_empty(), "two flat clusters are in one network");
    flat.says("alfa", "");
    assert_eq!(refused(&flat.reconcile(&[])), [("alfa", "network"), ("bravo", "network")], "flat on one side only");
}

#[test]
fn the_id_that_the_own_istiod_runs_with_is_no_peers() {
    let mut world = TrustWorld::new(&["alfa", "bravo"]);
    world.says("alfa", "  clusterID: renamed\n");
    world.private("alfa").cluster_id = Some("bravo".parse().unwrap());
    assert_eq!(refused(&world.reconcile(&[])), [("alfa", "cluster ID"), ("bravo", "cluster ID")]);
}

#[test]
fn roots_and_domains_that_cannot_be_used_fail_and_change_nothing() {
    let leaf = Authority::new("x").unwrap().serving().unwrap().0;
    let cases: [(&str, BoxedChange); 3] = [
        ("CA:FALSE", Box::new(move |w| w.public("alfa").root_ca.clone_from(&leaf))),
        ("not PEM", Box::new(|w| w.public("alfa").root_ca = "<html>".to_owned())),
        ("cluster domain", Box::new(|w| w.public("alfa").cluster_domain = Some("other.local".parse().unwrap()))),
    ];
    for (message, change) in cases {
        for mut world in [TrustWorld::known(&["alfa", "bravo"]), TrustWorld::new(&["alfa", "bravo"])] {
            change(&mut world);
            let accepted = world.reconcile(&["alfa"]);
            let DocumentState::Failed(reason) = &accepted.assessments["alfa"].public else { panic!("{message}") };
            assert!(reason.to_string().contains(message), "{reason}");
            assert_eq!(file(&accepted.lock, "alfa"), file(&world.lock, "alfa"));
            assert!(!accepted.assessments["alfa"].may_be_asked());
        }
    }
}

#[test]
fn roots_that_end_are_warned_of_and_then_refused() {
    let world = TrustWorld::known(&["alfa"]);
    let end = world.lock.clusters["alfa"].public.roots[0].not_after;
    let observed = Observed {
        clusters: BTreeMap::from([(
            name("alfa"),
            Observation::own(Ok(world.documents["alfa"].0.clone()), PrivateReading::NotAsked),
        )]),
        ..Observed::default()
    };
    let at = |now| accept(&world.compiled(), &world.lock, &observed, &Approvals::default(), &BTreeSet::new(), now);
    assert!(at(end - DAY * 31).warnings.is_empty());
    let soon = at(end - DAY * 3 - Duration::from_secs(9)).warnings;
    assert!(
        soon[0].explanation.message.contains("`alfa`") && soon[0].explanation.message.contains("ends in 3 days"),
        "{}",
        soon[0].explanation.message
    );
    let late = at(end + Duration::from_secs(1));
    assert!(late.warnings[0].explanation.message.contains("has expired"));
    assert!(
        matches!(&late.assessments["alfa"].public, DocumentState::Failed(reason) if reason.to_string().contains("expired at"))
    );
    assert_eq!(late.lock, world.lock);
}

#[test]
fn a_root_that_has_no_end_is_read_back_from_the_lock() {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.not_after = rcgen::date_time_ymd(9999, 12, 31) + Duration::from_secs(86_399);
    let mut world = TrustWorld::new(&["alfa"]);
    world.public("alfa").root_ca = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    world.take(&[]);
    assert_eq!(world.lock.clusters["alfa"].public.roots[0].not_after, Timestamp::NO_END);
    let files = world.lock.to_files().unwrap();
    assert!(files[&Lock::cluster_path(&name("alfa"))].contains(r#"notAfter: "9999-12-31T23:59:59Z""#), "{files:?}");
    let read = Lock::parse(files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())));
    assert_eq!(read.unwrap_or_else(|found| panic!("{:?}", found.sorted())), world.lock);
}

#[test]
fn roots_that_verifiers_may_confuse_are_warned_of() {
    let mut world = TrustWorld::known(&["alfa", "bravo", "delta"]);
    let subject = |world: &mut TrustWorld, of: &str, has_subject_key_id| {
        let root = &mut world.lock.clusters.get_mut(of).unwrap().public.roots[0];
        root.subject = "O=cluster.local".to_owned();
        root.has_subject_key_id = has_subject_key_id;
    };
    subject(&mut world, "alfa", true);
    subject(&mut world, "bravo", true);
    assert!(equal_subjects(&world.lock).is_empty(), "the identifiers tell them apart");
    subject(&mut world, "bravo", false);
    let warnings = equal_subjects(&world.lock);
    assert_eq!(warnings.len(), 1);
    let message = &warnings[0].explanation.message;
    assert!(["`alfa`", "`bravo`", "O=cluster.local"].iter().all(|part| message.contains(part)), "{message}");
    let shared = world.lock.clusters["alfa"].public.roots.clone();
    world.lock.clusters.get_mut("bravo").unwrap().public.roots = shared;
    assert!(equal_subjects(&world.lock).is_empty(), "one root of two clusters is one root");
}

fn failures() -> Vec<(Failure, bool)> {
    let url = || "https://m.alfa.example.com/metadata/public/public.json".to_owned();
    vec![
        (Failure::NotResolved { url: url(), problem: "none".to_owned() }, true),
        (Failure::NotReachable { url: url(), problem: "refused".to_owned() }, true),
        (Failure::TimedOut { url: url(), seconds: 10 }, true),
        (Failure::Unauthorized { url: url(), status: 401 }, true),
        (Failure::Unauthorized { url: url(), status: 403 }, false),
        (Failure::NotFound { url: url() }, true),
        (Failure::Unavailable { url: url() }, true),
        (Failure::Incomplete { fields: vec!["rootCA".to_owned()] }, true),
        (Failure::FileMissing { path: "metadata/alfa".to_owned() }, true),
        (Failure::FileUnreadable { path: "metadata/alfa".to_owned(), problem: "denied".to_owned() }, false),
        (Failure::Status { url: url(), status: 500, retry_after: None }, false),
        (Failure::Redirect { url: url(), to: "evil.example.com".to_owned() }, false),
        (Failure::TooLarge { url: url(), limit: 1 }, false),
        (Failure::ContentType { url: url(), content_type: "text/html".to_owned() }, false),
        (Failure::Format { url: url(), problem: "not JSON".to_owned() }, false),
    ]
}

#[test]
fn before_first_contact_one_waits_and_afterwards_it_is_a_failure() {
    for (failure, waits) in failures() {
        let starting = matches!(failure, Failure::Unavailable { .. } | Failure::Incomplete { .. });
        for (known, deckhouse) in [(false, false), (true, false), (true, true)] {
            let mut world =
                if known { TrustWorld::known(&["alfa", "bravo"]) } else { TrustWorld::new(&["alfa", "bravo"]) };
            if deckhouse {
                world.says("alfa", "  reconciler: deckhouse\n");
            }
            let expected = if known { deckhouse && starting } else { waits };
            let public = Observation::own(Err(failure.clone()), PrivateReading::NotAsked);
            let accepted = world.reconcile_with(&[], &BTreeMap::from([(name("alfa"), public)]));
            let state = &accepted.assessments["alfa"].public;
            assert_eq!(matches!(state, DocumentState::Waiting(_)), expected, "{failure:?} {known} {deckhouse}");
            assert_eq!(matches!(state, DocumentState::Failed(_)), !expected, "{failure:?} {known} {deckhouse}");
            assert_eq!(file(&accepted.lock, "alfa"), file(&world.lock, "alfa"));
            assert_eq!(accepted.assessments["bravo"].public, DocumentState::Current);

            let document = world.documents["alfa"].0.clone();
            let private = Observation::own(Ok(document), PrivateReading::Failed(failure.clone()));
            let accepted = world.reconcile_with(&[], &BTreeMap::from([(name("alfa"), private)]));
            let state = &accepted.assessments["alfa"].private;
            assert_eq!(matches!(state, DocumentState::Waiting(_)), expected, "{failure:?} {known} {deckhouse}");
            let kept = accepted.lock.clusters["alfa"].private.is_some();
            assert_eq!(kept, known, "what was read before is not emptied");
        }
    }
}

#[test]
fn a_peer_without_gateways_empties_nothing_unless_it_needs_none() {
    let mut new = TrustWorld::new(&["alfa"]);
    new.private("alfa").ingress_gateways.clear();
    let accepted = new.reconcile(&[]);
    assert!(
        matches!(&accepted.assessments["alfa"].private, DocumentState::Waiting(reason) if reason.to_string().contains("ingressGateways"))
    );
    assert!(accepted.lock.clusters["alfa"].private.is_none());
    new.says("alfa", "  flatNetwork: true\n");
    let accepted = new.reconcile(&[]);
    assert_eq!(accepted.assessments["alfa"].private, DocumentState::Current);
    assert!(accepted.lock.clusters["alfa"].private.as_ref().unwrap().gateways.is_empty());

    let mut known = TrustWorld::known(&["alfa"]);
    known.private("alfa").ingress_gateways.clear();
    let accepted = known.reconcile(&[]);
    assert!(matches!(accepted.assessments["alfa"].private, DocumentState::Failed(_)));
    assert_eq!(accepted.lock, known.lock);
}

/// Its links rest on the network that it had, and would begin anew with the other's.
#[test]
fn a_joined_cluster_that_publishes_the_network_of_another_is_held_back_and_no_other() {
    let mut world = TrustWorld::known(&["alfa", "bravo"]);
    let mesh = world.compiled();
    for own in ["alfa", "bravo"] {
        let joined = KnownCluster::of(&mesh, &world.lock, &name(own)).unwrap().joins_with(&mesh);
        world.lock.clusters.get_mut(own).unwrap().joined_with = joined;
    }
    let network = world.private("bravo").network_name.clone();
    world.private("alfa").network_name = network;
    let accepted = world.reconcile(&[]);
    assert!(
        matches!(accepted.assessments["alfa"].private, DocumentState::Refused(_)),
        "{:?}",
        accepted.assessments["alfa"]
    );
    assert_eq!(accepted.assessments["bravo"].private, DocumentState::Current);
    assert_eq!(accepted.lock.clusters["alfa"], world.lock.clusters["alfa"]);
    // a network that its spec states is used instead of the published one
    world.says("alfa", "  network: of-alfa\n");
    let accepted = world.reconcile(&[]);
    assert_eq!(accepted.assessments["alfa"].private, DocumentState::Current);
}

#[test]
fn the_standard_mesh_configuration_is_taken_up_or_is_in_the_way() {
    let mut world = TrustWorld::new(&["alfa", "bravo"]);
    let standard = |ca_certificates| {
        let networks = Some("networks: {}\n".to_owned());
        let mut evidence = Evidence::unknown("not asked");
        evidence.mesh_config =
            Reported::Seen(StandardMeshConfig { ca_certificates, mesh_networks: networks, every_revision: None });
        Some(evidence)
    };
    world.private("alfa").evidence = standard(false);
    let accepted = world.take(&[]);
    assert_eq!(accepted.lock.clusters["alfa"].standard_mesh_networks.as_deref(), Some("networks: {}\n"));
    assert!(!hides_our_roots(&world.compiled().clusters["alfa"], &accepted.assessments["alfa"]));
    world.private("alfa").evidence = Some(Evidence::unknown("the apiserver is away"));
    assert_eq!(world.reconcile(&[]).lock, world.lock, "what is unknown changes nothing");
    world.private("alfa").evidence = standard(true);
    let mesh = world.compiled();
    let accepted = world.reconcile(&[]);
    assert!(hides_our_roots(&mesh.clusters["alfa"], &accepted.assessments["alfa"]));
    let mut files = world.clone();
    files.says("alfa", "  metadata: {endpoint: \"file://metadata/alfa\"}\n");
    let accepted = files.reconcile(&[]);
    assert!(!hides_our_roots(&files.compiled().clusters["alfa"], &accepted.assessments["alfa"]));
}

#[test]
fn a_reviewer_reads_what_changed_what_it_means_and_what_to_do() {
    let mut world = TrustWorld::known(&["alfa", "bravo", "delta"]);
    let public = world.public("alfa");
    public.cluster_uuid = "0e9c1f7a-3c5e-4a43-8b1c-6d2f9a7e5b10".parse().unwrap();
    world.private("bravo").api_host = "elsewhere.example.com".parse().unwrap();
    CLAIMS[0].1(&mut world, "delta", "bravo");
    let accepted = world.reconcile(&[]);
    let plan = isthmus::pipeline::plan::Plan {
        trust_changes: accepted.trust_changes,
        ..isthmus::pipeline::plan::Plan::default()
    };
    let text = isthmus::report::text::plan_text(&plan, "mesh shop · 3 clusters", &|_, _| Vec::new(), false);
    let mut text = anstream::adapter::strip_str(&text).to_string();
    // roots are made anew on every run, and the digests cover them
    for change in &plan.trust_changes {
        text = text.replace(&change.digest.short(12), "DIGEST");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_program_reads_reasons_by_their_codes() {
    let mut world = crate::support::world::MemoryMesh::joined(3, None);
    let [first, second, ..] = world.names()[..] else { panic!("three clusters") };
    world.faults.insert(first, ClusterFault::Down);
    world.faults.insert(second, ClusterFault::OtherRoot);
    let plan = world.reconcile().plan;
    let json = isthmus::report::plan_json::plan_json(
        &plan,
        &isthmus::types::diagnostic::Diagnostics::new(),
        "shop",
        &|_, _| Vec::new(),
    );
    let finding = &json["trustChanges"][0]["findings"][0];
    assert_eq!((&finding["field"], &finding["code"]), (&"root-ca".into(), &"root-ca-changed".into()), "{json:#}");
    assert!(finding["message"].is_string() && finding["hint"].is_null(), "{json:#}");
    let steps = json["steps"].as_array().unwrap();
    let why = |kind: StepKind, cluster: &str| {
        let id = serde_json::to_value(StepId::of(kind, &cluster.parse().unwrap())).unwrap();
        let step = steps.iter().find(|step| step["step"] == id).unwrap();
        let why = &step["reasons"][0];
        why["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(why(StepKind::FetchCa, first), "peer-timed-out");
    assert_eq!(why(StepKind::FetchCa, second), "trust-change-held-back");
    assert_eq!(why(StepKind::DiscoverProxy, second), "trust-change-held-back");
}

/// A checkout with two clusters behind real TLS.
struct TlsCheckout {
    environment: TestEnvironment,
    documents: Arc<Mutex<BTreeMap<String, (PublicDocument, PrivateDocument)>>>,
    cas: BTreeMap<String, Ca>,
    peers: BTreeMap<String, Peer>,
}

impl TlsCheckout {
    async fn new(names: &[&str]) -> Self {
        let environment = TestEnvironment::new();
        let folder = environment.path("checkout");
        let world = TrustWorld::new(names);
        let documents: BTreeMap<_, _> =
            world.documents.into_iter().map(|(own, both)| (own.to_string(), both)).collect();
        let documents = Arc::new(Mutex::new(documents));
        std::fs::create_dir_all(folder.join("specs")).unwrap();
        let mesh =
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n";
        std::fs::write(folder.join("specs/mesh.yaml"), mesh).unwrap();
        let mut site = Self { environment, documents, cas: BTreeMap::new(), peers: BTreeMap::new() };
        for own in names {
            let ca = Ca::new(own);
            let peer = site.serves(own, &ca).await;
            std::fs::write(folder.join(format!("{own}.pem")), &ca.pem).unwrap();
            let spec = format!(
                "apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {own}}}\nspec:\n  reconciler: rendered\n  multicluster: {{image: example.com/engine, apiHost: api.{own}.example.com}}\n  metadata: {{endpoint: \"https://127.0.0.1:{}/metadata\", ca: {{file: {own}.pem}}}}\n  allow: {{addresses: [127.0.0.0/8, 203.0.113.0/24]}}\n",
                peer.address.port()
            );
            std::fs::write(folder.join(format!("specs/{own}.yaml")), spec).unwrap();
            site.peers.insert((*own).to_owned(), peer);
            site.cas.insert((*own).to_owned(), ca);
        }
        site
    }

    /// What a cluster publishes, served under a CA.
    async fn serves(&self, of: &str, ca: &Ca) -> Peer {
        let (all, key) = (self.documents.clone(), of.to_owned());
        let script = move |head: &str| -> Vec<PeerStep> {
            let all = all.lock().unwrap();
            let (public, private) = &all[&key];
            json(if head.contains("/public/") { public.to_json() } else { private.to_json() })
        };
        Peer::start(&ca.serving(&["localhost", "127.0.0.1"]), script).await
    }

    /// Moves a cluster's metadata to another peer, with a file of the checkout as its CA.
    fn moves(&mut self, of: &str, peer: Peer, ca: &str) {
        let path = self.environment.path(&format!("checkout/specs/{of}.yaml"));
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once("endpoint: ").unwrap();
        let (_, after) = rest.split_once("}}\n").unwrap();
        let source = format!("\"https://127.0.0.1:{}/metadata\", ca: {{file: {ca}}}}}\n", peer.address.port());
        std::fs::write(path, format!("{before}endpoint: {source}{after}")).unwrap();
        self.peers.insert(of.to_owned(), peer);
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.environment.run_on(&self.environment.path("checkout"), arguments)
    }

    fn lock(&self, of: &str) -> Vec<u8> {
        std::fs::read(self.environment.path(&format!("checkout/lock/clusters/{of}.yaml"))).unwrap()
    }

    fn tokens(&self, of: &str) -> usize {
        let authorized = |head: &&String| head.to_ascii_lowercase().contains("authorization:");
        self.peers[of].requests().iter().filter(authorized).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_holds_one_cluster_back_and_serves_the_other() {
    let site = TlsCheckout::new(&["alfa", "bravo"]).await;
    site.run(&["apply", "--create-keys"]).done();
    let (before, asked) = ((site.lock("alfa"), site.lock("bravo")), site.tokens("alfa"));
    assert_eq!(asked, 1, "the private document was read with a token");
    {
        let mut all = site.documents.lock().unwrap();
        for (public, _) in all.values_mut() {
            public.istio.as_mut().unwrap().version = Some("1.31.2".to_owned());
        }
        all.get_mut("alfa").unwrap().0.root_ca = Authority::new("another").unwrap().pem;
    }
    let held = site.run(&["apply"]);
    assert_eq!(held.code, 4, "{held}");
    assert_eq!(site.lock("alfa"), before.0, "byte for byte");
    assert_ne!(site.lock("bravo"), before.1);
    assert_eq!(site.tokens("alfa"), asked, "no token for a cluster that is not what it was");
    let command = held.stdout.lines().find_map(|line| line.split_once("--accept-trust ")).unwrap().1.trim();
    let ran = site.run(&["apply", "--accept-trust", "alfa@00000000"]);
    assert_eq!((ran.code, site.lock("alfa") == before.0), (4, true), "{ran}");
    let text = site.run(&["apply", "--accept-trust", command]).done();
    assert!(text.contains("trust change of `alfa`: accepted"), "{text}");
    assert_ne!(site.lock("alfa"), before.0);

    // T-S01: a peer that claims another's UUID gets no token, whatever is approved
    let asked = site.tokens("bravo");
    {
        let mut all = site.documents.lock().unwrap();
        let uuid = all["alfa"].0.cluster_uuid.clone();
        all.get_mut("bravo").unwrap().0.cluster_uuid = uuid;
    }
    let before = (site.lock("alfa"), site.lock("bravo"));
    let ran = site.run(&["apply", "--accept-trust", "bravo"]);
    assert_eq!(ran.code, 4, "{ran}");
    assert!(ran.stdout.contains("is also that of cluster `alfa`"), "{ran}");
    assert_eq!((site.lock("alfa"), site.lock("bravo"), site.tokens("bravo")), (before.0, before.1, asked));
}

/// A pull request that moves `metadata.endpoint` and `metadata.ca` got a metadata token sent to whoever answers there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_goes_to_another_endpoint_unless_the_serving_ca_in_the_lock_vouches_for_it() {
    let mut site = TlsCheckout::new(&["alfa", "bravo"]).await;
    let own_ca = site.cas["alfa"].pem.clone();
    site.documents.lock().unwrap().get_mut("alfa").unwrap().0.serving_ca = Some(own_ca);
    site.run(&["apply", "--create-keys"]).done();
    let before = site.lock("alfa");

    let moved = site.serves("alfa", &site.cas["alfa"]).await;
    site.moves("alfa", moved, "alfa.pem");
    let text = site.run(&["apply"]).done();
    assert!(!text.contains("trust change") && site.tokens("alfa") == 1, "its own CA vouches for it: {text}");
    assert_ne!(site.lock("alfa"), before, "the lock says where it is read now");

    let before = site.lock("alfa");
    let other = Ca::new("other");
    std::fs::write(site.environment.path("checkout/other.pem"), &other.pem).unwrap();
    let elsewhere = site.serves("alfa", &other).await;
    site.moves("alfa", elsewhere, "other.pem");
    for arguments in [["apply", "--accept-trust", "alfa@00000000"].as_slice(), &["apply"]] {
        let held = site.run(arguments);
        assert_eq!(held.code, 4, "{held}");
        assert!(held.stdout.contains("metadata source") && held.stdout.contains("does not vouch"), "{held}");
        assert_eq!((site.lock("alfa") == before, site.tokens("alfa")), (true, 0), "no token, and no other entry");
    }
    let held = site.run(&["plan", "--output", "json"]);
    assert!(held.stdout.contains("\"metadata-source-changed\""), "{held}");
    let held = site.run(&["plan"]);
    let command = held.stdout.lines().find_map(|line| line.split_once("--accept-trust ")).unwrap().1.trim();
    site.run(&["apply", "--accept-trust", command]).done();
    assert_eq!((site.lock("alfa") != before, site.tokens("alfa")), (true, 1));
}

#[test]
fn where_documents_are_read_is_compared_with_the_lock() {
    let serving = Authority::new("serving").unwrap().pem;
    let stranger = Authority::new("stranger").unwrap().pem;
    let indented = |pem: &str| pem.trim().replace('\n', "\n        ");
    let metadata = |endpoint: &str, ca: Option<&str>| {
        let ca = ca.map(|pem| format!("    ca:\n      inline: |\n        {}\n", indented(pem))).unwrap_or_default();
        format!("  metadata:\n    endpoint: {endpoint}\n{ca}")
    };
    let (here, there) = ("https://m.alfa.example.com/metadata", "https://n.alfa.example.com/metadata");
    let both = format!("{}\n{}", serving.trim(), stranger.trim());
    // of before, of now, and whether it is a trust change
    let cases = [
        (metadata(here, Some(&serving)), metadata(there, Some(&serving)), false),
        (metadata(here, Some(&stranger)), metadata(here, Some(&serving)), false),
        (metadata(here, Some(&serving)), metadata("\"file://metadata/alfa\"", None), false),
        (metadata(here, Some(&serving)), metadata(here, Some(&both)), true),
        (metadata(here, Some(&serving)), metadata(here, None), true),
        (metadata(here, None), metadata(there, None), true),
        (metadata(here, Some(&stranger)), metadata(there, Some(&stranger)), true),
        (metadata("\"file://metadata/alfa\"", None), metadata(here, None), true),
        (metadata("\"file://metadata/alfa\"", None), metadata(here, Some(&serving)), false),
    ];
    for (before, now, is_change) in cases {
        let mut world = TrustWorld::new(&["alfa", "bravo"]);
        world.public("alfa").serving_ca = Some(serving.clone());
        world.says("alfa", &before);
        world.take(&[]);
        world.says("alfa", &now);
        let locked = world.lock.clone();
        harmless_change(&mut world);
        let accepted = world.reconcile(&[]);
        let case = format!("{before}→\n{now}");
        if !is_change {
            assert!(accepted.trust_changes.is_empty(), "{case}{:?}", accepted.trust_changes);
            assert_ne!(accepted.lock.clusters["alfa"].source, locked.clusters["alfa"].source, "{case}");
            continue;
        }
        assert_held_back(&case, &locked, &accepted);
        let change = change_of(&accepted, "alfa");
        assert_eq!(change.findings[0].what.as_str(), "metadata source", "{case}");
        let approval = format!("alfa@{}", change.digest.short(12));
        world.take(&[&approval]);
        assert!(world.reconcile(&[]).trust_changes.is_empty(), "{case}: accepted once");

        // a lock of before does not know where its documents were read, and takes the place of today
        world.lock.clusters.get_mut("alfa").unwrap().source = None;
        let accepted = world.reconcile(&[]);
        assert!(accepted.trust_changes.is_empty() && accepted.lock.clusters["alfa"].source.is_some(), "{case}");
    }
}
