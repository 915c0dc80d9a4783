//! The kernel's types (BTF): what passes the check is used without a panic, and soon.

use tcpwatch::sys::btf::KernelBtf;

/// Structures, with a field each, that are looked up beside the layouts.
const FIELDS: [(&str, &str); 3] = [
    ("trace_event_raw_inet_sock_set_state", "skaddr"),
    ("trace_event_raw_tcp_event_sk_skb", "skaddr"),
    ("sock_common", "skc_state"),
];

pub(crate) fn run(input: &[u8]) {
    let Ok(btf) = KernelBtf::parse(input) else {
        return;
    };
    if let Ok(layouts) = btf.layouts() {
        assert_eq!(layouts.sock.known, 1);
        assert!(layouts.reasons.len() <= 256, "a reason is a byte");
    }
    for (structure, field) in FIELDS {
        let _ = btf.record_field(&[structure], field);
    }
    let _ = btf.aya();
}
