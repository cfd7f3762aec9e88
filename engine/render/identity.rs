//! ConfigMap `isthmus-identity`, which tells exporter and api-proxy whom they serve. In relay mode the relay writes it with
//! the keys it made; in direct mode the engine holds the cluster's key, and therefore writes it.

use serde_json::json;

use super::{CredentialSource, Reader, RenderedCluster, Withheld, internal};
use crate::diagnostic::Diagnostics;
use crate::name::Digest;
use crate::object::ObjectId;
use crate::step::StepKind;
use crate::token::Scope;

/// Name of the ConfigMap.
const IDENTITY: &str = "isthmus-identity";

/// Renders it as soon as the public half of the cluster's key is known, from the lock or from the source of the key.
pub(super) fn render(
    reader: &Reader<'_>,
    credentials: &dyn CredentialSource,
    out: &mut RenderedCluster,
) -> Result<(), Diagnostics> {
    let cluster = reader.cluster;
    if cluster.components.is_none() {
        return Ok(());
    }
    let step = reader.step(StepKind::RenderComponents);
    let recorded = reader.known.map(|known| known.locked.public.authn_key.clone());
    let Some(key) = recorded.or_else(|| credentials.public_key(&cluster.name)) else {
        out.withheld.push(Withheld {
            id: ObjectId {
                group: String::new(),
                kind: "ConfigMap".to_owned(),
                namespace: Some(cluster.istio.namespace.to_string()),
                name: IDENTITY.to_owned(),
            },
            step,
            inputs: Digest::of(cluster.name.as_str().as_bytes()),
            reason: format!("the key of `{}` is known to neither lock nor this run", cluster.name),
        });
        return Ok(());
    };
    let identity = serde_json::to_string_pretty(&json!({
        "version": 1,
        "clusterUUID": reader.known.map(|known| known.uuid().clone()),
        "keys": [{ "id": key.id(), "pem": key.to_pem(), "scopes": [Scope::Api, Scope::PrivateMulticluster] }],
        "trustDomain": cluster.trust_domain,
        "istioNamespace": cluster.istio.namespace,
        "network": cluster.network,
    }));
    let identity = identity.map_err(internal)? + "\n";
    out.objects.push(reader.config_map(IDENTITY, vec![step], vec![("identity.json", identity)]));
    Ok(())
}
