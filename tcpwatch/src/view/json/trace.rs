//! `trace` for programs: `tcpwatch.trace/1`, one object a line.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::num::{NonZeroU16, NonZeroU32};

use serde::Serialize;

use crate::event::Event;
use crate::model::ending::Ending;
use crate::model::owner::Owner;
use crate::model::socket::Address;
use crate::model::trace::{Row, TraceTotals};
use crate::view::time::Stamp;
use crate::view::trace::TraceView;

/// One object a transition, and one at the end.
#[derive(Debug)]
pub struct Json {
    stamp: Stamp,
    id: String,
    cookie: String,
    local: String,
    remote: String,
    line: Vec<u8>,
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    time: &'a str,
    id: Option<&'a str>,
    cookie: Option<&'a str>,
    family: &'static str,
    local: &'a str,
    lport: Option<NonZeroU16>,
    remote: &'a str,
    rport: Option<NonZeroU16>,
    opened: Option<&'static str>,
    from: &'static str,
    to: &'static str,
    dwell_ns: Option<u64>,
    owner: Option<Owner>,
    netns: Option<NonZeroU32>,
    cgroup: Option<&'a str>,
    ended: Option<&'static str>,
}

#[derive(Serialize)]
struct End {
    schema: &'static str,
    seen: u64,
    printed: u64,
    unmatched: u64,
    lost: u64,
    missed: Option<u64>,
}

impl Default for Json {
    fn default() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
            id: String::new(),
            cookie: String::new(),
            local: String::new(),
            remote: String::new(),
            line: Vec::with_capacity(512),
        }
    }
}

impl TraceView<Event> for Json {
    fn begin(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, row: &Row<Event>, out: &mut dyn Write) -> io::Result<()> {
        let event = &row.what;
        let line = Line {
            schema: "tcpwatch.trace/1",
            time: self.stamp.text(event.unix_ns),
            id: event.id.map(|id| hex(&mut self.id, id.get())),
            cookie: event.cookie.map(|cookie| hex(&mut self.cookie, cookie.get())),
            family: event.family.key(),
            local: address(&mut self.local, &event.local),
            lport: event.lport,
            remote: address(&mut self.remote, &event.remote),
            rport: event.rport,
            opened: event.opened.map(crate::event::Opened::key),
            from: event.from.key(),
            to: event.to.key(),
            dwell_ns: event.dwell_ns,
            owner: event.owner,
            netns: event.netns,
            cgroup: row.cgroup.as_deref(),
            ended: row.ended.map(Ending::key),
        };
        self.line.clear();
        serde_json::to_writer(&mut self.line, &line)?;
        self.line.push(b'\n');
        out.write_all(&self.line)
    }

    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
        end("tcpwatch.trace.end/1", totals, out)
    }
}

/// Prints the last object.
pub(super) fn end(schema: &'static str, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
    let TraceTotals {
        seen,
        printed,
        unmatched,
        lost,
        missed,
    } = *totals;
    let end = End {
        schema,
        seen,
        printed,
        unmatched,
        lost,
        missed,
    };
    serde_json::to_writer(&mut *out, &end)?;
    out.write_all(b"\n")
}

/// `number` in hexadecimal, as `ss -e` prints cookies.
pub(super) fn hex(text: &mut String, number: u64) -> &str {
    text.clear();
    // Writing to a string cannot fail.
    let _ = write!(text, "{number:x}");
    text
}

pub(super) fn address<'a>(text: &'a mut String, address: &Address) -> &'a str {
    text.clear();
    let _ = write!(text, "{address}");
    text
}
