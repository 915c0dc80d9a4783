//! The states' names as the kernel numbers them and as each peer prints them.
//!
//! Written down here once more, and not taken from the program: a name swapped there must not be swapped here.

use std::collections::BTreeMap;

/// One state: the kernel's number and everybody's name for it.
pub(crate) struct State {
    /// `include/net/tcp_states.h`.
    pub(crate) number: u8,
    /// tcpwatch's JSON.
    pub(crate) key: &'static str,
    /// `ss`.
    pub(crate) ss: &'static str,
    /// `netstat`.
    pub(crate) netstat: &'static str,
}

const fn state(number: u8, key: &'static str, ss: &'static str, netstat: &'static str) -> State {
    State {
        number,
        key,
        ss,
        netstat,
    }
}

/// Every state tcpwatch shows.
pub(crate) const STATES: [State; 11] = [
    state(1, "established", "ESTAB", "ESTABLISHED"),
    state(2, "syn_sent", "SYN-SENT", "SYN_SENT"),
    state(3, "syn_recv", "SYN-RECV", "SYN_RECV"),
    state(4, "fin_wait1", "FIN-WAIT-1", "FIN_WAIT1"),
    state(5, "fin_wait2", "FIN-WAIT-2", "FIN_WAIT2"),
    state(6, "time_wait", "TIME-WAIT", "TIME_WAIT"),
    state(7, "close", "UNCONN", "CLOSE"),
    state(8, "close_wait", "CLOSE-WAIT", "CLOSE_WAIT"),
    state(9, "last_ack", "LAST-ACK", "LAST_ACK"),
    state(10, "listen", "LISTEN", "LISTEN"),
    state(11, "closing", "CLOSING", "CLOSING"),
];

/// The kernel's number of a tcpwatch key.
pub(crate) fn number(key: &str) -> u8 {
    let found = STATES.iter().find(|state| state.key == key);
    found.unwrap_or_else(|| panic!("no state is called {key:?}")).number
}

/// How many sockets are in each state, by tcpwatch's key; every state is there, zeros too.
pub(crate) type Counts = BTreeMap<&'static str, i64>;

/// No socket in any state.
pub(crate) fn none() -> Counts {
    STATES.iter().map(|state| (state.key, 0)).collect()
}

/// Adds `more` to `counts`.
pub(crate) fn add(counts: &mut Counts, more: &Counts) {
    for (state, count) in more {
        *counts.entry(state).or_default() += count;
    }
}

/// Whether two counts are the same; else the states in which they differ.
pub(crate) fn equal(ours: &Counts, theirs: &Counts) -> Result<(), String> {
    let differing: Vec<String> = STATES
        .iter()
        .filter(|state| ours.get(state.key) != theirs.get(state.key))
        .map(|state| {
            format!(
                "{}: {:?} against {:?}",
                state.key,
                ours.get(state.key),
                theirs.get(state.key)
            )
        })
        .collect();
    if differing.is_empty() {
        Ok(())
    } else {
        Err(differing.join(", "))
    }
}
