//! Programs that a test runs to their end, and what they print.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::child::Reaped;

/// How long a program may take: a compiler on a busy machine, or the verifier in an emulated one, takes minutes.
const PATIENCE: Duration = Duration::from_mins(5);

/// The text that a child prints to one pipe, gathered by a thread.
pub(crate) struct Text(Receiver<String>);

impl Text {
    /// Reads `pipe` until it ends.
    pub(crate) fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, text) = channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // A pipe that cannot be read has ended; a test that has ended too needs no text.
            drop(pipe.read_to_end(&mut bytes));
            drop(sender.send(String::from_utf8_lossy(&bytes).into_owned()));
        });
        Self(text)
    }

    /// Waits for the pipe's end.
    pub(crate) fn all(&self) -> String {
        let text = self.0.recv_timeout(PATIENCE);
        text.unwrap_or_else(|_| panic!("waited in vain for the end of a child's output"))
    }
}

/// Runs a program, which must succeed, to its end. Returns its standard output.
pub(crate) fn output(command: &mut Command) -> String {
    let (succeeds, stdout, stderr) = run(command);
    assert!(succeeds, "{command:?} failed: {stdout}{stderr}");
    stdout
}

/// Whether a program succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    run(command).0
}

fn run(command: &mut Command) -> (bool, String, String) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = Reaped::spawn(command);
    let (status, stdout, stderr) = child.output();
    (status.success(), stdout, stderr)
}
