//! `nstat`, from iproute2: the kernel's counters as people read them.

use super::run;

/// The counter `name`, as nstat writes it (`TcpExtListenOverflows`), of this network namespace since it began.
pub(crate) fn read(name: &str) -> i64 {
    let text = run("nstat", &["-a", "-s", "-z", name]);
    let mut words = text.lines().flat_map(str::split_whitespace);
    words
        .find(|&word| word == name)
        .unwrap_or_else(|| panic!("no {name} in {text:?}"));
    words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number: {text:?}"))
}
