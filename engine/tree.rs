//! The tree of rendered files, as the pure stages see it: folders and bytes, wherever they lie.

use std::collections::BTreeMap;

/// A tree that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TreeError(pub String);

/// Files by folder. Reading one cluster's folder at a time keeps a plan of many clusters small.
pub trait Tree: Sync {
    /// Names of the folders below `rendered/`.
    fn clusters(&self) -> Result<Vec<String>, TreeError>;

    /// The YAML files of one cluster's folder by name; a missing folder is empty.
    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError>;

    /// One file of the checkout by its path.
    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError>;
}

/// A tree in memory: path below the checkout → bytes.
impl Tree for BTreeMap<String, Vec<u8>> {
    fn clusters(&self) -> Result<Vec<String>, TreeError> {
        let mut names: Vec<String> = self
            .keys()
            .filter_map(|path| path.strip_prefix("rendered/")?.split_once('/'))
            .map(|(cluster, _)| cluster.to_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    fn cluster_files(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u8>>, TreeError> {
        let prefix = format!("rendered/{cluster}/");
        let files = self.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        Ok(files
            .filter_map(|(path, bytes)| Some((path.strip_prefix(&prefix)?.to_owned(), bytes.clone())))
            .filter(|(name, _)| !name.contains('/'))
            .collect())
    }

    fn file(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.get(path).cloned())
    }
}
