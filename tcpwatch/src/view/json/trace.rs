//! `trace` and `life` as JSON: `tcpwatch.trace/1` and `tcpwatch.life/1`, one object per line.

use std::fmt::Display;
use std::io::{self, Write};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use serde::{Serialize, Serializer};

use super::container::ContainerFields;
use super::line;
use crate::input::owner::{Owner, UnknownOwner};
use crate::input::socket::Address;
use crate::input::{Opened, Transition};
use crate::model::ending::Ending;
use crate::model::trace::{TraceRecord, TraceRow, TraceTotals};
use crate::view::timestamp::Stamp;
use crate::view::trace::TraceFormat;

/// The JSON fields that only one kind of record has.
pub trait JsonFields: TraceRecord {
    /// Schema of a row.
    const SCHEMA: &'static str;
    /// Schema of the totals.
    const TOTALS_SCHEMA: &'static str;
    /// The fields.
    type Fields<'a>: Serialize
    where
        Self: 'a;

    /// The fields of this record; `stamp` formats times.
    fn fields<'a>(&'a self, stamp: &'a mut Stamp) -> Self::Fields<'a>;
}

/// One object per record, and one with the totals at the end.
#[derive(Debug)]
pub struct Json {
    stamp: Stamp,
    opened_stamp: Stamp,
    line: Vec<u8>,
}

/// One row.
#[derive(Serialize)]
struct RowObject<'a, T: Serialize> {
    schema: &'static str,
    time: &'a str,
    id: Option<Hex>,
    cookie: Option<Hex>,
    family: &'static str,
    #[serde(serialize_with = "text")]
    local: Address,
    lport: Option<NonZeroU16>,
    #[serde(serialize_with = "text")]
    remote: Address,
    rport: Option<NonZeroU16>,
    opened: Option<&'static str>,
    #[serde(flatten)]
    fields: T,
    owner: Option<Owner>,
    owner_unknown: Option<&'static str>,
    netns: Option<NonZeroU32>,
    cgroup: Option<&'a str>,
    #[serde(flatten)]
    container: ContainerFields<'a>,
    ended: Option<&'static str>,
}

/// A number in hexadecimal, as `ss -e` prints cookies.
struct Hex(NonZeroU64);

/// The fields of a transition.
#[derive(Serialize)]
pub struct TransitionFields {
    from: &'static str,
    to: &'static str,
    dwell_ns: Option<u64>,
}

/// The totals of the run.
#[derive(Serialize)]
struct TotalsObject<'a> {
    schema: &'static str,
    #[serde(flatten)]
    totals: &'a TraceTotals,
}

impl Default for Json {
    fn default() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
            opened_stamp: Stamp::rfc3339(),
            line: Vec::with_capacity(1024),
        }
    }
}

impl JsonFields for Transition {
    const SCHEMA: &'static str = "tcpwatch.trace/1";
    const TOTALS_SCHEMA: &'static str = "tcpwatch.trace.end/1";
    type Fields<'a> = TransitionFields;

    fn fields<'a>(&'a self, _: &'a mut Stamp) -> TransitionFields {
        TransitionFields {
            from: self.from.key(),
            to: self.to.key(),
            dwell_ns: self.dwell_ns,
        }
    }
}

impl<T: JsonFields> TraceFormat<T> for Json {
    fn header(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, row: &TraceRow<T>, out: &mut dyn Write) -> io::Result<()> {
        let event = row.record.event();
        let cgroup = row.cgroup.as_deref();
        let object = RowObject {
            schema: T::SCHEMA,
            time: self.stamp.text(event.unix_ns),
            id: event.id.map(Hex),
            cookie: event.cookie.map(Hex),
            family: event.family.key(),
            local: event.local,
            lport: event.lport,
            remote: event.remote,
            rport: event.rport,
            opened: event.opened.map(Opened::key),
            fields: row.record.fields(&mut self.opened_stamp),
            owner: event.owner,
            owner_unknown: row.owner_unknown.map(UnknownOwner::key),
            netns: event.netns,
            cgroup: cgroup.map(|cgroup| cgroup.path.as_str()),
            container: ContainerFields::new(cgroup),
            ended: row.ending.map(Ending::key),
        };
        // serde_json makes many small writes; `out` gets one per line.
        self.line.clear();
        line::write(&mut self.line, &object)?;
        out.write_all(&self.line)
    }

    fn totals(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
        let schema = T::TOTALS_SCHEMA;
        line::write(out, &TotalsObject { schema, totals })
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:x}", self.0))
    }
}

/// Serializes a value as the text that it displays.
fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
