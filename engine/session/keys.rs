//! Private keys, from files of the checkout and from the environment: the only place that reads them for a run.

use zeroize::Zeroizing;

use crate::checkout::Checkout;
use crate::model::keyring::Keyring;
use crate::model::known::engine_keys;
use crate::model::mesh::{Cluster, KeySource};
use crate::pipeline::Program;
use crate::types::key::{KeyId, PrivateKey};

/// Where the engine's own private key lies.
pub const ENGINE_KEY_PATH: &str = "keys/engine.key";
/// Environment variable that may hold it instead, as PEM.
pub const ENGINE_KEY_VARIABLE: &str = "ISTHMUS_ENGINE_KEY";

/// All private keys that are at hand.
pub fn keyring(checkout: &Checkout, program: &Program) -> Keyring {
    let clusters = program.mesh.clusters.values();
    Keyring {
        engine: engine_key(checkout, program),
        clusters: clusters.map(|cluster| (cluster.name.clone(), cluster_key(checkout, cluster))).collect(),
    }
}

/// The engine's private key, when it is at hand and is one that spec or lock know; else where it should be.
fn engine_key(checkout: &Checkout, program: &Program) -> Result<(KeyId, PrivateKey), String> {
    let known = engine_keys(&program.mesh, &program.lock);
    if known.is_empty() {
        return Err("a key of the engine's own: `engine keys new`, or `engine apply --create-keys`".to_owned());
    }
    let (source, pem) = engine_key_pem(checkout)?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| format!("the engine's key in {source}: {error}"))?;
    match known.into_iter().find(|(_, public)| public == key.public()) {
        Some((id, _)) => Ok((id, key)),
        None => Err(format!("the engine's key: {source} holds another one than spec and lock know")),
    }
}

fn engine_key_pem(checkout: &Checkout) -> Result<(String, Zeroizing<String>), String> {
    if let Ok(pem) = std::env::var(ENGINE_KEY_VARIABLE) {
        return Ok((format!("${ENGINE_KEY_VARIABLE}"), Zeroizing::new(pem)));
    }
    let pem = private_file(checkout, ENGINE_KEY_PATH)?;
    let missing = || format!("the engine's private key, in {ENGINE_KEY_PATH} or ${ENGINE_KEY_VARIABLE}");
    pem.map(|pem| (ENGINE_KEY_PATH.to_owned(), pem)).ok_or_else(missing)
}

fn private_file(checkout: &Checkout, path: &str) -> Result<Option<Zeroizing<String>>, String> {
    let found = checkout.read_private(path).map_err(|error| error.to_string())?;
    let text = found.map(|found| String::from_utf8(found.bytes.to_vec()).map(Zeroizing::new));
    text.transpose().map_err(|_| format!("{path} is not UTF-8"))
}

/// The private key of a cluster, where the engine may hold it.
fn cluster_key(checkout: &Checkout, cluster: &Cluster) -> Result<PrivateKey, String> {
    let name = &cluster.name;
    let (source, pem) = match &cluster.key {
        KeySource::Cluster => {
            return Err(format!("the key of `{name}`, which never leaves the cluster"));
        }
        KeySource::File(path) => (path.clone(), private_file(checkout, path)?),
        KeySource::Environment(variable) => (format!("${variable}"), std::env::var(variable).ok().map(Zeroizing::new)),
    };
    let pem = pem.ok_or_else(|| format!("the private key of `{name}`, in {source}"))?;
    PrivateKey::from_pem(&pem).map_err(|error| format!("the private key of `{name}` in {source}: {error}"))
}
