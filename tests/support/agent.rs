//! Processes that open and close sockets as they are told: Python, a line at a time.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use serde_json::{Value, json};

use super::child::Reaped;
use super::clock::eventually;
use super::lines::Lines;
use super::program::event::Owner;
use super::program::trace::PROBED;

/// Such a process, which ends when it is dropped.
pub(crate) struct Agent {
    process: Reaped,
    orders: ChildStdin,
    answers: Lines,
    answered: usize,
    comm: String,
}

impl Agent {
    /// Starts one called `name`, at most 15 characters of Latin-1.
    pub(crate) fn named(name: &str) -> Self {
        Self::below(Command::new("python3"), name)
    }

    /// The same, by a command that runs `python3` with the arguments it is given.
    pub(crate) fn below(mut command: Command, name: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/agent.py");
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Reaped::spawn(&mut command);
        let mut agent = Self {
            orders: process.0.stdin.take().expect("piped"),
            answers: Lines::of(process.0.stdout.take().expect("piped")),
            answered: 0,
            process,
            comm: name.to_owned(),
        };
        assert_eq!(agent.answer(), "ready");
        agent.run(&format!("rename({})", json!(name)));
        agent
    }

    /// Runs `code`.
    pub(crate) fn run(&mut self, code: &str) {
        self.order(code, "None");
    }

    /// What `expression` is.
    pub(crate) fn give(&mut self, expression: &str) -> Value {
        self.order("", expression)
    }

    /// Makes a probing connection, of which both ends are its own.
    pub(crate) fn probe(&mut self) {
        self.run(&format!(
            "
a = socket.create_server(('{PROBED}', 0))
b = socket.create_connection(a.getsockname())
a.accept()[0].close()
b.recv(1)
b.close()
a.close()
"
        ));
    }

    /// Its number.
    pub(crate) fn process(&self) -> u32 {
        self.process.pid()
    }

    /// Its number, as `give` would have it of another process.
    pub(crate) fn pid(&self) -> u64 {
        self.process.pid().into()
    }

    /// Executes another program, in the file `path`, that does what it is told; in another thread than its first, or in that.
    pub(crate) fn become_another(&mut self, path: &Path, in_a_thread: bool) {
        let become_it = if in_a_thread { "become_in_a_thread" } else { "become" };
        assert_eq!(self.order(&format!("{become_it}({})", json!(path)), "None"), "ready");
        let name = path.file_name().expect("a file").to_string_lossy();
        self.comm = name.into_owned();
    }

    /// It as an owner that is known by `how`.
    pub(crate) fn owner(&self, how: &str) -> Owner {
        Owner {
            pid: Some(self.pid()),
            comm: self.comm.clone(),
            how: how.to_owned(),
        }
    }

    fn order(&mut self, run: &str, give: &str) -> Value {
        writeln!(self.orders, "{}", json!({ "run": run, "give": give })).expect("telling a process what to do");
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let answer = eventually("an answer of python3", || {
            let ended = self.answers.has_ended();
            let answer = self
                .answers
                .with(|lines| lines.get(self.answered).map(|line| line.json.clone()));
            // What it said last may come with its end.
            assert!(answer.is_some() || !ended, "python3 ended; stderr has more");
            answer.ok_or("it says nothing")
        });
        self.answered += 1;
        answer
    }
}
