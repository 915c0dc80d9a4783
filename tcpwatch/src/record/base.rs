//! What a part of a recording begins with, so that it can be shown without the parts before it.

use std::mem::discriminant;

use tcpwatch_common::ledger::STATES;

use super::index::PartStart;
use crate::input::latency::LatencySample;
use crate::input::{Input, Session};

/// The facts that later ones are compared with.
#[derive(Default)]
pub(super) struct Base {
    session: Session,
    /// The last sample of each kind that the end of an interval is computed from.
    samples: Vec<Input>,
    /// The last scan of stuck sockets, and the tick that is its time.
    scan: Option<[Input; 2]>,
    /// Whether later ones are compared with the one that is under way; `None` if none is.
    scanning: Option<bool>,
    tick: Option<Input>,
    /// How many transitions were recorded, by the kernel's state numbers.
    transitions: [[u64; STATES]; STATES],
    /// How many finished connections were recorded, by the states of their last transition.
    connections: [[u64; STATES]; STATES],
}

impl Base {
    /// Takes the next input of the run.
    pub(super) fn take(&mut self, input: &Input) {
        match input {
            Input::Session(session) => self.session = Session::clone(session),
            Input::Transition(event) => event.count_in(&mut self.transitions),
            Input::Connection(connection) => connection.last.count_in(&mut self.connections),
            Input::Loss(loss) => self.session.missed_resets = loss.missed_resets,
            Input::Ledger(_) | Input::Sockets(_) | Input::HostFacts(_) | Input::Ports(_) | Input::NamespaceNames(_) => {
                self.sampled(input.clone());
            }
            Input::Latency(sample) => {
                // Its histograms were shown, and its counts go on.
                let counts = LatencySample {
                    measured: Vec::new(),
                    ..LatencySample::clone(sample)
                };
                self.sampled(Input::Latency(Box::new(counts)));
            }
            Input::ScanStart { is_base } => self.scanning = Some(*is_base),
            Input::SocketScan { .. } => {
                self.scanning = None;
                self.scan = self.tick.clone().map(|tick| [tick, input.clone()]);
            }
            Input::Tick { monotonic_ns, .. } => {
                self.session.monotonic_ns = *monotonic_ns;
                self.tick = Some(input.clone());
            }
            _ => {}
        }
    }

    /// Keeps `sample` instead of the last one of its kind.
    fn sampled(&mut self, sample: Input) {
        let kind = discriminant(&sample);
        self.samples.retain(|other| discriminant(other) != kind);
        self.samples.push(sample);
    }

    /// What a part begins with that follows the end of an interval.
    pub(super) fn inputs(&self) -> Vec<Input> {
        let scan_start = |is_base| Input::ScanStart { is_base };
        let session = Input::Session(Box::new(self.session.clone()));
        let mut inputs = vec![session];
        if let Some(scan) = &self.scan {
            inputs.push(scan_start(true));
            inputs.extend(scan.clone());
        }
        inputs.extend(self.samples.iter().chain(&self.tick).cloned());
        inputs.push(Input::IntervalEnd);
        inputs.extend(self.scanning.map(scan_start));
        inputs
    }

    /// How the part starts whose first inputs are [`Self::inputs`], the last of them with `seq`.
    pub(super) fn part_start(&self, seq: u64) -> PartStart {
        let mut moves = Box::new(self.transitions);
        // Where both are recorded, the end of a connection is counted in both.
        let cells = moves.as_flattened_mut().iter_mut();
        for (all, &ended) in cells.zip(self.connections.as_flattened()) {
            *all = ended.max(*all);
        }
        PartStart { seq, moves }
    }
}
