//! Connections per state and their rates of change, as `stat` shows them.

use jiff::Timestamp;
use serde::Serialize;
use tcpwatch_common::TcpState;
use tcpwatch_common::ledger::{Pass, STATES};

use super::counts::StateCounts;
use super::ending::{self, Ending, EndingCounts};
use crate::input::counter::CounterValues;
use crate::input::namespace::Namespace;
use crate::input::reset_reasons::Reasons;
use crate::input::{FullestNamespace, HostFacts, LedgerSample, Orphans, SynSettings, TimeWaitCounters};

/// Transitions in one interval, by the kernel's state numbers.
pub type Moves = [[u64; STATES]; STATES];

/// Takes the counts read from the kernel and builds a frame at the end of each interval.
#[derive(Debug, Default)]
pub struct Stat {
    reasons: Reasons,
    ledger: Option<Box<LedgerSample>>,
    walked: Option<Box<Pass>>,
    facts: Box<HostFacts>,
    before: Option<Before>,
}

/// The readings at the end of the previous interval.
#[derive(Debug)]
struct Before {
    monotonic_ns: u64,
    ledger: Box<LedgerSample>,
    facts: Box<HostFacts>,
}

/// One interval. Counts are of the interval, unless they say "now".
#[derive(Clone, Debug, PartialEq)]
pub struct StatFrame {
    /// End of the interval.
    pub time: Timestamp,
    /// Length of the interval, s; 0 for the first frame, which has no rates.
    pub interval_s: f64,
    /// Connections in each state now, as `ss -tan` counts them.
    pub connections: StateCounts,
    /// Transitions.
    pub moves: Moves,
    /// Connections that ended, by how they ended; their total is [`StatFrame::closed`].
    pub ends: EndingCounts,
    /// Timewait sockets.
    pub time_wait: TimeWait,
    /// Increase of the kernel's counters, summed over the namespaces that are watched. The filter does not apply.
    pub counters: CounterValues,
    /// Orphans now.
    pub orphans: Orphans,
    /// Settings that limit half-open connections.
    pub syn: SynSettings,
    /// The network namespace, if a single one is watched.
    pub namespace: Option<Namespace>,
    /// Number of transitions.
    pub seen: u64,
    /// Stream records lost.
    pub lost: u64,
    /// Program runs that the kernel skipped; `None` where it does not count them.
    pub missed: Option<u64>,
    /// Resets that were missed; `None` where that is unknown.
    pub missed_resets: Option<u64>,
    /// Sockets now that took no mark. `connections` may be off by as many.
    pub unmarked: u64,
    /// Age of the oldest walk that the numbers of half-open connections, and of timewait sockets in `FIN_WAIT2`, are from, s; `None` if
    /// all were counted now.
    pub walk_age_s: Option<f64>,
    /// See [`LedgerSample::drift`].
    pub drift: Option<u64>,
}

/// Timewait sockets in one interval; `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TimeWait {
    /// Timewait sockets created, in `TIME_WAIT` or `FIN_WAIT2`.
    pub entered: Option<u64>,
    /// Those created in `FIN_WAIT2`, because the peer had not closed yet. Unknown where the kernel refused timewait sockets: it does
    /// not count by state which.
    pub entered_fin_wait2: Option<u64>,
    /// Timewait sockets removed, for any reason.
    pub left: Option<u64>,
    /// Timewait sockets that an outgoing connection took over (`TcpExt:TWRecycled`).
    pub recycled: Option<u64>,
    /// Timewait sockets that the kernel refused to create (`TcpExt:TCPTimeWaitOverflow`).
    pub refused: Option<u64>,
    /// Timewait sockets now.
    pub population: Option<u64>,
    /// `tcp_max_tw_buckets`; `None` for several namespaces, which have a limit each.
    pub limit: Option<u64>,
    /// The namespace that is nearest to its limit.
    #[serde(skip)]
    pub fullest: Option<FullestNamespace>,
}

impl Stat {
    /// An empty tracker; `reasons` decodes the kernel's reset reasons.
    #[must_use]
    pub fn new(reasons: Reasons) -> Self {
        Self {
            reasons,
            ..Self::default()
        }
    }

    /// Takes the ledger.
    pub fn ledger(&mut self, ledger: Box<LedgerSample>) {
        self.ledger = Some(ledger);
    }

    /// Takes the sockets that fire no transitions.
    pub fn sockets(&mut self, walked: Box<Pass>) {
        self.walked = Some(walked);
    }

    /// Takes the kernel's counters.
    pub fn host_facts(&mut self, facts: Box<HostFacts>) {
        self.facts = facts;
    }

    /// Ends an interval that began with the previous call; the first one has no length. `None` before the ledger was read.
    pub fn interval(&mut self, time: Timestamp, monotonic_ns: u64) -> Option<StatFrame> {
        let ledger = self.ledger.clone()?;
        let before = self.before.replace(Before {
            monotonic_ns,
            ledger: ledger.clone(),
            facts: self.facts.clone(),
        });
        let since = |now: u64, then: fn(&LedgerSample) -> u64| {
            before
                .as_ref()
                .map_or(0, |before| now.saturating_sub(then(&before.ledger)))
        };
        let counted = |counter: fn(&TimeWaitCounters) -> Option<u64>| {
            let now = counter(&self.facts.time_wait)?;
            match &before {
                Some(before) => Some(now.saturating_sub(counter(&before.facts.time_wait)?)),
                None => Some(0),
            }
        };
        let mut moves = [[0; STATES]; STATES];
        if let Some(before) = &before {
            for (row, (now, then)) in moves.iter_mut().zip(ledger.moves.iter().zip(&before.ledger.moves)) {
                for (cell, (now, then)) in row.iter_mut().zip(now.iter().zip(then)) {
                    *cell = now.saturating_sub(*then);
                }
            }
        }
        let ends = before.as_ref().map_or_else(EndingCounts::default, |before| {
            self.ends_between(&before.ledger, &ledger)
        });
        let refused = counted(|facts| facts.refused);
        Some(StatFrame {
            time,
            ends,
            interval_s: before.as_ref().map_or(0.0, |before| {
                super::seconds(monotonic_ns.saturating_sub(before.monotonic_ns))
            }),
            connections: self.connections(&ledger),
            seen: super::total(moves.iter().flatten().copied()),
            moves,
            time_wait: TimeWait {
                entered: counted(|facts| facts.entered),
                entered_fin_wait2: (refused == Some(0)).then(|| ends.timewait(TcpState::FinWait2)),
                left: counted(|facts| facts.left),
                recycled: counted(|facts| facts.recycled),
                refused,
                population: self.facts.time_wait.population,
                limit: self.facts.time_wait.limit,
                fullest: self.facts.time_wait.fullest,
            },
            counters: {
                let before = before.as_ref().map_or(&self.facts, |before| &before.facts);
                self.facts.counters.since(&before.counters)
            },
            orphans: self.facts.orphans,
            syn: self.facts.syn,
            namespace: self.facts.namespace.clone(),
            lost: since(ledger.lost, |ledger| ledger.lost),
            missed: ledger
                .missed
                .map(|missed| since(missed, |ledger| ledger.missed.unwrap_or(0))),
            missed_resets: ledger
                .missed_resets
                .map(|resets| since(resets, |ledger| ledger.missed_resets.unwrap_or(0))),
            unmarked: ledger.unmarked,
            walk_age_s: self.facts.walk_age_ns.map(super::seconds),
            drift: ledger.drift,
        })
    }

    /// Connections that ended from `then` to `now`, by how they ended.
    fn ends_between(&self, then: &LedgerSample, now: &LedgerSample) -> EndingCounts {
        let all_resets_seen = now.missed_resets.is_some() && now.missed_resets == then.missed_resets;
        let now = self.ends(now, all_resets_seen);
        now.since(&self.ends(then, all_resets_seen))
    }

    /// Connections that ended since the start, by how they ended; see [`ending::classify`] for `all_resets_seen`.
    fn ends(&self, ledger: &LedgerSample, all_resets_seen: bool) -> EndingCounts {
        let mut counts = EndingCounts::default();
        for &(evidence, ends) in &ledger.ends {
            // A count may be below zero for a moment: one CPU corrects what another one counted.
            counts.add(
                ending::classify(evidence, &self.reasons, all_resets_seen),
                u64::try_from(ends).unwrap_or(0),
            );
        }
        counts.add(Ending::Unknown, ledger.uncounted_ends);
        counts
    }

    /// Sockets of all kinds, as `ss` shows them.
    fn connections(&self, ledger: &LedgerSample) -> StateCounts {
        let mut counts = StateCounts::default();
        for (number, &sockets) in (0..).zip(&ledger.sockets) {
            if let Some(state) = TcpState::from_kernel(number) {
                // A count may be below zero for a moment, if a transition was counted on another CPU while the CPUs were read;
                // or if the count of the sockets was wrong, which the drift reports.
                counts.add(state, u64::try_from(sockets).unwrap_or(0));
            }
        }
        if let Some(walked) = &self.walked {
            counts += StateCounts::from(&Pass {
                full: [0; STATES],
                ..**walked
            });
        }
        counts
    }
}

impl StatFrame {
    /// Transitions from `from` to `to`.
    #[must_use]
    pub fn moved(&self, from: TcpState, to: TcpState) -> u64 {
        self.moves[usize::from(from.number())][usize::from(to.number())]
    }

    /// Transitions that occurred, with their counts, in the order of the kernel's state numbers.
    pub fn transitions(&self) -> impl Iterator<Item = (TcpState, TcpState, u64)> + '_ {
        TcpState::ALL
            .into_iter()
            .flat_map(|from| TcpState::ALL.into_iter().map(move |to| (from, to)))
            .map(|(from, to)| (from, to, self.moved(from, to)))
            .filter(|&(_, _, count)| count > 0)
    }

    /// How often `state` was entered: timewait sockets as the kernel counts them, all others by transitions.
    #[must_use]
    pub fn entered(&self, state: TcpState) -> Option<u64> {
        match state {
            TcpState::TimeWait => self.time_wait.entered,
            _ => Some(super::total(others(state).map(|from| self.moved(from, state)))),
        }
    }

    /// How often `state` was left, likewise. `LISTEN>SYN_RECV` takes nothing from LISTEN.
    #[must_use]
    pub fn left(&self, state: TcpState) -> Option<u64> {
        let to = others(state).filter(|&to| (state, to) != (TcpState::Listen, TcpState::SynRecv));
        match state {
            TcpState::TimeWait => self.time_wait.left,
            _ => Some(super::total(to.map(|to| self.moved(state, to)))),
        }
    }

    /// Connections that this host opened: `CLOSE>SYN_SENT`. Those that found no local port are included.
    #[must_use]
    pub fn opened_active(&self) -> u64 {
        self.moved(TcpState::Close, TcpState::SynSent)
    }

    /// Connections that a peer opened: `LISTEN>SYN_RECV`, equal to `Tcp:PassiveOpens`.
    #[must_use]
    pub fn opened_passive(&self) -> u64 {
        self.moved(TcpState::Listen, TcpState::SynRecv)
    }

    /// Connections that ended; failed connects are included, listeners are not. Counted by their endings: the kernel side may be
    /// read between a transition to CLOSE and its ending, which then belongs to the next interval.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.ends.total()
    }

    /// Connections that went from ESTABLISHED or `CLOSE_WAIT` straight to CLOSE, equal to `Tcp:EstabResets`.
    #[must_use]
    pub fn reset(&self) -> u64 {
        super::total([TcpState::Established, TcpState::CloseWait].map(|from| self.moved(from, TcpState::Close)))
    }
}

/// All states but `state`.
fn others(state: TcpState) -> impl Iterator<Item = TcpState> {
    TcpState::ALL.into_iter().filter(move |&other| other != state)
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::Evidence;
    use tcpwatch_common::evidence::{DEAD, KNOWN, RESET_RECEIVED};

    use super::*;
    use crate::input::counter::Counter;

    fn sample(edit: impl FnOnce(&mut LedgerSample)) -> Box<LedgerSample> {
        let mut sample = LedgerSample {
            moves: [[0; STATES]; STATES],
            sockets: [0; STATES],
            ends: Vec::new(),
            uncounted_ends: 0,
            missed_resets: Some(0),
            lost: 0,
            missed: Some(0),
            unmarked: 0,
            drift: None,
        };
        edit(&mut sample);
        Box::new(sample)
    }

    /// Readings with `count` timewait sockets, accept-queue overflows and orphans.
    fn facts(count: u64) -> Box<HostFacts> {
        let entered = Some(count);
        Box::new(HostFacts {
            time_wait: TimeWaitCounters {
                entered,
                ..TimeWaitCounters::default()
            },
            counters: CounterValues::read(|counter| (counter == Counter::ListenOverflows).then_some(count)),
            orphans: Orphans {
                now: Some(count),
                ..Orphans::default()
            },
            ..HostFacts::default()
        })
    }

    fn interval(stat: &mut Stat, monotonic_ns: u64) -> Option<StatFrame> {
        stat.interval(Timestamp::UNIX_EPOCH, monotonic_ns)
    }

    #[test]
    fn the_first_frame_has_counts_and_no_rates() {
        let mut stat = Stat::default();
        assert_eq!(interval(&mut stat, 1), None);
        stat.ledger(sample(|ledger| {
            ledger.moves[7][2] = 5;
            ledger.sockets[1] = 3;
        }));
        let frame = interval(&mut stat, 2).unwrap();
        assert_eq!((frame.interval_s, frame.seen, frame.opened_active()), (0.0, 0, 0));
        assert_eq!(frame.connections.get(TcpState::Established), 3);
        assert_eq!(frame.time_wait.entered, None);
    }

    #[test]
    fn later_frames_have_the_change_since_the_previous_one() {
        let mut stat = Stat::default();
        stat.ledger(sample(|ledger| ledger.moves[7][2] = 5));
        stat.host_facts(facts(7));
        interval(&mut stat, 0);
        stat.ledger(sample(|ledger| {
            ledger.moves[7][2] = 9;
            ledger.moves[10][3] = 2;
            ledger.moves[1][7] = 1;
            ledger.moves[10][7] = 1;
            ledger.moves[7][7] = 1;
            ledger.lost = 6;
            let peers_reset = Evidence {
                err: 104,
                flags: KNOWN | RESET_RECEIVED,
                from: 1,
                ..Evidence::default()
            };
            ledger.ends = vec![(peers_reset, 1), (Evidence::default(), -1)];
            ledger.uncounted_ends = 2;
        }));
        stat.host_facts(facts(9));
        let frame = interval(&mut stat, 2_000_000_000).unwrap();
        assert_eq!(
            (frame.interval_s, frame.opened_active(), frame.opened_passive()),
            (2.0, 4, 2)
        );
        // The endings: one reset, and two that are unknown.
        assert_eq!((frame.closed(), frame.reset(), frame.lost), (3, 1, 6));
        assert_eq!(frame.seen, 9);
        assert_eq!(
            (frame.ends.get(Ending::ResetByPeer), frame.ends.get(Ending::Unknown)),
            (1, 2)
        );
        assert_eq!(frame.time_wait.entered, Some(2));
        let counter = |counter| frame.counters.get(counter);
        assert_eq!(
            (counter(Counter::ListenOverflows), counter(Counter::OutRsts)),
            (Some(2), None)
        );
        assert_eq!(frame.orphans.now, Some(9));
        assert_eq!(frame.transitions().count(), 5);
    }

    #[test]
    fn a_state_is_entered_and_left_by_transitions_but_for_births_and_itself() {
        let mut stat = Stat::default();
        stat.ledger(sample(|_| {}));
        interval(&mut stat, 1);
        stat.ledger(sample(|ledger| {
            ledger.moves[7][10] = 2;
            ledger.moves[10][3] = 5;
            ledger.moves[10][7] = 1;
            ledger.moves[5][5] = 9;
        }));
        let frame = interval(&mut stat, 2).unwrap();
        let of = |state| (frame.entered(state), frame.left(state));
        assert_eq!(of(TcpState::Listen), (Some(2), Some(1)));
        assert_eq!(of(TcpState::SynRecv), (Some(5), Some(0)));
        assert_eq!(of(TcpState::FinWait2), (Some(0), Some(0)));
        assert_eq!(of(TcpState::TimeWait), (None, None));
    }

    #[test]
    fn a_missed_reset_makes_ends_of_its_interval_unknown() {
        let closed_first = Evidence {
            flags: KNOWN | DEAD,
            from: 5,
            ..Evidence::default()
        };
        let mut stat = Stat::default();
        let mut counts = Vec::new();
        for (seconds, ends, missed_resets) in [
            (1, 0, Some(0)),
            (2, 3, Some(0)),
            (3, 5, Some(1)),
            (4, 9, Some(1)),
            (5, 10, None),
        ] {
            stat.ledger(sample(|ledger| {
                ledger.ends = vec![(closed_first, ends)];
                ledger.missed_resets = missed_resets;
            }));
            let frame = interval(&mut stat, seconds).unwrap();
            counts.push((frame.ends.get(Ending::ClosedFirst), frame.ends.get(Ending::Unknown)));
        }
        assert_eq!(counts, [(0, 0), (3, 0), (0, 2), (4, 0), (0, 1)]);
    }

    #[test]
    fn inputs_may_go_backwards_or_below_zero() {
        let mut stat = Stat::default();
        stat.ledger(sample(|ledger| ledger.moves[7][2] = 5));
        interval(&mut stat, 9);
        stat.ledger(sample(|ledger| ledger.sockets[10] = -4));
        let frame = interval(&mut stat, 3).unwrap();
        assert_eq!((frame.interval_s, frame.seen), (0.0, 0));
        assert_eq!(frame.connections.get(TcpState::Listen), 0);
    }

    #[test]
    fn request_and_timewait_sockets_are_added_and_full_sockets_counted_once() {
        let mut stat = Stat::default();
        let mut walked: Pass = bytemuck::Zeroable::zeroed();
        walked.full[5] = 10;
        walked.request[3] = 2;
        walked.timewait[5] = 3;
        walked.timewait[6] = 4;
        stat.ledger(sample(|ledger| ledger.sockets[5] = 1));
        stat.sockets(Box::new(walked));
        let frame = interval(&mut stat, 1).unwrap();
        assert_eq!(frame.connections.get(TcpState::FinWait2), 4);
        assert_eq!(frame.connections.get(TcpState::SynRecv), 2);
        assert_eq!(frame.connections.get(TcpState::TimeWait), 4);
    }
}
