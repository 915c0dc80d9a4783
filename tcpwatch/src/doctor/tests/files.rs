//! What files set at boot.

use super::*;

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
            "/etc/sysctl.conf:3 sets 8: it was not applied since it was written (sysctl --system), failed at boot, or something else was \
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
        ("8;", "sets 8;, which the kernel does not take"),
        ("", "sets nothing, which"),
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
        fate: Fate::NotRead,
        ..line_in("/etc/sysctl.conf", Setting::TcpRetries2, "15")
    }];
    let line = of(&frame, Setting::TcpRetries2);
    assert_eq!((line.standing, line.place), (Standing::Notable, None));
    assert!(
        line.words
            .contains("/etc/sysctl.conf:3 sets 15, and nobody reads it at boot"),
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
