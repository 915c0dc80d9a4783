//! 20 connections of each ordinary kind in each family, and everything that is known of them beforehand.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use crate::support::cells::Cells;
use crate::support::endings::closed::close_in_order;
use crate::support::endings::reset::until_data;
use crate::support::endings::{EITHER, Endings};
use crate::support::sockets::{Pair, address, bound, listen, pair, read_eof, reset, send_fin, until_error};
use crate::support::{LOOPBACK, LOOPBACK_V6};

/// Connections of each kind in each family.
const TIMES: usize = 20;
/// Sent by the side that keeps its half open.
const LATE: &[u8] = b"after your FIN";
/// Sent, and never read.
const UNREAD: &[u8] = b"never read";

/// How a connection is used and ended.
struct Kind {
    name: &'static str,
    /// Uses and ends one, given both ends.
    run: fn(Pair),
    client: Side,
    server: Side,
    /// Timewait sockets that it leaves.
    time_wait: i64,
}

/// One end of a connection, as tcpwatch has to show it.
#[derive(Clone, Copy)]
struct Side {
    /// Its transitions.
    path: &'static str,
    /// The key of how it ended.
    ended: &'static str,
    sent: usize,
    received: usize,
}

/// A side that exchanges no bytes.
const fn side(path: &'static str, ended: &'static str) -> Side {
    Side {
        path,
        ended,
        sent: 0,
        received: 0,
    }
}

const CLIENT_CLOSES_FIRST: Side = side("7>2 2>1 1>4 4>5 5>7", "graceful_active");
const SERVER_CLOSES_FIRST: Side = side("10>3 3>1 1>4 4>5 5>7", "graceful_active");
const CLIENT_CLOSES_SECOND: Side = side("7>2 2>1 1>8 8>9 9>7", "graceful_passive");
const SERVER_CLOSES_SECOND: Side = side("10>3 3>1 1>8 8>9 9>7", "graceful_passive");

/// The kinds that a listener accepts.
const ACCEPTED: [Kind; 5] = [
    Kind {
        name: "active close",
        run: |Pair { client, server }| close_in_order(&client, server),
        client: CLIENT_CLOSES_FIRST,
        server: SERVER_CLOSES_SECOND,
        time_wait: 1,
    },
    Kind {
        name: "passive close",
        run: |Pair { client, server }| close_in_order(&server, client),
        client: CLIENT_CLOSES_SECOND,
        server: SERVER_CLOSES_FIRST,
        time_wait: 1,
    },
    Kind {
        name: "half close",
        run: half_close,
        client: Side {
            received: LATE.len(),
            ..CLIENT_CLOSES_FIRST
        },
        server: Side {
            sent: LATE.len(),
            ..SERVER_CLOSES_SECOND
        },
        time_wait: 1,
    },
    Kind {
        name: "linger 0",
        run: |Pair { client, server }| {
            reset(client);
            until_error(&server);
        },
        client: side("7>2 2>1 1>7", "reset_linger"),
        server: side("10>3 3>1 1>7", "reset_by_peer"),
        time_wait: 0,
    },
    Kind {
        name: "data unread",
        run: unread,
        client: Side {
            sent: UNREAD.len(),
            ..side("7>2 2>1 1>7", "reset_by_peer")
        },
        server: Side {
            received: UNREAD.len(),
            ..side("10>3 3>1 1>7", "reset_unread")
        },
        time_wait: 0,
    },
];

const REFUSED: Side = side("7>2 2>7", "refused");
const LISTENER: &str = "7>10 10>7";

fn half_close(Pair { mut client, mut server }: Pair) {
    send_fin(&client);
    read_eof(&server);
    server.write_all(LATE).expect("send");
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("receive");
    assert_eq!(answer, LATE);
}

fn unread(Pair { mut client, server }: Pair) {
    client.write_all(UNREAD).expect("send");
    until_data(&server);
    drop(server);
    until_error(&client);
}

/// One end of a connection that was made.
pub(super) struct End {
    /// What was done, for messages.
    pub(super) kind: &'static str,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Whether it called `connect()`.
    pub(super) is_client: bool,
    /// Its transitions.
    pub(super) path: &'static str,
    /// The key of how it ended.
    pub(super) ended: &'static str,
    /// Payload, bytes.
    pub(super) sent: u64,
    /// Payload, bytes.
    pub(super) received: u64,
}

/// All that was made.
pub(super) struct Made {
    /// Every end of every connection.
    pub(super) ends: Vec<End>,
    /// The transitions, those of the listeners too.
    pub(super) cells: Cells,
    /// Timewait sockets.
    pub(super) time_wait: i64,
}

/// Makes all of them, one after the other.
pub(super) fn run() -> Made {
    let reasons = resets_have_reasons();
    let mut made = Made {
        ends: Vec::new(),
        cells: Cells::default(),
        time_wait: 0,
    };
    for at in [LOOPBACK, LOOPBACK_V6] {
        for kind in &ACCEPTED {
            made.accepted(at, kind, reasons);
        }
        made.refused(at);
    }
    made
}

impl Made {
    fn accepted(&mut self, at: IpAddr, kind: &Kind, reasons: bool) {
        let listener = listen(SocketAddr::new(at, 0), 8);
        for _ in 0..TIMES {
            let pair = pair(&listener);
            let (client, server) = (address(&pair.client), address(&pair.server));
            (kind.run)(pair);
            self.end(kind.name, (client, server), true, kind.client, reasons);
            self.end(kind.name, (server, client), false, kind.server, reasons);
            self.time_wait += kind.time_wait;
        }
        self.cells.add_all(&Cells::of(LISTENER));
    }

    /// Clients of a port that is taken, and at which nobody listens.
    fn refused(&mut self, at: IpAddr) {
        let nobody = bound(SocketAddr::new(at, 0));
        // Each keeps its port until all are done, so that no two are alike.
        let clients = [(); TIMES].map(|()| bound(SocketAddr::new(at, 0)));
        for client in &clients {
            let error = client.connect(&address(&nobody).into()).expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            self.end("refused", (address(client), address(&nobody)), true, REFUSED, true);
        }
    }

    fn end(
        &mut self,
        kind: &'static str,
        (local, remote): (SocketAddr, SocketAddr),
        is_client: bool,
        side: Side,
        reasons: bool,
    ) {
        self.cells.add_all(&Cells::of(side.path));
        self.ends.push(End {
            kind,
            local,
            remote,
            is_client,
            path: side.path,
            ended: match side.ended {
                "reset_linger" | "reset_unread" if !reasons => "reset_by_us",
                ended => ended,
            },
            sent: side.sent as u64,
            received: side.received as u64,
        });
    }

    /// How they ended, whoever opened them.
    pub(super) fn endings(&self) -> Endings {
        self.ends.iter().fold(Endings::default(), |endings, end| {
            endings.and(&Endings::of(&format!("{EITHER} {}", end.ended), 1))
        })
    }

    /// How many ends `are` so.
    pub(super) fn count(&self, are: impl Fn(&End) -> bool) -> i64 {
        i64::try_from(self.ends.iter().filter(|end| are(end)).count()).expect("few")
    }
}

impl End {
    /// Whether there was a connection.
    pub(super) fn was_open(&self) -> bool {
        self.path != REFUSED.path
    }

    /// Whether it leaves a timewait socket.
    pub(super) fn has_time_wait(&self) -> bool {
        self.ended == "graceful_active"
    }
}

/// Whether this kernel says why it sends a reset, as kernels since Linux 6.10 do.
fn resets_have_reasons() -> bool {
    let format = "/sys/kernel/tracing/events/tcp/tcp_send_reset/format";
    let format = fs::read_to_string(format).expect("a mounted tracefs");
    format.lines().any(|line| line.contains(" reason;"))
}
