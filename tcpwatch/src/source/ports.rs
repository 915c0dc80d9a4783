//! Reads the ephemeral ports of one network namespace: the settings, and the sockets that hold the ports.

use std::num::NonZeroU32;
use std::path::Path;

use tcpwatch_common::StateSet;

use super::sockets::Sockets;
use crate::clock;
use crate::input::PortsSample;
use crate::input::ports::range::PortRange;
use crate::input::ports::reuse::TwReuse;
use crate::input::ports::settings::Settings;
use crate::input::ports::walk::Walk;
use crate::sys::sysctl::{
    IP_AUTOBIND_REUSE, IP_LOCAL_PORT_RANGE, IP_LOCAL_RESERVED_PORTS, Sysctl, TCP_TIMESTAMPS, TCP_TW_REUSE,
    TCP_TW_REUSE_DELAY,
};

/// The settings, opened once; `None` if this kernel does not show one here.
#[derive(Debug)]
pub struct PortSettings {
    range: Option<Sysctl>,
    reserved: Option<Sysctl>,
    tw_reuse: Option<Sysctl>,
    tw_reuse_delay: Option<Sysctl>,
    timestamps: Option<Sysctl>,
    autobind_reuse: Option<Sysctl>,
}

/// What a walk found, and how whole it is.
pub struct TimedSample {
    /// What it found.
    pub sample: PortsSample,
    /// How long this thread was stopped during the walk, ns.
    pub stopped_ns: u64,
}

impl PortSettings {
    /// Opens the settings under `root` for the network namespace of the calling thread.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        let open = |name| Sysctl::open(root, name).ok();
        Self {
            range: open(IP_LOCAL_PORT_RANGE),
            reserved: open(IP_LOCAL_RESERVED_PORTS),
            tw_reuse: open(TCP_TW_REUSE),
            tw_reuse_delay: open(TCP_TW_REUSE_DELAY),
            timestamps: open(TCP_TIMESTAMPS),
            autobind_reuse: open(IP_AUTOBIND_REUSE),
        }
    }

    fn range(&mut self) -> Option<PortRange> {
        let reserved = self.reserved.as_mut()?.text().ok()?;
        PortRange::parse(self.range.as_mut()?.text().ok()?, reserved)
    }

    fn reuse(&mut self) -> Option<TwReuse> {
        let timestamps = self.timestamps.as_mut()?.text().ok()?;
        // Does not exist before Linux 6.14.
        let delay = match &mut self.tw_reuse_delay {
            Some(delay) => Some(delay.text().ok()?),
            None => None,
        };
        TwReuse::parse(self.tw_reuse.as_mut()?.text().ok()?, timestamps, delay)
    }

    fn autobind_reuse(&mut self) -> Option<bool> {
        self.autobind_reuse.as_mut()?.read().ok()?.map(|value| value != 0)
    }

    /// Reads the settings of the namespace `netns` again, and finds the `sockets` that hold a port of the range.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn sample(&mut self, netns: u32, sockets: &mut Sockets) -> anyhow::Result<TimedSample> {
        let settings = Settings {
            range: self.range(),
            reuse: self.reuse(),
            autobind_reuse: self.autobind_reuse(),
        };
        let mut walk = Walk::default();
        let (start_ns, cpu_ns) = (clock::monotonic_ns(), clock::thread_cpu_ns());
        if let Some(range) = &settings.range {
            sockets.walk(StateSet::ALL, |socket| walk.add(socket, range))?;
        }
        let monotonic_ns = clock::monotonic_ns();
        let ran_ns = clock::thread_cpu_ns().saturating_sub(cpu_ns);
        Ok(TimedSample {
            stopped_ns: monotonic_ns.saturating_sub(start_ns).saturating_sub(ran_ns),
            sample: PortsSample {
                netns: NonZeroU32::new(netns),
                monotonic_ns,
                settings,
                walk,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::input::ports::reuse::Allowed;

    #[test]
    fn settings_are_read_and_missing_ones_are_unknown() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/sys/net/ipv4");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ip_local_port_range"), "40000\t40999\n").unwrap();
        fs::write(folder.join("ip_local_reserved_ports"), "40500-40509\n").unwrap();
        fs::write(folder.join("tcp_timestamps"), "1\n").unwrap();
        let mut settings = PortSettings::open(root.path());
        assert_eq!(settings.range().map(|range| range.usable()), Some(990));
        assert_eq!(settings.reuse(), None);
        fs::write(folder.join("tcp_tw_reuse"), "2\n").unwrap();
        let reuse = |delay_ms| {
            Some(TwReuse {
                allowed: Allowed::Loopback,
                timestamps: true,
                delay_ms,
            })
        };
        assert_eq!(PortSettings::open(root.path()).reuse(), reuse(1000));
        fs::write(folder.join("tcp_tw_reuse_delay"), "3000\n").unwrap();
        fs::write(folder.join("ip_autobind_reuse"), "1\n").unwrap();
        assert_eq!(settings.autobind_reuse(), None);
        let mut settings = PortSettings::open(root.path());
        assert_eq!((settings.reuse(), settings.autobind_reuse()), (reuse(3000), Some(true)));
    }
}
