//! The traffic that is measured: sockets that change their state as fast as the kernel lets them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, Shutdown, SocketType, bind, listen, shutdown, socket};

use crate::clock;

/// What a workload took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// From its start to its end.
    pub(super) wall: Duration,
    /// On a CPU, of the thread that ran it; what interrupts did meanwhile is in it.
    pub(super) cpu: Duration,
}

/// An address the kernel chooses the port of.
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Transitions of one turn of [`turns`]: `7>10` and `10>7`.
pub(super) const TRANSITIONS_A_TURN: u64 = 2;

/// Opens and closes one listener `count` times.
pub(super) fn turns(count: u64) -> Result<Took> {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).context("cannot make a socket")?;
    // Bound once: a port to be chosen at every turn would cost more than what is measured.
    bind(&listener, &ANYWHERE).context("cannot bind a socket")?;
    time(count, || {
        listen(&listener, 1)?;
        shutdown(&listener, Shutdown::Both)
    })
    .context("cannot listen")
}

/// Makes `count` connections over loopback, one after the other: connect, accept, close, close.
pub(super) fn connections(count: u64) -> Result<Took> {
    let listener = TcpListener::bind(ANYWHERE).context("cannot listen")?;
    let address = listener.local_addr().context("cannot listen")?;
    time(count, || {
        let client = TcpStream::connect(address)?;
        let server = listener.accept()?;
        drop(client);
        drop(server);
        std::io::Result::Ok(())
    })
    .context("cannot connect over loopback")
}

fn time<E>(count: u64, mut turn: impl FnMut() -> Result<(), E>) -> Result<Took, E> {
    let cpu = clock::thread_cpu();
    let wall = clock::start();
    for _ in 0..count {
        turn()?;
    }
    let wall = wall.elapsed();
    Ok(Took {
        wall,
        cpu: clock::thread_cpu().saturating_sub(cpu),
    })
}
