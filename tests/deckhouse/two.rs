//! Two Deckhouses that are linked with each other: neither of them shows anything, and neither waits for the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use isthmus::model::lock::Stage;
use isthmus::pipeline::law::{SeenInRun, ShownEvidence, step};
use isthmus::pipeline::observe::{Observation, Observed, PrivateReading};
use isthmus::pipeline::{FactSource, Input, Program, Request, Until};
use isthmus::types::key::PrivateKey;
use isthmus::wire::metadata::{PrivateDocument, PublicDocument, Reading};

use super::{DeclaredAs, NOW, deckhouse, east_private, east_public, name, spec};
use crate::bad::specs::source;
use crate::support::deckhouse::Deckhouse;
use crate::support::peer::Ca;
use crate::support::road;

const LODGE: &str = "3b0a7c52-3a1e-4a43-8f0e-55d2f0c9b711";

/// What a run read of it, by whoever may.
fn read(deck: &Deckhouse, private: &str) -> Observation {
    let Reading::Complete(public) = PublicDocument::parse(deck.public().as_bytes()).unwrap() else { panic!() };
    let Reading::Complete(private) = PrivateDocument::parse(private.as_bytes()).unwrap() else { panic!() };
    Observation::own(Ok(public), PrivateReading::Read(private))
}

#[test]
fn two_deckhouses_join_each_other_however_they_are_declared() {
    let deck = deckhouse(|| NOW);
    let lodge = Deckhouse {
        uuid: LODGE.to_owned(),
        key: PrivateKey::generate(&[42; 32]).unwrap(),
        root: Ca::new("lodge").pem,
        api_host: "istio-api.lodge.example.com".to_owned(),
        ..Arc::into_inner(deckhouse(|| NOW)).unwrap()
    };
    let of_lodge = lodge.private().replace("3413411223", "1117718326").replace("203.0.113.40", "203.0.113.50");
    let ca = Ca::new("deck");
    let east = PublicDocument { relay_ca: Some(ca.pem.clone()), ..east_public() };
    let observed = Observed {
        clusters: BTreeMap::from([
            (name("east"), Observation::own(Ok(east), PrivateReading::Read(east_private()))),
            (name("deck"), read(&deck, &deck.private())),
            (name("lodge"), read(&lodge, &of_lodge)),
        ]),
        ..Observed::default()
    };
    let is_ours = |declared| declared == DeclaredAs::Deckhouse;
    for one in DeclaredAs::ALL {
        for other in DeclaredAs::ALL {
            let documents = [("deck", one), ("lodge", other)].map(|(name, declared)| {
                let endpoint = format!("https://istio-metadata.{name}.example.com/metadata");
                declared.document(&endpoint, &ca.pem).replace("name: deck", &format!("name: {name}"))
            });
            let text = spec(&documents.join("---\n"));
            let text = text.replace("  istio: {standard", "  evidence: none\n  istio: {standard");
            let mut lock = BTreeMap::new();
            for _ in 0..6 {
                let input = Input {
                    specs: vec![source("specs/mesh.yaml", text.clone())],
                    templates: vec![],
                    lock,
                    inside: None,
                };
                let program = Program::load(&input, &|_| None).unwrap();
                let (request, facts) = (Request::default(), FactSource::Stored(observed.clone()));
                let run = road::take(&program, &request, facts, Until::Rendered, &BTreeMap::new(), NOW);
                let after = run.decided.advanced.lock;
                let seen = after.clusters.iter().map(|(cluster, locked)| {
                    let uuid = &locked.public.cluster_uuid;
                    (cluster, ShownEvidence { uuid, evidence: None })
                });
                let breaches = step(
                    &program.mesh,
                    &program.lock,
                    &after,
                    &SeenInRun { shown: seen.collect(), ..SeenInRun::default() },
                    NOW,
                );
                assert!(breaches.is_empty(), "{one:?} {other:?}: {breaches:?}");
                let files = after.to_files().unwrap();
                lock = files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
            }
            let after = Program::load(
                &Input { specs: vec![source("specs/mesh.yaml", text)], templates: vec![], lock, inside: None },
                &|_| None,
            );
            let after = after.unwrap().lock;
            let stage = |(reader, peer)| after.link(&name(reader), &name(peer)).map(|link| link.stage);
            let joined = Some(Stage::Joined);
            for link in [("east", "deck"), ("deck", "east"), ("east", "lodge"), ("lodge", "east")] {
                assert_eq!(stage(link), joined, "{link:?}: {one:?} {other:?}");
            }
            // two of other teams' are theirs to link
            let expected = joined.filter(|_| is_ours(one) || is_ours(other));
            for link in [("deck", "lodge"), ("lodge", "deck")] {
                assert_eq!(stage(link), expected, "{link:?}: {one:?} {other:?}");
            }
        }
    }
}
