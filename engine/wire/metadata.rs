//! The documents a metadata-exporter publishes: Deckhouse's wire format, plus fields of ours that older readers ignore.
//!
//! `public/public.json` names the cluster, its key and its root CA; `private/multicluster.json`, behind a token, its
//! api-proxy, gateways and network. A required field that is empty or absent is [`Reading::Incomplete`]: the peer is still
//! starting, and one waits. Anything else that breaks a grammar or a limit is a [`MetadataError`].
//!
//! Every text in them has a grammar and a limit when it is read: names are [names](crate::types::name), sentences are one line
//! that steers nothing, certificates are PEM and nothing beside it, YAML is within the budget of [`yaml`]. What only one
//! element of a list or one fact breaks takes this element away and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::types::address::{ApiHost, Gateway};
use crate::types::cause::Cause;
use crate::types::json::{JsonError, parse_strict};
use crate::types::key::{KeyError, KeyId, PublicKey};
use crate::types::name::{
    ClusterDomain, ClusterId, ClusterUuid, Digest, InvalidName, MeshId, Namespace, NetworkName, Revision, TrustDomain,
};
use crate::types::text::sentence_of_peer;
use crate::types::token::Scope;
use crate::types::yaml::{self, MAX_TEXT};
use crate::wire::hand_over::HandOverState;

/// Path of the public document below an endpoint.
pub const PUBLIC_PATH: &str = "public/public.json";
/// Path of the private document below an endpoint.
pub const PRIVATE_PATH: &str = "private/multicluster.json";
/// Path of the document of single services below an endpoint (Deckhouse's `IstioFederation`).
pub const FEDERATION_PATH: &str = "private/federation.json";
/// Most gateways a peer may publish.
pub const MAX_GATEWAYS: usize = 64;
/// Most authn keys a peer may publish.
pub const MAX_AUTHN_KEYS: usize = 16;
/// Most characters of a version.
const MAX_VERSION: usize = 64;
/// Most bytes of one PEM field.
pub const MAX_PEM: usize = 64 * 1024;

/// A document as far as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading<T> {
    /// All that is required is there.
    Complete(T),
    /// These required fields are empty or absent.
    Incomplete(Vec<&'static str>),
}

/// What is wrong with a field's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// It breaks the grammar of a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is of another type or form.
    #[error(transparent)]
    Json(Cause<serde_json::Error>),
    #[error("not an object")]
    NotObject,
    /// A text with too many bytes.
    #[error("more than {most} bytes")]
    TooLong {
        /// How many are read.
        most: usize,
    },
    #[error("expected PEM certificates, found another text")]
    NotPem,
    /// A list with too many entries.
    #[error("expected at most {most} entries, found {count}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many are read.
        most: usize,
    },
}

/// A document that breaks the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not JSON, or JSON that two readers could take differently.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field whose value breaks its grammar.
    #[error("{field}: {problem}")]
    Field {
        /// The field, in the spelling of the document.
        field: &'static str,
        /// What is wrong with its value.
        problem: FieldFault,
    },
}

/// `public/public.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicDocument {
    /// UID of the `kube-system` namespace.
    pub cluster_uuid: ClusterUuid,
    /// The cluster's own key, `authnKeyPub`.
    pub authn_key: PublicKey,
    /// Root CA certificates as published, PEM; not yet checked as certificates.
    pub root_ca: String,
    pub mesh_id: Option<MeshId>,
    pub trust_domain: Option<TrustDomain>,
    /// DNS domain.
    pub cluster_domain: Option<ClusterDomain>,
    /// CA of the serving certificates of exporter and api-proxy, PEM.
    pub serving_ca: Option<String>,
    /// CA of the relay's serving certificate, PEM.
    pub relay_ca: Option<String>,
    /// All keys that speak for the cluster or for an engine that reads in its name.
    pub authn_keys: Vec<AuthnKey>,
    /// What the cluster's CA revoked, PEM; `None`: nothing, or it is not understood.
    pub crl: Option<String>,
    pub istio: Option<IstioFacts>,
}

/// A key and what it may be used for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AuthnKey {
    /// The `kid` of its tokens.
    pub id: KeyId,
    /// Its public half.
    pub pem: PublicKey,
    /// What it may ask for.
    pub scopes: BTreeSet<Scope>,
}

/// Facts on a cluster's Istio.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IstioFacts {
    /// Version of the control plane, for example `1.31.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// How it runs, where that keeps something of a join from working.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub modes: BTreeSet<IstioMode>,
}

/// Ways of running Istio in which something of a join does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IstioMode {
    /// ztunnel carries traffic, and takes no roots from istiod but its own.
    Ambient,
    /// Its istiod acts for other clusters, which have none.
    ExternalControlPlane,
    /// Its istiod reads peers from files, and looks at no Secret.
    KubeconfigFolder,
}

impl IstioMode {
    /// Whether no link of the cluster can work.
    pub fn hinders_all(self) -> bool {
        self != Self::Ambient
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Ambient => {
                "keep workloads that speak with peers on sidecars, or put the roots of all peers into `root-cert.pem` of the Secret `cacerts`"
            }
            Self::ExternalControlPlane => "give each cluster an istiod of its own, and join those",
            Self::KubeconfigFolder => "take the variable away from istiod, which then reads remote secrets",
        }
    }
}

impl std::fmt::Display for IstioMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ambient => {
                "Istio runs in ambient mode (PILOT_ENABLE_AMBIENT), in which ztunnel trusts no root of a peer (istio/istio#61719)"
            }
            Self::ExternalControlPlane => {
                "istiod is an external control plane (EXTERNAL_ISTIOD), whose remote secrets are those of clusters without an istiod"
            }
            Self::KubeconfigFolder => {
                "istiod reads its peers from files (PILOT_MULTICLUSTER_KUBECONFIG_PATH), and reads no remote secret"
            }
        })
    }
}

impl IstioFacts {
    /// Major and minor number of the oldest istiod; `None`: it is not known.
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.as_ref()?.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

/// `private/multicluster.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateDocument {
    /// Public addresses of the east-west gateways, sorted; empty: none are deployed.
    pub ingress_gateways: Vec<Gateway>,
    /// Public addresses of the gateways of ambient mode, sorted; empty: none are deployed, or none is understood.
    pub ambient_gateways: Vec<Gateway>,
    /// Address of the api-proxy.
    pub api_host: ApiHost,
    /// Cluster ID; older exporters omit it.
    pub cluster_id: Option<ClusterId>,
    pub network_name: NetworkName,
    /// CA of the api-proxy, PEM.
    pub api_ca: Option<String>,
    /// What is live in the cluster; absent from older exporters and other implementations.
    pub evidence: Option<Evidence>,
    /// What its relay read of its peers, as [`PeerSeen`](crate::wire::seen::PeerSeen) is published; shown to its own engine alone.
    pub peers_seen: Vec<Value>,
    /// UUIDs of readers of the document whose links with the cluster leave, by its own spec.
    pub leaving: BTreeSet<ClusterUuid>,
}

/// A piece of evidence, or why the exporter could not learn it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported<T> {
    Seen(T),
    /// Not known, for this reason; whoever needs it waits.
    Unknown(String),
}

/// What is live in a cluster, as it publishes it itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// SHA-256 of the DER of each root in effect, the cluster's own among them.
    pub trusts: Reported<BTreeSet<Digest>>,
    /// Networks in effect.
    pub networks: Reported<Vec<LiveNetwork>>,
    /// Remote clusters of every istiod, worst state of all.
    pub reads: Reported<Vec<Read>>,
    /// Routes of the relay.
    pub routes: Reported<Vec<LiveRoute>>,
    /// istiod has both switches and no injected proxy lacks `PROXY_CONFIG_XDS_AGENT`.
    pub prepared: Reported<bool>,
    /// Every istiod, and the Deployments that make the next ones, has the token that a strict relay asks for. Absent from older
    /// exporters.
    pub relay_token: Reported<bool>,
    /// Key id each peer last used at the api-proxy.
    pub credentials: Reported<Vec<CredentialUse>>,
    /// What the standard mesh configuration says.
    pub mesh_config: Reported<StandardMeshConfig>,
    /// The serial of `peers.json`, by which the engine knows which of its runs is synced; 0 where it has none.
    pub serial: Reported<u64>,
    /// The key of the engine whose run that is, where the cluster lists those of several.
    pub writer: Option<KeyId>,
    /// How far the agent of the cluster is with a hand-over; `None`: it says nothing, or the exporter is older.
    pub hand_over: Option<HandOverState>,
}

/// A network in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveNetwork {
    pub name: NetworkName,
    pub gateways: Vec<Gateway>,
}

/// A remote cluster as istiod sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Data key of the remote secret.
    #[serde(rename = "clusterID")]
    pub cluster_id: ClusterId,
    pub state: ReadState,
}

/// States of `/debug/clusterz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadState {
    /// All informers are in step.
    Synced,
    Syncing,
    /// Given up for now.
    Timeout,
}

/// A route of the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRoute {
    #[serde(rename = "clusterID")]
    pub cluster_id: ClusterId,
    /// Where it is sent.
    #[serde(rename = "apiHost")]
    pub api_host: ApiHost,
    /// Whether `GET /api` was answered with 200.
    pub state: RouteState,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "sentence")]
    pub reason: Option<String>,
}

fn sentence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(|text| sentence_of_peer(&text)))
}

/// Whether a route works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteState {
    /// `GET /api` was answered with 200.
    Ok,
    Failed,
}

/// The key a peer last used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialUse {
    #[serde(rename = "clusterUUID")]
    pub cluster_uuid: ClusterUuid,
    #[serde(rename = "keyID")]
    pub key_id: KeyId,
    /// When, seconds since 1970; older exporters omit it.
    #[serde(rename = "lastUsed", default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<i64>,
}

/// The parts of Istio's standard mesh configuration that meet ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StandardMeshConfig {
    /// It has `caCertificates`, which hide ours.
    pub ca_certificates: bool,
    /// Its `meshNetworks`, which ours replace.
    pub mesh_networks: Option<String>,
    /// What it says in every revision; `None`: its exporter does not publish that, or this engine does not understand it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_understood")]
    pub every_revision: Option<EveryRevision>,
}

/// What the standard mesh configurations of all revisions have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EveryRevision {
    /// Trust domains of each root in `caCertificates`, by the SHA-256 of its DER.
    pub roots: BTreeMap<Digest, BTreeSet<TrustDomain>>,
    /// `trustDomainAliases`.
    pub trust_domain_aliases: BTreeSet<TrustDomain>,
    /// Each has the same `meshNetworks`.
    pub same_networks: bool,
}

/// A value that is absent or is not understood is not known.
fn if_understood<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

#[derive(Deserialize, Serialize, Default)]
struct WirePublic<Istio> {
    #[serde(rename = "clusterUUID", default)]
    cluster_uuid: Option<String>,
    #[serde(rename = "authnKeyPub", default)]
    authn_key_pub: Option<String>,
    #[serde(rename = "rootCA", default)]
    root_ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crl: Option<Value>,
    #[serde(rename = "meshID", default, skip_serializing_if = "Option::is_none")]
    mesh_id: Option<String>,
    #[serde(rename = "trustDomain", default, skip_serializing_if = "Option::is_none")]
    trust_domain: Option<String>,
    #[serde(rename = "clusterDomain", default, skip_serializing_if = "Option::is_none")]
    cluster_domain: Option<String>,
    #[serde(rename = "servingCA", default, skip_serializing_if = "Option::is_none")]
    serving_ca: Option<String>,
    #[serde(rename = "relayCA", default, skip_serializing_if = "Option::is_none")]
    relay_ca: Option<String>,
    #[serde(rename = "authnKeys", default, skip_serializing_if = "Option::is_none")]
    authn_keys: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    istio: Option<Istio>,
}

#[derive(Deserialize, Serialize, Default)]
struct WirePrivate {
    #[serde(rename = "ingressGateways", default)]
    ingress_gateways: Option<Vec<Value>>,
    #[serde(rename = "ambientGateways", default, skip_serializing_if = "Option::is_none")]
    ambient_gateways: Option<Value>,
    #[serde(rename = "apiHost", default)]
    api_host: Option<String>,
    #[serde(rename = "clusterID", default, skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    #[serde(rename = "networkName", default)]
    network_name: Option<String>,
    #[serde(rename = "apiCA", default, skip_serializing_if = "Option::is_none")]
    api_ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Value>,
    #[serde(rename = "peersSeen", default, skip_serializing_if = "Option::is_none")]
    peers_seen: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaving: Option<Value>,
}

fn field_error(field: &'static str) -> impl Fn(FieldFault) -> MetadataError {
    move |problem| MetadataError::Field { field, problem }
}

/// A text field through its grammar; an empty one is an absent one.
fn parsed<T: std::str::FromStr<Err = InvalidName>>(
    field: &'static str,
    text: Option<String>,
) -> Result<Option<T>, MetadataError> {
    text.filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|error: InvalidName| field_error(field)(error.into())))
        .transpose()
}

/// A list as it is published.
fn values<'a, T: Serialize + 'a>(list: impl IntoIterator<Item = &'a T>) -> Vec<Value> {
    list.into_iter().filter_map(|element| serde_json::to_value(element).ok()).collect()
}

fn short_field(field: &'static str, text: Option<String>) -> Result<Option<String>, MetadataError> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) if text.len() > MAX_PEM => Err(field_error(field)(FieldFault::TooLong { most: MAX_PEM })),
        text => Ok(text),
    }
}

fn pem_field(field: &'static str, text: Option<String>) -> Result<Option<String>, MetadataError> {
    let pem = |text| pem_alone(text, "CERTIFICATE").ok_or_else(|| field_error(field)(FieldFault::NotPem));
    short_field(field, text)?.map(pem).transpose()
}

/// Revocation lists, where they are understood. Nothing rests on them yet, so no other text keeps the document back.
fn revocations(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str().filter(|text| text.len() <= MAX_PEM)?;
    pem_alone(text.to_owned(), "X509 CRL")
}

/// The gateways of a list that are understood; none of a list that is too long.
fn understood(value: Option<Value>) -> Vec<Gateway> {
    let Some(Value::Array(list)) =
        value.filter(|value| value.as_array().is_some_and(|list| list.len() <= MAX_GATEWAYS))
    else {
        return Vec::new();
    };
    let gateways: BTreeSet<Gateway> = list.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect();
    gateways.into_iter().collect()
}

/// The UUIDs of a list; what is none says nothing.
fn uuids(value: Option<Value>) -> BTreeSet<ClusterUuid> {
    let Some(Value::Array(list)) = value else { return BTreeSet::new() };
    list.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect()
}

/// The blocks of this label of a PEM text without what is between them; as it was, where nothing does. `None` where there
/// is no block, or something else in one.
fn pem_alone(text: String, label: &str) -> Option<String> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let is_base64 = |line: &str| line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=\r \t".contains(&byte));
    let (mut inside, mut between, mut blocks) = (false, false, String::new());
    for line in text.split_inclusive('\n') {
        match line.trim() {
            line if line == begin && !inside => inside = true,
            line if line == end && inside => inside = false,
            line if inside && is_base64(line) => {}
            _ if inside => return None,
            line => {
                between |= !line.is_empty();
                continue;
            }
        }
        blocks.push_str(line);
    }
    let is_whole = !inside && !blocks.is_empty();
    is_whole.then_some(if between { blocks } else { text })
}

/// The elements of a list that are understood. Where none of several is, the first says why.
fn elements<T: DeserializeOwned>(field: &'static str, list: Vec<Value>, most: usize) -> Result<Vec<T>, MetadataError> {
    let (mut understood, mut first) = (Vec::new(), None);
    for element in at_most(field, list, most)? {
        match serde_json::from_value(element) {
            Ok(element) => understood.push(element),
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) if understood.is_empty() => Err(field_error(field)(FieldFault::Json(error.into()))),
        _ => Ok(understood),
    }
}

/// A key with the scopes of it that this engine knows.
fn known_scopes(mut key: Value) -> Value {
    if let Some(Value::Array(scopes)) = key.get_mut("scopes") {
        scopes.retain(|scope| serde_json::from_value::<Scope>(scope.clone()).is_ok());
    }
    key
}

impl IstioFacts {
    /// The facts that are understood of those that were published.
    fn published(value: &Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let is_version = |text: &&str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
            !text.is_empty() && text.len() <= MAX_VERSION && text.bytes().all(known)
        };
        let revisions = value.get("revisions").and_then(Value::as_array).into_iter().flatten();
        Self {
            version: text("version").filter(is_version).map(ToOwned::to_owned),
            revisions: revisions.filter_map(|revision| revision.as_str()?.parse().ok()).collect(),
            namespace: text("namespace").and_then(|namespace| namespace.parse().ok()),
            modes: {
                let modes = value.get("modes").and_then(Value::as_array).into_iter().flatten();
                modes.filter_map(|mode| IstioMode::deserialize(mode).ok()).collect()
            },
        }
    }
}

fn at_most<T>(field: &'static str, list: Vec<T>, most: usize) -> Result<Vec<T>, MetadataError> {
    if list.len() > most {
        return Err(field_error(field)(FieldFault::TooMany { count: list.len(), most }));
    }
    Ok(list)
}

/// Reads each known field of a document by itself, so that an error names its field; unknown fields are ignored.
fn wire<T: DeserializeOwned>(value: Value, fields: &[&'static str]) -> Result<T, MetadataError> {
    let Value::Object(mut map) = value else {
        return Err(field_error("document")(FieldFault::NotObject));
    };
    map.retain(|key, _| fields.contains(&key.as_str()));
    let whole = Value::Object(map.clone());
    serde_json::from_value(whole).map_err(|error| {
        let alone = |field: &&'static str| {
            let value = map.get(*field)?;
            let one = Value::Object([((*field).to_owned(), value.clone())].into_iter().collect());
            serde_json::from_value::<T>(one).err().map(|error| field_error(field)(FieldFault::Json(error.into())))
        };
        fields.iter().find_map(alone).unwrap_or_else(|| field_error("document")(FieldFault::Json(error.into())))
    })
}

impl PublicDocument {
    /// Reads the document. Without a required field it is [`Reading::Incomplete`]; a value that breaks its grammar is an error.
    pub fn parse(bytes: &[u8]) -> Result<Reading<Self>, MetadataError> {
        Self::from_value(parse_strict(bytes)?)
    }

    /// The same from JSON that was parsed strictly.
    pub fn from_value(value: Value) -> Result<Reading<Self>, MetadataError> {
        const FIELDS: [&str; 11] = [
            "clusterUUID",
            "authnKeyPub",
            "rootCA",
            "crl",
            "meshID",
            "trustDomain",
            "clusterDomain",
            "servingCA",
            "relayCA",
            "authnKeys",
            "istio",
        ];
        let wire: WirePublic<Value> = wire(value, &FIELDS)?;
        let cluster_uuid = parsed("clusterUUID", wire.cluster_uuid)?;
        let authn_key = match wire.authn_key_pub.filter(|pem| !pem.is_empty()) {
            Some(pem) => Some(PublicKey::from_pem(&pem).map_err(|error| field_error("authnKeyPub")(error.into()))?),
            None => None,
        };
        // whoever reads the certificates in it takes nothing else of it
        let root_ca = short_field("rootCA", wire.root_ca)?;
        let mut missing = Vec::new();
        missing.extend(cluster_uuid.is_none().then_some("clusterUUID"));
        missing.extend(authn_key.is_none().then_some("authnKeyPub"));
        missing.extend(root_ca.is_none().then_some("rootCA"));
        let (Some(cluster_uuid), Some(authn_key), Some(root_ca)) = (cluster_uuid, authn_key, root_ca) else {
            return Ok(Reading::Incomplete(missing));
        };
        let authn_keys = wire.authn_keys.unwrap_or_default().into_iter().map(known_scopes).collect();
        let mut authn_keys: Vec<AuthnKey> = elements("authnKeys", authn_keys, MAX_AUTHN_KEYS)?;
        authn_keys.sort();
        authn_keys.dedup();
        Ok(Reading::Complete(Self {
            cluster_uuid,
            authn_key,
            root_ca,
            mesh_id: parsed("meshID", wire.mesh_id)?,
            trust_domain: parsed("trustDomain", wire.trust_domain)?,
            cluster_domain: parsed("clusterDomain", wire.cluster_domain)?,
            serving_ca: pem_field("servingCA", wire.serving_ca)?,
            relay_ca: pem_field("relayCA", wire.relay_ca)?,
            authn_keys,
            crl: revocations(wire.crl.as_ref()),
            istio: wire.istio.as_ref().filter(|istio| istio.is_object()).map(IstioFacts::published),
        }))
    }

    /// The document as it is published: two-space JSON, Deckhouse's fields first.
    pub fn to_json(&self) -> String {
        let wire = WirePublic {
            cluster_uuid: Some(self.cluster_uuid.to_string()),
            authn_key_pub: Some(self.authn_key.to_pem()),
            root_ca: Some(self.root_ca.clone()),
            crl: self.crl.clone().map(Value::from),
            mesh_id: self.mesh_id.as_ref().map(ToString::to_string),
            trust_domain: self.trust_domain.as_ref().map(ToString::to_string),
            cluster_domain: self.cluster_domain.as_ref().map(ToString::to_string),
            serving_ca: self.serving_ca.clone(),
            relay_ca: self.relay_ca.clone(),
            authn_keys: (!self.authn_keys.is_empty()).then(|| values(&self.authn_keys)),
            istio: self.istio.as_ref(),
        };
        serde_json::to_string_pretty(&wire).unwrap_or_default()
    }
}

/// What the reader states of a cluster by itself. It stands for what the cluster's document lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatedByReader<'a> {
    pub gateways: Option<&'a [Gateway]>,
    /// Address of the api-proxy.
    pub api_host: Option<&'a ApiHost>,
    pub network: Option<&'a NetworkName>,
}

impl PrivateDocument {
    /// Reads the document. Without a required field it is [`Reading::Incomplete`]; a value that breaks its grammar is an error.
    pub fn parse(bytes: &[u8]) -> Result<Reading<Self>, MetadataError> {
        Self::parse_beside(bytes, StatedByReader::default())
    }

    /// The same, where the reader states values: it is incomplete only without what is not stated either.
    pub fn parse_beside(bytes: &[u8], stated: StatedByReader<'_>) -> Result<Reading<Self>, MetadataError> {
        Self::from_value(parse_strict(bytes)?, stated)
    }

    /// The same from JSON that was parsed strictly.
    pub fn from_value(value: Value, stated: StatedByReader<'_>) -> Result<Reading<Self>, MetadataError> {
        const FIELDS: [&str; 9] = [
            "ingressGateways",
            "ambientGateways",
            "apiHost",
            "clusterID",
            "networkName",
            "apiCA",
            "evidence",
            "peersSeen",
            "leaving",
        ];
        let wire: WirePrivate = wire(value, &FIELDS)?;
        let gateways = wire.ingress_gateways.map(|list| elements::<Gateway>("ingressGateways", list, MAX_GATEWAYS));
        let gateways = gateways.transpose()?.or_else(|| stated.gateways.map(<[Gateway]>::to_vec));
        let api_host = parsed("apiHost", wire.api_host)?.or_else(|| stated.api_host.cloned());
        // a stated one stands for one that is none to us, too: Deckhouse's may be too long for a label
        let network_name = match (parsed("networkName", wire.network_name), stated.network) {
            (Ok(None) | Err(_), Some(stated)) => Some(stated.clone()),
            (published, _) => published?,
        };
        let mut missing = Vec::new();
        missing.extend(gateways.is_none().then_some("ingressGateways"));
        missing.extend(api_host.is_none().then_some("apiHost"));
        missing.extend(network_name.is_none().then_some("networkName"));
        let (Some(mut ingress_gateways), Some(api_host), Some(network_name)) = (gateways, api_host, network_name)
        else {
            return Ok(Reading::Incomplete(missing));
        };
        ingress_gateways.sort();
        ingress_gateways.dedup();
        Ok(Reading::Complete(Self {
            ingress_gateways,
            ambient_gateways: understood(wire.ambient_gateways),
            api_host,
            cluster_id: parsed("clusterID", wire.cluster_id)?,
            network_name,
            api_ca: pem_field("apiCA", wire.api_ca)?,
            evidence: wire.evidence.map(Evidence::parse),
            peers_seen: match wire.peers_seen {
                Some(Value::Array(seen)) => seen,
                _ => Vec::new(),
            },
            leaving: uuids(wire.leaving),
        }))
    }

    /// The document as it is published: two-space JSON, Deckhouse's fields first.
    pub fn to_json(&self) -> String {
        let wire = WirePrivate {
            ingress_gateways: Some(values(&self.ingress_gateways)),
            ambient_gateways: (!self.ambient_gateways.is_empty()).then(|| Value::Array(values(&self.ambient_gateways))),
            api_host: Some(self.api_host.to_string()),
            cluster_id: self.cluster_id.as_ref().map(ToString::to_string),
            network_name: Some(self.network_name.to_string()),
            api_ca: self.api_ca.clone(),
            evidence: self.evidence.as_ref().map(Evidence::to_value),
            peers_seen: (!self.peers_seen.is_empty()).then(|| Value::Array(self.peers_seen.clone())),
            leaving: (!self.leaving.is_empty()).then(|| values(&self.leaving).into()),
        };
        serde_json::to_string_pretty(&wire).unwrap_or_default()
    }
}

/// `private/federation.json`, in which a cluster shares no service by itself: what the clusters of a mesh share, their istiods
/// read.
pub fn federation_json(gateways: &[Gateway]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct WireFederation<'a> {
        ingress_gateways: &'a [Gateway],
        public_services: [(); 0],
    }
    let wire = WireFederation { ingress_gateways: gateways, public_services: [] };
    serde_json::to_string_pretty(&wire).unwrap_or_default()
}

/// The fields of evidence as they were published, and the reasons of what is unknown.
struct EvidenceFields {
    map: serde_json::Map<String, Value>,
    reasons: BTreeMap<String, String>,
}

impl EvidenceFields {
    /// The value of a field, or why it is unknown. What is absent, null or said to be unknown is unknown.
    fn take(&mut self, key: &str) -> Reported<Value> {
        match (self.map.remove(key), self.reasons.get(key)) {
            (_, Some(reason)) => Reported::Unknown(reason.clone()),
            (Some(Value::Null) | None, None) => Reported::Unknown("not published".to_owned()),
            (Some(value), None) => Reported::Seen(value),
        }
    }

    /// A piece of evidence; what is not understood is unknown, and holds back nothing else.
    fn shown<T: DeserializeOwned>(&mut self, key: &str) -> Reported<T> {
        match self.take(key) {
            Reported::Seen(value) => match serde_json::from_value(value) {
                Ok(value) => Reported::Seen(value),
                Err(error) => Reported::Unknown(sentence_of_peer(&format!("published and not understood: {error}"))),
            },
            Reported::Unknown(reason) => Reported::Unknown(reason),
        }
    }

    /// A list; what is not understood in it can be no value that this engine wrote, and does not hide the others.
    fn list<T: DeserializeOwned, L: FromIterator<T>>(&mut self, key: &str) -> Reported<L> {
        match self.take(key) {
            Reported::Seen(Value::Array(items)) => {
                Reported::Seen(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
            }
            Reported::Seen(_) => Reported::Unknown("published and not understood: expected a list".to_owned()),
            Reported::Unknown(reason) => Reported::Unknown(reason),
        }
    }
}

impl Evidence {
    /// Evidence of which nothing is known, for one reason.
    pub fn unknown(reason: &str) -> Self {
        fn unknown<T>(reason: &str) -> Reported<T> {
            Reported::Unknown(reason.to_owned())
        }
        Self {
            trusts: unknown(reason),
            networks: unknown(reason),
            reads: unknown(reason),
            routes: unknown(reason),
            prepared: unknown(reason),
            relay_token: unknown(reason),
            credentials: unknown(reason),
            mesh_config: unknown(reason),
            serial: unknown(reason),
            writer: None,
            hand_over: None,
        }
    }

    fn parse(value: Value) -> Self {
        let Value::Object(mut map) = value else {
            return Self::unknown("published and not understood: expected an object");
        };
        let reasons: BTreeMap<String, String> = match map.remove("unknown") {
            Some(Value::Object(reasons)) => {
                let text = |reason: Value| match reason {
                    Value::String(text) => sentence_of_peer(&text),
                    _ => "not published".to_owned(),
                };
                reasons.into_iter().map(|(key, reason)| (key, text(reason))).collect()
            }
            Some(Value::Null) | None => BTreeMap::new(),
            Some(_) => return Self::unknown("published and not understood: expected reasons by field in `unknown`"),
        };
        let mut fields = EvidenceFields { map, reasons };
        Self {
            trusts: fields.list("trusts"),
            networks: fields.list("networks"),
            reads: fields.list("reads"),
            routes: fields.list("routes"),
            prepared: fields.shown("prepared"),
            relay_token: fields.shown("relayToken"),
            credentials: fields.list("credentials"),
            mesh_config: within_budget(fields.shown("meshConfig")),
            serial: fields.shown("serial"),
            writer: fields.map.remove("writer").and_then(|id| id.as_str()?.parse().ok()),
            hand_over: fields.map.remove("handOver").and_then(|state| HandOverState::parse(&state.to_string())),
        }
    }

    fn to_value(&self) -> Value {
        let mut map = serde_json::Map::new();
        let mut reasons = serde_json::Map::new();
        let mut put = |key: &str, shown: Result<Value, &String>| match shown {
            Ok(value) => {
                map.insert(key.to_owned(), value);
            }
            Err(reason) => {
                map.insert(key.to_owned(), Value::Null);
                reasons.insert(key.to_owned(), Value::String(reason.clone()));
            }
        };
        put("trusts", self.trusts.wire());
        put("networks", self.networks.wire());
        put("reads", self.reads.wire());
        put("routes", self.routes.wire());
        put("prepared", self.prepared.wire());
        put("relayToken", self.relay_token.wire());
        put("credentials", self.credentials.wire());
        put("meshConfig", self.mesh_config.wire());
        put("serial", self.serial.wire());
        if let Some(writer) = &self.writer {
            map.insert("writer".to_owned(), writer.as_str().into());
        }
        if let Some(state) = &self.hand_over {
            map.insert("handOver".to_owned(), serde_json::to_value(state).unwrap_or_default());
        }
        map.insert("unknown".to_owned(), Value::Object(reasons));
        Value::Object(map)
    }
}

/// The networks of the standard mesh configuration are YAML that the engine reads, keeps in the lock and renders again. What is
/// beyond the budget is unknown; what is no YAML is said when it is rendered.
fn within_budget(shown: Reported<StandardMeshConfig>) -> Reported<StandardMeshConfig> {
    let text = shown.seen().and_then(|config| config.mesh_networks.as_deref());
    match text.map(|text| yaml::value(text, MAX_TEXT)) {
        Some(Err(fault)) if fault.is_beyond_budget() => {
            Reported::Unknown(format!("published and not understood: meshNetworks: {fault}"))
        }
        _ => shown,
    }
}

impl<T: Serialize> Reported<T> {
    fn wire(&self) -> Result<Value, &String> {
        match self {
            Self::Seen(value) => Ok(serde_json::to_value(value).unwrap_or_default()),
            Self::Unknown(reason) => Err(reason),
        }
    }
}

impl<T> Reported<T> {
    /// The value, when it was seen.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}
