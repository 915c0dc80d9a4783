//! Timewait sockets overflow where one was refused, or where there are nine tenths of `tcp_max_tw_buckets`.

use super::finding::{Finding, Severity};
use super::hysteresis::Hysteresis;
use super::{Detector, Frame, percent, share, within};
use crate::explain::kind::FindingKind;
use crate::explain::sysctl_command::set;
use crate::input::ports::TIME_WAIT_S;
use crate::input::setting::Setting;
use crate::model::format::{per_second, several, thousands};

/// Share of the limit that is worth reporting: at a steady rate there are as many a minute later.
const FROM: f64 = 0.9;
/// Size of a timewait socket, bytes (`tw_sock_TCP` in /proc/slabinfo, rounded up).
const BYTES: u64 = 256;

/// Inspects the number of timewait sockets and `TcpExt:TCPTimeWaitOverflow`.
#[derive(Debug, Default)]
pub struct TimeWaitOverflow {
    near: Hysteresis<()>,
}

impl Detector for TimeWaitOverflow {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts() else { return };
        self.near.turn();
        let time_wait = &stat.time_wait;
        let fullest = time_wait.fullest;
        let used = fullest.map(|fullest| share(fullest.population, fullest.limit));
        // Whichever namespace is the fullest: another one may be so in the next frame.
        let is_near = used.is_some_and(|used| self.near.holds((), |slack| slack.reaches(used, FROM)));
        let refused = time_wait.refused.filter(|&refused| refused > 0);
        if !is_near && refused.is_none() {
            return;
        }
        let known = |count: Option<u64>| count.map_or_else(|| "?".into(), thousands);
        let place = fullest.filter(|_| stat.namespace.is_none());
        let there = format!(
            "{}{} of at most {}, {}",
            place.map_or_else(String::new, |fullest| format!(
                "in network namespace {} ",
                fullest.netns
            )),
            known(fullest.map(|fullest| fullest.population)),
            known(fullest.map(|fullest| fullest.limit)),
            used.map_or_else(|| "? %".into(), percent)
        );
        let (severity, title) = match refused {
            Some(refused) => {
                let title = format!(
                    "{} refused {}, and the connections closed at once: {there}",
                    several(refused, "timewait socket was", "timewait sockets were"),
                    within(stat)
                );
                (Severity::Warning, title)
            }
            None => (Severity::Info, format!("timewait sockets near their limit: {there}")),
        };
        // How many exist at this rate, for each lasts a minute. Of several namespaces each has a limit, and their sum has none.
        let wanted = time_wait.entered.filter(|_| stat.namespace.is_some()).map(|entered| {
            let all = entered.saturating_add(time_wait.refused.unwrap_or(0));
            per_second(all, stat.interval_s).saturating_mul(TIME_WAIT_S as u64)
        });
        let mut advice = vec![
            "keep connections open, or let the other side close first: tcpwatch churn names who opens them".to_owned(),
        ];
        if let Some(wanted) = wanted.filter(|&wanted| Some(wanted) > time_wait.limit) {
            advice.push(format!(
                "at this rate {} timewait sockets exist at a time; this limit has room for them:",
                thousands(wanted)
            ));
            let risk = format!(
                "{} bytes each, {} MiB of them together, and at a client as many ports",
                BYTES,
                thousands(wanted.saturating_mul(BYTES) >> 20)
            );
            let setting = Setting::TcpMaxTwBuckets;
            advice.extend(set(stat.namespace.as_ref(), setting, &wanted.to_string(), &risk));
        }
        if stat.namespace.is_none() {
            advice.push(
                "each network namespace has a limit of its own: tcpwatch doctor --netns all shows which is too low"
                    .into(),
            );
        }
        findings.push(Finding {
            evidence: vec![
                ("refused", time_wait.refused.into()),
                ("population", fullest.map(|fullest| fullest.population).into()),
                ("limit", fullest.map(|fullest| fullest.limit).into()),
                ("fullest_netns", fullest.map(|fullest| u64::from(fullest.netns)).into()),
                ("entered", time_wait.entered.into()),
                ("wanted", wanted.into()),
            ],
            advice,
            ..Finding::new(FindingKind::TimeWaitOverflow, severity, title)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::finding::Value;
    use crate::detect::tests::{found, one, quiet};
    use crate::input::FullestNamespace;
    use crate::input::namespace::Namespace;
    use crate::input::namespace::Scope;
    use crate::model::stat::{StatFrame, TimeWait};

    fn frame(refused: Option<u64>, population: u64, limit: Option<u64>, entered: u64) -> StatFrame {
        StatFrame {
            time_wait: TimeWait {
                refused,
                limit,
                fullest: limit.map(|limit| FullestNamespace {
                    netns: 4_026_531_840,
                    population,
                    limit,
                }),
                entered: Some(entered),
                ..TimeWait::default()
            },
            ..quiet()
        }
    }

    fn inspect(stat: &StatFrame) -> Vec<Finding> {
        found(&mut TimeWaitOverflow::default(), &Frame::from(stat))
    }

    #[test]
    fn those_refused_are_told_with_what_would_hold_them() {
        let finding = one(inspect(&frame(Some(1_204), 8_192, Some(8_192), 2_796)));
        assert_eq!(
            finding.title,
            "1,204 timewait sockets were refused in 10.0 s, and the connections closed at once: 8,192 of at most 8,192, 100 %"
        );
        assert_eq!(
            (finding.severity, finding.evidence("wanted")),
            (Severity::Warning, Some(&24_000_u64.into()))
        );
        assert_eq!(finding.advice[2], "sysctl -w net.ipv4.tcp_max_tw_buckets=24000");
        assert_eq!(finding.advice.len(), 5, "{:?}", finding.advice);
    }

    #[test]
    fn a_limit_is_set_where_it_is_too_low_and_nowhere_else() {
        let full = frame(Some(1_204), 8_192, Some(8_192), 2_796);
        let of = |namespace| {
            one(inspect(&StatFrame {
                namespace,
                ..full.clone()
            }))
        };
        let other = of(Some(Namespace {
            scope: Scope::Other(Some("/run/netns/b".into())),
            ..Namespace::default()
        }));
        assert_eq!(
            other.advice[2],
            "nsenter --net=/run/netns/b sysctl -w net.ipv4.tcp_max_tw_buckets=24000"
        );
        let several = of(None);
        assert!(
            several
                .title
                .ends_with("in network namespace 4026531840 8,192 of at most 8,192, 100 %"),
            "{}",
            several.title
        );
        assert_eq!(several.evidence("wanted"), Some(&Value::Unknown));
        assert!(
            several.advice.iter().all(|step| !step.contains("sysctl")) && several.advice.len() == 2,
            "{:?}",
            several.advice
        );
    }

    #[test]
    fn no_limit_is_advised_that_is_no_larger() {
        let finding = one(inspect(&frame(Some(1), 10, Some(100), 9)));
        assert!(
            finding.advice.iter().all(|advice| !advice.contains("sysctl")),
            "{:?}",
            finding.advice
        );
        assert!(
            finding.title.starts_with("1 timewait socket was refused"),
            "{}",
            finding.title
        );
    }

    #[test]
    fn near_the_limit_is_worth_knowing_and_does_not_flap() {
        let mut detector = TimeWaitOverflow::default();
        let found = [89, 90, 73, 89, 71, 89]
            .map(|population| found(&mut detector, &Frame::from(&frame(Some(0), population, Some(100), 0))).len());
        assert_eq!(found, [0, 1, 1, 1, 0, 0]);
        assert_eq!(one(inspect(&frame(Some(0), 95, Some(100), 0))).severity, Severity::Info);
    }

    #[test]
    fn another_namespace_that_is_the_fullest_ends_no_finding() {
        let mut detector = TimeWaitOverflow::default();
        let found = [(1, 90), (2, 89), (1, 89)].map(|(netns, population)| {
            let mut stat = frame(Some(0), population, Some(100), 0);
            stat.time_wait.fullest.as_mut().unwrap().netns = netns;
            found(&mut detector, &Frame::from(&stat)).len()
        });
        assert_eq!(found, [1, 1, 1]);
    }

    #[test]
    fn what_is_not_known_is_no_finding() {
        assert_eq!(inspect(&frame(None, 1_000_000, None, 0)), []);
        assert_eq!(inspect(&quiet()), []);
    }
}
