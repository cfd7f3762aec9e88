//! `engine export` and `engine import`: metadata over an air gap.
#![deny(clippy::wildcard_enum_match_arm)]

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::checkout::{Checkout, FileChange};
use crate::cli::global::Global;
use crate::cluster::fetch::{FetchLimits, Fetcher};
use crate::model::keyring::KeyProblem;
use crate::model::mesh::Cluster;
use crate::model::trust::Verdict;
use crate::pipeline::accept::{DocumentState, FailReason, Refusals};
use crate::pipeline::observe::{Observation, Observed, PrivateReading};
use crate::pipeline::{Request, Until};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::command_error::{CommandError, EndsCommand};
use crate::session::error::UnknownCluster;
use crate::session::exit::Exit;
use crate::session::facts::{self, Contact};
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::types::address::Endpoint;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::key::{KeyError, PublicKey};
use crate::types::name::{ClusterName, Digest, InvalidName};
use crate::wire::bundle;
use crate::wire::bundle::{Bundle, LARGEST, Sealed};
use crate::wire::failure::Failure;
use crate::wire::metadata::{PRIVATE_PATH, PUBLIC_PATH};

/// The bundle that was taken last, beside the documents.
const TAKEN: &str = "bundle.json";

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The cluster whose metadata is written.
    #[arg(value_name = "CLUSTER")]
    pub(crate) name: ClusterName,
    /// Where the bundle is written, a new file; without it, to stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The bundle.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The cluster it is for, where this checkout has another name for it.
    #[arg(long = "as", value_name = "CLUSTER")]
    pub(crate) name: Option<ClusterName>,
    /// Expected signer: the fingerprint of the key, `sha256:…`, or a file with its public half. Needed for the first
    /// bundle of a cluster; afterwards the signer has to stay the same.
    #[arg(long, value_name = "FINGERPRINT|FILE")]
    pub(crate) signer: Option<String>,
    /// Take a bundle that was made before the one that was taken last.
    #[arg(long)]
    pub(crate) allow_older: bool,
}

fn cluster<'a>(session: &'a Session<'_>, name: &ClusterName) -> Result<&'a Cluster, UnknownCluster> {
    let clusters = &session.program.mesh.clusters;
    clusters.get(name).ok_or_else(|| UnknownCluster::new(&session.program.mesh, None, name.as_str()))
}

/// `engine export`.
pub(crate) fn export(arguments: &Global, export: &Export, printer: &Printer) -> Result<Exit, CommandError> {
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, false)?;
    let name = &cluster(&session, &export.name)?.name;
    let keyring = session.keyring();
    let (id, key) =
        keyring.engine.as_ref().map_err(|missing| BundleCommandError::NoKey { missing: missing.clone() })?;
    let (fetcher, runtime) = (Fetcher::new(FetchLimits::default()), facts::runtime()?);
    let contact = Contact { checkout: &checkout, keyring: &keyring, fetcher: &fetcher, runtime: runtime.handle() };
    let mut observed = contact.observe(&session.program, &[name.clone()].into(), &Observed::default())?;
    let Some(observation) = observed.clusters.remove(name) else {
        return Err(BundleCommandError::NotAsked { cluster: name.clone() }.into());
    };
    let failed = |document, why| BundleCommandError::NotExported { document, cluster: name.clone(), why };
    let public = observation.public.map_err(|failure| failed("public", NotExported::Read(failure)))?;
    let private = match observation.private {
        PrivateReading::Read(document) => document,
        PrivateReading::Failed(failure) => return Err(failed("private", NotExported::Read(failure)).into()),
        PrivateReading::NoKey(source) => {
            return Err(failed("private", NotExported::NoKey { missing: source.clone() }).into());
        }
        PrivateReading::HeldBack => {
            return Err(BundleCommandError::HeldBack { cluster: name.clone() }.into());
        }
        PrivateReading::NotAsked => return Err(failed("private", NotExported::NotAsked).into()),
    };
    let mesh = session.program.mesh.name.clone();
    let bundle = Bundle { mesh, cluster: name.clone(), created: session.now, public, private };
    let text = bundle.sign(id, key);
    match &export.out {
        None => printer.out(&text),
        Some(path) => write_new(path, &text)?,
    }
    printer.status(&format!(
        "signed by the engine's key `{id}`, {}\ntell the other side this fingerprint another way than the bundle goes; it is their `engine import --signer`",
        key.public().fingerprint()
    ));
    printer.status("the bundle says where the api-proxy and the gateways are: no secret, but nothing for the public");
    Ok(Exit::Done)
}

fn write_new(path: &Path, text: &str) -> Result<(), BundleCommandError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| BundleCommandError::Write { path: path.to_owned(), source };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, BundleCommandError> {
    read_file(path).map_err(|source| BundleCommandError::Read { path: path.to_owned(), source })
}

/// A file, up to the first byte that no bundle has.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX) + 1;
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Who must have signed.
enum RequiredSigner {
    Key(PublicKey),
    Fingerprint(Digest),
}

impl RequiredSigner {
    fn named(text: &str) -> Result<Self, BundleCommandError> {
        if text.starts_with("sha256:") {
            let digest = text.parse().map_err(BundleCommandError::Fingerprint)?;
            return Ok(Self::Fingerprint(digest));
        }
        let failed = |source| BundleCommandError::SignerFile { path: text.to_owned(), source };
        let bytes = read_file(Path::new(text)).map_err(failed)?;
        let key = PublicKey::from_pem(&String::from_utf8_lossy(&bytes));
        key.map(Self::Key).map_err(|source| BundleCommandError::SignerKey { path: text.to_owned(), source })
    }

    fn is(&self, key: &PublicKey) -> bool {
        match self {
            Self::Key(known) => known == key,
            Self::Fingerprint(known) => *known == key.fingerprint(),
        }
    }
}

/// The bundle that was taken last, and who signed it.
fn taken(checkout: &Checkout, path: &str) -> Result<Option<(PublicKey, Bundle)>, CommandError> {
    let Some(bytes) = checkout.read(path)? else { return Ok(None) };
    let read = Sealed::read(&bytes).and_then(|sealed| Ok((sealed.signer.clone(), sealed.open()?)));
    read.map(Some).map_err(|error| BundleCommandError::TakenRefused { path: path.to_owned(), source: error }.into())
}

/// Whether a signer is the one that was named, or else the one of the bundle before. If not, what to do.
fn is_by_whom_it_should(
    signer: &PublicKey,
    named: Option<&RequiredSigner>,
    before: Option<&PublicKey>,
) -> Result<(), Unfit> {
    let fingerprint = signer.fingerprint();
    match (named, before) {
        (Some(named), _) if named.is(signer) => Ok(()),
        (Some(_), _) => Err(Unfit::OtherSigner { fingerprint }),
        (None, Some(before)) if before == signer => Ok(()),
        (None, Some(before)) => Err(Unfit::SignerChanged { fingerprint, before: before.fingerprint() }),
        (None, None) => Err(Unfit::SignerUnknown { fingerprint }),
    }
}

/// `engine import`.
pub(crate) fn import(arguments: &Global, import: &Import, printer: &Printer) -> Result<Exit, CommandError> {
    let bytes = read(&import.file)?;
    let broken = |source| BundleCommandError::Broken { path: import.file.clone(), source };
    let sealed = Sealed::read(&bytes).map_err(broken)?;
    let root = Checkout::open(&arguments.directory)?;
    let guard = root.lock()?;
    let session = Session::open(&guard, arguments.cluster.as_ref(), printer, false)?;
    let fingerprint = sealed.signer.fingerprint();

    // who signed is settled before a word of the bundle is believed, but for the name of the cluster it is about
    let named = import.signer.as_deref().map(RequiredSigner::named).transpose()?;
    let bundle = sealed.open().map_err(broken)?;
    let name = import.name.as_ref().unwrap_or(&bundle.cluster);
    let cluster = cluster(&session, name)?;
    let Endpoint::File(folder) = &cluster.endpoint else {
        return Err(BundleCommandError::Endpoint { cluster: name.clone(), endpoint: cluster.endpoint.clone() }.into());
    };
    let path = |file: &str| format!("{folder}/{file}");
    let taken = taken(&guard, &path(TAKEN))?;
    let refuse = |why| BundleCommandError::Unfit { path: import.file.clone(), why };
    is_by_whom_it_should(&sealed.signer, named.as_ref(), taken.as_ref().map(|(signer, _)| signer)).map_err(refuse)?;
    if let Some((_, before)) = &taken
        && bundle.created < before.created
        && !import.allow_older
    {
        return Err(refuse(Unfit::Older { seconds: before.created.since(bundle.created).as_secs() }).into());
    }

    let observation = Observation::own(Ok(bundle.public.clone()), PrivateReading::Read(bundle.private.clone()));
    let observed = Observed { clusters: [(name.clone(), observation)].into(), ..Observed::default() };
    let decided = take(&session, &Request::default(), Mode::Stored(observed), Until::Decided, printer)?.decided;
    let accepted = decided.accepted.unwrap_or_default();
    let assessment = accepted.assessments.get(name);
    let refused = assessment.and_then(|assessment| {
        [&assessment.public, &assessment.private].into_iter().find_map(|state| match state {
            DocumentState::Refused(refusals) => Some(NotAccepted::Refused(refusals.clone())),
            DocumentState::Failed(reason) => Some(NotAccepted::Failed(reason.clone())),
            DocumentState::Current | DocumentState::Waiting(_) | DocumentState::HeldBack | DocumentState::NotAsked => {
                None
            }
        })
    });
    if let Some(reason) = refused {
        return Err(refuse(Unfit::NotAccepted { cluster: name.clone(), why: reason }).into());
    }
    let write = |file: &str, text: &[u8]| FileChange::Write { path: path(file), bytes: text.to_vec(), mode: 0o644 };
    let changes = [
        write(PUBLIC_PATH, bundle.public.to_json().as_bytes()),
        write(PRIVATE_PATH, bundle.private.to_json().as_bytes()),
        write(TAKEN, &bytes),
    ];
    let committed = guard.commit(&changes, &|_| {})?;
    if arguments.output == Output::Json {
        let json = json!({
            "version": 1, "cluster": name, "signer": fingerprint, "created": bundle.created, "written": committed.written,
            "heldBack": !accepted.trust_changes.is_empty(),
        });
        printer.out(&format!("{json}\n"));
    }
    printer.status(&format!("`{name}`: {} files written to {folder}, signed by {fingerprint}", committed.written));
    for change in accepted.trust_changes.iter().filter(|change| change.verdict == Verdict::HeldBack) {
        for finding in &change.findings {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            printer.warn(&format!("! {}: {} -> {}", finding.what, value(&finding.before), value(&finding.after)));
        }
        printer.warn(&format!(
            "this is a trust change: `engine apply` holds `{name}` back until --accept-trust {}",
            change.name()
        ));
    }
    if committed.written > 0 {
        printer.status("`engine plan` shows what it changes; commit these files with it");
    }
    Ok(Exit::Done)
}

/// Why a document of a cluster cannot be exported.
#[derive(Debug)]
pub(crate) enum NotExported {
    /// It was not read.
    Read(Failure),
    /// No token could be signed for it.
    NoKey {
        /// Where the key should be.
        missing: KeyProblem,
    },
    /// It was not asked for.
    NotAsked,
}

/// Why the documents in a bundle are not accepted.
#[derive(Debug)]
pub(crate) enum NotAccepted {
    /// Only the specs can settle it.
    Refused(Refusals),
    /// A rule is broken.
    Failed(FailReason),
}

/// Why a bundle that is whole is not taken.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// Another signer than --signer names.
    OtherSigner {
        /// Of the signer's key.
        fingerprint: Digest,
    },
    /// Another signer than that of the one before.
    SignerChanged {
        /// Of the signer's key.
        fingerprint: Digest,
        /// Of the key of the one before.
        before: Digest,
    },
    /// No signer is known.
    SignerUnknown {
        /// Of the signer's key.
        fingerprint: Digest,
    },
    /// It was made before the one that was taken last.
    Older {
        /// By how much.
        seconds: u64,
    },
    /// What it holds is not accepted.
    NotAccepted {
        /// For which cluster.
        cluster: ClusterName,
        /// Why.
        why: NotAccepted,
    },
}

impl Explain for Unfit {
    fn explanation(&self) -> Explanation {
        match self {
            Self::OtherSigner { fingerprint } => Explanation::new(
                Code::BundleSignerNotKnown,
                format!("was signed by {fingerprint}, which is not what --signer names"),
            ),
            Self::SignerChanged { fingerprint, before } => Explanation::new(
                Code::BundleSignerNotKnown,
                format!("was signed by {fingerprint}, the one before by {before}"),
            )
            .hint(format!("if the other side has a new key, compare it with them and give --signer {fingerprint}")),
            Self::SignerUnknown { fingerprint } => Explanation::new(
                Code::BundleSignerNotKnown,
                format!("was signed by {fingerprint}, and no signer of this cluster is known yet"),
            )
            .hint(format!(
                "compare that with what `engine export` printed on the other side, another way than the bundle came, and give --signer {fingerprint}"
            )),
            Self::Older { seconds } => Explanation::new(
                Code::BundleRefused,
                format!(
                    "was made {seconds} s before the one that was taken last, and an old one may bring back what was revoked"
                ),
            )
            .hint("give --allow-older if that is meant"),
            Self::NotAccepted { cluster, why } => {
                let why = match why {
                    NotAccepted::Refused(refusals) => refusals.to_string(),
                    NotAccepted::Failed(reason) => reason.to_string(),
                };
                Explanation::new(Code::BundleRefused, format!("is refused for `{cluster}`: {why}"))
            }
        }
    }
}

/// Why a bundle was not made or not taken.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.sentence())]
pub(crate) enum BundleCommandError {
    /// There is no key to sign with.
    NoKey {
        /// Where it should be.
        missing: KeyProblem,
    },
    /// The cluster was not asked.
    NotAsked {
        /// The cluster.
        cluster: ClusterName,
    },
    /// A document cannot be exported.
    NotExported {
        /// Which.
        document: &'static str,
        /// Of which cluster.
        cluster: ClusterName,
        /// Why.
        why: NotExported,
    },
    /// Its trust change has to be accepted first.
    HeldBack {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The file cannot be written.
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// --signer is no fingerprint.
    Fingerprint(#[source] InvalidName),
    /// --signer names a file that cannot be read.
    SignerFile {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// --signer names a file without a key.
    SignerKey {
        /// The file.
        path: String,
        /// Why.
        source: KeyError,
    },
    /// The bundle that was taken last is broken.
    TakenRefused {
        /// The file.
        path: String,
        /// Why.
        source: bundle::BundleError,
    },
    /// The bundle is broken.
    Broken {
        /// The file.
        path: PathBuf,
        /// Why.
        source: bundle::BundleError,
    },
    /// The cluster is not read from files.
    Endpoint {
        /// The cluster.
        cluster: ClusterName,
        /// Where it is read.
        endpoint: Endpoint,
    },
    /// The bundle is whole and not taken.
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        why: Unfit,
    },
}

impl BundleCommandError {
    /// Message and hint, and for a bundle that is not taken that nothing was written.
    fn sentence(&self) -> String {
        let sentence = self.explanation().to_string();
        if matches!(self, Self::Unfit { .. }) { format!("{sentence}; nothing was written") } else { sentence }
    }
}

impl Explain for BundleCommandError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::NoKey { missing } => {
                Explanation::new(missing.code(), format!("cannot sign the bundle: it needs {missing}"))
            }
            Self::NotAsked { cluster } => {
                Explanation::new(Code::PublicDocumentNotRead, format!("`{cluster}` was not asked"))
            }
            Self::NotExported { document, cluster, why } => {
                let of = format!("the {document} document of `{cluster}` cannot be exported");
                match why {
                    NotExported::Read(failure) => {
                        let Explanation { code, message, hint } = failure.explanation();
                        Explanation { code, message: format!("{of}: {message}"), hint }
                    }
                    NotExported::NoKey { missing } => {
                        Explanation::new(missing.code(), format!("{of}: it waits for {missing}"))
                    }
                    NotExported::NotAsked => {
                        Explanation::new(Code::PublicDocumentNotRead, format!("{of}: it was not asked for"))
                    }
                }
            }
            Self::HeldBack { cluster } => {
                Explanation::new(Code::TrustChangeHeldBack, format!("a trust change of `{cluster}` is held back"))
                    .hint("`engine plan` shows it")
            }
            Self::Write { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot write the bundle to {}: {source}", path.display()))
                    .hint("name a new file")
            }
            Self::Read { path, source } => {
                Explanation::new(Code::SystemFailed, format!("cannot read the bundle {}: {source}", path.display()))
                    .hint("`engine export` writes one, in the checkout of the team that runs the cluster")
            }
            Self::Fingerprint(error) => Explanation::new(Code::InvalidArguments, format!("--signer: {error}")),
            Self::SignerFile { path, source } => {
                Explanation::new(Code::SystemFailed, format!("--signer: cannot read {path}: {source}"))
                    .hint("give a fingerprint, `sha256:…`, or a file with the public half")
            }
            Self::SignerKey { path, source } => {
                Explanation::new(Code::InvalidArguments, format!("--signer {path}: {source}"))
            }
            Self::TakenRefused { path, source } => {
                Explanation::new(Code::BundleRefused, format!("`{path}`, taken before, is refused: {source}"))
                    .hint("remove it, and name --signer")
            }
            Self::Broken { path, source } => Explanation::new(
                Code::BundleRefused,
                format!("the bundle {} is refused: {source}; nothing was written", path.display()),
            ),
            Self::Endpoint { cluster, endpoint } => Explanation::new(
                Code::NotForCluster,
                format!("`{cluster}` has the endpoint {endpoint}, and a bundle is for one that is read from files"),
            )
            .hint(format!("write `metadata: {{endpoint: \"file://metadata/{cluster}\"}}` in its spec")),
            Self::Unfit { path, why } => {
                let Explanation { code, message, hint } = why.explanation();
                Explanation { code, message: format!("the bundle {} {message}", path.display()), hint }
            }
        }
    }
}

impl EndsCommand for BundleCommandError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoKey { .. }
            | Self::NotAsked { .. }
            | Self::SignerKey { .. }
            | Self::TakenRefused { .. }
            | Self::Broken { .. } => Exit::Failed,
            Self::NotExported { .. } => Exit::Partial,
            Self::HeldBack { .. } | Self::Endpoint { .. } | Self::Unfit { .. } => Exit::Refused,
            Self::Write { .. } | Self::Read { .. } | Self::SignerFile { .. } => Exit::Machine,
            Self::Fingerprint(_) => Exit::Usage,
        }
    }
}
