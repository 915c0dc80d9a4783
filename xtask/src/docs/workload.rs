//! A network namespace with a workload in it: what commands are run on for the samples.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, thread};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::system;

/// Where the workloads are, in the workspace: programs that print a line once they are at work.
const FOLDER: &str = "xtask/workloads";

/// Where commands and workloads put files: memory that goes with the namespace.
const SCRATCH: &str = "/var/tmp";

/// How long a command may take, s.
const LIMIT: &str = "100";

/// What runs while commands are run.
pub(super) struct Workload {
    workspace: PathBuf,
    path: OsString,
    name: Option<String>,
}

impl Workload {
    /// The workload `name`, or an idle network. `folder` has the tcpwatch that commands start.
    pub(super) fn new(workspace: &Path, folder: &Path, name: Option<&str>) -> Self {
        let mut path = OsString::from(folder);
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        Self {
            workspace: workspace.to_owned(),
            path,
            name: name.map(str::to_owned),
        }
    }

    /// Moves this thread into a network namespace, starts the workload, and does `work`.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce(&Self) -> Result<T> + Send) -> Result<T> {
        // A thread of its own, for it cannot go back.
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter()?;
                let _running = self.start()?;
                work(self)
            });
            inside.join().map_err(|_| anyhow!("a run panicked"))?
        })
    }

    /// What `command` prints on its standard output, which is no terminal.
    pub(super) fn output(&self, command: &str) -> Result<String> {
        // This is root already.
        let script = command.replace("sudo ", "");
        let output = self
            .shell("timeout", &["-s", "KILL", LIMIT, "sh", "-c", &script])
            .output()
            .context("cannot start timeout (package coreutils)")?;
        let text = String::from_utf8(output.stdout).with_context(|| format!("`{command}` prints no UTF-8"))?;
        match output.status.code() {
            // A leak that was looked for.
            Some(0 | 3) => Ok(format!("{}\n", text.trim_end())),
            _ => bail!("`{command}` failed ({}): {text}", output.status),
        }
    }

    fn start(&self) -> Result<Option<Running>> {
        let Some(name) = &self.name else {
            return Ok(None);
        };
        let program = self.workspace.join(FOLDER).join(name);
        let mut command = self.shell(&program, &[] as &[&str]);
        let child = command.stdout(Stdio::piped()).process_group(0).spawn();
        let mut running = Running(child.with_context(|| format!("cannot start {}", program.display()))?);
        let mut line = String::new();
        let stdout = running.0.stdout.take().context("no pipe")?;
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("cannot read from a workload")?;
        if line != "ready\n" {
            bail!("the workload {name} did not start: {line}");
        }
        Ok(Some(running))
    }

    /// A command that sees what a user sees.
    fn shell(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&self.workspace)
            .stdin(Stdio::null());
        command
            .env("PATH", &self.path)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env_remove("RUST_LOG");
        command
    }
}

/// A workload that runs. Dropping it ends all its processes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Moves this thread into a network namespace of its own, with a folder that is its alone.
fn enter() -> Result<()> {
    // SAFETY: file descriptors stay shared (no FILES); namespaces and the working directory are this thread's.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.context("cannot make namespaces")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make the mounts private")?;
    mount("tmpfs", SCRATCH, "tmpfs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount tmpfs on {SCRATCH}"))?;
    let ip = system::find("ip").context("the samples need the program ip (package iproute2)")?;
    if !system::succeeds(Command::new(ip).args(["link", "set", "lo", "up"]))? {
        bail!("cannot bring the loopback interface up: see above");
    }
    Ok(())
}
