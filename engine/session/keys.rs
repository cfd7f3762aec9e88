//! Private keys, from files of the checkout and from the environment: the only place that reads them for a run.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::checkout::Checkout;
use crate::model::keyring::{KeyOwner, KeyProblem, Keyring};
use crate::model::known::engine_keys;
use crate::model::mesh::{Cluster, KeySource};
use crate::pipeline::Program;
use crate::types::key::{KeyId, PrivateKey};
use crate::types::name::Digest;

/// Where the engine's own private key lies.
pub const ENGINE_KEY_PATH: &str = "keys/engine.key";
/// Environment variable that may hold it instead, as PEM.
pub const ENGINE_KEY_VARIABLE: &str = "ISTHMUS_ENGINE_KEY";

/// All private keys that were read.
pub fn keyring(checkout: &Checkout, program: &Program) -> Keyring {
    let clusters = program.mesh.clusters.values();
    Keyring {
        engine: engine_key(checkout, program),
        clusters: clusters.map(|cluster| (cluster.name.clone(), cluster_key(checkout, cluster))).collect(),
    }
}

/// Digests of the key files that a run looks for; none where there is no file, or none that can be read.
pub(super) fn key_files(checkout: &Checkout, program: &Program) -> BTreeMap<String, Option<Digest>> {
    let named = program.mesh.clusters.values().filter_map(|cluster| match &cluster.key {
        KeySource::File(path) => Some(path.as_str()),
        KeySource::Cluster | KeySource::Environment(_) => None,
    });
    let digest = |path| Some(Digest::of(&checkout.read_private(path).ok().flatten()?.bytes));
    named.chain([ENGINE_KEY_PATH]).map(|path| (path.to_owned(), digest(path))).collect()
}

/// The engine's private key, when it was read and is one that spec or lock know; else where it should be.
fn engine_key(checkout: &Checkout, program: &Program) -> Result<(KeyId, PrivateKey), KeyProblem> {
    let known = engine_keys(&program.mesh, &program.lock);
    if known.is_empty() {
        return Err(KeyProblem::NoEngineKey);
    }
    let (source, pem) = engine_key_pem(checkout)?;
    let key = usable(KeyOwner::Engine, &source, &pem)?;
    match known.into_iter().find(|(_, public)| public == key.public()) {
        Some((id, _)) => Ok((id, key)),
        None => Err(KeyProblem::Another { source }),
    }
}

fn engine_key_pem(checkout: &Checkout) -> Result<(String, Zeroizing<String>), KeyProblem> {
    if let Ok(pem) = std::env::var(ENGINE_KEY_VARIABLE) {
        return Ok((format!("${ENGINE_KEY_VARIABLE}"), Zeroizing::new(pem)));
    }
    let pem = private_file(checkout, KeyOwner::Engine, ENGINE_KEY_PATH)?;
    let source = || format!("{ENGINE_KEY_PATH} or ${ENGINE_KEY_VARIABLE}");
    let missing = || KeyProblem::Missing { owner: KeyOwner::Engine, source: source() };
    pem.map(|pem| (ENGINE_KEY_PATH.to_owned(), pem)).ok_or_else(missing)
}

fn private_file(checkout: &Checkout, owner: KeyOwner, path: &str) -> Result<Option<Zeroizing<String>>, KeyProblem> {
    let unusable = |problem: String| KeyProblem::Unusable { owner, source: path.to_owned(), problem };
    match checkout.read_private(path) {
        Ok(None) => Ok(None),
        Ok(Some(found)) => match String::from_utf8(found.bytes.to_vec()) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(_) => Err(unusable("it is not UTF-8".to_owned())),
        },
        Err(error) => Err(unusable(error.to_string())),
    }
}

fn usable(owner: KeyOwner, source: &str, pem: &str) -> Result<PrivateKey, KeyProblem> {
    PrivateKey::from_pem(pem).map_err(|error| KeyProblem::Unusable {
        owner,
        source: source.to_owned(),
        problem: error.to_string(),
    })
}

/// The private key of a cluster, where the engine may hold it.
fn cluster_key(checkout: &Checkout, cluster: &Cluster) -> Result<PrivateKey, KeyProblem> {
    let owner = || KeyOwner::Cluster(cluster.name.clone());
    let (source, pem) = match &cluster.key {
        KeySource::Cluster => {
            return Err(KeyProblem::StaysInCluster { cluster: cluster.name.clone() });
        }
        KeySource::File(path) => (path.clone(), private_file(checkout, owner(), path)?),
        KeySource::Environment(variable) => (format!("${variable}"), std::env::var(variable).ok().map(Zeroizing::new)),
    };
    match pem {
        Some(pem) => usable(owner(), &source, &pem),
        None => Err(KeyProblem::Missing { owner: owner(), source }),
    }
}
