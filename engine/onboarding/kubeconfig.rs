//! Looks into clusters through the contexts of a kubeconfig.

use std::path::Path;
use std::time::Duration;

use kube::Client;
use tokio::time::timeout;

use crate::cluster::kubeconfig::{Hidden, Kubeconfig, KubeconfigFault};
use crate::cluster::proxy::Environment;
use crate::cluster::unread::ReadError;
use crate::onboarding::asking::Asking;
use crate::onboarding::survey::{Surveyed, Unreachable};
use crate::types::time::Timestamp;

/// A connection to the apiserver.
const CONNECT: Duration = Duration::from_secs(5);
/// All questions to one cluster.
const ALL: Duration = Duration::from_secs(45);

/// The contexts of kubeconfigs, and what leads to each.
#[derive(Debug)]
pub struct Contexts {
    kubeconfig: Kubeconfig,
    environment: Environment,
}

impl Contexts {
    /// Those of a file; else those of `$KUBECONFIG`, or of `~/.kube/config`. No one is asked yet.
    pub fn read(file: Option<&Path>) -> Result<Self, KubeconfigFault> {
        Ok(Self { kubeconfig: Kubeconfig::read(file)?, environment: Environment::read() })
    }

    /// Names of the contexts, sorted.
    pub fn names(&self) -> Vec<String> {
        self.kubeconfig.contexts()
    }

    /// What is in a file of the list and counts for nothing.
    pub fn hidden(&self) -> &[Hidden] {
        self.kubeconfig.hidden()
    }

    /// What the cluster of a context shows, at a time.
    pub async fn survey(&self, context: &str, now: Timestamp) -> Surveyed {
        let way = match self.kubeconfig.way(Some(context), &self.environment) {
            Ok(way) => way,
            Err(fault) => return Surveyed::Unreachable(fault.into()),
        };
        let mut config = way.config;
        // the plugin has a deadline of its own
        if let Some(plugin) = way.plugin
            && let Err(fault) = plugin.ask(&mut config.auth_info).await
        {
            return Surveyed::Unreachable(fault.into());
        }
        let asked = timeout(ALL, async {
            config.connect_timeout = Some(CONNECT);
            let server = config.cluster_url.to_string();
            let client = Client::try_from(config).map_err(ReadError::from)?;
            let asking = Asking::new(client);
            Ok::<_, ReadError>(match asking.survey(context, &server, now).await? {
                Some(survey) => Surveyed::Istio(Box::new(survey)),
                None => match asking.control_planes().await {
                    Some((namespace, control_planes)) => Surveyed::Remote { namespace, control_planes },
                    None => Surveyed::NoIstio,
                },
            })
        });
        match (asked.await, way.proxy) {
            (Ok(Ok(surveyed)), _) => surveyed,
            (Ok(Err(source)), Some(proxy)) => {
                Surveyed::Unreachable(Unreachable::ThroughProxy { source, proxy: proxy.shown(), from: proxy.from })
            }
            (Ok(Err(source)), None) => Surveyed::Unreachable(source.into()),
            (Err(_), _) => Surveyed::Unreachable(Unreachable::Late(ALL)),
        }
    }
}
