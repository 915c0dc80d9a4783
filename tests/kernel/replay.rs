//! The inputs of a run are read from its recording as they were, and give the frames of the run when they are applied to a fresh model:
//! what the model learns, it learns by its inputs alone.

use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use tcpwatch::detect::finding::Finding;
use tcpwatch::engine::{Plan, run_observed};
use tcpwatch::input::Input;
use tcpwatch::input::latency::LatencyBy;
use tcpwatch::input::needs::{Needs, StuckNeeds};
use tcpwatch::input::netns_selector::NetnsSelector;
use tcpwatch::input::owner::OwnerBy;
use tcpwatch::model::filter::Filter;
use tcpwatch::model::frame::Frame;
use tcpwatch::model::leaks::{LeaksFrame, states};
use tcpwatch::model::world::World;
use tcpwatch::record::{Header, Recorder, Recording};
use tcpwatch::source::ebpf::Choice;
use tcpwatch::source::live::Options;
use tcpwatch::view::View;

use crate::support::clock::{PATIENCE, pass};
use crate::support::leaking_server::Leaking;
use crate::support::netns::{Netns, in_netns};
use crate::support::web::{Nginx, request};
use crate::support::{endings, heavy};

const NOTHING: Needs = Needs {
    counts: false,
    transitions: false,
    connections: false,
    churn: None,
    latency: None,
    stuck: None,
};

/// What `stat`, `trace`, `life`, `churn`, `latency` and `leaks --stacks` need, and all of it.
fn needs() -> [Needs; 7] {
    let each = [
        Needs {
            counts: true,
            ..NOTHING
        },
        Needs {
            transitions: true,
            ..NOTHING
        },
        Needs {
            connections: true,
            ..NOTHING
        },
        Needs {
            churn: Some(OwnerBy::Process),
            ..NOTHING
        },
        Needs {
            latency: Some(LatencyBy::Owner(OwnerBy::Process)),
            ..NOTHING
        },
        Needs {
            stuck: Some(StuckNeeds {
                states: states(),
                older_ns: 200_000_000,
                stacks: true,
            }),
            ..NOTHING
        },
    ];
    let all = each.into_iter().fold(NOTHING, |all, needs| all | needs);
    let [stat, trace, life, churn, latency, leaks] = each;
    [stat, trace, life, churn, latency, leaks, all]
}

/// A view that keeps what it is shown.
struct Kept {
    frames: Vec<Frame>,
    begun: Sender<()>,
}

impl View for Kept {
    fn begin(&mut self, _: &mut dyn Write) -> io::Result<()> {
        self.begun.send(()).expect("somebody waits");
        Ok(())
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], _: &mut dyn Write) -> io::Result<()> {
        self.frames.push(frame.clone());
        Ok(())
    }
}

/// How long each run takes.
const DURATION: Duration = Duration::from_millis(2500);

/// Watches for [`DURATION`], of which `work` may take a part, and gives the frames, which a fresh model gives too.
/// `None` where a small ring was to overflow and did not: the machine was too busy for that many connections.
fn frames(needs: Needs, netns: NetnsSelector, ring_bytes: u32, work: impl FnOnce() + Send) -> Option<Vec<Frame>> {
    let plan = Plan {
        options: Options {
            filter: Filter::default(),
            netns,
            hook: Choice::Auto,
            ring_bytes,
        },
        needs,
        shows: needs,
        interval: Some(Duration::from_millis(400)),
        count: None,
        duration: Some(DURATION),
        starts_program: false,
        record: None,
    };
    let (begun, is_begun) = channel();
    let mut kept = Kept {
        frames: Vec::new(),
        begun,
    };
    let mut inputs: Vec<Input> = Vec::new();
    let mut must_lose = ring_bytes < RING && needs.records();
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut recorder = Recorder::create(place.path(), &Header::new(Vec::new()), None).expect("an empty directory");
    thread::scope(|scope| {
        scope.spawn(move || {
            is_begun.recv_timeout(PATIENCE).expect("the run begins");
            work();
        });
        let mut observe = |input: &Input| {
            must_lose &= !matches!(input, Input::Loss(loss) if loss.lost > 0);
            if must_lose && matches!(input, Input::Loss(_)) {
                // A reader that is slow until the small ring has overflowed.
                pass(SLOW);
            }
            inputs.push(input.clone());
            recorder.take(input)
        };
        run_observed(&plan, &mut kept, &mut observe).expect("a run");
    });
    recorder.finish(true).expect("a recording");
    let mut recording = Recording::open(place.path()).expect("a recording");
    for (number, input) in inputs.iter().enumerate() {
        let read = recording.next(&|_| true).expect("a whole recording");
        assert!(
            read.as_ref() == Some(input),
            "input {number}: {read:?}, and not {input:?}"
        );
    }
    assert_eq!(recording.next(&|_| true).expect("a whole recording"), None);
    let mut world = World::new(needs, plan.options.filter);
    let mut again = Vec::new();
    for input in inputs {
        again.extend(world.apply(input).cloned());
    }
    assert_eq!(again.len(), kept.frames.len(), "{needs:?}");
    for (number, (again, frame)) in again.iter().zip(&kept.frames).enumerate() {
        assert!(
            again == frame,
            "frame {number} of {needs:?}: {again:?}, and not {frame:?}"
        );
    }
    (!must_lose).then_some(kept.frames)
}

/// Compares each of [`needs`], and sees to it that there was something to compare.
fn each_command(netns: &NetnsSelector, ring_bytes: u32, work: impl FnMut() + Send) {
    each_command_with(netns, ring_bytes, work, |_| true);
}

/// The same; where sockets that are stuck are asked for, one of the frames must be as `leaks` says.
fn each_command_with(
    netns: &NetnsSelector,
    ring_bytes: u32,
    mut work: impl FnMut() + Send,
    leaks: fn(&LeaksFrame) -> bool,
) {
    for needs in needs() {
        let frames = (0..5).find_map(|_| frames(needs, netns.clone(), ring_bytes, &mut work));
        let frames = frames.unwrap_or_else(|| panic!("nothing was lost: {needs:?}"));
        let any = |what: fn(&Frame) -> bool| frames.iter().any(what);
        let shown = [
            (
                needs.counts,
                any(|frame| frame.counts.as_ref().is_some_and(|counts| counts.seen > 0)),
            ),
            (needs.transitions, any(|frame| !frame.transitions.rows.is_empty())),
            (needs.connections, any(|frame| !frame.connections.rows.is_empty())),
            (
                needs.churn.is_some(),
                any(|frame| frame.churn.as_ref().is_some_and(|churn| churn.stat.seen > 0)),
            ),
            (
                needs.latency.is_some(),
                any(|frame| {
                    frame
                        .latency
                        .as_ref()
                        .is_some_and(|latency| !latency.measured.is_empty())
                }),
            ),
            (
                needs.stuck.is_some(),
                frames.iter().filter_map(|frame| frame.leaks.as_ref()).any(leaks),
            ),
        ];
        for (number, (needed, shown)) in shown.into_iter().enumerate() {
            assert_eq!(needed, shown, "the need {number} of {needs:?}");
        }
    }
}

const RING: u32 = 16 << 20;
/// How long a slow reader leaves the ring unread.
const SLOW: Duration = Duration::from_millis(200);

#[test]
fn of_nginx_without_keep_alive() {
    let _turn = heavy::turn();
    in_netns(|_| {
        let _nginx = Nginx::start();
        each_command(&NetnsSelector::Own, RING, || drop(request(1)));
    });
}

#[test]
fn of_every_kind_of_ending() {
    in_netns(|netns| each_command(&NetnsSelector::Own, RING, || every_ending(netns)));
}

#[test]
fn of_a_program_that_leaks() {
    in_netns(|_| {
        let server = Leaking::start("error_path.c", 9000, &[]);
        let visits = || (0..5).for_each(|_| server.visit("x"));
        each_command_with(&NetnsSelector::Own, RING, visits, |leaks| {
            let groups = leaks.groups.iter();
            let mut opened_by = groups.filter_map(|group| group.opened_by.as_ref());
            opened_by.any(|opened_by| !opened_by.is_empty())
        });
    });
}

#[test]
fn with_lost_records() {
    let _turn = heavy::turn();
    in_netns(|_| {
        let _nginx = Nginx::start();
        each_command(&NetnsSelector::Own, 64 << 10, || drop(request(1)));
    });
}

#[test]
fn of_all_network_namespaces() {
    in_netns(|netns| each_command(&NetnsSelector::All, RING, || every_ending(netns)));
}

/// Every kind of ending that no timeout makes.
fn every_ending(netns: &Netns) {
    for kind in endings::quick() {
        kind.run(netns);
    }
}
