//! The processes in /proc, their threads, and the sockets that each holds open.

mod hidden;
mod holders;
mod process;
mod threads;

pub use hidden::all_pids;
pub use holders::{Hold, Holders, holders};
pub use process::{Process, has_ended, process};
pub use threads::other_threads;
