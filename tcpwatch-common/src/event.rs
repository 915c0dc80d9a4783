//! The records the kernel side writes into the ring buffer. They are told apart by their size.

use bytemuck::{Pod, Zeroable};

use crate::evidence::Evidence;
use crate::owner::Owner;

/// Version of everything the two sides share; the object carries it, and the loader refuses another.
pub const ABI_VERSION: u32 = 8;

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

/// [`Transition::port`] of a connection whose local port connect(2) chose.
pub const PORT_CHOSEN: u8 = 1;
/// [`Transition::port`] of a connection that bind(2) had given its local port before connect(2) was called.
pub const PORT_BOUND: u8 = 2;

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
    /// What is known of the end, at `*>CLOSE`; zeros elsewhere.
    pub evidence: Evidence,
    /// Inode number of the socket, where it has one and its owner is not known, or where it ends in a state from which the descriptor
    /// may stay open: `CLOSE_WAIT`, `FIN_WAIT2`; 0 elsewhere.
    pub inode: u32,
    /// Where the local port is from: [`PORT_CHOSEN`], [`PORT_BOUND`], or 0 when that was not seen.
    pub port: u8,
    /// Zeros.
    pub reserved: [u8; 3],
    /// Whose the socket is.
    pub owner: Owner,
}

const _: () = assert!(size_of::<Transition>() == 128);
const _: () = assert!(core::mem::offset_of!(Transition, local) == 32);
const _: () = assert!(core::mem::offset_of!(Transition, netns) == 64);
const _: () = assert!(core::mem::offset_of!(Transition, family) == 76);

/// States a connection spends time in, in the order of [`Connection::spent_ns`], by the kernel's numbers.
pub const SPENT: [u8; 8] = [1, 2, 3, 4, 5, 8, 9, 11];

/// Where a connection's time in state `number` is kept; `None` for a state no connection stays in.
#[inline(always)]
#[must_use]
pub const fn spent_index(number: u8) -> Option<usize> {
    match number {
        1..=5 => Some(number as usize - 1),
        8 | 9 => Some(number as usize - 3),
        11 => Some(7),
        _ => None,
    }
}

/// One finished connection, written at its `*>CLOSE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Connection {
    /// Its last transition.
    pub last: Transition,
    /// Time spent in each state, ns, as [`SPENT`] orders them; 0 of the state it was in when first seen, whose start was not.
    pub spent_ns: [u64; 8],
    /// Payload the kernel tried to send, without what was sent again (`bytes_sent - bytes_retrans`): more than was sent where this
    /// host's own queue refused some.
    pub bytes_sent: u64,
    /// Sequence numbers the peer acknowledged (`bytes_acked`): the payload, a FIN, and the SYN of a connection this side opened.
    pub bytes_acked: u64,
    /// Payload received (`bytes_received`, less the FIN's one).
    pub bytes_received: u64,
    /// Sequence numbers sent and not acknowledged (`snd_nxt - snd_una`).
    pub in_flight: u32,
    /// Those that wait to be sent (`write_seq - snd_nxt`).
    pub unsent: u32,
    /// Smoothed round-trip time, us (`srtt_us >> 3`); 0 when never measured.
    pub srtt_us: u32,
    /// Segments sent again (`total_retrans`), SYN and SYN-ACK too.
    pub retransmits: u32,
    /// 1 when the seven above could be read.
    pub counted: u32,
    /// The process that closed it, where that is not the owner; 0 for none.
    pub closer_pid: u32,
    /// Its name.
    pub closer_comm: [u8; 16],
}

const _: () = assert!(size_of::<Connection>() == 128 + 64 + 24 + 8 + 16 + 16);

/// A reset was sent for a connection after its `*>CLOSE` was written: what is known of its end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Amendment {
    /// `CLOCK_MONOTONIC` in ns.
    pub time_ns: u64,
    /// Number of the life.
    pub id: u64,
    /// The whole of it, in place of what was written.
    pub evidence: Evidence,
}

const _: () = assert!(size_of::<Amendment>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_a_connection_stays_in_has_its_place() {
        for (place, number) in SPENT.into_iter().enumerate() {
            assert_eq!(spent_index(number), Some(place));
        }
        assert!(
            [0, 6, 7, 10, 12, 13]
                .into_iter()
                .all(|number| spent_index(number).is_none())
        );
    }
}
