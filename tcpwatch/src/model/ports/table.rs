//! Who holds ephemeral ports, to where, and how close they are to running out.

use hashbrown::HashMap;

use super::ends::Ends;
use super::entry::{Entry, What};
use super::reuse::TwReuse;
use super::row::Row;
use super::walk::{Held, Walk};

/// Destinations followed at most, about 1 KB each.
pub const ENDS_MAX: usize = 4096;

/// Ephemeral ports of one network namespace, by destination.
///
/// Times are of one monotonic clock, ns, and may come in any order.
#[derive(Debug)]
pub struct PortUse {
    range: Option<u32>,
    reuse: Option<TwReuse>,
    entries: HashMap<Ends, Entry>,
    evicted: u64,
    most: usize,
}

impl PortUse {
    /// Nothing held yet, of `range` ports (see [`super::range::PortRange::usable`]); `None` is unknown.
    #[must_use]
    pub fn new(range: Option<u32>, reuse: Option<TwReuse>) -> Self {
        Self {
            range,
            reuse,
            entries: HashMap::new(),
            evicted: 0,
            most: ENDS_MAX,
        }
    }

    /// Takes the settings anew: they may be changed at any time.
    pub fn set(&mut self, range: Option<u32>, reuse: Option<TwReuse>) {
        self.range = range;
        self.reuse = reuse;
    }

    /// A connection was opened from here; one that found no port counts, and is freed at once.
    pub fn opened(&mut self, ends: Ends, monotonic_ns: u64) {
        self.apply(ends, What::Opened, monotonic_ns);
    }

    /// A connection opened from here entered TIME_WAIT, or `FIN_WAIT2` as a timewait socket.
    pub fn time_wait(&mut self, ends: Ends, monotonic_ns: u64) {
        self.apply(ends, What::Waits, monotonic_ns);
    }

    /// A connection opened from here ended and holds its port no more.
    pub fn freed(&mut self, ends: Ends, monotonic_ns: u64) {
        self.apply(ends, What::Freed, monotonic_ns);
    }

    pub(super) fn apply(&mut self, ends: Ends, what: What, monotonic_ns: u64) {
        self.entry(ends, monotonic_ns).apply(what, monotonic_ns);
    }

    fn entry(&mut self, ends: Ends, now_ns: u64) -> &mut Entry {
        if self.entries.len() >= self.most && !self.entries.contains_key(&ends) {
            self.evict(now_ns);
        }
        self.entries.entry(ends).or_insert_with(|| Entry::new(now_ns))
    }

    /// Makes room: a quarter goes at once, those that hold fewest ports, and of these the ones silent for longest.
    fn evict(&mut self, now_ns: u64) {
        let rank = |(ends, entry): (&Ends, &Entry)| (entry.used(now_ns), entry.last_ns, *ends);
        let mut ranks: Vec<_> = self.entries.iter().map(rank).collect();
        ranks.sort_unstable();
        for (_, _, ends) in ranks.iter().take(ranks.len().div_ceil(4)) {
            self.entries.remove(ends);
            self.evicted = self.evicted.saturating_add(1);
        }
    }

    /// Destinations that were forgotten for want of room.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes what a walk of all sockets found, which ended at `monotonic_ns`; destinations it did not meet hold no port.
    pub fn walk(&mut self, mut walk: Walk, monotonic_ns: u64) {
        self.entries.retain(|_, entry| !entry.is_of_another_time(monotonic_ns));
        for (ends, entry) in &mut self.entries {
            entry.walked(walk.held.remove(ends).unwrap_or_default(), monotonic_ns);
        }
        self.entries.retain(|_, entry| !entry.is_idle(monotonic_ns));
        // The largest, so that a walk does not put out what it puts in.
        let mut met: Vec<(Ends, Held)> = walk.held.into_iter().collect();
        met.sort_unstable_by_key(|&(ends, held)| (std::cmp::Reverse(held.used), ends));
        self.evicted = self.evicted.saturating_add(met.len().saturating_sub(self.most) as u64);
        met.truncate(self.most);
        for (ends, held) in met {
            self.entry(ends, monotonic_ns).walked(held, monotonic_ns);
        }
    }

    /// Every destination followed, those whose ports run out first, then those that hold most.
    #[must_use]
    pub fn rows(&self, now_ns: u64) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .entries
            .iter()
            .map(|(&ends, entry)| entry.row(ends, self.range, self.reuse, now_ns))
            .collect();
        rows.sort_unstable_by(|a, b| {
            let left = |row: &Row| row.exhausted_in_s.unwrap_or(f64::INFINITY);
            let order = left(a).total_cmp(&left(b));
            order.then(b.used.cmp(&a.used)).then(a.ends.cmp(&b.ends))
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dice::Dice;
    use crate::model::ports::SECOND_NS;

    const S: u64 = SECOND_NS;
    const RANGE: u32 = 1000;

    fn ends(port: u16) -> Ends {
        Ends {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.9".parse().unwrap(),
            port,
        }
    }

    fn table() -> PortUse {
        PortUse::new(Some(RANGE), Some(TwReuse::Loopback))
    }

    #[test]
    fn between_walks_events_move_the_counts() {
        let mut table = table();
        table.walk(Walk::found(ends(80), 100, 40), 1000 * S);
        for _ in 0..10 {
            table.opened(ends(80), 1001 * S);
        }
        for _ in 0..4 {
            table.time_wait(ends(80), 1002 * S);
        }
        table.freed(ends(80), 1002 * S);
        let row = table.rows(1002 * S)[0];
        // Of the forty, which may have entered at any time in the minute before, one or two are over.
        assert!((107..=108).contains(&row.used), "{row:?}");
        assert!((42..=43).contains(&row.time_wait), "{row:?}");
        // What the next walk finds is what there is, and what happened before it is in it.
        table.walk(Walk::found(ends(80), 50, 20), 1003 * S);
        table.opened(ends(80), 1003 * S);
        table.time_wait(ends(80), 1002 * S);
        table.freed(ends(80), 1002 * S);
        let row = table.rows(1003 * S)[0];
        assert_eq!((row.used, row.time_wait), (50, 20));
        table.walk(Walk::default(), 1004 * S);
        assert_eq!(table.rows(1004 * S)[0].used, 0);
    }

    #[test]
    fn without_walks_events_alone_tell() {
        let mut table = table();
        for event in 0..500 {
            let ns = 1000 * S + event * S / 50;
            table.opened(ends(80), ns);
            table.time_wait(ends(80), ns + 1000);
        }
        let row = table.rows(1010 * S)[0];
        assert_eq!((row.used, row.time_wait), (500, 500));
        assert!((row.opened_per_s - 50.0).abs() < 0.01);
        assert!((row.exhausted_in_s.unwrap() - 10.0).abs() < 0.1);
    }

    #[test]
    fn what_is_not_known_is_not_foretold() {
        for (range, reuse) in [
            (None, Some(TwReuse::Never)),
            (Some(RANGE), None),
            (None, None),
            (Some(RANGE), Some(TwReuse::Always)),
        ] {
            let mut table = PortUse::new(range, reuse);
            table.walk(Walk::found(ends(80), 1000, 1000), 1000 * S);
            let row = table.rows(1010 * S)[0];
            assert_eq!((row.range, row.exhausted_in_s), (range, None));
            table.set(Some(RANGE), Some(TwReuse::Never));
            table.walk(Walk::found(ends(80), 1000, 1000), 1010 * S);
            assert_eq!(table.rows(1010 * S)[0].exhausted_in_s, Some(0.0));
        }
    }

    #[test]
    fn the_closest_to_exhaustion_comes_first() {
        let mut table = table();
        table.walk(Walk::found(ends(1), 100, 0), 1000 * S);
        for (port, each) in [(2, 30), (3, 60), (4, 1)] {
            for event in 0..each * 10 {
                table.opened(ends(port), 1000 * S + event * S / each);
            }
        }
        for _ in 0..50 {
            table.opened(ends(5), 1000 * S);
        }
        let ports: Vec<u16> = table.rows(1010 * S).iter().map(|row| row.ends.port).collect();
        assert_eq!(ports, [3, 2, 1, 5, 4]);
    }

    #[test]
    fn the_smallest_are_forgotten_and_counted() {
        let mut table = table();
        table.most = 8;
        for _ in 0..5 {
            table.opened(ends(80), 1000 * S);
        }
        for port in 1000..2000 {
            table.opened(ends(port), 1001 * S);
        }
        assert!(table.entries.len() <= 8);
        assert_eq!(table.evicted() + table.entries.len() as u64, 1001);
        assert_eq!(table.rows(1001 * S)[0].used, 5);
        // A walk brings the largest back.
        let mut walk = Walk::found(ends(7), 500, 0);
        for port in 3000..3020 {
            walk.held.insert(
                ends(port),
                Held {
                    used: u64::from(port),
                    time_wait: 0,
                },
            );
        }
        table.walk(walk, 1002 * S);
        let rows = table.rows(1002 * S);
        assert!(rows.len() <= 8);
        assert_eq!(rows[0].used, 3019);
    }

    #[test]
    fn what_is_idle_is_dropped() {
        let mut table = table();
        table.opened(ends(80), 1000 * S);
        table.freed(ends(80), 1001 * S);
        table.walk(Walk::default(), 1060 * S);
        assert_eq!(table.rows(1060 * S).len(), 1);
        table.walk(Walk::default(), 1062 * S);
        assert_eq!((table.rows(1062 * S).len(), table.evicted()), (0, 0));
    }

    #[test]
    fn any_order_of_events_and_any_clock_is_survived() {
        let mut dice = Dice(7);
        let times = [0, 1, S, 1000 * S, 1001 * S, 1060 * S, u64::MAX - 1, u64::MAX];
        let mut table = table();
        table.most = 3;
        for _ in 0..20_000 {
            let bits = dice.next();
            let time = times[usize::try_from(bits % 8).unwrap()];
            let ends = ends(u16::try_from(bits >> 8 & 3).unwrap());
            match bits >> 16 & 7 {
                0 | 1 => table.opened(ends, time),
                2 | 3 => table.time_wait(ends, time),
                4 => table.freed(ends, time),
                5 => table.walk(Walk::found(ends, bits >> 60, bits >> 61), time),
                6 => table.walk(Walk::found(ends, 1, u64::MAX), time),
                _ => {
                    for row in table.rows(time) {
                        let left = row.exhausted_in_s.unwrap_or(0.0);
                        assert!((0.0..=60.0).contains(&left) && row.opened_per_s >= 0.0, "{row:?}");
                    }
                }
            }
        }
        // A clock that was set back, or one wrong time, is over with the next walk.
        table.opened(ends(80), u64::MAX);
        table.walk(Walk::default(), 2000 * S);
        for event in 0..100 {
            table.opened(ends(80), 2000 * S + event * S / 50);
        }
        let row = *table.rows(2002 * S).iter().find(|row| row.ends.port == 80).unwrap();
        assert_eq!((row.used, row.opened_per_s), (100, 50.0));
    }
}
