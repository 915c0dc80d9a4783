//! How often something is sent again before it is given up: `tcp_retries1`, `tcp_retries2`, `tcp_syn_retries`, `tcp_synack_retries`.

use super::format::{long, told};
use super::verdict::Verdict;
use crate::input::counter::Counter;
use crate::input::host::HostFrame;
use crate::input::setting::Setting;

/// RFC 1122, 4.2.3.5, wants 100 s at least, which are so many retries of the shortest timeout.
const RFC1122: u64 = 8;
/// The longest timeout, s (`TCP_RTO_MAX`).
const RTO_MAX_S: u64 = 120;
/// The shortest, ms (`TCP_RTO_MIN`).
const RTO_MIN_MS: u64 = 200;
/// Doublings of the shortest that stay below the longest (`tcp_model_timeout`).
const DOUBLINGS: u64 = 9;

/// How long connect(2) tries, s, with so many `retries`, and so many before them that come a second apart, as those of Linux 6.5 and
/// later do (`tcp_syn_linear_timeouts`).
///
/// The timer ends it when all were sent, or when as much time is over as the retries alone would take (`tcp_write_timeout`).
fn connect_s(retries: u64, linear: u64) -> u64 {
    let (retries, linear) = (retries.min(255), linear.min(255));
    let enough_s = handshake_s(retries);
    let (mut now_s, mut wait_s) = (0, 1);
    for sent in 0.. {
        now_s += wait_s;
        if sent >= retries + linear || (sent > 0 && now_s >= enough_s) {
            break;
        }
        if sent >= linear {
            wait_s = (2 * wait_s).min(RTO_MAX_S);
        }
    }
    now_s
}

/// How long `retries` take where each waits twice as long as the one before, the first 1 s, s.
fn handshake_s(retries: u64) -> u64 {
    (0..=retries.min(255))
        .map(|retry| (1 << retry.min(63)).min(RTO_MAX_S))
        .sum()
}

/// How long `retries` take on a path of the shortest timeout, s (`tcp_model_timeout`).
const fn established_s(retries: u64) -> u64 {
    if retries <= DOUBLINGS {
        ((2 << retries) - 1) * RTO_MIN_MS / 1000
    } else {
        let more = retries.saturating_sub(DOUBLINGS).saturating_mul(RTO_MAX_S);
        more.saturating_add(((2 << DOUBLINGS) - 1) * RTO_MIN_MS / 1000)
    }
}

/// `net.ipv4.tcp_retries1`.
pub(super) fn first(_frame: &HostFrame) -> Verdict {
    Verdict::fine("then the route is looked up anew; no connection ends. Nothing to gain")
}

/// `net.ipv4.tcp_retries2`.
pub(super) fn second(frame: &HostFrame) -> Verdict {
    let counted = told(frame, Counter::TcpAbortOnTimeout);
    let verdict = match frame.number(Setting::TcpRetries2) {
        Some(retries) if retries < RFC1122 => Verdict::note(format!(
            "gives up {} after nothing was acknowledged, and RFC 1122 wants 100 s at least: {counted}, connects that timed out \
             among them, so that whether it hurts here cannot be said",
            long(established_s(retries))
        )),
        Some(retries) => Verdict::fine(format!(
            "gives up after {} or more without an ACK: {counted}, connects that timed out among them. Fewer end it sooner, not \
             less often",
            long(established_s(retries))
        )),
        None => Verdict::fine(counted),
    };
    verdict.counters(&[Counter::TcpAbortOnTimeout])
}

/// `net.ipv4.tcp_syn_retries`.
pub(super) fn syn(frame: &HostFrame) -> Verdict {
    let counted = told(frame, Counter::TcpSynRetrans);
    let words = match frame.number(Setting::TcpSynRetries) {
        Some(retries) => format!(
            "connect() gives up after {}; {counted}, SYN-ACKs among them. Fewer fail sooner, not less often",
            long(connect_s(retries, frame.syn_linear_timeouts.unwrap_or(0)))
        ),
        None => counted,
    };
    Verdict::fine(words).counters(&[Counter::TcpSynRetrans, Counter::AttemptFails])
}

/// `net.ipv4.tcp_synack_retries`.
pub(super) fn synack(frame: &HostFrame) -> Verdict {
    let counted = told(frame, Counter::TcpSynRetrans);
    let words = match frame.number(Setting::TcpSynackRetries) {
        Some(retries) => format!(
            "keeps a half-open connection for {}; {counted}, SYNs among them. Nothing to gain",
            long(handshake_s(retries))
        ),
        None => counted,
    };
    Verdict::fine(words).counters(&[Counter::TcpSynRetrans])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The timer goes off at 1, 2, 3, 4, 5, 7, 11, 19, 35, 67 and 131 s, and ends it at the first of them that is late enough.
    #[test]
    fn a_connect_gives_up_when_all_is_sent_or_as_much_time_is_over() {
        let given_up = [1, 2, 3, 4, 5, 6].map(|retries| connect_s(retries, 4));
        assert_eq!(given_up, [3, 7, 19, 35, 67, 131]);
    }

    /// The figures of ip-sysctl.rst.
    #[test]
    fn retries_take_as_long_as_the_kernel_says() {
        assert_eq!(handshake_s(6), 127);
        assert_eq!(handshake_s(5), 63);
        assert_eq!(handshake_s(0), 1);
        assert_eq!(handshake_s(8), 127 + 120 + 120);
        assert_eq!((established_s(15), established_s(8), established_s(3)), (924, 102, 3));
        assert_eq!([6, 2, 1].map(|retries| connect_s(retries, 0)), [127, 7, 3]);
        assert!(connect_s(u64::MAX, u64::MAX) > 0 && handshake_s(u64::MAX) > 0 && established_s(u64::MAX) > 0);
    }
}
