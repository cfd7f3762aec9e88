//! The command line itself, and commands that print texts for others: Argo CD, Flux, policy, schemas, shells, people.

use std::collections::BTreeSet;

use super::{OutputPage, commands, first_lines, with_a_slip};
use crate::support::checkout::Checkout;
use crate::support::environment::TestEnvironment;

const JSON: [&str; 2] = ["--output", "json"];
const REPO: &str = "https://git.example.com/platform.git";

fn json<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &JSON].concat()
}

#[test]
fn command_line() {
    let mut page = OutputPage::default();
    let environment = TestEnvironment::new();
    page.run_in("nothing is asked", &environment, &[]);
    page.run_in("the version", &environment, &["--version"]);
    page.run_in("a command that is not there", &environment, &["plna"]);
    page.run_in("the same as JSON", &environment, &json(&["plna"]));
    page.run_in("nothing like it", &environment, &["xyzzy"]);
    page.run_in("a command that this version lacks", &environment, &["doctor"]);
    page.run_in("a format that is not there", &environment, &["plan", "--output", "yaml"]);
    page.run_in("a name that is none", &environment, &["plan", "--cluster", "East"]);
    page.run_in("flags that exclude each other", &environment, &["plan", "-q", "-v"]);
    page.hold("command-line");
}

#[test]
fn help() {
    let mut page = OutputPage::default();
    let environment = TestEnvironment::new();
    page.run_in("the program", &environment, &["--help"]);
    let mut known = Vec::new();
    commands(&isthmus::cli::command(), "", &mut known);
    let mut groups = BTreeSet::new();
    for command in &known {
        if let Some((group, _)) = command.split_once(' ') {
            groups.insert(group);
        }
    }
    for group in groups {
        page.run_in("a group", &environment, &[group, "--help"]);
    }
    for command in &known {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        page.run_in("a command", &environment, &arguments);
    }
    page.hold("help");
}

#[test]
fn argocd() {
    let mut page = OutputPage::default();
    let checkout = Checkout::joined();
    page.run("the objects of a cluster", &checkout, &["argocd", "generate", "--cluster", "east"]);
    page.run("its parameters", &checkout, &["argocd", "parameters"]);
    page.run("no cluster is named", &checkout, &["argocd", "generate"]);
    page.run("no such cluster", &checkout, &["argocd", "generate", "--cluster", "wset"]);
    page.run("no checkout", &checkout, &["argocd", "parameters", "-C", "nowhere"]);
    page.run("more than there is", &checkout, &["argocd", "parameters", "east"]);
    let mut given = Checkout::joined();
    given.environment.set("ARGOCD_APP_PARAMETERS", "[{\"name\":\"clusters\",\"string\":\"east\"}]");
    page.run("a parameter that is not there", &given, &["argocd", "generate"]);
    given.environment.set("ARGOCD_APP_PARAMETERS", "[{\"name\":\"cluster\",\"string\":\"west\"}]");
    page.run("two names", &given, &["argocd", "generate", "--cluster", "east"]);
    let new = Checkout::new();
    page.run("a cluster that has no lock entry", &new, &["argocd", "generate", "--cluster", "east"]);
    with_a_slip(&checkout);
    page.run("a slip in a spec", &checkout, &["argocd", "generate", "--cluster", "east"]);
    page.hold("argocd");
}

#[test]
fn manifests() {
    let mut page = OutputPage::default();
    let checkout = Checkout::new();
    let image = "registry.example.com/isthmus:0.1.0";
    let argocd = ["manifests", "argocd", "--repo", REPO];
    let arguments = ["--image", image, "--path", "mesh/shop", "--destination", "west=west-prod"];
    page.run("the plugin and its Applications", &checkout, &[&argocd[..], &arguments].concat());
    page.run(
        "the folder of one cluster",
        &checkout,
        &[&argocd[..], &["--sync", "directory", "--cluster", "east"]].concat(),
    );
    page.run("nothing is asked for", &checkout, &["manifests", "argocd"]);
    page.run("no image", &checkout, &["manifests", "argocd", "--image", ""]);
    page.run("an image and no plugin", &checkout, &["manifests", "argocd", "--image", image, "--sync", "directory"]);
    for destination in ["west", "west=", "wset=a"] {
        page.run("a destination that is none", &checkout, &[&argocd[..], &["--destination", destination]].concat());
    }
    let twice = ["--destination", "west=a", "--destination", "west=b"];
    page.run("two destinations", &checkout, &[&argocd[..], &twice].concat());
    page.run("a password", &checkout, &["manifests", "argocd", "--repo", "https://me:secret@git.example.com/mesh.git"]);
    page.run("no revision", &checkout, &[&argocd[..], &["--revision", "a b"]].concat());
    page.run("no folder", &checkout, &[&argocd[..], &["--path", "../x"]].concat());
    page.run("no name of an object", &checkout, &[&argocd[..], &["--project", "My Project"]].concat());
    page.run(
        "one Flux in its cluster",
        &checkout,
        &["manifests", "flux", "--repo", REPO, "--path", "mesh/shop", "--cluster", "east"],
    );
    page.run(
        "one Flux for all",
        &checkout,
        &["manifests", "flux", "--repo", REPO, "--secret", "git", "--revision", "refs/tags/v1"],
    );
    page.run("no repository", &checkout, &["manifests", "flux"]);
    page.run(
        "a URL that Flux does not take",
        &checkout,
        &["manifests", "flux", "--repo", "git@git.example.com:mesh.git"],
    );
    checkout.edit("specs/mesh.yaml", "name: west}\nspec: {", "name: west}\nspec: {reconciler: external, ");
    page.run("a cluster of another team", &checkout, &["manifests", "flux", "--repo", REPO, "--cluster", "west"]);
    page.run("no agent acts there", &checkout, &["manifests", "agent", "--cluster", "west"]);
    page.run("no cluster is named", &checkout, &["manifests", "agent"]);
    for cluster in ["east", "west"] {
        let published = format!("https://m.{cluster}.example.com");
        checkout.edit("specs/mesh.yaml", &format!("file://metadata/{cluster}"), &published);
    }
    let multicluster = format!("reconciler: agent, multicluster: {{image: {image}, apiHost: api.east.example.com}}");
    checkout.edit("specs/mesh.yaml", "name: east}\nspec: {", &format!("name: east}}\nspec: {{{multicluster}, "));
    // whole in charts/isthmus, which is compared with it
    let place = checkout.path("");
    let agent = ["-C", place.to_str().unwrap(), "manifests", "agent", "--cluster", "east"];
    page.head("a cluster with an agent", &checkout.environment, &agent, 12);
    let folder = checkout.path("chart");
    let chart = ["manifests", "helm", "--directory", folder.to_str().unwrap()];
    page.run("the chart", &checkout, &chart);
    page.run("a folder that is not empty", &checkout, &chart);
    page.hold("manifests");
}

#[test]
fn policy() {
    let mut page = OutputPage::default();
    let checkout = Checkout::joined();
    page.run("no policy", &checkout, &["policy", "test"]);
    let policy = |rules: &str| format!("apiVersion: isthmus.dev/v1alpha1\nkind: Policy\nspec:\n{rules}");
    checkout.write("policy.yaml", policy("  clusters: {reconcilers: [rendered]}\n").as_bytes());
    page.run("what is admitted", &checkout, &["policy", "test"]);
    page.run("the same as JSON", &checkout, &json(&["policy", "test"]));
    checkout.write(
        "policy.yaml",
        policy("  clusters: {trustDomains: [example.com], reconcilers: [external]}\n").as_bytes(),
    );
    page.run("what is not admitted", &checkout, &["policy", "test"]);
    page.run("the same as JSON", &checkout, &json(&["policy", "test"]));
    checkout.write("policy.yaml", policy("  clusters: {reconciler: [rendered]}\n").as_bytes());
    page.run("a slip in the policy", &checkout, &["policy", "test"]);
    page.hold("policy");
}

#[test]
fn generated() {
    let mut page = OutputPage::default();
    let environment = TestEnvironment::new();
    // whole in docs/reference and by its own parsers
    page.head("of specs", &environment, &["schema"], 6);
    page.head("of a plan", &environment, &["schema", "plan"], 6);
    page.head("of a policy", &environment, &["schema", "policy"], 6);
    page.run_in("no such schema", &environment, &["schema", "lock"]);
    page.head("for a shell", &environment, &["completions", "bash"], 3);
    page.run_in("no shell", &environment, &["completions"]);
    page.run_in("no such shell", &environment, &["completions", "tcsh"]);
    page.head("the manual page", &environment, &["man"], 12);
    page.run_in("more than there is", &environment, &["man", "plan"]);
    page.hold("generated");
}

/// What another machine, another toolchain or a release says otherwise.
fn without_build(text: &str) -> String {
    let built = [("target", "[TARGET]"), ("rustc", "[RUSTC]"), ("commit", "[COMMIT]")];
    let line = |line: &str| {
        let (name, value) = line.trim().trim_end_matches(',').split_once([':', ' ']).unwrap_or((line, ""));
        let known = built.iter().find(|(known, _)| name.trim_matches('"') == *known);
        known.map_or_else(|| line.to_owned(), |(_, shown)| line.replace(value.trim(), shown))
    };
    text.lines().map(|each| line(each) + "\n").collect()
}

#[test]
fn version() {
    let mut page = OutputPage::default();
    let environment = TestEnvironment::new();
    for (about, arguments) in [("the version", vec!["version"]), ("the same as JSON", json(&["version"]))] {
        let mut ran = environment.run(&arguments);
        if ran.stdout.starts_with('{') {
            ran.stdout = format!("{:#}\n", serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap());
        }
        ran.stdout = without_build(&ran.stdout);
        page.ran(about, &environment, &arguments, &ran);
    }
    page.run_in("more than there is", &environment, &["version", "plan"]);
    page.run_in("the same as JSON", &environment, &json(&["version", "plan"]));
    page.run_in("a flag without effect", &environment, &["version", "--cluster", "east"]);
    page.hold("version");
}

/// Keys and roots are made anew by each tour.
fn without_digests(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_hex = name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        out.push_str(if name.len() >= 12 && is_hex { "[DIGEST]" } else { name });
        out.push_str(word.strip_prefix(name).unwrap_or_default());
    }
    out
}

/// A tour without what each has its own of: digests, and the lines of objects, which are in the order of the digests of root CAs.
fn without_chance(tour: &str) -> String {
    let lines = tour.split('\n').filter(|line| !line.starts_with("        "));
    without_digests(&lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn demo() {
    let mut page = OutputPage::default();
    let environment = TestEnvironment::new();
    let mut ran = environment.run(&["demo"]);
    ran.stdout = without_chance(&ran.stdout);
    ran.stderr = without_chance(&ran.stderr);
    page.ran("the tour", &environment, &["demo"], &ran);
    let folder = environment.path("home");
    std::fs::write(folder.join("there"), "").unwrap();
    let arguments = ["demo", "--keep", folder.to_str().unwrap()];
    let mut ran = environment.run(&arguments);
    first_lines(&mut ran, 3);
    page.ran("a folder that is not empty", &environment, &arguments, &ran);
    page.hold("demo");
}
