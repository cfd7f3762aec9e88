//! Counts the proxies that await a restart before they can take foreign roots.
//!
//! What decides that is in a pod's containers, which never change, so each pod is read once. From then on pods are listed by
//! their metadata alone: nothing of what runs in the cluster is transferred again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::cluster::unread::ReadError;
use crate::cluster::watched::{Meta, WatchScope, Watchable, each};
use crate::istio::objects::WirePod;
use crate::roles::exporter::reasons::EvidenceError;
use crate::types::name::Digest;

/// How often all pods are counted, at most, but where evidence ages faster.
const COUNT: Duration = Duration::from_secs(10);
/// Most pods that are read one by one; more are read by a list.
const FEW: usize = 20;
const PODS: &str = "/api/v1/pods";

/// Proxies that await their restart.
#[derive(Clone, PartialEq)]
pub(super) struct AwaitingRestart {
    pub(super) lacking: Result<usize, EvidenceError>,
    /// When the count began.
    pub(super) at: Option<std::time::Instant>,
}

/// A pod without what runs in it.
#[derive(Clone, Deserialize)]
struct PodMetadata {
    metadata: Meta,
}

impl Watchable for PodMetadata {
    type Kept = ();

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn keep(self) -> Option<()> {
        None
    }
}

/// Whether each pod has a proxy that awaits a restart, by the pod's UID.
#[derive(Default)]
struct JudgedPods(BTreeMap<Digest, bool>);

/// What a count found.
struct CountedProxies {
    lacking: usize,
    /// One of them, by namespace and name.
    example: Option<String>,
}

fn uid(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

impl JudgedPods {
    async fn count(&mut self, client: &Client) -> Result<CountedProxies, ReadError> {
        let mut present = BTreeMap::new();
        let place = WatchScope { metadata_alone: true, ..running() };
        each::<PodMetadata>(client, &place, |PodMetadata { metadata: Meta { uid: text, namespace, name, .. } }| {
            present.insert(uid(&text), (namespace, name));
        })
        .await?;
        self.0.retain(|pod, _| present.contains_key(pod));
        let new: Vec<_> = present.iter().filter(|(pod, _)| !self.0.contains_key(pod)).map(|(_, name)| name).collect();
        let places = if new.len() > FEW {
            vec![running()]
        } else {
            let one = |(namespace, name): &(String, String)| {
                WatchScope::named(format!("/api/v1/namespaces/{namespace}/pods"), name)
            };
            new.into_iter().map(one).collect()
        };
        for place in &places {
            each::<WirePod>(client, place, |pod| {
                self.0.insert(uid(pod.uid()), pod.lacks_xds_agent());
            })
            .await?;
        }
        // one that came or went meanwhile counts the next time
        let mut lacking = present.iter().filter(|(pod, _)| self.0.get(pod) == Some(&true)).map(|(_, name)| name);
        let example = lacking.next().map(|(namespace, name)| format!("{namespace}/{name}"));
        Ok(CountedProxies { lacking: usize::from(example.is_some()) + lacking.count(), example })
    }
}

fn running() -> WatchScope {
    let fields = Some("status.phase!=Succeeded,status.phase!=Failed".to_owned());
    WatchScope { fields, ..WatchScope::all(PODS) }
}

/// Counts proxies that await their restart, again and again.
pub(super) async fn count(
    client: &Client,
    counted: &watch::Sender<AwaitingRestart>,
    metric: &Gauge,
    max_age: Duration,
) {
    let mut judged = JudgedPods::default();
    loop {
        let begun = Instant::now();
        let result = judged.count(client).await;
        let (result, example) = match result {
            Ok(found) => (Ok(found.lacking), found.example),
            Err(problem) => (Err(problem), None),
        };
        if let Ok(found) = &result {
            metric.set(i64::try_from(*found).unwrap_or(i64::MAX));
        }
        let found = result.as_ref().ok().copied();
        let changed = counted.send_if_modified(|current| {
            let before = current.lacking.clone();
            match result {
                Ok(found) => *current = AwaitingRestart { lacking: Ok(found), at: Some(begun.into_std()) },
                // what was counted grows old while the apiserver is away
                Err(problem) if !problem.is_refusal() && before.is_ok() => {}
                Err(problem) => {
                    *current = AwaitingRestart { lacking: Err(EvidenceError::NotListed(problem)), at: None }
                }
            }
            before != current.lacking
        });
        if changed && let Some(example) = example {
            tracing::info!(found, example, "proxies await a restart before they can take foreign roots");
        }
        sleep(until_next_count(begun.elapsed(), max_age)).await;
    }
}

/// A count that takes long is made less often, but never so seldom that it is too old when the next one is over.
fn until_next_count(took: Duration, max_age: Duration) -> Duration {
    let longest = (max_age / 2).saturating_sub(took * 2);
    (took * 20).max(COUNT).min(longest).max(took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::exporter::gathered::MAX_AGE;

    #[test]
    fn a_count_is_never_so_seldom_that_it_is_too_old_before_the_next_one() {
        let seconds = Duration::from_secs;
        assert_eq!(until_next_count(Duration::from_millis(20), MAX_AGE), COUNT);
        assert_eq!(until_next_count(seconds(1), MAX_AGE), seconds(20));
        for took in 0..=40 {
            let took = seconds(took);
            let oldest = took + until_next_count(took, MAX_AGE) + took;
            assert!(oldest < MAX_AGE || took == seconds(40), "{took:?}: {oldest:?}");
            assert!(until_next_count(took, MAX_AGE) >= took, "at most half of the time is spent counting");
        }
    }
}
