//! Writes records into the ring buffer, and wakes the reader when a part of it is filled.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use tcpwatch_common::evidence::{DEAD, DONE};
use tcpwatch_common::owner::HOW_UNKNOWN;
use tcpwatch_common::record::{Amendment, Connection, DWELL_UNKNOWN};
use tcpwatch_common::{Evidence, Transition};

use crate::counter::inc;
use crate::hook::Hook;
use crate::ledger::{OwnBank, SharedBank, inc_shared};
use crate::maps::EVENTS;
use crate::params::param;
use crate::run::{PEER_UNKNOWN, Run};
use crate::sock::{self, Traffic};
use crate::sock_state::Storage;
use crate::step::{CLOSE_WAIT, ESTABLISHED, FIN_WAIT2, Step};
use crate::{filter, needs, words};

/// `BPF_RB_AVAIL_DATA`: unread bytes.
const AVAILABLE: u64 = 0;

/// Whether the program `record` writes a record at this step.
#[inline(always)]
pub(crate) fn wants_transition(step: Step) -> bool {
    (needs::transitions() || needs::openings() && step.to == ESTABLISHED) && filter::wants(step.from, step.to)
}

/// Whether the program `held` writes a record of the opening `held`.
#[inline(always)]
pub(crate) fn wants_held(held: u32) -> bool {
    held != 0 && wants_transition(opening(held))
}

/// Whether the program `conn` writes a record at this step.
#[inline(always)]
pub(crate) fn wants_connection(step: Step) -> bool {
    needs::connections() && step.is_end() && filter::wants(step.from, step.to)
}

/// The step of a held-back opening.
#[inline(always)]
pub(crate) fn opening(held: u32) -> Step {
    Step {
        from: held >> 4 & 15,
        to: held & 15,
    }
}

/// A transition to record.
struct Recorded {
    step: Step,
    time_ns: u64,
    dwell_ns: u64,
    close_info: Evidence,
}

impl Recorded {
    /// The transition of `run`.
    #[inline(always)]
    fn from_run(run: &Run) -> Self {
        Self {
            step: run.step(),
            time_ns: run.now,
            dwell_ns: run.dwell_ns,
            close_info: run.close_info,
        }
    }
}

/// The program `record`: records the transition.
#[inline(always)]
pub(crate) fn send_transition<H: Hook>(hook: &H, run: &Run) -> Option<()> {
    let recorded = Recorded::from_run(run);
    // SAFETY: the entry is reserved and of this type; every field is written.
    send::<Transition>(run.ledger()?, |place| {
        write(hook, run, &recorded, unsafe { &mut *place })
    });
    Some(())
}

/// The program `held`: records the held-back opening.
#[inline(always)]
pub(crate) fn send_held<H: Hook>(hook: &H, run: &Run) -> Option<()> {
    let recorded = Recorded {
        step: opening(run.held),
        time_ns: run.held_ns,
        dwell_ns: DWELL_UNKNOWN,
        close_info: Evidence::default(),
    };
    // SAFETY: as in `send_transition`.
    send::<Transition>(run.ledger()?, |place| {
        write(hook, run, &recorded, unsafe { &mut *place })
    });
    Some(())
}

/// The program `conn`: records the connection that ends with the transition.
#[inline(always)]
pub(crate) fn send_connection<H: Hook>(hook: &H, run: &Run, storage: &mut Storage) -> Option<()> {
    let recorded = Recorded::from_run(run);
    send::<Connection>(run.ledger()?, |place| {
        // SAFETY: as in `send_transition`.
        let place = unsafe { &mut *place };
        write(hook, run, &recorded, &mut place.last);
        if let Some(info) = hook.kept(storage, false).info {
            words::copy(&mut place.spent_ns, &info.spent_ns);
            place.closer_pid = info.closer_pid;
            words::copy(&mut place.closer_comm, &info.closer_comm);
        } else {
            // SAFETY: zeros are valid numbers and bytes.
            unsafe {
                words::clear(&mut place.spent_ns);
                words::clear(&mut place.closer_comm);
            }
            place.closer_pid = 0;
        }
        let traffic = if hook.known() { sock::traffic(hook.sk()) } else { None };
        place.counted = traffic.is_some() as u32;
        let traffic = traffic.unwrap_or(Traffic::NONE);
        // The peer's FIN takes a sequence number (RFC 9293, section 3.4), and the kernel counts it as a byte.
        let fin = (run.close_info.flags & DONE != 0) as u64;
        place.bytes_sent = traffic.sent;
        place.bytes_acked = traffic.acked;
        place.in_flight = traffic.in_flight;
        place.unsent = traffic.unsent;
        place.bytes_received = traffic.received.saturating_sub(fin);
        place.srtt_us = traffic.srtt_us;
        place.retransmits = traffic.retransmits;
    });
    Some(())
}

/// Writes every field of `place`.
#[inline(always)]
fn write<H: Hook>(hook: &H, run: &Run, recorded: &Recorded, place: &mut Transition) {
    let (ifindex, cookie) = hook.extras();
    place.time_ns = recorded.time_ns;
    place.id = run.id;
    // A child whose peer address is not set yet still has the cookie of its listener.
    place.cookie = if run.flags & PEER_UNKNOWN != 0 { 0 } else { cookie };
    place.dwell_ns = recorded.dwell_ns;
    hook.write_addresses(&mut place.local, &mut place.remote);
    place.netns = run.netns;
    place.ifindex = ifindex;
    place.lport = run.lport as u16;
    place.rport = hook.remote_port();
    place.family = hook.family();
    place.from = recorded.step.from as u8;
    place.to = recorded.step.to as u8;
    place.opened = run.opened;
    place.evidence = recorded.close_info;
    if needs::owners() {
        words::copy(&mut place.owner, &run.owner);
    } else {
        // SAFETY: zeros are a valid owner.
        unsafe { words::clear(&mut place.owner) };
    }
    let owner_known = needs::owners() && run.owner.how != HOW_UNKNOWN;
    // A process that has not closed the socket may still have its descriptor. It can be found by the inode.
    let stays_open = recorded.step.is_last()
        && matches!(recorded.step.from, CLOSE_WAIT | FIN_WAIT2)
        && recorded.close_info.flags & DEAD == 0;
    place.inode = if (!owner_known || stays_open) && hook.known() {
        sock::inode(hook.sk())
    } else {
        0
    };
    // The three bytes after it are zeros.
    let port = &raw mut place.port;
    // SAFETY: the last four bytes before the owner.
    unsafe { port.cast::<u32>().write(run.port as u32) };
}

/// Sends a record that `fill` writes, or counts it as lost.
#[inline(always)]
fn send<T: 'static>(ledger: OwnBank, fill: impl FnOnce(*mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        inc(ledger.lost());
        return;
    };
    fill(entry.as_mut_ptr());
    inc(ledger.sent());
    let sent = ledger.sent().get();
    // A wakeup costs ten times as much as the record, and even the query has a cost. The reader also polls on a timer. So wake
    // it only for the first record, which the user waits for, and if the timer may be too late.
    let is_first = sent == 1;
    let wake = is_first
        || sent & param!(PARAMS.wake_mask) as u64 == 0 && EVENTS.query(AVAILABLE) >= param!(PARAMS.wake_bytes) as u64;
    entry.submit(if wake {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    });
}

/// Sends new evidence for a recorded ending, or counts a missed reset.
#[inline(always)]
pub(crate) fn amend(amendment: &Amendment) {
    let Some(mut entry) = EVENTS.reserve::<Amendment>(0) else {
        inc_shared(SharedBank::missed_resets);
        return;
    };
    entry.write(*amendment);
    entry.submit(BPF_RB_NO_WAKEUP as u64);
}
