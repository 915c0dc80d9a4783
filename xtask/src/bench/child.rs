//! A program that was started to be measured: ended by its id, and asked what it used.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;
use std::{io, mem, thread};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{fdinfo, unloading};
use crate::clock;

/// How long a program may take to end once asked to; one that must still print what it has may take a while.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a program used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU time outside the kernel.
    pub(super) user: Duration,
    /// CPU time inside the kernel.
    pub(super) system: Duration,
    /// The most memory it ever had, KiB.
    pub(super) max_rss_kib: u64,
}

impl Usage {
    /// All its CPU time.
    pub(super) fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

/// A program that runs. Dropping it kills it.
pub(super) struct Running {
    name: String,
    child: Child,
    pid: Pid,
    ended: Option<(ExitStatus, Usage)>,
}

impl Running {
    /// Starts it.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            child.kill()?;
            bail!("{name} has no process id");
        };
        Ok(Self {
            name,
            child,
            pid,
            ended: None,
        })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// The handles of its pipes.
    pub(super) fn pipes(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> Result<bool> {
        self.reap(libc::WNOHANG)?;
        Ok(self.ended.is_some())
    }

    /// Waits until it ends by itself, which must be well.
    pub(super) fn wait(mut self) -> Result<Usage> {
        self.reap(0)?;
        self.outcome()
    }

    /// Ends it as Ctrl-C does, and waits until its BPF programs are gone too.
    pub(super) fn interrupt(mut self) -> Result<Usage> {
        let programs = fdinfo::programs(self.pid);
        if !self.has_ended()? {
            kill_process(self.pid, Signal::INT).with_context(|| format!("cannot interrupt {}", self.name))?;
        }
        let start = clock::start();
        while !self.has_ended()? {
            if start.elapsed() > PATIENCE {
                bail!("{} does not end when interrupted", self.name);
            }
            thread::sleep(Duration::from_millis(2));
        }
        unloading::wait(&programs)?;
        self.outcome()
    }

    fn outcome(&self) -> Result<Usage> {
        match self.ended {
            Some((status, usage)) if status.success() || status.signal() == Some(libc::SIGINT) => Ok(usage),
            Some((status, _)) => bail!("{} failed ({status})", self.name),
            None => bail!("{} is not over", self.name),
        }
    }

    fn reap(&mut self, options: i32) -> Result<()> {
        while self.ended.is_none() {
            match wait4(self.pid, options) {
                Ok(Some(ended)) => self.ended = Some(ended),
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(|| format!("cannot wait for {}", self.name)),
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended just now, which is as good.
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.reap(0);
        }
    }
}

/// Waits for the child `pid`; `None` where `options` say not to wait and it runs still.
fn wait4(pid: Pid, options: i32) -> io::Result<Option<(ExitStatus, Usage)>> {
    let mut status = 0;
    // SAFETY: `rusage` is made of integers, which may be zero.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the two pointers are to variables of the types that wait4(2) writes.
    let waited = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, options, &raw mut usage) };
    match waited {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some((
            ExitStatus::from_raw(status),
            Usage {
                user: duration(usage.ru_utime),
                system: duration(usage.ru_stime),
                max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
            },
        ))),
    }
}

fn duration(time: libc::timeval) -> Duration {
    let microseconds = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(microseconds)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Running;

    #[test]
    fn what_a_program_used_is_known_when_it_ends() {
        let usage = Running::start(&mut Command::new("true")).unwrap().wait().unwrap();
        assert!(usage.max_rss_kib > 0);
        assert!(Running::start(&mut Command::new("false")).unwrap().wait().is_err());
    }

    #[test]
    fn an_interrupted_program_is_over() {
        let mut sleeper = Running::start(Command::new("sleep").arg("60")).unwrap();
        assert!(!sleeper.has_ended().unwrap());
        sleeper.interrupt().unwrap();
    }
}
