//! TLS towards others, for whoever asks clusters: versions, roots and protocols.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::types::cause::Cause;
use crate::types::tls_verdict::unknown_issuer;

/// What is offered by ALPN where HTTP/1.1 alone is spoken.
pub(crate) const HTTP_1: &[&[u8]] = &[b"http/1.1"];
/// What is offered where HTTP/2 is wanted and HTTP/1.1 will do.
pub(crate) const HTTP_2_OR_1: &[&[u8]] = &[b"h2", b"http/1.1"];

/// TLS 1.2 or newer towards servers that these roots vouch for, without a certificate of our own.
pub(crate) fn client(roots: Arc<RootCertStore>, protocols: &[&[u8]]) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    let verifier =
        verifier.map_err(|_| Error::General("there is no CA that servers could be verified with".to_owned()))?;
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Naming(verifier)))
        .with_no_client_auth();
    tls.alpn_protocols = offered(protocols);
    Ok(tls)
}

/// The library's verifier. Where it trusts no one that signed a certificate, the error also says whose it is.
#[derive(Debug)]
struct Naming(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Naming {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.0.verify_server_cert(certificate, intermediates, name, ocsp, now);
        verified.map_err(|error| unknown_issuer(error, certificate))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Protocols as a configuration holds them.
pub(crate) fn offered(protocols: &[&[u8]]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.to_vec()).collect()
}

/// Why roots that were given cannot be trusted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum RootsError {
    #[error(transparent)]
    Pem(Cause<pem::Error>),
    /// A certificate is none that chains are verified with.
    #[error(transparent)]
    Root(#[from] Error),
    #[error("it holds no certificate")]
    Empty,
}

/// The roots of a PEM text, at least one.
pub(crate) fn given_roots(pem: &str) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|error| RootsError::Pem(error.into()))?)?;
    }
    if roots.is_empty() { Err(RootsError::Empty) } else { Ok(roots) }
}

/// The system's roots, read once; `None` where it has none.
pub(crate) fn system_roots() -> Option<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    Some(ROOTS.get_or_init(load).clone()).filter(|roots| !roots.is_empty())
}
