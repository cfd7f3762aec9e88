//! The cluster's key and its serving CA: Secret `isthmus-authn`, born here once.
//!
//! The Secret is created and never replaced. Of two relays that begin together the apiserver lets one create it, and the
//! other reads that one's. Peers know the cluster by this key, so one that cannot be read is an error for a person to mend,
//! and no reason to make another; one that was deleted while a relay ran is written again as it was.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::crypto::SecureRandom;
use zeroize::Zeroizing;

use crate::roles::relay::issue::{IssueError, IssuingCa};
use crate::roles::relay::store;
use crate::roles::relay::store::{Store, StoreError, WriteOutcome};
use crate::types::key::{KeyError, PrivateKey};
use crate::types::name::ClusterUuid;
use crate::types::time::Timestamp;

/// Name of the Secret.
pub(super) const AUTHN: &str = "isthmus-authn";
const KEY: &str = "key.pem";
const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
/// How often a Secret that was created and deleted by others is looked for.
const ATTEMPTS: usize = 5;

/// The cluster's key and its serving CA.
pub(super) struct Authn {
    pub(super) key: PrivateKey,
    pub(super) authority: IssuingCa,
}

impl fmt::Debug for Authn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authn([redacted])")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySecretError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "Secret `{AUTHN}` is broken: `{field}`: {source}; put it back as it was, since peers know this cluster by its key; \
         only if it is lost for good, delete it, and every peer has to accept the new key"
    )]
    Broken { field: &'static str, source: SecretFieldFault },
    #[error("cannot make a key: the system gives no random bytes")]
    NoRandom,
    #[error("cannot make a key: {0}")]
    Key(#[source] KeyError),
    #[error("cannot make a key: {0}")]
    Authority(#[source] IssueError),
    #[error("Secret `{AUTHN}` is created and deleted again by another client; find out which")]
    Unsteady,
}

/// What is wrong with a field of the Secret. Nothing of its value is in here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SecretFieldFault {
    #[error("it is missing")]
    Missing,
    #[error("it is no text")]
    NotText,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Authority(#[from] IssueError),
}

/// The key as the cluster has it. When there is none, `held` is written, or else a new one.
pub(super) async fn ensure(
    store: &Store,
    uuid: &ClusterUuid,
    held: Option<&Authn>,
    now: Timestamp,
) -> Result<Authn, KeySecretError> {
    for _ in 0..ATTEMPTS {
        if let Some(secret) = store::read(&store.secrets, AUTHN).await? {
            return parse(&secret);
        }
        let made;
        let authn = if let Some(held) = held {
            held
        } else {
            made = make(uuid, now)?;
            &made
        };
        if store::create(&store.secrets, AUTHN, &secret(store, authn)?).await? == WriteOutcome::Done {
            tracing::info!(key = %authn.key.public().id(), again = held.is_some(), "wrote Secret {AUTHN}");
        }
        // read in any case: what counts is what the apiserver holds
    }
    Err(KeySecretError::Unsteady)
}

fn make(uuid: &ClusterUuid, now: Timestamp) -> Result<Authn, KeySecretError> {
    let mut seed = Zeroizing::new([0; 32]);
    let random: &dyn SecureRandom = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(seed.as_mut_slice()).map_err(|_| KeySecretError::NoRandom)?;
    let key = PrivateKey::generate(&seed).map_err(KeySecretError::Key)?;
    let authority = IssuingCa::new(&format!("isthmus {uuid}"), now).map_err(KeySecretError::Authority)?;
    Ok(Authn { key, authority })
}

fn secret(store: &Store, authn: &Authn) -> Result<Secret, KeySecretError> {
    let key = authn.key.to_pem().map_err(KeySecretError::Key)?;
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data: BTreeMap<_, _> = [
        (KEY.to_owned(), bytes(&key)),
        (CA.to_owned(), bytes(authn.authority.pem())),
        (CA_KEY.to_owned(), bytes(authn.authority.key_pem())),
    ]
    .into();
    Ok(Secret { metadata: store.own(AUTHN), data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() })
}

fn parse(secret: &Secret) -> Result<Authn, KeySecretError> {
    let text = |field: &'static str| {
        let value = secret.data.as_ref().and_then(|data| data.get(field));
        let value = value.ok_or(KeySecretError::Broken { field, source: SecretFieldFault::Missing })?;
        let text = std::str::from_utf8(&value.0)
            .map_err(|_| KeySecretError::Broken { field, source: SecretFieldFault::NotText });
        text.map(|text| Zeroizing::new(text.to_owned()))
    };
    let key = PrivateKey::from_pem(&text(KEY)?);
    let key = key.map_err(|error| KeySecretError::Broken { field: KEY, source: error.into() })?;
    let authority = IssuingCa::read(&text(CA)?, text(CA_KEY)?).map_err(|error| {
        let field = match error {
            IssueError::Key(_) => CA_KEY,
            IssueError::Certificate(_) | IssueError::Issue(_) => CA,
        };
        KeySecretError::Broken { field, source: error.into() }
    })?;
    Ok(Authn { key, authority })
}
