//! The records of the tracepoints other than the hook: the fields to read, and their offsets.

use std::path::Path;

use anyhow::{Context, Result};
use tcpwatch_common::ResetLayout;
use tcpwatch_common::params::ABSENT;

use super::Tracefs;
use super::record::Record;
use crate::sys::btf::KernelBtf;

/// A tracepoint other than the hook.
struct AuxTracepoint {
    category: &'static str,
    name: &'static str,
    /// The fields to read.
    fields: &'static [AuxField],
}

/// A field of the record of such a tracepoint.
struct AuxField {
    name: &'static str,
    bytes: u32,
    align: u32,
    /// Whether the tracepoint can be used without it.
    optional: bool,
    /// Its entry in the layout.
    place: fn(&mut ResetLayout) -> &mut u32,
}

impl AuxField {
    /// A required number or pointer of this size.
    const fn needed(name: &'static str, bytes: u32, place: fn(&mut ResetLayout) -> &mut u32) -> Self {
        Self {
            name,
            bytes,
            align: bytes,
            optional: false,
            place,
        }
    }

    /// A field that some kernels do not have.
    const fn optional(name: &'static str, bytes: u32, place: fn(&mut ResetLayout) -> &mut u32) -> Self {
        Self {
            optional: true,
            ..Self::needed(name, bytes, place)
        }
    }
}

/// The return value of `accept()`: the only record that is read with `tp_btf`.
const ACCEPT: AuxTracepoint = AuxTracepoint {
    category: "syscalls",
    name: "sys_exit_accept4",
    fields: &[AuxField::needed("ret", 8, |layout| &mut layout.accept_ret)],
};

/// Further records that are read with the classic hook.
const CLASSIC: [AuxTracepoint; 6] = [
    AuxTracepoint {
        category: "tcp",
        name: "tcp_send_reset",
        fields: &[
            AuxField::needed("skaddr", 8, |layout| &mut layout.send_skaddr),
            AuxField::optional("reason", 4, |layout| &mut layout.send_reason),
        ],
    },
    AuxTracepoint {
        category: "tcp",
        name: "tcp_receive_reset",
        fields: &[AuxField::needed("skaddr", 8, |layout| &mut layout.receive_skaddr)],
    },
    AuxTracepoint {
        category: "tcp",
        name: "tcp_destroy_sock",
        fields: &[AuxField::needed("skaddr", 8, |layout| &mut layout.destroy_skaddr)],
    },
    AuxTracepoint {
        category: "tcp",
        name: "tcp_retransmit_skb",
        fields: &[AuxField::needed("skaddr", 8, |layout| &mut layout.retransmit_skaddr)],
    },
    AuxTracepoint {
        category: "tcp",
        name: "tcp_retransmit_synack",
        fields: &[
            AuxField::needed("skaddr", 8, |layout| &mut layout.synack_skaddr),
            AuxField::needed("req", 8, |layout| &mut layout.synack_req),
        ],
    },
    AuxTracepoint {
        category: "task",
        name: "task_rename",
        fields: &[
            AuxField::optional("pid", 4, |layout| &mut layout.rename_pid),
            AuxField {
                align: 1,
                ..AuxField::needed("newcomm", 16, |layout| &mut layout.rename_comm)
            },
        ],
    },
];

impl AuxTracepoint {
    /// The offset of each field; [`ABSENT`] for a missing optional field.
    fn offsets(&self, tracefs: &Tracefs, btf: Option<&KernelBtf>) -> Result<Vec<u32>> {
        let format = tracefs.format(self.category, self.name)?;
        let format = format.context("this kernel has no such tracepoint")?;
        let record = Record::parse(self.name, &format)?;
        let offset = |field: &AuxField| {
            let offset = record.offset(field.name, field.bytes, field.align, btf)?;
            match offset {
                None if field.optional => Ok(ABSENT),
                offset => offset.with_context(|| format!("it has no field {}", field.name)),
            }
        };
        self.fields.iter().map(offset).collect()
    }
}

/// The offsets of the fields in other tracepoints, and why some are unknown.
#[derive(Clone, Debug)]
pub struct AuxRecords {
    /// The offsets. All offsets of an unusable tracepoint are [`ABSENT`].
    pub layout: ResetLayout,
    /// The unusable tracepoints, by category and name, and why.
    unusable: Vec<(&'static str, &'static str, String)>,
    /// Why no tracepoint can be reached.
    unreachable: Option<String>,
}

impl AuxRecords {
    /// No records are needed.
    pub const NONE: Self = Self {
        layout: ResetLayout::UNKNOWN,
        unusable: Vec::new(),
        unreachable: None,
    };

    /// Reads the `format` files of the tracepoints on `accept()` below `root`, compared with `btf` if known. If `classic`, also
    /// of the tracepoints for resets, retransmissions, process names and destroyed sockets.
    #[must_use]
    pub fn read(root: &Path, btf: Option<&KernelBtf>, classic: bool) -> Self {
        let tracefs = match Tracefs::find(root) {
            Ok(tracefs) => tracefs,
            Err(why) => return Self::unreachable(&why),
        };
        let mut records = Self::NONE;
        let more: &[AuxTracepoint] = if classic { &CLASSIC } else { &[] };
        for tracepoint in [ACCEPT].iter().chain(more) {
            match tracepoint.offsets(&tracefs, btf) {
                Ok(offsets) => {
                    for (field, offset) in tracepoint.fields.iter().zip(offsets) {
                        *(field.place)(&mut records.layout) = offset;
                    }
                }
                Err(why) => records
                    .unusable
                    .push((tracepoint.category, tracepoint.name, format!("{why:#}"))),
            }
        }
        records
    }

    /// No tracepoint can be reached, because of `why`.
    #[must_use]
    pub fn unreachable(why: &anyhow::Error) -> Self {
        Self {
            unreachable: Some(format!("{why:#}")),
            ..Self::NONE
        }
    }

    /// Why the tracepoint `name` of `category` cannot be used; `None` if it can.
    #[must_use]
    pub fn why_not(&self, category: &str, name: &str) -> Option<&str> {
        // Both tracepoints have the same record.
        let name = if name == "sys_exit_accept" {
            "sys_exit_accept4"
        } else {
            name
        };
        let mut unusable = self.unusable.iter();
        let unusable = unusable.find_map(|(of, named, why)| ((*of, *named) == (category, name)).then_some(why));
        self.unreachable.as_ref().or(unusable).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::PLACES;
    use super::*;
    use crate::sys::btf::builder::Kernel;

    /// Name, offset and size of a field.
    type Placed = (&'static str, u32, u32);

    /// The tracepoints beside, each with the fields that are read.
    const BESIDE: [(&str, &[Placed]); 7] = [
        ("tcp:tcp_send_reset", &[("skaddr", 16, 8), ("reason", 28, 4)]),
        ("tcp:tcp_receive_reset", &[("skaddr", 8, 8)]),
        ("tcp:tcp_destroy_sock", &[("skaddr", 8, 8)]),
        ("tcp:tcp_retransmit_skb", &[("skaddr", 16, 8)]),
        ("tcp:tcp_retransmit_synack", &[("skaddr", 8, 8), ("req", 16, 8)]),
        ("task:task_rename", &[("pid", 8, 4), ("newcomm", 28, 16)]),
        ("syscalls:sys_exit_accept4", &[("ret", 16, 8)]),
    ];

    /// What is read of them where `change` changes their fields; `None` leaves one out.
    fn records_with(change: impl Fn(&str, Placed) -> Option<Placed>) -> AuxRecords {
        let btf = KernelBtf::parse(&Kernel::new().bytes()).unwrap();
        let root = tempfile::tempdir().unwrap();
        for (name, fields) in BESIDE {
            let events = root.path().join(PLACES[0]).join("events");
            let folder = events.join(name.replace(':', "/"));
            fs::create_dir_all(&folder).unwrap();
            let fields = fields.iter().filter_map(|&field| change(name, field));
            let line =
                |(field, offset, size)| format!("\tfield:type {field};\toffset:{offset};\tsize:{size};\tsigned:0;\n");
            let lines: Vec<String> = fields.map(line).collect();
            fs::write(folder.join("format"), lines.concat()).unwrap();
        }
        AuxRecords::read(root.path(), Some(&btf), true)
    }

    /// The offsets of `layout`, by tracepoint and field.
    fn offsets(mut layout: ResetLayout) -> Vec<(String, u32)> {
        let mut offsets = Vec::new();
        for AuxTracepoint { category, name, fields } in [ACCEPT].iter().chain(&CLASSIC) {
            for field in *fields {
                offsets.push((format!("{category}:{name}.{}", field.name), *(field.place)(&mut layout)));
            }
        }
        offsets
    }

    /// Why the tracepoint `name` cannot be used.
    fn why<'a>(records: &'a AuxRecords, name: &str) -> Option<&'a str> {
        let (category, name) = name.split_once(':').unwrap();
        records.why_not(category, name)
    }

    #[test]
    fn what_the_tracepoints_beside_have_is_read() {
        let records = records_with(|_, field| Some(field));
        let placed = BESIDE.iter().flat_map(|(name, fields)| {
            let offset = |(field, offset, _): &Placed| (format!("{name}.{field}"), *offset);
            fields.iter().map(offset).collect::<Vec<_>>()
        });
        let (mut placed, mut read): (Vec<_>, _) = (placed.collect(), offsets(records.layout));
        placed.sort();
        read.sort();
        assert_eq!(read, placed);
        assert!(BESIDE.iter().all(|(name, _)| why(&records, name).is_none()));
    }

    /// Asserts that `records` have all offsets but those of `tracepoint`, and say why.
    fn lacks_only(records: &AuxRecords, tracepoint: &str, reason: &str) {
        for (field, offset) in offsets(records.layout) {
            let is_of = field.split_once('.').unwrap().0 == tracepoint;
            assert_eq!(offset == ABSENT, is_of, "{field} without {tracepoint}");
        }
        for (name, _) in BESIDE {
            assert_eq!(why(records, name), (name == tracepoint).then_some(reason), "{name}");
        }
    }

    #[test]
    fn a_tracepoint_that_cannot_be_right_makes_no_other_unusable() {
        let moved = |of: &str, field: &str, offset| {
            records_with(|name, placed| {
                let is_moved = (name, placed.0) == (of, field);
                Some(if is_moved { (placed.0, offset, placed.2) } else { placed })
            })
        };
        for (tracepoint, field, offset, reason) in [
            (
                "tcp:tcp_destroy_sock",
                "skaddr",
                16,
                "its field skaddr is at 16, but by the kernel's BTF at 8",
            ),
            (
                "tcp:tcp_send_reset",
                "reason",
                29,
                "its field reason is not aligned: it is at 29",
            ),
            (
                "syscalls:sys_exit_accept4",
                "ret",
                20,
                "its field ret is not aligned: it is at 20",
            ),
        ] {
            lacks_only(&moved(tracepoint, field, offset), tracepoint, reason);
        }
    }

    #[test]
    fn a_field_that_is_missing_makes_no_other_tracepoint_unusable() {
        for (tracepoint, fields) in BESIDE {
            for (field, _, _) in fields {
                let records = records_with(|name, placed| ((name, placed.0) != (tracepoint, field)).then_some(placed));
                let layout = records.layout;
                match *field {
                    "reason" => assert_eq!((layout.send_skaddr, layout.send_reason), (16, ABSENT)),
                    "pid" => assert_eq!((layout.rename_comm, layout.rename_pid), (28, ABSENT)),
                    field => lacks_only(&records, tracepoint, &format!("it has no field {field}")),
                }
            }
        }
    }

    #[test]
    fn where_tracefs_cannot_be_reached_no_tracepoint_is_known() {
        let root = tempfile::tempdir().unwrap();
        let records = AuxRecords::read(root.path(), None, true);
        assert_eq!(records.layout, ResetLayout::UNKNOWN);
        let reason = "tracefs is not mounted at /sys/kernel/tracing";
        assert!(BESIDE.iter().all(|(name, _)| why(&records, name) == Some(reason)));
    }
}
