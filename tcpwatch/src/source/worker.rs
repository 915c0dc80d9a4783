//! A thread for work that may never end: /proc may wait for a process, a file for its server.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::sys::threads;

/// How long a job may take: longer than reading the /proc of a busy host takes.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Jobs that wait at most.
const QUEUE: usize = 1024;
/// Where there can be no thread, the next try is this much later, ns, and twice as long after each that fails.
const RETRY_NS: [u64; 2] = [1_000_000_000, 60_000_000_000];

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that does one job after the other on a state of its own. While a job takes longer than it may, others are refused: there is
/// never a second thread that may get stuck in the same place.
pub struct Worker<S> {
    name: &'static str,
    /// The work, and the facts that are unknown without it, for warnings.
    words: [&'static str; 2],
    make: Arc<dyn Fn() -> S + Send + Sync>,
    patience_ns: u64,
    thread: Mutex<Thread<S>>,
    /// When the job under way began, ns (`CLOCK_MONOTONIC`); 0 where there is none.
    since_ns: Arc<AtomicU64>,
    has_warned: AtomicBool,
}

/// The thread, if there is one.
struct Thread<S> {
    jobs: Option<SyncSender<Job<S>>>,
    again_ns: u64,
    wait_ns: u64,
}

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The job before it, or itself, takes too long.
    Stuck,
    /// There can be no thread, or it died.
    NoThread,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuck => f.write_str("it takes too long"),
            Self::NoThread => f.write_str("there can be no thread for it"),
        }
    }
}

impl<S: 'static> Worker<S> {
    /// A thread called `name`, which starts with the first job, on the state that `make` makes. `words` complete its warnings: the work,
    /// and the facts that are unknown without it ("reading /proc", "owners").
    pub fn new(name: &'static str, words: [&'static str; 2], make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self::with_patience(name, words, PATIENCE, make)
    }

    /// The same, where a job is waited for no longer than `patience`.
    pub(super) fn with_patience(
        name: &'static str,
        words: [&'static str; 2],
        patience: Duration,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            words,
            make: Arc::new(make),
            patience_ns: u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX),
            thread: Mutex::new(Thread {
                jobs: None,
                again_ns: 0,
                wait_ns: RETRY_NS[0],
            }),
            since_ns: Arc::default(),
            has_warned: AtomicBool::new(false),
        }
    }

    /// Whether the job under way takes longer than it may.
    pub fn is_stuck(&self) -> bool {
        let since_ns = self.since_ns.load(Ordering::Relaxed);
        let is_stuck = since_ns != 0 && clock::monotonic_ns().saturating_sub(since_ns) >= self.patience_ns;
        if !self.has_warned.swap(is_stuck, Ordering::Relaxed) && is_stuck {
            let [does, unknown] = self.words;
            let patience = Duration::from_nanos(self.patience_ns).as_secs();
            log::warn!("{does} takes more than {patience} s; {unknown} are unknown until it ends");
        }
        is_stuck
    }

    /// Whether the thread was started.
    #[must_use]
    pub fn has_thread(&self) -> bool {
        self.thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .jobs
            .is_some()
    }

    /// Adds `job` to those that the thread does. It never waits.
    ///
    /// # Errors
    /// The thread is stuck, or there can be none.
    pub fn post(&self, job: impl FnOnce(&mut S) + Send + 'static) -> Result<(), Refused> {
        if self.is_stuck() {
            return Err(Refused::Stuck);
        }
        // The lock is held for no longer than it takes to start a thread.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let mut job: Job<S> = Box::new(job);
        if let Some(jobs) = &thread.jobs {
            match jobs.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => return Err(Refused::Stuck),
                // A job panicked.
                Err(TrySendError::Disconnected(back)) => job = back,
            }
        }
        let now_ns = clock::monotonic_ns();
        thread.jobs = None;
        if now_ns < thread.again_ns {
            return Err(Refused::NoThread);
        }
        let (jobs, waiting) = sync_channel(QUEUE);
        let (since_ns, make) = (Arc::clone(&self.since_ns), Arc::clone(&self.make));
        thread.again_ns = now_ns.saturating_add(thread.wait_ns);
        match threads::spawn(self.name, move || work(make(), &waiting, &since_ns)) {
            Ok(_) => {
                thread.wait_ns = RETRY_NS[0];
                // The queue is empty, and has room.
                let _ = jobs.try_send(job);
                thread.jobs = Some(jobs);
                Ok(())
            }
            Err(why) => {
                if thread.wait_ns == RETRY_NS[0] {
                    log::warn!("{} are unknown: {why}", self.words[1]);
                }
                thread.wait_ns = (thread.wait_ns * 2).min(RETRY_NS[1]);
                Err(Refused::NoThread)
            }
        }
    }

    /// Does `job`, and waits for it no longer than it may take: not to be called where something else waits.
    ///
    /// # Errors
    /// As [`Self::post`], or it takes too long.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce(&mut S) -> T + Send + 'static) -> Result<T, Refused> {
        let (done, result) = channel();
        self.post(move |state| {
            let _ = done.send(job(state));
        })?;
        match result.recv_timeout(Duration::from_nanos(self.patience_ns)) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                // This prints the warning.
                self.is_stuck();
                Err(Refused::Stuck)
            }
            Err(RecvTimeoutError::Disconnected) => Err(Refused::NoThread),
        }
    }
}

/// Does `jobs` until no more can come.
fn work<S>(mut state: S, jobs: &Receiver<Job<S>>, since_ns: &AtomicU64) {
    /// Marks the job as over, also after a panic.
    struct Over<'a>(&'a AtomicU64);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(0, Ordering::Relaxed);
        }
    }
    while let Ok(job) = jobs.recv() {
        since_ns.store(clock::monotonic_ns(), Ordering::Relaxed);
        let _over = Over(since_ns);
        job(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::yield_now;

    use super::*;

    fn counter(patience: Duration) -> Worker<u32> {
        Worker::with_patience("counter", ["counting", "counts"], patience, || 0)
    }

    #[test]
    fn jobs_are_done_one_after_the_other_on_one_state() {
        let worker = counter(PATIENCE);
        for count in 1..4 {
            let counted = worker.run(|state| {
                *state += 1;
                *state
            });
            assert_eq!(counted, Ok(count));
        }
    }

    #[test]
    fn a_job_that_hangs_refuses_others_until_it_is_over() {
        let worker = counter(Duration::from_millis(20));
        let (release, hangs) = channel::<()>();
        let hung = worker.run(move |_| hangs.recv().is_ok());
        assert_eq!(hung, Err(Refused::Stuck));
        while !worker.is_stuck() {
            yield_now();
        }
        assert_eq!(
            worker.post(|state| *state += 1),
            Err(Refused::Stuck),
            "it is not kept for later"
        );
        release.send(()).unwrap();
        while worker.is_stuck() {
            yield_now();
        }
        assert_eq!(worker.run(|state| *state), Ok(0));
    }

    #[test]
    fn a_job_that_panics_ends_no_other() {
        let worker = counter(PATIENCE);
        let died = worker.run(|_| panic!("on purpose"));
        assert_eq!(died, Err::<(), _>(Refused::NoThread));
        worker.thread.lock().unwrap().again_ns = 0;
        while worker.run(|state| *state) != Ok(0) {
            worker.thread.lock().unwrap().again_ns = 0;
            yield_now();
        }
    }
}
