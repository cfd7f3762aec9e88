//! How large what is rendered may be.

use crate::pipeline::render::finding::RenderFinding;
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::reader::ReaderView;
use crate::types::diagnostic::{Diagnostic, Diagnostics};

/// Most bytes of the data of a ConfigMap; Kubernetes refuses more than 1 MiB.
pub const MAX_CONFIG_MAP: usize = 1_000_000;

pub(super) fn check_sizes(reader: &ReaderView<'_>, out: &RenderedCluster, findings: &mut Diagnostics) {
    for rendered in &out.objects {
        if let Some(bytes) = rendered.config_map_bytes() {
            check_size(reader, &rendered.id().to_string(), bytes, findings);
        }
    }
    for (path, file) in &out.extra {
        check_size(reader, path, file.text.len(), findings);
    }
}

fn check_size(reader: &ReaderView<'_>, what: &str, bytes: usize, findings: &mut Diagnostics) {
    if bytes <= MAX_CONFIG_MAP {
        return;
    }
    let cluster = reader.cluster;
    let too_large = RenderFinding::TooLarge { what, cluster: &cluster.name, bytes, most: MAX_CONFIG_MAP };
    findings.push(Diagnostic::error(Some(cluster.at.clone()), too_large));
}
