//! What there is to say of a group of stuck sockets: whose and where they are, in which state of things, why the verdict, and what to do.

use tcpwatch_common::TcpState;

use super::{Doubt, Verdict, apart_ns};
use crate::explain::kind::Kind;
use crate::explain::topic::Topic;
use crate::input::escaped::Escaped;
use crate::model::leaks::{Group, Side, culprit};
use crate::model::number::{duration, thousands};

/// Whose they are, for a sentence: `app[2204]`, `app[2204] and 11 others`. Escaped.
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

/// Where they are: `:8080`, or the remote end of those that this host opened.
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

/// In which state of things they are, by what waits in them.
#[must_use]
pub fn truth(group: &Group) -> String {
    let app = group
        .owner
        .map_or_else(|| "the application".into(), |owner| owner.comm.to_string());
    let there = group.sockets.saturating_sub(group.ended);
    let all = |sockets: u64| sockets == there;
    let ended = match group.ended {
        0 => String::new(),
        ended => format!(
            "; {} of them ended since, by no doing of {app}, and the descriptors stay open",
            thousands(ended)
        ),
    };
    let truth = match group.key.state {
        TcpState::CloseWait if there == 0 => format!("the peer closed; {app} has not closed the descriptor"),
        TcpState::CloseWait if all(group.unaccepted) => format!("the peer closed before {app} accepted them"),
        TcpState::CloseWait => {
            let mut known = Vec::new();
            for (sockets, what) in [
                (group.eof_read, "has read EOF and not closed the descriptor"),
                (group.eof_unread, "has neither read EOF nor closed the descriptor"),
                (group.unread, "has not read what came before EOF"),
            ] {
                if all(sockets) {
                    known.push(what.to_owned());
                } else if sockets > 0 {
                    known.push(format!("{what} ({})", thousands(sockets)));
                }
            }
            let known = if known.is_empty() {
                "has not closed the descriptor".into()
            } else {
                known.join(", ")
            };
            format!("the peer closed; {app} {known}")
        }
        TcpState::FinWait2 if group.key.orphans => "closed here, and the peer has not closed".into(),
        TcpState::FinWait2 if there == 0 => format!("{app} has shut down its side and not closed the descriptor"),
        TcpState::FinWait2 => {
            format!("{app} has shut down its side and not closed the descriptor; the peer has not closed")
        }
        TcpState::SynSent => "the peer answers nothing".into(),
        _ => "both sides closed, and the peer does not acknowledge it".into(),
    };
    truth + &ended
}

/// The evidence for `verdict`, in words and numbers, over the window.
#[must_use]
pub fn why(group: &Group, verdict: Verdict) -> String {
    let why = while_there(group, verdict);
    if group.process_gone {
        format!("{why}; then the process ended, which freed them")
    } else {
        why
    }
}

/// The same, up to the end of the process.
fn while_there(group: &Group, verdict: Verdict) -> String {
    let window = duration(group.window_ns.unwrap_or(0));
    let closings = &group.closings;
    let late = closings.late_ns.map(|ns| ns.map(duration));
    let prompt = match closings.prompt {
        0 => String::new(),
        1 => format!(
            "; another left it meanwhile, after {}",
            duration(closings.longest_prompt_ns)
        ),
        prompt => format!(
            "; {} others left it meanwhile, after {} at most",
            thousands(prompt),
            duration(closings.longest_prompt_ns)
        ),
    };
    match verdict {
        Verdict::Leak => match late {
            None => format!("none of them was closed in the {window} watched{prompt}"),
            Some([_, longest]) => format!(
                "{} are older than three times {longest}, the longest that any of the {} took that were closed in the {window} watched",
                thousands(group.beyond),
                thousands(closings.late)
            ),
        },
        Verdict::Slow | Verdict::Burst => {
            let after = match late {
                Some([shortest, longest]) if shortest == longest => format!(", after {longest}"),
                Some([shortest, longest]) => format!(", after {shortest} to {longest}"),
                None => String::new(),
            };
            let most = match verdict {
                Verdict::Burst => format!("; there were {}", thousands(group.peak)),
                _ => String::new(),
            };
            let were = if closings.late == 1 { "was" } else { "were" };
            format!(
                "{} {were} closed in the {window} watched{after}{most}{prompt}",
                thousands(closings.late)
            )
        }
        Verdict::StuckReader => {
            let (bytes, wait) = match group.unread_bytes {
                Some(1) => ("1 byte".into(), "waits"),
                bytes => (format!("{} bytes", bytes.map_or_else(|| "?".into(), thousands)), "wait"),
            };
            format!("{bytes} {wait} to be read in {} of them", thousands(group.unread))
        }
        Verdict::Undecided(doubt) => match doubt {
            Doubt::OneLook => "one look cannot tell whether they are ever closed".into(),
            Doubt::Window(more) if group.window_ns == Some(0) => {
                format!("whether they are ever closed is known in {}", duration(more))
            }
            Doubt::Window(more) => format!(
                "none of them was closed in the {window} watched{prompt}; {} more decide",
                duration(more)
            ),
            Doubt::Young(more) => format!(
                "none of them was closed in the {window} watched, but that may come{prompt}; {} more decide",
                duration(more)
            ),
            Doubt::Together(more) if group.window_ns == Some(0) => {
                format!(
                    "whether they are ever closed is known in {} at the latest",
                    duration(more)
                )
            }
            Doubt::Together(more) => format!(
                "none of them was closed in the {window} watched, but {}, as a pool of idle connections has them{prompt}; {} more decide at \
                 the latest",
                if group.sockets == 1 {
                    "it may be kept".into()
                } else {
                    format!("as far as is known they came within {}", duration(apart_ns(group)))
                },
                duration(more)
            ),
            Doubt::Unknown(unknown) => format!(
                "{} left it in the {window} watched, and whether by a close, and after what time, nobody knows: this kernel, or /proc here, \
                 does not tell",
                thousands(unknown)
            ),
            Doubt::KernelEnds => match group.key.state {
                TcpState::SynSent => "the kernel gives up by itself after tcp_syn_retries",
                TcpState::FinWait2 => "the kernel ends them by itself after tcp_fin_timeout",
                _ => "the kernel gives up by itself after tcp_orphan_retries or tcp_retries2",
            }
            .into(),
            Doubt::Sends => format!(
                "{} bytes were written and not acknowledged in {} of them: the peer may still take them",
                group.unsent_bytes.map_or_else(|| "?".into(), thousands),
                thousands(group.unsent)
            ),
        },
    }
}

/// What to do about it, the best first; nothing where there is nothing to do.
#[must_use]
pub fn advice(group: &Group, verdict: Verdict) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(from) = group.inherited_from() {
        steps.push(format!(
            "{} has them from {from}, which ran it: unless it is to serve them, let {from} open them with SOCK_CLOEXEC",
            who(group)
        ));
    }
    steps.append(&mut by_state(group, verdict));
    steps
}

/// What to do about it for whoever has them.
fn by_state(group: &Group, verdict: Verdict) -> Vec<String> {
    let state = group.key.state;
    let app = group
        .owner
        .map_or_else(|| "the application".into(), |owner| owner.comm.to_string());
    match (verdict, state) {
        (Verdict::Leak | Verdict::Undecided(_), TcpState::CloseWait)
            if group.unaccepted > 0 && group.unaccepted == group.sockets =>
        {
            vec![format!("let {app} accept what comes to {}", place(group))]
        }
        (Verdict::Leak, TcpState::CloseWait) => {
            let culprit = group.opened_by.as_deref().and_then(|all| culprit(all, group.sockets));
            let whose = culprit.map_or_else(
                || "a connection".into(),
                |name| format!("what {} opened", Escaped(name.as_bytes())),
            );
            let mut steps = vec![format!(
                "find where {app} ends with {whose} and does not close it (an error path, a thread that returns), and close the descriptor there"
            )];
            if group.holders.len() > 1 {
                steps.push("several processes hold them: each must close its copy".into());
            }
            steps.push("a restart frees them; a sysctl does not".into());
            steps
        }
        (Verdict::Leak, _) => vec![
            format!("let {app} close the descriptor after shutdown(), or bound the time it waits for the peer"),
            "tcp_fin_timeout does nothing as long as the descriptor is open".into(),
        ],
        (Verdict::StuckReader, _) => vec![format!(
            "let {app} read until recv() returns 0, and close the descriptor then"
        )],
        (Verdict::Slow, TcpState::CloseWait) => vec![format!(
            "let {app} close as soon as recv() returns 0, if nothing is left to send"
        )],
        (Verdict::Slow | Verdict::Undecided(Doubt::KernelEnds), TcpState::SynSent) => vec![no_answer(group)],
        (Verdict::Undecided(Doubt::OneLook), _) => {
            vec!["tcpwatch leaks --watch 10s tells, within about a minute".into()]
        }
        _ => Vec::new(),
    }
}

/// Where to look why a SYN is not answered. Where the accept queue is full, it is dropped (`tcp_conn_request`, `net/ipv4/tcp_input.c`).
fn no_answer(group: &Group) -> String {
    let place = place(group);
    let place = place.trim_start_matches("to ");
    let Some(queue) = group.awaited else {
        return format!(
            "look why {place} does not answer: an address that is wrong, a firewall, or an accept queue there that is full"
        );
    };
    let who = queue
        .owner
        .map_or_else(|| "who".into(), |owner| format!("{owner}, which"));
    let [queued, limit] = [queue.queued, queue.limit].map(|connections| thousands(connections.into()));
    if queue.is_full() {
        format!("let {who} listens at {place}, on this host, accept: its accept queue is full ({queued} of {limit})")
    } else {
        let who = queue.owner.map_or_else(|| "somebody".into(), |owner| owner.to_string());
        format!(
            "look why {place} does not answer: {who} listens there, on this host; its accept queue has room now ({queued} of {limit}) \
             and may have been full, or a firewall drops"
        )
    }
}

/// What to read about it.
#[must_use]
pub fn topic(group: &Group) -> Topic {
    match group.awaited {
        Some(queue) if queue.is_full() => Topic::Finding(Kind::AcceptQueueOverflow),
        _ => Topic::State(group.key.state),
    }
}

/// What is wrong, in a sentence.
pub(super) fn title(group: &Group, verdict: Verdict) -> String {
    let (who, mut place, state) = (who(group), place(group), group.key.state.name());
    if matches!(group.key.side, Side::Passive(_)) {
        place.insert_str(0, "at ");
    }
    let sockets = thousands(group.sockets);
    let oldest = oldest(group);
    match verdict {
        Verdict::Leak => format!("{who} never closes {sockets} sockets in {state} {place}, the oldest for {oldest}"),
        Verdict::StuckReader => {
            format!("{who} does not read what waits in {sockets} sockets in {state} {place}, the oldest for {oldest}")
        }
        Verdict::Slow | Verdict::Burst if group.sockets == 0 => {
            format!("{who} closed sockets in {state} {place} late, and none is left")
        }
        Verdict::Slow => format!("{who} closes sockets in {state} {place} late, {sockets} wait for {oldest} at most"),
        Verdict::Burst => format!("{who} closes a burst of sockets in {state} {place}, {sockets} are left"),
        Verdict::Undecided(_) => format!("{sockets} sockets of {who} stay in {state} {place}, the oldest for {oldest}"),
    }
}
