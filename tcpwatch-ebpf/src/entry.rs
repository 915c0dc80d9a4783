//! The entry program, which is attached to the hook: checks whether to handle the event, and starts its run. If no program runs
//! before `state`, it also does the work of `state`.

use tcpwatch_common::ledger::LEVELS;

use crate::counter::inc;
use crate::filter;
use crate::hook::{Hook, SECOND};
use crate::sock::IPPROTO_TCP;
use crate::{first_copy, ledger, namespaces, needs, run};

/// Starts the run of the event that `ctx` reports.
#[inline(always)]
pub(crate) fn enter<H: Hook>(ctx: &H::Context) {
    let Some(hook) = H::entered(ctx) else { return };
    let step = hook.step();
    // Before the paths branch: see `close_info::has_socket`.
    let netns = hook.netns();
    if !first_copy::is_ours(&hook) {
        return;
    }
    if H::COPY == SECOND {
        // SAFETY: no other run of the second copy uses this bank now: the kernel skips such runs, or this is the bank of the first level.
        if let Some(ledger) = unsafe { ledger::at(ledger::index(SECOND * LEVELS)) } {
            inc(ledger.taken_over());
        }
    }
    if hook.protocol() != IPPROTO_TCP {
        return;
    }
    if filter::admits(netns, hook.family()) {
        if needs::namespaces() {
            namespaces::count(netns);
        }
        run::start::<H>(&hook, ctx, step, netns);
    }
}
