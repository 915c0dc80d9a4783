//! `tcpwatch`: reads arguments and runs a command.
fn main() {}
