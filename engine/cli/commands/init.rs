//! `engine init`: a first spec from what clusters show.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::checkout::{Checkout, FileChange, ReadLimits};
use crate::cli::global::Global;
use crate::cluster::kubeconfig::{EntryKind, Hidden, KubeconfigFault};
use crate::istio::installed::ISTIOD;
use crate::model::layout::{SPECS, rendered_folder, secret_file};
use crate::onboarding::draft::{Options, SCHEMA_PATH, SpecDraft, draft, quoted};
use crate::onboarding::inventory::{Inventory, Providers, ProvidersFault};
use crate::onboarding::kubeconfig::Contexts;
use crate::onboarding::survey::{
    Adoption, Stranger, Survey, Surveyed, SurveyedCluster, Takeover, Unreachable, adoptions, name_all,
};
use crate::pipeline::Stop;
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::report::text::table;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::exit::Exit;
use crate::session::facts;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, MeshName, ObjectName};
use crate::types::object::parse;
use crate::types::object::{ADOPT_ANNOTATION, Object};

/// Where Argo CD is by default.
const ARGOCD_NAMESPACE: &str = "argocd";
/// Clusters that are surveyed at a time: so many that those that do not answer hold up no other.
const AT_ONCE: usize = 512;
/// What git is to leave alone, and how it treats what the engine writes.
const GIT_FILES: [(&str, &str); 2] = [
    (".gitignore", "/keys/\n"),
    (
        ".gitattributes",
        "# Written by `engine apply`: reviewed as plans, never merged line by line (apply makes them anew), and the same bytes in \
         every clone.\n\
         /lock/**     linguist-generated -merge -text\n/rendered/** linguist-generated -merge -text\n\
         /values/**   linguist-generated -merge -text\n",
    ),
];

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// A context of the kubeconfig; repeat it for more. Without one, all contexts are read. With --from it is that of the cluster
    /// with the objects; without one, the current context.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Vec<String>,
    /// What lists the clusters.
    #[arg(long, value_enum, default_value_t = ListedBy::Contexts)]
    pub(crate) from: ListedBy,
    /// Namespace of the objects that list the clusters: without it, all for `clusterprofiles`, and `argocd` for `argocd`.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<ObjectName>,
    /// JSON file with the plugin of each access provider, as cluster-inventory-api defines it; only with `--from clusterprofiles`.
    #[arg(long, value_name = "FILE")]
    pub(crate) providers: Option<PathBuf>,
    /// A command that a Secret may name as its credential plugin, which then runs on this machine; only with `--from argocd`.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) allow_plugin: Vec<String>,
    /// The kubeconfig; without it, $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Name of the mesh; without it, the meshID that all clusters have.
    #[arg(long, value_name = "NAME")]
    pub(crate) mesh: Option<MeshName>,
    /// Write `acceptForeignRoots: true` into the Mesh: each cluster trusts the root CAs of the others.
    #[arg(long)]
    pub(crate) accept_foreign_roots: bool,
    /// Take over remote secrets that were made by hand, and print what to do in which order.
    #[arg(long)]
    pub(crate) adopt: bool,
}

/// What lists the clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListedBy {
    /// The contexts of the kubeconfig.
    Contexts,
    /// `ClusterProfile` objects (cluster-inventory-api, v1alpha1).
    #[value(name = "clusterprofiles")]
    ClusterProfiles,
    /// The cluster Secrets of Argo CD.
    Argocd,
}

/// What was seen through all contexts.
struct SeenContexts {
    clusters: Vec<SurveyedCluster>,
    /// Contexts without Istio.
    without: Vec<String>,
    /// Contexts of clusters for which another one's istiod acts; the namespace that shows it, and whose istiod.
    remote: Vec<(String, String, String)>,
    /// Contexts that could not be asked, and why.
    unreachable: Vec<(String, Unreachable)>,
    /// Contexts that lead where another does.
    twice: Vec<(String, String)>,
}

/// `engine init`.
pub(crate) fn run(arguments: &Global, init: &Init, printer: &Printer) -> Result<Exit, CommandError> {
    let checkout = Checkout::open(&arguments.directory)?;
    let guard = checkout.lock()?;
    in_the_way(&checkout, init)?;
    let inventory = inventory(init)?;
    let contexts = contexts(init, inventory.as_ref())?;
    let seen = survey(&contexts, &chosen(&contexts, init, inventory.as_ref())?, printer)?;
    let (secrets, strangers) = adoptions(&seen.clusters);
    let options = Options {
        mesh: init.mesh.clone(),
        accept_foreign_roots: init.accept_foreign_roots,
        adoptions: if init.adopt { secrets.clone() } else { Vec::new() },
        are_listed: inventory.is_some(),
    };
    let draft = draft(&seen.clusters, &options).map_err(Stop::Yaml)?;
    let written = !seen.clusters.is_empty();
    let mut notes: Vec<String> = contexts.hidden().iter().map(hidden).collect();
    notes.extend(self::notes(&seen, &secrets, &strangers, init.adopt));
    if written {
        let mut changes: Vec<FileChange> = draft.files.iter().map(|(path, text)| write(path, text)).collect();
        for (path, text) in GIT_FILES {
            if checkout.read(path)?.is_none() {
                changes.push(write(path, text));
            } else {
                let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
                notes.push(format!("{path} is there already; see that it has: {}", lines.join("; ")));
            }
        }
        let schema = format!("{:#}\n", crate::spec::schema());
        match checkout.read(SCHEMA_PATH)? {
            None => changes.push(write(SCHEMA_PATH, &schema)),
            Some(there) if there == schema.as_bytes() => {}
            Some(_) => notes.push(format!(
                "{SCHEMA_PATH} is there already; `engine schema >{SCHEMA_PATH}` writes that of this version"
            )),
        }
        if init.adopt {
            changes.extend(give(&checkout, &draft.mesh, &options.adoptions, &mut notes)?);
        }
        guard.commit(&changes, &|_| ())?;
    }
    if arguments.output == Output::Json {
        printer.out(&format!("{}\n", document(&seen, &draft, &secrets, &notes, written)));
    } else {
        printer.show(&overview(&seen));
        for note in &notes {
            printer.status(&format!("note: {note}"));
        }
        if written {
            printer.status(&next_steps(&draft, &options.adoptions));
        }
    }
    for (context, reason) in &seen.unreachable {
        let context = context.escape_debug();
        printer.error(&match inventory {
            None => format!(
                "cannot read the cluster of context `{context}`: {reason}; `kubectl --context` with its name shows the same"
            ),
            Some(_) => format!("cannot read the cluster that is listed as `{context}`: {reason}"),
        });
    }
    if !written {
        printer.error(if seen.unreachable.is_empty() {
            "no context leads to a cluster with Istio; nothing was written"
        } else {
            "no cluster with Istio could be read; nothing was written"
        });
        return Ok(Exit::Failed);
    }
    Ok(if seen.unreachable.is_empty() { Exit::Done } else { Exit::Partial })
}

fn write(path: &str, text: &str) -> FileChange {
    FileChange::Write { path: path.to_owned(), bytes: text.as_bytes().to_vec(), mode: 0o644 }
}

/// A checkout that has specs has begun: nothing of it is overwritten, and nothing is written beside it.
fn in_the_way(checkout: &Checkout, init: &Init) -> Result<(), CommandError> {
    let is_yaml = |path: &str| matches!(path.rsplit_once('.'), Some((_, "yaml" | "yml")));
    let there: Vec<String> = checkout.read_tree(SPECS, &is_yaml, ReadLimits::SPECS)?.into_keys().collect();
    if there.is_empty() {
        return Ok(());
    }
    Err(InitError::SpecsThere { paths: there, adopt: init.adopt }.into())
}

/// The inventory that is to be read; flags that it has no use for are refused.
fn inventory(init: &Init) -> Result<Option<Inventory>, InitError> {
    let Init { from, namespace, providers, allow_plugin, .. } = init;
    let idle = |flag: &'static str, needs: &'static str| Err(InitError::Idle { flag, needs });
    match from {
        ListedBy::Contexts if namespace.is_some() => {
            return idle("--namespace", "--from clusterprofiles or --from argocd");
        }
        ListedBy::Contexts | ListedBy::Argocd if providers.is_some() => {
            return idle("--providers", "--from clusterprofiles");
        }
        ListedBy::Contexts | ListedBy::ClusterProfiles if !allow_plugin.is_empty() => {
            return idle("--allow-plugin", "--from argocd");
        }
        ListedBy::ClusterProfiles | ListedBy::Argocd if init.adopt => return Err(InitError::AdoptListed),
        ListedBy::ClusterProfiles | ListedBy::Argocd if init.context.len() > 1 => return Err(InitError::TwoHubs),
        ListedBy::Contexts | ListedBy::ClusterProfiles | ListedBy::Argocd => {}
    }
    let namespace = namespace.as_ref().map(ToString::to_string);
    Ok(match from {
        ListedBy::Contexts => None,
        ListedBy::ClusterProfiles => {
            let path = providers.as_deref().ok_or(InitError::NoProviders)?;
            Some(Inventory::ClusterProfiles { namespace, providers: read_providers(path)? })
        }
        ListedBy::Argocd => Some(Inventory::Argocd {
            namespace: namespace.unwrap_or_else(|| ARGOCD_NAMESPACE.to_owned()),
            plugins: allow_plugin.iter().cloned().collect(),
        }),
    })
}

fn read_providers(path: &Path) -> Result<Providers, InitError> {
    let failed = |source| InitError::ProvidersUnread { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    let folder = std::path::absolute(path).map_err(failed)?;
    let providers = Providers::parse(&bytes, folder.parent().unwrap_or(Path::new("/")));
    providers.map_err(|source| InitError::ProvidersForm { path: path.to_owned(), source })
}

/// The contexts of the kubeconfig, or those of the clusters that are listed in the cluster of one of them.
fn contexts(init: &Init, inventory: Option<&Inventory>) -> Result<Contexts, CommandError> {
    let contexts = Contexts::read(init.kubeconfig.as_deref()).map_err(InitError::Kubeconfig)?;
    known(&contexts, init)?;
    let Some(inventory) = inventory else { return Ok(contexts) };
    let runtime = facts::runtime()?;
    let listed = runtime.block_on(contexts.listed(init.context.first().map(String::as_str), inventory));
    // a name that is still looked up is not waited for
    runtime.shutdown_background();
    Ok(listed.map_err(|source| InitError::Unlisted { objects: inventory.name(), source: source.into() })?)
}

/// The contexts that are named are there.
fn known(contexts: &Contexts, init: &Init) -> Result<(), InitError> {
    let names = contexts.names();
    for wanted in &init.context {
        if !names.contains(wanted) {
            let near = crate::types::diagnostic::did_you_mean(wanted, names.iter().map(String::as_str));
            return Err(InitError::UnknownContext { name: wanted.clone(), near: near.map(str::to_owned) });
        }
    }
    Ok(())
}

fn chosen(contexts: &Contexts, init: &Init, inventory: Option<&Inventory>) -> Result<Vec<String>, InitError> {
    if init.context.is_empty() || inventory.is_some() {
        let names = contexts.names();
        return match inventory {
            _ if !names.is_empty() => Ok(names),
            Some(inventory) => Err(InitError::NothingListed { objects: inventory.name() }),
            None => Err(InitError::NoContext),
        };
    }
    let mut wanted = init.context.clone();
    wanted.sort();
    wanted.dedup();
    Ok(wanted)
}

/// Looks through all contexts at once.
fn survey(contexts: &Contexts, names: &[String], printer: &Printer) -> Result<SeenContexts, CommandError> {
    let now = crate::session::clock::now();
    let progress = printer.progress("surveying clusters", names.len());
    let runtime = facts::runtime()?;
    let surveying = futures_util::stream::iter(names.iter().map(|name| {
        let progress = &progress;
        async move {
            let surveyed = Box::pin(contexts.survey(name, now)).await;
            progress.step();
            (name.clone(), surveyed)
        }
    }));
    let mut surveyed: BTreeMap<String, Surveyed> = runtime.block_on(surveying.buffer_unordered(AT_ONCE).collect());
    // a name that is still looked up is not waited for
    runtime.shutdown_background();
    let (mut surveys, mut without, mut remote, mut unreachable) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in names {
        match surveyed.remove(name) {
            Some(Surveyed::Istio(survey)) => surveys.push(*survey),
            Some(Surveyed::NoIstio) => without.push(name.clone()),
            Some(Surveyed::Remote { namespace, control_planes }) => {
                remote.push((name.clone(), namespace, control_planes));
            }
            Some(Surveyed::Unreachable(reason)) => unreachable.push((name.clone(), reason)),
            None => {}
        }
    }
    let (clusters, twice) = name_all(surveys);
    Ok(SeenContexts { clusters, without, remote, unreachable, twice })
}

/// Gives remote secrets made by hand that lie in the tree to this mesh: an annotation, under the name that ours will have.
fn give(
    checkout: &Checkout,
    mesh: &MeshName,
    adoptions: &[Adoption],
    notes: &mut Vec<String>,
) -> Result<Vec<FileChange>, CommandError> {
    let mut changes = Vec::new();
    let readers: std::collections::BTreeSet<&ClusterName> = adoptions.iter().map(|one| &one.reader).collect();
    for reader in readers {
        let folder = rendered_folder(reader);
        let is_yaml = |file: &String| matches!(file.rsplit_once('.'), Some((_, "yaml" | "yml")));
        for file in checkout.list(&folder)?.into_iter().filter(is_yaml) {
            let path = format!("{folder}/{file}");
            let bytes = checkout.read(&path)?.unwrap_or_default();
            let object = parse(&bytes).filter(|object| !object.is_owned_by_tree_of(mesh));
            let Some(object) = object else {
                continue;
            };
            if file == crate::model::layout::KUSTOMIZATION {
                notes.push(format!(
                    "`{path}` is not ours; move it elsewhere before `engine apply`, which writes its own"
                ));
            }
            if !object.is_remote_secret() {
                continue;
            }
            let name = object.id().name;
            let known = adoptions.iter().find(|one| one.reader == *reader && one.secret == name);
            if known.is_none_or(|one| one.way != Takeover::InPlace) {
                notes.push(format!(
                    "`{path}` holds a remote secret under another name or key than ours; it stays as it is"
                ));
                continue;
            }
            let given = annotated(object, mesh);
            let canonical = format!("{folder}/{}", given.id().file_name());
            let text = given.to_yaml().map_err(Stop::Yaml)?;
            changes.push(write(&canonical, &text));
            if canonical != path {
                changes.push(FileChange::Delete { path });
            }
        }
    }
    Ok(changes)
}

fn annotated(mut object: Object, mesh: &MeshName) -> Object {
    if let Some(Value::Object(metadata)) = object.fields.get_mut("metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Value::Object(annotations) = annotations {
            annotations.insert(ADOPT_ANNOTATION.to_owned(), mesh.to_string().into());
        }
    }
    object
}

/// Entries without effect, as for kubectl.
fn hidden(entry: &Hidden) -> String {
    let Hidden { kind, name, path, by } = entry;
    let name = name.escape_debug();
    let what = match kind {
        EntryKind::Context => "its cluster was not surveyed",
        EntryKind::Cluster => "contexts of the former lead to the cluster of the latter",
        EntryKind::User => "contexts of the former log in as the user of the latter",
    };
    let rename = match kind {
        EntryKind::Context => {
            format!("; `kubectl --kubeconfig {} config rename-context` gives it another name", quoted(path))
        }
        EntryKind::Cluster | EntryKind::User => "; give it another name there, also where contexts name it".to_owned(),
    };
    format!("the {kind} `{name}` of {path} is hidden by that of {by}: {what}{rename}")
}

fn notes(seen: &SeenContexts, secrets: &[Adoption], strangers: &[Stranger], adopt: bool) -> Vec<String> {
    let mut notes = Vec::new();
    for (context, first) in &seen.twice {
        notes.push(format!("context `{}` leads to the cluster of `{}`", context.escape_debug(), first.escape_debug()));
    }
    for context in &seen.without {
        notes.push(format!(
            "context `{}`: no istiod there (a Deployment labelled {ISTIOD}); left out",
            context.escape_debug()
        ));
    }
    for (context, namespace, control_planes) in &seen.remote {
        notes.push(format!(
            "context `{}`: the istiod of `{}` acts for this cluster, as namespace {} says; left out, since clusters are joined that \
             have an istiod of their own",
            context.escape_debug(),
            control_planes.escape_debug(),
            namespace.escape_debug()
        ));
    }
    for cluster in &seen.clusters {
        for mode in &cluster.survey.modes {
            notes.push(format!("`{}`: {mode}: {}", cluster.name.value, mode.remedy()));
        }
    }
    for cluster in &seen.clusters {
        if let Err(reason) = &cluster.survey.secrets {
            notes.push(format!("remote secrets of `{}` could not be listed: {reason}", cluster.name.value));
        }
    }
    for Stranger { reader, secret, why } in strangers {
        notes.push(format!("remote secret `{}` of `{reader}` stays as it is: {why}", secret.escape_debug()));
    }
    if !adopt && !secrets.is_empty() {
        notes.push(format!(
            "{} remote secret{} made by hand; `engine init --adopt` takes them over in a safe order",
            secrets.len(),
            if secrets.len() == 1 { " was" } else { "s were" }
        ));
    }
    notes
}

fn cells(cluster: &SurveyedCluster) -> [String; 7] {
    let SurveyedCluster { name, survey, .. } = cluster;
    let revisions: Vec<&str> = survey.revisions.iter().map(crate::types::name::Revision::as_str).collect();
    let or = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    let gateways = match &survey.gateways {
        Ok(gateways) if gateways.is_empty() => "none".to_owned(),
        Ok(gateways) => gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        Err(_) => "?".to_owned(),
    };
    let roots = survey
        .roots
        .as_ref()
        .ok()
        .map(|roots| roots.value.iter().map(|root| root.digest.short(12)).collect::<Vec<_>>().join(","));
    let secrets = survey.secrets.as_ref().ok().map(|secrets| {
        let ids: Vec<&str> = secrets.iter().flat_map(|secret| secret.clusters.keys()).map(String::as_str).collect();
        if ids.is_empty() { "none".to_owned() } else { ids.join(",").escape_debug().to_string() }
    });
    [
        survey.context.escape_debug().to_string(),
        name.value.to_string(),
        format!("{} {}", survey.version.as_deref().unwrap_or("?").escape_debug(), revisions.join(",")),
        or(survey.network.as_ref().map(|network| network.value.to_string())),
        gateways,
        or(roots),
        or(secrets),
    ]
}

fn overview(seen: &SeenContexts) -> String {
    let rows: Vec<_> = seen.clusters.iter().map(cells).collect();
    if rows.is_empty() {
        return String::new();
    }
    table(&["CONTEXT", "CLUSTER", "ISTIO", "NETWORK", "GATEWAYS", "ROOT CA", "REMOTE SECRETS"], rows)
}

fn next_steps(draft: &SpecDraft, adoptions: &[Adoption]) -> String {
    let mut text = format!("wrote {}\n\nnext:\n", draft.files.keys().cloned().collect::<Vec<_>>().join(", "));
    let mut step = 0;
    let mut say = |message: &str| {
        step += 1;
        text.push_str(&format!("  {step}. {message}\n"));
    };
    if !draft.fill_in.is_empty() {
        let lines = draft
            .fill_in
            .iter()
            .map(|one| format!("\n       {}:{} {}: {}", one.path, one.line, one.field, one.message));
        say(&format!("fill in what could not be found:{}", lines.collect::<String>()));
    }
    say("engine plan, which names whatever is still missing");
    say(
        "engine apply --create-keys; commit; let the GitOps tool sync rendered/; engine apply again, until nothing waits",
    );
    for (_, message) in steps_of(adoptions) {
        say(&message);
    }
    text.trim_end().to_owned()
}

/// The stated order of taking over, with commands, each with the secret it is about.
fn steps_of(adoptions: &[Adoption]) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    for one in adoptions {
        let Adoption { reader, peer, context, namespace, secret, id, way } = one;
        let kubectl = format!("kubectl --context {} -n {namespace}", quoted(context));
        let (secret, file) = (quoted(secret), format!("{}/{}", rendered_folder(reader), secret_file(peer)));
        let message = match way {
            Takeover::InPlace => format!(
                "`{reader}` reads `{peer}`: nothing to do by hand. The run that joins the link writes {file} under the same name \
                 and key, and the sync replaces the old secret in one write (without a GitOps tool: \
                 kubectl --context {} apply --server-side --force-conflicts -k rendered/{reader})",
                quoted(context)
            ),
            Takeover::Switch => format!(
                "`{reader}` reads `{peer}`: when a run has written {file}, and directly before it is synced:\n       \
                 {kubectl} label secret {secret} istio/multiCluster-\n     sync; when istiod has read ours:\n       \
                 {kubectl} delete secret {secret}"
            ),
            Takeover::ByHand => format!(
                "`{reader}` reads `{peer}` as `{}`, in secret {secret} with another or a further key: make one secret of each key, or \
                 take that key out directly before {file} is synced; two secrets for one cluster make istiod count its endpoints twice",
                id.escape_debug()
            ),
        };
        steps.push((secret, message));
    }
    steps
}

fn document(seen: &SeenContexts, draft: &SpecDraft, secrets: &[Adoption], notes: &[String], written: bool) -> Value {
    let clusters = seen.clusters.iter().map(|cluster| {
        let Survey { context, server, version, revisions, namespace, network, gateways, .. } = &cluster.survey;
        let roots = cluster
            .survey
            .roots
            .as_ref()
            .ok()
            .map(|roots| roots.value.iter().map(|root| root.digest).collect::<Vec<_>>());
        let remote = cluster.survey.secrets.as_ref().ok();
        let remote = remote
            .map(|all| all.iter().map(|one| json!({ "name": one.name, "clusters": one.clusters })).collect::<Vec<_>>());
        json!({
            "context": context, "server": server, "name": cluster.name.value, "clusterID": cluster.effective_id(),
            "clusterUUID": cluster.survey.uuid.as_ref().ok(), "namespace": namespace, "version": version,
            "revisions": revisions, "network": network.as_ref().map(|found| &found.value), "gateways": gateways.as_ref().ok(), "rootCA": roots,
            "trustDomain": cluster.survey.trust_domain.as_ref().map(|found| &found.value), "remoteSecrets": remote,
        })
    });
    let unreachable = seen.unreachable.iter().map(|(context, reason)| {
        let Explanation { code, message, hint } = reason.explanation();
        json!({ "context": context, "reason": reason.to_string(), "code": code, "message": message, "hint": hint })
    });
    let steps = steps_of(secrets);
    let taken = secrets.iter().zip(&steps).map(|(one, (_, message))| {
        let way = match one.way {
            Takeover::InPlace => "inPlace",
            Takeover::Switch => "switch",
            Takeover::ByHand => "byHand",
        };
        json!({
            "reader": one.reader, "peer": one.peer, "secret": one.secret, "clusterID": one.id, "way": way, "step": message,
        })
    });
    let fill_in = draft
        .fill_in
        .iter()
        .map(|one| json!({ "path": one.path, "line": one.line, "field": one.field, "what": one.message }));
    json!({
        "version": 1, "mesh": draft.mesh, "clusters": clusters.collect::<Vec<_>>(), "withoutIstio": seen.without.iter().chain(seen.remote.iter().map(|(context, ..)| context)).collect::<Vec<_>>(),
        "unreachable": unreachable.collect::<Vec<_>>(), "handMade": taken.collect::<Vec<_>>(),
        "fillIn": fill_in.collect::<Vec<_>>(), "notes": notes,
        "written": if written { draft.files.keys().collect() } else { Vec::new() },
    })
}

/// Why no spec was drafted.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum InitError {
    /// The kubeconfig cannot be read.
    Kubeconfig(#[source] KubeconfigFault),
    /// There are specs.
    SpecsThere {
        /// Their paths.
        paths: Vec<String>,
        /// Whether remote secrets were to be taken over.
        adopt: bool,
    },
    /// The kubeconfig leads nowhere.
    NoContext,
    /// A flag that does nothing without another.
    Idle {
        /// It.
        flag: &'static str,
        /// The other.
        needs: &'static str,
    },
    /// Remote secrets are to be taken over by contexts that kubectl does not know.
    AdoptListed,
    /// Two clusters that hold an inventory.
    TwoHubs,
    /// No file of plugins.
    NoProviders,
    /// The file of plugins was not read.
    ProvidersUnread {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of plugins is none.
    ProvidersForm {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ProvidersFault,
    },
    /// The objects that list clusters were not read.
    Unlisted {
        /// What they are called.
        objects: &'static str,
        /// Why.
        source: Box<Unreachable>,
    },
    /// There are no such objects.
    NothingListed {
        /// What they are called.
        objects: &'static str,
    },
    /// The kubeconfig has no such context.
    UnknownContext {
        /// Its name.
        name: String,
        /// One that it has and may be meant.
        near: Option<String>,
    },
}

impl Explain for InitError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Kubeconfig(error) => Explanation::new(Code::KubeconfigUnusable, error.to_string()),
            Self::SpecsThere { paths, adopt } => {
                let message = format!(
                    "this checkout has specs already, and `engine init` overwrites nothing: {}; nothing was written",
                    paths.join(", ")
                );
                let hint = adopt.then(|| {
                    format!(
                        "to give a remote secret below rendered/ to this mesh, annotate it with {ADOPT_ANNOTATION}: MESH (docs/onboarding.md)"
                    )
                });
                Explanation { code: Code::AlreadyExists, message, hint }
            }
            Self::NoContext => Explanation::new(Code::KubeconfigUnusable, "the kubeconfig has no context")
                .hint("name another with --kubeconfig"),
            Self::Idle { flag, needs } => {
                Explanation::new(Code::InvalidArguments, format!("{flag} has no effect without {needs}; leave it out"))
            }
            Self::AdoptListed => Explanation::new(
                Code::InvalidArguments,
                "--adopt cannot be used with --from: it prints commands with contexts of the kubeconfig",
            )
            .hint("give the clusters contexts, and name these with --context"),
            Self::TwoHubs => Explanation::new(
                Code::InvalidArguments,
                "--context: expected one, of the cluster that holds the objects, found several",
            ),
            Self::NoProviders => Explanation::new(
                Code::InvalidArguments,
                "--from clusterprofiles: expected --providers FILE, with the plugin of each access provider; found none",
            )
            .hint("docs/onboarding.md has an example"),
            Self::ProvidersUnread { path, source } => {
                Explanation::new(Code::KubeconfigUnusable, format!("--providers: cannot read {}: {source}", path.display()))
            }
            Self::ProvidersForm { path, source } => {
                Explanation::new(Code::KubeconfigUnusable, format!("--providers: {}: {source}", path.display()))
            }
            Self::Unlisted { objects, source } => {
                Explanation::new(Code::KubeconfigUnusable, format!("cannot list each {objects}: {source}"))
                    .hint("--context names the cluster that holds them")
            }
            Self::NothingListed { objects } => {
                Explanation::new(Code::KubeconfigUnusable, format!("expected a {objects}, found none"))
                    .hint("--context names the cluster that holds them, --namespace where they are")
            }
            Self::UnknownContext { name, near } => {
                let message = format!("--context: the kubeconfig has no context `{}`", name.escape_debug());
                let hint = near.as_ref().map(|near| format!("did you mean `{near}`?"));
                Explanation { code: Code::InvalidArguments, message, hint }
            }
        }
    }
}

impl EndsCommand for InitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Kubeconfig(_) | Self::ProvidersUnread { .. } | Self::ProvidersForm { .. } | Self::Unlisted { .. } => {
                Exit::Machine
            }
            Self::SpecsThere { .. } => Exit::Refused,
            Self::NoContext
            | Self::NothingListed { .. }
            | Self::Idle { .. }
            | Self::AdoptListed
            | Self::TwoHubs
            | Self::NoProviders
            | Self::UnknownContext { .. } => Exit::Usage,
        }
    }
}
