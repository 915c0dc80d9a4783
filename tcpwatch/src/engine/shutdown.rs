//! When a run ends: by a signal, or after the time given.

use std::future::{pending, poll_fn};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::sys::{signals, threads};

/// How long a command may take to print its last, once it is to end.
const GRACE: Duration = Duration::from_secs(2);

/// A reason to end: a signal ([`signals::ENDING`]), or the time given by `--duration`.
pub(crate) struct Shutdown {
    told: oneshot::Receiver<()>,
    /// Whether there is something to say yet.
    begun: Arc<AtomicBool>,
    /// Moves as long as the end is being told.
    progress: Arc<AtomicU64>,
    duration: Option<Duration>,
    /// `duration` after it was first waited for: loading the kernel side takes none of it.
    deadline: Option<tokio::time::Instant>,
}

impl Shutdown {
    /// Takes over the signals, so that none ends the program before it has printed its last; before [`Shutdown::begin`] one ends it at
    /// once, with code 1.
    ///
    /// They are heard on a thread of their own, and on no other: where nobody reads our output, writing it waits for ever, and
    /// the kernel gives up verifying a program on a thread that has a signal to take (`EAGAIN`).
    pub(crate) fn new(duration: Option<Duration>) -> Result<Self> {
        let (tell, told) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let progress = Arc::new(AtomicU64::new(0));
        let begun = Arc::new(AtomicBool::new(false));
        let (seen, has_begun) = (Arc::clone(&progress), Arc::clone(&begun));
        threads::spawn("signals", move || {
            let heard = super::block_on(async {
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
            if tell.send(()).is_err() {
                // The run is over.
                return;
            }
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
        self.deadline = self.duration.map(|time| tokio::time::Instant::now() + time);
    }

    /// Says that something was read, or the output took something: a command with much to say at its end is let say it.
    pub(crate) fn progressed(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
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
            _ = &mut self.told => {}
            () = deadline => {}
        }
    }
}
