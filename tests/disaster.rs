//! The bad days of `docs/disaster.md`: its own commands, run as they are there.

use std::fs;
use std::path::{Path, PathBuf};

use isthmus::simulation::cluster::Authority;
use isthmus::types::key::PrivateKey;

#[path = "../benches/support/checkout.rs"]
mod large;

use crate::support::checkout::Checkout;
use crate::support::environment::{ENGINE, Ran, TestEnvironment};

/// A checkout in a repository of its own, and a shell that has the engine.
pub(crate) struct Day {
    environment: TestEnvironment,
    /// The page whose commands it runs.
    page: &'static str,
}

impl Day {
    /// The two clusters of the fixtures, joined and committed.
    pub(crate) fn joined() -> Self {
        Self::with(include_str!("../docs/disaster.md"))
    }

    /// The same for another page.
    pub(crate) fn with(page: &'static str) -> Self {
        let checkout = Checkout::new();
        checkout.engine(&["apply", "--create-keys"]).done();
        let day = Self { page, ..Self::new() };
        let mut copy = day.environment.program("cp");
        day.environment.end(copy.arg("-a").arg(checkout.path(".")).arg(day.path(""))).done();
        day.begin();
        day
    }

    fn new() -> Self {
        let environment = TestEnvironment::new().with_tools();
        fs::create_dir(environment.path("day")).unwrap();
        Self { environment, page: include_str!("../docs/disaster.md") }
    }

    fn begin(&self) {
        fs::write(self.path(".gitattributes"), "/lock/** -merge\n/rendered/** -merge\n").unwrap();
        fs::write(self.path(".gitignore"), "/keys/\n/bin/\n").unwrap();
        fs::create_dir(self.path("bin")).unwrap();
        self.environment.link("engine", Path::new(ENGINE));
        fs::write(
            self.environment.path("home/.gitconfig"),
            "[user]\n\tname = a\n\temail = a@example.com\n[init]\n\tdefaultBranch = main\n",
        )
        .unwrap();
        self.shell("git init -q && git add -A && git commit -qm first");
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.environment.path("day").join(path)
    }

    /// Runs a line of a shell.
    fn run_in(&self, folder: &Path, line: &str) -> Ran {
        let mut command = self.environment.program("bash");
        self.environment.end(command.args(["--noprofile", "--norc", "-c", line]).current_dir(folder))
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_in(&self.path(""), line)
    }

    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "{line}: {ran}");
        ran.stdout
    }

    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(path)).unwrap();
        assert!(text.contains(from), "{path} has no {from:?}:\n{text}");
        fs::write(self.path(path), text.replace(from, to)).unwrap();
    }

    /// Runs the commands of a section; words in capitals come from `word`. Gives each command's end.
    pub(crate) fn run_section(&self, section: &str, word: &dyn Fn(&str, &str) -> String) -> Vec<(String, Ran)> {
        let mut last = String::new();
        let mut ends = Vec::new();
        for command in commands_of(self.page, section) {
            let line = word(&command, &last);
            assert!(!line.contains("DIGEST") && !line.contains("GOOD"), "{line}");
            let ran = self.run(&line);
            if let Some(digest) = digest(&ran.stdout) {
                last = digest;
            }
            ends.push((line, ran));
        }
        ends
    }
}

/// The commands of a section of the page.
fn commands(section: &str) -> Vec<String> {
    commands_of(include_str!("../docs/disaster.md"), section)
}

/// The commands of a section of a page; those in lists are indented.
fn commands_of(page: &str, section: &str) -> Vec<String> {
    let body = page.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let lines = body.split("```console\n").skip(1).flat_map(|rest| rest.split("```").next().unwrap().lines());
    let commands: Vec<String> = lines
        .map(str::trim_start)
        .filter(|line| !line.is_empty())
        .map(|line| line.strip_prefix("$ ").unwrap().to_owned())
        .collect();
    assert!(!commands.is_empty());
    commands
}

/// What a plan prints for an approval.
fn digest(output: &str) -> Option<String> {
    Some(output.split("--accept-trust west@").nth(1)?.split_whitespace().next()?.to_owned())
}

pub(crate) fn with_digest(command: &str, digest: &str) -> String {
    command.replace("DIGEST", digest)
}

pub(crate) fn unchanged(command: &str, _: &str) -> String {
    command.to_owned()
}

#[track_caller]
pub(crate) fn all_done(ends: &[(String, Ran)]) {
    for (line, ran) in ends {
        assert_eq!(ran.code, 0, "{line}: {ran}");
    }
}

/// Another key, root and UUID for west, as its metadata would show them.
fn change_west(day: &Day, key: bool, rest: bool) {
    let path = "metadata/west/public/public.json";
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(day.path(path)).unwrap()).unwrap();
    if key {
        document["authnKeyPub"] = PrivateKey::generate(&[9; 32]).unwrap().public().to_pem().into();
    }
    if rest {
        document["clusterUUID"] = "00000000-1111-4222-8333-444444444444".into();
        document["rootCA"] = Authority::new("west, rebuilt").unwrap().pem.into();
    }
    fs::write(day.path(path), document.to_string()).unwrap();
}

#[test]
fn the_engines_key_is_lost() {
    let day = Day::joined();
    let before = fs::read_to_string(day.path("lock/mesh.yaml")).unwrap();
    fs::remove_file(day.path("keys/engine.key")).unwrap();
    let ran = day.run("engine keys new");
    assert!(ran.code == 4 && ran.stderr.contains("already has an engine key"), "{ran}");
    let listed = day.shell("engine keys list");
    assert!(listed.contains("keys/engine.key or $ISTHMUS_ENGINE_KEY"), "{listed}");
    all_done(&day.run_section("The engine's key is lost", &unchanged));
    let after = fs::read_to_string(day.path("lock/mesh.yaml")).unwrap();
    assert_ne!(before, after);
    let id =
        |lock: &str| lock.split("id: ").nth(1).unwrap().split_whitespace().next().unwrap().trim_matches('"').to_owned();
    let peers = fs::read_to_string(day.path("rendered/east/configmap-isthmus-peers.yaml")).unwrap();
    assert!(peers.contains(&id(&after)) && !peers.contains(&id(&before)), "{peers}");
    assert!(day.shell("git status --porcelain").is_empty());
    assert!(day.shell("engine keys list").contains("present"));
}

#[test]
fn a_clusters_key_is_lost() {
    let day = Day::joined();
    change_west(&day, true, false);
    let ends = day.run_section("A cluster's key is lost", &with_digest);
    let (_, held) = &ends[0];
    assert_eq!(held.code, 4, "{held}");
    assert!(held.stdout.contains("trust change of `west`: held back") && held.stdout.contains("authn key"), "{held}");
    all_done(&ends[1..]);
}

#[test]
fn the_repository_was_reverted() {
    let day = Day::joined();
    day.edit(
        "specs/mesh.yaml",
        "file://metadata/east\"}",
        "file://metadata/east\"}, gateways: [{address: 203.0.113.99, port: 15443}]",
    );
    change_west(&day, true, false);
    day.shell("engine apply --accept-trust west");
    day.shell("git add -A && git commit -qm 'last good state'");
    let good = day.shell("git rev-parse HEAD").trim().to_owned();
    let tree = day.shell("git rev-parse 'HEAD:rendered' 'HEAD:lock' 'HEAD:specs'");
    day.shell("git checkout -q HEAD~1 -- specs lock rendered && git commit -qm 'reverted'");
    assert_ne!(tree, day.shell("git rev-parse 'HEAD:rendered' 'HEAD:lock' 'HEAD:specs'"));
    // what a run on it shows: a trust change, since the cluster is of today
    assert_eq!(day.run("engine plan").code, 4);
    all_done(
        &day.run_section("The repository was reverted to last month", &|command, _| command.replace("GOOD", &good)),
    );
    assert_eq!(tree, day.shell("git rev-parse 'HEAD:rendered' 'HEAD:lock' 'HEAD:specs'"));
    day.shell("engine plan --detailed-exitcode");
}

#[test]
fn a_cluster_was_rebuilt() {
    let day = Day::joined();
    let before = fs::read_to_string(day.path("rendered/east/configmap-isthmus-mesh.yaml")).unwrap();
    change_west(&day, true, true);
    let ends = day.run_section("A cluster was rebuilt under its name", &with_digest);
    assert!(ends[0].1.code == 4 && ends[0].1.stdout.contains("cluster UUID"), "{}", ends[0].1);
    // the first run takes its secret away
    assert!(ends[1].1.stdout.contains("- Secret istio-remote-secret-west"), "{}", ends[1].1);
    let status = &ends.last().unwrap().1.stdout;
    assert!(status.matches("joined").count() == 2, "{status}");
    day.shell("engine plan --detailed-exitcode");
    let after = fs::read_to_string(day.path("rendered/east/configmap-isthmus-mesh.yaml")).unwrap();
    assert_ne!(before, after);
}

#[test]
fn a_cluster_of_forty_is_dead() {
    let day = Day::new();
    large::checkout(&day.path(""), 40);
    day.begin();
    day.shell("engine apply");
    fs::remove_dir_all(day.path("metadata/c0007")).unwrap();
    // the others continue
    day.edit(
        "specs/mesh.yaml",
        "file://metadata/c0001\"}",
        "file://metadata/c0001\"}\n  gateways: [{address: 203.0.113.99, port: 15443}]",
    );
    let ran = day.run("engine apply");
    assert!(ran.code == 3 && ran.stdout.contains("fetch-ca/c0007  failed"), "{ran}");
    let mesh = |cluster: &str| {
        fs::read_to_string(day.path(&format!("rendered/{cluster}/configmap-isthmus-mesh.yaml"))).unwrap()
    };
    assert!(mesh("c0039").contains("203.0.113.99") && mesh("c0007").contains("203.0.113.99"));
    assert!(day.path("rendered/c0039/secret-istio-remote-secret-c0007.yaml").exists());
    let ends = day.run_section("A cluster of forty is dead", &unchanged);
    all_done(&ends);
    assert!(!day.path("rendered/c0039/secret-istio-remote-secret-c0007.yaml").exists());
    assert!(!mesh("c0039").contains("c0007"));
    // its document may go now
    let text = fs::read_to_string(day.path("specs/mesh.yaml")).unwrap();
    let kept: Vec<&str> = text.split("---\n").filter(|document| !document.contains("c0007")).collect();
    fs::write(day.path("specs/mesh.yaml"), kept.join("---\n")).unwrap();
    day.shell("engine apply");
    assert!(!day.path("rendered/c0007").exists());
}

#[test]
fn two_runs_at_once() {
    let day = Day::joined();
    let held = isthmus::checkout::Checkout::open(&day.path("")).unwrap();
    let guard = held.lock().unwrap();
    let ran = day.run("engine apply");
    assert!(ran.code == 5 && ran.stderr.contains("another engine works in"), "{ran}");
    drop(guard);
    // two clones of one remote, each with something to commit
    day.shell("git clone -q --bare . bin/remote.git && git clone -q bin/remote.git bin/one && git clone -q bin/remote.git bin/two");
    let gateway = |clone: &str, cluster: &str, address: &str| {
        let spec = format!("bin/{clone}/specs/mesh.yaml");
        let text = format!("file://metadata/{cluster}\"}}, gateways: [{{address: {address}, port: 15443}}]");
        day.edit(&spec, &format!("file://metadata/{cluster}\"}}"), &text);
        (day.path(&format!("bin/{clone}")), address.to_owned())
    };
    let (one, _) = gateway("one", "east", "203.0.113.98");
    let (two, _) = gateway("two", "west", "203.0.113.99");
    // the specs of both are on main; each clone has rendered its own alone
    for clone in [&one, &two] {
        assert_eq!(day.run_in(clone, "git commit -qam spec && engine apply --locked -q").code, 0);
    }
    assert_eq!(day.run_in(&one, "git push -q").code, 0);
    assert_eq!(day.run_in(&two, "git pull -q --rebase --autostash && git push -q").code, 0);
    for line in commands("Two runs at once") {
        let ran = day.run_in(&one, &line);
        let output = &ran.stderr;
        assert!(ran.code == 0 && output.contains("the push was rejected") && output.contains("pulled"), "{ran}");
        day.run_in(&two, &line).done();
    }
    let show =
        |path: &str| day.shell(&format!("git -C bin/remote.git show main:rendered/{path}/configmap-isthmus-mesh.yaml"));
    assert!(show("west").contains("203.0.113.98") && show("east").contains("203.0.113.99"));
    let ran = day.run_in(&two, "git status --porcelain && engine plan --locked --detailed-exitcode");
    assert!(ran.code == 0 && !ran.stdout.contains(" M "), "{ran}");
}

#[test]
fn a_merge_conflict_in_the_lock() {
    let day = Day::joined();
    day.shell("git switch -qc work");
    day.edit("metadata/east/private/multicluster.json", "15443", "15444");
    day.shell("engine apply");
    day.shell("git add -A && git commit -qm work && git switch -q main");
    day.edit("metadata/east/private/multicluster.json", "15443", "15445");
    day.shell("engine apply");
    day.shell("git add -A && git commit -qm main && git switch -q work");
    let ran = day.run("git merge -q main");
    assert!(ran.code != 0 && ran.says("lock/clusters/east.yaml"), "{ran}");
    // the attributes keep marks out of the files; without them the engine names the line
    let lock = fs::read_to_string(day.path("lock/clusters/east.yaml")).unwrap();
    assert!(!lock.contains("<<<<<<<"));
    fs::write(day.path("lock/clusters/east.yaml"), format!("<<<<<<< HEAD\n{lock}")).unwrap();
    let ran = day.run("engine plan --locked");
    assert_eq!(ran.code, 4, "{ran}");
    let output = &ran.stdout;
    assert!(output.contains("merge conflict markers") && output.contains("lock/clusters/east.yaml:1"), "{ran}");
    day.shell("git checkout main -- metadata");
    all_done(&day.run_section("A merge conflict in `lock/`", &unchanged));
    assert!(day.shell("git status --porcelain").is_empty());
    assert!(day.shell("git show HEAD:lock/clusters/east.yaml").contains("15445"));
    day.shell("engine plan --detailed-exitcode");
}

#[test]
fn a_file_of_the_lock_is_gone() {
    let day = Day::joined();
    let before = day.shell("git rev-parse 'HEAD:rendered' 'HEAD:lock'");
    day.shell("git rm -q lock/links/east.yaml && git commit -qm 'a bad merge'");
    let held = day.run("engine apply");
    assert_eq!(held.code, 4, "{held}");
    assert!(day.path("rendered/east/secret-istio-remote-secret-west.yaml").exists(), "nothing is deleted for it");
    let ends = day.run_section("A file of the lock is gone", &unchanged);
    let (_, held) = &ends[0];
    assert!(held.code == 4 && held.stdout.contains("git checkout COMMIT~1 -- lock/links/east.yaml"), "{held}");
    all_done(&ends[1..]);
    assert_eq!(before, day.shell("git rev-parse 'HEAD:rendered' 'HEAD:lock'"));
    assert!(day.shell("git status --porcelain").is_empty());
}

#[test]
fn git_has_no_copy_of_the_lock() {
    let day = Day::joined();
    let before = day.shell("git rev-parse 'HEAD:rendered'");
    // as if it had never been committed
    day.shell("git rm -rq lock/links && git commit -q --amend -m first");
    assert_eq!(day.run("engine apply").code, 4);
    let ends = day.run_section("Git has no copy of the lock", &unchanged);
    all_done(&ends);
    let plan = &ends[0].1.stdout;
    assert!(plan.contains("2 links are restored as joined") && plan.contains("`east → west`"), "{plan}");
    assert_eq!(before, day.shell("git rev-parse 'HEAD:rendered'"));
    assert!(day.shell("git status --porcelain").is_empty());
}

#[test]
fn a_run_would_delete_too_much() {
    let day = Day::joined();
    day.edit("specs/mesh.yaml", "acceptForeignRoots: true", "acceptForeignRoots: true, topology: pairs, pairs: []");
    let before = day.shell("git status --porcelain");
    assert_eq!(day.run("engine apply").code, 4);
    assert_eq!(day.shell("git status --porcelain"), before);
    let ends = day.run_section("A run would delete too much", &unchanged);
    assert!(ends[0].1.code == 4 && ends[0].1.stdout.contains("apply with --allow-delete"), "{}", ends[0].1);
    all_done(&ends[1..]);
    assert!(!day.path("rendered/east/secret-istio-remote-secret-west.yaml").exists());
    assert!(day.path("rendered/east/configmap-isthmus-routes.yaml").exists(), "stage by stage");
}

#[test]
fn a_link_waits_for_what_no_cluster_shows() {
    let checkout = Checkout::new();
    let stated = "istio: {standardMeshNetworks: none}, metadata: {endpoint: \"file://metadata/west";
    checkout.edit("specs/mesh.yaml", stated, &stated.replace("istio: {standardMeshNetworks: none}, ", ""));
    checkout.engine(&["apply", "--create-keys"]).done();
    let day = Day::new();
    day.environment.end(day.environment.program("cp").arg("-a").arg(checkout.path(".")).arg(day.path(""))).done();
    day.begin();
    let ends = day.run_section("A link waits for what no cluster shows", &unchanged);
    all_done(&ends);
    let (page, plan) = (include_str!("../docs/disaster.md"), &ends[0].1.stdout);
    let quoted = page.split("… render-networks/west  waits for ").nth(1).unwrap().split("; set").next().unwrap();
    let quoted = quoted.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plan.split_whitespace().collect::<Vec<_>>().join(" ").contains(&quoted), "{quoted}\n{plan}");
    assert!(day.path("rendered/west/secret-istio-remote-secret-east.yaml").exists());
}

#[test]
fn a_root_ca_is_compromised() {
    let day = Day::joined();
    let mesh = || fs::read_to_string(day.path("rendered/east/configmap-isthmus-mesh.yaml")).unwrap();
    let roots = || mesh().matches("BEGIN CERTIFICATE").count();
    let before = (mesh(), roots());
    let lock = fs::read_to_string(day.path("lock/clusters/west.yaml")).unwrap();
    let old = lock.split("rootCA:").nth(1).unwrap().split("sha256: ").nth(1).unwrap();
    let old = old.split_whitespace().next().unwrap().trim_matches('"').to_owned();
    let path = "metadata/west/public/public.json";
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(day.path(path)).unwrap()).unwrap();
    document["rootCA"] = Authority::new("west, new").unwrap().pem.into();
    fs::write(day.path(path), document.to_string()).unwrap();
    let ends =
        day.run_section("A root CA is compromised", &|command, last| with_digest(command, last).replace("OLD", &old));
    let (_, held) = &ends[0];
    assert!(held.code == 4 && held.stdout.contains(&old), "the trust change names the old root: {held}");
    all_done(&ends[1..]);
    let overlap = &ends[3].1.stdout;
    assert!(overlap.contains("configmap-isthmus-mesh") || overlap.contains("isthmus-mesh"), "{overlap}");
    assert_eq!(roots(), before.1, "the new root alone");
    assert_ne!(mesh(), before.0);
    assert!(day.shell("git status --porcelain").is_empty());
}
