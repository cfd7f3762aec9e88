//! `engine plan --base REF`: what a revision renders, as the tree that the checkout is compared with.
//!
//! Both sides are locked runs: no one is asked and no key is needed. What the checkout's specs, templates and lock render is
//! compared with what those of the revision render, so a change of specs alone shows all that it will change. Where the
//! revision's specs have findings, the change that mends them is compared with what was last rendered and committed there.
//!
//! What lies in the checkout's `rendered/` and `values/` is compared with the commit as well: a merge brings what a pull request
//! changes there, whatever its specs say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::checkout::ReadLimits;
use crate::git::{GitError, Oid, Repository};
use crate::model::layout::{LOCK, POLICY, RENDERED, SPECS, TEMPLATES, VALUES, is_below, is_yaml, rendered_folder};
use crate::model::lock::Lock;
use crate::model::policy::Policy;
use crate::pipeline::meter::Unmetered;
use crate::pipeline::plan::{Action, FileStep, OverrideInForce, Overrides, Plan, SecurityItem};
use crate::pipeline::render::{Given, RenderedCluster};
use crate::pipeline::tree::{File, Tree, TreeError};
use crate::pipeline::{self, FactSource, Input, Program, Request, Stop, Until, World, run};
use crate::session::command_error::CommandError;
use crate::session::error::BaseError;
use crate::session::session::Session;
use crate::spec::{SourceFile, parse_policy};
use crate::types::address::Endpoint;
use crate::types::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, Digest};
use crate::types::text::same_lines;

/// A revision: what it renders, and its lock.
#[derive(Debug)]
pub struct BaseRevision {
    repository: Repository,
    commit: Oid,
    /// What the commit holds of all that a run reads and writes, by path from the checkout.
    blobs: BTreeMap<String, Oid>,
    /// How it was named.
    revision: String,
    /// Its specs, templates and lock; `None`: it has no specs, or they have findings.
    program: Option<Program>,
    given: Given,
    overrides: Vec<OverrideInForce>,
    rendered: Rendered,
    lock: Lock,
    lock_files: BTreeMap<String, Vec<u8>>,
    policy: Option<(Policy, Vec<u8>)>,
    /// Why the revision cannot be rendered.
    unrendered: Option<Diagnostic>,
}

/// What a revision renders.
#[derive(Debug, Default)]
struct Rendered {
    clusters: BTreeMap<ClusterName, RenderedCluster>,
    /// Files that are no objects; of a revision that cannot be rendered, all that it holds.
    files: BTreeMap<String, Vec<u8>>,
}

impl BaseRevision {
    /// Renders a revision of the repository that the checkout lies in.
    pub fn read(session: &Session<'_>, revision: &str) -> Result<Self, CommandError> {
        let dir = session.checkout.dir();
        let repository = Repository::discover(dir)
            .map_err(BaseError::Git)?
            .ok_or_else(|| BaseError::NoWorkTree { folder: dir.to_owned() })?;
        // one commit for all that is read, whatever moves meanwhile
        let commit = repository.resolve(revision).map_err(BaseError::Revision)?;
        let all = [SPECS, TEMPLATES, LOCK, POLICY, RENDERED, VALUES];
        let mut blobs = repository.blobs(&commit, &all).map_err(BaseError::Git)?;
        blobs.retain(|path, _| is_read(path));
        let is_input = |path: &str| !is_below(RENDERED, path) && !is_below(VALUES, path);
        let input = blobs.iter().filter(|(path, _)| is_input(path)).map(|(path, blob)| (path.clone(), blob.clone()));
        let mut input = repository.contents(&commit, &input.collect()).map_err(BaseError::Git)?;
        let policy = input.remove(POLICY).map(|bytes| {
            let path = Arc::from(format!("{revision}:{POLICY}"));
            match parse_policy(&SourceFile { path, bytes: bytes.clone() }) {
                Ok(policy) => Ok((policy, bytes)),
                Err(findings) => Err(BaseError::Findings { revision: revision.to_owned(), findings }),
            }
        });
        let base = Self {
            commit,
            blobs,
            revision: revision.to_owned(),
            program: None,
            given: Given::new(),
            overrides: Vec::new(),
            rendered: Rendered::default(),
            lock: Lock::default(),
            lock_files: BTreeMap::new(),
            policy: policy.transpose()?,
            unrendered: None,
            repository,
        };
        base.render(session, input)
    }

    /// What its commit renders, and its lock, from the files of specs, templates and lock.
    fn render(mut self, session: &Session<'_>, mut files: BTreeMap<String, Vec<u8>>) -> Result<Self, CommandError> {
        let mut take = |folder: &str| -> BTreeMap<String, Vec<u8>> {
            files.extract_if(.., |path, _| is_below(folder, path)).collect()
        };
        let mut sources = |folder: &str| {
            take(folder)
                .into_iter()
                .map(|(path, bytes)| SourceFile { path: Arc::from(path), bytes })
                .collect::<Vec<_>>()
        };
        let specs = sources(SPECS);
        if specs.is_empty() {
            // the first commit of a checkout is a change as well
            return Ok(self);
        }
        let input = Input { specs, templates: sources(TEMPLATES), lock: take(LOCK), inside: None };
        self.lock_files.clone_from(&input.lock);
        let broken = RefCell::new(None);
        let other = |path: &str| match self.repository.files_at(&self.commit, &[path]) {
            Ok(mut found) => found.remove(path),
            Err(error) => {
                broken.borrow_mut().get_or_insert(error);
                None
            }
        };
        let loaded = Program::load(&input, &other);
        if let Some(error) = broken.into_inner() {
            return Err(BaseError::Git(error).into());
        }
        let mut program = match loaded {
            Ok(program) => program,
            Err(stop) => return self.into_committed(stop),
        };
        // its lock has to be whole
        program.unreadable.none().map_err(|findings| at_revision(Stop::Findings(findings), &self.revision))?;
        // what it renders is what it rendered, whatever its policy says of it today
        program.take_policy();
        let tree = CommittedFiles::new(&self);
        let world = World { now: session.now, tree: &tree, base: None, narrow: None, meter: &Unmetered };
        let ran = run(&program, &Request::default(), FactSource::Locked, Until::Compared, &world);
        tree.failure().map_err(BaseError::Git)?;
        let run = match ran {
            Ok(run) => run,
            Err(stop) => return self.into_committed(stop),
        };
        self.overrides = Overrides::of(&run.rendered);
        for objects in run.rendered.values() {
            let extra = objects.extra.iter().map(|(path, file)| (path.clone(), file.text.clone().into_bytes()));
            self.rendered.files.extend(extra);
        }
        (self.rendered.clusters, self.given) = (run.rendered, run.given);
        self.lock.clone_from(&program.lock);
        self.program = Some(program);
        Ok(self)
    }

    /// A revision that cannot be rendered: the files that it holds. Its lock has to be whole.
    fn into_committed(mut self, stop: Stop) -> Result<Self, CommandError> {
        let lock = Lock::parse(self.lock_files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
        let (Ok(lock), Stop::Findings(findings)) = (lock, &stop) else {
            return Err(at_revision(stop, &self.revision));
        };
        let first = findings.sorted().into_iter().find(|finding| finding.severity != Severity::Warning);
        self.unrendered = Some(Diagnostic::warning(None, NotRendered { revision: &self.revision, first }));
        self.rendered.files =
            self.repository.contents(&self.commit, &self.output().collect()).map_err(BaseError::Git)?;
        self.lock = lock;
        Ok(self)
    }

    /// What the commit holds below `rendered/` and `values/`.
    fn output(&self) -> impl Iterator<Item = (String, Oid)> {
        let output = self.blobs.iter().filter(|(path, _)| is_below(RENDERED, path) || is_below(VALUES, path));
        output.map(|(path, blob)| (path.clone(), blob.clone()))
    }

    /// What a plan is compared with.
    pub fn compared(&self) -> pipeline::Base<'_> {
        pipeline::Base {
            revision: &self.revision,
            program: self.program.as_ref(),
            has_findings: self.unrendered.is_some(),
            given: &self.given,
            overrides: &self.overrides,
            tree: &self.rendered,
            lock: &self.lock,
            policy: self.policy.as_ref().map(|(policy, _)| policy),
            lock_files: &self.lock_files,
        }
    }

    /// Adds to a plan what only the commit can say: how the policy's file differs, which files of `rendered/` and `values/` are
    /// others than in the commit and than what is rendered, and which documents of `file://` endpoints are others.
    pub(crate) fn complete(&self, session: &Session<'_>, plan: &mut Plan) -> Result<(), CommandError> {
        plan.warnings.extend(self.unrendered.clone());
        plan.extra.extend(self.policy_step(session));
        plan.security.extend(self.tree_edits(session, plan)?);
        plan.security.extend(self.document_edits(session)?);
        plan.sort_security();
        Ok(())
    }

    /// Files of the checkout that are not what its revision renders, although they are not the commit's either.
    fn tree_edits(&self, session: &Session<'_>, plan: &Plan) -> Result<Vec<SecurityItem>, CommandError> {
        let paths: Vec<&str> = plan.differing.iter().map(String::as_str).collect();
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let committed = self.repository.files_at(&self.commit, &paths).map_err(BaseError::Git)?;
        let mut found = Vec::new();
        for path in paths {
            let (before, after) = (committed.get(path), session.checkout.read(path)?);
            if is_same(before, after.as_ref()) {
                continue;
            }
            if plan.security.iter().any(|item| item.refused && item.change.path().as_deref() == Some(path)) {
                continue;
            }
            found.extend(SecurityItem::tree_edit(path, before.map(Vec::as_slice), after.as_deref()));
        }
        Ok(found)
    }

    /// What the next run would read of `file://` endpoints, where that is another than in the commit.
    fn document_edits(&self, session: &Session<'_>) -> Result<Vec<SecurityItem>, CommandError> {
        let of_file = session.program.mesh.clusters.values().filter_map(|cluster| match &cluster.endpoint {
            Endpoint::File(folder) => Some((cluster, folder.as_str())),
            Endpoint::Https { .. } => None,
        });
        let of_file: Vec<_> = of_file.collect();
        if of_file.is_empty() {
            return Ok(Vec::new());
        }
        let folders: Vec<&str> = of_file.iter().map(|(_, folder)| *folder).collect();
        let committed = self.repository.files_at(&self.commit, &folders).map_err(BaseError::Git)?;
        let mut found = Vec::new();
        for (cluster, folder) in of_file {
            let here = session.checkout.read_tree(folder, &|_| true, ReadLimits::SPECS)?;
            let there = committed.keys().filter(|path| is_below(folder, path));
            for path in here.keys().chain(there).collect::<BTreeSet<_>>() {
                let (before, after) = (committed.get(path), here.get(path));
                if !is_same(before, after) {
                    let (before, after) = (before.map(Vec::as_slice), after.map(Vec::as_slice));
                    found.extend(SecurityItem::document_edit(&cluster.name, path, before, after));
                }
            }
        }
        Ok(found)
    }

    /// How the policy of the checkout differs from that of the revision.
    fn policy_step(&self, session: &Session<'_>) -> Option<FileStep> {
        let before = self.policy.as_ref().map(|(_, bytes)| bytes.as_slice());
        let after = session.files.get(POLICY).and_then(Option::as_ref);
        let action = Action::between(before, after.map(Vec::as_slice))?;
        Some(FileStep { path: POLICY.to_owned(), action, digest: after.map(|bytes| Digest::of(bytes)), text: None })
    }

    /// The tree as the revision renders it.
    pub fn tree(&self) -> &dyn Tree {
        &self.rendered
    }
}

/// Whether a file of a commit is read as one of the checkout is.
fn is_read(path: &str) -> bool {
    is_yaml(path) && !path.split('/').any(|name| name.starts_with('.'))
}

/// Whether a file is the same, apart from carriage returns at the ends of lines, which git may translate.
fn is_same(before: Option<&Vec<u8>>, after: Option<&Vec<u8>>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => same_lines(before, after),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The path of a cluster's object, taken apart.
fn object_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix(RENDERED)?.strip_prefix('/')?.split_once('/')
}

/// A tree that is made when it is looked at.
impl Tree for Rendered {
    fn clusters(&self) -> Result<Vec<String>, TreeError> {
        let made = self.clusters.iter().filter(|(_, cluster)| !cluster.objects.is_empty() || !cluster.extra.is_empty());
        let names: BTreeSet<String> = made.map(|(name, _)| name.to_string()).chain(self.files.clusters()?).collect();
        Ok(names.into_iter().collect())
    }

    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError> {
        let mut files = self.files.cluster_files(cluster)?;
        for object in self.clusters.get(cluster).iter().flat_map(|cluster| &cluster.objects) {
            // one that cannot be written as YAML ended the run that rendered it
            if let Ok(text) = object.to_yaml() {
                files.insert(object.id().file_name(), text.into_owned().into_bytes());
            }
        }
        Ok(files)
    }

    fn files_to_compare(&self, cluster: &str) -> Result<BTreeMap<String, File>, TreeError> {
        let files = self.files.cluster_files(cluster)?.into_iter();
        let mut files: BTreeMap<String, File> = files.map(|(name, bytes)| (name, File::Read(bytes))).collect();
        for object in self.clusters.get(cluster).iter().flat_map(|cluster| &cluster.objects) {
            let file = match object.inputs() {
                Some(inputs_digest) => Some(File::Made { inputs_digest }),
                None => object.to_yaml().ok().map(|text| File::Read(text.into_owned().into_bytes())),
            };
            files.extend(file.map(|file| (object.id().file_name(), file)));
        }
        Ok(files)
    }

    fn paths(&self, folder: &str) -> Result<Vec<String>, TreeError> {
        let mut paths = self.files.paths(folder)?;
        for (name, cluster) in &self.clusters {
            let own = rendered_folder(name);
            if is_below(folder, &own) || folder == own || is_below(&own, folder) {
                paths.extend(cluster.objects.iter().map(|object| format!("{own}/{}", object.id().file_name())));
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        if let Some(bytes) = self.files.get(path) {
            return Ok(Some(bytes.clone()));
        }
        let Some((cluster, name)) = object_path(path) else { return Ok(None) };
        let objects = self.clusters.get(cluster).map(|cluster| cluster.objects.as_slice()).unwrap_or_default();
        let object = objects.iter().find(|object| object.id().file_name() == name);
        Ok(object.and_then(|object| object.to_yaml().ok()).map(|text| text.into_owned().into_bytes()))
    }
}

/// The files of a commit below `rendered/` and `values/`, each read when it is asked for: few are.
struct CommittedFiles<'a> {
    base: &'a BaseRevision,
    blobs: BTreeMap<String, Oid>,
    /// The first failure of git; what is asked for after it is not there.
    failed: Mutex<Option<GitError>>,
}

impl<'a> CommittedFiles<'a> {
    fn new(base: &'a BaseRevision) -> Self {
        Self { base, blobs: base.output().collect(), failed: Mutex::new(None) }
    }

    fn failure(self) -> Result<(), GitError> {
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn read(&self, blobs: &BTreeMap<String, Oid>) -> BTreeMap<String, Vec<u8>> {
        match self.base.repository.contents(&self.base.commit, blobs) {
            Ok(files) => files,
            Err(error) => {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                BTreeMap::new()
            }
        }
    }

    fn below(&self, folder: &str) -> impl Iterator<Item = (&String, &Oid)> {
        self.blobs.iter().filter(move |(path, _)| is_below(folder, path))
    }
}

impl Tree for CommittedFiles<'_> {
    fn clusters(&self) -> Result<Vec<String>, TreeError> {
        let folders = self.blobs.keys().filter_map(|path| object_path(path)).map(|(folder, _)| folder.to_owned());
        Ok(folders.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError> {
        let folder = rendered_folder(cluster);
        let own = self.below(&folder).map(|(path, blob)| (path.clone(), blob.clone()));
        let files = self.read(&own.collect()).into_iter();
        Ok(files.filter_map(|(path, bytes)| Some((object_path(&path)?.1.to_owned(), bytes))).collect())
    }

    fn names(&self, cluster: &str) -> Result<Vec<String>, TreeError> {
        let own = self.blobs.keys().filter_map(|path| object_path(path)).filter(|(folder, _)| *folder == cluster);
        Ok(own.map(|(_, name)| name.to_owned()).collect())
    }

    fn paths(&self, folder: &str) -> Result<Vec<String>, TreeError> {
        Ok(self.below(folder).map(|(path, _)| path.clone()).collect())
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        let Some((path, blob)) = self.blobs.get_key_value(path) else { return Ok(None) };
        Ok(self.read(&BTreeMap::from([(path.clone(), blob.clone())])).remove(path))
    }
}

/// A revision whose specs have findings.
struct NotRendered<'a> {
    revision: &'a str,
    first: Option<&'a Diagnostic>,
}

impl Explain for NotRendered<'_> {
    fn explanation(&self) -> Explanation {
        let Self { revision, first } = self;
        let first = first.map(|finding| {
            let at = finding.at.as_ref().map(|at| format!("{revision}:{at}: ")).unwrap_or_default();
            format!(": {at}{}", finding.explanation.message)
        });
        let message = format!(
            "the specs of `{revision}` have findings, so this is compared with what was last rendered there{}",
            first.unwrap_or_default()
        );
        Explanation::new(Code::BaseNotRendered, message)
    }
}

/// Findings in a revision's files are not in the checkout's: their places name the revision.
fn at_revision(stop: Stop, revision: &str) -> CommandError {
    let Stop::Findings(findings) = stop else { return stop.into() };
    let mut moved = Diagnostics::new();
    for finding in findings.sorted() {
        let mut finding: Diagnostic = finding.clone();
        if let Some(at) = &mut finding.at {
            at.file = Arc::from(format!("{revision}:{}", at.file));
        }
        moved.push(finding);
    }
    BaseError::Findings { revision: revision.to_owned(), findings: moved }.into()
}
