//! Writes one record into the stream, and wakes the reader when a share of the ring is filled.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use tcpwatch_common::{Ledger, Transition};

use crate::maps::EVENTS;
use crate::params::param;

/// `BPF_RB_AVAIL_DATA`: bytes not read yet.
const AVAILABLE: u64 = 0;

/// Records within which the mark that wakes the reader is looked for: CPUs may pass it together.
const WINDOW: u64 = 16 * 88;

/// Sends `record`, or counts it as lost.
#[inline(always)]
pub(crate) fn send(record: &Transition, ledger: &mut Ledger) {
    let Some(mut entry) = EVENTS.reserve::<Transition>(0) else {
        ledger.lost += 1;
        return;
    };
    entry.write(*record);
    // A wakeup costs ten times the record. The reader comes by on a timer anyway; it is called when that may be too late.
    let past = EVENTS.query(AVAILABLE).wrapping_sub(param!(PARAMS.wake_bytes) as u64);
    entry.submit(if past < WINDOW {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    });
}
