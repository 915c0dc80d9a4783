//! The tables of a recording: which inputs each has, and what its rows are.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow_array::builder::UInt64Builder;
use arrow_array::{Array as _, ArrayRef, RecordBatch, StructArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tcpwatch_common::Evidence;
use tcpwatch_common::ledger::Pass;

use super::columns::{Column, OTHER_TYPE, column_as, column_names, column_struct};
use crate::input::container::Cgroup;
use crate::input::latency::LatencySample;
use crate::input::listener::Listener;
use crate::input::owner::{Owner, UnknownOwner};
use crate::input::socket_scan::SocketScan;
use crate::input::{Connection, EndCounts, HostFacts, Input, LedgerSample, Loss, PortsSample, Session, Transition};

/// The column before those of the row.
pub(super) const SEQ: &str = "seq";

struct Amendment {
    id: NonZeroU64,
    evidence: Evidence,
}

struct OwnerAnswer {
    inode: NonZeroU32,
    owner: Option<Owner>,
    unknown: Option<UnknownOwner>,
}

struct CgroupAnswer {
    owner: Owner,
    cgroup: Option<Arc<Cgroup>>,
}

struct Walked {
    sample: Option<Box<PortsSample>>,
}

struct Named {
    names: Vec<(u32, String)>,
}

struct Dropped {
    listeners: Vec<Listener>,
}

struct ScanStart {
    is_base: bool,
}

struct Scanned {
    scan: Box<SocketScan>,
    missed: Option<u64>,
}

struct Tick {
    time: Timestamp,
    monotonic_ns: u64,
}

struct Marked {
    mark: Mark,
}

/// An input that is nothing but a moment between the others.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    IntervalEnd,
    StreamEnd,
}

impl Mark {
    const fn key(self) -> &'static str {
        match self {
            Self::IntervalEnd => "interval_end",
            Self::StreamEnd => "stream_end",
        }
    }
}

column_names!(Mark: [Mark::IntervalEnd, Mark::StreamEnd], Mark::key);
column_struct!(Marked { mark: Mark });
column_struct!(Amendment {
    id: NonZeroU64,
    evidence: Evidence
});
column_struct!(OwnerAnswer { inode: NonZeroU32, owner: Option<Owner>, unknown: Option<UnknownOwner> });
column_struct!(CgroupAnswer { owner: Owner, cgroup: Option<Arc<Cgroup>> });
column_struct!(Walked { sample: Option<Box<PortsSample>> });
column_struct!(Named { names: Vec<(u32, String)> });
column_struct!(Dropped { listeners: Vec<Listener> });
column_struct!(ScanStart { is_base: bool });
column_struct!(Scanned { scan: Box<SocketScan>, missed: Option<u64> });
// Until the year 2262.
column_as!(
    Timestamp as i64,
    |time| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX),
    |ns| Ok(Timestamp::from_nanosecond(ns.into())?)
);
column_struct!(Tick {
    time: Timestamp,
    monotonic_ns: u64
});

/// Collects the rows of a table.
struct RowBuilder<T: Column> {
    seqs: UInt64Builder,
    cells: T::Builder,
    length: usize,
}

impl<T: Column> Default for RowBuilder<T> {
    fn default() -> Self {
        Self {
            seqs: UInt64Builder::new(),
            cells: T::Builder::default(),
            length: 0,
        }
    }
}

impl<T: Column> RowBuilder<T> {
    fn push(&mut self, seq: u64, row: &T) {
        self.seqs.append_value(seq);
        T::append(&mut self.cells, Some(row));
        self.length += 1;
    }

    /// Takes the rows out; `None` if there are none.
    fn take(&mut self) -> Result<Option<RecordBatch>> {
        if std::mem::take(&mut self.length) == 0 {
            return Ok(None);
        }
        let rows = T::finish(&mut self.cells);
        let rows = rows.as_any().downcast_ref::<StructArray>().context(OTHER_TYPE)?;
        let seqs: ArrayRef = Arc::new(self.seqs.finish());
        let columns = [seqs].into_iter().chain(rows.columns().iter().cloned()).collect();
        Ok(Some(RecordBatch::try_new(Arc::new(schema::<T>()?), columns)?))
    }
}

/// The columns of a table: `seq`, and those of its row.
fn schema<T: Column>() -> Result<Schema> {
    let DataType::Struct(fields) = T::data_type() else {
        bail!(OTHER_TYPE);
    };
    let seq = Arc::new(Field::new(SEQ, DataType::UInt64, false));
    let fields: Vec<_> = [seq].into_iter().chain(fields.iter().cloned()).collect();
    Ok(Schema::new(fields))
}

/// Rows of a table that were read, in order.
pub(super) trait Read {
    /// `seq` of the next; `None` if there is none.
    fn next_seq(&self) -> Option<u64>;

    /// Takes the next, which there must be.
    ///
    /// # Errors
    /// It is no input.
    fn next(&mut self) -> Result<Input>;
}

struct TableRows<T: Column> {
    seqs: UInt64Array,
    rows: T::Cells,
    at: usize,
    to_input: fn(T) -> Result<Input>,
}

impl<T: Column + 'static> TableRows<T> {
    fn open(batch: &RecordBatch, to_input: fn(T) -> Result<Input>) -> Result<Box<dyn Read>>
    where
        T::Cells: 'static,
    {
        let seqs = batch.column_by_name(SEQ).context("the column seq is missing")?;
        Ok(Box::new(Self {
            seqs: seqs.as_any().downcast_ref::<UInt64Array>().context(OTHER_TYPE)?.clone(),
            rows: T::cells(&StructArray::from(batch.clone()))?,
            at: 0,
            to_input,
        }))
    }
}

impl<T: Column> Read for TableRows<T> {
    fn next_seq(&self) -> Option<u64> {
        (self.at < self.seqs.len()).then(|| self.seqs.value(self.at))
    }

    fn next(&mut self) -> Result<Input> {
        let row = T::required(&self.rows, self.at)?;
        self.at += 1;
        (self.to_input)(row)
    }
}

/// Defines the tables: the name of each, the type of its rows, its inputs with the row that they make, and the input that a row makes.
macro_rules! tables {
    ($($table:ident $name:ident: $row:ty, $input:pat => $to_row:expr, |$read:ident| $to_input:expr;)*) => {
        /// A table of a recording.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Table {
            $(#[doc = concat!("`", stringify!($name), ".arrows`.")] $table,)*
        }

        impl Table {
            /// Its name, which its file has too.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$table => stringify!($name),)*
                }
            }

            /// What its columns are.
            pub(super) fn schema(self) -> Result<Schema> {
                match self {
                    $(Self::$table => schema::<$row>(),)*
                }
            }

            /// What `batch`, of this table, has.
            pub(super) fn read(self, batch: &RecordBatch) -> Result<Box<dyn Read>> {
                match self {
                    $(Self::$table => TableRows::<$row>::open(batch, |$read| Ok($to_input)),)*
                }
            }
        }

        /// Collects the rows of all tables.
        #[derive(Default)]
        pub(super) struct Tables {
            $($name: RowBuilder<$row>,)*
        }

        impl Tables {
            /// Adds `input`.
            pub(super) fn push(&mut self, seq: u64, input: &Input) {
                match input {
                    $($input => self.$name.push(seq, $to_row),)*
                }
            }

            /// Takes out the rows of each table that has some.
            pub(super) fn take(&mut self) -> Result<Vec<(Table, RecordBatch)>> {
                let batches = [$((Table::$table, self.$name.take()?)),*];
                let taken = batches.into_iter().filter_map(|(table, batch)| Some((table, batch?)));
                Ok(taken.collect())
            }
        }
    };
}

tables! {
    Sessions sessions: Session, Input::Session(session) => session, |row| Input::Session(Box::new(row));
    Transitions transitions: Transition, Input::Transition(transition) => transition, |row| Input::Transition(row);
    Connections connections: Connection, Input::Connection(connection) => connection, |row| Input::Connection(row);
    Amendments amendments: Amendment,
        &Input::CloseAmended { id, evidence } => &Amendment { id, evidence },
        |row| Input::CloseAmended { id: row.id, evidence: row.evidence };
    Owners owners: OwnerAnswer,
        &Input::Owner { inode, owner } => &OwnerAnswer { inode, owner: owner.ok(), unknown: owner.err() },
        |row| Input::Owner {
            inode: row.inode,
            owner: match row.owner {
                Some(owner) => Ok(owner),
                None => Err(row.unknown.context("an owner has no reason to be unknown")?),
            },
        };
    Cgroups cgroups: CgroupAnswer,
        Input::CgroupPath { owner, cgroup } => &CgroupAnswer { owner: *owner, cgroup: cgroup.clone() },
        |row| Input::CgroupPath { owner: row.owner, cgroup: row.cgroup };
    Losses losses: Loss, Input::Loss(loss) => loss, |row| Input::Loss(row);
    Ledgers ledger: LedgerSample, Input::Ledger(sample) => sample, |row| Input::Ledger(Box::new(row));
    Sockets sockets: Pass, Input::Sockets(pass) => pass, |row| Input::Sockets(Box::new(row));
    Host host: HostFacts, Input::HostFacts(facts) => facts, |row| Input::HostFacts(Box::new(row));
    Ports ports: Walked, Input::Ports(sample) => &Walked { sample: sample.clone() }, |row| Input::Ports(row.sample);
    Namespaces namespaces: Named,
        Input::NamespaceNames(names) => &Named { names: names.0.iter().map(|(inode, name)| (*inode, name.clone())).collect() },
        |row| Input::NamespaceNames(row.names.into_iter().collect::<BTreeMap<_, _>>().into());
    Listeners listeners: Dropped,
        Input::ListenerDrops(listeners) => &Dropped { listeners: listeners.clone() },
        |row| Input::ListenerDrops(row.listeners);
    ScanStarts scan_starts: ScanStart,
        &Input::ScanStart { is_base } => &ScanStart { is_base },
        |row| Input::ScanStart { is_base: row.is_base };
    Scans scans: Scanned,
        Input::SocketScan { scan, missed } => &Scanned { scan: scan.clone(), missed: *missed },
        |row| Input::SocketScan { scan: row.scan, missed: row.missed };
    Latencies latency: LatencySample, Input::Latency(sample) => sample, |row| Input::Latency(Box::new(row));
    Ticks ticks: Tick,
        &Input::Tick { time, monotonic_ns } => &Tick { time, monotonic_ns },
        |row| Input::Tick { time: row.time, monotonic_ns: row.monotonic_ns };
    Marks marks: Marked,
        input @ (Input::IntervalEnd | Input::StreamEnd) => &Marked {
            mark: if *input == Input::IntervalEnd { Mark::IntervalEnd } else { Mark::StreamEnd },
        },
        |row| match row.mark {
            Mark::IntervalEnd => Input::IntervalEnd,
            Mark::StreamEnd => Input::StreamEnd,
        };
    Ends ends: EndCounts, Input::End(counts) => counts, |row| Input::End(Box::new(row));
}
