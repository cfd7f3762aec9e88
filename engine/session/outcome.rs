//! What a run would change, as two runs are compared by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::lock::Stage;
use crate::model::trust::Verdict;
use crate::pipeline::plan::Action;
use crate::pipeline::{Run, Stop};
use crate::types::name::Digest;

/// What a run would change: its trust changes, its links that move, and the files that it would write or delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    /// `NAME@DIGEST` → what becomes of it.
    trust_changes: BTreeMap<String, TrustVerdict>,
    /// `READER/PEER` → from which stage to which; none stands for no link.
    moves: BTreeMap<String, (Option<String>, Option<String>)>,
    /// Path → digest of the new content; none where the file is deleted. In a file of the lock, times at which links began to
    /// wait do not count: they are those of the run that writes.
    files: BTreeMap<String, Option<Digest>>,
}

/// What becomes of a trust change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum TrustVerdict {
    HeldBack,
    Approved,
    Refused,
}

/// Something in which two outcomes differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A trust change, as `NAME@DIGEST`.
    Trust(String),
    /// How a link moves, as `READER/PEER`.
    Move(String),
    /// What a file becomes, by its path.
    File(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trust(change) => write!(f, "trust change {change}"),
            Self::Move(link) => write!(f, "link {link}"),
            Self::File(path) => f.write_str(path),
        }
    }
}

impl Outcome {
    /// That of a run that went as far as its plan.
    pub fn of(run: &Run) -> Result<Self, Stop> {
        let plan = &run.plan;
        let judged = |verdict| match verdict {
            Verdict::HeldBack | Verdict::Proposed => TrustVerdict::HeldBack,
            Verdict::Approved => TrustVerdict::Approved,
            Verdict::Refused => TrustVerdict::Refused,
        };
        let changes = plan.trust_changes.iter();
        let trust_changes = changes.map(|change| (change.name(), judged(change.verdict)));
        let stage = |stage: Option<Stage>| stage.map(|stage| stage.as_str().to_owned());
        let moves = plan.moves.iter().map(|(link, one)| (link.to_string(), (stage(one.from), stage(one.to))));

        let mut files = BTreeMap::new();
        for object in plan.steps.iter().flat_map(|step| &step.objects) {
            let digest = (object.action != Action::Delete).then_some(object.digest);
            files.insert(object.path.clone(), digest);
        }
        files.extend(plan.extra.iter().map(|file| (file.path.clone(), file.digest)));
        if !plan.lock.is_empty() {
            let timeless = timeless_lock(run)?;
            files.extend(plan.lock.iter().map(|file| (file.path.clone(), timeless.get(&file.path).copied())));
        }
        Ok(Self { trust_changes: trust_changes.collect(), moves: moves.collect(), files })
    }

    /// Its digest, by which an edit by hand is found.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// In what another one differs: trust changes, then links, then files.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        fn differing<'a, T: PartialEq>(
            one: &'a BTreeMap<String, T>,
            other: &'a BTreeMap<String, T>,
        ) -> BTreeSet<&'a String> {
            one.keys().chain(other.keys()).filter(|key| one.get(*key) != other.get(*key)).collect()
        }
        let trust = differing(&self.trust_changes, &other.trust_changes).into_iter().cloned().map(Difference::Trust);
        let moves = differing(&self.moves, &other.moves).into_iter().cloned().map(Difference::Move);
        let files = differing(&self.files, &other.files).into_iter().cloned().map(Difference::File);
        trust.chain(moves).chain(files).collect()
    }
}

/// Digests of the lock's files as they will be, without the times at which links began to wait.
fn timeless_lock(run: &Run) -> Result<BTreeMap<String, Digest>, Stop> {
    let mut lock = run.decided.advanced.lock.clone();
    for link in lock.links.values_mut().flat_map(BTreeMap::values_mut) {
        link.since = None;
    }
    let files = lock.to_files()?;
    Ok(files.into_iter().map(|(path, text)| (path, Digest::of(text.as_bytes()))).collect())
}
