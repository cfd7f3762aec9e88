//! The tree of rendered files, as the pure stages see it: folders and bytes, wherever they lie.

use std::collections::BTreeMap;

use crate::checkout::CheckoutError;
use crate::model::layout::{RENDERED, is_below, rendered_folder};
use crate::types::explanation::{Explain, Explanation};
use crate::types::name::Digest;

/// A tree that could not be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TreeError(#[from] CheckoutError);

impl Explain for TreeError {
    fn explanation(&self) -> Explanation {
        self.0.explanation()
    }
}

/// A file that is to be compared with what is rendered for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// Its bytes.
    Read(Vec<u8>),
    /// It was not read: it is one of ours, and still holds what it held.
    Kept {
        /// The SHA-256 of its bytes.
        digest: Digest,
        /// The [inputs](crate::pipeline::render::RenderedObject::inputs) that give these bytes, if they are known.
        inputs_digest: Option<Digest>,
    },
    /// It is no file: it is what another revision renders. Its bytes are made when they are asked for.
    Made {
        /// The [inputs](crate::pipeline::render::RenderedObject::inputs) that give them.
        inputs_digest: Digest,
    },
}

/// Files by folder. Reading one cluster's folder at a time keeps a plan of many clusters small.
pub trait Tree: Sync {
    /// Names of the folders below `rendered/`.
    fn clusters(&self) -> Result<Vec<String>, TreeError>;

    /// The YAML files of one cluster's folder by name; a missing folder is empty.
    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError>;

    /// The names of all files of one cluster's folder; a missing folder is empty.
    fn names(&self, cluster: &str) -> Result<Vec<String>, TreeError> {
        Ok(self.cluster_files(cluster)?.into_keys().collect())
    }

    /// The paths of all files below a folder of the checkout, however deep, but for those with a part that begins with a dot.
    fn paths(&self, folder: &str) -> Result<Vec<String>, TreeError>;

    /// One file of the checkout by its path.
    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError>;

    /// The same files as [`cluster_files`](Self::cluster_files), where a tree that remembers need not read them all.
    fn files_to_compare(&self, cluster: &str) -> Result<BTreeMap<String, File>, TreeError> {
        Ok(self.cluster_files(cluster)?.into_iter().map(|(name, bytes)| (name, File::Read(bytes))).collect())
    }

    /// Told of a file of a cluster's folder that is ours, and of the inputs that its bytes are made of.
    fn mark_owned(&self, _cluster: &str, _name: &str, _made_of: &dyn Fn() -> Option<Digest>) {}

    /// Whether these files of the lock are known to be as we write them; `false` where nothing is remembered.
    fn is_lock_ours(&self, _files: &BTreeMap<String, Vec<u8>>) -> bool {
        false
    }

    /// Told of files of the lock that are as we write them.
    fn note_lock(&self, _files: &BTreeMap<String, Vec<u8>>) {}
}

/// A tree in memory: path below the checkout → bytes.
impl<B: AsRef<[u8]> + Sync> Tree for BTreeMap<String, B> {
    fn clusters(&self) -> Result<Vec<String>, TreeError> {
        let mut names: Vec<String> = self
            .keys()
            .filter_map(|path| path.strip_prefix(RENDERED)?.strip_prefix('/')?.split_once('/'))
            .map(|(cluster, _)| cluster.to_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError> {
        let folder = format!("{}/", rendered_folder(cluster));
        Ok(beside(self, &folder).map(|(name, bytes)| (name.to_owned(), bytes.as_ref().to_vec())).collect())
    }

    fn names(&self, cluster: &str) -> Result<Vec<String>, TreeError> {
        let folder = format!("{}/", rendered_folder(cluster));
        Ok(beside(self, &folder).map(|(name, _)| name.to_owned()).collect())
    }

    fn paths(&self, folder: &str) -> Result<Vec<String>, TreeError> {
        let below = self.range(format!("{folder}/")..).map(|(path, _)| path).take_while(|path| is_below(folder, path));
        Ok(below.filter(|path| !path.split('/').any(|part| part.starts_with('.'))).cloned().collect())
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.get(path).map(|bytes| bytes.as_ref().to_vec()))
    }
}

/// The files of a folder by name, but for those of folders in it.
fn beside<'f, B>(files: &'f BTreeMap<String, B>, folder: &str) -> impl Iterator<Item = (&'f str, &'f B)> {
    let below = files.range(folder.to_owned()..);
    let below = below.map_while(move |(path, bytes)| Some((path.strip_prefix(folder)?, bytes)));
    below.filter(|(name, _)| !name.contains('/'))
}
