use std::fs;

use aya_obj::btf::BtfKind;

use super::builder::{Builder, Kernel, kind};
use super::*;

fn layouts_of(kernel: &Kernel) -> Result<Layouts> {
    KernelBtf::parse(&kernel.bytes())?.layouts()
}

/// The layouts of the kernel below `root`.
fn layouts(root: &Path) -> Result<Layouts> {
    KernelBtf::read(root)?.layouts()
}

fn refusal(bytes: &[u8]) -> String {
    format!("{:#}", KernelBtf::parse(bytes).unwrap_err())
}

/// A tree whose kernel's BTF is `bytes`.
fn tree(bytes: &[u8]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("sys/kernel/btf")).unwrap();
    fs::write(path(root.path()), bytes).unwrap();
    root
}

#[test]
fn offsets_are_those_of_the_structures() {
    let layouts = layouts_of(&Kernel::new()).unwrap();
    let sock = layouts.sock;
    assert_eq!(
        (sock.known, sock.daddr, sock.saddr, sock.dport, sock.num),
        (1, 0, 4, 8, 10)
    );
    assert_eq!(
        (sock.family, sock.state, sock.net, sock.cookie, sock.flags),
        (12, 14, 24, 64, 72)
    );
    assert_eq!(
        (sock.err, sock.shutdown, sock.protocol, sock.socket, sock.sport),
        (96, 100, 102, 104, 128)
    );
    assert_eq!((sock.snd_una, sock.total_retrans, sock.tw_substate), (152, 200, 100));
    assert_eq!((sock.net_inum, sock.socket_inode), (16, 104));
    let task = layouts.task;
    assert_eq!(
        (task.known, task.comm, task.live, task.numbers, task.upid_size),
        (1, 56, 4, 16, 16)
    );
    assert_eq!((task.registers, task.stack_pointer, task.ns_inum), (168, 152, 16));
    assert_eq!(
        task.thread_pointer,
        if cfg!(target_arch = "aarch64") { 144 } else { 136 }
    );
    assert!(layouts.typed_reason);
    let reasons = [(0, "SK_RST_REASON_NOT_SPECIFIED"), (2, "SK_RST_REASON_NO_SOCKET")];
    assert_eq!(layouts.reasons, reasons.map(|(number, name)| (number, name.to_owned())));
}

#[test]
fn aya_finds_hooks_by_their_ids_and_is_given_nothing_else() {
    let mut types = Builder::new();
    let int = types.add(kind::INT, 0, "btf_trace_tcp_send_reset", 4, &[32]);
    types.structure(kind::STRUCT, "other", 4, &[("member", int, 0)]);
    let send = types.add(kind::TYPEDEF, 0, "btf_trace_tcp_send_reset", int, &[]);
    types.add(kind::TYPEDEF, 0, "btf_trace_sys_enter", int, &[]);
    let proto = types.add(kind::FUNC_PROTO, 0, "", 0, &[]);
    let walk = types.add(kind::FUNC, 0, "bpf_iter_tcp", proto, &[]);
    types.add(kind::TYPEDEF, 0, "after", int, &[]);
    let bytes = types.bytes();
    let full = Btf::parse(&bytes, Endianness::default()).unwrap();
    let btf = KernelBtf::parse(&bytes).unwrap().aya().unwrap();
    for (name, kind, id) in [
        ("btf_trace_tcp_send_reset", BtfKind::Typedef, send),
        ("bpf_iter_tcp", BtfKind::Func, walk),
    ] {
        assert_eq!(full.id_by_type_name_kind(name, kind).unwrap(), id);
        assert_eq!(btf.id_by_type_name_kind(name, kind).unwrap(), id);
    }
    assert!(
        btf.id_by_type_name_kind("btf_trace_sys_enter", BtfKind::Typedef)
            .is_err()
    );
    assert!(btf.id_by_type_name_kind("other", BtfKind::Struct).is_err());
}

#[test]
fn a_kernel_without_ipv6_has_no_addresses_of_it() {
    let mut kernel = Kernel::new();
    kernel
        .structure("sock_common")
        .fields
        .retain(|field| !field.0.contains("v6"));
    let sock = layouts_of(&kernel).unwrap().sock;
    assert_eq!((sock.known, sock.saddr_v6, sock.daddr_v6), (1, ABSENT, ABSENT));
}

#[test]
fn a_field_that_is_not_plausible_is_refused_by_name() {
    // The field, what becomes of it, and what the error says of it.
    let cases = [
        ("skc_num", "u32", 0, "skc_num has 4 bytes, not 2"),
        ("skc_num", "u16", 1, "skc_num is not aligned"),
        ("skc_num", "u16", 0, "overlaps sock_common.skc_"),
        ("skc_num", "u16", 4, "skc_num lies outside of its struct"),
        ("skc_dport", "u64", 0, "skc_dport lies outside of its struct"),
        ("skc_family", "u16", 14, "overlaps sock_common.skc_"),
        ("skc_state", "u16", 14, "skc_state has 2 bytes"),
        ("skc_net", "u64", 24, "there is no field sock_common.skc_net.net"),
        ("skc_v6_daddr", "u8[4]", 32, "skc_v6_daddr has 4 bytes"),
        ("skc_v6_daddr", "in6_addr", 33, "skc_v6_daddr is not aligned"),
        ("sk_socket", "u64", 104, "sock.sk_socket is not a pointer"),
        ("bytes_acked", "ptr", 168, "tcp_sock.bytes_acked is a pointer"),
        ("sk_err", "u32", 92, "sock.sk_err overlaps struct sock_common"),
        ("inet_sport", "be16", 102, "inet_sock.inet_sport overlaps struct sock"),
        ("snd_una", "u32", 128, "tcp_sock.snd_una overlaps struct inet_sock"),
        (
            "icsk_inet",
            "inet_sock",
            8,
            "struct tcp_sock does not begin with a struct inet_sock",
        ),
        (
            "__tw_common",
            "sock_common",
            8,
            "struct inet_timewait_sock does not begin",
        ),
        (
            "tw_substate",
            "volatile u8",
            14,
            "tw_substate overlaps struct sock_common",
        ),
        (
            "total_retrans",
            "u32",
            0xffff_fff8 / 8,
            "total_retrans lies outside of its struct",
        ),
        ("sk_err", "u32", 104, "sock.sk_socket overlaps sock.sk_err"),
        ("sk_err", "list_head", 96, "sk_err has 16 bytes"),
        ("vfs_inode", "inode", 0, "vfs_inode does not follow"),
        ("snd_nxt", "nothing", 160, "there is no field tcp_sock.snd_nxt"),
    ];
    for (field, holds, offset, expected) in cases {
        let mut kernel = Kernel::new();
        let changed = kernel.field(field);
        if holds == "nothing" {
            changed.0 = "gone";
        } else {
            (changed.1, changed.2) = (holds, offset);
        }
        let error = format!("{:#}", layouts_of(&kernel).unwrap_err());
        assert!(error.contains(expected), "{field} as {holds} at {offset}: {error}");
        assert!(
            error.starts_with("cannot use the kernel's BTF: ") && !error.contains('\n'),
            "{error}"
        );
    }
}

#[test]
fn a_field_of_a_task_that_is_not_plausible_leaves_tasks_unknown() {
    let cases = [
        ("comm", "u8[4]", 56, "task_struct.comm has 4 bytes"),
        ("live", "u64", 4, "signal_struct.live has 8 bytes"),
        ("group_leader", "ptr", 20, "group_leader is not aligned"),
        ("start_boottime", "u32", 40, "start_boottime has 4 bytes"),
        ("sp", "u64", 168, "pt_regs.sp lies outside"),
        ("numbers", "u64", 16, "pid.numbers is not an array of struct upid"),
        ("nr", "u32", 4, "struct upid does not begin with nr"),
    ];
    for (field, holds, offset, expected) in cases {
        let mut kernel = Kernel::new();
        let changed = kernel.field(field);
        (changed.1, changed.2) = (holds, offset);
        let btf = KernelBtf::parse(&kernel.bytes()).unwrap();
        let error = btf.task().unwrap_err().to_string();
        assert!(error.contains(expected), "{field} as {holds} at {offset}: {error}");
        let layouts = btf.layouts().unwrap();
        assert_eq!((layouts.sock.known, layouts.task), (1, TaskLayout::UNKNOWN), "{field}");
    }
    let mut kernel = Kernel::new();
    for field in ["start_boottime", "mm", "sp", "fsbase", "tp_value"] {
        kernel.field(field).0 = "gone";
    }
    let task = layouts_of(&kernel).unwrap().task;
    assert_eq!((task.known, task.start_boottime, task.mm), (1, ABSENT, ABSENT));
    assert_eq!((task.stack_pointer, task.thread_pointer), (ABSENT, ABSENT));
}

/// The error where `struct sock_common` has one member of this offset; `flag` is its `kind_flag`.
fn refusal_of_member(flag: u32, offset: u32) -> String {
    let mut built = Builder::new();
    let number = built.add(kind::INT, 0, "u16", 2, &[16]);
    let name = built.string("skc_family");
    built.add(kind::STRUCT | flag << 7, 1, "sock_common", 8, &[name, number, offset]);
    format!("{:#}", KernelBtf::parse(&built.bytes()).unwrap().layouts().unwrap_err())
}

#[test]
fn a_bitfield_is_refused() {
    assert!(refusal_of_member(0, 3).contains("skc_family is a bitfield"));
    assert!(refusal_of_member(1, 8 << 24).contains("skc_family is a bitfield"));
    assert!(
        refusal_of_member(1, 16).contains("no field sock_common.skc_state"),
        "this one is plausible"
    );
}

#[test]
fn two_fields_of_one_name_are_refused() {
    let mut kernel = Kernel::new();
    kernel.structure("sock_common").fields.push(("skc_num", "u16", 88));
    let error = format!("{:#}", layouts_of(&kernel).unwrap_err());
    assert!(error.contains("struct sock_common has two fields skc_num"), "{error}");
}

#[test]
fn a_type_that_contains_itself_is_refused() {
    let around = |kinds: &[u32]| {
        let mut built = Builder::new();
        let last = u32::try_from(kinds.len()).unwrap();
        for (index, &kind) in (1..).zip(kinds) {
            let next = index % last + 1;
            match kind {
                kind::STRUCT | kind::UNION => built.structure(kind, "inet_sock", 8, &[("", next, 0)]),
                kind::ARRAY => built.add(kind, 0, "", 0, &[next, next, 1]),
                _ => built.add(kind, 0, "", next, &[]),
            };
        }
        refusal(&built.bytes())
    };
    assert_eq!(around(&[kind::STRUCT]), "type 1 (inet_sock) contains itself");
    for kinds in [
        &[kind::TYPEDEF][..],
        &[kind::CONST, kind::VOLATILE],
        &[kind::STRUCT, kind::UNION],
        &[kind::STRUCT, kind::TYPEDEF, kind::ARRAY],
        &[kind::ARRAY],
    ] {
        assert!(around(kinds).contains("contains itself"), "{kinds:?}");
    }
    for kinds in [&[kind::PTR][..], &[kind::CONST, kind::PTR, kind::TYPEDEF]] {
        assert!(around(kinds).contains("points at itself"), "{kinds:?}");
    }
}

#[test]
fn types_nested_without_end_are_refused_and_found_in_no_time() {
    let nested = |levels: u32| {
        let mut built = Builder::new();
        let mut inner = built.add(kind::INT, 0, "u64", 8, &[64]);
        for _ in 0..levels {
            // Twice each, so that to look at every path would take 2^levels steps.
            inner = built.structure(kind::UNION, "", 8, &[("", inner, 0), ("", inner, 0)]);
        }
        built.structure(kind::STRUCT, "sock_common", 8, &[("", inner, 0)]);
        KernelBtf::parse(&built.bytes())
    };
    let error = nested(62).unwrap().layouts().unwrap_err();
    assert!(
        format!("{error:#}").contains("no field sock_common.skc_family"),
        "{error:#}"
    );
    assert!(nested(63).unwrap_err().to_string().contains("nested too deeply"));
}

#[test]
fn btf_that_is_cut_short_is_refused() {
    let whole = Kernel::new().bytes();
    for length in 0..whole.len() {
        refusal(&whole[..length]);
    }
}

#[test]
fn corrupt_btf_is_refused_with_its_reason() {
    let whole = Kernel::new().bytes();
    let with = |at: usize, word: u32| {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        refusal(&bytes)
    };
    let word = |at: usize| u32::from_ne_bytes(whole[at..at + 4].try_into().unwrap());
    assert!(refusal(&[]).contains("header is truncated"));
    assert!(refusal(&[0x9f; 4096]).contains("begins with 0x9f9f, not 0xeb9f"));
    assert!(with(0, word(0) ^ 3 << 16).contains("version"));
    assert!(with(4, 23).contains("header says that it has 23 bytes"));
    for at in [4, 8, 12, 16, 20] {
        let error = with(at, u32::MAX);
        assert!(error.contains("truncated"), "{at}: {error}");
    }
    for fewer in [1, 4] {
        assert!(with(12, word(12) - fewer).contains("types are truncated"));
    }
    assert!(with(20, word(20) - 1).contains("string section"));
    assert!(with(20, 0).contains("string section"));
    // The first type is an int: its name, its kind and its size.
    assert!(with(24, word(20)).contains("type 1 has a name at"));
    assert!(with(28, 20 << 24).contains("the kind 20"));
    assert!(
        with(28, kind::PTR << 24).contains("the kind "),
        "what follows is read as a type"
    );
    let mut built = Builder::new();
    built.add(kind::PTR, 0, "", 2, &[]);
    assert!(refusal(&built.bytes()).contains("type 1 names the type 2, which does not exist"));
}

#[test]
fn a_kernel_without_btf_is_an_error_that_names_the_file() {
    let root = tempfile::tempdir().unwrap();
    let error = layouts(root.path()).unwrap_err().to_string();
    assert!(error.starts_with("this kernel has no BTF: "), "{error}");
    assert!(error.contains("sys/kernel/btf/vmlinux"), "{error}");
}

#[test]
fn what_is_no_file_of_types_is_an_error_that_names_the_file() {
    let root = tree(&[0x9f; 4096]);
    let error = format!("{:#}", layouts(root.path()).unwrap_err());
    assert!(
        error.starts_with("cannot use the kernel's BTF at ") && error.contains("0xeb9f"),
        "{error}"
    );
    fs::remove_file(path(root.path())).unwrap();
    fs::create_dir(path(root.path())).unwrap();
    let error = format!("{:#}", layouts(root.path()).unwrap_err());
    assert!(error.ends_with("not a regular file"), "{error}");
}

#[test]
fn btf_of_a_tree_is_read() {
    let root = tree(&Kernel::new().bytes());
    assert_eq!(layouts(root.path()).unwrap().sock.known, 1);
}

#[test]
fn runs_are_found_where_the_kernel_counts_them() {
    let runs = |kernel: &Kernel| KernelBtf::parse(&kernel.bytes()).unwrap().layouts().unwrap().runs;
    let mut kernel = Kernel::new();
    let expected = RunsLayout {
        prog_active: 40,
        array_values: 96,
        preemptible: false,
    };
    assert_eq!(runs(&kernel), Some(expected));
    kernel.field("active").1 = "ptr to u8";
    let preemptible = RunsLayout {
        preemptible: true,
        ..expected
    };
    assert_eq!(runs(&kernel), Some(preemptible), "Linux 7.0");
    kernel.field("active").1 = "ptr";
    assert_eq!(runs(&kernel), None, "a pointer to anything");
    kernel.field("active").1 = "u64";
    assert_eq!(runs(&kernel), None, "no pointer");
    kernel.field("active").0 = "stats";
    assert_eq!(runs(&kernel), None, "no such field");
}

#[test]
fn a_record_is_described_by_the_first_structure_there_is() {
    let btf = KernelBtf::parse(&Kernel::new().bytes()).unwrap();
    let own_and_class = ["trace_event_raw_tcp_destroy_sock", "trace_event_raw_tcp_event_sk"];
    assert_eq!(btf.record_field(&own_and_class, "skaddr").unwrap(), Some((8, 8)));
    assert_eq!(btf.record_field(&own_and_class[..1], "skaddr").unwrap(), None);
    assert!(btf.record_field(&own_and_class, "skbaddr").is_err());
}

/// A stream of numbers that is the same in every run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

/// Changes `bytes` a little: flips bits, cuts, repeats, and writes ids where words are.
fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        let word = at.min(bytes.len() - 4) / 4 * 4;
        let write = |bytes: &mut Vec<u8>, value: u32| bytes[word..word + 4].copy_from_slice(&value.to_ne_bytes());
        match numbers.below(6) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            // Most of these are ids of types, some of the very type that is written to.
            2 | 3 => write(bytes, u32::try_from(numbers.below(100)).unwrap()),
            4 => {
                let from = numbers.below(bytes.len() - 3) / 4 * 4;
                bytes.copy_within(from..from + 4, word);
            }
            _ if numbers.below(8) == 0 => bytes.truncate(at.max(8)),
            _ => write(bytes, u32::MAX >> numbers.below(32)),
        }
    }
}

/// Does with `bytes` all that tcpwatch does; whether there are layouts.
fn use_all(bytes: &[u8]) -> bool {
    // aya's loader reads the kernel's BTF by itself, unchecked.
    let _read_or_refused = Btf::parse(bytes, Endianness::default());
    let Ok(btf) = KernelBtf::parse(bytes) else { return false };
    let aya = btf.aya().expect("aya reads what is checked");
    for kind in [BtfKind::Typedef, BtfKind::Func] {
        // It may be found or not, but must not panic.
        let _ = aya.id_by_type_name_kind("btf_trace_inet_sock_set_state", kind);
    }
    for field in ["skaddr", "sport", "daddr_v6"] {
        let _ = btf.record_field(&["trace_event_raw_inet_sock_set_state"], field);
    }
    let Ok(Layouts { sock, .. }) = btf.layouts() else {
        return false;
    };
    for (offset, align) in [
        (sock.num, 2),
        (sock.dport, 2),
        (sock.daddr, 4),
        (sock.net, 8),
        (sock.bytes_acked, 8),
    ] {
        assert!(offset % align == 0 && offset < 1 << 20, "{sock:?}");
    }
    true
}

/// A stack that a recursion without end would leave at once.
const SMALL_STACK: usize = 256 << 10;

#[test]
fn mutated_btf_ends_in_layouts_or_an_error() {
    let whole = Kernel::new().bytes();
    let tried = std::thread::Builder::new().stack_size(SMALL_STACK).spawn(move || {
        assert!(use_all(&whole), "the one that is not mutated");
        let mut usable = 0;
        for seed in 1..=10_000_u64 {
            let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut bytes = whole.clone();
            mutate(&mut bytes, &mut numbers);
            usable += u32::from(use_all(&bytes));
        }
        usable
    });
    let usable = tried
        .unwrap()
        .join()
        .expect("neither a panic nor an overflow of the stack");
    assert!(
        (500..9_500).contains(&usable),
        "both must occur often: {usable} of 10,000 are usable"
    );
}
