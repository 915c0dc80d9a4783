//! Limits for a process: those of its cgroup, and those of `ulimit`.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::clock::try_eventually;
use super::program::run::tcpwatch;

/// A cgroup with a limit, removed when dropped; the mount is the test's own.
pub(crate) struct CgroupLimit {
    mount: tempfile::TempDir,
    name: String,
    /// Its file that has the limit.
    file: &'static str,
}

/// A controller of cgroups, with the file that has its limit in v1 and in v2.
struct Controller {
    name: &'static CStr,
    v1: &'static str,
    v2: &'static str,
}

const PIDS: Controller = Controller {
    name: c"pids",
    v1: "pids.max",
    v2: "pids.max",
};
const MEMORY: Controller = Controller {
    name: c"memory",
    v1: "memory.limit_in_bytes",
    v2: "memory.max",
};

impl CgroupLimit {
    /// Of processes and threads, without a limit yet. The caller has a mount namespace of its own.
    pub(crate) fn of_processes() -> Self {
        Self::new(&PIDS)
    }

    /// Of bytes of memory, likewise.
    pub(crate) fn of_memory() -> Self {
        Self::new(&MEMORY)
    }

    fn new(controller: &Controller) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let top = place.path();
        let name = controller.name.to_str().expect("ASCII");
        mount("none", top, "cgroup2", MountFlags::empty(), None).expect("mounting cgroup2");
        let controllers = fs::read_to_string(top.join("cgroup.controllers")).expect("the controllers");
        // The controller belongs to one of the two hierarchies.
        let file = if controllers.split_whitespace().any(|there| there == name) {
            fs::write(top.join("cgroup.subtree_control"), format!("+{name}")).expect("the controller");
            controller.v2
        } else {
            unmount(top, UnmountFlags::empty()).expect("unmounting cgroup2");
            let mounted = mount("none", top, "cgroup", MountFlags::empty(), Some(controller.name));
            mounted.unwrap_or_else(|error| panic!("the kernel suite needs the cgroup controller {name}: {error}"));
            controller.v1
        };
        let limit = Self {
            mount: place,
            // Two tests at once are two threads.
            name: format!("tcpwatch-{}", rustix::thread::gettid().as_raw_nonzero()),
            file,
        };
        fs::create_dir(limit.directory()).expect("a cgroup");
        limit
    }

    fn directory(&self) -> PathBuf {
        self.mount.path().join(&self.name)
    }

    /// Sets how much there may be.
    pub(crate) fn set(&self, most: u64) {
        fs::write(self.directory().join(self.file), most.to_string()).expect(self.file);
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

impl Drop for CgroupLimit {
    fn drop(&mut self) {
        // Nobody is left in it, though the kernel may be slow to say so. The mount goes with the thread, if not here.
        drop(try_eventually(|| fs::remove_dir(self.directory())));
        unmount(self.mount.path(), UnmountFlags::DETACH).ok();
    }
}

/// `COMMAND` with at most `descriptors` open.
pub(crate) fn with_descriptors(descriptors: u32, command: &Command) -> Command {
    with_ulimit("-n", descriptors, command)
}

/// `COMMAND` with at most `kibibytes` locked into memory.
pub(crate) fn with_locked_memory(kibibytes: u32, command: &Command) -> Command {
    with_ulimit("-l", kibibytes, command)
}

fn with_ulimit(flag: &str, most: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!(r#"ulimit {flag} "$0" && exec "$@""#)]);
    limited.arg(most.to_string());
    limited.arg(Path::new(command.get_program())).args(command.get_args());
    limited
}
