//! Who may ask what. What is not in the table is denied.
//!
//! | resource | group | answer |
//! |---|---|---|
//! | `namespaces`, `nodes`, `pods`, `services` | core | the apiserver's, projected |
//! | `endpointslices` | `discovery.k8s.io` | the apiserver's, projected |
//! | `customresourcedefinitions` | `apiextensions.k8s.io` | the apiserver's, projected |
//! | `workloadentries` | `networking.istio.io` | the apiserver's, projected; none while the own network is not known |
//! | `serviceexports`, `serviceimports` | `multicluster.x-k8s.io` | the apiserver's, projected |
//! | `/api` | | the apiserver's, projected; peers probe with it |
//! | `gateways` | `gateway.networking.k8s.io` | lists and watches: always empty, made here |
//! | `secrets` | core | lists and watches: always empty, made here |
//! | `configmaps` | core | the reader's mesh configuration: the trust domain alone, made here |
//!
//! Any version of a group, for `get`, `list` and `watch`. No subresource, no object of a namespace that is not shared, no
//! other verb. This is what an istiod asks a remote cluster of a multi-primary mesh for (istio.io/istio
//! `pkg/kube/multicluster`, seen in the audit log of a real apiserver). It waits for every list that it begins: one that is
//! refused keeps the whole cluster from syncing. So lists that no one should see are answered as empty. For the same reason
//! any revision's mesh configuration is answered, also of one that the peer began to run since it was last read: it is made
//! here and says nothing but the trust domain, which the public document says too.
//!
//! A peer sees the namespaces that it is [shared](crate::wire::share::Share), judged by their names alone: what spans all
//! namespaces is answered without the others, and what is asked of another by itself as empty. The namespace of its own
//! istiod it sees in any case, but for a shared one nothing of it but its name.
//!
//! A list comes whole: a token for its next page names an object, which may be one that is not shared.
//!
//! Of each object a peer is given what [`projection`](crate::roles::api::projection) lists. Neither does it learn the rest by asking for
//! objects that have it: a selector may name what is shown, and nothing else. A Gateway of a peer would stand beside the
//! reviewed one, or in its place (istio.io/istio `pilot/pkg/xds/endpoints/ep_filters.go`).

use crate::roles::api::projection::{ProtobufKind, View, Visible};
use crate::roles::api::request::{ApiRequest, Verb};
use crate::roles::api::synthetic::Synthetic;
use crate::roles::api::table::{Denied, TableEntry};
use crate::types::name::{Namespace, NetworkName, TrustDomain};
use crate::wire::peers::PeerEntry;
use crate::wire::shared::Shared;

/// What a cluster lets its peers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Its trust domain, for the mesh configuration that is made here.
    pub trust_domain: TrustDomain,
    /// Where a peer is taken to have its istiod while it does not say.
    pub istio_namespace: Namespace,
    /// Its network, which is that of all its `WorkloadEntries`.
    pub network: Option<NetworkName>,
}

/// An answer to a request that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// The apiserver's.
    Forward(Forward),
    /// Made here.
    Synthetic(Synthetic),
    /// That the client has to list again: what it has is not what it would be given.
    Expired,
}

/// How a request is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Path and query, written anew from what was understood.
    pub path_and_query: String,
    /// Its answer lasts.
    pub watch: bool,
    /// Its answer may be long.
    pub list: bool,
    /// In what form its answer, a list, is asked for rather than in JSON.
    pub protobuf: Option<&'static ProtobufKind>,
    /// What of its answer is given.
    pub shown: Visible,
    /// The watch that begins with its answer, a list, and continues with the events after it.
    pub continues: Option<Box<ApiRequest>>,
}

impl PeerPolicy {
    /// Judges a request of a peer. `seconds`: how long a watch of it may last.
    pub fn admit(&self, request: &ApiRequest, peer: &PeerEntry, seconds: u64) -> Result<Admitted, Denied> {
        match TableEntry::of(request)? {
            TableEntry::ApiVersions => Ok(forward(request, Visible::of_api_versions(), seconds)),
            TableEntry::Secrets(resource) => Ok(Admitted::Synthetic(Synthetic::empty_list(resource))),
            // any revision's, in the namespace of the peer's own istiod
            TableEntry::MeshConfig { namespace, name } if namespace == self.system_namespace(peer).as_str() => {
                Ok(Admitted::Synthetic(Synthetic::mesh_config(namespace, name, &self.trust_domain)))
            }
            TableEntry::MeshConfig { .. } => Err(Denied::Private),
            TableEntry::Shared(resource, &Shared { may_be_empty, .. }) => {
                let (group, name) = (resource.group.as_str(), resource.resource.as_str());
                let view = self.view(peer);
                let empty = || match request.verb {
                    Verb::Get => Err(Denied::Namespace),
                    Verb::List | Verb::Watch => Ok(Admitted::Synthetic(Synthetic::empty_list(resource))),
                };
                if resource.namespace.as_ref().is_some_and(|namespace| !view.share.shows(namespace)) {
                    return empty();
                }
                let is_hidden = |name: &String| !view.share.shows(name) && *name != view.system.as_str();
                if (group, name) == ("", "namespaces") && resource.name.as_ref().is_some_and(is_hidden) {
                    return Err(Denied::Namespace);
                }
                let Some(mut shown) = Visible::of(group, name, &view) else {
                    return if may_be_empty { empty().map_err(|_| Denied::Resource) } else { Err(Denied::Resource) };
                };
                if resource.name.as_ref().is_some_and(|name| !shown.may_be_named(name)) {
                    return Err(Denied::Resource);
                }
                if !shown.may_be_selected(&request.query) {
                    return Err(Denied::Selector);
                }
                let resumed = shown.resumed(request);
                Ok(resumed.map_or(Admitted::Expired, |request| forward(&request, shown, seconds)))
            }
        }
    }

    /// What a peer sees.
    pub fn view(&self, peer: &PeerEntry) -> View {
        let system = self.system_namespace(peer).clone();
        View { share: peer.sees(), system, network: self.network.clone() }
    }

    fn system_namespace<'a>(&'a self, peer: &'a PeerEntry) -> &'a Namespace {
        peer.istio_namespace.as_ref().unwrap_or(&self.istio_namespace)
    }
}

fn forward(request: &ApiRequest, shown: Visible, seconds: u64) -> Admitted {
    let initial = request.initial_list();
    let continues = initial.is_some().then(|| Box::new(request.clone()));
    let request = initial.as_ref().unwrap_or(request);
    let path_and_query = request.path_and_query(seconds);
    let (watch, list) = (request.verb == Verb::Watch, request.verb == Verb::List);
    let of_list = request.resource().filter(|_| list);
    let protobuf = of_list.and_then(|of| ProtobufKind::of(&of.group, &of.version, &of.resource));
    Admitted::Forward(Forward { path_and_query, watch, list, protobuf, shown, continues })
}
