//! Columns of latency histograms.

use std::num::NonZeroU32;

use anyhow::{Context as _, Result};
use tcpwatch_common::TcpState;

use super::columns::{column_as, column_names, column_struct};
use crate::input::histogram::{Histogram, bucket};
use crate::input::latency::{LatencyGroup, LatencySample, Measure, Measured, Retransmits};
use crate::input::owner::Owner;
use crate::input::socket::Address;

/// A measure in columns.
pub(crate) struct MeasureRow {
    kind: MeasureKind,
    state: Option<TcpState>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum MeasureKind {
    HandshakeClient,
    HandshakeServer,
    Accept,
    State,
}

impl MeasureKind {
    const ALL: [Self; 4] = [Self::HandshakeClient, Self::HandshakeServer, Self::Accept, Self::State];

    const fn key(self) -> &'static str {
        match self {
            Self::HandshakeClient => Measure::HandshakeClient.key(),
            Self::HandshakeServer => Measure::HandshakeServer.key(),
            Self::Accept => Measure::Accept.key(),
            Self::State => "state",
        }
    }
}

impl From<Measure> for MeasureRow {
    fn from(measure: Measure) -> Self {
        let (kind, state) = match measure {
            Measure::HandshakeClient => (MeasureKind::HandshakeClient, None),
            Measure::HandshakeServer => (MeasureKind::HandshakeServer, None),
            Measure::Accept => (MeasureKind::Accept, None),
            Measure::State(state) => (MeasureKind::State, Some(state)),
        };
        Self { kind, state }
    }
}

impl TryFrom<MeasureRow> for Measure {
    type Error = anyhow::Error;

    fn try_from(row: MeasureRow) -> Result<Self> {
        Ok(match row.kind {
            MeasureKind::HandshakeClient => Self::HandshakeClient,
            MeasureKind::HandshakeServer => Self::HandshakeServer,
            MeasureKind::Accept => Self::Accept,
            MeasureKind::State => Self::State(row.state.context("a measure of a state has none")?),
        })
    }
}

/// A group in columns.
pub(crate) struct GroupRow {
    kind: GroupKind,
    netns: Option<NonZeroU32>,
    lport: Option<u16>,
    remote: Option<Address>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum GroupKind {
    All,
    Lport,
    Remote,
    Unknown,
    Other,
}

impl GroupKind {
    const ALL: [Self; 5] = [Self::All, Self::Lport, Self::Remote, Self::Unknown, Self::Other];

    const fn key(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Lport => "lport",
            Self::Remote => "remote",
            Self::Unknown => "unknown",
            Self::Other => "other",
        }
    }
}

impl From<LatencyGroup> for GroupRow {
    fn from(group: LatencyGroup) -> Self {
        let of = |kind| Self {
            kind,
            netns: group.netns(),
            lport: None,
            remote: None,
        };
        match group {
            LatencyGroup::All => of(GroupKind::All),
            LatencyGroup::Unknown => of(GroupKind::Unknown),
            LatencyGroup::Other => of(GroupKind::Other),
            LatencyGroup::Lport { port, .. } => Self {
                lport: Some(port),
                ..of(GroupKind::Lport)
            },
            LatencyGroup::Remote { address, .. } => Self {
                remote: Some(address),
                ..of(GroupKind::Remote)
            },
        }
    }
}

impl TryFrom<GroupRow> for LatencyGroup {
    type Error = anyhow::Error;

    fn try_from(row: GroupRow) -> Result<Self> {
        let netns = row.netns;
        Ok(match row.kind {
            GroupKind::All => Self::All,
            GroupKind::Unknown => Self::Unknown,
            GroupKind::Other => Self::Other,
            GroupKind::Lport => Self::Lport {
                port: row.lport.context("a group has no port")?,
                netns,
            },
            GroupKind::Remote => Self::Remote {
                address: row.remote.context("a group has no address")?,
                netns,
            },
        })
    }
}

/// A histogram in columns.
pub(crate) struct HistogramRow {
    buckets: Vec<BucketRow>,
    unknown: u64,
}

#[derive(Clone)]
pub(crate) struct BucketRow {
    from_ns: u64,
    count: u64,
}

column_names!(MeasureKind: MeasureKind::ALL, MeasureKind::key);
column_names!(GroupKind: GroupKind::ALL, GroupKind::key);
column_struct!(MeasureRow { kind: MeasureKind, state: Option<TcpState> });
column_struct!(GroupRow {
    kind: GroupKind,
    netns: Option<NonZeroU32>,
    lport: Option<u16>,
    remote: Option<Address>,
});
column_struct!(BucketRow {
    from_ns: u64,
    count: u64
});
column_struct!(HistogramRow { buckets: Vec<BucketRow>, unknown: u64 });
column_as!(Measure as MeasureRow, |&measure| measure.into(), Measure::try_from);
column_as!(LatencyGroup as GroupRow, |&group| group.into(), LatencyGroup::try_from);
column_as!(
    Histogram as HistogramRow,
    |histogram| HistogramRow {
        buckets: histogram
            .buckets()
            .map(|bucket| BucketRow {
                from_ns: bucket.from_ns,
                count: bucket.count,
            })
            .collect(),
        unknown: histogram.unknown(),
    },
    |row| {
        let mut histogram = Histogram::default();
        for BucketRow { from_ns, count } in row.buckets {
            histogram.add(bucket(from_ns), count);
        }
        histogram.add_unknown(row.unknown);
        Ok(histogram)
    }
);
column_struct!(Measured {
    measure: Measure,
    group: LatencyGroup,
    owner: Option<Owner>,
    histogram: Histogram
});
column_struct!(Retransmits {
    syn: u64,
    syn_ack: u64,
    data: u64
});
column_struct!(LatencySample {
    measured: Vec<Measured>,
    retransmits: Retransmits,
    unmeasured: u64,
    missed: Option<u64>,
});
