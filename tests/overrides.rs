//! Overrides of component templates, on the binary: what they may change, what they may not, and that a plan lists them.

#![allow(clippy::disallowed_methods, reason = "the built-in templates are read as files")]

use rstest::rstest;
use serde_json::Value;

use crate::support::checkout::Checkout;

const PLAN: &[&str] = &["plan", "--locked"];

/// Two joined clusters, of which east runs components of ours.
fn with_components() -> Checkout {
    let checkout = Checkout::joined();
    let components = "metadata: {endpoint: \"file://metadata/east\"}, multicluster: {image: ghcr.io/x/engine:1, apiHost: api.east.example.com}}";
    checkout.edit("specs/mesh.yaml", "metadata: {endpoint: \"file://metadata/east\"}}", components);
    checkout.engine(&["apply"]).done();
    checkout
}

fn builtin(name: &str) -> String {
    std::fs::read_to_string(format!("{}/templates/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Writes an override, the built-in template with one text instead of another.
fn overrides(checkout: &Checkout, name: &str, from: &str, to: &str) -> String {
    let text = builtin(name);
    assert!(text.contains(from), "{name} has no {from:?}");
    let text = text.replacen(from, to, 1);
    checkout.write(&format!("templates/{name}"), text.as_bytes());
    text
}

#[rstest]
#[case::service_type("relay/service.yaml", "type: ClusterIP", "type: LoadBalancer", "spec.type")]
#[case::service_port("exporter/service.yaml", "port: 443", "port: 443\n    nodePort: 30443", "spec.ports[0].nodePort")]
#[case::external_ips("relay/service.yaml", "spec:", "spec:\n  externalIPs: [203.0.113.1]", "spec.externalIPs")]
#[case::selector("exporter/service.yaml", "selector:", "selector:\n    app: evil", "spec.selector.app")]
#[case::policy_opened(
    "relay/networkpolicy.yaml",
    "  - from:\n    - podSelector:\n        matchLabels:\n          app: istiod\n    ports",
    "  - ports",
    "spec.ingress[0].from"
)]
#[case::policy_of_no_run("proxy/networkpolicy.yaml", "  - Egress\n", "", "spec.policyTypes[1]")]
#[case::istio_ca_mounted(
    "proxy/deployment.yaml",
    "      volumes:\n",
    "      volumes:\n      - name: cacerts\n        secret: {secretName: cacerts}\n",
    "spec.template.spec.volumes[0].name"
)]
#[case::dns(
    "relay/deployment.yaml",
    "      containers:",
    "      dnsPolicy: None\n      dnsConfig: {nameservers: [203.0.113.1]}\n      containers:",
    "spec.template.spec.dnsConfig"
)]
#[case::host_aliases(
    "relay/deployment.yaml",
    "      containers:",
    "      hostAliases: [{ip: 203.0.113.1, hostnames: [kubernetes.default.svc]}]\n      containers:",
    "spec.template.spec.hostAliases"
)]
#[case::audit_log(
    "proxy/deployment.yaml",
    "args: {{ args|tojson }}",
    "args: [serve, proxy, --namespace=istio-system, --log=json, --tls-cert=/etc/isthmus/tls/tls.crt, --tls-key=/etc/isthmus/tls/tls.key, --audit-log=-, --audit-log=/dev/null]",
    "spec.template.spec.containers[0].args[7]"
)]
#[case::kubeconfig_by_annotation(
    "relay/deployment.yaml",
    "        image:",
    "        env: [{name: KUBECONFIG, value: /etc/podinfo/annotations}]\n        image:",
    "spec.template.spec.containers[0].env"
)]
#[case::annotation_of_an_injector(
    "relay/deployment.yaml",
    "    metadata:\n",
    "    metadata:\n      annotations: {inject.istio.io/templates: sidecar}\n",
    "spec.template.metadata.annotations[\"inject.istio.io/templates\"]"
)]
#[case::annotation_without_confinement(
    "relay/deployment.yaml",
    "    metadata:\n",
    "    metadata:\n      annotations: {container.apparmor.security.beta.kubernetes.io/relay: unconfined}\n",
    "annotations[\"container.apparmor"
)]
#[case::label_of_istiod(
    "exporter/deployment.yaml",
    "      labels:\n",
    "      labels:\n        app: istiod\n",
    "spec.template.metadata.labels.app"
)]
#[case::label_gone(
    "exporter/deployment.yaml",
    "        sidecar.istio.io/inject: \"false\"\n",
    "",
    "labels[\"sidecar.istio.io/inject\"]"
)]
#[case::hook_of_argo_cd(
    "exporter/serviceaccount.yaml",
    "metadata:",
    "metadata:\n  annotations: {argocd.argoproj.io/hook: PreSync}",
    "argocd.argoproj.io/hook"
)]
#[case::image("exporter/deployment.yaml", "{{ image|tojson }}", "evil.example.com/engine:1", "containers[0].image")]
#[case::second_container(
    "exporter/deployment.yaml",
    "      volumes:",
    "      - {name: evil, image: evil.example.com/x}\n      volumes:",
    "containers[1]"
)]
#[case::init_container(
    "exporter/deployment.yaml",
    "      containers:",
    "      initContainers: [{name: evil, image: evil.example.com/x}]\n      containers:",
    "initContainers"
)]
#[case::lifecycle(
    "relay/deployment.yaml",
    "        resources:",
    "        lifecycle: {postStart: {exec: {command: [sh]}}}\n        resources:",
    "containers[0].lifecycle"
)]
#[case::exec_probe(
    "relay/deployment.yaml",
    "          httpGet:\n            path: /healthz\n            port: metrics\n",
    "          exec: {command: [sh]}\n",
    "livenessProbe.exec"
)]
#[case::probe_elsewhere(
    "relay/deployment.yaml",
    "path: /healthz",
    "path: /healthz\n            host: 203.0.113.1",
    "livenessProbe.httpGet.host"
)]
#[case::probe_number(
    "relay/deployment.yaml",
    "periodSeconds: 5",
    "periodSeconds: {a: 1}",
    "readinessProbe.periodSeconds"
)]
#[case::user("proxy/deployment.yaml", "runAsUser: 65532", "runAsUser: 65533", "securityContext.runAsUser")]
#[case::more_rights("relay/rbac.yaml", "verbs: [get, update]", "verbs: [get, update, list]", "rules[1].verbs[2]")]
#[case::other_subject(
    "relay/rbac.yaml",
    "- kind: ServiceAccount\n  name: isthmus-relay",
    "- kind: ServiceAccount\n  name: default",
    "subjects[0].name"
)]
#[case::disruption(
    "relay/poddisruptionbudget.yaml",
    "maxUnavailable: 1",
    "maxUnavailable: 100%",
    "spec.maxUnavailable"
)]
fn an_override_that_changes_more_than_it_may(
    #[case] name: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] field: &str,
) {
    let checkout = with_components();
    let text = overrides(&checkout, name, from, to);
    let path = format!("templates/{name}");
    let ran = checkout.refuses(PLAN, 4, &["cannot be overridden", field, &path]);
    // the line that is named is one of those that were changed
    let named = ran.stderr.split(&format!("{path}:")).nth(1).and_then(|rest| rest.split(':').next());
    let line: usize = named.unwrap().parse().unwrap();
    let added = text.len().saturating_sub(builtin(name).len());
    let begin = text.split(to).next().filter(|_| !to.is_empty()).map_or(0, |before| before.lines().count());
    assert!(added == 0 || (begin..=begin + to.lines().count() + 1).contains(&line), "line {line} of\n{text}");
    checkout.refuses(&["apply"], 4, &[field]);
    checkout.refuses(&["argocd", "generate", "--cluster", "east"], 4, &[field]);
}

#[test]
fn what_is_overridden_is_listed_whenever_it_is_in_force() {
    let checkout = with_components();
    overrides(&checkout, "relay/deployment.yaml", "replicas: {{ replicas|tojson }}", "replicas: 5");
    overrides(
        &checkout,
        "exporter/deployment.yaml",
        "      topologySpreadConstraints:",
        "      nodeSelector: {kubernetes.io/arch: arm64}\n      tolerations: [{key: infra, operator: Exists}]\n      affinity: {podAntiAffinity: {}}\n      priorityClassName: high\n      imagePullSecrets: [{name: pull}]\n      topologySpreadConstraints:",
    );
    overrides(
        &checkout,
        "proxy/service.yaml",
        "  labels:",
        "  annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}\n  labels:",
    );
    let service = std::fs::read_to_string(checkout.path("templates/proxy/service.yaml")).unwrap();
    let service = service.replace("{{ external_traffic_policy|tojson }}", "Cluster");
    let service = format!("{service}  loadBalancerClass: example.com/nlb\n");
    checkout.write("templates/proxy/service.yaml", service.as_bytes());
    let policy = format!("# as it is\n{}", builtin("proxy/networkpolicy.yaml"));
    checkout.write("templates/proxy/networkpolicy.yaml", policy.as_bytes());
    checkout.engine(&["apply"]).done();
    let rendered = std::fs::read_to_string(checkout.path("rendered/east/deployment.apps-isthmus-relay.yaml")).unwrap();
    assert!(rendered.contains("replicas: 5"), "{rendered}");
    // nothing changes, and they are still told
    let text = checkout.engine(PLAN).done();
    insta::assert_snapshot!("text", text);
    insta::assert_snapshot!("markdown", checkout.engine(&["plan", "--locked", "--output", "markdown"]).done());
    let json = checkout.engine(&["plan", "--locked", "--output", "json"]).done();
    let plan: Value = serde_json::from_str(&json).unwrap();
    let listed = plan["overrides"].as_array().unwrap();
    assert_eq!(listed.len(), 10, "{plan}");
    let find = |field: &str| listed.iter().find(|one| one["field"] == field).unwrap();
    let replicas = find("spec.replicas");
    assert_eq!((&replicas["before"], &replicas["after"]), (&Value::from(2), &Value::from(5)));
    assert_eq!(replicas["path"], "templates/relay/deployment.yaml");
    assert_eq!(replicas["clusters"], serde_json::json!(["east"]));
    assert_eq!(find("spec.loadBalancerClass")["before"], Value::Null);
}

#[test]
fn an_override_that_was_taken_before_can_be_mended() {
    let checkout = with_components();
    checkout.git(&["init", "-q", "-b", "main"]);
    overrides(&checkout, "relay/service.yaml", "type: ClusterIP", "type: LoadBalancer");
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-qm", "one"]);
    std::fs::remove_dir_all(checkout.path("templates")).unwrap();
    let ran = checkout.engine(&["plan", "--base", "main"]);
    assert!(ran.code == 0 && ran.stderr.contains("main:templates/relay/service.yaml"), "{ran}");
}
