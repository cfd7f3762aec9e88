//! What a pull request puts into `rendered/`, `values/` and `lock/`.

use rstest::rstest;

use super::{IMAGE, Merged, judged, main, merge, overrides};
use crate::support::checkout::Checkout;

const LIST: &str = "rendered/east/kustomization.yaml";
const DEPLOYMENT: &str = "rendered/east/deployment.apps-isthmus-relay.yaml";
const ADMIN: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: evil}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: default, namespace: default}]\n";
/// The same with the labels that ours have.
const ADMIN_AS_OURS: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: evil, labels: {app.kubernetes.io/managed-by: isthmus, isthmus.dev/mesh: shop, isthmus.dev/owner: tree}}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: default, namespace: default}]\n";
const BINDING: &str = "clusterrolebinding.rbac.authorization.k8s.io-evil.yaml";

fn listed(checkout: &Checkout, entry: &str) {
    checkout.edit(LIST, "resources:\n", &format!("resources:\n- {entry}\n"));
}

#[test]
fn an_object_of_another_tool_that_is_listed() {
    let checkout = main();
    checkout.write(&format!("rendered/east/{BINDING}"), ADMIN.as_bytes());
    listed(&checkout, BINDING);
    let reported =
        [&*format!("rendered/east/{BINDING}"), "is not ours: `ClusterRoleBinding evil`", "kustomization.yaml` lists"];
    judged(&checkout, "foreign_object_listed", 4, &reported, Merged::Kept);
}

#[rstest]
#[case::beside_ours("foreign_object", "rendered/east/", Merged::Kept)]
#[case::deeper("foreign_object_deeper", "rendered/east/more/", Merged::Kept)]
#[case::above("foreign_object_above", "rendered/", Merged::Kept)]
#[case::of_no_cluster("foreign_object_of_nobody", "rendered/evil/", Merged::Kept)]
#[case::in_values("foreign_object_in_values", "values/west/", Merged::Kept)]
#[case::in_values_of_no_cluster("foreign_object_in_values_of_nobody", "values/evil/", Merged::Kept)]
fn an_object_of_another_tool(#[case] name: &str, #[case] folder: &str, #[case] merged: Merged) {
    let checkout = main();
    checkout.write(&format!("{folder}{BINDING}"), ADMIN.as_bytes());
    judged(&checkout, name, 4, &[&format!("{folder}{BINDING}"), "is not ours"], merged);
}

#[test]
fn a_file_in_the_lock_that_is_none_of_it() {
    let checkout = main();
    checkout.write("lock/evil.json", b"{}");
    judged(&checkout, "foreign_file_in_lock", 4, &["lock/evil.json", "is not ours"], Merged::Kept);
}

#[rstest]
#[case::listed("forged_object_listed", true)]
#[case::not_listed("forged_object", false)]
fn an_object_that_claims_to_be_ours(#[case] name: &str, #[case] is_listed: bool) {
    let checkout = main();
    checkout.write(&format!("rendered/east/{BINDING}"), ADMIN_AS_OURS.as_bytes());
    if is_listed {
        listed(&checkout, BINDING);
    }
    judged(&checkout, name, 4, &[BINDING, "adds it", "cluster-admin"], Merged::Mended);
}

#[test]
fn a_rendered_object_that_is_changed() {
    let checkout = main();
    checkout.edit(DEPLOYMENT, IMAGE, "evil.example.com/engine:1");
    judged(&checkout, "changed_object", 4, &[DEPLOYMENT, "evil.example.com/engine:1", IMAGE], Merged::Mended);
}

/// A remote secret is never shown, changed or not.
#[test]
fn a_remote_secret_that_is_changed() {
    let checkout = main();
    let path = "rendered/east/secret-istio-remote-secret-west.yaml";
    checkout.edit(path, "\ndata:\n", "\ndata:\n  evil: ZXZpbC1yZWxheQ==\n");
    judged(&checkout, "changed_secret", 4, &[path, "[secret "], Merged::Mended);
    let shown = checkout.engine(&["plan", "--base", "main~1", "-v"]);
    assert!(!shown.says("ZXZpbC1yZWxheQ"), "{shown}");
}

#[test]
fn a_rendered_object_that_is_deleted() {
    let checkout = main();
    let path = "rendered/east/networkpolicy.networking.k8s.io-isthmus-relay.yaml";
    std::fs::remove_file(checkout.path(path)).unwrap();
    judged(&checkout, "deleted_object", 4, &[path, "deletes it"], Merged::Mended);
}

#[rstest]
#[case::remote("kustomization_remote", "- https://evil.example.com/x?ref=main\n", "lists `https://evil.example.com")]
#[case::above("kustomization_above", "- ../../evil\n", "lists `../../evil`")]
#[case::patches("kustomization_patches", "patches: [{path: evil.yaml}]\n", "has the field `patches`")]
#[case::images(
    "kustomization_images",
    "images: [{name: ghcr.io/x/engine, newName: evil.example.com/engine}]\n",
    "has the field `images`"
)]
fn our_list_of_files(#[case] name: &str, #[case] line: &str, #[case] reported: &str) {
    let checkout = main();
    let text = std::fs::read_to_string(checkout.path(LIST)).unwrap();
    checkout.write(LIST, format!("{text}{line}").as_bytes());
    judged(&checkout, name, 4, &[LIST, reported], Merged::Kept);
}

#[test]
fn our_list_of_files_that_leaves_one_out() {
    let checkout = main();
    checkout.edit(LIST, "- networkpolicy.networking.k8s.io-isthmus-relay.yaml\n", "");
    judged(&checkout, "kustomization_shorter", 4, &[LIST, "changes it", "networkpolicy"], Merged::Mended);
}

#[test]
fn values_that_are_changed() {
    let checkout = main();
    let path = "values/west/helm-values.yaml";
    let text = std::fs::read_to_string(checkout.path(path)).unwrap();
    checkout.write(path, format!("{text}global: {{hub: evil.example.com}}\n").as_bytes());
    judged(&checkout, "changed_values", 4, &[path, "evil.example.com"], Merged::Mended);
}

#[test]
fn values_of_another_tool() {
    let checkout = main();
    let path = "values/east/helm-values.yaml";
    checkout.write(path, b"global: {hub: evil.example.com}\n");
    judged(&checkout, "foreign_values", 4, &[path, "lacks our first line"], Merged::Kept);
}

/// However many harmless fields are changed, the dangerous one comes first, and what is not shown is said.
#[test]
fn sixty_annotations_around_an_image() {
    let checkout = main();
    let many = (0..60).map(|at| format!("    a{at:02}.example.com/note: n\n")).collect::<Vec<_>>().concat();
    checkout.edit(DEPLOYMENT, "  annotations:\n", &format!("  annotations:\n{many}"));
    checkout.edit(DEPLOYMENT, IMAGE, "evil.example.com/engine:1");
    let reported = [DEPLOYMENT, "evil.example.com/engine:1", "more fields"];
    judged(&checkout, "padded_object", 4, &reported, Merged::Mended);
}

/// The same by ways that are allowed: an override with annotations, beside an image that the policy admits.
#[test]
fn sixty_annotations_of_an_override_around_an_image() {
    let checkout = main();
    let many = (0..60).map(|at| format!("    backstage.io/a{at:02}: n\n")).collect::<Vec<_>>().concat();
    overrides(&checkout, "relay/deployment.yaml", "metadata:\n", &format!("metadata:\n  annotations:\n{many}"));
    checkout.edit(super::SPECS, IMAGE, "ghcr.io/x/engine:2");
    judged(&checkout, "padded_override", 0, &["multicluster.image", "ghcr.io/x/engine:2"], Merged::Followed);
}

/// Objects that a comment has no room for are named on top of it.
#[test]
fn what_a_comment_cuts_is_named_on_top() {
    let checkout = main();
    let many =
        (0..200).map(|at| format!("    backstage.io/a{at:03}: {}\n", "n".repeat(100))).collect::<Vec<_>>().concat();
    for name in ["relay", "exporter", "proxy"] {
        let template = format!("{name}/deployment.yaml");
        overrides(&checkout, &template, "metadata:\n", &format!("metadata:\n  annotations:\n{many}"));
    }
    let comment = checkout.engine(&["plan", "--base", "main", "--output", "markdown"]).done();
    let (top, _) = comment.split_once("### Review first").unwrap();
    assert!(top.contains(":no_entry: **3 changed objects are not shown whole here"), "{top}");
    assert!(top.contains("`rendered/east/deployment.apps-isthmus-relay.yaml`"), "{top}");
    assert!(comment.chars().count() <= 65_000);
}

/// Names of files, texts of objects and of specs stay in their place.
#[test]
fn a_text_that_resembles_one_of_ours() {
    let checkout = main();
    let name = "rendered/east/`</details>@octocat Plan: 0 to create, 0 refused.yaml";
    checkout
        .write(name, b"apiVersion: v1\nkind: \"x\\nNo changes.\"\nmetadata: {name: \"</summary>![x](http://e)\"}\n");
    judged(&checkout, "hostile_text", 4, &["is not ours"], Merged::Kept);
}

/// What main itself has not rendered yet is no one's edit.
#[test]
fn a_tree_that_is_behind_its_specs_is_no_edit() {
    let checkout = main();
    checkout.git(&["switch", "-q", "main"]);
    checkout.edit(super::SPECS, IMAGE, "ghcr.io/x/engine:2");
    super::commit(&checkout, &["status", "-s"], "not applied yet");
    checkout.git(&["switch", "-q", "-C", "pull"]);
    let output = checkout.engine(super::BASE).done();
    assert!(output.contains("No changes. Specs, templates, policy, lock, rendered/ and values/"), "{output}");
    // what a pull request renders by itself is what it asks for
    checkout.edit(super::SPECS, "ghcr.io/x/engine:2", "ghcr.io/x/engine:3");
    checkout.engine(&["apply", "--locked"]).done();
    super::commit(&checkout, &["status", "-s"], "rendered");
    let ran = checkout.engine(super::BASE);
    assert!(ran.code == 0 && ran.stdout.contains("multicluster.image"), "{ran}");
    merge(&checkout, Merged::Followed);
}
