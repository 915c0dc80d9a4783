//! `netstat`, from net-tools: what people count with.

use super::run;
use crate::support::states::{Counts, STATES, none};

/// `netstat -ant | awk '/^tcp/ {++S[$NF]}'`.
pub(crate) fn counts() -> Counts {
    let output = run("netstat", "net-tools", &["-ant"]);
    let text = String::from_utf8(output.stdout).expect("netstat prints UTF-8");
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
