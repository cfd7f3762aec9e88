//! What a peer sees of each kind of object: these fields and no others, each with what reads it in Istio.
//!
//! A peer's istiod throws away nearly all of an object itself; what it does not use is not sent. The files named are those of
//! istio/istio, as of 2026-08-27; `K` stands for `pilot/pkg/serviceregistry/kube`. With whole and with projected objects a
//! reader's clusters, listeners, routes and endpoints are the same.
//!
//! What of an object could direct the traffic of a reader is not in the list: a Gateway, and the label
//! [`NETWORK_LABEL`] on a Pod, a Namespace, a Service or a `WorkloadEntry`, by which a reader would dial addresses that no one
//! reviewed; and `alpha.istio.io/*-serviceaccounts` on a Service, by which it would accept identities that no one listed.
//! The network of a `WorkloadEntry` is not what it says but the cluster's own, since an empty one counts as the reader's.

use super::shape::Shape::{
    Created, Each, Entries, EntriesOf, Network, Object, OneOf, ResourceVersion, SharedNamespace, SystemNamespace,
    Value, Values,
};
use super::shape::{Shape, ShownField, ShownKind};
use crate::istio::gateways::NETWORK_LABEL;

const fn field(name: &'static str, shape: Shape, read_by: &'static str) -> ShownField {
    ShownField { name, shape, read_by }
}

/// Labels that direct traffic.
const DIRECTING: &[&str] = &[NETWORK_LABEL, "networking.istio.io/gatewayPort"];

const API_VERSION: ShownField = field("apiVersion", Value, "every client");
const KIND: ShownField = field("kind", Value, "every client");
const NAME: ShownField = field("name", Value, "every client");
const NAMESPACE: ShownField = field("namespace", SharedNamespace, "every client");
const UID: ShownField = field("uid", Value, "every client: the same name may be another object");
const RESOURCE_VERSION: ShownField = field("resourceVersion", ResourceVersion, "every client: where a watch continues");

const fn kind(group: &'static str, resource: &'static str, fields: &'static [ShownField]) -> ShownKind {
    ShownKind { group, resource, fields }
}

/// All kinds that the apiserver answers for.
pub const KINDS: &[ShownKind] = &[
    kind("", "pods", POD),
    kind("", "nodes", NODE),
    kind("", "namespaces", NAMESPACE_OBJECT),
    kind("", "services", SERVICE),
    kind("discovery.k8s.io", "endpointslices", ENDPOINT_SLICE),
    kind("apiextensions.k8s.io", "customresourcedefinitions", CUSTOM_RESOURCE_DEFINITION),
    kind("networking.istio.io", "workloadentries", WORKLOAD_ENTRY),
    kind("multicluster.x-k8s.io", "serviceexports", SERVICE_EXPORT),
    kind("multicluster.x-k8s.io", "serviceimports", SERVICE_IMPORT),
];

const POD: &[ShownField] = &[
    API_VERSION,
    KIND,
    field(
        "metadata",
        Object(&[
            NAME,
            NAMESPACE,
            UID,
            RESOURCE_VERSION,
            field(
                "labels",
                Entries { but: DIRECTING },
                "selectors, subsets, TLS mode: K/controller/endpoint_builder.go",
            ),
            field("deletionTimestamp", Value, "whether it takes requests: K/controller/pod.go"),
            field("generateName", Value, "the workload's name: pkg/kube/util.go, GetDeployMetaFromPod"),
            field(
                "ownerReferences",
                Each(&[API_VERSION, KIND, NAME, field("controller", OneOf(&["true"]), "the owner that counts")]),
                "the workload's name: pkg/kube/util.go, GetDeployMetaFromPod",
            ),
        ]),
        "",
    ),
    field(
        "spec",
        Object(&[
            field("serviceAccountName", Value, "the identity that clients expect: K/conversion.go"),
            field("nodeName", Value, "locality: K/controller/controller.go"),
            field("hostname", Value, "DNS of headless services: K/controller/endpoint_builder.go"),
            field("subdomain", Value, "DNS of headless services: K/controller/endpoint_builder.go"),
            field("containers", Each(&[PORTS]), ""),
            field(
                "initContainers",
                Each(&[field("restartPolicy", OneOf(&["Always"]), "native sidecars: pkg/kube/util.go"), PORTS]),
                "",
            ),
        ]),
        "",
    ),
    field(
        "status",
        Object(&[
            field("phase", Value, "whether it runs: K/controller/pod.go"),
            field("podIP", Value, "its address: K/controller/pod.go"),
            field("podIPs", Each(&[field("ip", Value, "both families: K/controller/pod.go")]), ""),
            field("conditions", Each(&[field("type", OneOf(&["Ready"]), READY), field("status", Value, READY)]), ""),
        ]),
        "",
    ),
];

const READY: &str = "whether it takes requests: K/controller/pod.go";

const PORTS: ShownField = field(
    "ports",
    Each(&[
        field("name", Value, OF_SERVICE_ENTRY),
        field("containerPort", Value, OF_SERVICE_ENTRY),
        field("protocol", Value, OF_SERVICE_ENTRY),
    ]),
    "",
);

const OF_SERVICE_ENTRY: &str = "ports of a ServiceEntry that selects it: K/controller/pod.go";

const NODE: &[ShownField] = &[
    API_VERSION,
    KIND,
    field(
        "metadata",
        Object(&[
            NAME,
            UID,
            RESOURCE_VERSION,
            field(
                "labels",
                EntriesOf(&[
                    "topology.kubernetes.io/region",
                    "topology.kubernetes.io/zone",
                    "failure-domain.beta.kubernetes.io/region",
                    "failure-domain.beta.kubernetes.io/zone",
                    "topology.istio.io/subzone",
                ]),
                "locality: K/controller/controller.go",
            ),
        ]),
        "",
    ),
];

const NAMESPACE_OBJECT: &[ShownField] = &[
    API_VERSION,
    KIND,
    field(
        "metadata",
        Object(&[
            field("name", SharedNamespace, "every client"),
            UID,
            RESOURCE_VERSION,
            field("labels", Entries { but: DIRECTING }, "discoverySelectors: pkg/kube/namespace/filter.go"),
            field("annotations", EntriesOf(&[TRAFFIC_DISTRIBUTION]), "K/controller/controller.go"),
        ]),
        "",
    ),
];

/// What is shown of the namespace of the peer's istiod where it is not shared: that there is one.
pub(super) const SYSTEM_NAMESPACE: &[ShownField] = &[
    API_VERSION,
    KIND,
    field("metadata", Object(&[field("name", SystemNamespace, "K/controller/network.go"), UID, RESOURCE_VERSION]), ""),
];

const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

const SERVICE: &[ShownField] = &[
    API_VERSION,
    KIND,
    field(
        "metadata",
        Object(&[
            NAME,
            NAMESPACE,
            UID,
            RESOURCE_VERSION,
            field(
                "creationTimestamp",
                Created,
                "of two for one host or address the older: pilot/pkg/model/push_context.go",
            ),
            field("labels", Entries { but: DIRECTING }, "persistent sessions: pilot/pkg/model/service.go"),
            field("annotations", EntriesOf(&["networking.istio.io/exportTo", TRAFFIC_DISTRIBUTION]), "K/conversion.go"),
        ]),
        "",
    ),
    field(
        "spec",
        Object(&[
            field("type", Value, "K/conversion.go"),
            field("externalName", Value, "K/conversion.go"),
            field("clusterIP", Value, "K/conversion.go"),
            field("clusterIPs", Values, "both families: K/conversion.go"),
            field("internalTrafficPolicy", Value, "K/conversion.go"),
            field("selector", Entries { but: &[] }, "its pods: K/conversion.go"),
            field("publishNotReadyAddresses", Value, "K/conversion.go"),
            field("trafficDistribution", Value, "K/conversion.go"),
            field(
                "ports",
                Each(&[
                    field("name", Value, "K/conversion.go"),
                    field("port", Value, "K/conversion.go"),
                    field("protocol", Value, "K/conversion.go"),
                    field("appProtocol", Value, "K/conversion.go"),
                    field("targetPort", Value, "K/controller/controller.go, findServiceTargetPort"),
                ]),
                "",
            ),
        ]),
        "",
    ),
];

const ENDPOINT_SLICE: &[ShownField] = &[
    API_VERSION,
    KIND,
    field(
        "metadata",
        Object(&[
            NAME,
            NAMESPACE,
            UID,
            RESOURCE_VERSION,
            field(
                "labels",
                EntriesOf(&["kubernetes.io/service-name", "multicluster.kubernetes.io/service-name"]),
                "its service: K/controller/endpointslice.go",
            ),
        ]),
        "",
    ),
    field("addressType", Value, SLICE),
    field(
        "endpoints",
        Each(&[
            field("addresses", Values, SLICE),
            field(
                "conditions",
                Object(&[
                    field("ready", Value, SLICE),
                    field("serving", Value, SLICE),
                    field("terminating", Value, SLICE),
                ]),
                "",
            ),
            field("targetRef", Object(&[KIND, NAME, field("namespace", Value, SLICE)]), SLICE),
        ]),
        "",
    ),
    field("ports", Each(&[field("name", Value, SLICE), field("port", Value, SLICE)]), ""),
];

const SLICE: &str = "K/controller/endpointslice.go";

/// Those of what a peer may read; of any other the peer learns nothing, not even that there is one. Gateways are not among
/// them: a peer's istiod does not ask for what it takes to be unknown.
const CUSTOM_RESOURCE_DEFINITION: &[ShownField] = &[
    API_VERSION,
    KIND,
    field(
        "metadata",
        Object(&[
            field("name", OneOf(SHOWN_DEFINITIONS), "whether to ask for its objects: pkg/kube/kclient/crdwatcher.go"),
            UID,
            RESOURCE_VERSION,
        ]),
        "",
    ),
];

/// Definitions that peers see.
pub const SHOWN_DEFINITIONS: &[&str] = &[
    "workloadentries.networking.istio.io",
    "serviceexports.multicluster.x-k8s.io",
    "serviceimports.multicluster.x-k8s.io",
];

const ENTRY: &str = "pilot/pkg/serviceregistry/serviceentry/conversion.go";

const WORKLOAD_ENTRY: &[ShownField] = &[
    API_VERSION,
    KIND,
    field(
        "metadata",
        Object(&[
            NAME,
            NAMESPACE,
            UID,
            RESOURCE_VERSION,
            field("labels", Entries { but: DIRECTING }, ENTRY),
            field("annotations", EntriesOf(&["proxy.istio.io/health-checks-enabled"]), ENTRY),
        ]),
        "",
    ),
    field(
        "spec",
        Object(&[
            field("address", Value, ENTRY),
            field("ports", Entries { but: &[] }, ENTRY),
            field("labels", Entries { but: DIRECTING }, ENTRY),
            field("locality", Value, ENTRY),
            field("weight", Value, ENTRY),
            field("serviceAccount", Value, ENTRY),
            field("network", Network, "the cluster's own, whatever it holds; an empty one counts as the reader's"),
        ]),
        "",
    ),
    field(
        "status",
        Object(&[field(
            "conditions",
            Each(&[field("type", OneOf(&["Healthy"]), ENTRY), field("status", Value, ENTRY)]),
            "",
        )]),
        "",
    ),
];

const SERVICE_EXPORT: &[ShownField] =
    &[API_VERSION, KIND, field("metadata", Object(&[NAME, NAMESPACE, UID, RESOURCE_VERSION]), "")];

const SERVICE_IMPORT: &[ShownField] = &[
    API_VERSION,
    KIND,
    field("metadata", Object(&[NAME, NAMESPACE, UID, RESOURCE_VERSION]), ""),
    field("spec", Object(&[field("ips", Values, "K/controller/serviceimportcache.go")]), ""),
];

/// The head of a list. It comes whole: where the next page continues, and how much is left, would tell of what is not
/// shown.
pub(super) const LIST_METADATA: &[ShownField] = &[RESOURCE_VERSION];

/// An event that says how far a watch has come.
pub(super) const BOOKMARK: &[ShownField] = &[
    API_VERSION,
    KIND,
    field(
        "metadata",
        Object(&[
            RESOURCE_VERSION,
            field("annotations", EntriesOf(&["k8s.io/initial-events-end"]), "every client: its first list is complete"),
        ]),
        "",
    ),
];

/// Why the apiserver does not answer, or ends a watch.
pub(super) const STATUS: &[ShownField] = &[
    API_VERSION,
    KIND,
    field("metadata", Object(&[]), ""),
    field("status", Value, "every client"),
    field("message", Value, "people"),
    field("reason", Value, "every client"),
    field("details", Object(&[field("retryAfterSeconds", Value, "every client")]), ""),
    field("code", Value, "every client"),
];

/// The same of what goes wrong inside the cluster (500 and above), whose message may name any object of it
/// (k8s.io/apiserver `pkg/storage/etcd3/watcher.go`).
pub(super) const FAILURE: &[ShownField] = &[
    API_VERSION,
    KIND,
    field("metadata", Object(&[]), ""),
    field("status", Value, "every client"),
    field("reason", Value, "every client"),
    field("details", Object(&[field("retryAfterSeconds", Value, "every client")]), ""),
    field("code", Value, "every client"),
];

/// What `/api` says; peers probe with it.
pub(super) const API_VERSIONS: &[ShownField] = &[KIND, API_VERSION, field("versions", Values, "every client")];
