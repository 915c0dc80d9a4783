//! `leaks` for spreadsheets: one header line, then one line a group.

use std::io::{self, Write};
use std::num::NonZeroU32;

use serde::Serialize;

use super::field::to_io;
use crate::detect::finding::Finding;
use crate::input::escaped::escape_formula;
use crate::model::frame::Frame;
use crate::view::View;
use crate::view::leaks::GroupFields;
use crate::view::timestamp::rfc3339;

/// One line a group, with the fields of the JSON object that are no lists. Unknown is an empty field. Findings have no place in its
/// columns.
#[derive(Debug)]
pub struct Csv;

/// The first columns.
#[derive(Default, Serialize)]
struct Head {
    time: String,
    pid: Option<NonZeroU32>,
    comm: Option<String>,
}

impl View for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rows = lines(&[(Head::default(), GroupFields::default())], true)?;
        let header = rows.split_inclusive(|&byte| byte == b'\n').next();
        out.write_all(header.unwrap_or_default())
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.leaks else {
            return Ok(());
        };
        let time = rfc3339(frame.time());
        let rows = frame.groups.iter().map(|group| {
            let head = Head {
                time: time.clone(),
                pid: group.owner.and_then(|owner| owner.pid),
                comm: group.owner.map(|owner| escape_formula(owner.comm.to_string())),
            };
            (head, GroupFields::from(group))
        });
        out.write_all(&lines(&rows.collect::<Vec<_>>(), false)?)
    }
}

fn lines(rows: &[(Head, GroupFields)], has_header: bool) -> io::Result<Vec<u8>> {
    let mut csv = csv::WriterBuilder::new()
        .has_headers(has_header)
        .from_writer(Vec::new());
    for row in rows {
        csv.serialize(row).map_err(to_io)?;
    }
    csv.into_inner().map_err(csv::IntoInnerError::into_error)
}
