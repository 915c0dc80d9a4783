//! The names of a TCP state in the kernel, in ss, in netstat and in the RFC.

use serde::Serialize;
use tcpwatch_common::TcpState;

/// The names of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Names {
    /// The number in the kernel (`include/net/tcp_states.h`).
    pub number: u8,
    /// The name in the kernel's sources (`include/net/tcp_states.h`).
    pub kernel: &'static str,
    /// The name in the output of ss(8) (iproute2, misc/ss.c). The filter `ss state` takes it in lower case, except
    /// `established`, `listening` and `closed`.
    pub ss: &'static str,
    /// The name in the output of netstat(8) (net-tools, netstat.c).
    pub netstat: &'static str,
    /// The name in RFC 9293, section 3.3.2.
    pub rfc: &'static str,
}

impl Names {
    /// The names of `state`.
    #[must_use]
    pub const fn for_state(state: TcpState) -> Self {
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

    /// The names that people type.
    #[must_use]
    pub const fn all(self) -> [&'static str; 4] {
        [self.kernel, self.ss, self.netstat, self.rfc]
    }
}
