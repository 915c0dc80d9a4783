//! A steady stream of connections, until told to stop.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::Socket;

use crate::support::clock::{now, pass};
use crate::support::sockets::{Pair, listen, pair, read_eof};

/// Destinations, so that no source port is wanted twice within the life of a timewait socket.
const DESTINATIONS: u8 = 16;
/// Connections kept open behind the newest, so that there is always something in ESTABLISHED.
const OPEN: usize = 300;

/// Connections at a steady rate, each open for a moment, half of them closed by the client first.
pub(crate) struct Generator {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicI64>,
    thread: Option<JoinHandle<Traffic>>,
}

/// What is there when it has stopped; all else is in `TIME_WAIT`.
pub(crate) struct Traffic {
    /// Connections made.
    pub(crate) made: i64,
    open: VecDeque<Pair>,
    listeners: Vec<Socket>,
}

impl Generator {
    /// Starts it in the network namespace of the calling thread.
    pub(crate) fn start(per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let made = Arc::new(AtomicI64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&made));
        let thread = Some(thread::spawn(move || run(per_second, &stopped, &count)));
        Self { stop, made, thread }
    }

    /// Connections made so far.
    pub(crate) fn made(&self) -> i64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Stops it; what was open then is open still.
    pub(crate) fn stop(mut self) -> Traffic {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("stopped once").join().expect("the generator")
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, is not news when the test is failing already.
            drop(thread.join());
        }
    }
}

impl Traffic {
    /// Connections open, each two sockets.
    pub(crate) fn open(&self) -> i64 {
        i64::try_from(self.open.len()).expect("few")
    }

    /// Listeners.
    pub(crate) fn listening(&self) -> i64 {
        i64::try_from(self.listeners.len()).expect("few")
    }
}

fn run(per_second: u32, stop: &AtomicBool, made: &AtomicI64) -> Traffic {
    let listeners: Vec<Socket> = (1..=DESTINATIONS)
        .map(|host| listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, host)), 0), 128))
        .collect();
    let mut open = VecDeque::with_capacity(OPEN + 1);
    let start = now();
    let mut turn: u32 = 0;
    while !stop.load(Ordering::Relaxed) {
        // Ahead of the rate: wait. Behind it: as fast as it goes.
        let due = Duration::from_secs(turn.into()) / per_second;
        if let Some(early) = due.checked_sub(start.elapsed()) {
            pass(early);
        }
        open.push_back(pair(&listeners[turn as usize % listeners.len()]));
        if open.len() > OPEN {
            close(open.pop_front().expect("many are open"), turn.is_multiple_of(2));
        }
        turn += 1;
        made.store(turn.into(), Ordering::Relaxed);
    }
    Traffic {
        made: turn.into(),
        open,
        listeners,
    }
}

/// Closes both ends, so that one goes through `TIME_WAIT`.
fn close(Pair { client, server }: Pair, client_first: bool) {
    let (first, second) = if client_first {
        (client, server)
    } else {
        (server, client)
    };
    drop(first);
    read_eof(&second);
}
