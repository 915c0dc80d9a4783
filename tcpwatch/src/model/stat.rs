//! What `stat` knows: the counts now, and how far they moved since the tick before.

use jiff::Timestamp;
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

/// Takes what is read of the host, gives a frame at the end of every interval.
#[derive(Debug, Default)]
pub struct Stat {
    reasons: Reasons,
    ledger: Option<Box<LedgerSample>>,
    walked: Option<Box<Pass>>,
    facts: Box<HostFacts>,
    before: Option<Before>,
}

/// What the tick before knew.
#[derive(Debug)]
struct Before {
    monotonic_ns: u64,
    ledger: Box<LedgerSample>,
    facts: Box<HostFacts>,
}

/// One interval.
#[derive(Clone, Debug, PartialEq)]
pub struct StatFrame {
    /// Its end.
    pub time: Timestamp,
    /// Its length, s; 0 for the first, which has no rates.
    pub interval_s: f64,
    /// Connections in each state now, as `ss -tan` would count them.
    pub connections: StateCounts,
    /// Transitions in it.
    pub moves: Moves,
    /// Connections ended in it, by how; together they are [`StatFrame::closed`].
    pub ends: EndingCounts,
    /// TIME_WAIT.
    pub time_wait: TimeWait,
    /// How far the kernel's counters came in it, over the namespaces looked at, whatever the filter.
    pub counters: CounterValues,
    /// Orphans now.
    pub orphans: Orphans,
    /// By what settings half-open connections are bounded.
    pub syn: SynSettings,
    /// The network namespace looked at; `None` where it is not one alone.
    pub namespace: Option<Namespace>,
    /// Transitions counted, in it.
    pub seen: u64,
    /// Stream records lost, in it.
    pub lost: u64,
    /// Runs the kernel skipped, in it; `None` where it does not count them.
    pub missed: Option<u64>,
    /// Resets not heard of, in it; `None` where that is not known.
    pub missed_resets: Option<u64>,
    /// Sockets that took no mark, by which the connections may be off now.
    pub unmarked: u64,
    /// See [`LedgerSample::drift`].
    pub drift: Option<u64>,
}

/// TIME_WAIT in one interval; `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWait {
    /// Timewait sockets made in it, of either substate.
    pub entered: Option<u64>,
    /// Those of them in `FIN_WAIT2`, whose peer had not closed yet; unknown where some were refused, for nothing tells which.
    pub entered_fin_wait2: Option<u64>,
    /// Timewait sockets gone in it, for whatever reason.
    pub left: Option<u64>,
    /// Those of them that an outgoing connection took over.
    pub recycled: Option<u64>,
    /// Timewait sockets refused in it.
    pub refused: Option<u64>,
    /// Timewait sockets now.
    pub population: Option<u64>,
    /// Most there may be; `None` where there are several namespaces, each with a limit of its own.
    pub limit: Option<u64>,
    /// The namespace that is nearest to its limit.
    pub fullest: Option<FullestNamespace>,
}

impl Stat {
    /// Nothing known yet; `reasons` reads the kernel's numbers.
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

    /// The interval from the last call to now, and for the first call one without length; `None` before the ledger was read.
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
                .map(|unheard| since(unheard, |ledger| ledger.missed_resets.unwrap_or(0))),
            unmarked: ledger.unmarked,
            drift: ledger.drift,
        })
    }

    /// Ends from `then` to `now`, by how.
    fn ends_between(&self, then: &LedgerSample, now: &LedgerSample) -> EndingCounts {
        let heard = now.missed_resets.is_some() && now.missed_resets == then.missed_resets;
        self.ends(now, heard).since(&self.ends(then, heard))
    }

    /// All ends until a moment, by how; `heard` says whether every reset was heard of.
    fn ends(&self, ledger: &LedgerSample, heard: bool) -> EndingCounts {
        let mut counts = EndingCounts::default();
        for &(evidence, ends) in &ledger.ends {
            // Below zero for a moment, where one CPU takes back what another counted.
            counts.add(
                ending::decide(evidence, &self.reasons, heard),
                u64::try_from(ends).unwrap_or(0),
            );
        }
        counts.add(Ending::Unknown, ledger.uncounted_ends);
        counts
    }

    /// Sockets of every kind, as `ss` shows them.
    fn connections(&self, ledger: &LedgerSample) -> StateCounts {
        let mut counts = StateCounts::default();
        for (number, &sockets) in (0..).zip(&ledger.sockets) {
            if let Some(state) = TcpState::from_kernel(number) {
                // Below zero for a moment, where a socket moved from one CPU to another while they were read; or where an
                // anchor was off, and then the drift says by how much.
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

    /// The transitions there were, in the order of the kernel's numbers.
    pub fn transitions(&self) -> impl Iterator<Item = (TcpState, TcpState, u64)> + '_ {
        TcpState::ALL
            .into_iter()
            .flat_map(|from| TcpState::ALL.into_iter().map(move |to| (from, to)))
            .map(|(from, to)| (from, to, self.moved(from, to)))
            .filter(|&(_, _, count)| count > 0)
    }

    /// Connections this side opened: `CLOSE>SYN_SENT`, those that found no port included.
    #[must_use]
    pub fn opened_active(&self) -> u64 {
        self.moved(TcpState::Close, TcpState::SynSent)
    }

    /// Connections a peer opened: `LISTEN>SYN_RECV`, equal to `Tcp:PassiveOpens`.
    #[must_use]
    pub fn opened_passive(&self) -> u64 {
        self.moved(TcpState::Listen, TcpState::SynRecv)
    }

    /// Connections that ended: every move to CLOSE except from LISTEN, failed connects included.
    #[must_use]
    pub fn closed(&self) -> u64 {
        let from = TcpState::ALL.into_iter();
        let from = from.filter(|from| !matches!(from, TcpState::Listen | TcpState::Close));
        super::total(from.map(|from| self.moved(from, TcpState::Close)))
    }

    /// Open connections that were torn down at once, equal to `Tcp:EstabResets`.
    #[must_use]
    pub fn reset(&self) -> u64 {
        self.moved(TcpState::Established, TcpState::Close) + self.moved(TcpState::CloseWait, TcpState::Close)
    }
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

    /// So many timewait sockets and overflows.
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
    fn later_frames_have_what_moved_since() {
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
        assert_eq!((frame.closed(), frame.reset(), frame.lost), (1, 1, 6));
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
    fn a_reset_not_heard_of_leaves_the_ends_of_its_interval_undecided() {
        let closed_first = Evidence {
            flags: KNOWN | DEAD,
            from: 5,
            ..Evidence::default()
        };
        let mut stat = Stat::default();
        let mut told = Vec::new();
        for (seconds, ends, unheard) in [
            (1, 0, Some(0)),
            (2, 3, Some(0)),
            (3, 5, Some(1)),
            (4, 9, Some(1)),
            (5, 10, None),
        ] {
            stat.ledger(sample(|ledger| {
                ledger.ends = vec![(closed_first, ends)];
                ledger.missed_resets = unheard;
            }));
            let frame = interval(&mut stat, seconds).unwrap();
            told.push((frame.ends.get(Ending::ClosedFirst), frame.ends.get(Ending::Unknown)));
        }
        assert_eq!(told, [(0, 0), (3, 0), (0, 2), (4, 0), (0, 1)]);
    }

    #[test]
    fn inputs_that_go_backwards_or_below_zero_are_survived() {
        let mut stat = Stat::default();
        stat.ledger(sample(|ledger| ledger.moves[7][2] = 5));
        interval(&mut stat, 9);
        stat.ledger(sample(|ledger| ledger.sockets[10] = -4));
        let frame = interval(&mut stat, 3).unwrap();
        assert_eq!((frame.interval_s, frame.seen), (0.0, 0));
        assert_eq!(frame.connections.get(TcpState::Listen), 0);
    }

    #[test]
    fn requests_and_timewait_sockets_are_added_and_full_ones_not_twice() {
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
