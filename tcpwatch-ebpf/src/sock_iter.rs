//! `iter/tcp`: walks all TCP sockets of a namespace, each under its lock, to mark them for the live counts or to count them.

use tcpwatch_common::TcpState;
use tcpwatch_common::ledger::{Count, PLAIN_PASS, Pass, STATES};

use crate::filter::{self, MATCH, NO_MATCH, UNDECIDED, Unknown};
use crate::maps::{COUNT, PASSES};
use crate::needs;
use crate::sock::{self, Memory, Typed};
use crate::sock_state::{self, Storage};

const CLOSE: u8 = TcpState::Close as u8;
const TIME_WAIT: u8 = TcpState::TimeWait as u8;
const SYN_RECV: u8 = TcpState::SynRecv as u8;
/// `TCP_NEW_SYN_RECV`, the state of request sockets, shown as `SYN_RECV`.
const NEW_SYN_RECV: u8 = 12;

/// `struct bpf_iter__tcp`.
#[repr(C)]
pub(crate) struct TcpIter {
    /// The state of the walk.
    meta: *const u8,
    /// `struct sock_common` of the socket; null at the end.
    sk_common: *const u8,
}

impl TcpIter {
    /// The socket of this call; `None` at the end of the walk.
    #[inline(always)]
    pub(crate) fn socket(ctx: *const Self) -> Option<Typed> {
        // SAFETY: the kernel passes a `struct bpf_iter__tcp`, and the verifier checks the load.
        let sk = unsafe { core::ptr::read_volatile(&raw const (*ctx).sk_common) };
        if sk.is_null() { None } else { Some(Typed(sk)) }
    }
}

/// The verdict on a socket in a table. All its endpoints are known.
#[inline(always)]
fn verdict(sk: Typed) -> u8 {
    if !filter::admits(sock::netns(sk), sock::family(sk)) {
        return NO_MATCH;
    }
    if !needs::endpoints() {
        return MATCH;
    }
    filter::judge(&sock::endpoints(sk, sock::bound_port(sk)), Unknown::NOTHING)
}

/// Counts a full socket in its state and marks it with this state, unless a transition already did. A socket that takes no mark
/// is counted separately.
#[inline(always)]
pub(crate) fn mark(ctx: *const TcpIter) {
    let Some(sk) = TcpIter::socket(ctx) else { return };
    let state = sock::state(sk);
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
    let cell = (state & 15) as usize;
    let mut verdict = verdict(sk);
    // SAFETY: the program makes no other.
    let mut storage = unsafe { Storage::new() };
    let Some(kept) = sock_state::of_typed(&mut storage, sk.address(), verdict == MATCH).state else {
        if verdict == MATCH {
            pass.refused[cell] += 1;
        }
        return;
    };
    // An earlier verdict stays, because a transition may have known more.
    if kept.verdict == UNDECIDED {
        kept.verdict = verdict;
    }
    verdict = kept.verdict;
    if verdict == MATCH && (kept.counted == 0 || kept.epoch != count.epoch()) {
        kept.counted = state;
        kept.epoch = count.epoch();
        pass.full[cell] += 1;
    }
}

/// Counts a socket of any kind by its state.
#[inline(always)]
pub(crate) fn count(ctx: *const TcpIter) {
    let Some(sk) = TcpIter::socket(ctx) else { return };
    let Some(pass) = PASSES.get_ptr_mut(PLAIN_PASS) else {
        return;
    };
    // SAFETY: one walk at a time writes this entry.
    let pass: &mut Pass = unsafe { &mut *pass };
    let state = sock::state(sk);
    let (counts, state) = match state {
        NEW_SYN_RECV => (&mut pass.request, SYN_RECV),
        TIME_WAIT => (&mut pass.timewait, sock::timewait_substate(sk)),
        _ => (&mut pass.full, state),
    };
    if filter::wants_state(state) && verdict(sk) == MATCH {
        counts[(state & 15) as usize] += 1;
    }
}
