//! `tcpwatch`: reads arguments and runs a command.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use env_logger::Env;
use tcpwatch::cli::{Cli, Command};
use tcpwatch::{clock, cmd};

fn main() -> ExitCode {
    // Warnings are ours to tell; the kernel side's own log is for those who ask: RUST_LOG=tcpwatch_ebpf=debug.
    env_logger::Builder::from_env(Env::default().default_filter_or("tcpwatch=warn,tcpwatch_ebpf=off"))
        .format_timestamp(None)
        .init();
    let cli = Cli::parse();
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let result = match &cli.command {
        Some(Command::Trace(args)) => cmd::trace::run(args, &mut out),
        Some(Command::Stat(args)) => cmd::stat::run(args, &mut out),
        Some(Command::Snapshot(args)) => cmd::snapshot::run(args, clock::now(), &mut out),
        None if cli.version => cmd::version::run(cli.verbose, &mut out),
        None => cmd::stat::run(&cli.stat, &mut out),
    };
    let result = result.and_then(|()| Ok(out.flush()?));
    // What could not be written is not tried again when the writer goes.
    drop(out.into_parts());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tcpwatch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of our output went away, which is no failure of ours.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}
