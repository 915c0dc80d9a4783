//! What the user's command needs ([`tcpwatch_common::Params::needs`]).

use tcpwatch_common::params::{
    BEFORE_STATE, NEED_CONNECTIONS, NEED_ENDPOINTS, NEED_LATENCY, NEED_OPENINGS, NEED_OWNERS, NEED_TRANSITIONS,
};

use crate::params::param;

/// Each needs records.
const RECORDS: u32 = NEED_TRANSITIONS | NEED_OPENINGS | NEED_CONNECTIONS;
/// Each needs the time at which a state was entered.
const TIMES: u32 = RECORDS | NEED_LATENCY;
/// Each needs the owner, or the time in each state, of every connection.
const INFOS: u32 = NEED_OWNERS | NEED_CONNECTIONS;
/// Each needs the state of every socket.
const STATES: u32 = TIMES | INFOS | NEED_ENDPOINTS;

/// Whether any of `needs` is needed.
#[inline(always)]
fn any(needs: u32) -> bool {
    param!(PARAMS.needs) & needs != 0
}

/// A record for every transition.
#[inline(always)]
pub(crate) fn transitions() -> bool {
    any(NEED_TRANSITIONS)
}

/// A record for every transition to `ESTABLISHED`.
#[inline(always)]
pub(crate) fn openings() -> bool {
    any(NEED_OPENINGS)
}

/// A record for every finished connection.
#[inline(always)]
pub(crate) fn connections() -> bool {
    any(NEED_CONNECTIONS)
}

/// The owner of each connection.
#[inline(always)]
pub(crate) fn owners() -> bool {
    any(NEED_OWNERS)
}

/// Latency histograms.
#[inline(always)]
pub(crate) fn latency() -> bool {
    any(NEED_LATENCY)
}

/// Ports or addresses, for the filter.
#[inline(always)]
pub(crate) fn endpoints() -> bool {
    any(NEED_ENDPOINTS)
}

/// Any records.
#[inline(always)]
pub(crate) fn records() -> bool {
    any(RECORDS)
}

/// The time each state was entered.
#[inline(always)]
pub(crate) fn times() -> bool {
    any(TIMES)
}

/// The owner, or the time in each state, of each connection.
#[inline(always)]
pub(crate) fn infos() -> bool {
    any(INFOS)
}

/// The state of every socket.
#[inline(always)]
pub(crate) fn states() -> bool {
    any(STATES)
}

/// A program of the chain that comes before `state`.
#[inline(always)]
pub(crate) fn program_before_state() -> bool {
    any(BEFORE_STATE)
}
