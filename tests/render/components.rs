//! Component templates: what they render, and what an override may not change.

#![allow(clippy::disallowed_methods, reason = "the built-in templates are read as files")]

use isthmus::model::known::KnownCluster;
use isthmus::model::lock::JoinedWith;
use isthmus::model::mesh::Expose;
use isthmus::pipeline::render::render_cluster;
use isthmus::pipeline::template::Templates;
use isthmus::spec::SourceFile;
use isthmus::types::diagnostic::{Diagnostic, Diagnostics};
use serde_json::Value;

use super::world::{RenderWorld, files, name, page};

fn source(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), bytes: text.as_bytes().to_vec() }
}

fn builtin(name: &str) -> String {
    std::fs::read_to_string(format!("{}/templates/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn messages(findings: &Diagnostics) -> String {
    let line = |finding: &&Diagnostic| {
        let at = finding.at.as_ref().map(ToString::to_string).unwrap_or_default();
        let hint = finding.explanation.hint.as_deref().unwrap_or_default();
        format!(
            "{at}: {}\n  | {}\n  = {hint}\n",
            finding.explanation.message,
            finding.excerpt.as_deref().unwrap_or_default()
        )
    };
    findings.sorted().iter().map(line).collect()
}

/// What comes of an override of a template: an error in words, or nothing.
fn overridden(name_of: &str, text: &str) -> Option<String> {
    let templates = match Templates::load(&[source(&format!("templates/{name_of}"), text)]) {
        Ok(templates) => templates,
        Err(findings) => return Some(messages(&findings)),
    };
    let world = RenderWorld::joined(&["east", "west"]);
    let rendered = render_cluster(&world.mesh, &world.lock, &templates, &name("east"));
    rendered.err().map(|findings| messages(&findings))
}

fn component_files(world: &RenderWorld, cluster: &str, role: &str) -> String {
    let mut files = files(cluster, &world.render(cluster));
    let own = format!("isthmus-{role}");
    files.retain(|path, text| {
        path.ends_with(&format!("-{own}.yaml")) || text.contains(&format!("app.kubernetes.io/name: {own}\n"))
    });
    page(&files)
}

#[test]
fn components_of_a_rendered_cluster() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.cluster("east").gateways = Some(vec![isthmus::types::address::Gateway::new("2001:db8::1", 15443).unwrap()]);
    world.cluster("east").network = Some("network-1".parse().unwrap());
    for role in ["exporter", "proxy", "relay"] {
        insta::assert_snapshot!(role, component_files(&world, "east", role));
    }
}

#[test]
fn the_gateway_of_a_cluster_whose_gateway_is_managed() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    let plain = files("east", &world.render("east"));
    world.cluster("east").manages_gateway = true;
    world.cluster("east").network = Some("network-east".parse().unwrap());
    world.cluster("east").components.as_mut().unwrap().image = None;
    let gateway = "gateway.gateway.networking.k8s.io-isthmus-eastwest.yaml";
    let managed = |world: &RenderWorld| {
        let mut files = files("east", &world.render("east"));
        assert!(!plain.iter().any(|(path, _)| path.ends_with(gateway)));
        files.retain(|path, _| path.ends_with("isthmus-eastwest.yaml"));
        page(&files)
    };
    insta::assert_snapshot!("gateway", managed(&world));

    // istiod of a revision takes what is called after it, and a domain of its own has names of its own
    world.cluster("east").istio.revisions = vec!["1-31".parse().unwrap(), "canary".parse().unwrap()];
    world.cluster("east").cluster_domain = "shop.local".parse().unwrap();
    let text = managed(&world);
    assert!(text.contains("    istio.io/rev: 1-31\n") && text.contains("hostname: \"*.shop.local\"\n"), "{text}");
    world.cluster("east").istio.revisions.push("default".parse().unwrap());
    assert!(!managed(&world).contains("istio.io/rev"));

    // links that rest on another network keep its gateway
    let east = name("east");
    let joined = KnownCluster::of(&world.mesh, &world.lock, &east).unwrap().joins_with(&world.mesh).unwrap();
    world.locked("east").joined_with = Some(JoinedWith { network: "network-before".parse().unwrap(), ..joined });
    assert_eq!(managed(&world).matches("network-before").count(), 3);

    // an agent does not render what it was installed with
    world.mesh.inside = true;
    assert_eq!(managed(&world), "");
}

/// One public address: the gateway tells exporter and api-proxy apart by the names that peers ask for.
#[test]
fn a_cluster_that_is_exposed_by_its_gateway() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    let of = |world: &RenderWorld| {
        let mut files = files("east", &world.render("east"));
        files.retain(|path, _| path.contains("isthmus-expose.yaml") || path.contains("/service-isthmus-"));
        page(&files)
    };
    world.cluster("east").components.as_mut().unwrap().expose = Expose::Gateway;
    let found = of(&world);
    insta::assert_snapshot!("exposed_by_gateway", found);
    world.cluster("east").manages_gateway = true;
    world.cluster("east").network = Some("network-east".parse().unwrap());
    assert_eq!(of(&world), found, "its pods are labelled like those of any gateway");
    world.mesh.inside = true;
    assert!(!of(&world).contains("isthmus-expose"));
}

#[test]
fn a_strict_relay_asks_whose_token_it_is() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    let plain = component_files(&world, "east", "relay");
    world.strict();
    let strict = component_files(&world, "east", "relay");
    let added: Vec<_> = strict.lines().filter(|line| !plain.contains(line)).map(str::trim).collect();
    assert_eq!(added, ["- authentication.k8s.io", "- tokenreviews", "- --require-token"]);
}

#[test]
fn the_relay_issues_leaves_for_what_peers_ask_for() {
    let hosts = |world: &RenderWorld| {
        let text = component_files(world, "east", "relay");
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("- --"));
        lines.filter(|line| line.contains("-host=")).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut world = RenderWorld::joined(&["east", "west"]);
    world.cluster("east").endpoint = "https://[2001:db8::7]:8443/metadata".parse().unwrap();
    world.cluster("east").components.as_mut().unwrap().api_host = Some("203.0.113.8:6443".parse().unwrap());
    assert_eq!(
        hosts(&world),
        [
            "exporter-host=2001:db8::7",
            "exporter-host=isthmus-exporter.istio-system.svc",
            "proxy-host=203.0.113.8",
            "proxy-host=isthmus-proxy.istio-system.svc",
        ]
    );
    world.cluster("east").components.as_mut().unwrap().tls_secret = Some("own-certificate".parse().unwrap());
    assert!(hosts(&world).is_empty(), "the user's own certificate serves");
}

#[test]
fn settings_reach_the_objects() {
    let mut world = RenderWorld::joined(&["east", "west"]);
    let components = world.cluster("east").components.as_mut().unwrap();
    components.replicas = 5;
    components.expose = Expose::ClusterIP;
    components.tls_secret = Some("own-certificate".parse().unwrap());
    world.cluster("east").istio.namespace = "mesh-system".parse().unwrap();
    let objects = world.render("east").objects;
    let find = |kind: &str| {
        objects
            .iter()
            .map(|r| r.object().unwrap())
            .find(|o| o.kind == kind && o.id().name == "isthmus-exporter")
            .unwrap()
    };
    let deployment = Value::Object(find("Deployment").fields.clone());
    assert_eq!(deployment.pointer("/spec/replicas").unwrap(), 5);
    assert_eq!(deployment.pointer("/spec/template/spec/volumes/0/secret/secretName").unwrap(), "own-certificate");
    assert_eq!(find("Service").fields["spec"]["type"], "ClusterIP");
    assert!(objects.iter().all(|r| r.id().namespace.as_ref().is_none_or(|namespace| namespace == "mesh-system")));
}

/// Pod Security Standard `restricted`, as far as our pods touch it.
#[test]
fn every_pod_is_confined() {
    let world = RenderWorld::joined(&["east", "west"]);
    let mut pods = 0;
    for cluster in ["east", "west"] {
        for rendered in world.render(cluster).objects.iter().filter(|rendered| rendered.id().kind == "Deployment") {
            let value = Value::Object(rendered.object().unwrap().fields.clone());
            let at = |path: &str| value.pointer(&format!("/spec/template{path}")).unwrap_or(&Value::Null).clone();
            assert_eq!(at("/spec/securityContext/runAsNonRoot"), true);
            assert_eq!(at("/spec/securityContext/runAsUser"), 65532);
            assert_eq!(at("/spec/securityContext/seccompProfile/type"), "RuntimeDefault");
            assert_eq!(at("/spec/containers/0/securityContext/capabilities"), serde_json::json!({ "drop": ["ALL"] }));
            assert_eq!(at("/spec/containers/0/securityContext/readOnlyRootFilesystem"), true);
            assert_eq!(at("/spec/containers/0/securityContext/allowPrivilegeEscalation"), false);
            assert_eq!(at("/metadata/labels/sidecar.istio.io~1inject"), "false");
            assert_eq!(at("/metadata/labels/istio.io~1dataplane-mode"), "none");
            pods += 1;
        }
    }
    assert_eq!(pods, 6);
}

/// What each account may do, as `verb group/resource[names]`.
#[test]
fn rights_are_these_and_no_others() {
    let world = RenderWorld::joined(&["east", "west"]);
    let mut rights = Vec::new();
    for cluster in ["east", "west"] {
        let all = world.render(cluster);
        for object in all.objects.iter().map(|rendered| rendered.object().unwrap()) {
            if !matches!(object.kind.as_str(), "Role" | "ClusterRole") {
                continue;
            }
            for rule in object.fields["rules"].as_array().unwrap() {
                let list = |key: &str| {
                    let messages = rule.get(key).and_then(Value::as_array).into_iter().flatten();
                    messages.map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(",")
                };
                let what = format!("{}{}/{}", list("nonResourceURLs"), list("apiGroups"), list("resources"));
                rights.push(format!(
                    "{} {}: {} {what} [{}]",
                    object.kind,
                    object.id().name,
                    list("verbs"),
                    list("resourceNames")
                ));
            }
        }
    }
    assert!(rights.iter().all(|right| !right.contains('*')), "no wildcards");
    rights.sort();
    rights.dedup();
    insta::assert_snapshot!("rights", rights.join("\n"));
}

/// So a right that is no longer rendered is there until the pods of the version before, which may use it, are gone.
#[test]
fn rights_of_peers_change_after_the_api_proxy_was_rolled() {
    let world = RenderWorld::joined(&["east", "west"]);
    let all = world.render("east");
    let wave = |kind: &str, name: &str| -> u8 {
        let objects = all.objects.iter().map(|rendered| rendered.object().unwrap());
        let mut found = objects.filter(|object| object.kind == kind && object.id().name == name);
        found.next().unwrap().annotation("argocd.argoproj.io/sync-wave").unwrap().parse().unwrap()
    };
    assert!(wave("ClusterRole", "isthmus-peers") > wave("Deployment", "isthmus-proxy"));
}

#[test]
fn an_override_may_change_resources() {
    let text = builtin("exporter/deployment.yaml").replace("memory: 128Mi", "memory: 512Mi");
    assert_eq!(overridden("exporter/deployment.yaml", &text), None);
    let templates = Templates::load(&[source("templates/exporter/deployment.yaml", &text)]).unwrap();
    let world = RenderWorld::joined(&["east", "west"]);
    let rendered = render_cluster(&world.mesh, &world.lock, &templates, &name("east")).unwrap();
    assert!(page(&files("east", &rendered)).contains("512Mi"));
}

#[test]
fn an_override_that_breaks_the_model_is_named_with_its_line() {
    let own = builtin("exporter/deployment.yaml");
    let rbac = builtin("proxy/rbac.yaml");
    let cases: [(&str, String); 17] = [
        ("exporter/deployment.yaml", own.replace("kind: Deployment", "kind: DaemonSet")),
        ("exporter/deployment.yaml", own.replace("  name: isthmus-exporter", "  name: other")),
        ("exporter/deployment.yaml", own.replace("{{ image|tojson }}", "evil:latest")),
        (
            "exporter/deployment.yaml",
            own.replace("serviceAccountName: isthmus-exporter", "serviceAccountName: default"),
        ),
        ("exporter/deployment.yaml", own.replace("      volumes:", "      hostNetwork: true\n      volumes:")),
        ("exporter/deployment.yaml", own.replace("privileged: false", "privileged: true")),
        (
            "exporter/deployment.yaml",
            own.replace("            - ALL\n", "            - ALL\n            add: [NET_ADMIN]\n"),
        ),
        (
            "exporter/deployment.yaml",
            own.replace(
                "      - name: tls\n        secret",
                "      - name: root\n        hostPath: {path: /}\n      - name: tls\n        secret",
            ),
        ),
        ("exporter/deployment.yaml", own.replace("        sidecar.istio.io/inject: \"false\"\n", "")),
        ("exporter/deployment.yaml", own.replace("args: {{ args|tojson }}", "args: [serve, exporter]")),
        ("exporter/deployment.yaml", format!("{own}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: extra}}\n")),
        ("exporter/deployment.yaml", own.replace("{{ image|tojson }}", "{{ imagen|tojson }}")),
        ("exporter/deployment.yaml", own.replace("{{ image|tojson }}", "{{ image|tojson }")),
        ("exporter/deployment.yaml", own.replace("      containers:\n", "      containers: [\n")),
        (
            "exporter/deployment.yaml",
            format!("{own}{{% for i in range(100000) %}}{{% for j in range(100) %}}{{% endfor %}}{{% endfor %}}"),
        ),
        ("exporter/deploymint.yaml", own.clone()),
        ("proxy/rbac.yaml", rbac.replace("verbs: [get, list, watch]", "verbs: ['*']")),
    ];
    let mut page = String::new();
    for (name, text) in cases {
        let found = overridden(name, &text).unwrap_or_else(|| panic!("{name} was taken:\n{text}"));
        assert!(found.starts_with("templates/"), "{found}");
        page.push_str(&found);
    }
    insta::assert_snapshot!("broken_overrides", page);
}

#[test]
fn a_copy_of_a_builtin_template_and_other_files_change_nothing() {
    let files = [
        source("templates/relay/service.yaml", &builtin("relay/service.yaml")),
        source("templates/README.md", "no template"),
    ];
    assert!(Templates::load(&files).is_ok());
}
