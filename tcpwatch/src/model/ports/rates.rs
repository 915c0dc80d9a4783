//! How often something happens a second, of late.

use super::time_wait_ages::{share, whole};
use super::{SECOND_NS, Seconds, TIME_WAIT_S};

/// Seconds of the clock that are looked at in any case, the one under way among them: two to three seconds.
const FEWEST: usize = 3;

/// And at most: a minute, and the one under way.
const MOST: usize = TIME_WAIT_S + 1;

/// Standard deviations by which two stretches of one rate may differ.
const DEVIATIONS: f64 = 3.5;

/// Clients are less regular than events that come at random times: the share by which one second differs from the next besides.
const UNEVEN: f64 = 0.2;

/// Events a second, of each of `series`, that came since `since_ns` to `now_ns`, and the stretch that tells, s.
///
/// The longer the stretch the rates are taken over, the less chance is in them; but a rate that changed is only told by what
/// came after. So the stretch is made longer, from two seconds to a minute, until some rate was another before: in the
/// second before, or in a longer while of which no single second tells. All are taken over the same stretch, so that their
/// differences are what happened in it. A rate is known from a second on; before, it is as if that second were over.
pub(super) fn rates<const N: usize>(series: [&Seconds; N], since_ns: u64, now_ns: u64) -> ([f64; N], f64) {
    let now = Seconds::slot(now_ns);
    let since = Seconds::slot(since_ns);
    let elapsed = share(now_ns);
    let seen_s = whole(now_ns.saturating_sub(since_ns)) / whole(SECOND_NS);
    // How long the latest so many seconds of the clock are, and what happened in them.
    let mut length = elapsed - 1.0;
    let lengths = [(); MOST + 1].map(|()| {
        let seconds = length.min(seen_s).max(1.0);
        length += 1.0;
        seconds
    });
    let events = series.map(|series| {
        let (mut events, mut back) = (0.0, 0);
        [(); MOST + 1].map(|()| {
            let so_far = events;
            let slot = now.checked_sub(back).filter(|&slot| slot >= since);
            events += slot.map_or(0.0, |slot| f64::from(series.get(slot)));
            back += 1;
            so_far
        })
    });
    let seconds = (FEWEST..MOST)
        .take_while(|&seconds| lengths[seconds] < seen_s)
        .find_map(|seconds| change(&events, &lengths, seconds + 1));
    let seconds = seconds.unwrap_or(MOST);
    (
        events.map(|events| events[seconds] / lengths[seconds]),
        lengths[seconds],
    )
}

/// Where in the latest `seconds` a rate changed, as the last of them tells, or the last two, four and so on.
fn change(events: &[[f64; MOST + 1]], lengths: &[f64; MOST + 1], seconds: usize) -> Option<usize> {
    let whiles = [1, 2, 4, 8, 16].into_iter();
    let mut starts = whiles
        .map(|older| seconds.saturating_sub(older))
        .filter(|&newer| newer >= FEWEST);
    starts.find(|&newer| {
        let (newer_s, older_s) = (lengths[newer], lengths[seconds] - lengths[newer]);
        let goes_on = |events: &[f64; MOST + 1]| {
            let older = events[seconds] - events[newer];
            is_one_rate(events[newer], newer_s, older, older_s)
        };
        older_s > 0.0 && !events.iter().all(goes_on)
    })
}

/// Whether `newer` events in `newer_s` seconds and `older` ones in `older_s` may have come at one rate.
fn is_one_rate(newer: f64, newer_s: f64, older: f64, older_s: f64) -> bool {
    let rate = (newer + older) / (newer_s + older_s);
    let variance_of_a_second = rate + (UNEVEN * rate).powi(2);
    let deviation = (variance_of_a_second / newer_s + variance_of_a_second / older_s).sqrt();
    (newer / newer_s - older / older_s).abs() <= DEVIATIONS * deviation
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums and shares of small whole numbers are exact")]
mod tests {
    use super::*;

    const S: u64 = SECOND_NS;

    /// So many events in each second from 1,000 s on, evenly.
    fn seconds(counts: &[u64]) -> Seconds {
        let mut seconds = Seconds::default();
        for (second, &count) in (1000..).zip(counts) {
            for event in 0..count {
                seconds.add(second * S + event * S / count);
            }
        }
        seconds
    }

    fn rate(counts: &[u64], now_ns: u64) -> f64 {
        rates([&seconds(counts)], 1000 * S, now_ns).0[0]
    }

    #[test]
    fn a_constant_rate_is_found_from_the_first_second_on() {
        for (each, within) in [(10, 0.5), (17, 0.5), (200, 0.2)] {
            let counts = [each; 90];
            for tenth in 10..900 {
                let now_ns = 1000 * S + tenth * S / 10;
                let so_far: Vec<u64> = counts[..usize::try_from(tenth / 10).unwrap()].to_vec();
                if tenth % 10 == 0 {
                    let rate = rate(&so_far, now_ns);
                    assert!((rate - whole(each)).abs() <= within, "{tenth}: {rate}");
                }
            }
        }
    }

    #[test]
    fn in_the_middle_of_a_second_it_is_known_too() {
        let mut counts = vec![100; 20];
        counts.push(40);
        let rate = rate(&counts, 1020 * S + 4 * S / 10);
        assert!((rate - 100.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn the_first_moments_are_no_rate() {
        assert_eq!(rate(&[50], 1000 * S + S / 100), 50.0);
        assert_eq!(rate(&[], 1000 * S), 0.0);
    }

    #[test]
    fn a_step_is_found_after_four_seconds() {
        for (before, after) in [(5, 40), (40, 5), (0, 30), (100, 300), (300, 100)] {
            let mut counts = vec![before; 70];
            for second in 1..=60u64 {
                counts.push(after);
                let rate = rate(&counts, (1070 + second) * S);
                let off = (rate - whole(after)).abs() / whole(after);
                assert!(second < 4 || off < 0.2, "{before} to {after}, {second} s: {rate}");
            }
        }
    }

    #[test]
    fn one_that_stopped_is_over() {
        let mut counts = vec![100; 30];
        counts.extend([0; 4]);
        assert_eq!(rate(&counts, 1034 * S), 0.0);
    }

    #[test]
    fn a_rate_that_changed_shortens_the_stretch_of_all() {
        let opened = seconds(&[30; 60]);
        let mut freed = vec![0; 50];
        freed.extend([15; 10]);
        let ([opened, freed], _) = rates([&opened, &seconds(&freed)], 1000 * S, 1060 * S);
        assert_eq!((opened, freed), (30.0, 15.0));
    }

    #[test]
    fn any_time_is_survived() {
        let counts = [5; 10];
        for (since_ns, now_ns) in [
            (0, 0),
            (u64::MAX, 0),
            (0, u64::MAX),
            (u64::MAX, u64::MAX),
            (2000 * S, 1005 * S),
        ] {
            let rate = rates([&seconds(&counts)], since_ns, now_ns).0[0];
            assert!((0.0..=50.0).contains(&rate), "{rate}");
        }
    }
}
