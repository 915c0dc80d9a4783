//! `snapshot --list` as JSON: `tcpwatch.socket/1` for each socket, and `tcpwatch.socket.end/1`.

use std::io::{self, Write};
use std::num::{NonZeroU16, NonZeroU32};

use serde::{Serialize, Serializer};

use super::container::ContainerFields;
use super::line;
use crate::input::owner::Owner;
use crate::input::socket::Address;
use crate::input::socket_owner::{Holder, Unseen};
use crate::model::socket_list::{ListedSocket, SocketList};
use crate::view::timestamp::rfc3339;

#[derive(Serialize)]
struct SocketObject<'a> {
    schema: &'static str,
    time: &'a str,
    netns: u32,
    state: &'static str,
    family: &'static str,
    #[serde(serialize_with = "text")]
    local: Address,
    lport: u16,
    #[serde(serialize_with = "text")]
    remote: Address,
    /// Null for a listener.
    rport: Option<NonZeroU16>,
    receive_queue: Option<u32>,
    send_queue: Option<u32>,
    uid: Option<u32>,
    inode: Option<NonZeroU32>,
    owner: Option<&'a Owner>,
    holders: &'a [Holder],
    cgroup: Option<&'a str>,
    #[serde(flatten)]
    container: ContainerFields<'a>,
}

#[derive(Serialize)]
struct EndObject<'a> {
    schema: &'static str,
    time: &'a str,
    netns: Option<u32>,
    total: usize,
    left_out: usize,
    source: &'static str,
    unseen: Unseen,
}

fn text<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

/// Writes `list`, an object a line.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, list: &SocketList) -> io::Result<()> {
    let time = rfc3339(list.time);
    for listed in &list.sockets {
        line::write(out, &object(&time, listed))?;
    }
    let end = EndObject {
        schema: "tcpwatch.socket.end/1",
        time: &time,
        netns: list.netns,
        total: list.sockets.len() + list.left_out,
        left_out: list.left_out,
        source: list.origin.key(),
        unseen: list.unseen,
    };
    line::write(out, &end)
}

fn object<'a>(time: &'a str, listed: &'a ListedSocket) -> SocketObject<'a> {
    let socket = &listed.socket;
    let cgroup = listed.owner.cgroup.as_deref();
    SocketObject {
        schema: "tcpwatch.socket/1",
        time,
        netns: socket.netns,
        state: socket.state.key(),
        family: socket.family.key(),
        local: socket.local,
        lport: socket.lport,
        remote: socket.remote,
        rport: NonZeroU16::new(socket.rport),
        receive_queue: listed.receive_queue,
        send_queue: listed.send_queue,
        uid: socket.uid,
        inode: socket.inode,
        owner: listed.owner.process.as_deref(),
        holders: &listed.holders,
        cgroup: cgroup.map(|cgroup| cgroup.path.as_str()),
        container: ContainerFields::new(cgroup),
    }
}
