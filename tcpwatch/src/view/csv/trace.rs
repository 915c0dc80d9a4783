//! `trace` for spreadsheets: one header line, then one line a transition.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::event::{Event, Opened};
use crate::model::trace::TraceTotals;
use crate::view::time::Stamp;
use crate::view::trace::TraceView;

/// The columns, those of the JSON object.
const HEADER: &str = "time,id,cookie,family,local,lport,remote,rport,opened,from,to,dwell_ns,netns";

/// One line a transition. Unknown is an empty field. No field can hold a comma or a quote, so none is quoted.
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

impl TraceView for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{HEADER}")
    }

    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        line.push_str(self.stamp.text(event.unix_ns));
        // Writing to a string cannot fail.
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
        let opened = event.opened.map_or("", Opened::key);
        let _ = write!(line, ",{opened},{},{},", event.from.key(), event.to.key());
        if let Some(dwell) = event.dwell_ns {
            let _ = write!(line, "{dwell}");
        }
        line.push(',');
        if let Some(netns) = event.netns {
            let _ = write!(line, "{netns}");
        }
        line.push('\n');
        out.write_all(line.as_bytes())
    }

    fn end(&mut self, _totals: &TraceTotals, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
