//! Which owners of sockets could not be seen, in words.

use super::number::several;
use crate::input::socket_owner::Unseen;

/// What was not seen of the owners of connections that come and go; `None` where nothing helps, for one may have gone meanwhile.
#[must_use]
pub fn some_unseen(unseen: &Unseen) -> Option<String> {
    let why = why_unseen(unseen).filter(|_| unseen.root_sees_more)?;
    Some(format!("some owners cannot be seen; {why}"))
}

/// Why owners were not seen, and what to type; `None` where all that could be were.
#[must_use]
pub fn why_unseen(unseen: &Unseen) -> Option<String> {
    let mut why = Vec::new();
    if unseen.processes > 0 {
        why.push(several(unseen.processes as u64, "process", "processes") + " could not be read");
    }
    if unseen.hidden {
        why.push("/proc hides other users' processes (hidepid)".into());
    }
    if unseen.descriptors > 0 {
        why.push(several(unseen.descriptors, "descriptor was", "descriptors were") + " left out");
    }
    if unseen.sockets == 0 || why.is_empty() {
        return None;
    }
    let sudo = if unseen.root_sees_more {
        ": run tcpwatch with sudo"
    } else {
        ""
    };
    Some(why.join(", ") + sudo)
}
