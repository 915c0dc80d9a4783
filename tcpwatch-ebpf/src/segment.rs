//! What happens to a socket beside its transitions: resets, its death, its acceptance; and a process's new name.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use tcpwatch_common::event::Amendment;
use tcpwatch_common::params::ABSENT;
use tcpwatch_common::{Ledger, TcpState};

use crate::cell::bump;
use crate::filter::{MATCH, Unknown};
use crate::lives::{self, Kept};
use crate::maps::LEDGER;
use crate::params::param;
use crate::socket::{self, Bare, Memory, Typed};
use crate::transition::IPPROTO_TCP;
use crate::{emit, ends, filter, measure, owners, task};

const SYN_SENT: u8 = TcpState::SynSent as u8;
const SYN_RECV: u8 = TcpState::SynRecv as u8;
const CLOSE: u8 = TcpState::Close as u8;
const LISTEN: u8 = TcpState::Listen as u8;
const TIME_WAIT: u8 = TcpState::TimeWait as u8;

/// This CPU's ledger.
#[inline(always)]
pub(crate) fn ledger<'a>() -> Option<&'a mut Ledger> {
    // SAFETY: the helper takes nothing and gives a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: this CPU's entry; `bump` counts atomically where another program may interrupt this one.
    Some(unsafe { &mut *LEDGER.get_ptr_mut(cpu)? })
}

/// A reset of `sk`, sent for `reason` or received; `kept` finds what is remembered of it.
#[inline(always)]
fn reset<'a, M: Memory>(sk: M, kept: impl FnOnce(bool) -> Kept<'a>, sent: bool, reason: u8) {
    let state = socket::state(sk);
    // A timewait socket has no room for a mark, and needs none; a listener's resets are its children's.
    if !(1..12).contains(&state) || matches!(state, LISTEN | TIME_WAIT) || socket::protocol(sk) != IPPROTO_TCP {
        return;
    }
    if !filter::admits(socket::netns(sk), socket::family(sk)) {
        return;
    }
    // What is sent before a connection is there answers segments of an older one (RFC 9293, section 3.5.1).
    if sent && matches!(state, SYN_SENT | SYN_RECV) {
        return;
    }
    let Some(life) = kept(state != CLOSE).life else {
        if state != CLOSE
            && let Some(ledger) = ledger()
        {
            bump(&mut ledger.unheard_resets);
        }
        return;
    };
    // SAFETY: the helper takes nothing and gives a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(evidence) = ends::reset(cpu, life, sent, reason) else {
        return;
    };
    if param!(PARAMS.stream) != 0
        && let Some(ledger) = ledger()
    {
        let amendment = Amendment {
            // SAFETY: the helper takes nothing and gives a number.
            time_ns: unsafe { bpf_ktime_get_ns() },
            id: life.id,
            evidence,
        };
        emit::amend(ledger, &amendment);
    }
}

/// The word at `offset` of a classic tracepoint's record, by a helper: a program may not read its context at an offset it was
/// told.
#[inline(always)]
pub(crate) fn word<T: Copy + Default>(ctx: &TracePointContext, offset: u32) -> T {
    use aya_ebpf::EbpfContext;
    socket::probe(ctx.as_ptr().cast_const().cast(), offset)
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
    reset(Typed(sk), |create| lives::of_socket(sk, create), true, reason);
}

/// `tcp:tcp_receive_reset`, typed.
#[inline(always)]
pub(crate) fn received_typed(ctx: &BtfTracePointContext) {
    let sk: *const u8 = ctx.arg(0);
    reset(Typed(sk), |create| lives::of_socket(sk, create), false, 0);
}

/// `tcp:tcp_destroy_sock`, typed.
#[inline(always)]
pub(crate) fn destroyed_typed(ctx: &BtfTracePointContext) {
    let sk: *const u8 = ctx.arg(0);
    owners::forget(sk as u64);
    measure::forget(sk as u64);
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
        reset(
            Bare(address as *const u8),
            |create| lives::of_address(address, create),
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
        reset(
            Bare(address as *const u8),
            |create| lives::of_address(address, create),
            false,
            0,
        );
    }
}

/// `tcp:tcp_destroy_sock`, classic: the last that is heard of an address before it is another socket's.
#[inline(always)]
pub(crate) fn destroyed_classic(ctx: &TracePointContext) {
    let address: u64 = word(ctx, param!(RESET.destroy_skaddr));
    // Of an orphan for which data came the reset is sent after its death. Its life is the next one's at this address, if not.
    let awaits_reset = lives::of_address(address, false)
        .life
        .is_some_and(|life| ends::awaits_reset(life));
    if !awaits_reset {
        lives::forget_address(address);
    }
    owners::forget(address);
    measure::forget(address);
}

/// A segment of `sk` was sent again. Of a SYN-ACK `sk` is the listener, and `request` has both ends.
#[inline(always)]
fn sent_again<M: Memory>(sk: M, request: Option<M>) {
    if socket::protocol(sk) != IPPROTO_TCP || !filter::admits(socket::netns(sk), socket::family(sk)) {
        return;
    }
    if filter::looks_at_ends() {
        let ends = match request {
            Some(request) => socket::ends(request, socket::bound_port(request)),
            None => socket::ends(sk, socket::bound_port(sk)),
        };
        if filter::judge(&ends, Unknown::NOTHING) != MATCH {
            return;
        }
    }
    let Some(ledger) = ledger() else { return };
    let kind = match (request, socket::state(sk)) {
        (Some(_), _) => 1,
        (None, SYN_SENT) => 0,
        _ => 2,
    };
    bump(&mut ledger.retransmits[kind]);
}

/// `tcp:tcp_retransmit_skb` or `tcp:tcp_retransmit_synack`, typed.
#[inline(always)]
pub(crate) fn sent_again_typed(ctx: &BtfTracePointContext, synack: bool) {
    sent_again(Typed(ctx.arg(0)), synack.then(|| Typed(ctx.arg(1))));
}

/// `tcp:tcp_retransmit_skb` or `tcp:tcp_retransmit_synack`, classic.
#[inline(always)]
pub(crate) fn sent_again_classic(ctx: &TracePointContext, synack: bool) {
    if param!(SOCK.known) == 0 {
        return;
    }
    let at = |offset| Bare(word::<u64>(ctx, offset) as *const u8);
    if synack {
        sent_again(at(param!(RESET.synack_skaddr)), Some(at(param!(RESET.synack_req))));
    } else {
        sent_again(at(param!(RESET.retransmit_skaddr)), None);
    }
}

/// `syscalls:sys_exit_accept` and `sys_exit_accept4`.
#[inline(always)]
pub(crate) fn accepted(ctx: &TracePointContext) {
    let Some(ledger) = ledger() else { return };
    owners::accepted(word(ctx, param!(RESET.accept_ret)), ledger);
}

/// `sched:sched_process_exit`: the running thread ends, and with it the process if it was the last.
#[inline(always)]
pub(crate) fn exited() {
    if param!(TASK.known) == 0 {
        return;
    }
    let task = Bare::task();
    if task.follow(param!(TASK.signal)).read::<u32>(param!(TASK.live)) == 0 {
        owners::ended(task::pid_of(task.follow(param!(TASK.group_leader))));
    }
}

/// `task:task_rename`, classic. Among the processes that listen there are leaders alone, so that no thread is taken for one.
#[inline(always)]
pub(crate) fn renamed_classic(ctx: &TracePointContext) {
    if param!(TASK.pidns) == 0 {
        let pid = word::<u32>(ctx, param!(RESET.rename_pid));
        let comm = [
            word::<u64>(ctx, param!(RESET.rename_comm)),
            word::<u64>(ctx, param!(RESET.rename_comm) + 8),
        ];
        // SAFETY: both are sixteen bytes of anything.
        owners::renamed(pid, &unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(comm) });
    }
}

/// `task:task_rename`: the leader of a process changes its name, by itself or by exec; the new one is not in the task yet.
#[inline(always)]
pub(crate) fn renamed(ctx: &BtfTracePointContext) {
    let task = Typed(ctx.arg(0));
    if task.read::<u32>(param!(TASK.pid)) != task.read::<u32>(param!(TASK.tgid)) {
        return;
    }
    let name: *const u8 = ctx.arg(1);
    let mut comm = [0u8; 16];
    // SAFETY: the helper takes any address, and writes as many bytes as it is told there is room for.
    let failed =
        unsafe { aya_ebpf::helpers::generated::bpf_probe_read_kernel_str(comm.as_mut_ptr().cast(), 16, name.cast()) }
            < 0;
    if !failed {
        owners::renamed(task::pid_of(task), &comm);
    }
}
