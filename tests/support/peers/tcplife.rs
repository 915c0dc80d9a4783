//! `tcplife`, from libbpf-tools: one line a finished connection, of all namespaces.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::support::child::Reaped;
use crate::support::clock::{eventually, until};
use crate::support::program::trace::{PROBED, Probe, connect_and_close};

/// A running tcplife.
pub(crate) struct Tcplife {
    _process: Reaped,
    lines: Arc<Mutex<Vec<String>>>,
}

/// `bytes` as tcplife prints them.
pub(crate) fn kilobytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let kilobytes = bytes as f64 / 1024.0;
    format!("{kilobytes:.2}")
}

impl Tcplife {
    /// Starts it, and connects until it shows that.
    pub(crate) fn start() -> Self {
        // To a pipe it would print when it ends, but it does not end by itself.
        let mut command = Command::new("stdbuf");
        command
            .args(["-oL", "tcplife"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Reaped::spawn(&mut command);
        let pipe = process.0.stdout.take().expect("piped");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let gathered = lines.clone();
        thread::spawn(move || {
            for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                gathered.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        });
        let tcplife = Self {
            _process: process,
            lines,
        };
        let probed = PROBED.to_string();
        until("tcplife to show a probing connection", || {
            connect_and_close(Probe::ANY);
            tcplife.find(|line| line.contains(&probed)).is_some()
        });
        tcplife
    }

    fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find(|line| wanted(line)).cloned()
    }

    /// Waits for what it tells of the end at `local` of the connection with `remote`: `TX_KB` and `RX_KB`, as it prints them.
    pub(crate) fn at(&self, local: SocketAddr, remote: SocketAddr) -> (String, String) {
        let ends = [
            local.ip().to_string(),
            local.port().to_string(),
            remote.ip().to_string(),
            remote.port().to_string(),
        ];
        eventually("tcplife to tell of a connection", || {
            let line = self.find(|line| {
                // From the right: a name may have blanks.
                let columns: Vec<&str> = line.split_whitespace().rev().collect();
                columns.len() > 7 && columns[3..7].iter().rev().eq(ends.iter())
            });
            let line = line.ok_or("it has not")?;
            let columns: Vec<&str> = line.split_whitespace().collect();
            let last = columns.len() - 1;
            Ok::<_, &str>((columns[last - 2].to_owned(), columns[last - 1].to_owned()))
        })
    }
}
