//! A burst is seconds in a row, each of which opened more than twice what the median second of the minute before did, and at least a
//! hundred connections more ([`crate::model::burst`]).

use super::finding::{Finding, Severity, Value};
use super::{Detector, Frame, MOST, opener_owner, opener_place};
use crate::explain::kind::FindingKind;
use crate::model::churn::Opener;
use crate::model::format::{duration, thousands};

/// Inspects the bursts that ended. A burst that goes on may become the usual rate, and is no burst then.
#[derive(Debug)]
pub struct Burst;

impl Detector for Burst {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(churn) = frame.churn.as_ref() else { return };
        for burst in churn.bursts.iter().take(MOST) {
            let end_ns = burst.end_ns.unwrap_or(burst.start_ns);
            let length_ns = end_ns.saturating_sub(burst.start_ns);
            let who = match &burst.owner {
                Some(opener) => format!("{opener} opened"),
                None => "several together opened".into(),
            };
            let title = format!(
                "{who} {} connections over the usual in {}, {} in the busiest second",
                thousands(burst.opened),
                duration(length_ns),
                thousands(burst.peak_per_s)
            );
            let peer = match &burst.owner {
                Some(Opener::Peer { address, .. }) => Value::Text(address.to_string()),
                _ => Value::Unknown,
            };
            findings.push(Finding {
                evidence: [
                    ("opened", burst.opened.into()),
                    ("peak_per_s", burst.peak_per_s.into()),
                    ("start", format!("{:.9}", churn.time(burst.start_ns)).into()),
                    ("end", format!("{:.9}", churn.time(end_ns)).into()),
                    ("peer", peer),
                ]
                .into_iter()
                .chain(burst.owner.as_ref().and_then(opener_place))
                .collect(),
                advice: vec![
                    "what many do at the same moment (a cron job, a cache that ran out, all clients coming back) wants a random pause \
                     before it"
                        .into(),
                ],
                owner: burst.owner.as_ref().and_then(opener_owner),
                // A burst alone hurts nobody. `accept_queue_overflow` reports the packets that found a queue full.
                ..Finding::new(FindingKind::Burst, Severity::Info, title)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{counted, found, nobody, one, quiet};
    use crate::input::counter::Counter;
    use crate::input::owner::{Comm, Process};
    use crate::model::burst;
    use crate::model::churn::ChurnFrame;

    const S: u64 = 1_000_000_000;

    fn frame(owner: Option<Opener>, overflows: u64) -> ChurnFrame {
        let burst = burst::Burst {
            start_ns: 40 * S,
            end_ns: Some(42 * S),
            opened: 1950,
            peak_per_s: 990,
            owner,
        };
        ChurnFrame {
            bursts: vec![burst.clone()],
            going: Some(burst),
            to_unix_ns: 0,
            ..nobody(counted(&[(Counter::ListenOverflows, overflows)]))
        }
    }

    #[test]
    fn a_burst_is_shown_with_who_made_it() {
        let process = Process {
            pid: std::num::NonZeroU32::new(901),
            comm: Comm::new(b"php\x1bfpm"),
        };
        let churn = frame(Some(Opener::from(process)), 0);
        let finding = one(found(&mut Burst, &Frame::from(&churn)));
        assert_eq!(
            finding.title,
            r"php\u{1b}fpm[901] opened 1,950 connections over the usual in 2.0s, 990 in the busiest second"
        );
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(finding.owner.map(Process::from), Some(process));
        assert_eq!(finding.evidence("end"), Some(&"1970-01-01T00:00:42.000000000Z".into()));
    }

    #[test]
    fn overflows_of_the_interval_in_which_it_ended_make_it_no_worse() {
        let peer = Opener::Peer {
            address: "10.0.0.9".parse().unwrap(),
            netns: None,
        };
        let finding = one(found(&mut Burst, &Frame::from(&frame(Some(peer), 3))));
        assert_eq!((finding.severity, finding.owner), (Severity::Info, None));
        assert_eq!(finding.evidence("peer"), Some(&"10.0.0.9".into()));
        let finding = one(found(&mut Burst, &Frame::from(&frame(None, 0))));
        assert!(
            finding.title.starts_with("several together opened 1,950 "),
            "{}",
            finding.title
        );
    }

    #[test]
    fn one_that_goes_on_is_none_yet() {
        let churn = ChurnFrame {
            bursts: Vec::new(),
            ..frame(None, 0)
        };
        assert_eq!(found(&mut Burst, &Frame::from(&churn)), []);
        assert_eq!(found(&mut Burst, &Frame::from(&quiet())), []);
    }

    #[test]
    fn findings_are_bounded() {
        let mut churn = frame(None, 0);
        churn.bursts = vec![churn.bursts[0].clone(); 100];
        assert_eq!(found(&mut Burst, &Frame::from(&churn)).len(), MOST);
    }
}
