//! `churn` as text: per interval, who opens connections to where, the limits that they approach, and advice.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::Style;
use hashbrown::HashSet;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::finding;
use super::fit::{padded, push_items, shortened, width, write_prose, write_row};
use crate::detect::connect_failures::words;
use crate::detect::finding::{Finding, Subject, Value};
use crate::detect::port_exhaustion;
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::input::namespace::NamespaceNames;
use crate::input::ports::reuse::TIME_WAIT_MS;
use crate::model::burst::Burst;
use crate::model::churn::served::Served;
use crate::model::churn::time_wait_by::TimeWaitBy;
use crate::model::churn::{ChurnFrame, Opener, Route, Tally};
use crate::model::ending::Ending;
use crate::model::format::{UNKNOWN, duration, per_second, percentile, quiet, thousands};
use crate::model::frame::Frame;
use crate::model::owner_group::OwnerGroup;
use crate::model::ports::row::Row;
use crate::view::View;
use crate::view::screen::Screen;

/// Least share of its ports in use, percent, for a destination to be shown.
const MIN_PERCENT: u64 = 25;

/// A column of numbers.
struct Column {
    heading: &'static str,
    width: usize,
    /// Formats the number; the second argument is the length of the interval, s.
    number: fn(&Tally, f64) -> String,
}

impl Column {
    const fn new(heading: &'static str, width: usize, number: fn(&Tally, f64) -> String) -> Self {
        Self { heading, width, number }
    }
}

/// All columns.
const WIDE: &[Column] = &[
    Column::new("opened", 8, |tally, _| quiet(tally.opened)),
    Column::new("/s", 6, |tally, interval_s| quiet(per_second(tally.opened, interval_s))),
    Column::new("p50", 7, |tally, _| lifetime(tally, 0.5)),
    Column::new("p99", 7, |tally, _| lifetime(tally, 0.99)),
    Column::new("TIME_WAIT", 9, |tally, _| quiet(tally.time_wait)),
    Column::new("failed", 7, |tally, _| quiet(tally.failed.total())),
];

/// The columns that fit 80 columns of a terminal.
const NARROW: &[Column] = &[
    Column::new("opened", 7, |tally, _| quiet(tally.opened)),
    Column::new("p50", 5, |tally, _| lifetime(tally, 0.5)),
    Column::new("tw", 7, |tally, _| quiet(tally.time_wait)),
    Column::new("failed", 6, |tally, _| quiet(tally.failed.total())),
];

/// The lifetime at quantile `p`.
fn lifetime(tally: &Tally, p: f64) -> String {
    percentile(tally.lifetime.quantile(p))
}

/// The timewait sockets of the interval.
fn time_wait(frame: &ChurnFrame) -> String {
    let known = |value: Option<u64>| value.map_or_else(|| UNKNOWN.into(), thousands);
    let time_wait = &frame.stat.time_wait;
    let (population, limit) = (known(time_wait.population), known(time_wait.limit));
    if frame.is_filtered {
        return format!("TIME_WAIT {population} that match the filter; the limit of the namespace is {limit}");
    }
    let mut line = format!(
        "TIME_WAIT {population} of {limit}: {} entered, {} left",
        known(time_wait.entered),
        known(time_wait.left)
    );
    for (count, label) in [(time_wait.recycled, "recycled"), (time_wait.refused, "refused")] {
        if let Some(count) = count.filter(|&count| count > 0) {
            let _ = write!(line, ", {} {label}", thousands(count));
        }
    }
    if time_wait.refused > Some(0) {
        // The end of a connection does not show whether its timewait socket was refused.
        line.push_str("; the counts below include refused ones");
    }
    line
}

/// Width of a column with `names` and their `heading`.
fn widest(names: &[String], heading: &str) -> usize {
    let widest = names.iter().map(|name| width(name)).max();
    widest.unwrap_or(0).max(heading.len())
}

/// A block of lines per interval.
pub struct Text {
    zone: TimeZone,
    limit: usize,
    screen: Screen,
    /// Subjects of the findings of the previous interval, and of no other. Their advice is not repeated.
    advised: HashSet<Subject>,
}

impl Text {
    /// A view with times in `zone` and at most `limit` lines of each kind.
    #[must_use]
    pub fn new(zone: TimeZone, limit: usize, screen: Screen) -> Self {
        Self {
            zone,
            limit,
            screen,
            advised: HashSet::new(),
        }
    }

    fn time_of_day(&self, time: Timestamp) -> impl std::fmt::Display {
        time.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    /// Writes the totals of the host.
    fn write_summary(&self, frame: &ChurnFrame, out: &mut dyn Write) -> io::Result<()> {
        let stat = &frame.stat;
        let opened = frame.opened();
        let failed = frame.failed().total();
        let heading = format!(
            "last {:.1} s: {} connections opened, {} a second; {} failed",
            stat.interval_s,
            thousands(opened),
            thousands(per_second(opened, stat.interval_s)),
            thousands(failed),
        );
        self.write_line(&format!("{}  ", self.time_of_day(stat.time)), &heading, out)?;
        self.write_line("  ", &time_wait(frame), out)?;
        self.write_by_process(frame, out)
    }

    /// Writes `text` after `label`, wrapped beside it.
    fn write_line(&self, label: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{label}")?;
        write_prose(text, label.len(), self.screen, out)
    }

    /// Writes the processes with the most timewait sockets, as many as fit a line.
    fn write_by_process(&self, frame: &ChurnFrame, out: &mut dyn Write) -> io::Result<()> {
        let by = TimeWaitBy::from_routes(&frame.routes);
        if by.process.is_empty() {
            return Ok(());
        }
        let mut line = format!("  by {}: ", frame.by.key());
        let item = |(group, count): &(Option<OwnerGroup>, u64)| {
            let name = group.as_ref().map_or_else(|| UNKNOWN.into(), ToString::to_string);
            format!("{name} {}", thousands(*count))
        };
        let items: Vec<String> = by.process.iter().map(item).collect();
        push_items(&mut line, &items, self.screen);
        write_row(&line, self.screen, out)
    }

    /// Writes one line per opener and destination.
    fn write_routes(&self, frame: &ChurnFrame, names: &NamespaceNames, out: &mut dyn Write) -> io::Result<()> {
        let shown = &frame.by_name[..frame.by_name.len().min(self.limit)];
        if shown.is_empty() {
            return Ok(());
        }
        let openers: Vec<String> = shown.iter().map(opener_name).collect();
        let opener = widest(&openers, "opener");
        let names = frame.has_namespaces().then_some(names);
        // The first layout that fits, else the last.
        let layouts = [(WIDE, true), (NARROW, true), (NARROW, false)];
        let layouts = layouts.map(|(columns, in_full)| {
            let name = |route| destination_name(route, in_full, names);
            let destinations: Vec<String> = shown.iter().map(name).collect();
            let to = widest(&destinations, "to");
            let numbers = columns.iter().map(|column| column.width + 1).sum::<usize>();
            (columns, destinations, to, 2 + opener + 2 + to + 1 + numbers)
        });
        let fits = |needed: usize| self.screen.width.is_none_or(|width| needed <= width);
        let layout = layouts.iter().position(|layout| fits(layout.3));
        let (columns, destinations, to, needed) = &layouts[layout.unwrap_or(layouts.len() - 1)];
        // Names that still do not fit lose their middle, the longer one first.
        let room = opener + to
            - self
                .screen
                .width
                .map_or(0, |width| needed.saturating_sub(width))
                .min(opener + to);
        let opener = opener.min((room / 2).max(room.saturating_sub(*to)));
        let to = room.saturating_sub(opener).min(*to);
        let fitted = |name: &str, columns| padded(&shortened(name, columns), columns);
        let dim = self.screen.styled(Style::new().dimmed());
        let mut row = format!("  {dim}{}  {} ", fitted("opener", opener), fitted("to", to));
        for column in *columns {
            // Writing to a string cannot fail, here and below.
            let _ = write!(row, " {:>1$}", column.heading, column.width);
        }
        write_row(&format!("{row}{dim:#}"), self.screen, out)?;
        for ((route, name), destination) in shown.iter().zip(&openers).zip(destinations) {
            let mut row = format!("  {}  {} ", fitted(name, opener), fitted(destination, to));
            for column in *columns {
                let number = (column.number)(&route.tally, frame.stat.interval_s);
                let _ = write!(row, " {number:>0$}", column.width);
            }
            write_row(&row, self.screen, out)?;
        }
        let rest = &frame.by_name[shown.len()..];
        if !rest.is_empty() {
            let connections = rest.iter().map(|route| route.tally.opened).sum();
            let rest = thousands(rest.len() as u64);
            let text = format!("and {rest} more opened {} (--limit)", thousands(connections));
            self.write_line("  ", &text, out)?;
        }
        Ok(())
    }

    /// Writes ports, bursts, failures and queues, as far as no finding reports them.
    fn write_events(
        &self,
        frame: &ChurnFrame,
        names: &NamespaceNames,
        findings: &[Finding],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let is_reported = |kinds: &[FindingKind]| findings.iter().any(|finding| kinds.contains(&finding.kind));
        let ports = frame.ports.iter().flatten().filter(|row| {
            let is_reported = findings.iter().any(|finding| reports_ports(finding, row));
            percent(row) >= Some(MIN_PERCENT) && !is_reported
        });
        for row in ports.take(self.limit) {
            let mut text = format!(
                "{}  {} of {} held, {} %, {} by TIME_WAIT",
                row.ends,
                thousands(row.used),
                row.range
                    .map_or_else(|| UNKNOWN.into(), |range| thousands(range.into())),
                percent(row).unwrap_or(0),
                thousands(row.time_wait)
            );
            if let Some(growth) = row.growth_per_s.filter(|&growth| growth >= 0.5) {
                let _ = write!(text, ", {growth:.0} more a second");
            }
            if let Some(held_ms) = row.held_ms.filter(|&held_ms| held_ms < TIME_WAIT_MS) {
                // Older ones can be reused.
                let _ = write!(
                    text,
                    " (tcp_tw_reuse: for {})",
                    duration(u64::from(held_ms) * 1_000_000)
                );
            }
            self.write_line("ports  ", &text, out)?;
        }
        let untracked = [
            (frame.ports_evicted, "destinations forgotten since the start"),
            (frame.ports_left_out, "sockets left out"),
        ];
        let untracked = join_counts(untracked);
        if !untracked.is_empty() {
            let text = format!("{untracked}, because the table is full: others may run out of ports, too");
            self.write_line("ports  ", &text, out)?;
        }
        if frame.routes_evicted > 0 {
            let evicted = thousands(frame.routes_evicted);
            let text = format!("{evicted} openers idle longest are counted together, for want of room");
            self.write_line("others  ", &text, out)?;
        }
        for burst in frame.bursts.iter().chain(&frame.going) {
            self.write_burst(frame, burst, names, out)?;
        }
        let failed: Vec<String> = frame
            .failed()
            .iter()
            .map(|(ending, count)| (ending, count.saturating_sub(reported_failures(findings, ending))))
            .filter(|&(_, count)| count > 0)
            .map(|(ending, count)| format!("{} {}", thousands(count), words(ending)))
            .collect();
        if !failed.is_empty() {
            self.write_line("failed  ", &failed.join(", "), out)?;
        }
        let queues = [
            (Counter::ListenOverflows, "accept-queue overflows"),
            (Counter::ListenDrops, "SYN and ACK drops of listeners"),
            (Counter::TcpReqQFullDrop, "SYN drops, too many half-open"),
        ];
        let queues = join_counts(queues.map(|(counter, label)| (frame.stat.counters.get(counter), label)));
        if !queues.is_empty() && !is_reported(&[FindingKind::AcceptQueueOverflow, FindingKind::SynFlood]) {
            self.write_line("queues  ", &queues, out)?;
        }
        if frame.unknown_owners > 0 {
            let records = thousands(frame.unknown_owners);
            let text =
                format!("{records} openings and endings since the start: any of them may be of what was asked for");
            self.write_line("unknown owners  ", &text, out)?;
        }
        if frame.lost > 0 && !is_reported(&[FindingKind::EventLoss]) {
            let text = format!("{} records: the counts above are too low", thousands(frame.lost));
            self.write_line("lost  ", &text, out)?;
        }
        Ok(())
    }

    fn write_burst(
        &self,
        frame: &ChurnFrame,
        burst: &Burst<Opener>,
        names: &NamespaceNames,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let start = self.time_of_day(frame.time(burst.start_ns));
        let end = burst
            .end_ns
            .map_or_else(|| "now".to_owned(), |end| self.time_of_day(frame.time(end)).to_string());
        let opener = match &burst.owner {
            Some(opener) => match opener.netns().filter(|_| frame.has_namespaces()) {
                Some(netns) => format!("{opener} to netns {}", names.get(netns.get())),
                None => opener.to_string(),
            },
            None if frame.burst_openers_evicted == 0 => "by several openers".into(),
            None => format!(
                "by several openers, or by one of {} that were forgotten for want of room",
                thousands(frame.burst_openers_evicted)
            ),
        };
        let text = format!(
            "{start} - {end}  {} connections, peak {}/s, {opener}",
            thousands(burst.opened),
            thousands(burst.peak_per_s)
        );
        self.write_line("burst  ", &text, out)
    }
}

impl View for Text {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "watching; Ctrl-C ends it")
    }

    fn frame(&mut self, frame: &Frame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let names = &frame.namespace_names;
        let Some(frame) = &frame.churn else {
            return Ok(());
        };
        self.write_summary(frame, out)?;
        self.write_routes(frame, names, out)?;
        self.write_events(frame, names, findings, out)?;
        let mut advised = HashSet::new();
        // A burst has a line already, with its time of day.
        for finding in findings.iter().filter(|finding| finding.kind != FindingKind::Burst) {
            let subject = finding.subject();
            if self.advised.contains(&subject) {
                finding::write_title(finding, self.screen, out)?;
            } else {
                finding::write(finding, self.screen, out)?;
            }
            advised.insert(subject);
        }
        self.advised = advised;
        writeln!(out)
    }
}

/// Joins the counts that are known and not 0: `2 overflows, 1 drops`.
fn join_counts<const N: usize>(counts: [(Option<u64>, &str); N]) -> String {
    let counts = counts
        .into_iter()
        .filter_map(|(count, label)| Some((count.filter(|&count| count > 0)?, label)));
    let counts: Vec<String> = counts
        .map(|(count, label)| format!("{} {label}", thousands(count)))
        .collect();
    counts.join(", ")
}

/// Name of the opener of `route`.
fn opener_name(route: &Route) -> String {
    match route.destination {
        Some(_) => route.opener.to_string(),
        None => "others".into(),
    }
}

/// Name of the destination of `route`: the remote endpoint, or the process of this host and the endpoint where it listens. The latter
/// is the port alone, unless `in_full`. `names` adds the network namespace.
fn destination_name(route: &Route, in_full: bool, names: Option<&NamespaceNames>) -> String {
    let Some(to) = route.destination else {
        return String::new();
    };
    let place = match route.opener {
        Opener::Here(_) => to.to_string(),
        Opener::Peer { .. } if in_full => format!("{} {}", server_name(&route.tally.served), to),
        Opener::Peer { .. } => format!("{} :{}", server_name(&route.tally.served), to.port),
    };
    match to.netns.zip(names) {
        Some((netns, names)) => format!("{place} netns {}", names.get(netns.get())),
        None => place,
    }
}

/// Name of the process of this host, or of its group: `nginx[812]`, `shop/cart-0`. `nginx[*]` is several processes of one name, `several`
/// is several names.
fn server_name(served: &Served) -> String {
    match (served.one(), served.comm()) {
        (Some(process), _) => process.to_string(),
        (None, Some(comm)) => format!("{comm}[*]"),
        (None, None) if served.processes().len() > 1 => "several".into(),
        (None, None) => "?".into(),
    }
}

/// Whether `finding` reports that the ports of `row` run out.
fn reports_ports(finding: &Finding, row: &Row) -> bool {
    let [source, destination] = port_exhaustion::ends(&row.ends);
    finding.kind == FindingKind::PortExhaustion
        && finding.evidence(source.0) == Some(&source.1)
        && finding.evidence(destination.0) == Some(&destination.1)
}

/// Number of failed connects with `ending` that `findings` report.
fn reported_failures(findings: &[Finding], ending: Ending) -> u64 {
    let (kind, name) = match ending {
        Ending::NoPort => (FindingKind::PortExhaustion, "failed"),
        _ => (FindingKind::ConnectFailures, ending.key()),
    };
    let counts = findings.iter().filter(|finding| finding.kind == kind);
    counts.fold(0, |sum, finding| match finding.evidence(name) {
        Some(&Value::Count(count)) => sum.saturating_add(count),
        _ => sum,
    })
}

/// Share of the ports of `row` in use, percent; `None` where the range is unknown.
fn percent(row: &Row) -> Option<u64> {
    row.used.saturating_mul(100).checked_div(row.range?.into())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::detect::finding::Severity;
    use crate::input::counter::CounterValues;
    use crate::input::owner::{Comm, How, Owner};
    use crate::model::cgroups::CgroupPaths;
    use crate::model::churn::Churn;
    use crate::model::churn::tests::stat;
    use crate::view::trace::tests::connection;

    /// The text for 1,234 connections of one peer, which two processes closed.
    fn shown(screen: Screen, workers: [u32; 2]) -> String {
        let mut churn = Churn::new(0);
        for (pid, times) in workers.into_iter().zip([1000, 234]) {
            let mut connection = connection();
            connection.last.owner = Some(Owner {
                pid: NonZeroU32::new(pid),
                comm: Comm::new(b"nginx"),
                how: How::Accept,
                cgroup: None,
            });
            for _ in 0..times {
                churn.ended(&connection, Ending::GracefulActive, &CgroupPaths::default());
            }
        }
        let mut frame = churn.frame(stat(), 0, 10, 0);
        frame.stat.interval_s = 2.0;
        let mut out = Vec::new();
        Text::new(TimeZone::UTC, 10, screen)
            .frame(&Frame::from(&frame), &[], &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_the_kernel_counts_for_all_is_not_shown_for_some() {
        let mut frame = Churn::new(0).frame(stat(), 0, 10, 0);
        frame.stat.time_wait.population = Some(71);
        frame.stat.time_wait.limit = Some(131_072);
        assert_eq!(time_wait(&frame), "TIME_WAIT 71 of 131,072: ? entered, ? left");
        frame.is_filtered = true;
        assert_eq!(
            time_wait(&frame),
            "TIME_WAIT 71 that match the filter; the limit of the namespace is 131,072"
        );
    }

    #[test]
    fn the_processes_that_serve_a_peer_are_named() {
        let text = shown(Screen::plain(120), [811, 812]);
        for line in [
            "  by process: nginx[811] 1,000, nginx[812] 234\n",
            "  opener     to                        opened     /s     p50     p99 TIME_WAIT  failed\n",
            "  10.0.3.17  nginx[*] 10.0.0.5:8080         ·      ·   280ms   280ms     1,234       ·\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        let text = shown(Screen::plain(120), [811, 811]);
        assert!(text.contains("  nginx[811] 10.0.0.5:8080 "), "{text}");
    }

    #[test]
    fn ports_that_are_not_tracked_have_a_line() {
        let line = |evicted, left_out| {
            let mut frame = Churn::new(0).frame(stat(), 0, 10, 0);
            (frame.ports_evicted, frame.ports_left_out) = (evicted, left_out);
            let mut out = Vec::new();
            let mut view = Text::new(TimeZone::UTC, 10, Screen::plain(140));
            view.frame(&Frame::from(&frame), &[], &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            text.lines().find(|line| line.starts_with("ports")).map(str::to_owned)
        };
        for nothing in [None, Some(0)] {
            assert_eq!(line(nothing, nothing), None);
        }
        let both = "ports  1,024 destinations forgotten since the start, 7 sockets left out, because the table is full: \
                    others may run out of ports, too";
        assert_eq!(line(Some(1024), Some(7)).as_deref(), Some(both));
        let one = "ports  7 sockets left out, because the table is full: others may run out of ports, too";
        assert_eq!(line(Some(0), Some(7)).as_deref(), Some(one));
    }

    #[test]
    fn openers_that_made_room_have_a_line() {
        let line = |routes_evicted| {
            let frame = ChurnFrame {
                routes_evicted,
                ..Churn::new(0).frame(stat(), 0, 10, 0)
            };
            let mut out = Vec::new();
            let mut view = Text::new(TimeZone::UTC, 10, Screen::plain(120));
            view.frame(&Frame::from(&frame), &[], &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            text.lines().find(|line| line.starts_with("others")).map(str::to_owned)
        };
        assert_eq!(line(0), None);
        let want = "others  1,024 openers idle longest are counted together, for want of room";
        assert_eq!(line(1024).as_deref(), Some(want));
    }

    #[test]
    fn a_burst_without_an_owner_has_the_openers_that_made_room() {
        let line = |burst_openers_evicted| {
            let frame = ChurnFrame {
                going: Some(Burst {
                    start_ns: 0,
                    end_ns: None,
                    opened: 300,
                    peak_per_s: 200,
                    owner: None,
                }),
                burst_openers_evicted,
                ..Churn::new(0).frame(stat(), 0, 10, 0)
            };
            let mut out = Vec::new();
            let mut view = Text::new(TimeZone::UTC, 10, Screen::plain(140));
            view.frame(&Frame::from(&frame), &[], &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let mut lines = text.lines().filter_map(|line| line.split_once("peak 200/s, "));
            lines.next().map(|(_, owner)| owner.to_owned())
        };
        assert_eq!(line(0).as_deref(), Some("by several openers"));
        let forgotten = "by several openers, or by one of 1,024 that were forgotten for want of room";
        assert_eq!(line(1024).as_deref(), Some(forgotten));
    }

    #[test]
    fn a_count_that_a_finding_reports_has_no_line_of_its_own() {
        let mut stat = stat();
        stat.counters = CounterValues::read(|_| Some(7));
        let frame = ChurnFrame {
            lost: 9,
            ..Churn::new(0).frame(stat, 0, 10, 0)
        };
        let shown = |findings: &[Finding]| {
            let mut out = Vec::new();
            let mut view = Text::new(TimeZone::UTC, 10, Screen::plain(120));
            view.frame(&Frame::from(&frame), findings, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = shown(&[]);
        assert!(
            text.contains("queues  7 accept-queue overflows") && text.contains("lost  9 records"),
            "{text}"
        );
        let finding = |kind| Finding {
            advice: vec!["act".into()],
            ..Finding::new(kind, Severity::Warning, "it hurts".into())
        };
        let text = shown(&[
            finding(FindingKind::AcceptQueueOverflow),
            finding(FindingKind::Burst),
            finding(FindingKind::EventLoss),
        ]);
        assert!(!text.contains("queues") && !text.contains("lost  "), "{text}");
        let findings = "warning  it hurts\n  do: act (explain accept_queue_overflow)\n\
                        warning  it hurts\n  do: act (explain event_loss)\n\n";
        assert!(text.ends_with(findings), "a burst has its line already: {text}");
    }

    #[test]
    fn advice_is_not_repeated_while_a_finding_stays_the_same() {
        let frame = Frame::from(&Churn::new(0).frame(stat(), 0, 10, 0));
        let mut view = Text::new(TimeZone::UTC, 10, Screen::plain(120));
        let mut advises = |severity, count: u64, owner: &str| {
            let finding = Finding {
                advice: vec!["act".into()],
                evidence: vec![("remote", owner.into()), ("opened", count.into())],
                ..Finding::new(FindingKind::Churn, severity, format!("{owner} opened {count}"))
            };
            let mut out = Vec::new();
            view.frame(&frame, &[finding], &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(&format!("{owner} opened {count}")), "{text}");
            text.contains("do: act")
        };
        assert!(advises(Severity::Warning, 9, "nginx"));
        assert!(!advises(Severity::Warning, 10, "nginx"), "the same trouble");
        assert!(advises(Severity::Critical, 10, "nginx"), "it got worse");
        assert!(advises(Severity::Critical, 10, "curl"), "another has it");
        assert!(advises(Severity::Critical, 10, "nginx"), "it is back");
    }

    #[test]
    fn failures_that_no_finding_reports_have_a_line() {
        let mut frame = Churn::new(0).frame(stat(), 0, 10, 0);
        let mut tally = Tally::default();
        for (ending, count) in [(Ending::Refused, 9), (Ending::NoPort, 3), (Ending::Unreachable, 2)] {
            tally.failed.add(ending, count);
        }
        frame.by_name.push(Route {
            opener: Opener::Here(None),
            destination: None,
            tally,
        });
        let line = |findings: &[Finding]| {
            let mut out = Vec::new();
            let mut view = Text::new(TimeZone::UTC, 10, Screen::plain(120));
            view.frame(&Frame::from(&frame), findings, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            text.lines().find(|line| line.starts_with("failed")).map(str::to_owned)
        };
        let all = "failed  9 refused, 2 unreachable, 3 found no local port";
        assert_eq!(line(&[]).as_deref(), Some(all));
        let finding = |kind, evidence| Finding {
            evidence,
            ..Finding::new(kind, Severity::Critical, "they fail".into())
        };
        let ports = finding(FindingKind::PortExhaustion, vec![("failed", 3.into())]);
        let refused = finding(
            FindingKind::ConnectFailures,
            vec![("refused", 8.into()), ("unreachable", 0.into())],
        );
        let left = line(&[ports.clone(), refused.clone()]);
        assert_eq!(left.as_deref(), Some("failed  1 refused, 2 unreachable"));
        let last = finding(
            FindingKind::ConnectFailures,
            vec![("refused", 1.into()), ("unreachable", 2.into())],
        );
        assert_eq!(line(&[ports, refused, last]), None);
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out() {
        let text = shown(Screen::plain(80), [811, 812]);
        for line in [
            "  opener     to                       opened   p50      tw failed\n",
            "  10.0.3.17  nginx[*] 10.0.0.5:8080        · 280ms   1,234      ·\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        let text = shown(Screen::plain(54), [4_194_304, 4_194_305]);
        assert!(text.contains("  10.0.3.17  nginx…:8080        · 280ms"), "{text}");
        assert!(
            text.contains("  by process: nginx[4194304] 1,000, and 1 more\n"),
            "{text}"
        );
    }
}
