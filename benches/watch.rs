//! A watch on 100 clusters: from an edit of a spec to the last byte written, and what it costs to wait.
//!
//! The time is taken from outside: the edit's write, and the time of the last file that changed. The debounce of 500 ms is
//! taken off. A floor is measured in the same run: one locked plan of the same checkout by a process of its own, which reads,
//! renders and compares the same and writes nothing.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a benchmark"
)]

#[path = "support/checkout.rs"]
mod support;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Quiet after the last event of a file.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// Ends with its value.
struct WatchProcess(Child);

impl Drop for WatchProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl WatchProcess {
    /// Seconds of CPU so far, at 100 ticks a second.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u32>().unwrap();
        f64::from(ticks(11) + ticks(12)) / 100.0
    }

    fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

/// The time of the last file that changed below `rendered/`.
fn last_change(folder: &Path) -> SystemTime {
    let mut last = SystemTime::UNIX_EPOCH;
    for cluster in std::fs::read_dir(folder.join("rendered")).unwrap() {
        for file in std::fs::read_dir(cluster.unwrap().path()).unwrap() {
            let found = file.unwrap().metadata().unwrap();
            // renaming into place changes this time
            last = last.max(
                SystemTime::UNIX_EPOCH
                    + Duration::new(found.ctime().cast_unsigned(), u32::try_from(found.ctime_nsec()).unwrap()),
            );
        }
    }
    last
}

/// States another gateway for a cluster, which all others render, and gives the time to the last file in place.
fn edit(folder: &Path, text: &str, round: usize) -> Duration {
    let stated = format!("  gateways: [{{address: 198.51.100.{}, port: 15443}}]\n", round + 1);
    let edited = text.replacen("c0042\"}\n", &format!("c0042\"}}\n{stated}"), 1);
    assert_ne!(edited, text);
    let begin = SystemTime::now();
    std::fs::write(folder.join("specs/mesh.yaml"), edited).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    last_change(folder).duration_since(begin).unwrap().saturating_sub(DEBOUNCE)
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let count: usize = std::env::var("CLUSTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let folder = tempfile::tempdir().unwrap();
    support::checkout(folder.path(), count);
    let engine = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.arg("-C").arg(folder.path()).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(engine(&["apply"]).status().unwrap().success());
    let floor = (0..5).map(|_| {
        let begin = Instant::now();
        assert!(engine(&["plan", "--locked"]).status().unwrap().success());
        begin.elapsed()
    });
    let floor = floor.min().unwrap().as_secs_f64();
    let watch = WatchProcess(engine(&["watch"]).spawn().unwrap());
    std::thread::sleep(Duration::from_secs(5));
    println!("{count} clusters: a watch before any edit: {:.1} MiB resident", watch.resident());
    let text = std::fs::read_to_string(folder.path().join("specs/mesh.yaml")).unwrap();
    let mut times: Vec<Duration> = (0..9).map(|round| edit(folder.path(), &text, round)).collect();
    times.sort_unstable();
    let middle = times[times.len() / 2].as_secs_f64();
    println!(
        "{count} clusters: from an edit to the last byte, less the debounce: {:.0} ms (target ≤ 150 ms), {:.2} × a locked plan ({:.0} ms)",
        middle * 1e3,
        middle / floor,
        floor * 1e3
    );
    std::thread::sleep(Duration::from_secs(5));
    let (before, begin) = (watch.cpu(), Instant::now());
    std::thread::sleep(Duration::from_mins(1));
    let share = (watch.cpu() - before) / begin.elapsed().as_secs_f64() * 100.0;
    println!(
        "{count} clusters: idle watch: {share:.2} % of a core (target ≤ 0.1 %), {:.1} MiB resident (target ≤ 30 MiB)",
        watch.resident()
    );
}
