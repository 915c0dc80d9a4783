//! `trace --by` and `life --by` as CSV: a header line, then the lines of each group.

use std::io::{self, Write};

use super::field::{field, process};
use super::{container, owner_group};
use crate::input::{Connection, Transition};
use crate::model::ending::Ending;
use crate::model::owner_group::OwnerGroup;
use crate::model::trace_groups::{Countable, GroupCounts, TraceGroups, What};
use crate::view::trace_groups::GroupsFormat;

/// The CSV lines of a group of one kind of record.
pub trait GroupRows: Countable {
    /// Names of the columns after those of the group, separated by commas.
    fn columns() -> String;

    /// The lines of `counts`, each as `,field` for each column.
    fn lines(counts: &GroupCounts) -> Vec<String>;
}

/// One line per group of connections, and one per group and pair of states of transitions. Of groups without room `comm` is `other`.
#[derive(Debug)]
pub struct Csv;

impl GroupRows for Transition {
    fn columns() -> String {
        "from,to,transitions".into()
    }

    fn lines(counts: &GroupCounts) -> Vec<String> {
        let rows = counts
            .most_frequent()
            .into_iter()
            .filter_map(|(what, count)| match what {
                What::Move(from, to) => Some(format!(",{},{},{count}", from.key(), to.key())),
                What::End(_) => None,
            });
        rows.collect()
    }
}

impl GroupRows for Connection {
    fn columns() -> String {
        let endings: Vec<&str> = Ending::ALL.into_iter().map(Ending::key).collect();
        format!(
            "connections,lifetime_p50_ns,lifetime_p90_ns,lifetime_p99_ns,lifetime_max_ns,lifetime_unknown,bytes_sent,bytes_received,\
             retransmits,traffic_unknown,{}",
            endings.join(",")
        )
    }

    fn lines(counts: &GroupCounts) -> Vec<String> {
        let known = |sum: u64| (counts.with_traffic > 0).then_some(sum);
        let lifetime = &counts.lifetime;
        let numbers = [
            Some(counts.records),
            lifetime.quantile(0.5),
            lifetime.quantile(0.9),
            lifetime.quantile(0.99),
            lifetime.max(),
            Some(lifetime.unknown()),
            known(counts.sent),
            known(counts.received),
            known(counts.retransmits),
            Some(counts.records - counts.with_traffic),
        ];
        let ended = |ending| counts.by_what.get(&What::End(ending)).copied().unwrap_or(0);
        let mut line = String::new();
        for number in numbers.into_iter().chain(Ending::ALL.map(|ending| Some(ended(ending)))) {
            field(&mut line, number);
        }
        vec![line]
    }
}

impl<T: GroupRows> GroupsFormat<T> for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let columns = container::COLUMNS.join(",");
        writeln!(out, "by,pid,comm,{columns},{}", T::columns())
    }

    fn groups(&mut self, groups: &TraceGroups, out: &mut dyn Write) -> io::Result<()> {
        let by = groups.by().key();
        for (group, counts) in groups.largest_first() {
            let mut start = by.to_owned();
            process(&mut start, group.and_then(OwnerGroup::process));
            owner_group::fields(&mut start, group);
            for row in T::lines(counts) {
                writeln!(out, "{start}{row}")?;
            }
        }
        for row in groups.other().into_iter().flat_map(T::lines) {
            writeln!(out, "{by},,other,,,,{row}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::owner::OwnerBy;
    use crate::input::owner::tests::owner;
    use crate::model::trace::TraceRow;
    use crate::view::trace::tests::connection;

    fn parsed<T: GroupRows>(rows: &[TraceRow<T>]) -> Vec<Vec<(String, String)>> {
        let mut groups = TraceGroups::new(OwnerBy::Process);
        for row in rows {
            groups.add(row);
        }
        let mut out = Vec::new();
        GroupsFormat::<T>::begin(&mut Csv, &mut out).unwrap();
        GroupsFormat::<T>::groups(&mut Csv, &groups, &mut out).unwrap();
        let mut reader = ::csv::Reader::from_reader(out.as_slice());
        let headings = reader.headers().unwrap().clone();
        // A line with more or fewer fields than the header is an error of the reader.
        let rows = reader.records().map(|row| row.unwrap());
        let named = rows.map(|row| {
            let fields = headings.iter().zip(&row);
            let known = fields.filter(|(_, value)| !["", "0"].contains(value));
            known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        });
        named.collect()
    }

    fn row<T>(record: T, ending: Option<Ending>) -> TraceRow<T> {
        TraceRow {
            record,
            ending,
            owner_unknown: None,
            cgroup: None,
        }
    }

    #[test]
    fn lines_have_the_columns_of_the_header() {
        let mut connection = connection();
        connection.last.owner = Some(owner(7, "=app"));
        let rows = parsed(&[
            row(connection, Some(Ending::ResetByPeer)),
            row(connection, Some(Ending::Refused)),
        ]);
        let [connections] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        for (name, value) in [
            ("pid", "7"),
            ("comm", "'=app"),
            ("connections", "2"),
            ("reset_by_peer", "1"),
            ("refused", "1"),
        ] {
            assert!(
                connections.contains(&(name.into(), value.into())),
                "{name}: {connections:?}"
            );
        }
        let moved = Transition::between(TcpState::Established, TcpState::CloseWait);
        let rows = parsed(&[row(moved, None), row(moved, None)]);
        let expected = [
            ("by", "process"),
            ("from", "established"),
            ("to", "close_wait"),
            ("transitions", "2"),
        ];
        assert_eq!(
            rows,
            [expected
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec()]
        );
    }
}
