//! Where in Kubernetes' protobuf the fields are that a peer may be shown, and when Go writes them in JSON.
//!
//! Numbers and tags are those of kubernetes/kubernetes v1.37, in `staging/src/k8s.io`; they never change within a version of an API.
//! `core/v1` and `discovery/v1` are `api/…/generated.proto` for the numbers and `api/…/types.go` for the tags and the order, `meta/v1`
//! is `apimachinery/pkg/apis/meta/v1`. `tests/protobuf.rs` holds that the fields are those of [`KINDS`](super::super::KINDS), no more
//! and no fewer.

use ProtobufType::{Bool, Each, Int, IntOrString, Map, Message, Text, Texts, Time};

/// A kind of object whose lists are asked for in protobuf.
#[derive(Debug, PartialEq, Eq)]
pub struct ProtobufKind {
    /// API group; empty for core.
    pub group: &'static str,
    pub version: &'static str,
    /// The resource, as in a path.
    pub resource: &'static str,
    /// `apiVersion` of a list.
    pub api_version: &'static str,
    /// `kind` of a list.
    pub list: &'static str,
    /// What is read of each object.
    pub fields: &'static [ProtobufField],
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtobufField {
    pub number: u32,
    /// Its key in JSON.
    pub name: &'static str,
    pub value: ProtobufType,
    pub presence: Presence,
}

/// How a value is spelled, in protobuf and in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtobufType {
    Text,
    Bool,
    /// Of 32 bits.
    Int,
    /// Seconds since 1970; RFC 3339 in JSON.
    Time,
    /// A number or a text.
    IntOrString,
    /// Any number of texts.
    Texts,
    /// Texts by texts.
    Map,
    /// An object.
    Message(&'static [ProtobufField]),
    /// Any number of objects.
    Each(&'static [ProtobufField]),
}

/// When Go writes a field in JSON, by its tag and its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Where it is not empty: `omitempty`.
    Filled,
    /// Where it is there, also if it is empty: `omitempty` of a pointer.
    Given,
    /// Always: without `omitempty`, or of an object, which in Go is never empty.
    Always,
}

const fn field(number: u32, name: &'static str, value: ProtobufType, presence: Presence) -> ProtobufField {
    ProtobufField { number, name, value, presence }
}

const fn filled(number: u32, name: &'static str, value: ProtobufType) -> ProtobufField {
    field(number, name, value, Presence::Filled)
}

const fn given(number: u32, name: &'static str, value: ProtobufType) -> ProtobufField {
    field(number, name, value, Presence::Given)
}

const fn always(number: u32, name: &'static str, value: ProtobufType) -> ProtobufField {
    field(number, name, value, Presence::Always)
}

const fn core(resource: &'static str, list: &'static str, fields: &'static [ProtobufField]) -> ProtobufKind {
    ProtobufKind { group: "", version: "v1", resource, api_version: "v1", list, fields }
}

/// All kinds whose lists are asked for in protobuf: those of the apiserver's own of which a cluster has many.
pub const KINDS_IN_PROTOBUF: &[ProtobufKind] = &[
    core("pods", "PodList", POD),
    core("nodes", "NodeList", NODE),
    core("namespaces", "NamespaceList", NAMESPACE_OBJECT),
    core("services", "ServiceList", SERVICE),
    ProtobufKind {
        group: "discovery.k8s.io",
        version: "v1",
        resource: "endpointslices",
        api_version: "discovery.k8s.io/v1",
        list: "EndpointSliceList",
        fields: ENDPOINT_SLICE,
    },
];

impl ProtobufKind {
    /// That of a resource in a version of its group. `None`: its lists are asked for in JSON.
    pub fn of(group: &str, version: &str, resource: &str) -> Option<&'static Self> {
        KINDS_IN_PROTOBUF.iter().find(|kind| (kind.group, kind.version, kind.resource) == (group, version, resource))
    }
}

/// meta/v1 `ListMeta`.
pub(super) const LIST_META: &[ProtobufField] = &[filled(2, "resourceVersion", Text), filled(3, "continue", Text)];

/// meta/v1 `Status`.
pub(super) const STATUS: &[ProtobufField] = &[
    always(1, "metadata", Message(&[])),
    filled(2, "status", Text),
    filled(3, "message", Text),
    filled(4, "reason", Text),
    given(5, "details", Message(&[filled(5, "retryAfterSeconds", Int)])),
    filled(6, "code", Int),
];

// meta/v1 ObjectMeta
const NAME: ProtobufField = filled(1, "name", Text);
const GENERATE_NAME: ProtobufField = filled(2, "generateName", Text);
const NAMESPACE: ProtobufField = filled(3, "namespace", Text);
const UID: ProtobufField = filled(5, "uid", Text);
const RESOURCE_VERSION: ProtobufField = filled(6, "resourceVersion", Text);
/// With `omitzero` since 1.34; before, one that is not there was null.
const CREATION_TIMESTAMP: ProtobufField = filled(8, "creationTimestamp", Time);
const DELETION_TIMESTAMP: ProtobufField = given(9, "deletionTimestamp", Time);
const LABELS: ProtobufField = filled(11, "labels", Map);
const ANNOTATIONS: ProtobufField = filled(12, "annotations", Map);
const OWNER_REFERENCES: ProtobufField = filled(13, "ownerReferences", Each(OWNER_REFERENCE));

const fn metadata(fields: &'static [ProtobufField]) -> ProtobufField {
    always(1, "metadata", Message(fields))
}

/// meta/v1 `OwnerReference`.
const OWNER_REFERENCE: &[ProtobufField] =
    &[always(5, "apiVersion", Text), always(1, "kind", Text), always(3, "name", Text), given(6, "controller", Bool)];

/// core/v1 `Pod`.
const POD: &[ProtobufField] = &[
    metadata(&[NAME, GENERATE_NAME, NAMESPACE, UID, RESOURCE_VERSION, DELETION_TIMESTAMP, LABELS, OWNER_REFERENCES]),
    always(2, "spec", Message(POD_SPEC)),
    always(3, "status", Message(POD_STATUS)),
];

/// core/v1 `PodSpec`.
const POD_SPEC: &[ProtobufField] = &[
    filled(20, "initContainers", Each(&[CONTAINER_PORTS, given(24, "restartPolicy", Text)])),
    always(2, "containers", Each(&[CONTAINER_PORTS])),
    filled(8, "serviceAccountName", Text),
    filled(10, "nodeName", Text),
    filled(16, "hostname", Text),
    filled(17, "subdomain", Text),
];

/// core/v1 `Container` and `ContainerPort`.
const CONTAINER_PORTS: ProtobufField =
    filled(6, "ports", Each(&[filled(1, "name", Text), always(3, "containerPort", Int), filled(4, "protocol", Text)]));

/// core/v1 `PodStatus`, `PodCondition` and `PodIP`.
const POD_STATUS: &[ProtobufField] = &[
    filled(1, "phase", Text),
    filled(2, "conditions", Each(&[always(1, "type", Text), always(2, "status", Text)])),
    filled(6, "podIP", Text),
    filled(12, "podIPs", Each(&[always(1, "ip", Text)])),
];

/// core/v1 `Node`.
const NODE: &[ProtobufField] = &[metadata(&[NAME, UID, RESOURCE_VERSION, LABELS])];

/// core/v1 `Namespace`.
const NAMESPACE_OBJECT: &[ProtobufField] = &[metadata(&[NAME, UID, RESOURCE_VERSION, LABELS, ANNOTATIONS])];

/// core/v1 `Service`.
const SERVICE: &[ProtobufField] = &[
    metadata(&[NAME, NAMESPACE, UID, RESOURCE_VERSION, CREATION_TIMESTAMP, LABELS, ANNOTATIONS]),
    always(2, "spec", Message(SERVICE_SPEC)),
];

/// core/v1 `ServiceSpec` and `ServicePort`.
const SERVICE_SPEC: &[ProtobufField] = &[
    filled(
        1,
        "ports",
        Each(&[
            filled(1, "name", Text),
            filled(2, "protocol", Text),
            given(6, "appProtocol", Text),
            always(3, "port", Int),
            always(4, "targetPort", IntOrString),
        ]),
    ),
    filled(2, "selector", Map),
    filled(3, "clusterIP", Text),
    filled(18, "clusterIPs", Texts),
    filled(4, "type", Text),
    filled(10, "externalName", Text),
    filled(13, "publishNotReadyAddresses", Bool),
    given(22, "internalTrafficPolicy", Text),
    given(23, "trafficDistribution", Text),
];

/// discovery/v1 `EndpointSlice` and `EndpointPort`.
const ENDPOINT_SLICE: &[ProtobufField] = &[
    metadata(&[NAME, NAMESPACE, UID, RESOURCE_VERSION, LABELS]),
    always(4, "addressType", Text),
    always(2, "endpoints", Each(ENDPOINT)),
    always(3, "ports", Each(&[given(1, "name", Text), given(3, "port", Int)])),
];

/// discovery/v1 `Endpoint` and `EndpointConditions`, core/v1 `ObjectReference`.
const ENDPOINT: &[ProtobufField] = &[
    always(1, "addresses", Texts),
    always(
        2,
        "conditions",
        Message(&[given(1, "ready", Bool), given(2, "serving", Bool), given(3, "terminating", Bool)]),
    ),
    given(4, "targetRef", Message(&[filled(1, "kind", Text), filled(2, "namespace", Text), filled(3, "name", Text)])),
];
