//! Tests of commands that need no root, and of wrong arguments.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/program/run.rs"]
mod run;

mod docs;
mod doctor;
mod explain;
mod recordings;
mod refused;
mod unprivileged;
