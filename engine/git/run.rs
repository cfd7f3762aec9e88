//! One command of git.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::git::error::GitError;

/// Longest run of a command that stays on this machine.
const LOCAL: Duration = Duration::from_mins(1);
/// Longest run of a command that talks to a remote.
const REMOTE: Duration = Duration::from_mins(2);
/// Most bytes that are taken from a command.
const MOST: usize = 512 << 20;
/// Most bytes of complaints.
const MOST_ERRORS: usize = 64 << 10;
/// Most characters of complaints that are shown.
const MOST_SHOWN: usize = 600;

/// What a command does, which decides what it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitCommandKind {
    /// Reads; takes no lock. The user's own configuration is read, for `safe.directory` is believed from there alone.
    Read,
    /// Writes objects, the index or references.
    Write,
    /// Writes a commit that is signed: with an agent of the user's, or without being asked for a passphrase.
    Sign,
    /// Talks to a remote.
    Remote,
}

/// A command that is being put together.
pub(super) struct Git {
    command: Command,
    kind: GitCommandKind,
    action: &'static str,
    input: Vec<u8>,
}

/// What a command said.
#[derive(Debug)]
pub(super) struct GitOutput {
    pub(super) ok: bool,
    pub(super) output: Vec<u8>,
    pub(super) errors: String,
}

impl GitOutput {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// The names in an output parted by NUL.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let parts = self.output.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        parts.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    pub(super) fn failed(&self, action: &'static str) -> GitError {
        GitError::Failed { action, stderr: shown(&self.errors) }
    }
}

/// A command in a folder. `action` says in an error what was being done.
pub(super) fn git(folder: &Path, kind: GitCommandKind, action: &'static str) -> Git {
    let mut command = Command::new("git");
    // a group of its own, so that it can be ended with its children
    command
        .process_group(0)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let keep = |command: &mut Command, names: &[&str]| {
        for name in names {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    };
    keep(&mut command, &["PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "USER", "LOGNAME", "GIT_CONFIG_GLOBAL"]);
    command
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_PAGER", "cat")
        .env("GIT_EDITOR", "false")
        .env("GIT_SEQUENCE_EDITOR", "false")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_ALLOW_PROTOCOL", "https:ssh:file");
    if kind != GitCommandKind::Remote {
        // an object that is missing in a partial clone is an error, not a reason to talk to someone
        command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "");
    }
    if kind == GitCommandKind::Read {
        command.env("GIT_OPTIONAL_LOCKS", "0");
    }
    if kind == GitCommandKind::Sign {
        keep(&mut command, &["SSH_AUTH_SOCK", "GNUPGHOME", "GPG_AGENT_INFO"]);
        // no one is there to type a passphrase
        command.env("SSH_ASKPASS", "false").env("SSH_ASKPASS_REQUIRE", "force");
    }
    if kind == GitCommandKind::Remote {
        keep(&mut command, &["SSH_AUTH_SOCK", "GIT_ASKPASS", "SSH_ASKPASS", "SSL_CERT_FILE", "SSL_CERT_DIR"]);
        keep(&mut command, &["GIT_SSH_COMMAND", "GIT_SSH", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"]);
    }
    // said on the command line, these win over every file of configuration
    for setting in [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.untrackedCache=false",
        "core.autocrlf=false",
        "core.safecrlf=false",
        "core.quotePath=false",
        "core.alternateRefsCommand=",
        "core.pager=cat",
        "commit.gpgSign=false",
        "push.gpgSign=false",
        "log.showSignature=false",
        "submodule.recurse=false",
        "fetch.recurseSubmodules=false",
        "push.recurseSubmodules=no",
        "gc.auto=0",
        "maintenance.auto=false",
        "protocol.ext.allow=never",
        "advice.detachedHead=false",
        "uploadpack.packObjectsHook=",
    ] {
        command.arg("-c").arg(setting);
    }
    Git { command, kind, action, input: Vec::new() }
}

impl Git {
    pub(super) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// Runs it within its limits.
    pub(super) fn outcome(mut self) -> Result<GitOutput, GitError> {
        let limit = if self.kind == GitCommandKind::Remote { REMOTE } else { LOCAL };
        let mut child = self.command.spawn().map_err(GitError::Missing)?;
        let stdin = child.stdin.take();
        let input = std::mem::take(&mut self.input);
        let feeding = std::thread::spawn(move || {
            if let Some(mut stdin) = stdin {
                // git that ends early says why by itself
                drop(stdin.write_all(&input));
            }
        });
        let output = collect(child.stdout.take(), MOST);
        let errors = collect(child.stderr.take(), MOST_ERRORS);
        let ended = wait(&mut child, limit);
        let timed_out = || GitError::TimedOut { action: self.action, seconds: limit.as_secs() };
        let Some(ok) = ended else {
            return Err(timed_out());
        };
        drop(feeding.join());
        let output = output.join().unwrap_or_default();
        let errors = errors.join().unwrap_or_default();
        if output.len() > MOST {
            return Err(GitError::TooMuch { action: self.action, limit: MOST });
        }
        Ok(GitOutput { ok, output, errors: String::from_utf8_lossy(&errors).into_owned() })
    }

    /// Runs it; a failure of git's is an error.
    pub(super) fn done(self) -> Result<GitOutput, GitError> {
        let action = self.action;
        let result = self.outcome()?;
        if result.ok { Ok(result) } else { Err(result.failed(action)) }
    }
}

/// Reads all of a stream up to a limit and one byte; the rest is read and dropped, so that the writer can end.
fn collect<R: Read + Send + 'static>(stream: Option<R>, most: usize) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
            drop(stream.by_ref().take(limit).read_to_end(&mut bytes));
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        }
        bytes
    })
}

/// Waits for the end; ends the process after the limit.
fn wait(child: &mut Child, limit: Duration) -> Option<bool> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < end => {}
            Ok(None) | Err(_) => {
                // with all that it started, such as ssh; it may have ended by itself just now
                if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                    let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                drop(child.kill());
                drop(child.wait());
                return None;
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// What a command complained of, as it may be shown.
pub(super) fn git_stderr(output: &GitOutput) -> String {
    shown(&output.errors)
}

/// What git said, in few lines and without what comes before `@` in a URL.
fn shown(text: &str) -> String {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("hint:")).collect();
    let mut text = lines.join("; ");
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find("://")).map(|at| from + at + 3) {
        let rest = text.get(at..).unwrap_or_default();
        let end = rest.find(['/', ' ', '\'', '"']).unwrap_or(rest.len());
        if let Some(user) = rest.get(..end).and_then(|host| host.rfind('@')) {
            text.replace_range(at..=at + user, "");
        }
        from = at;
    }
    let short: String = text.chars().filter(|c| !c.is_control()).take(MOST_SHOWN).collect();
    if short.is_empty() { "nothing".to_owned() } else { short }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn passwords_are_not_shown() {
        let result = "fatal: unable to access 'https://user:s3cret@host.example/x.git/': no\nhint: x\n";
        assert_eq!(shown(result), "fatal: unable to access 'https://host.example/x.git/': no");
        assert_eq!(shown("ssh://git@host https://a:b@c d@e"), "ssh://host https://c d@e");
        assert_eq!(shown(""), "nothing");
    }
}
