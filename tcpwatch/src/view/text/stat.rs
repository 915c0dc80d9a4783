//! `stat` as text: a row per interval, as vmstat(8) prints.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::Style;
use jiff::tz::TimeZone;
use tcpwatch_common::{StateSet, TcpState};

use super::fit::{shortened, write_prose, write_row};
use crate::detect::finding::Finding;
use crate::model::format;
use crate::model::frame::Frame;
use crate::model::stat::StatFrame;
use crate::view::View;
use crate::view::screen::Screen;
use crate::view::states;

/// Rows per header.
const PAGE: usize = 24;

/// Rows of numbers under named columns.
pub struct Text {
    zone: TimeZone,
    columns: Vec<Column>,
    screen: Screen,
    rows: usize,
    /// Unmarked sockets at the previous row: they are reported only when they increase.
    unmarked_before: u64,
}

/// A column of numbers.
#[derive(Clone, Copy)]
struct Column {
    group: ColumnGroup,
    name: &'static str,
    width: usize,
    /// On a narrow terminal, the columns with the highest value are left out first; 0 is never left out.
    drop_order: u8,
    number: Number,
}

/// Columns under a common heading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ColumnGroup {
    Connections,
    PerSecond,
    TimeWait,
    /// All of one state.
    State(TcpState),
    Events,
}

/// The number in a column; `None` is unknown.
#[derive(Clone, Copy)]
enum Number {
    /// Connections in a state.
    State(TcpState),
    /// A count of the interval, shown per second.
    Rate(fn(&StatFrame) -> Option<u64>),
    /// How often a state was entered, per second.
    Entered(TcpState),
    /// How often a state was left, per second.
    Left(TcpState),
    /// A count as it is.
    Count(fn(&StatFrame) -> Option<u64>),
}

impl ColumnGroup {
    fn heading(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::PerSecond => "per second",
            Self::TimeWait => "time_wait",
            Self::State(state) => state.key(),
            Self::Events => "ring",
        }
    }
}

/// The columns of `states` alone, from left to right: the connections in each, and how often it was entered and left.
fn columns_of(states: StateSet) -> Vec<Column> {
    let columns_of_one = |state| {
        [
            ("now", 1, Number::State(state)),
            ("in/s", 2, Number::Entered(state)),
            ("out/s", 3, Number::Left(state)),
        ]
        .map(|(name, drop_order, number)| Column {
            group: ColumnGroup::State(state),
            name,
            width: 7,
            drop_order,
            number,
        })
    };
    let asked = TcpState::ALL.into_iter().filter(|&state| states.contains(state));
    let events = all_columns()
        .into_iter()
        .filter(|column| column.group == ColumnGroup::Events);
    asked.flat_map(columns_of_one).chain(events).collect()
}

/// All columns, from left to right.
fn all_columns() -> Vec<Column> {
    use ColumnGroup::{Connections, Events, PerSecond, TimeWait};
    use Number::{Count, Rate, State};
    let column = |group, name, width, drop_order, number| Column {
        group,
        name,
        width,
        drop_order,
        number,
    };
    vec![
        column(Connections, "estab", 7, 0, State(TcpState::Established)),
        column(Connections, "syn_s", 6, 1, State(TcpState::SynSent)),
        column(Connections, "syn_r", 6, 2, State(TcpState::SynRecv)),
        column(Connections, "fin1", 5, 5, State(TcpState::FinWait1)),
        column(Connections, "fin2", 5, 4, State(TcpState::FinWait2)),
        column(Connections, "tw", 6, 0, State(TcpState::TimeWait)),
        column(Connections, "clwt", 6, 0, State(TcpState::CloseWait)),
        column(Connections, "lack", 5, 6, State(TcpState::LastAck)),
        column(Connections, "lstn", 5, 3, State(TcpState::Listen)),
        column(Connections, "clsg", 5, 7, State(TcpState::Closing)),
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
        column(TimeWait, "pop", 6, 3, Count(|frame| frame.time_wait.population)),
        column(Events, "lost", 6, 0, Count(|frame| Some(frame.lost))),
    ]
}

/// Width of the time of day.
const TIME: usize = 8;

impl Text {
    /// A view of `states` with times in `zone`. Of all states, only the columns that fit `screen` are shown.
    #[must_use]
    pub fn new(zone: TimeZone, screen: Screen, states: StateSet) -> Self {
        let mut columns = if states == StateSet::ALL {
            all_columns()
        } else {
            columns_of(states)
        };
        let needed = |columns: &[Column]| TIME + columns.iter().map(|column| column.width).sum::<usize>();
        while screen.width.is_some_and(|width| needed(&columns) > width) {
            let next = columns.iter().enumerate().max_by_key(|(_, column)| column.drop_order);
            match next {
                Some((index, column)) if column.drop_order > 0 => columns.remove(index),
                _ => break,
            };
        }
        Self {
            zone,
            columns,
            screen,
            rows: 0,
            unmarked_before: 0,
        }
    }

    /// Writes two lines: headings of groups of columns, and names of columns.
    fn write_header(&self, out: &mut dyn Write) -> io::Result<()> {
        let dim = self.screen.styled(Style::new().dimmed());
        let mut groups = " ".repeat(TIME);
        let mut names = format!("{:>TIME$}", "time");
        for group in self.columns.chunk_by(|one, next| one.group == next.group) {
            let width: usize = group.iter().map(|column| column.width).sum();
            // The heading starts above the name of its first column.
            let indent = group.first().map_or(0, |column| column.width - column.name.len());
            let heading = group.first().map_or("", |column| column.group.heading());
            // Room for one column may be too small for the whole heading.
            let heading = shortened(heading, width - indent);
            // Writing to a string cannot fail.
            let _ = write!(groups, "{:indent$}{heading:<1$}", "", width - indent);
            for column in group {
                let _ = write!(names, "{:>1$}", column.name, column.width);
            }
        }
        write_row(&format!("{dim}{}{dim:#}", groups.trim_end()), self.screen, out)?;
        write_row(&format!("{dim}{names}{dim:#}"), self.screen, out)
    }

    /// Writes `text` below the numbers.
    fn write_note(&self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        let indent = TIME + 2;
        write!(out, "{:indent$}", "")?;
        write_prose(text, indent, self.screen, out)
    }
}

impl View for Text {
    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.counts else {
            return Ok(());
        };
        if self.rows.is_multiple_of(PAGE) {
            self.write_header(out)?;
        }
        self.rows += 1;
        let time = frame.time.to_zoned(self.zone.clone());
        let mut row = time.strftime("%H:%M:%S").to_string();
        for column in &self.columns {
            let rate = |count| format::per_second(count, frame.interval_s);
            let (number, style) = match column.number {
                Number::State(state) => (Some(frame.connections.get(state)), states::style(state)),
                Number::Rate(count) => (count(frame).map(rate), Style::new()),
                Number::Entered(state) => (frame.entered(state).map(rate), Style::new()),
                Number::Left(state) => (frame.left(state).map(rate), Style::new()),
                Number::Count(count) => (count(frame), Style::new()),
            };
            let (text, style) = match number {
                None => (format::UNKNOWN.into(), style),
                Some(0) => (format::QUIET.into(), Style::new().dimmed()),
                Some(number) => (format::fit(number, column.width - 1), style),
            };
            let style = self.screen.styled(style);
            // Writing to a string cannot fail.
            let _ = write!(row, "{style}{text:>0$}{style:#}", column.width);
        }
        write_row(&row, self.screen, out)?;
        if let Some(sockets) = frame.drift.filter(|&sockets| sockets > 0) {
            let text = format!("the counts differed by {sockets} from a new count of all sockets, and were corrected");
            self.write_note(&text, out)?;
        }
        if frame.unmarked > self.unmarked_before {
            let text = format!(
                "the counts may be off by {}: sockets that are not counted yet, or that the kernel refused to mark (net.core.optmem_max)",
                frame.unmarked
            );
            self.write_note(&text, out)?;
        }
        self.unmarked_before = frame.unmarked;
        Ok(())
    }
}
