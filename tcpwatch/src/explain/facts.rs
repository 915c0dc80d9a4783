//! What is the same in every language: defaults of settings, and since when they are what they are.

use crate::input::release::Release;
use crate::input::setting::Setting;

/// What a setting is where nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// This.
    Is(&'static str),
    /// What the memory of the machine makes it.
    ByMemory,
    /// It changed with the kernel, whose release is unknown.
    ByRelease,
    /// No such kernel has it any more.
    Gone,
}

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
    /// The version of Linux since which that is so; `None` where kernels that tcpwatch runs on always did it.
    pub namespaced_since: Option<&'static str>,
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
                Setting::IpLocalPortRange => Some(("4.2", "32768 61000")),
                Setting::TcpTwReuse => Some(("4.18", "0")),
                Setting::Somaxconn => Some(("5.4", "128")),
                _ => None,
            },
            gone: match setting {
                Setting::TcpTwRecycle => Some("4.12"),
                _ => None,
            },
            namespaced: !matches!(setting, Setting::NrOpen),
            namespaced_since: Self::namespaced_since(setting),
        }
    }

    /// What it is on a kernel of `release`; `None` is one whose release is unknown.
    #[must_use]
    pub fn default_on(self, release: Option<Release>) -> DefaultValue {
        let Some(default) = self.default else {
            return DefaultValue::ByMemory;
        };
        let is_before = |version| Some(release? < Release::parse(version)?);
        match (self.gone, self.earlier) {
            (Some(version), _) => match is_before(version) {
                Some(true) => DefaultValue::Is(default),
                Some(false) => DefaultValue::Gone,
                None => DefaultValue::ByRelease,
            },
            (None, Some((version, earlier))) => match is_before(version) {
                Some(true) => DefaultValue::Is(earlier),
                Some(false) => DefaultValue::Is(default),
                None => DefaultValue::ByRelease,
            },
            (None, None) => DefaultValue::Is(default),
        }
    }

    /// The same of one whose default follows from memory.
    const fn by_memory(setting: Setting) -> Self {
        Self {
            default: None,
            earlier: None,
            gone: None,
            namespaced: matches!(setting, Setting::TcpMaxTwBuckets | Setting::TcpMaxSynBacklog),
            namespaced_since: Self::namespaced_since(setting),
        }
    }

    /// The patch "ipv4: Namespaceify `tcp_tw_recycle` and `tcp_max_tw_buckets` knob", and the one after it, of December 2016.
    const fn namespaced_since(setting: Setting) -> Option<&'static str> {
        match setting {
            Setting::TcpTwRecycle | Setting::TcpMaxTwBuckets | Setting::TcpMaxSynBacklog => Some("4.11"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_change_with_the_kernel() {
        let on = |setting, release| Facts::of(setting).default_on(release);
        let reuse = Setting::TcpTwReuse;
        assert_eq!(on(reuse, Some(Release(4, 17))), DefaultValue::Is("0"));
        assert_eq!(on(reuse, Some(Release(4, 18))), DefaultValue::Is("2"));
        assert_eq!(on(reuse, None), DefaultValue::ByRelease);
        assert_eq!(on(Setting::Somaxconn, Some(Release(5, 3))), DefaultValue::Is("128"));
        assert_eq!(on(Setting::TcpTwRecycle, Some(Release(4, 11))), DefaultValue::Is("0"));
        assert_eq!(on(Setting::TcpTwRecycle, Some(Release(4, 12))), DefaultValue::Gone);
        assert_eq!(on(Setting::TcpRetries2, None), DefaultValue::Is("15"));
        assert_eq!(on(Setting::TcpMaxOrphans, None), DefaultValue::ByMemory);
        for setting in Setting::ALL {
            let facts = Facts::of(setting);
            let versions = facts.gone.into_iter().chain(facts.earlier.map(|(version, _)| version));
            assert!(
                versions.into_iter().all(|version| Release::parse(version).is_some()),
                "{setting:?}"
            );
        }
    }
}
