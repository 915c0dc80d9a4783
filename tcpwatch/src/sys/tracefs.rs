//! tracefs: the records of tracepoints, and a way to it that leaves no mount behind.
//!
//! A `format` file is untrusted input. What it says of a field must agree with itself and with the kernel's BTF, or the tracepoint
//! is not used.

use std::io;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tcpwatch_common::params::{ABSENT, CLASSIC_RECORD_MAX};
use tcpwatch_common::{ClassicLayout, ResetLayout};

use super::btf::KernelBtf;
use super::threads::spawn_scoped;
use super::tree::{Tree, why};

/// Category of the tracepoint.
pub const CATEGORY: &str = "sock";
/// Its name.
pub const NAME: &str = "inet_sock_set_state";

/// Places where tracefs may be mounted, below the root.
const PLACES: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];

/// Structures of the kernel that describe records of several tracepoints. A tracepoint that is not here has one of its own.
const SHARED_RECORDS: [(&str, &str); 5] = [
    ("tcp_send_reset", "trace_event_raw_tcp_event_sk_skb"),
    ("tcp_retransmit_skb", "trace_event_raw_tcp_event_sk_skb"),
    ("tcp_receive_reset", "trace_event_raw_tcp_event_sk"),
    ("tcp_destroy_sock", "trace_event_raw_tcp_event_sk"),
    ("sys_exit_accept4", "syscall_trace_exit"),
];

/// Bytes of a record at most (`PERF_MAX_TRACE_SIZE`).
const MAX_RECORD_BYTES: u32 = 8192;

/// Layout of the record of `sock:inet_sock_set_state`, from its `format` file below `root`, compared with `btf` where it is known.
///
/// # Errors
/// One line: tracefs is not mounted, cannot be read, has no such tracepoint, or describes it in a way that cannot be right.
pub fn classic_layout(root: &Path, btf: Option<&KernelBtf>) -> Result<ClassicLayout> {
    let record = Tracefs::find(root)?.record(CATEGORY, NAME)?;
    let record = record.with_context(|| format!("this kernel has no tracepoint {CATEGORY}:{NAME}"))?;
    record
        .classic_layout(btf)
        .with_context(|| format!("cannot use the tracepoint {CATEGORY}:{NAME}"))
}

/// A field of a tracepoint beside the hook.
struct AuxField {
    category: &'static str,
    tracepoint: &'static str,
    field: &'static str,
    bytes: u32,
    align: u32,
    /// Whether the tracepoint can be used without it.
    optional: bool,
    /// Its place in the layout.
    place: fn(&mut ResetLayout) -> &mut u32,
}

impl AuxField {
    /// A pointer, which the tracepoint of category `tcp` cannot be used without.
    const fn pointer(tracepoint: &'static str, field: &'static str, place: fn(&mut ResetLayout) -> &mut u32) -> Self {
        Self {
            category: "tcp",
            tracepoint,
            field,
            bytes: 8,
            align: 8,
            optional: false,
            place,
        }
    }
}

/// What `accept()` returns; all that is read on `tp_btf`.
const ACCEPT_FIELDS: [AuxField; 1] = [AuxField {
    category: "syscalls",
    tracepoint: "sys_exit_accept4",
    field: "ret",
    bytes: 8,
    align: 8,
    optional: false,
    place: |layout| &mut layout.accept_ret,
}];

/// What is read beside it on the classic hook.
const CLASSIC_FIELDS: [AuxField; 9] = [
    AuxField::pointer("tcp_send_reset", "skaddr", |layout| &mut layout.send_skaddr),
    AuxField {
        category: "tcp",
        tracepoint: "tcp_send_reset",
        field: "reason",
        bytes: 4,
        align: 4,
        optional: true,
        place: |layout| &mut layout.send_reason,
    },
    AuxField {
        category: "task",
        tracepoint: "task_rename",
        field: "pid",
        bytes: 4,
        align: 4,
        optional: true,
        place: |layout| &mut layout.rename_pid,
    },
    AuxField {
        category: "task",
        tracepoint: "task_rename",
        field: "newcomm",
        bytes: 16,
        align: 1,
        optional: false,
        place: |layout| &mut layout.rename_comm,
    },
    AuxField::pointer("tcp_receive_reset", "skaddr", |layout| &mut layout.receive_skaddr),
    AuxField::pointer("tcp_destroy_sock", "skaddr", |layout| &mut layout.destroy_skaddr),
    AuxField::pointer("tcp_retransmit_skb", "skaddr", |layout| &mut layout.retransmit_skaddr),
    AuxField::pointer("tcp_retransmit_synack", "skaddr", |layout| &mut layout.synack_skaddr),
    AuxField::pointer("tcp_retransmit_synack", "req", |layout| &mut layout.synack_req),
];

/// Where the tracepoints beside the hook have the fields that are read, and why some are not known.
#[derive(Clone, Debug)]
pub struct AuxRecords {
    /// The offsets. All of a tracepoint that cannot be used are [`ABSENT`].
    pub layout: ResetLayout,
    /// The tracepoints that cannot be used, as `tcp:tcp_send_reset`, and why.
    unusable: Vec<(String, String)>,
    /// Why no tracepoint can be reached.
    unreachable: Option<String>,
}

impl AuxRecords {
    /// Nothing is read, and nothing was looked for.
    pub const NONE: Self = Self {
        layout: ResetLayout::UNKNOWN,
        unusable: Vec::new(),
        unreachable: None,
    };

    /// Those of the tracepoints on `accept()`, from their `format` files below `root`, compared with `btf` where it is known; where
    /// `classic`, also those about resets, retransmits and the death of sockets.
    #[must_use]
    pub fn read(root: &Path, btf: Option<&KernelBtf>, classic: bool) -> Self {
        match Tracefs::find(root) {
            Ok(tracefs) => tracefs.aux_records(btf, classic),
            Err(why) => Self::unreachable(&why),
        }
    }

    /// None can be reached, because of `why`.
    #[must_use]
    pub fn unreachable(why: &anyhow::Error) -> Self {
        Self {
            unreachable: Some(format!("{why:#}")),
            ..Self::NONE
        }
    }

    /// Why tracepoint `name` of `category` cannot be used; `None` where nothing speaks against it.
    #[must_use]
    pub fn why_not(&self, category: &str, name: &str) -> Option<&str> {
        // Both return alike.
        let name = if name == "sys_exit_accept" {
            "sys_exit_accept4"
        } else {
            name
        };
        let named = |(of, _): &&(String, String)| of.split_once(':') == Some((category, name));
        let unusable = self.unusable.iter().find(named).map(|(_, why)| why);
        self.unreachable.as_ref().or(unusable).map(String::as_str)
    }
}

/// A mounted tracefs.
struct Tracefs {
    tree: Tree,
    /// Where it is mounted, below the root.
    place: &'static str,
}

impl Tracefs {
    /// The one below `root`.
    ///
    /// # Errors
    /// It is not mounted, or cannot be read.
    fn find(root: &Path) -> Result<Self> {
        Self::find_if_mounted(root)?.with_context(|| format!("tracefs is not mounted at /{}", PLACES[0]))
    }

    /// The same; `None` where it is not mounted.
    ///
    /// # Errors
    /// It is mounted, but cannot be read.
    fn find_if_mounted(root: &Path) -> Result<Option<Self>> {
        let tree = Tree::open(root)?;
        for place in PLACES {
            match tree.names(&format!("{place}/events")) {
                Ok(_) => return Ok(Some(Self { tree, place })),
                // A debugfs that cannot be read shows nothing of a tracefs in it.
                Err(error) if place == PLACES[0] && error.kind() != io::ErrorKind::NotFound => {
                    return Err(unreadable(place, &error));
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// [`AuxRecords::read`], of this tracefs.
    fn aux_records(&self, btf: Option<&KernelBtf>, classic: bool) -> AuxRecords {
        let more: &[AuxField] = if classic { &CLASSIC_FIELDS } else { &[] };
        let fields = || ACCEPT_FIELDS.iter().chain(more);
        let mut records = AuxRecords::NONE;
        for aux in fields() {
            match self.aux_field(aux, btf) {
                Ok(offset) => *(aux.place)(&mut records.layout) = offset.unwrap_or(ABSENT),
                Err(why) => {
                    let tracepoint = format!("{}:{}", aux.category, aux.tracepoint);
                    records.unusable.push((tracepoint, format!("{why:#}")));
                }
            }
        }
        for aux in fields() {
            if records.why_not(aux.category, aux.tracepoint).is_some() {
                *(aux.place)(&mut records.layout) = ABSENT;
            }
        }
        records
    }

    /// The offset of `aux`; `None` where there is no such field, and it is optional.
    fn aux_field(&self, aux: &AuxField, btf: Option<&KernelBtf>) -> Result<Option<u32>> {
        let record = self.record(aux.category, aux.tracepoint)?;
        let record = record.context("this kernel has no such tracepoint")?;
        let offset = record.offset(aux.field, aux.bytes, aux.align, btf)?;
        if !aux.optional {
            offset.with_context(|| format!("it has no field {}", aux.field))?;
        }
        Ok(offset)
    }

    /// The record of a tracepoint; `None` where there is no such tracepoint.
    ///
    /// # Errors
    /// Its `format` file cannot be read.
    fn record(&self, category: &str, name: &str) -> Result<Option<Record>> {
        let path = format!("{}/events/{category}/{name}/format", self.place);
        let text = match self.tree.text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        Ok(Some(Record {
            name: name.to_owned(),
            format: text,
        }))
    }
}

/// Why `path` of tracefs cannot be read.
fn unreadable(path: &str, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "; try sudo",
        _ => "",
    };
    anyhow!("cannot read tracefs at /{path}: {}{remedy}", why(error))
}

/// A field of a record, as a `format` file describes it.
#[derive(Debug)]
struct Field {
    name: String,
    offset: u32,
    bytes: u32,
}

impl Field {
    /// Reads `__u8 saddr[4]; offset:32; size:4; signed:0;`.
    fn parse(line: &str) -> Result<Self> {
        let mut parts = line.split(';');
        let declared = parts.next().unwrap_or_default();
        // The kernel puts the brackets of an array behind the name, but for arrays of `__data_loc` (`f_show`,
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

/// The record of a tracepoint, as its `format` file describes it.
struct Record {
    name: String,
    format: String,
}

impl Record {
    /// Its fields, in their order.
    fn fields(&self) -> Result<Vec<Field>> {
        let lines = self.format.lines();
        let fields = lines.filter_map(|line| line.trim().strip_prefix("field:"));
        fields.map(Field::parse).collect()
    }

    /// Offset of the field `name`, which has so many bytes and such an alignment; `None` where there is no such field.
    fn offset(&self, name: &str, bytes: u32, align: u32, btf: Option<&KernelBtf>) -> Result<Option<u32>> {
        let fields = self.fields()?;
        let mut named = fields.iter().filter(|field| field.name == name);
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
        let mut others = fields.iter().filter(|other| other.name != name);
        if let Some(other) = others.find(|other| other.overlaps(found)) {
            bail!("its field {name} overlaps {}", other.name.escape_default());
        }
        if let Some(btf) = btf {
            self.compare(found, btf)?;
        }
        Ok(Some(found.offset))
    }

    /// Compares `field` with the structure by which the kernel writes the record.
    fn compare(&self, field: &Field, btf: &KernelBtf) -> Result<()> {
        let name = &field.name;
        let own = format!("trace_event_raw_{}", self.name);
        let shared = SHARED_RECORDS.iter().find(|(tracepoint, _)| *tracepoint == self.name);
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
    fn classic_layout(&self, btf: Option<&KernelBtf>) -> Result<ClassicLayout> {
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

/// Runs `work` where tracefs can be reached: here, or in a mount namespace of a thread of its own, gone with the thread. `work`
/// gets an error where tracefs cannot be reached: it is not mounted and must not be, or it cannot be read.
///
/// # Errors
/// Those of `work`.
pub fn with_tracefs<T: Send>(work: impl FnOnce(Result<()>) -> Result<T> + Send) -> Result<T> {
    match Tracefs::find_if_mounted(Path::new("/")) {
        Ok(Some(_)) => return work(Ok(())),
        Err(why) => return work(Err(why)),
        Ok(None) => {}
    }
    let mut work = Some(work);
    let mut with = |reached| work.take().context("the work is done already")?(reached);
    let on_thread = thread::scope(|scope| {
        let inside = || {
            with(mount_privately().map_err(|why| {
                anyhow!(
                    "cannot read tracefs: it is not mounted, and cannot be mounted privately ({why}); \
                     try sudo mount -t tracefs tracefs /sys/kernel/tracing"
                )
            }))
        };
        Ok(spawn_scoped(scope, "tracefs", inside)?.join())
    });
    match on_thread {
        Ok(joined) => joined.unwrap_or_else(|_| Err(anyhow!("the thread that reads tracefs died"))),
        Err(why) => with(Err(why)),
    }
}

/// Gives this thread a mount namespace of its own with tracefs in it.
fn mount_privately() -> Result<()> {
    // SAFETY: only the mount namespace is unshared (and with it the working directory), of a thread that ends soon.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    let target = Path::new("/").join(PLACES[0]);
    if rustix::fs::statat(CWD, &target, rustix::fs::AtFlags::empty()).is_err() {
        // A /sys of a kind that has no such folder, as `ip netns exec` makes it: lay a fresh one over it.
        mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None)?;
    }
    mount("tracefs", &target, "tracefs", MountFlags::empty(), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::btf::builder::Kernel;

    const FORMAT: &str = "name: inet_sock_set_state
ID: 1234
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;
\tfield:int newstate;\toffset:20;\tsize:4;\tsigned:1;
\tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;
\tfield:__u16 dport;\toffset:26;\tsize:2;\tsigned:0;
\tfield:__u16 family;\toffset:28;\tsize:2;\tsigned:0;
\tfield:__u16 protocol;\toffset:30;\tsize:2;\tsigned:0;
\tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;
\tfield:__u8 daddr[4];\toffset:36;\tsize:4;\tsigned:0;
\tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:__u8 daddr_v6[16];\toffset:56;\tsize:16;\tsigned:0;
";

    /// A tree with tracefs in it, whose tracepoint `sock:inet_sock_set_state` has this `format`.
    fn tree(format: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(PLACES[0]).join("events").join(CATEGORY).join(NAME);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("format"), format).unwrap();
        root
    }

    /// Why it is refused.
    fn refusal(format: &str, btf: Option<&KernelBtf>) -> String {
        format!("{:#}", classic_layout(tree(format).path(), btf).unwrap_err())
    }

    fn kernel_btf() -> KernelBtf {
        KernelBtf::parse(Kernel::new().bytes()).unwrap()
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
        let error = refusal(FORMAT, Some(&KernelBtf::parse(other.bytes()).unwrap()));
        assert!(
            error.contains("the kernel's BTF contradicts its field newstate"),
            "{error}"
        );
        let mut other = Kernel::new();
        let structures = &mut other.structure("trace_event_raw_inet_sock_set_state").fields;
        structures.retain(|field| field.0 != "saddr_v6");
        structures.push(("saddr_v6", "u8[4]", 40));
        let error = refusal(FORMAT, Some(&KernelBtf::parse(other.bytes()).unwrap()));
        assert!(
            error.contains("its field saddr_v6 has 16 bytes, but by the kernel's BTF 4"),
            "{error}"
        );
    }

    #[test]
    fn what_tracefs_lacks_is_said_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let error = |root: &Path| format!("{:#}", classic_layout(root, None).unwrap_err());
        assert_eq!(error(root.path()), "tracefs is not mounted at /sys/kernel/tracing");
        fs::create_dir_all(root.path().join(PLACES[0]).join("events")).unwrap();
        assert_eq!(
            error(root.path()),
            "this kernel has no tracepoint sock:inet_sock_set_state"
        );
        let root = tree("");
        let format = root
            .path()
            .join(PLACES[0])
            .join("events/sock/inet_sock_set_state/format");
        fs::remove_file(&format).unwrap();
        fs::create_dir(&format).unwrap();
        let error = error(root.path());
        assert!(
            error.starts_with("cannot read tracefs at /sys/kernel/tracing/events/sock/"),
            "{error}"
        );
        assert!(error.ends_with("this is no regular file"), "{error}");
    }

    #[test]
    fn a_permission_that_is_missing_is_said_as_it_is() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = unreadable(PLACES[0], &denied).to_string();
        assert_eq!(
            error,
            "cannot read tracefs at /sys/kernel/tracing: permission denied; try sudo"
        );
    }

    #[test]
    fn a_tracefs_in_debugfs_is_found() {
        let root = tree(FORMAT);
        let debugfs = root.path().join(PLACES[1]);
        fs::create_dir_all(debugfs.parent().unwrap()).unwrap();
        fs::rename(root.path().join(PLACES[0]), debugfs).unwrap();
        assert_eq!(classic_layout(root.path(), None).unwrap().skaddr, 8);
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
        AuxRecords::read(root.path(), Some(&kernel_btf()), true)
    }

    /// The offsets of `layout`, by tracepoint and field.
    fn offsets(mut layout: ResetLayout) -> Vec<(String, u32)> {
        let fields = ACCEPT_FIELDS.iter().chain(&CLASSIC_FIELDS);
        let offset = |aux: &AuxField| {
            let name = format!("{}:{}.{}", aux.category, aux.tracepoint, aux.field);
            (name, *(aux.place)(&mut layout))
        };
        fields.map(offset).collect()
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
