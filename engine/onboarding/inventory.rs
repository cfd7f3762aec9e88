//! Clusters that another cluster lists, as contexts of a kubeconfig: `ClusterProfile` objects (cluster-inventory-api, v1alpha1) and
//! the cluster Secrets of Argo CD. A `ClusterProfile` holds no credentials: a plugin gives them, which a file of this machine names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cluster::watched::WatchScope;
use crate::types::text::shown_text;

/// What Argo CD calls the cluster in which it runs.
const IN_CLUSTER: &str = "https://kubernetes.default.svc";
/// What a `ClusterProfile` gives to its plugin beside what the file of providers says (KEP 5339).
const MORE_ARGUMENTS: &str = "clusterprofiles.multicluster.x-k8s.io/exec/additional-args";
/// The same of variables.
const MORE_VARIABLES: &str = "clusterprofiles.multicluster.x-k8s.io/exec/additional-envs";
/// Fields of a kubeconfig's cluster that a `ClusterProfile` may state: none that names a file of this machine.
const OF_CLUSTER: [&str; 6] =
    ["certificate-authority-data", "extensions", "insecure-skip-tls-verify", "proxy-url", "server", "tls-server-name"];

/// Which objects list the clusters.
#[derive(Debug, Clone)]
pub enum Inventory {
    /// `ClusterProfile` objects, of a namespace or of all.
    ClusterProfiles { namespace: Option<String>, providers: Providers },
    /// Secrets of Argo CD in its namespace. What they log in by as a command of their own is run only where it is among these.
    Argocd { namespace: String, plugins: BTreeSet<String> },
}

impl Inventory {
    /// Where the objects are.
    pub(super) fn place(&self) -> WatchScope {
        match self {
            Self::ClusterProfiles { namespace, .. } => {
                let namespace = namespace.as_ref().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
                WatchScope::all(format!("/apis/multicluster.x-k8s.io/v1alpha1{namespace}/clusterprofiles"))
            }
            Self::Argocd { namespace, .. } => WatchScope::labelled(
                format!("/api/v1/namespaces/{namespace}/secrets"),
                "argocd.argoproj.io/secret-type=cluster",
            ),
        }
    }

    /// What its objects are called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ClusterProfiles { .. } => "ClusterProfile",
            Self::Argocd { .. } => "cluster Secret of Argo CD",
        }
    }

    /// The cluster of an object.
    pub(super) fn entry(&self, object: &Value) -> ListedCluster {
        let metadata =
            |field: &str| object.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (metadata("namespace"), metadata("name"));
        match self {
            Self::ClusterProfiles { providers, .. } => ListedCluster {
                name: format!("{namespace}/{name}"),
                object: format!("ClusterProfile {namespace}/{name}"),
                access: providers.access(object),
            },
            Self::Argocd { plugins, .. } => {
                let text = |key: &'static str| of_secret(object, key).ok().flatten().filter(|text| !text.is_empty());
                ListedCluster {
                    name: text("name").unwrap_or_else(|| name.to_owned()),
                    object: format!("Secret {namespace}/{name}"),
                    access: of_argocd(object, plugins),
                }
            }
        }
    }
}

/// A cluster of an inventory.
#[derive(Debug)]
pub(super) struct ListedCluster {
    /// What the inventory calls it.
    pub(super) name: String,
    /// The object that lists it.
    pub(super) object: String,
    pub(super) access: Result<ListedAccess, InventoryFault>,
}

/// How a listed cluster is reached.
#[derive(PartialEq)]
pub(super) enum ListedAccess {
    /// By the fields `cluster` and `user` of a kubeconfig.
    Entry { cluster: Value, user: Value },
    /// It is the cluster that holds the inventory.
    Itself,
}

impl std::fmt::Debug for ListedAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Entry { .. } => "Entry([redacted])",
            Self::Itself => "Itself",
        })
    }
}

/// Why a listed cluster cannot be asked. Nothing of the object is quoted but names: it may be a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InventoryFault {
    /// A field has another form.
    #[error("`{field}` of its object: expected {expected}")]
    Field { field: &'static str, expected: &'static str },
    /// It logs in by a command that its object names.
    #[error(
        "its Secret logs in by the command `{command}`, which would run on this machine; --allow-plugin with that name permits it"
    )]
    Command { command: String },
    /// No plugin is known for what it offers.
    #[error(
        "it is reached by the access providers {}, of which --providers names none", offered(.0)
    )]
    NoProvider(Vec<String>),
}

fn offered(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", shown_text(name))).collect();
    if names.is_empty() { "that it lists, which are none".to_owned() } else { names.join(", ") }
}

fn wrong(field: &'static str, expected: &'static str) -> InventoryFault {
    InventoryFault::Field { field, expected }
}

/// A text of a Secret's data; `None`: it has no such key.
fn of_secret(object: &Value, key: &'static str) -> Result<Option<String>, InventoryFault> {
    let Some(data) = object.pointer(&format!("/data/{key}")) else { return Ok(None) };
    let bytes = data.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Some).ok_or_else(|| wrong(key, "a text in base64"))
}

/// `config` of a cluster Secret (Argo CD, `ClusterConfig`).
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ArgocdConfig {
    username: String,
    password: String,
    bearer_token: String,
    tls_client_config: ArgocdTls,
    #[serde(rename = "awsAuthConfig")]
    aws: Option<AwsAuth>,
    exec_provider_config: Option<ArgocdExec>,
    proxy_url: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ArgocdTls {
    insecure: bool,
    server_name: String,
    cert_data: String,
    key_data: String,
    ca_data: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AwsAuth {
    #[serde(rename = "clusterName")]
    cluster_name: String,
    #[serde(rename = "roleARN")]
    role: String,
    profile: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ArgocdExec {
    command: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    api_version: String,
    install_hint: String,
}

/// A mapping without what is empty.
fn with(fields: &[(&str, Value)]) -> Value {
    let is_there = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("");
    let fields = fields.iter().filter(|(_, value)| is_there(value));
    fields.map(|(field, value)| ((*field).to_owned(), value.clone())).collect::<Map<_, _>>().into()
}

fn of_argocd(object: &Value, plugins: &BTreeSet<String>) -> Result<ListedAccess, InventoryFault> {
    let server = of_secret(object, "server")?.filter(|server| !server.is_empty());
    let server = server.ok_or_else(|| wrong("server", "the URL of an apiserver"))?;
    if server.trim_end_matches('/') == IN_CLUSTER {
        return Ok(ListedAccess::Itself);
    }
    let config = of_secret(object, "config")?.unwrap_or_default();
    // an error of the parser may quote a credential
    let config = if config.is_empty() { Ok(ArgocdConfig::default()) } else { serde_json::from_str(&config) };
    let config: ArgocdConfig = config.map_err(|_| wrong("config", "JSON as Argo CD reads it"))?;
    let tls = config.tls_client_config;
    let cluster = with(&[
        ("server", server.into()),
        ("certificate-authority-data", tls.ca_data.into()),
        ("insecure-skip-tls-verify", tls.insecure.into()),
        ("tls-server-name", tls.server_name.into()),
        ("proxy-url", config.proxy_url.into()),
    ]);
    let exec = match (config.aws, config.exec_provider_config) {
        (Some(aws), _) => Some(of_aws(&aws)?),
        (None, Some(exec)) if plugins.contains(&exec.command) => Some(of_exec(&exec)),
        (None, Some(exec)) => return Err(InventoryFault::Command { command: shown_text(&exec.command) }),
        (None, None) => None,
    };
    let user = with(&[
        ("username", config.username.into()),
        ("password", config.password.into()),
        ("token", config.bearer_token.into()),
        ("client-certificate-data", tls.cert_data.into()),
        ("client-key-data", tls.key_data.into()),
        ("exec", exec.unwrap_or_default()),
    ]);
    Ok(ListedAccess::Entry { cluster, user })
}

/// What Argo CD's own plugin does for EKS, by the command that a person has. Values cannot become flags.
fn of_aws(aws: &AwsAuth) -> Result<Value, InventoryFault> {
    if aws.cluster_name.is_empty() {
        return Err(wrong("config.awsAuthConfig.clusterName", "the name of a cluster"));
    }
    let mut args = vec!["eks".to_owned(), "get-token".to_owned(), format!("--cluster-name={}", aws.cluster_name)];
    for (flag, value) in [("role-arn", &aws.role), ("profile", &aws.profile)] {
        if !value.is_empty() {
            args.push(format!("--{flag}={value}"));
        }
    }
    Ok(json!({ "command": "aws", "args": args, "apiVersion": "client.authentication.k8s.io/v1beta1" }))
}

fn of_exec(exec: &ArgocdExec) -> Value {
    let env = exec.env.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    with(&[
        ("command", exec.command.as_str().into()),
        ("args", exec.args.clone().into()),
        ("env", env.collect::<Vec<_>>().into()),
        ("apiVersion", exec.api_version.as_str().into()),
        ("installHint", exec.install_hint.as_str().into()),
        ("provideClusterInfo", true.into()),
    ])
}

/// Plugins by which `ClusterProfile` objects are reached: the file that cluster-inventory-api's own library reads.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Providers {
    #[serde(default)]
    providers: Vec<Provider>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    name: String,
    exec_config: Value,
    #[serde(default, rename = "profileSourcedCLIArgsPolicy")]
    arguments: ArgumentsPolicy,
    #[serde(default, rename = "profileSourcedEnvVarsPolicy")]
    variables: VariablesPolicy,
}

/// What of a profile's own arguments is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum ArgumentsPolicy {
    #[default]
    Ignore,
    Append,
}

/// What of a profile's own variables is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum VariablesPolicy {
    #[default]
    Ignore,
    AppendIfNotExists,
    Replace,
}

/// A file of providers that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("expected JSON with a list `providers`, each with `name` and `execConfig`: {0}")]
pub struct ProvidersFault(#[from] serde_json::Error);

impl Providers {
    /// Reads the file; commands with a `/` are relative to its folder, as those of a kubeconfig are.
    pub fn parse(bytes: &[u8], folder: &Path) -> Result<Self, ProvidersFault> {
        let mut all: Self = serde_json::from_slice(bytes)?;
        for provider in &mut all.providers {
            if let Some(command) = provider.exec_config.get_mut("command")
                && let Some(path) = command.as_str().filter(|path| path.contains('/'))
            {
                *command = folder.join(path).display().to_string().into();
            }
        }
        Ok(all)
    }

    /// How a profile is reached: by the first provider of the file that it offers.
    fn access(&self, profile: &Value) -> Result<ListedAccess, InventoryFault> {
        let list = |field: &str| {
            let list = profile.pointer(&format!("/status/{field}")).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(|one| Some((one.get("name")?.as_str()?, one.get("cluster")?)))
        };
        // the former name of the field, which the newer one overrides
        let offers: BTreeMap<&str, &Value> = list("credentialProviders").chain(list("accessProviders")).collect();
        let known = self.providers.iter().find_map(|provider| Some((provider, *offers.get(provider.name.as_str())?)));
        let Some((provider, offer)) = known else {
            return Err(InventoryFault::NoProvider(offers.keys().map(|name| (*name).to_owned()).collect()));
        };
        let fields = offer.as_object().into_iter().flatten().filter(|(field, _)| OF_CLUSTER.contains(&field.as_str()));
        let cluster: Map<String, Value> = fields.map(|(field, value)| (field.clone(), value.clone())).collect();
        let exec = provider.exec(&cluster)?;
        Ok(ListedAccess::Entry { cluster: cluster.into(), user: json!({ "exec": exec }) })
    }
}

impl Provider {
    /// The plugin, with what the profile adds as far as the file lets it.
    fn exec(&self, cluster: &Map<String, Value>) -> Result<Value, InventoryFault> {
        let mut exec = self.exec_config.clone();
        let extension = |name: &str| {
            let extensions = cluster.get("extensions").and_then(Value::as_array).into_iter().flatten();
            let mut own = extensions.filter(|one| one.get("name").and_then(Value::as_str) == Some(name));
            own.next().and_then(|one| one.get("extension")).cloned()
        };
        if let Some(more) = extension(MORE_ARGUMENTS).filter(|_| self.arguments == ArgumentsPolicy::Append) {
            let more: Result<Vec<String>, _> = serde_json::from_value(more);
            let more = more.map_err(|_| wrong(MORE_ARGUMENTS, "a list of texts"))?;
            let mut all = exec.get("args").and_then(Value::as_array).cloned().unwrap_or_default();
            all.extend(more.into_iter().map(Value::from));
            put(&mut exec, "args", all.into());
        }
        if let Some(more) = extension(MORE_VARIABLES).filter(|_| self.variables != VariablesPolicy::Ignore) {
            let more: Result<BTreeMap<String, String>, _> = serde_json::from_value(more);
            let more = more.map_err(|_| wrong(MORE_VARIABLES, "texts by name"))?;
            let own = exec.get("env").and_then(Value::as_array).into_iter().flatten();
            let own = own.filter_map(|one| {
                Some((one.get("name")?.as_str()?.to_owned(), one.get("value")?.as_str()?.to_owned()))
            });
            let own: BTreeMap<String, String> = own.collect();
            let (mut all, over) = if self.variables == VariablesPolicy::Replace { (own, more) } else { (more, own) };
            all.extend(over);
            let all: Vec<Value> =
                all.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
            put(&mut exec, "env", all.into());
        }
        // no one is there to answer: several clusters are read at once
        put(&mut exec, "interactiveMode", "Never".into());
        Ok(exec)
    }
}

fn put(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(data: &[(&str, &str)]) -> Value {
        let data: Map<String, Value> =
            data.iter().map(|(key, text)| ((*key).to_owned(), BASE64_STANDARD.encode(text).into())).collect();
        json!({ "metadata": { "name": "cluster-1", "namespace": "argocd" }, "data": data })
    }

    fn argocd(config: &str, plugins: &[&str]) -> Result<ListedAccess, InventoryFault> {
        let object = secret(&[("name", "west"), ("server", "https://west.example.com"), ("config", config)]);
        of_argocd(&object, &plugins.iter().map(|name| (*name).to_owned()).collect())
    }

    fn user(access: Result<ListedAccess, InventoryFault>) -> Value {
        match access.unwrap() {
            ListedAccess::Entry { user, .. } => user,
            ListedAccess::Itself => panic!("the cluster itself"),
        }
    }

    #[test]
    fn a_secret_of_argo_cd_is_a_cluster_and_a_user() {
        let config = r#"{"bearerToken": "t", "proxyUrl": "http://p:1", "tlsClientConfig":
            {"caData": "Y2E=", "certData": "Y2VydA==", "keyData": "a2V5", "serverName": "w", "insecure": false}}"#;
        let ListedAccess::Entry { cluster, user } = argocd(config, &[]).unwrap() else { panic!("no entry") };
        assert_eq!(
            cluster,
            json!({ "server": "https://west.example.com", "certificate-authority-data": "Y2E=", "tls-server-name": "w",
                "proxy-url": "http://p:1" })
        );
        assert_eq!(user, json!({ "token": "t", "client-certificate-data": "Y2VydA==", "client-key-data": "a2V5" }));
        let itself = secret(&[("server", "https://kubernetes.default.svc")]);
        assert_eq!(of_argocd(&itself, &BTreeSet::new()), Ok(ListedAccess::Itself));
        for (object, field) in [
            (secret(&[]), "server"),
            (secret(&[("server", "https://x"), ("config", "{")]), "config"),
            (
                secret(&[("server", "https://x"), ("config", r#"{"awsAuthConfig": {}}"#)]),
                "config.awsAuthConfig.clusterName",
            ),
        ] {
            let fault = of_argocd(&object, &BTreeSet::new()).unwrap_err();
            assert!(matches!(fault, InventoryFault::Field { field: found, .. } if found == field), "{fault}");
        }
    }

    #[test]
    fn a_command_of_a_secret_runs_only_where_it_was_allowed() {
        let config =
            r#"{"execProviderConfig": {"command": "get-token", "args": ["a"], "env": {"X": "1"}, "apiVersion": "v"}}"#;
        assert_eq!(argocd(config, &["other"]), Err(InventoryFault::Command { command: "get-token".to_owned() }));
        let exec = &user(argocd(config, &["get-token"]))["exec"];
        assert_eq!(exec["args"], json!(["a"]));
        assert_eq!(exec["env"], json!([{ "name": "X", "value": "1" }]));
        let aws = r#"{"awsAuthConfig": {"clusterName": "--x", "roleARN": "arn:aws:iam::1:role/r"}}"#;
        let exec = &user(argocd(aws, &[]))["exec"];
        let args = json!(["eks", "get-token", "--cluster-name=--x", "--role-arn=arn:aws:iam::1:role/r"]);
        assert_eq!((&exec["command"], &exec["args"]), (&json!("aws"), &args));
    }

    fn profile(field: &str, provider: &str) -> Value {
        let extensions = json!([
            { "name": "client.authentication.k8s.io/exec", "extension": { "clusterName": "west" } },
            { "name": MORE_ARGUMENTS, "extension": ["--more"] },
            { "name": MORE_VARIABLES, "extension": { "A": "profile", "B": "profile" } },
        ]);
        let cluster =
            json!({ "server": "https://west", "certificate-authority": "/etc/passwd", "extensions": extensions });
        json!({
            "metadata": { "name": "west", "namespace": "fleet" },
            "status": { field: [{ "name": "other", "cluster": {} }, { "name": provider, "cluster": cluster }] },
        })
    }

    fn providers(more: &str) -> Providers {
        let text = format!(
            r#"{{"providers": [{{"name": "google", "execConfig": {{"command": "./bin/plugin", "args": ["a"],
                "env": [{{"name": "A", "value": "file"}}], "provideClusterInfo": true}}{more}}}]}}"#
        );
        Providers::parse(text.as_bytes(), Path::new("/home/me")).unwrap()
    }

    #[test]
    fn a_profile_is_reached_by_the_first_provider_that_is_known() {
        for field in ["accessProviders", "credentialProviders"] {
            let access = providers("").access(&profile(field, "google")).unwrap();
            let ListedAccess::Entry { cluster, user } = access else { panic!("no entry") };
            assert!(cluster.get("certificate-authority").is_none(), "a file of this machine is named: {cluster}");
            assert_eq!(user["exec"]["command"], "/home/me/./bin/plugin");
            assert_eq!(user["exec"]["args"], json!(["a"]), "what the file does not permit");
            assert_eq!(user["exec"]["env"], json!([{ "name": "A", "value": "file" }]));
        }
        let fault = providers("").access(&profile("accessProviders", "azure")).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "it is reached by the access providers `azure`, `other`, of which --providers names none"
        );
    }

    #[test]
    fn a_profile_adds_what_the_file_permits() {
        let exec =
            |policies: &str| user(providers(policies).access(&profile("accessProviders", "google")))["exec"].clone();
        assert_eq!(exec(r#", "profileSourcedCLIArgsPolicy": "Append""#)["args"], json!(["a", "--more"]));
        let env = |a: &str| json!([{ "name": "A", "value": a }, { "name": "B", "value": "profile" }]);
        assert_eq!(exec(r#", "profileSourcedEnvVarsPolicy": "AppendIfNotExists""#)["env"], env("file"));
        assert_eq!(exec(r#", "profileSourcedEnvVarsPolicy": "Replace""#)["env"], env("profile"));
        assert!(Providers::parse(br#"{"providers": [{"name": "x"}]}"#, Path::new("")).is_err());
    }
}
