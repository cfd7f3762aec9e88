//! A checkout in a temporary folder, and the engine on it with an empty environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A checkout of two real clusters known from files.
pub(crate) struct Checkout(tempfile::TempDir);

const SPEC: &str = "apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: shop}
spec: {acceptForeignRoots: true}
---
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: east}
spec: {metadata: {endpoint: \"file://metadata/east\"}}
---
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: west}
spec: {metadata: {endpoint: \"file://metadata/west\"}}
";

impl Checkout {
    pub(crate) fn new() -> Self {
        let checkout = Self(tempfile::tempdir().unwrap());
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
        let checkout = Self(tempfile::tempdir().unwrap());
        copy(folder, checkout.0.path());
        checkout
    }

    pub(crate) fn joined() -> Self {
        let checkout = Self::new();
        assert_eq!(checkout.engine(&["apply"]).0, 0);
        checkout
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
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

    /// Exit code and everything that was printed.
    pub(crate) fn engine(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_engine"))
            .env_clear()
            .arg("-C")
            .arg(self.0.path())
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code().unwrap_or(-1), text)
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

    #[track_caller]
    pub(crate) fn refuses(&self, arguments: &[&str], exit: i32, words: &[&str]) {
        let before = self.output();
        let (code, text) = self.engine(arguments);
        assert_eq!(code, exit, "{text}");
        for word in words {
            assert!(text.contains(word), "`{word}` is missing in\n{text}");
        }
        assert!(!text.contains("panicked"), "{text}");
        assert!(before == self.output(), "something was changed by\n{text}");
    }
}
