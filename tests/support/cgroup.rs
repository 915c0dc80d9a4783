//! A cgroup of its own for a process.

use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::clock::try_eventually;

/// A cgroup of v2 and the one above it, removed when dropped; the mount is the test's own.
pub(crate) struct Cgroup {
    mount: tempfile::TempDir,
    above: String,
    name: String,
}

impl Cgroup {
    /// Makes `/tcpwatch-PID/NAME`. The caller has a mount namespace of its own.
    pub(crate) fn new(name: &str) -> Self {
        let mount_point = tempfile::tempdir().expect("a temporary directory");
        mount("none", mount_point.path(), "cgroup2", MountFlags::empty(), None).expect("mounting cgroup2");
        let cgroup = Self {
            mount: mount_point,
            above: format!("tcpwatch-{}", std::process::id()),
            name: name.to_owned(),
        };
        fs::create_dir_all(cgroup.directory()).expect("a cgroup");
        cgroup
    }

    /// Its path, as /proc/PID/cgroup has it.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.above, self.name)
    }

    /// Moves the process `pid` there.
    pub(crate) fn take(&self, pid: u32) {
        fs::write(self.directory().join("cgroup.procs"), pid.to_string()).expect("moving a process");
    }

    /// Its directory, for a process to move itself.
    pub(crate) fn directory(&self) -> PathBuf {
        self.mount.path().join(&self.above).join(&self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Nobody is left in it, though the kernel may be slow to say so. The mount goes with the thread, if not here.
        drop(try_eventually(|| fs::remove_dir(self.directory())));
        drop(fs::remove_dir(self.mount.path().join(&self.above)));
        unmount(self.mount.path(), UnmountFlags::DETACH).ok();
    }
}
