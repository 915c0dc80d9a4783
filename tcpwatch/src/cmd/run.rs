//! What the commands that watch the kernel share: signals, deadlines, and reaching the kernel side.

use std::future::{pending, poll_fn};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tcpwatch_common::Ledger;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::values::Interval;
use crate::cli::{Common, HookArg};
use crate::model::filter::Filter;
use crate::model::snapshot::Unseen;
use crate::source::ebpf::{self, Choice, Hook, Kernel, NamespacesUnknown, Needs, Request};
use crate::source::stacks;
use crate::sys::netns::{self, Namespace, Which};
use crate::sys::{descriptor_limit, signals, threads};
use crate::view::number::thousands;
use crate::view::words;

/// How long a command may take to say its last, once it is told to end.
const GRACE: Duration = Duration::from_secs(2);

/// A reason to end: a signal ([`signals::ENDING`]), or the time given by `--duration`.
pub(super) struct End {
    told: oneshot::Receiver<()>,
    /// Whether there is something to say yet.
    begun: Arc<AtomicBool>,
    /// Moves as long as the end is being told.
    progress: Arc<AtomicU64>,
    duration: Option<Duration>,
    /// `duration` after it was first waited for: loading the kernel side takes none of it.
    deadline: Option<tokio::time::Instant>,
}

impl End {
    /// Takes over the signals, so that none ends the program before it has printed its last; before [`End::begin`] one ends it at
    /// once, with code 1.
    ///
    /// They are heard on a thread of their own, and on no other: where nobody reads our output, writing it waits for ever, and
    /// the kernel gives up verifying a program on a thread that has a signal to take (`EAGAIN`).
    pub(super) fn new(duration: Option<Interval>) -> Result<Self> {
        let (tell, told) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let progress = Arc::new(AtomicU64::new(0));
        let begun = Arc::new(AtomicBool::new(false));
        let (seen, has_begun) = (Arc::clone(&progress), Arc::clone(&begun));
        threads::spawn("signals", move || {
            let heard = block_on(async {
                let mut streams = signals::to_take_over()
                    .map(|number| signal(SignalKind::from_raw(number)))
                    .collect::<io::Result<Vec<_>>>()?;
                let _ = ready.send(Ok(()));
                poll_fn(|context| {
                    // Each is polled, so that each wakes this thread.
                    let polled = streams.iter_mut().map(|stream| stream.poll_recv(context).is_ready());
                    let came = polled.fold(false, |any, came| any | came);
                    if came { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                Ok(())
            });
            if let Err(error) = heard {
                let _ = ready.send(Err(error));
                return;
            }
            if !has_begun.load(Ordering::Relaxed) {
                let _ = writeln!(io::stderr(), "tcpwatch: stopped before anything was measured");
                std::process::exit(1);
            }
            let _ = tell.send(());
            loop {
                let before = seen.load(Ordering::Relaxed);
                thread::sleep(GRACE);
                if seen.load(Ordering::Relaxed) == before {
                    break;
                }
            }
            let _ = writeln!(
                io::stderr(),
                "tcpwatch: nobody reads the output; the rest of it is lost"
            );
            std::process::exit(1);
        })?;
        is_ready.recv().context("cannot take over the signals")??;
        signals::leave_to_others();
        Ok(Self {
            told,
            begun,
            progress,
            duration: duration.map(|Interval(time)| time),
            deadline: None,
        })
    }

    /// Says that the output begins, and is to have an end.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Counts the duration from now.
    pub(super) fn count_from_now(&mut self) {
        self.deadline = self.duration.map(|time| tokio::time::Instant::now() + time);
    }

    /// Says that something was read, or the output took something: a command with much to say at its end is let say it.
    pub(super) fn progressed(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for the end.
    pub(super) async fn come(&mut self) {
        if self.deadline.is_none() {
            self.count_from_now();
        }
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = &mut self.told => {}
            () = deadline => {}
        }
    }
}

/// Descriptors that a runtime and its signals take: without them tokio panics.
const RUNTIME_DESCRIPTORS: u64 = 8;

/// Runs `work` on a runtime of one thread.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    descriptor_limit::ensure_free(RUNTIME_DESCRIPTORS)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(work)
}

/// Says on stderr, at the end, what is unknown because the kernel had no room for it.
pub(super) fn warn_of_no_room(kernel: &Kernel) {
    for words in no_room(&kernel.ledger(), kernel.hook()) {
        log::warn!("{words}");
    }
}

/// What `hook` found no room for, a line each.
fn no_room(ledger: &Ledger, hook: Option<Hook>) -> Vec<String> {
    let mut words = Vec::new();
    if ledger.unremembered > 0 {
        words.push(format!(
            "there was no room to remember the sockets of {} transitions, and their owners and times are unknown: {}",
            thousands(ledger.unremembered),
            match hook {
                Some(Hook::Tracepoint) => "fewer connections take less, by a filter; or try --hook tp_btf",
                _ => "net.core.optmem_max may be too small (sysctl)",
            }
        ));
    }
    if ledger.unkept_owners > 0 {
        words.push(format!(
            "who accepted {} connections is unknown: there was no room to remember it until their next transition",
            thousands(ledger.unkept_owners)
        ));
    }
    words
}

/// Loads and attaches the kernel side, with what the command `needs` of it.
///
/// # Errors
/// One line: what cannot be had, why, and what to type.
pub(super) fn watch(common: &Common, needs: Needs) -> Result<Watched> {
    let Common { filter, watch, .. } = common;
    let wanted = filter.to_filter();
    let choice = match watch.hook {
        HookArg::TpBtf => Choice::Only(Hook::TpBtf),
        HookArg::Tracepoint => Choice::Only(Hook::Tracepoint),
        HookArg::Auto => Choice::Auto,
    };
    let mut scope = (filter.netns.clone(), Vec::new());
    let mut attached = |hook, netns: &Which| {
        let namespaces = netns::resolve(Path::new("/"), netns)?;
        let inode = match namespaces.as_slice() {
            [one] if *netns != Which::All => one.inode,
            _ => 0,
        };
        scope = (netns.clone(), namespaces);
        Kernel::attached(
            &Request {
                object: ebpf::object::EMBEDDED,
                filter: &wanted.for_kernel(inode).map_err(anyhow::Error::msg)?,
                ports: &wanted.port_words(),
                needs,
                ring_bytes: watch.ring_size.0,
                stacks_ring_bytes: stacks::RING_BYTES,
            },
            hook,
        )
    };
    let kernel = ebpf::open(choice, |hook| match attached(hook, &filter.netns) {
        Err(why) if filter.netns == Which::Own && why.is::<NamespacesUnknown>() => attached(hook, &Which::All),
        kernel => kernel,
    })?;
    for words in kernel.unknown() {
        log::warn!("{words}");
    }
    let (netns, namespaces) = scope;
    if netns != filter.netns {
        let _ = writeln!(
            io::stderr(),
            "tcpwatch: looking at all network namespaces: without usable BTF the classic hook cannot tell them apart"
        );
    }
    Ok(Watched {
        kernel,
        filter: wanted,
        netns,
        namespaces,
    })
}

/// The kernel side, and what it looks at.
pub(super) struct Watched {
    pub(super) kernel: Kernel,
    pub(super) filter: Filter,
    pub(super) netns: Which,
    pub(super) namespaces: Vec<Namespace>,
}

/// How often a reader of the stream comes by unasked: half of the 100 ms that output may be late.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Says on stderr which of the owners of the sockets that listen already could not be `told`, and why.
pub(super) fn warn_of_listeners(told: &Result<Unseen>) {
    match told.as_ref().map(words::some_unseen) {
        Ok(None) => {}
        Ok(Some(words)) => log::warn!("{words}"),
        Err(why) => log::warn!("whose the listeners there are is unknown: {why:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_found_no_room_is_told_with_what_to_do() {
        let mut ledger: Ledger = bytemuck::Zeroable::zeroed();
        assert_eq!(no_room(&ledger, Some(Hook::TpBtf)), [""; 0]);
        ledger.unremembered = 1234;
        for (hook, remedy) in [
            (Hook::TpBtf, "net.core.optmem_max"),
            (Hook::Tracepoint, "--hook tp_btf"),
        ] {
            let words = no_room(&ledger, Some(hook));
            assert_eq!(words.len(), 1);
            assert!(
                words[0].contains("1,234 transitions") && words[0].contains(remedy),
                "{words:?}"
            );
        }
        (ledger.unremembered, ledger.unkept_owners) = (0, 7);
        let words = no_room(&ledger, Some(Hook::TpBtf));
        assert_eq!(words.len(), 1);
        assert!(
            words[0].starts_with("who accepted 7 connections is unknown"),
            "{words:?}"
        );
    }
}
