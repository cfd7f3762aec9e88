//! What is made of objects and of pods' answers, without IO.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use isthmus::cluster::unread::{ReadError, Unread};
use isthmus::cluster::watched::{Objects, SourceState, Watchable};
use isthmus::istio::debug::{DebugPage, parse_clusterz, parse_mesh, parse_networkz, parse_samples};
use isthmus::istio::gateways::{
    GatewayError, GatewayNode, GatewayService, Hosts, Settling, WireNode, WireService, gateways,
};
use isthmus::istio::mesh_config::parse_mesh_networks;
use isthmus::istio::objects::{
    DatedConfigMap, Istiod, NamespaceFacts, WireDatedConfigMap, WireDeployment, WireMeshMap, WirePod,
};
use isthmus::roles::exporter::ExporterOptions;
use isthmus::roles::exporter::documents::{ClusterFacts, compose};
use isthmus::roles::exporter::evidence::{
    PodAnswer, credentials, networks, own_roots, prepared, reads, relay_token, routes, trusts,
};
use isthmus::roles::exporter::reasons::{AskError, DocumentError, EvidenceError, GetError};
use isthmus::types::address::Gateway;
use isthmus::types::certificate::parse_roots_any_time;
use isthmus::types::time::Timestamp;
use isthmus::wire::metadata::{IstioMode, MAX_GATEWAYS, PublicDocument, ReadState, Reading, Reported, RouteState};
use rstest::rstest;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn kept<T: Watchable + DeserializeOwned>(value: &Value) -> Option<T::Kept> {
    serde_json::from_value::<T>(value.clone()).unwrap().keep()
}

fn services(all: &[Value]) -> SourceState<Objects<GatewayService>> {
    let named = all.iter().enumerate().filter_map(|(at, value)| {
        let mut value = value.clone();
        value["metadata"] = json!({"name": format!("gw{at}"), "namespace": "istio", "labels": value["labels"]});
        Some((("istio".to_owned(), format!("gw{at}")), Arc::new(kept::<WireService>(&value)?)))
    });
    SourceState::Present(named.collect())
}

fn nodes(all: &[Value]) -> SourceState<Objects<GatewayNode>> {
    let named = all.iter().map(|value| {
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        ((String::new(), name), Arc::new(kept::<WireNode>(value).unwrap()))
    });
    SourceState::Present(named.collect())
}

fn node(name: &str, ready: &str, unschedulable: bool, addresses: &[(&str, &str)]) -> Value {
    let addresses: Vec<_> = addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
    json!({"metadata": {"name": name}, "spec": {"unschedulable": unschedulable},
        "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]}})
}

fn labels() -> Value {
    json!({"topology.istio.io/network": "network-east"})
}

fn refused() -> ReadError {
    ReadError::Status { code: 403, message: String::new() }
}

fn texts(list: &[Gateway]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[rstest]
#[case::ip(json!({"labels": labels(), "spec": {"type": "LoadBalancer", "ports": [{"name": "tls", "port": 15443}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7", "hostname": "x.example"}]}}}), Ok(vec!["203.0.113.7:15443"]))]
#[case::host(json!({"labels": labels(), "spec": {"type": "LoadBalancer", "ports": [{"name": "tls", "port": 443}]},
    "status": {"loadBalancer": {"ingress": [{"hostname": "b.example"}, {"hostname": "a.example"}]}}}), Ok(vec!["a.example:443", "b.example:443"]))]
#[case::label(json!({"labels": {"topology.istio.io/network": "n", "networking.istio.io/gatewayPort": "8443"},
    "spec": {"type": "LoadBalancer", "ports": [{"name": "tls", "port": 15443}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}), Ok(vec!["203.0.113.7:8443"]))]
#[case::istio_default(json!({"labels": labels(), "spec": {"type": "LoadBalancer", "ports": [{"name": "status", "port": 15021}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}), Ok(vec!["203.0.113.7:15443"]))]
#[case::external(json!({"labels": labels(), "spec": {"type": "ClusterIP", "externalIPs": ["203.0.113.5"]}}), Ok(vec!["203.0.113.5:15443"]))]
#[case::not_yet(json!({"labels": labels(), "spec": {"type": "LoadBalancer"}}), Err("istio/gw0 has no address yet"))]
#[case::other_service(json!({"labels": {}, "spec": {"type": "LoadBalancer"}}), Ok(vec![]))]
#[case::no_name(json!({"labels": {"topology.istio.io/network": ""}}), Ok(vec![]))]
#[case::not_an_address(json!({"labels": labels(), "spec": {"type": "LoadBalancer"},
    "status": {"loadBalancer": {"ingress": [{"hostname": "0x7f.1"}]}}}), Err("no address yet"))]
fn a_service_of_a_network_is_a_gateway(#[case] service: Value, #[case] expected: Result<Vec<&str>, &str>) {
    let found = gateways(&services(&[service]), &SourceState::NotYet, &Hosts::new());
    match (found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(texts(&found), expected),
        (Err(reason), Err(part)) => assert!(reason.to_string().contains(part), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn behind_node_ports_are_the_nodes_that_run_a_gateway() {
    let ports = json!([{"name": "tls", "port": 15443, "nodePort": 31443}]);
    let services =
        services(&[json!({"labels": labels(), "spec": {"type": "NodePort", "ports": ports, "selector": {"a": "b"}}})]);
    let (ext, int) = ("ExternalIP", "InternalIP");
    let nodes = nodes(&[
        node("both", "True", false, &[(int, "10.0.0.1"), (ext, "203.0.113.1")]),
        node("inside", "True", false, &[(int, "10.0.0.2"), ("Hostname", "inside")]),
        node("cordoned", "True", true, &[(ext, "203.0.113.3")]),
        node("down", "Unknown", false, &[(ext, "203.0.113.4")]),
        node("idle", "True", false, &[(ext, "203.0.113.5")]),
    ]);
    let key = ("istio".to_owned(), "gw0".to_owned());
    let on = ["both", "inside", "cordoned", "down"].map(ToOwned::to_owned).into_iter().collect();
    let hosts = Hosts::from([(key.clone(), SourceState::Present(on))]);
    assert_eq!(texts(&gateways(&services, &nodes, &hosts).unwrap()), ["10.0.0.2:31443", "203.0.113.1:31443"]);
    // what is not known is no empty list
    for source in [SourceState::NotYet, SourceState::Failed(refused()), SourceState::Present(BTreeSet::new())] {
        assert!(gateways(&services, &nodes, &Hosts::from([(key.clone(), source)])).is_err());
    }
    assert!(gateways(&services, &SourceState::NotYet, &hosts).is_err());
    assert!(gateways(&SourceState::Failed(refused()), &nodes, &hosts).unwrap_err().to_string().contains("403"));
    assert_eq!(gateways(&SourceState::Present(Objects::new()), &nodes, &hosts), Ok(vec![]));
}

#[test]
fn there_are_never_more_gateways_than_peers_read() {
    let ingress: Vec<_> = (0..200).map(|n| json!({"ip": format!("203.0.113.{n}")})).collect();
    let service =
        json!({"labels": labels(), "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}}});
    let found = gateways(&services(&[service]), &SourceState::NotYet, &Hosts::new()).unwrap();
    assert!(found.len() == MAX_GATEWAYS && found.is_sorted());
}

#[test]
fn a_list_that_flaps_is_held_back_but_not_for_ever() {
    let list = |port: u64| Ok(vec![Gateway::new("203.0.113.7", port).unwrap()]);
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let mut settling = Settling::default();
    assert!(settling.settle(Err(GatewayError::NoAddress { service: "istio/gw".to_owned() }), at(0)).is_err());
    assert_eq!(settling.settle(list(1), at(0)), list(1), "the first one at once");
    assert_eq!((settling.settle(list(2), at(1)), settling.due()), (list(1), Some(at(6))));
    assert_eq!(settling.settle(list(1), at(3)), list(1));
    assert_eq!(settling.due(), None, "it went back");
    assert_eq!(settling.settle(list(2), at(4)), list(1));
    assert_eq!(settling.settle(list(2), at(9)), list(2), "calm");
    let published: Vec<_> = (10..60).map(|second| settling.settle(list(second), at(second))).collect();
    assert!(published.iter().any(|one| *one != list(2)), "never calm, and yet it moves on");
    assert!(published.iter().flatten().collect::<BTreeSet<_>>().len() <= 3);
}

fn answers<T, E: Into<AskError>>(all: Vec<Result<T, E>>) -> Vec<PodAnswer<T>> {
    all.into_iter().enumerate().map(|(at, one)| (format!("istiod-{at}"), one.map_err(Into::into))).collect()
}

fn clusterz(all: &[(&str, &str, &str)]) -> String {
    let all: Vec<_> =
        all.iter().map(|(id, secret, status)| json!({"id": id, "secretName": secret, "syncStatus": status})).collect();
    Value::from(all).to_string()
}

#[test]
fn a_remote_cluster_is_in_its_worst_state() {
    let parse = |all: &[_]| parse_clusterz(clusterz(all).as_bytes());
    let one = parse(&[
        ("east", "", "synced"),
        ("west", "s/w", "synced"),
        ("north", "s/n", "synced"),
        ("south", "s/s", "closed"),
    ]);
    let two = parse(&[("west", "s/w", "timeout"), ("south", "s/s", "synced")]);
    let Reported::Seen(found) = reads(&answers(vec![one.clone(), two])) else { panic!() };
    let found: Vec<_> = found.iter().map(|read| (read.cluster_id.as_str(), read.state)).collect();
    assert_eq!(found, [("north", ReadState::Syncing), ("south", ReadState::Syncing), ("west", ReadState::Timeout)]);
    let one = one.map_err(AskError::Page);
    let silent = |error| reads(&answers(vec![one.clone(), Err(error)]));
    let (page, late) = (DebugPage::Clusterz, GetError::Late);
    let message = "istiod-1: /debug/clusterz: port 15014: 404 Not Found, port 8080: no answer in time";
    let tried = vec![(15014, GetError::Status(StatusCode::NOT_FOUND)), (8080, late.clone())];
    assert_eq!(silent(AskError::NoPort { page, tried }), Reported::Unknown(message.to_owned()));
    let message = "istiod-1: /debug/clusterz on port 15014: 401 Unauthorized";
    let source = GetError::Status(StatusCode::UNAUTHORIZED);
    assert_eq!(silent(AskError::Port { page, port: 15014, source }), Reported::Unknown(message.to_owned()));
    assert_eq!(silent(AskError::Metrics(late)), Reported::Unknown("istiod-1: /metrics: no answer in time".to_owned()));
    assert_eq!(reads(&[]), Reported::Unknown("no pod of istiod is running".to_owned()));
    let page = |bytes: &[u8]| parse_clusterz(bytes).unwrap_err().to_string();
    let expected = "/debug/clusterz: expected JSON as istiod writes it, found";
    assert_eq!(page(b"<html>"), format!("{expected} no JSON at line 1 column 1"));
    assert_eq!(page(b"[{\"id\":"), format!("{expected} the end of the answer at line 1 column 7"));
    // peers are shown the reason, and the page may say what is not for them
    assert_eq!(
        page(b"[{\"id\": 7, \"secretName\": \"a secret\"}]"),
        format!("{expected} JSON of another form at line 1 column 9")
    );
    assert!(!page(b"\"a secret\"").contains("secret"));
}

#[test]
fn a_root_is_trusted_when_every_istiod_has_it() {
    let mesh = |roots: &[&str]| {
        let roots: Vec<_> = roots.iter().map(|pem| json!({"pem": pem})).collect();
        parse_mesh(json!({"trustDomain": "cluster.local", "caCertificates": roots}).to_string().as_bytes())
    };
    let root = include_str!("../../fixtures/real/east/root-cert.pem");
    let both = mesh(&[root, "broken"]).unwrap();
    assert_eq!(both.len(), 1);
    let own = Ok(BTreeSet::from([isthmus::types::name::Digest::of(b"own")]));
    let count = |all| trusts(&answers(all), &own).seen().map(BTreeSet::len);
    assert_eq!(count(vec![Ok(both.clone()), Ok(both.clone())]), Some(2));
    assert_eq!(count(vec![Ok(both), mesh(&[])]), Some(1));
    assert_eq!(mesh(&[]), parse_mesh(b"{}"));
    let unknown = Err(EvidenceError::Document(DocumentError::NotAsked));
    let message = "the apiserver was not asked yet";
    assert_eq!(trusts(&answers(vec![mesh(&[])]), &unknown), Reported::Unknown(message.to_owned()));
}

#[test]
fn networks_are_what_all_agree_on_and_names_stand_for_their_addresses() {
    let gateway = |network: &str, address: &str, port: u16| json!({"Network": network, "Cluster": "", "Addr": address, "Port": port, "HBONEPort": 0});
    let parse = |all: &[Value]| parse_networkz(Value::from(all).to_string().as_bytes());
    assert_eq!(parse_networkz(b"null"), Ok(BTreeMap::new()));
    let one = parse(&[
        gateway("w", "198.51.100.1", 15443),
        gateway("w", "198.51.100.2", 15443),
        gateway("n", "192.0.2.9", 1),
        gateway("h", "192.0.2.8", 0),
    ]);
    let two = parse(&[gateway("w", "198.51.100.1", 15443), gateway("n", "192.0.2.9", 1)]);
    let text = "networks:\n  n:\n    endpoints: [{fromRegistry: north}]\n    gateways: [{address: gw.north.example, port: 1}]\n";
    let configured = parse_mesh_networks(text);
    assert_eq!(configured["n"].1, BTreeSet::from(["north".to_owned()]));
    let configured = Ok(configured.into_iter().map(|(name, (gateways, _))| (name, gateways)).collect());
    let all = answers(vec![one, two]);
    let Reported::Seen(found) = networks(&all, &configured) else { panic!() };
    let found: Vec<_> = found.iter().map(|network| (network.name.as_str(), texts(&network.gateways))).collect();
    assert_eq!(found, [("n", vec!["gw.north.example:1".to_owned()]), ("w", vec!["198.51.100.1:15443".to_owned()])]);
    // without the names that are configured, the addresses behind them would pass for other gateways
    let unread = Unread::NotYet { what: "ConfigMap isthmus-mesh".into() };
    let reason = "ConfigMap isthmus-mesh was not read yet".to_owned();
    assert_eq!(networks(&all, &Err(EvidenceError::Unread(unread))), Reported::Unknown(reason));
    for broken in ["", "networks: 7", "- a", "{", "networks: {n: }"] {
        assert!(parse_mesh_networks(broken).values().all(|(gateways, _)| gateways.is_empty()), "{broken}");
    }
}

#[rstest]
#[case::all(true, true, Ok(true), Ok(0), Some(true))]
#[case::one_proxy(true, true, Ok(true), Ok(1), Some(false))]
#[case::no_multiroot(false, true, Ok(true), Ok(0), Some(false))]
#[case::not_shared(true, false, Ok(true), Ok(0), Some(false))]
#[case::not_shared_and_not_wanted(true, false, Ok(false), Ok(0), Some(true))]
#[case::not_counted(true, true, Ok(true), Err(EvidenceError::NotListed(refused())), None)]
#[case::not_counted_and_no_matter(false, true, Ok(true), Err(EvidenceError::NotListed(refused())), Some(false))]
#[case::not_resolved(true, true, Err(Unread::Failed { what: "ConfigMap isthmus-mesh".into(), source: refused() }), Ok(0), None)]
fn prepared_means_switches_and_restarts(
    #[case] multiroot: bool,
    #[case] named: bool,
    #[case] shared: Result<bool, Unread>,
    #[case] lacking: Result<usize, EvidenceError>,
    #[case] expected: Option<bool>,
) {
    let shared_mesh_config = named.then(|| "isthmus-mesh".to_owned());
    let istiod = Istiod { multiroot, shared_mesh_config, ..Istiod::default() };
    let good = Istiod { multiroot: true, shared_mesh_config: Some("isthmus-mesh".to_owned()), ..Istiod::default() };
    for (deployments, pods) in [(vec![&istiod], vec![&good]), (vec![&good], vec![&good, &istiod])] {
        let found = prepared(Ok(deployments), Ok(pods), shared.clone(), lacking.clone());
        assert_eq!(found.seen().copied(), expected);
    }
    let folder = Istiod { modes: [IstioMode::KubeconfigFolder].into(), ..good.clone() };
    let of_folder = prepared(Ok(vec![&good]), Ok(vec![&folder]), shared.clone(), lacking.clone());
    let Reported::Unknown(reason) = of_folder else { panic!() };
    let messages =
        ["PILOT_MULTICLUSTER_KUBECONFIG_PATH", "take the variable away"].iter().all(|word| reason.contains(word));
    assert_eq!(messages, shared.is_ok(), "{reason}");
    let ambient = Istiod { modes: [IstioMode::Ambient].into(), ..good.clone() };
    let of_one = |istiod: &Istiod| prepared(Ok(vec![&good]), Ok(vec![istiod]), shared.clone(), lacking.clone());
    assert_eq!(of_one(&ambient), of_one(&good));
    assert_eq!(prepared(Ok(vec![&good]), Ok(vec![]), shared, lacking).seen(), None, "nobody runs");
}

#[rstest]
#[case::none(json!({"containers": [{"name": "app"}]}), json!({}), false)]
#[case::lacks(json!({"containers": [{"name": "istio-proxy"}]}), json!({}), true)]
#[case::init(json!({"initContainers": [{"name": "istio-proxy"}]}), json!({}), true)]
#[case::env(json!({"containers": [{"name": "istio-proxy", "env": [{"name": "PROXY_CONFIG_XDS_AGENT", "value": "true"}]}]}), json!({}), false)]
#[case::env_false(json!({"containers": [{"name": "istio-proxy", "env": [{"name": "PROXY_CONFIG_XDS_AGENT", "value": "false"}]}]}),
    json!({"proxy.istio.io/config": "proxyMetadata: {PROXY_CONFIG_XDS_AGENT: 'true'}"}), true)]
#[case::config(json!({"initContainers": [{"name": "istio-proxy", "env": [
    {"name": "PROXY_CONFIG", "value": "{\"proxyMetadata\":{\"PROXY_CONFIG_XDS_AGENT\":\"true\"}}"}]}]}), json!({}), false)]
#[case::annotation(json!({"containers": [{"name": "istio-proxy"}]}),
    json!({"proxy.istio.io/config": "proxyMetadata:\n  PROXY_CONFIG_XDS_AGENT: \"true\"\n"}), false)]
#[case::annotation_broken(json!({"containers": [{"name": "istio-proxy"}]}), json!({"proxy.istio.io/config": "{"}), true)]
fn a_proxy_without_the_switch_awaits_its_restart(#[case] spec: Value, #[case] annotations: Value, #[case] lacks: bool) {
    let pod = json!({"metadata": {"name": "p", "namespace": "shop", "annotations": annotations}, "spec": spec});
    assert_eq!(serde_json::from_value::<WirePod>(pod).unwrap().lacks_xds_agent(), lacks);
}

#[test]
fn metrics_are_read_as_they_are_written() {
    let text = "# HELP isthmus_relay_route_up Whether\nisthmus_relay_route_up_other 1\nisthmus_relay_route_up{cluster_id=\"west\",\
        api_host=\"api.west.example:6443\",reason=\"a \\\"b\\\", \\\\ {c}=\\n\"} 0 1700000000\nisthmus_relay_route_up 3\n";
    let samples = parse_samples(text, "isthmus_relay_route_up");
    assert_eq!(samples.len(), 2);
    assert_eq!(samples[0].labels["reason"], "a \"b\", \\ {c}=\n");
    assert!(samples[0].value.abs() < f64::EPSILON && (samples[1].value - 3.0).abs() < f64::EPSILON);
    for broken in ["m{", "m{a", "m{a=\"", "m{a=\"b\\", "m{a=\"b\"", "m{a=\"b\"} x", "m{a=\"b\"}", "m x", "m"] {
        assert_eq!(parse_samples(broken, "m"), [], "{broken}");
    }
}

#[test]
fn a_route_works_when_every_relay_says_so() {
    let line = |id: &str, up: u8, reason: &str| {
        format!("r{{cluster_id=\"{id}\",api_host=\"api.{id}.example\",reason=\"{reason}\"}} {up}\n")
    };
    let page = |lines: &[String]| Ok::<_, AskError>(parse_samples(&lines.concat(), "r"));
    let one = page(&[line("west", 1, ""), line("north", 1, ""), line("south", 1, "")]);
    let two = page(&[line("west", 1, ""), line("north", 0, "401")]);
    let Reported::Seen(found) = routes(&answers(vec![one, two])) else { panic!() };
    let found: Vec<_> =
        found.iter().map(|route| (route.cluster_id.as_str(), route.state, route.reason.as_deref())).collect();
    let failed = RouteState::Failed;
    let expected = [
        ("north", failed, Some("401")),
        ("south", failed, Some("a relay does not have it yet")),
        ("west", RouteState::Ok, None),
    ];
    assert_eq!(found, expected);
    assert_eq!(routes(&[]).seen(), None);
    assert_eq!(credentials(&[]).seen(), None);
}

/// An istiod whose kubeconfigs may name files, with a token in a volume.
fn with_token(options: &str, audience: &str, at: &str) -> Istiod {
    let env = json!([{"name": "PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS", "value": options}]);
    let mounts = json!([{"name": "other", "mountPath": "/etc/other"}, {"name": "relay", "mountPath": at}]);
    let token = json!({"audience": audience, "expirationSeconds": 3600, "path": "token"});
    let volumes = json!([{"name": "other", "configMap": {"name": "other"}},
        {"name": "relay", "projected": {"sources": [{"configMap": {"name": "x"}}, {"serviceAccountToken": token}]}}]);
    let container = json!({"name": "discovery", "image": "pilot", "env": env, "volumeMounts": mounts});
    let spec = json!({"containers": [container], "volumes": volumes});
    let deployment = json!({"metadata": {"name": "istiod"}, "spec": {"template": {"spec": spec}}});
    kept::<WireDeployment>(&deployment).unwrap()
}

#[test]
fn istiod_has_the_token_where_secrets_name_it_or_it_has_none() {
    let (good, at) = ("isthmus-relay", "/var/run/secrets/isthmus-relay");
    let has = with_token("tokenFile", good, at);
    assert!(has.relay_token && with_token("exec,tokenFile", good, "/var/run/secrets/isthmus-relay/").relay_token);
    let lacks = [
        with_token("", good, at),
        with_token("exec", good, at),
        with_token("tokenFile", "istio-ca", at),
        with_token("tokenFile", good, "/var/run/secrets/other"),
        Istiod::default(),
    ];
    assert!(lacks.iter().all(|istiod| !istiod.relay_token));
    assert_eq!(relay_token(Ok(vec![&has]), Ok(vec![&has])), Reported::Seen(true));
    for lacks in &lacks {
        assert_eq!(relay_token(Ok(vec![&has]), Ok(vec![&has, lacks])), Reported::Seen(false));
        assert_eq!(relay_token(Ok(vec![lacks]), Ok(vec![&has])), Reported::Seen(false), "the next one has none");
    }
    assert_eq!(relay_token(Ok(vec![&has]), Ok(Vec::new())).seen(), None);
    assert_eq!(relay_token(Err(Unread::NotYet { what: "x".into() }), Ok(vec![&has])).seen(), None);
}

#[test]
fn objects_say_what_istio_reads_of_them() {
    let deployment = |image: &str, labels: &Value| {
        let env = json!([{"name": "CLUSTER_ID", "value": "east"}, {"name": "ISTIO_MULTIROOT_MESH", "value": "1"}]);
        let spec = json!({"containers": [{"name": "discovery", "image": image, "env": env}]});
        kept::<WireDeployment>(
            &json!({"metadata": {"name": "istiod", "labels": labels}, "spec": {"template": {"spec": spec}}}),
        )
        .unwrap()
    };
    let one = deployment("registry.example:5000/pilot:1.30.4-debug@sha256:00", &json!({"istio.io/rev": "canary"}));
    assert_eq!(
        (one.version.as_deref(), one.revision.as_str(), one.cluster_id.as_deref()),
        (Some("1.30.4"), "canary", Some("east"))
    );
    assert!(one.multiroot && one.shared_mesh_config.is_none());
    assert_eq!(deployment("registry.example:5000/pilot", &json!({})).version, None);
    assert_eq!(
        deployment("pilot:x", &json!({"app.kubernetes.io/version": "1.31.0"})).version.as_deref(),
        Some("1.31.0")
    );
    assert_eq!(kept::<WireDeployment>(&json!({"metadata": {"name": "istiod"}, "spec": {"replicas": 0}})), None);
    let mesh =
        |mesh: &str| kept::<WireMeshMap>(&json!({"metadata": {"name": "istio"}, "data": {"mesh": mesh}})).unwrap();
    assert_eq!(mesh("caCertificates: [{pem: x}]\ndefaultConfig: {meshId: shop}").ca_certificates, Ok(true));
    assert_eq!(mesh("defaultConfig: {meshId: shop}").mesh_id.as_deref(), Some("shop"));
    assert_eq!((mesh("").ca_certificates, mesh("caCertificates: []").ca_certificates), (Ok(false), Ok(false)));
    assert!(mesh("{").ca_certificates.is_err());
    // when its data was written, and nothing else
    let fields = |name: &str, time: &str| json!({"time": time, "fieldsV1": {name: {".": {}}}});
    let managed = json!([fields("f:data", "2026-01-01T00:00:00Z"), fields("f:metadata", "2026-06-01T00:00:00Z")]);
    let map = json!({"metadata": {"name": "m", "managedFields": managed}, "data": null});
    assert_eq!(kept::<WireDatedConfigMap>(&map).unwrap().written, Some(Timestamp::from_seconds(1_767_225_600)));
}

fn root(until: i32) -> String {
    root_of(2020, until)
}

fn root_of(from: i32, until: i32) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params.self_signed(&key).unwrap().pem()
}

fn facts(roots: &str, written: Option<Timestamp>) -> ClusterFacts {
    let map = |file: &str, text: String, written| {
        SourceState::Present(Arc::new(DatedConfigMap { data: BTreeMap::from([(file.to_owned(), text)]), written }))
    };
    let pem = isthmus::types::key::PrivateKey::generate(&[1; 32]).unwrap().public().to_pem();
    let identity = json!({"version": 1, "keys": [{"id": "own", "pem": pem, "scopes": ["api"]}]}).to_string();
    let uid = "00000000-0000-4000-8000-0000000000aa".to_owned();
    ClusterFacts {
        roots: map("root-cert.pem", roots.to_owned(), written),
        revoked: SourceState::Absent,
        identity: map("identity.json", identity, None),
        peers: SourceState::Absent,
        hand_over: SourceState::Absent,
        routes: SourceState::Absent,
        shared: SourceState::Absent,
        standard: BTreeMap::new(),
        deployments: SourceState::Present(Objects::from([(
            (String::new(), "istiod".to_owned()),
            Arc::new(Istiod { revision: "default".to_owned(), ..Istiod::default() }),
        )])),
        istiods: SourceState::Present(Objects::new()),
        kube_system: SourceState::Present(Arc::new(NamespaceFacts { uid, network: None })),
        namespace: SourceState::Present(Arc::new(NamespaceFacts { uid: String::new(), network: Some("n".to_owned()) })),
        gateways: Ok(vec![]),
        gateway_network: None,
        serving: None,
    }
}

#[test]
fn the_sequence_rises_when_the_roots_change_and_an_expired_root_goes() {
    let (short, long) = (root(2027), root(2040));
    let expiry = |pem: &str| parse_roots_any_time(pem).unwrap()[0].not_after;
    let begin = Timestamp::from_seconds(1_790_000_000);
    let second = Duration::from_secs(1);
    let both = facts(&format!("{short}{long}{long}"), Some(begin));
    let at = |facts: &ClusterFacts, now: Timestamp| {
        let published = compose(facts, &ExporterOptions::default(), &"istio-system".parse().unwrap(), now);
        let roots = published.public.map(|public| parse_roots_any_time(&public.root_ca).unwrap().len());
        (roots, published.sequence)
    };
    let end = expiry(&short);
    assert_eq!(at(&both, begin + second), (Ok(2), 1_790_000_000), "each once");
    assert_eq!(at(&both, end), at(&both, begin + second), "time alone changes nothing");
    let after = at(&both, end + second);
    assert_eq!(after, (Ok(1), u64::try_from(end.as_seconds()).unwrap() + 1));
    assert_eq!(at(&both, end + second * 1_000_000), after);
    // the last one stays, expired or not: a peer says what is wrong with it
    assert_eq!(at(&facts(&short, Some(Timestamp::from_seconds(5))), end + second).0, Ok(1));
    // the apiserver that does not say when it was written
    assert!(at(&facts(&long, None), begin + second).1 > 0);
}

#[test]
fn old_and_new_root_are_published_while_both_are_valid_in_one_order() {
    let (old, new, next) = (root_of(2020, 2028), root_of(2025, 2040), root_of(2030, 2050));
    let parsed = |pem: &str| parse_roots_any_time(pem).unwrap().remove(0);
    let at = |text: &str, now: Timestamp| {
        let facts = facts(text, Some(Timestamp::EPOCH));
        let published = compose(&facts, &ExporterOptions::default(), &"istio-system".parse().unwrap(), now);
        (published.public.unwrap().root_ca, published.sequence)
    };
    let digests = |pem: &str| own_roots(pem).unwrap();
    let set = |pems: &[&String]| pems.iter().map(|pem| parsed(pem).digest).collect::<BTreeSet<_>>();
    let all = format!("{old}{new}{next}");
    let today = Timestamp::from_seconds(1_790_000_000);
    let (bundle, sequence) = at(&all, today);
    // readers refuse a bundle with a root that is not valid yet
    assert_eq!(digests(&bundle), set(&[&old, &new]));
    assert_eq!(at(&format!("{next}{new}\n{old}{new}"), today), (bundle, sequence), "however the file has them");
    // what evidence calls its own roots is exactly what is published
    let shown = trusts(&answers(vec![parse_mesh(b"{}")]), &Ok(digests(&at(&all, today).0)));
    assert_eq!(shown, Reported::Seen(set(&[&old, &new])));
    let second = Duration::from_secs(1);
    let steps = [
        (parsed(&old).not_after, set(&[&old, &new])),
        (parsed(&old).not_after + second, set(&[&new])),
        (parsed(&next).not_before, set(&[&new, &next])),
        (parsed(&new).not_after + second, set(&[&next])),
        (parsed(&next).not_after + second, set(&[&old, &new, &next])),
    ];
    let mut before = sequence;
    for (now, expected) in steps {
        let (bundle, sequence) = at(&all, now);
        assert_eq!(digests(&bundle), expected, "{now:?}");
        assert!(sequence >= before, "{now:?}");
        before = sequence;
    }
    assert_eq!(
        digests(&at(&next, today).0),
        set(&[&next]),
        "the only one, for the reader to say what is wrong with it"
    );
}

#[test]
fn what_the_own_ca_revoked_is_published_and_no_list_of_another() {
    let authority = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2027, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let crl = list.signed_by(&rcgen::Issuer::new(params, key)).unwrap().pem().unwrap();
        (pem, crl)
    };
    let ((own, list), (_, of_peer), (_, forged)) = (authority("own"), authority("peer"), authority("own"));
    let published = |text: Option<&str>| {
        let mut facts = facts(&own, Some(Timestamp::EPOCH));
        if let Some(text) = text {
            let data = BTreeMap::from([("ca-crl.pem".to_owned(), text.to_owned())]);
            facts.revoked = SourceState::Present(Arc::new(DatedConfigMap { data, written: None }));
        }
        let now = Timestamp::from_seconds(1_790_000_000);
        let public = compose(&facts, &ExporterOptions::default(), &"istio-system".parse().unwrap(), now).public;
        let text = public.unwrap().to_json();
        let Reading::Complete(read) = PublicDocument::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
        assert_eq!(text.contains("\"crl\""), read.crl.is_some());
        read.crl.map(|crl| pem::parse_many(crl).unwrap().len())
    };
    assert_eq!(published(None), None);
    assert_eq!(published(Some("")), None);
    assert_eq!(published(Some("no PEM")), None);
    assert_eq!(published(Some(&list)), Some(1));
    assert_eq!(published(Some(&format!("{of_peer}{list}\n{forged}{own}"))), Some(1));
    assert_eq!(published(Some(&format!("{of_peer}{forged}"))), None);
    assert_eq!(published(Some(&list.repeat(400))), None, "too long");
}

#[test]
fn what_contradicts_itself_is_not_published() {
    let compose = |facts: &ClusterFacts, options: &ExporterOptions| {
        compose(facts, options, &"istio-system".parse().unwrap(), Timestamp::from_seconds(1_790_000_000))
    };
    let options = ExporterOptions {
        api_host: Some("api.example".parse().unwrap()),
        flat_network: true,
        ..ExporterOptions::default()
    };
    let good = facts(&root(2040), Some(Timestamp::EPOCH));
    let published = compose(&good, &options);
    assert_eq!(published.private.unwrap().cluster_id.unwrap().as_str(), "Kubernetes", "Istio's default");
    let reason =
        |facts: &ClusterFacts, options: &ExporterOptions| compose(facts, options).private.unwrap_err().to_string();
    assert!(reason(&good, &ExporterOptions { flat_network: false, ..options.clone() }).contains("--flat-network"));
    assert!(reason(&good, &ExporterOptions { api_host: None, ..options.clone() }).contains("--api-host"));
    let uuid = "00000000-0000-4000-8000-0000000000bb".parse().ok();
    assert!(compose(&good, &ExporterOptions { cluster_uuid: uuid.clone(), ..options.clone() }).private.is_ok());
    let mut two = good.clone();
    if let SourceState::Present(deployments) = &mut two.deployments {
        let other = Istiod { cluster_id: Some("east".to_owned()), ..Istiod::default() };
        deployments.insert((String::new(), "istiod-canary".to_owned()), Arc::new(other));
    }
    assert!(reason(&two, &options).contains("Kubernetes, east"));
    for (source, word) in [(SourceState::NotYet, "not read yet"), (SourceState::Failed(refused()), "403")] {
        assert!(reason(&ClusterFacts { namespace: source.clone(), ..good.clone() }, &options).contains(word));
        assert!(compose(&ClusterFacts { kube_system: source, ..good.clone() }, &options).cluster_uuid.is_none());
    }
    // what Istio's own configuration says is waited for, and one that cannot be read does not say that there is nothing
    let mesh = |source| ClusterFacts { standard: BTreeMap::from([("istio".to_owned(), source)]), ..good.clone() };
    let domain = |facts: &ClusterFacts| {
        compose(facts, &options).public.map(|public| public.trust_domain.map(|name| name.to_string()))
    };
    let says = kept::<WireMeshMap>(&json!({"metadata": {"name": "istio"}, "data": {"mesh": "trustDomain: a.example"}}));
    let says = SourceState::Present(Arc::new(says.unwrap()));
    assert_eq!(domain(&mesh(says.clone())), Ok(Some("a.example".to_owned())));
    assert_eq!(domain(&mesh(SourceState::Absent)), Ok(None));
    assert!(domain(&mesh(SourceState::NotYet)).unwrap_err().to_string().contains("ConfigMap istio was not read yet"));
    assert!(domain(&mesh(SourceState::Failed(refused()))).unwrap_err().to_string().contains("403"));
    for facts in [
        ClusterFacts { istiods: SourceState::NotYet, ..mesh(says.clone()) },
        ClusterFacts { deployments: SourceState::NotYet, ..mesh(says.clone()) },
    ] {
        assert!(domain(&facts).unwrap_err().to_string().contains("not read yet"), "which revisions there are");
    }
    // a revision that the engine does not know of has a ConfigMap that the exporter may not read
    let mut canary = mesh(says);
    canary.standard.insert("istio-canary".to_owned(), SourceState::Failed(refused()));
    assert_eq!(domain(&canary), Ok(Some("a.example".to_owned())));
    assert!(canary.configured().unwrap_err().to_string().contains("ConfigMap istio-canary cannot be read: 403"));
    // no one is judged while it is not known who is admitted
    assert!(compose(&ClusterFacts { peers: SourceState::NotYet, ..good.clone() }, &options).peers.is_err());
    assert!(compose(&good, &options).peers.unwrap().peers.is_empty());
}
