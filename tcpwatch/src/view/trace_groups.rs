//! The view of `trace --by` and `life --by` in each output format: nothing until the end of the run, then a row for each group.

use std::io::{self, Write};
use std::marker::PhantomData;

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::trace::{Printable, TraceFormat};
use super::{csv, json, text};
use crate::detect::finding::Finding;
use crate::input::owner::OwnerBy;
use crate::model::frame::Frame;
use crate::model::trace::TraceRows;
use crate::model::trace_groups::{Countable, TraceGroups};
use crate::view::{Output, View};

/// Writes the groups of a run in one format.
pub trait GroupsFormat<T> {
    /// Writes what precedes the groups, when the run begins.
    ///
    /// # Errors
    /// `out` cannot be written to.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Writes the groups.
    ///
    /// # Errors
    /// `out` cannot be written to.
    fn groups(&mut self, groups: &TraceGroups, out: &mut dyn Write) -> io::Result<()>;
}

/// A record of which every format can show groups.
pub trait PrintableGroups:
    Printable
    + Countable
    + text::trace_groups::GroupColumns
    + json::trace_groups::GroupFields
    + csv::trace_groups::GroupRows
{
}

impl<T> PrintableGroups for T where
    T: Printable
        + Countable
        + text::trace_groups::GroupColumns
        + json::trace_groups::GroupFields
        + csv::trace_groups::GroupRows
{
}

/// Counts the rows of each frame, and writes the groups in the format `F` and the totals as those of single rows, at the end.
struct GroupsView<F, E, T> {
    groups: TraceGroups,
    format: F,
    ending: E,
    record: PhantomData<T>,
}

impl<T: Countable, F: GroupsFormat<T>, E: TraceFormat<T>> View for GroupsView<F, E, T> {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.format.begin(out)
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let TraceRows { rows, totals } = T::rows(frame);
        for row in rows {
            self.groups.add(row);
        }
        let Some(totals) = totals else { return Ok(()) };
        self.format.groups(&self.groups, out)?;
        self.ending.totals(totals, out)
    }
}

/// Makes the view of a trace in groups `by` what their owners have in common, in the format `output`. Text has at most `limit` groups,
/// laid out for `screen`.
#[must_use]
pub fn new_view<T: PrintableGroups + 'static>(
    output: Output,
    by: OwnerBy,
    limit: usize,
    screen: Screen,
    zone: TimeZone,
) -> Box<dyn View> {
    let groups = TraceGroups::new(by);
    match output {
        Output::Text => boxed::<T>(
            groups,
            text::trace_groups::Text::new(limit, screen),
            text::trace::Text::new(zone, screen),
        ),
        Output::Json => boxed::<T>(groups, json::trace_groups::Json, json::trace::Json::default()),
        Output::Csv => boxed::<T>(groups, csv::trace_groups::Csv, csv::trace::Csv::default()),
    }
}

fn boxed<T: Countable + 'static>(
    groups: TraceGroups,
    format: impl GroupsFormat<T> + 'static,
    ending: impl TraceFormat<T> + 'static,
) -> Box<dyn View> {
    Box::new(GroupsView {
        groups,
        format,
        ending,
        record: PhantomData::<T>,
    })
}
