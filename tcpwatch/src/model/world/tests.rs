use std::num::{NonZeroU32, NonZeroU64};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tcpwatch_common::TcpState;
use tcpwatch_common::event::SPENT;
use tcpwatch_common::evidence::{Evidence, KNOWN, RESET_SENT};
use tcpwatch_common::ledger::STATES;

use super::*;
use crate::input::latency::LatencyBy;
use crate::input::listener;
use crate::input::needs::StuckNeeds;
use crate::input::owner::Owner;
use crate::input::owner::tests::owner;
use crate::input::{HostFacts, LedgerSample, Loss, Opened, TimeWaitCounters};
use crate::model::leaks::tests::{look, seen};
use crate::model::trace::{Row, Traced};

/// Everything that can be needed.
const ALL: Needs = Needs {
    counts: true,
    transitions: true,
    connections: true,
    churn: true,
    latency: Some(LatencyBy::Lport),
    stuck: Some(StuckNeeds {
        older_ns: 100,
        stacks: false,
    }),
};

fn state() -> impl Strategy<Value = TcpState> {
    (0..TcpState::ALL.len()).prop_map(|number| TcpState::ALL[number])
}

fn event() -> impl Strategy<Value = Event> {
    let ends = (state(), state(), 0..3_u16, any::<bool>());
    let known = (
        0..4_u64,
        0..4_u32,
        0..3_u32,
        0..400_u64,
        option::of(Just(Opened::Active)),
    );
    (ends, known).prop_map(|((from, to, lport, sent), (id, inode, pid, at, opened))| Event {
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
        ..Event::between(from, to)
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

/// Any input except those that come once: `Session`, `StreamEnd` and `End`.
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
        3 => (inode, some_owner()).prop_map(|(inode, owner)| Input::SocketOwner { inode, owner }),
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
            let sockets = sockets.into_iter().map(|(state, peer)| seen(state, peer)).collect();
            Input::SocketScan { scan: Box::new(look(at_ns, sockets)), missed: None }
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

/// The frames that `inputs` give, and the model after them.
fn frames(owners: OwnerFilter, inputs: &[Input]) -> (Vec<Frame>, World) {
    let mut world = World::new(ALL, owners);
    let frames = inputs.iter().filter_map(|input| world.apply(input.clone()).cloned());
    let frames = frames.collect();
    (frames, world)
}

/// What is shown of one kind.
fn shown<T: Traced + Clone>(frames: &[Frame]) -> Vec<Row<T>> {
    let rows = frames.iter().flat_map(|frame| T::shown(frame).rows.clone());
    rows.collect()
}

/// What of a record nothing changes that comes later.
fn identity(event: &Event) -> (u64, Option<NonZeroU64>, TcpState, TcpState, Option<NonZeroU32>) {
    (event.monotonic_ns, event.id, event.from, event.to, event.inode)
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
        let rows = shown::<Event>(&frames);
        prop_assert_eq!(transitions.collect::<Vec<_>>(), rows.iter().map(|row| identity(&row.what)).collect::<Vec<_>>());
        let connections = inputs.iter().filter_map(|input| match input {
            Input::Connection(life) => Some(identity(&life.last)),
            _ => None,
        });
        let finished = shown::<Connection>(&frames);
        prop_assert_eq!(connections.collect::<Vec<_>>(), finished.iter().map(|row| identity(&row.what.last)).collect::<Vec<_>>());
        let totals = frames.last().and_then(|frame| frame.transitions.totals).unwrap();
        prop_assert_eq!((totals.printed, totals.unmatched), (rows.len() as u64, 0));
        // An end is explained, what is no end is not.
        for row in &rows {
            prop_assert_eq!(row.ended.is_some(), row.what.evidence.is_some());
        }
    }

    #[test]
    fn what_is_not_asked_for_is_counted(mut inputs in vec(input(), 0..120)) {
        inputs.push(Input::StreamEnd);
        inputs.push(Input::End(Box::default()));
        let first = NonZeroU32::new(1).unwrap();
        let owners = OwnerFilter { pids: vec![first], ..OwnerFilter::default() };
        let (frames, _) = frames(owners, &inputs);
        let is_first = |owner: Option<Owner>| owner.and_then(|owner| owner.pid) == Some(first);
        let rows = shown::<Connection>(&frames);
        for row in &rows {
            prop_assert!(is_first(row.what.last.owner) || is_first(row.what.closer));
        }
        let connections = inputs.iter().filter(|input| matches!(input, Input::Connection(_))).count();
        let totals = frames.last().and_then(|frame| frame.connections.totals).unwrap();
        prop_assert_eq!(totals.printed, rows.len() as u64);
        prop_assert_eq!(totals.printed + totals.unmatched, connections as u64);
    }

    #[test]
    fn nothing_waits_longer_than_it_may(inputs in vec(input(), 0..120)) {
        let (_, mut world) = frames(OwnerFilter::default(), &inputs);
        world.apply(tick(400 * 100_000_000 + 60_000_000_000));
        prop_assert!(!world.holds_back());
    }

    #[test]
    fn an_interval_has_all_that_is_needed(inputs in vec(input(), 0..60)) {
        let (_, mut world) = frames(OwnerFilter::default(), &inputs);
        world.apply(Input::Ledger(Box::new(LedgerSample {
            moves: [[0; STATES]; STATES],
            sockets: [0; STATES],
            ends: Vec::new(),
            uncounted_ends: 0,
            lost: 0,
            missed: None,
            missed_resets: None,
            unmarked: 0,
            drift: None,
        })));
        world.apply(tick(1));
        world.apply(Input::IntervalEnd);
        world.apply(tick(2));
        let frame = world.apply(Input::IntervalEnd);
        prop_assert!(frame.is_some_and(|frame| frame.counts.is_some() && frame.churn.is_some() && frame.latency.is_some()));
    }
}
