//! What clusters show before anything of ours runs in them, and what follows from it: names, cluster IDs, and which
//! hand-made remote secret leads where. [`draft`](crate::onboarding::draft) writes the first spec from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use std::time::Duration;

use crate::cluster::kubeconfig::KubeconfigFault;
use crate::cluster::plugin::PluginFault;
use crate::cluster::unread::ReadError;
use crate::istio::gateways::FoundGateways;
use crate::istio::installed::{ClusterIdError, ROOT_CA};
use crate::istio::mesh_config::MeshConfigError;
use crate::model::layout::secret_name;
use crate::onboarding::inventory::InventoryFault;
use crate::types::address::ApiHost;
use crate::types::certificate::{CertificateError, RootCertificate};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{
    ClusterId, ClusterName, ClusterUuid, Digest, InvalidName, MeshId, Namespace, NetworkName, Revision, TrustDomain,
};
use crate::types::object::MANAGER;
use crate::wire::metadata::IstioMode;

/// What a value is, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundIn<T> {
    pub value: T,
    pub from: String,
}

impl<T> FoundIn<T> {
    /// A value and its place.
    pub fn new(value: T, from: impl Into<String>) -> Self {
        Self { value, from: from.into() }
    }
}

/// What became of looking into the cluster of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Surveyed {
    Istio(Box<Survey>),
    NoIstio,
    /// It runs none of its own: another cluster's istiod acts for it.
    Remote {
        /// The namespace that states it.
        namespace: String,
        /// The clusters with its control planes, as the namespace has them.
        control_planes: String,
    },
    /// It could not be asked, for this reason.
    Unreachable(Unreachable),
}

/// Why a cluster could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The context of its kubeconfig leads nowhere.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigFault),
    /// The object that lists it leads nowhere.
    #[error(transparent)]
    Inventory(#[from] InventoryFault),
    /// Its credential plugin gave nothing.
    #[error(transparent)]
    Plugin(#[from] PluginFault),
    /// The first question was not answered.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The first question was not answered, and a proxy stood between.
    #[error("{source}; it was asked through the proxy {proxy} of {from}, and $NO_PROXY names what is reached without")]
    ThroughProxy {
        source: ReadError,
        proxy: String,
        /// What names it.
        from: String,
    },
    /// Not all questions were answered in this time.
    #[error("it did not answer everything in {} seconds", .0.as_secs())]
    Late(Duration),
}

impl Explain for Unreachable {
    fn explanation(&self) -> Explanation {
        Explanation::new(Code::KubeconfigUnusable, self.to_string())
    }
}

/// Why a fact of a cluster is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    /// Its object was not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The namespace whose UID names the cluster.
    #[error("there is no namespace kube-system")]
    NoKubeSystem,
    /// That UID is no UUID.
    #[error("the UID of namespace kube-system: {0}")]
    Uid(#[source] InvalidName),
    #[error(
        "neither ConfigMap {namespace}/{} nor Secret {namespace}/cacerts holds a root certificate", ROOT_CA.0
    )]
    NoRoot { namespace: Namespace },
    /// The root CAs are not understood.
    #[error(transparent)]
    Roots(#[from] CertificateError),
}

/// What a cluster with Istio shows. Nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Context of the kubeconfig.
    pub context: String,
    /// Its apiserver, as the kubeconfig names it.
    pub server: String,
    /// UID of `kube-system`.
    pub uuid: Result<ClusterUuid, SurveyError>,
    /// Where istiod runs.
    pub namespace: Namespace,
    /// Namespaces of further control planes, which are left alone.
    pub other_namespaces: Vec<String>,
    /// Revisions of istiod there.
    pub revisions: Vec<Revision>,
    /// The oldest version among them.
    pub version: Option<String>,
    /// What istiod calls its own cluster; `Kubernetes` where it is told nothing.
    pub cluster_id: Result<ClusterId, ClusterIdError>,
    /// The way in which Istio was installed, by its labels.
    pub installer: Installer,
    /// How it runs, where that keeps something of a join from working.
    pub modes: BTreeSet<IstioMode>,
    /// istiod has both switches that our mesh configuration needs.
    pub switched: bool,
    pub network: Option<FoundIn<NetworkName>>,
    /// East-west gateways; an empty list says that none is deployed.
    pub gateways: FoundGateways,
    pub gateway_services: Vec<String>,
    /// Services that are labelled as east-west gateways and lack the label of their network.
    pub unlabelled: Vec<String>,
    /// Its root CAs, public part.
    pub roots: Result<FoundIn<Vec<RootCertificate>>, SurveyError>,
    pub trust_domain: Option<FoundIn<TrustDomain>>,
    pub mesh_id: Option<MeshId>,
    /// The standard mesh configuration has `caCertificates`, which would hide ours; or why that cannot be determined.
    pub own_roots: Result<bool, MeshConfigError>,
    /// It has `meshNetworks`.
    pub own_networks: bool,
    /// Where something of ours runs already.
    pub installed: Installed,
    /// Its remote secrets; or why they could not be listed.
    pub secrets: Result<Vec<RemoteSecret>, ReadError>,
}

/// How Istio was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installer {
    /// By charts, or by hand.
    Helm,
    /// By an `IstioOperator`, as istioctl does.
    IstioOperator,
    /// By an `Istio` resource, as the Sail operator does.
    Sail,
}

/// What of ours a cluster has already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// SHA-256 of its own key.
    pub authn_key: Option<Digest>,
    /// CA of exporter and api-proxy, PEM.
    pub serving_ca: Option<String>,
    /// Address of the exporter's Service.
    pub exporter: Option<ApiHost>,
    /// Address of the api-proxy's Service.
    pub proxy: Option<ApiHost>,
}

/// A remote secret, without what is secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSecret {
    pub name: String,
    /// Its data keys, which are cluster IDs, and the server that the kubeconfig under each names.
    pub clusters: BTreeMap<String, Option<String>>,
    /// Who manages it, by its marks.
    pub managed_by: Option<String>,
}

/// A cluster with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedCluster {
    /// Its name in the checkout.
    pub name: FoundIn<ClusterName>,
    /// The cluster ID by which others are to know it, where the spec has to say it.
    pub cluster_id: Option<FoundIn<ClusterId>>,
    pub survey: Survey,
}

impl SurveyedCluster {
    /// The cluster ID by which others will know it.
    pub fn effective_id(&self) -> ClusterId {
        if let Some(id) = &self.cluster_id {
            return id.value.clone();
        }
        let published = self.survey.cluster_id.as_ref().ok().filter(|id| !id.is_istio_default());
        published.cloned().unwrap_or_else(|| ClusterId::from(&self.name.value))
    }
}

/// Names all clusters. Contexts that lead to one cluster are one; the second one's is given back beside the first one's.
///
/// A cluster is called what the others' remote secrets call it, else what its istiod does, else what its context says.
/// Names that two would share are made from the contexts instead.
pub fn name_all(surveys: Vec<Survey>) -> (Vec<SurveyedCluster>, Vec<(String, String)>) {
    let mut twice = Vec::new();
    let mut alone: Vec<Survey> = Vec::new();
    for survey in surveys {
        let same = |known: &&Survey| matches!((&known.uuid, &survey.uuid), (Ok(one), Ok(other)) if one == other);
        match alone.iter().find(same) {
            Some(known) => twice.push((survey.context, known.context.clone())),
            None => alone.push(survey),
        }
    }
    let keys = keys_of(&alone);
    let wanted: Vec<FoundIn<ClusterName>> =
        alone.iter().zip(&keys).map(|(survey, keys)| wanted_name(survey, keys)).collect();
    let mut taken = BTreeSet::new();
    let called: Vec<FoundIn<ClusterName>> = alone
        .iter()
        .zip(&wanted)
        .map(|(survey, first)| {
            let shared = wanted.iter().filter(|other| other.value == first.value).count() > 1;
            let name = if shared { apart(&survey.context, &alone) } else { first.clone() };
            let name = unique(name, &taken);
            taken.insert(name.value.clone());
            name
        })
        .collect();
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for id in alone.iter().filter_map(|survey| survey.cluster_id.as_ref().ok()) {
        *ids.entry(id.as_str()).or_default() += 1;
    }
    let stated: Vec<_> = alone
        .iter()
        .zip(&called)
        .zip(&keys)
        .map(|((survey, name), keys)| cluster_id(survey, &name.value, keys, &ids))
        .collect();
    let named = alone.into_iter().zip(called).zip(stated);
    (named.map(|((survey, name), cluster_id)| SurveyedCluster { name, cluster_id, survey }).collect(), twice)
}

/// For each cluster, the data keys under which the others' hand-made secrets have it, and who has it so.
fn keys_of(surveys: &[Survey]) -> Vec<BTreeMap<String, Vec<String>>> {
    let mut keys = vec![BTreeMap::<String, Vec<String>>::new(); surveys.len()];
    for (at, reader) in surveys.iter().enumerate() {
        for (id, server) in reader.secrets.iter().flatten().flat_map(|secret| &secret.clusters) {
            let Some(target) = leads_to(surveys, at, id, server.as_deref()) else { continue };
            if let Some(keys) = keys.get_mut(target) {
                keys.entry(id.clone()).or_default().push(reader.context.clone());
            }
        }
    }
    keys
}

/// The cluster that an entry of a remote secret leads to: by its server, else by its cluster ID, where that names only one.
fn leads_to(surveys: &[Survey], reader: usize, id: &str, server: Option<&str>) -> Option<usize> {
    let others = || surveys.iter().enumerate().filter(|(at, _)| *at != reader);
    let only = |mut found: Vec<usize>| if found.len() == 1 { found.pop() } else { None };
    if let Some(server) = server {
        let same = others().filter(|(_, other)| same_server(&other.server, server)).map(|(at, _)| at).collect();
        if let Some(found) = only(same) {
            return Some(found);
        }
    }
    let is_it = |survey: &Survey| {
        let own = survey.cluster_id.as_ref().ok().filter(|own| !own.is_istio_default());
        own.is_some_and(|own| own.as_str() == id) || survey.uuid.as_ref().is_ok_and(|uuid| uuid.as_str() == id)
    };
    let by_id: Vec<usize> = others().filter(|(_, other)| is_it(other)).map(|(at, _)| at).collect();
    if !by_id.is_empty() {
        return only(by_id);
    }
    let called = |survey: &Survey| from_context(&survey.context).value.as_str() == id;
    only(others().filter(|(_, other)| called(other)).map(|(at, _)| at).collect())
}

/// Whether two URLs name one apiserver.
fn same_server(one: &str, other: &str) -> bool {
    let plain = |url: &str| {
        let url = url.trim_end_matches('/').to_ascii_lowercase();
        url.strip_suffix(":443").map_or_else(|| url.clone(), str::to_owned)
    };
    plain(one) == plain(other)
}

fn wanted_name(survey: &Survey, keys: &BTreeMap<String, Vec<String>>) -> FoundIn<ClusterName> {
    // istioctl's default is the UID of kube-system, which no one wants to read
    if let Some((key, readers)) = most_used(keys)
        && key.parse::<ClusterUuid>().is_err()
        && let Ok(name) = key.parse()
    {
        return FoundIn::new(name, format!("what the remote secrets of {} call it", readers.join(", ")));
    }
    let own = survey.cluster_id.as_ref().ok().filter(|id| !id.is_istio_default());
    match own.and_then(|id| id.as_str().parse().ok()) {
        Some(name) => FoundIn::new(name, "CLUSTER_ID of istiod"),
        None => from_context(&survey.context),
    }
}

fn most_used(keys: &BTreeMap<String, Vec<String>>) -> Option<(&String, &Vec<String>)> {
    // of two that are used alike, the first
    keys.iter().rev().max_by_key(|(_, readers)| readers.len())
}

/// The ID that the spec has to state: the one in use, or the name where istiod's is no name of its own.
fn cluster_id(
    survey: &Survey,
    name: &ClusterName,
    keys: &BTreeMap<String, Vec<String>>,
    ids: &BTreeMap<&str, usize>,
) -> Option<FoundIn<ClusterId>> {
    if let Some((key, readers)) = most_used(keys)
        && let Ok(id) = key.parse::<ClusterId>()
        && !id.is_istio_default()
    {
        return Some(FoundIn::new(id, format!("data key of the remote secrets of {}", readers.join(", "))));
    }
    let own = survey.cluster_id.as_ref().ok()?;
    let shared = ids.get(own.as_str()).is_some_and(|count| *count > 1);
    (shared && !own.is_istio_default())
        .then(|| FoundIn::new(ClusterId::from(name), format!("`{own}` is the CLUSTER_ID of several clusters here")))
}

/// A name made of a context's: the last part of a path or of an ARN, the middle of `admin@east`, the host of `OpenShift`'s
/// `project/host:port/user`, in lower case.
pub fn from_context(context: &str) -> FoundIn<ClusterName> {
    let parts: Vec<&str> = context.split('/').collect();
    let host = match parts.as_slice() {
        [_, host, _] => host.rsplit_once(':').map(|(host, _)| host),
        _ => None,
    };
    let part = host.or_else(|| context.rsplit(['/', ':']).find(|part| !part.is_empty())).unwrap_or(context);
    let part = part.strip_prefix("api-").unwrap_or(part);
    let part = part.rsplit_once('@').map_or(part, |(_, after)| after);
    // Google's contexts are gke_PROJECT_ZONE_NAME
    let is_googles = part.starts_with("gke_") || part.starts_with("connectgateway_");
    let part = if is_googles { part.rsplit('_').next().unwrap_or(part) } else { part };
    FoundIn::new(ClusterName::near(part), format!("context `{}`", context.escape_debug()))
}

/// The same with what tells a context from those that would be called alike, such as the region or the account.
fn apart(context: &str, all: &[Survey]) -> FoundIn<ClusterName> {
    let parts = |context: &str| -> Vec<String> {
        let parts = context.split(['/', ':', '@', '_', ' ']).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let name = from_context(context);
    let others = all.iter().map(|survey| survey.context.as_str()).filter(|other| *other != context);
    let alike: Vec<Vec<String>> = others.filter(|other| from_context(other).value == name.value).map(parts).collect();
    let own = parts(context);
    let telling = own.iter().rev().find(|part| alike.iter().all(|other| !other.contains(part)));
    match telling.filter(|_| !alike.is_empty()) {
        Some(part) => FoundIn::new(ClusterName::near(&format!("{}-{part}", name.value)), name.from),
        None => name,
    }
}

/// The name, with a number where it is taken.
fn unique(name: FoundIn<ClusterName>, taken: &BTreeSet<ClusterName>) -> FoundIn<ClusterName> {
    if !taken.contains(&name.value) {
        return name;
    }
    let numbered = |number: usize| ClusterName::near(&format!("{}-{number}", name.value));
    let free = (2..=taken.len() + 2).map(numbered).find(|name| !taken.contains(name));
    FoundIn::new(free.unwrap_or_else(|| name.value.clone()), format!("{}, numbered since that was taken", name.from))
}

/// What becomes of a hand-made remote secret when ours takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    pub reader: ClusterName,
    /// Context of that cluster.
    pub context: String,
    pub namespace: Namespace,
    pub secret: String,
    /// The cluster that it leads to.
    pub peer: ClusterName,
    /// The cluster ID, its data key.
    pub id: String,
    pub way: Takeover,
}

/// Ways of taking a hand-made remote secret over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// It has the name and the key of ours: the sync that brings ours replaces it in one write.
    InPlace,
    /// It has another name: istiod must lose it just before ours comes, since it ignores the second of two secrets with
    /// one cluster ID, also after the first is gone.
    Switch,
    /// Its key is none that ours will have, or it has several: someone has to decide.
    ByHand,
}

/// A remote secret that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    pub reader: ClusterName,
    pub secret: String,
    pub why: Stays,
}

/// Why a remote secret stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stays {
    /// Someone else manages it.
    Managed {
        /// Who, by its label.
        by: String,
    },
    /// It leads to a cluster that was not looked into.
    Elsewhere { id: String },
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Managed { by } => {
                write!(f, "it belongs to `{}`, which has to release it first", by.escape_debug())
            }
            Self::Elsewhere { id } => write!(f, "it leads to `{}`, which no context here does", id.escape_debug()),
        }
    }
}

/// Remote secrets that were made by hand and lead to clusters that were looked into; and those that stay.
pub fn adoptions(clusters: &[SurveyedCluster]) -> (Vec<Adoption>, Vec<Stranger>) {
    let (mut found, mut strangers) = (Vec::new(), Vec::new());
    let surveys: Vec<Survey> = clusters.iter().map(|cluster| cluster.survey.clone()).collect();
    for (at, reader) in clusters.iter().enumerate() {
        let secrets = reader.survey.secrets.iter().flatten();
        for secret in secrets.filter(|secret| secret.managed_by.as_deref() != Some(MANAGER)) {
            let mut stays = |why| {
                let (reader, secret) = (reader.name.value.clone(), secret.name.clone());
                strangers.push(Stranger { reader, secret, why });
            };
            if let Some(owner) = &secret.managed_by {
                stays(Stays::Managed { by: owner.clone() });
                continue;
            }
            for (id, server) in &secret.clusters {
                let peer = leads_to(&surveys, at, id, server.as_deref()).and_then(|peer| clusters.get(peer));
                let Some(peer) = peer else {
                    stays(Stays::Elsewhere { id: id.clone() });
                    continue;
                };
                let same_name = secret.name == secret_name(&peer.name.value);
                let way = if peer.effective_id().as_str() != id || secret.clusters.len() > 1 {
                    Takeover::ByHand
                } else if same_name {
                    Takeover::InPlace
                } else {
                    Takeover::Switch
                };
                found.push(Adoption {
                    reader: reader.name.value.clone(),
                    context: reader.survey.context.clone(),
                    namespace: reader.survey.namespace.clone(),
                    secret: secret.name.clone(),
                    peer: peer.name.value.clone(),
                    id: id.clone(),
                    way,
                });
            }
        }
    }
    (found, strangers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster whose only facts are those that names follow from.
    fn survey(context: &str, id: &str, secrets: &[(&str, &[(&str, &str)])]) -> Survey {
        let number = context.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let secret = |(name, clusters): &(&str, &[(&str, &str)])| RemoteSecret {
            name: (*name).to_owned(),
            clusters: clusters.iter().map(|(id, server)| ((*id).to_owned(), Some((*server).to_owned()))).collect(),
            managed_by: None,
        };
        Survey {
            context: context.to_owned(),
            server: format!("https://{context}.example.com:443/"),
            uuid: Ok(format!("00000000-0000-4000-8000-{:012x}", number & 0xffff_ffff_ffff).parse().unwrap()),
            namespace: Namespace::istio_system(),
            other_namespaces: Vec::new(),
            revisions: Vec::new(),
            version: None,
            cluster_id: Ok(id.parse().unwrap()),
            installer: Installer::Helm,
            modes: BTreeSet::new(),
            switched: true,
            network: None,
            gateways: Ok(Vec::new()),
            gateway_services: Vec::new(),
            unlabelled: Vec::new(),
            roots: Err(SurveyError::NoKubeSystem),
            trust_domain: None,
            mesh_id: None,
            own_roots: Ok(false),
            own_networks: false,
            installed: Installed::default(),
            secrets: Ok(secrets.iter().map(secret).collect()),
        }
    }

    fn names(surveys: Vec<Survey>) -> Vec<(String, String)> {
        let (named, _) = name_all(surveys);
        named.iter().map(|one| (one.name.value.to_string(), one.effective_id().to_string())).collect()
    }

    fn pair(name: &str, id: &str) -> (String, String) {
        (name.to_owned(), id.to_owned())
    }

    #[test]
    fn a_name_is_made_of_what_people_call_a_context() {
        for (context, name) in [
            ("kind-east", "kind-east"),
            ("admin@east.example.com", "east-example-com"),
            ("arn:aws:eks:eu-west-1:123456789012:cluster/prod_east", "prod-east"),
            ("gke_shop_europe-west1_west", "west"),
            ("connectgateway_shop_global_west", "west"),
            ("web/api-east-example-com:6443/kube:admin", "east-example-com"),
            ("Größe", "gr-e"),
            ("@", "cluster"),
        ] {
            assert_eq!(from_context(context).value.as_str(), name);
        }
    }

    #[test]
    fn istiods_name_comes_before_the_contexts_and_the_peers_before_both() {
        let east = survey("a", "east", &[("x", &[("prod-west", "https://b.example.com")])]);
        let west = survey("b", "west", &[]);
        assert_eq!(names(vec![east, west]), [pair("east", "east"), pair("prod-west", "prod-west")]);
        // Istio's default names no one, and neither does the UID that istioctl takes for a name
        let uid = "4a0283e9-7b05-4319-b3a1-22adee3e5bfb";
        let east = survey("a", "Kubernetes", &[("x", &[(uid, "https://b.example.com")])]);
        assert_eq!(names(vec![east, survey("b", "Kubernetes", &[])]), [pair("a", "a"), pair("b", uid)]);
    }

    #[test]
    fn what_two_clusters_would_share_neither_gets() {
        let both = || vec![survey("a", "cluster1", &[]), survey("b", "cluster1", &[])];
        assert_eq!(names(both()), [pair("a", "a"), pair("b", "b")]);
        let alike = vec![survey("u@c", "Kubernetes", &[]), survey("v@c", "Kubernetes", &[])];
        assert_eq!(names(alike), [pair("c-u", "c-u"), pair("c-v", "c-v")]);
        // one name in two regions, in two projects, behind two hosts
        for (contexts, called) in [
            (
                ["arn:aws:eks:eu-west-1:123456789012:cluster/prod", "arn:aws:eks:us-east-1:123456789012:cluster/prod"],
                ["prod-eu-west-1", "prod-us-east-1"],
            ),
            (["gke_shop_europe-west1_prod", "gke_shop_us-east1_prod"], ["prod-europe-west1", "prod-us-east1"]),
            (
                ["a/api-east-example-com:6443/kube:admin", "a/api-west-example-com:6443/kube:admin"],
                ["east-example-com", "west-example-com"],
            ),
            (["prod", "x/prod"], ["prod", "prod-x"]),
        ] {
            let surveys = contexts.iter().map(|context| survey(context, "Kubernetes", &[])).collect();
            assert_eq!(names(surveys), called.map(|name| pair(name, name)));
        }
    }

    #[test]
    fn each_remote_secret_has_its_way() {
        let secrets: &[(&str, &[(&str, &str)])] = &[
            ("istio-remote-secret-west", &[("west", "https://elsewhere")]),
            ("all", &[("north", "https://n.example.com"), ("far", "https://far")]),
            ("mine", &[("south", "https://s.example.com")]),
        ];
        let west = survey("w", "west", &[("old", &[("front", "https://e.example.com")])]);
        let south = survey("s", "south", &[("istio-remote-secret-east", &[("east", "https://e.example.com")])]);
        let surveys = vec![survey("e", "east", secrets), west, survey("n", "north", &[]), south];
        let (found, strangers) = adoptions(&name_all(surveys).0);
        let ways: Vec<_> = found.iter().map(|one| (one.secret.as_str(), one.peer.as_str(), one.way)).collect();
        assert_eq!(
            ways,
            [
                ("istio-remote-secret-west", "west", Takeover::InPlace),
                ("all", "north", Takeover::ByHand),
                ("mine", "south", Takeover::Switch),
                // east is known by two IDs, of which one stays
                ("old", "east", Takeover::ByHand),
                ("istio-remote-secret-east", "east", Takeover::InPlace),
            ]
        );
        assert_eq!(strangers.len(), 1);
        assert_eq!(strangers[0].why, Stays::Elsewhere { id: "far".to_owned() });
        assert_eq!(strangers[0].why.to_string(), "it leads to `far`, which no context here does");
    }
}
