//! Records of the kernel side: decoded, applied to the model, and shown as JSON.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use tcpwatch::input::needs::Needs;
use tcpwatch::input::owner::OwnerBy;
use tcpwatch::input::{Connection, EndCounts, Input, Record, Transition};
use tcpwatch::model::filter::Filter;
use tcpwatch::model::world::World;
use tcpwatch::view::screen::Screen;
use tcpwatch::view::{Output, View, trace};
use tcpwatch_common::record;

/// What is added to the times of the kernel side, ns.
const TO_UNIX_NS: i64 = 1_700_000_000_000_000_000;

/// The sizes of records, by the byte before one; after the last comes a tick of the clock.
const SIZES: [usize; 4] = [
    size_of::<record::Transition>(),
    size_of::<record::Connection>(),
    size_of::<record::Amendment>(),
    size_of::<u64>(),
];

pub(crate) fn run(mut input: &[u8]) {
    let mut shown = Shown::new();
    while let Some((&kind, rest)) = input.split_first() {
        let kind = usize::from(kind) % SIZES.len();
        let Some((bytes, rest)) = rest.split_at_checked(SIZES[kind]) else {
            break;
        };
        input = rest;
        if let Ok(monotonic_ns) = bytes.try_into().map(u64::from_ne_bytes) {
            shown.apply(tick(monotonic_ns));
        } else if let Some(record) = Record::decode(bytes, TO_UNIX_NS) {
            check(bytes, &record);
            shown.apply(match record {
                Record::Transition(transition) => Input::Transition(transition),
                Record::Connection(connection) => Input::Connection(connection),
                Record::Amendment(id, evidence) => Input::CloseAmended { id, evidence },
            });
        }
    }
    for input in [
        Input::StreamEnd,
        Input::IntervalEnd,
        Input::End(Box::<EndCounts>::default()),
    ] {
        shown.apply(input);
    }
}

fn tick(monotonic_ns: u64) -> Input {
    let ns = i128::from(TO_UNIX_NS) + i128::from(monotonic_ns % (1 << 60));
    Input::Tick {
        time: Timestamp::from_nanosecond(ns).unwrap_or(Timestamp::MAX),
        monotonic_ns,
    }
}

/// Compares `record` with the bytes that it was decoded from.
fn check(bytes: &[u8], record: &Record) {
    let number = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    match record {
        Record::Transition(transition) | Record::Connection(Connection { last: transition, .. }) => {
            assert_eq!(transition.monotonic_ns, number(0));
            assert_eq!(transition.id.map_or(0, u64::from), number(8));
        }
        Record::Amendment(id, _) => assert_eq!(id.get(), number(8)),
    }
}

/// The model, and views of single transitions and connections.
struct Shown {
    world: World,
    views: [Box<dyn View>; 2],
}

impl Shown {
    fn new() -> Self {
        let needs = Needs {
            transitions: true,
            connections: true,
            churn: Some(OwnerBy::Process),
            ..Needs::default()
        };
        Self {
            world: World::new(needs, Filter::default()),
            views: [
                trace::new_view::<Transition>(Output::Json, Screen::plain(120), TimeZone::UTC),
                trace::new_view::<Connection>(Output::Json, Screen::plain(120), TimeZone::UTC),
            ],
        }
    }

    fn apply(&mut self, input: Input) {
        let Some(frame) = self.world.apply(input) else { return };
        for view in &mut self.views {
            let mut out = Vec::new();
            view.frame(frame, &[], &mut out).expect("there is room");
            for line in out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                let _: Value = serde_json::from_slice(line).expect("each line is JSON");
            }
        }
    }
}
