//! The classic tracepoint hook.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::TracePointContext;
use tcpwatch_common::params::CLASSIC_RECORD_MAX;
use tcpwatch_common::record::AF_INET;

use super::{FIRST, Hook};
use crate::close_info;
use crate::maps::{CLASSIC_RECORD, STAGES_CLASSIC};
use crate::params::param;
use crate::run::Run;
use crate::sock::{self, Copied, Endpoints, SocketCopy};
use crate::sock_state::{self, Kept, Storage};
use crate::step::Step;
use crate::words::put;

/// The classic tracepoint: its record, and the memory of the socket if BTF has the offsets.
pub(crate) struct ClassicHook<'a> {
    ctx: &'a TracePointContext,
    record: &'a Record,
}

/// A copy of the tracepoint's record, because a program may read its context only at constant offsets, and of the socket's
/// first bytes.
#[repr(C, align(8))]
pub(crate) struct Record {
    record: [u8; CLASSIC_RECORD_MAX],
    socket: SocketCopy,
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

impl<'a> ClassicHook<'a> {
    /// The copy of the record of this CPU.
    #[inline(always)]
    fn record<'r>() -> Option<&'r mut Record> {
        // SAFETY: the entry of this CPU, on which no other classic program runs until this run is done (`bpf_prog_active`).
        Some(unsafe { &mut *CLASSIC_RECORD.get_ptr_mut(0)? })
    }

    #[inline(always)]
    fn new(ctx: &TracePointContext, record: &'a Record) -> Self {
        // SAFETY: the context outlives the program that uses this.
        let ctx = unsafe { &*core::ptr::from_ref(ctx) };
        Self { ctx, record }
    }
}

impl<'a> Hook for ClassicHook<'a> {
    type Context = TracePointContext;
    type Sk = Copied<'a>;
    const COPY: u32 = FIRST;

    #[inline(always)]
    fn stages() -> &'static ProgramArray {
        &STAGES_CLASSIC
    }

    #[inline(always)]
    fn entered(ctx: &TracePointContext) -> Option<Self> {
        let record = Self::record()?;
        // SAFETY: the helper writes at most the given number of bytes, zeros if it cannot read.
        let failed = unsafe {
            bpf_probe_read_kernel(
                record.record.as_mut_ptr().cast(),
                CLASSIC_RECORD_MAX as u32,
                ctx.as_ptr().cast(),
            )
        };
        if failed != 0 {
            return None;
        }
        if param!(SOCK.known) != 0 {
            record.socket.copy(record.read(param!(CLASSIC.skaddr)));
        }
        Some(Self::new(ctx, record))
    }

    #[inline(always)]
    fn resumed(ctx: &TracePointContext) -> Option<Self> {
        Some(Self::new(ctx, Self::record()?))
    }

    #[inline(always)]
    fn context(&self) -> &TracePointContext {
        self.ctx
    }

    #[inline(always)]
    fn sk(&self) -> Copied<'a> {
        Copied(&self.record.socket)
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
    fn step(&self) -> Step {
        Step {
            from: self.record.read::<u32>(param!(CLASSIC.oldstate)) & 15,
            to: self.record.read::<u32>(param!(CLASSIC.newstate)) & 15,
        }
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
        if self.known() { sock::netns(self.sk()) } else { 0 }
    }

    #[inline(always)]
    fn kept<'s>(&self, storage: &'s mut Storage, create: bool) -> Kept<'s> {
        sock_state::by_address(storage, self.address(), create)
    }

    #[inline(always)]
    fn forget(&self) {
        sock_state::drop_at_close(self.address());
    }

    #[inline(always)]
    fn bound_port(&self) -> u16 {
        // The record does not have the bound port. It has `inet_sport`, which may be left over when a connection opens.
        if self.known() { sock::bound_port(self.sk()) } else { 0 }
    }

    #[inline(always)]
    fn source_port(&self) -> u16 {
        self.record.read::<u16>(param!(CLASSIC.sport)).to_be()
    }

    #[inline(always)]
    fn endpoints(&self, lport: u16) -> Endpoints {
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
        Endpoints {
            family,
            lport,
            rport: self.record.read(param!(CLASSIC.dport)),
            local,
            remote,
        }
    }

    #[inline(always)]
    fn write_addresses(&self, local: &mut [u32; 4], remote: &mut [u32; 4]) {
        if self.family() == AF_INET {
            put(local, [self.record.read(param!(CLASSIC.saddr)), 0, 0, 0]);
            put(remote, [self.record.read(param!(CLASSIC.daddr)), 0, 0, 0]);
        } else {
            put(local, self.record.words(param!(CLASSIC.saddr_v6)));
            put(remote, self.record.words(param!(CLASSIC.daddr_v6)));
        }
    }

    #[inline(always)]
    fn remote_port(&self) -> u16 {
        self.record.read(param!(CLASSIC.dport))
    }

    #[inline(always)]
    fn extras(&self) -> (u32, u64) {
        if self.known() {
            (sock::ifindex(self.sk()), sock::cookie(self.sk()))
        } else {
            (0, 0)
        }
    }

    #[inline(always)]
    fn finish(&self, run: &Run) {
        if close_info::is_final(run) {
            self.forget();
        }
    }
}
