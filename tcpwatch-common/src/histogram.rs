//! The buckets of latency histograms, which the BPF programs count in.

use bytemuck::{Pod, Zeroable};

use crate::Owner;

/// Bits that choose a bucket within a power of two.
const SUB_BITS: u32 = 4;
/// Buckets of a histogram. Each time below 16 ns has a bucket. Above, each power of two has 16 buckets of equal width. The ends of a
/// bucket are at most a sixteenth apart, so a time in it is known within 3.1 %.
pub const BUCKETS: usize = ((u64::BITS - SUB_BITS + 1) << SUB_BITS) as usize;

/// Returns the bucket that counts `ns`.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the shift leaves five bits")]
pub const fn bucket(ns: u64) -> usize {
    let shift = u64::BITS - 1 - SUB_BITS - (ns | 1 << SUB_BITS).leading_zeros();
    ((shift as usize) << SUB_BITS) + (ns >> shift) as usize
}

/// Returns the shortest time in `bucket`, ns. A number that is too large stands for the last bucket.
#[must_use]
pub const fn least(bucket: usize) -> u64 {
    let bucket = if bucket < BUCKETS { bucket } else { BUCKETS - 1 };
    // From 32 ns on, the number of a bucket is its shift and the first five bits of its times.
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    ((bucket - (shift << SUB_BITS)) as u64) << shift
}

/// Returns the longest time in `bucket`, ns.
#[must_use]
pub const fn greatest(bucket: usize) -> u64 {
    if bucket < BUCKETS - 1 {
        least(bucket + 1) - 1
    } else {
        u64::MAX
    }
}

/// Stands for a bucket: counts times that are unknown, because their start was not seen.
pub const UNKNOWN_BUCKET: usize = BUCKETS;
/// Counters of one measure: a power of two.
pub const COUNTERS: u32 = 1024;

const _: () = assert!(UNKNOWN_BUCKET < COUNTERS as usize);

/// A measure: the client's handshake, time in `SYN_SENT` if `ESTABLISHED` follows. Smaller numbers are states, as the kernel numbers them.
pub const HANDSHAKE_CLIENT: u32 = 16;
/// A measure: the server's handshake, from SYN-ACK to ACK.
pub const HANDSHAKE_SERVER: u32 = 17;
/// A measure: the wait for `accept()`, from `ESTABLISHED` on.
pub const ACCEPT: u32 = 18;
/// Number of measures.
pub const MEASURED: u32 = 19;

/// Copies of the counters of all connections. CPUs write different copies, so that they seldom wait for each other.
pub const SHARDS: u32 = 8;

/// Returns the number of counters of all connections, in all copies, on a host with `cpus` CPUs.
#[must_use]
pub const fn totals(cpus: u32) -> u32 {
    let shards = if cpus < SHARDS { cpus } else { SHARDS };
    shards * MEASURED * COUNTERS
}

/// Returns the index of the counter of `bucket` of `measure`, in the copy that `cpu` writes.
#[inline(always)]
#[must_use]
pub const fn total(cpu: u32, measure: u32, bucket: u32) -> u32 {
    (cpu % SHARDS * MEASURED + measure) * COUNTERS + bucket
}

/// [`crate::Params::latency_by`]: none.
pub const BY_NONE: u32 = 0;
/// [`crate::Params::latency_by`]: all connections together.
pub const BY_ALL: u32 = 1;
/// [`crate::Params::latency_by`]: by local port.
pub const BY_LPORT: u32 = 2;
/// [`crate::Params::latency_by`]: by remote address.
pub const BY_REMOTE: u32 = 3;

/// Identifies a bucket of a group of connections. The alignment lets the BPF programs write it in 8 byte words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct BucketKey {
    /// Number of the bucket, or [`UNKNOWN_BUCKET`].
    pub bucket: u16,
    /// A state's number, or one of the constants above.
    pub measure: u8,
    /// Bank of the map: 0 or 1.
    pub bank: u8,
    /// Inode number of the network namespace of the port or address; 0 if unknown, or if there is neither.
    pub netns: u32,
    /// Local port.
    pub lport: u32,
    /// Family of the remote address.
    pub family: u32,
    /// Remote address; the first word for IPv4.
    pub remote: [u32; 4],
    /// The owner; [`Owner::UNKNOWN`] if the connections are not grouped by owner.
    pub owner: Owner,
}

const _: () = assert!(size_of::<BucketKey>() == 64);

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
        // A number that is too large stands for the last bucket.
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
        for cpus in [1, 2, SHARDS, 1000] {
            let last = (0..cpus).map(|cpu| total(cpu, MEASURED - 1, COUNTERS - 1)).max();
            assert_eq!(last, Some(totals(cpus) - 1));
        }
    }
}
