//! Runs of BPF programs that the kernel skipped: a test that failed because of them is done again.
//!
//! The kernel runs no classic tracepoint program on a CPU where any process is reading a BPF map at that moment, and no
//! program inside itself. It counts what it skips, tcpwatch reports it as `missed`, and nobody can count exactly then; nor where
//! it runs no program and counts nothing, which [`super::unseen`] tells. A test passes only by a run in which everything was
//! right.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{fdinfo, loudly};

/// Tests of whose tcpwatch the kernel skipped a run.
static TESTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The name of the test that runs in this thread, or whose thread started this one.
pub(crate) fn this_test() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// Remembers whether the kernel skipped runs of `pid`'s programs, which are about to go.
pub(crate) fn note(pid: u32) {
    if fdinfo::missed(pid) > 0 {
        remember();
    }
}

/// Remembers that the kernel skipped runs during this test.
pub(crate) fn remember() {
    TESTS.lock().unwrap_or_else(PoisonError::into_inner).insert(this_test());
}

/// Does `test`; a failure counts when the kernel skipped nothing, and the third time.
pub(crate) fn done_again(test: impl Fn()) {
    for _ in 0..2 {
        let Err(failure) = catch_unwind(AssertUnwindSafe(&test)) else {
            return;
        };
        if !TESTS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&this_test())
        {
            resume_unwind(failure);
        }
        loudly(&format!(
            "{} failed, and the kernel skipped runs of the programs: again",
            this_test()
        ));
    }
    test();
}
