//! How a cluster is found: edits of where its exporter and api-proxy are reached take its address away from peers for a while.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::layout::rendered_folder;
use crate::model::lock::Lock;
use crate::model::mesh::Mesh;
use crate::pipeline::plan::security::item::{SecurityChange, SecurityItem};
use crate::pipeline::plan::security::spec_field::SpecField;
use crate::pipeline::plan::{ObjectChange, Plan};
use crate::pipeline::tree::{Tree, TreeError};
use crate::types::name::ClusterName;
use crate::types::object::{Object, parse_file};
use crate::wire::names::{EXPORTER, PROXY};

/// The argument by which an exporter is told its api host.
const API_HOST: &str = "--api-host=";

/// What of an object is compared.
type ValueOf = fn(&Object) -> Option<String>;

/// What this run writes otherwise than the tree has it, of clusters that links name. A base shows the edits of the specs instead.
pub(super) fn written(mesh: &Mesh, plan: &Plan, lock: &Lock, tree: &dyn Tree) -> Result<Vec<SecurityItem>, TreeError> {
    let linked: BTreeSet<&ClusterName> = lock.linked().collect();
    let objects = plan.steps.iter().flat_map(|step| &step.objects);
    let changes: BTreeMap<&str, &ObjectChange> = objects.map(|change| (change.path.as_str(), change)).collect();
    let mut edits: BTreeMap<(SpecField, Option<String>, Option<String>), BTreeSet<ClusterName>> = BTreeMap::new();
    for name in mesh.clusters.keys().filter(|name| linked.contains(name)) {
        let values: [(_, _, ValueOf); 3] = [
            (SpecField::Expose, format!("service-{EXPORTER}.yaml"), service_type),
            (SpecField::Expose, format!("service-{PROXY}.yaml"), service_type),
            (SpecField::PublishedApiHost, format!("deployment.apps-{EXPORTER}.yaml"), api_host),
        ];
        for (field, file, of) in values {
            let path = format!("{}/{file}", rendered_folder(name));
            let Some(change) = changes.get(path.as_str()) else { continue };
            let (Some(text), Some(before)) = (&change.text, tree.file(&path)?) else { continue };
            let value = |bytes: &[u8]| parse_file(bytes).and_then(|object| of(&object));
            let (before, after) = (value(&before), value(text.0.as_bytes()));
            if before != after {
                edits.entry((field, before, after)).or_default().insert(name.clone());
            }
        }
    }
    let item = |((field, before, after), clusters): (_, BTreeSet<ClusterName>)| {
        let clusters = clusters.into_iter().collect();
        SecurityItem::listed(SecurityChange::Spec { clusters, field, before, after, is_linked: true })
    };
    Ok(edits.into_iter().map(item).collect())
}

fn service_type(service: &Object) -> Option<String> {
    Some(service.fields.get("spec")?.get("type")?.as_str()?.to_owned())
}

fn api_host(deployment: &Object) -> Option<String> {
    let containers = Value::Object(deployment.fields.clone());
    let containers = containers.pointer("/spec/template/spec/containers")?.as_array()?;
    let mut args = containers.iter().filter_map(|container| container.get("args")?.as_array()).flatten();
    args.find_map(|arg| Some(arg.as_str()?.strip_prefix(API_HOST)?.to_owned()))
}
