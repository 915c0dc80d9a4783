//! Accept queues.

use super::*;

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
    // A copied tree does not show the limits: a queue above somaxconn is at it.
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
    assert_eq!(trouble(&frame, FindingKind::AcceptQueueOverflow), None);
}

#[test]
fn a_queue_has_a_place_for_one_more_than_its_limit() {
    let mut frame = host();
    frame.listeners = Some(vec![listener(80, 5, 5)]);
    assert_eq!(trouble(&frame, FindingKind::AcceptQueueOverflow), None);
    frame.listeners = Some(vec![listener(80, 6, 5)]);
    let found = trouble(&frame, FindingKind::AcceptQueueOverflow).unwrap();
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
    let title = |frame: &HostFrame| trouble(frame, FindingKind::AcceptQueueOverflow).unwrap().title;
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
    let severity = |frame: &HostFrame| trouble(frame, FindingKind::AcceptQueueOverflow).unwrap().severity;
    count(
        &mut frame,
        &[(Counter::ListenOverflows, 9), (Counter::PassiveOpens, 100_000)],
    );
    assert_eq!(severity(&frame), Severity::Info);
    assert!(
        trouble(&frame, FindingKind::AcceptQueueOverflow)
            .unwrap()
            .advice
            .is_empty()
    );
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
