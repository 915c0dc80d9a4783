//! A test that runs in a process of its own, and every process that it started.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::runner::Test;
use crate::clock;

/// The environment variable that each process of a test inherits.
const MARK: &str = "TCPWATCH_TEST";

/// How long processes may take to end that a test started. Many end when a pipe does, a moment after the test.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// A test that runs. Dropping it ends it.
pub(super) struct TestProcess {
    test: Test,
    child: Child,
    /// What [`MARK`] is for it.
    mark: String,
    started: Instant,
    stdout: File,
    stderr: File,
    /// How and when it ended by itself.
    ended: Option<(ExitStatus, Instant)>,
    /// Whether its outcome was returned, and no process of it is left.
    is_over: bool,
}

/// How a test ended.
#[derive(Debug, Default)]
pub(super) struct EndedTest {
    /// Time from its start to its end.
    pub(super) took: Duration,
    /// What is wrong, if anything is.
    pub(super) failure: Option<String>,
    /// What it printed: by the harness on standard output.
    pub(super) stdout: String,
    /// What it printed past the harness.
    pub(super) stderr: String,
}

impl TestProcess {
    /// Starts `command`, which runs `test`.
    pub(super) fn start(test: Test, mut command: Command) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        command
            .env(MARK, &mark)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            test,
            child,
            mark,
            started: clock::start(),
            stdout,
            stderr,
            ended: None,
            is_over: false,
        })
    }

    /// The test that it runs.
    pub(super) fn test(&self) -> &Test {
        &self.test
    }

    /// Looks whether it is over, and ends it when it has run for longer than `limit`.
    pub(super) fn poll(&mut self, limit: Duration) -> Result<Option<EndedTest>> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().context("cannot wait for a test")?
        {
            self.ended = Some((status, clock::start()));
        }
        match self.ended {
            None if self.started.elapsed() <= limit => Ok(None),
            None => {
                let ended = self.kill()?;
                let failure = format!("ran for longer than {} s; ended: {ended}", limit.as_secs());
                let outcome = self.outcome(self.started.elapsed(), Some(failure))?;
                self.is_over = true;
                Ok(Some(outcome))
            }
            Some((status, at)) => {
                let left = !with_mark(&self.mark).is_empty();
                if left && at.elapsed() <= AFTERWARDS {
                    return Ok(None);
                }
                let mut outcome = self.outcome(at - self.started, None)?;
                outcome.failure = if left {
                    Some(format!("left processes behind; ended: {}; {status}", self.kill()?))
                } else if !status.success() {
                    Some(format!("failed ({status})"))
                } else if !outcome.stdout.contains(" 1 passed") {
                    Some("did not run".to_owned())
                } else {
                    None
                };
                self.is_over = true;
                Ok(Some(outcome))
            }
        }
    }

    fn outcome(&mut self, took: Duration, failure: Option<String>) -> Result<EndedTest> {
        let read = |file: &mut File| -> Result<String> {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)
                .context("cannot read what a test printed")?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(EndedTest {
            took,
            failure,
            stdout: read(&mut self.stdout)?,
            stderr: read(&mut self.stderr)?,
        })
    }

    /// Kills every process of the test by its id, until none is left. Returns their ids and names.
    fn kill(&mut self) -> Result<String> {
        let start = clock::start();
        let mut killed = BTreeSet::new();
        loop {
            let processes = with_mark(&self.mark);
            if processes.is_empty() {
                break;
            }
            if start.elapsed() > PATIENCE {
                bail!("{} cannot be ended: {processes:?}", self.test.label());
            }
            let opened = processes.iter().filter_map(|&pid| Some((pid, open(pid)?)));
            let opened: Vec<(i32, OwnedFd)> = opened.collect();
            // An id may have become another process's before it was opened.
            let same = with_mark(&self.mark);
            let opened = opened.iter().filter(|(pid, _)| same.contains(pid));
            killed.extend(opened.filter_map(|(pid, process)| kill(*pid, process)));
            // A process that has ended is there until its parent has waited for it; this one's parent is here.
            self.child.try_wait().context("cannot wait for a test")?;
            thread::sleep(Duration::from_millis(5));
        }
        self.child.wait().context("cannot wait for a test")?;
        Ok(killed.into_iter().collect::<Vec<_>>().join(", "))
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.kill()
        {
            eprintln!("{error:#}");
        }
    }
}

/// The processes that inherited the mark `mark`, and all that descend from them: some programs overwrite their environment.
fn with_mark(mark: &str) -> BTreeSet<i32> {
    let wanted = format!("{MARK}={mark}");
    let all: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found: BTreeSet<i32> = all
        .iter()
        .map(|&(pid, _)| pid)
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|one| one == wanted.as_bytes())
        })
        .collect();
    loop {
        let before = found.len();
        found.extend(
            all.iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|&(pid, _)| pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found;
        }
    }
}

/// The parent of a process that has not ended yet.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have any character in it.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!["Z", "X"].contains(&state)).then_some(parent)
}

/// Opens a process; `None` if it has just ended.
fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Kills `process`, and returns its id with its name; `None` if it has just ended.
fn kill(pid: i32, process: &OwnedFd) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    pidfd_send_signal(process, Signal::KILL).ok()?;
    Some(format!("{pid} ({})", name.trim_end()))
}
