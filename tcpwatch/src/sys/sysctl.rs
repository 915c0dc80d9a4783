//! Reads kernel settings under /proc/sys.

use std::path::Path;

use super::proc_file::ProcFile;

/// `net.ipv4.tcp_max_tw_buckets`: the maximum number of timewait sockets of a network namespace (ip-sysctl.rst).
pub const TCP_MAX_TW_BUCKETS: &str = "net/ipv4/tcp_max_tw_buckets";
/// `net.ipv4.tcp_max_orphans`: the maximum number of orphans of the host (ip-sysctl.rst).
pub const TCP_MAX_ORPHANS: &str = "net/ipv4/tcp_max_orphans";

/// `net.ipv4.tcp_syncookies`: what happens to a SYN if the SYN queue is full (ip-sysctl.rst).
pub const TCP_SYNCOOKIES: &str = "net/ipv4/tcp_syncookies";
/// `net.ipv4.tcp_max_syn_backlog`: the maximum number of half-open connections of a listener. Without cookies, a quarter is
/// reserved for known peers (`tcp_conn_request`).
pub const TCP_MAX_SYN_BACKLOG: &str = "net/ipv4/tcp_max_syn_backlog";
/// A setting that the kernel shows only in the initial network namespace (`net_core_table`).
pub const OF_THE_FIRST: &str = "net/core/dev_weight";

/// `net.ipv4.ip_local_port_range`: the range of ports for `connect()` (ip-sysctl.rst).
pub const IP_LOCAL_PORT_RANGE: &str = "net/ipv4/ip_local_port_range";
/// `net.ipv4.ip_local_reserved_ports`: ports of the range that `connect()` does not take.
pub const IP_LOCAL_RESERVED_PORTS: &str = "net/ipv4/ip_local_reserved_ports";
/// `net.ipv4.tcp_tw_reuse`: whether `connect()` may reuse the port of a timewait socket.
pub const TCP_TW_REUSE: &str = "net/ipv4/tcp_tw_reuse";
/// `net.ipv4.tcp_tw_reuse_delay`: the minimum time in TIME_WAIT before the reuse, ms (since Linux 6.14).
pub const TCP_TW_REUSE_DELAY: &str = "net/ipv4/tcp_tw_reuse_delay";
/// `net.ipv4.ip_autobind_reuse`: whether `bind()` to port 0 may share a port (since Linux 5.7).
pub const IP_AUTOBIND_REUSE: &str = "net/ipv4/ip_autobind_reuse";
/// `net.ipv4.tcp_timestamps`: `tcp_tw_reuse` needs them.
pub const TCP_TIMESTAMPS: &str = "net/ipv4/tcp_timestamps";

/// An open setting. A setting under `net` belongs to the namespace in which it was opened.
#[derive(Debug)]
pub struct Sysctl(ProcFile);

impl Sysctl {
    /// Opens the setting `name` (with slashes: `net/ipv4/tcp_max_tw_buckets`) under `root`.
    ///
    /// # Errors
    /// The path and the error of open(2).
    pub fn open(root: &Path, name: &str) -> anyhow::Result<Self> {
        ProcFile::open(&root.join("proc/sys").join(name)).map(Self)
    }

    /// Opens the setting `name`; `None` if it does not exist or may not be read.
    ///
    /// # Errors
    /// The path, and that a limit of descriptors is reached.
    pub fn open_if_any(root: &Path, name: &str) -> anyhow::Result<Option<Self>> {
        Ok(ProcFile::open_if_any(&root.join("proc/sys").join(name))?.map(Self))
    }

    /// Reads its text.
    ///
    /// # Errors
    /// The path and the error of pread(2).
    pub fn text(&mut self) -> anyhow::Result<&str> {
        self.0.read()
    }

    /// Reads its value; `None` if it is not a single number.
    ///
    /// # Errors
    /// The path and the error of pread(2).
    pub fn read(&mut self) -> anyhow::Result<Option<i64>> {
        Ok(self.0.read()?.trim().parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_number_or_unknown() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("proc/sys/net/ipv4");
        std::fs::create_dir_all(&path).unwrap();
        let path = path.join("tcp_max_tw_buckets");
        std::fs::write(&path, "262144\n").unwrap();
        let mut setting = Sysctl::open(root.path(), TCP_MAX_TW_BUCKETS).unwrap();
        assert_eq!(setting.read().unwrap(), Some(262_144));
        for bad in ["", "1 2 3", "many"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(setting.read().unwrap(), None);
        }
        assert!(Sysctl::open(root.path(), "net/none").is_err());
    }
}
