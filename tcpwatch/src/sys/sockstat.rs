//! Reads /proc/net/sockstat: the numbers of sockets (`sockstat_seq_show`, net/ipv4/proc.c).

use std::path::Path;

use super::proc_file::ProcFile;

/// The line `TCP:` of sockstat; `None` if the kernel does not show a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSockets {
    /// Open IPv4 sockets of the namespace.
    pub inuse: Option<u64>,
    /// Timewait sockets of the namespace, of both families, including those in `FIN_WAIT2`.
    pub tw: Option<u64>,
    /// Orphans of the whole host, without timewait sockets.
    pub orphan: Option<u64>,
    /// Memory of all TCP sockets of the whole host, pages.
    pub mem: Option<u64>,
}

/// The open sockstat file of one network namespace.
#[derive(Debug)]
pub struct Sockstat(ProcFile);

impl Sockstat {
    /// Opens the file for the network namespace of the calling thread.
    ///
    /// # Errors
    /// The path and the error of open(2).
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        ProcFile::open(&root.join("proc/thread-self/net/sockstat")).map(Self)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The path and the error of pread(2).
    pub fn read(&mut self) -> anyhow::Result<TcpSockets> {
        self.0.read().map(parse)
    }
}

/// The open IPv6 sockets of the namespace of the calling thread; 0 if the kernel has no IPv6.
///
/// # Errors
/// The path, and that a limit of descriptors is reached, or the error of pread(2).
pub fn inuse6(root: &Path) -> anyhow::Result<u64> {
    match ProcFile::open_if_any(&root.join("proc/thread-self/net/sockstat6"))? {
        Some(mut file) => file.read().map(tcp6),
        None => Ok(0),
    }
}

/// Parses the line `TCP6: inuse 2` of sockstat6: the open IPv6 sockets; 0 if there is no such line.
#[must_use]
pub fn tcp6(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP6: inuse "));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// Parses the line `TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1`.
#[must_use]
pub fn parse(text: &str) -> TcpSockets {
    let mut words = text
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))
        .unwrap_or_default()
        .split_ascii_whitespace();
    let mut tcp = TcpSockets::default();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let place = match name {
            "inuse" => &mut tcp.inuse,
            "tw" => &mut tcp.tw,
            "orphan" => &mut tcp.orphan,
            "mem" => &mut tcp.mem,
            _ => continue,
        };
        *place = value.parse().ok();
    }
    tcp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tcp_line_is_read_whatever_else_there_is() {
        let text = "sockets: used 180\nTCP: inuse 5 orphan 1 tw 22 alloc 7 mem 3\nUDP: inuse 2 mem 1\n";
        let want = TcpSockets {
            inuse: Some(5),
            tw: Some(22),
            orphan: Some(1),
            mem: Some(3),
        };
        assert_eq!(parse(text), want);
    }

    #[test]
    fn those_of_ipv6_are_in_a_file_of_their_own() {
        assert_eq!(tcp6("TCP6: inuse 3\nUDP6: inuse 2\n"), 3);
        assert_eq!((tcp6(""), tcp6("TCP6: inuse x\n")), (0, 0));
    }

    #[test]
    fn garbage_is_unknown() {
        for bad in ["", "TCP:", "TCP: inuse", "TCP: inuse x tw -1", "\0\0", "TCP6: inuse 3"] {
            assert_eq!(parse(bad), TcpSockets::default(), "{bad:?}");
        }
    }
}
