//! Every view in every format, for one frame each: a change of output shows up as a change in `snapshots/`.

use std::io;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use insta::assert_snapshot;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tcpwatch_common::{StateSet, TcpState};

use super::leaks::ScanScope;
use super::screen::Screen;
use super::trace::tests::{connection, partly_seen};
use super::{View, csv, json, text, trace};
use crate::detect;
use crate::input::container::Cgroup;
use crate::input::counter::Counter;
use crate::input::histogram::Histogram;
use crate::input::latency::{LatencyBy, LatencyGroup, Measure, Retransmits};
use crate::input::namespace::NamespaceNames;
use crate::input::netns_selector::NetnsSelector;
use crate::input::owner::{Comm, Owner, OwnerBy, Process};
use crate::input::ports::ends::Ends;
use crate::input::ports::reuse::TwReuse;
use crate::input::socket::{Address, Family, Kind, Socket};
use crate::input::socket_owner::{Holder, SocketOwner, Unseen};
use crate::input::{Connection, Opened, Transition};
use crate::model::burst::Burst;
use crate::model::cgroups::CgroupPaths;
use crate::model::churn::{Churn, ChurnFrame, Opener, Route, Tally};
use crate::model::ending::Ending;
use crate::model::filter::Filter;
use crate::model::frame::Frame;
use crate::model::latency::{Group, LatencyFrame, MeasuredGroup};
use crate::model::leaks::states;
use crate::model::ports::row::{Limit, Row};
use crate::model::snapshot::{GroupBy, KeyPart, Origin, Snapshot, SnapshotBuilder};
use crate::model::socket_list::{ListedSocket, SocketList};
use crate::model::stat::{StatFrame, TimeWait};
use crate::model::trace::{TraceRow, TraceRows, TraceTotals};

/// The output of `view` for `frame`.
fn printed(mut view: impl View, frame: &Frame) -> String {
    let mut out = Vec::new();
    let findings = detect::inspect(&mut detect::all(), frame);
    view.begin(&mut out).unwrap();
    view.frame(frame, &findings, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn screen() -> Screen {
    Screen::plain(140)
}

/// Counts of a host with accept-queue overflows.
fn counts() -> StatFrame {
    let mut counts = detect::tests::counted(&[(Counter::ListenOverflows, 7), (Counter::ListenDrops, 7)]);
    counts.time = Timestamp::UNIX_EPOCH;
    counts.connections.add(TcpState::Established, 42);
    counts.connections.add(TcpState::TimeWait, 7);
    counts.moves[7][2] = 30;
    counts.moves[10][3] = 20;
    counts.ends.add(Ending::GracefulActive, 25);
    counts.ends.add(Ending::ResetByPeer, 5);
    (counts.seen, counts.missed) = (300, Some(0));
    counts
}

#[test]
fn stat() {
    let frame = Frame::from(&counts());
    assert_snapshot!(
        "stat.text",
        printed(text::stat::Text::new(TimeZone::UTC, screen(), StateSet::ALL), &frame)
    );
    let json = |states| json::stat::Json { states };
    let csv = |states| csv::stat::Csv { states };
    assert_snapshot!("stat.json", printed(json(StateSet::ALL), &frame));
    assert_snapshot!("stat.csv", printed(csv(StateSet::ALL), &frame));
    let asked = StateSet::NONE.with(TcpState::CloseWait).with(TcpState::Listen);
    assert_snapshot!(
        "stat_of_states.text",
        printed(text::stat::Text::new(TimeZone::UTC, screen(), asked), &frame)
    );
    assert_snapshot!("stat_of_states.json", printed(json(asked), &frame));
    assert_snapshot!("stat_of_states.csv", printed(csv(asked), &frame));
}

fn totals() -> TraceTotals {
    TraceTotals {
        seen: 7,
        printed: 2,
        dropped: 3,
        unmatched: 1,
        lost: 1,
        missed: Some(0),
    }
}

fn rows<T>(records: [T; 2]) -> TraceRows<T> {
    let row = |(record, ending)| TraceRow {
        record,
        ending,
        owner_unknown: None,
        cgroup: None,
    };
    TraceRows {
        rows: records
            .into_iter()
            .zip([Some(Ending::GracefulPassive), None])
            .map(row)
            .collect(),
        totals: Some(totals()),
    }
}

#[test]
fn trace_and_life() {
    let frame = Frame {
        transitions: rows([connection().last, partly_seen().last]),
        connections: rows([connection(), partly_seen()]),
        ..Frame::default()
    };
    let text = || text::trace::Text::new(TimeZone::UTC, screen());
    assert_snapshot!("trace.text", printed(trace::with_format::<Transition>(text()), &frame));
    assert_snapshot!("life.text", printed(trace::with_format::<Connection>(text()), &frame));
    let json = json::trace::Json::default;
    assert_snapshot!("trace.json", printed(trace::with_format::<Transition>(json()), &frame));
    assert_snapshot!("life.json", printed(trace::with_format::<Connection>(json()), &frame));
    let csv = csv::trace::Csv::default;
    assert_snapshot!("trace.csv", printed(trace::with_format::<Transition>(csv()), &frame));
    assert_snapshot!("life.csv", printed(trace::with_format::<Connection>(csv()), &frame));
}

/// An interval in which everything that `churn` counts occurred; processes are called `name`.
fn full_churn(name: &[u8]) -> ChurnFrame {
    let mut churn = Churn::new(0);
    let mut passive = connection();
    let mut active = connection();
    let owner = |pid| Owner {
        pid: NonZeroU32::new(pid),
        comm: Comm::new(name),
        ..connection().last.owner.unwrap()
    };
    (passive.last.owner, active.last.owner) = (Some(owner(812)), Some(owner(4_194_304)));
    (active.last.opened, active.last.rport) = (Some(Opened::Active), NonZeroU16::new(6379));
    for connection in [&passive, &active] {
        let established = Transition {
            from: TcpState::SynSent,
            to: TcpState::Established,
            ..connection.last
        };
        for _ in 0..20 {
            churn.opened(&established, &CgroupPaths::default());
            churn.ended(connection, Ending::GracefulActive, &CgroupPaths::default());
        }
    }
    for _ in 0..3 {
        let mut refused = active;
        (refused.last.from, refused.spent_ns) = (TcpState::SynSent, [0, 21_000, 0, 0, 0, 0, 0, 0]);
        churn.ended(&refused, Ending::Refused, &CgroupPaths::default());
    }
    let mut stat = counts();
    stat.time_wait = TimeWait {
        entered: Some(40),
        entered_fin_wait2: Some(2),
        left: Some(30),
        recycled: Some(1),
        refused: Some(4),
        population: Some(7),
        limit: Some(16_384),
        fullest: None,
    };
    let mut frame = churn.frame(stat, 0, 10, 5);
    let others = Route {
        opener: Opener::Here(None),
        destination: None,
        tally: Tally {
            opened: 9,
            time_wait: 8,
            ..Tally::default()
        },
    };
    frame.routes.push(others.clone());
    frame.by_name.push(others);
    let burst = |end_ns, owner| Burst {
        start_ns: 2_000_000_000,
        end_ns,
        opened: 4870,
        peak_per_s: 2400,
        owner,
    };
    frame.bursts = vec![burst(
        Some(5_000_000_000),
        Some(Opener::from(Process::from(owner(4_194_304)))),
    )];
    (frame.going, frame.burst_openers_evicted) = (Some(burst(None, None)), 1024);
    let row = |destination: &str| Row {
        ends: Ends {
            source: "2001:db8:85a3:8d3:1319:8a2e:370:7344".parse().unwrap(),
            destination: destination.parse().ok(),
        },
        used: 9_000,
        time_wait: 8_000,
        range: Some(28_232),
        free: Some(19_232),
        held_ms: Some(1_000),
        reuse: TwReuse::parse("1", "1", None),
        opened_per_s: 50.0,
        growth_per_s: Some(40.0),
        exhausted_in_s: None,
        limit: Some(Limit::Earliest),
    };
    frame.ports = Some(vec![row("[2001:db8:85a3:8d3:1319:8a2e:370:7348]:6379"), row("")]);
    (frame.ports_evicted, frame.ports_left_out, frame.routes_evicted) = (Some(3), Some(2), 6);
    frame
}

#[test]
fn churn() {
    let frame = Frame::from(&full_churn(b"nginx"));
    assert_snapshot!(
        "churn.text",
        printed(text::churn::Text::new(TimeZone::UTC, 10, screen()), &frame)
    );
    assert_snapshot!("churn.json", printed(json::churn::Json, &frame));
    assert_snapshot!("churn.csv", printed(csv::churn::Csv, &frame));
}

/// Sockets of processes called `name`, grouped by `by`.
fn snapshot_of(name: &[u8], by: &[GroupBy]) -> Snapshot {
    let mut builder = SnapshotBuilder::new(by);
    let nobody = SocketOwner::default();
    let remotes = ["10.0.3.17", "2001:db8:85a3:8d3:1319:8a2e:370:7348", "::1"];
    for (number, state) in (1..).zip(TcpState::ALL) {
        let address = |text: &str| Address::new(text.parse().unwrap(), 0);
        let socket = Socket {
            family: Family::Ipv6,
            state,
            kind: Some(Kind::Full),
            local: address("10.0.0.5"),
            lport: 8080,
            remote: address(remotes[number % remotes.len()]),
            rport: 40000,
            uid: None,
            inode: None,
            netns: 4_026_531_840,
        };
        let owner = SocketOwner {
            process: Some(Arc::new(Owner {
                pid: NonZeroU32::new(4_194_304),
                comm: Comm::new(name),
                ..connection().last.owner.unwrap()
            })),
            cgroup: Some(Arc::new(Cgroup::from(format!(
                "/system.slice/docker-{}.scope",
                "0a".repeat(32)
            )))),
        };
        for _ in 0..number * 111 {
            builder.add(&socket, if number > 9 { &nobody } else { &owner });
        }
    }
    let snapshot = builder.finish(Timestamp::UNIX_EPOCH, None, Origin::SockDiag, Some(4));
    Snapshot {
        unseen: Some(Unseen {
            sockets: 3,
            processes: 2,
            ..Unseen::default()
        }),
        ..snapshot
    }
}

/// Sockets of processes called `name`: a listener that two hold, one in a container, one whose owner is unknown, and one without.
fn list_of(name: &[u8]) -> SocketList {
    let snapshot = snapshot_of(name, &[GroupBy::Process, GroupBy::Cgroup]);
    let owner = |part: usize| {
        snapshot.groups.iter().find_map(|group| match &group.key[part] {
            KeyPart::Process(process) => process.clone(),
            _ => None,
        })
    };
    let cgroup = snapshot.groups.iter().find_map(|group| match &group.key[1] {
        KeyPart::Cgroup(cgroup) => cgroup.clone(),
        _ => None,
    });
    let holder = |pid, fds: &[u32]| Holder {
        process: Process {
            pid: NonZeroU32::new(pid),
            comm: Comm::new(name),
        },
        fds: fds.to_vec(),
    };
    let socket = |state, lport, remote: &str, rport, inode| Socket {
        family: Family::Ipv6,
        state,
        kind: Some(Kind::Full),
        local: Address::new("::".parse().unwrap(), 0),
        lport,
        remote: Address::new(remote.parse().unwrap(), 0),
        rport,
        uid: Some(33),
        inode: NonZeroU32::new(inode),
        netns: 4_026_531_840,
    };
    let listed = |socket, queues: [u32; 2], holders: Vec<Holder>| ListedSocket {
        socket,
        receive_queue: Some(queues[0]),
        send_queue: Some(queues[1]).filter(|queue| *queue > 0),
        owner: SocketOwner {
            process: owner(0).filter(|_| !holders.is_empty()),
            cgroup: cgroup.clone().filter(|_| holders.len() == 1),
        },
        holders,
    };
    SocketList {
        time: Timestamp::UNIX_EPOCH,
        netns: None,
        origin: Origin::SockDiag,
        sockets: vec![
            listed(
                socket(TcpState::Established, 8080, "2001:db8::7", 40_000, 7),
                [1_234, 5],
                vec![holder(4_194_304, &[9])],
            ),
            listed(
                socket(TcpState::TimeWait, 8080, "10.0.3.17", 40_001, 0),
                [0, 1],
                Vec::new(),
            ),
            listed(
                socket(TcpState::CloseWait, 8080, "10.0.3.17", 40_002, 9),
                [1, 1],
                Vec::new(),
            ),
            listed(
                socket(TcpState::Listen, 8080, "::", 0, 8),
                [0, 0],
                vec![holder(812, &[6, 7]), holder(4_194_304, &[6])],
            ),
        ],
        left_out: 12_345,
        unseen: snapshot.unseen.unwrap(),
        namespace_names: NamespaceNames::default(),
    }
}

#[test]
fn socket_list() {
    let list = list_of(b"nginx");
    let scope = ["all network namespaces".to_owned()];
    assert_snapshot!(
        "socket_list.text",
        written(|out| text::socket_list::write(out, &list, &scope, screen()))
    );
    assert_snapshot!("socket_list.json", written(|out| json::socket_list::write(out, &list)));
    assert_snapshot!("socket_list.csv", written(|out| csv::socket_list::write(out, &list)));
}

/// What `write` wrote.
fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn snapshot() {
    for (name, by) in [
        ("snapshot", &[][..]),
        ("snapshot_by", &[GroupBy::Process, GroupBy::Cgroup, GroupBy::Lport]),
    ] {
        let snapshot = snapshot_of(b"nginx", by);
        let scope = ["all network namespaces".to_owned()];
        assert_snapshot!(
            format!("{name}.text"),
            written(|out| text::snapshot::write(out, &snapshot, &scope, screen()))
        );
        assert_snapshot!(
            format!("{name}.json"),
            written(|out| json::snapshot::write(out, &snapshot))
        );
        assert_snapshot!(
            format!("{name}.csv"),
            written(|out| csv::snapshot::write(out, &snapshot))
        );
    }
}

#[test]
fn no_line_of_text_is_wider_than_the_terminal() {
    let names = [
        "a",
        "kube-controller",
        "\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b",
        "服务器服务",
    ];
    for (columns, name) in [60, 80, 100, 140]
        .into_iter()
        .flat_map(|columns| names.map(|name| (columns, name.as_bytes())))
    {
        let screen = Screen {
            width: Some(columns),
            colour: true,
        };
        let mut texts = wide_churn_and_latency(name, screen);
        texts.extend(wide_stat(screen));
        texts.push(wide_leaks(name, screen));
        for by in [
            &[][..],
            &[GroupBy::Remote],
            &[GroupBy::Remote, GroupBy::Process, GroupBy::Cgroup],
            &[GroupBy::Cgroup, GroupBy::Netns],
        ] {
            let snapshot = snapshot_of(name, by);
            let scope = [String::from_utf8_lossy(&name.repeat(20)).escape_debug().to_string()];
            texts.push(written(|out| text::snapshot::write(out, &snapshot, &scope, screen)));
        }
        for text in texts {
            for line in text.lines().filter(|line| !line.contains("sysctl -w")) {
                assert!(text::fit::width(line) <= columns, "{columns}: {line}\n{text}");
            }
        }
    }
}

fn wide_churn_and_latency(name: &[u8], screen: Screen) -> Vec<String> {
    let process = |pid| Process {
        pid: NonZeroU32::new(pid),
        comm: Comm::new(name),
    };
    let address = Address::new("2001:db8:85a3:8d3:1319:8a2e:370:7348".parse().unwrap(), 0);
    let groups = [
        (LatencyBy::All, Group::Kernel(LatencyGroup::All)),
        (
            LatencyBy::Lport,
            Group::Kernel(LatencyGroup::Lport {
                port: 65535,
                netns: NonZeroU32::new(4_026_531_840),
            }),
        ),
        (
            LatencyBy::Remote,
            Group::Kernel(LatencyGroup::Remote { address, netns: None }),
        ),
        (
            LatencyBy::Owner(OwnerBy::Process),
            Group::Owner(process(4_194_304).into()),
        ),
    ];
    let latency = groups.map(|(by, group)| {
        let view = text::latency::Text::new(TimeZone::UTC, 10, screen);
        printed(view, &Frame::from(&measured(by, &group)))
    });
    let churn = text::churn::Text::new(TimeZone::UTC, 10, screen);
    let churn = printed(churn, &Frame::from(&full_churn(name)));
    latency.into_iter().chain([churn]).collect()
}

fn wide_stat(screen: Screen) -> Vec<String> {
    let mut counts = counts();
    (counts.drift, counts.unmarked) = (Some(123_456), 123_456);
    for state in TcpState::ALL {
        counts.connections.add(state, u64::MAX / 100);
    }
    let frame = Frame::from(&counts);
    let sets = (1..=TcpState::ALL.len()).map(|states| {
        let states = TcpState::ALL.into_iter().take(states);
        states.fold(StateSet::NONE, StateSet::with)
    });
    sets.chain([StateSet::ALL])
        .map(|states| printed(text::stat::Text::new(TimeZone::UTC, screen, states), &frame))
        .collect()
}

fn wide_leaks(name: &[u8], screen: Screen) -> String {
    use crate::detect::leak::tests::{close_wait, scene, spread};
    let mut leaks = scene(Some(60), &spread(0, 300), &[], close_wait);
    for owner in leaks.groups.iter_mut().filter_map(|group| group.owner.as_mut()) {
        (owner.pid, owner.comm) = (NonZeroU32::new(4_194_304), Comm::new(name));
    }
    let all = Filter {
        states: states(),
        ..Filter::default()
    };
    let view = text::leaks::Text::new(TimeZone::UTC, screen, ScanScope::new(all, NetnsSelector::All));
    printed(view, &Frame::from(&leaks))
}

/// An interval of `latency`.
fn measured(by: LatencyBy, group: &Group) -> LatencyFrame {
    let mut histogram = Histogram::default();
    for ns in [1_000, 30_000, 2_000_000] {
        histogram.record(ns);
    }
    histogram.record_unknown();
    let measured = |measure| MeasuredGroup {
        measure,
        group: group.clone(),
        histogram: histogram.clone(),
    };
    LatencyFrame {
        time: Timestamp::UNIX_EPOCH,
        interval_s: 2.0,
        by,
        measured: vec![
            measured(Measure::Accept),
            measured(Measure::State(TcpState::Established)),
        ],
        retransmits: Some(Retransmits {
            syn: 1,
            syn_ack: 0,
            data: 2,
        }),
        evicted: 0,
        unmeasured: 0,
        missed: Some(0),
    }
}

#[test]
fn latency() {
    let frame = Frame::from(&measured(
        LatencyBy::Lport,
        &Group::Kernel(LatencyGroup::Lport {
            port: 443,
            netns: NonZeroU32::new(4_026_531_840),
        }),
    ));
    assert_snapshot!(
        "latency.text",
        printed(text::latency::Text::new(TimeZone::UTC, 10, screen()), &frame)
    );
    assert_snapshot!("latency.json", printed(json::latency::Json, &frame));
    assert_snapshot!("latency.csv", printed(csv::latency::Csv, &frame));
}

#[test]
fn leaks() {
    use crate::detect::leak::tests::{close_wait, scene, spread};
    let frame = Frame::from(&scene(Some(60), &spread(0, 300), &[], close_wait));
    let all = Filter {
        states: states(),
        ..Filter::default()
    };
    let asked = ScanScope::new(all, NetnsSelector::Own);
    assert_snapshot!(
        "leaks.text",
        printed(text::leaks::Text::new(TimeZone::UTC, screen(), asked), &frame)
    );
    assert_snapshot!("leaks.csv", printed(csv::leaks::Csv, &frame));
    assert_snapshot!("leaks.json", printed(json::leaks::Json, &frame));
}
