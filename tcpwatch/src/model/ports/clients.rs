//! Clients that use up ports, made up: whether what is foretold of them becomes true.

use super::entry::PortEvent;
use super::table::PortUse;
use crate::input::ports::ends::Port;
use crate::input::ports::range::PortRange;
use crate::input::ports::reuse::{Allowed, TwReuse};
use crate::input::ports::settings::Settings;
use crate::input::ports::walk::Walk;
use crate::model::test_rng::TestRng;

const RANGE: u32 = 1000;

/// A port of the client's, to the destination.
fn port() -> Port {
    Port {
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.0.0.9:80".parse().unwrap(),
        number: 40_000,
        bound: Some(false),
    }
}

fn settings() -> Settings {
    Settings {
        range: PortRange::parse("40000 40999", ""),
        reuse: Some(TwReuse {
            allowed: Allowed::Loopback,
            timestamps: true,
            delay_ms: 1000,
        }),
        autobind_reuse: Some(false),
    }
}

/// How the openings of a client are spread.
#[derive(Clone, Copy, Debug)]
enum Jitter {
    None,
    /// At random times.
    Chance,
    /// Each second has up to 30 % more or less of them.
    Uneven,
}

/// A client of one destination, and how it is watched.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// Openings a second until `CHANGE_S`.
    before: f64,
    /// And from then on.
    rate: f64,
    jitter: Jitter,
    /// How long a connection lasts, s, up to a tenth more or less.
    lasts: f64,
    /// The share that the other side closes first.
    passive: f64,
    /// Connections that are open from the start and stay.
    held: u64,
    /// When watching starts, s: with a walk, and then one every five seconds.
    watched_from: f64,
}

const CHANGE_S: f64 = 100.0;

const PLAIN: Client = Client {
    before: 0.0,
    rate: 50.0,
    jitter: Jitter::None,
    lasts: 0.01,
    passive: 0.0,
    held: 0,
    watched_from: 0.0,
};

/// One connection, s.
struct Connection {
    opened: f64,
    closed: f64,
    free: f64,
}

/// What became of a client.
struct Story {
    ports: Vec<Connection>,
    events: Vec<(f64, PortEvent)>,
    /// When it found no port, or when the story ends.
    end: f64,
    is_full: bool,
}

impl Client {
    /// What it does until two minutes after the change, or until no port is left.
    fn story(&self, seed: u64) -> Story {
        let mut rng = TestRng(seed);
        let stays = || Connection {
            opened: 0.0,
            closed: 1e9,
            free: 1e9,
        };
        let mut story = Story {
            ports: (0..self.held).map(|_| stays()).collect(),
            events: Vec::new(),
            end: CHANGE_S + 120.0,
            is_full: false,
        };
        let mut time = if self.before > 0.0 { 0.0 } else { CHANGE_S };
        let (mut second, mut factor) = (0.0, 1.0);
        while time < story.end {
            if story.ports.iter().filter(|port| port.free > time).count() >= RANGE as usize {
                story.end = time;
                story.is_full = true;
                break;
            }
            if time >= second + 1.0 {
                second = time.floor();
                factor = 0.7 + 0.6 * rng.share();
            }
            let closed = time + self.lasts * (0.9 + 0.2 * rng.share());
            let is_passive = rng.share() < self.passive;
            let free = if is_passive { closed } else { closed + 60.0 };
            story.ports.push(Connection {
                opened: time,
                closed,
                free,
            });
            story.events.push((time, PortEvent::Opened));
            let event = if is_passive { PortEvent::Freed } else { PortEvent::Waits };
            story.events.push((closed, event));
            let rate = if time < CHANGE_S { self.before } else { self.rate };
            time += match self.jitter {
                Jitter::None => 1.0 / rate,
                Jitter::Chance => rng.wait(rate),
                Jitter::Uneven => 1.0 / (rate * factor),
            };
        }
        story.events.sort_by(|a, b| a.0.total_cmp(&b.0));
        story
    }

    /// What is foretold each second from `CHANGE_S` on, once a quarter of the ports is used, and what becomes true, s.
    ///
    /// Not in the ten seconds after a rate changed, for it is the rate of these; of one that begins, or begins to be watched, not in
    /// the first three.
    fn foretold(&self, seed: u64) -> Vec<(Option<f64>, Option<f64>)> {
        let story = self.story(seed);
        let mut table = PortUse::new(settings());
        let mut events = story.events.iter().peekable();
        let mut foretold = Vec::new();
        let mut walk_at = self.watched_from;
        let mut now = self.watched_from;
        let known_in_s = if self.before > 0.0 || self.held > 0 { 10.0 } else { 3.0 };
        while now < story.end {
            while let Some(&(time, event)) = events.next_if(|event| event.0 <= now) {
                if time >= self.watched_from {
                    table.apply(&port(), event, ns(time));
                }
            }
            let held = || story.ports.iter().filter(|port| port.opened <= now && port.free > now);
            let used = held().count() as u64;
            if now >= walk_at {
                let waits = held().filter(|port| port.closed <= now).count() as u64;
                table.walk(Walk::found(port().to_destination(), used, waits), ns(now));
                walk_at += 5.0;
            }
            if used >= u64::from(RANGE) / 4 && now >= CHANGE_S.max(self.watched_from) + known_in_s {
                let truth = story.is_full.then_some(story.end - now);
                foretold.push((table.rows(ns(now))[0].exhausted_in_s, truth));
            }
            now += 1.0;
        }
        foretold
    }

    /// The share of what is foretold that is within 20 % of the truth, or within half a second.
    fn share_right(&self) -> f64 {
        let (mut right, mut all) = (0.0, 0.0);
        for (foretold, truth) in (0..8).flat_map(|seed| self.foretold(seed)) {
            // What is further off than half a minute is not foretold.
            if let Some(truth) = truth.filter(|&truth| truth < 24.0) {
                let off = foretold.map_or(f64::INFINITY, |foretold| (foretold - truth).abs());
                right += if off <= (0.2 * truth).max(0.5) { 1.0 } else { 0.0 };
                all += 1.0;
            }
        }
        assert!(all > 0.0, "{self:?}: nothing foretold");
        right / all
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times of a test")]
fn ns(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Clients that use up 1,000 ports, in words.
fn clients(rate: f64, jitter: Jitter) -> Vec<(&'static str, Client)> {
    let plain = Client { rate, jitter, ..PLAIN };
    let history = Client { before: 5.0, ..plain };
    let half = Client {
        rate: 2.0 * rate,
        passive: 0.5,
        ..plain
    };
    vec![
        ("closes first, at once", plain),
        ("was slower before", history),
        (
            "was slower before, unseen for the most part",
            Client {
                watched_from: CHANGE_S - 30.0,
                ..history
            },
        ),
        ("half closed by the other side", half),
        ("300 connections stay", Client { held: 300, ..plain }),
        ("connections last 5 s", Client { lasts: 5.0, ..plain }),
        ("connections last 20 s", Client { lasts: 20.0, ..plain }),
    ]
}

#[test]
fn exhaustion_is_foretold_within_a_fifth_from_a_quarter_of_the_ports_on() {
    for rate in [18.0, 25.0, 50.0] {
        for (name, client) in clients(rate, Jitter::None) {
            let share = client.share_right();
            // Who closes first is chance, and near what TIME_WAIT can hold little of it decides much.
            let least = if client.passive > 0.0 { 0.95 } else { 1.0 };
            assert!(share >= least, "{name}, {rate}/s: {share}");
        }
    }
}

#[test]
fn with_jitter_nearly_all_of_it_is_within_a_fifth() {
    // The last few ports go when chance has it, and nobody foretells that.
    for (rate, jitter, least) in [
        (25.0, Jitter::Chance, 0.9),
        (50.0, Jitter::Chance, 0.9),
        (25.0, Jitter::Uneven, 0.9),
        (50.0, Jitter::Uneven, 0.85),
    ] {
        for (name, client) in clients(rate, jitter) {
            let share = client.share_right();
            assert!(share >= least, "{name}, {rate}/s, {jitter:?}: {share}");
        }
    }
}

#[test]
fn watching_may_start_in_the_middle_of_it() {
    for rate in [25.0, 50.0] {
        let client = Client {
            rate,
            watched_from: CHANGE_S + 300.0 / rate,
            ..PLAIN
        };
        let share = client.share_right();
        assert!(share >= 0.95, "{rate}/s: {share}");
    }
}

#[test]
fn what_time_wait_can_bear_is_not_foretold_to_run_out() {
    let slow = Client {
        rate: 14.0,
        jitter: Jitter::Chance,
        ..PLAIN
    };
    let half = Client {
        rate: 26.0,
        passive: 0.5,
        ..slow
    };
    let held = Client {
        rate: 9.0,
        held: 300,
        ..slow
    };
    let lasts = Client {
        rate: 10.0,
        lasts: 20.0,
        ..slow
    };
    // In one of a thousand seconds chance makes ten of them look like a rate that TIME_WAIT cannot bear.
    let foretold: Vec<_> = [slow, half, held, lasts]
        .into_iter()
        .flat_map(|client| (0..8).flat_map(move |seed| client.foretold(seed)))
        .collect();
    let wrong = foretold.iter().filter(|(in_s, _)| in_s.is_some()).count();
    assert!(wrong * 500 <= foretold.len(), "{wrong} of {}", foretold.len());
}
