//! A socket in one of the states, from one look to the next.

use tcpwatch_common::TcpState;

use super::group::{Age, Key};
use super::{Ends, MILLISECOND};
use crate::input::Event;
use crate::input::owner::Owner;
use crate::input::socket::{Detail, Kind, Socket};
use crate::input::socket_owner::Holder;
use crate::input::socket_scan::AcceptQueue;

/// A socket of the last look.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) detail: Detail,
    /// Since when it is in its state, or before that, ns (`CLOCK_MONOTONIC`).
    pub(super) since_ns: u64,
    pub(super) at_least: bool,
    /// When data last moved in it, as far as is known, ns; 0 for never.
    pub(super) moved_ns: u64,
    pub(super) owner: Option<Owner>,
    /// Whose it was when it came into its state; `None` where that was not seen.
    pub(super) entered_by: Option<Owner>,
    pub(super) holders: Vec<Holder>,
    pub(super) awaited: Option<AcceptQueue>,
    pub(super) key: Key,
}

impl Tracked {
    /// One that no look found before `event` told its end, between these `ends`.
    pub(super) fn ended(event: &Event, ends: &Ends, key: Key, dwell_ns: Option<u64>) -> Self {
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
                ..Detail::of(socket)
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
            at_least: self.at_least || self.moved_ns > self.since_ns,
        }
    }
}

/// When data last moved the way that is still open, ns; 0 where nothing is known to have. `looked_ns` is now.
pub(super) fn moved_ns(detail: &Detail, looked_ns: u64) -> u64 {
    let ago_ms = match detail.socket.state {
        // What is sent again and again is none (`tcp_event_data_sent` does not tell it apart).
        TcpState::CloseWait if detail.retransmissions.is_none_or(|again| again.times == 0) => detail.last_sent_ms,
        TcpState::FinWait2 => detail.last_received_ms,
        _ => None,
    };
    ago_ms.map_or(0, |ms| looked_ns.saturating_sub(u64::from(ms) * MILLISECOND))
}
