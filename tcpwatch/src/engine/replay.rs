//! Shows a recording as the run was shown.

use std::cmp::Reverse;
use std::io::Write;
use std::num::{NonZeroU16, NonZeroU64};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use hashbrown::HashSet;
use tcpwatch_common::ledger::STATES;

use super::Plan;
use super::sink::Sink;
use crate::input::listener::Listener;
use crate::input::needs::Needs;
use crate::input::{Input, Transition};
use crate::model::filter::Filter;
use crate::record::{Recording, Table};
use crate::view::View;

/// A recording that is to be shown.
pub struct Replay {
    /// The recording.
    pub recording: Recording,
    /// How many times as fast as the run it is shown; `None` for as fast as it can be read.
    pub speed: Option<f64>,
    /// How many recorded intervals are shown as one.
    pub merged: u64,
    /// The connections that are shown, of more that were recorded; `None` for all.
    pub selection: Option<SelectedConnections>,
}

/// Some of the connections of a recording.
pub struct SelectedConnections {
    filter: Filter,
    /// Numbers of the connections of which a record matches: when one opens, its port may not be known yet.
    ids: HashSet<NonZeroU64>,
    /// Transitions that were selected, by the kernel's state numbers.
    moves: [[u64; STATES]; STATES],
}

impl SelectedConnections {
    /// Finds the connections of `recording` whose sockets match `filter`, up to where it is damaged.
    #[must_use]
    pub fn find(mut recording: Recording, filter: Filter) -> Self {
        let mut ids = HashSet::new();
        let tables = |table| matches!(table, Table::Transitions | Table::Connections);
        while let Ok(Some(input)) = recording.next(&tables) {
            if let Some(event) = input.event()
                && matches(&filter, event)
            {
                ids.extend(event.id);
            }
        }
        Self {
            filter,
            ids,
            moves: [[0; STATES]; STATES],
        }
    }

    /// `input`, where it is of a connection that is selected or of none. The totals count what was selected.
    fn pass(&mut self, mut input: Input) -> Option<Input> {
        if let Some(event) = input.event() {
            let is_selected = event
                .id
                .map_or_else(|| matches(&self.filter, event), |id| self.ids.contains(&id));
            // The states of a connection that is over are its last and CLOSE.
            let is_life = matches!(input, Input::Connection(_));
            let states = self.filter.states;
            if !is_selected || !(states.contains(event.from) || !is_life && states.contains(event.to)) {
                return None;
            }
            if !is_life {
                event.count_in(&mut self.moves);
            }
        }
        if let Input::End(counts) = &mut input {
            counts.moves = self.moves;
        }
        Some(input)
    }
}

fn matches(filter: &Filter, event: &Transition) -> bool {
    let port = |port: Option<NonZeroU16>| port.map_or(0, NonZeroU16::get);
    let (local, remote) = (
        (event.local.ip, port(event.lport)),
        (event.remote.ip, port(event.rport)),
    );
    filter.matches_ends(event.family, local, remote)
}

impl Replay {
    /// Shows the recording by `view`, and waits for the reader of `out` as long as that takes.
    pub(super) fn show(mut self, plan: &Plan, view: &mut dyn View, out: &mut dyn Write) -> Result<()> {
        let mut observe = |_: &Input| Ok(());
        let mut sink = Sink::new(plan, view, out, &mut observe);
        sink.begin()?;
        let (mut before_ns, mut has_begun) = (None, false);
        let mut merge = IntervalMerge::new(self.merged);
        let Self {
            recording,
            speed,
            selection,
            ..
        } = &mut self;
        while !sink.is_complete() {
            let mut show = |input: Input| {
                // What a recording begins with may be older.
                has_begun |= input == Input::IntervalEnd;
                if let (Some(speed), true, &Input::Tick { monotonic_ns, .. }) = (*speed, has_begun, &input) {
                    let before_ns = before_ns.replace(monotonic_ns).unwrap_or(monotonic_ns);
                    sleep(Duration::from_nanos(monotonic_ns.saturating_sub(before_ns)).div_f64(speed));
                }
                sink.take(input);
            };
            let next = recording.next(&|table| needs_table(plan.needs, table));
            let Ok(Some(input)) = next else {
                // A recording that was cut off shows what there is of the last interval.
                merge.end_interval(&mut show);
                return sink.shown().and(next.map(|_| ()));
            };
            let selected = match selection {
                Some(selection) => selection.pass(input),
                None => Some(input),
            };
            if let Some(input) = selected {
                merge.pass(input, &mut show);
            }
            sink.shown()?;
        }
        Ok(())
    }
}

/// Makes one interval of several.
struct IntervalMerge {
    every: u64,
    /// Intervals that ended.
    ended: u64,
    is_stream_over: bool,
    /// Whether intervals have ended that are not shown yet.
    has_rest: bool,
    /// What listeners dropped in them, where that was read.
    dropping: Option<Vec<Listener>>,
}

impl IntervalMerge {
    const fn new(every: u64) -> Self {
        Self {
            every,
            ended: 0,
            is_stream_over: false,
            has_rest: false,
            dropping: None,
        }
    }

    /// Gives `each` what there is instead of `input`.
    fn pass(&mut self, input: Input, each: &mut dyn FnMut(Input)) {
        match input {
            Input::IntervalEnd => {
                // The first is what the later ones are compared with.
                let is_whole = self.ended.is_multiple_of(self.every) || self.is_stream_over;
                self.ended += 1;
                self.has_rest = true;
                if is_whole {
                    self.end_interval(each);
                }
                return;
            }
            Input::ListenerDrops(listeners) => {
                let dropping = self.dropping.take().unwrap_or_default();
                self.dropping = Some(merged(dropping, listeners));
                return;
            }
            Input::Owner { inode, owner } => {
                let waiting = self.dropping.iter_mut().flatten();
                waiting
                    .filter(|listener| listener.asks_owner() == Some(inode))
                    .for_each(|listener| listener.owner = owner.ok());
            }
            Input::StreamEnd => self.is_stream_over = true,
            Input::End(_) => self.end_interval(each),
            _ => {}
        }
        each(input);
    }

    /// Ends the merged interval, if a recorded one ended in it.
    fn end_interval(&mut self, each: &mut dyn FnMut(Input)) {
        if std::mem::take(&mut self.has_rest) {
            if let Some(dropping) = self.dropping.take() {
                each(Input::ListenerDrops(dropping));
            }
            each(Input::IntervalEnd);
        }
    }
}

/// The listeners of both, the one with the most drops first.
fn merged(mut all: Vec<Listener>, more: Vec<Listener>) -> Vec<Listener> {
    for listener in more {
        let is_same = |other: &&mut Listener| {
            (other.cookie, other.inode, other.netns) == (listener.cookie, listener.inode, listener.netns)
                && (other.address, other.port) == (listener.address, listener.port)
        };
        match all.iter_mut().find(is_same) {
            Some(same) => {
                let drops = same.drops.zip(listener.drops);
                let owner = listener.owner.or(same.owner);
                *same = Listener {
                    drops: drops.map(|(before, now)| before.saturating_add(now)),
                    owner,
                    ..listener
                };
            }
            None => all.push(listener),
        }
    }
    all.sort_by_key(|listener| Reverse(listener.drops));
    all
}

/// Whether a run with these `needs` has the inputs of `table`.
fn needs_table(needs: Needs, table: Table) -> bool {
    match table {
        Table::Sessions | Table::Ticks | Table::Marks | Table::Ends | Table::Namespaces => true,
        Table::Transitions | Table::Connections | Table::Amendments | Table::Losses => needs.records(),
        Table::Owners | Table::Cgroups => needs.owners(),
        Table::Ledgers | Table::Sockets | Table::Host => needs.reads_counts(),
        Table::Ports | Table::Listeners => needs.churn.is_some(),
        Table::Latencies => needs.latency.is_some(),
        Table::ScanStarts | Table::Scans => needs.stuck.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::EndCounts;
    use crate::input::listener::tests::dropping;

    /// What `merge` makes of `input`.
    fn pass(merge: &mut IntervalMerge, input: Input) -> Vec<Input> {
        let mut all = Vec::new();
        merge.pass(input, &mut |input| all.push(input));
        all
    }

    /// Which of so many intervals end, where `every` are made one.
    fn ends(every: u64, intervals: usize) -> Vec<usize> {
        let mut merge = IntervalMerge::new(every);
        let ends = (0..intervals).filter(|_| !pass(&mut merge, Input::IntervalEnd).is_empty());
        let mut ends: Vec<usize> = ends.collect();
        merge.end_interval(&mut |_| ends.push(intervals));
        ends
    }

    #[test]
    fn of_several_intervals_the_last_one_ends() {
        assert_eq!(ends(1, 4), [0, 1, 2, 3]);
        // After the base, two by two, and the rest with the end of the recording.
        assert_eq!(ends(2, 6), [0, 2, 4, 6]);
        assert_eq!(ends(100, 5), [0, 5]);
    }

    #[test]
    fn drops_of_intervals_that_are_one_add_up() {
        let mut merge = IntervalMerge::new(2);
        // The source reads listeners only where the kernel counted drops.
        let mut drops = |listeners: &[Listener]| -> Option<Vec<(u16, Option<u64>)>> {
            if !listeners.is_empty() {
                let held = pass(&mut merge, Input::ListenerDrops(listeners.to_vec()));
                assert_eq!(held, []);
            }
            let passed = pass(&mut merge, Input::IntervalEnd);
            passed.iter().find_map(|input| match input {
                Input::ListenerDrops(listeners) => Some(listeners.iter().map(|one| (one.port, one.drops)).collect()),
                _ => None,
            })
        };
        assert_eq!(drops(&[]), None);
        assert_eq!(drops(&[dropping(80, 1, 5), dropping(81, 2, 7)]), None);
        assert_eq!(drops(&[dropping(80, 1, 4)]), Some(vec![(80, Some(9)), (81, Some(7))]));
        assert_eq!(drops(&[dropping(80, 1, 1)]), None);
        assert_eq!(drops(&[]), Some(vec![(80, Some(1))]));
    }

    #[test]
    fn all_else_passes() {
        let mut merge = IntervalMerge::new(3);
        for input in [
            Input::StreamEnd,
            Input::Ports(None),
            Input::End(Box::<EndCounts>::default()),
        ] {
            assert_eq!(pass(&mut merge, input.clone()), [input]);
        }
        let end = pass(&mut merge, Input::IntervalEnd);
        assert_eq!(end, [Input::IntervalEnd], "the stream is over");
    }
}
