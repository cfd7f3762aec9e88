//! A proxy as far as istiod sees one: a sidecar that imports everything. It asks over plain gRPC and leaves the answers unread;
//! what istiod made for it is read at istiod's debug endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::mesh::BedCluster;

const TYPES: [&str; 4] = [
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
];
const NAME: &str = "observer-0.shop";

pub(super) struct Observer {
    cluster: BedCluster,
    requests: mpsc::UnboundedSender<Bytes>,
    _runtime: Runtime,
}

/// What an istiod made for it: each resource by kind and name.
pub(super) type Made = BTreeMap<(&'static str, String), Value>;

impl Observer {
    pub(super) fn start(cluster: BedCluster) -> Self {
        let runtime = Runtime::new().unwrap();
        let (requests, asked) = mpsc::unbounded_channel::<Bytes>();
        let address = cluster.address(10, 15010);
        let node = node(cluster);
        requests.send(request(&node, TYPES[0], &BTreeSet::new())).unwrap();
        requests.send(request(&[], TYPES[1], &BTreeSet::new())).unwrap();
        runtime.spawn(async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let connecting = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (mut sender, connection) = connecting.await.unwrap();
            tokio::spawn(connection);
            let frames =
                futures_util::stream::unfold(asked, |mut asked| async move { Some((asked.recv().await?, asked)) });
            let frames = frames.map(|message| Ok::<_, Infallible>(Frame::data(message)));
            let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
            let request = http::Request::post(format!("http://{address}{path}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(StreamBody::new(frames).boxed_unsync())
                .unwrap();
            let mut answers = sender.send_request(request).await.unwrap().into_body();
            while let Some(Ok(_)) = answers.frame().await {}
        });
        Self { cluster, requests, _runtime: runtime }
    }

    fn dump(&self) -> Result<Made, String> {
        let dump = self.cluster.istiod(&format!("/debug/config_dump?proxyID={NAME}&include_eds=true"))?;
        let mut made = Made::new();
        for config in dump["configs"].as_array().ok_or("no dump")? {
            let of = |list: &str, part: &str| -> Vec<Value> {
                let list = config[list].as_array().into_iter().flatten();
                list.map(|one| one.pointer(part).unwrap_or(&Value::Null).clone()).collect()
            };
            for (kind, name, resources) in [
                ("cluster", "name", of("dynamicActiveClusters", "/cluster")),
                ("listener", "name", of("dynamicListeners", "/activeState/listener")),
                ("routes", "name", of("dynamicRouteConfigs", "/routeConfig")),
                ("endpoints", "clusterName", of("dynamicEndpointConfigs", "/endpointConfig")),
            ] {
                for resource in resources {
                    let name = resource[name].as_str().unwrap_or_else(|| panic!("{resource:#}")).to_owned();
                    made.insert((kind, name), in_one_order(resource));
                }
            }
        }
        Ok(made)
    }

    /// What istiod makes for a proxy that asks for all routes and endpoints that its clusters and listeners name.
    pub(super) fn sees(&self) -> Result<Made, String> {
        let first = self.dump()?;
        let (mut routes, mut clusters) = (BTreeSet::new(), BTreeSet::new());
        for ((kind, name), resource) in &first {
            match *kind {
                "listener" => named(resource, "routeConfigName", &mut routes),
                "cluster" if resource["type"] == "EDS" => drop(clusters.insert(name.clone())),
                _ => {}
            }
        }
        if routes.is_empty() || clusters.is_empty() {
            return Err("no clusters and listeners yet".to_owned());
        }
        self.requests.send(request(&[], TYPES[2], &routes)).map_err(|error| error.to_string())?;
        self.requests.send(request(&[], TYPES[3], &clusters)).map_err(|error| error.to_string())?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        let all = self.dump()?;
        let missing = clusters.iter().find(|name| !all.contains_key(&("endpoints", (*name).clone())));
        missing.map_or(Ok(all), |name| Err(format!("no endpoints of {name} yet")))
    }
}

/// Texts that stand behind a key, wherever it is.
fn named(value: &Value, key: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| named(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| named(value, key, found)),
        _ => {}
    }
}

/// The same without what differs each time: the order in which events came shows in that of endpoints alone.
pub(super) fn in_one_order(mut value: Value) -> Value {
    fn walk(value: &mut Value, sorts: bool) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| !matches!(key.as_str(), "lastUpdated" | "versionInfo"));
                map.iter_mut()
                    .for_each(|(key, value)| walk(value, matches!(key.as_str(), "endpoints" | "lbEndpoints")));
            }
            Value::Array(list) => {
                for value in list.iter_mut() {
                    walk(value, false);
                }
                if sorts {
                    list.sort_by_cached_key(Value::to_string);
                }
            }
            _ => {}
        }
    }
    walk(&mut value, false);
    value
}

/// A field of protobuf that is a text or a message (protobuf.dev/programming-guides/encoding).
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(content);
    out
}

/// `envoy.config.core.v3.Node`: `id` 1, `metadata` 3.
fn node(cluster: BedCluster) -> Vec<u8> {
    let entry = |(key, value): (&str, &str)| {
        // an entry of Struct's map: the key, and a Value that is a text
        field(1, &[field(1, key.as_bytes()), field(2, &field(3, value.as_bytes()))].concat())
    };
    let network = format!("network-{}", cluster.name);
    let metadata =
        [("CLUSTER_ID", cluster.name), ("NETWORK", network.as_str()), ("NAMESPACE", "shop"), ("MESH_ID", "shop")];
    let id = format!("sidecar~10.206.{}.99~{NAME}~shop.svc.cluster.local", cluster.index);
    [field(1, id.as_bytes()), field(3, &metadata.map(entry).concat())].concat()
}

/// `envoy.service.discovery.v3.DiscoveryRequest`: `node` 2, `resource_names` 3, `type_url` 4; with gRPC's head.
fn request(node: &[u8], kind: &str, names: &BTreeSet<String>) -> Bytes {
    let mut message = if node.is_empty() { Vec::new() } else { field(2, node) };
    message.extend(names.iter().flat_map(|name| field(3, name.as_bytes())));
    message.extend(field(4, format!("type.googleapis.com/{kind}").as_bytes()));
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    Bytes::from([&[0], &length[..], &message].concat())
}
