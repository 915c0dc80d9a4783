//! Unit tests.

use jiff::Timestamp;
use tcpwatch_common::{Evidence, TcpState};

use super::*;
use crate::input::EndCounts;
use crate::input::histogram::Histogram;
use crate::input::latency::{LatencyBy, LatencyGroup, Measure, Measured};
use crate::input::listener::tests::dropping;
use crate::input::owner::tests::owner;
use crate::input::owner::{Comm, OwnerBy};
use crate::input::socket_scan::SocketHolders;

const ROWS: Needs = Needs {
    counts: false,
    transitions: true,
    connections: false,
    churn: None,
    latency: None,
    stuck: None,
};

/// A filter on the process name `app`.
fn of_app() -> InputFilter {
    let owner = OwnerFilter {
        comms: vec![Comm::new(b"app")],
        ..OwnerFilter::default()
    };
    let filter = Filter {
        owner,
        ..Filter::default()
    };
    InputFilter::new(filter, ROWS)
}

/// The end of connection `id`, of `owner`, or of the holder of the socket with that inode number.
fn ended(id: u64, owner: Option<Owner>) -> Transition {
    Transition {
        id: NonZeroU64::new(id),
        owner,
        inode: NonZeroU32::new(u32::try_from(id).unwrap()),
        evidence: Some(Evidence::default()),
        ..Transition::between(TcpState::Established, TcpState::Close)
    }
}

fn tick(monotonic_ns: u64) -> Input {
    Input::Tick {
        time: Timestamp::UNIX_EPOCH,
        monotonic_ns,
    }
}

fn answer(inode: u32, owner: Result<Owner, UnknownOwner>) -> Input {
    let inode = NonZeroU32::new(inode).unwrap();
    Input::Owner { inode, owner }
}

fn cgroup(owner: Owner) -> Input {
    Input::CgroupPath { owner, cgroup: None }
}

fn amended(id: u64) -> Input {
    Input::CloseAmended {
        id: NonZeroU64::new(id).unwrap(),
        evidence: Evidence::default(),
    }
}

fn pass(filter: &mut InputFilter, inputs: &[Input]) -> Vec<Input> {
    let mut passed = Vec::new();
    for input in inputs {
        filter.take(input.clone(), &mut |input| passed.push(input));
    }
    passed
}

#[test]
fn records_wait_for_their_owners_and_those_of_others_are_left_out() {
    let (app, other) = (owner(7, "app"), owner(8, "other"));
    let mut filter = of_app();
    let [mine, late, theirs] = [ended(1, Some(app)), ended(2, None), ended(3, Some(other))];
    let inputs = [mine, late, theirs].map(Input::Transition);
    assert_eq!(pass(&mut filter, &inputs), [], "no cgroup is known");
    assert_eq!(pass(&mut filter, &[cgroup(app), cgroup(other)]), [], "a tick follows");
    assert_eq!(
        pass(&mut filter, &[amended(1), amended(2), amended(3), tick(1)]),
        [cgroup(app), Input::Transition(mine)]
    );
    let passed = pass(&mut filter, &[answer(2, Ok(app))]);
    let known = Transition {
        owner: Some(app),
        ..late
    };
    let expected = [Input::Transition(known), amended(1), amended(2), tick(1)];
    assert_eq!(passed, expected);
    let end = pass(&mut filter, &[Input::End(Box::default())]);
    let unmatched = EndCounts {
        unmatched: 1,
        ..EndCounts::default()
    };
    assert_eq!(end, [Input::End(Box::new(unmatched))]);
}

#[test]
fn a_record_whose_owner_stays_unknown_is_left_out() {
    let unknown = Input::Transition(ended(2, None));
    let mut filter = of_app();
    assert_eq!(pass(&mut filter, &[unknown.clone(), tick(OWNER_WAIT_NS)]), []);
    let late = tick(OWNER_WAIT_NS + 1);
    assert_eq!(
        pass(&mut filter, std::slice::from_ref(&late)),
        [tick(OWNER_WAIT_NS), late]
    );
    assert_eq!(pass(&mut filter, &[answer(2, Ok(owner(7, "app")))]), [], "too late");
    let nobody = answer(2, Err(UnknownOwner::Exited));
    assert_eq!(pass(&mut filter, &[unknown, nobody]), []);
    let last = Input::Transition(Transition {
        monotonic_ns: OWNER_WAIT_NS + 1,
        ..ended(2, None)
    });
    assert_eq!(pass(&mut filter, &[last, Input::StreamEnd]), [], "its answer comes");
    let end = pass(&mut filter, &[Input::End(Box::default())]);
    let unmatched = EndCounts {
        unmatched: 3,
        ..EndCounts::default()
    };
    assert_eq!(end, [Input::StreamEnd, Input::End(Box::new(unmatched))]);
}

#[test]
fn listeners_at_other_ports_and_their_owners_are_left_out() {
    let filter = Filter {
        port: "80".parse().unwrap(),
        ..Filter::default()
    };
    let mut filter = InputFilter::new(filter, ROWS);
    let (mine, theirs) = (dropping(80, 1, 5), dropping(81, 2, 7));
    let asked = theirs.asks_owner().map(NonZeroU32::get);
    let passed = pass(&mut filter, &[Input::ListenerDrops(vec![mine.clone(), theirs])]);
    assert_eq!(passed, [Input::ListenerDrops(vec![mine])]);
    if let Some(inode) = asked {
        assert_eq!(pass(&mut filter, &[answer(inode, Ok(owner(8, "other")))]), []);
    }
}

#[test]
fn a_scan_has_nothing_of_other_sockets() {
    let inode = |number: u32| NonZeroU32::new(number).unwrap();
    let mut filter = of_app();
    let app = owner(7, "app");
    pass(&mut filter, &[cgroup(app), Input::Transition(ended(1, Some(app)))]);
    let held = |pid: u32| SocketHolders {
        process: Some(owner(pid, "any")),
        holders: Vec::new(),
    };
    let scan = SocketScan {
        listeners: [(1, 4000)].into_iter().collect(),
        held: [(inode(1), held(7)), (inode(3), held(8))].into_iter().collect(),
        exited: [inode(8)].into_iter().collect(),
        ..SocketScan::default()
    };
    let input = Input::SocketScan {
        scan: Box::new(scan),
        missed: None,
    };
    let passed = pass(&mut filter, &[input]);
    let [Input::SocketScan { scan, .. }] = passed.as_slice() else {
        panic!("{passed:?}");
    };
    assert!(scan.listeners.is_empty() && scan.exited.is_empty());
    assert_eq!(scan.held.keys().copied().collect::<Vec<_>>(), [inode(1)]);
}

/// What is passed on is passed on again as it is: a replay filters what the run filtered.
#[test]
fn a_second_filter_changes_nothing() {
    let (app, other) = (owner(7, "app"), owner(8, "other"));
    let inputs = [
        Input::Transition(ended(1, Some(app))),
        Input::Transition(ended(2, None)),
        tick(1),
        Input::Transition(ended(3, Some(other))),
        cgroup(app),
        cgroup(other),
        answer(2, Ok(app)),
        tick(2),
        Input::Transition(ended(4, None)),
        tick(OWNER_WAIT_NS + 3),
        Input::End(Box::default()),
    ];
    let once = pass(&mut of_app(), &inputs);
    assert_eq!(pass(&mut of_app(), &once), once);
    let by_pod = Needs {
        churn: Some(OwnerBy::Pod),
        ..ROWS
    };
    let grouped = || InputFilter::new(Filter::default(), by_pod);
    let once = pass(&mut grouped(), &inputs);
    assert_eq!(pass(&mut grouped(), &once), once);
}

#[test]
fn cgroups_come_before_what_is_grouped_by_them() {
    let (app, late) = (owner(7, "app"), owner(8, "late"));
    let needs = Needs {
        transitions: false,
        churn: Some(OwnerBy::Pod),
        ..ROWS
    };
    let mut filter = InputFilter::new(Filter::default(), needs);
    let [one, two] = [ended(1, Some(app)), ended(2, Some(late))].map(Input::Transition);
    let listener = answer(5, Ok(app));
    let passed = pass(&mut filter, &[one.clone(), listener.clone(), cgroup(app), tick(1)]);
    assert_eq!(passed, [cgroup(app), one, listener, tick(1)], "nothing overtakes it");
    assert_eq!(pass(&mut filter, &[two.clone(), tick(1)]), []);
    let passed = pass(&mut filter, &[tick(OWNER_WAIT_NS + 1)]);
    assert_eq!(
        passed,
        [cgroup(late), two, tick(1), tick(OWNER_WAIT_NS + 1)],
        "it is unknown"
    );
}

/// The times of `owners`, of which the last is unknown.
fn latency(owners: [Option<Owner>; 3]) -> Input {
    let measured = owners.map(|owner| {
        let mut histogram = Histogram::default();
        histogram.record(7);
        Measured {
            measure: Measure::Accept,
            group: LatencyGroup::All,
            owner,
            histogram,
        }
    });
    Input::Latency(Box::new(LatencySample {
        measured: measured.into(),
        ..LatencySample::default()
    }))
}

#[test]
fn times_of_others_and_their_cgroups_are_left_out() {
    let (app, other) = (owner(7, "app"), owner(8, "other"));
    let needs = Needs {
        transitions: false,
        latency: Some(LatencyBy::Owner(OwnerBy::Pod)),
        ..ROWS
    };
    let new = || InputFilter::new(of_app().filter, needs);
    let mut filter = new();
    let inputs = [
        latency([Some(app), Some(other), None]),
        cgroup(app),
        cgroup(other),
        tick(1),
    ];
    let passed = pass(&mut filter, &inputs);
    let [path, Input::Latency(sample), last] = passed.as_slice() else {
        panic!("{passed:?}");
    };
    assert_eq!((path, last), (&cgroup(app), &tick(1)));
    let owners: Vec<_> = sample.measured.iter().map(|measured| measured.owner).collect();
    assert_eq!(
        (owners, sample.unmeasured),
        (vec![Some(app)], 1),
        "one may be anybody's"
    );
    assert_eq!(pass(&mut new(), &passed), passed, "a replay filters again");
}

#[test]
fn who_closed_a_connection_of_another_is_shown_by_life_alone() {
    let (app, other) = (owner(7, "app"), owner(8, "other"));
    let ended = Input::Connection(crate::input::Connection {
        last: ended(1, Some(other)),
        spent_ns: [0; 8],
        traffic: None,
        closer: Some(app),
    });
    for (connections, churn) in [(true, None), (false, Some(OwnerBy::Process))] {
        let needs = Needs {
            transitions: false,
            connections,
            churn,
            ..ROWS
        };
        let mut filter = InputFilter::new(of_app().filter, needs);
        let passed = pass(&mut filter, &[ended.clone(), cgroup(app), cgroup(other), tick(1)]);
        assert_eq!(passed.contains(&ended), connections);
    }
}
