//! `snapshot --list` as text: a line a socket, with the columns of `ss -tanp`.

use std::io::{self, Write};
use std::net::IpAddr;

use super::fit::{padded, width, write_prose, write_row};
use super::snapshot::write_heading;
use crate::input::namespace::NamespaceNames;
use crate::input::socket::Address;
use crate::model::format::{UNKNOWN, thousands};
use crate::model::socket_list::{ListedSocket, SocketList};
use crate::view::screen::Screen;
use crate::view::words;

/// Shown where a socket has no owner: it is half-open, not accepted yet, closed, or in TIME_WAIT.
const NONE: &str = "·";

/// Headings, and whether the column is of numbers.
const HEADINGS: [(&str, bool); 6] = [
    ("state", false),
    ("recv-q", true),
    ("send-q", true),
    ("local", false),
    ("remote", false),
    ("owner", false),
];

/// Writes `list`; `scope` are the filter and the namespaces in words. With several namespaces, the first column is the namespace.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, list: &SocketList, scope: &[String], screen: Screen) -> io::Result<()> {
    let total = (list.sockets.len() + list.left_out) as u64;
    write_heading(out, scope, total, &list.origin, screen)?;
    if !list.sockets.is_empty() {
        write_table(out, list, screen)?;
    }
    if list.left_out > 0 {
        writeln!(out, "and {} more", thousands(list.left_out as u64))?;
    }
    match words::unseen(&list.unseen) {
        Some(unseen) => write_prose(&unseen, 0, screen, out),
        None => Ok(()),
    }
}

fn write_table(out: &mut impl Write, list: &SocketList, screen: Screen) -> io::Result<()> {
    let is_several = list.netns.is_none();
    let headings = [("netns", false)].into_iter().filter(|_| is_several).chain(HEADINGS);
    let headings: Vec<(&str, bool)> = headings.collect();
    // The rows are made twice: there may be many.
    let rows = || {
        list.sockets
            .iter()
            .map(|listed| cells(listed, is_several.then_some(&list.namespace_names)))
    };
    let mut widths: Vec<usize> = headings.iter().map(|(name, _)| name.len()).collect();
    for row in rows() {
        for (columns, cell) in widths.iter_mut().zip(&row) {
            *columns = width(cell).max(*columns);
        }
    }
    let line = |cells: &[String]| {
        let columns = cells.iter().zip(&headings).zip(&widths);
        let columns = columns.map(|((cell, (_, is_number)), &columns)| match is_number {
            true => format!("{:blanks$}{cell}", "", blanks = columns - width(cell)),
            false => padded(cell, columns),
        });
        columns.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let names: Vec<String> = headings.iter().map(|(name, _)| (*name).to_owned()).collect();
    write_row(&line(&names), screen, out)?;
    rows().try_for_each(|row| write_row(&line(&row), screen, out))
}

fn cells(listed: &ListedSocket, names: Option<&NamespaceNames>) -> Vec<String> {
    let socket = &listed.socket;
    let queue = |bytes: Option<u32>| bytes.map_or_else(|| UNKNOWN.to_owned(), |bytes| bytes.to_string());
    let mut cells = Vec::new();
    cells.extend(names.map(|names| names.get(socket.netns)));
    cells.extend([
        socket.state.name().to_owned(),
        queue(listed.receive_queue),
        queue(listed.send_queue),
        endpoint(&socket.local, socket.lport),
        endpoint(&socket.remote, socket.rport),
        owner(listed),
    ]);
    cells
}

/// `10.0.0.1:80`, `[::1]:80`; a port that is not set is `*`, as `ss` shows it.
fn endpoint(address: &Address, port: u16) -> String {
    let port = if port == 0 { "*".to_owned() } else { port.to_string() };
    match address.ip {
        IpAddr::V4(_) => format!("{address}:{port}"),
        IpAddr::V6(_) => format!("[{address}]:{port}"),
    }
}

/// All who hold the socket, with its descriptors, and the pod or container: `nginx[812]:6 nginx[813]:6 docker:0123456789ab`.
fn owner(listed: &ListedSocket) -> String {
    if listed.holders.is_empty() {
        let is_held = listed.socket.inode.is_some();
        return if is_held { UNKNOWN } else { NONE }.to_owned();
    }
    let holders = listed.holders.iter().map(ToString::to_string);
    let cgroup = listed.owner.cgroup.as_deref();
    let pod = cgroup.and_then(|cgroup| Some(cgroup.named_pod()?.to_string()));
    let container = || Some(cgroup?.container.as_ref()?.to_string());
    let words: Vec<String> = holders.chain(pod.or_else(container)).collect();
    words.join(" ")
}
