//! Both ends of a connection, and between them who called whom: `>` this side, `<` the peer.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU16;

use super::trace::pad;
use crate::input::socket::Address;
use crate::input::{Event, Opened};

/// Columns of an IPv4 endpoint, the port included.
pub(super) const ENDPOINT: usize = 21;
/// Columns of a port with its colon.
pub(super) const PORT: usize = 6;

/// Blanks to fill up with.
const BLANKS: &str = "                     ";
const _: () = assert!(BLANKS.len() == ENDPOINT);

/// Writes `10.0.0.5:8080 < 10.0.0.1:51598`, the arrow in the middle; neither end longer than `most` columns.
pub(super) fn both(line: &mut String, event: &Event, most: usize) {
    let at = line.len();
    endpoint(line, &event.local, event.lport, most);
    let missing = ENDPOINT.saturating_sub(line[at..].chars().count());
    line.insert_str(at, &BLANKS[..missing]);
    let _ = write!(line, " {} ", arrow(event));
    let at = line.len();
    endpoint(line, &event.remote, event.rport, most);
    pad(line, at, ENDPOINT);
}

/// Writes ` :8080 <10.0.0.1:51598`, the remote end not longer than `most` columns.
pub(super) fn port_and_peer(line: &mut String, event: &Event, most: usize) {
    line.push(' ');
    let at = line.len();
    port(line, event.lport);
    pad(line, at, PORT);
    line.push(arrow(event));
    let at = line.len();
    endpoint(line, &event.remote, event.rport, most);
    pad(line, at, ENDPOINT);
}

/// Writes `10.0.0.1:80`, `[::1]:80`, and `*` for what is not known; of an address too long, both ends: `[2001:db8…8a2e]:80`.
fn endpoint(line: &mut String, address: &Address, port: Option<NonZeroU16>, most: usize) {
    let at = line.len();
    let is_v6 = matches!(address.ip, IpAddr::V6(_));
    // Writing to a string cannot fail, here and elsewhere.
    let _ = if is_v6 {
        write!(line, "[{address}]")
    } else {
        write!(line, "{address}")
    };
    let end = line.len();
    self::port(line, port);
    let too_many = (line.len() - at).saturating_sub(most);
    if is_v6 && too_many > 0 {
        // Between the brackets, and one more for the sign of it.
        let inside = at + 1..end - 1;
        let kept = inside.len().saturating_sub(too_many + 1);
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        line.replace_range(inside.start + head..inside.end - tail, "…");
    }
}

/// Writes `:80`, and `:*` where the port is not known.
fn port(line: &mut String, port: Option<NonZeroU16>) {
    let _ = match port {
        Some(port) => write!(line, ":{port}"),
        None => write!(line, ":*"),
    };
}

/// Who called whom.
const fn arrow(event: &Event) -> char {
    match event.opened {
        Some(Opened::Active) => '>',
        Some(Opened::Passive) => '<',
        None => ' ',
    }
}
