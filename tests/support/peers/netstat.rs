//! `netstat`, from net-tools: what people count with.

use super::run;
use crate::support::states::{Counts, STATES, none};

/// `netstat -ant | awk '/^tcp/ {++S[$NF]}'`.
pub(crate) fn counts() -> Counts {
    let text = run("netstat", &["-ant"]);
    let mut counts = none();
    for line in text.lines().filter(|line| line.starts_with("tcp")) {
        let name = line.split_whitespace().last().expect("a line has a last word");
        let state = STATES.iter().find(|state| state.netstat == name);
        let key = state
            .unwrap_or_else(|| panic!("netstat prints a state not known: {line:?}"))
            .key;
        *counts.entry(key).or_default() += 1;
    }
    counts
}
