//! BTF of a small kernel, made by hand, for tests.

use hashbrown::HashMap;

/// Kinds of types by number (`BTF_KIND_*`).
pub(crate) mod kind {
    pub(crate) const INT: u32 = 1;
    pub(crate) const PTR: u32 = 2;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const FUNC: u32 = 12;
    pub(crate) const FUNC_PROTO: u32 = 13;
}

/// A BTF section that grows.
pub(crate) struct Builder {
    words: Vec<u32>,
    strings: Vec<u8>,
    last_id: u32,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            words: Vec::new(),
            strings: vec![0],
            last_id: 0,
        }
    }

    /// Adds a string; its offset.
    pub(crate) fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.bytes().chain([0]));
        offset
    }

    /// Adds a type; its id.
    pub(crate) fn add(&mut self, kind: u32, vlen: usize, name: &str, third: u32, rest: &[u32]) -> u32 {
        let name = self.string(name);
        let vlen = u32::try_from(vlen).unwrap();
        self.words.extend([name, kind << 24 | vlen, third]);
        self.words.extend(rest);
        self.last_id += 1;
        self.last_id
    }

    /// Adds a structure or union of members (name, type, byte offset).
    pub(crate) fn structure(&mut self, kind: u32, name: &str, bytes: u32, members: &[(&str, u32, u32)]) -> u32 {
        let mut rest = Vec::new();
        for &(name, id, offset) in members {
            rest.extend([self.string(name), id, offset * 8]);
        }
        self.add(kind, members.len(), name, bytes, &rest)
    }

    /// The section.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let types = u32::try_from(self.words.len() * 4).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(self.words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(&self.strings);
        bytes
    }
}

/// A field: its name, what it holds, and its offset in bytes.
pub(crate) type Field = (&'static str, &'static str, u32);

/// Name, bytes and fields of each structure, those first that others contain.
const STRUCTURES: [(&str, u32, &[Field]); 37] = [
    ("atomic_t", 4, &[("counter", "u32", 0)]),
    ("atomic64_t", 8, &[("counter", "u64", 0)]),
    ("in6_addr", 16, &[("words", "u32[4]", 0)]),
    ("possible_net_t", 8, &[("net", "ptr", 0)]),
    ("ns_common", 16, &[("ops", "ptr", 0), ("inum", "u32", 8)]),
    ("net", 32, &[("passive", "u32", 0), ("ns", "ns_common", 8)]),
    (
        "unnamed addresses",
        8,
        &[("skc_daddr", "be32", 0), ("skc_rcv_saddr", "be32", 4)],
    ),
    (
        "union of addresses",
        8,
        &[("skc_addrpair", "u64", 0), ("", "unnamed addresses", 0)],
    ),
    ("unnamed ports", 4, &[("skc_dport", "be16", 0), ("skc_num", "u16", 2)]),
    (
        "union of ports",
        4,
        &[("skc_portpair", "u32", 0), ("", "unnamed ports", 0)],
    ),
    (
        "union of flags",
        8,
        &[("skc_flags", "u64", 0), ("skc_listener", "ptr", 0)],
    ),
    (
        "sock_common",
        96,
        &[
            ("", "union of addresses", 0),
            ("", "union of ports", 8),
            ("skc_family", "u16", 12),
            ("skc_state", "volatile u8", 14),
            ("skc_bound_dev_if", "u32", 16),
            ("skc_net", "possible_net_t", 24),
            ("skc_v6_daddr", "in6_addr", 32),
            ("skc_v6_rcv_saddr", "in6_addr", 48),
            ("skc_cookie", "atomic64_t", 64),
            ("", "union of flags", 72),
        ],
    ),
    (
        "sock",
        128,
        &[
            ("__sk_common", "sock_common", 0),
            ("sk_err", "u32", 96),
            ("sk_shutdown", "u8", 100),
            ("sk_protocol", "u16", 102),
            ("sk_socket", "ptr", 104),
            ("sk_bpf_storage", "ptr", 112),
        ],
    ),
    ("inet_sock", 144, &[("sk", "sock", 0), ("inet_sport", "be16", 128)]),
    ("inet_connection_sock", 152, &[("icsk_inet", "inet_sock", 0)]),
    (
        "tcp_sock",
        208,
        &[
            ("inet_conn", "inet_connection_sock", 0),
            ("snd_una", "u32", 152),
            ("write_seq", "u32", 156),
            ("snd_nxt", "u32", 160),
            ("srtt_us", "u32", 164),
            ("bytes_acked", "u64", 168),
            ("bytes_sent", "u64", 176),
            ("bytes_retrans", "u64", 184),
            ("bytes_received", "u64", 192),
            ("total_retrans", "u32", 200),
        ],
    ),
    (
        "inet_timewait_sock",
        112,
        &[("__tw_common", "sock_common", 0), ("tw_substate", "volatile u8", 100)],
    ),
    ("inode", 64, &[("i_ino", "u64", 40)]),
    ("socket", 64, &[("file", "ptr", 16), ("sk", "ptr", 24)]),
    (
        "socket_alloc",
        128,
        &[("socket", "socket", 0), ("vfs_inode", "inode", 64)],
    ),
    ("thread_struct", 32, &[("fsbase", "u64", 8), ("uw", "user_words", 16)]),
    (
        "task_struct",
        256,
        &[
            ("flags", "u32", 0),
            ("mm", "ptr", 8),
            ("pid", "u32", 16),
            ("tgid", "u32", 20),
            ("group_leader", "ptr", 24),
            ("thread_pid", "ptr", 32),
            ("start_boottime", "u64", 40),
            ("self_exec_id", "u64", 48),
            ("comm", "u8[16]", 56),
            ("files", "ptr", 72),
            ("signal", "ptr", 80),
            ("thread", "thread_struct", 128),
        ],
    ),
    ("signal_struct", 16, &[("live", "atomic_t", 4)]),
    ("files_struct", 16, &[("fdt", "ptr", 8)]),
    ("fdtable", 16, &[("max_fds", "u32", 0), ("fd", "ptr", 8)]),
    ("file", 32, &[("private_data", "ptr", 24)]),
    ("upid", 16, &[("nr", "u32", 0), ("ns", "ptr", 8)]),
    ("pid", 32, &[("level", "u32", 4), ("numbers", "upid[1]", 16)]),
    ("pid_namespace", 32, &[("ns", "ns_common", 8)]),
    ("bpf_prog", 64, &[("active", "ptr to u32", 40)]),
    ("bpf_array", 96, &[("value", "u8[0]", 96)]),
    ("pt_regs", 168, &[("sp", "u64", 152)]),
    ("mm_struct", 32, &[("start_stack", "u64", 24)]),
    ("user_words", 16, &[("tp_value", "u64", 0)]),
    ("syscall_trace_exit", 24, &[("nr", "u32", 8), ("ret", "u64", 16)]),
    (
        "trace_event_raw_tcp_event_sk",
        24,
        &[("skaddr", "ptr", 8), ("sport", "u16", 16)],
    ),
    (
        "trace_event_raw_inet_sock_set_state",
        72,
        &[
            ("skaddr", "ptr", 8),
            ("oldstate", "u32", 16),
            ("newstate", "u32", 20),
            ("sport", "u16", 24),
            ("dport", "u16", 26),
            ("family", "u16", 28),
            ("protocol", "u16", 30),
            ("saddr", "u8[4]", 32),
            ("daddr", "u8[4]", 36),
            ("saddr_v6", "u8[16]", 40),
            ("daddr_v6", "u8[16]", 56),
        ],
    ),
];

/// A structure: its name, its bytes and its fields. One whose name begins with `union` or `unnamed` has none in the BTF.
pub(crate) struct Structure {
    name: &'static str,
    pub(crate) bytes: u32,
    pub(crate) fields: Vec<Field>,
}

/// The structures that tcpwatch reads, as a small kernel has them.
pub(crate) struct Kernel(Vec<Structure>);

impl Kernel {
    pub(crate) fn new() -> Self {
        Self(
            STRUCTURES
                .into_iter()
                .map(|(name, bytes, fields)| Structure {
                    name,
                    bytes,
                    fields: fields.to_vec(),
                })
                .collect(),
        )
    }

    /// The structure called `name`, to change it.
    pub(crate) fn structure(&mut self, name: &str) -> &mut Structure {
        let mut found = self.0.iter_mut();
        found.find(|structure| structure.name == name).unwrap()
    }

    /// The field called `name` of whichever structure has it, to change it.
    pub(crate) fn field(&mut self, name: &str) -> &mut Field {
        let mut fields = self.0.iter_mut().flat_map(|structure| &mut structure.fields);
        fields.find(|field| field.0 == name).unwrap()
    }

    /// Its BTF.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut built = Builder::new();
        let mut ids = HashMap::new();
        for (name, bytes) in [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)] {
            ids.insert(name, built.add(kind::INT, 0, name, bytes, &[bytes * 8]));
        }
        let constant = built.add(kind::CONST, 0, "", ids["u16"], &[]);
        ids.insert("be16", built.add(kind::TYPEDEF, 0, "__be16", constant, &[]));
        ids.insert("be32", built.add(kind::TYPEDEF, 0, "__be32", ids["u32"], &[]));
        ids.insert("volatile u8", built.add(kind::VOLATILE, 0, "", ids["u8"], &[]));
        for (name, element, count) in [
            ("u8[0]", "u8", 0),
            ("u8[4]", "u8", 4),
            ("u8[16]", "u8", 16),
            ("u32[4]", "u32", 4),
        ] {
            let rest = [ids[element], ids["u32"], count];
            ids.insert(name, built.add(kind::ARRAY, 0, "", 0, &rest));
        }
        ids.insert("ptr", built.add(kind::PTR, 0, "", 0, &[]));
        for (name, target) in [("ptr to u8", "u8"), ("ptr to u32", "u32")] {
            ids.insert(name, built.add(kind::PTR, 0, "", ids[target], &[]));
        }
        // A pointer from one structure to itself, as any list has.
        let head = built.last_id + 2;
        let list = built.add(kind::PTR, 0, "", head, &[]);
        let members = [("next", list, 0), ("prev", list, 8)];
        ids.insert("list_head", built.structure(kind::STRUCT, "list_head", 16, &members));
        // Structures are declared before those that they are part of, but for this one: an id may lead forward.
        let mut order: Vec<&Structure> = self.0.iter().collect();
        order.sort_by_key(|structure| structure.name != "user_words");
        for Structure { name, bytes, fields } in order {
            let members: Vec<_> = fields
                .iter()
                .map(|&(name, holds, offset)| (name, ids[holds], offset))
                .collect();
            let kind = if name.starts_with("union") {
                kind::UNION
            } else {
                kind::STRUCT
            };
            let shown = if name.starts_with("un") { "" } else { name };
            let id = built.structure(kind, shown, *bytes, &members);
            ids.insert(name, id);
            if *name == "upid" {
                ids.insert("upid[1]", built.add(kind::ARRAY, 0, "", 0, &[id, ids["u32"], 1]));
            }
        }
        let parameters = [0, 1, 2, 3].map(|id| [0, id]).concat();
        let function = built.add(kind::FUNC_PROTO, 4, "", 0, &parameters);
        let pointer = built.add(kind::PTR, 0, "", function, &[]);
        for hook in ["btf_trace_tcp_send_reset", "btf_trace_inet_sock_set_state"] {
            built.add(kind::TYPEDEF, 0, hook, pointer, &[]);
        }
        built.add(kind::FUNC, 0, "bpf_iter_tcp", function, &[]);
        let reasons = [("SK_RST_REASON_NOT_SPECIFIED", 0), ("SK_RST_REASON_NO_SOCKET", 2)];
        let enumerators = reasons.map(|(name, number)| [built.string(name), number]).concat();
        built.add(kind::ENUM, reasons.len(), "sk_rst_reason", 4, &enumerators);
        built.bytes()
    }
}
