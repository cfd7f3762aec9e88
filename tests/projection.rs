//! What a peer is given of the apiserver's answers: the fields of a list that is written down here once more, and no others.

use bytes::Bytes;
use isthmus::roles::proxy::projection::{
    Field, Form, KINDS, Kind, MAX_OBJECT, SHOWN_DEFINITIONS, Shape, View, Visible,
};
use isthmus::server::stream::{Change as _, Misread};
use isthmus::wire::share::Share;
use isthmus::wire::shared::SHARED;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NETWORK: &str = "network-west";
const OF_NETWORK: &str = "topology.istio.io/network";

/// What may come out, as paths: `[]` are all elements of a list, `*` all keys of a map but those that direct traffic, and
/// `/` begins a key with dots in it.
const SHOWN_OF: [(&str, &str, &str); 9] = [
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
const OF_ALL: &str = "apiVersion kind metadata.name metadata.uid metadata.resourceVersion";
const OF_BOOKMARK: &str = "apiVersion kind metadata.resourceVersion metadata.annotations./k8s.io/initial-events-end";
const OF_STATUS: &str = "apiVersion kind status message reason code details.retryAfterSeconds";
const OF_LIST: &str = "apiVersion kind metadata.resourceVersion";

fn view(share: Share, network: Option<&str>) -> View {
    View { share, system: "istio-system".parse().unwrap(), network: network.map(|network| network.parse().unwrap()) }
}

fn shown(resource: &str) -> Visible {
    let kind = KINDS.iter().find(|kind| kind.resource == resource).unwrap();
    Visible::of(kind.group, kind.resource, &view(Share::everything(), Some(NETWORK))).unwrap()
}

/// What becomes of an answer that comes in these pieces.
fn projected<'a>(shown: &Visible, form: Form, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<String, Misread> {
    let mut projection = shown.projection(form);
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(projection.push(Bytes::copy_from_slice(piece))?);
    }
    out.extend(projection.finish()?);
    Ok(String::from_utf8(out).unwrap())
}

fn object(resource: &str, object: &Value) -> Result<Value, Misread> {
    let text = object.to_string();
    projected(&shown(resource), Form::Object, [text.as_bytes()]).map(|text| serde_json::from_str(&text).unwrap())
}

/// Where all leaves of a value are.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if key.contains(['.', '/', '[']) { format!("/{key}") } else { key.clone() };
                leaves(value, &if path.is_empty() { key } else { format!("{path}.{key}") }, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|one| leaves(one, &format!("{path}[]"), found)),
        leaf => found.push((path.to_owned(), leaf.clone())),
    }
}

/// Asserts that a value has nothing but what these lists name.
fn has_only(value: &Value, lists: &[&str]) -> Result<(), TestCaseError> {
    let listed: Vec<&str> = lists.iter().flat_map(|list| list.split_whitespace()).collect();
    let mut found = Vec::new();
    leaves(value, "", &mut found);
    for (path, leaf) in found {
        let is_listed = listed.iter().any(|one| {
            *one == path
                || one.strip_suffix('*').is_some_and(|map| {
                    path.strip_prefix(map).is_some_and(|key| {
                        key != format!("/{OF_NETWORK}") && key != "/networking.istio.io/gatewayPort" && !key.contains("[]")
                    })
                })
                // a list or an object that is not there
                || (leaf.is_null() && listed.iter().any(|one| one.starts_with(&format!("{path}[]")) || one.starts_with(&format!("{path}."))))
        });
        prop_assert!(is_listed, "{path}: {leaf}");
        if path == "spec.network" {
            prop_assert_eq!(leaf, NETWORK);
        }
    }
    Ok(())
}

/// The same of an object of a resource.
fn is_shown(resource: &str, object: &Value) -> Result<(), TestCaseError> {
    let of = SHOWN_OF.iter().find(|(_, name, _)| *name == resource).unwrap().2;
    has_only(object, &[OF_ALL, of])?;
    let each = |path: &str| object.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let types: &[&str] = if resource == "pods" { &["Ready"] } else { &["Healthy"] };
    prop_assert!(each("/status/conditions").iter().all(|one| types.iter().any(|known| one["type"] == *known)));
    prop_assert!(each("/metadata/ownerReferences").iter().all(|owner| owner["controller"] == true));
    prop_assert!(each("/spec/initContainers").iter().all(|one| one["restartPolicy"] == "Always"));
    if resource == "customresourcedefinitions" {
        prop_assert!(SHOWN_DEFINITIONS.iter().any(|name| object["metadata"]["name"] == *name));
    }
    if resource == "workloadentries" {
        prop_assert_eq!(&object["spec"]["network"], NETWORK);
    }
    Ok(())
}

/// The same of an event of a watch.
fn is_shown_event(resource: &str, event: &Value) -> Result<(), TestCaseError> {
    prop_assert_eq!(event.as_object().unwrap().len(), 2);
    match event["type"].as_str().unwrap() {
        "BOOKMARK" => has_only(&event["object"], &[OF_BOOKMARK]),
        "ERROR" => has_only(&event["object"], &[OF_STATUS]),
        "ADDED" | "MODIFIED" | "DELETED" => is_shown(resource, &event["object"]),
        other => panic!("{other}"),
    }
}

/// The same of a list; gives its objects.
fn is_shown_list(resource: &str, list: &Value) -> Result<Vec<Value>, TestCaseError> {
    let mut head = list.clone();
    let items = head.as_object_mut().unwrap().remove("items");
    has_only(&head, &[OF_LIST])?;
    let Value::Array(items) = items.unwrap_or(json!([])) else { panic!("{list}") };
    items.iter().try_for_each(|item| is_shown(resource, item))?;
    Ok(items)
}

/// An object of each kind with all that is shown of it, beside what is not.
fn full(resource: &str) -> Value {
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

#[test]
fn all_that_is_listed_is_shown_and_nothing_else() {
    let mut text = String::new();
    for (_, resource, list) in SHOWN_OF {
        let shown = object(resource, &full(resource)).unwrap();
        is_shown(resource, &shown).unwrap();
        // and each path of the list has something to show
        let mut found = Vec::new();
        leaves(&shown, "", &mut found);
        let absent = ["/failure-domain", "/topology.kubernetes.io/region", "/topology.istio.io", "/multicluster"];
        for path in list.split_whitespace().filter(|path| !absent.iter().any(|key| path.contains(key))) {
            let (map, is_map) = path.strip_suffix('*').map_or((path, false), |map| (map, true));
            assert!(
                found.iter().any(|(found, _)| found == path || (is_map && found.starts_with(map))),
                "{resource}: {path}"
            );
        }
        text.push_str(&format!("{resource}\n{}\n\n", serde_json::to_string_pretty(&shown).unwrap()));
    }
    insta::assert_snapshot!(text);
    // every resource that is asked of the apiserver is in the table
    let tables: Vec<_> = KINDS.iter().map(|kind| (kind.group, kind.resource)).collect();
    for shared in SHARED.iter().filter(|shared| shared.resource != "gateways") {
        assert!(tables.contains(&(shared.group, shared.resource)), "{shared:?}");
    }
    assert_eq!(tables.len(), SHARED.len() - 1);
}

/// The rows of a table in the documentation: of each kind what reads which fields.
fn rows(kind: &Kind) -> Vec<String> {
    fn walk(fields: &[Field], path: &str, read_by: &str, found: &mut Vec<(String, String)>) {
        for field in fields {
            let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
            let of_all = OF_ALL.split(' ').any(|common| common == path) || path == "metadata.namespace";
            let said = if field.read_by.is_empty() || field.read_by.starts_with("every client") {
                read_by
            } else {
                field.read_by
            };
            let keys = |keys: &[&str]| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let text = match field.shape {
                Shape::Object(fields) => {
                    walk(fields, &path, said, found);
                    continue;
                }
                Shape::Each(fields) => {
                    walk(fields, &format!("{path}[]"), said, found);
                    continue;
                }
                Shape::OneOf(values) => format!("`{path}` where it is {}", keys(values)),
                Shape::Entries { but } if !but.is_empty() => format!("`{path}` but {}", keys(but)),
                Shape::EntriesOf(shown) => format!("`{path}`: {}", keys(shown)),
                Shape::Value
                | Shape::Values
                | Shape::Entries { .. }
                | Shape::Network
                | Shape::SharedNamespace
                | Shape::SystemNamespace
                | Shape::ResourceVersion => format!("`{path}`"),
            };
            if of_all && !matches!(field.shape, Shape::OneOf(_)) {
                continue;
            }
            match found.iter_mut().find(|(known, _)| known == said) {
                Some((_, fields)) => fields.push_str(&format!("; {text}")),
                None => found.push((said.to_owned(), text)),
            }
        }
    }
    let mut found = Vec::new();
    walk(kind.fields, "", "", &mut found);
    found.into_iter().map(|(read_by, fields)| format!("| `{}` | {fields} | {read_by} |", kind.resource)).collect()
}

#[test]
fn the_documentation_says_what_a_peer_sees() {
    let table: Vec<String> = KINDS.iter().flat_map(rows).collect();
    let table = format!("| resource | fields | what reads them in Istio |\n|---|---|---|\n{}\n", table.join("\n"));
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/roles.md")).unwrap();
    assert!(page.contains(&table), "docs/roles.md lacks this table:\n{table}");
}

#[test]
fn the_network_of_an_entry_is_the_clusters_own_whatever_the_entry_says() {
    for spec in [
        json!({}),
        json!(null),
        json!({ "network": "network-east" }),
        json!({ "network": null, "address": "192.0.2.1" }),
    ] {
        let entry = json!({ "metadata": { "name": "a" }, "spec": spec });
        assert_eq!(object("workloadentries", &entry).unwrap()["spec"]["network"], NETWORK, "{entry}");
    }
    assert_eq!(object("workloadentries", &json!({ "metadata": {} })).unwrap()["spec"], json!({ "network": NETWORK }));
    // other spellings are not known, and of two that are none counts
    let twice = r#"{"spec":{"network":"network-east","network":"network-east","Network":"x"},"metadata":{"name":"a"}}"#;
    let text = projected(&shown("workloadentries"), Form::Object, [twice.as_bytes()]).unwrap();
    assert_eq!(text, r#"{"spec":{"network":"network-west"},"metadata":{"name":"a"}}"#);
    let twice = r#"{"spec":{"address":"192.0.2.1"},"spec":{"network":"x"}}"#;
    assert_eq!(projected(&shown("workloadentries"), Form::Object, [twice.as_bytes()]), Err(Misread::Shape));
    assert_eq!(
        Visible::of("networking.istio.io", "workloadentries", &view(Share::everything(), None)),
        None,
        "nothing is shown while it is not known"
    );
}

#[test]
fn no_spelling_of_a_key_gets_past() {
    let pod = r#"{"metadata":{"labels":{"topology.istio.io\/network":"x","\u0074opology.istio.io/network":"y","a\"b\u00e9":"z"},
        "\u006dan\u0061gedFields":[1]},"\u0073pec":{"nodeName":"n\n\ud83d\ude00","env":[{}]}}"#;
    let text = projected(&shown("pods"), Form::Object, [pod.as_bytes()]).unwrap();
    assert_eq!(text, "{\"metadata\":{\"labels\":{\"a\\\"b\u{e9}\":\"z\"}},\"spec\":{\"nodeName\":\"n\\n\u{1f600}\"}}");
}

#[test]
fn what_is_no_list_or_has_another_shape_does_not_pass() {
    let pods = shown("pods");
    let of = |form, text: &str| projected(&pods, form, [text.as_bytes()]);
    for (text, why) in [
        ("", Misread::Incomplete),
        ("[]", Misread::Syntax),
        ("{", Misread::Incomplete),
        ("{\"items\":[{}", Misread::Incomplete),
        ("{\"items\":[{}]", Misread::Incomplete),
        ("{\"items\":[{}]}{", Misread::Syntax),
        ("{\"items\":[{},]}", Misread::Syntax),
        ("{\"items\":[,{}]}", Misread::Syntax),
        ("{\"items\":[{}{}]}", Misread::Syntax),
        ("{\"items\":[null]}", Misread::Syntax),
        ("{\"items\":[1]}", Misread::Syntax),
        ("{\"items\":{}}", Misread::Syntax),
        ("{\"items\":nul}", Misread::Shape),
        ("{\"items\":[],\"items\":[]}", Misread::Shape),
        ("{\"kind\":[]}", Misread::Shape),
        ("{\"other\":tru}", Misread::Syntax),
        ("{\"other\":{]}", Misread::Syntax),
        ("{\"other\" 1}", Misread::Syntax),
        ("{\"other\":}", Misread::Syntax),
        ("{\"items\":[{\"metadata\":{\"name\":\"a}]}", Misread::Incomplete),
        ("{\"items\":[{\"metadata\":[]}]}", Misread::Shape),
        ("{\"items\":[{\"metadata\":{\"labels\":{\"a\":{}}}}]}", Misread::Shape),
        ("{\"items\":[{\"metadata\":{\"name\":{\"secret\":1}}}]}", Misread::Shape),
        ("{\"items\":[{\"spec\":{},\"spec\":{}}]}", Misread::Shape),
        ("{\"items\":[{\"kind\":\"\\ud800\"}]}", Misread::Syntax),
        ("{\"items\":[{\"spec\":{\"env\":[}}]}", Misread::Syntax),
    ] {
        assert_eq!(of(Form::List, text), Err(why), "{text}");
    }
    for (text, why) in [
        ("{}\n", Misread::Shape),
        ("{\"type\":\"ADDED\"}\n", Misread::Shape),
        ("{\"object\":{}}\n", Misread::Shape),
        ("{\"type\":\"OTHER\",\"object\":{}}\n", Misread::Shape),
        ("{\"type\":\"ADDED\",\"object\":{}}", Misread::Incomplete),
        ("{\"type\":\"ADDED\",\"object\":{}} {}\n", Misread::Syntax),
        ("{\"type\":\"ADDED\",\"object\":{},\"object\":{}}\n", Misread::Shape),
        ("{\"type\":\"ADDED\",\"type\":\"ADDED\",\"object\":{}}\n", Misread::Shape),
        ("{\"type\":\"ADDED\",\n\"object\":{}}\n", Misread::Syntax),
        ("k8s\0\n", Misread::Syntax),
    ] {
        assert_eq!(of(Form::Watch, text), Err(why), "{text}");
    }
    assert_eq!(of(Form::Object, "[]"), Err(Misread::Shape));
    assert_eq!(of(Form::Object, "{}{}"), Err(Misread::Syntax));
    // what is right, in forms that an apiserver has
    assert_eq!(
        of(Form::List, " { \"items\" : null , \"kind\" : \"PodList\" } \n").unwrap(),
        "{\"items\":[],\"kind\":\"PodList\"}"
    );
    assert_eq!(
        of(Form::List, "{\"rows\":[{\"cells\":[\"secret\"]}],\"kind\":\"Table\"}").unwrap(),
        "{\"kind\":\"Table\"}"
    );
    let later = "{\"object\":{\"kind\":\"Pod\",\"secret\":1},\"type\":\"ADDED\"}\n\n";
    assert_eq!(of(Form::Watch, later).unwrap(), "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"}}\n");
}

#[test]
fn an_object_has_a_size_and_its_depth_costs_nothing() {
    let padded = |length: usize| format!("{{\"x\":\"{}\"}}", "y".repeat(length - 8));
    let (fits, long) = (padded(MAX_OBJECT), padded(MAX_OBJECT + 1));
    let pods = shown("pods");
    for size in [MAX_OBJECT + 100, 10_000] {
        let of = |form, text: &str| projected(&pods, form, text.as_bytes().chunks(size));
        assert!(of(Form::List, &format!("{{\"items\":[{fits}]}}")).is_ok());
        assert_eq!(of(Form::List, &format!("{{\"items\":[{long}]}}")), Err(Misread::TooLarge(MAX_OBJECT)));
        assert_eq!(of(Form::List, &format!("{{\"other\":{long}}}")), Err(Misread::TooLarge(MAX_OBJECT)));
        assert_eq!(
            of(Form::Watch, &format!("{{\"type\":\"ADDED\",\"object\":{fits}}}\n")),
            Err(Misread::TooLarge(MAX_OBJECT))
        );
        assert_eq!(of(Form::Object, &long), Err(Misread::TooLarge(MAX_OBJECT)));
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(of(Form::List, &format!("{{\"items\":[{deep}]}}")).unwrap(), "{\"items\":[{}]}");
        assert_eq!(of(Form::Object, &deep.replace('x', "metadata")), Err(Misread::Shape));
    }
}

#[test]
fn events_of_definitions_that_are_not_shown_are_none() {
    let event = |kind: &str, name: &str| json!({ "type": kind, "object": { "kind": "PartialObjectMetadata", "metadata": { "name": name } } });
    let bookmark = json!({ "type": "BOOKMARK", "object": { "kind": "PartialObjectMetadata", "metadata": {
        "resourceVersion": "9", "creationTimestamp": null, "annotations": { "k8s.io/initial-events-end": "true", "x": "y" } } } });
    let events = [
        event("ADDED", "secret.example.com"),
        event("ADDED", SHOWN_DEFINITIONS[0]),
        event("DELETED", "secret.example.com"),
        bookmark,
    ];
    let text = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n";
    let text = projected(&shown("customresourcedefinitions"), Form::Watch, [text.as_bytes()]).unwrap();
    let shown: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0], events[1]);
    assert_eq!(
        shown[1]["object"]["metadata"],
        json!({ "resourceVersion": "9", "annotations": { "k8s.io/initial-events-end": "true" } })
    );
}

/// Any JSON, made of the keys that are known and of others.
fn anything() -> impl Strategy<Value = Value> {
    let mut keys: Vec<String> =
        [OF_NETWORK, "env", "image", "secret", "managedFields", "Ready", "é\"", "type", "status", "network"]
            .iter()
            .map(|&key| key.to_owned())
            .collect();
    for list in SHOWN_OF.iter().map(|(.., list)| *list).chain([OF_ALL, OF_BOOKMARK, OF_STATUS]) {
        for path in list.split_whitespace() {
            let (path, dotted) = path.split_once('/').map_or((path, None), |(path, key)| (path, Some(key)));
            keys.extend(
                path.split('.').map(|key| key.trim_end_matches("[]").to_owned()).chain(dotted.map(str::to_owned)),
            );
        }
    }
    keys.sort();
    keys.dedup();
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        prop_oneof![Just("Ready"), Just("Healthy"), Just("Always"), Just(SHOWN_DEFINITIONS[1]), Just("a\\\"\u{1}é")]
            .prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        let entry = (proptest::sample::select(keys.clone()), inner.clone());
        prop_oneof![
            4 => proptest::collection::vec(entry, 0..8).prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
            1 => proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}

/// A full object of a kind, in which something else stands somewhere.
fn nearly(resource: &'static str) -> impl Strategy<Value = Value> {
    (proptest::collection::vec((any::<prop::sample::Index>(), anything(), "[a-z.]{1,8}"), 0..3)).prop_map(
        move |changes| {
            let mut object = full(resource);
            for (at, value, key) in changes {
                let mut places = Vec::new();
                pointers(&object, String::new(), &mut places);
                match object.pointer_mut(&places[at.index(places.len())]) {
                    Some(Value::Object(map)) => drop(map.insert(key, value)),
                    Some(Value::Array(list)) => list.push(value),
                    Some(place) => *place = value,
                    None => {}
                }
            }
            object
        },
    )
}

fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                pointers(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                pointers(value, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

fn resources() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(SHOWN_OF.iter().map(|(_, resource, _)| *resource).collect::<Vec<_>>())
}

fn cut(text: &str, cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for at in cuts.into_iter().chain([text.len()]) {
        pieces.push(text.as_bytes()[from..at].to_vec());
        from = at;
    }
    pieces
}

fn slices(pieces: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    pieces.iter().map(Vec::as_slice)
}

/// A list as an apiserver writes it, in either order of its keys.
fn list_of(items: &[Value], items_first: bool) -> String {
    let items: Vec<String> = items.iter().map(Value::to_string).collect();
    let items = format!("\"items\":[{}]", items.join(","));
    let head = r#""kind":"AnyList","apiVersion":"v1","metadata":{"resourceVersion":"9","selfLink":"/x","remainingItemCount":3}"#;
    if items_first { format!("{{{items},{head}}}\n") } else { format!("{{{head},{items}}}\n") }
}

fn events_of(objects: &[Value]) -> String {
    let types = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"];
    let events = objects.iter().zip(types.iter().cycle());
    let lines = events.map(|(object, kind)| json!({ "type": kind, "object": object }).to_string());
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

proptest! {
    #[test]
    fn whatever_the_apiserver_says_no_field_outside_the_list_comes_out(
        (resource, objects) in resources().prop_flat_map(|resource| {
            let one = prop_oneof![anything(), nearly(resource)];
            (Just(resource), proptest::collection::vec(one, 0..5))
        }),
        items_first in any::<bool>(),
    ) {
        for one in &objects {
            if let Ok(shown) = object(resource, one) {
                is_shown(resource, &shown)?;
            }
        }
        let shown = shown(resource);
        if let Ok(text) = projected(&shown, Form::List, [list_of(&objects, items_first).as_bytes()]) {
            is_shown_list(resource, &serde_json::from_str(&text).unwrap())?;
        }
        if let Ok(text) = projected(&shown, Form::Watch, [events_of(&objects).as_bytes()]) {
            for line in text.lines() {
                is_shown_event(resource, &serde_json::from_str(line).unwrap())?;
            }
        }
    }

    #[test]
    fn a_list_is_the_sum_of_its_objects_and_pieces_make_no_difference(
        (resource, objects) in resources().prop_flat_map(|resource| (Just(resource), proptest::collection::vec(nearly(resource), 0..4))),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        items_first in any::<bool>(),
    ) {
        // those that have another shape end the list, which another law holds; one that is not shown is left out
        let readable: Vec<Value> = objects.into_iter().filter(|one| {
            let list = list_of(std::slice::from_ref(one), false);
            projected(&shown(resource), Form::List, [list.as_bytes()]).is_ok()
        }).collect();
        let (text, events) = (list_of(&readable, items_first), events_of(&readable));
        let whole = projected(&shown(resource), Form::List, [text.as_bytes()]).unwrap();
        prop_assert_eq!(&projected(&shown(resource), Form::List, slices(&cut(&text, &cuts))).unwrap(), &whole);
        let each: Vec<Value> = readable.iter().filter_map(|one| object(resource, one).ok()).collect();
        prop_assert_eq!(is_shown_list(resource, &serde_json::from_str(&whole).unwrap())?, each);

        let whole = projected(&shown(resource), Form::Watch, [events.as_bytes()]);
        prop_assert_eq!(projected(&shown(resource), Form::Watch, slices(&cut(&events, &cuts))), whole);
    }

    #[test]
    fn a_stream_that_is_broken_anywhere_ends_in_an_error_or_shows_nothing_more(
        (resource, objects) in resources().prop_flat_map(|resource| (Just(resource), proptest::collection::vec(nearly(resource), 1..3))),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        items_first in any::<bool>(),
    ) {
        let (text, events) = (list_of(&objects, items_first), events_of(&objects));
        for (form, text) in [(Form::List, text), (Form::Watch, events)] {
            // cut short; of a watch between two events it is an end
            let short = &text.as_bytes()[..at.index(text.trim_end().len())];
            let is_end = form == Form::Watch && (short.is_empty() || short.ends_with(b"\n"));
            prop_assert!(is_end || projected(&shown(resource), form, [short]).is_err());
            // one byte is another
            let mut other = text.clone().into_bytes();
            let at = at.index(other.len());
            other[at] = byte;
            let Ok(text) = projected(&shown(resource), form, [&other[..]]) else { continue };
            if form == Form::List {
                is_shown_list(resource, &serde_json::from_str(&text).unwrap())?;
            } else {
                for line in text.lines() {
                    is_shown_event(resource, &serde_json::from_str(line).unwrap())?;
                }
            }
        }
    }
}
