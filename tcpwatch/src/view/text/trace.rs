//! `trace` for people.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::num::NonZeroU16;

use jiff::tz::TimeZone;
use tcpwatch_common::TcpState;

use crate::event::{Event, Opened};
use crate::model::ending::Ending;
use crate::model::owner::Owner;
use crate::model::socket::Address;
use crate::model::trace::{Row, TraceTotals, Traced};
use crate::view::number;
use crate::view::screen::Screen;
use crate::view::states;
use crate::view::time::Stamp;
use crate::view::trace::TraceView;

/// Width of an IPv4 endpoint, the port included.
pub(super) const ENDPOINT: usize = 21;

/// Columns a line takes in full, with room for an owner.
pub(super) const WIDE: usize = 120;

/// One line a transition; the local end first, and between the ends who called whom.
#[derive(Debug)]
pub struct Text {
    stamp: Stamp,
    line: String,
    screen: Screen,
}

impl Text {
    /// Times are shown in `zone`.
    #[must_use]
    pub fn new(zone: TimeZone, screen: Screen) -> Self {
        Self {
            stamp: Stamp::local(zone),
            line: String::with_capacity(192),
            screen,
        }
    }
}

impl Text {
    fn is_wide(&self) -> bool {
        self.screen.width >= WIDE
    }

    /// Everything in columns.
    fn wide(&mut self, row: &Row<Event>) {
        let event = &row.what;
        let line = &mut self.line;
        line.push_str(self.stamp.text(event.unix_ns));
        line.push_str("  ");
        id(line, event, 8);
        ends(line, event);
        line.push_str("  ");
        state(line, event.from, event.from.name(), 11, self.screen);
        line.push_str(" > ");
        state(line, event.to, event.to.name(), 11, self.screen);
        dwell(line, event, 8);
        whose_and_how(line, event.owner.as_ref(), row.ended);
        line.push('\n');
    }

    /// Short names and milliseconds, and last what has no width of its own.
    fn narrow(&mut self, row: &Row<Event>) {
        let event = &row.what;
        let line = &mut self.line;
        let time = self.stamp.text(event.unix_ns);
        line.push_str(time.get(..12).unwrap_or(time));
        line.push_str("  ");
        id(line, event, 7);
        state(line, event.from, states::short(event.from), 5, self.screen);
        line.push_str(" > ");
        state(line, event.to, states::short(event.to), 5, self.screen);
        dwell(line, event, 7);
        short_ends(line, event);
        whose_and_how(line, event.owner.as_ref(), row.ended);
        line.truncate(line.trim_end().len());
        line.push('\n');
    }
}

/// Blanks to fill up with.
const BLANKS: &str = "                     ";
const _: () = assert!(BLANKS.len() == ENDPOINT);

impl TraceView<Event> for Text {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_wide() {
            writeln!(
                out,
                "{:<15}  {:<8}{:>ENDPOINT$}   {:<ENDPOINT$}  {:<11}   {:<11} {:>7}  owner",
                "time", "id", "local", "remote", "from", "to", "dwell"
            )
        } else {
            writeln!(
                out,
                "{:<12}  {:<7}{:<5}   {:<5} {:>6}  {:<30}  owner",
                "time", "id", "from", "to", "dwell", ":local and remote"
            )
        }
    }

    fn row(&mut self, row: &Row<Event>, out: &mut dyn Write) -> io::Result<()> {
        self.line.clear();
        if self.is_wide() {
            self.wide(row);
        } else {
            self.narrow(row);
        }
        out.write_all(self.line.as_bytes())
    }

    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
        end(Event::MANY, totals, out)
    }
}

/// Prints the last line, of so many `things`.
pub(super) fn end(things: &str, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
    let TraceTotals {
        seen,
        printed,
        unmatched,
        lost,
        missed,
    } = totals;
    write!(out, "{seen} {things} seen, {printed} shown, {lost} lost")?;
    if *unmatched > 0 {
        write!(out, ", {unmatched} of others")?;
    }
    match missed {
        None | Some(0) => writeln!(out),
        Some(missed) => writeln!(out, ", {missed} skipped by the kernel itself and counted nowhere"),
    }
}

/// Writes both ends in columns, the local one first, and between them who called whom.
pub(super) fn ends(line: &mut String, event: &Event) {
    let at = line.len();
    endpoint(line, &event.local, event.lport);
    let missing = ENDPOINT.saturating_sub(line.len() - at);
    line.insert_str(at, &BLANKS[..missing]);
    line.push_str(arrow(event));
    let at = line.len();
    endpoint(line, &event.remote, event.rport);
    pad_to(line, at + ENDPOINT);
}

/// Writes `  :8080 < 10.0.0.1:51598`, as wide as its column.
pub(super) fn short_ends(line: &mut String, event: &Event) {
    line.push_str("  :");
    let at = line.len();
    port(line, event.lport);
    line.push_str(arrow(event));
    endpoint(line, &event.remote, event.rport);
    pad_to(line, at + 5 + 3 + ENDPOINT);
}

/// Writes `10.0.0.1:80`, `[::1]:80`, and `*` for what is not known.
fn endpoint(line: &mut String, address: &Address, port: Option<NonZeroU16>) {
    let _ = match address.ip {
        std::net::IpAddr::V4(ip) => write!(line, "{ip}:"),
        std::net::IpAddr::V6(_) => write!(line, "[{address}]:"),
    };
    self::port(line, port);
}

/// Writes a port, `*` where it is not known.
fn port(line: &mut String, port: Option<NonZeroU16>) {
    let _ = match port {
        Some(port) => write!(line, "{port}"),
        None => write!(line, "*"),
    };
}

/// Writes `  nginx[812] (listen)  peer closed first`, as far as it is known.
fn whose_and_how(line: &mut String, owner: Option<&Owner>, ended: Option<Ending>) {
    whose(line, owner);
    how(line, ended);
}

/// Writes `  nginx[812] (listen)`, and `  ?` for nobody.
pub(super) fn whose(line: &mut String, owner: Option<&Owner>) {
    match owner {
        Some(owner) => {
            let _ = write!(line, "  {owner}");
            if !owner.how.suffix().is_empty() {
                let _ = write!(line, " {}", owner.how.suffix());
            }
        }
        None => line.push_str("  ?"),
    }
}

/// Writes `  peer closed first`.
pub(super) fn how(line: &mut String, ended: Option<Ending>) {
    if let Some(ended) = ended {
        let _ = write!(line, "  {}", ended.words());
    }
}

/// Who called whom.
fn arrow(event: &Event) -> &'static str {
    match event.opened {
        Some(Opened::Active) => " > ",
        Some(Opened::Passive) => " < ",
        None => "   ",
    }
}

/// Writes the number of the life, `width` columns wide.
pub(super) fn id(line: &mut String, event: &Event, width: usize) {
    let at = line.len();
    // Writing to a string cannot fail, here and below.
    let _ = match event.id {
        Some(id) => write!(line, "#{id:x}"),
        None => write!(line, "#?"),
    };
    pad_to(line, at + width);
}

/// Writes `name` of the state, `width` columns wide, coloured by what it asks of the reader.
fn state(line: &mut String, state: TcpState, name: &str, width: usize, screen: Screen) {
    let style = screen.style(state);
    let _ = write!(line, "{style}{name:<width$}{style:#}");
}

/// Writes the time spent in the state left, `width` columns wide.
fn dwell(line: &mut String, event: &Event, width: usize) {
    let _ = match event.dwell_ns {
        Some(dwell) => write!(line, "{:>width$}", number::duration(dwell)),
        None => write!(line, "{:>width$}", number::QUIET),
    };
}

/// Fills the line with blanks up to `width` bytes.
fn pad_to(line: &mut String, width: usize) {
    while line.len() < width {
        line.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU64;

    use super::*;
    use crate::model::socket::Family;

    fn shown(width: usize, edit: impl FnOnce(&mut Event)) -> String {
        let address = |last| Address::new(Ipv4Addr::new(10, 0, 0, last).into(), 0);
        let mut event = Event {
            unix_ns: 3_600_104_331_999,
            monotonic_ns: 0,
            id: NonZeroU64::new(0x4f1a),
            cookie: None,
            family: Family::Ipv4,
            local: address(5),
            lport: NonZeroU16::new(8080),
            remote: address(17),
            rport: NonZeroU16::new(51598),
            opened: Some(Opened::Passive),
            from: TcpState::Established,
            to: TcpState::CloseWait,
            dwell_ns: Some(283_000_000),
            netns: None,
            owner: Some(Owner {
                pid: std::num::NonZeroU32::new(812),
                comm: crate::model::owner::Comm::new(b"nginx"),
                how: crate::model::owner::How::Listen,
                cgroup: None,
            }),
            inode: None,
            evidence: None,
        };
        edit(&mut event);
        let row = Row {
            what: event,
            ended: (event.to == TcpState::Close).then_some(Ending::GracefulPassive),
            cgroup: None,
        };
        let mut text = Text::new(TimeZone::UTC, Screen { width, colour: false });
        let mut out = Vec::new();
        text.begin(&mut out).unwrap();
        text.row(&row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_wide_screen_has_columns() {
        assert_eq!(
            shown(120, |_| {}),
            "time             id                      local   remote                 from          to            dwell  owner\n\
             01:00:00.104331  #4f1a           10.0.0.5:8080 < 10.0.0.17:51598        ESTABLISHED > CLOSE_WAIT    283ms  nginx[812] (listen)\n"
        );
    }

    #[test]
    fn a_narrow_screen_has_short_names_and_the_ends_last() {
        let text = shown(80, |_| {});
        assert_eq!(
            text,
            "time          id     from    to     dwell  :local and remote               owner\n\
             01:00:00.104  #4f1a  estab > clwt   283ms  :8080 < 10.0.0.17:51598         nginx[812] (listen)\n"
        );
    }

    #[test]
    fn an_end_says_how() {
        let text = shown(140, |event| event.to = TcpState::Close);
        assert!(
            text.ends_with("283ms  nginx[812] (listen)  peer closed first\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_unknown_is_not_shown_as_a_number() {
        let text = shown(120, |event| {
            (event.id, event.lport, event.dwell_ns, event.opened, event.owner) = (None, None, None, None, None);
        });
        assert!(
            text.ends_with("·  ?\n")
                && text.contains("#? ")
                && text.contains("10.0.0.5:*   10.0.0.17:51598")
                && text.contains("·"),
            "{text}"
        );
    }
}
