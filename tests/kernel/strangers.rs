//! Programs, debug information and perf maps that were made to do harm: the rest is right, and what they tell is unknown with a reason.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, inotify, mknodat};
use rustix::io::Errno;
use tcpwatch::input::stacks::{Stack, Unnamed, Why};
use tcpwatch::model::filter::Filter;

use crate::support::child::Reaped;
use crate::support::clock::eventually;
use crate::support::netns::{Netns, in_netns};
use crate::support::output::output;
use crate::support::program::run::setpriv;
use crate::support::stacks::{Left, Program, Running, Watched, of_module};

/// The user and the group nobody.
const NOBODY: u32 = 65534;
const AS_NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// A directory that anybody may pass through.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("ours");
    place
}

/// Runs `path` as nobody: the stacks of its sockets, each with the function that opened it in front.
fn stacks(netns: &Netns, path: &Path) -> Vec<Stack> {
    let watched = Watched::start(netns, &Filter::default());
    let mut running = Running::start(&mut setpriv(&AS_NOBODY, path, &[]));
    let opened = running.open();
    assert!(opened.len() >= 2);
    opened.iter().map(|socket| watched.stack(socket.inode)).collect()
}

/// Whether a function whose name begins so is among the frames of the program.
fn names(stack: &Stack, name: &str) -> bool {
    let frames = of_module(stack, "opens");
    frames.iter().any(|(frame, _)| {
        frame
            .function
            .as_deref()
            .is_some_and(|function| function.contains(name))
    })
}

/// A copy of `program` in `place` with bytes that `change` changed.
fn changed(program: &Path, place: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(program).expect("a program");
    change(&mut bytes);
    let written = place.join("written");
    fs::write(&written, bytes).expect("room");
    let path = place.join("opens");
    // By a process of its own: a file that anybody has open for writing cannot be executed.
    output(Command::new("cp").arg("--sparse=always").arg(&written).arg(&path));
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("ours");
    path
}

/// A field of 64 bits of an ELF file (elf(5)).
fn field(bytes: &[u8], at: usize) -> usize {
    let field = bytes[at..at + 8].try_into().expect("eight bytes");
    usize::try_from(u64::from_le_bytes(field)).expect("64 bits")
}

/// Where the headers of the sections of an ELF file begin.
fn headers(bytes: &[u8]) -> Vec<usize> {
    let first = field(bytes, 40);
    let count = usize::from(u16::from_le_bytes([bytes[60], bytes[61]]));
    (0..count).map(|number| first + 64 * number).collect()
}

/// Packed sections that claim other sizes than they have: the functions are known by the symbols, and their lines are not.
#[test]
fn packed_sections_that_lie_about_their_sizes() {
    const COMPRESSED: usize = 0x800;
    let program = Program::in_c(&["-gz=zlib"]);
    for claimed in [0x8000_0000_0000_0000_u64, 1 << 40, 3 << 30, 10] {
        in_netns(|netns| {
            let place = place();
            let path = changed(&program.full(), place.path(), |bytes| {
                let packed: Vec<usize> = headers(bytes)
                    .into_iter()
                    .filter(|header| field(bytes, header + 8) & COMPRESSED != 0)
                    .collect();
                assert!(packed.len() >= 3, "the compiler packs them");
                for header in packed {
                    let size = field(bytes, header + 24) + 8;
                    bytes[size..size + 8].copy_from_slice(&claimed.to_le_bytes());
                }
            });
            for stack in stacks(netns, &path) {
                assert_eq!(stack.finished, Ok(()), "{claimed:#x}: {stack:#?}");
                assert!(
                    names(&stack, "guilty_") || names(&stack, "aligned_accept4"),
                    "{stack:#?}"
                );
                let own = of_module(&stack, "opens");
                assert!(own.iter().all(|(frame, _)| frame.line.is_none()), "{stack:#?}");
            }
        });
    }
}

/// Unwind information that is a hole of any size: a stack ends there, and says so.
#[test]
fn unwind_information_that_is_a_hole() {
    let program = Program::in_c(&[]);
    for size in [63_usize << 20, 1 << 40] {
        in_netns(|netns| {
            let place = place();
            let names_of = |bytes: &[u8]| {
                let number = usize::from(u16::from_le_bytes([bytes[62], bytes[63]]));
                field(bytes, headers(bytes)[number] + 24)
            };
            let path = changed(&program.full(), place.path(), |bytes| {
                let (names, end) = (names_of(bytes), bytes.len());
                for header in headers(bytes) {
                    let name = u32::from_le_bytes(bytes[header..header + 4].try_into().expect("four bytes"));
                    let name = &bytes[names + name as usize..];
                    if name.starts_with(b".eh_frame\0") {
                        bytes[header + 24..header + 32].copy_from_slice(&end.to_le_bytes());
                        bytes[header + 32..header + 40].copy_from_slice(&size.to_le_bytes());
                    } else if name.starts_with(b".eh_frame_hdr\0") {
                        bytes[header + 32..header + 40].copy_from_slice(&0_u64.to_le_bytes());
                    }
                }
            });
            let file = OpenOptions::new().write(true).open(&path).expect("ours");
            // As large as a file system has files, which is less than the larger size.
            file.set_len(u64::try_from(size.min(1 << 32)).expect("64 bits") + (1 << 20))
                .expect("a hole");
            drop(file);
            for stack in stacks(netns, &path) {
                assert_eq!(stack.finished, Err(Why::NoUnwindInfo), "{stack:#?}");
                assert!(
                    names(&stack, "guilty_") || names(&stack, "aligned_accept4"),
                    "{stack:#?}"
                );
            }
        });
    }
}

/// No file that a program names is opened: its debug link leads to what waits for a writer.
#[test]
fn a_debug_link_is_not_followed() {
    in_netns(|netns| {
        let place = place();
        let trap = place.path().join("trap");
        mknodat(CWD, &trap, FileType::Fifo, Mode::from(0o666), 0).expect("a pipe");
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
        inotify::add_watch(&watch, &trap, inotify::WatchFlags::OPEN).expect("a watch");
        let mut link = trap.as_os_str().as_encoded_bytes().to_vec();
        // The name, filled up to four bytes, and a checksum.
        link.resize((link.len() / 4 + 1) * 4 + 4, 0);
        let section = place.path().join("link");
        fs::write(&section, link).expect("room");
        let path = place.path().join("opens");
        output(
            Command::new("objcopy")
                .arg(format!("--add-section=.gnu_debuglink={}", section.display()))
                .arg(Program::in_c(&[]).with(Left::Names))
                .arg(&path),
        );
        for stack in stacks(netns, &path) {
            assert_eq!(stack.finished, Ok(()), "{stack:#?}");
            assert!(
                names(&stack, "guilty_") || names(&stack, "aligned_accept4"),
                "{stack:#?}"
            );
        }
        let mut space = [std::mem::MaybeUninit::uninit(); 256];
        let mut opens = inotify::Reader::new(&watch, &mut space);
        let opened = opens.next().map(drop);
        assert_eq!(
            opened.err(),
            Some(Errno::AGAIN),
            "somebody opened what the program named"
        );
    });
}

/// A program that accepts from code that it makes, running as nobody, and its map.
struct Made {
    process: Reaped,
    inode: u32,
    map: PathBuf,
}

impl Made {
    fn start(place: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/stacks/made.c");
        let path = place.join("made");
        output(Command::new("gcc").arg("-o").arg(&path).arg(source));
        let mut process = Reaped::spawn(setpriv(&AS_NOBODY, &path, &[]).stdout(Stdio::piped()));
        let mut line = String::new();
        let stdout = process.0.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let map = PathBuf::from(format!("/tmp/perf-{}.map", process.pid()));
        Self {
            process,
            inode: line.trim_end().parse().expect("a number"),
            map,
        }
    }

    /// Writes a map of `user`'s that names the made code `made`.
    fn write(&self, made: &str, user: u32) {
        fs::write(&self.map, format!("10000000 1000 {made}\n")).expect("room");
        chown(&self.map, Some(user), Some(user)).expect("root may");
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        // There may be none.
        let _ = fs::remove_file(&self.map);
        let _ = fs::remove_dir(&self.map);
    }
}

/// What is known of the made code: its name, or why there is none.
fn made(watched: &Watched, inode: u32) -> (Option<String>, Option<Unnamed>) {
    // Names are kept as long as somebody asks for them.
    drop(watched.stacks.name(&[]).blocking_recv());
    let stack = watched.stack(inode);
    assert_eq!(stack.finished, Err(Why::Anonymous), "{stack:#?}");
    let frame = stack.frames.first().expect("a frame");
    (frame.function.clone(), frame.unnamed)
}

/// A map is believed that is a regular file of the process's user or of root, and no other.
#[test]
fn perf_maps_of_strangers() {
    in_netns(|netns| {
        let place = place();
        let watched = Watched::start(netns, &Filter::default());
        let program = Made::start(place.path());
        let made = || made(&watched, program.inode);
        assert_eq!(made(), (None, None), "there is no map");
        for (name, user) in [("its own", NOBODY), ("its own that has grown", NOBODY), ("root's", 0)] {
            program.write(name, user);
            assert_eq!(made(), (Some(name.to_owned()), None));
        }
        program.write("another user's", 1);
        assert_eq!(made(), (None, Some(Unnamed::MapOfOther)));
        let other = place.path().join("other");
        fs::rename(&program.map, &other).expect("the same disk");
        for target in [&other, Path::new("/proc/kmsg"), Path::new("/dev/zero")] {
            symlink(target, &program.map).expect("room");
            assert_eq!(made(), (None, Some(Unnamed::MapNoFile)), "{}", target.display());
            fs::remove_file(&program.map).expect("it is there");
        }
        mknodat(CWD, &program.map, FileType::Fifo, Mode::from(0o666), 0).expect("a pipe");
        chown(&program.map, Some(NOBODY), None).expect("root may");
        assert_eq!(made(), (None, Some(Unnamed::MapNoFile)));
        fs::remove_file(&program.map).expect("it is there");
        program.write("too long a map", NOBODY);
        let map = OpenOptions::new().write(true).open(&program.map).expect("ours");
        map.set_len((64 << 20) + 1).expect("a hole");
        assert_eq!(made(), (None, Some(Unnamed::TooLarge)));
        // As many functions as 64 MB have room for need more memory than there is for them.
        let mut map = std::io::BufWriter::new(File::create(&program.map).expect("ours"));
        for _ in 0..(60 << 20) / 6 {
            map.write_all(b"1 1 a\n").expect("room");
        }
        drop(map);
        let ended = made();
        assert!(
            matches!(ended, (None, Some(Unnamed::Died | Unnamed::TooSlow))),
            "{ended:?}"
        );
        assert_eq!(made(), ended, "it is not read again");
        program.write("right again", NOBODY);
        assert_eq!(made(), (Some("right again".to_owned()), None), "another one is started");
    });
}

/// The process that reads programs has no privileges, little memory, and its filter of system calls.
#[test]
fn who_reads_programs_has_no_privileges() {
    in_netns(|netns| {
        let watched = Watched::start(netns, &Filter::default());
        let ours = std::process::id().to_string();
        let child = || {
            let children = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|process| {
                let status = fs::read_to_string(process.path().join("status")).ok()?;
                let is_child = value(&status, "PPid") == ours && value(&status, "Seccomp") == "2";
                is_child.then_some((status, process.path()))
            });
            children.last().ok_or("it is not there yet")
        };
        let (status, path) = eventually("the symboliser to be ready", child);
        let arguments = fs::read(path.join("cmdline")).expect("its arguments");
        assert_eq!(arguments, b"tcpwatch\0symboliser\0");
        for name in ["CapInh", "CapPrm", "CapEff"] {
            assert_eq!(value(&status, name), "0000000000000000", "{name}");
        }
        assert_eq!(value(&status, "NoNewPrivs"), "1");
        assert_eq!(value(&status, "Groups"), "");
        let users: Vec<&str> = value(&status, "Uid").split('\t').collect();
        assert!(users.iter().all(|&user| user == users[0] && user != "0"), "{users:?}");
        let limits = fs::read_to_string(path.join("limits")).expect("its limits");
        let descriptors = fs::read_dir(path.join("fd")).expect("its descriptors").count();
        assert_eq!(descriptors, 4, "the standard ones, and the socket");
        let memory = limits.lines().find(|line| line.starts_with("Max address space"));
        assert!(
            memory.is_some_and(|line| line.contains(&(256 << 20).to_string())),
            "{limits}"
        );
        drop(watched);
        assert!(!path.exists(), "it ends with who started it");
    });
}

/// The value of a line of /proc/PID/status.
fn value<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}
