//! The file that lists the others.

use serde::Serialize;
use serde_json::{Value, json};

use crate::pipeline::render::check::internal;
use crate::pipeline::render::marks::ownership;
use crate::pipeline::render::output::{ExtraFile, Given, RenderedCluster};
use crate::pipeline::render::reader::ReaderView;
use crate::types::diagnostic::Diagnostics;
use crate::types::object::to_yaml_again;

/// Kustomize's list of what lies beside it. Its labels say whose it is and reach no object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kustomization<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Value,
    resources: Vec<String>,
}

pub(super) fn kustomization(
    reader: &ReaderView<'_>,
    given: &Given,
    out: &RenderedCluster,
) -> Result<ExtraFile, Diagnostics> {
    let rendered = out.objects.iter().map(|rendered| rendered.id().file_name());
    let given = given.get(&reader.cluster.name).into_iter().flatten().cloned();
    let mut resources: Vec<_> = rendered.chain(given).collect();
    resources.sort();
    resources.dedup();
    let labels = ownership(&reader.mesh.name);
    let text = to_yaml_again(&Kustomization {
        api_version: "kustomize.config.k8s.io/v1beta1",
        kind: "Kustomization",
        metadata: json!({ "name": reader.cluster.name, "labels": labels }),
        resources,
    });
    Ok(ExtraFile { text: text.map_err(internal)?, steps: Vec::new() })
}
