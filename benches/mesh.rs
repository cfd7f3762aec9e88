//! Whole-process figures of the engine on large meshes, as ratios where there is a peer to compare with.
//!
//! `cargo bench --bench mesh` makes a checkout of 100 clusters, full mesh, known from `file://` metadata, and measures a cold
//! apply, a locked plan that changes nothing, a plan against a commit of git, `kubectl kustomize` of the same secrets, and the start
//! of `engine --help`.
//! `ISTHMUS_BENCH_STRESS=1` adds 1,000 clusters: a million links, some 4 GB of files, several minutes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "support/checkout.rs"]
mod support;
use support::checkout;

/// Time and peak memory (KiB) of one run; panics unless it ends with 0.
fn run(folder: &Path, arguments: &[&str]) -> Duration {
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_engine"))
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "engine {arguments:?} ended with {status}");
    start.elapsed()
}

/// Peak memory of a run in MiB, by GNU time's successor in the kernel: the child's own `VmHWM` is gone when it ends, so
/// `getrusage` of the children is read in a shell.
fn peak_memory(folder: &Path, arguments: &[&str]) -> Option<u64> {
    let script = "import resource,subprocess,sys\nsubprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)\nprint(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let output = Command::new("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_engine"), "-C"])
        .arg(folder)
        .args(arguments)
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse::<u64>().ok().map(|kib| kib / 1024)
}

fn best(times: usize, mut work: impl FnMut() -> Duration) -> Duration {
    (0..times).map(|_| work()).min().unwrap_or_default()
}

fn row(work: &str, time: Duration, target: &str) {
    println!("{work:<58} {:>9.3} s   target {target}", time.as_secs_f64());
}

/// Makes a repository of the checkout and plans against its commit, as a pull request's job does.
fn base(folder: &Path) -> Duration {
    for arguments in [
        &["init", "-q"][..],
        &["add", "-A"],
        &["-c", "user.name=bench", "-c", "user.email=bench@example.com", "commit", "-qm", "joined"],
    ] {
        let status = Command::new("git").arg("-C").arg(folder).args(arguments).status().unwrap();
        assert!(status.success(), "git {arguments:?} ended with {status}");
    }
    let time = best(5, || run(folder, &["plan", "--base", "HEAD"]));
    row("100 clusters: `plan --base` that changes nothing", time, "");
    time
}

fn hundred() {
    let folder = tempfile::tempdir().unwrap();
    checkout(folder.path(), 100);
    let both = run(folder.path(), &["apply"]);
    row("100 clusters, 9,900 links: cold apply", both, "≤ 1.5 s");
    let locked = best(5, || run(folder.path(), &["plan", "--locked"]));
    row("100 clusters: locked plan that changes nothing", locked, "≤ 0.2 s");
    let one = best(5, || run(folder.path(), &["plan", "--locked", "--cluster", "c0042"]));
    row("100 clusters: locked plan of one cluster", one, "");
    let verify = best(5, || run(folder.path(), &["verify"]));
    row("100 clusters: verify, all of them judged", verify, "≤ 1 s");
    let ratio = base(folder.path()).as_secs_f64() / locked.as_secs_f64();
    println!("100 clusters: `plan --base` against the locked plan: {ratio:.2} × (target ≤ 2)");
    let objects = 100 * 99;
    let start = Instant::now();
    let mut kustomized = 0;
    for number in 0..3 {
        let path = folder.path().join(format!("rendered/c{number:04}"));
        let status =
            Command::new("kubectl").arg("kustomize").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).status();
        kustomized += usize::from(status.is_ok_and(|status| status.success())) * 99;
    }
    if kustomized == 0 {
        println!("kubectl is not here, so nothing is compared with `kubectl kustomize`");
        return;
    }
    let kustomize = start.elapsed().as_secs_f64() / f64::from(u32::try_from(kustomized).unwrap());
    let ours = both.as_secs_f64() / f64::from(objects);
    println!(
        "per secret: engine apply {:.1} µs, kubectl kustomize {:.1} µs: {:.1} times faster (target: faster)",
        ours * 1e6,
        kustomize * 1e6,
        kustomize / ours
    );
}

fn stress() {
    let folder = tempfile::tempdir().unwrap();
    checkout(folder.path(), 1000);
    row("1,000 clusters, 999,000 links: cold apply", run(folder.path(), &["apply"]), "none");
    let one = best(3, || run(folder.path(), &["plan", "--locked", "--cluster", "c0042"]));
    row("1,000 clusters: locked plan of one cluster", one, "≤ 0.3 s");
    row("1,000 clusters: locked plan of the whole mesh", run(folder.path(), &["plan", "--locked"]), "≤ 60 s");
    if let Some(memory) = peak_memory(folder.path(), &["plan", "--locked"]) {
        println!("1,000 clusters: locked plan of the whole mesh takes {memory} MiB (target ≤ 1,500)");
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let help = best(20, || run(folder.path(), &["--help"]));
    row("start to end of `engine --help`", help, "first byte ≤ 0.010 s");
    hundred();
    if std::env::var_os("ISTHMUS_BENCH_STRESS").is_some() {
        stress();
    }
}
