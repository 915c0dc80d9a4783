//! Evidence of how a connection ended, read from the socket at `*>CLOSE`. Userspace interprets it.

use bytemuck::{Pod, Zeroable};

/// [`Evidence::flags`]: the memory of the socket was read, so flags that are not set are known to be false.
pub const KNOWN: u16 = 1;
/// [`Evidence::flags`]: `sk_err` had the same value at the previous transition, so it does not explain this one.
pub const ERR_OLD: u16 = 2;
/// [`Evidence::flags`]: `SOCK_DEAD`, no process holds the socket any more.
pub const DEAD: u16 = 4;
/// [`Evidence::flags`]: `SOCK_DONE`, the peer's FIN arrived.
pub const DONE: u16 = 8;
/// [`Evidence::flags`]: `sk_socket` is null: never accepted, or an orphan.
pub const NO_SOCKET: u16 = 16;
/// [`Evidence::flags`]: the peer acknowledged everything (`snd_una == write_seq`).
pub const ALL_ACKED: u16 = 32;
/// [`Evidence::flags`]: this connection never had a local port.
pub const NO_PORT: u16 = 64;
/// [`Evidence::flags`]: `tcp:tcp_receive_reset` fired for the socket.
pub const RESET_RECEIVED: u16 = 128;
/// [`Evidence::flags`]: `tcp:tcp_send_reset` fired for the socket; see [`Evidence::reason`].
pub const RESET_SENT: u16 = 256;
/// [`Evidence::flags`]: the reset was sent after `*>CLOSE`.
pub const RESET_AFTER: u16 = 512;

/// Evidence of how a connection ended. Eight bytes, because it is also the key in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Evidence {
    /// `sk_err`, an errno.
    pub err: u16,
    /// The flags above.
    pub flags: u16,
    /// State left, the kernel's number; 0 if the connection did not end.
    pub from: u8,
    /// `sk_shutdown`: 1 receive, 2 send.
    pub shutdown: u8,
    /// `enum sk_rst_reason` of the sent reset, the running kernel's number; 0 if there is none.
    pub reason: u8,
    /// Zero.
    pub reserved: u8,
}

impl Evidence {
    /// The key in the ledger; 0 for no evidence.
    #[inline(always)]
    #[must_use]
    pub fn key(self) -> u64 {
        bytemuck::cast(self)
    }

    /// The evidence with this key.
    #[inline(always)]
    #[must_use]
    pub fn from_key(key: u64) -> Self {
        bytemuck::cast(key)
    }
}

/// The number of different endings that one CPU can count. A host usually has 10 to 25.
pub const ENDS: usize = 64;

/// The number of endings with the same evidence, on one CPU. It may be negative, because another CPU may take back a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EndCount {
    /// [`Evidence::key`]; 0 for a free entry.
    pub key: u64,
    /// Number of endings.
    pub count: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let evidence = Evidence {
            err: 104,
            flags: KNOWN | RESET_AFTER,
            from: 11,
            shutdown: 3,
            reason: 255,
            reserved: 0,
        };
        assert_eq!(Evidence::from_key(evidence.key()), evidence);
        assert_eq!(Evidence::default().key(), 0);
    }
}
