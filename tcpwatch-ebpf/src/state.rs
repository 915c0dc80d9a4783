//! The program `state`: counts the transition, updates the count of sockets, and updates the state of the socket.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_log_ebpf::warn;
use tcpwatch_common::ledger::{BANKS, Count};
use tcpwatch_common::record::{DWELL_UNKNOWN, OPENED_ACTIVE, OPENED_PASSIVE, PORT_BOUND, PORT_CHOSEN};

use crate::counter::{add, inc};
use crate::filter::{self, UNDECIDED};
use crate::hook::Hook;
use crate::ledger::{OwnBank, place};
use crate::maps::COUNT;
use crate::params::param;
use crate::run::{OPENING_DELAYED, PEER_UNKNOWN, Run};
use crate::sock_state::{Kept, SockState, Storage};
use crate::step::{CLOSE, Step};
use crate::{close_info, needs, record, sock};

/// Counts the transition of `run`.
#[inline(always)]
pub(crate) fn count<H: Hook>(hook: &H, run: &mut Run, storage: &mut Storage) -> Option<()> {
    let step = run.step();
    let has_socket = close_info::has_socket(hook, step);
    let keeps_nothing = !needs::states() && hook.keeps_nothing();
    let ledger = run.ledger()?;
    let count = Count(*COUNT.get(0)?);
    // SAFETY: the helper takes nothing and returns a number.
    run.now = if needs::times() {
        unsafe { bpf_ktime_get_ns() }
    } else {
        0
    };

    // Once every socket is in the count, transitions alone keep it, and no marks are needed.
    let by_marks = param!(PARAMS.marks) != 0 && (count.is_marking() || needs::endpoints());
    let keep_all = needs::states() || by_marks;
    let err = if hook.known() && !step.is_last() {
        sock::err(hook.sk())
    } else {
        0
    };
    // Keep these two in any case, because they are needed to know how the connection ended. Both are rare.
    let leftover = err != 0 || step.is_connect() && hook.stale_port() != 0;
    let keep = keep_all || leftover;
    // A socket that is first seen at its close needs no state.
    let create = keep && !step.is_last();
    let mut kept = if create || !keeps_nothing && (keep || step.is_end() || step.is_birth()) {
        hook.kept(storage, create)
    } else {
        Kept::nothing()
    };
    if step.is_birth()
        && let Some(state) = &mut kept.state
    {
        state.begin();
    }

    let (mut lport, mut lport_unknown) = (0, false);
    if keep_all || step.is_failed_connect() {
        let stale_sport = kept.state.as_ref().map_or(0, |state| state.stale_sport);
        (lport, lport_unknown) = local_port(hook, step, stale_sport);
        // Before Linux 6.15 the first transition of a child fires before its peer address is set.
        if keep_all && step.is_child() && hook.remote_port() == 0 {
            run.flags |= PEER_UNKNOWN;
        }
    }
    run.lport = lport as u32;

    let no_port = step.is_failed_connect() && lport_unknown;
    run.close_info = close_info::read(hook, kept.state.as_deref(), step, no_port, has_socket);
    // A later reset must find its connection.
    if step.is_end() && kept.state.is_none() && close_info::may_go_on(run.close_info) {
        kept = hook.kept(storage, true);
        if kept.state.is_none() {
            inc(ledger.missed_resets());
        }
    }
    if keep_all && kept.state.is_none() && !step.is_last() {
        inc(ledger.unremembered());
        warn!(
            hook.context(),
            "no room to keep the state of a socket that goes from state {} to {}", step.from, step.to
        );
    }

    run.port = if step.is_connect() && hook.known() {
        if hook.bound_port() == 0 {
            PORT_CHOSEN
        } else {
            PORT_BOUND
        }
    } else {
        0
    };
    run.opened = if step.is_connect() {
        OPENED_ACTIVE
    } else if step.is_child() {
        OPENED_PASSIVE
    } else {
        0
    };
    run.id = 0;
    run.dwell_ns = DWELL_UNKNOWN;
    let Some(state) = kept.state else {
        // Without a state there is no connection number: nothing links this transition with the next one of the same
        // connection.
        if needs::records() && step.is_last() {
            run.id = next_id(run, ledger);
        }
        inc(ledger.transitions());
        if !by_marks {
            move_by_states(ledger, count, step, false);
        }
        count_move(ledger, step);
        return Some(());
    };

    state.verdict = run.verdict;
    state.err = err;
    if needs::records() && state.id == 0 {
        state.id = next_id(run, ledger);
    }
    run.id = state.id;
    if run.opened != 0 {
        state.opened = run.opened;
        state.port = run.port;
    }
    if step.is_connect() {
        state.stale_sport = hook.stale_port();
    }
    (run.opened, run.port) = (state.opened, state.port);
    if step.is_last() {
        state.ended = 1;
        state.end = if close_info::counts(step) {
            run.close_info.key()
        } else {
            0
        };
    }

    // Hold back an opening that the filter cannot decide yet, and a child without its peer address if records are needed.
    let peer_unknown = run.flags & PEER_UNKNOWN != 0;
    if run.verdict == UNDECIDED || needs::records() && peer_unknown {
        state.hold(ledger, (step.from << 4 | step.to) as u8, run.now);
        run.flags |= OPENING_DELAYED;
        return Some(());
    }
    run.held_ns = state.held_ns;
    run.held = state.release(ledger);
    inc(ledger.transitions());
    if by_marks {
        move_by_mark(state, ledger, count, step);
    } else {
        move_by_states(ledger, count, step, run.held != 0);
    }
    run.dwell_ns = dwell(state, run.now, step);
    if run.held != 0 {
        count_move(ledger, record::opening(run.held));
    }
    count_move(ledger, step);
    Some(())
}

/// Adds the transition to the matrix, if the filter selects its states.
#[inline(always)]
fn count_move(ledger: OwnBank, step: Step) {
    if filter::wants(step.from, step.to) {
        inc(ledger.moves(step.from, step.to));
    }
}

/// A new connection number. It is unique because each ledger counts in steps of the number of ledgers.
#[inline(always)]
fn next_id(run: &Run, ledger: OwnBank) -> u64 {
    inc(ledger.lives());
    ledger.lives().get() * (param!(PARAMS.cpus) * BANKS) as u64 + run.ledger as u64
}

/// The local port of the connection, host order, and whether it is unknown: not chosen yet, or left over from an older
/// connection.
#[inline(always)]
pub(crate) fn local_port<H: Hook>(hook: &H, step: Step, stale_sport: u16) -> (u16, bool) {
    let bound = hook.bound_port();
    if bound != 0 {
        return (bound, false);
    }
    if step.from == CLOSE {
        return (0, true);
    }
    // The kernel unbinds the socket before the last transition, but the port stays in `inet_sport`.
    let source = hook.source_port();
    if source == 0 || step.is_failed_connect() && source == stale_sport {
        return (0, true);
    }
    (u16::from_be(source), false)
}

/// The time spent in the state left, ns. Starts the time of the state entered.
#[inline(always)]
fn dwell(state: &mut SockState, now: u64, step: Step) -> u64 {
    let entered = state.entered_ns;
    if step.moves() {
        state.entered_ns = now;
    }
    if step.is_birth() || entered == 0 {
        DWELL_UNKNOWN
    } else {
        // The clocks of two CPUs may differ slightly.
        now.saturating_sub(entered)
    }
}

/// Updates the count of sockets by the states. A held-back opening (`held`) is in no count yet.
#[inline(always)]
fn move_by_states(ledger: OwnBank, count: Count, step: Step, held: bool) {
    let Some(sockets) = ledger.sockets(count.bank()) else {
        return;
    };
    if !held && !step.is_child() && step.from != CLOSE {
        add(&sockets[place(step.from)], -1);
    }
    if !step.is_last() {
        inc(&sockets[place(step.to)]);
    }
}

/// Updates the count of sockets by the mark of the socket, and moves the mark. A socket without a mark is in no count yet: the
/// current walk has not reached it.
#[inline(always)]
fn move_by_mark(state: &mut SockState, ledger: OwnBank, count: Count, step: Step) {
    let Some(sockets) = ledger.sockets(count.bank()) else {
        return;
    };
    if state.counted != 0 && state.epoch == count.epoch() {
        add(&sockets[place(state.counted as u32)], -1);
    }
    state.epoch = count.epoch();
    state.counted = 0;
    if !step.is_last() {
        state.counted = step.to as u8;
        inc(&sockets[place(step.to)]);
    }
}
