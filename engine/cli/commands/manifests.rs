//! `engine manifests`: what Argo CD, Flux and agents are installed with, as YAML on stdout, and the Helm chart.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, Subcommand, ValueEnum};

use crate::checkout::Checkout;
use crate::cli::global::Global;
use crate::gitops::chart;
use crate::gitops::manifests as gitops;
use crate::gitops::manifests::{Destination, GitSource, Sync};
use crate::model::mesh::{Cluster, Mesh, Reconciler};
use crate::pipeline::{Request, Stop, Until};
use crate::report::text::Printer;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::error::UnknownCluster;
use crate::session::exit::Exit;
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, InvalidName, ObjectName};
use crate::types::object::Object;
use crate::types::step::StepKind;

/// Commands of `manifests`.
#[derive(Debug, Subcommand)]
pub(crate) enum Manifests {
    /// Print the plugin's sidecar and the Applications.
    ///
    /// With --image: the plugin's configuration, and the sidecar as a patch of the Deployment argocd-repo-server.
    /// With --repo: one `ApplicationSet` for all clusters, or with --cluster the Application of one.
    Argocd(ArgocdArgs),
    /// Print `GitRepository` and `Kustomization` objects.
    ///
    /// With --cluster: for the Flux that runs in that cluster. Else for one Flux that reaches all clusters.
    Flux(Flux),
    /// Print what a cluster with an agent is installed with: exporter, api-proxy, agent, rights of peers, and the agent's specs.
    ///
    /// For --cluster, whose reconciler is `agent`. The same objects are in rendered/, and in what the Helm chart installs.
    Agent,
    /// Write the Helm chart by which a cluster with an agent is installed without a checkout.
    Helm(Helm),
}

/// Arguments of `manifests helm`.
#[derive(Debug, Args)]
pub(crate) struct Helm {
    /// Directory for the chart, which must be empty or absent.
    #[arg(long = "directory", value_name = "DIR")]
    pub(crate) chart: PathBuf,
}

/// Where the checkout lies, as Argo CD or Flux sees it.
#[derive(Debug, Args)]
pub(crate) struct From {
    /// Branch, tag or commit.
    #[arg(long, value_name = "REVISION", default_value = "main")]
    pub(crate) revision: String,
    /// Folder of the checkout in the repository.
    #[arg(long, value_name = "FOLDER", default_value = "")]
    pub(crate) path: String,
    /// What the GitOps tool knows a cluster by. Argo CD: its name there (by default the same) or the URL of its apiserver.
    /// Flux: the Secret with its kubeconfig (by default `<cluster>-kubeconfig`).
    #[arg(long, value_name = "CLUSTER=NAME")]
    pub(crate) destination: Vec<String>,
}

/// Arguments of `manifests argocd`.
#[derive(Debug, Args)]
pub(crate) struct ArgocdArgs {
    /// Image with `engine` on its PATH, for the sidecar.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// URL of the repository, for the Applications.
    #[arg(long, value_name = "URL")]
    pub(crate) repo: Option<String>,
    #[command(flatten)]
    pub(crate) from: From,
    /// Print only this part.
    #[arg(long, value_enum)]
    pub(crate) part: Option<ArgocdPart>,
    /// What is synced: the plugin's answer, or the folder `rendered/<cluster>/`.
    #[arg(long, value_enum, default_value_t = Synced::Plugin)]
    pub(crate) sync: Synced,
    /// Argo CD's namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = "argocd")]
    pub(crate) namespace: String,
    /// The Applications' project.
    #[arg(long, value_name = "PROJECT", default_value = "default")]
    pub(crate) project: String,
}

/// A part of what Argo CD is installed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArgocdPart {
    /// The `ConfigMap` with the plugin's configuration.
    Config,
    /// The patch of argocd-repo-server.
    Sidecar,
    /// The `ApplicationSet` or Application.
    Applications,
}

/// Arguments of `manifests flux`.
#[derive(Debug, Args)]
pub(crate) struct Flux {
    /// URL of the repository.
    #[arg(long, value_name = "URL")]
    pub(crate) repo: String,
    #[command(flatten)]
    pub(crate) from: From,
    /// Secret with credentials for the repository.
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Option<String>,
    /// Flux's namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = "flux-system")]
    pub(crate) namespace: String,
}

/// What Argo CD syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Synced {
    /// What `engine argocd generate` prints.
    Plugin,
    /// The folder of the cluster.
    Directory,
}

/// `engine manifests`.
pub(crate) fn run(arguments: &Global, manifests: &Manifests, printer: &Printer) -> Result<Exit, CommandError> {
    let (objects, notes) = match manifests {
        Manifests::Argocd(argocd) => for_argocd(arguments, argocd, printer)?,
        Manifests::Flux(flux) => for_flux(arguments, flux, printer)?,
        Manifests::Agent => (of_agent(arguments, printer)?, Vec::new()),
        Manifests::Helm(helm) => return write_chart(&helm.chart, printer),
    };
    let texts: Result<Vec<String>, _> = objects.iter().map(Object::to_yaml).collect();
    printer.out(&texts.map_err(Stop::Yaml)?.join("---\n"));
    for line in notes {
        printer.status(&line);
    }
    Ok(Exit::Done)
}

type ManifestOutput = (Vec<Object>, Vec<String>);

fn for_argocd(arguments: &Global, argocd: &ArgocdArgs, printer: &Printer) -> Result<ManifestOutput, CommandError> {
    let ArgocdArgs { image, repo, from, part, sync, namespace, project } = argocd;
    named("--namespace", namespace)?;
    named("--project", project)?;
    let mut objects = Vec::new();
    let mut notes = Vec::new();
    let wanted = |this: ArgocdPart| part.is_none_or(|part| part == this);
    if let Some(image) = image {
        if image.is_empty() || image.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ManifestsError::Image.into());
        }
        if *sync == Synced::Directory {
            return Err(ManifestsError::ImageOfDirectory.into());
        }
        if wanted(ArgocdPart::Config) {
            objects.push(gitops::plugin_config(namespace).map_err(Stop::Yaml)?);
        }
        if wanted(ArgocdPart::Sidecar) {
            objects.push(gitops::sidecar(namespace, image).map_err(Stop::Yaml)?);
        }
        if part.is_none() {
            notes.push(format!(
                "the Deployment is a patch, not to be applied: --part sidecar prints it alone, for `kubectl --namespace \
                 {namespace} patch deployment argocd-repo-server --patch-file FILE`"
            ));
        }
    }
    if let Some(repo) = repo.as_ref().filter(|_| wanted(ArgocdPart::Applications)) {
        let checkout = Checkout::open(&arguments.directory)?;
        let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, true)?;
        let mesh = &session.program.mesh;
        let source = source(repo, from)?;
        let sync = match sync {
            Synced::Plugin => Sync::Plugin,
            Synced::Directory => Sync::Directory,
        };
        let destinations = destinations(mesh, arguments.cluster.as_ref(), from)?;
        let place = (namespace.as_str(), project.as_str());
        objects.push(match (&arguments.cluster, destinations.as_slice()) {
            (Some(_), [one]) => gitops::application(mesh, &source, sync, place, one),
            _ => gitops::application_set(mesh, &source, sync, place, &destinations),
        });
    }
    if objects.is_empty() {
        return Err(ManifestsError::NothingWanted.into());
    }
    Ok((objects, notes))
}

fn for_flux(arguments: &Global, flux: &Flux, printer: &Printer) -> Result<ManifestOutput, CommandError> {
    let Flux { repo, from, secret, namespace } = flux;
    named("--namespace", namespace)?;
    if let Some(secret) = secret {
        named("--secret", secret)?;
    }
    let source = source(repo, from)?;
    if !["http://", "https://", "ssh://"].iter().any(|scheme| repo.starts_with(scheme)) {
        return Err(ManifestsError::NotForFlux.into());
    }
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, true)?;
    let mesh = &session.program.mesh;
    let mut objects = vec![gitops::git_repository(mesh, &source, namespace, secret.as_deref())];
    for mut destination in destinations(mesh, arguments.cluster.as_ref(), from)? {
        if destination.name.is_none() && arguments.cluster.is_none() {
            destination.name = Some(gitops::kubeconfig_secret(&destination.cluster.name));
        }
        if let Some(secret) = &destination.name {
            named("--destination", secret)?;
        }
        objects.extend(gitops::kustomizations(mesh, &source, namespace, &destination));
    }
    Ok((objects, Vec::new()))
}

/// The objects of a cluster with an agent, but for those of its links.
fn of_agent(arguments: &Global, printer: &Printer) -> Result<Vec<Object>, CommandError> {
    let only = arguments.cluster.as_ref().ok_or(ManifestsError::NoCluster)?;
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, Some(only), printer, true)?;
    let reconciler = session.program.mesh.clusters.get(only).map(|cluster| cluster.reconciler);
    if reconciler != Some(Reconciler::Agent) {
        return Err(ManifestsError::NotAnAgents { cluster: only.clone() }.into());
    }
    let request = Request { only: Some(only.clone()), ..Request::default() };
    let run = take(&session, &request, Mode::Locked, Until::Rendered, printer)?;
    let mut objects = Vec::new();
    for rendered in run.rendered.values().flat_map(|cluster| &cluster.objects) {
        if rendered.steps.iter().all(|step| step.kind != StepKind::RenderSecret) {
            objects.push(rendered.object().map_err(Stop::Yaml)?.into_owned());
        }
    }
    Ok(objects)
}

/// Writes the chart to a folder that is empty or absent.
fn write_chart(folder: &Path, printer: &Printer) -> Result<Exit, CommandError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ManifestsError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    if fs::read_dir(folder).map_err(failed(folder))?.next().is_some() {
        return Err(ManifestsError::NotEmpty { folder: folder.to_owned() }.into());
    }
    for (path, text) in chart::chart()? {
        let path = folder.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed(&path))?;
        fs::write(&path, text).map_err(failed(&path))?;
    }
    printer
        .status(&format!("wrote the chart to {}; its README.md says how a cluster is joined by it", folder.display()));
    Ok(Exit::Done)
}

/// The clusters that are rendered here, or the one that was named.
fn destinations<'a>(
    mesh: &'a Mesh,
    only: Option<&ClusterName>,
    from: &From,
) -> Result<Vec<Destination<'a>>, CommandError> {
    let mut names = BTreeMap::new();
    for text in &from.destination {
        let (cluster, name) = text.split_once('=').ok_or(ManifestsError::DestinationForm)?;
        let known: Option<&Cluster> = cluster.parse().ok().and_then(|name: ClusterName| mesh.clusters.get(&name));
        let Some(known) = known else {
            return Err(UnknownCluster::new(mesh, Some("--destination"), cluster).into());
        };
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(ManifestsError::DestinationUnnamed { cluster: known.name.clone() }.into());
        }
        if names.insert(&known.name, name.to_owned()).is_some() {
            return Err(ManifestsError::DestinationTwice { cluster: known.name.clone() }.into());
        }
    }
    let rendered = mesh.clusters.values().filter(|cluster| cluster.reconciler != Reconciler::External);
    let rendered: Vec<Destination<'_>> = rendered
        .filter(|cluster| only.is_none_or(|only| cluster.name == *only))
        .map(|cluster| Destination { cluster, name: names.get(&cluster.name).cloned() })
        .collect();
    if rendered.is_empty() {
        return Err(ManifestsError::External.into());
    }
    Ok(rendered)
}

fn source(repository: &str, from: &From) -> Result<GitSource, ManifestsError> {
    if repository.is_empty() || repository.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ManifestsError::Repository);
    }
    let authority = repository.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    if authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':')) {
        return Err(ManifestsError::Password);
    }
    if from.revision.is_empty() || from.revision.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ManifestsError::Revision);
    }
    let path = from.path.trim_start_matches("./").trim_end_matches('/');
    let path = if path == "." { "" } else { path };
    let plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.chars().any(char::is_control);
    if !path.is_empty() && !path.split('/').all(plain) {
        return Err(ManifestsError::Path);
    }
    Ok(GitSource { repository: repository.to_owned(), revision: from.revision.clone(), path: path.to_owned() })
}

fn named(flag: &'static str, text: &str) -> Result<(), ManifestsError> {
    let parsed = text.parse::<ObjectName>();
    parsed.map(|_| ()).map_err(|source| ManifestsError::Name { flag, source })
}

/// Why there are no manifests.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum ManifestsError {
    /// No reference of an image.
    Image,
    /// An image where no plugin runs.
    ImageOfDirectory,
    /// Neither plugin nor Applications.
    NothingWanted,
    /// --destination without `=`.
    DestinationForm,
    /// --destination without a name.
    DestinationUnnamed {
        /// Of which cluster.
        cluster: ClusterName,
    },
    /// Two of --destination for one cluster.
    DestinationTwice {
        /// Which.
        cluster: ClusterName,
    },
    /// Another checkout renders the cluster.
    External,
    /// No cluster was named.
    NoCluster,
    /// No agent acts in the cluster.
    NotAnAgents {
        /// Which.
        cluster: ClusterName,
    },
    /// A folder that is not empty.
    NotEmpty {
        /// Which.
        folder: PathBuf,
    },
    /// A file of the chart was not written.
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No URL.
    Repository,
    /// A URL with a password.
    Password,
    /// A URL that Flux does not take.
    NotForFlux,
    /// No revision.
    Revision,
    /// No folder of the repository.
    Path,
    /// No name of an object.
    Name {
        /// The flag that gives it.
        flag: &'static str,
        /// Why.
        source: InvalidName,
    },
}

impl Explain for ManifestsError {
    fn explanation(&self) -> Explanation {
        let invalid = |message: &str| Explanation::new(Code::InvalidArguments, message);
        match self {
            Self::Image => {
                invalid("--image: expected the reference of an image, such as `registry.example.com/isthmus:0.1.0`")
            }
            Self::ImageOfDirectory => Explanation::new(
                Code::InvalidArguments,
                "--image cannot be used with --sync directory, which needs no plugin",
            ),
            Self::NothingWanted => Explanation::new(
                Code::InvalidArguments,
                "expected --image IMAGE for the plugin and its sidecar, --repo URL for the Applications, or both; found neither",
            ),
            Self::DestinationForm => invalid("--destination: expected CLUSTER=NAME"),
            Self::DestinationUnnamed { cluster } => {
                invalid(&format!("--destination: expected a name for `{cluster}`, found none"))
            }
            Self::DestinationTwice { cluster } => {
                invalid(&format!("--destination: expected one name for `{cluster}`, found two"))
            }
            Self::External => Explanation::new(
                Code::NotForCluster,
                "nothing is rendered here: each cluster that is asked for is `external`, and its own team's checkout renders it",
            ),
            Self::NoCluster => invalid("expected --cluster NAME, of a cluster with an agent; found none"),
            Self::NotAnAgents { cluster } => Explanation::new(
                Code::NotForCluster,
                format!("expected a cluster with `reconciler: agent`, found another reconciler of `{cluster}`"),
            )
            .hint("`engine apply` writes the objects of all others to rendered/"),
            Self::NotEmpty { folder } => Explanation::new(
                Code::AlreadyExists,
                format!("--directory {}: expected an empty or absent directory, found files in it", folder.display()),
            ),
            Self::Write { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot write {}: {source}", path.display()))
            }
            Self::Repository => invalid("--repo: expected the URL of a repository"),
            Self::Password => invalid("--repo: expected no password, which manifests would not keep secret")
                .hint("give it to the GitOps tool"),
            Self::NotForFlux => {
                invalid("--repo: expected a URL that begins with http://, https:// or ssh://, as Flux takes them")
                    .hint("`git@HOST:OWNER/REPO` is `ssh://git@HOST/OWNER/REPO`")
            }
            Self::Revision => invalid("--revision: expected a branch, a tag or a commit"),
            Self::Path => invalid("--path: expected a folder of the repository, relative to its root"),
            Self::Name { flag, source } => invalid(&format!("{flag}: {source}")),
        }
    }
}

impl EndsCommand for ManifestsError {
    fn exit(&self) -> Exit {
        match self {
            Self::External | Self::NotAnAgents { .. } => Exit::Refused,
            Self::Write { .. } => Exit::Machine,
            Self::Image
            | Self::ImageOfDirectory
            | Self::NothingWanted
            | Self::DestinationForm
            | Self::DestinationUnnamed { .. }
            | Self::DestinationTwice { .. }
            | Self::NoCluster
            | Self::NotEmpty { .. }
            | Self::Repository
            | Self::Password
            | Self::NotForFlux
            | Self::Revision
            | Self::Path
            | Self::Name { .. } => Exit::Usage,
        }
    }
}
