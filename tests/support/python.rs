//! A python3 that does something with sockets: a process of its own, with a name and a number to be found by.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::child::Reaped;
use super::clock::eventually;
use super::lines::Lines;

/// A running script, which prints a line of JSON where there is something to say.
pub(crate) struct Python {
    process: Reaped,
    lines: Lines,
}

impl Python {
    /// Starts `script`, which finds `args` in `sys.argv[1:]`.
    pub(crate) fn start(script: &str, args: &[&str]) -> Self {
        let mut command = Command::new("python3");
        command.arg("-c").arg(script).args(args);
        let mut process = Reaped::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let lines = Lines::of(process.0.stdout.take().expect("piped"));
        Self { process, lines }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its name, by the kernel; once it has said something, for until then it may be a shell that looks for python.
    pub(crate) fn comm(&self) -> String {
        let path = format!("/proc/{}/comm", self.pid());
        let comm = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        comm.trim_end().to_owned()
    }

    /// Writes it a line: one that waits goes on.
    pub(crate) fn go(&mut self) {
        let mut stdin = self.process.0.stdin.as_ref().expect("piped");
        stdin.write_all(b"\n").expect("it waits for a line");
    }

    /// The line it said, the first being 0, once it has.
    pub(crate) fn line(&mut self, number: usize) -> Value {
        eventually(&format!("line {number} of a script"), || {
            let said = self.said(number);
            let ended = self.process.0.try_wait().expect("waiting for a child");
            // What it said last may still be on its way.
            assert!(
                said.is_some() || ended.is_none_or(|status| status.success()),
                "the script ended with {ended:?}"
            );
            said.ok_or("it said less")
        })
    }

    /// The line it said, if it has.
    pub(crate) fn said(&self, number: usize) -> Option<Value> {
        self.lines.with(|lines| lines.get(number).map(|line| line.json.clone()))
    }
}
