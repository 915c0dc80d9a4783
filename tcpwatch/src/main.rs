//! `tcpwatch`: parses the arguments and runs a command.

use std::env;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use env_logger::Env;
use tcpwatch::cli::command_line::{Refusal, parse};
use tcpwatch::commands::{self, Outcome};
use tcpwatch::engine::OUTPUT;
use tcpwatch::source::ebpf::explained;
use tcpwatch::sys::descriptor_limit::{self, with_remedy};

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
    let cli = match parse(env::args_os()) {
        Ok(cli) => cli,
        Err(Refusal::Help(text)) => return code(text.print().context(OUTPUT).map(|()| Outcome::Done)),
        Err(Refusal::Wrong(message)) => {
            let _ = writeln!(io::stderr(), "tcpwatch: {message}");
            return ExitCode::from(2);
        }
    };
    descriptor_limit::raise();
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let result = commands::run(&cli, &mut out);
    let result = result.and_then(|outcome| out.flush().context(OUTPUT).map(|()| outcome));
    // Without this, the destructor would try again to write data that could not be written.
    drop(out.into_parts());
    code(result)
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

/// Whether the reader of the output closed the pipe, which is not an error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}
