//! `leaks` for programs: `tcpwatch.leak/1`, one object a group of sockets, after them the findings, and `tcpwatch.leak.scan/1`.

use std::io::{self, Write};

use serde::Serialize;

use super::line;
use crate::detect::finding::Finding;
use crate::input::owner::Owner;
use crate::input::socket_owner::{Holder, Unseen};
use crate::input::socket_scan::AcceptQueue;
use crate::input::stacks::{Unnamed, Why};
use crate::model::frame::Frame;
use crate::model::leaks::{Group, OpenedBy};
use crate::model::seconds;
use crate::view::View;
use crate::view::leaks::GroupFields;
use crate::view::timestamp::rfc3339;

/// The objects of a scan.
#[derive(Debug)]
pub struct Json;

/// A group; `fds` are the owner's, a part of them where `fds_left_out` is not 0, `holders` all processes that hold them.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    time: &'a str,
    owner: Option<Owner>,
    #[serde(flatten)]
    fields: GroupFields,
    /// The accept queue that those in `SYN_SENT` wait for: more than `limit` are too many. Null where it is of another host.
    accept_queue: Option<AcceptQueue>,
    fds: &'a [u32],
    fds_left_out: u64,
    holders: &'a [Holder],
    /// The stacks that were found; null where nobody watches them.
    stacks: Option<Vec<StackLine<'a>>>,
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
    /// Why the function is unknown, if it is not just that there is no symbol.
    unnamed: Option<&'static str>,
}

impl<'a> StackLine<'a> {
    fn from_opened_by(opened: &'a OpenedBy) -> Self {
        let frames = opened.stack.frames.iter().map(|frame| FrameLine {
            function: frame.function.as_deref(),
            module: frame.module.as_deref(),
            address: frame.address.map(|address| format!("0x{address:x}")),
            file: frame.file.as_deref(),
            line: frame.line,
            unnamed: frame.unnamed.map(Unnamed::key),
        });
        Self {
            sockets: opened.sockets,
            unfinished: opened.stack.finished.err().map(Why::key),
            caller_known: opened.stack.caller_known,
            frames: frames.collect(),
        }
    }
}

/// What a scan found in all.
#[derive(Serialize)]
struct ScanLine<'a> {
    schema: &'static str,
    time: &'a str,
    watched_s: Option<f64>,
    older_s: f64,
    in_state: u64,
    sockets: u64,
    ended: u64,
    groups: usize,
    unseen: Option<Unseen>,
    lost: u64,
    missed: Option<u64>,
    evicted: u64,
}

fn line<'a>(group: &'a Group, time: &'a str) -> Line<'a> {
    Line {
        schema: "tcpwatch.leak/1",
        time,
        owner: group.owner,
        fields: group.into(),
        accept_queue: group.awaited,
        fds: group.fds_of_owner(),
        fds_left_out: group.fds_left_out(),
        holders: &group.holders,
        stacks: group
            .opened_by
            .as_ref()
            .map(|stacks| stacks.iter().map(StackLine::from_opened_by).collect()),
    }
}

impl View for Json {
    fn frame(&mut self, frame: &Frame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.leaks else {
            return Ok(());
        };
        let time = &rfc3339(frame.time());
        for group in &frame.groups {
            line::write(out, &line(group, time))?;
        }
        for finding in findings {
            super::finding::write(finding, frame.time(), out)?;
        }
        let [sockets, ended] = frame.stuck();
        let scan = ScanLine {
            schema: "tcpwatch.leak.scan/1",
            time,
            watched_s: frame.window_ns.map(seconds),
            older_s: seconds(frame.older_ns),
            in_state: frame.in_state(),
            sockets,
            ended,
            groups: frame.groups.len(),
            unseen: frame.unseen,
            lost: frame.lost,
            missed: frame.missed,
            evicted: frame.evicted,
        };
        line::write(out, &scan)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::detect::leak::tests::{close_wait, scene};
    use crate::input::socket_scan::ScannedSocket;
    use crate::input::stacks::{Stack, StackFrame};

    /// Each by a descriptor of its own.
    fn numbered(number: u16) -> ScannedSocket {
        let mut found = close_wait(number);
        found.holders[0].fds = vec![u32::from(number) + 6];
        found
    }

    fn lines(frame: &crate::model::leaks::LeaksFrame) -> Vec<Value> {
        let mut out = Vec::new();
        Json.frame(&crate::model::frame::Frame::from(frame), &[], &mut out)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_group_is_an_object_and_a_scan_another() {
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
            serde_json::from_str::<Value>(r#"{
                "schema": "tcpwatch.leak/1", "time": "1970-01-01T02:47:40.000000000Z", "verdict": "leak", "more_s": null,
                "state": "close_wait", "owner": { "pid": 12, "comm": "app", "how": "scan" }, "netns": 7,
                "local": "10.0.0.1", "lport": 8080, "remote": "10.0.0.2", "rport": null,
                "sockets": 16, "ended": 0, "in_state": 16, "oldest_s": 300.0, "oldest_is_lower_bound": false, "youngest_s": 30.0,
                "growth_per_min": 2.0, "unread_bytes": 0, "unsent_bytes": 0,
                "eof_read": 16, "eof_unread": 0, "unread": 0, "unaccepted": 0, "accept_queue": null, "watched_s": 60.0,
                "process_exited": false,
                "closed_late": 0, "closed_late_min_s": null, "closed_late_max_s": null, "closed_late_last_s": null,
                "closed_prompt": 2, "closed_unknown": 0, "closed_by_kernel": 0,
                "fds": [7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22], "fds_left_out": 0, "holders": [{ "pid": 12, "comm": "app", "fds": [7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22] }], "stacks": null
            }"#).unwrap()
        );
        assert_eq!(
            lines[1],
            json!({
                "schema": "tcpwatch.leak.scan/1", "time": "1970-01-01T02:47:40.000000000Z", "watched_s": 60.0, "older_s": 30.0,
                "in_state": 16, "sockets": 16, "ended": 0, "groups": 1,
                "unseen": { "sockets": 0, "processes": 0, "hidden": false, "descriptors": 0 }, "lost": 0, "missed": null, "evicted": 0,
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
            unnamed: Some(Unnamed::TooSlow),
        };
        frame.groups[0].opened_by = Some(vec![OpenedBy {
            sockets: 2,
            stack: Stack {
                frames: vec![called, StackFrame::default()],
                caller_known: true,
                finished: Err(Why::CopyEnded),
            },
        }]);
        let nothing =
            json!({ "function": null, "module": null, "address": null, "file": null, "line": null, "unnamed": null });
        assert_eq!(
            lines(&frame)[0]["stacks"],
            json!([{
                "sockets": 2, "unfinished": "copy_ended", "caller_known": true,
                "frames": [{ "function": "serve", "module": "app", "address": "0x1139", "file": "src/serve.rs", "line": 7, "unnamed": "symbols_too_slow" }, nothing],
            }])
        );
    }

    #[test]
    fn what_nobody_watched_is_null() {
        let lines = lines(&scene(None, &[100], &[], close_wait));
        assert_eq!(
            (&lines[0]["watched_s"], &lines[0]["growth_per_min"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(
            (&lines[0]["verdict"], &lines[0]["more_s"], &lines[1]["watched_s"]),
            (&"undecided".into(), &60.0.into(), &Value::Null)
        );
    }

    #[test]
    fn the_young_have_their_ages() {
        let lines = lines(&scene(Some(60), &[1, 2], &[0.1], close_wait));
        assert_eq!(
            (&lines[0]["verdict"], &lines[0]["sockets"], &lines[0]["oldest_s"]),
            (&"young".into(), &0.into(), &2.0.into())
        );
        assert_eq!((&lines[1]["in_state"], &lines[1]["sockets"]), (&2.into(), &0.into()));
    }
}
