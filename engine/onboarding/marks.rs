//! Who made an object: tools mark what is theirs by labels, annotations and owners, and some marks are shared. Pure.

use crate::cluster::watched::Meta;
use crate::onboarding::survey::Installer;
use crate::types::object::MANAGED_BY;

/// Labels and annotations of which the value names the owner.
const OWNER_NAMES: [&str; 2] = [MANAGED_BY, "heritage"];
/// Labels and annotations that a tool sets on what it applies, and the tool.
const TOOLS: [(&str, &str); 8] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
    ("meta.helm.sh/release-name", "Helm"),
    ("objectset.rio.cattle.io/id", "Fleet"),
    ("kapp.k14s.io/app", "kapp"),
    ("config.k8s.io/owning-inventory", "an inventory of kpt or cli-utils"),
];
/// Mark of istioctl and the old operator; Istio's charts carry it, too, with the value `unknown`.
const OWNING_RESOURCE: &str = "install.operator.istio.io/owning-resource";

/// How the istiod of a Deployment was installed.
///
/// istioctl renders the charts, so its Deployments also say `app.kubernetes.io/managed-by: Helm`; and so does the Sail operator.
pub(super) fn installer(meta: &Meta) -> Installer {
    let label = |name: &str| meta.labels.get(name).map(String::as_str);
    let is_sails = |owner: &crate::cluster::watched::OwnerReference| {
        owner.api_version.starts_with("sailoperator.io/") || owner.kind == "IstioRevision"
    };
    if label("managed-by") == Some("sail-operator") || meta.owner_references.iter().any(is_sails) {
        return Installer::Sail;
    }
    let by_istioctl = label(OWNING_RESOURCE).is_some_and(|owner| !owner.is_empty() && owner != "unknown");
    if by_istioctl || label("operator.istio.io/managed").is_some() { Installer::IstioOperator } else { Installer::Helm }
}

/// Who has the last word on an object: what others write into it, this one takes back.
pub(super) fn owner(meta: &Meta) -> Option<String> {
    let mark =
        |name: &str| meta.labels.get(name).or_else(|| meta.annotations.get(name)).filter(|text| !text.is_empty());
    let named = OWNER_NAMES.iter().find_map(|name| mark(name).cloned());
    let tool = || TOOLS.iter().find_map(|(name, tool)| mark(name).map(|_| (*tool).to_owned()));
    let owned = || meta.owner_references.first().map(|owner| format!("{} {}", owner.kind, owner.name));
    named.or_else(tool).or_else(owned)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn meta(value: Value) -> Meta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_installer_is_known_by_the_marks_that_it_alone_sets() {
        let chart = json!({ OWNING_RESOURCE: "unknown", "operator.istio.io/component": "Pilot", "release": "istiod" });
        let with = |more: Value| {
            let mut labels = chart.clone();
            labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            meta(json!({ "labels": labels }))
        };
        assert_eq!(installer(&with(json!({}))), Installer::Helm);
        assert_eq!(installer(&with(json!({ "app.kubernetes.io/managed-by": "Helm" }))), Installer::Helm);
        let by_istioctl = json!({ OWNING_RESOURCE: "installed-state", "app.kubernetes.io/managed-by": "Helm" });
        assert_eq!(installer(&with(by_istioctl)), Installer::IstioOperator);
        assert_eq!(installer(&with(json!({ "managed-by": "sail-operator" }))), Installer::Sail);
        let revision =
            json!([{ "apiVersion": "sailoperator.io/v1", "kind": "IstioRevision", "name": "default-v1-30-1" }]);
        assert_eq!(installer(&meta(json!({ "labels": chart, "ownerReferences": revision }))), Installer::Sail);
    }

    #[test]
    fn an_owner_is_known_by_labels_annotations_and_references() {
        let owned_by = |value: Value| owner(&meta(value));
        assert_eq!(owned_by(json!({ "labels": { "istio/multiCluster": "true" } })), None);
        assert_eq!(owned_by(json!({ "labels": { "heritage": "deckhouse" } })).as_deref(), Some("deckhouse"));
        let tracked = json!({ "annotations": { "argocd.argoproj.io/tracking-id": "mesh:/Secret:istio-system/west" } });
        assert_eq!(owned_by(tracked).as_deref(), Some("Argo CD"));
        assert_eq!(
            owned_by(json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "mesh" } })).as_deref(),
            Some("Flux")
        );
        let external = json!({ "ownerReferences": [{ "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "west" }] });
        assert_eq!(owned_by(external).as_deref(), Some("ExternalSecret west"));
    }
}
