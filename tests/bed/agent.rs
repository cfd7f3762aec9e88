//! Clusters that join by themselves: in each an agent, and an IstioMulticluster with nothing but where the other's metadata is. Nothing
//! goes from one cluster's checkout to the other's: each has a checkout of its own, which installs what runs there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::environment::TestEnvironment;
use super::mesh::{BedCluster, BedMesh, Load, ROLES};
use super::roots::{create, give, is_trusted, issuer, renew, restart};
use super::{one_at_a_time, succeed};

/// From the creation of the second object to the first answer in both directions.
const TARGET: Duration = Duration::from_secs(30);
/// How long two may take to part: whoever is done last waits until it was not asked for three minutes.
const PARTING: Duration = Duration::from_mins(6);

impl BedMesh {
    fn agent_checkout(&self, cluster: BedCluster) -> PathBuf {
        self.dir.path().join("agents").join(cluster.name)
    }

    /// Installs what runs in a cluster from its own checkout.
    fn install(&self, cluster: BedCluster) {
        let checkout = self.agent_checkout(cluster);
        fs::create_dir_all(checkout.join("specs")).unwrap();
        let BedCluster { name, index, .. } = cluster;
        let text = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: shop}}\nspec: {{acceptForeignRoots: true}}\n---\n\
             apiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  reconciler: agent\n  \
             multicluster: {{image: \"registry.example.com/isthmus:0.1.0\", apiHost: \"127.0.{index}.30:8443\"}}\n  \
             metadata: {{endpoint: \"https://127.0.{index}.20:8443/metadata\"}}\n  allow: {{addresses: [127.0.0.0/8]}}\n"
        );
        fs::write(checkout.join("specs/mesh.yaml"), text).unwrap();
        let ran = TestEnvironment::new().real_time().run_on(&checkout, &["apply"]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        let rendered = checkout.join("rendered").join(name);
        succeed(self.kubectl(cluster).args(["apply", "--server-side", "--field-manager=checkout", "-k"]).arg(rendered));
    }

    /// Agent, api-proxy and exporter of each cluster.
    fn agents(&self) {
        for cluster in self.clusters() {
            self.install(cluster);
            self.run(cluster, "agent", 40);
        }
        for cluster in self.clusters() {
            self.ready(cluster, 40);
            self.run(cluster, "proxy", 30);
            self.run(cluster, "exporter", 20);
        }
        for cluster in self.clusters() {
            self.ready(cluster, 30);
            self.ready(cluster, 20);
        }
    }

    /// The object by which a cluster is shown of a peer.
    pub(super) fn declaration(&self, peer: BedCluster) -> Value {
        json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "IstioMulticluster", "metadata": { "name": peer.name },
            "spec": {
                "metadataEndpoint": format!("https://127.0.{}.20:8443/metadata", peer.index),
                "metadata": { "ca": self.identity(peer)["servingCA"] },
                "allow": { "addresses": ["127.0.0.0/8"] },
            },
        })
    }

    fn peer_object(&self, cluster: BedCluster, peer: &str) -> Value {
        let mut get = self.kubectl(cluster);
        get.args(["get", "istiomulticlusters", peer, "--output=json"]);
        serde_json::from_str(&succeed(&mut get)).unwrap()
    }

    /// Waits until a condition of an object has this status and, if one is given, this reason.
    pub(super) fn condition(
        &self,
        cluster: BedCluster,
        peer: &str,
        kind: &str,
        status: &str,
        reason: Option<&str>,
    ) -> Value {
        let mut found = Value::Null;
        self.until(&format!("{kind} of {peer} in {} to be {status}", cluster.name), || {
            let object = self.peer_object(cluster, peer);
            let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            found = all.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
            let is_it = found["status"] == status && reason.is_none_or(|reason| found["reason"] == reason);
            if is_it { Ok(()) } else { Err(format!("{:#}", object["status"])) }
        });
        found
    }

    /// A request with the agent's token, and its answer. A patch changes nothing.
    fn as_agent(&self, cluster: BedCluster, method: &str, path: &str) -> String {
        let token = fs::read_to_string(self.folder(cluster).join("agent-files/token")).unwrap();
        let url = format!("https://{}{path}", cluster.address(2, 6443));
        let form = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "10", "--request", method, "--data", "{}"])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--header", &format!("Content-Type: {form}"), "--cacert"])
            .arg(self.folder(cluster).join("api-ca.crt"));
        succeed(curl.arg(url))
    }

    /// Creates or changes an object as someone, and what came of it.
    fn as_someone(&self, cluster: BedCluster, arguments: &[&str], object: &Value) -> Output {
        let mut kubectl = self.kubectl(cluster);
        kubectl.args(arguments).args(["--filename", "-"]);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

#[test]
fn two_agents_join_by_objects_alone_and_part() {
    let _guard = one_at_a_time();
    let of = [("east", "orders", "cluster.local"), ("west", "cart", "cluster.local")];
    let given = |dir: &Path| {
        for root in ["first", "second"] {
            create(dir, root);
        }
        give(dir, "west", "first", &["first"]);
    };
    let Some(mesh) = BedMesh::start_after(&of, &[], given) else { return };
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.agents();
    bad_objects_are_refused(&mesh, east);
    the_agent_has_no_other_rights(&mesh, east);

    mesh.apply(east, &mesh.declaration(west));
    mesh.condition(east, "west", "PublicMetadataExchangeReady", "True", None);
    let private = mesh.condition(east, "west", "PrivateMetadataExchangeReady", "False", Some("NonOKResponse"));
    eprintln!("bed: while west does not know east: {}", private["message"]);
    let created = Instant::now();
    mesh.apply(west, &mesh.declaration(east));
    let secrets = thread::scope(|scope| {
        let written = scope.spawn(|| {
            for (cluster, peer) in [(east, "west"), (west, "east")] {
                mesh.condition(cluster, peer, "SecretRendered", "True", None);
            }
            created.elapsed()
        });
        for (from, of) in [(east, west), (west, east)] {
            mesh.answers(from, of);
        }
        eprintln!("bed: first answers in both directions {:?} after the second object", created.elapsed());
        assert!(created.elapsed() < TARGET, "{:?}", created.elapsed());
        written.join().unwrap()
    });
    eprintln!("bed: both remote secrets were shown {secrets:?} after the second object");
    for (cluster, peer) in [(east, "west"), (west, "east")] {
        for kind in [
            "RemoteAPIServerReady",
            "DataplaneConnectionReady",
            "TrustPinned",
            "Prepared",
            "ControlPlaneSynced",
            "Reconciled",
        ] {
            mesh.condition(cluster, peer, kind, "True", None);
        }
    }
    documentation_shows_what_is_shown(&mesh, east);

    nothing_is_written_at_rest(&mesh);
    mesh.loses_nothing_while("east's agent is rolled", || {
        mesh.stop("agent", east);
        mesh.run(east, "agent", 40);
        mesh.ready(east, 40);
        thread::sleep(Duration::from_secs(5));
    });
    one_of_two_replicas_writes(&mesh);
    mesh.loses_nothing_by_outages();
    a_changed_root_waits(&mesh);
    part(&mesh);
}

/// docs/agent.md has what kubectl prints of a peer that is joined, but for names, times and what is left out.
fn documentation_shows_what_is_shown(mesh: &BedMesh, cluster: BedCluster) {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/agent.md")).unwrap();
    let block =
        text.split("```console\n").find(|block| block.starts_with("$ kubectl get istiomulticlusters -o wide")).unwrap();
    let (wide, described) = block.split_once("$ kubectl describe istiomulticluster west\n").unwrap();
    let (described, events) = described.split_once("```").unwrap().0.split_once("Events:\n").unwrap();

    let shown = succeed(mesh.kubectl(cluster).args(["get", "istiomulticlusters", "--output=wide"]));
    assert_eq!(plain(wide).into_iter().skip(1).collect::<Vec<_>>(), plain(&shown), "{shown}");
    let all = succeed(mesh.kubectl(cluster).args(["describe", "istiomulticlusters", "west"]));
    let (shown, of_events) = all.split_once("Events:\n").unwrap();
    let shown = plain(shown);
    let mut rest = shown.iter();
    for line in plain(described).iter().filter(|line| *line != "…") {
        assert!(rest.any(|one| one == line), "`{line}` is not shown, or not there:\n{all}");
    }
    // what came within a second is in no order
    let sorted = |events: &str| plain(events).into_iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(sorted(events), sorted(of_events), "{all}");
    let explained = succeed(mesh.kubectl(cluster).args(["explain", "istiomulticlusters", "--recursive"]));
    eprintln!("bed: kubectl explain istiomulticlusters\n{explained}");
    for field in ["spec", "spec.state", "spec.attested", "status.peer", "status.trustChange", "status.conditions"] {
        let text = succeed(mesh.kubectl(cluster).args(["explain", &format!("istiomulticlusters.{field}")]));
        assert!(!text.contains("<empty>"), "{field} is explained by nothing: {text}");
    }
}

/// The lines of an output, with the same spaces and times, and the names of an example.
fn plain(output: &str) -> Vec<String> {
    let is_uuid = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let is_age =
        |word: &str| word.ends_with(['s', 'm']) && word.chars().next().is_some_and(|first| first.is_ascii_digit());
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z') && word.contains('T');
    let word = |word: &str| match word {
        word if is_uuid(word) => "UUID".to_owned(),
        word if is_age(word) => "AGE".to_owned(),
        word if is_time(word) => "TIME".to_owned(),
        word if word.starts_with("sha256:") && word.len() > 7 => "DIGEST".to_owned(),
        word if word.starts_with("https://") => "ENDPOINT".to_owned(),
        word if word.ends_with(":15443") => "GATEWAY".to_owned(),
        word if word.ends_with(":8443") || word == "api.west.example.com" => "HOST".to_owned(),
        word if word.starts_with("1.3") => "VERSION".to_owned(),
        word => word.to_owned(),
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    output.lines().map(line).filter(|line| !line.is_empty()).collect()
}

/// What the CRD refuses says why.
fn bad_objects_are_refused(mesh: &BedMesh, cluster: BedCluster) {
    let with = |name: &str, spec: Value| json!({ "apiVersion": "isthmus.dev/v1alpha1", "kind": "IstioMulticluster", "metadata": { "name": name }, "spec": spec });
    let https = "https://m.example.com/metadata";
    let mut shown = String::new();
    for (object, message) in [
        (with("west", json!({})), "spec.metadataEndpoint: Required value"),
        (with("west", json!({ "metadataEndpoint": "http://m.example.com" })), "expected an https:// URL"),
        (with("west", json!({ "metadataEndpoint": "https://u:p@m.example.com" })), "without user, query and fragment"),
        (
            with("west", json!({ "metadataEndpoint": https, "metadata": { "insecureSkipVerify": true } })),
            "set metadata.ca",
        ),
        (
            with("west", json!({ "metadataEndpoint": https, "metadata": { "ca": "no" } })),
            "expected certificates in PEM",
        ),
        (with("west", json!({ "metadataEndpoint": https, "state": "gone" })), "supported values"),
        (with("west", json!({ "metadataEndpoint": https, "pin": { "authnKey": "abc" } })), "spec.pin.authnKey"),
        (with("west", json!({ "metadataEndpoint": https, "evidence": "some" })), "supported values"),
        (with("west", json!({ "metadataEndpoint": https, "attested": ["all"] })), "supported values"),
        (
            with("west", json!({ "metadataEndpoint": https, "evidence": "none", "attested": ["reads"] })),
            "or attested alone",
        ),
        (with("we.st", json!({ "metadataEndpoint": https })), "expected a DNS-1123 label"),
        (with("west", json!({ "metadataEndpoint": https, "alow": {} })), "unknown field \"spec.alow\""),
    ] {
        let output = mesh.as_someone(cluster, &["create", "--dry-run=server", "--validate=strict"], &object);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(message), "{object}: {text}");
        shown.push_str(&text);
    }
    eprintln!("bed: what the CRD refuses:\n{shown}");
    for spec in [
        json!({ "metadataEndpoint": https, "evidence": "none" }),
        json!({ "metadataEndpoint": https, "attested": ["reads", "routes"], "share": { "namespaces": ["front-*"] } }),
    ] {
        let object = with("west", spec);
        let output = mesh.as_someone(cluster, &["create", "--dry-run=server", "--validate=strict"], &object);
        assert!(output.status.success(), "{object}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let explained = succeed(mesh.kubectl(cluster).args(["explain", "istiomulticlusters.spec", "--recursive=false"]));
    assert!(
        explained.contains("metadataEndpoint\t<string> -required-") && explained.contains("URL of the peer"),
        "{explained}"
    );
}

/// As the agent: no way to any right that it does not need.
fn the_agent_has_no_other_rights(mesh: &BedMesh, cluster: BedCluster) {
    const AGENT: &str = "--as=system:serviceaccount:istio-system:isthmus-agent";
    for (verb, what, allowed) in [
        ("get", "configmaps/isthmus-agent", true),
        ("patch", "configmaps/isthmus-mesh", true),
        ("get", "secrets/isthmus-authn", true),
        ("patch", "istiomulticlusters.isthmus.dev/west --subresource=status", true),
        ("get", "secrets/cacerts", false),
        ("list", "secrets", false),
        ("watch", "secrets", false),
        ("update", "secrets/cacerts", false),
        ("get", "configmaps/istio", true),
        ("update", "configmaps/istio", false),
        ("create", "clusterroles", false),
        ("escalate", "clusterroles", false),
        ("bind", "clusterroles", false),
        ("create", "rolebindings", false),
        ("create", "clusterrolebindings", false),
        ("impersonate", "users", false),
        ("impersonate", "serviceaccounts", false),
        ("create", "serviceaccounts/token", false),
        ("create", "pods", false),
        ("patch", "deployments.apps", false),
        ("create", "istiomulticlusters.isthmus.dev", false),
        ("delete", "istiomulticlusters.isthmus.dev", false),
        ("patch", "validatingadmissionpolicies.admissionregistration.k8s.io", false),
        ("create", "gateways.networking.istio.io", true),
        ("patch", "gateways.networking.istio.io/other", false),
    ] {
        let mut ask = mesh.kubectl(cluster);
        ask.args(["auth", "can-i", verb]).args(what.split(' ')).args([AGENT, "--namespace=istio-system"]);
        let answer = String::from_utf8(ask.output().unwrap().stdout).unwrap();
        assert_eq!(answer.trim(), if allowed { "yes" } else { "no" }, "{verb} {what}");
    }
    // what rights cannot tell apart, admission does
    let secret = |name: &str, labels: Value, data: Value| {
        json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "stringData": data,
            "metadata": { "name": name, "namespace": "istio-system", "labels": labels } })
    };
    let ours = json!({ "istio/multiCluster": "true", "isthmus.dev/owner": "agent", "app.kubernetes.io/managed-by": "isthmus" });
    let object = |api: &str, kind: &str, name: &str, spec: Value| json!({ "apiVersion": api, "kind": kind, "metadata": { "name": name, "namespace": "istio-system" }, "spec": spec });
    let port = |mode: &str| {
        json!({ "selector": { "istio": "eastwestgateway" }, "servers": [{ "hosts": ["*"],
            "port": { "name": "p", "number": 15443, "protocol": "TLS" }, "tls": { "mode": mode } }] })
    };
    mesh.apply(cluster, &secret("cacerts-of-the-bed", json!({}), json!({ "ca-key.pem": "the key of the mesh" })));
    mesh.apply(
        cluster,
        &secret("istio-remote-secret-by-hand", json!({ "istio/multiCluster": "true" }), json!({ "x": "a credential" })),
    );
    let refused = [
        (secret("evil", json!({}), json!({})), "the agent makes no other objects"),
        (secret("istio-remote-secret-x", json!({}), json!({})), "is labelled as such"),
        (secret("isthmus-authn", ours.clone(), json!({})), "makes no remote secrets of other names"),
        (object("v1", "ConfigMap", "istio", json!({})), "the agent makes no other objects"),
        (
            object("networking.istio.io/v1", "Gateway", "evil", port("AUTO_PASSTHROUGH")),
            "the agent makes no other objects",
        ),
        (object("networking.istio.io/v1", "Gateway", "isthmus-cross-network", port("PASSTHROUGH")), "opens no port"),
        (object("coordination.k8s.io/v1", "Lease", "istio-leader", json!({})), "the agent makes no other objects"),
    ];
    for (object, message) in refused {
        mesh.until(&format!("the agent to be refused {object}"), || {
            let output = mesh.as_someone(cluster, &["create", "--dry-run=server", "--validate=false", AGENT], &object);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            if text.contains(message) { Ok(()) } else { Err(text) }
        });
    }
    // a patch answers with the object: what it may not read, it may not touch
    let secrets = "/api/v1/namespaces/istio-system/secrets";
    for (name, message) in [
        ("cacerts-of-the-bed", "the agent makes no other objects"),
        ("istio-remote-secret-by-hand", "reads and changes no remote secrets but its own"),
    ] {
        for (method, query) in [("PATCH", "?dryRun=All"), ("PATCH", ""), ("DELETE", "")] {
            let text = mesh.as_agent(cluster, method, &format!("{secrets}/{name}{query}"));
            assert!(text.contains(message) && !text.contains("\"data\""), "{method} {name}: {text}");
        }
    }
    let text = mesh.as_agent(cluster, "PATCH", &format!("{secrets}/istio-remote-secret-none?dryRun=All"));
    assert!(text.contains("\"code\": 404"), "{text}");
    succeed(mesh.kubectl(cluster).args([
        "delete",
        "secret",
        "cacerts-of-the-bed",
        "istio-remote-secret-by-hand",
        "--namespace=istio-system",
    ]));
    eprintln!("bed: as the agent, no other object is read or written");
}

/// While nothing changes, no run writes anything.
fn nothing_is_written_at_rest(mesh: &BedMesh) {
    thread::sleep(Duration::from_secs(5));
    let before: Vec<_> = mesh.clusters().into_iter().map(|cluster| versions(mesh, cluster)).collect();
    thread::sleep(Duration::from_secs(20));
    let after: Vec<_> = mesh.clusters().into_iter().map(|cluster| versions(mesh, cluster)).collect();
    assert_eq!(before, after, "something is written at rest");
}

/// Versions of what the agent writes.
fn versions(mesh: &BedMesh, cluster: BedCluster) -> String {
    succeed(mesh.kubectl(cluster).args([
        "get",
        "configmaps,secrets,gateways.networking.istio.io,istiomulticlusters.isthmus.dev",
        "--all-namespaces",
        "--selector=isthmus.dev/owner=agent",
        "--output=custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion",
    ])) + &succeed(mesh.kubectl(cluster).args([
        "get",
        "istiomulticlusters",
        "--output=jsonpath={.items[*].metadata.resourceVersion}",
    ]))
}

/// A second replica of east's agent writes nothing until the one that acts is killed, and from then on alone; no request is lost.
fn one_of_two_replicas_writes(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.run_replica(east, "agent", 41, "agent-1");
    mesh.ready(east, 41);
    let mut number = 0;
    let mut change = || {
        // shares with west what it shared before, in other words
        number += 1;
        let spec = json!({ "spec": { "share": { "namespaces": ["*"], "except": ["kube-system", format!("none-{number}")] } } });
        let patch = format!("--patch={spec}");
        succeed(mesh.kubectl(east).args(["patch", "istiomulticlusters", west.name, "--type=merge", &patch]));
        thread::sleep(Duration::from_secs(1));
    };
    mesh.loses_nothing_while(
        "the replica of east's agent that acts is killed, and the other one takes its place",
        || {
            let before = agent_writes(mesh, east).len();
            assert!(before > 5, "the audit has {before} writes of joining");
            mesh.until("changes to be written", || {
                change();
                if agent_writes(mesh, east).len() > before + 2 { Ok(()) } else { Err("they are not".to_owned()) }
            });
            let writes = agent_writes(mesh, east).split_off(before);
            let acts = writes.first().unwrap().by.clone();
            assert!(writes.iter().all(|write| write.by == acts), "{writes:#?}");
            mesh.signal("-KILL", "agent", east);
            let killed = Instant::now();
            mesh.within(Duration::from_mins(1), "the other replica to write", || {
                change();
                let last = agent_writes(mesh, east).pop();
                if last.as_ref().is_some_and(|last| last.by != acts) { Ok(()) } else { Err(format!("{last:?}")) }
            });
            eprintln!("bed: the other replica wrote within {:?}", killed.elapsed());
            for _ in 0..3 {
                change();
            }
            let writes = agent_writes(mesh, east).split_off(before);
            let first = writes.iter().position(|write| write.by != acts).unwrap();
            assert!(writes[first..].iter().all(|write| write.by != acts), "{writes:#?}");
            eprintln!("bed: {} writes of one replica, then {} of the other", first, writes.len() - first);
        },
    );
    mesh.stop("agent", east);
    mesh.run(east, "agent", 40);
    mesh.ready(east, 40);
    mesh.stop("agent-1", east);
    succeed(mesh.kubectl(east).args(["delete", "pod", "isthmus-agent-1", "--namespace=istio-system"]));
    mesh.condition(east, "west", "RemoteAPIServerReady", "True", None);
}

/// A write that the apiserver carried out for an agent.
#[derive(Debug, Clone)]
struct AgentWrite {
    /// Names the token, of which each process has its own.
    by: String,
    /// When, what and on what; whoever reads a failure wants to know.
    #[allow(dead_code, reason = "shown where a test fails")]
    shown: String,
}

/// What the apiserver's audit has of writes of links, in order: neither Leases nor what each relay keeps in order.
fn agent_writes(mesh: &BedMesh, cluster: BedCluster) -> Vec<AgentWrite> {
    let log = fs::read_to_string(mesh.folder(cluster).join("audit.log")).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_write = |event: &Value| {
        let (verb, uri) =
            (event["verb"].as_str().unwrap_or_default(), event["requestURI"].as_str().unwrap_or_default());
        let name = event["objectRef"]["name"].as_str().unwrap_or_default();
        let is_relays = name == "isthmus-identity" || name == "isthmus-authn" || name.ends_with("-tls");
        event["user"]["username"] == "system:serviceaccount:istio-system:isthmus-agent"
            && matches!(verb, "create" | "update" | "patch" | "delete")
            && event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300)
            && !uri.contains("dryRun=All")
            && event["objectRef"]["resource"] != "leases"
            && !is_relays
    };
    let write = |event: Value| AgentWrite {
        by: event["user"]["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap().to_owned(),
        shown: format!("{} {} {}", event["requestReceivedTimestamp"], event["verb"], event["requestURI"]),
    };
    events.filter(is_write).map(write).collect()
}

/// Another root CA at west is trusted by no one until it is accepted by its digest; requests continue all the while, and also when it
/// signs.
fn a_changed_root_waits(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    mesh.loses_nothing_while("west publishes a root that no one accepted, and then someone does", || {
        restart(mesh, west, "first", &["first", "second"]);
        let mut pinned = Value::Null;
        mesh.within(Duration::from_secs(100), "the new root to be a trust change", || {
            let object = mesh.peer_object(east, "west");
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            pinned = conditions.into_iter().find(|one| one["type"] == "TrustPinned").unwrap_or_default();
            if pinned["status"] == "False" { Ok(()) } else { Err(pinned.to_string()) }
        });
        assert_eq!(pinned["reason"], "TrustChange", "{pinned}");
        eprintln!("bed: a changed root: {}", pinned["message"]);
        thread::sleep(Duration::from_secs(5));
        let object = mesh.peer_object(east, "west");
        let change = &object["status"]["trustChange"];
        assert!(change["findings"][0].as_str().unwrap().contains("root CA"), "{change:#}");
        let secret = mesh.condition(east, "west", "SecretRendered", "True", None);
        assert_eq!(secret["reason"], "Joined");
        assert!(!is_trusted(mesh, east, "second"));
        let accepts = format!("isthmus.dev/accept-trust={}", change["digest"].as_str().unwrap());
        succeed(mesh.kubectl(east).args(["annotate", "istiomulticlusters", "west", &accepts]));
        mesh.condition(east, "west", "TrustPinned", "True", None);
        // west's own agent does not take it for granted either
        let own = mesh.condition(west, "east", "Reconciled", "False", Some("OwnTrustChange"));
        let digest = own["message"].as_str().unwrap().rsplit(' ').next().unwrap().to_owned();
        let accepts = format!("isthmus.dev/accept-trust={digest}");
        succeed(mesh.kubectl(west).args([
            "annotate",
            "configmap",
            "isthmus-agent",
            "--namespace=istio-system",
            &accepts,
        ]));
        mesh.condition(west, "east", "Reconciled", "True", None);
        mesh.until("east to trust both", || {
            let is_so = is_trusted(mesh, east, "first") && is_trusted(mesh, east, "second");
            if is_so { Ok(()) } else { Err("it does not".to_owned()) }
        });
        restart(mesh, west, "second", &["first", "second"]);
    });
    renew(mesh, west);
    assert_eq!(issuer(west), "second");
    mesh.loses_nothing_while("west's second root signs", || thread::sleep(Duration::from_secs(3)));
}

/// Both objects are deleted: secrets, networks and routes go as soon as they are seen unused, then trust and admission, and in the end
/// the objects.
fn part(mesh: &BedMesh) {
    let (east, west) = (mesh.cluster("east"), mesh.cluster("west"));
    let loads = [Load::start(east, east, 20), Load::start(west, west, 20)];
    succeed(mesh.kubectl(east).args(["delete", "istiomulticlusters", "west", "--wait=false"]));
    let secret = mesh.condition(east, "west", "SecretRendered", "False", None);
    eprintln!("bed: east parts: {}", secret["message"]);
    succeed(mesh.kubectl(west).args(["delete", "istiomulticlusters", "east", "--wait=false"]));
    let begun = Instant::now();
    for cluster in [east, west] {
        mesh.within(PARTING, &format!("the object of {} to be gone", cluster.name), || no_object(mesh, cluster));
        eprintln!("bed: {} had parted {:?} after both objects were deleted", cluster.name, begun.elapsed());
    }
    mesh.synced(false);
    for load in loads {
        load.none_is_lost("both part, and each cluster asks itself");
    }
    for cluster in [east, west] {
        has_no_links(mesh, cluster);
    }
}

fn no_object(mesh: &BedMesh, cluster: BedCluster) -> Result<(), String> {
    let mut get = mesh.kubectl(cluster);
    get.args(["get", "istiomulticlusters", "--output=jsonpath={.items[*].status.conditions}"]);
    let left = succeed(&mut get);
    if left.trim().is_empty() { Ok(()) } else { Err(left) }
}

/// No secret, route, network, root CA or entry of any peer is left.
fn has_no_links(mesh: &BedMesh, cluster: BedCluster) {
    let mut list = mesh.kubectl(cluster);
    list.args(["get", "secrets,configmaps,gateways.networking.istio.io", "--namespace=istio-system", "--output=name"]);
    let list = succeed(&mut list);
    for gone in ["secret/istio-remote-secret-", "configmap/isthmus-routes", "isthmus-cross-network"] {
        assert!(!list.contains(gone), "{gone} in {}: {list}", cluster.name);
    }
    let text = |map: &str, key: &str| {
        let map = mesh.object(cluster, "configmap", map);
        map["data"][key].as_str().unwrap_or_default().to_owned()
    };
    let config = text("isthmus-mesh", "mesh") + &text("isthmus-mesh", "meshNetworks");
    assert!(!config.contains("BEGIN CERTIFICATE") && !config.contains("gateways"), "{config}");
    let peers: Value = serde_json::from_str(&text("isthmus-peers", "peers.json")).unwrap();
    assert_eq!(peers["peers"], json!([]));
    let lock = mesh.object(cluster, "configmap", "isthmus-lock");
    let files: Vec<&String> =
        lock["data"].as_object().unwrap().keys().filter(|key| key.starts_with("clusters.")).collect();
    assert_eq!(files, [&format!("clusters.{}.yaml", cluster.name)]);
}

#[test]
fn two_agents_lose_nothing_while_a_third_parts_from_both_and_is_removed() {
    let _guard = one_at_a_time();
    let of =
        [("east", "orders", "cluster.local"), ("north", "stock", "cluster.local"), ("west", "cart", "cluster.local")];
    let Some(mesh) = BedMesh::start(&of, &[]) else { return };
    let north = mesh.cluster("north");
    mesh.agents();
    for (reader, peer) in mesh.links() {
        mesh.apply(reader, &mesh.declaration(peer));
    }
    for (reader, peer) in mesh.links() {
        mesh.answers(reader, peer);
    }
    mesh.loses_nothing_while("north parts from both", || {
        let begun = Instant::now();
        // the others keep their objects, and take their ends away by themselves
        succeed(mesh.kubectl(north).args(["delete", "istiomulticlusters", "east", "west", "--wait=false"]));
        mesh.within(PARTING, "the objects in north to be gone", || no_object(&mesh, north));
        eprintln!("bed: north had parted from two after {:?}", begun.elapsed());
        has_no_links(&mesh, north);
        for name in ["east", "west"] {
            let cluster = mesh.cluster(name);
            mesh.condition(cluster, "north", "ControlPlaneSynced", "False", None);
            mesh.condition(cluster, "north", "PrivateMetadataExchangeReady", "False", None);
            // it is declared on one side alone
            succeed(mesh.kubectl(cluster).args(["delete", "istiomulticlusters", "north", "--wait=false"]));
            mesh.within(PARTING, &format!("the object of north in {name} to be gone"), || {
                let list = succeed(mesh.kubectl(cluster).args(["get", "istiomulticlusters", "--output=name"]));
                if list.contains("north") { Err(list) } else { Ok(()) }
            });
        }
        remove(&mesh, north);
    });
    for (reader, peer) in [("east", "west"), ("west", "east")] {
        let peer = mesh.cluster(peer);
        mesh.condition(mesh.cluster(reader), peer.name, "ControlPlaneSynced", "True", None);
    }
}

/// What docs/agent.md says to remove an agent: after it nothing of ours is left.
fn remove(mesh: &BedMesh, cluster: BedCluster) {
    for (role, _) in ROLES {
        mesh.stop(if role == "relay" { "agent" } else { role }, cluster);
    }
    let rendered = mesh.agent_checkout(cluster).join("rendered").join(cluster.name);
    succeed(mesh.kubectl(cluster).args(["delete", "--ignore-not-found", "-k"]).arg(rendered));
    succeed(mesh.kubectl(cluster).args([
        "delete",
        "configmaps,secrets,leases,gateways.networking.istio.io",
        "--namespace=istio-system",
        "--selector=isthmus.dev/owner in (agent, cluster)",
    ]));
    // controllers, which the bed has none of, take pods away with their Deployments
    let pods = ["isthmus-agent-0", "isthmus-exporter-0", "isthmus-proxy-0"];
    succeed(mesh.kubectl(cluster).args(["delete", "pods", "--namespace=istio-system"]).args(pods));
    let kinds = succeed(mesh.kubectl(cluster).args(["api-resources", "--verbs=list", "--output=name"]));
    let kinds =
        kinds.split_whitespace().filter(|kind| !kind.starts_with("events") && !kind.starts_with("componentstatus"));
    let kinds = kinds.collect::<Vec<_>>().join(",");
    let left =
        succeed(mesh.kubectl(cluster).args(["get", &kinds, "--all-namespaces", "--ignore-not-found", "--output=name"]));
    let left: Vec<&str> =
        left.lines().filter(|name| name.contains("isthmus") || name.contains("remote-secret")).collect();
    assert!(left.is_empty(), "{left:#?}");
    eprintln!("bed: nothing of ours is left in {}", cluster.name);
}
