//! Clusters in which someone else acts: the engine only tells it who the peers are.

use serde_json::{Map, Value};

use crate::model::lock::Stage;
use crate::model::mesh::DeckhouseCrd;
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::reader::ReaderView;
use crate::pipeline::render::reasons::RenderWait;
use crate::types::certificate::both;
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
        let spec = Value::Object(spec);
        let draft = reader.cluster_object(API_VERSION, "IstioMulticluster", link.name.as_str(), vec![step.clone()]);
        out.objects.push(draft.field("spec", spec).done());
    }
}
