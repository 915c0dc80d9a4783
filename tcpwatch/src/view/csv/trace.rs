//! `trace` and `life` as CSV: a header line, then one line per transition or finished connection.

use std::fmt::from_fn;
use std::io::{self, Write};

use super::container;
use super::field::{field, process, quoted};
use crate::input::owner::{Process, UnknownOwner};
use crate::input::{Opened, Transition};
use crate::model::ending::Ending;
use crate::model::trace::{TraceRecord, TraceRow, TraceTotals};
use crate::view::timestamp::Stamp;
use crate::view::trace::TraceFormat;

/// The CSV columns that only one kind of record has.
pub trait CsvFields: TraceRecord {
    /// Names of the columns, separated by commas.
    const COLUMNS: &'static str;

    /// Writes `,field` for each column; `stamp` formats times.
    fn write_fields(&self, line: &mut String, stamp: &mut Stamp);
}

/// One line per record, with the columns of the JSON object. Unknown values are empty fields. Only names and paths are quoted: no other
/// field can contain a comma or a quote.
#[derive(Debug)]
pub struct Csv {
    stamp: Stamp,
    opened_stamp: Stamp,
    line: String,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            stamp: Stamp::rfc3339(),
            opened_stamp: Stamp::rfc3339(),
            line: String::new(),
        }
    }
}

impl CsvFields for Transition {
    const COLUMNS: &'static str = "from,to,dwell_ns";

    fn write_fields(&self, line: &mut String, _: &mut Stamp) {
        field(line, Some(self.from.key()));
        field(line, Some(self.to.key()));
        field(line, self.dwell_ns);
    }
}

impl<T: CsvFields> TraceFormat<T> for Csv {
    fn header(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "time,id,cookie,family,local,lport,remote,rport,opened,{},netns,pid,comm,how,owner_unknown,{},ended",
            T::COLUMNS,
            container::COLUMNS.join(",")
        )
    }

    fn row(&mut self, row: &TraceRow<T>, out: &mut dyn Write) -> io::Result<()> {
        let event = row.record.event();
        let line = &mut self.line;
        line.clear();
        line.push_str(self.stamp.text(event.unix_ns));
        for number in [event.id, event.cookie] {
            // Without the prefix `0x`, a spreadsheet reads `1e5` as a decimal number.
            field(line, number.map(|number| from_fn(move |f| write!(f, "{number:#x}"))));
        }
        field(line, Some(event.family.key()));
        field(line, Some(event.local));
        field(line, event.lport);
        field(line, Some(event.remote));
        field(line, event.rport);
        field(line, event.opened.map(Opened::key));
        row.record.write_fields(line, &mut self.opened_stamp);
        field(line, event.netns);
        process(line, event.owner.map(Process::from));
        field(line, event.owner.map(|owner| owner.how.key()));
        field(line, row.owner_unknown.map(UnknownOwner::key));
        for text in container::fields(row.cgroup.as_deref()) {
            line.push(',');
            quoted(line, &text);
        }
        field(line, row.ending.map(Ending::key));
        line.push('\n');
        out.write_all(line.as_bytes())
    }

    fn totals(&mut self, _: &TraceTotals, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
