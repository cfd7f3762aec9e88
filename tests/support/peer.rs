//! A peer that does what a test tells it: real TLS, then any bytes at any pace. It keeps every request's head. Its connections may
//! break at any byte.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A CA of a test.
pub(crate) struct Ca {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A serving certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for names and addresses, valid from one year to another.
    pub(crate) fn serving_between(&self, names: &[&str], from: i32, to: i32) -> Serving {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Serving { chain, key: key.serialize_pem() }
    }

    pub(crate) fn serving(&self, names: &[&str]) -> Serving {
        self.serving_between(names, 2020, 4000)
    }
}

/// One thing a peer does.
#[derive(Clone)]
pub(crate) enum PeerStep {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes one by one, with a pause after each.
    Trickle(Vec<u8>, Duration),
    /// Sends the bytes over and over until the other side has enough.
    Flood(Vec<u8>),
    /// Does nothing for ever.
    Hang,
    /// Ends TLS and the connection in order.
    End,
    /// Drops the connection.
    Close,
}

pub(crate) fn send(text: impl Into<Vec<u8>>) -> Vec<PeerStep> {
    vec![PeerStep::Send(text.into())]
}

/// A whole answer with a body, its length, and further header lines.
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<PeerStep> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    send(bytes)
}

pub(crate) fn json(body: impl AsRef<[u8]>) -> Vec<PeerStep> {
    answer("200 OK", "content-type: application/json\r\n", body)
}

/// Where a connection breaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionBreak {
    /// How many bytes of TLS are sent before.
    pub(crate) after: usize,
    /// By a reset, and else by an end.
    pub(crate) resets: bool,
}

/// Where the next connection breaks, if it is to.
type Breaks = Arc<dyn Fn() -> Option<ConnectionBreak> + Send + Sync>;

/// A connection that may break.
struct Breaking {
    stream: TcpStream,
    breaks: Breaks,
    /// Where, once there is something to send.
    at: Option<ConnectionBreak>,
    sent: usize,
    seen: Arc<PeerRecord>,
}

impl AsyncRead for Breaking {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.sent == 0 {
            self.at = (self.breaks)();
        }
        let room = self.at.map_or(bytes.len(), |at| at.after - self.sent);
        if room == 0 {
            if self.at.is_some_and(|at| at.resets) {
                self.stream.set_zero_linger()?;
            }
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..room.min(bytes.len())]))?;
        self.sent += written;
        self.seen.most_of_one.fetch_max(self.sent, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The peer.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<PeerRecord>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct PeerRecord {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    sent: AtomicU64,
    most_of_one: AtomicUsize,
}

impl Peer {
    /// Answers each request, given its head, with the steps of the script.
    pub(crate) async fn start(
        serving: &Serving,
        script: impl Fn(&str) -> Vec<PeerStep> + Send + Sync + 'static,
    ) -> Self {
        Self::start_breaking(serving, script, || None).await
    }

    /// The same, where each connection breaks as it is told.
    pub(crate) async fn start_breaking(
        serving: &Serving,
        script: impl Fn(&str) -> Vec<PeerStep> + Send + Sync + 'static,
        breaks: impl Fn() -> Option<ConnectionBreak> + Send + Sync + 'static,
    ) -> Self {
        let breaks: Breaks = Arc::new(breaks);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(serving.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, script) = (Arc::new(PeerRecord::default()), Arc::new(script));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let shared = seen.clone();
        let accepting = async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (acceptor, seen, script) = (acceptor.clone(), shared.clone(), script.clone());
                let stream = Breaking { stream, breaks: breaks.clone(), at: None, sent: 0, seen: shared.clone() };
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    seen.connections.fetch_add(1, Ordering::SeqCst);
                    seen.most_open.fetch_max(seen.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    converse(stream, &seen, script.as_ref()).await;
                    seen.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        };
        Self { address, seen, accepting: tokio::spawn(accepting) }
    }

    /// Heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Connections so far whose handshake was done.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Most connections at a time.
    pub(crate) fn most_open(&self) -> usize {
        self.seen.most_open.load(Ordering::SeqCst)
    }

    /// Most bytes of TLS that were sent on one connection.
    pub(crate) fn most_of_one(&self) -> usize {
        self.seen.most_of_one.load(Ordering::SeqCst)
    }

    /// Bytes written so far.
    pub(crate) fn sent(&self) -> u64 {
        self.seen.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn converse<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    mut stream: S,
    seen: &PeerRecord,
    script: &(dyn Fn(&str) -> Vec<PeerStep> + Send + Sync),
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        seen.requests.lock().unwrap().push(head.clone());
        for step in script(&head) {
            let done = match step {
                PeerStep::Send(bytes) => write(&mut stream, seen, &bytes).await,
                PeerStep::Trickle(bytes, pause) => {
                    let mut done = Ok(());
                    for byte in bytes {
                        done = write(&mut stream, seen, &[byte]).await;
                        if done.is_err() {
                            break;
                        }
                        tokio::time::sleep(pause).await;
                    }
                    done
                }
                PeerStep::Flood(bytes) => loop {
                    if let Err(error) = write(&mut stream, seen, &bytes).await {
                        break Err(error);
                    }
                },
                PeerStep::Hang => std::future::pending().await,
                PeerStep::End => return stream.shutdown().await.unwrap_or_default(),
                PeerStep::Close => return,
            };
            if done.is_err() {
                return;
            }
        }
    }
}

async fn write<S: AsyncWriteExt + Unpin>(stream: &mut S, seen: &PeerRecord, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    seen.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    Ok(())
}
