//! The owner of a connection. It is set only where the running task is known to act for the socket.

use tcpwatch_common::Owner;
use tcpwatch_common::owner::{HOW_ACCEPT, HOW_CLOSE, HOW_CONNECT, HOW_LISTEN, HOW_UNKNOWN};

use crate::conn_info::ConnInfo;
use crate::hook::Hook;
use crate::maps::ACCEPTED;
use crate::run::Run;
use crate::sock::{self, Bare, Memory};
use crate::step::{CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, LAST_ACK, LISTEN, SYN_RECV};
use crate::task::Task;
use crate::{listener, needs, words};

/// Updates the owner in `info` for the transition of `run`. `task` is the running task.
#[inline(always)]
pub(crate) fn follow<H: Hook>(hook: &H, info: &mut ConnInfo, run: &mut Run, task: Task) {
    if !needs::owners() {
        return;
    }
    let step = run.step();
    if step.is_listen() {
        words::copy(&mut info.owner, &run.owner);
        return;
    }
    // Only close() and shutdown() make these steps, in the calling task.
    let is_closed = hook.known()
        && matches!(
            (step.from, step.to),
            (ESTABLISHED | SYN_RECV, FIN_WAIT1) | (CLOSE_WAIT, LAST_ACK)
        );
    if step.is_connect() || is_closed {
        let how = if is_closed { HOW_CLOSE } else { HOW_CONNECT };
        task.write(how, &mut run.owner);
    }
    if step.is_connect() {
        words::copy(&mut info.owner, &run.owner);
        return;
    }
    if step.is_child() {
        // An entry with this address belongs to an older socket.
        forget(hook.address());
        listener::owner_of_child(&mut info.owner, run.netns, run.lport as u16);
        return;
    }
    // The owner of a listener stays.
    if !hook.known() || step.from == LISTEN {
        return;
    }
    if !matches!(info.owner.how, HOW_CONNECT | HOW_ACCEPT) {
        let address = hook.sk().address() as u64;
        if let Some(accepted) = ACCEPTED.get_ptr(&address) {
            // SAFETY: the entry belongs to this socket, and is written once, before it can be found.
            words::copy(&mut info.owner, unsafe { &*accepted });
            let _gone_already = ACCEPTED.remove(&address);
        } else if info.owner.how == HOW_LISTEN && sock::has_socket(Bare(hook.sk().address())) {
            // A process accepted the connection, but tcpwatch did not see accept(). SAFETY: zeros are a valid owner.
            unsafe { words::clear(&mut info.owner) };
        }
    }
    if is_closed {
        closed_by(info, &run.owner);
    }
}

/// Records that the process `closer` closes the socket, so it holds the socket.
#[inline(always)]
fn closed_by(info: &mut ConnInfo, closer: &Owner) {
    if info.owner.how == HOW_UNKNOWN {
        words::copy(&mut info.owner, closer);
    } else if closer.pid != 0 && closer.pid != info.owner.pid {
        info.closer_pid = closer.pid;
        words::copy(&mut info.closer_comm, &closer.comm);
    }
}

/// Drops the accepting process of the socket at `address`.
#[inline(always)]
pub(crate) fn forget(address: u64) {
    // Usually there is no entry, and a lookup costs less than a removal.
    if ACCEPTED.get_ptr(&address).is_some() {
        let _gone_already = ACCEPTED.remove(&address);
    }
}
