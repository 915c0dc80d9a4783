//! Ephemeral ports in use, by destination and by source address, and when they run out.

use hashbrown::HashMap;

use super::entry::{PortEntry, PortEvent, ReuseRules};
use super::row::Row;
use crate::input::ports::ends::{Ends, Port};
use crate::input::ports::range::PortRange;
use crate::input::ports::reuse::TIME_WAIT_MS;
use crate::input::ports::settings::Settings;
use crate::input::ports::walk::Walk;

/// Destinations and source addresses followed at most, about 1 KB each.
///
/// If one more comes, the quarter that holds the fewest ports is evicted and counted. A walk of the sockets removes entries
/// without a port for a minute.
pub const ENDS_MAX: usize = 4096;

/// Ephemeral ports of one network namespace: by destination, and by source address where bind(2) takes them.
///
/// Times are of one monotonic clock, ns, and may come in any order.
#[derive(Debug)]
pub struct PortUse {
    settings: Settings,
    entries: HashMap<Ends, PortEntry>,
    evicted: u64,
    left_out: u64,
    most: usize,
}

impl PortUse {
    /// Nothing held yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            entries: HashMap::new(),
            evicted: 0,
            left_out: 0,
            most: ENDS_MAX,
        }
    }

    /// Takes the settings anew: they may be changed at any time.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// A connection was opened from here.
    pub fn opened(&mut self, port: &Port, monotonic_ns: u64) {
        self.apply(port, PortEvent::Opened, monotonic_ns);
    }

    /// A connection opened from here entered TIME_WAIT, or `FIN_WAIT2` as a timewait socket.
    pub fn time_wait(&mut self, port: &Port, monotonic_ns: u64) {
        self.apply(port, PortEvent::Waits, monotonic_ns);
    }

    /// A connection opened from here ended and holds its port no more.
    pub fn freed(&mut self, port: &Port, monotonic_ns: u64) {
        self.apply(port, PortEvent::Freed, monotonic_ns);
    }

    pub(super) fn apply(&mut self, port: &Port, event: PortEvent, monotonic_ns: u64) {
        let range = self.settings.range.as_ref();
        if range.is_some_and(|range| !range.contains(port.number)) {
            // Somebody named it to bind(2).
            return;
        }
        self.entry(port.to_destination(), monotonic_ns)
            .apply(event, port.bound, monotonic_ns);
        // Of a source address nothing is asked until bind(2) takes its ports; from then on all of them are.
        let source = port.of_source();
        if port.bound == Some(true) || self.entries.contains_key(&source) {
            self.entry(source, monotonic_ns).apply(event, port.bound, monotonic_ns);
        }
    }

    fn entry(&mut self, ends: Ends, now_ns: u64) -> &mut PortEntry {
        if self.entries.len() >= self.most && !self.entries.contains_key(&ends) {
            self.evict(now_ns);
        }
        self.entries.entry(ends).or_insert_with(|| PortEntry::new(now_ns))
    }

    /// Makes room: a quarter goes at once, those that hold fewest ports, and of these the ones silent for longest.
    fn evict(&mut self, now_ns: u64) {
        let rank = |(ends, entry): (&Ends, &PortEntry)| (entry.used(now_ns), entry.last_ns, *ends);
        let mut ranks: Vec<_> = self.entries.iter().map(rank).collect();
        ranks.sort_unstable();
        for (_, _, ends) in ranks.iter().take(ranks.len().div_ceil(4)) {
            self.entries.remove(ends);
            self.evicted = self.evicted.saturating_add(1);
        }
    }

    /// Destinations and source addresses evicted since the start.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Sockets that the last walk did not count: it had no room for their destinations.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes what a walk of all sockets found, which ended at `monotonic_ns`; destinations it did not meet hold no port.
    pub fn walk(&mut self, mut walk: Walk, monotonic_ns: u64) {
        self.left_out = walk.left_out();
        self.entries.retain(|ends, entry| {
            if entry.is_of_another_time(monotonic_ns) {
                return false;
            }
            walk.take(ends).is_some_and(|held| {
                entry.walked(held, monotonic_ns);
                !entry.is_idle(monotonic_ns)
            })
        });
        // The largest, so that a walk does not put out what it puts in.
        let mut met = walk.rest();
        self.evicted = self.evicted.saturating_add(met.len().saturating_sub(self.most) as u64);
        met.truncate(self.most);
        for (ends, held) in met {
            self.entry(ends, monotonic_ns).walked(held, monotonic_ns);
        }
    }

    /// A row for each entry. Those that run out come first, the soonest first, then those with the most ports.
    #[must_use]
    pub fn rows(&self, now_ns: u64) -> Vec<Row> {
        let Settings {
            range,
            reuse,
            autobind_reuse,
        } = &self.settings;
        let is_bound = |(ends, entry): (&Ends, &PortEntry)| ends.destination.is_none() && entry.is_bound_lately(now_ns);
        let rules = ReuseRules {
            range: range.as_ref().map(PortRange::usable),
            // bind(2) takes no port that TIME_WAIT holds, whatever connect(2) may.
            held_ms: Some(TIME_WAIT_MS),
            reuse: *reuse,
            others_bound: self.entries.iter().any(is_bound),
            may_share: *autobind_reuse != Some(false),
        };
        let row = |(&ends, entry): (&Ends, &PortEntry)| {
            let held_ms = match ends.destination {
                Some(destination) => reuse.map(|reuse| reuse.held_ms(ends.source, destination.ip())),
                None => rules.held_ms,
            };
            entry.row(ends, ReuseRules { held_ms, ..rules }, now_ns)
        };
        let mut rows: Vec<Row> = self.entries.iter().map(row).collect();
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
    use std::net::SocketAddr;

    use super::*;
    use crate::input::ports::reuse::{Allowed, TwReuse};
    use crate::model::ports::SECOND_NS;
    use crate::model::ports::row::Limit;
    use crate::model::test_rng::TestRng;

    const S: u64 = SECOND_NS;

    fn ends(port: u16) -> Ends {
        Ends {
            source: "10.0.0.1".parse().unwrap(),
            destination: Some(SocketAddr::new("10.0.0.9".parse().unwrap(), port)),
        }
    }

    /// All of the source.
    fn source() -> Ends {
        Ends {
            destination: None,
            ..ends(0)
        }
    }

    /// A port of a connection to there that connect(2) chose.
    fn to(port: u16) -> Port {
        Port {
            source: ends(port).source,
            destination: ends(port).destination.unwrap(),
            number: 40_000,
            bound: Some(false),
        }
    }

    /// One that bind(2) took.
    fn bound(port: u16) -> Port {
        Port {
            bound: Some(true),
            ..to(port)
        }
    }

    fn settings(allowed: Allowed) -> Settings {
        Settings {
            range: PortRange::parse("40000 40999", ""),
            reuse: Some(TwReuse {
                allowed,
                timestamps: true,
                delay_ms: 1000,
            }),
            autobind_reuse: Some(false),
        }
    }

    fn table() -> PortUse {
        PortUse::new(settings(Allowed::Loopback))
    }

    fn row(table: &PortUse, ends: Ends, now_ns: u64) -> Row {
        let rows = table.rows(now_ns);
        *rows.iter().find(|row| row.ends == ends).expect("a row")
    }

    #[test]
    fn the_rate_of_the_first_second_counts_all_its_events() {
        let mut table = table();
        let first_ns = 1000 * S + 600_000_000;
        for event in 0..36 {
            table.opened(&to(80), first_ns + event * S / 40);
        }
        let row = table.rows(first_ns + 36 * S / 40)[0];
        assert!((row.opened_per_s - 36.0).abs() < 0.1, "{row:?}");
    }

    #[test]
    fn between_walks_events_move_the_counts() {
        let mut table = table();
        table.walk(Walk::found(ends(80), 100, 40), 1000 * S);
        for _ in 0..10 {
            table.opened(&to(80), 1001 * S);
        }
        for _ in 0..4 {
            table.time_wait(&to(80), 1002 * S);
        }
        table.freed(&to(80), 1002 * S);
        let row = table.rows(1002 * S)[0];
        // The forty entered just before, as far as is known, and none is over.
        assert_eq!((row.used, row.time_wait), (109, 44), "{row:?}");
        // What the next walk finds is what there is, and what happened before it is in it.
        table.walk(Walk::found(ends(80), 50, 20), 1003 * S);
        table.opened(&to(80), 1003 * S);
        table.time_wait(&to(80), 1002 * S);
        table.freed(&to(80), 1002 * S);
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
            table.opened(&to(80), ns);
            table.time_wait(&to(80), ns + 1000);
        }
        let row = table.rows(1010 * S)[0];
        assert_eq!((row.used, row.time_wait), (500, 500));
        assert!((row.opened_per_s - 50.0).abs() < 0.01);
        assert!((row.exhausted_in_s.unwrap() - 10.0).abs() < 0.1);
    }

    #[test]
    fn what_is_not_known_is_not_foretold() {
        let known = settings(Allowed::Never);
        for unknown in [
            Settings {
                range: None,
                ..known.clone()
            },
            Settings {
                reuse: None,
                ..known.clone()
            },
            Settings::default(),
        ] {
            let range = unknown.range.as_ref().map(PortRange::usable);
            let mut table = PortUse::new(unknown);
            table.walk(Walk::found(ends(80), 1000, 1000), 1000 * S);
            let row = table.rows(1000 * S)[0];
            assert_eq!((row.range, row.free, row.exhausted_in_s), (range, None, None));
            table.set(known.clone());
            let row = table.rows(1000 * S)[0];
            assert_eq!((row.free, row.exhausted_in_s), (Some(0), Some(0.0)));
        }
    }

    #[test]
    fn what_connect_may_take_from_time_wait_is_free() {
        let mut table = PortUse::new(settings(Allowed::Always));
        table.walk(Walk::found(ends(80), 1000, 1000), 1000 * S);
        let row = table.rows(1010 * S)[0];
        assert_eq!(
            (row.free, row.held_ms, row.exhausted_in_s),
            (Some(1000), Some(1000), None)
        );
        // What bind(2) takes is not.
        for event in 0..600 {
            let ns = 1000 * S + event * S / 60;
            table.opened(&bound(80), ns);
            table.time_wait(&bound(80), ns + 1000);
        }
        let row = self::row(&table, source(), 1010 * S);
        assert_eq!((row.free, row.held_ms), (Some(400), Some(60_000)));
        assert!((row.exhausted_in_s.unwrap() - 400.0 / 60.0).abs() < 0.1, "{row:?}");
    }

    #[test]
    fn two_connections_of_a_client_that_begins_are_no_growth_for_ever() {
        let mut table = PortUse::new(settings(Allowed::Always));
        for event in 0..2646 {
            let ns = 1000 * S + event * S / 980;
            table.opened(&to(80), ns);
            if event >= 2 {
                table.time_wait(&to(80), ns + 1000);
            }
        }
        let row = self::row(&table, ends(80), 1000 * S + 2646 * S / 980);
        assert!(row.free.is_some_and(|free| (10..30).contains(&free)), "{row:?}");
        assert_eq!(row.exhausted_in_s, None, "{row:?}");
    }

    #[test]
    fn an_end_that_is_told_late_is_no_growth() {
        let mut table = PortUse::new(settings(Allowed::Always));
        for event in 0..990 {
            table.opened(&to(80), 1000 * S + event * S / 990);
        }
        for event in 0..850 {
            table.time_wait(&to(80), 1000 * S + event * S / 990);
        }
        // 140 a second more than ended would be none of 10 left; but a walk finds that all ended.
        let foretold = |table: &PortUse| row(table, ends(80), 1001 * S).exhausted_in_s;
        assert!(foretold(&table).is_some());
        table.walk(Walk::found(ends(80), 990, 990), 1001 * S);
        assert_eq!(foretold(&table), None);
    }

    #[test]
    fn what_bind_takes_runs_out_for_the_source_address() {
        let mut table = table();
        let open = |table: &mut PortUse, port: fn(u16) -> Port| {
            for event in 0..500 {
                let ns = 1000 * S + event * S / 50;
                let port = port(80 + u16::try_from(event % 2).unwrap());
                table.opened(&port, ns);
                table.time_wait(&port, ns + 1000);
            }
        };
        open(&mut table, bound);
        let all = row(&table, source(), 1010 * S);
        assert_eq!(
            (all.used, all.time_wait, all.free, all.limit),
            (500, 500, Some(500), None)
        );
        assert!((all.exhausted_in_s.unwrap() - 10.0).abs() < 0.1, "{all:?}");
        let one = row(&table, ends(80), 1010 * S);
        assert_eq!((one.used, one.exhausted_in_s, one.limit), (250, None, None));
        assert!((one.opened_per_s - 25.0).abs() < 0.01, "{one:?}");
        assert_eq!(table.rows(1010 * S)[0].ends, source(), "event runs out comes first");
        // A walk tells how many ports are held, each once.
        let mut walk = Walk::found(source(), 700, 700);
        walk.find(ends(80), 350, 350);
        walk.find(ends(81), 350, 350);
        table.walk(walk, 1010 * S);
        assert_eq!(row(&table, source(), 1010 * S).used, 700);
        // What connect(2) chooses may share them, and does not take those that are bound.
        open(&mut table, to);
        let (all, one) = (row(&table, source(), 1010 * S), row(&table, ends(80), 1010 * S));
        assert_eq!((all.limit, one.limit), (Some(Limit::Earliest), Some(Limit::Latest)));
        assert!(one.exhausted_in_s.is_some(), "{one:?}");
        // Where connect(2) alone chooses there is no such row.
        let mut table = self::table();
        open(&mut table, to);
        assert!(
            table
                .rows(1010 * S)
                .iter()
                .all(|row| row.ends.destination.is_some() && row.limit.is_none())
        );
    }

    #[test]
    fn what_bind_takes_may_be_shared_where_that_is_allowed() {
        for (autobind_reuse, limit) in [
            (Some(false), None),
            (Some(true), Some(Limit::Earliest)),
            (None, Some(Limit::Earliest)),
        ] {
            let mut table = PortUse::new(Settings {
                autobind_reuse,
                ..settings(Allowed::Never)
            });
            table.opened(&bound(80), 1000 * S);
            assert_eq!(row(&table, source(), 1001 * S).limit, limit);
        }
    }

    #[test]
    fn a_port_outside_of_the_range_is_nobodys() {
        let mut table = table();
        for port in [to(80), bound(80)] {
            table.opened(&Port { number: 39_999, ..port }, 1000 * S);
        }
        assert_eq!(table.rows(1000 * S), []);
    }

    #[test]
    fn who_took_a_port_may_be_unknown() {
        let mut table = table();
        table.opened(&Port { bound: None, ..to(80) }, 1000 * S);
        assert_eq!(table.rows(1000 * S).len(), 1);
        table.opened(&bound(80), 1000 * S);
        table.opened(&Port { bound: None, ..to(80) }, 1000 * S);
        let row = row(&table, source(), 1000 * S);
        assert_eq!((row.used, row.limit), (2, Some(Limit::Earliest)));
    }

    #[test]
    fn the_closest_to_exhaustion_comes_first() {
        let mut table = table();
        table.walk(Walk::found(ends(1), 100, 0), 1000 * S);
        for (port, each) in [(2, 30), (3, 60), (4, 1)] {
            for event in 0..each * 10 {
                table.opened(&to(port), 1000 * S + event * S / each);
            }
        }
        for _ in 0..50 {
            table.opened(&to(5), 1000 * S);
        }
        let ports: Vec<u16> = table
            .rows(1010 * S)
            .iter()
            .map(|row| row.ends.destination.unwrap().port())
            .collect();
        assert_eq!(ports, [3, 2, 1, 5, 4]);
    }

    #[test]
    fn the_smallest_are_forgotten_and_counted() {
        let mut table = table();
        table.most = 8;
        for _ in 0..5 {
            table.opened(&to(80), 1000 * S);
        }
        for port in 1000..2000 {
            table.opened(&to(port), 1001 * S);
        }
        assert!(table.entries.len() <= 8);
        assert_eq!(table.evicted() + table.entries.len() as u64, 1001);
        assert_eq!(table.rows(1001 * S)[0].used, 5);
        // A walk brings the largest back.
        let mut walk = Walk::found(ends(7), 500, 0);
        for port in 3000..3020 {
            walk.find(ends(port), port.into(), 0);
        }
        table.walk(walk, 1002 * S);
        let rows = table.rows(1002 * S);
        assert!(rows.len() <= 8);
        assert_eq!(rows[0].used, 3019);
    }

    #[test]
    fn what_is_idle_is_dropped() {
        let mut table = table();
        table.opened(&to(80), 1000 * S);
        table.freed(&to(80), 1001 * S);
        table.walk(Walk::default(), 1060 * S);
        assert_eq!(table.rows(1060 * S).len(), 1);
        table.walk(Walk::default(), 1062 * S);
        assert_eq!((table.rows(1062 * S).len(), table.evicted()), (0, 0));
    }

    #[test]
    fn any_order_of_events_and_any_clock_is_survived() {
        let mut rng = TestRng(7);
        let times = [0, 1, S, 1000 * S, 1001 * S, 1060 * S, u64::MAX - 1, u64::MAX];
        let mut table = table();
        table.most = 3;
        for _ in 0..20_000 {
            let bits = rng.next();
            let time = times[usize::try_from(bits % 8).unwrap()];
            let number = u16::try_from(bits >> 8 & 3).unwrap();
            let port = if bits & 1 << 20 == 0 { to(number) } else { bound(number) };
            let ends = if bits & 1 << 21 == 0 { ends(number) } else { source() };
            match bits >> 16 & 7 {
                0 | 1 => table.opened(&port, time),
                2 | 3 => table.time_wait(&port, time),
                4 => table.freed(&port, time),
                5 => table.walk(Walk::found(ends, bits >> 60, bits >> 61), time),
                6 => table.walk(Walk::found(self::ends(number), 1, u64::MAX), time),
                _ => {
                    for row in table.rows(time) {
                        let left = row.exhausted_in_s.unwrap_or(0.0);
                        assert!((0.0..=60.0).contains(&left) && row.opened_per_s >= 0.0, "{row:?}");
                    }
                }
            }
        }
        // A clock that was set back, or one wrong time, is over with the next walk.
        table.opened(&to(80), u64::MAX);
        table.walk(Walk::default(), 2000 * S);
        for event in 0..100 {
            table.opened(&to(80), 2000 * S + event * S / 50);
        }
        let row = row(&table, ends(80), 2002 * S);
        assert_eq!((row.used, row.opened_per_s), (100, 50.0));
    }
}
