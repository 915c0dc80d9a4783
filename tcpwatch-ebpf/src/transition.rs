//! One body behind two hooks: counts a transition, moves the count of sockets, sends a record.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_log_ebpf::warn;
use tcpwatch_common::event::{DWELL_UNKNOWN, OPENED_ACTIVE, OPENED_PASSIVE};
use tcpwatch_common::ledger::Count;
use tcpwatch_common::{Ledger, TcpState, Transition};

use crate::cell::{bump, shift};
use crate::emit;
use crate::filter::{self, MATCH, NO_MATCH, UNDECIDED, Unknown};
use crate::hook::Hook;
use crate::lives::{self, Life};
use crate::maps::{COUNT, LEDGER};
use crate::params::param;
use crate::socket::Ends;

const IPPROTO_TCP: u16 = 6;
const SYN_SENT: u32 = TcpState::SynSent as u32;
const SYN_RECV: u32 = TcpState::SynRecv as u32;
const CLOSE: u32 = TcpState::Close as u32;
const LISTEN: u32 = TcpState::Listen as u32;

/// State left and state entered.
#[derive(Clone, Copy)]
struct Step {
    from: u32,
    to: u32,
}

impl Step {
    /// connect().
    #[inline(always)]
    fn is_opening(self) -> bool {
        self.from == CLOSE && self.to == SYN_SENT
    }

    /// A listener's child: the listener itself stays where it is.
    #[inline(always)]
    fn is_child(self) -> bool {
        self.from == LISTEN && self.to == SYN_RECV
    }

    /// Another life begins. `CLOSE>CLOSE` (a listener that was killed) enters nothing.
    #[inline(always)]
    fn is_birth(self) -> bool {
        self.from == CLOSE && self.to != CLOSE || self.is_child()
    }

    /// Nothing comes after it in this life.
    #[inline(always)]
    fn is_last(self) -> bool {
        self.to == CLOSE
    }
}

/// What a hook saw: the whole of a transition, for both hooks.
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
    let step = Step { from, to };
    // SAFETY: the helper takes nothing and gives a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(ledger) = LEDGER.get_ptr_mut(cpu) else { return };
    // SAFETY: this CPU's entry. Where the kernel lets a run of this program interrupt another, `bump` counts atomically.
    let ledger: &mut Ledger = unsafe { &mut *ledger };
    let Some(&count) = COUNT.get(0) else { return };
    let count = Count(count);

    let stream = param!(PARAMS.stream) != 0;
    // SAFETY: the helper takes nothing and gives a number.
    let now = if stream { unsafe { bpf_ktime_get_ns() } } else { 0 };
    // Where every socket is in the count, transitions alone keep it right, and nothing need be remembered.
    let by_marks = H::MARKS && (count.is_marking() || filter::looks_at_ends());
    let remember = stream || by_marks || filter::looks_at_ends();
    // A socket first seen when it closes needs no memory, nor one that the filter does not want.
    let mut life = if remember {
        hook.life(!filter::looks_at_ends() && !step.is_last())
    } else {
        None
    };
    if let Some(life) = &mut life
        && step.is_birth()
    {
        life.begin();
    }

    let mut ends = Ends::UNREAD;
    let mut unknown = Unknown::NOTHING;
    if stream || filter::looks_at_ends() {
        let stale_sport = life.as_ref().map_or(0, |life| life.stale_sport);
        let (lport, unknown_lport) = local_port(hook, step, stale_sport);
        ends = hook.ends(lport);
        // Before Linux 6.15 a child is announced before its peer is filled in.
        unknown = Unknown {
            lport: unknown_lport,
            peer: step.is_child() && ends.rport == 0,
        };
    }
    let mut verdict = MATCH;
    if filter::looks_at_ends() {
        verdict = life.as_ref().map_or(UNDECIDED, |life| life.verdict);
        if verdict == UNDECIDED {
            verdict = filter::judge(&ends, unknown);
        }
        // A close is the last that will be known.
        if verdict == NO_MATCH || verdict == UNDECIDED && step.is_last() {
            if let Some(life) = &mut life {
                life.verdict = NO_MATCH;
                release(life, ledger);
            }
            if step.is_last() {
                hook.forget();
            }
            return;
        }
        if life.is_none() && !step.is_last() {
            life = hook.life(true);
        }
    }
    if remember && life.is_none() && !step.is_last() {
        bump(&mut ledger.unremembered);
        warn!(
            hook.context(),
            "no room to remember a socket, going from state {} to {}", from, to
        );
    }

    // There may be no room, and then no id: nothing says that the socket's next transition is the same one's.
    let mut scratch = MaybeUninit::uninit();
    let remembered = life.is_some();
    let life = match life {
        Some(life) => life,
        None => Life::clear(&mut scratch),
    };
    life.verdict = verdict;
    if stream && life.id == 0 && (remembered || step.is_last()) {
        life.id = lives::number(ledger, cpu, now);
    }
    if step.is_opening() {
        life.opened = OPENED_ACTIVE;
        life.stale_sport = hook.stale_port();
    } else if step.is_child() {
        life.opened = OPENED_PASSIVE;
    }
    // What cannot be decided waits for what will be known; so does, for people to read it, a child without its peer.
    if verdict == UNDECIDED || stream && unknown.peer && remembered {
        hold(life, ledger, step, now);
        return;
    }

    let held = release(life, ledger);
    bump(&mut ledger.transitions);
    if !by_marks {
        move_by_states(ledger, count, step, held != 0);
    } else if remembered {
        move_by_mark(life, ledger, count, step);
    }
    let dwell_ns = dwell(life, now, step);
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
    if step.is_last() {
        hook.forget();
    }
}

/// Counts `record`, and sends it where there is a stream.
#[inline(always)]
fn report(record: &Transition, ledger: &mut Ledger) {
    let (from, to) = (record.from as u32, record.to as u32);
    if filter::wants(from, to) {
        bump(&mut ledger.moves[from as usize & 15][to as usize & 15]);
        if param!(PARAMS.stream) != 0 {
            emit::send(record, ledger);
        }
    }
}

/// The connection's local port, host order, and whether it is unknown: not chosen yet, or only an older one is there.
#[inline(always)]
fn local_port<H: Hook>(hook: &H, step: Step, stale_sport: u16) -> (u16, bool) {
    let bound = hook.bound_port();
    if bound != 0 {
        return (bound, false);
    }
    if step.from == CLOSE {
        return (0, true);
    }
    // The binding goes before the last transition; the port it had stays in `inet_sport`.
    let source = hook.source_port();
    let failed_connect = step.from == SYN_SENT && step.is_last();
    if source == 0 || failed_connect && source == stale_sport {
        return (0, true);
    }
    (u16::from_be(source), false)
}

/// Keeps an opening with its socket.
#[inline(always)]
fn hold(life: &mut Life, ledger: &mut Ledger, step: Step, now: u64) {
    life.held_ns = now;
    life.entered_ns = now;
    life.held_move = (step.from << 4 | step.to) as u8;
    bump(&mut ledger.held);
}

/// Takes the opening that was held, which is decided now: its states as held, 0 for none.
#[inline(always)]
fn release(life: &mut Life, ledger: &mut Ledger) -> u32 {
    let held = life.held_move as u32;
    if held != 0 {
        life.held_move = 0;
        bump(&mut ledger.released);
    }
    held
}

/// Time spent in the state left, and the start of the time in the one entered.
#[inline(always)]
fn dwell(life: &mut Life, now: u64, step: Step) -> u64 {
    let entered = life.entered_ns;
    // A self-transition enters nothing.
    if step.from != step.to {
        life.entered_ns = now;
    }
    if step.is_birth() || entered == 0 {
        DWELL_UNKNOWN
    } else {
        now - entered
    }
}

/// Moves the count by what the transition says; an opening that was held has not been counted.
#[inline(always)]
fn move_by_states(ledger: &mut Ledger, count: Count, step: Step, held: bool) {
    let sockets = &mut ledger.sockets[count.bank()];
    if !held && !step.is_child() && step.from != CLOSE {
        shift(&mut sockets[step.from as usize & 15], -1);
    }
    if !step.is_last() {
        shift(&mut sockets[step.to as usize & 15], 1);
    }
}

/// Moves the count by the socket's mark, and the mark with it. A socket without one is in no count yet, whatever state it
/// leaves: the walk that is under way has not come to it.
#[inline(always)]
fn move_by_mark(life: &mut Life, ledger: &mut Ledger, count: Count, step: Step) {
    let sockets = &mut ledger.sockets[count.bank()];
    if life.counted != 0 && life.epoch == count.epoch() {
        shift(&mut sockets[life.counted as usize & 15], -1);
    }
    life.epoch = count.epoch();
    life.counted = 0;
    if !step.is_last() {
        life.counted = step.to as u8;
        shift(&mut sockets[step.to as usize & 15], 1);
    }
}
