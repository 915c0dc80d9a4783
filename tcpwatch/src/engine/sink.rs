//! Passes inputs to the model, and its frames to the view, and what that prints to the output.

use std::io::{self, Write};
use std::mem::replace;

use anyhow::{Context, Result};

use super::output::{Output, Rows};
use super::{OUTPUT, Plan};
use crate::detect::{self, Detector};
use crate::input::Input;
use crate::model::input_filter::InputFilter;
use crate::model::world::World;
use crate::view::View;

/// Passes inputs to the model, and its frames to the view.
pub(super) struct Sink<'a, O> {
    /// Leaves out what is neither recorded nor shown, in a run with a filter.
    filter: Option<InputFilter>,
    world: World,
    detectors: Vec<Box<dyn Detector>>,
    view: &'a mut dyn View,
    pub(super) out: O,
    /// Is shown each input before the model takes it.
    observe: &'a mut dyn FnMut(&Input) -> Result<()>,
    /// Intervals shown.
    intervals: u64,
    /// Intervals to show.
    most: Option<u64>,
    /// Whether the run ends, and what it shows of intervals is the last of them.
    pub(super) is_ending: bool,
    /// Whether a frame had anything of an owner that was asked for.
    pub(super) has_matched: bool,
    /// What the run left out for its owners.
    pub(super) unmatched: Option<String>,
    /// The first error of the output or of the observer.
    shown: Result<()>,
}

/// Where the text of a view goes, frame by frame.
pub(super) trait Print {
    /// Prints what `write` writes, whole lines, `rows` of them if they are of single transitions or connections. What is not the last of
    /// a run may be dropped.
    fn print(
        &mut self,
        is_last: bool,
        rows: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()>;
}

impl Print for Output {
    fn print(
        &mut self,
        is_last: bool,
        rows: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if rows == 0 {
            write(&mut self.text)?;
        } else if self.is_dropping() {
            self.drop_rows(rows);
        } else {
            write(&mut Rows(self))?;
        }
        self.queue(is_last, rows > 0)
    }
}

impl Print for &mut dyn Write {
    fn print(&mut self, _: bool, _: u64, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        write(self)?;
        self.flush()
    }
}

impl<'a, O: Print> Sink<'a, O> {
    pub(super) fn new(
        plan: &Plan,
        view: &'a mut dyn View,
        out: O,
        observe: &'a mut dyn FnMut(&Input) -> Result<()>,
    ) -> Self {
        let filter = &plan.options.filter;
        let is_filtered = InputFilter::is_needed(filter, plan.needs, plan.record.is_some());
        Self {
            filter: is_filtered.then(|| InputFilter::new(filter.clone(), plan.needs)),
            world: World::new(plan.shows, plan.options.filter.clone()),
            detectors: detect::all(),
            view,
            out,
            observe,
            intervals: 0,
            most: plan.count,
            is_ending: false,
            has_matched: false,
            unmatched: None,
            shown: Ok(()),
        }
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        let Self { view, out, .. } = self;
        out.print(true, 0, |out| view.begin(out)).context(OUTPUT)
    }

    pub(super) fn take(&mut self, input: Input) {
        match self.filter.take() {
            Some(mut filter) => {
                filter.take(input, &mut |input| self.apply(input));
                self.filter = Some(filter);
            }
            None => self.apply(input),
        }
    }

    /// Shows `input` to the observer, and passes it to the model.
    fn apply(&mut self, input: Input) {
        if let Err(error) = (self.observe)(&input)
            && self.shown.is_ok()
        {
            self.shown = Err(error);
        }
        let Some(frame) = self.world.apply(input) else { return };
        self.has_matched |= frame.has_match();
        self.unmatched = frame.unmatched();
        if self.shown.is_err() {
            return;
        }
        let mut findings = Vec::new();
        if frame.is_interval() {
            self.intervals += 1;
            findings = detect::inspect(&mut self.detectors, frame);
        }
        let is_complete = self.most.is_some_and(|most| self.intervals >= most);
        let rows = frame.rows();
        let is_last = (self.is_ending || is_complete) && rows == 0;
        let Self { view, out, .. } = self;
        let shown = out.print(is_last, rows, |out| view.frame(frame, &findings, out));
        self.shown = shown.context(OUTPUT);
    }

    /// Whether all was shown that was to be so far.
    pub(super) fn shown(&mut self) -> Result<()> {
        replace(&mut self.shown, Ok(()))
    }

    /// Whether the view has seen enough.
    pub(super) fn is_done(&mut self) -> bool {
        self.view.is_done()
    }

    /// Whether as many intervals were shown as were asked for.
    pub(super) fn is_complete(&self) -> bool {
        self.most.is_some_and(|most| self.intervals >= most)
    }
}
