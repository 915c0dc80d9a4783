//! Each verdict's condition, their precedence, and that whatever happens the condition of a verdict holds when it is given.

use std::num::{NonZeroU16, NonZeroU64};

use proptest::prelude::*;
use tcpwatch_common::TcpState;

use super::*;
use crate::input::Transition;
use crate::input::socket::Address;
use crate::model::leaks::tests::{event, scan, socket};
use crate::model::leaks::{Age, Closings, Key, Leaks, Side, possible_states};

const OLDER: u64 = 20 * SECOND;
/// Twice that.
const WINDOW: u64 = 40 * SECOND;
const START: u64 = 10_000 * SECOND;

/// Ten sockets in `CLOSE_WAIT`, 100 s old and watched for as long, at a port of this host.
fn leaking() -> Group {
    let key = Key {
        netns: 7,
        pid: None,
        side: Side::Passive(80),
        state: TcpState::CloseWait,
        orphans: false,
    };
    let age = Age {
        ns: 100 * SECOND,
        at_least: false,
    };
    Group {
        in_state: 10,
        sockets: 10,
        oldest: age,
        watched_ns: Some(100 * SECOND),
        growth: Some(Growth {
            last_ns: 100 * SECOND,
            lasted_ns: 0,
        }),
        ..Group::new(key)
    }
}

/// The same, of connections that this host opened.
fn opened_here() -> Group {
    let mut group = leaking();
    group.key.side = Side::Active(Address::new([10, 0, 0, 2].into(), 0), 80);
    group
}

fn closed(ago_s: u64, took_s: u64) -> (Option<u64>, Closings) {
    let closings = Closings {
        late: 1,
        late_ns: Some([took_s * SECOND; 2]),
        ..Closings::default()
    };
    (Some(ago_s * SECOND), closings)
}

/// The verdict on `group` after `change`, and how many seconds more it is undecided.
fn judged(mut group: Group, change: impl Fn(&mut Group)) -> (Verdict, Option<u64>) {
    change(&mut group);
    let (verdict, more_ns) = judge(&group, OLDER);
    (verdict, more_ns.map(|ns| ns / SECOND))
}

fn close_late(group: &mut Group) {
    (group.last_late_ns, group.closings) = closed(39, 25);
}

const fn undecided(more_s: u64) -> (Verdict, Option<u64>) {
    (Verdict::Undecided, Some(more_s))
}

const LEAK: (Verdict, Option<u64>) = (Verdict::Leak, None);
const SLOW: (Verdict, Option<u64>) = (Verdict::Slow, None);
const UNREAD: (Verdict, Option<u64>) = (Verdict::Unread, None);
const YOUNG: (Verdict, Option<u64>) = (Verdict::Young, None);
const KERNEL: (Verdict, Option<u64>) = (Verdict::Kernel, None);
const POOL: (Verdict, Option<u64>) = (Verdict::Pool, None);

#[test]
fn a_leak_takes_a_window_without_a_close() {
    let of = |change: fn(&mut Group)| judged(leaking(), change);
    assert_eq!(of(|_| {}), LEAK);
    assert_eq!(of(|group| group.watched_ns = None), undecided(40), "a single scan");
    assert_eq!(of(|group| group.watched_ns = Some(39 * SECOND)), undecided(1));
    assert_eq!(of(|group| group.watched_ns = Some(WINDOW)), LEAK);
    assert_eq!(of(|group| group.oldest.ns = 25 * SECOND), undecided(15));
    assert_eq!(of(|group| group.sockets = 0), YOUNG);
    assert_eq!(of(|group| (group.sockets, group.watched_ns) = (0, None)), YOUNG);
}

#[test]
fn a_late_close_makes_it_slow_for_a_window() {
    let after = |ago_s, took_s| {
        judged(leaking(), |group| {
            (group.last_late_ns, group.closings) = closed(ago_s, took_s);
        })
    };
    assert_eq!([after(39, 25), after(40, 25)], [SLOW, LEAK]);
    assert_eq!(
        [after(89, 90), after(95, 90)],
        [SLOW, LEAK],
        "the window is as long as it took"
    );
    assert_eq!(after(140, 130), undecided(30), "it is not as old as what was closed");
    assert_eq!(after(700, 3600), undecided(500), "but no longer than 10 minutes");
    let short = |group: &mut Group| {
        close_late(group);
        group.watched_ns = Some(SECOND);
    };
    assert_eq!(judged(leaking(), short), SLOW, "it is known at once");
    let none_left = |group: &mut Group| {
        close_late(group);
        group.sockets = 0;
    };
    assert_eq!(judged(leaking(), none_left), SLOW);
}

#[test]
fn unread_data_comes_before_all_but_the_kernel() {
    let of = |change: fn(&mut Group)| judged(leaking(), change);
    assert_eq!(of(|group| group.unread = 6), UNREAD);
    assert_eq!(of(|group| group.unread = 5), LEAK, "half of them");
    assert_eq!(
        of(|group| (group.unread, group.watched_ns) = (6, Some(19 * SECOND))),
        undecided(1)
    );
    let slow = |group: &mut Group| {
        close_late(group);
        group.unread = 6;
    };
    assert_eq!(judged(leaking(), slow), UNREAD);
    assert_eq!(
        of(|group| (group.unread, group.key.state) = (6, TcpState::SynSent)),
        KERNEL
    );
}

#[test]
fn what_the_kernel_ends_is_nobodys_leak() {
    let of = |change: fn(&mut Group)| judged(leaking(), change);
    assert_eq!(of(|group| group.key.state = TcpState::SynSent), KERNEL);
    assert_eq!(of(|group| group.key.state = TcpState::LastAck), KERNEL);
    assert_eq!(of(|group| group.key.orphans = true), KERNEL);
    let young = |group: &mut Group| {
        close_late(group);
        (group.sockets, group.key.state) = (0, TcpState::SynSent);
    };
    assert_eq!(judged(leaking(), young), YOUNG);
    let given_up = |group: &mut Group| {
        group.growth = leaking().growth;
        (group.sockets, group.oldest.ns, group.key.state) = (0, 0, TcpState::SynSent);
    };
    assert_eq!(judged(opened_here(), given_up), YOUNG, "a connect is no pool");
}

#[test]
fn a_pool_does_not_grow_and_is_used_within_10_minutes() {
    let of = |change: fn(&mut Group)| judged(opened_here(), change);
    let growth = |last_s: u64, lasted_s: u64| {
        Some(Growth {
            last_ns: last_s * SECOND,
            lasted_ns: lasted_s * SECOND,
        })
    };
    assert_eq!(of(|_| {}), POOL);
    assert_eq!(of(close_late), POOL, "one is closed now and then");
    assert_eq!(
        of(|group| (group.sockets, group.oldest.ns) = (0, 0)),
        POOL,
        "all are in use"
    );
    assert_eq!(of(|group| group.oldest.ns = POOL_NS), LEAK);
    assert_eq!(of(|group| group.unread = 1), LEAK);
    assert_eq!(
        judged(opened_here(), |group| group.growth = growth(39, 39)),
        undecided(1)
    );
    assert_eq!(judged(opened_here(), |group| group.growth = growth(1, 40)), LEAK);
    assert_eq!(
        of(|group| (group.watched_ns, group.growth) = (None, None)),
        undecided(40)
    );
}

#[test]
fn the_window_is_twice_t_and_30_s_at_least() {
    let windows = [1, 15, 30, 3600].map(|older_s| window_ns(older_s * SECOND, 0) / SECOND);
    assert_eq!(windows, [30, 30, 60, 7200]);
}

/// A state that the application ends, and the two that the kernel ends.
const STATES: [TcpState; 3] = [TcpState::CloseWait, TcpState::SynSent, TcpState::LastAck];

/// One step of what sockets do.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many seconds pass.
    Wait(u64),
    /// A socket enters this state; this host opened it or not, with or without unread data.
    Enter {
        state: TcpState,
        here: bool,
        unread: bool,
    },
    /// The socket with this place in the list is closed.
    Close(usize),
    Scan,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..15_u64).prop_map(Step::Wait),
        3 => (0..STATES.len(), any::<[bool; 2]>()).prop_map(|(state, [here, unread])| {
            let state = STATES[state];
            // Nobody opens this host's sockets in SYN_SENT from outside, and only CLOSE_WAIT has data to read.
            let (here, unread) = (here || state == TcpState::SynSent, unread && state == TcpState::CloseWait);
            Step::Enter { state, here, unread }
        }),
        2 => (0..8_usize).prop_map(Step::Close),
        6 => Just(Step::Scan),
    ]
}

/// A socket, as it is.
#[derive(Clone, Copy, Debug)]
struct Real {
    number: u16,
    state: TcpState,
    here: bool,
    unread: bool,
    entered_ns: u64,
}

impl Real {
    fn found(self) -> crate::input::socket_scan::ScannedSocket {
        let mut found = socket(self.state, self.number);
        if self.state == TcpState::LastAck {
            (found.detail.socket.inode, found.process) = (None, None);
            found.holders.clear();
        }
        if self.here {
            (found.detail.socket.lport, found.detail.socket.rport) = (self.number, 443);
        }
        found.detail.receive_queue = Some(if self.unread { 100 } else { 0 });
        found
    }

    fn moves(self, from: TcpState, to: TcpState, at_ns: u64) -> Transition {
        let mut moved = event(from, to, at_ns, self.number);
        if self.here {
            (moved.lport, moved.rport) = (NonZeroU16::new(self.number), NonZeroU16::new(443));
            moved.opened = Some(crate::input::Opened::Active);
        }
        moved.cookie = NonZeroU64::new(self.number.into());
        moved
    }
}

/// What happened to the sockets of one state and side.
#[derive(Default)]
struct Past {
    /// When sockets were closed that were stuck, and how old they were.
    closed_late: Vec<(u64, u64)>,
    /// When each scan was, and how many it found stuck.
    scans: Vec<(u64, u64)>,
}

/// Whether what is said of `group` at `now_ns` is so.
fn holds(group: &Group, past: &Past, there: &[Real], began_ns: u64, now_ns: u64) -> bool {
    let stuck: Vec<&Real> = there.iter().filter(|real| now_ns - real.entered_ns >= OLDER).collect();
    let oldest_ns = stuck.iter().map(|real| now_ns - real.entered_ns).max().unwrap_or(0);
    let unread = stuck.iter().filter(|real| real.unread).count();
    let slowest_ns = past.closed_late.iter().map(|&(_, took_ns)| took_ns).max().unwrap_or(0);
    let window_ns = window_ns(OLDER, slowest_ns);
    let closed_in_window = past.closed_late.iter().any(|&(at_ns, _)| now_ns - at_ns < window_ns);
    let (recent, old): (Vec<_>, Vec<_>) = past.scans.iter().partition(|&&(at_ns, _)| now_ns - at_ns < window_ns);
    let most = |scans: &[&(u64, u64)]| scans.iter().map(|&&(_, sockets)| sockets).max().unwrap_or(0);
    let grew = most(&recent) > most(&old);
    let numbers: Vec<u64> = old
        .last()
        .into_iter()
        .chain(&recent)
        .map(|&&(_, sockets)| sockets)
        .collect();
    let fell_only = numbers.is_sorted_by(|before, after| before >= after);
    if group.key.is_for_kernel() {
        let expected = if stuck.is_empty() {
            Verdict::Young
        } else {
            Verdict::Kernel
        };
        return group.verdict == expected;
    }
    match group.verdict {
        Verdict::Kernel => false,
        Verdict::Unread => unread * 2 > stuck.len() && now_ns - began_ns >= OLDER,
        Verdict::Pool => group.key.is_opened_here() && unread == 0 && !grew && oldest_ns < POOL_NS,
        Verdict::Slow => closed_in_window,
        Verdict::Young => stuck.is_empty(),
        Verdict::Undecided => {
            let is_short = now_ns - began_ns < window_ns || oldest_ns < window_ns;
            !stuck.is_empty() && group.more_ns > Some(0) && (is_short || !fell_only)
        }
        Verdict::Leak => {
            let is_watched = now_ns - began_ns >= window_ns && oldest_ns >= window_ns;
            !stuck.is_empty() && is_watched && !closed_in_window
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_condition_of_each_verdict_holds(steps in proptest::collection::vec(step(), 1..150)) {
        let mut leaks = Leaks::new(possible_states(), OLDER, true);
        let mut now_ns = START;
        let mut there: Vec<Real> = Vec::new();
        let sides: Vec<(TcpState, bool)> = STATES.into_iter().flat_map(|state| [(state, false), (state, true)]).collect();
        let mut past: Vec<Past> = sides.iter().map(|_| Past { scans: vec![(START, 0)], ..Past::default() }).collect();
        leaks.apply_scan(scan(now_ns, vec![]));
        for (number, step) in (1_000_u16..).zip(steps) {
            match step {
                Step::Wait(seconds) => now_ns += seconds * SECOND,
                Step::Enter { state, here, unread } => {
                    let real = Real { number, state, here, unread, entered_ns: now_ns };
                    leaks.apply_transition(&real.moves(TcpState::Closing, state, now_ns), true);
                    there.push(real);
                }
                Step::Close(place) if place < there.len() => {
                    let real = there.swap_remove(place);
                    let to = if real.state == TcpState::CloseWait { TcpState::LastAck } else { TcpState::Close };
                    leaks.apply_transition(&real.moves(real.state, to, now_ns), true);
                    let took_ns = now_ns - real.entered_ns;
                    let side = sides.iter().position(|&side| side == (real.state, real.here)).unwrap();
                    if took_ns >= OLDER {
                        past[side].closed_late.push((now_ns, took_ns));
                    }
                }
                Step::Close(_) => {}
                Step::Scan => {
                    leaks.start_scan();
                    leaks.apply_scan(scan(now_ns, there.iter().map(|real| real.found()).collect()));
                    let frame = leaks.frame(0, true, 0);
                    for (&(state, here), past) in sides.iter().zip(&mut past) {
                        let of_side: Vec<Real> =
                            there.iter().copied().filter(|real| (real.state, real.here) == (state, here)).collect();
                        let stuck = of_side.iter().filter(|real| now_ns - real.entered_ns >= OLDER).count() as u64;
                        past.scans.push((now_ns, stuck));
                        let mut groups = frame.groups.iter().filter(|group| {
                            group.key.state == state && group.key.is_opened_here() == here
                        });
                        let group = groups.next();
                        prop_assert!(group.is_some() || stuck == 0);
                        prop_assert!(groups.next().is_none());
                        if let Some(group) = group {
                            prop_assert_eq!(group.sockets, stuck);
                            let holds = holds(group, past, &of_side, START, now_ns);
                            prop_assert!(holds, "{:?} at {now_ns}: {group:?} of {of_side:?}, {:?}", group.verdict, past.closed_late);
                        }
                    }
                }
            }
        }
    }
}
