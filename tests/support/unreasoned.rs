//! A kernel that says of no reset why it was sent, as one before Linux 6.10: what tells of its types is changed, in the test's mounts.

use std::fs;
use std::path::Path;

use rustix::mount::mount_bind;

const BTF: &str = "/sys/kernel/btf/vmlinux";
const FORMAT: &str = "/sys/kernel/tracing/events/tcp/tcp_send_reset/format";

// linux/btf.h
const HEADER: usize = 24;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;

/// Takes the reasons away, for programs started after this from the calling thread.
pub(crate) fn take_reasons_away() {
    let mut btf = fs::read(BTF).expect("the kernel's BTF");
    forget_reasons(&mut btf);
    put(&btf, BTF);
    let format = fs::read_to_string(FORMAT).expect("a mounted tracefs");
    let (reasons, others): (Vec<&str>, Vec<&str>) = format
        .split_inclusive('\n')
        .partition(|line| line.contains("field:") && line.contains(" reason;"));
    assert_eq!(reasons.len(), 1, "{format}");
    put(others.concat().as_bytes(), FORMAT);
}

/// Lays a file with this content over the one at `path`.
fn put(content: &[u8], path: &str) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("file");
    fs::write(&file, content).expect("a file");
    // The file lives on where it is mounted.
    mount_bind(&file, Path::new(path)).expect("a bind mount");
}

/// Gives the tracepoint of sent resets the parameters of the one of received resets, which are without a reason, and takes the name
/// of the type of reasons.
fn forget_reasons(btf: &mut [u8]) {
    let word = |btf: &[u8], at: usize| u32::from_le_bytes(btf[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(btf[..2], [0x9f, 0xeb], "BTF of a little-endian kernel");
    let [types, length, strings] = [8, 12, 16].map(|at| word(btf, at) as usize);
    let mut at = HEADER + types;
    let (mut sent, mut received, mut reasons) = (None, None, None);
    while at < HEADER + types + length {
        let name = HEADER + strings + word(btf, at) as usize;
        let (kind, members) = (word(btf, at + 4) >> 24 & 0x1f, word(btf, at + 4) & 0xffff);
        let is = |wanted: &str| btf[name..].starts_with(wanted.as_bytes()) && btf[name + wanted.len()] == 0;
        match kind {
            KIND_TYPEDEF if is("btf_trace_tcp_send_reset") => sent = Some(at + 8),
            KIND_TYPEDEF if is("btf_trace_tcp_receive_reset") => received = Some(word(btf, at + 8)),
            KIND_ENUM if is("sk_rst_reason") => reasons = Some(at),
            _ => {}
        }
        at += 12 + after(kind, members as usize);
    }
    let mut put = |at: Option<usize>, value: u32| {
        let at = at.expect("this kernel tells why resets are sent");
        btf[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    put(sent, received.expect("a tracepoint of received resets"));
    put(reasons, 0);
}

/// Bytes after the head of a type of this kind with so many members.
fn after(kind: u32, members: usize) -> usize {
    match kind {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // ARRAY
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => 12 * members,
        // ENUM, FUNC_PROTO
        KIND_ENUM | 13 => 8 * members,
        _ => 0,
    }
}
