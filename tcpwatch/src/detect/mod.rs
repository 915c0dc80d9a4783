//! Detectors inspect frames of the model, and find what is wrong. The same frames always give the same findings.

pub mod accept_queue_overflow;
pub mod burst;
pub mod churn;
pub mod connect_failures;
pub mod event_loss;
pub mod finding;
pub mod half_open;
mod hysteresis;
pub mod leak;
pub mod orphan_limit;
pub mod port_exhaustion;
pub mod retransmit_storm;
pub mod syn_flood;
pub mod time_wait_overflow;

use finding::{Finding, Value};

use crate::input::counter::Counter;
use crate::input::owner::{How, Owner};
use crate::model::churn::Opener;
use crate::model::format::thousands;
use crate::model::frame::Frame;
use crate::model::owner_group::OwnerGroup;
use crate::model::real;
use crate::model::stat::StatFrame;

/// Findings of one detector in one frame at most: with more, the trouble is everywhere, and a list of it does not help.
const MOST: usize = 10;

/// Inspects frames, one after another, for one kind of trouble.
pub trait Detector {
    /// Adds to `findings` what is wrong in `frame`; nothing where the frame lacks the numbers for it.
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>);
}

/// One of each.
#[must_use]
pub fn all() -> Vec<Box<dyn Detector>> {
    vec![
        Box::new(port_exhaustion::PortExhaustion::default()),
        Box::new(connect_failures::ConnectFailures::default()),
        Box::new(accept_queue_overflow::AcceptQueueOverflow::default()),
        Box::new(syn_flood::SynFlood::default()),
        Box::new(half_open::HalfOpen::default()),
        Box::new(time_wait_overflow::TimeWaitOverflow::default()),
        Box::new(orphan_limit::OrphanLimit::default()),
        Box::new(retransmit_storm::RetransmitStorm::default()),
        Box::new(churn::ChurnDetector::default()),
        Box::new(burst::Burst),
        Box::new(leak::Leak),
        Box::new(event_loss::EventLoss::default()),
    ]
}

/// The findings of `detectors` in `frame`, the worst first. The evidence of each includes the length of the interval, and the network
/// namespace if there was one.
pub fn inspect(detectors: &mut [Box<dyn Detector>], frame: &Frame) -> Vec<Finding> {
    let mut findings = Vec::new();
    for detector in detectors {
        detector.inspect(frame, &mut findings);
    }
    if let Some(stat) = frame.counts() {
        for finding in &mut findings {
            finding.evidence.push(("interval_s", stat.interval_s.into()));
            let netns = stat.namespace.as_ref().map(|namespace| u64::from(namespace.inode));
            finding.evidence.push(("netns", netns.into()));
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// The count of `counter` in the interval; `None` if it is 0 or unknown.
fn happened(stat: &StatFrame, counter: Counter) -> Option<u64> {
    stat.counters.get(counter).filter(|&count| count > 0)
}

/// `in 10.0 s`.
fn within(stat: &StatFrame) -> String {
    format!("in {:.1} s", stat.interval_s)
}

/// `count` a second; 0 if the interval has no length.
fn rate(count: u64, stat: &StatFrame) -> f64 {
    if stat.interval_s > 0.0 {
        real(count) / stat.interval_s
    } else {
        0.0
    }
}

/// The share of `part` in `whole`; 0 if `whole` is 0.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { real(part) / real(whole) }
}

/// A share as people read it: `86 %`.
fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// The process of `opener` as the owner of its connections; `None` for a peer, and for a group of processes with several names.
fn opener_owner(opener: &Opener) -> Option<Owner> {
    opener
        .process()
        .map(|process| Owner::from_process(process, How::Connect))
}

/// The cgroup, container or pod of `opener`, as evidence; `None` for all other openers.
fn opener_place(opener: &Opener) -> Option<(&'static str, Value)> {
    let group = opener.group()?;
    let name = match group {
        OwnerGroup::Process(_) | OwnerGroup::Comm(_) => return None,
        OwnerGroup::Cgroup(_) => "cgroup",
        OwnerGroup::Container(_) => "container",
        OwnerGroup::Pod(_) => "pod",
    };
    Some((name, Value::Text(group.to_string())))
}

/// The first few of `items`, and how many more there are.
pub(crate) fn few<T: std::fmt::Display>(items: &[T]) -> String {
    const FEW: usize = 3;
    let shown: Vec<String> = items.iter().take(FEW).map(ToString::to_string).collect();
    match items.len().saturating_sub(FEW) {
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), thousands(more as u64)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::input::counter::CounterValues;
    use crate::input::listener;
    use crate::input::namespace::Namespace;
    use crate::input::namespace::Scope;
    use crate::input::owner::{Comm, Process};
    use crate::input::ports::ends::Ends;
    use crate::input::socket::Address;
    use crate::model::burst;
    use crate::model::churn::{Churn, ChurnFrame, Destination, Opener, Route, Tally};
    use crate::model::ending::Ending;
    use crate::model::ports::row::Row;
    use crate::model::test_rng::TestRng;

    /// Ten seconds in which nothing happened.
    pub(crate) fn quiet() -> StatFrame {
        let mut stat = crate::model::churn::tests::stat();
        stat.interval_s = 10.0;
        stat.namespace = Some(Namespace {
            inode: 4_026_531_840,
            scope: Scope::Own,
            first: true,
        });
        stat.counters = CounterValues::read(|_| Some(0));
        stat
    }

    /// Ten seconds in which the kernel counted so much.
    pub(crate) fn counted(counts: &[(Counter, u64)]) -> StatFrame {
        let count = |counter| counts.iter().find(|(counted, _)| *counted == counter);
        StatFrame {
            counters: CounterValues::read(|counter| Some(count(counter).map_or(0, |&(_, count)| count))),
            ..quiet()
        }
    }

    /// As a frame of `churn`, in which nobody opens anything.
    pub(crate) fn nobody(stat: StatFrame) -> ChurnFrame {
        Churn::new(0).frame(stat, 0, 10, 0)
    }

    /// What `detector` finds in `frame`.
    pub(crate) fn found(detector: &mut dyn Detector, frame: &Frame) -> Vec<Finding> {
        let mut findings = Vec::new();
        detector.inspect(frame, &mut findings);
        findings
    }

    /// The only one.
    pub(crate) fn one(findings: Vec<Finding>) -> Finding {
        let [finding] = <[Finding; 1]>::try_from(findings).expect("one finding");
        finding
    }

    #[test]
    fn of_nothing_nothing_is_found() {
        let mut detectors = all();
        let churn = nobody(quiet());
        let unknown = StatFrame {
            counters: CounterValues::default(),
            ..quiet()
        };
        for _ in 0..3 {
            for frame in [&quiet(), &unknown]
                .map(Frame::from)
                .iter()
                .chain([&Frame::from(&churn)])
            {
                assert_eq!(inspect(&mut detectors, frame), []);
            }
        }
    }

    #[test]
    fn the_worst_comes_first() {
        let mut stat = counted(&[(Counter::ListenOverflows, 1), (Counter::TcpReqQFullDrop, 1)]);
        stat.ends.add(Ending::NoPort, 1);
        let found = inspect(&mut all(), &Frame::from(&stat));
        assert!(found.len() >= 3, "{found:?}");
        let interval = |finding: &Finding| finding.evidence("interval_s") == Some(&10.0.into());
        assert!(found.iter().all(interval), "{found:?}");
        let netns = |finding: &Finding| finding.evidence("netns") == Some(&4_026_531_840_u64.into());
        assert!(found.iter().all(netns), "{found:?}");
        assert!(found.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
    }

    #[test]
    fn any_frame_is_survived() {
        let mut rng = TestRng(5);
        let mut detectors = all();
        let mut any = move || match rng.next() % 5 {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => rng.next(),
            _ => rng.next() % 1000,
        };
        for turn in 0..2000 {
            let mut stat = quiet();
            stat.interval_s = [0.0, 1.0, f64::NAN, -1.0, f64::INFINITY, 1e-300][turn % 6];
            stat.counters = CounterValues::read(|_| Some(any()).filter(|&count| count != 1));
            for cell in stat.moves.iter_mut().flatten() {
                *cell = any() >> 8;
            }
            for ending in Ending::ALL {
                stat.ends.add(ending, any());
            }
            stat.connections.add(tcpwatch_common::TcpState::SynRecv, any());
            stat.connections.add(tcpwatch_common::TcpState::SynSent, any());
            stat.time_wait.refused = Some(any());
            stat.time_wait.entered = Some(any());
            stat.time_wait.population = Some(any());
            stat.time_wait.limit = Some(any());
            stat.orphans.now = Some(any());
            stat.orphans.limit = Some(any());
            (stat.seen, stat.lost) = (any(), any());
            (stat.missed, stat.drift, stat.missed_resets) = (Some(any()), Some(any()), Some(any()));
            let dropping = listener::tests::dropping(80, any(), any());
            let route = |who: Opener, any: &mut dyn FnMut() -> u64| {
                let mut tally = Tally {
                    opened: any(),
                    time_wait: any(),
                    ..Tally::default()
                };
                for ending in Ending::ALL {
                    tally.failed.add(ending, any());
                }
                tally.lifetime.record(any());
                Route {
                    opener: who,
                    destination: (any() > 0).then_some(Destination {
                        netns: None,
                        address: Address::new(Ipv4Addr::LOCALHOST.into(), 0),
                        port: 80,
                    }),
                    tally,
                }
            };
            let process = Process {
                pid: None,
                comm: Comm::new(b"\x1b[2J\n"),
            };
            let address = Ipv4Addr::LOCALHOST.into();
            let openers = [
                Opener::from(process),
                Opener::Here(None),
                Opener::Peer { address, netns: None },
            ];
            let burst = burst::Burst {
                start_ns: any(),
                end_ns: Some(any()),
                opened: any(),
                peak_per_s: any(),
                owner: Some(openers[0].clone()),
            };
            let row = Row {
                ends: Ends {
                    source: Ipv4Addr::LOCALHOST.into(),
                    destination: (any() > 0).then_some((Ipv4Addr::LOCALHOST, 80).into()),
                },
                used: any(),
                time_wait: any(),
                range: Some(u32::try_from(any() % 3).unwrap_or(0)),
                free: Some(any()),
                held_ms: None,
                reuse: None,
                opened_per_s: f64::NAN,
                growth_per_s: Some(f64::NAN),
                exhausted_in_s: [None, Some(f64::NAN), Some(-1.0), Some(1e300)][turn % 4],
                limit: None,
            };
            let churn = ChurnFrame {
                lost: any(),
                by_name: openers.iter().map(|who| route(who.clone(), &mut any)).collect(),
                bursts: vec![burst],
                ports: Some(vec![row]),
                dropping: vec![dropping.clone(), dropping],
                ..nobody(stat.clone())
            };
            for frame in [Frame::from(&stat), Frame::from(&churn)] {
                for finding in inspect(&mut detectors, &frame) {
                    assert!(!finding.title.is_empty() && !finding.evidence.is_empty(), "{finding:?}");
                    let mut text = finding.advice.iter().chain([&finding.title]);
                    assert!(text.all(|text| !text.contains(char::is_control)), "{finding:?}");
                }
            }
        }
    }
}
