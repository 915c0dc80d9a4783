//! What happened so rarely that it is worth knowing, and no more.

use super::format::DAY;
use crate::input::counter::Counter;
use crate::input::host::HostFrame;

/// Of so many connections less than one: a burst now and then.
const ONE_IN: u64 = 10_000;

/// The same in words.
pub(super) const RARE: &str = "less than once a day, or less than one in 10,000 connections: nothing worth a change";

/// True if fewer than 1 in 10,000 connections were affected, or fewer than 1 a day. `count` were affected, and `among` counts the
/// connections. False if neither rate is known.
pub(super) fn is_rare(frame: &HostFrame, count: u64, among: &[Counter]) -> bool {
    let connections = among.iter().filter_map(|&counter| frame.counter(counter));
    let connections = connections.fold(0, u64::saturating_add);
    let seldom = frame
        .counted_s()
        .is_some_and(|seconds| u128::from(count) * u128::from(DAY) < u128::from(seconds));
    count > 0 && (count < connections / ONE_IN || seldom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::counter::CounterValues;

    #[test]
    fn what_is_rare_is_so_by_time_or_by_connections() {
        let mut frame = HostFrame {
            first: true,
            uptime_s: Some(10 * DAY),
            counters: CounterValues::read(|_| Some(100_000)),
            ..HostFrame::default()
        };
        let among = [Counter::ActiveOpens, Counter::PassiveOpens];
        assert!(is_rare(&frame, 9, &[]) && !is_rare(&frame, 10, &[]) && !is_rare(&frame, 0, &[]));
        assert!(is_rare(&frame, 19, &among) && !is_rare(&frame, 20, &among));
        // How long a younger namespace counts is not known.
        frame.first = false;
        assert!(!is_rare(&frame, 1, &[]) && is_rare(&frame, 19, &among));
        frame.counters = CounterValues::default();
        assert!(!is_rare(&frame, 1, &among));
    }
}
