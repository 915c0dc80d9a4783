//! The classic tracepoint hook.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::programs::TracePointContext;
use tcpwatch_common::event::AF_INET;
use tcpwatch_common::params::CLASSIC_RECORD_MAX;

use crate::hook::Hook;
use crate::lives::{self, Kept};
use crate::maps::CLASSIC_RECORD;
use crate::params::param;
use crate::socket::{self, Copied, Ends, Start};

/// The classic tracepoint: its record, and the socket's memory where the kernel's BTF told the offsets.
pub(crate) struct ClassicHook<'a> {
    ctx: &'a TracePointContext,
    record: &'a Record,
}

/// The tracepoint's record, copied: a program may not read its context at an offset it was told. Beside it the socket's start.
#[repr(C, align(8))]
pub(crate) struct Record {
    record: [u8; CLASSIC_RECORD_MAX],
    start: Start,
}

impl Record {
    /// The `T` at `offset`.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: the loader keeps every offset within the record, and the verifier proves it.
        unsafe { core::ptr::read_volatile(self.record.as_ptr().wrapping_add(offset as usize).cast()) }
    }

    #[inline(always)]
    fn words(&self, offset: u32) -> [u32; 4] {
        [
            self.read(offset),
            self.read(offset + 4),
            self.read(offset + 8),
            self.read(offset + 12),
        ]
    }
}

impl ClassicHook<'_> {
    /// Runs `body` with the transition `ctx` tells of. The record is this run's, and so goes no further.
    #[inline(always)]
    pub(crate) fn with(ctx: &TracePointContext, body: impl FnOnce(&ClassicHook<'_>)) {
        let Some(record) = CLASSIC_RECORD.get_ptr_mut(0) else {
            return;
        };
        // SAFETY: this CPU's, on which no other classic program runs until this one is done (`bpf_prog_active`).
        let record = unsafe { &mut *record };
        // SAFETY: the helper writes as many bytes as it is told there is room for, zeros where it cannot read.
        let failed = unsafe {
            bpf_probe_read_kernel(
                record.record.as_mut_ptr().cast(),
                CLASSIC_RECORD_MAX as u32,
                ctx.as_ptr().cast(),
            )
        };
        if failed != 0 {
            return;
        }
        if param!(SOCK.known) != 0 {
            record.start.copy(record.read(param!(CLASSIC.skaddr)));
        }
        body(&ClassicHook { ctx, record });
    }
}

impl<'a> Hook for ClassicHook<'a> {
    type Context = TracePointContext;
    type Sk = Copied<'a>;
    const MARKS: bool = false;

    #[inline(always)]
    fn context(&self) -> &TracePointContext {
        self.ctx
    }

    #[inline(always)]
    fn sk(&self) -> Copied<'a> {
        Copied(&self.record.start)
    }

    #[inline(always)]
    fn address(&self) -> u64 {
        self.record.read(param!(CLASSIC.skaddr))
    }

    #[inline(always)]
    fn known(&self) -> bool {
        param!(SOCK.known) != 0
    }

    #[inline(always)]
    fn states(&self) -> (u32, u32) {
        (
            self.record.read::<u32>(param!(CLASSIC.oldstate)) & 15,
            self.record.read::<u32>(param!(CLASSIC.newstate)) & 15,
        )
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        self.record.read(param!(CLASSIC.protocol))
    }

    #[inline(always)]
    fn family(&self) -> u8 {
        self.record.read::<u16>(param!(CLASSIC.family)) as u8
    }

    #[inline(always)]
    fn netns(&self) -> u32 {
        if self.known() { socket::netns(self.sk()) } else { 0 }
    }

    #[inline(always)]
    fn kept(&self, create: bool) -> Kept<'_> {
        lives::of_address(self.address(), create)
    }

    #[inline(always)]
    fn forget(&self) {
        // Where its death is heard of it is forgotten then: once, and not anew for each life.
        if param!(RESET.destroy_skaddr) == 0 {
            lives::forget_address(self.address());
        }
    }

    #[inline(always)]
    fn bound_port(&self) -> u16 {
        // The record has no word for it; what it has, `inet_sport`, may be left over when a connection opens.
        if self.known() { socket::bound_port(self.sk()) } else { 0 }
    }

    #[inline(always)]
    fn source_port(&self) -> u16 {
        self.record.read::<u16>(param!(CLASSIC.sport)).to_be()
    }

    #[inline(always)]
    fn ends(&self, lport: u16) -> Ends {
        let family = self.family();
        let (local, remote) = if family == AF_INET {
            (
                [self.record.read(param!(CLASSIC.saddr)), 0, 0, 0],
                [self.record.read(param!(CLASSIC.daddr)), 0, 0, 0],
            )
        } else {
            (
                self.record.words(param!(CLASSIC.saddr_v6)),
                self.record.words(param!(CLASSIC.daddr_v6)),
            )
        };
        Ends {
            family,
            lport,
            rport: self.record.read(param!(CLASSIC.dport)),
            local,
            remote,
        }
    }

    #[inline(always)]
    fn extras(&self) -> (u32, u64) {
        if self.known() {
            (socket::ifindex(self.sk()), socket::cookie(self.sk()))
        } else {
            (0, 0)
        }
    }
}
