//! `latency` for programs: `tcpwatch.latency/1`, one object a histogram, and `tcpwatch.latency.end/1` at the end of an interval.

use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::line;
use super::owner_group::GroupObject;
use crate::detect::finding::Finding;
use crate::input::histogram::Histogram;
use crate::input::latency::{LatencyBy, LatencyGroup};
use crate::model::frame::Frame;
use crate::model::latency::Group;
use crate::model::owner_group::OwnerGroup;
use crate::view::View;
use crate::view::timestamp::rfc3339;

/// One object a histogram.
#[derive(Debug)]
pub struct Json;

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    time: &'a str,
    interval_s: f64,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Key<'a>>,
    count: u64,
    unknown_start: u64,
    ns: Quantiles,
    buckets: Buckets<'a>,
}

/// What the connections of a group have in common: `{"lport":80,"netns":4026531840}`, `{"process":{"pid":812,"comm":"nginx"}}`,
/// `{"pod":"UID","pod_name":"shop/cart-0"}`; `{"other":true}` for the groups without room.
struct Key<'a> {
    by: LatencyBy,
    group: &'a Group,
}

#[derive(Serialize)]
struct Quantiles {
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

#[derive(Serialize)]
struct End<'a> {
    schema: &'static str,
    time: &'a str,
    interval_s: f64,
    evicted_groups: u64,
    retransmits: Option<Retransmits>,
    unmeasured: u64,
    missed: Option<u64>,
}

#[derive(Serialize)]
struct Retransmits {
    syn: u64,
    syn_ack: u64,
    data: u64,
}

/// The buckets of a histogram that are not empty, each with its shortest and its longest time.
struct Buckets<'a>(&'a Histogram);

#[derive(Serialize)]
struct Bucket {
    from_ns: u64,
    le_ns: u64,
    count: u64,
}

impl<'a> Key<'a> {
    fn new(by: LatencyBy, group: &'a Group) -> Option<Self> {
        (by != LatencyBy::All).then_some(Self { by, group })
    }
}

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Group::Owner(owner @ (OwnerGroup::Cgroup(_) | OwnerGroup::Container(_) | OwnerGroup::Pod(_))) =
            self.group
        {
            return GroupObject(owner).serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        let by = self.by.key().unwrap_or_default();
        match self.group {
            Group::Owner(OwnerGroup::Comm(comm)) => map.serialize_entry(by, comm)?,
            Group::Owner(owner) => map.serialize_entry(by, &GroupObject(owner))?,
            Group::Kernel(LatencyGroup::Lport { port, .. }) => map.serialize_entry(by, port)?,
            Group::Kernel(LatencyGroup::Remote { address, .. }) => {
                map.serialize_entry(by, &format_args!("{address}"))?;
            }
            // No group has this key, whatever its name.
            Group::Kernel(LatencyGroup::Other) => map.serialize_entry("other", &true)?,
            Group::Kernel(LatencyGroup::All | LatencyGroup::Unknown) => map.serialize_entry(by, &None::<()>)?,
        }
        if matches!(self.by, LatencyBy::Lport | LatencyBy::Remote) {
            map.serialize_entry("netns", &self.group.netns())?;
        }
        map.end()
    }
}

impl Serialize for Buckets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.buckets().map(|bucket| Bucket {
            from_ns: bucket.from_ns,
            le_ns: bucket.le_ns,
            count: bucket.count,
        }))
    }
}

impl View for Json {
    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.latency else {
            return Ok(());
        };
        let time = rfc3339(frame.time);
        for measured in &frame.measured {
            let histogram = &measured.histogram;
            let line = Line {
                schema: "tcpwatch.latency/1",
                time: &time,
                interval_s: frame.interval_s,
                what: measured.measure.key(),
                key: Key::new(frame.by, &measured.group),
                count: histogram.count(),
                unknown_start: histogram.unknown(),
                ns: Quantiles {
                    p50: histogram.quantile(0.5),
                    p90: histogram.quantile(0.9),
                    p99: histogram.quantile(0.99),
                    max: histogram.max(),
                },
                buckets: Buckets(histogram),
            };
            line::write(out, &line)?;
        }
        let end = End {
            schema: "tcpwatch.latency.end/1",
            time: &time,
            interval_s: frame.interval_s,
            evicted_groups: frame.evicted,
            retransmits: frame.retransmits.map(|sent| Retransmits {
                syn: sent.syn,
                syn_ack: sent.syn_ack,
                data: sent.data,
            }),
            unmeasured: frame.unmeasured,
            missed: frame.missed,
        };
        line::write(out, &end)
    }
}
