//! Reads the latency histograms of the kernel side.

use std::mem::offset_of;
use std::num::NonZeroU32;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use hashbrown::HashMap;
use tcpwatch_common::histogram::{
    ACCEPT, BucketKey, COUNTERS, HANDSHAKE_CLIENT, HANDSHAKE_SERVER, MEASURED, UNKNOWN_BUCKET, total,
};
use tcpwatch_common::record::spent_index;
use tcpwatch_common::{Ledger, TcpState, names};

use super::Kernel;
use super::bpf::{self, Barrier};
use super::mapped_words::MappedWords;
use super::needs::LatencyGroups;
use crate::input::histogram::Histogram;
use crate::input::latency::{LatencyBy, LatencyGroup, LatencySample, Measure, Measured, Retransmits};
use crate::input::owner::Owner;
use crate::input::record::owner_from_kernel;
use crate::input::socket::{Address, Family};

/// Counters in one copy of the totals.
const SHARD: usize = (MEASURED * COUNTERS) as usize;

/// Reads the latency histograms.
pub(super) struct Histograms {
    by: LatencyGroups,
    totals: MappedWords,
    /// The sum of the shards of each counter at the last read.
    before: Vec<u64>,
    groups: Option<Groups>,
}

/// The buckets of groups, in two banks: the BPF programs write one, and the other is empty.
struct Groups {
    buckets: MapData,
    bank_map: Array<MapData, u32>,
    bank: u8,
    barrier: Barrier,
}

impl Kernel {
    /// The measurements since the previous call, or the start; `None` if nothing is measured.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn latency(&mut self) -> Result<Option<LatencySample>> {
        let Some(histograms) = &mut self.histograms else {
            return Ok(None);
        };
        let measured = histograms.read().context("cannot read the histograms")?;
        let [syn, syn_ack, data] = self.counters(offset_of!(Ledger, retransmits));
        let [unmeasured] = self.counters(offset_of!(Ledger, unmeasured));
        Ok(Some(LatencySample {
            measured,
            retransmits: Retransmits { syn, syn_ack, data },
            unmeasured,
            missed: self.missed(),
        }))
    }
}

impl Histograms {
    /// Takes the maps out of `ebpf`.
    ///
    /// # Errors
    /// One line: what the kernel refuses and why.
    pub(super) fn new(ebpf: &mut Ebpf, by: LatencyGroups) -> Result<Self> {
        let mut take = |name| ebpf.take_map(name).context("the BPF object has no histograms");
        let totals = MappedWords::new(take(names::MAP_TOTALS)?, 1)?;
        let groups = if by.are_several() {
            Some(Groups::new(take(names::MAP_BUCKETS)?, take(names::MAP_BANK)?)?)
        } else {
            None
        };
        Ok(Self {
            by,
            before: vec![0; SHARD],
            totals,
            groups,
        })
    }

    /// The counts since the last read.
    fn read(&mut self) -> Result<Vec<Measured>> {
        let mut histograms = HashMap::new();
        let mut count = |measure, group, bucket, count| {
            let histogram: &mut Histogram = histograms.entry((measure, group)).or_default();
            if bucket == UNKNOWN_BUCKET {
                histogram.add_unknown(count);
            } else {
                histogram.add(bucket, count);
            }
        };
        if let Some(groups) = &mut self.groups {
            for (key, counted) in groups.drain()? {
                if let Some(measure) = measure_from_kernel(key.measure.into()) {
                    count(measure, group(&key, self.by), usize::from(key.bucket), counted);
                }
            }
        }
        let all = if self.groups.is_some() {
            LatencyGroup::Other
        } else {
            LatencyGroup::All
        };
        for (number, before) in (0..MEASURED).zip(self.before.chunks_exact_mut(COUNTERS as usize)) {
            let Some(measure) = measure_from_kernel(number) else {
                continue;
            };
            let mut now = [0u64; COUNTERS as usize];
            let first = total(0, number, 0) as usize;
            for shard in (first..self.totals.len()).step_by(SHARD) {
                for (bucket, sum) in now.iter_mut().enumerate() {
                    *sum = sum.wrapping_add(self.totals.word(shard + bucket));
                }
            }
            for (bucket, (before, now)) in before.iter_mut().zip(now).enumerate() {
                let counted = now.wrapping_sub(*before);
                if counted > 0 {
                    count(measure, (all, None), bucket, counted);
                    *before = now;
                }
            }
        }
        let measured = histograms.into_iter();
        Ok(measured
            .map(|((measure, (group, owner)), histogram)| Measured {
                measure,
                group,
                owner,
                histogram,
            })
            .collect())
    }
}

impl Groups {
    fn new(buckets: Map, bank: Map) -> Result<Self> {
        let Map::HashMap(buckets) = buckets else {
            bail!("the BPF object has no table of histograms")
        };
        // Fail now if this cannot be read, not after the first interval.
        bpf::entries::<BucketKey, u64>(buckets.fd().as_fd())?;
        bpf::remove::<u64>(buckets.fd().as_fd(), &mut [])?;
        Ok(Self {
            buckets,
            bank_map: bank.try_into()?,
            bank: 0,
            barrier: Barrier::new()?,
        })
    }

    /// Reads and removes all counts. Meanwhile the BPF programs count in the other bank.
    fn drain(&mut self) -> Result<Vec<(BucketKey, u64)>> {
        let full = self.bank;
        self.bank ^= 1;
        self.bank_map.set(0, u32::from(self.bank), 0)?;
        // A program may have chosen the full bank, but not have written it yet.
        self.barrier.wait()?;
        let map = self.buckets.fd().as_fd();
        let mut counted: Vec<(BucketKey, u64)> = bpf::entries(map)?;
        counted.retain(|(key, _)| key.bank == full);
        let mut keys: Vec<BucketKey> = counted.iter().map(|(key, _)| *key).collect();
        bpf::remove(map, &mut keys)?;
        Ok(counted)
    }
}

/// Returns the measure of `number`, if there is one.
fn measure_from_kernel(number: u32) -> Option<Measure> {
    Some(match number {
        HANDSHAKE_CLIENT => Measure::HandshakeClient,
        HANDSHAKE_SERVER => Measure::HandshakeServer,
        ACCEPT => Measure::Accept,
        number => {
            let state = u8::try_from(number).ok()?;
            spent_index(state)?;
            Measure::State(TcpState::from_kernel(state)?)
        }
    })
}

/// Returns the group of `key` and the owner in it.
fn group(key: &BucketKey, groups: LatencyGroups) -> (LatencyGroup, Option<Owner>) {
    let netns = NonZeroU32::new(key.netns);
    let group = match groups.by {
        LatencyBy::All | LatencyBy::Owner(_) => LatencyGroup::All,
        LatencyBy::Lport => LatencyGroup::Lport {
            port: u16::try_from(key.lport).unwrap_or(0),
            netns,
        },
        LatencyBy::Remote => match u8::try_from(key.family).ok().and_then(Family::from_kernel) {
            Some(family) => LatencyGroup::Remote {
                address: Address::new(family.address(key.remote), 0),
                netns,
            },
            None => LatencyGroup::Unknown,
        },
    };
    (group, owner_from_kernel(&key.owner))
}
