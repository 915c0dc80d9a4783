//! The netlink messages: requests for a dump, and the kernel's `struct inet_diag_msg` (`linux/inet_diag.h`).

use std::io;
use std::num::{NonZeroU32, NonZeroU64};

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NlasIterator, Parseable,
};
use netlink_packet_sock_diag::constants::{INET_DIAG_INFO, INET_DIAG_SHUTDOWN, INET_DIAG_SKMEMINFO, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags, Timer};
use tcpwatch_common::ledger::{Pass, STATES};
use tcpwatch_common::{StateSet, TcpState};

use crate::input::socket::{Address, Detail, Family, Kind, Retransmissions, Socket};

/// Type of a request for both families, and of its answers. This is the older form, which `ss` also uses.
pub(super) const TCPDIAG_GETSOCK: u16 = 18;
/// Type of a request for one family, and of its answers.
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Size of `struct inet_diag_msg`. Attributes follow.
const HEADER: usize = 72;
/// Size of the longer request, `struct inet_diag_req`: 4 bytes, 48 bytes of socket identity, the states and one more number.
const BODY: usize = 60;
/// Size of an attribute's header (`NLA_HDRLEN`).
const NLA_HEADER: usize = 4;
/// Offsets in `struct tcp_info` of `tcpi_last_data_sent`, `tcpi_last_data_recv` and `tcpi_last_ack_recv` (`linux/tcp.h`).
const LAST_DATA_SENT: usize = 44;
const LAST_DATA_RECV: usize = 52;
const LAST_ACK_RECV: usize = 56;
/// Offsets of `tcpi_retransmits`, `tcpi_backoff` and `tcpi_rto`, and since Linux 6.7 of `tcpi_total_rto_recoveries` and
/// `tcpi_total_rto_time`.
const RETRANSMITS: usize = 2;
const BACKOFF: usize = 4;
const RTO: usize = 8;
const TOTAL_RTO_RECOVERIES: usize = 242;
const TOTAL_RTO_TIME: usize = 244;
/// Offset of `SK_MEMINFO_DROPS` in `INET_DIAG_SKMEMINFO` (`linux/sock_diag.h`; since Linux 4.7).
const DROPS: usize = 8 * 4;
/// The requested attributes (`idiag_ext`).
const DETAIL: u8 = 1 << (INET_DIAG_INFO - 1) | 1 << (INET_DIAG_SKMEMINFO - 1);
/// An attribute of a request: the program that selects sockets (`linux/inet_diag.h`).
const INET_DIAG_REQ_BYTECODE: u16 = 1;
/// `idiag_timer` of a timewait socket (`inet_twsk_diag_fill`).
const TIMER_TIMEWAIT: u8 = 3;
/// The kernel's number for a request socket's state.
const NEW_SYN_RECV: u8 = 12;

/// A request for a dump, without its header.
pub(super) struct Request {
    kind: u16,
    body: [u8; BODY],
    length: usize,
    /// The attribute with the program that selects sockets; empty for all sockets.
    selection: Vec<u8>,
}

/// The kernel's bits for `states`. As in `ss`, `SYN_RECV` includes request sockets, and `BOUND_INACTIVE` (13) is never
/// requested.
fn bits(states: StateSet) -> u32 {
    let mut bits = 0;
    for state in TcpState::ALL {
        if states.contains(state) {
            bits |= 1 << state.number();
        }
    }
    if states.contains(TcpState::SynRecv) {
        bits |= 1 << NEW_SYN_RECV;
    }
    bits
}

/// A request for the sockets of both families in one walk (`struct inet_diag_req`, `inet_diag_dump_compat`).
pub(super) fn both_families(states: StateSet) -> Request {
    // Family unspecified, no extensions, any socket: all zeros except the states.
    let mut body = [0; BODY];
    body[52..56].copy_from_slice(&bits(states).to_ne_bytes());
    Request {
        kind: TCPDIAG_GETSOCK,
        body,
        length: BODY,
        selection: Vec::new(),
    }
}

/// A request for the sockets of one family (`struct inet_diag_req_v2`).
pub(super) fn one_family(family: Family, states: StateSet) -> Request {
    let request = InetRequest {
        family: family.number(),
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::from_bits_retain(bits(states)),
        socket_id: SocketId::new_v4(),
    };
    let mut body = [0; BODY];
    let length = request.buffer_len();
    request.emit(&mut body[..length]);
    Request {
        kind: SOCK_DIAG_BY_FAMILY,
        body,
        length,
        selection: Vec::new(),
    }
}

impl Request {
    /// If `wanted`, also requests `struct tcp_info` and the drops of the socket (`idiag_ext`, at a different offset in each
    /// form).
    pub(super) fn with_detail(mut self, wanted: bool) -> Self {
        let at = if self.kind == TCPDIAG_GETSOCK { 3 } else { 2 };
        self.body[at] = if wanted { DETAIL } else { 0 };
        self
    }

    /// Restricts the dump to the sockets that `program` selects (see [`super::selection`]).
    pub(super) fn with_selection(mut self, program: &[u8]) -> Self {
        if !program.is_empty() {
            let length = u16::try_from(NLA_HEADER + program.len()).unwrap_or(0);
            let head = [length.to_ne_bytes(), INET_DIAG_REQ_BYTECODE.to_ne_bytes()].concat();
            self.selection = [&head, program].concat();
        }
        self
    }

    /// The bytes to send.
    pub(super) fn bytes(&self, sequence: u32) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(header.buffer_len() + self.length + self.selection.len()).unwrap_or(0);
        header.message_type = self.kind;
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = sequence;
        let mut bytes = vec![0; header.buffer_len()];
        header.emit(&mut bytes);
        bytes.extend_from_slice(&self.body[..self.length]);
        bytes.extend_from_slice(&self.selection);
        bytes
    }
}

/// Iterates over the messages in the received bytes. An error ends the iteration.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = io::Result<NetlinkBuffer<&[u8]>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(rest);
        let length = message.as_ref().map_or(rest.len(), |message| message.length() as usize);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message.map_err(|error: DecodeError| io::Error::new(io::ErrorKind::InvalidData, error.to_string())))
    })
}

/// The error at the start of an answer: a negative errno, or 0 for none.
#[must_use]
pub fn error(payload: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(*payload.first_chunk()?);
    (code < 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
}

/// The attribute `wanted` of the socket in `payload`.
fn attribute(payload: &[u8], wanted: u16) -> Option<&[u8]> {
    NlasIterator::new(payload.get(HEADER..)?)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == wanted)
        .and_then(|attribute| {
            let length = attribute.value_length();
            attribute.into_inner().get(NLA_HEADER..)?.get(..length)
        })
}

/// Whether `payload` is a full socket. Only full sockets have `INET_DIAG_SHUTDOWN` (`inet_diag_msg_attrs_fill`).
fn is_full(payload: &[u8]) -> bool {
    attribute(payload, INET_DIAG_SHUTDOWN).is_some()
}

/// The kind of the socket in `payload`, with its state and timer.
fn kind(payload: &[u8], state: TcpState, timewait: bool) -> Kind {
    if timewait {
        return Kind::Timewait;
    }
    // Requests are only in SYN_RECV, so sockets in other states need no check.
    if state == TcpState::SynRecv && !is_full(payload) {
        Kind::Request
    } else {
        Kind::Full
    }
}

/// Counts the socket in `payload`. It reads only the bytes that this needs.
#[inline]
pub fn count(payload: &[u8], pass: &mut Pass) {
    let Some(&[_, number, timer]) = payload.first_chunk() else {
        return;
    };
    let Some(state) = TcpState::from_kernel(number) else {
        return;
    };
    let cells: &mut [u64; STATES] = match kind(payload, state, timer == TIMER_TIMEWAIT) {
        Kind::Full => &mut pass.full,
        Kind::Request => &mut pass.request,
        Kind::Timewait => &mut pass.timewait,
    };
    cells[usize::from(state.number())] += 1;
}

/// Parses the socket in `payload`, in the namespace `netns`; `None` if it is not a TCP socket.
#[must_use]
pub fn socket(payload: &[u8], netns: u32) -> Option<Socket> {
    let header = InetResponseHeader::parse(payload).ok()?;
    let family = Family::from_kernel(header.family)?;
    let state = TcpState::from_kernel(header.state)?;
    let kind = kind(payload, state, header.timer == Some(Timer::TimeWait));
    let id = header.socket_id;
    Some(Socket {
        family,
        state,
        kind: Some(kind),
        local: Address::new(id.source_address, id.interface_id),
        lport: id.source_port,
        remote: Address::new(id.destination_address, id.interface_id),
        rport: id.destination_port,
        uid: (kind == Kind::Full).then_some(header.uid),
        inode: NonZeroU32::new(header.inode).filter(|_| kind == Kind::Full),
        netns,
    })
}

/// Parses the socket in `payload`, in the namespace `netns`, with its details; `None` if it is not a TCP socket.
#[must_use]
pub fn detail(payload: &[u8], netns: u32) -> Option<Detail> {
    let socket = socket(payload, netns)?;
    let header = InetResponseHeader::parse(payload).ok()?;
    let info = attribute(payload, INET_DIAG_INFO).filter(|_| socket.kind == Some(Kind::Full));
    let info_u32 = |at: usize| Some(u32::from_ne_bytes(*info?.get(at..)?.first_chunk()?));
    let drops = attribute(payload, INET_DIAG_SKMEMINFO).and_then(|memory| memory.get(DROPS..)?.first_chunk());
    Some(Detail {
        socket,
        cookie: NonZeroU64::new(u64::from_ne_bytes(header.socket_id.cookie)),
        receive_queue: Some(header.recv_queue),
        send_queue: Some(header.send_queue),
        last_ack_ms: info_u32(LAST_ACK_RECV),
        last_sent_ms: info_u32(LAST_DATA_SENT),
        last_received_ms: info_u32(LAST_DATA_RECV),
        retransmissions: info.and_then(retransmissions),
        drops: drops.map(|bytes| u32::from_ne_bytes(*bytes)),
    })
}

/// The retransmissions in the `struct tcp_info` of `info`.
fn retransmissions(info: &[u8]) -> Option<Retransmissions> {
    let recoveries = |info: &[u8]| Some(u16::from_ne_bytes(*info.get(TOTAL_RTO_RECOVERIES..)?.first_chunk()?));
    let number = |at: usize| Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    Some(Retransmissions {
        times: *info.get(RETRANSMITS)?,
        backoff: *info.get(BACKOFF)?,
        rto_us: number(RTO)?,
        // If there was only one recovery, the total time is its time.
        since_first_ms: number(TOTAL_RTO_TIME).filter(|_| recoveries(info) == Some(1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `struct inet_diag_msg` and, for a full socket, its attribute.
    fn bytes(family: u8, state: u8, timer: u8, full: bool) -> Vec<u8> {
        let mut bytes = vec![family, state, timer, 0, 0x1f, 0x90, 0x00, 0x50];
        bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend(2u32.to_ne_bytes());
        bytes.extend([0; 20]);
        bytes.extend(1000u32.to_ne_bytes());
        bytes.extend(77u32.to_ne_bytes());
        assert_eq!(bytes.len(), HEADER);
        if full {
            // INET_DIAG_TOS (5), then INET_DIAG_SHUTDOWN (8).
            bytes.extend([5, 0, 5, 0, 0, 0, 0, 0, 5, 0, 8, 0, 0, 0, 0, 0]);
        }
        bytes
    }

    #[test]
    fn a_socket_is_read_with_its_zone() {
        let found = socket(&bytes(10, 1, 0, true), 9).unwrap();
        assert_eq!((found.local.to_string(), found.lport), ("fe80::1%2".into(), 8080));
        assert_eq!((found.remote.to_string(), found.rport), ("fe80::2%2".into(), 80));
        assert_eq!((found.family, found.state), (Family::Ipv6, TcpState::Established));
        assert_eq!((found.uid, found.netns), (Some(1000), 9));
        assert_eq!(found.inode, NonZeroU32::new(77));
        let v4 = socket(&bytes(2, 10, 0, true), 9).unwrap();
        assert_eq!((v4.family, v4.local.to_string()), (Family::Ipv4, "254.128.0.0".into()));
    }

    #[test]
    fn kinds_are_distinguished() {
        let of = |state, timer, full| socket(&bytes(2, state, timer, full), 9).and_then(|socket| socket.kind);
        assert_eq!(of(3, 1, false), Some(Kind::Request));
        assert_eq!(of(3, 1, true), Some(Kind::Full));
        assert_eq!(of(6, 3, false), Some(Kind::Timewait));
        assert_eq!(of(5, 3, false), Some(Kind::Timewait));
        assert_eq!(of(5, 0, true), Some(Kind::Full));
        assert_eq!(of(13, 0, true), None);
        let request = socket(&bytes(2, 3, 1, false), 9).unwrap();
        assert_eq!((request.uid, request.inode), (None, None));
    }

    #[test]
    fn all_details_are_read() {
        let mut told = bytes(2, 8, 0, true);
        told[44..52].copy_from_slice(&0x0102_0304_0506_0708_u64.to_ne_bytes());
        told[56..60].copy_from_slice(&7u32.to_ne_bytes());
        told[60..64].copy_from_slice(&9u32.to_ne_bytes());
        let without = detail(&told, 9).unwrap();
        assert_eq!((without.receive_queue, without.send_queue), (Some(7), Some(9)));
        assert_eq!(without.cookie, NonZeroU64::new(0x0102_0304_0506_0708));
        assert_eq!(without.last_ack_ms, None, "no tcp_info");
        for (bytes, read) in [(104, Some(1234)), (60, Some(1234)), (59, None), (0, None)] {
            let mut info = vec![0; 104];
            info[56..60].copy_from_slice(&1234u32.to_ne_bytes());
            info[44..48].copy_from_slice(&5u32.to_ne_bytes());
            info[52..56].copy_from_slice(&6u32.to_ne_bytes());
            info.truncate(bytes);
            let mut told = told.clone();
            told.extend(u16::try_from(4 + bytes).unwrap().to_ne_bytes());
            told.extend(2u16.to_ne_bytes());
            told.extend(info);
            told.resize(told.len().next_multiple_of(4), 0);
            let read_here = detail(&told, 9).unwrap();
            assert_eq!(read_here.last_ack_ms, read, "{bytes}");
            let data = (read_here.last_sent_ms, read_here.last_received_ms);
            assert_eq!(
                data,
                if bytes == 0 { (None, None) } else { (Some(5), Some(6)) },
                "{bytes}"
            );
        }
        for (bytes, read) in [(36, Some(34)), (32, None), (0, None)] {
            let mut memory = vec![0; 36];
            memory[32..].copy_from_slice(&34u32.to_ne_bytes());
            memory.truncate(bytes);
            let mut told = told.clone();
            told.extend(u16::try_from(4 + bytes).unwrap().to_ne_bytes());
            told.extend(7u16.to_ne_bytes());
            told.extend(memory);
            assert_eq!(detail(&told, 9).unwrap().drops, read, "{bytes}");
        }
    }

    #[test]
    fn retransmissions_are_read() {
        let mut info = vec![0; 248];
        (info[2], info[4]) = (6, 2);
        info[8..12].copy_from_slice(&4_000_000u32.to_ne_bytes());
        info[240..242].copy_from_slice(&6u16.to_ne_bytes());
        info[242..244].copy_from_slice(&1u16.to_ne_bytes());
        info[244..248].copy_from_slice(&7093u32.to_ne_bytes());
        let told = Retransmissions {
            times: 6,
            backoff: 2,
            rto_us: 4_000_000,
            since_first_ms: Some(7093),
        };
        let without = Retransmissions {
            since_first_ms: None,
            ..told
        };
        assert_eq!(retransmissions(&info), Some(told));
        assert_eq!(retransmissions(&info[..240]), Some(without), "before 6.7");
        info[242] = 2;
        assert_eq!(retransmissions(&info), Some(without), "others are counted with these");
        assert_eq!(retransmissions(&info[..8]), None);
    }

    #[test]
    fn counting_agrees_with_reading() {
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        for (state, timer, full) in [(3, 1, false), (3, 0, true), (5, 3, false), (5, 0, true), (13, 0, true)] {
            count(&bytes(2, state, timer, full), &mut pass);
        }
        assert_eq!(
            (pass.request[3], pass.full[3], pass.timewait[5], pass.full[5]),
            (1, 1, 1, 1)
        );
        assert_eq!(
            pass.full.iter().chain(&pass.request).chain(&pass.timewait).sum::<u64>(),
            4
        );
    }

    #[test]
    fn requests_say_what_the_kernel_reads() {
        let request = both_families(StateSet::ALL).bytes(5);
        assert_eq!(request.len(), 76);
        assert_eq!(request[..4], 76u32.to_ne_bytes());
        assert_eq!(request[4..6], 18u16.to_ne_bytes());
        assert_eq!(request[8..12], 5u32.to_ne_bytes());
        assert_eq!(request[68..72], 0x1ffeu32.to_ne_bytes());
        let with_detail = both_families(StateSet::ALL).with_detail(true).bytes(5);
        assert_eq!((request[19], with_detail[19]), (0, 1 << 1 | 1 << 6));
        let request = one_family(Family::Ipv6, StateSet::NONE.with(TcpState::Listen)).bytes(5);
        assert_eq!(request.len(), 72);
        assert_eq!(request[16..20], [10, 6, 0, 0]);
        assert_eq!(request[20..24], (1u32 << 10).to_ne_bytes());
        let request = one_family(Family::Ipv6, StateSet::ALL).with_detail(true).bytes(5);
        assert_eq!(request[16..20], [10, 6, 1 << 1 | 1 << 6, 0]);
    }

    #[test]
    fn a_program_is_an_attribute() {
        let plain = both_families(StateSet::ALL).bytes(5);
        let selected = both_families(StateSet::ALL).with_selection(&[7; 16]).bytes(5);
        assert_eq!(selected[..4], 96u32.to_ne_bytes());
        assert_eq!(selected[4..76], plain[4..]);
        let words = |from: usize| u16::from_ne_bytes([selected[from], selected[from + 1]]);
        assert_eq!((words(76), words(78)), (20, 1));
        assert_eq!(selected[80..], [7; 16]);
        assert_eq!(both_families(StateSet::ALL).with_selection(&[]).bytes(5), plain);
    }

    #[test]
    fn errors_carry_their_number() {
        assert_eq!(error(&(-1i32).to_ne_bytes()).unwrap().raw_os_error(), Some(1));
        assert!(error(&0i32.to_ne_bytes()).is_none());
        assert!(error(&[]).is_none());
        assert!(error(&i32::MIN.to_ne_bytes()).is_some());
    }

    #[test]
    fn garbage_never_panics() {
        let good = bytes(2, 3, 0, true);
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        for length in 0..good.len() {
            let _ = detail(&good[..length], 0);
            count(&good[..length], &mut pass);
        }
        for byte in 0..=255u8 {
            let noise: Vec<u8> = (0..200u8).map(|index| index.wrapping_mul(byte) ^ byte).collect();
            let _ = detail(&noise, 0);
            count(&noise, &mut pass);
            assert!(messages(&noise).take(1000).count() < 1000);
        }
        assert!(messages(&[]).next().is_none());
        assert!(messages(&[16, 0, 0]).next().unwrap().is_err());
        assert!(messages(&[0; 16]).next().unwrap().is_err());
    }
}
