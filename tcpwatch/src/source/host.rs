//! The settings and counters of a host, of this one or of one whose files were copied.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use tcpwatch_common::{StateSet, TcpState};

use super::listeners::{listener, listeners};
use super::owners::Owners;
use super::procnet;
use super::sockets::Sockets;
use crate::clock;
use crate::input::counter::{Counter, CounterValues};
use crate::input::host::{ConfigLine, Conntrack, Descriptors, Fate, HostFrame, Missing};
use crate::input::listener::Listener;
use crate::input::namespace::Scope;
use crate::input::owner::{Comm, How, Owner};
use crate::input::ports::range::PortRange;
use crate::input::ports::walk::HeldPorts;
use crate::input::ports::walk::Walk;
use crate::input::setting::Setting;
use crate::input::socket::{Detail, Family};
use crate::sys::counters::Reading;
use crate::sys::host_root::{HostRoot, why};
use crate::sys::netns::Namespace;
use crate::sys::{conntrack, limits, sockstat, sysctl_d};

/// Where a namespace's files may be: in a copied tree the links that lead there are often missing.
const NET: [&str; 4] = ["proc/thread-self/net", "proc/self/net", "proc/net", "proc/1/net"];

/// Where settings are.
const SYS: &str = "proc/sys";

/// How long sockets are looked at, at most, to find who holds the ports, ns: of some 200,000 of them it is known in that time.
const LOOK_NS: u64 = 400_000_000;
/// Bytes of a table of sockets that are read at most, some 400,000 of them.
const TABLE: u64 = 64 << 20;
/// Ends told, at most, of those that hold the most ports.
const ENDS: usize = 16;
/// Processes told, at most, of those whose descriptors run out.
const PROCESSES: usize = 16;

/// What can be read under `tree` of the network namespace of the calling thread.
#[must_use]
pub fn read(tree: &HostRoot) -> HostFrame {
    let mut reader = Reader {
        tree,
        missing: Vec::new(),
    };
    let first = is_first(tree);
    let (mut settings, mut unread) = reader.settings(first);
    let number = |path| tree.text(path).ok()?.trim().parse().ok();
    let (snmp, netstat) = (reader.net("snmp"), reader.net("netstat"));
    let reading = Reading::new(&snmp, &netstat);
    let sockets = sockstat::parse(&reader.net("sockstat"));
    let sockets6 = sockstat::tcp6(&reader.optional_net("sockstat6").unwrap_or_default());
    let lines = reader.lines(first);
    if reader.is_left_out(SYS) {
        take_from_files(&lines, &mut settings, &mut unread);
    }
    let text = |setting| settings.get(&setting).map(String::as_str);
    let range = text(Setting::IpLocalPortRange).zip(text(Setting::IpLocalReservedPorts));
    let uptime = tree.text("proc/uptime").ok();
    HostFrame {
        scope: if tree.is_copied() { Scope::Copied } else { Scope::Own },
        netns: None,
        first,
        // No kernel says more (`__NEW_UTS_LEN`).
        release_text: reader
            .text("proc/sys/kernel/osrelease")
            .map(|text| text.chars().take(64).collect()),
        uptime_s: uptime.and_then(|text| text.split(['.', ' ']).next()?.parse().ok()),
        // Below 0 where it is the first namespace's.
        hash_buckets: tree
            .text("proc/sys/net/ipv4/tcp_ehash_entries")
            .ok()
            .and_then(|text| Some(text.trim().parse::<i64>().ok()?.unsigned_abs())),
        tw_reuse_delay: tree.text("proc/sys/net/ipv4/tcp_tw_reuse_delay").ok(),
        lines,
        counters: CounterValues::read(|counter: Counter| {
            let (group, name) = counter.name();
            reading.get(group, name)
        }),
        open_sockets: sockets.inuse.map(|inuse| inuse.saturating_add(sockets6)),
        time_wait: sockets.tw,
        orphans: sockets.orphan,
        listeners: None,
        range: range.and_then(|(range, reserved)| PortRange::parse(range, reserved)),
        held: None,
        open_files: reader
            .text("proc/sys/fs/file-nr")
            .and_then(|text| text.split_whitespace().next()?.parse().ok()),
        descriptors: descriptors(tree),
        conntrack: Conntrack {
            count: number("proc/sys/net/netfilter/nf_conntrack_count"),
            ..conntrack::parse(&reader.optional_net("stat/nf_conntrack").unwrap_or_default())
        },
        settings,
        unread,
        missing: reader.missing,
    }
}

/// Takes the values that `lines` set at boot, of a host whose kernel is not shown. That a file sets `tcp_tw_recycle` does not tell
/// whether its kernel has it.
fn take_from_files(
    lines: &[ConfigLine],
    settings: &mut BTreeMap<Setting, String>,
    unread: &mut BTreeMap<Setting, String>,
) {
    for line in lines.iter().filter(|line| line.fate == Fate::Wins) {
        unread.remove(&line.setting);
        if line.setting != Setting::TcpTwRecycle {
            settings.insert(line.setting, line.value.clone());
        }
    }
}

/// Whether what is read is of the namespace the host started with: it alone shows `dev_weight` and `tcp_max_orphans`. Either may
/// have been left out of a copied tree: there it is, unless both are missing where their neighbours are.
fn is_first(tree: &HostRoot) -> bool {
    let has = |name| tree.has(&format!("proc/sys/net/{name}"));
    let shows = [
        ("core/dev_weight", "core/somaxconn"),
        ("ipv4/tcp_max_orphans", "ipv4/tcp_max_tw_buckets"),
    ];
    shows.iter().any(|&(own, _)| has(own)) || tree.is_copied() && !shows.iter().any(|&(_, neighbour)| has(neighbour))
}

/// What can be read of the host whose files were copied to `tree`: as [`read`], who listens, and who holds the ports.
#[must_use]
pub fn copied(tree: &HostRoot) -> HostFrame {
    let mut frame = read(tree);
    read_tables(tree, &mut frame);
    frame
}

/// What can be read of `namespace`: as [`read`], who listens, and who holds the ports. The owner of a listener is asked of `owners`,
/// which /proc is read for once, where its queue is full, or it has dropped something.
///
/// # Errors
/// One line, where it cannot be entered.
pub fn live(tree: &HostRoot, namespace: &Namespace, owners: &mut Option<Owners>) -> anyhow::Result<HostFrame> {
    let inode = namespace.inode;
    let (mut frame, found) = namespace.run(|| {
        let mut frame = read(tree);
        let found = Sockets::sock_diag(inode)
            .and_then(|mut sockets| listeners(&mut sockets))
            .ok();
        if found.is_none() {
            read_tables(tree, &mut frame);
        } else {
            frame.held = held(&frame, inode);
        }
        Ok((frame, found))
    })?;
    frame.netns = Some(inode);
    if !namespace.is_own() {
        frame.scope = Scope::Other(namespace.path().map(|path| path.display().to_string()));
    }
    if let Some(found) = found {
        let asks = |listener: &Listener| listener.is_full() || listener.drops > Some(0);
        if owners.is_none() && found.iter().any(asks) {
            *owners = Owners::scan(Path::new("/")).ok();
        }
        let listeners = found.into_iter().map(|mut listener| {
            if asks(&listener)
                && let Some(owners) = owners
            {
                listener.owner = owners.find_holders(listener.inode).process();
            }
            listener
        });
        frame.listeners = Some(listeners.collect());
    }
    Ok(frame)
}

/// Reads /proc/net/tcp and tcp6: who listens, which comes first there, and who holds the ports. What the queues of listeners may
/// hold is not told.
fn read_tables(tree: &HostRoot, frame: &mut HostFrame) {
    let mut found = None;
    let mut walk = Walk::default();
    let mut whole = true;
    for (family, name) in [(Family::Ipv4, "tcp"), (Family::Ipv6, "tcp6")] {
        let mut tables = NET.iter().map(|net| format!("{net}/{name}"));
        let Some((table, path)) = tables.find_map(|path| Some((tree.file(&path).ok()?, path))) else {
            // A kernel without IPv6 has no tcp6.
            whole &= family == Family::Ipv6;
            continue;
        };
        let listeners = found.get_or_insert_with(Vec::new);
        let read = procnet::each(&table, family, TABLE, |socket, waiting| {
            if socket.state == TcpState::Listen {
                listeners.push(Listener {
                    queued: waiting,
                    ..listener(&Detail::from_socket(*socket))
                });
            }
            if let Some(range) = &frame.range {
                walk.add(socket, range);
            }
        });
        if let Err(error) = read {
            whole = false;
            frame.missing.push(Missing {
                path: format!("/{path}"),
                why: why(&error),
            });
        }
    }
    if found.is_none() && NET.iter().any(|net| tree.has(net)) {
        frame.missing.push(Missing {
            path: "/proc/net/tcp".into(),
            why: "not found, and who listens is unknown".into(),
        });
    }
    frame.held = found.as_ref().map(|_| walk.held(ENDS, whole));
    frame.listeners = found;
}

/// Who holds the ports of the namespace `inode`, which the calling thread is in. Where all sockets together are fewer than half of
/// the ports, nobody looks.
fn held(frame: &HostFrame, inode: u32) -> Option<HeldPorts> {
    let range = frame.range.as_ref()?;
    if frame.has_ports_to_spare() == Some(true) {
        return None;
    }
    let deadline = clock::monotonic_ns() + LOOK_NS;
    let mut sockets = Sockets::of_local_ports(inode, range.bounds(), deadline).ok()?;
    let mut walk = Walk::default();
    let whole = sockets.walk(StateSet::ALL, |socket| walk.add(socket, range)).is_ok();
    Some(walk.held(ENDS, whole))
}

/// The processes that are nearest to having no descriptor left, the nearest first.
fn descriptors(tree: &HostRoot) -> Option<Vec<Descriptors>> {
    let mut found = limits::many(tree)?;
    found.sort_by_key(|found| {
        (
            Reverse(u128::from(found.open) * 1_000_000 / u128::from(found.limit.max(1))),
            found.pid,
        )
    });
    let nearest = found.into_iter().take(PROCESSES).map(|found| {
        let comm = tree.read(&format!("proc/{}/comm", found.pid)).ok();
        let comm = comm.map(|comm| Comm::new(comm.bytes.strip_suffix(b"\n").unwrap_or(&comm.bytes)));
        Descriptors {
            owner: Owner {
                pid: Some(found.pid),
                comm: comm.unwrap_or_default(),
                how: How::Scan,
                cgroup: None,
            },
            open: found.open,
            limit: found.limit,
        }
    });
    Some(nearest.collect())
}

/// Reads what may be missing.
struct Reader<'a> {
    tree: &'a HostRoot,
    missing: Vec<Missing>,
}

impl Reader<'_> {
    /// The text of the file at `path`, which ought to be there.
    fn text(&mut self, path: &str) -> Option<String> {
        match self.tree.text(path) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                let left_out = [SYS, "proc/net"].into_iter().find(|top| {
                    let inside = path.strip_prefix(top);
                    inside.is_some_and(|inside| inside.starts_with('/')) && self.is_left_out(top)
                });
                let missing = match left_out {
                    Some(top) => Missing {
                        path: format!("/{top}"),
                        why: "not copied".into(),
                    },
                    None => Missing {
                        path: format!("/{path}"),
                        why: why(&error),
                    },
                };
                if !self.missing.contains(&missing) {
                    self.missing.push(missing);
                }
                None
            }
        }
    }

    /// Whether nothing of `top` was copied.
    fn is_left_out(&self, top: &str) -> bool {
        self.tree.is_copied() && !self.tree.has(top)
    }

    /// The lines of files that set a setting at boot, which they do for the namespace the host starts with.
    fn lines(&mut self, first: bool) -> Vec<ConfigLine> {
        if first || self.tree.is_copied() {
            sysctl_d::resolve(self.tree, &mut self.missing)
        } else {
            Vec::new()
        }
    }

    /// The text of `name` of the namespace, wherever it is; empty, where it is nowhere.
    fn net(&mut self, name: &str) -> String {
        self.optional_net(name).unwrap_or_else(|| {
            let path = NET
                .iter()
                .map(|net| format!("{net}/{name}"))
                .find(|path| self.tree.has(path));
            self.text(&path.unwrap_or_else(|| format!("proc/net/{name}")))
                .unwrap_or_default()
        })
    }

    /// The same of what need not be there.
    fn optional_net(&self, name: &str) -> Option<String> {
        NET.iter().find_map(|net| self.tree.text(&format!("{net}/{name}")).ok())
    }

    /// The settings, and why others could not be read. What this kernel has no longer, what is not there without a module, and
    /// what is the whole host's where the namespace is not the first, is not missed.
    fn settings(&self, first: bool) -> (BTreeMap<Setting, String>, BTreeMap<Setting, String>) {
        let (mut settings, mut unread) = (BTreeMap::new(), BTreeMap::new());
        for setting in Setting::ALL {
            let path = format!("proc/sys/{}", setting.sysctl().replace('.', "/"));
            let is_optional = matches!(setting, Setting::TcpTwRecycle | Setting::NfConntrackMax);
            match self.tree.text(&path) {
                Ok(text) => {
                    settings.insert(setting, text.split_whitespace().collect::<Vec<_>>().join(" "));
                }
                Err(_) if self.is_left_out(SYS) => {
                    unread.insert(setting, format!("/{SYS} was not copied, and no file sets it"));
                }
                Err(error) if is_optional && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) if setting == Setting::TcpMaxOrphans && !first && !self.tree.is_copied() => {
                    unread.insert(setting, "only the namespace the host started with shows it".into());
                }
                Err(error) => {
                    unread.insert(setting, why(&error));
                }
            }
        }
        (settings, unread)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A tree in which 10.0.0.1 has so many connections to 10.0.0.9:6379.
    fn tree(connections: u16) -> (tempfile::TempDir, HostRoot) {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut rows = vec![
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n".to_owned(),
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000005 00:00000000 00000000     0        0 41 1 0 100 0 0 10 0\n".into(),
        ];
        rows.extend((0..connections).map(|connection| {
            let port = 32_768 + connection;
            let (state, timer) = if connection % 2 == 0 { ("01", "00") } else { ("06", "03") };
            format!(
                "   1: 0100000A:{port:04X} 0900000A:18EB {state} 00000000:00000000 {timer}:00000000 00000000     0        0 42 1 0 20 4 30 10 -1\n"
            )
        }));
        write("proc/net/tcp", &rows.concat());
        write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        write("proc/sys/net/ipv4/ip_local_reserved_ports", "\n");
        write("proc/sys/net/ipv4/tcp_ehash_entries", "-262144\n");
        let tree = HostRoot::open(root.path()).unwrap();
        (root, tree)
    }

    #[test]
    fn a_copied_table_is_read_to_its_end() {
        let (_root, tree) = tree(28_000);
        let frame = copied(&tree);
        let held = frame.held.unwrap();
        let found: Vec<_> = held
            .to
            .iter()
            .map(|held| (held.ends.to_string(), held.used, held.time_wait))
            .collect();
        assert_eq!(found, [("10.0.0.1 > 10.0.0.9:6379".to_owned(), 28_000, 14_000)]);
        assert_eq!((held.of[0].used, held.whole), (28_000, true));
        let listeners: Vec<_> = frame
            .listeners
            .iter()
            .flatten()
            .map(|found| (found.port, found.queued))
            .collect();
        assert_eq!(listeners, [(8080, 5)]);
        assert_eq!(frame.hash_buckets, Some(262_144));
    }

    #[test]
    fn a_copied_tree_is_of_its_host_unless_its_files_say_otherwise() {
        let root = tempfile::tempdir().unwrap();
        let is_first = |files: &[&str]| {
            let net = root.path().join("proc/sys/net");
            fs::remove_dir_all(&net).ok();
            for file in files {
                let path = net.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "1\n").unwrap();
            }
            read(&HostRoot::open(root.path()).unwrap()).first
        };
        let core = ["core/dev_weight", "core/somaxconn"];
        let ipv4 = ["ipv4/tcp_max_orphans", "ipv4/tcp_max_tw_buckets"];
        for host in [
            &[][..],
            &core,
            &ipv4,
            &[core[1], ipv4[0], ipv4[1]],
            &[core[0], core[1], ipv4[1]],
        ] {
            assert!(is_first(host), "{host:?}");
        }
        for other in [&[core[1], ipv4[1]][..], &[core[1]], &[ipv4[1]]] {
            assert!(!is_first(other), "{other:?}");
        }
    }

    #[test]
    fn a_file_that_could_not_be_read_may_set_anything() {
        let (root, tree) = tree(1);
        let is_missed = |path: &str| copied(&tree).missing.iter().any(|missing| missing.path == path);
        assert!(is_missed("/etc"));
        fs::create_dir_all(root.path().join("etc/sysctl.d")).unwrap();
        assert!(!is_missed("/etc"));
        fs::create_dir(root.path().join("etc/sysctl.d/a.conf")).unwrap();
        assert!(is_missed("/etc/sysctl.d/a.conf"));
    }

    /// As where a ticket has the files of /etc alone.
    #[test]
    fn without_a_kernel_the_files_tell_and_what_was_not_copied_is_missed_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        let conf = "net.ipv4.tcp_fin_timeout = 60\nnet.ipv4.tcp_fin_timeout = 30\nnet.ipv4.tcp_tw_recycle = 1\n";
        fs::write(root.path().join("etc/sysctl.conf"), conf).unwrap();
        let frame = copied(&HostRoot::open(root.path()).unwrap());
        assert_eq!(frame.number(Setting::TcpFinTimeout), Some(30));
        assert_eq!((frame.settings.len(), frame.unread.len()), (1, Setting::ALL.len() - 2));
        assert!(
            frame
                .unread
                .values()
                .all(|why| why == "/proc/sys was not copied, and no file sets it")
        );
        let missing: Vec<String> = frame.missing.iter().map(ToString::to_string).collect();
        assert_eq!(missing, ["/proc/net: not copied", "/proc/sys: not copied"]);
    }

    #[test]
    fn where_no_table_is_nobody_knows_who_holds_the_ports() {
        let (root, tree) = tree(1);
        fs::remove_file(root.path().join("proc/net/tcp")).unwrap();
        let frame = copied(&tree);
        assert_eq!((frame.held, frame.listeners), (None, None));
        // Those of IPv6 alone are not all.
        fs::write(root.path().join("proc/net/tcp6"), "").unwrap();
        assert!(!copied(&tree).held.unwrap().whole);
    }
}
