//! A network namespace, and a mount namespace, for each test: nothing a test does reaches the host.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::child::Reaped;
use super::output::output;
use super::spoiled::this_test;
use super::unseen::Witness;

/// Where tracefs belongs.
pub(crate) const TRACEFS: &str = "/sys/kernel/tracing";

/// The network namespace of the calling thread and of all threads and children it starts.
pub(crate) struct Netns {
    /// The namespace's inode number, its name in the kernel.
    pub(crate) inum: u64,
}

impl Netns {
    /// Sets a sysctl of this namespace: `set("ipv4/tcp_fin_timeout", "60")`.
    #[expect(
        clippy::unused_self,
        reason = "the value shows that the caller lives in a namespace of its own"
    )]
    pub(crate) fn set(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(name);
        fs::write(&path, value).unwrap_or_else(|error| panic!("writing {value} to {}: {error}", path.display()));
    }
}

/// Runs `test` in a fresh network namespace, loopback up, tracefs mounted in a private mount namespace.
pub(crate) fn in_netns<T: Send>(test: impl FnOnce(&Netns) -> T + Send) -> T {
    in_netns_without_tracefs(|netns| {
        if !Path::new(TRACEFS).join("events").exists() {
            mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None).expect("mounting tracefs");
        }
        let _witness = Witness::start(TRACEFS);
        test(netns)
    })
}

/// As [`in_netns`], with the host's mounts as they are, which need not include tracefs.
pub(crate) fn in_netns_without_tracefs<T: Send>(test: impl FnOnce(&Netns) -> T + Send) -> T {
    let uid = rustix::process::geteuid();
    assert!(
        uid.is_root(),
        "the kernel suite makes network namespaces: run it as root"
    );
    in_thread(|| {
        unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS);
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("private mounts");
        let netns = loopback();
        test(&netns)
    })
}

/// A second namespace beside the test's own.
pub(crate) struct Neighbour {
    /// The namespace's inode number.
    pub(crate) inum: u64,
    namespace: File,
    keeper: Reaped,
}

impl Neighbour {
    /// A fresh namespace, with a process living in it.
    pub(crate) fn new() -> Self {
        in_thread(|| {
            unshare(UnshareFlags::NEWNET);
            let netns = loopback();
            // cat ends by itself when this process dies, however it dies.
            let keeper = Reaped::spawn(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()));
            let namespace = File::open("/proc/thread-self/ns/net").expect("opening the namespace");
            Self {
                inum: netns.inum,
                namespace,
                keeper,
            }
        })
    }

    /// A process that lives there and nowhere else.
    pub(crate) fn pid(&self) -> u32 {
        self.keeper.pid()
    }

    /// Runs `there` inside.
    pub(crate) fn run<T: Send>(&self, there: impl FnOnce(&Netns) -> T + Send) -> T {
        in_thread(|| {
            move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
            there(&Netns { inum: self.inum })
        })
    }
}

/// A neighbour one hop away, by a wire of its own.
pub(crate) struct Hop {
    pub(crate) neighbour: Neighbour,
}

impl Hop {
    /// Where the neighbour has its listeners.
    pub(crate) const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));
    /// To the neighbour's knowledge this is nowhere, and it says so to whoever sends something there.
    pub(crate) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

    /// Lays the wire from the calling thread's namespace.
    pub(crate) fn new() -> Self {
        let neighbour = Neighbour::new();
        let there = neighbour.pid().to_string();
        // The wire of a hop before may be there still: the kernel takes a namespace down in its own time.
        drop(Command::new("ip").args(["link", "del", "near"]).output());
        let kinds = ["link", "add", "near", "type", "veth", "peer", "name", "far", "netns"];
        ip(&[&kinds[..], &[&there]].concat());
        neighbour.run(|netns| {
            netns.set("ipv4/ip_forward", "1");
            netns.set("ipv4/icmp_ratelimit", "0");
            ip(&["addr", "add", "10.9.0.2/24", "dev", "far"]);
            ip(&["link", "set", "far", "up"]);
            ip(&["route", "add", "unreachable", "203.0.113.0/24"]);
            // An address of its own comes first.
            ip(&["route", "add", "unreachable", "10.9.0.3"]);
        });
        ip(&["addr", "add", "10.9.0.1/24", "dev", "near"]);
        ip(&["link", "set", "near", "up"]);
        ip(&["route", "add", "203.0.113.0/24", "via", "10.9.0.2"]);
        let hop = Self { neighbour };
        hop.is_there(true);
        hop
    }

    /// Whether the neighbour has its address; where it has not, it says that nobody can be reached there.
    pub(crate) fn is_there(&self, there: bool) {
        let what = if there { "add" } else { "del" };
        self.neighbour.run(|_| ip(&["addr", what, "10.9.0.3/32", "dev", "far"]));
    }
}

/// `ip ARGS` in the calling thread's namespace.
pub(crate) fn ip(args: &[&str]) {
    output(Command::new("ip").args(args));
}

/// Runs `body` in a thread of its own, since a thread can't go back to a namespace it left for good. The thread has the
/// name of the test.
pub(crate) fn in_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(this_test())
            .spawn_scoped(scope, body)
            .expect("a thread");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn unshare(flags: UnshareFlags) {
    // SAFETY: file descriptors stay shared (no FILES in `flags`); namespaces and the working directory are this thread's.
    unsafe { unshare_unsafe(flags) }.expect("unshare: the kernel suite needs CAP_SYS_ADMIN");
}

/// Brings loopback up, IPv6 too, and names the namespace the thread is in.
fn loopback() -> Netns {
    ip(&["link", "set", "lo", "up"]);
    let inum = fs::metadata("/proc/thread-self/ns/net")
        .expect("this thread's namespace")
        .ino();
    let netns = Netns { inum };
    netns.set("ipv6/conf/lo/disable_ipv6", "0");
    netns
}
