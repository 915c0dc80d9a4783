//! Exports a recording to files that other tools open: a Parquet or CSV file a table.
//!
//! A column of columns becomes several (`owner_pid`, `owner_comm`), an address and a name become text, and a time becomes a timestamp.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, ListArray, RecordBatch, StringArray, StructArray, TimestampNanosecondArray, make_array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use hashbrown::HashMap;
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::columns::{OTHER_TYPE, Octets, Sensitive};
use super::output_dir::OutputDir;
use super::reader::Recording;
use super::tables::Table;
use crate::input::escaped::{Escaped, escape_formula};

/// The time zone of timestamps.
const UTC: &str = "UTC";

/// The name of a column of times, ns since the Unix epoch; they are timestamps here.
const UNIX_NS: &str = "unix_ns";

/// A format to export to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet, with zstd.
    Parquet,
    /// CSV (RFC 4180); a list is a field of JSON.
    Csv,
}

/// The file of a table.
enum ExportFile {
    Parquet(Box<ArrowWriter<File>>),
    Csv(Box<csv::Writer<File>>),
}

/// Writes the tables of `recording` to the directory `dir`, which must not exist, or be empty; returns the number of rows of each.
///
/// # Errors
/// The recording is damaged or was cut off: what came before is written. Or a file cannot be written.
pub fn export(recording: &mut Recording, dir: &Path, format: Format) -> Result<Vec<(Table, u64)>> {
    let to = OutputDir::create(dir)?;
    let mut files = HashMap::new();
    let mut rows: Vec<(Table, u64)> = Vec::new();
    let mut write_all = || -> Result<()> {
        while let Some(batches) = recording.next_batches()? {
            for (table, batch) in batches {
                let batch = plain(&batch)?;
                let mut write = || -> Result<()> {
                    if !files.contains_key(&table) {
                        files.insert(table, ExportFile::create(&to, table, format, &batch)?);
                    }
                    files.get_mut(&table).map_or(Ok(()), |file| file.write(&batch))
                };
                write().with_context(|| format!("cannot export to {}", dir.display()))?;
                let count = batch.num_rows() as u64;
                match rows.iter_mut().find(|(of, _)| *of == table) {
                    Some((_, rows)) => *rows += count,
                    None => rows.push((table, count)),
                }
            }
        }
        Ok(())
    };
    let written = write_all();
    let closed: Result<()> = files.into_values().try_for_each(ExportFile::close);
    written.and(closed.with_context(|| format!("cannot export to {}", dir.display())))?;
    rows.sort_unstable();
    Ok(rows)
}

impl ExportFile {
    fn create(dir: &OutputDir, table: Table, format: Format, first: &RecordBatch) -> Result<Self> {
        let (name, schema) = (table.name(), first.schema());
        Ok(match format {
            Format::Parquet => {
                let compression = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(compression).build();
                let file = dir.create_file(&format!("{name}.parquet"))?;
                Self::Parquet(Box::new(ArrowWriter::try_new(file, schema, Some(properties))?))
            }
            Format::Csv => {
                let mut file = csv::Writer::from_writer(dir.create_file(&format!("{name}.csv"))?);
                file.write_record(schema.fields().iter().map(|field| field.name()))?;
                Self::Csv(Box::new(file))
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(file) => file.write(batch)?,
            Self::Csv(file) => {
                for row in 0..batch.num_rows() {
                    let fields = batch.columns().iter().map(|column| text(column, row));
                    file.write_record(fields.collect::<Result<Vec<_>>>()?)?;
                }
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        match self {
            Self::Parquet(file) => drop(file.close()?),
            Self::Csv(mut file) => file.flush()?,
        }
        Ok(())
    }
}

/// `batch` with plain columns.
fn plain(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        flatten(field.name(), field, column, None, &mut columns)?;
    }
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Adds the plain columns of `column` to `to`, named `name` or by that and their own names. Where `above` is null, they are.
fn flatten(
    name: &str,
    field: &Field,
    column: &ArrayRef,
    above: Option<&NullBuffer>,
    to: &mut Vec<(Field, ArrayRef)>,
) -> Result<()> {
    let nulls = NullBuffer::union(above, column.nulls());
    if let Some(column) = column.as_struct_opt() {
        for (child, cells) in column.fields().iter().zip(column.columns()) {
            flatten(&joined(name, child.name()), child, cells, nulls.as_ref(), to)?;
        }
        return Ok(());
    }
    let column = make_array(column.to_data().into_builder().nulls(nulls).build()?);
    let name = if name.ends_with(UNIX_NS) { "time" } else { name };
    to.push(plain_column(name, field, &column)?);
    Ok(())
}

/// The name of the column `child` of the column `name`: an address is its IP address, and the last transition of a connection is the
/// connection's own.
fn joined(name: &str, child: &str) -> String {
    match (name, child) {
        ("last" | "sample" | "scan", child) => child.to_owned(),
        (name, "ip") => name.to_owned(),
        (name, child) => format!("{name}_{child}"),
    }
}

/// `column` with words, texts and times as such, in it and in all of its columns and items.
fn plain_column(name: &str, field: &Field, column: &ArrayRef) -> Result<(Field, ArrayRef)> {
    let as_text = |cell: &dyn Fn(usize) -> String| -> ArrayRef {
        let cells = (0..column.len()).map(|row| column.is_valid(row).then(|| cell(row)));
        Arc::new(cells.collect::<StringArray>())
    };
    let plain: ArrayRef = match (field.data_type(), Sensitive::in_field(field)) {
        (DataType::Dictionary(..), _) => {
            let words = column.as_dictionary_opt::<UInt8Type>().context(OTHER_TYPE)?;
            let names = words.values().as_string_opt::<i32>().context(OTHER_TYPE)?;
            as_text(&|row| names.value(usize::from(words.keys().value(row))).to_owned())
        }
        (DataType::Binary, Some(kind)) => {
            let bytes = column.as_binary_opt::<i32>().context(OTHER_TYPE)?;
            as_text(&|row| match (kind, Octets::address(bytes.value(row))) {
                (Sensitive::Address, Some(ip)) => ip.to_string(),
                _ => String::from_utf8_lossy(bytes.value(row)).into_owned(),
            })
        }
        (DataType::Int64, _) if field.name() == UNIX_NS || field.name() == "time" => {
            let ns = column.as_primitive_opt::<Int64Type>().context(OTHER_TYPE)?;
            let times = TimestampNanosecondArray::new(ns.values().clone(), ns.nulls().cloned());
            Arc::new(times.with_timezone(UTC))
        }
        (DataType::List(item), _) => {
            let lists = column.as_list_opt::<i32>().context(OTHER_TYPE)?;
            let (item, items) = plain_column(item.name(), item, lists.values())?;
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            Arc::new(ListArray::new(Arc::new(item), offsets, items, nulls))
        }
        (DataType::Struct(fields), _) => {
            let cells = column.as_struct_opt().context(OTHER_TYPE)?;
            let cells_of = fields.iter().zip(cells.columns());
            let plain = cells_of.map(|(field, cells)| plain_column(field.name(), field, cells));
            let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = plain.collect::<Result<Vec<_>>>()?.into_iter().unzip();
            Arc::new(StructArray::new(Fields::from(fields), columns, cells.nulls().cloned()))
        }
        _ => Arc::clone(column),
    };
    Ok((Field::new(name, plain.data_type().clone(), true), plain))
}

/// The CSV field of a cell; an unknown value is an empty one.
fn text(column: &ArrayRef, row: usize) -> Result<String> {
    Ok(match value(column, row)? {
        Value::Null => String::new(),
        Value::String(text) => escape_formula(Escaped(text.as_bytes()).to_string()),
        other => other.to_string(),
    })
}

/// A cell as JSON.
fn value(column: &ArrayRef, row: usize) -> Result<Value> {
    macro_rules! number {
        ($type:ty) => {
            column
                .as_primitive_opt::<$type>()
                .context(OTHER_TYPE)?
                .value(row)
                .into()
        };
    }
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Int64 => number!(Int64Type),
        DataType::Boolean => column.as_boolean_opt().context(OTHER_TYPE)?.value(row).into(),
        DataType::Utf8 => column.as_string_opt::<i32>().context(OTHER_TYPE)?.value(row).into(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let times = column
                .as_primitive_opt::<TimestampNanosecondType>()
                .context(OTHER_TYPE)?;
            Timestamp::from_nanosecond(times.value(row).into())?.to_string().into()
        }
        DataType::Binary => {
            let bytes = column.as_binary_opt::<i32>().context(OTHER_TYPE)?.value(row);
            let mut text = String::new();
            for byte in bytes {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            text.into()
        }
        DataType::List(_) => {
            let items = column.as_list_opt::<i32>().context(OTHER_TYPE)?.value(row);
            let items = (0..items.len()).map(|item| value(&items, item));
            items.collect::<Result<Vec<_>>>()?.into()
        }
        DataType::Struct(fields) => {
            let cells = column.as_struct_opt().context(OTHER_TYPE)?;
            let cells = fields.iter().zip(cells.columns());
            let cells = cells.map(|(field, cells)| Ok((field.name().clone(), value(cells, row)?)));
            Value::Object(cells.collect::<Result<_>>()?)
        }
        other => bail!("a column has the type {other}"),
    })
}
