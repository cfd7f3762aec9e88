//! Signing tokens for private metadata: in whose name, with which key, for how long.
//!
//! A cluster of the checkout knows the engine's key as one of its own, so the engine speaks there in the cluster's own name.
//! Any other peer knows its readers only: the engine speaks in the name of one of them, which publishes the engine's key
//! beside its own. Deckhouse knows nothing but `authnKeyPub`, so there the reader's own key has to sign.

use std::time::Duration;

use crate::model::keyring::{KeyProblem, Keyring};
use crate::model::lock::Lock;
use crate::model::mesh::{Cluster, Mesh, Reconciler};
use crate::types::key::{KeyId, PrivateKey};
use crate::types::name::{ClusterName, ClusterUuid};
use crate::types::time::Timestamp;
use crate::types::token::{Claims, ISSUER, METADATA_LIFETIME, Scope, Token, mint, mint_unique};

/// By how much a token begins before now, so that a callee whose clock is slow admits it.
const EARLY: Duration = Duration::from_secs(5);

/// Signs tokens that open private metadata.
pub trait Signer {
    /// A token for a cluster that published this UUID. The error says which key is missing.
    fn token(&self, cluster: &Cluster, uuid: &ClusterUuid) -> Result<Token, KeyProblem>;
}

/// The engine as a signer. Its keys were read by whoever began the run, who also gives the clock.
pub struct EngineSigner<'a> {
    pub mesh: &'a Mesh,
    /// What is accepted: readers are those it knows.
    pub lock: &'a Lock,
    pub keyring: &'a Keyring,
    /// The time, asked for each token: many slow peers can outlast a token.
    pub clock: &'a (dyn Fn() -> Timestamp + Sync),
}

impl Signer for EngineSigner<'_> {
    fn token(&self, cluster: &Cluster, uuid: &ClusterUuid) -> Result<Token, KeyProblem> {
        let reader = || {
            self.readers(&cluster.name)
                .into_iter()
                .next()
                .map(|(_, reader)| reader)
                .ok_or_else(|| KeyProblem::NoReader { peer: cluster.name.clone() })
        };
        match cluster.reconciler {
            Reconciler::Rendered => {
                let (id, key) = self.keyring.engine.as_ref().map_err(Clone::clone)?;
                Ok(self.mint(uuid, uuid, key, Some(id)))
            }
            Reconciler::External => match &self.keyring.engine {
                Ok((id, key)) => Ok(self.mint(uuid, &reader()?, key, Some(id))),
                Err(missing) => self.as_reader(cluster, uuid).ok_or_else(|| missing.clone()),
            },
            Reconciler::Deckhouse => {
                self.as_reader(cluster, uuid).ok_or_else(|| KeyProblem::OnlyClusterKeys { peer: cluster.name.clone() })
            }
        }
    }
}

impl EngineSigner<'_> {
    /// Known clusters of this checkout that read the cluster, in order of their names.
    fn readers(&self, cluster: &ClusterName) -> Vec<(ClusterName, ClusterUuid)> {
        let known = self.lock.clusters.iter().filter(|(name, _)| {
            let ours = self.mesh.clusters.get(*name).is_some_and(Cluster::is_ours);
            ours && (self.mesh.links(name, cluster) || self.lock.link(name, cluster).is_some())
        });
        known.map(|(name, locked)| (name.clone(), locked.public.cluster_uuid.clone())).collect()
    }

    /// A token in the name of the first reader whose own key is here, which every kind of peer understands.
    fn as_reader(&self, cluster: &Cluster, uuid: &ClusterUuid) -> Option<Token> {
        let mut readers = self.readers(&cluster.name).into_iter();
        readers.find_map(|(name, reader)| Some(self.mint(uuid, &reader, self.own_key(&name)?, None)))
    }

    /// The private half of the key that a cluster is recorded with: another would sign what every peer refuses.
    fn own_key(&self, reader: &ClusterName) -> Option<&PrivateKey> {
        let recorded = &self.lock.clusters.get(reader)?.public.authn_key;
        self.keyring.clusters.get(reader)?.as_ref().ok().filter(|key| key.public() == recorded)
    }

    fn mint(&self, audience: &ClusterUuid, subject: &ClusterUuid, key: &PrivateKey, id: Option<&KeyId>) -> Token {
        let begin = (self.clock)() - EARLY;
        let claims = Claims {
            aud: audience.to_string(),
            exp: begin + METADATA_LIFETIME,
            iss: ISSUER.to_owned(),
            nbf: begin,
            scope: Scope::PrivateMulticluster,
            sub: subject.to_string(),
        };
        // two runs of one second would make the same token, and the second would be refused as a replay
        let mut unique = [0; 16];
        match aws_lc_rs::rand::fill(&mut unique) {
            Ok(()) => mint_unique(key, &claims, id, u128::from_be_bytes(unique)),
            Err(_) => mint(key, &claims, id),
        }
    }
}
