//! Every code is seen in what the binary prints: whoever adds one adds a scenario that produces it.
//!
//! A scenario prepares a checkout, and peers where it needs them, runs the engine as a user does, and gives back what was
//! printed. It names the codes it is for. All of them run side by side, since some wait for the limits of the engine.
//! `CODES=print cargo test --test integration codes -- --nocapture` lists every sentence that was printed, by its code.

#![allow(clippy::print_stdout, reason = "the list of sentences is to be read")]

mod commands;
mod documents;
mod history;
mod links;
mod lock;
mod peers;
mod plans;
mod specs;
mod trust;

use std::collections::BTreeSet;
use std::thread;

use isthmus::types::explanation::Code;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::support::environment::Ran;

/// One way to some codes.
struct Scenario {
    /// What it is called when it is wrong.
    name: &'static str,
    /// What it is for; it may produce others on the way.
    codes: &'static [Code],
    /// Runs the engine; what it printed, from each run whose reasons count. The handle is for peers.
    run: fn(&Handle) -> Vec<Ran>,
}

/// All scenarios, by file.
const SCENARIOS: &[&[Scenario]] = &[
    peers::SCENARIOS,
    documents::SCENARIOS,
    trust::SCENARIOS,
    links::SCENARIOS,
    specs::SCENARIOS,
    lock::SCENARIOS,
    commands::SCENARIOS,
    history::SCENARIOS,
    plans::SCENARIOS,
];

/// A reason as it was printed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PrintedReason {
    code: String,
    message: String,
    hint: Option<String>,
}

/// Every reason that stands in a document: each object with a code, a message and a hint.
fn reasons(document: &Value, found: &mut Vec<PrintedReason>) {
    match document {
        Value::Object(fields) => {
            if let (Some(code), Some(message), Some(hint)) =
                (fields.get("code"), fields.get("message"), fields.get("hint"))
            {
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let printed = PrintedReason {
                    code: text(code).unwrap_or_else(|| panic!("a code is a text: {document}")),
                    message: text(message).unwrap_or_else(|| panic!("a message is a text: {document}")),
                    hint: text(hint),
                };
                assert!(!printed.message.trim().is_empty(), "a message is not empty: {document}");
                let is_hint = printed.hint.as_ref().map_or(hint.is_null(), |hint| !hint.trim().is_empty());
                assert!(is_hint, "a hint is null or not empty: {document}");
                for sentence in std::iter::once(&printed.message).chain(&printed.hint) {
                    let whole = !sentence.ends_with(['.', ';', ':', ' ']) && !sentence.starts_with(' ');
                    assert!(whole, "a sentence that others follow has no end of its own: {sentence:?}");
                }
                found.push(printed);
            }
            fields.values().for_each(|value| reasons(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| reasons(value, found)),
        _ => {}
    }
}

/// The documents of a run: one, or one a line from what keeps running.
fn documents(ran: &Ran) -> Vec<Value> {
    let lines = ran.stdout.lines().filter(|line| line.starts_with('{'));
    let all: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{ran}"))).collect();
    assert!(!all.is_empty(), "no JSON was printed: {ran}");
    assert!(!ran.says("panicked"), "{ran}");
    all
}

/// What came of a scenario: its reasons, and all that was printed.
struct ScenarioOutcome {
    reasons: Vec<PrintedReason>,
    printed: String,
}

/// A plan, or why there is none, is as its schema says.
fn assert_fits(schema: &jsonschema::Validator, ran: &Ran) {
    for document in documents(ran).iter().filter(|document| document["version"] == 2) {
        let errors: Vec<_> = schema.iter_errors(document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{document:#}");
    }
}

fn outcome(scenario: &Scenario, peers: &Handle) -> ScenarioOutcome {
    let runs = (scenario.run)(peers);
    let schema = jsonschema::draft202012::new(&isthmus::report::plan_schema::plan_schema()).unwrap();
    for ran in &runs {
        assert_fits(&schema, ran);
    }
    let mut found = Vec::new();
    runs.iter().flat_map(documents).for_each(|document| reasons(&document, &mut found));
    ScenarioOutcome { reasons: found, printed: runs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") }
}

/// What is wrong with the outcomes of scenarios; `None` is one that failed.
fn faults(all: &[Code], outcomes: &[(&Scenario, Option<ScenarioOutcome>)]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut produced = BTreeSet::new();
    for (scenario, outcome) in outcomes {
        let name = scenario.name;
        let Some(ScenarioOutcome { reasons, printed }) = outcome else {
            // its thread bears its name and has said why
            faults.push(format!("`{name}` failed"));
            continue;
        };
        let own: BTreeSet<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
        for code in scenario.codes {
            if !own.contains(code.as_str()) {
                faults.push(format!("`{name}` is for `{code}` and does not produce it:\n{printed}"));
            }
        }
        produced.extend(own);
    }
    let known: BTreeSet<&str> = all.iter().map(|code| code.as_str()).collect();
    faults.extend(known.difference(&produced).map(|code| format!("no run of the binary produces `{code}`")));
    faults.extend(produced.difference(&known).map(|code| format!("`{code}` was printed and is not among the codes")));
    faults
}

#[test]
fn each_code_is_produced_by_a_run_of_the_binary() {
    let peers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scenarios: Vec<&'static Scenario> = SCENARIOS.iter().copied().flatten().collect();
    let names: BTreeSet<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), scenarios.len(), "two scenarios have one name");
    let outcomes: Vec<(&Scenario, Option<ScenarioOutcome>)> = thread::scope(|scope| {
        let begin = |scenario: &'static Scenario| {
            let peers = peers.handle().clone();
            let thread = thread::Builder::new().name(scenario.name.to_owned());
            (scenario, thread.spawn_scoped(scope, move || outcome(scenario, &peers)).unwrap())
        };
        let threads: Vec<_> = scenarios.into_iter().map(begin).collect();
        threads.into_iter().map(|(scenario, thread)| (scenario, thread.join().ok())).collect()
    });
    if std::env::var_os("CODES").is_some_and(|how| how == "print") {
        let all = outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref()).flat_map(|outcome| &outcome.reasons);
        for PrintedReason { code, message, hint } in all.collect::<BTreeSet<_>>() {
            println!("{code}\n    {message}\n    {}", hint.as_deref().unwrap_or("-"));
        }
    }
    let faults = faults(Code::ALL, &outcomes);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    const KEY: &[Code] = &[Code::KeyMissing];
    let scenario = |codes| Scenario { name: "one", codes, run: |_| Vec::new() };
    let outcome = |code: &str, printed: &str| {
        let reason = PrintedReason { code: code.to_owned(), message: "x".to_owned(), hint: None };
        Some(ScenarioOutcome { reasons: vec![reason], printed: printed.to_owned() })
    };
    let of = |codes, outcome| faults(KEY, &[(&scenario(codes), outcome)]);
    assert_eq!(of(KEY, outcome("key-missing", "")), [""; 0]);
    assert_eq!(faults(KEY, &[]), ["no run of the binary produces `key-missing`"]);
    let unknown = "`other` was printed and is not among the codes";
    let lacks = "`one` is for `key-missing` and does not produce it:\nnothing";
    let silent = "no run of the binary produces `key-missing`";
    assert_eq!(of(KEY, outcome("other", "nothing")), [lacks, silent, unknown]);
    assert_eq!(of(KEY, None), ["`one` failed", silent]);

    let mut found = Vec::new();
    let document = serde_json::json!({ "a": [{ "code": "x", "message": "y", "hint": null, "b": { "code": 1 } }] });
    reasons(&document, &mut found);
    assert_eq!(found, [PrintedReason { code: "x".to_owned(), message: "y".to_owned(), hint: None }]);
    for empty in ["", " ", "a full stop."] {
        let document = serde_json::json!({ "code": "x", "message": empty, "hint": null });
        assert!(std::panic::catch_unwind(|| reasons(&document, &mut Vec::new())).is_err(), "{empty:?}");
    }
}
