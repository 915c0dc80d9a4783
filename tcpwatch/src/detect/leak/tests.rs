//! Verdicts on groups that are made up, and the words for them.

use std::num::NonZeroU32;
use tcpwatch_common::Evidence;

use tcpwatch_common::evidence::{DONE, KNOWN, RESET_RECEIVED};

use super::*;
use crate::explain::topic::Topic;
use crate::input::owner::{Comm, How, Owner};
use crate::input::socket_owner::Holder;
use crate::input::socket_scan::AcceptQueue;
use crate::input::socket_scan::{Held, Seen};
use crate::model::leaks::Leaks;
use crate::model::leaks::tests::{SECOND, app, event, look, seen};

const OLDER: u64 = 30 * SECOND;
const START: u64 = 10_000 * SECOND;

/// Sockets of `ages` seconds at the end of a watch of `window` seconds, in which others were closed after `closed` seconds; each as
/// `seen` makes it of its state and number. No window is a single look.
pub(crate) fn scene(window: Option<u64>, ages: &[u64], closed: &[f64], seen: impl Fn(u16) -> Seen) -> LeaksFrame {
    let mut leaks = Leaks::new(OLDER, true);
    let end = START + window.unwrap_or(0) * SECOND;
    let state = seen(1).detail.socket.state;
    let mut sockets = Vec::new();
    for (number, age) in (1..).zip(ages) {
        let entered = end - age * SECOND;
        let socket = seen(number);
        leaks.transition(&event(TcpState::Established, state, entered, number), true);
        sockets.push((entered, socket));
    }
    let at = |time: u64| -> Vec<Seen> {
        let there = sockets.iter().filter(|(entered, _)| *entered <= time);
        there.map(|(_, socket)| socket.clone()).collect()
    };
    leaks.look(look(START, at(START)));
    for (number, dwell) in (10_000..).zip(closed) {
        let mut left = event(state, TcpState::LastAck, end - SECOND, number);
        left.dwell_ns = Some(
            std::time::Duration::from_secs_f64(*dwell)
                .as_nanos()
                .try_into()
                .unwrap(),
        );
        leaks.transition(&left, true);
    }
    if window.is_some() {
        leaks.look(look(end, at(end)));
    }
    leaks.frame(0, window.is_some(), 0)
}

pub(crate) fn close_wait(number: u16) -> Seen {
    seen(TcpState::CloseWait, number)
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
    judge(group, frame.older_ns)
}

fn of(window: Option<u64>, ages: &[u64], closed: &[f64]) -> Verdict {
    verdict(&scene(window, ages, closed, close_wait))
}

/// Every tenth second, from `from` to `to`.
pub(crate) fn spread(from: u64, to: u64) -> Vec<u64> {
    (from..=to).step_by(10).collect()
}

#[test]
fn what_is_never_closed_is_a_leak_whether_or_not_new_ones_come() {
    assert_eq!(of(Some(60), &spread(0, 300), &[]), Verdict::Leak);
    assert_eq!(of(Some(60), &[300; 20], &[]), Verdict::Leak, "none came in the window");
    assert_eq!(of(Some(60), &[300], &[]), Verdict::Leak, "and one is enough");
    let fin_wait2 = |number| seen(TcpState::FinWait2, number);
    assert_eq!(
        verdict(&scene(Some(60), &spread(0, 300), &[], fin_wait2)),
        Verdict::Leak
    );
    // Those that are closed at once are not those that are forgotten.
    assert_eq!(of(Some(60), &spread(0, 300), &[0.04; 1000]), Verdict::Leak);
}

#[test]
fn a_window_in_which_none_would_have_been_closed_shows_nothing() {
    let short = |seconds: u64| Verdict::Undecided(Doubt::Window(seconds * SECOND));
    assert_eq!(of(None, &spread(0, 300), &[]), Verdict::Undecided(Doubt::OneLook));
    assert_eq!(of(Some(10), &[300; 40], &[]), short(20), "as long as makes one stuck");
    // They came every 50 s, in 300 s.
    assert_eq!(of(Some(40), &[300, 250, 200, 150, 100, 50], &[]), short(15));
    // Thrice 120 s in 4: 90 s would be needed now; of 10, 36 s, and in 4 s still no more than 37.2 s.
    assert_eq!(of(Some(40), &[120, 80, 60, 50], &[]), short(15));
    let ten = [140, 120, 100, 90, 80, 70, 60, 50, 40, 35];
    assert_eq!(of(Some(35), &ten, &[]), short(10));
    assert_eq!(of(Some(45), &ten.map(|age| age + 10), &[]), Verdict::Leak);
    assert_eq!(of(Some(50), &[100, 80, 60, 55, 50, 40], &[]), Verdict::Leak);
    assert_eq!(
        of(Some(40), &[300], &[]),
        short(15),
        "of one nobody knows how often they come"
    );
    let young = Verdict::Undecided(Doubt::Young(10 * SECOND));
    assert_eq!(
        of(Some(60), &[50, 45, 40, 20, 10], &[]),
        young,
        "these may be closed after 55 s"
    );
    assert_eq!(
        of(Some(60), &[45; 9], &[]),
        Verdict::Undecided(Doubt::Young(15 * SECOND))
    );
    assert_eq!(
        of(Some(35), &[40; 40], &[]),
        Verdict::Undecided(Doubt::Young(20 * SECOND))
    );
}

#[test]
fn what_a_pool_has_may_be_closed_together() {
    let to_a_server = |window: u64, ages: &[u64]| {
        let mut frame = scene(Some(window), ages, &[], close_wait);
        let remote = frame.groups[0].remote.get().unwrap();
        frame.groups[0].key.side = Side::Active(remote, 5432);
        verdict(&frame)
    };
    let together = |seconds: u64| Verdict::Undecided(Doubt::Together(seconds * SECOND));
    assert_eq!(to_a_server(60, &[70; 10]), together(230));
    assert_eq!(to_a_server(10, &[70; 10]), together(230), "what is told does not grow");
    assert_eq!(to_a_server(60, &[70, 61]), together(230));
    let others = to_a_server(60, &[70, 60]);
    assert_eq!(
        others,
        Verdict::Leak,
        "no pool is emptied for this long while others come"
    );
    assert_eq!(to_a_server(60, &[70]), together(230));
    assert_eq!(to_a_server(60, &[300; 10]), Verdict::Leak);
    assert_eq!(
        of(Some(60), &[70; 10], &[]),
        Verdict::Leak,
        "who is connected to has no pool"
    );
}

#[test]
fn of_those_that_left_nobody_knows_how_nothing_is_concluded() {
    let mut frame = scene(Some(60), &spread(0, 300), &[], close_wait);
    frame.groups[0].closings.unknown = 2;
    assert_eq!(verdict(&frame), Verdict::Leak, "one in ten says little");
    frame.groups[0].closings.unknown = 3;
    assert_eq!(verdict(&frame), Verdict::Undecided(Doubt::Unknown(3)));
    frame.groups[0].unread = 28;
    assert_eq!(verdict(&frame), Verdict::Undecided(Doubt::Unknown(3)));
}

#[test]
fn what_a_process_had_when_it_ended_stays_told() {
    let mut leaks = Leaks::new(OLDER, true);
    for number in 1..=10 {
        let entered = START - u64::from(number) * 10 * SECOND;
        leaks.transition(
            &event(TcpState::Established, TcpState::CloseWait, entered, number),
            true,
        );
    }
    let sockets = || (1..=10).map(close_wait).collect::<Vec<_>>();
    leaks.look(look(START, sockets()));
    leaks.look(look(START + 60 * SECOND, sockets()));
    let before = leaks.frame(0, true, 0);
    assert_eq!(verdict(&before), Verdict::Leak);
    for number in 1..=10 {
        leaks.transition(
            &event(TcpState::CloseWait, TcpState::LastAck, START + 61 * SECOND, number),
            true,
        );
    }
    assert_eq!(leaks.pids(), [app(12, How::Scan).pid.unwrap()]);
    for turn in 0..3 {
        let mut after = look(START + (62 + turn) * SECOND, vec![]);
        after.gone.extend(leaks.pids());
        leaks.look(after);
        let frame = leaks.frame(0, true, 0);
        assert_eq!(
            (verdict(&frame), frame.in_state(), frame.stuck()),
            (Verdict::Leak, 0, [0, 0])
        );
        let told = why(&frame.groups[0], Verdict::Leak);
        assert_eq!(
            told,
            "none of them was closed in the 60s watched; then the process ended, which freed them"
        );
    }
}

#[test]
fn who_is_never_seen_to_hold_what_the_kernel_ended_has_not_closed_it() {
    let mut leaks = Leaks::new(OLDER, true);
    leaks.transition(
        &event(TcpState::Established, TcpState::CloseWait, START - 60 * SECOND, 1),
        true,
    );
    let unseen = || {
        let mut seen = close_wait(1);
        seen.holders.clear();
        seen
    };
    leaks.look(look(START, vec![unseen()]));
    let mut reset = event(TcpState::CloseWait, TcpState::Close, START + SECOND, 1);
    reset.evidence = Some(reset_by_peer());
    leaks.transition(&reset, true);
    let mut after = look(START + 60 * SECOND, vec![]);
    after.held = leaks.ended().map(|inode| (inode, Held::default())).collect();
    leaks.look(after);
    let frame = leaks.frame(0, true, 0);
    assert_eq!(frame.groups, [], "it is not known to be closed late");
}

#[test]
fn where_a_socket_tells_nothing_its_descriptor_does() {
    let mut leaks = Leaks::new(OLDER, true);
    leaks.look(look(START, vec![close_wait(1), close_wait(2)]));
    for number in 1..=2 {
        let mut end = event(TcpState::CloseWait, TcpState::Close, START + 40 * SECOND, number);
        end.evidence = Some(bytemuck::Zeroable::zeroed());
        leaks.transition(&end, true);
    }
    let inode = |number: u32| NonZeroU32::new(number).unwrap();
    let held = Held {
        process: Some(app(12, How::Scan)),
        holders: close_wait(1).holders,
    };
    let mut after = look(START + 41 * SECOND, vec![]);
    after.held.extend([(inode(1), held), (inode(2), Held::default())]);
    leaks.look(after);
    let frame = leaks.frame(0, true, 0);
    let group = &frame.groups[0];
    assert_eq!((group.sockets, group.ended), (1, 1));
    assert_eq!((group.closings.late, group.closings.unknown), (1, 0));
}

#[test]
fn what_the_kernel_ended_between_two_looks_is_open_still() {
    let mut leaks = Leaks::new(OLDER, true);
    leaks.look(look(START, vec![]));
    for (number, state) in [(1, TcpState::CloseWait), (2, TcpState::FinWait2)] {
        leaks.transition(&event(TcpState::Established, state, START + SECOND, number), true);
        let mut end = event(state, TcpState::Close, START + 40 * SECOND, number);
        (end.inode, end.dwell_ns) = (NonZeroU32::new(number.into()), Some(39 * SECOND));
        end.evidence = Some(Evidence {
            from: state.number(),
            ..if number == 1 { reset_by_peer() } else { fin_of_peer() }
        });
        leaks.transition(&end, true);
    }
    let mut after = look(START + 61 * SECOND, vec![]);
    let held = Held {
        process: Some(app(12, How::Scan)),
        holders: close_wait(1).holders,
    };
    after.held = leaks.ended().map(|inode| (inode, held.clone())).collect();
    assert_eq!(after.held.len(), 2);
    leaks.look(after);
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
    let mut leaks = Leaks::new(OLDER, true);
    let sockets = |from: u16| (from..=10).map(close_wait).collect::<Vec<_>>();
    for number in 1..=10 {
        let entered = START - u64::from(number) * 10 * SECOND;
        leaks.transition(
            &event(TcpState::Established, TcpState::CloseWait, entered, number),
            true,
        );
    }
    leaks.look(look(START, sockets(1)));
    for number in 1..=5 {
        let mut reset = event(TcpState::CloseWait, TcpState::Close, START + SECOND, number);
        reset.evidence = Some(reset_by_peer());
        leaks.transition(&reset, true);
    }
    let ended: Vec<_> = leaks.ended().collect();
    assert_eq!(ended.len(), 5);
    let mut after = look(START + 60 * SECOND, sockets(6));
    let held = |process: Option<Owner>| Held {
        process,
        holders: close_wait(1).holders,
    };
    after.held = ended
        .iter()
        .map(|&inode| (inode, held(Some(app(12, How::Scan)))))
        .collect();
    leaks.look(after);
    let frame = leaks.frame(0, true, 0);
    assert_eq!(verdict(&frame), Verdict::Leak);
    let group = &frame.groups[0];
    assert_eq!((group.sockets, group.in_state, group.ended, group.fds), (10, 5, 5, 10));
    assert_eq!((group.closings.ended, group.closings.late), (5, 0));
    assert!(truth(group).ends_with("; 5 of them ended since, by no doing of app, and the descriptors stay open"));
    // Now the application closes two of them: they were closed, late.
    let mut after = look(START + 70 * SECOND, sockets(6));
    after.held = ended.iter().take(2).map(|&inode| (inode, Held::default())).collect();
    leaks.look(after);
    let frame = leaks.frame(0, true, 0);
    let group = &frame.groups[0];
    assert_eq!((group.sockets, group.ended, group.closings.late), (8, 3, 2));
    // Nothing in the state is left, and the descriptors are.
    for number in 6..=10 {
        leaks.transition(
            &event(TcpState::CloseWait, TcpState::LastAck, START + 71 * SECOND, number),
            true,
        );
    }
    leaks.look(look(START + 80 * SECOND, vec![]));
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
        leaks.transition(
            &event(TcpState::Close, TcpState::SynSent, START + 81 * SECOND, number),
            true,
        );
    }
    assert_eq!(leaks.ended().count(), 0);
}

#[test]
fn whose_program_has_inherited_a_socket_is_told() {
    let held_by = |pid: u32, comm: &'static [u8]| {
        move |number| {
            let mut seen = close_wait(number);
            let holder = Owner {
                comm: Comm::new(comm),
                ..app(pid, How::Scan)
            };
            (seen.process, seen.holders[0].process) = (Some(holder), holder.into());
            seen
        }
    };
    let advice = |frame: &LeaksFrame| advice(&frame.groups[0], verdict(frame))[0].clone();
    let told = advice(&scene(Some(60), &spread(0, 300), &[], held_by(13, b"sleep")));
    assert!(
        told.starts_with("sleep[13] has them from app[12]") && told.ends_with("SOCK_CLOEXEC"),
        "{told}"
    );
    // A child that serves what its parent accepted knows what it has, and so does who has it still.
    for (pid, comm) in [(13, &b"app"[..]), (12, b"renamed")] {
        let told = advice(&scene(Some(60), &spread(0, 300), &[], held_by(pid, comm)));
        assert!(told.starts_with("find where"), "{told}");
    }
}

#[test]
fn how_late_what_is_left_of_nothing_was_closed_is_told() {
    let frame = scene(Some(60), &[], &[31.0, 40.0], close_wait);
    assert_eq!(verdict(&frame), Verdict::Slow);
    let group = &frame.groups[0];
    assert_eq!(
        (group.sockets, group.in_state, group.owner),
        (0, 0, Some(app(12, How::Accept)))
    );
    assert_eq!(
        why(group, Verdict::Slow),
        "2 were closed in the 60s watched, after 31s to 40s"
    );
    let found = findings(&frame);
    assert_eq!(
        found[0].title,
        "app[12] closed sockets in CLOSE_WAIT at :8080 late, and none is left"
    );
}

#[test]
fn what_is_closed_late_is_slow_unless_most_are_older_than_that_explains() {
    assert_eq!(of(Some(60), &spread(0, 45), &[45.0, 45.0]), Verdict::Slow);
    assert_eq!(of(Some(60), &spread(0, 90), &[31.0]), Verdict::Slow);
    assert_eq!(of(Some(60), &spread(100, 300), &[31.0]), Verdict::Leak);
    assert_eq!(of(Some(600), &spread(0, 600), &[600.0; 20]), Verdict::Slow);
}

#[test]
fn who_does_not_read_is_known_in_time() {
    let unread = |number: u16| {
        let mut seen = close_wait(number);
        seen.detail.receive_queue = Some(if number <= 3 { 6 } else { 1 });
        seen
    };
    let verdict_after = |window| verdict(&scene(window, &[100; 5], &[], unread));
    assert_eq!(verdict_after(None), Verdict::Undecided(Doubt::OneLook));
    assert_eq!(verdict_after(Some(5)), Verdict::Undecided(Doubt::Window(25 * SECOND)));
    assert_eq!(verdict_after(Some(30)), Verdict::StuckReader);
    let half = scene(Some(60), &[300; 6], &[], unread);
    assert_eq!(verdict(&half), Verdict::Leak);
    let unaccepted = |number| {
        let mut seen = unread(number);
        seen.detail.socket.inode = None;
        seen
    };
    let hung = scene(Some(60), &[300; 5], &[], unaccepted);
    assert_eq!(verdict(&hung), Verdict::Leak, "nobody can read what nobody accepted");
    assert_eq!(
        advice(&hung.groups[0], Verdict::Leak),
        ["let app accept what comes to :8080"]
    );
}

#[test]
fn who_reads_slowly_or_still_sends_is_not_stuck() {
    let mut leaks = Leaks::new(OLDER, true);
    let entered = START - 100 * SECOND;
    leaks.transition(&event(TcpState::Established, TcpState::CloseWait, entered, 1), true);
    for turn in 0..10 {
        let mut seen = close_wait(1);
        seen.detail.receive_queue = Some(10_000 - 1_000 * turn);
        leaks.look(look(START + u64::from(turn) * 10 * SECOND, vec![seen]));
        let frame = leaks.frame(0, true, 0);
        assert_eq!(
            frame.groups.len(),
            usize::from(turn == 0),
            "{turn}: one look cannot tell"
        );
    }
    for (state, direction) in [(TcpState::CloseWait, 0), (TcpState::FinWait2, 1)] {
        let stuck = |ago_ms: [u32; 2]| {
            let moves = |number| {
                let mut seen = seen(state, number);
                (seen.detail.last_sent_ms, seen.detail.last_received_ms) = (Some(ago_ms[0]), Some(ago_ms[1]));
                seen
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
fn what_drains_was_a_burst() {
    let mut leaks = Leaks::new(OLDER, true);
    let sockets = |from: u16| (from..=20).map(close_wait).collect::<Vec<_>>();
    leaks.look(look(START, sockets(1)));
    leaks.look(look(START + OLDER, sockets(1)));
    leaks.frame(0, true, 0);
    let mut verdicts = Vec::new();
    for number in 1..20 {
        let at = START + OLDER + u64::from(number) * SECOND;
        leaks.transition(&event(TcpState::CloseWait, TcpState::LastAck, at, number), true);
        leaks.look(look(at + SECOND / 2, sockets(number + 1)));
        verdicts.push(verdict(&leaks.frame(0, true, 0)));
    }
    assert_eq!((verdicts[0], verdicts[18]), (Verdict::Slow, Verdict::Burst));
    assert!(
        verdicts.is_sorted_by_key(|&verdict| verdict == Verdict::Burst),
        "{verdicts:?}"
    );
}

#[test]
fn what_the_kernel_ends_is_no_leak() {
    let ends = Verdict::Undecided(Doubt::KernelEnds);
    for state in [TcpState::SynSent, TcpState::LastAck] {
        let frame = scene(Some(60), &spread(0, 300), &[], |number| seen(state, number));
        assert_eq!(verdict(&frame), ends);
    }
    let orphan = |number| {
        let mut seen = seen(TcpState::FinWait2, number);
        seen.detail.socket.inode = None;
        seen
    };
    assert_eq!(verdict(&scene(Some(60), &spread(0, 300), &[], orphan)), ends);
}

#[test]
fn who_still_sends_is_not_stuck() {
    let sends = |number| {
        let mut seen = close_wait(number);
        seen.detail.send_queue = Some(100);
        seen
    };
    let frame = scene(Some(60), &spread(0, 300), &[], sends);
    assert_eq!(verdict(&frame), Verdict::Undecided(Doubt::Sends));
}

#[test]
fn only_what_must_be_mended_fails_a_script() {
    let defects = [Verdict::Leak, Verdict::StuckReader];
    for verdict in [Verdict::Slow, Verdict::Burst, Verdict::Undecided(Doubt::OneLook)] {
        assert!(!verdict.is_defect());
    }
    assert!(defects.into_iter().all(Verdict::is_defect));
}

fn findings(frame: &LeaksFrame) -> Vec<Finding> {
    let mut findings = Vec::new();
    Leak.look(&Frame::from(frame), &mut findings);
    findings
}

#[test]
fn a_finding_has_its_numbers_and_advice() {
    let found = findings(&scene(Some(60), &spread(0, 300), &[0.04; 7], close_wait));
    let [found] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((found.kind, found.severity), (Kind::Leak, Severity::Warning));
    assert_eq!(
        found.title,
        "app[12] never closes 28 sockets in CLOSE_WAIT at :8080, the oldest for 5 m 0 s"
    );
    assert_eq!(found.owner, Some(app(12, How::Scan)));
    assert!(found.evidence.contains(&("sockets", 28.into())) && found.evidence.contains(&("window_s", 60.0.into())));
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
    let to = |awaited: Option<[u32; 2]>, owner: Option<Owner>| {
        let connecting = |number| {
            let mut seen = seen(TcpState::SynSent, number);
            seen.awaited = awaited.map(|[queued, limit]| AcceptQueue { queued, limit, owner });
            seen
        };
        let frame = scene(Some(60), &[40], &[], connecting);
        let group = &frame.groups[0];
        (
            advice(group, judge(group, frame.older_ns)).join("; "),
            topic(group).key(),
        )
    };
    let (full, of_full) = to(Some([2, 1]), Some(app(7, How::Scan)));
    let expected = "let app[7], which listens at :8080, on this host, accept: its accept queue is full (2 of 1)";
    assert_eq!((full.as_str(), of_full), (expected, "accept_queue_overflow"));
    let (of_nobody, _) = to(Some([2, 1]), None);
    assert!(
        of_nobody.starts_with("let who listens at :8080, on this host, accept: "),
        "{of_nobody}"
    );
    let (room, of_room) = to(Some([1, 1]), Some(app(7, How::Scan)));
    assert!(
        room.contains("app[7] listens there, on this host; its accept queue has room now (1 of 1)"),
        "{room}"
    );
    let (far, of_far) = to(None, None);
    assert!(far.ends_with("or an accept queue there that is full"), "{far}");
    assert_eq!((of_room, of_far), ("syn_sent", "syn_sent"));
}

#[test]
fn many_holders_are_named_by_few() {
    let held_by = |comms: &'static [&'static str]| {
        let shared = move |number| {
            let mut seen = close_wait(number);
            let holder = |(pid, comm): (u32, &&str)| Holder {
                process: Owner {
                    comm: Comm::new(comm.as_bytes()),
                    ..app(pid, How::Scan)
                }
                .into(),
                fds: vec![number.into()],
            };
            seen.holders = (10..).zip(comms).map(holder).collect();
            seen.process = None;
            seen
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
fn no_name_is_told_as_it_is() {
    let evil = |number| {
        let mut seen = close_wait(number);
        let evil = Owner {
            comm: Comm::new(b"a\n\x1b[2J"),
            ..app(12, How::Scan)
        };
        (seen.process, seen.holders[0].process) = (Some(evil), evil.into());
        seen
    };
    for window in [None, Some(10), Some(60)] {
        let frame = scene(window, &spread(0, 300), &[], evil);
        let group = &frame.groups[0];
        let verdict = judge(group, OLDER);
        let mut told = advice(group, verdict);
        told.extend([truth(group), why(group, verdict), who(group), title(group, verdict)]);
        assert!(told.iter().all(|text| !text.contains(['\x1b', '\n'])), "{told:?}");
    }
}
