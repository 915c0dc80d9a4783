//! What is the same in every language: defaults of settings, and since when they are what they are.

use super::setting::Setting;

/// Facts of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its default, as sysctl(8) prints it; `None` where it follows from memory.
    pub default: Option<&'static str>,
    /// What the default was before a version of Linux: version, value.
    pub earlier: Option<(&'static str, &'static str)>,
    /// The version of Linux that has it no more.
    pub gone: Option<&'static str>,
    /// Whether each network namespace has its own.
    pub namespaced: bool,
}

impl Facts {
    /// Those of `setting`, by ip-sysctl.rst, sysctl/fs.rst, nf_conntrack-sysctl.rst and the sources they describe.
    #[must_use]
    pub const fn of(setting: Setting) -> Self {
        let default = match setting {
            Setting::TcpTwReuse => "2",
            Setting::TcpSyncookies | Setting::TcpTimestamps => "1",
            Setting::TcpTwRecycle | Setting::TcpAbortOnOverflow | Setting::TcpOrphanRetries => "0",
            Setting::TcpFinTimeout => "60",
            Setting::IpLocalPortRange => "32768 60999",
            Setting::IpLocalReservedPorts => "",
            Setting::Somaxconn => "4096",
            Setting::TcpKeepaliveTime => "7200",
            Setting::TcpKeepaliveIntvl => "75",
            Setting::TcpKeepaliveProbes => "9",
            Setting::TcpRetries1 => "3",
            Setting::TcpRetries2 => "15",
            Setting::TcpSynRetries => "6",
            Setting::TcpSynackRetries => "5",
            Setting::NrOpen => "1048576",
            Setting::TcpMaxTwBuckets
            | Setting::TcpMaxSynBacklog
            | Setting::TcpMaxOrphans
            | Setting::FileMax
            | Setting::NfConntrackMax => return Self::by_memory(setting),
        };
        Self {
            default: Some(default),
            earlier: match setting {
                Setting::Somaxconn => Some(("5.4", "128")),
                _ => None,
            },
            gone: match setting {
                Setting::TcpTwRecycle => Some("4.12"),
                _ => None,
            },
            namespaced: !matches!(setting, Setting::NrOpen),
        }
    }

    /// The same of one whose default follows from memory.
    const fn by_memory(setting: Setting) -> Self {
        Self {
            default: None,
            earlier: None,
            gone: None,
            namespaced: matches!(setting, Setting::TcpMaxTwBuckets | Setting::TcpMaxSynBacklog),
        }
    }
}
