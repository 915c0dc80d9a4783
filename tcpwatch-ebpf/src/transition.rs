//! One body behind two hooks: counts a transition, moves the socket's mark, sends a record.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_log_ebpf::warn;
use tcpwatch_common::event::{DWELL_UNKNOWN, OPENED_ACTIVE, OPENED_PASSIVE};
use tcpwatch_common::ledger::Count;
use tcpwatch_common::{Ledger, Transition};

use crate::emit;
use crate::filter::{self, MATCH, UNDECIDED, Unknown};
use crate::hook::Hook;
use crate::lives::{self, Life};
use crate::maps::{COUNT, LEDGER};
use crate::params::param;
use crate::socket::Ends;

const IPPROTO_TCP: u16 = 6;
const SYN_SENT: u32 = 2;
const SYN_RECV: u32 = 3;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;

/// What a hook saw, once the socket is known to be ours.
#[inline(always)]
pub(crate) fn run<H: Hook>(hook: &H) {
    if hook.protocol() != IPPROTO_TCP {
        return;
    }
    let netns = hook.netns();
    if !filter::admits(netns, hook.family()) {
        return;
    }
    let (from, to) = hook.states();
    // SAFETY: the helper takes nothing and gives a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(ledger) = LEDGER.get_ptr_mut(cpu) else { return };
    // SAFETY: this CPU's entry; the kernel does not run the program twice at once on one CPU.
    let ledger: &mut Ledger = unsafe { &mut *ledger };

    let birth = from == CLOSE || from == LISTEN && to == SYN_RECV;
    let stream = param!(PARAMS.stream) != 0;
    // SAFETY: the helper takes nothing and gives a number.
    let now = if stream { unsafe { bpf_ktime_get_ns() } } else { 0 };
    let Some(&count) = COUNT.get(0) else { return };
    let count = Count(count);
    // Where every socket is in the count, transitions alone keep it right, and nothing need be remembered.
    let by_marks = H::MARKS && (count.is_marking() || filter::looks_at_ends());

    // A socket there is no room to remember has no id: nothing says that its next transition is the same socket's. One
    // first seen when it closes needs no memory.
    let mut fleeting = MaybeUninit::uninit();
    let mut remembered = false;
    let mut life = Life::clear(&mut fleeting);
    if stream || by_marks || filter::looks_at_ends() {
        if let Some(found) = hook.life(to != CLOSE) {
            remembered = true;
            // SAFETY: the life is this socket's, whose lock the kernel holds during a transition.
            life = unsafe { &mut *found };
        } else if to != CLOSE {
            ledger.unmarked += 1;
            warn!(
                hook.context(),
                "no room to remember a socket, going from state {} to {}", from, to
            );
        }
        if birth {
            life.begin();
        }
        if stream && life.id == 0 && (remembered || to == CLOSE) {
            life.id = lives::number(ledger, cpu);
        }
    }

    let bound = hook.bound_port();
    if from == CLOSE && to == SYN_SENT {
        life.opened = OPENED_ACTIVE;
        if bound == 0 {
            life.stale_sport = hook.source_port();
        }
    } else if from == LISTEN && to == SYN_RECV {
        life.opened = OPENED_PASSIVE;
    }
    let mut ends = Ends::UNREAD;
    let mut unknown = Unknown::NOTHING;
    if stream || filter::looks_at_ends() {
        let (lport, unknown_lport) = local_port(hook, life, bound, from, to);
        ends = hook.ends(lport);
        // Before Linux 6.15 a child is announced before its peer is filled in.
        unknown = Unknown {
            lport: unknown_lport,
            peer: from == LISTEN && to == SYN_RECV && ends.rport == 0,
        };
    }
    if filter::looks_at_ends() {
        if life.verdict == UNDECIDED {
            life.verdict = filter::judge(&ends, unknown);
        }
        if life.verdict == UNDECIDED && to != CLOSE {
            hold(life, ledger, from, to, now);
            return;
        }
        if life.verdict != MATCH {
            if to == CLOSE {
                hook.forget();
            }
            return;
        }
    }

    let held = life.held_move as u32;
    life.held_move = 0;
    ledger.transitions += 1;
    move_count(
        life,
        count,
        by_marks && remembered,
        ledger,
        from,
        to,
        birth || held != 0,
    );
    let dwell_ns = dwell(life, now, from, to, birth);
    let (ifindex, cookie) = if stream { hook.extras() } else { (0, 0) };
    let record = Transition {
        time_ns: now,
        id: life.id,
        // A child whose peer is not filled in yet still carries its listener's cookie.
        cookie: if unknown.peer { 0 } else { cookie },
        dwell_ns,
        local: ends.local,
        remote: ends.remote,
        netns,
        ifindex,
        lport: ends.lport,
        rport: ends.rport,
        family: ends.family,
        from: from as u8,
        to: to as u8,
        opened: life.opened,
    };
    if held != 0 {
        let opening = Transition {
            time_ns: life.held_ns,
            dwell_ns: DWELL_UNKNOWN,
            from: (held >> 4) as u8,
            to: (held & 15) as u8,
            ..record
        };
        report(&opening, ledger);
    }
    report(&record, ledger);
    if to == CLOSE {
        hook.forget();
    }
}

/// Counts `record`, and sends it where there is a stream.
#[inline(always)]
fn report(record: &Transition, ledger: &mut Ledger) {
    let (from, to) = (record.from as u32, record.to as u32);
    if filter::wants(from, to) {
        ledger.moves[from as usize & 15][to as usize & 15] += 1;
        if param!(PARAMS.stream) != 0 {
            emit::send(record, ledger);
        }
    }
}

/// The connection's local port, host order, and whether it is unknown (not chosen, or only an older one's is there).
#[inline(always)]
fn local_port<H: Hook>(hook: &H, life: &Life, bound: u16, from: u32, to: u32) -> (u16, bool) {
    if bound != 0 {
        return (bound, false);
    }
    if from == CLOSE && to == SYN_SENT {
        return (0, true);
    }
    // The binding goes before the last transition; the port it had stays in `inet_sport`.
    let source = hook.source_port();
    let failed_connect = from == SYN_SENT && to == CLOSE;
    if source == 0 || failed_connect && source == life.stale_sport {
        return (0, true);
    }
    (u16::from_be(source), false)
}

/// Keeps an opening with its socket until the filter can be decided.
#[inline(always)]
fn hold(life: &mut Life, ledger: &mut Ledger, from: u32, to: u32, now: u64) {
    life.held_ns = now;
    life.entered_ns = now;
    life.held_move = (from << 4 | to) as u8;
    ledger.held += 1;
}

/// Time spent in `from`, and the start of the time in `to`.
#[inline(always)]
fn dwell(life: &mut Life, now: u64, from: u32, to: u32, birth: bool) -> u64 {
    let entered = life.entered_ns;
    // A self-transition enters nothing.
    if from != to || entered == 0 && birth {
        life.entered_ns = now;
    }
    if birth || entered == 0 {
        DWELL_UNKNOWN
    } else {
        now - entered
    }
}

/// Takes the socket out of the state it is counted in, and counts it in `to`.
#[inline(always)]
fn move_count(life: &mut Life, count: Count, by_mark: bool, ledger: &mut Ledger, from: u32, to: u32, uncounted: bool) {
    let sockets = &mut ledger.sockets[count.bank()];
    let to = to as usize & 15;
    if !by_mark {
        if !uncounted {
            sockets[from as usize & 15] -= 1;
        }
    } else if life.counted != 0 && life.epoch == count.epoch() {
        sockets[life.counted as usize & 15] -= 1;
    }
    life.epoch = count.epoch();
    if to == CLOSE as usize {
        life.counted = 0;
    } else {
        life.counted = to as u8;
        sockets[to] += 1;
    }
}
