//! Signing tokens for private metadata: in whose name, with which key, for how long.
//!
//! A cluster of the checkout knows the engine's key as one of its own, so the engine speaks there in the cluster's own name.
//! Any other peer knows its readers only: the engine speaks in the name of one of them, which publishes the engine's key
//! beside its own. Deckhouse knows nothing but `authnKeyPub`, whose private half never leaves the reader: its relay reads there. An
//! agent signs with that key itself.

use crate::cluster::metadata_token::metadata_token;
use crate::model::keyring::{KeyProblem, Keyring};
use crate::model::known::is_deckhouse;
use crate::model::lock::Lock;
use crate::model::mesh::{Cluster, Mesh, Reconciler};
use crate::types::key::{KeyId, PrivateKey};
use crate::types::name::{ClusterName, ClusterUuid};
use crate::types::time::Timestamp;
use crate::types::token::Token;

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
        let locked = self.lock.clusters.get(&cluster.name).map(|locked| &locked.public);
        if is_deckhouse(cluster, locked) && !self.mesh.inside {
            return Err(KeyProblem::OnlyClusterKeys { peer: cluster.name.clone() });
        }
        let (id, key) = self.keyring.engine.as_ref().map_err(Clone::clone)?;
        // only to its own engine a cluster shows how far a hand-over is, and all that it reads
        let locked = self.lock.clusters.get(&cluster.name);
        let is_handed_over =
            cluster.hands_over_to().is_some() || locked.is_some_and(|locked| locked.hand_over.is_some());
        let subject = match cluster.reconciler {
            Reconciler::Rendered | Reconciler::Agent => uuid,
            Reconciler::External if is_handed_over => uuid,
            Reconciler::External | Reconciler::Deckhouse => {
                self.reader_of(&cluster.name).ok_or_else(|| KeyProblem::NoReader { peer: cluster.name.clone() })?
            }
        };
        Ok(self.mint(uuid, subject, key, Some(id)))
    }
}

impl EngineSigner<'_> {
    /// The first known cluster of this checkout that reads the cluster.
    fn reader_of(&self, cluster: &ClusterName) -> Option<&ClusterUuid> {
        let mut known = self.lock.clusters.iter().filter(|(name, _)| {
            let ours = self.mesh.clusters.get(*name).is_some_and(Cluster::is_ours);
            ours && (self.mesh.links(name, cluster) || self.lock.link(name, cluster).is_some())
        });
        known.next().map(|(_, locked)| &locked.public.cluster_uuid)
    }

    fn mint(&self, audience: &ClusterUuid, subject: &ClusterUuid, key: &PrivateKey, id: Option<&KeyId>) -> Token {
        metadata_token(key, audience, subject, id, (self.clock)())
    }
}
