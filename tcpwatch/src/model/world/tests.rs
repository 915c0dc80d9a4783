use std::net::Ipv4Addr;
use std::num::{NonZeroU32, NonZeroU64};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tcpwatch_common::evidence::{DEAD, Evidence, KNOWN, RESET_AFTER, RESET_SENT};
use tcpwatch_common::ledger::{Pass, STATES};
use tcpwatch_common::record::SPENT;
use tcpwatch_common::{StateSet, TcpState};

use super::*;
use crate::input::counter::CounterValues;
use crate::input::histogram::{Histogram, bucket};
use crate::input::latency::{LatencyBy, LatencyGroup, LatencySample, Measure, Measured, Retransmits};
use crate::input::listener::{self, Listener};
use crate::input::needs::StuckNeeds;
use crate::input::owner::tests::owner;
use crate::input::owner::{Owner, OwnerBy, UnknownOwner};
use crate::input::ports::range::PortRange;
use crate::input::ports::reuse::TwReuse;
use crate::input::ports::settings::Settings;
use crate::input::ports::walk::Walk;
use crate::input::socket::{Address, Retransmissions};
use crate::input::socket_owner::{Holder, Unseen};
use crate::input::socket_scan::{AcceptQueue, ScannedSocket, SocketHolders};
use crate::input::{
    FullestNamespace, HostFacts, LedgerSample, Loss, Opened, Orphans, PortsSample, TimeWaitCounters, Traffic,
};
use crate::model::burst::Burst;
use crate::model::churn::Opener;
use crate::model::churn::tests::waiting;
use crate::model::ending::Ending;
use crate::model::filter::owner::OwnerFilter;
use crate::model::leaks::tests::socket;
use crate::model::trace::{TraceRecord, TraceRow};

const SECOND_NS: u64 = 1_000_000_000;

/// Every need at once.
const ALL: Needs = Needs {
    counts: true,
    transitions: true,
    connections: true,
    churn: Some(OwnerBy::Process),
    latency: Some(LatencyBy::Lport),
    stuck: Some(StuckNeeds {
        states: StateSet::ALL,
        older_ns: 100,
        stacks: false,
    }),
};

/// A number that is likely to be where arithmetic fails.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        2..100_u64,
        Just(u64::MAX - 1),
        Just(u64::MAX),
        any::<u64>()
    ]
}

/// The same of 32 bits.
fn number32() -> impl Strategy<Value = u32> {
    number().prop_map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// Times of a short run, ns.
pub(crate) fn usual_time() -> BoxedStrategy<u64> {
    (0..400_u64).prop_map(|at| at * 100_000_000).boxed()
}

/// Times of a short run, and any other times, ns.
fn any_time() -> BoxedStrategy<u64> {
    prop_oneof![2 => usual_time(), 1 => number()].boxed()
}

fn state() -> impl Strategy<Value = TcpState> {
    (0..TcpState::ALL.len()).prop_map(|number| TcpState::ALL[number])
}

/// One of two processes, by one of two names: a process may be renamed.
fn some_owner() -> impl Strategy<Value = Option<Owner>> {
    option::of(
        (1..3_u32, any::<bool>()).prop_map(|(pid, is_renamed)| owner(pid, if is_renamed { "other" } else { "app" })),
    )
}

fn event(at: BoxedStrategy<u64>) -> impl Strategy<Value = Transition> {
    let ends = (state(), state(), 0..3_u16, any::<bool>());
    let opened = option::of(prop_oneof![Just(Opened::Active), Just(Opened::Passive)]);
    let known = (0..4_u64, 0..4_u32, some_owner(), at, opened);
    let more = (option::of(number()), option::of(any::<bool>()), 0..3_u32);
    (ends, known, more).prop_map(
        |((from, to, lport, sent), (id, inode, owner, at_ns, opened), (dwell_ns, bound, netns))| Transition {
            monotonic_ns: at_ns,
            unix_ns: at_ns.cast_signed(),
            id: NonZeroU64::new(id),
            cookie: NonZeroU64::new(id),
            lport: std::num::NonZeroU16::new(lport),
            rport: std::num::NonZeroU16::new(80),
            inode: NonZeroU32::new(inode),
            netns: NonZeroU32::new(netns),
            owner,
            opened,
            dwell_ns,
            bound,
            evidence: (to == TcpState::Close).then_some(Evidence {
                from: from.number(),
                flags: if sent { KNOWN | RESET_SENT } else { KNOWN },
                ..Evidence::default()
            }),
            ..Transition::between(from, to)
        },
    )
}

fn connection(at: BoxedStrategy<u64>) -> impl Strategy<Value = Connection> {
    let traffic = (number(), number(), option::of(number32()), number32());
    let traffic = traffic.prop_map(|(sent, received, srtt_us, retransmits)| Traffic {
        sent,
        received,
        srtt_us,
        retransmits,
    });
    (event(at), some_owner(), number(), option::of(traffic)).prop_map(|(last, closer, spent_ns, traffic)| Connection {
        last,
        spent_ns: [spent_ns; SPENT.len()],
        traffic,
        closer,
    })
}

fn ledger() -> impl Strategy<Value = Input> {
    (
        vec(any::<u64>(), STATES),
        vec(any::<i64>(), STATES),
        number(),
        option::of(number()),
        number(),
    )
        .prop_map(|(row, counts, lost, missed, unmarked)| {
            let mut sample = LedgerSample {
                moves: [[0; STATES]; STATES],
                sockets: [0; STATES],
                ends: vec![(Evidence::default(), counts[0])],
                uncounted_ends: lost,
                lost,
                missed,
                missed_resets: missed,
                unmarked,
                drift: missed,
            };
            sample.moves[7].copy_from_slice(&row);
            sample.sockets.copy_from_slice(&counts);
            Input::Ledger(Box::new(sample))
        })
}

fn sockets() -> impl Strategy<Value = Input> {
    vec(number(), 4).prop_map(|counts| {
        Input::Sockets(Box::new(Pass {
            full: [counts[0]; STATES],
            request: [counts[1]; STATES],
            timewait: [counts[2]; STATES],
            refused: [counts[3]; STATES],
        }))
    })
}

fn host_facts() -> impl Strategy<Value = Input> {
    (vec(option::of(number()), 6), vec(option::of(number()), 2)).prop_map(|(counts, counters)| {
        Input::HostFacts(Box::new(HostFacts {
            time_wait: TimeWaitCounters {
                entered: counts[0],
                refused: counts[1],
                recycled: counts[2],
                left: counts[3],
                population: counts[4],
                limit: counts[5],
                fullest: counts[5].map(|limit| FullestNamespace {
                    netns: 1,
                    population: counts[4].unwrap_or(0),
                    limit,
                }),
            },
            counters: CounterValues::read(|counter| counters[counter as usize % 2]),
            orphans: Orphans {
                now: counts[0],
                limit: counts[1],
                mem_pages: counts[2],
            },
            ..HostFacts::default()
        }))
    })
}

fn ports(at: BoxedStrategy<u64>) -> impl Strategy<Value = Input> {
    let range = prop_oneof![Just(None), Just(Some("40000 40002")), Just(Some("65535 65535"))];
    let settings = (range, option::of(number32()), option::of(any::<bool>()));
    let walk = (0..3_u32, vec((0..4_u8, 0..6_u16), 0..6));
    let walked =
        (at, settings, walk).prop_map(|(monotonic_ns, (range, delay_ms, autobind_reuse), (netns, sockets))| {
            let range = range.map(|range| PortRange::parse(range, "").unwrap());
            let mut walk = Walk::default();
            for (host, lport) in sockets {
                let remote = Address::new(Ipv4Addr::new(10, 0, 0, host).into(), 0);
                let walked = PortRange::parse("40000 40002", "").unwrap();
                walk.add(&waiting(remote, 40_000 + lport), range.as_ref().unwrap_or(&walked));
            }
            let delay = delay_ms.map(|ms| ms.to_string());
            Box::new(PortsSample {
                netns: NonZeroU32::new(netns),
                monotonic_ns,
                settings: Settings {
                    range,
                    reuse: TwReuse::parse("1", "1", delay.as_deref()),
                    autobind_reuse,
                },
                walk,
            })
        });
    option::of(walked).prop_map(Input::Ports)
}

fn listeners() -> impl Strategy<Value = Input> {
    let listener = (80..82_u16, number(), number(), 0..3_u32, some_owner(), number());
    vec(listener, 0..3).prop_map(|listeners| {
        let listeners = listeners.into_iter();
        let listeners = listeners.map(|(port, cookie, drops, inode, owner, sockets)| Listener {
            inode: NonZeroU32::new(inode),
            owner,
            sockets,
            ..listener::tests::dropping(port, cookie, drops)
        });
        Input::ListenerDrops(listeners.collect())
    })
}

fn latency() -> impl Strategy<Value = Input> {
    let measure = prop_oneof![Just(Measure::Accept), state().prop_map(Measure::State)];
    let group = prop_oneof![
        Just(LatencyGroup::Other),
        Just(LatencyGroup::Unknown),
        (0..3_u16, 0..3_u32).prop_map(|(port, netns)| LatencyGroup::Lport {
            port,
            netns: NonZeroU32::new(netns),
        })
    ];
    let measured = (measure, group, number(), number(), number()).prop_map(|(measure, group, ns, count, unknown)| {
        let mut histogram = Histogram::default();
        histogram.add(bucket(ns), count);
        histogram.add_unknown(unknown);
        Measured {
            measure,
            group,
            owner: None,
            histogram,
        }
    });
    (vec(measured, 0..4), number(), option::of(number())).prop_map(|(measured, count, missed)| {
        Input::Latency(Box::new(LatencySample {
            measured,
            retransmits: Retransmits {
                syn: count,
                syn_ack: count,
                data: count,
            },
            unmeasured: count,
            missed,
        }))
    })
}

fn scanned_socket() -> impl Strategy<Value = ScannedSocket> {
    let ms = || option::of(number32());
    let again =
        (any::<[u8; 2]>(), number32(), ms()).prop_map(|([times, backoff], rto_us, since_first_ms)| Retransmissions {
            times,
            backoff,
            rto_us,
            since_first_ms,
        });
    let times = (ms(), ms(), ms(), option::of(again));
    let queue =
        (number(), number(), some_owner()).prop_map(|(queued, limit, owner)| AcceptQueue { queued, limit, owner });
    let held = (some_owner(), some_owner(), vec(0..9_u32, 0..3));
    let state = prop_oneof![2 => Just(TcpState::CloseWait), 1 => state()];
    (state, 1..9_u16, 0..3_u32, ms(), ms(), times, held, option::of(queue)).prop_map(
        |(state, peer, inode, receive_queue, send_queue, times, (process, holder, fds), awaited)| {
            let mut found = socket(state, peer);
            (found.process, found.awaited) = (process, awaited);
            found.holders = holder
                .map(|owner| Holder {
                    process: owner.into(),
                    fds,
                })
                .into_iter()
                .collect();
            let detail = &mut found.detail;
            detail.socket.inode = NonZeroU32::new(inode);
            (detail.receive_queue, detail.send_queue) = (receive_queue, send_queue);
            (
                detail.last_ack_ms,
                detail.last_sent_ms,
                detail.last_received_ms,
                detail.retransmissions,
            ) = times;
            found
        },
    )
}

fn socket_scan(at: BoxedStrategy<u64>) -> impl Strategy<Value = Input> {
    let unseen = number().prop_map(|count| Unseen {
        sockets: count,
        descriptors: count,
        ..Unseen::default()
    });
    let held = (1..4_u32, some_owner()).prop_map(|(inode, owner)| {
        let holders = owner.map(|owner| Holder {
            process: owner.into(),
            fds: vec![3],
        });
        let held = SocketHolders {
            process: owner,
            holders: holders.into_iter().collect(),
        };
        (NonZeroU32::new(inode).unwrap(), held)
    });
    let exited = (1..3_u32).prop_map(|pid| NonZeroU32::new(pid).unwrap());
    let found = (vec(scanned_socket(), 0..6), vec(held, 0..3), vec(exited, 0..2));
    (
        (at.clone(), at),
        found,
        option::of(unseen),
        number(),
        option::of(number()),
    )
        .prop_map(
            |((started_ns, ended_ns), (sockets, held, exited), unseen, left_out, missed)| Input::SocketScan {
                scan: Box::new(SocketScan {
                    started_ns,
                    ended_ns,
                    sockets,
                    held: held.into_iter().collect(),
                    exited: exited.into_iter().collect(),
                    unseen,
                    left_out,
                    ..SocketScan::default()
                }),
                missed,
            },
        )
}

/// Any input that can occur more than once, at a time of `at`: all but `Session`, `StreamEnd` and `End`.
pub(crate) fn input(at: &BoxedStrategy<u64>) -> impl Strategy<Value = Input> + use<> {
    let id = (1..4_u64).prop_map(|id| NonZeroU64::new(id).unwrap());
    let inode = (1..4_u32).prop_map(|inode| NonZeroU32::new(inode).unwrap());
    prop_oneof![
        6 => event(at.clone()).prop_map(Input::Transition),
        6 => connection(at.clone()).prop_map(Input::Connection),
        1 => id.prop_map(|id| Input::CloseAmended { id, evidence: Evidence::default() }),
        3 => (inode, some_owner()).prop_map(|(inode, owner)| Input::Owner {
            inode,
            owner: owner.ok_or(UnknownOwner::Exited),
        }),
        1 => (1..3_u32).prop_map(|pid| Input::CgroupPath { owner: owner(pid, "app"), cgroup: None }),
        1 => (number(), option::of(number()), any::<bool>())
            .prop_map(|(lost, missed_resets, emptied)| Input::Loss(Loss { lost, missed_resets, emptied, unknown_owners: 0 })),
        1 => ledger(),
        1 => sockets(),
        1 => host_facts(),
        1 => ports(at.clone()),
        1 => listeners(),
        1 => latency(),
        1 => any::<bool>().prop_map(|is_base| Input::ScanStart { is_base }),
        2 => socket_scan(at.clone()),
        3 => at.clone().prop_map(tick),
        2 => Just(Input::IntervalEnd),
    ]
}

fn tick(monotonic_ns: u64) -> Input {
    Input::Tick {
        time: Timestamp::from_nanosecond(monotonic_ns.into()).unwrap(),
        monotonic_ns,
    }
}

/// The stream was read; if `emptied`, all records made until the next tick are known then.
fn read(emptied: bool) -> Input {
    Input::Loss(Loss {
        unknown_owners: 0,
        emptied,
        ..Loss::default()
    })
}

/// Applies `inputs` to a new model; returns the frames and the model.
fn frames(filter: OwnerFilter, inputs: &[Input]) -> (Vec<Frame>, World) {
    let filter = Filter {
        owner: filter,
        ..Filter::default()
    };
    let mut world = World::new(ALL, filter);
    let frames = inputs.iter().filter_map(|input| world.apply(input.clone()).cloned());
    let frames = frames.collect();
    (frames, world)
}

/// The rows of one kind in all `frames`.
fn rows<T: TraceRecord + Clone>(frames: &[Frame]) -> Vec<TraceRow<T>> {
    let rows = frames.iter().flat_map(|frame| T::rows(frame).rows.clone());
    rows.collect()
}

/// The fields of a record that no later input changes.
fn identity(event: &Transition) -> (u64, Option<NonZeroU64>, TcpState, TcpState, Option<NonZeroU32>) {
    (event.monotonic_ns, event.id, event.from, event.to, event.inode)
}

/// A sample of the ledger with nothing in it.
fn empty_ledger() -> Input {
    Input::Ledger(Box::new(LedgerSample {
        moves: [[0; STATES]; STATES],
        sockets: [0; STATES],
        ends: Vec::new(),
        uncounted_ends: 0,
        lost: 0,
        missed: None,
        missed_resets: None,
        unmarked: 0,
        drift: None,
    }))
}

/// A connection that ended in an interval is counted in it, though its reset may come later; what is opened later, in the next.
#[test]
fn an_interval_waits_for_the_endings_of_its_connections() {
    const MS: u64 = 1_000_000;
    let transition = |from, to, ms| Transition {
        monotonic_ns: ms * MS,
        id: NonZeroU64::new(ms),
        opened: Some(Opened::Active),
        rport: std::num::NonZeroU16::new(80),
        ..Transition::between(from, to)
    };
    let opens = |ms| Input::Transition(transition(TcpState::SynSent, TcpState::Established, ms));
    let ends = |ms| {
        let evidence = Evidence {
            flags: KNOWN,
            from: TcpState::Established.number(),
            shutdown: 3,
            ..Evidence::default()
        };
        Input::Connection(Connection {
            last: Transition {
                evidence: Some(evidence),
                ..transition(TcpState::Established, TcpState::Close, ms)
            },
            spent_ns: [1; SPENT.len()],
            traffic: None,
            closer: None,
        })
    };
    let mut world = churn();
    let mut counted = Vec::new();
    for input in [
        empty_ledger(),
        tick(1000 * MS),
        Input::IntervalEnd,
        opens(1100),
        ends(1990),
        empty_ledger(),
        tick(2000 * MS),
        Input::IntervalEnd,
        // Read after the end of the interval that they belong to, and of the next one.
        opens(1995),
        opens(2001),
        read(true),
        tick(2010 * MS),
        ends(2020),
        read(true),
        tick(2045 * MS),
        read(true),
        tick(2080 * MS),
        empty_ledger(),
        tick(3000 * MS),
        Input::IntervalEnd,
        read(true),
        tick(3001 * MS),
    ] {
        if let Some(churn) = world.apply(input).and_then(|frame| frame.churn.as_ref()) {
            let ended: u64 = churn.routes.iter().map(|route| route.tally.lifetime.total()).sum();
            counted.push((churn.opened(), ended));
        }
    }
    assert_eq!(counted, [(2, 1), (1, 1)]);
}

/// An end waits for its reset until the stream was read as far: where a batch ends between the two, and where what is read at the end of
/// an interval takes long.
#[test]
fn an_end_waits_for_a_reset_that_is_read_late() {
    const MS: u64 = 1_000_000;
    let id = NonZeroU64::MIN;
    let closed_first = Evidence {
        flags: KNOWN | DEAD,
        from: TcpState::FinWait2.number(),
        shutdown: 3,
        ..Evidence::default()
    };
    let reset = Evidence {
        flags: KNOWN | DEAD | RESET_AFTER | RESET_SENT,
        ..closed_first
    };
    let end = |ms, id, evidence| {
        Input::Connection(Connection {
            last: Transition {
                monotonic_ns: ms * MS,
                id: Some(id),
                evidence: Some(evidence),
                ..Transition::between(TcpState::FinWait2, TcpState::Close)
            },
            spent_ns: [1; SPENT.len()],
            traffic: None,
            closer: None,
        })
    };
    // No reset is missed.
    let read = |emptied| {
        Input::Loss(Loss {
            unknown_owners: 0,
            missed_resets: Some(0),
            emptied,
            ..Loss::default()
        })
    };
    let amended = || Input::CloseAmended { id, evidence: reset };
    let batch_ends_between = vec![end(1000, id, closed_first), read(false), tick(2000 * MS), amended()];
    let interval_takes_long = vec![
        end(1000, id, closed_first),
        read(true),
        tick(1010 * MS),
        tick(1200 * MS),
        Input::IntervalEnd,
        amended(),
    ];
    let ended = |inputs: Vec<Input>| -> Vec<Ending> {
        let later = [read(true), tick(2000 * MS), read(true), tick(2100 * MS)];
        let needs = Needs {
            connections: true,
            ..Needs::default()
        };
        let mut world = World::new(needs, Filter::default());
        let _ = world.apply(Input::Session(Box::new(Session {
            missed_resets: Some(0),
            watches: true,
            ..Session::default()
        })));
        let frames = inputs.into_iter().chain(later);
        let frames: Vec<Frame> = frames.filter_map(|input| world.apply(input).cloned()).collect();
        let rows = rows::<Connection>(&frames);
        rows.iter().map(|row| row.ending.expect("an ending")).collect()
    };
    assert_eq!(ended(batch_ends_between), [Ending::ResetByUs]);
    assert_eq!(ended(interval_takes_long), [Ending::ResetByUs]);
    // Of a stream that is never read to its end, what is old enough is known all the same.
    let backlog = vec![
        end(1000, id, closed_first),
        read(false),
        tick(9000 * MS),
        end(1200, id.saturating_add(1), reset),
        read(false),
        tick(9001 * MS),
    ];
    assert_eq!(ended(backlog), [Ending::ClosedFirst, Ending::ResetByUs]);
}

/// A model for `churn`.
fn churn() -> World {
    let needs = Needs {
        churn: Some(OwnerBy::Process),
        ..Needs::default()
    };
    World::new(needs, Filter::default())
}

/// A connection from here is established at `monotonic_ns`.
fn opened(monotonic_ns: u64) -> Input {
    Input::Transition(Transition {
        monotonic_ns,
        opened: Some(Opened::Active),
        rport: std::num::NonZeroU16::new(80),
        ..Transition::between(TcpState::SynSent, TcpState::Established)
    })
}

/// Bursts are found by the second, however long the interval of the output is.
#[test]
fn bursts_are_the_same_at_any_interval() {
    let bursts = |interval_s: u64| {
        let mut world = churn();
        let mut bursts = Vec::new();
        for second in 1..=600 {
            // A steady rate, and five times as many in one second.
            let rate = if second == 450 { 250 } else { 50 };
            for number in 0..rate {
                let _ = world.apply(opened(second * SECOND_NS - number - 1));
            }
            let now = || tick(second * SECOND_NS);
            let _ = world.apply(read(true));
            let _ = world.apply(now());
            if second % interval_s == 0 {
                let _ = world.apply(empty_ledger());
                let _ = world.apply(Input::IntervalEnd);
                let _ = world.apply(read(true));
                bursts.extend(world.apply(now()).map(bursts_of).unwrap_or_default());
            }
        }
        bursts
    };
    let every_second = bursts(1);
    let times: Vec<_> = every_second
        .iter()
        .map(|burst| (burst.start_ns, burst.opened))
        .collect();
    assert_eq!(times, [(449 * SECOND_NS, 200)]);
    for interval_s in [10, 60, 61, 300] {
        assert_eq!(bursts(interval_s), every_second, "{interval_s} s");
    }
}

/// The bursts that ended in `frame`.
fn bursts_of(frame: &Frame) -> Vec<Burst<Opener>> {
    frame
        .churn
        .as_ref()
        .map(|churn| churn.bursts.clone())
        .unwrap_or_default()
}

/// A program that was stopped reads the seconds that it missed before it judges them: after a reading that did not come to the end of the
/// stream, and at the end of an interval, whose tick is later than the reading before it.
#[test]
fn bursts_wait_for_records_that_are_read_late() {
    let reading = |emptied, second| [read(emptied), tick(second * SECOND_NS)];
    let interval_end = |second| [empty_ledger(), tick(second * SECOND_NS), Input::IntervalEnd];
    let stopped_at_a_reading = reading(false, 40).to_vec();
    let stopped_at_an_interval = reading(true, 31).into_iter().chain(interval_end(40)).collect();
    for stopped in [stopped_at_a_reading, stopped_at_an_interval] {
        let records = || (0..500).map(|number| opened(31 * SECOND_NS + number));
        let inputs = (0..31)
            .flat_map(|second| reading(true, second))
            .chain(interval_end(30))
            .chain(records())
            .chain(stopped)
            .chain(records())
            .chain(reading(true, 40))
            .chain(interval_end(41))
            .chain(reading(true, 43));
        let mut world = churn();
        let mut bursts = Vec::new();
        for input in inputs {
            bursts.extend(world.apply(input).map(bursts_of).unwrap_or_default());
        }
        let opened: Vec<u64> = bursts.iter().map(|burst| burst.opened).collect();
        assert_eq!(opened, [1000]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No input makes a model fail, whatever its time and its numbers are.
    #[test]
    fn the_same_inputs_give_the_same_frames(
        monotonic_ns in number(),
        [knows_namespaces, watches] in any::<[bool; 2]>(),
        mut inputs in vec(input(&any_time()), 0..120),
        count in number(),
    ) {
        let session = Session { monotonic_ns, knows_namespaces, watches, ..Session::default() };
        inputs.insert(0, Input::Session(Box::new(session)));
        inputs.push(Input::StreamEnd);
        let moves = [[count; STATES]; STATES];
        inputs.push(Input::End(Box::new(EndCounts { moves, lost: count, missed: Some(count), dropped: count, unmatched: count })));
        let (once, _) = frames(OwnerFilter::default(), &inputs);
        let (again, _) = frames(OwnerFilter::default(), &inputs);
        for (once, again) in once.iter().zip(&again) {
            prop_assert!(once == again, "{once:?}\n{again:?}");
        }
        prop_assert_eq!(once.len(), again.len());
    }

    #[test]
    fn each_record_is_shown_once_and_in_order(mut inputs in vec(input(&usual_time()), 0..120)) {
        inputs.push(Input::StreamEnd);
        inputs.push(Input::End(Box::default()));
        let (frames, world) = frames(OwnerFilter::default(), &inputs);
        prop_assert!(!world.holds_back());
        let transitions = inputs.iter().filter_map(|input| match input {
            Input::Transition(event) => Some(identity(event)),
            _ => None,
        });
        let shown = rows::<Transition>(&frames);
        prop_assert_eq!(transitions.collect::<Vec<_>>(), shown.iter().map(|row| identity(&row.record)).collect::<Vec<_>>());
        let connections = inputs.iter().filter_map(|input| match input {
            Input::Connection(connection) => Some(identity(&connection.last)),
            _ => None,
        });
        let finished = rows::<Connection>(&frames);
        prop_assert_eq!(connections.collect::<Vec<_>>(), finished.iter().map(|row| identity(&row.record.last)).collect::<Vec<_>>());
        let totals = frames.last().and_then(|frame| frame.transitions.totals).unwrap();
        prop_assert_eq!((totals.printed, totals.unmatched), (shown.len() as u64, 0));
        // Every end of a connection has an ending, and no other transition has one.
        for row in &shown {
            prop_assert_eq!(row.ending.is_some(), row.record.evidence.is_some());
        }
    }

    #[test]
    fn records_of_other_owners_are_counted_and_not_shown(mut inputs in vec(input(&usual_time()), 0..120)) {
        inputs.push(Input::StreamEnd);
        inputs.push(Input::End(Box::default()));
        let first = NonZeroU32::new(1).unwrap();
        let filter = OwnerFilter { pids: vec![first], ..OwnerFilter::default() };
        let (frames, _) = frames(filter, &inputs);
        let is_first = |owner: Option<Owner>| owner.and_then(|owner| owner.pid) == Some(first);
        let shown = rows::<Connection>(&frames);
        for row in &shown {
            prop_assert!(is_first(row.record.last.owner) || is_first(row.record.closer));
        }
        let connections = inputs.iter().filter(|input| matches!(input, Input::Connection(_))).count();
        let totals = frames.last().and_then(|frame| frame.connections.totals).unwrap();
        prop_assert_eq!(totals.printed, shown.len() as u64);
        prop_assert_eq!(totals.printed + totals.unmatched, connections as u64);
    }

    #[test]
    fn no_record_is_held_back_for_ever(inputs in vec(input(&usual_time()), 0..120)) {
        let (_, mut world) = frames(OwnerFilter::default(), &inputs);
        world.apply(read(true));
        world.apply(tick(400 * 100_000_000 + 60_000_000_000));
        prop_assert!(!world.holds_back());
        let waiting = [world.transitions.holdback.awaiting_owner(), world.connections.holdback.awaiting_owner()];
        prop_assert_eq!(waiting, [0, 0], "what is not held back takes no memory");
    }

    #[test]
    fn a_frame_of_an_interval_has_every_part_that_is_needed(inputs in vec(input(&usual_time()), 0..60)) {
        let (_, mut world) = frames(OwnerFilter::default(), &inputs);
        world.apply(empty_ledger());
        world.apply(tick(1));
        world.apply(Input::IntervalEnd);
        // An interval waits for the owners of its listeners.
        world.apply(tick(60_000_000_000));
        let at_once = world.apply(Input::IntervalEnd).cloned();
        let frame = at_once.or_else(|| world.apply(tick(120_000_000_000)).cloned());
        prop_assert!(frame.is_some_and(|frame| frame.counts.is_some() && frame.churn.is_some() && frame.latency.is_some()));
    }
}
