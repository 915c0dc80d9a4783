//! `stat` for people: a row an interval, as vmstat's.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::Style;
use jiff::tz::TimeZone;
use tcpwatch_common::TcpState;

use crate::detect::finding::Finding;
use crate::model::frame::Frame;
use crate::model::stat::StatFrame;
use crate::view::View;
use crate::view::number;
use crate::view::screen::Screen;
use crate::view::states;

/// Rows between two headers.
const PAGE: usize = 24;

/// Rows of figures under named columns.
pub struct Text {
    zone: TimeZone,
    columns: Vec<Column>,
    screen: Screen,
    rows: usize,
    /// What was said under an earlier row, and need not be under every one.
    told_unmarked: u64,
}

/// A column of figures.
#[derive(Clone, Copy)]
struct Column {
    group: Group,
    name: &'static str,
    width: usize,
    /// In a narrow terminal the column with the highest goes first.
    dispensable: u8,
    figure: Figure,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Connections,
    PerSecond,
    TimeWait,
    Events,
}

/// Where a column's figure comes from.
#[derive(Clone, Copy)]
enum Figure {
    /// Connections in a state.
    In(TcpState),
    /// A count of the interval, shown per second; `None` where unknown.
    Rate(fn(&StatFrame) -> Option<u64>),
    /// A number as it stands.
    Now(fn(&StatFrame) -> Option<u64>),
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::PerSecond => "per second",
            Self::TimeWait => "time_wait",
            Self::Events => "",
        }
    }
}

/// Every column there is, from left to right.
fn all() -> Vec<Column> {
    use Figure::{In, Now, Rate};
    use Group::{Connections, Events, PerSecond, TimeWait};
    let column = |group, name, width, dispensable, figure| Column {
        group,
        name,
        width,
        dispensable,
        figure,
    };
    vec![
        column(Connections, "estab", 7, 0, In(TcpState::Established)),
        column(Connections, "syn_s", 6, 1, In(TcpState::SynSent)),
        column(Connections, "syn_r", 6, 2, In(TcpState::SynRecv)),
        column(Connections, "fin1", 5, 5, In(TcpState::FinWait1)),
        column(Connections, "fin2", 5, 4, In(TcpState::FinWait2)),
        column(Connections, "tw", 6, 0, In(TcpState::TimeWait)),
        column(Connections, "clwt", 6, 0, In(TcpState::CloseWait)),
        column(Connections, "lack", 5, 6, In(TcpState::LastAck)),
        column(Connections, "lstn", 5, 3, In(TcpState::Listen)),
        column(Connections, "clsg", 5, 7, In(TcpState::Closing)),
        column(
            PerSecond,
            "open",
            7,
            0,
            Rate(|frame| Some(frame.opened_active() + frame.opened_passive())),
        ),
        column(PerSecond, "close", 7, 0, Rate(|frame| Some(frame.closed()))),
        column(PerSecond, "reset", 6, 1, Rate(|frame| Some(frame.reset()))),
        column(TimeWait, "in/s", 7, 2, Rate(|frame| frame.time_wait.entered)),
        column(TimeWait, "out/s", 7, 2, Rate(|frame| frame.time_wait.left)),
        column(TimeWait, "pop", 6, 3, Now(|frame| frame.time_wait.population)),
        column(Events, "lost", 6, 0, Now(|frame| Some(frame.lost))),
    ]
}

/// Width of the time of day.
const TIME: usize = 8;

impl Text {
    /// Times are shown in `zone`; what does not fit the screen is left out, the least telling first.
    #[must_use]
    pub fn new(zone: TimeZone, screen: Screen) -> Self {
        let mut columns = all();
        while TIME + columns.iter().map(|column| column.width).sum::<usize>() > screen.columns() {
            let least = columns.iter().enumerate().max_by_key(|(_, column)| column.dispensable);
            match least {
                Some((index, column)) if column.dispensable > 0 => columns.remove(index),
                _ => break,
            };
        }
        Self {
            zone,
            columns,
            screen,
            rows: 0,
            told_unmarked: 0,
        }
    }

    fn style(&self, style: Style) -> Style {
        if self.screen.colour { style } else { Style::new() }
    }

    /// Two lines: the groups over their columns, and the columns' names.
    fn header(&self, out: &mut dyn Write) -> io::Result<()> {
        let dim = self.style(Style::new().dimmed());
        let mut groups = " ".repeat(TIME);
        let mut names = format!("{:>TIME$}", "time");
        for group in self.columns.chunk_by(|one, next| one.group == next.group) {
            let width: usize = group.iter().map(|column| column.width).sum();
            // The title starts where the first of its columns' names does.
            let indent = group.first().map_or(0, |column| column.width - column.name.len());
            let title = group.first().map_or("", |column| column.group.name());
            // Writing to a string cannot fail.
            let _ = write!(groups, "{:indent$}{title:<1$}", "", width - indent);
            for column in group {
                let _ = write!(names, "{:>1$}", column.name, column.width);
            }
        }
        writeln!(out, "{dim}{}{dim:#}", groups.trim_end())?;
        writeln!(out, "{dim}{names}{dim:#}")
    }
}

impl View for Text {
    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.counts else {
            return Ok(());
        };
        if self.rows.is_multiple_of(PAGE) {
            self.header(out)?;
        }
        self.rows += 1;
        write!(out, "{}", frame.time.to_zoned(self.zone.clone()).strftime("%H:%M:%S"))?;
        for column in &self.columns {
            let (value, of_state) = match column.figure {
                Figure::In(state) => (Some(frame.connections.get(state)), states::style(state)),
                Figure::Rate(count) => (rate(count(frame), frame.interval_s), Style::new()),
                Figure::Now(count) => (count(frame), Style::new()),
            };
            let text = match value {
                None => "?".into(),
                Some(0) => "·".into(),
                Some(value) => number::fitted(value, column.width - 1),
            };
            let style = if value == Some(0) {
                Style::new().dimmed()
            } else {
                of_state
            };
            let style = self.style(style);
            write!(out, "{style}{text:>0$}{style:#}", column.width)?;
        }
        writeln!(out)?;
        if let Some(sockets) = frame.drift.filter(|&sockets| sockets > 0) {
            writeln!(
                out,
                "{:>TIME$}  counts were off by {sockets} from a walk of the sockets; set right",
                ""
            )?;
        }
        if frame.unmarked > self.told_unmarked {
            let unmarked = frame.unmarked;
            writeln!(
                out,
                "{:>TIME$}  counts may be off by {unmarked}: sockets that take no mark (net.core.optmem_max)",
                ""
            )?;
        }
        self.told_unmarked = frame.unmarked;
        Ok(())
    }
}

/// `count` in `interval_s` seconds, a second; unknown for the first row, which has no interval.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is shown to three digits"
)]
fn rate(count: Option<u64>, interval_s: f64) -> Option<u64> {
    match count? {
        _ if interval_s <= 0.0 => Some(0),
        // What happened at all is not shown as nothing.
        count => Some(((count as f64 / interval_s).round() as u64).max(u64::from(count > 0))),
    }
}
