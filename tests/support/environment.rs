//! A sealed environment for the `engine` binary: nothing of the machine or of the person who runs the tests comes in.
//!
//! A temporary folder holds a home, a folder for temporaries and a folder of programs; no variable is inherited; time stands
//! still, unless a test needs the real one. What was printed stays on the stream it was printed to, and is shown with the
//! names of this run (paths, ports, the version) replaced by words.
//!
//! Nothing is seeded: all that the engine draws at random is keys and the names of temporaries, and neither is to be foretold.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// The binary. No other file of the tests names it, so that no test runs it unsealed.
pub(crate) const ENGINE: &str = env!("CARGO_BIN_EXE_engine");
/// When it is: the certificates of `fixtures/` are valid then.
pub(crate) const NOW: &str = "2026-12-01T12:00:00Z";
/// How long a process may take on a busy machine to print what it begins with.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the binary runs.
pub(crate) struct TestEnvironment {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, OsString>,
}

impl TestEnvironment {
    /// An environment whose time stands still at [`NOW`], with git as the only program.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["home", "tmp", "bin"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let home = root.join("home");
        let mut environment = Self { folder, variables: BTreeMap::new() };
        for (name, value) in [
            ("HOME", home.clone()),
            ("XDG_CONFIG_HOME", home.join(".config")),
            ("XDG_CACHE_HOME", home.join(".cache")),
            ("XDG_DATA_HOME", home.join(".local/share")),
            ("XDG_STATE_HOME", home.join(".local/state")),
            ("TMPDIR", root.join("tmp")),
            ("PATH", root.join("bin")),
            ("GIT_CONFIG_GLOBAL", home.join(".gitconfig")),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_ATTR_NOSYSTEM", "1".into()),
            ("GIT_TERMINAL_PROMPT", "0".into()),
            ("LANG", "C.UTF-8".into()),
            ("TZ", "UTC".into()),
            ("ISTHMUS_TEST_NOW", NOW.into()),
        ] {
            environment.set(name, value);
        }
        // a machine without git skips what needs it, or fails there
        if let Some(git) = find("git") {
            environment.link("git", &git);
        }
        environment
    }

    /// The real time: for what is judged by the clocks of others, such as tokens and certificates made in the test.
    pub(crate) fn real_time(mut self) -> Self {
        self.variables.remove("ISTHMUS_TEST_NOW");
        self
    }

    /// All programs of the machine behind its own: for scripts, and for hooks that would show that they were run.
    pub(crate) fn with_tools(mut self) -> Self {
        let own = self.root().join("bin");
        let others = std::env::var_os("PATH").unwrap();
        let all = std::iter::once(own).chain(std::env::split_paths(&others));
        self.set("PATH", std::env::join_paths(all).unwrap());
        self
    }

    /// One variable more.
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// Puts a program into the folder of programs.
    pub(crate) fn link(&self, name: &str, program: &Path) {
        std::os::unix::fs::symlink(program, self.path("bin").join(name)).unwrap();
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// A path below the environment's own folder.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// The engine, sealed.
    pub(crate) fn command(&self) -> Command {
        self.program(ENGINE)
    }

    /// Another program, sealed alike. It is looked for as a person's shell would, not in the environment's own `PATH`.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        let found = program.to_str().and_then(find);
        let mut command = Command::new(found.as_deref().map_or(program, Path::as_os_str));
        command.env_clear().envs(&self.variables).current_dir(self.path("home")).stdin(Stdio::null());
        command
    }

    /// The engine behind a wrapper such as strace, both sealed.
    pub(crate) fn wrapped(&self, wrapper: &[&str]) -> Command {
        let (program, arguments) = wrapper.split_first().unwrap();
        let mut command = self.program(program);
        command.args(arguments).arg(ENGINE);
        command
    }

    /// Runs the engine.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.end(self.command().args(arguments))
    }

    /// Runs the engine on the checkout in a folder.
    #[track_caller]
    pub(crate) fn run_on(&self, checkout: &Path, arguments: &[&str]) -> Ran {
        self.end(self.command().arg("-C").arg(checkout).args(arguments))
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn end(&self, command: &mut Command) -> Ran {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Ran::new(output.status, output.stdout, output.stderr, self.root())
    }

    /// Runs git as a person whose name and time are always the same; what it printed, without the last end of line.
    #[track_caller]
    pub(crate) fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let mut git = self.program("git");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "a").env(format!("GIT_{who}_EMAIL"), "a@example.com");
            git.env(format!("GIT_{who}_DATE"), NOW);
        }
        let ran = self.end(git.current_dir(folder).args(arguments));
        assert_eq!(ran.code, 0, "git {arguments:?}: {ran}");
        ran.stdout.trim_end().to_owned()
    }

    /// Starts a command and reads what it prints as it comes.
    #[track_caller]
    pub(crate) fn spawn(&self, command: &mut Command) -> RunningProcess {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = StreamReader::read(child.stdout.take().unwrap());
        let stderr = StreamReader::read(child.stderr.take().unwrap());
        RunningProcess { child, stdout, stderr, root: self.root() }
    }
}

/// A program of the machine, by its name.
fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return None;
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// How a command ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// −1 for a signal.
    pub(crate) code: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Data.
    pub(crate) stdout: String,
    /// Messages.
    pub(crate) stderr: String,
    root: PathBuf,
}

impl Ran {
    fn new(status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>, root: PathBuf) -> Self {
        let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Self { code: status.code().unwrap_or(-1), signal: status.signal(), stdout, stderr, root }
    }

    /// What it printed, when it ended well.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }

    /// Whether a word was printed, on either stream.
    pub(crate) fn says(&self, word: &str) -> bool {
        self.stdout.contains(word) || self.stderr.contains(word)
    }
}

/// All of it as one text, the same on every machine: for snapshots, and for what a failed assertion shows.
impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            Some(signal) => writeln!(f, "signal: {signal}")?,
            None => writeln!(f, "exit code: {}", self.code)?,
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let text = normal(text, &self.root);
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "[no end of line]\n" };
            write!(f, "--- {name} ---\n{text}{end}")?;
        }
        Ok(())
    }
}

/// A text without what differs from run to run.
fn normal(text: &str, root: &Path) -> String {
    let text = text.replace(root.to_str().unwrap(), "[ROOT]");
    let text = after(&text, &["127.0.0.1:", "localhost:", "[::1]:"], "[PORT]");
    let version = env!("CARGO_PKG_VERSION");
    let mut normal = String::new();
    let mut rest = text.as_str();
    while let Some((before, behind)) = rest.split_once(version) {
        // not the middle of an address or of another version
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        let whole = !before.ends_with(is_part) && !behind.starts_with(|c: char| c.is_ascii_digit());
        normal.push_str(before);
        normal.push_str(if whole { "[VERSION]" } else { version });
        rest = behind;
    }
    normal + rest
}

/// Puts a word in the place of the number that follows any of these.
fn after(text: &str, marks: &[&str], word: &str) -> String {
    let mut text = text.to_owned();
    for mark in marks {
        let mut parts = text.split(mark);
        let mut made = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let behind = part.trim_start_matches(|c: char| c.is_ascii_digit());
            made.push_str(mark);
            made.push_str(if behind.len() < part.len() { word } else { "" });
            made.push_str(behind);
        }
        text = made;
    }
    text
}

/// One stream of a running process, read as it comes, so that the process never waits for us.
struct StreamReader {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl StreamReader {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = text.clone();
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).append(&mut line);
            }
        });
        Self { text, reader: Some(reader) }
    }

    /// What was printed so far, in whole lines.
    fn so_far(&self) -> Vec<u8> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn all(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.so_far()
    }
}

/// A process that continues until it is told to end, or until its value is gone.
pub(crate) struct RunningProcess {
    child: Child,
    stdout: StreamReader,
    stderr: StreamReader,
    root: PathBuf,
}

impl RunningProcess {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed to stdout so far, in whole lines.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.stdout.so_far()).unwrap()
    }

    /// The same of stderr.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.stderr.so_far()).unwrap()
    }

    /// Waits for a line of stdout, counted from zero.
    #[track_caller]
    pub(crate) fn line(&self, number: usize) -> String {
        let begin = Instant::now();
        loop {
            if let Some(line) = self.stdout().lines().nth(number) {
                return line.to_owned();
            }
            assert!(begin.elapsed() < PATIENCE, "line {number} of stdout did not come: {}", self.stderr());
            sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end, as a service manager does.
    pub(crate) fn terminate(&self) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        // it may have ended by itself
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Waits until it has ended by itself.
    pub(crate) fn join(&mut self) {
        drop(self.child.wait());
    }

    /// Waits for its end and all that it printed.
    pub(crate) fn wait(mut self) -> Ran {
        let status = self.child.wait().unwrap();
        let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
        Ran::new(status, stdout, stderr, self.root.clone())
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
