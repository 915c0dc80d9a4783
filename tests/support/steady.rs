//! Connections that are opened and closed at a steady rate, and who takes them.

use std::net::Shutdown;
use std::thread;

use socket2::Socket;

use super::clock::PATIENCE;
use super::python::Python;
use super::sockets::{listen, read_eof};

/// Opens and closes connections at a steady rate, to one destination after the other. At the first failure for want of a port it prints when
/// and how that was. When it is told to end, or failed 20 times, it prints how often it opened and failed, and then when it opened each.
const STEADY: &str = r#"
import errno, json, select, socket, sys, time
rate, source, early, *to = sys.argv[1:]
to = [(host, int(port)) for host, port in (end.rsplit(":", 1) for end in to)]
IP_BIND_ADDRESS_NO_PORT = 24
start, turn, failed, opened_at = time.monotonic(), 0, 0, []
print('"begun"', flush=True)
while failed < 20:
    wait = max(0, start + turn / float(rate) - time.monotonic())
    if select.select([sys.stdin], [], [], wait)[0]:
        break
    client = socket.socket()
    step = "bind"
    try:
        if source:
            if not early:
                client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            client.bind((source, 0))
        step = "connect"
        client.connect(to[turn % len(to)])
        opened_at.append(time.time())
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
            raise
        failed += 1
        if failed == 1:
            print(json.dumps({"failed_at": time.time(), "step": step, "error": errno.errorcode[error.errno]}), flush=True)
    client.close()
    turn += 1
print(json.dumps({"failed": failed, "opened": turn - failed}), flush=True)
print(json.dumps(opened_at), flush=True)
"#;

/// When a client opened its connections, by itself: s since the Unix epoch, in order. A client of a busy machine is not as steady as it
/// should be.
pub(crate) struct OpenedAt(Vec<f64>);

impl OpenedAt {
    /// What `python` said in this line.
    pub(crate) fn of(python: &mut Python, line: usize) -> Self {
        let times = python.line(line);
        let times = times.as_array().expect("times").iter();
        Self(times.map(|time| time.as_f64().expect("a time")).collect())
    }

    /// Openings from `from` until before `to`.
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    pub(crate) fn between(&self, from: f64, to: f64) -> f64 {
        self.0.iter().filter(|&&time| from <= time && time < to).count() as f64
    }

    /// How many it opened a second in the ten seconds before `now`, or since its first.
    pub(crate) fn lately_per_s(&self, now: f64) -> f64 {
        let first = self.0.first().copied().unwrap_or(now);
        let since = first.max(now - 10.0);
        self.between(since, now) / (now - since)
    }

    /// The fewest in any half second between its first opening and its last.
    pub(crate) fn fewest_in_half_a_second(&self) -> f64 {
        let last = self.0.last().copied().unwrap_or_default() - 0.5;
        let starts = self.0.iter().filter(|&&start| start <= last);
        // Just after an opening, which is where the fewest follow.
        let counts = starts.map(|&start| self.between(start, start + 0.5) - 1.0);
        counts.fold(f64::INFINITY, f64::min)
    }
}

/// Whether a client binds its sockets to an address before it connects.
pub(crate) enum Binds<'a> {
    /// connect(2) chooses address and port.
    Never,
    /// To this address, and bind(2) takes a port.
    Early(&'a str),
    /// To this address, with `IP_BIND_ADDRESS_NO_PORT`: connect(2) chooses the port.
    Late(&'a str),
}

/// Starts a client of `to` (`127.0.0.1:8080`), which opens `rate` connections a second in all.
pub(crate) fn steady(to: &[&str], rate: &str, binds: &Binds<'_>) -> Python {
    let (source, early) = match binds {
        Binds::Never => ("", ""),
        Binds::Early(source) => (*source, "early"),
        Binds::Late(source) => (*source, ""),
    };
    let args = [&[rate, source, early], to].concat();
    Python::start(STEADY, &args)
}

/// A listener, and a thread that accepts its connections and closes what the client has closed.
pub(crate) struct Sink(Socket);

impl Sink {
    /// At `127.0.0.1:8080`.
    pub(crate) fn at(address: &str) -> Self {
        // Where the machine is busy, nobody accepts for a while. A client that finds no room would send its SYN again a second later.
        let sink = listen(address.parse().expect("an address"), 4096);
        sink.set_read_timeout(None).expect("no timeout");
        let listener = sink.try_clone().expect("dup");
        thread::spawn(move || {
            while let Ok((server, _)) = listener.accept() {
                server.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                read_eof(&server);
            }
        });
        Self(sink)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Whoever waits in accept() is told; that it listens no more is all there can be wrong.
        drop(self.0.shutdown(Shutdown::Both));
    }
}
