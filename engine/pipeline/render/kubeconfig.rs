//! The kubeconfig of a remote secret, checked before it is used.

use crate::istio::kubeconfig::RemoteKubeconfig;
use crate::pipeline::render::check::checked;
use crate::types::diagnostic::Diagnostics;

/// A kubeconfig for one peer, read back before it is used. `ca` is PEM.
pub(super) fn kubeconfig(id: &str, server: &str, ca: &str, token_file: Option<&str>) -> Result<String, Diagnostics> {
    let model = RemoteKubeconfig::of_peer(id, server, ca, token_file);
    checked(&model, "a kubeconfig")
}
