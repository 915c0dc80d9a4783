//! An opener makes at least ten connections a second, and a quarter of all, to one destination; half of them or more have ended, nine of
//! ten ended ones lived less than a second, and they carried less than 16 KiB on average in the direction that carries less.

use super::finding::{Finding, Severity};
use super::hysteresis::{Hysteresis, Slack};
use super::{Detector, Frame, MOST, opener_owner, opener_place, rate, share, within};
use crate::explain::kind::FindingKind;
use crate::model::churn::{ChurnFrame, Destination, Opener, Tally};
use crate::model::format::{duration, per_second, thousands, two_digits};
use crate::model::owner_group::OwnerGroup;
use crate::model::real;

/// Connections a second of one opener that are worth reporting: in the minute that TIME_WAIT lasts they are 600 sockets.
const BUSY_PER_S: f64 = 10.0;
/// Connections a second that hurt: in that minute they hold 6,000 of the usual 28,232 ports.
const HURTS_PER_S: f64 = 100.0;
/// Share of all opened connections that makes one opener the cause.
const SHARE: f64 = 0.25;
/// A connection that lives shorter than this was opened for a few requests, ns.
const SHORT_NS: f64 = 1e9;
/// Share of the opened connections that must have ended: fewer do not show how long the others live.
const ENDED: f64 = 0.5;
/// A connection that carries fewer bytes than this, in the direction that carries less, was opened for a few requests. It is twice the
/// largest request that nginx accepts (`large_client_header_buffers`).
const FEW_BYTES: f64 = 16.0 * 1024.0;
/// Share of the opened connections that wait in TIME_WAIT here. From this share on a user may want to change a setting of TIME_WAIT.
const WAITS: f64 = 0.5;

/// Inspects the openers of connections and their destinations.
#[derive(Debug, Default)]
pub struct ChurnDetector {
    found: Hysteresis<(Severity, Opener, Destination)>,
}

impl Detector for ChurnDetector {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(churn) = frame.churn.as_ref() else { return };
        self.found.turn();
        let all = churn.opened();
        let refused = churn.stat.time_wait.refused > Some(0);
        let before = findings.len();
        for route in &churn.by_name {
            let (Some(destination), tally) = (route.destination, &route.tally) else {
                continue;
            };
            let per_s = rate(tally.opened, &churn.stat);
            let is_found = self
                .found
                .holds((Severity::Info, route.opener.clone(), destination), |slack| {
                    slack.reaches(per_s, BUSY_PER_S)
                        && slack.reaches(share(tally.opened, all), SHARE)
                        && is_short(tally, slack)
                });
            // There is nothing to do for an opener that is not known.
            if route.opener == Opener::Here(None) || !is_found || findings.len() - before >= MOST {
                continue;
            }
            let key = (Severity::Warning, route.opener.clone(), destination);
            let hurts = self.found.holds(key, |slack| slack.reaches(per_s, HURTS_PER_S));
            let severity = if hurts { Severity::Warning } else { Severity::Info };
            let longest = tally.lifetime.quantile(0.9);
            let title = format!(
                "{} opened {} connections to {destination} {}, {} a second, and 9 of 10 lived about {} or less",
                route.opener,
                thousands(tally.opened),
                within(&churn.stat),
                thousands(per_second(tally.opened, churn.stat.interval_s)),
                longest.map_or_else(|| "?".into(), |ns| duration(two_digits(ns))),
            );
            let mut evidence = vec![
                ("opened", tally.opened.into()),
                ("opened_per_s", per_s.into()),
                ("share", share(tally.opened, all).into()),
                ("lifetime_p90_ns", longest.into()),
                ("exchanged_bytes", tally.exchanged.mean().into()),
                ("time_wait", Some(tally.time_wait).filter(|_| !refused).into()),
            ];
            let address = destination.address.to_string();
            let port = u64::from(destination.port);
            let mut advice = Vec::new();
            let mut owner = None;
            match &route.opener {
                Opener::Here(_) => {
                    evidence.extend([("remote", address.into()), ("rport", port.into())]);
                    advice.push(format!(
                        "let {} use persistent connections or a pool for {destination}",
                        route.opener
                    ));
                    evidence.extend(opener_place(&route.opener));
                    owner = opener_owner(&route.opener);
                }
                Opener::Peer { address: peer, .. } => {
                    evidence.extend([
                        ("peer", peer.to_string().into()),
                        ("local", address.into()),
                        ("lport", port.into()),
                    ]);
                    let by = &tally.served;
                    let server = match (by.comm(), by.one().or(by.listener())) {
                        (Some(comm), _) => comm.to_string(),
                        (None, Some(OwnerGroup::Process(process))) => process.comm.to_string(),
                        (None, Some(group)) => group.to_string(),
                        (None, None) => "the server".into(),
                    };
                    advice.push(format!(
                        "turn keep-alive on, in the client at {peer} and in {server} here at {destination}"
                    ));
                }
            }
            // Where ports run out, `port_exhaustion` has the advice. Where timewait sockets were refused, the number in TIME_WAIT is
            // unknown.
            if share(tally.time_wait, tally.opened) >= WAITS && !run_out(churn, destination) && !refused {
                advice.push(format!(
                    "no sysctl is needed for the {} of them in TIME_WAIT: they go when the connections do",
                    thousands(tally.time_wait)
                ));
            }
            findings.push(Finding {
                evidence,
                advice,
                owner,
                ..Finding::new(FindingKind::Churn, severity, title)
            });
        }
    }
}

/// Whether ports to there run out, or have.
fn run_out(churn: &ChurnFrame, to: Destination) -> bool {
    let rows = churn.ports.iter().flatten().filter(|row| row.exhausted_in_s.is_some());
    let mut there = rows.filter_map(|row| row.ends.destination);
    there.any(|there| (there.ip(), there.port()) == (to.address.ip.to_canonical(), to.port))
}

/// Whether most connections have ended, and nine of ten ended ones lived briefly. Unless their traffic is unknown, they must also have
/// carried little.
fn is_short(tally: &Tally, slack: Slack) -> bool {
    let ended = slack.reaches(share(tally.lifetime.count(), tally.opened), ENDED);
    let few = tally
        .exchanged
        .mean()
        .is_none_or(|bytes| slack.is_below(real(bytes), FEW_BYTES));
    let lifetime_ns = tally.lifetime.quantile(0.9);
    ended && few && lifetime_ns.is_some_and(|ns| slack.is_below(real(ns), SHORT_NS))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::detect::finding::Value;
    use crate::detect::tests::{found, nobody, one, quiet};
    use crate::input::owner::How;
    use crate::input::owner::{Comm, Process};
    use crate::input::ports::ends::Ends;
    use crate::input::socket::Address;
    use crate::model::churn::{Exchanged, Route};
    use crate::model::ports::row::Row;

    fn route(who: Opener, opened: u64, ended: u64, lived_ns: u64) -> Route {
        let mut tally = Tally {
            opened,
            time_wait: ended,
            ..Tally::default()
        };
        for _ in 0..ended {
            tally.lifetime.record(lived_ns);
        }
        Route {
            opener: who,
            destination: Some(Destination {
                netns: None,
                address: Address::new("10.0.0.9".parse().unwrap(), 0),
                port: 6379,
            }),
            tally,
        }
    }

    fn app() -> Opener {
        Opener::from(Process {
            pid: NonZeroU32::new(901),
            comm: Comm::new(b"php-fpm"),
        })
    }

    fn inspect(detector: &mut ChurnDetector, routes: Vec<Route>) -> Vec<Finding> {
        let frame = ChurnFrame {
            by_name: routes,
            ..nobody(quiet())
        };
        found(detector, &Frame::from(&frame))
    }

    fn once(routes: Vec<Route>) -> Vec<Finding> {
        inspect(&mut ChurnDetector::default(), routes)
    }

    #[test]
    fn who_opens_one_for_every_request_is_named() {
        let finding = one(once(vec![route(app(), 4870, 4870, 1_000_000)]));
        assert!(
            finding.title.starts_with(
                "php-fpm[901] opened 4,870 connections to 10.0.0.9:6379 in 10.0 s, 487 a second, and 9 of 10 lived about 1.0ms"
            ),
            "{}",
            finding.title
        );
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(
            (finding.evidence("opened"), finding.evidence("opened_per_s")),
            (Some(&Value::Count(4870)), Some(&Value::Number(487.0)))
        );
        assert_eq!(
            finding.advice,
            [
                "let php-fpm[901] use persistent connections or a pool for 10.0.0.9:6379",
                "no sysctl is needed for the 4,870 of them in TIME_WAIT: they go when the connections do",
            ]
        );
        assert_eq!(finding.owner.map(|owner| owner.how), Some(How::Connect));
    }

    #[test]
    fn a_peer_is_told_to_keep_them() {
        let peer = Opener::Peer {
            address: "10.0.3.17".parse().unwrap(),
            netns: None,
        };
        let finding = one(once(vec![route(peer, 900, 900, 1_000_000)]));
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(
            finding.advice[0],
            "turn keep-alive on, in the client at 10.0.3.17 and in the server here at 10.0.0.9:6379"
        );
        assert_eq!(
            (finding.evidence("peer"), finding.owner),
            (Some(&"10.0.3.17".into()), None)
        );
    }

    #[test]
    fn what_is_rare_long_lived_somebody_elses_part_or_nobodys_is_none() {
        for routes in [
            vec![route(app(), 99, 99, 1_000_000)],
            vec![route(app(), 900, 900, 1_250_000_000)],
            // Nine of ten are open still.
            vec![route(app(), 1000, 100, 1_000_000)],
            vec![route(Opener::Here(None), 5000, 5000, 1_000_000)],
        ] {
            assert_eq!(once(routes), []);
        }
        // A thousand requests each, which a busy client and a fast server have done in half a second.
        let mut kept = route(app(), 900, 900, 500_000_000);
        kept.tally.exchanged = Exchanged {
            connections: 900,
            bytes: 900 * 16 * 1024,
        };
        assert_eq!(once(vec![kept.clone()]), []);
        kept.tally.exchanged.bytes -= 1;
        assert_eq!(once(vec![kept]).len(), 1);
        let others = |opened| {
            let mut route = route(app(), opened, 0, 0);
            route.destination = None;
            route
        };
        assert_eq!(once(vec![route(app(), 200, 200, 1000), others(601)]), []);
        assert_eq!(once(vec![route(app(), 200, 200, 1000), others(600)]).len(), 1);
    }

    #[test]
    fn where_ports_run_out_nobody_is_told_to_leave_settings_alone() {
        let route = route(app(), 900, 900, 1000);
        let to = "10.0.0.9:6379".parse().unwrap();
        let frame = |exhausted_in_s| ChurnFrame {
            by_name: vec![route.clone()],
            ports: Some(vec![Row {
                ends: Ends {
                    source: "10.0.0.1".parse().unwrap(),
                    destination: Some(to),
                },
                used: 900,
                time_wait: 900,
                range: Some(1000),
                free: Some(100),
                held_ms: Some(60_000),
                reuse: None,
                opened_per_s: 90.0,
                growth_per_s: Some(15.0),
                exhausted_in_s,
                limit: None,
            }]),
            ..nobody(quiet())
        };
        let advice = |frame: &ChurnFrame| {
            let finding = one(found(&mut ChurnDetector::default(), &Frame::from(frame)));
            finding.advice.len()
        };
        assert_eq!((advice(&frame(Some(1.1))), advice(&frame(None))), (1, 2));
    }

    /// The end of a connection does not show whether its timewait socket was refused.
    #[test]
    fn where_timewait_sockets_were_refused_their_number_is_unknown() {
        let mut frame = ChurnFrame {
            by_name: vec![route(app(), 553, 553, 1000)],
            ..nobody(quiet())
        };
        frame.stat.time_wait.refused = Some(554);
        let finding = one(found(&mut ChurnDetector::default(), &Frame::from(&frame)));
        assert_eq!(finding.evidence("time_wait"), Some(&Value::Unknown));
        assert!(
            finding.advice.iter().all(|step| !step.contains("TIME_WAIT")),
            "{:?}",
            finding.advice
        );
    }

    #[test]
    fn severity_is_by_the_rate() {
        for (opened, severity) in [(100, Severity::Info), (999, Severity::Info), (1000, Severity::Warning)] {
            assert_eq!(one(once(vec![route(app(), opened, opened, 1000)])).severity, severity);
        }
    }

    #[test]
    fn a_rate_around_the_threshold_does_not_flap() {
        let mut detector = ChurnDetector::default();
        let found = [99, 100, 80, 100, 79, 99]
            .map(|opened| inspect(&mut detector, vec![route(app(), opened, opened, 1000)]).len());
        assert_eq!(found, [0, 1, 1, 1, 0, 0]);
    }

    /// Each condition has a threshold, and none of them ends a finding when it is only just missed.
    #[test]
    fn no_condition_flaps() {
        let mut shares = route(app(), 200, 200, 1000);
        shares.tally.opened = 190;
        let mut kept = route(app(), 900, 900, 1000);
        kept.tally.exchanged = Exchanged {
            connections: 900,
            bytes: 900 * 17 * 1024,
        };
        let mut others = route(app(), 600, 0, 0);
        others.destination = None;
        for (name, steady, at_the_threshold) in [
            (
                "share",
                vec![route(app(), 200, 200, 1000), others.clone()],
                vec![shares, others],
            ),
            (
                "lifetime",
                vec![route(app(), 900, 900, 1000)],
                vec![route(app(), 900, 900, 1_100_000_000)],
            ),
            ("bytes", vec![route(app(), 900, 900, 1000)], vec![kept]),
            (
                "ended",
                vec![route(app(), 900, 450, 1000)],
                vec![route(app(), 900, 449, 1000)],
            ),
        ] {
            let mut detector = ChurnDetector::default();
            let found = [&at_the_threshold, &steady, &at_the_threshold, &steady]
                .map(|routes| inspect(&mut detector, routes.clone()).len());
            assert_eq!(found, [0, 1, 1, 1], "{name}");
        }
    }

    #[test]
    fn severity_does_not_flap() {
        let mut detector = ChurnDetector::default();
        let severities = [999, 1000, 999, 800, 799]
            .map(|opened| one(inspect(&mut detector, vec![route(app(), opened, opened, 1000)])).severity);
        let (info, warning) = (Severity::Info, Severity::Warning);
        assert_eq!(severities, [info, warning, warning, warning, info]);
    }
}
