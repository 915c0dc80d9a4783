//! Many connections, as fast as they go.

use std::net::SocketAddr;
use std::thread;

use socket2::Socket;
use tcpwatch::source::sockets::Sockets;
use tcpwatch_common::{StateSet, TcpState};

use crate::support::LOOPBACK;
use crate::support::cells::Cells;
use crate::support::clock::until;
use crate::support::sockets::{Pair, address, listen, pair, read_eof};

/// `count` connections, half of them by each of two threads, each closed by the client first: client
/// `7>2 2>1 1>4 4>5 5>7`, server `10>3 3>1 1>8 8>9 9>7`, and `7>10 10>7` once a thread. Gives what that makes.
pub(crate) fn connections(count: i64) -> Cells {
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let listener = listen(SocketAddr::new(LOOPBACK, 0), 128);
                for _ in 0..count / 2 {
                    let Pair { client, server } = pair(&listener);
                    drop(client);
                    read_eof(&server);
                }
                until_closed(&listener);
            });
        }
    });
    let one = Cells::of("7>2 2>1 1>4 4>5 5>7 10>3 3>1 1>8 8>9 9>7");
    one.times(count).and(&Cells::of("7>10x2 10>7x2"))
}

/// Waits for the last packets of the connections to `listener`, which a busy kernel may deliver later.
fn until_closed(listener: &Socket) {
    const LAST_ACK: StateSet = StateSet::NONE.with(TcpState::LastAck);
    let port = address(listener).port();
    let mut sockets = Sockets::of_local_ports(0, port..=port, u64::MAX).expect("netlink");
    until("the last packets", || {
        let count = sockets.count(LAST_ACK).expect("a dump");
        count.full.iter().sum::<u64>() == 0
    });
}

/// `turns` times `listen()` and `shutdown()` on one socket: `7>10 10>7` each, nothing else.
pub(crate) fn listen_and_stop(turns: i64) -> Cells {
    let socket = listen(SocketAddr::new(LOOPBACK, 0), 1);
    for _ in 1..turns {
        socket
            .shutdown(std::net::Shutdown::Read)
            .expect("a listener stops by shutdown");
        socket.listen(1).expect("listen");
    }
    Cells::of("7>10 10>7").times(turns)
}
