//! A child process that never outlives its test.

use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use super::clock::eventually;
use super::output::Text;

/// Killed by its own pid and reaped when dropped, in a panic too.
pub(crate) struct Reaped(pub(crate) Child);

impl Reaped {
    /// Starts `command`.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command.spawn();
        let name = command.get_program().display();
        Self(child.unwrap_or_else(|error| panic!("cannot start {name}: {error}; install it if it is missing")))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends `signal`. The child is not reaped yet, so the pid is still its own.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("sending a signal");
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let pid = self.pid();
        eventually(&format!("process {pid} to end"), || {
            self.0.try_wait().expect("waiting for a child").ok_or("it runs on")
        })
    }
}

impl Reaped {
    /// Waits until it ends by itself: its status, and what it printed to those of its pipes that nobody has taken.
    pub(crate) fn output(mut self) -> (ExitStatus, String, String) {
        let stdout = self.0.stdout.take().map(Text::of);
        let stderr = self.0.stderr.take().map(Text::of);
        let all = |text: Option<Text>| text.map(|text| text.all()).unwrap_or_default();
        let printed = (all(stdout), all(stderr));
        (self.wait(), printed.0, printed.1)
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
