//! What spoils a test through no fault of the program: the kernel skipped runs of its BPF programs, or a client was not as steady as the
//! test needs it. A test that failed then is done again, and passes only by a run in which everything was right.
//!
//! The kernel runs no classic tracepoint program on a CPU where any process is reading a BPF map at that moment, and no
//! program inside itself. It counts what it skips, tcpwatch reports it as `missed`, and nobody can count exactly then; nor where
//! it runs no program and counts nothing, which [`super::unseen`] tells.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{fdinfo, loudly};

/// The tests that something spoiled, and what.
static TESTS: Mutex<BTreeMap<String, &'static str>> = Mutex::new(BTreeMap::new());

fn tests() -> MutexGuard<'static, BTreeMap<String, &'static str>> {
    TESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of the test that runs in this thread, or whose thread started this one.
pub(crate) fn this_test() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// Remembers whether the kernel skipped runs of `pid`'s programs, which are about to go.
pub(crate) fn note(pid: u32) {
    if fdinfo::missed(pid) > 0 {
        remember("the kernel skipped runs of the programs");
    }
}

/// Remembers `what` spoiled this test.
pub(crate) fn remember(what: &'static str) {
    tests().insert(this_test(), what);
}

/// How often a spoiled test is done again at most. On a busy machine the kernel skips classic programs for as long as a process is not
/// scheduled that was reading a map.
const AGAIN: usize = 5;

/// Does `test`; a failure counts when nothing spoiled it, and the last time.
pub(crate) fn done_again(test: impl Fn()) {
    for _ in 0..AGAIN {
        let Err(failure) = catch_unwind(AssertUnwindSafe(&test)) else {
            return;
        };
        let Some(what) = tests().remove(&this_test()) else {
            resume_unwind(failure);
        };
        loudly(&format!("{} failed, and {what}: again", this_test()));
    }
    test();
}
