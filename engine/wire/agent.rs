//! What an agent reads and writes in its cluster beside the objects of links: names that its manifests, its rights and its code
//! agree on.

/// Name of the agent: its Deployment, account and `app.kubernetes.io/name`, and its Lease.
pub const AGENT: &str = "isthmus-agent";
/// ConfigMap with the Mesh and the Cluster that the agent acts for, as documents of a checkout.
pub const AGENT_MAP: &str = "isthmus-agent";
/// Key of the documents in it.
pub const SPECS_FILE: &str = "specs.yaml";
/// ConfigMap with what the agent learned and accepted: the files of a checkout's lock.
pub const LOCK_MAP: &str = "isthmus-lock";
/// API group of IstioMulticluster.
pub const GROUP: &str = "isthmus.dev";
/// The one version that is served.
pub const VERSION: &str = "v1alpha1";
/// The collection in URLs.
pub const PLURAL: &str = "istiomulticlusters";
/// Keeps an object that is deleted until nothing rests on its peer.
pub const FINALIZER: &str = "isthmus.dev/agent";
/// Annotation with the digest of the trust change that is accepted: of the peer of an IstioMulticluster, or of the own cluster on
/// ConfigMap [`AGENT_MAP`].
pub const ACCEPT_TRUST: &str = "isthmus.dev/accept-trust";
