//! Argo CD's own code on our output: its plugin server runs the plugin, its types read the Applications, its sync engine
//! sorts the objects. Flux's Kustomizations are built by `kubectl kustomize`, as Flux's controller builds them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::{ENGINE, TestEnvironment};
use super::{files_of_bed, one_at_a_time, succeed};

const REPOSITORY: &str = "https://git.example.com/platform.git";
/// Where the checkout lies in the repository.
const FOLDER: &str = "mesh/shop";
/// Generations at once in one sidecar.
const AT_ONCE: &str = "20";

/// A repository with a checkout in it, joined.
struct BedRepository {
    dir: tempfile::TempDir,
    bin: PathBuf,
}

impl BedRepository {
    fn new() -> Option<Self> {
        let bin = files_of_bed()?;
        let repository = Self { dir: tempfile::tempdir().unwrap(), bin };
        let checkout = repository.checkout();
        fs::create_dir_all(checkout.join("specs")).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real");
        succeed(Command::new("cp").arg("-r").arg(fixtures).arg(checkout.join("recorded")));
        fs::write(checkout.join("specs/mesh.yaml"), super::SPECS).unwrap();
        super::apply_until_settled(&checkout);
        Some(repository)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    fn checkout(&self) -> PathBuf {
        self.root().join(FOLDER)
    }

    fn engine(&self, arguments: &[&str]) -> String {
        TestEnvironment::new().real_time().run_on(&self.checkout(), arguments).done()
    }

    fn application(&self, cluster: &str) -> String {
        self.engine(&["manifests", "argocd", "--repo", REPOSITORY, "--path", FOLDER, "--cluster", cluster])
    }

    /// Asks Argo CD's code.
    fn argo(&self, arguments: &[&str], input: &str) -> Output {
        let mut argo = Command::new(self.bin.join("argo"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        argo.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        argo.wait_with_output().unwrap()
    }

    fn argo_says(&self, arguments: &[&str], input: &str) -> String {
        let Output { status, stdout, stderr } = self.argo(arguments, input);
        assert!(status.success(), "argo {arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// What Argo CD's sync engine does to come from one stream of objects to the other: one line a step, components in short.
    fn waves(&self, word: &str, live: &str, target: &str) -> Vec<String> {
        let file = |name: &str, stream: &str| {
            let path = self.dir.path().join(name);
            fs::write(&path, stream).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let report = self.argo_says(&[word, &file("live.yaml", live), &file("target.yaml", target)], "");
        let mut lines: Vec<String> = Vec::new();
        for line in report.lines() {
            let (step, what) = line.split_once(": ").unwrap();
            let (verb, object) = what.split_once(' ').unwrap();
            let of_peers = ["ConfigMap/", "Gateway/", "Secret/"].iter().any(|kind| object.starts_with(kind));
            let peers = object.ends_with("/isthmus-peers") || object.ends_with("/isthmus-impersonate");
            let short = match (of_peers, peers) {
                (true, _) => object.to_owned(),
                (false, true) => "rights of peers".to_owned(),
                (false, false) => "components".to_owned(),
            };
            let done = format!("{step}: {verb} {short}");
            if lines.last() != Some(&done) {
                lines.push(done);
            }
        }
        lines
    }
}

/// The real server, as in its sidecar: no variable but its own, and no network.
struct ArgocdServer {
    process: Child,
    sockets: PathBuf,
    log: PathBuf,
}

impl ArgocdServer {
    fn start(repository: &BedRepository) -> Self {
        let manifests = repository.engine(&["manifests", "argocd", "--image", "registry.example.com/isthmus:0.1.0"]);
        let config: Value = serde_yaml::from_str(manifests.split("\n---\n").next().unwrap()).unwrap();
        let folder = |name: &str| {
            let path = repository.dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (configs, sockets, work) = (folder("config"), folder("plugins"), folder("tmp"));
        fs::write(configs.join("plugin.yaml"), config["data"]["plugin.yaml"].as_str().unwrap()).unwrap();
        let log = repository.dir.path().join("server.log");
        let output = fs::File::create(&log).unwrap();
        let mut arguments = vec!["-r", "-n"];
        if !succeeds(Command::new("unshare").args(["-r", "-n", "true"])) {
            assert!(std::env::var_os("CI").is_none(), "no network namespace to be had");
            arguments.clear();
        }
        let mut command = if arguments.is_empty() { Command::new("env") } else { Command::new("unshare") };
        let process = command
            .args(arguments)
            .arg(repository.bin.join("argocd-cmp-server"))
            .arg("--config-dir-path")
            .arg(&configs)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", Path::new(ENGINE).parent().unwrap().display()))
            .env("ARGOCD_PLUGINSOCKFILEPATH", &sockets)
            .env("ARGOCD_CMP_WORKDIR", &work)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let server = Self { process, sockets, log };
        let until = Instant::now() + Duration::from_secs(30);
        // the plugin's name is the socket's
        while !server.sockets.join("isthmus.sock").exists() {
            assert!(Instant::now() < until, "no socket: {}", server.output());
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for ArgocdServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn argo_cds_plugin_server_gives_what_is_rendered() {
    let _guard = one_at_a_time();
    let Some(repository) = BedRepository::new() else { return };
    let server = ArgocdServer::start(&repository);
    let (sockets, root) = (server.sockets.to_str().unwrap(), repository.root());
    let root = root.to_str().unwrap();
    for cluster in ["east", "west"] {
        let application = repository.application(cluster);
        // the client compares all answers with each other
        let begin = Instant::now();
        let answer = repository.argo_says(&["generate", sockets, root, AT_ONCE], &application);
        eprintln!("{AT_ONCE} generations of {cluster} at once: {} ms", begin.elapsed().as_millis());
        let answered: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kustomization =
            fs::read_to_string(repository.checkout().join(format!("rendered/{cluster}/kustomization.yaml")));
        let kustomization: Value = serde_yaml::from_str(&kustomization.unwrap()).unwrap();
        let files = kustomization["resources"].as_array().unwrap();
        assert_eq!(answered.len(), files.len());
        for file in files {
            let path = repository.checkout().join(format!("rendered/{cluster}/{}", file.as_str().unwrap()));
            let object: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            assert!(answered.contains(&object), "{file} is not among the manifests");
        }
    }
    let announced = repository.argo_says(&["announce", sockets, root], &repository.application("east"));
    let announced: Value = serde_json::from_str(&announced).unwrap();
    assert_eq!(announced[0]["name"], "cluster", "{announced}");
    assert!(announced[0]["tooltip"].as_str().unwrap().contains("east, west"), "{announced}");

    // a checkout that fails: an error with our words, and no manifests
    let lock = repository.checkout().join("lock/links/east.yaml");
    let kept = fs::read(&lock).unwrap();
    for (broken, arguments) in [(&b"<<<<<<< HEAD\n"[..], "merge conflict markers"), (b"version: 9\n", "version 9")] {
        fs::write(&lock, broken).unwrap();
        let failed = repository.argo(&["generate", sockets, root, "1"], &repository.application("west"));
        assert!(failed.status.success(), "the links of another reader are not read");
        let failed = repository.argo(&["generate", sockets, root, "1"], &application_of_east());
        let output = String::from_utf8(failed.stderr).unwrap();
        assert!(!failed.status.success() && failed.stdout.is_empty(), "{output}");
        assert!(output.contains("argocd generate") && output.contains(arguments), "{output}");
    }
    fs::write(&lock, kept).unwrap();
    let again = repository.argo(&["generate", sockets, root, "1"], &repository.application("east"));
    assert!(again.status.success());
}

/// Written by hand: while the checkout is broken, the engine writes none.
fn application_of_east() -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: isthmus-east, namespace: argocd}}\n\
         spec: {{project: default, destination: {{name: east, namespace: istio-system}}, source: {{repoURL: {REPOSITORY}, \
         path: {FOLDER}, targetRevision: main, plugin: {{name: isthmus, env: [{{name: CLUSTER, value: east}}]}}}}}}\n"
    )
}

#[test]
fn argo_cd_reads_every_application() {
    let _guard = one_at_a_time();
    let Some(repository) = BedRepository::new() else { return };
    for (sync, kind) in [("plugin", "Plugin"), ("directory", "Directory")] {
        let arguments = ["manifests", "argocd", "--repo", REPOSITORY, "--sync", sync];
        let set = repository.engine(&arguments);
        assert_eq!(repository.argo_says(&["check"], &set), "ApplicationSet\n");
        let one = repository.engine(&[&arguments[..], &["--cluster", "west"]].concat());
        assert_eq!(repository.argo_says(&["check"], &one), format!("Application isthmus-west {kind}\n"));
        // the check is strict
        let wrong = repository.argo(&["check"], &one.replace("project:", "projects:"));
        assert!(!wrong.status.success());
    }
}

/// The patch adds to the Deployment that is there, twice as once.
#[test]
fn the_sidecar_is_added_to_argo_cds_repo_server() {
    let _guard = one_at_a_time();
    let Some(repository) = BedRepository::new() else { return };
    let own = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "argocd-repo-server", "namespace": "argocd"},
        "spec": {"template": {"spec": {
            "containers": [{"name": "argocd-repo-server", "image": "quay.io/argoproj/argocd:v3.2.5"}],
            "volumes": [{"name": "var-files", "emptyDir": {}}, {"name": "plugins", "emptyDir": {}}],
        }}},
    });
    let (deployment, patch) =
        (repository.dir.path().join("deployment.json"), repository.dir.path().join("sidecar.yaml"));
    fs::write(&deployment, own.to_string()).unwrap();
    fs::write(&patch, repository.engine(&["manifests", "argocd", "--image", "isthmus:1", "--part", "sidecar"]))
        .unwrap();
    let search = format!("PATH={}:{}", std::env::var("PATH").unwrap_or_default(), repository.bin.display());
    let patched = || {
        let mut kubectl = Command::new("env");
        kubectl.arg(&search).args(["kubectl", "patch", "--local", "--output", "json", "--filename"]).arg(&deployment);
        succeed(kubectl.arg("--patch-file").arg(&patch))
    };
    let once = patched();
    let pod: Value = serde_json::from_str(&once).unwrap();
    let pod = &pod["spec"]["template"]["spec"];
    let names = |of: &str| -> BTreeSet<String> {
        pod[of].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("containers"), ["argocd-repo-server", "isthmus"].map(str::to_owned).into());
    let sidecar =
        pod["containers"].as_array().unwrap().iter().find(|container| container["name"] == "isthmus").unwrap();
    for mount in sidecar["volumeMounts"].as_array().unwrap() {
        assert!(names("volumes").contains(mount["name"].as_str().unwrap()), "{mount} has no volume");
    }
    fs::write(&deployment, &once).unwrap();
    assert_eq!(patched(), once);
}

/// Trust before networks before secrets, and back: by Argo CD's own sort of the waves that our objects carry.
#[test]
fn argo_cd_applies_and_prunes_in_the_order_of_trust() {
    let _guard = one_at_a_time();
    let Some(repository) = BedRepository::new() else { return };
    let east = || repository.engine(&["argocd", "generate", "--cluster", "east"]);
    let joined = east();
    let specs = repository.checkout().join("specs/mesh.yaml");
    let text = fs::read_to_string(&specs).unwrap();
    let leaving = text.replacen("name: east}\nspec:\n", "name: east}\nspec:\n  state: leaving\n  settle: 0s\n", 1);
    let leaving = leaving.replacen("name: west}\nspec:\n", "name: west}\nspec:\n  settle: 0s\n", 1);
    fs::write(&specs, leaving).unwrap();
    let mut stages = vec![joined.clone()];
    while stages.len() < 6 && !stages.last().unwrap().is_empty() {
        repository.engine(&["apply"]);
        stages.push(east());
    }
    assert_eq!(stages.last().unwrap(), "", "east has not left");
    let mut report = String::new();
    let mut add = |title: &str, lines: &[String]| report.push_str(&format!("{title}\n  {}\n", lines.join("\n  ")));
    add("joining", &repository.waves("waves", "", &joined));
    for (number, pair) in stages.windows(2).enumerate() {
        add(&format!("leaving, turn {}", number + 1), &repository.waves("waves", &pair[0], &pair[1]));
    }
    add("gone at once", &repository.waves("waves", &joined, ""));
    add("two runs in one sync", &repository.waves("waves", &joined, &stages[2]));
    add("gone at once with PruneLast, which is why it is not set", &repository.waves("order", &joined, ""));
    insta::assert_snapshot!(report);
}

/// Flux knows no waves: each part of a cluster is the folder without the other parts.
#[test]
fn fluxs_parts_are_the_whole_in_order() {
    let _guard = one_at_a_time();
    let Some(repository) = BedRepository::new() else { return };
    let kustomize = |folder: &Path| -> BTreeSet<String> {
        let path = format!("{}:{}", std::env::var("PATH").unwrap_or_default(), repository.bin.display());
        let built = succeed(Command::new("env").arg(format!("PATH={path}")).args(["kubectl", "kustomize"]).arg(folder));
        let objects = built.split("\n---\n").filter(|text| !text.trim().is_empty());
        let objects = objects.map(|text| serde_yaml::from_str::<Value>(text).unwrap());
        objects.map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
    };
    let manifests =
        repository.engine(&["manifests", "flux", "--repo", REPOSITORY, "--path", FOLDER, "--cluster", "east"]);
    let manifests: Vec<Value> = manifests.split("\n---\n").map(|text| serde_yaml::from_str(text).unwrap()).collect();
    let whole = kustomize(&repository.checkout().join("rendered/east"));
    let (mut found, mut before) = (BTreeSet::new(), None);
    for (number, part) in manifests.iter().filter(|object| object["kind"] == "Kustomization").enumerate() {
        assert_eq!(part["spec"]["path"], format!("./{FOLDER}/rendered/east"));
        assert_eq!(part["spec"]["dependsOn"][0]["name"].as_str(), before, "{part}");
        before = part["metadata"]["name"].as_str();
        // Flux's controller adds the patches to the folder's own kustomization
        let folder = repository.checkout().join(format!("part{number}"));
        fs::create_dir(&folder).unwrap();
        let build = serde_json::json!({"resources": ["../rendered/east"], "patches": part["spec"]["patches"]});
        fs::write(folder.join("kustomization.yaml"), build.to_string()).unwrap();
        let objects = kustomize(&folder);
        let secrets = objects.iter().filter(|object| object.contains("istio-remote-secret-")).count();
        // no cluster is left to another checkout
        assert_eq!((secrets > 0, objects.is_empty()), (number == 3, number == 4), "{objects:?}");
        for object in objects {
            assert!(whole.contains(&object) && found.insert(object.clone()), "{object} stands in two parts");
        }
    }
    assert_eq!(found, whole);
    assert_eq!(before, Some("isthmus-east-offer"));
}
