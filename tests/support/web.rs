//! A web server with workers, and a client that opens a connection a request: nginx and wrk.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::child::Reaped;
use super::clock::{try_eventually, until};
use super::holder::children;
use super::{LOOPBACK, loudly};

/// nginx, which listens at [`Nginx::PORT`] and answers without reading any file.
pub(crate) struct Nginx {
    master: Reaped,
    /// Numbers of the processes that accept what the master listens for.
    pub(crate) workers: Vec<u32>,
    _place: tempfile::TempDir,
}

impl Nginx {
    pub(crate) const PORT: u16 = 8080;
    const AT: IpAddr = LOOPBACK;

    /// Starts it with two workers and waits for them; it closes each connection after one answer.
    pub(crate) fn start() -> Self {
        Self::with("keepalive_timeout 0;")
    }

    /// The same of one that keeps connections, as it does by default.
    pub(crate) fn keeping() -> Self {
        Self::with("")
    }

    fn with(setting: &str) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let conf = place.path().join("nginx.conf");
        fs::write(&conf, config(place.path(), setting)).expect("writing nginx.conf");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&conf).arg("-p").arg(place.path());
        command.arg("-e").arg(place.path().join("errors")).stdin(Stdio::null());
        let master = Reaped::spawn(&mut command);
        let mut workers = Vec::new();
        until("nginx to have its workers", || {
            workers = children(master.pid());
            workers.len() == 2
        });
        Self {
            master,
            workers,
            _place: place,
        }
    }

    /// The process that listens.
    pub(crate) fn master(&self) -> u32 {
        self.master.pid()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, it would leave its workers behind; told to end, it ends them first.
        self.master.signal(Signal::TERM);
        let ended = try_eventually(|| match self.master.0.try_wait() {
            Ok(None) => Err(()),
            _ => Ok(()),
        });
        if ended.is_err() {
            loudly("nginx does not end: its workers may be left");
        }
    }
}

fn config(place: &Path, setting: &str) -> String {
    let (place, at) = (place.display(), SocketAddr::new(Nginx::AT, Nginx::PORT));
    format!(
        "daemon off;
         user root;
         worker_processes 2;
         pid {place}/pid;
         events {{ worker_connections 1024; }}
         http {{
             access_log off;
             {setting}
             client_body_temp_path {place}/body;
             proxy_temp_path {place}/proxy;
             fastcgi_temp_path {place}/fastcgi;
             uwsgi_temp_path {place}/uwsgi;
             scgi_temp_path {place}/scgi;
             server {{ listen {at}; location / {{ return 200 ok; }} }}
         }}"
    )
}

/// Runs wrk until it has had `count` answers, each by a connection of its own: the numbers of its processes.
pub(crate) fn request(count: u64) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut answers = 0;
    while answers < count {
        let (pid, more) = wrk(&["-H", "Connection: close"]);
        pids.push(pid);
        assert!(more > 0, "nginx answers wrk nothing");
        answers += more;
    }
    pids
}

/// One run of wrk that waits for 10 ms before each request: a few thousand connections, each of its own request.
pub(crate) fn request_slowly() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let script = place.path().join("pause.lua");
    fs::write(&script, "function delay() return 10 end\n").expect("a script");
    let script = script.to_str().expect("UTF-8");
    let (_, answers) = wrk(&["-H", "Connection: close", "-s", script]);
    assert!(answers > 0, "nginx answers wrk nothing");
}

/// One run of wrk over connections that it keeps: how many answers it had.
pub(crate) fn request_and_keep() -> u64 {
    // Longer than what churn takes for a short life, also on a busy machine.
    wrk(&["-d", "2s"]).1
}

/// One run of wrk: its process's number, and how many answers it had.
fn wrk(args: &[&str]) -> (u32, u64) {
    let mut command = Command::new("wrk");
    command.args(["-t", "2", "-c", "32", "-d", "1s"]).args(args);
    command.arg(format!("http://{}/", SocketAddr::new(Nginx::AT, Nginx::PORT)));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let wrk = Reaped::spawn(&mut command);
    let pid = wrk.pid();
    let (_, text, _) = wrk.output();
    let answers = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    (pid, answers.unwrap_or_else(|| panic!("wrk says {text:?}")))
}
