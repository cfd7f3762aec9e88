//! Links that the lock lost, taken from the tree and from what istiod reads: as joined, never opened anew and never closed early,
//! and each of them listed before it is written.

use std::fs;

use isthmus::wire::metadata::Reported;
use tokio::runtime::Runtime;

use crate::support::links::LinksCheckout;

const SECRET: &str = "rendered/east/secret-istio-remote-secret-west.yaml";
const ROOTS: &str = "rendered/west/configmap-isthmus-mesh.yaml";

/// Neither lock nor tree know of any link; entries of clusters are still there.
fn forget_links(site: &LinksCheckout) {
    for folder in ["lock/links", "rendered"] {
        fs::remove_dir_all(site.checkout.path(folder)).unwrap();
    }
}

fn read(site: &LinksCheckout, path: &str) -> String {
    fs::read_to_string(site.checkout.path(path)).unwrap_or_default()
}

#[test]
fn what_istiod_reads_is_joined_though_neither_lock_nor_tree_know_it() {
    let peers = Runtime::new().unwrap();
    let site = LinksCheckout::joined(peers.handle(), &["east", "west"]);
    let before = site.checkout.output();
    forget_links(&site);
    let expected = [
        "2 links are restored as joined",
        "istiod of the reader shows that it reads the peer: `east → west`, `west → east`",
        "unproven",
        "+ Secret istio-remote-secret-west",
    ];
    site.checkout.shows(&["plan", "--restore-links"], 0, &expected);
    site.checkout.engine(&["apply", "--restore-links"]).done();
    let mut after = site.checkout.output();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (path, old) in &before {
        let numbers = |bytes: &[u8]| {
            let lines = String::from_utf8(bytes.to_vec()).unwrap();
            let counts = ["serial", "entry", "unproven"];
            let kept = lines.split_inclusive('\n').filter(|line| !counts.iter().any(|count| line.contains(count)));
            kept.collect::<String>()
        };
        assert_eq!(numbers(&after.remove(path).unwrap()), numbers(old), "{}", path.display());
    }
    site.checkout.shows(&["apply"], 0, &["No changes."]);
    site.checkout.engine(&["verify"]).done();
}

#[test]
fn what_is_read_and_no_longer_wanted_leaves_by_evidence_and_not_at_once() {
    let peers = Runtime::new().unwrap();
    let site = LinksCheckout::joined(peers.handle(), &["east", "west"]);
    forget_links(&site);
    site.checkout.edit(
        "specs/mesh.yaml",
        "acceptForeignRoots: true",
        "acceptForeignRoots: true, topology: pairs, pairs: []",
    );
    site.checkout.engine(&["apply", "--restore-links", "--allow-delete"]).done();
    assert!(!site.checkout.path(SECRET).exists());
    let links = read(&site, "lock/links/east.yaml");
    // the run after all that were ever synced, and after that by which the links are this checkout's
    assert!(links.contains("stage: leaving\n") && links.contains("closed: 11\n"), "{links}");
    for serial in [9, 11] {
        site.reads("east", &["west"], serial);
        site.checkout.engine(&["apply"]).done();
        assert!(read(&site, ROOTS).contains("BEGIN CERTIFICATE"), "{serial}: read, so its trust stays");
    }
    site.reads("east", &[], 10);
    site.checkout.engine(&["apply"]).done();
    assert!(read(&site, "lock/links/east.yaml").contains("stage: leaving\n"), "not seen since it was deleted");
    for cluster in ["east", "west"] {
        site.reads(cluster, &[], 11);
    }
    site.checkout.engine(&["apply"]).done();
    assert!(read(&site, "lock/links/east.yaml").contains("stage: leaving-trust\n"));
}

/// One direction alone is read: what the peer gives for it stays, and the other direction opens by evidence.
#[test]
fn the_other_direction_of_what_is_read_is_never_opened_without_evidence() {
    let peers = Runtime::new().unwrap();
    let site = LinksCheckout::joined(peers.handle(), &["east", "west"]);
    forget_links(&site);
    site.reads("west", &[], 9);
    site.evidence("east", |evidence| evidence.trusts = Reported::Seen([].into()));
    let expected = ["1 link is restored as joined", "1 link is restored as leaving", "the other direction is live"];
    site.checkout.shows(&["plan", "--restore-links"], 0, &expected);
    site.checkout.engine(&["apply", "--restore-links"]).done();
    assert!(site.checkout.path(SECRET).exists());
    assert!(!site.checkout.path("rendered/west/secret-istio-remote-secret-east.yaml").exists());
    assert!(read(&site, ROOTS).contains("BEGIN CERTIFICATE"));
    site.checkout.engine(&["verify"]).done();
    site.live();
    site.checkout.engine(&["apply"]).done();
    assert!(site.checkout.path("rendered/west/secret-istio-remote-secret-east.yaml").exists());
    site.checkout.shows(&["apply"], 0, &["No changes."]);
}

/// An edit of the same commit is not applied in place.
#[test]
fn what_is_read_keeps_the_id_by_which_it_is_read() {
    let peers = Runtime::new().unwrap();
    let site = LinksCheckout::joined(peers.handle(), &["east", "west"]);
    forget_links(&site);
    let spec = "name: west}\nspec:\n";
    site.checkout.edit("specs/mesh.yaml", spec, &format!("{spec}  clusterID: other\n"));
    let plan = site.checkout.engine(&["plan", "--restore-links", "--allow-delete"]);
    assert!(plan.stdout.contains("`west` changes clusterID from `west` to `other`"), "{plan}");
    site.checkout.engine(&["apply", "--restore-links", "--allow-delete"]);
    let entry = read(&site, "lock/clusters/west.yaml");
    assert!(entry.contains("clusterID: west\n"), "{entry}");
    assert!(!read(&site, SECRET).contains("other"));
}

/// Without being asked to, a run takes nothing from evidence: it begins the link, and takes nothing away.
#[test]
fn without_the_flag_a_link_that_is_read_begins_by_evidence() {
    let peers = Runtime::new().unwrap();
    let site = LinksCheckout::joined(peers.handle(), &["east", "west"]);
    forget_links(&site);
    site.evidence("east", |evidence| evidence.trusts = Reported::Seen([].into()));
    let plan = site.checkout.engine(&["plan"]);
    assert!(!plan.stdout.contains("restored"), "{plan}");
    site.checkout.engine(&["apply"]).done();
    assert!(!site.checkout.path(SECRET).exists() && read(&site, ROOTS).contains("BEGIN CERTIFICATE"));
}

/// A file of links that lost one of several is restored by that one alone.
#[test]
fn one_of_several_links_of_a_reader_is_restored() {
    let peers = Runtime::new().unwrap();
    let site = LinksCheckout::joined(peers.handle(), &["east", "north", "west"]);
    let links = read(&site, "lock/links/east.yaml");
    let (kept, rest) = links.split_once("  west:\n").unwrap();
    let rest: String = rest.split_inclusive('\n').skip_while(|line| line.starts_with("    ")).collect();
    let secret = read(&site, SECRET);
    site.checkout.write("lock/links/east.yaml", format!("{kept}{rest}").as_bytes());
    site.checkout.shows(&["plan"], 4, &["has no link to `west`", "--restore-links"]);
    let expected = ["1 link is restored as joined", "the remote secret is in the tree: `east → west`"];
    site.checkout.shows(&["plan", "--restore-links"], 0, &expected);
    site.checkout.engine(&["apply", "--restore-links"]).done();
    assert_eq!(read(&site, SECRET), secret);
    assert_eq!(read(&site, "lock/links/east.yaml").replace("    unproven: true\n", ""), links);
    site.checkout.shows(&["apply"], 0, &["No changes."]);
}

/// What a secret needs stays while it is read, though neither lock nor tree know of it any more, as after a revert.
#[test]
fn a_leaving_cluster_that_is_read_without_a_link_goes_when_it_is_read_no_more() {
    let peers = Runtime::new().unwrap();
    let site = LinksCheckout::joined(peers.handle(), &["east", "west"]);
    fs::remove_dir_all(site.checkout.path("lock/links")).unwrap();
    for cluster in ["east", "west"] {
        for object in ["secret-istio-remote-secret", "configmap-isthmus"] {
            let folder = site.checkout.path(&format!("rendered/{cluster}"));
            let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
            let of_links = files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with(object));
            of_links.for_each(|file| fs::remove_file(file).unwrap());
        }
    }
    let spec = "name: west}\nspec:\n";
    site.checkout.edit("specs/mesh.yaml", spec, &format!("{spec}  state: leaving\n"));
    let proxy = "rendered/west/deployment.apps-isthmus-relay.yaml";
    let is_there = |path: &str| site.checkout.path(path).exists();
    assert!(is_there(proxy));
    for _ in 0..3 {
        site.checkout.engine(&["apply"]).done();
        assert!(is_there(proxy) && is_there("lock/clusters/west.yaml"));
        assert!(read(&site, ROOTS).contains("BEGIN CERTIFICATE") && !is_there(SECRET));
    }
    for cluster in ["east", "west"] {
        site.reads(cluster, &[], 9);
        site.evidence(cluster, |evidence| evidence.routes = Reported::Seen(Vec::new()));
    }
    for _ in 0..4 {
        site.checkout.engine(&["apply"]).done();
    }
    assert!(!is_there(proxy) && !is_there("lock/clusters/west.yaml"));
}

/// The lost file may have been synced, and with it what the secret needs.
#[test]
fn a_secret_that_the_tree_lost_is_restored_once_its_reader_shows_whether_it_is_live() {
    let peers = Runtime::new().unwrap();
    for lost in [SECRET, "rendered/east"] {
        let site = LinksCheckout::joined(peers.handle(), &["east", "west"]);
        let before = site.checkout.output();
        let path = site.checkout.path(lost);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        let silent = || site.evidence("east", |evidence| evidence.reads = Reported::Unknown("not synced yet".into()));
        silent();
        let expected = ["does not show whether its istiod reads `west`", &format!("git checkout COMMIT~1 -- {SECRET}")];
        let kept = site.checkout.output();
        for arguments in [&["plan"][..], &["apply"]] {
            site.checkout.shows(arguments, 4, &expected);
            assert_eq!(site.checkout.output(), kept, "{lost}: {arguments:?}");
        }
        // it was live all the time
        site.reads("east", &["west"], 9);
        site.checkout.engine(&["apply"]).done();
        assert_eq!(site.checkout.output(), before, "{lost}");
        // it was deleted: the folder comes back, and the secret when all that it needs is live
        fs::remove_dir_all(site.checkout.path("rendered/east")).unwrap();
        silent();
        site.evidence("east", |evidence| evidence.trusts = Reported::Seen([].into()));
        site.checkout.shows(&["apply"], 4, &expected);
        site.checkout.engine(&["apply", "--allow-delete"]);
        assert!(!site.checkout.path(SECRET).exists() && site.checkout.path("rendered/east").exists(), "{lost}");
        site.reads("east", &[], 9);
        site.checkout.engine(&["apply"]);
        assert!(!site.checkout.path(SECRET).exists(), "{lost}: what it needs is not live");
        site.live();
        site.checkout.engine(&["apply"]).done();
        assert!(site.checkout.path(SECRET).exists(), "{lost}");
    }
}
