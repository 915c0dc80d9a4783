//! Unit tests.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::time_wait_by::{LocalEnd, RemoteEnd, TimeWaitBy};
use super::*;
use crate::input::LedgerSample;
use crate::input::container::Cgroup;
use crate::input::histogram::bucket;
use crate::input::owner::{Comm, How, Owner};
use crate::input::ports::range::PortRange;
use crate::input::ports::walk::{WALK_MAX, Walk};
use crate::input::socket::{Family, Kind, Socket};
use crate::model::ports::table::ENDS_MAX;
use crate::model::stat::Stat;

pub(crate) fn event(opened: Opened, remote: [u8; 4], pid: u32, from: TcpState, to: TcpState) -> Transition {
    Transition {
        unix_ns: 0,
        monotonic_ns: 5,
        id: None,
        cookie: None,
        family: Family::Ipv4,
        local: Address::new(Ipv4Addr::new(10, 0, 0, 1).into(), 0),
        lport: NonZeroU16::new(40_000),
        remote: Address::new(Ipv4Addr::from(remote).into(), 0),
        rport: NonZeroU16::new(80),
        from,
        to,
        opened: Some(opened),
        bound: None,
        dwell_ns: None,
        netns: None,
        owner: Some(Owner {
            pid: NonZeroU32::new(pid),
            comm: Comm::new(b"app"),
            how: How::Connect,
            cgroup: None,
        }),
        inode: None,
        evidence: None,
    }
}

fn life(last: Transition, ns: u64) -> Connection {
    Connection {
        last,
        spent_ns: [ns - 1, 1, 0, 0, 0, 0, 0, 0],
        traffic: Some(Traffic {
            sent: 10,
            received: 5000,
            srtt_us: None,
            retransmits: 0,
        }),
        closer: None,
    }
}

/// The host's numbers of an interval in which nothing happened.
pub(crate) fn stat() -> StatFrame {
    let mut stat = Stat::default();
    stat.ledger(Box::new(LedgerSample {
        moves: [[0; 16]; 16],
        sockets: [0; 16],
        ends: Vec::new(),
        uncounted_ends: 0,
        missed_resets: Some(0),
        lost: 0,
        missed: None,
        unmarked: 0,
        drift: None,
    }));
    stat.interval(Timestamp::UNIX_EPOCH, 1).unwrap()
}

#[test]
fn the_busiest_opener_comes_first_with_what_it_cost() {
    use TcpState::{Close, Established, FinWait2, SynSent};
    let mut churn = Churn::new(0);
    for _ in 0..3 {
        let opened = event(Opened::Active, [10, 0, 0, 9], 7, SynSent, Established);
        churn.opened(&opened, &CgroupPaths::default());
        churn.ended(
            &life(event(Opened::Active, [10, 0, 0, 9], 7, FinWait2, Close), 1000),
            Ending::GracefulActive,
            &CgroupPaths::default(),
        );
    }
    churn.ended(
        &life(event(Opened::Active, [10, 0, 0, 8], 7, SynSent, Close), 1000),
        Ending::Refused,
        &CgroupPaths::default(),
    );
    churn.opened(
        &event(Opened::Passive, [10, 0, 0, 5], 8, TcpState::SynRecv, Established),
        &CgroupPaths::default(),
    );
    let frame = churn.frame(stat(), 100, 10, 0);
    let first = &frame.routes[0];
    assert_eq!(
        first.tally.exchanged,
        Exchanged {
            connections: 3,
            bytes: 30
        }
    );
    assert_eq!(first.tally.exchanged.mean(), Some(10));
    assert_eq!((first.tally.opened, first.tally.time_wait), (3, 3));
    assert_eq!(
        (first.tally.lifetime.count(), first.tally.lifetime.max().map(bucket)),
        (3, Some(bucket(1000)))
    );
    let openers: Vec<_> = frame.routes.iter().map(|route| route.opener.clone()).collect();
    assert!(openers.contains(&Opener::Peer {
        address: Ipv4Addr::new(10, 0, 0, 5).into(),
        netns: None
    }));
    assert_eq!(openers.len(), 3);
    assert_eq!((frame.failed().get(Ending::Refused), frame.opened()), (1, 4));
    assert_eq!(frame.time(10), Timestamp::from_nanosecond(100).unwrap());
    assert!(
        churn.frame(stat(), 0, 20, 0).routes.is_empty(),
        "an interval is shown once"
    );
}

#[test]
fn an_opening_with_both_ends_here_is_counted_once_whatever_the_filter() {
    let opened = |server: [u8; 4], options: &[(&str, &str)]| {
        let mut filter = Filter::default();
        for &(option, value) in options {
            match option {
                "lport" => filter.lport = value.parse().unwrap(),
                "rport" => filter.rport = value.parse().unwrap(),
                "port" => filter.port = value.parse().unwrap(),
                _ => filter.local = vec![value.parse().unwrap()],
            }
        }
        let client = event(Opened::Active, server, 7, TcpState::SynSent, TcpState::Established);
        let server = Transition {
            local: client.remote,
            lport: client.rport,
            remote: client.local,
            rport: client.lport,
            opened: Some(Opened::Passive),
            ..client
        };
        let mut churn = Churn::filtered(&filter, OwnerBy::Process, 0);
        for end in [client, server] {
            let port = |port: Option<NonZeroU16>| port.unwrap().get();
            let (local, remote) = ((end.local.ip, port(end.lport)), (end.remote.ip, port(end.rport)));
            if filter.matches_ends(end.family, local, remote) {
                churn.opened(&end, &CgroupPaths::default());
            }
        }
        churn.frame(stat(), 0, 10, 0).opened()
    };
    for server in [[10, 0, 0, 1], [10, 0, 0, 2]] {
        for filter in [
            ("lport", "80"),
            ("rport", "80"),
            ("port", "80"),
            ("local", "10.0.0.0/8"),
        ] {
            assert_eq!(opened(server, &[filter]), 1, "{filter:?}");
        }
        assert_eq!(opened(server, &[]), 1);
        assert_eq!(opened(server, &[("lport", "81")]), 0);
    }
}

#[test]
fn equal_peers_and_ports_of_two_namespaces_are_apart() {
    use TcpState::{Close, FinWait2, SynRecv};
    let mut churn = Churn::new(0);
    for (netns, times) in [(1, 2), (2, 5)] {
        let netns = NonZeroU32::new(netns);
        let of_peer = |from, to| Transition {
            netns,
            ..event(Opened::Passive, [10, 0, 0, 5], 8, from, to)
        };
        for _ in 0..times {
            churn.opened(&of_peer(SynRecv, TcpState::Established), &CgroupPaths::default());
            churn.ended(
                &life(of_peer(FinWait2, Close), 1000),
                Ending::GracefulActive,
                &CgroupPaths::default(),
            );
        }
    }
    let frame = churn.frame(stat(), 0, 10, 0);
    let openers: Vec<_> = frame.routes.iter().map(|route| route.opener.netns()).collect();
    let [one, two] = [1, 2].map(NonZeroU32::new);
    assert_eq!(openers, [two, one]);
    let by = TimeWaitBy::from_routes(&frame.routes);
    let lports: Vec<_> = by.lport.iter().map(|(end, count)| (end.netns, *count)).collect();
    let peers: Vec<_> = by.peer.iter().map(|(end, count)| (end.netns, *count)).collect();
    assert_eq!((lports, peers), (vec![(two, 5), (one, 2)], vec![(two, 5), (one, 2)]));
}

/// A connection from here to port 80 of `remote`, in TIME_WAIT.
pub(crate) fn waiting(remote: Address, lport: u16) -> Socket {
    Socket {
        family: Family::Ipv4,
        state: TcpState::TimeWait,
        kind: Some(Kind::Timewait),
        local: Address::new(Ipv4Addr::new(10, 0, 0, 1).into(), 0),
        lport,
        remote,
        rport: 80,
        uid: None,
        inode: None,
        netns: 1,
    }
}

#[test]
fn ports_that_found_no_room_are_counted() {
    let mut churn = Churn::new(0);
    let frame = churn.frame(stat(), 0, 0, 0);
    assert_eq!(
        (frame.ports_evicted, frame.ports_left_out),
        (None, None),
        "the ports are not walked"
    );
    let settings = Settings {
        range: PortRange::parse("40000 40099", ""),
        ..Settings::default()
    };
    let mut walk = Walk::default();
    for to in (0..).take(WALK_MAX + 3) {
        let remote = Address::new(Ipv4Addr::from_bits(to).into(), 0);
        walk.add(&waiting(remote, 40_000), settings.range.as_ref().unwrap());
    }
    let evicted = Some((WALK_MAX - ENDS_MAX) as u64);
    for (walk, left_out) in [(walk, 3), (Walk::default(), 0)] {
        let settings = settings.clone();
        churn.walked(Some(PortsSample {
            netns: None,
            monotonic_ns: 1_000_000_000,
            settings,
            walk,
        }));
        let frame = churn.frame(stat(), 0, 0, 0);
        assert_eq!((frame.ports_evicted, frame.ports_left_out), (evicted, Some(left_out)));
    }
}

/// A walk of the namespace `netns` that finds no port in use.
fn walk(netns: u32) -> PortsSample {
    PortsSample {
        netns: NonZeroU32::new(netns),
        monotonic_ns: 0,
        settings: Settings::default(),
        walk: Walk::default(),
    }
}

#[test]
fn ports_are_those_of_the_namespace_that_is_walked() {
    let mut churn = Churn::new(0);
    let opens = |churn: &mut Churn, netns| {
        churn.opened(
            &Transition {
                netns: NonZeroU32::new(netns),
                ..event(
                    Opened::Active,
                    [10, 0, 0, 9],
                    7,
                    TcpState::SynSent,
                    TcpState::Established,
                )
            },
            &CgroupPaths::default(),
        );
    };
    let used = |churn: &mut Churn| {
        let ports = churn.frame(stat(), 0, 10, 0).ports;
        ports.map(|rows| rows.iter().map(|row| row.used).sum::<u64>())
    };
    churn.walked(Some(walk(1)));
    for (netns, times) in [(1, 2), (2, 5)] {
        (0..times).for_each(|_| opens(&mut churn, netns));
    }
    assert_eq!(churn.frame(stat(), 0, 10, 0).ports_netns, NonZeroU32::new(1));
    assert_eq!(used(&mut churn), Some(2), "a container that starts has its own ports");
    churn.walked(None);
    opens(&mut churn, 1);
    assert_eq!(used(&mut churn), None, "there are several namespaces");
    churn.walked(Some(walk(1)));
    assert_eq!(used(&mut churn), Some(0), "what came before is old");
    opens(&mut churn, 1);
    churn.walked(Some(walk(2)));
    assert_eq!(used(&mut churn), Some(0), "it is another namespace");
}

#[test]
fn ports_are_followed_from_the_first_walk_on() {
    let mut churn = Churn::new(0);
    let opened = event(
        Opened::Active,
        [10, 0, 0, 9],
        7,
        TcpState::SynSent,
        TcpState::Established,
    );
    for (is_walked, rows) in [(false, None), (true, Some(1))] {
        if is_walked {
            assert!(churn.ports.is_none(), "ports that are not walked take no memory");
            churn.walked(Some(walk(1)));
        }
        churn.opened(&opened, &CgroupPaths::default());
        let frame = churn.frame(stat(), 0, 10, 0);
        assert_eq!(frame.ports.map(|rows| rows.len()), rows);
    }
}

#[test]
fn timewait_sockets_are_of_a_process_a_peer_and_a_port_on_either_side() {
    use TcpState::{Close, CloseWait, FinWait2};
    let mut churn = Churn::new(0);
    for (opened, remote, pid, times, ending) in [
        (Opened::Active, [10, 0, 0, 9], 7, 3, Ending::GracefulActive),
        (Opened::Passive, [10, 0, 0, 5], 8, 2, Ending::GracefulActive),
        (Opened::Passive, [10, 0, 0, 5], 9, 4, Ending::ClosedFirst),
        (Opened::Passive, [10, 0, 0, 6], 9, 5, Ending::GracefulPassive),
    ] {
        let from = if ending == Ending::GracefulPassive {
            CloseWait
        } else {
            FinWait2
        };
        for _ in 0..times {
            churn.ended(
                &life(event(opened, remote, pid, from, Close), 1000),
                ending,
                &CgroupPaths::default(),
            );
        }
    }
    let frame = churn.frame(stat(), 0, 10, 0);
    let by = TimeWaitBy::from_routes(&frame.routes);
    let process = |pid| {
        Some(OwnerGroup::from(Process {
            pid: NonZeroU32::new(pid),
            comm: Comm::new(b"app"),
        }))
    };
    let local = |port| LocalEnd { port, netns: None };
    let remote = |last, port| RemoteEnd {
        address: IpAddr::from([10, 0, 0, last]),
        port,
        netns: None,
    };
    assert_eq!(
        by,
        TimeWaitBy {
            lport: vec![(local(Some(40_000)), 6), (local(None), 3)],
            peer: vec![(remote(5, None), 6), (remote(9, Some(80)), 3)],
            process: vec![(process(9), 4), (process(7), 3), (process(8), 2)],
            other: 0,
            other_processes: 0,
        }
    );
}

/// Two workers in one pod, and a process in none.
#[test]
fn processes_are_what_they_have_in_common() {
    let pod = format!(
        "/kubepods/pod26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d/{}",
        "0a1b".repeat(16)
    );
    let shown = |by| {
        let mut churn = Churn::filtered(&Filter::default(), by, 0);
        let mut cgroups = CgroupPaths::default();
        for (pid, path) in [(7, pod.as_str()), (8, &pod), (9, "/init.scope")] {
            for (opened, from) in [
                (Opened::Active, TcpState::SynSent),
                (Opened::Passive, TcpState::SynRecv),
            ] {
                let event = event(opened, [10, 0, 0, 9], pid, from, TcpState::Established);
                cgroups.insert(&event.owner.unwrap(), Some(Arc::new(Cgroup::from(path.to_owned()))));
                churn.opened(&event, &cgroups);
                let ended = life(
                    Transition {
                        from: TcpState::FinWait2,
                        to: TcpState::Close,
                        ..event
                    },
                    1000,
                );
                churn.ended(&ended, Ending::GracefulActive, &cgroups);
            }
        }
        let frame = churn.frame(stat(), 0, 10, 0);
        let here = frame.routes.iter().filter(|route| route.opener.group().is_some());
        let here: Vec<String> = here
            .map(|route| format!("{} {}", route.opener, route.tally.opened))
            .collect();
        let by = TimeWaitBy::from_routes(&frame.routes).process;
        let name = |group: &Option<OwnerGroup>| group.as_ref().map_or_else(|| "?".into(), ToString::to_string);
        let by: Vec<String> = by
            .iter()
            .map(|(group, count)| format!("{} {count}", name(group)))
            .collect();
        (here, by)
    };
    let (opened, waiting) = shown(OwnerBy::Pod);
    assert_eq!(
        opened,
        ["26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d 2", "processes in no pod 1"]
    );
    assert_eq!(
        waiting,
        ["26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d 4", "processes in no pod 2"]
    );
    let (opened, waiting) = shown(OwnerBy::Comm);
    assert_eq!(
        (opened, waiting),
        (vec!["app[*] 3".to_owned()], vec!["app[*] 6".to_owned()])
    );
    assert_eq!(shown(OwnerBy::Process).0.len(), 3);
}
