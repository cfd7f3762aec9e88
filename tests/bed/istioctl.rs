//! docs/istioctl.md: its commands, typed as they are there, in a mesh that is joined. Its kubeconfig reads, and no more.

use std::fs;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::files_of_bed;
use super::mesh::{BedCluster, BedMesh};

const PAGE: &str = include_str!("../../docs/istioctl.md");
/// The code by which `istioctl analyze` ends that has found something.
const FOUND: i32 = 79;

/// The blocks of a language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("\n```{language}\n");
    let parts: Vec<&str> = PAGE.split(&opening).skip(1).collect();
    parts.into_iter().map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Each command with the lines that the page shows of its output.
fn commands() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in blocks("console").into_iter().flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => found.push((command, Vec::new())),
            None => found.last_mut().unwrap().1.push(line),
        }
    }
    found
}

fn columns(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Both outputs of what is typed beside the clusters' folders, and how it ended.
fn typed(mesh: &BedMesh, kubeconfig: &str, text: &str) -> (i32, String) {
    let path = format!("{}:{}", std::env::var("PATH").unwrap_or_default(), files_of_bed().unwrap().display());
    let mut shell = Command::new("timeout");
    shell.args(["60", "bash", "-euo", "pipefail", "-c", text]).current_dir(mesh.dir.path());
    let output = shell.env("PATH", path).env("KUBECONFIG", kubeconfig).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

/// What it says of both clusters, and that it came to its end.
fn analyzed(code: i32, output: &str, peer: &str) {
    assert!([0, FOUND].contains(&code), "{code}: {output}");
    assert!(
        output.contains(&format!("[cluster-{peer}] (Namespace shop)")) && !output.contains("forbidden"),
        "{output}"
    );
}

/// All of the page.
pub(super) fn does_what_its_page_says(mesh: &BedMesh, clusters: [BedCluster; 2], kubeconfig: &str) {
    let begun = Instant::now();
    for cluster in clusters {
        mesh.bed("kubelet", cluster, &[]);
    }
    let mut is_shown = 0;
    for (command, shown) in commands() {
        let (code, output) = typed(mesh, kubeconfig, command);
        eprintln!("bed: {command}\n{output}");
        if let Some((_, peer)) = command.split_once("--remote-contexts ") {
            analyzed(code, &output, peer);
            continue;
        }
        assert_eq!(code, 0, "{command}: {output}");
        for line in &shown {
            assert!(output.lines().any(|found| columns(found) == columns(line)), "{command}: {line}\n{output}");
        }
        is_shown += shown.len();
        if command.contains("endpoints") {
            let gateway = format!("{}:15443", clusters[1].address(50, 0).ip());
            assert!(output.contains(&gateway), "{output}");
        }
    }
    assert_eq!(is_shown, 3);

    let (yaml, sh) = (blocks("yaml"), blocks("sh"));
    let (&[roles], &[make, read]) = (yaml.as_slice(), sh.as_slice()) else { panic!("other blocks: {yaml:?} {sh:?}") };
    fs::write(mesh.dir.path().join("istioctl-reader.yaml"), roles).unwrap();
    let (code, output) = typed(mesh, kubeconfig, make);
    assert_eq!(code, 0, "{output}");
    let (code, output) = typed(mesh, "", read);
    eprintln!("bed: {output}");
    assert!(output.contains("istio-system/istio-remote-secret-west"), "{output}");
    analyzed(code, &output, "west");
    only_reads(mesh, roles);
    eprintln!("bed: docs/istioctl.md: typed in {:?}", begun.elapsed());
}

/// No role of the page allows to write, and the apiserver answers as much.
fn only_reads(mesh: &BedMesh, roles: &str) {
    for document in roles.split("\n---\n").map(|text| serde_yaml::from_str::<Value>(text).unwrap()) {
        for rule in document["rules"].as_array().into_iter().flatten() {
            let forwards = rule["resources"] == serde_json::json!(["pods/portforward"]);
            let verbs: Vec<&str> =
                rule["verbs"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap()).collect();
            assert_eq!(verbs, if forwards { vec!["get", "create"] } else { vec!["get", "list", "watch"] }, "{rule}");
        }
    }
    for (question, answer) in [
        ("list pods --all-namespaces", "yes"),
        ("get secrets -n istio-system", "no"),
        ("list secrets --all-namespaces", "no"),
        ("create configmaps -n istio-system", "no"),
        ("patch services -n shop", "no"),
        ("delete pods -n shop", "no"),
        ("create pods --subresource=exec -n istio-system", "no"),
        ("create pods --subresource=portforward -n shop", "no"),
        ("create serviceaccounts --subresource=token -n istio-system", "no"),
        ("update virtualservices.networking.istio.io -n shop", "no"),
        ("impersonate users", "no"),
    ] {
        let (_, output) = typed(mesh, "reader-east.kubeconfig", &format!("kubectl auth can-i {question} 2>/dev/null"));
        assert_eq!(output.trim(), answer, "{question}");
    }
}
