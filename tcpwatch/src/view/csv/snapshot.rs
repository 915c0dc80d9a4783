//! `snapshot` as CSV: the time, the key of the group, the total, then one column per state.

use std::io::{self, Write};

use tcpwatch_common::TcpState;

use super::container;
use super::field::to_io;
use crate::input::escaped::{Escaped, escape_formula};
use crate::model::counts::StateCounts;
use crate::model::snapshot::{GroupBy, KeyPart, Snapshot};
use crate::view::timestamp::rfc3339;

/// Writes a header line and one row per group; without groups, one row for all sockets. The groups left out share a row, whose first
/// part of the key is `other`.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let time = rfc3339(snapshot.time);
    let keys = snapshot.by.iter().flat_map(|&by| columns(by));
    let width = keys.clone().count();
    let states = TcpState::ALL.iter().map(|state| state.key());
    csv.write_record(["time"].into_iter().chain(keys).chain(["total"]).chain(states))
        .map_err(to_io)?;
    let mut row = |key: &mut dyn Iterator<Item = String>, counts: &StateCounts| {
        let numbers = [counts.total()]
            .into_iter()
            .chain(counts.iter().map(|(_, sockets)| sockets));
        let numbers = numbers.map(|number| number.to_string());
        csv.write_record([time.clone()].into_iter().chain(key).chain(numbers))
            .map_err(to_io)
    };
    if snapshot.by.is_empty() {
        row(&mut std::iter::empty(), &snapshot.states)?;
    }
    for group in &snapshot.groups {
        row(&mut group.key.iter().flat_map(fields), &group.states)?;
    }
    if let Some(other) = &snapshot.other {
        let names = ["other".to_owned()].into_iter().chain(std::iter::repeat(String::new()));
        row(&mut names.take(width), &other.states)?;
    }
    csv.flush()
}

/// Writes the number of sockets alone: a header line and a row.
///
/// # Errors
/// `out` cannot be written to.
pub fn write_count(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    writeln!(
        out,
        "time,total\n{},{}",
        rfc3339(snapshot.time),
        snapshot.states.total()
    )
}

/// Names of the columns of one part of the key. A cgroup has columns for its container and pod, too.
fn columns(by: GroupBy) -> Vec<&'static str> {
    match by {
        GroupBy::Cgroup => container::COLUMNS.to_vec(),
        by => vec![by.key()],
    }
}

/// The fields of one part of the key; unknown values are empty.
fn fields(part: &KeyPart) -> Vec<String> {
    match part {
        KeyPart::Cgroup(cgroup) => container::fields(cgroup.as_deref()).into(),
        KeyPart::Uid(None)
        | KeyPart::Process(None)
        | KeyPart::Comm(None)
        | KeyPart::Container(None)
        | KeyPart::Pod(None)
        | KeyPart::Port(0) => vec![String::new()],
        KeyPart::Container(Some(Some(container))) => vec![escape_formula(Escaped(container.id.as_bytes()).to_string())],
        KeyPart::Process(Some(_)) | KeyPart::Comm(Some(_)) | KeyPart::Pod(Some(Some(_))) => {
            vec![escape_formula(part.to_string())]
        }
        part => vec![part.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::snapshot::{Origin, SnapshotBuilder};

    fn text(by: &[GroupBy], limit: Option<usize>) -> String {
        let mut counts = StateCounts::default();
        counts.add(TcpState::Established, 2);
        counts.add(TcpState::Listen, 1);
        let mut builder = SnapshotBuilder::new(by);
        builder.add_counts(&counts, 7);
        let mut out = Vec::new();
        write(
            &mut out,
            &builder.finish(Timestamp::UNIX_EPOCH, Some(7), Origin::SockDiag, limit),
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn there_is_one_row_for_all_sockets_or_one_per_group() {
        let states =
            "established,syn_sent,syn_recv,fin_wait1,fin_wait2,time_wait,close,close_wait,last_ack,listen,closing";
        let time = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(
            text(&[], None),
            format!("time,total,{states}\n{time},3,2,0,0,0,0,0,0,0,0,1,0\n")
        );
        assert_eq!(
            text(&[GroupBy::State, GroupBy::Netns], Some(1)),
            format!(
                "time,state,netns,total,{states}\n{time},established,7,2,2,0,0,0,0,0,0,0,0,0,0\n\
                 {time},other,,1,0,0,0,0,0,0,0,0,0,1,0\n"
            )
        );
    }
}
