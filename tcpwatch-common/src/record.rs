//! The records that the BPF programs write into the ring buffer. Each kind has a different size.

use bytemuck::{Pod, Zeroable};

use crate::evidence::Evidence;
use crate::owner::Owner;

/// Version of everything in this crate. The object contains it, and the loader refuses an object with another version.
pub const ABI_VERSION: u32 = 9;

/// Address family of an IPv4 socket (`AF_INET`).
pub const AF_INET: u8 = 2;
/// Address family of an IPv6 socket (`AF_INET6`), including IPv4-mapped addresses.
pub const AF_INET6: u8 = 10;

/// [`Transition::dwell_ns`] of a new connection, or if the start of the state is unknown.
pub const DWELL_UNKNOWN: u64 = u64::MAX;

/// [`Transition::opened`] of a connection that this side opened (`CLOSE>SYN_SENT`).
pub const OPENED_ACTIVE: u8 = 1;
/// [`Transition::opened`] of a connection that the peer opened (`LISTEN>SYN_RECV`).
pub const OPENED_PASSIVE: u8 = 2;

/// [`Transition::port`] if connect(2) chose the local port.
pub const PORT_CHOSEN: u8 = 1;
/// [`Transition::port`] if bind(2) set the local port before connect(2).
pub const PORT_BOUND: u8 = 2;

/// A transition of a socket, from `sock:inet_sock_set_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Transition {
    /// `CLOCK_MONOTONIC` in ns (`bpf_ktime_get_ns`).
    pub time_ns: u64,
    /// Connection number, unique within one run; 0 if there was no room to keep it.
    pub id: u64,
    /// Cookie of the socket, as in `ss -e`; 0 if unknown.
    pub cookie: u64,
    /// Time spent in `from`, ns; [`DWELL_UNKNOWN`] for a new connection, and if the start was not seen.
    pub dwell_ns: u64,
    /// Local address in network order; an IPv4 address fills the first word.
    pub local: [u32; 4],
    /// Remote address, likewise.
    pub remote: [u32; 4],
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// Interface that the socket is bound to: the zone of a link-local address; 0 for none.
    pub ifindex: u32,
    /// Local port, host order; 0 if not chosen or unknown.
    pub lport: u16,
    /// Remote port, host order; 0 if unknown.
    pub rport: u16,
    /// [`AF_INET`] or [`AF_INET6`].
    pub family: u8,
    /// State left, the kernel's number.
    pub from: u8,
    /// State entered, the kernel's number.
    pub to: u8,
    /// Which side opened the connection: [`OPENED_ACTIVE`], [`OPENED_PASSIVE`], or 0 if unknown.
    pub opened: u8,
    /// Evidence of how the connection ended, at `*>CLOSE`; zeros elsewhere.
    pub evidence: Evidence,
    /// Inode number of the socket, if it has one and its owner is unknown, or if it ends in a state in which the descriptor may
    /// stay open (`CLOSE_WAIT`, `FIN_WAIT2`); 0 elsewhere.
    pub inode: u32,
    /// How the local port was set: [`PORT_CHOSEN`], [`PORT_BOUND`], or 0 if unknown.
    pub port: u8,
    /// Zeros.
    pub reserved: [u8; 3],
    /// The owner of the socket.
    pub owner: Owner,
}

const _: () = assert!(size_of::<Transition>() == 128);
const _: () = assert!(core::mem::offset_of!(Transition, local) == 32);
const _: () = assert!(core::mem::offset_of!(Transition, netns) == 64);
const _: () = assert!(core::mem::offset_of!(Transition, family) == 76);

/// The states in which a connection spends time, in the order of [`Connection::spent_ns`], by the kernel's numbers.
pub const SPENT: [u8; 8] = [1, 2, 3, 4, 5, 8, 9, 11];

/// The index of state `number` in [`Connection::spent_ns`]; `None` for a state in which no connection stays.
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

/// A finished connection, written at its `*>CLOSE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Connection {
    /// The last transition.
    pub last: Transition,
    /// Time spent in each state, ns, in the order of [`SPENT`]. 0 for the first seen state, if its start was not seen.
    pub spent_ns: [u64; 8],
    /// Payload that the kernel tried to send, without retransmissions (`bytes_sent - bytes_retrans`), bytes. Too large if this
    /// host's queue refused segments.
    pub bytes_sent: u64,
    /// Sequence numbers that the peer acknowledged (`bytes_acked`): the payload, a FIN, and the SYN of a connection that this
    /// side opened.
    pub bytes_acked: u64,
    /// Payload received (`bytes_received` minus one for the FIN), bytes.
    pub bytes_received: u64,
    /// Sequence numbers sent but not acknowledged (`snd_nxt - snd_una`).
    pub in_flight: u32,
    /// Sequence numbers not sent yet (`write_seq - snd_nxt`).
    pub unsent: u32,
    /// Smoothed round-trip time, us (`srtt_us >> 3`); 0 if never measured.
    pub srtt_us: u32,
    /// Retransmitted segments (`total_retrans`), including SYN and SYN-ACK.
    pub retransmits: u32,
    /// 1 if the seven fields above could be read.
    pub counted: u32,
    /// The process that closed it, if that is not the owner; 0 for none.
    pub closer_pid: u32,
    /// Name of this process.
    pub closer_comm: [u8; 16],
}

const _: () = assert!(size_of::<Connection>() == 128 + 64 + 24 + 8 + 16 + 16);

/// New evidence for a connection, because a reset was sent after its `*>CLOSE` record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Amendment {
    /// `CLOCK_MONOTONIC` in ns.
    pub time_ns: u64,
    /// Connection number.
    pub id: u64,
    /// The complete evidence. It replaces the evidence of the earlier record.
    pub evidence: Evidence,
}

const _: () = assert!(size_of::<Amendment>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_with_time_has_an_index() {
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
