//! What to do about churn: advice that follows from an interval's numbers, and none without them.

use std::net::IpAddr;

use super::churn::{ChurnFrame, Destination, Opener};
use super::counter::Counter;
use super::ending::Ending;
use super::owner::Process;
use super::ports::ends::Ends;

/// Connections a second from which one opener is worth a word.
const BUSY_PER_S: f64 = 10.0;
/// Of all connections opened, the part from which it is the culprit.
const SHARE: f64 = 0.25;
/// Connections that live shorter than this are opened for one request or few, ns.
const SHORT_NS: u64 = 1_000_000_000;
/// Of the ports, the part taken from which they run low.
const LOW: f64 = 0.8;

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remedy {
    /// This process opens connections there for a request or few each: keep them, or pool them.
    Reuse {
        /// Who.
        process: Process,
        /// Where to.
        destination: Destination,
    },
    /// This peer does it, to this port of ours: keep-alive, on both sides.
    KeepAlive {
        /// Who.
        peer: IpAddr,
        /// Where to.
        destination: Destination,
    },
    /// Local ports of this source address run out, for bind(2) takes them, each for one destination alone.
    BindWithoutPort {
        /// This side's address.
        source: IpAddr,
    },
    /// Local ports to there run out, held by TIME_WAIT, for this side closes first.
    CloseThere {
        /// Between what.
        ends: Ends,
    },
    /// Local ports to there run out, held by open connections.
    FewerConnections {
        /// Between what.
        ends: Ends,
    },
    /// Connects found no local port.
    MorePorts {
        /// How many.
        failed: u64,
    },
    /// An accept queue was full: accept faster, or make it longer.
    Backlog {
        /// How many connections found it full.
        overflows: u64,
    },
}

/// What to do about `frame`, the worst first.
#[must_use]
pub fn advise(frame: &ChurnFrame) -> Vec<Remedy> {
    let mut advice = Vec::new();
    let failed = frame.failed.get(Ending::NoPort);
    for row in frame.ports.iter().flatten() {
        let low = row
            .range
            .zip(row.free)
            .is_some_and(|(range, free)| real(free) <= (1.0 - LOW) * f64::from(range));
        if low || row.exhausted_in_s.is_some() {
            advice.push(if row.ends.destination.is_none() {
                Remedy::BindWithoutPort {
                    source: row.ends.source,
                }
            } else if 2 * row.time_wait >= row.used {
                Remedy::CloseThere { ends: row.ends }
            } else {
                Remedy::FewerConnections { ends: row.ends }
            });
        }
    }
    if failed > 0 && advice.is_empty() {
        advice.push(Remedy::MorePorts { failed });
    }
    let opened = real(frame.opened());
    for route in &frame.routes {
        let Some(destination) = route.destination else { continue };
        let mine = real(route.tally.opened);
        let busy = mine >= BUSY_PER_S * frame.stat.interval_s && mine >= SHARE * opened;
        let short = route.tally.lifetime.quantile(0.9).is_some_and(|ns| ns < SHORT_NS);
        if !busy || !short {
            continue;
        }
        match route.opener {
            Opener::Here(Some(process)) => advice.push(Remedy::Reuse { process, destination }),
            Opener::Peer(peer) => advice.push(Remedy::KeepAlive { peer, destination }),
            Opener::Here(None) => {}
        }
    }
    if let Some(overflows) = frame
        .stat
        .counters
        .get(Counter::ListenOverflows)
        .filter(|&overflows| overflows > 0)
    {
        advice.push(Remedy::Backlog { overflows });
    }
    advice
}

/// `count` as a real number.
#[expect(clippy::cast_precision_loss, reason = "for a comparison with a part of it")]
fn real(count: u64) -> f64 {
    count as f64
}
