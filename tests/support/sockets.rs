//! Sockets by hand: the few steps all workloads are made of. None can hang: reads and accepts time out.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::clock::PATIENCE;

/// A socket for connecting to or listening at `address`.
pub(crate) fn socket(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).expect("socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// A listener. Port 0 lets the kernel choose: see [`address`].
pub(crate) fn listen(address: SocketAddr, backlog: i32) -> Socket {
    let socket = bound(address);
    socket
        .listen(backlog)
        .unwrap_or_else(|error| panic!("listen at {address}: {error}"));
    socket
}

/// A socket bound to `address`, neither listening nor connected.
pub(crate) fn bound(address: SocketAddr) -> Socket {
    let socket = socket(address);
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket
        .bind(&address.into())
        .unwrap_or_else(|error| panic!("bind to {address}: {error}"));
    socket
}

/// Connects to `address` and waits for the handshake.
pub(crate) fn connect(address: SocketAddr) -> Socket {
    let socket = socket(address);
    socket
        .connect(&address.into())
        .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
    socket
}

/// Sends the SYN for `socket` and waits for nothing.
pub(crate) fn start_connect(socket: &Socket, address: SocketAddr) {
    socket.set_nonblocking(true).expect("nonblocking");
    let error = socket
        .connect(&address.into())
        .expect_err("a nonblocking connect does not finish at once");
    assert_eq!(
        error.raw_os_error(),
        Some(Errno::INPROGRESS.raw_os_error()),
        "connect: {error}"
    );
    socket.set_nonblocking(false).expect("blocking");
}

/// Accepts one connection.
pub(crate) fn accept(listener: &Socket) -> Socket {
    let (socket, _) = listener.accept().expect("accept");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// The socket's own address.
pub(crate) fn address(socket: &Socket) -> SocketAddr {
    socket
        .local_addr()
        .expect("getsockname")
        .as_socket()
        .expect("an internet socket")
}

/// Both ends of one connection.
pub(crate) struct Pair {
    pub(crate) client: Socket,
    pub(crate) server: Socket,
}

/// Connects to `listener` and accepts. Client `7>2 2>1`, server `10>3 3>1`.
pub(crate) fn pair(listener: &Socket) -> Pair {
    let client = connect(address(listener));
    Pair {
        client,
        server: accept(listener),
    }
}

/// `shutdown(SHUT_WR)`: sends the FIN, keeps the descriptor.
pub(crate) fn send_fin(socket: &Socket) {
    socket.shutdown(Shutdown::Write).expect("shutdown");
}

/// Waits for the peer's FIN, and acknowledges it at once: a delayed ACK would leave the peer's next step to a timer.
pub(crate) fn read_eof(mut socket: &Socket) {
    assert_eq!(
        socket.read(&mut [0; 64]).expect("the peer's FIN"),
        0,
        "data instead of a FIN"
    );
    socket.set_tcp_quickack(true).expect("TCP_QUICKACK");
}

/// `close()` with `SO_LINGER` 0: sends a reset.
pub(crate) fn reset(socket: Socket) {
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(socket);
}

/// Sets an option that has a number for its value.
pub(crate) fn set_option(socket: &Socket, level: i32, option: i32, value: i32) {
    let bytes = size_of::<i32>().try_into().expect("four");
    // SAFETY: the value is there for as long as the call takes, and as long as it is said to be.
    let failed = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), bytes) } < 0;
    assert!(
        !failed,
        "setsockopt({level}, {option}): {}",
        std::io::Error::last_os_error()
    );
}

/// Waits until `socket` has an error, and leaves it there.
pub(crate) fn until_error(socket: &Socket) {
    let patience = PATIENCE.try_into().expect("not long");
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let ready = poll(&mut fds, Some(&patience)).expect("poll");
    assert_eq!(ready, 1, "waited in vain for an error");
}

/// Waits until `socket` has the error `errno`, and takes it.
pub(crate) fn until_failed(socket: &Socket, errno: Errno) {
    until_error(socket);
    let error = socket.take_error().expect("SO_ERROR");
    assert_eq!(error.and_then(|error| error.raw_os_error()), Some(errno.raw_os_error()));
}

/// Makes a socket deaf: it drops every segment that comes for it.
pub(crate) fn deafen(socket: &Socket) {
    const RETURN_CONSTANT: u16 = 6;
    let keep_no_byte = SockFilter::new(RETURN_CONSTANT, 0, 0, 0);
    socket.attach_filter(&[keep_no_byte]).expect("SO_ATTACH_FILTER");
}

/// Lets a deaf socket hear again; what it missed comes with the retransmissions.
pub(crate) fn undeafen(socket: &Socket) {
    socket.detach_filter().expect("SO_DETACH_FILTER");
}

/// Clients that send a SYN and hear no answer, so many.
pub(crate) fn deaf_clients(listener: &Socket, count: usize) -> Vec<Socket> {
    let to = address(listener);
    let deaf = || {
        let client = socket(to);
        deafen(&client);
        start_connect(&client, to);
        client
    };
    (0..count).map(|_| deaf()).collect()
}
