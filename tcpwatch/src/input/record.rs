//! Decodes the records of the kernel side.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use tcpwatch_common::owner::{HOW_ACCEPT, HOW_CLOSE, HOW_CONNECT, HOW_LISTEN};
use tcpwatch_common::record::{self, DWELL_UNKNOWN, OPENED_ACTIVE, OPENED_PASSIVE, PORT_BOUND, PORT_CHOSEN};
use tcpwatch_common::{Evidence, TcpState};

use super::connection::{Connection, Opened, Traffic, Transition};
use super::owner::{Comm, How, Owner};
use super::socket::{Address, Family};

/// A record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A transition.
    Transition(Transition),
    /// A finished connection.
    Connection(Connection),
    /// New evidence for the end of the connection with this number.
    Amendment(NonZeroU64, Evidence),
}

impl Record {
    /// Decodes a record of the kernel side. The size of `bytes` determines the kind; `to_unix_ns` is added to the time. `None`
    /// if `bytes` is not a record.
    #[must_use]
    pub fn decode(bytes: &[u8], to_unix_ns: i64) -> Option<Self> {
        const TRANSITION: usize = size_of::<record::Transition>();
        const LIFE: usize = size_of::<record::Connection>();
        const AMENDMENT: usize = size_of::<record::Amendment>();
        // The ring buffer rounds records up to eight bytes; these sizes are multiples of eight.
        match bytes.len() {
            TRANSITION => Transition::decode(bytes, to_unix_ns).map(Self::Transition),
            LIFE => Connection::decode(bytes, to_unix_ns).map(Self::Connection),
            AMENDMENT => {
                let record: record::Amendment = bytemuck::pod_read_unaligned(bytes);
                Some(Self::Amendment(NonZeroU64::new(record.id)?, record.evidence))
            }
            _ => None,
        }
    }
}

impl Connection {
    fn decode(bytes: &[u8], to_unix_ns: i64) -> Option<Self> {
        let record: record::Connection = bytemuck::pod_read_unaligned(bytes);
        let traffic = Traffic {
            sent: sent(&record),
            received: record.bytes_received,
            srtt_us: (record.srtt_us != 0).then_some(record.srtt_us),
            retransmits: record.retransmits,
        };
        Some(Self {
            last: Transition::from_record(&record.last, to_unix_ns)?,
            spent_ns: record.spent_ns,
            traffic: (record.counted != 0).then_some(traffic),
            closer: NonZeroU32::new(record.closer_pid).map(|pid| Owner {
                pid: Some(pid),
                comm: Comm::new(&record.closer_comm),
                how: How::Close,
                cgroup: None,
            }),
        })
    }
}

impl Transition {
    fn decode(bytes: &[u8], to_unix_ns: i64) -> Option<Self> {
        Self::from_record(&bytemuck::pod_read_unaligned(bytes), to_unix_ns)
    }

    fn from_record(record: &record::Transition, to_unix_ns: i64) -> Option<Self> {
        let family = Family::from_kernel(record.family)?;
        Some(Self {
            unix_ns: record.time_ns.cast_signed().wrapping_add(to_unix_ns),
            monotonic_ns: record.time_ns,
            id: NonZeroU64::new(record.id),
            cookie: NonZeroU64::new(record.cookie),
            family,
            local: Address::new(family.address(record.local), record.ifindex),
            lport: NonZeroU16::new(record.lport),
            remote: Address::new(family.address(record.remote), record.ifindex),
            rport: NonZeroU16::new(record.rport),
            from: TcpState::from_kernel(record.from)?,
            to: TcpState::from_kernel(record.to)?,
            opened: match record.opened {
                OPENED_ACTIVE => Some(Opened::Active),
                OPENED_PASSIVE => Some(Opened::Passive),
                _ => None,
            },
            bound: match record.port {
                PORT_CHOSEN => Some(false),
                PORT_BOUND => Some(true),
                _ => None,
            },
            dwell_ns: (record.dwell_ns != DWELL_UNKNOWN).then_some(record.dwell_ns),
            netns: NonZeroU32::new(record.netns),
            owner: owner_from_kernel(&record.owner),
            inode: NonZeroU32::new(record.inode),
            evidence: (record.to == TcpState::Close.number()).then_some(record.evidence),
        })
    }
}

/// Payload bytes sent, without retransmissions.
///
/// The kernel's `bytes_sent` counts data again for each try that this host's queue refused. Its sequence numbers include the
/// SYN and the FIN (RFC 9293, section 3.4). If tcpwatch did not see which side opened the connection, a SYN may be included;
/// the smaller of the two values is right.
fn sent(record: &record::Connection) -> u64 {
    let syn = record.last.opened == OPENED_ACTIVE;
    let closed_here = matches!(
        TcpState::from_kernel(record.last.from),
        Some(TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck)
    );
    // The FIN is sent last, so it is sent if nothing is unsent.
    let fin = closed_here && record.unsent == 0;
    let numbers = record.bytes_acked.saturating_add(record.in_flight.into());
    record
        .bytes_sent
        .min(numbers.saturating_sub(u64::from(syn) + u64::from(fin)))
}

/// Converts an owner from its wire form; `None` if unknown.
pub(crate) fn owner_from_kernel(record: &tcpwatch_common::Owner) -> Option<Owner> {
    let how = match record.how {
        HOW_CONNECT => How::Connect,
        HOW_LISTEN => How::Listen,
        HOW_ACCEPT => How::Accept,
        HOW_CLOSE => How::Close,
        _ => return None,
    };
    Some(Owner {
        pid: NonZeroU32::new(record.pid),
        comm: Comm::new(&record.comm),
        how,
        cgroup: NonZeroU64::new(record.cgroup),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_bytes_is_too_large_to_add() {
        let mut record: record::Connection = bytemuck::Zeroable::zeroed();
        (record.bytes_sent, record.bytes_acked, record.in_flight) = (7, u64::MAX, u32::MAX);
        assert_eq!(sent(&record), 7);
    }
}
