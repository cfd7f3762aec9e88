//! `engine conformance`: whether a server of any make keeps to the wire protocol.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::global::Global;
use crate::cluster::bare::{BareClient, BareError};
use crate::conformance::exporter::{self, ConformancePeer};
use crate::conformance::proxy;
use crate::conformance::report::ConformanceReport;
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::clock;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::exit::Exit;
use crate::session::facts;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::key::{KeyError, PrivateKey};
use crate::types::name::ClusterUuid;

/// Which server.
#[derive(Debug, Subcommand)]
pub(crate) enum Conformance {
    /// Try a metadata-exporter: documents, tokens, refusals.
    ///
    /// Nothing of the server is changed. Rules of tokens need --key and --as; without them they are skipped. A rule that fails
    /// ends the command with exit code 1.
    Exporter {
        /// Its metadata endpoint, such as `https://istio-metadata.east.example.com/metadata`.
        url: String,
        #[command(flatten)]
        common: ConformanceArgs,
    },
    /// Try an api-proxy: requests, refusals, tokens, lists, the ends of watches.
    ///
    /// Nothing of the server is changed. Rules of tokens need --key, --as and --of; without them they are skipped. A rule that fails
    /// ends the command with exit code 1.
    Proxy {
        /// Its address, such as `https://api.east.example.com`.
        url: String,
        /// UUID of the server's cluster.
        #[arg(long, value_name = "UUID")]
        of: Option<ClusterUuid>,
        #[command(flatten)]
        common: ConformanceArgs,
    },
}

/// Who asks, and what is written.
#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    /// CA of the server, PEM; else the CAs of this machine.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Private key of a cluster that the server admits, PEM.
    #[arg(long, value_name = "FILE", requires = "as_cluster")]
    key: Option<PathBuf>,
    /// UUID of that cluster.
    #[arg(long = "as", id = "as_cluster", value_name = "UUID", requires = "key")]
    as_cluster: Option<ClusterUuid>,
    /// Write a report to this file, too, as the XML that CIs read.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Tries a server.
pub(crate) fn run(global: &Global, command: &Conformance, printer: &Printer) -> Result<Exit, CommandError> {
    let (url, common, suite) = match command {
        Conformance::Exporter { url, common } => (url, common, "isthmus.exporter"),
        Conformance::Proxy { url, common, .. } => (url, common, "isthmus.proxy"),
    };
    let ca = common.ca.as_deref().map(read).transpose()?;
    let key = common.key.as_deref().map(read).transpose()?.map(zeroize::Zeroizing::new);
    let key = key.map(|pem| PrivateKey::from_pem(&pem)).transpose().map_err(ConformanceError::Key)?;
    let mut number = [0; 4];
    aws_lc_rs::rand::fill(&mut number).map_err(ConformanceError::Random)?;
    let number = u32::from_be_bytes(number) as usize;
    let peer = key.as_ref().zip(common.as_cluster.as_ref());
    let peer = peer.map(|(key, uuid)| ConformancePeer { key, uuid, number });
    let client = BareClient::new(url, ca.as_deref()).map_err(ConformanceError::Client)?;
    let runtime = facts::runtime()?;
    let report: ConformanceReport = match command {
        Conformance::Exporter { .. } => runtime.block_on(exporter::judge(&client, peer, &clock::now)),
        Conformance::Proxy { of, .. } => runtime.block_on(proxy::judge(&client, of.as_ref(), peer, &clock::now)),
    };
    if let Some(file) = &common.junit {
        let written = std::fs::write(file, report.junit(suite));
        written.map_err(|source| ConformanceError::Write { path: file.clone(), source })?;
    }
    if global.output == Output::Json {
        let mut document = report.json();
        if let Some(fields) = document.as_object_mut() {
            fields.insert("server".to_owned(), json!(url));
        }
        printer.out(&format!("{document}\n"));
    } else {
        printer.show(&report.to_string());
    }
    Ok(if report.counts().1 == 0 { Exit::Done } else { Exit::Failed })
}

fn read(path: &Path) -> Result<String, ConformanceError> {
    std::fs::read_to_string(path).map_err(|source| ConformanceError::Read { path: path.to_owned(), source })
}

/// Why a server could not be tried.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explanation())]
pub(crate) enum ConformanceError {
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file holds no key.
    Key(#[source] KeyError),
    /// The system gave no random bytes.
    Random(#[source] aws_lc_rs::error::Unspecified),
    /// The URL or the CA cannot be used.
    Client(#[source] BareError),
}

impl Explain for ConformanceError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Read { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot read {}: {source}", path.display()))
            }
            Self::Write { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot write {}: {source}", path.display()))
            }
            Self::Key(error) => Explanation::new(Code::KeyUnusable, format!("--key: {error}")),
            Self::Random(error) => Explanation::new(Code::SystemFailed, format!("no random bytes: {error}")),
            Self::Client(error) => Explanation::new(Code::InvalidArguments, error.to_string()),
        }
    }
}

impl EndsCommand for ConformanceError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { .. } | Self::Write { .. } | Self::Random(_) => Exit::Machine,
            Self::Key(_) => Exit::Failed,
            Self::Client(_) => Exit::Usage,
        }
    }
}
