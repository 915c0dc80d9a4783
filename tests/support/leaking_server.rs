//! Servers that leak, and some that do not: programs of their own, compiled from `tests/fixtures/leaks`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::LOOPBACK;
use super::child::Reaped;
use super::clock::eventually;
use super::lines::Lines;
use super::output::output;
use super::sockets::connect;

/// A running server.
pub(crate) struct Leaking {
    process: Reaped,
    port: u16,
    _place: Option<tempfile::TempDir>,
}

impl Leaking {
    /// Compiles `source`, if it is to be, and starts it with `port` and `args`; it listens by then.
    pub(crate) fn start(source: &str, port: u16, args: &[&str]) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let mut command = program(source, place.path());
        command.arg(port.to_string()).args(args);
        Self::spawn(&mut command, port, Some(place))
    }

    /// Starts `command`, which is to listen at `port`; it listens by then. Its program may lie in `place`.
    pub(crate) fn spawn(command: &mut Command, port: u16, place: Option<tempfile::TempDir>) -> Self {
        let mut process = Reaped::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let lines = Lines::of(process.0.stdout.take().expect("piped"));
        eventually("the server to listen", || {
            let said = lines.with(|lines| lines.first().map(|line| line.json.clone()));
            if said == Some("ready".into()) {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        });
        Self {
            process,
            port,
            _place: place,
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its name, by the kernel.
    pub(crate) fn comm(&self) -> String {
        let comm = fs::read_to_string(format!("/proc/{}/comm", self.pid())).expect("its name");
        comm.trim_end().to_owned()
    }

    /// Connects to it, sends `what`, and closes.
    pub(crate) fn visit(&self, what: &str) {
        let mut client = connect(SocketAddr::new(LOOPBACK, self.port));
        client.write_all(what.as_bytes()).expect("it takes what is sent");
    }

    /// The descriptors of its sockets in the state numbered `state`, as its links under /proc and the kernel's table say.
    pub(crate) fn fds_in(&self, state: u8) -> Vec<u64> {
        // Of a thread that has ended there are none to be seen; all have the same.
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("its threads");
        let links = threads
            .flatten()
            .filter_map(|thread| fs::read_dir(thread.path().join("fd")).ok());
        let by_inode: BTreeMap<String, u64> = links
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let link = fs::read_link(entry.path()).ok()?;
                let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
                Some((inode, entry.file_name().to_str()?.parse().ok()?))
            })
            .collect();
        let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("the table");
        let rows = table
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut fds: Vec<u64> = rows
            .filter(|row| row.get(3) == Some(&format!("{state:02X}").as_str()))
            .filter_map(|row| by_inode.get(*row.get(9)?).copied())
            .collect();
        fds.sort_unstable();
        fds
    }
}

/// The program that `source` is; what is compiled is put in `place`.
fn program(source: &str, place: &Path) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/leaks")
        .join(source);
    let compiled = place.join("server");
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("py") => {
            let mut command = Command::new("python3");
            command.arg(path);
            command
        }
        Some("rs") => compile(
            Command::new("rustc").args(["--edition", "2024", "-O", "-o"]),
            &compiled,
            &path,
        ),
        _ => compile(
            Command::new("gcc").args(["-O2", "-Wall", "-pthread", "-o"]),
            &compiled,
            &path,
        ),
    }
}

/// Runs `compiler`, to which what is to be `made` and `source` are given.
fn compile(compiler: &mut Command, made: &PathBuf, source: &Path) -> Command {
    output(compiler.arg(made).arg(source));
    Command::new(made)
}
