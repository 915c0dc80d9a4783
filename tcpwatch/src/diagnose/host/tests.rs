//! Verdicts on hosts that are made up, one trouble each.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use super::*;
use crate::explain::facts::DefaultValue;
use crate::model::counter::{Counter, CounterValues};
use crate::model::host::{ConfigLine, Conntrack, Descriptors, HeldPorts, PortsHeld, Scope};
use crate::model::listener::{self, Listener};
use crate::model::owner::{Comm, How, Owner};
use crate::model::ports::ends::Ends;

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
        let text = match Facts::of(setting).default_on(frame.release()) {
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

fn trouble(frame: &HostFrame, kind: Kind) -> Option<Finding> {
    examine(frame, true)
        .troubles
        .into_iter()
        .find(|finding| finding.kind == kind)
}

fn evidence<'a>(finding: &'a Finding, name: &str) -> &'a Value {
    &finding.evidence.iter().find(|(found, _)| *found == name).unwrap().1
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
        assert!(line.finding.advice.is_empty() && !line.words.is_empty(), "{line:?}");
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

#[test]
fn somaxconn_is_raised_where_it_is_what_limits_a_queue_that_was_full() {
    let mut frame = host();
    set(&mut frame, Setting::Somaxconn, "128");
    count(
        &mut frame,
        &[(Counter::ListenOverflows, 1204), (Counter::ListenDrops, 1210)],
    );
    let cases = [
        // Full at somaxconn; full at the application's own limit; all limited by it; none; some.
        (vec![listener(80, 129, 128), listener(81, 0, 5)], Some("129 of 128")),
        (vec![listener(80, 6, 5), listener(81, 0, 128)], None),
        (vec![listener(80, 0, 128), listener(81, 3, 128)], Some("every listener")),
        (vec![listener(80, 0, 5), listener(81, 1, 127)], None),
        (vec![listener(80, 0, 5), listener(81, 0, 128)], None),
        (vec![], None),
        // From a time when somaxconn was larger.
        (vec![listener(80, 0, 4096), listener(81, 257, 256)], None),
        // Empty by now: at somaxconn; at the application's own limit; perhaps dropped for other reasons.
        (
            vec![dropped(80, 1204, 128), dropped(81, 0, 5)],
            Some(r"0.0.0.0:80 app\u{1b}[7] dropped 1,204 with a backlog of 128"),
        ),
        (vec![dropped(80, 1204, 5), dropped(81, 0, 128)], None),
        (vec![dropped(80, 60, 128), dropped(81, 0, 5)], None),
    ];
    for (listeners, raised) in cases {
        frame.listeners = Some(listeners);
        let line = of(&frame, Setting::Somaxconn);
        match raised {
            Some(why) => {
                assert_eq!(commands(&line), ["sysctl -w net.core.somaxconn=4096"]);
                assert!(
                    line.words.contains(why) && line.words.contains("1,204 since boot (12 an hour)"),
                    "{line:?}"
                );
                assert_eq!(line.finding.severity, Severity::Warning);
            }
            None => assert_eq!(
                (commands(&line), line.finding.severity),
                (vec![], Severity::Info),
                "{line:?}"
            ),
        }
        assert_eq!(line.standing, Standing::Notable);
        assert_eq!(evidence(&line.finding, "ListenOverflows"), &Value::Count(1204));
    }
    // In a copied tree nobody tells the limits, and a queue above somaxconn is at it.
    frame.listeners = Some(vec![Listener {
        limit: None,
        ..listener(80, 129, 0)
    }]);
    assert_eq!(commands(&of(&frame, Setting::Somaxconn)).len(), 1);
    frame.listeners = Some(vec![Listener {
        limit: None,
        ..listener(80, 128, 0)
    }]);
    assert_eq!(commands(&of(&frame, Setting::Somaxconn)).len(), 0);
    frame.listeners = None;
    assert_eq!(commands(&of(&frame, Setting::Somaxconn)).len(), 0);
}

#[test]
fn somaxconn_stays_where_no_queue_was_full() {
    let mut frame = host();
    set(&mut frame, Setting::Somaxconn, "1");
    frame.listeners = Some(vec![listener(80, 1, 1)]);
    assert_eq!(of(&frame, Setting::Somaxconn).standing, Standing::Fine);
    assert_eq!(trouble(&frame, Kind::AcceptQueueOverflow), None);
}

#[test]
fn a_queue_has_a_place_for_one_more_than_its_limit() {
    let mut frame = host();
    frame.listeners = Some(vec![listener(80, 5, 5)]);
    assert_eq!(trouble(&frame, Kind::AcceptQueueOverflow), None);
    frame.listeners = Some(vec![listener(80, 6, 5)]);
    let found = trouble(&frame, Kind::AcceptQueueOverflow).unwrap();
    assert_eq!((found.severity, found.owner), (Severity::Warning, Some(owner(7))));
    assert!(
        found.title.contains(r"0.0.0.0:80 app\u{1b}[7] holds 6 of 5"),
        "{found:?}"
    );
}

#[test]
fn whose_queue_was_full_is_told_when_it_is_empty_again() {
    let mut frame = host();
    count(
        &mut frame,
        &[(Counter::ListenOverflows, 30), (Counter::ListenDrops, 34)],
    );
    let title = |frame: &HostFrame| trouble(frame, Kind::AcceptQueueOverflow).unwrap().title;
    let words = |frame: &HostFrame| of(frame, Setting::Somaxconn).words;
    frame.listeners = Some(vec![
        dropped(80, 3, 5),
        dropped(81, 20, 6),
        listener(82, 8, 7),
        dropped(81, 11, 6),
    ]);
    assert!(
        title(&frame).ends_with(
            r"0.0.0.0:82 app\u{1b}[7] holds 8 of 7 now, 0.0.0.0:81 app\u{1b}[7] (2 sockets) dropped 31 with a backlog of 6"
        ),
        "{}",
        title(&frame)
    );
    frame.listeners = Some(vec![dropped(80, 4, 5), dropped(81, 0, 4096)]);
    assert!(words(&frame).contains("is not known"), "{}", words(&frame));
    frame.listeners = Some(vec![dropped(80, 0, 5), dropped(81, 0, 4096)]);
    assert!(!title(&frame).contains("dropped"), "{}", title(&frame));
    assert!(words(&frame).contains("one that is gone"), "{}", words(&frame));
    let full = Listener {
        queued: 8,
        ..dropped(80, 34, 7)
    };
    frame.listeners = Some(vec![full]);
    assert!(
        title(&frame).ends_with("holds 8 of 7 now and dropped 34"),
        "{}",
        title(&frame)
    );
}

#[test]
fn an_overflow_in_many_thousand_connections_is_no_warning() {
    let mut frame = host();
    let severity = |frame: &HostFrame| trouble(frame, Kind::AcceptQueueOverflow).unwrap().severity;
    count(
        &mut frame,
        &[(Counter::ListenOverflows, 9), (Counter::PassiveOpens, 100_000)],
    );
    assert_eq!(severity(&frame), Severity::Info);
    assert!(trouble(&frame, Kind::AcceptQueueOverflow).unwrap().advice.is_empty());
    frame.listeners = Some(vec![dropped(80, 9, 4096)]);
    count(&mut frame, &[(Counter::ListenDrops, 9)]);
    assert_eq!(commands(&of(&frame, Setting::Somaxconn)).len(), 0);
    count(&mut frame, &[(Counter::ListenOverflows, 10)]);
    assert_eq!(severity(&frame), Severity::Warning);
}

#[test]
fn resets_of_full_queues_are_wrong_where_there_were_some() {
    let mut frame = host();
    set(&mut frame, Setting::TcpAbortOnOverflow, "1");
    assert_eq!(commands(&of(&frame, Setting::TcpAbortOnOverflow)).len(), 0);
    count(&mut frame, &[(Counter::ListenOverflows, 4)]);
    let line = of(&frame, Setting::TcpAbortOnOverflow);
    assert_eq!(
        (line.standing, commands(&line).len()),
        (Standing::Notable, 0),
        "less than one a day"
    );
    count(&mut frame, &[(Counter::ListenOverflows, 5)]);
    assert_eq!(
        commands(&of(&frame, Setting::TcpAbortOnOverflow)),
        ["sysctl -w net.ipv4.tcp_abort_on_overflow=0"]
    );
}

#[test]
fn cookies_are_turned_on_where_syns_were_dropped_for_want_of_them() {
    let mut frame = host();
    set(&mut frame, Setting::TcpSyncookies, "0");
    let line = of(&frame, Setting::TcpSyncookies);
    assert!(
        line.words.contains("no SYN was dropped for it") && commands(&line).is_empty(),
        "{line:?}"
    );
    count(&mut frame, &[(Counter::TcpReqQFullDrop, 30)]);
    assert_eq!(
        commands(&of(&frame, Setting::TcpSyncookies)),
        ["sysctl -w net.ipv4.tcp_syncookies=1"]
    );
    assert!(
        trouble(&frame, Kind::SynFlood)
            .unwrap()
            .title
            .contains("30 SYNs were dropped since boot (7.2 a day) for a full queue of half-open connections")
    );
    // Sent with no queue full, they are no flood.
    let mut frame = host();
    set(&mut frame, Setting::TcpSyncookies, "2");
    count(
        &mut frame,
        &[(Counter::TcpReqQFullDoCookies, 500), (Counter::SyncookiesSent, 500)],
    );
    assert_eq!(
        commands(&of(&frame, Setting::TcpSyncookies)),
        ["sysctl -w net.ipv4.tcp_syncookies=1"]
    );
    assert_eq!(trouble(&frame, Kind::SynFlood), None);
}

/// What `tcp_conn_request` drops from three quarters of `tcp_max_syn_backlog` on is in `ListenDrops` alone.
#[test]
fn without_cookies_syns_are_dropped_before_any_queue_is_full() {
    let mut frame = host();
    set(&mut frame, Setting::TcpSyncookies, "0");
    set(&mut frame, Setting::TcpMaxSynBacklog, "2048");
    frame.listeners = Some(vec![dropped(80, 1463, 4096), dropped(81, 37, 1536)]);
    count(
        &mut frame,
        &[(Counter::ListenDrops, 1500), (Counter::ListenOverflows, 37)],
    );
    let line = of(&frame, Setting::TcpSyncookies);
    assert!(
        line.words.contains("1,463 of ListenDrops that no full queue explains"),
        "{line:?}"
    );
    assert_eq!(commands(&line), ["sysctl -w net.ipv4.tcp_syncookies=1"]);
    let line = of(&frame, Setting::TcpMaxSynBacklog);
    assert!(
        line.words.starts_with(
            r"1,536, three quarters of it, are for strangers while tcp_syncookies is 0, fewer than 0.0.0.0:80 app"
        ) && !line.words.contains(":81 ")
            && line.words.contains("1,463"),
        "{line:?}"
    );
    let found = trouble(&frame, Kind::SynFlood).unwrap();
    assert!(
        found
            .title
            .starts_with("1,463 SYNs were dropped since boot (14 an hour) though no queue was full"),
        "{found:?}"
    );
    assert_eq!((found.severity, found.advice.len()), (Severity::Warning, 1));
    // Where no listener may have so many half-open, it was something else.
    for listeners in [
        vec![dropped(81, 1500, 1536)],
        vec![dropped(81, 1500, 1536), dropped(80, 0, 4096)],
    ] {
        let other = HostFrame {
            listeners: Some(listeners),
            ..frame.clone()
        };
        let line = of(&other, Setting::TcpSyncookies);
        assert!(
            line.words.contains("cannot be said") && commands(&line).is_empty(),
            "{line:?}"
        );
        assert_eq!(trouble(&other, Kind::SynFlood), None);
    }
    // With cookies on they were dropped for something else; and where one counter is missing, nobody knows.
    set(&mut frame, Setting::TcpSyncookies, "1");
    assert_eq!(trouble(&frame, Kind::SynFlood), None);
    set(&mut frame, Setting::TcpSyncookies, "0");
    let counters = frame.counters;
    frame.counters = CounterValues::read(|counter| counters.get(counter).filter(|_| counter != Counter::ListenDrops));
    let line = of(&frame, Setting::TcpSyncookies);
    assert!(
        line.words.contains("cannot be said") && commands(&line).is_empty(),
        "{line:?}"
    );
}

/// Who turned cookies on as told is told what was, and that nothing is left to do.
#[test]
fn syns_that_were_dropped_before_cookies_were_on_are_no_trouble_now() {
    let mut frame = host();
    count(&mut frame, &[(Counter::TcpReqQFullDrop, 383)]);
    for value in ["1", "2"] {
        set(&mut frame, Setting::TcpSyncookies, value);
        let found = trouble(&frame, Kind::SynFlood).unwrap();
        assert_eq!((found.severity, found.advice.len()), (Severity::Info, 0), "{found:?}");
        assert!(
            found.title.starts_with("383 SYNs were dropped")
                && found.title.ends_with("while tcp_syncookies was 0, and it is on now"),
            "{found:?}"
        );
        assert!(!examine(&frame, true).is_wrong());
    }
    set(&mut frame, Setting::TcpSyncookies, "1");
    let line = of(&frame, Setting::TcpSyncookies);
    assert!(
        line.words.contains("none was while it was on") && line.words.contains("TCPReqQFullDrop 383"),
        "{line:?}"
    );
    // What was dropped before makes no flood of a few cookies.
    count(
        &mut frame,
        &[
            (Counter::TcpReqQFullDoCookies, 2),
            (Counter::SyncookiesSent, 2),
            (Counter::PassiveOpens, 100_000),
        ],
    );
    let found = trouble(&frame, Kind::SynFlood).unwrap();
    assert!(
        found.severity == Severity::Info && found.title.contains("it is on now; those with cookies are less than"),
        "{found:?}"
    );
    count(
        &mut frame,
        &[(Counter::TcpReqQFullDoCookies, 383), (Counter::SyncookiesSent, 383)],
    );
    let found = trouble(&frame, Kind::SynFlood).unwrap();
    assert_eq!(
        (found.severity, found.advice.len()),
        (Severity::Warning, 1),
        "{found:?}"
    );
}

#[test]
fn a_flood_is_told_from_a_crowd_by_the_cookies_that_come_back() {
    let mut frame = host();
    let advice = |frame: &HostFrame| trouble(frame, Kind::SynFlood).unwrap().advice[0].clone();
    let sent = [(Counter::TcpReqQFullDoCookies, 1000), (Counter::SyncookiesSent, 1000)];
    count(&mut frame, &sent);
    count(&mut frame, &[(Counter::SyncookiesRecv, 499)]);
    assert!(advice(&frame).contains("flood from false addresses"));
    assert_eq!(of(&frame, Setting::Somaxconn).standing, Standing::Fine);
    count(&mut frame, &[(Counter::SyncookiesRecv, 500)]);
    assert!(advice(&frame).contains("real clients"));
}

/// The queue of half-open connections has the bound of the accept queue.
#[test]
fn somaxconn_is_in_the_way_of_a_crowd_too() {
    let mut frame = host();
    set(&mut frame, Setting::Somaxconn, "128");
    count(
        &mut frame,
        &[
            (Counter::TcpReqQFullDoCookies, 50_000),
            (Counter::SyncookiesSent, 50_000),
            (Counter::SyncookiesRecv, 49_000),
        ],
    );
    let unlimited = Listener {
        limit: None,
        ..listener(80, 0, 0)
    };
    for (listeners, says, raised) in [
        (
            vec![listener(80, 0, 128)],
            "it is the limit of every listener here",
            true,
        ),
        (vec![listener(80, 0, 100)], "every listener here asked for less", false),
        (
            vec![listener(80, 0, 100), listener(81, 0, 128)],
            "in the way of whoever asked for more",
            false,
        ),
        (vec![unlimited], "in the way of whoever asked for more", false),
    ] {
        frame.listeners = Some(listeners);
        let line = of(&frame, Setting::Somaxconn);
        assert!(
            line.words.contains("98 % of the cookies came back") && line.words.contains(says),
            "{line:?}"
        );
        assert_eq!(
            (line.standing, commands(&line).len()),
            (Standing::Notable, usize::from(raised)),
            "{line:?}"
        );
    }
    // Whether it is in the way is not told at two places in two ways.
    assert!(trouble(&frame, Kind::SynFlood).unwrap().advice[0].contains("net.core.somaxconn, here, tells"));
}

#[test]
fn the_syn_backlog_does_nothing_while_cookies_are_on() {
    let mut frame = host();
    set(&mut frame, Setting::TcpMaxSynBacklog, "16");
    count(&mut frame, &[(Counter::TcpReqQFullDoCookies, 1000)]);
    let line = of(&frame, Setting::TcpMaxSynBacklog);
    assert!(
        line.words.contains("no effect") && line.finding.advice.is_empty(),
        "{line:?}"
    );
}

#[test]
fn the_syn_backlog_of_old_kernels_is_raised_for_real_clients() {
    let mut frame = host();
    frame.release_text = Some("3.10.0".into());
    set(&mut frame, Setting::TcpMaxSynBacklog, "128");
    count(
        &mut frame,
        &[
            (Counter::TcpReqQFullDoCookies, 50_000),
            (Counter::SyncookiesSent, 50_000),
        ],
    );
    let line = of(&frame, Setting::TcpMaxSynBacklog);
    assert!(
        line.words.contains("the smaller counts; TCPReqQFullDoCookies 50,000") && commands(&line).is_empty(),
        "a flood: {line:?}"
    );
    count(&mut frame, &[(Counter::SyncookiesRecv, 49_000)]);
    let line = of(&frame, Setting::TcpMaxSynBacklog);
    assert_eq!(commands(&line), ["sysctl -w net.ipv4.tcp_max_syn_backlog=4096"]);
    assert_eq!(
        of(&frame, Setting::Somaxconn).standing,
        Standing::Fine,
        "it is not in the way"
    );
    assert!(
        line.finding
            .advice
            .iter()
            .any(|step| step.contains("restart the application")),
        "{line:?}"
    );
    assert!(trouble(&frame, Kind::SynFlood).unwrap().advice[0].contains("tcp_max_syn_backlog and net.core.somaxconn"));
    set(&mut frame, Setting::Somaxconn, "128");
    assert_eq!(
        commands(&of(&frame, Setting::TcpMaxSynBacklog)).len(),
        0,
        "no backlog is larger"
    );
}

/// One in many days, or of very many connections, is no reason to change anything.
#[test]
fn what_happened_once_is_told_and_nothing_is_done() {
    let once = [
        (
            Counter::TcpTimeWaitOverflow,
            Setting::TcpMaxTwBuckets,
            Kind::TimeWaitOverflow,
        ),
        (Counter::TcpReqQFullDoCookies, Setting::Somaxconn, Kind::SynFlood),
        (Counter::TcpReqQFullDrop, Setting::TcpSyncookies, Kind::SynFlood),
        (Counter::TcpAbortOnMemory, Setting::TcpMaxOrphans, Kind::OrphanLimit),
        (Counter::ListenOverflows, Setting::Somaxconn, Kind::AcceptQueueOverflow),
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
fn ports_are_worth_a_change_where_one_destination_takes_nearly_all() {
    // 80 % of 28,232 are 22,585.6.
    let frame = busy(22_585, 22_000);
    assert!(!examine(&frame, true).is_wrong());
    let frame = busy(22_586, 22_000);
    assert_eq!(
        commands(&of(&frame, Setting::IpLocalPortRange)),
        [r#"sysctl -w net.ipv4.ip_local_port_range="32768 65535""#]
    );
    assert_eq!(
        commands(&of(&frame, Setting::TcpTwReuse)),
        ["sysctl -w net.ipv4.tcp_tw_reuse=1"]
    );
    let found = trouble(&frame, Kind::PortExhaustion).unwrap();
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found
            .title
            .contains("10.0.0.1 to 10.0.0.9:6379 holds 22,586 of 28,232 ports, 22,000"),
        "{found:?}"
    );
    assert_eq!(
        trouble(&busy(28_232, 0), Kind::PortExhaustion).unwrap().severity,
        Severity::Critical
    );
    // Open connections hold them: nothing in TIME_WAIT is there to be used again.
    let line = of(&busy(28_000, 10), Setting::TcpTwReuse);
    assert_eq!((line.standing, commands(&line).len()), (Standing::Fine, 0));
}

#[test]
fn thousands_in_time_wait_are_no_evidence() {
    let frame = HostFrame {
        time_wait: Some(60_000),
        ..host()
    };
    let report = examine(&frame, true);
    assert!(report.findings().all(|finding| finding.advice.is_empty()), "{report:?}");
}

#[test]
fn nobody_says_that_there_are_ports_enough_without_having_looked() {
    let says = |frame: &HostFrame| {
        let (range, reuse) = (of(frame, Setting::IpLocalPortRange), of(frame, Setting::TcpTwReuse));
        assert_eq!(
            range.words.contains("nothing to gain"),
            reuse.words.contains("nothing to gain")
        );
        (range.standing, range.words)
    };
    let mut frame = host();
    // With fewer sockets than half of the ports none can be out of them.
    (frame.open_sockets, frame.time_wait) = (Some(14_115), Some(0));
    assert!(says(&frame).1.contains("nothing to gain"));
    for (open, waiting) in [
        (Some(14_116), Some(0)),
        (Some(0), Some(14_116)),
        (None, Some(0)),
        (Some(0), None),
    ] {
        (frame.open_sockets, frame.time_wait) = (open, waiting);
        let (standing, words) = says(&frame);
        assert!(
            standing == Standing::Notable && words.contains("not looked at"),
            "{words}"
        );
    }
    // A look that came to no end knows who holds many, and of nobody that he holds few.
    let mut frame = busy(9000, 0);
    (frame.open_sockets, frame.held.as_mut().unwrap().whole) = (Some(90_000), false);
    assert!(says(&frame).1.contains("not looked at"));
    let mut frame = busy(28_000, 0);
    (frame.open_sockets, frame.held.as_mut().unwrap().whole) = (Some(90_000), false);
    assert_eq!(
        trouble(&frame, Kind::PortExhaustion).unwrap().severity,
        Severity::Critical
    );
}

#[test]
fn no_range_takes_the_port_of_a_listener() {
    let range = |ports: &[u16], used| {
        let mut frame = busy(used, 0);
        frame.listeners = Some(ports.iter().map(|&port| listener(port, 0, 128)).collect());
        set(&mut frame, Setting::IpLocalReservedPorts, "20000,62000");
        let line = of(&frame, Setting::IpLocalPortRange);
        assert_eq!(line.finding.severity, Severity::Warning);
        let command = commands(&line).first().map(|command| (*command).to_owned());
        command.and_then(|command| Some(command.split('"').nth(1)?.to_owned()))
    };
    let wide = |text: &str| Some(text.to_owned());
    // 80 % of the 32,768 up to the end, less a reserved one, are 26,213.6.
    assert_eq!(range(&[], 26_213), wide("32768 65535"));
    assert_eq!(range(&[], 26_214), wide("10240 65535"));
    assert_eq!(range(&[80, 11_211, 27_017, 40_000], 28_000), wide("27018 65535"));
    assert_eq!(
        range(&[11_210, 20_000, 62_000], 28_000),
        wide("11212 65535"),
        "those that are reserved are kept"
    );
    assert_eq!(range(&[61_500, 62_000], 28_000), wide("10240 61499"));
    assert_eq!(range(&[61_000, 32_767], 28_000), None, "there is no room");
    assert_eq!(range(&[61_000, 80], 23_000), wide("10240 60999"));
}

#[test]
fn reuse_is_not_told_to_those_who_have_it_or_cannot() {
    let mut frame = busy(28_000, 28_000);
    set(&mut frame, Setting::TcpTwReuse, "1");
    count(&mut frame, &[(Counter::TwRecycled, 5)]);
    assert_eq!(of(&frame, Setting::TcpTwReuse).finding.advice.len(), 0);
    set(&mut frame, Setting::TcpTimestamps, "0");
    let line = of(&frame, Setting::TcpTwReuse);
    assert!(
        line.words.contains("it does nothing, for it needs tcp_timestamps"),
        "{line:?}"
    );
    assert_eq!(
        commands(&of(&frame, Setting::TcpTimestamps)),
        ["sysctl -w net.ipv4.tcp_timestamps=1"]
    );
    // Over loopback the kernel's own default takes them again, and they are in nobody's way.
    let mut frame = busy(28_000, 28_000);
    frame.held.as_mut().unwrap().to = vec![held([127, 0, 0, 2], 28_000, 28_000)];
    count(&mut frame, &[(Counter::TwRecycled, 5)]);
    set(&mut frame, Setting::TcpTwReuse, "2");
    assert!(!examine(&frame, true).is_wrong());
    set(&mut frame, Setting::TcpTwReuse, "0");
    assert_eq!(
        commands(&of(&frame, Setting::TcpTwReuse)),
        ["sysctl -w net.ipv4.tcp_tw_reuse=2"]
    );
    // Another destination is out of them, which holds fewer.
    set(&mut frame, Setting::TcpTwReuse, "2");
    frame.held.as_mut().unwrap().to.push(held([10, 0, 0, 9], 27_000, 0));
    assert!(
        trouble(&frame, Kind::PortExhaustion)
            .unwrap()
            .title
            .contains("10.0.0.9:6379 holds 27,000")
    );
}

#[test]
fn timestamps_that_are_off_are_wrong_where_something_misses_them() {
    let mut frame = host();
    set(&mut frame, Setting::TcpTimestamps, "0");
    assert!(!examine(&frame, true).is_wrong());
    set(&mut frame, Setting::TcpTwReuse, "1");
    let (reuse, timestamps) = (of(&frame, Setting::TcpTwReuse), of(&frame, Setting::TcpTimestamps));
    assert!(!examine(&frame, true).is_wrong());
    assert_eq!(
        (reuse.standing, reuse.finding.advice.len(), timestamps.standing),
        (Standing::Notable, 0, Standing::Notable)
    );
    assert!(timestamps.words.contains("PAWS"), "{timestamps:?}");
}

#[test]
fn ports_in_time_wait_are_free_where_they_are_seen_to_be_taken_again() {
    let mut frame = busy(28_232, 28_232);
    set(&mut frame, Setting::TcpTwReuse, "1");
    // The other side may use no timestamps: nothing shows that one was ever taken.
    let (found, line) = (
        trouble(&frame, Kind::PortExhaustion).unwrap(),
        of(&frame, Setting::TcpTwReuse),
    );
    assert_eq!(
        (found.severity, line.finding.severity),
        (Severity::Critical, Severity::Warning)
    );
    assert!(
        found.title.contains("and never did: TWRecycled 0 since boot"),
        "{found:?}"
    );
    assert!(
        commands(&line).is_empty() && line.finding.advice[0].contains("ss -ti"),
        "{line:?}"
    );
    count(&mut frame, &[(Counter::TwRecycled, 4000)]);
    assert!(!examine(&frame, true).is_wrong());
    let line = of(&frame, Setting::IpLocalPortRange);
    assert_eq!(line.standing, Standing::Notable, "who took them was not seen");
    assert!(
        line.words.ends_with("TWRecycled 4,000 since boot (40 an hour)"),
        "{line:?}"
    );
    // Half of them are younger than 30 s, and nothing is as old as TIME_WAIT itself.
    frame.tw_reuse_delay = Some("30000".into());
    assert_eq!(trouble(&frame, Kind::PortExhaustion), None);
    frame.tw_reuse_delay = Some("50000".into());
    assert_eq!(
        trouble(&frame, Kind::PortExhaustion).unwrap().severity,
        Severity::Warning
    );
    frame.tw_reuse_delay = Some("60000".into());
    assert_eq!(
        trouble(&frame, Kind::PortExhaustion).unwrap().severity,
        Severity::Critical
    );
    let line = of(&frame, Setting::TcpTwReuse);
    assert!(
        line.words.contains("tcp_tw_reuse_delay keeps it") && commands(&line).is_empty(),
        "{line:?}"
    );
}

/// What could not be read is no reason to set another thing back.
#[test]
fn what_reuse_does_is_unknown_where_what_it_needs_is() {
    let mut frame = busy(28_000, 28_000);
    frame.release_text = Some("5.10.0".into());
    frame.settings.remove(&Setting::TcpTimestamps);
    frame
        .unread
        .insert(Setting::TcpTimestamps, "No such file or directory".into());
    set(&mut frame, Setting::TcpTwReuse, "1");
    let line = of(&frame, Setting::TcpTwReuse);
    assert_eq!(line.finding.severity, Severity::Warning);
    assert!(
        line.words.contains("Whether it does is unknown")
            && !line.words.contains("keeps it from")
            && commands(&line).is_empty(),
        "{line:?}"
    );
    assert!(
        !line
            .finding
            .advice
            .iter()
            .any(|step| step.contains("back to its default")),
        "{line:?}"
    );
    // Off, or for loopback alone, it does nothing here, whatever timestamps are.
    for off in ["0", "2"] {
        set(&mut frame, Setting::TcpTwReuse, off);
        assert_eq!(
            commands(&of(&frame, Setting::TcpTwReuse)),
            ["sysctl -w net.ipv4.tcp_tw_reuse=1"]
        );
    }
}

#[test]
fn a_source_without_ports_is_trouble_for_bind_alone() {
    let mut frame = busy(3000, 0);
    frame.open_sockets = Some(28_000);
    let mut of_source = held([0; 4], 27_668, 0);
    of_source.ends.destination = None;
    frame.held.as_mut().unwrap().of = vec![of_source];
    let line = of(&frame, Setting::IpLocalPortRange);
    assert_eq!(
        (line.standing, line.finding.severity),
        (Standing::Notable, Severity::Info)
    );
    assert!(
        line.words
            .starts_with("10.0.0.1 holds 27,668 of 28,232 ports, 0 of them in TIME_WAIT, whatever the destination")
            && line.words.contains("IP_BIND_ADDRESS_NO_PORT"),
        "{line:?}"
    );
}

#[test]
fn recycle_is_gone_or_wrong() {
    let mut frame = host();
    let line = |value: &str, file: &str, number| ConfigLine {
        setting: Setting::TcpTwRecycle,
        value: value.into(),
        place: Place {
            file: file.into(),
            line: number,
        },
        is_read: true,
    };
    let words = of(&frame, Setting::TcpTwRecycle).words;
    assert_eq!(words, "gone since Linux 4.12, and no file that could be read sets it");
    frame.all_lines = true;
    let words = of(&frame, Setting::TcpTwRecycle).words;
    assert_eq!(words, "gone since Linux 4.12, and no file sets it");
    frame.lines = vec![
        line("1", "/etc/sysctl.d/a\x1b.conf", 2),
        line("1", "/etc/sysctl.conf", 7),
    ];
    let found = of(&frame, Setting::TcpTwRecycle);
    assert_eq!(
        (found.standing, found.finding.severity),
        (Standing::Notable, Severity::Info)
    );
    assert!(
        found
            .words
            .contains(r"/etc/sysctl.d/a\u{1b}.conf:2 and /etc/sysctl.conf:7 do nothing"),
        "{found:?}"
    );
    assert_eq!(
        found.finding.advice,
        [r"delete /etc/sysctl.d/a\u{1b}.conf:2", "delete /etc/sysctl.conf:7"]
    );
    frame.release_text = Some("4.11.12".into());
    set(&mut frame, Setting::TcpTwRecycle, "1");
    let found = of(&frame, Setting::TcpTwRecycle);
    assert_eq!(
        (found.finding.severity, commands(&found)),
        (Severity::Warning, vec!["sysctl -w net.ipv4.tcp_tw_recycle=0"])
    );
    count(&mut frame, &[(Counter::PawsPassive, 1)]);
    assert_eq!(of(&frame, Setting::TcpTwRecycle).finding.severity, Severity::Critical);
    set(&mut frame, Setting::TcpTimestamps, "0");
    assert!(of(&frame, Setting::TcpTwRecycle).words.contains("without effect"));
    set(&mut frame, Setting::TcpTwRecycle, "0");
    frame.lines.clear();
    assert_eq!(of(&frame, Setting::TcpTwRecycle).standing, Standing::Fine);
}

#[test]
fn fin_timeout_is_not_time_wait_and_nothing_is_to_be_done() {
    for value in ["5", "30", "59", "61", "3600"] {
        let mut frame = host();
        set(&mut frame, Setting::TcpFinTimeout, value);
        let line = of(&frame, Setting::TcpFinTimeout);
        assert_eq!(
            (line.standing, line.finding.severity),
            (Standing::Notable, Severity::Info)
        );
        assert!(
            line.words.contains("TIME_WAIT (60 s, fixed)") && line.finding.advice.is_empty(),
            "{line:?}"
        );
    }
}

#[test]
fn timewait_sockets_that_were_refused_are_worth_room() {
    let mut frame = host();
    set(&mut frame, Setting::TcpMaxTwBuckets, "5000");
    frame.time_wait = Some(4999);
    assert!(!examine(&frame, true).is_wrong());
    count(&mut frame, &[(Counter::TcpTimeWaitOverflow, 77)]);
    let command = |frame: &HostFrame| of(frame, Setting::TcpMaxTwBuckets).finding.advice[0].clone();
    assert_eq!(command(&frame), "sysctl -w net.ipv4.tcp_max_tw_buckets=16384");
    // Which is less than what the kernel would have chosen for this memory.
    frame.hash_buckets = Some(262_144);
    let line = of(&frame, Setting::TcpMaxTwBuckets);
    assert_eq!(line.beside, " (default 131072)");
    assert!(
        line.words.contains("it would be 131,072 if nobody had set it"),
        "{line:?}"
    );
    assert_eq!(command(&frame), "sysctl -w net.ipv4.tcp_max_tw_buckets=131072");
    set(&mut frame, Setting::TcpMaxTwBuckets, "131072");
    frame.time_wait = Some(104_858);
    assert_eq!(command(&frame), "sysctl -w net.ipv4.tcp_max_tw_buckets=262144");
    assert_eq!(of(&frame, Setting::TcpMaxTwBuckets).beside, " (default)");
    frame.first = false;
    let orphans = of(&frame, Setting::TcpMaxOrphans).beside;
    assert_eq!(
        orphans, " (default by memory)",
        "those of the host are not this namespace's"
    );
    frame.first = true;
    set(&mut frame, Setting::TcpMaxTwBuckets, "5000");
    frame.time_wait = Some(4999);
    let found = trouble(&frame, Kind::TimeWaitOverflow).unwrap();
    assert!(
        found.title.contains("77 connections") && found.title.contains("4,999 of 5,000"),
        "{found:?}"
    );
}

/// Who raised the limit as told is not told to raise it again: what was refused before is still in the counter.
#[test]
fn timewait_sockets_that_were_refused_under_a_lower_limit_are_worth_no_more_room() {
    let mut frame = host();
    frame.hash_buckets = Some(262_144);
    set(&mut frame, Setting::TcpMaxTwBuckets, "131072");
    count(&mut frame, &[(Counter::TcpTimeWaitOverflow, 682)]);
    for time_wait in [Some(104_857), Some(150), None] {
        frame.time_wait = time_wait;
        let line = of(&frame, Setting::TcpMaxTwBuckets);
        assert!(
            line.standing == Standing::Notable && line.words.contains("682") && commands(&line).is_empty(),
            "{line:?}"
        );
        let found = trouble(&frame, Kind::TimeWaitOverflow).unwrap();
        assert_eq!((found.severity, found.advice.len()), (Severity::Info, 0), "{found:?}");
        assert!(!examine(&frame, true).is_wrong());
    }
    frame.time_wait = Some(104_858);
    assert!(examine(&frame, true).is_wrong());
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
    assert_eq!(trouble(&frame, Kind::OrphanLimit).unwrap().severity, Severity::Warning);
    // They are the whole host's, those that were given up the namespace's.
    frame.orphans = Some(5);
    let of_another = |frame: &HostFrame| {
        let found = examine(frame, false).troubles;
        found.into_iter().find(|finding| finding.kind == Kind::OrphanLimit)
    };
    assert_eq!(of_another(&frame).unwrap().severity, Severity::Warning);
    count(&mut frame, &[(Counter::TcpAbortOnMemory, 0)]);
    frame.orphans = Some(262_144);
    assert_eq!(of_another(&frame), None);
    // None was given up: nothing is wrong, and when it will be is known.
    let found = trouble(&frame, Kind::OrphanLimit).unwrap();
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
    let found = trouble(&frame, Kind::Host).unwrap();
    assert_eq!((found.severity, found.owner), (Severity::Warning, Some(owner(7))));
    assert!(found.title.contains("has 820 of 1,024"), "{found:?}");
    assert_eq!(
        commands(&of(&frame, Setting::NrOpen)).len(),
        0,
        "its own limit is in the way"
    );
    frame.descriptors = Some(vec![process(1_048_576, 1_048_576)]);
    assert_eq!(trouble(&frame, Kind::Host).unwrap().severity, Severity::Critical);
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
    assert_eq!(
        words,
        "9 of 100,000 entries are in use; 0 packets were dropped since boot: nothing to gain"
    );
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

/// A line that sets `setting` in `file`.
fn line_in(file: &str, setting: Setting, value: &str) -> ConfigLine {
    ConfigLine {
        setting,
        value: value.into(),
        place: Place {
            file: file.into(),
            line: 3,
        },
        is_read: true,
    }
}

#[test]
fn a_value_that_is_not_the_files_is_told() {
    let mut frame = host();
    let said = |frame: &HostFrame, setting| {
        let line = of(frame, setting);
        (line.standing, line.words, line.place.map(|place| place.line))
    };
    frame.lines = vec![line_in("/etc/sysctl.conf", Setting::TcpRetries2, "8")];
    let (standing, words, place) = said(&frame, Setting::TcpRetries2);
    assert_eq!((standing, place), (Standing::Notable, Some(3)));
    assert!(
        words.ends_with(
            "/etc/sysctl.conf:3 says 8: it was not applied since it was written (sysctl --system), failed at boot, or something else was \
             set since"
        ),
        "{words}"
    );
    set(&mut frame, Setting::TcpRetries2, "8");
    assert_eq!(said(&frame, Setting::TcpRetries2).0, Standing::Fine);
    // The same in other words.
    frame.lines = vec![
        line_in("/etc/sysctl.conf", Setting::TcpRetries2, "0x8"),
        line_in("/etc/sysctl.conf", Setting::IpLocalReservedPorts, "30001,30000,40000"),
    ];
    set(&mut frame, Setting::IpLocalReservedPorts, "30000-30001,40000");
    for setting in [Setting::TcpRetries2, Setting::IpLocalReservedPorts] {
        assert_eq!(said(&frame, setting).0, Standing::Fine, "{setting:?}");
    }
    for (value, says) in [
        ("8;", "says 8;, which the kernel does not take"),
        ("", "says nothing, which"),
    ] {
        frame.lines = vec![line_in("/etc/sysctl.conf", Setting::TcpRetries2, value)];
        let (standing, words, _) = said(&frame, Setting::TcpRetries2);
        assert!(standing == Standing::Notable && words.contains(says), "{words}");
    }
}

#[test]
fn a_line_that_nobody_reads_is_told() {
    let mut frame = host();
    frame.lines = vec![ConfigLine {
        is_read: false,
        ..line_in("/etc/sysctl.conf", Setting::TcpRetries2, "15")
    }];
    let line = of(&frame, Setting::TcpRetries2);
    assert_eq!((line.standing, line.place), (Standing::Notable, None));
    assert!(
        line.words
            .contains("/etc/sysctl.conf:3 says 15, and nobody reads it at boot"),
        "{}",
        line.words
    );
    frame.lines[0].setting = Setting::TcpTwRecycle;
    let line = of(&frame, Setting::TcpTwRecycle);
    assert!(
        line.words.contains("/etc/sysctl.conf:3 does nothing") && !line.words.contains("complains"),
        "{}",
        line.words
    );
    assert_eq!(line.finding.advice, ["delete /etc/sysctl.conf:3"]);
}

#[test]
fn what_is_kept_is_kept_in_etc() {
    let mut frame = busy(28_000, 28_000);
    let kept = |frame: &HostFrame| of(frame, Setting::TcpTwReuse).finding.advice[1].clone();
    for (file, advice) in [
        ("/etc/sysctl.conf", "in place of /etc/sysctl.conf:3:"),
        (
            "/run/sysctl.d/60-x.conf",
            "in /etc/sysctl.d/90-tcp.conf, which is read after /run/sysctl.d/60-x.conf:3:",
        ),
        (
            "/usr/lib/sysctl.d/99-x.conf",
            "in /etc/sysctl.d/99-x_tcp.conf, which is read after /usr/lib/sysctl.d/99-x.conf:3:",
        ),
    ] {
        frame.lines = vec![line_in(file, Setting::TcpTwReuse, "0")];
        assert_eq!(kept(&frame), format!("to keep it, {advice} net.ipv4.tcp_tw_reuse = 1"));
    }
}

#[test]
fn a_limit_of_no_orphans_that_nobody_reached_is_no_trouble() {
    let mut frame = host();
    set(&mut frame, Setting::TcpMaxOrphans, "0");
    assert_eq!(trouble(&frame, Kind::OrphanLimit), None);
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
    assert!(lines.iter().all(|line| Facts::of(line.setting).namespaced) && lines.len() == Setting::ALL.len() - 4);
}
