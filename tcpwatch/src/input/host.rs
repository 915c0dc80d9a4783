//! What a host's settings and counters are, as far as they could be read.

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

/// What was read of a host and of one of its network namespaces; `None` is unknown.
#[derive(Clone, Debug, Default)]
pub struct HostFrame {
    /// Whose namespace it is.
    pub scope: Scope,
    /// Its inode number.
    pub netns: Option<u32>,
    /// Whether it is the one the host started with: its counters count since boot, and it alone shows what is the whole host's.
    pub first: bool,
    /// `uname -r`, not escaped.
    pub release_text: Option<String>,
    /// How long the host is up, s.
    pub uptime_s: Option<u64>,
    /// The text of each setting that could be read.
    pub settings: BTreeMap<Setting, String>,
    /// Why those could not be read that ought to be there.
    pub unread: BTreeMap<Setting, String>,
    /// Buckets of the table of sockets (`tcp_ehash_entries`, since Linux 6.1), whose number follows from memory.
    pub hash_buckets: Option<u64>,
    /// The text of `tcp_tw_reuse_delay` (since Linux 6.14).
    pub tw_reuse_delay: Option<String>,
    /// The lines of files that set one of them at boot, in the order they are read; none where it is no namespace that they are for.
    pub lines: Vec<ConfigLine>,
    /// The namespace's counters.
    pub counters: CounterValues,
    /// Its sockets that are not closed, timewait sockets not among them.
    pub open_sockets: Option<u64>,
    /// Its timewait sockets.
    pub time_wait: Option<u64>,
    /// The host's orphans.
    pub orphans: Option<u64>,
    /// Who listens.
    pub listeners: Option<Vec<Listener>>,
    /// Which ports connect(2) chooses from.
    pub range: Option<PortRange>,
    /// Who holds them; `None` where nobody looked.
    pub held: Option<HeldPorts>,
    /// Open files of the host.
    pub open_files: Option<u64>,
    /// The processes that are nearest to having no descriptor left, the nearest first.
    pub descriptors: Option<Vec<Descriptors>>,
    /// Connections that are tracked, where they are.
    pub conntrack: Conntrack,
    /// What else could not be read.
    pub missing: Vec<Missing>,
}

/// A line of a file that sets something at boot (sysctl.conf(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigLine {
    /// What it sets.
    pub setting: Setting,
    /// To what: words set apart by one blank. Not escaped.
    pub value: String,
    /// Where it is.
    pub place: Place,
    /// What becomes of it at boot.
    pub fate: Fate,
}

/// What becomes of a line of a file at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// What it says is set.
    Wins,
    /// A line that is read after it sets the same.
    Overridden,
    /// Nothing reads its file.
    NotRead,
}

/// A line of a file; shown as `/etc/sysctl.conf:7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path on its host. Not escaped.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Escaped(self.file.as_bytes()), self.line)
    }
}

/// Descriptors a process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Whose.
    pub owner: Owner,
    /// How many.
    pub open: u64,
    /// How many it may have: its soft limit (`RLIMIT_NOFILE`).
    pub limit: u64,
}

/// What connection tracking says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries in its table now (`nf_conntrack_count`).
    pub count: Option<u64>,
    /// Packets dropped because it was full, or for what was wrong with them (`drop` in `/proc/net/stat/nf_conntrack`, which
    /// `nf_conntrack_in` counts for either).
    pub dropped: Option<u64>,
    /// Entries thrown out early to make room (`early_drop`).
    pub early_dropped: Option<u64>,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its path. Not escaped.
    pub path: String,
    /// Why.
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

    /// The value of `setting`, where it is one number.
    #[must_use]
    pub fn number(&self, setting: Setting) -> Option<u64> {
        self.settings.get(&setting)?.parse().ok()
    }

    /// The default of `setting`, where memory makes it and it is known here what (`tcp_set_hashinfo`, `tcp_init`).
    #[must_use]
    pub fn default_of(&self, setting: Setting) -> Option<u64> {
        let buckets = self.hash_buckets?;
        match setting {
            Setting::TcpMaxTwBuckets => Some(buckets / 2),
            // Another namespace may have a table of its own.
            Setting::TcpMaxOrphans if self.first => Some(buckets / 2),
            Setting::TcpMaxSynBacklog => Some((buckets / 128).max(128)),
            _ => None,
        }
    }

    /// When connect(2) may take a port that is in `TIME_WAIT`.
    #[must_use]
    pub fn tw_reuse(&self) -> Option<TwReuse> {
        let text = |setting| self.settings.get(&setting).map(String::as_str);
        let (reuse, timestamps) = (text(Setting::TcpTwReuse)?, text(Setting::TcpTimestamps)?);
        TwReuse::parse(reuse, timestamps, self.tw_reuse_delay.as_deref())
    }

    /// Whether no destination can hold half of the ports, for there are fewer sockets; `None` where that is unknown.
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

    /// The line that sets `setting` at boot.
    #[must_use]
    pub fn line_of(&self, setting: Setting) -> Option<&ConfigLine> {
        let mut lines = self.lines.iter();
        lines.find(|line| line.setting == setting && line.fate == Fate::Wins)
    }

    /// The last line that would set `setting`, and is not read at boot.
    #[must_use]
    pub fn unread_line_of(&self, setting: Setting) -> Option<&ConfigLine> {
        let mut lines = self.lines.iter().rev();
        lines.find(|line| line.setting == setting && line.fate == Fate::NotRead)
    }

    /// How long the counters count, s; unknown where the namespace is younger than the host.
    #[must_use]
    pub fn counted_s(&self) -> Option<u64> {
        self.uptime_s.filter(|_| self.first)
    }
}
