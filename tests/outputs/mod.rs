//! Whole outputs of every command, as a user sees them: how it succeeds and how it fails, in each format that it has.
//!
//! One file below `snapshots/` holds what one command prints, to be read as a whole; `just accept outputs` writes them anew. Each
//! run is sealed, its time and its keys are always the same. A document of JSON on one line is shown on many, and what is
//! generated and checked elsewhere is shown by its first lines alone.

mod clusters;
mod conformance;
mod plans;
mod roles;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Command;
use isthmus::types::key::PrivateKey;
use serde_json::Value;

use crate::support::checkout::Checkout;
use crate::support::environment::{Ran, TestEnvironment};

/// What a command prints, run by run.
#[derive(Default)]
struct OutputPage(String);

impl OutputPage {
    /// Runs the engine on a checkout; `about` says what is particular of it.
    #[track_caller]
    fn run(&mut self, about: &str, checkout: &Checkout, arguments: &[&str]) -> Ran {
        let ran = checkout.engine(arguments);
        self.ran(about, &checkout.environment, arguments, &ran);
        ran
    }

    /// The same, where no checkout is.
    #[track_caller]
    fn run_in(&mut self, about: &str, environment: &TestEnvironment, arguments: &[&str]) {
        let ran = environment.run(arguments);
        self.ran(about, environment, arguments, &ran);
    }

    /// The same, of which only the first lines of data are shown.
    #[track_caller]
    fn head(&mut self, about: &str, environment: &TestEnvironment, arguments: &[&str], lines: usize) {
        let mut ran = environment.run(arguments);
        first_lines(&mut ran, lines);
        self.ran(about, environment, arguments, &ran);
    }

    /// What was printed by a run.
    fn ran(&mut self, about: &str, environment: &TestEnvironment, arguments: &[&str], ran: &Ran) {
        assert!(!ran.says("panicked"), "{arguments:?}: {ran}");
        let mut shown = ran.clone();
        if ran.stdout.matches('\n').count() == 1
            && let Ok(document @ Value::Object(_)) = serde_json::from_str::<Value>(&ran.stdout)
        {
            shown.stdout = format!("{document:#}\n");
        }
        let line = line(environment, arguments);
        self.0 += &format!("# {about}\n$ engine {line}\n{shown}\n");
    }

    /// What is printed by a process that runs until it is asked to end.
    fn running(&mut self, about: &str, environment: &TestEnvironment, arguments: &[&str], stdout: &str) {
        let line = line(environment, arguments);
        self.0 += &format!("# {about}\n$ engine {line}\nrunning\n--- stdout ---\n{stdout}\n");
    }

    /// Compares it with what was reviewed.
    fn hold(&self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, self.0.trim_end()));
    }
}

/// Keeps the first lines of data.
fn first_lines(ran: &mut Ran, lines: usize) {
    if ran.stdout.lines().count() > lines {
        let kept: Vec<&str> = ran.stdout.lines().take(lines).collect();
        ran.stdout = format!("{}\n[and so on]\n", kept.join("\n"));
    }
}

/// Arguments as they are typed into a shell, the same in every environment.
fn line(environment: &TestEnvironment, arguments: &[&str]) -> String {
    // a port that the system gave
    let is_given = |port: &str| port != "0" && port.parse::<u16>().is_ok();
    let known = |word: &&str| {
        word.strip_prefix("127.0.0.1:").filter(|port| is_given(port)).map(|_| "127.0.0.1:[PORT]".to_owned())
    };
    let arguments: Vec<String> = arguments.iter().map(|word| known(word).unwrap_or_else(|| quoted(word))).collect();
    arguments.join(" ").replace(environment.path("").to_str().unwrap().trim_end_matches('/'), "[ROOT]")
}

/// A word as it is typed into a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+[]".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Puts the engine's private key where it is looked for: always the same one.
fn give_key(checkout: &Checkout) {
    let pem = PrivateKey::generate(&[7; 32]).unwrap().to_pem().unwrap();
    checkout.write("keys/engine.key", pem.as_bytes());
}

/// Two clusters that were joined with a key of the engine.
pub(crate) fn with_key() -> Checkout {
    let checkout = Checkout::new();
    give_key(&checkout);
    checkout.engine(&["apply", "--create-keys"]).done();
    checkout
}

/// The spec of a checkout has a slip in it.
fn with_a_slip(checkout: &Checkout) {
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots", "acceptForeignRots");
}

/// West publishes another UUID than the one that was accepted.
pub(crate) fn rebuild_west(checkout: &Checkout) {
    let path = "metadata/west/public/public.json";
    let mut document: Value = serde_json::from_slice(&std::fs::read(checkout.path(path)).unwrap()).unwrap();
    document["clusterUUID"] = "00000000-1111-4222-8333-444444444444".into();
    checkout.write(path, document.to_string().as_bytes());
}

/// East has another gateway than the one that it publishes.
fn state_a_gateway(checkout: &Checkout) {
    checkout.edit(
        "specs/mesh.yaml",
        "file://metadata/east\"}",
        "file://metadata/east\"}, gateways: [{address: 203.0.113.99, port: 15443}]",
    );
}

/// Commits a checkout.
fn commit(checkout: &Checkout) {
    checkout.write(".gitignore", b"/keys/\n");
    checkout.git(&["init", "-q", "-b", "main"]);
    checkout.git(&["add", "-A"]);
    checkout.git(&["commit", "-q", "-m", "first"]);
}

/// One run of the set: the command, the format, and how it ended.
struct Reviewed {
    command: String,
    format: String,
    code: i32,
}

/// Commands that do something, by their whole names.
fn commands(command: &Command, name: &str, all: &mut Vec<String>) {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        let name = format!("{name} {}", inner.get_name()).trim_start().to_owned();
        if inner.has_subcommands() {
            commands(inner, &name, all);
        } else {
            all.push(name);
        }
    }
}

/// The command and the format of arguments, as the program understands them; none where it does not.
fn understood(arguments: &[String]) -> Option<(String, String)> {
    let given = std::iter::once("engine").chain(arguments.iter().map(String::as_str));
    let matches = isthmus::cli::command().try_get_matches_from(given).ok()?;
    let format = matches.get_raw("output")?.next()?.to_str()?.to_owned();
    let (mut names, mut inner) = (Vec::new(), &matches);
    while let Some((name, next)) = inner.subcommand() {
        names.push(name);
        inner = next;
    }
    Some((names.join(" "), format))
}

/// All runs of the set. One that the program does not understand counts for the command that it begins with.
fn reviewed(known: &[String]) -> Vec<Reviewed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outputs/snapshots");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        // a page may quote commands; those of the set have a line of what is particular of them before
        let lines: Vec<&str> = text.lines().collect();
        for window in lines.windows(3) {
            let [about, typed, end] = window else { continue };
            let Some(line) = typed.strip_prefix("$ engine").filter(|_| about.starts_with("# ")) else { continue };
            // what runs until it is asked to end has succeeded when it runs
            let code = end.strip_prefix("exit code: ").or((*end == "running").then_some("0"));
            let code = code.unwrap_or_else(|| panic!("a run without an end: {line}")).parse().unwrap();
            let arguments = crate::documents::commands::split(line).into_iter().next().unwrap_or_default();
            let (command, format) = understood(&arguments).unwrap_or_else(|| {
                let begins = |name: &&String| arguments.join(" ").starts_with(name.as_str());
                let format = arguments.iter().skip_while(|word| *word != "--output").nth(1);
                let command = known.iter().filter(begins).max_by_key(|name| name.len());
                (command.cloned().unwrap_or_default(), format.map_or("text", String::as_str).to_owned())
            });
            all.push(Reviewed { command, format, code });
        }
    }
    all
}

/// The values of `--output`.
fn formats() -> Vec<String> {
    let root = isthmus::cli::command();
    let output = root.get_arguments().find(|argument| argument.get_id() == "output").unwrap();
    output.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
}

/// A command that is there and says that it has no such format.
fn lacks(environment: &TestEnvironment, command: &str, format: &str) -> Option<Ran> {
    let arguments: &[&str] = match command {
        "invite" | "export" => &["east"],
        "import" => &["east.bundle"],
        "completions" => &["bash"],
        "conformance exporter" | "conformance proxy" => &["https://127.0.0.1:1"],
        "manifests helm" => &["--directory", "nowhere"],
        "manifests flux" => &["--repo", "https://git.example.com/mesh.git"],
        role if role.starts_with("serve ") => &["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"],
        _ => &[],
    };
    // where there is no checkout, so that whatever has the format ends soon
    let arguments = command.split(' ').chain(arguments.iter().copied()).chain(["-C", "nowhere", "--output", format]);
    let arguments: Vec<&str> = arguments.collect();
    let ran = environment.run(&arguments);
    (ran.code == 64 && ran.stderr.starts_with("error: --output: ")).then_some(ran)
}

#[test]
fn no_command_and_no_format_is_missing() {
    let mut known = Vec::new();
    commands(&isthmus::cli::command(), "", &mut known);
    let mut seen: BTreeMap<(String, String), BTreeSet<bool>> = BTreeMap::new();
    for Reviewed { command, format, code } in reviewed(&known) {
        // changes that were found are no failure
        seen.entry((command, format)).or_default().insert([0, 2].contains(&code));
    }
    let environment = TestEnvironment::new();
    let mut missing = Vec::new();
    for command in &known {
        for format in formats() {
            let of = seen.get(&(command.clone(), format.clone())).cloned().unwrap_or_default();
            // a format that it does not have is refused, of which one run is shown for all
            if of.contains(&true) || lacks(&environment, command, &format).is_none() {
                let lacking = [(true, "success"), (false, "failure")].into_iter().filter(|(how, _)| !of.contains(how));
                missing.extend(lacking.map(|(_, how)| format!("engine {command} --output {format}: {how}")));
            }
        }
    }
    assert!(missing.is_empty(), "no run in tests/outputs shows:\n{}", missing.join("\n"));
}

#[test]
fn what_a_command_lacks_is_refused_alike() {
    let mut known = Vec::new();
    commands(&isthmus::cli::command(), "", &mut known);
    let environment = TestEnvironment::new();
    let mut refusals: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for format in formats().into_iter().filter(|format| format != "text") {
        for command in &known {
            if let Some(ran) = lacks(&environment, command, &format) {
                refusals.entry(ran.stderr).or_default().push(format!("{command} --output {format}"));
            }
        }
    }
    let shown: Vec<String> = refusals.iter().map(|(text, lines)| format!("{text}  {}", lines.join("\n  "))).collect();
    OutputPage(shown.join("\n\n")).hold("formats-that-a-command-does-not-have");
}
