//! Which replica acts: the one that holds the Lease.
//!
//! A holder renews it and may write for [`HOLDS`] after the renewal that it began last and that succeeded. Another replica takes
//! the Lease once it saw no renewal for [`EXPIRES`], by its own clock. A write takes at most [`PATIENCE`], so it is over before
//! anyone else may begin one, as long as no clock runs a fifth faster than another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::objects::{ObjectClient, PATIENCE};
use crate::cluster::unread::ReadError;
use crate::roles::role::Role;
use crate::types::name::Namespace;
use crate::types::object::{MANAGED_BY, MANAGER, OF_AGENT, OWNER_LABEL};
use crate::wire::agent::AGENT;

/// How long a renewal lets its holder write.
const HOLDS: Duration = Duration::from_secs(8);
/// After how long without a renewal another replica takes the Lease.
const EXPIRES: Duration = Duration::from_secs(15);
/// How often the holder renews it, and the others look.
const EVERY: Duration = Duration::from_secs(2);

/// Who holds the Lease, as the apiserver has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LeaseRecord {
    /// Empty: no one.
    holder: String,
    /// Changes with each write.
    version: String,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseMove {
    Create,
    /// Take it, or renew it.
    Write,
    Wait,
}

/// The Lease as one replica sees it. Times are those of its own clock.
#[derive(Debug, Clone, Default)]
pub(super) struct LeaseState {
    me: String,
    seen: Option<(LeaseRecord, Duration)>,
    held_until: Option<Duration>,
}

impl LeaseState {
    pub(super) fn new(me: &str) -> Self {
        Self { me: me.to_owned(), ..Self::default() }
    }

    /// What to do, after the Lease was read; `None`: there is none.
    pub(super) fn next(&mut self, record: Option<LeaseRecord>, now: Duration) -> LeaseMove {
        let Some(record) = record else { return LeaseMove::Create };
        let is_new = self.seen.as_ref().is_none_or(|(seen, _)| *seen != record);
        let is_free = record.holder.is_empty() || record.holder == self.me;
        if is_new {
            self.seen = Some((record, now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        if is_free || now >= since + EXPIRES { LeaseMove::Write } else { LeaseMove::Wait }
    }

    /// The Lease was written in this replica's name, in a request that began at this time.
    pub(super) fn wrote(&mut self, began: Duration) {
        self.held_until = Some(began + HOLDS);
    }

    /// Someone else was first.
    pub(super) fn lost(&mut self) {
        self.held_until = None;
    }

    /// Until when this replica may begin writes; `None`: it may not.
    pub(super) fn until(&self, now: Duration) -> Option<Duration> {
        self.held_until.filter(|until| now < *until)
    }
}

/// Whether this replica acts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// That of a replica which is told until when it may begin writes.
    pub fn new(held: watch::Receiver<Option<Instant>>) -> Self {
        Self(held)
    }

    /// Whether a write may begin.
    pub(super) fn is_held(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until it is held.
    pub(super) async fn held(&mut self) {
        while !self.is_held() {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Strives for the Lease for as long as the process lives.
pub(super) fn strive(role: &Role, client: ObjectClient) -> Leadership {
    let (sender, receiver) = watch::channel(None);
    let (namespace, stopping) = (role.namespace.clone(), role.stopping.clone());
    let me = identity();
    tokio::spawn(async move {
        let begin = Instant::now();
        let mut state = LeaseState::new(&me);
        let mut last_error: Option<ReadError> = None;
        loop {
            let attempt = attempt(&client, &namespace, &me, &mut state, begin).await;
            let error = attempt.err();
            if error != last_error {
                if let Some(error) = &error {
                    tracing::warn!(problem = error.to_string(), "cannot write Lease {AGENT}");
                }
                last_error = error;
            }
            let until = state.until(begin.elapsed()).map(|until| begin + until);
            sender.send_if_modified(|held| {
                let changes = held.is_some() != until.is_some();
                if changes {
                    let what = if until.is_some() { "this replica acts" } else { "another replica may act" };
                    tracing::info!(replica = me, "{what}");
                }
                *held = until;
                true
            });
            tokio::select! {
                () = sleep(EVERY) => {}
                () = stopping.requested() => break,
            }
        }
        sender.send_replace(None);
        // what was begun is over by then
        sleep(PATIENCE).await;
        if state.until(begin.elapsed()).is_some() {
            drop(write(&client, &namespace, "", None).await);
        }
    });
    Leadership::new(receiver)
}

/// The pod's name, and what tells two processes of one name apart.
fn identity() -> String {
    let mut unique = [0_u8; 4];
    let filled = aws_lc_rs::rand::fill(&mut unique);
    let unique = if filled.is_ok() { u32::from_be_bytes(unique) } else { std::process::id() };
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| AGENT.to_owned());
    format!("{name}_{unique:08x}")
}

fn collection(namespace: &Namespace) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

async fn attempt(
    client: &ObjectClient,
    namespace: &Namespace,
    me: &str,
    state: &mut LeaseState,
    started: Instant,
) -> Result<(), ReadError> {
    let found = client.get(&format!("{}/{AGENT}", collection(namespace))).await?;
    let record = found.as_ref().map(record);
    let next = state.next(record, started.elapsed());
    let began = started.elapsed();
    let written = match next {
        LeaseMove::Wait => {
            state.lost();
            return Ok(());
        }
        LeaseMove::Create => write(client, namespace, me, None).await,
        LeaseMove::Write => write(client, namespace, me, found.as_ref()).await,
    };
    match written {
        Ok(()) => {
            state.wrote(began);
            Ok(())
        }
        Err(ReadError::Status { code: 404 | 409, .. }) => {
            state.lost();
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn record(lease: &Value) -> LeaseRecord {
    let text = |pointer: &str| lease.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    LeaseRecord { holder: text("/spec/holderIdentity"), version: text("/metadata/resourceVersion") }
}

async fn write(
    client: &ObjectClient,
    namespace: &Namespace,
    holder: &str,
    found: Option<&Value>,
) -> Result<(), ReadError> {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let found = match found {
        None if holder.is_empty() => client.get(&format!("{}/{AGENT}", collection(namespace))).await?,
        found => found.cloned(),
    };
    let Some(mut lease) = found else {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": AGENT, "namespace": namespace, "labels": { MANAGED_BY: MANAGER, OWNER_LABEL: OF_AGENT } },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": EXPIRES.as_secs(), "acquireTime": time, "renewTime": time },
        });
        return client.create(&collection(namespace), &lease).await.map(drop);
    };
    let is_new = lease.pointer("/spec/holderIdentity").and_then(Value::as_str) != Some(holder);
    let Some(Value::Object(spec)) = lease.get_mut("spec") else { return Ok(()) };
    if is_new {
        spec.insert("acquireTime".to_owned(), time.clone().into());
    }
    spec.insert("holderIdentity".to_owned(), holder.into());
    spec.insert("renewTime".to_owned(), time.into());
    client.replace(&format!("{}/{AGENT}", collection(namespace)), &lease).await.map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The apiserver: the Lease and its version.
    #[derive(Default)]
    struct LeaseServer {
        lease: Option<LeaseRecord>,
        writes: u64,
    }

    impl LeaseServer {
        fn write(&mut self, holder: &str, read: Option<&LeaseRecord>) -> bool {
            if self.lease.as_ref() != read {
                return false;
            }
            self.writes += 1;
            self.lease = Some(LeaseRecord { holder: holder.to_owned(), version: self.writes.to_string() });
            true
        }
    }

    /// One thing that a replica meets with, in order of time.
    #[derive(Debug, Clone)]
    struct ReplicaEvent {
        /// Milliseconds after the one before.
        after: u64,
        replica: usize,
        /// Milliseconds from reading the Lease to writing it, and from there to the answer.
        takes: (u64, u64),
        /// The answer to a write that the apiserver carried out is lost.
        is_lost: bool,
        restarts: bool,
    }

    fn replica_events() -> impl Strategy<Value = Vec<ReplicaEvent>> {
        let one = (0_u64..6000, 0_usize..3, (0_u64..3000, 0_u64..3000), any::<bool>(), 0_u8..10).prop_map(
            |(after, replica, takes, is_lost, restarts)| ReplicaEvent {
                after,
                replica,
                takes,
                is_lost: is_lost && after % 3 == 0,
                restarts: restarts == 0,
            },
        );
        prop::collection::vec(one, 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        /// Whatever is slow, lost, or starts anew: no two replicas may write at one time, and what one began is over before another
        /// begins. Clocks run at their own rates.
        #[test]
        fn two_replicas_never_both_write(all in replica_events(), rates in prop::array::uniform3(95_u64..106)) {
            let mut server = LeaseServer::default();
            let mut replicas: Vec<LeaseState> = (0..3).map(|me| LeaseState::new(&format!("r{me}"))).collect();
            // until when, in real time, a write may still be on its way
            let mut busy = [Duration::ZERO; 3];
            let mut time = Duration::ZERO;
            let clock = |replica: usize, time: Duration| time * u32::try_from(rates[replica]).unwrap() / 100;
            let real = |replica: usize, time: Duration| time * 100 / u32::try_from(rates[replica]).unwrap();
            for (number, ReplicaEvent { after, replica, takes, is_lost, restarts }) in all.into_iter().enumerate() {
                time += Duration::from_millis(after);
                if restarts {
                    replicas[replica] = LeaseState::new(&format!("r{replica}-{number}"));
                }
                let read = server.lease.clone();
                let me = replicas[replica].me.clone();
                let next = replicas[replica].next(read.clone(), clock(replica, time));
                if next == LeaseMove::Wait {
                    replicas[replica].lost();
                    continue;
                }
                let began = time;
                time += Duration::from_millis(takes.0);
                let is_written = server.write(&me, read.as_ref());
                time += Duration::from_millis(takes.1);
                if is_written && !is_lost {
                    replicas[replica].wrote(clock(replica, began));
                } else if !is_written {
                    replicas[replica].lost();
                }
                if let Some(until) = replicas[replica].until(clock(replica, time)) {
                    for other in (0..3).filter(|other| *other != replica) {
                        prop_assert!(busy[other] <= time, "{other} may still write when {replica} begins");
                    }
                    busy[replica] = busy[replica].max(real(replica, until) + PATIENCE);
                }
            }
        }
    }
}
