//! The Helm chart, by the real helm: it passes its lint, and renders what the engine renders for a Mesh and a Cluster with the same
//! fields. Its notes, typed as they are printed, lead from two clusters with nothing of ours to a request across.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use isthmus::model::mesh::{EvidenceOrigin, Mesh};
use isthmus::pipeline::compile::load;
use isthmus::spec::SourceFile;
use isthmus::types::diagnostic::{Location, render};
use serde_json::{Value, json};

use super::environment::TestEnvironment;
use super::mesh::{BedCluster, BedMesh};
use super::{files_of_bed, one_at_a_time, succeed};

const MINIMAL: &str =
    "{metadata: {endpoint: 'https://m.east.example.com/metadata'}, multicluster: {apiHost: api.east.example.com}}";

/// Specs of a Mesh and a Cluster, and the namespace of its Istio.
const SETTINGS: [(&str, &str, &str); 9] = [
    ("{acceptForeignRoots: true}", MINIMAL, "istio-system"),
    (
        "{acceptForeignRoots: true, meshID: mesh-1, firstContact: approve, credentials: {requireToken: true}, settle: 2h, rootOverlap: 30h}",
        "{
        metadata: {endpoint: 'https://[2001:db8::7]:8443/', ca: {inline: \"CA\"}},
        multicluster: {
            image: 'r.example.com/engine@sha256:0c2d4e6f8091a3b5c7d9e1f2031425364758697a8b9cadbecfd0e1f203142536', replicas: 3,
            expose: NodePort, apiHost: 'api.east.example.com:443', trustedProxies: [10.0.0.1, 10.1.0.0/16, '2001:db8::1'],
            clusterCIDRs: [10.2.0.0/16, '2001:db8:1::/48']},
        pin: {clusterUUID: 2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31}, clusterDomain: east.local, clusterID: east-1,
        network: network-1, trustDomain: east.example, mergeTrustDomains: false,
        istio: {revisions: [canary, 1-31], dnsCapture: false, prepared: true, standardMeshNetworks: none},
        gateways: [
            {address: 203.0.113.70}, {address: 203.0.113.7, port: 443}, {address: '2001:db8::9', port: 15443},
            {address: 203.0.113.7, port: 15443}, {address: 203.0.113.7, port: 443}, {address: gw.east.example.com}],
        api: {host: 'api.east.example.com:8443'},
        share: {namespaces: [front-*], except: [kube-system, front-1]}, allow: {addresses: [203.0.113.0/24, '2001:db8::/32'], apiHosts: ['*.east.example.com']},
        evidence: {attested: [reads, prepared]}, distrust: ['sha256:0c2d4e6f8091a3b5c7d9e1f2031425364758697a8b9cadbecfd0e1f203142536']}",
        "istio-1",
    ),
    (
        "{acceptForeignRoots: true, credentials: {requireToken: false}}",
        "{metadata: {endpoint: 'https://m.east.example.com:8443'}, flatNetwork: true, gateways: [], network: network-1, evidence: none,
        istio: {revisions: [default], config: none},
        multicluster: {expose: ClusterIP, apiHost: '[2001:db8::8]:6443', tlsSecret: own-certificate}}",
        "istio-system",
    ),
    (
        "{acceptForeignRoots: true}",
        "{metadata: {endpoint: 'https://203.0.113.8/a/b'}, network: network-1, istio: {revisions: [default, canary]},
        multicluster: {externalTrafficPolicy: Cluster, apiHost: 203.0.113.9}}",
        "mesh-system",
    ),
    (
        "{acceptForeignRoots: true}",
        "{metadata: {endpoint: 'https://m.east.example.com'}, multicluster: {expose: NodePort, externalTrafficPolicy: Local, apiHost: 'a.b:1'}}",
        "istio-system",
    ),
    (
        "{acceptForeignRoots: true}",
        "{metadata: {endpoint: 'https://m.east.example.com'}, network: network-1, gateway: {manage: true}, multicluster: {apiHost: a.b}}",
        "istio-system",
    ),
    (
        "{acceptForeignRoots: true}",
        "{metadata: {endpoint: 'https://m.east.example.com'}, network: network-1, gateway: {manage: true}, clusterDomain: east.local,
        istio: {revisions: [canary, 1-31]}, multicluster: {apiHost: a.b}}",
        "istio-1",
    ),
    (
        "{acceptForeignRoots: true}",
        "{metadata: {endpoint: 'https://m.east.example.com:15443/m'}, network: network-1, gateway: {manage: true},
        multicluster: {expose: Gateway, apiHost: 'a.b:15443'}}",
        "istio-system",
    ),
    (
        "{acceptForeignRoots: true}",
        "{metadata: {endpoint: 'https://m.east.example.com:15443'}, clusterDomain: east.local,
        multicluster: {expose: Gateway, externalTrafficPolicy: Local, apiHost: 'a.b:15443'}}",
        "istio-1",
    ),
];

/// The chart of this repository.
pub(super) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/isthmus")
}

/// helm, or the binary of the bed that `$ISTHMUS_TESTBED_HELM` names, with a home of its own.
fn helm(bin: &Path, home: &Path) -> Command {
    let name = std::env::var("ISTHMUS_TESTBED_HELM");
    let mut helm = Command::new(bin.join(name.as_deref().unwrap_or("helm")));
    for (variable, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        helm.env(variable, home.join("helm").join(folder));
    }
    helm
}

/// A spec with what the chart states by itself.
fn spec(text: &str) -> Value {
    let public = include_str!("../../fixtures/real/east/metadata/public/public.json");
    let public: Value = serde_json::from_str(public).unwrap();
    let ca = public["rootCA"].to_string();
    assert!(ca.contains("BEGIN CERTIFICATE"), "{public}");
    let mut spec: Value = serde_yaml::from_str(&text.replace("\"CA\"", &ca)).unwrap();
    if let Some(own) = spec.get_mut("multicluster").filter(|own| own.get("image").is_none()) {
        own["image"] = "ghcr.io/isthmus-mesh/engine:0.1.0".into();
    }
    spec
}

/// What `engine manifests agent` prints.
fn of_engine(folder: &Path, mesh: &Value, cluster: &Value, namespace: &str) -> String {
    let mut cluster = cluster.clone();
    cluster["reconciler"] = "agent".into();
    if cluster.get("istio").is_none() {
        cluster["istio"] = json!({});
    }
    cluster["istio"]["namespace"] = namespace.into();
    let document = |kind: &str, name: &str, spec: &Value| json!({ "apiVersion": "isthmus.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    fs::create_dir_all(folder.join("specs")).unwrap();
    let text = format!("{}\n---\n{}\n", document("Mesh", "shop", mesh), document("Cluster", "east", &cluster));
    fs::write(folder.join("specs/mesh.yaml"), text).unwrap();
    let ran = TestEnvironment::new().run_on(folder, &["-q", "manifests", "agent", "--cluster", "east"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// What `helm template` prints.
fn of_chart(bin: &Path, folder: &Path, mesh: &Value, cluster: &Value, namespace: &str) -> String {
    let mut values = json!({ "mesh": mesh, "cluster": cluster });
    values["mesh"]["name"] = "shop".into();
    values["cluster"]["name"] = "east".into();
    let file = folder.join("values.yaml");
    fs::write(&file, values.to_string()).unwrap();
    let mut template = helm(bin, folder);
    template.args(["template", "isthmus"]).arg(chart()).args(["--namespace", namespace, "--values"]).arg(&file);
    succeed(
        helm(bin, folder)
            .args(["lint", "--strict", "--quiet", "--namespace", namespace])
            .arg(chart())
            .arg("--values")
            .arg(&file),
    );
    succeed(&mut template)
}

/// The objects by kind and name, without labels and annotations.
fn objects(text: &str) -> BTreeMap<String, Value> {
    let documents = text.split("\n---\n").map(|document| serde_yaml::from_str::<Value>(document).unwrap());
    let objects = documents.filter(|document| !document.is_null());
    let by_name = objects.map(|mut object| {
        let metadata = object["metadata"].as_object_mut().unwrap();
        let labels = metadata.remove("labels").unwrap();
        assert_eq!(labels["isthmus.dev/mesh"], "shop", "{labels}");
        metadata.remove("annotations");
        (format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap()), object)
    });
    by_name.collect()
}

/// What the agent makes of its documents.
fn understood(map: &Value) -> Mesh {
    let text = map["data"]["specs.yaml"].as_str().unwrap();
    let source = SourceFile { path: "specs/cluster.yaml".into(), bytes: text.into() };
    let loaded = load(&[source], "0.1.0", &|_| None);
    let (mut mesh, _) = loaded.unwrap_or_else(|findings| panic!("{text}\n{}", render(&findings)));
    let nowhere = Location { file: "".into(), line: 1, column: 1 };
    mesh.at = nowhere.clone();
    for cluster in mesh.clusters.values_mut() {
        cluster.at = nowhere.clone();
        // the engine states what it took for its default
        cluster.evidence_origin = EvidenceOrigin::Spec;
    }
    mesh
}

#[test]
fn the_chart_renders_what_the_engine_renders() {
    let Some(bin) = files_of_bed() else { return };
    for (mesh, cluster, namespace) in SETTINGS {
        let folder = tempfile::tempdir().unwrap();
        let (mesh, cluster) = (spec(mesh), spec(cluster));
        let mut engine = objects(&of_engine(folder.path(), &mesh, &cluster, namespace));
        let mut chart = objects(&of_chart(&bin, folder.path(), &mesh, &cluster, namespace));
        let specs = "ConfigMap isthmus-agent";
        assert_eq!(understood(&engine.remove(specs).unwrap()), understood(&chart.remove(specs).unwrap()));
        assert_eq!(engine.keys().collect::<Vec<_>>(), chart.keys().collect::<Vec<_>>());
        // a Gateway and its ConfigMap, and what leads from it to exporter and api-proxy
        let gateways = if cluster.get("gateway").is_some() { 2 } else { 0 };
        let exposed = if cluster["multicluster"]["expose"] == "Gateway" { 2 } else { 0 };
        assert_eq!(engine.len(), 35 + gateways + exposed, "{:?}", engine.keys());
        for (name, object) in engine {
            assert_eq!(object, chart[&name], "{name} of {cluster}");
        }
    }
}

/// What has to be given is named, and without it the chart still passes the lint.
#[test]
fn the_chart_says_what_is_missing() {
    let Some(bin) = files_of_bed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let linted = succeed(helm(&bin, folder.path()).arg("lint").arg(chart()));
    assert!(linted.contains("0 chart(s) failed"), "{linted}");
    let given = [
        "mesh.name=shop",
        "cluster.name=east",
        "cluster.metadata.endpoint=https://m.east.example.com",
        "cluster.multicluster.apiHost=api.east.example.com",
        "mesh.acceptForeignRoots=true",
    ];
    for missing in given {
        let mut template = helm(&bin, folder.path());
        template.args(["template", "isthmus"]).arg(chart());
        for value in given.into_iter().filter(|value| *value != missing) {
            template.args(["--set", value]);
        }
        let output = template.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let name = missing.split('=').next().unwrap();
        assert!(!output.status.success() && text.contains(&format!("{name}: expected")), "{missing}: {text}");
    }
    let mut misspelt = helm(&bin, folder.path());
    misspelt.args(["template", "isthmus"]).arg(chart());
    for value in given.into_iter().chain(["cluster.netwrok=network-1"]) {
        misspelt.args(["--set", value]);
    }
    let output = misspelt.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("netwrok"), "{text}");
}

/// What a Deployment's controller and its kubelets would do: the roles run, and the Deployment's status shows it.
pub(super) fn pods_run(mesh: &BedMesh, cluster: BedCluster) {
    let rolled = |role: &str, host: u8| {
        mesh.run(cluster, role, host);
        mesh.ready(cluster, host);
        let name = format!("isthmus-{role}");
        let deployment = mesh.object(cluster, "deployment", &name);
        let (generation, replicas) = (&deployment["metadata"]["generation"], &deployment["spec"]["replicas"]);
        let status = json!({ "status": { "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas, "availableReplicas": replicas } });
        let mut patch = mesh.kubectl(cluster);
        patch.args([
            "patch",
            "deployment",
            &name,
            "--namespace=istio-system",
            "--subresource=status",
            "--type=merge",
            "--patch",
        ]);
        succeed(patch.arg(status.to_string()));
    };
    rolled("agent", 40);
    rolled("proxy", 30);
    rolled("exporter", 20);
}

/// The commands of the notes, one after the other: paragraphs that begin with kubectl.
fn commands(notes: &str) -> Vec<String> {
    let notes = notes.split_once("NOTES:\n").unwrap().1;
    notes.split("\n\n").filter(|paragraph| paragraph.starts_with("kubectl ")).map(str::to_owned).collect()
}

/// Types a command where the files of both clusters are, with the kubeconfig of one of them.
fn typed(mesh: &BedMesh, bin: &Path, cluster: BedCluster, command: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", command]).current_dir(mesh.dir.path());
    shell.env("PATH", format!("{path}:{}", bin.display()));
    succeed(shell.env("KUBECONFIG", mesh.folder(cluster).join("admin.kubeconfig")))
}

/// From two clusters with Istio and nothing of ours to a request across: the chart on both sides, then what its notes say.
#[test]
fn the_notes_lead_to_a_request_across() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let bin = files_of_bed().unwrap();
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let begun = Instant::now();
    let installed = |cluster: BedCluster| {
        let BedCluster { name, index, .. } = cluster;
        let mut install = helm(&bin, &mesh.folder(cluster));
        install.args(["install", "isthmus"]).arg(chart()).args(["--namespace", "istio-system", "--kubeconfig"]);
        install.arg(mesh.folder(cluster).join("admin.kubeconfig"));
        for value in [
            "mesh.name=shop".to_owned(),
            "mesh.acceptForeignRoots=true".to_owned(),
            format!("cluster.name={name}"),
            format!("cluster.metadata.endpoint=https://127.0.{index}.20:8443/metadata"),
            format!("cluster.multicluster.apiHost=127.0.{index}.30:8443"),
            // loopback, which no cluster outside of the bed may publish
            "cluster.allow.addresses={127.0.0.0/8}".to_owned(),
        ] {
            install.args(["--set", &value]);
        }
        let notes = succeed(&mut install);
        eprintln!("bed: helm has installed {name} {:?} after the beginning", begun.elapsed());
        thread::scope(|scope| {
            let pods = scope.spawn(|| pods_run(&mesh, cluster));
            let commands = commands(&notes);
            let before = commands.iter().take_while(|command| !command.contains("PEER"));
            for command in before {
                typed(&mesh, &bin, cluster, command);
            }
            pods.join().unwrap();
        });
        eprintln!("bed: {name} runs {:?} after the beginning", begun.elapsed());
        notes
    };
    let (of_east, of_west) = thread::scope(|scope| {
        let east = scope.spawn(|| installed(east));
        let west = scope.spawn(|| installed(west));
        (east.join().unwrap(), west.join().unwrap())
    });
    eprintln!("{of_east}");
    let exchanged = Instant::now();
    thread::scope(|scope| {
        for (from, of, notes) in [(east, west, &of_east), (west, east, &of_west)] {
            let (mesh, bin) = (&mesh, &bin);
            scope.spawn(move || {
                let commands = commands(notes);
                assert_eq!(commands.len(), 5, "{notes}");
                for command in commands.iter().skip_while(|command| !command.contains("PEER")) {
                    typed(mesh, bin, from, &command.replace("PEER", of.name));
                }
            });
            scope.spawn(move || {
                mesh.answers(from, of);
                eprintln!(
                    "bed: the first 200 in {} {:?} after helm install began, {:?} after both knew each other",
                    from.name,
                    begun.elapsed(),
                    exchanged.elapsed()
                );
            });
        }
    });
    let joined = typed(&mesh, &bin, east, commands(&of_east).last().unwrap());
    eprintln!("{joined}");

    let mut uninstall = helm(&bin, &mesh.folder(east));
    uninstall.args(["uninstall", "isthmus", "--namespace", "istio-system", "--kubeconfig"]);
    succeed(uninstall.arg(mesh.folder(east).join("admin.kubeconfig")));
    for kept in ["crd/istiomulticlusters.isthmus.dev", "istiomulticlusters/west", "secrets/isthmus-authn"] {
        succeed(mesh.kubectl(east).args(["get", kept, "--namespace=istio-system"]));
    }
}
