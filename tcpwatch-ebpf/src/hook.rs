//! What the two hooks have in common, as the body of both sees it.

use aya_ebpf::EbpfContext;

use crate::lives::Kept;
use crate::socket::{Ends, Memory};

/// A transition, as a hook presents it.
pub(crate) trait Hook {
    /// The context, for the log.
    type Context: EbpfContext;
    /// The way to read kernel memory from here.
    type Sk: Memory;
    fn context(&self) -> &Self::Context;
    /// The socket's memory, to be read only where [`Self::known`].
    fn sk(&self) -> Self::Sk;
    /// Where the socket lies, the key of what is kept by address.
    fn address(&self) -> u64;
    /// Whether it is known where the kernel keeps a socket's fields.
    fn known(&self) -> bool;
    /// State left and state entered.
    fn states(&self) -> (u32, u32);
    /// IP protocol.
    fn protocol(&self) -> u16;
    /// Address family.
    fn family(&self) -> u8;
    /// Inode number of the network namespace; 0 when unknown.
    fn netns(&self) -> u32;
    /// What is kept of the socket; nothing where there is nothing and the kernel gives no room, or `create` is false.
    fn kept(&self, create: bool) -> Kept<'_>;
    /// Forgets a socket that nobody will ask for again, where the kernel does not by itself.
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
    /// Both ends, with the local port given.
    fn ends(&self, lport: u16) -> Ends;
    /// Interface and cookie; 0 where unknown.
    fn extras(&self) -> (u32, u64);
    /// Whether a walk can mark the sockets there are, so that the counts start exact.
    const MARKS: bool;
}
