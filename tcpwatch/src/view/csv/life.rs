//! The CSV columns that only a finished connection has.

use super::field::{field, process};
use super::trace::CsvFields;
use crate::input::Connection;
use crate::input::owner::Process;
use crate::view::timestamp::Stamp;

impl CsvFields for Connection {
    const COLUMNS: &'static str = "opened_at,lifetime_ns,\
        established_ns,syn_sent_ns,syn_recv_ns,fin_wait1_ns,fin_wait2_ns,close_wait_ns,last_ack_ns,closing_ns,\
        bytes_sent,bytes_received,srtt_us,retransmits,closed_by_pid,closed_by_comm";

    /// As the trait says. The time in a state that the connection did not enter is an empty field.
    fn write_fields(&self, line: &mut String, stamp: &mut Stamp) {
        field(line, self.opened_unix_ns().map(|at| stamp.text(at)));
        field(line, self.lifetime_ns());
        for ns in self.spent_ns {
            field(line, (ns > 0).then_some(ns));
        }
        field(line, self.traffic.map(|traffic| traffic.sent));
        field(line, self.traffic.map(|traffic| traffic.received));
        field(line, self.traffic.and_then(|traffic| traffic.srtt_us));
        field(line, self.traffic.map(|traffic| traffic.retransmits));
        process(line, self.closer.map(Process::from));
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;
    use tcpwatch_common::record::SPENT;

    use std::sync::Arc;

    use super::*;
    use crate::input::owner::Comm;
    use crate::model::ending::Ending;
    use crate::model::trace::TraceRow;
    use crate::view::csv::trace::Csv;
    use crate::view::trace::TraceFormat;
    use crate::view::trace::tests::{connection, partly_seen};

    fn shown(connection: &Connection) -> Vec<Vec<String>> {
        let row = TraceRow {
            record: *connection,
            ending: Some(Ending::GracefulPassive),
            owner_unknown: None,
            cgroup: Some(Arc::new(format!("/a,b\n/docker/{}", "0a".repeat(32)).into())),
        };
        let (mut csv, mut out) = (Csv::default(), Vec::new());
        TraceFormat::<Connection>::header(&mut csv, &mut out).unwrap();
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
        let mut evil = connection();
        evil.closer.as_mut().unwrap().comm = Comm::new(b"a,\"b\"\n");
        let lines = shown(&evil);
        assert_eq!(
            lines[1],
            [
                "1970-01-01T01:00:00.104331999Z",
                "0x4f1a",
                "0xa1",
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
                "900",
                "a,\"b\"\\n",
                "",
                "812",
                "nginx",
                "accept",
                "",
                &format!("/a,b\\n/docker/{}", "0a".repeat(32)),
                &"0a".repeat(32),
                "",
                "",
                "graceful_passive"
            ]
        );
    }

    #[test]
    fn unknown_is_empty() {
        let lines = shown(&partly_seen());
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
        assert!(Connection::COLUMNS.contains(&keys.join(",")));
    }
}
