//! What people read of hostile files on a terminal: colours of ours, and nothing that steers it.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;

use rstest::rstest;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::checkout::Checkout;

/// Clears the screen, writes the clipboard and the title, colours, hides, turns round, overwrites and begins a line.
const EVIL: &str = "\u{1b}[2J\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}]0;t\u{1b}\\\u{1b}[31mTINTED\u{1b}[8m\u{202e}\u{2066}\u{61c}\u{9b}2J\u{200b}\u{feff}\u{e0041}\rHIDDEN\u{85}\u{2028}LINE";
/// The same in a double-quoted text of YAML, with a line that looks like one of ours.
const QUOTED: &str =
    r#""\e[2J\e]52;c;ZXZpbA==\a\e[31mTINTED\e[8m\u202e\u2066\u061c\x9b2J\u200b\ufeff\rHIDDEN\N\L\nerror: LINE""#;

/// What the engine prints on a terminal of its own, and its exit code.
fn on_a_terminal(checkout: &Checkout, arguments: &[&str]) -> (i32, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let noctty = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
    let other_end = || {
        let open = OpenOptions::new().read(true).write(true).custom_flags(noctty).open(&name);
        Stdio::from(open.unwrap())
    };
    let mut child = checkout
        .command(arguments)
        .env("TERM", "xterm-256color")
        .stdin(other_end())
        .stdout(other_end())
        .stderr(other_end())
        .spawn()
        .unwrap();
    let mut terminal = std::fs::File::from(terminal);
    let mut shown = Vec::new();
    // the end of the last writer is an error here
    drop(terminal.read_to_end(&mut shown));
    (child.wait().unwrap().code().unwrap_or(-1), String::from_utf8(shown).unwrap())
}

/// Whether a character turns the order of writing, hides, or steers by itself.
fn is_odd(c: char) -> bool {
    (c.is_control() && !"\n\r\t\u{1b}".contains(c))
        || "\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{feff}".contains(c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
        || ('\u{e0000}'..='\u{e007f}').contains(&c)
}

/// Everything that a text tells a terminal beyond its letters; on a terminal, styles of ours and those of the bar of
/// progress, which clears its own line and moves to it, are taken for granted.
#[track_caller]
fn steers_nothing(text: &str, terminal: bool) {
    assert!(!text.contains(is_odd), "{text:?}");
    for begun in ["\rHIDDEN", "\u{1b}[31mTINTED", "\nLINE", "\nerror: LINE"] {
        assert!(!text.contains(begun), "{text:?}");
    }
    for sequence in text.split('\u{1b}').skip(1) {
        let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
        let (parameters, letter) = (&sequence[..end], &sequence[end..=end]);
        let style = letter == "m" && ["[0", "[1", "[2", "[4", "[31", "[32", "[33", "[36"].contains(&parameters);
        let bar =
            letter == "K" || (["A", "B"].contains(&letter) && parameters.trim_start_matches('[').parse() == Ok(1));
        assert!(terminal && (style || bar), "{sequence:?} in {text:?}");
    }
}

#[track_caller]
fn is_shown_harmless(checkout: &Checkout, arguments: &[&str], exit: i32, expected: &[&str]) {
    let (code, text) = on_a_terminal(checkout, arguments);
    assert_eq!(code, exit, "{text}");
    steers_nothing(&text, true);
    let piped = checkout.engine(arguments);
    assert_eq!(piped.code, exit, "{piped}");
    let piped = [piped.stdout, piped.stderr].concat();
    steers_nothing(&piped, false);
    for word in expected {
        assert!(text.contains(word) && piped.contains(word), "`{word}` is missing in\n{text}\n{piped}");
    }
}

#[test]
fn colours_are_for_terminals() {
    let checkout = Checkout::new();
    let (_, text) = on_a_terminal(&checkout, &["plan"]);
    assert!(text.contains("\u{1b}[32m+\u{1b}[0m") && text.contains("Plan: "), "{text:?}");
    steers_nothing(&text, true);
    let piped = checkout.engine(&["plan"]).stdout;
    assert!(piped.contains("Plan: ") && !piped.contains('\u{1b}'), "{piped:?}");
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots", "acceptForeignRots");
    let (_, text) = on_a_terminal(&checkout, &["plan"]);
    assert!(text.contains("\u{1b}[1m\u{1b}[31merror\u{1b}[0m: unknown field"), "{text:?}");
}

#[rstest]
#[case::in_a_value("name: shop", &format!("name: {EVIL}"), "specs/mesh.yaml:3:")]
#[case::in_a_comment("name: shop}", &format!("nam: shop}} # {EVIL}"), "specs/mesh.yaml:3:")]
#[case::as_a_name("name: east", &format!("name: {QUOTED}"), "specs/mesh.yaml:8:")]
#[case::as_a_field("acceptForeignRoots: true", &format!("{QUOTED}: true"), "specs/mesh.yaml:4:")]
#[case::as_an_endpoint("\"file://metadata/west\"", QUOTED, "specs/mesh.yaml:14:")]
#[case::as_a_switch("acceptForeignRoots: true", &format!("acceptForeignRoots: {QUOTED}"), "specs/mesh.yaml:4:")]
#[case::as_a_choice("acceptForeignRoots: true", &format!("acceptForeignRoots: true, topology: {QUOTED}"), "specs/mesh.yaml:4:")]
#[case::as_a_kind("kind: Mesh", &format!("kind: {QUOTED}"), "specs/mesh.yaml:2:")]
#[case::as_a_pair("acceptForeignRoots: true", &format!("acceptForeignRoots: true, topology: pairs, pairs: [[east, {QUOTED}]]"), "specs/mesh.yaml:4:")]
#[case::as_a_file("\"file://metadata/west\"", &format!("\"file://metadata/west\", ca: {{file: {QUOTED}}}"), "specs/mesh.yaml:14:")]
#[case::as_an_anchor("name: shop", &format!("name: *{}", "a\u{202e}b"), "specs/mesh.yaml:3:")]
#[case::before_a_break("{name: shop}", &format!("{{name: {QUOTED}: ["), "specs/mesh.yaml:")]
fn a_spec(#[case] from: &str, #[case] to: &str, #[case] place: &str) {
    let checkout = Checkout::joined();
    checkout.edit("specs/mesh.yaml", from, to);
    for command in ["plan", "status"] {
        is_shown_harmless(&checkout, &[command], 1, &["error", place]);
    }
}

#[test]
fn names_of_files() {
    let checkout = Checkout::joined();
    let evil = EVIL.replace('/', "");
    checkout.write(&format!("specs/{evil}.yaml"), b"a: {");
    is_shown_harmless(&checkout, &["plan"], 1, &["specs/\\u{1b}[2J", "LINE.yaml:1:"]);
    std::fs::remove_file(checkout.path(&format!("specs/{evil}.yaml"))).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", checkout.path(&format!("specs/{evil}.yaml"))).unwrap();
    is_shown_harmless(&checkout, &["plan"], 1, &["specs/\\u{1b}[2J"]);
    std::fs::remove_file(checkout.path(&format!("specs/{evil}.yaml"))).unwrap();
    checkout.write(&format!("templates/exporter/{evil}.yaml"), b"a: 1");
    is_shown_harmless(&checkout, &["plan"], 1, &["templates/exporter/\\u{1b}[2J", "no component template"]);
    std::fs::remove_dir_all(checkout.path("templates")).unwrap();
    for path in [format!("rendered/east/{evil}.yaml"), format!("rendered/{evil}"), format!("values/{evil}/{evil}")] {
        checkout.write(&path, b"a: 1");
        for form in ["text", "markdown"] {
            is_shown_harmless(&checkout, &["plan", "--output", form], 4, &["LINE"]);
        }
        std::fs::remove_file(checkout.path(&path)).unwrap();
    }
    checkout.write(&format!("lock/{evil}.yaml"), b"a: 1");
    is_shown_harmless(&checkout, &["plan"], 1, &["lock"]);
}

#[rstest]
#[case::no_template(&format!("{{% {EVIL} %}}\n"))]
#[case::an_unknown_value(&format!("# {EVIL}\n{{{{ evil }}}} # {EVIL}\n"))]
#[case::an_unknown_filter("{{ 1 | e\u{301}vil }}\n")]
#[case::a_text(&format!("{{{{ {QUOTED} | evil }}}}\n"))]
#[case::no_yaml(&format!("a: {{{{ namespace }}}}: [{EVIL}\n"))]
#[case::no_object(&format!("a: {QUOTED} # {EVIL}\n"))]
fn a_template(#[case] text: &str) {
    shown_template(text, 1, "error");
}

#[test]
fn an_override_that_is_refused() {
    let object = format!("apiVersion: v1\nkind: {QUOTED}\nmetadata: {{name: {QUOTED}, namespace: {QUOTED}}}\n");
    shown_template(&object, 4, "refused");
}

fn shown_template(text: &str, exit: i32, severity: &str) {
    let checkout = Checkout::joined();
    let components = "metadata: {endpoint: \"file://metadata/east\"}, multicluster: {image: ghcr.io/x/engine:1, apiHost: api.east.example.com}}";
    checkout.edit("specs/mesh.yaml", "metadata: {endpoint: \"file://metadata/east\"}}", components);
    checkout.write("templates/exporter/service.yaml", text.as_bytes());
    is_shown_harmless(&checkout, &["plan"], exit, &[severity, "templates/exporter/service.yaml:"]);
}

#[test]
fn what_is_in_the_tree_and_goes() {
    let checkout = Checkout::joined();
    let folder = checkout.path("rendered/east");
    let mut strangers = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("rendered/east/{name}");
        let text = std::fs::read_to_string(checkout.path(&path)).unwrap();
        if text.contains("\nkind: ConfigMap\n") {
            let more =
                format!("\ndata:\n  more: {QUOTED}\n  {QUOTED}: a\n  lines: |\n    {}\n", "a\u{202e}b\n    c\u{2066}d");
            checkout.write(&path, text.replacen("\ndata:\n", &more, 1).as_bytes());
            let other = more.replacen("\ndata:\n", "data:\n", 1);
            let stranger = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {QUOTED}\n  labels: {{app.kubernetes.io/managed-by: isthmus}}\n{other}"
            );
            strangers.push(stranger);
        }
    }
    assert!(!strangers.is_empty());
    is_shown_harmless(&checkout, &["plan"], 0, &["\\u{1b}[2J", "HIDDEN"]);
    is_shown_harmless(&checkout, &["plan", "-v"], 0, &["\\u{1b}[2J", "a\\u{202e}b"]);
    is_shown_harmless(&checkout, &["plan", "--output", "json"], 0, &["HIDDEN"]);
    is_shown_harmless(&checkout, &["plan", "--output", "markdown"], 0, &["HIDDEN"]);
    for (at, stranger) in strangers.iter().enumerate() {
        checkout.write(&format!("rendered/east/{at}.yaml"), stranger.as_bytes());
    }
    let list = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nmetadata: {{name: east, labels: {{app.kubernetes.io/managed-by: isthmus, isthmus.dev/mesh: shop, isthmus.dev/owner: tree}}}}\nresources: [{QUOTED}]\n{QUOTED}: 1\n"
    );
    checkout.write("rendered/east/kustomization.yaml", list.as_bytes());
    for form in ["text", "json", "markdown"] {
        is_shown_harmless(&checkout, &["plan", "--output", form], 4, &["not ours", "HIDDEN"]);
    }
}

#[test]
fn a_lock() {
    for (line, place) in
        [(format!("evil: {QUOTED}\n"), "lock/"), (format!("{EVIL}\n"), "lock/"), (format!("{QUOTED}: [\n"), "lock/")]
    {
        let checkout = Checkout::joined();
        let mesh = std::fs::read_to_string(checkout.path("lock/clusters/west.yaml")).unwrap();
        checkout.write("lock/clusters/west.yaml", format!("{mesh}{line}").as_bytes());
        is_shown_harmless(&checkout, &["plan"], 4, &["refused", place]);
        is_shown_harmless(&checkout, &["status"], 0, &["warning", place]);
    }
}

#[test]
fn what_was_typed() {
    let checkout = Checkout::joined();
    for arguments in [
        &[EVIL][..],
        &["plan", EVIL],
        &["plan", "--cluster", EVIL],
        &["plan", "--to", EVIL],
        &["apply", "--accept-trust", EVIL],
        &["keys", EVIL],
    ] {
        is_shown_harmless(&checkout, arguments, 64, &["error"]);
    }
    is_shown_harmless(&checkout, &["plan", "--base", EVIL], 64, &["error"]);
    is_shown_harmless(&checkout, &["apply", EVIL], 6, &["error"]);
}
