//! `cargo xtask`: builds, runs, tests and measures tcpwatch.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(test)]
mod arrows;
mod bench;
mod cargo;
mod clock;
mod dist;
mod docs;
mod ebpf;
mod fuzz;
mod kernels;
mod run;
mod system;
mod test;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Builds, runs, tests and measures tcpwatch"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build tcpwatch and start it, through sudo when not root
    #[command(disable_help_flag = true)]
    Run {
        /// What tcpwatch is started with
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run every test, the kernel suite included (as root, or through sudo)
    Test {
        /// Which tests: parts of their names, --exact, --skip
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run tests that are built: what `test` starts through sudo
    #[command(hide = true)]
    RunTests(test::Built),
    /// Build the kernel object that tcpwatch embeds, and write it with its lock
    Ebpf {
        /// Write nothing; fail when the committed object is not what the sources give
        #[arg(long)]
        check: bool,
    },
    /// Build the one static program, which runs without this machine's C library: target/dist/tcpwatch
    Dist,
    /// Boot Debian's kernels under QEMU, run there what needs nothing but a kernel, and write docs/kernels.md
    Kernels(kernels::Arguments),
    /// Give parsers random bytes for a while, and fail where one breaks
    Fuzz(fuzz::Arguments),
    /// Measure what tcpwatch costs, next to an empty program and to the programs people use now (as root, or through sudo)
    Bench(bench::Arguments),
    /// Make the samples in the pages anew by real runs (as root, or through sudo)
    Docs(docs::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Run { arguments } => run::run(&arguments).map(|never| match never {}),
        Task::Test { arguments } => test::run(&arguments),
        Task::RunTests(built) => test::run_built(&built),
        Task::Kernels(arguments) => kernels::run(&arguments),
        Task::Dist => dist::run(),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Docs(arguments) => docs::run(&arguments),
        Task::Ebpf { check: false } => ebpf::write(),
        Task::Ebpf { check: true } => ebpf::check(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
