//! What tcpwatch does for a user who is not root, and how it refuses what is wrong.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/program/run.rs"]
mod run;

mod doctor;
mod explain;
mod refused;
mod unprivileged;
