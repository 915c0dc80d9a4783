//! How a connection ended, by the evidence that its socket leaves at `*>CLOSE`.

use std::ops::AddAssign;

use tcpwatch_common::TcpState;
use tcpwatch_common::evidence::{
    ALL_ACKED, DEAD, DONE, ERR_OLD, Evidence, KNOWN, NO_PORT, NO_SOCKET, RESET_AFTER, RESET_RECEIVED, RESET_SENT,
};

use crate::input::reset_reasons::{Reason, Reasons};

/// How a connection ended. "We" is this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// We closed first, then the peer. A timewait socket in `TIME_WAIT` remains, unless the table is full. The socket does not
    /// show which; `TcpExt:TCPTimeWaitOverflow` counts those refused.
    GracefulActive,
    /// The peer closed first, then we did.
    GracefulPassive,
    /// Both sides closed at once. A timewait socket in `TIME_WAIT` remains, unless the table is full.
    Simultaneous,
    /// We closed, and the peer acknowledged but has not closed yet. A timewait socket in `FIN_WAIT2` remains, unless the table is
    /// full.
    ClosedFirst,
    /// The peer sent a reset.
    ResetByPeer,
    /// We sent a reset: the application closed with `SO_LINGER` 0.
    ResetLinger,
    /// We sent a reset: the application closed with data unread (RFC 2525, section 2.17).
    ResetUnread,
    /// We sent a reset after we had closed: data arrived that no process reads any more, or `TCP_LINGER2` is negative.
    ResetAfterClose,
    /// We sent a reset, or gave up with data not acknowledged; the evidence does not show why. `SO_LINGER` 0 and a disconnect
    /// look alike here.
    ResetByUs,
    /// The peer refused the connection, by a reset or by ICMP.
    Refused,
    /// The peer did not answer the SYN.
    TimeoutConnect,
    /// The peer did not answer retransmissions or window probes, or did not answer within `TCP_USER_TIMEOUT`.
    TimeoutRetransmit,
    /// The peer did not answer keepalive probes.
    TimeoutKeepalive,
    /// An orphan's time in `FIN_WAIT2` ran out.
    TimeoutFinWait2,
    /// An administrator closed it (`ss -K`, `SOCK_DESTROY`).
    Killed,
    /// The listener closed before any process accepted the connection. Also the end of the listener itself.
    ListenerClosed,
    /// The application disconnected it (`connect()` to `AF_UNSPEC`).
    Disconnected,
    /// ICMP reported that the peer cannot be reached.
    Unreachable,
    /// No local port was left (`EADDRNOTAVAIL`).
    NoPort,
    /// The application gave up before the peer answered.
    ConnectAbandoned,
    /// The kernel dropped an orphan: too many orphans, or too little memory.
    OutOfMemory,
    /// The evidence is not enough.
    Unknown,
}

impl Ending {
    /// Every ending, in the order of JSON and CSV.
    pub const ALL: [Self; 22] = [
        Self::GracefulActive,
        Self::GracefulPassive,
        Self::Simultaneous,
        Self::ClosedFirst,
        Self::ResetByPeer,
        Self::ResetLinger,
        Self::ResetUnread,
        Self::ResetAfterClose,
        Self::ResetByUs,
        Self::Refused,
        Self::TimeoutConnect,
        Self::TimeoutRetransmit,
        Self::TimeoutKeepalive,
        Self::TimeoutFinWait2,
        Self::Killed,
        Self::ListenerClosed,
        Self::Disconnected,
        Self::Unreachable,
        Self::NoPort,
        Self::ConnectAbandoned,
        Self::OutOfMemory,
        Self::Unknown,
    ];

    /// The name in JSON and CSV.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::GracefulActive => "graceful_active",
            Self::GracefulPassive => "graceful_passive",
            Self::Simultaneous => "simultaneous",
            Self::ClosedFirst => "closed_first",
            Self::ResetByPeer => "reset_by_peer",
            Self::ResetLinger => "reset_linger",
            Self::ResetUnread => "reset_unread",
            Self::ResetAfterClose => "reset_after_close",
            Self::ResetByUs => "reset_by_us",
            Self::Refused => "refused",
            Self::TimeoutConnect => "timeout_connect",
            Self::TimeoutRetransmit => "timeout_retransmit",
            Self::TimeoutKeepalive => "timeout_keepalive",
            Self::TimeoutFinWait2 => "timeout_fin_wait2",
            Self::Killed => "killed",
            Self::ListenerClosed => "listener_closed",
            Self::Disconnected => "disconnected",
            Self::Unreachable => "unreachable",
            Self::NoPort => "no_port",
            Self::ConnectAbandoned => "connect_abandoned",
            Self::OutOfMemory => "out_of_memory",
            Self::Unknown => "unknown",
        }
    }

    /// The phrase that ends a line of text.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::GracefulActive => "closed here first, to TIME_WAIT",
            Self::GracefulPassive => "peer closed first",
            Self::Simultaneous => "both closed at once, to TIME_WAIT",
            Self::ClosedFirst => "closed here, peer not yet",
            Self::ResetByPeer => "reset by peer",
            Self::ResetLinger => "reset here: linger 0",
            Self::ResetUnread => "reset here: data unread",
            Self::ResetAfterClose => "reset here: data after close",
            Self::ResetByUs => "reset here",
            Self::Refused => "refused",
            Self::TimeoutConnect => "timed out connecting",
            Self::TimeoutRetransmit => "timed out",
            Self::TimeoutKeepalive => "timed out: keepalive",
            Self::TimeoutFinWait2 => "timed out in FIN_WAIT2",
            Self::Killed => "killed by an administrator",
            Self::ListenerClosed => "listener closed",
            Self::Disconnected => "disconnected",
            Self::Unreachable => "unreachable",
            Self::NoPort => "no local port left",
            Self::ConnectAbandoned => "gave up connecting",
            Self::OutOfMemory => "orphan dropped: limit or memory",
            Self::Unknown => "unknown ending",
        }
    }

    /// A short phrase for narrow terminals, at most 12 columns.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::GracefulActive => "closed here",
            Self::GracefulPassive => "peer closed",
            Self::Simultaneous => "both closed",
            Self::ClosedFirst => "half closed",
            Self::ResetByPeer => "peer reset",
            Self::ResetLinger => "reset linger",
            Self::ResetUnread => "reset unread",
            Self::ResetAfterClose => "reset late",
            Self::ResetByUs => "reset here",
            Self::Refused => "refused",
            Self::TimeoutConnect => "syn timeout",
            Self::TimeoutRetransmit => "timed out",
            Self::TimeoutKeepalive => "no keepalive",
            Self::TimeoutFinWait2 => "fin2 timeout",
            Self::Killed => "killed",
            Self::ListenerClosed => "no listener",
            Self::Disconnected => "disconnected",
            Self::Unreachable => "unreachable",
            Self::NoPort => "no port left",
            Self::ConnectAbandoned => "gave up",
            Self::OutOfMemory => "orphan limit",
            Self::Unknown => "unknown",
        }
    }

    /// The state of the timewait socket that remains, unless the kernel refuses one. `None` where the connection leaves none, or
    /// where its ending is unknown.
    #[must_use]
    pub const fn timewait(self) -> Option<TcpState> {
        match self {
            Self::GracefulActive | Self::Simultaneous => Some(TcpState::TimeWait),
            Self::ClosedFirst => Some(TcpState::FinWait2),
            _ => None,
        }
    }
}

/// Number of connections by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndingCounts([u64; Ending::ALL.len()]);

impl EndingCounts {
    /// Adds `connections` with this ending.
    pub fn add(&mut self, ending: Ending, connections: u64) {
        let count = &mut self.0[ending as usize];
        *count = count.saturating_add(connections);
    }

    /// Connections with this ending.
    #[must_use]
    pub fn get(&self, ending: Ending) -> u64 {
        self.0[ending as usize]
    }

    /// Every ending with its number of connections, in the order of JSON and CSV.
    pub fn iter(&self) -> impl Iterator<Item = (Ending, u64)> + '_ {
        Ending::ALL.into_iter().map(|ending| (ending, self.get(ending)))
    }

    /// Connections of all endings.
    #[must_use]
    pub fn total(&self) -> u64 {
        super::total(self.0)
    }

    /// The difference to `earlier`; never below zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (now, then) in since.0.iter_mut().zip(earlier.0) {
            *now = now.saturating_sub(then);
        }
        since
    }

    /// Connections that leave a timewait socket in `state`. Those whose timewait socket was refused are included.
    #[must_use]
    pub fn timewait(&self, state: TcpState) -> u64 {
        let made = self.iter().filter(|(ending, _)| ending.timewait() == Some(state));
        made.map(|(_, connections)| connections).sum()
    }
}

impl AddAssign for EndingCounts {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }
}

// errno(3): the numbers are equal on every architecture that tcpwatch supports.
const EPIPE: u16 = 32;
const ENONET: u16 = 64;
const ENOPROTOOPT: u16 = 92;
const EOPNOTSUPP: u16 = 95;
const ENETUNREACH: u16 = 101;
const ECONNABORTED: u16 = 103;
const ECONNRESET: u16 = 104;
const ETIMEDOUT: u16 = 110;
const ECONNREFUSED: u16 = 111;
const EHOSTDOWN: u16 = 112;
const EHOSTUNREACH: u16 = 113;

/// `sk_shutdown` of a socket shut down in both directions, as `close()` leaves it.
const SHUTDOWN_MASK: u8 = 3;

/// Whether `evidence` has one of the flags in `flag`.
const fn has(evidence: Evidence, flag: u16) -> bool {
    evidence.flags & flag != 0
}

/// The error that came with this end; 0 for none. An older error is not its cause.
const fn new_error(evidence: Evidence) -> u16 {
    if has(evidence, ERR_OLD) { 0 } else { evidence.err }
}

/// Whether the connection ended without its application, so that a descriptor of it stays open.
///
/// That is so after a reset from the peer, a timeout or `ss -K`, and when the peer's FIN arrives in `FIN_WAIT2`. `None` where
/// the evidence is missing.
#[must_use]
pub fn leaves_descriptor(evidence: Evidence) -> Option<bool> {
    if !has(evidence, KNOWN) {
        return None;
    }
    let by_fin =
        TcpState::from_kernel(evidence.from) == Some(TcpState::FinWait2) && has(evidence, DONE) && !has(evidence, DEAD);
    Some(new_error(evidence) != 0 || by_fin)
}

/// Whether `evidence` is complete. A close that sends a reset announces the end first, and the reset a moment later.
#[must_use]
pub fn is_final(evidence: Evidence) -> bool {
    let Some(from) = TcpState::from_kernel(evidence.from) else {
        return true;
    };
    if has(evidence, RESET_AFTER | ALL_ACKED) || !has(evidence, KNOWN) {
        return true;
    }
    match from {
        TcpState::Listen | TcpState::Close | TcpState::SynSent => true,
        TcpState::FinWait2 if has(evidence, DONE) => true,
        // Data after our shutdown is announced like a received reset; only then is a reset sent.
        TcpState::FinWait1 | TcpState::FinWait2 if has(evidence, RESET_RECEIVED) => false,
        _ => new_error(evidence) != 0,
    }
}

/// Whether the ending is known only once the reset is, which the kernel announces a moment after the end.
#[must_use]
pub fn awaits_reset(evidence: Evidence) -> bool {
    let so_far = classify(evidence, &Reasons::default(), true);
    !is_final(evidence) && matches!(so_far, Ending::Unknown | Ending::ResetByPeer)
}

/// Classifies how a connection ended. `reasons` decodes the kernel's reset reasons (`enum sk_rst_reason`).
///
/// With `all_resets_seen` unset, an ending that assumes that no reset was sent becomes [`Ending::Unknown`].
#[must_use]
pub fn classify(evidence: Evidence, reasons: &Reasons, all_resets_seen: bool) -> Ending {
    let Some(from) = TcpState::from_kernel(evidence.from) else {
        return Ending::Unknown;
    };
    if from == TcpState::Listen {
        return Ending::ListenerClosed;
    }
    if !has(evidence, KNOWN) {
        return Ending::Unknown;
    }
    let ending = match new_error(evidence) {
        0 => classify_without_error(evidence, from, reasons),
        error => classify_error(evidence, from, error, reasons),
    };
    if all_resets_seen || has(evidence, RESET_SENT) || !assumes_no_reset(ending, from) {
        ending
    } else {
        Ending::Unknown
    }
}

/// Whether a reset sent by this host would make `ending`, from state `from`, another one.
const fn assumes_no_reset(ending: Ending, from: TcpState) -> bool {
    match ending {
        Ending::ClosedFirst | Ending::Simultaneous | Ending::TimeoutRetransmit => true,
        Ending::ResetByPeer => matches!(from, TcpState::FinWait1 | TcpState::FinWait2),
        _ => false,
    }
}

/// Classifies an end that came with a new error.
fn classify_error(evidence: Evidence, from: TcpState, error: u16, reasons: &Reasons) -> Ending {
    let opening = from == TcpState::SynSent;
    match error {
        ECONNREFUSED if opening => Ending::Refused,
        ECONNRESET | EPIPE if has(evidence, RESET_AFTER) => match reasons.get(evidence.reason) {
            Some(Reason::AbortOnData) => Ending::ResetAfterClose,
            _ => Ending::ResetByUs,
        },
        ECONNRESET | EPIPE if has(evidence, RESET_RECEIVED) => Ending::ResetByPeer,
        ECONNABORTED => Ending::Killed,
        ETIMEDOUT if opening => Ending::TimeoutConnect,
        ETIMEDOUT if has(evidence, RESET_SENT) => Ending::TimeoutKeepalive,
        ETIMEDOUT => Ending::TimeoutRetransmit,
        ENETUNREACH | EHOSTUNREACH | EHOSTDOWN | ENONET | ENOPROTOOPT | EOPNOTSUPP => Ending::Unreachable,
        _ => Ending::Unknown,
    }
}

/// Classifies an end without a new error: the application or the peer's FIN caused it.
fn classify_without_error(evidence: Evidence, from: TcpState, reasons: &Reasons) -> Ending {
    let sent = has(evidence, RESET_SENT);
    let reason = reasons.get(evidence.reason);
    match from {
        TcpState::SynSent if has(evidence, NO_PORT) => Ending::NoPort,
        TcpState::SynSent => Ending::ConnectAbandoned,
        TcpState::FinWait2 if has(evidence, DONE) => Ending::GracefulActive,
        TcpState::Closing if has(evidence, DONE) && has(evidence, ALL_ACKED) && !sent => Ending::Simultaneous,
        TcpState::LastAck if has(evidence, ALL_ACKED) => Ending::GracefulPassive,
        TcpState::Closing | TcpState::LastAck => Ending::ResetByUs,
        TcpState::FinWait2 if has(evidence, DEAD) && !sent => Ending::ClosedFirst,
        TcpState::FinWait1 | TcpState::FinWait2 if has(evidence, DEAD) && sent => match reason {
            Some(Reason::AbortOnData | Reason::AbortOnLinger) => Ending::ResetAfterClose,
            Some(Reason::AbortOnMemory) => Ending::OutOfMemory,
            Some(Reason::State) if from == TcpState::FinWait2 => Ending::TimeoutFinWait2,
            _ => Ending::ResetByUs,
        },
        TcpState::Established | TcpState::CloseWait | TcpState::FinWait1 | TcpState::FinWait2 if sent => {
            let closing = evidence.shutdown == SHUTDOWN_MASK;
            match reason {
                Some(Reason::AbortOnClose) => Ending::ResetUnread,
                // In these two states the application had not shut down its direction: close() did both.
                Some(Reason::State) if closing && matches!(from, TcpState::Established | TcpState::CloseWait) => {
                    Ending::ResetLinger
                }
                _ if closing => Ending::ResetByUs,
                _ if has(evidence, NO_SOCKET) => Ending::ListenerClosed,
                _ => Ending::Disconnected,
            }
        }
        _ => Ending::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons() -> Reasons {
        let names = [
            (8, "TCP_ABORT_ON_DATA"),
            (11, "TCP_ABORT_ON_CLOSE"),
            (12, "TCP_ABORT_ON_LINGER"),
            (13, "TCP_ABORT_ON_MEMORY"),
            (14, "TCP_STATE"),
            (15, "TCP_KEEPALIVE_TIMEOUT"),
            (16, "TCP_DISCONNECT_WITH_DATA"),
            (9, "TCP_TIMEWAIT_SOCKET"),
        ];
        Reasons::new(&names.map(|(number, name)| (number, format!("SK_RST_REASON_{name}"))))
    }

    /// Evidence with `KNOWN` set.
    fn evidence(from: TcpState, err: u16, flags: u16, shutdown: u8, reason: u8) -> Evidence {
        Evidence {
            err,
            flags: flags | KNOWN,
            from: from.number(),
            shutdown,
            reason,
            reserved: 0,
        }
    }

    #[test]
    fn a_connection_ended_by_others_leaves_its_descriptor_open() {
        let from = |state: TcpState, flags: u16, err: u16| {
            leaves_descriptor(Evidence {
                flags,
                err,
                from: state.number(),
                ..bytemuck::Zeroable::zeroed()
            })
        };
        let (close_wait, fin_wait2) = (TcpState::CloseWait, TcpState::FinWait2);
        assert_eq!(from(close_wait, 0, EPIPE), None, "no evidence");
        assert_eq!(from(close_wait, KNOWN | RESET_RECEIVED, EPIPE), Some(true));
        assert_eq!(from(close_wait, KNOWN, ECONNABORTED), Some(true), "ss -K");
        assert_eq!(from(close_wait, KNOWN, 0), Some(false), "closed with data unread");
        assert_eq!(from(close_wait, KNOWN | ERR_OLD, EPIPE), Some(false), "an older error");
        assert_eq!(from(fin_wait2, KNOWN | DONE, 0), Some(true), "the peer's FIN arrived");
        assert_eq!(
            from(fin_wait2, KNOWN | DONE | DEAD, 0),
            Some(false),
            "close() was called before"
        );
        assert_eq!(from(fin_wait2, KNOWN | DEAD, 0), Some(false), "close() was called");
    }

    #[test]
    fn short_phrases_are_short_and_distinct() {
        let mut words = Ending::ALL.map(Ending::short);
        assert!(words.iter().all(|words| words.len() <= 12));
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
    }

    #[test]
    fn evidence_gives_the_ending() {
        use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
        const SENT_AFTER: u16 = RESET_SENT | RESET_AFTER;
        for (evidence, ending) in [
            (evidence(FinWait2, 0, DONE | DEAD, 3, 0), Ending::GracefulActive),
            (evidence(FinWait2, 113, DONE | ERR_OLD, 3, 0), Ending::GracefulActive),
            (evidence(FinWait2, 0, DEAD, 3, 0), Ending::ClosedFirst),
            (evidence(FinWait2, 0, DEAD | SENT_AFTER, 3, 8), Ending::ResetAfterClose),
            (evidence(FinWait2, 0, DEAD | SENT_AFTER, 3, 12), Ending::ResetAfterClose),
            (evidence(FinWait2, 0, DEAD | SENT_AFTER, 3, 14), Ending::TimeoutFinWait2),
            (evidence(FinWait2, 0, DEAD | SENT_AFTER, 3, 0), Ending::ResetByUs),
            (
                evidence(FinWait2, 104, RESET_RECEIVED | SENT_AFTER, 3, 8),
                Ending::ResetAfterClose,
            ),
            (evidence(FinWait2, 0, SENT_AFTER, 3, 14), Ending::ResetByUs),
            (evidence(FinWait1, 0, DEAD | SENT_AFTER, 3, 13), Ending::OutOfMemory),
            (evidence(LastAck, 0, ALL_ACKED | DONE, 3, 0), Ending::GracefulPassive),
            (evidence(LastAck, 0, DONE, 3, 0), Ending::ResetByUs),
            (
                evidence(Closing, 0, ALL_ACKED | DONE | DEAD, 3, 0),
                Ending::Simultaneous,
            ),
            (evidence(Established, 104, RESET_RECEIVED, 0, 0), Ending::ResetByPeer),
            (evidence(CloseWait, 32, RESET_RECEIVED, 1, 0), Ending::ResetByPeer),
            (evidence(Established, 104, 0, 0, 0), Ending::Unknown),
            (evidence(Established, 0, SENT_AFTER, 3, 14), Ending::ResetLinger),
            (evidence(CloseWait, 0, SENT_AFTER | DONE, 3, 14), Ending::ResetLinger),
            (evidence(Established, 0, SENT_AFTER, 3, 11), Ending::ResetUnread),
            (evidence(Established, 0, SENT_AFTER, 3, 0), Ending::ResetByUs),
            (evidence(Established, 0, SENT_AFTER, 0, 14), Ending::Disconnected),
            (
                evidence(Established, 0, SENT_AFTER | NO_SOCKET, 0, 14),
                Ending::ListenerClosed,
            ),
            (evidence(Established, 0, 0, 3, 0), Ending::Unknown),
            (evidence(Established, 103, RESET_SENT, 0, 14), Ending::Killed),
            (evidence(Established, 110, RESET_SENT, 0, 15), Ending::TimeoutKeepalive),
            (evidence(Established, 110, 0, 0, 0), Ending::TimeoutRetransmit),
            (evidence(FinWait1, 113, 0, 3, 0), Ending::Unreachable),
            (evidence(SynSent, 111, RESET_RECEIVED, 0, 0), Ending::Refused),
            (evidence(SynSent, 111, 0, 0, 0), Ending::Refused),
            (evidence(SynSent, 110, 0, 0, 0), Ending::TimeoutConnect),
            (evidence(SynSent, 101, 0, 0, 0), Ending::Unreachable),
            (evidence(SynSent, 0, NO_PORT, 0, 0), Ending::NoPort),
            (evidence(SynSent, 0, 0, 3, 0), Ending::ConnectAbandoned),
            (evidence(SynRecv, 0, 0, 0, 0), Ending::Unknown),
            (evidence(Listen, 0, 0, 3, 0), Ending::ListenerClosed),
        ] {
            assert_eq!(classify(evidence, &reasons(), true), ending, "{evidence:?}");
        }
    }

    #[test]
    fn without_evidence_the_ending_is_unknown() {
        let missing = Evidence {
            from: 9,
            ..Evidence::default()
        };
        assert_eq!(classify(missing, &reasons(), true), Ending::Unknown);
        assert!(is_final(missing));
    }

    #[test]
    fn where_a_reset_may_have_been_missed_no_ending_assumes_that_there_was_none() {
        use TcpState::{Closing, Established, FinWait1, FinWait2, LastAck};
        for (evidence, ending) in [
            (evidence(FinWait2, 0, DEAD, 3, 0), Ending::Unknown),
            (evidence(FinWait1, 104, DEAD | RESET_RECEIVED, 3, 0), Ending::Unknown),
            (evidence(Established, 110, 0, 0, 0), Ending::Unknown),
            (evidence(Closing, 0, DONE | ALL_ACKED, 3, 0), Ending::Unknown),
            (evidence(Established, 110, RESET_SENT, 0, 15), Ending::TimeoutKeepalive),
            (evidence(Established, 104, RESET_RECEIVED, 0, 0), Ending::ResetByPeer),
            (evidence(FinWait2, 0, DONE | DEAD, 3, 0), Ending::GracefulActive),
            (evidence(LastAck, 0, ALL_ACKED, 3, 0), Ending::GracefulPassive),
        ] {
            assert_eq!(classify(evidence, &reasons(), false), ending, "{evidence:?}");
        }
    }

    #[test]
    fn evidence_is_not_final_while_a_reset_may_follow() {
        use TcpState::{Established, FinWait2, LastAck};
        assert!(!is_final(evidence(Established, 0, 0, 3, 0)));
        assert!(!is_final(evidence(FinWait2, 0, DEAD, 3, 0)));
        assert!(!is_final(evidence(FinWait2, 104, RESET_RECEIVED, 3, 0)));
        assert!(is_final(evidence(FinWait2, 0, DONE, 3, 0)));
        assert!(is_final(evidence(LastAck, 0, ALL_ACKED, 3, 0)));
        assert!(is_final(evidence(Established, 0, RESET_SENT | RESET_AFTER, 3, 14)));
        assert!(is_final(evidence(Established, 104, RESET_RECEIVED, 0, 0)));
        assert!(awaits_reset(evidence(Established, 0, 0, 3, 0)));
        assert!(awaits_reset(evidence(FinWait2, 104, RESET_RECEIVED, 3, 0)));
        assert!(!awaits_reset(evidence(FinWait2, 0, DEAD, 3, 0)));
        assert!(!awaits_reset(evidence(Established, 0, RESET_SENT | RESET_AFTER, 3, 14)));
    }

    #[test]
    fn any_evidence_has_an_ending_and_keys_are_distinct() {
        for from in 0..=255 {
            for flags in 0..1024 {
                let evidence = Evidence {
                    err: flags % 120,
                    flags,
                    from,
                    shutdown: 3,
                    reason: 14,
                    reserved: 0,
                };
                let _any = (classify(evidence, &reasons(), true), is_final(evidence));
                let _any = classify(evidence, &reasons(), false);
            }
        }
        let mut keys: Vec<_> = Ending::ALL.into_iter().map(Ending::key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), Ending::ALL.len());
        assert!(
            Ending::ALL
                .into_iter()
                .enumerate()
                .all(|(place, ending)| ending as usize == place)
        );
    }
}
