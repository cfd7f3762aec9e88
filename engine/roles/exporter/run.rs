//! The role at work: follows its sources, asks for evidence, publishes each change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cluster::unread::ReadError;
use crate::cluster::watched::{Place, Source, Watchable, Watched, each, watch_place};
use crate::istio::gateways::{Hosts, NETWORK_LABEL, Settling, WireNode, WireService, behind_nodes, gateways};
use crate::istio::installed::{ISTIOD, ROOT_CA};
use crate::istio::mesh_config::{SHARED_MESH_CONFIG, standard_config_map};
use crate::istio::objects::{WireConfigMap, WireDeployment, WireMeshMap, WireNamespace, WirePod};
use crate::roles::exporter::documents::{Facts, compose};
use crate::roles::exporter::look::{ISTIO_TOKEN, Pods, look};
use crate::roles::exporter::options::ExporterOptions;
use crate::roles::exporter::published::{Answered, Exporter, Published};
use crate::roles::exporter::reasons::{DocumentError, EvidenceError};
use crate::roles::role::now;
use crate::roles::role::{Role, RoleError, Service};
use crate::types::certificate::parse_roots_any_time;
use crate::wire::identity::IDENTITY;
use crate::wire::metadata::Evidence;
use crate::wire::names::{PROXY, RELAY, UUID_NAMESPACE};
use crate::wire::peers::PEERS;
use crate::wire::routes::ROUTES;

/// How often everything is looked at again without a cause: certificates expire, watches grow old.
const AGAIN: Duration = Duration::from_secs(5);
/// How often pods are asked while something changes, and else.
const ASK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How long something changes after its last change.
const LIVELY: Duration = Duration::from_secs(30);
/// How often all pods are counted, at most; a count that takes long is made less often.
const COUNT: Duration = Duration::from_secs(10);
/// How often the nodes of gateways behind node ports are looked up.
const HOSTS: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    path: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: &'static str,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    requests: Family<Request, Counter>,
    ages: Family<OfSource, Gauge>,
    changed: Gauge,
    root_days: Gauge,
    lacking: Gauge,
}

impl Counts {
    fn of(role: &Role) -> Self {
        let counts = Self::default();
        let Self { requests, ages, changed, root_days, lacking } = counts.clone();
        role.metrics.register(|registry| {
            registry.register("isthmus_exporter_requests", "Requests by document and status", requests);
            registry.register("isthmus_exporter_source_age_seconds", "Since the apiserver confirmed a source", ages);
            registry.register(
                "isthmus_exporter_changed_timestamp_seconds",
                "When what is published last changed",
                changed,
            );
            registry.register("isthmus_exporter_root_ca_days_left", "Days until the first root CA ends", root_days);
            registry.register(
                "isthmus_exporter_proxies_to_restart",
                "Proxies that cannot take foreign roots yet",
                lacking,
            );
        });
        counts
    }
}

/// Begins the role.
pub async fn start(role: Role, options: ExporterOptions) -> Result<Service<Exporter>, RoleError> {
    if options.api_host.is_none() {
        return Err(RoleError::NoApiHost);
    }
    let certificates = role.certificates_from_files()?;
    let counts = Counts::of(&role);
    let requests = counts.requests.clone();
    let published = Published {
        cluster_uuid: None,
        public: Err(DocumentError::NotAsked),
        private: Err(DocumentError::NotAsked),
        evidence: None,
        peers: Err(DocumentError::NotAsked),
        relations: BTreeMap::new(),
        sequence: 0,
    };
    let exporter = Exporter::new(&options.path_prefix, published, now)
        .with_rates(role.limits.rate_per_address, role.limits.rate_per_peer)
        .with_listener(move |answered| {
            requests.get_or_create(&Request { path: answered.what, code: answered.status.as_u16() }).inc();
            record(answered);
        });
    let exporter = Arc::new(exporter);
    tokio::spawn(work(role, options, exporter.clone(), counts));
    Ok(Service { handler: exporter, certificates })
}

/// Who was admitted or refused. Nothing of a token is in it but the name of its key.
fn record(answered: &Answered<'_>) {
    let Some(audit) = answered.audit else { return };
    let (from, status) = (answered.from.to_string(), answered.status.as_u16());
    match audit.rejected {
        Some(reason) => tracing::warn!(target: "isthmus::audit", from, status, %reason, "token refused"),
        None => {
            tracing::info!(target: "isthmus::audit", from, status, subject = audit.subject, key = audit.key, "token admitted");
        }
    }
}

/// Everything under watch.
struct Sources {
    roots: Watched<<WireConfigMap as Watchable>::Kept>,
    identity: Watched<<WireConfigMap as Watchable>::Kept>,
    peers: Watched<<WireConfigMap as Watchable>::Kept>,
    routes: Watched<<WireConfigMap as Watchable>::Kept>,
    shared: Watched<<WireMeshMap as Watchable>::Kept>,
    standard: BTreeMap<String, Watched<<WireMeshMap as Watchable>::Kept>>,
    deployments: Watched<<WireDeployment as Watchable>::Kept>,
    istiods: Watched<<WirePod as Watchable>::Kept>,
    proxies: Watched<<WirePod as Watchable>::Kept>,
    relays: Watched<<WirePod as Watchable>::Kept>,
    kube_system: Watched<<WireNamespace as Watchable>::Kept>,
    namespace: Watched<<WireNamespace as Watchable>::Kept>,
    services: Watched<<WireService as Watchable>::Kept>,
    nodes: Option<Watched<<WireNode as Watchable>::Kept>>,
    client: Client,
    paths: Paths,
    bell: Arc<Notify>,
}

/// Collections of Istio's namespace.
struct Paths {
    config_maps: String,
    pods: String,
}

impl Sources {
    fn open(role: &Role) -> Self {
        let (client, bell) = (role.access.client.clone(), Arc::new(Notify::new()));
        let in_namespace = |kind: &str| format!("/api/v1/namespaces/{}/{kind}", role.namespace);
        let paths = Paths { config_maps: in_namespace("configmaps"), pods: in_namespace("pods") };
        let map = |name: &str| watch_place::<WireConfigMap>(&client, Place::named(&paths.config_maps, name), &bell);
        let pods = |labels: &str| watch_place::<WirePod>(&client, Place::labelled(&paths.pods, labels), &bell);
        let namespace =
            |name: &str| watch_place::<WireNamespace>(&client, Place::named("/api/v1/namespaces", name), &bell);
        let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", role.namespace);
        Self {
            roots: map(ROOT_CA.0),
            identity: map(IDENTITY),
            peers: map(PEERS),
            routes: map(ROUTES),
            shared: watch_place::<WireMeshMap>(&client, Place::named(&paths.config_maps, SHARED_MESH_CONFIG), &bell),
            standard: BTreeMap::new(),
            deployments: watch_place::<WireDeployment>(&client, Place::labelled(deployments, ISTIOD), &bell),
            istiods: pods(ISTIOD),
            proxies: pods(&format!("app.kubernetes.io/name={PROXY}")),
            relays: pods(&format!("app.kubernetes.io/name in ({RELAY},isthmus-agent)")),
            kube_system: namespace(UUID_NAMESPACE),
            namespace: namespace(role.namespace.as_str()),
            services: watch_place::<WireService>(&client, Place::labelled("/api/v1/services", NETWORK_LABEL), &bell),
            nodes: None,
            paths,
            client,
            bell,
        }
    }

    /// Follows what depends on other sources: the mesh configuration of each revision, and nodes where they matter.
    fn follow_on(&mut self) {
        let mut wanted = BTreeSet::new();
        if let Source::Present(deployments) = self.deployments.all() {
            wanted.extend(deployments.values().map(|istiod| istiod.revision.clone()));
        }
        if let Source::Present(pods) = self.istiods.all() {
            wanted.extend(pods.values().map(|pod| pod.istiod.revision.clone()));
        }
        let wanted: BTreeSet<String> = wanted.iter().map(|revision| standard_config_map(revision)).collect();
        if !wanted.is_empty() {
            self.standard.retain(|name, _| wanted.contains(name));
        }
        for name in wanted {
            let place = Place::named(&self.paths.config_maps, &name);
            let (client, bell) = (&self.client, &self.bell);
            self.standard.entry(name).or_insert_with(|| watch_place::<WireMeshMap>(client, place, bell));
        }
        let by_nodes = self.services.all().present().is_some_and(behind_nodes);
        if by_nodes && self.nodes.is_none() {
            self.nodes = Some(watch_place::<WireNode>(&self.client, Place::all("/api/v1/nodes"), &self.bell));
        }
    }

    /// Those without which nothing can be published, by name: what is wrong with each, and its age.
    fn required(&self) -> [(&'static str, Option<ReadError>, Option<Duration>); 8] {
        macro_rules! state {
            ($name:literal, $source:ident) => {
                ($name, self.$source.problem(), self.$source.age())
            };
        }
        [
            state!("root-ca", roots),
            state!("identity", identity),
            state!("peers", peers),
            state!("deployments", deployments),
            state!("istiod-pods", istiods),
            state!("kube-system", kube_system),
            state!("namespace", namespace),
            state!("services", services),
        ]
    }

    fn pods(&self, lacking: Result<usize, EvidenceError>) -> Pods {
        Pods { proxies: self.proxies.all(), relays: self.relays.all(), lacking }
    }
}

/// What the composer hands to whoever asks for evidence.
#[derive(Clone)]
struct Asked {
    facts: Facts,
    pods: Pods,
}

async fn work(role: Role, options: ExporterOptions, exporter: Arc<Exporter>, counts: Counts) {
    let client = role.access.client.clone();
    let (lacking, lacking_seen) = watch::channel(Err(EvidenceError::NotCounted));
    let (hosts, hosts_seen) = watch::channel(Hosts::new());
    let (ask, asked) = watch::channel(None);
    let (by_nodes, by_nodes_seen) = watch::channel(None);
    tokio::select! {
        () = role.stopping.requested() => {}
        () = publish(&role, &options, &exporter, &counts, (lacking_seen, hosts_seen), (ask, by_nodes)) => {}
        () = count(client.clone(), lacking, &counts) => {}
        () = follow_hosts(client, by_nodes_seen, hosts) => {}
        () = ask_for_evidence(asked, &exporter) => {}
    }
}

type Services = Option<crate::cluster::watched::Objects<crate::istio::gateways::GatewayService>>;

/// Composes the documents whenever a source changes.
async fn publish(
    role: &Role,
    options: &ExporterOptions,
    exporter: &Exporter,
    counts: &Counts,
    (mut lacking, mut hosts): (watch::Receiver<Result<usize, EvidenceError>>, watch::Receiver<Hosts>),
    (ask, by_nodes): (watch::Sender<Option<Asked>>, watch::Sender<Services>),
) {
    let mut sources = Sources::open(role);
    let bell = sources.bell.clone();
    let mut settling = Settling::default();
    loop {
        sources.follow_on();
        let services = sources.services.all();
        let through_nodes = services.present().is_some_and(behind_nodes);
        by_nodes.send_if_modified(|current| {
            let next = services.present().filter(|_| through_nodes).cloned();
            let differs = *current != next;
            *current = next;
            differs
        });
        let nodes = sources.nodes.as_ref().map_or(Source::NotYet, Watched::all);
        let found = gateways(&services, &nodes, &hosts.borrow_and_update());
        let at = Instant::now();
        let gateways = if through_nodes { settling.settle(found, at.into_std()) } else { found };
        let facts = Facts {
            roots: sources.roots.one(),
            identity: sources.identity.one(),
            peers: sources.peers.one(),
            routes: sources.routes.one(),
            shared: sources.shared.one(),
            standard: sources.standard.iter().map(|(name, watched)| (name.clone(), watched.one())).collect(),
            deployments: sources.deployments.all(),
            istiods: sources.istiods.all(),
            kube_system: sources.kube_system.one(),
            namespace: sources.namespace.one(),
            gateways,
            serving: role.tls.as_ref().and_then(|files| std::fs::read_to_string(&files.certificate).ok()),
        };
        let published = compose(&facts, options, &role.namespace, now());
        report(role, counts, &sources, &published);
        let changed = exporter.change(|current| {
            let evidence = current.evidence.take();
            *current = Published { evidence, ..published };
        });
        if changed {
            counts.changed.set(now().as_seconds());
            tracing::info!("what is published has changed");
        }
        let pods = sources.pods(lacking.borrow_and_update().clone());
        ask.send_replace(Some(Asked { facts, pods }));
        let again = settling.due().map_or(at + AGAIN, |due| Instant::from_std(due).min(at + AGAIN));
        tokio::select! {
            () = bell.notified() => {}
            Ok(()) = lacking.changed() => {}
            Ok(()) = hosts.changed() => {}
            () = sleep_until(again) => {}
        }
    }
}

/// Why the apiserver does not show what is needed.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("{name}: {error}")]
    Unread { name: &'static str, error: ReadError },
    #[error("{name}: not read yet")]
    NotYet { name: &'static str },
}

fn report(role: &Role, counts: &Counts, sources: &Sources, published: &Published) {
    let required = sources.required();
    for (source, _, age) in &required {
        let age = age.map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        counts.ages.get_or_create(&OfSource { source }).set(age);
    }
    let broken = required.into_iter().find_map(|(name, problem, age)| match problem {
        Some(error) => Some(SourceError::Unread { name, error }),
        None => age.is_none().then_some(SourceError::NotYet { name }),
    });
    role.health.set("apiserver", &broken.map_or(Ok(()), Err));
    role.health.set("public", &published.public);
    role.health.set("private", &published.private.as_ref().and(published.peers.as_ref()));
    if let Some(roots) = published.public.as_ref().ok().and_then(|public| parse_roots_any_time(&public.root_ca).ok()) {
        counts.root_days.set(roots.iter().map(|root| root.days_left(now())).min().unwrap_or_default());
    }
}

/// Asks every pod, again and again.
async fn ask_for_evidence(mut asked: watch::Receiver<Option<Asked>>, exporter: &Exporter) {
    let token = PathBuf::from(ISTIO_TOKEN);
    let mut lively = Instant::now() + LIVELY;
    let mut before: Option<(Facts, Evidence)> = None;
    loop {
        let current = asked.borrow_and_update().clone();
        if let Some(Asked { facts, pods }) = current {
            let published = exporter.published();
            let roots = published.public.as_ref().map(|public| public.root_ca.clone()).map_err(Clone::clone);
            let evidence = look(&facts, &pods, &token, &roots).await;
            let is_new = before.as_ref().is_none_or(|(_, old)| *old != evidence);
            if is_new || before.as_ref().is_none_or(|(old, _)| differ(old, &facts)) {
                lively = Instant::now() + LIVELY;
            }
            if is_new {
                exporter.change(|current| current.evidence = Some(evidence.clone()));
                tracing::debug!("evidence has changed");
            }
            before = Some((facts, evidence));
        }
        let wait = if Instant::now() < lively { ASK.0 } else { ASK.1 }.saturating_sub(ASK.0 / 4);
        // a change is asked about at once, but not more often than once in a while
        sleep(ASK.0 / 4).await;
        drop(
            timeout(
                wait,
                asked.wait_for(|next| match (next, &before) {
                    (Some(next), Some((old, _))) => differ(old, &next.facts),
                    (next, _) => next.is_some(),
                }),
            )
            .await,
        );
    }
}

/// Whether what evidence rests on has changed.
fn differ(old: &Facts, new: &Facts) -> bool {
    old.istiods != new.istiods
        || old.deployments != new.deployments
        || old.shared != new.shared
        || old.standard != new.standard
        || old.routes != new.routes
        || old.roots != new.roots
        || old.peers != new.peers
}

/// Counts proxies that await their restart. Pods are looked at and let go, page by page.
async fn count(client: Client, lacking: watch::Sender<Result<usize, EvidenceError>>, counts: &Counts) {
    let place =
        Place { fields: Some("status.phase!=Succeeded,status.phase!=Failed".to_owned()), ..Place::all("/api/v1/pods") };
    loop {
        let begun = Instant::now();
        let (mut found, mut example) = (0_usize, None);
        let listed = each::<WirePod>(&client, &place, |pod| {
            if pod.lacks_xds_agent() {
                found += 1;
                example.get_or_insert_with(|| pod.name());
            }
        });
        let result = listed.await.map(|_| found).map_err(EvidenceError::NotListed);
        if let Ok(found) = &result {
            counts.lacking.set(i64::try_from(*found).unwrap_or(i64::MAX));
        }
        let changed = lacking.send_if_modified(|current| {
            let differs = *current != result;
            *current = result;
            differs
        });
        if changed && let Some(example) = example {
            tracing::info!(found, example, "proxies await a restart before they can take foreign roots");
        }
        sleep(COUNT.max(begun.elapsed() * 20)).await;
    }
}

/// Looks up which nodes run the pods of gateways, while there are gateways behind node ports.
async fn follow_hosts(client: Client, mut services: watch::Receiver<Services>, hosts: watch::Sender<Hosts>) {
    loop {
        let current = services.borrow_and_update().clone();
        let mut found = Hosts::new();
        for (key, service) in current.iter().flatten().filter(|(_, service)| service.is_behind_nodes()) {
            let selector: Vec<_> = service.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if selector.is_empty() {
                found.insert(key.clone(), Source::Failed(ReadError::NoSelector));
                continue;
            }
            let place = Place::labelled(format!("/api/v1/namespaces/{}/pods", key.0), &selector.join(","));
            let mut nodes = BTreeSet::new();
            let listed = each::<WirePod>(&client, &place, |pod| nodes.extend(pod.ready_on().map(ToOwned::to_owned)));
            let source = match listed.await {
                Ok(_) => Source::Present(nodes),
                // what was seen stays while the apiserver is away
                Err(problem) => match hosts.borrow().get(key) {
                    Some(Source::Present(before)) if !problem.is_refusal() => Source::Present(before.clone()),
                    _ => Source::Failed(problem),
                },
            };
            found.insert(key.clone(), source);
        }
        hosts.send_if_modified(|current| {
            let differs = *current != found;
            *current = found;
            differs
        });
        drop(timeout(if current.is_some() { HOSTS } else { Duration::from_hours(1) }, services.changed()).await);
    }
}
