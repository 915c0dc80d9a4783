//! A pid namespace within that of the tests.

use std::process::{Command, Stdio};

use super::child::Reaped;
use super::clock::eventually;
use super::holder::only_child;

/// Such a namespace; all in it is killed when this is dropped.
pub(crate) struct PidNamespace {
    _keeper: Reaped,
    /// Its process 1, by its number outside.
    first: u32,
}

/// Which /proc a process sees that enters the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proc {
    /// One of the namespace's own.
    Own,
    /// That of the tests, which has the numbers outside.
    Outer,
}

impl PidNamespace {
    /// A fresh one, with a process that keeps it.
    pub(crate) fn new() -> Self {
        let mut command = Command::new("unshare");
        // cat ends by itself when this process dies, however it dies.
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "cat"]);
        let keeper = Reaped::spawn(command.stdin(Stdio::piped()).stdout(Stdio::null()));
        let first = eventually("the first process of a namespace", || only_child(keeper.pid(), "cat"));
        Self { _keeper: keeper, first }
    }

    /// What starts `program` inside, as a child of its own.
    pub(crate) fn enter(&self, proc: Proc, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--pid"]);
        if proc == Proc::Own {
            command.arg("--mount");
        }
        command.arg("--").arg(program);
        command
    }
}
