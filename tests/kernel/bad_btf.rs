//! BTF that is missing, cut short or corrupt: one line says so, and nothing hangs, crashes or counts by wrong offsets.

use std::fs;
use std::thread;

use rustix::mount::{MountFlags, mount};
use tcpwatch::sys::btf::KernelBtf;

use crate::support::netns::in_netns;
use crate::support::program::run::{finish, tcpwatch};

/// Where the kernel keeps its BTF.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// A stack that a recursion without end would leave at once.
const SMALL_STACK: usize = 256 << 10;

/// The running kernel's BTF.
fn real() -> Vec<u8> {
    fs::read(BTF).expect("the kernel suite needs a kernel with BTF")
}

/// A `struct inet_sock` that contains itself without a name.
fn self_referring() -> Vec<u8> {
    let strings = b"\0inet_sock\0";
    let types: [u32; 6] = [1, 4 << 24 | 1, 8, 0, 1, 0];
    let length = u32::try_from(size_of_val(&types)).expect("few");
    let header = [24, 0, length, length, u32::try_from(strings.len()).expect("few")];
    let words = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes());
    let magic = 0xeb9f_u16.to_ne_bytes().into_iter().chain([1, 0]);
    magic.chain(words).chain(strings.iter().copied()).collect()
}

#[test]
fn corrupt_btf_is_refused_in_one_line() {
    let whole = real();
    let half = whole[..whole.len() / 2].to_vec();
    let cases = [
        (self_referring(), "type 1 (inet_sock) contains itself"),
        (half, "truncated"),
        (vec![0x9f; 4096], "begins with 0x9f9f"),
        (Vec::new(), "truncated"),
    ];
    in_netns(|_| {
        mount("none", "/sys/kernel/btf", "tmpfs", MountFlags::empty(), None).expect("hiding the kernel's BTF");
        for (bytes, why) in cases {
            fs::write(BTF, bytes).expect("a file for BTF");
            for command in ["stat", "trace"] {
                finish(&tcpwatch(&[command, "--hook", "tp_btf"])).refuses(1, why);
            }
            // The classic hook does without.
            let finished = finish(&tcpwatch(&["stat", "0.1", "2", "-o", "json", "--hook", "tracepoint"]));
            let rows = finished.stdout.lines().count();
            assert_eq!((finished.code, rows), (Some(0), 2), "{finished:?}");
        }
    });
}

/// Changes a few hundred words of the types; those that unit tests change are few.
#[test]
fn mutations_of_this_kernels_btf_end_in_layouts_or_an_error() {
    let whole = real();
    let parsed = thread::Builder::new().stack_size(SMALL_STACK).spawn(move || {
        let layouts = |bytes: &[u8]| KernelBtf::parse(bytes).and_then(|btf| Ok((btf.aya()?, btf.layouts()?)));
        layouts(&whole).expect("this kernel's BTF is not corrupt");
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for changes in 1..=24_u32 {
            let mut bytes = whole.clone();
            for _ in 0..1 << (changes % 8) {
                // xorshift64: the same in every run.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let words = (bytes.len() - 24) as u64 / 4;
                let at = 24 + 4 * usize::try_from(random % words).expect("a place in memory");
                // Mostly an id of a type, sometimes anything.
                let value = if random >> 60 == 0 {
                    random >> 32
                } else {
                    (random >> 32) % 150_000
                };
                bytes[at..at + 4].copy_from_slice(&u32::try_from(value).expect("32 bits").to_ne_bytes());
            }
            let _ = layouts(&bytes);
        }
    });
    parsed
        .expect("a thread")
        .join()
        .expect("neither a panic nor an overflow of the stack");
}
