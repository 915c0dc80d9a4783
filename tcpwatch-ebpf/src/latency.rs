//! Latency histograms: time in each state, time of handshakes, time a connection waits for accept().

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpwatch_common::Owner;
use tcpwatch_common::event::{DWELL_UNKNOWN, OPENED_ACTIVE, spent_index};
use tcpwatch_common::histogram::{
    ACCEPT, BY_LPORT, BY_PROCESS, BY_REMOTE, HANDSHAKE_CLIENT, HANDSHAKE_SERVER, HistogramKey, Lengths, bucket,
};
use tcpwatch_common::ledger::BANKS;

use crate::counter::{add_atomically, inc};
use crate::hook::Hook;
use crate::maps::{HISTOGRAMS, WAITING};
use crate::params::param;
use crate::run::Run;
use crate::sock::{self, Bare, Memory};
use crate::step::{ESTABLISHED, SYN_RECV, SYN_SENT, Step};
use crate::{filter, ledger, needs, words};

/// Nanoseconds in a microsecond.
const MICROSECOND: u64 = 1000;
/// The bank of the programs on other events.
const SHARED_BANK: u8 = BANKS as u8 - 1;

/// Whether the program `latency` measures at this step.
#[inline(always)]
pub(crate) fn wants(step: Step) -> bool {
    needs::latency() && step.moves() && filter::wants(step.from, step.to)
}

/// The program `latency`: measures what ends with the transition.
#[inline(always)]
pub(crate) fn measure<H: Hook>(hook: &H, run: &mut Run) -> Option<()> {
    let step = run.step();
    if !needs::owners() {
        // SAFETY: zeros are an owner.
        unsafe { words::clear(&mut run.owner) };
    }
    let mut place = MaybeUninit::uninit();
    let key = key(&mut place, hook.sk(), run.lport, &run.owner);
    if spent_index(step.from as u8).is_some() {
        add(key, step.from, run.dwell_ns, run.bank);
    }
    match (step.from, step.to) {
        (SYN_SENT, ESTABLISHED) => add(key, HANDSHAKE_CLIENT, run.dwell_ns, run.bank),
        // Of two ends that open at once neither is a server.
        (SYN_RECV, ESTABLISHED) if hook.known() && run.opened != OPENED_ACTIVE => {
            // An ACK after a second SYN-ACK may answer either of the two (Karn's algorithm).
            let ns = match sock::traffic(hook.sk()) {
                Some(traffic) if traffic.retransmits == 0 && traffic.srtt_us != 0 => {
                    traffic.srtt_us as u64 * MICROSECOND
                }
                _ => DWELL_UNKNOWN,
            };
            add(key, HANDSHAKE_SERVER, ns, run.bank);
            if WAITING.insert(&hook.address(), &run.now, 0).is_err() {
                inc(&mut run.ledger()?.unmeasured);
            }
        }
        _ => {}
    }
    Some(())
}

/// The socket `sk` was accepted by `owner`, now.
#[inline(always)]
pub(crate) fn accepted(sk: Bare, owner: &Owner) {
    let address = sk.address() as u64;
    // SAFETY: the entry is of this socket, and is written once, before it can be found.
    let Some(since) = WAITING.get_ptr(&address).map(|since| unsafe { *since }) else {
        return;
    };
    let _gone_already = WAITING.remove(&address);
    // SAFETY: the helper takes nothing and returns a number.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut place = MaybeUninit::uninit();
    let key = key(&mut place, sk, sock::bound_port(sk) as u32, owner);
    add(key, ACCEPT, now.saturating_sub(since), SHARED_BANK);
}

/// The socket at `address` is gone.
#[inline(always)]
pub(crate) fn forget(address: u64) {
    if needs::latency() && WAITING.get_ptr(&address).is_some() {
        let _gone_already = WAITING.remove(&address);
    }
}

/// Makes an empty key in `place`. It stays there: the compiler moves it by a call of `memset`, and arm64 before Linux 6.0 refuses
/// tail calls in a program that has functions.
#[inline(always)]
fn new_key(place: &mut MaybeUninit<HistogramKey>) -> &mut HistogramKey {
    // SAFETY: zeros are a key.
    unsafe {
        words::clear(place);
        place.assume_init_mut()
    }
}

/// Makes, in `place`, the key of the group that the connection `sk` of `owner` is in.
#[inline(always)]
fn key<'a>(
    place: &'a mut MaybeUninit<HistogramKey>,
    sk: impl Memory,
    lport: u32,
    owner: &Owner,
) -> &'a mut HistogramKey {
    let key = new_key(place);
    match param!(PARAMS.latency_by) {
        BY_LPORT => key.lport = lport,
        BY_PROCESS => {
            key.pid = owner.pid;
            words::copy(&mut key.comm, &owner.comm);
        }
        BY_REMOTE if param!(SOCK.known) != 0 => {
            key.family = sock::family(sk) as u32;
            sock::write_remote(sk, &mut key.remote);
        }
        _ => {}
    }
    key
}

/// Counts the time `ns` of `what` in the group of `key`, or with the other groups where there is no room. `bank` is the run's.
#[inline(always)]
fn add(key: &mut HistogramKey, what: u32, ns: u64, bank: u8) {
    key.what = what;
    if count(key, ns, bank) {
        return;
    }
    let mut other = MaybeUninit::uninit();
    let other = new_key(&mut other);
    other.what = what;
    other.other = 1;
    if !count(other, ns, bank)
        && let Some(ledger) = ledger::shared()
    {
        add_atomically(&mut ledger.unmeasured, 1);
    }
}

/// An empty histogram, for inserts.
static NEW: Lengths = Lengths {
    buckets: [0; 64],
    max_ns: [0; BANKS as usize],
    unknown: 0,
};

/// Counts `ns` under `key`; whether there was room.
#[inline(always)]
fn count(key: &HistogramKey, ns: u64, bank: u8) -> bool {
    let lengths = match HISTOGRAMS.get_ptr_mut(key) {
        Some(lengths) => lengths,
        None => {
            // Another CPU may have made it meanwhile; its counts stay.
            let _there_already = HISTOGRAMS.insert(key, &NEW, 1);
            let Some(lengths) = HISTOGRAMS.get_ptr_mut(key) else {
                return false;
            };
            lengths
        }
    };
    // SAFETY: this CPU's part. Runs that interrupt each other add to it atomically, and have a `max_ns` each.
    let lengths = unsafe { &mut *lengths };
    if ns == DWELL_UNKNOWN {
        add_atomically(&mut lengths.unknown, 1);
        return true;
    }
    add_atomically(&mut lengths.buckets[bucket(ns) & 63], 1);
    if let Some(max_ns) = lengths.max_ns.get_mut(bank as usize)
        && ns > *max_ns
    {
        *max_ns = ns;
    }
    true
}
