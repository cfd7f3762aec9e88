//! Clusters in which someone else acts: the engine only tells it who the peers are.

use serde_json::{Map, Value, json};

use crate::model::known::KnownCluster;
use crate::model::lock::Stage;
use crate::model::mesh::{DeckhouseCrd, EvidenceRule, Reconciler, State};
use crate::pipeline::render::agent;
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::reader::{ReaderLink, ReaderView};
use crate::pipeline::render::reasons::RenderWait;
use crate::spec::{API_VERSION, DECKHOUSE_API_VERSION};
use crate::types::certificate::both;
use crate::types::step::StepKind;

/// Its kind, in both API groups.
const KIND: &str = "IstioMulticluster";

pub(super) fn render(reader: &ReaderView<'_>, out: &mut RenderedCluster) {
    let step = reader.step(StepKind::ExchangeKeys);
    let name = &reader.cluster.name;
    if reader.known.is_none() {
        out.waiting.push((step, RenderWait::NotReached { cluster: name.clone() }));
        return;
    }
    let acts_or_is_to = [Some(reader.cluster.reconciler), reader.is_to_give()];
    let is_agent = acts_or_is_to.contains(&Some(Reconciler::Agent));
    let is_declared =
        |link: &&ReaderLink<'_>| matches!(link.stage, Stage::Joining | Stage::Joined) || (is_agent && is_lost(link));
    for link in reader.links.iter().filter(is_declared) {
        let (api_version, spec) = if is_agent {
            (API_VERSION, for_agent(reader, link))
        } else {
            (DECKHOUSE_API_VERSION, for_deckhouse(reader, link))
        };
        let draft = reader.cluster_object(api_version, KIND, link.name.as_str(), vec![step.clone()]);
        out.objects.push(draft.field("spec", Value::Object(spec)).done());
    }
}

/// Whether a link leaves since its peer is lost, or was made anew: an agent waits for each peer that goes, unless it is told so before.
fn is_lost(link: &ReaderLink<'_>) -> bool {
    let KnownCluster { cluster, locked } = link.peer.known;
    link.stage.is_leaving() && (cluster.state == State::Lost || locked.lost || locked.approved.is_some())
}

/// What our own agent is told of a peer: what the spec says of it.
fn for_agent(reader: &ReaderView<'_>, link: &ReaderLink<'_>) -> Map<String, Value> {
    let peer = link.peer.known.cluster;
    let ca = peer.endpoint_ca.as_ref().map(|ca| json!({ "ca": ca }));
    let share = reader.cluster.share_with.get(link.name).map(agent::share);
    let (evidence, attested) = match &peer.evidence {
        EvidenceRule::Required => (None, None),
        EvidenceRule::None => (Some("none".into()), None),
        EvidenceRule::Attested(fields) => (None, Some(fields.iter().map(|field| field.as_str()).collect())),
    };
    let fields = [
        ("state", is_lost(link).then(|| "lost".into())),
        ("metadataEndpoint", Some(peer.endpoint.to_string().into())),
        ("enableIngressGateway", Some((!peer.flat_network).into())),
        ("metadata", ca),
        ("pin", agent::pin(&peer.pin)),
        ("share", share),
        ("allow", agent::allow(&peer.allow)),
        ("evidence", evidence),
        ("attested", attested),
    ];
    fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

/// What Deckhouse is told of a peer, in the fields that its CRD knows.
fn for_deckhouse(reader: &ReaderView<'_>, link: &ReaderLink<'_>) -> Map<String, Value> {
    let peer = link.peer.known.cluster;
    // its istiod trusts this for the api-proxy, too, and nothing else but public CAs
    let api_ca = link.peer.proxy.as_ref().and_then(|proxy| proxy.api_ca.as_deref());
    let ca = both(peer.endpoint_ca.as_deref(), api_ca);
    let (mut spec, mut metadata) = (Map::new(), Map::new());
    let within = match reader.cluster.crd {
        DeckhouseCrd::Current => (&mut spec, "metadataEndpoint"),
        DeckhouseCrd::EndpointInMetadata => (&mut metadata, "endpoint"),
    };
    within.0.insert(within.1.to_owned(), peer.endpoint.to_string().into());
    metadata.extend(ca.map(|ca| ("ca".to_owned(), ca.into())));
    spec.insert("enableIngressGateway".to_owned(), (!peer.flat_network).into());
    if !metadata.is_empty() {
        spec.insert("metadata".to_owned(), Value::Object(metadata));
    }
    spec
}
