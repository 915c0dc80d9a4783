//! Connects from here fail, those of one opener to one destination or all others together: five or more, and one in twenty; one in two
//! is critical.
//!
//! [`super::port_exhaustion`] reports connects that found no local port.

use super::finding::{Finding, Severity};
use super::hysteresis::Hysteresis;
use super::{Detector, Frame, MOST, opener_owner, opener_place, share, within};
use crate::explain::kind::FindingKind;
use crate::model::churn::{Destination, Opener};
use crate::model::ending::{Ending, EndingCounts};
use crate::model::format::thousands;
use crate::model::real;
use crate::model::stat::StatFrame;

/// Failures in an interval that are worth reporting: a service that restarts refuses a few.
const FEWEST: f64 = 5.0;
/// Share of the connects that must fail: some peers are always away.
const SHARE: f64 = 0.05;
/// Share of failed connects with which an application that needs the peer does not work.
const CRITICAL: f64 = 0.5;
/// Share of the failures that gives one way to fail its own advice.
const WORTH_ADVICE: f64 = 0.1;

/// Ways for a connect to fail, each of which is counted in the finding.
const WAYS: [Ending; 4] = [
    Ending::Refused,
    Ending::TimeoutConnect,
    Ending::Unreachable,
    Ending::ConnectAbandoned,
];

/// How a connect failed, in a word or two after the count.
#[must_use]
pub const fn words(ending: Ending) -> &'static str {
    match ending {
        Ending::Refused => "refused",
        Ending::TimeoutConnect => "timed out",
        Ending::Unreachable => "unreachable",
        Ending::NoPort => "found no local port",
        Ending::ConnectAbandoned => "given up here",
        other => other.words(),
    }
}

/// Inspects connects that fail, by destination if known.
#[derive(Debug, Default)]
pub struct ConnectFailures {
    found: Hysteresis<(Severity, Subject)>,
}

/// An opener and a destination; `None` for all others together.
type Subject = Option<(Opener, Destination)>;

/// Connects of one opener to one destination, or of all others together.
#[derive(Clone, Copy, Default)]
struct Connects {
    opened: u64,
    failed: EndingCounts,
}

impl Connects {
    /// Failed connects. Connects that found no local port are left out.
    fn failures(&self) -> u64 {
        self.failed.total().saturating_sub(self.failed.get(Ending::NoPort))
    }

    fn tried(&self) -> u64 {
        self.opened.saturating_add(self.failures())
    }

    fn share(&self) -> f64 {
        share(self.failures(), self.tried())
    }
}

impl ConnectFailures {
    /// How bad the failures of `connects` are; `None` where there are few.
    fn severity(&mut self, whose: &Subject, connects: &Connects) -> Option<Severity> {
        let is_found = self.found.holds((Severity::Warning, whose.clone()), |slack| {
            slack.reaches(real(connects.failures()), FEWEST) && slack.reaches(connects.share(), SHARE)
        });
        if !is_found {
            return None;
        }
        let is_critical = self.found.holds((Severity::Critical, whose.clone()), |slack| {
            slack.reaches(connects.share(), CRITICAL)
        });
        Some(Severity::critical_if(is_critical))
    }
}

impl Detector for ConnectFailures {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts() else { return };
        self.found.turn();
        let mut rest = Connects::default();
        if let Some(churn) = frame.churn.as_ref() {
            let before = findings.len();
            for route in &churn.by_name {
                let connects = Connects {
                    opened: route.tally.opened,
                    failed: route.tally.failed,
                };
                if matches!(route.opener, Opener::Peer { .. }) {
                    continue;
                }
                let whose = route.destination.map(|to| (route.opener.clone(), to));
                match whose.as_ref().and_then(|_| self.severity(&whose, &connects)) {
                    Some(severity) if findings.len() - before < MOST => {
                        findings.push(finding(stat, &connects, severity, whose.as_ref()));
                    }
                    _ => {
                        rest.opened = rest.opened.saturating_add(connects.opened);
                        rest.failed += connects.failed;
                    }
                }
            }
        } else {
            for ending in WAYS {
                rest.failed.add(ending, stat.ends.get(ending));
            }
            let failed = rest.failed.total().saturating_add(stat.ends.get(Ending::NoPort));
            rest.opened = stat.opened_active().saturating_sub(failed);
        }
        if let Some(severity) = self.severity(&None, &rest) {
            findings.push(finding(stat, &rest, severity, None));
        }
    }
}

/// The finding on `connects` of one opener to one destination, or of all others together.
fn finding(
    stat: &StatFrame,
    connects: &Connects,
    severity: Severity,
    whose: Option<&(Opener, Destination)>,
) -> Finding {
    let (failures, tried) = (connects.failures(), connects.tried());
    let failed_so = |ending| connects.failed.get(ending);
    let noun = match whose {
        Some((Opener::Here(None), to)) => format!("connects to {to}"),
        Some((opener, to)) => format!("connects of {opener} to {to}"),
        None => "connects, to many destinations or unknown ones,".into(),
    };
    let mut named: Vec<(u64, &str)> = WAYS.map(|ending| (failed_so(ending), words(ending))).to_vec();
    let other = named
        .iter()
        .fold(failures, |rest, (count, _)| rest.saturating_sub(*count));
    named.push((other, "in another way"));
    named.retain(|&(count, _)| count > 0);
    named.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    let how: Vec<String> = named
        .iter()
        .map(|&(count, words)| format!("{} {words}", thousands(count)))
        .collect();
    let title = format!(
        "{} of {} {noun} failed {}: {}",
        thousands(failures),
        thousands(tried),
        within(stat),
        how.join(", ")
    );
    let mut evidence = vec![("failed", failures.into()), ("tried", tried.into())];
    evidence.extend(WAYS.map(|ending| (ending.key(), failed_so(ending).into())));
    evidence.push(("other", other.into()));
    if let Some((opener, to)) = whose {
        evidence.extend(opener_place(opener));
        evidence.push(("remote", to.address.to_string().into()));
        evidence.push(("rport", u64::from(to.port).into()));
    }
    Finding {
        evidence,
        advice: advice(connects, whose.map(|&(_, to)| to)),
        owner: whose.and_then(|(opener, _)| opener_owner(opener)),
        ..Finding::new(FindingKind::ConnectFailures, severity, title)
    }
}

/// Advice for the ways in which many of them failed.
fn advice(connects: &Connects, to: Option<Destination>) -> Vec<String> {
    let Some(to) = to else {
        return vec!["see which: tcpwatch life shows each connect, its destination and how it ended".into()];
    };
    let worth = |endings: &[Ending]| {
        let count = endings
            .iter()
            .fold(0_u64, |sum, &ending| sum.saturating_add(connects.failed.get(ending)));
        (count, share(count, connects.failures()) >= WORTH_ADVICE)
    };
    let (host, port) = (to.address, to.port);
    let mut advice = vec![
        (
            worth(&[Ending::Refused]),
            format!(
                "nothing listens at {to}, or a firewall rejects: look there (ss -ltn sport = :{port}), start it, or correct the address"
            ),
        ),
        (
            worth(&[Ending::TimeoutConnect, Ending::ConnectAbandoned]),
            format!(
                "nothing answers from {to}: the host is down, a firewall drops, or the queue of its listener is full (there: nstat -az \
                 TcpExtListenDrops)"
            ),
        ),
        (
            worth(&[Ending::Unreachable]),
            format!("{host} is unreachable: see ip route get {host} and ip neigh show {host}"),
        ),
    ];
    advice.retain(|((_, is_worth), _)| *is_worth);
    advice.sort_by_key(|((count, _), _)| std::cmp::Reverse(*count));
    advice.into_iter().map(|(_, words)| words).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::detect::finding::Value;
    use crate::detect::tests::{found, nobody, one, quiet};
    use crate::input::owner::{Comm, Process};
    use crate::input::socket::Address;
    use crate::model::churn::{ChurnFrame, Route, Tally};

    fn route(port: u16, opened: u64, failed: &[(Ending, u64)]) -> Route {
        let mut tally = Tally {
            opened,
            ..Tally::default()
        };
        for &(ending, count) in failed {
            tally.failed.add(ending, count);
        }
        Route {
            opener: Opener::from(Process {
                pid: NonZeroU32::new(7),
                comm: Comm::new(b"app"),
            }),
            destination: Some(Destination {
                netns: None,
                address: Address::new("10.0.0.9".parse().unwrap(), 0),
                port,
            }),
            tally,
        }
    }

    fn inspect(routes: Vec<Route>) -> Vec<Finding> {
        inspect_by(&mut ConnectFailures::default(), routes)
    }

    fn inspect_by(detector: &mut ConnectFailures, routes: Vec<Route>) -> Vec<Finding> {
        let frame = ChurnFrame {
            by_name: routes,
            ..nobody(quiet())
        };
        found(detector, &Frame::from(&frame))
    }

    #[test]
    fn failures_around_a_threshold_do_not_flap() {
        let mut detector = ConnectFailures::default();
        let mut failed = |opened, refused| {
            let findings = inspect_by(&mut detector, vec![route(80, opened, &[(Ending::Refused, refused)])]);
            findings.first().map(|finding| finding.severity)
        };
        let (warning, critical) = (Some(Severity::Warning), Some(Severity::Critical));
        assert_eq!(
            [failed(0, 2), failed(7, 5)],
            [None, warning],
            "two were no finding, and so not critical"
        );
        assert_eq!(failed(0, 0), None);
        // Five, and the twentieth part.
        assert_eq!(
            [4, 5, 4, 3].map(|count| failed(60, count)),
            [None, warning, warning, None]
        );
        assert_eq!(
            [49, 50, 41, 39].map(|count| failed(1000 - count, count)),
            [None, warning, warning, None]
        );
        assert_eq!(
            [49, 50, 49, 40, 39].map(|count| failed(100 - count, count)),
            [warning, critical, critical, critical, warning]
        );
    }

    #[test]
    fn whose_where_to_and_how() {
        let finding = one(inspect(vec![route(
            80,
            18,
            &[
                (Ending::Refused, 400),
                (Ending::TimeoutConnect, 12),
                (Ending::NoPort, 1000),
                (Ending::Unknown, 1),
            ],
        )]));
        assert_eq!(
            finding.title,
            "413 of 431 connects of app[7] to 10.0.0.9:80 failed in 10.0 s: 400 refused, 12 timed out, 1 in another way"
        );
        assert_eq!(finding.severity, Severity::Critical);
        assert_eq!(finding.evidence("refused"), Some(&Value::Count(400)));
        assert_eq!(finding.evidence("connect_abandoned"), Some(&Value::Count(0)));
        assert_eq!(
            finding.advice.len(),
            1,
            "12 of 413 are no reason to look for a firewall"
        );
        assert!(
            finding.advice[0].contains("ss -ltn sport = :80"),
            "{:?}",
            finding.advice
        );
        assert_eq!(finding.owner.map(|owner| owner.to_string()).as_deref(), Some("app[7]"));
    }

    #[test]
    fn advice_is_for_the_way_they_failed_the_most_frequent_first() {
        let finding = one(inspect(vec![route(
            80,
            0,
            &[
                (Ending::Refused, 10),
                (Ending::TimeoutConnect, 10),
                (Ending::ConnectAbandoned, 20),
                (Ending::Unreachable, 15),
            ],
        )]));
        let words: Vec<&str> = finding
            .advice
            .iter()
            .map(|advice| advice.split(' ').next().unwrap())
            .collect();
        assert_eq!(words, ["nothing", "10.0.0.9", "nothing"]);
        assert!(finding.advice[0].starts_with("nothing answers from 10.0.0.9:80"));
    }

    #[test]
    fn a_few_and_a_small_part_are_none() {
        let refused = |count| [(Ending::Refused, count)];
        assert_eq!(inspect(vec![route(80, 0, &refused(4))]), []);
        assert_eq!(inspect(vec![route(80, 96, &refused(5))]), []);
        assert_eq!(
            one(inspect(vec![route(80, 95, &refused(5))])).severity,
            Severity::Warning
        );
        assert_eq!(
            one(inspect(vec![route(80, 5, &refused(5))])).severity,
            Severity::Critical
        );
        assert_eq!(inspect(vec![route(80, 0, &[(Ending::NoPort, 500)])]), []);
    }

    #[test]
    fn one_each_to_many_destinations_is_one_finding() {
        let routes: Vec<Route> = (1..=300).map(|port| route(port, 0, &[(Ending::Refused, 1)])).collect();
        let finding = one(inspect(routes));
        assert_eq!(
            finding.title,
            "300 of 300 connects, to many destinations or unknown ones, failed in 10.0 s: 300 refused"
        );
        let routes: Vec<Route> = (1..=300).map(|port| route(port, 0, &[(Ending::Refused, 9)])).collect();
        let findings = inspect(routes);
        assert_eq!(findings.len(), MOST + 1);
        assert_eq!(findings[MOST].evidence("failed"), Some(&Value::Count(290 * 9)));
    }

    #[test]
    fn the_hosts_counts_show_how_and_not_where_to() {
        let mut stat = quiet();
        stat.moves[7][2] = 100;
        stat.ends.add(Ending::Refused, 20);
        stat.ends.add(Ending::NoPort, 30);
        stat.ends.add(Ending::ResetByPeer, 40);
        let finding = one(found(&mut ConnectFailures::default(), &Frame::from(&stat)));
        assert!(
            finding.title.starts_with("20 of 70 connects, to many"),
            "{}",
            finding.title
        );
        assert_eq!((finding.owner, finding.advice.len()), (None, 1));
        assert_eq!(found(&mut ConnectFailures::default(), &Frame::from(&quiet())), []);
    }
}
