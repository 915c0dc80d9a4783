//! Local ports run low where 80 % of them are taken, and run out where a connect found none or, if the last ten seconds go on, none is
//! free within half a minute.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::finding::{Finding, Severity, Value};
use super::hysteresis::Hysteresis;
use super::{Detector, Frame, MOST, opener_owner, percent, share, within};
use crate::explain::kind::FindingKind;
use crate::explain::sysctl_command::set;
use crate::input::owner::Owner;
use crate::input::ports::ends::Ends;
use crate::input::ports::reuse::{TIME_WAIT_MS, TwReuse};
use crate::input::setting::Setting;
use crate::model::churn::{ChurnFrame, Opener};
use crate::model::ending::Ending;
use crate::model::format::{several, thousands};
use crate::model::ports::row::{Limit, Row};
use crate::model::real;
use crate::model::stat::StatFrame;

/// Share of taken ports with which they run low, percent: connect(2) tries ports at random, and takes longer the fewer are free.
pub(crate) const LOW: u32 = 80;
/// Share of the held ports in TIME_WAIT that makes TIME_WAIT the cause.
const WAITS: f64 = 0.5;
/// Share of the connects to a destination that makes one process the cause.
const CULPRIT: f64 = 0.5;

/// Inspects the ports in use, their forecast, and the connects that found none.
#[derive(Debug, Default)]
pub struct PortExhaustion {
    low: Hysteresis<Ends>,
}

impl Detector for PortExhaustion {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts() else { return };
        self.low.turn();
        let Some(churn) = frame.churn.as_ref() else {
            findings.extend(none_left(stat, stat.ends.get(Ending::NoPort), false));
            return;
        };
        let mut failed = FailedConnects::from_frame(churn);
        let before = findings.len();
        for row in churn.ports.iter().flatten() {
            let taken = row.range.zip(row.free).map(|(range, free)| {
                let range = u64::from(range);
                share(range.saturating_sub(free), range)
            });
            let is_low = taken.is_some_and(|taken| {
                self.low
                    .holds(row.ends, |slack| slack.reaches(100.0 * taken, LOW.into()))
            });
            let is_reported = is_low || row.exhausted_in_s.is_some() || failed.has(&row.ends);
            if is_reported && findings.len() - before < MOST {
                findings.push(ports_finding(churn, row, taken, failed.take(&row.ends)));
            }
        }
        findings.extend(none_left(stat, failed.rest(), true));
    }
}

/// Connects that found no port, by where to.
struct FailedConnects(HashMap<Option<(IpAddr, u16)>, u64>);

impl FailedConnects {
    fn from_frame(churn: &ChurnFrame) -> Self {
        let mut failed = HashMap::new();
        for route in &churn.by_name {
            let count = route.tally.failed.get(Ending::NoPort);
            if count > 0 {
                let to = route.destination.map(|to| (to.address.ip.to_canonical(), to.port));
                let sum: &mut u64 = failed.entry(to).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        Self(failed)
    }

    /// Whether some connects to the destination of `ends` are in no finding yet.
    fn has(&self, ends: &Ends) -> bool {
        let to = ends.destination.map(|to| (to.ip(), to.port()));
        to.is_some() && self.0.contains_key(&to)
    }

    /// Takes out those to the destination of `ends`; `None` for every destination, where bind(2) fails unseen.
    fn take(&mut self, ends: &Ends) -> Option<u64> {
        let to = ends.destination?;
        let to = (to.ip(), to.port());
        Some(self.0.remove(&Some(to)).unwrap_or(0))
    }

    /// All that are in no finding yet.
    fn rest(&self) -> u64 {
        self.0.values().fold(0, |sum, &count| sum.saturating_add(count))
    }
}

/// The finding on ports that run low or out.
fn ports_finding(churn: &ChurnFrame, row: &Row, taken: Option<f64>, failed: Option<u64>) -> Finding {
    let earliest = row.limit == Some(Limit::Earliest);
    let is_out = row.exhausted_in_s.is_some_and(|seconds| seconds <= 0.0);
    // The ports that are full in so long at the earliest may never be full.
    let is_critical = failed > Some(0) || (row.exhausted_in_s.is_some() && !earliest);
    let severity = Severity::critical_if(is_critical);
    let ports = match row.ends.destination {
        Some(to) => format!("local ports from {} to {to}", row.ends.source),
        None => format!("local ports that bind() takes for {}", row.ends.source),
    };
    let limit = match row.limit {
        Some(Limit::Earliest) => " at the earliest",
        Some(Limit::Latest) => " at the latest",
        None => "",
    };
    let when = match row.exhausted_in_s {
        Some(_) if is_out => format!("none is left of the {ports}"),
        None if failed > Some(0) => format!("none was left of the {ports}"),
        Some(seconds) => format!("{ports} are full in about {seconds:.0} s{limit} at the rate of the last 10 s"),
        None => format!("{ports} run low"),
    };
    // Where a connect found none, a port in TIME_WAIT is not as good as a free one.
    let taken = match row.range {
        Some(range) if failed > Some(0) => Some(share(row.used, range.into())),
        _ => taken,
    };
    let found_none = match failed {
        None | Some(0) => String::new(),
        Some(failed) => format!("; {} found none", several(failed, "connect", "connects")),
    };
    let title = format!(
        "{when}: {} of {} held, {}, {} by TIME_WAIT{found_none}",
        thousands(row.used),
        row.range.map_or_else(|| "?".into(), |range| thousands(range.into())),
        taken.map_or_else(|| "? %".into(), percent),
        thousands(row.time_wait)
    );
    let mut evidence = ends(&row.ends).to_vec();
    evidence.extend([
        ("used", row.used.into()),
        ("time_wait", row.time_wait.into()),
        ("range", row.range.map(u64::from).into()),
        ("free", row.free.into()),
        ("opened_per_s", row.opened_per_s.into()),
        ("growth_per_s", row.growth_per_s.into()),
        ("exhausted_in_s", row.exhausted_in_s.into()),
        ("exhausted_limit", row.limit.map(Limit::key).into()),
        ("failed", failed.into()),
    ]);
    Finding {
        evidence,
        advice: advice(&churn.stat, row, failed),
        owner: culprit(churn, &row.ends),
        ..Finding::new(FindingKind::PortExhaustion, severity, title)
    }
}

/// The evidence of which ports a finding is about.
#[must_use]
pub fn ends(ends: &Ends) -> [(&'static str, Value); 2] {
    [
        ("source", ends.source.to_string().into()),
        ("destination", ends.destination.map(|to| to.to_string()).into()),
    ]
}

/// Advice for the ports of `row`, which run low or out; `failed` connects found none.
fn advice(stat: &StatFrame, row: &Row, failed: Option<u64>) -> Vec<String> {
    let Some(to) = row.ends.destination else {
        return vec![
            "set IP_BIND_ADDRESS_NO_PORT before bind(): without it bind() takes a port before connect() does, and keeps it from every \
             other destination (then EADDRINUSE)"
                .into(),
        ];
    };
    let waits = share(row.time_wait, row.used) >= WAITS;
    let more = format!(
        "more source addresses, more addresses or ports there, or a wider net.ipv4.ip_local_port_range give time{}",
        if waits { "; tcp_fin_timeout does not" } else { "" }
    );
    if !waits {
        return vec![
            format!("fewer open connections to {to}: they hold the ports, not TIME_WAIT"),
            more,
        ];
    }
    let mut advice = vec![format!(
        "keep the connections to {to} open (a pool, keep-alive), or let the other side close first: TIME_WAIT stays with the side that does"
    )];
    if let Some(reuse) = row.reuse {
        advice.extend(tw_reuse_steps(stat, reuse, row.ends.source, to.ip(), failed > Some(0)));
    }
    advice.push(more);
    advice
}

/// Steps that let connect(2) take a port in TIME_WAIT. `fail` is whether connects found no port.
fn tw_reuse_steps(stat: &StatFrame, reuse: TwReuse, source: IpAddr, destination: IpAddr, fail: bool) -> Vec<String> {
    let is_allowed = reuse.is_allowed(source, destination);
    let mut steps = Vec::new();
    if !is_allowed {
        steps.push(
            "let connect() take a port that is in TIME_WAIT for a second or more, where both sides use timestamps:"
                .into(),
        );
        steps.extend(set(
            stat.namespace.as_ref(),
            Setting::TcpTwReuse,
            "1",
            "small where timestamps are on; a connection may begin a second late where our last ACK was lost",
        ));
    }
    if !reuse.timestamps {
        steps.push("tcp_tw_reuse needs timestamps, and they are off here:".into());
        steps.extend(set(
            stat.namespace.as_ref(),
            Setting::TcpTimestamps,
            "1",
            "12 bytes in each segment",
        ));
    }
    if is_allowed && reuse.timestamps {
        if reuse.delay_ms >= TIME_WAIT_MS {
            steps.push(format!(
                "net.ipv4.tcp_tw_reuse_delay is {} ms, and TIME_WAIT is over by then: 1000 is the default",
                reuse.delay_ms
            ));
        } else if fail {
            steps.push(format!(
                "tcp_tw_reuse is on and gave no port back: nothing uses timestamps on the other side (net.ipv4.tcp_timestamps there, or \
                 a load balancer that strips them), or all ports are younger than {} ms",
                reuse.delay_ms
            ));
        }
    }
    steps
}

/// The process here that tries most of the connects between `ends`, if there is one.
fn culprit(churn: &ChurnFrame, ends: &Ends) -> Option<Owner> {
    let to = ends.destination?;
    let mut all = 0.0;
    let mut most = None;
    for route in &churn.by_name {
        if matches!(route.opener, Opener::Peer { .. }) {
            continue;
        }
        let is_there = route
            .destination
            .is_some_and(|route| route.address.ip.to_canonical() == to.ip() && route.port == to.port());
        if is_there {
            // Routes come the busiest first.
            let tried = route.tally.opened.saturating_add(route.tally.failed.total());
            most = most.or(Some((&route.opener, tried)));
            all += real(tried);
        }
    }
    let (opener, tried) = most?;
    opener_owner(opener).filter(|_| real(tried) > CULPRIT * all)
}

/// The finding on `failed` connects that found no port, where it is not known which ports ran out. `churn` is whether `churn` watches.
fn none_left(stat: &StatFrame, failed: u64, churn: bool) -> Option<Finding> {
    let connects = if failed == 1 { "connect" } else { "connects" };
    let see = if churn {
        "see where the ports are: ss -tan; tcpwatch churn shows them by destination where it watches one network namespace, without a \
         filter"
    } else {
        "see where the ports are: tcpwatch churn shows them by destination, of one network namespace and without a filter"
    };
    (failed > 0).then(|| Finding {
        evidence: vec![("failed", failed.into())],
        advice: vec![
            see.into(),
            "a port bound before connect() is nobody else's, whatever the destination: set IP_BIND_ADDRESS_NO_PORT before bind()".into(),
        ],
        ..Finding::new(
            FindingKind::PortExhaustion,
            Severity::Critical,
            format!("{} {connects} found no local port {}", thousands(failed), within(stat)),
        )
    })
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::detect::tests::{found, nobody, one, quiet};
    use crate::input::owner::{Comm, Process};
    use crate::input::ports::range::PortRange;
    use crate::input::ports::reuse::TwReuse;
    use crate::input::ports::settings::Settings;
    use crate::input::ports::walk::Walk;
    use crate::input::{Opened, PortsSample, Transition};
    use crate::model::cgroups::CgroupPaths;
    use crate::model::churn::tests::{event, waiting};
    use crate::model::churn::{Churn, Destination, Route, Tally};

    fn connect() -> Transition {
        event(
            Opened::Active,
            [10, 0, 0, 9],
            7,
            TcpState::SynSent,
            TcpState::Established,
        )
    }

    /// What is found where 90 of 100 ports are in TIME_WAIT, after a connection opened from here.
    fn after(bound: Option<bool>, [tw_reuse, timestamps, delay]: [&str; 3], failed: u64) -> Vec<Finding> {
        let mut churn = Churn::new(0);
        let event = Transition { bound, ..connect() };
        let settings = Settings {
            range: PortRange::parse("40000 40099", ""),
            reuse: TwReuse::parse(tw_reuse, timestamps, Some(delay)),
            autobind_reuse: Some(false),
        };
        let mut walk = Walk::default();
        for lport in 40_000..40_090 {
            walk.add(&waiting(event.remote, lport), settings.range.as_ref().unwrap());
        }
        let sample = |monotonic_ns, walk| {
            Some(PortsSample {
                netns: None,
                monotonic_ns,
                settings: settings.clone(),
                walk,
            })
        };
        churn.walked(sample(0, Walk::default()));
        churn.opened(&event, &CgroupPaths::default());
        churn.walked(sample(1_000_000_000, walk));
        let mut frame = churn.frame(quiet(), 0, 1_000_000_000, 0);
        if failed > 0 {
            frame.by_name.push(route(0, failed));
        }
        found(&mut PortExhaustion::default(), &Frame::from(&frame))
    }

    #[test]
    fn what_to_do_about_ports_depends_on_who_takes_them() {
        for (bound, tw_reuse, told) in [
            (Some(false), "0", &["keep"][..]),
            (None, "0", &["keep"]),
            (Some(true), "0", &["set", "keep"]),
            // connect(2) has them again after a second, and bind(2) does not.
            (Some(false), "1", &[]),
            (Some(true), "1", &["set"]),
        ] {
            let findings = after(bound, [tw_reuse, "1", "1000"], 0);
            let first = |finding: &Finding| finding.advice[0].split(' ').next().map(str::to_owned);
            let first: Option<Vec<String>> = findings.iter().map(first).collect();
            assert_eq!(first.unwrap(), told, "{bound:?} {tw_reuse}");
        }
    }

    /// The commands change the settings that are in the way, and no others.
    #[test]
    fn what_is_in_the_way_of_a_port_is_named() {
        for (settings, failed, typed, said) in [
            (["0", "1", "1000"], 0, &["tcp_tw_reuse=1"][..], None),
            (["2", "1", "1000"], 0, &["tcp_tw_reuse=1"], None),
            (["1", "0", "1000"], 0, &["tcp_timestamps=1"], None),
            (["0", "0", "1000"], 0, &["tcp_tw_reuse=1", "tcp_timestamps=1"], None),
            (["1", "1", "60000"], 0, &[], Some("tcp_tw_reuse_delay is 60000 ms")),
            // As where the peer uses no timestamps, or something on the way strips them.
            (["1", "1", "1000"], 20, &[], Some("on the other side")),
        ] {
            let finding = one(after(Some(false), settings, failed));
            let commands = finding
                .advice
                .iter()
                .filter_map(|step| step.strip_prefix("sysctl -w net.ipv4."));
            assert_eq!(commands.collect::<Vec<_>>(), typed, "{settings:?}");
            let is_said = |said| finding.advice.iter().any(|step| step.contains(said));
            assert!(said.is_none_or(is_said), "{settings:?}: {:?}", finding.advice);
            if failed > 0 {
                assert_eq!(finding.severity, Severity::Critical);
                assert_eq!(
                    finding.title,
                    "none was left of the local ports from 10.0.0.1 to 10.0.0.9:80: 90 of 100 held, 90 %, 90 by TIME_WAIT; \
                     20 connects found none"
                );
            }
        }
    }

    fn row(used: u64, exhausted_in_s: Option<f64>, limit: Option<Limit>) -> Row {
        Row {
            ends: Ends {
                source: "10.0.0.1".parse().unwrap(),
                destination: Some("10.0.0.9:80".parse().unwrap()),
            },
            used,
            time_wait: used - 10,
            range: Some(1000),
            free: Some(1000 - used),
            held_ms: Some(TIME_WAIT_MS),
            reuse: TwReuse::parse("0", "1", None),
            opened_per_s: 50.0,
            growth_per_s: Some(40.0),
            exhausted_in_s,
            limit,
        }
    }

    /// One process that opened so many connections there, and found no port so often.
    fn route(opened: u64, failed: u64) -> Route {
        let to = connect();
        let mut tally = Tally {
            opened,
            ..Tally::default()
        };
        tally.failed.add(Ending::NoPort, failed);
        Route {
            opener: Opener::from(Process {
                pid: std::num::NonZeroU32::new(7),
                comm: Comm::new(b"app"),
            }),
            destination: Some(Destination {
                netns: None,
                address: to.remote,
                port: 80,
            }),
            tally,
        }
    }

    fn inspect(rows: Vec<Row>, routes: Vec<Route>) -> Vec<Finding> {
        let frame = ChurnFrame {
            ports: Some(rows),
            by_name: routes,
            ..nobody(quiet())
        };
        found(&mut PortExhaustion::default(), &Frame::from(&frame))
    }

    #[test]
    fn ports_that_run_out_are_told_with_when_and_whose() {
        let finding = one(inspect(vec![row(500, Some(12.4), None)], vec![route(500, 0)]));
        assert_eq!(
            finding.title,
            "local ports from 10.0.0.1 to 10.0.0.9:80 are full in about 12 s at the rate of the last 10 s: 500 of 1,000 held, 50 %, 490 by TIME_WAIT"
        );
        assert_eq!(finding.severity, Severity::Critical);
        assert_eq!(finding.owner.map(|owner| owner.to_string()).as_deref(), Some("app[7]"));
        assert_eq!(
            (finding.evidence("destination"), finding.evidence("exhausted_in_s")),
            (Some(&"10.0.0.9:80".into()), Some(&12.4.into()))
        );
        assert_eq!(finding.advice.len(), 6, "{:?}", finding.advice);
        let finding = one(inspect(vec![row(1000, Some(0.0), None)], vec![route(0, 20)]));
        assert_eq!(finding.owner.map(|owner| owner.to_string()).as_deref(), Some("app[7]"));
        assert_eq!(
            finding.title,
            "none is left of the local ports from 10.0.0.1 to 10.0.0.9:80: 1,000 of 1,000 held, 100 %, 990 by TIME_WAIT; \
             20 connects found none"
        );
        let finding = one(inspect(vec![row(500, Some(12.4), Some(Limit::Earliest))], vec![]));
        assert_eq!((finding.severity, finding.owner), (Severity::Warning, None));
        assert!(
            finding.title.contains("in about 12 s at the earliest"),
            "{}",
            finding.title
        );
    }

    #[test]
    fn four_fifths_taken_is_low_and_does_not_flap() {
        let mut detector = PortExhaustion::default();
        let counts = [799, 800, 640, 799, 639, 799].map(|used| {
            let frame = ChurnFrame {
                ports: Some(vec![row(used, None, None)]),
                ..nobody(quiet())
            };
            found(&mut detector, &Frame::from(&frame)).len()
        });
        assert_eq!(counts, [0, 1, 1, 1, 0, 0]);
        assert_eq!(
            one(inspect(vec![row(900, None, None)], vec![])).severity,
            Severity::Warning
        );
    }

    #[test]
    fn each_connect_that_found_none_is_told_once() {
        let finding = one(inspect(vec![], vec![route(5, 20)]));
        assert_eq!(finding.title, "20 connects found no local port in 10.0 s");
        let findings = inspect(vec![row(1000, Some(0.0), None)], vec![route(5, 20)]);
        assert_eq!(one(findings).evidence("failed"), Some(&20_u64.into()));
        let mut stat = quiet();
        stat.ends.add(Ending::NoPort, 1);
        let finding = one(found(&mut PortExhaustion::default(), &Frame::from(&stat)));
        assert_eq!(finding.title, "1 connect found no local port in 10.0 s");
    }

    #[test]
    fn findings_are_bounded() {
        assert_eq!(inspect(vec![row(1000, Some(0.0), None); 100], vec![]).len(), MOST);
    }
}
