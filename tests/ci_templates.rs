//! The GitHub Action and the GitLab template: their own steps, run in a sealed environment with a code host that records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::checkout::Checkout;
use crate::support::environment::{ENGINE, Ran, TestEnvironment};

fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A place with a bare remote, a clone of it that is a checkout, and a code host's command that records its calls.
struct CodeHost {
    environment: TestEnvironment,
}

impl CodeHost {
    fn new(checkout: &Checkout) -> Self {
        let place = Self { environment: TestEnvironment::new().with_tools() };
        place.git(".", &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        place.git(".", &["clone", "-q", "remote.git", "clone"]);
        let mut copy = place.environment.program("cp");
        place.environment.end(copy.arg("-a").arg(checkout.path(".")).arg(place.path("clone"))).done();
        place.git("clone", &["switch", "-qc", "main"]);
        place.git("clone", &["add", "-A"]);
        place.git("clone", &["commit", "-qm", "one"]);
        place.git("clone", &["push", "-q", "-u", "origin", "main"]);
        // remembers what is posted; says that one comment is there once one was posted
        script(
            &place.path("bin/gh"),
            "#!/usr/bin/env bash\nset -eu\nroot=$(dirname \"$0\")/..\nprintf '%s\\n' \"$*\" >>\"$root/calls\"\nfor word in \"$@\"; do case $word in body=@*) cp \"${word#body=@}\" \"$root/posted\";; esac; done\ncase \"$*\" in *--paginate*) [ ! -e \"$root/posted\" ] || echo 17;; esac\n",
        );
        script(
            &place.path("bin/curl"),
            r#"#!/usr/bin/env bash
set -eu
root=$(dirname "$0")/..
printf '%s\n' "$*" >>"$root/calls"
for word in "$@"; do case $word in body@*) cp "${word#body@}" "$root/posted"; exit;; esac; done
case "$*" in */user) echo '{"id": 5}'; exit;; esac
# somebody else's comment begins like ours
python3 -c '
import json, os, sys
notes = [{"id": 16, "body": "<!-- isthmus plan of . -->\n:white_check_mark:", "author": {"id": 6}}]
if os.path.exists(sys.argv[1]):
    notes.append({"id": 17, "body": open(sys.argv[1]).read(), "author": {"id": 5}})
print(json.dumps(notes))' "$root/posted"
"#,
        );
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.environment.path(path)
    }

    fn git(&self, at: &str, arguments: &[&str]) -> String {
        self.environment.git(&self.path(at), arguments)
    }

    /// Runs a line of a template as a runner does.
    fn run(&self, line: &str, variables: &[(&str, &str)]) -> Ran {
        let mut command = self.environment.program("bash");
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", line]).envs(variables.iter().copied());
        self.environment.end(command.current_dir(self.path("clone")))
    }

    fn posted(&self) -> String {
        std::fs::read_to_string(self.path("posted")).unwrap_or_default()
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.path("calls")).unwrap_or_default()
    }
}

/// The steps of the action by name: what they run, and the names of their environment.
fn steps() -> BTreeMap<String, (String, Vec<String>)> {
    let action = read("action.yml");
    assert_eq!(action["runs"]["using"], "composite");
    let steps =
        action["runs"]["steps"].as_array().unwrap().iter().filter(|step| step.get("uses").is_none()).map(|step| {
            assert_eq!(step["shell"], "bash", "each step of a composite action names its shell");
            let names = step["env"].as_object().map(|env| env.keys().cloned().collect()).unwrap_or_default();
            (step["name"].as_str().unwrap().to_owned(), (step["run"].as_str().unwrap().to_owned(), names))
        });
    steps.collect()
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const STATED: &str = "file://metadata/east\"}, gateways: [{address: 203.0.113.9, port: 15443}]";

#[test]
fn the_action_comments_once_and_again_in_place_without_any_key() {
    let checkout = Checkout::joined();
    let place = CodeHost::new(&checkout);
    let (run, names) = &steps()["Plan"];
    assert!(!names.iter().any(|name| name.contains("KEY")), "{names:?}");
    let summary = place.path("summary");
    let environment = [
        ("ENGINE", ENGINE),
        ("CHECKOUT", "."),
        ("BASE", "origin/main"),
        ("GH_TOKEN", "t"),
        ("PULL_REQUEST", "7"),
        ("HOST", "github"),
        ("GITHUB_ACTION_PATH", ROOT),
        ("GITHUB_REPOSITORY", "o/r"),
        ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_RUN_ID", "5"),
    ];
    assert!(names.iter().all(|name| environment.iter().any(|(known, _)| known == name)), "{names:?}");
    let spec = place.path("clone/specs/mesh.yaml");
    let text = std::fs::read_to_string(&spec).unwrap();
    std::fs::write(&spec, text.replace("file://metadata/east\"}", STATED)).unwrap();
    place.run(run, &environment).done();
    assert!(
        place.posted().starts_with("<!-- isthmus plan of . -->\n## :warning: `mesh shop")
            && place.posted().contains("203.0.113.9")
    );
    assert!(place.calls().contains("api --silent repos/o/r/issues/7/comments"), "{}", place.calls());
    // the whole plan is a file that the next step keeps, and the comment says where
    let whole = std::fs::read_to_string(place.path("clone/isthmus-plan.txt")).unwrap();
    assert!(whole.contains("203.0.113.9") && whole.contains("render-trust/west"), "{whole}");
    assert!(place.posted().contains("](https://github.com/o/r/actions/runs/5#artifacts)"), "{}", place.posted());
    let kept = &read("action.yml")["runs"]["steps"];
    let kept = kept.as_array().unwrap().iter().find(|step| step["name"] == "Whole plan").unwrap();
    let (uses, path) = (kept["uses"].as_str().unwrap(), kept["with"]["path"].as_str().unwrap());
    let revision = uses.split_once('@').unwrap().1;
    assert!(revision.len() == 40 && path == "isthmus-plan.txt" && kept["if"].as_str().unwrap().contains("always()"));
    // findings are a comment too, at the same place, and the job fails
    std::fs::write(&spec, text.replace("acceptForeignRoots", "acceptForeignRots")).unwrap();
    let ran = place.run(run, &environment);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(place.calls().contains("--method PATCH repos/o/r/issues/comments/17"), "{}", place.calls());
    assert!(place.posted().contains("No plan") && place.posted().contains("acceptForeignRots"));
    assert_eq!(std::fs::read_to_string(&summary).unwrap().matches("<!-- isthmus plan").count(), 2);
    // a revision that is not there
    std::fs::write(&spec, &text).unwrap();
    let ran = place.run(run, &[&environment[..], &[("BASE", "origin/none")]].concat());
    assert!(ran.code == 64 && place.posted().contains("ended with 64"));
    // without a token, as for a fork, the summary has it
    let calls = place.calls();
    let ran = place.run(run, &[&environment[..], &[("GH_TOKEN", "")]].concat());
    assert!(ran.code == 0 && ran.stderr.contains("summary") && place.calls() == calls, "{ran}");
}

#[test]
fn the_action_applies_until_all_is_pushed() {
    let place = CodeHost::new(&Checkout::new());
    let (run, names) = &steps()["Apply"];
    let environment = [
        ("ENGINE", ENGINE),
        ("CHECKOUT", "."),
        ("FOR", "20s"),
        ("BRANCH", "main"),
        ("ISTHMUS_AUTHOR", "mesh <mesh@example.com>"),
        ("ISTHMUS_ENGINE_KEY", ""),
        ("GITHUB_ACTION_PATH", ROOT),
    ];
    assert!(names.iter().all(|name| environment.iter().any(|(known, _)| known == name)), "{names:?}");
    place.run(run, &environment).done();
    let log = place.git("remote.git", &["log", "-1", "--format=%an <%ae>%n%B", "main"]);
    assert!(
        log.starts_with("mesh <mesh@example.com>\nrendered: east, west") && log.contains("no link -> joined"),
        "{log}"
    );
    assert!(place.git("clone", &["status", "--porcelain"]).is_empty());
    // a second one has nothing to do; a runner that checked a commit out continues top of the branch
    let head = place.git("remote.git", &["rev-parse", "main"]);
    place.git("clone", &["checkout", "-q", "--detach", "HEAD~1"]);
    place.run(run, &environment).done();
    assert_eq!(place.git("remote.git", &["rev-parse", "main"]), head);
    let ran = place.run(&steps()["Neither"].0, &[("COMMAND", "aply")]);
    assert!(ran.code == 64 && ran.stdout.contains("aply"), "{ran}");
}

#[test]
fn the_gitlab_template_does_the_same() {
    let template = read("examples/gitlab/isthmus.gitlab-ci.yml");
    let job = |name: &str| {
        let lines = template[name]["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned());
        lines.collect::<Vec<_>>().join("\n").replace("/usr/local/lib/isthmus", &format!("{ROOT}/ci"))
    };
    let plan = template["isthmus-plan"]["variables"].as_object().unwrap();
    assert!(plan.keys().all(|name| !name.contains("KEY")));
    assert_eq!(template["isthmus-apply"]["resource_group"], "isthmus-apply");
    let place = CodeHost::new(&Checkout::joined());
    let spec = place.path("clone/specs/mesh.yaml");
    let text = std::fs::read_to_string(&spec).unwrap();
    std::fs::write(&spec, text.replace("file://metadata/east\"}", STATED)).unwrap();
    let environment = [
        ("ENGINE", ENGINE),
        ("HOST", "gitlab"),
        ("BASE", "origin/main"),
        ("GITLAB_TOKEN", "t"),
        ("CI_API_V4_URL", "https://gitlab.example.com/api/v4"),
        ("CI_PROJECT_ID", "3"),
        ("CI_MERGE_REQUEST_IID", "7"),
        ("CI_JOB_URL", "https://gitlab.example.com/p/-/jobs/9"),
        ("WHOLE", plan["WHOLE"].as_str().unwrap()),
    ];
    assert_eq!(template["isthmus-plan"]["artifacts"]["paths"], serde_json::json!([plan["WHOLE"]]));
    assert_eq!(template["isthmus-plan"]["artifacts"]["when"], "always");
    for again in [false, true] {
        let ran = place.run(&job("isthmus-plan"), &environment);
        assert!(ran.code == 0 && place.posted().contains("203.0.113.9"), "{again} {ran}");
        assert!(place.posted().contains("](https://gitlab.example.com/p/-/jobs/9/artifacts/file/isthmus-plan.txt)"));
        let calls = place.calls();
        let last = calls.lines().last().unwrap();
        assert!(last.contains("--data-urlencode body@") && last.contains("--request PUT") == again, "{calls}");
    }
    assert!(place.calls().contains("https://gitlab.example.com/api/v4/projects/3/merge_requests/7/notes/17"));
    assert!(!place.calls().contains("notes/16"), "the comment of somebody else stays theirs");

    let place = CodeHost::new(&Checkout::new());
    place.git("clone", &["checkout", "-q", "--detach"]);
    let remote = place.path("remote.git");
    let line = job("isthmus-apply");
    let line = line.lines().map(|line| {
        // the one thing that a test cannot have is the code host's address
        if line.starts_with("git remote set-url") {
            format!("git remote set-url --push origin {}", remote.display())
        } else {
            line.to_owned()
        }
    });
    let line = line.collect::<Vec<_>>().join("\n");
    place.run(&line, &[("ENGINE", ENGINE), ("BRANCH", "main"), ("FOR", "20s")]).done();
    assert!(place.git("remote.git", &["log", "-1", "--format=%B", "main"]).contains("rendered: east, west"));
}

#[test]
fn the_workflow_example_gives_the_key_to_apply_alone_and_pins_what_it_uses() {
    let workflow = read("examples/github/isthmus.yaml");
    assert_eq!(workflow["permissions"], serde_json::json!({}));
    let inputs = read("action.yml")["inputs"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        let text = job.to_string();
        assert_eq!(text.contains("ISTHMUS_ENGINE_KEY"), name == "apply", "{name}");
        assert_eq!(text.contains("\"contents\":\"write\""), name == "apply", "{name}");
        for step in job["steps"].as_array().unwrap() {
            let uses = step["uses"].as_str().unwrap();
            let (what, revision) = uses.split_once('@').unwrap();
            assert!(
                revision == "REVISION" || (revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())),
                "{uses}"
            );
            if what == "OWNER/isthmus" {
                assert!(step["with"].as_object().unwrap().keys().all(|input| inputs.contains(input)), "{step}");
            }
        }
    }
    assert!(!workflow.to_string().contains("pull_request_target"));
}
