//! TLS in front of servers, since a role asks no apiserver without it.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Accepts TLS with this certificate and key, PEM, and offers these protocols.
pub(crate) fn acceptor((certificate, key): (&str, &str), alpn: &[&[u8]]) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Serves over TLS what a plain server answers; gives its URL.
pub(crate) async fn over_tls(plain: &http::Uri, certificate: (&str, &str)) -> String {
    let plain = plain.authority().unwrap().to_string();
    let acceptor = acceptor(certificate, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                let (Ok(mut from), Ok(mut to)) = (acceptor.accept(stream).await, TcpStream::connect(plain).await)
                else {
                    return;
                };
                drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
            });
        }
    });
    format!("https://{address}")
}
