//! The edge to git, against real repositories: honest ones, and one whose configuration names a program wherever it can.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use isthmus::git::{Author, CommitTarget, GitError, Pull, Push, Repository};
use tempfile::TempDir;

/// Runs git as a person would, without this machine's configuration.
#[track_caller]
pub(crate) fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("LC_ALL", "C")])
        .args(["-c", "user.name=person", "-c", "user.email=person@example.com"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A bare remote and a clone of it, with one commit.
fn pair() -> (TempDir, PathBuf) {
    let home = TempDir::new().unwrap();
    let clone = home.path().join("clone");
    git(home.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
    git(home.path(), &["init", "-q", "-b", "main", "clone"]);
    write(&clone, "specs/mesh.yaml", "one\r\n");
    write(&clone, "lock/east.yaml", "one\n");
    git(&clone, &["add", "."]);
    git(&clone, &["commit", "-q", "-m", "first"]);
    let url = format!("file://{}", home.path().join("remote.git").display());
    git(&clone, &["remote", "add", "origin", &url]);
    git(&clone, &["push", "-q", "-u", "origin", "main"]);
    (home, clone)
}

fn open(dir: &Path) -> Repository {
    Repository::discover(dir).unwrap().unwrap()
}

fn commit_change(dir: &Path, path: &str, target: &CommitTarget) -> Result<Option<String>, GitError> {
    let author: Author = "isthmus <isthmus@example.com>".parse().unwrap();
    let made = open(dir).commit(&BTreeSet::from([path.to_owned()]), "turn\n", &author, target)?;
    Ok(made.map(|oid| oid.to_string()))
}

#[test]
fn a_commit_takes_its_file_alone_and_leaves_what_is_staged() {
    let (_home, clone) = pair();
    write(&clone, "specs/mesh.yaml", "staged\n");
    git(&clone, &["add", "specs"]);
    write(&clone, "notes", "of a person\n");
    write(&clone, "lock/east.yaml", "two\r\n");
    git(&clone, &["config", "core.autocrlf", "true"]);
    let made = commit_change(&clone, "lock/east.yaml", &CommitTarget::Head).unwrap().unwrap();
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), made);
    assert_eq!(git(&clone, &["show", "--format=", "--name-only", "HEAD"]), "lock/east.yaml");
    assert_eq!(files_at(&open(&clone), "HEAD", &["lock"]).unwrap()["lock/east.yaml"], b"two\r\n");
    git(&clone, &["config", "core.autocrlf", "false"]);
    assert_eq!(git(&clone, &["status", "--porcelain"]), "M  specs/mesh.yaml\n?? notes");
    assert_eq!(commit_change(&clone, "lock/east.yaml", &CommitTarget::Head).unwrap(), None);
}

#[test]
fn a_commit_waits_for_people_and_for_a_branch() {
    let (_home, clone) = pair();
    let head = git(&clone, &["rev-parse", "HEAD"]);
    write(&clone, "lock/east.yaml", "two\n");
    fs::write(clone.join(".git/MERGE_HEAD"), &head).unwrap();
    assert!(matches!(commit_change(&clone, "lock/east.yaml", &CommitTarget::Head), Err(GitError::Busy(_))));
    fs::remove_file(clone.join(".git/MERGE_HEAD")).unwrap();
    git(&clone, &["checkout", "-q", "--detach"]);
    assert!(matches!(commit_change(&clone, "lock/east.yaml", &CommitTarget::Head), Err(GitError::Refused(_))));
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), head);
    let made = commit_change(&clone, "lock/east.yaml", &CommitTarget::Branch("turns".to_owned())).unwrap().unwrap();
    assert_eq!(git(&clone, &["rev-parse", "turns"]), made);
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), head);
}

/// The files of a revision in some places.
fn files_at(repository: &Repository, revision: &str, places: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, GitError> {
    repository.files_at(&repository.resolve(revision)?, places)
}

#[test]
fn revisions_are_no_options_and_links_are_no_files() {
    let (_home, clone) = pair();
    let repository = open(&clone);
    assert_eq!(files_at(&repository, "HEAD", &["specs"]).unwrap()["specs/mesh.yaml"], b"one\r\n");
    for odd in ["--all", "-h", "", "nowhere", "HEAD:specs", "--output=/tmp/x"] {
        assert!(matches!(files_at(&repository, odd, &["specs"]), Err(GitError::Refused(_))), "{odd}");
    }
    symlink("/etc/passwd", clone.join("lock/west.yaml")).unwrap();
    git(&clone, &["add", "."]);
    git(&clone, &["commit", "-q", "-m", "link"]);
    let error = files_at(&repository, "HEAD", &["lock"]).unwrap_err().to_string();
    assert!(error.contains("lock/west.yaml") && error.contains("symbolic link"), "{error}");
    assert_eq!(files_at(&repository, "HEAD", &["specs"]).unwrap().len(), 1);
}

#[test]
fn of_two_clones_the_slower_pulls_drops_its_own_run_and_continues() {
    let (home, clone) = pair();
    let url = format!("file://{}", home.path().join("remote.git").display());
    git(home.path(), &["clone", "-q", &url, "other"]);
    let other = home.path().join("other");
    write(&other, "lock/east.yaml", "theirs\n");
    commit_change(&other, "lock/east.yaml", &CommitTarget::Head).unwrap().unwrap();
    assert_eq!(open(&other).push(None).unwrap(), Push::Done);
    write(&clone, "lock/east.yaml", "ours\n");
    commit_change(&clone, "lock/east.yaml", &CommitTarget::Head).unwrap().unwrap();
    assert!(matches!(open(&clone).push(None).unwrap(), Push::Rejected { .. }));
    assert!(matches!(open(&clone).pull(&["lock"]).unwrap(), Pull::Moved { dropped: 1, rewritten: false, .. }));
    assert_eq!(fs::read_to_string(clone.join("lock/east.yaml")).unwrap(), "theirs\n");
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
}

#[test]
fn what_a_person_committed_is_not_dropped() {
    let (home, clone) = pair();
    let url = format!("file://{}", home.path().join("remote.git").display());
    git(home.path(), &["clone", "-q", &url, "other"]);
    let other = home.path().join("other");
    for (dir, text) in [(&other, "theirs\n"), (&clone, "ours\n")] {
        write(dir, "specs/mesh.yaml", text);
        git(dir, &["commit", "-q", "-a", "-m", "by hand"]);
    }
    git(&other, &["push", "-q"]);
    let head = git(&clone, &["rev-parse", "HEAD"]);
    assert!(matches!(open(&clone).pull(&["lock"]), Err(GitError::Refused(_))));
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), head);
}

#[test]
fn a_hostile_repository_starts_nothing() {
    let (home, clone) = pair();
    let canary = home.path().join("canary");
    let evil = home.path().join("evil");
    fs::write(&evil, format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\ncat\n", canary.display())).unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    let evil = evil.to_str().unwrap();
    fs::write(clone.join(".gitattributes"), "* filter=evil diff=evil merge=evil ident\n").unwrap();
    git(&clone, &["add", ".gitattributes"]);
    git(&clone, &["commit", "-q", "-m", "attributes"]);
    let included = home.path().join("included");
    fs::write(&included, format!("[core]\n\tfsmonitor = {evil}\n")).unwrap();
    git(&clone, &["config", "include.path", included.to_str().unwrap()]);
    for name in ["hooks", "own"] {
        fs::create_dir_all(clone.join(".git").join(name)).unwrap();
        for hook in
            ["pre-commit", "post-commit", "pre-push", "post-checkout", "reference-transaction", "post-index-change"]
        {
            drop(fs::remove_file(clone.join(".git").join(name).join(hook)));
            symlink(evil, clone.join(".git").join(name).join(hook)).unwrap();
        }
    }
    // written as text, since each git that set them would itself start them
    let config = clone.join(".git/config");
    let mut text = fs::read_to_string(&config).unwrap();
    text.push_str(&format!(
        "[core]\n\tfsmonitor = {evil}\n\thooksPath = {hooks}\n\teditor = {evil}\n\tpager = {evil}\n\tgitProxy = {evil}\n\
         [filter \"evil\"]\n\tclean = {evil}\n\tsmudge = {evil}\n\tprocess = {evil}\n\trequired = true\n\
         [diff]\n\texternal = {evil}\n[diff \"evil\"]\n\ttextconv = {evil}\n\tcommand = {evil}\n\
         [merge \"evil\"]\n\tdriver = {evil}\n[alias]\n\tls-tree = !{evil}\n\trev-parse = !{evil}\n\
         [commit]\n\tgpgSign = true\n[push]\n\tgpgSign = true\n[gpg]\n\tprogram = {evil}\n\
         [uploadpack]\n\tpackObjectsHook = {evil}\n[remote \"origin\"]\n\tuploadpack = {evil}\n\treceivepack = {evil}\n",
        hooks = clone.join(".git/own").display()
    ));
    fs::write(&config, text).unwrap();
    let repository = open(&clone);
    repository.state().unwrap();
    files_at(&repository, "HEAD", &["specs", "lock"]).unwrap();
    write(&clone, "lock/east.yaml", "two\n");
    let on_disk = BTreeSet::from(["lock/east.yaml".to_owned()]);
    let hashed = repository.hashed(&on_disk.iter().collect::<Vec<_>>()).unwrap();
    let committed = repository.committed(&["lock"]).unwrap();
    assert!(hashed.iter().all(|(path, oid)| committed.get(path) != Some(oid)) && hashed.len() == on_disk.len());
    commit_change(&clone, "lock/east.yaml", &CommitTarget::Head).unwrap().unwrap();
    assert_eq!(repository.push(None).unwrap(), Push::Done);
    assert_eq!(repository.pull(&["lock"]).unwrap(), Pull::Unchanged);
    // a fast-forward writes files, through filters if it were let
    let url = format!("file://{}", home.path().join("remote.git").display());
    git(home.path(), &["clone", "-q", &url, "other"]);
    let other = home.path().join("other");
    write(&other, "specs/mesh.yaml", "three\n");
    git(&other, &["commit", "-q", "-a", "-m", "by hand"]);
    git(&other, &["push", "-q"]);
    assert!(matches!(repository.pull(&["lock"]).unwrap(), Pull::Moved { dropped: 0, .. }));
    assert_eq!(fs::read_to_string(clone.join("specs/mesh.yaml")).unwrap(), "three\n");
    assert!(!canary.exists(), "started: {}", fs::read_to_string(&canary).unwrap());
    // the canary sings when it is let
    drop(Command::new("git").current_dir(&clone).args(["status"]).output());
    assert!(canary.exists());
}

#[test]
fn a_remote_that_is_a_program_is_not_run() {
    let (home, clone) = pair();
    let canary = home.path().join("canary");
    let url = format!("ext::sh -c touch% {}", canary.display());
    git(&clone, &["config", "remote.origin.url", &url]);
    git(&clone, &["config", "protocol.ext.allow", "always"]);
    assert!(open(&clone).pull(&["lock"]).is_err());
    assert!(open(&clone).push(None).is_err());
    assert!(!canary.exists());
}
