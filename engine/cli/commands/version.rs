//! `engine version`: how this binary was built, and which formats it reads and writes.

use serde_json::{Value, json};

use crate::cli::global::Global;
use crate::model::lock::{LOCK_VERSION, OLDEST_LOCK_VERSION};
use crate::pipeline::plan::PLAN_VERSION;
use crate::report::format::Output;
use crate::report::text::Printer;
use crate::session::exit::Exit;
use crate::session::stored_plan::STORED_VERSION;
use crate::spec::{API_VERSION, DECKHOUSE_API_VERSION};
use crate::wire::bundle::BUNDLE_VERSION;
use crate::wire::identity::IDENTITY_VERSION;
use crate::wire::peers::PEERS_VERSION;
use crate::wire::routes::ROUTES_VERSION;

/// Versions of the documents below `specs/`.
const SPECS: [&str; 2] = [API_VERSION, DECKHOUSE_API_VERSION];

/// What is written in a format of ours and may be read by a binary of another version: its name, and the oldest and newest version
/// that this one reads. It writes the newest.
const FORMATS: [(&str, u32, u32); 7] = [
    ("lock", OLDEST_LOCK_VERSION, LOCK_VERSION),
    ("plan", PLAN_VERSION, PLAN_VERSION),
    ("storedPlan", STORED_VERSION, STORED_VERSION),
    ("bundle", BUNDLE_VERSION, BUNDLE_VERSION),
    ("identity", IDENTITY_VERSION, IDENTITY_VERSION),
    ("peers", PEERS_VERSION, PEERS_VERSION),
    ("routes", ROUTES_VERSION, ROUTES_VERSION),
];

/// The commit that it was built from, as `ci/binary` gives it; `None`: whoever built it did not say.
fn commit() -> Option<&'static str> {
    option_env!("ISTHMUS_COMMIT").filter(|commit| !commit.is_empty() && *commit != "unknown")
}

/// `engine version`.
pub(crate) fn run(arguments: &Global, printer: &Printer) -> Exit {
    if arguments.output == Output::Json {
        printer.out(&format!("{}\n", document()));
    } else {
        let line = |(name, value): &(&str, String)| format!("{name:14}{value}\n");
        printer.show(&lines().iter().map(line).collect::<String>());
    }
    Exit::Done
}

fn document() -> Value {
    let formats = FORMATS.map(|(name, oldest, newest)| (name, json!({ "oldest": oldest, "newest": newest })));
    let formats: serde_json::Map<String, Value> =
        formats.into_iter().map(|(name, versions)| (name.to_owned(), versions)).collect();
    json!({
        "version": 1, "engine": env!("CARGO_PKG_VERSION"), "commit": commit(), "target": env!("ISTHMUS_TARGET"),
        "rustc": env!("ISTHMUS_RUSTC"), "apiVersions": SPECS, "formats": formats,
    })
}

fn lines() -> Vec<(&'static str, String)> {
    let versions = |(name, oldest, newest): (&'static str, u32, u32)| {
        let reads = if oldest < newest { format!(", reads {oldest}") } else { String::new() };
        (name, format!("{newest}{reads}"))
    };
    let built = [
        ("engine", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", commit().unwrap_or("unknown").to_owned()),
        ("target", env!("ISTHMUS_TARGET").to_owned()),
        ("rustc", env!("ISTHMUS_RUSTC").to_owned()),
        ("apiVersions", SPECS.join(", ")),
    ];
    built.into_iter().chain(FORMATS.map(versions)).collect()
}
