//! Reads the fields of a socket, at the offsets that the loader found. No other module does.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{self, bpf_skc_to_tcp_sock};
use aya_ebpf::programs::TracePointContext;
use tcpwatch_common::params::ABSENT;
use tcpwatch_common::record::{AF_INET, AF_INET6};

use crate::params::param;
use crate::words::put;

/// `IPPROTO_TCP`.
pub(crate) const IPPROTO_TCP: u16 = 6;

/// Reads the memory of a kernel object.
pub(crate) trait Memory: Copy {
    /// Reads the `T` at `offset` bytes from the start.
    fn read<T: Copy + Default>(self, offset: u32) -> T;
    /// The type for objects behind its pointers.
    type Object: Memory;
    /// The object behind the pointer at `offset`.
    fn follow(self, offset: u32) -> Self::Object;
    /// The address of the object.
    fn address(self) -> *const u8;
    /// This TCP socket as a `struct tcp_sock`.
    fn tcp(self) -> Option<Self>;
}

/// A typed pointer: plain loads, which the verifier checks and the kernel guards.
#[derive(Clone, Copy)]
pub(crate) struct Typed(pub *const u8);

impl Memory for Typed {
    type Object = Self;

    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u32) -> T {
        // SAFETY: the verifier proves that the load is within the type, or refuses the program.
        unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast()) }
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        // SAFETY: as above; the kernel types the pointer it loads.
        Self(unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast()) })
    }

    #[inline(always)]
    fn address(self) -> *const u8 {
        self.0
    }

    #[inline(always)]
    fn tcp(self) -> Option<Self> {
        // SAFETY: the helper takes the typed socket, and returns it with its wider type.
        let tcp: *const u8 = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) }
            .cast_const()
            .cast();
        if tcp.is_null() { None } else { Some(Self(tcp)) }
    }
}

/// An untyped address: every read is a helper call, and a failed read returns zero.
#[derive(Clone, Copy)]
pub(crate) struct Bare(pub *const u8);

impl Memory for Bare {
    type Object = Self;

    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u32) -> T {
        probe(self.0, offset)
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        Self(probe::<u64>(self.0, offset) as *const u8)
    }

    #[inline(always)]
    fn address(self) -> *const u8 {
        self.0
    }

    #[inline(always)]
    fn tcp(self) -> Option<Self> {
        Some(self)
    }
}

/// A socket at an untyped address, with a copy of its first bytes: one helper call costs more than copying them.
#[repr(C, align(8))]
pub(crate) struct SocketCopy {
    address: u64,
    bytes: [u8; 320],
}

impl SocketCopy {
    /// Copies the socket at `address`; zeros if it cannot be read.
    #[inline(always)]
    pub(crate) fn copy(&mut self, address: u64) {
        self.address = address;
        // SAFETY: the helper takes any address, and writes at most the given number of bytes.
        unsafe {
            generated::bpf_probe_read_kernel(
                self.bytes.as_mut_ptr().cast(),
                size_of_val(&self.bytes) as u32,
                address as *const c_void,
            )
        };
    }
}

/// A socket whose first bytes were copied.
#[derive(Clone, Copy)]
pub(crate) struct Copied<'a>(pub &'a SocketCopy);

impl Memory for Copied<'_> {
    type Object = Bare;

    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u32) -> T {
        if offset as usize + size_of::<T>() <= size_of_val(&self.0.bytes) {
            // SAFETY: the range is within the copy, and any bytes are a valid `T` (an integer or an array of integers).
            // Volatile, because the loader sets the offset.
            unsafe { core::ptr::read_volatile(self.0.bytes.as_ptr().wrapping_add(offset as usize).cast()) }
        } else {
            probe(self.address(), offset)
        }
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Bare {
        Bare(self.read::<u64>(offset) as *const u8)
    }

    #[inline(always)]
    fn address(self) -> *const u8 {
        self.0.address as *const u8
    }

    #[inline(always)]
    fn tcp(self) -> Option<Self> {
        Some(self)
    }
}

/// Reads memory that a typed pointer may not reach: the helper copies it, and returns an error instead of a fault.
#[inline(always)]
pub(crate) fn probe<T: Copy + Default>(base: *const u8, offset: u32) -> T {
    // SAFETY: `bpf_probe_read_kernel` takes any address.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast()) }.unwrap_or_default()
}

/// The word at `offset` of a classic tracepoint's record, read by a helper, because a program may read its context only at
/// constant offsets.
#[inline(always)]
pub(crate) fn word<T: Copy + Default>(ctx: &TracePointContext, offset: u32) -> T {
    probe(ctx.as_ptr().cast_const().cast(), offset)
}

/// The two endpoints of a socket at one moment. Ports are in host order, 0 for none.
#[derive(Clone, Copy)]
pub(crate) struct Endpoints {
    /// Address family.
    pub(crate) family: u8,
    /// Local port.
    pub(crate) lport: u16,
    /// Remote port.
    pub(crate) rport: u16,
    /// Local address: all four words for IPv6, the first for IPv4.
    pub(crate) local: [u32; 4],
    /// Remote address, likewise.
    pub(crate) remote: [u32; 4],
}

/// IP protocol of the socket (`sk_protocol`), by its low 16 bits.
#[inline(always)]
pub(crate) fn protocol(sk: impl Memory) -> u16 {
    sk.read(param!(SOCK.protocol))
}

/// Address family.
#[inline(always)]
pub(crate) fn family(sk: impl Memory) -> u8 {
    sk.read::<u16>(param!(SOCK.family)) as u8
}

/// Inode number of the network namespace.
#[inline(always)]
pub(crate) fn netns(sk: impl Memory) -> u32 {
    sk.follow(param!(SOCK.net)).read(param!(SOCK.net_inum))
}

/// Interface that the socket is bound to; 0 for none.
#[inline(always)]
pub(crate) fn ifindex(sk: impl Memory) -> u32 {
    sk.read(param!(SOCK.ifindex))
}

/// State of a socket in a walk; 12 for a request socket, 6 for a timewait socket.
#[inline(always)]
pub(crate) fn state(sk: impl Memory) -> u8 {
    sk.read(param!(SOCK.state))
}

/// The state inside a timewait socket: `TIME_WAIT` or `FIN_WAIT2`.
#[inline(always)]
pub(crate) fn timewait_substate(sk: impl Memory) -> u8 {
    match param!(SOCK.tw_substate) {
        ABSENT => 6,
        // The field is after `struct sock_common`, which is the type of a walk's pointer.
        offset => probe(sk.address(), offset),
    }
}

/// The cookie of the socket, if it already has one; 0 for none.
#[inline(always)]
pub(crate) fn cookie(sk: impl Memory) -> u64 {
    sk.read(param!(SOCK.cookie))
}

/// Local port that the socket is bound to (`inet_num`), host order; 0 for none.
#[inline(always)]
pub(crate) fn bound_port(sk: impl Memory) -> u16 {
    sk.read(param!(SOCK.num))
}

/// `inet_sport`, network order. It outlives the binding and the connection.
#[inline(always)]
pub(crate) fn source_port(sk: impl Memory) -> u16 {
    // The field is after `struct sock`, which is the type of the tracepoint's pointer.
    probe(sk.address(), param!(SOCK.sport))
}

/// `sk_err`, an errno; 0 for none.
#[inline(always)]
pub(crate) fn err(sk: impl Memory) -> u16 {
    sk.read::<u32>(param!(SOCK.err)) as u16
}

/// `sk_flags`, one bit for each `enum sock_flags`.
#[inline(always)]
pub(crate) fn flags(sk: impl Memory) -> u64 {
    sk.read(param!(SOCK.flags))
}

/// `sk_shutdown`.
#[inline(always)]
pub(crate) fn shutdown(sk: impl Memory) -> u8 {
    sk.read(param!(SOCK.shutdown))
}

/// Whether the socket has a `struct socket`: an application holds it, or held it a moment ago.
#[inline(always)]
pub(crate) fn has_socket(sk: impl Memory) -> bool {
    sk.read::<u64>(param!(SOCK.socket)) != 0
}

/// Whether no BPF program has stored data with the socket.
#[inline(always)]
pub(crate) fn has_no_storage(sk: impl Memory) -> bool {
    param!(SOCK.storage) != ABSENT && sk.read::<u64>(param!(SOCK.storage)) == 0
}

/// Inode number of the socket, as in `/proc/PID/fd`; 0 for none.
#[inline(always)]
pub(crate) fn inode(sk: impl Memory) -> u32 {
    // Not a typed load, because the verifier would search all types for each path to it: see `close_info::has_socket`.
    let socket: u64 = probe(sk.address(), param!(SOCK.socket));
    if socket == 0 {
        return 0;
    }
    // The inode is after the `struct socket`, in a type that contains both.
    probe::<u64>(socket as *const u8, param!(SOCK.socket_inode)) as u32
}

/// Whether the peer acknowledged everything.
#[inline(always)]
pub(crate) fn all_acked(sk: impl Memory) -> bool {
    sk.tcp()
        .is_some_and(|tcp| tcp.read::<u32>(param!(SOCK.snd_una)) == tcp.read::<u32>(param!(SOCK.write_seq)))
}

/// Byte and segment counters of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) received: u64,
    pub(crate) in_flight: u32,
    pub(crate) unsent: u32,
    pub(crate) srtt_us: u32,
    pub(crate) retransmits: u32,
}

impl Traffic {
    /// Unknown counters.
    pub(crate) const NONE: Self = Self {
        sent: 0,
        acked: 0,
        received: 0,
        in_flight: 0,
        unsent: 0,
        srtt_us: 0,
        retransmits: 0,
    };
}

/// The counters of `sk` until now. A received FIN counts as a byte.
#[inline(always)]
pub(crate) fn traffic(sk: impl Memory) -> Option<Traffic> {
    let tcp = sk.tcp()?;
    let snd_nxt: u32 = tcp.read(param!(SOCK.snd_nxt));
    Some(Traffic {
        sent: tcp
            .read::<u64>(param!(SOCK.bytes_sent))
            .wrapping_sub(tcp.read::<u64>(param!(SOCK.bytes_retrans))),
        acked: tcp.read(param!(SOCK.bytes_acked)),
        received: tcp.read(param!(SOCK.bytes_received)),
        in_flight: snd_nxt.wrapping_sub(tcp.read(param!(SOCK.snd_una))),
        unsent: tcp.read::<u32>(param!(SOCK.write_seq)).wrapping_sub(snd_nxt),
        srtt_us: tcp.read::<u32>(param!(SOCK.srtt_us)) >> 3,
        retransmits: tcp.read(param!(SOCK.total_retrans)),
    })
}

/// Remote address and port, and local address, of `sk`; the local port is `lport`.
#[inline(always)]
pub(crate) fn endpoints(sk: impl Memory, lport: u16) -> Endpoints {
    let family = family(sk);
    let (local, remote) = match family {
        AF_INET => (
            [sk.read(param!(SOCK.saddr)), 0, 0, 0],
            [sk.read(param!(SOCK.daddr)), 0, 0, 0],
        ),
        AF_INET6 if param!(SOCK.saddr_v6) != ABSENT => {
            (words(sk, param!(SOCK.saddr_v6)), words(sk, param!(SOCK.daddr_v6)))
        }
        _ => ([0; 4], [0; 4]),
    };
    Endpoints {
        family,
        lport,
        rport: remote_port(sk),
        local,
        remote,
    }
}

/// Writes the remote address of `sk`; the first word alone for IPv4.
#[inline(always)]
pub(crate) fn write_remote(sk: impl Memory, remote: &mut [u32; 4]) {
    match family(sk) {
        AF_INET => put(remote, [sk.read(param!(SOCK.daddr)), 0, 0, 0]),
        AF_INET6 if param!(SOCK.saddr_v6) != ABSENT => put(remote, words(sk, param!(SOCK.daddr_v6))),
        _ => put(remote, [0; 4]),
    }
}

/// Writes both addresses of `sk`.
#[inline(always)]
pub(crate) fn write_addresses(sk: impl Memory, local: &mut [u32; 4], remote: &mut [u32; 4]) {
    match family(sk) {
        AF_INET => put(local, [sk.read(param!(SOCK.saddr)), 0, 0, 0]),
        AF_INET6 if param!(SOCK.saddr_v6) != ABSENT => put(local, words(sk, param!(SOCK.saddr_v6))),
        _ => put(local, [0; 4]),
    }
    write_remote(sk, remote);
}

/// Remote port of `sk`, host order; 0 for none.
#[inline(always)]
pub(crate) fn remote_port(sk: impl Memory) -> u16 {
    u16::from_be(sk.read(param!(SOCK.dport)))
}

/// Sixteen bytes as words, which typed loads can read.
#[inline(always)]
fn words(sk: impl Memory, offset: u32) -> [u32; 4] {
    [
        sk.read(offset),
        sk.read(offset + 4),
        sk.read(offset + 8),
        sk.read(offset + 12),
    ]
}
