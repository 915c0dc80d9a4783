//! What the commands that watch the kernel share: signals, deadlines, and reaching the kernel side.

use std::future::pending;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::values::{Interval, NetnsArg};
use crate::cli::{FilterArgs, HookArg, WatchArgs};
use crate::model::filter::Filter;
use crate::source::ebpf::{self, Hook, Kernel, Options};
use crate::sys::btf;
use crate::sys::netns::{self, Namespace};

/// A reason to end: SIGINT, SIGTERM, or the time given by `--duration`.
pub(super) struct End {
    interrupt: Signal,
    terminate: Signal,
    deadline: Option<tokio::time::Instant>,
}

impl End {
    /// Takes over the signals, so that none ends the program before it has said its last.
    pub(super) fn new(duration: Option<Interval>) -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            deadline: duration.map(|Interval(time)| tokio::time::Instant::now() + time),
        })
    }

    /// Waits for the end.
    pub(super) async fn come(&mut self) {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = deadline => {}
        }
    }
}

/// Runs `work` on a runtime of one thread.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(work)
}

/// Loads and attaches the kernel side, with a stream or without.
///
/// # Errors
/// One line: what cannot be had, why, and what to type.
pub(super) fn watch(filter: &FilterArgs, watch: &WatchArgs, stream: bool) -> Result<Watched> {
    let hook = match watch.hook {
        HookArg::Auto => ebpf::pick()?,
        HookArg::TpBtf => Hook::TpBtf,
        HookArg::Tracepoint => Hook::Tracepoint,
    };
    let netns = scope(hook, filter)?;
    let namespaces = netns::resolve(Path::new("/"), &netns)?;
    let wanted = filter.to_filter();
    let inode = match namespaces.as_slice() {
        [one] if netns != NetnsArg::All => one.inode,
        _ => 0,
    };
    let kernel = Kernel::load(&Options {
        object: ebpf::object::EMBEDDED,
        hook: Some(hook),
        filter: &wanted.for_kernel(inode).map_err(anyhow::Error::msg)?,
        ports: &wanted.port_words(),
        ring_bytes: stream.then_some(watch.ring_size.0),
    })?;
    Ok(Watched {
        kernel,
        filter: wanted,
        netns,
        namespaces,
    })
}

/// The kernel side, and what it looks at.
pub(super) struct Watched {
    pub(super) kernel: Kernel,
    pub(super) filter: Filter,
    pub(super) netns: NetnsArg,
    pub(super) namespaces: Vec<Namespace>,
}

/// The namespaces `hook` can look at: without BTF the classic one cannot tell them apart, and sees all.
fn scope(hook: Hook, filter: &FilterArgs) -> Result<NetnsArg> {
    if hook == Hook::TpBtf || btf::path(Path::new("/")).exists() {
        return Ok(filter.netns.clone());
    }
    match filter.netns {
        NetnsArg::Own | NetnsArg::All => {
            let _ = writeln!(
                io::stderr(),
                "tcpwatch: this kernel has no BTF: looking at all network namespaces, which cannot be told apart"
            );
            Ok(NetnsArg::All)
        }
        NetnsArg::Pid(_) | NetnsArg::Path(_) => {
            bail!("without BTF the classic hook cannot tell network namespaces apart; type --netns all")
        }
    }
}

/// How often a reader of the stream comes by unasked: half of the 100 ms that output may be late.
pub(super) const POLL: Duration = Duration::from_millis(50);
