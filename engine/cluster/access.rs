//! How a role reaches the apiserver of its own cluster.

use std::path::Path;
use std::time::Duration;

use kube::config::InClusterError;
use kube::{Client, Config};

use crate::cluster::kubeconfig::{ApiserverAccess, Kubeconfig, KubeconfigFault};
use crate::cluster::proxy::Environment;
use crate::types::text::shown_text;

/// How long a connection to the apiserver may take to come up.
const CONNECT: Duration = Duration::from_secs(3);

/// Why the apiserver cannot even be addressed. Whether it answers shows later, and is waited for.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig, or its current context, cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigFault),
    /// It says what no role does.
    #[error("a role does not use the kubeconfig {path}: {refused}")]
    Unfit { path: String, refused: UnfitForRole },
    /// There is no kubeconfig, and this is no pod.
    #[error("cannot find this cluster's apiserver: {0}; outside a pod, name a kubeconfig with --kubeconfig")]
    InCluster(#[source] InClusterError),
    /// Its TLS settings or credentials cannot be used.
    #[error("cannot make a client for the apiserver {server}: {source}; correct the kubeconfig")]
    Client { server: String, source: kube::Error },
}

/// What a role does not take from a kubeconfig: whoever writes the file could run programs in its place, or read its
/// credential and answer for its apiserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitForRole {
    #[error(
        "its user has a credential plugin (`exec`), and roles run no programs; give it a token file or a client certificate"
    )]
    Plugin,
    #[error("its user has an `auth-provider`; give it a token file or a client certificate")]
    AuthProvider,
    #[error("its cluster has `insecure-skip-tls-verify`; give it the apiserver's CA")]
    Unverified,
    #[error("its cluster has a `proxy-url`, and a role asks its apiserver directly; remove it")]
    Proxy,
    #[error("its server is no https:// URL; a token would be sent in clear text")]
    NotHttps,
}

fn fit(way: &ApiserverAccess) -> Result<(), UnfitForRole> {
    if way.plugin.is_some() {
        return Err(UnfitForRole::Plugin);
    }
    if way.has_auth_provider {
        return Err(UnfitForRole::AuthProvider);
    }
    if way.config.accept_invalid_certs {
        return Err(UnfitForRole::Unverified);
    }
    if way.proxy.is_some() {
        return Err(UnfitForRole::Proxy);
    }
    if way.config.cluster_url.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return Err(UnfitForRole::NotHttps);
    }
    Ok(())
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
                // a role asks its own apiserver, without what the environment says of proxies
                let way = Kubeconfig::read(Some(path))?.way(None, &Environment::default())?;
                let refused = |refused| AccessError::Unfit { path: shown_text(&path.display().to_string()), refused };
                fit(&way).map_err(refused)?;
                way.config
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

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(server: &str, cluster: &str, user: &str) -> Option<UnfitForRole> {
        let mut kubeconfig = Kubeconfig::default();
        let text = format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: '{server}'{cluster}}}}}]\nusers: [{{name: a, user: {{{user}}}}}]\n"
        );
        kubeconfig.add(Path::new("kubeconfig"), text.as_bytes()).unwrap();
        fit(&kubeconfig.way(None, &Environment::default()).unwrap()).err()
    }

    #[test]
    fn a_role_runs_no_program_and_asks_its_own_apiserver_alone() {
        const HTTPS: &str = "https://10.96.0.1";
        let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/aws}";
        for (server, cluster, user, expected) in [
            (HTTPS, "", "token: x", None),
            (HTTPS, "", "", None),
            (HTTPS, "", exec, Some(UnfitForRole::Plugin)),
            (HTTPS, "", "auth-provider: {name: oidc, config: {id-token: x}}", Some(UnfitForRole::AuthProvider)),
            (HTTPS, "", "token: x, auth-provider: {name: gcp}", Some(UnfitForRole::AuthProvider)),
            (HTTPS, ", insecure-skip-tls-verify: true", "token: x", Some(UnfitForRole::Unverified)),
            (HTTPS, ", insecure-skip-tls-verify: false", "token: x", None),
            (HTTPS, ", proxy-url: 'http://127.0.0.1:1'", "token: x", Some(UnfitForRole::Proxy)),
            ("http://10.96.0.1", "", "token: x", Some(UnfitForRole::NotHttps)),
            ("10.96.0.1:6443", "", "token: x", Some(UnfitForRole::NotHttps)),
        ] {
            assert_eq!(unfit(server, cluster, user), expected, "{server} {cluster} {user}");
        }
    }
}
