//! Related topics ("See also").

use tcpwatch_common::TcpState;

use super::topic::Topic;
use crate::explain::kind::Kind;
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
            F(Kind::ConnectFailures),
        ],
        TcpState::SynRecv => vec![F(Kind::HalfOpen), F(Kind::SynFlood), S(Setting::TcpSyncookies)],
        TcpState::FinWait1 | TcpState::LastAck | TcpState::Closing => {
            vec![S(Setting::TcpOrphanRetries), F(Kind::OrphanLimit)]
        }
        TcpState::FinWait2 => vec![S(Setting::TcpFinTimeout), E(Ending::ClosedFirst), F(Kind::Leak)],
        TcpState::TimeWait => vec![Topic::NoTimeWait, F(Kind::PortExhaustion), S(Setting::TcpTwReuse)],
        TcpState::Close | TcpState::CloseWait => vec![F(Kind::Leak)],
        TcpState::Listen => vec![F(Kind::AcceptQueueOverflow), S(Setting::Somaxconn)],
    }
}

fn related_to_ending(ending: Ending) -> Vec<Topic> {
    use Topic::{Ending as E, Finding as F, Setting as S, State};
    match ending {
        Ending::GracefulActive | Ending::Simultaneous => vec![State(TcpState::TimeWait), F(Kind::TimeWaitOverflow)],
        Ending::GracefulPassive => vec![State(TcpState::CloseWait), State(TcpState::LastAck)],
        Ending::ClosedFirst | Ending::TimeoutFinWait2 => {
            vec![State(TcpState::FinWait2), S(Setting::TcpFinTimeout)]
        }
        Ending::ResetByPeer => vec![E(Ending::ResetUnread), S(Setting::TcpAbortOnOverflow)],
        Ending::ResetLinger | Ending::ResetUnread | Ending::ResetAfterClose => vec![Topic::NoTimeWait],
        Ending::ResetByUs => vec![E(Ending::ResetLinger), E(Ending::ResetUnread)],
        Ending::Refused | Ending::Unreachable => vec![F(Kind::ConnectFailures)],
        Ending::TimeoutConnect => vec![S(Setting::TcpSynRetries), F(Kind::AcceptQueueOverflow)],
        Ending::TimeoutRetransmit => vec![S(Setting::TcpRetries2), S(Setting::TcpOrphanRetries)],
        Ending::TimeoutKeepalive => vec![S(Setting::TcpKeepaliveTime)],
        Ending::Killed | Ending::Disconnected | Ending::Unknown => Vec::new(),
        Ending::ListenerClosed => vec![State(TcpState::Listen)],
        Ending::NoPort => vec![F(Kind::PortExhaustion), S(Setting::IpLocalPortRange)],
        Ending::ConnectAbandoned => vec![E(Ending::TimeoutConnect)],
        Ending::OutOfMemory => vec![F(Kind::OrphanLimit), S(Setting::TcpMaxOrphans)],
    }
}

fn related_to_finding(kind: Kind) -> Vec<Topic> {
    use Topic::{Ending as E, Finding as F, Setting as S, State};
    match kind {
        Kind::Leak => vec![State(TcpState::CloseWait), State(TcpState::FinWait2)],
        Kind::Churn => vec![F(Kind::PortExhaustion), State(TcpState::TimeWait)],
        Kind::Burst => vec![F(Kind::AcceptQueueOverflow), S(Setting::Somaxconn)],
        Kind::PortExhaustion => vec![S(Setting::TcpTwReuse), S(Setting::IpLocalPortRange), E(Ending::NoPort)],
        Kind::TimeWaitOverflow => vec![S(Setting::TcpMaxTwBuckets), F(Kind::Churn)],
        Kind::AcceptQueueOverflow => vec![S(Setting::Somaxconn), S(Setting::TcpAbortOnOverflow)],
        Kind::SynFlood => vec![S(Setting::TcpSyncookies), S(Setting::TcpMaxSynBacklog)],
        Kind::HalfOpen => vec![
            State(TcpState::SynRecv),
            State(TcpState::SynSent),
            S(Setting::TcpSynackRetries),
            E(Ending::TimeoutConnect),
        ],
        Kind::ConnectFailures => vec![E(Ending::Refused), E(Ending::TimeoutConnect), E(Ending::NoPort)],
        Kind::OrphanLimit => vec![S(Setting::TcpMaxOrphans), S(Setting::TcpOrphanRetries)],
        Kind::RetransmitStorm => vec![E(Ending::TimeoutRetransmit)],
        Kind::EventLoss | Kind::Host => Vec::new(),
    }
}

fn related_to_setting(setting: Setting) -> Vec<Topic> {
    use Topic::{Ending as E, Finding as F, Setting as S, State};
    match setting {
        Setting::TcpSyncookies | Setting::TcpMaxSynBacklog => vec![F(Kind::SynFlood), S(Setting::Somaxconn)],
        Setting::TcpTwReuse | Setting::TcpTwRecycle => {
            vec![
                State(TcpState::TimeWait),
                F(Kind::PortExhaustion),
                S(Setting::TcpTimestamps),
            ]
        }
        Setting::TcpFinTimeout => vec![State(TcpState::FinWait2), State(TcpState::TimeWait)],
        Setting::TcpMaxTwBuckets => vec![F(Kind::TimeWaitOverflow)],
        Setting::IpLocalPortRange | Setting::IpLocalReservedPorts => vec![F(Kind::PortExhaustion)],
        Setting::Somaxconn | Setting::TcpAbortOnOverflow => vec![F(Kind::AcceptQueueOverflow)],
        Setting::TcpMaxOrphans | Setting::TcpOrphanRetries => vec![F(Kind::OrphanLimit)],
        Setting::TcpKeepaliveTime | Setting::TcpKeepaliveIntvl | Setting::TcpKeepaliveProbes => {
            vec![E(Ending::TimeoutKeepalive)]
        }
        Setting::TcpRetries1 | Setting::TcpRetries2 => vec![E(Ending::TimeoutRetransmit)],
        Setting::TcpSynRetries | Setting::NfConntrackMax => vec![E(Ending::TimeoutConnect)],
        Setting::TcpSynackRetries => vec![F(Kind::HalfOpen)],
        Setting::TcpTimestamps => vec![S(Setting::TcpTwReuse), S(Setting::TcpSyncookies)],
        Setting::FileMax => vec![S(Setting::NrOpen), F(Kind::Leak)],
        Setting::NrOpen => vec![S(Setting::FileMax), F(Kind::Leak)],
    }
}
