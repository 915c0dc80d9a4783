//! `iter/tcp`: walks every TCP socket of a namespace under its lock, to mark it for the live counts or to count it.

use tcpwatch_common::ledger::{Count, Pass, STATES};

use crate::filter::{self, MATCH, NO_MATCH, UNDECIDED, Unknown};
use crate::lives;
use crate::maps::{COUNT, PASSES};
use crate::socket::{self, Memory, Typed};

/// `TCP_CLOSE`.
const CLOSE: u8 = 7;
/// `TCP_TIME_WAIT`.
const TIME_WAIT: u8 = 6;
/// `TCP_NEW_SYN_RECV`, the state of request sockets.
const NEW_SYN_RECV: u8 = 12;
/// `TCP_SYN_RECV`, as which they are shown.
const SYN_RECV: u8 = 3;

/// Entry of [`PASSES`] for plain counts; the others are banks.
const PLAIN: u32 = 2;

/// `struct bpf_iter__tcp`.
#[repr(C)]
pub(crate) struct TcpIter {
    /// The walk itself.
    meta: *const u8,
    /// `struct sock_common` of the socket; null at the end.
    sk_common: *const u8,
}

/// The socket this call is for; `None` at the end of the walk.
#[inline(always)]
fn socket_of(ctx: *const TcpIter) -> Option<Typed> {
    // SAFETY: the kernel calls with a `struct bpf_iter__tcp`, and the verifier checks the load.
    let sk = unsafe { core::ptr::read_volatile(&raw const (*ctx).sk_common) };
    if sk.is_null() { None } else { Some(Typed(sk)) }
}

/// The verdict on a socket in a table: of those everything is known.
#[inline(always)]
fn verdict(sk: Typed) -> u8 {
    if !filter::admits(socket::netns(sk), socket::family(sk)) {
        return NO_MATCH;
    }
    if !filter::looks_at_ends() {
        return MATCH;
    }
    filter::judge(&socket::ends(sk, socket::bound_port(sk)), Unknown::NOTHING)
}

/// Counts a full socket in its state and leaves that mark with it, unless a transition has done so already. One that
/// takes no mark is counted all the same, and said to be.
#[inline(always)]
pub(crate) fn mark(ctx: *const TcpIter) {
    let Some(sk) = socket_of(ctx) else { return };
    let state = socket::state(sk);
    if matches!(state, CLOSE | TIME_WAIT | NEW_SYN_RECV) || state as usize >= STATES {
        return;
    }
    let Some(&count) = COUNT.get(0) else { return };
    let count = Count(count);
    let Some(pass) = PASSES.get_ptr_mut(count.bank() as u32) else {
        return;
    };
    // SAFETY: one walk at a time writes this entry.
    let pass: &mut Pass = unsafe { &mut *pass };
    let verdict = verdict(sk);
    let Some(life) = lives::of_socket(sk.address(), verdict == MATCH) else {
        if verdict == MATCH {
            pass.full[(state & 15) as usize] += 1;
            pass.unmarked += 1;
        }
        return;
    };
    // SAFETY: the life is this socket's, whose lock the walk holds.
    let life = unsafe { &mut *life };
    if life.verdict == UNDECIDED {
        life.verdict = verdict;
    }
    if verdict == MATCH && (life.counted == 0 || life.epoch != count.epoch()) {
        life.counted = state;
        life.epoch = count.epoch();
        pass.full[(state & 15) as usize] += 1;
    }
}

/// Counts a socket of any kind by its state.
#[inline(always)]
pub(crate) fn count(ctx: *const TcpIter) {
    let Some(sk) = socket_of(ctx) else { return };
    let Some(pass) = PASSES.get_ptr_mut(PLAIN) else { return };
    // SAFETY: one walk at a time writes this entry.
    let pass: &mut Pass = unsafe { &mut *pass };
    let state = socket::state(sk);
    let (counts, state) = match state {
        NEW_SYN_RECV => (&mut pass.request, SYN_RECV),
        TIME_WAIT => (&mut pass.timewait, socket::timewait_substate(sk)),
        _ => (&mut pass.full, state),
    };
    if filter::wants_state(state) && verdict(sk) == MATCH {
        counts[(state & 15) as usize] += 1;
    }
}
