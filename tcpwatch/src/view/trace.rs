//! The view of `trace` and `life` in each output format.

use std::io::{self, Write};
use std::marker::PhantomData;

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::detect::finding::Finding;
use crate::model::frame::Frame;
use crate::model::trace::{TraceRecord, TraceRow, TraceRows, TraceTotals};
use crate::view::{Output, View};

/// Writes a trace of transitions or of finished connections in one format.
pub trait TraceFormat<T> {
    /// Writes the header, if the format has one.
    ///
    /// # Errors
    /// `out` cannot be written to.
    fn header(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Writes one row.
    ///
    /// # Errors
    /// `out` cannot be written to.
    fn row(&mut self, row: &TraceRow<T>, out: &mut dyn Write) -> io::Result<()>;

    /// Writes the totals of the run, if the format shows them.
    ///
    /// # Errors
    /// `out` cannot be written to.
    fn totals(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()>;
}

/// Writes the rows of each frame in the format `F`.
struct TraceView<F, T> {
    format: F,
    record: PhantomData<T>,
}

impl<T: TraceRecord, F: TraceFormat<T>> View for TraceView<F, T> {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.format.header(out)
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let TraceRows { rows, totals } = T::rows(frame);
        for row in rows {
            self.format.row(row, out)?;
        }
        match totals {
            Some(totals) => self.format.totals(totals, out),
            None => Ok(()),
        }
    }
}

/// A record that every format can show.
pub trait Printable: text::trace::TextColumns + json::trace::JsonFields + csv::trace::CsvFields {}

impl<T: text::trace::TextColumns + json::trace::JsonFields + csv::trace::CsvFields> Printable for T {}

/// Makes the view of a trace in the format `output`. Text is laid out for `screen`, with times in `zone`.
#[must_use]
pub fn new_view<T: Printable + 'static>(output: Output, screen: Screen, zone: TimeZone) -> Box<dyn View> {
    match output {
        Output::Text => Box::new(with_format::<T>(text::trace::Text::new(zone, screen))),
        Output::Json => Box::new(with_format::<T>(json::trace::Json::default())),
        Output::Csv => Box::new(with_format::<T>(csv::trace::Csv::default())),
    }
}

pub(super) fn with_format<T: TraceRecord>(format: impl TraceFormat<T>) -> impl View {
    TraceView {
        format,
        record: PhantomData::<T>,
    }
}

#[cfg(test)]
pub(in crate::view) mod tests {
    use std::net::Ipv4Addr;
    use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

    use tcpwatch_common::TcpState;

    use crate::input::owner::{Comm, How, Owner};
    use crate::input::socket::{Address, Family};
    use crate::input::{Connection, Opened, Traffic, Transition};

    fn owner(pid: u32, comm: &str, how: How) -> Owner {
        Owner {
            pid: NonZeroU32::new(pid),
            comm: Comm::new(comm.as_bytes()),
            how,
            cgroup: None,
        }
    }

    /// A connection of which everything is known.
    pub(in crate::view) fn connection() -> Connection {
        let address = |ip: [u8; 4]| Address::new(Ipv4Addr::from(ip).into(), 0);
        let last = Transition {
            unix_ns: 3_600_104_331_999,
            monotonic_ns: 0,
            id: NonZeroU64::new(0x4f1a),
            cookie: NonZeroU64::new(0xa1),
            family: Family::Ipv4,
            local: address([10, 0, 0, 5]),
            lport: NonZeroU16::new(8080),
            remote: address([10, 0, 3, 17]),
            rport: NonZeroU16::new(51598),
            opened: Some(Opened::Passive),
            bound: None,
            from: TcpState::CloseWait,
            to: TcpState::Close,
            dwell_ns: Some(50_000),
            netns: None,
            owner: Some(owner(812, "nginx", How::Accept)),
            inode: None,
            evidence: None,
        };
        Connection {
            last,
            spent_ns: [283_000_000, 0, 21_000, 0, 0, 50_000, 0, 0],
            traffic: Some(Traffic {
                sent: 1234,
                received: 517,
                srtt_us: Some(21),
                retransmits: 0,
            }),
            closer: Some(owner(900, "worker", How::Close)),
        }
    }

    /// A connection that was open before the run, so that little is known about it.
    pub(in crate::view) fn partly_seen() -> Connection {
        let mut connection = connection();
        (connection.last.id, connection.last.owner, connection.last.opened) = (None, None, None);
        (connection.traffic, connection.closer) = (None, None);
        connection.spent_ns[..3].fill(0);
        connection
    }

    #[test]
    fn a_connection_that_was_not_seen_whole_has_no_lifetime() {
        assert_eq!(connection().lifetime_ns(), Some(283_071_000));
        assert_eq!(connection().opened_unix_ns(), Some(3_600_104_331_999 - 283_071_000));
        assert_eq!(
            (partly_seen().lifetime_ns(), partly_seen().opened_unix_ns()),
            (None, None)
        );
        let mut late = connection();
        late.spent_ns[2] = 0;
        assert_eq!(late.lifetime_ns(), None, "the opening was seen, its length not");
        let spent: Vec<_> = partly_seen().spent().collect();
        assert_eq!(spent, [(TcpState::CloseWait, 50_000)], "ESTABLISHED began unseen");
    }
}
