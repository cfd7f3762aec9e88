//! What `engine manifests` prints, and what it refuses.

use isthmus::server::limits::RoleLimits;
use rstest::rstest;
use serde_json::Value;

use crate::support::checkout::Checkout;
use crate::support::environment::TestEnvironment;

const REPO: &str = "https://git.example.com/platform.git";

fn printed(checkout: &Checkout, arguments: &[&str]) -> String {
    let ran = checkout.engine(&[&["-q", "manifests"], arguments].concat());
    assert_eq!(ran.stderr, "");
    ran.done()
}

fn objects(stream: &str) -> Vec<Value> {
    stream.split("\n---\n").map(|text| serde_yaml::from_str(text).unwrap()).collect()
}

#[test]
fn a_cluster_that_argo_cd_knows_by_its_url_is_no_name() {
    let checkout = Checkout::new();
    let url = "https://10.20.30.40:6443";
    let east = format!("east={url}");
    let arguments = ["argocd", "--repo", REPO, "--sync", "directory", "--destination", &east];
    let one = objects(&printed(&checkout, &[&arguments[..], &["--cluster", "east"]].concat()));
    assert_eq!(one[0]["spec"]["destination"], serde_json::json!({ "server": url, "namespace": "istio-system" }));
    // of several, each by what it is known by; Argo CD takes an empty field for none
    let set = objects(&printed(&checkout, &arguments));
    let elements = &set[0]["spec"]["generators"][0]["list"]["elements"];
    assert_eq!((&elements[0]["destination"], &elements[0]["server"]), (&"".into(), &url.into()));
    assert_eq!((&elements[1]["destination"], &elements[1]["server"]), (&"west".into(), &"".into()));
    let template = &set[0]["spec"]["template"]["spec"]["destination"];
    assert_eq!((&template["name"], &template["server"]), (&"{{.destination}}".into(), &"{{.server}}".into()));
}

#[test]
fn flux_takes_urls_of_three_schemes_and_commits_apart() {
    let checkout = Checkout::new();
    let refused = ["begins with http://, https:// or ssh://", "ssh://git@HOST/OWNER/REPO"];
    checkout.refuses(&["manifests", "flux", "--repo", "git@git.example.com:platform/mesh.git"], 64, &refused);
    let commit = "4f9a1c7be2d05836a1b2c3d4e5f60718293a4b5c";
    let source = objects(&printed(&checkout, &["flux", "--repo", REPO, "--revision", commit, "--cluster", "east"]));
    assert_eq!(source[0]["spec"]["ref"], serde_json::json!({ "commit": commit }));
}

#[test]
fn the_sidecar_has_no_way_out_but_its_socket() {
    let nowhere = TestEnvironment::new();
    let ran = nowhere.run(&["manifests", "argocd", "--image", "isthmus:1", "--namespace", "gitops"]);
    let all = objects(&ran.done());
    assert!(all.iter().all(|object| object["metadata"]["namespace"] == "gitops"));
    let plugin: Value = serde_yaml::from_str(all[0]["data"]["plugin.yaml"].as_str().unwrap()).unwrap();
    assert!(plugin["spec"].get("discover").is_none() && plugin["spec"].get("version").is_none());
    let pod = &all[1]["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    let sidecar = &pod["containers"][0];
    let security = &sidecar["securityContext"];
    assert_eq!((&security["runAsUser"], &security["readOnlyRootFilesystem"]), (&999.into(), &true.into()));
    assert_eq!(security["capabilities"]["drop"][0], "ALL");
    let mounts = sidecar["volumeMounts"].as_array().unwrap();
    let volume = |path: &str| {
        let mount = mounts.iter().find(|mount| mount["mountPath"] == path).unwrap_or_else(|| panic!("{path}"));
        let volumes = pod["volumes"].as_array().unwrap();
        volumes.iter().find(|volume| volume["name"] == mount["name"]).cloned()
    };
    for own in ["/tmp", "/var/run/secrets/kubernetes.io/serviceaccount"] {
        assert!(volume(own).unwrap().get("emptyDir").is_some(), "{own} is shared");
    }
    // these are argocd-repo-server's own
    assert!(volume("/var/run/argocd").is_none() && volume("/home/argocd/cmp-server/plugins").is_none());
}

#[test]
fn each_part_is_to_be_had_alone() {
    let checkout = Checkout::new();
    let all = ["argocd", "--image", "isthmus:1", "--repo", REPO];
    let parts =
        ["config", "sidecar", "applications"].map(|part| printed(&checkout, &[&all[..], &["--part", part]].concat()));
    assert_eq!(parts.join("---\n"), printed(&checkout, &all));
    checkout.refuses(&["manifests", "argocd", "--part", "sidecar", "--repo", REPO], 64, &["found neither"]);
}

#[test]
fn what_flux_gets() {
    let checkout = Checkout::new();
    let arguments = ["flux", "--repo", REPO, "--revision", "refs/tags/v1", "--secret", "git"];
    // one Flux for all: each cluster by its kubeconfig
    let all = objects(&printed(&checkout, &[&arguments[..], &["--destination", "west=west-admin"]].concat()));
    let secrets: Vec<&str> =
        all[1..].iter().map(|object| object["spec"]["kubeConfig"]["secretRef"]["name"].as_str().unwrap()).collect();
    assert_eq!(secrets, [["east-kubeconfig"; 5], ["west-admin"; 5]].concat());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let checkout = Checkout::new();
    for (arguments, exit, text) in [
        (&["argocd"][..], 64, "found neither"),
        (&["argocd", "--image", "a b"], 64, "--image"),
        (&["argocd", "--image", "a", "--sync", "directory"], 64, "needs no plugin"),
        (&["argocd", "--repo", "https://user:password@git.example.com/x"], 64, "expected no password"),
        (&["argocd", "--repo", REPO, "--path", "../other"], 64, "--path"),
        (&["argocd", "--repo", REPO, "--path", "/abs"], 64, "--path"),
        (&["argocd", "--repo", REPO, "--destination", "esat=x"], 64, "did you mean `east`?"),
        (
            &["argocd", "--repo", REPO, "--destination", "east=x", "--destination", "east=y"],
            64,
            "expected one name for `east`, found two",
        ),
        (&["argocd", "--repo", REPO, "--cluster", "esat"], 64, "did you mean `east`?"),
        (&["flux"], 64, "--repo"),
        (&["flux", "--repo", REPO, "--destination", "east=UPPER"], 64, "--destination"),
        (&["flux", "--repo", REPO, "--output", "json"], 64, "expected `text` for this command, found `json`"),
    ] {
        checkout.refuses(&[&["manifests"], arguments].concat(), exit, &[text]);
    }
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {reconciler: external, ");
    checkout.refuses(&["manifests", "argocd", "--repo", REPO, "--cluster", "west"], 4, &["its own team's checkout"]);
    assert!(!printed(&checkout, &["argocd", "--repo", REPO]).contains("west"));
}

/// What one of each costs at most, KiB; tests/proxy/floods.rs sees that of strangers.
const OF_STRANGER: usize = 256;
const OF_CONNECTION: usize = 64;
const OF_WATCH: usize = 12;
/// What the apiserver sends ahead, and what is projected together.
const OF_LIST: usize = 256 + 128;
/// The program itself, its metrics and what it knows of its peers.
const AT_REST: usize = 32 * 1024;

#[rstest]
#[case::exporter("exporter", RoleLimits::of_exporter(), false)]
#[case::proxy("proxy", RoleLimits::of_proxy(), true)]
#[case::relay("relay", RoleLimits::of_relay(), true)]
fn what_clients_may_cost_together_fits_into_the_container(
    #[case] role: &str,
    #[case] limits: RoleLimits,
    #[case] streams: bool,
) {
    let template = std::fs::read_to_string(format!("templates/{role}/deployment.yaml")).unwrap();
    let limit = template.split_once("limits:").unwrap().1.split_once("memory: ").unwrap().1;
    let limit: usize = limit.split_once("Mi").unwrap().0.parse().unwrap();
    let streaming = if streams { limits.watches * OF_WATCH + limits.lists * OF_LIST } else { 0 };
    let sum =
        AT_REST + limits.unauthenticated_connections * OF_STRANGER + limits.connections * OF_CONNECTION + streaming;
    assert!(sum < limit * 1024, "{role}: {sum} KiB of {limit} MiB");
}
