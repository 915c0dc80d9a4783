//! `trace` for spreadsheets: one header line, then one line a transition.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::event::{Event, Opened};
use crate::model::ending::Ending;
use crate::model::owner::Owner;
use crate::model::trace::{Row, TraceTotals};
use crate::view::time::Stamp;
use crate::view::trace::TraceView;

/// The columns, those of the JSON object.
const HEADER: &str =
    "time,id,cookie,family,local,lport,remote,rport,opened,from,to,dwell_ns,netns,pid,comm,how,cgroup,ended";

/// One line a transition. Unknown is an empty field. Only names and paths can hold a comma or a quote, and are quoted where they
/// do.
#[derive(Debug)]
pub struct Csv {
    stamp: Stamp,
    line: String,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
            line: String::new(),
        }
    }
}

impl TraceView<Event> for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{HEADER}")
    }

    fn row(&mut self, row: &Row<Event>, out: &mut dyn Write) -> io::Result<()> {
        let event = &row.what;
        let line = &mut self.line;
        line.clear();
        opening(line, &mut self.stamp, event);
        // Writing to a string cannot fail, here and below.
        let _ = write!(line, ",{},{},", event.from.key(), event.to.key());
        if let Some(dwell) = event.dwell_ns {
            let _ = write!(line, "{dwell}");
        }
        line.push(',');
        if let Some(netns) = event.netns {
            let _ = write!(line, "{netns}");
        }
        owner(line, event.owner.as_ref());
        line.push(',');
        quoted(line, row.cgroup.as_deref().unwrap_or_default());
        let _ = writeln!(line, ",{}", row.ended.map_or("", Ending::key));
        out.write_all(line.as_bytes())
    }

    fn end(&mut self, _totals: &TraceTotals, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the columns from `time` to `opened`.
pub(super) fn opening(line: &mut String, stamp: &mut Stamp, event: &Event) {
    line.push_str(stamp.text(event.unix_ns));
    let _ = write!(line, ",");
    if let Some(id) = event.id {
        let _ = write!(line, "{id:x}");
    }
    line.push(',');
    if let Some(cookie) = event.cookie {
        let _ = write!(line, "{cookie:x}");
    }
    let _ = write!(line, ",{},{},", event.family.key(), event.local);
    if let Some(port) = event.lport {
        let _ = write!(line, "{port}");
    }
    let _ = write!(line, ",{},", event.remote);
    if let Some(port) = event.rport {
        let _ = write!(line, "{port}");
    }
    let _ = write!(line, ",{}", event.opened.map_or("", Opened::key));
}

/// Writes `,pid,comm,how`, empty for what is not known.
pub(super) fn owner(line: &mut String, owner: Option<&Owner>) {
    process(line, owner);
    let _ = write!(line, ",{}", owner.map_or("", |owner| owner.how.key()));
}

/// Writes `,pid,comm`, empty for what is not known.
pub(super) fn process(line: &mut String, process: Option<&Owner>) {
    let Some(process) = process else {
        line.push_str(",,");
        return;
    };
    line.push(',');
    if let Some(pid) = process.pid {
        let _ = write!(line, "{pid}");
    }
    line.push(',');
    quoted(line, &process.comm.to_string());
}

/// Writes `text`, quoted where it must be (RFC 4180). What a terminal would obey is escaped.
pub(super) fn quoted(line: &mut String, text: &str) {
    if text.contains([',', '"', '\n', '\r']) {
        let _ = write!(line, "\"{}\"", text.replace('"', "\"\""));
    } else {
        line.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::owner::{Comm, How};

    #[test]
    fn a_name_cannot_break_out_of_its_field() {
        let owner = Owner {
            pid: None,
            comm: Comm::new(b"a,\"b\"\n\x1b"),
            how: How::Accept,
            cgroup: None,
        };
        let mut line = String::new();
        super::owner(&mut line, Some(&owner));
        assert_eq!(line, ",,\"a,\"\"b\"\"\\n\\u{1b}\",accept");
        line.clear();
        super::owner(&mut line, None);
        assert_eq!(line, ",,,");
    }
}
