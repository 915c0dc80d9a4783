//! `trace --lives` for programs: `tcpwatch.life/1`, one object a line.

use std::io::{self, Write};
use std::num::{NonZeroU16, NonZeroU32};

use serde::{Serialize, Serializer};

use super::trace::{address, end, hex};
use crate::event::{Life, Opened};
use crate::model::ending::Ending;
use crate::model::owner::Owner;
use crate::model::trace::{Row, TraceTotals};
use crate::view::time::Stamp;
use crate::view::trace::TraceView;

/// One object a finished connection, and one at the end.
#[derive(Debug)]
pub struct Json {
    stamp: Stamp,
    opened: Stamp,
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
    opened_at: Option<&'a str>,
    lifetime_ns: Option<u64>,
    spent_ns: Spent<'a>,
    bytes_sent: Option<u64>,
    bytes_received: Option<u64>,
    srtt_us: Option<u32>,
    retransmits: Option<u32>,
    owner: Option<Owner>,
    closed_by: Option<Owner>,
    netns: Option<NonZeroU32>,
    cgroup: Option<&'a str>,
    ended: Option<&'static str>,
}

/// Time in each state it was in, `{"established":283000000}`, in the order of the kernel's numbers. A state that nobody saw it
/// enter is not among them.
struct Spent<'a>(&'a Life);

impl Serialize for Spent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.spent().map(|(state, ns)| (state.key(), ns)))
    }
}

impl Default for Json {
    fn default() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
            opened: Stamp::rfc3339(),
            id: String::new(),
            cookie: String::new(),
            local: String::new(),
            remote: String::new(),
            line: Vec::with_capacity(1024),
        }
    }
}

impl TraceView<Life> for Json {
    fn begin(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, row: &Row<Life>, out: &mut dyn Write) -> io::Result<()> {
        let (connection, last) = (&row.what, &row.what.last);
        let line = Line {
            schema: "tcpwatch.life/1",
            time: self.stamp.text(last.unix_ns),
            id: last.id.map(|id| hex(&mut self.id, id.get())),
            cookie: last.cookie.map(|cookie| hex(&mut self.cookie, cookie.get())),
            family: last.family.key(),
            local: address(&mut self.local, &last.local),
            lport: last.lport,
            remote: address(&mut self.remote, &last.remote),
            rport: last.rport,
            opened: last.opened.map(Opened::key),
            opened_at: connection.opened_unix_ns().map(|at| self.opened.text(at)),
            lifetime_ns: connection.lifetime_ns(),
            spent_ns: Spent(connection),
            bytes_sent: connection.traffic.map(|traffic| traffic.sent),
            bytes_received: connection.traffic.map(|traffic| traffic.received),
            srtt_us: connection.traffic.and_then(|traffic| traffic.srtt_us),
            retransmits: connection.traffic.map(|traffic| traffic.retransmits),
            owner: last.owner,
            closed_by: connection.closer,
            netns: last.netns,
            cgroup: row.cgroup.as_deref(),
            ended: row.ended.map(Ending::key),
        };
        self.line.clear();
        serde_json::to_writer(&mut self.line, &line)?;
        self.line.push(b'\n');
        out.write_all(&self.line)
    }

    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
        end("tcpwatch.life.end/1", totals, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::life::tests::{bare, life};

    fn shown(life: &Life) -> String {
        let row = Row {
            what: *life,
            ended: Some(Ending::GracefulPassive),
            cgroup: None,
        };
        let mut out = Vec::new();
        Json::default().row(&row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_connection_is_an_object() {
        assert_eq!(
            shown(&life()),
            concat!(
                r#"{"schema":"tcpwatch.life/1","time":"1970-01-01T01:00:00.104331999Z","id":"4f1a","cookie":"a1","#,
                r#""family":"ipv4","local":"10.0.0.5","lport":8080,"remote":"10.0.3.17","rport":51598,"#,
                r#""opened":"passive","opened_at":"1970-01-01T00:59:59.821260999Z","lifetime_ns":283071000,"#,
                r#""spent_ns":{"established":283000000,"syn_recv":21000,"close_wait":50000},"#,
                r#""bytes_sent":1234,"bytes_received":517,"srtt_us":21,"retransmits":0,"#,
                r#""owner":{"pid":812,"comm":"nginx","how":"accept"},"#,
                r#""closed_by":{"pid":900,"comm":"worker","how":"close"},"#,
                r#""netns":null,"cgroup":null,"ended":"graceful_passive"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn unknown_is_null() {
        let text = shown(&bare());
        for part in [
            r#""id":null,"#,
            r#""opened":null,"opened_at":null,"lifetime_ns":null,"spent_ns":{"close_wait":50000},"#,
            r#""bytes_sent":null,"bytes_received":null,"srtt_us":null,"retransmits":null,"#,
            r#""owner":null,"closed_by":null,"#,
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    #[test]
    fn the_end_adds_up() {
        let totals = TraceTotals {
            seen: 3,
            printed: 1,
            unmatched: 1,
            lost: 1,
            missed: None,
        };
        let mut out = Vec::new();
        Json::default().end(&totals, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"schema\":\"tcpwatch.life.end/1\",\"seen\":3,\"printed\":1,\"unmatched\":1,\"lost\":1,\"missed\":null}\n"
        );
    }
}
