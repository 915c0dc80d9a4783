//! What `doctor` reads of a copied tree: it is judged, and shown as text and JSON.

use jiff::Timestamp;
use serde_json::Value;
use tcpwatch::doctor::examine;
use tcpwatch::source::host::copied;
use tcpwatch::sys::host_root::HostRoot;
use tcpwatch::view::screen::Screen;
use tcpwatch::view::{json, text};

use crate::tree::{Tree, parts, with_tree};

/// The files of a network namespace, of the host, and of a process.
const FILES: [&str; 9] = [
    "proc/net/snmp",
    "proc/net/netstat",
    "proc/net/sockstat",
    "proc/net/tcp",
    "proc/net/stat/nf_conntrack",
    "proc/uptime",
    "proc/sys/kernel/osrelease",
    "proc/sys/fs/file-nr",
    "proc/1/limits",
];

/// Settings, and other files with a number: their values follow, a line each.
const NUMBERS: [&str; 18] = [
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_timestamps",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/core/somaxconn",
    "net/ipv4/tcp_abort_on_overflow",
    "net/ipv4/tcp_max_orphans",
    "net/ipv4/tcp_orphan_retries",
    "net/ipv4/tcp_retries2",
    "fs/file-max",
    "fs/nr_open",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_count",
    "net/ipv4/tcp_ehash_entries",
];

/// Descriptors of the process: fewer are not looked at.
const DESCRIPTORS: usize = 100;

pub(crate) fn run(input: &[u8]) {
    with_tree!(make, |tree| {
        let mut contents = parts(input, FILES.len() + 1);
        for name in FILES {
            tree.write(name, contents.next().unwrap_or_default());
        }
        let mut values = contents.next().unwrap_or_default().split(|&byte| byte == b'\n');
        for name in NUMBERS {
            tree.write(&format!("proc/sys/{name}"), values.next().unwrap_or_default());
        }
        show(&HostRoot::open(tree.path()).expect("the tree is there"));
    });
}

fn make(tree: &Tree) {
    tree.write("proc/1/comm", b"a\x1bb\n");
    for descriptor in 0..DESCRIPTORS {
        tree.write(&format!("proc/1/fd/{descriptor}"), b"");
    }
}

/// Judges what is in `tree`, and checks what is shown of it.
fn show(tree: &HostRoot) {
    let frame = copied(tree);
    let report = examine(&frame, true);
    let mut out = Vec::new();
    text::doctor::write(&frame, &report, "a copied tree", Screen::plain(120), &mut out).expect("there is room");
    let shown = String::from_utf8(out).expect("text is UTF-8");
    let odd = |letter: char| letter.is_control() && letter != '\n';
    assert!(!shown.contains(odd), "{shown:?}");
    for finding in report.findings() {
        let mut line = Vec::new();
        json::finding::write(finding, Timestamp::UNIX_EPOCH, &mut line).expect("there is room");
        let _: Value = serde_json::from_slice(&line).expect("a finding is a line of JSON");
    }
}
