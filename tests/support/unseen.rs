//! Transitions that the kernel runs no program for, and does not count as skipped.
//!
//! Seen on a 6.18: whatever a softirq does while a thread of process 1 is interrupted, ftrace sees, and no BPF program on either
//! hook (14 of 2,000 timeouts: ftrace told 2,000, `tp_btf` and tracepoint 1,986 each, and no miss). Elsewhere process 1 seldom
//! runs, and this finds nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::skipped;

/// An instance of ftrace, which writes down such transitions while it is there. The test they came in is remembered.
pub(crate) struct Witness(PathBuf);

impl Witness {
    /// Begins, by the tracefs mounted at `tracefs`.
    pub(crate) fn start(tracefs: &str) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        // Other processes may have some too.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("tcpwatch-{}-{number}", std::process::id());
        let witness = Self(Path::new(tracefs).join("instances").join(name));
        fs::create_dir(&witness.0).expect("an instance of ftrace");
        let threads = fs::read_dir("/proc/1/task").expect("the threads of process 1");
        let ids = threads.map(|thread| thread.expect("a thread").file_name().into_string().expect("a number"));
        let on_them: Vec<String> = ids.map(|id| format!("common_pid == {id}")).collect();
        witness.write("events/sock/inet_sock_set_state/filter", &on_them.join(" || "));
        witness.write("events/sock/inet_sock_set_state/enable", "1");
        witness
    }

    /// How many came so far.
    pub(crate) fn count(&self) -> i64 {
        let trace = fs::read_to_string(self.0.join("trace")).unwrap_or_default();
        let lines = trace.lines().filter(|line| line.contains("inet_sock_set_state:"));
        i64::try_from(lines.count()).expect("a small number")
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap_or_else(|error| panic!("writing {text:?} to {file}: {error}"));
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if self.count() > 0 {
            skipped::remember();
        }
        // An instance goes with all that is enabled in it.
        drop(fs::remove_dir(&self.0));
    }
}
