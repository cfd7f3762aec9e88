//! `engine watch --commit` in every kind of repository it may meet, and under the faults of a day.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::git::git;
use crate::support::checkout::Checkout;
use crate::support::environment::{Ran, TestEnvironment};
use crate::watch::RunningWatch;

/// An environment in which hooks and filters of a repository would find whatever they need.
pub(super) fn environment() -> TestEnvironment {
    TestEnvironment::new().real_time().with_tools()
}

fn engine(dir: &Path, arguments: &[&str]) -> Ran {
    environment().run_on(dir, arguments)
}

/// A bare remote whose main is a checkout, and clones of it.
struct Remote(TempDir);

impl Remote {
    fn of(checkout: &Checkout) -> Self {
        let remote = Self(TempDir::new().unwrap());
        let first = remote.path("first");
        let from = format!("{}/.", checkout.path("").display());
        let environment = &checkout.environment;
        environment.end(environment.program("cp").arg("-a").arg(from).arg(&first)).done();
        git(&first, &["init", "-q", "-b", "main"]);
        git(&first, &["add", "-A"]);
        git(&first, &["commit", "-qm", "first"]);
        git(remote.0.path(), &["clone", "-q", "--bare", "first", "remote.git"]);
        remote
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn clone(&self, name: &str, options: &[&str]) -> PathBuf {
        let url = format!("file://{}", self.path("remote.git").display());
        git(self.0.path(), &[&["clone", "-q"], options, &[&url, name]].concat());
        self.path(name)
    }

    fn main(&self) -> String {
        git(&self.path("remote.git"), &["rev-parse", "main"])
    }
}

/// Changes what each other cluster renders.
pub(super) fn state_gateway(dir: &Path, cluster: &str, address: &str) {
    let spec = dir.join("specs/mesh.yaml");
    let text = fs::read_to_string(&spec).unwrap();
    let from = format!("file://metadata/{cluster}\"}}");
    let (before, after) = text.split_once(&from).unwrap();
    let after = after.split_once('\n').unwrap().1;
    let stated = format!("{before}{from}, gateways: [{{address: {address}, port: 15443}}]}}\n{after}");
    fs::write(spec, stated).unwrap();
}

/// Whether git ends well.
fn runs(dir: &Path, arguments: &[&str]) -> bool {
    let environment = environment();
    environment.end(environment.program("git").current_dir(dir).args(arguments)).code == 0
}

const ONCE: [&str; 4] = ["watch", "--once", "--commit", "--push"];

/// The run is on the remote's main, whole.
#[track_caller]
fn is_pushed(remote: &Remote, dir: &Path, address: &str) {
    let shown = git(&remote.path("remote.git"), &["grep", "-l", address, "main", "--", "rendered"]);
    assert!(shown.contains("configmap-isthmus-mesh.yaml"), "{shown}");
    assert_eq!(git(dir, &["rev-parse", "HEAD"]), remote.main());
    assert_eq!(engine(dir, &["plan", "--locked", "--detailed-exitcode"]).code, 0);
}

#[test]
fn shallow_clones_and_clones_that_translate_lines() {
    let remote = Remote::of(&Checkout::joined());
    let shallow = remote.clone("shallow", &["--depth", "1"]);
    state_gateway(&shallow, "east", "203.0.113.1");
    git(&shallow, &["commit", "-qam", "a gateway"]);
    engine(&shallow, &ONCE).done();
    is_pushed(&remote, &shallow, "203.0.113.1");
    assert!(git(&shallow, &["status", "--porcelain"]).is_empty());

    let lines = remote.clone("lines", &["-c", "core.autocrlf=true"]);
    assert!(fs::read_to_string(lines.join("specs/mesh.yaml")).unwrap().contains("\r\n"));
    let before = remote.main();
    engine(&lines, &ONCE).done();
    // line breaks alone are no difference, on disk or in a commit
    assert_eq!(remote.main(), before);
    let ran = engine(&lines, &["plan", "--locked"]);
    assert!(ran.code == 0 && ran.stdout.contains("No changes."), "{ran}");
    assert!(git(&lines, &["status", "--porcelain"]).is_empty());
    state_gateway(&lines, "east", "203.0.113.2");
    git(&lines, &["commit", "-qam", "a gateway"]);
    assert_eq!(engine(&lines, &ONCE).code, 0);
    is_pushed(&remote, &lines, "203.0.113.2");
    assert!(
        !git(&remote.path("remote.git"), &["show", "main:rendered/west/configmap-isthmus-mesh.yaml"]).contains('\r')
    );
}

#[test]
fn a_sparse_checkout_deletes_nothing() {
    let remote = Remote::of(&Checkout::joined());
    let sparse = remote.clone("sparse", &[]);
    git(&sparse, &["sparse-checkout", "set", "specs", "lock", "metadata", "rendered/west"]);
    assert!(!sparse.join("rendered/east").exists());
    state_gateway(&sparse, "east", "203.0.113.3");
    git(&sparse, &["commit", "-qam", "a gateway"]);
    let files = || git(&remote.path("remote.git"), &["ls-tree", "-r", "--name-only", "main"]);
    let before = files();
    engine(&sparse, &ONCE).done();
    assert_eq!(files(), before);
    is_pushed(&remote, &sparse, "203.0.113.3");
}

#[test]
fn a_linked_work_tree_commits_to_its_own_branch() {
    let remote = Remote::of(&Checkout::joined());
    let clone = remote.clone("clone", &[]);
    let linked = remote.path("linked");
    git(&clone, &["worktree", "add", "-q", "-b", "other", &linked.to_string_lossy()]);
    state_gateway(&linked, "east", "203.0.113.6");
    git(&linked, &["commit", "-qam", "spec"]);
    engine(&linked, &["watch", "--once", "--commit"]).done();
    assert!(git(&linked, &["log", "-1", "--format=%s"]).starts_with("rendered: west"));
    assert_eq!(git(&linked, &["status", "--porcelain"]), "");
    // it brings a lock, which a reviewer has to vouch for
    let ran = engine(&linked, &["plan", "--base", "main"]);
    assert!(ran.code == 4 && ran.stdout.contains("203.0.113.6") && ran.stdout.contains("lock/clusters/"), "{ran}");
    assert_eq!(git(&clone, &["rev-parse", "main"]), remote.main(), "the other tree's branch stays");
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
}

#[test]
fn a_detached_head_is_reported_and_a_branch_of_its_own_is_taken() {
    let remote = Remote::of(&Checkout::joined());
    let clone = remote.clone("clone", &[]);
    git(&clone, &["checkout", "-q", "--detach"]);
    state_gateway(&clone, "east", "203.0.113.4");
    git(&clone, &["commit", "-qam", "a gateway"]);
    let before = git(&clone, &["rev-parse", "HEAD"]);
    let main = remote.main();
    let ran = engine(&clone, &ONCE);
    let stderr = &ran.stderr;
    assert!(ran.code == 1 && stderr.contains("no branch is checked out") && stderr.contains("--branch"), "{ran}");
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), before);
    let branch = [&ONCE[..], &["--branch", "isthmus/turn"]].concat();
    engine(&clone, &branch).done();
    assert_eq!((git(&clone, &["rev-parse", "HEAD"]), remote.main()), (before.clone(), main));
    let on_branch = || git(&remote.path("remote.git"), &["rev-parse", "isthmus/turn"]);
    let first = on_branch();
    assert_eq!(git(&remote.path("remote.git"), &["rev-parse", "isthmus/turn^"]), before);
    // once more: nothing new, so nothing moves; another run takes the branch's place
    assert_eq!(engine(&clone, &branch).code, 0);
    assert_eq!(on_branch(), first);
    let spec = clone.join("specs/mesh.yaml");
    fs::write(&spec, fs::read_to_string(&spec).unwrap().replace("203.0.113.4", "203.0.113.5")).unwrap();
    git(&clone, &["commit", "-qam", "another gateway"]);
    let before = git(&clone, &["rev-parse", "HEAD"]);
    engine(&clone, &branch).done();
    assert_ne!(on_branch(), first);
    assert_eq!(git(&remote.path("remote.git"), &["rev-parse", "isthmus/turn^"]), before);
}

#[test]
fn a_branch_that_was_rewritten_under_us_is_followed_and_a_persons_commits_are_kept() {
    let remote = Remote::of(&Checkout::joined());
    let (ours, theirs) = (remote.clone("ours", &[]), remote.clone("theirs", &[]));
    state_gateway(&theirs, "east", "203.0.113.6");
    git(&theirs, &["commit", "-q", "--amend", "-am", "rewritten"]);
    git(&theirs, &["push", "-q", "--force"]);
    let ran = engine(&ours, &[&ONCE[..], &["--pull", "1h"]].concat());
    assert!(ran.code == 0 && ran.stderr.contains("which replaces what the remote had"), "{ran}");
    is_pushed(&remote, &ours, "203.0.113.6");
    // a person's own commit here is no one's to drop
    fs::write(ours.join("notes.md"), "mine").unwrap();
    git(&ours, &["add", "notes.md"]);
    git(&ours, &["commit", "-qm", "mine"]);
    let mine = git(&ours, &["rev-parse", "HEAD"]);
    git(&theirs, &["fetch", "-q"]);
    git(&theirs, &["commit", "-q", "--amend", "-m", "rewritten again"]);
    git(&theirs, &["push", "-q", "--force"]);
    let ran = engine(&ours, &["watch", "--once", "--pull", "1h"]);
    assert!(ran.stderr.contains("git rebase"), "{ran}");
    assert_eq!(git(&ours, &["rev-parse", "HEAD"]), mine);
}

#[test]
fn a_merge_is_not_disturbed_and_an_index_lock_is_waited_for() {
    let remote = Remote::of(&Checkout::joined());
    let clone = remote.clone("clone", &[]);
    git(&clone, &["switch", "-qc", "other"]);
    fs::write(clone.join("notes.md"), "one").unwrap();
    git(&clone, &["add", "-A"]);
    git(&clone, &["commit", "-qm", "one"]);
    git(&clone, &["switch", "-q", "main"]);
    git(&clone, &["merge", "-q", "--no-ff", "--no-commit", "other"]);
    state_gateway(&clone, "east", "203.0.113.7");
    let before = git(&clone, &["status", "--porcelain"]);
    let ran = engine(&clone, &["watch", "--once", "--commit", "--wait", "1s"]);
    assert!(ran.code == 5 && ran.stderr.contains("a merge is under way"), "{ran}");
    assert_eq!(git(&clone, &["status", "--porcelain"]), before);
    git(&clone, &["commit", "-qam", "merged"]);

    let lock = clone.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    let release = std::thread::spawn({
        let lock = lock.clone();
        move || {
            sleep(Duration::from_secs(2));
            fs::remove_file(lock).unwrap();
        }
    });
    let ran = engine(&clone, &ONCE);
    release.join().unwrap();
    ran.done();
    is_pushed(&remote, &clone, "203.0.113.7");
}

#[test]
fn a_git_folder_that_cannot_be_written_costs_the_commit_alone() {
    let remote = Remote::of(&Checkout::joined());
    let clone = remote.clone("clone", &[]);
    state_gateway(&clone, "east", "203.0.113.8");
    git(&clone, &["commit", "-qam", "a gateway"]);
    let head = git(&clone, &["rev-parse", "HEAD"]);
    // for root, permissions say nothing: the folder is mounted read-only, in a mount namespace of its own
    let script = "mount --bind .git .git && mount -o remount,ro,bind .git && exec \"$@\"";
    let environment = environment();
    let mut command = environment.wrapped(&["unshare", "-rm", "sh", "-ec", script, "sh"]);
    let ran = environment.end(command.args(["watch", "--once", "--commit"]).current_dir(&clone));
    assert_eq!(ran.code, 6, "{ran}");
    assert!(ran.stderr.contains("ead-only"), "{ran}");
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), head);
    // the files are whole, and the next watch that can commits them
    assert_eq!(engine(&clone, &["plan", "--locked", "--detailed-exitcode"]).code, 0);
    engine(&clone, &ONCE).done();
    is_pushed(&remote, &clone, "203.0.113.8");
}

#[test]
fn two_watchers_on_one_repository_come_to_one_history() {
    let remote = Remote::of(&Checkout::joined());
    let clones = ["one", "two"].map(|name| remote.clone(name, &[]));
    let watches = clones.each_ref().map(|dir| RunningWatch::on(dir, &["--commit", "--push", "--pull", "1s"]));
    for watch in &watches {
        watch.until("the first turn", |watch| watch.runs() > 0);
    }
    let person = remote.clone("person", &[]);
    for (cluster, address) in [("east", "203.0.113.10"), ("west", "203.0.113.11")] {
        let begin = Instant::now();
        loop {
            git(&person, &["pull", "-q", "--rebase"]);
            state_gateway(&person, cluster, address);
            git(&person, &["commit", "-qam", "a gateway"]);
            if runs(&person, &["push", "-q"]) {
                break;
            }
            git(&person, &["reset", "-q", "--hard", "origin/main"]);
            assert!(begin.elapsed() < Duration::from_mins(1));
        }
        let landed = || runs(&remote.path("remote.git"), &["grep", "-q", address, "main", "--", "rendered"]);
        watches[0].until("the turn on main", |_| landed());
    }
    for (watch, clone) in watches.iter().zip(&clones) {
        watch.until("one history", |_| git(clone, &["rev-parse", "HEAD"]) == remote.main());
    }
    // quiet from here on: neither undoes what the other did
    sleep(Duration::from_secs(3));
    let quiet = remote.main();
    sleep(Duration::from_secs(4));
    assert_eq!(remote.main(), quiet);
    for clone in &clones {
        assert!(git(clone, &["status", "--porcelain"]).is_empty());
        assert_eq!(engine(clone, &["plan", "--locked", "--detailed-exitcode"]).code, 0);
    }
    let authors = git(&remote.path("remote.git"), &["log", "--format=%an", "main"]);
    assert!(authors.lines().filter(|name| *name == "isthmus").count() >= 2, "{authors}");
}

#[test]
fn a_watch_that_is_killed_at_any_time_leaves_nothing_uncommitted_to_the_next() {
    let remote = Remote::of(&Checkout::new());
    let clone = remote.clone("clone", &[]);
    for round in 0..12_u64 {
        let environment = environment();
        let mut running = environment.spawn(environment.command().arg("-C").arg(&clone).args(ONCE));
        sleep(Duration::from_millis(20 + round * 35));
        running.kill();
        // git itself may have been killed with its lock held, as by a power cut: a person removes that
        drop(fs::remove_file(clone.join(".git/index.lock")));
        let address = format!("203.0.113.{}", 20 + round);
        if round % 3 == 2 {
            engine(&clone, &ONCE).done();
            assert_eq!(git(&clone, &["rev-parse", "HEAD"]), remote.main());
            assert!(git(&clone, &["status", "--porcelain"]).is_empty(), "{}", git(&clone, &["status", "--porcelain"]));
        }
        state_gateway(&clone, "east", &address);
        git(&clone, &["commit", "-q", "-m", "a gateway", "--", "specs"]);
    }
    engine(&clone, &ONCE).done();
    is_pushed(&remote, &clone, "203.0.113.31");
}

/// Between the index and the branch: what is staged by then is what stands on disk, never what was there before.
#[test]
fn a_watch_that_is_killed_before_the_branch_moves_leaves_an_index_that_brings_nothing_back() {
    let remote = Remote::of(&Checkout::joined());
    let clone = remote.clone("clone", &[]);
    state_gateway(&clone, "east", "203.0.113.5");
    git(&clone, &["commit", "-qam", "a gateway"]);
    let environment = environment();
    // the environment's own comes first, and is a link to the real one
    let shim = environment.path("bin/git");
    let real = fs::read_link(&shim).unwrap();
    fs::remove_file(&shim).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" update-ref \"*) kill -9 $PPID; exit 1;; esac\nexec {} \"$@\"\n",
        real.display()
    );
    fs::write(&shim, script).unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = environment.run_on(&clone, &ONCE);
    assert_eq!(ran.signal, Some(9), "{ran}");
    let west = "rendered/west/configmap-isthmus-mesh.yaml";
    assert_eq!(git(&clone, &["diff", "--name-only", "--", west]), "", "the index holds what is on disk");
    assert_eq!(git(&clone, &["diff", "--cached", "--name-only", "--", west]), west);
    engine(&clone, &ONCE).done();
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
}

#[test]
fn a_submodule_commits_in_itself_and_a_hostile_one_starts_nothing() {
    let remote = Remote::of(&Checkout::joined());
    let outer = remote.path("outer");
    fs::create_dir(&outer).unwrap();
    git(&outer, &["init", "-q", "-b", "main"]);
    let url = format!("file://{}", remote.path("remote.git").display());
    git(&outer, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &url, "mesh"]);
    git(&outer, &["commit", "-qm", "outer"]);
    let inner = outer.join("mesh");
    state_gateway(&inner, "east", "203.0.113.12");
    git(&inner, &["commit", "-qam", "a gateway"]);
    let head = git(&outer, &["rev-parse", "HEAD"]);

    let canary = remote.path("canary");
    let script = remote.path("program");
    fs::write(&script, format!("#!/bin/sh\ntouch {}\ncat\n", canary.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let program = script.to_str().unwrap();
    for name in [
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "filter.x.clean",
        "filter.x.smudge",
        "diff.external",
        "gpg.program",
    ] {
        git(&inner, &["config", name, program]);
    }
    let hooks = remote.path("hooks");
    fs::create_dir(&hooks).unwrap();
    for hook in ["pre-commit", "post-commit", "reference-transaction", "pre-push", "post-index-change", "post-checkout"]
    {
        fs::copy(&script, hooks.join(hook)).unwrap();
    }
    git(&inner, &["config", "core.hooksPath", hooks.to_str().unwrap()]);
    git(&inner, &["config", "commit.gpgSign", "true"]);
    fs::write(inner.join(".gitattributes"), "* filter=x diff=x\n").unwrap();
    drop(fs::remove_file(&canary));
    engine(&inner, &[&ONCE[..], &["--pull", "1h"]].concat()).done();
    assert!(!canary.exists(), "a program of the repository was started");
    is_pushed(&remote, &inner, "203.0.113.12");
    assert_eq!(git(&outer, &["rev-parse", "HEAD"]), head);
    // the canary would have told
    runs(&inner, &["status"]);
    assert!(canary.exists());
}

#[test]
fn names_that_differ_by_case_alone_cannot_be() {
    // on a file system that does not tell them apart, one cluster's files would be another's
    let checkout = Checkout::new();
    checkout.edit("specs/mesh.yaml", "{name: west}", "{name: East}");
    checkout.refuses(&["plan"], 1, &["East"]);
}
