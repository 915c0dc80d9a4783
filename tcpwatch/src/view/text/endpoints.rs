//! Writes both endpoints of a connection, with an arrow from the side that opened it: `>` this host, `<` the peer.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU16;

use super::trace::pad;
use crate::input::socket::Address;
use crate::input::{Opened, Transition};

/// Columns of an IPv4 endpoint with its port.
pub(super) const ENDPOINT: usize = 21;
/// Columns of a port with its colon.
pub(super) const PORT: usize = 6;

/// Blanks to align with.
const BLANKS: &str = "                     ";
const _: () = assert!(BLANKS.len() == ENDPOINT);

/// Writes `10.0.0.5:8080 < 10.0.0.1:51598` with the arrow in a fixed column. An endpoint takes at most `max` columns.
pub(super) fn write_both(line: &mut String, event: &Transition, max: usize) {
    let at = line.len();
    write_endpoint(line, &event.local, event.lport, max);
    let missing = ENDPOINT.saturating_sub(line[at..].chars().count());
    line.insert_str(at, &BLANKS[..missing]);
    let _ = write!(line, " {} ", arrow(event));
    let at = line.len();
    write_endpoint(line, &event.remote, event.rport, max);
    pad(line, at, ENDPOINT);
}

/// Writes the local port: `:8080 `.
pub(super) fn write_local_port(line: &mut String, event: &Transition) {
    let at = line.len();
    write_port(line, event.lport);
    pad(line, at, PORT);
}

/// Writes `<10.0.0.1:51598`. The endpoint takes at most `max` columns.
pub(super) fn write_peer(line: &mut String, event: &Transition, max: usize) {
    line.push(arrow(event));
    let at = line.len();
    write_endpoint(line, &event.remote, event.rport, max);
    pad(line, at, ENDPOINT);
}

/// Writes `10.0.0.1:80` or `[::1]:80`. An IPv6 address that is too long loses its middle: `[2001:db8…8a2e]:80`.
fn write_endpoint(line: &mut String, address: &Address, port: Option<NonZeroU16>, max: usize) {
    let at = line.len();
    let is_v6 = matches!(address.ip, IpAddr::V6(_));
    // Writing to a string cannot fail, here and below.
    let _ = if is_v6 {
        write!(line, "[{address}]")
    } else {
        write!(line, "{address}")
    };
    let end = line.len();
    write_port(line, port);
    let excess = (line.len() - at).saturating_sub(max);
    if is_v6 && excess > 0 {
        // Cut between the brackets; the ellipsis takes a column, too.
        let inside = at + 1..end - 1;
        let kept = inside.len().saturating_sub(excess + 1);
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        line.replace_range(inside.start + head..inside.end - tail, "…");
    }
}

/// Writes `:80`; `:*` for an unknown port, as `ss` does.
fn write_port(line: &mut String, port: Option<NonZeroU16>) {
    let _ = match port {
        Some(port) => write!(line, ":{port}"),
        None => write!(line, ":*"),
    };
}

/// The arrow from the side that opened the connection; a blank where that was not seen.
const fn arrow(event: &Transition) -> char {
    match event.opened {
        Some(Opened::Active) => '>',
        Some(Opened::Passive) => '<',
        None => ' ',
    }
}
