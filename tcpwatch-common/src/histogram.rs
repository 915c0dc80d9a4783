//! Lengths of time, counted in powers of two: O(1) for each, and none lost.

use bytemuck::{Pod, Zeroable};

use crate::ledger::BANKS;

/// Buckets of a histogram.
pub const BUCKETS: usize = 64;

/// The bucket that counts `ns`: 0 for 0, else the `i` with `2^(i-1) <= ns < 2^i`; the last takes all from `2^62` on.
#[inline(always)]
#[must_use]
pub const fn bucket(ns: u64) -> usize {
    let index = (u64::BITS - ns.leading_zeros()) as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// [`HistogramKey::what`]: a client's handshake, time in `SYN_SENT` where `ESTABLISHED` follows. Below it are states, by the
/// kernel's numbers.
pub const HANDSHAKE_CLIENT: u32 = 16;
/// [`HistogramKey::what`]: a server's handshake, from SYN-ACK to ACK.
pub const HANDSHAKE_SERVER: u32 = 17;
/// [`HistogramKey::what`]: from `ESTABLISHED` until `accept()` returned it.
pub const ACCEPT: u32 = 18;

/// [`crate::Params::latency_by`]: none.
pub const BY_NONE: u32 = 0;
/// [`crate::Params::latency_by`]: all connections together.
pub const BY_ALL: u32 = 1;
/// [`crate::Params::latency_by`]: by local port.
pub const BY_LPORT: u32 = 2;
/// [`crate::Params::latency_by`]: by remote address.
pub const BY_REMOTE: u32 = 3;
/// [`crate::Params::latency_by`]: by owner.
pub const BY_PROCESS: u32 = 4;

/// What is measured, and of which connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct HistogramKey {
    /// A state's number, or one of the constants above.
    pub what: u32,
    /// 1 for what found no room under its own group.
    pub other: u32,
    /// Local port, by which the connections are grouped; 0 else.
    pub lport: u32,
    /// Process id of the owner, likewise.
    pub pid: u32,
    /// Its name.
    pub comm: [u8; 16],
    /// Remote address, likewise; the first word for IPv4.
    pub remote: [u32; 4],
    /// Family of the remote address.
    pub family: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<HistogramKey>() == 56);

/// One CPU's part of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Lengths {
    /// Lengths, by [`bucket`].
    pub buckets: [u64; BUCKETS],
    /// The longest, ns, of the runs of each bank of the ledger.
    pub max_ns: [u64; BANKS as usize],
    /// Lengths not known, for their start was not seen.
    pub unknown: u64,
}

/// Words of 8 bytes in [`Lengths`].
pub const LENGTHS_WORDS: usize = size_of::<Lengths>() / 8;
