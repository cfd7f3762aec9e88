//! `engine plan --base REF`: what a revision renders, as the tree that the checkout is compared with.
//!
//! Both sides are locked runs: nobody is asked and no key is needed. What the checkout's specs, templates and lock render is
//! compared with what those of the revision render, so a change of specs alone shows all that it will change. Where the
//! revision's specs have findings, the change that mends them is compared with what was last rendered and committed there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::git::Repository;
use crate::model::layout::{LOCK, POLICY, RENDERED, SPECS, TEMPLATES, VALUES, is_below, is_yaml, rendered_folder};
use crate::model::lock::Lock;
use crate::model::policy::Policy;
use crate::pipeline::meter::Unmetered;
use crate::pipeline::plan::{Action, FileStep};
use crate::pipeline::tree::Tree;
use crate::pipeline::{self, Facts, Input, Program, Request, Stop, Until, World, run};
use crate::session::command_error::CommandError;
use crate::session::error::BaseError;
use crate::session::session::Session;
use crate::spec::{Source, parse_policy};
use crate::types::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::Digest;

/// A revision: what it renders, and its lock.
#[derive(Debug, Default)]
pub struct Base {
    files: BTreeMap<String, Vec<u8>>,
    lock: Lock,
    lock_files: BTreeMap<String, Vec<u8>>,
    /// Its policy, and its text.
    policy: Option<(Policy, Vec<u8>)>,
    /// Why the revision cannot be rendered.
    unrendered: Option<Diagnostic>,
}

impl Base {
    /// Renders a revision of the repository that the checkout lies in.
    pub fn read(session: &Session<'_>, revision: &str) -> Result<Self, CommandError> {
        let dir = session.checkout.dir();
        let repository = Repository::discover(dir)
            .map_err(BaseError::Git)?
            .ok_or_else(|| BaseError::NoWorkTree { folder: dir.to_owned() })?;
        // one commit for all that is read, whatever moves meanwhile
        let commit = repository.resolve(revision).map_err(BaseError::Revision)?;
        let policy = repository.files_at(commit.as_str(), &[POLICY]).map_err(BaseError::Git)?.remove(POLICY);
        let policy = policy.map(|bytes| {
            let path = Arc::from(format!("{revision}:{POLICY}"));
            match parse_policy(&Source { path, bytes: bytes.clone() }) {
                Ok(policy) => Ok((policy, bytes)),
                Err(findings) => Err(BaseError::Findings { revision: revision.to_owned(), findings }),
            }
        });
        let policy = policy.transpose()?;
        Ok(Self { policy, ..Self::rendered(session, revision, (&repository, commit.as_str()))? })
    }

    /// What a commit of the repository renders, and its lock.
    fn rendered(
        session: &Session<'_>,
        revision: &str,
        (repository, commit): (&Repository, &str),
    ) -> Result<Self, CommandError> {
        let places = [SPECS, TEMPLATES, LOCK, RENDERED, VALUES];
        let mut files = repository.files_at(commit, &places).map_err(BaseError::Git)?;
        files.retain(|path, _| is_yaml(path) && !path.split('/').any(|name| name.starts_with('.')));
        let take = |folder: &str, files: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
            let below =
                files.range(format!("{folder}/")..).take_while(|(path, _)| path.starts_with(&format!("{folder}/")));
            below.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
        };
        let sources = |folder: &str| {
            take(folder, &files)
                .into_iter()
                .map(|(path, bytes)| Source { path: Arc::from(path), bytes })
                .collect::<Vec<_>>()
        };
        let specs = sources(SPECS);
        if specs.is_empty() {
            // the first commit of a checkout is a change as well
            return Ok(Self::default());
        }
        let input = Input { specs, templates: sources(TEMPLATES), lock: take(LOCK, &files) };
        let broken = RefCell::new(None);
        let other = |path: &str| match repository.files_at(commit, &[path]) {
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
            Err(stop) => return Self::as_committed(files, input.lock, stop, revision),
        };
        // its lock has to be whole
        let whole = Lock::parse(input.lock.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
        whole.map_err(|findings| at_revision(Stop::Findings(findings), revision))?;
        // what it renders is what it rendered, whatever its policy says of it today
        program.take_policy();
        let world = World { now: session.now, tree: &files, base: None, narrow: None, meter: &Unmetered };
        let run = match run(&program, &Request::default(), Facts::Locked, Until::Rendered, &world) {
            Ok(run) => run,
            Err(stop) => return Self::as_committed(files, input.lock, stop, revision),
        };
        let mut rendered = BTreeMap::new();
        for (cluster, objects) in run.rendered {
            let folder = rendered_folder(&cluster);
            for object in &objects.objects {
                let text = object.to_yaml().map_err(Stop::Yaml)?.into_owned();
                rendered.insert(format!("{folder}/{}", object.id().file_name()), text.into_bytes());
            }
            rendered.extend(objects.extra.into_iter().map(|(path, file)| (path, file.text.into_bytes())));
        }
        Ok(Self { files: rendered, lock: program.lock, lock_files: input.lock, policy: None, unrendered: None })
    }

    /// A revision that cannot be rendered: the files that it holds. Its lock has to be whole.
    fn as_committed(
        mut files: BTreeMap<String, Vec<u8>>,
        lock_files: BTreeMap<String, Vec<u8>>,
        stop: Stop,
        revision: &str,
    ) -> Result<Self, CommandError> {
        let lock = Lock::parse(lock_files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
        let (Ok(lock), Stop::Findings(findings)) = (lock, &stop) else {
            return Err(at_revision(stop, revision));
        };
        let first = findings.sorted().into_iter().find(|finding| finding.severity != Severity::Warning);
        let unrendered = Diagnostic::warning(None, NotRendered { revision, first });
        files.retain(|path, _| is_below(RENDERED, path) || is_below(VALUES, path));
        Ok(Self { files, lock, lock_files, policy: None, unrendered: Some(unrendered) })
    }

    /// What a plan is compared with.
    pub fn compared(&self) -> pipeline::Base<'_> {
        let policy = self.policy.as_ref().map(|(policy, _)| policy);
        pipeline::Base { tree: &self.files, lock: &self.lock, policy, lock_files: &self.lock_files }
    }

    /// How the policy of the checkout differs from that of the revision.
    pub fn policy_step(&self, session: &Session<'_>) -> Option<FileStep> {
        let before = self.policy.as_ref().map(|(_, bytes)| bytes);
        let after = session.files.get(POLICY).and_then(Option::as_ref);
        let action = match (before, after) {
            (None, Some(_)) => Action::Create,
            (Some(_), None) => Action::Delete,
            (Some(before), Some(after)) if before != after => Action::Update,
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(FileStep { path: POLICY.to_owned(), action, digest: after.map(|bytes| Digest::of(bytes)), text: None })
    }

    /// The tree as the revision renders it.
    pub fn tree(&self) -> &dyn Tree {
        &self.files
    }

    /// Why the revision cannot be rendered, if it cannot.
    pub fn unrendered(&self) -> Option<&Diagnostic> {
        self.unrendered.as_ref()
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

/// Findings in a revision's files are not in the checkout's: their places say so.
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
