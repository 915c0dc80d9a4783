//! The JSON fields that only a finished connection has (`tcpwatch.life/1`).

use serde::{Serialize, Serializer};

use super::trace::JsonFields;
use crate::input::Connection;
use crate::input::owner::Owner;
use crate::view::timestamp::Stamp;

/// When the connection was opened, what it carried, and which process closed it.
#[derive(Serialize)]
pub struct ConnectionFields<'a> {
    opened_at: Option<&'a str>,
    lifetime_ns: Option<u64>,
    #[serde(serialize_with = "spent_ns")]
    spent_ns: &'a Connection,
    bytes_sent: Option<u64>,
    bytes_received: Option<u64>,
    srtt_us: Option<u32>,
    retransmits: Option<u32>,
    closed_by: Option<Owner>,
}

/// Serializes the time in each state, `{"established":283000000}`, in the order of the kernel's numbers. A state is left out if its
/// beginning was not seen.
fn spent_ns<S: Serializer>(connection: &Connection, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(connection.spent().map(|(state, ns)| (state.key(), ns)))
}

impl JsonFields for Connection {
    const SCHEMA: &'static str = "tcpwatch.life/1";
    const TOTALS_SCHEMA: &'static str = "tcpwatch.life.end/1";
    type Fields<'a> = ConnectionFields<'a>;

    fn fields<'a>(&'a self, stamp: &'a mut Stamp) -> ConnectionFields<'a> {
        ConnectionFields {
            opened_at: self.opened_unix_ns().map(|at| stamp.text(at)),
            lifetime_ns: self.lifetime_ns(),
            spent_ns: self,
            bytes_sent: self.traffic.map(|traffic| traffic.sent),
            bytes_received: self.traffic.map(|traffic| traffic.received),
            srtt_us: self.traffic.and_then(|traffic| traffic.srtt_us),
            retransmits: self.traffic.map(|traffic| traffic.retransmits),
            closed_by: self.closer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ending::Ending;
    use crate::model::trace::{TraceRow, TraceTotals};
    use crate::view::json::trace::Json;
    use crate::view::trace::TraceFormat;
    use crate::view::trace::tests::{connection, partly_seen};

    fn shown(connection: &Connection) -> String {
        let row = TraceRow {
            record: *connection,
            ending: Some(Ending::GracefulPassive),
            owner_unknown: None,
            cgroup: None,
        };
        let mut out = Vec::new();
        Json::default().row(&row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_connection_is_an_object() {
        assert_eq!(
            shown(&connection()),
            concat!(
                r#"{"schema":"tcpwatch.life/1","time":"1970-01-01T01:00:00.104331999Z","id":"4f1a","cookie":"a1","#,
                r#""family":"ipv4","local":"10.0.0.5","lport":8080,"remote":"10.0.3.17","rport":51598,"#,
                r#""opened":"passive","opened_at":"1970-01-01T00:59:59.821260999Z","lifetime_ns":283071000,"#,
                r#""spent_ns":{"established":283000000,"syn_recv":21000,"close_wait":50000},"#,
                r#""bytes_sent":1234,"bytes_received":517,"srtt_us":21,"retransmits":0,"#,
                r#""closed_by":{"pid":900,"comm":"worker","how":"close"},"#,
                r#""owner":{"pid":812,"comm":"nginx","how":"accept"},"owner_unknown":null,"#,
                r#""netns":null,"cgroup":null,"container":null,"pod":null,"pod_name":null,"ended":"graceful_passive"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn unknown_is_null() {
        let text = shown(&partly_seen());
        for part in [
            r#""id":null,"#,
            r#""opened":null,"opened_at":null,"lifetime_ns":null,"spent_ns":{"close_wait":50000},"#,
            r#""bytes_sent":null,"bytes_received":null,"srtt_us":null,"retransmits":null,"#,
            r#""closed_by":null,"owner":null,"#,
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    #[test]
    fn the_end_adds_up() {
        let totals = TraceTotals {
            seen: 4,
            printed: 1,
            dropped: 1,
            unmatched: 1,
            lost: 1,
            missed: None,
        };
        let mut out = Vec::new();
        TraceFormat::<Connection>::totals(&mut Json::default(), &totals, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"schema\":\"tcpwatch.life.end/1\",\"seen\":4,\"printed\":1,\"dropped\":1,\"unmatched\":1,\"lost\":1,\"missed\":null}\n"
        );
    }
}
