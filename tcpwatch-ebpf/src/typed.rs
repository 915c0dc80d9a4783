//! The `tp_btf` hook.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::programs::BtfTracePointContext;

use crate::hook::Hook;
use crate::lives::{self, Kept};
use crate::socket::{self, Ends, Typed};

/// `tp_btf`: the socket is typed, its memory is read by plain loads.
pub(crate) struct TypedHook<'a> {
    ctx: &'a BtfTracePointContext,
    sk: Typed,
}

impl<'a> TypedHook<'a> {
    /// The transition `ctx` tells of.
    #[inline(always)]
    pub(crate) fn new(ctx: &'a BtfTracePointContext) -> Self {
        Self {
            ctx,
            sk: Typed(ctx.arg(0)),
        }
    }
}

impl Hook for TypedHook<'_> {
    type Context = BtfTracePointContext;
    type Sk = Typed;
    const MARKS: bool = true;

    #[inline(always)]
    fn context(&self) -> &BtfTracePointContext {
        self.ctx
    }

    #[inline(always)]
    fn sk(&self) -> Typed {
        self.sk
    }

    #[inline(always)]
    fn address(&self) -> u64 {
        self.sk.0 as u64
    }

    #[inline(always)]
    fn known(&self) -> bool {
        true
    }

    #[inline(always)]
    fn states(&self) -> (u32, u32) {
        let words: *const u64 = self.ctx.as_ptr().cast_const().cast();
        // SAFETY: the tracepoint has three arguments, a word each. Volatile: who reads again wants it read again.
        unsafe {
            (
                core::ptr::read_volatile(words.add(1)) as u32 & 15,
                core::ptr::read_volatile(words.add(2)) as u32 & 15,
            )
        }
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        socket::protocol(self.sk)
    }

    #[inline(always)]
    fn family(&self) -> u8 {
        socket::family(self.sk)
    }

    #[inline(always)]
    fn netns(&self) -> u32 {
        socket::netns(self.sk)
    }

    #[inline(always)]
    fn kept(&self, create: bool) -> Kept<'_> {
        lives::of_socket(self.sk.0, create)
    }

    #[inline(always)]
    fn forget(&self) {}

    #[inline(always)]
    fn bound_port(&self) -> u16 {
        socket::bound_port(self.sk)
    }

    #[inline(always)]
    fn source_port(&self) -> u16 {
        socket::source_port(self.sk)
    }

    #[inline(always)]
    fn ends(&self, lport: u16) -> Ends {
        socket::ends(self.sk, lport)
    }

    #[inline(always)]
    fn extras(&self) -> (u32, u64) {
        let cookie = match socket::cookie(self.sk) {
            // SAFETY: the helper takes the typed socket this program was given, and gives it a cookie.
            0 => unsafe { bpf_get_socket_cookie(self.sk.0.cast_mut().cast()) },
            cookie => cookie,
        };
        (socket::ifindex(self.sk), cookie)
    }
}
