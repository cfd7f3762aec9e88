//! How a role reaches the apiserver of its own cluster.

use std::path::Path;
use std::time::Duration;

use kube::config::InClusterError;
use kube::{Client, Config};

use crate::cluster::kubeconfig::{Kubeconfig, KubeconfigFault};
use crate::cluster::proxy::Environment;

/// How long a connection to the apiserver may take to come up.
const CONNECT: Duration = Duration::from_secs(3);

/// Why the apiserver cannot even be addressed. Whether it answers shows later, and is waited for.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig, or its current context, cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigFault),
    /// There is no kubeconfig, and this is no pod.
    #[error("cannot find this cluster's apiserver: {0}; outside a pod, name a kubeconfig with --kubeconfig")]
    InCluster(#[source] InClusterError),
    /// Its TLS settings or credentials cannot be used.
    #[error("cannot make a client for the apiserver {server}: {source}; correct the kubeconfig")]
    Client { server: String, source: kube::Error },
}

/// The apiserver of the role's own cluster, and the role's own identity there.
#[derive(Clone)]
pub struct Access {
    /// Reads and writes objects.
    pub client: Client,
    /// Address, CA and credentials.
    pub config: Config,
}

impl Access {
    /// From a kubeconfig, or, without one, from what every pod is given. Asks no one yet.
    pub fn open(kubeconfig: Option<&Path>) -> Result<Self, AccessError> {
        let mut config = match kubeconfig {
            Some(path) => {
                // a role asks its own apiserver, without proxies
                let way = Kubeconfig::read(Some(path))?.way(None, &Environment::default())?;
                let mut config = way.config;
                config.auth_info.exec = way.plugin.map(|plugin| plugin.lasting());
                config
            }
            None => Config::incluster().map_err(AccessError::InCluster)?,
        };
        config.connect_timeout = Some(CONNECT);
        config.proxy_url = None;
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config.clone()).map_err(|source| AccessError::Client { server, source })?;
        Ok(Self { client, config })
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({}, [redacted])", self.config.cluster_url)
    }
}
