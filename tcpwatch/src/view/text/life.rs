//! The columns that only a finished connection has: its lifetime and its traffic.

use std::fmt::Write as _;

use super::trace::{Layout, TextColumns};
use crate::input::{Connection, Traffic};
use crate::model::format::{UNKNOWN, brief, duration, quiet_short};
use crate::view::screen::Screen;

/// Headings and widths of the columns; a blank precedes each.
type Widths = &'static [(&'static str, usize)];

const FULL: Widths = &[("lifetime", 10), ("sent", 6), ("recv", 6), ("rtt", 7), ("retr", 5)];
const MIDDLE: Widths = &[("life", 5), ("sent", 4), ("recv", 4), ("rtt", 5), ("retr", 4)];

/// The columns of `layout`.
fn widths(layout: Layout) -> Widths {
    match layout {
        Layout::Full => FULL,
        Layout::Middle => MIDDLE,
        Layout::Narrow | Layout::Least => &MIDDLE[..3],
    }
}

impl TextColumns for Connection {
    const NAMES: [&'static str; 2] = ["connection", "connections"];

    fn headings(layout: Layout) -> String {
        let mut line = String::new();
        for (heading, width) in widths(layout) {
            // Writing to a string cannot fail, here and below.
            let _ = write!(line, " {heading:>width$}");
        }
        line
    }

    fn write_columns(&self, line: &mut String, layout: Layout, _: Screen) {
        let time = if layout == Layout::Full { duration } else { brief };
        let traffic = |number: &dyn Fn(&Traffic) -> String| self.traffic.as_ref().map_or(UNKNOWN.into(), number);
        let numbers = [
            self.lifetime_ns().map_or(UNKNOWN.into(), time),
            traffic(&|traffic| quiet_short(traffic.sent)),
            traffic(&|traffic| quiet_short(traffic.received)),
            traffic(&|traffic| {
                let ns = traffic.srtt_us.map(|us| u64::from(us) * 1000);
                ns.map_or(UNKNOWN.into(), time)
            }),
            traffic(&|traffic| quiet_short(traffic.retransmits.into())),
        ];
        for ((_, width), number) in widths(layout).iter().zip(numbers) {
            let _ = write!(line, " {number:>width$}");
        }
    }
}
