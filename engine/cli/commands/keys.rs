//! `engine keys`: the engine's own key, and where all private halves are.
#![deny(clippy::wildcard_enum_match_arm)]

use clap::Subcommand;
use serde_json::{Value, json};

use crate::checkout::{Checkout, FileChange, Guard};
use crate::cli::global::Global;
use crate::cli::unknown::unknown;
use crate::model::keyring::KeyProblem;
use crate::model::known::engine_keys;
use crate::model::lock::Lock;
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::exit::Exit;
use crate::session::keys::ENGINE_KEY_PATH;
use crate::session::session::Session;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::key::{KeyError, KeyId, PrivateKey, PublicKey};
use crate::types::object::YamlError;

/// Commands of `keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make the engine's key: its private half in keys/engine.key, its public half in lock/mesh.yaml.
    New,
    /// List the keys in specs and lock, and where the private half of each is.
    List,
    /// Commands that this version does not have.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// `engine keys`.
pub(crate) fn run(arguments: &Global, keys: &Keys, printer: &Printer) -> Result<Exit, CommandError> {
    match keys {
        Keys::New => new(arguments, printer),
        Keys::List => list(arguments, printer),
        Keys::Other(given) => Err(unknown::<Keys>("keys ", given).into()),
    }
}

/// Makes the engine's key: the private half in `keys/engine.key`, the public half in `lock/mesh.yaml`.
fn new(arguments: &Global, printer: &Printer) -> Result<Exit, CommandError> {
    let checkout = Checkout::open(&arguments.directory)?;
    let guard = checkout.lock()?;
    let session = Session::load(&checkout, None, None, false)?;
    if let Some((id, _)) = engine_keys(&session.program.mesh, &session.program.lock).into_iter().next() {
        return Err(KeysError::Known { id }.into());
    }
    let public = create(&guard, &session.program.lock)?;
    let id = public.id();
    if arguments.output == Output::Json {
        let row = KeyRow { owner: "engine".to_owned(), id: id.clone(), key: &public, private: Half::Present };
        printer.out(&format!("{}\n", json!({ "version": 1, "keys": [row.document()] })));
    }
    printer
        .status(&format!("made {ENGINE_KEY_PATH} (private, not for git) and {} (public half `{id}`)", Lock::MESH_PATH));
    printer.status("keep the private half where the job that runs `engine apply` finds it, and nowhere else");
    Ok(Exit::Done)
}

/// Makes the key and records it. A private half that is there already, from a run that was cut off, is taken up.
pub(crate) fn create(guard: &Guard<'_>, lock: &Lock) -> Result<PublicKey, CommandError> {
    let key = if let Some(found) = guard.read_private(ENGINE_KEY_PATH)? {
        let pem = std::str::from_utf8(&found.bytes).map_err(KeyFault::from)?;
        PrivateKey::from_pem(pem).map_err(KeyFault::from)?
    } else {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(seed.as_mut()).map_err(KeyFault::from)?;
        let key = PrivateKey::generate(&seed).map_err(KeyFault::from)?;
        if guard.read("keys/.gitignore")?.is_none() {
            guard.write_private("keys/.gitignore", b"*\n")?;
        }
        guard.write_private(ENGINE_KEY_PATH, key.to_pem().map_err(KeyFault::from)?.as_bytes())?;
        key
    };
    let mut lock = lock.clone();
    lock.engine_keys.insert(key.public().id(), key.public().clone());
    let files = lock.to_files().map_err(KeyFault::from)?;
    let text = files.get(Lock::MESH_PATH).cloned().unwrap_or_default();
    guard.commit(
        &[FileChange::Write { path: Lock::MESH_PATH.to_owned(), bytes: text.into_bytes(), mode: 0o644 }],
        &|_| (),
    )?;
    Ok(key.public().clone())
}

/// A key that spec or lock know.
struct KeyRow<'a> {
    owner: String,
    id: KeyId,
    key: &'a PublicKey,
    private: Half,
}

/// Where the private half of a key is.
enum Half {
    /// Where the spec says.
    Present,
    /// In the cluster whose key it is.
    InCluster,
    /// That of another key is there.
    Another,
    /// Not where the spec says.
    Missing(KeyProblem),
}

impl KeyRow<'_> {
    fn cells(&self) -> [String; 4] {
        let private = match &self.private {
            Half::Present => "present".to_owned(),
            Half::InCluster => "in the cluster".to_owned(),
            Half::Another => "another one is present".to_owned(),
            Half::Missing(reason) => format!("missing: {reason}"),
        };
        [self.owner.clone(), self.id.to_string(), self.key.fingerprint().to_string(), private]
    }

    fn document(&self) -> Value {
        let (private, reason) = match &self.private {
            Half::Present => ("present", None),
            Half::InCluster => ("in-cluster", None),
            Half::Another => ("another", None),
            Half::Missing(reason) => ("missing", Some(reason.explanation())),
        };
        let reason =
            reason.map(|Explanation { code, message, hint }| json!({ "code": code, "message": message, "hint": hint }));
        json!({
            "owner": self.owner, "id": self.id, "fingerprint": self.key.fingerprint(), "private": private,
            "reason": reason,
        })
    }
}

/// Prints all keys and where their private halves are.
fn list(arguments: &Global, printer: &Printer) -> Result<Exit, CommandError> {
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, false)?;
    let lock = &session.program.lock;
    let keyring = session.keyring();
    let mut rows: Vec<KeyRow> = Vec::new();
    let own = engine_keys(&session.program.mesh, lock);
    for (id, key) in &own {
        let private = match &keyring.engine {
            Ok((found, _)) if found == id => Half::Present,
            Ok(_) => Half::Another,
            Err(reason) => Half::Missing(reason.clone()),
        };
        rows.push(KeyRow { owner: "engine".to_owned(), id: id.clone(), key, private });
    }
    for (name, locked) in &lock.clusters {
        if !session.program.mesh.clusters.contains_key(name) {
            continue;
        }
        let key = &locked.public.authn_key;
        rows.push(KeyRow { owner: name.to_string(), id: key.id(), key, private: Half::InCluster });
    }
    if arguments.output == Output::Json {
        let keys: Vec<_> = rows.iter().map(KeyRow::document).collect();
        printer.out(&format!("{}\n", json!({ "version": 1, "keys": keys })));
    } else if rows.is_empty() {
        printer.status("no keys yet; `engine keys new` makes the engine's");
    } else {
        printer.show(&crate::report::text::table(
            &["OWNER", "KEY", "FINGERPRINT", "PRIVATE HALF"],
            rows.iter().map(KeyRow::cells).collect(),
        ));
    }
    Ok(Exit::Done)
}

/// Why the engine's key could not be made or recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFault {
    /// The file that is there is no text.
    #[error(transparent)]
    NotText(#[from] std::str::Utf8Error),
    /// It is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system gave no random bytes.
    #[error(transparent)]
    Random(#[from] aws_lc_rs::error::Unspecified),
    /// The lock cannot be written.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

impl From<KeyFault> for CommandError {
    fn from(fault: KeyFault) -> Self {
        KeysError::NotMade(fault).into()
    }
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum KeysError {
    /// There is one.
    Known {
        /// Its id.
        id: KeyId,
    },
    /// It could not be made.
    NotMade(#[source] KeyFault),
}

impl Explain for KeysError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Known { id } => {
                Explanation::new(Code::AlreadyExists, format!("spec or lock already has an engine key, `{id}`"))
                    .hint("no run replaces a recorded key; where its private half is lost, docs/disaster.md shows how to remove it first")
            }
            Self::NotMade(fault) => {
                let code = match fault {
                    KeyFault::NotText(_) | KeyFault::Key(_) => Code::KeyUnusable,
                    KeyFault::Random(_) | KeyFault::Yaml(_) => Code::SystemFailed,
                };
                let explanation = Explanation::new(code, format!("cannot make the engine's key: {fault}"));
                match fault {
                    KeyFault::NotText(_) | KeyFault::Key(_) => explanation
                        .hint(format!("{ENGINE_KEY_PATH} is there and holds no such key; move it elsewhere first")),
                    KeyFault::Random(_) | KeyFault::Yaml(_) => explanation,
                }
            }
        }
    }
}

impl EndsCommand for KeysError {
    fn exit(&self) -> Exit {
        match self {
            Self::Known { .. } => Exit::Refused,
            Self::NotMade(_) => Exit::Machine,
        }
    }
}
