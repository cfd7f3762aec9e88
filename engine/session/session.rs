//! One run on one checkout: what was read, with which keys, what time it is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::checkout::{Checkout, CheckoutError, FileChange, ReadLimits};
use crate::model::keyring::Keyring;
use crate::model::layout::{LOCK, POLICY, RENDERED, SPECS, TEMPLATES, VALUES, is_yaml, is_yaml_of, rendered_folder};
use crate::model::lock::Lock;
use crate::pipeline::tree::{File, Tree, TreeError};
use crate::pipeline::{Input, Program};
use crate::report::text::Printer;
use crate::session::command_error::CommandError;
use crate::session::error::UnknownCluster;
use crate::session::fingerprints::Fingerprints;
use crate::session::keys::keyring;
use crate::spec::SourceFile;
use crate::types::name::{ClusterName, Digest};
use crate::types::time::Timestamp;

/// One run on one checkout.
#[derive(Debug)]
pub struct Session<'a> {
    pub checkout: &'a Checkout,
    /// What was read of it.
    pub input: Input,
    /// The compiled specs and the lock.
    pub program: Arc<Program>,
    /// Other files that the specs name and that were looked for, such as CA certificates, as they were read; none where there
    /// was nothing to read.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
    pub now: Timestamp,
    /// What is remembered of the tree.
    fingerprints: Option<Arc<Fingerprints>>,
    /// The only reader whose links were read.
    narrow: Option<ClusterName>,
}

impl<'a> Session<'a> {
    /// Reads and compiles the checkout. `narrow` leaves out the links of all readers but one; `before` is what was compiled
    /// of it before; `restores` says whether links that the lock lost are taken from the tree.
    pub fn load(
        checkout: &'a Checkout,
        narrow: Option<&ClusterName>,
        before: Option<&Program>,
        restores: bool,
    ) -> Result<Self, CommandError> {
        let sources = |folder, filter: &dyn Fn(&str) -> bool| -> Result<Vec<SourceFile>, CheckoutError> {
            let files = checkout.read_tree(folder, filter, ReadLimits::SPECS)?;
            Ok(files.into_iter().map(|(path, bytes)| SourceFile { path: Arc::from(path), bytes }).collect())
        };
        let own_links = narrow.map(Lock::links_path);
        let lock_filter = |path: &str| {
            is_yaml(path) && own_links.as_ref().is_none_or(|own| !path.starts_with(Lock::LINKS) || path == own)
        };
        let input = Input {
            specs: sources(SPECS, &is_yaml)?,
            templates: sources(TEMPLATES, &is_yaml)?,
            lock: checkout.read_tree(LOCK, &lock_filter, ReadLimits::OUTPUT)?,
            inside: None,
        };
        // a policy that cannot be read is not taken for none
        checkout.read(POLICY)?;
        let files = RefCell::new(BTreeMap::new());
        let unread = RefCell::new(None);
        let program = Program::load_after(before, &input, &|path| {
            let read = checkout.read(path).unwrap_or_else(|error| {
                unread.borrow_mut().get_or_insert(error);
                None
            });
            files.borrow_mut().insert(path.to_owned(), read.clone());
            read
        });
        // nor is any other file that cannot be read taken for a missing one
        if let Some(error) = unread.into_inner() {
            return Err(error.into());
        }
        let mut program = program?;
        program.take_from_tree(checkout, restores)?;
        let now = crate::session::clock::now();
        Ok(Self {
            checkout,
            input,
            program: Arc::new(program),
            files: files.into_inner(),
            now,
            fingerprints: None,
            narrow: narrow.cloned(),
        })
    }

    /// Uses the fingerprints of the runs before, and leaves its own for the next.
    pub fn remember(&mut self, fingerprints: &Arc<Fingerprints>) {
        fingerprints.belongs_to(&self.program.mesh.name);
        self.fingerprints = Some(fingerprints.clone());
    }

    /// The only reader whose links were read.
    pub fn narrow(&self) -> Option<&ClusterName> {
        self.narrow.as_ref()
    }

    /// The private keys that were read.
    pub fn keyring(&self) -> Keyring {
        keyring(self.checkout, &self.program)
    }

    /// Remembers what was written.
    pub fn note_written(&self, changes: &[FileChange]) {
        for change in changes {
            if let (Some(fingerprints), FileChange::Write { path, bytes, .. }) = (&self.fingerprints, change) {
                fingerprints.note_written(path, bytes);
            }
        }
    }

    /// The same from the command line, where `only` is a cluster that has to be declared.
    pub fn open(
        checkout: &'a Checkout,
        only: Option<&ClusterName>,
        printer: &Printer,
        narrow: bool,
    ) -> Result<Self, CommandError> {
        Self::load(checkout, only.filter(|_| narrow), None, false)?.opened(only, printer)
    }

    /// The same, with links that the lock lost taken from the tree.
    pub fn restored(
        checkout: &'a Checkout,
        only: Option<&ClusterName>,
        printer: &Printer,
    ) -> Result<Self, CommandError> {
        Self::load(checkout, None, None, true)?.opened(only, printer)
    }

    fn opened(self, only: Option<&ClusterName>, printer: &Printer) -> Result<Self, CommandError> {
        let session = self;
        printer.findings(&session.program.warnings);
        if let Some(name) = only
            && !session.program.mesh.clusters.contains_key(name)
        {
            return Err(UnknownCluster::new(&session.program.mesh, Some("--cluster"), name.as_str()).into());
        }
        Ok(session)
    }

    /// The digest of everything that a stored plan rests on beside its facts.
    pub fn tree_digest(&self) -> Result<Digest, CommandError> {
        let files = self.checkout.read_tree(RENDERED, &is_yaml, ReadLimits::OUTPUT)?;
        let values = self.checkout.read_tree(VALUES, &is_yaml, ReadLimits::OUTPUT)?;
        let mut text = String::new();
        for (path, bytes) in files.iter().chain(&values) {
            text.push_str(&format!("{} {path}\n", Digest::of(bytes)));
        }
        Ok(Digest::of(text.as_bytes()))
    }
}

impl Tree for Checkout {
    fn clusters(&self) -> Result<Vec<String>, TreeError> {
        Ok(self.list(RENDERED)?)
    }

    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError> {
        let folder = rendered_folder(cluster);
        let filter = |path: &str| is_yaml_of(&folder, path);
        let files = self.read_tree(&folder, &filter, ReadLimits::OUTPUT)?;
        Ok(files.into_iter().filter_map(|(path, bytes)| Some((path.rsplit_once('/')?.1.to_owned(), bytes))).collect())
    }

    fn names(&self, cluster: &str) -> Result<Vec<String>, TreeError> {
        Ok(self.list(&rendered_folder(cluster))?)
    }

    fn paths(&self, folder: &str) -> Result<Vec<String>, TreeError> {
        Ok(self.list_tree(folder, ReadLimits::OUTPUT)?)
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.read(path)?)
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

    fn names(&self, cluster: &str) -> Result<Vec<String>, TreeError> {
        self.checkout.names(cluster)
    }

    fn paths(&self, folder: &str) -> Result<Vec<String>, TreeError> {
        self.checkout.paths(folder)
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        self.checkout.file(path)
    }

    fn files_to_compare(&self, cluster: &str) -> Result<BTreeMap<String, File>, TreeError> {
        match &self.fingerprints {
            Some(fingerprints) => Ok(fingerprints.files(self.checkout, cluster)?),
            None => self.checkout.files_to_compare(cluster),
        }
    }

    fn mark_owned(&self, cluster: &str, name: &str, inputs_digest: &dyn Fn() -> Option<Digest>) {
        if let Some(fingerprints) = &self.fingerprints {
            fingerprints.mark_owned(cluster, name, inputs_digest());
        }
    }

    fn is_lock_ours(&self, files: &BTreeMap<String, Vec<u8>>) -> bool {
        self.fingerprints.as_ref().is_some_and(|fingerprints| fingerprints.is_lock_ours(files))
    }

    fn note_lock(&self, files: &BTreeMap<String, Vec<u8>>) {
        if let Some(fingerprints) = &self.fingerprints {
            fingerprints.note_lock(files);
        }
    }
}

/// Names of the files in a cluster's rendered folder. One that cannot be read counts as empty: what is missing is drawn.
pub fn rendered_files(checkout: &Checkout) -> impl Fn(&ClusterName) -> BTreeSet<String> + '_ {
    |name| checkout.list(&rendered_folder(name)).unwrap_or_default().into_iter().collect()
}
