//! A step from one state to another.

use tcpwatch_common::TcpState;

pub(crate) const ESTABLISHED: u32 = TcpState::Established as u32;
pub(crate) const SYN_SENT: u32 = TcpState::SynSent as u32;
pub(crate) const SYN_RECV: u32 = TcpState::SynRecv as u32;
pub(crate) const FIN_WAIT1: u32 = TcpState::FinWait1 as u32;
pub(crate) const FIN_WAIT2: u32 = TcpState::FinWait2 as u32;
pub(crate) const TIME_WAIT: u32 = TcpState::TimeWait as u32;
pub(crate) const CLOSE: u32 = TcpState::Close as u32;
pub(crate) const CLOSE_WAIT: u32 = TcpState::CloseWait as u32;
pub(crate) const LAST_ACK: u32 = TcpState::LastAck as u32;
pub(crate) const LISTEN: u32 = TcpState::Listen as u32;
pub(crate) const CLOSING: u32 = TcpState::Closing as u32;

/// The state left and the state entered.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Step {
    /// connect().
    #[inline(always)]
    pub(crate) fn is_connect(self) -> bool {
        self.from == CLOSE && self.to == SYN_SENT
    }

    /// listen().
    #[inline(always)]
    pub(crate) fn is_listen(self) -> bool {
        self.from == CLOSE && self.to == LISTEN
    }

    /// A listener is closed.
    #[inline(always)]
    pub(crate) fn is_listener_close(self) -> bool {
        self.from == LISTEN && self.to == CLOSE
    }

    /// A listener creates a child socket; the listener itself stays in LISTEN.
    #[inline(always)]
    pub(crate) fn is_child(self) -> bool {
        self.from == LISTEN && self.to == SYN_RECV
    }

    /// A connection or a listener starts. `CLOSE>CLOSE` (a killed listener) starts nothing.
    #[inline(always)]
    pub(crate) fn is_birth(self) -> bool {
        self.from == CLOSE && self.to != CLOSE || self.is_child()
    }

    /// A connection ends.
    #[inline(always)]
    pub(crate) fn is_end(self) -> bool {
        self.to == CLOSE && self.from != LISTEN && self.from != CLOSE
    }

    /// The last transition of a connection or listener.
    #[inline(always)]
    pub(crate) fn is_last(self) -> bool {
        self.to == CLOSE
    }

    /// A connect() that failed.
    #[inline(always)]
    pub(crate) fn is_failed_connect(self) -> bool {
        self.from == SYN_SENT && self.to == CLOSE
    }

    /// Whether the state changes. A self-transition (`FIN_WAIT2>FIN_WAIT2`) does not change it.
    #[inline(always)]
    pub(crate) fn moves(self) -> bool {
        self.from != self.to
    }
}
