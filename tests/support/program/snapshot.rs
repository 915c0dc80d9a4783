//! `tcpwatch snapshot`.

use std::process::Command;

use serde_json::Value;

use super::counts::counts;
use super::run::{finish, tcpwatch};
use crate::support::states::Counts;

/// The object `tcpwatch snapshot -o json ARGS` prints.
pub(crate) fn snapshot(args: &[&str]) -> Value {
    parse(&tcpwatch(&[&["snapshot", "-o", "json"], args].concat()))
}

/// The object that `command`, a `snapshot -o json`, prints.
pub(crate) fn parse(command: &Command) -> Value {
    let finished = finish(command);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let json: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    assert_eq!(json["schema"], "tcpwatch.snapshot/1");
    let states = states(&json);
    assert_eq!(
        json["total"].as_i64(),
        Some(states.values().sum()),
        "the total is the sum of the states: {json}"
    );
    json
}

/// The counts per state of a snapshot.
pub(crate) fn states(snapshot: &Value) -> Counts {
    counts(&snapshot["states"])
}
