//! Reads the kernel's TCP counters: /proc/net/snmp and /proc/net/netstat (`snmp_seq_show`, `netstat_seq_show`,
//! net/ipv4/proc.c).

use std::path::Path;

use super::proc_file::ProcFile;

/// The open files of one network namespace.
#[derive(Debug)]
pub struct Counters {
    snmp: ProcFile,
    netstat: ProcFile,
}

/// The content of both files at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    snmp: &'a str,
    netstat: &'a str,
}

impl Counters {
    /// Opens both files for the network namespace of the calling thread.
    ///
    /// # Errors
    /// The path and the error of open(2).
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let net = root.join("proc/thread-self/net");
        Ok(Self {
            snmp: ProcFile::open(&net.join("snmp"))?,
            netstat: ProcFile::open(&net.join("netstat"))?,
        })
    }

    /// Reads both files.
    ///
    /// # Errors
    /// The path and the error of pread(2).
    pub fn read(&mut self) -> anyhow::Result<Reading<'_>> {
        Ok(Reading {
            snmp: self.snmp.read()?,
            netstat: self.netstat.read()?,
        })
    }
}

impl<'a> Reading<'a> {
    /// Creates a reading from the texts of both files.
    #[must_use]
    pub const fn new(snmp: &'a str, netstat: &'a str) -> Self {
        Self { snmp, netstat }
    }

    /// The counter `name` of `group`, such as `("Tcp", "PassiveOpens")` or `("TcpExt", "TWKilled")`; `None` if this kernel does
    /// not have it.
    #[must_use]
    pub fn get(&self, group: &str, name: &str) -> Option<u64> {
        look_up(self.snmp, group, name).or_else(|| look_up(self.netstat, group, name))
    }
}

/// Finds a counter in pairs of lines, names above values: `Tcp: A B` and `Tcp: 1 2`.
fn look_up(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
        if let Some((_, value)) = pairs.into_iter().find(|&(found, _)| found == name) {
            return value.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
        Tcp: RtoAlgorithm MaxConn ActiveOpens PassiveOpens EstabResets CurrEstab\nTcp: 1 -1 1302 77 12 3\n";
    const NETSTAT: &str =
        "TcpExt: SyncookiesSent TW TWRecycled TWKilled\nTcpExt: 0 41 2 7\nIpExt: InOctets\nIpExt: 5\n";

    #[test]
    fn counters_are_found_by_group_and_name() {
        let now = Reading {
            snmp: SNMP,
            netstat: NETSTAT,
        };
        assert_eq!(now.get("Tcp", "PassiveOpens"), Some(77));
        assert_eq!(now.get("Tcp", "CurrEstab"), Some(3));
        assert_eq!(now.get("TcpExt", "TW"), Some(41));
        assert_eq!(now.get("TcpExt", "TWKilled"), Some(7));
        assert_eq!(now.get("IpExt", "InOctets"), Some(5));
    }

    #[test]
    fn unknown_and_negative_values_are_none() {
        let now = Reading {
            snmp: SNMP,
            netstat: NETSTAT,
        };
        for (group, name) in [
            ("Tcp", "TW"),
            ("Tcp", "MaxConn"),
            ("TcpExt", "TCPNone"),
            ("", ""),
            ("Ip", ""),
        ] {
            assert_eq!(now.get(group, name), None, "{group}:{name}");
        }
    }

    #[test]
    fn garbage_is_none() {
        for text in [
            "",
            "Tcp:",
            "Tcp: A\nTcp:",
            "Tcp: A B\nTcp: x",
            "Tcp: A\nIp: A\nTcp:",
            "\0\nTcp",
        ] {
            assert_eq!(look_up(text, "Tcp", "A"), None, "{text:?}");
        }
    }

    #[test]
    fn both_files_are_read_again() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("proc/thread-self/net");
        std::fs::create_dir_all(&net).unwrap();
        std::fs::write(net.join("snmp"), SNMP).unwrap();
        std::fs::write(net.join("netstat"), NETSTAT).unwrap();
        let mut counters = Counters::open(root.path()).unwrap();
        assert_eq!(counters.read().unwrap().get("Tcp", "ActiveOpens"), Some(1302));
        std::fs::write(net.join("snmp"), SNMP.replace("1302", "1303")).unwrap();
        assert_eq!(counters.read().unwrap().get("Tcp", "ActiveOpens"), Some(1303));
    }
}
