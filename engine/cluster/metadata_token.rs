//! Tokens that open the private metadata of a cluster, whoever asks.

use std::time::Duration;

use crate::types::key::{KeyId, PrivateKey};
use crate::types::name::ClusterUuid;
use crate::types::time::Timestamp;
use crate::types::token::{Claims, ISSUER, METADATA_LIFETIME, Scope, Token, mint, mint_unique};

/// By how much a token begins before now, so that a callee whose clock is slow admits it.
const EARLY: Duration = Duration::from_secs(5);

/// A token that opens the private document of `audience`, asked for in the name of `subject`.
pub(crate) fn metadata_token(
    key: &PrivateKey,
    audience: &ClusterUuid,
    subject: &ClusterUuid,
    id: Option<&KeyId>,
    now: Timestamp,
) -> Token {
    let begin = now - EARLY;
    let claims = Claims {
        aud: audience.to_string(),
        exp: begin + METADATA_LIFETIME,
        iss: ISSUER.to_owned(),
        nbf: begin,
        scope: Scope::PrivateMulticluster,
        sub: subject.to_string(),
    };
    // two of one second would be the same, and the second would be refused as a replay
    let mut unique = [0; 16];
    match aws_lc_rs::rand::fill(&mut unique) {
        Ok(()) => mint_unique(key, &claims, id, u128::from_be_bytes(unique)),
        Err(_) => mint(key, &claims, id),
    }
}
