//! Related topics ("See also").

use tcpwatch_common::TcpState;

use super::topic::Topic;
use crate::explain::kind::FindingKind;
use crate::input::setting::Setting;
use crate::model::ending::Ending;

/// The topics related to `topic`, the closest first.
#[must_use]
pub fn related(topic: Topic) -> Vec<Topic> {
    match topic {
        Topic::State(state) => related_to_state(state),
        Topic::Ending(ending) => related_to_ending(ending),
        Topic::Finding(kind) => related_to_finding(kind),
        Topic::Setting(setting) => related_to_setting(setting),
        Topic::NoTimeWait => vec![
            Topic::State(TcpState::TimeWait),
            Topic::State(TcpState::FinWait2),
            Topic::Ending(Ending::ClosedFirst),
        ],
    }
}

fn related_to_state(state: TcpState) -> Vec<Topic> {
    use Topic::{Ending as E, Finding as F, Setting as S};
    match state {
        TcpState::Established => vec![S(Setting::TcpKeepaliveTime), S(Setting::TcpRetries2)],
        TcpState::SynSent => vec![
            S(Setting::TcpSynRetries),
            E(Ending::TimeoutConnect),
            F(FindingKind::ConnectFailures),
        ],
        TcpState::SynRecv => vec![
            F(FindingKind::HalfOpen),
            F(FindingKind::SynFlood),
            S(Setting::TcpSyncookies),
        ],
        TcpState::FinWait1 | TcpState::LastAck | TcpState::Closing => {
            vec![S(Setting::TcpOrphanRetries), F(FindingKind::OrphanLimit)]
        }
        TcpState::FinWait2 => vec![S(Setting::TcpFinTimeout), E(Ending::ClosedFirst), F(FindingKind::Leak)],
        TcpState::TimeWait => vec![
            Topic::NoTimeWait,
            F(FindingKind::PortExhaustion),
            S(Setting::TcpTwReuse),
        ],
        TcpState::Close | TcpState::CloseWait => vec![F(FindingKind::Leak)],
        TcpState::Listen => vec![F(FindingKind::AcceptQueueOverflow), S(Setting::Somaxconn)],
    }
}

fn related_to_ending(ending: Ending) -> Vec<Topic> {
    use Topic::{Ending as E, Finding as F, Setting as S, State};
    match ending {
        Ending::GracefulActive | Ending::Simultaneous => {
            vec![State(TcpState::TimeWait), F(FindingKind::TimeWaitOverflow)]
        }
        Ending::GracefulPassive => vec![State(TcpState::CloseWait), State(TcpState::LastAck)],
        Ending::ClosedFirst | Ending::TimeoutFinWait2 => {
            vec![State(TcpState::FinWait2), S(Setting::TcpFinTimeout)]
        }
        Ending::ResetByPeer => vec![E(Ending::ResetUnread), S(Setting::TcpAbortOnOverflow)],
        Ending::ResetLinger | Ending::ResetUnread | Ending::ResetAfterClose => vec![Topic::NoTimeWait],
        Ending::ResetByUs => vec![E(Ending::ResetLinger), E(Ending::ResetUnread)],
        Ending::Refused | Ending::Unreachable => vec![F(FindingKind::ConnectFailures)],
        Ending::TimeoutConnect => vec![S(Setting::TcpSynRetries), F(FindingKind::AcceptQueueOverflow)],
        Ending::TimeoutRetransmit => vec![S(Setting::TcpRetries2), S(Setting::TcpOrphanRetries)],
        Ending::TimeoutKeepalive => vec![S(Setting::TcpKeepaliveTime)],
        Ending::Killed | Ending::Disconnected | Ending::Unknown => Vec::new(),
        Ending::ListenerClosed => vec![State(TcpState::Listen)],
        Ending::NoPort => vec![F(FindingKind::PortExhaustion), S(Setting::IpLocalPortRange)],
        Ending::ConnectAbandoned => vec![E(Ending::TimeoutConnect)],
        Ending::OutOfMemory => vec![F(FindingKind::OrphanLimit), S(Setting::TcpMaxOrphans)],
    }
}

fn related_to_finding(kind: FindingKind) -> Vec<Topic> {
    use Topic::{Ending as E, Finding as F, Setting as S, State};
    match kind {
        FindingKind::Leak => vec![State(TcpState::CloseWait), State(TcpState::FinWait2)],
        FindingKind::Churn => vec![F(FindingKind::PortExhaustion), State(TcpState::TimeWait)],
        FindingKind::Burst => vec![F(FindingKind::AcceptQueueOverflow), S(Setting::Somaxconn)],
        FindingKind::PortExhaustion => vec![S(Setting::TcpTwReuse), S(Setting::IpLocalPortRange), E(Ending::NoPort)],
        FindingKind::TimeWaitOverflow => vec![S(Setting::TcpMaxTwBuckets), F(FindingKind::Churn)],
        FindingKind::AcceptQueueOverflow => vec![S(Setting::Somaxconn), S(Setting::TcpAbortOnOverflow)],
        FindingKind::SynFlood => vec![S(Setting::TcpSyncookies), S(Setting::TcpMaxSynBacklog)],
        FindingKind::HalfOpen => vec![
            State(TcpState::SynRecv),
            State(TcpState::SynSent),
            S(Setting::TcpSynackRetries),
            E(Ending::TimeoutConnect),
        ],
        FindingKind::ConnectFailures => vec![E(Ending::Refused), E(Ending::TimeoutConnect), E(Ending::NoPort)],
        FindingKind::OrphanLimit => vec![S(Setting::TcpMaxOrphans), S(Setting::TcpOrphanRetries)],
        FindingKind::RetransmitStorm => vec![E(Ending::TimeoutRetransmit)],
        FindingKind::EventLoss | FindingKind::Host => Vec::new(),
    }
}

fn related_to_setting(setting: Setting) -> Vec<Topic> {
    use Topic::{Ending as E, Finding as F, Setting as S, State};
    match setting {
        Setting::TcpSyncookies | Setting::TcpMaxSynBacklog => vec![F(FindingKind::SynFlood), S(Setting::Somaxconn)],
        Setting::TcpTwReuse | Setting::TcpTwRecycle => {
            vec![
                State(TcpState::TimeWait),
                F(FindingKind::PortExhaustion),
                S(Setting::TcpTimestamps),
            ]
        }
        Setting::TcpFinTimeout => vec![State(TcpState::FinWait2), State(TcpState::TimeWait)],
        Setting::TcpMaxTwBuckets => vec![F(FindingKind::TimeWaitOverflow)],
        Setting::IpLocalPortRange | Setting::IpLocalReservedPorts => vec![F(FindingKind::PortExhaustion)],
        Setting::Somaxconn | Setting::TcpAbortOnOverflow => vec![F(FindingKind::AcceptQueueOverflow)],
        Setting::TcpMaxOrphans | Setting::TcpOrphanRetries => vec![F(FindingKind::OrphanLimit)],
        Setting::TcpKeepaliveTime | Setting::TcpKeepaliveIntvl | Setting::TcpKeepaliveProbes => {
            vec![E(Ending::TimeoutKeepalive)]
        }
        Setting::TcpRetries1 | Setting::TcpRetries2 => vec![E(Ending::TimeoutRetransmit)],
        Setting::TcpSynRetries | Setting::NfConntrackMax => vec![E(Ending::TimeoutConnect)],
        Setting::TcpSynackRetries => vec![F(FindingKind::HalfOpen)],
        Setting::TcpTimestamps => vec![S(Setting::TcpTwReuse), S(Setting::TcpSyncookies)],
        Setting::FileMax => vec![S(Setting::NrOpen), F(FindingKind::Leak)],
        Setting::NrOpen => vec![S(Setting::FileMax), F(FindingKind::Leak)],
    }
}
