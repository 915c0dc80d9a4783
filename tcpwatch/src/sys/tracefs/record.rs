//! The record of a tracepoint, from its `format` file.
//!
//! The file is untrusted input. A field must be consistent in itself and with the kernel's BTF; otherwise the tracepoint is not
//! used.

use anyhow::{Context, Result, bail, ensure};
use tcpwatch_common::ClassicLayout;
use tcpwatch_common::params::CLASSIC_RECORD_MAX;

use crate::sys::btf::KernelBtf;

/// Kernel structures that describe the records of several tracepoints. All other tracepoints have their own structure.
const SHARED_RECORDS: [(&str, &str); 5] = [
    ("tcp_send_reset", "trace_event_raw_tcp_event_sk_skb"),
    ("tcp_retransmit_skb", "trace_event_raw_tcp_event_sk_skb"),
    ("tcp_receive_reset", "trace_event_raw_tcp_event_sk"),
    ("tcp_destroy_sock", "trace_event_raw_tcp_event_sk"),
    ("sys_exit_accept4", "syscall_trace_exit"),
];

/// The maximum size of a record, bytes (`PERF_MAX_TRACE_SIZE`).
const MAX_RECORD_BYTES: u32 = 8192;

/// A field of a record, as in the `format` file.
#[derive(Debug)]
struct Field {
    name: String,
    offset: u32,
    bytes: u32,
}

impl Field {
    /// Parses `__u8 saddr[4]; offset:32; size:4; signed:0;`.
    fn parse(line: &str) -> Result<Self> {
        let mut parts = line.split(';');
        let declared = parts.next().unwrap_or_default();
        // The kernel puts the brackets of an array after the name, except for `__data_loc` arrays (`f_show`,
        // kernel/trace/trace_events.c).
        let declared = if declared.starts_with("__data_loc") {
            declared
        } else {
            declared.split('[').next().unwrap_or_default()
        };
        let name = declared.split_whitespace().last().unwrap_or_default();
        let mut number = |key: &str| parts.next()?.trim().strip_prefix(key)?.parse().ok();
        match (number("offset:"), number("size:")) {
            (Some(offset), Some(bytes)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                offset,
                bytes,
            }),
            _ => bail!("its field {} is malformed", name.escape_default()),
        }
    }

    /// The first byte after it.
    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.bytes)
    }

    fn overlaps(&self, other: &Self) -> bool {
        u64::from(self.offset) < other.end() && u64::from(other.offset) < self.end()
    }
}

/// The record of a tracepoint, as in its `format` file.
pub(super) struct Record {
    tracepoint: String,
    fields: Vec<Field>,
}

impl Record {
    /// Parses the `format` file of `tracepoint`.
    ///
    /// # Errors
    /// A field in it is malformed.
    pub(super) fn parse(tracepoint: &str, format: &str) -> Result<Self> {
        let lines = format.lines().filter_map(|line| line.trim().strip_prefix("field:"));
        Ok(Self {
            tracepoint: tracepoint.to_owned(),
            fields: lines.map(Field::parse).collect::<Result<_>>()?,
        })
    }

    /// Offset of the field `name`, which must have this size and alignment, compared with `btf` if known; `None` if there is no
    /// such field.
    ///
    /// # Errors
    /// The description of the field is implausible.
    pub(super) fn offset(&self, name: &str, bytes: u32, align: u32, btf: Option<&KernelBtf>) -> Result<Option<u32>> {
        let mut named = self.fields.iter().filter(|field| field.name == name);
        let Some(found) = named.next() else { return Ok(None) };
        ensure!(named.next().is_none(), "it has two fields {name}");
        ensure!(
            found.bytes == bytes,
            "its field {name} has {} bytes, not {bytes}",
            found.bytes
        );
        ensure!(
            found.offset % align == 0,
            "its field {name} is not aligned: it is at {}",
            found.offset
        );
        ensure!(
            found.end() <= MAX_RECORD_BYTES.into(),
            "its field {name} is at {}, outside of any record",
            found.offset
        );
        let mut others = self.fields.iter().filter(|other| other.name != name);
        if let Some(other) = others.find(|other| other.overlaps(found)) {
            bail!("its field {name} overlaps {}", other.name.escape_default());
        }
        if let Some(btf) = btf {
            self.compare(found, btf)?;
        }
        Ok(Some(found.offset))
    }

    /// Compares `field` with the kernel's structure of the record.
    fn compare(&self, field: &Field, btf: &KernelBtf) -> Result<()> {
        let name = &field.name;
        let own = format!("trace_event_raw_{}", self.tracepoint);
        let shared = SHARED_RECORDS
            .iter()
            .find(|(tracepoint, _)| *tracepoint == self.tracepoint);
        let structures: Vec<&str> = shared.map(|(_, shared)| *shared).into_iter().collect();
        let structures = [&[own.as_str()], structures.as_slice()].concat();
        let written = btf.record_field(&structures, name);
        let written = written.with_context(|| format!("the kernel's BTF contradicts its field {name}"))?;
        let Some((offset, bytes)) = written else { return Ok(()) };
        ensure!(
            field.offset == offset,
            "its field {name} is at {}, but by the kernel's BTF at {offset}",
            field.offset
        );
        ensure!(
            u64::from(field.bytes) == bytes,
            "its field {name} has {} bytes, but by the kernel's BTF {bytes}",
            field.bytes
        );
        Ok(())
    }

    /// The layout of `sock:inet_sock_set_state`.
    ///
    /// # Errors
    /// A field is missing or implausible.
    pub(super) fn classic_layout(&self, btf: Option<&KernelBtf>) -> Result<ClassicLayout> {
        let at = |name: &str, bytes: u32, align: u32| {
            let offset = self.offset(name, bytes, align, btf)?;
            let offset = offset.with_context(|| format!("it has no field {name}"))?;
            ensure!(
                offset as usize + bytes as usize <= CLASSIC_RECORD_MAX,
                "its field {name} is at {offset}, after the {CLASSIC_RECORD_MAX} bytes that tcpwatch reads"
            );
            Ok(offset)
        };
        Ok(ClassicLayout {
            skaddr: at("skaddr", 8, 8)?,
            oldstate: at("oldstate", 4, 4)?,
            newstate: at("newstate", 4, 4)?,
            sport: at("sport", 2, 2)?,
            dport: at("dport", 2, 2)?,
            family: at("family", 2, 2)?,
            protocol: at("protocol", 2, 2)?,
            saddr: at("saddr", 4, 1)?,
            daddr: at("daddr", 4, 1)?,
            saddr_v6: at("saddr_v6", 16, 1)?,
            daddr_v6: at("daddr_v6", 16, 1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::classic_layout;
    use super::super::testing::{FORMAT, tree};
    use super::*;
    use crate::sys::btf::builder::Kernel;

    /// Why it is refused.
    fn refusal(format: &str, btf: Option<&KernelBtf>) -> String {
        format!("{:#}", classic_layout(tree(format).path(), btf).unwrap_err())
    }

    fn kernel_btf() -> KernelBtf {
        KernelBtf::parse(&Kernel::new().bytes()).unwrap()
    }

    #[test]
    fn the_layout_is_read_from_format() {
        for btf in [None, Some(&kernel_btf())] {
            let layout = classic_layout(tree(FORMAT).path(), btf).unwrap();
            assert_eq!((layout.skaddr, layout.oldstate, layout.newstate), (8, 16, 20));
            assert_eq!((layout.sport, layout.dport), (24, 26));
            assert_eq!((layout.family, layout.protocol), (28, 30));
            assert_eq!((layout.saddr, layout.saddr_v6, layout.daddr_v6), (32, 40, 56));
        }
    }

    #[test]
    fn a_field_that_cannot_be_right_is_refused_by_name() {
        let cases = [
            (
                "offset:56",
                "offset:5600",
                "its field daddr_v6 is at 5600, after the 96 bytes",
            ),
            (
                "offset:56",
                "offset:4294967295",
                "its field daddr_v6 is at 4294967295, outside",
            ),
            (
                "daddr_v6[16];\toffset:56;\tsize:16",
                "daddr_v6[4];\toffset:56;\tsize:4",
                "daddr_v6 has 4 bytes, not 16",
            ),
            (
                "dport;\toffset:26",
                "dport;\toffset:24",
                "its field sport overlaps dport",
            ),
            (
                "dport;\toffset:26",
                "dport;\toffset:0",
                "its field dport overlaps common_type",
            ),
            (
                "protocol;\toffset:30",
                "protocol;\toffset:31",
                "its field protocol is not aligned: it is at 31",
            ),
            (
                "oldstate;\toffset:16",
                "oldstate;\toffset:-1",
                "its field oldstate is malformed",
            ),
            ("oldstate;\toffset:16;", "oldstate;", "its field oldstate is malformed"),
            ("size:8;", "size:99999999999;", "its field skaddr is malformed"),
            ("int newstate;", ";", "its field  is malformed"),
            ("dport;", "sport;", "it has two fields sport"),
            ("dport;", "port;", "it has no field dport"),
            (FORMAT, "", "it has no field skaddr"),
        ];
        for (what, becomes, expected) in cases {
            assert!(FORMAT.contains(what), "{what}");
            let error = refusal(&FORMAT.replacen(what, becomes, 1), None);
            assert!(
                error.starts_with("cannot use the tracepoint sock:inet_sock_set_state: "),
                "{error}"
            );
            assert!(error.contains(expected), "{what} becomes {becomes}: {error}");
        }
    }

    #[test]
    fn a_format_that_contradicts_btf_is_refused() {
        let swapped = FORMAT
            .replace("sport;", "x;")
            .replace("dport;", "sport;")
            .replace("x;", "dport;");
        assert_eq!(
            classic_layout(tree(&swapped).path(), None).unwrap().sport,
            26,
            "plausible by itself"
        );
        let error = refusal(&swapped, Some(&kernel_btf()));
        assert!(
            error.ends_with("its field sport is at 26, but by the kernel's BTF at 24"),
            "{error}"
        );
        let mut other = Kernel::new();
        other.field("newstate").0 = "gone";
        let error = refusal(FORMAT, Some(&KernelBtf::parse(&other.bytes()).unwrap()));
        assert!(
            error.contains("the kernel's BTF contradicts its field newstate"),
            "{error}"
        );
        let mut other = Kernel::new();
        let structures = &mut other.structure("trace_event_raw_inet_sock_set_state").fields;
        structures.retain(|field| field.0 != "saddr_v6");
        structures.push(("saddr_v6", "u8[4]", 40));
        let error = refusal(FORMAT, Some(&KernelBtf::parse(&other.bytes()).unwrap()));
        assert!(
            error.contains("its field saddr_v6 has 16 bytes, but by the kernel's BTF 4"),
            "{error}"
        );
    }

    #[test]
    fn names_of_fields_are_those_the_kernel_prints() {
        for (line, name) in [
            (
                "__u8 saddr[sizeof(struct sockaddr_in6)];\toffset:32;\tsize:28;\tsigned:0;",
                "saddr",
            ),
            ("__data_loc char[] comm;\toffset:8;\tsize:4;\tsigned:0;", "comm"),
            ("const void * skaddr; offset:8; size:8; signed:0;", "skaddr"),
        ] {
            assert_eq!(Field::parse(line).unwrap().name, name);
        }
    }
}
