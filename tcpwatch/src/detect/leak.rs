//! Groups of stuck sockets that their application leaks, does not read, or closes late: what is wrong by the verdict, and what to do.

use std::fmt::Write as _;

use tcpwatch_common::TcpState;

use super::finding::{Finding, Severity};
use super::{Detector, Frame, MOST};
use crate::explain::kind::FindingKind;
use crate::explain::topic::Topic;
use crate::input::escaped::Escaped;
use crate::model::format::{duration, several, thousands};
use crate::model::leaks::{Group, Side, Verdict, culprit};
use crate::model::seconds;

/// Finds groups of sockets that are leaked, not read, or closed late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leak;

impl Detector for Leak {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let groups = frame.leaks.iter().flat_map(|frame| &frame.groups);
        let wrong = groups.filter_map(|group| {
            let severity = match group.verdict {
                Verdict::Leak | Verdict::Unread => Severity::Warning,
                Verdict::Slow => Severity::Info,
                Verdict::Kernel | Verdict::Pool | Verdict::Young | Verdict::Undecided => return None,
            };
            Some((group, severity))
        });
        for (group, severity) in wrong.take(MOST) {
            findings.push(Finding {
                kind: FindingKind::Leak,
                topic: topic(group),
                severity,
                title: title(group),
                evidence: vec![
                    ("verdict", group.verdict.key().into()),
                    ("state", group.key.state.key().into()),
                    ("sockets", group.sockets.into()),
                    ("oldest_s", seconds(group.oldest.ns).into()),
                    ("watched_s", group.watched_ns.map(seconds).into()),
                    ("closed_late", group.closings.late.into()),
                    ("unread_bytes", group.unread_bytes.into()),
                    ("growth_per_min", group.growth_per_min.into()),
                ],
                advice: advice(group),
                owner: group.owner,
            });
        }
    }
}

/// The owner, for a sentence: `app[2204]`; of several holders, `app[2204] and 11 others`. Escaped.
#[must_use]
pub fn who(group: &Group) -> String {
    if let Some(owner) = group.owner {
        return owner.to_string();
    }
    let mut holders = group.holders.iter().map(|holder| holder.process);
    let (Some(first), second) = (holders.next(), holders.next()) else {
        return "?".into();
    };
    let Some(second) = second else {
        return first.to_string();
    };
    let more = group.holders.len() - 2;
    if more == 0 {
        format!("{first} and {second}")
    } else if group.holders.iter().all(|holder| holder.process.comm == first.comm) {
        format!("{first} and {} others", thousands(more as u64 + 1))
    } else {
        format!("{first}, {second} and {} more", thousands(more as u64))
    }
}

/// The place: `:8080`, or the remote end of connections that this host opened.
#[must_use]
pub fn place(group: &Group) -> String {
    match group.key.side {
        Side::Passive(port) => format!(":{port}"),
        Side::Active(address, port) if address.ip.is_ipv6() => format!("to [{address}]:{port}"),
        Side::Active(address, port) => format!("to {address}:{port}"),
    }
}

/// The age of the oldest: `2 h 14 m`, `at least 2 h 14 m`.
#[must_use]
pub fn oldest(group: &Group) -> String {
    let at_least = if group.oldest.at_least { "at least " } else { "" };
    format!("{at_least}{}", duration(group.oldest.ns))
}

/// The application's name, for a sentence.
fn app(group: &Group) -> String {
    group
        .owner
        .map_or_else(|| "the application".into(), |owner| owner.comm.to_string())
}

/// What each side has done, and what waits in the sockets.
#[must_use]
pub fn condition(group: &Group) -> String {
    let app = app(group);
    let there = group.sockets.saturating_sub(group.ended);
    let mut text = match group.key.state {
        TcpState::CloseWait if there > 0 && group.unaccepted == there => {
            format!("the peer closed before {app} accepted them")
        }
        TcpState::CloseWait => {
            let facts = [
                (group.unaccepted, "has not accepted the connection"),
                (group.eof_read, "has read EOF and not closed the descriptor"),
                (group.eof_unread, "has neither read EOF nor closed the descriptor"),
                (group.unread, "has not read what came before EOF"),
            ];
            let known: Vec<String> = facts
                .into_iter()
                .filter(|&(sockets, _)| sockets > 0)
                .map(|(sockets, fact)| {
                    if sockets == there {
                        fact.to_owned()
                    } else {
                        format!("{fact} ({})", thousands(sockets))
                    }
                })
                .collect();
            if known.is_empty() {
                format!("the peer closed; {app} has not closed the descriptor")
            } else {
                format!("the peer closed; {app} {}", known.join(", "))
            }
        }
        TcpState::FinWait2 if group.key.orphans => "the application closed; the peer has not closed".into(),
        TcpState::FinWait2 if there == 0 => format!("{app} has shut down its side and not closed the descriptor"),
        TcpState::FinWait2 => {
            format!("{app} has shut down its side and not closed the descriptor; the peer has not closed")
        }
        TcpState::SynSent => "the peer does not answer the SYN".into(),
        TcpState::Established => format!("both sides are open, and no data moves; {app} has not closed the descriptor"),
        _ => "both sides closed; the peer does not acknowledge the FIN".into(),
    };
    if group.ended > 0 {
        let ended = thousands(group.ended);
        let _ = write!(
            text,
            "; the kernel ended {ended} of them since, and {app} keeps the descriptors open"
        );
    }
    if group.unsent > 0 {
        let (bytes, sockets) = (bytes(group.unsent_bytes), thousands(group.unsent));
        let _ = write!(text, "; the peer has not acknowledged {bytes} in {sockets} of them");
    }
    text
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "data".into(), |bytes| several(bytes, "byte", "bytes"))
}

/// The evidence for the verdict, in words and numbers.
#[must_use]
pub fn why(group: &Group) -> String {
    let closed = closings_text(group);
    let why = match group.verdict {
        Verdict::Leak | Verdict::Slow => closed,
        Verdict::Unread => format!(
            "{} wait unread in {} of them",
            bytes(group.unread_bytes),
            thousands(group.unread)
        ),
        Verdict::Pool => format!(
            "this host opened them, none has unread data, and their number did not grow in the last {}",
            duration(group.growth.map_or(0, |growth| growth.last_ns))
        ),
        Verdict::Young => "none is old enough to be stuck".into(),
        Verdict::Undecided => {
            let more = duration(group.more_ns.unwrap_or(0));
            match group.watched_ns {
                None => format!("one scan does not show whether they are closed or read: watch them for {more}"),
                Some(0) => format!("the watch begins; {more} to decide"),
                Some(_) => format!("{closed}; {more} more to decide"),
            }
        }
        Verdict::Kernel => match group.key.state {
            TcpState::SynSent => "the kernel gives up after tcp_syn_retries".into(),
            TcpState::FinWait2 => "the kernel ends them after tcp_fin_timeout".into(),
            _ => "the kernel gives up after tcp_orphan_retries or tcp_retries2".into(),
        },
    };
    if group.process_exited {
        format!("{why}; then the process exited, which closed them")
    } else {
        why
    }
}

/// How many were closed during the watch, and after what time.
fn closings_text(group: &Group) -> String {
    let watched = duration(group.watched_ns.unwrap_or(0));
    let closings = &group.closings;
    let mut text = match closings.late_ns {
        None => format!("none of them was closed in the {watched} watched"),
        Some([shortest, longest]) => {
            let were = if closings.late == 1 { "was" } else { "were" };
            let range = match [shortest, longest].map(duration) {
                [shortest, longest] if shortest == longest => longest,
                [shortest, longest] => format!("{shortest} to {longest}"),
            };
            let last = duration(group.last_late_ns.unwrap_or(0));
            let older = if group.sockets > 0 && group.oldest.ns > longest {
                "; the oldest is older than that"
            } else {
                ""
            };
            format!(
                "{} {were} closed in the watch, after {range}, the last {last} ago{older}",
                thousands(closings.late)
            )
        }
    };
    if closings.prompt > 0 {
        let others = several(closings.prompt, "other was", "others were");
        let longest = duration(closings.longest_prompt_ns);
        let _ = write!(text, "; {others} closed after {longest} at most");
    }
    if closings.unknown > 0 {
        let others = several(closings.unknown, "other", "others");
        let _ = write!(
            text,
            "; how {others} left the state is unknown, and the window began anew"
        );
    }
    text
}

/// What to do about it, the best first; nothing where there is nothing to do.
#[must_use]
pub fn advice(group: &Group) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(from) = group.inherited_from() {
        steps.push(format!(
            "{} inherited them from {from}: unless it is to serve them, open them with SOCK_CLOEXEC in {from}",
            who(group)
        ));
    }
    steps.append(&mut verdict_advice(group));
    steps
}

fn verdict_advice(group: &Group) -> Vec<String> {
    let app = app(group);
    let most = |sockets: u64| sockets.saturating_mul(2) > group.sockets;
    match (group.verdict, group.key.state) {
        (Verdict::Leak | Verdict::Unread, _) if most(group.unaccepted) => {
            vec![format!(
                "make {app} call accept() for the connections to {}",
                place(group)
            )]
        }
        (Verdict::Unread, _) => vec![format!(
            "make {app} read until recv() returns 0, and close the descriptor then"
        )],
        (Verdict::Leak, _) if most(group.unsent) => {
            vec![format!(
                "limit how long {app} waits for a peer that takes no data (a write timeout, or TCP_USER_TIMEOUT)"
            )]
        }
        (Verdict::Leak, TcpState::CloseWait) => {
            let culprit = group.opened_by.as_deref().and_then(|all| culprit(all, group.sockets));
            let opened = culprit.map_or_else(
                || "a connection".into(),
                |name| format!("a connection that {} opened", Escaped(name.as_bytes())),
            );
            let mut steps = vec![format!(
                "find the path in {app} that finishes with {opened} and does not close it (an error path, a thread that returns), and close the \
                 descriptor there"
            )];
            if group.holders.len() > 1 {
                steps.push("several processes hold them: each must close its copy".into());
            }
            steps.push("a restart frees them; a sysctl does not".into());
            steps
        }
        (Verdict::Leak, TcpState::Established) => vec![format!(
            "make {app} close connections that it does not use: an idle timeout, or a limit of its pool"
        )],
        (Verdict::Leak, _) => vec![
            format!("make {app} close the descriptor after shutdown(), or limit how long it waits for the peer"),
            "tcp_fin_timeout has no effect while the descriptor is open".into(),
        ],
        (Verdict::Slow, TcpState::CloseWait) => vec![format!(
            "make {app} close as soon as recv() returns 0, if it has nothing left to send"
        )],
        (Verdict::Kernel, TcpState::SynSent) => vec![no_answer(group)],
        (Verdict::Undecided, _) if group.watched_ns.is_none() => {
            let more_s = group.more_ns.unwrap_or(0).div_ceil(1_000_000_000);
            vec![format!("add -d {more_s}s")]
        }
        _ => Vec::new(),
    }
}

/// Where to look for the reason that a SYN is not answered. A full accept queue drops it (`tcp_conn_request`, `net/ipv4/tcp_input.c`).
fn no_answer(group: &Group) -> String {
    let place = place(group);
    let place = place.trim_start_matches("to ");
    let Some(queue) = group.awaited else {
        return format!("find why {place} does not answer: a wrong address, a firewall, or a full accept queue there");
    };
    let listener = queue
        .owner
        .map_or_else(|| "the process".into(), |owner| owner.to_string());
    let [queued, limit] = [queue.queued, queue.limit].map(thousands);
    if queue.is_full() {
        format!(
            "make {listener} accept, which listens at {place} on this host: its accept queue is full ({queued} of {limit})"
        )
    } else {
        format!(
            "find why {place} does not answer: {listener} listens there, on this host; its accept queue has room now ({queued} of \
             {limit}) and may have been full, or a firewall drops the SYN"
        )
    }
}

/// What to read about it.
#[must_use]
pub fn topic(group: &Group) -> Topic {
    match group.awaited {
        Some(queue) if queue.is_full() => Topic::Finding(FindingKind::AcceptQueueOverflow),
        _ => Topic::State(group.key.state),
    }
}

/// What is wrong, in a sentence.
fn title(group: &Group) -> String {
    let (who, mut place, state, oldest) = (who(group), place(group), group.key.state.name(), oldest(group));
    if matches!(group.key.side, Side::Passive(_)) {
        place.insert_str(0, "at ");
    }
    let sockets = several(group.sockets, "socket", "sockets");
    match group.verdict {
        Verdict::Unread => {
            format!("{who} does not read what waits in {sockets} in {state} {place}, the oldest for {oldest}")
        }
        Verdict::Slow if group.sockets == 0 => {
            format!("{who} closed sockets in {state} {place} late, and none is left")
        }
        Verdict::Slow => {
            format!("{who} closes sockets in {state} {place} late, and {sockets} wait, the oldest for {oldest}")
        }
        _ => format!("{who} does not close {sockets} in {state} {place}, the oldest for {oldest}"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
