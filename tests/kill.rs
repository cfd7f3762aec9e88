//! Commits that are killed, refused or starved at every single system call.
//!
//! The child of each test is this test binary itself, asked for one of the ignored tests below, alone and under strace.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a child tells its parent")]
#![allow(clippy::disallowed_methods, reason = "tests start themselves again and look at files by themselves")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use isthmus::checkout::{Checkout, CheckoutError, FileChange, Left, ReadLimits};
use tempfile::TempDir;

use crate::checkout::{commit, delete, folder, put, tree};

/// Names the checkout a child works in.
const ROOT: &str = "ISTHMUS_TEST_ROOT";
/// System calls that change something; the lock's comes first and tells where the work begins.
const MUTATING: &str = "flock,openat,write,fchmod,mkdirat,renameat,renameat2,unlinkat,syncfs";

/// More opens and writes than the main thread of a child makes.
const PADDING: usize = 12;

type FileBytes = BTreeMap<String, Vec<u8>>;

// The scenario: a killed engine's left-over, files to replace, to make, to keep and to delete, folders to make and to prune.

fn before(root: &Path) {
    for (path, text) in [
        ("lock/east.yaml", "old lock"),
        ("rendered/east/a.yaml", "old a"),
        ("rendered/east/same.yaml", "same"),
        ("rendered/west/deep/x.yaml", "x"),
        ("rendered/west/y.yaml", "y"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn with_left_over(root: &Path) {
    before(root);
    fs::write(root.join("rendered/east/.isthmus-tmp-0"), "half").unwrap();
}

fn changes() -> Vec<FileChange> {
    vec![
        put("lock/east.yaml", "new lock"),
        put("lock/north.yaml", "north lock"),
        put("rendered/east/a.yaml", "new a"),
        put("rendered/east/same.yaml", "same"),
        put("rendered/north/deep/a.yaml", "north a"),
        delete("rendered/west/deep/x.yaml"),
        delete("rendered/west/y.yaml"),
    ]
}

fn apply(files: &mut FileBytes, change: &FileChange) {
    match change {
        FileChange::Write { path, bytes, .. } => drop(files.insert(path.clone(), bytes.clone())),
        FileChange::Delete { path } => drop(files.remove(path)),
    }
}

/// The trees that a reader may find: none of the changes, the first one, the first two, …
fn lawful() -> Vec<FileBytes> {
    let start = folder();
    before(start.path());
    let mut files = files(start.path());
    let mut all = vec![files.clone()];
    for change in changes() {
        apply(&mut files, &change);
        all.push(files.clone());
    }
    all
}

/// The plain files of a checkout, as git sees them: without empty folders, and without left-overs.
fn files(root: &Path) -> FileBytes {
    tree(root)
        .into_iter()
        .filter(|(path, _)| !path.contains(".isthmus-tmp-"))
        .filter_map(|(path, bytes)| Some((path, bytes?)))
        .collect()
}

fn left_overs(root: &Path) -> Vec<String> {
    tree(root).into_keys().filter(|path| path.contains(".isthmus-tmp-")).collect()
}

/// What the next engine does: it reads the tree, and commits what is not there yet.
fn next_run(root: &Path) {
    let checkout = Checkout::open(root).unwrap();
    let guard = checkout.lock().unwrap();
    let there = guard.read_tree("", &|_| true, ReadLimits::OUTPUT).unwrap();
    let mut wanted = there.clone();
    for change in changes() {
        apply(&mut wanted, &change);
    }
    let rest: Vec<_> =
        changes().into_iter().filter(|change| there.get(change.path()) != wanted.get(change.path())).collect();
    guard.commit(&rest, &|_| {}).unwrap();
    assert_eq!(files(root), *lawful().last().unwrap());
    assert_eq!(left_overs(root), [""; 0]);
}

// Children and what they run under.

/// None where one of the ignored tests is run by hand.
fn root_of_child() -> Option<PathBuf> {
    env::var_os(ROOT).map(PathBuf::from)
}

fn child(test: &str, root: &Path, wrapper: &[&str]) -> Command {
    let exe = env::current_exe().unwrap();
    let mut arguments: Vec<_> = wrapper.iter().map(Into::into).collect();
    arguments.push(exe.into_os_string());
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).args([
        "--exact",
        &format!("kill::{test}"),
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    // Cargo's search path for libraries costs dozens of calls at the start.
    command.env(ROOT, root).env_remove("LD_LIBRARY_PATH").stdin(Stdio::null());
    command
}

fn run(test: &str, root: &Path, wrapper: &[&str]) -> Output {
    child(test, root, wrapper).output().unwrap()
}

/// Whether a command works here. In CI it must.
fn can(command: &[&str]) -> bool {
    let works = Command::new(command[0]).args(&command[1..]).output().is_ok_and(|output| output.status.success());
    assert!(works || env::var_os("CI").is_none(), "`{}` does not work here", command.join(" "));
    if !works {
        eprintln!("skipped: `{}` does not work here", command.join(" "));
    }
    works
}

/// What starts a command in mounts of its own, where there is such a thing.
fn own_mounts() -> Option<&'static [&'static str]> {
    const ROOT: &[&str] = &["unshare", "-m"];
    const USER: &[&str] = &["unshare", "-r", "-m"];
    const SUDO: &[&str] = &["sudo", "-n", "-E", "unshare", "-m"];
    let works = |arguments: &[&str]| {
        Command::new(arguments[0]).args(&arguments[1..]).arg("true").status().is_ok_and(|s| s.success())
    };
    if !rustix::process::getuid().is_root() {
        if works(USER) {
            return Some(USER);
        } else if works(SUDO) {
            return Some(SUDO);
        }
    }
    can(&[ROOT, &["true"]].concat()).then_some(ROOT)
}

fn can_trace() -> bool {
    can(&["strace", "-f", "-o", "/dev/null", "-e", "trace=openat", "true"])
}

#[test]
#[ignore = "a child of the tests below"]
fn commits() {
    let Some(root) = root_of_child() else { return };
    // strace counts the calls of each thread by itself. After these, no number of a call of this thread is one of the
    // main thread's too, so what is injected there happens here.
    for _ in 0..PADDING {
        drop(fs::File::open("/").unwrap());
        std::io::stdout().write_all(b"\n").unwrap();
    }
    let done = commit(&root, &changes());
    if let Err(CheckoutError::Io { left, .. }) = &done {
        println!("left: {left:?}");
    }
    done.unwrap();
}

#[test]
#[ignore = "a child of the tests below"]
fn holds_the_lock() {
    let Some(root) = root_of_child() else { return };
    let checkout = Checkout::open(&root).unwrap();
    let _guard = checkout.lock().unwrap();
    println!("\nlocked");
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
#[ignore = "a child of the tests below"]
fn fills_the_disk() {
    let Some(root) = root_of_child() else { return };
    before(&root);
    let tree_before = tree(&root);
    let mut changes = changes();
    changes.extend((0..100).map(|index| put(&format!("rendered/big/{index}"), &"x".repeat(4096))));
    let error = commit(&root, &changes).unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.ends_with("nothing was changed: free some space on this disk and run again"), "{error}");
    assert!(tree(&root) == tree_before, "something was changed");
    next_run(&root);
}

#[test]
#[ignore = "a child of the tests below"]
fn may_not_write() {
    let Some(root) = root_of_child() else { return };
    let tree_before = tree(&root);
    println!("{}", commit(&root, &changes()).unwrap_err());
    assert!(tree(&root) == tree_before, "something was changed");
    // What changes nothing needs no right to.
    commit(&root, &[put("rendered/east/same.yaml", "same"), delete("none/at/all")]).unwrap();
}

#[test]
#[ignore = "a child of the tests below"]
fn writes_many_folders() {
    let Some(root) = root_of_child() else { return };
    let changes: Vec<_> = (0..700).map(|index| put(&format!("{}/{index}/a", index % 2), "a")).collect();
    assert_eq!(commit(&root, &changes).unwrap().written, 700);
    let read = Checkout::open(&root).unwrap().read_tree("", &|_| true, ReadLimits::OUTPUT).unwrap();
    assert_eq!(read.len(), 700);
    let deletes: Vec<_> = changes.iter().map(|change| delete(change.path())).collect();
    assert_eq!(commit(&root, &deletes).unwrap().deleted, 700);
    assert_eq!(tree(&root), BTreeMap::new());
}

/// A system call of a commit: its name, and its number among the calls of that name in its thread.
#[derive(Debug, Clone)]
struct Point {
    name: String,
    number: usize,
    line: String,
}

/// The calls from the lock to the last sync.
fn points() -> Vec<Point> {
    let (root, log) = (folder(), folder());
    with_left_over(root.path());
    let log = log.path().join("log");
    let trace = format!("trace={MUTATING}");
    let wrapper = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace];
    let output = run("commits", root.path(), &wrapper);
    assert!(output.status.success(), "{output:?}");
    let log = fs::read_to_string(&log).unwrap();
    let lines = || log.lines().map(|line| line.split_once(' ').unwrap());
    let (thread, _) = lines().find(|(_, call)| call.trim_start().starts_with("flock(")).unwrap();
    let mut points = Vec::new();
    let mut numbers = BTreeMap::new();
    let mut others = BTreeMap::new();
    for (by, call) in lines() {
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        let counts = if by == thread { &mut numbers } else { &mut others };
        let number = counts.entry(name.to_owned()).and_modify(|number| *number += 1).or_insert(1_usize);
        if by == thread {
            points.push(Point { name: name.to_owned(), number: *number, line: call.to_owned() });
        }
    }
    let first = points.iter().position(|point| point.name == "flock").unwrap();
    let last = points.iter().rposition(|point| point.name == "syncfs").unwrap();
    points.truncate(last + 1);
    points.drain(..first);
    for Point { name, number, .. } in &points {
        assert!(
            others.get(name).is_none_or(|count| count < number),
            "{name} {number} is a call of the main thread too"
        );
    }
    points
}

/// Runs the commit once for each point, with something injected there, and looks at the tree.
///
/// strace stops at the wanted calls alone where it only changes their result; a signal needs a stop at every call.
fn at_each(points: &[Point], what: &str, check: impl Fn(&Point, &Path, &Output) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let root: TempDir = folder();
                    with_left_over(root.path());
                    let inject = format!("inject={}:{what}:when={}", point.name, point.number);
                    let trace = format!("trace={}", point.name);
                    let fast = if what.starts_with("error") { "--seccomp-bpf" } else { "-f" };
                    let wrapper = ["strace", "-f", fast, "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
                    let output = run("commits", root.path(), &wrapper);
                    check(point, root.path(), &output);
                }
            });
        }
    });
}

#[test]
fn killed_at_any_call_every_file_is_whole_and_the_next_run_completes() {
    if !can_trace() {
        return;
    }
    // A call that changes nothing leaves what the one before it left.
    let reads = |point: &Point| point.name == "openat" && !point.line.contains("O_CREAT");
    let (points, lawful): (Vec<_>, _) = (points().into_iter().filter(|point| !reads(point)).collect(), lawful());
    let seen: Vec<_> = lawful.iter().map(|_| AtomicUsize::new(0)).collect();
    at_each(&points, "signal=SIGKILL", |point, root, output| {
        assert!(!output.status.success(), "{point:?} was not reached: {output:?}");
        let found = files(root);
        let place = lawful.iter().position(|tree| *tree == found);
        seen[place.unwrap_or_else(|| panic!("{point:?}: {found:?}"))].fetch_add(1, Ordering::Relaxed);
        next_run(root);
    });
    // Every state but those that equal the one before (a change that is none) and after was met.
    let met = seen.iter().filter(|count| count.load(Ordering::Relaxed) > 0).count();
    assert_eq!(met, lawful.len() - 1, "{seen:?}");
}

#[test]
fn an_error_of_any_call_leaves_whole_files_and_says_which() {
    if !can_trace() {
        return;
    }
    let (points, lawful) = (points(), lawful());
    let staged = points.iter().position(|point| point.name.starts_with("renameat")).unwrap();
    let (early, late) = points.split_at(staged);
    for error in ["ENOSPC", "EIO"] {
        at_each(early, &format!("error={error}"), |point, root, output| {
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success() && printed.contains("left: Untouched"), "{point:?}: {output:?}");
            assert_eq!(files(root), lawful[0], "{point:?}");
            // Where the left-over itself cannot be removed, it stays.
            let sweeping = point.name == "unlinkat" || !left_overs(root).is_empty();
            assert!(
                !sweeping || left_overs(root) == ["rendered/east/.isthmus-tmp-0"],
                "{point:?}: {:?}",
                left_overs(root)
            );
            next_run(root);
        });
    }
    // The changes made, without the one that is none.
    let made = |count: usize| lawful[if count < 3 { count } else { count + 1 }].clone();
    at_each(late, "error=EIO", |point, root, output| {
        let printed = String::from_utf8_lossy(&output.stdout);
        let found = files(root);
        if point.line.contains("AT_REMOVEDIR") {
            assert!(output.status.success(), "an empty folder that stays is no failure: {output:?}");
            assert_eq!(found, made(6));
        } else if point.name == "syncfs" {
            assert!(printed.contains(&format!("left: {:?}", Left::Unconfirmed)), "{output:?}");
            assert_eq!(found, made(6));
        } else if let Some(count) =
            (1..6).find(|done| printed.contains(&format!("{:?}", Left::Partly { done: *done, of: 6 })))
        {
            assert_eq!(found, made(count), "{point:?}");
        } else if point.name.starts_with("renameat") {
            assert!(printed.contains("left: Untouched"), "{point:?}: {output:?}");
            assert_eq!(found, made(0));
        }
        assert_eq!(left_overs(root), [""; 0], "{point:?}");
        next_run(root);
    });
}

#[test]
fn a_killed_holder_frees_the_lock() {
    let root = folder();
    let mut holder = child("holds_the_lock", root.path(), &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"));
    let checkout = Checkout::open(root.path()).unwrap();
    assert!(matches!(checkout.lock(), Err(CheckoutError::Busy(_))));
    holder.kill().unwrap();
    holder.wait().unwrap();
    drop(checkout.lock().unwrap());
}

#[test]
fn a_full_disk_changes_nothing() {
    let Some(own_mounts) = own_mounts() else { return };
    for size in ["size=96k", "size=1m,nr_inodes=40"] {
        let root = folder();
        let mount = format!("mount -t tmpfs -o {size} none \"${ROOT}\" && exec \"$@\"");
        let output = run("fills_the_disk", root.path(), &[own_mounts, &["sh", "-c", &mount, "sh"]].concat());
        assert!(output.status.success(), "{size}: {output:?}");
    }
}

#[test]
fn a_read_only_file_system_changes_nothing() {
    let Some(own_mounts) = own_mounts() else { return };
    let root = folder();
    before(root.path());
    let mount = format!("mount --bind \"${ROOT}\" \"${ROOT}\" && mount -o remount,bind,ro \"${ROOT}\" && exec \"$@\"");
    let output = run("may_not_write", root.path(), &[own_mounts, &["sh", "-c", &mount, "sh"]].concat());
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let wanted = "cannot write into the folder `lock`: Read-only file system (os error 30); nothing was changed: the file \
                  system is mounted read-only, mount it for writing or use another checkout";
    assert!(printed.contains(wanted), "{printed}");
}

#[test]
fn one_read_only_folder_changes_nothing() {
    // Root without its capabilities is held to the permission bits as everybody else is.
    let root_alone: &[&str] = &["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let drop_rights = if rustix::process::getuid().is_root() { root_alone } else { &["env"] };
    if !can(&[drop_rights, &["true"]].concat()) {
        return;
    }
    for read_only in ["rendered/west/deep", "rendered", "rendered/east"] {
        let root = folder();
        before(root.path());
        let mode = |mode| fs::set_permissions(root.path().join(read_only), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o555);
        let output = run("may_not_write", root.path(), drop_rights);
        mode(0o755);
        assert!(output.status.success(), "{read_only}: {output:?}");
        let printed = String::from_utf8_lossy(&output.stdout);
        let wanted = format!("cannot write into the folder `{read_only}`: Permission denied");
        assert!(printed.contains(&wanted), "{printed}");
    }
}

#[test]
fn modes_are_as_given_whatever_the_umask() {
    for umask in ["000", "077"] {
        let root = folder();
        before(root.path());
        let with = format!("umask {umask} && exec \"$@\"");
        let output = run("commits", root.path(), &["sh", "-c", &with, "sh"]);
        assert!(output.status.success(), "{umask}: {output:?}");
        let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!([mode("rendered/north/deep"), mode("rendered/north/deep/a.yaml")], [0o755, 0o644], "{umask}");
    }
}

#[test]
fn many_folders_need_few_open_files() {
    let root = folder();
    let output = run("writes_many_folders", root.path(), &["sh", "-c", "ulimit -n 300 && exec \"$@\"", "sh"]);
    assert!(output.status.success(), "{output:?}");
}
