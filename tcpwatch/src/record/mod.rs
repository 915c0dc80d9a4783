//! Recordings: the inputs of a run in files, from which any view shows the run again.
//!
//! A recording is a directory. Each kind of input has a table there, an Arrow IPC stream with zstd (`transitions.arrows`), with a row an
//! input and a column `seq`: the place of the input among all of them. The file `index` lists what was written, a line a second: for each
//! table the bytes that were added, and their checksum. Only what it lists is read, so a recording that was cut off anywhere ends with
//! the last second that is whole.
//!
//! A recording that is rotated has parts instead, each a recording in a directory with its number (`1`, `2`, …), which begins with what the
//! one before ended with. The oldest are removed while it grows.

mod base;
mod columns;
mod connection;
mod export;
mod files;
mod host;
mod index;
mod latency;
mod message;
mod output_dir;
mod part_reader;
mod parts;
mod ports;
mod reader;
mod redact;
mod scan;
mod tables;
mod writer;

pub use self::export::{Format, export};
pub use self::index::Header;
pub use self::parts::Kept;
pub use self::reader::Recording;
pub use self::tables::Table;
pub use self::writer::Recorder;
