//! `trace --lives` for spreadsheets: one header line, then one line a finished connection.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use super::trace::{opening, owner, process, quoted};
use crate::event::Life;
use crate::model::ending::Ending;
use crate::model::trace::{Row, TraceTotals};
use crate::view::time::Stamp;
use crate::view::trace::TraceView;

/// The columns, those of the JSON object.
const HEADER: &str = "time,id,cookie,family,local,lport,remote,rport,opened,opened_at,lifetime_ns,\
     established_ns,syn_sent_ns,syn_recv_ns,fin_wait1_ns,fin_wait2_ns,close_wait_ns,last_ack_ns,closing_ns,\
     bytes_sent,bytes_received,srtt_us,retransmits,netns,pid,comm,how,closed_by_pid,closed_by_comm,cgroup,ended";

/// One line a connection. Unknown is an empty field, and so is the time in a state it was not in. Only names and paths can hold
/// a comma or a quote, and are quoted where they do.
#[derive(Debug)]
pub struct Csv {
    stamp: Stamp,
    opened: Stamp,
    line: String,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
            opened: Stamp::rfc3339(),
            line: String::new(),
        }
    }
}

impl TraceView<Life> for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{HEADER}")
    }

    fn row(&mut self, row: &Row<Life>, out: &mut dyn Write) -> io::Result<()> {
        let (connection, last) = (&row.what, &row.what.last);
        let line = &mut self.line;
        line.clear();
        opening(line, &mut self.stamp, last);
        field(line, connection.opened_unix_ns().map(|at| self.opened.text(at)));
        field(line, connection.lifetime_ns());
        for ns in connection.spent_ns {
            field(line, (ns > 0).then_some(ns));
        }
        field(line, connection.traffic.map(|traffic| traffic.sent));
        field(line, connection.traffic.map(|traffic| traffic.received));
        field(line, connection.traffic.and_then(|traffic| traffic.srtt_us));
        field(line, connection.traffic.map(|traffic| traffic.retransmits));
        field(line, last.netns);
        owner(line, last.owner.as_ref());
        process(line, connection.closer.as_ref());
        line.push(',');
        quoted(line, row.cgroup.as_deref().unwrap_or_default());
        field(line, row.ended.map(Ending::key));
        line.push('\n');
        out.write_all(line.as_bytes())
    }

    fn end(&mut self, _totals: &TraceTotals, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `,value`, and of what is unknown the comma alone.
fn field(line: &mut String, value: Option<impl Display>) {
    line.push(',');
    if let Some(value) = value {
        // Writing to a string cannot fail.
        let _ = write!(line, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;
    use tcpwatch_common::event::SPENT;

    use super::*;
    use crate::model::owner::Comm;
    use crate::view::life::tests::{bare, life};

    fn shown(life: &Life) -> Vec<Vec<String>> {
        let row = Row {
            what: *life,
            ended: Some(Ending::GracefulPassive),
            cgroup: Some("/a,b".into()),
        };
        let (mut csv, mut out) = (Csv::default(), Vec::new());
        csv.begin(&mut out).unwrap();
        csv.row(&row, &mut out).unwrap();
        let mut reader = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(out.as_slice());
        let fields = |record: ::csv::StringRecord| record.iter().map(str::to_owned).collect();
        // A line with more or fewer fields than the header is an error of the reader.
        reader.records().map(|record| fields(record.unwrap())).collect()
    }

    #[test]
    fn a_connection_is_a_line_and_names_stay_in_their_fields() {
        let mut evil = life();
        evil.closer.as_mut().unwrap().comm = Comm::new(b"a,\"b\"\n");
        let lines = shown(&evil);
        assert_eq!(
            lines[1],
            [
                "1970-01-01T01:00:00.104331999Z",
                "4f1a",
                "a1",
                "ipv4",
                "10.0.0.5",
                "8080",
                "10.0.3.17",
                "51598",
                "passive",
                "1970-01-01T00:59:59.821260999Z",
                "283071000",
                "283000000",
                "",
                "21000",
                "",
                "",
                "50000",
                "",
                "",
                "1234",
                "517",
                "21",
                "0",
                "",
                "812",
                "nginx",
                "accept",
                "900",
                "a,\"b\"\\n",
                "/a,b",
                "graceful_passive"
            ]
        );
    }

    #[test]
    fn unknown_is_empty() {
        let lines = shown(&bare());
        let of = |name: &str| &lines[1][lines[0].iter().position(|column| column == name).unwrap()];
        for name in [
            "opened_at",
            "lifetime_ns",
            "established_ns",
            "bytes_sent",
            "retransmits",
            "pid",
            "closed_by_pid",
        ] {
            assert_eq!(of(name), "", "{name}");
        }
        assert_eq!(of("close_wait_ns"), "50000");
    }

    #[test]
    fn the_states_are_in_the_order_they_are_kept_in() {
        let keys = SPENT.map(|number| format!("{}_ns", TcpState::from_kernel(number).unwrap().key()));
        assert!(HEADER.contains(&keys.join(",")));
    }
}
