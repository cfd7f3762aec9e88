//! The agent: joins its cluster with the peers that IstioMulticluster objects declare, and is the cluster's relay.
//!
//! The cluster is a checkout to it (`store`): its specs are the documents of ConfigMap `isthmus-agent` and the IstioMulticluster
//! objects, its lock is ConfigMap `isthmus-lock`, its tree are the objects that the agent applied before, and the engine's key is the
//! cluster's own. A run (`reconcile`) is that of `engine apply`, by the same [`pipeline`](crate::pipeline), law and checker.
//!
//! One replica acts, by a Lease (`lease`); all of them are the relay. What came of a run is shown on the objects (`status`).
#![deny(clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods, reason = "a role reads the clock and the names of its process")]

mod gateways;
mod hand_over;
mod lease;
mod object;
mod outside;
mod owned;
mod reconcile;
mod status;
mod store;

pub use self::lease::Leadership;
pub use self::outside::{AskingWith, Outside, OwnIdentity};
pub use self::reconcile::{Agent, metrics};

use crate::cluster::fetch::{FetchLimits, Fetcher};
use crate::roles::relay::{self, Relay, RelayOptions};
use crate::roles::role::{Role, RoleError, Service};

/// Begins the role: it serves as a relay once there is a key, and acts once it holds the Lease.
pub async fn start(role: Role, options: RelayOptions) -> Result<Service<Relay>, RoleError> {
    start_with(role, options, Fetcher::new(FetchLimits::default())).await
}

/// The same with a fetcher by which it asks its peers.
pub async fn start_with(role: Role, options: RelayOptions, fetcher: Fetcher) -> Result<Service<Relay>, RoleError> {
    let (service, key) = relay::start_with_key(role.clone(), options).await?;
    tokio::spawn(reconcile::run(role, key, fetcher));
    Ok(service)
}
