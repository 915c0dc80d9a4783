//! Writes one record into the stream, and wakes the reader when a share of the ring is filled.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use tcpwatch_common::Ledger;
use tcpwatch_common::event::Amendment;

use crate::cell::bump;
use crate::maps::EVENTS;
use crate::params::param;

/// `BPF_RB_AVAIL_DATA`: bytes not read yet.
const AVAILABLE: u64 = 0;

/// Sends a record that `fill` writes, or counts it as lost.
#[inline(always)]
pub(crate) fn send<T: 'static>(ledger: &mut Ledger, fill: impl FnOnce(*mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        bump(&mut ledger.lost);
        return;
    };
    fill(entry.as_mut_ptr());
    bump(&mut ledger.sent);
    // A wakeup costs ten times the record, and even to ask costs something. The reader comes by on a timer anyway: it is
    // called only when that may be too late.
    let wake = ledger.sent & param!(PARAMS.wake_mask) as u64 == 0
        && EVENTS.query(AVAILABLE) >= param!(PARAMS.wake_bytes) as u64;
    entry.submit(if wake {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    });
}

/// Sends what is known now of an end that was told, or counts it as lost.
#[inline(always)]
pub(crate) fn amend(ledger: &mut Ledger, amendment: &Amendment) {
    let Some(mut entry) = EVENTS.reserve::<Amendment>(0) else {
        bump(&mut ledger.unheard_resets);
        return;
    };
    entry.write(*amendment);
    entry.submit(BPF_RB_NO_WAKEUP as u64);
}
