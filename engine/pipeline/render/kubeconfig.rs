//! The kubeconfig of a remote secret: exactly one cluster, user and context, byte-stable, and no credential.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::pipeline::render::check::{check_reads_back, internal};
use crate::types::diagnostic::Diagnostics;
use crate::types::object::to_yaml;

/// Where istiod finds the token that it shows the relay, when the spec asks for one: a projected volume of its pod.
pub(super) const RELAY_TOKEN: &str = "/var/run/secrets/isthmus-relay/token";

#[derive(Serialize)]
struct Kubeconfig<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    clusters: [NamedCluster<'a>; 1],
    users: [NamedUser<'a>; 1],
    contexts: [NamedContext<'a>; 1],
    #[serde(rename = "current-context")]
    current_context: &'a str,
}

#[derive(Serialize)]
struct NamedCluster<'a> {
    name: &'a str,
    cluster: Server<'a>,
}

#[derive(Serialize)]
struct Server<'a> {
    server: &'a str,
    #[serde(rename = "certificate-authority-data")]
    ca: String,
}

#[derive(Serialize)]
struct NamedUser<'a> {
    name: &'a str,
    user: User<'a>,
}

#[derive(Serialize)]
struct User<'a> {
    /// File of the token in istiod's pod, which client-go reads again each minute; none: who reaches the relay is istiod.
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    token_file: Option<&'a str>,
}

#[derive(Serialize)]
struct NamedContext<'a> {
    name: &'a str,
    context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    cluster: &'a str,
    user: &'a str,
}

/// A kubeconfig for one peer, read back before it is used. `ca` is PEM.
pub(super) fn kubeconfig(id: &str, server: &str, ca: &str, token_file: Option<&str>) -> Result<String, Diagnostics> {
    let model = Kubeconfig {
        api_version: "v1",
        kind: "Config",
        clusters: [NamedCluster { name: id, cluster: Server { server, ca: BASE64.encode(ca) } }],
        users: [NamedUser { name: id, user: User { token_file } }],
        contexts: [NamedContext { name: id, context: Context { cluster: id, user: id } }],
        current_context: id,
    };
    let text = to_yaml(&model).map_err(internal)?;
    check_reads_back(&model, &text, "a kubeconfig")?;
    Ok(text)
}
