//! `trace --lives` for people.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::trace::{ENDPOINT, WIDE, end, ends, how, id, short_ends, whose};
use crate::event::{Life, Traffic};
use crate::model::trace::{Row, TraceTotals, Traced};
use crate::view::number::{QUIET, duration, short};
use crate::view::screen::Screen;
use crate::view::time::Stamp;
use crate::view::trace::TraceView;

/// What stands for what nobody knows: a zero is quiet here, and is not it.
const UNKNOWN: &str = "?";

/// Widths of the numbers, blanks before them included.
#[derive(Clone, Copy, Debug)]
struct Columns {
    lifetime: usize,
    bytes: usize,
    srtt: usize,
    retransmits: usize,
}

const WIDE_COLUMNS: Columns = Columns {
    lifetime: 11,
    bytes: 7,
    srtt: 8,
    retransmits: 6,
};
const NARROW_COLUMNS: Columns = Columns {
    lifetime: 8,
    bytes: 5,
    srtt: 6,
    retransmits: 5,
};

/// One line a finished connection, by when it ended; the local end first, and between the ends who called whom.
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

    fn is_wide(&self) -> bool {
        self.screen.width >= WIDE
    }

    /// Everything in columns.
    fn wide(&mut self, connection: &Life) {
        let line = &mut self.line;
        line.push_str(self.stamp.text(connection.last.unix_ns));
        line.push_str("  ");
        id(line, &connection.last, 8);
        ends(line, &connection.last);
        numbers(line, connection, WIDE_COLUMNS);
    }

    /// Whole seconds, and last what has no width of its own.
    fn narrow(&mut self, connection: &Life) {
        let line = &mut self.line;
        let time = self.stamp.text(connection.last.unix_ns);
        line.push_str(time.get(..8).unwrap_or(time));
        line.push_str("  ");
        id(line, &connection.last, 6);
        numbers(line, connection, NARROW_COLUMNS);
        short_ends(line, &connection.last);
    }
}

impl TraceView<Life> for Text {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let Columns {
            lifetime,
            bytes,
            srtt,
            retransmits,
        } = if self.is_wide() { WIDE_COLUMNS } else { NARROW_COLUMNS };
        let numbers = format!(
            "{:>lifetime$}{:>bytes$}{:>bytes$}{:>srtt$}{:>retransmits$}",
            "lifetime", "sent", "recv", "rtt", "retr"
        );
        if self.is_wide() {
            writeln!(
                out,
                "{:<15}  {:<8}{:>ENDPOINT$}   {:<ENDPOINT$}{numbers}  owner",
                "time", "id", "local", "remote"
            )
        } else {
            writeln!(
                out,
                "{:<8}  {:<6}{numbers}  {:<30}  owner",
                "time", "id", ":local and remote"
            )
        }
    }

    fn row(&mut self, row: &Row<Life>, out: &mut dyn Write) -> io::Result<()> {
        let connection = &row.what;
        self.line.clear();
        if self.is_wide() {
            self.wide(connection);
        } else {
            self.narrow(connection);
        }
        let line = &mut self.line;
        whose(line, connection.last.owner.as_ref());
        if let Some(closer) = &connection.closer {
            // Writing to a string cannot fail.
            let _ = write!(line, ", closed by {closer}");
        }
        how(line, row.ended);
        line.push('\n');
        out.write_all(line.as_bytes())
    }

    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
        end(Life::MANY, totals, out)
    }
}

/// Writes how long it lived and what it carried, as wide as `columns` say.
fn numbers(line: &mut String, connection: &Life, columns: Columns) {
    let mut right = |width: usize, text: &str| {
        // A blank comes first, however long the text.
        let width = width - 1;
        let _ = write!(line, " {text:>width$}");
    };
    let mut lifetime = connection.lifetime_ns().map_or(UNKNOWN.into(), duration);
    if lifetime.len() >= columns.lifetime {
        lifetime.retain(|letter| letter != ' ');
    }
    right(columns.lifetime, &lifetime);
    let of = |value: fn(&Traffic) -> String| connection.traffic.as_ref().map_or(UNKNOWN.into(), value);
    right(columns.bytes, &of(|traffic| quiet(traffic.sent)));
    right(columns.bytes, &of(|traffic| quiet(traffic.received)));
    let srtt = |traffic: &Traffic| {
        let ns = traffic.srtt_us.map(|us| u64::from(us) * 1000);
        ns.map_or(QUIET.into(), duration)
    };
    right(columns.srtt, &of(srtt));
    right(columns.retransmits, &of(|traffic| quiet(traffic.retransmits.into())));
}

/// `number` in short, nothing as `·`.
fn quiet(number: u64) -> String {
    if number == 0 { QUIET.into() } else { short(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ending::Ending;
    use crate::view::life::tests::{bare, life};

    fn shown(width: usize, life: &Life) -> String {
        let row = Row {
            what: *life,
            ended: Some(Ending::GracefulPassive),
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
            shown(120, &life()),
            "time             id                      local   remote                  lifetime   sent   recv     rtt  retr  owner\n\
             01:00:00.104331  #4f1a           10.0.0.5:8080 < 10.0.3.17:51598            283ms   1.2k    517    21us     ·  \
             nginx[812], closed by worker[900]  peer closed first\n"
        );
    }

    #[test]
    fn a_narrow_screen_has_the_numbers_first() {
        let mut resent = life();
        resent.closer = None;
        resent.traffic.as_mut().unwrap().retransmits = 1200;
        let text = shown(80, &resent);
        assert_eq!(
            text,
            "time      id    lifetime sent recv   rtt retr  :local and remote               owner\n\
             01:00:00  #4f1a    283ms 1.2k  517  21us 1.2k  :8080 < 10.0.3.17:51598         nginx[812]  peer closed first\n"
        );
    }

    #[test]
    fn what_is_unknown_is_no_zero() {
        let text = shown(120, &bare());
        assert!(text.contains("10.0.0.5:8080   10.0.3.17:51598"), "{text}");
        assert!(
            text.ends_with("  ?      ?      ?       ?     ?  ?  peer closed first\n"),
            "{text}"
        );
    }

    #[test]
    fn a_life_as_long_as_its_column_stays_apart() {
        let mut long = life();
        long.spent_ns[0] = u64::MAX;
        let text = shown(80, &long);
        assert!(text.contains("#4f1a  213503d23h 1.2k"), "{text}");
    }
}
