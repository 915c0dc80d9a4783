//! Reads the kernel's TCP sockets from /proc/net/tcp and tcp6 (`tcp4_seq_show`, `tcp6_seq_show`), where the kernel refuses
//! netlink.
//!
//! The `procfs` crate reads the whole table into memory, without timers; this reader keeps one line.

use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tcpwatch_common::ledger::Pass;
use tcpwatch_common::{StateSet, TcpState};

use crate::input::socket::{Address, Detail, Family, Kind, Socket};
use crate::model::counts;

/// Bytes to read at a time. The kernel returns about a page.
const BUFFER: usize = 64 << 10;

/// Both tables of the network namespace in which they were opened.
pub struct ProcNet {
    tables: Vec<(Family, File)>,
    buffer: Box<[u8]>,
    netns: u32,
}

impl ProcNet {
    /// Opens both tables for the network namespace of the calling thread. `netns` is its inode number; `root` is `/`.
    ///
    /// # Errors
    /// The error of open(2). A missing tcp6 (a kernel without IPv6) is not an error.
    pub fn open(root: &Path, netns: u32) -> io::Result<Self> {
        let net = root.join("proc/thread-self/net");
        let mut tables = vec![(Family::Ipv4, File::open(net.join("tcp"))?)];
        match File::open(net.join("tcp6")) {
            Ok(table) => tables.push((Family::Ipv6, table)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            tables,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            netns,
        })
    }

    /// Calls `visit` for every socket in `states`, of both families. The addresses have no zone.
    ///
    /// # Errors
    /// The error of pread(2), or a line that is not a socket.
    pub fn walk(&mut self, states: StateSet, mut visit: impl FnMut(&Socket)) -> io::Result<()> {
        self.each(states, |socket, _| visit(socket))
    }

    /// As [`Self::walk`], with the queues. How many connections the accept queue of a listener takes is not shown.
    ///
    /// # Errors
    /// As [`Self::walk`].
    pub fn walk_with_queues(&mut self, states: StateSet, mut visit: impl FnMut(&Detail)) -> io::Result<()> {
        self.each(states, |socket, line| {
            let (send, receive) = queues(line).unzip();
            visit(&Detail {
                receive_queue: receive,
                send_queue: send.filter(|_| socket.state != TcpState::Listen),
                ..Detail::from_socket(*socket)
            });
        })
    }

    fn each(&mut self, states: StateSet, mut visit: impl FnMut(&Socket, &[u8])) -> io::Result<()> {
        for (family, table) in &self.tables {
            let mut heading = true;
            lines(table, &mut self.buffer, |line| {
                if std::mem::take(&mut heading) {
                    return Ok(());
                }
                let socket = parse(line, *family, self.netns).ok_or_else(|| not_a_socket(line))?;
                if states.contains(socket.state) {
                    visit(&socket, line);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Counts the sockets in `states`, of both families, by state and kind.
    ///
    /// # Errors
    /// As [`Self::walk`].
    pub fn count(&mut self, states: StateSet) -> io::Result<Pass> {
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        self.walk(states, |socket| counts::count_socket(&mut pass, socket))?;
        Ok(pass)
    }
}

fn not_a_socket(line: &[u8]) -> io::Error {
    let line = String::from_utf8_lossy(line);
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no socket in the line {:?}", line.trim()),
    )
}

/// Calls `visit` for every line of `file` from its start. `buffer` must hold the longest line.
fn lines(file: &File, buffer: &mut [u8], mut visit: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let (mut offset, mut kept) = (0, 0);
    loop {
        let room = &mut buffer[kept..];
        if room.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
        }
        let read = match file.read_at(room, offset) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            return if kept > 0 { visit(&buffer[..kept]) } else { Ok(()) };
        }
        offset += read as u64;
        let filled = kept + read;
        let whole = buffer[..filled]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        for line in buffer[..whole].split_inclusive(|&byte| byte == b'\n') {
            visit(line)?;
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}

/// Calls `visit` for every socket in `table`, a table of `family`, with the length of its accept queue if it is a listener
/// (`rx_queue`, `get_tcp4_sock`). Skips lines that are not a socket.
///
/// # Errors
/// The error of pread(2), or a table larger than `most` bytes. The sockets before that were visited.
pub(super) fn each(table: &File, family: Family, most: u64, mut visit: impl FnMut(&Socket, u64)) -> io::Result<()> {
    let mut left = most;
    lines(table, &mut vec![0; BUFFER], |line| {
        left = left
            .checked_sub(line.len() as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {} MiB", most >> 20)))?;
        if let Some((socket, (_, waiting))) = parse(line, family, 0).zip(queues(line)) {
            visit(&socket, waiting.into());
        }
        Ok(())
    })
}

/// The `tx_queue` and the `rx_queue` of a line. For a listener, the latter is the length of its accept queue.
fn queues(line: &[u8]) -> Option<(u32, u32)> {
    let queues = std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(4)?;
    let (send, receive) = queues.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some((number(send)?, number(receive)?))
}

/// Parses a line: `sl local:port remote:port st tx:rx timer:when retransmits uid timeout inode references ...`.
fn parse(line: &[u8], family: Family, netns: u32) -> Option<Socket> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (local, lport) = end(words.nth(1)?, family)?;
    let (remote, rport) = end(words.next()?, family)?;
    let state = TcpState::from_kernel(u8::from_str_radix(words.next()?, 16).ok()?)?;
    let (timer, _) = words.nth(1)?.split_once(':')?;
    let uid = words.nth(1)?.parse().ok()?;
    let inode: u64 = words.nth(1)?.parse().ok()?;
    let references = words.next()?;
    // Only timewait sockets have timer 3. A request socket has 0 references (`get_openreq4`).
    let kind = match (state, timer, references) {
        (_, "03", _) => Kind::Timewait,
        (TcpState::SynRecv, _, "0") => Kind::Request,
        _ => Kind::Full,
    };
    Some(Socket {
        family,
        state,
        kind: Some(kind),
        local,
        lport,
        remote,
        rport,
        uid: (kind == Kind::Full).then_some(uid),
        inode: u32::try_from(inode)
            .ok()
            .and_then(NonZeroU32::new)
            .filter(|_| kind == Kind::Full),
        netns,
    })
}

/// Parses `0100007F:1F90`: the words of the address in network order, each printed as a native number, then the port.
fn end(text: &str, family: Family) -> Option<(Address, u16)> {
    let (address, port) = text.split_once(':')?;
    let mut words = [0; 4];
    let used = match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 4,
    };
    if address.len() != 8 * used {
        return None;
    }
    for (index, word) in words.iter_mut().take(used).enumerate() {
        *word = u32::from_str_radix(address.get(8 * index..8 * index + 8)?, 16).ok()?;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((Address::new(family.address(words), 0), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    const LISTEN: &str = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0\n";
    const REQUEST: &str = "   1: 0100007F:1F90 0200007F:9C40 03 00000000:00000000 01:00000050 00000000  1000        0 0 0 0000000000000000\n";
    const FAST_OPEN: &str = "   2: 0100007F:1F90 0200007F:9C41 03 00000000:00000000 01:00000050 00000000     0        0 0 2 0000000000000000 21 4 1 10 -1\n";
    const TIMEWAIT: &str = "   3: 0100007F:9C42 0100007F:1F90 05 00000000:00000000 03:00000E10 00000000     0        0 0 3 0000000000000000\n";
    const V6: &str = "   0: 00000000000000000000000001000000:1F90 0000000000000000FFFF00000100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0000000000000000 20 4 30 10 -1\n";

    fn root(tcp: &str, tcp6: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("proc/thread-self/net");
        std::fs::create_dir_all(&net).unwrap();
        std::fs::write(net.join("tcp"), tcp).unwrap();
        if let Some(tcp6) = tcp6 {
            std::fs::write(net.join("tcp6"), tcp6).unwrap();
        }
        root
    }

    fn walk(tcp: &str, tcp6: Option<&str>) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        let root = root(tcp, tcp6);
        ProcNet::open(root.path(), 9)?.walk(StateSet::ALL, |socket| found.push(*socket))?;
        Ok(found)
    }

    #[test]
    fn kinds_and_ends_are_read() {
        let tcp = [HEADING, LISTEN, REQUEST, FAST_OPEN, TIMEWAIT].concat();
        let found = walk(&tcp, Some(&[HEADING, V6].concat())).unwrap();
        let kinds: Vec<_> = found.iter().filter_map(|socket| socket.kind).collect();
        assert_eq!(
            kinds,
            [Kind::Full, Kind::Request, Kind::Full, Kind::Timewait, Kind::Full]
        );
        assert_eq!((found[0].local.to_string(), found[0].lport), ("127.0.0.1".into(), 8080));
        assert_eq!((found[0].uid, found[1].uid, found[3].uid), (Some(1000), None, None));
        let inodes: Vec<_> = found
            .iter()
            .map(|socket| socket.inode.map_or(0, NonZeroU32::get))
            .collect();
        assert_eq!(inodes, [4242, 0, 0, 0, 4243]);
        assert_eq!(
            (found[4].local.to_string(), found[4].remote.to_string()),
            ("::1".into(), "::ffff:127.0.0.1".into())
        );
        assert_eq!(
            (found[4].state, found[4].rport, found[4].netns),
            (TcpState::Established, 80, 9)
        );
    }

    #[test]
    fn a_table_longer_than_the_buffer_is_read_whole_and_again() {
        let rows = 3 * BUFFER / LISTEN.len();
        let root = root(&[HEADING, &LISTEN.repeat(rows)].concat(), None);
        let mut reader = ProcNet::open(root.path(), 0).unwrap();
        for _ in 0..2 {
            assert_eq!(reader.count(StateSet::ALL).unwrap().full[10], rows as u64);
        }
        assert_eq!(reader.count(StateSet::NONE).unwrap().full[10], 0);
    }

    #[test]
    fn each_socket_of_a_file_is_found_as_far_as_it_may_be_read() {
        let root = root(&[HEADING, LISTEN, "garbage\n", TIMEWAIT].concat(), None);
        let table = File::open(root.path().join("proc/thread-self/net/tcp")).unwrap();
        let found = |most| {
            let mut ports = Vec::new();
            let read = each(&table, Family::Ipv4, most, |socket, waiting| {
                ports.push((socket.lport, waiting));
            });
            (ports, read.is_ok())
        };
        assert_eq!(found(1000), (vec![(8080, 0), (0x9c42, 0)], true));
        assert_eq!(found(300), (vec![(8080, 0)], false));
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        assert!(walk("", None).unwrap().is_empty());
        assert!(walk(HEADING, Some(HEADING)).unwrap().is_empty());
        for length in 1..LISTEN.len() - 60 {
            assert!(
                walk(&format!("{HEADING}{}", &LISTEN[..length]), None).is_err(),
                "{length}"
            );
        }
        assert!(walk(&"x".repeat(BUFFER), None).is_err());
        assert!(walk(&format!("{HEADING}0: é00007F:1F90 é: 01"), None).is_err());
        assert!(parse(V6.as_bytes(), Family::Ipv4, 0).is_none());
        assert!(parse(&[0xff; 40], Family::Ipv4, 0).is_none());
    }
}
