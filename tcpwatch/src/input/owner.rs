//! The owner of a connection: a process, and how tcpwatch knows it.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use serde::{Serialize, Serializer};

use super::escaped::Escaped;

/// How tcpwatch knows the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// The process called `connect()`.
    Connect,
    /// The process called `listen()` on the socket, or on the listener of the connection.
    Listen,
    /// The process called `accept()`.
    Accept,
    /// The process closed the socket.
    Close,
    /// A scan of /proc found the process as holder of the socket.
    Scan,
}

impl How {
    /// All ways.
    pub const ALL: [Self; 5] = [Self::Connect, Self::Listen, Self::Accept, Self::Close, Self::Scan];

    /// The word in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::Close => "close",
            Self::Scan => "scan",
        }
    }

    /// The suffix after the owner in text output, such as `(listen)`. Empty for `connect()` and `accept()`, which are certain.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Connect | Self::Accept => "",
            Self::Listen => "(listen)",
            Self::Close => "(close)",
            Self::Scan => "(scan)",
        }
    }
}

impl Serialize for How {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

/// Why the owner of a connection is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownOwner {
    /// No process holds the socket of a finished connection: the process closed it, or exited, before /proc was read.
    Exited,
    /// No process that /proc shows holds it, and /proc hides the descriptors of other users.
    Hidden,
    /// No process of this PID namespace holds it, and other PID namespaces exist.
    OtherPidNamespace,
    /// No process holds the open socket: it is the kernel's.
    Kernel,
    /// The socket has no inode, so no process has a descriptor of it: it is not accepted yet, or closed already.
    NoDescriptor,
    /// Several processes hold it, and none is the ancestor of all others.
    Several,
    /// /proc was not read since, or not in time.
    NotScanned,
}

impl UnknownOwner {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Exited,
        Self::Hidden,
        Self::OtherPidNamespace,
        Self::Kernel,
        Self::NoDescriptor,
        Self::Several,
        Self::NotScanned,
    ];

    /// The name in JSON and CSV.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Hidden => "hidden",
            Self::OtherPidNamespace => "other_pid_namespace",
            Self::Kernel => "kernel",
            Self::NoDescriptor => "no_descriptor",
            Self::Several => "several_processes",
            Self::NotScanned => "not_scanned_yet",
        }
    }
}

/// Size of a name with its NUL (`TASK_COMM_LEN`, include/linux/sched.h).
const COMM: usize = 16;

/// Name of a process, at most 15 bytes of any kind but NUL (`comm`, proc(5)).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comm([u8; COMM]);

impl Comm {
    /// The name in `bytes`, up to the first NUL and at most 15 bytes, as in the kernel.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut comm = [0; COMM];
        let name = bytes.iter().take(COMM - 1).take_while(|&&byte| byte != 0);
        for (slot, &byte) in comm.iter_mut().zip(name) {
            *slot = byte;
        }
        Self(comm)
    }

    /// The bytes of the name, without the NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// The name as text, with U+FFFD for invalid UTF-8. Not escaped: do not print it on a terminal.
    #[must_use]
    pub fn as_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

impl fmt::Display for Comm {
    /// For text output, escaped by [`Escaped`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.as_bytes()).fmt(f)
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Comm({self})")
    }
}

impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.as_lossy())
    }
}

/// What stands for the processes in groups of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerBy {
    /// Each process.
    #[default]
    Process,
    /// All processes of a name.
    Comm,
    /// All processes of a cgroup.
    Cgroup,
    /// All processes of a container.
    Container,
    /// All processes of a Kubernetes pod.
    Pod,
}

impl OwnerBy {
    /// All.
    pub const ALL: [Self; 5] = [Self::Process, Self::Comm, Self::Cgroup, Self::Container, Self::Pod];

    /// The name after `--by` and in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Comm => "comm",
            Self::Cgroup => "cgroup",
            Self::Container => "container",
            Self::Pod => "pod",
        }
    }

    /// Whether the cgroup of a process decides in which group it is.
    #[must_use]
    pub const fn needs_cgroup(self) -> bool {
        matches!(self, Self::Cgroup | Self::Container | Self::Pod)
    }
}

/// The process that owns a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Owner {
    /// Process ID, as in /proc; `None` if unknown.
    pub pid: Option<NonZeroU32>,
    /// Name of the process.
    pub comm: Comm,
    /// How tcpwatch knows the owner.
    pub how: How,
    /// ID of its cgroup (v2 hierarchy) when the owner was recorded; `None` if unknown.
    #[serde(skip)]
    pub cgroup: Option<NonZeroU64>,
}

impl Owner {
    /// An owner from `process`, without a cgroup.
    #[must_use]
    pub const fn from_process(process: Process, how: How) -> Self {
        Self {
            pid: process.pid,
            comm: process.comm,
            how,
            cgroup: None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Process::from(*self).fmt(f)
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Process {
    /// Process ID, as in /proc; `None` if unknown.
    pub pid: Option<NonZeroU32>,
    /// Name of the process.
    pub comm: Comm,
}

impl From<Owner> for Process {
    fn from(owner: Owner) -> Self {
        Self {
            pid: owner.pid,
            comm: owner.comm,
        }
    }
}

impl fmt::Display for Process {
    /// `nginx[812]`, or `nginx[?]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{}[{pid}]", self.comm),
            None => write!(f, "{}[?]", self.comm),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An owner found by a scan.
    pub(crate) fn owner(pid: u32, comm: impl AsRef<[u8]>) -> Owner {
        Owner {
            pid: NonZeroU32::new(pid),
            comm: Comm::new(comm.as_ref()),
            how: How::Scan,
            cgroup: NonZeroU64::new(1),
        }
    }

    #[test]
    fn a_name_ends_at_its_nul_and_after_15_bytes() {
        assert_eq!(Comm::new(b"nginx\0garbage"), Comm::new(b"nginx"));
        assert_eq!(Comm::new(b"0123456789abcdef").as_bytes(), b"0123456789abcde");
        assert_eq!(Comm::new(b"\0nginx"), Comm::default());
        assert_eq!(Comm::default().as_bytes(), b"");
    }

    #[test]
    fn people_see_name_and_number_and_no_escape_codes() {
        assert_eq!(owner(812, b"nginx").to_string(), "nginx[812]");
        assert_eq!(owner(0, b"nginx").to_string(), "nginx[?]");
        assert_eq!(owner(7, b"a\n\x1b[2J\xff").to_string(), r"a\n\u{1b}[2J\xff[7]");
        assert_eq!(format!("{:?}", Comm::new(b"a\x1b")), r"Comm(a\u{1b})");
    }

    #[test]
    fn programs_see_valid_text() {
        let json = |owner: &Owner| serde_json::to_string(owner).unwrap();
        assert_eq!(
            json(&owner(812, b"nginx")),
            r#"{"pid":812,"comm":"nginx","how":"scan"}"#
        );
        assert_eq!(
            json(&owner(0, b"a\n\x1b\xff\"")),
            "{\"pid\":null,\"comm\":\"a\\n\\u001b\u{fffd}\\\"\",\"how\":\"scan\"}"
        );
    }

    #[test]
    fn what_nobody_doubts_has_no_suffix() {
        let suffixes = [How::Connect, How::Listen, How::Accept, How::Close, How::Scan].map(How::suffix);
        assert_eq!(suffixes, ["", "(listen)", "", "(close)", "(scan)"]);
    }
}
