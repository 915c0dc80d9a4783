//! Where in the code connections are opened: the kernel side's copies of user stacks, unwound as they come, and named when asked, on
//! a thread of its own: debug information may be large, or on a file system that hangs. What programs wrote of themselves is read by
//! the [symboliser](crate::symboliser), one for each thread; here their files are found and opened.
//!
//! What is written of a function's frame (`.eh_frame`) is followed, and nothing else: frame pointers skip the very function that
//! calls the C library's `accept()`, and where they lead is a guess.

mod debug_file;
mod files;
mod names;
mod perf_map;
mod process;
mod unwinder;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use hashbrown::HashMap;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tcpwatch_common::stack::STACK_CALL_NS;
use tokio::sync::oneshot;

use self::files::Files;
use self::names::Names;
use self::unwinder::Unwinder;
use super::ebpf::StackRing;
use super::worker::Worker;
use crate::input::stacks::{Stack, StackId, StackTable};
use crate::symboliser::Symboliser;
use crate::sys::threads;

/// Bytes of the ring buffer of stacks: a second at 10,000 connections a second, most of whose stacks are short.
pub const RING_BYTES: u32 = 16 << 20;
/// How long to wait before looking again, ns.
const MOMENT_NS: i64 = 5_000_000;
/// Looks that must find nothing before the kernel side has to call: by then it does so.
const LOOKS: u32 = 10;
const _: () = assert!(MOMENT_NS.cast_unsigned() * LOOKS as u64 > 2 * STACK_CALL_NS);
/// Stacks that are unwound at once: a message costs more than a stack.
const BATCH: usize = 32;
/// Sockets whose stacks are kept at most.
const SOCKETS_MAX: usize = 500_000;
/// Longer than the symboliser may take for a few files.
const SYMBOLS_MAY_TAKE: Duration = Duration::from_mins(1);

/// The stacks at which the connections were opened that are open now. Dropping it ends the thread that reads them.
pub struct Stacks {
    table: Arc<Mutex<StackTable>>,
    files: Arc<Mutex<Files>>,
    names: Worker<Names>,
    /// The names of the functions of the stacks that the last scan asked for, as far as they are known.
    named: Arc<Mutex<HashMap<StackId, Stack>>>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Stacks {
    /// Begins to read `ring`, on a thread of its own. `program` is the path of tcpwatch, which is executed as the symboliser.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn follow(ring: StackRing, program: &Path) -> Result<Self> {
        let root = Path::new("/");
        let table = Arc::new(Mutex::new(StackTable::new(SOCKETS_MAX)));
        let files = Arc::new(Mutex::new(Files::default()));
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an eventfd")?);
        let unwinder = Unwinder::new(root.to_owned(), Symboliser::new(program), Arc::clone(&files));
        let program = program.to_owned();
        let thread = {
            let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
            threads::spawn("stacks", move || read(ring, unwinder, &table, &stop))?
        };
        Ok(Self {
            table,
            files,
            names: Worker::with_patience(
                "names",
                ["reading symbols", "the names of functions"],
                SYMBOLS_MAY_TAKE,
                move || Names::new(Path::new("/").to_owned(), Symboliser::new(&program)),
            ),
            named: Arc::default(),
            stop,
            thread: Some(thread),
        })
    }

    /// The stack that opened the socket `inode`; `None` where that was not seen.
    #[must_use]
    pub fn opening_stack(&self, inode: u32) -> Option<StackId> {
        lock(&self.table).opening_stack(inode)
    }

    /// Has the stacks `ids` named that have no names yet, which is slow the first time a file is met, and forgets the names of all others.
    /// What is returned is over when they are named, or cannot be.
    pub fn name(&self, ids: &[StackId]) -> oneshot::Receiver<()> {
        let (done, over) = oneshot::channel();
        let (table, mut named) = (lock(&self.table), lock(&self.named));
        named.retain(|id, _| ids.contains(id));
        let unnamed = ids.iter().filter(|id| !named.contains_key(*id));
        let traces: Vec<_> = unnamed
            .filter_map(|&id| Some((id, Arc::clone(table.trace(id)?))))
            .collect();
        drop((table, named));
        if traces.is_empty() {
            let _ = done.send(());
            return over;
        }
        let (files, named) = (Arc::clone(&self.files), Arc::clone(&self.named));
        // Where it is refused the receiver is told by losing its sender.
        let _ = self.names.post(move |names| {
            for (id, trace) in traces {
                if done.is_closed() {
                    return;
                }
                // The thread that reads stacks must not wait for debug information.
                let files = lock(&files).files_in(&trace);
                let stack = names.stack(&trace, &files);
                lock(&named).insert(id, stack);
            }
            let _ = done.send(());
        });
        over
    }

    /// The stacks that have names by now, of those last asked for.
    #[must_use]
    pub fn named(&self) -> HashMap<StackId, Stack> {
        lock(&self.named).clone()
    }

    /// Keeps, of the sockets opened before `time_ns` (on the kernel side's clock), those that are `open` still. To be called now and
    /// then, or the oldest make room for those that were closed long ago.
    pub fn retain(&self, time_ns: u64, open: impl FnMut(u32) -> bool) {
        let mut table = lock(&self.table);
        table.retain(time_ns, open);
        let files = table.files();
        drop(table);
        // Another thread holds the lock while it opens a file, which may hang. The next call removes more.
        if let Ok(mut kept) = self.files.try_lock() {
            kept.retain(&files);
        }
    }

    /// Sockets that had to make room for others, whose stacks are not known any more.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        lock(&self.table).evicted()
    }

    /// How many sockets, and how many different stacks, are kept.
    #[must_use]
    pub fn kept(&self) -> (usize, usize) {
        lock(&self.table).len()
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        let stop_written = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (stop_written, self.thread.take()) {
            // A thread that panicked said so.
            let _ = thread.join();
        }
    }
}

/// Reads `ring` until told to `stop`.
fn read(mut ring: StackRing, mut unwinder: Unwinder, table: &Mutex<StackTable>, stop: &OwnedFd) {
    // Looks in a row that found nothing: the first may come before the first stack.
    let mut idle = LOOKS;
    unwinder.start();
    loop {
        loop {
            let waiting = ring.next(|head, stack| unwinder.push(head, stack));
            if waiting.is_none_or(|waiting| waiting >= BATCH) {
                for (head, trace) in unwinder.unwind() {
                    idle = 0;
                    lock(table).opened(head.inode, head.time_ns, trace);
                }
            }
            if waiting.is_none() {
                break;
            }
        }
        match wait(&ring, stop, idle < LOOKS) {
            Ok(Waited::Stop) => return,
            Ok(Waited::Called) => idle = 0,
            Ok(Waited::Moment) => idle += 1,
            Err(error) => {
                log::warn!("stacks are not read any more: {error}");
                return;
            }
        }
    }
}

/// Why waiting ended.
enum Waited {
    /// There is something to stop for.
    Stop,
    /// The kernel side called.
    Called,
    /// Enough time has passed.
    Moment,
}

/// Waits for a moment, where stacks may come without a call, or until the kernel side calls.
fn wait(ring: &StackRing, stop: &OwnedFd, moment: bool) -> io::Result<Waited> {
    let timeout = moment.then_some(Timespec {
        tv_sec: 0,
        tv_nsec: MOMENT_NS,
    });
    let mut fds = [
        PollFd::new(stop, PollFlags::IN),
        PollFd::from_borrowed_fd(ring.fd(), PollFlags::IN),
    ];
    let waited = if moment { &mut fds[..1] } else { &mut fds[..] };
    match poll(waited, timeout.as_ref()) {
        Ok(0) | Err(Errno::INTR) => Ok(Waited::Moment),
        Ok(_) if !fds[0].revents().is_empty() => Ok(Waited::Stop),
        Ok(_) => Ok(Waited::Called),
        Err(error) => Err(error.into()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
