//! `tcpwatch stat`.

use rustix::process::Signal;
use serde_json::Value;

use super::counts::counts;
use super::{Ended, Hook, Running};
use crate::support::cells::Cells;
use crate::support::clock::{eventually, try_eventually};
use crate::support::fdinfo;
use crate::support::lines::Line;
use crate::support::states::{Counts, equal};

/// A running `stat`, five rows a second.
pub(crate) struct Stat {
    running: Running,
}

impl Stat {
    /// Starts `stat 0.2 --hook HOOK ARGS` and waits for its first row.
    pub(crate) fn start(hook: Hook, args: &[&str]) -> Self {
        Self::every("0.2", hook, args)
    }

    /// The same with rows `interval` apart.
    pub(crate) fn every(interval: &str, hook: Hook, args: &[&str]) -> Self {
        Self::of(Running::start(
            &[&["stat", interval, "--hook", hook.name()], args].concat(),
        ))
    }

    /// The same of one that somebody else has started.
    pub(crate) fn of(mut running: Running) -> Self {
        running.until_lines(1);
        let first = running.lines().with(|lines| lines[0].json.clone());
        assert_eq!(
            first["interval_s"].as_f64(),
            Some(0.0),
            "the first row comes at once: {first}"
        );
        assert_eq!(
            Cells::of_json(&first["transitions"]),
            Cells::default(),
            "and has no transitions: {first}"
        );
        Self { running }
    }

    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// Waits for a row whose interval began after this call: the second from now.
    pub(crate) fn fresh(&mut self) {
        let rows = self.running.lines().len();
        self.running.until_lines(rows + 2);
    }

    /// The sum of the transitions of all rows, as of a moment after this call.
    pub(crate) fn cells(&mut self) -> Cells {
        self.fresh();
        self.running
            .lines()
            .with(|lines| total(lines.iter().map(|line| &line.json)))
    }

    /// Waits until no more transitions come, and gives those so far.
    pub(crate) fn final_cells(&mut self) -> Cells {
        eventually("the last transition", || {
            let before = self.cells();
            let cells = self.cells();
            cells.equals(&before).map(|()| cells)
        })
    }

    /// The connections now.
    pub(crate) fn counts(&mut self) -> Counts {
        self.fresh();
        self.running
            .lines()
            .with(|lines| counts(&lines.last().expect("rows").json["connections"]))
    }

    /// Waits until its connections equal what `peer` counts in the same moments.
    pub(crate) fn agrees(&mut self, what: &str, mut peer: impl FnMut() -> Counts) {
        eventually(what, || {
            let before = peer();
            let ours = self.counts();
            if peer() == before {
                equal(&ours, &before)
            } else {
                Err("the peer's counts change".to_owned())
            }
        });
    }

    /// Waits until it has counted `promised` since `start`; else how it differs.
    pub(crate) fn reaches(&mut self, start: &Cells, promised: &Cells) -> Result<(), String> {
        try_eventually(|| self.cells().since(start).equals(promised))
    }

    /// Runs of its programs the kernel skipped, by the kernel's word.
    pub(crate) fn missed(&self) -> i64 {
        fdinfo::missed(self.running.pid())
    }

    /// The latest row.
    pub(crate) fn last(&self) -> Value {
        self.running
            .lines()
            .with(|lines| lines.last().expect("rows").json.clone())
    }

    /// Ends it by `signal`.
    pub(crate) fn finish_by(self, signal: Signal) -> Ended {
        self.running.finish_by(signal)
    }

    /// Ends it; every row must be whole and no state negative in any.
    pub(crate) fn finish(self) -> Ended {
        self.finish_beside(0)
    }

    /// The same, where bpftrace saw `unseen` transitions fewer than there were.
    pub(crate) fn finish_beside(self, unseen: i64) -> Ended {
        let ended = self.running.finish();
        check(&ended, unseen);
        ended
    }
}

/// Every row is whole, no state negative, and no later walk found the counts wrong: what a walk puts right was wrong. The excuses
/// are runs the kernel skipped by its own word, each of which leaves two states wrong by one, and the `unseen` transitions that
/// bpftrace did not see either.
pub(crate) fn check(ended: &Ended, unseen: i64) {
    let (mut missed, mut off) = (0, 0);
    let mut before = &Value::Null;
    for Line { json, .. } in &ended.lines {
        assert_eq!(json["schema"], "tcpwatch.stat/1");
        assert!(
            json["interval_s"].as_f64().is_some_and(|seconds| seconds >= 0.0),
            "{json}"
        );
        assert_eq!(
            counts(&json["connections"])["close"],
            0,
            "ss shows no socket in CLOSE: {json}"
        );
        // Before Linux 5.12 no kernel counts skipped runs.
        missed += json["events"]["missed"].as_i64().unwrap_or(0);
        let drift = json.get("drift").expect("drift, if only null").as_i64().unwrap_or(0);
        off += drift;
        assert!(
            off <= unseen + 2 * missed,
            "the counts were off by {off}, the kernel skipped {missed} runs: {before} and then {json}"
        );
        before = json;
    }
}

/// The sum of the transitions of rows.
pub(crate) fn total<'a>(rows: impl Iterator<Item = &'a Value>) -> Cells {
    let mut cells = Cells::default();
    for row in rows {
        cells.add_all(&Cells::of_json(&row["transitions"]));
    }
    cells
}

/// The sum of one number over rows: `sum(rows, "/opened/passive")`.
pub(crate) fn sum(ended: &Ended, pointer: &str) -> i64 {
    let number = |row: &Value| row.pointer(pointer).and_then(Value::as_i64);
    ended
        .lines
        .iter()
        .map(|line| number(&line.json).unwrap_or_else(|| panic!("no {pointer} in {}", line.json)))
        .sum()
}
