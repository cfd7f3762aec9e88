//! What all in-cluster roles have in common: how they begin, are watched, and end.
//!
//! A role binds its two ports first and names them on stdout, one a line: the port it serves on, then the one for probes and
//! metrics. It answers once its start is through. On SIGTERM it says that it is not ready, answers for a little longer,
//! since load balancers need to notice, then lets requests end and exits.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::access::{Access, AccessError};
use crate::server::limits::RoleLimits;
use crate::server::telemetry;
use crate::server::telemetry::{Metrics, Page, PageSource, Readiness};
use crate::server::upstream::UpstreamError;
use crate::server::{Bound, Certificates, Handler, ServerLimits, TlsError};
use crate::types::address::Cidr;
use crate::types::name::InvalidName;
use crate::types::name::{Digest, Namespace};
use crate::types::time::Timestamp;

/// How often certificate files are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(2);

/// Why a role does not begin.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}; choose another with --{flag}")]
    Listen {
        /// The flag that says which.
        flag: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    /// The apiserver cannot be addressed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file cannot be read.
    #[error("cannot read {what} {path}: {source}")]
    File {
        /// What the file holds.
        what: &'static str,
        path: String,
        source: io::Error,
    },
    /// Signals of the system cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// Neither files nor the role itself give it a certificate.
    #[error("there is no serving certificate; name it with --tls-cert and --tls-key")]
    NoCertificate,
    /// The exporter does not know where the api-proxy is.
    #[error("peers have to know where the api-proxy is; set --api-host HOST[:PORT]")]
    NoApiHost,
    /// A host that the relay is to issue a certificate for is none.
    #[error("--{flag}: {source}")]
    Host {
        /// The flag that names it.
        flag: &'static str,
        source: InvalidName,
    },
    /// The process was to end before its start was through.
    #[error("asked to end before there was a key")]
    Ended,
    /// The role has nothing to show its apiserver.
    #[error(
        "the kubeconfig holds neither a token, nor a token file, nor a client certificate; give the role one of them"
    )]
    NoCredential,
    /// The role's own token is none.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// The apiserver cannot be used.
    #[error("cannot use the apiserver {url}: {source}")]
    Apiserver { url: String, source: ApiserverError },
}

/// Why a text is no token of a role's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("the role's own token is empty")]
    Empty,
    /// No header can carry it.
    #[error("the role's own token has characters that no token has")]
    Characters,
}

/// Why the apiserver of the role's own cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ApiserverError {
    /// Its URL is not one of HTTPS.
    #[error("it has to be reached by https://")]
    NotHttps,
    /// Its host, or the name that its certificate is to be for.
    #[error(transparent)]
    Host(#[from] UpstreamError),
    /// The TLS settings of the kubeconfig.
    #[error(transparent)]
    Tls(#[from] kube::Error),
}

/// Where the serving certificate is.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Options of every role.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Kubeconfig of its own cluster; without one, what a pod is given.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of Istio and of the role.
    pub namespace: Namespace,
    pub listen: SocketAddr,
    /// Where probes and metrics are.
    pub metrics_listen: SocketAddr,
    /// Its serving certificate, where files hold it.
    pub tls: Option<TlsFiles>,
    pub limits: RoleLimits,
    /// Load balancers, whose connections begin with a PROXY header.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether answers may take as long as they like.
    pub streaming: bool,
}

/// What a role has to work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Role {
    /// Namespace of Istio and of the role.
    pub namespace: Namespace,
    pub limits: RoleLimits,
    /// Its own cluster's apiserver.
    pub access: Access,
    pub metrics: Metrics,
    /// Whether it is ready.
    pub health: Readiness,
    /// Whether it is to end.
    pub stopping: Stopping,
    /// Its serving certificate, where files hold it.
    pub tls: Option<TlsFiles>,
    /// What it shows beside its metrics to other roles of its cluster.
    pub pages: RolePages,
    /// Connections come through a trusted proxy, which may say for whom.
    pub behind_proxy: bool,
}

impl Role {
    /// A role that serves what it is given a certificate for by its cluster, and is reached directly; and what ends it.
    pub fn new(namespace: Namespace, limits: RoleLimits, access: Access) -> (Self, StopSignal) {
        let (end, stopping) = StopSignal::new();
        let (metrics, health, pages) = (Metrics::new(), Readiness::default(), RolePages::default());
        (Self { namespace, limits, access, metrics, health, stopping, tls: None, pages, behind_proxy: false }, end)
    }
}

/// Pages of a role on its second port, once it has any.
#[derive(Clone, Default)]
pub struct RolePages(Arc<OnceLock<PageSource>>);

impl RolePages {
    /// Shows these pages from now on; those that are shown first stay.
    pub(crate) fn show(&self, pages: PageSource) {
        drop(self.0.set(pages));
    }

    /// The page at a path.
    pub fn at(&self, path: &str) -> Option<Page> {
        self.0.get()?(path)
    }
}

impl std::fmt::Debug for RolePages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RolePages").finish_non_exhaustive()
    }
}

/// What a role's start gives.
#[derive(Debug)]
pub struct Service<H> {
    pub handler: Arc<H>,
    /// What handshakes are shown.
    pub certificates: Certificates,
}

/// Whether the process is to end.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

/// Says that the process is to end.
#[derive(Debug)]
pub struct StopSignal(watch::Sender<bool>);

impl StopSignal {
    /// A signal, and its receiving end.
    pub fn new() -> (Self, Stopping) {
        let (stop, seen) = watch::channel(false);
        (Self(stop), Stopping(seen))
    }

    /// From now on everything ends.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Waits until the process is to end. A dropped [`StopSignal`] is one that was requested.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        drop(receiver.wait_for(|stop| *stop).await);
    }

    /// Whether it is to end.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl Role {
    /// The certificate of `--tls-cert` and `--tls-key`, which is read again when the files change.
    pub fn certificates_from_files(&self) -> Result<Certificates, RoleError> {
        let Some(files) = self.tls.clone() else {
            return Err(RoleError::NoCertificate);
        };
        let (chain, key) = read_pair(&files)?;
        let certificates = Certificates::from_pem(&chain, &key)?;
        let seen = digest(&chain, &key);
        tokio::spawn(watch_files(files, certificates.clone(), seen, self.stopping.clone()));
        Ok(certificates)
    }
}

fn read(what: &'static str, path: &Path) -> Result<String, RoleError> {
    std::fs::read_to_string(path).map_err(|source| RoleError::File { what, path: path.display().to_string(), source })
}

fn read_pair(files: &TlsFiles) -> Result<(String, zeroize::Zeroizing<String>), RoleError> {
    let chain = read("the serving certificate", &files.certificate)?;
    Ok((chain, zeroize::Zeroizing::new(read("the serving key", &files.key)?)))
}

fn digest(chain: &str, key: &str) -> Digest {
    Digest::of(format!("{}{}", Digest::of(chain.as_bytes()), Digest::of(key.as_bytes())).as_bytes())
}

/// Shows the certificate that is in the files. A pair that does not fit is one half of a change: the old one stays.
async fn watch_files(files: TlsFiles, certificates: Certificates, mut seen: Digest, stopping: Stopping) {
    let mut last_error = None;
    while !stopping.is_requested() {
        sleep(CERTIFICATES_EVERY).await;
        let outcome = read_pair(&files).and_then(|(chain, key)| {
            let found = digest(&chain, &key);
            if found != seen {
                certificates.replace(&chain, &key)?;
                tracing::info!(file = %files.certificate.display(), "serving another certificate from now on");
                seen = found;
            }
            Ok(())
        });
        let problem = outcome.err().map(|error| error.to_string());
        if problem != last_error {
            if let Some(problem) = &problem {
                tracing::warn!(problem, "the serving certificate stays as it was");
            }
            last_error = problem;
        }
    }
}

/// Keeps private keys and tokens out of core dumps, and other processes of its user out of its memory.
fn protect_memory() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // where the system has no such limit there is nothing to keep the role from serving
    let _best_effort = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    let _best_effort = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Runs a role until SIGTERM or SIGINT. `announce` gets the two bound addresses, one a line.
pub async fn run<H, F>(
    settings: Settings,
    announce: impl FnOnce(&str),
    start: impl FnOnce(Role) -> F,
) -> Result<(), RoleError>
where
    H: Handler,
    F: Future<Output = Result<Service<H>, RoleError>>,
{
    protect_memory();
    let listen = |flag, address| move |source| RoleError::Listen { flag, address, source };
    let bound = Bound::to(settings.listen).await.map_err(listen("listen", settings.listen))?;
    let (probes, second) =
        telemetry::bind(settings.metrics_listen).await.map_err(listen("metrics-listen", settings.metrics_listen))?;
    announce(&format!("{}\n{second}\n", bound.address()));
    let mut terminate = signal(SignalKind::terminate()).map_err(RoleError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RoleError::Signals)?;

    let Settings { kubeconfig, namespace, limits, tls, trusted_proxies, streaming, .. } = settings;
    let behind_proxy = !trusted_proxies.is_empty();
    let (lame_duck, server_limits) = (limits.lame_duck, ServerLimits { trusted_proxies, ..limits.server(streaming) });
    let (role, end) = Role::new(namespace, limits, Access::open(kubeconfig.as_deref())?);
    let role = Role { tls, behind_proxy, ..role };
    let (health, pages) = (role.health.clone(), role.pages.clone());
    let source: PageSource = Arc::new(move |path| pages.at(path));
    tokio::spawn(telemetry::serve_with(probes, role.metrics.clone(), health.clone(), source));
    let service = tokio::select! {
        started = start(role) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let handler = service.handler.clone();
    let running = bound.serve(&service.certificates, server_limits, service.handler);
    tracing::info!(address = %running.address(), "serving");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending: no longer ready, and answering for {lame_duck:?} more");
    health.fails("ending", "the process was asked to end");
    let ending = async {
        sleep(lame_duck).await;
        end.request();
        running.stop().await;
        handler.finish().await;
    };
    // a second signal ends at once
    tokio::select! {
        () = ending => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

pub(crate) fn now() -> Timestamp {
    jiff::Timestamp::now().into()
}
