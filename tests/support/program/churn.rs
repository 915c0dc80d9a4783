//! `tcpwatch churn`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{Ended, Hook, Running};
use crate::support::clock::eventually;

/// What a row is.
const ROW: &str = "tcpwatch.churn/1";
/// What a finding is.
const FINDING: &str = "tcpwatch.finding/1";

/// A running `churn`.
pub(crate) struct Churn {
    running: Running,
}

/// What one owner did, over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) opened: i64,
    pub(crate) failed: i64,
    pub(crate) time_wait: i64,
}

impl Churn {
    /// Starts `churn INTERVAL --hook HOOK` and waits for its first row.
    pub(crate) fn start(hook: Hook, interval: &str) -> Self {
        Self::of(Running::start(&["churn", interval, "--hook", hook.name()]))
    }

    /// The same of one that somebody else has started.
    pub(crate) fn of(mut running: Running) -> Self {
        running.until_lines(1);
        Self { running }
    }

    /// The process.
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// The rows so far.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.said(ROW)
    }

    /// What was found wrong so far.
    pub(crate) fn findings(&self) -> Vec<Value> {
        self.said(FINDING)
    }

    /// The lines of one schema so far.
    fn said(&self, schema: &str) -> Vec<Value> {
        self.running.lines().with(|lines| {
            let all = lines.iter().map(|line| &line.json);
            all.filter(|line| line["schema"] == schema).cloned().collect()
        })
    }

    /// Waits for so many rows in all.
    pub(crate) fn until_rows(&mut self, rows: usize) {
        eventually(&format!("row {rows} of churn"), || {
            self.running.must_run();
            match self.rows().len() {
                there if there >= rows => Ok(()),
                there => Err(format!("it printed {there}")),
            }
        });
    }

    /// Waits until the rows so far are what `holds` of them.
    pub(crate) fn until<T>(&self, what: &str, holds: impl Fn(&[Value]) -> Result<T, String>) -> T {
        eventually(what, || holds(&self.rows()))
    }

    /// Waits for a row whose interval began after this call.
    pub(crate) fn fresh(&mut self) {
        let rows = self.rows().len();
        self.until_rows(rows + 2);
    }

    /// Ends it; every row must be whole, and nothing lost.
    pub(crate) fn finish(self) -> Vec<Value> {
        self.finish_with_findings().0
    }

    /// The same, and all that was found wrong.
    pub(crate) fn finish_with_findings(self) -> (Vec<Value>, Vec<Value>) {
        let Ended { lines, stderr } = self.running.finish();
        assert_eq!(stderr, "", "it has nothing to complain about");
        let lines: Vec<Value> = lines.into_iter().map(|line| line.json).collect();
        let mut time = &Value::Null;
        for line in &lines {
            if line["schema"] == FINDING {
                check_finding(line);
                assert_eq!(&line["time"], time, "a finding comes after its row: {line}");
            } else {
                check(line);
                time = &line["time"];
            }
        }
        lines.into_iter().partition(|line| line["schema"] == ROW)
    }
}

/// A finding is whole.
fn check_finding(finding: &Value) {
    for key in ["detector", "topic", "severity", "title"] {
        let text = finding[key].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "no {key} in {finding}");
    }
    let severity = &finding["severity"];
    assert!(
        ["info", "warning", "critical"].iter().any(|known| severity == known),
        "{finding}"
    );
    let evidence = finding["evidence"].as_object().expect("evidence");
    assert!(evidence.values().any(|value| !value.is_null()), "{finding}");
    assert!(finding["advice"].is_array(), "{finding}");
}

/// A row is whole: what a process did with all its destinations is what it did, and TIME_WAIT is the same however it is told.
fn check(row: &Value) {
    assert_eq!(row["schema"], ROW);
    assert_eq!(row["lost"], 0, "{row}");
    for owner in row["owners"].as_array().expect("owners") {
        for key in ["opened", "failed", "time_wait"] {
            let destinations = owner["destinations"].as_array().expect("destinations");
            let sum: i64 = destinations.iter().map(|to| number(to, key)).sum();
            assert_eq!(sum, number(owner, key), "{key}: {owner}");
        }
    }
    let time_wait: i64 = ["owners", "peers"]
        .iter()
        .flat_map(|side| row[side].as_array().expect("openers"))
        .map(|opener| number(opener, "time_wait"))
        .sum();
    for by in ["lport", "peer", "process"] {
        let other = if by == "process" { "other_processes" } else { "other" };
        assert_eq!(number(&row["time_wait_by"], other), 0, "{row}");
        let counts = row["time_wait_by"][by].as_array().expect("counts");
        let sum: i64 = counts.iter().map(|count| number(count, "time_wait")).sum();
        assert_eq!(sum, time_wait, "by {by}: {row}");
    }
    let failed = row["failed"].as_object().expect("failed");
    let total: i64 = failed
        .iter()
        .filter(|(key, _)| *key != "total")
        .map(|(_, count)| count.as_i64().expect("a count"))
        .sum();
    assert_eq!(total, number(&row["failed"], "total"), "{row}");
}

/// A number of an object.
pub(crate) fn number(object: &Value, key: &str) -> i64 {
    object[key].as_i64().unwrap_or_else(|| panic!("no {key} in {object}"))
}

/// The sum of one number over rows: `sum(rows, "/failed/refused")`.
pub(crate) fn sum(rows: &[Value], pointer: &str) -> i64 {
    let of = |row: &Value| row.pointer(pointer).and_then(Value::as_i64);
    rows.iter()
        .map(|row| of(row).unwrap_or_else(|| panic!("no {pointer} in {row}")))
        .sum()
}

/// What is said of process `pid` in each row that says something of it.
pub(crate) fn of_process(rows: &[Value], pid: u32) -> impl Iterator<Item = &Value> {
    let owners = rows
        .iter()
        .flat_map(|row| row["owners"].as_array().into_iter().flatten());
    owners.filter(move |owner| owner["owner"]["pid"] == pid)
}

/// TIME_WAIT of what `key` of a count, `by` one of the three, is `value`; over rows.
pub(crate) fn time_wait_by(rows: &[Value], by: &str, key: &str, value: &Value) -> i64 {
    let counts = rows
        .iter()
        .flat_map(|row| row["time_wait_by"][by].as_array().expect("counts"));
    let wanted = counts.filter(|count| count.pointer(key) == Some(value));
    wanted.map(|count| number(count, "time_wait")).sum()
}

impl Sums {
    /// Of all `objects`.
    pub(crate) fn of<'a>(objects: impl Iterator<Item = &'a Value>) -> Self {
        objects.fold(Self::default(), |sums, object| Self {
            opened: sums.opened + number(object, "opened"),
            failed: sums.failed + number(object, "failed"),
            time_wait: sums.time_wait + number(object, "time_wait"),
        })
    }
}

/// A time in the output, s since 1970.
pub(crate) fn seconds(time: &Value) -> f64 {
    let text = time.as_str().unwrap_or_else(|| panic!("{time} is no time"));
    let time: Timestamp = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    Duration::try_from(time.duration_since(Timestamp::UNIX_EPOCH))
        .expect("after 1970")
        .as_secs_f64()
}
