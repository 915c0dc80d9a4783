//! When a run ends: by a signal, or after the time given.

use std::future::{pending, poll_fn};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::sys::{caps, signals, threads};

/// How long a command has for its end before a further signal ends it at once.
const GRACE: Duration = Duration::from_secs(5);

/// A reason to end: a signal ([`signals::ENDING`]), or the time given by `--duration`.
pub(crate) struct RunEnd {
    stop_receiver: oneshot::Receiver<()>,
    /// Whether there is something to say yet.
    begun: Arc<AtomicBool>,
    duration: Option<Duration>,
    /// `duration` after it was first waited for: loading the kernel side takes none of it.
    deadline: Option<Instant>,
}

impl RunEnd {
    /// Takes over the signals, so that none ends the program before it has printed its last; before [`RunEnd::begin`] one ends it at
    /// once, with code 1.
    ///
    /// They are heard on a thread of their own, and on no other: the kernel gives up verifying a program on a thread that has a signal
    /// to take (`EAGAIN`).
    pub(crate) fn new(duration: Option<Duration>) -> Result<Self> {
        let (stop_sender, stop_receiver) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let has_begun = Arc::clone(&begun);
        threads::spawn("signals", move || {
            caps::keep_none();
            let heard = super::block_on(async {
                let mut streams = signals::handled()
                    .map(|number| signal(SignalKind::from_raw(number)))
                    .collect::<io::Result<Vec<_>>>()?;
                let _ = ready.send(Ok(()));
                any(&mut streams).await;
                if !has_begun.load(Ordering::Relaxed) {
                    exit("stopped before anything was measured");
                }
                let first = Instant::now();
                if stop_sender.send(()).is_err() {
                    // The run is over.
                    return Ok(());
                }
                while first.elapsed() < GRACE {
                    any(&mut streams).await;
                }
                exit("stopped by a further signal before the end; the rest of the output is lost")
            });
            if let Err(error) = heard {
                let _ = ready.send(Err(error));
            }
        })?;
        is_ready.recv().context("cannot take over the signals")??;
        signals::block_in_this_thread();
        Ok(Self {
            stop_receiver,
            begun,
            duration,
            deadline: None,
        })
    }

    /// Says that the output begins, and is to have an end.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Counts the duration from now.
    pub(crate) fn count_from_now(&mut self) {
        self.deadline = self.duration.map(|time| Instant::now() + time);
    }

    /// Waits for the end.
    pub(crate) async fn wait(&mut self) {
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
            _ = &mut self.stop_receiver => {}
            () = deadline => {}
        }
    }
}

/// Waits for one of `signals`.
async fn any(signals: &mut [Signal]) {
    poll_fn(|context| {
        // Each is polled, so that each wakes this thread.
        let polled = signals.iter_mut().map(|signal| signal.poll_recv(context).is_ready());
        let came = polled.fold(false, |any, came| any | came);
        if came { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Ends the program at once.
fn exit(why: &str) -> ! {
    let _ = writeln!(io::stderr(), "tcpwatch: {why}");
    std::process::exit(1)
}
