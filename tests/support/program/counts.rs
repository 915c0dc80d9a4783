//! Counts of states in tcpwatch's JSON.

use serde_json::Value;

use crate::support::states::{Counts, STATES};

/// The counts in `{"established": 2, …}`: all states present, none other, none negative.
pub(crate) fn counts(object: &Value) -> Counts {
    let object = object
        .as_object()
        .unwrap_or_else(|| panic!("{object} is no object of states"));
    assert_eq!(object.len(), STATES.len(), "all states and nothing else: {object:?}");
    STATES
        .iter()
        .map(|state| {
            let count = object.get(state.key).and_then(Value::as_i64);
            let count = count.unwrap_or_else(|| panic!("no count of {} in {object:?}", state.key));
            assert!(count >= 0, "{count} sockets in {}", state.key);
            (state.key, count)
        })
        .collect()
}
