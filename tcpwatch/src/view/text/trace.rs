//! `trace` for people.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::num::NonZeroU16;

use jiff::tz::TimeZone;
use tcpwatch_common::TcpState;

use crate::event::{Event, Opened};
use crate::model::socket::Address;
use crate::model::trace::TraceTotals;
use crate::view::number;
use crate::view::screen::Screen;
use crate::view::time::Stamp;
use crate::view::trace::TraceView;

/// Width of an IPv4 endpoint, the port included.
const ENDPOINT: usize = 21;

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

impl TraceView for Text {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<15}  {:<7} {:>ENDPOINT$}   {:<ENDPOINT$}  {:<11}   {:<11} {:>7}",
            "time", "id", "local", "remote", "from", "to", "dwell"
        )
    }

    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        line.push_str(self.stamp.text(event.unix_ns));
        let at = line.len();
        // Writing to a string cannot fail.
        let _ = match event.id {
            Some(id) => write!(line, "  #{id:x}"),
            None => write!(line, "  #?"),
        };
        pad_to(line, at + 10);
        let at = line.len();
        endpoint(line, &event.local, event.lport);
        let width = line.len() - at;
        for _ in width..ENDPOINT {
            line.insert(at, ' ');
        }
        line.push_str(match event.opened {
            Some(Opened::Active) => " > ",
            Some(Opened::Passive) => " < ",
            None => "   ",
        });
        let at = line.len();
        endpoint(line, &event.remote, event.rport);
        pad_to(line, at + ENDPOINT + 2);
        state(line, event.from, self.screen);
        line.push_str(" > ");
        state(line, event.to, self.screen);
        let _ = match event.dwell_ns {
            Some(dwell) => writeln!(line, " {:>7}", number::duration(dwell)),
            None => writeln!(line, " {:>7}", "·"),
        };
        out.write_all(line.as_bytes())
    }

    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()> {
        let TraceTotals {
            seen,
            printed,
            lost,
            missed,
        } = totals;
        write!(out, "{seen} transitions seen, {printed} shown, {lost} lost")?;
        match missed {
            None | Some(0) => writeln!(out),
            Some(missed) => writeln!(out, ", {missed} skipped by the kernel itself and counted nowhere"),
        }
    }
}

/// Writes `10.0.0.1:80`, `[::1]:80`, and `*` for what is not known.
fn endpoint(line: &mut String, address: &Address, port: Option<NonZeroU16>) {
    let _ = match address.ip {
        std::net::IpAddr::V4(ip) => write!(line, "{ip}:"),
        std::net::IpAddr::V6(_) => write!(line, "[{address}]:"),
    };
    let _ = match port {
        Some(port) => write!(line, "{port}"),
        None => write!(line, "*"),
    };
}

/// Writes the state, as wide as the longest, coloured by what it asks of the reader.
fn state(line: &mut String, state: TcpState, screen: Screen) {
    let style = screen.style(state);
    let _ = write!(line, "{style}{:<11}{style:#}", state.name());
}

/// Fills the line with blanks up to `width` bytes.
fn pad_to(line: &mut String, width: usize) {
    while line.len() < width {
        line.push(' ');
    }
}
