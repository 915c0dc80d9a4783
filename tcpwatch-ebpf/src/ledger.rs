//! The ledger of the running program: one bank of its CPU.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use tcpwatch_common::Ledger;
use tcpwatch_common::ledger::BANKS;

use crate::counter::add_atomically;
use crate::maps::LEDGER;

/// The index of bank `bank` of this CPU in the map.
#[inline(always)]
pub(crate) fn index(bank: u32) -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    cpu * BANKS + bank
}

/// The ledger at `index`.
#[inline(always)]
pub(crate) fn at<'a>(index: u32) -> Option<&'a mut Ledger> {
    // SAFETY: runs that may interrupt each other have different banks; what they share is added to atomically.
    Some(unsafe { &mut *LEDGER.get_ptr_mut(index)? })
}

/// The bank of the programs on events other than transitions. Add to it with [`inc_shared`].
#[inline(always)]
pub(crate) fn shared<'a>() -> Option<&'a mut Ledger> {
    at(index(BANKS - 1))
}

/// Adds one to a counter of the [`shared`] bank.
#[inline(always)]
pub(crate) fn inc_shared(counter: impl FnOnce(&mut Ledger) -> &mut u64) {
    if let Some(ledger) = shared() {
        add_atomically(counter(ledger), 1);
    }
}
