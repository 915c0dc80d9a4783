//! Reads what strangers wrote, programs, their debug information and perf maps, in a process without privileges.
//!
//! tcpwatch executes itself with the hidden command `symboliser` and asks it over a socket ([`client`], [`wire`]). It gets open
//! descriptors only. It has no capabilities, a user of its own, and may make no system call that opens anything ([`sandbox`]). When it
//! dies or takes too long, what it was asked is unknown, and the next question starts another.

mod client;
mod elf;
mod functions;
#[doc(hidden)]
pub mod fuzzed;
mod perf_map;
mod sandbox;
mod server;
mod unwind;
mod unwinding;
mod walk;
mod wire;

pub use client::{Answer, Ask, Stopped, Symboliser};
pub use server::serve;
pub use wire::{Copied, Found, Frame, MapId, Place, Walked};
