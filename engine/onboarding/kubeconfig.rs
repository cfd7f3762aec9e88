//! Looks into clusters through the contexts of a kubeconfig, its own or those that an inventory lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::kubeconfig::{ApiserverAccess, Hidden, Kubeconfig, KubeconfigFault};
use crate::cluster::proxy::{Environment, HttpProxy};
use crate::cluster::unread::ReadError;
use crate::onboarding::asking::Asking;
use crate::onboarding::inventory::{Inventory, ListedAccess, ListedCluster};
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
    /// Where they were listed.
    hub: Option<Hub>,
    /// Those that were listed and lead nowhere.
    unusable: BTreeMap<String, Unreachable>,
}

/// The cluster that lists others.
#[derive(Debug)]
struct Hub {
    kubeconfig: Kubeconfig,
    /// Its context; `None`: that which is current.
    context: Option<String>,
    /// What it lists itself as.
    names: BTreeSet<String>,
}

/// A cluster that is ready to be asked, and how it is reached.
struct Opened {
    asking: Asking,
    server: String,
    proxy: Option<HttpProxy>,
}

impl Contexts {
    /// Those of a file; else those of `$KUBECONFIG`, or of `~/.kube/config`. No one is asked yet.
    pub fn read(file: Option<&Path>) -> Result<Self, KubeconfigFault> {
        let kubeconfig = Kubeconfig::read(file)?;
        Ok(Self { kubeconfig, environment: Environment::read(), hub: None, unusable: BTreeMap::new() })
    }

    /// Those of the clusters that an inventory lists in the cluster of a context; without one, of that which is current.
    pub async fn listed(self, context: Option<&str>, inventory: &Inventory) -> Result<Self, Unreachable> {
        let way = self.kubeconfig.way(context, &self.environment)?;
        let objects = timeout(ALL, async {
            let Opened { asking, proxy, .. } = opened(way).await?;
            asking.list::<Value>(&inventory.place()).await.map_err(|source| unread(source, proxy))
        });
        let objects = objects.await.map_err(|_| Unreachable::Late(ALL))??;
        let hub = Hub { kubeconfig: self.kubeconfig, context: context.map(str::to_owned), names: BTreeSet::new() };
        let mut listed = Self { kubeconfig: Kubeconfig::default(), hub: Some(hub), ..self };
        for object in &objects {
            listed.add(inventory.entry(object));
        }
        Ok(listed)
    }

    /// Adds a listed cluster, by its object's name where another one has the same.
    fn add(&mut self, listed: ListedCluster) {
        let ListedCluster { name, object, access } = listed;
        let name = if self.names().contains(&name) { object.clone() } else { name };
        let added = match access {
            Ok(ListedAccess::Entry { cluster, user }) => {
                let entries = json!({
                    "clusters": [{ "name": name, "cluster": cluster }],
                    "users": [{ "name": name, "user": user }],
                    "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
                });
                self.kubeconfig.add(Path::new(&object), entries.to_string().as_bytes()).map_err(Unreachable::from)
            }
            Ok(ListedAccess::Itself) => {
                if let Some(hub) = &mut self.hub {
                    hub.names.insert(name.clone());
                }
                Ok(())
            }
            Err(fault) => Err(fault.into()),
        };
        if let Err(fault) = added {
            self.unusable.insert(name, fault);
        }
    }

    /// Names of the contexts, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.kubeconfig.contexts();
        names.extend(self.hub.iter().flat_map(|hub| &hub.names).chain(self.unusable.keys()).cloned());
        names.sort();
        names
    }

    /// What is in a file of the list and counts for nothing.
    pub fn hidden(&self) -> &[Hidden] {
        self.kubeconfig.hidden()
    }

    fn way(&self, context: &str) -> Result<ApiserverAccess, Unreachable> {
        if let Some(fault) = self.unusable.get(context) {
            return Err(fault.clone());
        }
        let way = match self.hub.as_ref().filter(|hub| hub.names.contains(context)) {
            Some(hub) => hub.kubeconfig.way(hub.context.as_deref(), &self.environment),
            None => self.kubeconfig.way(Some(context), &self.environment),
        };
        way.map_err(Unreachable::from)
    }

    /// What the cluster of a context shows, at a time.
    pub async fn survey(&self, context: &str, now: Timestamp) -> Surveyed {
        let asked = async {
            let Opened { asking, server, proxy } = opened(self.way(context)?).await?;
            let asked = timeout(ALL, async {
                Ok(match asking.survey(context, &server, now).await? {
                    Some(survey) => Surveyed::Istio(Box::new(survey)),
                    None => match asking.control_planes().await {
                        Some((namespace, control_planes)) => Surveyed::Remote { namespace, control_planes },
                        None => Surveyed::NoIstio,
                    },
                })
            });
            asked.await.map_err(|_| Unreachable::Late(ALL))?.map_err(|source| unread(source, proxy))
        };
        asked.await.unwrap_or_else(Surveyed::Unreachable)
    }
}

/// Gets the credentials of a cluster. Its plugin has a deadline of its own.
async fn opened(way: ApiserverAccess) -> Result<Opened, Unreachable> {
    let ApiserverAccess { mut config, plugin, proxy, .. } = way;
    if let Some(plugin) = plugin {
        plugin.ask(&mut config.auth_info).await?;
    }
    config.connect_timeout = Some(CONNECT);
    let server = config.cluster_url.to_string();
    match Client::try_from(config) {
        Ok(client) => Ok(Opened { asking: Asking::new(client), server, proxy }),
        Err(error) => Err(unread(error.into(), proxy)),
    }
}

fn unread(source: ReadError, proxy: Option<HttpProxy>) -> Unreachable {
    match proxy {
        Some(proxy) => Unreachable::ThroughProxy { source, proxy: proxy.shown(), from: proxy.from },
        None => source.into(),
    }
}
