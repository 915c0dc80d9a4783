//! `tcp:tcp_send_reset`, `tcp:tcp_receive_reset` and `tcp:tcp_destroy_sock`.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use tcpwatch_common::params::ABSENT;
use tcpwatch_common::record::Amendment;

use crate::ledger::{SharedBank, inc_shared};
use crate::maps::LAST_DESTROYED;
use crate::params::param;
use crate::sock::{self, Bare, IPPROTO_TCP, Memory, Typed, word};
use crate::sock_state::{self, Kept, Storage};
use crate::step::{CLOSE, LISTEN, SYN_RECV, SYN_SENT, TIME_WAIT};
use crate::{close_info, filter, latency, needs, owner, record};

/// States below this number have full sockets. Requests (12) and later states do not.
const FULL_STATES: u32 = 12;

/// Handles a reset on `sk`, sent for `reason` or received. `kept` finds the state of the socket.
#[inline(always)]
fn reset<'a, M: Memory>(sk: M, kept: impl FnOnce(bool) -> Kept<'a>, sent: bool, reason: u8) {
    let state = sock::state(sk) as u32;
    // A timewait socket has no state, and resets of a listener belong to its children.
    if !(1..FULL_STATES).contains(&state)
        || matches!(state, LISTEN | TIME_WAIT)
        || sock::protocol(sk) != IPPROTO_TCP
        || !filter::admits(sock::netns(sk), sock::family(sk))
    {
        return;
    }
    // Before the connection is established, a reset answers segments of an older one (RFC 9293, section 3.5.1).
    if sent && matches!(state, SYN_SENT | SYN_RECV) {
        return;
    }
    let Some(kept) = kept(state != CLOSE).state else {
        if state != CLOSE {
            inc_shared(SharedBank::missed_resets);
        }
        return;
    };
    if let Some(evidence) = close_info::add_reset(kept, sent, reason)
        && needs::records()
    {
        record::amend(&Amendment {
            // SAFETY: the helper takes nothing and returns a number.
            time_ns: unsafe { bpf_ktime_get_ns() },
            id: kept.id,
            evidence,
        });
    }
}

/// `tcp:tcp_send_reset`, typed.
#[inline(always)]
pub(crate) fn sent_typed(ctx: &BtfTracePointContext) {
    let sk: *const u8 = ctx.arg(0);
    if sk.is_null() {
        return;
    }
    let reason = if param!(RESET.typed_reason) != 0 {
        ctx.arg::<u32>(2) as u8
    } else {
        0
    };
    // SAFETY: the program makes no other.
    let storage = &mut unsafe { Storage::new() };
    reset(
        Typed(sk),
        move |create| sock_state::of_typed(storage, sk, create),
        true,
        reason,
    );
}

/// `tcp:tcp_receive_reset`, typed.
#[inline(always)]
pub(crate) fn received_typed(ctx: &BtfTracePointContext) {
    let sk: *const u8 = ctx.arg(0);
    // SAFETY: the program makes no other.
    let storage = &mut unsafe { Storage::new() };
    reset(
        Typed(sk),
        move |create| sock_state::of_typed(storage, sk, create),
        false,
        0,
    );
}

/// `tcp:tcp_send_reset`, classic.
#[inline(always)]
pub(crate) fn sent_classic(ctx: &TracePointContext) {
    let address: u64 = word(ctx, param!(RESET.send_skaddr));
    let reason = match param!(RESET.send_reason) {
        ABSENT => 0,
        offset => word::<u32>(ctx, offset) as u8,
    };
    if address != 0 && param!(SOCK.known) != 0 {
        let sk = Bare(address as *const u8);
        // SAFETY: the program makes no other.
        let storage = &mut unsafe { Storage::new() };
        reset(
            sk,
            move |create| sock_state::by_address(storage, address, create),
            true,
            reason,
        );
    }
}

/// `tcp:tcp_receive_reset`, classic.
#[inline(always)]
pub(crate) fn received_classic(ctx: &TracePointContext) {
    let address: u64 = word(ctx, param!(RESET.receive_skaddr));
    if param!(SOCK.known) != 0 {
        let sk = Bare(address as *const u8);
        // SAFETY: the program makes no other.
        let storage = &mut unsafe { Storage::new() };
        reset(
            sk,
            move |create| sock_state::by_address(storage, address, create),
            false,
            0,
        );
    }
}

/// `tcp:tcp_destroy_sock`, typed.
#[inline(always)]
pub(crate) fn destroyed_typed(ctx: &BtfTracePointContext) {
    let sk: *const u8 = ctx.arg(0);
    if param!(PARAMS.sk_storage) == 0 {
        forget_state(sk as u64);
    }
    forget(sk as u64);
}

/// `tcp:tcp_destroy_sock`, classic.
#[inline(always)]
pub(crate) fn destroyed_classic(ctx: &TracePointContext) {
    let address: u64 = word(ctx, param!(RESET.destroy_skaddr));
    forget_state(address);
    forget(address);
}

/// Drops the state of the socket at `address`, because another socket may get the address.
///
/// The kernel sends the reset of an orphan right after it destroyed the orphan. So the state of the last such socket stays, until the next
/// one on this CPU.
#[inline(always)]
fn forget_state(address: u64) {
    // SAFETY: the program makes no other.
    let mut storage = unsafe { Storage::new() };
    if !awaits_reset(&mut storage, address) {
        sock_state::drop_address(address);
        return;
    }
    let Some(last) = LAST_DESTROYED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the entry of this CPU.
    let before = unsafe { last.replace(address) };
    // A new socket at that address does not await a reset.
    if before != address && awaits_reset(&mut storage, before) {
        sock_state::drop_address(before);
    }
}

/// Whether the state of a socket at `address` is kept, and [`close_info::awaits_reset`].
#[inline(always)]
fn awaits_reset(storage: &mut Storage, address: u64) -> bool {
    sock_state::by_address(storage, address, false)
        .state
        .is_some_and(|state| close_info::awaits_reset(state))
}

/// Drops all other data of the socket.
#[inline(always)]
fn forget(address: u64) {
    owner::forget(address);
    latency::forget(address);
}
