//! `tcpwatch`: parses the arguments and runs a command.

use std::env;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use env_logger::Env;
use tcpwatch::cli::command_line::command_first;
use tcpwatch::cli::{Cli, Command};
use tcpwatch::commands::Outcome;
use tcpwatch::engine::OUTPUT;
use tcpwatch::source::ebpf::explained;
use tcpwatch::sys::descriptor_limit::with_remedy;
use tcpwatch::{clock, commands};

fn main() -> ExitCode {
    // Print warnings of tcpwatch by default. The log of the BPF programs is off; RUST_LOG=tcpwatch_ebpf=debug enables it.
    env_logger::Builder::from_env(Env::default().default_filter_or("tcpwatch=warn,tcpwatch_ebpf=off"))
        .format(|line, record| {
            let text = with_remedy(record.args().to_string());
            match record.target().strip_prefix("tcpwatch::") {
                Some(_) => writeln!(line, "tcpwatch: {text}"),
                None => writeln!(line, "tcpwatch: {}: {text}", record.target()),
            }
        })
        .init();
    let args = match command_first(env::args_os()) {
        Ok(args) => args,
        Err(message) => {
            let _ = writeln!(io::stderr(), "tcpwatch: {message}");
            return ExitCode::from(2);
        }
    };
    let cli = match Cli::read(args) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => return code(error.print().context(OUTPUT).map(|()| Outcome::Done)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "tcpwatch: {}", one_line(&error));
            return ExitCode::from(2);
        }
    };
    if let Err(message) = cli.check() {
        let _ = writeln!(io::stderr(), "tcpwatch: {message}");
        return ExitCode::from(2);
    }
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut outcome = Outcome::Done;
    let result = match &cli.command {
        Some(Command::Doctor(args)) => commands::doctor::run(args, clock::now(), &mut out).map(|ended| outcome = ended),
        Some(Command::Trace(args)) => commands::trace::run(args),
        Some(Command::Life(args)) => commands::life::run(args),
        Some(Command::Stat(args)) => commands::stat::run(args),
        Some(Command::Churn(args)) => commands::churn::run(args),
        Some(Command::Latency(args)) => commands::latency::run(args),
        Some(Command::Leaks(args)) => commands::leaks::run(args, &mut out).map(|ended| outcome = ended),
        Some(Command::Snapshot(args)) => commands::snapshot::run(args, clock::now(), &mut out),
        Some(Command::Explain(args)) => commands::explain::run(args, &mut out),
        None if cli.version => commands::version::run(cli.verbose, cli.stat.common.output.output, &mut out),
        None => commands::stat::run(&cli.stat),
    };
    let result = result.and_then(|()| out.flush().context(OUTPUT));
    // Without this, the destructor would try again to write data that could not be written.
    drop(out.into_parts());
    code(result.map(|()| outcome))
}

/// The exit code of a command. Prints its error.
fn code(result: Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Found) => ExitCode::from(3),
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tcpwatch: {}", with_remedy(explained(&error).to_string()));
            ExitCode::FAILURE
        }
    }
}

/// Formats an error of the parser in one line, with its tip or with a hint at --help.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let before_usage = text.split("\nUsage:").next().unwrap_or_default();
    let lines = before_usage
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let lines: Vec<_> = lines.map(|line| line.strip_prefix("error: ").unwrap_or(line)).collect();
    let line = lines.join(" ").replace(" tip:", "; tip:");
    if ["; try ", "; did you mean "].iter().any(|remedy| line.contains(remedy)) {
        line
    } else {
        format!("{line}; try --help")
    }
}

/// Whether the reader of the output closed the pipe, which is not an error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}
