//! What a socket tells of its end at `*>CLOSE`. What it means is decided in userspace.

use bytemuck::{Pod, Zeroable};

/// [`Evidence::flags`]: the socket's memory was read, so that what is not set is not so.
pub const KNOWN: u16 = 1;
/// [`Evidence::flags`]: `sk_err` was the same at the transition before, and so says nothing of this one.
pub const ERR_OLD: u16 = 2;
/// [`Evidence::flags`]: `SOCK_DEAD`, nobody holds the socket any more.
pub const DEAD: u16 = 4;
/// [`Evidence::flags`]: `SOCK_DONE`, the peer's FIN has come.
pub const DONE: u16 = 8;
/// [`Evidence::flags`]: `sk_socket` is null: never accepted, or an orphan.
pub const NO_SOCKET: u16 = 16;
/// [`Evidence::flags`]: everything sent was acknowledged (`snd_una == write_seq`).
pub const ALL_ACKED: u16 = 32;
/// [`Evidence::flags`]: no local port was chosen for this connection.
pub const NO_PORT: u16 = 64;
/// [`Evidence::flags`]: `tcp:tcp_receive_reset` fired for the socket.
pub const RESET_RECEIVED: u16 = 128;
/// [`Evidence::flags`]: `tcp:tcp_send_reset` fired for it; [`Evidence::reason`] is the kernel's.
pub const RESET_SENT: u16 = 256;
/// [`Evidence::flags`]: it was sent after `*>CLOSE`.
pub const RESET_AFTER: u16 = 512;

/// What is known of one end. Eight bytes: it is also the key the ledger counts by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Evidence {
    /// `sk_err`, an errno.
    pub err: u16,
    /// Of the constants above.
    pub flags: u16,
    /// State left, the kernel's number; 0 where there is no end to tell of.
    pub from: u8,
    /// `sk_shutdown`: 1 receive, 2 send.
    pub shutdown: u8,
    /// `enum sk_rst_reason` of the reset sent, the running kernel's number; 0 where there is none.
    pub reason: u8,
    /// Zero.
    pub reserved: u8,
}

impl Evidence {
    /// The key it is counted by; 0 for none.
    #[inline(always)]
    #[must_use]
    pub fn key(self) -> u64 {
        bytemuck::cast(self)
    }

    /// What `key` stands for.
    #[inline(always)]
    #[must_use]
    pub fn of_key(key: u64) -> Self {
        bytemuck::cast(key)
    }
}

/// Kinds of ends one CPU tells apart; a host has a dozen or two.
pub const ENDS: usize = 64;

/// How many ends had the same evidence, on one CPU. May be negative there: another CPU may take back what this one counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EndCount {
    /// [`Evidence::key`]; 0 for a free place.
    pub key: u64,
    /// Ends.
    pub count: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_its_evidence() {
        let evidence = Evidence {
            err: 104,
            flags: KNOWN | RESET_AFTER,
            from: 11,
            shutdown: 3,
            reason: 255,
            reserved: 0,
        };
        assert_eq!(Evidence::of_key(evidence.key()), evidence);
        assert_eq!(Evidence::default().key(), 0);
    }
}
