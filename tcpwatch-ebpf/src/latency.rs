//! Latency histograms: time in each state, time of handshakes, time a connection waits for accept().

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use tcpwatch_common::Owner;
use tcpwatch_common::histogram::{
    ACCEPT, BY_ALL, BY_LPORT, BY_REMOTE, BucketKey, HANDSHAKE_CLIENT, HANDSHAKE_SERVER, UNKNOWN_BUCKET, bucket, total,
};
use tcpwatch_common::record::{DWELL_UNKNOWN, OPENED_ACTIVE, spent_index};

use crate::counter::{Shared, inc};
use crate::hook::Hook;
use crate::maps::{BANK, BUCKETS, TOTALS, WAITING};
use crate::params::param;
use crate::run::Run;
use crate::sock::{self, Bare, Memory};
use crate::step::{ESTABLISHED, SYN_RECV, SYN_SENT, Step};
use crate::{filter, needs, words};

/// Nanoseconds in a microsecond.
const MICROSECOND: u64 = 1000;
/// `BPF_NOEXIST`: insert only if there is no entry yet.
const BPF_NOEXIST: u64 = 1;

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
    let key = key(&mut place, hook.sk(), run.netns, run.lport, &run.owner);
    if spent_index(step.from as u8).is_some() {
        add(key, step.from, run.dwell_ns);
    }
    match (step.from, step.to) {
        (SYN_SENT, ESTABLISHED) => add(key, HANDSHAKE_CLIENT, run.dwell_ns),
        // Of two ends that open at once neither is a server.
        (SYN_RECV, ESTABLISHED) if hook.known() && run.opened != OPENED_ACTIVE => {
            // An ACK after a second SYN-ACK may answer either of the two (Karn's algorithm).
            let ns = match sock::traffic(hook.sk()) {
                Some(traffic) if traffic.retransmits == 0 && traffic.srtt_us != 0 => {
                    traffic.srtt_us as u64 * MICROSECOND
                }
                _ => DWELL_UNKNOWN,
            };
            add(key, HANDSHAKE_SERVER, ns);
            if WAITING.insert(&hook.address(), &run.now, 0).is_err() {
                inc(run.ledger()?.unmeasured());
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
    let key = key(&mut place, sk, sock::netns(sk), sock::bound_port(sk) as u32, owner);
    add(key, ACCEPT, now.saturating_sub(since));
}

/// The socket at `address` is gone.
#[inline(always)]
pub(crate) fn forget(address: u64) {
    if needs::latency() && WAITING.get_ptr(&address).is_some() {
        let _gone_already = WAITING.remove(&address);
    }
}

/// Builds in `place` the key of the group of the connection `sk` of `owner`. The key must not move: the compiler would call `memcpy`,
/// and arm64 before Linux 6.0 refuses tail calls in a program that has functions.
#[inline(always)]
fn key<'a>(
    place: &'a mut MaybeUninit<BucketKey>,
    sk: impl Memory,
    netns: u32,
    lport: u32,
    owner: &Owner,
) -> &'a mut BucketKey {
    // SAFETY: zeros are a key.
    let key = unsafe {
        words::clear(place);
        place.assume_init_mut()
    };
    match param!(PARAMS.latency_by) {
        BY_LPORT => {
            key.netns = netns;
            key.lport = lport;
        }
        BY_REMOTE if param!(SOCK.known) != 0 => {
            key.netns = netns;
            key.family = sock::family(sk) as u32;
            sock::write_remote(sk, &mut key.remote);
        }
        _ => {}
    }
    if param!(PARAMS.latency_owners) != 0 {
        words::copy(&mut key.owner, owner);
    }
    if has_groups()
        && let Some(&bank) = BANK.get(0)
    {
        key.bank = bank as u8;
    }
    key
}

/// Whether connections are counted in groups.
#[inline(always)]
fn has_groups() -> bool {
    param!(PARAMS.latency_by) != BY_ALL || param!(PARAMS.latency_owners) != 0
}

/// Counts the time `ns` of `measure` in the group of `key`. If there are no groups, or the group has no room, counts it in the totals.
#[inline(always)]
fn add(key: &mut BucketKey, measure: u32, ns: u64) {
    let bucket = if ns == DWELL_UNKNOWN {
        UNKNOWN_BUCKET
    } else {
        bucket(ns)
    } as u32;
    key.measure = measure as u8;
    key.bucket = bucket as u16;
    if has_groups() && count(key) {
        return;
    }
    // SAFETY: the helper takes nothing and returns a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counter) = TOTALS.get_ptr_mut(total(cpu, measure, bucket)) {
        // SAFETY: a word of the map; all programs add to it atomically.
        unsafe { Shared::at(counter) }.add(1);
    }
}

/// The count of a new bucket.
static ONE: u64 = 1;

/// Adds one to the bucket of `key`. Returns false if the map has no room.
#[inline(always)]
fn count(key: &BucketKey) -> bool {
    let mut counter = BUCKETS.get_ptr_mut(key);
    if counter.is_none() {
        if BUCKETS.insert(key, &ONE, BPF_NOEXIST).is_ok() {
            return true;
        }
        // Another CPU has inserted it meanwhile, or there is no room.
        counter = BUCKETS.get_ptr_mut(key);
    }
    let Some(counter) = counter else {
        return false;
    };
    // SAFETY: a word of the map; all programs add to it atomically. Userspace removes it only when no program can write it.
    unsafe { Shared::at(counter) }.add(1);
    true
}
