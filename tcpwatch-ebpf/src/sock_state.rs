//! What is kept of a socket between its transitions.

use core::ptr;

use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::maps::HashMap;

use crate::conn_info::{self, ConnInfo, StateAndInfo};
use crate::counter::inc;
use crate::ledger::OwnBank;
use crate::maps::{INFOS, INFOS_BY_ADDR, STATES, STATES_BY_ADDR};
use crate::needs;
use crate::params::param;
use crate::words;

/// `BPF_LOCAL_STORAGE_GET_F_CREATE`.
const CREATE: u64 = 1;

/// The state of one connection, or of one listener. Small: the kernel charges it to the socket's option memory (`optmem_max`), with
/// 72 bytes of its own, and takes 128 for both.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SockState {
    /// Number of the connection; 0 until it is recorded for the first time.
    pub(crate) id: u64,
    /// When the current state was entered, ns; 0 when not seen.
    pub(crate) entered_ns: u64,
    /// When the opening that is held back happened, ns.
    pub(crate) held_ns: u64,
    /// That opening, `from << 4 | to`; 0 for none.
    pub(crate) held: u8,
    /// State this socket is counted in; 0 for none.
    pub(crate) counted: u8,
    /// The count it is counted in; the mark of an older count is void.
    pub(crate) epoch: u8,
    /// The verdict of [`crate::filter`].
    pub(crate) verdict: u8,
    /// `inet_sport` left over from an earlier connection when this one opened, network order.
    pub(crate) stale_sport: u16,
    /// Who opened the connection ([`tcpwatch_common::Transition::opened`]).
    pub(crate) opened: u8,
    /// 1 once the end was recorded, so that a reset that follows amends it.
    pub(crate) ended: u8,
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
pub(crate) const NEW: SockState = SockState {
    id: 0,
    entered_ns: 0,
    held_ns: 0,
    held: 0,
    counted: 0,
    epoch: 0,
    verdict: 0,
    stale_sport: 0,
    opened: 0,
    ended: 0,
    end: 0,
    err: 0,
    resets: 0,
    reason: 0,
    port: 0,
    reserved: [0; 2],
};

/// The same in memory, for inserts.
static NEW_STATE: SockState = NEW;

impl SockState {
    /// Forgets the connection before on the same socket. The mark stays: it moves with the count.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        let (counted, epoch) = (self.counted, self.epoch);
        // SAFETY: zeros are a state, and it has six words.
        unsafe { words::clear(self) };
        (self.counted, self.epoch) = (counted, epoch);
    }

    /// Keeps the opening `from << 4 | to` until more is known.
    #[inline(always)]
    pub(crate) fn hold(&mut self, ledger: OwnBank, opening: u8, now: u64) {
        self.held_ns = now;
        self.entered_ns = now;
        self.held = opening;
        inc(ledger.held());
    }

    /// Takes the opening that was held back, `from << 4 | to`; 0 for none.
    #[inline(always)]
    pub(crate) fn release(&mut self, ledger: OwnBank) -> u32 {
        let held = self.held as u32;
        if held != 0 {
            self.held = 0;
            inc(ledger.released());
        }
        held
    }
}

const _: () = assert!(size_of::<SockState>() == 48 && align_of::<SockState>() == 8);

/// Permission to use the stored states of sockets. A program makes only one, so that it has one reference to a state at a time.
pub(crate) struct Storage(());

impl Storage {
    /// Makes the permission of the running program.
    ///
    /// # Safety
    /// The program makes no other.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// What is kept of one socket. State and info share one map value, so one lookup fetches both.
pub(crate) struct Kept<'a> {
    pub(crate) state: Option<&'a mut SockState>,
    /// Where infos are needed.
    pub(crate) info: Option<&'a mut ConnInfo>,
}

impl<'a> Kept<'a> {
    /// Nothing.
    #[inline(always)]
    pub(crate) fn nothing() -> Self {
        Self {
            state: None,
            info: None,
        }
    }

    #[inline(always)]
    fn state(state: Option<&'a mut SockState>) -> Self {
        Self { state, info: None }
    }

    #[inline(always)]
    fn both(both: Option<&'a mut StateAndInfo>) -> Self {
        match both {
            Some(both) => Self {
                state: Some(&mut both.state),
                info: Some(&mut both.info),
            },
            None => Self::nothing(),
        }
    }
}

/// What is kept of the typed socket `sk`, made where there is nothing and `create`; nothing where the kernel gives no room.
#[inline(always)]
pub(crate) fn of_typed(storage: &mut Storage, sk: *const u8, create: bool) -> Kept<'_> {
    if param!(PARAMS.sk_storage) == 0 {
        by_address(storage, sk as u64, create)
    } else if needs::infos() {
        Kept::both(stored(&INFOS, storage, sk, create))
    } else {
        Kept::state(stored(&STATES, storage, sk, create))
    }
}

/// What `map` stores with the typed socket `sk`, made of zeros where there is nothing and `create`; `None` where the kernel gives no
/// room.
#[inline(always)]
fn stored<'a, T>(map: &'static SkStorage<T>, _only: &'a mut Storage, sk: *const u8, create: bool) -> Option<&'a mut T> {
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
    // SAFETY: the storage lives as long as the socket, which is locked while this program runs for it, and the program has no other
    // reference to it.
    unsafe { value.cast::<T>().as_mut() }
}

/// What is kept of the socket at `address`, made where there is nothing and `create`; nothing where the table is full.
#[inline(always)]
pub(crate) fn by_address(storage: &mut Storage, address: u64, create: bool) -> Kept<'_> {
    if needs::infos() {
        Kept::both(found(
            &INFOS_BY_ADDR,
            storage,
            address,
            create.then_some(&conn_info::NEW_BOTH),
        ))
    } else {
        Kept::state(found(&STATES_BY_ADDR, storage, address, create.then_some(&NEW_STATE)))
    }
}

/// What `map` has for the socket at `address`, a copy of `new` where there is nothing.
#[inline(always)]
fn found<'a, T>(
    map: &'static HashMap<u64, T>,
    _only: &'a mut Storage,
    address: u64,
    new: Option<&T>,
) -> Option<&'a mut T> {
    let mut value = map.get_ptr_mut(&address);
    if value.is_none()
        && let Some(new) = new
    {
        map.insert(&address, new, 0).ok()?;
        value = map.get_ptr_mut(&address);
    }
    // SAFETY: nobody else uses the entry of a socket that is locked while this program runs for it, and the program has no other
    // reference to one.
    unsafe { value?.as_mut() }
}

/// Drops what is kept of the socket at `address`, which another socket may have in a moment.
#[inline(always)]
pub(crate) fn drop_address(address: u64) {
    let _gone_already = if needs::infos() {
        INFOS_BY_ADDR.remove(&address)
    } else {
        STATES_BY_ADDR.remove(&address)
    };
}

/// The same at `*>CLOSE`, where no program reports the death of the socket.
#[inline(always)]
pub(crate) fn drop_at_close(address: u64) {
    if param!(PARAMS.forget_at_close) != 0 {
        drop_address(address);
    }
}
