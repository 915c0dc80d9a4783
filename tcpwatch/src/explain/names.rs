//! What a state is called, by whom.

use serde::Serialize;
use tcpwatch_common::TcpState;

/// The names of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Its number in the kernel (`include/net/tcp_states.h`).
    pub number: u8,
    /// In the kernel's sources (`include/net/tcp_states.h`).
    pub kernel: &'static str,
    /// In the output of ss(8) (iproute2, misc/ss.c); `ss state` takes it in small letters, but for `established`, `listening`
    /// and `closed`.
    pub ss: &'static str,
    /// In the output of netstat(8) (net-tools, netstat.c).
    pub netstat: &'static str,
    /// In RFC 9293, section 3.3.2.
    pub rfc: &'static str,
}

impl Names {
    /// Those of `state`.
    #[must_use]
    pub const fn of(state: TcpState) -> Self {
        let (kernel, ss, rfc) = match state {
            TcpState::Established => ("TCP_ESTABLISHED", "ESTAB", "ESTABLISHED"),
            TcpState::SynSent => ("TCP_SYN_SENT", "SYN-SENT", "SYN-SENT"),
            TcpState::SynRecv => ("TCP_SYN_RECV", "SYN-RECV", "SYN-RECEIVED"),
            TcpState::FinWait1 => ("TCP_FIN_WAIT1", "FIN-WAIT-1", "FIN-WAIT-1"),
            TcpState::FinWait2 => ("TCP_FIN_WAIT2", "FIN-WAIT-2", "FIN-WAIT-2"),
            TcpState::TimeWait => ("TCP_TIME_WAIT", "TIME-WAIT", "TIME-WAIT"),
            TcpState::Close => ("TCP_CLOSE", "UNCONN", "CLOSED"),
            TcpState::CloseWait => ("TCP_CLOSE_WAIT", "CLOSE-WAIT", "CLOSE-WAIT"),
            TcpState::LastAck => ("TCP_LAST_ACK", "LAST-ACK", "LAST-ACK"),
            TcpState::Listen => ("TCP_LISTEN", "LISTEN", "LISTEN"),
            TcpState::Closing => ("TCP_CLOSING", "CLOSING", "CLOSING"),
        };
        Self {
            number: state.number(),
            kernel,
            ss,
            netstat: state.name(),
            rfc,
        }
    }

    /// Those that people type.
    #[must_use]
    pub const fn all(self) -> [&'static str; 4] {
        [self.kernel, self.ss, self.netstat, self.rfc]
    }
}
