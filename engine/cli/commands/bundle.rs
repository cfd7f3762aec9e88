//! `engine export` and `engine import`: metadata over an air gap.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::checkout::{Checkout, FileChange};
use crate::cli::global::Global;
use crate::cluster::fetch::{Fetcher, Limits};
use crate::model::mesh::Cluster;
use crate::model::trust::Verdict;
use crate::pipeline::observe::{Observation, Observed, Private};
use crate::pipeline::{Request, Until};
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::exit::{Exit, Failure};
use crate::session::facts::{self, Contact};
use crate::session::planned::{Mode, take};
use crate::session::session::Session;
use crate::types::address::Endpoint;
use crate::types::key::PublicKey;
use crate::types::name::{ClusterName, Digest};
use crate::wire::bundle::{Bundle, LARGEST, Sealed};
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
    /// Who must have signed it: the fingerprint of the key, `sha256:…`, or a file with its public half. Needed for the first
    /// bundle of a cluster; afterwards the signer has to stay the same.
    #[arg(long, value_name = "FINGERPRINT|FILE")]
    pub(crate) signer: Option<String>,
    /// Take a bundle that was made before the one that was taken last.
    #[arg(long)]
    pub(crate) allow_older: bool,
}

fn cluster<'a>(session: &'a Session<'_>, name: &ClusterName) -> Result<&'a Cluster, Failure> {
    let clusters = &session.program.mesh.clusters;
    clusters.get(name).ok_or_else(|| {
        let near = crate::types::diagnostic::did_you_mean(name.as_str(), clusters.keys().map(ClusterName::as_str));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Failure::new(Exit::Usage, format!("no spec declares a cluster `{name}`{hint}"))
    })
}

/// `engine export`.
pub(crate) fn export(arguments: &Global, export: &Export, printer: &Printer) -> Result<Exit, Failure> {
    let checkout = Checkout::open(&arguments.directory)?;
    let session = Session::open(&checkout, arguments.cluster.as_ref(), printer, false)?;
    let name = &cluster(&session, &export.name)?.name;
    let keyring = session.keyring();
    let (id, key) = keyring
        .engine
        .as_ref()
        .map_err(|missing| Failure::new(Exit::Failed, format!("signing the bundle needs {missing}")))?;
    let (fetcher, runtime) = (Fetcher::new(Limits::default()), facts::runtime()?);
    let contact = Contact { checkout: &checkout, keyring: &keyring, fetcher: &fetcher, runtime: runtime.handle() };
    let mut observed = contact.observe(&session.program, &[name.clone()].into(), &Observed::default())?;
    let Some(observation) = observed.clusters.remove(name) else {
        return Err(Failure::new(Exit::Failed, format!("`{name}` was not asked")));
    };
    let failed = |what: &str, why: String| {
        Failure::new(Exit::Partial, format!("the {what} document of `{name}` cannot be exported: {why}"))
    };
    let public = observation.public.map_err(|failure| failed("public", failure.to_string()))?;
    let private = match observation.private {
        Private::Read(document) => document,
        Private::Failed(failure) => return Err(failed("private", failure.to_string())),
        Private::NoKey(source) => return Err(failed("private", format!("it waits for {source}"))),
        Private::HeldBack => {
            let words = format!("a trust change of `{name}` is held back; `engine plan` shows it");
            return Err(Failure::new(Exit::Refused, words));
        }
        Private::NotAsked => return Err(failed("private", "it was not asked for".to_owned())),
    };
    let mesh = session.program.mesh.name.clone();
    let bundle = Bundle { mesh, cluster: name.clone(), created: session.now, public, private };
    let text = bundle.sign(id, key);
    match &export.out {
        None => printer.data(&text),
        Some(path) => write_new(path, &text)?,
    }
    printer.talk(&format!(
        "signed by the engine's key `{id}`, {}\ntell the other side this fingerprint another way than the bundle goes; it is their `engine import --signer`",
        key.public().fingerprint()
    ));
    printer.talk("the bundle says where the api-proxy and the gateways are: no secret, but nothing for the public");
    Ok(Exit::Done)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Machine, format!("writing the bundle to {}: {error}; name a new file", path.display()))
    };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let failed =
        |error: std::io::Error| Failure::new(Exit::Machine, format!("reading the bundle {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX) + 1;
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Who must have signed.
enum Signer {
    Key(PublicKey),
    Fingerprint(Digest),
}

impl Signer {
    fn named(text: &str) -> Result<Self, Failure> {
        if text.starts_with("sha256:") {
            let digest = text.parse().map_err(|error| Failure::new(Exit::Usage, format!("--signer: {error}")))?;
            return Ok(Self::Fingerprint(digest));
        }
        let bytes = read(Path::new(text))?;
        let key = PublicKey::from_pem(&String::from_utf8_lossy(&bytes));
        key.map(Self::Key).map_err(|error| Failure::new(Exit::Failed, format!("--signer {text}: {error}")))
    }

    fn is(&self, key: &PublicKey) -> bool {
        match self {
            Self::Key(known) => known == key,
            Self::Fingerprint(known) => *known == key.fingerprint(),
        }
    }
}

/// The bundle that was taken last, and who signed it.
fn taken(checkout: &Checkout, path: &str) -> Result<Option<(PublicKey, Bundle)>, Failure> {
    let Some(bytes) = checkout.read(path)? else { return Ok(None) };
    let read = Sealed::read(&bytes).and_then(|sealed| Ok((sealed.signer.clone(), sealed.open()?)));
    read.map(Some).map_err(|error| {
        let words = format!("`{path}`, taken before, is refused: {error}; remove it, and name --signer");
        Failure::new(Exit::Failed, words)
    })
}

/// Whether a signer is the one that was named, or else the one of the bundle before. If not, what to do.
fn is_by_whom_it_should(signer: &PublicKey, named: Option<&Signer>, before: Option<&PublicKey>) -> Result<(), String> {
    let fingerprint = signer.fingerprint();
    match (named, before) {
        (Some(named), _) if named.is(signer) => Ok(()),
        (Some(_), _) => Err(format!("was signed by {fingerprint}, which is not what --signer names")),
        (None, Some(before)) if before == signer => Ok(()),
        (None, Some(before)) => Err(format!(
            "was signed by {fingerprint}, the one before by {}; if the other side has a new key, compare it with them and give --signer {fingerprint}",
            before.fingerprint()
        )),
        (None, None) => Err(format!(
            "was signed by {fingerprint}, and nobody said yet who signs for this cluster; compare that with what `engine export` printed on the other side, another way than the bundle came, and give --signer {fingerprint}"
        )),
    }
}

/// `engine import`.
pub(crate) fn import(arguments: &Global, import: &Import, printer: &Printer) -> Result<Exit, Failure> {
    let shown = import.file.display();
    let bytes = read(&import.file)?;
    let broken = |error: crate::wire::bundle::BundleError| {
        Failure::new(Exit::Failed, format!("the bundle {shown} is refused: {error}; nothing was written"))
    };
    let sealed = Sealed::read(&bytes).map_err(broken)?;
    let root = Checkout::open(&arguments.directory)?;
    let guard = root.lock()?;
    let session = Session::open(&guard, arguments.cluster.as_ref(), printer, false)?;
    let fingerprint = sealed.signer.fingerprint();

    // who signed is settled before a word of the bundle is believed, but for the name of the cluster it is about
    let named = import.signer.as_deref().map(Signer::named).transpose()?;
    let bundle = sealed.open().map_err(broken)?;
    let name = import.name.as_ref().unwrap_or(&bundle.cluster);
    let cluster = cluster(&session, name)?;
    let Endpoint::File(folder) = &cluster.endpoint else {
        let words = format!(
            "`{name}` has the endpoint {}, and a bundle is for one that is read from files; write `metadata: {{endpoint: \"file://metadata/{name}\"}}` in its spec",
            cluster.endpoint
        );
        return Err(Failure::new(Exit::Refused, words));
    };
    let path = |file: &str| format!("{folder}/{file}");
    let taken = taken(&guard, &path(TAKEN))?;
    let refuse =
        |words: String| Err(Failure::new(Exit::Refused, format!("the bundle {shown} {words}; nothing was written")));
    if let Err(words) = is_by_whom_it_should(&sealed.signer, named.as_ref(), taken.as_ref().map(|(signer, _)| signer)) {
        return refuse(words);
    }
    if let Some((_, before)) = &taken
        && bundle.created < before.created
        && !import.allow_older
    {
        let seconds = before.created.since(bundle.created).as_secs();
        return refuse(format!(
            "was made {seconds} s before the one that was taken last, and an old one may bring back what was revoked; give --allow-older if that is meant"
        ));
    }

    let observation = Observation { public: Ok(bundle.public.clone()), private: Private::Read(bundle.private.clone()) };
    let observed = Observed { clusters: [(name.clone(), observation)].into() };
    let decided = take(&session, &Request::default(), Mode::Stored(observed), Until::Decided, printer)?.decided;
    let accepted = decided.accepted.unwrap_or_default();
    let news = accepted.news.get(name);
    let refused = news.and_then(|news| {
        [&news.public, &news.private].into_iter().find_map(|standing| match standing {
            crate::pipeline::accept::Standing::Refused(refusals) => Some(refusals.to_string()),
            crate::pipeline::accept::Standing::Failed(reason) => Some(reason.to_string()),
            _ => None,
        })
    });
    if let Some(reason) = refused {
        return refuse(format!("is refused for `{name}`: {reason}"));
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
        printer.data(&format!("{json}\n"));
    }
    printer.talk(&format!("`{name}`: {} files written to {folder}, signed by {fingerprint}", committed.written));
    for change in accepted.trust_changes.iter().filter(|change| change.verdict == Verdict::HeldBack) {
        for finding in &change.findings {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            printer.alarm(&format!("! {}: {} -> {}", finding.what, value(&finding.before), value(&finding.after)));
        }
        let digest = change.digest.short(12);
        printer.alarm(&format!(
            "this is a trust change: `engine apply` holds `{name}` back until --accept-trust {name}@{digest}"
        ));
    }
    if committed.written > 0 {
        printer.talk("`engine plan` shows what it changes; commit these files with it");
    }
    Ok(Exit::Done)
}
