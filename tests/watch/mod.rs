//! `engine watch` as a process: what wakes it, what it writes, what it leaves alone.
//!
//! Runs are counted by the watch's own metric, so "one run" is what the watch itself says it took.

mod commits;
mod git;
mod sign;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::checkout::Checkout;
use crate::support::environment::{Ran, RunningProcess, TestEnvironment};

/// Longer than the quiet that follows the last event, so that a run that was to come has come.
const QUIET: Duration = Duration::from_millis(1500);
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A watch that ends with its value.
pub(crate) struct RunningWatch {
    running: RunningProcess,
    http: String,
    _environment: TestEnvironment,
}

impl RunningWatch {
    pub(crate) fn on(dir: &Path, arguments: &[&str]) -> Self {
        // hooks and filters of a repository would find whatever they need
        Self::in_environment(TestEnvironment::new().real_time().with_tools(), dir, arguments)
    }

    pub(crate) fn in_environment(environment: TestEnvironment, dir: &Path, arguments: &[&str]) -> Self {
        let mut command = environment.command();
        command.arg("-C").arg(dir).args(["watch", "--http", "127.0.0.1:0"]).args(arguments);
        let running = environment.spawn(&mut command);
        let http = running.line(0);
        Self { running, http, _environment: environment }
    }

    /// What it printed so far.
    fn printed(&self) -> String {
        self.running.stdout()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(&self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.http).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// The sum of a metric over its labels.
    pub(crate) fn count(&self, metric: &str) -> u64 {
        let text = self.get("/metrics");
        let lines = text.lines().filter(|line| line.starts_with(metric) && !line.starts_with('#'));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn runs(&self) -> u64 {
        self.count("isthmus_reconcile_total")
    }

    /// Waits until something holds.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < PATIENCE, "{what} did not come: {}", self.get("/readyz"));
            sleep(Duration::from_millis(25));
        }
    }

    /// The runs that something makes, once all is quiet again.
    #[track_caller]
    fn runs_of(&self, work: impl FnOnce()) -> u64 {
        sleep(QUIET);
        let before = self.runs();
        work();
        self.until("a turn", |watch| watch.runs() > before);
        sleep(QUIET);
        self.runs() - before
    }

    /// Ends it as a service manager does.
    pub(crate) fn end(self) -> Ran {
        self.running.terminate();
        self.running.wait()
    }
}

/// Watches a checkout and waits for its first run.
pub(crate) fn watch(checkout: &Checkout, arguments: &[&str]) -> RunningWatch {
    let watch = RunningWatch::on(&checkout.path(""), arguments);
    watch.until("the first turn", |watch| watch.runs() > 0);
    watch
}

/// A spec in which east states a gateway, which each other cluster renders.
fn with_gateway(spec: &str, address: &str) -> String {
    let stated = format!("file://metadata/east\"}}, gateways: [{{address: {address}, port: 15443}}]");
    let text = spec.replace("file://metadata/east\"}", &stated);
    assert_ne!(text, spec);
    text
}

pub(crate) fn state_gateway(checkout: &Checkout, address: &str) {
    let spec = checkout.path("specs/mesh.yaml");
    fs::write(&spec, with_gateway(&fs::read_to_string(&spec).unwrap(), address)).unwrap();
}

fn tree(checkout: &Checkout) -> PathBuf {
    checkout.path("rendered/east/configmap-isthmus-mesh.yaml")
}

fn mesh(checkout: &Checkout) -> String {
    fs::read_to_string(tree(checkout)).unwrap()
}

#[test]
fn a_watch_makes_what_apply_makes_and_its_own_writes_make_no_run() {
    let applied = Checkout::joined();
    let checkout = Checkout::new();
    let watch = watch(&checkout, &[]);
    sleep(QUIET);
    assert_eq!(watch.runs(), 1);
    let relative = |checkout: &Checkout| -> Vec<(PathBuf, Vec<u8>)> {
        let root = checkout.path("");
        checkout
            .output()
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(&root).unwrap().to_owned(), bytes))
            .collect()
    };
    assert_eq!(relative(&checkout), relative(&applied));
    assert!(watch.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(watch.get("/readyz").starts_with("HTTP/1.1 200"));
    let page = watch.get("/");
    assert!(page.contains("content-type: text/html") && page.contains("data-live") && page.contains("east"), "{page}");
    let picture = watch.get("/picture.json");
    let picture: serde_json::Value = serde_json::from_str(picture.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(picture["counts"]["links"]["joined"], 2, "{picture}");
    assert!(picture["clusters"]["east"]["readAt"].is_i64());
    let ran = watch.end();
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("start; metadata of east, west changed: 26 files written"), "{ran}");
}

#[test]
fn each_way_of_writing_a_file_is_one_run() {
    let checkout = Checkout::joined();
    let watch = watch(&checkout, &[]);
    let spec = checkout.path("specs/mesh.yaml");
    let text = fs::read_to_string(&spec).unwrap();
    let gateway = |address: &str| with_gateway(&text, address);
    let west = || fs::read_to_string(checkout.path("rendered/west/configmap-isthmus-mesh.yaml")).unwrap();
    // in place
    assert_eq!(watch.runs_of(|| fs::write(&spec, gateway("203.0.113.1")).unwrap()), 1);
    assert!(west().contains("203.0.113.1"));
    // as editors do: beside it, then renamed over it
    let runs = watch.runs_of(|| {
        fs::write(checkout.path("specs/.mesh.yaml.swp"), "swap").unwrap();
        fs::write(checkout.path("specs/mesh.yaml~"), gateway("203.0.113.2")).unwrap();
        fs::rename(checkout.path("specs/mesh.yaml~"), &spec).unwrap();
        fs::remove_file(checkout.path("specs/.mesh.yaml.swp")).unwrap();
    });
    assert_eq!(runs, 1);
    assert!(west().contains("203.0.113.2"));
    // drift of what was written
    assert_eq!(watch.runs_of(|| fs::write(tree(&checkout), mesh(&checkout) + "# by hand\n").unwrap()), 1);
    assert!(!mesh(&checkout).contains("by hand"));
    // what a file:// endpoint reads
    let documents = checkout.path("metadata/east/private/multicluster.json");
    let changed = fs::read_to_string(&documents).unwrap().replace("15443", "15444");
    assert_eq!(watch.runs_of(|| fs::write(&documents, changed).unwrap()), 1);
    // nothing that a run reads
    sleep(QUIET);
    let before = watch.runs();
    fs::write(checkout.path("README.md"), "words").unwrap();
    fs::write(checkout.path("specs/notes.txt"), "words").unwrap();
    fs::read(&spec).unwrap();
    sleep(QUIET);
    assert!(watch.runs() - before <= 1);
}

#[test]
fn findings_are_reported_once_the_tree_stays_and_a_repaired_file_is_taken() {
    let checkout = Checkout::joined();
    let watch = watch(&checkout, &[]);
    let before = checkout.output();
    let spec = checkout.path("specs/mesh.yaml");
    let text = fs::read_to_string(&spec).unwrap();
    let runs = watch.runs_of(|| fs::write(&spec, text.replace("acceptForeignRoots", "acceptForeignRots")).unwrap());
    assert_eq!(runs, 1);
    assert!(watch.get("/readyz").starts_with("HTTP/1.1 503"));
    assert!(checkout.output() == before);
    // the same again, from a file that was written anew, is not said again
    watch.runs_of(|| fs::write(&spec, text.replace("acceptForeignRoots", "acceptForeignRots")).unwrap());
    assert_eq!(watch.runs_of(|| fs::write(&spec, &text).unwrap()), 1);
    assert!(watch.get("/readyz").starts_with("HTTP/1.1 200"));
    let ran = watch.end();
    assert_eq!(ran.code, 0);
    assert_eq!(ran.stderr.matches("acceptForeignRots").count(), 2, "the finding and its excerpt, once:\n{ran}");
}

#[test]
fn a_pods_volumes_are_read_and_their_swap_is_one_run() {
    let checkout = Checkout::joined();
    let text = fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap();
    fs::remove_file(checkout.path("specs/mesh.yaml")).unwrap();
    // as the kubelet lays out a ConfigMap
    let publish = |folder: &str, text: &str| {
        checkout.write(&format!("specs/{folder}/mesh.yaml"), text.as_bytes());
        symlink(folder, checkout.path("specs/..data_tmp")).unwrap();
        fs::rename(checkout.path("specs/..data_tmp"), checkout.path("specs/..data")).unwrap();
    };
    publish("..2026_11_23_10_00_00.1", &text);
    symlink("..data/mesh.yaml", checkout.path("specs/mesh.yaml")).unwrap();
    let watch = watch(&checkout, &[]);
    let runs = watch.runs_of(|| {
        publish("..2026_11_23_10_05_00.2", &text);
        publish("..2026_11_23_10_06_00.3", &with_gateway(&text, "203.0.113.9"));
        fs::remove_dir_all(checkout.path("specs/..2026_11_23_10_00_00.1")).unwrap();
    });
    assert_eq!(runs, 1);
    assert_eq!(checkout.engine(&["plan", "--locked", "--detailed-exitcode"]).code, 0);
    // any other link is refused as ever
    symlink("/etc/hostname", checkout.path("specs/x.yaml")).unwrap();
    checkout.refuses(&["plan", "--locked"], 1, &["symbolic link", "specs/x.yaml"]);
    fs::remove_file(checkout.path("specs/x.yaml")).unwrap();
    fs::remove_file(checkout.path("specs/..data")).unwrap();
    symlink("..", checkout.path("specs/..data")).unwrap();
    checkout.refuses(&["plan", "--locked"], 1, &["symbolic link", "specs/mesh.yaml"]);
}

#[test]
fn a_checkout_that_is_swapped_as_a_whole_is_one_run() {
    // as git-sync publishes: each commit a folder, and a link to the newest
    let (one, two) = (Checkout::joined(), Checkout::joined());
    state_gateway(&two, "203.0.113.9");
    let place = tempfile::tempdir().unwrap();
    let current = place.path().join("current");
    symlink(one.path(""), &current).unwrap();
    let watch = RunningWatch::on(&current, &[]);
    watch.until("the first turn", |watch| watch.runs() > 0);
    let runs = watch.runs_of(|| {
        symlink(two.path(""), place.path().join("next")).unwrap();
        fs::rename(place.path().join("next"), &current).unwrap();
    });
    assert_eq!(runs, 1);
    assert_eq!(two.engine(&["plan", "--locked", "--detailed-exitcode"]).code, 0);
}

#[test]
fn two_thousand_files_of_a_checkout_by_git_are_one_run() {
    let checkout = Checkout::joined();
    let git = |arguments: &[&str]| drop(checkout.git(arguments));
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "one"]);
    git(&["switch", "-qc", "other"]);
    for at in 0..2000 {
        checkout.write(&format!("templates/notes/{at}.txt"), b"words");
    }
    state_gateway(&checkout, "203.0.113.9");
    git(&["add", "-A"]);
    git(&["commit", "-qm", "two"]);
    git(&["switch", "-q", "main"]);
    let watch = watch(&checkout, &["--commit"]);
    assert_eq!(watch.runs_of(|| git(&["switch", "-q", "other"])), 1);
    assert!(fs::read_to_string(checkout.path("specs/mesh.yaml")).unwrap().contains("203.0.113.9"));
}

#[test]
fn a_watch_prints_what_differed_though_it_is_written_by_then() {
    let checkout = Checkout::joined();
    let watch = watch(&checkout, &[]);
    assert_eq!(watch.runs_of(|| state_gateway(&checkout, "203.0.113.1")), 1);
    let before = watch.printed().len();
    let spec = checkout.path("specs/mesh.yaml");
    let text = fs::read_to_string(&spec).unwrap().replace("203.0.113.1", "203.0.113.2");
    assert_eq!(watch.runs_of(|| fs::write(&spec, text).unwrap()), 1);
    let printed = watch.printed().split_off(before);
    for line in ["-     - address: \"203.0.113.1\"", "+     - address: \"203.0.113.2\""] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
}

/// What a watch remembers of the tree hides nothing that others do to it.
#[test]
fn a_watch_that_remembers_the_tree_mends_it_all_the_same() {
    let checkout = Checkout::joined();
    let watch = watch(&checkout, &[]);
    // until what it remembers counts
    sleep(Duration::from_millis(2_500));
    let secret = checkout.path("rendered/east/secret-istio-remote-secret-west.yaml");
    let peers = checkout.path("rendered/east/configmap-isthmus-peers.yaml");
    assert_eq!(watch.runs_of(|| state_gateway(&checkout, "203.0.113.1")), 1);
    let files = checkout.output();
    // a byte for another, as a slip of an editor would
    let text = fs::read_to_string(&secret).unwrap();
    watch.runs_of(|| fs::write(&secret, text.replacen("\"3\"", "\"4\"", 1)).unwrap());
    assert_eq!(fs::read_to_string(&secret).unwrap(), text);
    // a text that belongs to another file of ours
    watch.runs_of(|| fs::copy(&secret, &peers).map(drop).unwrap());
    assert_eq!(fs::read(&peers).unwrap(), files[&peers]);
    watch.runs_of(|| fs::remove_file(&peers).unwrap());
    assert_eq!(fs::read(&peers).unwrap(), files[&peers]);
    let lock = checkout.path("lock/clusters/east.yaml");
    let whole = fs::read_to_string(&lock).unwrap();
    for _ in 0..2 {
        watch.runs_of(|| fs::write(&lock, format!("# by hand\n{}", fs::read_to_string(&lock).unwrap())).unwrap());
        assert_eq!(fs::read_to_string(&lock).unwrap(), whole, "the same lock in other words");
    }
    // what was read long ago is still known to be ours when it goes
    let spec = checkout.path("specs/mesh.yaml");
    let text = fs::read_to_string(&spec).unwrap();
    let leaving = text.replacen("file://metadata/west\"}", "file://metadata/west\"}, state: leaving", 1);
    assert_ne!(leaving, text);
    watch.runs_of(|| fs::write(&spec, leaving).unwrap());
    watch.until("the secret to go", |_| !secret.exists());
    sleep(QUIET);
    assert_eq!(checkout.engine(&["plan", "--locked", "--detailed-exitcode"]).code, 0);
}

/// strace and the watch in it, which would continue without it.
struct Traced(RunningProcess);

impl Drop for Traced {
    fn drop(&mut self) {
        let strace = self.0.id();
        let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).unwrap_or_default();
        let mut ends = false;
        for child in children.split_whitespace() {
            let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
            ends |= rustix::process::kill_process(child, rustix::process::Signal::TERM).is_ok();
        }
        // it ends with the last of them
        if ends {
            self.0.join();
        }
    }
}

#[test]
fn where_no_events_can_be_had_scans_find_what_changed() {
    let checkout = Checkout::joined();
    let environment = TestEnvironment::new().real_time().with_tools();
    let trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=inotify_init1"];
    let refuse = ["-e", "inject=inotify_init1:error=EMFILE"];
    let mut command = environment.wrapped(&[&trace[..], &refuse].concat());
    let watch = Traced(environment.spawn(command.arg("-C").arg(checkout.path("")).arg("watch")));
    sleep(Duration::from_secs(3));
    state_gateway(&checkout, "203.0.113.9");
    let begin = Instant::now();
    while checkout.engine(&["plan", "--locked", "--detailed-exitcode"]).code != 0 {
        assert!(begin.elapsed() < PATIENCE, "nobody looked");
        sleep(Duration::from_millis(200));
    }
    let stderr = watch.0.stderr();
    assert!(stderr.contains("looking at the files every 2 s instead"), "{stderr}");
}

#[test]
fn another_engine_is_waited_for() {
    let checkout = Checkout::joined();
    let watch = watch(&checkout, &[]);
    sleep(QUIET);
    let held = isthmus::checkout::Checkout::open(&checkout.path("")).unwrap();
    let guard = held.lock().unwrap();
    state_gateway(&checkout, "203.0.113.9");
    watch.until("word of the other one", |watch| watch.get("/metrics").contains("outcome=\"busy\""));
    assert_eq!(checkout.engine(&["plan", "--locked", "--detailed-exitcode"]).code, 2);
    drop(guard);
    watch.until("the turn", |_| checkout.engine(&["plan", "--locked", "--detailed-exitcode"]).code == 0);
}

#[test]
fn once_is_one_run_with_the_code_of_apply() {
    let checkout = Checkout::new();
    checkout.engine(&["watch", "--once"]).done();
    assert_eq!(checkout.engine(&["plan", "--locked", "--detailed-exitcode"]).code, 0);
    // a trust change is held back, the other cluster continues
    let documents = checkout.path("metadata/west/public/public.json");
    let other = fs::read_to_string(&documents).unwrap();
    let uuid = other.split("clusterUUID\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    fs::write(&documents, other.replace(&uuid, "00000000-1111-4222-8333-444444444444")).unwrap();
    let ran = checkout.engine(&["watch", "--once"]);
    assert_eq!(ran.code, 4, "{ran}");
    checkout.edit("specs/mesh.yaml", "acceptForeignRoots", "acceptForeignRots");
    assert_eq!(checkout.engine(&["watch", "--once"]).code, 1);
    assert_eq!(checkout.engine(&["watch", "--push"]).code, 64);
    assert_eq!(checkout.engine(&["watch", "--cluster", "east"]).code, 64);
    let ran = checkout.engine(&["watch", "--once", "--commit"]);
    assert!(ran.code == 64 && ran.stderr.contains("git"), "{ran}");
}
