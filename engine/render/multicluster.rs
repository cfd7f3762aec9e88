//! Clusters in which somebody else acts: the engine only tells it who the peers are.

use serde_json::{Value, json};

use super::{Piece, Reader, RenderedCluster, internal, peers};
use crate::diagnostic::Diagnostics;
use crate::lock::Stage;
use crate::mesh::Reconciler;
use crate::step::StepKind;

/// Name of the ConfigMap with the engine's public keys, which the agent publishes for it.
const ENGINE: &str = "isthmus-engine";

/// IstioMulticluster objects and, for our agent, the engine's keys.
pub(super) fn render(reader: &Reader<'_>, out: &mut RenderedCluster) -> Result<(), Diagnostics> {
    let step = reader.step(StepKind::ExchangeKeys);
    let name = &reader.cluster.name;
    let api_version = if reader.cluster.reconciler == Reconciler::Agent {
        engine_keys(reader, out)?;
        "isthmus.dev/v1alpha1"
    } else {
        "deckhouse.io/v1alpha1"
    };
    if reader.known.is_none() {
        out.waiting.push((step, format!("`{name}` was never reached; its IstioMulticluster objects follow then")));
        return Ok(());
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
        let draft = reader.cluster_object(api_version, "IstioMulticluster", link.name.as_str(), vec![step.clone()]);
        out.objects.push(draft.field("spec", spec).done());
    }
    Ok(())
}

fn engine_keys(reader: &Reader<'_>, out: &mut RenderedCluster) -> Result<(), Diagnostics> {
    let step = reader.step(StepKind::ExchangeKeys);
    let keys = peers::engine_keys(reader);
    if keys.is_empty() {
        let reason = "a key of the engine's own: `engine keys new`, or `engine apply --create-keys`";
        out.waiting.push((step, reason.to_owned()));
        return Ok(());
    }
    let keys = serde_json::to_string_pretty(&json!({ "version": 1, "keys": keys })).map_err(internal)?;
    out.objects.push(reader.config_map(ENGINE, vec![step], [("keys.json", vec![Piece::new(keys + "\n")])]));
    Ok(())
}
