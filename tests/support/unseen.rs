//! Transitions that the kernel runs no program for, and does not count as skipped.
//!
//! Seen on a 6.18: whatever a softirq does while a thread of process 1 is interrupted, ftrace sees, and no BPF program on either
//! hook (14 of 2,000 timeouts: ftrace told 2,000, `tp_btf` and tracepoint 1,986 each, and no miss). Elsewhere process 1 seldom
//! runs, and this finds nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::spoiled;

/// An instance of ftrace, which writes down such transitions while it is there. The test they came in is remembered.
pub(crate) struct Witness {
    instance: PathBuf,
    /// Held open, and [`Witness::instance`] leads through it: a test may mount something else where tracefs was.
    _instances: File,
    /// Numbers of the threads that it knows.
    threads: BTreeSet<String>,
}

impl Witness {
    /// Begins, by the tracefs mounted at `tracefs`.
    pub(crate) fn start(tracefs: &str) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let folder = File::open(Path::new(tracefs).join("instances")).expect("the instances of ftrace");
        let instances = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        remove_abandoned(&instances);
        // Other processes may have some too.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("tcpwatch-{}-{number}", std::process::id());
        let witness = Self {
            instance: instances.join(name),
            _instances: folder,
            threads: threads_of_process_1(),
        };
        fs::create_dir(&witness.instance).expect("an instance of ftrace");
        let on_them = witness.threads.iter().map(|id| format!("common_pid == {id}"));
        let on_them: Vec<String> = on_them.collect();
        witness.write("events/sock/inet_sock_set_state/filter", &on_them.join(" || "));
        witness.write("events/sock/inet_sock_set_state/enable", "1");
        witness
    }

    /// How many came so far.
    pub(crate) fn count(&self) -> i64 {
        let trace = fs::read_to_string(self.instance.join("trace")).unwrap_or_default();
        let lines = trace.lines().filter(|line| line.contains("inet_sock_set_state:"));
        i64::try_from(lines.count()).expect("a small number")
    }

    /// Whether process 1 has the threads it had at the start: it may run others for a moment.
    pub(crate) fn knows_all_threads(&self) -> bool {
        self.threads == threads_of_process_1()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.instance.join(file), text).unwrap_or_else(|error| panic!("writing {text:?} to {file}: {error}"));
    }
}

/// Removes the instances of processes that were killed: each of them slows every transition of the host.
fn remove_abandoned(instances: &Path) {
    for instance in fs::read_dir(instances).expect("the instances of ftrace") {
        let instance = instance.expect("an instance").path();
        let name = instance.file_name().unwrap_or_default().to_string_lossy();
        let owner = name.strip_prefix("tcpwatch-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another test may have removed it in this moment.
            drop(fs::remove_dir(&instance));
        }
    }
}

fn threads_of_process_1() -> BTreeSet<String> {
    let threads = fs::read_dir("/proc/1/task").expect("the threads of process 1");
    threads
        .map(|thread| thread.expect("a thread").file_name().into_string().expect("a number"))
        .collect()
}

impl Drop for Witness {
    fn drop(&mut self) {
        if self.count() > 0 {
            spoiled::remember("the kernel ran no program while process 1 was interrupted");
        } else if !self.knows_all_threads() {
            spoiled::remember("process 1 had other threads, and may have been interrupted in one of them");
        }
        // An instance goes with all that is enabled in it.
        if let Err(error) = fs::remove_dir(&self.instance) {
            eprintln!("cannot remove {}: {error}", self.instance.display());
        }
    }
}
