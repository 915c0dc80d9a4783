//! Many sockets that do nothing, held by processes of their own: one may not open that many files.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::{env, iter};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal};

use super::child::Running;
use super::workload;

/// Files a holder has open besides its sockets, more than enough.
const SPARE: u64 = 64;
/// Of so many connections, one is closed by its client, which leaves the server in `CLOSE_WAIT`.
const HALF_CLOSED: u64 = 20;
/// Of so many sockets, one is in `TIME_WAIT`.
const ENDED: u64 = 20;

/// What one process holds.
#[derive(Args)]
pub(super) struct Share {
    /// Connections over loopback, both ends
    connections: u64,
}

/// Sockets that are held until this is dropped.
pub(super) struct SocketPool {
    holders: Vec<Running>,
}

impl SocketPool {
    /// Holds about `sockets` sockets, the listeners and those in `TIME_WAIT` included.
    pub(super) fn gather(sockets: u64) -> Result<Self> {
        let ended = sockets / ENDED;
        let connections = (sockets - ended).div_ceil(2);
        let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let share = (files.saturating_sub(SPARE) / 2).clamp(1, 10_000);
        let this = env::current_exe().context("cannot tell where this program is")?;
        let shares = iter::repeat_n(share, usize::try_from(connections / share)?).chain([connections % share]);
        let holders = shares
            .filter(|&share| share > 0)
            .map(|share| {
                Running::start(
                    Command::new(&this)
                        .args(["bench", "hold", &share.to_string()])
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped()),
                )
            })
            .collect::<Result<Vec<Running>>>()?;
        let mut pool = Self { holders };
        for holder in &mut pool.holders {
            let stdout = holder.pipes().stdout.take().context("a holder has no output")?;
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            if line.trim() != READY {
                bail!("a process that was to hold sockets ended: see above");
            }
        }
        pool.refresh(ended)?;
        Ok(pool)
    }

    /// Adds sockets in `TIME_WAIT`, which stay for a minute.
    #[expect(clippy::unused_self, reason = "they belong to the pool")]
    fn refresh(&mut self, ended: u64) -> Result<()> {
        workload::connections(ended)?;
        Ok(())
    }
}

/// What a holder says when it holds everything.
const READY: &str = "holding";

/// Holds `share` until the input ends, which it does with whoever started this.
pub(super) fn hold(share: &Share) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie this process to its parent")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let address = listener.local_addr()?;
    let mut held = Vec::new();
    for number in 0..share.connections {
        let client = TcpStream::connect(address).context("cannot connect over loopback")?;
        let (server, _) = listener.accept()?;
        if number % HALF_CLOSED == 0 {
            client.shutdown(Shutdown::Write)?;
        }
        held.push((client, server));
    }
    io::Write::write_all(&mut io::stdout(), format!("{READY}\n").as_bytes())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
