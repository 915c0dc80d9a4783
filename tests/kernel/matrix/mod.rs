//! The tests that need nothing but a kernel and the program: no peer, no compiler, no package.
//!
//! `cargo xtask kernels` runs them on each kernel of its matrix, in a guest that has this suite, the program and busybox. A
//! module has the name of the command it is about, which is its row in docs/kernels.md.

mod churn;
mod doctor;
mod features;
mod kernel_log;
mod latency;
mod leaks;
mod limits;
mod lives;
mod nothing_left;
mod seccomp;
mod skipped_runs;
mod snapshot;
mod stat;
mod trace;
mod verifier;
mod workload;
