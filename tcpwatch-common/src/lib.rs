//! What tcpwatch and its kernel side agree on: states, wire records, ledger, parameters, names.
//!
//! Everything here crosses the boundary between the kernel and userspace, or is needed on both sides of it.
#![no_std]

pub mod event;
pub mod filter;
pub mod ledger;
pub mod names;
pub mod params;
pub mod state;

pub use event::{ABI_VERSION, Transition};
pub use filter::{CIDR_MAX, Cidr, Filter};
pub use ledger::Ledger;
pub use params::{ClassicLayout, Params, SockLayout};
pub use state::{StateSet, TcpState};
