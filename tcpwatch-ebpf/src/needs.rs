//! What the user's command needs ([`tcpwatch_common::Params::needs`]).

use tcpwatch_common::histogram::BY_NONE;
use tcpwatch_common::params::{NEED_CONNECTIONS, NEED_OPENINGS, NEED_OWNERS, NEED_TRANSITIONS};

use crate::params::param;

/// A record for every transition.
#[inline(always)]
pub(crate) fn transitions() -> bool {
    param!(PARAMS.needs) & NEED_TRANSITIONS != 0
}

/// A record for every transition to `ESTABLISHED`.
#[inline(always)]
pub(crate) fn openings() -> bool {
    param!(PARAMS.needs) & NEED_OPENINGS != 0
}

/// A record for every finished connection.
#[inline(always)]
pub(crate) fn connections() -> bool {
    param!(PARAMS.needs) & NEED_CONNECTIONS != 0
}

/// The owner of each connection.
#[inline(always)]
pub(crate) fn owners() -> bool {
    param!(PARAMS.needs) & NEED_OWNERS != 0
}

/// Latency histograms.
#[inline(always)]
pub(crate) fn latency() -> bool {
    param!(PARAMS.latency_by) != BY_NONE
}

/// Any records.
#[inline(always)]
pub(crate) fn records() -> bool {
    transitions() || openings() || connections()
}

/// The time each state was entered.
#[inline(always)]
pub(crate) fn times() -> bool {
    records() || latency()
}

/// The owner, or the time in each state, of each connection.
#[inline(always)]
pub(crate) fn infos() -> bool {
    owners() || connections()
}
