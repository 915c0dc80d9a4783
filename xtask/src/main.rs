//! `cargo xtask`: builds, runs, tests and measures tcpwatch.
fn main() {}
