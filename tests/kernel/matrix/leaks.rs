//! `leaks --watch --stacks`: a server that forgets its connections is named, with its descriptors and the function.

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::Command;

use super::trace::comm;
use crate::support::LOOPBACK;
use crate::support::leaking_server::Leaking;
use crate::support::netns::in_netns;
use crate::support::program::leaks::Leaks;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{accept, listen, read_eof};
use crate::support::spoiled::this_test;

on_both_hooks!(the_leaking_function_is_named);

/// Names the port of the server that this process is to be; its parent is the same program.
const SERVE: &str = "TCPWATCH_TEST_LEAKING_SERVER";
const PORT: u16 = 9001;
const SOCKETS: usize = 3;
const CLOSE_WAIT: u8 = 8;

fn the_leaking_function_is_named(hook: Hook) {
    if env::var_os(SERVE).is_some() {
        serve();
    }
    in_netns(|_| {
        let mut command = Command::new(env::current_exe().expect("this program"));
        let server = ["--exact", &this_test(), "--nocapture"];
        let server = Leaking::spawn(command.args(server).env(SERVE, ""), PORT, None);
        let leaks = Leaks::start(hook, "1", "1", &["--stacks"]);
        for _ in 0..SOCKETS {
            server.visit("");
        }
        let group = leaks.until("the forgotten connections to be reported", |scans| {
            let scan = scans.last().ok_or("no scan")?;
            let group = scan.group(server.pid(), "close_wait");
            // A stack is known a moment later than its socket.
            let group = group.filter(|group| group["sockets"] == SOCKETS && group["stacks"][0]["sockets"] == SOCKETS);
            group.cloned().ok_or(format!("{:?}", scan.groups))
        });
        assert_eq!(group["owner"]["comm"], comm(), "{group}");
        assert_eq!(group["fds"], serde_json::json!(server.fds_in(CLOSE_WAIT)), "{group}");
        assert_eq!(server.fds_in(CLOSE_WAIT).len(), SOCKETS);
        assert_eq!(
            (&group["lport"], &group["local"]),
            (&PORT.into(), &"127.0.0.1".into()),
            "{group}"
        );
        let [stack] = group["stacks"].as_array().expect("stacks").as_slice() else {
            panic!("one function opened all: {group}");
        };
        assert_eq!(
            (&stack["sockets"], &stack["unfinished"]),
            (&SOCKETS.into(), &serde_json::Value::Null),
            "{group}"
        );
        let frames = stack["frames"].as_array().expect("frames");
        let names: Vec<&str> = frames.iter().filter_map(|frame| frame["function"].as_str()).collect();
        assert!(
            names.iter().any(|name| name.ends_with("accept_and_never_close")),
            "{names:?}"
        );
        leaks.finish(0);
    });
}

/// Accepts connections until this process is killed.
fn serve() -> ! {
    let listener = listen(SocketAddr::new(LOOPBACK, PORT), 8);
    listener.set_read_timeout(None).expect("no timeout");
    drop(writeln!(io::stdout(), "\n\"ready\""));
    loop {
        accept_and_never_close(&listener);
    }
}

/// Takes a connection, reads the peer's FIN, and keeps the descriptor open.
#[inline(never)]
fn accept_and_never_close(listener: &socket2::Socket) {
    let connection = accept(listener);
    read_eof(&connection);
    std::mem::forget(connection);
}
