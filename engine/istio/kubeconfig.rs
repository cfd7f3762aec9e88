//! The kubeconfig of a remote secret: how ours is written, and how anyone's is read. Pure.
//!
//! Ours has exactly one cluster, user and context, and no credential. What is read leaves out the users, whose credentials
//! are no concern here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::types::object::{YamlError, to_yaml};
use crate::types::yaml::{MAX_TEXT, value_of};

/// A kubeconfig, as far as a remote secret needs one. Fields are written in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RemoteKubeconfig {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(skip_deserializing)]
    users: Vec<NamedUser>,
    #[serde(skip_deserializing)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NamedCluster {
    #[serde(default)]
    name: String,
    cluster: KubeconfigCluster,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct KubeconfigCluster {
    #[serde(default)]
    server: String,
    /// PEM in base64.
    #[serde(default)]
    certificate_authority_data: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Context {
    cluster: String,
    user: String,
}

impl RemoteKubeconfig {
    /// One for a peer of this cluster ID behind the URL of a server. `ca` is PEM; `token_file` is a file in istiod's pod,
    /// which client-go reads again each minute. Without one, whoever reaches the server is taken for istiod.
    pub fn of_peer(id: &str, server: &str, ca: &str, token_file: Option<&str>) -> Self {
        let name = || id.to_owned();
        let cluster = KubeconfigCluster { server: server.to_owned(), certificate_authority_data: BASE64.encode(ca) };
        Self {
            api_version: "v1".to_owned(),
            kind: "Config".to_owned(),
            clusters: vec![NamedCluster { name: name(), cluster }],
            users: vec![NamedUser { name: name(), user: User { token_file: token_file.map(ToOwned::to_owned) } }],
            contexts: vec![NamedContext { name: name(), context: Context { cluster: name(), user: name() } }],
            current_context: name(),
        }
    }

    /// Its text: the same value gives the same bytes, since istiod reads a whole cluster again when they change.
    pub fn to_yaml(&self) -> Result<String, YamlError> {
        to_yaml(self)
    }

    /// Reads one, ours or another tool's; `None` for what is no kubeconfig. Users and contexts are left out.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let value = value_of(bytes, MAX_TEXT).ok().filter(Value::is_object)?;
        serde_json::from_value(value).ok()
    }

    /// The URL of its first cluster's server.
    pub fn server(&self) -> Option<&str> {
        let server = self.clusters.first()?.cluster.server.as_str();
        (!server.is_empty()).then_some(server)
    }

    /// The CAs by which its first cluster's server is known: PEM.
    pub fn ca(&self) -> Option<String> {
        let ca = BASE64.decode(&self.clusters.first()?.cluster.certificate_authority_data).ok()?;
        String::from_utf8(ca).ok().filter(|ca| !ca.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_but_for_users_and_contexts() {
        let server = "https://relay.istio-system.svc:8443/to/west";
        let written = RemoteKubeconfig::of_peer("west", server, "a CA", Some("/var/token"));
        assert_eq!(written.ca().as_deref(), Some("a CA"));
        let text = written.to_yaml().unwrap();
        assert!(
            text.contains("tokenFile: /var/token") && text.contains("certificate-authority-data: YSBDQQ=="),
            "{text}"
        );
        let read = RemoteKubeconfig::read(text.as_bytes()).unwrap();
        assert_eq!(read.server(), Some(server));
        assert_eq!(read, RemoteKubeconfig { users: vec![], contexts: vec![], ..written });
    }

    #[test]
    fn what_others_write_is_read_as_far_as_it_goes() {
        let server =
            |text: &str| RemoteKubeconfig::read(text.as_bytes()).map(|read| read.server().map(ToOwned::to_owned));
        let foreign =
            "clusters: [{cluster: {server: 'https://a', insecure-skip-tls-verify: true}}]\nusers: [{user: 7}]";
        assert_eq!(server(foreign), Some(Some("https://a".to_owned())));
        assert_eq!(server("clusters: []"), Some(None));
        assert_eq!(server("clusters: [{cluster: {server: ''}}]"), Some(None));
        assert_eq!(server("[]"), None);
        assert_eq!(server("clusters: [{name: a}]"), None);
    }
}
