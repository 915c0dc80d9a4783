//! What the loader tells the kernel side through `.rodata`: where the running kernel keeps a field, and switches.

use bytemuck::{Pod, Zeroable};

/// Where a field is not: the running kernel did not tell.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets from the start of `struct sock` (and of what it embeds or points at), from the kernel's BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SockLayout {
    /// 1 when the offsets below are known.
    pub known: u32,
    /// `sk.__sk_common.skc_family`, u16.
    pub family: u32,
    /// `sk.__sk_common.skc_state`, u8.
    pub state: u32,
    /// `sk.__sk_common.skc_num`, u16, host order.
    pub num: u32,
    /// `sk.__sk_common.skc_dport`, u16, network order.
    pub dport: u32,
    /// `sk.__sk_common.skc_rcv_saddr`, u32.
    pub saddr: u32,
    /// `sk.__sk_common.skc_daddr`, u32.
    pub daddr: u32,
    /// `sk.__sk_common.skc_v6_rcv_saddr`, 16 bytes.
    pub saddr_v6: u32,
    /// `sk.__sk_common.skc_v6_daddr`, 16 bytes.
    pub daddr_v6: u32,
    /// `sk.__sk_common.skc_bound_dev_if`, i32.
    pub ifindex: u32,
    /// `sk.__sk_common.skc_net.net`, pointer.
    pub net: u32,
    /// `sk.__sk_common.skc_cookie`, u64.
    pub cookie: u32,
    /// `net.ns.inum`, u32, from the start of `struct net`.
    pub net_inum: u32,
    /// `sk.sk_protocol`, u16 or the low half of it.
    pub protocol: u32,
    /// `inet_sock.inet_sport`, u16, network order.
    pub sport: u32,
    /// `inet_timewait_sock.tw_substate`, u8.
    pub tw_substate: u32,
}

impl SockLayout {
    /// Nothing is known: no field may be read.
    pub const UNKNOWN: Self = Self {
        known: 0,
        family: 0,
        state: 0,
        num: 0,
        dport: 0,
        saddr: 0,
        daddr: 0,
        saddr_v6: 0,
        daddr_v6: 0,
        ifindex: 0,
        net: 0,
        cookie: 0,
        net_inum: 0,
        protocol: 0,
        sport: 0,
        tw_substate: ABSENT,
    };
}

/// Byte offsets in the record of the classic tracepoint, from tracefs `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ClassicLayout {
    /// `skaddr`, pointer.
    pub skaddr: u32,
    /// `oldstate`, i32.
    pub oldstate: u32,
    /// `newstate`, i32.
    pub newstate: u32,
    /// `sport`, u16, host order.
    pub sport: u32,
    /// `dport`, u16, host order.
    pub dport: u32,
    /// `family`, u16.
    pub family: u32,
    /// `protocol`, u16 since 5.6, which is older than the ring buffer.
    pub protocol: u32,
    /// `saddr`, 4 bytes.
    pub saddr: u32,
    /// `daddr`, 4 bytes.
    pub daddr: u32,
    /// `saddr_v6`, 16 bytes.
    pub saddr_v6: u32,
    /// `daddr_v6`, 16 bytes.
    pub daddr_v6: u32,
}

impl ClassicLayout {
    /// Nothing is known: the classic hook may not run.
    pub const UNKNOWN: Self = Self {
        skaddr: 0,
        oldstate: 0,
        newstate: 0,
        sport: 0,
        dport: 0,
        family: 0,
        protocol: 0,
        saddr: 0,
        daddr: 0,
        saddr_v6: 0,
        daddr_v6: 0,
    };
}

/// The longest record of the classic tracepoint the kernel side can read, bytes.
pub const CLASSIC_RECORD_MAX: usize = 96;

/// Switches. A branch on one that is off is pruned by the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    /// 1 to write a record for each transition into the ring buffer.
    pub stream: u32,
    /// CPUs the kernel may have, to number lives without a shared counter.
    pub cpus: u32,
    /// Bytes of unread records at which the reader is woken.
    pub wake_bytes: u32,
    /// A CPU looks whether to wake the reader when the number of records it sent has none of these bits.
    pub wake_mask: u32,
    /// 1 where a run of the program may interrupt another on the same CPU (before Linux 6.1, `tp_btf`).
    pub nests: u32,
    /// Zero.
    pub reserved: u32,
}
