//! The `tp_btf` hook.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::BtfTracePointContext;

use super::{FIRST, Hook};
use crate::close_info;
use crate::maps::{STAGES_TYPED, STAGES_TYPED2};
use crate::params::param;
use crate::run::Run;
use crate::sock::{self, Endpoints, Typed};
use crate::sock_state::{self, Kept, Storage};
use crate::step::Step;

/// The `tp_btf` hook: the socket is typed, so plain loads read its memory. `COPY` is the copy of the programs.
pub(crate) struct TypedHook<'a, const COPY: u32> {
    ctx: &'a BtfTracePointContext,
    sk: Typed,
}

impl<const COPY: u32> TypedHook<'_, COPY> {
    /// The transition that `ctx` reports.
    #[inline(always)]
    fn new(ctx: &BtfTracePointContext) -> Self {
        // SAFETY: the context outlives the program that uses this.
        let ctx = unsafe { &*core::ptr::from_ref(ctx) };
        Self {
            ctx,
            sk: Typed(ctx.arg(0)),
        }
    }
}

impl<const COPY: u32> Hook for TypedHook<'_, COPY> {
    type Context = BtfTracePointContext;
    type Sk = Typed;
    const COPY: u32 = COPY;

    #[inline(always)]
    fn stages() -> &'static ProgramArray {
        if COPY == FIRST { &STAGES_TYPED } else { &STAGES_TYPED2 }
    }

    #[inline(always)]
    fn entered(ctx: &BtfTracePointContext) -> Option<Self> {
        Some(Self::new(ctx))
    }

    #[inline(always)]
    fn resumed(ctx: &BtfTracePointContext) -> Option<Self> {
        Some(Self::new(ctx))
    }

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
    fn step(&self) -> Step {
        Step {
            from: self.ctx.arg::<u32>(1) & 15,
            to: self.ctx.arg::<u32>(2) & 15,
        }
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        sock::protocol(self.sk)
    }

    #[inline(always)]
    fn family(&self) -> u8 {
        sock::family(self.sk)
    }

    #[inline(always)]
    fn netns(&self) -> u32 {
        sock::netns(self.sk)
    }

    #[inline(always)]
    fn kept<'s>(&self, storage: &'s mut Storage, create: bool) -> Kept<'s> {
        sock_state::of_typed(storage, self.sk.0, create)
    }

    #[inline(always)]
    fn keeps_nothing(&self) -> bool {
        param!(PARAMS.sk_storage) != 0 && sock::has_no_storage(self.sk)
    }

    #[inline(always)]
    fn forget(&self) {
        if param!(PARAMS.sk_storage) == 0 {
            sock_state::drop_at_close(self.address());
        }
    }

    #[inline(always)]
    fn bound_port(&self) -> u16 {
        sock::bound_port(self.sk)
    }

    #[inline(always)]
    fn source_port(&self) -> u16 {
        sock::source_port(self.sk)
    }

    #[inline(always)]
    fn endpoints(&self, lport: u16) -> Endpoints {
        sock::endpoints(self.sk, lport)
    }

    #[inline(always)]
    fn write_addresses(&self, local: &mut [u32; 4], remote: &mut [u32; 4]) {
        sock::write_addresses(self.sk, local, remote);
    }

    #[inline(always)]
    fn remote_port(&self) -> u16 {
        sock::remote_port(self.sk)
    }

    #[inline(always)]
    fn extras(&self) -> (u32, u64) {
        let cookie = match sock::cookie(self.sk) {
            // SAFETY: the helper takes the typed socket of this program, and assigns a cookie.
            0 if param!(PARAMS.socket_cookie) != 0 => unsafe { bpf_get_socket_cookie(self.sk.0.cast_mut().cast()) },
            cookie => cookie,
        };
        (sock::ifindex(self.sk), cookie)
    }

    #[inline(always)]
    fn finish(&self, run: &Run) {
        if param!(PARAMS.sk_storage) == 0 && close_info::is_final(run) {
            self.forget();
        }
    }
}

const _: () = assert!(size_of::<*const u8>() == 8);
