//! A checkout in a sealed environment, and the engine on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::environment::{Ran, TestEnvironment};

/// A checkout of two real clusters known from files.
pub(crate) struct Checkout {
    pub(crate) environment: TestEnvironment,
}

/// Where it lies in its environment.
const FOLDER: &str = "checkout";

const SPEC: &str = "apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: shop}
spec: {acceptForeignRoots: true}
---
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: east}
spec: {istio: {standardMeshNetworks: none}, metadata: {endpoint: \"file://metadata/east\"}}
---
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: west}
spec: {istio: {standardMeshNetworks: none}, metadata: {endpoint: \"file://metadata/west\"}}
";

impl Checkout {
    pub(crate) fn new() -> Self {
        Self::in_environment(TestEnvironment::new())
    }

    pub(crate) fn in_environment(environment: TestEnvironment) -> Self {
        let checkout = Self { environment };
        for cluster in ["east", "west"] {
            for document in ["public/public.json", "private/multicluster.json"] {
                let real =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/real/{cluster}/metadata/{document}"));
                checkout.write(&format!("metadata/{cluster}/{document}"), &std::fs::read(real).unwrap());
            }
        }
        checkout.write("specs/mesh.yaml", SPEC.as_bytes());
        checkout
    }

    /// A copy of a folder.
    pub(crate) fn of(folder: &Path) -> Self {
        fn copy(from: &Path, to: &Path) {
            std::fs::create_dir_all(to).unwrap();
            for entry in std::fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let to = to.join(entry.file_name());
                if entry.path().is_dir() {
                    copy(&entry.path(), &to);
                } else {
                    std::fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        let checkout = Self { environment: TestEnvironment::new() };
        copy(folder, &checkout.path(""));
        checkout
    }

    pub(crate) fn joined() -> Self {
        let checkout = Self::new();
        checkout.engine(&["apply"]).done();
        checkout
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.environment.path(FOLDER).join(path)
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(path)).unwrap();
        assert!(text.contains(from), "{path} has no {from:?}:\n{text}");
        self.write(path, text.replacen(from, to, 1).as_bytes());
    }

    /// A command of the engine on this checkout.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.command();
        command.arg("-C").arg(self.path("")).args(arguments);
        command
    }

    /// Runs the engine on it.
    #[track_caller]
    pub(crate) fn engine(&self, arguments: &[&str]) -> Ran {
        self.environment.end(&mut self.command(arguments))
    }

    /// Runs git in it.
    #[track_caller]
    pub(crate) fn git(&self, expected: &[&str]) -> String {
        self.environment.git(&self.path(""), expected)
    }

    /// Path → content, of lock and tree.
    pub(crate) fn output(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.insert(path.clone(), std::fs::read(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        for folder in ["lock", "rendered", "values"] {
            walk(&self.path(folder), &mut found);
        }
        found
    }

    /// A run that says these words on stderr, and changes nothing.
    #[track_caller]
    pub(crate) fn refuses(&self, arguments: &[&str], exit: i32, expected: &[&str]) -> Ran {
        let ran = self.changes_nothing(arguments, exit);
        for word in expected {
            assert!(ran.stderr.contains(word), "`{word}` is missing on stderr in\n{ran}");
        }
        ran
    }

    /// A run that shows these words on stdout, as a plan does, and changes nothing.
    #[track_caller]
    pub(crate) fn shows(&self, arguments: &[&str], exit: i32, expected: &[&str]) -> Ran {
        let ran = self.changes_nothing(arguments, exit);
        for word in expected {
            assert!(ran.stdout.contains(word), "`{word}` is missing on stdout in\n{ran}");
        }
        ran
    }

    #[track_caller]
    fn changes_nothing(&self, arguments: &[&str], exit: i32) -> Ran {
        let before = self.output();
        let ran = self.engine(arguments);
        assert_eq!(ran.code, exit, "{ran}");
        assert!(!ran.says("panicked"), "{ran}");
        assert!(before == self.output(), "something was changed by\n{ran}");
        ran
    }
}
