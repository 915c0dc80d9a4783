//! The ledger of the running program: one bank of its CPU.

use core::arch::asm;
use core::cell::Cell;
use core::hint::assert_unchecked;
use core::mem::offset_of;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use tcpwatch_common::Ledger;
use tcpwatch_common::ledger::{BANKS, STATES};

use crate::counter::Shared;
use crate::maps::LEDGER;

/// Number of counters in a ledger.
const COUNTERS: usize = size_of::<Ledger>() / 8;

/// A bank of the ledger, as an array of counters. There may be several references to it, so all are shared.
pub(crate) struct Bank<T: 'static>(&'static [T; COUNTERS]);

/// The bank of a run. No other run writes it.
pub(crate) type OwnBank = Bank<Cell<u64>>;
/// The bank of programs on events other than transitions. They may interrupt each other.
pub(crate) type SharedBank = Bank<Shared<u64>>;

impl<T> Clone for Bank<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Bank<T> {}

/// Defines a function for each counter of [`Ledger`] that is one word.
macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        $(
            #[doc = concat!("[`Ledger::", stringify!($name), "`].")]
            #[inline(always)]
            pub(crate) fn $name(self) -> &'static T {
                &self.0[offset_of!(Ledger, $name) / 8]
            }
        )*
    };
}

impl<T> Bank<T> {
    counters!(
        transitions,
        sent,
        lost,
        unremembered,
        held,
        released,
        lives,
        unkept_owners,
        unmeasured,
        lost_stacks,
        missed_resets,
        uncounted_ends,
        taken_over,
        too_deep,
    );

    /// The counter of [`Ledger::moves`] for two states.
    #[inline(always)]
    pub(crate) fn moves(self, from: u32, to: u32) -> &'static T {
        &self.0[offset_of!(Ledger, moves) / 8 + place(from) * STATES + place(to)]
    }

    /// The counters of [`Ledger::sockets`] in a bank, by state.
    #[inline(always)]
    pub(crate) fn sockets(self, bank: usize) -> Option<&'static [T; STATES]> {
        self.0[offset_of!(Ledger, sockets) / 8 + masked::<2>(bank as u32) * STATES..].first_chunk()
    }

    /// The counter of [`Ledger::retransmits`] for a kind: 0, 1 or 2.
    #[inline(always)]
    pub(crate) fn retransmits(self, kind: usize) -> &'static T {
        &self.0[offset_of!(Ledger, retransmits) / 8 + kind]
    }

    /// Key and count at a place of [`Ledger::ends`].
    #[inline(always)]
    pub(crate) fn end(self, place: usize) -> (&'static T, &'static T) {
        let key = offset_of!(Ledger, ends) / 8 + place * 2;
        (&self.0[key], &self.0[key + 1])
    }
}

/// Masks `number` to a place below `PLACES`, a power of two. The mask is in assembly, so that the compiler cannot remove it if it
/// knows the bounds already: the verifiers of older kernels forget the bounds of a number that was on the stack.
#[inline(always)]
pub(crate) fn masked<const PLACES: u32>(number: u32) -> usize {
    const { assert!(PLACES.is_power_of_two()) };
    let mut place = number as usize;
    // SAFETY: one instruction, which makes the number less than `PLACES`.
    unsafe {
        asm!("{place} &= {mask}", place = inout(reg) place, mask = const PLACES - 1);
        assert_unchecked(place < PLACES as usize);
    }
    place
}

/// Returns the place of a state in an array by state.
#[inline(always)]
pub(crate) fn place(state: u32) -> usize {
    masked::<{ STATES as u32 }>(state)
}

/// The index of bank `bank` of this CPU in the map.
#[inline(always)]
pub(crate) fn index(bank: u32) -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    cpu * BANKS + bank
}

/// The ledger at `index`.
///
/// # Safety
/// It must be the bank of this run. Runs that may interrupt each other have different banks.
#[inline(always)]
pub(crate) unsafe fn at(index: u32) -> Option<OwnBank> {
    // SAFETY: a ledger consists of words, and no other run writes these.
    Some(Bank(unsafe { &*LEDGER.get_ptr(index)?.cast() }))
}

/// The index of the shared bank.
#[inline(always)]
pub(crate) fn shared_index() -> u32 {
    index(BANKS - 1)
}

/// The shared bank of this CPU.
#[inline(always)]
pub(crate) fn shared() -> Option<SharedBank> {
    // SAFETY: a ledger consists of words, and all programs add to these atomically.
    Some(Bank(unsafe { &*LEDGER.get_ptr(shared_index())?.cast() }))
}

/// Adds one to a counter of the [`shared`] bank.
#[inline(always)]
pub(crate) fn inc_shared(counter: impl FnOnce(SharedBank) -> &'static Shared<u64>) {
    if let Some(ledger) = shared() {
        counter(ledger).add(1);
    }
}
