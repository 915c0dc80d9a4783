//! `syscalls:sys_exit_accept` and `sys_exit_accept4`: the process that accepts a connection owns it.

use aya_ebpf::programs::TracePointContext;
use tcpwatch_common::Owner;
use tcpwatch_common::owner::HOW_ACCEPT;

use crate::filter::{self, MATCH, Unknown};
use crate::ledger::{SharedBank, inc_shared};
use crate::maps::ACCEPTED;
use crate::params::param;
use crate::sock::{self, Bare, IPPROTO_TCP, Memory, probe, word};
use crate::task::{self, Task};
use crate::{latency, needs};

/// Handles the return of accept() to the running task.
#[inline(always)]
pub(crate) fn returned(ctx: &TracePointContext) {
    let Some(sk) = accepted_socket(ctx) else { return };
    let mut owner = Owner::UNKNOWN;
    Task::running().write(HOW_ACCEPT, &mut owner);
    if needs::latency() {
        latency::accepted(sk, &owner);
    }
    if needs::owners() && ACCEPTED.insert(&(sk.address() as u64), &owner, 0).is_err() {
        inc_shared(SharedBank::unkept_owners);
    }
}

/// The TCP socket behind the descriptor that accept() returned to the running task, if it matches the filter.
#[inline(always)]
pub(crate) fn accepted_socket(ctx: &TracePointContext) -> Option<Bare> {
    let fd: i64 = word(ctx, param!(RESET.accept_ret));
    if param!(TASK.known) == 0 || fd < 0 {
        return None;
    }
    let table = task::bare().follow(param!(TASK.files)).follow(param!(TASK.fdt));
    if fd >= table.read::<u32>(param!(TASK.max_fds)) as i64 {
        return None;
    }
    let files = table.read::<u64>(param!(TASK.fd));
    let file: u64 = probe((files + fd as u64 * 8) as *const u8, 0);
    let socket = Bare(file as *const u8).follow(param!(TASK.private_data));
    // A socket points back to its file. By now another thread may have put another file in the descriptor, which does not.
    if file == 0 || socket.read::<u64>(param!(TASK.socket_file)) != file {
        return None;
    }
    let sk = socket.follow(param!(TASK.sk));
    if sk.address().is_null() || sock::protocol(sk) != IPPROTO_TCP {
        return None;
    }
    if !filter::admits(sock::netns(sk), sock::family(sk)) {
        return None;
    }
    if needs::endpoints() && filter::judge(&sock::endpoints(sk, sock::bound_port(sk)), Unknown::NOTHING) != MATCH {
        return None;
    }
    Some(sk)
}
