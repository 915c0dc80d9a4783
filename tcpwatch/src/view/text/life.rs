//! What a finished connection has in columns of its own: how long it lived and what it carried.

use std::fmt::Write as _;

use super::trace::{Columns, Layout};
use crate::input::{Connection, Traffic};
use crate::view::number::{QUIET, brief, duration, short};
use crate::view::screen::Screen;

/// What stands for what nobody knows: a zero is quiet here, and is not it.
const UNKNOWN: &str = "?";

/// Headings, and how wide the columns are without the blank before them.
type Widths = &'static [(&'static str, usize)];

const FULL: Widths = &[("lifetime", 10), ("sent", 6), ("recv", 6), ("rtt", 7), ("retr", 5)];
const MIDDLE: Widths = &[("life", 5), ("sent", 4), ("recv", 4), ("rtt", 5), ("retr", 4)];

/// The columns there is room for.
fn widths(layout: Layout) -> Widths {
    match layout {
        Layout::Full => FULL,
        Layout::Middle => MIDDLE,
        Layout::Narrow => &MIDDLE[..3],
    }
}

impl Columns for Connection {
    const MANY: &'static str = "connections";

    fn headings(layout: Layout) -> String {
        let mut line = String::new();
        for (heading, width) in widths(layout) {
            // Writing to a string cannot fail, here and below.
            let _ = write!(line, " {heading:>width$}");
        }
        line
    }

    fn own(&self, line: &mut String, layout: Layout, _: Screen) {
        let time = if layout == Layout::Full { duration } else { brief };
        let of = |value: &dyn Fn(&Traffic) -> String| self.traffic.as_ref().map_or(UNKNOWN.into(), value);
        let numbers = [
            self.lifetime_ns().map_or(UNKNOWN.into(), time),
            of(&|traffic| quiet(traffic.sent)),
            of(&|traffic| quiet(traffic.received)),
            of(&|traffic| {
                let ns = traffic.srtt_us.map(|us| u64::from(us) * 1000);
                ns.map_or(QUIET.into(), time)
            }),
            of(&|traffic| quiet(traffic.retransmits.into())),
        ];
        for ((_, width), number) in widths(layout).iter().zip(numbers) {
            let _ = write!(line, " {number:>width$}");
        }
    }
}

/// `number` in short, nothing as `·`.
fn quiet(number: u64) -> String {
    if number == 0 { QUIET.into() } else { short(number) }
}
