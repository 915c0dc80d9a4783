//! Accept queues: `somaxconn`, `tcp_abort_on_overflow`, and queues that were full.

use super::format::{counter_text, rate, since};
use super::judgement::Judgement;
use super::negligible::{self, RARE};
use super::syn::{crowd, is_bound_by_backlog};
use crate::detect::accept_queue_overflow::dropped;
use crate::detect::few;
use crate::detect::finding::{Finding, Severity, Value};
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::input::host::HostFrame;
use crate::input::listener::{Listener, by_place, overflowed, owner_of_all};
use crate::input::setting::Setting;
use crate::model::format::thousands;

/// The default since Linux 5.4. A queue of this length takes little memory while it is empty.
const ENOUGH: u64 = 4096;
/// The longest queue of a listener (`sk_max_ack_backlog` had 16 bits until Linux 5.5).
const MOST: u64 = 65_535;

/// Whether it was somaxconn that made `listener`'s queue as long as it is, and not what the application asked for; `None` where
/// that is unknown: somaxconn may have been lowered since.
///
/// A copied tree does not show the limit. A queue that holds more connections than somaxconn is as long as somaxconn allows.
fn is_capped(listener: &Listener, somaxconn: u64) -> Option<bool> {
    match listener.limit {
        Some(limit) if limit <= somaxconn => Some(limit == somaxconn),
        Some(_) => None,
        None => (listener.queued > somaxconn).then_some(true),
    }
}

/// The listeners whose queue is full now.
fn full(frame: &HostFrame) -> Vec<&Listener> {
    let somaxconn = frame.number(Setting::Somaxconn);
    let listeners = frame.listeners.iter().flatten();
    listeners
        .filter(|listener| {
            let beyond = somaxconn.is_some_and(|most| listener.queued > most);
            listener.is_full() || (listener.limit.is_none() && beyond)
        })
        .collect()
}

/// The listeners with a full queue now, and those with drops that only a full queue explains.
fn blamed(frame: &HostFrame) -> Vec<&Listener> {
    let mut blamed = full(frame);
    let mut past: Vec<_> = overflowed(
        frame.listeners.as_deref().unwrap_or_default(),
        frame.counter(Counter::ListenOverflows),
        frame.counter(Counter::ListenDrops),
    )
    .into_iter()
    .filter(|past| !blamed.contains(past))
    .collect();
    past.sort_by_key(|past| std::cmp::Reverse(past.drops));
    blamed.append(&mut past);
    blamed
}

/// `0.0.0.0:80 nginx[812] holds 129 of 128 now and dropped 34`, `0.0.0.0:80 nginx[812] dropped 34 with a backlog of 128`.
fn did(listener: &Listener, is_full: bool) -> String {
    if !is_full {
        return dropped(listener);
    }
    let of = listener
        .limit
        .map_or_else(String::new, |limit| format!(" of {}", thousands(limit)));
    let and_dropped = match listener.drops {
        None | Some(0) => String::new(),
        Some(drops) => format!(" and dropped {}", thousands(drops)),
    };
    format!("{listener} holds {}{of} now{and_dropped}", thousands(listener.queued))
}

/// What `listeners` did. Listeners of one owner at one place count as one.
fn all_did(frame: &HostFrame, listeners: &[&Listener]) -> String {
    let full = full(frame);
    let texts = |now: bool| {
        let some = listeners.iter().filter(|listener| full.contains(*listener) == now);
        let places = by_place(some.map(|&listener| listener.clone()));
        places.iter().map(|place| did(place, now)).collect::<Vec<_>>()
    };
    few(&[texts(true), texts(false)].concat())
}

/// `net.core.somaxconn`.
pub(super) fn somaxconn(frame: &HostFrame) -> Judgement {
    let Some(value) = frame.number(Setting::Somaxconn) else {
        return Judgement::fine();
    };
    let full = full(frame);
    let capped = |listener: &&Listener| is_capped(listener, value);
    let all: Vec<_> = frame.listeners.iter().flatten().collect();
    let overflows = frame.counter(Counter::ListenOverflows);
    let is_quiet = full.is_empty() && (overflows.is_none_or(|count| count == 0) || is_rare(frame));
    // The same limit bounds half-open connections, and no counter shows at which listener.
    let half_open = crowd(frame).filter(|_| is_quiet && !is_bound_by_backlog(frame));
    let blamed = if half_open.is_some() { Vec::new() } else { blamed(frame) };
    let counted = half_open
        .clone()
        .unwrap_or_else(|| counter_text(frame, Counter::ListenOverflows));
    let verdict = match overflows {
        None if half_open.is_none() => Judgement::fine(),
        Some(0) if half_open.is_none() && full.is_empty() => Judgement::fine(),
        _ if half_open.is_none() && is_quiet => Judgement::note(format!("{counted}, {RARE}")),
        _ => {
            let by_somaxconn: Vec<_> = blamed.iter().copied().filter(|one| capped(one) == Some(true)).collect();
            if !by_somaxconn.is_empty() {
                longer_backlog_verdict(
                    frame,
                    value,
                    format!(
                        "{counted}; {}, as many as somaxconn lets it",
                        all_did(frame, &by_somaxconn)
                    ),
                )
            } else if !blamed.is_empty() && blamed.iter().all(|one| capped(one) == Some(false)) {
                Judgement::note(format!(
                    "{counted}; {}, and asked for no more: its own backlog is to be raised, this is large enough",
                    all_did(frame, &blamed)
                ))
            } else if blamed.is_empty() && !all.is_empty() && all.iter().all(|one| capped(one) == Some(true)) {
                longer_backlog_verdict(
                    frame,
                    value,
                    format!("{counted}; it is the limit of every listener here"),
                )
            } else if blamed.is_empty() && !all.is_empty() && all.iter().all(|one| capped(one) == Some(false)) {
                Judgement::note(format!(
                    "{counted}; every listener here asked for less, so that raising it helps none: their own backlog is to be raised"
                ))
            } else if half_open.is_some() {
                Judgement::note(format!(
                    "{counted}; it limits every listener that asked for a longer queue; tcpwatch cannot see which did: ss -ltn shows \
                     the limit of each in Send-Q"
                ))
            } else if blamed.is_empty() {
                let whose = if all.iter().all(|listener| listener.drops == Some(0)) {
                    "none that listens now has dropped any, so that it was one that is gone"
                } else {
                    "which queue it was is not known, and none is full now"
                };
                Judgement::note(format!("{counted}; {whose}: nothing is recommended"))
            } else {
                Judgement::note(format!(
                    "{counted}; {}, from a time when somaxconn was larger: nothing is recommended",
                    all_did(frame, &blamed)
                ))
            }
        }
    };
    verdict
        .counters(&[Counter::ListenOverflows, Counter::ListenDrops])
        .evidence("listeners", frame.listeners.as_ref().map(|all| all.len() as u64))
        .evidence("full", frame.listeners.as_ref().map(|_| full.len() as u64))
}

/// Whether accept queues overflowed so rarely that nothing needs a change.
fn is_rare(frame: &HostFrame) -> bool {
    let overflows = frame.counter(Counter::ListenOverflows).unwrap_or(0);
    negligible::is_rare(frame, overflows, &[Counter::PassiveOpens])
}

fn longer_backlog_verdict(frame: &HostFrame, value: u64, words: String) -> Judgement {
    if value >= MOST {
        return Judgement::warning(format!(
            "{words}; longer makes clients wait longer: accept() is to be called faster"
        ));
    }
    let to = if value < ENOUGH {
        ENOUGH
    } else {
        value.saturating_mul(2).min(MOST)
    };
    let mut verdict = Judgement::warning(words).with_set_command(
        frame,
        Setting::Somaxconn,
        &to.to_string(),
        "clients wait in a longer queue for longer; the application becomes no faster",
    );
    let restart = format!(
        "then restart the application, with a backlog as large in its listen(): it asked for {} or more",
        thousands(value)
    );
    verdict.advice.insert(verdict.advice.len() - 1, restart);
    verdict
}

/// `net.ipv4.tcp_abort_on_overflow`.
pub(super) fn abort(frame: &HostFrame) -> Judgement {
    let counted = counter_text(frame, Counter::ListenOverflows);
    let overflows = frame.counter(Counter::ListenOverflows);
    let verdict = match (frame.number(Setting::TcpAbortOnOverflow), overflows) {
        (Some(0), _) => Judgement::fine(),
        (_, Some(0) | None) => Judgement::note(format!("a client whose last ACK finds an accept queue full is reset; {counted}")),
        (_, Some(_)) if is_rare(frame) => Judgement::note(format!(
            "a client whose last ACK finds an accept queue full is reset; {counted}, {RARE}"
        )),
        (_, Some(_)) => Judgement::warning(format!(
            "clients whose handshake was done were reset where a queue was full, who would have got in by trying again: {counted}, \
             SYNs that were dropped among them"
        ))
        .with_set_command(
            frame,
            Setting::TcpAbortOnOverflow,
            "0",
            "a client waits and tries again for seconds where it got a reset at once",
        ),
    };
    verdict.counters(&[Counter::ListenOverflows])
}

/// Accept queues that were full, or are.
pub(super) fn overflow(frame: &HostFrame, findings: &mut Vec<Finding>) {
    let full = full(frame);
    let overflows = frame.counter(Counter::ListenOverflows).unwrap_or(0);
    if overflows == 0 && full.is_empty() {
        return;
    }
    let accepted = frame.counter(Counter::PassiveOpens);
    let mut title = if overflows == 0 {
        "An accept queue is full".to_owned()
    } else {
        format!(
            "Accept queues were full {} times {}{}",
            thousands(overflows),
            since(frame),
            rate(frame, overflows)
        )
    };
    if let Some(accepted) = accepted.filter(|_| overflows > 0) {
        title = format!(
            "{title}, beside {} connections taken (PassiveOpens)",
            thousands(accepted)
        );
    }
    let blamed = blamed(frame);
    if !blamed.is_empty() {
        title = format!("{title}; {}", all_did(frame, &blamed));
    }
    let is_rare = is_rare(frame) && full.is_empty();
    if is_rare {
        title = format!("{title}; that is {RARE}");
    }
    let owner = owner_of_all(&blamed);
    let who = owner.map_or_else(|| "the application".into(), |owner| owner.to_string());
    let severity = if is_rare { Severity::Info } else { Severity::Warning };
    findings.push(Finding {
        evidence: vec![
            ("ListenOverflows", frame.counter(Counter::ListenOverflows).into()),
            ("ListenDrops", frame.counter(Counter::ListenDrops).into()),
            ("PassiveOpens", accepted.into()),
            (
                "full",
                frame
                    .listeners
                    .as_ref()
                    .map_or(Value::Unknown, |_| Value::Count(full.len() as u64)),
            ),
            ("listener", blamed.first().map(|first| first.place()).into()),
            ("listener_drops", blamed.first().and_then(|first| first.drops).into()),
            ("counted_s", frame.counted_s().into()),
        ],
        advice: if is_rare {
            Vec::new()
        } else {
            vec![
                format!("let {who} call accept() faster: a queue is full because nobody empties it"),
                "against bursts, a longer queue: see the line for net.core.somaxconn below".into(),
            ]
        },
        owner,
        ..Finding::new(FindingKind::AcceptQueueOverflow, severity, title)
    });
}
