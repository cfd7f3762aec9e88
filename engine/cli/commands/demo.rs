//! The demo: a whole mesh in one process, on loopback, as a guided tour.
//!
//! Three simulated clusters, each with its own root CA, its own keys and a real exporter over TLS; a real checkout in a
//! temporary folder; and the engine itself, run as a user would run it. Only Kubernetes and Istio are left out: what would
//! be live there follows from the files that were synced.
#![deny(clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods, reason = "this edge makes a checkout of its own and asks the clock")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anstyle::{AnsiColor, Style};

use crate::checkout::{Checkout, FileChange, ReadLimits};
use crate::pipeline::tree::{Tree, TreeError};
use crate::pipeline::{Request, Until};
use crate::report::text::Printer;
use crate::session::clock;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::exit::Exit;
use crate::session::facts;
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::simulation::cluster::{Fleet, SimulatedCluster, SimulationError};
use crate::simulation::exporters::{ExporterError, Exporters, SharedFleet, locked};
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::{ClusterName, InvalidName};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const CYAN: Style = AnsiColor::Cyan.on_default();
const GREEN: Style = AnsiColor::Green.on_default();

/// The example mesh of the repository: path and text.
const SPECS: [(&str, &str); 4] = [
    ("specs/mesh.yaml", include_str!("../../../specs/mesh.yaml")),
    ("specs/clusters/east.yaml", include_str!("../../../specs/clusters/east.yaml")),
    ("specs/clusters/north.yaml", include_str!("../../../specs/clusters/north.yaml")),
    ("specs/clusters/west.yaml", include_str!("../../../specs/clusters/west.yaml")),
];
/// Clusters of the example, with the address of their gateways.
const CLUSTERS: [(&str, &str); 3] = [("east", "203.0.113.7"), ("north", "192.0.2.7"), ("west", "198.51.100.7")];

/// Runs one command of the engine on a checkout, as a user would.
type Engine<'a> = &'a dyn Fn(&Path, &[&str], &Printer) -> Result<Exit, CommandError>;

/// Runs the tour. The checkout is kept in `keep`, which must be empty or absent; else it is temporary.
pub(crate) fn run(keep: Option<&Path>, printer: &Printer, engine: Engine<'_>) -> Result<Exit, CommandError> {
    let folder = DemoFolder::new(keep)?;
    let runtime = facts::runtime()?;
    let mut tour = Tour::new(&folder.path, printer, &runtime, engine)?;
    tour.walk()?;
    if folder.temporary {
        printer.show(&format!("\n{DIM}The checkout was temporary; `--keep DIR` keeps it.{DIM:#}\n"));
    } else {
        let path = folder.path.display();
        printer.show(&format!(
            "\nThe checkout is in {path}. Its clusters ended with the tour, so a plan that asks them fails. What works without them:\n\n  \
             engine -C {path} status\n  engine -C {path} plan --locked\n  engine -C {path} report --html mesh.html\n"
        ));
    }
    Ok(Exit::Done)
}

/// What the tour could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoFault {
    /// The system gave no random bytes.
    #[error(transparent)]
    Random(#[from] aws_lc_rs::error::Unspecified),
    /// The folder of the checkout.
    #[error(transparent)]
    DemoFolder(#[from] std::io::Error),
    /// A cluster could not be simulated.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// An exporter could not be started.
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    /// A name of the tour's own is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// An exporter without an address.
    #[error("no address")]
    NoAddress,
    /// No trust change is held back where the tour has one.
    #[error("expected a trust change that is held back, found none")]
    NoTrustChange,
    /// The checkout cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Why the tour ends early.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum DemoError {
    /// Something that it needs of this machine.
    Fault(#[source] DemoFault),
    /// The folder for the checkout holds something.
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// A file that git would track holds a secret.
    Secret {
        /// Its path.
        path: String,
    },
}

impl Explain for DemoError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Fault(fault) => Explanation::new(Code::SystemFailed, format!("the demo failed: {fault}")),
            Self::NotEmpty { folder } => {
                Explanation::new(Code::AlreadyExists, format!("--keep {}: the folder is not empty", folder.display()))
            }
            Self::Secret { path } => {
                Explanation::new(Code::SecretInFile, format!("`{path}` holds a secret that git would track"))
            }
        }
    }
}

impl EndsCommand for DemoError {
    fn exit(&self) -> Exit {
        match self {
            Self::Fault(_) => Exit::Machine,
            Self::NotEmpty { .. } => Exit::Usage,
            Self::Secret { .. } => Exit::Failed,
        }
    }
}

fn broken(fault: impl Into<DemoFault>) -> DemoError {
    DemoError::Fault(fault.into())
}

/// The folder of the checkout.
struct DemoFolder {
    path: PathBuf,
    temporary: bool,
}

impl DemoFolder {
    fn new(keep: Option<&Path>) -> Result<Self, CommandError> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(broken)?;
        let name = format!("isthmus-demo-{}", crate::types::name::Digest::of(&random).short(12));
        let path = keep.map_or_else(|| std::env::temp_dir().join(name), Path::to_path_buf);
        std::fs::create_dir_all(&path).map_err(broken)?;
        let mut entries = std::fs::read_dir(&path).map_err(broken)?;
        if entries.next().is_some() {
            return Err(DemoError::NotEmpty { folder: path }.into());
        }
        Ok(Self { path, temporary: keep.is_none() })
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        if self.temporary {
            let _removed = std::fs::remove_dir_all(&self.path);
        }
    }
}

struct Tour<'a> {
    checkout: Checkout,
    printer: &'a Printer,
    engine: Engine<'a>,
    runtime: &'a tokio::runtime::Runtime,
    fleet: SharedFleet,
    exporters: Exporters,
    chapter: usize,
}

impl<'a> Tour<'a> {
    fn new(
        path: &Path,
        printer: &'a Printer,
        runtime: &'a tokio::runtime::Runtime,
        engine: Engine<'a>,
    ) -> Result<Self, CommandError> {
        let mut fleet = Fleet::default();
        for (name, gateway) in CLUSTERS {
            let mut seed = zeroize::Zeroizing::new([0; 32]);
            aws_lc_rs::rand::fill(seed.as_mut()).map_err(broken)?;
            let cluster = SimulatedCluster::new(name, &seed, gateway).map_err(broken)?;
            fleet.clusters.insert(cluster.name.clone(), cluster);
        }
        let fleet = Arc::new(Mutex::new(fleet));
        let exporters = runtime.block_on(Exporters::new(fleet.clone(), clock::now)).map_err(broken)?;
        let checkout = Checkout::open(path)?;
        let tour = Self { checkout, printer, engine, runtime, fleet, exporters, chapter: 0 };
        tour.write_specs()?;
        Ok(tour)
    }

    /// The example specs, with the endpoints on loopback and the CA of each exporter, as an operator would add it.
    fn write_specs(&self) -> Result<(), CommandError> {
        let mut files: BTreeMap<String, String> =
            SPECS.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        for (name, _) in CLUSTERS {
            let cluster: ClusterName = name.parse().map_err(broken)?;
            let address = self.exporters.address(&cluster).ok_or_else(|| broken(DemoFault::NoAddress))?;
            let ca = locked(&self.fleet, |fleet| fleet.clusters.get(&cluster).map(|own| own.serving.pem.clone()));
            if let Some(text) = files.get_mut(&format!("specs/clusters/{name}.yaml")) {
                let public = format!("endpoint: https://istio-metadata.{name}.example.com/metadata");
                let local = format!("endpoint: https://{address}/metadata\n    ca: {{file: {name}-ca.pem}}");
                *text = text.replace(&public, &local).replace("    addresses: [", "    addresses: [127.0.0.0/8, ");
            }
            files.insert(format!("{name}-ca.pem"), ca.unwrap_or_default());
        }
        let changes: Vec<FileChange> = files
            .into_iter()
            .map(|(path, text)| FileChange::Write { path, bytes: text.into_bytes(), mode: 0o644 })
            .collect();
        self.checkout.lock()?.commit(&changes, &|_| ())?;
        Ok(())
    }

    fn walk(&mut self) -> Result<(), CommandError> {
        self.say("isthmus joins Istio clusters that each keep their own root CA into one mesh, from files in git.");
        self.say("Here are three of them, simulated on loopback, and a checkout whose specs/ declare them.");

        self.chapter("Nothing is deployed yet: the first run renders the components and waits");
        self.command("apply --create-keys", &["apply", "--create-keys"])?;

        self.chapter("A GitOps tool syncs: exporter, api-proxy and relay start, and keys are exchanged");
        self.sync()?;
        self.say(
            "Each cluster now publishes its root CA, its key, its gateways; the engine's key opens the private part.",
        );
        self.command("apply", &["apply"])?;

        self.chapter("Synced again, each cluster shows what is live in it: roots, networks, routes");
        self.sync()?;
        self.say("A remote secret sends live traffic, so it is written only now, when both sides are seen to trust each other.");
        self.command("apply", &["apply"])?;

        self.chapter("The mesh is joined");
        self.sync()?;
        self.command("plan --detailed-exitcode", &["plan", "--detailed-exitcode"])?;
        self.command("status", &["status"])?;

        self.chapter("A cluster goes down: its last good state stays, the others do not notice");
        self.change("north", |cluster| cluster.up = false)?;
        self.command("plan", &["plan"])?;
        self.change("north", |cluster| cluster.up = true)?;

        self.chapter("A cluster changes its root CA: that is held back until it is accepted");
        self.replace_root("west")?;
        self.command("apply", &["apply"])?;
        let change = self.trust_change()?;
        self.say("\nWest did it on purpose: its new fingerprint was compared with the cluster, and exactly this change is accepted.");
        self.command(&format!("apply --accept-trust {change}"), &["apply", "--accept-trust", &change])?;
        self.sync()?;

        self.chapter("A cluster leaves: secrets first, then networks, then trust, each when the last is seen gone");
        self.edit(
            "specs/clusters/north.yaml",
            "  reconciler: rendered\n",
            "  reconciler: rendered\n  state: leaving\n",
        )?;
        self.say("specs/clusters/north.yaml now says `state: leaving`.");
        for _ in 0..3 {
            self.command("apply", &["apply"])?;
            self.sync()?;
        }
        self.command("plan", &["plan"])?;
        self.command("status", &["status"])?;

        self.prove_that_nothing_is_secret()
    }

    /// The trust change that is held back, as `--accept-trust` takes it.
    fn trust_change(&self) -> Result<String, CommandError> {
        let quiet = Printer::new(true);
        let session = Session::open(&self.checkout, None, &quiet, false)?;
        let run = take(&session, &Request::default(), Mode::Fetch, Until::Planned, &quiet)?;
        let change = run.plan.trust_changes.first().ok_or(DemoFault::NoTrustChange).map_err(broken)?;
        Ok(change.name())
    }

    fn say(&self, message: &str) {
        self.printer.show(&format!("{message}\n"));
    }

    fn chapter(&mut self, message: &str) {
        self.chapter += 1;
        self.printer.show(&format!("\n{CYAN}━━ {}. {message}{CYAN:#}\n\n", self.chapter));
    }

    /// Runs the engine as a user would, on this checkout.
    fn command(&self, shown: &str, arguments: &[&str]) -> Result<(), CommandError> {
        self.printer.show(&format!("\n{BOLD}$ engine {shown}{BOLD:#}\n"));
        let exit = (self.engine)(self.checkout.dir(), arguments, self.printer)?;
        if exit != Exit::Done {
            self.printer.show(&format!("{DIM}(exit code {}){DIM:#}\n", exit.code()));
        }
        Ok(())
    }

    /// What Argo CD or Flux would do: exactly what is rendered becomes live in each cluster that is up.
    fn sync(&mut self) -> Result<(), CommandError> {
        let names: Vec<ClusterName> = locked(&self.fleet, |fleet| fleet.clusters.keys().cloned().collect());
        let mut parts = Vec::new();
        for name in names {
            let files = self.checkout.cluster_files(name.as_str()).map_err(broken)?;
            let changed = locked(&self.fleet, |fleet| {
                fleet.clusters.get_mut(&name).filter(|cluster| cluster.up).map(|cluster| cluster.sync(&files))
            });
            parts.extend(changed.filter(|changed| *changed > 0).map(|changed| format!("{name} ({changed} objects)")));
        }
        self.runtime.block_on(self.exporters.sync()).map_err(broken)?;
        let message = if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") };
        self.printer.show(&format!("{DIM}synced: {message}{DIM:#}\n"));
        Ok(())
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut SimulatedCluster)) -> Result<(), DemoError> {
        let cluster: ClusterName = name.parse().map_err(broken)?;
        locked(&self.fleet, |fleet| {
            if let Some(cluster) = fleet.clusters.get_mut(&cluster) {
                change(cluster);
            }
        });
        self.runtime.block_on(self.exporters.sync()).map_err(broken)
    }

    fn replace_root(&mut self, name: &str) -> Result<(), DemoError> {
        let mut made = Ok(());
        self.change(name, |cluster| made = cluster.replace_root())?;
        made.map_err(broken)
    }

    fn edit(&self, path: &str, from: &str, to: &str) -> Result<(), CommandError> {
        let bytes = self.checkout.read(path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replacen(from, to, 1);
        let change = FileChange::Write { path: path.to_owned(), bytes: text.into_bytes(), mode: 0o644 };
        self.checkout.lock()?.commit(&[change], &|_| ())?;
        Ok(())
    }

    /// Every file that git would track, searched for private keys, tokens and credentials in kubeconfigs.
    fn prove_that_nothing_is_secret(&self) -> Result<(), CommandError> {
        let ignored = |path: &str| !path.starts_with("keys/");
        let files = self.checkout.read_tree("", &ignored, ReadLimits::OUTPUT)?;
        let found: Vec<&String> =
            files.iter().filter(|(_, bytes)| holds_a_secret(bytes)).map(|(path, _)| path).collect();
        if let Some(path) = found.first() {
            return Err(DemoError::Secret { path: (*path).clone() }.into());
        }
        let count = files.len();
        self.printer.show(&format!("\n{GREEN}✓{GREEN:#} {count} files that git would track, and none of them holds a private key, a token or a credential.\n"));
        Ok(())
    }
}

/// Whether the bytes, or base64 inside them, hold a private key, a token or a kubeconfig's credential.
fn holds_a_secret(bytes: &[u8]) -> bool {
    use base64::Engine as _;
    let text = String::from_utf8_lossy(bytes);
    let telling = |text: &str| {
        text.contains("PRIVATE KEY-----")
            || text.contains("eyJhbGciOi")
            || ["token:", "password:", "client-key-data:"].iter().any(|key| {
                text.lines().any(|line| line.trim_start().strip_prefix(key).is_some_and(|rest| !rest.trim().is_empty()))
            })
    };
    let encoded = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')))
        .filter(|word| word.len() > 40);
    let mut decoded = encoded.filter_map(|word| base64::engine::general_purpose::STANDARD.decode(word).ok());
    telling(&text) || decoded.any(|bytes| telling(&String::from_utf8_lossy(&bytes)))
}
