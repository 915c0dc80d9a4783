//! Types shared by tcpwatch and its BPF programs: states, wire records, ledger, parameters and names.
//!
//! Everything here crosses the boundary between kernel and userspace, or is needed on both sides.
#![no_std]

pub mod evidence;
pub mod filter;
pub mod histogram;
pub mod ledger;
pub mod names;
pub mod owner;
pub mod params;
pub mod record;
pub mod stack;
pub mod state;

pub use evidence::Evidence;
pub use filter::{CIDR_MAX, Cidr, Filter};
pub use ledger::Ledger;
pub use owner::Owner;
pub use params::{ClassicLayout, Params, ResetLayout, SockLayout, TaskLayout};
pub use record::{ABI_VERSION, Transition};
pub use stack::{StackCopy, StackHead};
pub use state::{StateSet, TcpState};
