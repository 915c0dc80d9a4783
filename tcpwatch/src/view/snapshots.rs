//! Every view in every format, for one frame each: a change of output shows up as a change in `snapshots/`.

use insta::assert_snapshot;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tcpwatch_common::{StateSet, TcpState};

use super::leaks::Selection;
use super::screen::Screen;
use super::trace::tests::{connection, partly_seen};
use super::{View, csv, json, text, trace};
use crate::detect;
use crate::input::counter::Counter;
use crate::input::histogram::Histogram;
use crate::input::latency::{Group, LatencyBy, Measure, Measured, Retransmits};
use crate::input::netns_selector::NetnsSelector;
use crate::input::{Connection, Transition};
use crate::model::churn::Churn;
use crate::model::ending::Ending;
use crate::model::filter::Filter;
use crate::model::frame::Frame;
use crate::model::latency::LatencyFrame;
use crate::model::leaks::states;
use crate::model::stat::StatFrame;
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

#[test]
fn churn() {
    let mut churn = Churn::new(0);
    for _ in 0..20 {
        churn.ended(&connection(), Ending::GracefulPassive);
    }
    let mut frame = churn.frame(counts(), 0, 10, 0);
    frame.stat.interval_s = 10.0;
    let frame = Frame::from(&frame);
    assert_snapshot!(
        "churn.text",
        printed(text::churn::Text::new(TimeZone::UTC, 10, screen()), &frame)
    );
    assert_snapshot!("churn.json", printed(json::churn::Json, &frame));
    assert_snapshot!("churn.csv", printed(csv::churn::Csv, &frame));
}

#[test]
fn latency() {
    let mut histogram = Histogram::default();
    for ns in [1_000, 30_000, 2_000_000] {
        histogram.record(ns);
    }
    histogram.record_unknown();
    let measured = |measure| Measured {
        measure,
        group: Group::Lport(443),
        histogram: histogram.clone(),
    };
    let frame = Frame::from(&LatencyFrame {
        time: Timestamp::UNIX_EPOCH,
        interval_s: 2.0,
        by: LatencyBy::Lport,
        measured: vec![
            measured(Measure::Accept),
            measured(Measure::State(TcpState::Established)),
        ],
        retransmits: Retransmits {
            syn: 1,
            syn_ack: 0,
            data: 2,
        },
        evicted: 0,
        unmeasured: 0,
        missed: Some(0),
    });
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
    let asked = Selection::new(all, NetnsSelector::Own);
    assert_snapshot!(
        "leaks.text",
        printed(text::leaks::Text::new(TimeZone::UTC, screen(), asked), &frame)
    );
    assert_snapshot!("leaks.csv", printed(csv::leaks::Csv, &frame));
    assert_snapshot!("leaks.json", printed(json::leaks::Json, &frame));
}
