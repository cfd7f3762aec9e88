//! What is kept from run to run, so that a run does again only what may come out otherwise: the fingerprints.
//!
//! | of what | kept | by | holds until |
//! |---|---|---|---|
//! | a file of `rendered/` | SHA-256 of its bytes, digest of what they are made of, whether it is ours | cluster and name | its stamp is another and its bytes are too; the mesh has another name |
//! | the same file | its stamp: while it is the same the file is not opened | cluster and name | any change; it never holds on a file system whose times are another machine's |
//! | the lock | digest of its files once they were seen to be as we write them: an equal lock is not written out to be compared | nothing, there is one | its files are others |
//!
//! A stamp counts only if it was old enough when it was taken: a file may change twice within one tick of the file system's
//! clock. git's index works alike. What a text is made of is digested where it is rendered
//! ([`RenderedObject::inputs`](crate::pipeline::render::RenderedObject::inputs)), and compared where it is planned.
//!
//! Nothing of this decides what is written, only what is looked at: who remembers nothing comes to the same plan. What a
//! plan keeps of texts and of the files that it replaces is kept to be shown or written, and is no fingerprint.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::checkout::{Checkout, CheckoutError, FileStamp, ReadLimits};
use crate::model::layout::{RENDERED, is_yaml_of, rendered_folder};
use crate::pipeline::tree::File;
use crate::types::name::{Digest, MeshName};

/// What is kept of a checkout. Shared by the runs of one process.
#[derive(Debug, Default)]
pub struct Fingerprints {
    clusters: Mutex<Clusters>,
    /// Digest of the lock's files that are as we write them.
    lock: Mutex<Option<Digest>>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Clusters {
    /// Whose files are ours.
    mesh: Option<MeshName>,
    folders: BTreeMap<String, FolderMemory>,
}

/// By a hash of the file's name: there are tens of thousands of them.
type FolderMemory = HashMap<u64, Remembered>;

/// What is remembered of a file.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    digest: Digest,
    /// The inputs that its bytes are made of, if they are known.
    inputs_digest: Option<Digest>,
    /// A hash of its stamp, if that counts.
    stamp: Option<u64>,
    is_ours: bool,
}

impl Fingerprints {
    /// Forgets everything that was remembered for a mesh of another name: its files are not ours.
    pub fn belongs_to(&self, mesh: &MeshName) {
        let mut clusters = self.clusters();
        if clusters.mesh.as_ref() != Some(mesh) {
            *clusters = Clusters { mesh: Some(mesh.clone()), folders: BTreeMap::new() };
        }
    }

    /// The YAML files of one cluster's folder by name.
    pub fn files(&self, checkout: &Checkout, cluster: &str) -> Result<BTreeMap<String, File>, CheckoutError> {
        let folder = rendered_folder(cluster);
        let before = self.clusters().folders.remove(cluster).unwrap_or_default();
        let key = |path: &str| self.hasher.hash_one(path.rsplit('/').next());
        let is_known = |path: &str, stamp: &FileStamp| {
            let known = before.get(&key(path)).filter(|known| known.is_ours);
            known.is_some_and(|known| known.stamp == Some(self.hasher.hash_one(stamp)))
        };
        // another machine's times are not ours to judge: there a file is always read
        let now = (!checkout.is_remote()).then(|| crate::session::clock::real().as_nanosecond());
        let filter = |path: &str| is_yaml_of(&folder, path);
        let found = checkout.read_unless(&folder, &filter, ReadLimits::OUTPUT, Some(&is_known))?;
        let mut files = BTreeMap::new();
        let mut after = FolderMemory::with_capacity(found.len());
        for (path, found) in found {
            let known = before.get(&key(&path)).copied();
            let (remembered, file) = match (found.bytes, known) {
                (None, Some(known)) => (known, File::Kept { digest: known.digest, inputs_digest: known.inputs_digest }),
                (bytes, known) => {
                    let bytes = bytes.unwrap_or_default();
                    let digest = Digest::of(&bytes);
                    let same = known.filter(|known| known.is_ours && known.digest == digest);
                    let inputs_digest = same.and_then(|known| known.inputs_digest);
                    let counts = now.is_some_and(|now| found.stamp.is_settled_at(now));
                    let stamp = counts.then(|| self.hasher.hash_one(found.stamp));
                    let file = if same.is_some() { File::Kept { digest, inputs_digest } } else { File::Read(bytes) };
                    (Remembered { digest, inputs_digest, stamp, is_ours: same.is_some() }, file)
                }
            };
            after.insert(key(&path), remembered);
            files.extend(path.rsplit_once('/').map(|(_, name)| (name.to_owned(), file)));
        }
        self.clusters().folders.insert(cluster.to_owned(), after);
        Ok(files)
    }

    /// A file is ours, and its bytes are made of these inputs.
    pub fn mark_owned(&self, cluster: &str, name: &str, inputs_digest: Option<Digest>) {
        let key = self.hasher.hash_one(Some(name));
        if let Some(known) = self.clusters().folders.get_mut(cluster).and_then(|folder| folder.get_mut(&key)) {
            known.is_ours = true;
            known.inputs_digest = inputs_digest;
        }
    }

    /// These bytes were written to a file of `rendered/`.
    pub fn note_written(&self, path: &str, bytes: &[u8]) {
        let mut parts = path.split('/');
        let (Some(RENDERED), Some(cluster), name @ Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let remembered = Remembered { digest: Digest::of(bytes), inputs_digest: None, stamp: None, is_ours: true };
        let key = self.hasher.hash_one(name);
        self.clusters().folders.entry(cluster.to_owned()).or_default().insert(key, remembered);
    }

    /// Whether these files of the lock are known to be as we write them.
    pub fn is_lock_ours(&self, files: &BTreeMap<String, Vec<u8>>) -> bool {
        let kept = *self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        kept.is_some_and(|kept| kept == digest_of(files))
    }

    /// These files of the lock are as we write them.
    pub fn note_lock(&self, files: &BTreeMap<String, Vec<u8>>) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest_of(files));
    }

    fn clusters(&self) -> MutexGuard<'_, Clusters> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A digest over paths and bytes.
fn digest_of(files: &BTreeMap<String, Vec<u8>>) -> Digest {
    let lines = files.iter().map(|(path, bytes)| format!("{} {path}\n", Digest::of(bytes)));
    Digest::of(lines.collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::tree::Tree as _;

    /// What happens to a file between two runs.
    #[derive(Debug, Clone)]
    enum FileEdit {
        /// We write it.
        Ours(usize, u8),
        /// Someone else does, at the same length.
        Foreign(usize, u8),
        Delete(usize),
        /// A run finds it to be ours.
        Noted(usize),
    }

    fn change() -> impl Strategy<Value = FileEdit> {
        let file = 0..3_usize;
        prop_oneof![
            (file.clone(), 0..3_u8).prop_map(|(file, text)| FileEdit::Ours(file, text)),
            (file.clone(), 0..3_u8).prop_map(|(file, text)| FileEdit::Foreign(file, text)),
            file.clone().prop_map(FileEdit::Delete),
            file.prop_map(FileEdit::Noted),
        ]
    }

    fn mesh() -> MeshName {
        "north".parse().unwrap()
    }

    proptest! {
        /// However fast files change, what is kept is what is there.
        #[test]
        fn what_is_kept_is_what_is_there(runs in prop::collection::vec(prop::collection::vec(change(), 0..4), 1..6)) {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("rendered/east");
            fs::create_dir_all(&folder).unwrap();
            let checkout = Checkout::open(dir.path()).unwrap();
            let kept = Fingerprints::default();
            kept.belongs_to(&mesh());
            for changes in runs {
                for change in changes {
                    let name = |file: usize| format!("{file}.yaml");
                    match change {
                        FileEdit::Ours(file, text) => {
                            fs::write(folder.join(name(file)), [text]).unwrap();
                            kept.note_written(&format!("rendered/east/{}", name(file)), &[text]);
                        }
                        FileEdit::Foreign(file, text) => fs::write(folder.join(name(file)), [text]).unwrap(),
                        FileEdit::Delete(file) => drop(fs::remove_file(folder.join(name(file)))),
                        FileEdit::Noted(file) => kept.mark_owned("east", &name(file), None),
                    }
                }
                let read = checkout.cluster_files("east").unwrap();
                let found = kept.files(&checkout, "east").unwrap();
                prop_assert!(read.keys().eq(found.keys()));
                for (name, file) in found {
                    match file {
                        File::Read(bytes) => prop_assert_eq!(&bytes, &read[&name]),
                        File::Kept { digest, .. } => prop_assert_eq!(digest, Digest::of(&read[&name])),
                        File::Made { .. } => prop_assert!(false, "{name} is a file"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_is_read_again_until_its_stamp_counts_and_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rendered/east/a.yaml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "one").unwrap();
        let checkout = Checkout::open(dir.path()).unwrap();
        let kept = Fingerprints::default();
        kept.belongs_to(&mesh());
        let inputs_digest = Some(Digest::of(b"inputs"));
        let read = || kept.files(&checkout, "east").unwrap().remove("a.yaml").unwrap();
        let counts = || kept.clusters().folders["east"].values().all(|known| known.stamp.is_some());
        assert_eq!(read(), File::Read(b"one".to_vec()));
        kept.mark_owned("east", "a.yaml", inputs_digest);
        assert!(!counts(), "it may change within this tick and keep its stamp");
        let same = File::Kept { digest: Digest::of(b"one"), inputs_digest };
        assert_eq!(read(), same, "its bytes are the same");
        std::thread::sleep(Duration::from_millis(2_100));
        assert_eq!(read(), same);
        assert!(counts());
        assert_eq!(read(), same);
        fs::write(&path, "two").unwrap();
        assert_eq!(read(), File::Read(b"two".to_vec()));
        fs::write(&path, "one").unwrap();
        assert_eq!(read(), File::Read(b"one".to_vec()), "whose it is has to be found out again");
        kept.mark_owned("east", "a.yaml", inputs_digest);
        kept.belongs_to(&"south".parse().unwrap());
        assert_eq!(read(), File::Read(b"one".to_vec()), "another mesh's files are not ours");
    }

    #[test]
    fn the_lock_is_known_while_its_files_are_the_same() {
        let kept = Fingerprints::default();
        let files = |bytes: &[u8]| BTreeMap::from([("lock/mesh.yaml".to_owned(), bytes.to_vec())]);
        assert!(!kept.is_lock_ours(&files(b"one")));
        kept.note_lock(&files(b"one"));
        assert!(kept.is_lock_ours(&files(b"one")) && !kept.is_lock_ours(&files(b"two")));
        assert!(!kept.is_lock_ours(&BTreeMap::new()));
        kept.note_lock(&files(b"two"));
        assert!(!kept.is_lock_ours(&files(b"one")));
    }
}
