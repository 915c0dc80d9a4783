//! The program that is attached to the hook: decides whether the event is ours, and starts its run.

use tcpwatch_common::ledger::LEVELS;

use crate::counter::inc;
use crate::filter;
use crate::hook::{FIRST, Hook, SECOND};
use crate::params::param;
use crate::sock::IPPROTO_TCP;
use crate::{ledger, recent, run};

/// Starts the run of the event that `ctx` reports.
#[inline(always)]
pub(crate) fn enter<H: Hook>(ctx: &H::Context) {
    let Some(hook) = H::entered(ctx) else { return };
    let step = hook.step();
    // Before the paths fork: see `close_info::has_socket`.
    let netns = hook.netns();
    if H::TYPED && param!(PARAMS.second_copy) != 0 {
        if H::COPY == FIRST {
            recent::leave(hook.address(), step);
        } else if recent::take(hook.address(), step) {
            return;
        } else if let Some(ledger) = ledger::at(ledger::index(SECOND * LEVELS)) {
            inc(&mut ledger.taken_over);
        }
    }
    if hook.protocol() != IPPROTO_TCP {
        return;
    }
    if filter::admits(netns, hook.family()) {
        run::start::<H>(ctx, step, netns);
    }
}
