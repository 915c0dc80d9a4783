//! Settings and counters of a host.

use std::collections::BTreeMap;
use std::fmt;

use crate::input::counter::{Counter, CounterValues};
use crate::input::escaped::Escaped;
use crate::input::listener::Listener;
use crate::input::namespace::Scope;
use crate::input::owner::Owner;
use crate::input::ports::range::PortRange;
use crate::input::ports::reuse::TwReuse;
use crate::input::ports::walk::HeldPorts;
use crate::input::release::Release;
use crate::input::setting::Setting;

/// Facts about a host and one of its network namespaces; `None` is unknown.
#[derive(Clone, Debug, Default)]
pub struct HostFrame {
    /// Where the namespace belongs.
    pub scope: Scope,
    /// Inode number of the namespace.
    pub netns: Option<u32>,
    /// Whether it is the initial namespace. Its counters count since boot, and only it shows the values of the whole host.
    pub first: bool,
    /// `uname -r`, not escaped.
    pub release_text: Option<String>,
    /// Uptime of the host, s.
    pub uptime_s: Option<u64>,
    /// The value of each readable setting, as text.
    pub settings: BTreeMap<Setting, String>,
    /// Why an existing setting could not be read.
    pub unread: BTreeMap<Setting, String>,
    /// Buckets of the socket table (`tcp_ehash_entries`, since Linux 6.1). The kernel computes the number from memory size.
    pub hash_buckets: Option<u64>,
    /// The text of `tcp_tw_reuse_delay` (since Linux 6.14).
    pub tw_reuse_delay: Option<String>,
    /// The lines of files that set a setting at boot, in the order in which they are read. Empty in a namespace other than the
    /// initial one.
    pub lines: Vec<ConfigLine>,
    /// Counters of the namespace.
    pub counters: CounterValues,
    /// Open sockets of the namespace, without timewait sockets.
    pub open_sockets: Option<u64>,
    /// Timewait sockets of the namespace.
    pub time_wait: Option<u64>,
    /// Orphans of the host.
    pub orphans: Option<u64>,
    /// The listeners.
    pub listeners: Option<Vec<Listener>>,
    /// The range of ports that connect(2) uses.
    pub range: Option<PortRange>,
    /// The sockets that hold these ports; `None` if not read.
    pub held: Option<HeldPorts>,
    /// Open files of the host.
    pub open_files: Option<u64>,
    /// The processes closest to their descriptor limit, the closest first.
    pub descriptors: Option<Vec<Descriptors>>,
    /// Connection tracking.
    pub conntrack: Conntrack,
    /// Other files that could not be read.
    pub missing: Vec<Missing>,
}

/// A line of a file that sets a setting at boot (sysctl.conf(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigLine {
    /// The setting.
    pub setting: Setting,
    /// The value: words separated by one space. Not escaped.
    pub value: String,
    /// File and line.
    pub place: Place,
    /// What becomes of it at boot.
    pub fate: Fate,
}

/// What becomes of a line of a file at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It sets the value.
    Wins,
    /// A later line sets another value.
    Overridden,
    /// No program reads the file.
    NotRead,
}

/// A line of a file; shown as `/etc/sysctl.conf:7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path on its host. Not escaped.
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Escaped(self.file.as_bytes()), self.line)
    }
}

/// Open descriptors of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The process.
    pub owner: Owner,
    /// Number of open descriptors.
    pub open: u64,
    /// The soft limit (`RLIMIT_NOFILE`).
    pub limit: u64,
}

/// Counters of connection tracking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Current entries of its table (`nf_conntrack_count`).
    pub count: Option<u64>,
    /// Packets dropped because the table was full or the packet was invalid (`drop` in `/proc/net/stat/nf_conntrack`;
    /// `nf_conntrack_in` counts both).
    pub dropped: Option<u64>,
    /// Entries evicted early to make room (`early_drop`).
    pub early_dropped: Option<u64>,
}

/// A file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Path of the file. Not escaped.
    pub path: String,
    /// The reason.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Escaped(self.path.as_bytes()), self.why)
    }
}

impl HostFrame {
    /// The kernel's release.
    #[must_use]
    pub fn release(&self) -> Option<Release> {
        Release::parse(self.release_text.as_deref()?)
    }

    /// The value of `setting`, if it is one number.
    #[must_use]
    pub fn number(&self, setting: Setting) -> Option<u64> {
        self.settings.get(&setting)?.parse().ok()
    }

    /// The default of `setting`, if the kernel computes it from memory size in a known way (`tcp_set_hashinfo`, `tcp_init`).
    #[must_use]
    pub fn default_of(&self, setting: Setting) -> Option<u64> {
        let buckets = self.hash_buckets?;
        match setting {
            Setting::TcpMaxTwBuckets => Some(buckets / 2),
            // Another namespace may have its own socket table.
            Setting::TcpMaxOrphans if self.first => Some(buckets / 2),
            Setting::TcpMaxSynBacklog => Some((buckets / 128).max(128)),
            _ => None,
        }
    }

    /// When connect(2) may reuse a port that is in `TIME_WAIT`.
    #[must_use]
    pub fn tw_reuse(&self) -> Option<TwReuse> {
        let text = |setting| self.settings.get(&setting).map(String::as_str);
        let (reuse, timestamps) = (text(Setting::TcpTwReuse)?, text(Setting::TcpTimestamps)?);
        TwReuse::parse(reuse, timestamps, self.tw_reuse_delay.as_deref())
    }

    /// Whether there are too few sockets for any destination to hold half of the ports; `None` if unknown.
    #[must_use]
    pub fn has_ports_to_spare(&self) -> Option<bool> {
        let sockets = self.open_sockets?.saturating_add(self.time_wait?);
        Some(sockets < u64::from(self.range.as_ref()?.usable()) / 2)
    }

    /// The value of `counter`.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> Option<u64> {
        self.counters.get(counter)
    }

    /// The line that sets `setting` at boot: the last one that is read.
    #[must_use]
    pub fn line_of(&self, setting: Setting) -> Option<&ConfigLine> {
        let mut lines = self.lines.iter();
        lines.find(|line| line.setting == setting && line.fate == Fate::Wins)
    }

    /// The last line for `setting` that no program reads at boot.
    #[must_use]
    pub fn unread_line_of(&self, setting: Setting) -> Option<&ConfigLine> {
        let mut lines = self.lines.iter().rev();
        lines.find(|line| line.setting == setting && line.fate == Fate::NotRead)
    }

    /// The time that the counters cover, s; unknown if the namespace is younger than the host.
    #[must_use]
    pub fn counted_s(&self) -> Option<u64> {
        self.uptime_s.filter(|_| self.first)
    }
}
