//! Limits that users meet: what servers admit, by their own table, and what is read at most, by the constants.

use std::time::Duration;

use isthmus::checkout::ReadLimits as CheckoutLimits;
use isthmus::cluster::fetch::FetchLimits;
use isthmus::server::limits::{ALL, RoleLimits};

use super::constants::{Value, constant, constants, files};
use super::{ReferencePage, code, hold, sentence};

/// How a number is read.
#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Number,
    Percent,
    Time,
}
use Unit::{Bytes, Number, Percent, Time};

/// A constant of the engine: its file, its name, what it is a limit of.
type Row = (&'static str, &'static str, Unit, &'static str);

const READ: &[Row] = &[
    ("spec/tree.rs", "MAX_FILE", Bytes, "a file below `specs/`, `policy.yaml`"),
    ("spec/tree.rs", "MAX_NODES", Number, "values in one document, with every alias written out"),
    ("spec/tree.rs", "MAX_DEPTH", Number, "levels of nesting in one document"),
    ("spec/tree.rs", "MAX_FINDINGS", Number, "findings listed of one file"),
    ("checkout/read.rs", "DEEPEST", Number, "folders below `specs/`, `lock/`, `rendered/` and `values/`"),
    ("checkout/path.rs", "LONGEST_NAME", Bytes, "name of a file"),
    ("checkout/path.rs", "LONGEST_PATH", Bytes, "path of a file"),
    ("checkout/private.rs", "LONGEST", Bytes, "a private key's file"),
    ("session/stored_plan.rs", "MAX_STORED", Bytes, "a stored plan"),
    ("cluster/kubeconfig.rs", "MAX_KUBECONFIG", Bytes, "a kubeconfig"),
    ("cluster/kubeconfig.rs", "MAX_FILE", Bytes, "a file that a kubeconfig names"),
    ("cluster/plugin.rs", "MOST", Bytes, "what a credential plugin prints"),
    ("wire/bundle.rs", "LARGEST", Bytes, "a signed bundle (`engine import`)"),
    ("git/read.rs", "MOST_FILES", Number, "files of a revision that `--base` names"),
    ("git/read.rs", "LARGEST", Bytes, "one of them"),
    ("onboarding/asking.rs", "MOST", Bytes, "one answer of an apiserver (`engine init`, `engine invite`)"),
    ("onboarding/asking.rs", "MOST_OF_ALL", Bytes, "all answers of one cluster"),
];

const PUBLISHED: &[Row] = &[
    ("wire/metadata.rs", "MAX_GATEWAYS", Number, "gateways of a cluster"),
    ("wire/metadata.rs", "MAX_AUTHN_KEYS", Number, "authn keys of a cluster"),
    ("wire/metadata.rs", "MAX_PEM", Bytes, "one PEM field"),
    ("wire/metadata.rs", "MAX_VERSION", Number, "characters of a version"),
    ("types/certificate.rs", "MAX_ROOTS", Number, "root CAs of a cluster"),
    ("types/certificate.rs", "MAX_BUNDLE", Bytes, "its root CAs together"),
    ("types/certificate.rs", "MAX_RSA_BITS", Number, "bits of an RSA key of a root CA"),
    ("types/yaml.rs", "MAX_TEXT", Bytes, "a text in YAML or JSON that a peer wrote"),
    ("types/yaml.rs", "MAX_OBJECT", Bytes, "an object of Kubernetes"),
    ("types/yaml.rs", "MAX_DEPTH", Number, "levels of nesting in one"),
    ("types/token.rs", "MAX_TOKEN", Bytes, "a token"),
    ("wire/seen.rs", "MAX_PEERS", Number, "peers that a relay reads for the engine"),
    ("wire/seen.rs", "MAX_PEERS_SEEN", Bytes, "their documents together, as an exporter shows them"),
];

const WRITTEN: &[Row] = &[
    ("watch/run.rs", "MOST_REJECTED", Number, "runs in a row that `engine watch` makes for rejected pushes"),
    ("pipeline/render/sizes.rs", "MAX_CONFIG_MAP", Bytes, "data of a ConfigMap"),
    ("pipeline/template/text.rs", "MAX_RENDERED", Bytes, "what a template gives"),
    ("report/markdown.rs", "MOST", Number, "characters of a plan as Markdown"),
    ("pipeline/plan/graph.rs", "MAX_DRAWN_CLUSTERS", Number, "clusters of which `engine graph` draws every step"),
    (
        "pipeline/advance/guard.rs",
        "DELETION_GUARD_PERCENT",
        Percent,
        "remote secrets that may go in a run without `--allow-delete`",
    ),
    (
        "pipeline/advance/guard.rs",
        "SMALL_MESH",
        Number,
        "clusters from which that share counts; a smaller mesh may lose one pair",
    ),
];

const TIMES: &[Row] = &[
    ("pipeline/observe/mod.rs", "EVIDENCE_HOLDS", Time, "evidence may open or close a link after it was received"),
    ("roles/exporter/gathered.rs", "MAX_AGE", Time, "a field of evidence holds in the exporter; then it is unknown"),
    ("cluster/watched.rs", "GRACE", Time, "what a role saw of its apiserver holds while that cannot be asked"),
    ("pipeline/compile/mod.rs", "DEFAULT_SETTLE", Time, "a stage of leaving without evidence (`settle`)"),
    (
        "pipeline/compile/mod.rs",
        "DEFAULT_ROOT_OVERLAP",
        Time,
        "a root CA that is no longer published stays trusted (`rootOverlap`)",
    ),
    ("pipeline/accept/warnings.rs", "ROOT_WARNING", Time, "before its end a root CA is warned of"),
    ("cli/commands/apply.rs", "MAX_AGE", Time, "a stored plan can be applied (`--max-age`)"),
    ("session/stored_plan.rs", "CLOCK_SKEW", Time, "a stored plan may seem to come from the future"),
    ("types/token.rs", "LEEWAY", Time, "clocks of two clusters may differ, for tokens"),
    ("types/token.rs", "METADATA_LIFETIME", Time, "life of the engine's token for a private document"),
    ("types/token.rs", "MAX_METADATA_LIFETIME", Time, "longest life of such a token that an exporter admits"),
    ("roles/relay/peers.rs", "TOKEN_LIFE", Time, "life of the relay's token for an api-proxy"),
    ("types/token.rs", "MAX_API_LIFETIME", Time, "longest life of such a token that an api-proxy admits"),
    ("types/token.rs", "MAX_DECKHOUSE_API_LIFETIME", Time, "the same of a Deckhouse peer"),
    ("roles/relay/issue.rs", "CA_LIFE", Time, "life of the cluster's serving CA"),
    ("roles/relay/issue.rs", "LEAF_LIFE", Time, "life of the certificates that it issues"),
    ("cluster/plugin.rs", "DEADLINE", Time, "a credential plugin may run"),
    ("git/run.rs", "LOCAL", Time, "a git command on this machine may run"),
    ("git/run.rs", "REMOTE", Time, "a git command that talks to a remote may run"),
    ("git/commit.rs", "INDEX_WAIT", Time, "`engine watch` waits for another process's git index lock"),
];

/// Limits of what a reader takes that users do not meet by themselves: parts of the above, or of how a text is shown.
const NOT_LISTED: &[(&str, &str)] = &[
    ("cluster/bare.rs", "MAX_ANSWER"),
    ("wire/seen.rs", "MAX_LISTED"),
    ("checkout/stamp.rs", "DEEPEST"),
    ("cluster/fetch.rs", "LONGEST_TAG"),
    ("git/run.rs", "MOST"),
    ("git/run.rs", "MOST_SHOWN"),
    ("git/run.rs", "MOST_ERRORS"),
    ("session/error.rs", "MOST_NAMED"),
    ("session/planned.rs", "MOST_KEPT"),
    ("types/diagnostic.rs", "LONGEST_MESSAGE"),
    ("types/recent.rs", "MOST"),
    ("types/recent.rs", "LONGEST"),
    ("types/text.rs", "LONGEST_OF_APISERVER"),
    ("types/text.rs", "LONGEST_OF_PEER"),
    ("types/text.rs", "LONGEST_QUOTED"),
    ("types/text.rs", "LONGEST_SENTENCE"),
    ("types/tls_verdict.rs", "MOST_NAMES"),
];

/// Folders whose readers have limits that users meet.
const FOLDERS: &[&str] = &["types", "wire", "spec", "cluster", "checkout", "git", "model", "session", "onboarding"];

#[test]
fn limits() {
    let mut page = ReferencePage::new(
        "Limits",
        "* [What servers admit](#what-servers-admit), which `--limit` sets\n* [What is asked of a peer](#what-is-asked-of-a-peer)\n\
         * [What is read at most](#what-is-read-at-most)\n* [What a cluster may publish](#what-a-cluster-may-publish)\n\
         * [What is written at most](#what-is-written-at-most)\n* [How long things last](#how-long-things-last)",
    );
    page.heading(2, "What servers admit");
    page.text(
        "Each is set by `--limit NAME=VALUE` of `engine serve ROLE`, or by `ISTHMUS_LIMIT` in a role's Deployment (several are \
         separated\nby commas). A rate such as `20/100` is requests a second, and how many at once. An address is an IPv4 \
         address or an IPv6 /64.",
    );
    let (exporter, proxy, relay) = (RoleLimits::of_exporter(), RoleLimits::of_proxy(), RoleLimits::of_relay());
    let rows = ALL.iter().map(|limit| {
        let of = |role: &str| {
            let limits = match role {
                "exporter" => &exporter,
                "proxy" => &proxy,
                _ => &relay,
            };
            if limit.roles.contains(&role) { code(&limit.value(limits)) } else { "–".to_owned() }
        };
        [code(limit.name), of("exporter"), of("proxy"), of("relay"), sentence(limit.meaning)]
    });
    page.table(["limit", "exporter", "proxy", "relay", "what it limits"], &rows.collect::<Vec<_>>());

    page.heading(2, "What is asked of a peer");
    page.text(
        "When the engine reads a peer's metadata. Beyond them the peer counts as not read, with a [reason](codes.md).",
    );
    let FetchLimits { connect, header, total, grace, rate, body, header_fields, header_bytes, addresses, at_once } =
        FetchLimits::default();
    let row = |value: String, what: &str| [value, sentence(what)];
    page.table(
        ["limit", "of what"],
        &[
            row(time(connect), "resolving, connecting and the TLS handshake together"),
            row(time(header), "from the connection to the end of the answer's header"),
            row(time(total), "the whole request"),
            row(format!("{} a second", bytes(rate)), &format!("slowest answer, after {}", time(grace))),
            row(bytes(body as u64), "an answer's body"),
            row(header_fields.to_string(), "header fields of an answer"),
            row(bytes(header_bytes as u64), "header fields of an answer together"),
            row(addresses.to_string(), "addresses of a name that are tried"),
            row(at_once.to_string(), "peers asked at a time"),
        ],
    );

    page.heading(2, "What is read at most");
    let checkout = |limits: CheckoutLimits, whose: &str| {
        [
            row(bytes(limits.file), &format!("a file that {whose}")),
            row(number(limits.files as u64), &format!("files that {whose}, in one folder with all below it")),
            row(bytes(limits.total), "those together"),
        ]
    };
    let mut rows = rows_of(READ);
    // one of these has its limit above
    rows.extend(checkout(CheckoutLimits::SPECS, "people write").into_iter().skip(1));
    rows.extend(checkout(CheckoutLimits::OUTPUT, "the engine writes"));
    page.table(["limit", "of what"], &rows);

    page.heading(2, "What a cluster may publish");
    page.text("A document beyond them is not accepted; what was accepted before stays.");
    page.table(["limit", "of what"], &rows_of(PUBLISHED));
    page.heading(2, "What is written at most");
    page.table(["limit", "of what"], &rows_of(WRITTEN));
    page.heading(2, "How long things last");
    page.table(["how long", "what"], &rows_of(TIMES));
    hold("limits.md", &page.0);
}

fn rows_of(rows: &[Row]) -> Vec<[String; 2]> {
    let row = |(file, name, unit, about): &Row| {
        let value = match (constant(file, name), unit) {
            (Value::Number(value), Bytes) => bytes(value),
            (Value::Number(value), Percent) => format!("{value} %"),
            (Value::Number(value), Number) => number(value),
            (Value::Time(value), Time) => time(value),
            (value, _) => panic!("engine/{file}: {name} is {value:?}"),
        };
        [value, sentence(about)]
    };
    rows.iter().map(row).collect()
}

fn number(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

fn bytes(value: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.into_iter().find(|(size, _)| value >= *size && value.is_multiple_of(*size));
    whole.map_or_else(|| format!("{} bytes", number(value)), |(size, unit)| format!("{} {unit}", value / size))
}

fn time(value: Duration) -> String {
    let seconds = value.as_secs();
    let (size, unit) = match seconds {
        // a day is said in hours
        _ if seconds > 86_400 && seconds.is_multiple_of(86_400) => (86_400, "day"),
        _ if seconds >= 3600 && seconds.is_multiple_of(3600) => (3600, "hour"),
        _ if seconds >= 60 && seconds.is_multiple_of(60) => (60, "minute"),
        _ => (1, "second"),
    };
    let count = seconds / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Whoever adds a limit to a reader puts it on the page, or says that no one meets it.
#[test]
fn every_limit_of_a_reader_is_listed() {
    let listed: Vec<_> =
        [READ, PUBLISHED, WRITTEN, TIMES].concat().iter().map(|(file, name, ..)| (*file, *name)).collect();
    for file in FOLDERS.iter().flat_map(|folder| files(folder)) {
        for name in constants(&file).into_keys() {
            let is_limit =
                ["MAX_", "MOST", "LONGEST", "LARGEST", "DEEPEST"].iter().any(|begin| name.starts_with(begin));
            let is_known = |known: &[(&str, &str)]| known.contains(&(file.as_str(), name.as_str()));
            assert!(
                !is_limit || is_known(&listed) || is_known(NOT_LISTED),
                "engine/{file}: list {name} in tests/reference/limits.rs"
            );
        }
    }
    for (file, name) in NOT_LISTED {
        assert!(constants(file).contains_key(*name), "engine/{file} has no constant {name}");
    }
}
