//! Translates a filter to the program by which the kernel selects the sockets of a dump (`INET_DIAG_REQ_BYTECODE`;
//! `inet_diag_bc_run` in the kernel).
//!
//! An operation is four bytes: its code, and how far to go on if it is true and if it is false, in bytes. Most have a number or an address
//! behind them. To reach the end of the program selects the socket, and to go past it rejects it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::input::socket::Family;
use crate::model::filter::{Filter, PortSet};

/// Goes on as if it were false.
const JUMP: u8 = 1;
/// The port is at least, or at most, the number in the next operation.
const LOCAL_PORT_GE: u8 = 2;
const LOCAL_PORT_LE: u8 = 3;
const REMOTE_PORT_GE: u8 = 4;
const REMOTE_PORT_LE: u8 = 5;
/// The address is in a range (`struct inet_diag_hostcond`).
const LOCAL_ADDRESS: u8 = 7;
const REMOTE_ADDRESS: u8 = 8;

/// Bytes of an operation.
const OPERATION: usize = 4;
/// The longest program, about two hundred ports: the kernel runs it for each socket, and a longer one costs more than it spares.
const LONGEST: usize = 4096;

/// An operation without its jumps: its code, and what is behind it.
struct Comparison {
    code: u8,
    operand: Vec<u8>,
}

/// Comparisons of which all must be true.
type Comparisons = Vec<Comparison>;

impl Comparison {
    fn port(code: u8, port: u16) -> Self {
        let operand = [[0, 0], port.to_ne_bytes()].concat();
        Self { code, operand }
    }

    /// An IPv4 range contains mapped addresses too, and an IPv6 range no address of an IPv4 socket, as in [`Filter::matches_socket`].
    fn address(code: u8, range: &IpNet) -> Self {
        const ANY_PORT: i32 = -1;
        let (family, bytes) = match range.network() {
            IpAddr::V4(ip) => (Family::Ipv4, ip.octets().to_vec()),
            IpAddr::V6(ip) => (Family::Ipv6, ip.octets().to_vec()),
        };
        let head = [family.number(), range.prefix_len(), 0, 0];
        Self {
            code,
            operand: [&head[..], &ANY_PORT.to_ne_bytes(), &bytes].concat(),
        }
    }

    fn length(&self) -> usize {
        OPERATION + self.operand.len()
    }
}

/// The program that selects the sockets of `filter`, by their ports and addresses; `None` if it would be too long. An empty one selects all.
pub(super) fn program(filter: &Filter) -> Option<Vec<u8>> {
    let in_range = |least, most| {
        move |range: &RangeInclusive<u16>| {
            vec![
                Comparison::port(least, *range.start()),
                Comparison::port(most, *range.end()),
            ]
        }
    };
    let local = |set: &PortSet| set.ranges().map(in_range(LOCAL_PORT_GE, LOCAL_PORT_LE)).collect();
    let remote = |set: &PortSet| set.ranges().map(in_range(REMOTE_PORT_GE, REMOTE_PORT_LE)).collect();
    let address = |code| move |range: &IpNet| vec![Comparison::address(code, range)];
    let parts: [Vec<Comparisons>; 5] = [
        local(&filter.lport),
        remote(&filter.rport),
        [local(&filter.port), remote(&filter.port)]
            .into_iter()
            .flatten()
            .collect(),
        filter.local.iter().map(address(LOCAL_ADDRESS)).collect(),
        filter.remote.iter().map(address(REMOTE_ADDRESS)).collect(),
    ];
    let given: Vec<Vec<Comparisons>> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    assembled(&given)
}

/// The program by which each of `parts` must be true. Of a part, one alternative must be.
fn assembled(parts: &[Vec<Comparisons>]) -> Option<Vec<u8>> {
    let length = |tests: &Comparisons| tests.iter().map(Comparison::length).sum::<usize>();
    // A jump stands between two alternatives.
    let length_of_part =
        |part: &Vec<Comparisons>| part.iter().map(|tests| length(tests) + OPERATION).sum::<usize>() - OPERATION;
    let end = parts.iter().map(length_of_part).sum::<usize>();
    if end > LONGEST {
        return None;
    }
    let mut program = Vec::with_capacity(end);
    for part in parts {
        let end_of_part = program.len() + length_of_part(part);
        for (index, tests) in part.iter().enumerate() {
            let is_last = index + 1 == part.len();
            let next = program.len() + length(tests) + OPERATION;
            let if_false = if is_last { end + OPERATION } else { next };
            for test in tests {
                let after = program.len() + test.length();
                push(&mut program, test.code, after, if_false)?;
                program.extend_from_slice(&test.operand);
            }
            if !is_last {
                push(&mut program, JUMP, next, end_of_part)?;
            }
        }
    }
    Some(program)
}

/// Adds an operation that goes on at `if_true` or at `if_false`, in bytes from the start of the program.
fn push(program: &mut Vec<u8>, code: u8, if_true: usize, if_false: usize) -> Option<()> {
    let here = program.len();
    program.extend([code, u8::try_from(if_true - here).ok()?]);
    program.extend(u16::try_from(if_false - here).ok()?.to_ne_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: impl Fn(&mut Filter)) -> Option<Vec<u8>> {
        let mut filter = Filter::default();
        set(&mut filter);
        program(&filter)
    }

    #[test]
    fn a_range_of_ports_is_two_operations() {
        let program = of(|filter| filter.lport = (80..=443).into()).unwrap();
        let words = |from: usize| u16::from_ne_bytes([program[from], program[from + 1]]);
        // At least 80, else past all 16 bytes; at most 443, else past the last 8.
        assert_eq!((program[0], program[1], words(2), words(6)), (2, 8, 20, 80));
        assert_eq!((program[8], program[9], words(10), words(14)), (3, 8, 12, 443));
        assert_eq!(program.len(), 16);
    }

    #[test]
    fn what_selects_all_is_empty_and_what_is_too_long_is_none() {
        assert_eq!(of(|_| {}), Some(Vec::new()));
        assert_eq!(of(|filter| filter.uid = Some(7)), Some(Vec::new()), "the kernel cannot");
        let many = |count: u16| {
            (1..=count)
                .map(|port| (2 * port).to_string())
                .collect::<Vec<_>>()
                .join(",")
        };
        let length = of(|filter| filter.lport = many(205).parse().unwrap()).map(|program| program.len());
        assert_eq!(length, Some(LONGEST));
        assert_eq!(of(|filter| filter.lport = many(206).parse().unwrap()), None);
    }
}
