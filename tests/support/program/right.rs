//! Whether a run that may do or have little counts what it should: each connection, in each state, of this process.

use std::process;

use super::churn::{Churn, Sums, of_process};
use super::latency::Latency;
use super::stat::Stat;
use super::trace::{Probe, Trace, connect_and_close};
use super::{Hook, Running};
use crate::support::cells::Cells;
use crate::support::workload::bulk;

/// Connections that are made meanwhile.
const CONNECTIONS: i64 = 20;

/// A `stat 0.2` counts each transition, and has nothing to complain about.
pub(crate) fn stat_is_right(running: Running) {
    let mut stat = Stat::of(running);
    let made = bulk::connections(CONNECTIONS);
    assert_eq!(stat.reaches(&Cells::default(), &made), Ok(()));
    assert_eq!(stat.finish().stderr, "", "it has nothing to complain about");
}

/// A `trace` shows each transition and its owner, and has nothing to complain about.
pub(crate) fn trace_is_right(running: Running) {
    let trace = Trace::probing(running, || connect_and_close(Probe::ANY));
    let made = bulk::connections(CONNECTIONS);
    trace.until_events(usize::try_from(made.total()).expect("few"));
    let traced = trace.finish();
    let mut cells = Cells::default();
    for event in &traced.events {
        cells.add(event.from, event.to, 1);
        let owner = event.owner.as_ref().and_then(|owner| owner.pid);
        assert_eq!(owner, Some(process::id().into()), "{event:?}");
    }
    assert_eq!(cells.equals(&made), Ok(()));
    assert_eq!(traced.said, "", "it has nothing to complain about");
}

/// A `churn 0.2` on `hook` counts what this process opened and what it left in TIME_WAIT, and has nothing to complain about.
pub(crate) fn churn_is_right(running: Running, hook: Hook) {
    let mut churn = Churn::of(running);
    bulk::connections(CONNECTIONS);
    churn.fresh();
    let rows = churn.finish();
    let sums = Sums::of(of_process(&rows, process::id()));
    // The clients are closed before their peers: where resets may be missed, nobody knows how they end.
    let expected = Sums {
        opened: CONNECTIONS,
        failed: 0,
        time_wait: if hook.knows_missed() { CONNECTIONS } else { 0 },
    };
    assert_eq!(sums, expected);
}

/// A `latency 0.2` measures each transition, and has nothing to complain about.
pub(crate) fn latency_is_right(running: Running) {
    let mut latency = Latency::of(running);
    let made = bulk::connections(CONNECTIONS);
    latency.fresh();
    assert_eq!(latency.finish().equals(&made), Ok(()));
}
