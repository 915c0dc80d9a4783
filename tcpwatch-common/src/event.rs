//! The record the kernel side writes into the ring buffer, one a transition.

use bytemuck::{Pod, Zeroable};

/// Version of everything the two sides share; the object carries it, and the loader refuses another.
pub const ABI_VERSION: u32 = 1;

/// Address family of an IPv4 socket (`AF_INET`).
pub const AF_INET: u8 = 2;
/// Address family of an IPv6 socket (`AF_INET6`), IPv4-mapped ones included.
pub const AF_INET6: u8 = 10;

/// [`Transition::dwell_ns`] of a birth or of an unknown start.
pub const DWELL_UNKNOWN: u64 = u64::MAX;

/// [`Transition::opened`] of a connection this side opened (`CLOSE>SYN_SENT`).
pub const OPENED_ACTIVE: u8 = 1;
/// [`Transition::opened`] of a connection the peer opened (`LISTEN>SYN_RECV`).
pub const OPENED_PASSIVE: u8 = 2;

/// One transition of one socket, as seen at `sock:inet_sock_set_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Transition {
    /// `CLOCK_MONOTONIC` in ns (`bpf_ktime_get_ns`).
    pub time_ns: u64,
    /// Number of this life of the socket, never used twice by one run; 0 when the kernel refused to remember it.
    pub id: u64,
    /// The socket's cookie, as `ss -e` shows it; 0 when unknown.
    pub cookie: u64,
    /// Time spent in `from`, ns; [`DWELL_UNKNOWN`] for a birth and where the start was not seen.
    pub dwell_ns: u64,
    /// Local address in network order; an IPv4 address fills the first word.
    pub local: [u32; 4],
    /// Remote address, likewise.
    pub remote: [u32; 4],
    /// Inode number of the network namespace; 0 when unknown.
    pub netns: u32,
    /// Interface the socket is bound to, the zone of a link-local address; 0 for none.
    pub ifindex: u32,
    /// Local port, host order; 0 when not chosen or unknown.
    pub lport: u16,
    /// Remote port, host order; 0 when unknown.
    pub rport: u16,
    /// [`AF_INET`] or [`AF_INET6`].
    pub family: u8,
    /// State left, the kernel's number.
    pub from: u8,
    /// State entered, the kernel's number.
    pub to: u8,
    /// Who opened the connection: [`OPENED_ACTIVE`], [`OPENED_PASSIVE`], or 0 when that was not seen.
    pub opened: u8,
}

const _: () = assert!(size_of::<Transition>() == 80);
const _: () = assert!(core::mem::offset_of!(Transition, local) == 32);
const _: () = assert!(core::mem::offset_of!(Transition, netns) == 64);
const _: () = assert!(core::mem::offset_of!(Transition, family) == 76);
