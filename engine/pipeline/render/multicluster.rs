//! Clusters in which someone else acts: the engine only tells it who the peers are.

use serde_json::{Value, json};

use crate::model::lock::Stage;
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::reader::ReaderView;
use crate::pipeline::render::reasons::RenderWait;
use crate::types::step::StepKind;

/// API version of Deckhouse's IstioMulticluster.
const API_VERSION: &str = "deckhouse.io/v1alpha1";

pub(super) fn render(reader: &ReaderView<'_>, out: &mut RenderedCluster) {
    let step = reader.step(StepKind::ExchangeKeys);
    let name = &reader.cluster.name;
    if reader.known.is_none() {
        out.waiting.push((step, RenderWait::NotReached { cluster: name.clone() }));
        return;
    }
    let declared = reader.links.iter().filter(|link| matches!(link.stage, Stage::Joining | Stage::Joined));
    for link in declared {
        let peer = link.peer.known.cluster;
        let mut spec = json!({
            "metadataEndpoint": peer.endpoint.to_string(),
            "enableIngressGateway": !peer.flat_network,
        });
        if let (Some(ca), Value::Object(spec)) = (&peer.endpoint_ca, &mut spec) {
            spec.insert("metadata".to_owned(), json!({ "ca": ca }));
        }
        let draft = reader.cluster_object(API_VERSION, "IstioMulticluster", link.name.as_str(), vec![step.clone()]);
        out.objects.push(draft.field("spec", spec).done());
    }
}
