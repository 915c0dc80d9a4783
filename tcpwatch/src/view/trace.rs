//! The forms a trace is printed in.

use std::io::{self, Write};
use std::marker::PhantomData;

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::detect::finding::Finding;
use crate::model::frame::Frame;
use crate::model::trace::{Row, TraceTotals, Traced};
use crate::view::{Output, View};

/// A form of a trace of `T`s: transitions, or finished connections.
pub trait RowView<T> {
    /// Prints what comes before the first row.
    ///
    /// # Errors
    /// The output takes no more.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Prints one of them.
    ///
    /// # Errors
    /// The output takes no more.
    fn row(&mut self, row: &Row<T>, out: &mut dyn Write) -> io::Result<()>;

    /// Prints what it adds up to.
    ///
    /// # Errors
    /// The output takes no more.
    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()>;
}

/// Shows the rows of frames, one after another.
struct Rows<F, T> {
    form: F,
    of: PhantomData<T>,
}

impl<T: Traced, F: RowView<T>> View for Rows<F, T> {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.form.begin(out)
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let shown = T::shown(frame);
        for row in &shown.rows {
            self.form.row(row, out)?;
        }
        match &shown.totals {
            Some(totals) => self.form.end(totals, out),
            None => Ok(()),
        }
    }
}

/// What a trace can be printed of, in every form.
pub trait Printed: text::trace::Columns + json::trace::Object + csv::trace::Fields {}

impl<T: text::trace::Columns + json::trace::Object + csv::trace::Fields> Printed for T {}

/// The form `output` asks for; text laid out for `screen`.
#[must_use]
pub fn of<T: Printed + 'static>(output: Output, screen: Screen) -> Box<dyn View> {
    match output {
        Output::Text => Box::new(rows::<T>(text::trace::Text::new(TimeZone::system(), screen))),
        Output::Json => Box::new(rows::<T>(json::trace::Json::default())),
        Output::Csv => Box::new(rows::<T>(csv::trace::Csv::default())),
    }
}

pub(super) fn rows<T: Traced>(form: impl RowView<T>) -> impl View {
    Rows {
        form,
        of: PhantomData::<T>,
    }
}

#[cfg(test)]
pub(in crate::view) mod tests {
    use std::net::Ipv4Addr;
    use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

    use tcpwatch_common::TcpState;

    use crate::input::owner::{Comm, How, Owner};
    use crate::input::socket::{Address, Family};
    use crate::input::{Connection, Event, Opened, Traffic};

    fn owner(pid: u32, comm: &str, how: How) -> Owner {
        Owner {
            pid: NonZeroU32::new(pid),
            comm: Comm::new(comm.as_bytes()),
            how,
            cgroup: None,
        }
    }

    /// A connection of which everything is known.
    pub(in crate::view) fn life() -> Connection {
        let address = |ip: [u8; 4]| Address::new(Ipv4Addr::from(ip).into(), 0);
        let last = Event {
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

    /// One that was open before anybody looked, and of which little is known.
    pub(in crate::view) fn bare() -> Connection {
        let mut life = life();
        (life.last.id, life.last.owner, life.last.opened) = (None, None, None);
        (life.traffic, life.closer) = (None, None);
        life.spent_ns[..3].fill(0);
        life
    }

    #[test]
    fn a_life_that_was_not_seen_whole_has_no_length() {
        assert_eq!(life().lifetime_ns(), Some(283_071_000));
        assert_eq!(life().opened_unix_ns(), Some(3_600_104_331_999 - 283_071_000));
        assert_eq!((bare().lifetime_ns(), bare().opened_unix_ns()), (None, None));
        let mut late = life();
        late.spent_ns[2] = 0;
        assert_eq!(late.lifetime_ns(), None, "the opening was seen, its length not");
        let spent: Vec<_> = bare().spent().collect();
        assert_eq!(spent, [(TcpState::CloseWait, 50_000)], "ESTABLISHED began unseen");
    }
}
