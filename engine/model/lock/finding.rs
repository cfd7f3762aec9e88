//! What can be wrong with a lock.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::types::certificate::CertificateError;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::key::{KeyError, KeyId};
use crate::types::name::{ClusterName, Digest};

/// The way out of direct credentials.
pub(crate) const LEAVE_DIRECT: &str = "leave with the version before: set `state: leaving` on every cluster and apply until nothing is left; then take `credentials` and `encryption` out of the Mesh and join with relay, using this version";

/// What is wrong with a lock.
#[derive(Debug)]
pub(super) enum LockFinding<'a> {
    /// A link with a direct credential.
    Direct {
        /// Who reads.
        reader: &'a ClusterName,
        peer: &'a ClusterName,
    },
    /// A file that no lock has.
    NotPart,
    /// Its last line is missing.
    CutShort,
    /// Bytes that are no characters.
    NotUtf8,
    /// Markers of a merge conflict.
    MergeConflict,
    /// A file that names another cluster than its name.
    Name { inside: &'a ClusterName, outside: &'a ClusterName },
    /// A key that cannot be read.
    Key { id: &'a KeyId, error: &'a KeyError },
    /// A key that is not the one its digest names.
    KeyDiffers { id: &'a KeyId },
    /// A root CA that cannot be read.
    Root {
        /// The digest beside it.
        digest: Digest,
        error: &'a CertificateError,
    },
    /// A root CA that is not the one its digest names.
    RootDiffers {
        /// The digest beside it.
        digest: Digest,
    },
    /// It breaks the format.
    Malformed(&'a serde_saphyr::Error),
    /// A newer engine wrote it.
    TooNew {
        version: u32,
        /// The newest that is read.
        newest: u32,
    },
}

impl LockFinding<'_> {
    fn code(&self) -> Code {
        match self {
            Self::Direct { .. } => Code::DirectCredentials,
            Self::NotPart
            | Self::Name { .. }
            | Self::Key { .. }
            | Self::KeyDiffers { .. }
            | Self::Root { .. }
            | Self::RootDiffers { .. }
            | Self::Malformed(_)
            | Self::CutShort => Code::LockBroken,
            Self::NotUtf8 => Code::WrongEncoding,
            Self::MergeConflict => Code::MergeConflict,
            Self::TooNew { .. } => Code::OtherEngineRequired,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Direct { reader, peer } => format!(
                "the remote secret of `{reader}` for `{peer}` holds a direct credential, which this version does not have"
            ),
            Self::NotPart => "this file is not part of a lock".to_owned(),
            Self::CutShort => "the file was cut short: its last line is missing".to_owned(),
            Self::NotUtf8 => "the file is not UTF-8".to_owned(),
            Self::MergeConflict => "the file holds merge conflict markers".to_owned(),
            Self::Name { inside, outside } => {
                format!("expected the lock of `{outside}`, as the file is named, found that of `{inside}`")
            }
            Self::Key { id, error } => format!("the key `{id}` is unreadable: {error}"),
            Self::KeyDiffers { id } => format!("the key `{id}` is not the one that its sha256 names"),
            Self::Root { digest, error } => format!("the root CA {digest} is unreadable: {error}"),
            Self::RootDiffers { digest } => format!("a root CA is not the one that {digest} and its notAfter name"),
            Self::Malformed(error) => {
                // the parser's first line says what, the rest shows where
                let text = error.to_string();
                expected_found(text.lines().next().unwrap_or_default().trim_start_matches("error: "))
            }
            Self::TooNew { version, newest } => {
                format!("expected a lock of version {newest} or older, found version {version}")
            }
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Direct { .. } => LEAVE_DIRECT,
            Self::NotPart => {
                "the lock holds `mesh.yaml`, `clusters/<cluster>.yaml` and `links/<cluster>.yaml`; move the file elsewhere"
            }
            Self::MergeConflict => {
                "take one side whole with `git checkout --theirs` or `--ours`, or restore the file of before the merge"
            }
            Self::TooNew { .. } => "use the engine that wrote it, or a newer one",
            Self::CutShort
            | Self::NotUtf8
            | Self::Name { .. }
            | Self::Key { .. }
            | Self::KeyDiffers { .. }
            | Self::Root { .. }
            | Self::RootDiffers { .. }
            | Self::Malformed(_) => {
                "only `engine apply` writes the lock; restore the file from the last commit in which it was whole, and accept trust changes with `engine apply --accept-trust`"
            }
        }
    }
}

impl Explain for LockFinding<'_> {
    fn explanation(&self) -> Explanation {
        Explanation { code: self.code(), message: self.message(), hint: Some(self.hint().to_owned()) }
    }
}

/// What a deserializer says, as `expected X, found Y`; what is of no known form as it is.
fn expected_found(message: &str) -> String {
    // the parser may say first where it is, which the finding does by itself
    let known = ["unknown variant `", "unknown field `", "missing field `", "invalid type: ", "invalid value: "];
    let from = known.iter().filter_map(|form| message.find(form)).min().unwrap_or(0);
    let fault = message.get(from..).unwrap_or(message);
    let quoted = |form: &str| fault.strip_prefix(form).and_then(|rest| rest.split_once('`'));
    if let Some((found, rest)) = quoted("unknown variant `") {
        return format!("{}, found `{found}`", rest.trim_start_matches(", "));
    }
    if let Some((found, _)) = quoted("unknown field `") {
        return format!("unknown field `{found}`");
    }
    if let Some((field, _)) = quoted("missing field `") {
        return format!("`{field}` is missing");
    }
    let value = fault.strip_prefix("invalid type: ").or_else(|| fault.strip_prefix("invalid value: "));
    match value.and_then(|value| value.split_once(", expected ")) {
        Some((found, expected)) => format!("expected {expected}, found {found}"),
        None => format!("the lock cannot be read: {message}"),
    }
}
