//! `snapshot --list` as CSV: a row a socket.

use std::io::{self, Write};

use super::container;
use super::field::to_io;
use crate::input::escaped::escape_formula;
use crate::model::socket_list::{ListedSocket, SocketList};
use crate::view::timestamp::rfc3339;

/// The columns before those of the cgroup.
const COLUMNS: [&str; 15] = [
    "time",
    "netns",
    "state",
    "family",
    "local",
    "lport",
    "remote",
    "rport",
    "receive_queue",
    "send_queue",
    "uid",
    "inode",
    "pid",
    "comm",
    "holders",
];

/// Writes a header line and a row for each socket. Unknown values are empty; `holders` is `nginx[812]:6,7 nginx[813]:6`.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, list: &SocketList) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS.into_iter().chain(container::COLUMNS))
        .map_err(to_io)?;
    let time = rfc3339(list.time);
    for listed in &list.sockets {
        let fields = fields(&time, listed).into_iter();
        csv.write_record(fields.chain(container::fields(listed.owner.cgroup.as_deref())))
            .map_err(to_io)?;
    }
    csv.flush()
}

fn fields(time: &str, listed: &ListedSocket) -> [String; COLUMNS.len()] {
    let socket = &listed.socket;
    let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
    let process = listed.owner.process.as_deref();
    let holders: Vec<String> = listed.holders.iter().map(ToString::to_string).collect();
    [
        time.to_owned(),
        socket.netns.to_string(),
        socket.state.key().to_owned(),
        socket.family.key().to_owned(),
        socket.local.to_string(),
        socket.lport.to_string(),
        socket.remote.to_string(),
        number((socket.rport > 0).then_some(socket.rport.into())),
        number(listed.receive_queue),
        number(listed.send_queue),
        number(socket.uid),
        number(socket.inode.map(Into::into)),
        number(process.and_then(|process| Some(process.pid?.get()))),
        process.map_or_else(String::new, |process| escape_formula(process.comm.to_string())),
        escape_formula(holders.join(" ")),
    ]
}
