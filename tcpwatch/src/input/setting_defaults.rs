//! The defaults of settings, and the Linux versions that changed them.

use crate::input::release::Release;
use crate::input::setting::Setting;

/// The default of a setting on one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// This value.
    Is(&'static str),
    /// The kernel computes it from memory size.
    ByMemory,
    /// The default depends on the kernel's release, which is unknown.
    ByRelease,
    /// This kernel no longer has the setting.
    Gone,
}

/// Default and history of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingFacts {
    /// The default, as sysctl(8) prints it; `None` if the kernel computes it from memory size.
    pub default: Option<&'static str>,
    /// An older default: the Linux version that changed it, and the value before.
    pub earlier: Option<(&'static str, &'static str)>,
    /// The Linux version that removed the setting.
    pub gone: Option<&'static str>,
    /// Whether each network namespace has its own value.
    pub namespaced: bool,
    /// The Linux version since which it does; `None` if all kernels that tcpwatch supports do.
    pub namespaced_since: Option<&'static str>,
}

impl SettingFacts {
    /// The facts of `setting`, from ip-sysctl.rst, sysctl/fs.rst, nf_conntrack-sysctl.rst and the sources that they describe.
    ///
    /// "4.11" comes from the commit "ipv4: Namespaceify `tcp_tw_recycle` and `tcp_max_tw_buckets` knob" and the commit after it,
    /// December 2016.
    #[must_use]
    pub const fn for_setting(setting: Setting) -> Self {
        match setting {
            Setting::TcpSyncookies | Setting::TcpTimestamps => Self::with_default("1"),
            Setting::TcpTwReuse => Self::with_changed_default("2", "4.18", "0"),
            Setting::TcpTwRecycle => Self {
                gone: Some("4.12"),
                namespaced_since: Some("4.11"),
                ..Self::with_default("0")
            },
            Setting::TcpFinTimeout => Self::with_default("60"),
            Setting::TcpMaxTwBuckets | Setting::TcpMaxSynBacklog => Self {
                namespaced: true,
                namespaced_since: Some("4.11"),
                ..Self::BY_MEMORY
            },
            Setting::IpLocalPortRange => Self::with_changed_default("32768 60999", "4.2", "32768 61000"),
            Setting::IpLocalReservedPorts => Self::with_default(""),
            Setting::Somaxconn => Self::with_changed_default("4096", "5.4", "128"),
            Setting::TcpAbortOnOverflow | Setting::TcpOrphanRetries => Self::with_default("0"),
            Setting::TcpKeepaliveTime => Self::with_default("7200"),
            Setting::TcpKeepaliveIntvl => Self::with_default("75"),
            Setting::TcpKeepaliveProbes => Self::with_default("9"),
            Setting::TcpRetries1 => Self::with_default("3"),
            Setting::TcpRetries2 => Self::with_default("15"),
            Setting::TcpSynRetries => Self::with_default("6"),
            Setting::TcpSynackRetries => Self::with_default("5"),
            Setting::NrOpen => Self {
                namespaced: false,
                ..Self::with_default("1048576")
            },
            Setting::TcpMaxOrphans | Setting::FileMax | Setting::NfConntrackMax => Self::BY_MEMORY,
        }
    }

    /// The facts of a host-wide setting whose default depends on memory size.
    const BY_MEMORY: Self = Self {
        default: None,
        earlier: None,
        gone: None,
        namespaced: false,
        namespaced_since: None,
    };

    /// The facts of a setting of each network namespace.
    const fn with_default(default: &'static str) -> Self {
        Self {
            default: Some(default),
            namespaced: true,
            ..Self::BY_MEMORY
        }
    }

    /// The same, with another default before Linux `version`.
    const fn with_changed_default(default: &'static str, version: &'static str, earlier: &'static str) -> Self {
        Self {
            earlier: Some((version, earlier)),
            ..Self::with_default(default)
        }
    }

    /// The default on a kernel of `release`; `None` is an unknown release.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_change_with_the_kernel() {
        let on = |setting, release| SettingFacts::for_setting(setting).default_on(release);
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
            let facts = SettingFacts::for_setting(setting);
            let versions = facts.gone.into_iter().chain(facts.earlier.map(|(version, _)| version));
            assert!(
                versions.into_iter().all(|version| Release::parse(version).is_some()),
                "{setting:?}"
            );
        }
    }
}
