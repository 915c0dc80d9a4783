//! Local ports.

use super::*;

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
    let found = trouble(&frame, FindingKind::PortExhaustion).unwrap();
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found
            .title
            .contains("10.0.0.1 to 10.0.0.9:6379 holds 22,586 of 28,232 ports, 22,000"),
        "{found:?}"
    );
    assert_eq!(
        trouble(&busy(28_232, 0), FindingKind::PortExhaustion).unwrap().severity,
        Severity::Critical
    );
    // Open connections hold them: nothing in TIME_WAIT is there to be used again.
    let line = of(&busy(28_000, 10), Setting::TcpTwReuse);
    assert_eq!((line.standing, commands(&line).len()), (Standing::Notable, 0));
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
        assert_eq!(range.standing, reuse.standing);
        (range.standing, range.words)
    };
    let mut frame = host();
    // With fewer sockets than half of the ports none can be out of them.
    (frame.open_sockets, frame.time_wait) = (Some(14_115), Some(0));
    assert_eq!(says(&frame), (Standing::Fine, String::new()));
    for (open, waiting) in [
        (Some(14_116), Some(0)),
        (Some(0), Some(14_116)),
        (None, Some(0)),
        (Some(0), None),
    ] {
        (frame.open_sockets, frame.time_wait) = (open, waiting);
        let (standing, words) = says(&frame);
        assert!(
            standing == Standing::Notable && words.contains("not counted"),
            "{words}"
        );
    }
    // A look that came to no end knows who holds many, and of nobody that he holds few.
    let mut frame = busy(9000, 0);
    (frame.open_sockets, frame.held.as_mut().unwrap().whole) = (Some(90_000), false);
    assert!(says(&frame).1.contains("not counted"));
    let mut frame = busy(28_000, 0);
    (frame.open_sockets, frame.held.as_mut().unwrap().whole) = (Some(90_000), false);
    assert_eq!(
        trouble(&frame, FindingKind::PortExhaustion).unwrap().severity,
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
fn a_range_of_the_last_port_cannot_be_wider() {
    let mut frame = busy(1, 0);
    frame.range = PortRange::parse("65535 65535", "");
    frame.listeners = Some(vec![listener(65_534, 0, 128)]);
    assert_eq!(commands(&of(&frame, Setting::IpLocalPortRange)), [""; 0]);
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
        trouble(&frame, FindingKind::PortExhaustion)
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
        trouble(&frame, FindingKind::PortExhaustion).unwrap(),
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
    assert_eq!(trouble(&frame, FindingKind::PortExhaustion), None);
    frame.tw_reuse_delay = Some("50000".into());
    assert_eq!(
        trouble(&frame, FindingKind::PortExhaustion).unwrap().severity,
        Severity::Warning
    );
    frame.tw_reuse_delay = Some("60000".into());
    assert_eq!(
        trouble(&frame, FindingKind::PortExhaustion).unwrap().severity,
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
