//! The law of safety: whatever a live link needs is told when it is dropped, emptied, replaced, unlisted or too early, and
//! nothing is written for it.

use std::fs;

use crate::support::checkout::Checkout;

const EAST: &str = "rendered/east";
const SECRET: &str = "rendered/east/secret-istio-remote-secret-west.yaml";

/// How a need is broken.
type Break = fn(&Checkout, file: &str);

fn drop_file(checkout: &Checkout, file: &str) {
    fs::remove_file(checkout.path(&format!("{EAST}/{file}"))).unwrap();
}

fn unlist(checkout: &Checkout, file: &str) {
    checkout.edit(&format!("{EAST}/kustomization.yaml"), &format!("- {file}\n"), "");
}

/// The object stays, and says nothing.
fn empty(checkout: &Checkout, file: &str) {
    let path = format!("{EAST}/{file}");
    let text = fs::read_to_string(checkout.path(&path)).unwrap();
    let mut object: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    for part in ["data", "rules"] {
        if object.get(part).is_some() {
            object[part] = serde_json::json!(null);
        }
    }
    checkout.write(&path, serde_yaml::to_string(&object).unwrap().as_bytes());
}

/// What `verify` says of a checkout.
fn findings_of(checkout: &Checkout) -> Vec<String> {
    let ran = checkout.engine(&["verify", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let findings = document["findings"].as_array().unwrap();
    assert_eq!(ran.code, if findings.is_empty() { 0 } else { 4 }, "{ran}");
    findings.iter().map(|finding| finding["finding"]["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_joined_checkout_keeps_the_law() {
    let checkout = Checkout::joined();
    assert_eq!(findings_of(&checkout), Vec::<String>::new());
    checkout.shows(&["verify"], 0, &["2 clusters, 2 links: lock and files hold all that the links need"]);
}

/// A checkout that keeps no folder at all is another matter: a plugin renders there.
#[test]
fn a_folder_that_is_gone_is_reported() {
    let checkout = Checkout::joined();
    std::fs::remove_dir_all(checkout.path("rendered/east")).unwrap();
    let found = findings_of(&checkout);
    assert!(found.iter().any(|finding| finding.contains("the route to `west`")), "{found:?}");
    assert!(found.iter().any(|finding| finding.contains("the remote secret for `west`")), "{found:?}");
    std::fs::remove_dir_all(checkout.path("rendered")).unwrap();
    assert_eq!(findings_of(&checkout), Vec::<String>::new());
}

#[test]
fn what_is_dropped_emptied_or_unlisted_is_reported() {
    let needs = [
        ("configmap-isthmus-peers.yaml", "the entry of `west` in isthmus-peers"),
        ("clusterrole.rbac.authorization.k8s.io-isthmus-impersonate.yaml", "the right to act as `west`"),
        ("configmap-isthmus-mesh.yaml", "the root CA sha256:"),
        ("configmap-isthmus-mesh.yaml", "the network of `west` with its gateways"),
        ("configmap-isthmus-routes.yaml", "the route to `west`"),
    ];
    let breaks: [(&str, Break); 3] = [("dropped", drop_file), ("emptied", empty), ("unlisted", unlist)];
    for (file, what) in needs {
        for (how, broken) in breaks {
            let checkout = Checkout::joined();
            broken(&checkout, file);
            let findings_of = findings_of(&checkout);
            assert!(findings_of.iter().any(|finding| finding.contains(what)), "{file} {how}: {findings_of:?}");
            assert!(
                findings_of.iter().all(|finding| finding.starts_with("`rendered/east`")),
                "{file} {how}: {findings_of:?}"
            );
        }
    }
}

#[test]
fn what_is_replaced_is_reported() {
    let replaced = [
        (
            "configmap-isthmus-peers.yaml",
            "ED25519 PUBLIC KEY-----\\n",
            "ED25519 PUBLIC KEY-----\\nAAAA",
            "the entry of `west`",
        ),
        ("configmap-isthmus-routes.yaml", "\"clusterID\":\"", "\"clusterID\":\"x", "the route to `west`"),
        ("configmap-isthmus-mesh.yaml", "fromRegistry: ", "fromRegistry: x", "the network of `west`"),
        ("configmap-isthmus-mesh.yaml", "port: 15443", "port: 15444", "the network of `west`"),
        ("configmap-isthmus-mesh.yaml", "trustDomains:", "trustDomain:", "the root CA sha256:"),
        (
            "clusterrole.rbac.authorization.k8s.io-isthmus-impersonate.yaml",
            "istio-peer:",
            "istio-peer:0",
            "the right to act as `west`",
        ),
    ];
    for (file, from, to, what) in replaced {
        let checkout = Checkout::joined();
        let path = format!("{EAST}/{file}");
        let text = fs::read_to_string(checkout.path(&path)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        checkout.write(&path, text.replace(from, to).as_bytes());
        let findings_of = findings_of(&checkout);
        assert!(findings_of.iter().any(|finding| finding.contains(what)), "{file} {to}: {findings_of:?}");
    }
}

#[test]
fn a_secret_of_another_server_or_id_is_reported() {
    let checkout = Checkout::joined();
    let text = fs::read_to_string(checkout.path(SECRET)).unwrap();
    let west = fs::read_to_string(checkout.path("rendered/west/secret-istio-remote-secret-east.yaml")).unwrap();
    let data = |text: &str| text.split_once("\ndata:").map(|(_, data)| data.to_owned()).unwrap();
    checkout.write(SECRET, text.replace(&data(&text), &data(&west)).as_bytes());
    assert!(
        findings_of(&checkout)
            .iter()
            .any(|finding| finding.contains("the cluster ID, server and CA recorded for `west`"))
    );
}

/// A stage that was raised by hand: the secret would be written, and the peer does not even know the reader.
#[test]
fn a_secret_whose_other_direction_is_missing_is_withheld_by_every_command() {
    let checkout = Checkout::joined();
    let links = fs::read_to_string(checkout.path("lock/links/west.yaml")).unwrap();
    fs::remove_file(checkout.path("lock/links/west.yaml")).unwrap();
    fs::remove_dir_all(checkout.path("rendered/west")).unwrap();
    fs::remove_file(checkout.path(SECRET)).unwrap();
    let before = checkout.output();
    for arguments in [&["plan", "--locked"][..], &["apply", "--locked"]] {
        let ran = checkout.engine(arguments);
        assert_eq!(ran.code, 4, "{arguments:?}: {ran}");
        assert!(ran.stdout.contains("expected the link of `west` to `east` in the lock, found none"), "{ran}");
        let mut after = checkout.output();
        after.retain(|path, _| path.to_string_lossy().contains("/east"));
        let mut kept = before.clone();
        kept.retain(|path, _| path.to_string_lossy().contains("/east"));
        assert_eq!(after, kept, "{arguments:?}");
    }
    checkout.write("lock/links/west.yaml", links.as_bytes());
    checkout.engine(&["apply"]).done();
    assert_eq!(findings_of(&checkout), Vec::<String>::new());
}

/// A key of the peer that an edit took out of the lock would leave a secret without what it needs; there is no file to keep.
#[test]
fn the_plugin_answers_nothing_that_breaks_the_law() {
    let checkout = Checkout::joined();
    let ran = checkout.engine(&["argocd", "generate", "--cluster", "east"]);
    assert!(ran.code == 0 && ran.stdout.contains("istio-remote-secret-west"), "{ran}");
    let path = checkout.path("lock/clusters/east.yaml");
    // its own registry would be listed in two networks
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, private) = text.split_once("\nprivate:").unwrap();
    let private = private.replacen("clusterID: east", "clusterID: west", 1);
    std::fs::write(&path, format!("{before}\nprivate:{private}")).unwrap();
    let ran = checkout.engine(&["argocd", "generate", "--cluster", "east"]);
    assert!(ran.code == 4 && ran.stdout.is_empty() && ran.stderr.contains("the network of `west`"), "{ran}");
}

mod step {
    use std::collections::{BTreeMap, BTreeSet};

    use isthmus::model::lock::{HandOver, Lock, Stage};
    use isthmus::model::mesh::{EvidenceRule, Mesh, MeshConfigTarget, Reconciler};
    use isthmus::model::needs::{Condition, NeedRow};
    use isthmus::pipeline::law::{Breach, BreachKind, LockRecord, SeenInRun, ShownEvidence, Unseen, Used, step};
    use isthmus::pipeline::{Input, Program};
    use isthmus::spec::SourceFile;
    use isthmus::types::address::Endpoint;
    use isthmus::types::key::PrivateKey;
    use isthmus::types::name::ClusterName;
    use isthmus::types::step::StepKind;
    use isthmus::types::time::Timestamp;
    use isthmus::wire::hand_over::{HandOverOrder, HandOverStage, HandOverState, ObjectWriter};
    use isthmus::wire::metadata::{
        CredentialUse, EveryRevision, Evidence, LiveNetwork, LiveRoute, Read, ReadState, Reported, RouteState,
        StandardMeshConfig,
    };

    use crate::support::checkout::Checkout;

    /// Two clusters that are joined, and what both show.
    #[derive(Clone)]
    struct JoinedPair {
        mesh: Mesh,
        before: Lock,
        after: Lock,
        shown: BTreeMap<ClusterName, Option<Evidence>>,
        refusing: BTreeSet<ClusterName>,
        now: Timestamp,
    }

    fn name(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    fn pair() -> JoinedPair {
        let checkout = Checkout::joined();
        let file = |path: &str| std::fs::read(checkout.path(path)).unwrap();
        let lock = ["clusters/east", "clusters/west", "links/east", "links/west", "mesh"];
        let lock = lock.into_iter().map(|name| format!("lock/{name}.yaml")).filter(|path| checkout.path(path).exists());
        let input = Input {
            specs: vec![SourceFile { path: "specs/mesh.yaml".into(), bytes: file("specs/mesh.yaml") }],
            lock: lock.map(|path| (path.clone(), file(&path))).collect(),
            ..Input::default()
        };
        let Program { mut mesh, lock, .. } = Program::load(&input, &|_| None).unwrap();
        for (name, cluster) in &mut mesh.clusters {
            cluster.endpoint = format!("https://{name}.example.com/metadata").parse::<Endpoint>().unwrap();
            cluster.evidence = EvidenceRule::Required;
            cluster.istio.prepared = false;
        }
        let shown = mesh.clusters.keys().map(|name| (name.clone(), Some(evidence(&lock, name)))).collect();
        let (refusing, now) = (BTreeSet::new(), Timestamp::EPOCH);
        JoinedPair { mesh, before: lock.clone(), after: lock, shown, refusing, now }
    }

    /// All is live, and everything is read.
    fn evidence(lock: &Lock, of: &ClusterName) -> Evidence {
        let others = lock.clusters.iter().filter(|(name, _)| *name != of).map(|(_, other)| other);
        let joined: Vec<_> = others.clone().map(|other| other.joined_with.clone().unwrap()).collect();
        let network = |name: &isthmus::model::lock::JoinedWith| LiveNetwork {
            name: name.network.clone(),
            gateways: name.reach.gateways.clone(),
        };
        let route = |to: &isthmus::model::lock::JoinedWith| LiveRoute {
            cluster_id: to.cluster_id.clone(),
            api_host: to.reach.api_host.clone(),
            state: RouteState::Ok,
            reason: None,
        };
        let read = |of: &isthmus::model::lock::JoinedWith| Read {
            cluster_id: of.cluster_id.clone(),
            state: ReadState::Synced,
        };
        Evidence {
            trusts: Reported::Seen(others.flat_map(|other| &other.public.roots).map(|root| root.digest).collect()),
            networks: Reported::Seen(joined.iter().map(network).collect()),
            reads: Reported::Seen(joined.iter().map(read).collect()),
            routes: Reported::Seen(joined.iter().map(route).collect()),
            prepared: Reported::Seen(true),
            relay_token: Reported::Seen(false),
            writer: None,
            hand_over: None,
            credentials: Reported::Unknown("not looked at".to_owned()),
            mesh_config: Reported::Seen(StandardMeshConfig::default()),
            serial: Reported::Seen(7),
        }
    }

    impl JoinedPair {
        fn stage(lock: &mut Lock, reader: &str, peer: &str, stage: Option<Stage>) {
            let links = lock.links.get_mut(&name(reader)).unwrap();
            match stage {
                Some(stage) => links.get_mut(&name(peer)).unwrap().stage = stage,
                None => drop(links.remove(&name(peer))),
            }
        }

        /// `east` begins to read `west`.
        fn opens() -> Self {
            let mut pair = pair();
            Self::stage(&mut pair.before, "east", "west", Some(Stage::Joining));
            pair
        }

        /// `east` shows no more that it reads `west`, and its links move on.
        fn closes(from: Stage, to: Option<Stage>) -> Self {
            let mut pair = pair();
            for (reader, peer) in [("east", "west"), ("west", "east")] {
                Self::stage(&mut pair.before, reader, peer, Some(from));
                Self::stage(&mut pair.after, reader, peer, to);
                pair.before.links.get_mut(&name(reader)).unwrap().get_mut(&name(peer)).unwrap().closed = Some(7);
                let shown = pair.of(reader);
                (shown.reads, shown.routes) = (Reported::Seen(Vec::new()), Reported::Seen(Vec::new()));
            }
            pair
        }

        fn of(&mut self, cluster: &str) -> &mut Evidence {
            self.shown.get_mut(&name(cluster)).unwrap().as_mut().unwrap()
        }

        /// The run that is live in `east` is that of an engine with this key, where `ours` is the own one.
        fn is_written_by(&mut self, key: &str) {
            let own = PrivateKey::generate(&[7; 32]).unwrap().public().clone();
            self.before.engine_keys.insert("ours".parse().unwrap(), own);
            self.of("east").writer = Some(key.parse().unwrap());
        }

        /// The relay of `east` asks for a token, which its istiod does not have.
        fn requires_token(&mut self) {
            for lock in [&mut self.before, &mut self.after] {
                let record = lock.clusters.get_mut(&name("east")).unwrap().joined_with.as_mut().unwrap();
                record.spec.require_token = true;
            }
        }

        /// One end is in another trust domain, and the other end runs an Istio that needs an alias.
        fn in_other_domain(&mut self, one: &str, other: &str) {
            for lock in [&mut self.before, &mut self.after] {
                let record = lock.clusters.get_mut(&name(one)).unwrap().joined_with.as_mut().unwrap();
                record.trust_domain = "other.example".parse().unwrap();
                let version = |lock: &mut Lock, of: &str, version: &str| {
                    let istio = &mut lock.clusters.get_mut(&name(of)).unwrap().public.istio;
                    istio.get_or_insert_default().version = Some(version.to_owned());
                };
                version(lock, one, "1.31.1");
                version(lock, other, "1.28.3");
            }
        }

        fn west_is_a_deckhouse(&mut self) {
            let west = self.mesh.clusters.get_mut("west").unwrap();
            (west.reconciler, west.evidence) = (Reconciler::Deckhouse, EvidenceRule::None);
            self.shown.insert(name("west"), None);
        }

        fn breaches(&self) -> BTreeSet<BreachKind> {
            let shown_by = |(name, evidence): (&'_ ClusterName, &'_ Option<Evidence>)| {
                let uuid = &self.before.clusters[name].public.cluster_uuid;
                (name.clone(), uuid.clone(), evidence.clone())
            };
            let shown_all: Vec<_> = self.shown.iter().map(shown_by).collect();
            let seen = shown_all
                .iter()
                .map(|(name, uuid, evidence)| (name, ShownEvidence { uuid, evidence: evidence.as_ref() }));
            let uuid_of = |name: &ClusterName| &self.before.clusters[name].public.cluster_uuid;
            let refusing = self.refusing.iter().map(|name| (name, uuid_of(name))).collect();
            let seen = SeenInRun { shown: seen.collect(), refusing };
            let found = step(&self.mesh, &self.before, &self.after, &seen, self.now);
            found.into_iter().map(|Breach { kind, .. }| kind).collect()
        }

        #[track_caller]
        fn lacks(&self, what: Unseen, cluster: &str) {
            let breaches = self.breaches();
            assert!(breaches.contains(&BreachKind::Unseen(what, name(cluster))), "{what:?} of {cluster}: {breaches:?}");
        }
    }

    fn unknown<T>() -> Reported<T> {
        Reported::Unknown("the port is closed".to_owned())
    }

    type PairMutation = fn(&mut JoinedPair);

    /// What the law calls a condition of the table, of which end, and how it comes to be lacking.
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn lacking(condition: Condition) -> Option<(Unseen, &'static str, Vec<PairMutation>)> {
        let row: (Unseen, &'static str, Vec<PairMutation>) = match condition {
            Condition::ReaderDocument => {
                (Unseen::Evidence, "east", vec![|pair| drop(pair.shown.remove(&name("east")))])
            }
            Condition::PeerDocument => (
                Unseen::Address,
                "west",
                vec![|pair| pair.after.clusters.get_mut(&name("west")).unwrap().joined_with = None],
            ),
            // it is not shown but published: no secret is rendered without it
            Condition::RelayCa => return None,
            Condition::ReaderEvidence => {
                (Unseen::Evidence, "east", vec![|pair| drop(pair.shown.insert(name("east"), None))])
            }
            Condition::PeerRootsInReader => (
                Unseen::Trusts,
                "east",
                vec![|pair| pair.of("east").trusts = unknown(), |pair| {
                    pair.of("east").trusts = Reported::Seen(BTreeSet::new());
                }],
            ),
            Condition::PeerDomainInReader => {
                (Unseen::Domain, "east", vec![|pair| pair.in_other_domain("west", "east")])
            }
            Condition::ReaderDomainInPeer => {
                (Unseen::Domain, "west", vec![|pair| pair.in_other_domain("east", "west")])
            }
            Condition::StandardNetworks => (
                Unseen::StandardNetworks,
                "east",
                vec![|pair| {
                    pair.mesh.clusters.get_mut(&name("east")).unwrap().istio.standard_mesh_networks = None;
                    pair.after.clusters.get_mut(&name("east")).unwrap().standard_mesh_networks = None;
                }],
            ),
            Condition::PeerNetwork => (
                Unseen::Networks,
                "east",
                vec![
                    |pair| pair.of("east").networks = unknown(),
                    |pair| pair.of("east").networks = Reported::Seen(Vec::new()),
                    |pair| {
                        let Reported::Seen(networks) = &mut pair.of("east").networks else { return };
                        networks[0].gateways.clear();
                    },
                ],
            ),
            Condition::Route => (
                Unseen::Routes,
                "east",
                vec![
                    |pair| pair.of("east").routes = unknown(),
                    |pair| pair.of("east").routes = Reported::Seen(Vec::new()),
                    |pair| {
                        let Reported::Seen(routes) = &mut pair.of("east").routes else { return };
                        routes[0].api_host = "elsewhere.example.com".parse().unwrap();
                    },
                ],
            ),
            Condition::Admission => (
                Unseen::Routes,
                "east",
                vec![|pair| {
                    let Reported::Seen(routes) = &mut pair.of("east").routes else { return };
                    routes[0].state = RouteState::Failed;
                }],
            ),
            Condition::ReaderPrepared => (
                Unseen::Prepared,
                "east",
                vec![|pair| pair.of("east").prepared = unknown(), |pair| {
                    pair.of("east").prepared = Reported::Seen(false);
                }],
            ),
            Condition::RelayToken => (
                Unseen::RelayToken,
                "east",
                vec![JoinedPair::requires_token, |pair| {
                    pair.requires_token();
                    pair.of("east").relay_token = unknown();
                }],
            ),
            Condition::PeerEvidence => (
                Unseen::Evidence,
                "west",
                vec![|pair| drop(pair.shown.insert(name("west"), None)), |pair| {
                    drop(pair.shown.remove(&name("west")));
                }],
            ),
            Condition::ReaderRootsInPeer => (
                Unseen::Trusts,
                "west",
                vec![|pair| pair.of("west").trusts = unknown(), |pair| {
                    pair.of("west").trusts = Reported::Seen(BTreeSet::new());
                }],
            ),
            Condition::PeerPrepared => (
                Unseen::Prepared,
                "west",
                vec![|pair| pair.of("west").prepared = unknown(), |pair| {
                    pair.of("west").prepared = Reported::Seen(false);
                }],
            ),
            Condition::RootsNotHidden => (
                Unseen::MeshConfig,
                "east",
                vec![|pair| {
                    let hides = StandardMeshConfig { ca_certificates: true, ..StandardMeshConfig::default() };
                    pair.of("east").mesh_config = Reported::Seen(hides);
                }],
            ),
            Condition::PeerReads => (
                Unseen::Reading,
                "west",
                vec![
                    |pair| {
                        pair.west_is_a_deckhouse();
                        pair.of("east").credentials = Reported::Seen(Vec::new());
                    },
                    |pair| {
                        pair.west_is_a_deckhouse();
                        JoinedPair::stage(&mut pair.before, "west", "east", Some(Stage::Joining));
                    },
                ],
            ),
        };
        Some(row)
    }

    /// What a link opens with is the table's, each stated anew.
    #[test]
    fn a_link_opens_only_with_everything_that_the_table_lists() {
        assert_eq!(JoinedPair::opens().breaches(), BTreeSet::new());
        for (what, cluster, mutations) in NeedRow::of(StepKind::RenderSecret).conditions().filter_map(lacking) {
            for mutation in mutations {
                let mut pair = JoinedPair::opens();
                mutation(&mut pair);
                pair.lacks(what, cluster);
            }
        }
    }

    /// A Deckhouse shows no trust: it was seen to read, or no one can see that, or it had its time.
    #[test]
    fn a_deckhouse_is_read_once_it_reads() {
        let pair = || {
            let mut pair = JoinedPair::opens();
            pair.west_is_a_deckhouse();
            pair
        };
        assert_eq!(pair().breaches(), BTreeSet::new(), "east does not show who asks it");
        let used = |last_used| {
            let mut pair = pair();
            let west = &pair.before.clusters["west"].public;
            let one = CredentialUse { cluster_uuid: west.cluster_uuid.clone(), key_id: west.authn_key.id(), last_used };
            pair.of("east").credentials = Reported::Seen(vec![one]);
            pair
        };
        assert_eq!(used(Some(1)).breaches(), BTreeSet::new());
        used(None).lacks(Unseen::Reading, "west");
        let mut waited = used(None);
        let settle = waited.mesh.clusters["west"].settle;
        let link = waited.before.links.get_mut("east").unwrap().get_mut("west").unwrap();
        link.since = Some(Timestamp::from_seconds(-settle.as_secs().cast_signed()));
        assert_eq!(waited.breaches(), BTreeSet::new());
        waited.before.links.get_mut("east").unwrap().get_mut("west").unwrap().since = Some(Timestamp::EPOCH);
        waited.lacks(Unseen::Reading, "west");
    }

    /// A token is asked for from when the first link opens, and no longer where the Mesh states that: else relay and secret would
    /// part ways.
    #[test]
    fn whether_a_token_is_asked_for_changes_only_while_nothing_reads() {
        let asks = |lock: &mut Lock, asks| {
            lock.clusters.get_mut(&name("east")).unwrap().joined_with.as_mut().unwrap().spec.require_token = asks;
        };
        let changed = BTreeSet::from([BreachKind::Changed(LockRecord::JoinedWith, name("east"))]);
        for (before, after, stated, breaks) in [
            (false, true, None, true),
            (false, true, Some(true), true),
            (true, false, None, true),
            (true, false, Some(true), true),
            (true, false, Some(false), false),
        ] {
            let mut joined = pair();
            joined.mesh.require_token = stated;
            asks(&mut joined.before, before);
            asks(&mut joined.after, after);
            let expected = if breaks { changed.clone() } else { BTreeSet::new() };
            assert_eq!(joined.breaches(), expected, "{before} to {after}, stated {stated:?}");
            joined = JoinedPair::opens();
            asks(&mut joined.before, before);
            asks(&mut joined.after, after);
            joined.of("east").relay_token = Reported::Seen(true);
            assert_eq!(joined.breaches(), BTreeSet::new(), "the first link opens: {before} to {after}");
        }
    }

    /// The Mesh vouches for an istiod whose exporter is too old to show the token.
    #[test]
    fn a_token_that_no_one_shows_is_vouched_for_by_the_mesh_alone() {
        let mut pair = JoinedPair::opens();
        pair.requires_token();
        pair.of("east").relay_token = unknown();
        pair.mesh.require_token = Some(true);
        assert_eq!(pair.breaches(), BTreeSet::new());
        pair.of("east").relay_token = Reported::Seen(false);
        pair.lacks(Unseen::RelayToken, "east");
    }

    #[test]
    fn evidence_of_another_cluster_opens_nothing() {
        let mut pair = JoinedPair::opens();
        pair.after.clusters.get_mut(&name("west")).unwrap().public.cluster_uuid =
            "2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31".parse().unwrap();
        assert!(pair.breaches().contains(&BreachKind::Unseen(Unseen::Evidence, name("west"))));
        assert!(pair.breaches().contains(&BreachKind::Changed(LockRecord::Uuid, name("west"))));
    }

    #[test]
    fn a_link_closes_only_when_its_reader_shows_that_it_stopped_reading() {
        let still = |used| BTreeSet::from([BreachKind::StillUsed(used)]);
        let leaving = || JoinedPair::closes(Stage::Leaving, Some(Stage::LeavingTrust));
        assert_eq!(leaving().breaches(), BTreeSet::new());
        assert_eq!(JoinedPair::closes(Stage::Joined, Some(Stage::LeavingTrust)).breaches(), still(Used::Secret));
        assert_eq!(JoinedPair::closes(Stage::Joined, None).breaches(), still(Used::Secret));
        assert_eq!(JoinedPair::closes(Stage::Leaving, None).breaches(), BTreeSet::new());
        assert_eq!(JoinedPair::closes(Stage::LeavingTrust, None).breaches(), BTreeSet::new());
        for mutation in [
            |pair: &mut JoinedPair| pair.of("east").reads = unknown(),
            |pair: &mut JoinedPair| pair.of("east").reads = evidence(&pair.before, &name("east")).reads,
            |pair: &mut JoinedPair| pair.of("east").serial = Reported::Seen(6),
            |pair: &mut JoinedPair| pair.of("east").serial = unknown(),
            |pair: &mut JoinedPair| pair.is_written_by("theirs"),
            |pair: &mut JoinedPair| drop(pair.shown.remove(&name("east"))),
            |pair: &mut JoinedPair| drop(pair.shown.insert(name("east"), None)),
        ] {
            let mut pair = leaving();
            mutation(&mut pair);
            assert_eq!(pair.breaches(), still(Used::Secret));
        }
        let mut pair = leaving();
        pair.is_written_by("ours");
        assert_eq!(pair.breaches(), BTreeSet::new());
        let mut pair = JoinedPair::closes(Stage::LeavingTrust, None);
        pair.of("west").routes = unknown();
        assert_eq!(pair.breaches(), still(Used::Route));
    }

    /// One that no longer admits whoever asks has no link with it, if it is seen that its relay does not ask either.
    #[test]
    fn a_refusal_ends_the_last_stage_when_nothing_is_asked_any_more() {
        let refused = |at: i64| {
            let mut pair = JoinedPair::closes(Stage::LeavingTrust, None);
            pair.mesh.clusters.get_mut(&name("west")).unwrap().reconciler = Reconciler::External;
            pair.shown.remove(&name("west"));
            pair.refusing.insert(name("west"));
            let cluster_uuid = west(&mut pair.before).public.cluster_uuid.clone();
            let used = CredentialUse { cluster_uuid, key_id: "one".parse().unwrap(), last_used: Some(at) };
            pair.of("east").credentials = Reported::Seen(vec![used]);
            pair.now = Timestamp::from_seconds(1000);
            pair
        };
        let still = BTreeSet::from([BreachKind::StillUsed(Used::Route)]);
        assert_eq!(refused(820).breaches(), BTreeSet::new());
        assert_eq!(refused(821).breaches(), still, "its relay asked less than three minutes ago");
        for mutation in [
            |pair: &mut JoinedPair| pair.refusing.clear(),
            |pair: &mut JoinedPair| pair.of("east").credentials = unknown(),
            |pair: &mut JoinedPair| drop(pair.shown.remove(&name("east"))),
            |pair: &mut JoinedPair| pair.mesh.clusters.get_mut("west").unwrap().reconciler = Reconciler::Rendered,
            // another cluster refuses than the one that the links were made with
            |pair: &mut JoinedPair| {
                pair.refusing = [name("east")].into();
            },
        ] {
            let mut pair = refused(0);
            mutation(&mut pair);
            assert_eq!(pair.breaches(), still);
        }
        // in the stage before, it is not seen yet that its istiod reads no more
        let mut early = JoinedPair::closes(Stage::Leaving, Some(Stage::LeavingTrust));
        early.mesh.clusters.get_mut(&name("west")).unwrap().reconciler = Reconciler::External;
        early.shown.remove(&name("west"));
        early.refusing.insert(name("west"));
        early.of("east").credentials = Reported::Seen(Vec::new());
        assert_eq!(early.breaches(), BTreeSet::from([BreachKind::StillUsed(Used::Secret)]));
    }

    /// Who acts changes when the agent says that it can take the objects, or has left them, of the links as they are now.
    #[test]
    fn a_cluster_is_handed_over_only_as_its_agent_says() {
        let uuid = |pair: &JoinedPair| pair.before.clusters[&name("west")].public.cluster_uuid.clone();
        let handed = |from: Reconciler, to: Reconciler, writer: ObjectWriter, stage: HandOverStage| {
            let mut pair = pair();
            for (lock, acts) in [(&mut pair.before, from), (&mut pair.after, to)] {
                lock.serials.insert(name("east"), 7);
                lock.clusters.get_mut(&name("east")).unwrap().joined_with.as_mut().unwrap().spec.reconciler = acts;
            }
            let order = HandOverOrder::new(writer, 7);
            let joined = BTreeSet::from([uuid(&pair)]);
            pair.of("east").hand_over = Some(HandOverState { joined, ..HandOverState::to(&order, stage) });
            pair
        };
        let (rendered, agent, external) = (Reconciler::Rendered, Reconciler::Agent, Reconciler::External);
        let there = || handed(rendered, agent, ObjectWriter::Agent, HandOverStage::Ready);
        let back = || handed(agent, rendered, ObjectWriter::Tree, HandOverStage::Released);
        let left = || handed(rendered, external, ObjectWriter::Tree, HandOverStage::Offered);
        let with_agent = || handed(agent, external, ObjectWriter::Agent, HandOverStage::Offered);
        for allowed in [there(), back(), left(), with_agent()] {
            assert_eq!(allowed.breaches(), BTreeSet::new());
        }
        let breach = BTreeSet::from([BreachKind::Changed(LockRecord::JoinedWith, name("east"))]);
        for other in [
            handed(rendered, agent, ObjectWriter::Agent, HandOverStage::Preparing),
            handed(rendered, agent, ObjectWriter::Tree, HandOverStage::Ready),
            handed(agent, rendered, ObjectWriter::Tree, HandOverStage::Preparing),
            handed(agent, rendered, ObjectWriter::Agent, HandOverStage::Released),
            handed(rendered, external, ObjectWriter::Tree, HandOverStage::Released),
            handed(rendered, external, ObjectWriter::Agent, HandOverStage::Offered),
            handed(agent, external, ObjectWriter::Tree, HandOverStage::Offered),
            handed(external, rendered, ObjectWriter::Tree, HandOverStage::Offered),
            handed(external, Reconciler::Deckhouse, ObjectWriter::Tree, HandOverStage::Offered),
            handed(rendered, Reconciler::Deckhouse, ObjectWriter::Agent, HandOverStage::Ready),
        ] {
            assert_eq!(other.breaches(), breach);
        }
        for mutation in [
            |pair: &mut JoinedPair| pair.of("east").hand_over = None,
            |pair: &mut JoinedPair| pair.of("east").hand_over.as_mut().unwrap().serial = 6,
            |pair: &mut JoinedPair| drop(pair.shown.remove(&name("east"))),
            |pair: &mut JoinedPair| JoinedPair::stage(&mut pair.after, "east", "west", Some(Stage::Leaving)),
        ] {
            for mut pair in [there(), back(), left(), with_agent()] {
                mutation(&mut pair);
                assert_eq!(pair.breaches(), breach);
            }
        }
        // another checkout counts its serials from elsewhere, and what it leaves is taken if all of it is known here
        let mut taken = handed(external, rendered, ObjectWriter::Tree, HandOverStage::Offered);
        let used = |cluster_uuid, last_used| CredentialUse { cluster_uuid, key_id: "one".parse().unwrap(), last_used };
        let stranger = || "00000000-0000-4000-8000-0000000000aa".parse().unwrap();
        taken.of("east").credentials = Reported::Seen(vec![used(uuid(&taken), Some(1)), used(stranger(), None)]);
        taken.of("east").hand_over.as_mut().unwrap().serial = 99;
        assert_eq!(taken.breaches(), BTreeSet::new());
        for mutation in [
            |pair: &mut JoinedPair| pair.of("east").hand_over = None,
            |pair: &mut JoinedPair| pair.of("east").hand_over.as_mut().unwrap().to = ObjectWriter::Agent,
            |pair: &mut JoinedPair| pair.of("east").reads = Reported::Seen(Vec::new()),
            |pair: &mut JoinedPair| pair.of("east").reads = Reported::Unknown("closed".to_owned()),
            |pair: &mut JoinedPair| {
                let Reported::Seen(reads) = &mut pair.of("east").reads else { return };
                reads.push(Read { cluster_id: "north".parse().unwrap(), state: ReadState::Synced });
            },
            |pair: &mut JoinedPair| {
                let Reported::Seen(used) = &mut pair.of("east").credentials else { return };
                used[1].last_used = Some(1);
            },
        ] {
            let mut pair = taken.clone();
            mutation(&mut pair);
            assert_eq!(pair.breaches(), breach);
        }
        // what was left is live as it was, whether its offer is or not
        let mut lost = taken.clone();
        lost.of("east").hand_over = None;
        lost.before.clusters.get_mut(&name("east")).unwrap().hand_over =
            Some(HandOver { from: rendered, to: external, offered: Some(7), keys: None });
        assert_eq!(lost.breaches(), BTreeSet::new());
        for mutation in [
            |pair: &mut JoinedPair| pair.of("east").serial = Reported::Seen(8),
            |pair: &mut JoinedPair| pair.of("east").reads = Reported::Seen(Vec::new()),
            |pair: &mut JoinedPair| {
                let east = pair.after.clusters.get_mut(&name("east")).unwrap();
                east.joined_with.as_mut().unwrap().spec.reconciler = Reconciler::Agent;
            },
        ] {
            let mut pair = lost.clone();
            mutation(&mut pair);
            assert_eq!(pair.breaches(), breach);
        }
        // of a peer that it joined no one here would write a secret, and of one that it did not join one would appear
        for joined in
            [BTreeSet::new(), BTreeSet::from([uuid(&back()), "00000000-0000-4000-8000-0000000000aa".parse().unwrap()])]
        {
            let mut pair = back();
            pair.of("east").hand_over.as_mut().unwrap().joined = joined;
            assert_eq!(pair.breaches(), breach);
        }
    }

    /// A link is forgotten at any stage where others have both ends, and not in the run that leaves one of these to them.
    #[test]
    fn links_of_others_may_be_forgotten() {
        let forgets = |before: [Reconciler; 2]| {
            let mut pair = JoinedPair::closes(Stage::Joined, None);
            for (lock, acts) in [(&mut pair.before, before), (&mut pair.after, [Reconciler::External; 2])] {
                for (name, acts) in ["east", "west"].map(name).iter().zip(acts) {
                    lock.clusters.get_mut(name).unwrap().joined_with.as_mut().unwrap().spec.reconciler = acts;
                }
            }
            let order = HandOverOrder::new(ObjectWriter::Tree, 7);
            pair.of("east").hand_over = Some(HandOverState::to(&order, HandOverStage::Offered));
            pair.breaches().is_empty()
        };
        assert!(forgets([Reconciler::External; 2]));
        assert!(!forgets([Reconciler::Rendered, Reconciler::External]));
    }

    fn west(lock: &mut Lock) -> &mut isthmus::model::lock::LockedCluster {
        lock.clusters.get_mut(&name("west")).unwrap()
    }

    /// The standard configuration of `east` with all that our ConfigMap gives.
    fn standard(lock: &Lock) -> StandardMeshConfig {
        let west = &lock.clusters[&name("west")];
        let joined = west.joined_with.as_ref().unwrap();
        let domains = BTreeSet::from([joined.trust_domain.clone()]);
        let networks = serde_json::json!({ "networks": { joined.network.as_str(): {
            "endpoints": [{ "fromRegistry": joined.cluster_id }],
            "gateways": joined.reach.gateways,
        } } });
        StandardMeshConfig {
            ca_certificates: true,
            mesh_networks: Some(networks.to_string()),
            every_revision: Some(EveryRevision {
                roots: west.public.roots.iter().map(|root| (root.digest, domains.clone())).collect(),
                trust_domain_aliases: BTreeSet::new(),
                same_networks: true,
            }),
        }
    }

    fn every(pair: &mut JoinedPair) -> &mut EveryRevision {
        let Reported::Seen(standard) = &mut pair.of("east").mesh_config else { panic!() };
        standard.every_revision.as_mut().unwrap()
    }

    /// Where roots and networks are written changes only when what they are written to is in effect.
    #[test]
    fn our_config_map_goes_only_when_the_values_are_in_effect() {
        use MeshConfigTarget::{HelmValues, IstioOperator, None as Nowhere, Sail, SharedMeshConfig};
        let moves = |from, to| {
            let mut pair = pair();
            let set = |lock: &mut Lock, config| {
                let east = lock.clusters.get_mut(&name("east")).unwrap();
                east.joined_with.as_mut().unwrap().spec.istio_config = config;
            };
            set(&mut pair.before, from);
            set(&mut pair.after, to);
            pair.of("east").mesh_config = Reported::Seen(standard(&pair.before.clone()));
            pair
        };
        let changed = BTreeSet::from([BreachKind::Changed(LockRecord::JoinedWith, name("east"))]);
        for to in [HelmValues, IstioOperator, Sail] {
            assert_eq!(moves(SharedMeshConfig, to).breaches(), BTreeSet::new(), "{to:?}");
            assert_eq!(moves(to, SharedMeshConfig).breaches(), changed, "{to:?}");
        }
        assert_eq!(moves(SharedMeshConfig, Nowhere).breaches(), changed);
        assert_eq!(moves(HelmValues, Sail).breaches(), changed);
        let mutations: [PairMutation; 11] = [
            |pair| drop(pair.shown.remove(&name("east"))),
            |pair| drop(pair.shown.insert(name("east"), None)),
            |pair| pair.of("east").mesh_config = unknown(),
            |pair| pair.of("east").mesh_config = Reported::Seen(StandardMeshConfig::default()),
            |pair| pair.of("east").trusts = unknown(),
            |pair| pair.of("east").trusts = Reported::Seen(BTreeSet::new()),
            |pair| every(pair).roots.clear(),
            |pair| every(pair).roots.values_mut().for_each(BTreeSet::clear),
            |pair| every(pair).same_networks = false,
            |pair| {
                let Reported::Seen(standard) = &mut pair.of("east").mesh_config else { return };
                let text = standard.mesh_networks.take().unwrap().replace("15443", "15444");
                standard.mesh_networks = Some(text);
            },
            |pair| {
                for lock in [&mut pair.before, &mut pair.after] {
                    lock.links.get_mut(&name("east")).unwrap().get_mut(&name("west")).unwrap().merged = true;
                    let record = lock.clusters.get_mut(&name("west")).unwrap().joined_with.as_mut().unwrap();
                    record.trust_domain = "other.example".parse().unwrap();
                }
                let domains = BTreeSet::from(["other.example".parse().unwrap()]);
                every(pair).roots.values_mut().for_each(|known| known.clone_from(&domains));
            },
        ];
        for (number, mutation) in mutations.into_iter().enumerate() {
            let mut pair = moves(SharedMeshConfig, HelmValues);
            mutation(&mut pair);
            assert_eq!(pair.breaches(), changed, "{number}");
        }
    }

    #[test]
    fn what_links_rest_on_stays() {
        let changed = |record| BTreeSet::from([BreachKind::Changed(record, name("west"))]);
        let with = |edit: fn(&mut Lock)| {
            let mut pair = pair();
            edit(&mut pair.after);
            pair.breaches()
        };
        assert_eq!(with(|_| {}), BTreeSet::new());
        assert_eq!(with(|lock| drop(lock.clusters.remove(&name("west")))), changed(LockRecord::Entry));
        assert_eq!(with(|lock| west(lock).joined_with = None), changed(LockRecord::JoinedWith));
        let rename = |lock: &mut Lock| west(lock).joined_with.as_mut().unwrap().cluster_id = "other".parse().unwrap();
        assert_eq!(with(rename), changed(LockRecord::JoinedWith));
        let root = pair().before.clusters[&name("west")].public.roots[0].digest;
        assert_eq!(with(|lock| west(lock).public.roots.clear()), changed(LockRecord::Root(root)));
        let moved = |lock: &mut Lock| west(lock).joined_with.as_mut().unwrap().reach.gateways.clear();
        assert_eq!(with(moved), BTreeSet::new());
        let mut pair = pair();
        pair.before.serials.insert(name("west"), 9);
        pair.after.serials.insert(name("west"), 8);
        assert_eq!(pair.breaches(), changed(LockRecord::Serial));
    }
}
