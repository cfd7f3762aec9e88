//! The mesh as a picture: how clusters and links are judged, and what the page is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use isthmus::pipeline::plan::Plan;
use isthmus::report::health::{HealthJudge, StatusRow};
use isthmus::report::picture::{Health, Picture};
use isthmus::types::name::ClusterName;
use serde_json::Value;

use crate::support::checkout::Checkout;
use crate::support::world::{ClusterFault, DeclaredState, FAULTS, MemoryMesh, NAMES};
use isthmus::types::time::{DAY, Timestamp};

/// A time at which all certificates are valid, seconds since 1970.
const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

/// The picture of a world, with what a run found.
pub(crate) fn drawn(world: &MemoryMesh, plan: Option<&Plan>, now: Timestamp) -> Picture {
    let files = |name: &ClusterName| world.folder(name.as_str()).into_keys().collect::<BTreeSet<_>>();
    let read_at: BTreeMap<ClusterName, Timestamp> =
        world.names().into_iter().map(|name| (name.parse().unwrap(), now - Duration::from_secs(90))).collect();
    Picture::new(&world.load().mesh, &world.lock(), plan, &files, &read_at, now)
}

/// Three clusters, all joined.
pub(crate) fn joined() -> Picture {
    let mut world = MemoryMesh::joined(3, None);
    let turned = world.reconcile();
    drawn(&world, Some(&turned.plan), NOW)
}

/// Three clusters, of which the last began to misbehave while all were joining.
pub(crate) fn with_fault(fault: ClusterFault) -> Picture {
    let mut world = MemoryMesh::new(3);
    world.reconcile();
    world.sync_all();
    world.faults.insert(NAMES[2], fault);
    for _ in 0..4 {
        world.reconcile();
        world.sync(NAMES[0]);
        world.sync(NAMES[1]);
    }
    let turned = world.reconcile();
    drawn(&world, Some(&turned.plan), NOW)
}

fn link<'a>(picture: &'a Picture, reader: &str, peer: &str) -> &'a isthmus::report::picture::LinkPicture {
    &picture.links[reader][peer]
}

#[test]
fn a_joined_mesh_is_all_joined_and_says_little_of_each_link() {
    let picture = joined();
    assert_eq!(picture.counts.clusters, BTreeMap::from([(Health::Joined, 3)]));
    assert_eq!(picture.counts.links, BTreeMap::from([(Health::Joined, 6)]));
    let json: Value = serde_json::from_str(&picture.json()).unwrap();
    assert_eq!(json["links"]["ash"]["birch"], serde_json::json!({ "state": "joined" }));
    let ash = &json["clusters"]["ash"];
    assert_eq!((&ash["network"], &ash["clusterId"]), (&"network-ash".into(), &"ash".into()));
    assert_eq!(ash["readAt"], NOW.as_seconds() - 90);
    assert!(ash["roots"][0]["expires"].as_i64().unwrap() > NOW.as_seconds());
}

#[test]
fn a_cluster_that_does_not_answer_breaks_the_links_that_are_not_joined() {
    let picture = with_fault(ClusterFault::Down);
    assert_eq!(picture.clusters["cedar"].state, Health::Broken);
    assert!(picture.clusters["cedar"].reasons[0].contains("did not answer within 10 s"), "{:?}", picture.clusters);
    assert_eq!(link(&picture, "ash", "birch").state, Health::Joined);
    for (reader, peer) in [("ash", "cedar"), ("cedar", "ash"), ("birch", "cedar"), ("cedar", "birch")] {
        let link = link(&picture, reader, peer);
        assert_eq!((link.state, link.stage), (Health::Broken, Some("joining")), "{reader} → {peer}");
        assert!(link.reasons.iter().any(|reason| reason.contains("did not answer within 10 s")), "{link:?}");
    }
}

#[test]
fn joined_links_of_a_cluster_that_does_not_answer_are_at_risk() {
    let mut world = MemoryMesh::joined(3, None);
    world.faults.insert("cedar", ClusterFault::Down);
    let turned = world.reconcile();
    let picture = drawn(&world, Some(&turned.plan), NOW);
    assert_eq!(picture.counts.links, BTreeMap::from([(Health::AtRisk, 4), (Health::Joined, 2)]));
}

#[test]
fn a_trust_change_that_is_held_back_comes_with_the_command_that_accepts_it() {
    let mut world = MemoryMesh::joined(2, None);
    world.faults.insert("birch", ClusterFault::OtherRoot);
    let turned = world.reconcile();
    let picture = drawn(&world, Some(&turned.plan), NOW);
    let birch = &picture.clusters["birch"];
    assert_eq!(birch.state, Health::Broken);
    let change = birch.trust_change.as_ref().unwrap();
    let accept: isthmus::model::trust::Approval = change.accept.as_ref().unwrap().parse().unwrap();
    assert_eq!(accept.cluster.as_str(), "birch");
    assert!(accept.digest.is_some() && !change.findings.is_empty());
    assert_eq!(picture.clusters["ash"].state, Health::Joined);
}

#[test]
fn what_ends_is_at_risk_first_and_broken_then() {
    let world = MemoryMesh::joined(2, None);
    let end = world.lock().clusters[&"ash".parse::<ClusterName>().unwrap()].public.roots[0].not_after;
    for (now, health) in [(end - DAY * 31, Health::Joined), (end - DAY, Health::AtRisk), (end, Health::Broken)] {
        let picture = drawn(&world, None, now);
        assert_eq!(picture.clusters["ash"].state, health, "{} s before the end", end.since(now).as_secs());
        assert_eq!(link(&picture, "birch", "ash").state, health);
    }
}

#[test]
fn a_joined_link_without_its_secret_is_broken() {
    let mut world = MemoryMesh::joined(2, None);
    world.checkout.remove("rendered/ash/secret-istio-remote-secret-birch.yaml").unwrap();
    let picture = drawn(&world, None, NOW);
    assert_eq!(link(&picture, "ash", "birch").state, Health::Broken);
    assert!(link(&picture, "ash", "birch").reasons[0].contains("engine apply"));
    assert_eq!(link(&picture, "birch", "ash").state, Health::Joined);
}

#[test]
fn leaving_and_paused_clusters_are_what_they_are() {
    let mut world = MemoryMesh::joined(3, None);
    world.wish.clusters.insert("birch", DeclaredState::Paused);
    world.wish.clusters.insert("cedar", DeclaredState::Leaving);
    let before = drawn(&world, None, NOW);
    assert_eq!(link(&before, "ash", "cedar").state, Health::Leaving, "before any turn");
    let turned = world.reconcile();
    let picture = drawn(&world, Some(&turned.plan), NOW);
    assert_eq!(picture.clusters["birch"].state, Health::Paused);
    assert_eq!(picture.clusters["cedar"].state, Health::Leaving);
    assert_eq!(link(&picture, "ash", "birch").state, Health::Joined);
    assert_eq!(link(&picture, "ash", "cedar").state, Health::Leaving);
}

/// The rows of the table and the page of one moment, which have to say the same.
fn rows_as_on_the_page(world: &MemoryMesh, plan: Option<&Plan>, now: Timestamp) -> Vec<StatusRow> {
    let (program, lock) = (world.load(), world.lock());
    let picture = drawn(world, plan, now);
    let in_tree = |reader: &ClusterName, peer: &ClusterName| {
        world.folder(reader.as_str()).contains_key(&isthmus::model::layout::secret_file(peer))
    };
    let rows = HealthJudge::new(&program.mesh, &lock, plan, now).rows(&in_tree);
    assert_eq!(rows.len(), picture.clusters.len());
    for row in &rows {
        let cluster = &picture.clusters[row.name.as_str()];
        let links = &picture.links[row.name.as_str()];
        assert_eq!(row.links, links.len(), "{row:?}");
        if row.health == cluster.state {
            continue;
        }
        // then it is one of its links, and the page does not think better of that one
        assert!(row.health < cluster.state, "{row:?}, {cluster:?}");
        let is_noted = |reason: &String| row.note.contains(reason.as_str());
        assert!(
            links.values().any(|link| link.state <= row.health && link.reasons.iter().any(is_noted)),
            "{row:?}, {links:?}"
        );
    }
    rows
}

#[test]
fn the_table_says_of_every_cluster_what_the_page_says() {
    for fault in FAULTS {
        for joined in [false, true] {
            let mut world = if joined { MemoryMesh::joined(3, None) } else { MemoryMesh::new(3) };
            world.faults.insert("cedar", fault);
            for _ in 0..3 {
                let turned = world.reconcile();
                rows_as_on_the_page(&world, Some(&turned.plan), NOW);
                world.sync("ash");
                world.sync("birch");
            }
        }
    }
    let mut world = MemoryMesh::joined(4, None);
    world.wish.clusters.insert("birch", DeclaredState::Paused);
    world.wish.clusters.insert("cedar", DeclaredState::Leaving);
    for _ in 0..3 {
        let turned = world.reconcile();
        let rows = rows_as_on_the_page(&world, Some(&turned.plan), NOW);
        let state = |name: &str| rows.iter().find(|row| row.name.as_str() == name).unwrap().health;
        assert_eq!((state("ash"), state("birch"), state("cedar")), (Health::Joined, Health::Paused, Health::Leaving));
        world.sync("ash");
    }
}

#[test]
fn the_table_too_says_that_a_root_ends_or_a_secret_is_missing() {
    let mut world = MemoryMesh::joined(2, None);
    let end = world.lock().clusters[&"ash".parse::<ClusterName>().unwrap()].public.roots[0].not_after;
    for (now, health) in [(end - DAY * 31, Health::Joined), (end - DAY, Health::AtRisk), (end, Health::Broken)] {
        let rows = rows_as_on_the_page(&world, None, now);
        assert_eq!(rows.iter().find(|row| row.name.as_str() == "ash").unwrap().health, health);
    }
    world.checkout.remove("rendered/ash/secret-istio-remote-secret-birch.yaml").unwrap();
    let rows = rows_as_on_the_page(&world, None, NOW);
    assert_eq!((rows[0].name.as_str(), rows[0].health, rows[0].joined), ("ash", Health::Broken, 1));
    assert!(rows[0].note.contains("remote secret is missing"), "{rows:?}");
}

#[test]
fn links_that_are_wanted_and_not_begun_are_drawn_too() {
    let world = MemoryMesh::new(2);
    let picture = drawn(&world, None, NOW);
    assert_eq!(picture.counts.clusters, BTreeMap::from([(Health::Waiting, 2)]));
    assert_eq!(link(&picture, "ash", "birch").stage, Some("none"));
    assert_eq!(picture.counts.links, BTreeMap::from([(Health::Waiting, 2)]));
}

#[test]
fn no_word_of_a_cluster_ends_the_element_that_holds_it() {
    let mut picture = joined();
    picture.clusters.get_mut("ash").unwrap().reasons = vec![
        "</script><script>alert(1)</script>".to_owned(),
        "<!--<script>".to_owned(),
        "{{script}} {{style}}".to_owned(),
    ];
    let page = picture.html();
    assert_eq!(page.matches("</script>").count(), 2, "the picture and our own");
    assert!(!page.contains("alert(1)</script>") && !page.contains("<!--"));
    assert!(page.contains("{{script}} {{style}}"), "what a cluster says is no place of the page");
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"picture\">").unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    assert_eq!(serde_json::from_str::<Value>(json).unwrap(), serde_json::from_str::<Value>(&picture.json()).unwrap());
}

#[test]
fn the_page_allows_nothing_but_itself() {
    let picture = joined();
    let policy = |page: &str| {
        page.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let (page, live) = (picture.html(), picture.live_html());
    for part in
        ["default-src 'none'", "style-src 'sha256-", "script-src 'sha256-", "connect-src 'none'", "base-uri 'none'"]
    {
        assert!(policy(&page).contains(part), "{part}");
    }
    assert!(policy(&live).contains("connect-src 'self'") && !policy(&live).contains("unsafe"));
    assert!(live.contains("<html lang=\"en\" data-live>") && !page.contains("<html lang=\"en\" data-live>"));
    for loads in [" src=", "@import", "url(", "//cdn", "innerHTML", "eval("] {
        assert!(!page.contains(loads), "{loads}");
    }
}

#[test]
fn report_writes_the_page_and_changes_nothing() {
    let checkout = Checkout::joined();
    let before = checkout.output();
    let file = checkout.path("mesh.html");
    checkout.engine(&["report", "--html", file.to_str().unwrap()]).done();
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("\"east\":{\"west\":"), "{page}");
    let stdout = checkout.engine(&["report", "--html", "-"]).done();
    assert!(stdout.ends_with("</html>\n"), "{stdout}");
    let text = checkout.engine(&["--output", "json", "report", "--fetch"]).done();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["asked"], &json["mesh"]), (&true.into(), &"shop".into()));
    assert!(json["clusters"]["east"]["readAt"].is_i64(), "{text}");
    assert!(before == checkout.output());
    checkout.refuses(&["report"], 64, &["--html FILE"]);
    checkout.refuses(&["--output", "json", "report", "--html", "-"], 64, &["both write to stdout"]);
    checkout.refuses(&["--cluster", "east", "report", "--html", "-"], 64, &["whole mesh"]);
    checkout.refuses(&["report", "--html", "/nowhere/mesh.html"], 6, &["cannot write /nowhere/mesh.html"]);
}
