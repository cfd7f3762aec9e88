//! `engine serve ROLE`: what a role is told on its command line, in a pod mostly.
#![deny(clippy::wildcard_enum_match_arm)]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::agent;
use crate::cli::unknown::unknown;
use crate::report::text::Printer;
use crate::roles::exporter;
use crate::roles::exporter::ExporterOptions;
use crate::roles::proxy;
use crate::roles::proxy::ProxyOptions;
use crate::roles::proxy::audit::AuditTarget;
use crate::roles::relay;
use crate::roles::relay::RelayOptions;
use crate::roles::role::{Role, RoleError, Service, Settings, TlsFiles, run as run_role};
use crate::server::Handler;
use crate::server::limits::{LimitError, RoleLimits};
use crate::server::log::{self, LogForm};
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::exit::Exit;
use crate::session::facts;
use crate::types::address::{ApiHost, Cidr, Gateway, listen_address};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{
    ClusterDomain, ClusterId, ClusterUuid, InvalidName, MeshId, Namespace, NetworkName, Revision, TrustDomain,
};

/// Roles.
#[derive(Debug, Subcommand)]
pub(crate) enum Serve {
    /// Publish the cluster's metadata: root CA and keys to everyone, addresses and evidence to those that
    /// ConfigMap isthmus-peers admits.
    Exporter(ExporterArgs),
    /// Let the peers that ConfigMap isthmus-peers admits read what their istiod needs of this cluster's apiserver.
    Proxy(ProxyArgs),
    /// Hold the cluster's private key and connect its istiod to the api-proxies of peers.
    Relay(RelayArgs),
    /// Join the cluster with the peers that IstioMulticluster objects declare, and be its relay.
    Agent(RelayArgs),
    /// Roles that this version does not have.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Options of every role.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Kubeconfig of the role's own cluster; in a pod, what the pod is given.
    #[arg(long, value_name = "FILE", env = "ISTHMUS_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Namespace of Istio and of the role.
    #[arg(long, default_value = "istio-system", env = "ISTHMUS_NAMESPACE")]
    pub(crate) namespace: Namespace,
    /// Where it serves, over TLS; port 0 takes a free one. The bound address is the first line on stdout.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8443", value_parser = listen_address, env = "ISTHMUS_LISTEN")]
    pub(crate) listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are, in plain HTTP. The bound address is the second line on stdout.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:9090", value_parser = listen_address, env = "ISTHMUS_METRICS_LISTEN")]
    pub(crate) metrics_listen: SocketAddr,
    /// The serving certificate's chain, PEM; read again when it changes.
    #[arg(long, value_name = "FILE", env = "ISTHMUS_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", env = "ISTHMUS_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A load balancer, or a range of them, whose connections begin with a PROXY header (version 1 or 2), in front of TLS; one
    /// without it is closed. May be given several times.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "ISTHMUS_TRUSTED_PROXY")]
    pub(crate) trusted_proxy: Vec<Cidr>,
    /// Log format; logs go to stderr.
    #[arg(long, value_enum, default_value_t = Log::Text, env = "ISTHMUS_LOG")]
    pub(crate) log: Log,
    /// Log filter, such as `info,isthmus=debug`.
    #[arg(long, value_name = "FILTER", env = "ISTHMUS_LOG_FILTER")]
    pub(crate) log_filter: Option<String>,
    /// Set a limit, such as `watch=10m` or `rate-per-peer=50/100`; may be given several times. docs/reference/limits.md
    /// lists them.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', env = "ISTHMUS_LIMIT")]
    pub(crate) limit: Vec<String>,
}

/// Form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Log {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Arguments of `serve exporter`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ExporterArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Path before `public/` and `private/`; `/` for none.
    #[arg(long, value_name = "PATH", default_value = "/metadata", env = "ISTHMUS_PATH_PREFIX")]
    pub(crate) path_prefix: String,
    /// Public address of the api-proxy.
    #[arg(long, value_name = "HOST[:PORT]", env = "ISTHMUS_API_HOST")]
    pub(crate) api_host: Option<ApiHost>,
    /// A gateway to publish instead of those that are found; may be given several times.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = gateway, value_delimiter = ',', env = "ISTHMUS_GATEWAY")]
    pub(crate) gateway: Vec<Gateway>,
    /// Pods of all clusters reach each other without gateways.
    #[arg(long, env = "ISTHMUS_FLAT_NETWORK")]
    pub(crate) flat_network: bool,
    /// DNS domain of the cluster.
    #[arg(long, value_name = "DOMAIN", env = "ISTHMUS_CLUSTER_DOMAIN")]
    pub(crate) cluster_domain: Option<ClusterDomain>,
    /// Cluster ID; else what istiod runs with.
    #[arg(long, value_name = "ID", env = "ISTHMUS_CLUSTER_ID")]
    pub(crate) cluster_id: Option<ClusterId>,
    /// Network; else the label of Istio's namespace.
    #[arg(long, value_name = "NAME", env = "ISTHMUS_NETWORK")]
    pub(crate) network: Option<NetworkName>,
    /// Mesh ID.
    #[arg(long, value_name = "ID", env = "ISTHMUS_MESH_ID")]
    pub(crate) mesh_id: Option<MeshId>,
    /// UUID; else the UID of kube-system.
    #[arg(long, value_name = "UUID", env = "ISTHMUS_CLUSTER_UUID")]
    pub(crate) cluster_uuid: Option<ClusterUuid>,
    /// A token of audience `istio-ca`, which is shown to istiod over TLS alone; else where the manifests mount it.
    #[arg(long, value_name = "FILE", env = "ISTHMUS_ISTIO_TOKEN")]
    pub(crate) istio_token: Option<PathBuf>,
}

/// Arguments of `serve proxy`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Where each request is recorded before it is answered; `-` is stdout.
    #[arg(long, value_name = "FILE", default_value = "-", env = "ISTHMUS_AUDIT_LOG")]
    pub(crate) audit_log: String,
    /// The apiserver; else the kubeconfig's server.
    #[arg(long, value_name = "URL", env = "ISTHMUS_UPSTREAM")]
    pub(crate) upstream: Option<http::Uri>,
}

/// Arguments of `serve relay` and `serve agent`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RelayArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// A name or address that the exporter's certificate is for; may be given several times.
    #[arg(long, value_name = "HOST", value_delimiter = ',', env = "ISTHMUS_EXPORTER_HOST")]
    pub(crate) exporter_host: Vec<String>,
    /// A name or address that the api-proxy's certificate is for; may be given several times.
    #[arg(long, value_name = "HOST", value_delimiter = ',', env = "ISTHMUS_PROXY_HOST")]
    pub(crate) proxy_host: Vec<String>,
    /// A revision of the cluster's istiod, whose mesh configuration is read; may be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "ISTHMUS_REVISION")]
    pub(crate) revision: Vec<Revision>,
    /// Trust domain; else what the mesh configuration says.
    #[arg(long, value_name = "DOMAIN", env = "ISTHMUS_TRUST_DOMAIN")]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// Network; else the label of Istio's namespace.
    #[arg(long, value_name = "NAME", env = "ISTHMUS_NETWORK")]
    pub(crate) network: Option<NetworkName>,
    /// UUID; else the UID of kube-system.
    #[arg(long, value_name = "UUID", env = "ISTHMUS_CLUSTER_UUID")]
    pub(crate) cluster_uuid: Option<ClusterUuid>,
    /// A pod or service range of the cluster, in which no peer is looked for; may be given several times.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "ISTHMUS_CLUSTER_CIDR")]
    pub(crate) cluster_cidr: Vec<Cidr>,
    /// Require a ServiceAccount's token of audience `isthmus-relay`.
    #[arg(long, env = "ISTHMUS_REQUIRE_TOKEN")]
    pub(crate) require_token: bool,
}

impl RelayArgs {
    fn options(&self) -> RelayOptions {
        RelayOptions {
            exporter_hosts: self.exporter_host.clone(),
            proxy_hosts: self.proxy_host.clone(),
            revisions: self.revision.clone(),
            trust_domain: self.trust_domain.clone(),
            network: self.network.clone(),
            cluster_uuid: self.cluster_uuid.clone(),
            cluster_cidrs: self.cluster_cidr.clone(),
            require_token: self.require_token,
        }
    }
}

fn gateway(text: &str) -> Result<Gateway, InvalidGateway> {
    let rule = || InvalidGateway::Form { text: text.to_owned() };
    let (address, port) = text.rsplit_once(':').ok_or_else(rule)?;
    let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    let port = port.parse().map_err(|_| rule())?;
    Ok(Gateway::new(address, port)?)
}

/// Runs a role until it is asked to end.
pub(crate) fn run(serve: &Serve, printer: &Printer) -> Result<Exit, CommandError> {
    match serve {
        Serve::Exporter(arguments) => {
            let options = ExporterOptions {
                path_prefix: arguments.path_prefix.clone(),
                api_host: arguments.api_host.clone(),
                gateways: arguments.gateway.clone(),
                flat_network: arguments.flat_network,
                cluster_domain: arguments.cluster_domain.clone(),
                cluster_id: arguments.cluster_id.clone(),
                network: arguments.network.clone(),
                mesh_id: arguments.mesh_id.clone(),
                cluster_uuid: arguments.cluster_uuid.clone(),
                istio_token: arguments.istio_token.clone(),
            };
            let limits = (RoleLimits::of_exporter(), false);
            role(&arguments.common, limits, printer, |role| exporter::start(role, options))
        }
        Serve::Proxy(arguments) => {
            let audit_log = match arguments.audit_log.as_str() {
                "-" => AuditTarget::Stdout,
                path => AuditTarget::File(path.into()),
            };
            let options = ProxyOptions { audit_log, upstream: arguments.upstream.clone() };
            role(&arguments.common, (RoleLimits::of_proxy(), true), printer, |role| proxy::start(role, options))
        }
        Serve::Relay(arguments) => {
            let options = arguments.options();
            role(&arguments.common, (RoleLimits::of_relay(), true), printer, |role| relay::start(role, options))
        }
        Serve::Agent(arguments) => {
            let options = arguments.options();
            role(&arguments.common, (RoleLimits::of_relay(), true), printer, |role| agent::start(role, options))
        }
        Serve::Other(given) => Err(unknown::<Serve>("serve ", given).into()),
    }
}

/// Runs one role with its start.
fn role<H: Handler, F: Future<Output = Result<Service<H>, RoleError>>>(
    common: &Common,
    (mut limits, streaming): (RoleLimits, bool),
    printer: &Printer,
    start: impl FnOnce(Role) -> F,
) -> Result<Exit, CommandError> {
    for limit in &common.limit {
        limits.set(limit).map_err(ServeError::Limit)?;
    }
    let form = match common.log {
        Log::Text => LogForm::Text,
        Log::Json => LogForm::Json,
    };
    log::begin(form, common.log_filter.as_deref());
    let tls = common.tls_cert.clone().zip(common.tls_key.clone());
    let settings = Settings {
        kubeconfig: common.kubeconfig.clone(),
        namespace: common.namespace.clone(),
        listen: common.listen,
        metrics_listen: common.metrics_listen,
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        limits,
        trusted_proxies: common.trusted_proxy.clone(),
        streaming,
    };
    // a second provider may have come with a dependency; ours is the one
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = facts::runtime()?;
    let run = runtime.block_on(run_role(settings, |line| printer.out(line), start));
    runtime.shutdown_background();
    run.map_err(ServeError::Role)?;
    Ok(Exit::Done)
}

/// A text that is no gateway.
#[derive(Debug, Clone, thiserror::Error)]
enum InvalidGateway {
    /// Not an address and a port.
    #[error("expected a gateway, found `{text}`; write ADDRESS:PORT, IPv6 in brackets")]
    Form {
        /// The text.
        text: String,
    },
    /// No address that a gateway may have.
    #[error(transparent)]
    Address(#[from] InvalidName),
}

/// Why a role does not run.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum ServeError {
    /// A limit that cannot be set.
    Limit(#[source] LimitError),
    /// It did not start, or ended.
    Role(#[source] RoleError),
}

impl Explain for ServeError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Limit(error) => Explanation::new(Code::InvalidArguments, error.to_string()),
            Self::Role(error) => Explanation::new(Code::RoleFailed, error.to_string()),
        }
    }
}

impl EndsCommand for ServeError {
    fn exit(&self) -> Exit {
        match self {
            Self::Limit(_) => Exit::Usage,
            Self::Role(
                RoleError::Listen { .. } | RoleError::File { .. } | RoleError::Signals(_) | RoleError::Access(_),
            ) => Exit::Machine,
            Self::Role(_) => Exit::Failed,
        }
    }
}
