//! `TIME_WAIT`, and `FIN_WAIT2`.

use super::*;

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
        fate: Fate::Wins,
    };
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
    let found = trouble(&frame, FindingKind::TimeWaitOverflow).unwrap();
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
        let found = trouble(&frame, FindingKind::TimeWaitOverflow).unwrap();
        assert_eq!((found.severity, found.advice.len()), (Severity::Info, 0), "{found:?}");
        assert!(!examine(&frame, true).is_wrong());
    }
    frame.time_wait = Some(104_858);
    assert!(examine(&frame, true).is_wrong());
}
