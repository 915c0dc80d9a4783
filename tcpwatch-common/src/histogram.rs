//! Lengths of time, counted by their first two digits: O(1) for each, and none lost.

use bytemuck::{Pod, Zeroable};

/// The power of two that is the number of buckets in each power of two.
const SUB_BITS: u32 = 4;
/// Buckets of a histogram. Lengths below 16 ns have one each. Above, each power of two has 16 of equal width: the ends of one are at most
/// a sixteenth apart, and a length between them is known within 3.1 %.
pub const BUCKETS: usize = ((u64::BITS - SUB_BITS + 1) << SUB_BITS) as usize;

/// The bucket that counts `ns`.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "what the shift leaves has five bits")]
pub const fn bucket(ns: u64) -> usize {
    let shift = u64::BITS - 1 - SUB_BITS - (ns | 1 << SUB_BITS).leading_zeros();
    ((shift as usize) << SUB_BITS) + (ns >> shift) as usize
}

/// The least length that `bucket` counts, ns; that of the last bucket beyond the last.
#[must_use]
pub const fn least(bucket: usize) -> u64 {
    let bucket = if bucket < BUCKETS { bucket } else { BUCKETS - 1 };
    // Of its first power of two on, a bucket's number is its shift and five bits.
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    ((bucket - (shift << SUB_BITS)) as u64) << shift
}

/// The greatest length that `bucket` counts, ns.
#[must_use]
pub const fn greatest(bucket: usize) -> u64 {
    if bucket < BUCKETS - 1 {
        least(bucket + 1) - 1
    } else {
        u64::MAX
    }
}

/// In place of a bucket: lengths not known, for their start was not seen.
pub const UNKNOWN_BUCKET: usize = BUCKETS;
/// Counters of one thing that is measured: a power of two.
pub const COUNTERS: u32 = 1024;

const _: () = assert!(UNKNOWN_BUCKET < COUNTERS as usize);

/// What is measured: a client's handshake, time in `SYN_SENT` where `ESTABLISHED` follows. Below it are states, by the kernel's numbers.
pub const HANDSHAKE_CLIENT: u32 = 16;
/// What is measured: a server's handshake, from SYN-ACK to ACK.
pub const HANDSHAKE_SERVER: u32 = 17;
/// What is measured: from `ESTABLISHED` until `accept()` returned it.
pub const ACCEPT: u32 = 18;
/// How many things are measured.
pub const MEASURED: u32 = 19;

/// Copies of the counters of all connections together: CPUs share them, and are kept from waiting for each other.
pub const SHARDS: u32 = 8;
/// Counters of all connections together.
pub const TOTALS: u32 = SHARDS * MEASURED * COUNTERS;

/// The counter of `bucket` of `what`, in a copy that `shard` chooses.
#[inline(always)]
#[must_use]
pub const fn total(shard: u32, what: u32, bucket: u32) -> u32 {
    (shard % SHARDS * MEASURED + what) * COUNTERS + bucket
}

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

/// A bucket of a group of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BucketKey {
    /// Its number, or [`UNKNOWN_BUCKET`].
    pub bucket: u16,
    /// A state's number, or one of the constants above.
    pub what: u8,
    /// Which of the two banks it is in.
    pub bank: u8,
    /// Local port, process id of the owner or family of the remote address, by which the connections are grouped.
    pub number: u32,
    /// Name of the owner, or the remote address; the first word for IPv4.
    pub name: [u32; 4],
}

const _: () = assert!(size_of::<BucketKey>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_one_bucket() {
        for (ns, index) in [
            (0, 0),
            (1, 1),
            (15, 15),
            (16, 16),
            (31, 31),
            (32, 32),
            (33, 32),
            (34, 33),
            (63, 47),
            (64, 48),
            (u64::MAX, BUCKETS - 1),
        ] {
            assert_eq!(bucket(ns), index, "{ns}");
        }
        for index in 0..BUCKETS {
            assert_eq!((bucket(least(index)), bucket(greatest(index))), (index, index));
            assert!(index == 0 || least(index) == greatest(index - 1) + 1);
        }
        // Beyond the last there is none, and asking is no harm.
        assert_eq!(
            (least(BUCKETS), greatest(BUCKETS)),
            (least(BUCKETS - 1), greatest(BUCKETS - 1))
        );
    }

    #[test]
    fn counters_are_apart() {
        assert_eq!(total(0, 0, 5), 5);
        assert_eq!(total(1, 0, 0), MEASURED * 1024);
        assert_eq!(total(SHARDS, 1, 0), total(0, 1, 0));
        assert_eq!(total(SHARDS - 1, MEASURED - 1, COUNTERS - 1), TOTALS - 1);
    }
}
