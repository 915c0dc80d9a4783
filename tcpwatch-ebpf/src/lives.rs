//! What is remembered of a socket between its transitions.

use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::maps::HashMap;
use tcpwatch_common::Ledger;

use crate::maps::{LIVES, LIVES_BY_ADDRESS, STORIES, STORIES_BY_ADDRESS};
use crate::params::param;
use crate::stories::{self, Story, Told};

/// `BPF_LOCAL_STORAGE_GET_F_CREATE`.
const CREATE: u64 = 1;

/// One life of a socket. Small: the kernel charges it to the socket's option memory (`optmem_max`), with 72 bytes of its own,
/// and takes 128 for both.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Life {
    /// Its number; 0 until its first transition.
    pub(crate) id: u64,
    /// When the current state was entered, ns; 0 when not seen.
    pub(crate) entered_ns: u64,
    /// When the opening that waits for the filter happened, ns.
    pub(crate) held_ns: u64,
    /// That opening, `from << 4 | to`; 0 for none.
    pub(crate) held_move: u8,
    /// State this socket is counted in; 0 for none.
    pub(crate) counted: u8,
    /// Count it is counted in; an older one's mark is void.
    pub(crate) epoch: u8,
    /// [`crate::filter`]'s verdict.
    pub(crate) verdict: u8,
    /// `inet_sport` left over from an earlier connection when this one opened, network order.
    pub(crate) stale_sport: u16,
    /// Who opened the connection ([`tcpwatch_common::Transition::opened`]).
    pub(crate) opened: u8,
    /// Set once the end was written, so that a reset that follows can be told to belong to it.
    pub(crate) told: u8,
    /// [`tcpwatch_common::Evidence::key`] the end is counted under; 0 for none.
    pub(crate) end: u64,
    /// `sk_err` at the last transition.
    pub(crate) err: u16,
    /// Resets seen ([`tcpwatch_common::evidence::RESET_SENT`] and its like).
    pub(crate) resets: u16,
    /// The kernel's reason for the one sent.
    pub(crate) reason: u8,
    /// Where the local port is from ([`tcpwatch_common::Transition::port`]).
    pub(crate) port: u8,
    /// Padding.
    pub(crate) reserved: [u8; 2],
}

/// Nothing known.
pub(crate) const UNKNOWN: Life = Life {
    id: 0,
    entered_ns: 0,
    held_ns: 0,
    held_move: 0,
    counted: 0,
    epoch: 0,
    verdict: 0,
    stale_sport: 0,
    opened: 0,
    told: 0,
    end: 0,
    err: 0,
    resets: 0,
    reason: 0,
    port: 0,
    reserved: [0; 2],
};

/// The same, where the stack has no room for it.
static NOTHING: Life = UNKNOWN;

/// Zeros, written to `place`: word by word and volatile, for what the compiler may turn into `memset` is a loop over bytes here.
///
/// # Safety
/// Zeros are a `T`, and its size is a multiple of 8.
#[inline(always)]
pub(crate) unsafe fn zeros<T>(place: &mut MaybeUninit<T>) -> &mut T {
    let words = place.as_mut_ptr().cast::<u64>();
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: it has that many words.
        unsafe { words.add(index).write_volatile(0) };
    }
    // SAFETY: all of it was written, with zeros, which the caller vouches for.
    unsafe { place.assume_init_mut() }
}

impl Life {
    /// Nothing known, written to `place`.
    #[inline(always)]
    pub(crate) fn clear(place: &mut MaybeUninit<Self>) -> &mut Self {
        // SAFETY: zeros are a life.
        unsafe { zeros(place) }
    }

    /// Starts another life of the same socket. Where it is counted stays: that moves with the count.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        let (counted, epoch) = (self.counted, self.epoch);
        // SAFETY: what is initialised may be written again.
        Self::clear(unsafe { &mut *ptr::from_mut(self).cast() });
        (self.counted, self.epoch) = (counted, epoch);
    }
}

const _: () = assert!(size_of::<Life>() == 48 && align_of::<Life>() == 8);

/// A number no other life of this run has: each CPU counts in steps of the number of CPUs. Where runs may interrupt each
/// other, a count could be taken twice; the time cannot.
#[inline(always)]
pub(crate) fn number(ledger: &mut Ledger, cpu: u32, now: u64) -> u64 {
    let count = if param!(PARAMS.nests) != 0 {
        now
    } else {
        ledger.lives += 1;
        ledger.lives
    };
    count * param!(PARAMS.cpus) as u64 + cpu as u64
}

/// What is kept of one socket, in one place: each look-up costs. Where there is nothing, both are `None`, and not the whole: half
/// of that would be undefined, which the verifier does not let be copied.
pub(crate) struct Kept<'a> {
    pub(crate) life: Option<&'a mut Life>,
    /// Where stories are told.
    pub(crate) story: Option<&'a mut Story>,
}

impl<'a> Kept<'a> {
    /// Nothing.
    #[inline(always)]
    pub(crate) fn nothing() -> Self {
        Self {
            life: None,
            story: None,
        }
    }

    #[inline(always)]
    fn bare(life: Option<&'a mut Life>) -> Self {
        Self { life, story: None }
    }

    #[inline(always)]
    fn told(told: Option<&'a mut Told>) -> Self {
        match told {
            Some(told) => Self {
                life: Some(&mut told.life),
                story: Some(&mut told.story),
            },
            None => Self::nothing(),
        }
    }

    /// Starts another life of the same socket.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        if let Some(life) = &mut self.life {
            life.begin();
        }
        if let Some(story) = &mut self.story {
            story.begin();
        }
    }
}

/// What is kept with the typed socket `sk`, made where there is nothing and `create`; nothing where the kernel refuses.
#[inline(always)]
pub(crate) fn of_socket<'a>(sk: *const u8, create: bool) -> Kept<'a> {
    if param!(PARAMS.stories) != 0 {
        Kept::told(stored(&STORIES, sk, create))
    } else {
        Kept::bare(stored(&LIVES, sk, create))
    }
}

/// What `map` keeps with the typed socket `sk`, made of zeros where there is nothing and `create`; `None` where the kernel
/// refuses.
#[inline(always)]
fn stored<'a, T>(map: &'static SkStorage<T>, sk: *const u8, create: bool) -> Option<&'a mut T> {
    let flags = if create { CREATE } else { 0 };
    // SAFETY: `sk` is the typed socket the kernel gave this program, and the map's value is a `T`.
    let value = unsafe {
        bpf_sk_storage_get(
            ptr::from_ref(map).cast_mut().cast(),
            sk.cast_mut().cast(),
            ptr::null_mut(),
            flags,
        )
    };
    // SAFETY: the storage lives as long as the socket, and the socket is locked while this program runs for it.
    unsafe { value.cast::<T>().as_mut() }
}

/// What is kept for the socket at `address`, made where there is nothing and `create`; nothing when the table is full.
#[inline(always)]
pub(crate) fn of_address<'a>(address: u64, create: bool) -> Kept<'a> {
    if param!(PARAMS.stories) != 0 {
        Kept::told(listed(
            &STORIES_BY_ADDRESS,
            address,
            create.then_some(&stories::NOTHING),
        ))
    } else {
        Kept::bare(listed(&LIVES_BY_ADDRESS, address, create.then_some(&NOTHING)))
    }
}

/// What `map` has for the socket at `address`, a copy of `new` where there is nothing.
#[inline(always)]
fn listed<'a, T>(map: &'static HashMap<u64, T>, address: u64, new: Option<&T>) -> Option<&'a mut T> {
    let mut value = map.get_ptr_mut(&address);
    if value.is_none()
        && let Some(new) = new
    {
        map.insert(&address, new, 0).ok()?;
        value = map.get_ptr_mut(&address);
    }
    // SAFETY: nobody else uses the entry of a socket that is locked while this program runs for it.
    unsafe { value?.as_mut() }
}

/// Forgets the socket at `address`, which may be another's in a moment.
#[inline(always)]
pub(crate) fn forget_address(address: u64) {
    let _gone_already = if param!(PARAMS.stories) != 0 {
        STORIES_BY_ADDRESS.remove(&address)
    } else {
        LIVES_BY_ADDRESS.remove(&address)
    };
}
