//! What the two hooks have in common, as the programs see it.

pub(crate) mod classic;
pub(crate) mod typed;

use aya_ebpf::EbpfContext;
use aya_ebpf::maps::ProgramArray;

use crate::run::Run;
use crate::sock::{Endpoints, Memory};
use crate::sock_state::Kept;
use crate::step::Step;

/// [`Hook::COPY`] of the first copy of the programs, the only one on the classic hook.
pub(crate) const FIRST: u32 = 0;
/// [`Hook::COPY`] of the second.
pub(crate) const SECOND: u32 = 1;

/// A transition, as a hook presents it.
pub(crate) trait Hook: Sized {
    /// The context of the program.
    type Context: EbpfContext;
    /// How to read the memory of the socket from here.
    type Sk: Memory;
    /// Which copy of the programs this is.
    const COPY: u32;
    /// The jump table of the programs of this hook.
    fn stages() -> &'static ProgramArray;
    /// The transition, in the program that is attached; `None` where it cannot be read.
    fn entered(ctx: &Self::Context) -> Option<Self>;
    /// The same transition, in a program that was called.
    fn resumed(ctx: &Self::Context) -> Option<Self>;
    /// The context, for the log.
    fn context(&self) -> &Self::Context;
    /// The memory of the socket, to be read only where [`Self::known`].
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
    /// Inode number of the network namespace; 0 when unknown.
    fn netns(&self) -> u32;
    /// What is kept of the socket; nothing where there is nothing and the kernel gives no room, or `create` is false.
    fn kept(&self, create: bool) -> Kept<'_>;
    /// Whether nothing is kept of the socket, where that is quickly seen. Ask this before the paths of a program fork, as
    /// [`crate::close_info::has_socket`].
    #[inline(always)]
    fn keeps_nothing(&self) -> bool {
        false
    }
    /// Drops what is kept of the socket, where the kernel does not.
    fn forget(&self);
    /// Local port the socket is bound to, host order; 0 for none.
    fn bound_port(&self) -> u16;
    /// `inet_sport`, network order: the bound port, or one left over.
    fn source_port(&self) -> u16;
    /// `inet_sport` left over from an earlier connection when another opens, network order; 0 where the port is bound.
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
    /// Called when the last program of the chain is done.
    fn finish(&self, run: &Run);
}
