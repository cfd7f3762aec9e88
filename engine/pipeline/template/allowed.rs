//! What an override may change of the template that it replaces, and nothing else: a positive list.
#![deny(clippy::wildcard_enum_match_arm)]

/// What may be changed at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    Change,
    Number,
    /// Entries may be added whose keys are, or begin with, one of these; those of the built-in template stay.
    Add(&'static [&'static str]),
}

/// The Services that peers reach.
const EXPORTER: &str = "Service isthmus-exporter";
const PROXY: &str = "Service isthmus-proxy";

/// Of which objects (a kind, a kind and a name, or all), where, and what.
struct OverrideRule(&'static str, &'static str, May);

/// Keys of labels. A label on a pod can put it behind a Service, or let it through a `NetworkPolicy`, so a key without a prefix,
/// such as `app`, is none of them.
const LABELS: &[&str] =
    &["app.kubernetes.io/component", "app.kubernetes.io/version", "backstage.io/", "tags.datadoghq.com/"];

/// Keys of annotations. Those of injectors, of security profiles and of `GitOps` tools are none of them.
const ANNOTATIONS: &[&str] = &[
    "ad.datadoghq.com/",
    "backstage.io/",
    "checksum/",
    "cluster-autoscaler.kubernetes.io/",
    "karpenter.sh/do-not-disrupt",
    "kubernetes.io/description",
    "prometheus.io/",
];

/// Keys of annotations of Services that peers reach: what load balancers and DNS are told.
const SERVICE_ANNOTATIONS: &[&str] = &[
    "ad.datadoghq.com/",
    "backstage.io/",
    "cloud.google.com/",
    "external-dns.alpha.kubernetes.io/",
    "io.cilium/",
    "kube-vip.io/",
    "kubernetes.digitalocean.com/",
    "kubernetes.io/description",
    "lbipam.cilium.io/",
    "load-balancer.hetzner.cloud/",
    "loadbalancer.openstack.org/",
    "metallb.io/",
    "metallb.universe.tf/",
    "networking.gke.io/",
    "oci-network-load-balancer.oraclecloud.com/",
    "oci.oraclecloud.com/",
    "prometheus.io/",
    "service.beta.kubernetes.io/",
    "service.kubernetes.io/",
    "traefik.ingress.kubernetes.io/",
    "yandex.cloud/",
];

/// The east-west gateway, of which Istio makes Deployment and Service.
const GATEWAY: &str = "Gateway isthmus-eastwest";

const RULES: [OverrideRule; 25] = [
    OverrideRule("", "metadata.labels", May::Add(LABELS)),
    OverrideRule(GATEWAY, "metadata.annotations", May::Add(&["networking.istio.io/service-type"])),
    OverrideRule(GATEWAY, "spec.infrastructure.annotations", May::Add(SERVICE_ANNOTATIONS)),
    OverrideRule(EXPORTER, "metadata.annotations", May::Add(SERVICE_ANNOTATIONS)),
    OverrideRule(PROXY, "metadata.annotations", May::Add(SERVICE_ANNOTATIONS)),
    OverrideRule("", "metadata.annotations", May::Add(ANNOTATIONS)),
    OverrideRule(EXPORTER, "spec.externalTrafficPolicy", May::Change),
    OverrideRule(EXPORTER, "spec.loadBalancerClass", May::Change),
    OverrideRule(PROXY, "spec.externalTrafficPolicy", May::Change),
    OverrideRule(PROXY, "spec.loadBalancerClass", May::Change),
    OverrideRule("ServiceAccount", "imagePullSecrets", May::Change),
    OverrideRule("Deployment", "spec.replicas", May::Number),
    OverrideRule("Deployment", "spec.strategy", May::Change),
    OverrideRule("Deployment", "spec.template.metadata.labels", May::Add(LABELS)),
    OverrideRule("Deployment", "spec.template.metadata.annotations", May::Add(ANNOTATIONS)),
    OverrideRule("Deployment", "spec.template.spec.affinity", May::Change),
    OverrideRule("Deployment", "spec.template.spec.imagePullSecrets", May::Change),
    OverrideRule("Deployment", "spec.template.spec.nodeSelector", May::Change),
    OverrideRule("Deployment", "spec.template.spec.priorityClassName", May::Change),
    OverrideRule("Deployment", "spec.template.spec.tolerations", May::Change),
    OverrideRule("Deployment", "spec.template.spec.topologySpreadConstraints", May::Change),
    OverrideRule("Deployment", "spec.template.spec.containers.[].resources.limits", May::Change),
    OverrideRule("Deployment", "spec.template.spec.containers.[].resources.requests", May::Change),
    OverrideRule("Deployment", "spec.template.spec.containers.[].livenessProbe.*", May::Number),
    OverrideRule("Deployment", "spec.template.spec.containers.[].readinessProbe.*", May::Number),
];

/// The numbers of a probe, which `*` stands for.
const NUMBERS: [&str; 6] = [
    "failureThreshold",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
];

/// What an override may change at a path of an object. `object` is its kind and name; `path` has `[]` for each place in a list.
pub(super) fn may(object: &str, path: &[&str]) -> Option<May> {
    let kind = object.split(' ').next().unwrap_or_default();
    let is_at = |at: &str| {
        let same = |(wanted, found): (&str, &&str)| wanted == *found || (wanted == "*" && NUMBERS.contains(found));
        at.split('.').count() == path.len() && at.split('.').zip(path).all(same)
    };
    let rule = RULES.iter().find(|OverrideRule(of, at, _)| ["", kind, object].contains(of) && is_at(at));
    rule.map(|OverrideRule(_, _, may)| *may)
}

impl May {
    /// Whether a key may be added here.
    pub(super) fn add(self, key: &str) -> bool {
        let Self::Add(keys) = self else { return false };
        keys.iter().any(|known| key == *known || (known.ends_with('/') && key.starts_with(known)))
    }
}
