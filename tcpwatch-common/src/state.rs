//! TCP states, with the kernel's numbers (`include/net/tcp_states.h`) and their usual names.

/// A TCP state (RFC 9293, section 3.3.2, with the kernel's number).
///
/// The kernel's `TCP_NEW_SYN_RECV` (12), the state of a request socket, is [`TcpState::SynRecv`] here, as `ss` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// Open: data flows both ways.
    Established = 1,
    /// Our SYN is sent, no answer yet.
    SynSent = 2,
    /// A SYN arrived, our SYN-ACK is sent.
    SynRecv = 3,
    /// We closed first; our FIN is not acknowledged.
    FinWait1 = 4,
    /// Our FIN is acknowledged; the peer has not closed.
    FinWait2 = 5,
    /// Both sides closed; the addresses stay reserved for late segments.
    TimeWait = 6,
    /// No connection.
    Close = 7,
    /// The peer closed; the application here has not.
    CloseWait = 8,
    /// The peer closed first, then we did; our FIN is not acknowledged.
    LastAck = 9,
    /// Waits for connections.
    Listen = 10,
    /// Both closed at once; our FIN is not acknowledged.
    Closing = 11,
}

impl TcpState {
    /// Every state, in the order of the kernel's numbers, which is the order of machine output.
    pub const ALL: [Self; 11] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
    ];

    /// The state with the kernel's number `number`; `None` if there is no such state.
    #[must_use]
    pub const fn from_kernel(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Established),
            2 => Some(Self::SynSent),
            3 | 12 => Some(Self::SynRecv),
            4 => Some(Self::FinWait1),
            5 => Some(Self::FinWait2),
            6 => Some(Self::TimeWait),
            7 => Some(Self::Close),
            8 => Some(Self::CloseWait),
            9 => Some(Self::LastAck),
            10 => Some(Self::Listen),
            11 => Some(Self::Closing),
            _ => None,
        }
    }

    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name in machine output and on the command line: `close_wait`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::TimeWait => "time_wait",
            Self::Close => "close",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
        }
    }

    /// The name in text output, as in the kernel and in netstat: `CLOSE_WAIT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

/// A set of states, one bit for each kernel number (the kernel's `TCPF_*` flags).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSet(pub u32);

impl StateSet {
    /// Every state.
    pub const ALL: Self = Self(u32::MAX);
    /// No state.
    pub const NONE: Self = Self(0);

    /// This set and `state`.
    #[must_use]
    pub const fn with(self, state: TcpState) -> Self {
        Self(self.0 | 1 << state as u8)
    }

    /// This set, and not `state`.
    #[must_use]
    pub const fn without(self, state: TcpState) -> Self {
        Self(self.0 & !(1 << state as u8))
    }

    /// Whether `state` is in the set.
    #[must_use]
    pub const fn contains(self, state: TcpState) -> bool {
        self.0 & 1 << state as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_request_sockets_are_syn_recv() {
        for state in TcpState::ALL {
            assert_eq!(TcpState::from_kernel(state.number()), Some(state));
        }
        assert_eq!(TcpState::from_kernel(12), Some(TcpState::SynRecv));
        assert_eq!(TcpState::from_kernel(0), None);
        assert_eq!(TcpState::from_kernel(13), None);
    }

    #[test]
    fn sets_contain_their_states() {
        let set = StateSet::NONE.with(TcpState::Closing).with(TcpState::Listen);
        assert!(set.contains(TcpState::Closing) && set.contains(TcpState::Listen));
        assert!(!set.contains(TcpState::Established));
        assert!(TcpState::ALL.iter().all(|&state| StateSet::ALL.contains(state)));
        let set = set.without(TcpState::Listen);
        assert!(set.contains(TcpState::Closing) && !set.contains(TcpState::Listen));
    }
}
