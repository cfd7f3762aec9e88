//! Remote secrets: the switch that lets an istiod read a peer and sends it live traffic.
//!
//! istiod compares a kubeconfig's bytes and re-reads the whole cluster when they change, so the text is byte-stable. It
//! holds exactly one cluster, user and context. Kubeconfigs differ in the peer's cluster ID and the CA of the reader's relay
//! alone: one is written and read back with stand-ins, and these are put into its places.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Map;

use crate::model::layout::secret_name;
use crate::model::lock::Stage;
use crate::pipeline::render::check::internal;
use crate::pipeline::render::kubeconfig::kubeconfig;
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::reader::{ReaderLink, ReaderView};
use crate::pipeline::render::reasons::RenderWait;
use crate::pipeline::render::rendered::RenderedObject;
use crate::pipeline::render::secret_text::{ID, Kubeconfigs, RelayAddress, SecretText, SecretTexts};
use crate::pipeline::render::text_template::{NAME, TextTemplate};
use crate::types::diagnostic::Diagnostics;
use crate::types::name::{ClusterName, Digest};
use crate::types::object::{CLUSTER_ANNOTATION, INPUTS_ANNOTATION, ObjectId, REMOTE_SECRET_LABEL};
use crate::types::step::StepId;
use crate::wire::names::{RELAY_TOKEN, relay_url};

/// Stands for the digest of the inputs.
const INPUTS: &str = "sha256:stand-in-for-inputs-xq7v3k9w2m5r8t4z";
/// Stands for the kubeconfig in base64, which no YAML puts into quotes: it begins with `apiVersion`.
const DATA: &str = "YXBpVmVyc2lvstandinfordataxq7v3k9w2m5r8t4z";

/// The remote secrets of all links that are joined.
pub(super) fn render(
    reader: &ReaderView<'_>,
    kubeconfigs: &Kubeconfigs,
    out: &mut RenderedCluster,
) -> Result<(), Diagnostics> {
    let relay = RelayTarget::of(reader, kubeconfigs)?;
    for (link, _) in reader.reachable().filter(|(link, _)| link.stage == Stage::Joined) {
        if let Some(relay) = &relay {
            out.objects.push(relay.secret(reader, link)?);
        } else {
            out.waiting.push((step(reader, link), RenderWait::RelayCa { cluster: reader.cluster.name.clone() }));
        }
    }
    let lost = reader.links.iter().filter(|link| link.stage.has_network() && link.peer.proxy.is_none());
    for link in lost {
        out.waiting.push((step(reader, link), RenderWait::PrivateDocument { cluster: link.name.clone() }));
    }
    Ok(())
}

fn step(reader: &ReaderView<'_>, link: &ReaderLink<'_>) -> StepId {
    StepId::secret(&reader.cluster.name, link.name)
}

fn object_id(reader: &ReaderView<'_>, peer: &ClusterName) -> ObjectId {
    ObjectId {
        group: String::new(),
        kind: "Secret".to_owned(),
        namespace: Some(reader.cluster.istio.namespace.to_string()),
        name: secret_name(peer),
    }
}

fn secret(reader: &ReaderView<'_>, peer: &ClusterName, id: &str, data: String, inputs: String) -> RenderedObject {
    let steps = vec![StepId::secret(&reader.cluster.name, peer)];
    reader
        .object("v1", "Secret", &secret_name(peer), steps)
        .label(REMOTE_SECRET_LABEL, "true")
        .annotation(CLUSTER_ANNOTATION, id.to_owned())
        .annotation(INPUTS_ANNOTATION, inputs)
        .field("data", Map::from_iter([(id.to_owned(), data.into())]).into())
        .done()
}

/// How a reader reaches its peers: what their secrets share.
struct RelayTarget {
    place: RelayAddress,
    ca: String,
    shared: Option<Arc<SecretTexts>>,
}

impl RelayTarget {
    /// `None` while the cluster did not publish its relay's CA.
    fn of(reader: &ReaderView<'_>, kubeconfigs: &Kubeconfigs) -> Result<Option<Self>, Diagnostics> {
        let Some(ca) = reader.known.and_then(|known| known.locked.relay_cas()) else {
            return Ok(None);
        };
        let namespace = &reader.cluster.istio.namespace;
        let base = relay_url(namespace);
        let place = RelayAddress {
            base,
            ca: Digest::of(ca.as_bytes()),
            token_file: reader.requires_token().then_some(RELAY_TOKEN),
        };
        let peer = NAME.parse().map_err(internal)?;
        let secret = secret(reader, &peer, ID, DATA.to_owned(), INPUTS.to_owned()).into_yaml().map_err(internal)?;
        let secret = TextTemplate::cut(&secret, &[(ID, 2), (NAME, 2), (INPUTS, 1), (DATA, 1)]);
        let shared = place.kubeconfig(kubeconfigs)?.zip(secret).map(|(kubeconfig, secret)| {
            Arc::new(SecretTexts::new(place.clone(), BASE64.encode(&ca), kubeconfig, secret))
        });
        Ok(Some(Self { place, ca, shared }))
    }

    fn secret(&self, reader: &ReaderView<'_>, link: &ReaderLink<'_>) -> Result<RenderedObject, Diagnostics> {
        let id = &link.peer.cluster_id;
        if let Some(shared) = self.shared.as_ref().filter(|_| link.peer.plain_id) {
            let secret_text = SecretText { shared: shared.clone(), id: id.clone(), peer: link.name.clone() };
            return Ok(RenderedObject::secret(object_id(reader, link.name), step(reader, link), secret_text));
        }
        let server = format!("{}{id}", self.place.base);
        let text = kubeconfig(id.as_str(), &server, &self.ca, self.place.token_file)?;
        let inputs = self.place.inputs(id).to_string();
        Ok(secret(reader, link.name, id.as_str(), BASE64.encode(text), inputs))
    }
}
