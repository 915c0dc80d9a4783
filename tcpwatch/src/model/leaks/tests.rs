use std::net::Ipv4Addr;
use std::num::{NonZeroU16, NonZeroU32};

use tcpwatch_common::evidence::{Evidence, KNOWN};

use super::*;
use crate::input::owner::{Comm, How, Process};
use crate::input::socket::{Family, Kind, Socket};
use crate::input::socket_owner::Holder;
use crate::input::socket_scan::AcceptQueue;
use crate::model::test_rng::TestRng;

pub(crate) const SECOND: u64 = 1_000_000_000;
const OLDER: u64 = 30 * SECOND;
const NETNS: u32 = 7;
const HERE: u16 = 8080;

pub(crate) fn app(pid: u32, how: How) -> Owner {
    Owner {
        pid: NonZeroU32::new(pid),
        comm: Comm::new(b"app"),
        how,
        cgroup: None,
    }
}

fn address(last: u8) -> Address {
    Address::new(Ipv4Addr::new(10, 0, 0, last).into(), 0)
}

/// A connection to port 8080 from port `peer`, which is its cookie and its inode too, held by app[12] by descriptor 5 and read to its end.
pub(crate) fn socket(state: TcpState, peer: u16) -> ScannedSocket {
    ScannedSocket {
        detail: Detail {
            socket: Socket {
                family: Family::Ipv4,
                state,
                kind: Some(Kind::Full),
                local: address(1),
                lport: HERE,
                remote: address(2),
                rport: peer,
                uid: None,
                inode: NonZeroU32::new(peer.into()),
                netns: NETNS,
            },
            cookie: NonZeroU64::new(peer.into()),
            receive_queue: Some(0),
            send_queue: Some(0),
            last_ack_ms: None,
            last_sent_ms: None,
            last_received_ms: None,
            retransmissions: None,
            drops: None,
        },
        process: Some(app(12, How::Scan)),
        holders: vec![Holder {
            process: app(12, How::Scan).into(),
            fds: vec![5],
        }],
        awaited: None,
    }
}

/// A scan that ended at `at_ns`, a millisecond after it began.
pub(crate) fn scan(at_ns: u64, sockets: Vec<ScannedSocket>) -> SocketScan {
    SocketScan {
        started_ns: at_ns - MILLISECOND,
        ended_ns: at_ns,
        namespaces: BTreeMap::from([(NETNS, None)]),
        sockets,
        listeners: HashSet::from_iter([(NETNS, HERE)]),
        unseen: Some(Unseen::default()),
        held: HashMap::new(),
        exited: HashSet::new(),
        open: None,
        opened_at: None,
        stacks: HashMap::new(),
        left_out: 0,
    }
}

/// A transition of the same connection.
pub(crate) fn event(from: TcpState, to: TcpState, at_ns: u64, peer: u16) -> Transition {
    Transition {
        unix_ns: 0,
        monotonic_ns: at_ns,
        id: None,
        cookie: NonZeroU64::new(peer.into()),
        family: Family::Ipv4,
        local: address(1),
        lport: NonZeroU16::new(HERE),
        remote: address(2),
        rport: NonZeroU16::new(peer),
        from,
        to,
        opened: Some(Opened::Passive),
        bound: None,
        dwell_ns: None,
        netns: NonZeroU32::new(NETNS),
        owner: Some(app(12, How::Accept)),
        inode: None,
        evidence: None,
    }
}

fn enters(at_ns: u64, peer: u16) -> Transition {
    event(TcpState::Established, TcpState::CloseWait, at_ns, peer)
}

fn leaves(at_ns: u64, peer: u16, dwell_ns: Option<u64>) -> Transition {
    Transition {
        dwell_ns,
        ..event(TcpState::CloseWait, TcpState::LastAck, at_ns, peer)
    }
}

fn close_wait(peer: u16) -> ScannedSocket {
    socket(TcpState::CloseWait, peer)
}

/// What a scan at `at_ns` that finds `sockets` gives.
fn scanned(leaks: &mut Leaks, at_ns: u64, sockets: Vec<ScannedSocket>) -> LeaksFrame {
    leaks.start_scan();
    leaks.apply_scan(scan(at_ns, sockets));
    leaks.frame(0, true, 0)
}

/// The age of the only socket.
fn age(frame: &LeaksFrame) -> (u64, bool) {
    let groups = &frame.groups;
    assert_eq!((groups.len(), groups[0].in_state), (1, 1), "{frame:?}");
    (groups[0].oldest_in_state.ns, groups[0].oldest_in_state.at_least)
}

#[test]
fn an_age_is_exact_where_the_entry_was_seen_and_else_the_least_it_can_be() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    let start = 1000 * SECOND;
    // Seen to enter, by cookie or by its ends.
    for known in [NonZeroU64::new(9), None] {
        leaks.apply_transition(
            &Transition {
                cookie: known,
                ..enters(start, 9)
            },
            true,
        );
        let frame = scanned(&mut leaks, start + 5 * SECOND, vec![close_wait(9)]);
        assert_eq!(age(&frame), (5 * SECOND, false));
    }
    // Nobody saw this one enter: it is as old as our knowledge of it, or as the last ACK that came.
    let mut leaks = Leaks::new(states(), OLDER, true);
    assert_eq!(age(&scanned(&mut leaks, start, vec![close_wait(9)])), (0, true));
    assert_eq!(
        age(&scanned(&mut leaks, start + SECOND, vec![close_wait(9)])),
        (SECOND, true)
    );
    let with_ack = |state, ms| {
        let mut found = socket(state, 9);
        found.detail.last_ack_ms = Some(ms);
        vec![found]
    };
    for state in [TcpState::CloseWait, TcpState::FinWait2] {
        let mut leaks = Leaks::new(states(), OLDER, true);
        let frame = scanned(&mut leaks, start, with_ack(state, 8_040_000));
        assert_eq!(age(&frame), (start, true), "the clock began later");
        let mut leaks = Leaks::new(states(), OLDER, true);
        assert_eq!(
            age(&scanned(&mut leaks, start, with_ack(state, 40_010))),
            (40 * SECOND, true)
        );
        // An ACK that came meanwhile takes nothing away.
        let frame = scanned(&mut leaks, start + SECOND, with_ack(state, 10));
        assert_eq!(age(&frame), (41 * SECOND, true));
    }
    // What brings a socket into these states is no ACK.
    for state in [TcpState::LastAck, TcpState::SynSent] {
        let mut leaks = Leaks::new(states(), OLDER, true);
        assert_eq!(age(&scanned(&mut leaks, start, with_ack(state, 40_000))), (0, true));
    }
}

#[test]
fn data_that_moved_a_tick_after_the_entry_moved_before_it() {
    let start = 1000 * SECOND;
    for (sent_ms, expected) in [(39_995, (40 * SECOND, false)), (39_000, (39 * SECOND, true))] {
        let mut leaks = Leaks::new(states(), OLDER, true);
        leaks.apply_transition(&enters(start, 9), true);
        let mut found = close_wait(9);
        found.detail.last_sent_ms = Some(sent_ms);
        let frame = scanned(&mut leaks, start + 40 * SECOND, vec![found]);
        assert_eq!(age(&frame), expected);
    }
}

#[test]
fn another_socket_or_another_state_begins_anew() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    let start = 1000 * SECOND;
    leaks.apply_transition(&enters(start, 9), true);
    let mut other = close_wait(9);
    other.detail.cookie = NonZeroU64::new(10);
    scanned(&mut leaks, start + SECOND, vec![close_wait(9)]);
    leaks.apply_transition(&leaves(start + 2 * SECOND, 9, None), true);
    assert_eq!(age(&scanned(&mut leaks, start + 3 * SECOND, vec![other])), (0, true));
    let mut leaks = Leaks::new(states(), OLDER, true);
    scanned(&mut leaks, start, vec![socket(TcpState::FinWait2, 9)]);
    let frame = scanned(&mut leaks, start + SECOND, vec![close_wait(9)]);
    assert_eq!(age(&frame), (0, true));
    // An entry whose end went unseen is not that of the next.
    let mut leaks = Leaks::new(states(), OLDER, true);
    leaks.apply_transition(&enters(start, 9), true);
    scanned(&mut leaks, start + SECOND, vec![]);
    let frame = scanned(&mut leaks, start + 2 * SECOND, vec![close_wait(9)]);
    assert_eq!(age(&frame), (0, true));
}

#[test]
fn closings_are_counted_however_they_are_known() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    let start = 1000 * SECOND;
    let sockets = |peers: &[u16]| peers.iter().map(|&peer| close_wait(peer)).collect::<Vec<_>>();
    scanned(&mut leaks, start, sockets(&[1, 2, 3, 4]));
    // The kernel shows its time, whether or not a scan found it.
    leaks.apply_transition(&leaves(start + SECOND, 9, Some(40)), true);
    leaks.apply_transition(&leaves(start + SECOND, 10, Some(31 * SECOND)), true);
    // Without the kernel's time it is known from a scan, or not at all.
    leaks.apply_transition(&leaves(start + 40 * SECOND, 1, None), true);
    leaks.apply_transition(&leaves(start + 40 * SECOND, 11, None), true);
    // The transition of one is read after the scan that does not find it, that of another is lost.
    scanned(&mut leaks, start + 50 * SECOND, sockets(&[2, 3, 4, 5]));
    let frame = scanned(&mut leaks, start + 60 * SECOND, sockets(&[2, 3]));
    assert_eq!(frame.groups[0].closings.late, 2);
    leaks.apply_transition(&leaves(start + 55 * SECOND, 5, Some(36 * SECOND)), true);
    let frame = scanned(&mut leaks, start + 65 * SECOND, sockets(&[2, 3]));
    let group = &frame.groups[0];
    let expected = Closings {
        prompt: 1,
        longest_prompt_ns: 40,
        late: 4,
        late_ns: Some([31 * SECOND, 50 * SECOND]),
        last_late_ns: Some(start + 65 * SECOND),
        unknown: 1,
        ended: 0,
    };
    assert_eq!(group.closings, expected);
    assert_eq!((group.sockets, group.last_late_ns), (2, Some(0)));
    assert_eq!(
        group.watched_ns,
        Some(25 * SECOND),
        "since how one was closed was unknown"
    );
    let growth = group.growth_per_min.unwrap() * 65.0 / 60.0;
    assert!((growth + 2.0).abs() < 1e-9, "of four, two are left: {growth}");
    assert_eq!(frame.groups.len(), 1, "all are of one group");
}

#[test]
fn what_leaves_during_a_scan_is_gone() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    leaks.start_scan();
    leaks.apply_transition(&leaves(1000 * SECOND, 1, Some(5)), true);
    leaks.apply_scan(scan(1001 * SECOND, vec![close_wait(1), close_wait(2)]));
    let frame = leaks.frame(0, true, 0);
    assert_eq!((frame.in_state(), frame.groups[0].closings.prompt), (1, 1));
    // The state that it went to is no state that it left.
    leaks.start_scan();
    leaks.apply_transition(&leaves(1002 * SECOND, 2, Some(5)), true);
    leaks.apply_scan(scan(1003 * SECOND, vec![socket(TcpState::LastAck, 2)]));
    assert_eq!(leaks.frame(0, true, 0).in_state(), 1);
}

#[test]
fn a_watch_begins_with_the_scan_that_follows() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    scanned(
        &mut leaks,
        1000 * SECOND,
        vec![close_wait(1), close_wait(2), close_wait(3)],
    );
    leaks.apply_transition(&leaves(1001 * SECOND, 1, Some(40 * SECOND)), true);
    leaks.start_watch();
    let frame = scanned(&mut leaks, 1002 * SECOND, vec![close_wait(3)]);
    let group = frame.groups[0].clone();
    assert_eq!((group.closings, group.watched_ns), (Closings::default(), Some(0)));
    assert_eq!(age(&frame), (2 * SECOND, true), "what was known stays so");
    let frame = scanned(&mut leaks, 1062 * SECOND, vec![close_wait(3)]);
    assert_eq!(
        (frame.groups[0].watched_ns, frame.groups[0].growth_per_min),
        (Some(60 * SECOND), Some(0.0))
    );
}

#[test]
fn closings_of_others_than_asked_for_do_not_count() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    scanned(&mut leaks, 1000 * SECOND, vec![close_wait(1), close_wait(2)]);
    leaks.apply_transition(&leaves(1001 * SECOND, 9, Some(5)), false);
    leaks.apply_transition(&leaves(1001 * SECOND, 1, Some(40 * SECOND)), false);
    let frame = scanned(&mut leaks, 1002 * SECOND, vec![close_wait(2)]);
    let closings = frame.groups[0].closings;
    assert_eq!((closings.prompt, closings.late), (0, 1), "a scan had found the second");
}

#[test]
fn numbers_are_of_the_stuck_and_a_fin_is_no_data() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    let start = 1000 * SECOND;
    let with = |peer: u16, receive: u32, send: u32, fds: &[u32]| {
        let mut found = close_wait(peer);
        found.detail.receive_queue = Some(receive);
        found.detail.send_queue = Some(send);
        found.holders[0].fds = fds.to_vec();
        found
    };
    let mut unaccepted = with(4, 1, 0, &[]);
    unaccepted.detail.socket.inode = None;
    unaccepted.holders.clear();
    let sockets = || {
        let mut sockets = vec![with(1, 0, 0, &[9]), with(2, 1, 3, &[7]), with(3, 6, 0, &[6, 8])];
        sockets.push(unaccepted.clone());
        sockets
    };
    scanned(&mut leaks, start, sockets());
    let mut later = sockets();
    later.push(with(5, 100, 100, &[20]));
    let frame = scanned(&mut leaks, start + OLDER, later);
    let [group] = frame.groups.as_slice() else {
        panic!("{frame:?}");
    };
    assert_eq!((group.in_state, group.sockets, group.unaccepted), (5, 4, 1));
    assert_eq!((group.unread_bytes, group.unread), (Some(5), 1));
    assert_eq!((group.eof_read, group.eof_unread), (1, 2));
    assert_eq!((group.unsent_bytes, group.unsent), (Some(3), 1));
    assert_eq!((group.fds_of_owner(), group.fds), (&[6, 7, 8, 9][..], 4));
    assert_eq!(group.inodes, [1, 2, 3].map(|inode| NonZeroU32::new(inode).unwrap()));
    assert_eq!((group.lport.get(), group.rport.get()), (Some(HERE), None));
    assert_eq!(group.remote.get(), Some(address(2)));
    // Ours in LAST_ACK is none either.
    let mut last_ack = socket(TcpState::LastAck, 1);
    last_ack.detail.send_queue = Some(1);
    let mut leaks = Leaks::new(states(), 0, true);
    let frame = scanned(&mut leaks, start, vec![last_ack]);
    assert_eq!((frame.groups[0].unsent_bytes, frame.groups[0].unsent), (Some(0), 0));
}

#[test]
fn groups_are_by_process_place_and_state() {
    let mut leaks = Leaks::new(states(), 0, true);
    let active = |peer: u16| {
        let mut found = close_wait(peer);
        (found.detail.socket.lport, found.detail.socket.rport) = (40_000 + peer, 443);
        found
    };
    let mut others = close_wait(9);
    others.process = Some(app(13, How::Scan));
    let mut orphan = socket(TcpState::FinWait2, 5);
    (orphan.detail.socket.inode, orphan.process) = (None, None);
    orphan.holders.clear();
    let sockets = vec![
        close_wait(1),
        close_wait(2),
        active(3),
        active(4),
        others,
        orphan,
        socket(TcpState::FinWait2, 6),
    ];
    let frame = scanned(&mut leaks, 1000 * SECOND, sockets);
    let mut groups: Vec<_> = frame
        .groups
        .iter()
        .map(|group| {
            let pid = group.key.pid.map(NonZeroU32::get);
            (
                group.key.state.key(),
                pid,
                group.key.side,
                group.key.orphans,
                group.sockets,
            )
        })
        .collect();
    groups.sort_unstable();
    let (passive, to) = (Side::Passive(HERE), Side::Active(address(2), 443));
    assert_eq!(
        groups,
        [
            ("close_wait", Some(12), passive, false, 2),
            ("close_wait", Some(12), to, false, 2),
            ("close_wait", Some(13), passive, false, 1),
            ("fin_wait2", None, passive, true, 1),
            ("fin_wait2", Some(12), passive, false, 1),
        ]
    );
    // How it was opened is surer than who listens now; and what was a server's stays one when nobody listens any more.
    let mut leaks = Leaks::new(states(), 0, true);
    let opened = Some(Opened::Active);
    leaks.apply_transition(&Transition { opened, ..enters(1, 1) }, true);
    let frame = scanned(&mut leaks, 1000 * SECOND, vec![close_wait(1), close_wait(2)]);
    assert_eq!(frame.groups.len(), 2);
    let mut nobody = scan(1001 * SECOND, vec![close_wait(2)]);
    nobody.listeners.clear();
    leaks.apply_scan(nobody);
    assert_eq!(leaks.frame(0, true, 0).groups[0].key.side, passive);
}

#[test]
fn an_owner_is_who_holds_it_or_was_seen_to_take_it() {
    let mut leaks = Leaks::new(states(), 0, true);
    let start = 1000 * SECOND;
    leaks.apply_transition(&enters(start, 1), true);
    let mut unknown = close_wait(1);
    (unknown.process, unknown.holders) = (None, Vec::new());
    let frame = scanned(&mut leaks, start + 1, vec![unknown.clone()]);
    assert_eq!(frame.groups[0].owner, Some(app(12, How::Accept)));
    // Strangers share it: who accepted it is no more its owner than the others.
    let mut shared = unknown.clone();
    for pid in [20, 21] {
        shared.holders.push(Holder {
            process: app(pid, How::Scan).into(),
            fds: vec![3],
        });
    }
    let frame = scanned(&mut leaks, start + 2, vec![shared]);
    let group = &frame.groups[0];
    assert_eq!((group.owner, group.holders.len(), group.fds), (None, 2, 2));
    // A scan without /proc takes nothing away.
    let mut unasked = scan(start + 3, vec![unknown]);
    unasked.unseen = None;
    leaks.apply_scan(unasked);
    assert_eq!(leaks.frame(0, true, 0).groups[0].holders.len(), 2);
}

#[test]
fn descriptors_are_bounded_and_the_rest_counted() {
    let mut leaks = Leaks::new(states(), 0, true);
    let sockets = (1..=1100).map(|peer: u16| {
        let mut found = close_wait(peer);
        found.holders[0].fds = vec![u32::from(peer)];
        found
    });
    let frame = scanned(&mut leaks, SECOND, sockets.collect());
    let group = &frame.groups[0];
    assert_eq!(
        (group.fds_of_owner().len(), group.fds, group.inodes.len()),
        (FDS_MAX, 1100, 1100)
    );
}

/// The socket `number`, with the inode number `inode`, was ended at `at_ns`: its descriptor may be open.
fn ends(number: u16, inode: u32, at_ns: u64) -> Transition {
    Transition {
        inode: NonZeroU32::new(inode),
        evidence: Some(Evidence {
            err: 32,
            flags: KNOWN,
            from: TcpState::CloseWait.number(),
            ..bytemuck::Zeroable::zeroed()
        }),
        ..event(TcpState::CloseWait, TcpState::Close, at_ns, number)
    }
}

#[test]
fn of_an_inode_number_used_again_only_the_newer_socket_is_remembered() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    for number in 1..=5 {
        leaks.apply_transition(&ends(number, 7, SECOND), true);
    }
    assert_eq!(leaks.ended.len(), [1, 1]);
}

#[test]
fn an_ended_socket_that_scans_no_longer_look_for_expires_and_is_counted() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    scanned(&mut leaks, SECOND, vec![close_wait(1), close_wait(2)]);
    for number in [1, 2] {
        leaks.apply_transition(&ends(number, number.into(), 2 * SECOND), true);
    }
    let held = || SocketHolders {
        process: Some(app(12, How::Scan)),
        holders: close_wait(1).holders,
    };
    let mut counts = [61, 601, 602, 1500].map(|second| {
        let mut found = scan(second * SECOND, vec![]);
        found.held.extend([(NonZeroU32::MIN, held())]);
        // A scan that could not read /proc decides nothing.
        found.unseen = (second != 601).then(Unseen::default);
        leaks.apply_scan(found);
        let frame = leaks.frame(0, true, 0);
        (frame.stuck()[1], leaks.ended.len(), frame.evicted)
    });
    counts.sort_unstable_by_key(|&(_, _, evicted)| evicted);
    assert_eq!(counts[..2], [(2, [2, 2], 0); 2]);
    assert_eq!(counts[2..], [(1, [1, 1], 1); 2]);
}

#[test]
fn what_leaves_fin_wait_2_soon_is_closed_whatever_the_evidence() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    scanned(&mut leaks, SECOND, vec![socket(TcpState::FinWait2, 1)]);
    let end = Transition {
        dwell_ns: Some(SECOND),
        evidence: Some(bytemuck::Zeroable::zeroed()),
        ..event(TcpState::FinWait2, TcpState::Close, 2 * SECOND, 1)
    };
    leaks.apply_transition(&end, true);
    assert_eq!(leaks.ended.len(), [0, 0], "no scan would look for its descriptor");
    let frame = scanned(&mut leaks, 100 * SECOND, vec![close_wait(2)]);
    assert_eq!(frame.stuck(), [0, 0]);
}

#[test]
fn closings_are_noted_while_a_scan_is_under_way_and_those_without_room_counted() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    let mut leave = |from: usize, to: usize| {
        for number in from..to {
            let cookie = NonZeroU64::new(number as u64 + 1);
            let event = Transition {
                cookie,
                rport: None,
                ..event(TcpState::CloseWait, TcpState::Close, 5, 1)
            };
            leaks.apply_transition(&event, true);
        }
        let noted = leaks.closed_during_scan.as_ref().map(HashSet::len);
        (noted, leaks.evicted)
    };
    // The second of the two identities has no room for one that has both.
    let most = CLOSED_MAX - 1;
    assert_eq!(leave(0, most + 3), (Some(most), 3));
    leaks.apply_scan(scan(SECOND, vec![]));
    leaks.apply_transition(&leaves(5, 1, Some(1)), true);
    assert_eq!((leaks.closed_during_scan.is_none(), leaks.evicted), (true, 3));
}

#[test]
fn what_is_remembered_is_bounded_and_the_rest_counted() {
    let ends = |number: usize, from, to| {
        let number = u32::try_from(number).unwrap();
        let remote = Address::new(Ipv4Addr::from(0x0b00_0000 + number).into(), 0);
        Transition {
            cookie: None,
            remote,
            opened: Some(Opened::Active),
            dwell_ns: Some(1),
            ..event(from, to, 5, 443)
        }
    };
    let mut leaks = Leaks::new(states(), OLDER, true);
    for number in 0..ENTRIES_MAX + 3 {
        leaks.apply_transition(&ends(number, TcpState::Established, TcpState::CloseWait), true);
    }
    assert_eq!((leaks.entries.len(), leaks.evicted), (ENTRIES_MAX, 3));
    let mut leaks = Leaks::new(states(), OLDER, true);
    scanned(&mut leaks, SECOND, vec![close_wait(1)]);
    for number in 0..GROUPS_MAX[1] + 3 {
        leaks.apply_transition(&ends(number, TcpState::CloseWait, TcpState::LastAck), true);
    }
    assert_eq!((leaks.histories.len(), leaks.evicted), (GROUPS_MAX[1], 4));
    // The next scan evicts groups without sockets; a group whose past may have been evicted is watched anew.
    let frame = scanned(
        &mut leaks,
        40 * SECOND,
        vec![close_wait(1), socket(TcpState::FinWait2, 2)],
    );
    assert!(leaks.histories.len() <= 2);
    assert!(frame.evicted > 4);
    let window = |state: TcpState| {
        let groups = &frame.groups;
        groups.iter().find(|group| group.key.state == state).unwrap().watched_ns
    };
    assert_eq!(window(TcpState::CloseWait), Some(39 * SECOND));
    assert_eq!(window(TcpState::FinWait2), Some(0));
}

#[test]
fn any_sequence_is_taken() {
    let mut rng = TestRng(4);
    let mut leaks = Leaks::new(states(), OLDER, true);
    let states = [
        TcpState::Established,
        TcpState::CloseWait,
        TcpState::FinWait2,
        TcpState::SynSent,
        TcpState::LastAck,
        TcpState::Close,
    ];
    let mut pick = |among: u64| rng.next() % among;
    for _ in 0..20_000 {
        let peer = u16::try_from(pick(5)).unwrap();
        let at_ns = pick(100 * SECOND) + MILLISECOND;
        let [from, to] = [pick(6), pick(6)].map(|state| states[usize::try_from(state).unwrap()]);
        if pick(20) > 0 {
            let moved = Transition {
                dwell_ns: (pick(2) > 0).then_some(at_ns),
                cookie: NonZeroU64::new(pick(3)),
                lport: NonZeroU16::new(u16::try_from(pick(2)).unwrap()),
                netns: NonZeroU32::new(u32::try_from(pick(2)).unwrap()),
                ..event(from, to, at_ns, peer)
            };
            let number = u32::try_from(pick(3)).unwrap();
            let ended = Transition {
                inode: NonZeroU32::new(number),
                evidence: ends(1, number, 0).evidence,
                ..moved
            };
            let event = if to == TcpState::Close { &ended } else { &moved };
            leaks.apply_transition(event, pick(2) > 0);
            // Descriptors of two sockets, or of one of the five that scans find.
            let [sockets, cookies] = leaks.ended.len();
            assert!(cookies <= sockets && sockets <= 7, "{sockets} {cookies}");
            continue;
        }
        let mut sockets = Vec::new();
        for state in states {
            let mut found = socket(state, u16::try_from(pick(5)).unwrap());
            found.detail.last_ack_ms = Some(u32::MAX);
            found.detail.receive_queue = Some(u32::try_from(pick(3)).unwrap().wrapping_sub(1));
            found.detail.send_queue = (pick(2) > 0).then_some(u32::MAX);
            sockets.push(found);
        }
        let mut scan = scan(at_ns, sockets);
        scan.left_out = pick(2);
        leaks.apply_scan(scan);
        let frame = leaks.frame(i64::MAX, pick(2) > 0, pick(9));
        let [stuck, ended] = frame.stuck();
        assert!(stuck - ended <= frame.in_state() && frame.in_state() <= 6);
        let kept = [
            leaks.sockets.len(),
            leaks.missing.len(),
            leaks.reported.len(),
            leaks.exited.len(),
        ];
        assert!(kept.into_iter().all(|kept| kept <= 6), "{kept:?}");
    }
}

#[test]
fn to_read_the_fin_moves_no_data() {
    // Unread in one scan and in the next, with the peer's FIN, and whether the time begins anew.
    for (unread, is_read) in [([1, 0], false), ([6, 1], true), ([6, 0], true), ([6, 6], false)] {
        let mut leaks = Leaks::new(states(), OLDER, true);
        let start = 1000 * SECOND;
        let [mut first, mut second] = [1, 1].map(close_wait);
        (first.detail.receive_queue, second.detail.receive_queue) = (Some(unread[0]), Some(unread[1]));
        scanned(&mut leaks, start, vec![first]);
        let frame = scanned(&mut leaks, start + OLDER, vec![second]);
        let stuck = u64::from(!is_read);
        assert_eq!(frame.groups[0].sockets, stuck, "{unread:?}");
    }
}

#[test]
fn processes_of_different_names_are_one_by_number() {
    let mut leaks = Leaks::new(states(), 0, true);
    let mut renamed = close_wait(2);
    renamed.process = Some(Owner {
        comm: Comm::new(b"other"),
        ..app(12, How::Scan)
    });
    renamed.holders[0].process = Process {
        comm: Comm::new(b"other"),
        ..app(12, How::Scan).into()
    };
    let frame = scanned(&mut leaks, SECOND, vec![close_wait(1), renamed]);
    assert_eq!((frame.groups.len(), frame.groups[0].holders.len()), (1, 1));
}

/// A map gives its entries in any order.
#[test]
fn a_group_does_not_depend_on_the_order_of_its_sockets() {
    let renamed = |peer: u16, state| {
        let mut found = socket(state, peer);
        let owner = Owner {
            comm: Comm::new(format!("app{peer}").as_bytes()),
            ..app(12, How::Scan)
        };
        (found.process, found.holders[0].process) = (Some(owner), owner.into());
        found.detail.socket.rport = if state == TcpState::SynSent { 80 } else { peer };
        found.detail.socket.lport = if state == TcpState::SynSent { peer } else { HERE };
        found.awaited = Some(AcceptQueue {
            queued: peer.into(),
            limit: 1,
            owner: None,
        });
        found
    };
    for state in [TcpState::CloseWait, TcpState::SynSent] {
        for _ in 0..8 {
            let mut leaks = Leaks::new(states(), 0, true);
            let sockets = (1..=8).map(|peer| renamed(peer, state)).collect();
            let frame = scanned(&mut leaks, SECOND, sockets);
            let group = &frame.groups[0];
            let first = Comm::new(b"app1");
            assert_eq!(
                (
                    frame.groups.len(),
                    group.owner.unwrap().comm,
                    group.holders[0].process.comm
                ),
                (1, first, first)
            );
            assert_eq!(group.awaited.unwrap().queued, 8, "the fullest queue");
        }
    }
}

#[test]
fn whose_listener_is_gone_is_still_one_service() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    let start = 1000 * SECOND;
    let without_listener = |sockets: Vec<ScannedSocket>| SocketScan {
        listeners: HashSet::new(),
        ..scan(start, sockets)
    };
    let sides = |leaks: &Leaks| {
        let mut sides: Vec<Side> = leaks.sockets.values().map(|socket| socket.key.side).collect();
        sides.sort_unstable();
        sides.dedup();
        sides
    };
    // Many peers at one port here, whatever its number.
    let of_peers = (1..=5).map(close_wait).collect();
    leaks.apply_scan(without_listener(of_peers));
    assert_eq!(sides(&leaks), [Side::Passive(HERE)]);
    // Many ports here to one there.
    let to_one = (1..=5).map(|lport| {
        let mut found = close_wait(9999);
        found.detail.cookie = NonZeroU64::new(lport.into());
        found.detail.socket.lport = lport;
        found
    });
    let mut leaks = Leaks::new(states(), OLDER, true);
    leaks.apply_scan(without_listener(to_one.collect()));
    assert_eq!(sides(&leaks), [Side::Active(address(2), 9999)]);
    // One alone: a service has the smaller number.
    for (peer, side) in [(50_000, Side::Passive(HERE)), (80, Side::Active(address(2), 80))] {
        let mut leaks = Leaks::new(states(), OLDER, true);
        leaks.apply_scan(without_listener(vec![close_wait(peer)]));
        assert_eq!(sides(&leaks), [side]);
        // The other end of one that is here too.
        let mut leaks = Leaks::new(states(), OLDER, true);
        leaks.apply_scan(SocketScan {
            listeners: HashSet::from_iter([(NETNS, peer)]),
            ..scan(start, vec![close_wait(peer)])
        });
        assert_eq!(sides(&leaks), [Side::Active(address(2), peer)]);
        let mut leaks = Leaks::new(states(), OLDER, true);
        leaks.apply_scan(without_listener(vec![socket(TcpState::SynSent, peer)]));
        assert_eq!(
            sides(&leaks),
            [Side::Active(address(2), peer)],
            "who sends a SYN connects"
        );
    }
}

#[test]
fn what_a_scan_left_out_is_not_counted_again_by_the_next() {
    let mut leaks = Leaks::new(states(), OLDER, true);
    for turn in 1..4 {
        let mut full = scan(turn * SECOND, vec![close_wait(1)]);
        full.left_out = 5;
        leaks.apply_scan(full);
        assert_eq!(leaks.frame(0, true, 0).evicted, 5);
    }
    assert_eq!(scanned(&mut leaks, 5 * SECOND, vec![close_wait(1)]).evicted, 0);
    leaks.evicted = 2;
    leaks.apply_scan(SocketScan {
        left_out: u64::MAX,
        ..scan(6 * SECOND, Vec::new())
    });
    assert_eq!(leaks.frame(0, true, 0).evicted, u64::MAX);
}
