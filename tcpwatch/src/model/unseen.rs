//! Why tcpwatch could not see the owners of some sockets, in words.

use super::format::several;
use crate::input::socket_owner::Unseen;

/// Warns that some owners of connections are unknown. `None` where root would not see more: a process that has exited since cannot be
/// seen by anyone.
#[must_use]
pub fn unseen_warning(unseen: &Unseen) -> Option<String> {
    let why = unseen_reason(unseen).filter(|_| unseen.root_sees_more)?;
    Some(format!("some owners are unknown: {why}"))
}

/// Why owners were not seen, and what the user can type to see more. `None` where all owners were seen or the cause is not known.
#[must_use]
pub fn unseen_reason(unseen: &Unseen) -> Option<String> {
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
    let sudo = if unseen.root_sees_more { "; try sudo" } else { "" };
    Some(why.join(", ") + sudo)
}
