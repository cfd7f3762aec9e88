//! Remote secrets: the switch that lets an istiod read a peer and sends it live traffic.
//!
//! istiod compares a kubeconfig's bytes and re-reads the whole cluster when they change, so the text is byte-stable. It
//! holds exactly one cluster, user and context. Kubeconfigs differ in the peer's cluster ID and the CA of the reader's relay
//! alone: one is written and read back with stand-ins, and these are put into its places.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Map, json};

use crate::model::lock::Stage;
use crate::pipeline::render::memo::Memo;
use crate::pipeline::render::stencil::Stencil;
use crate::pipeline::render::{Link, Reader, RenderedCluster, RenderedObject, check_reads_back, internal};
use crate::types::diagnostic::Diagnostics;
use crate::types::name::{ClusterId, ClusterName, Digest};
use crate::types::object::{INPUTS_ANNOTATION, ObjectId, to_yaml};
use crate::types::step::StepId;

/// Port of the relay's Service.
const RELAY_PORT: u16 = 8443;
/// Where istiod finds the token that it shows the relay, when the spec asks for one: a projected volume of its pod.
pub(super) const RELAY_TOKEN: &str = "/var/run/secrets/isthmus-relay/token";
/// Stands for a peer's cluster ID while the texts of a reader's secrets are made.
const ID: &str = "stand-in-for-a-cluster-id-xq7v3k9w2m5r8t4z";
/// Stands for the CA of a reader's relay: it begins as PEM does, so YAML treats its base64 alike.
const CA: &str = "-----BEGIN STAND-IN-xq7v3k9w2m5r8t4z";
/// Stands for a peer's name.
const NAME: &str = "stand-in-for-a-name-xq7v3k9w2m5r8t4z";
/// Stands for the digest of the inputs.
const INPUTS: &str = "sha256:stand-in-for-inputs-xq7v3k9w2m5r8t4z";
/// Stands for the kubeconfig in base64, which no YAML puts into quotes: it begins with `apiVersion`.
const DATA: &str = "YXBpVmVyc2lvstandinfordataxq7v3k9w2m5r8t4z";

#[derive(Serialize)]
struct Kubeconfig<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    clusters: [NamedCluster<'a>; 1],
    users: [NamedUser<'a>; 1],
    contexts: [NamedContext<'a>; 1],
    #[serde(rename = "current-context")]
    current_context: &'a str,
}

#[derive(Serialize)]
struct NamedCluster<'a> {
    name: &'a str,
    cluster: Server<'a>,
}

#[derive(Serialize)]
struct Server<'a> {
    server: &'a str,
    #[serde(rename = "certificate-authority-data")]
    ca: String,
}

#[derive(Serialize)]
struct NamedUser<'a> {
    name: &'a str,
    user: User<'a>,
}

#[derive(Serialize)]
struct User<'a> {
    /// File of the token in istiod's pod, which client-go reads again each minute; none: who reaches the relay is istiod.
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    token_file: Option<&'a str>,
}

#[derive(Serialize)]
struct NamedContext<'a> {
    name: &'a str,
    context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    cluster: &'a str,
    user: &'a str,
}

/// A kubeconfig for one peer, read back before it is used. `ca` is PEM.
fn kubeconfig(id: &str, server: &str, ca: &str, token_file: Option<&str>) -> Result<String, Diagnostics> {
    let model = Kubeconfig {
        api_version: "v1",
        kind: "Config",
        clusters: [NamedCluster { name: id, cluster: Server { server, ca: BASE64.encode(ca) } }],
        users: [NamedUser { name: id, user: User { token_file } }],
        contexts: [NamedContext { name: id, context: Context { cluster: id, user: id } }],
        current_context: id,
    };
    let text = to_yaml(&model).map_err(internal)?;
    check_reads_back(&model, &text, "a kubeconfig")?;
    Ok(text)
}

/// Digest over the public inputs of a secret: a plan that holds no key sees by it that nothing changed.
fn inputs(value: &serde_json::Value) -> Digest {
    Digest::of(value.to_string().as_bytes())
}

/// Kubeconfigs by the base of a relay's URLs and the file of the token that istiod shows.
pub(super) type Kubeconfigs = Memo<(String, Option<&'static str>), Option<Arc<Stencil>>>;

/// The remote secrets of all links that are joined.
pub(super) fn render(
    reader: &Reader<'_>,
    kubeconfigs: &Kubeconfigs,
    out: &mut RenderedCluster,
) -> Result<(), Diagnostics> {
    let relay = Relay::of(reader, kubeconfigs)?;
    for (link, _) in reader.reachable().filter(|(link, _)| link.stage == Stage::Joined) {
        if let Some(relay) = &relay {
            out.objects.push(relay.secret(reader, link)?);
        } else {
            let reason = format!("the relay CA of `{}` is not published yet", reader.cluster.name);
            out.waiting.push((step(reader, link), reason));
        }
    }
    let lost = reader.links.iter().filter(|link| link.stage.has_network() && link.peer.proxy.is_none());
    for link in lost {
        let reason = format!("api host, gateways and network of `{}` are not known", link.name);
        out.waiting.push((step(reader, link), reason));
    }
    Ok(())
}

fn step(reader: &Reader<'_>, link: &Link<'_>) -> StepId {
    StepId::secret(&reader.cluster.name, link.name)
}

fn object_name(peer: &ClusterName) -> String {
    format!("istio-remote-secret-{peer}")
}

fn object_id(reader: &Reader<'_>, peer: &ClusterName) -> ObjectId {
    ObjectId {
        group: String::new(),
        kind: "Secret".to_owned(),
        namespace: Some(reader.cluster.istio.namespace.to_string()),
        name: object_name(peer),
    }
}

fn secret(reader: &Reader<'_>, peer: &ClusterName, id: &str, data: String, inputs: String) -> RenderedObject {
    let steps = vec![StepId::secret(&reader.cluster.name, peer)];
    reader
        .object("v1", "Secret", &object_name(peer), steps)
        .label("istio/multiCluster", "true")
        .annotation("networking.istio.io/cluster", id.to_owned())
        .annotation(INPUTS_ANNOTATION, inputs)
        .field("data", Map::from_iter([(id.to_owned(), data.into())]).into())
        .done()
}

/// How a reader reaches its peers: what their secrets share.
struct Relay<'c> {
    place: Place,
    ca: &'c str,
    shared: Option<Arc<Shared>>,
}

/// Where the relay is and what it asks for.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    base: String,
    ca: Digest,
    /// File of the token that istiod shows.
    token_file: Option<&'static str>,
}

impl Place {
    fn inputs(&self, id: &ClusterId) -> Digest {
        let (server, ca) = (format!("{}{id}", self.base), &self.ca);
        inputs(&match self.token_file {
            Some(path) => json!({ "mode": "relay", "clusterID": id, "server": server, "ca": ca, "tokenFile": path }),
            None => json!({ "mode": "relay", "clusterID": id, "server": server, "ca": ca }),
        })
    }

    /// A kubeconfig of the relay at this place, for a cluster ID and the base64 of a CA.
    fn kubeconfig(&self, all: &Kubeconfigs) -> Result<Option<Arc<Stencil>>, Diagnostics> {
        all.get((self.base.clone(), self.token_file), |_| {
            let text = kubeconfig(ID, &format!("{}{ID}", self.base), CA, self.token_file)?;
            Ok(Stencil::cut(&text, &[(ID, 7), (&BASE64.encode(CA), 1)]).map(Arc::new))
        })
    }
}

/// The texts that the secrets of one reader are filled into.
#[derive(Debug, PartialEq)]
struct Shared {
    place: Place,
    /// The relay's CA in base64.
    ca: String,
    kubeconfig: Arc<Stencil>,
    secret: Stencil,
    /// A digest over all of these.
    inputs: Digest,
}

/// A remote secret: texts of its reader, and what is filled in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filled {
    shared: Arc<Shared>,
    id: ClusterId,
    peer: ClusterName,
}

impl Filled {
    /// The canonical text.
    pub(super) fn text(&self) -> String {
        let id = self.id.as_str();
        let data = BASE64.encode(self.shared.kubeconfig.fill(&[id, &self.shared.ca]));
        let inputs = self.shared.place.inputs(&self.id).to_string();
        self.shared.secret.fill(&[id, self.peer.as_str(), &inputs, &data])
    }

    /// A digest over all that the text is made of.
    pub(super) fn inputs(&self) -> Digest {
        // neither name holds a NUL
        let parts =
            [self.shared.inputs.bytes().as_slice(), self.id.as_str().as_bytes(), &[0], self.peer.as_str().as_bytes()];
        Digest::of(&parts.concat())
    }
}

impl<'c> Relay<'c> {
    /// `None` while the cluster did not publish its relay's CA.
    fn of(reader: &Reader<'c>, kubeconfigs: &Kubeconfigs) -> Result<Option<Self>, Diagnostics> {
        let Some(ca) = reader.known.and_then(|known| known.locked.public.relay_ca.as_deref()) else {
            return Ok(None);
        };
        let namespace = &reader.cluster.istio.namespace;
        let base = format!("https://isthmus-relay.{namespace}.svc:{RELAY_PORT}/to/");
        let place =
            Place { base, ca: Digest::of(ca.as_bytes()), token_file: reader.mesh.require_token.then_some(RELAY_TOKEN) };
        let peer = NAME.parse().map_err(internal)?;
        let secret = secret(reader, &peer, ID, DATA.to_owned(), INPUTS.to_owned()).into_yaml().map_err(internal)?;
        let secret = Stencil::cut(&secret, &[(ID, 2), (NAME, 2), (INPUTS, 1), (DATA, 1)]);
        let shared = place.kubeconfig(kubeconfigs)?.zip(secret).map(|(kubeconfig, secret)| {
            let inputs = Digest::of(format!("{place:?} {kubeconfig:?} {secret:?}").as_bytes());
            Arc::new(Shared { place: place.clone(), ca: BASE64.encode(ca), kubeconfig, secret, inputs })
        });
        Ok(Some(Self { place, ca, shared }))
    }

    fn secret(&self, reader: &Reader<'_>, link: &Link<'_>) -> Result<RenderedObject, Diagnostics> {
        let id = &link.peer.cluster_id;
        if let Some(shared) = self.shared.as_ref().filter(|_| link.peer.plain_id) {
            let filled = Filled { shared: shared.clone(), id: id.clone(), peer: link.name.clone() };
            return Ok(RenderedObject::secret(object_id(reader, link.name), step(reader, link), filled));
        }
        let server = format!("{}{id}", self.place.base);
        let text = kubeconfig(id.as_str(), &server, self.ca, self.place.token_file)?;
        let inputs = self.place.inputs(id).to_string();
        Ok(secret(reader, link.name, id.as_str(), BASE64.encode(text), inputs))
    }
}
