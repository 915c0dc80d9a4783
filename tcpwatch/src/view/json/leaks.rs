//! `leaks` for programs: `tcpwatch.leak/1`, one object a group of stuck sockets, after them the findings, and `tcpwatch.leak.look/1`.

use std::io::{self, Write};
use std::num::NonZeroU32;

use serde::Serialize;

use super::line;
use crate::detect::finding::Finding;
use crate::detect::leak::{judge, seconds};
use crate::input::owner::{Owner, Process};
use crate::input::socket::Address;
use crate::input::stacks::Why;
use crate::model::frame::Frame;
use crate::model::leaks::{Group, OpenedBy, Shared};
use crate::view::View;
use crate::view::time::Stamp;

/// The objects of a look.
#[derive(Debug)]
pub struct Json {
    stamp: Stamp,
}

impl Json {
    /// Times are UTC.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
        }
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::new()
    }
}

/// A group: `sockets` are stuck, `ended` of them are those that the kernel ended and whose descriptors are open. Addresses and ports are null where its sockets have different ones; `fds` are the owner's, a part of them where
/// `fds_left_out` is not 0, `holders` all who hold them.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    time: &'a str,
    verdict: &'static str,
    state: &'static str,
    owner: Option<Owner>,
    netns: Option<NonZeroU32>,
    local: Option<String>,
    lport: Option<u16>,
    remote: Option<String>,
    rport: Option<u16>,
    sockets: u64,
    ended: u64,
    in_state: u64,
    oldest_s: Option<f64>,
    oldest_is_lower_bound: bool,
    youngest_s: Option<f64>,
    growth_per_min: Option<f64>,
    unread_bytes: Option<u64>,
    unsent_bytes: Option<u64>,
    eof_read: u64,
    eof_unread: u64,
    unread: u64,
    unaccepted: u64,
    accept_queue: Option<AcceptQueue>,
    window_s: Option<f64>,
    process_gone: bool,
    closed: Closed,
    fds: &'a [u32],
    fds_left_out: u64,
    holders: Vec<HolderLine<'a>>,
    /// Those of the sockets' that were seen; null where nobody watches that.
    stacks: Option<Vec<StackLine<'a>>>,
}

/// The accept queue that those in `SYN_SENT` wait for: more than `limit` are too many. Null where it is of another host.
#[derive(Serialize)]
struct AcceptQueue {
    queued: u32,
    limit: u32,
    owner: Option<Owner>,
}

/// Those that left the state in the window: stuck ones, others, those of which that is not known, and those that the kernel ended.
#[derive(Serialize)]
struct Closed {
    late: u64,
    late_min_s: Option<f64>,
    late_max_s: Option<f64>,
    prompt: u64,
    unknown: u64,
    ended: u64,
}

/// The stack at which so many of the sockets were opened, from who called `accept()` or `connect()` on; `unfinished` says why it may
/// have begun elsewhere. Where `caller_known` is false the first frames may be the C library's, which called nobody.
#[derive(Serialize)]
struct StackLine<'a> {
    sockets: u64,
    unfinished: Option<&'static str>,
    caller_known: bool,
    frames: Vec<FrameLine<'a>>,
}

/// A frame; `address` is what addr2line(1) takes for its module, null of what is inlined into the frame after it.
#[derive(Serialize)]
struct FrameLine<'a> {
    function: Option<&'a str>,
    module: Option<&'a str>,
    address: Option<String>,
    file: Option<&'a str>,
    line: Option<u32>,
}

impl<'a> StackLine<'a> {
    fn of(opened: &'a OpenedBy) -> Self {
        let frames = opened.stack.frames.iter().map(|frame| FrameLine {
            function: frame.function.as_deref(),
            module: frame.module.as_deref(),
            address: frame.address.map(|address| format!("0x{address:x}")),
            file: frame.file.as_deref(),
            line: frame.line,
        });
        Self {
            sockets: opened.sockets,
            unfinished: opened.stack.finished.err().map(Why::key),
            caller_known: opened.stack.caller_known,
            frames: frames.collect(),
        }
    }
}

#[derive(Serialize)]
struct HolderLine<'a> {
    #[serde(flatten)]
    process: Process,
    fds: &'a [u32],
}

/// What a look found in all.
#[derive(Serialize)]
struct LookLine<'a> {
    schema: &'static str,
    time: &'a str,
    window_s: Option<f64>,
    older_s: f64,
    in_state: u64,
    sockets: u64,
    ended: u64,
    groups: usize,
    unseen: Unseen,
    lost: u64,
    missed: u64,
    evicted: u64,
}

#[derive(Serialize)]
struct Unseen {
    sockets: u64,
    processes: usize,
    hidden: bool,
    descriptors: u64,
}

fn address(shared: Shared<Address>) -> Option<String> {
    shared.get().map(|address| address.to_string())
}

fn line<'a>(group: &'a Group, time: &'a str, older_ns: u64) -> Line<'a> {
    let closings = &group.closings;
    let kept: usize = group.holders.iter().map(|holder| holder.fds.len()).sum();
    Line {
        schema: "tcpwatch.leak/1",
        time,
        verdict: judge(group, older_ns).key(),
        state: group.key.state.key(),
        owner: group.owner,
        netns: NonZeroU32::new(group.key.netns),
        local: address(group.local),
        lport: group.lport.get(),
        remote: address(group.remote),
        rport: group.rport.get(),
        sockets: group.sockets,
        ended: group.ended,
        in_state: group.in_state,
        oldest_s: (group.sockets > 0).then(|| seconds(group.oldest.ns)),
        oldest_is_lower_bound: group.oldest.at_least,
        youngest_s: (group.sockets > 0).then(|| seconds(group.youngest_ns)),
        growth_per_min: group.growth_per_min,
        unread_bytes: group.unread_bytes,
        unsent_bytes: group.unsent_bytes,
        eof_read: group.eof_read,
        eof_unread: group.eof_unread,
        unread: group.unread,
        unaccepted: group.unaccepted,
        accept_queue: group.awaited.map(|queue| AcceptQueue {
            queued: queue.queued,
            limit: queue.limit,
            owner: queue.owner,
        }),
        window_s: group.window_ns.map(seconds),
        process_gone: group.process_gone,
        closed: Closed {
            late: closings.late,
            late_min_s: closings.late_ns.map(|[shortest, _]| seconds(shortest)),
            late_max_s: closings.late_ns.map(|[_, longest]| seconds(longest)),
            prompt: closings.prompt,
            unknown: closings.unknown,
            ended: closings.ended,
        },
        fds: group.fds_of_owner(),
        fds_left_out: group.fds.saturating_sub(kept as u64),
        holders: group
            .holders
            .iter()
            .map(|holder| HolderLine {
                process: holder.process,
                fds: &holder.fds,
            })
            .collect(),
        stacks: group
            .opened_by
            .as_ref()
            .map(|stacks| stacks.iter().map(StackLine::of).collect()),
    }
}

impl View for Json {
    fn frame(&mut self, frame: &Frame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.leaks else {
            return Ok(());
        };
        let time = self.stamp.text(frame.unix_ns);
        for group in &frame.groups {
            line::write(out, &line(group, time, frame.older_ns))?;
        }
        for finding in findings {
            super::finding::write(finding, frame.time(), out)?;
        }
        let unseen = &frame.unseen;
        let [sockets, ended] = frame.stuck();
        let look = LookLine {
            schema: "tcpwatch.leak.look/1",
            time,
            window_s: frame.window_ns.map(seconds),
            older_s: seconds(frame.older_ns),
            in_state: frame.in_state(),
            sockets,
            ended,
            groups: frame.groups.len(),
            unseen: Unseen {
                sockets: unseen.sockets,
                processes: unseen.processes,
                hidden: unseen.hidden,
                descriptors: unseen.descriptors,
            },
            lost: frame.lost,
            missed: frame.missed,
            evicted: frame.evicted,
        };
        line::write(out, &look)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::detect::leak::tests::{close_wait, scene};
    use crate::input::socket_scan::Seen;
    use crate::input::stacks::{Stack, StackFrame};

    /// Each by a descriptor of its own.
    fn numbered(number: u16) -> Seen {
        let mut seen = close_wait(number);
        seen.holders[0].fds = vec![u32::from(number) + 6];
        seen
    }

    fn lines(frame: &crate::model::leaks::LeaksFrame) -> Vec<Value> {
        let mut out = Vec::new();
        Json::new()
            .frame(&crate::model::frame::Frame::from(frame), &[], &mut out)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_group_is_an_object_and_a_look_another() {
        let lines = lines(&scene(
            Some(60),
            &[
                300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 30, 30,
            ],
            &[0.04, 0.05],
            numbered,
        ));
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            json!({
                "schema": "tcpwatch.leak/1", "time": "1970-01-01T02:47:40.000000000Z", "verdict": "leak", "state": "close_wait",
                "owner": { "pid": 12, "comm": "app", "how": "scan" }, "netns": 7,
                "local": "10.0.0.1", "lport": 8080, "remote": "10.0.0.2", "rport": null,
                "sockets": 16, "ended": 0, "in_state": 16, "oldest_s": 300.0, "oldest_is_lower_bound": false, "youngest_s": 30.0,
                "growth_per_min": 2.0, "unread_bytes": 0, "unsent_bytes": 0,
                "eof_read": 16, "eof_unread": 0, "unread": 0, "unaccepted": 0, "accept_queue": null, "window_s": 60.0, "process_gone": false,
                "closed": { "late": 0, "late_min_s": null, "late_max_s": null, "prompt": 2, "unknown": 0, "ended": 0 },
                "fds": (7..=22).collect::<Vec<u32>>(), "fds_left_out": 0, "holders": [{ "pid": 12, "comm": "app", "fds": (7..=22).collect::<Vec<u32>>() }], "stacks": null,
            })
        );
        assert_eq!(
            lines[1],
            json!({
                "schema": "tcpwatch.leak.look/1", "time": "1970-01-01T02:47:40.000000000Z", "window_s": 60.0, "older_s": 30.0,
                "in_state": 16, "sockets": 16, "ended": 0, "groups": 1,
                "unseen": { "sockets": 0, "processes": 0, "hidden": false, "descriptors": 0 }, "lost": 0, "missed": 0, "evicted": 0,
            })
        );
    }

    #[test]
    fn stacks_come_from_the_caller_on_and_say_if_they_are_unfinished() {
        let mut frame = scene(Some(60), &[300, 300], &[], numbered);
        let called = StackFrame {
            function: Some("serve".into()),
            module: Some("app".into()),
            address: Some(0x1139),
            file: Some("src/serve.rs".into()),
            line: Some(7),
        };
        frame.groups[0].opened_by = Some(vec![OpenedBy {
            sockets: 2,
            stack: Stack {
                frames: vec![called, StackFrame::default()],
                caller_known: true,
                finished: Err(Why::CopyEnded),
            },
        }]);
        let nothing = json!({ "function": null, "module": null, "address": null, "file": null, "line": null });
        assert_eq!(
            lines(&frame)[0]["stacks"],
            json!([{
                "sockets": 2, "unfinished": "copy_ended", "caller_known": true,
                "frames": [{ "function": "serve", "module": "app", "address": "0x1139", "file": "src/serve.rs", "line": 7 }, nothing],
            }])
        );
    }

    #[test]
    fn what_nobody_watched_is_null() {
        let lines = lines(&scene(None, &[100], &[], close_wait));
        assert_eq!(
            (&lines[0]["window_s"], &lines[0]["growth_per_min"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(
            (&lines[0]["verdict"], &lines[1]["window_s"]),
            (&"undecided".into(), &Value::Null)
        );
    }

    #[test]
    fn the_healthy_have_no_object() {
        let lines = lines(&scene(Some(60), &[1, 2], &[0.1], close_wait));
        assert_eq!(
            (lines.len(), &lines[0]["in_state"], &lines[0]["sockets"]),
            (1, &2.into(), &0.into())
        );
    }
}
