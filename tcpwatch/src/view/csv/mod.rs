//! Output as csv.

pub mod trace;
