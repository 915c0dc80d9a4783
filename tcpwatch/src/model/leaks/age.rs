//! The least age of a socket whose entry into its state was not seen, by what the kernel shows of it.
//!
//! In `CLOSE_WAIT` and `FIN_WAIT2` that is the time since the last ACK came, for what brought it into the state was one. In `SYN_SENT`
//! and `LAST_ACK` it is how long the SYN or the FIN, sent on the way into the state, has been sent again. In `ESTABLISHED` it is the time
//! since data moved.

use tcpwatch_common::TcpState;

use crate::input::socket::{Detail, Retransmissions};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
/// How much the kernel's clock may be ahead, ns: it counts ticks, of which there are 100 a second at least.
pub(super) const TICK_NS: u64 = 10_000_000;
/// Where a segment could not even be sent, it is tried again after this time (`TCP_RESOURCE_PROBE_INTERVAL`, include/net/tcp.h), ns.
const RESOURCE_PROBE_NS: u64 = 500_000_000;

/// The least time that the socket has been in its state, ns; 0 where nothing is known.
pub(super) fn at_least_ns(detail: &Detail) -> u64 {
    let ns = match detail.socket.state {
        TcpState::CloseWait | TcpState::FinWait2 => detail.last_ack_ms.map_or(0, |ms| u64::from(ms) * MILLISECOND),
        TcpState::Established => return idle_ns(detail).unwrap_or(0),
        TcpState::SynSent => detail.retransmissions.map_or(0, unanswered_ns),
        // A FIN takes one number. Where more is not acknowledged, it may be data that was sent again before there was a FIN.
        TcpState::LastAck if detail.send_queue == Some(1) => detail.retransmissions.map_or(0, unanswered_ns),
        _ => 0,
    };
    ns.saturating_sub(TICK_NS)
}

/// How long ago data moved last in an established connection, either way, ns; `None` where the source does not show it.
pub(super) fn idle_ns(detail: &Detail) -> Option<u64> {
    // What is sent again and again does not move (`tcp_event_data_sent` counts it too).
    let sends = detail.retransmissions.is_none_or(|again| again.times == 0);
    let sent_ms = detail.last_sent_ms.filter(|_| sends);
    let moved_ms = sent_ms.into_iter().chain(detail.last_received_ms).min();
    moved_ms.map(|ms| u64::from(ms) * MILLISECOND)
}

/// How long ago, at least, the segment was first sent that was sent again so often, ns.
fn unanswered_ns(again: Retransmissions) -> u64 {
    if again.times == 0 {
        return 0;
    }
    // The time between two was doubled no more often than that; the first few of a SYN may not be (tcp_syn_linear_timeouts). Doubled
    // by earlier segments too, or up to its limit, the first was longer.
    let doubled = u32::from(again.backoff.min(again.times));
    let not_doubled = u64::from(again.times) - u64::from(doubled);
    let rto_ns = u64::from(again.rto_us) * MICROSECOND;
    let first_ns = rto_ns.checked_shr(doubled).unwrap_or(0);
    let by_times_ns = (rto_ns - first_ns).saturating_add(not_doubled.saturating_mul(first_ns.min(RESOURCE_PROBE_NS)));
    let since_first = again.since_first_ms.map(|ms| u64::from(ms) * MILLISECOND);
    by_times_ns.max(since_first.map_or(0, |ns| ns + first_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::leaks::tests::socket;

    fn ms(detail: &Detail) -> u64 {
        at_least_ns(detail) / MILLISECOND
    }

    fn again(times: u8, backoff: u8, rto_ms: u32, since_first_ms: Option<u32>) -> Retransmissions {
        Retransmissions {
            times,
            backoff,
            rto_us: rto_ms * 1000,
            since_first_ms,
        }
    }

    fn in_state(state: TcpState, retransmissions: Retransmissions) -> Detail {
        Detail {
            send_queue: Some(1),
            retransmissions: Some(retransmissions),
            last_ack_ms: Some(77_000),
            ..socket(state, 1).detail
        }
    }

    #[test]
    fn a_syn_is_as_old_as_it_was_sent_again() {
        let syn =
            |times, backoff, rto_ms, first| ms(&in_state(TcpState::SynSent, again(times, backoff, rto_ms, first)));
        assert_eq!(
            syn(0, 0, 1000, None),
            0,
            "a segment that was not sent again shows no least age"
        );
        // 1, 2, 4, 8 s, as before 6.5; less a tick.
        assert_eq!(
            [1, 2, 3, 4].map(|n| syn(n, n, 1000 << n, None)),
            [990, 2990, 6990, 14_990]
        );
        // Four at 1 s each, then doubled: since each may have been at 500 ms, for want of room to send.
        assert_eq!(
            [syn(2, 0, 1000, None), syn(4, 0, 1000, None), syn(6, 2, 4000, None)],
            [990, 1990, 4990]
        );
        // Where the kernel shows since when (6.7): exactly.
        assert_eq!([syn(1, 0, 1000, Some(788)), syn(6, 2, 4000, Some(6193))], [1778, 7183]);
        assert_eq!(syn(3, 1, 10, Some(0)), 15 - 10, "a shorter first time");
        assert_eq!(
            syn(15, 15, 120_000, None),
            120_000 - 4 - 10,
            "doubled no further than its limit"
        );
    }

    #[test]
    fn a_fin_is_told_from_data() {
        let fin = in_state(TcpState::LastAck, again(3, 3, 1632, Some(1384)));
        assert_eq!(ms(&fin), 1384 + 204 - 10);
        let doubled_before = in_state(TcpState::LastAck, again(1, 4, 3200, None));
        assert_eq!(ms(&doubled_before), 1600 - 10);
        for send_queue in [None, Some(0), Some(2)] {
            assert_eq!(ms(&Detail { send_queue, ..fin }), 0, "{send_queue:?}");
        }
    }

    #[test]
    fn the_others_are_as_old_as_the_last_ack() {
        for state in [TcpState::CloseWait, TcpState::FinWait2] {
            let detail = in_state(state, again(3, 3, 1632, Some(1384)));
            assert_eq!(ms(&detail), 76_990);
            assert_eq!(
                ms(&Detail {
                    last_ack_ms: None,
                    ..detail
                }),
                0
            );
        }
    }

    #[test]
    fn nothing_that_a_kernel_may_tell_overflows() {
        let most = Retransmissions {
            rto_us: u32::MAX,
            ..again(u8::MAX, 0, 0, Some(u32::MAX))
        };
        for backoff in [0, 1, 200, u8::MAX] {
            let detail = in_state(TcpState::SynSent, Retransmissions { backoff, ..most });
            assert!(at_least_ns(&detail) > 0);
        }
    }
}
