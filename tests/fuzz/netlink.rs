//! Answers of `sock_diag(7)`: what is read of a socket is what the bytes have.

use std::num::NonZeroU32;

use tcpwatch::input::socket::{Detail, Kind};
use tcpwatch::source::sockdiag::message;

/// Where `struct inet_diag_msg` has the ports, the user and the inode.
const SPORT: usize = 4;
const DPORT: usize = 6;
const UID: usize = 64;
const INODE: usize = 68;

pub(crate) fn run(input: &[u8]) {
    let mut pass = bytemuck::Zeroable::zeroed();
    let mut sockets = 0;
    let mut messages = 0;
    for found in message::messages(input) {
        messages += 1;
        let Ok(found) = found else { break };
        let payload = found.payload();
        let _ = message::error(payload);
        message::count(payload, &mut pass);
        if let Some(detail) = message::detail(payload, 7) {
            sockets += 1;
            check(payload, &detail);
        }
        assert_eq!(
            message::socket(payload, 7).is_some(),
            message::detail(payload, 7).is_some()
        );
    }
    // A message has a header of 16 bytes.
    assert!(messages <= input.len() / 16 + 1);
    let counted: u64 = [pass.full, pass.request, pass.timewait].iter().flatten().sum();
    assert!(counted >= sockets, "{counted} of {sockets} sockets were counted");
}

/// Compares `detail` with the bytes that it was read from.
fn check(payload: &[u8], detail: &Detail) {
    let socket = &detail.socket;
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    let word = |at: usize| u32::from_ne_bytes([payload[at], payload[at + 1], payload[at + 2], payload[at + 3]]);
    assert_eq!((socket.lport, socket.rport), (port(SPORT), port(DPORT)));
    // The kernel has a number of its own for requests, and shows them in SYN_RECV.
    let state = if payload[1] == 12 { 3 } else { payload[1] };
    assert_eq!((socket.family.number(), socket.state.number()), (payload[0], state));
    if socket.kind == Some(Kind::Full) {
        assert_eq!(socket.uid, Some(word(UID)));
        assert_eq!(socket.inode.map_or(0, NonZeroU32::get), word(INODE));
    }
    assert_eq!(socket.netns, 7);
}
