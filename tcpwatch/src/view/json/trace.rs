//! `trace` and `life` for programs: `tcpwatch.trace/1` and `tcpwatch.life/1`, one object a line.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::num::{NonZeroU16, NonZeroU32};

use serde::Serialize;

use super::container::Inside;
use super::line;
use crate::input::owner::Owner;
use crate::input::socket::Address;
use crate::input::{Event, Opened};
use crate::model::ending::Ending;
use crate::model::trace::{Row, TraceTotals, Traced};
use crate::view::time::Stamp;
use crate::view::trace::RowView;

/// What a trace of `Self` has in its objects besides what all have.
pub trait Object: Traced {
    /// Schema of a row.
    const SCHEMA: &'static str;
    /// Schema of the end.
    const END: &'static str;
    /// What a row has of its own.
    type Own<'a>: Serialize
    where
        Self: 'a;

    /// That, with times written by `stamp`.
    fn own<'a>(&'a self, stamp: &'a mut Stamp) -> Self::Own<'a>;
}

/// One object a transition or a finished connection, and one at the end.
#[derive(Debug)]
pub struct Json {
    stamp: Stamp,
    own: Stamp,
    id: String,
    cookie: String,
    local: String,
    remote: String,
    line: Vec<u8>,
}

#[derive(Serialize)]
struct Line<'a, T: Serialize> {
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
    #[serde(flatten)]
    own: T,
    owner: Option<Owner>,
    netns: Option<NonZeroU32>,
    cgroup: Option<&'a str>,
    #[serde(flatten)]
    inside: Inside<'a>,
    ended: Option<&'static str>,
}

/// What a transition has of its own.
#[derive(Serialize)]
pub struct Move {
    from: &'static str,
    to: &'static str,
    dwell_ns: Option<u64>,
}

#[derive(Serialize)]
struct End<'a> {
    schema: &'static str,
    #[serde(flatten)]
    totals: &'a TraceTotals,
}

impl Default for Json {
    fn default() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
            own: Stamp::rfc3339(),
            id: String::new(),
            cookie: String::new(),
            local: String::new(),
            remote: String::new(),
            line: Vec::with_capacity(1024),
        }
    }
}

impl Object for Event {
    const SCHEMA: &'static str = "tcpwatch.trace/1";
    const END: &'static str = "tcpwatch.trace.end/1";
    type Own<'a> = Move;

    fn own<'a>(&'a self, _: &'a mut Stamp) -> Move {
        Move {
            from: self.from.key(),
            to: self.to.key(),
            dwell_ns: self.dwell_ns,
        }
    }
}

impl<T: Object> RowView<T> for Json {
    fn begin(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, row: &Row<T>, out: &mut dyn Write) -> io::Result<()> {
        let event = row.what.event();
        let cgroup = row.cgroup.as_deref();
        let line = Line {
            schema: T::SCHEMA,
            time: self.stamp.text(event.unix_ns),
            id: event.id.map(|id| hex(&mut self.id, id.get())),
            cookie: event.cookie.map(|cookie| hex(&mut self.cookie, cookie.get())),
            family: event.family.key(),
            local: address(&mut self.local, &event.local),
            lport: event.lport,
            remote: address(&mut self.remote, &event.remote),
            rport: event.rport,
            opened: event.opened.map(Opened::key),
            own: row.what.own(&mut self.own),
            owner: event.owner,
            netns: event.netns,
            cgroup: cgroup.map(|cgroup| cgroup.path.as_str()),
            inside: Inside::of(cgroup),
            ended: row.ended.map(Ending::key),
        };
        self.line.clear();
        line::write(&mut self.line, &line)?;
        out.write_all(&self.line)
    }

    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
        let end = End { schema: T::END, totals };
        line::write(out, &end)
    }
}

/// `number` in hexadecimal, as `ss -e` prints cookies.
fn hex(text: &mut String, number: u64) -> &str {
    text.clear();
    // Writing to a string cannot fail.
    let _ = write!(text, "{number:x}");
    text
}

fn address<'a>(text: &'a mut String, address: &Address) -> &'a str {
    text.clear();
    let _ = write!(text, "{address}");
    text
}
