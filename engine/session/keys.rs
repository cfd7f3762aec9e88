//! The engine's private key, from a file of the checkout or from the environment: the only place that reads it for a run.
//!
//! No private key of a cluster is ever read: it never leaves its cluster.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::checkout::Checkout;
use crate::model::keyring::{KeyProblem, Keyring};
use crate::model::known::engine_keys;
use crate::pipeline::Program;
use crate::types::key::{KeyId, PrivateKey};
use crate::types::name::Digest;

/// Where the engine's own private key lies.
pub const ENGINE_KEY_PATH: &str = "keys/engine.key";
/// Environment variable that may hold it instead, as PEM.
pub const ENGINE_KEY_VARIABLE: &str = "ISTHMUS_ENGINE_KEY";

/// The private keys that a run may sign with.
pub fn keyring(checkout: &Checkout, program: &Program) -> Keyring {
    Keyring { engine: engine_key(checkout, program) }
}

/// Digests of the key files that a run looks for; none where there is no file, or none that can be read.
pub(super) fn key_files(checkout: &Checkout) -> BTreeMap<String, Option<Digest>> {
    let digest = |path| Some(Digest::of(&checkout.read_private(path).ok().flatten()?.bytes));
    BTreeMap::from([(ENGINE_KEY_PATH.to_owned(), digest(ENGINE_KEY_PATH))])
}

/// The engine's private key, when it was read and is one that spec or lock know; else where it should be.
fn engine_key(checkout: &Checkout, program: &Program) -> Result<(KeyId, PrivateKey), KeyProblem> {
    let known = engine_keys(&program.mesh, &program.lock);
    if known.is_empty() {
        return Err(KeyProblem::NoEngineKey);
    }
    let (source, pem) = engine_key_pem(checkout)?;
    let key = usable(&source, &pem)?;
    match known.into_iter().find(|(_, public)| public == key.public()) {
        Some((id, _)) => Ok((id, key)),
        None => Err(KeyProblem::Another { source }),
    }
}

fn engine_key_pem(checkout: &Checkout) -> Result<(String, Zeroizing<String>), KeyProblem> {
    if let Ok(pem) = std::env::var(ENGINE_KEY_VARIABLE) {
        return Ok((format!("${ENGINE_KEY_VARIABLE}"), Zeroizing::new(pem)));
    }
    let pem = private_file(checkout, ENGINE_KEY_PATH)?;
    let source = || format!("{ENGINE_KEY_PATH} or ${ENGINE_KEY_VARIABLE}");
    let missing = || KeyProblem::Missing { source: source() };
    pem.map(|pem| (ENGINE_KEY_PATH.to_owned(), pem)).ok_or_else(missing)
}

fn private_file(checkout: &Checkout, path: &str) -> Result<Option<Zeroizing<String>>, KeyProblem> {
    let unusable = |problem: String| KeyProblem::Unusable { source: path.to_owned(), problem };
    match checkout.read_private(path) {
        Ok(None) => Ok(None),
        Ok(Some(found)) => match String::from_utf8(found.bytes.to_vec()) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(_) => Err(unusable("it is not UTF-8".to_owned())),
        },
        Err(error) => Err(unusable(error.to_string())),
    }
}

fn usable(source: &str, pem: &str) -> Result<PrivateKey, KeyProblem> {
    PrivateKey::from_pem(pem)
        .map_err(|error| KeyProblem::Unusable { source: source.to_owned(), problem: error.to_string() })
}
