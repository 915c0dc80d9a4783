//! Output as text.

pub mod trace;
