//! Programs that open connections from functions whose names are known, and the stacks that were seen there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tcpwatch::input::stacks::{Stack, StackFrame};
use tcpwatch::model::filter::Filter;
use tcpwatch::source::ebpf::object::EMBEDDED;
use tcpwatch::source::ebpf::{Hook, Kernel, KernelNeeds, Request};
use tcpwatch::source::stacks::{RING_BYTES, Stacks};
use tempfile::TempDir;

use super::child::Reaped;
use super::clock::eventually;
use super::lines::Lines;
use super::netns::Netns;
use super::output::output;
use super::program::run::binary;

/// The kernel side with stacks, of one namespace.
pub(crate) struct Watched {
    pub(crate) kernel: Kernel,
    pub(crate) stacks: Stacks,
}

impl Watched {
    pub(crate) fn start(netns: &Netns, filter: &Filter) -> Self {
        Self::on(netns, Hook::TpBtf, filter)
    }

    pub(crate) fn on(netns: &Netns, hook: Hook, filter: &Filter) -> Self {
        let mut kernel = Self::kernel(netns, hook, filter, RING_BYTES);
        let ring = kernel.stacks().expect("stacks");
        Self {
            kernel,
            stacks: Stacks::follow(ring, &binary()).expect("a thread"),
        }
    }

    /// The kernel side alone, with a ring buffer of so many bytes for stacks.
    pub(crate) fn kernel(netns: &Netns, hook: Hook, filter: &Filter, ring: u32) -> Kernel {
        let inode = u32::try_from(netns.inum).expect("a number of the kernel's");
        let request = Request {
            object: EMBEDDED,
            filter: &filter.for_kernel(inode).expect("a filter"),
            ports: &filter.port_words(),
            needs: KernelNeeds {
                stacks: true,
                ..KernelNeeds::default()
            },
            ring_bytes: 0,
            stacks_ring_bytes: ring,
        };
        let kernel = Kernel::attached(&request, hook);
        kernel.expect("loading the kernel side")
    }

    /// The stack that opened the socket `inode`, once it is known.
    pub(crate) fn stack(&self, inode: u32) -> Stack {
        let id = eventually(&format!("the stack of socket {inode}"), || {
            self.stacks.opening_stack(inode).ok_or("it is not there")
        });
        let named = self.stacks.name(&[id]).blocking_recv();
        named.expect("the thread lives");
        self.stacks.named().remove(&id).expect("its socket is kept")
    }
}

/// A program that opens connections, in builds of the same code.
pub(crate) struct Program {
    place: TempDir,
    source: &'static str,
}

/// What of a program's symbols is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Debug information too.
    Lines,
    /// Names of functions.
    Names,
    /// Nothing.
    Nothing,
}

impl Program {
    /// `opens.c`, by gcc.
    pub(crate) fn in_c(flags: &[&str]) -> Self {
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-g", "-pthread"]).args(flags).arg("-o");
        Self::build(gcc, "opens.c")
    }

    /// `opens.rs`, by rustc.
    pub(crate) fn in_rust() -> Self {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-O", "-g", "-o"]);
        Self::build(rustc, "opens.rs")
    }

    fn build(mut compiler: Command, source: &'static str) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/support/stacks")
            .join(source);
        output(compiler.arg(place.path().join("full")).arg(path));
        Self { place, source }
    }

    /// Whether it is in C, and so tells its own stacks.
    pub(crate) fn is_c(&self) -> bool {
        self.source == "opens.c"
    }

    /// The build with all of its symbols.
    pub(crate) fn full(&self) -> PathBuf {
        self.place.path().join("full")
    }

    /// The build of which that is `left`.
    pub(crate) fn with(&self, left: Left) -> PathBuf {
        let path = self.place.path().join("opens");
        let _printed = match left {
            // By a process of its own: see `Unprivileged::new`.
            Left::Lines => output(Command::new("cp").arg(self.full()).arg(&path)),
            Left::Names => output(
                Command::new("strip")
                    .arg("--strip-debug")
                    .arg("-o")
                    .arg(&path)
                    .arg(self.full()),
            ),
            Left::Nothing => output(
                Command::new("strip")
                    .arg("--strip-all")
                    .arg("-o")
                    .arg(&path)
                    .arg(self.full()),
            ),
        };
        path
    }

    /// The function at `address` that is inlined into no other, and the line there, as addr2line(1) has it.
    pub(crate) fn at(&self, address: u64) -> (String, String) {
        let mut addr2line = Command::new("addr2line");
        addr2line
            .arg("-fi")
            .arg("-e")
            .arg(self.full())
            .arg(format!("{address:#x}"));
        let text = output(&mut addr2line);
        let mut lines = text.lines().rev().map(str::to_owned);
        let line = lines.next().expect("a line");
        (lines.next().expect("a function"), line)
    }
}

/// What such a program says of a socket it opened.
pub(crate) struct Opened {
    pub(crate) way: String,
    pub(crate) inode: u32,
    pub(crate) line: u32,
    /// Where the functions of the program above the one that opened it go on.
    pub(crate) callers: Vec<u64>,
}

/// Such a program, running.
pub(crate) struct Running {
    process: Reaped,
    lines: Lines,
}

impl Running {
    /// Starts `command`, which does nothing until [`Self::open`].
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = Reaped::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let lines = Lines::of(process.0.stdout.take().expect("piped"));
        Self { process, lines }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has it open its sockets; they are open then.
    pub(crate) fn open(&mut self) -> Vec<Opened> {
        use std::io::Write;
        let mut stdin = self.process.0.stdin.as_ref().expect("piped");
        stdin.write_all(b"\n").expect("it waits for a line");
        eventually("a program to open its sockets", || {
            let ended = self.process.0.try_wait().expect("waiting for a child");
            assert!(ended.is_none(), "it ended: {ended:?}");
            let last = self.lines.with(|lines| lines.last().map(|line| line.json.clone()));
            if last == Some(Value::Object(serde_json::Map::new())) {
                Ok(())
            } else {
                Err("it did not yet")
            }
        });
        self.lines.with(|lines| {
            let said = &lines[..lines.len() - 1];
            said.iter().map(|line| Opened::of(&line.json)).collect()
        })
    }
}

impl Opened {
    fn of(json: &Value) -> Self {
        let number = |name: &str| u32::try_from(json[name].as_u64().expect(name)).expect(name);
        let callers = json["callers"].as_array().expect("callers");
        Self {
            way: json["way"].as_str().expect("way").to_owned(),
            inode: number("inode"),
            line: number("line"),
            callers: callers
                .iter()
                .map(|caller| caller.as_u64().expect("an address"))
                .collect(),
        }
    }
}

/// The frames that are no inlined functions, of the file `module`.
pub(crate) fn of_module<'a>(stack: &'a Stack, module: &str) -> Vec<(&'a StackFrame, u64)> {
    stack
        .frames
        .iter()
        .filter(|frame| frame.module.as_deref() == Some(module))
        .filter_map(|frame| Some((frame, frame.address?)))
        .collect()
}
