//! The ephemeral ports of one network namespace: their settings, and who holds them.

use std::path::Path;

use tcpwatch_common::StateSet;

use super::sockets::Sockets;
use crate::event::PortsSample;
use crate::model::ports::range::PortRange;
use crate::model::ports::reuse::TwReuse;
use crate::model::ports::walk::Walk;
use crate::sys::sysctl::{IP_LOCAL_PORT_RANGE, IP_LOCAL_RESERVED_PORTS, Sysctl, TCP_TIMESTAMPS, TCP_TW_REUSE};

/// The settings, opened once; `None` for one that this kernel does not show here.
#[derive(Debug)]
pub struct PortSettings {
    range: Option<Sysctl>,
    reserved: Option<Sysctl>,
    tw_reuse: Option<Sysctl>,
    timestamps: Option<Sysctl>,
}

impl PortSettings {
    /// Opens them under `root` for the network namespace of the calling thread.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        let open = |name| Sysctl::open(root, name).ok();
        Self {
            range: open(IP_LOCAL_PORT_RANGE),
            reserved: open(IP_LOCAL_RESERVED_PORTS),
            tw_reuse: open(TCP_TW_REUSE),
            timestamps: open(TCP_TIMESTAMPS),
        }
    }

    fn range(&mut self) -> Option<PortRange> {
        let reserved = self.reserved.as_mut()?.text().ok()?;
        PortRange::parse(self.range.as_mut()?.text().ok()?, reserved)
    }

    fn reuse(&mut self) -> Option<TwReuse> {
        let timestamps = self.timestamps.as_mut()?.text().ok()?;
        TwReuse::parse(self.tw_reuse.as_mut()?.text().ok()?, timestamps)
    }

    /// Walks `sockets` for those that hold a port of the range, and reads the settings anew.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn sample(&mut self, sockets: &mut Sockets) -> anyhow::Result<PortsSample> {
        let (range, reuse) = (self.range(), self.reuse());
        let mut walk = Walk::default();
        if let Some(range) = &range {
            sockets.walk(StateSet::ALL, |socket| walk.add(socket, range))?;
        }
        Ok(PortsSample {
            range: range.map(|range| range.usable()),
            reuse,
            walk,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn settings_are_read_and_what_is_missing_is_unknown() {
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
        assert_eq!(PortSettings::open(root.path()).reuse(), Some(TwReuse::Loopback));
    }
}
