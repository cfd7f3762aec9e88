//! The role at work: follows its sources, asks for evidence, publishes each change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cluster::unread::ReadError;
use crate::cluster::watched::{Objects, SourceState, WatchScope, Watched, each};
use crate::istio::gateways::{GatewayService, Hosts, Settling, behind_nodes, gateways, network_of};
use crate::istio::objects::WirePod;
use crate::roles::exporter::collect::{BegunCollection, collect_evidence};
use crate::roles::exporter::documents::{ClusterFacts, compose};
use crate::roles::exporter::gathered::{Gathered, MAX_AGE};
use crate::roles::exporter::istiod::IstiodClient;
use crate::roles::exporter::options::ExporterOptions;
use crate::roles::exporter::published::{AnsweredRequest, Exporter, Published};
use crate::roles::exporter::reasons::{DocumentError, EvidenceError};
use crate::roles::exporter::restarts::{AwaitingRestart, count};
use crate::roles::exporter::sources::Sources;
use crate::roles::role::now;
use crate::roles::role::{Role, RoleError, Service};
use crate::server::telemetry::{Metrics, Readiness};
use crate::types::certificate::parse_roots_any_time;
use crate::wire::metadata::Evidence;

/// How often everything is looked at again without a cause: certificates expire, watches grow old.
const AGAIN: Duration = Duration::from_secs(5);
/// How often pods are asked while something changes, and else.
const ASK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How long something changes after its last change.
const LIVELY: Duration = Duration::from_secs(30);
/// How often the nodes of gateways behind node ports are looked up.
const HOSTS: Duration = Duration::from_secs(5);

/// The condition that everything was collected once.
const COLLECTED: &str = "evidence";

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    path: &'static str,
    code: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: &'static str,
}

#[derive(Debug, Clone, Default)]
struct ExporterMetrics {
    requests: Family<RequestLabels, Counter>,
    ages: Family<OfSource, Gauge>,
    changed: Gauge,
    root_days: Gauge,
    lacking: Gauge,
}

impl ExporterMetrics {
    fn register(metrics: &Metrics) -> Self {
        let counts = Self::default();
        metrics.register("isthmus_exporter_requests", "Requests by document and status", &counts.requests);
        let help = "Since the apiserver confirmed a source";
        metrics.register("isthmus_exporter_source_age_seconds", help, &counts.ages);
        let help = "When what is published last changed, seconds since 1970";
        metrics.register("isthmus_exporter_changed_timestamp_seconds", help, &counts.changed);
        metrics.register("isthmus_exporter_root_ca_days_left", "Days until the first root CA ends", &counts.root_days);
        let help = "Proxies that cannot take foreign roots yet";
        metrics.register("isthmus_exporter_proxies_to_restart", help, &counts.lacking);
        counts
    }
}

/// All metrics of an exporter, before it has begun.
pub fn metrics() -> Metrics {
    let metrics = Metrics::new();
    drop(ExporterMetrics::register(&metrics));
    metrics
}

/// Begins the role.
///
/// # Errors
///
/// The options lack the api-proxy's address, or the certificate cannot be read.
pub async fn start(role: Role, options: ExporterOptions) -> Result<Service<Exporter>, RoleError> {
    start_with_max_age(role, options, MAX_AGE).await
}

/// The same with another age at which evidence becomes unknown.
///
/// # Errors
///
/// Those of [`start`].
pub async fn start_with_max_age(
    role: Role,
    options: ExporterOptions,
    max_age: Duration,
) -> Result<Service<Exporter>, RoleError> {
    if options.api_host.is_none() {
        return Err(RoleError::NoApiHost);
    }
    let certificates = role.certificates_from_files()?;
    let counts = ExporterMetrics::register(&role.metrics);
    let requests = counts.requests.clone();
    let published = Published {
        cluster_uuid: None,
        public: Err(DocumentError::NotAsked),
        private: Err(DocumentError::NotAsked),
        evidence: Gathered::NotYet,
        peers: Err(DocumentError::NotAsked),
        sequence: 0,
    };
    let exporter = Exporter::new(&options.path_prefix, published, now)
        .with_rates(role.limits.rate_per_address, role.limits.rate_unauthenticated, role.limits.rate_per_peer)
        .with_listener(move |answered| {
            requests.get_or_create(&RequestLabels { path: answered.what, code: answered.status.as_u16() }).inc();
            record(answered);
        });
    let exporter = Arc::new(exporter);
    tokio::spawn(work(role, options, exporter.clone(), counts, max_age));
    Ok(Service { handler: exporter, certificates })
}

/// Who was admitted or refused. Nothing of a token is in it but the name of its key.
fn record(answered: &AnsweredRequest<'_>) {
    let Some(audit) = answered.audit else { return };
    let (from, status) = (answered.from.to_string(), answered.status.as_u16());
    match audit.rejected {
        Some(reason) => tracing::warn!(target: "isthmus::audit", from, status, %reason, "token refused"),
        None => {
            tracing::info!(target: "isthmus::audit", from, status, subject = audit.subject, key = audit.key, "token admitted");
        }
    }
}

async fn work(
    role: Role,
    options: ExporterOptions,
    exporter: Arc<Exporter>,
    counts: ExporterMetrics,
    max_age: Duration,
) {
    let client = role.access.client.clone();
    let istiods = IstiodClient::new(options.istio_token.as_deref(), &role.namespace);
    role.health.fails(COLLECTED, &DocumentError::FirstCollection);
    let (lacking, lacking_seen) = watch::channel(AwaitingRestart { lacking: Err(EvidenceError::NotCounted), at: None });
    let (hosts, hosts_seen) = watch::channel(Hosts::new());
    let (ask, asked) = watch::channel(None);
    let (by_nodes, by_nodes_seen) = watch::channel(None);
    tokio::select! {
        () = role.stopping.requested() => {}
        () = publish(&role, (&options, max_age), &exporter, &counts, (lacking_seen, hosts_seen), (ask, by_nodes)) => {}
        () = count(&client, &lacking, &counts.lacking, max_age) => {}
        () = watch_hosts(client.clone(), by_nodes_seen, hosts) => {}
        () = ask_for_evidence(asked, (&exporter, &istiods), &role.health, max_age) => {}
    }
}

type Services = Option<Objects<GatewayService>>;

/// Composes the documents whenever a source changes.
async fn publish(
    role: &Role,
    (options, max_age): (&ExporterOptions, Duration),
    exporter: &Exporter,
    counts: &ExporterMetrics,
    (mut lacking, mut hosts): (watch::Receiver<AwaitingRestart>, watch::Receiver<Hosts>),
    (ask, by_nodes): (watch::Sender<Option<BegunCollection>>, watch::Sender<Services>),
) {
    let mut sources = Sources::open(role, options);
    let source_changed = sources.changed.clone();
    let mut settling = Settling::default();
    loop {
        let counted = lacking.borrow_and_update().clone();
        // before what they are the times of, which may be newer but never older
        let confirmed = sources.times(counted.at);
        let (deployments, istiods) = (sources.deployments.all(), sources.istiods.all());
        let services = sources.services();
        sources.watch_nodes(&deployments, &istiods, &services);
        let through_nodes = services.present().is_some_and(behind_nodes);
        by_nodes.send_if_modified(|current| {
            let next = services.present().filter(|_| through_nodes).cloned();
            let differs = *current != next;
            *current = next;
            differs
        });
        let nodes = sources.nodes.as_ref().map_or(SourceState::NotYet, Watched::all);
        let found = gateways(&services, &nodes, &hosts.borrow_and_update());
        let at = Instant::now();
        let gateways = if through_nodes { settling.settle(found, at.into_std()) } else { found };
        let facts = ClusterFacts {
            roots: sources.roots.one(),
            revoked: sources.revoked.one(),
            identity: sources.identity.one(),
            peers: sources.peers.one(),
            hand_over: sources.hand_over.one(),
            routes: sources.routes.one(),
            shared: sources.shared.one(),
            standard: sources.standard.iter().map(|(name, watched)| (name.clone(), watched.one())).collect(),
            deployments,
            istiods,
            kube_system: sources.kube_system.one(),
            namespace: sources.namespace.one(),
            gateways,
            gateway_network: services.present().and_then(network_of).map(str::to_owned),
            serving: role.tls.as_ref().and_then(|files| std::fs::read_to_string(&files.certificate).ok()),
        };
        let published = compose(&facts, options, &role.namespace, now());
        report(role, counts, &sources, &published);
        let own = published.public.as_ref().map(|public| public.root_ca.clone()).map_err(Clone::clone);
        let changed = exporter.change(|current| {
            let evidence = current.evidence.clone();
            *current = Published { evidence, ..published };
        });
        if changed {
            counts.changed.set(now().as_seconds());
            tracing::info!("what is published has changed");
        }
        let (proxies, relays) = (sources.proxies.all(), sources.relays.all());
        ask.send_replace(Some(BegunCollection { facts, proxies, relays, lacking: counted.lacking, own, confirmed }));
        let again = at + AGAIN.min(max_age / 8);
        let again = settling.due().map_or(again, |due| Instant::from_std(due).min(again));
        tokio::select! {
            () = source_changed.notified() => {}
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

fn report(role: &Role, counts: &ExporterMetrics, sources: &Sources, published: &Published) {
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

/// Asks every pod, again and again, from when everything that this rests on was read.
async fn ask_for_evidence(
    mut begun: watch::Receiver<Option<BegunCollection>>,
    (exporter, istiods): (&Exporter, &IstiodClient),
    health: &Readiness,
    max_age: Duration,
) {
    let mut lively = Instant::now() + LIVELY;
    let mut before: Option<(ClusterFacts, Evidence)> = None;
    loop {
        let current = begun.borrow_and_update().clone();
        let Some(current) = current.filter(|begun| before.is_some() || begun.is_complete()) else {
            if begun.changed().await.is_err() {
                return;
            }
            continue;
        };
        let found = collect_evidence(&current, istiods, max_age).await;
        let is_new = before.as_ref().is_none_or(|(_, old)| *old != found.evidence);
        if is_new || before.as_ref().is_none_or(|(old, _)| differ(old, &current.facts)) {
            lively = Instant::now() + LIVELY;
        }
        if is_new {
            tracing::debug!("evidence has changed");
        }
        before = Some((current.facts, found.evidence.clone()));
        exporter.change(|current| current.evidence = Gathered::Collected(Arc::new(found)));
        health.holds(COLLECTED);
        let wait = if Instant::now() < lively { ASK.0 } else { ASK.1.min(max_age / 8) }.saturating_sub(ASK.0 / 4);
        // a change is asked about at once, but not more often than once in a while
        sleep(ASK.0 / 4).await;
        let differs = |next: &Option<BegunCollection>| match (next, &before) {
            (Some(next), Some((old, _))) => differ(old, &next.facts),
            (next, _) => next.is_some(),
        };
        drop(timeout(wait, begun.wait_for(differs)).await);
    }
}

/// Whether what evidence rests on has changed.
fn differ(old: &ClusterFacts, new: &ClusterFacts) -> bool {
    old.istiods != new.istiods
        || old.deployments != new.deployments
        || old.shared != new.shared
        || old.standard != new.standard
        || old.routes != new.routes
        || old.roots != new.roots
        || old.peers != new.peers
}

/// Looks up which nodes run the pods of gateways, while there are gateways behind node ports.
async fn watch_hosts(client: Client, mut services: watch::Receiver<Services>, hosts: watch::Sender<Hosts>) {
    loop {
        let current = services.borrow_and_update().clone();
        let mut found = Hosts::new();
        for (key, service) in current.iter().flatten().filter(|(_, service)| service.is_behind_nodes()) {
            let selector: Vec<_> = service.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if selector.is_empty() {
                found.insert(key.clone(), SourceState::Failed(ReadError::NoSelector));
                continue;
            }
            let place = WatchScope::labelled(format!("/api/v1/namespaces/{}/pods", key.0), &selector.join(","));
            let mut nodes = BTreeSet::new();
            let listed = each::<WirePod>(&client, &place, |pod| nodes.extend(pod.ready_on().map(ToOwned::to_owned)));
            let source = match listed.await {
                Ok(_) => SourceState::Present(nodes),
                // what was seen stays while the apiserver is away
                Err(problem) => match hosts.borrow().get(key) {
                    Some(SourceState::Present(before)) if !problem.is_refusal() => SourceState::Present(before.clone()),
                    _ => SourceState::Failed(problem),
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
