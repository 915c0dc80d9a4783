//! Verdicts on hosts that are made up, one trouble each.

mod backlog;
mod files;
mod ports;
mod syn;
mod time_wait;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use super::*;
use crate::input::counter::{Counter, CounterValues};
use crate::input::host::{ConfigLine, Conntrack, Descriptors, Fate};
use crate::input::listener::{self, Listener};
use crate::input::namespace::Scope;
use crate::input::owner::{Comm, How, Owner};
use crate::input::ports::ends::Ends;
use crate::input::ports::walk::{HeldPorts, PortsHeld};
use crate::input::setting_defaults::DefaultValue;

const UP_S: u64 = 100 * 3600;

/// A host of Linux 6.8 whose settings are the defaults, and of whose counters none has counted.
fn host() -> HostFrame {
    let mut frame = HostFrame {
        first: true,
        release_text: Some("6.8.0".into()),
        uptime_s: Some(UP_S),
        counters: CounterValues::read(|_| Some(0)),
        open_sockets: Some(10),
        time_wait: Some(0),
        orphans: Some(0),
        listeners: Some(vec![listener(80, 0, 4096)]),
        range: PortRange::parse("32768 60999", ""),
        open_files: Some(100),
        ..HostFrame::default()
    };
    for setting in Setting::ALL {
        let text = match SettingFacts::for_setting(setting).default_on(frame.release()) {
            DefaultValue::Is(default) => default,
            _ => "262144",
        };
        frame.settings.insert(setting, text.into());
    }
    frame.settings.remove(&Setting::TcpTwRecycle);
    frame.settings.remove(&Setting::NfConntrackMax);
    frame
}

fn owner(pid: u32) -> Owner {
    Owner {
        pid: NonZeroU32::new(pid),
        comm: Comm::new(b"app\x1b"),
        how: How::Scan,
        cgroup: None,
    }
}

fn listener(port: u16, queued: u64, limit: u64) -> Listener {
    Listener {
        owner: Some(owner(7)),
        ..listener::tests::listener(port, queued, limit)
    }
}

/// One that is not full, and has dropped so many.
fn dropped(port: u16, drops: u64, limit: u64) -> Listener {
    Listener {
        drops: Some(drops),
        ..listener(port, 0, limit)
    }
}

fn count(frame: &mut HostFrame, counts: &[(Counter, u64)]) {
    let before = frame.counters;
    frame.counters = CounterValues::read(|counter| {
        let counted = counts.iter().find(|(counted, _)| *counted == counter);
        counted.map(|&(_, count)| count).or(before.get(counter))
    });
}

fn set(frame: &mut HostFrame, setting: Setting, value: &str) {
    frame.settings.insert(setting, value.into());
}

fn of(frame: &HostFrame, setting: Setting) -> Line {
    let report = examine(frame, true);
    report.lines.into_iter().find(|line| line.setting == setting).unwrap()
}

/// The commands a line advises.
fn commands(line: &Line) -> Vec<&str> {
    let advice = line.finding.advice.iter().map(String::as_str);
    advice.filter(|step| step.contains("sysctl -w")).collect()
}

fn trouble(frame: &HostFrame, kind: FindingKind) -> Option<Finding> {
    examine(frame, true)
        .troubles
        .into_iter()
        .find(|finding| finding.kind == kind)
}

fn evidence<'a>(finding: &'a Finding, name: &str) -> &'a Value {
    &finding.evidence.iter().find(|(found, _)| *found == name).unwrap().1
}

/// A line that sets `setting` in `file`.
fn line_in(file: &str, setting: Setting, value: &str) -> ConfigLine {
    ConfigLine {
        setting,
        value: value.into(),
        place: Place {
            file: file.into(),
            line: 3,
        },
        fate: Fate::Wins,
    }
}

#[test]
fn a_host_with_nothing_wrong_is_told_nothing_to_do() {
    let report = examine(&host(), true);
    assert_eq!(report.lines.len(), Setting::ALL.len());
    assert!(report.troubles.is_empty() && !report.is_wrong(), "{report:?}");
    for line in &report.lines {
        assert_eq!(
            (line.standing, line.finding.severity),
            (Standing::Fine, Severity::Info),
            "{line:?}"
        );
        assert!(line.finding.advice.is_empty() && line.words.is_empty(), "{line:?}");
        assert_eq!(line.finding.topic, Topic::Setting(line.setting));
    }
}

#[test]
fn of_a_host_of_which_nothing_is_known_nothing_is_said() {
    let report = examine(&HostFrame::default(), true);
    assert_eq!(report.lines.len(), Setting::ALL.len());
    assert!(!report.is_wrong() && report.troubles.is_empty(), "{report:?}");
    assert!(report.findings().all(|finding| finding.advice.is_empty()), "{report:?}");
}

#[test]
fn no_odd_value_is_taken_for_a_setting() {
    for odd in [
        "",
        "-1",
        "many",
        "1 2 3",
        "18446744073709551616",
        "\x1b[2J",
        &"x".repeat(100_000),
    ] {
        let mut frame = host();
        for setting in Setting::ALL {
            set(&mut frame, setting, odd);
        }
        let report = examine(&frame, true);
        assert!(
            report.findings().all(|finding| finding.advice.is_empty()),
            "{odd:?}: {report:?}"
        );
        for line in &report.lines {
            let fine = odd.is_empty() && line.setting == Setting::IpLocalReservedPorts;
            assert_eq!(line.standing == Standing::Unknown, !fine, "{odd:?}: {line:?}");
            assert!(line.finding.title.len() < 400, "{line:?}");
            assert!(!line.finding.title.contains('\x1b'), "{line:?}");
        }
    }
}

#[test]
fn extremes_are_no_reason_to_fail() {
    for text in ["0", "1", "18446744073709551615"] {
        let mut frame = host();
        for setting in Setting::ALL {
            set(&mut frame, setting, text);
        }
        frame.counters = CounterValues::read(|_| Some(u64::MAX));
        (frame.uptime_s, frame.time_wait, frame.orphans) = (Some(1), Some(u64::MAX), Some(u64::MAX));
        frame.conntrack = Conntrack {
            count: Some(u64::MAX),
            dropped: Some(1),
            early_dropped: Some(1),
        };
        frame.listeners = Some(vec![listener(80, u64::MAX, u64::MAX), listener(80, u64::MAX, 0)]);
        frame.descriptors = Some(vec![Descriptors {
            owner: owner(7),
            open: u64::MAX,
            limit: 0,
        }]);
        assert!(examine(&frame, true).is_wrong());
        frame.uptime_s = Some(0);
        assert!(examine(&frame, true).is_wrong());
    }
}

/// One in many days, or of very many connections, is no reason to change anything.
#[test]
fn what_happened_once_is_told_and_nothing_is_done() {
    let once = [
        (
            Counter::TcpTimeWaitOverflow,
            Setting::TcpMaxTwBuckets,
            FindingKind::TimeWaitOverflow,
        ),
        (Counter::TcpReqQFullDoCookies, Setting::Somaxconn, FindingKind::SynFlood),
        (Counter::TcpReqQFullDrop, Setting::TcpSyncookies, FindingKind::SynFlood),
        (
            Counter::TcpAbortOnMemory,
            Setting::TcpMaxOrphans,
            FindingKind::OrphanLimit,
        ),
        (
            Counter::ListenOverflows,
            Setting::Somaxconn,
            FindingKind::AcceptQueueOverflow,
        ),
    ];
    for (counter, setting, kind) in once {
        let mut frame = host();
        match counter {
            Counter::TcpReqQFullDrop => set(&mut frame, Setting::TcpSyncookies, "0"),
            Counter::TcpTimeWaitOverflow => set(&mut frame, Setting::TcpMaxTwBuckets, "5000"),
            _ => {}
        }
        count(
            &mut frame,
            &[(counter, 1), (Counter::SyncookiesSent, 1), (Counter::SyncookiesRecv, 1)],
        );
        let report = examine(&frame, true);
        assert!(!report.is_wrong(), "{counter:?}: {report:?}");
        assert!(commands(&of(&frame, setting)).is_empty(), "{counter:?}");
        let found = trouble(&frame, kind).unwrap();
        assert!(found.title.contains("since boot"), "{found:?}");
        // So many that nobody would call it rare.
        count(
            &mut frame,
            &[
                (counter, 50),
                (Counter::SyncookiesSent, 50),
                (Counter::SyncookiesRecv, 50),
            ],
        );
        assert!(examine(&frame, true).is_wrong(), "{counter:?}");
        count(&mut frame, &[(Counter::PassiveOpens, 500_000)]);
        assert!(examine(&frame, true).is_wrong(), "{counter:?}");
        count(&mut frame, &[(Counter::PassiveOpens, 510_000)]);
        assert!(!examine(&frame, true).is_wrong(), "{counter:?}");
    }
}

/// A host on which 10.0.0.1 holds so many ports to 10.0.0.9:6379.
fn busy(used: u64, time_wait: u64) -> HostFrame {
    HostFrame {
        open_sockets: Some(used - time_wait),
        time_wait: Some(time_wait),
        held: Some(HeldPorts {
            to: vec![held([10, 0, 0, 9], used, time_wait)],
            of: vec![],
            whole: true,
        }),
        ..host()
    }
}

/// So many ports of 10.0.0.1 to port 6379 of `destination`.
fn held(destination: [u8; 4], used: u64, time_wait: u64) -> PortsHeld {
    PortsHeld {
        ends: Ends {
            source: IpAddr::from([10, 0, 0, 1]),
            destination: Some(SocketAddr::from((destination, 6379))),
        },
        used,
        time_wait,
    }
}

#[test]
fn orphans_are_worth_more_where_there_are_many() {
    let mut frame = host();
    count(&mut frame, &[(Counter::TcpAbortOnMemory, 5)]);
    let line = of(&frame, Setting::TcpMaxOrphans);
    assert_eq!(
        (line.standing, commands(&line)),
        (Standing::Notable, vec![]),
        "it may have been memory"
    );
    frame.orphans = Some(262_144 / 4);
    assert_eq!(commands(&of(&frame, Setting::TcpMaxOrphans)).len(), 0);
    frame.orphans = Some(262_144 / 4 + 1);
    assert_eq!(
        commands(&of(&frame, Setting::TcpMaxOrphans)),
        ["sysctl -w net.ipv4.tcp_max_orphans=524288"]
    );
    assert_eq!(
        trouble(&frame, FindingKind::OrphanLimit).unwrap().severity,
        Severity::Warning
    );
    // They are the whole host's, those that were given up the namespace's.
    frame.orphans = Some(5);
    let of_another = |frame: &HostFrame| {
        let found = examine(frame, false).troubles;
        found
            .into_iter()
            .find(|finding| finding.kind == FindingKind::OrphanLimit)
    };
    assert_eq!(of_another(&frame).unwrap().severity, Severity::Warning);
    count(&mut frame, &[(Counter::TcpAbortOnMemory, 0)]);
    frame.orphans = Some(262_144);
    assert_eq!(of_another(&frame), None);
    // None was given up: nothing is wrong, and when it will be is known.
    let found = trouble(&frame, FindingKind::OrphanLimit).unwrap();
    assert_eq!((found.severity, found.advice.len()), (Severity::Info, 1));
    assert!(
        found.title.contains("none was given up yet, from 131,072 on") && found.title.contains("from 65,536 on"),
        "{found:?}"
    );
    assert!(!examine(&frame, true).is_wrong());
}

#[test]
fn descriptors_that_run_out_are_their_process() {
    let mut frame = host();
    let process = |open, limit| Descriptors {
        owner: owner(7),
        open,
        limit,
    };
    frame.descriptors = Some(vec![process(819, 1024)]);
    assert!(!examine(&frame, true).is_wrong());
    frame.descriptors = Some(vec![process(820, 1024)]);
    let found = trouble(&frame, FindingKind::Host).unwrap();
    assert_eq!((found.severity, found.owner), (Severity::Warning, Some(owner(7))));
    assert!(found.title.contains("has 820 of 1,024"), "{found:?}");
    assert_eq!(
        commands(&of(&frame, Setting::NrOpen)).len(),
        0,
        "its own limit is in the way"
    );
    frame.descriptors = Some(vec![process(1_048_576, 1_048_576)]);
    assert_eq!(trouble(&frame, FindingKind::Host).unwrap().severity, Severity::Critical);
    assert_eq!(commands(&of(&frame, Setting::NrOpen)), ["sysctl -w fs.nr_open=2097152"]);
    frame.open_files = Some(262_143);
    assert_eq!(
        commands(&of(&frame, Setting::FileMax)),
        ["sysctl -w fs.file-max=524288"]
    );
}

#[test]
fn a_full_table_of_tracked_connections_is_critical() {
    let mut frame = host();
    set(&mut frame, Setting::NfConntrackMax, "100000");
    let judged = |frame: &mut HostFrame, count, dropped, early_dropped| {
        frame.conntrack = Conntrack {
            count: Some(count),
            dropped: Some(dropped),
            early_dropped: Some(early_dropped),
        };
        let line = of(frame, Setting::NfConntrackMax);
        (line.standing, line.finding.severity, commands(&line).len(), line.words)
    };
    let mut severity = |count, dropped, early| {
        let (_, severity, commands, _) = judged(&mut frame, count, dropped, early);
        (severity, commands)
    };
    assert_eq!(severity(79_999, 0, 0), (Severity::Info, 0));
    assert_eq!(severity(80_000, 0, 0), (Severity::Warning, 1));
    assert_eq!(severity(95_000, 0, 0), (Severity::Critical, 1));
    // It was full, which is long ago or was not: the counters tell how often.
    assert_eq!(severity(9, 0, 1), (Severity::Info, 0));
    assert_eq!(severity(9, 1, 0), (Severity::Info, 0));
    assert_eq!(severity(9, 0, 100), (Severity::Warning, 1));
    assert_eq!(
        severity(9, 100, 0),
        (Severity::Warning, 0),
        "it need not have been full"
    );
    let (standing, _, _, words) = judged(&mut frame, 9, 0, 1);
    assert_eq!(standing, Standing::Notable);
    assert!(
        words.contains("0 packets were dropped, 1 entry was thrown out early to make room since boot"),
        "{words}"
    );
    let (_, _, _, words) = judged(&mut frame, 9, 0, 0);
    assert_eq!(words, "");
    set(&mut frame, Setting::NfConntrackMax, "0");
    assert!(!examine(&frame, true).is_wrong(), "0 is no limit");
}

/// Each namespace has a count of its own, and all have the limit of the first, where alone it is set.
#[test]
fn tracked_connections_of_another_namespace_are_told_there() {
    let mut frame = host();
    frame.first = false;
    frame.scope = Scope::Other(Some("/run/netns/a".into()));
    set(&mut frame, Setting::NfConntrackMax, "100000");
    let told = |frame: &HostFrame| {
        let mut lines = examine(frame, false).lines.into_iter();
        lines.find(|line| line.setting == Setting::NfConntrackMax)
    };
    assert!(told(&frame).is_none());
    frame.conntrack.count = Some(99_000);
    for scope in [Scope::Other(None), Scope::Own] {
        frame.scope = scope;
        let line = told(&frame).unwrap();
        assert_eq!(line.finding.severity, Severity::Critical);
        assert!(
            line.words.contains("in this namespace, each of which may have as many"),
            "{line:?}"
        );
        let advice = &line.finding.advice;
        assert!(
            advice[0].starts_with("in the namespace the host started with")
                && advice[2].contains("/etc/modules-load.d"),
            "{advice:?}"
        );
    }
}

#[test]
fn how_a_setting_is_changed_depends_on_whose_it_is() {
    let mut frame = busy(28_000, 28_000);
    let advice = |frame: &HostFrame| of(frame, Setting::TcpTwReuse).finding.advice[..2].to_vec();
    assert_eq!(
        advice(&frame),
        [
            "sysctl -w net.ipv4.tcp_tw_reuse=1",
            "to keep it, in /etc/sysctl.d/90-tcp.conf: net.ipv4.tcp_tw_reuse = 1"
        ]
    );
    frame.lines.push(line_in("/etc/sysctl.conf", Setting::TcpTwReuse, "2"));
    assert_eq!(
        advice(&frame)[1],
        "to keep it, in place of /etc/sysctl.conf:3: net.ipv4.tcp_tw_reuse = 1"
    );
    frame.first = false;
    assert!(advice(&frame)[1].contains("docker run --sysctl"));
    frame.scope = Scope::Other(Some("/run/netns/a b".into()));
    assert_eq!(
        advice(&frame)[0],
        "nsenter --net='/run/netns/a b' sysctl -w net.ipv4.tcp_tw_reuse=1"
    );
    assert!(!advice(&frame)[1].contains("sysctl.d"));
}

#[test]
fn counters_of_a_younger_namespace_have_no_rate() {
    let mut frame = host();
    count(&mut frame, &[(Counter::SyncookiesSent, 1000)]);
    assert!(
        of(&frame, Setting::TcpSyncookies)
            .words
            .contains("1,000 since boot (10 an hour)")
    );
    frame.first = false;
    assert!(
        of(&frame, Setting::TcpSyncookies)
            .words
            .contains("1,000 since this namespace began. ")
    );
}

#[test]
fn a_limit_of_no_orphans_that_nobody_reached_is_no_trouble() {
    let mut frame = host();
    set(&mut frame, Setting::TcpMaxOrphans, "0");
    assert_eq!(trouble(&frame, FindingKind::OrphanLimit), None);
}

#[test]
fn few_retries_are_told_and_nothing_is_done() {
    let mut frame = host();
    set(&mut frame, Setting::TcpRetries2, "5");
    count(&mut frame, &[(Counter::TcpAbortOnTimeout, 9)]);
    let line = of(&frame, Setting::TcpRetries2);
    assert_eq!(
        (line.standing, line.finding.severity),
        (Standing::Notable, Severity::Info)
    );
    assert!(
        line.words.contains("gives up 12 s after") && commands(&line).is_empty(),
        "{line:?}"
    );
}

#[test]
fn settings_of_the_host_are_told_once() {
    let lines = examine(&host(), false).lines;
    assert!(
        lines
            .iter()
            .all(|line| SettingFacts::for_setting(line.setting).namespaced)
            && lines.len() == Setting::ALL.len() - 4
    );
}
