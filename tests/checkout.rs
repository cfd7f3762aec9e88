//! The checkout edge: what it reads, what it writes, and what it refuses.
#![allow(clippy::disallowed_methods, reason = "tests look at files by themselves")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use isthmus::checkout::{Checkout, CheckoutError, Committed, FileChange, Left, ReadLimits};
use proptest::prelude::*;
use rustix::fs::{CWD, Mode, RenameFlags, renameat_with};
use tempfile::TempDir;

/// A temporary folder in memory, where a sync costs nothing.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(crate) fn put(path: &str, text: &str) -> FileChange {
    FileChange::Write { path: path.into(), bytes: text.into(), mode: 0o644 }
}

pub(crate) fn delete(path: &str) -> FileChange {
    FileChange::Delete { path: path.into() }
}

pub(crate) fn commit(root: &Path, changes: &[FileChange]) -> Result<Committed, CheckoutError> {
    Checkout::open(root).unwrap().lock()?.commit(changes, &|_| {})
}

/// Every file and folder below a root, also hidden ones: the view of someone else than the code under test.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    fn walk(root: &Path, at: &Path, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if path.is_symlink() {
                found.insert(name, Some(b"link".to_vec()));
            } else if path.is_dir() {
                found.insert(name, None);
                walk(root, &path, found);
            } else {
                found.insert(name, Some(fs::read(path).unwrap()));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

fn all(_: &str) -> bool {
    true
}

fn read_all(root: &Path, folder: &str) -> Result<BTreeMap<String, Vec<u8>>, CheckoutError> {
    Checkout::open(root).unwrap().read_tree(folder, &all, ReadLimits::OUTPUT)
}

#[test]
fn a_tree_is_read_with_the_paths_from_the_root() {
    let root = folder();
    fs::create_dir_all(root.path().join("specs/eu/.cache")).unwrap();
    for (path, text) in [("mesh.yaml", "m"), ("eu/east.yaml", "e"), ("eu/notes.txt", "n"), (".east.yaml.swp", "s")] {
        fs::write(root.path().join("specs").join(path), text).unwrap();
    }
    // An editor's lock is a dangling link with a dot.
    symlink("me@host.1", root.path().join("specs/.#mesh.yaml")).unwrap();
    symlink("/etc", root.path().join("specs/eu/.cache/etc")).unwrap();
    let checkout = Checkout::open(root.path()).unwrap();
    let yaml = checkout.read_tree("specs", &|path| !path.ends_with("txt"), ReadLimits::SPECS).unwrap();
    let read: Vec<_> = yaml.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    assert_eq!(read, [("specs/eu/east.yaml", &b"e"[..]), ("specs/mesh.yaml", b"m")]);
    assert_eq!(checkout.list("specs").unwrap(), ["eu", "mesh.yaml"]);
    assert_eq!(checkout.read("specs/eu/east.yaml").unwrap().unwrap(), b"e");
    for missing in ["specs/none.yaml", "none/none.yaml"] {
        assert_eq!(checkout.read(missing).unwrap(), None);
    }
    assert!(checkout.read_tree("none/none", &all, ReadLimits::SPECS).unwrap().is_empty());
    assert!(checkout.list("none").unwrap().is_empty());
}

#[test]
fn many_files_in_many_folders_are_read_as_they_are() {
    let root = folder();
    let mut expected = BTreeMap::new();
    for folder in 0..7 {
        fs::create_dir_all(root.path().join(format!("r/{folder}"))).unwrap();
        for file in 0..300 {
            let (path, text) = (format!("r/{folder}/{file}"), format!("{folder} {file}"));
            fs::write(root.path().join(&path), &text).unwrap();
            expected.insert(path, text.into_bytes());
        }
    }
    assert_eq!(read_all(root.path(), "r").unwrap(), expected);
}

#[test]
fn what_is_no_plain_file_is_named_and_not_read() {
    let check = |make: &dyn Fn(&Path), wanted: &str| {
        let root = folder();
        fs::create_dir_all(root.path().join("specs/eu")).unwrap();
        make(&root.path().join("specs/eu"));
        assert_eq!(read_all(root.path(), "specs").unwrap_err().to_string(), wanted);
    };
    check(
        &|at| symlink("/etc/passwd", at.join("a.yaml")).unwrap(),
        "expected a plain file at `specs/eu/a.yaml`, found a symbolic link; links are never followed, put what it points \
         to in its place",
    );
    check(
        &|at| symlink("/etc", at.join("sub")).unwrap(),
        "expected a plain file at `specs/eu/sub`, found a symbolic link; links are never followed, put what it points to \
         in its place",
    );
    check(
        &|at| rustix::fs::mknodat(CWD, at.join("p"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap(),
        "expected a plain file at `specs/eu/p`, found a named pipe; move it away",
    );
    check(
        &|at| drop(std::os::unix::net::UnixListener::bind(at.join("s")).unwrap()),
        "expected a plain file at `specs/eu/s`, found a socket; move it away",
    );
    check(
        &|at| fs::write(at.join(std::ffi::OsStr::from_bytes(b"caf\xe9.yaml")), "").unwrap(),
        "the folder `specs/eu` holds a name that is not UTF-8: `caf\\xe9.yaml`; rename or remove it",
    );
}

#[test]
fn single_reads_take_no_link_and_wait_for_no_pipe() {
    let root = folder();
    let outside = folder();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), root.path().join("specs")).unwrap();
    symlink(outside.path().join("secret"), root.path().join("file")).unwrap();
    fs::write(root.path().join("plain"), "").unwrap();
    rustix::fs::mknodat(CWD, root.path().join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let checkout = Checkout::open(root.path()).unwrap();
    for path in ["specs/secret", "file", "pipe", "plain/below", "specs"] {
        assert!(matches!(checkout.read(path), Err(CheckoutError::Kind { .. })), "{path}");
    }
    for path in ["specs", "specs/below", "plain"] {
        assert!(matches!(checkout.list(path), Err(CheckoutError::Kind { .. })), "{path}");
        assert!(matches!(read_all(root.path(), path), Err(CheckoutError::Kind { .. })), "{path}");
    }
    for path in ["../x", "/etc/passwd", "a/../../x", ""] {
        assert!(matches!(checkout.read(path), Err(CheckoutError::Outside { .. })), "{path}");
    }
    assert!(matches!(checkout.list(".."), Err(CheckoutError::Outside { .. })));
    assert!(matches!(read_all(root.path(), "/etc"), Err(CheckoutError::Outside { .. })));
}

#[test]
fn reading_has_limits() {
    let root = folder();
    fs::create_dir(root.path().join("specs")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(root.path().join("specs").join(name), "12345678").unwrap();
    }
    let checkout = Checkout::open(root.path()).unwrap();
    let read = |file, files, total| checkout.read_tree("specs", &all, ReadLimits { file, files, total });
    assert_eq!(read(8, 3, 24).unwrap().len(), 3);
    assert_eq!(
        read(7, 3, 24).unwrap_err().to_string(),
        "`specs/a` is over the limit of 7 bytes a file; split it, or move it elsewhere"
    );
    assert_eq!(
        read(8, 2, 24).unwrap_err().to_string(),
        "`specs` is over the limit of 2 files; move what does not belong there away"
    );
    assert_eq!(
        read(8, 3, 23).unwrap_err().to_string(),
        "`specs` is over the limit of 23 bytes in all its files; move what does not belong there away"
    );
    fs::create_dir_all(root.path().join("deep").join("d/".repeat(33))).unwrap();
    assert_eq!(
        read_all(root.path(), "deep").unwrap_err().to_string(),
        "`deep` is over the limit of 32 folders in depth; move the files up"
    );
}

#[test]
fn a_commit_writes_replaces_deletes_and_prunes() {
    let root = folder();
    fs::create_dir_all(root.path().join("rendered/west/deep")).unwrap();
    fs::write(root.path().join("rendered/west/deep/old.yaml"), "old").unwrap();
    fs::write(root.path().join("stays"), "longer than the new one").unwrap();
    let done = commit(
        root.path(),
        &[
            put("lock/clusters/east.yaml", "lock"),
            put("rendered/east/a.yaml", "a"),
            put("stays", "new"),
            put("empty", ""),
            delete("rendered/west/deep/old.yaml"),
            delete("rendered/west/never-there.yaml"),
        ],
    );
    assert_eq!(done.unwrap(), Committed { written: 4, deleted: 1, unchanged: 1, swept: 0 });
    let expected = [
        ("empty", Some("")),
        ("lock", None),
        ("lock/clusters", None),
        ("lock/clusters/east.yaml", Some("lock")),
        ("rendered", None),
        ("rendered/east", None),
        ("rendered/east/a.yaml", Some("a")),
        ("stays", Some("new")),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(path, text)| (path.to_owned(), text.map(|text| text.as_bytes().to_vec()))).collect();
    assert_eq!(tree(root.path()), expected);
}

#[test]
fn what_is_there_already_is_not_touched() {
    let root = folder();
    let changes = [put("a/same", "same"), put("a/other", "one")];
    commit(root.path(), &changes).unwrap();
    let state = |path: &str| {
        let stat = fs::metadata(root.path().join(path)).unwrap();
        (stat.ino(), stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec())
    };
    let before = [state("a/same"), state("a/other"), state("a"), state("")];
    let nothing = Committed { unchanged: 2, ..Committed::default() };
    assert_eq!(commit(root.path(), &changes).unwrap(), nothing);
    assert_eq!(commit(root.path(), &[]).unwrap(), Committed::default());
    assert_eq!(before, [state("a/same"), state("a/other"), state("a"), state("")]);

    let done = commit(root.path(), &[put("a/same", "same"), put("a/other", "two")]).unwrap();
    assert_eq!(done, Committed { written: 1, unchanged: 1, ..Committed::default() });
    assert_eq!(before[0], state("a/same"));
    assert_ne!(before[1].0, state("a/other").0, "replaced, not written over");
}

#[test]
fn left_overs_of_a_killed_engine_are_not_read_and_then_swept() {
    let root = folder();
    fs::create_dir_all(root.path().join("rendered/gone")).unwrap();
    fs::create_dir_all(root.path().join("lock")).unwrap();
    for path in ["rendered/gone/.isthmus-tmp-7", "lock/.isthmus-tmp-0", ".isthmus-tmp-3"] {
        fs::write(root.path().join(path), "half").unwrap();
    }
    let checkout = Checkout::open(root.path()).unwrap();
    assert!(checkout.read_tree("rendered", &all, ReadLimits::OUTPUT).unwrap().is_empty());
    // That of `rendered` was seen while reading, that of `lock` is met while writing; no one came by the third.
    let done = checkout.lock().unwrap().commit(&[put("lock/a", "a")], &|_| {}).unwrap();
    assert_eq!(done, Committed { written: 1, swept: 2, ..Committed::default() });
    let paths: Vec<_> = tree(root.path()).into_keys().collect();
    assert_eq!(paths, [".isthmus-tmp-3", "lock", "lock/a"]);
    checkout.read_tree("", &all, ReadLimits::OUTPUT).unwrap();
    assert_eq!(checkout.lock().unwrap().commit(&[], &|_| {}).unwrap().swept, 1);
    // one that came after the folder was read, and is in the way of ours
    checkout.read_tree("lock", &all, ReadLimits::OUTPUT).unwrap();
    fs::write(root.path().join("lock/.isthmus-tmp-0"), "half").unwrap();
    let done = checkout.lock().unwrap().commit(&[put("lock/a", "b")], &|_| {}).unwrap();
    assert_eq!(done, Committed { written: 1, swept: 1, ..Committed::default() });
    // what was read under the lock is not listed again
    let guard = checkout.lock().unwrap();
    guard.read_tree("lock", &all, ReadLimits::OUTPUT).unwrap();
    assert_eq!(guard.commit(&[put("lock/a", "c")], &|_| {}).unwrap().written, 1);
    assert_eq!(guard.commit(&[put("lock/a", "d")], &|_| {}).unwrap().written, 1);
}

#[test]
fn an_open_file_keeps_what_it_held() {
    let root = folder();
    fs::write(root.path().join("a"), "one").unwrap();
    let checkout = Checkout::open(root.path()).unwrap();
    let open = checkout.open_file("a").unwrap().unwrap();
    commit(root.path(), &[put("a", "two")]).unwrap();
    assert_eq!(open.read().unwrap(), b"one");
    assert_eq!(open.read().unwrap(), b"one", "from its beginning each time");
    assert_eq!(checkout.read("a").unwrap().unwrap(), b"two");
    assert!(checkout.open_file("b").unwrap().is_none());
    assert!(checkout.open_file(".").is_err());
}

#[test]
fn paths_that_lead_outside_are_refused_before_anything_is_written() {
    let outside = folder();
    let long = "n".repeat(256);
    let bad = ["", "/abs", "../up", "a/../../up", "a//b", "a/./b", "a\0b", &long, ".git/config", "x/.isthmus-tmp-1"];
    for path in bad.into_iter().chain(["link/x", "link", "dir/link2/x", "file/x", "dir"]) {
        for change in [put(path, "evil"), delete(path)] {
            let root = folder();
            fs::create_dir(root.path().join("dir")).unwrap();
            fs::write(root.path().join("file"), "file").unwrap();
            symlink(outside.path(), root.path().join("link")).unwrap();
            symlink(outside.path(), root.path().join("dir/link2")).unwrap();
            let before = tree(root.path());
            let error = commit(root.path(), &[put("dir/good", "good"), change]).unwrap_err();
            assert!(matches!(error, CheckoutError::Outside { .. } | CheckoutError::Kind { .. }), "{path:?}: {error}");
            assert_eq!(tree(root.path()), before, "{path:?}");
        }
    }
    assert!(tree(outside.path()).is_empty());
}

#[test]
fn strange_but_lawful_names_stay_inside() {
    let names =
        ["CON", "aux.yaml", "ａ", "\u{202e}lmay.terces", "~", "$HOME", "-rf", "new\nline", "...", &"n".repeat(255)];
    for name in names {
        let root = folder();
        commit(root.path(), &[put(&format!("out/{name}"), name)]).unwrap();
        let wanted = [("out".to_owned(), None), (format!("out/{name}"), Some(name.as_bytes().to_vec()))];
        assert_eq!(tree(root.path()), BTreeMap::from(wanted));
    }
    let root = folder();
    commit(root.path(), &[put("Case", "upper"), put("case", "lower")]).unwrap();
    assert_eq!(tree(root.path()).len(), 2);
}

#[test]
fn changes_that_contradict_each_other_are_refused() {
    for changes in [
        [put("a", "1"), put("a", "2")],
        [put("a", "1"), delete("a")],
        [put("a/b", "1"), put("a", "2")],
        [delete("a"), put("a/b", "2")],
    ] {
        let root = folder();
        assert!(matches!(commit(root.path(), &changes), Err(CheckoutError::Outside { .. })), "{changes:?}");
        assert!(tree(root.path()).is_empty());
    }
}

#[test]
fn errors_of_the_system_say_what_to_do_next() {
    let root = folder();
    let missing = Checkout::open(&root.path().join("none")).unwrap_err().to_string();
    assert!(missing.starts_with("there is no folder `") && missing.contains("-C DIR"), "{missing}");
    let error = CheckoutError::Io {
        action: "write",
        path: "rendered/east/a.yaml".into(),
        cause: rustix::io::Errno::NOSPC.into(),
        left: Left::Partly { done: 3, of: 9 },
    };
    assert_eq!(
        error.to_string(),
        "cannot write `rendered/east/a.yaml`: No space left on device (os error 28); 3 of 9 changes were made, the next \
         run makes the rest: free some space on this disk and run again"
    );
}

#[test]
fn a_change_shows_no_content() {
    let shown = format!("{:?}", put("a", "secret"));
    assert_eq!(shown, r#"Write { path: "a", bytes: [6 bytes], mode: 0o644 }"#);
}

#[test]
fn the_second_engine_learns_that_the_first_is_there() {
    let root = folder();
    let (one, two) = (Checkout::open(root.path()).unwrap(), Checkout::open(root.path()).unwrap());
    let guard = one.lock().unwrap();
    for other in [&one, &two] {
        assert!(matches!(other.lock(), Err(CheckoutError::Busy(dir)) if dir == root.path()));
    }
    drop(guard);
    drop(two.lock().unwrap());
    assert!(tree(root.path()).is_empty(), "the lock is no file");
}

#[test]
fn eight_engines_at_once_lose_no_update() {
    let root = folder();
    commit(root.path(), &[put("count", "0")]).unwrap();
    let rounds = 20;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let checkout = Checkout::open(root.path()).unwrap();
                for _ in 0..rounds {
                    let guard = loop {
                        match checkout.lock() {
                            Ok(guard) => break guard,
                            Err(CheckoutError::Busy(_)) => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    };
                    let count: u32 = String::from_utf8(guard.read("count").unwrap().unwrap()).unwrap().parse().unwrap();
                    guard.commit(&[put("count", &(count + 1).to_string())], &|_| {}).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(root.path().join("count")).unwrap(), (8 * rounds).to_string());
}

#[test]
fn keys_are_their_owners_alone_and_never_replaced() {
    let root = folder();
    let checkout = Checkout::open(root.path()).unwrap();
    let guard = checkout.lock().unwrap();
    fs::create_dir(root.path().join("there")).unwrap();
    guard.write_private("keys/engine.key", b"private").unwrap();
    guard.write_private("there/engine.key", b"private").unwrap();
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("keys"), mode("keys/engine.key")], [0o700, 0o400]);
    assert_eq!(
        guard.write_private("keys/engine.key", b"other").unwrap_err().to_string(),
        "`keys/engine.key` exists and is never overwritten; choose another name, or move it away first"
    );
    symlink(root.path().join("elsewhere"), root.path().join("keys/dangling")).unwrap();
    assert!(matches!(guard.write_private("keys/dangling", b"x"), Err(CheckoutError::Exists { .. })));
    assert!(matches!(guard.write_private("../x", b"x"), Err(CheckoutError::Outside { .. })));
    let paths: Vec<_> = tree(root.path()).into_keys().collect();
    assert_eq!(paths, ["keys", "keys/dangling", "keys/engine.key", "there", "there/engine.key"]);

    let key = checkout.read_private("keys/engine.key").unwrap().unwrap();
    assert_eq!((key.bytes.as_slice(), key.open_to_others), (&b"private"[..], false));
    assert_eq!(format!("{key:?}"), r#"Private { bytes: "[redacted]", open_to_others: false }"#);
    fs::set_permissions(root.path().join("keys/engine.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(checkout.read_private("keys/engine.key").unwrap().unwrap().open_to_others);
    assert!(checkout.read_private("keys/none.key").unwrap().is_none());
    assert!(matches!(checkout.read_private("keys/dangling"), Err(CheckoutError::Kind { .. })));
}

/// Tells a thread to end, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Another thread swaps a folder for a link that leads outside, again and again, while it is written to and read: as often
/// as it takes for both to win now and then.
#[test]
fn a_folder_swapped_for_a_link_never_leads_outside() {
    let (root, outside) = (folder(), folder());
    fs::write(outside.path().join("file"), "outside").unwrap();
    fs::create_dir(root.path().join("dir")).unwrap();
    symlink(outside.path(), root.path().join("link")).unwrap();
    let before = tree(outside.path());
    let over = AtomicBool::new(false);
    let (mut written, mut refused, mut read) = (0, 0, 0);
    std::thread::scope(|scope| {
        // However the rounds below end, the other thread ends with them.
        let _end = Over(&over);
        scope.spawn(|| {
            let (dir, link) = (root.path().join("dir"), root.path().join("link"));
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for round in 0.. {
            if round >= 3000 && written > 0 && refused > 0 && read > 0 {
                break;
            }
            assert!(round < 1_000_000, "no race: {written} written, {refused} refused, {read} read");
            match commit(root.path(), &[put("dir/file", &round.to_string()), put("dir/sub/file", &round.to_string())]) {
                Ok(_) => written += 1,
                Err(CheckoutError::Kind { .. } | CheckoutError::Io { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            if let Ok(files) = read_all(root.path(), "dir") {
                read += 1;
                assert!(files.values().all(|bytes| bytes != b"outside"));
            }
            assert_eq!(tree(outside.path()), before);
        }
    });
}

/// Changes of a small set of paths, as they come: contradictions are left to the code under test.
fn changes() -> impl Strategy<Value = Vec<FileChange>> {
    let path = prop::sample::select(vec!["a", "b", "d/a", "d/b", "d/e/a", "d/e/b", "f/g/h/i", "f/x"]);
    let change = (path, prop::option::of("[a-z]{0,3}"));
    prop::collection::vec(change, 0..8).prop_map(|changes| {
        let by_path: BTreeMap<_, _> = changes.into_iter().collect();
        by_path.into_iter().map(|(path, text)| text.map_or_else(|| delete(path), |text| put(path, &text))).collect()
    })
}

proptest! {
    #![proptest_config(crate::support::law::cases(200))]

    /// Commits one after the other give what a map gives, the same commit again nothing, and no empty folder is left.
    #[test]
    fn commits_are_like_those_of_a_map(rounds in prop::collection::vec(changes(), 1..6)) {
        let root = folder();
        let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for changes in rounds {
            let mut expected = Committed::default();
            for change in &changes {
                match change {
                    FileChange::Write { path, bytes, .. } if model.get(path) == Some(bytes) => expected.unchanged += 1,
                    FileChange::Write { path, bytes, .. } => {
                        model.insert(path.clone(), bytes.clone());
                        expected.written += 1;
                    }
                    FileChange::Delete { path } if model.remove(path).is_some() => expected.deleted += 1,
                    FileChange::Delete { .. } => expected.unchanged += 1,
                }
            }
            prop_assert_eq!(commit(root.path(), &changes).unwrap(), expected);
            let again = Committed { unchanged: changes.len(), ..Committed::default() };
            prop_assert_eq!(commit(root.path(), &changes).unwrap(), again);
            prop_assert_eq!(&read_all(root.path(), "").unwrap(), &model);
            for (path, bytes) in tree(root.path()) {
                let parent = format!("{path}/");
                prop_assert!(bytes.is_some() || model.keys().any(|file| file.starts_with(&parent)), "{} is empty", path);
            }
        }
    }
}
