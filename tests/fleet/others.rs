//! Another checkout, with an engine's key of its own, to which clusters are left: what it makes of the objects that are live.

use isthmus::types::key::PrivateKey;
use serde_yaml::{Mapping, Value};

use super::file::{FleetFile, FleetFiles};
use super::istiod::OTHERS;
use super::wish::engine_key;

const PEERS: &str = "configmap-isthmus-peers.yaml";
const HAND_OVER: &str = "configmap-isthmus-hand-over.yaml";
/// What keeps an object when it leaves its checkout.
const MARKS: [(&str, &str); 2] = [
    ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// Its own objects, without marks. It may let the one before in no more.
pub(crate) fn taken(live: &FleetFiles, is_shut: bool) -> FleetFiles {
    let mut files = written(live, false);
    files.remove(HAND_OVER);
    numbered(&mut files, None, !is_shut);
    files
}

/// The same, marked and offered with a run of this serial.
pub(crate) fn offered(live: &FleetFiles, serial: u64) -> FleetFiles {
    let mut files = written(live, true);
    numbered(&mut files, Some(serial), true);
    let state = format!("{{\"version\":1,\"to\":\"tree\",\"serial\":{serial},\"stage\":\"offered\"}}");
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: isthmus-hand-over\n  namespace: istio-system\ndata:\n  state.json: '{state}'\n"
    );
    files.insert(HAND_OVER.to_owned(), map.into_bytes().into());
    files
}

fn written(live: &FleetFiles, is_marked: bool) -> FleetFiles {
    let one = |(file, bytes): (&String, &FleetFile)| {
        let mut object: Value = serde_yaml::from_slice(bytes).unwrap();
        let metadata = object.get_mut("metadata").unwrap().as_mapping_mut().unwrap();
        let annotations = metadata.entry("annotations".into()).or_insert_with(|| Mapping::new().into());
        let annotations = annotations.as_mapping_mut().unwrap();
        for (key, value) in MARKS {
            if is_marked {
                annotations.insert(key.into(), value.into());
            } else {
                annotations.remove(key);
            }
        }
        (file.clone(), serde_yaml::to_string(&object).unwrap().into_bytes().into())
    };
    live.iter().map(one).collect()
}

/// A run of its own, of the next serial if none is given.
fn numbered(files: &mut FleetFiles, serial: Option<u64>, lets_in: bool) {
    let Some(bytes) = files.get_mut(PEERS) else { return };
    let mut object: Value = serde_yaml::from_slice(bytes).unwrap();
    let text = object["data"]["peers.json"].as_str().unwrap();
    let mut peers: serde_json::Value = serde_json::from_str(text).unwrap();
    let serial = serial.unwrap_or_else(|| peers["serial"].as_u64().unwrap_or(0) + 1);
    let own = PrivateKey::generate(&[250; 32]).unwrap().public().to_pem();
    let keys = [(OTHERS, own), ("key-0", engine_key(0)), ("key-1", engine_key(1))].into_iter();
    let keys = keys.take(if lets_in { 3 } else { 1 });
    let keys: Vec<_> = keys.map(|(id, pem)| serde_json::json!({ "id": id, "pem": pem, "scopes": [] })).collect();
    peers["serial"] = serial.into();
    peers["writer"] = OTHERS.into();
    peers["self"] = serde_json::json!({ "keys": keys });
    object["data"]["peers.json"] = peers.to_string().into();
    *bytes = serde_yaml::to_string(&object).unwrap().into_bytes().into();
}
