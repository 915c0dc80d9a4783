//! `churn` for people: one screen that names who, where to, what it costs, and what to do.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::burst::Burst;
use crate::model::churn::{ChurnFrame, Destination, Opener, Route};
use crate::model::ending::Ending;
use crate::model::ports::table::{Ends, Row};
use crate::model::remedy::{Remedy, advise};
use crate::view::churn::ChurnView;
use crate::view::number::{QUIET, duration, quiet, thousands};
use crate::view::screen::Screen;

/// Of a destination's ports, the part held from which it has a line, percent.
const WORTH_A_LINE: u64 = 25;

/// A block an interval.
pub struct Text {
    zone: TimeZone,
    limit: usize,
    screen: Screen,
}

impl Text {
    /// Times are shown in `zone`; `limit` lines at most of each kind.
    #[must_use]
    pub fn new(zone: TimeZone, limit: usize, screen: Screen) -> Self {
        Self { zone, limit, screen }
    }

    fn clock(&self, time: Timestamp) -> impl std::fmt::Display {
        time.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    fn style(&self, style: Style) -> Style {
        if self.screen.colour { style } else { Style::new() }
    }

    /// The host's numbers, in one line or two.
    fn summary(&self, frame: &ChurnFrame, out: &mut dyn Write) -> io::Result<()> {
        let stat = &frame.stat;
        let opened = frame.opened();
        let failed: u64 = frame.failed.iter().map(|(_, count)| count).sum();
        writeln!(
            out,
            "{}  last {:.1} s: {} connections opened, {} a second; {} connects failed",
            self.clock(stat.time),
            stat.interval_s,
            thousands(opened),
            thousands(per_second(opened, stat.interval_s)),
            thousands(failed),
        )?;
        let known = |value: Option<u64>| value.map_or_else(|| "?".into(), thousands);
        let time_wait = &stat.time_wait;
        write!(
            out,
            "  TIME_WAIT {} of {}: {} entered, {} left",
            known(time_wait.population),
            known(time_wait.limit),
            known(time_wait.entered),
            known(time_wait.left)
        )?;
        for (count, what) in [(time_wait.recycled, "recycled"), (time_wait.refused, "refused")] {
            if let Some(count) = count.filter(|&count| count > 0) {
                write!(out, ", {} {what}", thousands(count))?;
            }
        }
        writeln!(out)
    }

    /// One line an opener and destination.
    fn routes(&self, frame: &ChurnFrame, out: &mut dyn Write) -> io::Result<()> {
        let shown = &frame.routes[..frame.routes.len().min(self.limit)];
        if shown.is_empty() {
            return Ok(());
        }
        let names: Vec<(String, String)> = shown.iter().map(names).collect();
        let width = |of: fn(&(String, String)) -> &String, heading: &str| {
            let widest = names.iter().map(|names| of(names).chars().count()).max();
            widest.unwrap_or(0).max(heading.len())
        };
        let (opener, to) = (width(|names| &names.0, "opener"), width(|names| &names.1, "to"));
        let dim = self.style(Style::new().dimmed());
        writeln!(
            out,
            "  {dim}{:opener$}  {:to$}  {:>8} {:>6} {:>7} {:>7} {:>9} {:>7}{dim:#}",
            "opener", "to", "opened", "/s", "p50", "p99", "TIME_WAIT", "failed"
        )?;
        for (route, (name, destination)) in shown.iter().zip(&names) {
            let tally = &route.tally;
            let length = |ns: Option<u64>| ns.map_or_else(|| QUIET.into(), duration);
            writeln!(
                out,
                "  {name:opener$}  {destination:to$}  {:>8} {:>6} {:>7} {:>7} {:>9} {:>7}",
                quiet(tally.opened),
                quiet(per_second(tally.opened, frame.stat.interval_s)),
                length(tally.lifetime.quantile(0.5)),
                length(tally.lifetime.quantile(0.99)),
                quiet(tally.time_wait),
                quiet(tally.failed),
            )?;
        }
        let rest = &frame.routes[shown.len()..];
        if !rest.is_empty() {
            let connections = rest.iter().map(|route| route.tally.opened).sum();
            writeln!(
                out,
                "  and {} more opened {} (--limit)",
                thousands(rest.len() as u64),
                thousands(connections)
            )?;
        }
        Ok(())
    }

    /// Ports that run low, bursts, queues.
    fn events(&self, frame: &ChurnFrame, out: &mut dyn Write) -> io::Result<()> {
        let alarm = self.style(AnsiColor::Red.on_default());
        let low = frame
            .ports
            .iter()
            .flatten()
            .filter(|row| percent(row) >= Some(WORTH_A_LINE));
        for row in low.take(self.limit) {
            write!(
                out,
                "ports  {}  {} of {} held, {} %, {} by TIME_WAIT",
                between(&row.ends),
                thousands(row.used),
                row.range.map_or_else(|| "?".into(), |range| thousands(range.into())),
                percent(row).unwrap_or(0),
                thousands(row.time_wait)
            )?;
            match row.exhausted_in_s {
                Some(seconds) if seconds <= 0.0 => writeln!(out, ", {alarm}none left{alarm:#}")?,
                Some(seconds) => writeln!(out, ", {alarm}none left in {seconds:.0} s{alarm:#} at this rate")?,
                None => writeln!(out)?,
            }
        }
        for burst in &frame.bursts {
            self.burst(frame, burst, out)?;
        }
        if let Some(burst) = &frame.going {
            self.burst(frame, burst, out)?;
        }
        let failed: Vec<String> = frame
            .failed
            .iter()
            .filter(|&(_, count)| count > 0)
            .map(|(ending, count)| format!("{} {}", thousands(count), failure(ending)))
            .collect();
        if !failed.is_empty() {
            writeln!(out, "failed  {}", failed.join(", "))?;
        }
        let queues = [
            (frame.accepts.overflows, "accept-queue overflows"),
            (frame.accepts.drops, "SYN and ACK drops of listeners"),
            (frame.accepts.syn_drops, "SYN drops, too many half-open"),
        ];
        let queues: Vec<String> = queues
            .into_iter()
            .filter_map(|(count, what)| Some(format!("{} {what}", thousands(count.filter(|&count| count > 0)?))))
            .collect();
        if !queues.is_empty() {
            writeln!(out, "queues  {}", queues.join(", "))?;
        }
        if frame.lost > 0 {
            writeln!(
                out,
                "lost  {} records: the lines above have fewer",
                thousands(frame.lost)
            )?;
        }
        Ok(())
    }

    fn burst(&self, frame: &ChurnFrame, burst: &Burst<Opener>, out: &mut dyn Write) -> io::Result<()> {
        let start = self.clock(frame.time(burst.start_ns));
        let end = burst
            .end_ns
            .map_or_else(|| "now".to_owned(), |end| self.clock(frame.time(end)).to_string());
        write!(
            out,
            "burst  {start} - {end}  {} connections, peak {}/s",
            thousands(burst.opened),
            thousands(burst.peak_per_s)
        )?;
        match burst.owner {
            Some(opener) => writeln!(out, ", {}", opener_name(opener)),
            None => writeln!(out, ", of no single opener"),
        }
    }
}

impl ChurnView for Text {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "watching; Ctrl-C ends it")
    }

    fn frame(&mut self, frame: &ChurnFrame, out: &mut dyn Write) -> io::Result<()> {
        self.summary(frame, out)?;
        self.routes(frame, out)?;
        self.events(frame, out)?;
        for remedy in advise(frame) {
            writeln!(out, "do: {}", words(&remedy))?;
        }
        writeln!(out)
    }
}

/// The names of a line: who, and where to.
fn names(route: &Route) -> (String, String) {
    let opener = match route.destination {
        Some(_) => opener_name(route.opener),
        None => "others".into(),
    };
    (opener, route.destination.map_or_else(String::new, endpoint))
}

fn opener_name(opener: Opener) -> String {
    match opener {
        Opener::Here(Some(process)) => match process.pid {
            Some(pid) => format!("{}[{pid}]", process.comm),
            None => format!("{}[?]", process.comm),
        },
        Opener::Here(None) => "?".into(),
        Opener::Peer(address) => address.to_string(),
    }
}

/// `10.0.0.9:6379`, `[::1]:80`.
fn endpoint(to: Destination) -> String {
    match to.address.ip {
        std::net::IpAddr::V4(ip) => format!("{ip}:{}", to.port),
        std::net::IpAddr::V6(_) => format!("[{}]:{}", to.address, to.port),
    }
}

/// `10.0.0.1 > 10.0.0.9:6379`.
fn between(ends: &Ends) -> String {
    let to = std::net::SocketAddr::new(ends.destination, ends.port);
    format!("{} > {to}", ends.source)
}

/// Of the ports, the part held.
fn percent(row: &Row) -> Option<u64> {
    (row.used * 100).checked_div(row.range?.into())
}

/// A failure to connect, in a word or two.
fn failure(ending: Ending) -> &'static str {
    match ending {
        Ending::Refused => "refused",
        Ending::TimeoutConnect => "timed out",
        Ending::Unreachable => "unreachable",
        Ending::NoPort => "found no local port",
        Ending::ConnectAbandoned => "given up here",
        other => other.words(),
    }
}

/// A remedy as people read it.
fn words(remedy: &Remedy) -> String {
    match remedy {
        Remedy::Reuse { process, destination } => format!(
            "{} opens a new connection to {} for a request or few: use persistent connections or a pool",
            opener_name(Opener::Here(Some(*process))),
            endpoint(*destination)
        ),
        Remedy::KeepAlive { peer, destination } => format!(
            "{peer} opens a new connection to {} for a request or few: keep-alive, in the client and in the server here",
            endpoint(*destination)
        ),
        Remedy::CloseThere { ends } => format!(
            "TIME_WAIT holds the ports of {}, for this side closes first: keep connections, or let the other side close first; \
             more addresses or a wider net.ipv4.ip_local_port_range give time, tcp_fin_timeout does not",
            between(ends)
        ),
        Remedy::FewerConnections { ends } => format!(
            "open connections hold the ports of {}: fewer connections, more addresses, or a wider net.ipv4.ip_local_port_range",
            between(ends)
        ),
        Remedy::MorePorts { failed } => format!(
            "{} connects found no local port: a port bound before connect() is nobody else's, whatever the destination \
             (IP_BIND_ADDRESS_NO_PORT)",
            thousands(*failed)
        ),
        Remedy::Backlog { overflows } => format!(
            "{} connections found an accept queue full: accept faster, or raise the backlog given to listen() and net.core.somaxconn",
            thousands(*overflows)
        ),
    }
}

/// `count` in `interval_s` seconds, a second.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is shown to the nearest"
)]
fn per_second(count: u64, interval_s: f64) -> u64 {
    if interval_s <= 0.0 {
        return 0;
    }
    ((count as f64 / interval_s).round() as u64).max(u64::from(count > 0))
}
