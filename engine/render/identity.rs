//! ConfigMap `isthmus-identity`, which tells exporter and api-proxy whom they serve. In relay mode the relay writes it with
//! the keys it made; in direct mode the engine holds the cluster's key, and therefore writes it.

use super::{CredentialSource, Piece, Reader, RenderedCluster, Withheld};
use crate::identity::{IDENTITY, IDENTITY_FILE, IDENTITY_VERSION, Identity};
use crate::metadata::AuthnKey;
use crate::name::Digest;
use crate::object::ObjectId;
use crate::step::StepKind;
use crate::token::Scope;

/// Renders it as soon as the public half of the cluster's key is known, from the lock or from the source of the key.
pub(super) fn render(reader: &Reader<'_>, credentials: &dyn CredentialSource, out: &mut RenderedCluster) {
    let cluster = reader.cluster;
    if cluster.components.is_none() {
        return;
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
        return;
    };
    let scopes = [Scope::Api, Scope::PrivateMulticluster].into();
    let identity = Identity {
        version: IDENTITY_VERSION,
        cluster_uuid: reader.known.map(|known| known.uuid().clone()),
        keys: vec![AuthnKey { id: key.id(), pem: key, scopes }],
        trust_domain: cluster.trust_domain.clone(),
        istio_namespace: Some(cluster.istio.namespace.clone()),
        network: cluster.network.clone(),
        serving_ca: None,
        relay_ca: None,
    };
    out.objects.push(reader.config_map(IDENTITY, vec![step], [(IDENTITY_FILE, vec![Piece::new(identity.to_json())])]));
}
