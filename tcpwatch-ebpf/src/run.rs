//! The run of one transition: a chain of small programs that call each other by tail calls.
//!
//! A [`Run`] in a map passes data from one program to the next. Each CPU has one for every run that can be active there.

use core::arch::asm;

use aya_ebpf::EbpfContext;
use aya_ebpf::maps::ProgramArray;
use tcpwatch_common::ledger::{COPIES, LEVELS};
use tcpwatch_common::names::{
    STAGE_CLOSE, STAGE_CONNECTION, STAGE_FILTER, STAGE_HELD, STAGE_INFO, STAGE_LATENCY, STAGE_LISTENER, STAGE_RECORD,
    STAGE_STATE,
};
use tcpwatch_common::{Evidence, Owner};

use crate::hook::Hook;
use crate::ledger::OwnBank;
use crate::maps::RUNS;
use crate::sock_state::Storage;
use crate::step::Step;
use crate::{close_info, filter, latency, ledger, listener, needs, record, sock_state, state};

/// [`Run::flags`]: the peer address of a child is not set yet (before Linux 6.15).
pub(crate) const PEER_UNKNOWN: u32 = 1 << 0;
/// [`Run::flags`]: the transition is held back with the socket until more is known, and is not counted now.
pub(crate) const OPENING_DELAYED: u32 = 1 << 1;

/// The data of one transition, as filled in by the programs so far.
#[repr(C)]
pub(crate) struct Run {
    /// Index of the ledger for this transition.
    pub(crate) ledger: u32,
    /// State left.
    from: u32,
    /// State entered.
    to: u32,
    /// Inode number of the network namespace; 0 if unknown.
    pub(crate) netns: u32,
    /// Local port, host order; 0 if unknown.
    pub(crate) lport: u32,
    /// [`PEER_UNKNOWN`], [`OPENING_DELAYED`].
    pub(crate) flags: u32,
    /// The held-back opening that this transition releases, `from << 4 | to`; 0 for none.
    pub(crate) held: u32,
    /// The verdict of the filter on the socket.
    pub(crate) verdict: u8,
    /// Which side opened the connection ([`tcpwatch_common::Transition::opened`]).
    pub(crate) opened: u8,
    /// How the local port was set ([`tcpwatch_common::Transition::port`]).
    pub(crate) port: u8,
    /// The bank of the ledger.
    pub(crate) bank: u8,
    /// Time of the transition, ns; 0 if no times are needed.
    pub(crate) now: u64,
    /// Time of the held-back opening, ns.
    pub(crate) held_ns: u64,
    /// Time spent in the state left, ns.
    pub(crate) dwell_ns: u64,
    /// Connection number; 0 if unknown.
    pub(crate) id: u64,
    /// Evidence of how the connection ended, at `*>CLOSE`.
    pub(crate) close_info: Evidence,
    /// Owner of the socket.
    pub(crate) owner: Owner,
}

impl Run {
    /// The states of the transition.
    #[inline(always)]
    pub(crate) fn step(&self) -> Step {
        Step {
            from: self.from & 15,
            to: self.to & 15,
        }
    }

    /// The ledger for this transition.
    #[inline(always)]
    pub(crate) fn ledger(&self) -> Option<OwnBank> {
        // SAFETY: `start` gives each run that may interrupt another a bank of its own.
        unsafe { ledger::at(self.ledger) }
    }
}

/// The active runs on one CPU, of one copy of the programs. Each run interrupts the one before it.
#[repr(C)]
pub(crate) struct Runs {
    depth: u32,
    reserved: u32,
    runs: [Run; LEVELS as usize],
}

/// Prevents the compiler from moving writes across this point, because an interrupting run reads them.
#[inline(always)]
pub(crate) fn barrier() {
    // SAFETY: no instruction.
    unsafe { asm!("") };
}

/// Starts the run of a transition and calls the first program of the chain. If that is `state`, does its work here, which saves
/// a call.
#[inline(always)]
pub(crate) fn start<H: Hook>(hook: &H, ctx: &H::Context, step: Step, netns: u32) {
    let Some(runs) = RUNS.get_ptr_mut(H::COPY) else { return };
    // SAFETY: the entry of this CPU and copy.
    let runs = unsafe { &mut *runs };
    let depth = runs.depth;
    if depth >= LEVELS {
        ledger::inc_shared(ledger::SharedBank::too_deep);
        return;
    }
    runs.depth = depth + 1;
    barrier();
    let run = &mut runs.runs[depth as usize & (LEVELS as usize - 1)];
    let bank = H::COPY * LEVELS + depth;
    run.ledger = ledger::index(bank);
    run.bank = bank as u8;
    run.from = step.from;
    run.to = step.to;
    run.netns = netns;
    run.flags = 0;
    run.held = 0;
    run.verdict = filter::MATCH;
    if !needs::program_before_state() {
        // SAFETY: a program calls this function once, and makes no other.
        let mut storage = unsafe { Storage::new() };
        if state::count(hook, run, &mut storage).is_some() {
            call_after::<H>(ctx, Some(STAGE_STATE), run);
            hook.finish(run);
        }
    } else {
        call_after::<H>(ctx, None, run);
    }
    barrier();
    runs.depth = depth;
}

/// Continues the run in one program of the chain: does its work `stage`, then calls the next program.
#[inline(always)]
pub(crate) fn resume<H: Hook>(
    ctx: &H::Context,
    this: u32,
    stage: impl FnOnce(&H, &mut Run, &mut Storage) -> Option<()>,
) {
    let Some(runs) = RUNS.get_ptr_mut(H::COPY) else { return };
    // SAFETY: as in `start`.
    let runs = unsafe { &mut *runs };
    let depth = runs.depth.wrapping_sub(1) & (LEVELS - 1);
    let run = &mut runs.runs[depth as usize];
    // SAFETY: a program calls this function once, and makes no other.
    let mut storage = unsafe { Storage::new() };
    if let Some(hook) = H::resumed(ctx)
        && stage(&hook, run, &mut storage).is_some()
    {
        call_after::<H>(ctx, Some(this), run);
        hook.finish(run);
    }
    barrier();
    runs.depth = depth;
}

/// Calls the next program that this transition needs after the one at index `this`. Returns only if there is none.
#[inline(always)]
fn call_after<H: Hook>(ctx: &H::Context, this: Option<u32>, run: &Run) {
    let step = run.step();
    let goes_on = run.flags & OPENING_DELAYED == 0;
    macro_rules! call {
        ($stage:ident where $wanted:expr) => {
            if this.is_none_or(|this| this < $stage) && $wanted {
                tail_call::<H, $stage>(ctx);
            }
        };
    }
    call!(STAGE_LISTENER where listener::wants(step));
    call!(STAGE_FILTER where needs::endpoints());
    call!(STAGE_STATE where true);
    call!(STAGE_CLOSE where close_info::counts(step));
    call!(STAGE_INFO where needs::infos());
    call!(STAGE_LATENCY where goes_on && latency::wants(step));
    call!(STAGE_HELD where goes_on && record::wants_held(run.held));
    call!(STAGE_RECORD where goes_on && record::wants_transition(step));
    call!(STAGE_CONNECTION where goes_on && record::wants_connection(step));
}

/// Calls the program at index `STAGE` of the hook's jump table. Returns if there is none. Assembly makes the index a constant,
/// which the kernel turns into a direct jump.
#[inline(always)]
fn tail_call<H: Hook, const STAGE: u32>(ctx: &H::Context) {
    let table: *const ProgramArray = H::stages();
    // SAFETY: the helper (`BPF_FUNC_tail_call`, 12) takes the context, a map of programs and an index. It leaves the program,
    // or changes only the registers of a call.
    unsafe {
        asm!(
            "r3 = {stage}",
            "call 12",
            stage = const STAGE,
            inlateout("r1") ctx.as_ptr() => _,
            inlateout("r2") table => _,
            lateout("r0") _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
}

const _: () = assert!(COPIES == 2 && LEVELS.is_power_of_two());
const _: () = assert!(size_of::<sock_state::SockState>() == 48);
