//! `trace` and `life` for spreadsheets: one header line, then one line a transition, or a finished connection.

use std::fmt::{Display, Write as _, from_fn};
use std::io::{self, Write};

use super::container;
use super::text::as_text;
use crate::input::owner::Process;
use crate::input::{Event, Opened};
use crate::model::ending::Ending;
use crate::model::trace::{Row, TraceTotals, Traced};
use crate::view::time::Stamp;
use crate::view::trace::RowView;

/// What a trace of `Self` has in its lines besides what all have.
pub trait Fields: Traced {
    /// The columns of its own.
    const OWN: &'static str;

    /// Writes `,field` for each of them; times by `stamp`.
    fn own(&self, line: &mut String, stamp: &mut Stamp);
}

/// One line a transition or a finished connection, with the columns of the JSON object. Unknown is an empty field. Only names
/// and paths can hold a comma or a quote, and are quoted where they do.
#[derive(Debug)]
pub struct Csv {
    stamp: Stamp,
    own: Stamp,
    line: String,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
            own: Stamp::rfc3339(),
            line: String::new(),
        }
    }
}

impl Fields for Event {
    const OWN: &'static str = "from,to,dwell_ns";

    fn own(&self, line: &mut String, _: &mut Stamp) {
        field(line, Some(self.from.key()));
        field(line, Some(self.to.key()));
        field(line, self.dwell_ns);
    }
}

impl<T: Fields> RowView<T> for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "time,id,cookie,family,local,lport,remote,rport,opened,{},netns,pid,comm,how,{},ended",
            T::OWN,
            container::COLUMNS.join(",")
        )
    }

    fn row(&mut self, row: &Row<T>, out: &mut dyn Write) -> io::Result<()> {
        let event = row.what.event();
        let line = &mut self.line;
        line.clear();
        line.push_str(self.stamp.text(event.unix_ns));
        for number in [event.id, event.cookie] {
            // Without the prefix `1e5` would be a number.
            field(line, number.map(|number| from_fn(move |f| write!(f, "{number:#x}"))));
        }
        field(line, Some(event.family.key()));
        field(line, Some(event.local));
        field(line, event.lport);
        field(line, Some(event.remote));
        field(line, event.rport);
        field(line, event.opened.map(Opened::key));
        row.what.own(line, &mut self.own);
        field(line, event.netns);
        process(line, event.owner.map(Process::from));
        field(line, event.owner.map(|owner| owner.how.key()));
        for text in container::fields(row.cgroup.as_deref()) {
            line.push(',');
            quoted(line, &text);
        }
        field(line, row.ended.map(Ending::key));
        line.push('\n');
        out.write_all(line.as_bytes())
    }

    fn end(&mut self, _totals: &TraceTotals, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `,value`, and of what is unknown the comma alone.
pub(super) fn field(line: &mut String, value: Option<impl Display>) {
    line.push(',');
    if let Some(value) = value {
        // Writing to a string cannot fail.
        let _ = write!(line, "{value}");
    }
}

/// Writes `,pid,comm`, empty for what is not known.
pub(super) fn process(line: &mut String, process: Option<Process>) {
    field(line, process.and_then(|process| process.pid));
    line.push(',');
    if let Some(process) = process {
        quoted(line, &as_text(process.comm.to_string()));
    }
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
    use crate::input::owner::Comm;

    #[test]
    fn a_name_cannot_break_out_of_its_field() {
        let evil = Process {
            pid: None,
            comm: Comm::new(b"a,\"b\"\n\x1b"),
        };
        let mut line = String::new();
        process(&mut line, Some(evil));
        assert_eq!(line, ",,\"a,\"\"b\"\"\\n\\u{1b}\"");
        line.clear();
        process(&mut line, None);
        assert_eq!(line, ",,");
    }
}
