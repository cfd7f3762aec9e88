//! Signatures of commits, as the user's own configuration of git says. That of the repository has no say: it could name a
//! program, or another key.

use std::collections::BTreeMap;

use crate::git::error::Unsigned;
use crate::git::run::GitCommandKind;
use crate::git::{GitError, Repository};

/// Settings of signatures, and what git takes where the user says nothing.
const SETTINGS: [(&str, &str); 7] = [
    ("gpg.format", "openpgp"),
    ("user.signingkey", ""),
    ("gpg.program", "gpg"),
    ("gpg.openpgp.program", "gpg"),
    ("gpg.x509.program", "gpgsm"),
    ("gpg.ssh.program", "ssh-keygen"),
    ("gpg.ssh.defaultkeycommand", ""),
];
/// How commits are signed: settings that win over those of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    settings: BTreeMap<&'static str, String>,
}

impl Signing {
    /// Words for git, before the command.
    pub(super) fn args(&self) -> impl Iterator<Item = String> {
        self.settings.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
    }
}

impl Repository {
    /// How the user signs commits; an error where no key is named.
    pub fn signing(&self) -> Result<Signing, GitError> {
        let args = ["config", "--global", "--includes", "-z", "--get-regexp", r"^(gpg\..*|user\.signingkey)$"];
        // git ends with 1 where there is none
        let result = self.git(GitCommandKind::Read, "reading your git configuration").args(args).outcome()?;
        let mut settings: BTreeMap<&'static str, String> =
            SETTINGS.iter().map(|(name, usual)| (*name, (*usual).to_owned())).collect();
        for entry in result.names() {
            let (name, value) = entry.split_once('\n').unwrap_or((&entry, ""));
            if let Some(setting) = settings.get_mut(name) {
                value.clone_into(setting);
            }
        }
        let says = |name: &str| settings.get(name).is_some_and(|value| !value.is_empty());
        let by_command =
            settings.get("gpg.format").is_some_and(|format| format == "ssh") && says("gpg.ssh.defaultkeycommand");
        if !says("user.signingkey") && !by_command {
            return Err(Unsigned::NoKey.into());
        }
        // what an old setting said of all programs holds for OpenPGP
        if let (Some(old), Some(new)) = (settings.get("gpg.program").cloned(), settings.get_mut("gpg.openpgp.program"))
            && new == "gpg"
        {
            *new = old;
        }
        Ok(Signing { settings })
    }
}
