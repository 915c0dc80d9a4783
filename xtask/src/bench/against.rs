//! `cargo xtask bench --against FILE`: each command of this tcpwatch next to the same command of an older one.
//!
//! Both have their turns in every round, on the same traffic, and are compared round by round.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::sys::{Stats, enable_stats};
use serde_json::json;

use super::child::Running;
use super::fdinfo;
use super::numbers::{float, median, median_range, paired};
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{self, number, range};
use super::tracer::{SETTLE, Sink, output, start};
use super::workload::connections;
use crate::clock;

/// A command that watches.
struct Watching {
    /// What it is started with while connections are made.
    arguments: &'static [&'static str],
    /// What it was called before.
    former: Option<&'static [&'static str]>,
}

impl Watching {
    const fn new(arguments: &'static [&'static str]) -> Self {
        Self {
            arguments,
            former: None,
        }
    }
}

/// The intervals are so short that each run shows some.
const COMMANDS: [Watching; 7] = [
    Watching::new(&["stat", "0.2"]),
    Watching::new(&["trace"]),
    Watching {
        arguments: &["life"],
        former: Some(&["trace", "--lives"]),
    },
    Watching::new(&["churn", "0.2"]),
    Watching::new(&["latency", "0.2"]),
    Watching::new(&["leaks", "--watch", "10s"]),
    Watching::new(&["leaks", "--watch", "10s", "--stacks"]),
];

/// After which everything that was made is read, and the interval shown that it was in.
const SHOWN: Duration = Duration::from_millis(500);

/// How long a command may take to print something.
const PATIENCE: Duration = Duration::from_secs(30);

/// The quantities that are compared: names, and digits after the point.
const QUANTITIES: [(&str, usize); 4] = [
    ("CPU, ns a connection", 0),
    ("BPF programs, ns a connection", 0),
    ("most memory, KiB", 0),
    ("first line, ms", 0),
];

/// A difference that nobody would notice.
const SAME: f64 = 0.02;

/// Samples of one command of one tcpwatch, a list for each of [`QUANTITIES`].
type Samples = [Vec<f64>; QUANTITIES.len()];

/// Compares `sandbox`'s tcpwatch with `old`.
pub(super) fn run(sandbox: &Sandbox, old: &Path, report: &mut Report) -> Result<()> {
    // The kernel keeps them as long as this is open, and no longer.
    let _statistics = enable_stats(Stats::RunTime).context("the kernel keeps no statistics of BPF programs")?;
    let rounds = sandbox.choose(11, 3);
    let units = sandbox.choose(20_000, 4_000);
    let mut rows = Vec::new();
    for command in &COMMANDS {
        let name = command.arguments.join(" ");
        let binaries = [old, &sandbox.tcpwatch].map(|binary| (binary, arguments(binary, command)));
        match compare(report, &name, &binaries, rounds, units) {
            Ok(samples) => {
                for (quantity, &(quantity_name, digits)) in QUANTITIES.iter().enumerate() {
                    let [old, new] = [0, 1].map(|binary: usize| samples[binary][quantity].as_slice());
                    rows.push(row(&format!("{name}: {quantity_name}"), old, new, digits));
                    report.raw(&format!("{name}, {quantity_name}"), json!({ "old": old, "new": new }));
                }
            }
            Err(why) => report.not_run(format!("{name}: {why:#}")),
        }
    }
    report.title("new next to old: connect, accept, close, close over loopback at full speed")?;
    report.line(&format!(
        "{rounds} rounds of {units} connections; old is {}, new is {}",
        old.display(),
        sandbox.tcpwatch.display()
    ))?;
    report.line("low..high holds the median of new/old with 98 % confidence; within 2 % is the same")?;
    for line in table::lines(&["", "old", "new", "new/old", "low..high", ""], &rows) {
        report.line(&line)?;
    }
    Ok(())
}

/// The arguments by which `binary` knows `command`.
fn arguments(binary: &Path, command: &Watching) -> &'static [&'static str] {
    let is_known = Command::new(binary)
        .args([command.arguments[0], "--help"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    match command.former {
        Some(former) if !is_known => former,
        _ => command.arguments,
    }
}

/// Lets both have their turns in each round; nobody is always the first.
fn compare(
    report: &Report,
    name: &str,
    binaries: &[(&Path, &[&str]); 2],
    rounds: usize,
    units: u64,
) -> Result<[Samples; 2]> {
    let mut samples: [Samples; 2] = Default::default();
    for round in 0..rounds {
        report.progress(name, round, rounds);
        for turn in 0..2 {
            let index = (round + turn) % 2;
            let (binary, arguments) = binaries[index];
            let command = || {
                let mut command = Command::new(binary);
                command.args(arguments).args(["-o", "json", "--hook=tp_btf"]);
                command
            };
            let measured = watch(command(), units).with_context(|| format!("{}", binary.display()))?;
            let first_line = first_line(command()).with_context(|| format!("{}", binary.display()))?;
            for (list, sample) in samples[index].iter_mut().zip(measured.into_iter().chain([first_line])) {
                list.push(sample);
            }
        }
    }
    Ok(samples)
}

/// Lets a command watch `units` connections: CPU and programs, ns a connection, and KiB of memory.
fn watch(command: Command, units: u64) -> Result<[f64; 3]> {
    let running = start(command, Sink::Tmpfs, fdinfo::links)?;
    let pid = running.pid();
    let used = || -> Result<(Duration, u64)> {
        let programs = fdinfo::programs(pid).iter().map(|program| program.ns).sum();
        Ok((clock::process_cpu(pid)?, programs))
    };
    thread::sleep(SETTLE);
    let before = used()?;
    connections(units)?;
    has_printed()?;
    thread::sleep(SHOWN);
    let after = used()?;
    let memory = fdinfo::memory_kib(pid)?;
    running.interrupt()?;
    let cpu = after.0.saturating_sub(before.0).as_secs_f64() * 1e9;
    let programs = float(after.1.saturating_sub(before.1));
    Ok([cpu / float(units), programs / float(units), float(memory)])
}

/// Waits until a command has printed something: each does soon after connections were made.
fn has_printed() -> Result<()> {
    let start = clock::start();
    while output::length()? == 0 {
        if start.elapsed() > PATIENCE {
            bail!("it printed nothing for {} s", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// From the start of a command to its first line, ms, while a connection is made every millisecond.
fn first_line(mut command: Command) -> Result<f64> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) && connections(1).is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let first_line = (|| {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let start = clock::start();
            let mut running = Running::start(&mut command)?;
            let output = running.pipes().stdout.take().context("no output")?;
            let mut lines = BufReader::new(output);
            if lines.read_line(&mut String::new())? == 0 {
                bail!("it ended before its first line");
            }
            let took = start.elapsed().as_secs_f64() * 1e3;
            // It would wait for a reader of its rows.
            scope.spawn(move || lines.lines().for_each(drop));
            running.interrupt()?;
            Ok(took)
        })();
        over.store(true, Ordering::Relaxed);
        first_line
    })
}

/// The row of one quantity.
fn row(name: &str, old: &[f64], new: &[f64], digits: usize) -> Vec<String> {
    let ratios = paired(new, old, |new, old| new / old);
    let (low, high) = median_range(&ratios);
    vec![
        name.to_owned(),
        number(median(old), digits),
        number(median(new), digits),
        number(median(&ratios), 3),
        range(low, high, 3),
        verdict(low, high).to_owned(),
    ]
}

/// What the range of a ratio means.
fn verdict(low: f64, high: f64) -> &'static str {
    if low.is_nan() || high.is_nan() {
        "too few rounds"
    } else if low > 1.0 + SAME {
        "DEARER"
    } else if high < 1.0 - SAME {
        "cheaper"
    } else if low >= 1.0 - SAME && high <= 1.0 + SAME {
        "the same"
    } else {
        "within the noise"
    }
}

#[cfg(test)]
mod tests {
    use super::{row, verdict};

    #[test]
    fn only_a_difference_beyond_the_noise_is_one() {
        assert_eq!(verdict(1.03, 1.4), "DEARER");
        assert_eq!(verdict(1.01, 1.4), "within the noise");
        assert_eq!(verdict(0.5, 0.97), "cheaper");
        assert_eq!(verdict(0.99, 1.01), "the same");
        assert_eq!(verdict(f64::NAN, f64::NAN), "too few rounds");
    }

    #[test]
    fn rounds_are_compared_with_themselves() {
        // The machine became slower and slower, for both alike.
        let old: Vec<f64> = (1..=11).map(|round| 100.0 * f64::from(round)).collect();
        let new: Vec<f64> = old.iter().map(|old| old * 1.1).collect();
        let row = row("CPU", &old, &new, 0);
        assert_eq!(row[3..], ["1.100", "1.100..1.100", "DEARER"]);
    }
}
