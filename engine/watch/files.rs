//! The checkout as something that changes: who wakes us, and what differs from the last scan.
//!
//! Events are hints alone. They are taken from the folders that a run reads, from the checkout's parent (its last name may
//! be a link that is swapped), and from git's own folder for `index.lock`. Where events cannot be had, scans come more often.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use notify::event::{Event, EventKind, Flag};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::checkout::{Checkout, CheckoutError, Stamps};
use crate::model::layout::{KEYS, LOCK, RENDERED, SPECS, TEMPLATES, VALUES};
use crate::watch::event::{EventSender, WatchEvent};

/// Folders that a run reads or writes.
pub(super) const FOLDERS: [&str; 6] = [SPECS, TEMPLATES, KEYS, LOCK, RENDERED, VALUES];
/// Folders that a run writes.
pub(super) const OUTPUT: [&str; 3] = [LOCK, RENDERED, VALUES];
/// Between two scans where no events come.
const BLIND_SCAN: Duration = Duration::from_secs(2);
/// Most paths that are remembered between two scans, to name them.
const MOST_NAMED: usize = 64;

pub(super) struct Surroundings {
    dir: PathBuf,
    sender: EventSender,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<(PathBuf, bool)>,
    stamps: BTreeMap<String, Stamps>,
    /// Folders with events since the last scan; `None` when events were lost.
    touched: Option<BTreeSet<String>>,
    named: BTreeSet<String>,
    /// Other files that specs name, and folders of `file://` endpoints.
    others: BTreeSet<String>,
    /// Why there are no events, said once.
    blind: Option<String>,
}

impl Surroundings {
    pub(super) fn new(dir: &Path, sender: EventSender) -> Self {
        let listener = sender.clone();
        let made = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let event = match event {
                Ok(event) if event.need_rescan() || event.flag() == Some(Flag::Rescan) => WatchEvent::Lost,
                Ok(event) if matches!(event.kind, EventKind::Access(access) if !access_writes(access)) => return,
                Ok(event) => WatchEvent::Files(event.paths),
                Err(_) => WatchEvent::Lost,
            };
            listener.send(event);
        });
        let (notifier, blind) = match made {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (watched, stamps) = (BTreeSet::new(), BTreeMap::new());
        let (named, others) = (BTreeSet::new(), BTreeSet::new());
        Self { dir: dir.to_owned(), sender, watcher: notifier, watched, stamps, touched: None, named, others, blind }
    }

    /// Follows the folders as they are now. `others` are paths below the checkout that a run reads as well, `git` is git's
    /// own folder. Gives the message for a person when events cannot be had.
    pub(super) fn start(
        &mut self,
        checkout: &Checkout,
        others: BTreeSet<String>,
        git: Option<&Path>,
    ) -> Option<String> {
        if checkout.is_remote() {
            self.watcher = None;
            self.blind.get_or_insert_with(|| "the file system tells no events".to_owned());
        }
        for other in &others {
            // what changes from here on differs from what is read of it now
            if !self.stamps.contains_key(other)
                && let Ok(now) = stamps(checkout, other)
            {
                self.stamps.insert(other.clone(), now);
            }
        }
        self.others = others;
        let mut wanted = BTreeSet::new();
        let root = std::fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        wanted.insert((root.clone(), false));
        let named = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        wanted.extend(named.parent().map(|parent| (parent.to_owned(), false)));
        for folder in FOLDERS {
            wanted.insert((root.join(folder), true));
        }
        for other in &self.others {
            let path = root.join(other);
            let is_folder = path.is_dir();
            let folder = if is_folder { Some(path.as_path()) } else { path.parent() };
            wanted.extend(folder.map(|folder| (folder.to_owned(), is_folder)));
        }
        wanted.extend(git.map(|git| (git.to_owned(), false)));
        let Some(watcher) = &mut self.watcher else { return self.take_message() };
        for (gone, _) in self.watched.difference(&wanted) {
            // it may have gone by itself
            drop(watcher.unwatch(gone));
        }
        self.watched.retain(|watch| wanted.contains(watch));
        for (path, below) in wanted {
            if self.watched.contains(&(path.clone(), below)) && path.exists() {
                continue;
            }
            let mode = if below { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            match watcher.watch(&path, mode) {
                Ok(()) => {
                    self.watched.insert((path, below));
                }
                Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    self.blind =
                        Some("the limit of watched folders is reached; raise fs.inotify.max_user_watches".to_owned());
                }
                // a folder that is not there yet: the root tells when it comes
                Err(_) => {
                    self.watched.remove(&(path, below));
                }
            }
        }
        self.take_message()
    }

    fn take_message(&self) -> Option<String> {
        self.blind.as_ref().map(|why| format!("{why}; looking at the files every {} s instead", BLIND_SCAN.as_secs()))
    }

    /// How often to scan without events.
    pub(super) fn scan_every(&self, usual: Duration, checkout: &Checkout) -> Duration {
        if self.blind.is_some() || checkout.is_remote() { BLIND_SCAN.min(usual) } else { usual }
    }

    /// Sorts paths of events. Gives whether any of them matters, and whether git's index lock is among them.
    pub(super) fn sort(&mut self, paths: &[PathBuf]) -> Sorted {
        let mut sorted = Sorted::default();
        let roots = [std::fs::canonicalize(&self.dir).ok(), std::path::absolute(&self.dir).ok()];
        for path in paths {
            if path.file_name() == Some(OsStr::new("index.lock")) {
                sorted.index_lock = Some(path.clone());
                continue;
            }
            if roots.iter().flatten().any(|root| root == path) {
                // the checkout itself came, went or was swapped
                self.touched = None;
                sorted.matters = true;
                continue;
            }
            let Some(below) = roots.iter().flatten().find_map(|root| path.strip_prefix(root).ok()) else { continue };
            let Some(Component::Normal(top)) = below.components().next() else { continue };
            let (top, below) = (top.to_string_lossy(), below.to_string_lossy());
            let other = self.others.iter().find(|other| below.starts_with(other.as_str()));
            if FOLDERS.contains(&top.as_ref()) {
                self.touch(&top);
            } else if let Some(other) = other.cloned() {
                self.touch(&other);
            } else {
                continue;
            }
            sorted.matters = true;
            if self.named.len() < MOST_NAMED {
                self.named.insert(below.into_owned());
            }
        }
        sorted
    }

    fn touch(&mut self, folder: &str) {
        if let Some(touched) = &mut self.touched {
            touched.insert(folder.to_owned());
        }
    }

    /// Events were lost: the next scan is of everything.
    pub(super) fn lost(&mut self) {
        self.touched = None;
    }

    /// What differs from the last scan: files that events named, else folders.
    pub(super) fn scan(&mut self, checkout: &Checkout) -> Result<Vec<String>, CheckoutError> {
        // a scan that no event asked for is of everything: changes may have been missed
        let touched = self.touched.take().filter(|touched| !touched.is_empty());
        let named = std::mem::take(&mut self.named);
        let all = FOLDERS.iter().map(|folder| (*folder).to_owned()).chain(self.others.iter().cloned());
        let places: Vec<String> =
            all.filter(|place| touched.as_ref().is_none_or(|touched| touched.contains(place))).collect();
        let mut changed = Vec::new();
        for place in places {
            let now = stamps(checkout, &place)?;
            let before = self.stamps.insert(place.clone(), now);
            let (Some(before), Some(now)) = (before, self.stamps.get(&place)) else { continue };
            let differing = before.keys().chain(now.keys()).filter(|folder| before.get(*folder) != now.get(*folder));
            let differing: BTreeSet<&String> = differing.collect();
            for folder in differing {
                let within = |path: &&String| Path::new(path).parent() == Some(Path::new(folder)) || *path == folder;
                // editors make and unmake files of their own beside
                let is_yaml = |path: &str| matches!(path.rsplit_once('.'), Some((_, "yaml" | "yml")));
                let shown = |path: &&String| is_yaml(path) || self.dir.join(path).exists();
                let files: Vec<String> = named.iter().filter(within).filter(shown).cloned().collect();
                if files.is_empty() { changed.push(folder.clone()) } else { changed.extend(files) }
            }
        }
        self.touched = Some(BTreeSet::new());
        Ok(changed)
    }

    /// Takes what was just written as looked at, so that it is not found as a change.
    pub(super) fn wrote(&mut self, checkout: &Checkout) -> Result<(), CheckoutError> {
        for folder in OUTPUT {
            self.stamps.insert(folder.to_owned(), checkout.stamps(folder)?);
        }
        Ok(())
    }

    /// The stamp of one of the other places, for a mark of how a cluster is asked.
    pub(super) fn stamp(&self, place: &str) -> u64 {
        self.stamps
            .get(place)
            .map(|stamps| stamps.values().fold(0_u64, |all, one| all.rotate_left(1) ^ one))
            .unwrap_or_default()
    }

    /// Where to send events.
    pub(super) fn sender(&self) -> &EventSender {
        &self.sender
    }
}

/// What events are about.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Something that a run reads or writes.
    pub(super) matters: bool,
    /// git's index lock came or went.
    pub(super) index_lock: Option<PathBuf>,
}

/// The stamps of a folder with all below it; of a file, those of its folder alone.
fn stamps(checkout: &Checkout, place: &str) -> Result<Stamps, CheckoutError> {
    match checkout.stamps(place) {
        Err(CheckoutError::Kind { .. }) => {
            let folder = place.rsplit_once('/').map_or("", |(folder, _)| folder);
            Ok(checkout.stamps(folder)?.into_iter().filter(|(path, _)| path == folder).collect())
        }
        found => found,
    }
}

/// A closed file that was open for writing is a change; opening and reading are none.
fn access_writes(access: notify::event::AccessKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    matches!(access, AccessKind::Close(AccessMode::Write))
}
