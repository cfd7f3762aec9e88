//! The role's own identity towards its apiserver, which lends itself to no one: it may impersonate the peers' users, and
//! nothing else. A token from a file is read again all the time, since kubelets replace it; without one nothing is sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use kube::config::AuthInfo;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::roles::role::{Role, RoleError, TokenFault};

/// How often the file is read.
const EVERY: Duration = Duration::from_secs(1);
/// How soon it is read again when it holds no token: it may just be being written.
const AGAIN: Duration = Duration::from_millis(200);

/// There is no token to ask the apiserver with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the role's own token is missing")]
pub struct TokenMissing;

/// What requests are authorized with.
#[derive(Clone)]
pub enum ProxyCredential {
    /// A client certificate, which TLS has shown already.
    Certificate,
    /// A token, while there is one.
    Token(watch::Receiver<Option<HeaderValue>>),
}

impl ProxyCredential {
    /// That of the role's kubeconfig, or of its pod.
    pub fn of(role: &Role) -> Result<Self, RoleError> {
        let auth: &AuthInfo = &role.access.config.auth_info;
        if let Some(path) = &auth.token_file {
            let path = PathBuf::from(path);
            let first = read(&path);
            role.health.set("credential", &first);
            let (sender, receiver) = watch::channel(first.ok());
            tokio::spawn(watch_token(path, sender, role.clone()));
            return Ok(Self::Token(receiver));
        }
        if let Some(token) = &auth.token {
            let token = header(token.expose_secret())?;
            role.health.holds("credential");
            return Ok(Self::Token(watch::channel(Some(token)).1));
        }
        if auth.client_certificate.is_some() || auth.client_certificate_data.is_some() {
            role.health.holds("credential");
            return Ok(Self::Certificate);
        }
        Err(RoleError::NoCredential)
    }

    /// The value of `Authorization`, none with a certificate, or an error while there is no token.
    pub fn authorization(&self) -> Result<Option<HeaderValue>, TokenMissing> {
        match self {
            Self::Certificate => Ok(None),
            Self::Token(token) => token.borrow().clone().map(Some).ok_or(TokenMissing),
        }
    }
}

/// Reads the file over and over. A token that is missing twice in a row is gone, and the old one is no longer used.
async fn watch_token(path: PathBuf, sender: watch::Sender<Option<HeaderValue>>, role: Role) {
    let mut missing = sender.borrow().is_none();
    while !role.stopping.is_requested() && !sender.is_closed() {
        sleep(if missing { AGAIN } else { EVERY }).await;
        let token = read(&path);
        let first_miss = token.is_err() && !missing;
        missing = token.is_err();
        if first_miss {
            continue;
        }
        role.health.set("credential", &token);
        let token = token.ok();
        sender.send_if_modified(|current| {
            let changed = *current != token;
            *current = token;
            changed
        });
    }
}

/// Why a file gives no token.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Token(#[from] TokenFault),
}

fn read(path: &Path) -> Result<HeaderValue, FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Ok(header(zeroize::Zeroizing::new(text).trim())?)
}

fn header(token: &str) -> Result<HeaderValue, TokenFault> {
    if token.is_empty() {
        return Err(TokenFault::Empty);
    }
    let text = zeroize::Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| TokenFault::Characters)?;
    value.set_sensitive(true);
    Ok(value)
}
