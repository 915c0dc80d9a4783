//! How connections ended: what the socket tells is counted as it is, and never judged.

use tcpwatch_common::evidence::{
    ALL_ACKED, DEAD, DONE, ENDS, ERR_OLD, EndCount, Evidence, KNOWN, NO_PORT, NO_SOCKET, RESET_AFTER, RESET_RECEIVED,
    RESET_SENT,
};
use tcpwatch_common::{Ledger, TcpState};

use crate::cell::{add_atomically, bump};
use crate::hook::Hook;
use crate::lives::Life;
use crate::maps::LEDGER;
use crate::socket;
use crate::transition::Step;

const FIN_WAIT1: u32 = TcpState::FinWait1 as u32;
const FIN_WAIT2: u32 = TcpState::FinWait2 as u32;
const CLOSING: u32 = TcpState::Closing as u32;
const LAST_ACK: u32 = TcpState::LastAck as u32;
const LISTEN: u32 = TcpState::Listen as u32;
const CLOSE: u32 = TcpState::Close as u32;

/// `SOCK_DEAD` and `SOCK_DONE`, the first of `enum sock_flags` (include/net/sock.h).
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;

/// What the socket tells at its `*>CLOSE`, with what was remembered of it.
#[inline(always)]
pub(crate) fn evidence<H: Hook>(hook: &H, life: Option<&Life>, step: Step, no_port: bool) -> Evidence {
    let mut evidence = Evidence {
        from: step.from as u8,
        ..Evidence::default()
    };
    if no_port {
        evidence.flags |= NO_PORT;
    }
    if let Some(life) = life {
        evidence.flags |= life.resets;
        evidence.reason = life.reason;
    }
    if !hook.known() {
        return evidence;
    }
    let sk = hook.sk();
    evidence.flags |= KNOWN;
    evidence.err = socket::err(sk);
    if let Some(life) = life
        && evidence.err != 0
        && life.err == evidence.err
    {
        evidence.flags |= ERR_OLD;
    }
    let flags = socket::flags(sk);
    if flags & SOCK_DEAD != 0 {
        evidence.flags |= DEAD;
    }
    if flags & SOCK_DONE != 0 {
        evidence.flags |= DONE;
    }
    if !socket::has_socket(sk) {
        evidence.flags |= NO_SOCKET;
    }
    evidence.shutdown = socket::shutdown(sk);
    // Elsewhere it says nothing, and is not read.
    if matches!(step.from, LAST_ACK | CLOSING) && socket::all_acked(sk) {
        evidence.flags |= ALL_ACKED;
    }
    evidence
}

/// Whether the life must be remembered after its end, for a reset may still be sent for it: not where everything is over.
#[inline(always)]
pub(crate) fn may_go_on(evidence: Evidence) -> bool {
    let from = evidence.from as u32;
    !(evidence.flags & ALL_ACKED != 0 || from == FIN_WAIT2 && evidence.flags & DONE != 0 || !is_end(evidence))
}

/// Whether the end of `life` was told as a reset received, where one may have been announced and another is sent: data came that
/// nobody reads any more.
#[inline(always)]
pub(crate) fn awaits_reset(life: &Life) -> bool {
    life.told != 0
        && life.resets & RESET_RECEIVED != 0
        && matches!(Evidence::of_key(life.end).from as u32, FIN_WAIT1 | FIN_WAIT2)
}

/// Whether it is a connection's: a listener's end is none.
#[inline(always)]
pub(crate) fn is_end(evidence: Evidence) -> bool {
    !matches!(evidence.from as u32, LISTEN | CLOSE)
}

/// Counts an end of a connection.
#[inline(always)]
pub(crate) fn count(cpu: u32, evidence: Evidence) {
    if is_end(evidence) {
        count_end(cpu, evidence.key(), 1);
    }
}

/// Adds `by` to the count of `key` on this CPU.
///
/// A global function, which the verifier checks once and by itself: inside its callers it would follow each of the many ways out
/// of the loop through all that comes after, and a start would take a second.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn count_end(cpu: u32, key: u64, by: i64) -> u32 {
    let Some(ledger) = LEDGER.get_ptr_mut(cpu) else {
        return 0;
    };
    // SAFETY: this CPU's entry, to which is added atomically.
    let ledger: &mut Ledger = unsafe { &mut *ledger };
    let first = (key ^ key >> 16 ^ key >> 32) as usize;
    for step in 0..ENDS {
        let place: &mut EndCount = &mut ledger.ends[(first + step) & (ENDS - 1)];
        if place.key == 0 {
            place.key = key;
        }
        if place.key == key {
            // A program in a softirq may count between the reading and the writing of another's.
            add_atomically((&raw mut place.count).cast(), by as u64);
            return 1;
        }
    }
    bump(&mut ledger.uncounted_ends);
    0
}

/// A reset was seen for the socket with `life`: sent, for `reason`, or received. The end's evidence, where it was told before
/// and is another now.
#[inline(always)]
pub(crate) fn reset(cpu: u32, life: &mut Life, sent: bool, reason: u8) -> Option<Evidence> {
    let seen = if sent { RESET_SENT } else { RESET_RECEIVED };
    if life.told == 0 {
        life.resets |= seen;
        if sent {
            life.reason = reason;
        }
        return None;
    }
    if life.end == 0 || !sent {
        return None;
    }
    let mut evidence = Evidence::of_key(life.end);
    if evidence.flags & RESET_AFTER != 0 {
        return None;
    }
    evidence.flags |= RESET_SENT | RESET_AFTER;
    evidence.reason = reason;
    count_end(cpu, life.end, -1);
    count_end(cpu, evidence.key(), 1);
    life.end = evidence.key();
    Some(evidence)
}
