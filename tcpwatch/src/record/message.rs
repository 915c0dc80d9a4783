//! Checks the messages of an Arrow IPC stream before they are decoded.
//!
//! A recording may be a stranger's, with checksums that are right. Arrow's decoder checks the values of a column, but takes the ranges of
//! its bytes as the message has them, and makes room for as many bytes as it claims.

use anyhow::{Context as _, Result, bail, ensure};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::{DictionaryBatch, Message, MessageHeader, RecordBatch, root_as_message};
use arrow_schema::{DataType, Schema};

/// Bytes that the tables of a piece have at most, unpacked: the writer's have a tenth of that, and as many only where a scan found all the
/// sockets that it keeps.
pub(super) const UNPACKED_MAX: u64 = 128 << 20;

/// Bytes that the names of an enumeration have at most.
const NAMES_MAX: u64 = 1 << 16;

/// Before the metadata of each message, and then their length.
const CONTINUATION: [u8; 4] = [0xff; 4];

const CUT_OFF: &str = "a message was cut off";

/// Checks the messages in `bytes`, of which the last has the rows of a table with this `schema`. Returns how many bytes they have
/// unpacked.
///
/// # Errors
/// A message has another schema, or claims bytes that are not there or more than [`UNPACKED_MAX`].
pub(super) fn check(bytes: &[u8], schema: &Schema) -> Result<u64> {
    let (mut rest, mut unpacked, mut has_rows) = (bytes, 0, false);
    while !rest.is_empty() {
        ensure!(!has_rows, "there is more than one batch");
        let (message, body, after) = split(rest)?;
        match message.header_type() {
            MessageHeader::Schema => check_schema(&message, schema)?,
            MessageHeader::DictionaryBatch => {
                let names = message.header_as_dictionary_batch().context(CUT_OFF)?;
                unpacked += check_names(&names, body)?;
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch().context(CUT_OFF)?;
                let mut widths = Vec::new();
                schema
                    .fields()
                    .iter()
                    .for_each(|field| add_widths(field.data_type(), &mut widths));
                unpacked += unpacked_length(&batch, body, &widths, UNPACKED_MAX)?;
                has_rows = true;
            }
            _ => bail!("a message is of an unknown kind"),
        }
        rest = after;
    }
    ensure!(has_rows, "there are no rows");
    Ok(unpacked)
}

/// The first message of `bytes`, its body, and what follows.
fn split(bytes: &[u8]) -> Result<(Message<'_>, &[u8], &[u8])> {
    let rest = bytes
        .strip_prefix(&CONTINUATION)
        .context("a message has no beginning")?;
    let (length, rest) = rest.split_first_chunk().context(CUT_OFF)?;
    let length = usize::try_from(u32::from_le_bytes(*length))?;
    let (metadata, rest) = rest.split_at_checked(length).context(CUT_OFF)?;
    let message = root_as_message(metadata).map_err(|_| anyhow::anyhow!("a message cannot be read"))?;
    let length = usize::try_from(message.bodyLength()).context(CUT_OFF)?;
    let (body, after) = rest.split_at_checked(length).context(CUT_OFF)?;
    Ok((message, body, after))
}

fn check_schema(message: &Message, schema: &Schema) -> Result<()> {
    let found = message.header_as_schema().context(CUT_OFF)?;
    let found = try_fb_to_schema(found).context("its columns cannot be read")?;
    ensure!(
        found.fields() == schema.fields(),
        "its columns are not those of this version of tcpwatch"
    );
    Ok(())
}

/// How many bytes the names of an enumeration have unpacked.
fn check_names(names: &DictionaryBatch, body: &[u8]) -> Result<u64> {
    // Else they would grow from one to the next.
    ensure!(!names.isDelta(), "names are added to others");
    let mut widths = Vec::new();
    add_widths(&DataType::Utf8, &mut widths);
    unpacked_length(&names.data().context(CUT_OFF)?, body, &widths, NAMES_MAX)
}

/// Adds the width of the values in each buffer of a column, in bytes (Arrow Columnar Format, "Buffer Listing for Each Layout"): first
/// come the bits of which values there are. Of bits, and of bytes of texts, it is one.
fn add_widths(column: &DataType, widths: &mut Vec<u64>) {
    const OFFSET: u64 = size_of::<i32>() as u64;
    widths.push(1);
    match column {
        DataType::Utf8 | DataType::Binary => widths.extend([OFFSET, 1]),
        DataType::List(item) => {
            widths.push(OFFSET);
            add_widths(item.data_type(), widths);
        }
        DataType::Struct(fields) => fields.iter().for_each(|field| add_widths(field.data_type(), widths)),
        DataType::Dictionary(key, _) => widths.push(width(key)),
        DataType::FixedSizeBinary(_) => widths.push(1),
        other => widths.push(width(other)),
    }
}

fn width(column: &DataType) -> u64 {
    column.primitive_width().map_or(1, |bytes| bytes as u64)
}

/// How many bytes the buffers of `batch` in `body` have unpacked: `most` at most. Each has whole values of its width.
fn unpacked_length(batch: &RecordBatch, body: &[u8], widths: &[u64], most: u64) -> Result<u64> {
    let rows = batch.nodes().context(CUT_OFF)?;
    let mut counts = rows.iter().flat_map(|node| [node.length(), node.null_count()]);
    // No value has less than a bit.
    let is_possible = |count: i64| u64::try_from(count).is_ok_and(|count| count <= 8 * UNPACKED_MAX);
    ensure!(
        is_possible(batch.length()) && counts.all(is_possible),
        "a number of rows is not possible"
    );
    let is_packed = batch.compression().is_some();
    let mut all = 0_u64;
    let buffers = batch.buffers().context(CUT_OFF)?;
    ensure!(
        buffers.len() == widths.len(),
        "it has more or fewer columns than its table"
    );
    for (buffer, width) in buffers.iter().zip(widths) {
        let [offset, length] = [buffer.offset(), buffer.length()].map(usize::try_from);
        let bytes = body.get(offset?..).and_then(|bytes| bytes.get(..length.ok()?));
        let bytes = bytes.context("a column is outside of its message")?;
        let length = if is_packed {
            claimed_length(bytes)?
        } else {
            bytes.len() as u64
        };
        ensure!(length.is_multiple_of(*width), "a value was cut off");
        all = all.saturating_add(length);
    }
    ensure!(all <= most, "it claims {all} bytes, and {most} are possible");
    Ok(all)
}

/// How many bytes a packed buffer claims to have unpacked; it begins with their number, or with -1 where they are as they are.
fn claimed_length(bytes: &[u8]) -> Result<u64> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let (claimed, plain) = bytes.split_first_chunk().context("a column was cut off")?;
    match i64::from_le_bytes(*claimed) {
        -1 => Ok(plain.len() as u64),
        claimed => u64::try_from(claimed).context("a column claims less than no bytes"),
    }
}
