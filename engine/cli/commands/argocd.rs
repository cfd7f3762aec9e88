//! `engine argocd`: the config-management plugin.
//!
//! All or nothing: what is printed is one text, made before the first byte goes out, and every failure ends with a code that
//! is not 0 and an empty stdout. Argo CD takes an empty stdout with code 0 for "delete everything", so that comes of a
//! cluster that has left and of nothing else. Argo CD shows and caches stderr; nothing secret is ever on it, because no key
//! is read.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;

use clap::Subcommand;

use crate::checkout::{Checkout, ReadLimits};
use crate::cli::global::Global;
use crate::gitops::argocd::{ParameterError, Parameters, announcement};
use crate::model::layout::{KUSTOMIZATION, SPECS, is_yaml, rendered_folder};
use crate::model::lock::{Lock, Stage};
use crate::model::mesh::{Cluster, Mesh, Reconciler, State};
use crate::pipeline::render::{RenderedCluster, RenderedObject};
use crate::pipeline::tree::Tree;
use crate::pipeline::{Input, Program, Request, Stop, Until};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::error::UnknownCluster;
use crate::session::exit::Exit;
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::spec::SourceFile;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, MeshName};
use crate::types::object;
use crate::types::step::StepId;

/// Commands of `argocd`.
#[derive(Debug, Subcommand)]
pub(crate) enum ArgocdCommand {
    /// Print the objects of one cluster, from specs, templates and lock alone.
    ///
    /// The cluster is named by --cluster or by the Application's parameter `cluster`. No cluster is contacted and no
    /// key is read. A failure ends with a code that is not 0 and nothing on stdout.
    Generate,
    /// Print the parameters that an Application may set.
    Parameters,
}

/// `engine argocd`.
pub(crate) fn run(arguments: &Global, argocd: &ArgocdCommand, printer: &Printer) -> Result<Exit, CommandError> {
    if arguments.output != Output::Text {
        return Err(ArgocdError::Output.into());
    }
    match argocd {
        ArgocdCommand::Generate => generate(arguments, printer),
        ArgocdCommand::Parameters => {
            printer.out(&format!("{}\n", parameters(arguments)));
            Ok(Exit::Done)
        }
    }
}

/// Announces what is known; a checkout with errors shows them when objects are asked for, not while a form is drawn.
fn parameters(arguments: &Global) -> String {
    let mesh = Checkout::open(&arguments.directory).ok().and_then(|checkout| {
        let specs = checkout.read_tree(SPECS, &is_yaml, ReadLimits::SPECS).ok()?;
        let specs = specs.into_iter().map(|(path, bytes)| SourceFile { path: path.into(), bytes }).collect();
        let input = Input { specs, ..Input::default() };
        Program::load(&input, &|path| checkout.read(path).ok().flatten()).ok().map(|program| program.mesh)
    });
    let own = |mesh: &Mesh| -> Vec<ClusterName> {
        let own = mesh.clusters.values().filter(|cluster| cluster.reconciler != Reconciler::External);
        own.map(|cluster| cluster.name.clone()).collect()
    };
    let clusters = mesh.as_ref().map(own).unwrap_or_default();
    announcement(mesh.as_ref().map(|mesh| &mesh.name), clusters.iter())
}

fn generate(arguments: &Global, printer: &Printer) -> Result<Exit, CommandError> {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let asked = Parameters::read(arguments.cluster.as_ref(), &variable).map_err(ArgocdError::Parameter)?;
    let Some(name) = asked.cluster else {
        return Err(ArgocdError::NoCluster.into());
    };
    let checkout = Checkout::open(&arguments.directory)?;
    let mut session = Session::load(&checkout, Some(&name), None, false)?;
    let state = session.program.mesh.clusters.get(&name).map(|cluster| cluster.state);
    if state.is_some_and(State::is_going) {
        // whether it has left is known by the links of all readers
        session = Session::load(&checkout, None, None, false)?;
    }
    let program = &session.program;
    printer.findings(&program.warnings);
    if let Some(mesh) = asked.mesh.filter(|mesh| *mesh != program.mesh.name) {
        return Err(ArgocdError::OtherMesh { asked: mesh, held: program.mesh.name.clone() }.into());
    }
    let cluster = served(&program.mesh, &name)?;
    let documents = if cluster.state == State::Paused {
        kept(&checkout, &program.mesh, &name)?
    } else {
        let request = Request { only: Some(name.clone()), ..Request::default() };
        let mut run = take(&session, &request, Mode::Locked, Until::Rendered, printer)?;
        let rendered = run.rendered.remove(&name).unwrap_or_default();
        refuse_lost(program, cluster, &rendered)?;
        let texts: Result<Vec<String>, _> = rendered.objects.into_iter().map(RenderedObject::into_yaml).collect();
        texts.map_err(Stop::Yaml)?
    };
    if documents.is_empty() {
        if !has_left(program, cluster) {
            return Err(ArgocdError::NothingRendered { cluster: name }.into());
        }
        printer.status(&format!("`{name}` has left the mesh; nothing of ours belongs in it"));
    }
    printer.out(&documents.join("---\n"));
    Ok(Exit::Done)
}

/// The cluster, when the plugin can serve it.
fn served<'a>(mesh: &'a Mesh, name: &ClusterName) -> Result<&'a Cluster, CommandError> {
    let Some(cluster) = mesh.clusters.get(name) else {
        return Err(UnknownCluster::new(mesh, None, name.as_str()).into());
    };
    if cluster.reconciler == Reconciler::External {
        return Err(ArgocdError::External { cluster: name.clone() }.into());
    }
    Ok(cluster)
}

/// What a paused cluster keeps: the files of its folder, byte for byte.
fn kept(checkout: &Checkout, mesh: &Mesh, name: &ClusterName) -> Result<Vec<String>, CommandError> {
    let folder = rendered_folder(name);
    let files = checkout.cluster_files(name.as_str()).map_err(Stop::Tree)?;
    let mut texts = Vec::new();
    for (file, bytes) in files.into_iter().filter(|(file, _)| file != KUSTOMIZATION) {
        let is_ours = object::parse(&bytes).is_some_and(|object| object.is_owned_by_tree_of(&mesh.name));
        let Some(text) = String::from_utf8(bytes).ok().filter(|_| is_ours) else {
            return Err(ArgocdError::NotOurs { path: format!("{folder}/{file}") }.into());
        };
        texts.push(text);
    }
    Ok(texts)
}

/// A link that was joined has its secret. A lock that has it as joined and does not hold what the secret is made of was edited or cut
/// short, and what is missing from the answer would be deleted.
fn refuse_lost(program: &Program, cluster: &Cluster, rendered: &RenderedCluster) -> Result<(), ArgocdError> {
    if cluster.reconciler != Reconciler::Rendered {
        return Ok(());
    }
    let made: BTreeSet<&StepId> = rendered.objects.iter().flat_map(|rendered| &rendered.steps).collect();
    let joined = program.lock.links_of(&cluster.name).filter(|(_, link)| link.stage == Stage::Joined);
    match joined.map(|(peer, _)| peer).find(|peer| !made.contains(&StepId::secret(&cluster.name, peer))) {
        None => Ok(()),
        Some(peer) => Err(ArgocdError::Lost { cluster: cluster.name.clone(), peer: peer.clone() }),
    }
}

/// It is leaving, and no link names it any more.
fn has_left(program: &Program, cluster: &Cluster) -> bool {
    let links = &program.lock.links;
    let reads = links.get(&cluster.name).is_some_and(|links| !links.is_empty());
    cluster.state.is_going() && !reads && !links.values().any(|links| links.contains_key(&cluster.name))
}

/// Why the plugin answers nothing.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum ArgocdError {
    /// Another form of output.
    Output,
    /// A parameter that cannot be followed.
    Parameter(#[source] ParameterError),
    /// No cluster is named.
    NoCluster,
    /// Another mesh is asked for.
    OtherMesh {
        /// Which.
        asked: MeshName,
        /// The one of this checkout.
        held: MeshName,
    },
    /// Another checkout renders the cluster.
    External {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Nothing is rendered, and the cluster has not left.
    NothingRendered {
        /// The cluster.
        cluster: ClusterName,
    },
    /// An object that is not ours, in the folder of a paused cluster.
    NotOurs {
        /// Its path.
        path: String,
    },
    /// A secret that should be there and cannot be rendered.
    Lost {
        /// Who reads.
        cluster: ClusterName,
        /// Whom.
        peer: ClusterName,
    },
}

impl Explain for ArgocdError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Output => Explanation::new(Code::InvalidArguments, "argocd prints what Argo CD reads, in one form")
                .hint("leave --output away"),
            Self::Parameter(error) => error.explanation(),
            Self::NoCluster => Explanation::new(
                Code::InvalidArguments,
                "no cluster is named; give the Application the parameter `cluster`, or use --cluster NAME",
            ),
            Self::OtherMesh { asked, held } => Explanation::new(
                Code::InvalidArguments,
                format!("the Application asks for mesh `{asked}`, and this checkout holds `{held}`"),
            ),
            Self::External { cluster } => Explanation::new(
                Code::NotForCluster,
                format!("`{cluster}` is `external`: its own team's checkout renders it, and nothing is rendered here"),
            ),
            Self::NothingRendered { cluster } => Explanation::new(
                Code::NotForCluster,
                format!("nothing is rendered for `{cluster}` yet, and an empty answer would delete what is there"),
            )
            .hint("run `engine apply` and commit it, or set `state: leaving` to take the cluster out"),
            Self::NotOurs { path } => {
                Explanation::new(Code::FileNotOurs, format!("`{path}` of the paused cluster is no object of ours"))
                    .hint("restore it or move it away")
            }
            Self::Lost { cluster, peer } => Explanation::new(
                Code::LockBroken,
                format!(
                    "`{cluster}` is joined with `{peer}`, and the lock does not hold what its remote secret is made of"
                ),
            )
            .hint(format!("restore {} and {}", Lock::cluster_path(peer), Lock::cluster_path(cluster))),
        }
    }
}

impl EndsCommand for ArgocdError {
    fn exit(&self) -> Exit {
        match self {
            Self::Output | Self::Parameter(_) | Self::NoCluster | Self::OtherMesh { .. } => Exit::Usage,
            Self::External { .. } | Self::NothingRendered { .. } | Self::NotOurs { .. } | Self::Lost { .. } => {
                Exit::Refused
            }
        }
    }
}
