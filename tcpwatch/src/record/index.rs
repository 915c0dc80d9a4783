//! The index of a recording, or of each part of one: a line for the run, then one for each piece that was written, then one for the end.
//!
//! A line is the CRC-32 of the rest of it (IEEE 802.3, 8 hexadecimal digits), a blank, and JSON.

use std::hash::{BuildHasher as _, RandomState};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use tcpwatch_common::ledger::STATES;

use super::tables::Table;
use crate::input::EndCounts;

/// The version of the format that is written here. Every change that an older reader would misunderstand makes a new one.
pub(super) const FORMAT: u32 = 1;

/// A line of the index.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The first.
    Run(Header),
    /// The rows since the line before.
    Piece(Piece),
    /// The last, which a recording that was cut off does not have.
    End,
}

/// What is known of a recorded run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub format: u32,
    /// The tcpwatch that recorded it.
    pub version: String,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// A random number, with which pseudonyms are made.
    pub salt: u64,
    /// How this part of the recording starts; `None` for the first, or the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<PartStart>,
}

/// How a part of a recording starts that is not the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStart {
    /// The inputs up to this `seq` repeat what was known. They are for a reader that begins with this part.
    pub(super) seq: u64,
    /// Transitions in the parts before, by the kernel's state numbers.
    pub(super) moves: Box<[[u64; STATES]; STATES]>,
}

impl PartStart {
    /// Subtracts the transitions of the parts before from `counts`, the totals of the whole run.
    pub(super) fn deduct(&self, counts: &mut EndCounts) {
        let cells = counts.moves.as_flattened_mut().iter_mut();
        for (all, &before) in cells.zip(self.moves.as_flattened()) {
            *all = all.saturating_sub(before);
        }
    }
}

impl Header {
    /// The header of a run with these arguments.
    #[must_use]
    pub fn new(args: Vec<String>) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            args,
            // The standard library's source of random numbers, for its hash tables.
            salt: RandomState::new().hash_one(0),
            start: None,
        }
    }
}

/// The rows that were written together.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    /// `seq` of the last row in any table.
    pub seq: u64,
    /// Where they are, for each table that has some.
    pub batches: Vec<Batch>,
}

/// The bytes of a record batch in the file of a table, with the schema and dictionaries that come before it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub table: Table,
    /// Where they begin in the file.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
    /// Their CRC-32 (IEEE 802.3).
    pub crc: u32,
}

impl Line {
    /// The line as it is in the file, with its end.
    pub(super) fn to_text(&self) -> Result<String> {
        let json = serde_json::to_string(self)?;
        Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())))
    }

    /// The line of `text`, without its end.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let (sum, json) = text.split_at_checked(9).context("the line is too short")?;
        // Compared as text, since `A` and `a` are one digit, and differ by one bit.
        let right = format!("{:08x} ", crc32fast::hash(json));
        ensure!(sum == right.as_bytes(), "the checksum is wrong");
        Ok(serde_json::from_slice(json)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_any_bit_changed_is_refused() {
        let line = Line::Run(Header {
            salt: 7,
            ..Header::new(vec!["stat".into()])
        });
        let text = line.to_text().unwrap();
        let text = text.trim_end().as_bytes();
        assert_eq!(Line::parse(text).unwrap(), line);
        for bit in 0..text.len() * 8 {
            let mut changed = text.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Line::parse(&changed).is_err(), "bit {bit}");
        }
    }
}
