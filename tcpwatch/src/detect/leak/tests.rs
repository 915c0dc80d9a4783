//! Verdicts on groups that are made up, and the words for them.

use std::num::NonZeroU32;

use tcpwatch_common::Evidence;
use tcpwatch_common::evidence::{DONE, KNOWN, RESET_RECEIVED};

use super::*;
use crate::input::owner::{Comm, How, Owner};
use crate::input::socket_owner::Holder;
use crate::input::socket_scan::{AcceptQueue, ScannedSocket, SocketHolders};
use crate::model::leaks::tests::{SECOND, app, event, scan, socket};
use crate::model::leaks::{Leaks, LeaksFrame, possible_states};

const OLDER: u64 = 30 * SECOND;
const START: u64 = 10_000 * SECOND;

/// Sockets of `ages` seconds at the end of a watch of `window` seconds, in which others were closed after `closed` seconds; each as
/// `made` makes it of its number. No window is a single scan.
pub(crate) fn scene(
    window: Option<u64>,
    ages: &[u64],
    closed: &[f64],
    made: impl Fn(u16) -> ScannedSocket,
) -> LeaksFrame {
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    let end = START + window.unwrap_or(0) * SECOND;
    let state = made(1).detail.socket.state;
    let mut sockets = Vec::new();
    for (number, age) in (1..).zip(ages) {
        let entered = end - age * SECOND;
        let socket = made(number);
        leaks.apply_transition(&event(TcpState::Established, state, entered, number), true);
        sockets.push((entered, socket));
    }
    let at = |time: u64| -> Vec<ScannedSocket> {
        let there = sockets.iter().filter(|(entered, _)| *entered <= time);
        there.map(|(_, socket)| socket.clone()).collect()
    };
    leaks.apply_scan(scan(START, at(START)));
    for (number, dwell) in (10_000..).zip(closed) {
        let mut left = event(state, TcpState::LastAck, end - SECOND, number);
        left.dwell_ns = Some(
            std::time::Duration::from_secs_f64(*dwell)
                .as_nanos()
                .try_into()
                .unwrap(),
        );
        leaks.apply_transition(&left, true);
    }
    if window.is_some() {
        leaks.apply_scan(scan(end, at(end)));
    }
    leaks.frame(0, window.is_some(), 0)
}

pub(crate) fn close_wait(number: u16) -> ScannedSocket {
    socket(TcpState::CloseWait, number)
}

/// What a socket tells when the peer's reset ends it (`tcp_reset`).
fn reset_by_peer() -> Evidence {
    Evidence {
        flags: KNOWN | RESET_RECEIVED,
        err: 32,
        from: TcpState::CloseWait.number(),
        ..bytemuck::Zeroable::zeroed()
    }
}

/// What one tells when the peer's FIN comes in `FIN_WAIT2` (`tcp_fin`).
fn fin_of_peer() -> Evidence {
    Evidence {
        flags: KNOWN | DONE,
        ..bytemuck::Zeroable::zeroed()
    }
}

/// The verdict on the only group.
fn verdict(frame: &LeaksFrame) -> Verdict {
    let [group] = frame.groups.as_slice() else {
        panic!("{frame:?}");
    };
    group.verdict
}

fn of(window: Option<u64>, ages: &[u64], closed: &[f64]) -> Verdict {
    verdict(&scene(window, ages, closed, close_wait))
}

/// Every tenth second, from `from` to `to`.
pub(crate) fn spread(from: u64, to: u64) -> Vec<u64> {
    (from..=to).step_by(10).collect()
}

/// The verdict on the only group, and for how many seconds more it is undecided.
fn decided(frame: &LeaksFrame) -> (Verdict, Option<u64>) {
    (verdict(frame), frame.groups[0].more_ns.map(|ns| ns / SECOND))
}

#[test]
fn what_is_never_closed_is_a_leak_whether_or_not_new_ones_come() {
    assert_eq!(of(Some(60), &spread(0, 300), &[]), Verdict::Leak);
    assert_eq!(of(Some(60), &[300; 20], &[]), Verdict::Leak, "none came in the window");
    assert_eq!(of(Some(60), &[300], &[]), Verdict::Leak, "and one is enough");
    let fin_wait2 = |number| socket(TcpState::FinWait2, number);
    assert_eq!(
        verdict(&scene(Some(60), &spread(0, 300), &[], fin_wait2)),
        Verdict::Leak
    );
    // Those that are closed at once are not those that are forgotten.
    assert_eq!(of(Some(60), &spread(0, 300), &[0.04; 1000]), Verdict::Leak);
}

#[test]
fn a_short_window_decides_nothing() {
    let of = |window, ages: &[u64], closed: &[f64]| decided(&scene(window, ages, closed, close_wait));
    let undecided = |more_s| (Verdict::Undecided, Some(more_s));
    assert_eq!(of(None, &spread(0, 300), &[]), undecided(60), "a single scan");
    assert_eq!(of(Some(10), &[300; 40], &[]), undecided(50));
    assert_eq!(of(Some(59), &[300; 40], &[]), undecided(1));
    assert_eq!(
        of(Some(60), &[45; 9], &[]),
        undecided(15),
        "they are not there for a window"
    );
    assert_eq!(of(Some(60), &[60, 45], &[]), (Verdict::Leak, None));
    assert_eq!(of(Some(60), &[29, 3], &[]), (Verdict::Young, None));
    assert_eq!(of(None, &[29, 3], &[]), (Verdict::Young, None));
}

#[test]
fn a_window_without_an_unknown_close_is_needed() {
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    let sockets = || (1..=9).map(close_wait).collect::<Vec<_>>();
    leaks.apply_scan(scan(START, sockets()));
    let mut unknown = event(TcpState::CloseWait, TcpState::Close, START + 40 * SECOND, 10);
    unknown.evidence = Some(bytemuck::Zeroable::zeroed());
    leaks.apply_transition(&unknown, true);
    let mut decided_at = |seconds: u64| {
        leaks.apply_scan(scan(START + seconds * SECOND, sockets()));
        decided(&leaks.frame(0, true, 0))
    };
    assert_eq!(decided_at(70), (Verdict::Undecided, Some(30)));
    assert_eq!(decided_at(100), (Verdict::Leak, None));
    leaks.apply_scan(scan(START + 101 * SECOND, sockets()));
    let frame = leaks.frame(0, true, 0);
    let why = why(&frame.groups[0]);
    assert!(
        why.contains("how 1 other left the state is unknown, and the window began anew"),
        "{why}"
    );
}

#[test]
fn the_group_of_an_exited_process_stays_until_it_expires() {
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    for number in 1..=10 {
        let entered = START - u64::from(number) * 10 * SECOND;
        leaks.apply_transition(
            &event(TcpState::Established, TcpState::CloseWait, entered, number),
            true,
        );
    }
    let sockets = || (1..=10).map(close_wait).collect::<Vec<_>>();
    leaks.apply_scan(scan(START, sockets()));
    leaks.apply_scan(scan(START + 60 * SECOND, sockets()));
    let before = leaks.frame(0, true, 0);
    assert_eq!(verdict(&before), Verdict::Leak);
    for number in 1..=10 {
        leaks.apply_transition(
            &event(TcpState::CloseWait, TcpState::LastAck, START + 61 * SECOND, number),
            true,
        );
    }
    let mut exited = |seconds: u64, sockets: Vec<ScannedSocket>| {
        let mut after = scan(START + seconds * SECOND, sockets);
        after.exited.extend(app(12, How::Scan).pid);
        leaks.apply_scan(after);
        leaks.frame(0, true, 0)
    };
    for seconds in [62, 63, 661] {
        let frame = exited(seconds, vec![]);
        assert_eq!(
            (verdict(&frame), frame.in_state(), frame.stuck()),
            (Verdict::Leak, 0, [0, 0])
        );
        let why = why(&frame.groups[0]);
        assert_eq!(
            why,
            "none of them was closed in the 60s watched; then the process exited, which closed them"
        );
    }
    let live = || {
        let mut live = close_wait(20);
        live.process = Some(app(13, How::Scan));
        live
    };
    let frame = exited(661, vec![live()]);
    let groups: Vec<bool> = frame.groups.iter().map(|group| group.process_exited).collect();
    assert_eq!(groups, [false, true], "the living come first, however few they are");
    assert_eq!(exited(662, vec![]).groups, [], "ten minutes after it exited");
}

#[test]
fn an_unseen_holder_of_what_the_kernel_ended_has_not_closed_it() {
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    leaks.apply_transition(
        &event(TcpState::Established, TcpState::CloseWait, START - 60 * SECOND, 1),
        true,
    );
    let unseen = || {
        let mut found = close_wait(1);
        found.holders.clear();
        found
    };
    leaks.apply_scan(scan(START, vec![unseen()]));
    let mut reset = event(TcpState::CloseWait, TcpState::Close, START + SECOND, 1);
    reset.evidence = Some(reset_by_peer());
    leaks.apply_transition(&reset, true);
    let mut after = scan(START + 60 * SECOND, vec![]);
    after.held = leaks.ended().map(|inode| (inode, SocketHolders::default())).collect();
    leaks.apply_scan(after);
    let frame = leaks.frame(0, true, 0);
    assert_eq!(frame.groups, [], "it is not known to be closed late");
}

#[test]
fn where_the_evidence_is_unknown_the_descriptor_decides() {
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    leaks.apply_scan(scan(START, vec![close_wait(1), close_wait(2)]));
    for number in 1..=2 {
        let mut end = event(TcpState::CloseWait, TcpState::Close, START + 40 * SECOND, number);
        end.evidence = Some(bytemuck::Zeroable::zeroed());
        leaks.apply_transition(&end, true);
    }
    let inode = |number: u32| NonZeroU32::new(number).unwrap();
    let held = SocketHolders {
        process: Some(app(12, How::Scan)),
        holders: close_wait(1).holders,
    };
    let mut after = scan(START + 41 * SECOND, vec![]);
    after
        .held
        .extend([(inode(1), held), (inode(2), SocketHolders::default())]);
    leaks.apply_scan(after);
    let frame = leaks.frame(0, true, 0);
    let group = &frame.groups[0];
    assert_eq!((group.sockets, group.ended), (1, 1));
    assert_eq!((group.closings.late, group.closings.unknown), (1, 0));
}

#[test]
fn what_the_kernel_ended_between_two_scans_is_open_still() {
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    leaks.apply_scan(scan(START, vec![]));
    for (number, state) in [(1, TcpState::CloseWait), (2, TcpState::FinWait2)] {
        leaks.apply_transition(&event(TcpState::Established, state, START + SECOND, number), true);
        let mut end = event(state, TcpState::Close, START + 40 * SECOND, number);
        (end.inode, end.dwell_ns) = (NonZeroU32::new(number.into()), Some(39 * SECOND));
        end.evidence = Some(Evidence {
            from: state.number(),
            ..if number == 1 { reset_by_peer() } else { fin_of_peer() }
        });
        leaks.apply_transition(&end, true);
    }
    let mut after = scan(START + 61 * SECOND, vec![]);
    let held = SocketHolders {
        process: Some(app(12, How::Scan)),
        holders: close_wait(1).holders,
    };
    after.held = leaks.ended().map(|inode| (inode, held.clone())).collect();
    assert_eq!(after.held.len(), 2);
    leaks.apply_scan(after);
    let frame = leaks.frame(0, true, 0);
    let told: Vec<_> = frame
        .groups
        .iter()
        .map(|group| (group.key.state, group.sockets, group.ended))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for told in [(TcpState::CloseWait, 1, 1), (TcpState::FinWait2, 1, 1)] {
        assert!(
            frame
                .groups
                .iter()
                .any(|group| (group.key.state, group.sockets, group.ended) == told)
        );
    }
}

#[test]
fn what_the_kernel_ends_its_application_has_not_closed() {
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    let sockets = |from: u16| (from..=10).map(close_wait).collect::<Vec<_>>();
    for number in 1..=10 {
        let entered = START - u64::from(number) * 10 * SECOND;
        leaks.apply_transition(
            &event(TcpState::Established, TcpState::CloseWait, entered, number),
            true,
        );
    }
    leaks.apply_scan(scan(START, sockets(1)));
    for number in 1..=5 {
        let mut reset = event(TcpState::CloseWait, TcpState::Close, START + SECOND, number);
        reset.evidence = Some(reset_by_peer());
        leaks.apply_transition(&reset, true);
    }
    let ended: Vec<_> = leaks.ended().collect();
    assert_eq!(ended.len(), 5);
    let mut after = scan(START + 60 * SECOND, sockets(6));
    let held = |process: Option<Owner>| SocketHolders {
        process,
        holders: close_wait(1).holders,
    };
    after.held = ended
        .iter()
        .map(|&inode| (inode, held(Some(app(12, How::Scan)))))
        .collect();
    leaks.apply_scan(after);
    let frame = leaks.frame(0, true, 0);
    assert_eq!(verdict(&frame), Verdict::Leak);
    let group = &frame.groups[0];
    assert_eq!((group.sockets, group.in_state, group.ended, group.fds), (10, 5, 5, 10));
    assert_eq!((group.closings.ended, group.closings.late), (5, 0));
    assert!(condition(group).ends_with("; the kernel ended 5 of them since, and app keeps the descriptors open"));
    // Now the application closes two of them: they were closed, late.
    let mut after = scan(START + 70 * SECOND, sockets(6));
    after.held = ended
        .iter()
        .take(2)
        .map(|&inode| (inode, SocketHolders::default()))
        .collect();
    leaks.apply_scan(after);
    let frame = leaks.frame(0, true, 0);
    let group = &frame.groups[0];
    assert_eq!((group.sockets, group.ended, group.closings.late), (8, 3, 2));
    // Nothing in the state is left, and the descriptors are.
    for number in 6..=10 {
        leaks.apply_transition(
            &event(TcpState::CloseWait, TcpState::LastAck, START + 71 * SECOND, number),
            true,
        );
    }
    leaks.apply_scan(scan(START + 80 * SECOND, vec![]));
    let frame = leaks.frame(0, true, 0);
    assert_eq!(
        (frame.groups[0].sockets, frame.groups[0].ended, frame.groups[0].in_state),
        (3, 3, 0)
    );
    // One that is used again is nobody's leak.
    let inode = |number: u16| ended.iter().find(|inode| inode.get() == u32::from(number));
    let left: Vec<u16> = (1..=5)
        .filter(|&number| leaks.ended().any(|ended| Some(&ended) == inode(number)))
        .collect();
    for number in left {
        leaks.apply_transition(
            &event(TcpState::Close, TcpState::SynSent, START + 81 * SECOND, number),
            true,
        );
    }
    assert_eq!(leaks.ended().count(), 0);
}

#[test]
fn an_inherited_socket_has_the_process_that_opened_it() {
    let held_by = |pid: u32, comm: &'static [u8]| {
        move |number| {
            let mut found = close_wait(number);
            let holder = Owner {
                comm: Comm::new(comm),
                ..app(pid, How::Scan)
            };
            (found.process, found.holders[0].process) = (Some(holder), holder.into());
            found
        }
    };
    let advice = |frame: &LeaksFrame| advice(&frame.groups[0])[0].clone();
    let told = advice(&scene(Some(60), &spread(0, 300), &[], held_by(13, b"sleep")));
    assert!(
        told.starts_with("sleep[13] inherited them from app[12]") && told.ends_with("SOCK_CLOEXEC in app[12]"),
        "{told}"
    );
    // A child that serves what its parent accepted knows what it has, and so does who has it still.
    for (pid, comm) in [(13, &b"app"[..]), (12, b"renamed")] {
        let told = advice(&scene(Some(60), &spread(0, 300), &[], held_by(pid, comm)));
        assert!(told.starts_with("find the path in"), "{told}");
    }
}

#[test]
fn a_slow_group_without_sockets_shows_how_late_they_were_closed() {
    let frame = scene(Some(60), &[], &[31.0, 40.0], close_wait);
    assert_eq!(verdict(&frame), Verdict::Slow);
    let group = &frame.groups[0];
    assert_eq!(
        (group.sockets, group.in_state, group.owner),
        (0, 0, Some(app(12, How::Accept)))
    );
    assert_eq!(
        why(group),
        "2 were closed in the watch, after 31s to 40s, the last 1.0s ago"
    );
    let found = findings(&frame);
    assert_eq!(
        found[0].title,
        "app[12] closed sockets in CLOSE_WAIT at :8080 late, and none is left"
    );
}

#[test]
fn what_is_closed_late_is_slow_until_none_was_for_a_window() {
    assert_eq!(of(Some(60), &spread(0, 45), &[45.0, 45.0]), Verdict::Slow);
    assert_eq!(of(Some(10), &[40], &[31.0]), Verdict::Slow, "one is enough, at once");
    let frame = scene(Some(60), &spread(100, 300), &[31.0], close_wait);
    assert_eq!(verdict(&frame), Verdict::Slow);
    assert_eq!(
        why(&frame.groups[0]),
        "1 was closed in the watch, after 31s, the last 1.0s ago; the oldest is older than that"
    );
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    leaks.apply_scan(scan(START, (1..=3).map(close_wait).collect()));
    let closed_at = |leaks: &mut Leaks, seconds: u64, number: u16| {
        let at_ns = START + seconds * SECOND;
        leaks.apply_transition(&event(TcpState::CloseWait, TcpState::LastAck, at_ns, number), true);
    };
    let decided_at = |leaks: &mut Leaks, seconds: u64, sockets: &[u16]| {
        let sockets = sockets.iter().copied().map(close_wait).collect();
        leaks.apply_scan(scan(START + seconds * SECOND, sockets));
        decided(&leaks.frame(0, true, 0))
    };
    closed_at(&mut leaks, 100, 1);
    assert_eq!(decided_at(&mut leaks, 101, &[2, 3]), (Verdict::Slow, None));
    assert_eq!(
        decided_at(&mut leaks, 199, &[2, 3]),
        (Verdict::Slow, None),
        "it took 100 s"
    );
    assert_eq!(decided_at(&mut leaks, 200, &[2, 3]), (Verdict::Leak, None));
    let frame = leaks.frame(0, true, 0);
    assert!(why(&frame.groups[0]).starts_with("1 was closed in the watch, after 100s, the last 100s ago"));
    closed_at(&mut leaks, 201, 2);
    assert_eq!(decided_at(&mut leaks, 202, &[3]), (Verdict::Slow, None));
    closed_at(&mut leaks, 203, 3);
    assert_eq!(
        decided_at(&mut leaks, 204, &[4]),
        (Verdict::Slow, None),
        "none is stuck"
    );
    assert_eq!(decided_at(&mut leaks, 206, &[]), (Verdict::Slow, None));
    let mut leaks = leaks;
    leaks.apply_scan(scan(START + 900 * SECOND, vec![]));
    assert_eq!(leaks.frame(0, true, 0).groups, []);
}

#[test]
fn an_idle_pool_is_a_pool_in_every_scan_until_it_is_ten_minutes_old() {
    let to_a_server = |number: u16, idle_s: u64| {
        let mut idle = socket(TcpState::Established, 5432);
        (idle.detail.socket.lport, idle.detail.cookie) = (40_000 + number, std::num::NonZeroU64::new(number.into()));
        let idle_ms = u32::try_from(idle_s * 1000).unwrap();
        (idle.detail.last_sent_ms, idle.detail.last_received_ms) = (Some(idle_ms), Some(idle_ms + 7));
        idle
    };
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    let mut verdicts = Vec::new();
    for turn in 0..100_u64 {
        let seconds = turn * 10;
        // Each is used from time to time: once in a while all of them are young.
        let used = |number: u16| {
            if seconds < 300 {
                (seconds + 70 + u64::from(number)) % 55
            } else {
                seconds - 260
            }
        };
        let mut pool = scan(
            START + seconds * SECOND,
            (1..=5).map(|number| to_a_server(number, used(number))).collect(),
        );
        pool.listeners.clear();
        leaks.apply_scan(pool);
        let frame = leaks.frame(0, true, 0);
        verdicts.push(verdict(&frame));
    }
    let pool = verdicts.iter().position(|&verdict| verdict == Verdict::Pool).unwrap();
    let leak = verdicts.iter().position(|&verdict| verdict == Verdict::Leak).unwrap();
    assert!(pool <= 8, "{verdicts:?}");
    assert!(
        verdicts[..pool]
            .iter()
            .all(|verdict| [Verdict::Young, Verdict::Undecided].contains(verdict))
    );
    assert!(
        verdicts[pool..].is_sorted_by_key(|&verdict| verdict != Verdict::Pool),
        "{verdicts:?}"
    );
    assert_eq!(leak, 86, "ten minutes idle");
}

#[test]
fn what_this_host_opens_more_and_more_of_is_a_leak() {
    let to_a_server = |number: u16| {
        let mut left = close_wait(443);
        (left.detail.socket.lport, left.detail.cookie) = (40_000 + number, std::num::NonZeroU64::new(number.into()));
        left
    };
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    let mut verdicts = Vec::new();
    for turn in 0..12_u16 {
        let mut more = scan(
            START + u64::from(turn) * 10 * SECOND,
            (0..=turn).map(to_a_server).collect(),
        );
        more.listeners.clear();
        leaks.apply_scan(more);
        verdicts.push(verdict(&leaks.frame(0, true, 0)));
    }
    assert!(!verdicts.contains(&Verdict::Pool), "{verdicts:?}");
    assert!(verdicts.ends_with(&[Verdict::Leak]), "{verdicts:?}");
}

#[test]
fn unread_data_is_known_after_t() {
    let unread = |number: u16| {
        let mut found = close_wait(number);
        found.detail.receive_queue = Some(if number <= 3 { 6 } else { 1 });
        found
    };
    let decided_after = |window| decided(&scene(window, &[100; 5], &[], unread));
    assert_eq!(decided_after(None), (Verdict::Undecided, Some(30)));
    assert_eq!(decided_after(Some(5)), (Verdict::Undecided, Some(25)));
    assert_eq!(decided_after(Some(30)), (Verdict::Unread, None));
    let half = scene(Some(60), &[300; 6], &[], unread);
    assert_eq!(verdict(&half), Verdict::Leak);
    let unaccepted = |number| {
        let mut found = unread(number);
        found.detail.socket.inode = None;
        found
    };
    let hung = scene(Some(60), &[300; 5], &[], unaccepted);
    assert_eq!(verdict(&hung), Verdict::Unread);
    let accept = ["make app call accept() for the connections to :8080"];
    assert_eq!(advice(&hung.groups[0]), accept);
    let mixed = |number: u16| {
        if number == 1 {
            close_wait(1)
        } else {
            unaccepted(number.min(3))
        }
    };
    let hung = scene(Some(60), &[300; 5], &[], |number| ScannedSocket {
        detail: crate::input::socket::Detail {
            socket: crate::input::socket::Socket {
                rport: number,
                ..mixed(number).detail.socket
            },
            cookie: std::num::NonZeroU64::new(number.into()),
            ..mixed(number).detail
        },
        ..mixed(number)
    });
    assert_eq!(advice(&hung.groups[0]), accept, "most were never accepted");
    assert!(condition(&hung.groups[0]).contains("has not accepted the connection (4)"));
}

#[test]
fn who_reads_slowly_or_still_sends_is_not_stuck() {
    let mut leaks = Leaks::new(possible_states(), OLDER, true);
    let entered = START - 100 * SECOND;
    leaks.apply_transition(&event(TcpState::Established, TcpState::CloseWait, entered, 1), true);
    for turn in 0..10 {
        let mut found = close_wait(1);
        found.detail.receive_queue = Some(10_000 - 1_000 * turn);
        leaks.apply_scan(scan(START + u64::from(turn) * 10 * SECOND, vec![found]));
        let frame = leaks.frame(0, true, 0);
        assert_eq!(
            frame.stuck()[0],
            u64::from(turn == 0),
            "{turn}: one scan cannot show it"
        );
    }
    for (state, direction) in [(TcpState::CloseWait, 0), (TcpState::FinWait2, 1)] {
        let stuck = |ago_ms: [u32; 2]| {
            let moves = |number| {
                let mut found = socket(state, number);
                (found.detail.last_sent_ms, found.detail.last_received_ms) = (Some(ago_ms[0]), Some(ago_ms[1]));
                found
            };
            scene(Some(60), &[300; 5], &[], moves).stuck()[0]
        };
        let mut ago_ms = [400_000, 400_000];
        assert_eq!(stuck(ago_ms), 5);
        ago_ms[direction] = 29_000;
        assert_eq!(stuck(ago_ms), 0, "{state:?} moved data 29 s ago");
        ago_ms[1 - direction] = 0;
        ago_ms[direction] = 31_000;
        assert_eq!(stuck(ago_ms), 5, "{state:?}: the other way is closed");
    }
}

#[test]
fn what_the_kernel_ends_is_no_leak() {
    for state in [TcpState::SynSent, TcpState::LastAck] {
        let frame = scene(Some(60), &spread(0, 300), &[], |number| socket(state, number));
        assert_eq!(verdict(&frame), Verdict::Kernel);
    }
    let orphan = |number| {
        let mut found = socket(TcpState::FinWait2, number);
        found.detail.socket.inode = None;
        found
    };
    assert_eq!(verdict(&scene(Some(60), &spread(0, 300), &[], orphan)), Verdict::Kernel);
}

#[test]
fn a_peer_that_takes_no_data_is_named() {
    let sends = |number| {
        let mut found = close_wait(number);
        found.detail.send_queue = Some(100);
        found
    };
    let frame = scene(Some(60), &spread(0, 300), &[], sends);
    let group = &frame.groups[0];
    assert_eq!(group.verdict, Verdict::Leak);
    assert!(condition(group).ends_with("; the peer has not acknowledged 2,800 bytes in 28 of them"));
    assert!(advice(group)[0].contains("TCP_USER_TIMEOUT"));
}

fn findings(frame: &LeaksFrame) -> Vec<Finding> {
    let mut findings = Vec::new();
    Leak.inspect(&Frame::from(frame), &mut findings);
    findings
}

#[test]
fn a_finding_has_its_numbers_and_advice() {
    let found = findings(&scene(Some(60), &spread(0, 300), &[0.04; 7], close_wait));
    let [found] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((found.kind, found.severity), (FindingKind::Leak, Severity::Warning));
    assert_eq!(
        found.title,
        "app[12] does not close 28 sockets in CLOSE_WAIT at :8080, the oldest for 5 m 0 s"
    );
    assert_eq!(found.owner, Some(app(12, How::Scan)));
    assert!(found.evidence.contains(&("sockets", 28.into())) && found.evidence.contains(&("watched_s", 60.0.into())));
    assert!(found.advice.iter().any(|step| step.contains("close the descriptor")));
    assert_eq!(found.topic, Topic::State(TcpState::CloseWait));
}

#[test]
fn the_healthy_have_no_findings() {
    assert_eq!(
        findings(&scene(Some(60), &[0, 1, 2, 29], &[0.001; 500], close_wait)),
        []
    );
    assert_eq!(
        findings(&scene(Some(10), &[100], &[], close_wait)),
        [],
        "nor those of which nothing is known"
    );
}

#[test]
fn a_syn_without_an_answer_is_looked_for_where_it_was_dropped() {
    let to = |awaited: Option<[u64; 2]>, owner: Option<Owner>| {
        let connecting = |number| {
            let mut found = socket(TcpState::SynSent, number);
            found.awaited = awaited.map(|[queued, limit]| AcceptQueue { queued, limit, owner });
            found
        };
        let frame = scene(Some(60), &[40], &[], connecting);
        let group = &frame.groups[0];
        (advice(group).join("; "), topic(group).key())
    };
    let (full, of_full) = to(Some([2, 1]), Some(app(7, How::Scan)));
    let expected = "make app[7] accept, which listens at :8080 on this host: its accept queue is full (2 of 1)";
    assert_eq!((full.as_str(), of_full), (expected, "accept_queue_overflow"));
    let (of_nobody, _) = to(Some([2, 1]), None);
    assert!(
        of_nobody.starts_with("make the process accept, which listens at :8080 on this host: "),
        "{of_nobody}"
    );
    let (room, of_room) = to(Some([1, 1]), Some(app(7, How::Scan)));
    assert!(
        room.contains("app[7] listens there, on this host; its accept queue has room now (1 of 1)"),
        "{room}"
    );
    let (far, of_far) = to(None, None);
    assert!(far.ends_with("or a full accept queue there"), "{far}");
    assert_eq!((of_room, of_far), ("syn_sent", "syn_sent"));
}

#[test]
fn many_holders_are_named_by_few() {
    let held_by = |comms: &'static [&'static str]| {
        let shared = move |number| {
            let mut found = close_wait(number);
            let holder = |(pid, comm): (u32, &&str)| Holder {
                process: Owner {
                    comm: Comm::new(comm.as_bytes()),
                    ..app(pid, How::Scan)
                }
                .into(),
                fds: vec![number.into()],
            };
            found.holders = (10..).zip(comms).map(holder).collect();
            found.process = None;
            found
        };
        let frame = scene(None, &[100; 3], &[], shared);
        who(&frame.groups[0])
    };
    assert_eq!(held_by(&["a", "a"]), "a[10] and a[11]");
    assert_eq!(held_by(&["a", "a", "a"]), "a[10] and 2 others");
    assert_eq!(held_by(&["a", "b", "a"]), "a[10], b[11] and 1 more");
    assert_eq!(held_by(&["a"; 64]), "a[10] and 63 others");
}

#[test]
fn names_are_escaped() {
    let evil = |number| {
        let mut found = close_wait(number);
        let evil = Owner {
            comm: Comm::new(b"a\n\x1b[2J"),
            ..app(12, How::Scan)
        };
        (found.process, found.holders[0].process) = (Some(evil), evil.into());
        found
    };
    for window in [None, Some(10), Some(60)] {
        let frame = scene(window, &spread(0, 300), &[], evil);
        let group = &frame.groups[0];
        let mut told = advice(group);
        told.extend([condition(group), why(group), who(group), title(group)]);
        assert!(told.iter().all(|text| !text.contains(['\x1b', '\n'])), "{told:?}");
    }
}
