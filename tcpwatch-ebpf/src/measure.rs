//! Histograms: how long connections stay in a state, how long handshakes take, how long a connection waits for `accept()`.

use tcpwatch_common::event::{AF_INET, DWELL_UNKNOWN, OPENED_ACTIVE, spent_index};
use tcpwatch_common::histogram::{
    ACCEPT, BY_LPORT, BY_NONE, BY_PROCESS, BY_REMOTE, HANDSHAKE_CLIENT, HANDSHAKE_SERVER, HistogramKey, Lengths, bucket,
};
use tcpwatch_common::{Ledger, Owner, TcpState};

use crate::cell::bump;
use crate::hook::Hook;
use crate::maps::{HISTOGRAMS, WAITING};
use crate::params::param;
use crate::socket::{self, Bare, Memory};
use crate::stories::Story;
use crate::transition::Step;

const ESTABLISHED: u32 = TcpState::Established as u32;
const SYN_SENT: u32 = TcpState::SynSent as u32;
const SYN_RECV: u32 = TcpState::SynRecv as u32;

/// Nanoseconds in a microsecond.
const MICROSECOND: u64 = 1000;

/// Nobody is known, where there is no story.
static NOBODY: Owner = Owner::UNKNOWN;

/// Measures what ended with `step`, after `dwell_ns` in the state left.
#[inline(always)]
pub(crate) fn step<H: Hook>(
    hook: &H,
    opened: u8,
    story: Option<&Story>,
    step: Step,
    lport: u16,
    dwell_ns: u64,
    now: u64,
    ledger: &mut Ledger,
) {
    let owner = match story {
        Some(story) => &story.owner,
        None => &NOBODY,
    };
    if spent_index(step.from as u8).is_some() {
        put(hook.sk(), lport as u32, owner, step.from, dwell_ns, ledger);
    }
    match (step.from, step.to) {
        (SYN_SENT, ESTABLISHED) => put(hook.sk(), lport as u32, owner, HANDSHAKE_CLIENT, dwell_ns, ledger),
        // Of two ends that open at once neither is a server.
        (SYN_RECV, ESTABLISHED) if hook.known() && opened != OPENED_ACTIVE => {
            let traffic = socket::traffic(hook.sk());
            // Of an ACK that came after a second SYN-ACK nobody knows which of the two it answers (Karn's algorithm).
            let ns = match traffic {
                Some(traffic) if traffic.retransmits == 0 && traffic.srtt_us != 0 => {
                    traffic.srtt_us as u64 * MICROSECOND
                }
                _ => DWELL_UNKNOWN,
            };
            put(hook.sk(), lport as u32, owner, HANDSHAKE_SERVER, ns, ledger);
            let address = hook.sk().address() as u64;
            if WAITING.insert(&address, &now, 0).is_err() {
                bump(&mut ledger.unmeasured);
            }
        }
        _ => {}
    }
}

/// The socket `sk` was accepted by `owner`, now.
#[inline(always)]
pub(crate) fn accepted(sk: Bare, owner: &Owner, ledger: &mut Ledger) {
    let address = sk.address() as u64;
    // SAFETY: the entry is this socket's, and is written once, before it can be found.
    let Some(since) = WAITING.get_ptr(&address).map(|since| unsafe { *since }) else {
        return;
    };
    let _gone_already = WAITING.remove(&address);
    // SAFETY: the helper takes nothing and gives a number.
    let now = unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() };
    put(
        sk,
        socket::bound_port(sk) as u32,
        owner,
        ACCEPT,
        now.saturating_sub(since),
        ledger,
    );
}

/// The socket at `address` is no more.
#[inline(always)]
pub(crate) fn forget(address: u64) {
    if param!(PARAMS.histograms) != BY_NONE && WAITING.get_ptr(&address).is_some() {
        let _gone_already = WAITING.remove(&address);
    }
}

/// Counts one length of time of the connection `sk` of `owner`.
#[inline(always)]
fn put(sk: impl Memory, lport: u32, owner: &Owner, what: u32, ns: u64, ledger: &mut Ledger) {
    if !count(sk, lport, owner, what, ns) {
        bump(&mut ledger.unmeasured);
    }
}

/// The same; whether there was room. A function of its own: the stack of the one it would be part of has no room for the key.
#[inline(never)]
fn count<M: Memory>(sk: M, lport: u32, owner: &Owner, what: u32, ns: u64) -> bool {
    let mut key = HistogramKey {
        what,
        other: 0,
        lport: 0,
        pid: 0,
        comm: [0; 16],
        remote: [0; 4],
        family: 0,
        reserved: 0,
    };
    match param!(PARAMS.histograms) {
        BY_LPORT => key.lport = lport,
        BY_PROCESS => {
            key.pid = owner.pid;
            key.comm = owner.comm;
        }
        BY_REMOTE if param!(SOCK.known) != 0 => {
            let ends = socket::ends(sk, 0);
            key.family = ends.family as u32;
            key.remote[0] = ends.remote[0];
            if ends.family != AF_INET {
                key.remote = ends.remote;
            }
        }
        _ => {}
    }
    if add(&key, ns) {
        return true;
    }
    key.other = 1;
    key.lport = 0;
    key.pid = 0;
    key.comm = [0; 16];
    key.remote = [0; 4];
    key.family = 0;
    add(&key, ns)
}

/// No length yet.
static NOTHING: Lengths = Lengths {
    buckets: [0; 64],
    max_ns: 0,
    unknown: 0,
};

/// Counts `ns` under `key`; whether there was room.
#[inline(always)]
fn add(key: &HistogramKey, ns: u64) -> bool {
    let lengths = match HISTOGRAMS.get_ptr_mut(key) {
        Some(lengths) => lengths,
        None => {
            // Another CPU may have made it meanwhile; what it counted stays.
            let _there_already = HISTOGRAMS.insert(key, &NOTHING, 1);
            let Some(lengths) = HISTOGRAMS.get_ptr_mut(key) else {
                return false;
            };
            lengths
        }
    };
    // SAFETY: this CPU's part.
    let lengths = unsafe { &mut *lengths };
    if ns == DWELL_UNKNOWN {
        bump(&mut lengths.unknown);
        return true;
    }
    bump(&mut lengths.buckets[bucket(ns) & 63]);
    if ns > lengths.max_ns {
        lengths.max_ns = ns;
    }
    true
}
