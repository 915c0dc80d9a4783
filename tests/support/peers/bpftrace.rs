//! `bpftrace` on `sock:inet_sock_set_state`: an independent count of every transition.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::cells::Cells;
use crate::support::child::Reaped;
use crate::support::clock::{eventually, until};
use crate::support::lines::{Line, Lines};
use crate::support::netns::Netns;
use crate::support::sockets::listen;
use crate::support::{LOOPBACK, fdinfo};

const TCP: &str = "6";
const MPTCP: &str = "262";

/// A running bpftrace that counts the transitions of one network namespace, cell by cell.
pub(crate) struct Observer {
    process: Reaped,
    lines: Lines,
    before: Cells,
}

impl Observer {
    /// Starts it and waits until it counts. Transitions made until now are not in its cells.
    pub(crate) fn start(netns: &Netns) -> Self {
        Self::start_in(netns.inum, || drop(listen(SocketAddr::new(LOOPBACK, 0), 1)))
    }

    /// As `start`, for the namespace `inum`, in which `probe` makes a transition.
    pub(crate) fn start_in(inum: u64, probe: impl Fn()) -> Self {
        // Programs on a classic tracepoint are skipped while any process reads a BPF map on their CPU, so this one prints
        // only when asked (SIGUSR1). One map a clause: of two, LLVM makes a pointer the verifier refuses.
        let here = format!("((struct sock *)args->skaddr)->__sk_common.skc_net.net->ns.inum == {inum}");
        let script = format!(
            "BEGIN {{ @cells[0, 0, 0] = count(); }}
             tracepoint:sock:inet_sock_set_state /{here}/ {{
                 @cells[args->protocol, args->oldstate, args->newstate] = count();
             }}
             tracepoint:sock:inet_sock_set_state /{here} && (args->newstate == 2 || args->newstate == 3)/ {{
                 @births[args->skaddr] = count();
             }}"
        );
        let mut command = Command::new("bpftrace");
        command
            .args(["-B", "line", "-f", "json", "-e", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Reaped::spawn(&mut command);
        let lines = Lines::of(process.0.stdout.take().expect("piped"));
        // Before its first line it would die of the signal that makes it print.
        until("bpftrace to attach", || lines.len() > 0);
        let mut observer = Self {
            process,
            lines,
            before: Cells::default(),
        };
        until("bpftrace to count", || {
            probe();
            observer.print(TCP).total() > 0
        });
        observer.before = observer.final_cells();
        observer
    }

    /// What it counted since the start, as of a moment after this call.
    pub(crate) fn cells(&self) -> Cells {
        self.print(TCP).since(&self.before)
    }

    /// What it counted of mptcp's own sockets, which are not TCP.
    pub(crate) fn mptcp_cells(&self) -> Cells {
        self.print(MPTCP)
    }

    /// Transitions it counted when no more came between two looks.
    pub(crate) fn final_cells(&self) -> Cells {
        let mut last = self.cells();
        eventually("transitions to cease", || {
            let cells = self.cells();
            let same = cells == last;
            last = cells.clone();
            if same { Ok(cells) } else { Err("they go on") }
        })
    }

    /// Runs of its program the kernel skipped.
    pub(crate) fn missed(&self) -> i64 {
        fdinfo::missed(self.process.pid())
    }

    /// Ends it and tells how often each kernel address became a connection (entered `SYN_SENT` or `SYN_RECV`).
    pub(crate) fn births_by_address(mut self) -> Vec<i64> {
        self.process.signal(Signal::INT);
        self.process.wait();
        let lines = self.lines.all();
        let births = lines.iter().rev().find_map(|line| line.json["data"].get("@births"));
        let births = births
            .and_then(Value::as_object)
            .expect("bpftrace prints its maps at its end");
        births.values().map(|count| count.as_i64().expect("a count")).collect()
    }

    /// Makes it print its maps, and gives the cells of `protocol`.
    fn print(&self, protocol: &str) -> Cells {
        let printed = || {
            let cells = |line: &Line| line.json["data"].get("@cells").cloned();
            self.lines
                .with(|lines| lines.iter().filter_map(cells).collect::<Vec<Value>>())
        };
        let before = printed().len();
        self.process.signal(Signal::USR1);
        until("bpftrace to print", || printed().len() > before);
        Cells::of_bpftrace(&printed()[before], protocol)
    }
}
