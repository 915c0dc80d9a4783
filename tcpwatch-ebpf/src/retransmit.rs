//! `tcp:tcp_retransmit_skb` and `tcp:tcp_retransmit_synack`: counts retransmitted segments.

use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};

use crate::filter::{self, MATCH, Unknown};
use crate::params::param;
use crate::sock::{self, Bare, IPPROTO_TCP, Memory, Typed, word};
use crate::step::SYN_SENT;
use crate::{ledger, needs};

/// Counts a retransmitted segment of `sk`. For a SYN-ACK, `sk` is the listener, and `request` has both endpoints.
#[inline(always)]
fn count<M: Memory>(sk: M, request: Option<M>) {
    if sock::protocol(sk) != IPPROTO_TCP || !filter::admits(sock::netns(sk), sock::family(sk)) {
        return;
    }
    if needs::endpoints() {
        let endpoints = match request {
            Some(request) => sock::endpoints(request, sock::bound_port(request)),
            None => sock::endpoints(sk, sock::bound_port(sk)),
        };
        if filter::judge(&endpoints, Unknown::NOTHING) != MATCH {
            return;
        }
    }
    let kind = match (request, sock::state(sk) as u32) {
        (Some(_), _) => 1,
        (None, SYN_SENT) => 0,
        _ => 2,
    };
    if let Some(ledger) = ledger::shared() {
        ledger.retransmits(kind).add(1);
    }
}

/// `tcp:tcp_retransmit_skb`, typed.
#[inline(always)]
pub(crate) fn segment_typed(ctx: &BtfTracePointContext) {
    count(Typed(ctx.arg(0)), None);
}

/// `tcp:tcp_retransmit_synack`, typed.
#[inline(always)]
pub(crate) fn synack_typed(ctx: &BtfTracePointContext) {
    count(Typed(ctx.arg(0)), Some(Typed(ctx.arg(1))));
}

/// `tcp:tcp_retransmit_skb`, classic.
#[inline(always)]
pub(crate) fn segment_classic(ctx: &TracePointContext) {
    if param!(SOCK.known) != 0 {
        count(pointer(ctx, param!(RESET.retransmit_skaddr)), None);
    }
}

/// `tcp:tcp_retransmit_synack`, classic.
#[inline(always)]
pub(crate) fn synack_classic(ctx: &TracePointContext) {
    if param!(SOCK.known) != 0 {
        let request = pointer(ctx, param!(RESET.synack_req));
        count(pointer(ctx, param!(RESET.synack_skaddr)), Some(request));
    }
}

/// The pointer at `offset` in the record of a classic tracepoint.
#[inline(always)]
fn pointer(ctx: &TracePointContext, offset: u32) -> Bare {
    Bare(word::<u64>(ctx, offset) as *const u8)
}
