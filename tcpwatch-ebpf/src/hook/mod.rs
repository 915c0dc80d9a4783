//! The common interface of the two hooks.

pub(crate) mod classic;
pub(crate) mod typed;

use aya_ebpf::EbpfContext;
use aya_ebpf::maps::ProgramArray;

use crate::run::Run;
use crate::sock::{Endpoints, Memory};
use crate::sock_state::{Kept, Storage};
use crate::step::Step;

/// [`Hook::COPY`] of the first copy of the programs, the only one on the classic hook.
pub(crate) const FIRST: u32 = 0;
/// [`Hook::COPY`] of the second copy.
pub(crate) const SECOND: u32 = 1;

/// A transition, as a hook presents it.
pub(crate) trait Hook: Sized {
    /// The context of the program.
    type Context: EbpfContext;
    /// The type that reads the memory of the socket.
    type Sk: Memory;
    /// Which copy of the programs this is.
    const COPY: u32;
    /// The jump table of the programs of this hook.
    fn stages() -> &'static ProgramArray;
    /// Reads the transition in the entry program; `None` if it cannot be read.
    fn entered(ctx: &Self::Context) -> Option<Self>;
    /// Reads the same transition in a program that was called by tail call.
    fn resumed(ctx: &Self::Context) -> Option<Self>;
    /// The context, for the log.
    fn context(&self) -> &Self::Context;
    /// The memory of the socket. Read it only if [`Self::known`].
    fn sk(&self) -> Self::Sk;
    /// The address of the socket.
    fn address(&self) -> u64;
    /// Whether the offsets of a socket's fields are known.
    fn known(&self) -> bool;
    /// State left and state entered.
    fn step(&self) -> Step;
    /// IP protocol.
    fn protocol(&self) -> u16;
    /// Address family.
    fn family(&self) -> u8;
    /// Inode number of the network namespace; 0 if unknown.
    fn netns(&self) -> u32;
    /// The stored state of the socket. If there is none and `create`, creates it; empty if the kernel has no room.
    fn kept<'s>(&self, storage: &'s mut Storage, create: bool) -> Kept<'s>;
    /// Whether there is certainly no stored state of the socket (a quick check). Call this before the paths of a program
    /// branch, like [`crate::close_info::has_socket`].
    #[inline(always)]
    fn keeps_nothing(&self) -> bool {
        false
    }
    /// Drops the stored state of the socket, if the kernel does not.
    fn forget(&self);
    /// Local port that the socket is bound to, host order; 0 for none.
    fn bound_port(&self) -> u16;
    /// `inet_sport`, network order: the bound port, or a port left over from an earlier connection.
    fn source_port(&self) -> u16;
    /// `inet_sport` left over from an earlier connection when a new one opens, network order; 0 if the port is bound.
    #[inline(always)]
    fn stale_port(&self) -> u16 {
        if self.bound_port() == 0 { self.source_port() } else { 0 }
    }
    /// Both endpoints, with the local port given.
    fn endpoints(&self, lport: u16) -> Endpoints;
    /// Writes both addresses.
    fn write_addresses(&self, local: &mut [u32; 4], remote: &mut [u32; 4]);
    /// Remote port, host order; 0 for none.
    fn remote_port(&self) -> u16;
    /// Interface and cookie; 0 where unknown.
    fn extras(&self) -> (u32, u64);
    /// Called after the last program of the chain.
    fn finish(&self, run: &Run);
}
