//! The histograms the kernel side keeps, summed over the CPUs.

use std::num::NonZeroU32;

use anyhow::{Context, Result};
use aya::maps::{MapError, PerCpuHashMap};
use tcpwatch_common::histogram::{ACCEPT, HANDSHAKE_CLIENT, HANDSHAKE_SERVER, HistogramKey, LENGTHS_WORDS, Lengths};
use tcpwatch_common::{TcpState, names};

use super::Kernel;
use crate::input::histogram::Histogram;
use crate::input::latency::{Group, LatencyBy, LatencySample, Measured, Retransmits, What};
use crate::input::owner::{Comm, Process};
use crate::input::socket::{Address, Family};

/// Words of 8 bytes in a key.
const KEY_WORDS: usize = size_of::<HistogramKey>() / 8;

impl Kernel {
    /// All that was measured since the start.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn latency(&self, by: LatencyBy) -> Result<LatencySample> {
        let measured = self.histograms(by)?;
        let ledger = self.ledger();
        let [syn, syn_ack, data] = ledger.retransmits;
        Ok(LatencySample {
            measured,
            retransmits: Retransmits { syn, syn_ack, data },
            unmeasured: ledger.unmeasured,
            missed: self.missed(),
        })
    }

    /// Every histogram there is.
    fn histograms(&self, by: LatencyBy) -> Result<Vec<Measured>> {
        let map = self
            .ebpf
            .map(names::MAP_HISTOGRAMS)
            .context("the BPF object has no histograms")?;
        let map: PerCpuHashMap<_, [u64; KEY_WORDS], [u64; LENGTHS_WORDS]> = PerCpuHashMap::try_from(map)?;
        // Of an empty table nothing else would show that entries cannot be read.
        match map.get(&[0; KEY_WORDS], 0) {
            Ok(_) | Err(MapError::KeyNotFound) => {}
            Err(why) => return Err(why.into()),
        }
        let mut all = Vec::new();
        let mut entries = map.iter();
        while let Some((key, cpus)) = entries.next().transpose()? {
            let key: HistogramKey = bytemuck::cast(key);
            let Some(what) = what(key.what) else { continue };
            let mut histogram = Histogram::default();
            for &words in cpus.iter() {
                let lengths: Lengths = bytemuck::cast(words);
                let max_ns = lengths.max_ns.into_iter().max().unwrap_or(0);
                histogram.merge(&Histogram::new(lengths.buckets, max_ns, lengths.unknown));
            }
            all.push(Measured {
                what,
                group: group(&key, by),
                histogram,
            });
        }
        Ok(all)
    }
}

/// What a key measures.
fn what(number: u32) -> Option<What> {
    Some(match number {
        HANDSHAKE_CLIENT => What::HandshakeClient,
        HANDSHAKE_SERVER => What::HandshakeServer,
        ACCEPT => What::Accept,
        number => What::State(TcpState::from_kernel(u8::try_from(number).ok()?)?),
    })
}

/// Of which connections.
fn group(key: &HistogramKey, by: LatencyBy) -> Group {
    if key.other != 0 {
        return Group::Other;
    }
    match by {
        LatencyBy::All => Group::All,
        LatencyBy::Lport => Group::Lport(u16::try_from(key.lport).unwrap_or(0)),
        LatencyBy::Remote => match u8::try_from(key.family).ok().and_then(Family::from_kernel) {
            Some(family) => Group::Remote(Address::new(family.address(key.remote), 0)),
            None => Group::Unknown,
        },
        LatencyBy::Process => match (NonZeroU32::new(key.pid), Comm::new(&key.comm)) {
            (None, comm) if comm == Comm::default() => Group::Unknown,
            (pid, comm) => Group::Process(Process { pid, comm }),
        },
    }
}
