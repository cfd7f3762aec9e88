//! Credential plugins of kubeconfigs (`exec`): asked once, with a deadline, and ended with all that they started.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::config::AuthInfo;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::types::yaml::value_of;

/// Longest run of a plugin.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Plugins that run at a time: some of them are large.
const AT_ONCE: usize = 16;
/// Most bytes of an answer.
const MOST: usize = 1024 * 1024;

/// A plugin, as a kubeconfig names it.
#[derive(Clone, PartialEq)]
pub struct Plugin {
    pub(super) command: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) api_version: String,
    /// It works on a terminal alone.
    pub(super) wants_terminal: bool,
    /// How it is installed, as the kubeconfig says (`installHint`).
    pub(super) install_hint: Option<String>,
    /// What it is told of the cluster.
    pub(super) cluster: Option<Value>,
}

/// Why a plugin gave no credentials. What it printed may be one, and is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginFault {
    #[error("the credential plugin `{command}` of its kubeconfig cannot be started: {reason}{}", hint(.install.as_deref()))]
    NotStarted {
        command: String,
        /// The system's reason.
        reason: String,
        install: Option<String>,
    },
    /// It asks questions, and several are asked at once.
    #[error(
        "the credential plugin `{command}` of its kubeconfig wants a terminal (interactiveMode: Always); give the user of this \
         context a token"
    )]
    WantsTerminal { command: String },
    #[error(
        "the credential plugin `{command}` of its kubeconfig did not end within {} seconds; log in first, as with `kubectl get \
         namespaces` and this context", DEADLINE.as_secs()
    )]
    Late { command: String },
    #[error(
        "the credential plugin `{command}` of its kubeconfig ended with {status}; log in first, as with `kubectl get namespaces` and \
         this context"
    )]
    Failed {
        command: String,
        /// How it ended.
        status: String,
    },
    #[error(
        "the answer of the credential plugin `{command}` of its kubeconfig holds neither a token nor a certificate with its key"
    )]
    NoCredentials { command: String },
}

fn hint(install: Option<&str>) -> String {
    install.map_or_else(String::new, |hint| format!("; its kubeconfig says: {}", hint.trim()))
}

impl Plugin {
    /// Asks it, and puts what it gives to what the kubeconfig states.
    pub async fn ask(&self, info: &mut AuthInfo) -> Result<(), PluginFault> {
        static ROOM: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(AT_ONCE));
        let command = || crate::types::text::shown_text(&self.command.display().to_string());
        if self.wants_terminal {
            return Err(PluginFault::WantsTerminal { command: command() });
        }
        let _room = ROOM.acquire().await;
        let mut spec = json!({ "interactive": false });
        if let (Some(cluster), Value::Object(spec)) = (&self.cluster, &mut spec) {
            spec.insert("cluster".to_owned(), cluster.clone());
        }
        let request = json!({ "kind": "ExecCredential", "apiVersion": self.api_version, "spec": spec });
        let mut child = Command::new(&self.command)
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("KUBERNETES_EXEC_INFO", request.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // a group of its own, so that it can be ended with its children
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| PluginFault::NotStarted {
                command: command(),
                reason: error.to_string(),
                install: self.install_hint.clone(),
            })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        let answer = child.stdout.take();
        let ended = timeout(DEADLINE, async {
            let mut bytes = Vec::new();
            if let Some(answer) = answer {
                let most = u64::try_from(MOST).unwrap_or(u64::MAX);
                answer.take(most).read_to_end(&mut bytes).await?;
            }
            Ok::<_, std::io::Error>((bytes, child.wait().await?))
        });
        let ended = ended.await;
        if !matches!(ended, Ok(Ok(_)))
            && let Some(group) = group
        {
            let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let (bytes, status) = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => return Err(PluginFault::Failed { command: command(), status: error.to_string() }),
            Err(_) => return Err(PluginFault::Late { command: command() }),
        };
        if !status.success() {
            return Err(PluginFault::Failed { command: command(), status: status.to_string() });
        }
        let answer = value_of(&bytes, MOST).unwrap_or_default();
        let text = |field: &str| {
            let text = answer.pointer(&format!("/status/{field}")).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let certificate = text("clientCertificateData").zip(text("clientKeyData"));
        let token = text("token");
        if token.is_none() && certificate.is_none() {
            return Err(PluginFault::NoCredentials { command: command() });
        }
        info.token = token.map(Into::into);
        if let Some((certificate, key)) = certificate {
            info.client_certificate_data = Some(BASE64.encode(certificate));
            info.client_key_data = Some(BASE64.encode(key).into());
        }
        Ok(())
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({:?}, [redacted])", self.command)
    }
}
