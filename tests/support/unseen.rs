//! Transitions that the kernel runs no program for, and does not count as skipped.
//!
//! Seen on a 6.18: whatever a softirq does while a thread of process 1 is interrupted, ftrace sees, and no BPF program on either
//! hook (14 of 2,000 timeouts: ftrace told 2,000, `tp_btf` and tracepoint 1,986 each, and no miss). Elsewhere process 1 seldom
//! runs, and this finds nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::skipped;

/// An instance of ftrace, which writes down such transitions while it is there. The test they came in is remembered.
pub(crate) struct Witness(PathBuf);

impl Witness {
    /// Begins, by the tracefs mounted at `tracefs`.
    pub(crate) fn start(tracefs: &str) -> Self {
        // Two tests at once may have the same name, two threads not the same number.
        let name = format!("tcpwatch-{}", rustix::thread::gettid().as_raw_nonzero());
        let witness = Self(Path::new(tracefs).join("instances").join(name));
        fs::create_dir(&witness.0).expect("an instance of ftrace");
        let threads = fs::read_dir("/proc/1/task").expect("the threads of process 1");
        let ids = threads.map(|thread| thread.expect("a thread").file_name().into_string().expect("a number"));
        let on_them: Vec<String> = ids.map(|id| format!("common_pid == {id}")).collect();
        witness.write("events/sock/inet_sock_set_state/filter", &on_them.join(" || "));
        witness.write("events/sock/inet_sock_set_state/enable", "1");
        witness
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap_or_else(|error| panic!("writing {text:?} to {file}: {error}"));
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let trace = fs::read_to_string(self.0.join("trace")).unwrap_or_default();
        if trace.contains("inet_sock_set_state:") {
            skipped::remember();
        }
        // An instance goes with all that is enabled in it.
        drop(fs::remove_dir(&self.0));
    }
}
