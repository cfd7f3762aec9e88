//! The rules of an api-proxy's watches: what bookmarks say, and how a watch ends.
//!
//! istiod waits for a whole list before it believes any of it, continues a watch where the last one ended, and lists all of it again
//! after an error. So what ends otherwise than an apiserver's watch costs a mesh its endpoints, or its apiservers a list each time.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use serde_json::Value;

use crate::cluster::bare::{BareAnswer, BareClient, BareError};
use crate::conformance::exporter::{RuleResult, differs, json_of, shown, with_authorization};
use crate::conformance::report::ConformanceReport;
use crate::conformance::tokens::TokenOrigin;
use crate::types::token::Scope;

const ISTIO: &str = "Istio pkg/kube/multicluster: what istiod asks of a remote cluster";
const ENGINE: &str = "docs/roles.md";
const KUBERNETES: &str = "Kubernetes API concepts, \"Efficient detection of changes\"";
const STREAMING: &str = "KEP-3157 (streaming lists), by which istiod lists since 1.29";
/// Seconds for which a watch is asked, and how long it may take to end then.
const WATCH: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds after which a token ends, for which a watch with it is asked, and after which it has to be over.
const TOKEN: (i64, u64, Duration) = (3, 12, Duration::from_secs(9));
/// The annotation of a bookmark after which a list is whole.
const INITIAL_END: &str = "/object/metadata/annotations/k8s.io~1initial-events-end";
/// A streaming list; `allowWatchBookmarks` is part of it.
const INITIAL: &str =
    "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=";
const NO_BOOKMARK: &str = "no bookmark came";

/// A watch, as far as it was answered.
struct WatchOutcome {
    answer: Result<BareAnswer, BareError>,
    lasted: Duration,
    events: Vec<Value>,
    /// Every line is an event.
    is_whole: bool,
}

impl WatchOutcome {
    fn is_answered(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| answer.status == 200)
    }

    fn of<'w>(&'w self, kind: &'w str) -> impl Iterator<Item = &'w Value> {
        self.events.iter().filter(move |event| event.get("type").and_then(Value::as_str) == Some(kind))
    }

    /// What came in the place of something.
    fn instead(&self) -> String {
        match &self.answer {
            Ok(answer) if answer.status == 200 => {
                let kinds = self.events.iter().filter_map(|event| event.get("type").and_then(Value::as_str));
                let kinds: Vec<&str> = kinds.take(5).collect();
                if kinds.is_empty() { "no event".to_owned() } else { kinds.join(", ") }
            }
            other => shown(other),
        }
    }
}

/// Judges all rules of watches. They are tried on Services, and on Secrets, of which a peer sees none.
pub(super) async fn judge<'o>(
    client: &BareClient,
    report: &mut ConformanceReport,
    origin: &(dyn Fn() -> TokenOrigin<'o> + Sync),
) {
    let good = || with_authorization(&origin().cases(Scope::Api).swap_remove(1).values);
    let list = json_of(&client.ask(Method::GET, "api/v1/services?limit=500", good()).await);
    let version =
        |list: &Value| list.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(ToOwned::to_owned);
    let version = list.as_ref().ok().and_then(version);
    let has_version = list
        .and_then(|_| version.clone().map(|_| ()).ok_or_else(|| ("a resourceVersion".to_owned(), "none".to_owned())));
    report.rule(("list", "a list of Services is answered, with the version to watch from", ISTIO), false, has_version);
    let version = version.unwrap_or_default();
    let from = |more: &str| format!("api/v1/services?watch=true{more}&resourceVersion={version}");
    let watch = async |path: String, seconds: u64, headers: HeaderMap| watch(client, &path, seconds, headers).await;
    ends(report, &watch(from("&allowWatchBookmarks=true"), WATCH, good()).await);
    let plain = watch(from(""), WATCH, good()).await;
    let has_none = match plain.of("BOOKMARK").next() {
        None if plain.is_answered() => Ok(()),
        _ => differs("a watch without bookmarks", &plain.instead()),
    };
    let about = "a watch that does not allow bookmarks gets none";
    report.rule(("bookmarks-where-allowed", about, KUBERNETES), false, has_none);
    let initial = watch(format!("api/v1/services?{INITIAL}"), WATCH, good()).await;
    let about = "a streaming list ends with a bookmark that says so; or is refused, and istiod lists otherwise";
    report.rule(("bookmark-initial", about, STREAMING), false, says_its_end(&initial));
    let empty = watch(format!("api/v1/secrets?{INITIAL}"), WATCH, good()).await;
    report.rule(
        ("bookmark-initial-secrets", "the same of Secrets, of which there are none", STREAMING),
        true,
        says_its_end(&empty),
    );
    bookmark(report, &initial, |version| {
        watch(format!("api/v1/services?watch=true&resourceVersion={version}"), WATCH, good())
    })
    .await;
    let (seconds, asked, most) = TOKEN;
    let headers = with_authorization(&[origin().ending_in(Scope::Api, seconds)]);
    let expiring = watch(from(""), asked, headers).await;
    let ends_with_it = match &expiring.answer {
        Ok(answer) if answer.status == 200 && answer.ended && expiring.lasted < most => Ok(()),
        Ok(answer) if answer.status == 200 => {
            differs(&format!("an end after {seconds} s"), &format!("none within {} s", expiring.lasted.as_secs()))
        }
        other => differs("200", &shown(other)),
    };
    report.rule(("watch-ends-with-token", "a watch does not outlast its token", ENGINE), true, ends_with_it);
}

/// Asks for a watch of so many seconds and reads it to its end.
async fn watch(client: &BareClient, path: &str, seconds: u64, headers: HeaderMap) -> WatchOutcome {
    let begun = Instant::now();
    let path = format!("{path}&timeoutSeconds={seconds}");
    let answer = client.ask_within(PATIENCE, Method::GET, &path, headers).await;
    let lasted = begun.elapsed();
    let body = answer.as_ref().map(|answer| answer.body.as_slice()).unwrap_or_default();
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let read: Vec<Option<Value>> = lines
        .map(|line| serde_json::from_slice::<Value>(line).ok().filter(|event| event.get("type").is_some()))
        .collect();
    let is_whole = read.iter().all(Option::is_some);
    WatchOutcome { answer, lasted, events: read.into_iter().flatten().collect(), is_whole }
}

/// How a watch ends that was asked to.
fn ends(report: &mut ConformanceReport, watched: &WatchOutcome) {
    let ends = match &watched.answer {
        Ok(answer) if answer.status == 200 && answer.ended && watched.lasted >= Duration::from_secs(1) => Ok(()),
        Ok(answer) if answer.status == 200 && answer.ended => differs("a watch that lasts", "one that ends at once"),
        Ok(answer) if answer.status == 200 => differs("an end after its time", "none"),
        other => differs("200", &shown(other)),
    };
    report.rule(("watch-ends", "a watch lasts for its time, and ends then", ISTIO), false, ends);
    let is_whole = if watched.is_whole { Ok(()) } else { differs("events, one a line", "a part of one") };
    report.rule(("watch-whole-events", "a watch ends between two events, and not within one", ISTIO), false, is_whole);
    let is_quiet = match watched.of("ERROR").next() {
        None => Ok(()),
        Some(error) => {
            let code = error.pointer("/object/code").map(ToString::to_string).unwrap_or_default();
            differs("an end without an event", &format!("an ERROR {code}"))
        }
    };
    let about = "a watch that is over ends without an ERROR, after which istiod would list all of it again";
    report.rule(("watch-ends-quietly", about, KUBERNETES), false, is_quiet);
}

/// A streaming list says where it ends, or is refused as one that the server does not know.
fn says_its_end(watched: &WatchOutcome) -> RuleResult {
    match &watched.answer {
        Ok(answer) if matches!(answer.status, 400 | 405 | 422) => Ok(()),
        Ok(answer) if answer.status == 200 => {
            let is_end = |event: &&Value| event.pointer(INITIAL_END).and_then(Value::as_str) == Some("true");
            let found = watched.of("BOOKMARK").any(|event| is_end(&event));
            if found { Ok(()) } else { differs("a bookmark with k8s.io/initial-events-end", &watched.instead()) }
        }
        other => differs("200", &shown(other)),
    }
}

/// What the bookmark of a streaming list says, and whether a watch continues from it.
async fn bookmark<F: Future<Output = WatchOutcome>>(
    report: &mut ConformanceReport,
    watched: &WatchOutcome,
    continue_from: impl FnOnce(String) -> F,
) {
    let shape =
        ("bookmark-shape", "a bookmark has the kind of what is watched and a version, and no object", KUBERNETES);
    let continues = ("bookmark-continues", "a watch continues from the version of a bookmark", KUBERNETES);
    let Some(bookmark) = watched.of("BOOKMARK").next() else {
        report.skip(shape, NO_BOOKMARK);
        report.skip(continues, NO_BOOKMARK);
        return;
    };
    let text = |path: &str| bookmark.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("/object/kind"), text("/object/metadata/resourceVersion"));
    let more = ["/object/spec", "/object/status", "/object/metadata/name"];
    let more = more.into_iter().find(|path| bookmark.pointer(path).is_some_and(|value| !value.is_null()));
    let is_one = match (kind, text("/object/apiVersion"), version, more) {
        ("Service", "v1", version, None) if !version.is_empty() => Ok(()),
        (_, _, "", _) => differs("a resourceVersion", "none"),
        (_, _, _, Some(path)) => differs("nothing but a version", path),
        (kind, api_version, ..) => differs("kind Service of v1", &format!("kind {kind} of {api_version}")),
    };
    report.rule(shape, false, is_one);
    let next = continue_from(version.to_owned()).await;
    let is_continued = match next.of("ERROR").next() {
        None if next.is_answered() => Ok(()),
        _ => differs("a watch without an ERROR", &next.instead()),
    };
    report.rule(continues, false, is_continued);
}
