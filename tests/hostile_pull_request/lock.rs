//! What a pull request writes into the lock by hand.

use serde_json::Value;

use super::{BASE, Merged, judged, main};
use crate::support::checkout::Checkout;

const WEST: &str = "lock/clusters/west.yaml";
const LINKS: &str = "lock/links/east.yaml";

/// The certificate in a cluster's lock entry, as one text.
fn root(checkout: &Checkout, cluster: &str) -> String {
    let path = format!("metadata/{cluster}/public/public.json");
    let document: Value = serde_json::from_slice(&std::fs::read(checkout.path(&path)).unwrap()).unwrap();
    document["rootCA"].as_str().unwrap().to_owned()
}

/// The root CAs in an entry of the lock, as they are there.
fn roots(entry: &str) -> String {
    let lines = entry.lines().skip_while(|line| *line != "  rootCA:").enumerate();
    let own = lines.take_while(|(at, line)| *at == 0 || line.starts_with("  - ") || line.starts_with("    "));
    own.map(|(_, line)| format!("{line}\n")).collect::<Vec<_>>().concat()
}

/// Gives west the root CA of east.
fn another_root(checkout: &Checkout) {
    let entry = |path: &str| std::fs::read_to_string(checkout.path(path)).unwrap();
    let (east, west) = (entry("lock/clusters/east.yaml"), entry(WEST));
    checkout.write(WEST, west.replace(&roots(&west), &roots(&east)).as_bytes());
}

#[test]
fn a_link_that_is_joined_by_hand() {
    let checkout = main();
    // main with two clusters that are not linked
    let links = std::fs::read(checkout.path(LINKS)).unwrap();
    super::apart(&checkout);
    checkout.write(LINKS, &links);
    judged(&checkout, "lock_stage", 4, &[LINKS, "`east → west` counts as joined"], Merged::Withheld);
}

#[test]
fn another_root_ca() {
    let checkout = main();
    another_root(&checkout);
    let reported = ["trust change of `west`: not accepted yet", "root CA", WEST];
    judged(&checkout, "lock_root", 4, &reported, Merged::Followed);
}

#[test]
fn another_uuid() {
    let checkout = main();
    let lock = std::fs::read_to_string(checkout.path(WEST)).unwrap();
    let uuid = lock.split("clusterUUID: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    checkout.write(WEST, lock.replace(&uuid, "00000000-1111-4222-8333-444444444444").as_bytes());
    let reported = ["trust change of `west`: not accepted yet", "cluster UUID", &uuid];
    judged(&checkout, "lock_uuid", 4, &reported, Merged::Followed);
}

#[test]
fn another_api_host_and_another_gateway() {
    let checkout = main();
    let lock = std::fs::read_to_string(checkout.path(WEST)).unwrap();
    let host = lock.split("apiHost: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let lock = lock.replace(&host, "evil.example.com");
    let gateway = lock.split("address: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    checkout.write(WEST, lock.replace(&gateway, "203.0.113.66").as_bytes());
    let reported = ["trust change of `west`: not accepted yet", "api host", "evil.example.com", "203.0.113.66"];
    judged(&checkout, "lock_addresses", 4, &reported, Merged::Followed);
}

#[test]
fn a_serial_that_is_raised() {
    let checkout = main();
    checkout.edit(LINKS, "serial: 1", "serial: 9");
    judged(&checkout, "lock_serial", 4, &[LINKS, "serial", "only runs write the lock"], Merged::Followed);
}

#[test]
fn an_entry_that_is_deleted() {
    let checkout = main();
    std::fs::remove_file(checkout.path(WEST)).unwrap();
    judged(&checkout, "lock_entry_deleted", 4, &[WEST, "only runs write the lock"], Merged::Kept);
}

#[test]
fn a_link_that_is_deleted() {
    let checkout = main();
    std::fs::remove_file(checkout.path(LINKS)).unwrap();
    judged(&checkout, "lock_link_deleted", 4, &[LINKS, "only runs write the lock"], Merged::Kept);
}

#[test]
fn a_key_of_an_engine() {
    let checkout = main();
    let elsewhere = Checkout::new();
    elsewhere.engine(&["keys", "new"]).done();
    let key = std::fs::read_to_string(elsewhere.path("lock/mesh.yaml")).unwrap();
    checkout.write("lock/mesh.yaml", key.as_bytes());
    super::commit(&checkout, &["status", "-s"], "a key");
    let ran = checkout.engine(BASE);
    assert!(ran.code == 4 && super::on_top(&ran.stdout).contains("lock/mesh.yaml"), "{ran}");
    assert!(ran.stdout.contains("engineKeys"), "{ran}");
}

/// What a run shows when it sees a cluster publish something else, and what a pull request shows that has it in the lock.
#[test]
fn one_change_has_one_digest_wherever_it_is_shown() {
    for (document, field, value) in [
        ("private/multicluster.json", "apiHost", Value::from("other.example.com")),
        ("public/public.json", "rootCA", Value::Null),
    ] {
        let checkout = main();
        let path = format!("metadata/west/{document}");
        let mut published: Value = serde_json::from_slice(&std::fs::read(checkout.path(&path)).unwrap()).unwrap();
        let value = if value.is_null() {
            Value::from(format!("{}\n{}", root(&checkout, "west").trim(), root(&checkout, "east")))
        } else {
            value
        };
        published[field] = value;
        checkout.write(&path, published.to_string().as_bytes());
        let json = |arguments: &[&str]| -> Value {
            let ran = checkout.engine(&[arguments, &["--output", "json"]].concat());
            serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"))
        };
        let seen = json(&["plan"]);
        let change = seen["trustChanges"][0].clone();
        assert_eq!(change["state"], "heldBack", "{seen}");
        let digest = change["digest"].as_str().unwrap();
        let short = &digest["sha256:".len()..][..12];
        let applied = checkout.engine(&["apply", "--accept-trust", &format!("west@{short}")]);
        assert_eq!(applied.code, 0, "{applied}");
        super::commit(&checkout, &["status", "-s"], "accepted");
        let proposed = json(BASE);
        let found = proposed["trustChanges"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{proposed}");
        assert_eq!((&found[0]["digest"], &found[0]["state"]), (&change["digest"], &Value::from("proposed")), "{field}");
        assert_eq!(found[0]["findings"], change["findings"], "{field}");
        let comment = checkout.engine(&[BASE, &["--output", "markdown"]].concat());
        assert!(
            comment.code == 4 && comment.stdout.contains(&format!("Merging this accepts `west@{short}`")),
            "{comment}"
        );
        assert!(
            comment.stdout.contains(":warning: Trust change of `west`") && !comment.says(":white_check_mark:"),
            "{comment}"
        );
    }
}
