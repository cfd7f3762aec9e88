//! One run on one checkout: what was read, which keys are at hand, what time it is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::checkout::{Checkout, CheckoutError, FileChange, Limits};
use crate::model::known::engine_keys;
use crate::model::layout::rendered_folder;
use crate::model::layout::secret_file;
use crate::model::layout::{is_yaml, is_yaml_of};
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{Cluster, KeySource, Reconciler};
use crate::model::tree::{File, Tree, TreeError};
use crate::pipeline::observe::Observed;
use crate::pipeline::render::Given;
use crate::pipeline::{Input, Program, Turn};
use crate::report::text::Printer;
use crate::session::exit::{Exit, Failure};
use crate::session::request::Request;
use crate::session::tree_index::Memory;
use crate::spec::Source;
use crate::types::key::{KeyId, PrivateKey};
use crate::types::name::{ClusterName, Digest};
use crate::types::object::parse;

/// Where the engine's own private key lies.
pub const ENGINE_KEY_PATH: &str = "keys/engine.key";
/// Environment variable that may hold it instead, as PEM.
pub const ENGINE_KEY_VARIABLE: &str = "ISTHMUS_ENGINE_KEY";

/// One run on one checkout.
#[derive(Debug)]
pub struct Session<'a> {
    /// The checkout.
    pub checkout: &'a Checkout,
    /// What was read of it.
    pub input: Input,
    /// The compiled specs and the lock.
    pub program: Arc<Program>,
    /// Other files that the specs name and that were looked for, such as CA certificates.
    pub files: BTreeSet<String>,
    /// Seconds since 1970.
    pub now: i64,
    /// What is remembered of the tree.
    memory: Option<Arc<Memory>>,
    /// The only reader whose links were read.
    narrow: Option<ClusterName>,
}

impl<'a> Session<'a> {
    /// Reads and compiles the checkout. `narrow` leaves out the links of all readers but one; `before` is what was compiled
    /// of it before.
    pub fn load(
        checkout: &'a Checkout,
        narrow: Option<&ClusterName>,
        before: Option<&Program>,
    ) -> Result<Self, Failure> {
        let sources = |folder, filter: &dyn Fn(&str) -> bool| -> Result<Vec<Source>, CheckoutError> {
            let files = checkout.read_tree(folder, filter, Limits::SPECS)?;
            Ok(files.into_iter().map(|(path, bytes)| Source { path: Arc::from(path), bytes }).collect())
        };
        let own_links = narrow.map(Lock::links_path);
        let lock_filter = |path: &str| {
            is_yaml(path) && own_links.as_ref().is_none_or(|own| !path.starts_with("lock/links/") || path == own)
        };
        let input = Input {
            specs: sources("specs", &is_yaml)?,
            templates: sources("templates", &is_yaml)?,
            lock: checkout.read_tree("lock", &lock_filter, Limits::OUTPUT)?,
        };
        let files = RefCell::new(BTreeSet::new());
        let program = Program::load_after(before, &input, &|path| {
            files.borrow_mut().insert(path.to_owned());
            checkout.read(path).ok().flatten()
        })?;
        let now = crate::session::clock::now().as_second();
        Ok(Self {
            checkout,
            input,
            program: Arc::new(program),
            files: files.into_inner(),
            now,
            memory: None,
            narrow: narrow.cloned(),
        })
    }

    /// A session on what was compiled before, to ask and to sign.
    pub fn resumed(checkout: &'a Checkout, program: Arc<Program>, now: i64) -> Self {
        Self { checkout, input: Input::default(), program, files: BTreeSet::new(), now, memory: None, narrow: None }
    }

    /// A turn on what was observed.
    pub fn turn(&self, request: &Request, observed: &Observed) -> Turn {
        self.program.turn(observed, &request.approvals, request.allow_delete, self.now)
    }

    /// Remembers the tree from turn to turn. A remote file system's times are not ours to judge.
    pub fn remember(&mut self, memory: &Arc<Memory>) {
        memory.belongs_to(&self.program.mesh.name);
        self.memory = (!self.checkout.is_remote()).then(|| memory.clone());
    }

    /// Remembers what was written.
    pub fn note_written(&self, changes: &[FileChange]) {
        for change in changes {
            if let (Some(memory), FileChange::Write { path, bytes, .. }) = (&self.memory, change) {
                memory.note_written(path, bytes);
            }
        }
    }

    /// The same from the command line, where `only` is a cluster that has to be declared.
    pub fn open(
        checkout: &'a Checkout,
        only: Option<&ClusterName>,
        printer: &Printer,
        narrow: bool,
    ) -> Result<Self, Failure> {
        let session = Self::load(checkout, only.filter(|_| narrow), None)?;
        printer.findings(&session.program.warnings);
        if let Some(name) = only
            && !session.program.mesh.clusters.contains_key(name)
        {
            let known = session.program.mesh.clusters.keys().map(ClusterName::as_str);
            let hint = crate::types::diagnostic::did_you_mean(name.as_str(), known);
            let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(Failure::new(Exit::Usage, format!("--cluster: no spec declares a cluster `{name}`{hint}")));
        }
        Ok(session)
    }

    /// The engine's private key, when it is at hand and is one that spec or lock know; else where it should be.
    pub fn engine_key(&self, lock: &Lock) -> Result<(KeyId, PrivateKey), String> {
        let known = engine_keys(&self.program.mesh, lock);
        if known.is_empty() {
            return Err("a key of the engine's own: `engine keys new`, or `engine apply --create-keys`".to_owned());
        }
        let (source, pem) = self.engine_key_pem()?;
        let key = PrivateKey::from_pem(&pem).map_err(|error| format!("the engine's key in {source}: {error}"))?;
        match known.into_iter().find(|(_, public)| public == key.public()) {
            Some((id, _)) => Ok((id, key)),
            None => Err(format!("the engine's key: {source} holds another one than spec and lock know")),
        }
    }

    fn engine_key_pem(&self) -> Result<(String, Zeroizing<String>), String> {
        if let Ok(pem) = std::env::var(ENGINE_KEY_VARIABLE) {
            return Ok((format!("${ENGINE_KEY_VARIABLE}"), Zeroizing::new(pem)));
        }
        let pem = self.private_file(ENGINE_KEY_PATH)?;
        let missing = || format!("the engine's private key, in {ENGINE_KEY_PATH} or ${ENGINE_KEY_VARIABLE}");
        pem.map(|pem| (ENGINE_KEY_PATH.to_owned(), pem)).ok_or_else(missing)
    }

    fn private_file(&self, path: &str) -> Result<Option<Zeroizing<String>>, String> {
        let found = self.checkout.read_private(path).map_err(|error| error.to_string())?;
        let text = found.map(|found| String::from_utf8(found.bytes.to_vec()).map(Zeroizing::new));
        text.transpose().map_err(|_| format!("{path} is not UTF-8"))
    }

    /// The private key of a cluster, where the engine may hold it.
    pub fn cluster_key(&self, cluster: &Cluster) -> Result<PrivateKey, String> {
        let name = &cluster.name;
        let (source, pem) = match &cluster.key {
            KeySource::Cluster => {
                return Err(format!("the key of `{name}`, which never leaves the cluster"));
            }
            KeySource::File(path) => (path.clone(), self.private_file(path)?),
            KeySource::Environment(variable) => {
                (format!("${variable}"), std::env::var(variable).ok().map(Zeroizing::new))
            }
        };
        let pem = pem.ok_or_else(|| format!("the private key of `{name}`, in {source}"))?;
        PrivateKey::from_pem(&pem).map_err(|error| format!("the private key of `{name}` in {source}: {error}"))
    }

    /// Remote secrets made by hand, given to this mesh, of links whose own secret is not written yet. Only folders with
    /// such links are looked into, and there only files of those names.
    pub fn given(&self, lock: &Lock) -> Result<Given, Failure> {
        let mesh = &self.program.mesh;
        let mut given = Given::new();
        let readers = mesh.clusters.values().filter(|cluster| cluster.reconciler == Reconciler::Rendered);
        let readers = readers.map(|cluster| &cluster.name);
        for reader in readers.filter(|reader| self.narrow.as_ref().is_none_or(|only| only == *reader)) {
            let links = lock.links.get(reader);
            let joined = |peer: &ClusterName| {
                links.and_then(|links| links.get(peer)).is_some_and(|link| link.stage == Stage::Joined)
            };
            let peers = mesh.clusters.keys().filter(|peer| mesh.links(reader, peer) && !joined(peer));
            let wanted: BTreeSet<String> = peers.map(secret_file).collect();
            if wanted.is_empty() {
                continue;
            }
            let mut files = Vec::new();
            for file in self.checkout.list(&rendered_folder(reader))?.into_iter().filter(|file| wanted.contains(file)) {
                let bytes = self.checkout.read(&format!("{}/{file}", rendered_folder(reader)))?.unwrap_or_default();
                if parse(&bytes).is_some_and(|object| object.is_given_to(&mesh.name)) {
                    files.push(file);
                }
            }
            if !files.is_empty() {
                given.insert(reader.clone(), files);
            }
        }
        Ok(given)
    }

    /// The digest of everything that a stored plan rests on beside its facts.
    pub fn tree_digest(&self) -> Result<Digest, Failure> {
        let files = self.checkout.read_tree("rendered", &is_yaml, Limits::OUTPUT)?;
        let values = self.checkout.read_tree("values", &is_yaml, Limits::OUTPUT)?;
        let mut text = String::new();
        for (path, bytes) in files.iter().chain(&values) {
            text.push_str(&format!("{} {path}\n", Digest::of(bytes)));
        }
        Ok(Digest::of(text.as_bytes()))
    }
}

impl Tree for Checkout {
    fn clusters(&self) -> Result<Vec<String>, TreeError> {
        self.list("rendered").map_err(|error| TreeError(error.to_string()))
    }

    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError> {
        let folder = rendered_folder(cluster);
        let filter = |path: &str| is_yaml_of(&folder, path);
        let files = self.read_tree(&folder, &filter, Limits::OUTPUT).map_err(|error| TreeError(error.to_string()))?;
        Ok(files.into_iter().filter_map(|(path, bytes)| Some((path.rsplit_once('/')?.1.to_owned(), bytes))).collect())
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        self.read(path).map_err(|error| TreeError(error.to_string()))
    }
}

/// The tree of the checkout, with what is remembered of it.
impl Tree for Session<'_> {
    fn clusters(&self) -> Result<Vec<String>, TreeError> {
        self.checkout.clusters()
    }

    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError> {
        self.checkout.cluster_files(cluster)
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        self.checkout.file(path)
    }

    fn files_to_compare(&self, cluster: &str) -> Result<BTreeMap<String, File>, TreeError> {
        match &self.memory {
            Some(memory) => memory.files(self.checkout, cluster).map_err(|error| TreeError(error.to_string())),
            None => self.checkout.files_to_compare(cluster),
        }
    }

    fn note_ours(&self, cluster: &str, name: &str, made_of: &dyn Fn() -> Option<Digest>) {
        if let Some(memory) = &self.memory {
            memory.note_ours(cluster, name, made_of());
        }
    }
}

/// Names of the files in a cluster's rendered folder. One that cannot be read counts as empty: what is missing is drawn.
pub fn rendered_files(checkout: &Checkout) -> impl Fn(&ClusterName) -> BTreeSet<String> + '_ {
    |name| checkout.list(&rendered_folder(name)).unwrap_or_default().into_iter().collect()
}
