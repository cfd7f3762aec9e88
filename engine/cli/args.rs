//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::accept::Approval;
use crate::name::ClusterName;

/// Joins Istio clusters that keep their own root CA into one mesh, from files in git.
#[derive(Debug, Parser)]
#[command(name = "engine", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done or only waiting · 1 failed · 2 changes (plan --detailed-exitcode) · 3 a cluster failed\n\
    4 held back or refused · 5 busy · 6 files or network of this machine · 64 wrong usage"
)]
pub struct Arguments {
    /// The checkout.
    #[arg(short = 'C', value_name = "DIR", global = true, default_value = ".", env = "ISTHMUS_CHECKOUT")]
    pub directory: PathBuf,
    /// Form of the data on stdout.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Only this cluster.
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<ClusterName>,
    /// Less talk.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// More talk: every field of every object.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document with a version.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch, compile, compare and print what a turn would change.
    Plan(Plan),
    /// Carry a plan out.
    Apply(Apply),
    /// Take a turn whenever the checkout or the metadata change, and on time.
    Watch(super::watch::Watch),
    /// State of each link, from lock and tree.
    Status,
    /// The mesh as one HTML page.
    Report(super::picture::Report),
    /// The graph of steps.
    Graph {
        /// Form of the graph.
        #[arg(long, value_enum, default_value_t = GraphFormat::Dot)]
        format: GraphFormat,
    },
    /// Authn key pairs.
    Keys {
        /// What to do with them.
        #[command(subcommand)]
        command: Keys,
    },
    /// Write a first spec from what the clusters of kubeconfig contexts show.
    Init(super::init::Init),
    /// Print what another team needs to declare a cluster of ours.
    Invite(super::invite::Invite),
    /// Write a cluster's metadata as a signed bundle.
    Export(super::bundle::Export),
    /// Check a bundle and put it where a `file://` endpoint reads.
    Import(super::bundle::Import),
    /// The Argo CD config-management plugin.
    Argocd {
        /// What to do.
        #[command(subcommand)]
        command: super::argocd::Argocd,
    },
    /// What Argo CD and Flux are installed with.
    Manifests {
        /// For which.
        #[command(subcommand)]
        command: super::manifests::Manifests,
    },
    /// JSON Schema of the specs.
    Schema,
    /// Completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The manual page, as roff.
    Man,
    /// Runs an in-cluster role.
    Serve {
        /// Which.
        #[command(subcommand)]
        role: Box<super::serve::Serve>,
    },
    /// A whole mesh in one process, on loopback, with real TLS, real keys and real files.
    Demo {
        /// Keep the checkout in this directory, which must be empty or absent.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Commands of the design that this version does not have.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// Ask nobody: a pure function of specs, templates, lock and tree.
    #[arg(long)]
    pub locked: bool,
    /// What the mesh is compared with.
    #[arg(long, value_name = "WHERE", default_value = "tree")]
    pub to: String,
    /// Store the plan for `engine apply FILE`.
    #[arg(long, value_name = "FILE", conflicts_with = "locked")]
    pub out: Option<PathBuf>,
    /// Exit with 2 when there are changes.
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Plan the difference to what this revision renders; asks nobody, as --locked.
    #[arg(long, value_name = "REF", conflicts_with_all = ["out", "accept_trust"])]
    pub base: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
    pub approvals: Approvals,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one a flag")]
pub struct Apply {
    /// A plan stored by `engine plan --out`.
    #[arg(value_name = "PLAN", conflicts_with_all = ["locked", "accept_trust", "create_keys"])]
    pub plan: Option<PathBuf>,
    /// Ask nobody; make the tree from the lock.
    #[arg(long)]
    pub locked: bool,
    /// What is written.
    #[arg(long, value_name = "WHERE", default_value = "tree")]
    pub to: String,
    /// Do not ask before writing. Writing to the tree never asks.
    #[arg(long)]
    pub yes: bool,
    /// Make the engine's key, where lock and spec know none.
    #[arg(long, conflicts_with = "locked")]
    pub create_keys: bool,
    /// Turn again until nothing waits, or until this time is over: `90s`, `10m`, `1h`.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with_all = ["locked", "plan"])]
    pub wait: Option<std::time::Duration>,
    /// Exit with 3 when something still waits.
    #[arg(long)]
    pub fail_on_wait: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened")]
    pub approvals: Approvals,
}

/// What is approved.
#[derive(Debug, Args, Default)]
pub struct Approvals {
    /// Accept the trust change of a cluster: `NAME`, `NAME@DIGEST`, or `all` on a terminal or while no lock exists.
    #[arg(long, value_name = "NAME[@DIGEST]", value_delimiter = ',')]
    pub accept_trust: Vec<String>,
    /// Let more than 30 % of the links go although no cluster is `state: leaving`.
    #[arg(long)]
    pub allow_delete: bool,
}

impl Approvals {
    /// The approvals as values. `all` needs a terminal or a checkout without a lock.
    pub fn parse(&self, all_is_allowed: bool) -> Result<crate::accept::Approvals, String> {
        let mut approvals = crate::accept::Approvals::default();
        for text in &self.accept_trust {
            if text == "all" && all_is_allowed {
                approvals.all = true;
            } else if text == "all" {
                return Err("--accept-trust all needs a terminal, or a checkout without a lock; name each cluster as the plan prints it".to_owned());
            } else {
                let approval: Approval = text.parse().map_err(|error| format!("--accept-trust: {error}"))?;
                approvals.named.push(approval);
            }
        }
        Ok(approvals)
    }
}

/// Forms of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz.
    Dot,
    /// Mermaid, as code hosts draw it.
    Mermaid,
    /// All steps and edges.
    Json,
}

/// Commands of `keys`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make the engine's key: its private half in keys/engine.key, its public half in lock/mesh.yaml.
    New,
    /// All keys that spec and lock know, and where their private halves are.
    List,
    /// Commands that this version does not have.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number and one of `s`, `m`, `h`".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a number and one of `s`, `m`, `h`".to_owned())?;
    number.checked_mul(seconds).map(std::time::Duration::from_secs).ok_or_else(|| "too long".to_owned())
}
