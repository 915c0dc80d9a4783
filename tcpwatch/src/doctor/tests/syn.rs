//! Half-open connections.

use super::*;

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
        trouble(&frame, FindingKind::SynFlood)
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
    assert_eq!(trouble(&frame, FindingKind::SynFlood), None);
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
    let found = trouble(&frame, FindingKind::SynFlood).unwrap();
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
            line.words.contains("is unknown") && commands(&line).is_empty(),
            "{line:?}"
        );
        assert_eq!(trouble(&other, FindingKind::SynFlood), None);
    }
    // With cookies on they were dropped for something else; and where one counter is missing, nobody knows.
    set(&mut frame, Setting::TcpSyncookies, "1");
    assert_eq!(trouble(&frame, FindingKind::SynFlood), None);
    set(&mut frame, Setting::TcpSyncookies, "0");
    let counters = frame.counters;
    frame.counters = CounterValues::read(|counter| counters.get(counter).filter(|_| counter != Counter::ListenDrops));
    let line = of(&frame, Setting::TcpSyncookies);
    assert!(
        line.words.contains("is unknown") && commands(&line).is_empty(),
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
        let found = trouble(&frame, FindingKind::SynFlood).unwrap();
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
    let found = trouble(&frame, FindingKind::SynFlood).unwrap();
    assert!(
        found.severity == Severity::Info && found.title.contains("it is on now; those with cookies are less than"),
        "{found:?}"
    );
    count(
        &mut frame,
        &[(Counter::TcpReqQFullDoCookies, 383), (Counter::SyncookiesSent, 383)],
    );
    let found = trouble(&frame, FindingKind::SynFlood).unwrap();
    assert_eq!(
        (found.severity, found.advice.len()),
        (Severity::Warning, 1),
        "{found:?}"
    );
}

#[test]
fn a_flood_is_told_from_a_crowd_by_the_cookies_that_come_back() {
    let mut frame = host();
    let advice = |frame: &HostFrame| trouble(frame, FindingKind::SynFlood).unwrap().advice[0].clone();
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
            "it limits every listener that asked for a longer queue",
            false,
        ),
        (
            vec![unlimited],
            "it limits every listener that asked for a longer queue",
            false,
        ),
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
    assert!(
        trouble(&frame, FindingKind::SynFlood).unwrap().advice[0].contains("see the line for net.core.somaxconn below")
    );
}

#[test]
fn the_syn_backlog_does_nothing_while_cookies_are_on() {
    let mut frame = host();
    set(&mut frame, Setting::TcpMaxSynBacklog, "16");
    count(&mut frame, &[(Counter::TcpReqQFullDoCookies, 1000)]);
    let line = of(&frame, Setting::TcpMaxSynBacklog);
    assert_eq!(
        (line.standing, line.finding.advice.len()),
        (Standing::Fine, 0),
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
    assert!(
        trouble(&frame, FindingKind::SynFlood).unwrap().advice[0]
            .contains("tcp_max_syn_backlog and net.core.somaxconn")
    );
    set(&mut frame, Setting::Somaxconn, "128");
    assert_eq!(
        commands(&of(&frame, Setting::TcpMaxSynBacklog)).len(),
        0,
        "no backlog is larger"
    );
}
