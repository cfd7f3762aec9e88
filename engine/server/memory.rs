//! Whether the container is about to run out of memory: then nothing new is begun, since the kernel would end everything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// How often the kernel is asked.
const EVERY: Duration = Duration::from_millis(200);
/// Per cent of its limit above which a container begins nothing new.
pub const FULL: u64 = 90;

/// Whether memory is short. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<AtomicBool>);

impl Memory {
    /// Whether the container has less than a tenth of its memory left.
    pub fn is_short(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Follows the process's own cgroup for as long as it lives. Where there is none with a limit, memory is never short.
    pub(super) fn watched() -> Self {
        let memory = Self::default();
        if let Some(group) = own_group() {
            tokio::spawn(memory.clone().watch_group(group));
        }
        memory
    }

    async fn watch_group(self, group: Group) {
        while let Some((used, limit)) = group.read() {
            let is_short = used.saturating_mul(100) >= limit.saturating_mul(FULL);
            if self.0.swap(is_short, Ordering::Relaxed) != is_short {
                if is_short {
                    tracing::warn!(used, limit, "memory is short: nothing new is answered until there is more");
                } else {
                    tracing::info!(used, limit, "memory is no longer short");
                }
            }
            sleep(EVERY).await;
        }
    }
}

/// The files of a cgroup: version 2, or the memory controller of version 1.
#[derive(Debug)]
struct Group {
    used: PathBuf,
    limit: PathBuf,
    stat: PathBuf,
    /// What the kernel gives back by itself, as `stat` calls it.
    cache: &'static str,
}

impl Group {
    /// Bytes that are used and cannot be given back, and how many there may be; `None` without a limit.
    fn read(&self) -> Option<(u64, u64)> {
        let number = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        // `max` of version 2 is no number; version 1 has a number that no machine has
        let limit = number(&self.limit).filter(|limit| *limit < 1 << 60)?;
        let stat = std::fs::read_to_string(&self.stat).unwrap_or_default();
        let cache = stat.lines().find_map(|line| line.strip_prefix(self.cache)?.trim().parse::<u64>().ok());
        Some((number(&self.used)?.saturating_sub(cache.unwrap_or(0)), limit))
    }
}

/// In a container the process's own group is mounted at the root.
fn own_group() -> Option<Group> {
    let group = |folder: &str, used: &str, limit: &str, cache| {
        let folder = Path::new(folder);
        Group { used: folder.join(used), limit: folder.join(limit), stat: folder.join("memory.stat"), cache }
    };
    let second = group("/sys/fs/cgroup", "memory.current", "memory.max", "inactive_file ");
    let first =
        group("/sys/fs/cgroup/memory", "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file ");
    [second, first].into_iter().find(|group| group.read().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_says_what_it_uses_and_may_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let group = Group {
            used: file("memory.current"),
            limit: file("memory.max"),
            stat: file("memory.stat"),
            cache: "inactive_file ",
        };
        assert_eq!(group.read(), None, "no such group");
        std::fs::write(file("memory.current"), "240\n").unwrap();
        std::fs::write(file("memory.stat"), "anon 100\ninactive_file 40\nactive_file 7\n").unwrap();
        std::fs::write(file("memory.max"), "max\n").unwrap();
        assert_eq!(group.read(), None, "no limit");
        std::fs::write(file("memory.max"), "256\n").unwrap();
        assert_eq!(group.read(), Some((200, 256)));
    }

    #[tokio::test]
    async fn memory_is_short_from_nine_tenths_on_until_there_is_more() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let (used, limit, stat) = (file("used"), file("limit"), file("stat"));
        std::fs::write(&limit, "1000").unwrap();
        std::fs::write(&used, "899").unwrap();
        let memory = Memory::default();
        let group = Group { used: used.clone(), limit, stat, cache: "x " };
        let following = tokio::spawn(memory.clone().watch_group(group));
        for (bytes, short) in [("900", true), ("899", false)] {
            // at once, or a reader could find it empty
            std::fs::write(file("next"), bytes).unwrap();
            std::fs::rename(file("next"), &used).unwrap();
            while memory.is_short() != short {
                sleep(Duration::from_millis(5)).await;
            }
        }
        following.abort();
    }
}
