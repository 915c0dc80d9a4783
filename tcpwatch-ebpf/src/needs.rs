//! The needs of the command ([`tcpwatch_common::Params::needs`]).

use tcpwatch_common::params::{
    BEFORE_STATE, NEED_CONNECTIONS, NEED_ENDPOINTS, NEED_LATENCY, NEED_NAMESPACES, NEED_OPENINGS, NEED_OWNERS,
    NEED_TRANSITIONS,
};

use crate::params::param;

/// Needs with records.
const RECORDS: u32 = NEED_TRANSITIONS | NEED_OPENINGS | NEED_CONNECTIONS;
/// Needs with the time at which a state was entered.
const TIMES: u32 = RECORDS | NEED_LATENCY;
/// Needs with the owner of every connection, or its time in each state.
const INFOS: u32 = NEED_OWNERS | NEED_CONNECTIONS;
/// Needs with the state of every socket.
const STATES: u32 = TIMES | INFOS | NEED_ENDPOINTS;

/// Whether any of `needs` is needed.
#[inline(always)]
fn any(needs: u32) -> bool {
    param!(PARAMS.needs) & needs != 0
}

/// Whether a record is needed for every transition.
#[inline(always)]
pub(crate) fn transitions() -> bool {
    any(NEED_TRANSITIONS)
}

/// Whether a record is needed for every transition to `ESTABLISHED`.
#[inline(always)]
pub(crate) fn openings() -> bool {
    any(NEED_OPENINGS)
}

/// Whether a record is needed for every finished connection.
#[inline(always)]
pub(crate) fn connections() -> bool {
    any(NEED_CONNECTIONS)
}

/// Whether the owner of each connection is needed.
#[inline(always)]
pub(crate) fn owners() -> bool {
    any(NEED_OWNERS)
}

/// Whether latency histograms are needed.
#[inline(always)]
pub(crate) fn latency() -> bool {
    any(NEED_LATENCY)
}

/// Whether the filter needs ports or addresses.
#[inline(always)]
pub(crate) fn endpoints() -> bool {
    any(NEED_ENDPOINTS)
}

/// Whether any records are needed.
#[inline(always)]
pub(crate) fn records() -> bool {
    any(RECORDS)
}

/// Whether the time at which a state was entered is needed.
#[inline(always)]
pub(crate) fn times() -> bool {
    any(TIMES)
}

/// Whether the owner of each connection, or its time in each state, is needed.
#[inline(always)]
pub(crate) fn infos() -> bool {
    any(INFOS)
}

/// Whether the state of every socket is needed.
#[inline(always)]
pub(crate) fn states() -> bool {
    any(STATES)
}

/// Whether the number of transitions of each network namespace is needed.
#[inline(always)]
pub(crate) fn namespaces() -> bool {
    any(NEED_NAMESPACES)
}

/// Whether a program of the chain before `state` is needed.
#[inline(always)]
pub(crate) fn program_before_state() -> bool {
    any(BEFORE_STATE)
}
