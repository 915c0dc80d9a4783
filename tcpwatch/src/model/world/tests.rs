use std::num::{NonZeroU32, NonZeroU64};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tcpwatch_common::evidence::{Evidence, KNOWN, RESET_SENT};
use tcpwatch_common::ledger::STATES;
use tcpwatch_common::record::SPENT;
use tcpwatch_common::{StateSet, TcpState};

use super::*;
use crate::input::latency::LatencyBy;
use crate::input::listener;
use crate::input::needs::StuckNeeds;
use crate::input::owner::tests::owner;
use crate::input::owner::{Owner, UnknownOwner};
use crate::input::{HostFacts, LedgerSample, Loss, Opened, TimeWaitCounters};
use crate::model::burst::Burst;
use crate::model::churn::Opener;
use crate::model::filter::owner::OwnerFilter;
use crate::model::leaks::tests::{scan, socket};
use crate::model::trace::{TraceRecord, TraceRow};

const SECOND_NS: u64 = 1_000_000_000;

/// Every need at once.
const ALL: Needs = Needs {
    counts: true,
    transitions: true,
    connections: true,
    churn: true,
    latency: Some(LatencyBy::Lport),
    stuck: Some(StuckNeeds {
        states: StateSet::ALL,
        older_ns: 100,
        stacks: false,
    }),
};

fn state() -> impl Strategy<Value = TcpState> {
    (0..TcpState::ALL.len()).prop_map(|number| TcpState::ALL[number])
}

fn event() -> impl Strategy<Value = Transition> {
    let ends = (state(), state(), 0..3_u16, any::<bool>());
    let known = (
        0..4_u64,
        0..4_u32,
        0..3_u32,
        0..400_u64,
        option::of(Just(Opened::Active)),
    );
    (ends, known).prop_map(|((from, to, lport, sent), (id, inode, pid, at, opened))| Transition {
        monotonic_ns: at * 100_000_000,
        unix_ns: i64::try_from(at).unwrap() * 100_000_000,
        id: NonZeroU64::new(id),
        cookie: NonZeroU64::new(id),
        lport: std::num::NonZeroU16::new(lport),
        rport: std::num::NonZeroU16::new(80),
        inode: NonZeroU32::new(inode),
        owner: NonZeroU32::new(pid).map(|pid| owner(pid.get(), "app")),
        opened,
        evidence: (to == TcpState::Close).then_some(Evidence {
            from: from.number(),
            flags: if sent { KNOWN | RESET_SENT } else { KNOWN },
            ..Evidence::default()
        }),
        ..Transition::between(from, to)
    })
}

fn ledger() -> impl Strategy<Value = Input> {
    (
        vec(any::<u64>(), STATES),
        vec(any::<i64>(), STATES),
        any::<u64>(),
        option::of(any::<u64>()),
    )
        .prop_map(|(row, counts, lost, missed)| {
            let mut sample = LedgerSample {
                moves: [[0; STATES]; STATES],
                sockets: [0; STATES],
                ends: vec![(Evidence::default(), counts[0])],
                uncounted_ends: lost,
                lost,
                missed,
                missed_resets: missed,
                unmarked: 0,
                drift: missed,
            };
            sample.moves[7].copy_from_slice(&row);
            sample.sockets.copy_from_slice(&counts);
            Input::Ledger(Box::new(sample))
        })
}

/// Any input except those that occur once: `Session`, `StreamEnd` and `End`.
fn input() -> impl Strategy<Value = Input> {
    let id = (1..4_u64).prop_map(|id| NonZeroU64::new(id).unwrap());
    let inode = (1..4_u32).prop_map(|inode| NonZeroU32::new(inode).unwrap());
    let some_owner = || option::of((1..3_u32).prop_map(|pid| owner(pid, "app")));
    prop_oneof![
        6 => event().prop_map(Input::Transition),
        6 => (event(), some_owner()).prop_map(|(last, closer)| Input::Connection(Connection {
            last,
            spent_ns: [1; SPENT.len()],
            traffic: None,
            closer,
        })),
        1 => id.prop_map(|id| Input::CloseAmended { id, evidence: Evidence::default() }),
        3 => (inode, some_owner()).prop_map(|(inode, owner)| Input::Owner {
            inode,
            owner: owner.ok_or(UnknownOwner::Exited),
        }),
        1 => (1..3_u32).prop_map(|pid| Input::CgroupPath { owner: owner(pid, "app"), cgroup: None }),
        1 => (any::<u64>(), option::of(0..9_u64), any::<bool>())
            .prop_map(|(lost, missed_resets, emptied)| Input::Loss(Loss { lost, missed_resets, emptied })),
        1 => ledger(),
        1 => option::of(any::<u64>()).prop_map(|entered| Input::HostFacts(Box::new(HostFacts {
            time_wait: TimeWaitCounters { entered, ..TimeWaitCounters::default() },
            ..HostFacts::default()
        }))),
        1 => any::<u64>().prop_map(|drops| Input::ListenerDrops(vec![listener::tests::dropping(80, drops, 1)])),
        1 => Just(Input::Latency(Box::default())),
        1 => any::<bool>().prop_map(|is_base| Input::ScanStart { is_base }),
        1 => (vec((state(), 1..9_u16), 0..4), 1_000_000..9_000_000_u64).prop_map(|(sockets, at_ns)| {
            let sockets = sockets.into_iter().map(|(state, peer)| socket(state, peer)).collect();
            Input::SocketScan { scan: Box::new(scan(at_ns, sockets)), missed: None }
        }),
        3 => (0..400_u64).prop_map(|at| tick(at * 100_000_000)),
        2 => Just(Input::IntervalEnd),
    ]
}

fn tick(monotonic_ns: u64) -> Input {
    Input::Tick {
        time: Timestamp::from_nanosecond(monotonic_ns.into()).unwrap(),
        monotonic_ns,
    }
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
    let mut world = World::new(
        Needs {
            churn: true,
            ..Needs::default()
        },
        Filter::default(),
    );
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
        tick(2010 * MS),
        ends(2020),
        tick(2045 * MS),
        tick(2080 * MS),
        empty_ledger(),
        tick(3000 * MS),
        Input::IntervalEnd,
        tick(3001 * MS),
    ] {
        if let Some(churn) = world.apply(input).and_then(|frame| frame.churn.as_ref()) {
            let ended: u64 = churn.routes.iter().map(|route| route.tally.lifetime.total()).sum();
            counted.push((churn.opened(), ended));
        }
    }
    assert_eq!(counted, [(2, 1), (1, 1)]);
}

/// Bursts are found by the second, however long the interval of the output is.
#[test]
fn bursts_are_the_same_at_any_interval() {
    let needs = Needs {
        churn: true,
        ..Needs::default()
    };
    let opened = |ns| {
        Input::Transition(Transition {
            monotonic_ns: ns,
            opened: Some(Opened::Active),
            rport: std::num::NonZeroU16::new(80),
            ..Transition::between(TcpState::SynSent, TcpState::Established)
        })
    };
    let bursts = |interval_s: u64| {
        let mut world = World::new(needs, Filter::default());
        let mut bursts = Vec::new();
        for second in 1..=600 {
            // A steady rate, and five times as many in one second.
            let rate = if second == 450 { 250 } else { 50 };
            for number in 0..rate {
                let _ = world.apply(opened(second * SECOND_NS - number - 1));
            }
            let now = || tick(second * SECOND_NS);
            let _ = world.apply(now());
            if second % interval_s == 0 {
                let _ = world.apply(empty_ledger());
                let _ = world.apply(Input::IntervalEnd);
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

/// A program that was stopped reads the seconds that it missed before it judges them.
#[test]
fn bursts_wait_for_records_that_are_read_late() {
    let needs = Needs {
        churn: true,
        ..Needs::default()
    };
    let mut world = World::new(needs, Filter::default());
    let loss = |emptied| {
        Input::Loss(Loss {
            emptied,
            ..Loss::default()
        })
    };
    for second in 0..30 {
        let _ = world.apply(tick(second * 1_000_000_000));
    }
    for (number, is_last) in [(0, false), (1, true)] {
        for event in 0..500 {
            let _ = world.apply(Input::Transition(Transition {
                monotonic_ns: 31_000_000_000 + number * 1_000_000 + event,
                opened: Some(Opened::Active),
                rport: std::num::NonZeroU16::new(80),
                ..Transition::between(TcpState::SynSent, TcpState::Established)
            }));
        }
        let _ = world.apply(loss(is_last));
        let _ = world.apply(tick(40_000_000_000));
    }
    let mut bursts = Vec::new();
    for _ in 0..2 {
        let _ = world.apply(empty_ledger());
        let _ = world.apply(Input::IntervalEnd);
        bursts.extend(world.apply(tick(41 * SECOND_NS)).map(bursts_of).unwrap_or_default());
    }
    let opened: Vec<u64> = bursts.iter().map(|burst| burst.opened).collect();
    assert_eq!(opened, [1000]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_inputs_give_the_same_frames(inputs in vec(input(), 0..120)) {
        let (once, _) = frames(OwnerFilter::default(), &inputs);
        let (again, _) = frames(OwnerFilter::default(), &inputs);
        prop_assert!(once == again);
    }

    #[test]
    fn each_record_is_shown_once_and_in_order(mut inputs in vec(input(), 0..120)) {
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
    fn records_of_other_owners_are_counted_and_not_shown(mut inputs in vec(input(), 0..120)) {
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
    fn no_record_is_held_back_for_ever(inputs in vec(input(), 0..120)) {
        let (_, mut world) = frames(OwnerFilter::default(), &inputs);
        world.apply(tick(400 * 100_000_000 + 60_000_000_000));
        prop_assert!(!world.holds_back());
        let waiting = [world.transitions.holdback.awaiting_owner(), world.connections.holdback.awaiting_owner()];
        prop_assert_eq!(waiting, [0, 0], "what is not held back takes no memory");
    }

    #[test]
    fn a_frame_of_an_interval_has_every_part_that_is_needed(inputs in vec(input(), 0..60)) {
        let (_, mut world) = frames(OwnerFilter::default(), &inputs);
        world.apply(empty_ledger());
        world.apply(tick(1));
        world.apply(Input::IntervalEnd);
        world.apply(tick(2));
        world.apply(Input::IntervalEnd);
        let frame = world.apply(tick(2_000_000_000));
        prop_assert!(frame.is_some_and(|frame| frame.counts.is_some() && frame.churn.is_some() && frame.latency.is_some()));
    }
}
