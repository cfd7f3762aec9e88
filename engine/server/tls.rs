//! A server's certificate, exchangeable while it serves.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::types::cause::Cause;

/// A certificate that cannot be served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the serving certificate: {0}; give PEM, the server's own certificate first")]
    Chain(#[source] Cause<pem::Error>),
    /// The chain is empty.
    #[error(
        "cannot read the serving certificate: no `CERTIFICATE` block; give PEM, the server's own certificate first"
    )]
    NoCertificate,
    #[error("cannot read the serving key: {0}; give one PEM block with an ECDSA, Ed25519 or RSA key")]
    Key(#[source] Cause<pem::Error>),
    /// The key is of a kind we do not sign with.
    #[error("cannot read the serving key: {0}; give one PEM block with an ECDSA, Ed25519 or RSA key")]
    KeyKind(#[source] rustls::Error),
    /// Chain and key do not belong together.
    #[error("the serving key does not belong to the serving certificate: {0}; give both of one pair")]
    Pair(#[source] rustls::Error),
}

/// The certificate that new handshakes are shown.
#[derive(Clone)]
pub struct Certificates {
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Certificates {
    /// From a chain and a key, PEM.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, TlsError> {
        Ok(Self { current: Arc::new(Current(RwLock::new(Arc::new(certified(chain, key)?)))) })
    }

    /// Shows another certificate to handshakes from now on. On an error the old one stays.
    pub fn replace(&self, chain: &str, key: &str) -> Result<(), TlsError> {
        let fresh = Arc::new(certified(chain, key)?);
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        #[allow(clippy::expect_used, reason = "the provider has the suites of both versions")]
        let builder = builder
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("both versions are supported");
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates([redacted])")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn certified(chain: &str, key: &str) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Chain(error.into()))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| TlsError::Key(error.into()))?;
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(TlsError::KeyKind)?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match().map_err(TlsError::Pair)?;
    Ok(certified)
}
