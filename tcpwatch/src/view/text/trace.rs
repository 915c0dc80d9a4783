//! `trace` and `life` as text: one line per transition or finished connection.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::tz::TimeZone;
use tcpwatch_common::TcpState;

use super::endpoints::{self, ENDPOINT, PORT};
use super::fit::{self, width, write_prose, write_row};
use super::owner;
use crate::input::Transition;
use crate::model::format;
use crate::model::trace::{TraceRecord, TraceRow, TraceTotals};
use crate::view::screen::Screen;
use crate::view::states;
use crate::view::timestamp::Stamp;
use crate::view::trace::TraceFormat;
use crate::view::words;

/// How much a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All columns.
    Full,
    /// Short names of states, milliseconds, the id, and the local port without its address.
    Middle,
    /// As [`Layout::Middle`], but seconds and no id: fits 80 columns.
    Narrow,
    /// As [`Layout::Narrow`], but without the local port.
    Least,
}

/// Least width of a terminal for [`Layout::Full`] with an owner and an ending as long as `nginx[23023]  peer closed`.
const FULL: usize = 136;
/// The same for [`Layout::Middle`].
const MIDDLE: usize = 100;
/// The same for [`Layout::Narrow`].
const NARROW: usize = 80;
/// Columns of a remote endpoint where room is short. Most IPv6 addresses of servers fit.
const PEER: usize = 28;

impl Layout {
    /// The layout for the width of `screen`. Output that is not a terminal gets the full layout.
    #[must_use]
    pub const fn for_screen(screen: Screen) -> Self {
        match screen.width {
            None | Some(FULL..) => Self::Full,
            Some(MIDDLE..) => Self::Middle,
            Some(NARROW..) => Self::Narrow,
            Some(_) => Self::Least,
        }
    }

    /// Columns that an endpoint may take on `screen`.
    fn endpoint_width(self, screen: Screen) -> usize {
        let spare = |needed| screen.width.map(|width| width.saturating_sub(needed));
        match self {
            Self::Full => spare(FULL).map_or(usize::MAX, |spare| ENDPOINT + spare / 2),
            Self::Middle => PEER + spare(MIDDLE).unwrap_or(0),
            Self::Narrow => PEER + spare(NARROW).unwrap_or(0),
            Self::Least => ENDPOINT,
        }
    }
}

/// The text columns that only one kind of record has.
pub trait TextColumns: TraceRecord {
    /// One record and several, as in `4 transitions seen`.
    const NAMES: [&'static str; 2];

    /// Headings of the columns, padded to their widths.
    fn headings(layout: Layout) -> String;

    /// Writes the columns, a blank before each.
    fn write_columns(&self, line: &mut String, layout: Layout, screen: Screen);
}

/// One line per record, no longer than the terminal is wide.
#[derive(Debug)]
pub struct Text {
    stamp: Stamp,
    line: String,
    screen: Screen,
    layout: Layout,
}

impl Text {
    /// Times are shown in `zone`.
    #[must_use]
    pub fn new(zone: TimeZone, screen: Screen) -> Self {
        Self {
            stamp: Stamp::local(zone),
            line: String::with_capacity(192),
            screen,
            layout: Layout::for_screen(screen),
        }
    }
}

impl TextColumns for Transition {
    const NAMES: [&'static str; 2] = ["transition", "transitions"];

    fn headings(layout: Layout) -> String {
        match layout {
            Layout::Full => format!("  {:<11}   {:<11} {:>7}", "from", "to", "dwell"),
            Layout::Middle | Layout::Narrow | Layout::Least => format!(" {:<5} {:<5} {:>5}", "from", "to", "dwell"),
        }
    }

    fn write_columns(&self, line: &mut String, layout: Layout, screen: Screen) {
        let mut write_state = |state: TcpState, before: &str, name: &str, width: usize| {
            let style = screen.style(state);
            // Writing to a string cannot fail, here and below.
            let _ = write!(line, "{before}{style}{name:<width$}{style:#}");
        };
        let (width, format): (_, fn(u64) -> String) = match layout {
            Layout::Full => {
                write_state(self.from, "  ", self.from.name(), 11);
                write_state(self.to, " > ", self.to.name(), 11);
                (7, format::duration)
            }
            Layout::Middle | Layout::Narrow | Layout::Least => {
                write_state(self.from, " ", states::short(self.from), 5);
                write_state(self.to, ">", states::short(self.to), 5);
                (5, format::brief)
            }
        };
        let dwell = self.dwell_ns.map_or_else(|| format::UNKNOWN.into(), format);
        let _ = write!(line, " {dwell:>width$}");
    }
}

impl<T: TextColumns> TraceFormat<T> for Text {
    fn header(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let headings = T::headings(self.layout);
        let row = match self.layout {
            Layout::Full => format!(
                "{:<15}  {:<8}{:>ENDPOINT$}   {:<ENDPOINT$}{headings}  owner",
                "time", "id", "local", "remote"
            ),
            Layout::Middle => format!(
                "{:<12} {:<6}{headings} {:<PORT$} {:<ENDPOINT$} owner",
                "time", "id", "local", "remote"
            ),
            Layout::Narrow => format!(
                "{:<8}{headings} {:<PORT$} {:<ENDPOINT$} owner",
                "time", "local", "remote"
            ),
            Layout::Least => format!("{:<8}{headings}  {:<ENDPOINT$} owner", "time", "remote"),
        };
        write_row(&row, self.screen, out)
    }

    fn row(&mut self, row: &TraceRow<T>, out: &mut dyn Write) -> io::Result<()> {
        let event = row.record.event();
        let endpoint_width = self.layout.endpoint_width(self.screen);
        let line = &mut self.line;
        line.clear();
        let time = self.stamp.text(event.unix_ns);
        match self.layout {
            Layout::Full => {
                line.push_str(time);
                line.push_str("  ");
                write_id(line, event, 8);
                endpoints::write_both(line, event, endpoint_width);
                row.record.write_columns(line, self.layout, self.screen);
                line.push_str("  ");
            }
            Layout::Middle | Layout::Narrow | Layout::Least => {
                // `14:02:12.388107` is cut after the milliseconds or the seconds.
                if self.layout == Layout::Middle {
                    line.push_str(time.get(..12).unwrap_or(time));
                    line.push(' ');
                    write_id(line, event, 6);
                } else {
                    line.push_str(time.get(..8).unwrap_or(time));
                }
                row.record.write_columns(line, self.layout, self.screen);
                line.push(' ');
                if self.layout != Layout::Least {
                    endpoints::write_local_port(line, event);
                }
                endpoints::write_peer(line, event, endpoint_width);
                line.push(' ');
            }
        }
        let room = self.screen.width.map(|columns| columns.saturating_sub(width(line)));
        owner::write(line, row, room);
        write_row(line, self.screen, out)
    }

    fn totals(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
        let TraceTotals {
            seen,
            printed,
            dropped,
            unmatched,
            lost,
            missed,
        } = totals;
        let name = T::NAMES[usize::from(*seen != 1)];
        let mut text = format!("{seen} {name} seen, {printed} shown, {lost} lost");
        if *dropped > 0 {
            let _ = write!(text, ", {dropped} dropped");
        }
        if *unmatched > 0 {
            let _ = write!(text, ", {unmatched} of other owners");
        }
        if let Some(missed) = missed.filter(|&missed| missed > 0) {
            let _ = write!(text, "; {}", words::missed(missed));
        }
        write_prose(&text, 0, self.screen, out)
    }
}

/// Writes the id of the connection, padded to `width` columns.
fn write_id(line: &mut String, event: &Transition, width: usize) {
    let at = line.len();
    let _ = match event.id {
        Some(id) => write!(line, "#{id:x}"),
        None => write!(line, "#?"),
    };
    pad(line, at, width);
}

/// Pads the text that starts at byte `at` to `width` columns.
pub(super) fn pad(line: &mut String, at: usize, width: usize) {
    for _ in fit::width(&line[at..])..width {
        line.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::{NonZeroU16, NonZeroU32};
    use std::sync::Arc;

    use super::*;
    use crate::input::container::Cgroup;
    use crate::input::owner::{Comm, How, Owner};
    use crate::input::socket::Address;
    use crate::input::{Connection, Opened};
    use crate::model::ending::Ending;
    use crate::view::trace::tests::{connection, partly_seen};

    /// The header and one row.
    fn shown<T: TextColumns>(screen: Screen, row: &TraceRow<T>) -> [String; 2] {
        let mut text = Text::new(TimeZone::UTC, screen);
        let mut out = Vec::new();
        TraceFormat::<T>::header(&mut text, &mut out).unwrap();
        text.row(row, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.try_into().unwrap()
    }

    fn row<T>(record: T, ending: Option<Ending>) -> TraceRow<T> {
        TraceRow {
            record,
            ending,
            owner_unknown: None,
            cgroup: None,
        }
    }

    fn event(to: TcpState) -> Transition {
        Transition {
            from: TcpState::Established,
            to,
            dwell_ns: Some(283_000_000),
            owner: Some(Owner {
                pid: NonZeroU32::new(812),
                comm: Comm::new(b"nginx"),
                how: How::Listen,
                cgroup: None,
            }),
            ..connection().last
        }
    }

    const PIPE: Screen = Screen {
        width: None,
        colour: false,
    };

    #[test]
    fn a_transition_fits_terminals_of_any_width() {
        let wide = [
            "time             id                      local   remote                 from          to            dwell  owner",
            "01:00:00.104331  #4f1a           10.0.0.5:8080 < 10.0.3.17:51598        ESTABLISHED > CLOSE_WAIT    283ms  nginx[812] (listen)",
        ];
        let row = row(event(TcpState::CloseWait), None);
        assert_eq!(shown(PIPE, &row), wide);
        assert_eq!(shown(Screen::plain(140), &row), wide);
        assert_eq!(
            shown(Screen::plain(100), &row),
            [
                "time         id     from  to    dwell local  remote                owner",
                "01:00:00.104 #4f1a  estab>clwt  283ms :8080 <10.0.3.17:51598       nginx[812] (listen)",
            ]
        );
        assert_eq!(
            shown(Screen::plain(80), &row),
            [
                "time     from  to    dwell local  remote                owner",
                "01:00:00 estab>clwt  283ms :8080 <10.0.3.17:51598       nginx[812] (listen)",
            ]
        );
        assert_eq!(
            shown(Screen::plain(60), &row),
            [
                "time     from  to    dwell  remote                owner",
                "01:00:00 estab>clwt  283ms <10.0.3.17:51598       nginx~",
            ]
        );
    }

    #[test]
    fn a_finished_connection_fits_terminals_of_any_width() {
        let wide = [
            "time             id                      local   remote                  lifetime   sent   recv     rtt  retr  owner",
            "01:00:00.104331  #4f1a           10.0.0.5:8080 < 10.0.3.17:51598            283ms   1.2k    517    21us     ·  \
             nginx[812], closed by worker[900]  peer closed first",
        ];
        let row = row(connection(), Some(Ending::GracefulPassive));
        assert_eq!(shown(PIPE, &row), wide);
        assert_eq!(shown(Screen::plain(180), &row), wide);
        assert_eq!(
            shown(Screen::plain(100), &row),
            [
                "time         id      life sent recv   rtt retr local  remote                owner",
                "01:00:00.104 #4f1a  283ms 1.2k  517  21us    · :8080 <10.0.3.17:51598       nginx[812] peer closed",
            ]
        );
        assert_eq!(
            shown(Screen::plain(80), &row),
            [
                "time      life sent recv local  remote                owner",
                "01:00:00 283ms 1.2k  517 :8080 <10.0.3.17:51598       nginx[812] peer closed",
            ]
        );
    }

    #[test]
    fn the_container_follows_the_owner() {
        let cgroup = Cgroup::from(format!("/docker/{}", "0a1b".repeat(16)));
        let mut row = row(event(TcpState::CloseWait), None);
        row.cgroup = Some(Arc::new(cgroup));
        for (width, text) in [
            (200, "  nginx[812] (listen) docker:0a1b0a1b0a1b"),
            (100, "  nginx[812] (listen) 0a1b0a1b0a1b"),
            (80, "  nginx[812]~"),
        ] {
            let [_, line] = shown(Screen::plain(width), &row);
            assert!(line.ends_with(text), "{width}: {line}");
        }
    }

    /// The name of the owner may be cut; the ending is not, on 80 columns or more.
    #[test]
    fn no_row_is_longer_than_the_terminal() {
        let address = |ip: &str| Address::new(ip.parse::<IpAddr>().unwrap(), 0);
        let peers = ["1.1.1.1", "255.255.255.255", "::1", "2a01:4f8:c17:b8f::2"];
        let long = "2001:db8:85a3:8d31:1319:8a2e:3701:7348";
        let long_names: [&[u8]; 4] = [
            b"a",
            b"kube-controller",
            b"\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b",
            "服务器服务".as_bytes(),
        ];
        for (peer, name, ending) in peers
            .into_iter()
            .chain([long])
            .flat_map(|peer| long_names.map(|name| (peer, name)))
            .flat_map(|(peer, name)| Ending::ALL.map(|ending| (peer, name, ending)))
        {
            let mut connection = connection();
            let last = &mut connection.last;
            (last.local, last.remote) = (address(peer), address(peer));
            last.lport = NonZeroU16::new(65535);
            last.id = std::num::NonZeroU64::new(0xfffff);
            last.dwell_ns = Some(90 * 86_400_000_000_000);
            let owner = last.owner.as_mut().unwrap();
            (owner.pid, owner.comm) = (NonZeroU32::new(4_194_304), Comm::new(name));
            connection.spent_ns[0] = 90 * 86_400_000_000_000;
            for columns in [40, 60, 79, 80, 99, 100, 120, 135, 136, 140, 200] {
                for colour in [false, true] {
                    let screen = Screen {
                        width: Some(columns),
                        colour,
                    };
                    let lines = [
                        shown(screen, &row(connection, Some(ending))),
                        shown(screen, &row(connection.last, Some(ending))),
                    ];
                    for line in lines.iter().flatten() {
                        assert!(width(line) <= columns, "{columns}: {line}");
                    }
                    for [_, line] in lines.iter().filter(|_| columns >= NARROW) {
                        assert!(
                            line.ends_with(ending.short()) || line.ends_with(ending.words()),
                            "{columns}: {line}"
                        );
                        // IPv6 addresses may be cut where the local address has a column, too; the longest, also where room is short.
                        let may_be_cut = columns >= FULL || (peer == long && columns < 120);
                        assert!(may_be_cut || line.contains(peer), "{columns}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_address_that_is_too_long_loses_its_middle_and_keeps_its_port() {
        let mut event = event(TcpState::CloseWait);
        event.remote = Address::new("2001:db8:85a3:8d3:1319:8a2e:370:7348".parse().unwrap(), 0);
        let [_, line] = shown(Screen::plain(80), &row(event, None));
        assert!(line.contains(" :8080 <[2001:db8:8…:370:7348]:51598 nginx"), "{line}");
        let [_, line] = shown(PIPE, &row(event, None));
        assert!(
            line.contains("[2001:db8:85a3:8d3:1319:8a2e:370:7348]:51598  EST"),
            "{line}"
        );
    }

    #[test]
    fn unknown_values_are_not_shown_as_numbers() {
        let mut event = event(TcpState::CloseWait);
        (event.id, event.lport, event.dwell_ns, event.opened, event.owner) = (None, None, None, None, None);
        let [_, line] = shown(PIPE, &row(event, None));
        assert!(
            line.ends_with("?  ?") && line.contains("#? ") && line.contains("10.0.0.5:*   10.0.3.17:51598"),
            "{line}"
        );
        let [_, line] = shown(PIPE, &row(partly_seen(), Some(Ending::GracefulPassive)));
        assert!(line.contains("10.0.0.5:8080   10.0.3.17:51598"), "{line}");
        assert!(
            line.ends_with("  ?      ?      ?       ?     ?  ?  peer closed first"),
            "{line}"
        );
        let [_, line] = shown(Screen::plain(80), &row(event, None));
        assert!(line.ends_with("   ? :*     10.0.3.17:51598       ?"), "{line}");
    }

    #[test]
    fn colours_take_no_columns() {
        let mut connection: Connection = connection();
        connection.last.opened = Some(Opened::Active);
        let screen = |colour| Screen {
            width: Some(80),
            colour,
        };
        let plain = shown(screen(false), &row(connection.last, None))[1].clone();
        let coloured = shown(screen(true), &row(connection.last, None))[1].clone();
        assert!(coloured.contains("\x1b[") && width(&coloured) == width(&plain));
        assert!(plain.contains(":8080 >10.0.3.17:51598"), "{plain}");
    }
}
