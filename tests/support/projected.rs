//! What a peer may be given of an object, written down once more beside the table of the api-proxy, and an object of each kind
//! with all of it. The tests of the projection and its fuzz target judge by it.

use bytes::Bytes;
use isthmus::roles::api::projection::{AnswerForm, KINDS, SHOWN_DEFINITIONS, View, Visible};
use isthmus::server::misread::Misread;
use isthmus::server::stream::StreamTransform as _;
use isthmus::wire::share::Share;
use serde_json::{Value, json};

pub(crate) const NETWORK: &str = "network-west";
pub(crate) const OF_NETWORK: &str = "topology.istio.io/network";
/// Labels that direct traffic.
const DIRECTING: [&str; 2] = ["/topology.istio.io/network", "/networking.istio.io/gatewayPort"];

/// What may come out, as paths: `[]` are all elements of a list, `*` all keys of a map but those that direct traffic, and
/// `/` begins a key with dots in it.
pub(crate) const SHOWN_OF: [(&str, &str, &str); 9] = [
    (
        "",
        "pods",
        "metadata.namespace metadata.labels.* metadata.deletionTimestamp metadata.generateName
         metadata.ownerReferences[].apiVersion metadata.ownerReferences[].kind metadata.ownerReferences[].name
         metadata.ownerReferences[].controller
         spec.serviceAccountName spec.nodeName spec.hostname spec.subdomain
         spec.containers[].ports[].name spec.containers[].ports[].containerPort spec.containers[].ports[].protocol
         spec.initContainers[].restartPolicy spec.initContainers[].ports[].name
         spec.initContainers[].ports[].containerPort spec.initContainers[].ports[].protocol
         status.phase status.podIP status.podIPs[].ip status.conditions[].type status.conditions[].status",
    ),
    (
        "",
        "nodes",
        "metadata.labels./topology.kubernetes.io/region metadata.labels./topology.kubernetes.io/zone
         metadata.labels./failure-domain.beta.kubernetes.io/region metadata.labels./failure-domain.beta.kubernetes.io/zone
         metadata.labels./topology.istio.io/subzone",
    ),
    ("", "namespaces", "metadata.labels.* metadata.annotations./networking.istio.io/traffic-distribution"),
    (
        "",
        "services",
        "metadata.namespace metadata.labels.* metadata.creationTimestamp
         metadata.annotations./networking.istio.io/exportTo metadata.annotations./networking.istio.io/traffic-distribution
         spec.type spec.externalName spec.clusterIP spec.clusterIPs[] spec.internalTrafficPolicy spec.selector.*
         spec.publishNotReadyAddresses spec.trafficDistribution spec.ports[].name spec.ports[].port spec.ports[].protocol
         spec.ports[].appProtocol spec.ports[].targetPort",
    ),
    (
        "discovery.k8s.io",
        "endpointslices",
        "metadata.namespace metadata.labels./kubernetes.io/service-name
         metadata.labels./multicluster.kubernetes.io/service-name
         addressType endpoints[].addresses[] endpoints[].conditions.ready endpoints[].conditions.serving
         endpoints[].conditions.terminating endpoints[].targetRef.kind endpoints[].targetRef.name
         endpoints[].targetRef.namespace ports[].name ports[].port",
    ),
    ("apiextensions.k8s.io", "customresourcedefinitions", ""),
    (
        "networking.istio.io",
        "workloadentries",
        "metadata.namespace metadata.labels.* metadata.annotations./proxy.istio.io/health-checks-enabled
         spec.address spec.ports.* spec.labels.* spec.locality spec.weight spec.serviceAccount spec.network
         status.conditions[].type status.conditions[].status",
    ),
    ("multicluster.x-k8s.io", "serviceexports", "metadata.namespace"),
    ("multicluster.x-k8s.io", "serviceimports", "metadata.namespace spec.ips[]"),
];
pub(crate) const OF_ALL: &str = "apiVersion kind metadata.name metadata.uid metadata.resourceVersion";
pub(crate) const OF_BOOKMARK: &str =
    "apiVersion kind metadata.resourceVersion metadata.annotations./k8s.io/initial-events-end";
pub(crate) const OF_STATUS: &str = "apiVersion kind status message reason code details.retryAfterSeconds";
pub(crate) const OF_LIST: &str = "apiVersion kind metadata.resourceVersion";

pub(crate) fn view(share: Share, network: Option<&str>) -> View {
    View { share, system: "istio-system".parse().unwrap(), network: network.map(|network| network.parse().unwrap()) }
}

pub(crate) fn shown(resource: &str) -> Visible {
    let kind = KINDS.iter().find(|kind| kind.resource == resource).unwrap();
    Visible::of(kind.group, kind.resource, &view(Share::everything(), Some(NETWORK))).unwrap()
}

/// What becomes of an answer that comes in these chunks.
pub(crate) fn projected<'a>(
    shown: &Visible,
    form: AnswerForm,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<String, Misread> {
    let mut projection = shown.projection(form);
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(projection.push(Bytes::copy_from_slice(chunk))?);
    }
    out.extend(projection.finish()?);
    Ok(String::from_utf8(out).unwrap())
}

/// The events that a watch begins with, from a list that comes in these chunks.
pub(crate) fn initial_events<'a>(
    shown: &Visible,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(String, String), Misread> {
    let mut events = shown.initial_events();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(events.push(chunk)?);
    }
    let (rest, version) = events.finish()?;
    out.extend(rest);
    Ok((String::from_utf8(out).unwrap(), version))
}

/// Where all leaves of a value are.
pub(crate) fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let is_plain = !key.contains(['.', '/', '[']);
                // a key that looks like the elements of a list is none
                let key = if is_plain { key.clone() } else { format!("/{}", key.replace("[]", "[ ]")) };
                leaves(value, &if path.is_empty() { key } else { format!("{path}.{key}") }, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|one| leaves(one, &format!("{path}[]"), found)),
        leaf => found.push((path.to_owned(), leaf.clone())),
    }
}

/// Asserts that a value has nothing but what these lists name.
pub(crate) fn has_only(value: &Value, lists: &[&str]) {
    let listed: Vec<&str> = lists.iter().flat_map(|list| list.split_whitespace()).collect();
    let mut found = Vec::new();
    leaves(value, "", &mut found);
    for (path, leaf) in found {
        let is_listed = listed.iter().any(|one| {
            *one == path
                || one.strip_suffix('*').is_some_and(|map| {
                    // a selector and ports direct nothing by what they are called
                    let directs = |key: &str| map.ends_with("labels.") && DIRECTING.contains(&key);
                    path.strip_prefix(map).is_some_and(|key| !directs(key) && !key.contains("[]"))
                })
                // a list or an object that is not there
                || (leaf.is_null() && listed.iter().any(|one| one.starts_with(&format!("{path}[]")) || one.starts_with(&format!("{path}."))))
        });
        assert!(is_listed, "{path}: {leaf}");
        if path == "spec.network" {
            assert_eq!(leaf, NETWORK);
        }
    }
}

/// The same of an object of a resource.
pub(crate) fn is_shown(resource: &str, object: &Value) {
    let of = SHOWN_OF.iter().find(|(_, name, _)| *name == resource).unwrap().2;
    has_only(object, &[OF_ALL, of]);
    let each = |path: &str| object.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let types: &[&str] = if resource == "pods" { &["Ready"] } else { &["Healthy"] };
    assert!(each("/status/conditions").iter().all(|one| types.iter().any(|known| one["type"] == *known)));
    assert!(each("/metadata/ownerReferences").iter().all(|owner| owner["controller"] == true));
    assert!(each("/spec/initContainers").iter().all(|one| one["restartPolicy"] == "Always"));
    if resource == "customresourcedefinitions" {
        assert!(SHOWN_DEFINITIONS.iter().any(|name| object["metadata"]["name"] == *name));
    }
    if resource == "workloadentries" {
        assert_eq!(&object["spec"]["network"], NETWORK);
    }
}

/// The same of an event of a watch.
pub(crate) fn is_shown_event(resource: &str, event: &Value) {
    assert_eq!(event.as_object().unwrap().len(), 2);
    match event["type"].as_str().unwrap() {
        "BOOKMARK" => has_only(&event["object"], &[OF_BOOKMARK]),
        "ERROR" => has_only(&event["object"], &[OF_STATUS]),
        "ADDED" | "MODIFIED" | "DELETED" => is_shown(resource, &event["object"]),
        other => panic!("{other}"),
    }
}

/// The same of a list; gives its objects.
pub(crate) fn is_shown_list(resource: &str, list: &Value) -> Vec<Value> {
    let mut head = list.clone();
    let items = head.as_object_mut().unwrap().remove("items");
    has_only(&head, &[OF_LIST]);
    let Value::Array(items) = items.unwrap_or(json!([])) else { panic!("{list}") };
    for item in &items {
        is_shown(resource, item);
    }
    items
}

/// An object of each kind with all that is shown of it, beside what is not.
pub(crate) fn full(resource: &str) -> Value {
    let metadata = json!({
        "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
        "deletionTimestamp": "2026-01-02T00:00:00Z", "generateName": "a-", "generation": 3, "selfLink": "/x", "finalizers": ["x"],
        "labels": { "app": "a", OF_NETWORK: "network-east", "networking.istio.io/gatewayPort": "1", "kubernetes.io/service-name": "a",
            "topology.kubernetes.io/zone": "z", "beta.kubernetes.io/os": "linux" },
        "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}", "networking.istio.io/exportTo": "*",
            "networking.istio.io/traffic-distribution": "PreferClose", "alpha.istio.io/kubernetes-serviceaccounts": "admin",
            "alpha.istio.io/canonical-serviceaccounts": "spiffe://x", "proxy.istio.io/health-checks-enabled": "true",
            "k8s.io/initial-events-end": "true", "gateway.networking.k8s.io/bundle-version": "v1.0.0" },
        "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "o", "controller": true, "blockOwnerDeletion": true },
            { "apiVersion": "v1", "kind": "Secret", "name": "other", "uid": "o" },
        ],
        "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }],
    });
    let container = |name: &str| {
        json!({ "name": name, "image": "registry.example.com/secret:1", "env": [{ "name": "PASSWORD", "value": "secret" }],
            "args": ["--token=secret"], "command": ["sh"], "volumeMounts": [], "livenessProbe": {}, "securityContext": {},
            "restartPolicy": name, "ports": [{ "name": "http", "containerPort": 80, "protocol": "TCP", "hostPort": 80 }] })
    };
    let rest = match resource {
        "pods" => json!({
            "spec": { "serviceAccountName": "orders", "nodeName": "n", "hostname": "h", "subdomain": "s", "hostNetwork": true,
                "volumes": [{ "secret": { "secretName": "x" } }], "imagePullSecrets": [], "schedulerName": "x",
                "containers": [container("main")], "initContainers": [container("Always"), container("OnFailure")] },
            "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }], "hostIP": "192.0.2.1",
                "conditions": [{ "type": "Ready", "status": "True", "message": "secret" }, { "type": "Initialized", "status": "True" }],
                "containerStatuses": [{ "imageID": "x" }] },
        }),
        "nodes" => json!({ "spec": { "providerID": "x", "podCIDR": "10.0.0.0/24" },
            "status": { "images": [{}], "addresses": [{ "type": "ExternalIP", "address": "192.0.2.1" }] } }),
        "namespaces" => json!({ "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" } }),
        "services" => json!({
            "spec": { "type": "LoadBalancer", "externalName": "x", "clusterIP": "10.1.0.1", "clusterIPs": ["10.1.0.1"],
                "internalTrafficPolicy": "Cluster", "selector": { "app": "a" }, "publishNotReadyAddresses": true,
                "trafficDistribution": "PreferClose", "externalIPs": ["192.0.2.1"], "ipFamilies": ["IPv4"], "sessionAffinity": "None",
                "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http", "targetPort": "http", "nodePort": 3000 }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
        }),
        "endpointslices" => json!({
            "addressType": "IPv4", "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http" }],
            "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": { "kind": "Pod", "name": "a", "namespace": "shop", "uid": "u" }, "nodeName": "n", "zone": "z",
                "hints": { "forZones": [] }, "hostname": "h" }],
        }),
        "workloadentries" => json!({
            "spec": { "address": "192.0.2.7", "ports": { "http": 8080 }, "labels": { "app": "a", OF_NETWORK: "network-east" },
                "locality": "r/z", "weight": 3, "serviceAccount": "orders", "network": "network-east" },
            "status": { "conditions": [{ "type": "Healthy", "status": "True", "lastProbeTime": "x" }, { "type": "Other", "status": "x" }] },
        }),
        "serviceimports" => {
            json!({ "spec": { "ips": ["10.1.0.1"], "type": "ClusterSetIP", "ports": [] }, "status": { "clusters": [] } })
        }
        _ => json!({ "spec": { "versions": [] }, "status": {} }),
    };
    let mut object = json!({ "kind": "Any", "apiVersion": "any/v1", "metadata": metadata });
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    if resource == "customresourcedefinitions" {
        object["metadata"]["name"] = json!(SHOWN_DEFINITIONS[0]);
    }
    object
}

/// A list as an apiserver writes it, in either order of its keys.
pub(crate) fn list_of(items: &[Value], items_first: bool) -> String {
    let items: Vec<String> = items.iter().map(Value::to_string).collect();
    let items = format!("\"items\":[{}]", items.join(","));
    let head = r#""kind":"AnyList","apiVersion":"v1","metadata":{"resourceVersion":"9","selfLink":"/x","remainingItemCount":3}"#;
    if items_first { format!("{{{items},{head}}}\n") } else { format!("{{{head},{items}}}\n") }
}

pub(crate) fn events_of(objects: &[Value]) -> String {
    let types = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"];
    let events = objects.iter().zip(types.iter().cycle());
    let lines = events.map(|(object, kind)| json!({ "type": kind, "object": object }).to_string());
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}
