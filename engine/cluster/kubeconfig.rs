//! Kubeconfigs, read as kubectl reads them: a list of files merged, entries by name, paths beside their file; and what leads to
//! the apiserver of a context. Each entry is looked at only when its context is used, so that a broken one costs itself alone.
//!
//! Nothing of an entry is ever quoted: it may be a credential.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Uri;
use kube::Config;
use kube::config::AuthInfo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};

use crate::cluster::plugin::Plugin;
use crate::cluster::proxy::{Environment, HttpProxy, ProxyFault};
use crate::cluster::tls::given_roots;
use crate::types::encoding::{NotText, decoded};
use crate::types::text::shown_text;
use crate::types::yaml::{self, Node, YamlFault};

/// Most bytes of a kubeconfig: about 200 clusters with their certificates.
pub const MAX_KUBECONFIG: usize = 1024 * 1024;
/// Most bytes of a file that a kubeconfig names.
const MAX_FILE: u64 = 1024 * 1024;
/// What `kubectl config view` writes in the place of what it leaves out.
const LEFT_OUT: [&str; 2] = ["DATA+OMITTED", "REDACTED"];

/// What is wrong with a kubeconfig, or with an entry that a context leads to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeconfigFault {
    /// None of the files is there.
    #[error("there is no kubeconfig at {}; name one with --kubeconfig or in $KUBECONFIG", .0.join(" or "))]
    Absent(Vec<String>),
    /// No one said where it is, and there is no home.
    #[error("neither --kubeconfig nor $KUBECONFIG names a kubeconfig, and $HOME is not set")]
    Nowhere,
    /// A file cannot be read.
    #[error("cannot read the kubeconfig {path}: {reason}; name another with --kubeconfig")]
    Unreadable {
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// A file is no text.
    #[error("the kubeconfig {path} is no text: {fault}")]
    NotText { path: String, fault: NotText },
    /// A file is no YAML, or more of it than is read.
    #[error("the kubeconfig {path} cannot be read: {fault}")]
    Yaml { path: String, fault: YamlFault },
    /// A part of a file is of another form.
    #[error("the kubeconfig {path}, line {line}: expected {expected}, found {found}")]
    Form { path: String, line: usize, expected: &'static str, found: &'static str },
    /// No context is current.
    #[error("the kubeconfig {0} has no current-context")]
    NoCurrent(String),
    /// An entry that another one names is not there.
    #[error("context `{context}` names the {kind} `{name}`, which its kubeconfig does not have")]
    Missing { context: String, kind: EntryKind, name: String },
    /// A field that has to be there is empty or absent.
    #[error("the {kind} `{name}` of {path} has no `{field}`")]
    Empty { kind: EntryKind, name: String, path: String, field: &'static str },
    /// A field has another form.
    #[error("`{field}` of the {kind} `{name}` in {path}: expected {expected}")]
    Field { kind: EntryKind, name: String, path: String, field: &'static str, expected: &'static str },
    /// `kubectl config view` left a field out.
    #[error(
        "`{field}` of the {kind} `{name}` in {path} was left out by `kubectl config view`: write the file anew with \
         `kubectl config view --raw`"
    )]
    LeftOut { kind: EntryKind, name: String, path: String, field: &'static str },
    /// A file that a field names cannot be read.
    #[error("`{field}` of the {kind} `{name}` in {path} names the file {file}, which cannot be read: {reason}")]
    File {
        kind: EntryKind,
        name: String,
        path: String,
        field: &'static str,
        file: String,
        /// The system's reason.
        reason: String,
    },
    /// Two fields that exclude each other.
    #[error("the {kind} `{name}` in {path} has {fields}, of which only one may be there")]
    Both { kind: EntryKind, name: String, path: String, fields: &'static str },
    /// A way of logging in that no kubectl has any more.
    #[error(
        "the user `{name}` in {path} logs in by the auth-provider `{provider}`, which kubectl has no more: fetch the kubeconfig \
         anew, which then has a credential plugin"
    )]
    Provider { name: String, path: String, provider: String },
    /// The proxy cannot be used.
    #[error(transparent)]
    HttpProxy(#[from] ProxyFault),
}

/// Kinds of entries in a kubeconfig, each by its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    Cluster,
    User,
    Context,
}

impl std::fmt::Display for EntryKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::User => "user",
            Self::Context => "context",
        })
    }
}

/// An entry that is hidden by an earlier one of its name, as it is for kubectl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    pub kind: EntryKind,
    pub name: String,
    pub path: String,
    /// The file of the one that counts.
    pub by: String,
}

/// An entry of a file.
struct KubeconfigEntry {
    fields: Map<String, Value>,
    path: PathBuf,
}

/// Kubeconfigs merged as kubectl does: of entries with one name the first counts.
#[derive(Default)]
pub struct Kubeconfig {
    entries: BTreeMap<EntryKind, BTreeMap<String, KubeconfigEntry>>,
    current: Option<String>,
    hidden: Vec<Hidden>,
    paths: Vec<PathBuf>,
}

/// What leads to the apiserver of a context.
pub struct ApiserverAccess {
    /// Address, TLS, credentials and proxy. What a plugin gives is not in it.
    pub config: Config,
    /// The plugin that has to be asked for credentials first.
    pub plugin: Option<Plugin>,
    /// The proxy that is used.
    pub proxy: Option<HttpProxy>,
    /// Its user has an `auth-provider`, of which at most a token is read.
    pub has_auth_provider: bool,
}

impl Kubeconfig {
    /// That of a file, which has to be there; else those of the list in `$KUBECONFIG`, of which one has to be there; else
    /// `~/.kube/config`.
    pub fn read(file: Option<&Path>) -> Result<Self, KubeconfigFault> {
        let listed = std::env::var_os("KUBECONFIG").map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
        let listed = listed.unwrap_or_default().into_iter().filter(|path| !path.as_os_str().is_empty());
        let mut paths: Vec<PathBuf> = match file {
            Some(path) => vec![path.to_owned()],
            None => listed.collect(),
        };
        if paths.is_empty() {
            paths.push(std::env::home_dir().ok_or(KubeconfigFault::Nowhere)?.join(".kube").join("config"));
        }
        let mut all = Self::default();
        for path in &paths {
            if all.paths.contains(path) {
                continue;
            }
            let bytes = match bytes_of(path, MAX_KUBECONFIG as u64) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(KubeconfigFault::Unreadable { path: shown(path), reason: error.to_string() }),
            };
            all.add(path, &bytes)?;
            all.paths.push(path.clone());
        }
        if all.paths.is_empty() {
            return Err(KubeconfigFault::Absent(paths.iter().map(|path| shown(path)).collect()));
        }
        Ok(all)
    }

    /// Adds the entries of a file of at most [`MAX_KUBECONFIG`] bytes behind those that are there.
    pub fn add(&mut self, path: &Path, bytes: &[u8]) -> Result<(), KubeconfigFault> {
        let text = decoded(bytes).map_err(|fault| KubeconfigFault::NotText { path: shown(path), fault })?;
        let documents = yaml::documents(&text, MAX_KUBECONFIG);
        let documents = documents.map_err(|fault| KubeconfigFault::Yaml { path: shown(path), fault })?;
        // kubectl reads the first document, and takes an empty file for an empty kubeconfig
        let Some(document) = documents.into_iter().next() else { return Ok(()) };
        let form = |line: usize, expected: &'static str, found: Option<&Value>| {
            let found = found.map_or("nothing", kind_of);
            KubeconfigFault::Form { path: shown(path), line, expected, found }
        };
        let line = document.line;
        let mut document = match document.content {
            yaml::Content::Map(document) => document,
            yaml::Content::Scalar(Value::Null) => return Ok(()),
            yaml::Content::Scalar(value) => return Err(form(line, "a mapping", Some(&value))),
            yaml::Content::List(_) => return Err(form(line, "a mapping", Some(&Value::Array(Vec::new())))),
        };
        let current = document.remove("current-context").map(Node::into_value);
        let current = current.and_then(|name| name.as_str().map(str::to_owned)).filter(|name| !name.is_empty());
        self.current = self.current.take().or(current);
        for (kind, list, field) in [
            (EntryKind::Cluster, "clusters", "cluster"),
            (EntryKind::User, "users", "user"),
            (EntryKind::Context, "contexts", "context"),
        ] {
            let Some(list) = document.remove(list) else { continue };
            let items = match list.content {
                yaml::Content::List(items) => items,
                yaml::Content::Scalar(Value::Null) => continue,
                yaml::Content::Scalar(value) => return Err(form(list.line, "a list", Some(&value))),
                yaml::Content::Map(_) => return Err(form(list.line, "a list", Some(&Value::Object(Map::new())))),
            };
            for item in items {
                let line = item.line;
                let item = item.into_value();
                let Value::Object(mut item) = item else {
                    return Err(form(line, "a mapping with a name", Some(&item)));
                };
                let name = match item.remove("name") {
                    Some(Value::String(name)) => name,
                    value => return Err(form(line, "a name", value.as_ref())),
                };
                let fields = match item.remove(field) {
                    Some(Value::Object(fields)) => fields,
                    Some(Value::Null) | None => Map::new(),
                    Some(value) => return Err(form(line, "a mapping below the name", Some(&value))),
                };
                let entries = self.entries.entry(kind).or_default();
                match entries.get(&name) {
                    None => {
                        entries.insert(name, KubeconfigEntry { fields, path: path.to_owned() });
                    }
                    Some(first) if first.fields == fields && is_of_itself(&fields) => {}
                    Some(first) => {
                        let by = shown(&first.path);
                        self.hidden.push(Hidden { kind, name, path: shown(path), by });
                    }
                }
            }
        }
        Ok(())
    }

    /// The names of its contexts, sorted.
    pub fn contexts(&self) -> Vec<String> {
        self.entries.get(&EntryKind::Context).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// What is in a file of the list and counts for nothing.
    pub fn hidden(&self) -> &[Hidden] {
        &self.hidden
    }

    /// What leads to the apiserver of a context; without one, of that which is current.
    pub fn way(&self, context: Option<&str>, environment: &Environment) -> Result<ApiserverAccess, KubeconfigFault> {
        let no_current =
            || KubeconfigFault::NoCurrent(self.paths.iter().map(|path| shown(path)).collect::<Vec<_>>().join(", "));
        let context = context.or(self.current.as_deref()).ok_or_else(no_current)?;
        let missing =
            |kind, name: &str| KubeconfigFault::Missing { context: shown_text(context), kind, name: shown_text(name) };
        let of = self.entry(EntryKind::Context, context).ok_or_else(|| missing(EntryKind::Context, context))?;
        let name = of.text("cluster")?.ok_or_else(|| of.empty("cluster"))?;
        let cluster = self.entry(EntryKind::Cluster, &name).ok_or_else(|| missing(EntryKind::Cluster, &name))?;
        let mut config = cluster.config()?;
        let proxy = match cluster.text("proxy-url")? {
            Some(url) => Some(HttpProxy::stated(&url, &shown_text(&name))?),
            None => environment.proxy_of(&config.cluster_url)?,
        };
        config.proxy_url = proxy.as_ref().map(|proxy| proxy.url.clone());
        let (mut plugin, mut has_auth_provider) = (None, false);
        // as for kubectl, a user who is not there is no one
        if let Some(name) = of.text("user")?
            && let Some(user) = self.entry(EntryKind::User, &name)
        {
            (config.auth_info, plugin) = user.credentials(&cluster)?;
            has_auth_provider = user.entry.fields.get("auth-provider").is_some_and(Value::is_object);
        }
        Ok(ApiserverAccess { config, plugin, proxy, has_auth_provider })
    }

    fn entry<'a>(&'a self, kind: EntryKind, name: &'a str) -> Option<NamedEntry<'a>> {
        let entry = self.entries.get(&kind)?.get(name)?;
        Some(NamedEntry { kind, name, entry })
    }
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kubeconfig({:?}, [redacted])", self.contexts())
    }
}

/// Whether fields mean the same in every folder.
fn is_of_itself(fields: &Map<String, Value>) -> bool {
    let paths = ["certificate-authority", "client-certificate", "client-key", "tokenFile"];
    paths.iter().all(|field| fields.get(*field).is_none())
}

struct NamedEntry<'a> {
    kind: EntryKind,
    name: &'a str,
    entry: &'a KubeconfigEntry,
}

impl NamedEntry<'_> {
    fn path(&self) -> String {
        shown(&self.entry.path)
    }

    fn empty(&self, field: &'static str) -> KubeconfigFault {
        KubeconfigFault::Empty { kind: self.kind, name: shown_text(self.name), path: self.path(), field }
    }

    fn wrong(&self, field: &'static str, expected: &'static str) -> KubeconfigFault {
        KubeconfigFault::Field { kind: self.kind, name: shown_text(self.name), path: self.path(), field, expected }
    }

    /// A text that is not empty. What was left out is reported, since its absence shows elsewhere as something else.
    fn text(&self, field: &'static str) -> Result<Option<String>, KubeconfigFault> {
        match self.entry.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if LEFT_OUT.contains(&text.trim()) => {
                let name = shown_text(self.name);
                Err(KubeconfigFault::LeftOut { kind: self.kind, name, path: self.path(), field })
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(field, "a text")),
        }
    }

    fn flag(&self, field: &'static str) -> Result<bool, KubeconfigFault> {
        match self.entry.fields.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(field, "true or false")),
        }
    }

    fn texts(&self, field: &'static str) -> Result<Option<Vec<String>>, KubeconfigFault> {
        let Some(list) = self.entry.fields.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
        let texts = list.as_array().map(|list| list.iter().map(|one| one.as_str().map(str::to_owned)).collect());
        texts.ok_or_else(|| self.wrong(field, "a list of texts"))
    }

    /// A path, relative to the kubeconfig.
    fn beside(&self, path: &str) -> PathBuf {
        self.entry.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The bytes of a file that a field names.
    fn file(&self, field: &'static str) -> Result<Option<Vec<u8>>, KubeconfigFault> {
        let Some(path) = self.text(field)? else { return Ok(None) };
        let path = self.beside(&path);
        let bytes = match std::fs::metadata(&path) {
            // a pipe would be waited for
            Ok(found) if !found.is_file() => Err(std::io::Error::other("it is no file")),
            Ok(_) => bytes_of(&path, MAX_FILE),
            Err(error) => Err(error),
        };
        bytes.map(Some).map_err(|error| KubeconfigFault::File {
            kind: self.kind,
            name: shown_text(self.name),
            path: self.path(),
            field,
            file: shown(&path),
            reason: error.to_string(),
        })
    }

    /// What a field holds in base64, line breaks or not; else the bytes of the file that another one names.
    fn data(&self, data: &'static str, file: &'static str) -> Result<Option<Vec<u8>>, KubeconfigFault> {
        let Some(text) = self.text(data)? else { return self.file(file) };
        let text: String = text.split_ascii_whitespace().collect();
        BASE64.decode(text).map(Some).map_err(|_| self.wrong(data, "base64"))
    }

    /// The part of a configuration that the cluster decides.
    fn config(&self) -> Result<Config, KubeconfigFault> {
        const CA: &str = "certificate-authority-data";
        const INSECURE: &str = "insecure-skip-tls-verify";
        let server = self.text("server")?.ok_or_else(|| self.empty("server"))?;
        let ca = self.data(CA, "certificate-authority")?;
        let insecure = self.flag(INSECURE)?;
        // without a scheme it is as kubectl takes it
        let server = match server.contains("://") {
            true => server,
            false if ca.is_some() || insecure => format!("https://{server}"),
            false => format!("http://{server}"),
        };
        let url = server.trim().trim_end_matches('/').parse::<Uri>().ok();
        let url = url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
        let mut config = Config::new(url.ok_or_else(|| self.wrong("server", "an http:// or https:// URL"))?);
        if ca.is_some() && insecure {
            let fields = "a certificate authority and insecure-skip-tls-verify";
            let name = shown_text(self.name);
            return Err(KubeconfigFault::Both { kind: self.kind, name, path: self.path(), fields });
        }
        if let Some(pem) = ca {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let readable = std::str::from_utf8(&pem).ok().is_some_and(|pem| given_roots(pem).is_ok());
            let certificates = certificates.ok().filter(|_| readable);
            let certificates = certificates.ok_or_else(|| self.wrong(CA, "certificates as PEM, encoded as base64"))?;
            config.root_cert = Some(certificates.iter().map(|certificate| certificate.as_ref().to_vec()).collect());
        }
        config.accept_invalid_certs = insecure;
        config.tls_server_name = self.text("tls-server-name")?;
        Ok(config)
    }

    /// What the user shows: credentials, or the plugin that has them.
    fn credentials(&self, cluster: &NamedEntry<'_>) -> Result<(AuthInfo, Option<Plugin>), KubeconfigFault> {
        let secret = |text: String| text.into();
        let mut info = AuthInfo {
            username: self.text("username")?,
            password: self.text("password")?.map(secret),
            impersonate: self.text("as")?,
            impersonate_uid: self.text("as-uid")?,
            impersonate_groups: self.texts("as-groups")?,
            ..AuthInfo::default()
        };
        if let Some(extra) = self.entry.fields.get("as-user-extra").filter(|value| !value.is_null()) {
            let extra = serde_json::from_value(extra.clone());
            info.impersonate_user_extra =
                Some(extra.map_err(|_| self.wrong("as-user-extra", "lists of texts by name"))?);
        }
        let certificate = self.data("client-certificate-data", "client-certificate")?;
        let key = self.data("client-key-data", "client-key")?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                info.client_certificate_data = Some(BASE64.encode(certificate));
                info.client_key_data = Some(secret(BASE64.encode(key)));
            }
            (Some(_), None) => return Err(self.empty("client-key-data")),
            (None, Some(_)) => return Err(self.empty("client-certificate-data")),
            (None, None) => {}
        }
        info.token = if let Some(token) = self.text("token")? {
            Some(secret(token))
        } else {
            let bytes = self.file("tokenFile")?;
            let token = bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| self.wrong("tokenFile", "a text")));
            token.transpose()?.map(|token| secret(token.trim().to_owned()))
        };
        let is_known = info.token.is_some() || info.username.is_some() || info.client_certificate_data.is_some();
        if let Some(provider) = self.entry.fields.get("auth-provider").filter(|value| value.is_object() && !is_known) {
            let text = |pointer: &str| provider.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            match (text("/name"), text("/config/id-token")) {
                ("oidc", token) if !token.is_empty() => info.token = Some(secret(token.to_owned())),
                (provider, _) => {
                    let (name, provider) = (shown_text(self.name), shown_text(provider));
                    return Err(KubeconfigFault::Provider { name, path: self.path(), provider });
                }
            }
        }
        let plugin = match self.entry.fields.get("exec").filter(|value| !value.is_null()) {
            Some(exec) => Some(self.plugin(exec, cluster)?),
            None => None,
        };
        Ok((info, plugin.filter(|_| !is_known)))
    }

    fn plugin(&self, exec: &Value, cluster: &NamedEntry<'_>) -> Result<Plugin, KubeconfigFault> {
        let text =
            |field: &str| exec.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let command = text("command").ok_or_else(|| self.empty("exec.command"))?;
        let command = if command.contains('/') { self.beside(&command) } else { PathBuf::from(command) };
        let strings = |field: &'static str, of: &str| match exec.get(of) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<String>> = list.iter().map(|one| one.as_str().map(str::to_owned)).collect();
                texts.ok_or_else(|| self.wrong(field, "a list of texts"))
            }
            Some(_) => Err(self.wrong(field, "a list of texts")),
        };
        let arguments = strings("exec.args", "args")?;
        let mut variables = Vec::new();
        for one in exec.get("env").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| one.get(field).and_then(Value::as_str).map(str::to_owned);
            let name = text("name").filter(|name| !name.is_empty() && !name.contains(['=', '\0']));
            let name = name.ok_or_else(|| self.wrong("exec.env", "a list of names and values"))?;
            variables.push((name, text("value").unwrap_or_default()));
        }
        let wants_cluster = exec.get("provideClusterInfo").and_then(Value::as_bool).unwrap_or(false);
        let cluster = if wants_cluster { Some(cluster.for_plugin()?) } else { None };
        Ok(Plugin {
            command,
            arguments,
            variables,
            api_version: text("apiVersion").unwrap_or_else(|| "client.authentication.k8s.io/v1".to_owned()),
            wants_terminal: text("interactiveMode").as_deref() == Some("Always"),
            install_hint: text("installHint").map(|hint| shown_text(&hint)),
            cluster,
        })
    }

    /// What a plugin is told of the cluster.
    fn for_plugin(&self) -> Result<Value, KubeconfigFault> {
        let mut info = Map::new();
        let mut put = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                info.insert(field.to_owned(), value);
            }
        };
        put("server", self.text("server")?.map(Value::from));
        put("tls-server-name", self.text("tls-server-name")?.map(Value::from));
        put("insecure-skip-tls-verify", self.flag("insecure-skip-tls-verify")?.then(|| Value::from(true)));
        let ca = self.data("certificate-authority-data", "certificate-authority")?;
        put("certificate-authority-data", ca.map(|ca| BASE64.encode(ca).into()));
        put("proxy-url", self.text("proxy-url")?.map(Value::from));
        let extensions = self.entry.fields.get("extensions").and_then(Value::as_array).into_iter().flatten();
        let mut own = extensions
            .filter(|one| one.get("name").and_then(Value::as_str) == Some("client.authentication.k8s.io/exec"));
        put("config", own.next().and_then(|one| one.get("extension")).cloned());
        Ok(info.into())
    }
}

/// The bytes of a file, up to a limit and one byte, by which it is seen to be too large.
fn bytes_of(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn shown(path: &Path) -> String {
    shown_text(&path.display().to_string())
}

/// What a value is, for messages.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
