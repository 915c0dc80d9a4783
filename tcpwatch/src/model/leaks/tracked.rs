//! A socket in one of the states, from one scan to the next.

use tcpwatch_common::TcpState;

use super::age::idle_ns;
use super::group::{Age, Key};
use super::{Endpoints, MILLISECOND};
use crate::input::Transition;
use crate::input::owner::Owner;
use crate::input::socket::{Detail, Kind, Socket};
use crate::input::socket_owner::Holder;
use crate::input::socket_scan::AcceptQueue;

/// A socket of the last scan.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) detail: Detail,
    /// Since when it is in its state, or before that, ns (`CLOCK_MONOTONIC`).
    pub(super) since_ns: u64,
    pub(super) at_least: bool,
    /// When data last moved in it, as far as is known, ns; 0 for never.
    pub(super) moved_ns: u64,
    pub(super) owner: Option<Owner>,
    /// Its owner when it entered its state; `None` where that was not seen.
    pub(super) entered_by: Option<Owner>,
    pub(super) holders: Vec<Holder>,
    pub(super) awaited: Option<AcceptQueue>,
    pub(super) key: Key,
}

impl Tracked {
    /// A socket with these `ends` that no scan found before `event`, its end.
    pub(super) fn ended(event: &Transition, ends: &Endpoints, key: Key, dwell_ns: Option<u64>) -> Self {
        let socket = Socket {
            family: event.family,
            state: event.from,
            kind: Some(Kind::Full),
            local: ends.local,
            lport: ends.lport,
            remote: ends.remote,
            rport: ends.rport,
            uid: None,
            inode: event.inode,
            netns: ends.netns,
        };
        Self {
            detail: Detail {
                cookie: event.cookie,
                ..Detail::from_socket(socket)
            },
            since_ns: event.monotonic_ns.saturating_sub(dwell_ns.unwrap_or(0)),
            at_least: dwell_ns.is_none(),
            moved_ns: 0,
            owner: event.owner,
            entered_by: event.owner,
            holders: Vec::new(),
            awaited: None,
            key,
        }
    }

    /// How long, at `now_ns`, nothing has happened in its state.
    pub(super) fn age(&self, now_ns: u64) -> Age {
        Age {
            ns: now_ns.saturating_sub(self.since_ns.max(self.moved_ns)),
            // In ESTABLISHED the time is that since data moved, whenever the socket entered.
            at_least: if self.key.state == TcpState::Established {
                self.moved_ns == 0 && self.at_least
            } else {
                self.at_least || self.moved_ns > self.since_ns
            },
        }
    }
}

/// When data last moved the way that is still open, ns; 0 where that is unknown. `now_ns` is when it was scanned.
pub(super) fn moved_ns(detail: &Detail, now_ns: u64) -> u64 {
    let ago_ns = match detail.socket.state {
        TcpState::Established => idle_ns(detail),
        // What is sent again and again does not move.
        TcpState::CloseWait if detail.retransmissions.is_none_or(|again| again.times == 0) => {
            detail.last_sent_ms.map(|ms| u64::from(ms) * MILLISECOND)
        }
        TcpState::FinWait2 => detail.last_received_ms.map(|ms| u64::from(ms) * MILLISECOND),
        _ => None,
    };
    ago_ns.map_or(0, |ns| now_ns.saturating_sub(ns))
}
