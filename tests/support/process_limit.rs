//! A cgroup with a limit of processes and threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::clock::try_eventually;
use super::program::run::tcpwatch;

/// A cgroup of the pids controller, removed when dropped; the mount is the test's own.
pub(crate) struct ProcessLimit {
    mount: tempfile::TempDir,
    name: String,
}

impl ProcessLimit {
    /// Makes a cgroup without a limit. The caller has a mount namespace of its own.
    pub(crate) fn new() -> Self {
        let limit = Self {
            mount: tempfile::tempdir().expect("a temporary directory"),
            // Two tests at once are two threads.
            name: format!("tcpwatch-{}", rustix::thread::gettid().as_raw_nonzero()),
        };
        let top = limit.mount.path();
        // The controller belongs to one of the two hierarchies.
        if mount("none", top, "cgroup", MountFlags::empty(), Some(c"pids")).is_err() {
            mount("none", top, "cgroup2", MountFlags::empty(), None).expect("mounting cgroup2");
            fs::write(top.join("cgroup.subtree_control"), "+pids").expect("the pids controller");
        }
        fs::create_dir(limit.directory()).expect("a cgroup");
        limit
    }

    fn directory(&self) -> PathBuf {
        self.mount.path().join(&self.name)
    }

    /// Sets how many processes and threads there may be.
    pub(crate) fn set(&self, most: u32) {
        fs::write(self.directory().join("pids.max"), most.to_string()).expect("pids.max");
    }

    /// Moves the process `pid` and all its threads there.
    pub(crate) fn take(&self, pid: u32) {
        fs::write(self.directory().join("cgroup.procs"), pid.to_string()).expect("moving a process");
    }

    /// `tcpwatch ARGS`, which moves there before it starts.
    pub(crate) fn tcpwatch(&self, args: &[&str]) -> Command {
        let program = tcpwatch(args);
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]);
        command.arg(self.directory().join("cgroup.procs"));
        command.arg(program.get_program()).args(program.get_args());
        command
    }
}

impl Drop for ProcessLimit {
    fn drop(&mut self) {
        // Nobody is left in it, though the kernel may be slow to say so. The mount goes with the thread, if not here.
        drop(try_eventually(|| fs::remove_dir(self.directory())));
        unmount(self.mount.path(), UnmountFlags::DETACH).ok();
    }
}

/// `COMMAND` with at most `descriptors` open.
pub(crate) fn with_descriptors(descriptors: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"ulimit -n "$0" && exec "$@""#]);
    limited.arg(descriptors.to_string());
    limited.arg(Path::new(command.get_program())).args(command.get_args());
    limited
}
