//! Where the bench runs: namespaces of its own, so that only its sockets are there and nothing of it stays.
//!
//! The kernel ends every process of a process namespace with its first one, which dies with the process that waits for
//! it outside; the network namespace and the mounts go with the last process in them. So nothing is left behind, however
//! the bench ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Signal, set_parent_process_death_signal, setpriority_process};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::Built;
use super::child::Running;
use super::peers::Peers;
use super::report::Report;
use crate::system;

/// Where the kernel describes its tracepoints; peers need it.
const TRACEFS: &str = "/sys/kernel/tracing";
/// Where what the tracers print goes: memory.
pub(super) const SCRATCH: &str = "/dev/shm";

/// What the bench has to work with.
pub(super) struct Sandbox {
    /// The program that is measured.
    pub(super) tcpwatch: PathBuf,
    /// The program that watches with any set of needs.
    pub(super) watch_needs: PathBuf,
    /// The object with the empty program.
    pub(super) object: Vec<u8>,
    /// What it is compared with.
    pub(super) peers: Peers,
    /// Whether numbers may be poor.
    pub(super) quick: bool,
}

/// Makes the namespaces, runs this program inside, and waits for it.
pub(super) fn enter() -> Result<()> {
    let this = env::current_exe().context("cannot tell where this program is")?;
    let namespaces = UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    // SAFETY: this process has one thread, and does nothing more than to wait for a child.
    unsafe { unshare_unsafe(namespaces) }.context("cannot make namespaces")?;
    let arguments = env::args_os().skip(1).map(|argument| match argument.to_str() {
        Some("outside") => OsString::from("inside"),
        _ => argument,
    });
    let inside = Running::start(Command::new(this).args(arguments))?;
    if inside.wait().is_err() {
        bail!("the bench did not run to its end: see above");
    }
    Ok(())
}

impl Sandbox {
    /// Furnishes the namespaces this process was started in.
    pub(super) fn prepare(built: &Built, object: Vec<u8>) -> Result<Self> {
        set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie this process to its parent")?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .context("cannot make the mounts private")?;
        lay("proc", "/proc")?;
        lay("tmpfs", SCRATCH)?;
        if !Path::new(TRACEFS).join("events").exists() {
            lay("tracefs", TRACEFS)?;
        }
        let ip = system::find("ip").context("the bench needs the program ip (package iproute2)")?;
        if !system::succeeds(Command::new(ip).args(["link", "set", "lo", "up"]))? {
            bail!("cannot bring the loopback interface up: see above");
        }
        let sandbox = Self {
            tcpwatch: built.tcpwatch.clone(),
            watch_needs: built.watch_needs.clone(),
            object,
            peers: Peers::find(),
            quick: built.plan.quick,
        };
        sandbox.set("ip_local_port_range", "1024 65535")?;
        sandbox.keep_timewait(4096)?;
        // What others run meanwhile would be measured too. Everything that is compared gets the same.
        if setpriority_process(None, -20).is_err() {
            eprintln!("this process may not run before others: expect more noise");
        }
        Ok(sandbox)
    }

    /// Lets at most `sockets` wait in TIME_WAIT: a busy workload would fill the ports with them.
    pub(super) fn keep_timewait(&self, sockets: u32) -> Result<()> {
        self.set("tcp_max_tw_buckets", &sockets.to_string())
    }

    /// Sets a sysctl of this namespace.
    #[expect(
        clippy::unused_self,
        reason = "the value shows that this process has a namespace of its own"
    )]
    fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net/ipv4").join(name);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
    }

    /// One of the two, by how well the numbers must be known.
    pub(super) fn choose<T>(&self, well: T, quickly: T) -> T {
        if self.quick { quickly } else { well }
    }

    /// Says where all this was measured, and with what.
    pub(super) fn describe(&self, report: &mut Report) -> Result<()> {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        report.title("machine")?;
        report.line(&format!("Linux {kernel}, {cpus} CPUs, load average {}", load()))?;
        report.line("rounds in turns within one run; noise is the median distance from the median (MAD)")?;
        report.line(&format!(
            "programs print to a file on tmpfs ({SCRATCH}) unless said otherwise"
        ))?;
        if self.quick {
            report.line("--quick: too few and too short rounds to judge by")?;
        }
        for peer in self.peers.describe() {
            report.line(&peer)?;
        }
        Ok(())
    }
}

/// The load of the last 1, 5 and 15 minutes.
pub(super) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn lay(kind: &str, place: &str) -> Result<()> {
    mount(kind, place, kind, MountFlags::empty(), None).with_context(|| format!("cannot mount {kind} on {place}"))
}
