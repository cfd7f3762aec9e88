//! Looks into clusters through the contexts of a kubeconfig.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::timeout;

use crate::cluster::access::AccessError;
use crate::onboarding::asking::{Asking, of_client};
use crate::onboarding::survey::{Looked, Unreachable};
use crate::types::time::Timestamp;

/// A connection to the apiserver.
const CONNECT: Duration = Duration::from_secs(5);
/// All questions to one cluster.
const ALL: Duration = Duration::from_secs(45);

/// The contexts of kubeconfigs, their names sorted, and what leads to each.
pub struct Contexts {
    kubeconfig: Kubeconfig,
}

impl Contexts {
    /// Those of a file; else those of `$KUBECONFIG`, or of `~/.kube/config`. Nobody is asked yet.
    pub fn read(file: Option<&Path>) -> Result<Self, AccessError> {
        let read = match file {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let path =
            file.map_or_else(|| "of $KUBECONFIG or ~/.kube/config".to_owned(), |path| path.display().to_string());
        let kubeconfig = read.map_err(|source| AccessError::Kubeconfig { path, source })?;
        Ok(Self { kubeconfig })
    }

    /// Their names, sorted.
    pub fn names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.kubeconfig.contexts.iter().map(|context| &context.name).collect();
        names.into_iter().cloned().collect()
    }

    /// What the cluster of a context shows, at a time.
    pub async fn look(&self, context: &str, now: Timestamp) -> Looked {
        let asked = timeout(ALL, async {
            let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
            let config = Config::from_custom_kubeconfig(self.kubeconfig.clone(), &options).await;
            let mut config = config.map_err(|error| Unreachable::Kubeconfig(error.into()))?;
            config.connect_timeout = Some(CONNECT);
            let server = config.cluster_url.to_string();
            let client = Client::try_from(config).map_err(of_client)?;
            let asking = Asking::new(client);
            Ok::<_, Unreachable>(match asking.survey(context, &server, now).await? {
                Some(survey) => Looked::Istio(Box::new(survey)),
                None => Looked::NoIstio,
            })
        });
        match asked.await {
            Ok(Ok(looked)) => looked,
            Ok(Err(reason)) => Looked::Unreachable(reason),
            Err(_) => Looked::Unreachable(Unreachable::Late(ALL)),
        }
    }
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contexts({:?}, [redacted])", self.names())
    }
}
