//! What tracers print, and how many transitions that tells of.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Form, Tracer};
use crate::bench::sandbox::SCRATCH;

/// The file a tracer prints to.
pub(super) const OUTPUT: &str = "output";
/// The file it complains to.
pub(super) const MESSAGES: &str = "messages";

/// More than the last line of any output.
const TAIL: u64 = 4096;

fn path(name: &str) -> PathBuf {
    Path::new(SCRATCH).join(name)
}

/// The last thing a tracer complained of.
pub(super) fn last_message() -> String {
    let text = fs::read_to_string(path(MESSAGES)).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("it said nothing").trim().to_owned()
}

/// Bytes that the tracer has printed.
pub(in crate::bench) fn length() -> Result<u64> {
    let metadata = fs::metadata(path(OUTPUT)).context("cannot read a tracer's output")?;
    Ok(metadata.len())
}

/// Transitions that `tracer` told of, by its output; `None` where it tells of none.
pub(super) fn reported_transitions(tracer: Tracer) -> Result<Option<u64>> {
    let mut file = File::open(path(OUTPUT)).context("cannot read a tracer's output")?;
    Ok(match tracer {
        Tracer::Nothing
        | Tracer::Empty
        | Tracer::Latency(_)
        | Tracer::Churn(_)
        | Tracer::Leaks { .. }
        | Tracer::KernelNeeds(_) => None,
        Tracer::Stat(_) => Some(moves(&text(&mut file)?)),
        Tracer::Trace(_, form) => {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            printed(form, &text(&mut file)?)
        }
        Tracer::Tcpstates | Tracer::BpftracePrintf => Some(lines(&file, is_ours)?),
        Tracer::BpftraceCount => counted(&text(&mut file)?),
    })
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context("cannot read a tracer's output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a line tells of this process' own transitions: what watches every namespace tells of others' too.
fn is_ours(line: &[u8]) -> bool {
    line.split(|&byte| byte == b' ').any(|word| word == b"xtask")
}

/// Lines that are one of those wanted.
fn lines(file: &File, wanted: impl Fn(&[u8]) -> bool) -> Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::new();
    let mut count = 0;
    while reader
        .read_until(b'\n', &mut line)
        .context("cannot read a tracer's output")?
        > 0
    {
        count += u64::from(wanted(&line));
        line.clear();
    }
    Ok(count)
}

/// The transitions of all intervals of `tcpwatch stat -o json`.
fn moves(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|row| {
            let moves = row["transitions"].as_object()?;
            Some(moves.values().filter_map(Value::as_u64).sum::<u64>())
        })
        .sum()
}

/// The transitions printed, by the end of what `tcpwatch trace` prints.
fn printed(form: Form, tail: &str) -> Option<u64> {
    let last = tail.lines().last()?;
    match form {
        Form::Json => serde_json::from_str::<Value>(last).ok()?["printed"].as_u64(),
        Form::Text => {
            let shown = last.split(", ").find_map(|part| part.strip_suffix(" shown"))?;
            shown.parse().ok()
        }
    }
}

/// The count in `@: 400000`.
fn counted(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("@: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{Form, counted, is_ours, moves, printed};

    #[test]
    fn intervals_add_up() {
        let text = "{\"transitions\":{}}\n{\"transitions\":{\"close>listen\":3,\"listen>close\":4}}\n\
            {\"transitions\":{\"close>listen\":1}}\n{\"transi";
        assert_eq!(moves(text), 8);
    }

    #[test]
    fn a_trace_says_at_its_end_what_it_printed() {
        let end = "..\n{\"schema\":\"tcpwatch.trace.end/1\",\"seen\":10,\"printed\":9,\"lost\":1,\"missed\":0}\n";
        assert_eq!(printed(Form::Json, end), Some(9));
        let end = "12:00:00.000000  #1\n10 transitions seen, 9 shown, 1 lost, 2 missed by the kernel itself\n";
        assert_eq!(printed(Form::Text, end), Some(9));
        assert_eq!(printed(Form::Text, "12:00:00.000000  #1\n"), None);
    }

    #[test]
    fn others_lines_are_not_ours() {
        assert!(is_ours(
            b"ffff8881 812   xtask      127.0.0.1 4000 0.0.0.0 0 LISTEN -> CLOSE 0.001"
        ));
        assert!(!is_ours(
            b"SKADDR PID COMM LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS"
        ));
        assert!(!is_ours(
            b"ffff8881 812   curl       127.0.0.1 4000 0.0.0.0 0 LISTEN -> CLOSE 0.001"
        ));
    }

    #[test]
    fn bpftrace_prints_its_map_when_interrupted() {
        assert_eq!(counted("Attaching 1 probe...\n\n\n@: 200024\n"), Some(200_024));
        assert_eq!(counted("Attaching 1 probe...\n"), None);
    }
}
