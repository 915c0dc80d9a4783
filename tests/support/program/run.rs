//! Runs the program under test to its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary this suite was built with, or the one `TCPWATCH_BIN` names.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TCPWATCH_BIN").map_or_else(|| env!("CARGO_BIN_EXE_tcpwatch").into(), PathBuf::from)
}

/// `tcpwatch ARGS`, not started yet.
pub(crate) fn tcpwatch(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env_remove("RUST_LOG");
    command
}

/// What a program that ended has left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` when it died by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` to its end, which must come by itself; two minutes bound a broken program.
pub(crate) fn finish(command: &Command) -> Finished {
    finish_into(command, Stdio::piped())
}

/// As [`finish`], with its standard output going to `stdout`.
pub(crate) fn finish_into(command: &Command, stdout: impl Into<Stdio>) -> Finished {
    let mut bounded = Command::new("timeout");
    bounded
        .args(["-s", "KILL", "120"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped());
    let child = bounded.spawn().expect("timeout, from coreutils, starts");
    let output = child.wait_with_output().expect("its output");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

impl Finished {
    /// It ended with `code` and said one line on stderr that has `word`, and nothing on stdout.
    pub(crate) fn refuses(&self, code: i32, word: &str) {
        if let Err(how) = self.refused(code, word) {
            panic!("{how}");
        }
    }

    /// As [`Finished::refuses`]; else how not.
    pub(crate) fn refused(&self, code: i32, word: &str) -> Result<(), String> {
        if self.code != Some(code) {
            return Err(format!("the exit code is not {code}: {self:?}"));
        }
        match *self.stderr.lines().collect::<Vec<_>>() {
            [line] if line.contains(word) && self.stdout.is_empty() => Ok(()),
            [line] => Err(format!(
                "{word:?} is not in {line:?}, or stdout is not empty: {:?}",
                self.stdout
            )),
            _ => Err(format!("one line on stderr, no more, no less: {self:?}")),
        }
    }
}

/// `tcpwatch ARGS` as a user without any capability. The copy is one that such a user may read.
pub(crate) struct Unprivileged(tempfile::TempDir);

impl Unprivileged {
    /// Copies the binary to where everybody may read it.
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        // By a process of its own: what another test forks meanwhile would have the copy open for writing, and until it is gone
        // nobody could run it (ETXTBSY).
        let copied = finish(Command::new("cp").arg(binary()).arg(place.path().join("tcpwatch")));
        assert_eq!(copied.code, Some(0), "copying the binary: {copied:?}");
        Self(place)
    }

    /// The copy.
    pub(crate) fn binary(&self) -> PathBuf {
        self.0.path().join("tcpwatch")
    }

    /// The command; when the tests run as root, through setpriv.
    pub(crate) fn tcpwatch(&self, args: &[&str]) -> Command {
        let binary = self.binary();
        if !rustix::process::geteuid().is_root() {
            let mut command = Command::new(binary);
            command.args(args);
            return command;
        }
        setpriv(&["--reuid=65534", "--regid=65534", "--clear-groups"], &binary, args)
    }
}

/// `binary ARGS` with changed privileges.
pub(crate) fn setpriv(privileges: &[&str], binary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(privileges).arg(binary).args(args);
    command
}
