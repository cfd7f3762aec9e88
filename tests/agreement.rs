//! Lock and tree name each other: what one of them lost is told, and nothing is written or deleted for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::support::checkout::Checkout;
use crate::support::peer::Ca;

const SECRET: &str = "rendered/east/secret-istio-remote-secret-west.yaml";

/// Files of one cluster's folder and of the lock.
fn files(checkout: &Checkout, cluster: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = checkout.output();
    files.retain(|path, _| path.to_string_lossy().contains(&format!("/{cluster}/")));
    files
}

/// What each command says of a loss, with nothing changed in that cluster's folder.
fn is_reported(checkout: &Checkout, cluster: &str, expected: &[&str]) {
    let before = files(checkout, cluster);
    for arguments in [&["plan"][..], &["plan", "--locked"], &["apply"], &["apply", "--locked"]] {
        let ran = checkout.engine(arguments);
        assert_eq!(ran.code, 4, "{arguments:?}: {ran}");
        for word in expected {
            assert!(ran.stdout.contains(word), "{arguments:?}: `{word}` is missing in {ran}");
        }
        assert_eq!(files(checkout, cluster), before, "{arguments:?}");
    }
    let ran = checkout.engine(&["argocd", "generate", "--cluster", cluster]);
    assert!(ran.code == 4 && ran.stdout.is_empty(), "{ran}");
    for word in expected {
        assert!(ran.stderr.contains(word), "`{word}` is missing in {ran}");
    }
    assert_eq!(files(checkout, cluster), before);
}

#[test]
fn a_lost_file_of_links_deletes_no_secret() {
    let checkout = Checkout::joined();
    let links = fs::read(checkout.path("lock/links/east.yaml")).unwrap();
    fs::remove_file(checkout.path("lock/links/east.yaml")).unwrap();
    is_reported(&checkout, "east", &[SECRET, "lock/links/east.yaml", "git checkout COMMIT~1 -- lock/links/east.yaml"]);
    assert!(checkout.path(SECRET).exists());
    checkout.write("lock/links/east.yaml", &links);
    checkout.shows(&["apply"], 0, &["No changes."]);
}

/// What links were begun with is in the entries, which no link names any more: it stays, so that no edit is applied in place.
#[test]
fn where_all_files_of_links_are_lost_no_entry_forgets_what_they_rest_on() {
    let checkout = Checkout::joined();
    let links = ["lock/links/east.yaml", "lock/links/west.yaml"];
    let before = checkout.output();
    let kept = links.map(|path| fs::read(checkout.path(path)).unwrap());
    for path in links {
        fs::remove_file(checkout.path(path)).unwrap();
    }
    let lost = checkout.output();
    let spec = "name: west}\nspec: {";
    for edit in ["", "clusterID: other, ", "trustDomain: other.example, ", "state: leaving, "] {
        checkout.edit("specs/mesh.yaml", spec, &format!("{spec}{edit}"));
        for arguments in [&["apply"][..], &["apply", "--allow-delete"], &["apply", "--cluster", "west"]] {
            checkout.shows(arguments, 4, &["has no link to"]);
            assert_eq!(checkout.output(), lost, "{edit}{arguments:?}");
        }
        checkout.edit("specs/mesh.yaml", &format!("{spec}{edit}"), spec);
    }
    for (path, bytes) in links.into_iter().zip(&kept) {
        checkout.write(path, bytes);
    }
    checkout.shows(&["apply"], 0, &["No changes."]);
    assert_eq!(checkout.output(), before);
}

#[test]
fn a_lost_lock_deletes_nothing_and_takes_no_cluster_for_new() {
    let checkout = Checkout::joined();
    let before = checkout.output();
    fs::rename(checkout.path("lock"), checkout.path("away")).unwrap();
    for cluster in ["east", "west"] {
        is_reported(&checkout, cluster, &["is live, and lock/links/"]);
    }
    checkout.shows(&["apply"], 4, &["the lock lost what was accepted of it", "restore its file below lock/clusters/"]);
    drop(fs::remove_dir_all(checkout.path("lock")));
    fs::rename(checkout.path("away"), checkout.path("lock")).unwrap();
    assert_eq!(checkout.output(), before);
    checkout.shows(&["apply"], 0, &["No changes."]);
}

#[test]
fn a_lost_entry_keeps_all_that_rests_on_it_and_whoever_answers_is_no_first_contact() {
    let checkout = Checkout::joined();
    let entry = fs::read(checkout.path("lock/clusters/west.yaml")).unwrap();
    fs::remove_file(checkout.path("lock/clusters/west.yaml")).unwrap();
    let expected = ["no entry of `west`", "git checkout COMMIT~1 -- lock/clusters/west.yaml"];
    is_reported(&checkout, "east", &expected);
    let output = checkout.engine(&["plan"]).stdout;
    assert!(output.contains("1 held back") || output.contains("held back"), "{output}");
    assert!(!checkout.path("lock/clusters/west.yaml").exists(), "nobody accepted it");
    checkout.write("lock/clusters/west.yaml", &entry);
    checkout.shows(&["apply"], 0, &["No changes."]);
}

const LINKS: &str = "lock/links/east.yaml";
const APART: (&str, &str) =
    ("acceptForeignRoots: true", "acceptForeignRoots: true, topology: pairs, pairs: [], settle: 0s");

/// A joined checkout whose links leave: with the file of east's links before and after the first run, the secret being gone.
fn leaving() -> (Checkout, Vec<u8>, Vec<u8>) {
    let checkout = Checkout::joined();
    let joined = fs::read(checkout.path(LINKS)).unwrap();
    checkout.edit("specs/mesh.yaml", APART.0, APART.1);
    checkout.engine(&["apply", "--allow-delete"]);
    assert!(!checkout.path(SECRET).exists());
    let leaving = fs::read(checkout.path(LINKS)).unwrap();
    (checkout, joined, leaving)
}

/// It would be opened again, while trust and route go.
#[test]
fn an_old_file_of_links_brings_no_secret_back() {
    let (checkout, joined, leaving) = leaving();
    checkout.write(LINKS, &joined);
    is_reported(&checkout, "east", &["configmap-isthmus-peers.yaml is of run 2", "lock/links/east.yaml of run 1"]);
    assert!(!checkout.path(SECRET).exists());
    checkout.write(LINKS, &leaving);
    checkout.shows(&["plan", "--locked"], 0, &["No changes."]);
}

/// Its readers would lose the root that it has now.
#[test]
fn an_old_entry_takes_no_root_back() {
    let checkout = Checkout::joined();
    let path = "lock/clusters/west.yaml";
    let old = fs::read(checkout.path(path)).unwrap();
    let document = fs::read_to_string(checkout.path("metadata/west/public/public.json")).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&document).unwrap();
    document["rootCA"] = Ca::new("another root of west").pem.into();
    checkout.write("metadata/west/public/public.json", document.to_string().as_bytes());
    checkout.engine(&["apply", "--accept-trust", "west"]);
    let new = fs::read(checkout.path(path)).unwrap();
    assert!(new != old);
    checkout.write(path, &old);
    let expected = ["carries serial 2 of `west`", "git checkout COMMIT~1 -- lock/clusters/west.yaml"];
    for cluster in ["east", "west"] {
        is_reported(&checkout, cluster, &expected);
    }
    assert_eq!(fs::read(checkout.path(path)).unwrap(), old, "nothing is accepted on top of it");
    checkout.write(path, &new);
    checkout.shows(&["plan", "--locked"], 0, &["No changes."]);
}

#[test]
fn an_old_file_of_links_deletes_no_secret() {
    let (checkout, _, leaving) = leaving();
    for _ in 0..4 {
        checkout.engine(&["apply", "--allow-delete"]);
    }
    checkout.edit("specs/mesh.yaml", APART.1, APART.0);
    checkout.engine(&["apply"]).done();
    let joined = fs::read(checkout.path(LINKS)).unwrap();
    checkout.write(LINKS, &leaving);
    let expected = [SECRET, "has the link to `west` as `leaving`", "git checkout COMMIT~1 -- lock/links/east.yaml"];
    is_reported(&checkout, "east", &expected);
    assert!(checkout.path(SECRET).exists());
    checkout.write(LINKS, &joined);
    checkout.shows(&["apply"], 0, &["No changes."]);
}

/// The lock is written before the tree: what a run that was cut short did not write, the next one does.
#[test]
fn a_run_that_was_cut_short_continues() {
    // nothing of the tree was written, or all but what was to be deleted
    for is_half in [false, true] {
        let checkout = Checkout::joined();
        let before = checkout.output();
        checkout.edit("specs/mesh.yaml", APART.0, APART.1);
        checkout.engine(&["apply", "--allow-delete"]);
        let after = checkout.output();
        for (path, bytes) in &before {
            let path = path.to_string_lossy();
            if path.contains("rendered/") && !(is_half && after.contains_key(std::path::Path::new(&*path))) {
                checkout.write(&path, bytes);
            }
        }
        assert!(checkout.path(SECRET).exists());
        let ran = checkout.engine(&["apply", "--locked"]);
        assert_eq!(ran.code, 0, "{ran}");
        assert_eq!(checkout.output(), after);
    }
}

/// Files of the lock go after those of the tree: a tree without its lock is one that lost it.
#[test]
fn a_run_that_was_cut_short_while_it_forgot_a_cluster_continues() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {state: leaving, ");
    let mut before = checkout.output();
    for _ in 0..6 {
        if !checkout.path("lock/clusters/west.yaml").exists() {
            break;
        }
        before = checkout.output();
        checkout.engine(&["apply", "--allow-delete"]);
    }
    let after = checkout.output();
    let is_cut_short = |path: &&PathBuf| path.starts_with(checkout.path("lock")) && !after.contains_key(*path);
    let forgotten: Vec<&PathBuf> = before.keys().filter(is_cut_short).collect();
    assert!(forgotten.contains(&&checkout.path("lock/clusters/west.yaml")), "{forgotten:?}");
    for path in forgotten {
        checkout.write(&path.to_string_lossy(), &before[path]);
    }
    checkout.engine(&["apply"]).done();
    assert_eq!(checkout.output(), after);
}

/// Its readers keep what they have of it, and no one is taken for new.
#[test]
fn an_unreadable_entry_keeps_all_that_rests_on_it() {
    let checkout = Checkout::joined();
    let path = "lock/clusters/west.yaml";
    let whole = fs::read(checkout.path(path)).unwrap();
    let conflict = [b"<<<<<<< HEAD\n", &whole[..]].concat();
    checkout.write(path, &conflict);
    let expected = [
        &format!("{path}:1: the file holds merge conflict markers"),
        "git checkout COMMIT~1 -- lock/clusters/west.yaml",
    ];
    for cluster in ["east", "west"] {
        is_reported(&checkout, cluster, &expected);
    }
    checkout.shows(&["plan"], 4, &["trust change of `west`: held back", "the lock lost what was accepted of it"]);
    assert_eq!(fs::read(checkout.path(path)).unwrap(), conflict, "it is neither written nor deleted");
    checkout.write(path, &whole);
    checkout.shows(&["apply"], 0, &["No changes."]);
}

#[test]
fn an_unreadable_file_of_links_deletes_no_secret_and_refuses_no_other_cluster() {
    let checkout = Checkout::joined();
    let whole = fs::read_to_string(checkout.path(LINKS)).unwrap();
    let broken = whole.replace("stage: joined", "stage: enjoyed");
    checkout.write(LINKS, broken.as_bytes());
    is_reported(
        &checkout,
        "east",
        &[
            "lock/links/east.yaml:",
            "expected one of joining",
            ", found `enjoyed`",
            "git checkout COMMIT~1 -- lock/links/east.yaml",
        ],
    );
    fs::remove_file(checkout.path("rendered/west/configmap-isthmus-mesh.yaml")).unwrap();
    assert_eq!(checkout.engine(&["apply"]).code, 4);
    assert!(checkout.path("rendered/west/configmap-isthmus-mesh.yaml").exists(), "west is as well as before");
    assert_eq!(fs::read_to_string(checkout.path(LINKS)).unwrap(), broken);
    for cluster in ["west", "east"] {
        let ran = checkout.engine(&["argocd", "generate", "--cluster", cluster]);
        assert_eq!(ran.code, if cluster == "east" { 4 } else { 0 }, "{ran}");
    }
    assert_eq!(checkout.engine(&["verify"]).code, 4);
    assert_eq!(checkout.engine(&["watch", "--once"]).code, 4);
    checkout.write(LINKS, whole.as_bytes());
    checkout.shows(&["apply"], 0, &["No changes."]);
}

/// A cluster of which no one knows what its file said has not left, whatever its links say.
#[test]
fn an_unreadable_file_of_a_cluster_that_leaves_is_not_forgotten() {
    for path in ["lock/clusters/west.yaml", "lock/links/west.yaml"] {
        let checkout = Checkout::joined();
        checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
        checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {state: leaving, ");
        checkout.write(path, b"version: 2\n");
        for _ in 0..6 {
            assert_eq!(checkout.engine(&["apply", "--allow-delete"]).code, 4);
        }
        assert_eq!(fs::read(checkout.path(path)).unwrap(), b"version: 2\n");
        assert!(checkout.path("lock/clusters/west.yaml").exists());
        assert!(checkout.path("rendered/west/secret-istio-remote-secret-east.yaml").exists());
    }
}

/// Nothing rests on it, so whoever accepts what it publishes now has all of it.
#[test]
fn an_unreadable_entry_on_which_nothing_rests_is_accepted_anew() {
    let checkout = Checkout::joined();
    checkout.edit(
        "specs/mesh.yaml",
        "acceptForeignRoots: true",
        "acceptForeignRoots: true, topology: pairs, pairs: [], settle: 0s",
    );
    for _ in 0..6 {
        checkout.engine(&["apply", "--allow-delete"]);
    }
    checkout.shows(&["apply"], 0, &["No changes."]);
    checkout.write("lock/clusters/west.yaml", b"version: 2\n");
    checkout.shows(&["apply"], 4, &["the lock lost what was accepted of it"]);
    checkout.engine(&["apply", "--accept-trust", "west"]);
    checkout.shows(&["apply"], 0, &["No changes."]);
}

#[test]
fn one_lost_file_refuses_no_other_cluster() {
    let checkout = Checkout::joined();
    fs::remove_file(checkout.path("lock/links/east.yaml")).unwrap();
    fs::remove_file(checkout.path("rendered/west/configmap-isthmus-mesh.yaml")).unwrap();
    assert_eq!(checkout.engine(&["apply"]).code, 4);
    assert!(checkout.path("rendered/west/configmap-isthmus-mesh.yaml").exists(), "west is as well as before");
}

#[test]
fn a_secret_that_cannot_be_made_anew_stays_and_stays_listed() {
    let checkout = Checkout::joined();
    // the last that was known of west's private document goes with an edit by hand, and nothing is published
    let path = "lock/clusters/east.yaml";
    let text = fs::read_to_string(checkout.path(path)).unwrap();
    let at = text.find("  relayCA: |").unwrap();
    let end = text[at + 12..].find("-----END CERTIFICATE-----\n").unwrap() + at + 12 + 26;
    checkout.write(path, format!("{}{}", &text[..at], &text[end..]).as_bytes());
    fs::remove_dir_all(checkout.path("metadata")).unwrap();
    let before = fs::read(checkout.path(SECRET)).unwrap();
    checkout.engine(&["apply"]);
    assert_eq!(fs::read(checkout.path(SECRET)).unwrap(), before);
    let kustomization = fs::read_to_string(checkout.path("rendered/east/kustomization.yaml")).unwrap();
    assert!(kustomization.contains("secret-istio-remote-secret-west.yaml"), "{kustomization}");
}

/// Half of a cluster would be written, and the lock would say that the rest is, too.
#[test]
fn a_file_of_another_tool_keeps_the_whole_cluster_as_it_is() {
    let mine = b"apiVersion: v1\nkind: Secret\nmetadata: {name: istio-remote-secret-west}\n";
    for (path, bytes) in [(SECRET, &mine[..]), ("rendered/east/kustomization.yaml", b"resources: []\n")] {
        let checkout = Checkout::new();
        checkout.write(path, bytes);
        let ran = checkout.engine(&["apply"]);
        assert!(ran.code == 4 && ran.stdout.contains(&format!("`{path}` is not ours")), "{ran}");
        assert_eq!(files(&checkout, "east").len(), 1, "nothing but that file");
        assert!(!checkout.path("lock/links/east.yaml").exists(), "no link is recorded");
        assert!(checkout.path("rendered/west/configmap-isthmus-mesh.yaml").exists());
        fs::remove_file(checkout.path(path)).unwrap();
        checkout.engine(&["apply"]).done();
        assert!(checkout.path(SECRET).exists());
        checkout.shows(&["apply"], 0, &["No changes."]);
    }
}

/// Two routes of one ID, or two clusters merged into one network.
#[test]
fn a_stated_value_that_another_cluster_publishes_is_an_error() {
    for (field, value) in [("clusterID", "west"), ("network", "network-west")] {
        let checkout = Checkout::joined();
        let edit = format!("name: east}}\nspec: {{{field}: {value}, ");
        checkout.edit("specs/mesh.yaml", "name: east}\nspec: {", &edit);
        checkout.refuses(&["apply"], 1, &["`east` states the", value, "`west` is known by it"]);
    }
}

#[test]
fn an_edit_of_what_links_rest_on_is_refused_while_they_are_joined() {
    for (from, to, expected) in [
        (
            "metadata: {name: shop}",
            "metadata: {name: bazaar}",
            "2 clusters are joined in the mesh `shop`, and the Mesh is now named `bazaar`",
        ),
        ("name: west}\nspec: {", "name: west}\nspec: {reconciler: external, ", "`multicluster.enabled: true`"),
        (
            "name: west}\nspec: {istio: {",
            "name: west}\nspec: {istio: {config: helmValues, ",
            "`istio.config: sharedMeshConfig`",
        ),
    ] {
        let checkout = Checkout::joined();
        checkout.edit("specs/mesh.yaml", from, to);
        for arguments in [&["apply"][..], &["plan", "--locked"], &["argocd", "generate", "--cluster", "east"]] {
            checkout.refuses(arguments, 4, &[expected, "set `state: leaving`", "apply until its links are gone"]);
        }
    }
}

/// Nothing was to come of it, so time closes its links, whether it answers or not.
#[test]
fn a_silent_cluster_of_which_no_evidence_will_come_leaves_when_it_has_settled() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {state: leaving, ");
    fs::remove_dir_all(checkout.path("metadata/west")).unwrap();
    checkout.engine(&["apply"]);
    assert!(!checkout.path(SECRET).exists());
    checkout.shows(&["apply"], 0, &["since `west` shows no evidence and `settle` is not over"]);
    let routes = checkout.path("rendered/east/configmap-isthmus-routes.yaml");
    assert!(routes.exists());
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
    checkout.engine(&["apply"]).done();
    assert!(!routes.exists(), "one stage a run");
    assert!(checkout.path("lock/clusters/west.yaml").exists());
    for _ in 0..3 {
        checkout.engine(&["apply"]).done();
    }
    assert!(!checkout.path("lock/clusters/west.yaml").exists());
    checkout.shows(&["apply"], 0, &["No changes."]);
}

/// Links that never had a secret carry no traffic that an edit could cut.
#[test]
fn an_edit_of_what_links_rest_on_is_taken_while_they_are_joining() {
    let checkout = Checkout::new();
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {istio: {", "name: west}\nspec: {istio: {prepared: true, ");
    let relay_ca = |cluster: &str| {
        let path = format!("metadata/{cluster}/public/public.json");
        let document = fs::read_to_string(checkout.path(&path)).unwrap();
        let mut document: serde_json::Value = serde_json::from_str(&document).unwrap();
        document.as_object_mut().unwrap().remove("relayCA");
        checkout.write(&path, document.to_string().as_bytes());
    };
    relay_ca("east");
    relay_ca("west");
    checkout.engine(&["apply"]).done();
    assert!(fs::read_to_string(checkout.path(LINKS)).unwrap().contains("stage: joining"));
    checkout.edit("specs/mesh.yaml", "istio: {prepared: true", "istio: {prepared: true, config: helmValues");
    checkout.engine(&["apply"]).done();
    checkout.engine(&["apply"]).done();
    assert!(fs::read_to_string(checkout.path("lock/clusters/west.yaml")).unwrap().contains("istioConfig: helmValues"));
    assert!(checkout.path("values/west").exists());
}

/// Until the links are gone, everything stays where they rest on it.
#[test]
fn other_edits_of_what_links_rest_on_make_them_leave_and_join_anew() {
    let peers = "rendered/west/configmap-isthmus-peers.yaml";
    for (from, to, field, joined, wanted) in [
        ("name: shop}\nspec: {", "name: shop}\nspec: {meshID: bazaar, ", "meshID", "shop", "bazaar"),
        (
            "name: west}\nspec: {istio: {",
            "name: west}\nspec: {istio: {namespace: istio, ",
            "istio.namespace",
            "istio-system",
            "istio",
        ),
        ("name: west}\nspec: {", "name: west}\nspec: {flatNetwork: true, ", "flatNetwork", "false", "true"),
    ] {
        let checkout = Checkout::joined();
        checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
        checkout.edit("specs/mesh.yaml", from, to);
        checkout.shows(&["plan", "--locked"], 0, &["No changes."]);
        let cost = format!("changes {field} from `{joined}` to `{wanted}`: `east → west`, `west → east`");
        checkout.shows(&["plan"], 4, &["2 links leave and join anew", &cost, "--allow-delete"]);
        let mut was_gone = false;
        for _ in 0..8 {
            checkout.engine(&["apply", "--allow-delete"]);
            assert_eq!(checkout.engine(&["verify"]).code, 0, "{field}");
            was_gone |= !checkout.path(SECRET).exists();
            let text = fs::read_to_string(checkout.path(peers)).unwrap_or_default();
            assert!(was_gone || field != "istio.namespace" || text.contains("namespace: istio-system"), "{text}");
        }
        assert!(was_gone && checkout.path(SECRET).exists(), "{field}");
        checkout.shows(&["apply"], 0, &["No changes."]);
        let entry = fs::read_to_string(checkout.path("lock/clusters/west.yaml")).unwrap();
        assert!(entry.contains(wanted), "{field}: {entry}");
    }
}

/// Its proxies stay in the network by which its peers know it.
#[test]
fn an_edited_network_reaches_no_proxy_before_the_links_are_gone() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {network: other, ");
    let plan = checkout.shows(&["plan", "--locked"], 0, &["ISTIO_META_NETWORK: network-west"]);
    assert!(!plan.stdout.contains("other"), "{plan}");
}

/// No one would reach it by a gateway that is not there.
#[test]
fn a_flat_network_ends_when_there_is_a_gateway() {
    let checkout = Checkout::new();
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {flatNetwork: true, ");
    let private = "metadata/west/private/multicluster.json";
    let document = fs::read_to_string(checkout.path(private)).unwrap();
    let mut flat: serde_json::Value = serde_json::from_str(&document).unwrap();
    flat["ingressGateways"] = serde_json::json!([]);
    checkout.write(private, flat.to_string().as_bytes());
    checkout.engine(&["apply"]).done();
    assert!(checkout.path(SECRET).exists());
    checkout.edit("specs/mesh.yaml", "flatNetwork: true, ", "");
    checkout.shows(&["apply"], 0, &["waits for a gateway of `west`, published or stated"]);
    checkout.write(private, document.as_bytes());
    for _ in 0..8 {
        checkout.engine(&["apply", "--allow-delete"]);
    }
    checkout.shows(&["apply"], 0, &["No changes."]);
    let networks = fs::read_to_string(checkout.path("rendered/east/configmap-isthmus-mesh.yaml")).unwrap();
    assert!(checkout.path(SECRET).exists() && networks.contains("15443"), "{networks}");
}

#[test]
fn another_cluster_id_leaves_and_joins_anew_and_never_in_place() {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {clusterID: occident, ");
    let secret = || fs::read_to_string(checkout.path(SECRET)).ok();
    let routes =
        || fs::read_to_string(checkout.path("rendered/east/configmap-isthmus-routes.yaml")).unwrap_or_default();
    let before = secret().unwrap();
    assert!(before.contains("networking.istio.io/cluster: west"), "{before}");
    // without asking, the tree stays with what the link was begun with
    checkout.shows(&["plan", "--locked"], 0, &["No changes."]);
    let mut seen = vec![before];
    // all links of the mesh would go
    checkout.shows(
        &["plan"],
        4,
        &[
            "2 links leave and join anew",
            "`west` changes clusterID from `west` to `occident`",
            "so they carry no traffic",
        ],
    );
    for _ in 0..8 {
        checkout.engine(&["apply", "--allow-delete"]);
        assert!(secret().is_none() || !routes().is_empty(), "no secret without its route");
        seen.extend(secret().filter(|text| seen.last() != Some(text)));
    }
    assert_eq!(seen.len(), 2, "west, then nothing, then occident");
    assert!(seen[1].contains("networking.istio.io/cluster: occident"), "{}", seen[1]);
    checkout.shows(&["apply"], 0, &["No changes."]);
}

#[test]
fn a_lock_that_was_cut_short_is_refused_wherever_it_was_cut() {
    let checkout = Checkout::joined();
    for path in ["lock/clusters/west.yaml", "lock/links/east.yaml"] {
        let whole = fs::read_to_string(checkout.path(path)).unwrap();
        let lines: Vec<&str> = whole.split_inclusive('\n').collect();
        for cut in (1..lines.len()).step_by(lines.len() / 12 + 1).chain([lines.len() - 1]) {
            checkout.write(path, lines[..cut].concat().as_bytes());
            let ran = checkout.engine(&["plan", "--locked"]);
            assert_eq!(ran.code, 4, "{path} cut after {cut} of {} lines: {ran}", lines.len());
        }
        checkout.write(path, whole.as_bytes());
    }
}

/// Only where git has no copy: the tree says which links there were.
#[test]
fn lost_links_are_taken_from_the_tree_when_that_is_asked_for() {
    let checkout = Checkout::joined();
    let (links, secret) = (fs::read(checkout.path(LINKS)).unwrap(), fs::read(checkout.path(SECRET)).unwrap());
    fs::remove_file(checkout.path(LINKS)).unwrap();
    checkout.shows(&["plan"], 4, &["only where git has no copy", "engine apply --restore-links"]);
    checkout.engine(&["apply", "--restore-links"]).done();
    assert_eq!(fs::read(checkout.path(LINKS)).unwrap(), links);
    assert_eq!(fs::read(checkout.path(SECRET)).unwrap(), secret);
    checkout.shows(&["apply"], 0, &["No changes."]);
    checkout.engine(&["verify"]).done();
    checkout.refuses(&["apply", "--locked", "--restore-links"], 64, &["--restore-links cannot be used with --locked"]);
}

/// Its entries are accepted by their digests, its links come from the tree.
#[test]
fn a_whole_lost_lock_is_made_from_the_tree_and_from_what_is_accepted() {
    let checkout = Checkout::joined();
    let secret = fs::read(checkout.path(SECRET)).unwrap();
    fs::remove_dir_all(checkout.path("lock")).unwrap();
    checkout.engine(&["apply", "--restore-links"]);
    checkout.engine(&["apply", "--restore-links", "--accept-trust", "east,west"]);
    checkout.engine(&["apply"]);
    assert_eq!(fs::read(checkout.path(SECRET)).unwrap(), secret);
    assert!(fs::read_to_string(checkout.path(LINKS)).unwrap().contains("stage: joined"));
    checkout.engine(&["verify"]).done();
    checkout.shows(&["apply"], 0, &["No changes."]);
}

/// No folder of its own says what its links rest on: those of its readers do.
#[test]
fn an_external_cluster_that_is_accepted_anew_keeps_what_its_readers_know_it_by() {
    let checkout = Checkout::new();
    let spec = "name: west}\nspec: {";
    checkout.edit(
        "specs/mesh.yaml",
        spec,
        &format!("{spec}reconciler: external, network: first, trustDomain: first.example, "),
    );
    checkout.edit("specs/mesh.yaml", "name: east}\nspec: {", "name: east}\nspec: {mergeTrustDomains: false, ");
    checkout.engine(&["apply"]).done();
    checkout.engine(&["apply"]).done();
    let entry = || fs::read_to_string(checkout.path("lock/clusters/west.yaml")).unwrap_or_default();
    assert!(entry().contains("network: first\n") && checkout.path(SECRET).exists(), "{}", entry());
    fs::remove_file(checkout.path("lock/clusters/west.yaml")).unwrap();
    checkout.edit(
        "specs/mesh.yaml",
        "network: first, trustDomain: first.example",
        "network: second, trustDomain: second.example",
    );
    checkout.engine(&["apply", "--accept-trust", "west"]);
    let entry = entry();
    let (_, joined) = entry.split_once("joinedWith:").unwrap_or_else(|| panic!("{entry}"));
    let joined = joined.split("\npublic:").next().unwrap();
    assert!(joined.contains("network: first\n") && joined.contains("trustDomain: first.example\n"), "{joined}");
}

/// As version 0.1.0 wrote it: neither lock nor tree say with what links were begun.
fn former(checkout: &Checkout) {
    for (path, bytes) in checkout.output() {
        let text = String::from_utf8(bytes).unwrap();
        let path = path.to_string_lossy().into_owned();
        let is_lock = path.contains("lock/");
        let mut kept = String::new();
        let mut skips = false;
        for line in text.lines() {
            let is_nested = line.starts_with(' ') || line.starts_with('-');
            let newer = ["joinedWith:", "serial:", "metadata:", "complete:"];
            skips = if is_lock && is_nested { skips } else { is_lock && newer.iter().any(|key| line.starts_with(key)) };
            let in_peers = ["\"joinedLinks\":", "\"joinedWith\":", "\"serial\":", "\"entry\":"];
            let is_carried = path.ends_with("configmap-isthmus-peers.yaml")
                && in_peers.iter().any(|key| line.trim_start().starts_with(key));
            if !skips && !is_carried {
                kept += line;
                kept += "\n";
            }
        }
        if is_lock {
            kept = kept.replace("version: 2\n", "version: 1\n");
        }
        let path = path.split_once("checkout/").map_or(path.as_str(), |(_, path)| path);
        checkout.write(path, kept.as_bytes());
    }
}

/// The first run of this version takes from the tree with what links were begun, so that no edit of the same commit is applied in place.
#[test]
fn a_lock_of_version_1_is_completed_from_the_tree_and_is_one_line_of_the_plan() {
    for (edit, kept) in [
        ("clusterID: other, istio: {", "clusterID: west\n"),
        ("istio: {namespace: other, ", "istioNamespace: istio-system"),
    ] {
        let checkout = Checkout::joined();
        checkout.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, settle: 0s");
        former(&checkout);
        checkout.edit("specs/mesh.yaml", "name: west}\nspec: {istio: {", &format!("name: west}}\nspec: {{{edit}"));
        let before = checkout.output();
        checkout.shows(&["plan", "--locked"], 0, &["No changes."]);
        let plan = checkout.shows(&["plan"], 4, &["lock/ from version 1 to 2, 4 files", "2 links leave and join anew"]);
        assert!(!plan.stdout.contains("lock/clusters/"), "{plan}");
        assert_eq!(checkout.output(), before);
        checkout.engine(&["apply"]);
        let entry = fs::read_to_string(checkout.path("lock/clusters/west.yaml")).unwrap();
        assert!(entry.starts_with("version: 2\n") && entry.contains(kept), "{entry}");
        assert!(checkout.path(SECRET).exists());
        let plan = checkout.engine(&["plan", "--allow-delete"]);
        assert!(!plan.stdout.contains("from version 1"), "{plan}");
    }
}
