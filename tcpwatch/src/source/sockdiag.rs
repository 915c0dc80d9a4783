//! Dumps the kernel's TCP sockets over netlink, as `ss` does (`sock_diag(7)`). It needs no privilege and copies no sockets.

pub mod message;
mod selection;

use std::io;

use log::warn;
use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket as Netlink, SocketAddr};
use rustix::io::retry_on_intr;
use rustix::net::RecvFlags;
use tcpwatch_common::StateSet;
use tcpwatch_common::ledger::Pass;

use crate::clock;
use crate::input::socket::{Detail, Family, Socket};
use crate::model::filter::Filter;

/// The maximum size of one message from the kernel: a socket buffer of 32 KiB (`netlink_recvmsg`).
const BUFFER: usize = 32 << 10;

/// A netlink socket that dumps the TCP sockets of the network namespace in which it was opened.
///
/// After an error the kernel may still be in the middle of a dump: open a new one.
pub struct SockDiag {
    socket: Netlink,
    buffer: Box<[u8]>,
    sequence: u32,
    one_walk: bool,
    netns: u32,
    deadline_ns: Option<u64>,
    /// The family that a filter selects; `None` for both.
    family: Option<Family>,
    /// The program that selects by the other parts of a filter; `None` if there is none that does.
    selection: Option<Vec<u8>>,
}

impl SockDiag {
    /// Opens and tries a socket in the network namespace of the calling thread. `netns` is the inode number of this namespace.
    ///
    /// # Errors
    /// The error of the kernel: no netlink, not permitted, or no `tcp_diag` module.
    pub fn open(netns: u32) -> io::Result<Self> {
        let socket = Netlink::new(NETLINK_SOCK_DIAG)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut reader = Self {
            socket,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            sequence: 0,
            one_walk: true,
            netns,
            deadline_ns: None,
            family: None,
            selection: Some(Vec::new()),
        };
        // A request for no states costs nothing.
        reader.one_walk = reader.dump(&message::both_families(StateSet::NONE), |_| {}).is_ok();
        reader.walk(StateSet::NONE, |_| {})?;
        Ok(reader)
    }

    /// Sets a deadline: a dump stops at `deadline_ns` (`CLOCK_MONOTONIC`).
    #[must_use]
    pub const fn until(mut self, deadline_ns: u64) -> Self {
        self.deadline_ns = Some(deadline_ns);
        self
    }

    /// Restricts dumps to the sockets of `filter`, by their family, ports and addresses, as far as the kernel can select them.
    #[must_use]
    pub fn of(mut self, filter: &Filter) -> Self {
        self.family = filter.family;
        self.selection = selection::program(filter);
        self
    }

    /// Whether the kernel selects by all of family, ports and addresses.
    pub(super) const fn selects_ends(&self) -> bool {
        self.selection.is_some()
    }

    /// Calls `visit` for every socket in `states`, of both families, in any order.
    ///
    /// # Errors
    /// The error of recv(2), or the error in the kernel's answer.
    pub fn walk(&mut self, states: StateSet, mut visit: impl FnMut(&Socket)) -> io::Result<()> {
        let netns = self.netns;
        self.each(states, |payload| {
            if let Some(socket) = message::socket(payload, netns) {
                visit(&socket);
            }
        })
    }

    /// Like [`Self::walk`], with the queues, which costs no more.
    ///
    /// # Errors
    /// The error of recv(2), or the error in the kernel's answer.
    pub fn walk_with_queues(&mut self, states: StateSet, mut visit: impl FnMut(&Detail)) -> io::Result<()> {
        let netns = self.netns;
        self.each(states, |payload| {
            if let Some(detail) = message::detail(payload, netns) {
                visit(&detail);
            }
        })
    }

    /// Like [`Self::walk`], with all details that the kernel shows.
    ///
    /// # Errors
    /// The error of recv(2), or the error in the kernel's answer.
    pub fn walk_in_detail(&mut self, states: StateSet, mut visit: impl FnMut(&Detail)) -> io::Result<()> {
        let netns = self.netns;
        self.each_with(states, true, |payload| {
            if let Some(detail) = message::detail(payload, netns) {
                visit(&detail);
            }
        })
    }

    /// Counts the sockets in `states`, of both families, by state and kind. Faster than [`Self::walk`].
    ///
    /// # Errors
    /// The error of recv(2), or the error in the kernel's answer.
    pub fn count(&mut self, states: StateSet) -> io::Result<Pass> {
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        self.each(states, |payload| message::count(payload, &mut pass))?;
        Ok(pass)
    }

    /// Calls `visit` with the `struct inet_diag_msg` and the attributes of every socket in `states`.
    fn each(&mut self, states: StateSet, visit: impl FnMut(&[u8])) -> io::Result<()> {
        self.each_with(states, false, visit)
    }

    /// Like [`Self::each`]. If `wanted`, the kernel adds the attributes with details.
    fn each_with(&mut self, states: StateSet, wanted: bool, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        let program = self.selection.as_deref().unwrap_or_default();
        let asked = |request: message::Request| request.with_detail(wanted).with_selection(program);
        let requests = match self.family {
            Some(family) => vec![message::one_family(family, states)],
            None if self.one_walk => vec![message::both_families(states)],
            None => [Family::Ipv4, Family::Ipv6]
                .map(|family| message::one_family(family, states))
                .into(),
        };
        let requests: Vec<_> = requests.into_iter().map(asked).collect();
        requests.iter().try_for_each(|request| self.dump(request, &mut visit))
    }

    /// Sends one request and reads the answer to its end.
    fn dump(&mut self, request: &message::Request, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request.bytes(self.sequence);
        retry_on_intr(|| rustix::net::send(&self.socket, &request, rustix::net::SendFlags::empty()))?;
        let mut interrupted = false;
        loop {
            if self
                .deadline_ns
                .is_some_and(|deadline| clock::monotonic_ns() >= deadline)
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let room = &mut self.buffer[..];
            // With TRUNC the length is that of the whole message, even if it was truncated.
            let (_, length) = retry_on_intr(|| rustix::net::recv(&self.socket, &mut *room, RecvFlags::TRUNC))?;
            let Some(received) = self.buffer.get(..length) else {
                return Err(broken("a message longer than the kernel makes them"));
            };
            for message in message::messages(received) {
                let message = message?;
                if message.sequence_number() != self.sequence {
                    continue;
                }
                interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    NLMSG_DONE => {
                        if interrupted {
                            warn!("the kernel's socket tables changed during a dump; counts may be wrong");
                        }
                        return message::error(message.payload()).map_or(Ok(()), Err);
                    }
                    NLMSG_ERROR => {
                        return Err(message::error(message.payload()).unwrap_or_else(|| broken("an acknowledgement")));
                    }
                    NLMSG_OVERRUN => return Err(broken("an overrun")),
                    message::TCPDIAG_GETSOCK | message::SOCK_DIAG_BY_FAMILY => visit(message.payload()),
                    _ => {}
                }
            }
        }
    }
}

/// An error for an answer that no kernel should give.
fn broken(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("netlink answered with {problem}"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use ipnet::IpNet;
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::socket::Kind;
    use crate::model::filter::PortSet;

    /// The kernel selects the same sockets as the filter does.
    #[test]
    fn a_selection_is_that_of_the_filter() {
        let bound = [
            "127.0.0.1:0",
            "127.0.0.2:0",
            "[::1]:0",
            "[::ffff:127.0.0.3]:0",
            "[::]:0",
            "0.0.0.0:0",
        ];
        let listeners = bound.map(|address| TcpListener::bind(address).unwrap());
        let port = |index: usize| listeners[index].local_addr().unwrap().port();
        let clients = [0, 1, 2].map(|index| TcpStream::connect(listeners[index].local_addr().unwrap()).unwrap());
        let ports = |text: String| text.parse::<PortSet>().unwrap();
        let ranges = |text: &str| {
            text.split(',')
                .map(|range| range.parse().unwrap())
                .collect::<Vec<IpNet>>()
        };
        let many = |count: u16, last: u16| {
            let ports = (1..count).map(|number| number.to_string());
            ports.chain([last.to_string()]).collect::<Vec<_>>().join(",")
        };
        let one = |set: &dyn Fn(&mut Filter)| {
            let mut filter = Filter::default();
            set(&mut filter);
            filter
        };
        let filters = [
            one(&|_| {}),
            one(&|filter| filter.lport = ports(port(0).to_string())),
            one(&|filter| filter.rport = ports(format!("{},{}", port(0), port(2)))),
            one(&|filter| filter.port = ports(format!("{},{},1-2", port(0), port(1)))),
            one(&|filter| filter.port = ports("1-65535".into())),
            // The longest program, and one that is too long.
            one(&|filter| filter.lport = ports(many(205, port(0)))),
            one(&|filter| filter.port = ports(many(4000, port(0)))),
            one(&|filter| filter.rport = ports("1-65535".into())),
            one(&|filter| filter.local = ranges("127.0.0.2/31")),
            one(&|filter| filter.local = ranges("0.0.0.0/0")),
            one(&|filter| filter.local = ranges("::/0")),
            one(&|filter| filter.local = ranges("::ffff:127.0.0.0/104,127.0.0.2/32")),
            one(&|filter| filter.remote = ranges("::1/128,127.0.0.0/8")),
            one(&|filter| filter.family = Some(Family::Ipv4)),
            one(&|filter| {
                filter.family = Some(Family::Ipv6);
                filter.local = ranges("127.0.0.0/8");
            }),
            one(&|filter| {
                filter.port = ports(format!("{},{}", port(0), port(1)));
                filter.lport = ports("1024-65535".into());
                filter.local = ranges("127.0.0.0/8,10.0.0.0/8");
                filter.remote = ranges("127.0.0.1/32");
            }),
        ];
        // Others come and go while this runs.
        let ours: Vec<u16> = listeners
            .iter()
            .map(TcpListener::local_addr)
            .chain(clients.iter().map(TcpStream::local_addr))
            .map(|address| address.unwrap().port())
            .collect();
        let found = |filter: &Filter, one_walk| {
            let mut reader = SockDiag::open(7).unwrap().of(filter);
            reader.one_walk = one_walk;
            let mut found = Vec::new();
            // What the kernel cannot select is left to the caller.
            let selects = reader.selects_ends();
            let keep = |socket: &Socket| {
                if ours.contains(&socket.lport) && (selects || filter.matches_socket(socket)) {
                    found.push(*socket);
                }
            };
            reader.walk(StateSet::ALL, keep).unwrap();
            found.sort_by_key(|socket: &Socket| (socket.inode, socket.lport));
            found
        };
        let all = found(&Filter::default(), true);
        for filter in filters {
            let mut wanted = all.clone();
            wanted.retain(|socket| filter.matches_socket(socket));
            for one_walk in [true, false] {
                assert_eq!(found(&filter, one_walk), wanted, "{filter:?}");
            }
        }
    }

    #[test]
    fn an_accept_queue_has_the_requested_limit() {
        use std::os::fd::AsFd;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(listener.as_fd(), 3).unwrap();
        let address = listener.local_addr().unwrap();
        let clients = [
            TcpStream::connect(address).unwrap(),
            TcpStream::connect(address).unwrap(),
        ];
        let mut found = Vec::new();
        let visit = |detail: &Detail| {
            if detail.socket.lport == address.port() {
                found.push((detail.receive_queue, detail.send_queue));
            }
        };
        let listening = StateSet::NONE.with(TcpState::Listen);
        SockDiag::open(7).unwrap().walk_in_detail(listening, visit).unwrap();
        drop(clients);
        assert_eq!(found, [(Some(2), Some(3))]);
    }

    #[test]
    fn a_walk_ends_at_its_deadline() {
        let mut reader = SockDiag::open(7).unwrap().until(0);
        let error = reader.walk(StateSet::ALL, |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut reader = SockDiag::open(7).unwrap().until(u64::MAX);
        assert!(reader.walk(StateSet::ALL, |_| {}).is_ok());
    }

    #[test]
    fn our_own_sockets_of_both_families_are_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut reader = SockDiag::open(7).unwrap();
            let mut found = Vec::new();
            for one_walk in [true, false] {
                reader.one_walk = one_walk;
                found.clear();
                reader
                    .walk(StateSet::ALL, |socket| {
                        if socket.lport == port || socket.rport == port {
                            found.push(*socket);
                        }
                    })
                    .unwrap();
                let states = |state| found.iter().filter(|socket| socket.state == state).count();
                assert_eq!(
                    (states(TcpState::Listen), states(TcpState::Established)),
                    (1, 2),
                    "{address}"
                );
                assert!(
                    found
                        .iter()
                        .all(|socket| socket.kind == Some(Kind::Full) && socket.netns == 7)
                );
                assert!(
                    found
                        .iter()
                        .any(|socket| socket.lport == client.local_addr().unwrap().port())
                );
            }
            let listeners = reader.count(StateSet::NONE.with(TcpState::Listen)).unwrap();
            assert!(listeners.full[usize::from(TcpState::Listen.number())] >= 1);
            assert_eq!(listeners.full[usize::from(TcpState::Established.number())], 0);
        }
    }
}
