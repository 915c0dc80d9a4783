//! Processes that hold sockets and do nothing else: `cat`, whose standard output is the socket, waiting for a pipe to end.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use socket2::Socket;

use super::child::Reaped;
use super::clock::until;

/// Starts a process called `name` that alone holds `socket`, unless others have a copy of it.
pub(crate) fn holder(name: &str, socket: Socket) -> Reaped {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join(name);
    // By a link and not a copy: what a process started meanwhile has open for writing cannot be executed.
    symlink("/bin/cat", &path).expect("a link to cat");
    start(&mut Command::new(&path), socket)
}

/// Starts a process called `sh` with three children, all of which hold `socket`; their numbers too.
pub(crate) fn master(socket: Socket) -> (Reaped, Vec<u32>) {
    // The children read the pipe that is standard input here, so that none outlives it.
    let script = "exec 3<&0; cat <&3 & cat <&3 & cat <&3; wait";
    let master = start(Command::new("/bin/sh").args(["-c", script]), socket);
    let mut workers = Vec::new();
    until("the children of sh to hold what it holds", || {
        workers = children(master.pid());
        workers.retain(|&pid| is_called(pid, "cat"));
        workers.len() == 3
    });
    (master, workers)
}

/// Starts `command` with `socket` as its standard output, of which this process keeps none.
pub(crate) fn start(command: &mut Command, socket: Socket) -> Reaped {
    command
        .stdin(Stdio::piped())
        .stdout(OwnedFd::from(socket))
        .stderr(Stdio::null());
    let child = Reaped::spawn(command);
    command.stdout(Stdio::null());
    child
}

/// The one child of process `parent`, once it is called `name`.
pub(crate) fn only_child(parent: u32, name: &str) -> Result<u32, String> {
    let children = children(parent);
    match *children {
        [pid] if is_called(pid, name) => Ok(pid),
        _ => Err(format!("its children are {children:?}")),
    }
}

/// Whether the process `pid` is called `name`.
fn is_called(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
}

/// Whether process `pid` is one that this test started, or one of theirs.
pub(crate) fn is_ours(pid: u32) -> bool {
    let parent = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse().ok()
    };
    std::iter::successors(Some(pid), |&pid| parent(pid)).any(|pid| pid == std::process::id())
}

/// The children of process `parent`.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(Path::new(&path)).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
