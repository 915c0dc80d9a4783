//! Output as json.

pub mod trace;
